"""The Things Stack, version 3, as of The Things Network: ``v3/<application>/devices/<device>/up`` and its like.

Source: The Things Stack's documentation, "Data Formats", and samples in thingsboard/data-converters. Bytes are base64.
"""

from __future__ import annotations

from typing import Any

from ingest.formats import lorawan
from ingest.formats.lorawan import LorawanFormat, Uplink
from ingest.formats.pantau_json import parse
from ingest.readings import RefusedError
from ingest.refusals import Reason

_OTHER_MESSAGES = (
    *("join_accept", "uplink_normalized", "location_solved", "service_data"),
    *("downlink_ack", "downlink_nack", "downlink_sent", "downlink_failed", "downlink_queued"),
    "downlink_queue_invalidated",
)


class TheThingsStack(LorawanFormat):
    """What its MQTT server and its webhooks deliver."""

    def read(self, topic: str, payload: bytes) -> Uplink | None:
        """See ``LorawanFormat``."""
        content = parse(payload)
        if not isinstance(content, dict):
            raise RefusedError(Reason.WRONG_TYPE, "a message of The Things Stack must be a JSON object")
        message = content.get("uplink_message")
        if message is None:
            if any(name in content for name in _OTHER_MESSAGES):
                return None
            raise RefusedError(Reason.WRONG_TYPE, "$.uplink_message is missing")
        if not isinstance(message, dict):
            raise RefusedError(Reason.WRONG_TYPE, "$.uplink_message must be an object")
        if content.get("simulated") is True:
            raise RefusedError(Reason.NO_READINGS, "$.simulated: made up in the console, and not measured")
        gateways = message.get("rx_metadata")
        settings = message.get("settings")
        decoded = message.get("decoded_payload")
        if decoded is not None and not isinstance(decoded, dict):
            raise RefusedError(Reason.WRONG_TYPE, "$.uplink_message.decoded_payload must be an object or null")
        f_port = lorawan.port(message.get("f_port"), "$.uplink_message.f_port")
        if f_port is None and not decoded:
            return None  # fields that are 0 are left out, and of port 0 the network is the only reader
        return Uplink(
            names=_names(content.get("end_device_ids")),
            f_port=f_port,
            data=lorawan.from_base64(message.get("frm_payload"), "$.uplink_message.frm_payload"),
            fields=decoded,
            time_ns=lorawan.first_time(
                (message.get("received_at"), "$.uplink_message.received_at"),
                (settings.get("time") if isinstance(settings, dict) else None, "$.uplink_message.settings.time"),
                (content.get("received_at"), "$.received_at"),
            ),
            rssi_dbm=lorawan.best_rssi(gateways),
        )


def _names(ids: Any) -> tuple[str, ...]:
    """Devices that are activated by hand may have no DevEUI: then the id that the application gave them counts."""
    if not isinstance(ids, dict):
        raise RefusedError(Reason.WRONG_TYPE, "$.end_device_ids must be an object")
    others = lorawan.names(ids.get("device_id"))
    if ids.get("dev_eui") in (None, ""):
        if not others:
            raise RefusedError(Reason.WRONG_TYPE, "$.end_device_ids has neither dev_eui nor device_id")
        return others
    return (lorawan.eui(ids["dev_eui"], "$.end_device_ids.dev_eui"), *others)
