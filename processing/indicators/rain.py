"""Rain from depths: intensity over a moving span, accumulations, local rain days, and classes.

A reading of ``rain_mm`` is the depth since the reading before it, so it belongs to the whole interval between the
two, and is spread evenly over it. (A tipping bucket that tips once in five minutes has filled over five minutes; to
put the tip at its instant gives bursts that never fell.) Every depth here comes with the share of its span that
readings cover, because no rain and no reading are different things.

Counter resets, undercatch and the quality of readings are others' concern: leave unusable readings out as NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from telemetry.observations import NS_PER_S

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

NS_PER_H = 3600 * NS_PER_S
ACCUMULATION_SPANS_H = (1.0, 3.0, 6.0, 12.0, 24.0)
"""Spans of the usual accumulations. [h]"""
RAIN_DAY_STARTS_AT_H = 7.0
"""Local hour at which Indonesia's rain day begins.

BMKG's daily totals of Jakarta run from 7 in the morning to 7 in the morning of the next day (Tempo, July 2024,
tekno.tempo.co/read/1888924). That the other time zones keep 07:00 local as well is unverified. [h]
"""


class RainClass(IntEnum):
    """BMKG's words for rain. UNKNOWN stands where there is no depth to class."""

    UNKNOWN = -1
    NONE = 0
    """Tidak hujan."""
    VERY_LIGHT = 1
    """Hujan sangat ringan."""
    LIGHT = 2
    """Hujan ringan."""
    MODERATE = 3
    """Hujan sedang."""
    HEAVY = 4
    """Hujan lebat."""
    VERY_HEAVY = 5
    """Hujan sangat lebat."""
    EXTREME = 6
    """Hujan ekstrem; for days only."""


HOURLY_CLASS_FROM_MM = (1.0, 5.0, 10.0, 20.0)
"""Least depth of LIGHT, MODERATE and HEAVY, and the depth above which it is VERY_HEAVY. [mm in one hour]"""
DAILY_CLASS_FROM_MM = (0.5, 20.0, 50.0, 100.0, 150.0)
"""Least depth of LIGHT to VERY_HEAVY, and the depth above which it is EXTREME. [mm in one day]"""


@dataclass(frozen=True, slots=True)
class Depths:
    """Depths of rain over some spans."""

    depth_mm: Floats
    """What the readings tell of; NaN where none of the span is covered."""
    covered: Floats
    """Share of the span that lies in intervals of readings, 0 to 1. The depth is of this share alone."""


def interval_starts(datastream: npt.NDArray[np.int32], observed_at: Ints, first_interval_ns: int) -> Ints:
    """When the interval of each reading began: at the reading before it.

    Parameters
    ----------
    datastream : (n,) int32 array
    observed_at : (n,) int64 array
        Rows sorted by datastream, then time, without equal pairs. [ns since 1970 UTC]
    first_interval_ns : int
        How long the interval of a datastream's first reading is taken to be. [ns]

    Returns
    -------
    (n,) int64 array
        [ns since 1970 UTC]

    Raises
    ------
    ValueError
        Shapes differ, the rows are not sorted, or ``first_interval_ns`` is not positive.

    Examples
    --------
    >>> interval_starts(np.array([0, 0, 3], np.int32), np.array([100, 160, 500]), 60)
    array([ 40, 100, 440])
    """
    if datastream.shape != observed_at.shape or datastream.ndim != 1:
        raise ValueError(f"datastream and observed_at must be (n,), got {datastream.shape} and {observed_at.shape}")
    if first_interval_ns <= 0:
        raise ValueError(f"first_interval_ns must be positive, got {first_interval_ns}")
    same = datastream[1:] == datastream[:-1]
    if np.any(datastream[1:] < datastream[:-1]) or np.any(same & (observed_at[1:] <= observed_at[:-1])):
        raise ValueError("rows must be sorted by datastream, then strictly by time")
    start = observed_at - first_interval_ns
    start[1:][same] = observed_at[:-1][same]
    return start


