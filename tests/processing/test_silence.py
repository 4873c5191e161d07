"""Silence broker by broker, alarms of brokers, and devices that are swapped, watched and no longer watched."""

from __future__ import annotations

import io
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processing import core
from processing.core import State, step
from telemetry.alarms import Acknowledge, AlarmKind, AlarmState
from telemetry.brokers import UNKNOWN_BROKER, BrokerLink
from telemetry.directory import Directory, Installation
from telemetry.observations import NS_PER_S, Observations
from telemetry.results import Results, Transitions
from tests.processing.city import T0, directory

CITY = directory()
"""Four devices with a datastream each; silent after 600 s."""
HEARD = BrokerLink(True, T0)


@pytest.fixture(autouse=True)
def nobody_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is judged ``LATENESS_S`` behind the present; here it is judged at once, to keep the numbers plain."""
    monkeypatch.setattr(core, "LATENESS_S", 0.0)


def at(seconds: float) -> int:
    return T0 + round(seconds * NS_PER_S)


def lost(seconds: float, alarm_after_s: float = 30.0) -> BrokerLink:
    return BrokerLink(False, at(seconds), alarm_after_s)


def rows(*readings: tuple[int, float, int]) -> Observations:
    """(datastream, seconds after T0, broker) → Observations."""
    if not readings:
        return Observations.empty()
    stream, seconds, broker = (np.array(c) for c in zip(*readings, strict=True))
    plain = Observations.of(stream, T0 + (seconds * NS_PER_S).astype(np.int64), 0.5 + 0.001 * (seconds % 7))
    return replace(plain, broker=broker.astype(np.uint8))


def story(*steps: tuple[Observations, float, list[BrokerLink]], city: Directory = CITY) -> tuple[State, list[Results]]:
    """Steps of (readings, now, links)."""
    state, results = State.for_directory(city), []
    for batch, now, links in steps:
        state, result = step(state, city, batch, at(now), brokers=links)
        results.append(result)
    return state, results


def history(results: list[Results], kind: AlarmKind) -> list[tuple[int, float, int, int]]:
    """(subject, seconds after T0, state, severity) of each change."""
    t = Transitions.concat([r.transitions for r in results])
    found = [
        (int(t.subject[i]), (int(t.at[i]) - T0) / NS_PER_S, int(t.state[i]), int(t.severity[i]))
        for i in range(len(t))
        if t.kind[i] == kind
    ]
    return sorted(found, key=lambda row: (row[1], row[0]))


def silent(results: list[Results]) -> list[tuple[int, float]]:
    """(device, when) of each silence that was raised."""
    return [(s, when) for s, when, _, severity in history(results, AlarmKind.SILENCE) if severity]


# ------------------------------------------------------------------------------------------------- broker by broker


def test_only_the_devices_of_the_lost_broker_are_held() -> None:
    _, results = story(
        (rows((0, 0, 0), (1, 0, 1)), 1, [HEARD, HEARD]),
        (rows(), 700, [HEARD, lost(10)]),
    )
    # Device 1 was heard through the lost broker; 2 and 3 were never heard, so they may be behind it.
    assert silent(results) == [(0, 600.0)]


def test_those_never_heard_are_accused_once_every_broker_is_heard() -> None:
    _, results = story((rows((0, 0, 0), (1, 0, 1)), 1, [HEARD, HEARD]), (rows(), 601, [HEARD, HEARD]))
    assert silent(results) == [(0, 600.0), (1, 600.0), (2, 600.0), (3, 600.0)]


def test_a_broker_that_is_back_gives_its_devices_their_whole_time() -> None:
    back = BrokerLink(True, at(1000))
    _, results = story(
        (rows(*((i, 0, 1) for i in range(4))), 1, [HEARD, HEARD]),
        (rows(), 900, [HEARD, lost(10)]),
        (rows(), 1599, [HEARD, back]),
        (rows((0, 1590, 1)), 1601, [HEARD, back]),
    )
    assert silent(results) == [(1, 1600.0), (2, 1600.0), (3, 1600.0)]


def test_a_device_that_changed_its_broker_is_judged_by_the_new_one() -> None:
    _, results = story(
        (rows((0, 0, 1)), 1, [HEARD, HEARD]),
        (rows((0, 100, 0)), 101, [HEARD, lost(10)]),
        (rows(), 701, [HEARD, lost(10)]),
    )
    assert silent(results) == [(0, 700.0)]
    _, results = story(
        (rows((0, 0, 0)), 1, [HEARD, HEARD]),
        (rows((0, 100, 1)), 101, [HEARD, HEARD]),
        (rows(), 2000, [HEARD, lost(200)]),
    )
    assert silent(results) == []


def test_a_gap_is_no_silence_if_the_broker_before_it_was_not_heard() -> None:
    """The gap lies between two readings of one batch; so no step ever saw the device silent."""
    back = BrokerLink(True, at(1990))
    gap = rows((0, 0, 1), (0, 2000, 1), (1, 0, 0), (1, 2000, 1))
    _, results = story((gap, 2001, [HEARD, back]))
    assert silent(results) == [(1, 600.0)]
    _, results = story((gap, 2001, [back, HEARD]))
    assert silent(results) == [(0, 600.0)]


def test_a_broker_that_is_not_known_any_more_counts_as_all_of_them() -> None:
    _, results = story((rows((0, 0, 1)), 1, [HEARD, HEARD]), (rows(), 601, [HEARD]))
    assert (0, 600.0) in silent(results)
    _, results = story((rows((0, 0, 1)), 1, [HEARD, HEARD]), (rows(), 601, [lost(1)]))
    assert silent(results) == []


# ---------------------------------------------------------------------------------------------------- broker alarms


def test_a_lost_broker_is_one_alarm_and_ends_by_itself() -> None:
    state, results = story(
        (rows(), 100, [HEARD, HEARD]),
        (rows(), 130, [HEARD, lost(100)]),
        (rows(), 131, [HEARD, lost(100)]),
        (rows(), 190, [HEARD, lost(100)]),
        (rows(), 201, [HEARD, BrokerLink(True, at(200))]),
    )
    assert history(results, AlarmKind.BROKER) == [
        (1, 130.0, AlarmState.UNACKNOWLEDGED, 2),
        (1, 200.0, AlarmState.NORMAL, 0),
    ]
    assert not len(state.open_alarms(CITY))
    last = results[-1].transitions
    assert last.value[last.kind == AlarmKind.BROKER].tolist() == [100.0]  # seconds away


def test_a_short_loss_is_no_alarm_and_each_broker_has_its_own_patience() -> None:
    _, results = story(
        (rows(), 125, [lost(100), lost(100, alarm_after_s=10.0)]),
        (rows(), 128, [BrokerLink(True, at(126)), BrokerLink(True, at(126))]),
    )
    assert [(s, when) for s, when, _, _ in history(results, AlarmKind.BROKER)] == [(1, 110.0), (1, 126.0)]


def test_a_broker_alarm_can_be_acknowledged() -> None:
    state, _ = story((rows(), 131, [lost(100)]))
    ack = Acknowledge(AlarmKind.BROKER, 0, at(130), at(140), "Sari")
    state, result = step(state, CITY, rows(), at(141), brokers=[lost(100)], actions=[ack])
    assert history([result], AlarmKind.BROKER) == [(0, 140.0, AlarmState.ACKNOWLEDGED, 2)]
    assert state.open_alarms(CITY).kind.tolist() == [AlarmKind.BROKER]


def test_a_broker_that_was_taken_out_of_the_settings_ends_its_alarm() -> None:
    state, _ = story((rows(), 131, [HEARD, lost(100)]))
    state, result = step(state, CITY, rows(), at(200), brokers=[HEARD])
    assert history([result], AlarmKind.BROKER) == [(1, 200.0, AlarmState.NORMAL, 0)]


def test_brokers_may_change_their_places_in_the_settings() -> None:
    state, _ = story((rows((0, 0, 0), (1, 0, 1)), 131, [HEARD, lost(100)]))
    state = state.rewired(["utama", "cadangan"], ["cadangan", "baru", "utama"])
    assert state.silence.broker.tolist() == [2, 0, UNKNOWN_BROKER, UNKNOWN_BROKER]
    _, result = step(state, CITY, rows(), at(700), brokers=[lost(100), lost(690), HEARD])
    assert silent([result]) == [(0, 600.0)]
    assert history([result], AlarmKind.BROKER) == []  # the old alarm goes on under its new number
    assert result.transitions.kind.tolist() == [AlarmKind.SILENCE]


def test_where_brokers_are_not_told_apart_there_is_no_broker_alarm() -> None:
    state = State.for_directory(CITY)
    state, result = step(state, CITY, rows((0, 0, UNKNOWN_BROKER)), at(5000), listening_since=None)
    assert not len(result.transitions)


# -------------------------------------------------------------------------------------------- watched, swapped, new


def with_devices(city: Directory, version: int, **changes: object) -> Directory:
    first, *others = city.devices
    return replace(city, version=version, devices=(msgspec.structs.replace(first, **changes), *others))


def test_a_device_that_is_not_watched_raises_no_silence_and_one_that_is_retired_ends_it() -> None:
    state, results = story((rows(*((i, 0, 0) for i in range(4))), 700, [HEARD]))
    assert (0, 600.0) in silent(results)
    retired = with_devices(CITY, 2, watched=False)
    state, result = step(state, retired, rows(), at(800), brokers=[HEARD])
    assert history([result], AlarmKind.SILENCE) == [(0, 800.0, AlarmState.NORMAL, 0)]
    state, result = step(state, retired, rows((0, 801, 0)), at(9000), brokers=[HEARD])
    assert silent([result]) == []
    # Back from maintenance it has its whole time again, from the moment that it is watched.
    state, result = step(state, with_devices(CITY, 3), rows(), at(9600), brokers=[HEARD])
    assert silent([result]) == []
    state, result = step(state, with_devices(CITY, 3), rows(), at(10_201), brokers=[HEARD])
    assert silent([result]) == [(0, 10_200.0)]


def test_a_device_registered_while_it_runs_is_not_accused_for_the_time_before() -> None:
    state, _ = story((rows(), 1, [HEARD]))
    grown = directory(version=2, rivers=3)
    everyone = [(i, 4990, 0) for i in range(4)]
    state, _ = step(state, CITY, rows(*everyone), at(5000), brokers=[HEARD])
    state, result = step(state, grown, rows(), at(5001), brokers=[HEARD])
    assert silent([result]) == []
    _, result = step(state, grown, rows(*((i, 5580, 0) for i in range(4))), at(5602), brokers=[HEARD])
    assert silent([result]) == [(4, 5601.0)]


def arrays(state: State) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(state.to_bytes())) as stored:
        return {name: stored[name] for name in stored.files}


def swapped(at_s: float) -> Directory:
    """Device s3 takes the place of s0 at the first river; its own datastream ends before."""
    streams = list(CITY.datastreams)
    streams[0] = msgspec.structs.replace(streams[0], device="s3")
    return replace(
        CITY,
        version=2,
        datastreams=tuple(streams),
        installations=(
            Installation("s0", streams[0].id, T0 - 10**15, at(at_s)),
            Installation("s3", streams[0].id, at(at_s)),
        ),
    )


def test_a_swap_leaves_the_state_of_the_datastream_and_moves_only_who_is_listened_for() -> None:
    state, _ = story((rows(*((i, 0, 0) for i in range(4)), (0, 60, 0)), 61, [HEARD]))
    unswapped, _ = step(State.from_bytes(state.to_bytes()), CITY, rows(), at(101), brokers=[HEARD])
    state, result = step(state, swapped(100), rows(), at(101), brokers=[HEARD])
    assert not len(result.transitions)
    mine, other = arrays(state), arrays(unswapped)
    changed = {name for name in mine if mine[name].tobytes() != other[name].tobytes()}
    assert changed <= {"directory_version", "silence.watched_since", "silence.due_from", "due_from"}
    # The new device speaks; a late message of the old one comes after it, and is the old one's sign of life, not its.
    state, result = step(state, swapped(100), rows((0, 120, 0), (0, 90, 0)), at(121), brokers=[HEARD])
    assert result.readings.observed_at.tolist() == [at(90), at(120)]
    assert state.silence.last_at.tolist() == [at(90), at(0), at(0), at(120)]
    state, result = step(state, swapped(100), rows(), at(721), brokers=[HEARD])
    assert silent([result]) == [(1, 600.0), (2, 600.0), (3, 720.0)]  # never s0, which is gone


def test_duplicates_and_late_readings_are_counted_for_the_device_that_sent_them() -> None:
    state, _ = story((rows((0, 60, 0)), 61, [HEARD]))
    state, result = step(state, swapped(100), rows((0, 60, 0), (0, 120, 0), (0, 120, 0)), at(121), brokers=[HEARD])
    assert result.duplicates.tolist() == [0, 0]
    assert result.duplicate_devices.tolist() == [0, 3]


# -------------------------------------------------------------------------------------------------------- properties

STEPS = st.lists(st.tuples(st.sampled_from([1, 20, 300, 601, 900]), st.integers(0, 2)), min_size=1, max_size=15)
STREAMS = st.lists(STEPS, min_size=1, max_size=4)
PIECES = st.lists(st.integers(1, 6), max_size=20)
LINKS = [
    [HEARD, HEARD, HEARD],
    [HEARD, lost(50), HEARD],
    [BrokerLink(True, at(400)), HEARD, lost(700, alarm_after_s=5.0)],
]


def in_order(streams: list[list[tuple[int, int]]]) -> list[tuple[int, float, int]]:
    """Rows by time. A device sends through one broker after the other as it likes."""
    found = []
    for i, gaps in enumerate(streams):
        seconds = 0
        for gap, broker in gaps:
            seconds += gap
            found.append((i, seconds, broker))
    return sorted(found, key=lambda row: (row[1], row[0]))


def cut(readings: list[tuple[int, float, int]], pieces: list[int]) -> list[tuple[Observations, float]]:
    batches, start = [], 0
    for length in [*pieces, len(readings)]:
        part = readings[start : start + length]
        start += length
        if part:
            batches.append((rows(*part), part[-1][1]))
    return [*batches, (rows(), 86_400.0)]


@settings(deadline=None, max_examples=150)
@given(STREAMS, PIECES, st.sampled_from(LINKS))
def test_however_it_is_cut_into_batches_silences_are_the_same(
    streams: list[list[tuple[int, int]]], pieces: list[int], links: list[BrokerLink]
) -> None:
    readings = in_order(streams)
    _, whole = story(*((batch, now, links) for batch, now in cut(readings, [])))
    _, parts = story(*((batch, now, links) for batch, now in cut(readings, pieces)))
    for kind in (AlarmKind.SILENCE, AlarmKind.BROKER):
        assert history(parts, kind) == history(whole, kind)


@settings(deadline=None, max_examples=60)
@given(STREAMS, PIECES, st.lists(st.sampled_from(LINKS), min_size=1, max_size=30), st.integers(0, 30))
def test_a_restart_from_a_snapshot_changes_nothing(
    streams: list[list[tuple[int, int]]], pieces: list[int], links: list[list[BrokerLink]], where: int
) -> None:
    steps = [(b, now, links[i % len(links)]) for i, (b, now) in enumerate(cut(in_order(streams), pieces))]
    _, whole = story(*steps)
    state, results = State.for_directory(CITY), []
    for i, (batch, now, link) in enumerate(steps):
        if i == where:
            state = State.from_bytes(state.to_bytes())
        state, result = step(state, CITY, batch, at(now), brokers=link)
        results.append(result)
    for kind in (AlarmKind.SILENCE, AlarmKind.BROKER):
        assert history(results, kind) == history(whole, kind)


@settings(deadline=None, max_examples=100)
@given(STREAMS, PIECES, st.integers(0, 2))
def test_with_a_broker_down_all_along_exactly_its_devices_and_those_never_heard_are_held(
    streams: list[list[tuple[int, int]]], pieces: list[int], down: int
) -> None:
    """A plain look at the last reading of each device says who must be found silent at the end."""
    readings = in_order(streams)
    links = [lost(-1000) if i == down else HEARD for i in range(3)]
    state, _ = story(*((batch, now, links) for batch, now in cut(readings, pieces)))
    newest = {device: broker for device, _, broker in readings}  # by time, so the last one stays
    expected = {device for device, broker in newest.items() if broker != down}
    assert set(np.flatnonzero(state.silence.occurrence.severity).tolist()) == expected


def test_what_is_no_state_of_this_version_is_refused() -> None:
    state, _ = story((rows(*((i, 0, 1) for i in range(4))), 1, [HEARD, HEARD]))
    old = arrays(state)
    del old["silence.broker"]
    buffer = io.BytesIO()
    np.savez(buffer, **old)  # type: ignore[arg-type]
    for data in (buffer.getvalue(), b"nothing"):
        with pytest.raises((KeyError, ValueError)):
            State.from_bytes(data)
