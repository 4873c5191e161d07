"""SenML against the examples of RFC 8428, a plain slow resolver, another CBOR encoder, and bytes that mean harm."""

from __future__ import annotations

import json
import math
import textwrap
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.dead_letters import DeadLetters
from ingest.formats import FORMATS
from ingest.formats.senml import MAX_NAME, MAX_RECORDS, SenmlCbor, SenmlJson
from ingest.formats.senml_cbor import LABELS
from ingest.mending import mark_mended
from ingest.readings import Readings
from ingest.receiver import Receiver
from ingest.settings import BrokerSettings, Feed, Limits
from telemetry.directory import Datastream, Device, Directory, Field, Payload, Site
from tests.ingest.mqtt import FAST, Publisher, collect, receiving
from tests.real_parts.mosquitto import Mosquitto

STREAMS = {
    "gauge-1": ("water_level_m", "battery_v", "connected", "temperature_c"),
    "air-1": ("temperature_c", "humidity_percent", "battery_v", "wind_direction_deg", "rssi_dbm", "co_ug_m3"),
    "loop-1": ("flow_veh_h", "occupancy"),
    "weir-1": ("discharge_m3_s",),
    "gw": ("battery_v",),
}
NAMES = {"air-1": ("urn:dev:ow:10e2073a0108006", "10e2073a01080063"), "loop-1": ("0024befffe804ff1", "LOOP/a:")}
CITY = Directory(
    version=1,
    city="demo",
    utc_offset_h=7,
    sites=(Site("s", "Site", -6.9, 107.6),),
    devices=tuple(
        Device(d, "s", names=NAMES.get(d, ()), gateway=d == "gw", model="radar" if d == "gauge-1" else "")
        for d in STREAMS
    ),
    datastreams=tuple(Datastream(f"{d}:{p}", "s", d, p) for d, ps in STREAMS.items() for p in ps),
    payloads=(
        Payload(
            "radar",
            "senml_json",
            "",
            (Field("3303/0/5700", "temperature_c", "Cel"), Field("dist", "water_level_m", "cm")),
        ),
    ),
)
FEED = {f"{d}:{p}": CITY.feed_of[d][p] for d, ps in STREAMS.items() for p in ps}
WHERE = {feed: name for name, feed in FEED.items()}
S = 10**9
NOW = 1_795_000_000 * S
OWN = "pantau/v1/demo/gauge-1"
GATEWAY = "pantau/v1/demo/gw"


def read(
    payload: bytes, *, topic: str = GATEWAY, name: str = "senml_json", feed: bool = False, now: int | None = NOW
) -> Readings:
    readings = Readings(CITY, Limits())
    readings.message = readings.announce("b", [topic.encode()], [payload])
    readings.begin(now, now)
    if feed:
        readings.read_as(name)
    FORMATS[name]().decode(topic, payload, readings)
    return readings


def pack(*records: dict[str, Any], **of: Any) -> Readings:
    return read(json.dumps(records).encode(), **of)


def taken(readings: Readings) -> list[tuple[str, float, int]]:
    """(device:property, value, observed at in ns)"""
    return [(WHERE[f], v, t) for f, v, t in zip(readings.feed, readings.value, readings.observed_at, strict=True)]


def reasons(readings: Readings) -> list[str]:
    return [letter.reason.value for letter in readings.dead_letters]


def in_cbor(records: list[dict[str, Any]]) -> bytes:
    numbers = {name: label for label, name in LABELS.items()}
    return cbor2.dumps([{numbers.get(k, k): v for k, v in record.items()} for record in records])


