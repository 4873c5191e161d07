"""The Directory: what it refuses and in which words, its arrays, and its way to bytes and back."""

from __future__ import annotations

import math
import time
from dataclasses import fields

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.alarms import Severity
from telemetry.directory import (
    MAX_STEPS,
    Datastream,
    Device,
    Direction,
    Directory,
    Gate,
    Ladder,
    Limits,
    Site,
    Step,
)
from telemetry.properties import PROPERTIES

SITE = Site("katulampa", "Bendung Katulampa", -6.634, 106.837, "Bogor Timur")
DEVICE = Device("katulampa-01", "katulampa", "radar gauge", 900.0)
LADDER = Ladder(
    (Step(0.8, 1, "Siaga 3"), Step(1.5, 2, "Siaga 2"), Step(2.0, 3, "Siaga 1")),
    deadband=0.05,
    on_delay_s=60.0,
    off_delay_s=600.5,
)
STREAM = Datastream("katulampa-level", "katulampa", "katulampa-01", "water_level_m", ladder=LADDER)


def directory(sites=(SITE,), devices=(DEVICE,), datastreams=(STREAM,), utc_offset_h=7.0):
    return Directory(3, "bogor", utc_offset_h, tuple(sites), tuple(devices), tuple(datastreams))


def with_ladder(**changes) -> Datastream:
    return msgspec.structs.replace(STREAM, ladder=msgspec.structs.replace(LADDER, **changes))


def with_limits(**limits) -> Datastream:
    return msgspec.structs.replace(STREAM, limits=Limits(**limits))


def steps(*pairs: tuple[float, int]) -> tuple[Step, ...]:
    return tuple(Step(value, severity, "") for value, severity in pairs)


replace = msgspec.structs.replace

REFUSED = [
    (lambda: directory(sites=[SITE, SITE]), "site id 'katulampa' stands twice in the directory"),
    (lambda: directory(devices=[DEVICE, DEVICE]), "device id 'katulampa-01' stands twice in the directory"),
    (
        lambda: directory(datastreams=[STREAM, STREAM]),
        "datastream id 'katulampa-level' stands twice in the directory",
    ),
    (
        lambda: directory(devices=[replace(DEVICE, site="depok")]),
        "device 'katulampa-01' names site 'depok', which is not in the directory",
    ),
    (
        lambda: directory(datastreams=[replace(STREAM, site="depok")]),
        "datastream 'katulampa-level' names site 'depok', which is not in the directory",
    ),
    (
        lambda: directory(datastreams=[replace(STREAM, device="x")]),
        "datastream 'katulampa-level' names device 'x', which is not in the directory",
    ),
    (
        lambda: directory(datastreams=[replace(STREAM, property="stage")]),
        "datastream 'katulampa-level': unknown observed property 'stage'",
    ),
    (
        lambda: directory(datastreams=[STREAM, replace(STREAM, id="again")]),
        "device 'katulampa-01' feeds water_level_m twice (datastream 'again')",
    ),
    (
        lambda: directory(sites=[replace(SITE, latitude=106.8, longitude=-6.6)]),
        "site 'katulampa': latitude 106.8, longitude -6.6 is no place on Earth",
    ),
    (
        lambda: directory(sites=[replace(SITE, latitude=math.nan)]),
        "site 'katulampa': latitude nan, longitude 106.837 is no place on Earth",
    ),
    (lambda: directory(utc_offset_h=700), "utc_offset_h must be from -12 to 14, got 700"),
    (lambda: directory(utc_offset_h=math.nan), "utc_offset_h must be from -12 to 14, got nan"),
    (
        lambda: directory(devices=[replace(DEVICE, silence_after_s=0)]),
        "device 'katulampa-01': silence_after_s must be above 0 and at most 1000000000, got 0",
    ),
    (
        lambda: directory(devices=[replace(DEVICE, silence_after_s=math.inf)]),
        "device 'katulampa-01': silence_after_s must be above 0 and at most 1000000000, got inf",
    ),
    (
        lambda: directory(datastreams=[with_limits(fail_max=math.inf)]),
        "katulampa-level: fail_max must be a finite number or left out, got inf",
    ),
    (
        lambda: directory(datastreams=[with_limits(suspect_min=math.nan)]),
        "katulampa-level: suspect_min must be a finite number or left out, got nan",
    ),
    (
        lambda: directory(datastreams=[with_limits(fail_min=5.0, fail_max=1.0)]),
        "katulampa-level: fail_min must not be above fail_max, got 5.0 and 1.0",
    ),
    (
        lambda: directory(datastreams=[with_limits(rate_max_per_s=-1.0)]),
        "katulampa-level: rate_max_per_s must be 0 or more, got -1.0",
    ),
    (
        lambda: directory(datastreams=[with_ladder(steps=steps((1, 1), (2, 1), (3, 2), (4, 2), (5, 3)))]),
        "katulampa-level: at most 4 thresholds, got 5",
    ),
    (
        lambda: directory(datastreams=[with_ladder(direction=0)]),
        "katulampa-level: direction must be 1 (above) or -1 (below), got 0",
    ),
    (
        lambda: directory(datastreams=[with_ladder(gate=7)]),
        "katulampa-level: gate must be one of [0, 1], got 7",
    ),
    (
        lambda: directory(datastreams=[with_ladder(deadband=-0.1)]),
        "katulampa-level: deadband must be 0 or more, got -0.1",
    ),
    (
        lambda: directory(datastreams=[with_ladder(on_delay_s=1e300)]),
        "katulampa-level: on_delay_s must be from 0 to 1000000000, got 1e+300",
    ),
    (
        lambda: directory(datastreams=[with_ladder(off_delay_s=math.nan)]),
        "katulampa-level: off_delay_s must be from 0 to 1000000000, got nan",
    ),
    (
        lambda: directory(datastreams=[with_ladder(steps=steps((math.nan, 1)))]),
        "katulampa-level: a threshold must be a finite number",
    ),
    (
        lambda: directory(datastreams=[with_ladder(steps=steps((1, 0)))]),
        "katulampa-level: severity must be 1 (waspada), 2 (siaga) or 3 (awas)",
    ),
    (
        lambda: directory(datastreams=[with_ladder(steps=steps((2.0, 1), (1.0, 2)))]),
        "katulampa-level: thresholds must go from the mildest to the worst, got [2.0, 1.0]",
    ),
    (
        lambda: directory(datastreams=[with_ladder(steps=steps((1.0, 1), (1.0, 2)))]),
        "katulampa-level: thresholds must go from the mildest to the worst, got [1.0, 1.0]",
    ),
    (
        lambda: directory(datastreams=[with_ladder(steps=steps((1.0, 1), (2.0, 2)), direction=Direction.BELOW)]),
        "katulampa-level: thresholds must go from the mildest to the worst, got [1.0, 2.0]",
    ),
    (
        lambda: directory(datastreams=[with_ladder(steps=steps((1.0, 3), (2.0, 2)))]),
        "katulampa-level: severity must not fall along the ladder",
    ),
]


