"""QARTOD tests over a trailing window of time: flat line and attenuated signal; many datastreams at once.

No loop over readings: the reach of each window is found by bisection, and its minimum, maximum, mean and spread by
joining stretches of 1, 2, 4, 8, ... readings that end at the same reading. What a window gives depends on its
own readings and nothing else, to the last bit, so streaming and batch can't differ by rounding.

What the rows are and how flags and limits work: ``processing.qartod``. A flat line over hours, where the history held
is shorter: ``processing.qartod_flat_band``.
"""

from __future__ import annotations

from enum import Enum

import numpy as np

from processing.qartod_rows import (
    Flags,
    Floats,
    Index,
    Ints,
    PerStream,
    Present,
    check_rows,
    nanoseconds,
    newest_at,
    not_evaluated,
    of_segment,
)
from processing.segments import Segments
from telemetry.quality import FAIL, GOOD, SUSPECT, UNKNOWN


class Spread(Enum):
    """How the spread of a signal is measured."""

    STANDARD_DEVIATION = "std"
    """Of the population: divided by the number of readings."""
    RANGE = "range"


def flat_line(
    value: Floats,
    observed_at: Ints,
    segments: Segments,
    *,
    tolerance: PerStream,
    suspect_s: PerStream,
    fail_s: PerStream = np.inf,
) -> Flags:
    """Flag readings at the end of a stretch in which nothing has moved for too long.

    A reading is flat for ``T`` seconds if the values from the newest one that is at least ``T`` old up to itself have
    a range below ``tolerance``, or are all equal. Zero rain and a dark lamp are so by right: see ``flat_by_right``.

    History: all readings with a value back to one that is at least ``max(suspect_s, fail_s)`` old. With less, a flag
    is the same, or UNKNOWN, or SUSPECT instead of FAIL.

    Parameters
    ----------
    value : (n,) float array
        NaN means missing; left out. [unit of the property]
    observed_at : (n,) int64 array
        Strictly increasing within each segment. [ns since 1970 UTC]
    segments : Segments
        The rows of each datastream.
    tolerance : float or (segments,) float array
        A range below this is flat. 0: only equal values are. [unit of the property]
    suspect_s, fail_s : float or (segments,) float array
        Time after which it is SUSPECT or FAIL. [s]

    Returns
    -------
    (n,) uint8 array
        FAIL; else SUSPECT; GOOD if no window is flat; UNKNOWN if what is known is flat but not long enough to tell;
        MISSING.

    Raises
    ------
    ValueError
        Shapes differ, or times do not increase.

    References
    ----------
    QARTOD flat line test as in ioos_qc ``flat_line_test``. Differences: there, the default tolerance 0 never fires;
    a window is counted in readings of the median interval, so a gap lengthens it, a time that is no multiple of the
    interval shortens it, and one shorter than the interval flags every reading; what can't be told yet is GOOD.

    Examples
    --------
    >>> s = Segments.of(np.zeros(5, np.int32))
    >>> at = np.array([0, 60, 120, 180, 240]) * 10**9
    >>> flat_line(np.array([1.0, 2.0, 2.0, 2.0, 2.0]), at, s, tolerance=0.01, suspect_s=100.0, fail_s=180.0)
    array([2, 1, 1, 3, 4], dtype=uint8)
    """
    check_rows(segments, value, observed_at)
    flag = not_evaluated(value)
    present = Present.of(value, segments)
    if not present.row.size:
        return flag
    at = observed_at[present.row]
    verdict = flag[present.row]
    limit = of_segment(tolerance, segments)
    on = np.isfinite(limit)
    limit = limit[present.segment]
    cleared = np.ones(at.shape, dtype=np.bool_)
    any_on = np.zeros(at.shape, dtype=np.bool_)
    for long, bad in ((suspect_s, SUSPECT), (fail_s, FAIL)):
        seconds = of_segment(long, segments)
        used = (on & np.isfinite(seconds))[present.segment]
        if not used.any():
            continue
        first = present.begin[present.segment]
        row = np.arange(at.shape[0])
        oldest = newest_at(at, at - nanoseconds(seconds)[present.segment], first, row + 1)
        covered = oldest >= first
        low, high = _range(present.value, row - np.maximum(oldest, first) + 1)
        with np.errstate(over="ignore"):
            flat = (high - low < limit) | (high == low)
        verdict[used & covered & flat] = bad
        cleared &= ~used | ~flat
        any_on |= used
    verdict[any_on & cleared] = GOOD
    flag[present.row] = verdict
    return flag


