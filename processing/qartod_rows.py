"""Rows of many datastreams at once, as quality tests ask of them: which have a value, which was the newest then.

Times are compared as whole nanoseconds, so an interval under a second counts as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from processing.segments import Segments
from telemetry.observations import NS_PER_S
from telemetry.quality import MISSING, UNKNOWN

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]
Index = npt.NDArray[np.intp]
PerStream = float | Floats
"""One number for all datastreams, or a (segments,) array. NaN and infinity switch a test off."""

_LONGEST_NS = 9.0e18
"""285 years: more than any history holds, less than int64 does."""


def check_rows(segments: Segments, value: Floats | None = None, observed_at: Ints | None = None) -> None:
    """Raise ValueError unless there is one value and one time for each row, and times increase in each segment."""
    rows = segments.of_row.shape
    for name, column in (("value", value), ("observed_at", observed_at)):
        if column is not None and column.shape != rows:
            raise ValueError(f"{name} must have one entry for each row of segments {rows}, got {column.shape}")
    if observed_at is not None and observed_at.size:
        same = segments.of_row[1:] == segments.of_row[:-1]
        if np.any(same & (observed_at[1:] <= observed_at[:-1])):
            raise ValueError("observed_at must strictly increase within each segment")


def of_segment(limit: PerStream, segments: Segments) -> Floats:
    """(segments,) the limit of each datastream; infinite where the test is switched off (NaN or infinite)."""
    limits = np.broadcast_to(np.asarray(limit, dtype=np.float64), segments.key.shape)
    return np.where(np.isfinite(limits), limits, np.inf)


def nanoseconds(seconds: Floats) -> Ints:
    """Whole nanoseconds, rounded; 285 years at most, so that infinity is longer than any history.

    Examples
    --------
    >>> nanoseconds(np.array([0.25, np.inf]))
    array([          250000000, 9000000000000000000])
    """
    return np.rint(np.minimum(seconds * NS_PER_S, _LONGEST_NS)).astype(np.int64)


def not_evaluated(value: Floats) -> Flags:
    """MISSING where there is no finite value, else UNKNOWN."""
    return np.where(np.isfinite(value), UNKNOWN, MISSING).astype(np.uint8)


def new_rows(segments: Segments, carried: Index, late: int = 0) -> Bools:
    """Mark the rows whose verdict a streaming evaluation gives for the first time.

    Parameters
    ----------
    segments : Segments
        Rows of history followed by new rows, for each datastream.
    carried : (segments,) integer array
        Number of rows of history at the start of each segment.
    late : int
        How many rows a verdict is late: 1 for ``spike``, else 0. Such verdicts are of rows that came before.

    Returns
    -------
    (n,) bool array

    Examples
    --------
    Two carried rows and three new ones; of a spike test, the last row's verdict has to wait, and the last carried
    row gets its own now:

    >>> s = Segments.of(np.zeros(5, np.int32))
    >>> new_rows(s, np.array([2])).astype(int), new_rows(s, np.array([2]), late=1).astype(int)
    (array([0, 0, 1, 1, 1]), array([0, 1, 1, 1, 0]))
    """
    row = np.arange(segments.of_row.shape[0])
    begin = np.maximum(segments.start + carried - late, segments.start)
    new: Bools = (row >= begin[segments.of_row]) & (row < (segments.end - late)[segments.of_row])
    return new


@dataclass(frozen=True, slots=True)
class Present:
    """The rows that have a finite value, closed up."""

    row: Index
    """(present,) where each stands among all rows."""
    value: Floats
    """(present,)"""
    segment: Index
    """(present,) its segment."""
    begin: Index
    """(segments,) the first of each segment, in this order; equal to ``end`` where there is none."""
    end: Index
    """(segments,) one past the last."""

    @classmethod
    def of(cls, value: Floats, segments: Segments) -> Present:
        """Leave out the rows without a finite value.

        Examples
        --------
        >>> p = Present.of(np.array([np.nan, 1.0, 2.0, np.nan]), Segments.of(np.array([5, 5, 6, 7], np.int32)))
        >>> p.row, p.begin, p.end
        (array([1, 2]), array([0, 1, 2]), array([1, 2, 2]))
        """
        finite = np.isfinite(value)
        if finite.all():
            return cls(np.arange(value.shape[0]), value, segments.of_row, segments.start, segments.end)
        row = np.flatnonzero(finite)
        before = np.concatenate([[0], np.cumsum(finite)])
        return cls(row, value[row], segments.of_row[row], before[segments.start], before[segments.end])


def newest_at(observed_at: Ints, at: Ints, begin: Index, end: Index) -> Index:
    """For each question the newest entry of a sorted stretch that is not after a time: bisection for all at once.

    Parameters
    ----------
    observed_at : (m,) int64 array
        Increasing within each stretch. [ns]
    at : (n,) int64 array
        The times asked for. [ns]
    begin, end : (n,) integer arrays
        The stretch of ``observed_at`` for each question: ``begin`` up to, not including, ``end``.

    Returns
    -------
    (n,) integer array
        The entry, or ``begin - 1`` if all are later or there is none. Takes log2(longest stretch) rounds.

    Examples
    --------
    >>> times = np.array([10, 20, 30, 5])
    >>> newest_at(times, np.array([20, 9, 99]), np.array([0, 0, 3]), np.array([3, 3, 4]))
    array([ 1, -1,  3])
    """
    low, high = begin.astype(np.intp), end.astype(np.intp)
    longest = int((high - low).max(initial=0))
    for _ in range(longest.bit_length()):
        middle = (low + high) >> 1
        searching = low < high
        not_after = searching & (observed_at[np.where(searching, middle, 0)] <= at)
        high = np.where(searching & ~not_after, middle, high)
        low = np.where(not_after, middle + 1, low)
    return low - 1
