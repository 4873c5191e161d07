"""Readings that come late: what follows is the same as if they had come in time."""

from __future__ import annotations

import random as randomness

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from processing.core import HALF, RING, State, step
from telemetry.alarms import Acknowledge, AlarmKind, AlarmState
from telemetry.directory import Directory
from telemetry.observations import NS_PER_S, Observations
from telemetry.results import Results
from tests.processing.city import T0, directory, observations
from tests.processing.test_core import PIECES, STREAMS, final_windows, rows_of, run

CITY = directory()
DAY_LATER = T0 + 86_400 * NS_PER_S
Rows = list[tuple[int, int, float]]


def final_flags(results: list[Results]) -> dict[tuple[int, int], int]:
    """Flag by reading, as corrected."""
    return {
        (int(rows.datastream[i]), int(rows.observed_at[i])): int(rows.flag[i])
        for r in results
        for rows in (r.readings, r.corrected)
        for i in range(len(rows))
    }


def final_history(results: list[Results]) -> dict[tuple[int, ...], tuple[float, ...]]:
    """Changes of level alarms by datastream, moment and occurrence; what was withdrawn is not among them."""
    found: dict[tuple[int, ...], tuple[float, ...]] = {}
    for result in results:
        t = result.transitions
        for i in np.flatnonzero(t.kind == AlarmKind.LEVEL):
            key = (int(t.subject[i]), int(t.at[i]), int(t.raised_at[i]))
            if t.state[i] == AlarmState.WITHDRAWN:
                del found[key]
            else:
                names = ("state", "severity", "value", "threshold", "peak", "peak_at", "directory_version")
                found[key] = tuple(float(getattr(t, name)[i]) for name in names)
    return found


def delayed(rows: Rows, delays: randomness.Random, most: int) -> Rows:
    """Rows in an order in which fewer than ``most`` of its datastream overtake each."""
    count: dict[int, int] = {}
    keyed = []
    for row in rows:
        number = count[row[0]] = count.get(row[0], 0) + 1
        keyed.append((number + delays.uniform(0, most), row))
    return [row for _, row in sorted(keyed, key=lambda k: k[0])]


def arriving(rows: Rows, pieces: list[int]) -> list[tuple[Observations, int]]:
    """Batches of rows in the given order; it is as late as the newest of them, and in the end a day later."""
    batches, at, now = [], 0, 0
    for length in [*pieces, len(rows)]:
        part = rows[at : at + length]
        at += length
        if part:
            now = max(now, *(row[1] for row in part))
            batches.append((observations(part), T0 + now * NS_PER_S))
    return [*batches, (Observations.empty(), DAY_LATER)]


def same(one: list[Results], other: list[Results]) -> None:
    assert final_flags(one) == final_flags(other)
    assert final_windows(one) == final_windows(other)
    assert final_history(one) == final_history(other)


@settings(deadline=None, max_examples=60)
@given(STREAMS, PIECES, st.randoms(use_true_random=False), st.integers(1, HALF))
def test_the_order_of_readings_changes_nothing(
    streams: list[list[tuple[int, int]]], pieces: list[int], random: randomness.Random, most: int
) -> None:
    rows = rows_of(streams)
    late = delayed(rows, random, most)
    twice = [row for i, row in enumerate(late) for row in ([row, late[max(0, i - 3)]] if i % 4 == 0 else [row])]
    in_order, results = run(arriving(rows, [])), run(arriving(twice, pieces))
    assert not any(r.late.size for r in results)
    assert sum(r.duplicates.size for r in results) == len(twice) - len(rows)
    same(results, in_order)


@settings(deadline=None, max_examples=20)
@given(st.randoms(use_true_random=False), st.integers(1, 60), st.integers(0, 400))
def test_long_streams_in_batches_of_any_size(random: randomness.Random, most_at_once: int, restart_at: int) -> None:
    """Longer than the ring, with readings now and then far from their place, and a restart from a snapshot."""
    rows, level = [], 0.0
    for i in range(400):
        level = min(4.0, max(-0.5, level + random.choice((-0.5, -0.25, 0.0, 0.0, 0.25, 0.5))))
        rows.append((i % 2, 20 * i + random.choice((0, 1, 7)), level))
    pieces = [random.randint(1, most_at_once) for _ in range(400)]
    batches = arriving(delayed(rows, random, HALF), pieces)
    state, results, seen = State.for_directory(CITY), [], 0
    for batch, now in batches:
        if seen <= restart_at < seen + len(batch):
            state = State.from_bytes(state.to_bytes())
        seen += len(batch)
        state, result = step(state, CITY, batch, now, listening_since=T0)
        results.append(result)
    assert not any(r.late.size for r in results)
    same(results, run(arriving(rows, [])))


