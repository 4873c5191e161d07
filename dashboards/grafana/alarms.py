"""The panels about alarms that the domains' dashboards share."""

from __future__ import annotations

from typing import Any

from dashboards.grafana import influxql
from dashboards.grafana.influxql import InfluxQuery
from dashboards.grafana.panels import (
    SEVERITY_COLOURS,
    SEVERITY_WORDS,
    WIDTH,
    Text,
    alarm_table,
    any_is,
    severity_timeline,
    stat,
)
from telemetry.alarms import Severity

_SEEN = Text(
    "Keadaan pada akhir rentang waktu yang ditampilkan. Alarm yang perubahan terakhirnya lebih lama dari "
    "pilihan “Alarm sejak” tidak tampak di sini; halaman operator menampilkan semuanya.",
    "As it stood at the end of the time range shown. An alarm whose last change is older than the choice "
    "“Alarms since” does not appear here; the operator's page shows all of them.",
)


def alarm_counts(condition: str) -> list[Any]:
    """One number for each severity: how many alarms stand there."""
    severities = [s for s in reversed(Severity) if s != Severity.NORMAL]
    return [
        stat(
            Text(SEVERITY_WORDS[s], SEVERITY_WORDS[s]),
            _SEEN,
            "none",
            InfluxQuery(influxql.count_open(condition, s), alias=SEVERITY_WORDS[s]),
            thresholds=any_is(SEVERITY_COLOURS[s]),
            span=WIDTH // len(severities),
            coloured=True,
            none_means="0",
        )
        for s in severities
    ]


def open_alarm_table(condition: str, unit: str = "none") -> Any:
    """The open alarms, the worst first."""
    return alarm_table(Text("Alarm terbuka", "Open alarms"), _SEEN, influxql.open_alarms(condition), unit)


def alarm_history(condition: str, span: int = WIDTH) -> Any:
    """Severity of each alarm over the time range."""
    return severity_timeline(
        Text("Riwayat alarm", "Alarm history"),
        Text(
            "Tingkat tiap alarm yang berubah dalam rentang waktu ini; satu baris per alarm.",
            "Severity of every alarm that changed in this time range; one row for each alarm.",
        ),
        influxql.severity_changes(condition),
        alias="$tag_site $tag_subject",
        span=span,
    )
