"""How hard it rains at each gauge now: mm/h over the last 10 and 60 minutes of event time, and its Indonesian class.

A reading of ``rain_mm`` is the depth since the previous reading, so it is spread evenly over that time: a gauge that
reports each hour and one that reports each minute are judged alike. This describes what fell; it raises no alarm.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from processing.indicators.rain import HOURLY_CLASS_FROM_MM
from telemetry.directory import Directory
from telemetry.observations import NS_PER_S, Observations
from telemetry.properties import PROPERTIES
from telemetry.quality import FAIL, MISSING

RAIN = list(PROPERTIES).index("rain_mm")

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

CLASS_LIMITS_MM_H = HOURLY_CLASS_FROM_MM
"""From 1 to 5 mm/h ringan (light), to 10 sedang (moderate), to 20 lebat (heavy), above that sangat lebat (very heavy).
Hourly limits as the portal of BBWS Serayu-Opak gives them; "ekstrem" is defined for a day only."""
BUCKET_S = 60
BUCKETS = 192
"""Gauges that report at least every three hours are known; slower ones never are."""
WINDOWS_S = (600, 3600)
LEAST_COVERED = 0.5
"""Part of a window of which the rain must be known, else nothing is said."""
GRACE_S = 600
"""The next reading may be late by so much before the rain counts as unknown."""


def rain_class(mm_h: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Class of an intensity by the hourly limits: 0 none, 1 ringan, 2 sedang, 3 lebat, 4 sangat lebat.

    0 is for all below 1 mm/h, which the list does not name, and for NaN. A value on a limit belongs to the lower
    class, since only what is above 20 mm/h is sangat lebat; 1 mm/h itself is ringan.

    Source: BBWS Serayu-Opak (river authority), rain classes per hour on its portal: ringan 1–5 mm/h, sedang 5–10,
    lebat 10–20, sangat lebat > 20.

    Examples
    --------
    >>> rain_class([0.9, 1.0, 5.0, 5.1, 10.0, 20.0, 20.1, float("nan")]).tolist()
    [0, 1, 1, 2, 2, 3, 4, 0]
    """
    value = np.asarray(mm_h, dtype=np.float64)
    above = np.searchsorted(CLASS_LIMITS_MM_H[1:], np.nan_to_num(value), side="left")
    return np.where(value >= CLASS_LIMITS_MM_H[0], above + 1, 0).astype(np.int64)


def intensity_mm_h(until: Ints, depth_mm: Floats, gap: Ints, window_s: int) -> Floats:
    """Mean intensity over the window that ends with the newest reading of each gauge.

    The depth of a column fell between the column before and its own time, evenly. Where that time is longer than
    ``gap`` or not known (the first column) neither depth nor time count: a gauge that was silent may have lost what
    it measured.

    Parameters
    ----------
    until : (n, k) int64 array
        Increasing along each row; 0 for empty columns, which stand first. [ns since 1970 UTC]
    depth_mm : (n, k) float array
    gap : (n,) int64 array
        Longest time between two readings that is no gap. [ns]
    window_s : int

    Returns
    -------
    (n,) float array
        [mm/h]; NaN where less than half of the window is known.

    Examples
    --------
    Five minutes with 1 mm in each, after a first reading that only says when the counting began:

    >>> until = np.arange(1, 7)[None] * 60 * 10**9
    >>> intensity_mm_h(until, np.array([[9.0, 1, 1, 1, 1, 1]]), np.array([600 * 10**9]), 600).tolist()
    [60.0]
    >>> intensity_mm_h(until[:, :5], np.array([[9.0, 1, 1, 1, 1]]), np.array([600 * 10**9]), 600).tolist()
    [nan]
    """
    since, until_later = until[:, :-1], until[:, 1:]
    length = until_later - since
    known = (since > 0) & (length > 0) & (length <= gap[:, None])
    begin = until[:, -1:] - window_s * NS_PER_S
    inside = np.where(known, np.maximum(until_later - np.maximum(since, begin), 0), 0)
    fell = (depth_mm[:, 1:] * (inside / np.where(known, length, 1))).sum(axis=1)
    covered_s = inside.sum(axis=1) / NS_PER_S
    enough = covered_s >= LEAST_COVERED * window_s
    return np.where(enough, fell / np.where(enough, covered_s, 1.0) * 3600.0, np.nan)


