"""Sessions, readings, births and deaths of Sparkplug B edge nodes."""

from __future__ import annotations

import base64
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.dead_letters import Reason
from ingest.formats import sparkplug
from ingest.formats.sparkplug import Sparkplug
from telemetry.directory import Datastream, Device, Directory, Field, Payload, Site
from telemetry.presence import Presence
from tests.ingest.sparkplug_node import (
    CITY,
    DEVICE,
    NODE,
    NOW_MS,
    Heard,
    Specified,
    bd_seq,
    births,
    encode,
    hear,
    level,
    rebirth,
)

NOW = NOW_MS * 1_000_000
POS, GAUGE, RAIN, FAR = range(4)
"""Device indexes of the city."""
VECTORS = {
    v["name"]: base64.b64decode(v["payload_base64"])
    for v in json.loads((Path(__file__).parent / "data/sparkplug/vectors.json").read_text(encoding="utf-8"))
}


def reasons(heard: Heard) -> list[Reason]:
    return [letter.reason for letter in heard.letters]


def asked(heard: Heard) -> list[str]:
    return [topic for topic, _ in heard.requests]


def data(seq: int, *metrics: dict[str, Any], device: str = "Gauge-A", **more: Any) -> tuple[str, bytes]:
    return DEVICE.format("DDATA", device), encode(*metrics, seq=seq, **more)


def by_alias(value: float, alias: int = 7, **more: Any) -> dict[str, Any]:
    return {"alias": alias, "double_value": value, **more}


REBIRTH = "spBv1.0/banjir/NCMD/pos-1"


# ------------------------------------------------------------------------------------------------ devices and values


def test_the_recorded_session_of_another_makers_node() -> None:
    city = Directory(
        version=1,
        city="kota",
        utc_offset_h=7,
        sites=(Site("s", "S", 0, 0),),
        devices=(Device("umh-1", "s", model="umh"),),
        datastreams=(Datastream("t", "s", "umh-1", "temperature_c"),),
        payloads=(Payload("umh", fields=(Field("Temperature", "temperature_c", "Cel"),)),),
    )
    at_s = (1_750_855_643_474 - NOW_MS) / 1000 + 1
    form = Sparkplug()
    topic = "spBv1.0/plant/{}/umh-1"
    heard = hear(
        form,
        (topic.format("NBIRTH"), VECTORS["NBIRTH_V1"]),
        (topic.format("NDATA"), VECTORS["NDATA_V1"]),
        directory=city,
        at_s=at_s,
    )
    # Both messages bear the same millisecond; telling the two apart is the core's.
    assert heard.values == {"t": [21.5, 22.5]}
    assert heard.observations.observed_at.tolist() == [1_750_855_643_474_000_000] * 2
    assert (heard.letters, heard.requests) == ([], [])
    # Its death bears bdSeq 0, its birth 88: that is a will of an earlier session.
    heard = hear(form, (topic.format("NDEATH"), VECTORS["NDEATH_V1"]), directory=city, at_s=at_s)
    assert heard.presences == []
    assert heard.without_readings == 1


def test_devices_are_found_by_full_name_whatever_its_case_or_by_the_last_part() -> None:
    heard = hear(
        Sparkplug(),
        (NODE.format("NBIRTH"), encode(bd_seq(0), {"name": "battery_v", "datatype": 9, "float_value": 3.5}, seq=0)),
        (DEVICE.format("DBIRTH", "Gauge-A"), encode(level(1.25), seq=1)),
        (DEVICE.format("DBIRTH", "hujan-1"), encode({"name": "battery_v", "datatype": 3, "int_value": 4}, seq=2)),
    )
    assert heard.values == {"pos-1:battery_v": [3.5], "gauge:water_level_m": [1.25], "hujan-1:battery_v": [4.0]}
    assert heard.presences == [Presence(POS, True, NOW), Presence(GAUGE, True, NOW), Presence(RAIN, True, NOW)]
    assert heard.letters == []


