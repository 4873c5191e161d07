"""The Things Stack: uplinks, other messages, what is wrong, and whatever bytes come."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.refusals import Reason
from tests.ingest.lorawan_samples import EUI, city
from tests.ingest.uplinks import NOW, decode

AT = 1_684_474_415_641_841_782  # 2023-05-19T05:33:35.641841782Z, the network server's
UDL = city("milesight-em310-udl")
TOPIC = "v3/city@ttn/devices/weir/up"


def uplink(**changes: Any) -> dict[str, Any]:
    """An uplink; the changes are to its ``uplink_message``, where None leaves a field out."""
    message = {
        "f_port": 85,
        "f_cnt": 10335,
        "frm_payload": "AXVcA4JECAQAAQ==",
        "rx_metadata": [
            {"gateway_ids": {"gateway_id": "a"}, "time": "2023-05-19T05:33:35.608982Z", "rssi": -60, "snr": 13.2},
            {"gateway_ids": {"gateway_id": "packetbroker"}, "rssi": -35},
        ],
        "settings": {"time": "2023-05-19T05:33:35.608982Z"},
        "received_at": "2023-05-19T05:33:35.641841782Z",
    }
    return {
        "end_device_ids": {"device_id": "weir", "dev_eui": EUI, "application_ids": {"application_id": "city"}},
        "received_at": "2023-05-19T05:33:35.848446463Z",
        "uplink_message": {k: v for k, v in (message | changes).items() if v is not None},
    }


def test_bytes_are_decoded_by_the_codec() -> None:
    rows, dead, _ = decode("the_things_stack", uplink(), UDL, TOPIC)
    assert not dead
    assert sorted(rows) == [("rssi_dbm", AT, -35.0), ("water_level_m", AT, 2.116)]


def test_the_decoded_payload_comes_first() -> None:
    for message in (
        uplink(decoded_payload={"distance": 1000}),
        uplink(decoded_payload={"distance": 1000}, f_port=None),
    ):
        rows, dead, _ = decode("the_things_stack", message, UDL, TOPIC)
        assert not dead and ("water_level_m", AT, 1.0) in rows


def test_the_vendors_words_for_a_distance_are_read() -> None:
    # The published example of Dragino's decoder: bytes 0D 3B 0A EF 00 00 00 01 on port 2.
    ldds75 = city("dragino-ldds75", ("water_level_m", "battery_v"))
    decoded = {"Bat": 3.387, "Distance": "2799 mm", "Interrupt_flag": 0, "Sensor_flag": 1, "TempC_DS18B20": "0.00"}
    by_server = decode("the_things_stack", uplink(decoded_payload=decoded), ldds75, TOPIC)
    by_codec = decode("the_things_stack", uplink(f_port=2, frm_payload="DTsK7wAAAAE="), ldds75, TOPIC)
    assert by_server == by_codec == ([("water_level_m", AT, 2.799), ("battery_v", AT, 3.387)], [], 0)


def test_optional_fields_may_lack() -> None:
    rows, dead, _ = decode("the_things_stack", uplink(rx_metadata=None, received_at=None), UDL, TOPIC)
    assert not dead and rows == [("water_level_m", 1_684_474_415_608_982_000, 2.116)]
    rows, _, _ = decode("the_things_stack", uplink(rx_metadata=None, received_at=None, settings=None), UDL, TOPIC)
    assert rows == [("water_level_m", 1_684_474_415_848_446_463, 2.116)]
    bare = uplink(rx_metadata=None, received_at=None, settings=None)
    del bare["received_at"]
    rows, _, _ = decode("the_things_stack", bare, UDL, TOPIC)
    assert rows == [("water_level_m", NOW, 2.116)]


def test_a_device_is_found_by_its_id_too() -> None:
    by_id = city("milesight-em310-udl", ("water_level_m",), names=("weir",))
    message = uplink()
    assert decode("the_things_stack", message, by_id, TOPIC)[0] == [("water_level_m", AT, 2.116)]
    del message["end_device_ids"]["dev_eui"]  # activated by hand
    assert decode("the_things_stack", message, by_id, TOPIC)[0] == [("water_level_m", AT, 2.116)]


@pytest.mark.parametrize(
    "name",
    [
        *("join_accept", "uplink_normalized", "location_solved", "service_data", "downlink_ack", "downlink_nack"),
        *("downlink_sent", "downlink_failed", "downlink_queued", "downlink_queue_invalidated"),
    ],
)
def test_other_messages_hold_no_reading(name: str) -> None:
    message = uplink()
    message[name] = message.pop("uplink_message")
    assert decode("the_things_stack", message, UDL) == ([], [], 1)


@pytest.mark.parametrize("changes", [{"f_port": 0}, {"f_port": None}, {"frm_payload": None}, {"frm_payload": ""}])
def test_an_uplink_for_the_network_alone_holds_no_reading(changes: dict[str, Any]) -> None:
    assert decode("the_things_stack", uplink(**changes), UDL) == ([], [], 1)


@pytest.mark.parametrize(
    ("message", "reason", "words"),
    [
        (b"", Reason.EMPTY_PAYLOAD, "empty"),
        (b"[", Reason.MALFORMED_JSON, "not JSON"),
        ([], Reason.WRONG_TYPE, "JSON object"),
        ({}, Reason.WRONG_TYPE, "$.uplink_message is missing"),
        ({"uplink_message": 1}, Reason.WRONG_TYPE, "$.uplink_message must be"),
        (uplink() | {"end_device_ids": None}, Reason.WRONG_TYPE, "$.end_device_ids"),
        (uplink() | {"end_device_ids": {}}, Reason.WRONG_TYPE, "neither dev_eui nor device_id"),
        (uplink() | {"end_device_ids": {"dev_eui": "x"}}, Reason.WRONG_TYPE, "dev_eui must be a DevEUI"),
        (uplink() | {"simulated": True}, Reason.NO_READINGS, "not measured"),
        (uplink(frm_payload="%"), Reason.UNDECODABLE, "must be base64"),
        (uplink(decoded_payload=3), Reason.WRONG_TYPE, "decoded_payload"),
        (uplink(f_port=300), Reason.WRONG_TYPE, "f_port"),
        (uplink(received_at=[]), Reason.WRONG_TYPE, "received_at"),
    ],
)
def test_what_is_wrong_is_refused_with_a_reason(message: Any, reason: Reason, words: str) -> None:
    rows, dead, nothing = decode("the_things_stack", message, UDL, TOPIC)
    assert not rows and not nothing
    assert [letter.reason for letter in dead] == [reason] and words in dead[0].detail


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("f_port", "frm_payload", "rx_metadata", "settings", "received_at", "decoded_payload")


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), JSON), st.dictionaries(st.just("end_device_ids"), JSON))
def test_any_json_is_taken_or_refused(changes: dict[str, Any], whole: dict[str, Any]) -> None:
    rows, dead, nothing = decode("the_things_stack", uplink(**changes) | whole, UDL, TOPIC)
    assert rows or dead or nothing


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_taken_or_refused(payload: bytes) -> None:
    for name in ("the_things_stack", "loriot"):
        rows, dead, nothing = decode(name, payload, UDL, TOPIC)
        assert rows or dead or nothing
