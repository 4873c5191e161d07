"""Windows in event time: count, good count, minimum, maximum, mean and last of each minute, quarter hour and hour.

Each datastream keeps its newest windows open for late readings. A window is published when the watermark passes its
end, and again whenever a late reading corrects it. Sums are kept in multiples of 2⁻²⁰ of the unit, which makes them
exact, so that neither the order of readings nor the cutting into batches changes a mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from telemetry.observations import NS_PER_S
from telemetry.quality import FAIL, GOOD
from telemetry.results import Windows

WIDTHS_S = (60, 900, 3600)
SLOTS = (16, 4, 4)
"""Windows of each width that stay open for late readings of a datastream."""

NO_WINDOW = np.iinfo(np.int64).min
_QUANTUM = 2.0**-20

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(slots=True)
class WindowState:
    """The open windows of one width; every array is (datastreams, slots)."""

    width_s: int
    start: Ints
    count: npt.NDArray[np.uint32]
    good_count: npt.NDArray[np.uint32]
    usable_count: npt.NDArray[np.uint32]
    total: Floats
    minimum: Floats
    maximum: Floats
    last: Floats
    last_at: Ints
    unpublished: Bools
    swept_to: int
    """All windows that end up to here have been published. [ns]"""

    @classmethod
    def empty(cls, width_s: int, slots: int, datastreams: int) -> WindowState:
        """No window is open yet."""
        shape = (datastreams, slots)
        return cls(
            width_s,
            start=np.full(shape, NO_WINDOW, dtype=np.int64),
            count=np.zeros(shape, dtype=np.uint32),
            good_count=np.zeros(shape, dtype=np.uint32),
            usable_count=np.zeros(shape, dtype=np.uint32),
            total=np.zeros(shape),
            minimum=np.full(shape, np.inf),
            maximum=np.full(shape, -np.inf),
            last=np.full(shape, np.nan),
            last_at=np.full(shape, NO_WINDOW, dtype=np.int64),
            unpublished=np.zeros(shape, dtype=np.bool_),
            swept_to=NO_WINDOW,
        )


@dataclass(frozen=True, slots=True)
class _Groups:
    """What a batch brings for each (datastream, window) that it touches."""

    stream: npt.NDArray[np.int32]
    window: Ints
    rows: npt.NDArray[np.intp]
    """Number of rows."""
    good: npt.NDArray[np.intp]
    usable: npt.NDArray[np.intp]
    total: Floats
    minimum: Floats
    maximum: Floats
    last: Floats
    last_at: Ints

    def take(self, index: npt.NDArray[np.intp]) -> _Groups:
        return _Groups(*(getattr(self, name)[index] for name in self.__slots__))


def aggregate(
    state: WindowState,
    stream: npt.NDArray[np.int32],
    observed_at: Ints,
    value: Floats,
    flag: npt.NDArray[np.uint8],
    watermark: int,
) -> tuple[list[Windows], Bools]:
    """Add a batch to the windows of one width, and publish what is due.

    Parameters
    ----------
    state : WindowState
        Changed in place.
    stream, observed_at, value, flag : (n,) arrays
        Readings that were not added before, sorted by datastream and time.
    watermark : int
        No reading older than this is expected; windows that end up to it are published. [ns]

    Returns
    -------
    list of Windows
        Rows that are new or corrected.
    (n,) bool array
        True for readings whose window is no longer open: they are not in any published row.
    """
    published: list[Windows] = []
    too_old: Bools = np.zeros(stream.shape, dtype=np.bool_)
    if stream.size:
        groups = _group(stream, observed_at, value, flag, state.width_s * NS_PER_S)
        refused = np.zeros(groups.window.shape, dtype=np.bool_)
        for chosen in _passes(groups, state.start.shape[1]):
            refused[chosen] = _merge(state, groups.take(chosen), watermark, published)
        if refused.any():
            too_old = np.repeat(refused, groups.rows)
    _sweep(state, watermark, published)
    return published, too_old


def _group(
    stream: npt.NDArray[np.int32], observed_at: Ints, value: Floats, flag: npt.NDArray[np.uint8], width_ns: int
) -> _Groups:
    window = observed_at // width_ns
    n = stream.shape[0]
    first = np.empty(n, dtype=np.bool_)
    first[0] = True
    np.logical_or(stream[1:] != stream[:-1], window[1:] != window[:-1], out=first[1:])
    start = np.flatnonzero(first)
    usable = flag < FAIL
    last = np.maximum.reduceat(np.where(usable, np.arange(n), -1), start)
    has_last = last >= 0
    add = np.add.reduceat
    return _Groups(
        stream=stream[start],
        window=window[start],
        rows=np.diff(np.append(start, n)),
        good=add((flag == GOOD).astype(np.intp), start),
        usable=add(usable.astype(np.intp), start),
        total=add(np.rint(np.where(usable, value, 0.0) / _QUANTUM) * _QUANTUM, start),
        minimum=np.minimum.reduceat(np.where(usable, value, np.inf), start),
        maximum=np.maximum.reduceat(np.where(usable, value, -np.inf), start),
        last=np.where(has_last, value[last], np.nan),
        last_at=np.where(has_last, observed_at[last], NO_WINDOW),
    )


def _passes(groups: _Groups, slots: int) -> list[npt.NDArray[np.intp]]:
    """Split the groups into passes in which no two of a datastream share a slot; oldest windows first."""
    n = groups.stream.shape[0]
    everything = np.arange(n)
    first = np.empty(n, dtype=np.bool_)
    first[0] = True
    np.not_equal(groups.stream[1:], groups.stream[:-1], out=first[1:])
    oldest = groups.window[np.flatnonzero(first)][np.cumsum(first) - 1]
    if (groups.window - oldest < slots).all():
        return [everything]
    passes = []
    rest = everything
    key = groups.stream.astype(np.int64) * slots + groups.window % slots
    while rest.size:
        _, at = np.unique(key[rest], return_index=True)
        passes.append(rest[np.sort(at)])
        rest = np.delete(rest, at)
    return passes


def _merge(state: WindowState, new: _Groups, watermark: int, published: list[Windows]) -> Bools:
    """Put groups into their slots; returns which came too late for theirs."""
    width_ns = state.width_s * NS_PER_S
    slot = new.window % state.start.shape[1]
    start = new.window * width_ns
    held = state.start[new.stream, slot]
    refused: Bools = held > start
    fresh = held < start
    if fresh.any():
        stream, at = new.stream[fresh], slot[fresh]
        evicted = state.unpublished[stream, at]
        if evicted.any():
            published.append(_rows(state, stream[evicted], at[evicted]))
        state.start[stream, at] = start[fresh]
        state.count[stream, at] = 0
        state.good_count[stream, at] = 0
        state.usable_count[stream, at] = 0
        state.total[stream, at] = 0.0
        state.minimum[stream, at] = np.inf
        state.maximum[stream, at] = -np.inf
        state.last[stream, at] = np.nan
        state.last_at[stream, at] = NO_WINDOW
    if refused.any():
        kept = np.flatnonzero(~refused)
        new, slot, start = new.take(kept), slot[kept], start[kept]
    where = (new.stream, slot)
    state.count[where] += new.rows.astype(np.uint32)
    state.good_count[where] += new.good.astype(np.uint32)
    state.usable_count[where] += new.usable.astype(np.uint32)
    state.total[where] += new.total
    state.minimum[where] = np.minimum(state.minimum[where], new.minimum)
    state.maximum[where] = np.maximum(state.maximum[where], new.maximum)
    newer = new.last_at > state.last_at[where]
    state.last[new.stream[newer], slot[newer]] = new.last[newer]
    state.last_at[new.stream[newer], slot[newer]] = new.last_at[newer]
    due = start + width_ns <= watermark
    state.unpublished[where] = ~due
    if due.any():
        published.append(_rows(state, new.stream[due], slot[due]))
    return refused


def _sweep(state: WindowState, watermark: int, published: list[Windows]) -> None:
    """Publish the windows whose end the watermark has passed since the last sweep."""
    width_ns = state.width_s * NS_PER_S
    boundary = watermark // width_ns * width_ns
    if boundary <= state.swept_to:
        return
    state.swept_to = boundary
    stream, slot = np.nonzero(state.unpublished & (state.start + width_ns <= watermark))
    if stream.size:
        state.unpublished[stream, slot] = False
        published.append(_rows(state, stream.astype(np.int32), slot))


def _rows(state: WindowState, stream: npt.NDArray[np.int32], slot: npt.NDArray[np.integer]) -> Windows:
    where = (stream, slot)
    usable = state.usable_count[where]
    none = usable == 0
    return Windows(
        datastream=stream.astype(np.int32),
        width_s=np.full(stream.shape, state.width_s, dtype=np.int32),
        start=state.start[where],
        count=state.count[where],
        good_count=state.good_count[where],
        minimum=np.where(none, np.nan, state.minimum[where]),
        maximum=np.where(none, np.nan, state.maximum[where]),
        mean=np.where(none, np.nan, state.total[where] / np.maximum(usable, 1)),
        last=state.last[where],
    )