def test_aliases_are_of_the_sender_that_gave_them() -> None:
    form = Sparkplug()
    hear(form, *births(0, "Gauge-A", "hujan-1"))
    temperature = {
        "name": "temperature_c",
        "alias": 7,
        "datatype": 10,
        "double_value": 20.0,
        "timestamp": NOW_MS - 9000,
    }
    hear(form, (DEVICE.format("DBIRTH", "Gauge-A"), encode(temperature, seq=3)))
    heard = hear(form, data(4, by_alias(21.0)))
    assert heard.values == {"gauge:temperature_c": [21.0]}
    assert heard.requests == []


def test_units_come_from_the_message_or_the_model() -> None:
    form = Sparkplug()
    cm, unheard_of = {"engUnit": "cm"}, {"engUnit": "inches"}
    rain = {"name": "Rain/Total", "datatype": 10, "double_value": 2.0}
    heard = hear(form, *births(0, "Gauge-A", properties=cm), data(2, by_alias(150.0)))
    assert heard.values["gauge:water_level_m"] == [0.01, 1.5]
    # 2 in = 50.8 mm by the model; what the message calls the unit is not one of rain's, so it does not count.
    heard = hear(form, data(3, rain | {"properties": unheard_of}, device="hujan-1"))
    assert heard.values == {"hujan-1:rain_mm": [50.8]}
    heard = hear(form, data(4, rain | {"properties": {"engUnit": "mm"}, "timestamp": NOW_MS + 1}, device="hujan-1"))
    assert heard.values == {"hujan-1:rain_mm": [2.0]}
    heard = hear(form, data(5, level(1.0, properties=unheard_of)))
    assert reasons(heard) == [Reason.WRONG_UNIT]
    assert json.loads(heard.letters[0].payload) == {
        "device": "gauge",
        "property": "water_level_m",
        "value": 1.0,
        "unit": "inches",
        "time": NOW,
    }


def test_whole_numbers_take_their_datatype_from_the_birth() -> None:
    form = Sparkplug()
    birth = encode({"name": "temperature_c", "alias": 1, "datatype": 1, "int_value": 3}, seq=1)
    hear(form, *births(0), (DEVICE.format("DBIRTH", "Gauge-A"), birth))
    heard = hear(form, data(2, {"alias": 1, "int_value": 0xFB}), data(3, {"name": "temperature_c", "int_value": 0xFA}))
    assert heard.values == {"gauge:temperature_c": [-5.0, -6.0]}


def test_a_whole_number_of_unknown_width_waits_for_the_birth() -> None:
    form = Sparkplug()
    message = data(9, {"name": "temperature_c", "int_value": 0xFB}, level(1.5))
    heard = hear(form, message)
    assert heard.values == {"gauge:water_level_m": [1.5]}
    assert reasons(heard) == [Reason.UNKNOWN_ALIAS]
    assert heard.letters[0].payload == message[1]
    birth = encode({"name": "temperature_c", "datatype": 1, "int_value": 3}, seq=1)
    hear(form, *births(0), (DEVICE.format("DBIRTH", "Gauge-A"), birth))
    assert hear(form, message, again=True).values["gauge:temperature_c"] == [-5.0]


def test_times_are_those_of_the_metric_then_of_the_payload_then_of_reception() -> None:
    form = Sparkplug()
    hear(form, *births(0, "Gauge-A"))
    heard = hear(
        form,
        data(2, by_alias(1.0, timestamp=NOW_MS - 5000), timestamp=NOW_MS - 1000),
        data(3, by_alias(2.0), timestamp=NOW_MS - 1000),
        data(4, by_alias(3.0), timestamp=None),
        at_s=2,
    )
    assert [(t - NOW) / 1e9 for t in heard.observations.observed_at.tolist()] == [-5.0, -1.0, 2.0]


def test_historical_values_keep_their_own_time_or_are_refused() -> None:
    form = Sparkplug()
    hear(form, *births(0, "Gauge-A"))
    heard = hear(
        form,
        data(2, by_alias(1.0, timestamp=NOW_MS - 86_400_000, is_historical=True), by_alias(2.0, is_historical=True)),
    )
    assert heard.observations.observed_at.tolist() == [NOW - 86_400 * 10**9]
    assert reasons(heard) == [Reason.NO_TIME]


