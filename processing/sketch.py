"""Quantiles of many groups of readings at once, from a fixed small number of buckets for each group.

A value falls into the bucket ``rint(value / (2 * error))``; a group keeps the buckets that are occupied, with their
counts. When a group occupies more than ``limit`` buckets, neighbours are joined in pairs (its *level* rises by one, its
error doubles), as often as needed. The level is the smallest one at which *all* values of the group fit; fewer values
never need a higher one. So the sketch depends on the set of values alone: permuted readings, other batches and
merged parts give the same arrays.

The idea of joining all buckets in pairs is that of UDDSketch (Epicoco, Melle, Cafaro, Pulimeno, Morleo 2020,
"UDDSketch: Accurate Tracking of Quantiles in Data Streams", IEEE Access 8), here with equal widths instead of equal
ratios: a river gauge in metres above sea level needs an error in metres.

Memory: 8 bytes for each bucket and 9 for each group: 265 bytes for a group of 32 buckets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from telemetry.properties import PROPERTIES

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Indexes = npt.NDArray[np.intp]

DEFAULT_LIMIT = 32
_FREE = np.iinfo(np.int32).max
_LARGEST = 2**30
_ROWS_AT_ONCE = 4096


def error_of(property_name: str) -> float:
    """Error at level 0 for a property: half a unit of the last decimal that is shown to people.

    Examples
    --------
    >>> error_of("water_level_m")
    0.005
    """
    return 0.5 * 10.0 ** -PROPERTIES[property_name].decimals


@dataclass(slots=True)
class Sketches:
    """The sketches of many groups; a group is, for instance, one open window of one datastream."""

    bucket: npt.NDArray[np.int32]
    """(groups, limit) occupied buckets, ascending; free places at the end."""
    count: npt.NDArray[np.uint32]
    """(groups, limit) readings in each; 0 in free places."""
    level: npt.NDArray[np.uint8]
    """(groups,) how often neighbours were joined."""
    error: Floats
    """(groups,) error at level 0. [unit of the values]"""

    @classmethod
    def empty(cls, error: Floats, limit: int = DEFAULT_LIMIT) -> Sketches:
        """Sketches without readings.

        Parameters
        ----------
        error : (groups,) float array
            Error that is wanted of each group. [unit of the values]
        limit : int
            Buckets of each group.

        Raises
        ------
        ValueError
            An error is not positive, or ``limit`` is below 2.
        """
        error = np.asarray(error, dtype=np.float64)
        if not (error > 0).all():
            raise ValueError("error must be positive (processing.sketch)")
        if limit < 2:
            raise ValueError(f"limit must be at least 2, got {limit} (processing.sketch)")
        groups = error.shape[0]
        return cls(
            np.full((groups, limit), _FREE, dtype=np.int32),
            np.zeros((groups, limit), dtype=np.uint32),
            np.zeros(groups, dtype=np.uint8),
            error.copy(),
        )

    def clear(self, group: Indexes) -> None:
        """Forget the readings of some groups, to use their places for new windows."""
        self.bucket[group] = _FREE
        self.count[group] = 0
        self.level[group] = 0

    def total(self) -> Ints:
        """(groups,) readings in each group."""
        totals: Ints = self.count.sum(axis=1, dtype=np.int64)
        return totals

    def current_error(self) -> Floats:
        """(groups,) greatest distance of a quantile from the exact one. [unit of the values]"""
        # A level-0 bucket reaches one error to each side; 2**level of them make a bucket.
        errors: Floats = self.error * np.exp2(self.level.astype(np.float64))
        return errors


def add(sketches: Sketches, group: npt.NDArray[np.integer], value: Floats) -> None:
    """Add readings to their groups.

    Parameters
    ----------
    sketches : Sketches
        Changed in place.
    group : (n,) int array
        Group of each reading, in any order.
    value : (n,) float array
        NaN and infinite values are left out. Values beyond 2³¹ errors from 0 are counted as those.
    """
    usable = np.isfinite(value)
    if not usable.any():
        return
    target: Ints = group[usable].astype(np.int64)
    scaled = np.rint(value[usable] / (2 * sketches.error[target]))
    bucket = np.clip(scaled, -_LARGEST, _LARGEST).astype(np.int64)
    # Most readings fall into a bucket that their group has: only counts change, and no level can.
    joined = (bucket >> sketches.level[target]).astype(np.int32)
    place = np.zeros(target.shape, dtype=np.intp)
    known = np.zeros(target.shape, dtype=np.bool_)
    for begin in range(0, target.size, _ROWS_AT_ONCE):
        rows = slice(begin, begin + _ROWS_AT_ONCE)
        same = sketches.bucket[target[rows]] == joined[rows, None]
        place[rows] = same.argmax(axis=1)
        known[rows] = same[np.arange(same.shape[0]), place[rows]]
    np.add.at(sketches.count.reshape(-1), (target * sketches.bucket.shape[1] + place)[known], np.uint32(1))
    new = np.flatnonzero(~known)
    if new.size:
        # A group that gets one new bucket and has a free place keeps its level as well.
        _, of, times = np.unique(target[new], return_inverse=True, return_counts=True)
        alone = (times[of] == 1) & (sketches.count[target[new], -1] == 0)
        for begin in range(0, int(alone.sum()), _ROWS_AT_ONCE):
            rows = new[alone][begin : begin + _ROWS_AT_ONCE]
            _put_between(sketches, target[rows], joined[rows])
        rest = new[~alone]
        _insert(sketches, target[rest], bucket[rest], np.ones(rest.size, dtype=np.int64))


def _put_between(sketches: Sketches, group: Ints, joined: npt.NDArray[np.int32]) -> None:
    """Put one reading in a bucket of its own into each of some different groups that have a free place."""
    held, counts = sketches.bucket[group], sketches.count[group]
    place = (held < joined[:, None]).sum(axis=1)
    at = np.arange(held.shape[1])
    after = at > place[:, None]
    held[:, 1:] = np.where(after[:, 1:], held[:, :-1], held[:, 1:])
    counts[:, 1:] = np.where(after[:, 1:], counts[:, :-1], counts[:, 1:])
    row = np.arange(group.size)
    held[row, place], counts[row, place] = joined, 1
    sketches.bucket[group], sketches.count[group] = held, counts


def merge(sketches: Sketches, group: npt.NDArray[np.integer], other: Sketches) -> None:
    """Add whole sketches: row i of ``other`` goes to ``group[i]``; several rows may go to one group.

    Raises
    ------
    ValueError
        The errors at level 0 of two groups that are merged differ.
    """
    if not np.array_equal(sketches.error[group], other.error):
        raise ValueError("sketches of different errors at level 0 cannot be merged (processing.sketch.merge)")
    targets: Ints = np.asarray(group).astype(np.int64)
    np.maximum.at(sketches.level, targets, other.level)
    new = _occupied(other, np.arange(targets.size), targets)
    _insert(sketches, *new, touched=np.unique(targets))


def _occupied(sketches: Sketches, rows: npt.NDArray[np.integer], names: Ints) -> tuple[Ints, Ints, Ints]:
    """Group, level-0 bucket (the lowest of those joined) and count of all occupied places of some rows."""
    counts = sketches.count[rows]
    row, place = np.nonzero(counts)
    bucket = sketches.bucket[rows][row, place].astype(np.int64) << sketches.level[rows][row].astype(np.int64)
    return names[row], bucket, counts[row, place].astype(np.int64)


def _insert(sketches: Sketches, group: Ints, bucket: Ints, count: Ints, touched: Ints | None = None) -> None:
    """Add counts to level-0 buckets, joining neighbours until every group fits."""
    rows = np.unique(group) if touched is None else touched
    if not rows.size:
        return
    held = _occupied(sketches, rows, rows)
    group, bucket, count = (np.concatenate(pair) for pair in zip(held, (group, bucket, count), strict=True))
    local = np.searchsorted(rows, group)
    level = sketches.level[rows].astype(np.int64)
    limit = sketches.bucket.shape[1]
    # One number for (group, bucket). Joining neighbours keeps this order.
    order = np.argsort((local << 32) + (bucket >> level[local]) + 2 * _LARGEST)
    local, bucket, count = local[order], bucket[order], count[order]
    while True:
        joined = bucket >> level[local]
        first = np.ones(local.shape, dtype=np.bool_)
        first[1:] = (local[1:] != local[:-1]) | (joined[1:] != joined[:-1])
        start = np.flatnonzero(first)
        if start.size:
            count = np.add.reduceat(count, start)
        local, joined = local[start], joined[start]
        bucket = joined << level[local]
        occupied = np.bincount(local, minlength=rows.size)
        over = occupied > limit
        if not over.any():
            break
        level[over] += 1
    place = np.arange(local.size) - (np.cumsum(occupied) - occupied)[local]
    sketches.bucket[rows] = _FREE
    sketches.count[rows] = 0
    sketches.level[rows] = level.astype(np.uint8)
    sketches.bucket[rows[local], place] = joined.astype(np.int32)
    sketches.count[rows[local], place] = count.astype(np.uint32)


def quantiles(sketches: Sketches, fractions: npt.ArrayLike) -> Floats:
    """Quantiles of every group.

    Parameters
    ----------
    sketches : Sketches
    fractions : (k,) floats
        Between 0 and 1.

    Returns
    -------
    (groups, k) float array
        For each fraction p the middle of the bucket in which the reading of rank ceil(p · n) lies (rank 1 for p = 0),
        so within ``current_error`` of that reading: of ``numpy.quantile(..., method="inverted_cdf")``. NaN for a group
        without readings.

    Raises
    ------
    ValueError
        A fraction is outside 0 to 1.

    Examples
    --------
    >>> s = Sketches.empty(np.array([0.005]))
    >>> add(s, np.zeros(4, int), np.array([1.0, 4.0, 2.0, 3.0]))
    >>> quantiles(s, [0.5, 0.95])
    array([[2., 4.]])
    """
    wanted = np.atleast_1d(np.asarray(fractions, dtype=np.float64))
    if not ((wanted >= 0) & (wanted <= 1)).all():
        raise ValueError(f"fractions must be within 0 and 1, got {wanted} (processing.sketch.quantiles)")
    upto = np.cumsum(sketches.count, axis=1, dtype=np.int64)
    total = upto[:, -1:]
    result = np.full((upto.shape[0], wanted.size), np.nan)
    width = np.exp2(sketches.level.astype(np.float64))
    filled = np.flatnonzero(total[:, 0])
    for k, fraction in enumerate(wanted):
        # A rank that rounding of p · n puts a hair above a whole number is that number.
        rank = np.maximum(np.ceil(np.round(fraction * total[filled], 9)), 1)
        at = (upto[filled] < rank).sum(axis=1)
        bucket = sketches.bucket[filled, at].astype(np.float64)
        middle = (bucket + 0.5) * width[filled] - 0.5
        result[filled, k] = middle * 2 * sketches.error[filled]
    return result
