"""Which device fed which datastream when, and its calibration then: against a plain search through the lists."""

from __future__ import annotations

import itertools
from dataclasses import replace
from time import perf_counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.directory import Calibration, Datastream, Device, Directory, Installation, Site

SITES = (Site("hulu", "Hulu", -6.6, 106.8), Site("hilir", "Hilir", -6.7, 106.8))
DEVICES = (Device("a", "hulu"), Device("b", "hilir"), Device("c", ""))
STREAMS = (
    Datastream("hulu.level", "hulu", "a", "water_level_m"),
    Datastream("hilir.level", "hilir", "b", "water_level_m"),
    Datastream("hulu.battery", "hulu", "a", "battery_v"),
)
AT = np.arange(-1, 120)


def directory(installations=(), calibrations=(), devices=DEVICES, streams=STREAMS) -> Directory:
    return Directory(1, "bogor", 7.0, SITES, devices, streams, tuple(installations), tuple(calibrations))


def datastream_of(d: Directory, device: str, name: str, at: np.ndarray) -> list[str | None]:
    """What ingest asks: the datastream of readings that name a device and a property."""
    feed = np.full(at.shape, d.feed_of[device][name], np.int32)
    row = d.installed.at(feed, at.astype(np.int64))
    return [d.datastreams[d.installed.datastream[r]].id if r >= 0 else None for r in row.tolist()]


def test_without_installations_a_device_has_always_fed_its_datastreams() -> None:
    d = directory()
    assert d.installed.always
    assert d.feed_of is d.index_of
    assert datastream_of(d, "b", "water_level_m", np.array([-(2**62), 0, 2**62])) == ["hilir.level"] * 3
    assert d.installed.device_at(np.array([1, 2], np.int32), np.array([0, 0])).tolist() == [1, 0]
    assert d.watched.tolist() == [True, True, False]  # c stands nowhere


def test_a_swap_by_hand() -> None:
    swapped = (replace_device(STREAMS[0], "c"), *STREAMS[1:])
    d = directory(
        [Installation("a", "hulu.level", 10, 20), Installation("c", "hulu.level", 20)],
        devices=(*DEVICES[:2], Device("c", "hulu")),
        streams=swapped,
    )
    times = np.array([9, 10, 19, 20, 21])
    assert datastream_of(d, "a", "water_level_m", times) == [None, "hulu.level", "hulu.level", None, None]
    assert datastream_of(d, "c", "water_level_m", times) == [None, None, None, "hulu.level", "hulu.level"]
    assert datastream_of(d, "a", "battery_v", times) == ["hulu.battery"] * 5
    assert d.device_of.tolist() == [2, 1, 0]
    who = d.installed.device_at(np.zeros(5, np.int32), times)
    assert [d.devices[i].id for i in who] == ["a", "a", "a", "c", "c"]
    assert d.expected_since.tolist() == [-(2**63), -(2**63), 20]


def test_a_device_that_moved_feeds_the_place_where_it_stood_at_the_time() -> None:
    d = directory(
        [
            Installation("a", "hulu.level", 0, 50),
            Installation("a", "hilir.level", 60),
            Installation("b", "hilir.level", 0, 55),
        ]
    )
    times = np.array([0, 49, 50, 59, 60])
    assert datastream_of(d, "a", "water_level_m", times) == ["hulu.level"] * 2 + [None] * 2 + ["hilir.level"]
    assert d.index_of["a"] == {"water_level_m": 1, "battery_v": 2}
    assert d.index_of["b"] == {"water_level_m": 1}
    assert d.watched.tolist() == [True, False, False]  # nothing of b goes on
    assert datastream_of(d, "b", "water_level_m", times) == ["hilir.level"] * 3 + [None] * 2


def test_taken_out_and_put_back() -> None:
    d = directory([Installation("a", "hulu.level", 0, 10), Installation("a", "hulu.level", 20, 30)])
    assert datastream_of(d, "a", "water_level_m", np.array([9, 10, 19, 20, 29, 30])) == [
        "hulu.level",
        None,
        None,
        "hulu.level",
        "hulu.level",
        None,
    ]
    assert d.watched[0]  # its battery goes on


