"""Wind: mean direction and its spread, resultant wind, calms. Directions are where the wind comes from, from north.

Two means of direction are in use: that of unit vectors (how the vane stood) and the resultant, weighted by speed (where
the air went). Both come from the same sums; sums of parts are added to get those of the whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from processing.means import ARITHMETIC_QUANTUM, MIN_RESULTANT, MeanKind, finish, transform

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CALM_BELOW_M_S = 0.5
"""Speeds below are calm: a vane shows no direction. Unverified default (Beaufort 0 ends there); for a station, the
starting threshold of its vane and anemometer. [m/s]"""


@dataclass(frozen=True, slots=True)
class WindSums:
    """Sums of the readings of each group (a window, a datastream); every array is (groups,). Added with ``+``."""

    unit_east: Floats
    unit_north: Floats
    """Unit vectors of readings that have a direction and are not calm."""
    directions: Ints
    """Number of those."""
    east_m_s: Floats
    north_m_s: Floats
    """Vectors as long as the speed, of readings that have both; a calm without direction is a vector of no length."""
    vectors: Ints
    speed_m_s: Floats
    speeds: Ints
    calms: Ints

    def __add__(self, other: WindSums) -> WindSums:
        return WindSums(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Wind:
    """The wind of each group; every array is (groups,), NaN where nothing can be said."""

    direction_deg: Floats
    """Mean of unit vectors; NaN if there is no direction, all is calm, or directions cancel out."""
    spread_deg: Floats
    """Standard deviation of the direction after Yamartino, 0 to 104°."""
    speed_m_s: Floats
    """Mean of the speeds, calms included."""
    resultant_direction_deg: Floats
    """Direction of the mean vector; NaN if it is shorter than ``MIN_RESULTANT`` m/s."""
    resultant_speed_m_s: Floats
    """Length of the mean vector."""
    calm_fraction: Floats
    """Part of the speeds that are calm."""


def wind_sums(
    group: npt.NDArray[np.integer],
    groups: int,
    direction_deg: Floats,
    speed_m_s: Floats,
    calm_below_m_s: float = CALM_BELOW_M_S,
) -> WindSums:
    """Add readings into their groups.

    Parameters
    ----------
    group : (n,) int array
        Group of each reading, in any order.
    groups : int
    direction_deg, speed_m_s : (n,) float arrays
        Readings at one place and time. NaN: not measured. Without a speed a direction counts as not calm.
    calm_below_m_s : float

    Returns
    -------
    WindSums
        In multiples of 2⁻²⁴ (vectors) and 2⁻²⁰ (speeds): order and batches change nothing.
    """
    has_speed = ~np.isnan(speed_m_s)
    calm = has_speed & (speed_m_s < calm_below_m_s)
    has_direction = ~np.isnan(direction_deg)
    vane = has_direction & ~calm
    both = has_speed & (has_direction | calm)
    unit_east, unit_north = transform(MeanKind.CIRCULAR, np.where(vane, direction_deg, np.nan))
    speed = np.where(has_speed, np.maximum(speed_m_s, 0.0), 0.0)
    east, north = transform(MeanKind.CIRCULAR, np.where(both & has_direction, direction_deg, np.nan), speed)

    def total(terms: Floats) -> Floats:
        return np.bincount(group, terms, groups).astype(np.float64)

    def number(mask: npt.NDArray[np.bool_]) -> Ints:
        return np.bincount(group[mask], minlength=groups).astype(np.int64)

    return WindSums(
        unit_east=total(unit_east),
        unit_north=total(unit_north),
        directions=number(vane),
        east_m_s=total(east),
        north_m_s=total(north),
        vectors=number(both),
        speed_m_s=total(np.rint(speed / ARITHMETIC_QUANTUM) * ARITHMETIC_QUANTUM),
        speeds=number(has_speed),
        calms=number(calm),
    )


def spread_deg(unit_east: Floats, unit_north: Floats, count: Ints) -> Floats:
    """Standard deviation of directions from sums of their unit vectors.

    σ = asin(ε) · (1 + (2/√3 − 1) · ε³) with ε = √(1 − R²), R the length of the mean unit vector.

    Returns
    -------
    float array
        [deg]; NaN without readings.

    References
    ----------
    Yamartino (1984), "A Comparison of Several 'Single-Pass' Estimators of the Standard Deviation of Wind Direction",
    J. Climate Appl. Meteor. 23; recommended in US EPA-454/R-99-005, 6.2.1.

    Examples
    --------
    All the same is 0; evenly all around is 180°/√3 = 103.9°, as of an even distribution:

    >>> spread_deg(np.array([0.0, 0.0]), np.array([5.0, 0.0]), np.array([5, 4])).round(1)
    array([  0. , 103.9])
    """
    n = np.maximum(count, 1)
    squared = np.minimum((unit_east / n) ** 2 + (unit_north / n) ** 2, 1.0)
    epsilon = np.sqrt(1.0 - squared)
    sigma = np.rad2deg(np.arcsin(epsilon) * (1 + (2 / np.sqrt(3) - 1) * epsilon**3))
    spread: Floats = np.where(count > 0, sigma, np.nan)
    return spread


def wind(sums: WindSums) -> Wind:
    """The wind of each group from its sums.

    Examples
    --------
    Half an hour from 350° at 2 m/s, half from 10° at 2 m/s, and a calm:

    >>> s = wind_sums(np.zeros(3, int), 1, np.array([350.0, 10.0, 200.0]), np.array([2.0, 2.0, 0.1]))
    >>> w = wind(s)
    >>> w.direction_deg, w.spread_deg.round(), w.calm_fraction.round(2)
    (array([0.]), array([10.]), array([0.33]))
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_speed = sums.speed_m_s / sums.speeds
        resultant = np.hypot(sums.east_m_s, sums.north_m_s) / sums.vectors
        calm_fraction = sums.calms / sums.speeds
    direction = np.rad2deg(np.arctan2(sums.east_m_s, sums.north_m_s)) % 360.0
    direction = np.where(direction >= 360.0, 0.0, direction)
    return Wind(
        direction_deg=finish(MeanKind.CIRCULAR, sums.unit_east, sums.unit_north, sums.directions),
        spread_deg=spread_deg(sums.unit_east, sums.unit_north, sums.directions),
        speed_m_s=mean_speed,
        resultant_direction_deg=np.where(resultant >= MIN_RESULTANT, direction, np.nan),
        resultant_speed_m_s=resultant,
        calm_fraction=calm_fraction,
    )
