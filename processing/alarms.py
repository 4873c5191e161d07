"""Alarms: levels with deadband and delays that climb and fall as one alarm; their life cycle and acknowledgement.

A level alarm follows the readings of its datastream in event time and takes each value to hold until the next one:
a threshold's on-delay runs out at its own moment, be that between two readings. So the history of an alarm is the
same however the readings were cut into batches.

Rows are judged by arrays: for each step of the ladder only the moments at which a delay runs out become *events*.
Only these few go through the life cycle (ANSI/ISA-18.2) one by one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from processing.segments import Segments, last_true
from processing.sun import solar_elevation_deg
from telemetry.alarms import Acknowledge, AlarmKind, AlarmState, Severity
from telemetry.directory import MAX_STEPS, Directory, Gate
from telemetry.results import DTYPES, Transitions

NEVER = np.iinfo(np.int64).min
NOT_RUNNING = np.iinfo(np.int64).max
"""Stands for "the condition does not hold" where the time is expected since when it does."""
DARK_BELOW_DEG = -6.0
"""Civil twilight ends: street lamps must burn."""

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(slots=True)
class Occurrences:
    """The life cycle of the alarms of one kind, by subject."""

    state: npt.NDArray[np.uint8]
    raised_at: Ints
    severity: npt.NDArray[np.uint8]
    value: Floats
    threshold: Floats
    peak: Floats
    peak_at: Ints
    changed_at: Ints
    """When the alarm last changed; the next change is never dated before it. [ns]"""

    @classmethod
    def empty(cls, subjects: int) -> Occurrences:
        """Every alarm is normal."""
        return cls(
            state=np.zeros(subjects, dtype=np.uint8),
            raised_at=np.full(subjects, NEVER, dtype=np.int64),
            severity=np.zeros(subjects, dtype=np.uint8),
            value=np.full(subjects, np.nan),
            threshold=np.full(subjects, np.nan),
            peak=np.full(subjects, np.nan),
            peak_at=np.full(subjects, NEVER, dtype=np.int64),
            changed_at=np.full(subjects, NEVER, dtype=np.int64),
        )

    def grown_to(self, subjects: int) -> Occurrences:
        """The same with room for at least so many subjects; alarms of new ones are normal."""
        more = subjects - self.state.shape[0]
        if more <= 0:
            return self
        room = Occurrences.empty(more)
        names = [f.name for f in fields(self)]
        return Occurrences(**{name: np.concatenate([getattr(self, name), getattr(room, name)]) for name in names})


@dataclass(slots=True)
class LevelState:
    """What level alarms remember of each datastream; thresholds are the columns of (datastreams, MAX_STEPS) arrays."""

    at: Ints
    """Time of the last reading that was judged."""
    value: Floats
    beyond_since: Ints
    """Since when the value has been at or beyond the threshold; NOT_RUNNING if it is not."""
    back_since: Ints
    """Since when the value has been back by more than the deadband; NOT_RUNNING if it is not."""
    run_out_at: Ints
    """The latest moment at which something was decided without a reading: a delay ran out."""
    active: Bools
    """Which levels are entered."""
    occurrence: Occurrences


@dataclass(slots=True)
class TransitionLog:
    """Collects transitions row by row."""

    kind: AlarmKind
    directory_version: int
    rows: list[tuple[float, ...]] = field(default_factory=list)

    def note(self, occurrence: Occurrences, subject: int, at: int) -> None:
        """Write down the present state of an alarm as a transition at ``at``."""
        o, i = occurrence, subject
        o.changed_at[i] = at
        self.rows.append(
            (
                self.kind,
                i,
                o.raised_at[i],
                at,
                o.state[i],
                o.severity[i],
                o.value[i],
                o.threshold[i],
                o.peak[i],
                o.peak_at[i],
                self.directory_version,
            )
        )

    def columns(self) -> Transitions:
        """All rows, ordered by time."""
        if not self.rows:
            return Transitions.empty()
        names = Transitions.__dataclass_fields__
        columns = zip(names, zip(*self.rows, strict=True), strict=True)
        rows = Transitions(**{name: np.array(column, dtype=DTYPES[name]) for name, column in columns})
        return rows.take(np.argsort(rows.at, kind="stable"))


# ---------------------------------------------------------------------------------------------------------- levels


def judge_levels(
    state: LevelState,
    directory: Directory,
    segments: Segments,
    observed_at: Ints,
    value: Floats,
) -> tuple[Transitions, int]:
    """Follow the level alarms through a batch of usable readings.

    A level is entered once the value has been at or beyond its threshold for the on-delay, and left once the value
    has been back by more than the deadband for the off-delay. The alarm's severity is that of the highest level
    entered. Readings that the ladder's gate shuts out say nothing, and while it is shut nothing changes.

    Parameters
    ----------
    state : LevelState
        Changed in place.
    directory : Directory
        Gives ladders and positions.
    segments : Segments
        The rows of each datastream.
    observed_at, value : (n,) arrays
        Usable readings (not FAIL, not MISSING), strictly increasing in time within each segment, newer than all
        before. [ns], [unit]

    Returns
    -------
    Transitions
        Ordered by time.
    int
        No delay of these datastreams runs out before this moment without another reading; see ``run_out``. [ns]
    """
    events = _Events()
    log = TransitionLog(AlarmKind.LEVEL, directory.version)
    ladder = np.isfinite(directory.threshold[segments.key, 0])
    if not ladder.all():
        # Where there is no ladder only the value is kept, for one that may come.
        without = np.flatnonzero(~ladder)
        key, last = segments.key[without], segments.end[without] - 1
        state.at[key], state.value[key] = observed_at[last], value[last]
        rows_with = np.flatnonzero(ladder[segments.of_row])
        observed_at, value = observed_at[rows_with], value[rows_with]
        segments = Segments.of(segments.key[segments.of_row[rows_with]])
    stream = segments.key[segments.of_row]
    shut = _gate_is_shut(directory, stream, observed_at)
    if stream.size:
        _find_events(state, directory, segments, stream, observed_at, value, shut, events)
    last_key, last_at = segments.key, observed_at[segments.end - 1]
    if shut.any():
        # Only what the gate lets through is a value; the other rows did their part: they ended what was running.
        open_rows = np.flatnonzero(~shut)
        observed_at, value = observed_at[open_rows], value[open_rows]
        segments = Segments.of(stream[open_rows])
    for subject, at, steps, entered in events.in_order():
        i = int(np.searchsorted(segments.key, subject))
        known = i < segments.key.size and segments.key[i] == subject
        rows = slice(segments.start[i], segments.end[i]) if known else slice(0, 0)
        _apply(state, directory, log, subject, at, steps, entered, observed_at[rows], value[rows])
    _note_peaks(state, directory, segments, observed_at, value)
    due_from = NOT_RUNNING
    if last_key.size:
        state.at[last_key] = last_at
        state.value[segments.key] = value[segments.end - 1]
        for _, _, due, _ in _pending(state, directory, last_key):
            due_from = min(due_from, int(due.min()))
    return log.columns(), due_from


def follow_ladders(state: LevelState, directory: Directory, changed: npt.NDArray[np.intp], now: int) -> Transitions:
    """Let changed ladders take effect at once, on the value that is known.

    Where no alarm stands, the delays of the new ladder begin now. Where one stands, it goes to its new level, or is
    over, without delay: people have decided it.

    Parameters
    ----------
    state : LevelState
        Changed in place.
    directory : Directory
        With the new ladders.
    changed : (k,) int array
        The datastreams that have new ones.
    now : int
        When they come into force. [ns]
    """
    log = TransitionLog(AlarmKind.LEVEL, directory.version)
    changed = changed[state.at[changed] != NEVER]
    if not changed.size:
        return log.columns()
    direction = directory.direction[changed, None].astype(np.float64)
    signed = state.value[changed, None] * direction
    threshold = directory.threshold[changed] * direction
    beyond = signed >= threshold
    state.beyond_since[changed] = np.where(beyond, now, NOT_RUNNING)
    state.back_since[changed] = np.where(signed < threshold - directory.deadband[changed, None], now, NOT_RUNNING)
    stands = state.occurrence.severity[changed] > 0
    state.active[changed] = beyond & stands[:, None]
    no_rows_at, no_rows = np.empty(0, dtype=np.int64), np.empty(0)
    for subject in changed[stands]:
        _apply(state, directory, log, int(subject), now, [], [], no_rows_at, no_rows, ladder_changed=True)
    return log.columns()


def ladder_marks(directory: Directory) -> Ints:
    """(datastreams,) a number for each ladder that differs when the ladder does."""
    return marks(
        len(directory.datastreams),
        *directory.threshold.T,
        *directory.severity.T,
        directory.direction,
        directory.deadband,
        directory.on_delay_ns,
        directory.off_delay_ns,
        directory.gate,
    )


def marks(n: int, *parts: npt.NDArray[Any]) -> Ints:
    """(n,) a number for each row of these columns that differs when the row does."""
    mark = np.ones(n, dtype=np.uint64)
    for part in parts:
        bits = np.ascontiguousarray(part, dtype=np.float64).view(np.uint64)
        # As in FNV-1a: xor, multiply by an odd constant (modulo 2⁶⁴), and let the high bits come down.
        mark = (mark ^ bits) * np.uint64(0x9E3779B97F4A7C15)
        mark ^= mark >> np.uint64(29)
    return mark.view(np.int64)


def _gate_is_shut(directory: Directory, subject: npt.NDArray[np.integer], at: Ints) -> Bools:
    """Whether the ladder's gate lets nothing through at a moment: by day, for what is judged in the dark."""
    shut: Bools = directory.gate[subject] == Gate.DARK
    if shut.any():
        who = subject[shut]
        elevation = solar_elevation_deg(at[shut], directory.latitude[who], directory.longitude[who])
        shut[shut] = elevation >= DARK_BELOW_DEG
    return shut


