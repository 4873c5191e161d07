"""Pantau JSON: every reason with an example, exact times, and agreement with a plain reference."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest.dead_letters import DeadLetter, Reason
from ingest.formats import pantau_json
from ingest.formats.pantau_json import decode_clock
from ingest.formats.times import time_ns
from ingest.readings import Readings, RefusedError
from ingest.senders import Senders
from ingest.settings import Limits
from telemetry.observations import Observations
from telemetry.properties import PROPERTIES, conversion
from tests.ingest.small_city import directory, topic

CITY = directory()
NOW = 1_732_447_931_000_000_000  # 2024-11-24T11:32:11Z
S = 1_000_000_000
NOW_TEXT = "2024-11-24T11:32:11Z"
SENDERS = Senders(lambda topic: CITY.feed_of.get(topic.decode().rpartition("/")[2]))


def decode(
    payload: bytes, device: str = "gauge-1", received_at: int | None = NOW, now: int | None = NOW
) -> tuple[Observations, list[DeadLetter]]:
    readings = Readings(CITY, Limits())
    readings.announce("main", [topic(device).encode()], [payload])
    readings.begin(received_at, now)
    pantau_json.decode(payload, CITY.index_of[device], readings)
    return readings.finish(), readings.dead_letters


def rows(observations: Observations) -> list[tuple[str, int, float]]:
    return [
        (CITY.datastreams[d].id, t, v)
        for d, t, v in zip(
            observations.datastream.tolist(),
            observations.observed_at.tolist(),
            observations.value.tolist(),
            strict=True,
        )
    ]


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        # One reading.
        ({"time": NOW_TEXT, "property": "water_level_m", "value": 1.24}, [("gauge-1:water_level_m", NOW, 1.24)]),
        (
            {"time": NOW_TEXT, "property": "water_level_m", "value": 124, "unit": "cm"},
            [("gauge-1:water_level_m", NOW, 1.24)],
        ),
        ({"property": "water_level_m", "value": -3}, [("gauge-1:water_level_m", NOW, -3.0)]),
        (
            {"property": "water_level_m", "value": 1, "unit": None, "time": None, "firmware": [1, {"a": 2}]},
            [("gauge-1:water_level_m", NOW, 1.0)],
        ),
        # 212 °F is 100 °C.
        ({"property": "temperature_c", "value": 212, "unit": "°F"}, [("gauge-1:temperature_c", NOW, 100.0)]),
        ({"property": "connected", "value": True}, [("gauge-1:connected", NOW, 1.0)]),
        ({"values": {"connected": False}}, [("gauge-1:connected", NOW, 0.0)]),
        # Several values.
        (
            {"time": NOW_TEXT, "values": {"water_level_m": 124, "battery_v": 3.6}, "units": {"water_level_m": "cm"}},
            [("gauge-1:water_level_m", NOW, 1.24), ("gauge-1:battery_v", NOW, 3.6)],
        ),
        # Lists, and other devices in them.
        (
            [
                {"time": NOW // S - 5, "property": "battery_v", "value": 3.5},
                {"time": NOW // S, "device": "lamp-1", "values": {"lamp_power_w": 90, "battery_v": 1}},
            ],
            [
                ("gauge-1:battery_v", NOW - 5 * S, 3.5),
                ("lamp-1:lamp_power_w", NOW, 90.0),
                ("lamp-1:battery_v", NOW, 1.0),
            ],
        ),
        (
            {"readings": [{"property": "battery_v", "value": 3.5}], "gateway": "g"},
            [("gauge-1:battery_v", NOW, 3.5)],
        ),
        (
            {"device": "lamp-1", "time": NOW // S - 1, "readings": [{"property": "battery_v", "value": 3.5}]},
            [("lamp-1:battery_v", NOW - S, 3.5)],
        ),
    ],
)
def test_the_forms(payload: Any, expected: list[tuple[str, int, float]]) -> None:
    observations, dead = decode(json.dumps(payload).encode())
    assert not dead
    got = rows(observations)
    assert [r[:2] for r in got] == [r[:2] for r in expected]
    assert [r[2] for r in got] == pytest.approx([r[2] for r in expected], rel=1e-15)
    assert set(observations.flag.tolist()) == {2}
    assert set(observations.received_at.tolist()) == {NOW}


@pytest.mark.parametrize(
    ("payload", "reason", "words"),
    [
        (b"", Reason.EMPTY_PAYLOAD, "payload is empty"),
        (b" \n", Reason.EMPTY_PAYLOAD, "payload is empty"),
        (b'{"property": "\xff", "value": 1}', Reason.INVALID_UTF8, "not UTF-8"),
        (b"\xff\xfe{", Reason.INVALID_UTF8, "not UTF-8"),
        (b'{"property": "water_level_m", "value": 1', Reason.MALFORMED_JSON, "not JSON"),
        (b'\xef\xbb\xbf{"property": "water_level_m", "value": 1}', Reason.MALFORMED_JSON, "not JSON"),
        (b'{"property": "water_level_m", "value": 1} {}', Reason.MALFORMED_JSON, "trailing"),
        (b"[" * 100_000, Reason.MALFORMED_JSON, "too deeply"),
        (b"1.5", Reason.WRONG_TYPE, "$ must be an object, got the number 1.5"),
        (b"null", Reason.WRONG_TYPE, "$ must be an object, got null"),
        (b'{"readings": {}}', Reason.WRONG_TYPE, "$.readings must be a list, got an object"),
        (b'["x"]', Reason.WRONG_TYPE, "$[0] must be an object, got the string 'x'"),
        (b'[[{"property": "battery_v", "value": 1}]]', Reason.WRONG_TYPE, "$[0] must be an object, got a list"),
        (b"{}", Reason.WRONG_TYPE, "$.property is missing"),
        (b'{"property": 5, "value": 1}', Reason.WRONG_TYPE, "$.property must be a string, got the number 5"),
        (b'{"property": "battery_v", "value": "1.2"}', Reason.WRONG_TYPE, "$.value must be a number, got the string"),
        (b'{"property": "battery_v", "value": true}', Reason.WRONG_TYPE, "$.value must be a number, got true"),
        (b'{"values": {"battery_v": [1]}}', Reason.WRONG_TYPE, "$.values.battery_v must be a number, got a list"),
        (b'{"values": [1]}', Reason.WRONG_TYPE, "$.values must be an object, got a list"),
        (b'{"values": {"battery_v": 1}, "units": "V"}', Reason.WRONG_TYPE, "$.units must be an object"),
        (b'{"values": {"battery_v": 1}, "units": {"battery_v": 1}}', Reason.WRONG_TYPE, "unit must be a string"),
        (b'{"values": {"battery_v": 1}, "unit": "mV"}', Reason.WRONG_TYPE, "$.unit must not stand beside values"),
        (b'{"property": "battery_v", "value": 1, "units": {"battery_v": "mV"}}', Reason.WRONG_TYPE, "$.units goes"),
        (b'{"property": "battery_v", "value": 1, "unit": 1}', Reason.WRONG_TYPE, "unit must be a string"),
        (b'{"property": "battery_v", "value": 1, "time": {}}', Reason.WRONG_TYPE, "$.time must be a string or a num"),
        (b'{"property": "battery_v", "value": 1, "time": true}', Reason.WRONG_TYPE, "$.time must be a string or a n"),
        (b'{"property": "battery_v", "value": 1, "device": 3}', Reason.WRONG_TYPE, "$.device must be a string"),
        (b"[]", Reason.NO_READINGS, "$ is an empty list"),
        (b'{"readings": []}', Reason.NO_READINGS, "$.readings is an empty list"),
        (b'{"values": {}}', Reason.NO_READINGS, "$.values is empty"),
        (b'{"property": "battery_v", "value": null}', Reason.MISSING_VALUE, "$.value is null or missing"),
        (b'{"property": "battery_v"}', Reason.MISSING_VALUE, "$.value is null or missing"),
        (b'{"values": {"battery_v": null}}', Reason.MISSING_VALUE, "$.values.battery_v is null"),
        (b'{"property": "battery_v", "value": NaN}', Reason.NOT_FINITE, "$.value is not a finite number"),
        (b'{"property": "battery_v", "value": -Infinity}', Reason.NOT_FINITE, "$.value is not a finite number"),
        (b'{"property": "battery_v", "value": 1e999}', Reason.NOT_FINITE, "$.value is not a finite number"),
        (b'{"property": "battery_v", "value": 1' + b"0" * 400 + b"}", Reason.NOT_FINITE, "not a finite number"),
        (b'{"property": "battery_v", "value": 1' + b"0" * 9000 + b"}", Reason.NOT_FINITE, "not a finite number"),
        (b'{"property": "battery_v", "value": 1, "time": NaN}', Reason.NOT_FINITE, "$.time is not finite"),
        (b'{"property": "water_level_m", "value": 1, "unit": "Cel"}', Reason.WRONG_UNIT, "'Cel' can't be turned into"),
        (b'{"property": "rain_mm", "value": 1}', Reason.UNKNOWN_PROPERTY, "no datastream of rain_mm"),
        (b'{"property": "mood", "value": 1}', Reason.UNKNOWN_PROPERTY, "'mood' is no observed property"),
        (b'{"values": {"mood": "good"}}', Reason.UNKNOWN_PROPERTY, "'mood' is no observed property"),
        (
            b'{"device": "ghost", "property": "battery_v", "value": 1}',
            Reason.UNKNOWN_DEVICE,
            "no device is registered by the name 'ghost'",
        ),
        (b'{"property": "battery_v", "value": 1, "time": "2024-11-24T11:32:11"}', Reason.TIME_WITHOUT_ZONE, "zone"),
        (b'{"property": "battery_v", "value": 1, "time": "yesterday"}', Reason.MALFORMED_TIME, "'yesterday'"),
        (b'{"property": "battery_v", "value": 1, "time": "2024-11-24"}', Reason.MALFORMED_TIME, "'2024-11-24'"),
        (b'{"property": "battery_v", "value": 1, "time": "2023-02-29T00:00:00Z"}', Reason.MALFORMED_TIME, "day"),
        (b'{"property": "battery_v", "value": 1, "time": "2024-11-24T11:38:11Z"}', Reason.TIME_IN_FUTURE, "360 s"),
        (b'{"property": "battery_v", "value": 1, "time": 1e300}', Reason.TIME_IN_FUTURE, "after the year 2261"),
        (b'{"property": "battery_v", "value": 1, "time": -1e300}', Reason.TIME_TOO_OLD, "before the year 1678"),
        (b'{"property": "battery_v", "value": 1, "time": 1' + b"0" * 400 + b"}", Reason.TIME_IN_FUTURE, "2261"),
        (b'{"property": "battery_v", "value": 1, "time": "9999-12-31T23:59:59Z"}', Reason.TIME_IN_FUTURE, "9999"),
        (b'{"property": "battery_v", "value": 1, "time": "0001-01-01T00:00:00Z"}', Reason.TIME_TOO_OLD, "0001"),
        (b'{"property": "battery_v", "value": 1, "time": 0}', Reason.CLOCK_NOT_SET, "1970-01-01T00:00:00.000Z is"),
    ],
)
def test_each_reason(payload: bytes, reason: Reason, words: str) -> None:
    observations, dead = decode(payload)
    assert len(observations) == 0
    assert [d.reason for d in dead] == [reason]
    assert words in dead[0].detail
    assert len(dead[0].detail) < 400
    assert dead[0].topic == topic("gauge-1")
    assert dead[0].broker == "main"
    assert dead[0].received_at == NOW
    if len(payload) < 65_536:
        assert dead[0].payload == payload


def test_a_value_that_overflows_in_the_unit_of_the_property_is_not_finite() -> None:
    payload = b'{"property": "co_ug_m3", "value": 1e308, "unit": "ppm"}'
    observations, dead = decode(payload, device="meter-1")
    assert len(observations) == 0
    assert [(d.reason, d.device, d.payload) for d in dead] == [(Reason.NOT_FINITE, "meter-1", payload)]


def test_the_good_readings_of_a_payload_pass_and_each_bad_one_is_kept_with_its_reason() -> None:
    payload = json.dumps(
        [
            {"time": NOW // S, "property": "water_level_m", "value": 1.0},
            {"time": NOW // S, "property": "water_level_m", "value": "high"},
            {"device": "lamp-1", "time": NOW // S, "values": {"lamp_power_w": 80, "battery_v": None, "mood": 1}},
            {"device": "ghost", "time": NOW // S, "values": {"battery_v": 1, "lamp_power_w": 2}},
            {"device": "lamp-1", "time": NOW // S + 3333, "values": {"battery_v": 3, "lamp_power_w": 2}},
            {"property": "battery_v", "value": float("nan")},
            17,
        ]
    ).encode()
    observations, dead = decode(payload)
    assert rows(observations) == [("gauge-1:water_level_m", NOW, 1.0), ("lamp-1:lamp_power_w", NOW, 80.0)]
    assert [(d.reason, d.device) for d in dead] == [
        (Reason.WRONG_TYPE, "gauge-1"),
        (Reason.MISSING_VALUE, "lamp-1"),
        (Reason.UNKNOWN_PROPERTY, "lamp-1"),
        (Reason.UNKNOWN_DEVICE, "ghost"),
        (Reason.UNKNOWN_DEVICE, "ghost"),
        (Reason.NOT_FINITE, "gauge-1"),
        (Reason.WRONG_TYPE, "gauge-1"),
        (Reason.TIME_IN_FUTURE, "lamp-1"),
        (Reason.TIME_IN_FUTURE, "lamp-1"),
    ]
    assert json.loads(dead[0].payload)["value"] == "high"
    assert json.loads(dead[1].payload) == {
        "device": "lamp-1",
        "time": NOW // S,
        "property": "battery_v",
        "value": None,
        "unit": None,
    }
    assert "$[2].values.battery_v" in dead[1].detail
    assert dead[6].payload == b"17"


def test_without_a_clock_there_is_no_check_of_times_but_also_no_time_of_reception() -> None:
    observations, dead = decode(b'{"property": "battery_v", "value": 1, "time": 0}', received_at=None, now=None)
    assert not dead
    assert observations.received_at.tolist() == [0]
    _, dead = decode(b'{"property": "battery_v", "value": 1}', received_at=None, now=None)
    assert [d.reason for d in dead] == [Reason.NO_TIME]
    assert dead[0].received_at is None


@pytest.mark.parametrize(
    ("seconds", "passes"), [(300, True), (300.000001, False), (-30 * 86_400, True), (-30 * 86_400 - 0.000001, False)]
)
def test_the_bounds_of_time_are_inclusive(seconds: float, passes: bool) -> None:
    time_us = NOW // 1000 + round(seconds * 1e6)
    observations, dead = decode(b'{"property": "battery_v", "value": 1, "time": %d}' % time_us)
    assert (len(observations) == 1) is passes
    assert (not dead) is passes


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        # Hand arithmetic from 2024-11-24T11:32:11Z = 1732447931 s (date -u -d @1732447931).
        (1_732_447_931, NOW),
        (1_732_447_931_123, NOW + 123_000_000),
        (1_732_447_931_123_456, NOW + 123_456_000),
        (1_732_447_931_123_456_789, NOW + 123_456_789),
        (1_732_447_931.123456, NOW + 123_456_000),
        (1_732_447_931_123.456, NOW + 123_456_000),
        (1_732_447_931_123_456.0, NOW + 123_456_000),
        (99_999_999_999, None),  # seconds, year 5138
        (100_000_000_000, 100_000_000_000_000_000),  # milliseconds, 1973
        (-1, -S),
        (-0.5, -S // 2),
        (2**63 - 1, 2**63 - 1),
        (2**63, None),
        (-(2**63), -(2**63)),
        (NOW_TEXT, NOW),
        ("2024-11-24T18:32:11+07:00", NOW),
        ("2024-11-24t11:32:11z", NOW),
        ("2024-11-24 11:32:11Z", NOW),
        ("2024-11-23T23:32:11.000000001-12:00", NOW + 1),
        ("2024-11-24T11:32:11.123456789Z", NOW + 123_456_789),
        ("2024-11-24T11:32:11.1234567899999999999Z", NOW + 123_456_789),
        ("2016-12-31T23:59:60Z", 1_483_228_800 * S),  # the leap second, as the second that follows it
    ],
)
def test_times(time: Any, expected: int | None) -> None:
    for _ in range(2):  # the second time from the cache
        if expected is None:
            with pytest.raises(RefusedError):
                time_ns(time)
        else:
            assert time_ns(time) == expected


@pytest.mark.parametrize(
    "time",
    [
        "2024-11-24T11:32Z",
        "2024-11-24T11:32:61Z",
        "2024-11-24T24:00:00Z",
        "2024-11-24T11:60:00Z",
        "2024-13-24T11:32:11Z",
        "2024-11-24T11:32:11+24:00",
        "2024-11-24T11:32:11+0700",
        "2024-11-24T11:32:11.Z",
        "2024-11-24T11:32:11,5Z",
        "2024-11-24T11:32:11Z ",
        "2024-11-24T11:32:11Z\n",
        "٢٠٢٤-11-24T11:32:11Z",
        "20241124T113211Z",
        "1732447931",
        "",
    ],
)
def test_strings_that_are_no_time(time: str) -> None:
    with pytest.raises(RefusedError) as raised:
        time_ns(time)
    assert raised.value.reason is Reason.MALFORMED_TIME


@given(
    st.datetimes(datetime.datetime(1700, 1, 1), datetime.datetime(2250, 1, 1)),
    st.integers(-23 * 60 - 59, 23 * 60 + 59),
)
def test_times_agree_with_the_standard_library(moment: datetime.datetime, zone_min: int) -> None:
    aware = moment.replace(tzinfo=datetime.timezone(datetime.timedelta(minutes=zone_min)))
    expected = (aware - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) // datetime.timedelta(microseconds=1)
    assert time_ns(aware.isoformat()) == expected * 1000


@given(st.integers(-(10**17) + 1, 10**17 - 1))
def test_a_number_of_microseconds_is_the_same_whichever_way_it_is_written(us: int) -> None:
    """From 1990 to 2038 a float64 of seconds is exact to the microsecond; outside, the forms are told apart by size."""
    us = 631_152_000_000_000 + us % 1_500_000_000_000_000
    assert time_ns(us) == us * 1000
    assert time_ns(us / 1_000_000) == us * 1000
    assert time_ns(us / 1000) == us * 1000


def test_the_clock_message() -> None:
    assert decode_clock(b'{"now": "2024-11-24T11:32:11Z", "speed": 60}') == (NOW, 60.0)
    assert decode_clock(b'{"now": 1732447931}') == (NOW, 1.0)
    bad = [b"", b"[]", b"{}", b'{"now": null}', b'{"now": 1e400}', b'{"now": "x"}', b"\xff"]
    bad += [b'{"now": 0, "speed": %b}' % speed for speed in (b"0", b"-1", b"true", b"NaN", b"1" + b"0" * 4000, b'"1"')]
    for payload in bad:
        with pytest.raises(RefusedError):
            decode_clock(payload)


# A plain reference, written for clarity: standard library, one reading at a time, exact arithmetic.


def reference(payload: bytes, device: str) -> tuple[list[tuple[str, int, float]], int] | None:
    """(readings, number refused), or None where the payload is refused as a whole."""
    try:
        content = json.loads(payload.decode(), parse_float=Decimal)
    except (ValueError, RecursionError):
        return None
    common: dict[str, Any] = {}
    if isinstance(content, dict) and "readings" in content:
        common = {k: content[k] for k in ("device", "time") if content.get(k) is not None}
        content = content["readings"]
        if not isinstance(content, list):
            return None
    items = content if isinstance(content, list) else [content]
    if not items:
        return None
    good, bad = [], 0
    for item in items:
        if not isinstance(item, dict):
            bad += 1
            continue
        item = common | item
        if "values" in item:
            values, units = item["values"], item.get("units")
            if (
                any(item.get(k) is not None for k in ("property", "value", "unit"))
                or not isinstance(values, dict)
                or not (units is None or isinstance(units, dict))
                or not values
            ):
                bad += 1
                continue
            units = units or {}
        else:
            if not isinstance(item.get("property"), str) or item.get("units") is not None:
                bad += 1
                continue
            values, units = {item["property"]: item.get("value")}, {item["property"]: item.get("unit")}
        for name, value in values.items():
            reading = reference_reading(item, name, value, units.get(name), device)
            good += [reading] if reading else []
            bad += reading is None
    return good, bad


def reference_reading(item: dict[str, Any], name: str, value: Any, unit: Any, device: str) -> Any:
    named = item.get("device")
    if named is not None:
        device = named if isinstance(named, str) else "?"
    if device not in CITY.index_of or name not in CITY.index_of[device]:
        return None
    if isinstance(value, bool):
        if name != "connected":
            return None
        value = int(value)
    if not isinstance(value, (int, Decimal)) or (isinstance(value, Decimal) and not value.is_finite()):
        return None
    if unit is not None and (not isinstance(unit, str) or conversion(name, unit) is None):
        return None
    scale, offset = conversion(name, unit) if unit is not None else (1.0, 0.0)  # type: ignore[misc]
    time = item.get("time")
    if time is None:
        ns = NOW
    elif isinstance(time, str):
        try:
            moment = datetime.datetime.fromisoformat(time)
        except ValueError:
            return None
        if moment.tzinfo is None:
            return None
        since = moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
        ns = since // datetime.timedelta(microseconds=1) * 1000
    elif isinstance(time, (int, Decimal)) and not isinstance(time, bool):
        factor = next((f for bound, f in ((11, 9), (14, 6), (17, 3)) if abs(time) < 10**bound), 0)
        ns = round(Fraction(time) * 10**factor)
    else:
        return None
    if not NOW - 30 * 86_400 * S <= ns <= NOW + 300 * S:
        return None
    return f"{device}:{name}", ns, float(value) * scale + offset


NAMES = st.sampled_from(sorted(PROPERTIES)) | st.sampled_from(
    ["water_level_m", "battery_v", "connected", "temperature_c", "lamp_power_w", "mood"]
)
NUMBERS = st.integers(-1000, 1000) | st.integers(-(10**6), 10**6).map(lambda n: n / 1000)
VALUES = NUMBERS | st.sampled_from([None, True, False, "1.5", [], {}, ""])
SECONDS = st.integers(NOW // S - 40 * 86_400, NOW // S + 400)
TIMES = (
    SECONDS
    | SECONDS.map(lambda s: s * 1000 + 7)
    | SECONDS.map(lambda s: s * 1_000_000 + 123_457)
    | SECONDS.map(lambda s: s * S + 123_456_789)
    | st.tuples(SECONDS, st.integers(0, 999_999)).map(lambda p: float(f"{p[0]}.{p[1]:06d}"))
    | st.tuples(SECONDS, st.integers(0, 999)).map(lambda p: float(f"{p[0]}000.{p[1]:03d}"))
    | st.tuples(SECONDS, st.integers(-12, 14), st.integers(0, 999_999)).map(
        lambda p: (
            datetime.datetime.fromtimestamp(p[0], datetime.timezone(datetime.timedelta(hours=p[1])))
            .replace(microsecond=p[2])
            .isoformat()
        )
    )
    | st.sampled_from([None, "2024-11-24T11:32:11", "soon", True, [], 0, 10**300, -(10**20), 10**18])
)
UNITS = st.sampled_from([None, "m", "cm", "ft", "V", "mV", "Cel", "K", "W", 5])
SINGLE = st.fixed_dictionaries(
    {}, optional={"property": NAMES | st.none(), "value": VALUES, "time": TIMES, "unit": UNITS, "x": VALUES}
)
GOOD = st.fixed_dictionaries(
    {"property": st.sampled_from(["water_level_m", "temperature_c"]), "value": NUMBERS},
    optional={"time": SECONDS, "unit": st.sampled_from(["m", "cm", "Cel", "degF"])},
)
SEVERAL = st.fixed_dictionaries(
    {"values": st.dictionaries(NAMES, VALUES, max_size=4) | VALUES},
    optional={
        "time": TIMES,
        "units": st.dictionaries(NAMES, UNITS, max_size=3) | VALUES,
        "unit": UNITS,
        "property": NAMES,
        "device": st.sampled_from([None, "lamp-1", "ghost", 3]),
    },
)
NAMED = st.tuples(SINGLE, st.sampled_from(["lamp-1", "gauge-1", "ghost", None, 7])).map(
    lambda pair: pair[0] | {"device": pair[1]}
)
ITEMS = st.lists(SINGLE | GOOD | SEVERAL | NAMED | VALUES, max_size=6)
PAYLOADS = (
    SINGLE
    | GOOD
    | SEVERAL
    | ITEMS
    | st.fixed_dictionaries(
        {"readings": ITEMS | VALUES},
        optional={"device": st.sampled_from(["lamp-1", "ghost", 4, None]), "time": TIMES},
    )
)


@settings(max_examples=400)
@given(PAYLOADS)
def test_good_and_refused_readings_agree_with_the_reference(content: Any) -> None:
    payload = json.dumps(content).encode()
    observations, dead = decode(payload)
    expected = reference(payload, "gauge-1")
    if expected is None:
        assert len(observations) == 0
        assert len(dead) == 1
        return
    good, refused = expected
    got = rows(observations)
    assert [r[:2] for r in got] == [r[:2] for r in good]
    assert [r[2] for r in got] == pytest.approx([r[2] for r in good], rel=1e-12, abs=1e-12)
    assert len(dead) == refused


@given(st.binary(max_size=200))
@example(b'{"values": {"battery_v": ' + b"[" * 900 + b"]" * 900 + b', "mood": 1}}')
@example(b'[{"property": "battery_v", "value": ' + b"9" * 4200 + b'}, {"property": "\\ud800"}]')
@example(b'[{"property": "\\ud800", "value": NaN}]')
def test_no_bytes_whatever_raise(payload: bytes) -> None:
    observations, dead = decode(payload)
    assert len(observations) + len(dead) >= 1


MUTATIONS = st.tuples(PAYLOADS, st.integers(0, 10_000), st.binary(max_size=3)).map(
    lambda p: (lambda b: b[: p[1] % (len(b) + 1)] + p[2] + b[p[1] % (len(b) + 1) + len(p[2]) // 2 :])(
        json.dumps(p[0]).encode()
    )
)


@settings(max_examples=300)
@given(MUTATIONS)
def test_no_damaged_payload_raises_or_vanishes(payload: bytes) -> None:
    observations, dead = decode(payload)
    assert len(observations) + len(dead) >= 1


def test_only_a_gateway_speaks_for_others() -> None:
    readings = Readings(CITY, Limits())
    reading = {"property": "battery_v", "value": 3.6}
    payload = json.dumps([reading | {"device": "gauge-1"}, reading | {"device": "lamp-1"}]).encode()
    readings.announce("main", [b"pantau/v1/kota/lamp-1"], [payload])
    readings.begin(NOW, NOW)
    pantau_json.decode(payload, readings.feed_of["lamp-1"], readings)
    assert len(readings.finish()) == 1
    [letter] = readings.dead_letters
    assert letter.reason is Reason.NOT_A_GATEWAY
    assert letter.device == "lamp-1"  # who sent it, not whose name it took
    assert "names 'gauge-1'" in letter.detail


ITEMS = st.lists(
    st.fixed_dictionaries(
        {
            "property": st.sampled_from(["water_level_m", "battery_v", "temperature_c", "mood"]),
            "value": st.one_of(st.floats(-5, 5), st.integers(-5, 5), st.none()),
        },
        optional={
            "time": st.sampled_from([NOW_TEXT, NOW // S, "2024-11-24T13:32:11Z", "yesterday", None]),
            "unit": st.sampled_from(["m", "V", "cm", None]),
            "device": st.sampled_from(["gauge-1", "lamp-1", "ghost", None]),
        },
    ),
    min_size=1,
    max_size=8,
)


@given(items=ITEMS, wrapped=st.booleans())
def test_the_short_way_of_lists_is_the_careful_one(items: list[dict[str, Any]], wrapped: bool) -> None:
    plain = json.dumps({"readings": items} if wrapped else items).encode()
    odd = [item | {"note": "an unknown field, which only the careful way allows"} for item in items]
    careful = json.dumps({"readings": odd} if wrapped else odd).encode()
    (short, refused), (long, refused_too) = decode(plain), decode(careful)
    assert rows(short) == rows(long)
    assert [(x.reason, x.detail, x.device) for x in refused] == [(x.reason, x.detail, x.device) for x in refused_too]
    for a, b in zip(refused, refused_too, strict=True):
        first, second = json.loads(a.payload), json.loads(b.payload)
        if isinstance(second, dict) and "note" in second:
            assert first == {key: value for key, value in second.items() if key != "note"}


PLAIN = st.builds(
    lambda property_name, value, time, unit: json.dumps(
        {"property": property_name, "value": value}
        | ({"time": time} if time else {})
        | ({"unit": unit} if unit else {})
    ).encode(),
    st.sampled_from(["water_level_m", "battery_v"]),
    st.floats(-5, 5),
    st.sampled_from([NOW_TEXT, NOW // S, 1732447931.5, "2024-11-24T18:32:11+07:00"]),
    st.sampled_from(["", "m", "V"]),
)
ODD = st.sampled_from(
    [
        b"",
        b" ",
        b"\n",
        b"{}",
        b"{",
        b"}",
        b'{"property":"water_level_m","value":1,"time":1732447931}{"property":"battery_v","value":9,"time":1732447931}',
        b'{"property":"water_level_m","value":1,"time":1732447931}\n{"property":"battery_v","value":9,"time":1732447931}',
        b'{"property":"water_level_m","value":1,"time":',
        b"1732447931}",
        b'{"property":"water_level_m",',
        b'{"value":2}',
        b'{"property":"x{","value":1}',
        b'{"property":"mood","value":1,"time":1732447931}',
        b'{"property":"battery_v","value":1,"unit":"cm","time":1732447931}',
        b'{"property":"battery_v","value":1}',
        b'[{"property":"battery_v","value":1,"time":1732447931}]',
    ]
)


LISTS = st.builds(
    lambda items, group: json.dumps({"readings": items} if group else items).encode(),
    st.lists(
        st.one_of(
            PLAIN.map(json.loads),
            st.builds(
                lambda device, value, time: {"device": device, "property": "battery_v", "value": value, "time": time},
                st.sampled_from(["gauge-1", "lamp-1", "lamp-1", "nobody"]),
                st.floats(-5, 5),
                st.sampled_from([NOW_TEXT, NOW // S, 1]),
            ),
        ),
        max_size=4,
    ),
    st.booleans(),
)
ODD_LISTS = st.sampled_from(
    [
        b"[]",
        b"[",
        b'[{"property":"battery_v","value":1,"time":1732447931},',
        b'{"property":"battery_v","value":2,"time":1732447931}]',
        b'{"readings":[{"property":"battery_v","value":1,"time":1732447931},',
        b'{"property":"battery_v","value":2,"time":1732447931}]}{"readings":[]}',
        b'{"readings":[]}',
        b'[{"property":"battery_v","value":1}]',
        b'[{"property":"battery_v","value":1},{"property":"water_level_m","value":1e400}]',
    ]
)


@given(
    payloads=st.one_of(
        st.lists(PLAIN, min_size=1, max_size=6),
        st.lists(LISTS, min_size=1, max_size=5),
        st.lists(st.one_of(PLAIN, ODD), min_size=1, max_size=6),
        st.lists(st.one_of(LISTS, ODD_LISTS), min_size=1, max_size=5),
    ),
    device=st.sampled_from(["gauge-1", "gauge-1", "lamp-1"]),
)
@example(payloads=[b'{"property":"battery_v","value":1}'] * 2, device="gauge-1")
@example(payloads=[b'[{"property":"battery_v","value":1}]', b'[{"property":"battery_v","value":2}]'], device="gauge-1")
@example(payloads=[b'{"readings":[{"property":"battery_v","value":1,"unit":"mV"}]}'] * 2, device="gauge-1")
@example(
    payloads=[
        b'[{"device":"lamp-1","property":"battery_v","value":1,"time":1},{"property":"battery_v","value":2,"time":2}]'
    ],
    device="gauge-1",
)
def test_messages_that_are_taken_together_are_taken_as_they_are_one_by_one(payloads: list[bytes], device: str) -> None:
    topics = [topic(device).encode()] * len(payloads)

    def collect() -> Readings:
        readings = Readings(CITY, Limits())
        number = readings.announce("main", topics, payloads)
        assert number == 0
        readings.begin(NOW, NOW)
        return readings

    together, alone = collect(), collect()
    for number, payload in enumerate(payloads):
        alone.message = number
        pantau_json.decode(payload, CITY.feed_of[device], alone)
    if not pantau_json.decode_together(payloads, topics, SENDERS, together, 0):
        assert len(together) == 0 and together.dead_letters == []
        return
    assert (together.feed, together.observed_at, together.value) == (alone.feed, alone.observed_at, alone.value)
    assert together.origin == alone.origin and alone.dead_letters == []
    first, second = together.finish(), alone.finish()
    assert first.remark.tolist() == second.remark.tolist()
    assert together.dead_letters == alone.dead_letters


def test_a_chunk_of_plain_messages_is_taken_together() -> None:
    payloads = [json.dumps({"property": "battery_v", "value": v, "time": NOW_TEXT}).encode() for v in (1.0, 2.0, 3.0)]
    readings = Readings(CITY, Limits())
    readings.announce("main", [b"pantau/v1/demo/lamp-1"] * 3, payloads)
    readings.begin(NOW, NOW)
    assert pantau_json.decode_together(payloads, [b"pantau/v1/demo/lamp-1"] * 3, SENDERS, readings, 0)
    assert readings.value == [1.0, 2.0, 3.0] and readings.origin == [0, 1, 2]
