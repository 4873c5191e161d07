"""Silence: devices that do not send, and brokers that we are not connected to.

Silence is evidence only where we listen. A device is held, not accused, while the broker is down through which it was
last heard; one that was never heard, while any broker is down. The lost broker is an alarm of its own.

A device that is told to be dead (see ``telemetry.presence``) is silent at once: that is evidence of its own, and needs
no waiting and no broker. It stays so until it is told to be alive, or a reading comes that is younger than its death.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from processing.alarms import NEVER, NOT_RUNNING, Occurrences, TransitionLog
from processing.segments import Segments
from telemetry.alarms import AlarmKind, AlarmState, Severity
from telemetry.brokers import UNKNOWN_BROKER, BrokerLink
from telemetry.directory import Directory
from telemetry.observations import NS_PER_S
from telemetry.presence import Presence
from telemetry.results import Transitions

DEAF = NOT_RUNNING
"""Stands for "we do not hear it" where the time is expected since when we do."""

Ints = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]

_ALL_BROKERS = np.arange(UNKNOWN_BROKER + 1, dtype=np.uint8)


@dataclass(slots=True)
class SilenceState:
    """What silence alarms remember of each device."""

    last_at: Ints
    """Time of the newest reading; NEVER before the first."""
    broker: Numbers
    """The broker through which that came; UNKNOWN_BROKER before the first."""
    watched_since: Ints
    """From when on its silence counts; NEVER: always has; NOT_RUNNING: it does not."""
    listening: Ints
    """(brokers,) of the last step: since when each is heard, or DEAF."""
    told_at: Ints
    """Time of the newest certificate of its birth or death; NEVER before the first."""
    dead: Bools
    """Whether that was a death, and nothing came since."""
    alive_at: Ints
    """When the newest reading was observed or, if the device's clock is ahead, received; NEVER before the first."""
    due_from: int
    """Nobody falls silent before this moment. [ns]"""
    occurrence: Occurrences

    @classmethod
    def empty(cls, devices: int) -> SilenceState:
        """Nobody has spoken yet, and nobody is watched."""
        return cls(
            last_at=np.full(devices, NEVER, dtype=np.int64),
            broker=np.full(devices, UNKNOWN_BROKER, dtype=np.uint8),
            watched_since=np.full(devices, NOT_RUNNING, dtype=np.int64),
            listening=np.empty(0, dtype=np.int64),
            told_at=np.full(devices, NEVER, dtype=np.int64),
            dead=np.zeros(devices, dtype=np.bool_),
            alive_at=np.full(devices, NEVER, dtype=np.int64),
            due_from=NEVER,
            occurrence=Occurrences.empty(devices),
        )


def listening_of(brokers: Sequence[BrokerLink]) -> Ints:
    """(brokers,) since when each is heard, or DEAF."""
    heard = [b.heard_since for b in brokers]
    return np.array([DEAF if since is None else since for since in heard], dtype=np.int64)


def follow_watch(state: SilenceState, directory: Directory, now: int, since: int) -> Transitions:
    """Take note of which devices a new directory wants watched; the silence of all others ends now.

    A device that comes under watch is given its whole ``silence_after_s`` from ``since`` on.
    """
    log = TransitionLog(AlarmKind.SILENCE, directory.version)
    was = state.watched_since != NOT_RUNNING
    state.watched_since[directory.watched & ~was] = since
    state.watched_since[~directory.watched] = NOT_RUNNING
    for subject in np.flatnonzero(~directory.watched & (state.occurrence.severity > 0)):
        _end(state.occurrence, log, int(subject), max(now, int(state.occurrence.raised_at[subject])))
    return log.columns()