@dataclass(slots=True)
class _Events:
    """Moments at which a level is entered or left, as columns."""

    subject: list[npt.NDArray[np.int32]] = field(default_factory=list)
    at: list[Ints] = field(default_factory=list)
    step: list[npt.NDArray[np.intp]] = field(default_factory=list)
    entered: list[Bools] = field(default_factory=list)

    def add(self, subject: npt.NDArray[np.int32], at: Ints, step: int, entered: bool) -> None:
        if subject.size:
            self.subject.append(subject)
            self.at.append(at)
            self.step.append(np.full(subject.shape, step))
            self.entered.append(np.full(subject.shape, entered))

    def any(self) -> bool:
        return bool(self.subject)

    def in_order(self) -> list[tuple[int, int, list[int], list[bool]]]:
        """(subject, moment, steps, entered or left), by subject and time; one moment, one entry."""
        if not self.subject:
            return []
        subject, at = np.concatenate(self.subject), np.concatenate(self.at)
        step, entered = np.concatenate(self.step), np.concatenate(self.entered)
        moments: list[tuple[int, int, list[int], list[bool]]] = []
        for i in np.lexsort((step, at, subject)):
            key = (int(subject[i]), int(at[i]))
            if not moments or moments[-1][:2] != key:
                moments.append((*key, [], []))
            moments[-1][2].append(int(step[i]))
            moments[-1][3].append(bool(entered[i]))
        return moments


