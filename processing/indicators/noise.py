"""Environmental noise: equivalent levels of the periods of a day, Lden and the Indonesian LSM, and its limits.

A day has periods with penalties, and its level is the energy average over 24 hours with the penalties added: Lden and
LSM are one formula with other periods. A noise day begins with its first period (06:00 or 07:00 local) and ends when
the night does, so a night belongs to the day on which it begins.

Levels of single readings are added as energies in ``processing.means``: sums of parts make the sums of the whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from processing.means import MeanKind, transform
from telemetry.observations import NS_PER_S

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_NS_PER_HOUR = 3600 * NS_PER_S
_HOURS_PER_DAY = 24


@dataclass(frozen=True, slots=True)
class Period:
    """One part of a noise day."""

    name: str
    hours: int
    penalty_db: float
    """Added to its level before the day's level is taken. [dB]"""


@dataclass(frozen=True, slots=True)
class DaySchedule:
    """How a noise day is divided, in local standard time."""

    begins_local_h: int
    periods: tuple[Period, ...]
    """In the order of the day, 24 hours together."""

    def __post_init__(self) -> None:
        hours = sum(p.hours for p in self.periods)
        if hours != _HOURS_PER_DAY or any(p.hours < 1 for p in self.periods):
            raise ValueError(f"periods must have 24 hours together, got {hours} (processing.indicators.noise)")
        if not 0 <= self.begins_local_h < _HOURS_PER_DAY:
            raise ValueError(f"begins_local_h must be 0 to 23, got {self.begins_local_h} (processing.indicators.noise)")


KEPMENLH_48_1996 = DaySchedule(6, (Period("LS", 16, 0.0), Period("LM", 8, 5.0)))
"""LS 06–22, LM 22–06, LSM = 10 lg(1/24 · (16 · 10^(LS/10) + 8 · 10^((LM + 5)/10))).

KepMenLH 48/1996, annex II, as copied at text-id.123dok.com/document/nq7w7lpkz (periods) and
id.scribd.com/document/477011698 (formula)."""

EU_2002_49 = DaySchedule(7, (Period("Lday", 12, 0.0), Period("Levening", 4, 5.0), Period("Lnight", 8, 10.0)))
"""Lden = 10 lg(1/24 · (12 · 10^(Lday/10) + 4 · 10^((Levening + 5)/10) + 8 · 10^((Lnight + 10)/10))).

Directive 2002/49/EC, annex I; states may shift the hours."""

KEPMENLH_LIMITS_DB: dict[str, float] = {
    "housing": 55.0,
    "trade_and_services": 70.0,
    "offices_and_trade": 65.0,
    "green_space": 50.0,
    "industry": 70.0,
    "government_and_public": 60.0,
    "recreation": 70.0,
    "seaport": 70.0,
    "heritage": 60.0,
    "hospital": 55.0,
    "school": 55.0,
    "worship": 55.0,
}
"""Limits by land use. [dB(A)] KepMenLH 48/1996, annex I, as copied at
bushido02.wordpress.com/2011/03/01/baku-mutu-kebisingan.
Airports and railway stations have none there: it leaves them to the Minister of Transport."""

KEPMENLH_TOLERANCE_DB = 3.0
"""By which a level may be above its limit. [dB] As quoted at purifikasi.id/index.php/purifikasi/article/view/67."""

LS_SAMPLE_HOURS = (3.0, 5.0, 3.0, 5.0)
"""Hours that the four measurements of a day stand for (L1 to L4). id.scribd.com/document/477011698."""

LM_SAMPLE_HOURS = (2.0, 3.0, 3.0)
"""Hours that the three measurements of a night stand for (L5 to L7). The same source."""


def energy_average_db(level_db: Floats, weight: Floats | None = None) -> Floats:
    """Energy average along the last axis: 10 lg(Σ wᵢ · 10^(Lᵢ/10) / Σ wᵢ).

    Parameters
    ----------
    level_db : (..., n) float array
        [dB(A)]; NaN is left out.
    weight : (n,) float array, optional
        For instance hours.

    Returns
    -------
    (...) float array
        NaN where nothing is left.

    References
    ----------
    ISO 1996-1, equivalent continuous level; KepMenLH 48/1996, annex II.

    Examples
    --------
    >>> float(energy_average_db(np.array([60.0, 70.0])).round(2))
    67.4
    """
    known = ~np.isnan(level_db)
    w = np.broadcast_to(np.ones(level_db.shape[-1]) if weight is None else weight, level_db.shape)
    energy = np.where(known, w * np.power(10.0, np.where(known, level_db, 0.0) / 10), 0.0).sum(axis=-1)
    total = np.where(known, w, 0.0).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        average: Floats = np.where(total > 0, 10 * np.log10(energy / total), np.nan)
    return average


