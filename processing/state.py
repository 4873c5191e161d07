"""The core's memory: one record for each datastream, its newest readings, and how it stood a little while ago.

What is known of a datastream lies in one record, so that a batch fetches it from memory in one go. Three such records
are kept: ``live`` has all readings in it; ``base`` and ``middle`` are copies of earlier moments. The newest readings,
all that came after ``base`` among them, are in a ring. With both a reading that comes late is put where it belongs: the
datastream is taken back to ``base`` and goes through the readings of the ring again.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from processing.alarms import NEVER, NOT_RUNNING, LevelState, Occurrences, open_alarms
from processing.quality import QualityState
from processing.silence import SilenceState
from processing.windows import WIDTHS_S, WINDOW, WindowState
from telemetry.alarms import AlarmKind
from telemetry.brokers import UNKNOWN_BROKER
from telemetry.directory import MAX_STEPS, Directory
from telemetry.observations import Observations
from telemetry.quality import UNKNOWN
from telemetry.results import Transitions

RING = 32
"""Newest readings of each datastream that are kept."""
HALF = RING // 2
"""A reading that comes up to this many readings too late is put where it belongs; more often than not even twice as
many."""

Ints = npt.NDArray[np.int64]

LEVEL = np.dtype(
    [
        ("at", np.int64),
        ("value", np.float64),
        ("beyond_since", np.int64, MAX_STEPS),
        ("back_since", np.int64, MAX_STEPS),
        ("run_out_at", np.int64),
        ("active", np.bool_, MAX_STEPS),
        ("reserved", np.uint8, 4),
    ]
)
OCCURRENCE = np.dtype(
    [
        ("raised_at", np.int64),
        ("value", np.float64),
        ("threshold", np.float64),
        ("peak", np.float64),
        ("peak_at", np.int64),
        ("changed_at", np.int64),
        ("state", np.uint8),
        ("severity", np.uint8),
        ("reserved", np.uint8, 6),
    ]
)
RECORD = np.dtype(
    [
        ("newest_at", np.int64),
        ("newest_value", np.float64),
        ("usable_at", np.int64),
        ("usable_value", np.float64),
        ("flat_since", np.int64),
        ("newest_flag", np.uint8),
        ("reserved", np.uint8, 7),
        ("level", LEVEL),
        ("occurrence", OCCURRENCE),
        ("window", WINDOW, len(WIDTHS_S)),
    ]
)
"""All that is known of one datastream."""

Records = npt.NDArray[np.void]


def nothing_yet(datastreams: int) -> Records:
    """(datastreams,) records of datastreams that never sent."""
    one = np.zeros(1, dtype=RECORD)
    one["newest_flag"] = UNKNOWN
    for name in ("newest_at", "usable_at", "flat_since"):
        one[name] = NEVER
    for name in ("newest_value", "usable_value"):
        one[name] = np.nan
    level = one["level"]
    level["at"] = level["run_out_at"] = NEVER
    level["value"] = np.nan
    level["beyond_since"] = level["back_since"] = NOT_RUNNING
    occurrence = one["occurrence"]
    for name in ("raised_at", "peak_at", "changed_at"):
        occurrence[name] = NEVER
    for name in ("value", "threshold", "peak"):
        occurrence[name] = np.nan
    one["window"]["start"] = NEVER
    return np.repeat(one, datastreams)


@dataclass(slots=True)
class Ring:
    """The newest readings of each datastream; every array is (datastreams, RING), read from ``next`` on by time."""

    at: Ints
    """NEVER: free."""
    value: npt.NDArray[np.float64]
    flag: npt.NDArray[np.uint8]
    """The flag, and 16 times the remark."""
    next: npt.NDArray[np.int64]
    """(datastreams,) where the next reading goes."""

    @classmethod
    def empty(cls, datastreams: int) -> Ring:
        """No readings yet."""
        shape = (datastreams, RING)
        return cls(
            np.full(shape, NEVER, dtype=np.int64),
            np.full(shape, np.nan),
            np.full(shape, UNKNOWN, dtype=np.uint8),
            np.zeros(datastreams, dtype=np.int64),
        )

    def slots(self, streams: npt.NDArray[np.int32]) -> Ints:
        """(k, RING) where the readings of these datastreams are, from the oldest on."""
        found: Ints = (self.next[streams, None] + np.arange(RING)) % RING
        return found


@dataclass(slots=True)
class Acted:
    """What operators did, for as long as a late reading may have it done again; equally long columns."""

    subject: Ints
    after: Ints
    """The newest reading of the datastream that there was then. [ns]"""
    watermark: Ints
    """Of that step. [ns]"""
    at: Ints

    @classmethod
    def empty(cls) -> Acted:
        """Nothing yet."""
        return cls(*(np.empty(0, dtype=np.int64) for _ in range(4)))

    def add(self, subject: int, after: int, watermark: int, at: int) -> None:
        """Note one more."""
        row = (subject, after, watermark, at)
        for f, x in zip(fields(self), row, strict=True):
            setattr(self, f.name, np.append(getattr(self, f.name), np.int64(x)))

    def keep(self, mask: npt.NDArray[np.bool_]) -> None:
        """Forget the rest."""
        for f in fields(self):
            setattr(self, f.name, getattr(self, f.name)[mask])


@dataclass(slots=True)
class State:
    """All that the core remembers between two steps, as arrays over datastreams or devices.

    ``step`` changes the arrays of the state it is given: use the one it returns.
    """

    live: Records
    """(datastreams,) with all readings."""
    middle: Records
    base: Records
    """(datastreams,) as it was before the readings of the ring that are newer than its own newest one."""
    since_base: npt.NDArray[np.int16]
    """(datastreams,) readings after ``base`` up to ``middle``."""
    since_middle: npt.NDArray[np.int16]
    """(datastreams,) readings after ``middle``."""
    ring: Ring
    rules: Ints
    """(datastreams,) marks of the limits and the ladder in force, to know when they have changed."""
    ladder: Ints
    swept_to: int
    """All windows that end up to here have been published. [ns]"""
    due_from: int
    """No delay of a level runs out before this moment: until then nobody need be looked at. [ns]"""
    acted: Acted
    told: Transitions
    """Changes of level alarms since ``base``."""
    silence: SilenceState
    brokers: Occurrences
    """Alarms of the brokers, as many as there were ever told of."""
    directory_version: int
    """Of the last step."""

    @classmethod
    def empty(cls, datastreams: int, devices: int) -> State:
        """Nothing has happened yet."""
        return cls(
            live=nothing_yet(datastreams),
            middle=nothing_yet(datastreams),
            base=nothing_yet(datastreams),
            since_base=np.zeros(datastreams, dtype=np.int16),
            since_middle=np.zeros(datastreams, dtype=np.int16),
            ring=Ring.empty(datastreams),
            rules=np.zeros(datastreams, dtype=np.int64),
            ladder=np.zeros(datastreams, dtype=np.int64),
            swept_to=NEVER,
            due_from=NOT_RUNNING,
            acted=Acted.empty(),
            told=Transitions.empty(),
            silence=SilenceState.empty(devices),
            brokers=Occurrences.empty(0),
            directory_version=-1,
        )

    @classmethod
    def for_directory(cls, directory: Directory) -> State:
        """Nothing has happened yet in this city."""
        return cls.empty(len(directory.datastreams), len(directory.devices))

    # ------------------------------------------------------------------------------------------ views of the records

    @property
    def newest_at(self) -> Ints:
        """(datastreams,) time of the newest reading; NEVER before the first."""
        at: Ints = self.live["newest_at"]
        return at

    @property
    def quality(self) -> QualityState:
        """What the quality tests remember."""
        return QualityState(self.live["usable_at"], self.live["usable_value"], self.live["flat_since"])

    @property
    def level(self) -> LevelState:
        """What the level alarms remember."""
        level, occurrence = self.live["level"], self.live["occurrence"]
        return LevelState(
            at=level["at"],
            value=level["value"],
            beyond_since=level["beyond_since"],
            back_since=level["back_since"],
            run_out_at=level["run_out_at"],
            active=level["active"],
            occurrence=Occurrences(**{f.name: occurrence[f.name] for f in fields(Occurrences)}),
        )

    @property
    def windows(self) -> tuple[WindowState, ...]:
        """The open window of each width."""
        return tuple(WindowState(width, self.live["window"][:, i]) for i, width in enumerate(WIDTHS_S))

    # ----------------------------------------------------------------------------------------------------- as a whole

    def grown_to(self, directory: Directory) -> State:
        """The same state with room for the datastreams and devices that a newer directory appended."""
        streams, devices = len(directory.datastreams), len(directory.devices)
        have = (self.live.shape[0], self.silence.last_at.shape[0])
        if have == (streams, devices):
            return self
        if streams < have[0] or devices < have[1]:
            raise ValueError(
                f"a directory only grows: the state knows {have[0]} datastreams and {have[1]} devices, "
                f"directory version {directory.version} has {streams} and {devices}"
            )
        room = State.empty(streams - have[0], devices - have[1])
        by_datastream = ("live", "middle", "base", "since_base", "since_middle", "rules", "ladder", "ring.")
        mine, more = dict(_arrays(self)), dict(_arrays(room))
        if streams > have[0]:
            mine |= {k: np.concatenate([v, more[k]]) for k, v in mine.items() if k.startswith(by_datastream)}
        if devices > have[1]:
            mine |= {
                k: np.concatenate([v, more[k]])
                for k, v in mine.items()
                if k.startswith("silence.") and v.ndim and k != "silence.listening"
            }
        return _from_arrays(mine)

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
            state = _from_arrays({name: stored[name] for name in stored.files})
        if state.live.dtype != RECORD or state.ring.at.shape[1] != RING:
            raise ValueError("the state was written by another version")
        return state

    def latest(self) -> Observations:
        """The newest reading of every datastream that has one."""
        has = np.flatnonzero(self.newest_at != NEVER)
        at = self.newest_at[has]
        return Observations(has.astype(np.int32), at, at, self.live["newest_value"][has], self.live["newest_flag"][has])

    def open_alarms(self, directory: Directory) -> Transitions:
        """Every alarm that is not normal, as it stands."""
        return Transitions.concat(
            [
                open_alarms(self.level.occurrence, AlarmKind.LEVEL, directory.version),
                open_alarms(self.silence.occurrence, AlarmKind.SILENCE, directory.version),
                open_alarms(self.brokers, AlarmKind.BROKER, directory.version),
            ]
        )


_PARTS: dict[str, type[Any]] = {
    "ring": Ring,
    "acted": Acted,
    "told": Transitions,
    "silence": SilenceState,
    "occurrence": Occurrences,
    "brokers": Occurrences,
}


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
        else:
            found += _arrays(value, f"{name}.")
    return found


def _from_arrays(arrays: dict[str, npt.NDArray[Any]]) -> State:
    def build(cls: type[Any], prefix: str) -> Any:
        values: dict[str, Any] = {}
        for f in fields(cls):
            name = f"{prefix}{f.name}"
            if f.name in _PARTS:
                values[f.name] = build(_PARTS[f.name], f"{name}.")
            elif arrays[name].ndim == 0:
                values[f.name] = int(arrays[name])
            else:
                values[f.name] = arrays[name]
        return cls(**values)

    state: State = build(State, "")
    return state