def _find_events(
    state: LevelState,
    directory: Directory,
    segments: Segments,
    stream: npt.NDArray[np.int32],
    observed_at: Ints,
    value: Floats,
    shut: Bools,
    events: _Events,
) -> None:
    direction = directory.direction[stream]
    signed = value * direction
    previous_at = np.empty_like(observed_at)
    previous_at[1:] = observed_at[:-1]
    previous_at[segments.start] = state.at[segments.key]
    for step in range(MAX_STEPS):
        threshold = directory.threshold[stream, step] * direction
        if not np.isfinite(threshold).any() and not state.active[segments.key, step].any():
            continue
        for entered, holds, since, delay in (
            (True, signed >= threshold, state.beyond_since, directory.on_delay_ns),
            (False, signed < threshold - directory.deadband[stream], state.back_since, directory.off_delay_ns),
        ):
            rows, at = _expiries(segments, holds & ~shut, since[:, step], delay[stream], observed_at, previous_at)
            allowed = ~_gate_is_shut(directory, stream[rows], at)
            events.add(stream[rows][allowed], at[allowed], step, entered)


def _expiries(
    segments: Segments, holds: Bools, since: Ints, delay: Ints, observed_at: Ints, previous_at: Ints
) -> tuple[npt.NDArray[np.intp], Ints]:
    """Rows in which a delay runs out (after the previous row, at the latest with this one), and the moments.

    ``since`` is indexed by segment key and carries the running condition from batch to batch.
    """
    carried_since = since[segments.key]
    held_before = np.empty_like(holds)
    held_before[1:] = holds[:-1]
    held_before[segments.start] = carried_since != NOT_RUNNING
    run_start = last_true(holds & ~held_before, segments)
    run_since = np.where(run_start < 0, carried_since[segments.of_row], observed_at[run_start])
    # The run that the row continues, or that it has just broken: that of the row before.
    before_since = np.empty_like(run_since)
    before_since[1:] = run_since[:-1]
    before_since[segments.start] = carried_since
    running_since = np.where(held_before, before_since, np.where(holds, run_since, 0))
    runs_out = running_since + delay
    # Broken exactly when the delay runs out: it did not hold for the whole of it.
    in_time = np.where(holds, runs_out <= observed_at, runs_out < observed_at)
    rows = np.flatnonzero((held_before | holds) & in_time & ((runs_out > previous_at) | ~held_before))
    last = segments.end - 1
    since[segments.key] = np.where(holds[last], run_since[last], NOT_RUNNING)
    return rows, runs_out[rows]