def test_newest_first_up_to_the_ring() -> None:
    rows = [(0, 60 * i, 0.5 + i % 3) for i in range(RING)]
    one_by_one = [1] * RING
    backwards = run(arriving(rows[::-1], one_by_one))
    same(backwards, run(arriving(rows, [])))
    assert not any(r.late.size for r in backwards)


def told(state: State, batch: Observations, now_s: float, actions: tuple[Acknowledge, ...] = ()) -> Results:
    """One more step."""
    _, result = step(state, CITY, batch, T0 + round(now_s * NS_PER_S), listening_since=T0, actions=actions)
    return result


def test_what_an_operator_acknowledged_stays_so() -> None:
    state = State.for_directory(CITY)
    first = told(state, observations([(1, 0, 0.5), (1, 60, 1.5)]), 60)
    raised = int(first.transitions.raised_at[0])
    told(state, Observations.empty(), 70, (Acknowledge(AlarmKind.LEVEL, 1, raised, T0 + 70 * NS_PER_S, "Sari"),))
    told(state, observations([(1, 120, 1.25)]), 120)
    harmless = told(state, observations([(1, 30, 0.75), (1, 90, 1.5)]), 121)
    assert not len(harmless.transitions)
    alarms = state.open_alarms(CITY)
    assert alarms.state[alarms.kind == AlarmKind.LEVEL].tolist() == [AlarmState.ACKNOWLEDGED]
    # It had begun before: the occurrence is another, and acknowledged all the same.
    earlier = told(state, observations([(1, 45, 1.0)]), 122)
    alarms = state.open_alarms(CITY)
    assert alarms.raised_at[alarms.kind == AlarmKind.LEVEL].tolist() == [T0 + 45 * NS_PER_S]
    assert alarms.state[alarms.kind == AlarmKind.LEVEL].tolist() == [AlarmState.ACKNOWLEDGED]
    withdrawn = earlier.transitions.state == AlarmState.WITHDRAWN
    assert earlier.transitions.raised_at[withdrawn].tolist() == [T0 + 60 * NS_PER_S] * 2


def test_an_acknowledgement_is_repeated_among_many_readings() -> None:
    state = State.for_directory(CITY)
    told(state, observations([(1, 0, 0.5), (1, 10, 1.5)]), 10)
    raised = int(state.open_alarms(CITY).raised_at[0])
    told(state, Observations.empty(), 15, (Acknowledge(AlarmKind.LEVEL, 1, raised, T0 + 15 * NS_PER_S, "Sari"),))
    for i in range(2, 2 + HALF):
        told(state, observations([(1, 10 * i, 1.5)]), 10 * i)
    told(state, observations([(1, 5, 0.75)]), 300)
    assert state.open_alarms(CITY).state[0] == AlarmState.ACKNOWLEDGED
    told(state, observations([(1, 305, 0.5)]), 305)
    assert not (state.open_alarms(CITY).kind == AlarmKind.LEVEL).any()  # acknowledged and over


def test_a_changed_threshold_settles_what_came_before() -> None:
    streams = list(CITY.datastreams)
    ladder = msgspec.structs.replace(streams[1].ladder, deadband=0.5)
    streams[1] = msgspec.structs.replace(streams[1], ladder=ladder)
    other = Directory(2, CITY.city, CITY.utc_offset_h, CITY.sites, CITY.devices, tuple(streams))
    state = State.for_directory(CITY)
    told(state, observations([(0, 60, 0.5), (1, 60, 0.5)]), 60)
    state, _ = step(state, other, Observations.empty(), T0 + 61 * NS_PER_S, listening_since=T0)
    late = observations([(0, 30, 1.25), (1, 30, 1.25)])
    state, result = step(state, other, late, T0 + 62 * NS_PER_S, listening_since=T0)
    assert result.late.tolist() == [1]
    assert len(result.readings) == 2
    assert final_windows([result])[0, 60, T0][0] == 1


