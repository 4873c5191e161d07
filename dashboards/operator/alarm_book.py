"""Alarms put together from their transitions: open ones, and a bounded history of closed ones."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from telemetry.alarms import AlarmKind, AlarmState, Severity
from telemetry.directory import Directory
from telemetry.observations import rfc3339
from telemetry.properties import PROPERTIES, Domain
from telemetry.results import Transitions

KEPT_CLOSED = 2000
"""Closed alarms that stay in memory."""
KEPT_TRANSITIONS = 500
"""Of one alarm; the first and the latest ones are kept."""


@dataclass(slots=True)
class Change:
    """One transition of an alarm."""

    at: int
    severity: int
    state: int
    value: float
    threshold: float
    label: str


@dataclass(slots=True)
class Alarm:
    """One occurrence of an alarm."""

    kind: int
    subject: int
    raised_at: int
    domain: Domain
    state: int = 0
    severity: int = 0
    max_severity: int = 0
    label: str = ""
    max_label: str = ""
    """Name of the worst level reached."""
    value: float = np.nan
    threshold: float = np.nan
    peak: float = np.nan
    peak_at: int = 0
    cleared_at: int | None = None
    """When the condition ended; an alarm may stay open after that until somebody acknowledges it."""
    directory_version: int = 0
    acknowledged_by: str = ""
    comment: str = ""
    restored: bool = False
    """Known from after a restart: the first entry of ``changes`` is how it stood then."""
    changes: list[Change] = field(default_factory=list)

    @property
    def key(self) -> tuple[int, int, int]:
        """What names the alarm."""
        return self.kind, self.subject, self.raised_at

    def ident(self, directory: Directory) -> str:
        """The alarm's name outside: "<kind>:<subject>:<raised_at ns>"."""
        return f"{AlarmKind(self.kind).name.lower()}:{self.subject_id(directory)}:{self.raised_at}"

    def subject_id(self, directory: Directory) -> str:
        """Id of the datastream or device, or name of the broker."""
        if self.kind == AlarmKind.BROKER:
            return directory.broker_name(self.subject)
        subjects = directory.datastreams if self.kind == AlarmKind.LEVEL else directory.devices
        return subjects[self.subject].id

    def as_dict(self, directory: Directory, latest: int = KEPT_TRANSITIONS) -> dict[str, object]:
        """The alarm as the API tells it, with its ``latest`` transitions; NaN becomes null in JSON."""
        stream = directory.datastreams[self.subject] if self.kind == AlarmKind.LEVEL else None
        device = directory.devices[self.subject] if self.kind == AlarmKind.SILENCE else None
        return {
            "id": self.ident(directory),
            "kind": AlarmKind(self.kind).name.lower(),
            "subject": self.subject_id(directory),
            "site": stream.site if stream else device.site if device else "",
            "device": stream.device if stream else device.id if device else "",
            "property": stream.property if stream else None,
            "domain": self.domain.value,
            "raised_at": rfc3339(self.raised_at),
            "cleared_at": None if self.cleared_at is None else rfc3339(self.cleared_at),
            "state": AlarmState(self.state).name.lower(),
            "severity": self.severity,
            "max_severity": self.max_severity,
            "label": self.label,
            "max_label": self.max_label,
            "value": self.value,
            "threshold": self.threshold,
            "peak": self.peak,
            "peak_at": rfc3339(self.peak_at),
            "directory_version": self.directory_version,
            "acknowledged_by": self.acknowledged_by,
            "comment": self.comment,
            "transitions": [
                {
                    "at": rfc3339(c.at),
                    "severity": c.severity,
                    "state": AlarmState(c.state).name.lower(),
                    "value": c.value,
                    "threshold": c.threshold,
                    "label": c.label,
                }
                for c in self.changes[-latest:]
            ],
        }


def level_name(directory: Directory, subject: int, severity: int, threshold: float) -> str:
    """What the reached level is called at this datastream; "" if its ladder has no such step (any more)."""
    steps = directory.datastreams[subject].ladder.steps
    for step in steps:
        if step.value == threshold:
            return step.label
    return next((s.label for s in reversed(steps) if s.severity == severity), "")