def depth_over(
    datastream: npt.NDArray[np.int32],
    observed_at: Ints,
    rain_mm: Floats,
    at_datastream: npt.NDArray[np.int32],
    at: Ints,
    span_ns: int,
    *,
    longest_interval_ns: int = NS_PER_H,
) -> Depths:
    """Depth that fell over (``at`` - span, ``at``], for any moments of any datastreams.

    Parameters
    ----------
    datastream, observed_at, rain_mm : (n,) arrays
        Readings sorted by datastream, then time, without equal pairs. A NaN depth is unknown: its interval is not
        covered. [-, ns since 1970 UTC, mm]
    at_datastream, at : (m,) arrays
        Where and for when the depth is asked. [-, ns since 1970 UTC]
    span_ns : int
        [ns]
    longest_interval_ns : int
        Longest interval that counts as covered. The depth of a longer one is still spread over all of it, but readings
        may have been lost on the way. It is also the interval of a datastream's first reading, which has none before
        it; it too does not count as covered. [ns]

    Returns
    -------
    Depths of (m,) arrays

    Raises
    ------
    ValueError
        As ``interval_starts``, or ``span_ns`` is not positive.

    Examples
    --------
    2 mm fell in the hour up to 01:00, 6 mm in the half hour after it; the last 45 min hold 6 mm and a quarter of 2 mm.

    >>> h = NS_PER_H
    >>> d = depth_over(np.zeros(3, np.int32), np.array([0, h, h + h // 2]), np.array([0.0, 2.0, 6.0]),
    ...                np.array([0], np.int32), np.array([h + h // 2]), 3 * h // 4)
    >>> d.depth_mm, d.covered
    (array([6.5]), array([1.]))
    """
    if span_ns <= 0:
        raise ValueError(f"span_ns must be positive, got {span_ns}")
    start = interval_starts(datastream, observed_at, longest_interval_ns)
    length = observed_at - start
    known = ~np.isnan(rain_mm)
    first = np.ones(datastream.shape, np.bool_)
    first[1:] = datastream[1:] != datastream[:-1]
    counts = known & (length <= longest_interval_ns) & ~first
    depth = _moved(_Curve(datastream, start, observed_at, np.where(known, rain_mm, 0.0)), at_datastream, at, span_ns)
    known_ns = np.where(known, length, 0).astype(np.float64)
    any_ns = _moved(_Curve(datastream, start, observed_at, known_ns), at_datastream, at, span_ns)
    covered_ns = np.where(counts, length, 0).astype(np.float64)
    covered = _moved(_Curve(datastream, start, observed_at, covered_ns), at_datastream, at, span_ns) / span_ns
    # Sums over a whole table are rounded: less than a millionth of the span is nothing.
    return Depths(np.where(any_ns > 1e-6 * span_ns, np.maximum(depth, 0.0), np.nan), np.clip(covered, 0.0, 1.0))


@dataclass(frozen=True, slots=True)
class _Curve:
    """An amount laid evenly over the interval of each reading."""

    datastream: npt.NDArray[np.int32]
    start: Ints
    end: Ints
    amount: Floats


def _moved(curve: _Curve, at_datastream: npt.NDArray[np.int32], at: Ints, span_ns: int) -> Floats:
    """How much of the curve lies in (at - span, at]."""
    return _up_to(curve, at_datastream, at) - _up_to(curve, at_datastream, at - span_ns)


def _up_to(curve: _Curve, at_datastream: npt.NDArray[np.int32], at: Ints) -> Floats:
    """The amount of all rows of the table before ``at``; differences within one datastream are what counts."""
    total = np.concatenate(([0.0], np.cumsum(curve.amount)))
    # Ranks of the times keep the common key of datastream and time within int64.
    ranks = np.unique(np.concatenate((curve.end, at)), return_inverse=True)[1].astype(np.int64)
    size = ranks.shape[0] + 1
    row_key = curve.datastream.astype(np.int64) * size + ranks[: curve.end.shape[0]]
    key = at_datastream.astype(np.int64) * size + ranks[curve.end.shape[0] :]
    row = np.searchsorted(row_key, key, side="left")  # the first row that ends at or after `at`, if of this datastream
    value: Floats = total[row]
    inside = row < curve.end.shape[0]
    row = np.where(inside, row, 0)
    if curve.end.shape[0]:
        inside &= (curve.datastream[row] == at_datastream) & (curve.start[row] < at)
        share = (at - curve.start[row]) / (curve.end[row] - curve.start[row])
        value = value + np.where(inside, curve.amount[row] * share, 0.0)
    return value


