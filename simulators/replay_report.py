"""What a pipeline made of a replayed recording: the loss account, the alarms, and their score against the truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from simulators.recording import Recording
from simulators.replay import Sent
from simulators.replay_page import PipelinePage, clock_ns
from simulators.score import Interval, Score, merge, score
from telemetry.observations import rfc3339

SEVERITY_NAMES = {1: "waspada", 2: "siaga", 3: "awas"}


@dataclass(frozen=True)
class Change:
    """A change of an alarm's severity."""

    at: str
    """[RFC 3339 UTC]"""
    severity: int
    label: str
    value: float | None


@dataclass(frozen=True)
class AlarmRow:
    """One occurrence of an alarm. Times are RFC 3339 UTC."""

    kind: str
    """level or silence"""
    subject: str
    """Datastream (level) or device (silence)."""
    label: str
    """Name of the worst level reached."""
    max_severity: int
    raised_at: str
    cleared_at: str | None
    peak: float | None
    peak_at: str | None
    changes: tuple[Change, ...]
    """When it rose or fell to another severity, the raising first."""


@dataclass(frozen=True)
class SeverityScore:
    """Score of the alarms that reached a severity, against the true events. None: undefined."""

    severity: int
    events: int
    hits: int
    misses: int
    false_alarms: int
    repeats: int
    pod: float | None
    far: float | None
    csi: float | None
    bias: float | None
    lead_s: float | None
    """Median over the hits; negative: after the event began."""
    leads_s: tuple[float, ...]


