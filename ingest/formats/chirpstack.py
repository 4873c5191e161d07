"""ChirpStack: events of version 4, and uplinks of version 3 and of gateways that write like it.

Source: the JSON form of ``UplinkEvent`` in ChirpStack's api/proto/integration/integration.proto, and samples in
thingsboard/data-converters. Bytes are base64. Version 4 has the device under ``deviceInfo``, version 3 beside the rest.
"""

from __future__ import annotations

import re
from typing import Any

from ingest.formats import lorawan
from ingest.formats.lorawan import LorawanFormat, Uplink
from ingest.formats.pantau_json import parse
from ingest.readings import RefusedError
from ingest.refusals import Reason

_UP = ("up", "rx")
_OTHER_EVENTS = frozenset(("join", "ack", "txack", "status", "log", "error", "location", "integration", "stats"))
_UPLINK_FIELDS = ("data", "object", "objectJSON", "fPort", "fCnt")
_DATE_WITHOUT_DASH = re.compile(r"(\d{4}-\d\d)(\d\dT.{1,40})", re.ASCII)
"""As in the documentation of Milesight's gateways: 2020-0327T12:39:05Z."""


class ChirpStack(LorawanFormat):
    """Topics ``application/<id>/device/<DevEUI>/event/<event>``, or whatever the integration is set to."""

    def read(self, topic: str, payload: bytes) -> Uplink | None:
        """See ``LorawanFormat``."""
        levels = topic.split("/")
        if len(levels) >= 2 and levels[-2] == "event" and levels[-1] not in _UP and levels[-1] in _OTHER_EVENTS:
            return None
        content = parse(payload)
        if not isinstance(content, dict):
            raise RefusedError(Reason.WRONG_TYPE, "an event of ChirpStack must be a JSON object")
        info = content.get("deviceInfo")
        if not isinstance(info, dict):
            info = {"devEui": content.get("devEUI", content.get("devEui")), "deviceName": content.get("deviceName")}
        dev_eui = info.get("devEui")
        if dev_eui is None and "gatewayId" in content:
            return None  # what a gateway says of itself
        if "integrationName" in content:
            return None  # what another service made of an uplink, such as a place
        found = (lorawan.eui(dev_eui, "$.deviceInfo.devEui"), *lorawan.names(info.get("deviceName")))
        if not any(name in content for name in _UPLINK_FIELDS):
            return None  # another event, such as the status of the battery
        gateways = content.get("rxInfo")
        return Uplink(
            names=found,
            f_port=lorawan.port(content.get("fPort"), "$.fPort"),
            data=lorawan.from_base64(content.get("data"), "$.data"),
            fields=_object(content),
            time_ns=lorawan.first_time(
                (_with_dash(content.get("time")), "$.time"),
                *_times_of(gateways, "nsTime"),
                *_times_of(gateways, "gwTime"),
                *_times_of(gateways, "time"),
            ),
            rssi_dbm=lorawan.best_rssi(gateways),
        )


def _object(content: dict[str, Any]) -> dict[str, Any] | None:
    decoded = content.get("object")
    if decoded is None and isinstance(content.get("objectJSON"), str) and content["objectJSON"]:
        decoded = parse(content["objectJSON"].encode())
    if decoded is not None and not isinstance(decoded, dict):
        raise RefusedError(Reason.WRONG_TYPE, "$.object must be an object or null")
    return decoded


def _with_dash(time: Any) -> Any:
    broken = _DATE_WITHOUT_DASH.fullmatch(time) if isinstance(time, str) else None
    return f"{broken[1]}-{broken[2]}" if broken else time


def _times_of(gateways: Any, name: str) -> list[tuple[Any, str]]:
    """The earliest time that the gateways' entries have under this name; all are of one moment, give or take."""
    if not isinstance(gateways, list):
        return []
    times = [gateway[name] for gateway in gateways if isinstance(gateway, dict) and isinstance(gateway.get(name), str)]
    return [(min(times), f"$.rxInfo[].{name}")] if times else []
