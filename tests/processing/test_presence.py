"""Births and deaths of devices in the core: silence alarms at once, the same however the inputs are cut."""

from __future__ import annotations

import itertools
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.steps import decode_step, encode_step
from processing.core import LATENESS_S, State, step
from telemetry.alarms import Acknowledge, AlarmKind, AlarmState
from telemetry.brokers import BrokerLink
from telemetry.directory import Device, Directory, Installation
from telemetry.observations import NS_PER_S, Observations
from telemetry.presence import Presence
from telemetry.results import Results, Transitions
from tests.processing.city import T0, directory

CITY = directory()
"""Four devices with a datastream each; silent after 600 s."""
ALLOWED_S = 600
HEARD = (BrokerLink(True, T0),)


def at(seconds: float) -> int:
    return T0 + round(seconds * NS_PER_S)


def rows(*readings: tuple[int, float] | tuple[int, float, float]) -> Observations:
    """(datastream, observed, received if that is later), in seconds after T0."""
    stream = [r[0] for r in readings]
    observed = [at(r[1]) for r in readings]
    received = [at(r[-1]) for r in readings]
    plain = Observations.of(stream, observed, [0.5 + 0.001 * (r[1] % 7) for r in readings], received)
    return replace(plain, broker=np.zeros(len(readings), dtype=np.uint8))


def dies(device: int, seconds: float) -> Presence:
    return Presence(device, False, at(seconds))


def born(device: int, seconds: float) -> Presence:
    return Presence(device, True, at(seconds))


Step = tuple[Observations, list[Presence], float]


def story(*steps: Step, city: Directory = CITY, brokers: tuple[BrokerLink, ...] = HEARD) -> tuple[State, list[Results]]:
    """Steps of (readings, certificates, now)."""
    state, results = State.for_directory(city), []
    for batch, presence, now in steps:
        state, result = step(state, city, batch, at(now), brokers=brokers, presence=presence)
        results.append(result)
    return state, results


def history(results: list[Results], device: int = 0) -> list[tuple[float, int]]:
    """(seconds after T0, severity) of each change of a device's silence alarm."""
    t = Transitions.concat([r.transitions for r in results])
    mine = np.flatnonzero((t.kind == AlarmKind.SILENCE) & (t.subject == device))
    return [((int(t.at[i]) - T0) / NS_PER_S, int(t.severity[i])) for i in mine]


def test_a_death_is_an_alarm_at_once_dated_at_the_death() -> None:
    _, results = story((rows((0, 0), (1, 0)), [], 1), (rows(), [dies(0, 30)], 30.1))
    t = results[1].transitions
    assert (t.subject.tolist(), t.at.tolist(), t.raised_at.tolist()) == ([0], [at(30)], [at(30)])
    assert t.state.tolist() == [AlarmState.UNACKNOWLEDGED]
    # It says how long the device had not sent by then; nothing was allowed.
    assert (t.value.tolist(), t.threshold.tolist()) == ([30.0], [0.0])


def test_a_birth_ends_it_and_gives_the_device_its_whole_time() -> None:
    _, results = story(
        (rows((0, 0)), [], 1), (rows(), [dies(0, 30)], 31), (rows(), [born(0, 500)], 501), (rows(), [], 2000)
    )
    assert history(results) == [(30, 1), (500, 0), (500 + ALLOWED_S, 1)]


def test_a_reading_after_the_death_ends_it_and_an_older_one_does_not() -> None:
    _, results = story(
        (rows((0, 0)), [], 1),
        (rows(), [dies(0, 30)], 31),
        (rows((0, 29, 40)), [], 41),  # was still on its way
        (rows((0, 50)), [], 51),
    )
    assert history(results) == [(30, 1), (50, 0)]


