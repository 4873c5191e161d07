"""Wrong clocks are named, corrected only by the stated rule, and remarked; a right clock is left alone."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.clocks import DeviceClocks, cause, corrected, judged, scale_of, zone_of
from ingest.dead_letters import DeadLetter, Reason
from ingest.formats import pantau_json
from ingest.readings import Readings
from ingest.settings import Limits
from telemetry.directory import Directory
from telemetry.observations import NS_PER_S, TIME_CORRECTED, TIME_OF_RECEPTION, Observations
from tests.ingest.small_city import directory, topic

NOW_S = 1_732_447_931  # 2024-11-24 11:32:11 UTC
NOW = NOW_S * NS_PER_S
HOUR_S = 3600


def with_clock(clock: str) -> Directory:
    city = directory()
    changed = tuple(msgspec.structs.replace(d, clock=clock) if d.id == "gauge-1" else d for d in city.devices)
    return dataclasses.replace(city, devices=changed)


def read(city: Directory, payload: str, device: str = "gauge-1") -> tuple[Observations, list[DeadLetter]]:
    readings = Readings(city, Limits())
    readings.announce("main", [topic(device).encode()], [payload.encode()])
    readings.begin(NOW, NOW)
    pantau_json.decode(payload.encode(), city.feed_of[device], readings)
    return readings.finish(), readings.dead_letters


def level(time: object) -> str:
    at = f'"{time}"' if isinstance(time, str) else time
    return f'{{"time": {at}, "property": "water_level_m", "value": 1.5}}'


@pytest.mark.parametrize(
    ("time", "reason", "word"),
    [
        (NOW_S + 7 * HOUR_S - 3, Reason.TIME_LOCAL, "UTC+07:00"),  # the city's own zone
        (NOW_S + 8 * HOUR_S - 3, Reason.TIME_LOCAL, "UTC+08:00"),  # WITA, by somebody from there
        (NOW_S + 5 * HOUR_S + 2700, Reason.TIME_LOCAL, "UTC+05:45"),  # Nepal: quarters of an hour count
        (NOW_S + 5 * HOUR_S + 400, Reason.TIME_IN_FUTURE, "check the clock"),
        (NOW_S + 20 * HOUR_S, Reason.TIME_IN_FUTURE, "check the clock"),  # there is no such zone
        ("1970-01-21T01:14:07Z", Reason.TIME_WRONG_SCALE, "1000 times too small"),  # 1732447931 ms after 1970
        ("1970-01-01T00:05:00Z", Reason.CLOCK_NOT_SET, "never set"),
        ("1980-01-06T00:00:00Z", Reason.CLOCK_NOT_SET, "never set"),
        ("2000-01-01T03:00:00Z", Reason.CLOCK_NOT_SET, "never set"),
        (NOW_S - 1024 * 7 * 86_400, Reason.CLOCK_NOT_SET, "1024 weeks behind"),
        (NOW_S - 40 * 86_400, Reason.TIME_TOO_OLD, "check the clock"),
    ],
)
def test_a_time_that_cannot_be_is_refused_with_its_likeliest_cause(time: object, reason: Reason, word: str) -> None:
    got, (letter,) = read(directory(), level(time))
    assert len(got) == 0
    assert (letter.reason, word in letter.detail) == (reason, True), letter.detail


def test_only_a_stated_rule_corrects_and_the_reading_says_so() -> None:
    (found, letters) = read(with_clock("local"), level(NOW_S + 7 * HOUR_S - 3))
    assert not letters
    assert found.observed_at.tolist() == [NOW - 3 * NS_PER_S]
    assert found.remark.tolist() == [TIME_CORRECTED]
    (found, letters) = read(with_clock("none"), level("1970-01-01T00:05:00Z"))
    assert not letters
    assert found.observed_at.tolist() == found.received_at.tolist() == [NOW]
    assert found.remark.tolist() == [TIME_OF_RECEPTION]
    # Another device of the same city is taken as it is sent.
    other = f'{{"time": {NOW_S - 5}, "property": "lamp_power_w", "value": 40}}'
    (found, letters) = read(with_clock("local"), other, "lamp-1")
    assert (found.observed_at.tolist(), found.remark.tolist(), letters) == ([NOW - 5 * NS_PER_S], [0], [])


@pytest.mark.parametrize("clock", ["utc", "local", "none"])
def test_where_no_time_is_sent_the_time_of_reception_stands_in(clock: str) -> None:
    found, _ = read(with_clock(clock), '{"property": "water_level_m", "value": 1.5}')
    assert (found.observed_at.tolist(), found.remark.tolist()) == ([NOW], [TIME_OF_RECEPTION])


TIMES = st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.sampled_from([0, 1, 2])), min_size=1, max_size=20)


@given(TIMES, st.integers(-48, 56).map(lambda quarters: quarters / 4))
def test_rules_never_overflow_and_leave_the_others_alone(rows: list[tuple[int, int]], offset_h: float) -> None:
    observed = np.array([r[0] for r in rows], dtype=np.int64)
    rule = np.array([r[1] for r in rows], dtype=np.uint8)
    times, remark = corrected(observed, np.full(len(rows), NOW), rule, offset_h)
    for at, which, time, said in zip(observed.tolist(), rule.tolist(), times.tolist(), remark.tolist(), strict=True):
        wanted = at - round(offset_h * HOUR_S) * NS_PER_S
        bounded = min(max(wanted, -(2**63)), 2**63 - 1)
        assert (time, said) == [(at, 0), (bounded, TIME_CORRECTED), (NOW, TIME_OF_RECEPTION)][which]


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**62), st.integers(-48, 56))
def test_every_time_has_a_cause(observed_at: int, now: int, quarters: int) -> None:
    reason, why = cause((observed_at - now) / NS_PER_S, observed_at, now, quarters / 4)
    assert reason in Reason
    assert why


@given(st.integers(-11 * 4, 14 * 4).filter(bool), st.floats(0, 55))
def test_local_time_anywhere_is_known_whatever_the_delay(quarters: int, delay_s: float) -> None:
    assert zone_of(quarters * 900 - delay_s, 7.0) is not None


@given(st.sampled_from([1000, 10**6, 10**9]), st.integers(10**9, 4 * 10**9))
def test_a_wrong_scale_is_known_both_ways(scale: int, now_s: int) -> None:
    assert scale_of(now_s / scale, now_s) == scale
    assert scale_of(now_s * scale, now_s) == 1 / scale
    assert scale_of(now_s, now_s) is None


def readings_of(delays_s: list[float], span: int) -> Observations:
    received = (span * HOUR_S + np.arange(len(delays_s))) * NS_PER_S
    observed = received - (np.array(delays_s) * NS_PER_S).astype(np.int64)
    return Observations.of(np.zeros(len(delays_s)), observed, np.ones(len(delays_s)), received)


def test_drift_shows_in_the_smallest_delays_and_late_messages_do_not_hide_it() -> None:
    clocks = DeviceClocks(7.0)
    clocks.grow(2)
    nobody = np.zeros(3, dtype=np.int32)
    for hour in range(24):
        # Gains 2 s an hour, 48 s a day; two of three messages come very late.
        clocks.observe(nobody, readings_of([1.0 - 2 * hour, 3000.0, 900.0 + hour], 500_000 + hour))
    found = clocks.judge(0)
    assert found is not None
    assert found.drift_s_per_d == pytest.approx(48.0, abs=0.1)
    assert found.ahead_s == pytest.approx(45.0, abs=0.1)
    assert clocks.wrong() == 1
    assert clocks.judge(1) is None


def test_a_clock_behind_by_the_zone_is_told_and_a_right_one_is_not() -> None:
    at = np.arange(3) * 3600.0
    found = judged(at, np.full(3, 7 * HOUR_S + 2.0, dtype=np.float32), 7.0)
    assert found is not None
    assert (found.zone_s, found.wrong) == (-7 * HOUR_S, True)
    right = judged(at, np.full(3, 2.0, dtype=np.float32), 7.0)
    assert right is not None
    assert not right.wrong


def test_times_that_are_not_the_clocks_own_say_nothing_of_it() -> None:
    clocks = DeviceClocks(7.0)
    clocks.grow(1)
    rows = readings_of([500.0], 500_000)
    clocks.observe(np.zeros(1, dtype=np.int32), dataclasses.replace(rows, remark=np.array([1], dtype=np.uint8)))
    assert clocks.judge(0) is None