def test_what_is_no_observed_property_is_no_dead_letter() -> None:
    form = Sparkplug()
    heard = hear(
        form,
        (
            NODE.format("NBIRTH"),
            encode(bd_seq(0), rebirth(), {"name": "Properties/Hardware", "string_value": "x"}, seq=0),
        ),
        (
            DEVICE.format("DBIRTH", "Gauge-A"),
            encode({"name": "Outputs/Siren", "alias": 1, "boolean_value": True}, seq=1),
        ),
        data(2, {"alias": 1, "boolean_value": False}),
        data(3, level(1.0, is_transient=True)),
        (NODE.format("NCMD"), encode(rebirth())),
        (DEVICE.format("DCMD", "Gauge-A"), b"\xff"),
        ("spBv1.0/STATE/scada", b'{"online": true, "timestamp": 1}'),
    )
    assert (heard.letters, heard.values) == ([], {})
    assert heard.without_readings == 7


def test_values_that_are_none() -> None:
    form = Sparkplug()
    birth = encode(level(0, alias=7, is_null=True), {"name": "temperature_c", "alias": 8, "datatype": 10}, seq=1)
    heard = hear(form, *births(0), (DEVICE.format("DBIRTH", "Gauge-A"), birth))
    assert heard.letters == []  # a birth announces what has no value yet
    heard = hear(
        form,
        data(
            2,
            {"alias": 7, "is_null": True},
            {"alias": 8, "datatype": 12, "string_value": "hangat"},
            by_alias(1.0, properties={"Quality": 500}),
            by_alias(float("nan")),
            by_alias(1.0, timestamp=2**64 - 1),
            {"name": "battery_v", "datatype": 10, "double_value": 3.6},
            by_alias(2.0, properties={"Quality": 192}),
        ),
    )
    assert sorted(reasons(heard)) == sorted(
        [
            Reason.MISSING_VALUE,
            Reason.WRONG_TYPE,
            Reason.MISSING_VALUE,
            Reason.NOT_FINITE,
            Reason.TIME_IN_FUTURE,
            Reason.UNKNOWN_PROPERTY,
        ]
    )
    assert heard.values == {"gauge:water_level_m": [2.0]}
    assert all(letter.device == "gauge" for letter in heard.letters)
    assert any("STALE" in letter.detail for letter in heard.letters)


def test_members_of_a_template_are_named_behind_it() -> None:
    form = Sparkplug()
    station = {"name": "Station", "datatype": 19, "members": [level(1.75), {"name": "note", "string_value": "x"}]}
    definition = {"name": "Type", "datatype": 19, "definition": True, "members": [{"name": "water_level_m"}]}
    heard = hear(form, *births(0), (DEVICE.format("DBIRTH", "Gauge-A"), encode(definition, station, seq=1)))
    assert heard.values == {"gauge:water_level_m": [1.75]}
    assert heard.letters == []


def test_messages_of_the_unregistered_are_kept_whole() -> None:
    form = Sparkplug()
    message = data(2, by_alias(2.0), device="baru")
    heard = hear(form, *births(0, "baru"), message)
    assert reasons(heard) == [Reason.UNKNOWN_DEVICE] * 2
    letter = heard.letters[1]
    assert (letter.device, letter.payload, letter.format) == ("banjir/pos-1/baru", message[1], "sparkplug_b")
    # Registered later: its earlier readings, by the alias that its birth gave.
    city = Directory(
        version=2,
        city="kota",
        utc_offset_h=7,
        sites=CITY.sites,
        devices=(*CITY.devices, Device("new", "site", names=("banjir/pos-1/baru",))),
        datastreams=(*CITY.datastreams, Datastream("new:level", "site", "new", "water_level_m")),
    )
    taken = hear(form, message, directory=city, again=True)
    assert taken.values == {"new:level": [2.0]}
    assert (taken.requests, taken.presences) == ([], [])


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        ("spBv1.0/banjir/NDATA/pos-1/x", Reason.WRONG_TOPIC),
        ("spBv1.0/banjir/DDATA/pos-1", Reason.WRONG_TOPIC),
        ("spBv1.0/banjir/HELLO/pos-1", Reason.WRONG_TOPIC),
        ("spAv1.0/banjir/NDATA/pos-1", Reason.WRONG_TOPIC),
        ("spBv1.0//NDATA/pos-1", Reason.WRONG_TOPIC),
        ("spBv1.0", Reason.WRONG_TOPIC),
        ("spBv1.0/banjir/NDATA/pos-1", Reason.MALFORMED_PROTOBUF),
    ],
)
def test_what_can_not_be_read(topic: str, reason: Reason) -> None:
    assert reasons(hear(Sparkplug(), (topic, b"{}"))) == [reason]


