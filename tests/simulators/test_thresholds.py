"""The thresholds that the simulated city registers, judged by the real core against the known truth."""

import numpy as np
import pytest

from processing.core import State, step
from simulators.city import City, Happening, Kind
from simulators.schedule import NS_PER_MIN
from telemetry.alarms import AlarmKind, AlarmState
from telemetry.observations import Observations
from telemetry.quality import FAIL, GOOD, SUSPECT

HOURS = 4


@pytest.fixture(scope="module", params=[1, 4])
def evening(request: pytest.FixtureRequest) -> tuple[City, int, list[Happening], list[tuple], dict[str, list[int]]]:
    """City, start, truth, alarms raised or escalated (kind, subject, at, severity), and flags of lying sensors."""
    city = City(seed=request.param)
    directory = city.directory()
    start = city.start_of_evening("2026-11-24")
    truth = city.truth(start, start + HOURS * 60 * NS_PER_MIN)
    state = State.for_directory(directory)
    liars = {h.subject for h in truth if h.kind == Kind.FAULT}
    raised: list[tuple] = []
    flags: dict[str, list[int]] = {"": []}
    for minute in range(HOURS * 60):
        now = start + (minute + 1) * NS_PER_MIN
        samples = city.sample(now - NS_PER_MIN, now)
        observations = Observations.of(samples.datastream, samples.observed_at, samples.value)
        state, results = step(state, directory, observations, now, listening_since=start)
        t = results.transitions
        for k in np.flatnonzero(t.state == AlarmState.UNACKNOWLEDGED):
            of = directory.datastreams if t.kind[k] == AlarmKind.LEVEL else directory.devices
            raised.append((AlarmKind(t.kind[k]), of[t.subject[k]].id, int(t.at[k]), int(t.severity[k])))
        for stream, flag in zip(results.readings.datastream.tolist(), results.readings.flag.tolist(), strict=True):
            name = directory.datastreams[stream].id
            flags.setdefault(name if name in liars else "", []).append(flag)
    return city, start, truth, raised, flags


def test_every_flood_and_jam_is_raised_soon_after_it_is_true(evening) -> None:
    city, _, truth, raised, _ = evening
    delay_ns = {d.id: round(d.ladder.on_delay_s * 1e9) for d in city.datastreams}
    lasting = [h for h in truth if h.kind == Kind.LEVEL and h.end - h.start > 2 * delay_ns[h.subject] + 120e9]
    assert any(h.severity == 3 and h.subject.startswith("gauge") for h in lasting)
    assert any(h.severity == 3 and h.subject.startswith("traffic") for h in lasting)
    for h in lasting:
        times = [at for kind, subject, at, severity in raised if subject == h.subject and severity >= h.severity]
        wait = (min(t for t in times if t > h.start - 120e9) - h.start) / 1e9
        assert wait <= delay_ns[h.subject] / 1e9 + 240, (h.subject, h.label, wait)


def test_nothing_is_raised_that_is_not_true(evening) -> None:
    _, _, truth, raised, _ = evening
    for kind, subject, at, severity in raised:
        if kind == AlarmKind.SILENCE:
            assert any(h.kind == Kind.SILENCE and h.subject == subject and h.start < at for h in truth)
        elif "lamp" in subject:
            assert any(h.kind == Kind.LAMP_FAILURE and subject.startswith(h.subject) for h in truth)
        else:
            true = [h for h in truth if h.kind == Kind.LEVEL and h.subject == subject]
            assert any(h.start - 120e9 <= at <= h.end + 1200e9 and h.severity >= severity for h in true), (subject, at)


def test_the_dark_lamp_and_the_dead_battery_are_raised(evening) -> None:
    _, _, truth, raised, _ = evening
    for wanted in (Kind.LAMP_FAILURE, Kind.SILENCE):
        h = next(h for h in truth if h.kind == wanted)
        assert any(subject.startswith(h.subject) and h.start < at < h.end for _, subject, at, _ in raised)


def test_lying_sensors_are_flagged_and_honest_ones_are_not(evening) -> None:
    _, _, truth, _, flags = evening
    assert not any(flag in (SUSPECT, FAIL) for flag in flags[""]) and flags[""].count(GOOD) > 150_000
    for h in truth:
        if h.kind == Kind.FAULT:
            bad = sum(flag in (SUSPECT, FAIL) for flag in flags[h.subject])
            assert bad >= 3, (h.subject, h.label)
            if h.label == "broken wire":
                assert flags[h.subject].count(FAIL) == pytest.approx((h.end - h.start) / 60e9, abs=3)
