"""docs/nomenclature.md says what the code says."""

from __future__ import annotations

import re
from pathlib import Path

from telemetry.alarms import AlarmState, Severity
from telemetry.properties import PROPERTIES
from telemetry.quality import FLAG_NAMES

TEXT = (Path(__file__).parents[2] / "docs/nomenclature.md").read_text()


def section(heading: str) -> str:
    return TEXT.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def test_the_table_of_observed_properties_is_that_of_the_catalogue():
    expected = [
        f"| {p.name} | {p.unit} | {p.domain} | {p.label_en} | {p.label_id} | {p.span_min:g} to {p.span_max:g} "
        f"| {', '.join(p.conversions)} |"
        for p in PROPERTIES.values()
    ]
    rows = [line for line in section("Observed properties").splitlines() if line.startswith("|")]
    assert rows[2:] == expected


def test_the_flags_and_their_numbers():
    rows = re.findall(r"^\| ([A-Z]+) \| (\d) \|", section("Quality"), re.MULTILINE)
    assert {int(number): name.lower() for name, number in rows} == FLAG_NAMES


def test_the_severities_and_the_alarm_states():
    alarms = section("Thresholds and alarms")
    for severity in Severity:
        assert f"{int(severity)} {severity.name.lower()}" in alarms
    for state in AlarmState:
        assert state.name in alarms
