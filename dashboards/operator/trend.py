"""The last half hour of every datastream, and how fast a value changes: what an operator needs for "how soon".

This describes readings that are there; forecasts with a model of the river are made elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from telemetry.directory import Ladder
from telemetry.observations import NS_PER_S, Observations
from telemetry.quality import FAIL, MISSING

BUCKET_S = 30
"""Of several readings in this span, the last is kept."""
BUCKETS = 64
SPANS_S = (300, 900, 1800)
"""Spans over which a trend is looked for, the shortest first: a fast rise must not drown in an older calm."""
MIN_POINTS = 5
MIN_SPAN_S = 240
HORIZON_S = 3 * 3600
"""A threshold that would be reached later than this is not announced."""


class Recent:
    """A short ring of usable readings for every datastream, filled without a loop over readings."""

    def __init__(self, datastreams: int) -> None:
        self.time_s = np.zeros((datastreams, BUCKETS), dtype=np.uint32)
        """Second of observation; 0 is empty. [s since 1970 UTC]"""
        self.value = np.zeros((datastreams, BUCKETS), dtype=np.float32)

    def grow(self, datastreams: int) -> None:
        """Make room for datastreams that were appended."""
        more = datastreams - self.time_s.shape[0]
        if more > 0:
            self.time_s = np.vstack([self.time_s, np.zeros((more, BUCKETS), dtype=np.uint32)])
            self.value = np.vstack([self.value, np.zeros((more, BUCKETS), dtype=np.float32)])

    def put(self, readings: Observations) -> None:
        """Take readings in order of datastream and time; FAIL, MISSING and NaN are left out."""
        good = (readings.flag != FAIL) & (readings.flag != MISSING) & np.isfinite(readings.value)
        stream = readings.datastream[good]
        second = readings.observed_at[good] // NS_PER_S
        slot = (second // BUCKET_S) % BUCKETS
        newer = second >= self.time_s[stream, slot]
        stream, slot = stream[newer], slot[newer]
        # Of several readings for one slot numpy keeps the last, which is the newest.
        self.time_s[stream, slot] = second[newer]
        self.value[stream, slot] = readings.value[good][newer]

    def series(self, datastream: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Times [s since 1970 UTC] and values of one datastream, oldest first."""
        time_s = self.time_s[datastream].astype(np.int64)
        newest = int(time_s.max(initial=0))
        keep = np.flatnonzero(time_s > max(newest - BUCKET_S * BUCKETS, 0))
        order = keep[np.argsort(time_s[keep])]
        return time_s[order], self.value[datastream][order].astype(np.float64)


@dataclass(frozen=True, slots=True)
class Trend:
    """How fast a value changes. [unit of the property per hour]"""

    per_h: float
    """Median slope."""
    low_per_h: float
    """Quartiles of the slopes: the spread says how far to trust the median."""
    high_per_h: float
    value: float
    """Middle of the last readings; where the value is now, less its noise."""


def trend(time_s: npt.NDArray[np.int64], value: npt.NDArray[np.float64]) -> Trend | None:
    """Theil–Sen slope over the shortest of 5, 15 and 30 minutes that shows a clear one.

    Clear: the quartiles of the slopes are no further apart than the median is from zero. If no span is clear, the
    longest one speaks, and its quartiles say how little is known. Pairs closer than a quarter of the span are left
    out: their slope is mostly noise.

    Parameters
    ----------
    time_s : (n,) int64 array
        Strictly increasing. [s since 1970 UTC]
    value : (n,) float array
        Without NaN.

    Returns
    -------
    Trend or None
        None with fewer than 5 readings, or if they span less than 4 minutes.

    References
    ----------
    Sen, P. K. (1968): Estimates of the regression coefficient based on Kendall's tau.

    Examples
    --------
    >>> t = np.arange(0, 900, 60)
    >>> trend(t, 1.0 + 0.5 * t / 3600).per_h.__round__(6)
    0.5
    >>> trend(t[:4], 1.0 + t[:4]) is None
    True
    """
    found = None
    for span_s in SPANS_S if time_s.size else ():
        first = int(np.searchsorted(time_s, time_s[-1] - span_s))
        t, v = time_s[first:], value[first:]
        if t.size < MIN_POINTS or t[-1] - t[0] < MIN_SPAN_S:
            continue
        i, j = np.triu_indices(t.size, 1)
        step_s = t[j] - t[i]
        far = step_s * 4 >= t[-1] - t[0]
        slopes = (v[j][far] - v[i][far]) / (step_s[far] / 3600)
        low, middle, high = np.quantile(slopes, (0.25, 0.5, 0.75))
        found = Trend(float(middle), float(low), float(high), float(np.median(v[-3:])))
        if high - low <= abs(middle):
            break
    return found


@dataclass(frozen=True, slots=True)
class Approach:
    """The next threshold that a value is moving to."""

    label: str
    severity: int
    threshold: float
    soonest_s: float
    latest_s: float


def approach(ladder: Ladder, now: float, change: Trend) -> Approach | None:
    """When the next threshold would be reached if the change went on as it did.

    The range comes from the quartiles of the slope. None if even the slower of them does not lead there, if there is
    no further threshold, or if it is more than three hours away.

    Examples
    --------
    >>> from telemetry.directory import Step
    >>> ladder = Ladder(steps=(Step(1.0, 1, "Siaga 3"), Step(2.0, 2, "Siaga 2")))
    >>> a = approach(ladder, 1.5, Trend(1.0, 0.5, 2.0, 1.5))
    >>> a.label, a.soonest_s, a.latest_s
    ('Siaga 2', 900.0, 3600.0)
    >>> approach(ladder, 1.5, Trend(-1.0, -2.0, -0.5, 1.5)) is None
    True
    """
    towards = sorted((change.low_per_h * ladder.direction, change.high_per_h * ladder.direction))
    for step in ladder.steps:
        distance = (step.value - now) * ladder.direction
        if distance <= 0:
            continue
        if towards[0] <= 0 or distance / towards[1] * 3600 > HORIZON_S:
            return None
        return Approach(
            step.label, step.severity, step.value, distance / towards[1] * 3600, distance / towards[0] * 3600
        )
    return None
