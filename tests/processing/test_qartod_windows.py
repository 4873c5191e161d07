"""Flat line and attenuated signal: a plain loop as the second implementation, laws, and streaming equal to batch."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processing.qartod_rows import Present
from processing.qartod_windows import Spread, attenuated, flat_by_right, flat_line
from processing.segments import Segments
from telemetry.observations import NS_PER_S
from telemetry.quality import FAIL, GOOD, MISSING, SUSPECT, UNKNOWN
from tests.processing.streams import Streams, cut, one, streams

S = NS_PER_S
SECONDS = st.sampled_from([0.25, 1.0, 2.5, 5.0, 60.0, np.inf])
WIDTHS = st.sampled_from([0.0, 1.0, 1.5, 3.0])


def at(*seconds: float) -> np.ndarray:
    return np.rint(np.array(seconds) * S).astype(np.int64)


def plain_flat_line(s: Streams, tolerance: float, suspect_s: float, fail_s: float) -> np.ndarray:
    """The definition, reading by reading."""
    flags = []
    for start, end in zip(s.segments.start, s.segments.end, strict=True):
        for i in range(start, end):
            if np.isnan(s.value[i]):
                flags.append(MISSING)
                continue
            flag, told = UNKNOWN, True
            for seconds, bad in ((suspect_s, SUSPECT), (fail_s, FAIL)):
                if seconds == np.inf:
                    continue
                known = [j for j in range(start, i + 1) if not np.isnan(s.value[j])]
                old = [j for j in known if s.at[i] - s.at[j] >= seconds * S]
                window = s.value[[j for j in known if not old or j >= old[-1]]]
                flat = np.ptp(window) < tolerance or np.ptp(window) == 0
                if flat and old:
                    flag = bad
                told &= not flat
            flags.append(GOOD if flag == UNKNOWN and told and min(suspect_s, fail_s) < np.inf else flag)
    return np.array(flags, np.uint8)


def plain_attenuated(
    s: Streams, window_s: float, suspect: float, spread: Spread, min_readings: int, min_span_s: float
) -> np.ndarray:
    flags = []
    for start, end in zip(s.segments.start, s.segments.end, strict=True):
        for i in range(start, end):
            if np.isnan(s.value[i]):
                flags.append(MISSING)
                continue
            rows = [j for j in range(start, i + 1) if s.at[i] - s.at[j] < window_s * S and not np.isnan(s.value[j])]
            values = [float(s.value[j]) for j in rows]
            if len(rows) < min_readings or s.at[i] - s.at[rows[0]] < min_span_s * S:
                flags.append(UNKNOWN)
                continue
            moved = max(values) - min(values) if spread is Spread.RANGE else statistics.pstdev(values)
            flags.append(SUSPECT if moved < suspect else GOOD)
    return np.array(flags, np.uint8)


# --- flat line


@settings(max_examples=150, deadline=None)
@given(streams(), WIDTHS, SECONDS, SECONDS)
def test_flat_line_is_its_definition(s: Streams, tolerance: float, suspect_s: float, fail_s: float):
    flag = flat_line(s.value, s.at, s.segments, tolerance=tolerance, suspect_s=suspect_s, fail_s=fail_s)
    assert np.array_equal(flag, plain_flat_line(s, tolerance, suspect_s, fail_s))


@settings(max_examples=100, deadline=None)
@given(streams(), WIDTHS, st.data())
def test_flat_line_streams_as_it_batches_if_the_history_holds_its_window(s: Streams, width: float, data: st.DataObject):
    def test(value: np.ndarray, times: np.ndarray, segments: Segments) -> np.ndarray:
        return flat_line(value, times, segments, tolerance=width, suspect_s=1.0, fail_s=2.5)

    # Readings come at least 0.25 s apart: one that is 2.5 s old is among the 10 newest, if none is missing.
    batches = data.draw(cut(s))
    assert np.array_equal(batches.run(test, 10, with_value=True), test(s.value, s.at, s.segments))


@settings(max_examples=100, deadline=None)
@given(streams(), WIDTHS, st.integers(0, 5), st.data())
def test_with_too_short_a_history_a_flat_line_is_milder_or_unknown(
    s: Streams, width: float, history: int, data: st.DataObject
):
    def test(value: np.ndarray, times: np.ndarray, segments: Segments) -> np.ndarray:
        return flat_line(value, times, segments, tolerance=width, suspect_s=5.0, fail_s=60.0)

    short = data.draw(cut(s)).run(test, history, with_value=True)
    whole = test(s.value, s.at, s.segments)
    # FAIL needs the longer window, so a short history may know of SUSPECT alone.
    assert np.all((short == whole) | (short == UNKNOWN) | ((short == SUSPECT) & (whole == FAIL)))


def test_the_default_tolerance_of_ioos_qc_fires_here():
    value = np.array([1.0, 2.0, 2.0, 2.0])
    assert flat_line(value, at(0, 1, 2, 3), one(4), tolerance=0.0, suspect_s=2.0).tolist() == [2, 1, 1, 3]


def test_an_interval_longer_than_the_time_asked_for():
    # Hourly readings, 30 min asked for: two equal ones have been flat for an hour. One alone is not flat.
    hours = at(0, 3600, 7200)
    assert flat_line(np.array([1.0, 2.0, 2.0]), hours, one(3), tolerance=0.1, suspect_s=1800.0).tolist() == [2, 1, 3]


def test_limits_by_datastream_and_a_test_that_is_off():
    segments = Segments.of(np.repeat(np.arange(4, dtype=np.int32), 3))
    flag = flat_line(
        np.full(12, 7.0),
        np.tile(at(0, 60, 120), 4),
        segments,
        tolerance=np.array([0.1, 0.1, np.nan, np.inf]),
        suspect_s=np.array([60.0, np.inf, 60.0, 60.0]),
        fail_s=np.array([np.nan, 120.0, 60.0, 60.0]),
    )
    assert flag.tolist() == [2, 3, 3, 2, 2, 4, 2, 2, 2, 2, 2, 2]


@settings(deadline=None)
@given(streams(), WIDTHS, st.floats(0.25, 60), st.floats(1, 4))
def test_a_wider_tolerance_and_a_shorter_time_flag_more(s: Streams, tolerance: float, seconds: float, times: float):
    def flagged(tolerance: float, seconds: float) -> np.ndarray:
        return flat_line(s.value, s.at, s.segments, tolerance=tolerance, suspect_s=seconds) == SUSPECT

    assert np.all(flagged(tolerance, seconds) <= flagged(tolerance * times + 1, seconds))
    assert np.all(flagged(tolerance, seconds * times) <= flagged(tolerance, seconds))


def test_zero_rain_is_flat_by_right_and_a_gauge_stuck_in_rain_is_not():
    rain = np.array([0.0] * 10 + [0.2, 1.4] + [2.6] * 10)
    times = np.arange(22, dtype=np.int64) * 300 * S
    flag = flat_line(rain, times, one(22), tolerance=0.0, suspect_s=1200.0, fail_s=2400.0)
    assert flag.tolist() == [2] * 4 + [3] * 4 + [4] * 2 + [1] * 6 + [3] * 4 + [4] * 2
    excused = flat_by_right(flag, rain, one(22), right_min=0.0, right_max=0.0)
    assert excused.tolist() == [2] * 10 + [1] * 6 + [3] * 4 + [4] * 2
    assert flat_by_right(flag, rain, one(22), right_min=np.nan, right_max=np.inf).tolist() == flag.tolist()
    assert FAIL not in flat_by_right(flag, rain, one(22), right_min=-np.inf, right_max=np.inf)


def test_missing_stays_missing_where_flat_is_by_right():
    flag = np.array([MISSING, GOOD, SUSPECT], np.uint8)
    value = np.array([np.nan, 0.0, 0.0])
    assert flat_by_right(flag, value, one(3), right_min=0.0, right_max=0.0).tolist() == [MISSING, GOOD, UNKNOWN]


# --- attenuated


@settings(max_examples=150, deadline=None)
@given(
    streams(),
    st.sampled_from([0.25, 1.0, 2.5, 60.0]),
    st.sampled_from([0.0, 0.45, 1.05, 2.5]),
    st.sampled_from(Spread),
    st.integers(1, 5),
    st.sampled_from([0.0, 1.0, 3.0]),
)
def test_attenuated_is_its_definition(
    s: Streams, window_s: float, suspect: float, spread: Spread, min_readings: int, min_span_s: float
):
    """No standard deviation or range of so few whole numbers from 0 to 4 equals one of the limits but 0."""
    flag = attenuated(
        s.value,
        s.at,
        s.segments,
        window_s=window_s,
        suspect=suspect,
        spread=spread,
        min_readings=min_readings,
        min_span_s=min_span_s,
    )
    assert np.array_equal(flag, plain_attenuated(s, window_s, suspect, spread, min_readings, min_span_s))


@settings(max_examples=100, deadline=None)
@given(streams(), st.sampled_from(Spread), st.floats(0, 2), st.data())
def test_attenuated_streams_as_it_batches_to_the_last_bit(
    s: Streams, spread: Spread, limit: float, data: st.DataObject
):
    """Values whose spread rounds: a threshold equal to a spread that occurs tells any difference."""
    rough = Streams(s.key, s.at, s.value * 0.1 + 1e6)
    present = Present.of(rough.value, rough.segments)
    if present.value.size:
        chosen = data.draw(st.integers(0, present.value.size - 1))
        limit = float(np.std(present.value[max(chosen - 3, 0) : chosen + 1]))

    def test(value: np.ndarray, times: np.ndarray, segments: Segments) -> np.ndarray:
        return attenuated(value, times, segments, window_s=2.5, suspect=limit, fail=limit / 2, spread=spread)

    # Readings come at least 0.25 s apart: of the 2.5 s before one there are 9 at most, and itself.
    batches = data.draw(cut(rough))
    assert np.array_equal(batches.run(test, 9, with_value=True), test(rough.value, rough.at, rough.segments))


def test_the_standard_deviation_of_a_small_signal_on_a_large_level():
    # Alternating by 1e-3 on 1e6: standard deviation 5e-4. Sums of squares would lose it in rounding.
    n = 1000
    value = 1e6 + 1e-3 * (np.arange(n) % 2)
    times = np.arange(n, dtype=np.int64) * S
    for limit, expected in ((4.9e-4, GOOD), (5.1e-4, SUSPECT)):
        flag = attenuated(value, times, one(n), window_s=600.0, suspect=limit, min_readings=600)
        assert flag[:599].tolist() == [UNKNOWN] * 599
        assert set(flag[599:].tolist()) == {expected}


def test_attenuated_flags_suspect_and_fail_by_datastream():
    segments = Segments.of(np.repeat(np.arange(3, dtype=np.int32), 3))
    value = np.array([0.0, 1.0, 0.0] * 3)
    flag = attenuated(
        value,
        np.tile(at(0, 1, 2), 3),
        segments,
        window_s=np.array([10.0, 10.0, np.nan]),
        suspect=np.array([2.0, 2.0, 2.0]),
        fail=np.array([0.5, 1.5, 1.5]),
        spread=Spread.RANGE,
    )
    assert flag.tolist() == [2, 3, 3, 2, 4, 4, 2, 2, 2]


@pytest.mark.parametrize("n", [0, 1])
def test_none_or_one_reading(n: int):
    value, times = np.ones(n), np.zeros(n, np.int64)
    assert flat_line(value, times, one(n), tolerance=0.1, suspect_s=1.0).tolist() == [UNKNOWN] * n
    assert attenuated(value, times, one(n), window_s=1.0, suspect=1.0).tolist() == [UNKNOWN] * n
    missing = value * np.nan
    assert flat_line(missing, times, one(n), tolerance=0.1, suspect_s=1.0).tolist() == [MISSING] * n
    assert attenuated(missing, times, one(n), window_s=1.0, suspect=1.0).tolist() == [MISSING] * n


def test_at_least_one_reading_makes_a_window():
    with pytest.raises(ValueError, match="min_readings must be at least 1, got 0"):
        attenuated(np.ones(1), np.zeros(1, np.int64), one(1), window_s=1.0, suspect=1.0, min_readings=0)