class TestExamplesOfTheRfc:
    """RFC 8428, section 5.1 (JSON) and section 6 (CBOR)."""

    def test_one_reading(self) -> None:
        # 5.1.1: the name is the sensor's own; its unit says which of the device's properties it is
        got = pack({"n": "urn:dev:ow:10e2073a01080063", "u": "Cel", "v": 23.1})
        assert taken(got) == [("air-1:temperature_c", 23.1, NOW)]

    def test_several_at_times(self) -> None:
        # 5.1.3, with a property that this device has in the place of "current"
        got = pack(
            {
                "bn": "urn:dev:ow:10e2073a0108006:",
                "bt": 1.276020076001e9,
                "bu": "Cel",
                "bver": 5,
                "n": "voltage",
                "u": "V",
                "v": 120.1,
            },
            {"n": "temperature", "t": -5, "v": 1.2},
            {"n": "temperature", "t": -4, "v": 1.3},
            {"n": "temperature", "v": 1.7},
        )
        at = 1_276_020_076_001_000_000
        assert taken(got) == [
            ("air-1:battery_v", 120.1, at),
            ("air-1:temperature_c", 1.2, at - 5 * S),
            ("air-1:temperature_c", 1.3, at - 4 * S),
            ("air-1:temperature_c", 1.7, at),
        ]

    def test_cbor_bytes(self) -> None:
        # a pack published in hexadecimal with the draft that tells how CORECONF and SenML go together
        data = bytes.fromhex(
            "82a621781b75726e3a6465763a6f773a3130653230373361303130383030363a22fb3ff004189374bc6a006b74656d70657261747572"
            "65016343656c02fb403719999999999a0601a4006868756d6964697479016325524802fb4050d333333333330602"
        )
        got = read(data, name="senml_cbor")
        # base time 1.001 s from now, and 1 s and 2 s more
        assert taken(got) == [
            ("air-1:temperature_c", 23.1, NOW + 2_001_000_000),
            ("air-1:humidity_percent", 67.3, NOW + 3_001_000_000),
        ]