@dataclass(frozen=True)
class Report:
    """What became of a replay."""

    recording: str
    city: str
    start: str
    end: str
    devices: int
    datastreams: int
    sent: int
    """Readings sent."""
    received: int
    duplicates: int
    late: int
    refused: dict[str, int]
    """Reason → readings or messages."""
    stored: int
    unaccounted: int
    """Sent, but neither stored nor refused nor a duplicate."""
    elapsed_s: float
    alarms: tuple[AlarmRow, ...]
    silences_outside: int
    """Silences before the first or after the last reading of a device: of the recording's making, not listed."""
    scored: str | None
    """The datastream that was scored."""
    scores: tuple[SeverityScore, ...]

    def to_json(self) -> bytes:
        """All of it as JSON."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2)

    def print(self, console: Console | None = None) -> None:
        """Tables for a person."""
        _print(self, console or Console())


def collect_report(page: PipelinePage, recording: Recording, sent: Sent) -> Report:
    """Ask the pipeline what it made of the recording."""
    received = duplicates = late = stored = 0
    refused: dict[str, int] = {}
    for device in recording.devices:
        account = page.account(device.id)
        received += account["received"]
        duplicates += account["duplicate"]
        late += account["late"]
        stored += account["stored"]
        for reason, count in account["refused"].items():
            refused[reason] = refused.get(reason, 0) + count
    raw = page.alarms(rfc3339(recording.start), rfc3339(sent.final_clock))
    mine = {s.id for s in recording.datastreams} | {d.id for d in recording.devices}
    raw = [a for a in raw if a["subject"] in mine]
    spans = _span_by_device(recording)
    outside = [a for a in raw if a["kind"] == "silence" and _is_outside(a, spans)]
    raw = [a for a in raw if a not in outside]
    raw.sort(key=lambda a: (clock_ns(a["raised_at"]), a["subject"]))
    scores: tuple[SeverityScore, ...] = ()
    if recording.truth is not None:
        scores = score_by_severity(raw, recording, sent.final_clock)
    return Report(
        recording=recording.name,
        city=recording.city,
        start=rfc3339(recording.start),
        end=rfc3339(recording.end),
        devices=len(recording.devices),
        datastreams=len(recording.datastreams),
        sent=sent.readings,
        received=received,
        duplicates=duplicates,
        late=late,
        refused=refused,
        stored=stored,
        unaccounted=sent.readings - stored - duplicates - sum(refused.values()),
        elapsed_s=round(sent.elapsed_s, 3),
        alarms=tuple(_row(a) for a in raw),
        silences_outside=len(outside),
        scored=recording.truth.datastream if recording.truth is not None else None,
        scores=scores,
    )


def score_by_severity(alarms: list[dict[str, Any]], recording: Recording, end_ns: int) -> tuple[SeverityScore, ...]:
    """Score the level alarms of the truth's datastream, for each severity on its ladder.

    ``alarms`` as from ``GET /api/alarms``; one that still stands counts until ``end_ns``.
    """
    truth = recording.truth
    assert truth is not None
    ladder = next(s.ladder for s in recording.datastreams if s.id == truth.datastream)
    mine = [a for a in alarms if a["kind"] == "level" and a["subject"] == truth.datastream]
    found = []
    for severity in sorted({s.severity for s in ladder.steps}):
        intervals = [i for a in mine if (i := _interval(a, severity, end_ns)) is not None]
        one = score(truth.events, intervals, merge_gap_s=truth.merge_gap_s, horizon_s=truth.horizon_s)
        found.append(_severity_score(severity, len(merge(truth.events, truth.merge_gap_s)), one))
    return tuple(found)


def _severity_score(severity: int, events: int, s: Score) -> SeverityScore:
    return SeverityScore(
        severity, events, s.hits, s.misses, s.false_alarms, s.repeats, s.pod, s.far, s.csi, s.bias, s.lead_s, s.leads_s
    )


def _interval(alarm: dict[str, Any], severity: int, end_ns: int) -> Interval | None:
    """From the moment at which an alarm reached a severity until it last left it; None if it never did."""
    start: int | None = None
    end: int | None = None
    for change in alarm["transitions"]:
        at = clock_ns(change["at"])
        assert at is not None
        if change["severity"] >= severity:
            start = at if start is None else start
            end = None
        elif start is not None and end is None:
            end = at
    if start is None:
        return None
    return Interval(start, max(start, end if end is not None else end_ns))


def _span_by_device(recording: Recording) -> dict[str, tuple[int, int]]:
    """Device → times of its first and last reading. [ns since 1970 UTC]"""
    spans: dict[str, tuple[int, int]] = {}
    for i, stream in enumerate(recording.datastreams):
        at = recording.observed_at[recording.datastream == i]
        if at.size:
            first, last = spans.get(stream.device, (int(at[0]), int(at[-1])))
            spans[stream.device] = min(first, int(at[0])), max(last, int(at[-1]))
    return spans


def _is_outside(silence: dict[str, Any], spans: dict[str, tuple[int, int]]) -> bool:
    at = clock_ns(silence["raised_at"])
    span = spans.get(silence["subject"])
    return at is None or span is None or not span[0] <= at <= span[1]


def _row(alarm: dict[str, Any]) -> AlarmRow:
    changes: list[Change] = []
    for t in alarm["transitions"]:
        if not changes or changes[-1].severity != t["severity"]:
            changes.append(Change(t["at"], t["severity"], t["label"], t["value"]))
    worst = max(changes, key=lambda c: c.severity, default=None)
    return AlarmRow(
        kind=alarm["kind"],
        subject=alarm["subject"],
        label=worst.label if worst is not None and worst.label else alarm["label"],
        max_severity=alarm["max_severity"],
        raised_at=alarm["raised_at"],
        cleared_at=alarm["cleared_at"],
        peak=alarm["peak"],
        peak_at=alarm["peak_at"],
        changes=tuple(changes),
    )


def _print(report: Report, console: Console) -> None:
    console.print(f"[bold]{report.recording}[/bold], {report.start} to {report.end}", soft_wrap=True)
    account = Table(title="Readings", title_justify="left", show_header=False, box=box.SIMPLE)
    account.add_column(justify="left")
    account.add_column(justify="right")
    for name, value in (
        ("sent", report.sent),
        ("received", report.received),
        ("stored", report.stored),
        ("of these late", report.late),
        ("duplicates", report.duplicates),
        *((f"refused: {reason}", n) for reason, n in sorted(report.refused.items())),
        ("unaccounted for", report.unaccounted),
    ):
        account.add_row(name, f"{value:,}")
    console.print(account)
    console.print(f"[bold]Alarms: {len(report.alarms)}[/bold] (times are UTC)")
    for a in report.alarms:
        _print_alarm(a, console)
    if report.silences_outside:
        console.print(
            f"not listed: {report.silences_outside} silences before a device's first or after its last reading"
        )
    if report.scores:
        _print_scores(report, console)


def _print_alarm(a: AlarmRow, console: Console) -> None:
    """One alarm on one to two lines that are not cut to the width of the terminal."""
    until = f"to {_minute(a.cleared_at)}" if a.cleared_at else "and stands"
    if a.kind == "silence":
        lasted = f", {a.peak / 3600:.1f} h without readings" if a.peak is not None else ""
        text = f"{_minute(a.raised_at)} {until}  silence  {a.subject}{lasted}"
    else:
        name = SEVERITY_NAMES.get(a.max_severity, "?")
        text = f"{_minute(a.raised_at)} {until}  {name} ({a.label})  {a.subject}"
        if a.peak is not None and a.peak_at is not None:
            text += f", peak {a.peak:g} at {_minute(a.peak_at)}"
    console.print(Text(text), soft_wrap=True)
    if a.kind != "silence":
        steps = (f"{_minute(c.at)[5:]} {c.label or SEVERITY_NAMES.get(c.severity, 'normal')}" for c in a.changes)
        console.print(Text("    " + " → ".join(steps)), soft_wrap=True)


def _print_scores(report: Report, console: Console) -> None:
    table = Table(title=f"Score of {report.scored}", title_justify="left", box=None, padding=(0, 1, 0, 0))
    for title in ("Alarms", "Events", "Hits", "Misses", "False", "Repeats", "POD", "FAR", "CSI", "Bias", "Lead"):
        table.add_column(title, justify="right", no_wrap=True)
    for s in report.scores:
        ratios = ["undef." if r is None else f"{r:.2f}" for r in (s.pod, s.far, s.csi, s.bias)]
        lead = (
            "undef." if s.lead_s is None else f"{s.lead_s / 60:.0f} min" if abs(s.lead_s) >= 60 else f"{s.lead_s:.0f} s"
        )
        counts = [str(n) for n in (s.events, s.hits, s.misses, s.false_alarms, s.repeats)]
        table.add_row(f"≥ {SEVERITY_NAMES[s.severity]}", *counts, *ratios, lead)
    console.print(table)


def _minute(text: str) -> str:
    """``2007-06-25T18:30:00Z`` as ``2007-06-25 18:30``."""
    return text[:16].replace("T", " ")
