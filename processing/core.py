"""The core: ``step(state, directory, observations, now) -> (state, results)``.

Everything that decides comes in as an argument: readings, the directory, the time, the operator's actions. Fed again
with the same arguments, it gives the same results; that is how a killed pipeline resumes and how a recording replays.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from processing.alarms import (
    LevelState,
    Occurrences,
    TransitionLog,
    acknowledge,
    follow_ladders,
    judge_levels,
    open_alarms,
)
from processing.quality import NEVER, QualityState, check, gross_range
from processing.segments import Segments
from processing.silence import DEAF, SilenceState, follow_watch, judge_brokers, judge_silence, listening_of
from processing.windows import SLOTS, WIDTHS_S, WindowState, aggregate
from telemetry.alarms import Acknowledge, AlarmKind
from telemetry.brokers import UNKNOWN_BROKER, BrokerLink
from telemetry.directory import Directory
from telemetry.observations import NS_PER_S, Observations
from telemetry.presence import Presence
from telemetry.quality import FAIL, UNKNOWN
from telemetry.results import Results, Transitions, Windows

RING = 32
"""Newest times of each datastream that are remembered, to know a duplicate from a late reading."""
LATENESS_S = 5.0
"""Windows wait this long for readings that are on their way."""

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(slots=True)
class State:
    """All that the core remembers between two steps, as arrays over datastreams or devices.

    ``step`` changes the arrays of the state it is given: use the one it returns.
    """

    seen_at: Ints
    """(datastreams, RING) times of the newest readings, oldest first when read from ``seen_next`` on; NEVER: free."""
    seen_next: npt.NDArray[np.int64]
    """(datastreams,) where the next time goes."""
    newest_at: Ints
    """(datastreams,) time of the newest reading."""
    newest_value: npt.NDArray[np.float64]
    newest_flag: npt.NDArray[np.uint8]
    quality: QualityState
    windows: tuple[WindowState, ...]
    level: LevelState
    silence: SilenceState
    brokers: Occurrences
    """Alarms of the brokers, as many as there were ever told of."""
    directory_version: int
    """Of the last step."""

    @classmethod
    def empty(cls, datastreams: int, devices: int) -> State:
        """Nothing has happened yet."""
        return cls(
            seen_at=np.full((datastreams, RING), NEVER, dtype=np.int64),
            seen_next=np.zeros(datastreams, dtype=np.int64),
            newest_at=np.full(datastreams, NEVER, dtype=np.int64),
            newest_value=np.full(datastreams, np.nan),
            newest_flag=np.full(datastreams, UNKNOWN, dtype=np.uint8),
            quality=QualityState(
                usable_at=np.full(datastreams, NEVER, dtype=np.int64),
                usable_value=np.full(datastreams, np.nan),
                flat_since=np.full(datastreams, NEVER, dtype=np.int64),
            ),
            windows=tuple(
                WindowState.empty(width_s, slots, datastreams) for width_s, slots in zip(WIDTHS_S, SLOTS, strict=True)
            ),
            level=LevelState.empty(datastreams),
            silence=SilenceState.empty(devices),
            brokers=Occurrences.empty(0),
            directory_version=-1,
        )

    @classmethod
    def for_directory(cls, directory: Directory) -> State:
        """Nothing has happened yet in this city."""
        return cls.empty(len(directory.datastreams), len(directory.devices))

    def grown_to(self, directory: Directory) -> State:
        """The same state with room for the datastreams and devices that a newer directory appended."""
        streams, devices = len(directory.datastreams), len(directory.devices)
        have = (self.newest_at.shape[0], self.silence.last_at.shape[0])
        if have == (streams, devices):
            return self
        if streams < have[0] or devices < have[1]:
            raise ValueError(
                f"a directory only grows: the state knows {have[0]} datastreams and {have[1]} devices, "
                f"directory version {directory.version} has {streams} and {devices}"
            )
        room = State.empty(streams - have[0], devices - have[1])
        mine, more = dict(_arrays(self)), dict(_arrays(room))
        return _from_arrays({k: np.concatenate([v, more[k]]) if v.ndim else v for k, v in mine.items()})

    def rewired(self, before: Sequence[str], after: Sequence[str]) -> State:
        """The same state after the brokers, known by name, were put into another order, or some came or went."""
        if tuple(before) == tuple(after) or not before:
            return self
        number = {name: i for i, name in enumerate(after)}
        moved = np.full(UNKNOWN_BROKER + 1, UNKNOWN_BROKER, dtype=np.uint8)
        brokers = Occurrences.empty(len(after))
        for old, name in enumerate(before):
            if name in number:
                moved[old] = number[name]
                if old < self.brokers.state.shape[0]:
                    for f in fields(Occurrences):
                        getattr(brokers, f.name)[number[name]] = getattr(self.brokers, f.name)[old]
        self.silence.broker = moved[self.silence.broker]
        self.silence.listening = np.empty(0, dtype=np.int64)
        self.brokers = brokers
        return self

    def to_bytes(self) -> bytes:
        """The whole state; ``from_bytes`` gives an equal one."""
        buffer = io.BytesIO()
        arrays: dict[str, Any] = dict(_arrays(self))
        np.savez(buffer, **arrays)
        return buffer.getvalue()

    @staticmethod
    def from_bytes(data: bytes) -> State:
        """The state that ``to_bytes`` wrote. Raises ValueError or KeyError on anything else."""
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            return _from_arrays({name: stored[name] for name in stored.files})

    def latest(self) -> Observations:
        """The newest reading of every datastream that has one."""
        has = np.flatnonzero(self.newest_at != NEVER)
        at = self.newest_at[has]
        return Observations(has.astype(np.int32), at, at, self.newest_value[has], self.newest_flag[has])

    def open_alarms(self, directory: Directory) -> Transitions:
        """Every alarm that is not normal, as it stands."""
        return Transitions.concat(
            [
                open_alarms(self.level.occurrence, AlarmKind.LEVEL, directory.version),
                open_alarms(self.silence.occurrence, AlarmKind.SILENCE, directory.version),
                open_alarms(self.brokers, AlarmKind.BROKER, directory.version),
            ]
        )


def step(
    state: State,
    directory: Directory,
    observations: Observations,
    now: int,
    *,
    brokers: Sequence[BrokerLink] | None = None,
    listening_since: int | None = None,
    actions: Sequence[Acknowledge] = (),
    presence: Sequence[Presence] = (),
) -> tuple[State, Results]:
    """Take in a batch of readings and the time, and say what follows.

    Parameters
    ----------
    state : State
        From the step before, or ``State.for_directory``. It is used up: go on with the returned one.
    directory : Directory
        May be newer than in the step before, never older.
    observations : Observations
        In any order, duplicates included; may be empty, to let time pass.
    now : int
        The present. If it goes back, as a clock that is corrected does, nothing is undone. [ns since 1970 UTC]
    brokers : sequence of BrokerLink or None
        How we hear each broker, in the order of the settings. Silence of a device is judged by the broker through
        which it was last heard.
    listening_since : int or None
        In place of ``brokers``, where these are not known: since when every broker has been heard; None while one is
        not. There are no alarms of brokers then. [ns since 1970 UTC]
    actions : sequence of Acknowledge
        What operators did since the step before.
    presence : sequence of Presence
        Births and deaths of devices that were told of since the step before, in the order in which they came. A death
        is a silence alarm at once.

    Returns
    -------
    State
    Results
        Flags, windows and alarm changes. Delays take effect ``LATENESS_S`` after they have run out, dated when they
        did. A ladder that is changed by a newer directory takes effect at once. A reading that is older than the
        newest of its datastream is checked for range only, and corrects windows, but does not move alarms. What comes
        later than the last ``RING`` readings of its datastream, or than the open windows, is named in
        ``Results.late``.

    Raises
    ------
    ValueError
        A datastream or device index lies outside the directory, or the directory has become smaller.
    """
    state = state.grown_to(directory)
    streams = len(directory.datastreams)
    if len(observations) and not (observations.datastream.min() >= 0 and observations.datastream.max() < streams):
        raise ValueError(f"datastream index outside the directory's 0..{streams - 1} (version {directory.version})")
    devices = len(directory.devices)
    if (stranger := next((p.device for p in presence if not 0 <= p.device < devices), None)) is not None:
        raise ValueError(
            f"device index {stranger} outside the directory's 0..{devices - 1} (version {directory.version})"
        )
    changes: list[Transitions] = []
    if directory.version != state.directory_version:
        # Other delays may be in force: look at everybody.
        # The devices of the first directory have been watched for as long as we listen.
        since = NEVER if state.directory_version < 0 else now
        state.directory_version = directory.version
        state.level.due_from = state.silence.due_from = NEVER
        changes += [follow_ladders(state.level, directory, now), follow_watch(state.silence, directory, now, since)]
    order = np.lexsort((observations.observed_at, observations.datastream))
    batch = observations.take(order)
    newer, corrects, duplicate, lost = _sort_out(state, batch)

    new_rows = np.flatnonzero(newer)
    fresh = batch.take(new_rows)
    segments = Segments.of(fresh.datastream)
    flag = np.full(len(batch), UNKNOWN, dtype=np.uint8)
    fresh_flag = check(state.quality, directory, segments, fresh.observed_at, fresh.value)
    flag[new_rows] = fresh_flag
    older = np.flatnonzero(corrects | lost)
    if older.size:
        flag[older] = _range_of(directory, batch.take(older))

    watermark = now - round(LATENESS_S * NS_PER_S)
    counted = np.flatnonzero(newer | corrects)
    windows: list[Windows] = []
    for window_state in state.windows:
        published, too_old = aggregate(
            window_state,
            batch.datastream[counted],
            batch.observed_at[counted],
            batch.value[counted],
            flag[counted],
            watermark,
        )
        windows += published
        lost[counted[too_old]] = True

    usable = np.flatnonzero(fresh_flag < FAIL)
    judged = fresh.take(usable)
    levels = judge_levels(
        state.level, directory, Segments.of(judged.datastream), judged.observed_at, judged.value, watermark
    )
    device = directory.installed.device_at(batch.datastream, batch.observed_at)
    heard = np.flatnonzero(~duplicate & (device >= 0))
    if brokers is None:
        listening = np.array([DEAF if listening_since is None else listening_since], dtype=np.int64)
    else:
        listening = listening_of(brokers)
        state.brokers = state.brokers.grown_to(len(brokers))
        changes.append(judge_brokers(state.brokers, directory, brokers, now))
    changes += [
        levels,
        judge_silence(
            state.silence,
            directory,
            device[heard],
            batch.observed_at[heard],
            batch.received_at[heard],
            batch.broker[heard],
            watermark,
            listening,
            presence,
        ),
        _act(state, directory, actions),
    ]
    _remember_newest(state, segments, fresh, fresh_flag)
    kept = np.flatnonzero(~duplicate)
    readings = batch.take(kept)
    results = Results(
        readings=Observations(
            readings.datastream,
            readings.observed_at,
            readings.received_at,
            readings.value,
            flag[kept],
            readings.broker,
            readings.remark,
        ),
        windows=Windows.concat(windows) if windows else Windows.empty(),
        transitions=Transitions.concat(changes),
        duplicates=batch.datastream[duplicate],
        duplicate_devices=device[duplicate],
        late=batch.datastream[lost],
        late_devices=device[lost],
        duplicate_at=batch.observed_at[duplicate],
        late_at=batch.observed_at[lost],
    )
    return state, results


def _sort_out(state: State, batch: Observations) -> tuple[Bools, Bools, Bools, Bools]:
    """Say of each row of a sorted batch whether it is newer than all before, corrects, is a duplicate, or is lost.

    Exactly one of the four holds for each row.
    """
    n = len(batch)
    stream, at = batch.datastream, batch.observed_at
    duplicate = np.zeros(n, dtype=np.bool_)
    if n:
        duplicate[1:] = (stream[1:] == stream[:-1]) & (at[1:] == at[:-1])
    newer = ~duplicate & (at > state.newest_at[stream])
    corrects = np.zeros(n, dtype=np.bool_)
    lost = np.zeros(n, dtype=np.bool_)
    older = np.flatnonzero(~duplicate & ~newer)
    if older.size:
        seen = state.seen_at[stream[older]]
        known = (seen == at[older, None]).any(axis=1)
        beyond = ~known & (at[older] < seen.min(axis=1))
        duplicate[older[known]] = True
        lost[older[beyond]] = True
        placed = older[~known & ~beyond]
        corrects[placed] = True
        _insert_seen(state, stream[placed], at[placed])
    _append_seen(state, stream[newer], at[newer])
    return newer, corrects, duplicate, lost


def _insert_seen(state: State, stream: npt.NDArray[np.int32], at: Ints) -> None:
    """Put late times into the rings of their datastreams, which keep their newest RING times in order."""
    streams, inverse = np.unique(stream, return_inverse=True)
    owner = np.concatenate([np.repeat(np.arange(streams.size), RING), inverse])
    times = np.concatenate([state.seen_at[streams].ravel(), at])
    order = np.lexsort((times, owner))
    owner, times = owner[order], times[order]
    from_end = np.append(np.flatnonzero(np.diff(owner)) + 1, owner.size)[owner] - np.arange(owner.size)
    state.seen_at[streams] = times[from_end <= RING].reshape(streams.size, RING)
    state.seen_next[streams] = 0


def _append_seen(state: State, stream: npt.NDArray[np.int32], at: Ints) -> None:
    """Add times that are newer than all in their rings; rows are sorted by datastream and time."""
    if not stream.size:
        return
    segments = Segments.of(stream)
    rank = np.arange(stream.size) - segments.first_row
    length = segments.end - segments.start
    slot = (state.seen_next[stream] + rank) % RING
    newest = length[segments.of_row] - rank <= RING
    state.seen_at[stream[newest], slot[newest]] = at[newest]
    state.seen_next[segments.key] = (state.seen_next[segments.key] + length) % RING


def _range_of(directory: Directory, late: Observations) -> npt.NDArray[np.uint8]:
    stream = late.datastream
    return gross_range(
        late.value,
        directory.fail_min[stream],
        directory.fail_max[stream],
        directory.suspect_min[stream],
        directory.suspect_max[stream],
    )


def _remember_newest(state: State, segments: Segments, fresh: Observations, flag: npt.NDArray[np.uint8]) -> None:
    if not len(fresh):
        return
    last = segments.end - 1
    state.newest_at[segments.key] = fresh.observed_at[last]
    state.newest_value[segments.key] = fresh.value[last]
    state.newest_flag[segments.key] = flag[last]


def _act(state: State, directory: Directory, actions: Sequence[Acknowledge]) -> Transitions:
    occurrences = {
        AlarmKind.LEVEL: state.level.occurrence,
        AlarmKind.SILENCE: state.silence.occurrence,
        AlarmKind.BROKER: state.brokers,
    }
    logs = {kind: TransitionLog(kind, directory.version) for kind in occurrences}
    for action in actions:
        acknowledge(occurrences[action.kind], logs[action.kind], action)
    return Transitions.concat([log.columns() for log in logs.values()])


# ------------------------------------------------------------------------------------------- the state as plain arrays

_PARTS: dict[str, type[Any]] = {
    "quality": QualityState,
    "level": LevelState,
    "silence": SilenceState,
    "occurrence": Occurrences,
    "brokers": Occurrences,
}
_LATER = {
    f"{part}.{name}"
    for part, names in (
        ("silence", ("broker", "watched_since", "listening", "told_at", "dead", "alive_at")),
        ("brokers", tuple(f.name for f in fields(Occurrences))),
    )
    for name in names
}
"""Arrays that a state of an earlier Pantau does not have yet."""


def _arrays(part: Any, prefix: str = "") -> list[tuple[str, npt.NDArray[Any]]]:
    """Every array below ``part`` with its path as its name; plain numbers become arrays without dimensions."""
    found: list[tuple[str, npt.NDArray[Any]]] = []
    for f in fields(part):
        value = getattr(part, f.name)
        name = f"{prefix}{f.name}"
        if isinstance(value, np.ndarray):
            found.append((name, value))
        elif isinstance(value, int):
            found.append((name, np.array(value, dtype=np.int64)))
        elif isinstance(value, tuple):
            for i, item in enumerate(value):
                found += _arrays(item, f"{name}.{i}.")
        else:
            found += _arrays(value, f"{name}.")
    return found


def _from_arrays(arrays: dict[str, npt.NDArray[Any]]) -> State:
    if _LATER - arrays.keys():
        empty = State.empty(arrays["newest_at"].shape[0], arrays["silence.last_at"].shape[0])
        empty.silence.watched_since[:] = NEVER  # everybody was watched
        arrays = {name: a for name, a in _arrays(empty) if name in _LATER} | arrays

    def build(cls: type[Any], prefix: str) -> Any:
        values: dict[str, Any] = {}
        for f in fields(cls):
            name = f"{prefix}{f.name}"
            if f.name == "windows":
                values[f.name] = tuple(build(WindowState, f"{name}.{i}.") for i in range(len(WIDTHS_S)))
            elif f.name in _PARTS:
                values[f.name] = build(_PARTS[f.name], f"{name}.")
            elif arrays[name].ndim == 0:
                values[f.name] = int(arrays[name])
            else:
                values[f.name] = arrays[name]
        return cls(**values)

    state: State = build(State, "")
    return state