def accumulations(
    datastream: npt.NDArray[np.int32],
    observed_at: Ints,
    rain_mm: Floats,
    at_datastream: npt.NDArray[np.int32],
    at: Ints,
    *,
    spans_h: tuple[float, ...] = ACCUMULATION_SPANS_H,
    longest_interval_ns: int = NS_PER_H,
) -> Depths:
    """Depths over several spans that end at ``at``: ``depth_over`` for each of ``spans_h``.

    Returns
    -------
    Depths of (m, spans) arrays

    Examples
    --------
    >>> t = np.arange(0, 25) * NS_PER_H
    >>> d = accumulations(np.zeros(25, np.int32), t, np.ones(25), np.array([0], np.int32), t[-1:])
    >>> d.depth_mm
    array([[ 1.,  3.,  6., 12., 24.]])
    """
    spans = [
        depth_over(
            datastream,
            observed_at,
            rain_mm,
            at_datastream,
            at,
            round(span_h * NS_PER_H),
            longest_interval_ns=longest_interval_ns,
        )
        for span_h in spans_h
    ]
    return Depths(np.stack([s.depth_mm for s in spans], axis=1), np.stack([s.covered for s in spans], axis=1))


def recent_depth(
    observed_at: Ints,
    rain_mm: Floats,
    held: Bools,
    at: Ints,
    span_ns: int,
    *,
    longest_interval_ns: int = NS_PER_H,
) -> Depths:
    """Depth over (``at`` - span, ``at``] from the newest K readings of many datastreams.

    Parameters
    ----------
    observed_at, rain_mm, held : (datastreams, K) arrays
        The newest readings of each datastream, in any order, as a ring holds them; where ``held`` is False there is
        none. Times of one datastream differ. A NaN depth is unknown. [ns since 1970 UTC, mm, -]
    at : (datastreams,) int64 array
        [ns since 1970 UTC]
    span_ns : int
        [ns]
    longest_interval_ns : int
        As in ``depth_over``. The oldest of the held readings counts as a first one: its interval is
        ``longest_interval_ns`` long and not covered.

    Returns
    -------
    Depths of (datastreams,) arrays
        ``covered`` tells when the K readings do not reach back far enough.

    Raises
    ------
    ValueError
        Shapes differ, or ``span_ns`` or ``longest_interval_ns`` is not positive.
    """
    if not observed_at.shape == rain_mm.shape == held.shape or observed_at.ndim != 2:
        raise ValueError(
            f"observed_at, rain_mm and held must be (n, K), got {observed_at.shape}, {rain_mm.shape}, {held.shape}"
        )
    if at.shape != observed_at.shape[:1]:
        raise ValueError(f"at must be ({observed_at.shape[0]},), got {at.shape}")
    if span_ns <= 0 or longest_interval_ns <= 0:
        raise ValueError(f"span_ns and longest_interval_ns must be positive, got {span_ns}, {longest_interval_ns}")
    latest = np.iinfo(np.int64).max
    time = np.where(held, observed_at, latest)
    order = np.argsort(time, axis=1, kind="stable")
    end = np.take_along_axis(time, order, axis=1)
    rain = np.take_along_axis(np.where(held, rain_mm, np.nan), order, axis=1)
    there = end < latest
    end = np.where(there, end, 0)
    start = np.empty_like(end)
    start[:, :1] = end[:, :1] - longest_interval_ns
    start[:, 1:] = end[:, :-1]
    known = there & ~np.isnan(rain)
    length = np.where(there, end - start, 1)
    overlap = np.minimum(end, at[:, None]) - np.maximum(start, at[:, None] - span_ns)
    overlap = np.where(known, np.maximum(overlap, 0), 0)
    depth = np.where(known, rain, 0.0) * (overlap / length)
    counts = length <= longest_interval_ns
    counts[:, :1] = False
    covered = np.where(counts, overlap, 0).sum(axis=1) / span_ns
    return Depths(np.where(overlap.any(axis=1), depth.sum(axis=1), np.nan), covered)