def attenuated(
    value: Floats,
    observed_at: Ints,
    segments: Segments,
    *,
    window_s: PerStream,
    suspect: PerStream,
    fail: PerStream = np.inf,
    spread: Spread = Spread.STANDARD_DEVIATION,
    min_readings: int = 2,
    min_span_s: float = 0.0,
) -> Flags:
    """Flag readings at the end of a window in which the signal has moved too little.

    The window reaches from ``window_s`` ago, not included, to the reading itself.

    History: all readings with a value of the last ``window_s``. With less, the window is shorter than meant and the
    flag may differ: give a ``min_span_s``.

    Parameters
    ----------
    value : (n,) float array
        NaN means missing; left out. [unit of the property]
    observed_at : (n,) int64 array
        Strictly increasing within each segment. [ns since 1970 UTC]
    segments : Segments
        The rows of each datastream.
    window_s : float or (segments,) float array
        Length of the window. NaN and infinity switch the test off. [s]
    suspect, fail : float or (segments,) float array
        Spread below which a reading is SUSPECT or FAIL. [unit of the property]
    spread : Spread
        Standard deviation or range.
    min_readings : int
        With fewer in the window the flag is UNKNOWN.
    min_span_s : float
        With less time from the oldest reading in the window to this one the flag is UNKNOWN. [s]

    Returns
    -------
    (n,) uint8 array
        FAIL, SUSPECT, GOOD, UNKNOWN or MISSING.

    Raises
    ------
    ValueError
        Shapes differ, times do not increase, or ``min_readings`` < 1.

    References
    ----------
    QARTOD attenuated signal test as in ioos_qc ``attenuated_signal_test`` with ``test_period`` and ``min_obs``.
    Differences: no verdict over the whole series at once, which would need the future; fractional seconds count.

    Examples
    --------
    >>> s = Segments.of(np.zeros(4, np.int32))
    >>> at = np.array([0, 60, 120, 180]) * 10**9
    >>> attenuated(np.array([1.0, 2.0, 2.1, 2.1]), at, s, window_s=120.0, suspect=0.2, spread=Spread.RANGE)
    array([2, 1, 3, 3], dtype=uint8)
    """
    check_rows(segments, value, observed_at)
    if min_readings < 1:
        raise ValueError(f"min_readings must be at least 1, got {min_readings}")
    flag = not_evaluated(value)
    present = Present.of(value, segments)
    if not present.row.size:
        return flag
    at = observed_at[present.row]
    row = np.arange(at.shape[0])
    seconds = of_segment(window_s, segments)
    first = present.begin[present.segment]
    oldest = newest_at(at, at - nanoseconds(seconds)[present.segment], first, row + 1) + 1
    count = row - oldest + 1
    if spread is Spread.RANGE:
        low, high = _range(present.value, count)
        with np.errstate(over="ignore"):
            moved = high - low
    else:
        moved = _standard_deviation(present.value, count)
    suspect_of, fail_of = (of_segment(limit, segments)[present.segment] for limit in (suspect, fail))
    enough = (count >= min_readings) & (at - at[oldest] >= nanoseconds(np.array(min_span_s)))
    on = np.isfinite(seconds)[present.segment] & (np.isfinite(suspect_of) | np.isfinite(fail_of))
    evaluated = enough & on
    verdict = flag[present.row]
    verdict[evaluated] = GOOD
    verdict[evaluated & np.isfinite(suspect_of) & (moved < suspect_of)] = SUSPECT
    verdict[evaluated & np.isfinite(fail_of) & (moved < fail_of)] = FAIL
    flag[present.row] = verdict
    return flag


