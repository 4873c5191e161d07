"""Level alarms where it is easy to be wrong: changed ladders, readings that come late, gates that close."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from processing.core import LATENESS_S, State, step
from telemetry.alarms import AlarmState
from telemetry.directory import Datastream, Device, Directory, Gate, Ladder, Site, Step
from telemetry.observations import NS_PER_S, Observations
from telemetry.results import Transitions
from tests.processing.city import T0


def city(ladder: Ladder, version: int = 1, prop: str = "water_level_m") -> Directory:
    """One datastream in Bandung."""
    return Directory(
        version, "kota", 7.0, (Site("s", "s", -6.9, 107.6),), (Device("d", "s"),),
        (Datastream("x", "s", "d", prop, ladder=ladder),),
    )  # fmt: skip


def rising(*steps: tuple[float, int], **more: float) -> Ladder:
    return Ladder(steps=tuple(Step(v, s, f"Siaga {4 - s}") for v, s in steps), **more)  # type: ignore[arg-type]


class Run:
    """A core that is fed second by second."""

    def __init__(self, directory: Directory, start: int = T0) -> None:
        self.directory, self.start = directory, start
        self.state = State.for_directory(directory)
        self.log: list[Transitions] = []

    def at(self, second: float, value: float | None = None, observed: float | None = None) -> None:
        """Let it be ``second``; a reading may have been observed then, or before."""
        now = self.start + round(second * NS_PER_S)
        when = now if observed is None else self.start + round(observed * NS_PER_S)
        batch = Observations.empty() if value is None else Observations.of([0], [when], [value])
        self.state, results = step(self.state, self.directory, batch, now)
        self.log.append(results.transitions)

    def history(self) -> list[tuple[float, int]]:
        """(second, severity) of each change."""
        t = Transitions.concat(self.log)
        return [((int(a) - self.start) / NS_PER_S, int(s)) for a, s in zip(t.at, t.severity, strict=True)]


def test_a_new_severity_takes_effect_on_an_alarm_that_stands() -> None:
    run = Run(city(rising((2.0, 1))))
    run.at(0, 2.5)
    run.directory = city(rising((2.0, 3)), version=2)
    run.at(60)
    assert run.history() == [(0, 1), (60, 3)]


def test_new_steps_below_take_the_place_that_the_value_has() -> None:
    run = Run(city(rising((3.0, 3))))
    run.at(0, 3.5)
    run.at(60, 2.9)  # back below 3.0: over
    run.at(120, 3.5)
    run.directory = city(rising((1.0, 1), (2.0, 2), (4.0, 3)), version=2)
    run.at(180)
    assert [h for h in run.history() if h[0] >= 120] == [(120, 0), (120, 3), (180, 2)]


def test_a_threshold_raised_while_a_delay_runs_raises_nothing() -> None:
    run = Run(city(rising((2.0, 2), on_delay_s=600.0)))
    run.at(0, 2.5)
    run.directory = city(rising((3.0, 2), on_delay_s=600.0), version=2)
    for second in (60, 700, 3000):
        run.at(second)
    assert run.history() == []


def test_a_threshold_lowered_below_the_value_acts_without_waiting_for_the_next_reading() -> None:
    run = Run(city(rising((3.0, 2), on_delay_s=60.0)))
    run.at(0, 2.5)
    run.directory = city(rising((2.0, 2), on_delay_s=60.0), version=2)
    for second in (100, 150, 200):
        run.at(second)
    assert run.history() == [(160, 2)]


def test_a_direction_that_is_turned_round() -> None:
    run = Run(city(rising((2.0, 2), on_delay_s=600.0)))
    run.at(0, 2.5)
    run.directory = city(replace_direction(rising((1.0, 2), on_delay_s=600.0)), version=2)
    run.at(60)
    run.at(3000)
    assert run.history() == []


def replace_direction(ladder: Ladder) -> Ladder:
    return Ladder(ladder.steps, -1, ladder.deadband, ladder.on_delay_s, ladder.off_delay_s, ladder.gate)


def test_a_ladder_that_is_removed_ends_its_alarm_and_keeps_the_threshold_that_was_passed() -> None:
    run = Run(city(rising((2.0, 2))))
    run.at(0, 2.5)
    run.directory = city(Ladder(), version=2)
    run.at(60)
    assert run.history() == [(0, 2), (60, 0)]
    assert list(run.log[-1].threshold) == [2.0]


def test_other_ladders_are_left_alone_by_a_new_directory() -> None:
    run = Run(city(rising((2.0, 2), on_delay_s=600.0)))
    run.at(0, 2.5)
    run.directory = replace(run.directory, version=2)
    run.at(60)
    run.at(700)
    assert run.history() == [(600, 2)]


def test_a_reading_that_is_on_its_way_is_waited_for() -> None:
    run = Run(city(rising((2.0, 2), on_delay_s=120.0)))
    run.at(0, 2.5)
    run.at(60, 2.5)
    run.at(121)
    run.at(122, 1.0, observed=120)  # came two seconds late, and says that it did not last
    run.at(600)
    assert run.history() == []


def test_what_a_late_reading_shows_never_to_have_been_is_withdrawn() -> None:
    run = Run(city(rising((2.0, 2), on_delay_s=120.0)))
    run.at(0, 2.5)
    run.at(120 + LATENESS_S + 1)
    run.at(200, 1.0, observed=60)  # later than anybody waits
    assert run.history() == [(120, 2), (120, 0)]
    assert run.log[-1].state[0] == AlarmState.WITHDRAWN


def test_a_lamp_that_goes_out_at_dawn_is_no_failure() -> None:
    lamp = city(rising((10.0, 1), on_delay_s=3600.0, gate=Gate.DARK), prop="lamp_power_w")
    lamp = city(replace_direction(lamp.datastreams[0].ladder), prop="lamp_power_w")
    midnight = int(np.datetime64("2026-11-23T17:00", "ns").astype(np.int64))  # in Bandung
    run = Run(lamp, start=midnight)
    minutes = range(0, 20 * 60, 5)
    dawn, dusk = 5 * 60 - 5, 18 * 60 + 20  # it goes out while the sun is still more than 6 degrees down
    for minute in minutes:
        run.at(minute * 60, 0.0 if dawn <= minute < dusk else 80.0)
    assert run.history() == []
    for minute in range(20 * 60, 22 * 60, 5):
        run.at(minute * 60, 0.0)
    assert run.history() == [(20 * 3600 + 3600, 1)]