class TestResolution:
    def test_base_values_hold_until_replaced(self) -> None:
        got = pack(
            {"bn": "air-1:", "bt": 1_795_000_000, "bu": "Cel", "bv": 20, "n": "temperature", "v": 1},
            {"n": "temperature", "v": 2, "t": 1},
            {"bn": "gauge-1/", "n": "temperature", "bv": 0, "v": 3, "bt": 1_795_000_100},
            {"n": "battery_v", "u": "mV", "v": 3600},
            {"n": "temperature", "v": 4},
        )
        assert taken(got) == [
            ("air-1:temperature_c", 21, 1_795_000_000 * S),
            ("air-1:temperature_c", 22, 1_795_000_001 * S),
            ("gauge-1:temperature_c", 3, 1_795_000_100 * S),
            ("gauge-1:battery_v", 3.6, 1_795_000_100 * S),
            ("gauge-1:temperature_c", 4, 1_795_000_100 * S),
        ]

    @pytest.mark.parametrize(
        ("seconds", "expected"),
        [
            (0, NOW),
            (-0.5, NOW - 500_000_000),
            (2**28 - 1, NOW + (2**28 - 1) * S),
            (2**28, 2**28 * S),
            (1_795_000_000.25, 1_795_000_000_250_000_000),
        ],
    )
    def test_times_below_2_to_28_count_from_reception(self, seconds: float, expected: int) -> None:
        assert taken(pack({"n": "temperature", "v": 1, "t": seconds}, topic=OWN)) == [
            ("gauge-1:temperature_c", 1, expected)
        ]

    def test_the_sum_of_times_decides(self) -> None:
        got = pack(
            {"n": "temperature", "v": 1, "bt": 2**28 - 10, "t": 10}, {"n": "temperature", "v": 1, "t": 9}, topic=OWN
        )
        assert [t for _, _, t in taken(got)] == [2**28 * S, NOW + (2**28 - 1) * S]

    def test_any_order_of_time(self) -> None:
        got = pack(*({"n": "temperature", "v": 1, "t": t} for t in (-1, -3, -2)), topic=OWN)
        assert [t for _, _, t in taken(got)] == [NOW - S, NOW - 3 * S, NOW - 2 * S]

    def test_a_base_value_alone_is_the_value(self) -> None:
        assert taken(pack({"bv": 12.5}, {"n": "temperature"}, topic=OWN)) == [("gauge-1:temperature_c", 12.5, NOW)]

    def test_a_record_of_base_values_is_no_reading(self) -> None:
        got = pack({"bn": "air-1:", "bt": -1}, {"n": "temperature", "v": 1})
        assert (taken(got), reasons(got)) == ([("air-1:temperature_c", 1, NOW - S)], [])

    def test_base_values_of_a_refused_record_hold(self) -> None:
        got = pack({"bn": "air-1:", "n": "temperature", "v": "warm"}, {"n": "temperature", "v": 1})
        assert (taken(got), reasons(got)) == ([("air-1:temperature_c", 1, NOW)], ["wrong_type"])

    @pytest.mark.parametrize("version", [1, 5, 10, 26])
    def test_versions_known(self, version: int) -> None:
        assert len(pack({"bver": version, "n": "temperature", "v": 1}, topic=OWN)) == 1

    def test_fields_not_known_are_ignored(self) -> None:
        assert len(pack({"n": "temperature", "v": 1, "foo": [1], "e": {}}, topic=OWN)) == 1

    def test_without_a_clock_only_absolute_times(self) -> None:
        got = pack(
            {"n": "temperature", "v": 1, "t": -1}, {"n": "temperature", "v": 2, "t": 1_795_000_000}, topic=OWN, now=None
        )
        assert ([v for _, v, _ in taken(got)], reasons(got)) == ([2], ["no_time"])

    @pytest.mark.parametrize("count", [1, 2])
    def test_the_rule_for_the_devices_clock_is_for_absolute_times_alone(self, count: int) -> None:
        # a clock that sends the city's local time, 7 h ahead, as UTC; what counts from reception needs no clock
        device = Device("clock-1", "s", clock="local")
        stream = Datastream("t", "s", "clock-1", "temperature_c")
        city = Directory(
            version=1, city="demo", utc_offset_h=7, sites=CITY.sites, devices=(device,), datastreams=(stream,)
        )
        got = {}
        for seconds in (0, -60, NOW / S + 7 * 3600 - 90):
            payload = json.dumps([{"n": "temperature", "v": i, "t": seconds} for i in range(count)]).encode()
            readings = Readings(city, Limits())
            readings.message = readings.announce("b", [b"pantau/v1/demo/clock-1"], [payload])
            readings.begin(NOW, NOW)
            SenmlJson().decode("pantau/v1/demo/clock-1", payload, readings)
            got[seconds] = [(at - NOW) // S for at in readings.finish().observed_at.tolist()]
        assert list(got.values()) == [[0] * count, [-60] * count, [-90] * count]


class TestNames:
    @pytest.mark.parametrize(
        ("name", "unit", "expected"),
        [
            ("air-1:temperature", "Cel", "air-1:temperature_c"),
            ("air-1/temperature_c", None, "air-1:temperature_c"),
            ("air-1_humidity", "%RH", "air-1:humidity_percent"),
            ("urn:dev:ow:10e2073a0108006:humidity", "%RH", "air-1:humidity_percent"),
            ("URN:DEV:OW:10E2073A0108006:humidity", "%RH", "air-1:humidity_percent"),
            ("urn:dev:ow:10e2073a01080063_temp", "Cel", "air-1:temperature_c"),
            ("urn:dev:mac:0024befffe804ff1", "1/min", "loop-1:flow_veh_h"),
            ("urn:dev:mac:0024befffe804ff1:flow", "1/min", "loop-1:flow_veh_h"),
            ("loop/A:occupancy", "/", "loop-1:occupancy"),
            ("weir-1:flow", "l/s", "weir-1:discharge_m3_s"),
            ("weir-1:flow", None, "weir-1:discharge_m3_s"),
            ("voltage", "V", "gw:battery_v"),
            ("gauge-1:3303/0/5700", None, "gauge-1:temperature_c"),
        ],
    )
    def test_device_and_property(self, name: str, unit: str | None, expected: str) -> None:
        record = {"n": name, "v": 1} | ({} if unit is None else {"u": unit})
        got = pack(record)
        assert [(n, r) for n, _, _ in taken(got) for r in [reasons(got)]] == [(expected, [])]

    def test_a_field_of_the_model_brings_its_unit(self) -> None:
        assert taken(pack({"n": "dist", "v": 125}, topic=OWN)) == [("gauge-1:water_level_m", 1.25, NOW)]
        assert taken(pack({"n": "dist", "v": 125, "u": "mm"}, topic=OWN)) == [("gauge-1:water_level_m", 0.125, NOW)]

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("", "wrong_type"),
            ("-a", "wrong_type"),
            ("_temperature", "wrong_type"),
            ("air-1:suhu udara", "wrong_type"),
            ("air-1:tempé", "wrong_type"),
            ("a" * (MAX_NAME + 1), "wrong_type"),
            ("nobody:temperature", "unknown_device"),
            ("temperature", "unknown_property"),
            ("air-1:water_level_m", "unknown_property"),
            ("air-1:length", "unknown_property"),
            ("loop-1", "unknown_property"),
        ],
    )
    def test_names_refused(self, name: str, reason: str) -> None:
        got = pack({"n": name, "v": 1, "u": "Cel"}, {"n": "air-1:temperature", "u": "Cel", "v": 1})
        assert (reasons(got), len(got)) == ([reason], 1)

    def test_only_a_gateway_speaks_for_others(self) -> None:
        assert reasons(pack({"n": "air-1:temperature", "v": 1}, topic=OWN)) == ["not_a_gateway"]
        assert len(pack({"n": "gauge-1:temperature", "v": 1}, topic=OWN)) == 1
        assert len(pack({"n": "air-1:temperature", "v": 1}, topic="any/where", feed=True)) == 1

    def test_a_route_found_once_serves_again_until_the_directory_changes(self) -> None:
        decoder = SenmlJson()
        payload = b'[{"n":"air-1:temperature","u":"Cel","v":1}]'
        smaller = Directory(
            version=2, city="demo", utc_offset_h=7, sites=CITY.sites, devices=CITY.devices, datastreams=()
        )
        counts = []
        for directory in (CITY, CITY, smaller):
            readings = Readings(directory, Limits())
            readings.message = readings.announce("b", [GATEWAY.encode()], [payload])
            readings.begin(NOW, NOW)
            decoder.decode(GATEWAY, payload, readings)
            counts.append((len(readings), reasons(readings)))
        assert counts == [(1, []), (1, []), (0, ["not_installed"])]


