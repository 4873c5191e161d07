from __future__ import annotations

import csv
import gzip
from itertools import combinations, permutations
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing.indicators.stage import NS_PER_H, Rise, _lower_rank, rate_of_rise, time_to_threshold
from telemetry.observations import NS_PER_S

HADFIELDS = Path(__file__).parents[3] / "simulators/recordings/don_hadfields_2007/stage_15min.csv.gz"
MINUTE = 60 * NS_PER_S
T0 = 1_182_700_000 * NS_PER_S


def of_one(minutes, stage, **options) -> Rise:
    times = T0 + np.asarray(minutes)[None] * MINUTE
    stages = np.asarray(stage, np.float64)[None]
    newest = times.max(axis=1) if times.size else np.array([T0])
    return rate_of_rise(times, stages, np.ones(times.shape, bool), newest, **options)


SERIES = st.lists(st.integers(0, 30), min_size=2, max_size=12, unique=True).flatmap(
    lambda minutes: st.tuples(
        st.just(minutes), st.lists(st.integers(-200, 200), min_size=len(minutes), max_size=len(minutes))
    )
)


@given(SERIES)
def test_the_slope_is_the_median_of_all_pairs(series):
    minutes, centimetres = series
    slopes = [
        (y2 - y1) / 100 / ((x2 - x1) / 60)
        for (x1, y1), (x2, y2) in combinations(zip(minutes, centimetres, strict=True), 2)
    ]
    rise = of_one(minutes, np.array(centimetres) / 100, least_readings=2)
    assert rise.m_per_h[0] == pytest.approx(median(slopes), abs=1e-9)
    assert rise.low_m_per_h[0] <= rise.m_per_h[0] + 1e-9
    assert rise.high_m_per_h[0] >= rise.m_per_h[0] - 1e-9
    if len(minutes) > 2:
        assert min(slopes) - 1e-9 <= rise.low_m_per_h[0]
        assert rise.high_m_per_h[0] <= max(slopes) + 1e-9


@given(SERIES, st.randoms())
def test_neither_order_nor_what_is_unusable_or_outside_the_span_matters(series, random):
    minutes, centimetres = series
    stage = np.array(centimetres) / 100
    plain = of_one(minutes, stage, least_readings=2)
    newest = T0 + max(minutes) * MINUTE
    rows = [(T0 + m * MINUTE, s, True) for m, s in zip(minutes, stage, strict=True)]
    rows += [(newest - 3 * MINUTE, 99.0, False), (newest - 4 * MINUTE, np.nan, True), (newest + 1, 99.0, True)]
    rows += [(newest - 31 * MINUTE, 99.0, True), (0, 0.0, False), (0, 0.0, False)]
    random.shuffle(rows)
    times, stages, usable = (np.array([list(c)]) for c in zip(*rows, strict=True))
    # another gauge beside it, with its own number of readings
    other = np.array([True] * 3 + [False] * (len(rows) - 3))
    both = rate_of_rise(
        np.concatenate((np.arange(len(rows))[None] * MINUTE + T0, times)),
        np.concatenate((np.arange(len(rows), dtype=float)[None], stages)),
        np.concatenate((other[None], usable)),
        np.array([T0 + 20 * MINUTE, newest]),
        least_readings=2,
    )
    for name in Rise.__dataclass_fields__:
        np.testing.assert_allclose(getattr(both, name)[1], getattr(plain, name)[0], atol=1e-9)
    assert both.m_per_h[0] == pytest.approx(60.0)


@given(SERIES, st.integers(-8, 8), st.integers(-500, 500))
def test_a_tilted_and_lifted_river_rises_by_that_much_more(series, tilt_cm_per_min, lift_cm):
    minutes, centimetres = series
    stage = np.array(centimetres) / 100
    plain = of_one(minutes, stage, least_readings=2)
    tilted = of_one(
        minutes, stage + lift_cm / 100 + tilt_cm_per_min / 100 * np.array(minutes, np.float64), least_readings=2
    )
    for name in ("m_per_h", "low_m_per_h", "high_m_per_h"):
        np.testing.assert_allclose(getattr(tilted, name), getattr(plain, name) + tilt_cm_per_min * 0.6, atol=1e-7)


def test_ranks_are_those_of_counting_permutations():
    """Second implementation: the inversions of all permutations of 6 elements, counted one by one."""
    inversions = np.array([sum(a > b for a, b in combinations(p, 2)) for p in permutations(range(6))])
    for coverage in (0.5, 0.8, 0.9, 0.95, 0.99):
        rank, reached = _lower_rank(6, coverage)
        assert reached == pytest.approx(1 - 2 * np.mean(inversions <= rank))
        assert reached >= coverage
        assert 1 - 2 * np.mean(inversions <= rank + 1) < coverage  # the next narrower range would miss it


