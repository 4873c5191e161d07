"""Readings that come in their turn: through quality, windows and level alarms, and into the ring."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from processing.alarms import judge_levels
from processing.quality import check
from processing.segments import Segments
from processing.state import HALF, RING, State
from processing.windows import aggregate, aggregate_one_each, as_bytes, kinds_of_mean, latest_of_each
from telemetry.directory import Directory
from telemetry.observations import Observations
from telemetry.quality import FAIL
from telemetry.results import Transitions, Windows

_ROUNDS = 8
"""Up to so many readings of one datastream in a batch are added one after the other."""

Flags = npt.NDArray[np.uint8]
Streams = npt.NDArray[np.intp] | npt.NDArray[np.int32]


@dataclass(slots=True)
class Told:
    """What follows from some readings."""

    windows: list[Windows] = field(default_factory=list)
    transitions: list[Transitions] = field(default_factory=list)
    """Of levels."""


def advance(state: State, directory: Directory, rows: Observations, watermark: int) -> tuple[Flags, Told]:
    """Take readings that are newer than all before of their datastreams; returns their flags and what follows.

    Parameters
    ----------
    state : State
        Changed in place.
    directory : Directory
        Gives limits and ladders.
    rows : Observations
        Sorted by datastream and time, without duplicates.
    watermark : int
        Windows that end up to it are published as they are changed. [ns]
    """
    segments = Segments.of(rows.datastream)
    length = segments.end - segments.start
    flag = np.empty(len(rows), dtype=np.uint8)
    told = Told()
    if length.max() <= HALF:
        stream = segments.key
        full = stream[state.since_middle[stream] + length > HALF]
        _move_up(state, full)
        flag[:] = take(state, directory, rows, segments, watermark, told)
        state.since_middle[stream] += length.astype(np.int16)
    else:
        # More of some than the ring has room for: the copies of earlier moments are made on the way.
        stage, many = stages(segments), length > HALF
        few, crowded = segments.key[~many], segments.key[many]
        _move_up(state, few[state.since_middle[few] + length[~many] > HALF])
        for number in range(3):
            chosen = np.flatnonzero(stage == number)
            if chosen.size:
                part = rows.take(chosen)
                flag[chosen] = take(state, directory, part, Segments.of(part.datastream), watermark, told)
            if number == 0:
                settle(state, crowded)
            elif number == 1:
                as_bytes(state.middle)[crowded] = as_bytes(state.live)[crowded]
        state.since_base[crowded] = np.minimum(length[many] - HALF, HALF)
        state.since_middle[crowded] = HALF
        state.since_middle[few] += length[~many].astype(np.int16)
    _into_ring(state, rows, flag, segments, length)
    return flag, told


def take(
    state: State, directory: Directory, rows: Observations, segments: Segments, watermark: int, told: Told
) -> Flags:
    """Let readings that come next in ``state.live`` through quality, windows and levels; returns their flags."""
    flag = check(state.quality, directory, segments, rows.observed_at, rows.value)
    offset_ns = round(directory.utc_offset_h * 3600e9)
    columns = (rows.datastream, rows.observed_at, rows.value, flag)
    kind = kinds_of_mean(directory)
    most = int((segments.end - segments.start).max())
    published: list[Windows | None]
    if most > _ROUNDS:
        published = [aggregate(window, *columns, kind, watermark, offset_ns) for window in state.windows]
    else:
        # The first reading of each datastream, then the second, ...
        rank = np.arange(len(rows)) - segments.first_row
        held, published = state.live["window"], []
        for number in range(most):
            turn = np.flatnonzero(rank == number) if most > 1 else slice(None)
            stream, at, value, verdict = rows.datastream[turn], rows.observed_at[turn], rows.value[turn], flag[turn]
            published.append(aggregate_one_each(held, stream, at, value, verdict, kind, watermark, offset_ns))
    found = [p for p in published if p is not None]
    if found and most > 1:
        told.windows.append(latest_of_each(Windows.concat(found)))
    else:
        told.windows += found
    usable = np.flatnonzero(flag < FAIL)
    if usable.size == len(rows):
        judged, runs = rows, segments
    else:
        judged = rows.take(usable)
        runs = Segments.of(judged.datastream)
    transitions, due_from = judge_levels(state.level, directory, runs, judged.observed_at, judged.value)
    state.due_from = min(state.due_from, due_from)
    if len(transitions):
        told.transitions.append(transitions)
    last, key = segments.end - 1, segments.key
    state.live["newest_at"][key] = rows.observed_at[last]
    state.live["newest_value"][key] = rows.value[last]
    state.live["newest_flag"][key] = flag[last]
    return flag


def stages(segments: Segments) -> npt.NDArray[np.intp]:
    """(rows,) how far each row is from its datastream's newest: 0 beyond the ring, 1 in its older half, 2 newer."""
    from_end = segments.end[segments.of_row] - np.arange(segments.of_row.shape[0]) - 1
    return (from_end < RING).astype(np.intp) + (from_end < HALF)


def settle(state: State, streams: Streams) -> None:
    """Let what came so far of these datastreams stand: nothing that comes late changes it any more."""
    as_bytes(state.middle)[streams] = as_bytes(state.base)[streams] = as_bytes(state.live)[streams]
    state.since_base[streams] = state.since_middle[streams] = 0


def _move_up(state: State, streams: Streams) -> None:
    """Make the copies of these datastreams younger."""
    if not streams.size:
        return
    as_bytes(state.base)[streams] = as_bytes(state.middle)[streams]
    as_bytes(state.middle)[streams] = as_bytes(state.live)[streams]
    state.since_base[streams] = state.since_middle[streams]
    state.since_middle[streams] = 0


def _into_ring(state: State, rows: Observations, flag: Flags, segments: Segments, length: npt.NDArray[np.intp]) -> None:
    rank = np.arange(len(rows)) - segments.first_row
    stream, ring = rows.datastream, state.ring
    slot = (ring.next[stream] + rank) % RING
    packed = flag | (rows.remark << 4)
    if length.max() > RING:
        newest = length[segments.of_row] - rank <= RING
        stream, slot, packed = stream[newest], slot[newest], packed[newest]
        at, value = rows.observed_at[newest], rows.value[newest]
    else:
        at, value = rows.observed_at, rows.value
    ring.at[stream, slot] = at
    ring.value[stream, slot] = value
    ring.flag[stream, slot] = packed
    ring.next[segments.key] = (ring.next[segments.key] + length) % RING
