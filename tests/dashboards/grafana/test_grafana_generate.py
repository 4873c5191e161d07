"""The committed JSON is what the code generates; a city's own directory adds its gauges."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dashboards.grafana import generate
from dashboards.grafana.panels import GRAFANA_UNITS, SEVERITY_COLOURS, SEVERITY_WORDS, STATE_WORDS
from telemetry.alarms import AlarmState, Severity
from telemetry.directory import Datastream, Device, Direction, Directory, Ladder, Site, Step
from telemetry.properties import PROPERTIES


def test_committed_dashboards_are_the_generated_ones(tmp_path: Path) -> None:
    written = {p.name: p.read_bytes() for p in generate.build(tmp_path)}
    committed = {p.name: p.read_bytes() for p in generate.GENERATED.iterdir()}
    assert committed == written, "run `python -m dashboards.grafana.generate` and commit the result"


def test_keys_are_sorted_so_that_a_change_is_a_difference_of_lines() -> None:
    for path in generate.GENERATED.glob("*.json"):
        text = path.read_text(encoding="utf-8")
        assert text == json.dumps(json.loads(text), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def test_every_unit_severity_and_state_has_a_form_in_grafana() -> None:
    assert {p.unit for p in PROPERTIES.values()} <= set(GRAFANA_UNITS)
    assert set(SEVERITY_COLOURS) == set(SEVERITY_WORDS) == set(Severity)
    assert set(STATE_WORDS) == set(AlarmState)


@pytest.fixture
def directory() -> Directory:
    ladder = Ladder((Step(1.5, 1, "Siaga 3"), Step(2.0, 2, "Siaga 2"), Step(2.5, 3, "Siaga 1")))
    low = Ladder((Step(0.4, 1, "low"), Step(0.2, 3, "empty")), direction=Direction.BELOW)
    return Directory(
        7,
        "kota",
        7,
        (Site("a", "Jembatan A", -6.9, 107.6), Site("b", "Waduk B", -6.9, 107.7), Site("c", "Pos C", -6.9, 107.8)),
        (Device("d1", "a"), Device("d2", "b"), Device("d3", "c")),
        (
            Datastream("a.level's", "a", "d1", "water_level_m", ladder=ladder),
            Datastream("b.level", "b", "d2", "water_level_m", ladder=low),
            Datastream("c.level", "c", "d3", "water_level_m"),
            Datastream("a.rain", "a", "d1", "rain_mm", ladder=ladder),
        ),
    )


def test_a_directory_adds_a_panel_with_its_own_levels_for_each_gauge(directory: Directory) -> None:
    flood = generate.dashboards(directory)["pantau-flood"]
    rows = [p for p in flood["panels"] if p["type"] == "row"]
    assert len(rows) == 1
    assert [p["title"] for p in rows[0]["panels"]] == ["Jembatan A", "Waduk B"]
    steps = [p["fieldConfig"]["defaults"]["thresholds"]["steps"] for p in rows[0]["panels"]]
    # By hand: above a rising ladder the colours worsen; below a falling one they get better.
    assert steps[0] == [
        {"color": "green", "value": None},
        {"color": "yellow", "value": 1.5},
        {"color": "orange", "value": 2.0},
        {"color": "red", "value": 2.5},
    ]
    assert steps[1] == [
        {"color": "red", "value": None},
        {"color": "yellow", "value": 0.2},
        {"color": "green", "value": 0.4},
    ]
    assert "\"datastream\" = 'a.level\\'s'" in rows[0]["panels"][0]["targets"][0]["query"]
    assert "Siaga 2: 2 m" in rows[0]["panels"][0]["description"]
    ids = [p["id"] for p in flood["panels"]] + [p["id"] for p in rows[0]["panels"]]
    assert len(set(ids)) == len(ids)


def test_without_a_directory_there_is_no_row_of_gauges() -> None:
    assert not [p for p in generate.dashboards()["pantau-flood"]["panels"] if p["type"] == "row"]
