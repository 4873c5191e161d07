"""Wind: hand arithmetic, a two-pass standard deviation as second implementation, and a recorded fortnight."""

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processing.indicators import wind as w

MARYLEBONE = Path(__file__).parent / "data" / "marylebone_2015_06_25_to_07_08.csv"


def of(direction, speed, **settings):
    direction, speed = np.array(direction, float), np.array(speed, float)
    return w.wind(w.wind_sums(np.zeros(direction.size, int), 1, direction, speed, **settings))


def test_the_two_means_of_direction():
    got = of([0, 90, 90], [6.0, 1.0, 1.0])
    # unit vectors: east 2, north 1 -> atan2(2, 1) = 63.43; resultant: east 2, north 6 -> 18.43, length sqrt(40)/3
    assert got.direction_deg[0] == pytest.approx(63.4349, abs=1e-3)
    assert got.resultant_direction_deg[0] == pytest.approx(18.4349, abs=1e-3)
    assert got.resultant_speed_m_s[0] == pytest.approx(2.10819, abs=1e-4)
    assert got.speed_m_s[0] == pytest.approx(8 / 3, abs=1e-5)


def test_calms_have_no_direction():
    got = of([10, 200, np.nan], [3.0, 0.2, 0.0])
    assert got.direction_deg[0] == pytest.approx(10, abs=1e-4)
    assert got.calm_fraction[0] == pytest.approx(2 / 3)
    only_calm = of([10, 20], [0.1, 0.1])
    assert np.isnan(only_calm.direction_deg[0])
    assert np.isnan(only_calm.spread_deg[0])
    assert only_calm.calm_fraction[0] == 1


def test_missing_halves():
    vane_only = of([80, 100], [np.nan, np.nan])
    assert vane_only.direction_deg[0] == pytest.approx(90, abs=1e-4)
    assert np.isnan([vane_only.speed_m_s[0], vane_only.resultant_speed_m_s[0], vane_only.calm_fraction[0]]).all()
    speed_only = of([np.nan], [4.0])
    assert speed_only.speed_m_s[0] == 4
    assert np.isnan([speed_only.direction_deg[0], speed_only.resultant_direction_deg[0]]).all()
    assert np.isnan(speed_only.resultant_speed_m_s[0])
    opposite = of([0, 180], [2.0, 2.0])
    assert np.isnan([opposite.direction_deg[0], opposite.resultant_direction_deg[0]]).all()
    assert opposite.resultant_speed_m_s[0] == pytest.approx(0, abs=1e-6)
    assert np.isnan(of([], []).direction_deg[0])


@pytest.mark.parametrize("true_spread", [5, 15, 40])
def test_the_spread_is_near_the_two_pass_standard_deviation(true_spread):
    rng = np.random.default_rng(true_spread)
    around = rng.normal(0, true_spread, 20_000)
    got = of((355 + around) % 360, np.full(around.size, 3.0))
    assert got.spread_deg[0] == pytest.approx(around.std(), rel=0.03)  # Yamartino: within 2 % of the two-pass value


ROWS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.floats(0, 360) | st.just(float("nan")),
        st.floats(0, 120) | st.just(float("nan")),
    ),
    max_size=60,
)


def sums_of(rows):
    columns = zip(*rows, strict=True) if rows else ([], [], [])
    group, direction, speed = (np.array(c, float) for c in columns)
    return w.wind_sums(group.astype(int), 3, direction, speed)


@settings(deadline=None)
@given(ROWS, st.randoms(use_true_random=False), st.integers(0, 60))
def test_parts_in_any_order_make_the_whole(rows, random, cut):
    whole = sums_of(rows)
    shuffled = rows.copy()
    random.shuffle(shuffled)
    merged = sums_of(shuffled[:cut]) + sums_of(shuffled[cut:])
    for name in w.WindSums.__slots__:
        np.testing.assert_array_equal(getattr(whole, name), getattr(merged, name))


@settings(deadline=None)
@given(ROWS)
def test_what_comes_out_is_possible(rows):
    got = w.wind(sums_of(rows))
    with np.errstate(invalid="ignore"):
        for direction in (got.direction_deg, got.resultant_direction_deg):
            assert (np.isnan(direction) | ((direction >= 0) & (direction < 360))).all()
        assert (np.isnan(got.spread_deg) | ((got.spread_deg >= 0) & (got.spread_deg < 104))).all()
        assert (np.isnan(got.calm_fraction) | ((got.calm_fraction >= 0) & (got.calm_fraction <= 1))).all()
        there = ~np.isnan(got.resultant_speed_m_s)
    assert (got.resultant_speed_m_s[there] <= 120.001).all()


def test_days_of_a_recording_agree_with_complex_numbers():
    with MARYLEBONE.open() as lines:
        rows = list(csv.DictReader(lines))
    direction = np.array([float(r["wd"] or "nan") for r in rows])
    speed = np.array([float(r["ws"] or "nan") for r in rows])
    day = np.arange(direction.size) // 24
    got = w.wind(w.wind_sums(day, 14, direction, speed))
    for i in range(14):
        rows_of_day = (day == i) & (speed >= w.CALM_BELOW_M_S) & ~np.isnan(direction)
        vector = np.exp(1j * np.deg2rad(direction[rows_of_day])).mean()
        assert got.direction_deg[i] == pytest.approx(np.rad2deg(np.angle(vector)) % 360, abs=1e-3)