def judge_silence(
    state: SilenceState,
    directory: Directory,
    device: npt.NDArray[np.int32],
    observed_at: Ints,
    received_at: Ints,
    broker: Numbers,
    watermark: int,
    listening: Ints,
    presence: Sequence[Presence] = (),
) -> Transitions:
    """Raise an alarm for every device that did not send for its ``silence_after_s``, and clear it when it does.

    It is judged by the time of observation, so a stale reading sent again does not make a device look alive, and a
    gap is found even if the readings of both its sides come in one batch. A device that we can't hear, because its
    broker is down, is not accused, nor for ``silence_after_s`` after we hear again.

    A death raises the alarm at once, dated at the death, unless it stands already. A birth ends it, and so does a
    reading that is observed and received after the death. A certificate that is older than the newest one of its
    device says nothing; of two with the same time, the later in the list counts.

    Parameters
    ----------
    state : SilenceState
        Changed in place.
    device, observed_at, received_at, broker : (n,) arrays
        Device, times and broker of each new reading, in any order. [ns]
    watermark : int
        No reading older than this is expected; silences that began before it are found. [ns]
    listening : (brokers,) array
        Since when each broker is heard, or DEAF. [ns]
    presence : sequence of Presence
        Births and deaths, in the order in which they came.

    Returns
    -------
    Transitions
        Ordered by time.
    """
    log = TransitionLog(AlarmKind.SILENCE, directory.version)
    if not np.array_equal(listening, state.listening):
        state.listening, state.due_from = listening, NEVER
    if presence or state.dead.any():
        told = _follow_presence(state, directory, log, device, observed_at, received_at, broker, presence)
        rest = np.flatnonzero(~told[device])
        device, observed_at, received_at, broker = device[rest], observed_at[rest], received_at[rest], broker[rest]
    if device.size:
        _find_gaps(state, directory, log, device, observed_at, received_at, broker)
    if watermark > state.due_from:
        o = state.occurrence
        heard_since = _heard_since(state, state.broker)
        judged = (state.watched_since != NOT_RUNNING) & (heard_since != DEAF) & (o.severity == 0)
        expected_since = np.maximum(state.watched_since, directory.expected_since)
        heard = np.maximum(np.maximum(np.maximum(state.last_at, state.told_at), heard_since), expected_since)
        due = np.where(judged, heard + directory.silence_after_ns, NOT_RUNNING)
        dead = np.flatnonzero(state.dead & (state.watched_since != NOT_RUNNING) & (o.severity == 0))
        due[dead] = np.maximum(state.told_at, expected_since)[dead]
        for subject in np.flatnonzero(due < watermark):
            if state.dead[subject]:
                _die(state, log, int(subject), int(due[subject]))
            else:
                _fall_silent(o, directory, log, int(subject), int(heard[subject]))
            due[subject] = NOT_RUNNING
        state.due_from = int(due.min()) if due.size else NOT_RUNNING
    return log.columns()


def _heard_since(state: SilenceState, broker: Numbers) -> Ints:
    """Since when we hear these brokers, or DEAF; of a broker that is not known, since when we hear all of them."""
    listening = state.listening
    if not listening.size:
        return np.full(broker.shape, DEAF, dtype=np.int64)
    known = broker < listening.size
    return np.where(known, listening[np.where(known, broker, 0)], listening.max())


def _find_gaps(
    state: SilenceState,
    directory: Directory,
    log: TransitionLog,
    device: npt.NDArray[np.int32],
    observed_at: Ints,
    received_at: Ints,
    broker: Numbers,
) -> None:
    """Clear the alarms of devices that speak again, and find silences between the readings of the batch."""
    order = np.lexsort((broker, observed_at, device))
    device, observed_at, broker = device[order], observed_at[order], broker[order]
    segments = Segments.of(device)
    key = segments.key
    before, before_broker = np.empty_like(observed_at), np.empty_like(broker)
    before[1:], before_broker[1:] = observed_at[:-1], broker[:-1]
    before[segments.start], before_broker[segments.start] = state.last_at[key], state.broker[key]
    old = before < state.last_at[device]
    before[old], before_broker[old] = state.last_at[device[old]], state.broker[device[old]]
    o = state.occurrence
    listened = _heard_since(state, before_broker)
    expected_since = np.maximum(state.watched_since[device], directory.expected_since[device])
    heard = np.maximum(np.maximum(np.maximum(before, state.told_at[device]), listened), expected_since)
    able = (listened != DEAF) & (state.watched_since[device] != NOT_RUNNING)
    gap = able & (observed_at > heard) & (observed_at - heard > directory.silence_after_ns[device])
    ends = (o.severity[device] > 0) & (observed_at > before)
    for row in np.flatnonzero(gap | ends):
        subject = int(device[row])
        if o.severity[subject] == 0:
            if not gap[row]:
                continue
            _fall_silent(o, directory, log, subject, int(heard[row]))
        if observed_at[row] < o.raised_at[subject]:
            continue  # an old reading that came late: the device is silent all the same
        _speak_again(o, log, subject, int(observed_at[row]), int(before[row]))
    last = segments.end - 1
    newest, through = observed_at[last], broker[last]
    later = (newest > state.last_at[key]) | ((newest == state.last_at[key]) & (through > state.broker[key]))
    state.last_at[key[later]], state.broker[key[later]] = newest[later], through[later]
    state.alive_at[key] = np.maximum(state.alive_at[key], np.minimum(newest, received_at[order[last]]))
    due = state.last_at[key] + directory.silence_after_ns[key]
    state.due_from = min(state.due_from, int(due.min()))


