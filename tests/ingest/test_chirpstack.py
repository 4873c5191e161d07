"""ChirpStack: version 4 and 3, other events, what is wrong, and whatever bytes come."""

from __future__ import annotations

import base64
import copy
import json
import logging
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.formats.chirpstack import ChirpStack
from ingest.readings import Readings
from ingest.refusals import Reason
from ingest.settings import Limits
from telemetry.directory import Directory, Field, Payload
from tests.ingest.lorawan_samples import EUI, city
from tests.ingest.uplinks import NOW, Row, decode

AT = 1_684_741_625_404_859_000  # 2023-05-22T07:47:05.404859Z
LEVEL = ("water_level_m", AT, 2.116)
SIGNAL = ("rssi_dbm", AT, -35.0)
UDL = city("milesight-em310-udl")
DEEP: list[Any] = json.loads("[" * 400 + "]" * 400)


def uplink(**changes: Any) -> dict[str, Any]:
    """An uplink of version 4; a change to None leaves the field out."""
    message: dict[str, Any] = {
        "deduplicationId": "57433366-50a6-4dc2-8145-2df1bbc70d9e",
        "time": "2023-05-22T07:47:05.404859+00:00",
        "deviceInfo": {"deviceName": "Weir", "devEui": EUI, "tags": {}},
        "fCnt": 4,
        "fPort": 85,
        "confirmed": False,
        "data": base64.b64encode(bytes.fromhex("01755C03824408040001")).decode(),
        "rxInfo": [{"gatewayId": "6a7e111a10000000", "rssi": -60, "snr": 11.5}, {"rssi": -35, "snr": 3}],
    }
    return {k: v for k, v in (message | changes).items() if v is not None}


def check(message: Any, *rows: Row, directory: Directory = UDL) -> None:
    got, dead, nothing = decode("chirpstack", message, directory)
    assert [letter.detail for letter in dead] == []
    assert sorted(got) == sorted(rows)
    assert nothing == (0 if rows else 1)


def refused(message: Any, reason: Reason, words: str, directory: Directory = UDL, readings: int = 0) -> None:
    rows, dead, nothing = decode("chirpstack", message, directory)
    assert [letter.reason for letter in dead] == [reason]
    assert words in dead[0].detail
    assert len(rows) == readings and nothing == 0


def test_bytes_are_decoded_by_the_codec() -> None:
    check(uplink(), LEVEL, SIGNAL)
    check(uplink(object={}), LEVEL, SIGNAL)
    check(uplink(confirmed=True, adr=True, dr=0), LEVEL, SIGNAL)


def test_the_object_of_the_server_comes_first() -> None:
    check(uplink(object={"distance": 1000, "battery": 92}), ("water_level_m", AT, 1.0), SIGNAL)
    check(uplink(object={"distance": 1000}, data=None), ("water_level_m", AT, 1.0), SIGNAL)
    # An object of whose fields the model knows none leaves the bytes to the codec.
    check(uplink(object={"Abstand": 1000}), LEVEL, SIGNAL)


def test_optional_fields_may_lack_or_be_null() -> None:
    check(uplink(rxInfo=None), LEVEL)
    check(uplink() | {"rxInfo": None, "object": None, "txInfo": None}, LEVEL)
    check(uplink(rxInfo=[{"gatewayId": "a"}, None, {"rssi": 0}]), LEVEL)
    check(uplink(time=None, rxInfo=[{"nsTime": "2023-05-22T07:47:05.404859Z", "rssi": -35}]), LEVEL, SIGNAL)
    check(uplink(time=None, rxInfo=None), ("water_level_m", NOW, 2.116))


def test_a_device_is_found_by_eui_whatever_its_case_or_else_by_name() -> None:
    upper = city("milesight-em310-udl", names=("ABCDEF0000000001",))
    for eui in ("abcdef0000000001", "ABCDEF0000000001", "AB-CD-EF-00-00-00-00-01"):
        check(uplink(deviceInfo={"devEui": eui, "deviceName": "x"}), LEVEL, SIGNAL, directory=upper)
    named = city("milesight-em310-udl", names=("Weir at the bridge",))
    for name in ("station-1", "WEIR at the bridge"):
        check(uplink(deviceInfo={"devEui": "ff" * 8, "deviceName": name}), LEVEL, SIGNAL, directory=named)


