"""The quantile sketch: its error, and that only the set of values counts."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processing import sketch
from processing.sketch import Sketches
from telemetry.properties import PROPERTIES

ROWS = st.lists(
    st.tuples(st.integers(0, 2), st.floats(-200, 200) | st.integers(-3, 3).map(float) | st.just(float("nan"))),
    max_size=120,
)
FRACTIONS = [0.0, 0.05, 0.25, 0.5, 0.9, 0.99, 1.0]


def made_of(rows, limit=4, into=None):
    s = Sketches.empty(np.array([0.5, 0.01, 2.0]), limit) if into is None else into
    sketch.add(s, np.array([r[0] for r in rows], int), np.array([r[1] for r in rows], float))
    return s


def assert_same(a, b):
    for name in ("bucket", "count", "level", "error"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@settings(deadline=None)
@given(ROWS, st.integers(2, 8))
def test_quantiles_are_within_the_error(rows, limit):
    s = made_of(rows, limit)
    got = sketch.quantiles(s, FRACTIONS)
    error = s.current_error()
    for group in range(3):
        values = [v for g, v in rows if g == group and v == v]
        assert s.total()[group] == len(values)
        if not values:
            assert np.isnan(got[group]).all()
            continue
        exact = np.quantile(values, FRACTIONS, method="inverted_cdf")
        assert (np.abs(got[group] - exact) <= error[group] * (1 + 1e-9)).all()
        assert (np.diff(got[group]) >= 0).all()


@settings(deadline=None)
@given(ROWS, st.randoms(use_true_random=False), st.lists(st.integers(0, 120), max_size=4))
def test_order_and_batches_change_nothing(rows, random, cuts):
    whole = made_of(rows)
    shuffled = rows.copy()
    random.shuffle(shuffled)
    s = Sketches.empty(whole.error, 4)
    edges = [0, *sorted(min(c, len(rows)) for c in cuts), len(rows)]
    for a, b in pairwise(edges):
        made_of(shuffled[a:b], into=s)
    assert_same(s, whole)


@settings(deadline=None)
@given(ROWS, st.integers(0, 120))
def test_merged_parts_are_the_whole(rows, cut):
    s, rest = made_of(rows[:cut]), made_of(rows[cut:])
    sketch.merge(s, np.arange(3), rest)
    assert_same(s, made_of(rows))


def test_many_rows_merge_into_one_group():
    rng = np.random.default_rng(3)
    values = rng.normal(50, 10, 600)
    minutes = Sketches.empty(np.full(60, 0.05))
    sketch.add(minutes, np.repeat(np.arange(60), 10), values)
    hour = Sketches.empty(np.full(1, 0.05))
    sketch.merge(hour, np.zeros(60, int), minutes)
    at_once = Sketches.empty(np.full(1, 0.05))
    sketch.add(at_once, np.zeros(600, int), values)
    assert_same(hour, at_once)


def test_few_different_values_are_kept_as_they_are():
    s = Sketches.empty(np.array([0.005]))
    sketch.add(s, np.zeros(1000, int), np.tile([612.34, 612.35, 700.0, -1.75], 250))
    assert s.level[0] == 0
    assert sketch.quantiles(s, [0, 0.3, 0.5, 0.8]) == pytest.approx(np.array([[-1.75, 612.34, 612.34, 700.0]]))


def test_ranks_are_not_moved_by_rounding():
    s = Sketches.empty(np.array([0.5]))
    sketch.add(s, np.zeros(10, int), np.arange(10.0))
    # 0.7 * 10 is 7.000000000000001 in floating point on some machines; the 7th of 0..9 is 6
    assert sketch.quantiles(s, [0.7])[0, 0] == 6
    assert sketch.quantiles(s, [0.1])[0, 0] == 0


def test_clear_makes_room_for_a_new_window():
    s = made_of([(0, 1.0), (1, 2.0)])
    s.clear(np.array([0]))
    assert s.total().tolist() == [0, 1, 0]
    assert s.level[0] == 0


def test_extremes_and_refusals():
    s = Sketches.empty(np.array([0.005]), 2)
    sketch.add(s, np.zeros(5, int), np.array([1e300, -1e300, np.inf, np.nan, 0.0]))
    assert s.total()[0] == 3
    with pytest.raises(ValueError, match="positive"):
        Sketches.empty(np.array([0.0]))
    with pytest.raises(ValueError, match="limit"):
        Sketches.empty(np.array([1.0]), 1)
    with pytest.raises(ValueError, match="fractions"):
        sketch.quantiles(s, [1.1])
    with pytest.raises(ValueError, match="different errors"):
        sketch.merge(s, np.array([0]), Sketches.empty(np.array([1.0]), 2))


def test_every_property_has_an_error():
    assert all(sketch.error_of(name) > 0 for name in PROPERTIES)
