"""LORIOT: uplinks as ``rx``, and the same again as ``gw`` with every gateway that heard them.

Source: LORIOT's documentation of its application output, and samples in thingsboard/data-converters. Bytes are
hexadecimal digits, times Unix milliseconds. An output should be set to one of both forms: the second is a duplicate of
the first only where it has the same ``ts``.
"""

from __future__ import annotations

from typing import Any

from ingest.formats import lorawan
from ingest.formats.lorawan import LorawanFormat, Uplink
from ingest.formats.pantau_json import parse
from ingest.readings import RefusedError
from ingest.refusals import Reason


class Loriot(LorawanFormat):
    """What an application's output delivers; other commands hold no reading."""

    def read(self, topic: str, payload: bytes) -> Uplink | None:
        """See ``LorawanFormat``."""
        content = parse(payload)
        if not isinstance(content, dict) or not isinstance(content.get("cmd"), str):
            raise RefusedError(Reason.WRONG_TYPE, "a message of LORIOT must be a JSON object with a cmd")
        if content["cmd"] not in ("rx", "gw"):
            return None
        if content.get("encdata") is not None and content.get("data") is None:
            raise RefusedError(Reason.UNDECODABLE, "$.encdata is encrypted: give the application key to LORIOT")
        decoded: Any = content.get("decoded")
        if isinstance(decoded, dict) and isinstance(decoded.get("data"), dict):
            decoded = decoded["data"]
        gateways = content.get("gws") if content["cmd"] == "gw" else [content]
        return Uplink(
            names=(lorawan.eui(content.get("EUI"), "$.EUI"),),
            f_port=lorawan.port(content.get("port"), "$.port"),
            data=lorawan.from_hex(content.get("data"), "$.data"),
            fields=decoded if isinstance(decoded, dict) else None,
            time_ns=lorawan.first_time((content.get("ts"), "$.ts")),
            rssi_dbm=lorawan.best_rssi(gateways),
        )