def test_published_table_of_kendalls_statistic():
    """Hollander and Wolfe, Nonparametric Statistical Methods, table of Kendall's statistic: n = 8 has
    P(K >= 16) = 0.031 and n = 10 has P(K >= 23) = 0.023 for the statistic
    K = concordant - discordant, so that C = 14 and 21."""
    assert _lower_rank(8, 0.93) == (6, pytest.approx(1 - 2 * 0.031, abs=1e-3))
    assert _lower_rank(10, 0.95) == (11, pytest.approx(1 - 2 * 0.023, abs=1e-3))


@pytest.mark.parametrize("noise", ["normal", "wild", "rounded"])
@pytest.mark.parametrize("n", [4, 7, 15, 30])
def test_the_range_holds_the_true_slope_as_often_as_it_says(n, noise):
    rng = np.random.default_rng(20260101 + n)
    gauges, true_slope = 3000, 0.6
    times = T0 + np.sort(rng.permuted(np.tile(np.arange(30 * 60), (gauges, 1)), axis=1)[:, :n], axis=1) * NS_PER_S
    errors = rng.standard_cauchy(times.shape) if noise == "wild" else rng.normal(size=times.shape)
    stage = true_slope * (times - T0) / NS_PER_H + 0.01 * errors
    if noise == "rounded":
        stage = stage.round(2)
    rise = rate_of_rise(times, stage, np.ones(times.shape, bool), times[:, -1], coverage=0.9)
    held = np.mean((rise.low_m_per_h <= true_slope) & (true_slope <= rise.high_m_per_h))
    told = float(rise.coverage[0])
    assert 0.9 <= told < 0.94
    sampling = 3.5 * np.sqrt(told * (1 - told) / gauges)
    assert held > told - sampling
    if noise != "rounded":  # ties widen it
        assert held < told + sampling


def test_three_readings_reach_two_thirds_and_two_readings_nothing():
    rng = np.random.default_rng(7)
    times = np.tile(T0 + np.arange(3) * 15 * MINUTE, (4000, 1))
    rise = rate_of_rise(times, rng.normal(size=times.shape), np.ones(times.shape, bool), times[:, -1])
    assert rise.coverage[0] == pytest.approx(2 / 3)
    assert np.mean((rise.low_m_per_h <= 0) & (rise.high_m_per_h >= 0)) == pytest.approx(2 / 3, abs=0.03)
    two = of_one([0, 10], [1.0, 1.1], least_readings=2)
    assert two.m_per_h[0] == pytest.approx(0.6)
    assert (two.low_m_per_h[0], two.high_m_per_h[0], two.coverage[0]) == (-np.inf, np.inf, 0.0)


def test_a_quarter_of_wild_readings_does_not_carry_the_slope_away():
    minutes = np.arange(16)
    stage = 1 + 0.002 * minutes
    stage[[2, 5, 9, 14]] = [9.0, -4.0, 7.0, 8.0]
    assert of_one(minutes, stage).m_per_h[0] == pytest.approx(0.12, abs=0.05)


def test_katulampa_2020_rises_as_fast_as_it_was_told():
    """40 to 120 cm in four minutes: 12 m/h."""
    assert of_one([0, 1, 2, 3, 4], [0.4, 0.6, 0.8, 1.0, 1.2]).m_per_h[0] == pytest.approx(12.0)


def test_the_largest_hourly_rise_of_a_recorded_flood():
    """The Don at Hadfields, 25 June 2007: 0.546 m in the hour up to 12:30 (truth.json)."""
    with gzip.open(HADFIELDS, "rt", encoding="latin-1") as file:
        rows = [r for r in csv.reader(file) if r and r[0].startswith("25/06/2007")]
    stage = np.array([float(r[1]) for r in rows])
    times = T0 + np.arange(len(rows)) * 15 * MINUTE
    at = next(i for i, r in enumerate(rows) if r[0].endswith("12:30:00"))
    ring = slice(at - 4, at + 1)
    rise = of_one((times[ring] - T0) // MINUTE, stage[ring], span_ns=NS_PER_H)
    assert stage[at] - stage[at - 4] == pytest.approx(0.546)
    assert rise.m_per_h[0] == pytest.approx(0.546, abs=0.06)


def test_too_few_readings_tell_the_stage_but_no_slope():
    one = of_one([3], [1.5])
    assert np.isnan([one.m_per_h[0], one.low_m_per_h[0], one.high_m_per_h[0], one.coverage[0]]).all()
    assert (one.stage_m[0], one.newest_at[0], one.readings[0]) == (1.5, T0 + 3 * MINUTE, 1)
    none = of_one([3, 4], [np.nan, np.nan])
    assert np.isnan(none.stage_m[0])
    assert (none.newest_at[0], none.readings[0]) == (0, 0)
    empty = rate_of_rise(np.empty((2, 0), np.int64), np.empty((2, 0)), np.empty((2, 0), bool), np.zeros(2, np.int64))
    assert empty.readings.tolist() == [0, 0]
    assert rate_of_rise(
        np.empty((0, 9), np.int64), np.empty((0, 9)), np.empty((0, 9), bool), np.zeros(0, np.int64)
    ).m_per_h.shape == (0,)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="same time"):
        of_one([3, 3, 4], [1.0, 1.1, 1.2])
    with pytest.raises(ValueError, match="span_ns must be positive, got 0"):
        of_one([1, 2, 3], [1, 2, 3], span_ns=0)
    with pytest.raises(ValueError, match="coverage must be between 0 and 1, got 1"):
        of_one([1, 2, 3], [1, 2, 3], coverage=1)
    with pytest.raises(ValueError, match="least_readings must be at least 2, got 1"):
        of_one([1, 2, 3], [1, 2, 3], least_readings=1)
    with pytest.raises(ValueError, match=r"at must be \(2,\)"):
        rate_of_rise(np.zeros((2, 3), np.int64), np.zeros((2, 3)), np.ones((2, 3), bool), np.zeros(3, np.int64))
    with pytest.raises(ValueError, match=r"\(gauges, K\)"):
        rate_of_rise(np.zeros((2, 3), np.int64), np.zeros((2, 4)), np.ones((2, 3), bool), np.zeros(2, np.int64))