def _follow_presence(
    state: SilenceState,
    directory: Directory,
    log: TransitionLog,
    device: npt.NDArray[np.int32],
    observed_at: Ints,
    received_at: Ints,
    broker: Numbers,
    presence: Sequence[Presence],
) -> Bools:
    """Take the devices that are told of, or that are dead, through their certificates and readings in order of time.

    Returns (devices,) whose readings these were.
    """
    told = state.dead.copy()
    certificates: dict[int, list[tuple[int, bool]]] = {}
    for subject, alive, at in presence:
        certificates.setdefault(subject, []).append((at, alive))
    told[list(certificates)] = True
    rows = np.flatnonzero(told[device])
    alive_at = np.minimum(observed_at[rows], received_at[rows])
    order = np.lexsort((broker[rows], observed_at[rows], alive_at, device[rows]))
    rows, alive_at = rows[order], alive_at[order]
    segments = Segments.of(device[rows])
    readings = {
        int(key): slice(int(start), int(end))
        for key, start, end in zip(segments.key, segments.start, segments.end, strict=True)
    }
    listened = {number: int(since) for number, since in enumerate(_heard_since(state, _ALL_BROKERS))}
    for subject in sorted(readings.keys() | certificates.keys()):
        one = _One(state, directory, log, subject, listened)
        mine = rows[readings.get(subject, slice(0, 0))]
        times = alive_at[readings.get(subject, slice(0, 0))].tolist()
        came = list(zip(observed_at[mine].tolist(), times, broker[mine].tolist(), strict=True))
        next_one = 0
        for at, alive in sorted(certificates.get(subject, ()), key=lambda certificate: certificate[0]):
            while next_one < len(came) and came[next_one][1] <= at:
                one.speaks(*came[next_one])
                next_one += 1
            one.is_told(at, alive)
        for reading in came[next_one:]:
            one.speaks(*reading)
        one.remember()
    return told


class _One:
    """One device that is followed through readings and certificates."""

    def __init__(
        self, state: SilenceState, directory: Directory, log: TransitionLog, subject: int, listened: dict[int, int]
    ) -> None:
        self.state, self.directory, self.log, self.subject, self.listened = state, directory, log, subject, listened
        self.last_at, self.alive_at = int(state.last_at[subject]), int(state.alive_at[subject])
        self.told_at, self.dead = int(state.told_at[subject]), bool(state.dead[subject])
        self.broker = int(state.broker[subject])
        self.watched = bool(state.watched_since[subject] != NOT_RUNNING)
        self.expected_since = max(int(state.watched_since[subject]), int(directory.expected_since[subject]))

    def speaks(self, observed_at: int, alive_at: int, broker: int) -> None:
        """A reading comes."""
        o = self.state.occurrence
        if self.dead and alive_at > self.told_at:
            self.dead = False
        if not self.dead:
            self._find_gap(observed_at)
            if o.severity[self.subject] > 0 and observed_at > self.last_at and observed_at >= o.raised_at[self.subject]:
                _speak_again(o, self.log, self.subject, observed_at, self.last_at)
        if observed_at > self.last_at or (observed_at == self.last_at and broker > self.broker):
            self.last_at, self.broker = observed_at, broker
        self.alive_at = max(self.alive_at, alive_at)

    def is_told(self, at: int, alive: bool) -> None:
        """A certificate of its birth or death comes."""
        if at < self.told_at:
            return
        o = self.state.occurrence
        if not self.dead:
            self._find_gap(at)
        self.told_at, self.dead = at, not alive and self.alive_at <= at
        silent = o.severity[self.subject] > 0
        if alive and silent and at >= o.raised_at[self.subject]:
            _speak_again(o, self.log, self.subject, at, self.last_at)
        elif self.dead and not silent and self.watched and at >= self.expected_since:
            _die(self.state, self.log, self.subject, at, self.last_at)

    def _find_gap(self, at: int) -> None:
        """Let it fall silent if by ``at`` it has not been heard for too long."""
        o = self.state.occurrence
        listened = self.listened[self.broker]
        if o.severity[self.subject] or not self.watched or listened == DEAF:
            return
        heard = max(self.last_at, self.told_at, listened, self.expected_since)
        if at > heard and at - heard > int(self.directory.silence_after_ns[self.subject]):
            _fall_silent(o, self.directory, self.log, self.subject, heard)

    def remember(self) -> None:
        state, subject = self.state, self.subject
        state.last_at[subject], state.alive_at[subject] = self.last_at, self.alive_at
        state.told_at[subject], state.dead[subject] = self.told_at, self.dead
        state.broker[subject] = self.broker
        since = max(self.told_at, self.expected_since) if self.dead else max(self.last_at, self.told_at)
        allowed = 0 if self.dead else int(self.directory.silence_after_ns[subject])
        if since != NEVER:
            state.due_from = min(state.due_from, min(since, NOT_RUNNING - allowed) + allowed)


