"""Trend and ring against plain references."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dashboards.operator.trend import BUCKET_S, BUCKETS, Recent, Trend, approach, trend
from telemetry.directory import Ladder, Step
from telemetry.observations import Observations
from telemetry.quality import FAIL
from tests.dashboards.operator.operator_city import T0, S, readings


@given(st.integers(5, 30), st.floats(-5, 5), st.lists(st.integers(0, 28), max_size=2), st.floats(-50, 50))
def test_outliers_do_not_bend_the_slope(n: int, slope: float, wild: list[int], error: float) -> None:
    t = np.arange(n) * 60 + 10**9
    value = slope * (t - t[0]) / 3600
    # Theil–Sen breaks down at about 29 % of outliers (Sen 1968); stay well below.
    for i in wild if n > 12 else []:
        value[i % n] += error
    found = trend(t, value)
    assert found is not None
    assert abs(found.per_h - slope) < 1e-6


def test_a_fast_rise_is_not_drowned_by_the_calm_before() -> None:
    # 20 minutes of calm, then 20 cm a minute for 6 minutes, as at Katulampa on 21 September 2020.
    t = np.arange(0, 26 * 60, 60)
    value = np.where(t <= 1200, 0.4, 0.4 + (t - 1200) / 60 * 0.2)
    found = trend(t, value)
    assert found is not None and abs(found.per_h - 12.0) < 1e-6


def test_noise_alone_is_no_clear_trend() -> None:
    # A gauge with 3 mm of noise in still water: "rising" or "falling" may be shown only rarely, and never fast.
    rng = np.random.default_rng(7)
    t = np.arange(0, 1800, 60)
    clear = []
    for _ in range(300):
        found = trend(t, 1.0 + 0.003 * rng.standard_normal(t.size))
        assert found is not None
        if found.low_per_h * found.high_per_h > 0:
            clear.append(abs(found.per_h))
    assert len(clear) < 150 and max(clear) < 0.2


def test_sparse_readings_use_the_longer_span() -> None:
    t = np.arange(0, 1801, 300)  # every five minutes: four in 15 minutes, seven in 30
    found = trend(t, t / 3600)
    assert found is not None and abs(found.per_h - 1.0) < 1e-9


def test_too_little_is_no_trend() -> None:
    assert trend(np.array([], dtype=np.int64), np.array([])) is None
    assert trend(np.arange(5), np.arange(5.0)) is None  # five seconds
    assert trend(np.arange(4) * 3600, np.arange(4.0)) is None  # hourly readings


def test_the_ring_keeps_the_newest_half_hour() -> None:
    ring = Recent(2)
    at = np.arange(0, 7200, 10)
    ring.put(readings(1, at.tolist(), at.astype(float).tolist()))
    time_s, value = ring.series(1)
    assert time_s.size == BUCKETS and time_s[-1] == T0 // S + 7190
    assert (np.diff(time_s) == BUCKET_S).all()
    assert (value == time_s - T0 // S).all()
    assert ring.series(0)[0].size == 0


def test_late_readings_fill_gaps_and_failed_ones_are_left_out() -> None:
    ring = Recent(1)
    ring.put(readings(0, [0, 300], [1.0, 2.0]))
    ring.put(readings(0, 150, 1.5))
    ring.put(readings(0, 200, 99.0, flag=FAIL))
    ring.put(readings(0, -7200, 0.0))  # would fall into a slot of now
    ring.put(Observations.empty())
    assert ring.series(0)[1].tolist() == [1.0, 1.5, 2.0]


def test_falling_ladders_look_downward() -> None:
    ladder = Ladder(steps=(Step(10.0, 1, "low"), Step(5.0, 2, "lower")), direction=-1)
    found = approach(ladder, 8.0, Trend(-3.0, -6.0, -2.0, 8.0))
    assert found is not None and found.label == "lower"
    assert (found.soonest_s, found.latest_s) == (1800.0, 5400.0)  # 3 units at 6 and at 2 per hour
    assert approach(ladder, 8.0, Trend(3.0, 2.0, 6.0, 8.0)) is None
    assert approach(ladder, 4.0, Trend(-3.0, -6.0, -2.0, 4.0)) is None  # nothing further
    assert approach(ladder, 8.0, Trend(-0.1, -0.2, -0.05, 8.0)) is None  # more than three hours