def test_a_datastream_may_wait_for_its_first_device() -> None:
    d = directory(streams=(*STREAMS, Datastream("hulu.rain", "hulu", "", "rain_mm")))
    assert d.device_of.tolist() == [0, 1, 0, -1]
    assert d.installed.device_at(np.array([3], np.int32), np.array([5])).tolist() == [-1]
    assert Directory.from_bytes(d.to_bytes()) == d


def test_calibration_by_hand() -> None:
    d = directory(
        calibrations=[
            Calibration("a", "hulu.level", 2.0, 0.0, 10),
            Calibration("a", "hulu.level", 1.0, 0.5, 20),
            Calibration("b", "hulu.level", 100.0, 100.0, 0),  # b never stood there
        ]
    )
    feed = np.array([0, 0, 0, 0, 0, 1, 2], np.int32)
    at = np.array([9, 10, 19, 20, 99, 50, 50])
    value = d.installed.calibrated(d.installed.at(feed, at), at, np.full(7, 3.0))
    assert value.tolist() == [3.0, 6.0, 6.0, 3.5, 3.5, 3.0, 3.0]


def replace_device(stream: Datastream, device: str) -> Datastream:
    return Datastream(stream.id, stream.site, device, stream.property)


CUTS = st.lists(st.integers(0, 100), min_size=2, max_size=8, unique=True).map(sorted)


@st.composite
def histories(draw: st.DrawFn) -> list[Installation]:
    """Installations without overlaps: at each turn three devices stand at the two places in some way, or nowhere."""
    found = []
    cuts = draw(CUTS)
    for start, end in itertools.pairwise(cuts):
        where = draw(st.permutations(["a", "b", "c", None]))
        for device, stream in zip(where, ("hulu.level", "hilir.level"), strict=False):
            if device is not None:
                last = end == cuts[-1] and draw(st.booleans())
                found.append(Installation(device, stream, start, None if last else end))
    return draw(st.permutations(found))


@given(histories(), st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 110), st.floats(-9, 9)), max_size=6))
def test_like_a_plain_search(installations: list[Installation], changes: list[tuple[str, int, float]]) -> None:
    calibrations = [
        Calibration(device, stream, 2.0, offset, at)
        for (device, at), offset in {(device, at): offset for device, at, offset in changes}.items()
        for stream in ("hulu.level", "hilir.level")
    ]
    streams = tuple(s for s in STREAMS[:2])
    placed = {i.datastream for i in installations}
    streams = tuple(replace_device(s, "a" if s.id in placed else "") for s in streams)
    d = directory(installations, calibrations, streams=streams)
    assert Directory.from_bytes(d.to_bytes()) == d
    for device in "abc":
        feed = d.feed_of[device].get("water_level_m")
        plain = [
            next(
                (
                    i
                    for i in installations
                    if i.device == device and i.start_ns <= t and (i.end_ns is None or t < i.end_ns)
                ),
                None,
            )
            for t in AT.tolist()
        ]
        if feed is None:
            assert not any(plain)
            continue
        row = d.installed.at(np.full(AT.shape, feed, np.int32), AT)
        got = [d.datastreams[d.installed.datastream[r]].id if r >= 0 else None for r in row.tolist()]
        assert got == [None if i is None else i.datastream for i in plain]
        value = d.installed.calibrated(row, AT, np.full(AT.shape, 4.0))
        for t, i, v in zip(AT.tolist(), plain, value.tolist(), strict=True):
            in_force = [] if i is None else [c for c in calibrations if c.device == device and c.valid_from_ns <= t]
            newest = max((c for c in in_force), key=lambda c: c.valid_from_ns, default=None)
            assert v == (4.0 if newest is None else 4.0 * 2.0 + newest.offset)
    for s, stream in enumerate(d.datastreams):
        who = d.installed.device_at(np.full(AT.shape, s, np.int32), AT)
        for t, index in zip(AT.tolist(), who.tolist(), strict=True):
            before = [i for i in installations if i.datastream == stream.id and i.start_ns <= t]
            if before:
                assert d.devices[index].id == max(before, key=lambda i: i.start_ns).device