@pytest.mark.parametrize(("build", "sentence"), REFUSED, ids=[sentence for _, sentence in REFUSED])
def test_what_cannot_be_right_is_refused_in_one_sentence(build, sentence):
    with pytest.raises(ValueError) as refused:
        build()
    assert str(refused.value) == sentence


def test_the_arrays_say_what_was_entered():
    lamp = Datastream(
        "lamp",
        "katulampa",
        "lamp-1",
        "lamp_power_w",
        Limits(
            fail_min=1.0,
            suspect_max=150.0,
            rate_max_per_s=2.0,
            flat_tolerance=0.5,
            flat_suspect_s=60.0,
            flat_fail_s=120.0,
        ),
        Ladder(steps((40.0, 1), (10.0, 2)), Direction.BELOW, gate=Gate.DARK),
    )
    d = directory(devices=[Device("lamp-1", "katulampa", silence_after_s=0.5), DEVICE], datastreams=[STREAM, lamp])
    inf = math.inf
    assert d.site_of.tolist() == [0, 0]
    assert d.device_of.tolist() == [1, 0]
    assert d.latitude.tolist() == [-6.634, -6.634]
    assert d.longitude.tolist() == [106.837, 106.837]
    level, power = PROPERTIES["water_level_m"], PROPERTIES["lamp_power_w"]
    assert d.fail_min.tolist() == [level.span_min, 1.0]
    assert d.fail_max.tolist() == [level.span_max, power.span_max]
    assert d.suspect_min.tolist() == [-inf, -inf]
    assert d.suspect_max.tolist() == [inf, 150.0]
    assert d.rate_max_per_s.tolist() == [inf, 2.0]
    assert d.flat_tolerance.tolist() == [0.0, 0.5]
    assert d.flat_suspect_s.tolist() == [inf, 60.0]
    assert d.flat_fail_s.tolist() == [inf, 120.0]
    assert d.direction.tolist() == [1, -1]
    assert d.threshold.tolist() == [[0.8, 1.5, 2.0, inf], [40.0, 10.0, -inf, -inf]]
    assert d.severity.tolist() == [[1, 2, 3, 0], [1, 2, 0, 0]]
    assert d.deadband.tolist() == [0.05, 0.0]
    assert d.on_delay_ns.tolist() == [60_000_000_000, 0]
    assert d.off_delay_ns.tolist() == [600_500_000_000, 0]
    assert d.gate.tolist() == [0, 1]
    assert d.silence_after_ns.tolist() == [500_000_000, 900_000_000_000]
    assert d.index_of == {"lamp-1": {"lamp_power_w": 1}, "katulampa-01": {"water_level_m": 0}}
    assert d.observed_property(1) is power