def _apply(
    state: LevelState,
    directory: Directory,
    log: TransitionLog,
    subject: int,
    at: int,
    steps: list[int],
    entered: list[bool],
    row_at: Ints,
    row_value: Floats,
    *,
    ladder_changed: bool = False,
) -> None:
    """Let one alarm enter and leave levels at one moment. ``row_at`` and ``row_value``: the batch's rows of it."""
    o = state.occurrence
    for step, enters in zip(steps, entered, strict=True):
        state.active[subject, step] = enters
    active = state.active[subject]
    top = int(np.flatnonzero(active)[-1]) if active.any() else -1
    severity = int(directory.severity[subject, top]) if top >= 0 else 0
    was = int(o.severity[subject])
    if severity == was and not ladder_changed:
        return
    # A reading that came later than the watermark allowed for may end what a delay began after it.
    at = max(at, int(o.changed_at[subject]) + 1)
    held = int(np.searchsorted(row_at, at, side="right")) - 1
    value, value_at = (row_value[held], row_at[held]) if held >= 0 else (state.value[subject], state.at[subject])
    if was == Severity.NORMAL:
        if o.state[subject] == AlarmState.RETURNED_UNACKNOWLEDGED:
            o.state[subject] = AlarmState.NORMAL
            log.note(o, subject, at)
        o.raised_at[subject] = at
        o.peak[subject], o.peak_at[subject] = value, value_at
    else:
        since = np.searchsorted(row_at, max(int(o.raised_at[subject]), int(state.at[subject]) + 1))
        _raise_peak(
            o, subject, int(directory.direction[subject]), row_at[since : held + 1], row_value[since : held + 1]
        )
    if severity == Severity.NORMAL:
        acknowledged = o.state[subject] == AlarmState.ACKNOWLEDGED
        o.state[subject] = AlarmState.NORMAL if acknowledged else AlarmState.RETURNED_UNACKNOWLEDGED
    elif severity > was:
        o.state[subject] = AlarmState.UNACKNOWLEDGED
    o.severity[subject] = severity
    o.value[subject] = value
    passed = directory.threshold[subject, max(top, 0)]
    if np.isfinite(passed):  # the ladder may be gone; then the threshold that was passed stays
        o.threshold[subject] = passed
    log.note(o, subject, at)


def _raise_peak(o: Occurrences, subject: int, direction: int, at: Ints, value: Floats) -> None:
    if not value.size:
        return
    worst = int(np.argmax(value * direction))
    if value[worst] * direction > o.peak[subject] * direction:
        o.peak[subject], o.peak_at[subject] = value[worst], at[worst]