def test_a_copy_of_an_uplink_is_the_same_reading() -> None:
    copied = uplink(deduplicationId="another", rxInfo=[{"gatewayId": "other", "rssi": -90}])
    first, _, _ = decode("chirpstack", uplink(), UDL)
    second, _, _ = decode("chirpstack", copied, UDL, received_at=NOW + 5)
    assert [row[:2] for row in first] == [row[:2] for row in second]


def test_the_clock_rule_of_the_device_is_not_for_the_servers_time() -> None:
    check(uplink(), LEVEL, SIGNAL, directory=city("milesight-em310-udl", clock="local"))
    local = city("milesight-em500-udl", ("water_level_m",), clock="local")
    # 0x646b1b59 s is 2023-05-22T07:35:53Z; by the rule it was seven hours earlier. 30 mm.
    history = uplink(data=base64.b64encode(bytes.fromhex("20ce591b6b641e00")).decode())
    check(history, ("water_level_m", (0x646B1B59 - 7 * 3600) * 10**9, 0.03), directory=local)


def test_version_3_and_gateways_that_write_like_it() -> None:
    message = uplink(deviceInfo=None) | {"devEUI": EUI.upper(), "deviceName": "Weir", "applicationID": "1"}
    check(message, LEVEL, SIGNAL)
    # As its JSON can be set to write bytes; and the object as a string of JSON.
    message = uplink(deviceInfo=None, data=None) | {"devEUI": "EAAAAAAAAAE=", "objectJSON": '{"distance": 1000}'}
    check(message, ("water_level_m", AT, 1.0), SIGNAL)
    check(uplink(time="2023-0522T07:47:05.404859Z"), LEVEL, SIGNAL)


@pytest.mark.parametrize("event", ["join", "ack", "txack", "status", "log", "location", "integration"])
def test_other_events_hold_no_reading(event: str) -> None:
    topic = f"application/1/device/{EUI}/event/{event}"
    assert decode("chirpstack", b"whatever", UDL, topic) == ([], [], 1)


def test_other_events_are_known_by_their_fields_too() -> None:
    status = uplink(fCnt=None, fPort=None, data=None) | {"margin": 8, "batteryLevel": 0.0}
    check(status)
    check({"time": "2023-05-22T07:47:05Z", "gatewayId": "6a7e111a10000000", "stats": {}})
    check(uplink(data=None) | {"integrationName": "loracloud", "object": {"distance": 3}})


@pytest.mark.parametrize("changes", [{"fPort": 0}, {"data": None}, {"data": ""}, {"data": "", "object": {}}])
def test_an_uplink_for_the_network_alone_holds_no_reading(changes: dict[str, Any]) -> None:
    check(uplink(**changes))


def test_an_uplink_that_tells_of_the_device_alone_holds_no_reading() -> None:
    battery = uplink(data=base64.b64encode(bytes.fromhex("01755C")).decode())
    check(battery, directory=city("milesight-em310-udl", ("water_level_m",)))


