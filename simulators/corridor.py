"""A road with detectors: queues behind bottlenecks and blockages by the cell transmission model, with known truth.

Vehicles are counted: what enters is on the road or has left. It exists to score incident detectors, so it has what
deceives them: a rush hour that outgrows a bottleneck each day, an on-ramp, capacity that differs from day to day and
drops in queues, demand that fluctuates, and counts with noise. It has no lanes, no stop-and-go waves and no signals.
All days are simulated at once. Street traffic of the simulated cities is in ``simulators.traffic``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Corridor:
    """A road in one direction."""

    cells: int = 60
    step_s: float = 5.0
    free_km_h: float = 80.0
    wave_km_h: float = 20.0
    lanes: float = 3.0
    jam_veh_km: float = 125.0
    """Per lane. With the speeds above a lane carries 2,000 veh/h."""
    bottleneck_cell: int = 42
    bottleneck_share: float = 0.85
    """Capacity of that cell."""
    ramp_cell: int = 38
    """The on-ramp's vehicles enter this cell, before the main road's."""
    queue_drop: float = 0.05
    """Share of capacity that a cell in a queue loses (vehicles that start again leave gaps)."""
    detector_every: int = 5
    interval_s: float = 30.0
    detected_length_m: float = 6.0

    @property
    def cell_km(self) -> float:
        """One cell: what is driven freely in a step."""
        return self.free_km_h * self.step_s / 3600.0

    @property
    def capacity_veh_h(self) -> float:
        """Of all lanes; Daganzo: vf · w · kj / (vf + w)."""
        return self.lanes * self.free_km_h * self.wave_km_h * self.jam_veh_km / (self.free_km_h + self.wave_km_h)

    @property
    def stations(self) -> npt.NDArray[np.intp]:
        """Cells with a detector."""
        return np.arange(self.detector_every // 2, self.cells, self.detector_every)


@dataclass(frozen=True)
class Blockage:
    """An incident."""

    cell: int
    start_s: float
    end_s: float
    capacity_left: float


@dataclass(frozen=True)
class Day:
    """What comes, and what happens."""

    seed: int
    demand_veh_h: Floats
    """(steps,) at the upstream end."""
    ramp_veh_h: Floats
    capacity_factor: float
    blockages: tuple[Blockage, ...]


@dataclass(frozen=True)
class Detected:
    """Readings of all days, (days, intervals, stations), of all lanes together, and the account of vehicles."""

    flow_veh_h: Floats
    occupancy: Floats
    speed_km_h: Floats
    entered: Floats
    """(days,) vehicles, as the next three."""
    left: Floats
    on_road: Floats
    waiting: Floats
    """At the two entrances."""
    arrived: Floats
    delayed: tuple[tuple[bool, ...], ...]
    """For each day's blockages: whether one held back vehicles, that is, can be seen at all."""


def morning(corridor: Corridor, seed: int, *, hours: float = 4.0, blockages: int = 2) -> Day:
    """A morning with its rush hour, about 50 minutes in which the bottleneck is too narrow, and random blockages."""
    rng = np.random.default_rng(seed)
    steps = round(hours * 3600.0 / corridor.step_s)
    hour = np.arange(steps) * corridor.step_s / 3600.0
    peak, width = hours / 2 + rng.normal(0.0, 0.15), 0.8
    profile = 0.45 + 0.42 * np.exp(-(((hour - peak) / width) ** 2)) + rng.normal(0.0, 0.02)
    minutes = int(np.ceil(hours * 60)) + 1
    noise = np.zeros(minutes)
    for i in range(1, minutes):
        noise[i] = 0.7 * noise[i - 1] + rng.normal(0.0, 0.04)
    wobble = 1.0 + np.interp(hour * 60.0, np.arange(minutes), noise)
    demand = np.maximum(corridor.capacity_veh_h * profile * wobble * 0.9, 0.0)
    found: list[Blockage] = []
    for k in range(blockages):
        begin = (0.15 + (k + rng.uniform(0.05, 0.6)) * 0.8 / blockages) * hours * 3600.0
        cell = int(rng.integers(corridor.detector_every, corridor.cells - corridor.detector_every))
        found.append(Blockage(cell, begin, begin + rng.uniform(600.0, 1800.0), rng.uniform(0.2, 0.65)))
    return Day(seed, demand, demand * 0.22, float(np.clip(rng.normal(1.0, 0.03), 0.9, 1.1)), tuple(found))