class TestUnits:
    @pytest.mark.parametrize(
        ("name", "unit", "value", "expected"),
        [
            # RFC 8428 section 12.1 and RFC 8798 section 3, by hand
            ("air-1:temperature", "K", 300.0, 26.85),
            ("air-1:humidity", "/", 0.5, 50.0),
            ("air-1:humidity", "/100", 50, 50.0),
            ("air-1:wind_direction", "rad", math.pi, 180.0),
            ("air-1:wind_direction", "deg", 90, 90.0),
            ("air-1:rssi", "dBW", -120, -90.0),
            ("air-1:co", "kg/m3", 1e-6, 1000.0),
            ("air-1:co", "ug/m3", 7, 7.0),
            ("gauge-1:level", "km", 0.001, 1.0),
            ("gauge-1:level", "ft", 10, 3.048),
            ("loop-1:flow", "1/s", 0.5, 1800.0),
            ("weir-1:flow", "l/s", 1500, 1.5),
        ],
    )
    def test_converted(self, name: str, unit: str, value: float, expected: float) -> None:
        got = pack({"n": name, "u": unit, "v": value})
        assert got.value == [pytest.approx(expected, rel=1e-12)]

    @pytest.mark.parametrize(
        ("name", "unit"), [("air-1:temperature", "C"), ("air-1:temperature", "F"), ("gauge-1:level", "kg")]
    )
    def test_refused(self, name: str, unit: str) -> None:
        got = pack({"n": name, "u": unit, "v": 1})
        assert reasons(got) == ["wrong_unit"]  # C is a coulomb, F a farad


