"""Runs of rows that belong together in sorted columns, and what is asked of them without a loop over rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Segments:
    """Consecutive rows with the same key: row ``start[i]`` up to ``start[i + 1]``."""

    key: npt.NDArray[np.int32]
    """(segments,) the key of each segment."""
    start: npt.NDArray[np.intp]
    """(segments,) its first row."""
    end: npt.NDArray[np.intp]
    """(segments,) one past its last row."""
    of_row: npt.NDArray[np.intp]
    """(rows,) the segment of each row."""

    @classmethod
    def of(cls, keys: npt.NDArray[np.int32]) -> Segments:
        """Segments of equal neighbours in ``keys``.

        Examples
        --------
        >>> s = Segments.of(np.array([4, 4, 7], np.int32))
        >>> s.key, s.start, s.end, s.of_row
        (array([4, 7], dtype=int32), array([0, 2]), array([2, 3]), array([0, 0, 1]))
        """
        n = keys.shape[0]
        first = np.empty(n, dtype=np.bool_)
        if n:
            first[0] = True
            np.not_equal(keys[1:], keys[:-1], out=first[1:])
        start = np.flatnonzero(first)
        end = np.append(start[1:], n) if n else start
        return cls(keys[start], start, end, np.cumsum(first) - 1)

    @property
    def first_row(self) -> npt.NDArray[np.intp]:
        """(rows,) the first row of each row's segment."""
        return self.start[self.of_row]


def last_true_before(mask: Bools, segments: Segments) -> npt.NDArray[np.intp]:
    """For each row the nearest earlier row of its segment where ``mask`` holds, or -1 if there is none.

    Examples
    --------
    >>> s = Segments.of(np.array([1, 1, 1, 2, 2], np.int32))
    >>> last_true_before(np.array([True, False, False, False, True]), s)
    array([-1,  0,  0, -1, -1])
    """
    up_to = last_true(mask, segments)
    before = np.empty_like(up_to)
    if before.size:
        before[1:] = up_to[:-1]
        before[segments.start] = -1
    return before


def last_true(mask: Bools, segments: Segments) -> npt.NDArray[np.intp]:
    """For each row the nearest row of its segment, itself included, where ``mask`` holds, or -1.

    Examples
    --------
    >>> s = Segments.of(np.array([1, 1, 1, 2, 2], np.int32))
    >>> last_true(np.array([True, False, False, False, True]), s)
    array([ 0,  0,  0, -1,  4])
    """
    index = np.where(mask, np.arange(mask.shape[0]), -1)
    np.maximum.accumulate(index, out=index)
    index[index < segments.first_row] = -1
    return index
