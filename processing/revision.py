"""Readings that come late, but not too late: their datastreams go once more through what came after ``State.base``.

The result is that of readings that came in order. What was told, and is different now, is told again.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from processing.advance import Told, stages, take
from processing.alarms import NEVER, NOT_RUNNING, TransitionLog, acknowledge, run_out
from processing.segments import Segments
from processing.state import HALF, RING, State
from processing.windows import WIDTHS_S, as_bytes, latest_of_each, window_start
from telemetry.alarms import Acknowledge, AlarmKind, AlarmState
from telemetry.directory import Directory
from telemetry.observations import Observations
from telemetry.results import Transitions, Windows

Flags = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]


@dataclass(slots=True)
class Revision:
    """What turns out differently."""

    windows: list[Windows] = field(default_factory=list)
    transitions: list[Transitions] = field(default_factory=list)
    corrected: Observations = field(default_factory=Observations.empty)


def revise(state: State, directory: Directory, rows: Observations, watermark: int) -> tuple[Flags, Revision]:
    """Put readings in among those of their datastreams; returns their flags and what is different now.

    Parameters
    ----------
    state : State
        Changed in place.
    directory : Directory
        Gives limits and ladders.
    rows : Observations
        Sorted by datastream and time, without duplicates; all newer than what ``state.base`` knows.
    watermark : int
        No reading older than this is expected. [ns]
    """
    streams = Segments.of(rows.datastream).key
    again = _ring_rows(state, streams)
    fresh = np.arange(len(again) + len(rows)) >= len(again)
    both = Observations.concat([again, rows])
    order = np.lexsort((both.observed_at, both.datastream))
    both, fresh = both.take(order), fresh[order]
    before = both.flag.copy()
    told_before = state.base["occurrence"]["changed_at"][streams].copy()
    # What has run out has run out, also if the clock has gone back since.
    until = np.maximum(watermark, np.minimum(state.live["level"]["run_out_at"][streams], NOT_RUNNING - 1) + 1)
    open_before = state.live["window"]["start"][streams]

    flag, told = _go_again(state, directory, both, streams, watermark, until)

    changed = ~fresh & (flag != before)
    revision = Revision()
    if changed.any():
        revision.corrected = replace(both.take(changed), flag=flag[changed])
    if told.windows:
        windows = latest_of_each(Windows.concat(told.windows))
        utc_offset_ns = round(directory.utc_offset_h * 3600e9)
        revision.windows = _different(windows, both.take(changed | fresh), streams, open_before, utc_offset_ns)
    _compare(state, streams, told_before, told.transitions, revision)
    return flag[fresh], revision


def _ring_rows(state: State, streams: npt.NDArray[np.int32]) -> Observations:
    """The readings of these datastreams that came after ``state.base``, sorted by datastream and time."""
    slot = state.ring.slots(streams)
    at = np.take_along_axis(state.ring.at[streams], slot, axis=1)
    row, column = np.nonzero((at > state.base["newest_at"][streams, None]) & (at != NEVER))
    slot = slot[row, column]
    stream, at = streams[row], at[row, column]
    packed = state.ring.flag[stream, slot]
    readings = Observations.of(stream, at, state.ring.value[stream, slot])
    return replace(readings, flag=packed & np.uint8(15), remark=packed >> np.uint8(4))


def _go_again(
    state: State,
    directory: Directory,
    both: Observations,
    streams: npt.NDArray[np.int32],
    watermark: int,
    until: Ints,
) -> tuple[Flags, Told]:
    """Take datastreams back to ``state.base`` and through all their readings since, with what operators did.

    Each action comes after the readings that there were then. Actions are few.
    """
    segments = Segments.of(both.datastream)
    stage = stages(segments)
    length = segments.end - segments.start
    acted = state.acted
    mine = np.flatnonzero(np.isin(acted.subject, streams) & (acted.after > state.base["newest_at"][acted.subject]))
    mine = mine[np.lexsort((acted.at[mine], acted.after[mine], acted.subject[mine]))]
    turn_of = np.arange(mine.size) - Segments.of(acted.subject[mine].astype(np.int32)).first_row
    done = np.zeros(len(both), dtype=np.intp)  # how many actions come before each row
    stage_of = np.zeros(mine.size, dtype=np.intp)
    for k, i in enumerate(mine):
        rows, later = both.datastream == acted.subject[i], both.observed_at > acted.after[i]
        done += rows & later
        stage_of[k] = stage[rows & ~later].max(initial=0)
    as_bytes(state.live)[streams] = as_bytes(state.base)[streams]
    flag = np.empty(len(both), dtype=np.uint8)
    told = Told()
    for number in range(3):
        for turn in range(max(int(done.max()), mine.size) + 1):
            chosen = np.flatnonzero((stage == number) & (done == turn))
            if chosen.size:
                part = both.take(chosen)
                flag[chosen] = take(state, directory, part, Segments.of(part.datastream), watermark, told)
            for i in mine[(turn_of == turn) & (stage_of == number)]:
                _act_again(state, directory, int(i), told)
        if number == 0:
            crowded = streams[length > RING]
            as_bytes(state.base)[crowded] = as_bytes(state.live)[crowded]
        elif number == 1:
            as_bytes(state.middle)[streams] = as_bytes(state.live)[streams]
    state.since_middle[streams] = np.minimum(length, HALF)
    state.since_base[streams] = np.clip(length - HALF, 0, RING - HALF)
    transitions, due_from = run_out(state.level, directory, until, streams)
    state.due_from = min(state.due_from, due_from)
    if len(transitions):
        told.transitions.append(transitions)
    _refill(state, both, flag, segments)
    return flag, told


def _act_again(state: State, directory: Directory, which: int, told: Told) -> None:
    acted = state.acted
    subject = int(acted.subject[which])
    transitions, due_from = run_out(
        state.level, directory, int(acted.watermark[which]), np.array([subject], dtype=np.int32)
    )
    state.due_from = min(state.due_from, due_from)
    log = TransitionLog(AlarmKind.LEVEL, directory.version)
    occurrence = state.level.occurrence
    raised_at = int(occurrence.raised_at[subject])
    acknowledge(occurrence, log, Acknowledge(AlarmKind.LEVEL, subject, raised_at, int(acted.at[which]), ""))
    told.transitions += [t for t in (transitions, log.columns()) if len(t)]


def _refill(state: State, both: Observations, flag: Flags, segments: Segments) -> None:
    """Put the newest readings of these datastreams into their rings anew."""
    kept = stages(segments) > 0
    ring, key = state.ring, segments.key
    # What came before ``base`` stays where there is room for it: it tells a duplicate.
    slot = ring.slots(key)
    at = np.take_along_axis(ring.at[key], slot, axis=1)
    old_row, old_column = np.nonzero((at != NEVER) & (at < both.observed_at[segments.start, None]))
    old_stream, old_slot = key[old_row], slot[old_row, old_column]
    stream = np.concatenate([old_stream, both.datastream[kept]])
    times = np.concatenate([at[old_row, old_column], both.observed_at[kept]])
    value = np.concatenate([ring.value[old_stream, old_slot], both.value[kept]])
    packed = np.concatenate([ring.flag[old_stream, old_slot], (flag | (both.remark << 4))[kept]])
    order = np.lexsort((times, stream))
    stream, times, value, packed = stream[order], times[order], value[order], packed[order]
    again = Segments.of(stream)
    rank_from_end = again.end[again.of_row] - np.arange(stream.size) - 1
    kept = rank_from_end < RING
    place = RING - 1 - rank_from_end[kept]
    ring.at[key] = NEVER
    ring.at[stream[kept], place] = times[kept]
    ring.value[stream[kept], place] = value[kept]
    ring.flag[stream[kept], place] = packed[kept]
    ring.next[key] = 0


def _different(
    windows: Windows, rows: Observations, streams: npt.NDArray[np.int32], open_before: Ints, utc_offset_ns: int
) -> list[Windows]:
    """The windows, each as it was published last, that one of the rows lies in, or that were not over before."""
    found = []
    for i, width_s in enumerate(WIDTHS_S):
        of_width = windows.take(windows.width_s == width_s)
        if not len(of_width):
            continue
        # Datastream and window as one number: there are few datastreams, and their windows are near each other.
        place = np.searchsorted(streams, of_width.datastream)
        row_place = np.searchsorted(streams, rows.datastream)
        row_start = window_start(rows.observed_at, width_s, utc_offset_ns)
        _, number = np.unique(np.concatenate([of_width.start, row_start]), return_inverse=True)
        key = place * (number.max() + 1) + number[: len(of_width)]
        touched = np.isin(key, row_place * (number.max() + 1) + number[len(of_width) :])
        chosen = touched | (of_width.start >= open_before[place, i])
        if chosen.any():
            found.append(of_width.take(chosen))
    return found


def _compare(
    state: State,
    streams: npt.NDArray[np.int32],
    told_before: Ints,
    now_told: list[Transitions],
    revision: Revision,
) -> None:
    """Say what of the alarms' history is different; put the new history into ``state.told``. Changes are few."""
    position = np.searchsorted(streams, state.told.subject)
    position[position == streams.size] = 0
    concerned = (streams[position] == state.told.subject) & (state.told.at > told_before[position])
    old = state.told.take(concerned)
    new = Transitions.concat(now_told) if now_told else Transitions.empty()
    state.told = state.told.take(~concerned)
    if not len(old) and not len(new):
        return
    old_rows, new_rows = _rows(old), _rows(new)
    gone = np.array([key not in new_rows for key in _keys(old)], dtype=np.bool_)
    if gone.any():
        withdrawn = old.take(gone)
        revision.transitions.append(
            replace(
                withdrawn,
                state=np.full(len(withdrawn), AlarmState.WITHDRAWN, dtype=np.uint8),
                severity=np.zeros(len(withdrawn), dtype=np.uint8),
            )
        )
    # An occurrence is told again as a whole: what comes last says how it stands.
    differs = {key[::2] for key in new_rows if new_rows[key] != old_rows.get(key)}
    differs |= {key[::2] for key in old_rows if key not in new_rows}
    # So is what happened at the same moments: a store may know no more of a change than its datastream and its moment.
    moments = {key[:2] for key in old_rows if key not in new_rows} | {
        key[:2] for key in new_rows if key[::2] in differs
    }
    again = np.array([key[::2] in differs or key[:2] in moments for key in _keys(new)], dtype=np.bool_)
    if again.any():
        revision.transitions.append(new.take(again))
    # The rest stays as it was told: with the version of the directory that was in force then.
    told_again = {key for key, chosen in zip(_keys(new), again.tolist(), strict=True) if chosen}
    stays = np.array([key in new_rows and key not in told_again for key in _keys(old)], dtype=np.bool_)
    state.told = Transitions.concat([state.told, old.take(stays)])


def _keys(t: Transitions) -> list[tuple[int, int, int]]:
    """Datastream, moment, and when the occurrence began."""
    return list(zip(t.subject.tolist(), t.at.tolist(), t.raised_at.tolist(), strict=True))


def _rows(t: Transitions) -> dict[tuple[int, int, int], tuple[float, ...]]:
    """Each change, but for the version of the directory."""
    columns = (t.state, t.severity, t.value, t.threshold, t.peak, t.peak_at)
    numbers = zip(*(np.nan_to_num(c, nan=1e300).tolist() for c in columns), strict=True)
    return dict(zip(_keys(t), numbers, strict=True))