def test_a_clock_that_is_ahead_does_not_hide_a_death() -> None:
    """The last reading bears a time after the death, but came before it."""
    _, results = story(
        (rows((0, 33, 28)), [], 29), (rows((0, 34, 29)), [dies(0, 30)], 31), (rows((0, 36, 29.5)), [], 32)
    )
    assert history(results) == [(30, 1)]
    _, results = story((rows((0, 33, 28)), [], 29), (rows(), [dies(0, 30)], 31), (rows((0, 45, 40)), [], 41))
    assert history(results) == [(30, 1), (45, 0)]


def test_a_device_that_died_before_it_is_expected_is_accused_when_it_is() -> None:
    city = replace(CITY, installations=(Installation("s0", "s0/water_level_m", at(40)),))
    steps = [(rows(), [], 1.0), (rows(), [dies(0, 30)], 31.0), *((rows(), [], float(t)) for t in range(32, 60))]
    _, results = story(*steps, city=city)
    assert history(results) == [(40, 1)]


def test_death_and_birth_in_one_batch_are_a_short_alarm() -> None:
    _, results = story((rows((0, 0)), [dies(0, 30), born(0, 31)], 32))
    assert history(results) == [(30, 1), (31, 0)]


def test_at_the_same_moment_the_later_certificate_counts() -> None:
    both = [dies(0, 30), born(0, 30)]
    _, results = story((rows((0, 0)), both, 32), (rows(), [], 40))
    assert [(round(moment, 6), severity) for moment, severity in history(results)] == [(30, 1), (30, 0)]
    _, results = story((rows((0, 0)), both[::-1], 32), (rows(), [], 40))
    assert history(results) == [(30, 1)]


def test_old_certificates_say_nothing() -> None:
    _, results = story((rows((0, 0)), [born(0, 20)], 21), (rows(), [dies(0, 10)], 22))
    assert history(results) == []
    _, results = story((rows((0, 50)), [], 51), (rows(), [dies(0, 40)], 52))
    assert history(results) == []  # it spoke after that


def test_a_death_of_a_silent_device_is_the_same_alarm_and_a_birth_ends_it() -> None:
    _, results = story((rows((0, 0)), [], 1), (rows(), [], 700), (rows(), [dies(0, 800)], 801), (rows(), [], 5000))
    assert history(results) == [(600, 1)]
    _, results = story((rows((0, 0)), [], 1), (rows(), [], 700), (rows(), [born(0, 800)], 801))
    assert history(results) == [(600, 1), (800, 0)]


def test_a_silence_that_was_due_before_the_death_comes_first() -> None:
    """The step with the death is the first after the silence was due: the alarm is the one that time alone gives."""
    _, results = story((rows((0, 0)), [], 1), (rows(), [dies(0, 601)], 602))
    assert history(results) == [(600, 1)]


def test_a_death_needs_no_broker() -> None:
    lost = (BrokerLink(False, at(29)),)
    state, results = story((rows((0, 0)), [], 1))
    for now, presence in ((31.0, [dies(0, 28)]), (5000.0, [])):
        state, result = step(state, CITY, rows(), at(now), brokers=lost, presence=presence)
        results.append(result)
    assert history(results) == [(28, 1)]
    assert history(results, 1) == []  # nobody else is accused while the broker is down


def test_devices_that_are_not_watched_are_not_accused_until_they_are() -> None:
    def watched(version: int, yes: bool) -> Directory:
        return replace(CITY, version=version, devices=tuple(replace_watched(d, yes) for d in CITY.devices))

    def replace_watched(device: Device, yes: bool) -> Device:
        return msgspec.structs.replace(device, watched=yes)

    off, on = watched(1, False), watched(2, True)
    state, results = story((rows((0, 0)), [dies(0, 30)], 31), (rows(), [], 100), city=off)
    assert history(results) == []
    for now in (200.0, 200 + LATENESS_S + 1):
        state, result = step(state, on, rows(), at(now), brokers=HEARD)
        results.append(result)
    assert history(results) == [(200, 1)]
    # Taken out of watch while it is dead: the alarm ends.
    state, result = step(state, watched(3, False), rows(), at(300), brokers=HEARD)
    assert history([result]) == [(300, 0)]