def ls_of_samples(level_db: Floats) -> Floats:
    """LS from the four measurements L1 to L4 of a day, shape (..., 4); NaN if one is missing."""
    return _of_samples(level_db, LS_SAMPLE_HOURS)


def lm_of_samples(level_db: Floats) -> Floats:
    """LM from the three measurements L5 to L7 of a night, shape (..., 3); NaN if one is missing."""
    return _of_samples(level_db, LM_SAMPLE_HOURS)


def _of_samples(level_db: Floats, hours: tuple[float, ...]) -> Floats:
    if level_db.shape[-1] != len(hours):
        raise ValueError(
            f"expected {len(hours)} levels in the last axis, got {level_db.shape[-1]} (processing.indicators.noise)"
        )
    missing = np.isnan(level_db).any(axis=-1)
    level: Floats = np.where(missing, np.nan, energy_average_db(level_db, np.array(hours)))
    return level


def day_level_db(period_db: Floats, schedule: DaySchedule) -> Floats:
    """The level of a day from those of its periods: LSM or Lden.

    Parameters
    ----------
    period_db : (..., periods) float array
        [dB(A)]; NaN means missing.
    schedule : DaySchedule

    Returns
    -------
    (...) float array
        NaN if the level of a period is missing.

    Examples
    --------
    The penalty makes a day of steady noise louder than the noise:

    >>> float(day_level_db(np.array([55.0, 55.0]), KEPMENLH_48_1996).round(2))
    57.36
    >>> float(day_level_db(np.array([60.0, 60.0, 60.0]), EU_2002_49).round(2))
    66.4
    """
    if period_db.shape[-1] != len(schedule.periods):
        raise ValueError(
            f"expected {len(schedule.periods)} periods in the last axis, got {period_db.shape[-1]} "
            "(processing.indicators.noise)"
        )
    hours = np.array([p.hours for p in schedule.periods], dtype=np.float64)
    penalty = np.array([p.penalty_db for p in schedule.periods])
    missing = np.isnan(period_db).any(axis=-1)
    level: Floats = np.where(missing, np.nan, energy_average_db(period_db + penalty, hours))
    return level


def period_of(at: Ints, utc_offset_h: float, schedule: DaySchedule) -> tuple[Ints, npt.NDArray[np.intp]]:
    """Noise day and period of each time.

    Parameters
    ----------
    at : (n,) int64 array
        [ns since 1970 UTC]
    utc_offset_h : float
        Local standard time minus UTC. [h]
    schedule : DaySchedule

    Returns
    -------
    (n,) int64 array
        The local date on which the noise day begins, in days since 1970-01-01.
    (n,) int array
        The period's place in the schedule.

    Examples
    --------
    Bandung, 2 January 1970, 05:00 local (1 January 22:00 UTC) is in the night of 1 January (day 0):

    >>> period_of(np.array([22 * 3600 * 10**9]), 7, KEPMENLH_48_1996)
    (array([0]), array([1]))
    """
    since_begin = at + round((utc_offset_h - schedule.begins_local_h) * _NS_PER_HOUR)
    day = since_begin // (_HOURS_PER_DAY * _NS_PER_HOUR)
    hour = (since_begin - day * _HOURS_PER_DAY * _NS_PER_HOUR) // _NS_PER_HOUR
    ends = np.cumsum([p.hours for p in schedule.periods])
    return day, np.searchsorted(ends, hour, side="right")


@dataclass(frozen=True, slots=True)
class DaySums:
    """Energies of the periods of days; every array is (datastreams, days, periods). Parts are added with ``+``."""

    first_day: int
    """Day of index 0. [days since 1970-01-01]"""
    coarse: Floats
    """Energies in multiples of 2²⁴. [10^(dB/10)]"""
    fine: Floats
    """The rest, in multiples of 2⁻¹⁰."""
    count: Ints
    """Readings, without NaN."""

    def __add__(self, other: DaySums) -> DaySums:
        if self.first_day != other.first_day or self.coarse.shape != other.coarse.shape:
            raise ValueError("sums of different days or datastreams cannot be added (processing.indicators.noise)")
        return DaySums(self.first_day, self.coarse + other.coarse, self.fine + other.fine, self.count + other.count)