def flat_by_right(
    flag: Flags, value: Floats, segments: Segments, *, right_min: PerStream, right_max: PerStream
) -> Flags:
    """Take back what a test of flatness says about values at which the signal may well stand still.

    Rain of 0, a lamp's power of 0 by day, and water at its freezing point stay there for days; the same sensor stuck
    at another value is still found.

    Parameters
    ----------
    flag : (n,) uint8 array
        From ``flat_line``, ``flat_band`` or ``attenuated``.
    value : (n,) float array
        [unit of the property]
    segments : Segments
        The rows of each datastream.
    right_min, right_max : float or (segments,) float array
        The values at which it may stand still, bounds included; NaN: there are none. Infinite: no bound on that side.

    Returns
    -------
    (n,) uint8 array
        UNKNOWN instead of SUSPECT and FAIL there; else ``flag``.

    Raises
    ------
    ValueError
        Shapes differ.

    Examples
    --------
    >>> s = Segments.of(np.zeros(2, np.int32))
    >>> flat_by_right(np.array([4, 4], np.uint8), np.array([0.0, 1.2]), s, right_min=0.0, right_max=0.0)
    array([2, 4], dtype=uint8)
    """
    check_rows(segments, value)
    if flag.shape != value.shape:
        raise ValueError(f"flag must have the shape of value {value.shape}, got {flag.shape}")
    low, high = (np.broadcast_to(np.asarray(x, dtype=np.float64), segments.key.shape) for x in (right_min, right_max))
    at_rest = (value >= low[segments.of_row]) & (value <= high[segments.of_row])
    return np.where(at_rest & ((flag == SUSPECT) | (flag == FAIL)), np.uint8(UNKNOWN), flag)


def _range(value: Floats, count: Index) -> tuple[Floats, Floats]:
    """Lowest and highest of the ``count`` values that end at each; ``count`` from 1 to the number of values so far."""
    low, high = value.copy(), value.copy()
    stretch_low, stretch_high = value, value
    length = 1
    longest = int(count.max(initial=0))
    while 2 * length <= longest:
        stretch_low, stretch_high = (
            _doubled(np.minimum, stretch_low, length),
            _doubled(np.maximum, stretch_high, length),
        )
        length *= 2
        # Two stretches of this length that overlap make up the window.
        row = np.flatnonzero((count >= length) & (count < 2 * length))
        other = row - count[row] + length
        low[row] = np.minimum(stretch_low[row], stretch_low[other])
        high[row] = np.maximum(stretch_high[row], stretch_high[other])
    return low, high


def _doubled(join: np.ufunc, stretch: Floats, length: int) -> Floats:
    doubled = stretch.copy()
    doubled[length:] = join(stretch[length:], stretch[:-length])
    return doubled


def _standard_deviation(value: Floats, count: Index) -> Floats:
    """Standard deviation of the ``count`` values that end at each.

    Stretches are joined by the formula of Chan, Golub and LeVeque (1979), "Updating formulae and a pairwise algorithm
    for computing sample variances", Stanford STAN-CS-79-773; it does not lose digits where the mean is large.
    """
    n = np.zeros(value.shape)
    mean, squares = np.zeros(value.shape), np.zeros(value.shape)
    stretch_mean, stretch_squares = value, np.zeros(value.shape)
    length, end = 1, np.arange(value.shape[0])
    longest = int(count.max(initial=0))
    with np.errstate(over="ignore", invalid="ignore"):
        while length <= longest:
            row = np.flatnonzero(count & length)
            at, other, total = end[row], n[row], n[row] + length
            delta = stretch_mean[at] - mean[row]
            mean[row] += delta * (length / total)
            squares[row] += stretch_squares[at] + delta * delta * (other * length / total)
            n[row] = total
            end[row] -= length
            doubled_mean, doubled_squares = stretch_mean.copy(), stretch_squares.copy()
            delta = stretch_mean[length:] - stretch_mean[:-length]
            doubled_mean[length:] = stretch_mean[:-length] + delta / 2
            doubled_squares[length:] += stretch_squares[:-length] + delta * delta * (length / 2)
            stretch_mean, stretch_squares, length = doubled_mean, doubled_squares, 2 * length
        return np.sqrt(squares / np.maximum(n, 1))