class TestRefused:
    @pytest.mark.parametrize(
        ("payload", "reason"),
        [
            (b"", "empty_payload"),
            (b"[", "malformed_json"),
            (b"\xff", "invalid_utf8"),
            (b"{}", "wrong_type"),
            (b'{"e":[{"n":"temperature","v":1}]}', "wrong_type"),
            (b"[]", "no_readings"),
            (b'[{"bn":"gauge-1:"}]', "no_readings"),
            (b'[{"bn":7},{"n":"temperature","v":1}]', "wrong_type"),
            (b'[{"bt":"now"},{"n":"temperature","v":1}]', "wrong_type"),
            (b'[{"bt":1e999},{"n":"temperature","v":1}]', "not_finite"),
            (b'[{"bv":true},{"n":"temperature","v":1}]', "wrong_type"),
            (b'[{"n":"temperature","v":1},{"bver":11}]', "wrong_type"),
            (b'[{"bver":10,"n":"temperature","v":1},{"bver":5}]', "wrong_type"),
            (b'[{"bver":0,"n":"temperature","v":1}]', "wrong_type"),
            (b'[{"bver":2.5,"n":"temperature","v":1}]', "wrong_type"),
            (b'[{"n":"temperature","v":1,"x_":0},{"n":"temperature","v":1}]', "wrong_type"),
            (b"[" + b"{}," * MAX_RECORDS + b"{}]", "payload_too_large"),
            (b"[" * 100_000, "malformed_json"),
        ],
    )
    def test_the_whole_pack(self, payload: bytes, reason: str) -> None:
        got = read(payload, topic=OWN)
        assert (reasons(got), len(got)) == ([reason], 0)
        assert got.dead_letters[0].payload == payload[:65_536]
        assert got.dead_letters[0].fragment is False

    @pytest.mark.parametrize(
        ("record", "reason"),
        [
            ({"n": "temperature"}, "missing_value"),
            ({"n": "temperature", "v": None}, "missing_value"),
            ({"n": "temperature", "s": 5}, "missing_value"),
            ({"n": "temperature", "v": 1, "vb": True}, "wrong_type"),
            ({"n": "temperature", "v": 1, "vs": "x"}, "wrong_type"),
            ({"n": "temperature", "vs": "x"}, "wrong_type"),
            ({"n": "temperature", "vd": "eHg"}, "wrong_type"),
            ({"n": "temperature", "vb": True}, "wrong_type"),
            ({"n": "temperature", "v": "1"}, "wrong_type"),
            ({"n": "temperature", "v": True}, "wrong_type"),
            ({"n": 7, "v": 1}, "wrong_type"),
            ({"n": "temperature", "v": 1, "t": "x"}, "wrong_type"),
            ({"n": "temperature", "v": 1, "s": "x"}, "wrong_type"),
            ({"n": "temperature", "v": 1, "ut": []}, "wrong_type"),
            ({"n": "temperature", "v": 1, "t": 1_795_000_000_000}, "time_in_future"),
            ({"n": "temperature", "v": 1, "t": -1e300}, "time_too_old"),
            ({"n": "temperature", "v": 1, "u": "kg"}, "wrong_unit"),
            ({"n": "nobody:temperature", "v": 1}, "unknown_device"),
            (7, "wrong_type"),
            ({}, "missing_value"),
        ],
    )
    def test_one_record_alone(self, record: Any, reason: str) -> None:
        good = {"n": "gauge-1:battery_v", "v": 3.6}
        got = read(json.dumps([record, good]).encode(), topic=OWN)
        assert (reasons(got), [n for n, _, _ in taken(got)]) == ([reason], ["gauge-1:battery_v"])
        letter = got.dead_letters[0]
        assert letter.fragment and letter.format == "pantau_json"
        assert b"battery" not in letter.payload

    def test_true_or_false_for_connected(self) -> None:
        got = pack({"n": "connected", "vb": True}, {"n": "connected", "vb": False, "bv": 5}, topic=OWN)
        assert got.value == [1.0, 0.0]

    def test_what_is_not_finite_in_the_end(self) -> None:
        got = read(b'[{"bv":1e308,"n":"temperature","v":1e308},{"n":"battery_v","bv":0,"v":1}]', topic=OWN)
        assert len(got.finish()) == 1
        assert reasons(got) == ["not_finite"]
        assert json.loads(got.dead_letters[0].payload)["property"] == "temperature_c"

    def test_a_letter_can_be_read_once_the_device_is_registered(self) -> None:
        got = pack(
            {"bn": "new-1:", "bt": NOW / S, "n": "temperature", "u": "K", "v": 300},
            {"n": "gw:battery_v", "v": 1, "bn": ""},
        )
        letter = got.dead_letters[0]
        assert (letter.reason, letter.device) == ("unknown_device", "new-1")
        assert json.loads(letter.payload) == {
            "device": "new-1",
            "time": "2026-11-18T11:06:40Z",
            "property": "temperature_c",
            "value": pytest.approx(26.85),
        }

    def test_a_late_refusal_keeps_that_reading_alone(self) -> None:
        got = pack(
            {"n": "battery_v", "v": 1, "t": NOW / S + 10**6},
            {"n": "battery_v", "v": 2},
            {"n": "battery_v", "v": 3, "t": NOW / S + 10**6},
        )
        assert len(got.finish()) == 1
        assert [json.loads(x.payload)["value"] for x in got.dead_letters] == [1, 3]