def simulate(corridor: Corridor, days: Sequence[Day]) -> Detected:
    """Drive all days through the corridor.

    Notes
    -----
    Daganzo 1994 (cell transmission): a cell sends min(n, Q) and takes min(Q, w/vf · (N - n)); a blockage lowers its Q.
    Merge with priority to the ramp, a simple case of Daganzo 1995. Counts are Poisson of what passes; occupancy and
    speed scatter with the number of vehicles counted.

    Raises
    ------
    ValueError
        Days of different length.
    """
    if len({day.demand_veh_h.size for day in days}) != 1:
        raise ValueError("days must have equally many steps")
    c, count, steps = corridor, len(days), days[0].demand_veh_h.size
    per_step = c.step_s / 3600.0
    room = c.jam_veh_km * c.lanes * c.cell_km
    usual = np.full((count, c.cells), c.capacity_veh_h * per_step)
    usual *= np.array([day.capacity_factor for day in days])[:, None]
    usual[:, c.bottleneck_cell] *= c.bottleneck_share
    demand = np.stack([day.demand_veh_h for day in days]) * per_step
    ramp = np.stack([day.ramp_veh_h for day in days]) * per_step
    critical = usual.max(axis=1, keepdims=True)
    n, waiting, at_ramp = np.zeros((count, c.cells)), np.zeros(count), np.zeros(count)
    entered, left = np.zeros(count), np.zeros(count)
    per_interval = round(c.interval_s / c.step_s)
    intervals, station = steps // per_interval, c.stations
    passed = np.zeros((count, intervals, station.size))
    density, delayed = np.zeros_like(passed), [[False] * len(day.blockages) for day in days]
    for t in range(steps):
        capacity = usual.copy()
        for d, day in enumerate(days):
            for b in day.blockages:
                if b.start_s <= t * c.step_s < b.end_s:
                    capacity[d, b.cell] *= b.capacity_left
        send = np.minimum(n, np.where(n > critical * 1.05, capacity * (1.0 - c.queue_drop), capacity))
        take = np.minimum(capacity, c.wave_km_h / c.free_km_h * (room - n))
        waiting += demand[:, t]
        at_ramp += ramp[:, t]
        merging = np.minimum(at_ramp, take[:, c.ramp_cell])
        take[:, c.ramp_cell] -= merging
        flow = np.empty((count, c.cells + 1))
        flow[:, 0] = np.minimum(waiting, take[:, 0])
        flow[:, 1:-1] = np.minimum(send[:, :-1], take[:, 1:])
        flow[:, -1] = send[:, -1]
        for d, day in enumerate(days):
            for i, b in enumerate(day.blockages):
                if b.start_s <= t * c.step_s < b.end_s and n[d, b.cell - 1] > 1.5 * critical[d, 0]:
                    delayed[d][i] = True
        at = t // per_interval
        if at < intervals:
            passed[:, at] += flow[:, station + 1]
            density[:, at] += n[:, station] / (c.cell_km * c.lanes * per_interval)
        n += flow[:, :-1] - flow[:, 1:]
        n[:, c.ramp_cell] += merging
        waiting -= flow[:, 0]
        at_ramp -= merging
        entered += flow[:, 0] + merging
        left += flow[:, -1]
    counts, occupancy, speed = np.zeros_like(passed), np.zeros_like(passed), np.zeros_like(passed)
    for d, day in enumerate(days):
        rng = np.random.default_rng([day.seed, 1])
        counts[d] = rng.poisson(passed[d])
        scatter = 0.25 / np.sqrt(np.maximum(counts[d], 1.0))
        occupancy[d] = np.clip(density[d] * c.detected_length_m / 1000.0 * rng.normal(1.0, scatter), 0.0, 1.0)
        true = passed[d] * 3600.0 / c.interval_s / np.maximum(density[d] * c.lanes, 1e-9)
        speed[d] = np.where(counts[d] > 0, np.maximum(true * rng.normal(1.0, scatter * 0.4), 1.0), np.nan)
    return Detected(
        counts * 3600.0 / c.interval_s,
        np.round(occupancy, 3),
        speed,
        entered,
        left,
        n.sum(axis=1),
        waiting + at_ramp,
        (demand + ramp).sum(axis=1),
        tuple(tuple(found) for found in delayed),
    )
