"""The words of alarms: severities, kinds and states after ISA-18.2, and the operator's actions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Severity(IntEnum):
    """How bad; the names are those of Indonesian disaster warnings."""

    NORMAL = 0
    WASPADA = 1
    """Advisory: watch it."""
    SIAGA = 2
    """Warning: get ready."""
    AWAS = 3
    """Danger: act."""


class AlarmKind(IntEnum):
    """What the alarm is about; together with its subject it names the alarm."""

    LEVEL = 1
    """A datastream beyond its thresholds. Subject: datastream index."""
    SILENCE = 2
    """A device that does not send. Subject: device index."""
    BROKER = 3
    """A broker that we are not connected to. Subject: its number, in the order of the settings."""


class AlarmState(IntEnum):
    """Life cycle of an alarm (ANSI/ISA-18.2)."""

    NORMAL = 0
    UNACKNOWLEDGED = 1
    ACKNOWLEDGED = 2
    RETURNED_UNACKNOWLEDGED = 3
    """The condition is gone but nobody has acknowledged that it was there."""
    WITHDRAWN = 4
    """Of a change that was told: late readings have shown that it never happened."""


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """An operator takes note of an alarm. An input of the core, journaled like a reading."""

    kind: AlarmKind
    subject: int
    raised_at: int
    """Which occurrence of the alarm. [ns since 1970 UTC]"""
    at: int
    """When the operator did it. [ns since 1970 UTC]"""
    by: str
    comment: str = ""