@pytest.mark.parametrize(
    ("message", "reason", "words"),
    [
        (b"", Reason.EMPTY_PAYLOAD, "empty"),
        (b"{", Reason.MALFORMED_JSON, "not JSON"),
        (b"\xff", Reason.INVALID_UTF8, "UTF-8"),
        ([], Reason.WRONG_TYPE, "JSON object"),
        ({}, Reason.WRONG_TYPE, "DevEUI of 16"),
        (uplink(deviceInfo={"devEui": "12"}), Reason.WRONG_TYPE, "got the string '12'"),
        (uplink() | {"deviceInfo": {"devEui": DEEP}}, Reason.WRONG_TYPE, "got a list"),
        (uplink() | {"fPort": DEEP}, Reason.WRONG_TYPE, "got a list"),
        (uplink(object={"distance": DEEP}), Reason.WRONG_TYPE, "got a list"),
        (uplink(data="AXVcA4JECAQAAQ="), Reason.UNDECODABLE, "must be base64"),
        (uplink(data="not base64!"), Reason.UNDECODABLE, "must be base64"),
        (uplink(data="é"), Reason.UNDECODABLE, "must be base64"),
        (uplink(data=12), Reason.WRONG_TYPE, "base64"),
        (uplink(data=base64.b64encode(bytes(256)).decode()), Reason.UNDECODABLE, "256 bytes"),
        (uplink(fPort="85"), Reason.WRONG_TYPE, "$.fPort"),
        (uplink(fPort=True), Reason.WRONG_TYPE, "$.fPort"),
        (uplink(fPort=None), Reason.UNDECODABLE, "port is missing"),
        (uplink(object=[1]), Reason.WRONG_TYPE, "$.object"),
        (uplink(time="yesterday"), Reason.MALFORMED_TIME, "$.time"),
        (uplink(time="2023-05-22T07:47:05"), Reason.TIME_WITHOUT_ZONE, "$.time"),
        (uplink(data="AQ=="), Reason.UNDECODABLE, "cut off"),
    ],
)
def test_what_is_wrong_is_refused_with_a_reason(message: Any, reason: Reason, words: str) -> None:
    directory = city("milesight-em310-udl", ("water_level_m",))
    refused(message, reason, words, directory)


def test_what_stands_before_unknown_bytes_is_taken_and_the_message_is_kept() -> None:
    directory = city("milesight-em310-udl", ("water_level_m",))
    message = uplink(data=base64.b64encode(bytes.fromhex("0382440877770102")).decode())
    rows, dead, _ = decode("chirpstack", message, directory)
    assert rows == [LEVEL]
    assert [letter.reason for letter in dead] == [Reason.UNDECODABLE]
    assert "channel 77 77" in dead[0].detail and "milesight_em310_udl" in dead[0].detail
    assert dead[0].payload == json.dumps(message).encode() and dead[0].device == "station-1"


def test_a_sensor_that_failed_gives_no_value() -> None:
    directory = city("milesight-em310-udl", ("water_level_m",))
    message = uplink(data=base64.b64encode(bytes.fromhex("0382ffff")).decode())
    refused(message, Reason.MISSING_VALUE, "sensor failed (0xffff)", directory)
    _, dead, _ = decode("chirpstack", message, directory)
    assert json.loads(dead[0].payload)["device"] == "station-1" and dead[0].format == "pantau_json"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2799, 2.799),
        (2799.5, 2.7995),
        ("2799", 2.799),
        ("2799 mm", 2.799),
        ("279.9cm", 2.799),
        ({"value": 2799, "unit": "mm", "displayName": "Distance"}, 2.799),
        ({"value": 279.9, "unit": "cm"}, 2.799),
    ],
)
def test_a_value_may_bring_its_unit(value: Any, expected: float) -> None:
    rows, dead, _ = decode("chirpstack", uplink(object={"distance": value}, rxInfo=[]), UDL)
    assert not dead
    assert [row[2] for row in rows] == pytest.approx([expected])


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("No Sensor", Reason.MISSING_VALUE),
        ("", Reason.MISSING_VALUE),
        (None, Reason.MISSING_VALUE),
        ({"value": None}, Reason.MISSING_VALUE),
        (True, Reason.WRONG_TYPE),
        ([1], Reason.WRONG_TYPE),
        ({"x": 1}, Reason.WRONG_TYPE),
        ("12 bananas", Reason.WRONG_UNIT),
        ("1e999", Reason.NOT_FINITE),
        (10**400, Reason.NOT_FINITE),
    ],
)
def test_what_is_no_value_is_refused(value: Any, reason: Reason) -> None:
    refused(uplink(object={"distance": value}, rxInfo=[]), reason, "")


def test_fields_may_be_nested() -> None:
    nested = Payload("ours", fields=(Field("river.level", "water_level_m", "cm"), Field("a.b", "battery_v", "mV")))
    directory = city("ours", payload=nested)
    message = uplink(object={"river": {"level": 125}, "a.b": 3600}, rxInfo=[])
    check(message, ("water_level_m", AT, 1.25), ("battery_v", AT, 3.6), directory=directory)
    refused(uplink(object={"River": {"level": 125}}, data=None), Reason.UNDECODABLE, "River", directory)


