"""Keyed randomness: distribution, independence, and joins."""

import numpy as np

from simulators.chance import Dice, keys, normal, uniform, wander

N = np.arange(200_000)


def test_uniform_numbers_are_uniform() -> None:
    u = uniform(keys(1, ["a"], "x"), N)
    assert u.min() > 0.0 and u.max() < 1.0
    # each of 20 bins expects 10 000 with a standard deviation of 97; five of them
    counts = np.histogram(u, bins=20, range=(0, 1))[0]
    assert np.abs(counts - 10_000).max() < 500


def test_normal_numbers_have_the_moments_of_a_normal_distribution() -> None:
    z = normal(keys(1, ["a"], "x"), N)
    assert abs(z.mean()) < 0.01 and abs(z.std() - 1) < 0.01
    assert abs((z**3).mean()) < 0.03 and abs((z**4).mean() - 3) < 0.06


def test_neighbours_in_key_and_counter_do_not_correlate() -> None:
    k = keys(1, ["a", "b"], "x")
    a, b = normal(k[:1], N), normal(k[1:], N)
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.012
    assert abs(np.corrcoef(a[1:], a[:-1])[0, 1]) < 0.012
    assert abs(np.corrcoef(uniform(k[:1], 2 * N), uniform(k[:1], 2 * N + 1))[0, 1]) < 0.012


def test_a_counter_below_zero_draws_as_well() -> None:
    u = uniform(keys(1, ["a"], "x"), np.arange(-5, 0))
    assert len(set(u.tolist())) == 5


def test_wander_is_continuous_and_passes_through_its_nodes() -> None:
    k = keys(3, ["a"], "x")
    t = np.linspace(-30.0, 30.0, 6001)
    w = wander(k, t, 10.0)
    assert np.abs(np.diff(w)).max() < 0.02
    assert wander(k, np.array([20.0]), 10.0)[0] == normal(k, np.array([2]))[0]


def test_dice_stay_within_their_bounds() -> None:
    dice = Dice(1, "test")
    draws = [dice.below(6) for _ in range(6000)]
    assert sorted(set(draws)) == [0, 1, 2, 3, 4, 5]
    assert min(draws.count(n) for n in range(6)) > 850
    assert all(2.0 < dice.between(2.0, 3.0) < 3.0 for _ in range(1000))