class TestCbor:
    @pytest.mark.parametrize(
        ("data", "value"),
        [
            ("0a", 10),
            ("29", -10),
            ("1903e8", 1000),
            ("f93e00", 1.5),
            ("fa3fc00000", 1.5),
            ("fb3ff8000000000000", 1.5),
            ("c48221196ab3", 273.15),  # RFC 8949, section 3.4.4: [-2, 27315]
            ("c48201c24101", 10),
            ("c249010000000000000000", 2.0**64),
            ("c349010000000000000000", -(2.0**64)),
        ],
    )
    def test_numbers(self, data: str, value: float) -> None:
        got = read(bytes.fromhex("81a2006b74656d706572617475726502" + data), topic=OWN, name="senml_cbor")
        assert got.value == [value]

    @pytest.mark.parametrize(
        ("head", "end"), [("81a2", ""), ("9fa2", "ff"), ("81bf", "ff"), ("9fbf", "ffff"), ("d9d9f781a2", "")]
    )
    def test_indefinite_lengths_and_the_mark_of_cbor(self, head: str, end: str) -> None:
        data = bytes.fromhex(head + "006b74656d7065726174757265020a" + end)
        assert read(data, topic=OWN, name="senml_cbor").value == [10]

    def test_labels_as_text(self) -> None:
        data = cbor2.dumps([{"bn": "gauge-1:", "n": "temperature", "v": 1, "foo": {1: [2]}, 99: 1}])
        assert read(data, topic=OWN, name="senml_cbor").value == [1]

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            ("", "empty_payload"),
            ("a0", "wrong_type"),
            ("80", "no_readings"),
            ("8080", "malformed_cbor"),
            ("81", "malformed_cbor"),
            ("9f", "malformed_cbor"),
            ("9bffffffffffffffff", "malformed_cbor"),
            ("5bffffffffffffffff", "malformed_cbor"),
            ("81bbffffffffffffffff", "malformed_cbor"),
            ("81a1005bffffffffffffffff", "malformed_cbor"),
            ("81a1f401", "malformed_cbor"),  # false as a label
            ("81a2000000 00", "malformed_cbor"),  # a label twice
            ("81a10061ff", "invalid_utf8"),
            ("1c", "malformed_cbor"),
            ("81a2006174026161", "wrong_type"),
            ("81a2006b74656d7065726174757265" + "02c482" + "1b7fffffffffffffff" + "01", "not_finite"),
            ("81a2006b74656d7065726174757265" + "02f97e00", "not_finite"),
            ("81a200617402c2" + "5841" + "ff" * 65, "malformed_cbor"),
            ("81a20061740206f97e00", "malformed_cbor"),
            ("81a301f7006b74656d7065726174757265" + "02d82341" + "61", "wrong_type"),  # a regular expression
            ("81a222f97e000062" + "6161", "not_finite"),
            ("81" * 2000 + "80", "malformed_cbor"),
            ("c1" * 2000 + "80", "malformed_cbor"),
            ("81a10081" + "d81c" * 2000 + "80", "malformed_cbor"),
            ("9f" * 2000, "malformed_cbor"),
        ],
    )
    def test_refused(self, data: str, reason: str) -> None:
        got = read(bytes.fromhex(data), topic=OWN, name="senml_cbor")
        assert (reasons(got), len(got)) == ([reason], 0)

    def test_map_keys_made_to_collide_take_no_time(self) -> None:
        # cbor2 needs half a minute for these: hash(n) is n modulo 2**61 - 1
        keys = b"".join(b"\xc2\x4c" + (i * (2**61 - 1)).to_bytes(12, "big") + b"\x00" for i in range(1, 40_000))
        before = time.monotonic()
        got = read(b"\x81\xba" + (39_999).to_bytes(4, "big") + keys, topic=OWN, name="senml_cbor")
        assert reasons(got) == ["malformed_cbor"]
        assert time.monotonic() - before < 5

    def test_data_of_a_refused_record_is_shown_in_hexadecimal(self) -> None:
        got = read(
            in_cbor([{"n": "temperature", "vd": b"\x01\xff"}, {"n": "temperature", "v": 1}]),
            topic=OWN,
            name="senml_cbor",
        )
        assert json.loads(got.dead_letters[0].payload)["vd"] == "01ff"