# ----------------------------------------------------------------------------------------------------------- sessions


def test_a_session_without_faults_asks_for_nothing() -> None:
    form = Sparkplug()
    hear(form, *births(0, "Gauge-A", "hujan-1"))
    heard = hear(form, *(data((3 + i) % 256, by_alias(i / 1000), timestamp=NOW_MS + i) for i in range(600)))
    assert len(heard.values["gauge:water_level_m"]) == 600
    assert (heard.requests, heard.letters, form.lost) == ([], [], 0)


def test_a_gap_in_the_sequence_is_counted_and_asks_for_the_births() -> None:
    form = Sparkplug()
    hear(form, *births(0, "Gauge-A"))
    heard = hear(form, data(2, by_alias(1.0)), data(5, by_alias(2.0)))
    assert heard.values["gauge:water_level_m"] == [1.0, 2.0]
    assert form.lost == 2
    ((topic, payload),) = heard.requests
    assert topic == REBIRTH
    (metric,) = Specified.FromString(payload).metrics
    assert (metric.name, metric.datatype, metric.boolean_value) == ("Node Control/Rebirth", 11, True)
    assert hear(form, *births(0, "Gauge-A", seq=0), data(2, by_alias(3.0)), at_s=60).requests == []


def test_a_message_delivered_twice_is_no_gap_and_the_numbers_wrap() -> None:
    form = Sparkplug()
    hear(form, *births(0, "Gauge-A", seq=254))
    heard = hear(form, data(0, by_alias(1.0)), data(0, by_alias(1.0)), data(1, by_alias(1.0)))
    assert (heard.requests, form.lost) == ([], 0)


def test_data_before_any_birth_is_taken_by_name_and_asks_once() -> None:
    form = Sparkplug()
    heard = hear(form, data(17, level(1.5)), data(18, level(1.6, timestamp=NOW_MS + 1)))
    assert heard.values == {"gauge:water_level_m": [1.5, 1.6]}
    assert asked(heard) == [REBIRTH]


def test_an_unknown_alias_is_kept_until_the_birth_and_the_rest_of_its_message_is_taken() -> None:
    form = Sparkplug()
    message = data(17, by_alias(2.5), level(1.5, timestamp=NOW_MS - 1))
    heard = hear(form, message)
    assert heard.values == {"gauge:water_level_m": [1.5]}
    assert reasons(heard) == [Reason.UNKNOWN_ALIAS]
    assert heard.letters[0].payload == message[1]
    assert asked(heard) == [REBIRTH]
    hear(form, *births(0, "Gauge-A"))
    again = hear(form, message, again=True)
    assert again.values == {"gauge:water_level_m": [2.5, 1.5]}
    assert hear(form, data(2, by_alias(1.0))).requests == []  # reading it again has left the session as it was


def test_data_of_a_device_without_birth_asks_though_the_node_is_born() -> None:
    form = Sparkplug()
    assert asked(hear(form, *births(0), data(1, level(1.5)))) == [REBIRTH]