class AlarmBook:
    """Alarms by what names them. The loop here is over transitions, which are few."""

    def __init__(self) -> None:
        self.open: dict[tuple[int, int, int], Alarm] = {}
        self.closed: dict[tuple[int, int, int], Alarm] = {}
        """Oldest first, at most KEPT_CLOSED."""

    def restore(self, directory: Directory, open_alarms: Transitions) -> None:
        """Take alarms as they stand after a restart: one row each, of which only the state is sure, not its time."""
        for alarm in self.take(directory, open_alarms):
            alarm.restored = True
            if alarm.cleared_at is not None:
                alarm.cleared_at = max(alarm.raised_at, alarm.peak_at)  # the last that is known of the condition
            # The peak still says which level was reached.
            if alarm.kind == AlarmKind.LEVEL:
                ladder = directory.datastreams[alarm.subject].ladder
                for step in ladder.steps:
                    if (alarm.peak - step.value) * ladder.direction >= 0 and step.severity > alarm.max_severity:
                        alarm.max_severity, alarm.max_label = step.severity, step.label

    def complete(self, history: AlarmBook) -> None:
        """Add what a history knows: other alarms, and earlier transitions of these."""
        for key, old in (history.closed | history.open).items():
            mine = self.open.get(key) or self.closed.get(key)
            if mine is None:
                (self.closed if old.state == AlarmState.NORMAL else self.open)[key] = old
                continue
            known = mine.changes[1:] if mine.restored else mine.changes
            earlier = [c for c in old.changes if not known or c.at < known[0].at]
            if not earlier:
                continue
            whole = replace(old if not known else mine, changes=earlier + known)
            whole.state, whole.severity = mine.state, mine.severity
            whole.acknowledged_by, whole.comment = mine.acknowledged_by, mine.comment
            whole.max_severity, whole.max_label = max(
                (old.max_severity, old.max_label), (mine.max_severity, mine.max_label)
            )
            (self.open if key in self.open else self.closed)[key] = whole

    def take(self, directory: Directory, transitions: Transitions) -> list[Alarm]:
        """Apply transitions in order; returns the alarms they touched. A repeated transition changes nothing."""
        touched: dict[tuple[int, int, int], Alarm] = {}
        for row in zip(
            transitions.kind.tolist(),
            transitions.subject.tolist(),
            transitions.raised_at.tolist(),
            transitions.at.tolist(),
            transitions.state.tolist(),
            transitions.severity.tolist(),
            transitions.value.tolist(),
            transitions.threshold.tolist(),
            transitions.peak.tolist(),
            transitions.peak_at.tolist(),
            transitions.directory_version.tolist(),
            strict=True,
        ):
            kind, subject, raised_at, at, state, severity, value, threshold, peak, peak_at, version = row
            key = (kind, subject, raised_at)
            alarm = self.open.get(key) or self.closed.get(key)
            if state == AlarmState.WITHDRAWN:
                if alarm is not None:
                    left = [c for c in alarm.changes if c.at != at]
                    touched[key] = self._told_anew(directory, alarm, left)
                continue
            if alarm is None:
                alarm = Alarm(kind, subject, raised_at, domain=_domain(directory, kind, subject))
            told = next((c for c in alarm.changes if (c.at, c.state, c.severity) == (at, state, severity)), None)
            if told is not None and repr((told.value, told.threshold)) == repr((value, threshold)):
                if peak == peak and alarm.changes[-1] is told and (peak, peak_at) != (alarm.peak, alarm.peak_at):
                    alarm.peak, alarm.peak_at = peak, peak_at
                    touched[key] = alarm
                continue
            change = Change(at, severity, state, value, threshold, "")
            if alarm.changes and at <= alarm.changes[-1].at:
                # Late readings have shown that it was so: it takes its place among the others.
                others = [c for c in alarm.changes if c.at != at]
                alarm = self._told_anew(directory, alarm, sorted([*others, change], key=lambda c: c.at))
                state = alarm.state
            else:
                _apply(directory, alarm, change)
            if peak == peak:
                alarm.peak, alarm.peak_at = peak, peak_at
            alarm.directory_version = version
            self.open.pop(key, None)
            self.closed.pop(key, None)
            if state == AlarmState.NORMAL:
                self.closed[key] = alarm
                while len(self.closed) > KEPT_CLOSED:
                    del self.closed[next(iter(self.closed))]
            else:
                self.open[key] = alarm
            touched[key] = alarm
        return list(touched.values())

    def stand(self, directory: Directory, open_alarms: Transitions) -> list[Alarm]:
        """Agree with the alarms as they stand after something was withdrawn; returns those that were told anew.

        Of an alarm that was restored, nothing may be left of what is known here, and yet it stands.
        """
        touched = []
        for i in range(len(open_alarms)):
            key = (int(open_alarms.kind[i]), int(open_alarms.subject[i]), int(open_alarms.raised_at[i]))
            alarm, peak, peak_at = self.open.get(key), float(open_alarms.peak[i]), int(open_alarms.peak_at[i])
            if alarm is None:
                (alarm,) = self.take(directory, open_alarms.take(np.array([i])))
                alarm.restored = True
                touched.append(alarm)
            elif peak == peak and (alarm.peak, alarm.peak_at) != (peak, peak_at):
                alarm.peak, alarm.peak_at = peak, peak_at
                touched.append(alarm)
        return touched

    def _told_anew(self, directory: Directory, alarm: Alarm, changes: list[Change]) -> Alarm:
        """The alarm with these changes, in order, in place of those that were told; gone if there are none."""
        self.open.pop(alarm.key, None)
        self.closed.pop(alarm.key, None)
        again = Alarm(alarm.kind, alarm.subject, alarm.raised_at, alarm.domain, state=AlarmState.WITHDRAWN)
        again.peak, again.peak_at = alarm.peak, alarm.peak_at
        again.directory_version, again.restored = alarm.directory_version, alarm.restored
        for change in changes:
            _apply(directory, again, change)
        if again.state != AlarmState.UNACKNOWLEDGED:
            again.acknowledged_by, again.comment = alarm.acknowledged_by, alarm.comment
        if changes:
            (self.closed if again.state == AlarmState.NORMAL else self.open)[again.key] = again
        return again

    def find(self, directory: Directory, ident: str) -> Alarm | None:
        """The open alarm with this outer name."""
        return next((a for a in self.open.values() if a.ident(directory) == ident), None)

    def counts(self) -> dict[str, int]:
        """How many alarms are open: events by severity, those that returned, and jobs (silence, devices, brokers)."""
        found = {"awas": 0, "siaga": 0, "waspada": 0, "returned": 0, "jobs": 0, "unacknowledged": 0}
        for alarm in self.open.values():
            if alarm.domain == Domain.DEVICE:
                found["jobs"] += 1
                continue
            found[Severity(alarm.severity).name.lower() if alarm.severity else "returned"] += 1
            found["unacknowledged"] += alarm.state == AlarmState.UNACKNOWLEDGED
        return found


def _domain(directory: Directory, kind: int, subject: int) -> Domain:
    if kind != AlarmKind.LEVEL:
        return Domain.DEVICE
    return PROPERTIES[directory.datastreams[subject].property].domain


def _apply(directory: Directory, alarm: Alarm, change: Change) -> None:
    if change.severity and alarm.kind == AlarmKind.LEVEL:
        change.label = level_name(directory, alarm.subject, change.severity, change.threshold)
    alarm.changes.append(change)
    if len(alarm.changes) > KEPT_TRANSITIONS:
        del alarm.changes[1]
    if change.state == AlarmState.UNACKNOWLEDGED:
        alarm.acknowledged_by = alarm.comment = ""
    alarm.state, alarm.severity = change.state, change.severity
    if change.severity:
        alarm.cleared_at = None
        alarm.label, alarm.value, alarm.threshold = change.label, change.value, change.threshold
        if change.severity >= alarm.max_severity:
            alarm.max_severity, alarm.max_label = change.severity, change.label
    elif alarm.cleared_at is None:
        alarm.cleared_at = change.at