def _note_peaks(state: LevelState, directory: Directory, segments: Segments, observed_at: Ints, value: Floats) -> None:
    """Bring the peaks of the alarms that stand at the end of the batch up to date."""
    o = state.occurrence
    for i in np.flatnonzero(o.severity[segments.key] > 0):
        subject = int(segments.key[i])
        rows = slice(segments.start[i], segments.end[i])
        since = int(np.searchsorted(observed_at[rows], o.raised_at[subject]))
        at, readings = observed_at[rows][since:], value[rows][since:]
        _raise_peak(o, subject, int(directory.direction[subject]), at, readings)
        o.value[subject] = value[segments.end[i] - 1]


def run_out(
    state: LevelState, directory: Directory, watermark: int | Ints, subjects: npt.NDArray[np.int32] | None = None
) -> tuple[Transitions, int]:
    """Let delays that ran out since the last reading take effect although no reading came.

    Parameters
    ----------
    state : LevelState
        Changed in place.
    directory : Directory
        Gives the delays.
    watermark : int or (k,) int array
        No reading older than this is expected: delays that have run out before it take effect. [ns]
    subjects : (k,) int array or None
        The datastreams that are looked at, in order; None: all.

    Returns
    -------
    Transitions
        Ordered by time.
    int
        No delay of these runs out before this moment. [ns]
    """
    log = TransitionLog(AlarmKind.LEVEL, directory.version)
    no_rows_at, no_rows = np.empty(0, dtype=np.int64), np.empty(0)
    if subjects is None:
        subjects = np.flatnonzero(np.isfinite(directory.threshold[:, 0])).astype(np.int32)
    events = _Events()
    for subject, step, at, entered in _pending(state, directory, subjects):
        due = at < (watermark if isinstance(watermark, int) else watermark[np.searchsorted(subjects, subject)])
        np.maximum.at(state.run_out_at, subject[due], at[due])
        shut = due & _gate_is_shut(directory, subject, at)
        since = state.beyond_since if entered else state.back_since
        since[subject[shut], step[shut]] = NOT_RUNNING
        for k in range(MAX_STEPS):
            now_due = due & ~shut & (step == k)
            events.add(subject[now_due], at[now_due], k, entered)
    for index, moment, steps, enters in events.in_order():
        _apply(state, directory, log, index, moment, steps, enters, no_rows_at, no_rows)
    left = [int(at.min()) for _, _, at, _ in _pending(state, directory, subjects)]
    return log.columns(), min(left, default=NOT_RUNNING)


def _pending(
    state: LevelState, directory: Directory, subjects: npt.NDArray[np.int32]
) -> list[tuple[npt.NDArray[np.int32], npt.NDArray[np.intp], Ints, bool]]:
    """Delays that run: (subjects, steps, when they run out, whether the level is then entered or left)."""
    found = []
    for entered, since, delay in (
        (True, state.beyond_since, directory.on_delay_ns),
        (False, state.back_since, directory.off_delay_ns),
    ):
        row, step = np.nonzero((since[subjects] != NOT_RUNNING) & (state.active[subjects] != entered))
        if row.size:
            subject = subjects[row]
            found.append((subject, step, since[subject, step] + delay[subject], entered))
    return found


# -------------------------------------------------------------------------------------------------------- operator


def acknowledge(occurrences: Occurrences, log: TransitionLog, action: Acknowledge) -> bool:
    """Let an operator's acknowledgement take effect; False if that occurrence no longer waits for one."""
    o, subject = occurrences, action.subject
    if not 0 <= subject < o.state.shape[0] or o.raised_at[subject] != action.raised_at:
        return False
    if o.state[subject] == AlarmState.UNACKNOWLEDGED:
        o.state[subject] = AlarmState.ACKNOWLEDGED
    elif o.state[subject] == AlarmState.RETURNED_UNACKNOWLEDGED:
        o.state[subject] = AlarmState.NORMAL
    else:
        return False
    log.note(o, subject, max(action.at, int(o.changed_at[subject]) + 1))
    return True


def open_alarms(occurrences: Occurrences, kind: AlarmKind, directory_version: int) -> Transitions:
    """The alarms of one kind that are not normal, each as its latest transition would show it."""
    log = TransitionLog(kind, directory_version)
    for subject in np.flatnonzero(occurrences.state != AlarmState.NORMAL):
        log.note(occurrences, int(subject), int(occurrences.changed_at[subject]))
    return log.columns()
