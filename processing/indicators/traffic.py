"""Traffic: density, mean speeds, headway, car equivalents, capacity, saturation, level of service, detector screens.

Every function takes arrays of any shape that broadcast against each other; NaN means missing and stays NaN. Flows are
of one station: of all its lanes together where ``lanes`` is asked for, else of one lane. Congestion and incidents are
judged in ``processing.indicators.incidents``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag

import numpy as np
import numpy.typing as npt

from telemetry.quality import FAIL, GOOD, MISSING, SUSPECT

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Levels = npt.NDArray[np.int8]
Flags = npt.NDArray[np.uint8]

LEVELS = "ABCDEF"
"""Levels of service by their number: 0 is A, 5 is F; -1 stands for unknown."""

# ---------------------------------------------------------------------------------------------------- flow and speed


def density_veh_km(occupancy: Floats, detected_length_m: Floats | float) -> Floats:
    """Vehicles per km and lane from the share of time that the detector is covered.

    Parameters
    ----------
    occupancy : float array
        0-1.
    detected_length_m : float array or float
        Mean vehicle length plus length of the detection zone. [m]

    Raises
    ------
    ValueError
        A length that is not positive.

    References
    ----------
    FHWA, Traffic Detector Handbook: k = occ / (Lv + Ld). Holds where vehicles are about as long at all speeds.

    Examples
    --------
    >>> density_veh_km(np.array([0.12]), 6.0)
    array([20.])
    """
    _positive("detected_length_m", detected_length_m)
    return np.asarray(1000.0 * np.asarray(occupancy) / detected_length_m)


def speed_from_occupancy(flow_veh_h: Floats, occupancy: Floats, detected_length_m: Floats | float) -> Floats:
    """Space-mean speed of one lane that a single loop implies, v = q/k. [km/h]; NaN where nothing covers the loop.

    Examples
    --------
    >>> speed_from_occupancy(np.array([1200.0, 0.0]), np.array([0.12, 0.0]), 6.0)
    array([60., nan])
    """
    density = density_veh_km(occupancy, detected_length_m)
    return _ratio(np.asarray(flow_veh_h, dtype=np.float64), density)


def space_mean_speed(speed_km_h: Floats, vehicles: Floats, axis: int = -1) -> Floats:
    """Mean speed over a stretch of road: the harmonic mean of speeds at a point, weighted by how many drove so.

    Parameters
    ----------
    speed_km_h : float array
        Speeds of vehicles, or mean speeds of groups. Zero, negative or NaN: the group does not count, since who
        stands does not pass the point.
    vehicles : float array that broadcasts against it
        Vehicles (or flow) of each group.
    axis : int
        The axis over which the groups lie.

    Returns
    -------
    float array without that axis. [km/h]; NaN where no group counts.

    References
    ----------
    Wardrop 1952; FHWA Traffic Detector Handbook: density = flow / harmonic mean.

    Examples
    --------
    Half the vehicles at 60, half at 30: over one km they take 1 and 2 minutes.

    >>> float(space_mean_speed(np.array([60.0, 30.0]), np.array([1.0, 1.0])))
    40.0
    """
    speed, weight = _groups(speed_km_h, vehicles)
    weight = np.where(speed > 0.0, weight, 0.0)
    hours_per_km = np.divide(weight, speed, out=np.zeros_like(weight), where=weight > 0.0)
    return _ratio(weight.sum(axis=axis), hours_per_km.sum(axis=axis))


def flow_weighted_speed(speed_km_h: Floats, flow_veh_h: Floats, axis: int = -1) -> Floats:
    """Time-mean speed over intervals or lanes: each counts as much as the vehicles that drove it. [km/h]

    Groups without a speed or without vehicles do not count; NaN where none does.

    Examples
    --------
    >>> float(flow_weighted_speed(np.array([60.0, 30.0, np.nan]), np.array([100.0, 300.0, 0.0])))
    37.5
    """
    speed, weight = _groups(speed_km_h, flow_veh_h)
    weight = np.where(speed >= 0.0, weight, 0.0)
    total = np.where(weight > 0.0, weight * np.where(weight > 0.0, speed, 0.0), 0.0).sum(axis=axis)
    return _ratio(total, weight.sum(axis=axis))


def mean_headway_s(flow_veh_h: Floats, lanes: Floats | float = 1.0) -> Floats:
    """Mean time between the fronts of vehicles of one lane, 3600/q; infinite where nobody drives.

    Examples
    --------
    >>> mean_headway_s(np.array([1800.0, 0.0]), lanes=2)
    array([ 4., inf])
    """
    flow = np.asarray(flow_veh_h, dtype=np.float64)
    with np.errstate(divide="ignore"):
        return np.asarray(3600.0 * np.asarray(lanes, dtype=np.float64) / np.where(flow < 0.0, np.nan, flow))


def _groups(speed_km_h: Floats, vehicles: Floats) -> tuple[Floats, Floats]:
    speed, weight = np.broadcast_arrays(
        np.asarray(speed_km_h, dtype=np.float64), np.asarray(vehicles, dtype=np.float64)
    )
    return speed, np.where(weight > 0.0, weight, 0.0)


def _ratio(above: Floats, below: Floats) -> Floats:
    """above / below, NaN where below is not positive."""
    above, below = np.broadcast_arrays(above, below)
    result: Floats = np.divide(above, below, out=np.full(below.shape, np.nan), where=below > 0.0)
    return result


def _positive(name: str, value: Floats | float) -> None:
    if not np.all(np.asarray(value) > 0.0):
        raise ValueError(f"{name} must be greater than 0, got {value}")


# ------------------------------------------------------------------------------------------ car equivalents, capacity


class RoadType(IntEnum):
    """Kinds of urban road of the manual; the numbers are rows of its tables."""

    DIVIDED = 0
    """Divided (4/2 T, 6/2 T, 8/2 T); per lane."""
    FOUR_LANES_UNDIVIDED = 1
    """4/2 TT; per lane."""
    TWO_LANES_UNDIVIDED = 2
    """2/2 TT; both directions together."""
    ONE_WAY = 3
    """Per lane; what goes on beside it tells as much as on two undivided lanes."""


class SideFriction(IntEnum):
    """Class of what goes on beside the road (hambatan samping)."""

    VERY_LOW = 0
    LOW = 1
    MEDIUM = 2
    HIGH = 3
    VERY_HIGH = 4


BASE_CAPACITY_PCU_H = np.array([1650.0, 1500.0, 2900.0, 1650.0])
"""C0 by RoadType: per lane, per lane, total of both directions, per lane.

