"""Spike, rate of change, gap and climatology: hand-computed flags, laws, and streaming equal to batch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processing.qartod import (
    NEVER,
    Climatology,
    SpikeMethod,
    climatology,
    gap,
    rate_of_change,
    silent_since,
    spike,
)
from processing.qartod_rows import Present, new_rows, newest_at
from processing.segments import Segments
from telemetry.observations import NS_PER_S
from telemetry.quality import FAIL, GOOD, MISSING, SUSPECT, UNKNOWN
from tests.processing.streams import Streams, cut, one, streams

S = NS_PER_S


def at(*seconds: float) -> np.ndarray:
    return np.rint(np.array(seconds) * S).astype(np.int64)


# --- spike


def test_streams_do_not_see_each_other():
    segments = Segments.of(np.array([1, 1, 2, 2], np.int32))
    assert spike(np.array([0.0, 0.0, 9.0, 0.0]), segments, suspect=1.0).tolist() == [2, 2, 2, 2]
    assert rate_of_change(np.array([0.0, 0.0, 9.0, 9.0]), at(0, 1, 0, 1), segments, suspect_per_s=1.0).tolist() == [
        2,
        1,
        2,
        1,
    ]


def test_limits_by_datastream_and_switched_off():
    segments = Segments.of(np.repeat(np.arange(4, dtype=np.int32), 3))
    value = np.tile([0.0, 2.0, 0.0], 4)
    flag = spike(
        value, segments, suspect=np.array([1.0, 3.0, np.nan, np.inf]), fail=np.array([np.inf, np.inf, 1.5, np.nan])
    )
    assert flag[1::3].tolist() == [SUSPECT, GOOD, FAIL, UNKNOWN]


def test_a_threshold_of_zero_is_one():
    assert spike(np.array([0.0, 0.1, 0.0]), one(3), suspect=0.0).tolist() == [2, 3, 2]


def test_a_height_equal_to_the_threshold_passes():
    assert spike(np.array([0.0, 2.0, 0.0]), one(3), suspect=2.0).tolist() == [2, 1, 2]


def test_the_foot_of_a_steep_rise_is_a_spike_by_average_but_not_by_differential():
    flood = np.array([0.5, 0.5, 0.5, 3.5, 6.5, 6.6])
    by_average = spike(flood, one(6), suspect=0.5, fail=1.0)
    assert by_average.tolist() == [2, 1, 4, 1, 4, 2]  # |0.5 - (0.5 + 3.5) / 2| = 1.5; |6.5 - (3.5 + 6.6) / 2| = 1.45
    by_differential = spike(flood, one(6), suspect=0.5, fail=1.0, method=SpikeMethod.DIFFERENTIAL)
    assert by_differential.tolist() == [2, 1, 1, 1, 1, 2]


@settings(deadline=None)
@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=30))
def test_a_signal_that_only_rises_has_no_spike_by_differential(steps: list[int]):
    value = np.cumsum(np.abs(np.array(steps, dtype=np.float64)))
    flag = spike(value, one(len(value)), suspect=0.0, method=SpikeMethod.DIFFERENTIAL)
    assert not np.any(flag == SUSPECT)


def test_beside_a_missing_value_nothing_is_evaluated():
    flag = spike(np.array([1.0, 1.0, np.nan, 1.0, 1.0, np.inf, 1.0]), one(7), suspect=0.5)
    assert flag.tolist() == [2, 2, 9, 2, 2, 9, 2]


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_readings(n: int):
    value, times = np.ones(n), np.arange(n, dtype=np.int64) * S
    assert spike(value, one(n), suspect=1.0).tolist() == [UNKNOWN] * n
    assert rate_of_change(value, times, one(n), suspect_per_s=1.0).tolist() == [UNKNOWN, GOOD][:n]
    assert gap(times, one(n), expected_s=1.0).tolist() == [UNKNOWN, GOOD][:n]


# --- rate of change


def test_intervals_under_a_second():
    # 0.1 in 0.25 s are 0.4/s; ioos_qc takes the interval for 0 s and divides by it.
    flag = rate_of_change(np.array([0.0, 0.1, 0.3]), at(0, 0.25, 0.5), one(3), suspect_per_s=0.5)
    assert flag.tolist() == [UNKNOWN, GOOD, SUSPECT]


def test_a_rate_or_a_gap_equal_to_the_limit_passes():
    assert rate_of_change(np.array([0.0, 2.0]), at(0, 1), one(2), suspect_per_s=2.0).tolist() == [UNKNOWN, GOOD]
    assert gap(at(0, 20, 40.5), one(3), expected_s=10.0).tolist() == [UNKNOWN, GOOD, SUSPECT]


def test_after_missing_values_the_last_one_known_counts():
    value = np.array([1.0, np.nan, np.nan, 4.0, 4.0])
    # 3 in 30 s are 0.1/s.
    assert rate_of_change(value, at(0, 10, 20, 30, 40), one(5), suspect_per_s=0.11).tolist() == [2, 9, 9, 1, 1]
    assert rate_of_change(value, at(0, 10, 20, 30, 40), one(5), suspect_per_s=0.09).tolist() == [2, 9, 9, 3, 1]


@settings(deadline=None)
@given(streams(), st.floats(0, 1e6))
def test_a_rate_is_never_fail(s: Streams, limit: float):
    assert not np.any(rate_of_change(s.value, s.at, s.segments, suspect_per_s=limit) == FAIL)


@settings(deadline=None)
@given(streams(), st.integers(-100, 100), st.integers(0, 10), st.integers(0, 10))
def test_offset_sign_and_a_higher_limit(s: Streams, offset: int, limit: int, more: int):
    """Whole numbers keep the arithmetic exact."""
    for method in SpikeMethod:
        flag = spike(s.value, s.segments, suspect=limit, method=method)
        assert np.array_equal(flag, spike(-s.value, s.segments, suspect=limit, method=method))
        assert np.array_equal(flag, spike(s.value + offset, s.segments, suspect=limit, method=method))
        assert np.all(spike(s.value, s.segments, suspect=limit + more, method=method) <= flag)
    flag = rate_of_change(s.value, s.at, s.segments, suspect_per_s=limit)
    assert np.array_equal(flag, rate_of_change(offset - s.value, s.at, s.segments, suspect_per_s=limit))
    assert np.all(rate_of_change(s.value, s.at, s.segments, suspect_per_s=limit + more) <= flag)


# --- streaming


@settings(max_examples=200, deadline=None)
@given(streams(), st.data())
def test_streaming_gives_the_flags_of_the_batch_wherever_it_is_cut(s: Streams, data: st.DataObject):
    batches = data.draw(cut(s))

    def by_spike(value: np.ndarray, _: np.ndarray, segments: Segments) -> np.ndarray:
        return spike(value, segments, suspect=1.0, fail=3.0)

    def by_differential(value: np.ndarray, _: np.ndarray, segments: Segments) -> np.ndarray:
        return spike(value, segments, suspect=1.0, fail=3.0, method=SpikeMethod.DIFFERENTIAL)

    def by_gap(_: np.ndarray, times: np.ndarray, segments: Segments) -> np.ndarray:
        return gap(times, segments, expected_s=2.0)

    def by_rate(value: np.ndarray, times: np.ndarray, segments: Segments) -> np.ndarray:
        return rate_of_change(value, times, segments, suspect_per_s=1.0)

    for test, history, late in ((by_spike, 2, 1), (by_differential, 2, 1), (by_gap, 1, 0)):
        expected = test(s.value, s.at, s.segments)
        assert np.array_equal(batches.run(test, history, late), expected)
    assert np.array_equal(batches.run(by_rate, 1, 0, with_value=True), by_rate(s.value, s.at, s.segments))


# --- gap and silence


def test_gap_in_fractions_of_a_second():
    flag = gap(at(0, 0.1, 0.3, 0.6), one(4), expected_s=0.1, suspect_times=2.5)
    assert flag.tolist() == [UNKNOWN, GOOD, GOOD, SUSPECT]


def test_gap_is_switched_off_where_no_interval_is_known():
    segments = Segments.of(np.array([0, 0, 1, 1], np.int32))
    assert gap(at(0, 99, 0, 99), segments, expected_s=np.array([np.nan, 10.0])).tolist() == [2, 2, 2, 3]


def test_silent_since_when():
    last = np.array([0, 0, NEVER, 50 * S])
    expected_s = np.array([30.0, np.nan, 30.0, 30.0])
    just = silent_since(last, 60 * S, expected_s=expected_s)
    assert np.all(just == NEVER)
    assert silent_since(last, 60 * S + 1, expected_s=expected_s).tolist() == [60 * S, NEVER, NEVER, NEVER]
    assert silent_since(last, 999 * S, expected_s=expected_s).tolist() == [60 * S, NEVER, NEVER, 110 * S]


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 10**6), st.floats(0.001, 1e5), st.floats(1, 10))
def test_silent_exactly_when_a_reading_now_would_come_after_a_gap(
    last: int, wait: int, expected_s: float, times: float
):
    seconds = np.array([last, last + wait + 1]) * S
    flag = gap(seconds, one(2), expected_s=expected_s, suspect_times=times)
    since = silent_since(seconds[:1], int(seconds[1]), expected_s=expected_s, suspect_times=times)
    assert (flag[1] == SUSPECT) == (since[0] != NEVER)


# --- climatology


def spans(*rows: tuple[int, int, int, float, float, float, float, float, float]) -> Climatology:
    columns = list(zip(*rows, strict=True))
    whole = [np.array(c, dtype=t) for c, t in zip(columns[:3], (np.int32, np.int64, np.int64), strict=True)]
    return Climatology(*whole, *(np.array(c, dtype=np.float64) for c in columns[3:]))


INF = np.inf


def moments(*texts: str) -> np.ndarray:
    return np.array(texts, "datetime64[ns]").astype(np.int64)


def test_season_and_hour_in_local_time():
    # Wet season November to March: up to 3 m; else up to 1 m; at night (22 to 5 h) the last row counts: up to 2 m.
    table = spans(
        (7, 11, 3, 0, 24, 0.0, 3.0, -1.0, 9.0),
        (7, 4, 10, 0, 24, 0.0, 1.0, -1.0, 9.0),
        (7, 4, 10, 22, 5, 0.0, 2.0, -1.0, 9.0),
    )
    times = moments(
        "2026-01-15T05:00",  # noon in January
        "2026-07-15T05:00",  # noon in July
        "2026-07-15T15:00",  # 22:00 in July
        "2026-07-15T22:00",  # 05:00 in July: the night is over
        "2026-10-31T17:30",  # 00:30 on 1 November local time: wet season, though UTC says October
        "2026-03-31T17:30",  # 00:30 on 1 April: dry season, at night
    )
    value = np.full(6, 1.5)
    segments = Segments.of(np.full(6, 7, np.int32))
    flag = climatology(value, times, segments, table, utc_offset_h=7.0)
    assert flag.tolist() == [GOOD, SUSPECT, GOOD, SUSPECT, GOOD, GOOD]
    assert climatology(value + 8, times, segments, table, utc_offset_h=7.0).tolist() == [FAIL] * 6


def test_the_last_month_belongs_to_the_season():
    table = spans((0, 6, 8, 0, 24, 0.0, 1.0, -INF, INF))
    times = moments("2026-05-31T23:59", "2026-06-01T00:00", "2026-08-31T23:59", "2026-09-01T00:00")
    flag = climatology(np.full(4, 5.0), times, one(4), table, utc_offset_h=0.0)
    assert flag.tolist() == [UNKNOWN, SUSPECT, SUSPECT, UNKNOWN]


def test_bounds_belong_to_the_inside_and_missing_stays_missing():
    table = spans((0, 1, 12, 0, 24, 0.0, 1.0, -INF, INF))
    value = np.array([0.0, 1.0, -0.1, 1.1, np.nan])
    flag = climatology(value, np.arange(5, dtype=np.int64), one(5), table, utc_offset_h=0.0)
    assert flag.tolist() == [GOOD, GOOD, SUSPECT, SUSPECT, MISSING]


def test_without_a_span_that_holds_nothing_is_evaluated():
    table = spans((1, 6, 8, 0, 24, 0.0, 1.0, -INF, INF), (3, 1, 12, 0, 24, 0.0, 1.0, -INF, INF))
    segments = Segments.of(np.array([0, 1, 2, 3], np.int32))
    flag = climatology(np.full(4, 5.0), np.zeros(4, np.int64), segments, table, utc_offset_h=0.0)
    assert flag.tolist() == [UNKNOWN, UNKNOWN, UNKNOWN, SUSPECT]
    nobody = spans((9, 1, 12, 0, 24, 0.0, 1.0, -INF, INF))
    assert climatology(np.full(4, 5.0), np.zeros(4, np.int64), segments, nobody, utc_offset_h=0.0).tolist() == [2] * 4


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ((0, 0, 12, 0, 24, 0.0, 1.0, 0.0, 1.0), "first_month must be from 1 to 12"),
        ((0, 1, 12, 0, 25, 0.0, 1.0, 0.0, 1.0), "until_hour must be from 0 to 24"),
    ],
)
def test_impossible_spans(row: tuple[int, int, int, float, float, float, float, float, float], sentence: str):
    with pytest.raises(ValueError, match=sentence):
        spans(row)


# --- rows


def test_wrong_shapes_and_times_that_do_not_increase():
    with pytest.raises(ValueError, match="value must have one entry for each row"):
        spike(np.ones(3), one(2), suspect=1.0)
    with pytest.raises(ValueError, match="strictly increase"):
        rate_of_change(np.ones(2), at(5, 5), one(2), suspect_per_s=1.0)
    with pytest.raises(ValueError, match="strictly increase"):
        gap(at(5, 4), one(2), expected_s=1.0)


@settings(deadline=None)
@given(streams(), st.lists(st.integers(-5, 200), min_size=1, max_size=20))
def test_newest_at_is_numpys_search_in_each_stretch(s: Streams, asked: list[int]):
    for start, end in zip(s.segments.start, s.segments.end, strict=True):
        questions = np.array(asked, dtype=np.int64) * S
        n = len(asked)
        found = newest_at(s.at, questions, np.full(n, start), np.full(n, end))
        assert np.array_equal(found, start + np.searchsorted(s.at[start:end], questions, side="right") - 1)


@settings(deadline=None)
@given(streams())
def test_present_rows(s: Streams):
    present = Present.of(s.value, s.segments)
    for i, (start, end) in enumerate(zip(s.segments.start, s.segments.end, strict=True)):
        mine = present.value[present.begin[i] : present.end[i]]
        assert np.array_equal(mine, s.value[start:end][np.isfinite(s.value[start:end])])


def test_new_rows_of_a_stream_without_history():
    segments = Segments.of(np.array([0, 0, 1], np.int32))
    assert new_rows(segments, np.array([0, 1]), late=1).tolist() == [True, False, False]
