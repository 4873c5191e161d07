"""Scoring of warnings against what really happened, by events: POD, FAR, CSI, bias and lead time.

An event is hit if an alarm overlaps it. An alarm that overlaps none still warned of the next event if it ended no
longer than the horizon before it began; else it is false. Every event and every alarm counts once: further alarms of
an event that is hit are repeats, neither hits nor false; and an alarm gives its lead time only to the first event it
meets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from statistics import median
from typing import Any

from telemetry.observations import NS_PER_S


class ScoreError(ValueError):
    """Truth or alarms that cannot be read; the message says what was expected."""


@dataclass(frozen=True, slots=True, order=True)
class Interval:
    """A closed interval of time. [ns since 1970 UTC]"""

    start: int
    end: int

    def __post_init__(self) -> None:
        if self.end < self.start:
            raise ScoreError(f"an interval must not end before it starts, got {self.start} to {self.end}")


@dataclass(frozen=True, slots=True)
class Score:
    """Counts of events and alarms, and what follows from them. A ratio with a zero denominator is None: undefined."""

    hits: int
    """Events with an alarm."""
    misses: int
    """Events without one."""
    false_alarms: int
    """Alarms without an event."""
    repeats: int
    """Alarms of an event that had one already."""
    leads_s: tuple[float, ...]
    """Start of the event − start of its first alarm, for hits; negative: the alarm came after it. [s]"""

    @property
    def pod(self) -> float | None:
        """Probability of detection: H / (H + M)."""
        return _ratio(self.hits, self.hits + self.misses)

    @property
    def far(self) -> float | None:
        """False alarm ratio: F / (H + F). Not the false alarm *rate*."""
        return _ratio(self.false_alarms, self.hits + self.false_alarms)

    @property
    def csi(self) -> float | None:
        """Critical success index: H / (H + M + F)."""
        return _ratio(self.hits, self.hits + self.misses + self.false_alarms)

    @property
    def bias(self) -> float | None:
        """Frequency bias: (H + F) / (H + M)."""
        return _ratio(self.hits + self.false_alarms, self.hits + self.misses)

    @property
    def lead_s(self) -> float | None:
        """Median lead time over the hits that have one. [s]"""
        return median(self.leads_s) if self.leads_s else None


def merge(events: Iterable[Interval], gap_s: float = 0.0) -> tuple[Interval, ...]:
    """Events in order of time; those no further apart than ``gap_s`` become one.

    Examples
    --------
    >>> s = 1_000_000_000
    >>> merge([Interval(20 * s, 30 * s), Interval(0, 10 * s), Interval(50 * s, 60 * s)], gap_s=10)
    (Interval(start=0, end=30000000000), Interval(start=50000000000, end=60000000000))
    """
    gap = round(gap_s * NS_PER_S)
    merged: list[Interval] = []
    for event in sorted(events):
        if merged and event.start - merged[-1].end <= gap:
            merged[-1] = Interval(merged[-1].start, max(merged[-1].end, event.end))
        else:
            merged.append(event)
    return tuple(merged)


def score(
    events: Iterable[Interval], alarms: Iterable[Interval], *, merge_gap_s: float = 0.0, horizon_s: float = 0.0
) -> Score:
    """Score alarms against events.

    Parameters
    ----------
    events : intervals
        What really happened, in any order.
    alarms : intervals
        From raising to clearing, in any order.
    merge_gap_s : float
        Events no further apart than this are one event. [s]
    horizon_s : float
        An alarm that ended up to so long before an event still warned of it. [s]

    References
    ----------
    Ratios as in the ECMWF forecast user guide and the AMS glossary.

    Examples
    --------
    >>> s = 1_000_000_000
    >>> found = score([Interval(100 * s, 200 * s), Interval(900 * s, 950 * s)], [Interval(70 * s, 150 * s)])
    >>> found.hits, found.misses, found.pod, found.far, found.lead_s
    (1, 1, 0.5, 0.0, 30.0)
    """
    horizon = round(horizon_s * NS_PER_S)
    truth = merge(events, merge_gap_s)
    hit = [False] * len(truth)
    leads: list[float] = []
    false_alarms = repeats = 0
    for alarm in sorted(alarms):
        met = [i for i, e in enumerate(truth) if alarm.start <= e.end and alarm.end >= e.start]
        if not met:
            met = [i for i, e in enumerate(truth) if alarm.end < e.start <= alarm.end + horizon][:1]
        if not met:
            false_alarms += 1
        elif all(hit[i] for i in met):
            repeats += 1
        else:
            if not hit[met[0]]:
                leads.append((truth[met[0]].start - alarm.start) / NS_PER_S)
            for i in met:
                hit[i] = True
    return Score(sum(hit), len(truth) - sum(hit), false_alarms, repeats, tuple(leads))


def read_truth(content: Any, *, level: str = "", zone: tzinfo = UTC) -> tuple[Interval, ...]:
    """Events of a truth file (decoded JSON), in order of time.

    Two shapes: ``{"events": [{"start": T, "end": T, ...}]}``, and ``{"threshold_windows": {level: [[T, T, ...]]}}``
    with the first and last sample above each level. A time without an offset is in ``zone``.

    Raises
    ------
    ScoreError
        Neither shape, no such level, or a time that is none.

    Examples
    --------
    >>> read_truth({"events": [{"start": "1970-01-01T00:00:01Z", "end": "1970-01-01T00:00:02Z"}]})
    (Interval(start=1000000000, end=2000000000),)
    """
    if not isinstance(content, dict):
        raise ScoreError("a truth file must hold an object with events or threshold_windows")
    if "threshold_windows" in content and level:
        windows = content["threshold_windows"]
        if level not in windows:
            raise ScoreError(f"there is no level {level!r} in threshold_windows, only {', '.join(windows)}")
        pairs: Sequence[Any] = [(w[0], w[1]) for w in windows[level]]
    elif "events" in content:
        try:
            pairs = [(e["start"], e["end"]) for e in content["events"]]
        except (KeyError, TypeError) as error:
            raise ScoreError(f"every event must have a start and an end ({error!r})") from error
    else:
        raise ScoreError("a truth file must hold events, or threshold_windows with a level chosen")
    return tuple(sorted(Interval(_time(start, zone), _time(end, zone)) for start, end in pairs))


def _time(text: Any, zone: tzinfo) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise ScoreError(f"a time must be like 2007-06-25T12:15:00, got {text!r}") from error
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * NS_PER_S + since.microseconds * 1000


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
