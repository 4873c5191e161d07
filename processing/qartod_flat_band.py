"""The flat line test where the history can't hold its window: three numbers and a mark for each datastream.

The summary is a *band*: the lowest and the highest value of a run of readings, and when the run began. A reading
belongs to the run as long as the band with it stays narrower than ``tolerance`` (or all values are equal) and the gap
before it is not longer than ``longest_gap_s``; else it begins a new run. A reading is flat for as long as its run has
lasted.

How that relates to ``processing.qartod_windows.flat_line``, which looks at every reading of its window (without a
``longest_gap_s``): a run is one of the stretches that the window test looks at, so what is flagged here is flagged
there at least as badly, and the same readings are UNKNOWN. The other way round, while all values since some moment
are flat, at most one new run begins after that moment: they are flagged ``suspect_s`` after it, but for at most
``suspect_s`` after that new run has begun.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from processing.qartod_rows import (
    Bools,
    Flags,
    Floats,
    Index,
    Ints,
    PerStream,
    Present,
    check_rows,
    nanoseconds,
    not_evaluated,
    of_segment,
)
from processing.segments import Segments, last_true
from telemetry.quality import FAIL, GOOD, SUSPECT, UNKNOWN

NEVER = np.iinfo(np.int64).min
"""Stands for "not yet" where a time is expected."""

_NEVER_OLD = np.iinfo(np.int64).max
_ROWS_WORTH_A_ROUND = 50
"""A round over the datastreams takes about 40 numpy calls; with fewer rows in each, doubling is faster."""


@dataclass(frozen=True, slots=True)
class FlatBand:
    """The current run of each datastream: 33 bytes."""

    since: Ints
    """(datastreams,) time of its first reading; NEVER before the first value. [ns since 1970 UTC]"""
    newest_at: Ints
    """(datastreams,) time of its newest reading. [ns since 1970 UTC]"""
    low: Floats
    """(datastreams,) lowest value. [unit of the property]"""
    high: Floats
    """(datastreams,) highest value. [unit of the property]"""
    moved: Bools
    """(datastreams,) whether a value before the run is known to lie outside its band."""

    @classmethod
    def none(cls, datastreams: int) -> Self:
        """Nothing seen yet."""
        return cls(
            np.full(datastreams, NEVER, dtype=np.int64),
            np.full(datastreams, NEVER, dtype=np.int64),
            np.full(datastreams, np.nan),
            np.full(datastreams, np.nan),
            np.zeros(datastreams, dtype=np.bool_),
        )


def flat_band(
    band: FlatBand,
    value: Floats,
    observed_at: Ints,
    segments: Segments,
    *,
    tolerance: PerStream,
    suspect_s: PerStream,
    fail_s: PerStream = np.inf,
    longest_gap_s: PerStream = np.inf,
) -> tuple[FlatBand, Flags]:
    """Flag readings at the end of a run in which nothing has moved for too long.

    Parameters
    ----------
    band : FlatBand
        What was carried from earlier batches; one entry for each segment, in the order of ``segments.key``.
    value : (n,) float array
        New readings only. NaN means missing; left out. [unit of the property]
    observed_at : (n,) int64 array
        Strictly increasing within each segment, and later than ``band.newest_at``. [ns since 1970 UTC]
    segments : Segments
        The rows of each datastream.
    tolerance : float or (segments,) float array
        A band narrower than this is flat. 0: only equal values are. [unit of the property]
    suspect_s, fail_s : float or (segments,) float array
        Age of the run from which on a reading is SUSPECT or FAIL. [s]
    longest_gap_s : float or (segments,) float array
        After a longer gap a new run begins: nobody looked. NaN or infinite: no gap is too long. [s]

    Returns
    -------
    FlatBand
        To be carried to the next batch, in the same order; what was given is not changed.
    (n,) uint8 array
        FAIL; else SUSPECT; GOOD if the run is younger but began with a move; UNKNOWN in the first run, and in one
        after a gap, until it is old enough; MISSING.

    Raises
    ------
    ValueError
        Shapes differ, or times do not increase.

    Examples
    --------
    Cut anywhere, the flags are the same:

    >>> one, minute = Segments.of(np.zeros(3, np.int32)), 60 * 10**9
    >>> limits = dict(tolerance=0.1, suspect_s=120.0, fail_s=240.0)
    >>> band, flag = flat_band(FlatBand.none(1), np.array([1.0, 2.0, 2.05]), np.arange(3) * minute, one, **limits)
    >>> flag, band.since // minute, band.high
    (array([2, 1, 1], dtype=uint8), array([1]), array([2.05]))
    >>> band, flag = flat_band(band, np.array([2.0, 2.0, 2.0]), np.arange(3, 6) * minute, one, **limits)
    >>> flag
    array([3, 3, 4], dtype=uint8)
    """
    check_rows(segments, value, observed_at)
    streams = segments.key.shape[0]
    if band.since.shape != (streams,):
        raise ValueError(f"band must have one entry for each segment ({streams},), got {band.since.shape}")
    flag = not_evaluated(value)
    present = Present.of(value, segments)
    if not present.row.size:
        return band, flag
    width = of_segment(tolerance, segments)
    longest_gap = nanoseconds(of_segment(longest_gap_s, segments))
    at = observed_at[present.row]
    after = _copied(band, width)
    longest = int((present.end - present.begin).max())
    if longest <= 4 or longest * _ROWS_WORTH_A_ROUND <= at.shape[0]:
        since, moved = _by_rounds(after, present, at, width, longest_gap)
    else:
        since, moved = _by_doubling(after, present, at, width, longest_gap)

    age = at - since
    verdict = np.where(moved, np.uint8(GOOD), np.uint8(UNKNOWN))
    on = np.zeros(segments.key.shape, dtype=np.bool_)
    for seconds, bad in ((suspect_s, SUSPECT), (fail_s, FAIL)):
        long = of_segment(seconds, segments)
        used = np.isfinite(long) & np.isfinite(width)
        on |= used
        if used.any():
            old = age >= np.where(used, nanoseconds(long), _NEVER_OLD)[present.segment]
            np.copyto(verdict, np.uint8(bad), where=old)
    if not on.all():
        np.copyto(verdict, np.uint8(UNKNOWN), where=~on[present.segment])
    flag[present.row] = verdict
    return after, flag


def _copied(band: FlatBand, width: Floats) -> FlatBand:
    """A copy to be worked on. A run that is no longer flat, since the tolerance was lowered, is forgotten."""
    known = (band.since != NEVER) & _flat(band.low, band.high, width)
    return FlatBand(
        np.where(known, band.since, NEVER),
        np.where(known, band.newest_at, NEVER),
        np.where(known, band.low, np.nan),
        np.where(known, band.high, np.nan),
        band.moved & known,
    )


def _by_rounds(band: FlatBand, present: Present, at: Ints, width: Floats, longest_gap: Ints) -> tuple[Ints, Bools]:
    """Since when each row's run lasts, and whether it began with a move; brings ``band`` up to date.

    First the first row of each datastream, then the second, ...: for many datastreams with few rows each.
    """
    since, moved = np.empty(at.shape, np.int64), np.empty(at.shape, np.bool_)
    count = present.end - present.begin
    for number in range(int(count.max())):
        has = count > number
        stream = slice(None) if has.all() else np.flatnonzero(has)
        row = present.begin[stream] + number
        x, now = present.value[row], at[row]
        run_since, newest = band.since[stream], band.newest_at[stream]
        low, high = np.fmin(band.low[stream], x), np.fmax(band.high[stream], x)  # NaN: there is no run yet
        first = run_since == NEVER
        first |= now - np.where(first, now, newest) > longest_gap[stream]
        broken = ~first & ~_flat(low, high, width[stream])
        begins = first | broken
        since[row] = band.since[stream] = np.where(begins, now, run_since)
        moved[row] = band.moved[stream] = np.where(begins, broken, band.moved[stream])
        band.low[stream], band.high[stream] = np.where(begins, x, low), np.where(begins, x, high)
        band.newest_at[stream] = now
    return since, moved


def _by_doubling(band: FlatBand, present: Present, at: Ints, width: Floats, longest_gap: Ints) -> tuple[Ints, Bools]:
    """The same for few datastreams with many rows each."""
    rows = _Rows.of(band, present, at)
    segment = rows.segments.of_row
    gap = np.ones(segment.shape, dtype=np.bool_)
    gap[1:] = (segment[1:] != segment[:-1]) | (np.diff(rows.at) > longest_gap[rows.stream[1:]])
    begins = _runs(gap, _next_break(rows.value, width[rows.stream], gap))
    run = last_true(begins, rows.segments)
    since = rows.since[run]
    moved = np.where(gap[run], rows.moved[run], True)

    last = rows.segments.end - 1
    in_last_run = np.arange(run.shape[0]) >= run[last][segment]
    stream = rows.segments.key
    band.since[stream], band.newest_at[stream], band.moved[stream] = since[last], rows.at[last], moved[last]
    band.low[stream] = np.minimum.reduceat(np.where(in_last_run, rows.value, np.inf), rows.segments.start)
    band.high[stream] = np.maximum.reduceat(np.where(in_last_run, rows.value, -np.inf), rows.segments.start)
    return since[rows.new], moved[rows.new]


@dataclass(frozen=True, slots=True)
class _Rows:
    """New rows with a value; before them, the carried run as two rows: its lowest value and its highest."""

    segments: Segments
    """``key`` is the number of the segment among those of the caller."""
    stream: Index
    at: Ints
    value: Floats
    since: Ints
    moved: Bools
    new: Bools

    @classmethod
    def of(cls, band: FlatBand, present: Present, new_at: Ints) -> Self:
        carried = np.flatnonzero(band.since != NEVER)
        stream = np.concatenate([carried, carried, present.segment])
        order = np.argsort(stream, kind="stable")
        at = np.concatenate([band.newest_at[carried], band.newest_at[carried], new_at])[order]
        since = np.concatenate([band.since[carried], band.since[carried], new_at])[order]
        value = np.concatenate([band.low[carried], band.high[carried], present.value])[order]
        moved = np.concatenate([band.moved[carried], band.moved[carried], np.zeros(new_at.shape, np.bool_)])[order]
        stream = stream[order]
        return cls(Segments.of(stream.astype(np.int32)), stream, at, value, since, moved, order >= 2 * carried.shape[0])


def _flat(low: Floats, high: Floats, width: Floats) -> Bools:
    with np.errstate(over="ignore", invalid="ignore"):
        flat: Bools = (high - low < width) | (high == low)
    return flat


def _next_break(value: Floats, width: Floats, begins: Bools) -> Index:
    """(rows,) for a run that begins at each row, the first row that is outside its band, or begins a new one anyway.

    The lowest and highest of stretches of 1, 2, 4, ... rows are laid beside each other; each run is then drawn out
    by the longest stretch that fits, then by half of it, and so on. Takes 16 bytes for each row and length.
    """
    n = value.shape[0]
    row = np.arange(n)
    starts = np.flatnonzero(begins)
    end = np.append(starts[1:], n)[np.cumsum(begins) - 1]
    lows, highs = [value], [value]
    length = 1
    while True:
        low, high = lows[-1].copy(), highs[-1].copy()
        low[:-length] = np.minimum(low[:-length], low[length:])
        high[:-length] = np.maximum(high[:-length], high[length:])
        length *= 2
        if length > n or not np.any(_flat(low, high, width) & (row + length <= end)):
            break
        lows.append(low)
        highs.append(high)
    low, high, after = value.copy(), value.copy(), row + 1
    for level in range(len(lows) - 1, -1, -1):
        at = np.minimum(after, n - 1)
        longer_low, longer_high = np.minimum(low, lows[level][at]), np.maximum(high, highs[level][at])
        fits = (after + (1 << level) <= end) & _flat(longer_low, longer_high, width)
        low, high = np.where(fits, longer_low, low), np.where(fits, longer_high, high)
        after = np.where(fits, after + (1 << level), after)
    return after


def _runs(begins: Bools, next_break: Index) -> Bools:
    """(rows,) where runs begin: at ``begins``, and from there on at each next break; by doubling the leap."""
    n = begins.shape[0]
    reached = np.append(begins, True)
    leap = np.append(next_break, n)
    while np.any(leap[:-1] < n):
        reached[leap[np.flatnonzero(reached)]] = True
        leap = leap[leap]
    return reached[:-1]