def test_it_can_be_acknowledged_and_goes_back_to_normal_by_itself() -> None:
    state, _ = story((rows((0, 0)), [dies(0, 30)], 31))
    seen = Acknowledge(AlarmKind.SILENCE, 0, at(30), at(40), "op")
    state, result = step(state, CITY, rows(), at(41), brokers=HEARD, actions=[seen])
    assert result.transitions.state.tolist() == [AlarmState.ACKNOWLEDGED]
    state, result = step(state, CITY, rows(), at(51), brokers=HEARD, presence=[born(0, 50)])
    assert result.transitions.state.tolist() == [AlarmState.NORMAL]


def test_a_device_outside_the_directory_is_refused() -> None:
    with pytest.raises(ValueError, match="device index 9 outside"):
        story((rows(), [dies(9, 1)], 2))


def test_deaths_are_saved() -> None:
    state, _ = story((rows((0, 0)), [dies(0, 30)], 31))
    saved = State.from_bytes(state.to_bytes())
    assert saved.to_bytes() == state.to_bytes()
    _, result = step(saved, CITY, rows((0, 29, 40)), at(41), brokers=HEARD)
    assert history([result]) == []


# ---------------------------------------------------------------------------------------------- however it is cut

EVENTS = st.lists(
    st.tuples(
        st.integers(0, 400),  # seconds, doubled: readings at even ones, certificates at odd ones
        st.sampled_from(["reading", "reading", "birth", "death"]),
        st.integers(0, 1),
    ),
    min_size=1,
    max_size=25,
    unique_by=lambda e: (e[0], e[1] == "reading", e[2]),
)
SHORT = directory(silence_after_s=100.0)
END_S = 2000


def plain_history(events: list[tuple[int, str, int]], device: int) -> list[tuple[float, int]]:
    """The alarms of one device, event by event as the rules say."""
    found: list[tuple[float, int]] = []
    heard, silent = 0, False
    for second, what, who in [*events, (END_S - 5, "end", device)]:
        if who != device:
            continue
        if not silent and second - heard > 100:
            found.append((heard + 100, 1))
            silent = True
        if what == "death" and not silent:
            found.append((second, 1))
            silent = True
        if what in ("birth", "reading"):
            if silent:
                found.append((second, 0))
            silent, heard = False, second
    return found


@settings(max_examples=300, deadline=None)
@given(EVENTS, st.lists(st.integers(0, 25), max_size=5), st.randoms())
def test_the_same_alarms_whatever_the_batching_and_after_a_replay(
    drawn: list[tuple[int, str, int]], cuts: list[int], chance: object
) -> None:
    events = sorted((2 * s + (what != "reading"), what, who) for s, what, who in drawn)
    one_by_one = list(range(len(events) + 1))
    histories = []
    for edges in (one_by_one, [0, len(events)], sorted({0, len(events), *(min(c, len(events)) for c in cuts)})):
        steps: list[Step] = []
        for first, last in itertools.pairwise(edges):
            part = events[first:last]
            readings = [(who, float(s)) for s, what, who in part if what == "reading"]
            chance.shuffle(readings)  # type: ignore[attr-defined]
            told = [Presence(who, what == "birth", at(s)) for s, what, who in part if what != "reading"]
            steps.append((rows(*readings), told, float(part[-1][0])))
        steps.append((rows(), [], END_S))
        _, results = story(*steps, city=SHORT)
        histories.append([history(results, d) for d in (0, 1)])
        # The journal gives back the same.
        state, again = State.for_directory(SHORT), []
        for batch, presence, now in steps:
            record = decode_step(encode_step(batch, at(now), brokers=HEARD, presence=presence))
            state, result = step(
                state, SHORT, record.observations, record.now_ns, brokers=record.brokers, presence=record.presence
            )
            again.append(result)
        assert [r.transitions.at.tolist() for r in again] == [r.transitions.at.tolist() for r in results]
    assert histories[1:] == histories[:1] * 2
    assert histories[0] == [plain_history(events, d) for d in (0, 1)]
