"""QARTOD tests that compare datastreams: multivariate and neighbour. Both say SUSPECT at most.

All datastreams that are compared stand in the same rows, history included. A verdict depends on what the others have
sent by then, so streaming and batch agree only if it is given once their readings of that time can be expected: run
these tests on rows up to the watermark.

What the rows are and how flags and limits work: ``processing.qartod``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

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
    newest_at,
    not_evaluated,
    of_segment,
)
from processing.segments import Segments
from telemetry.quality import FAIL, GOOD, SUSPECT, UNKNOWN

NOBODY = -1
"""Stands for "no such datastream" where a key is expected."""


def multivariate(
    rate_flag: Flags,
    observed_at: Ints,
    segments: Segments,
    *,
    partner: npt.NDArray[np.int32],
    longest_apart_s: PerStream,
) -> Flags:
    """Flag readings that fail their rate test while a related variable passes its own: what moved is the sensor.

    The partner's verdict is that of its newest reading at the time, if it is not older than ``longest_apart_s``.

    History: of the partner, ``longest_apart_s``; of the datastream itself, none.

    Parameters
    ----------
    rate_flag : (n,) uint8 array
        From ``rate_of_change``; the partner's limit may be a tighter one, as the manual suggests.
    observed_at : (n,) int64 array
        Strictly increasing within each segment. [ns since 1970 UTC]
    segments : Segments
        The rows of each datastream; keys increase.
    partner : (segments,) int32 array
        Key of each datastream's partner; ``NOBODY``: it has none.
    longest_apart_s : float or (segments,) float array
        An older reading of the partner says nothing. NaN or infinite: no age is too old. [s]

    Returns
    -------
    (n,) uint8 array
        SUSPECT; GOOD if its own rate is, or the partner's fails as well; UNKNOWN without a verdict on either; MISSING.

    Raises
    ------
    ValueError
        Shapes differ, or times do not increase.

    References
    ----------
    QARTOD multi-variate test; ioos_qc has none.

    Examples
    --------
    Two gauges, the second the first one's partner; both jump at 60 s, only the first at 120 s:

    >>> s = Segments.of(np.array([0, 0, 0, 1, 1, 1], np.int32))
    >>> at = np.array([0, 60, 120, 0, 60, 120]) * 10**9
    >>> rate = np.array([2, 3, 3, 2, 3, 1], np.uint8)
    >>> multivariate(rate, at, s, partner=np.array([1, NOBODY], np.int32), longest_apart_s=30.0)
    array([2, 1, 3, 2, 2, 2], dtype=uint8)
    """
    check_rows(segments, observed_at=observed_at)
    if rate_flag.shape != observed_at.shape:
        raise ValueError(f"rate_flag must have the shape of observed_at {observed_at.shape}, got {rate_flag.shape}")
    said = (rate_flag >= GOOD) & (rate_flag <= FAIL) & (rate_flag != UNKNOWN)
    flag = np.where(rate_flag <= FAIL, UNKNOWN, rate_flag).astype(np.uint8)
    row = np.flatnonzero(said)
    with_verdict = _Stretches(row, segments)
    of = segments.of_row[row]
    begin, end, has = with_verdict.of_key(partner[of], segments)
    at = observed_at[row]
    other = newest_at(at, at, begin, end)
    longest = nanoseconds(of_segment(longest_apart_s, segments))[of]
    heard = has & (other >= begin)
    heard &= at - at[np.where(heard, other, 0)] <= longest
    own_moves = rate_flag[row] >= SUSPECT
    partner_moves = rate_flag[row[np.where(heard, other, 0)]] >= SUSPECT
    verdict = np.full(row.shape, UNKNOWN, dtype=np.uint8)
    verdict[has & ~own_moves] = GOOD
    verdict[heard & own_moves] = np.where(partner_moves, GOOD, SUSPECT)[heard & own_moves]
    flag[row] = verdict
    return flag


def neighbour(
    value: Floats,
    observed_at: Ints,
    segments: Segments,
    *,
    neighbours: npt.NDArray[np.int32],
    offset: Floats,
    lag_s: Floats,
    tolerance: PerStream,
    longest_apart_s: PerStream,
    min_neighbours: int = 2,
) -> Flags:
    """Flag readings that disagree with the median of their neighbours at the same time.

    A neighbour speaks by its newest reading at ``observed_at - lag_s``, if that is not older than
    ``longest_apart_s``; ``offset`` is added to it.

    History: of the neighbours, ``longest_apart_s`` and the longest lag; of the datastream itself, none.

    Parameters
    ----------
    value : (n,) float array
        NaN means missing; of a neighbour, it is passed over for the reading before. [unit of the property]
    observed_at : (n,) int64 array
        Strictly increasing within each segment. [ns since 1970 UTC]
    segments : Segments
        The rows of each datastream; keys increase.
    neighbours : (segments, k) int32 array
        Keys of each datastream's neighbours; ``NOBODY`` fills up.
    offset : (segments, k) float array
        How much higher this datastream stands than that neighbour as a rule. [unit of the property]
    lag_s : (segments, k) float array
        How much later this datastream sees what that neighbour sees; not negative. [s]
    tolerance : float or (segments,) float array
        A larger distance from the median is SUSPECT. [unit of the property]
    longest_apart_s : float or (segments,) float array
        An older reading of a neighbour says nothing. NaN or infinite: no age is too old. [s]
    min_neighbours : int
        With fewer neighbours that speak the flag is UNKNOWN. With two, one wrong neighbour can make a good reading
        SUSPECT; with three it can't.

    Returns
    -------
    (n,) uint8 array
        SUSPECT, GOOD, UNKNOWN or MISSING.

    Raises
    ------
    ValueError
        Shapes differ, times do not increase, a lag is negative, or ``min_neighbours`` < 1.

    References
    ----------
    QARTOD neighbour test, whose method the manual leaves to the operator; ioos_qc has none.

    Examples
    --------
    Three gauges that stand 1 m above each other:

    >>> s = Segments.of(np.arange(3, dtype=np.int32))
    >>> neighbour(np.array([1.0, 2.1, 9.0]), np.zeros(3, np.int64), s,
    ...           neighbours=np.array([[1, 2], [0, NOBODY], [0, 1]], np.int32),
    ...           offset=np.array([[-1.0, -2.0], [1.0, 0.0], [2.0, 1.0]]), lag_s=np.zeros((3, 2)),
    ...           tolerance=0.5, longest_apart_s=60.0)
    array([3, 2, 3], dtype=uint8)
    """
    check_rows(segments, value, observed_at)
    for name, column in (("neighbours", neighbours), ("offset", offset), ("lag_s", lag_s)):
        if column.ndim != 2 or column.shape[0] != segments.key.shape[0] or column.shape != neighbours.shape:
            raise ValueError(f"{name} must have the shape (segments, k) of neighbours, got {column.shape}")
    if np.any(lag_s < 0):
        raise ValueError("lag_s must not be negative")
    if min_neighbours < 1:
        raise ValueError(f"min_neighbours must be at least 1, got {min_neighbours}")
    flag = not_evaluated(value)
    present = Present.of(value, segments)
    if not present.row.size or not neighbours.shape[1]:
        return flag
    stretches = _Stretches(present.row, segments)
    at = observed_at[present.row]
    longest = nanoseconds(of_segment(longest_apart_s, segments))[present.segment]
    said = np.full((at.shape[0], neighbours.shape[1]), np.nan)
    for k in range(neighbours.shape[1]):
        begin, end, has = stretches.of_key(neighbours[present.segment, k], segments)
        then = at - nanoseconds(lag_s[:, k])[present.segment]
        newest = newest_at(at, then, begin, end)
        heard = has & (newest >= begin)
        newest = np.where(heard, newest, 0)
        heard &= then - at[newest] <= longest
        said[:, k] = np.where(heard, present.value[newest] + offset[present.segment, k], np.nan)
    middle, voices = _median(said)
    limit = of_segment(tolerance, segments)[present.segment]
    evaluated = (voices >= min_neighbours) & np.isfinite(limit)
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(present.value - middle) > limit
    verdict = flag[present.row]
    verdict[evaluated] = GOOD
    verdict[evaluated & apart] = SUSPECT
    flag[present.row] = verdict
    return flag


class _Stretches:
    """Where the chosen rows of each datastream stand among all chosen rows."""

    def __init__(self, row: Index, segments: Segments) -> None:
        if np.any(segments.key[1:] <= segments.key[:-1]):
            raise ValueError("the keys of segments must increase")
        self._begin = np.searchsorted(row, segments.start)
        self._end = np.searchsorted(row, segments.end)

    def of_key(self, key: npt.NDArray[np.int32], segments: Segments) -> tuple[Index, Index, Bools]:
        """Begin and end for each key, and whether such a datastream is among the segments."""
        place = np.minimum(np.searchsorted(segments.key, key), max(segments.key.shape[0] - 1, 0))
        has = segments.key[place] == key if key.size else np.zeros(0, dtype=np.bool_)
        return self._begin[place], np.where(has, self._end[place], self._begin[place]), has


def _median(said: Floats) -> tuple[Floats, Index]:
    """Median of each row without its NaN, and how many there are."""
    ordered = np.sort(said, axis=1)  # NaN last
    count = np.isfinite(ordered).sum(axis=1)
    row = np.arange(said.shape[0])
    low, high = np.maximum(count - 1, 0) // 2, count // 2
    with np.errstate(over="ignore"):
        middle = (ordered[row, low] + ordered[row, np.minimum(high, said.shape[1] - 1)]) / 2
    return middle, count
