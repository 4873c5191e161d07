"""Recorded floods stay believed, and what docs/quality.md says of the recordings is what comes out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.quality import (
    CREEK_M,
    LIMITS,
    RIVER_M,
    SITES,
    VARIABLES,
    Flood,
    flags_by_test,
    flood_table,
    floods,
    labelled,
    logan_tables,
    one,
)
from telemetry.quality import FAIL, GOOD, SUSPECT, roll_up

DOCS = (Path(__file__).parents[2] / "docs/quality.md").read_text()
RIVERS = list(floods())


def named(flood: Flood) -> str:
    return flood.name.replace(" ", "-")


@pytest.mark.parametrize("river", RIVERS, ids=named)
def test_no_flood_reading_is_fail(river: Flood):
    assert river.flood.sum() > 200, "there is a flood in it"
    tests = flags_by_test(river.stage_m, river.at, one(len(river.at)), RIVER_M)
    flag = roll_up(*tests.values())
    assert not np.any(flag == FAIL)
    assert np.all(flag[river.flood] == GOOD)


@pytest.mark.parametrize("river", RIVERS, ids=named)
def test_not_even_if_it_came_a_hundred_times_as_fast(river: Flood):
    """The Don's half a metre in 15 minutes becomes 5 cm a second: no longer believable, but for people to judge."""
    at = river.at[0] + (river.at - river.at[0]) // 100
    tests = flags_by_test(river.stage_m, at, one(len(at)), replace(RIVER_M, flat_suspect_s=np.inf))
    assert not any(np.any(flag == FAIL) for flag in tests.values())


def test_the_fast_don_is_suspect_then():
    (don,) = (r for r in RIVERS if r.name.startswith("don_hadfields_2007"))
    at = don.at[0] + (don.at - don.at[0]) // 100
    assert np.any(flags_by_test(don.stage_m, at, one(len(at)), RIVER_M)["rate of change"] == SUSPECT)


@pytest.mark.parametrize("river", RIVERS, ids=named)
def test_a_rate_never_fails_a_flood_even_with_a_creeks_limits(river: Flood):
    tests = flags_by_test(river.stage_m, river.at, one(len(river.at)), CREEK_M)
    assert not np.any(tests["rate of change"] == FAIL)
    assert not np.any(tests["spike, average"] == FAIL)


@pytest.mark.parametrize("river", RIVERS, ids=named)
def test_a_fault_within_the_flood_is_found_with_the_same_limits(river: Flood):
    """So that the tests above do not pass because nothing is ever found."""
    stage = river.stage_m.copy()
    peak = int(np.argmax(np.where(np.arange(len(stage)) < len(stage) - 100, stage, -np.inf)))
    stage[peak - 5] += 2.0
    stage[peak : peak + 80] = stage[peak]
    tests = flags_by_test(stage, river.at, one(len(river.at)), RIVER_M)
    assert tests["spike, differential"][peak - 5] == FAIL
    assert tests["flat line"][peak + 79] == SUSPECT  # 79 quarters of an hour; SUSPECT from 12 h on


def test_the_figures_of_the_labelled_rivers_stand_in_the_documentation():
    parts = [labelled(site, variable) for site in SITES for variable in VARIABLES]
    lines = "\n".join(logan_tables(parts)).splitlines()
    assert len(lines) > 30
    assert [line for line in lines if line.startswith("|") and line not in DOCS] == []


@pytest.mark.parametrize("limits", [RIVER_M, CREEK_M])
def test_the_figures_of_the_floods_stand_in_the_documentation(limits: object):
    lines = list(flood_table(limits))  # type: ignore[arg-type]
    assert len(lines) == 1 + len(RIVERS)
    assert [line for line in "\n".join(lines).splitlines() if line not in DOCS] == []


def test_the_recordings_have_the_variables_and_the_limits_are_set():
    assert set(LIMITS) == {(site, variable) for site in SITES for variable in VARIABLES}
