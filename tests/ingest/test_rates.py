"""Rates of devices: what passes, what is refused, and that it is counted exactly."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.dead_letters import DeadLetters
from ingest.rates import OVER_NS, Rates
from ingest.refusals import Reason
from ingest.settings import Limits
from telemetry.observations import NS_PER_S, Observations
from tests.ingest.small_city import directory

CITY = directory()
DAY_S = 86_400
NOW = 1_700_000_000 * NS_PER_S


def limits(rate: float = 10.0, burst: int = 100) -> Limits:
    return Limits(device_readings_per_s=rate, device_burst_readings=burst)


def batch(n: int, received_s: float, observed_s: object = None, stream: int = 0) -> Observations:
    received = np.full(n, NOW + round(received_s * NS_PER_S), dtype=np.int64)
    observed = received if observed_s is None else NOW + np.broadcast_to(observed_s, n).astype(np.int64) * NS_PER_S
    return Observations.of(np.full(n, stream), observed, np.arange(float(n)), received)


def refused(letters: list) -> int:  # type: ignore[type-arg]
    return sum(x.times for x in letters)


def test_the_burst_passes_and_then_the_rate() -> None:
    rates = Rates(limits())
    same = batch(100, 0)
    assert rates.judge(same, CITY) == (same, [])
    taken, letters = rates.judge(batch(50, 0), CITY)
    assert (len(taken), refused(letters)) == (0, 50)
    # One second later: 10 for the second that passed, and 10 for the second that the readings cover.
    taken, letters = rates.judge(batch(50, 1), CITY)
    assert (taken.value.tolist(), refused(letters)) == (list(range(20)), 30)


def test_the_earlier_readings_of_a_batch_pass_and_other_devices_do_not_notice() -> None:
    rates = Rates(limits())
    mixed = Observations.concat([batch(90, 0), batch(40, 0, stream=4), batch(90, 0), batch(40, 0, stream=6)])
    taken, letters = rates.judge(mixed, CITY)
    assert np.bincount(taken.datastream).tolist() == [100, 0, 0, 0, 40, 0, 40]
    assert taken.value[taken.datastream == 0].tolist() == [*range(90), *range(10)]
    assert [(x.device, x.times) for x in letters] == [("gauge-1", 80)]


def test_all_datastreams_of_a_device_count_together() -> None:
    taken, letters = Rates(limits()).judge(Observations.concat([batch(80, 0), batch(80, 0, stream=1)]), CITY)
    assert (len(taken), refused(letters)) == (100, 60)


def test_by_default_three_days_of_a_reading_a_minute_pass_in_any_order() -> None:
    minutes = np.arange(3 * 1440)
    for order in (minutes, minutes[::-1], np.random.default_rng(1).permutation(minutes)):
        rates = Rates(Limits())
        for stream in range(4):
            for part in np.split(order, 8):
                taken, letters = rates.judge(batch(part.size, 0, -DAY_S * 3 + part * 60, stream), CITY)
                assert (len(taken), letters) == (part.size, [])


def test_a_backlog_in_order_is_never_too_long() -> None:
    """A month of a reading a second, all at once after the network came back: 26 times the burst."""
    rates = Rates(Limits())
    for day in range(30):
        seconds = np.arange(DAY_S) + (day - 30) * DAY_S
        taken, letters = rates.judge(batch(DAY_S, day * 0.1, seconds), CITY)
        assert (len(taken), letters) == (DAY_S, [])


def test_one_time_over_and_over_is_a_runaway_though_it_is_old() -> None:
    rates = Rates(limits())
    rates.judge(batch(100, 0, -5000), CITY)
    taken, letters = rates.judge(batch(100, 1, -5000), CITY)
    assert (len(taken), refused(letters)) == (10, 90)


def test_counted_exactly_but_a_sample_kept(tmp_path: object) -> None:
    rates = Rates(limits())
    letters = []
    for tenth in range(1200):  # two minutes of 1000 readings/s
        letters += rates.judge(batch(100, tenth / 10), CITY)[1]
    taken = 120_000 - refused(letters)
    assert 100 + 1190 * 2 <= taken <= 100 + 1200 * 2
    kept = [x for x in letters if x.kept]
    assert len(kept) == 2  # one a minute
    with DeadLetters(f"{tmp_path}/dead.sqlite") as dead:
        dead.keep(letters)
        assert dead.count_by_reason() == {"rate_limited": refused(letters)}
        assert dead.count_for_device("gauge-1") == {"rate_limited": refused(letters)}
        assert dead.fill().kept == 2
    assert json.loads(kept[0].payload)["property"] == "water_level_m"
    assert (kept[0].reason, kept[0].device, kept[0].again) == (Reason.RATE_LIMITED, "gauge-1", False)
    (runaway,) = rates.runaways(NOW + 120 * NS_PER_S)
    assert (runaway.device, runaway.refused) == ("gauge-1", refused(letters))
    assert rates.runaways(NOW + 120 * NS_PER_S + OVER_NS) == ()


def test_no_limit() -> None:
    rates = Rates(Limits(device_readings_per_s=0, device_burst_readings=1))
    same = batch(1000, 0)
    assert rates.judge(same, CITY) == (same, [])


def test_a_directory_that_grew() -> None:
    rates = Rates(limits())
    rates.judge(batch(100, 0), CITY)
    later = directory(2, more=(("new-1", "water_level_m"),))
    taken, letters = rates.judge(Observations.concat([batch(5, 0), batch(60, 0, stream=7)]), later)
    assert (len(taken), refused(letters)) == (60, 5)


@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(0, 20), st.integers(0, 3)), min_size=1, max_size=20),
)
def test_what_passes_and_what_is_refused_is_what_came(steps: list[tuple[int, int, int]]) -> None:
    """And whoever stays within rate and burst is never touched."""
    rates = Rates(limits(10.0, 100))
    at, modest = 0, 0
    for n, pause, stream in steps:
        at += pause
        came = Observations.concat([batch(n, at, stream=stream), batch(5, at, stream=4)])
        modest += 5
        taken, letters = rates.judge(came, CITY)
        assert len(taken) + refused(letters) == n + 5
        if modest <= 100:
            assert (taken.datastream == 4).sum() == 5


@pytest.mark.parametrize("rate", [-1.0, float("nan")])
def test_a_rate_that_is_none(rate: float) -> None:
    with pytest.raises(ValueError, match="device_readings_per_s must be a number above 0"):
        Limits(device_readings_per_s=rate)