BASES = {
    "bn": st.sampled_from(["", "air-1:", "gauge-1/", "urn:dev:ow:10e2073a0108006:", "nobody:", "gw"]),
    "bt": st.sampled_from([0, -60, 1.5, 1_795_000_000, 1_794_999_999.5, 2**28 - 1]),
    "bu": st.sampled_from(["Cel", "V", "%RH", "kg"]),
    "bv": st.sampled_from([0, 10, -0.25]),
    "bs": st.sampled_from([0, 3]),
}
OWNS = {
    "n": st.sampled_from(["temperature", "humidity", "voltage", "battery_v", ":temperature", "connected", "x y", ""]),
    "u": st.sampled_from(["Cel", "K", "V", "mV", "%RH", "/"]),
    "v": st.one_of(st.integers(-1000, 1000), st.floats(-1e6, 1e6, width=32)),
    "vs": st.just("text"),
    "vb": st.booleans(),
    "s": st.just(4),
    "t": st.sampled_from([0, -1, 2.5, 1_795_000_000, -3600]),
    "ut": st.just(60),
}
RECORD = st.builds(
    lambda bases, own, more: bases | more | own,
    st.fixed_dictionaries({}, optional=BASES),
    st.fixed_dictionaries({"n": OWNS["n"], "v": OWNS["v"]}),
    st.fixed_dictionaries({}, optional={k: v for k, v in OWNS.items() if k not in "nv"}),
)
RECORDS = st.lists(RECORD, min_size=1, max_size=8)


def slowly(records: list[dict[str, Any]]) -> list[tuple[str, str | None, Fraction, Fraction]]:
    """RFC 8428, section 4.6, in exact numbers: (name, unit, time, value) of the records that hold a number alone."""
    out, base = [], {"bn": "", "bt": 0, "bu": None, "bv": 0}
    for record in records:
        base |= {k: v for k, v in record.items() if k in base}
        if {"vs", "vb", "vd"} & record.keys():
            continue
        seconds = Fraction(base["bt"]) + Fraction(record.get("t", 0))
        if seconds < 2**28:
            seconds += Fraction(NOW, S)
        out.append(
            (
                base["bn"] + record.get("n", ""),
                record.get("u", base["bu"]),
                seconds,
                Fraction(base["bv"]) + Fraction(record["v"]),
            )
        )
    return out


@given(RECORDS)
def test_resolved_as_by_the_slow_resolver(records: list[dict[str, Any]]) -> None:
    fast = pack(*records, topic=GATEWAY)
    # Each record that the slow one resolved, sent alone and resolved, gives what it gave within the pack.
    expected = []
    for name, unit, seconds, value in slowly(records):
        record = {"n": name, "t": float(seconds), "v": float(value)} | ({} if unit is None else {"u": unit})
        expected += taken(pack(record))
    got = [one for one in taken(fast) if not one[0].endswith("connected")]
    expected = [one for one in expected if not one[0].endswith("connected")]
    assert [(n, pytest.approx(v, rel=1e-12, abs=1e-9)) for n, v, _ in got] == [(n, v) for n, v, _ in expected]
    assert all(abs(a[2] - b[2]) <= 1000 for a, b in zip(got, expected, strict=True))
    assert len(fast) + len(fast.dead_letters) == len(records)


@given(RECORDS)
def test_json_and_cbor_give_equal_readings(records: list[dict[str, Any]]) -> None:
    as_json, as_cbor = pack(*records), read(in_cbor(records), name="senml_cbor")
    assert taken(as_json) == taken(as_cbor)
    assert [(x.reason, x.device) for x in as_json.dead_letters] == [(x.reason, x.device) for x in as_cbor.dead_letters]
    if len(records) > 1:
        assert [x.payload for x in as_json.dead_letters] == [x.payload for x in as_cbor.dead_letters]


ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=5)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*LABELS, *LABELS.values(), "x", "x_"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.binary(max_size=60))
def test_any_bytes_leave_an_account(data: bytes) -> None:
    for name in ("senml_json", "senml_cbor"):
        got = read(data, name=name)
        got.finish()
        assert len(got) + len(got.dead_letters) >= 1


@given(st.lists(ANYTHING, max_size=4) | ANYTHING)
def test_anything_leaves_an_account(content: Any) -> None:
    got = read(cbor2.dumps(content), name="senml_cbor")
    got.finish()
    assert len(got) + len(got.dead_letters) >= 1
    text = (
        json.dumps(content, default=lambda data: data.hex(), skipkeys=True) if not isinstance(content, bytes) else '""'
    )
    got = read(text.encode(), name="senml_json")
    got.finish()
    assert len(got) + len(got.dead_letters) >= 1


def test_one_decoder_serves_both_topics_and_encodings() -> None:
    assert FORMATS["senml_json"] is SenmlJson
    assert FORMATS["senml_cbor"] is SenmlCbor


