"""Rivers: the water balance closes; textbook values; the network's order and delays."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators import river
from simulators.plan import load
from simulators.schedule import EPISODE_MIN, Schedule
from simulators.stations import install
from simulators.world import World

STEPS = 4000
NETWORK = river.RiverNetwork.of(load("bandung"), STEPS)


def test_curve_number_against_the_handbook() -> None:
    # NEH-630: CN 80, S = 2.5 in; P = 3 in gives (3 - 0.5)² / (3 + 2) = 1.25 in
    assert river.curve_number_runoff_mm(np.array([76.2]), 80.0)[0] == pytest.approx(1.25 * 25.4)


def test_ground_of_curve_number_100_gives_all_and_no_ground_gives_more_than_fell() -> None:
    rain = np.linspace(0, 200, 50)
    assert river.curve_number_runoff_mm(rain, 100.0) == pytest.approx(rain)
    for number in (40.0, 75.0, 90.0, 98.0):
        runoff = river.curve_number_runoff_mm(rain, number)
        assert (runoff <= rain).all() and (np.diff(runoff) >= 0).all()


def test_a_linear_reservoir_keeps_1_over_e_after_its_constant() -> None:
    answer = river.linear_reservoir(30.0, STEPS)
    assert answer.sum() == pytest.approx(1.0)
    assert answer[31] / answer[1] == pytest.approx(np.exp(-1))


def test_the_nash_cascade_peaks_and_lags_as_nash_says() -> None:
    answer = river.nash_cascade(60.0, STEPS)  # three of K = 20 min: peak at (n - 1) K = 40 min, mean at 60 min
    minute = np.arange(STEPS)
    assert answer.sum() == pytest.approx(1.0)
    assert abs(int(np.argmax(answer)) - 40) <= 2
    assert (answer * minute).sum() == pytest.approx(60.0, abs=1.6)
    # u(t) = (t/K)² e^(-t/K) / (2 K), here with t from the middle of the first minute
    t = minute + 1.5
    assert answer[20:200] == pytest.approx(((t / 20) ** 2 * np.exp(-t / 20) / 40)[20:200], rel=0.03)


@pytest.mark.parametrize("travel", [1.0, 6.0, 45.0, 120.0])
def test_a_reach_delays_by_its_travel_time_and_loses_nothing(travel: float) -> None:
    answer = river.reach(travel, STEPS)
    assert answer.sum() == pytest.approx(1.0)
    assert (answer * np.arange(STEPS)).sum() == pytest.approx(travel, abs=1.0)


@given(st.floats(0, 400), st.floats(0.5, 50), st.floats(1.3, 2.5), st.floats(-2, 2))
def test_the_rating_curve_turns_back(discharge: float, a: float, b: float, zero: float) -> None:
    stage = river.stage_m(np.array([discharge]), np.array([a]), np.array([b]), np.array([zero]))[0]
    assert a * (stage - zero) ** b == pytest.approx(discharge, rel=1e-6, abs=1e-6)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_water_balance_closes(draw: int) -> None:
    """All that runs off any catchment leaves the last gauge; nothing else does."""
    network = NETWORK
    rain = np.random.default_rng(draw).gamma(0.3, 30.0, (120, len(network.points_km)))
    runoff_mm = network.runoff_mm(rain)
    fallen_mm = rain.reshape(120, len(network.gauges), -1).mean(axis=2).sum(axis=0) / 60
    assert (runoff_mm.sum(axis=0) <= fallen_mm + 1e-9).all()
    discharge = network.discharge_m3_s(runoff_mm)
    area_m2 = np.array([g.area_km2 for g in network.gauges]) * 1e6
    volume_in = (runoff_mm.sum(axis=0) / 1000 * area_m2).sum()
    outlets = [i for i, below in enumerate(network.below) if below < 0]
    volume_out = discharge[:, outlets].sum() * 60
    assert volume_out == pytest.approx(volume_in, rel=1e-6)
    # and on the way no gauge has passed more than has run off above it
    assert (discharge >= 0).all()
    passed = np.cumsum(discharge[1:, outlets].sum(axis=1)) * 60
    given_so_far = np.cumsum(np.pad((runoff_mm / 1000 * area_m2).sum(axis=1), (0, STEPS - 120)))
    assert (passed <= given_so_far * (1 + 1e-9) + 1e-3).all()


def test_almost_all_water_of_a_storm_is_followed_as_long_as_the_world_looks_back() -> None:
    plan = load("bandung")
    schedule = Schedule(plan, install(plan), 1)
    world = World(plan, install(plan), schedule, 1)
    great = next(e for e in range(124_000, 124_006) if e % 6 == 4)
    long = NETWORK.discharge_m3_s(world.runoff_mm(great))
    followed = river.RiverNetwork.of(plan, 6 * EPISODE_MIN).discharge_m3_s(world.runoff_mm(great))
    assert followed.sum() > 0.99 * long.sum()
    assert (long[6 * EPISODE_MIN] < 0.3).all()  # m³/s that vanish in the end: no step of a stage


def test_the_wave_comes_later_downstream() -> None:
    network = river.RiverNetwork.of(load("bandung"), 960)
    ids = [g.id for g in network.gauges]
    runoff = np.zeros((60, len(ids)))
    runoff[:, ids.index("curug-dago")] = 0.5
    peaks = np.argmax(network.discharge_m3_s(runoff), axis=0)
    along = ["curug-dago", "babakan-siliwangi", "viaduct", "asia-afrika", "bkr", "soekarno-hatta", "batununggal"]
    times = [int(peaks[ids.index(i)]) for i in along]
    assert times == sorted(set(times))
    assert 20 <= times[-1] - times[0] <= 45  # the travel times of the file sum to 32 min


def test_rivers_in_a_circle_are_refused() -> None:
    plan = load("bandung")
    first, *others = plan.gauges
    last = next(i for i, g in enumerate(others) if not g.to)
    others[last] = dataclasses.replace(others[last], to=first.id)
    with pytest.raises(ValueError, match="circle"):
        river.RiverNetwork.of(dataclasses.replace(plan, gauges=(first, *others)), 10)