def _die(state: SilenceState, log: TransitionLog, subject: int, at: int, last_at: int | None = None) -> None:
    """Raise the alarm of a device that is told to be dead; it says how long the device had not sent by then."""
    o = state.occurrence
    _raise(o, log, subject, at, Severity.WASPADA, 0.0, last_at if last_at is not None else int(state.last_at[subject]))


def _fall_silent(o: Occurrences, directory: Directory, log: TransitionLog, subject: int, heard: int) -> None:
    allowed_ns = int(directory.silence_after_ns[subject])
    _raise(o, log, subject, heard + allowed_ns, Severity.WASPADA, allowed_ns / 1e9)


def _raise(
    o: Occurrences,
    log: TransitionLog,
    subject: int,
    at: int,
    severity: Severity,
    allowed_s: float,
    last_at: int | None = None,
) -> None:
    if o.state[subject] == AlarmState.RETURNED_UNACKNOWLEDGED:
        o.state[subject] = AlarmState.NORMAL
        log.note(o, subject, at)
    o.state[subject] = AlarmState.UNACKNOWLEDGED
    o.severity[subject] = severity
    o.raised_at[subject] = at
    o.value[subject] = o.peak[subject] = o.threshold[subject] = allowed_s
    if last_at is not None and NEVER != last_at < at:
        o.value[subject] = o.peak[subject] = (at - last_at) / NS_PER_S
    o.peak_at[subject] = at
    log.note(o, subject, at)


def _speak_again(o: Occurrences, log: TransitionLog, subject: int, at: int, before: int) -> None:
    if before != NEVER:
        o.value[subject] = o.peak[subject] = (at - before) / 1e9
    _end(o, log, subject, at)


def _end(o: Occurrences, log: TransitionLog, subject: int, at: int) -> None:
    """A silence that is over needs nobody's acknowledgement: it goes back to normal at once."""
    at = max(at, int(o.changed_at[subject]) + 1)
    o.state[subject] = AlarmState.NORMAL
    o.severity[subject] = Severity.NORMAL
    o.peak_at[subject] = at
    log.note(o, subject, at)


# ------------------------------------------------------------------------------------------------------------ brokers


def judge_brokers(
    occurrence: Occurrences, directory: Directory, brokers: Sequence[BrokerLink], now: int
) -> Transitions:
    """Raise an alarm for every broker that has been away for its ``alarm_after_s``, and clear it when it is back.

    An absence that began and ended between two steps is not noticed.

    Parameters
    ----------
    occurrence : Occurrences
        Of the brokers; changed in place. May know more brokers than there are now: their alarms end.
    brokers : sequence of BrokerLink
        In the order of the settings.
    now : int
        [ns]

    Returns
    -------
    Transitions
        Ordered by time.
    """
    log = TransitionLog(AlarmKind.BROKER, directory.version)
    o = occurrence
    for number, link in enumerate(brokers):
        if o.severity[number]:
            if link.connected:
                at = max(int(o.raised_at[number]), now if link.since is None else link.since)
                away_s = (at - int(o.raised_at[number])) / NS_PER_S + float(o.threshold[number])
                o.value[number] = o.peak[number] = away_s
                _end(o, log, number, at)
        elif not link.connected and link.since is not None:
            at = link.since + round(link.alarm_after_s * NS_PER_S)
            if at < now:
                _raise(o, log, number, at, Severity.SIAGA, link.alarm_after_s)
    for number in range(len(brokers), o.severity.shape[0]):
        if o.severity[number]:
            _end(o, log, number, max(int(o.raised_at[number]), now))
    return log.columns()