REFUSED = [
    ([Installation("a", "hulu.level", 5, 5)], (), "start_ns must lie before end_ns, got 5 and 5"),
    ([Installation("x", "hulu.level", 5)], (), "an installation names device 'x', which is not in the directory"),
    ([Installation("a", "x", 5)], (), "an installation names datastream 'x', which is not in the directory"),
    (
        [Installation("a", "hulu.level", 5), Installation("b", "hulu.level", 9)],
        (),
        "datastream 'hulu.level' is fed by device 'a' and by 'b' at the same time",
    ),
    (
        [Installation("a", "hulu.level", 5), Installation("a", "hilir.level", 9)],
        (),
        "device 'a' feeds water_level_m of datastream 'hulu.level' and 'hilir.level' at the same time",
    ),
    ((), [Calibration("a", "hulu.level", 0.0, 1.0, 5)], "scale must be a finite number other than 0, got 0.0"),
    ((), [Calibration("a", "hulu.level", 1.0, float("nan"), 5)], "offset must be a finite number, got nan"),
    ((), [Calibration("a", "hulu.level", 1.0, 1.0, 5)] * 2, "two are valid from the same moment, 5"),
    ((), [Calibration("x", "hulu.level", 1.0, 1.0, 5)], "a calibration names device 'x'"),
]


@pytest.mark.parametrize(("installations", "calibrations", "words"), REFUSED, ids=[r[2][:40] for r in REFUSED])
def test_what_cannot_be_is_refused(installations, calibrations, words) -> None:
    with pytest.raises(ValueError) as error:
        directory(installations, calibrations)
    assert words in str(error.value)


def test_names_of_brokers_cost_nothing_and_travel() -> None:
    d = directory()
    named = d.with_brokers(("utama", "cadangan"))
    assert named.installed is d.installed and named != d
    assert Directory.from_bytes(named.to_bytes()).brokers == ("utama", "cadangan")
    assert (named.broker_name(1), named.broker_name(2)) == ("cadangan", "2")


def test_content_from_before_installations_is_read() -> None:
    old = (
        b'{"version":1,"city":"bogor","utc_offset_h":7.0,"sites":[{"id":"hulu","name":"Hulu","latitude":-6.6,'
        b'"longitude":106.8,"district":""}],"devices":[{"id":"a","site":"hulu","model":"","silence_after_s":600.0}],'
        b'"datastreams":[{"id":"l","site":"hulu","device":"a","property":"water_level_m","limits":{},"ladder":{}}]}'
    )
    d = Directory.from_bytes(old)
    assert (d.installed.always, d.watched.tolist(), d.brokers) == (True, [True], ())


def test_a_hundred_thousand_installations_are_looked_up_by_arrays() -> None:
    """A bound that a loop over readings would miss by far: 200 ns a reading (measured: about 30)."""
    n = 20_000
    devices = tuple(Device(f"d{i}", "hulu") for i in range(2 * n))
    streams = tuple(Datastream(f"s{i}", "hulu", f"d{n + i}", "water_level_m") for i in range(n))
    d = Directory(
        1,
        "bogor",
        7.0,
        SITES,
        devices,
        streams,
        tuple(
            x for i in range(n) for x in (Installation(f"d{i}", f"s{i}", 0, 50), Installation(f"d{n + i}", f"s{i}", 50))
        ),
        tuple(Calibration(f"d{i}", f"s{i}", 2.0, 1.0, 10) for i in range(n)),
    )
    feed = np.random.default_rng(1).integers(0, 2 * n, 200_000).astype(np.int32)
    at = np.random.default_rng(2).integers(0, 100, 200_000)
    best = 1e9
    for _ in range(3):
        began = perf_counter()
        row = d.installed.at(feed, at)
        d.installed.calibrated(row, at, np.ones(at.shape))
        best = min(best, perf_counter() - began)
    assert best / at.size < 200e-9
    old = feed >= n  # former feeds are numbered behind the datastreams
    assert ((row >= 0) == np.where(old, at < 50, at >= 50)).all()


def test_other_directories_are_not_equal() -> None:
    d = directory()
    assert d == directory()
    assert d != replace_calibration(d)


def replace_calibration(d: Directory) -> Directory:
    return replace(d, calibrations=(Calibration("a", "hulu.level", 2.0, 0.0, 10),))