def test_requests_are_rare_and_rarer_if_nobody_answers() -> None:
    form = Sparkplug()
    times = [t for t in range(3000) if hear(form, data(t % 256, level(1.0)), at_s=t).requests]
    assert times == [0, 10, 30, 70, 150, 310, 630, 1270, 1910, 2550]
    hear(form, *births(0), at_s=3000)
    assert hear(form, data(9, level(1.0)), at_s=3001).requests
    assert not hear(form, data(99, level(1.0)), at_s=3010).requests
    assert hear(form, data(199, level(1.0)), at_s=3012).requests


def test_nodes_of_which_nothing_is_registered_are_left_alone() -> None:
    heard = hear(Sparkplug(), ("spBv1.0/pabrik/DDATA/plc/motor", encode(level(1.0), seq=3)))
    assert heard.requests == []


# ------------------------------------------------------------------------------------------------------------- deaths


def death(number: int) -> tuple[str, bytes]:
    return NODE.format("NDEATH"), encode(bd_seq(number), timestamp=NOW_MS - 3_600_000)


def test_the_death_of_a_node_is_that_of_all_behind_it() -> None:
    form = Sparkplug()
    hear(form, *births(4, "Gauge-A", "hujan-1"))
    heard = hear(form, death(4), at_s=7)
    # Dated by its reception: the will was written when the node connected.
    assert sorted(heard.presences) == [Presence(i, False, NOW + 7 * 10**9) for i in (POS, GAUGE, RAIN)]
    assert heard.without_readings == 1
    assert hear(form, death(4), at_s=8).presences == []
    heard = hear(form, *births(5, "Gauge-A"), at_s=9)
    assert heard.presences == [Presence(POS, True, NOW + 9 * 10**9), Presence(GAUGE, True, NOW + 9 * 10**9)]


def test_a_stale_will_is_ignored() -> None:
    form = Sparkplug()
    hear(form, *births(4, "Gauge-A"), *births(5, "Gauge-A"))
    assert hear(form, death(4)).presences == []
    assert hear(form, data(2, by_alias(1.0))).requests == []
    assert len(hear(form, death(5)).presences) == 2


def test_a_death_that_meets_us_without_memory_counts_and_asks() -> None:
    """After our restart: the will of who died meanwhile. The devices are known by their registered full names."""
    heard = hear(Sparkplug(), death(4))
    assert sorted(heard.presences) == [Presence(POS, False, NOW), Presence(GAUGE, False, NOW)]
    assert asked(heard) == [REBIRTH]


def test_data_after_a_death_asks_and_old_aliases_are_no_longer_used() -> None:
    form = Sparkplug()
    hear(form, *births(4, "Gauge-A"), death(4))
    heard = hear(form, data(7, level(1.5), by_alias(9.0)))
    assert heard.values == {"gauge:water_level_m": [1.5]}
    assert reasons(heard) == [Reason.UNKNOWN_ALIAS]
    assert asked(heard) == [REBIRTH]


def test_the_death_of_one_device_leaves_the_others() -> None:
    form = Sparkplug()
    hear(form, *births(4, "Gauge-A", "hujan-1"))
    heard = hear(form, (DEVICE.format("DDEATH", "Gauge-A"), encode(seq=3)), at_s=2)
    assert heard.presences == [Presence(GAUGE, False, NOW + 2 * 10**9)]
    assert (heard.requests, heard.without_readings) == ([], 1)
    heard = hear(form, (DEVICE.format("DBIRTH", "Gauge-A"), encode(level(1.0, alias=7), seq=4)), data(5, by_alias(2.0)))
    assert heard.presences == [Presence(GAUGE, True, NOW)]
    assert heard.requests == []


def test_the_devices_of_other_nodes_stay_alive() -> None:
    form = Sparkplug()
    hear(form, ("spBv1.0/banjir/NBIRTH/pos-9", encode(bd_seq(0), seq=0)), *births(4, "Gauge-A"))
    assert FAR not in [p.device for p in hear(form, death(4)).presences]
    heard = hear(form, ("spBv1.0/banjir/NDEATH/pos-9", encode(bd_seq(0))))
    assert heard.presences == [Presence(FAR, False, NOW)]


# ------------------------------------------------------------------------------------------------------------- bounds


