"""Means that are no plain averages: energy for sound, circular for directions, weighted by flow for speeds.

Each mean is the ``finish`` of sums that are added up over readings by ``transform``; sums of parts are added to get the
sums of the whole. Every term is a multiple of a fixed quantum, so that sums are exact: the order of readings and the
cutting into batches change nothing. What each kind rounds away stands in the table of ``docs/indicators.md``.

There are always two sums, whatever the kind, so that a batch with many properties goes through as two columns:

=============  ==============================  =====================================  =========================
kind           first                           second                                 exact up to
=============  ==============================  =====================================  =========================
ARITHMETIC     value, to 2⁻²⁰                  0                                      a sum of 2³³ (8.6e9)
ENERGY         10^(L/10), to 2²⁴               what that leaves, to 2⁻¹⁰              2²⁰ readings below 160 dB
CIRCULAR       w·sin, to 2⁻²⁴                  w·cos, to 2⁻²⁴                         a sum of weights of 2²⁹
WEIGHTED       w·value, to 2⁻¹⁰                w, to 2⁻¹⁰                             a sum of 2⁴³ (8.8e12)
=============  ==============================  =====================================  =========================
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

ARITHMETIC_QUANTUM = 2.0**-20
ENERGY_COARSE_QUANTUM = 2.0**24
ENERGY_FINE_QUANTUM = 2.0**-10
CIRCULAR_QUANTUM = 2.0**-24
WEIGHTED_QUANTUM = 2.0**-10

MAX_LEVEL_DB = 160.0
"""Levels above are counted as this one; it is the upper end of the span of ``laeq_db``."""

MIN_RESULTANT = 1e-3
"""Shortest mean vector (0 to 1) that has a direction: below, the directions cancel out."""


class MeanKind(IntEnum):
    """How the mean of a property is taken."""

    ARITHMETIC = 0
    ENERGY = 1
    CIRCULAR = 2
    WEIGHTED = 3


MEAN_KINDS: dict[str, MeanKind] = {
    "laeq_db": MeanKind.ENERGY,
    "speed_km_h": MeanKind.WEIGHTED,
    "wind_direction_deg": MeanKind.CIRCULAR,
}
"""Kind by property name; every other property has the arithmetic mean."""

WEIGHT_OF: dict[str, str] = {"speed_km_h": "flow_veh_h"}
"""Property whose value at the same site and time is the weight. Directions are unweighted unless weights are given."""


def kind_of(property_name: str) -> MeanKind:
    """Kind of mean of a property.

    Examples
    --------
    >>> kind_of("laeq_db").name, kind_of("water_level_m").name
    ('ENERGY', 'ARITHMETIC')
    """
    return MEAN_KINDS.get(property_name, MeanKind.ARITHMETIC)


def _round_to(values: Floats, quantum: float) -> Floats:
    rounded: Floats = np.rint(values / quantum) * quantum
    return rounded


def transform(
    kind: MeanKind | npt.NDArray[np.integer], value: Floats, weight: Floats | None = None
) -> tuple[Floats, Floats]:
    """What each reading adds to the two sums of its window.

    Parameters
    ----------
    kind : MeanKind or (n,) int array
        How the mean is taken, for all readings or for each.
    value : (n,) float array
        Readings in the unit of their property. NaN adds nothing; do not count it either.
    weight : (n,) float array, optional
        For CIRCULAR and WEIGHTED: the weight of each reading [veh/h for speeds, m/s for directions]. NaN, infinite or
        negative, or no array at all, counts as 1. With weight 0 a reading adds nothing: no vehicle had that speed.

    Returns
    -------
    first, second : (n,) float arrays
        Multiples of the quanta of the module's table.

    Raises
    ------
    ValueError
        Shapes differ.

    References
    ----------
    Energy average: ISO 1996-1, equivalent continuous level, LAeq = 10 lg(mean of 10^(L/10)).
    Mean direction: the direction of the sum of unit vectors, Mardia & Jupp (2000), "Directional Statistics", 2.2.
    Space-mean speed weighted by flow: see ``docs/indicators.md``.

    Examples
    --------
    >>> transform(MeanKind.CIRCULAR, np.array([0.0, 90.0]))
    (array([0., 1.]), array([1., 0.]))
    """
    value = np.asarray(value, dtype=np.float64)
    kinds = np.asarray(kind)
    if (kinds.ndim and kinds.shape != value.shape) or (weight is not None and weight.shape != value.shape):
        raise ValueError(
            f"kind, value and weight must have one shape, got {kinds.shape}, {value.shape}, "
            f"{None if weight is None else weight.shape} (processing.means.transform)"
        )
    known = np.where(np.isnan(value), 0.0, value)
    first = _round_to(known, ARITHMETIC_QUANTUM)
    second = np.zeros_like(first)
    for special, terms in (
        (MeanKind.ENERGY, _energy_terms),
        (MeanKind.CIRCULAR, _circular_terms),
        (MeanKind.WEIGHTED, _weighted_terms),
    ):
        rows = np.flatnonzero(np.broadcast_to(kinds == special, value.shape))
        if rows.size:
            w = np.ones(rows.size) if weight is None else weight[rows]
            w = np.where(np.isfinite(w) & (w >= 0), w, 1.0)
            there = ~np.isnan(value[rows])
            a, b = terms(known[rows], w)
            first[rows] = np.where(there, a, 0.0)
            second[rows] = np.where(there, b, 0.0)
    return first, second


def _energy_terms(level_db: Floats, _: Floats) -> tuple[Floats, Floats]:
    energy: Floats = np.power(10.0, np.minimum(level_db, MAX_LEVEL_DB) / 10)
    coarse = _round_to(energy, ENERGY_COARSE_QUANTUM)
    return coarse, _round_to(energy - coarse, ENERGY_FINE_QUANTUM)


def _circular_terms(direction_deg: Floats, weight: Floats) -> tuple[Floats, Floats]:
    angle = np.deg2rad(direction_deg)
    return _round_to(weight * np.sin(angle), CIRCULAR_QUANTUM), _round_to(weight * np.cos(angle), CIRCULAR_QUANTUM)


def _weighted_terms(value: Floats, weight: Floats) -> tuple[Floats, Floats]:
    rounded = _round_to(weight, WEIGHTED_QUANTUM)
    return _round_to(rounded * value, WEIGHTED_QUANTUM), rounded


def finish(
    kind: MeanKind | npt.NDArray[np.integer],
    first: Floats,
    second: Floats,
    count: npt.NDArray[np.number],
) -> Floats:
    """The mean of each group from its sums.

    Parameters
    ----------
    kind : MeanKind or (groups,) int array
        The same that made the sums.
    first, second : (groups,) float arrays
        Sums of what ``transform`` gave.
    count : (groups,) number array
        Readings in the sums, without NaN. For directions weighted by something else than 1, the sum of the weights.

    Returns
    -------
    (groups,) float array
        NaN where ``count`` is 0, where all weights are 0, or where directions cancel out (``MIN_RESULTANT``).
        Directions are 0 to below 360.

    Examples
    --------
    Two equal hours of 60 and 70 dB are 67.4 dB, not 65:

    >>> terms = transform(MeanKind.ENERGY, np.array([60.0, 70.0]))
    >>> finish(MeanKind.ENERGY, *(np.array([t.sum()]) for t in terms), np.array([2])).round(2)
    array([67.4])
    """
    kinds = np.broadcast_to(np.asarray(kind), first.shape)
    n = np.asarray(count, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean: Floats = first / n
        rows = np.flatnonzero(kinds == MeanKind.ENERGY)
        if rows.size:
            # Below 2⁻¹¹ (-33 dB) nothing is left of a reading: silence, and no level.
            energy = (first[rows] + second[rows]) / n[rows]
            mean[rows] = np.where(energy > 0, 10 * np.log10(energy), np.nan)
        rows = np.flatnonzero(kinds == MeanKind.CIRCULAR)
        if rows.size:
            east, north = first[rows] / n[rows], second[rows] / n[rows]
            direction = np.rad2deg(np.arctan2(east, north)) % 360.0
            direction = np.where(direction >= 360.0, 0.0, direction)
            mean[rows] = np.where(np.hypot(east, north) >= MIN_RESULTANT, direction, np.nan)
        rows = np.flatnonzero(kinds == MeanKind.WEIGHTED)
        if rows.size:
            mean[rows] = first[rows] / second[rows]
    mean[~(n > 0)] = np.nan
    return mean
