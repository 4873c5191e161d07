"""Energy, circular and flow-weighted means: known values, and the laws that let windows add them up."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processing import means
from processing.means import MeanKind
from telemetry.properties import PROPERTIES

LEVELS = st.lists(st.floats(0, 160), min_size=1, max_size=60)
DIRECTIONS = st.lists(st.floats(0, 360), min_size=1, max_size=60)
SPEEDS = st.lists(st.tuples(st.floats(0, 300), st.floats(0, 50_000)), min_size=1, max_size=60)


def mean_of(kind, values, weights=None):
    values = np.array(values, float)
    first, second = means.transform(kind, values, None if weights is None else np.array(weights, float))
    there = ~np.isnan(values)
    count = there.sum()
    if kind == MeanKind.CIRCULAR and weights is not None:
        count = np.array(weights)[there].sum()
    return means.finish(kind, np.array([first.sum()]), np.array([second.sum()]), np.array([count]))[0]


def test_every_name_is_a_property():
    assert set(means.MEAN_KINDS) <= set(PROPERTIES)
    assert set(means.WEIGHT_OF) | set(means.WEIGHT_OF.values()) <= set(PROPERTIES)
    assert all(means.kind_of(name) == MeanKind.WEIGHTED for name in means.WEIGHT_OF)


def test_levels_average_as_energy():
    # Two equal sources add 3.01 dB; 60 and 70 dB for equal times: 10 lg(5.5e6) = 67.4036
    assert mean_of(MeanKind.ENERGY, [60, 70]) == pytest.approx(67.40363, abs=1e-4)
    assert mean_of(MeanKind.ENERGY, [0.0, 0.0]) == pytest.approx(0, abs=0.003)
    # one second of 100 dB in an hour of 40 dB: 10 lg((1e10 + 3599e4) / 3600) = 64.4526
    assert mean_of(MeanKind.ENERGY, [100] + [40] * 3599) == pytest.approx(64.4526, abs=1e-3)
    assert mean_of(MeanKind.ENERGY, [np.nan, 50]) == pytest.approx(50, abs=1e-6)


@settings(deadline=None)
@given(LEVELS)
def test_the_energy_mean_is_as_exact_as_stated(levels):
    expected = 10 * np.log10(np.mean(np.power(10.0, np.array(levels) / 10)))
    assert mean_of(MeanKind.ENERGY, levels) == pytest.approx(expected, abs=0.0022)


def test_directions_average_around_north():
    assert mean_of(MeanKind.CIRCULAR, [350, 10]) in (0, pytest.approx(360, abs=1e-4))
    assert mean_of(MeanKind.CIRCULAR, [350, 20]) == pytest.approx(5, abs=1e-4)
    assert np.isnan(mean_of(MeanKind.CIRCULAR, [0, 180]))
    assert np.isnan(mean_of(MeanKind.CIRCULAR, [10, 130, 250]))
    # 3 m/s from the north and 1 m/s from the east: atan(1/3) = 18.435
    assert mean_of(MeanKind.CIRCULAR, [0, 90], [3.0, 1.0]) == pytest.approx(18.4349, abs=1e-3)


@settings(deadline=None)
@given(DIRECTIONS, st.integers(-720, 720))
def test_turning_all_directions_turns_the_mean(directions, turn):
    a = mean_of(MeanKind.CIRCULAR, directions)
    b = mean_of(MeanKind.CIRCULAR, (np.array(directions) + turn) % 360)
    unit = np.exp(1j * np.deg2rad(directions)).mean()
    if abs(unit) < 2 * means.MIN_RESULTANT:
        return
    assert 0 <= a < 360
    difference = (b - a - turn + 180) % 360 - 180
    assert abs(difference) < 0.02


def test_speed_is_weighted_by_flow():
    # 1800 veh/h at 20 km/h and 200 veh/h at 80 km/h: (36000 + 16000) / 2000 = 26
    assert mean_of(MeanKind.WEIGHTED, [20, 80], [1800, 200]) == 26
    assert mean_of(MeanKind.WEIGHTED, [20, 80]) == 50  # without flows: plain
    assert mean_of(MeanKind.WEIGHTED, [20, 80], [0, 200]) == 80
    assert np.isnan(mean_of(MeanKind.WEIGHTED, [20, 80], [0, 0]))
    # a flow that cannot be counts as none known: 20 with weight 3, 80 with weight 1 -> 35
    for bad in (-5.0, np.nan, np.inf):
        assert mean_of(MeanKind.WEIGHTED, [20, 80], [3, bad]) == 35


@pytest.mark.parametrize("kind", list(MeanKind))
def test_missing_readings_add_nothing(kind):
    first, second = means.transform(kind, np.array([np.nan, np.nan]), np.array([3.0, 0.5]))
    assert not first.any()
    assert not second.any()
    assert mean_of(kind, [np.nan, 40.0], [7.0, 2.0]) == pytest.approx(40, abs=1e-3)


@settings(deadline=None)
@given(SPEEDS)
def test_the_weighted_mean_is_as_exact_as_stated(pairs):
    speeds, flows = (np.array(c) for c in zip(*pairs, strict=True))
    got = mean_of(MeanKind.WEIGHTED, speeds, flows)
    if flows.mean() < 1:
        return
    # half a quantum for each product, and half a quantum of weight times the speed, over the mean weight
    error = 2.0**-11 * (1 + 2 * speeds.max()) / flows.mean()
    assert got == pytest.approx((speeds * flows).sum() / flows.sum(), abs=error + 1e-9)


READINGS = st.lists(
    st.tuples(
        st.sampled_from(list(MeanKind)),
        st.integers(0, 3),
        st.floats(0, 160),
        st.floats(0, 120) | st.just(float("nan")),
    ),
    min_size=1,
    max_size=80,
)


def sums(rows):
    kind = np.array([r[0] for r in rows], np.uint8)
    group = np.array([r[1] for r in rows], np.intp) * len(MeanKind) + kind
    first, second = means.transform(kind, np.array([r[2] for r in rows]), np.array([r[3] for r in rows]))
    size = 4 * len(MeanKind)
    return np.bincount(group, first, size), np.bincount(group, second, size), np.bincount(group, minlength=size)


@settings(deadline=None)
@given(READINGS, st.randoms(use_true_random=False), st.data())
def test_order_and_cutting_change_nothing(rows, random, data):
    whole = sums(rows)
    shuffled = rows.copy()
    random.shuffle(shuffled)
    cut = data.draw(st.integers(0, len(rows)))
    parts = [sums(p) for p in (shuffled[:cut], shuffled[cut:]) if p]
    merged = [sum(column) for column in zip(*parts, strict=True)]
    for a, b in zip(whole, merged, strict=True):
        np.testing.assert_array_equal(a, b)
    kinds = np.tile(np.arange(len(MeanKind)), 4)
    np.testing.assert_array_equal(means.finish(kinds, *whole), means.finish(kinds, *merged))


def test_loud_and_quiet_readings_of_a_day_add_up_exactly():
    rng = np.random.default_rng(1)
    levels = rng.uniform(0, 160, 86_400)
    first, second = means.transform(MeanKind.ENERGY, levels)
    order = rng.permutation(levels.size)
    assert first.sum() == first[order].sum() == np.cumsum(first)[-1]
    assert second.sum() == second[order].sum() == np.cumsum(second)[-1]


def test_empty_and_wrong_shapes():
    nothing = np.empty(0)
    assert means.transform(MeanKind.ENERGY, nothing)[0].shape == (0,)
    assert np.isnan(means.finish(MeanKind.CIRCULAR, np.zeros(1), np.zeros(1), np.zeros(1)))[0]
    with pytest.raises(ValueError, match="one shape"):
        means.transform(MeanKind.WEIGHTED, np.zeros(2), np.zeros(3))
