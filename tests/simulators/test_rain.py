"""Rain: storms stay in their episode, near gauges agree more than far ones, the bucket loses what it must."""

import numpy as np
import pytest

from simulators.chance import Dice
from simulators.plan import load
from simulators.rain import Cell, caught_mm_h, great_storm, intensity_mm_h, lesser_storm
from simulators.schedule import EPISODE_MIN, Schedule
from simulators.stations import install


def cell(**changed: float) -> Cell:
    still = {"peak_mm_h": 60.0, "radius_km": 2.0, "x_km": 1.0, "y_km": -1.0, "u_km_min": 0.0, "v_km_min": 0.0}
    return Cell(**(still | {"start_min": 10.0, "rise_min": 10.0, "end_min": 60.0, "fall_min": 10.0} | changed))


def test_a_still_cell_rains_its_peak_in_its_centre_and_the_gaussian_share_beside_it() -> None:
    rain = intensity_mm_h((cell(),), np.array([1.0, 3.0]), np.array([-1.0, -1.0]), np.array([35.0]))
    assert rain[0] == pytest.approx([60.0, 60.0 * np.exp(-0.5)])


def test_a_moving_cell_is_where_it_should_be() -> None:
    moving = cell(u_km_min=0.1)  # at minute 45, ten minutes after its middle, 1 km further east
    x = np.linspace(-3.0, 5.0, 81)
    rain = intensity_mm_h((moving,), x, np.full(81, -1.0), np.array([45.0]))[0]
    assert x[np.argmax(rain)] == pytest.approx(2.0)


def test_depth_over_a_wide_plane_is_that_of_the_integral() -> None:
    # time: plateau 30 min + two smooth edges worth half of 10 min each; space: 2 pi r²
    x, y = np.meshgrid(np.arange(-14, 16, 0.5), np.arange(-16, 14, 0.5))
    rain = intensity_mm_h((cell(),), x.ravel(), y.ravel(), np.arange(0.5, 240))
    volume = rain.sum() / 60 * 0.25  # mm km²
    assert volume == pytest.approx(60.0 * (40 / 60) * 2 * np.pi * 4.0, rel=0.01)


@pytest.mark.parametrize("seed", range(3))
def test_every_episode_is_dry_at_both_ends(seed: int) -> None:
    plan = load("bandung")
    schedule = Schedule(plan, install(plan), seed)
    x, y = np.meshgrid(np.arange(-20, 20, 1.0), np.arange(-20, 20, 1.0))
    for episode in range(100_000, 100_120):
        ends = intensity_mm_h(
            schedule.storm(episode), x.ravel(), y.ravel(), np.array([0.0, EPISODE_MIN - 10.0, EPISODE_MIN])
        )
        assert not ends.any()


def test_near_places_agree_more_than_far_ones() -> None:
    minutes = np.arange(240.0)
    storms = [lesser_storm(Dice(1, "test", n), 8.0, 60.0) for n in range(150)]
    rain = np.concatenate([intensity_mm_h(s, np.array([0.0, 1.0, 4.0, 9.0]), np.zeros(4), minutes) for s in storms])
    near, middle, far = np.corrcoef(rain.T)[0, 1:]
    assert near > 0.8 > middle > far


def test_the_great_storm_pours_on_its_target() -> None:
    for n in range(50):
        rain = intensity_mm_h(
            great_storm(Dice(n, "test"), 3.0, 4.0), np.array([3.0]), np.array([4.0]), np.arange(240.0)
        )
        assert 45.0 < rain.sum() / 60 < 100.0  # mm: "lebat" to "sangat lebat" for the day's sum
        assert not rain[:7].any() and rain[20:60].min() > 20.0


def test_the_bucket_loses_more_in_heavier_rain_and_nothing_in_none() -> None:
    assert caught_mm_h(np.array([0.0]))[0] == 0.0
    # 0.45 s per tip of 0.2 mm: at 160 mm/h caught there are 800 tips an hour, 360 s of tipping: a tenth is lost
    assert caught_mm_h(np.array([160.0 / 0.9]))[0] == pytest.approx(160.0)
