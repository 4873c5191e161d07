"""Traffic: demand over day and week, speed, flow and occupancy that agree with each other, and jams behind incidents.

Demand never exceeds capacity by itself here: only an incident makes a queue. It is one queue (vehicles that could not
pass), which grows upstream over the counters of its road; drivers who see it go another way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

JAM_DENSITY_VEH_KM = 140.0
"""Vehicles per km and lane at standstill."""

DETECTED_LENGTH_M = 5.8
"""Mean vehicle and detector: occupancy = density · this / 1000 (FHWA Traffic Detector Handbook)."""

DIVERSION_KM = 1.2
"""Queue length at which all but 1/e of the drivers have gone another way."""

CLEARING_MIN = 15.0
"""Time from the first lane's opening to full capacity."""

QUEUE_EDGE_KM = 0.08
"""Half the stretch over which the end of a queue changes speed."""

# Share of the rush hour's demand at every full hour, Monday to Friday and at the weekend.
_WEEKDAY = [0.10, 0.07, 0.05, 0.05, 0.09, 0.28, 0.72, 0.98, 0.90, 0.76, 0.74, 0.78]
_WEEKDAY += [0.82, 0.80, 0.78, 0.84, 0.94, 1.00, 0.93, 0.78, 0.62, 0.46, 0.29, 0.17]
_WEEKEND = [0.17, 0.11, 0.07, 0.06, 0.08, 0.17, 0.34, 0.46, 0.58, 0.72, 0.82, 0.86]
_WEEKEND += [0.88, 0.86, 0.86, 0.88, 0.92, 0.95, 0.94, 0.88, 0.74, 0.56, 0.38, 0.25]


def demand_share(local_hour: Floats, weekend: npt.NDArray[np.bool_]) -> Floats:
    """Demand as a share of the rush hour's; hours [0, 24) of local time, same shape as ``weekend``."""
    hours = np.arange(25.0)
    weekday = np.interp(local_hour, hours, [*_WEEKDAY, _WEEKDAY[0]])
    return np.where(weekend, np.interp(local_hour, hours, [*_WEEKEND, _WEEKEND[0]]), weekday)


def greenshields(flow_ratio: Floats, free_km_h: Floats, *, congested: bool = False) -> tuple[Floats, Floats]:
    """Speed and density per lane for a flow, on the free or on the congested side of the diagram.

    Parameters
    ----------
    flow_ratio : float array
        Flow over capacity, 0-1.
    free_km_h : float array that broadcasts against it

    Returns
    -------
    speed [km/h], density [veh/km and lane]

    References
    ----------
    Greenshields 1935: v = vf (1 - k/kj), capacity = vf kj / 4.

    Examples
    --------
    >>> v, k = greenshields(np.array([0.75]), np.array([40.0]))
    >>> v, k, v * k / (40 * 140 / 4)
    (array([30.]), array([35.]), array([0.75]))
    """
    root = np.sqrt(np.clip(1.0 - flow_ratio, 0.0, 1.0))
    share = 0.5 * (1.0 - root) if congested else 0.5 * (1.0 + root)
    return free_km_h * share, JAM_DENSITY_VEH_KM * (1.0 - share)


def capacity_veh_h(free_km_h: Floats) -> Floats:
    """Capacity per lane by Greenshields' diagram."""
    return free_km_h * JAM_DENSITY_VEH_KM / 4.0


@dataclass(frozen=True)
class Incident:
    """A lane-blocking incident on one road in one direction, in minutes since its episode began."""

    road: int
    direction: int
    chainage_km: float
    start_min: float
    end_min: float
    """When the first lane is opened again."""
    capacity_left: float
    """Share of capacity that passes."""


def queue_km(incident: Incident, demand: Floats, free_km_h: float) -> tuple[Floats, Floats]:
    """Length of the queue behind an incident, and the flow out of it, at every minute.

    Parameters
    ----------
    demand : (t,) float array
        Flow that would arrive, as a share of capacity, at every minute of the episode.

    Returns
    -------
    (t,) length [km] and (t,) outflow as a share of capacity. The queue is empty at minute 0.

    Notes
    -----
    Vehicles are counted: queue += arrivals - departures. Its length follows from the density in the queue less that
    of the arriving traffic, which stood on the same road already.
    """
    minute = np.arange(demand.size)
    cleared = np.clip((minute - incident.end_min) / CLEARING_MIN, 0.0, 1.0)
    left = incident.capacity_left
    passing = np.where(minute < incident.start_min, 1.0, left + (1.0 - left) * cleared)
    capacity_km = float(capacity_veh_h(np.array(free_km_h))) / 60.0  # vehicles per minute and lane
    vehicles = 0.0
    length = np.zeros(demand.size)
    for i in range(demand.size):
        if i:
            arriving = float(demand[i]) * np.exp(-length[i - 1] / DIVERSION_KM)
            vehicles = max(0.0, vehicles + (arriving - float(passing[i])) * capacity_km)
        _, dense = greenshields(passing[i : i + 1], np.array([free_km_h]), congested=True)
        _, sparse = greenshields(np.minimum(demand[i : i + 1], 0.95), np.array([free_km_h]))
        # where the queue discharges at capacity it is hardly denser than what arrives: bound the stretch
        length[i] = vehicles / max(float(dense[0] - sparse[0]), 25.0)
    return length, passing


def in_queue(length_km: Floats, behind_km: Floats) -> Floats:
    """How much (0-1) places that far behind an incident stand in its queue; shapes (t,) and (c,) → (t, c)."""
    edge = np.clip((length_km[:, None] - behind_km[None, :]) / (2 * QUEUE_EDGE_KM) + 0.5, 0.0, 1.0)
    edge = edge * edge * (3.0 - 2.0 * edge)
    return np.where((behind_km >= 0.0)[None, :] & (length_km > 0.0)[:, None], edge, 0.0)


def rain_slows(rain_mm_h: Floats) -> tuple[Floats, Floats]:
    """Factors on free speed and on capacity in rain: down by 12 % and 10 % in heavy rain (order of the HCM's)."""
    share = rain_mm_h / (rain_mm_h + 12.0)
    return 1.0 - 0.14 * share, 1.0 - 0.11 * share
