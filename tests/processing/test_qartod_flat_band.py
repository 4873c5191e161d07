"""The flat line by a carried band: its definition reading by reading, streaming, and how it relates to the window."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processing import qartod_flat_band
from processing.qartod_flat_band import NEVER, FlatBand, flat_band
from processing.qartod_windows import flat_line
from processing.segments import Segments
from telemetry.observations import NS_PER_S
from telemetry.quality import FAIL, GOOD, MISSING, SUSPECT, UNKNOWN
from tests.processing.streams import Batches, Streams, cut, one, streams

S = NS_PER_S
SECONDS = st.sampled_from([0.25, 1.0, 2.5, 5.0, 60.0, np.inf])
WIDTHS = st.sampled_from([0.0, 1.0, 1.5, 3.0])
GAPS = st.sampled_from([1.0, 5.0, np.inf])


def plain(
    s: Streams, tolerance: float, suspect_s: float, fail_s: float, longest_gap_s: float
) -> tuple[np.ndarray, list[int]]:
    """The definition, reading by reading; and the rows at which a run begins since the one before was broken."""
    flags, breaks = [], []
    for start, end in zip(s.segments.start, s.segments.end, strict=True):
        run: list[float] = []
        since = newest = 0
        moved = False
        for i in range(start, end):
            if np.isnan(s.value[i]):
                flags.append(MISSING)
                continue
            x = float(s.value[i])
            width = max([*run, x]) - min([*run, x])
            if not run or s.at[i] - newest > longest_gap_s * S:
                run, since, moved = [x], s.at[i], False
            elif width < tolerance or width == 0:
                run.append(x)
            else:
                run, since, moved = [x], s.at[i], True
                breaks.append(i)
            newest = s.at[i]
            flag = UNKNOWN
            if min(suspect_s, fail_s) < np.inf and moved:
                flag = GOOD
            if s.at[i] - since >= suspect_s * S:
                flag = SUSPECT
            if s.at[i] - since >= fail_s * S:
                flag = FAIL
            flags.append(flag)
    return np.array(flags, np.uint8), breaks


def streamed(batches: Batches, tolerance: float, suspect_s: float, fail_s: float, longest_gap_s: float) -> np.ndarray:
    s = batches.streams
    band = FlatBand.none(int(s.key.max()) + 1)
    columns = (band.since, band.newest_at, band.low, band.high, band.moved)
    flag = np.zeros(s.at.shape, np.uint8)
    for number in range(int(batches.batch.max()) + 1):
        row = np.flatnonzero(batches.batch == number)
        segments = Segments.of(s.key[row])
        carried = FlatBand(*(c[segments.key] for c in columns))
        after, flag[row] = flat_band(
            carried,
            s.value[row],
            s.at[row],
            segments,
            tolerance=tolerance,
            suspect_s=suspect_s,
            fail_s=fail_s,
            longest_gap_s=longest_gap_s,
        )
        for column, new in zip(
            columns, (after.since, after.newest_at, after.low, after.high, after.moved), strict=True
        ):
            column[segments.key] = new
    return flag


@settings(max_examples=150, deadline=None)
@given(streams(), WIDTHS, SECONDS, SECONDS, GAPS, st.data())
def test_the_flags_are_those_of_the_definition_wherever_the_stream_is_cut(
    s: Streams, tolerance: float, suspect_s: float, fail_s: float, longest_gap_s: float, data: st.DataObject
):
    expected, _ = plain(s, tolerance, suspect_s, fail_s, longest_gap_s)
    whole = Batches(s, np.zeros(len(s.at), np.int64))
    assert np.array_equal(streamed(whole, tolerance, suspect_s, fail_s, longest_gap_s), expected)
    batches = data.draw(cut(s))
    assert np.array_equal(streamed(batches, tolerance, suspect_s, fail_s, longest_gap_s), expected)


@settings(max_examples=100, deadline=None)
@given(streams(), WIDTHS, SECONDS, SECONDS)
def test_what_the_band_flags_the_window_flags_as_well(s: Streams, tolerance: float, suspect_s: float, fail_s: float):
    suspect_s, fail_s = min(suspect_s, fail_s), max(suspect_s, fail_s)
    band, _ = plain(s, tolerance, suspect_s, fail_s, np.inf)
    window = flat_line(s.value, s.at, s.segments, tolerance=tolerance, suspect_s=suspect_s, fail_s=fail_s)
    assert np.all(band <= window), "GOOD 1, UNKNOWN 2, SUSPECT 3, FAIL 4"
    assert np.array_equal(band == UNKNOWN, window == UNKNOWN)


@settings(max_examples=100, deadline=None)
@given(streams(), WIDTHS)
def test_while_all_values_since_some_moment_are_flat_one_run_begins_at_most(s: Streams, tolerance: float):
    _, breaks = plain(s, tolerance, 1.0, np.inf, np.inf)
    for start, end in zip(s.segments.start, s.segments.end, strict=True):
        for i in range(start, end):
            for j in range(i + 1, end):
                values = s.value[i : j + 1][~np.isnan(s.value[i : j + 1])]
                if values.size and (np.ptp(values) < tolerance or np.ptp(values) == 0):
                    assert sum(i < b <= j for b in breaks) <= 1


def test_many_datastreams_with_few_readings_go_by_rounds_and_are_the_same(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(7)
    segments = Segments.of(np.repeat(np.arange(600, dtype=np.int32), rng.integers(1, 9, 600)))
    n = segments.of_row.shape[0]
    at = np.cumsum(rng.integers(1, 9, n)) * S
    value = np.where(rng.random(n) < 0.1, np.nan, rng.integers(0, 3, n).astype(np.float64))
    band = FlatBand.none(600)
    after: list[FlatBand] = []
    flags: list[np.ndarray] = []
    for _ in range(2):
        for rows_worth_a_round in (0, 10**9):
            monkeypatch.setattr(qartod_flat_band, "_ROWS_WORTH_A_ROUND", rows_worth_a_round)
            result = flat_band(band, value, at, segments, tolerance=1.5, suspect_s=6.0, fail_s=12.0, longest_gap_s=7.0)
            after.append(result[0])
            flags.append(result[1])
        for name in ("since", "newest_at", "low", "high", "moved"):
            assert np.array_equal(getattr(after[-1], name), getattr(after[-2], name), equal_nan=name in ("low", "high"))
        assert np.array_equal(flags[-1], flags[-2])
        assert set(flags[-1].tolist()) == {GOOD, UNKNOWN, SUSPECT, FAIL, MISSING}
        band, at = after[-1], at + int(at[-1])


def test_a_stuck_sensor_over_six_hours_of_minutes_in_batches_of_one():
    n = 420
    value = np.where(np.arange(n) < 60, 1 + 0.05 * (np.arange(n) % 7), 1.234)
    band, flags = FlatBand.none(1), []
    for i in range(n):
        band, flag = flat_band(
            band,
            value[i : i + 1],
            np.array([i * 60 * S]),
            one(1),
            tolerance=0.001,
            suspect_s=3 * 3600.0,
            fail_s=5 * 3600.0,
        )
        flags += flag.tolist()
    # Stuck from minute 60 on: 3 h later is minute 240, 5 h later minute 360.
    assert flags == [UNKNOWN] + [GOOD] * 239 + [SUSPECT] * 120 + [FAIL] * 60
    assert band.since[0] == 60 * 60 * S


def test_after_a_gap_nobody_knows():
    times = np.array([0, 60, 120, 4000, 4060, 4120]) * S
    flag = flat_band(
        FlatBand.none(1),
        np.array([1.0, 2.0, 2.0, 2.0, 2.0, 2.0]),
        times,
        one(6),
        tolerance=0.1,
        suspect_s=100.0,
        longest_gap_s=600.0,
    )[1]
    assert flag.tolist() == [UNKNOWN, GOOD, GOOD, UNKNOWN, UNKNOWN, SUSPECT]


def test_a_lower_tolerance_forgets_a_run_that_is_too_wide():
    band, _ = flat_band(
        FlatBand.none(1), np.array([1.0, 1.5]), np.array([0, 100]) * S, one(2), tolerance=1.0, suspect_s=50.0
    )
    assert (band.low[0], band.high[0]) == (1.0, 1.5)
    after, flag = flat_band(band, np.array([1.5]), np.array([200 * S]), one(1), tolerance=0.1, suspect_s=50.0)
    assert flag.tolist() == [UNKNOWN]
    assert after.since[0] == 200 * S


def test_what_was_given_is_not_changed_and_missing_rows_change_nothing():
    band, _ = flat_band(FlatBand.none(1), np.array([1.0]), np.array([S]), one(1), tolerance=1.0, suspect_s=50.0)
    assert band.since[0] == S
    after, flag = flat_band(band, np.array([np.nan]), np.array([2 * S]), one(1), tolerance=1.0, suspect_s=50.0)
    assert flag.tolist() == [MISSING]
    assert after.newest_at[0] == S
    flat_band(band, np.array([9.0]), np.array([3 * S]), one(1), tolerance=1.0, suspect_s=50.0)
    assert (band.since[0], band.high[0]) == (S, 1.0)
    assert FlatBand.none(2).since.tolist() == [NEVER, NEVER]


def test_one_band_for_each_segment():
    with pytest.raises(ValueError, match="band must have one entry for each segment"):
        flat_band(FlatBand.none(2), np.ones(1), np.zeros(1, np.int64), one(1), tolerance=1.0, suspect_s=1.0)