def intensity_mm_h(depths: Depths, span_ns: int, *, least_covered: float = 0.5) -> Floats:
    """Mean intensity over the covered share of a span.

    Parameters
    ----------
    depths : Depths
        Over spans of ``span_ns``.
    span_ns : int
        [ns]
    least_covered : float
        NaN where less of the span is covered. Over the uncovered share the intensity is taken to be the same.

    Returns
    -------
    float array, shaped as ``depths``
        [mm/h]

    Raises
    ------
    ValueError
        ``least_covered`` is not in (0, 1].

    Examples
    --------
    >>> intensity_mm_h(Depths(np.array([2.0, 2.0, 2.0]), np.array([1.0, 0.5, 0.1])), NS_PER_H // 2)
    array([ 4.,  8., nan])
    """
    if not 0 < least_covered <= 1:
        raise ValueError(f"least_covered must be above 0 and at most 1, got {least_covered}")
    enough = depths.covered >= least_covered
    hours = np.where(enough, depths.covered, 1.0) * (span_ns / NS_PER_H)
    return np.where(enough, depths.depth_mm / hours, np.nan)


@dataclass(frozen=True, slots=True)
class WindowDepths:
    """Depths of aligned windows, one row a (datastream, window) that any reading touches."""

    datastream: npt.NDArray[np.int32]
    start: Ints
    """Start of the window. [ns since 1970 UTC]"""
    depth_mm: Floats
    covered: Floats
    """Share of the window in intervals of known readings, 0 to 1."""


def window_depths(
    datastream: npt.NDArray[np.int32], start: Ints, end: Ints, rain_mm: Floats, width_ns: int, *, offset_ns: int = 0
) -> WindowDepths:
    """Lay depths over aligned windows; a reading whose interval crosses an edge is cut there in proportion to time.

    The sum over windows is the sum over readings. Rows may come in any order, and results of parts of the readings add
    up to the result of all (add depths and shares by datastream and window).

    Parameters
    ----------
    datastream, start, end, rain_mm : (n,) arrays
        Readings with their intervals (``interval_starts``). NaN depths are left out. [-, ns, ns, mm]
    width_ns : int
        [ns]
    offset_ns : int
        Windows start at ``offset_ns`` + k * ``width_ns``. [ns]

    Returns
    -------
    WindowDepths
        Sorted by datastream, then start.

    Raises
    ------
    ValueError
        Shapes differ, ``width_ns`` is not positive, or an interval is empty.

    Examples
    --------
    >>> w = window_depths(np.array([0], np.int32), np.array([45]), np.array([75]), np.array([3.0]), 60)
    >>> w.start, w.depth_mm, w.covered
    (array([ 0, 60]), array([1.5, 1.5]), array([0.25, 0.25]))
    """
    if not datastream.shape == start.shape == end.shape == rain_mm.shape or datastream.ndim != 1:
        raise ValueError(
            f"columns must be (n,), got {datastream.shape}, {start.shape}, {end.shape} and {rain_mm.shape}"
        )
    if width_ns <= 0:
        raise ValueError(f"width_ns must be positive, got {width_ns}")
    if np.any(end <= start):
        raise ValueError("every interval must end after it starts")
    known = ~np.isnan(rain_mm)
    datastream, start, end, rain_mm = datastream[known], start[known], end[known], rain_mm[known]
    first = (start - offset_ns) // width_ns
    last = (end - offset_ns - 1) // width_ns
    pieces = last - first + 1
    row = np.repeat(np.arange(start.shape[0]), pieces)
    nth = np.arange(row.shape[0]) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    window = (first[row] + nth) * width_ns + offset_ns
    overlap = np.minimum(end[row], window + width_ns) - np.maximum(start[row], window)
    depth = rain_mm[row] * (overlap / (end[row] - start[row]))
    order = np.lexsort((window, datastream[row]))
    key_datastream, key_window = datastream[row][order], window[order]
    new = np.ones(order.shape, np.bool_)
    new[1:] = (key_datastream[1:] != key_datastream[:-1]) | (key_window[1:] != key_window[:-1])
    group = np.cumsum(new) - 1
    groups = int(new.sum())
    return WindowDepths(
        key_datastream[new],
        key_window[new],
        np.bincount(group, depth[order], groups).astype(np.float64),
        np.bincount(group, overlap[order], groups) / width_ns,
    )


