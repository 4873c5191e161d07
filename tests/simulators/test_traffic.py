"""Traffic: the three quantities agree, the queue counts its vehicles, incidents show where they should."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators import traffic


@given(st.floats(0.001, 0.999), st.floats(20, 90), st.booleans())
def test_flow_is_speed_times_density(ratio: float, free: float, congested: bool) -> None:
    speed, density = traffic.greenshields(np.array([ratio]), np.array([free]), congested=congested)
    assert speed[0] * density[0] == pytest.approx(ratio * free * 140 / 4)
    assert (density[0] >= 70 - 1e-9) == congested or ratio > 0.999


def test_capacity_runs_at_half_the_free_speed() -> None:
    speed, density = traffic.greenshields(np.array([1.0]), np.array([48.0]))
    assert speed[0] == 24.0 and density[0] == 70.0


def test_demand_has_its_rush_hours_on_weekdays_only() -> None:
    hours = np.arange(0, 24, 0.25)
    weekday = traffic.demand_share(hours, np.zeros(hours.size, bool))
    weekend = traffic.demand_share(hours, np.ones(hours.size, bool))
    assert weekday.max() == 1.0 and weekday[hours == 7.0] > 0.9 and weekend[hours == 7.0] < 0.5
    assert weekday[hours == 3.0] < 0.1 and weekend.min() > 0 and weekend.max() < 1.0


def incident(**changed: float) -> traffic.Incident:
    usual = {"road": 0, "direction": 1, "chainage_km": 3.0, "start_min": 20.0, "end_min": 60.0, "capacity_left": 0.3}
    return traffic.Incident(**(usual | changed))  # type: ignore[arg-type]


def test_without_demand_over_what_passes_there_is_no_queue() -> None:
    length, _ = traffic.queue_km(incident(), np.full(240, 0.29), 45.0)
    assert not length.any()


def test_the_queue_grows_behind_an_incident_and_dissolves_after_it() -> None:
    length, passing = traffic.queue_km(incident(), np.full(300, 0.85), 45.0)
    assert not length[:20].any()
    assert (np.diff(length[21:55]) > 0).all() and 0.5 < length[59] < 3.0
    assert not length[150:].any()
    assert passing[19] == 1.0 and passing[30] == 0.3 and passing[100] == 1.0


def test_vehicles_in_the_queue_are_those_that_came_and_did_not_pass() -> None:
    demand = np.full(300, 0.8)
    length, passing = traffic.queue_km(incident(), demand, 40.0)
    capacity = 40.0 * 140 / 4 / 60  # vehicles per minute and lane
    vehicles = 0.0
    for i in range(21, 60):
        vehicles += (demand[i] * np.exp(-length[i - 1] / 1.2) - passing[i]) * capacity
        packed = 140 * (1 + np.sqrt(1 - passing[i])) / 2
        sparse = 140 * (1 - np.sqrt(1 - demand[i])) / 2
        assert length[i] * (packed - sparse) == pytest.approx(
            vehicles + (demand[20] - passing[20]) * capacity, rel=1e-6
        )


def test_only_places_behind_the_incident_and_within_its_queue_are_in_it() -> None:
    inside = traffic.in_queue(np.array([0.0, 1.0]), np.array([-0.5, 0.2, 0.8, 2.0]))
    assert inside.tolist() == [[0, 0, 0, 0], [0, 1, 1, 0]]


def test_rain_slows_a_little_and_never_stops() -> None:
    speed, capacity = traffic.rain_slows(np.array([0.0, 5.0, 50.0, 500.0]))
    assert speed[0] == capacity[0] == 1.0
    assert (np.diff(speed) < 0).all() and speed[-1] > 0.85 and capacity[-1] > 0.88