def test_a_correction_tells_only_what_is_different() -> None:
    stuck = [(0, 60 * i, 1.5) for i in range(20) if i != 10]
    state = State.for_directory(CITY)
    for row in stuck:
        told(state, observations([row]), row[1])
    before = told(state, Observations.empty(), 1300)
    assert not len(before.corrected)
    result = told(state, observations([(0, 600, 1.75)]), 1301)
    # It was not stuck for a quarter of an hour: the readings from 15 min on were suspect and are good.
    assert set((result.corrected.observed_at - T0) // NS_PER_S // 60) == {15, 16, 17, 18, 19}
    assert set(result.corrected.flag.tolist()) == {1}
    of_a_minute = result.windows.take(result.windows.width_s == 60)
    minutes = set((of_a_minute.start - T0) // NS_PER_S // 60)
    assert minutes == {10, 15, 16, 17, 18, 19}


def test_a_clock_that_goes_back_undoes_no_delay_that_has_run_out() -> None:
    state = State.for_directory(CITY)
    raised = told(state, observations([(0, 0, 1.5)]), 70)
    assert raised.transitions.at.tolist() == [T0 + 60 * NS_PER_S]
    assert not len(told(state, observations([(0, -30, 0.5)]), 50).transitions)
    assert not len(told(state, Observations.empty(), 80).transitions)


def test_what_happened_at_a_moment_of_which_something_is_withdrawn_is_told_again() -> None:
    """InfluxDB knows a change by its datastream and its moment alone."""
    state = State.for_directory(CITY)
    for second, value in ((0, 0.5), (100, 1.5), (400, 0.5), (800, 0.5), (900, 1.5), (970, 1.5)):
        told(state, observations([(0, second, value)]), second)
    told(state, Observations.empty(), 1000)
    before = state.open_alarms(CITY)
    standing = before.at[before.kind == AlarmKind.LEVEL].tolist()
    t = told(state, observations([(0, 130, 0.5)]), 1001).transitions  # the first one never was
    at_that_moment = t.state[t.at == standing[0]].tolist()
    assert at_that_moment == [AlarmState.WITHDRAWN, AlarmState.UNACKNOWLEDGED]


def test_an_alarm_that_began_long_ago_is_told_as_it_stands() -> None:
    state = State.for_directory(CITY)
    told(state, observations([(1, 0, 0.5), (1, 10, 1.5)]), 10)
    for i in range(2, 2 + 3 * HALF):
        told(state, observations([(1, 10 * i, 1.5)]), 10 * i)
    last = 10 * (2 + 3 * HALF)
    climbed = told(state, observations([(1, last, 2.5)]), last)
    assert climbed.transitions.severity.tolist() == [2]
    # One just before it was beyond the threshold already: the climb is dated earlier.
    t = told(state, observations([(1, last - 5, 2.25)]), last + 1).transitions
    assert [(int(a - T0) // NS_PER_S, int(s)) for a, s in zip(t.at, t.state, strict=True)][-1] == (
        last - 5,
        AlarmState.UNACKNOWLEDGED,
    )
    t = state.open_alarms(CITY)
    assert t.severity[t.kind == AlarmKind.LEVEL].tolist() == [2]


def test_what_operators_did_is_forgotten_with_the_readings_it_came_after() -> None:
    state, at = State.for_directory(CITY), 0
    for _ in range(4 * RING):
        result = told(state, observations([(1, at, 1.5)]), at)
        raised = int(state.open_alarms(CITY).raised_at[0])
        told(state, Observations.empty(), at + 1, (Acknowledge(AlarmKind.LEVEL, 1, raised, T0 + at, "Sari"),))
        told(state, observations([(1, at + 10, 0.5)]), at + 10)
        at += 20
        assert not result.late.size
    assert 0 < state.acted.subject.size <= RING


def test_several_things_that_operators_did_after_the_newest_reading_are_all_repeated() -> None:
    """Acknowledged, then over by a delay, and that acknowledged too: no reading between."""
    state = State.for_directory(CITY)
    told(state, observations([(0, 0, 0.5), (0, 10, 1.5)]), 10)
    told(state, Observations.empty(), 80)
    raised = int(state.open_alarms(CITY).raised_at[0])
    told(state, Observations.empty(), 90, (Acknowledge(AlarmKind.LEVEL, 0, raised, T0 + 90 * NS_PER_S, "Sari"),))
    told(state, observations([(0, 100, 2.5)]), 100)
    told(state, Observations.empty(), 170)  # it has climbed
    told(state, Observations.empty(), 180, (Acknowledge(AlarmKind.LEVEL, 0, raised, T0 + 180 * NS_PER_S, "Sari"),))
    told(state, observations([(0, 5, 0.75)]), 190)
    assert state.open_alarms(CITY).state.tolist()[0] == AlarmState.ACKNOWLEDGED