def test_too_many_metrics_or_too_long_names_are_refused() -> None:
    form = Sparkplug()
    many = b"\x12\x00" * (sparkplug.MAX_METRICS + 1)
    assert reasons(hear(form, (NODE.format("NDATA"), many))) == [Reason.PAYLOAD_TOO_LARGE]
    assert reasons(hear(form, (NODE.format("NDATA"), encode({"name": "x" * 1001})))) == [Reason.WRONG_TYPE]
    members = {"name": "t" * 990, "members": [{"name": "m" * 20}] * 10}
    assert reasons(hear(form, (NODE.format("NBIRTH"), encode(members)))) == [Reason.WRONG_TYPE]


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparkplug, "MAX_REMEMBERED_BYTES", 2_000_000)
    form = Sparkplug()
    metrics = [{"name": f"m{i}", "alias": i, "datatype": 10} for i in range(100)]
    tracemalloc.start()
    for i in range(2000):
        hear(form, (f"spBv1.0/g{i}/NBIRTH/n", encode(bd_seq(0), *metrics, seq=0)))
        hear(form, (f"spBv1.0/g{i}/DBIRTH/n/d", encode(*metrics, seq=1)))
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 10 < len(form._nodes) < 100
    assert used < 4_000_000
    assert form._size == sum(node.size for node in form._nodes.values())


TOPICS = st.sampled_from(
    [NODE.format(kind) for kind in ("NBIRTH", "NDATA", "NDEATH", "NCMD")]
    + [DEVICE.format(kind, d) for kind in ("DBIRTH", "DDATA", "DDEATH") for d in ("Gauge-A", "baru")]
)
METRICS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["water_level_m", "temperature_c", "a/battery_v", "bdSeq", "x"]) | st.text(max_size=5),
        "alias": st.integers(0, 3),
        "timestamp": st.integers(0, 2**64 - 1) | st.just(NOW_MS),
        "datatype": st.integers(0, 40),
        "is_historical": st.booleans(),
        "is_null": st.booleans(),
        "int_value": st.integers(0, 2**32 - 1),
        "long_value": st.integers(0, 2**64 - 1),
        "float_value": st.floats(width=32),
        "double_value": st.floats(),
        "boolean_value": st.booleans(),
        "string_value": st.text(max_size=5),
        "bytes_value": st.binary(max_size=5),
        "properties": st.dictionaries(
            st.sampled_from(["engUnit", "Quality"]), st.sampled_from(["m", "cm", "?", 0, 192])
        ),
        "members": st.lists(st.just({"name": "water_level_m", "double_value": 1.0}), max_size=2),
    },
)
PAYLOADS = st.binary(max_size=60) | st.builds(
    lambda metrics, seq, ts: encode(*metrics, seq=seq, timestamp=ts),
    st.lists(METRICS, max_size=4),
    st.none() | st.integers(0, 255),
    st.none() | st.integers(0, 2**64 - 1) | st.just(NOW_MS),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(TOPICS, PAYLOADS), max_size=12), st.booleans())
def test_any_messages_are_accounted_for_and_never_raise(messages: list[tuple[str, bytes]], again: bool) -> None:
    """Each message gives a reading, or a dead letter, or is one that rightly holds none."""
    form = Sparkplug()
    for i, message in enumerate(messages):
        heard = hear(form, message, at_s=i, again=again)
        assert bool(len(heard.observations) or heard.letters) != bool(heard.without_readings)
        assert not (again and (heard.presences or heard.requests))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(TOPICS, PAYLOADS), max_size=12), st.integers(0, 12))
def test_the_cutting_into_batches_changes_nothing(messages: list[tuple[str, bytes]], cut: int) -> None:
    one, two = Sparkplug(), Sparkplug()
    whole = hear(one, *messages)
    parts = [hear(two, *part) for part in (messages[:cut], messages[cut:])]
    assert whole.presences == parts[0].presences + parts[1].presences
    assert whole.requests == parts[0].requests + parts[1].requests
    assert sorted(x.detail for x in whole.letters) == sorted(x.detail for p in parts for x in p.letters)
    assert len(whole.observations) == sum(len(p.observations) for p in parts)