def test_the_newer_names_of_a_vendors_decoder_are_known() -> None:
    directory = city("milesight-em500-swl", ("water_level_m",))
    check(uplink(object={"depth": 125, "battery": 90}), ("water_level_m", AT, 1.25), directory=directory)


def test_a_device_without_a_model_gives_the_fields_named_like_its_properties() -> None:
    directory = city("", ("water_level_m", "rssi_dbm"))
    message = uplink(object={"water_level_m": 1.5, "pm10_ug_m3": 3, "x": "y"})
    check(message, ("water_level_m", AT, 1.5), SIGNAL, directory=directory)
    # What it does send is refused though the signal is known: else a gauge could be lost unseen.
    refused(uplink(), Reason.UNDECODABLE, "no model in the catalogue", directory, readings=1)
    refused(uplink(object={"distance": 3}), Reason.UNDECODABLE, "none of the fields distance", directory, readings=1)


def test_a_codec_that_this_version_lacks_is_named() -> None:
    directory = city("x", payload=Payload("x", codec="nobody", fields=(Field("a", "water_level_m", "m"),)))
    refused(uplink(), Reason.UNDECODABLE, "no codec 'nobody'", directory)


def test_a_property_without_datastream_is_said_where_nothing_else_came() -> None:
    refused(
        uplink(), Reason.UNKNOWN_PROPERTY, "no datastream of water_level_m", city("milesight-em310-udl", ("rain_mm",))
    )
    refused(uplink(), Reason.NOT_INSTALLED, "not installed", city("milesight-em310-udl", ()))


def test_history_has_its_own_times() -> None:
    directory = city("milesight-em500-udl", ("water_level_m",))
    entries = [{"timestamp": 1_684_740_000, "distance": 30}, {"timestamp": 1_684_740_600, "distance": 40}]
    check(
        uplink(object={"distance": 50, "history": entries}),
        ("water_level_m", AT, 0.05),
        ("water_level_m", 1_684_740_000 * 10**9, 0.03),
        ("water_level_m", 1_684_740_600 * 10**9, 0.04),
        directory=directory,
    )
    refused(uplink(object={"history": [{"distance": 30}]}), Reason.NO_TIME, "history[0]", directory)
    refused(
        uplink(object={"history": [{"distance": 30, "timestamp": "soon"}]}), Reason.MALFORMED_TIME, "soon", directory
    )


def test_fields_that_nobody_asked_for_are_named_once_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    decoder = ChirpStack()
    with caplog.at_level(logging.INFO):
        for _ in range(5):
            readings = Readings(UDL, Limits())
            payload = json.dumps(uplink()).encode()
            readings.announce("lorawan", [b"t"], [payload])
            readings.begin(NOW, NOW)
            decoder.decode("t", payload, readings)
    lines = [record.getMessage() for record in caplog.records]
    assert lines == ["uplinks of milesight-em310-udl: fields that are not taken: battery, position"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("time", "deviceInfo", "fPort", "data", "rxInfo", "object", "devEUI", "objectJSON")


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), JSON), st.sampled_from([None, "distance", "history"]), JSON)
def test_any_json_is_taken_or_refused(changes: dict[str, Any], field: str | None, value: Any) -> None:
    message = copy.deepcopy(uplink()) | changes
    if field:
        message["object"] = {field: value}
    rows, dead, nothing = decode("chirpstack", message, UDL)
    assert rows or dead or nothing


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_taken_or_refused(payload: bytes) -> None:
    rows, dead, nothing = decode("chirpstack", payload, UDL)
    assert rows or dead or nothing


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 255))
def test_any_frame_is_taken_or_refused(frame: bytes, port: int) -> None:
    message = uplink(data=base64.b64encode(frame).decode(), fPort=port)
    rows, dead, nothing = decode("chirpstack", message, UDL)
    assert rows or dead or nothing
