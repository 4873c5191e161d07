from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing.indicators import rain
from processing.indicators.rain import NS_PER_H, RainClass
from telemetry.observations import NS_PER_S

CALDER = Path(__file__).parents[3] / "simulators/recordings/calder_2025"
MINUTE = 60 * NS_PER_S


def ns(text: str) -> int:
    return int(np.datetime64(text, "ns").astype(np.int64))


def recording(name: str) -> tuple[np.ndarray, np.ndarray]:
    with gzip.open(CALDER / f"{name}-rainfall-15min.csv.gz", "rt") as file:
        rows = [(ns(r["dateTime"]), float(r["value"])) for r in csv.DictReader(file)]
    return np.array([t for t, _ in rows]), np.array([v for _, v in rows])


@st.composite
def gauges(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Readings of up to three gauges on whole minutes, at unequal intervals, sorted."""
    columns: list[tuple[int, int, float]] = []
    for gauge in draw(st.lists(st.integers(0, 5), unique=True, max_size=3)):
        minutes = draw(st.lists(st.integers(0, 200), unique=True, max_size=12))
        depths = st.one_of(st.integers(0, 50).map(lambda d: d / 5), st.just(float("nan")))
        columns += [(gauge, minute, draw(depths)) for minute in minutes]
    columns.sort(key=lambda row: row[:2])
    return (
        np.array([c[0] for c in columns], np.int32),
        np.array([c[1] * MINUTE for c in columns], np.int64),
        np.array([c[2] for c in columns], np.float64),
    )


def by_minutes(table, gauge: int, from_minute: int, to_minute: int, longest: int) -> tuple[float, int]:
    """The reference: every depth is dealt out minute by minute. Returns the depth and the minutes covered."""
    depth, covered, before = 0.0, 0, None
    for stream, at, value in zip(*table, strict=True):
        if stream != gauge:
            continue
        end = int(at) // MINUTE
        start = end - longest if before is None else before
        inside = [m for m in range(start, end) if from_minute <= m < to_minute]
        if not np.isnan(value):
            depth += value * len(inside) / (end - start)
            if before is not None and end - start <= longest:
                covered += len(inside)
        before = end
    return depth, covered


@given(gauges(), st.integers(0, 5), st.integers(-20, 250), st.integers(1, 120), st.integers(1, 90))
def test_depth_over_is_what_dealing_out_minute_by_minute_gives(table, gauge, at, span, longest):
    got = rain.depth_over(
        *table,
        np.array([gauge], np.int32),
        np.array([at * MINUTE]),
        span * MINUTE,
        longest_interval_ns=longest * MINUTE,
    )
    depth, covered = by_minutes(table, gauge, at - span, at, longest)
    assert np.nan_to_num(got.depth_mm[0]) == pytest.approx(depth, abs=1e-9)
    assert got.covered[0] == pytest.approx(covered / span, abs=1e-9)


@given(gauges(), st.integers(-20, 250), st.integers(1, 120), st.integers(1, 90), st.randoms())
def test_the_newest_readings_in_any_order_give_the_same_as_the_history(table, at, span, longest, random):
    streams, times, values = table
    gauges_of = np.arange(6, dtype=np.int32)
    ring = np.full((6, 14), -1, np.int64)
    depths = np.full((6, 14), 123.0)
    for gauge in gauges_of:
        rows = np.flatnonzero(streams == gauge)
        slots = random.sample(range(14), len(rows))
        ring[gauge, slots], depths[gauge, slots] = times[rows], values[rows]
    ats = np.full(6, at * MINUTE)
    options = {"span_ns": span * MINUTE, "longest_interval_ns": longest * MINUTE}
    recent = rain.recent_depth(ring, depths, ring >= 0, ats, **options)
    whole = rain.depth_over(*table, gauges_of, ats, **options)
    np.testing.assert_allclose(recent.depth_mm, whole.depth_mm, atol=1e-9)
    np.testing.assert_allclose(recent.covered, whole.covered, atol=1e-9)


@given(gauges(), st.integers(1, 90), st.integers(-50, 50), st.randoms())
def test_windows_lose_and_make_no_rain_and_do_not_depend_on_the_order_or_the_cut(table, width, offset, random):
    streams, times, values = table
    starts = rain.interval_starts(streams, times, 30 * MINUTE)
    rows = list(range(len(streams)))
    random.shuffle(rows)
    options = {"width_ns": width * MINUTE, "offset_ns": offset * MINUTE}
    whole = rain.window_depths(streams, starts, times, values, **options)
    mixed = rain.window_depths(streams[rows], starts[rows], times[rows], values[rows], **options)
    for name in ("datastream", "start", "depth_mm", "covered"):
        np.testing.assert_allclose(getattr(mixed, name), getattr(whole, name), atol=1e-9)
    assert whole.depth_mm.sum() == pytest.approx(np.nansum(values), abs=1e-6)
    assert np.all(whole.covered <= 1 + 1e-12)
    cut = random.randint(0, len(rows))
    parts: dict[tuple[int, int], float] = {}
    for part in (slice(0, cut), slice(cut, None)):
        w = rain.window_depths(streams[part], starts[part], times[part], values[part], **options)
        for key, depth in zip(zip(w.datastream, w.start, strict=True), w.depth_mm, strict=True):
            parts[key] = parts.get(key, 0.0) + depth
    assert sorted(parts) == list(zip(whole.datastream, whole.start, strict=True))
    np.testing.assert_allclose([parts[k] for k in sorted(parts)], whole.depth_mm, atol=1e-9)


def test_no_reading_is_not_no_rain():
    streams, times = np.zeros(3, np.int32), np.array([0, 10, 20]) * MINUTE
    at = np.array([60 * MINUTE])
    dry = rain.depth_over(streams, times, np.zeros(3), np.zeros(1, np.int32), at - 40 * MINUTE, 10 * MINUTE)
    silent = rain.depth_over(streams, times, np.zeros(3), np.zeros(1, np.int32), at, 10 * MINUTE)
    assert (dry.depth_mm[0], dry.covered[0]) == (0.0, 1.0)
    assert np.isnan(silent.depth_mm[0])
    assert silent.covered[0] == 0.0
    assert np.isnan(rain.intensity_mm_h(silent, 10 * MINUTE)[0])


def test_one_tip_a_minute_of_a_bucket_of_a_fifth_of_a_millimetre_is_12_mm_an_hour():  # domain: 1 tip/min = 12 mm/h
    times = np.arange(31) * MINUTE
    depths = rain.recent_depth(times[None], np.full((1, 31), 0.2), np.ones((1, 31), bool), times[-1:], 15 * MINUTE)
    assert rain.intensity_mm_h(depths, 15 * MINUTE)[0] == pytest.approx(12.0)


def test_accumulations_of_a_recording():
    """Totals and wettest hour as computed from the file when it was taken in (truth.json)."""
    times, values = recording("Gorpley")
    streams = np.full(times.shape, 7, np.int32)
    sums = rain.accumulations(streams, times, values, streams, times)
    wettest = int(np.nanargmax(sums.depth_mm[:, 0]))
    assert sums.depth_mm[wettest, 0] == pytest.approx(6.8)
    assert times[wettest] == ns("2025-09-08T16:15")
    assert np.all(np.diff(sums.depth_mm[100:], axis=1) > -1e-9)  # a longer span holds the shorter
    # Four slots are absent; the interval after each run of them is still shorter than one hour, or exactly one.
    assert sums.covered[100:, 4].min() == pytest.approx(1.0)


def test_days_of_a_recording_add_up_to_its_total():
    times, values = recording("Gorpley")
    streams = np.zeros(times.shape, np.int32)
    starts = rain.interval_starts(streams, times, 15 * MINUTE)
    days = rain.rain_days(streams, starts, times, values, utc_offset_h=1.0, day_starts_at_h=0.0)
    assert days.depth_mm.sum() == pytest.approx(91.4)
    assert set((days.start % (24 * NS_PER_H)).tolist()) == {23 * NS_PER_H}
    # By hand: the readings that end after 23:00 UTC of 7 September, up to 23:00 of the 8th.
    day = int(np.flatnonzero(days.start == ns("2025-09-07T23:00"))[0])
    mask = (times > ns("2025-09-07T23:00")) & (times <= ns("2025-09-08T23:00"))
    assert days.depth_mm[day] == pytest.approx(values[mask].sum())


def test_a_reading_that_ends_with_a_window_does_not_touch_the_next():
    windows = rain.window_depths(np.zeros(1, np.int32), np.array([30]), np.array([120]), np.array([9.0]), 60)
    assert windows.start.tolist() == [0, 60]
    np.testing.assert_allclose(windows.depth_mm, [3.0, 6.0])


def test_a_rain_day_begins_at_seven_where_the_city_is():
    end = np.array([ns("2026-01-01T23:00")])
    for offset, day in ((7.0, "2026-01-01T00:00"), (8.0, "2026-01-01T23:00")):
        days = rain.rain_days(np.zeros(1, np.int32), end, end + MINUTE, np.array([1.0]), utc_offset_h=offset)
        assert days.start.tolist() == [ns(day)]


@pytest.mark.parametrize(
    ("classes", "depths", "expected"),
    [
        (rain.hourly_class, [0, 0.05, 0.99, 1, 4.99, 5, 10, 20, 20.01, 300], [0, 1, 1, 2, 2, 3, 4, 4, 5, 5]),
        (rain.daily_class, [0, 0.49, 0.5, 19.9, 20, 50, 100, 150, 150.1], [0, 1, 2, 2, 3, 4, 5, 5, 6]),
    ],
)
def test_classes_at_their_bounds(classes, depths, expected):
    assert classes(np.array(depths, np.float64)).tolist() == expected


@given(st.lists(st.floats(0, 500), min_size=2, max_size=20))
def test_more_rain_is_never_a_milder_class(depths):
    ordered = np.sort(np.array(depths))
    for classes in (rain.hourly_class, rain.daily_class):
        assert np.all(np.diff(classes(ordered)) >= 0)


def test_what_is_no_depth_has_no_class():
    assert rain.daily_class(np.array([np.nan, -0.2])).tolist() == [RainClass.UNKNOWN] * 2
    assert rain.hourly_class(np.empty((0, 3))).shape == (0, 3)


def test_wrong_tables_are_refused():
    zero, one = np.zeros(2, np.int32), np.ones(2)
    with pytest.raises(ValueError, match="sorted"):
        rain.interval_starts(zero, np.array([5, 5]), 1)
    with pytest.raises(ValueError, match="sorted"):
        rain.interval_starts(np.array([1, 0], np.int32), np.array([5, 6]), 1)
    with pytest.raises(ValueError, match="first_interval_ns must be positive, got 0"):
        rain.interval_starts(zero, np.array([5, 6]), 0)
    with pytest.raises(ValueError, match="span_ns must be positive, got 0"):
        rain.depth_over(zero, np.array([5, 6]), one, zero, np.array([5, 6]), 0)
    with pytest.raises(ValueError, match="must end after it starts"):
        rain.window_depths(zero, np.array([5, 6]), np.array([6, 6]), one, 60)
    with pytest.raises(ValueError, match=r"at must be \(2,\)"):
        rain.recent_depth(np.zeros((2, 3), np.int64), np.zeros((2, 3)), np.ones((2, 3), bool), np.zeros(3, int), 60)
    with pytest.raises(ValueError, match="least_covered"):
        rain.intensity_mm_h(rain.Depths(one, one), 60, least_covered=0.0)


def test_nothing_gives_nothing():
    none, no_time = np.empty(0, np.int32), np.empty(0, np.int64)
    asked = rain.depth_over(none, no_time, np.empty(0), np.array([4], np.int32), np.array([9]), 5)
    assert np.isnan(asked.depth_mm).tolist() == [True]
    assert rain.window_depths(none, no_time, no_time, np.empty(0), 60).start.shape == (0,)
    assert rain.recent_depth(
        np.empty((0, 8), np.int64), np.empty((0, 8)), np.empty((0, 8), bool), no_time, 5
    ).covered.shape == (0,)