MKJI 1997 urban roads; PKJI 2014 has the same (unverified)."""

_LANE_WIDTH_M = np.array([3.0, 3.25, 3.5, 3.75, 4.0])
_LANE_FACTOR = np.array([[0.92, 0.96, 1.00, 1.04, 1.08], [0.91, 0.95, 1.00, 1.05, 1.09]])
_ROAD_WIDTH_M = np.array([5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0])
_ROAD_FACTOR = np.array([0.56, 0.87, 1.00, 1.14, 1.25, 1.29, 1.34])

# Rows: SideFriction. Columns: effective width of the shoulder 0.5, 1.0, 1.5, 2.0 m.
_SHOULDER_M = np.array([0.5, 1.0, 1.5, 2.0])
_FRICTION_FACTOR = np.array(
    [
        [
            [0.96, 0.98, 1.01, 1.03],
            [0.94, 0.97, 1.00, 1.02],
            [0.92, 0.95, 0.98, 1.00],
            [0.88, 0.92, 0.95, 0.98],
            [0.84, 0.88, 0.92, 0.96],
        ],
        [
            [0.96, 0.99, 1.01, 1.03],
            [0.94, 0.97, 1.00, 1.02],
            [0.92, 0.95, 0.98, 1.00],
            [0.87, 0.91, 0.94, 0.98],
            [0.80, 0.86, 0.90, 0.95],
        ],
        [
            [0.94, 0.96, 0.99, 1.01],
            [0.92, 0.94, 0.97, 1.00],
            [0.89, 0.92, 0.95, 0.98],
            [0.82, 0.86, 0.90, 0.95],
            [0.73, 0.79, 0.85, 0.91],
        ],
    ]
)

_CITY_MILLION = np.array([0.1, 0.5, 1.0, 3.0])
_CITY_FACTOR = np.array([0.86, 0.90, 0.94, 1.00, 1.04])


def capacity_pcu_h(
    road: RoadType,
    *,
    width_m: Floats | float,
    lanes: Floats | float = 1.0,
    main_direction_share: Floats | float = 0.5,
    friction: SideFriction = SideFriction.LOW,
    shoulder_m: Floats | float = 1.0,
    inhabitants_million: Floats | float = 1.0,
) -> Floats:
    """Capacity of an urban road, C = C0 · FC_LJ · FC_PA · FC_HS · FC_UK, in passenger cars an hour (smp/jam).

    Parameters
    ----------
    road : RoadType
    width_m : float array or float
        Width of a lane; of a two-lane undivided road of the whole carriageway. [m]
    lanes : float array or float
        Lanes counted together (of one direction where it is divided). A two-lane undivided road is taken whole.
    main_direction_share : float array or float
        Share of the busier direction on an undivided road, 0.5-0.7; divided and one-way roads have no such factor.
    friction : SideFriction
    shoulder_m : float array or float
        Effective width of the shoulder. [m]
    inhabitants_million : float array or float
        Of the city.

    Returns
    -------
    float array. Between the rows of the tables it is interpolated; beyond their ends the end holds.

    Raises
    ------
    ValueError
        A width or number of lanes that is not positive, or a share outside 0.5-1.

    Notes
    -----
    Tables as printed for MKJI 1997 urban roads in public theses (C0, lane width, direction: Departemen PU 1997 in
    text-id.123dok.com 4yr85o1vz and wq2mrdr2y; friction with shoulders: same site, oy8r4p55q, where the cell
    "divided, medium, 0.5 m" reads 0.93 and the last column of four undivided lanes seems to be misprinted: those
    cells are from general knowledge, unverified). City size: PKJI 2014. PKJI 2023 (SE 21/SE/Db/2023) names the same
    factors; its numbers are unverified. Six lanes and more: per lane as four.

    Examples
    --------
    Two lanes of 3.5 m of a divided road, low friction, 1 m shoulder, 2.5 million inhabitants:
    1650 · 2 · 1.00 · 0.97 · 1.00.

    >>> float(capacity_pcu_h(RoadType.DIVIDED, width_m=3.5, lanes=2, inhabitants_million=2.5))
    3201.0
    """
    _positive("width_m", width_m)
    _positive("lanes", lanes)
    share = np.asarray(main_direction_share, dtype=np.float64)
    if np.any((share < 0.5) | (share > 1.0)):
        raise ValueError(f"main_direction_share must be 0.5 to 1, got {main_direction_share}")
    if road is RoadType.TWO_LANES_UNDIVIDED:
        base: Floats = BASE_CAPACITY_PCU_H[road] * np.interp(width_m, _ROAD_WIDTH_M, _ROAD_FACTOR)
        direction = np.interp(share, [0.5, 0.7], [1.0, 0.88])
    else:
        base = BASE_CAPACITY_PCU_H[road] * np.asarray(lanes) * np.interp(width_m, _LANE_WIDTH_M, _LANE_FACTOR[road % 3])
        direction = np.interp(share, [0.5, 0.7], [1.0, 0.94]) if road is RoadType.FOUR_LANES_UNDIVIDED else np.ones(1)
    side = np.interp(shoulder_m, _SHOULDER_M, _FRICTION_FACTOR[min(int(road), 2), friction])
    factor = direction * side * city_size_factor(inhabitants_million)
    result: Floats = base * (factor if factor.size > 1 else factor.reshape(()))
    return result


def city_size_factor(inhabitants_million: Floats | float) -> Floats:
    """FC_UK by inhabitants; a city on a boundary belongs to the larger class.

    References
    ----------
    PKJI 2014, urban roads: under 0.1 million 0.86; 0.1-0.5 0.90; 0.5-1 0.94; 1-3 1.00; over 3 1.04.

    Examples
    --------
    >>> city_size_factor(np.array([0.12, 2.5, 10.0]))
    array([0.9 , 1.  , 1.04])
    """
    return np.asarray(_CITY_FACTOR[np.searchsorted(_CITY_MILLION, inhabitants_million, side="right")])


@dataclass(frozen=True)
class CarEquivalents:
    """Passenger cars that a vehicle of a class stands for (emp, in PKJI ekr), in thin and in dense traffic."""

    dense_from_veh_h: float
    """Flow from which the second figures hold: per lane, or of both directions on undivided roads."""
    heavy: tuple[float, float] = (1.3, 1.2)
    motorcycle: tuple[float, float] = (0.40, 0.25)


CAR_EQUIVALENTS = {
    "two lanes a direction, divided or one-way": CarEquivalents(1050.0),
    "three lanes a direction, divided or one-way": CarEquivalents(1100.0),
    "four lanes, undivided": CarEquivalents(3700.0),
    "two lanes, undivided, wider than 6 m": CarEquivalents(1800.0),
    "two lanes, undivided, up to 6 m": CarEquivalents(1800.0, motorcycle=(0.50, 0.35)),
}
"""RSNI T-14-2004 table 3 for the first two; MKJI 1997 for undivided roads (their limits of flow are unverified)."""


def flow_pcu_h(
    light_veh_h: Floats,
    heavy_veh_h: Floats,
    motorcycle_veh_h: Floats,
    equivalents: CarEquivalents,
    lanes: Floats | float = 1.0,
) -> Floats:
    """Flow in passenger cars an hour (smp/jam), with the factors of its own total.

    ``lanes``: lanes over which the flow spreads, where the limit of ``equivalents`` is per lane; 1 on undivided roads.

    Notes
    -----
    The equivalents fall by a step where traffic gets dense, and so does the result: an hour with a few vehicles more
    may have fewer passenger cars. That is the manual's.

    Examples
    --------
    400 cars, 20 lorries and 500 motorcycles on two lanes of a divided road are 460 a lane: thin.
    400 + 1.3 · 20 + 0.40 · 500.

    >>> road = CAR_EQUIVALENTS["two lanes a direction, divided or one-way"]
    >>> flow_pcu_h(np.array([400.0]), np.array([20.0]), np.array([500.0]), road, lanes=2)
    array([626.])
    """
    light, heavy, motorcycle = (np.asarray(q, dtype=np.float64) for q in (light_veh_h, heavy_veh_h, motorcycle_veh_h))
    dense = ((light + heavy + motorcycle) / lanes > equivalents.dense_from_veh_h).astype(np.intp)
    by_class = np.array(equivalents.heavy)[dense] * heavy + np.array(equivalents.motorcycle)[dense] * motorcycle
    return np.asarray(light + by_class)


def degree_of_saturation(flow: Floats, capacity: Floats | float) -> Floats:
    """DJ = q/C, both in passenger cars an hour and over the same lanes; NaN without a capacity.

    PKJI names 0.85 as the value above which something should be done (unverified); that is the city's to set.

    Examples
    --------
    >>> degree_of_saturation(np.array([2720.0]), 3200.0)
    array([0.85])
    """
    return _ratio(np.asarray(flow, dtype=np.float64), np.asarray(capacity, dtype=np.float64))


# --------------------------------------------------------------------------------------------------- level of service


@dataclass(frozen=True)
class ServiceLevels:
    """What a road must reach for each level: bounds of A, B, C, D, E; what meets none of them is F."""

    source: str
    vc_max: tuple[float, float, float, float, float]
    """Volume to capacity, at most."""
    speed_min_km_h: tuple[float, float, float, float, float]
    """Mean travel speed, at least."""


KM14_SECONDARY_ARTERIAL = ServiceLevels(
    "Peraturan Menteri Perhubungan KM 14/2006, secondary arterial and collector",
    (0.6, 0.7, 0.8, 0.9, 1.0),
    (80.0, 40.0, 30.0, 25.0, 15.0),
)
"""In the regulation E is "at capacity, about 25 km/h" and F "above 1, under 15": the range between is counted as E."""

KM14_PRIMARY_ARTERIAL = ServiceLevels(
    "Peraturan Menteri Perhubungan KM 14/2006, primary arterial (two lanes, 2,000 smp/h)",
    (0.20, 0.45, 0.70, 0.85, 1.0),
    (100.0, 80.0, 65.0, 60.0, 50.0),
)
"""As printed in text-id.123dok.com lzgxv728q, table 1."""

HCM_URBAN_STREET_SHARE = (0.80, 0.67, 0.50, 0.40, 0.30)
"""Travel speed over base free-flow speed must exceed this for A to E. HCM 6th edition, exhibit 18-1 (unverified; HCM
2010 has 0.85 for A)."""


def level_of_service(
    volume_to_capacity: Floats, speed_km_h: Floats, levels: ServiceLevels = KM14_SECONDARY_ARTERIAL
) -> Levels:
    """Level of service by Indonesian regulation: the worse of what saturation and what speed give.

    Parameters
    ----------
    volume_to_capacity, speed_km_h : float arrays that broadcast
        NaN in one: the other decides alone. Both: unknown.

    Returns
    -------
    int8 array
        0 (A) to 5 (F), -1 unknown; ``LEVELS`` has the letters.

    Examples
    --------
    >>> level_of_service(np.array([0.5, 0.5, 1.1, np.nan]), np.array([90.0, 35.0, 90.0, np.nan]))
    array([ 0,  2,  5, -1], dtype=int8)
    """
    vc, speed = np.broadcast_arrays(
        np.asarray(volume_to_capacity, dtype=np.float64), np.asarray(speed_km_h, dtype=np.float64)
    )
    by_vc = np.searchsorted(np.array(levels.vc_max), vc, side="left")
    by_speed = np.searchsorted(-np.array(levels.speed_min_km_h), -speed, side="left")
    by_vc = np.where(np.isnan(vc), -1, by_vc)
    return np.maximum(by_vc, np.where(np.isnan(speed), -1, by_speed)).astype(np.int8)


def level_of_service_hcm(
    speed_km_h: Floats, free_km_h: Floats | float, volume_to_capacity: Floats | float = np.nan
) -> Levels:
    """Level of service of an urban street by travel speed as a share of free speed; F where v/c exceeds 1.

    Parameters
    ----------
    speed_km_h : float array
        Mean travel speed over the segment, stops included. A detector away from signals sees a higher one.
    free_km_h : float array or float
        Base free-flow speed. [km/h]
    volume_to_capacity : float array or float
        NaN if it is not known.

    Returns
    -------
    int8 array
        0 (A) to 5 (F); -1 where there is no speed, unless v/c alone says F.

    Examples
    --------
    >>> level_of_service_hcm(np.array([41.0, 40.0, 14.0]), 50.0)
    array([0, 1, 5], dtype=int8)
    """
    _positive("free_km_h", free_km_h)
    share, vc = np.broadcast_arrays(
        np.asarray(speed_km_h, dtype=np.float64) / free_km_h, np.asarray(volume_to_capacity, dtype=np.float64)
    )
    level = np.searchsorted(-np.array(HCM_URBAN_STREET_SHARE), -share, side="right")
    level = np.where(np.isnan(share), -1, level)
    return np.where(vc > 1.0, 5, level).astype(np.int8)


# ---------------------------------------------------------------------------------------------------------- peak hour


def peak_hour_factor(vehicles_15min: Floats, axis: int = -1) -> Floats:
    """PHF = V / (4 · V15): how even an hour is, 0.25 to 1.

    Parameters
    ----------
    vehicles_15min : float array
        Four neighbouring quarters of an hour along ``axis``. One missing: NaN.

    Raises
    ------
    ValueError
        Not four of them.

    References
    ----------
    Highway Capacity Manual, peak-hour factor.

    Examples
    --------
    >>> float(peak_hour_factor(np.array([200.0, 250.0, 300.0, 250.0])))  # 1000 / (4 · 300)
    0.8333333333333334
    """
    quarters = np.asarray(vehicles_15min, dtype=np.float64)
    if quarters.shape[axis] != 4:
        raise ValueError(f"vehicles_15min must have 4 quarters along axis {axis}, got {quarters.shape[axis]}")
    return _ratio(quarters.sum(axis=axis), 4.0 * quarters.max(axis=axis))


def peak_hour(vehicles_15min: Floats) -> tuple[Ints, Floats, Floats]:
    """The busiest hour of each station, its vehicles and its peak-hour factor.

    Parameters
    ----------
    vehicles_15min : (quarters, ...) float array
        Consecutive quarters of an hour, NaN where missing: an hour with one of those is none.

    Returns
    -------
    first : int64 array, its first quarter (the earliest of equals), -1 if there is no whole hour
    vehicles, factor : float arrays, NaN there

    Examples
    --------
    >>> first, vehicles, factor = peak_hour(np.array([100.0, 200.0, 250.0, 300.0, 250.0, 50.0]))
    >>> int(first), float(vehicles)
    (1, 1000.0)
    """
    quarters = np.asarray(vehicles_15min, dtype=np.float64)
    if quarters.shape[0] < 4:
        nothing = np.full(quarters.shape[1:], np.nan)
        return np.full(quarters.shape[1:], -1, dtype=np.int64), nothing, nothing.copy()
    hours = np.lib.stride_tricks.sliding_window_view(quarters, 4, axis=0)
    volume = hours.sum(axis=-1)
    first = np.where(np.isnan(volume), -np.inf, volume).argmax(axis=0)
    vehicles = np.take_along_axis(volume, first[None], axis=0)[0]
    factor = np.take_along_axis(_ratio(volume, 4.0 * hours.max(axis=-1)), first[None], axis=0)[0]
    return np.where(np.isnan(vehicles), -1, first).astype(np.int64), vehicles, factor


# --------------------------------------------------------------------------------------------------- detector screens


class DetectorFault(IntFlag):
    """What does not agree within one interval of one detector; more than one may."""

    NONE = 0
    OUT_OF_RANGE = 1
    """Occupancy outside 0-1, or a negative flow or speed."""
    TOO_MANY = 2
    """More vehicles than a lane can carry: chatter or cross-talk."""
    FLOW_WITHOUT_OCCUPANCY = 4
    """Vehicles were counted, but none covered the detector."""
    OCCUPANCY_WITHOUT_FLOW = 8
    """Covered, but nobody passed: a stuck loop, or a queue that stands."""
    VEHICLE_LENGTH = 16
    """Flow, occupancy and speed together imply vehicles that do not exist."""
    CONSTANT_OCCUPANCY = 32
    """The same occupancy above zero for too long; found by ``ConstantOccupancy``."""


@dataclass(frozen=True)
class DetectorLimits:
    """What a detector of one lane can believably report. Defaults are general practice, unverified: set per city."""

    flow_max_veh_h: float = 3000.0
    """Above this it fails (PeMS fails a 30 s count above 3,000 veh/h/lane). Motorcycles may need more."""
    speed_max_km_h: float = 160.0
    """Nobody drives faster."""
    length_min_m: float = 1.5
    length_max_m: float = 25.0
    """Bounds of the mean detected length 1000 · occ · v / q."""
    occupancy_resolution: float = 0.01
    """Step in which occupancy is reported: less than this may read as 0."""
    vehicles_min: float = 5.0
    """Lengths are judged over at least so many vehicles."""


def screen_detector(
    flow_veh_h: Floats, occupancy: Floats, speed_km_h: Floats, interval_s: Floats | float, limits: DetectorLimits
) -> tuple[Flags, Flags]:
    """Compare flow, occupancy and speed of the same interval and lane with each other.

    Parameters
    ----------
    flow_veh_h, occupancy, speed_km_h : float arrays that broadcast
        NaN: not measured; tests that need it are left out.
    interval_s : float array or float
        Length of the interval. [s]

    Returns
    -------
    flag : uint8 array
        FAIL, SUSPECT (occupancy without flow, vehicle length), GOOD, or MISSING if flow and occupancy are both NaN.
    fault : uint8 array
        Bits of DetectorFault.

    Notes
    -----
    "Occupancy 0 with flow" is no fault where so few fast, short vehicles cover the detector for less than its
    resolution: one motorcycle in 30 s does. So it fails only if flow · shortest / fastest reaches the resolution.
    "Occupancy without flow" is only suspect: where the queue stands, a vehicle covers the detector and nobody passes.

    References
    ----------
    The screens of PeMS (Chen et al. 2003, Detecting errors and imputing missing data for single-loop surveillance
    systems) with the mean-effective-vehicle-length test (Turochy and Smith 2000); thresholds here are parameters.

    Examples
    --------
    >>> flag, fault = screen_detector(np.array([1200.0]), np.array([0.0]), np.array([np.nan]), 30.0, DetectorLimits())
    >>> int(flag[0]), DetectorFault(int(fault[0])).name
    (4, 'FLOW_WITHOUT_OCCUPANCY')
    """
    flow, occ, speed, interval = np.broadcast_arrays(
        *(np.asarray(a, dtype=np.float64) for a in (flow_veh_h, occupancy, speed_km_h, interval_s))
    )
    fault = np.zeros(flow.shape, dtype=np.uint8)
    outside = (occ < 0.0) | (occ > 1.0) | (flow < 0.0) | (speed < 0.0)
    fault[outside] |= np.uint8(DetectorFault.OUT_OF_RANGE)
    fault[flow > limits.flow_max_veh_h] |= np.uint8(DetectorFault.TOO_MANY)
    least = flow * limits.length_min_m / (1000.0 * limits.speed_max_km_h)
    fault[(occ == 0.0) & (flow > 0.0) & (least >= limits.occupancy_resolution)] |= np.uint8(
        DetectorFault.FLOW_WITHOUT_OCCUPANCY
    )
    fault[(occ > 0.0) & (flow == 0.0)] |= np.uint8(DetectorFault.OCCUPANCY_WITHOUT_FLOW)
    enough = (flow * interval / 3600.0 >= limits.vehicles_min) & (occ >= limits.occupancy_resolution) & ~outside
    step = limits.occupancy_resolution / 2.0
    with np.errstate(divide="ignore", invalid="ignore"):
        per_occupancy = 1000.0 * speed / flow
        short = per_occupancy * (occ + step) < limits.length_min_m
        long = per_occupancy * (occ - step) > limits.length_max_m
    fault[enough & (short | long)] |= np.uint8(DetectorFault.VEHICLE_LENGTH)
    return _flag_of(flow, occ, fault), fault


def _flag_of(flow: Floats, occupancy: Floats, fault: Flags) -> Flags:
    failed = DetectorFault.OUT_OF_RANGE | DetectorFault.TOO_MANY | DetectorFault.FLOW_WITHOUT_OCCUPANCY
    flag = np.where(fault & failed, FAIL, np.where(fault, SUSPECT, GOOD))
    return np.where(np.isnan(flow) & np.isnan(occupancy), MISSING, flag).astype(np.uint8)


@dataclass(slots=True)
class ConstantOccupancy:
    """Finds detectors that report the same occupancy above zero again and again; one number of each is kept.

    A street without vehicles reports 0 all night, which is right; and a saturated detector 1 in a standing queue,
    which is why the run that is too long is for the city to choose.
    """

    last: Floats
    """(stations,) occupancy before; NaN before the first."""
    run: Ints
    """(stations,) how often in a row."""

    @classmethod
    def empty(cls, stations: int) -> ConstantOccupancy:
        """Nothing was reported yet."""
        return cls(np.full(stations, np.nan), np.zeros(stations, dtype=np.int64))

    def step(self, occupancy: Floats, run_max: int) -> npt.NDArray[np.bool_]:
        """Take one interval of all stations; NaN neither lengthens a run nor ends it.

        Returns
        -------
        (stations,) bool array
            Reported again, and more than ``run_max`` times in a row.

        Examples
        --------
        >>> runs = ConstantOccupancy.empty(2)
        >>> [runs.step(np.array([0.07, 0.0]), run_max=2).tolist() for _ in range(3)]
        [[False, False], [False, False], [True, False]]
        """
        heard = ~np.isnan(occupancy)
        same = heard & (occupancy == self.last) & (occupancy > 0.0)
        self.run = np.where(same, self.run + 1, np.where(heard, 1, self.run))
        self.last = np.where(heard, occupancy, self.last)
        return np.asarray(same & (self.run > run_max))