class RainGauges:
    """Depths of the last three hours by the minute, for the rain datastreams alone; filled without a loop.

    Readings must be new ones: who comes twice in one minute with different times is added. (The core lets no
    duplicate pass that it can know.)
    """

    def __init__(self) -> None:
        self._streams: Ints = np.zeros(0, dtype=np.int64)
        self._row_of: Ints = np.zeros(0, dtype=np.int64)
        self._gap: Ints = np.zeros(0, dtype=np.int64)
        self._minute, self._until, self._depth = _empty(0)
        self._touched = np.zeros(0, dtype=np.bool_)
        self._valid_until: Ints = np.zeros(0, dtype=np.int64)
        self._found: Floats = np.zeros((0, 2))
        self._told: Floats = np.zeros((0, 2))

    def set_directory(self, directory: Directory) -> None:
        """Take a new version; what is known of the gauges is kept."""
        streams = np.flatnonzero(directory.property_of == RAIN)
        device = directory.device_of[streams]
        gap = np.where(device >= 0, directory.silence_after_ns[device], 0) if streams.size else streams
        old, kept = self._streams, (self._minute, self._until, self._depth, self._told)
        self._streams, self._gap = streams.astype(np.int64), gap.astype(np.int64)
        n = self._streams.size
        self._row_of = np.full(len(directory.datastreams), -1, dtype=np.int64)
        self._row_of[self._streams] = np.arange(n)
        self._minute, self._until, self._depth = _empty(n)
        self._told = np.full((n, 2), np.nan)
        _, before, now = np.intersect1d(old, self._streams, assume_unique=True, return_indices=True)
        for array, was in zip((self._minute, self._until, self._depth, self._told), kept, strict=True):
            array[now] = was[before]
        self._touched = np.ones(n, dtype=np.bool_)
        self._valid_until = np.zeros(n, dtype=np.int64)
        self._found = np.full((n, 2), np.nan)

    def put(self, readings: Observations) -> None:
        """Take new readings in any order; FAIL, MISSING, NaN and negative depths are left out."""
        row = self._row_of[readings.datastream]
        usable = (row >= 0) & (readings.flag != FAIL) & (readings.flag != MISSING) & (readings.value >= 0)
        if not usable.any():
            return
        row, at, depth = row[usable], readings.observed_at[usable], readings.value[usable]
        minute = at // (BUCKET_S * NS_PER_S)
        slot = minute % BUCKETS
        before = self._minute[row, slot]
        np.maximum.at(self._minute, (row, slot), minute)
        begun = self._minute[row, slot] > before
        self._until[row[begun], slot[begun]] = 0
        self._depth[row[begun], slot[begun]] = 0.0
        # Neither older than the ring, nor the reading that is its bucket's newest once more (as after a restart).
        keep = (minute == self._minute[row, slot]) & (at != self._until[row, slot])
        row, slot = row[keep], slot[keep]
        np.add.at(self._depth, (row, slot), depth[keep])
        np.maximum.at(self._until, (row, slot), at[keep])
        self._touched[row] = True

    def known(self, now: int) -> dict[str, list[Any]] | None:
        """What is known of all gauges, as columns; None in a city without gauges. ``now`` in ns, 0 if not known."""
        if not self._streams.size:
            return None
        current = self._current(now)
        return self._columns(np.flatnonzero(np.isfinite(current).any(axis=1)), current)

    def changed(self, now: int) -> dict[str, list[Any]] | None:
        """The same of those that changed since the last call; None if none did."""
        current = self._current(now)
        same = (current == self._told) | (np.isnan(current) & np.isnan(self._told))
        rows = np.flatnonzero(~same.all(axis=1))
        if not rows.size:
            return None
        self._told = current
        return self._columns(rows, current)

    def _current(self, now: int) -> Floats:
        rows = np.flatnonzero(self._touched)
        if rows.size:
            newest = self._minute[rows].max(axis=1, keepdims=True)
            until = np.where(self._minute[rows] > newest - BUCKETS, self._until[rows], 0)
            order = np.argsort(until, axis=1)
            until = np.take_along_axis(until, order, axis=1)
            depth = np.take_along_axis(self._depth[rows], order, axis=1)
            found = [intensity_mm_h(until, depth, self._gap[rows], w) for w in WINDOWS_S]
            self._found[rows] = np.round(np.column_stack(found), 1)
            interval = np.minimum(until[:, -1] - until[:, -2], self._gap[rows])
            self._valid_until[rows] = until[:, -1] + interval + GRACE_S * NS_PER_S
            self._touched[rows] = False
        return np.where((now <= self._valid_until)[:, None], self._found, np.nan)

    def _columns(self, rows: npt.NDArray[np.intp], current: Floats) -> dict[str, list[Any]]:
        return {
            "stream": self._streams[rows].tolist(),
            "mm_h_10min": current[rows, 0].tolist(),
            "mm_h_60min": current[rows, 1].tolist(),
            "class": rain_class(current[rows, 0]).tolist(),
        }


def _empty(n: int) -> tuple[Ints, Ints, Floats]:
    shape = (n, BUCKETS)
    return np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64), np.zeros(shape)