def test_the_guide_to_a_new_format_works() -> None:
    """docs/formats.md: the class stands there as it is executed here."""
    text = (Path(__file__).parents[2] / "docs" / "formats.md").read_text()
    code = textwrap.dedent(text.split("```python\n")[1].split("```")[0])
    names: dict[str, Any] = {}
    exec(
        "from ingest.formats.pantau_json import number_of, parse, unknown_property\n"
        "from ingest.readings import Readings, RefusedError\nfrom ingest.refusals import Reason\n" + code,
        names,
    )
    made = names["MyFormat"]()
    for payload, expected in (
        (b'{"serial": "gauge-1", "level": 125}', ([1.25], [])),
        (b'{"serial": "nobody", "level": 125}', ([], ["unknown_device"])),
        (b'{"serial": "air-1", "level": 125}', ([], ["unknown_property"])),
        (b'{"serial": "gauge-1"}', ([], ["wrong_type"])),
        (b"[]", ([], ["wrong_type"])),
        (b"", ([], ["empty_payload"])),
    ):
        readings = Readings(CITY, Limits())
        readings.message = readings.announce("b", [b"t"], [payload])
        readings.begin(NOW, NOW)
        made.decode("t", payload, readings)
        assert (readings.value, reasons(readings)) == expected


@pytest.mark.mosquitto
def test_on_a_real_broker_by_feed_and_by_the_devices_model() -> None:
    with Mosquitto() as broker:
        feeds = (Feed("senml/+", "senml_json"), Feed("cbor/#", "senml_cbor"), Feed("ngsi", "smart_data_models"))
        settings = BrokerSettings("field", broker.host, broker.port, feeds=feeds, **FAST)  # type: ignore[arg-type]
        with receiving(settings) as receiver, Publisher(broker.port) as sender:
            sender.send("senml/air-1", '[{"n":"temperature","v":1},{"n":"humidity","v":2}]')
            sender.send("cbor/x/y", in_cbor([{"n": "air-1:temperature", "v": 3, "t": -1}]))
            sender.send("ngsi", '{"id":"urn:ngsi-ld:WeatherObserved:air-1","type":"WeatherObserved","temperature":4}')
            sender.send(OWN, '[{"n":"dist","v":500},{"n":"air-1:temperature","v":9}]')  # radar: senml_json; no gateway
            sender.send("pantau/v1/demo/air-1", '{"property":"temperature_c","value":6}')  # no model: Pantau JSON
            batches = collect(receiver, 5, city=CITY)
    assert sorted(value for batch in batches for value in batch.observations.value.tolist()) == [1, 2, 3, 4, 5, 6]
    (letter,) = [letter for batch in batches for letter in batch.dead_letters]
    assert (letter.reason.value, letter.format, letter.fragment) == ("not_a_gateway", "pantau_json", True)


def test_a_device_registered_late_gets_its_earlier_records(tmp_path: Path) -> None:
    records = [{"bn": "urn:dev:mac:0102030405060708:", "bt": NOW / S - 60, "n": "temperature", "u": "K", "v": 300}]
    records += [{"n": "humidity", "u": "%RH", "v": 50, "t": 5}, {"n": "gauge-1:temperature", "bn": "", "v": 1}]
    late = Directory(
        version=2,
        city="demo",
        utc_offset_h=7,
        sites=CITY.sites,
        devices=(*CITY.devices, Device("new-1", "s", names=("0102030405060708",))),
        datastreams=(
            *CITY.datastreams,
            Datastream("t", "s", "new-1", "temperature_c"),
            Datastream("h", "s", "new-1", "humidity_percent"),
        ),
    )
    got = pack(*records, topic="senml", feed=True)
    assert reasons(got) == ["unknown_device", "unknown_device"]
    settings = BrokerSettings("b", "127.0.0.1", 1, feeds=(Feed("senml", "senml_json"),))
    receiver = Receiver((settings,), city="demo")
    with DeadLetters(tmp_path / "letters.sqlite") as letters:
        letters.keep(got.dead_letters)
        assert mark_mended(letters, late) == 2
        batch = receiver.take_again(late, letters.marked(10, 10_000_000), NOW)
    assert batch.observations.value.tolist() == pytest.approx([26.85, 50])
    assert batch.observations.observed_at.tolist() == [NOW - 60 * S, NOW - 55 * S]
