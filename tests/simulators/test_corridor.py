from __future__ import annotations

import numpy as np
import pytest

from simulators.corridor import Blockage, Corridor, Day, morning, simulate

CORRIDOR = Corridor()


def steady(share: float, *blockages: Blockage, seed: int = 1, hours: float = 1.0) -> Day:
    demand = np.full(round(hours * 3600 / CORRIDOR.step_s), share * CORRIDOR.capacity_veh_h)
    return Day(seed, demand, np.zeros_like(demand), 1.0, blockages)


def test_no_vehicle_is_lost_or_made() -> None:
    found = simulate(CORRIDOR, [morning(CORRIDOR, seed, blockages=seed % 3) for seed in range(6)])
    np.testing.assert_allclose(found.entered, found.left + found.on_road, rtol=1e-12)
    np.testing.assert_allclose(found.arrived, found.entered + found.waiting, rtol=1e-12)
    assert found.left.min() > 10_000.0


def test_free_traffic_agrees_with_the_diagram() -> None:
    # half of 6,000 veh/h on three lanes at 80 km/h: 12.5 veh/km and lane, over 6 m 7.5 %
    found = simulate(CORRIDOR, [steady(0.5)])
    settled = slice(60, None)
    assert found.flow_veh_h[0, settled].mean() == pytest.approx(3000.0, rel=0.02)
    assert found.occupancy[0, settled].mean() == pytest.approx(0.075, rel=0.02)
    assert np.nanmean(found.speed_km_h[0, settled]) == pytest.approx(80.0, rel=0.02)


def test_the_queue_behind_a_blockage() -> None:
    # cell 30 passes 30 %, less 5 % for the queue: 1,710 veh/h. Upstream q = w (kj - k): 125 - 570/20 = 96.5 veh/km
    day = steady(0.6, Blockage(30, 1200.0, 3600.0, 0.3))
    found = simulate(CORRIDOR, [day])
    station = CORRIDOR.stations
    late = slice(90, 120)
    up, down = int(np.searchsorted(station, 30)) - 1, int(np.searchsorted(station, 30)) + 1
    assert found.flow_veh_h[0, late, down].mean() == pytest.approx(1710.0, rel=0.05)
    assert found.occupancy[0, late, up].mean() == pytest.approx(96.5 * 6.0 / 1000.0, rel=0.05)
    assert found.delayed == ((True,),)
    assert simulate(CORRIDOR, [steady(0.2, Blockage(30, 1200.0, 3600.0, 0.3))]).delayed == ((False,),)


def test_rush_hour_queues_at_the_bottleneck_without_an_incident() -> None:
    found = simulate(CORRIDOR, [morning(CORRIDOR, 3, blockages=0)])
    upstream = int(np.searchsorted(CORRIDOR.stations, CORRIDOR.bottleneck_cell)) - 1
    assert found.occupancy[0, :, upstream].max() > 0.2
    assert found.occupancy[0, -20:, upstream].mean() < 0.12


def test_one_seed_one_day() -> None:
    a, b = (simulate(CORRIDOR, [morning(CORRIDOR, 5)]) for _ in range(2))
    np.testing.assert_array_equal(a.flow_veh_h, b.flow_veh_h)
    together = simulate(CORRIDOR, [morning(CORRIDOR, 4), morning(CORRIDOR, 5)])
    np.testing.assert_array_equal(together.occupancy[1], a.occupancy[0])
    with pytest.raises(ValueError, match="equally many steps"):
        simulate(CORRIDOR, [steady(0.5), steady(0.5, hours=2.0)])
