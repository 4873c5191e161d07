"""The core as a whole: the same readings give the same results, however they arrive."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processing.core import RING, State, step
from telemetry.alarms import Acknowledge, AlarmKind, AlarmState
from telemetry.directory import Datastream, Device, Directory, Site
from telemetry.observations import NS_PER_S, Observations
from telemetry.results import Results, Transitions, Windows
from tests.processing.city import LAMP, RIVER, RIVER_AT_ONCE, ROAD, T0, PlainLevelAlarm, directory, observations

CITY = directory()
LADDERS = [RIVER, RIVER_AT_ONCE, ROAD, LAMP]


def run(batches: list[tuple[Observations, int]], city: Directory = CITY, listening: int | None = T0) -> list[Results]:
    """Feed batches, each with its ``now``, to a new core."""
    state, results = State.for_directory(city), []
    for batch, now in batches:
        state, result = step(state, city, batch, now, listening_since=listening)
        results.append(result)
    return results


def final_windows(results: list[Results]) -> dict[tuple[int, int, int], tuple[float | None, ...]]:
    """The last published row of each window."""
    rows = Windows.concat([r.windows for r in results])
    return {
        (int(rows.datastream[i]), int(rows.width_s[i]), int(rows.start[i])): (
            int(rows.count[i]),
            int(rows.good_count[i]),
            *(
                None if np.isnan(x) else float(x)
                for x in (rows.minimum[i], rows.maximum[i], rows.mean[i], rows.last[i])
            ),
        )
        for i in range(len(rows))
    }


def history(results: list[Results]) -> list[tuple[float, ...]]:
    """All transitions, ordered by subject and time."""
    t = Transitions.concat([r.transitions for r in results])
    names = ("kind", "subject", "at", "raised_at", "state", "severity", "value", "threshold", "peak", "peak_at")
    rows = [tuple(float(getattr(t, n)[i]) for n in names) for i in range(len(t))]
    return sorted(rows, key=lambda row: row[:3])


def flags(results: list[Results]) -> dict[tuple[int, int], int]:
    """Flag by reading."""
    return {
        (int(r.readings.datastream[i]), int(r.readings.observed_at[i])): int(r.readings.flag[i])
        for r in results
        for i in range(len(r.readings))
    }


# Seconds between readings of one datastream, and values on a grid around the thresholds (exact in binary).
STEPS = st.lists(st.tuples(st.sampled_from([1, 20, 60, 61, 300, 700]), st.integers(-4, 16)), min_size=1, max_size=40)


def rows_of(streams: list[list[tuple[int, int]]]) -> list[tuple[int, int, float]]:
    rows = []
    for i, steps in enumerate(streams):
        scale = 0.25 if i < 2 else 2.5
        at = 0
        for gap, value in steps:
            at += gap
            rows.append((i, at, value * scale))
    return sorted(rows, key=lambda row: (row[1], row[0]))


def cut(rows: list[tuple[int, int, float]], pieces: list[int]) -> list[tuple[Observations, int]]:
    """Cut rows (ordered by time) into batches; now is the time of the last row, and at the end a day later."""
    batches, at = [], 0
    for length in [*pieces, len(rows)]:
        part = rows[at : at + length]
        at += length
        if part:
            batches.append((observations(part), T0 + part[-1][1] * NS_PER_S))
    return [*batches, (Observations.empty(), T0 + 86_400 * NS_PER_S)]


STREAMS = st.lists(STEPS, min_size=1, max_size=4)
PIECES = st.lists(st.integers(1, 7), max_size=30)


@settings(deadline=None, max_examples=150)
@given(STREAMS, PIECES)
def test_however_a_stream_is_cut_into_batches_the_results_are_the_same(
    streams: list[list[tuple[int, int]]], pieces: list[int]
) -> None:
    rows = rows_of(streams)
    whole, parts = run(cut(rows, [])), run(cut(rows, pieces))
    assert history(parts) == history(whole)
    assert final_windows(parts) == final_windows(whole)
    assert flags(parts) == flags(whole)


@settings(deadline=None, max_examples=150)
@given(STREAMS, PIECES)
def test_level_alarms_follow_the_plain_rules(streams: list[list[tuple[int, int]]], pieces: list[int]) -> None:
    rows = rows_of(streams)
    results = run(cut(rows, pieces))
    # Nobody acknowledges here, so NORMAL is only the end of an occurrence that a new one replaces.
    levels = [h for h in history(results) if h[0] == AlarmKind.LEVEL and h[4] != AlarmState.NORMAL]
    got = [(int(h[1]), int(h[2]), int(h[5])) for h in levels]
    usable = {key for key, flag in flags(results).items() if flag < 4}
    expected = []
    for i in range(min(3, len(streams))):  # the lamp is gated by the sun and has a test of its own
        plain = PlainLevelAlarm(LADDERS[i])
        for stream, seconds, value in rows:
            at = T0 + seconds * NS_PER_S
            if stream == i and (stream, at) in usable:
                plain.reading(at, value)
        plain.until(T0 + 86_400 * NS_PER_S, strictly=True)
        expected += [(i, at, severity) for at, severity in plain.history]
    assert [g for g in got if g[0] < 3] == expected


@settings(deadline=None, max_examples=100)
@given(STREAMS, st.randoms(use_true_random=False))
def test_windows_depend_on_the_set_of_readings_alone(streams: list[list[tuple[int, int]]], random: object) -> None:
    rows = [r for r in rows_of(streams) if r[1] < 840]  # all within the horizon of every width
    shuffled = rows + rows[::3]  # some come twice
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    late = [(observations([row]), T0 + 900 * NS_PER_S) for row in shuffled]
    end = [(Observations.empty(), T0 + 86_400 * NS_PER_S)]
    in_order = run([*[(observations([row]), T0 + row[1] * NS_PER_S) for row in rows], *end])
    results = run([*late, *end])
    count = {key: row[0] for key, row in final_windows(results).items()}
    assert count == {key: row[0] for key, row in final_windows(in_order).items()}
    assert sum(len(r.duplicates) for r in results) == len(shuffled) - len(rows)
    everything_usable = all(flag < 4 for flag in (*flags(results).values(), *flags(in_order).values()))
    if everything_usable:
        pick = (0, 2, 3, 4, 5)
        got = {k: tuple(v[i] for i in pick) for k, v in final_windows(results).items()}
        assert got == {k: tuple(v[i] for i in pick) for k, v in final_windows(in_order).items()}


@settings(deadline=None, max_examples=50)
@given(STREAMS, PIECES, st.integers(0, 20))
def test_a_restart_from_a_snapshot_changes_nothing(
    streams: list[list[tuple[int, int]]], pieces: list[int], restart_after: int
) -> None:
    batches = cut(rows_of(streams), pieces)
    state, results = State.for_directory(CITY), []
    for i, (batch, now) in enumerate(batches):
        if i == restart_after:
            state = State.from_bytes(state.to_bytes())
        state, result = step(state, CITY, batch, now, listening_since=T0)
        results.append(result)
    undisturbed = run(batches)
    assert history(results) == history(undisturbed)
    assert final_windows(results) == final_windows(undisturbed)


@settings(deadline=None, max_examples=60)
@given(STREAMS)
def test_no_reading_is_forgotten(streams: list[list[tuple[int, int]]]) -> None:
    rows = rows_of(streams)
    results = run(cut(rows + rows, [len(rows)]))
    assert sum(len(r.readings) for r in results) + sum(len(r.duplicates) for r in results) == 2 * len(rows)


def test_windows_by_hand() -> None:
    results = run([(observations([(0, 0, 1.0), (0, 30, 2.0), (0, 59, 0.75), (0, 60, 7.0)]), T0 + 200 * NS_PER_S)])
    rows = final_windows(results)
    assert rows[0, 60, T0] == (3, 3, 0.75, 2.0, 1.25, 0.75)
    assert rows[0, 60, T0 + 60 * NS_PER_S] == (1, 0, 7.0, 7.0, 7.0, 7.0)  # 6.5 m in one second: suspect, yet kept
    assert (0, 900, T0) not in rows  # not over yet


def test_a_late_reading_corrects_a_published_window() -> None:
    results = run(
        [
            (observations([(0, 0, 1.0), (0, 70, 1.5)]), T0 + 100 * NS_PER_S),
            (observations([(0, 30, 3.0)]), T0 + 101 * NS_PER_S),
        ]
    )
    assert final_windows(results[:1])[0, 60, T0][:4] == (1, 1, 1.0, 1.0)
    # 2 m in half a minute is suspect, however late it comes; it counts all the same.
    assert final_windows(results)[0, 60, T0] == (2, 1, 1.0, 3.0, 2.0, 3.0)


def test_a_window_closes_although_nobody_sends() -> None:
    results = run([(observations([(0, 10, 1.0)]), T0 + 10 * NS_PER_S), (Observations.empty(), T0 + 66 * NS_PER_S)])
    assert len(results[0].windows) == 0
    assert final_windows(results)[0, 60, T0][0] == 1


def test_what_comes_after_the_horizon_is_named_late_and_kept() -> None:
    ring = [(0, 60 * i, 1.0 + i % 2) for i in range(1, 2 * RING + 1)]
    results = run([(observations(ring), T0 + 3600 * NS_PER_S), (observations([(0, 5, 9.0)]), T0 + 3600 * NS_PER_S)])
    assert list(results[1].late) == [0]
    assert len(results[1].readings) == 1


def test_a_level_alarm_climbs_and_falls_as_one_alarm_and_keeps_its_peak() -> None:
    rise = [(1, 0, 0.5), (1, 60, 1.5), (1, 120, 2.5), (1, 180, 3.5), (1, 240, 2.5), (1, 300, 1.5), (1, 360, 0.5)]
    results = run([(observations([r]), T0 + r[1] * NS_PER_S) for r in rise])
    t = [h for h in history(results) if h[0] == AlarmKind.LEVEL]
    assert [(int(h[2] - T0) // NS_PER_S, int(h[5])) for h in t] == [
        (60, 1),
        (120, 2),
        (180, 3),
        (240, 2),
        (300, 1),
        (360, 0),
    ]
    assert {h[3] for h in t} == {T0 + 60 * NS_PER_S}
    assert t[-1][8:] == (3.5, T0 + 180 * NS_PER_S)
    assert t[-1][4] == AlarmState.RETURNED_UNACKNOWLEDGED


def test_acknowledging_and_climbing_again() -> None:
    state = State.for_directory(CITY)
    state, first = step(state, CITY, observations([(1, 0, 1.5)]), T0 + 1)
    raised = int(first.transitions.raised_at[0])
    ack = Acknowledge(AlarmKind.LEVEL, 1, raised, T0 + 5 * NS_PER_S, "Sari")
    state, acked = step(state, CITY, Observations.empty(), T0 + 5 * NS_PER_S, actions=[ack])
    assert list(acked.transitions.state) == [AlarmState.ACKNOWLEDGED]
    state, again = step(state, CITY, Observations.empty(), T0 + 6 * NS_PER_S, actions=[ack])
    assert len(again.transitions) == 0
    state, worse = step(state, CITY, observations([(1, 60, 2.5)]), T0 + 60 * NS_PER_S)
    assert list(worse.transitions.state) == [AlarmState.UNACKNOWLEDGED]
    ack = Acknowledge(AlarmKind.LEVEL, 1, raised, T0 + 61 * NS_PER_S, "Sari")
    state, _ = step(state, CITY, Observations.empty(), T0 + 61 * NS_PER_S, actions=[ack])
    state, over = step(state, CITY, observations([(1, 120, 0.0)]), T0 + 120 * NS_PER_S)
    assert list(over.transitions.state) == [AlarmState.NORMAL]
    assert len(state.open_alarms(CITY)) == 0


def test_the_on_delay_runs_out_between_two_readings() -> None:
    results = run([(observations([(0, 0, 1.5)]), T0), (Observations.empty(), T0 + 90 * NS_PER_S)])
    assert [(h[2], h[5]) for h in history(results)] == [(T0 + 60 * NS_PER_S, 1)]


def test_a_fail_reading_moves_no_alarm_and_a_suspect_one_does() -> None:
    results = run([(observations([(1, 0, 0.5), (1, 1, 250.0), (1, 2, 3.5)]), T0 + 2 * NS_PER_S)])
    assert flags(results)[1, T0 + NS_PER_S] == 4
    assert flags(results)[1, T0 + 2 * NS_PER_S] == 3
    assert [(h[2], h[5], h[6]) for h in history(results)] == [(T0 + 2 * NS_PER_S, 3, 3.5)]


def test_silence_is_noticed_without_any_message_and_ends_with_the_next_one() -> None:
    results = run(
        [
            (observations([(0, 0, 1.0), (1, 0, 0.5), (2, 0, 50.0), (3, 0, 80.0)]), T0),
            (observations([(1, 500, 0.5), (2, 500, 50.0), (3, 500, 80.0)]), T0 + 500 * NS_PER_S),
            (Observations.empty(), T0 + 606 * NS_PER_S),
            (observations([(0, 700, 1.25)]), T0 + 700 * NS_PER_S),
        ]
    )
    silence = [(h[1], (h[2] - T0) / NS_PER_S, h[4]) for h in history(results) if h[0] == AlarmKind.SILENCE]
    assert silence == [(0, 600, AlarmState.UNACKNOWLEDGED), (0, 700, AlarmState.NORMAL)]


def test_nobody_is_accused_of_silence_while_a_broker_is_down() -> None:
    state = State.for_directory(CITY)
    state, _ = step(state, CITY, observations([(0, 0, 0.5)]), T0, listening_since=T0)
    state, deaf = step(state, CITY, Observations.empty(), T0 + 7200 * NS_PER_S, listening_since=None)
    back = T0 + 7200 * NS_PER_S
    state, soon = step(state, CITY, Observations.empty(), back + 60 * NS_PER_S, listening_since=back)
    state, later = step(state, CITY, Observations.empty(), back + 606 * NS_PER_S, listening_since=back)
    assert len(deaf.transitions) == len(soon.transitions) == 0
    assert set(later.transitions.subject) == {0, 1, 2, 3}


def test_a_lamp_is_judged_only_in_the_dark() -> None:
    day = [(3, 60 * i, 0.0) for i in range(60)]
    noon_utc = T0 - T0 % (86_400 * NS_PER_S) + 5 * 3600 * NS_PER_S  # 12:00 in Bandung
    shift = noon_utc - T0
    by_day = observations(day)
    by_day = Observations.of(by_day.datastream, by_day.observed_at + shift, by_day.value)
    assert not len(run([(by_day, noon_utc + 7200 * NS_PER_S)], listening=None)[0].transitions)
    by_night = Observations.of(by_day.datastream, by_day.observed_at + 8 * 3600 * NS_PER_S, by_day.value)
    night = run([(by_night, noon_utc + 10 * 3600 * NS_PER_S)], listening=None)[0].transitions
    assert list(night.severity) == [1]
    assert int(night.at[0] - by_night.observed_at[0]) == 900 * NS_PER_S


def test_a_stuck_sensor_is_flagged_and_a_gap_starts_anew() -> None:
    stuck = [(0, 60 * i, 1.5) for i in range(70)]
    results = run([(observations(stuck), T0 + 4200 * NS_PER_S)])
    seen = flags(results)
    assert seen[0, T0 + 14 * 60 * NS_PER_S] == 1
    assert seen[0, T0 + 15 * 60 * NS_PER_S] == 3
    assert seen[0, T0 + 60 * 60 * NS_PER_S] == 4
    sparse = [(0, 1000 * i, 1.5) for i in range(8)]
    assert set(flags(run([(observations(sparse), T0 + 9000 * NS_PER_S)])).values()) == {1}


def test_a_growing_directory_leaves_other_datastreams_alone() -> None:
    small, large = directory(rivers=2), directory(version=2, rivers=2)
    extra = Directory(
        version=3,
        city=large.city,
        utc_offset_h=7.0,
        sites=large.sites,
        devices=large.devices,
        datastreams=(
            *large.datastreams,
            type(large.datastreams[0])("s0/battery_v", "s0", "s0", "battery_v"),
        ),
    )
    state = State.for_directory(small)
    state, _ = step(state, small, observations([(1, 0, 1.5)]), T0)
    before = state.level.occurrence.raised_at[1]
    state, result = step(state, extra, observations([(4, 10, 3.6), (1, 60, 2.5)]), T0 + 60 * NS_PER_S)
    assert state.level.occurrence.raised_at[1] == before
    assert list(result.transitions.directory_version) == [3]
    with pytest.raises(ValueError, match="a directory only grows"):
        step(state, small, Observations.empty(), T0 + 61 * NS_PER_S)


def test_an_index_outside_the_directory_is_refused() -> None:
    with pytest.raises(ValueError, match=r"outside the directory's 0\.\.3"):
        step(State.for_directory(CITY), CITY, observations([(9, 0, 1.0)]), T0)


def test_nan_is_missing_and_counts_as_life() -> None:
    results = run([(observations([(0, 0, float("nan"))]), T0 + 100 * NS_PER_S)])
    assert list(results[0].readings.flag) == [9]
    assert final_windows(results)[0, 60, T0] == (1, 0, None, None, None, None)


def street(properties: list[str]) -> Directory:
    """One post with these properties."""
    return Directory(
        1,
        "kota",
        7.0,
        (Site("p", "p", -6.9, 107.6),),
        (Device("p", "p"),),
        tuple(Datastream(f"p/{name}", "p", "p", name) for name in properties),
    )


def test_windows_average_sound_by_its_energy_and_wind_as_directions() -> None:
    city = street(["laeq_db", "wind_direction_deg", "rain_mm"])
    rows = [(0, 0, 60.0), (0, 30, 70.0), (1, 0, 350.0), (1, 30, 20.0), (2, 0, 1.5), (2, 30, 2.5)]
    whole = run([(observations(rows), T0 + 100 * NS_PER_S)], city)[0].windows
    minute = whole.take(whole.width_s == 60)
    assert minute.mean.round(2).tolist() == [67.40, 5.0, 2.0]
    assert minute.total.tolist()[2] == 4.0  # millimetres in that minute
    assert minute.deviation.tolist()[2] == 0.5
    assert np.isnan(minute.total[:2]).all() and np.isnan(minute.deviation[:2]).all()


def test_a_day_is_the_citys_own() -> None:
    midnight = T0 - (T0 + 7 * 3600 * NS_PER_S) % (86_400 * NS_PER_S)  # in a city 7 h ahead of UTC
    city = street(["rain_mm"])
    rain = Observations.of([0, 0, 0], [midnight - NS_PER_S, midnight, midnight + 3600 * NS_PER_S], [8.0, 1.0, 2.0])
    windows = run([(rain, midnight + 90_000 * NS_PER_S)], city)[0].windows
    days = windows.take(windows.width_s == 86_400)
    assert days.start.tolist() == [midnight - 86_400 * NS_PER_S, midnight]
    assert days.total.tolist() == [8.0, 3.0]