def rain_days(
    datastream: npt.NDArray[np.int32],
    start: Ints,
    end: Ints,
    rain_mm: Floats,
    *,
    utc_offset_h: float,
    day_starts_at_h: float = RAIN_DAY_STARTS_AT_H,
) -> WindowDepths:
    """Depths of local rain days: 24 h from ``day_starts_at_h`` local time.

    A day is named by its start here. Some publishers name it by the morning on which it was read, which is a day later.

    Examples
    --------
    Bandung (UTC+7): 07:00 there is midnight UTC.

    >>> end = np.array(["2026-01-02T00:30"], "datetime64[ns]").astype(np.int64)
    >>> d = rain_days(np.zeros(1, np.int32), end - NS_PER_H, end, np.array([10.0]), utc_offset_h=7.0)
    >>> d.start.astype("datetime64[ns]").astype("datetime64[m]"), d.depth_mm
    (array(['2026-01-01T00:00', '2026-01-02T00:00'], dtype='datetime64[m]'), array([5., 5.]))
    """
    offset_ns = round((day_starts_at_h - utc_offset_h) * NS_PER_H)
    return window_depths(datastream, start, end, rain_mm, 24 * NS_PER_H, offset_ns=offset_ns)


def hourly_class(depth_mm: Floats) -> npt.NDArray[np.int8]:
    """Class of the depth of one hour.

    Returns
    -------
    int8 array of ``RainClass``, shaped as ``depth_mm``
        UNKNOWN for NaN and for negative depths.

    References
    ----------
    BBWS Serayu-Opak, "Indikator Curah Hujan Per Jam", bbwsso.monitoring4system.com/pengaturan/indikator_curah_hujan:
    0.1-1 very light, 1-5 light, 5-10 moderate, 10-20 heavy, above 20 mm very heavy. (The page prints "mm/hari" in its
    hourly table; by its title and figures hours are meant.) A shared bound belongs to the higher class, here as with
    days; 20 mm itself is heavy, since very heavy is "above 20". Depths between 0 and 0.1 mm, which it does not name,
    are very light here.

    Examples
    --------
    >>> [RainClass(c).name for c in hourly_class(np.array([0.0, 0.2, 1.0, 5.0, 20.0, 20.2, np.nan]))]
    ['NONE', 'VERY_LIGHT', 'LIGHT', 'MODERATE', 'HEAVY', 'VERY_HEAVY', 'UNKNOWN']
    """
    return _classes(depth_mm, HOURLY_CLASS_FROM_MM)


def daily_class(depth_mm: Floats) -> npt.NDArray[np.int8]:
    """Class of the depth of one day.

    Returns
    -------
    int8 array of ``RainClass``, shaped as ``depth_mm``
        UNKNOWN for NaN and for negative depths.

    References
    ----------
    BMKG: 0.5-20 light, 20-50 moderate, 50-100 heavy, 100-150 very heavy, above 150 mm extreme (Tempo, April 2024,
    tekno.tempo.co/read/1863808; BMKG's head: heavy "reaches 50 mm in 24 hours", Sindonews 28 December 2022). Depths
    below 0.5 mm, which BMKG does not name, are very light here.

    Examples
    --------
    >>> [RainClass(c).name for c in daily_class(np.array([0.4, 0.5, 50.0, 100.0, 150.0, 151.0]))]
    ['VERY_LIGHT', 'LIGHT', 'HEAVY', 'VERY_HEAVY', 'VERY_HEAVY', 'EXTREME']
    """
    return _classes(depth_mm, DAILY_CLASS_FROM_MM)


def _classes(depth_mm: Floats, class_from_mm: tuple[float, ...]) -> npt.NDArray[np.int8]:
    *lower, top = class_from_mm
    found = np.searchsorted(np.asarray(lower), depth_mm, side="right") + RainClass.VERY_LIGHT
    found = found + (depth_mm > top)
    found = np.where(depth_mm == 0, RainClass.NONE, found)
    return np.where(depth_mm >= 0, found, RainClass.UNKNOWN).astype(np.int8)