def day_sums(
    datastream: npt.NDArray[np.integer],
    at: Ints,
    level_db: Floats,
    *,
    datastreams: int,
    first_day: int,
    days: int,
    utc_offset_h: float,
    schedule: DaySchedule,
) -> DaySums:
    """Add readings of equal duration into the periods of their days.

    Parameters
    ----------
    datastream, at, level_db : (n,) arrays
        Readings in any order: index, begin [ns since 1970 UTC], LAeq [dB(A)]. NaN is left out. A reading counts where
        it begins, so readings should not be longer than an hour.
    datastreams, first_day, days : int
        What the sums hold; readings of other days are left out.
    utc_offset_h, schedule
        As in ``period_of``.

    Returns
    -------
    DaySums
        Exact for up to 2²⁰ readings in a period: order and batches change nothing.
    """
    day, period = period_of(at, utc_offset_h, schedule)
    shape = (datastreams, days, len(schedule.periods))
    taken = ~np.isnan(level_db) & (day >= first_day) & (day < first_day + days)
    coarse, fine = transform(MeanKind.ENERGY, level_db[taken])
    cell = np.ravel_multi_index((datastream[taken].astype(np.intp), day[taken] - first_day, period[taken]), shape)
    size = int(np.prod(shape))
    return DaySums(
        first_day,
        np.bincount(cell, coarse, size).astype(np.float64).reshape(shape),
        np.bincount(cell, fine, size).astype(np.float64).reshape(shape),
        np.bincount(cell, minlength=size).reshape(shape).astype(np.int64),
    )


@dataclass(frozen=True, slots=True)
class DayLevels:
    """Levels of days. [dB(A)]"""

    first_day: int
    period_db: Floats
    """(datastreams, days, periods); NaN where too few readings came."""
    day_db: Floats
    """(datastreams, days) LSM or Lden; NaN unless all periods have a level."""


def day_levels(sums: DaySums, schedule: DaySchedule, *, readings_per_h: float, completeness: float = 0.75) -> DayLevels:
    """Levels of the periods and days that have enough readings.

    Parameters
    ----------
    sums : DaySums
    schedule : DaySchedule
        The same that made the sums.
    readings_per_h : float
        Readings that an hour should have.
    completeness : float
        Part of a period's readings that must be there. Unverified default: KepMenLH 48/1996 asks for at least 4
        measurements of 10 minutes by day and 3 by night, but not for a part of continuous ones.

    Returns
    -------
    DayLevels
    """
    if readings_per_h <= 0 or not 0 < completeness <= 1:
        raise ValueError(
            f"readings_per_h must be positive and completeness in (0, 1], got {readings_per_h} and {completeness} "
            "(processing.indicators.noise)"
        )
    hours = np.array([p.hours for p in schedule.periods], dtype=np.float64)
    enough = sums.count >= np.maximum(np.round(completeness * readings_per_h * hours, 9), 1e-9)
    energy = (sums.coarse + sums.fine) / np.maximum(sums.count, 1)
    with np.errstate(divide="ignore"):
        period_db = np.where(enough & (energy > 0), 10 * np.log10(energy), np.nan)
    return DayLevels(sums.first_day, period_db, day_level_db(period_db, schedule))


UNKNOWN_LEVEL, WITHIN, TOLERATED, EXCEEDED = -1, 0, 1, 2


def compare_with_limit(
    day_db: Floats, limit_db: Floats | float, tolerance_db: float = KEPMENLH_TOLERANCE_DB
) -> npt.NDArray[np.int8]:
    """Whether levels keep to their limits.

    Parameters
    ----------
    day_db : float array
        LSM. [dB(A)]
    limit_db : float array that can be broadcast to it, or float
        For instance from ``KEPMENLH_LIMITS_DB``. NaN: no limit is known.
    tolerance_db : float

    Returns
    -------
    int8 array
        WITHIN (at or below the limit), TOLERATED (above it by at most the tolerance), EXCEEDED, or UNKNOWN_LEVEL.

    Examples
    --------
    >>> compare_with_limit(np.array([55.0, 57.9, 58.1, np.nan]), KEPMENLH_LIMITS_DB["housing"])
    array([ 0,  1,  2, -1], dtype=int8)
    """
    excess = day_db - limit_db
    code = np.where(excess <= 0, WITHIN, np.where(excess <= tolerance_db, TOLERATED, EXCEEDED))
    return np.where(np.isnan(excess), UNKNOWN_LEVEL, code).astype(np.int8)