def rise_of(slope: float, low: float, high: float, stage: float) -> Rise:
    ones = [np.array([v], np.float64) for v in (slope, low, high, 0.9, stage)]
    return Rise(*ones, np.array([T0]), np.array([20], np.int32))


def test_time_to_threshold_by_hand():
    # 1.2 m to go at 0.6 m/h: 2 h; at 0.8 m/h 1.5 h; at 0.3 m/h 4 h
    times = time_to_threshold(rise_of(0.6, 0.3, 0.8, 1.8), np.array([[3.0, np.nan, 1.8]]), horizon_s=6 * 3600)
    np.testing.assert_allclose(times.expected_s, [[7200, np.nan, 0]])
    np.testing.assert_allclose(times.earliest_s, [[5400, np.nan, 0]])
    np.testing.assert_allclose(times.latest_s, [[14400, np.nan, 0]])
    # the slow end goes beyond a horizon of 3 h, or does not rise at all: no latest time
    for low, horizon_h in ((0.3, 3), (-0.1, 6), (0.0, 6)):
        times = time_to_threshold(rise_of(0.6, low, 0.8, 1.8), np.array([[3.0]]), horizon_s=horizon_h * 3600)
        assert (times.expected_s[0, 0], times.latest_s[0, 0]) == (pytest.approx(7200), np.inf)


@pytest.mark.parametrize(
    "rise", [rise_of(0.0, -1, 1, 1.8), rise_of(-0.4, -1, 1, 1.8), rise_of(np.nan, np.nan, np.nan, 1.8)]
)
def test_no_time_without_a_rise(rise):
    times = time_to_threshold(rise, np.array([[3.0]]))
    assert np.isnan([times.expected_s, times.earliest_s, times.latest_s]).all()


def test_a_threshold_that_is_just_reached_is_reached_even_while_falling():
    times = time_to_threshold(rise_of(-0.4, -0.5, -0.3, 3.0), np.array([[3.0, 3.1]]))
    np.testing.assert_array_equal(times.expected_s, [[0.0, np.nan]])


def test_no_time_beyond_the_horizon_or_below_the_least_rise():
    rise = rise_of(0.6, 0.5, 0.7, 1.8)
    assert np.isnan(time_to_threshold(rise, np.array([[3.0]]), horizon_s=7199).expected_s[0, 0])
    assert time_to_threshold(rise, np.array([[3.0]]), horizon_s=7201).expected_s[0, 0] == pytest.approx(7200)
    assert np.isnan(time_to_threshold(rise, np.array([[3.0]]), least_rise_m_per_h=0.6).expected_s[0, 0])


@given(
    st.integers(-300, 300),
    st.integers(0, 300),
    st.integers(0, 300),
    st.lists(st.integers(-300, 300), min_size=1, max_size=5),
)
def test_times_come_in_order(slope, below, above, thresholds):
    rise = rise_of(slope / 100, (slope - below) / 100, (slope + above) / 100, 0.5)
    levels = np.sort(np.array([thresholds]) / 100)
    times = time_to_threshold(rise, levels)
    told = ~np.isnan(times.expected_s)
    assert np.all(times.earliest_s[told] <= times.expected_s[told])
    assert np.all(times.expected_s[told] <= times.latest_s[told])
    assert np.all(np.diff(times.expected_s[told]) >= 0)  # a higher threshold is not reached earlier
    assert np.array_equal(told, ~np.isnan(times.latest_s))


def test_wrong_thresholds_are_refused():
    with pytest.raises(ValueError, match=r"\(1, thresholds\)"):
        time_to_threshold(rise_of(1, 1, 1, 1), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="horizon_s must be positive, got 0"):
        time_to_threshold(rise_of(1, 1, 1, 1), np.zeros((1, 2)), horizon_s=0)
    with pytest.raises(ValueError, match="least_rise_m_per_h must not be negative, got -1"):
        time_to_threshold(rise_of(1, 1, 1, 1), np.zeros((1, 2)), least_rise_m_per_h=-1)