def test_nobody_can_write_into_its_arrays():
    d = directory()
    arrays = [getattr(d, f.name) for f in fields(d) if isinstance(getattr(d, f.name), np.ndarray)]
    assert len(arrays) > 15
    for array in arrays:
        assert not array.flags.writeable


def test_a_city_may_be_empty():
    d = directory(sites=[], devices=[], datastreams=[])
    assert d.threshold.shape == (0, MAX_STEPS)
    assert d.site_of.dtype == np.int32
    assert Directory.from_bytes(d.to_bytes()) == d


def test_equal_content_is_an_equal_directory():
    assert directory() == directory()
    assert hash(directory()) == hash(directory())
    assert directory() != directory(datastreams=[with_ladder(deadband=0.06)])


def test_an_id_that_stands_twice_is_found_quickly_in_a_large_city():
    # Comparing every id with every other one would take minutes here.
    sites = [replace(SITE, id=f"s{i}") for i in range(60_000)]
    begin = time.perf_counter()
    with pytest.raises(ValueError, match="site id 's59999' stands twice"):
        directory(sites=[*sites, replace(SITE, id="s59999")])
    assert time.perf_counter() - begin < 5


FINITE = st.floats(allow_nan=False, allow_infinity=False)
DURATION_S = st.floats(0, 1e9)
IDS = st.text(min_size=1, max_size=8)


@st.composite
def ladders(draw) -> Ladder:
    direction = draw(st.sampled_from([1, -1]))
    values = sorted(draw(st.lists(FINITE, unique=True, max_size=MAX_STEPS)), reverse=direction < 0)
    severities = sorted(draw(st.lists(st.sampled_from(list(Severity)[1:]), min_size=len(values), max_size=len(values))))
    labels = draw(st.lists(st.text(max_size=5), min_size=len(values), max_size=len(values)))
    return Ladder(
        tuple(Step(v, int(s), text) for v, s, text in zip(values, severities, labels, strict=True)),
        direction,
        draw(st.floats(0, 1e300)),
        draw(DURATION_S),
        draw(DURATION_S),
        draw(st.sampled_from([0, 1])),
    )


@st.composite
def limits(draw) -> Limits:
    fail = sorted(draw(st.tuples(FINITE, FINITE)))
    suspect = sorted(draw(st.tuples(FINITE, FINITE)))
    maybe = st.none() | st.floats(0, 1e300)
    return Limits(
        draw(st.sampled_from([None, fail[0]])),
        draw(st.sampled_from([None, fail[1]])),
        draw(st.sampled_from([None, suspect[0]])),
        draw(st.sampled_from([None, suspect[1]])),
        draw(maybe),
        draw(st.floats(0, 1e300)),
        draw(maybe),
        draw(maybe),
    )


@st.composite
def directories(draw) -> Directory:
    site_ids = draw(st.lists(IDS, unique=True, min_size=1, max_size=3))
    sites = [
        Site(
            i,
            draw(st.text(max_size=8)),
            draw(st.floats(-90, 90)),
            draw(st.floats(-180, 180)),
            draw(st.text(max_size=5)),
        )
        for i in site_ids
    ]
    device_ids = draw(st.lists(IDS, unique=True, min_size=1, max_size=3))
    silence = st.floats(0, 1e9, exclude_min=True)
    devices = [Device(i, draw(st.sampled_from(site_ids)), draw(st.text(max_size=5)), draw(silence)) for i in device_ids]
    feeds = st.tuples(st.sampled_from(device_ids), st.sampled_from(sorted(PROPERTIES)))
    streams = [
        Datastream(f"d{n}", draw(st.sampled_from(site_ids)), device, name, draw(limits()), draw(ladders()))
        for n, (device, name) in enumerate(draw(st.lists(feeds, unique=True, max_size=4)))
    ]
    return Directory(
        draw(st.integers(0, 2**31 - 1)),
        draw(st.text(max_size=8)),
        draw(st.floats(-12, 14)),
        tuple(sites),
        tuple(devices),
        tuple(streams),
    )


@given(directories())
def test_to_bytes_and_back_gives_an_equal_directory(before):
    after = Directory.from_bytes(before.to_bytes())
    assert after == before
    for f in fields(Directory):
        one, other = getattr(before, f.name), getattr(after, f.name)
        if isinstance(one, np.ndarray):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
        else:
            assert one == other
    assert after.to_bytes() == before.to_bytes()


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"version": "one"}'])
def test_bytes_that_are_no_directory_are_refused(data):
    with pytest.raises(msgspec.DecodeError):
        Directory.from_bytes(data)


def test_bytes_of_a_directory_that_cannot_be_right_are_refused():
    data = directory().to_bytes().replace(b'"latitude":-6.634', b'"latitude":-96.634')
    with pytest.raises(ValueError, match="no place on Earth"):
        Directory.from_bytes(data)
