"""Expected values are worked by hand from the named formula or table, unless a comment says otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from processing.indicators import traffic
from processing.indicators.traffic import DetectorFault, DetectorLimits, RoadType, SideFriction
from telemetry.quality import FAIL, GOOD, MISSING, SUSPECT

SPEEDS = npst.arrays(np.float64, 6, elements=st.floats(1.0, 150.0))
COUNTS = npst.arrays(np.float64, 6, elements=st.integers(1, 40).map(float))
NAN = float("nan")


def test_density_and_speed_of_a_single_loop() -> None:
    # 18 % over 6 m: 1000 · 0.18 / 6 = 30 veh/km; 1500 / 30 = 50 km/h
    assert traffic.density_veh_km(np.array([0.18]), 6.0) == pytest.approx([30.0])
    assert traffic.speed_from_occupancy(np.array([1500.0]), np.array([0.18]), 6.0) == pytest.approx([50.0])
    with pytest.raises(ValueError, match="detected_length_m"):
        traffic.density_veh_km(np.array([0.1]), 0.0)


def test_means_of_speed() -> None:
    speed, vehicles = np.array([[60.0, 20.0], [NAN, 0.0]]), np.array([[10.0, 10.0], [3.0, 5.0]])
    # 20 vehicles need 10/60 + 10/20 = 2/3 h for their km: 30 km/h; over vehicles it is 40
    np.testing.assert_allclose(traffic.space_mean_speed(speed, vehicles), [30.0, NAN])
    np.testing.assert_allclose(traffic.flow_weighted_speed(speed, vehicles), [40.0, 0.0])
    assert np.isnan(traffic.flow_weighted_speed(np.array([]), np.array([])))
    assert np.isnan(traffic.space_mean_speed(np.array([NAN]), np.array([NAN])))


@given(SPEEDS, COUNTS, st.permutations(range(6)))
def test_space_mean_is_at_most_time_mean_and_order_is_of_no_account(speed, vehicles, order) -> None:
    space, timed = traffic.space_mean_speed(speed, vehicles), traffic.flow_weighted_speed(speed, vehicles)
    assert speed.min() * (1 - 1e-9) <= space <= timed * (1 + 1e-9)
    assert traffic.space_mean_speed(speed[order], vehicles[order]) == pytest.approx(space)
    # in another unit of speed and of flow
    assert traffic.space_mean_speed(speed / 3.6, vehicles * 60.0) == pytest.approx(space / 3.6)


def test_capacity_by_the_tables() -> None:
    # 4/2 TT, 4 lanes of 3.25 m, 60-40, high friction, 1.5 m, 0.3 million: 1500·4 · 0.95 · 0.97 · 0.94 · 0.90
    found = traffic.capacity_pcu_h(
        RoadType.FOUR_LANES_UNDIVIDED,
        width_m=3.25,
        lanes=4,
        main_direction_share=0.6,
        friction=SideFriction.HIGH,
        shoulder_m=1.5,
        inhabitants_million=0.3,
    )
    assert found == pytest.approx(4677.534)
    # 2/2 TT of 7 m, 55-45, very high friction, 0.5 m, 4 million: 2900 · 1.00 · 0.97 · 0.73 · 1.04
    two = traffic.capacity_pcu_h(
        RoadType.TWO_LANES_UNDIVIDED,
        width_m=7.0,
        main_direction_share=0.55,
        friction=SideFriction.VERY_HIGH,
        shoulder_m=0.5,
        inhabitants_million=4.0,
    )
    assert two == pytest.approx(2135.6296)
    # one-way: C0 and lanes as divided, friction as 2/2: 1650 · 2 · 1.00 · 0.92
    one_way = traffic.capacity_pcu_h(
        RoadType.ONE_WAY, width_m=3.5, lanes=2, friction=SideFriction.MEDIUM, inhabitants_million=1.0
    )
    assert one_way == pytest.approx(3036.0)
    with pytest.raises(ValueError, match="main_direction_share"):
        traffic.capacity_pcu_h(RoadType.DIVIDED, width_m=3.5, main_direction_share=0.4)


@given(st.sampled_from(RoadType), st.floats(2.0, 12.0), st.sampled_from(list(SideFriction)[:-1]))
def test_capacity_grows_with_width_and_falls_with_friction(road, width, friction) -> None:
    here = traffic.capacity_pcu_h(road, width_m=width, friction=friction)
    assert traffic.capacity_pcu_h(road, width_m=width + 0.5, friction=friction) >= here
    assert traffic.capacity_pcu_h(road, width_m=width, friction=SideFriction(friction + 1)) < here


def test_car_equivalents_change_with_density() -> None:
    road = traffic.CAR_EQUIVALENTS["two lanes a direction, divided or one-way"]
    # RSNI T-14-2004 table 3: up to 1,050 a lane 1.3 and 0.40, above 1.2 and 0.25. Flow a lane: 1050 and 1051.
    found = traffic.flow_pcu_h(np.array([1000.0, 1002.0]), np.array([100.0] * 2), np.array([1000.0] * 2), road, lanes=2)
    np.testing.assert_allclose(found, [1000 + 130 + 400, 1002 + 120 + 250])


@pytest.mark.parametrize(
    ("vc", "speed", "level"),
    [
        (0.6, 80.0, "A"),
        (0.61, 80.0, "B"),
        (0.3, 79.9, "B"),
        (0.8, 30.0, "C"),
        (0.9, 25.0, "D"),
        (0.95, 24.0, "E"),
        (1.01, 50.0, "F"),
        (0.2, 14.9, "F"),
        (NAN, 35.0, "C"),
        (0.75, NAN, "C"),
    ],
)
def test_level_of_service_by_regulation(vc: float, speed: float, level: str) -> None:
    # KM 14/2006, secondary arterial
    assert traffic.LEVELS[traffic.level_of_service(np.array([vc]), np.array([speed]))[0]] == level


@pytest.mark.parametrize(
    ("share", "vc", "level"),
    [
        (0.81, NAN, "A"),
        (0.80, NAN, "B"),
        (0.67, NAN, "C"),
        (0.50, 0.9, "D"),
        (0.40, 1.0, "E"),
        (0.30, 1.0, "F"),
        (0.9, 1.01, "F"),
        (NAN, 1.2, "F"),
    ],
)
def test_level_of_service_hcm(share: float, vc: float, level: str) -> None:
    assert traffic.LEVELS[traffic.level_of_service_hcm(np.array([share * 100.0]), 100.0, vc)[0]] == level


def test_unknown_levels_and_empty() -> None:
    assert traffic.level_of_service(np.array([NAN]), np.array([NAN]))[0] == -1
    assert traffic.level_of_service_hcm(np.array([NAN]), 50.0)[0] == -1
    assert traffic.level_of_service(np.array([]), np.array([])).shape == (0,)


@given(st.floats(0.0, 2.0), st.floats(0.0, 150.0), st.floats(0.0, 1.0), st.floats(0.0, 50.0))
def test_more_saturation_or_less_speed_is_never_better(vc, speed, more, slower) -> None:
    here = traffic.level_of_service(np.array([vc]), np.array([speed]))
    assert traffic.level_of_service(np.array([vc + more]), np.array([max(speed - slower, 0.0)])) >= here


def test_peak_hour() -> None:
    quarters = np.array([[100.0, 10.0], [200.0, NAN], [250.0, 10.0], [300.0, 10.0], [250.0, 10.0]])
    first, vehicles, factor = traffic.peak_hour(quarters)
    # 200 + 250 + 300 + 250 = 1000 and 1000 / 1200; the second station never has a whole hour
    assert first.tolist() == [1, -1]
    np.testing.assert_allclose(vehicles, [1000.0, NAN])
    np.testing.assert_allclose(factor, [1000 / 1200, NAN])
    assert traffic.peak_hour(quarters[:3])[0].tolist() == [-1, -1]
    with pytest.raises(ValueError, match="4 quarters"):
        traffic.peak_hour_factor(np.ones(3))


@pytest.mark.parametrize(
    ("flow", "occupancy", "speed", "flag", "fault"),
    [
        (1200.0, 0.12, 60.0, GOOD, DetectorFault.NONE),  # 6 m
        (1200.0, 0.0, NAN, FAIL, DetectorFault.FLOW_WITHOUT_OCCUPANCY),
        (120.0, 0.0, NAN, GOOD, DetectorFault.NONE),  # one vehicle: 120 · 1.5 / 160000 = 0.1 %, reads as 0
        (0.0, 0.3, NAN, SUSPECT, DetectorFault.OCCUPANCY_WITHOUT_FLOW),
        (0.0, 0.0, NAN, GOOD, DetectorFault.NONE),
        (3600.0, 0.3, NAN, FAIL, DetectorFault.TOO_MANY),
        (600.0, 1.2, NAN, FAIL, DetectorFault.OUT_OF_RANGE),
        (600.0, 0.5, 60.0, SUSPECT, DetectorFault.VEHICLE_LENGTH),  # 1000 · 0.5 · 60 / 600 = 50 m
        (1800.0, 0.02, 40.0, SUSPECT, DetectorFault.VEHICLE_LENGTH),  # 0.44 m
        (NAN, NAN, 50.0, MISSING, DetectorFault.NONE),
        (600.0, NAN, 50.0, GOOD, DetectorFault.NONE),
    ],
)
def test_detector_screens(flow, occupancy, speed, flag, fault) -> None:
    flags, faults = traffic.screen_detector(
        np.array([flow]), np.array([occupancy]), np.array([speed]), 60.0, DetectorLimits()
    )
    assert (int(flags[0]), DetectorFault(int(faults[0]))) == (flag, fault)


def test_a_gap_neither_ends_nor_lengthens_a_constant_run() -> None:
    runs = traffic.ConstantOccupancy.empty(1)
    found = [bool(runs.step(np.array([v]), 2)[0]) for v in (0.3, 0.3, NAN, 0.3, 0.31, 0.31, 0.0, 0.0, 0.0, 0.0)]
    assert found == [False, False, False, True] + [False] * 6
