"""Clocks of devices: what is wrong with one, and the times that a stated rule makes of what was sent.

Nothing is corrected by a guess. A time that can't be is refused, with the likeliest cause as the reason; a time that
can be is taken as it is, unless the device's entry in the register states a rule (``Device.clock``). Then the reading
carries a remark. How far a clock is off, and how fast it drifts, is estimated from the smallest delay between
observation and reception, since a message can be late but not early.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ingest.refusals import Reason
from telemetry.directory import CLOCKS
from telemetry.observations import NS_PER_S, TIME_CORRECTED, TIME_OF_RECEPTION, Observations

Ints = npt.NDArray[np.int64]

QUARTER_S = 900
ZONES_S = (-12 * 3600, 14 * 3600)
"""The zones of the world, from UTC. [s]"""
CITY_TOLERANCE_S = 300.0
"""A clock that is off by the city's own offset, give or take this, shows local time."""
ZONE_TOLERANCE_S = 60.0
"""Likewise for any other whole quarter of an hour; less, since one in seven times would fit by chance otherwise."""
UNSET_BEFORE_NS = 978_307_200 * NS_PER_S
"""2001-01-01: clocks that were never set begin in 1970, 1980 (GPS) or 2000 (the usual clock chips)."""
GPS_ROLLOVER_S = 1024 * 7 * 86_400
"""After so long the week number of GPS begins anew, and old receivers go back by so much. [IS-GPS-200, 20.3.3.3.1.1]"""
ROLLOVER_TOLERANCE_S = 86_400.0
SCALES = (1000, 1_000_000, 1_000_000_000)
SCALE_TOLERANCE = 0.01
"""Of the time since 1970: half a year."""

UTC, LOCAL, NONE = range(len(CLOCKS))


def corrected(
    observed_at: Ints, received_at: Ints, rule: npt.NDArray[np.uint8], utc_offset_h: float
) -> tuple[Ints, npt.NDArray[np.uint8]]:
    """Times by the stated rules, and the remark that each deserves.

    Parameters
    ----------
    observed_at, received_at : (n,) int array
        [ns since 1970 UTC]
    rule : (n,) uint8 array
        Place in ``CLOCKS``.
    utc_offset_h : float
        Of the city.

    Examples
    --------
    >>> hour = 3600 * NS_PER_S
    >>> corrected(np.array([9, 9, 9]) * hour, np.full(3, 5 * hour), np.array([0, 1, 2], np.uint8), 7.0)[0] // hour
    array([9, 2, 5])
    """
    local, none = rule == LOCAL, rule == NONE
    times = np.where(none, received_at, observed_at)
    times[local] = shifted(times[local], -round(utc_offset_h * 3600) * NS_PER_S)
    return times, (local * TIME_CORRECTED + none * TIME_OF_RECEPTION).astype(np.uint8)


def shifted(times: Ints, by: int) -> Ints:
    """``times + by``, within int64."""
    least, most = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    bounded: Ints = np.clip(times, max(least, least - by), min(most, most - by)) + by
    return bounded


def cause(off_s: float, observed_at: int, now: int, utc_offset_h: float) -> tuple[Reason, str]:
    """Why a time that can't be is wrong, as a reason and a sentence.

    Parameters
    ----------
    off_s : float
        How far the time is ahead of the present; below 0: behind. [s]
    observed_at, now : int
        The time that was sent, and the present. [ns since 1970 UTC]
    utc_offset_h : float
        Of the city.

    Examples
    --------
    >>> now = 1_732_447_931 * NS_PER_S
    >>> cause(7 * 3600 - 2.5, now + 25_197 * NS_PER_S, now, 7.0)
    (<Reason.TIME_LOCAL: 'time_local'>, 'it is local time (UTC+07:00) sent as if it were UTC')
    >>> cause(-1e9, now // 1000, now, 7.0)[1]
    'it is 1000 times too small: seconds where milliseconds belong, or the like'
    """
    zone = zone_of(off_s, utc_offset_h)
    if zone is not None and off_s > 0:
        return Reason.TIME_LOCAL, f"it is local time ({_utc(zone)}) sent as if it were UTC"
    scale = scale_of(observed_at, now)
    if scale is not None:
        size = "small: seconds where milliseconds belong" if scale > 1 else "large: milliseconds where seconds belong"
        return Reason.TIME_WRONG_SCALE, f"it is {max(scale, round(1 / scale))} times too {size}, or the like"
    weeks = round(-off_s / GPS_ROLLOVER_S)
    if weeks in (1, 2) and abs(off_s + weeks * GPS_ROLLOVER_S) <= ROLLOVER_TOLERANCE_S:
        return Reason.CLOCK_NOT_SET, f"it is {weeks * 1024} weeks behind: a GPS receiver that lost count of the weeks"
    if observed_at < UNSET_BEFORE_NS <= now:
        return Reason.CLOCK_NOT_SET, "the clock of the device was never set"
    if off_s > 0:
        return Reason.TIME_IN_FUTURE, "check the clock of the device"
    return Reason.TIME_TOO_OLD, "check the clock of the device"


def zone_of(off_s: float, utc_offset_h: float) -> int | None:
    """The zone whose local time a clock shows that is ahead by so much, as its offset from UTC [s]; None: no zone's.

    Examples
    --------
    >>> zone_of(7 * 3600 - 200, 7.0), zone_of(19_805, 7.0), zone_of(1234, 7.0), zone_of(20, 7.0)
    (25200, 19800, None, None)
    """
    city = round(utc_offset_h * 3600)
    if city and abs(off_s - city) <= CITY_TOLERANCE_S:
        return city
    zone = round(off_s / QUARTER_S) * QUARTER_S
    if zone and ZONES_S[0] <= zone <= ZONES_S[1] and abs(off_s - zone) <= ZONE_TOLERANCE_S:
        return zone
    return None


def scale_of(time: float, now: float) -> float | None:
    """By what power of 1000 a time must be multiplied to be about now; None: by none. In the same unit, since 1970.

    Examples
    --------
    >>> scale_of(1_732_447, 1_732_447_931), scale_of(1_732_447_931_000, 1_732_447_931), scale_of(5, 1_732_447_931)
    (1000, 0.001, None)
    """
    if now <= 0 or time <= 0:
        return None
    for scale in (*SCALES, *(1 / s for s in SCALES)):
        if abs(time * scale - now) <= SCALE_TOLERANCE * now:
            return scale
    return None


def _utc(zone_s: int) -> str:
    sign = "-" if zone_s < 0 else "+"
    return f"UTC{sign}{abs(zone_s) // 3600:02d}:{abs(zone_s) // 60 % 60:02d}"


# ------------------------------------------------------------------------------------------------- how a clock goes

SPAN_S = 3600
"""The smallest delay is kept for spans of so long. [s]"""
SPANS = 24
MOST_JUDGED = 1000
DRIFT_SPANS = 6
"""With fewer spans nothing is said of drift."""
DRIFT_S_PER_DAY = 10.0
"""A clock that gains or loses more is worth a word: a quartz keeps to about 2 s a day. [s/d]"""
OFF_S = 120.0
"""Likewise one that is off by more. [s]"""


@dataclass(frozen=True, slots=True)
class ClockJudgement:
    """How a device's clock goes, by its recent messages."""

    ahead_s: float
    """How far it is ahead; below 0: behind, or all its messages were late by that much. [s]"""
    zone_s: int | None
    """If that is what local time somewhere would be: the zone's offset from UTC; behind, too. [s]"""
    drift_s_per_d: float | None
    """How much it gains a day; below 0: loses. None: not known yet. [s/d]"""
    spans: int

    @property
    def wrong(self) -> bool:
        """Whether somebody should set it."""
        drifts = self.drift_s_per_d is not None and abs(self.drift_s_per_d) > DRIFT_S_PER_DAY
        return self.ahead_s > OFF_S or self.zone_s is not None or drifts


class DeviceClocks:
    """The smallest delay of each device's messages, by spans of time; 100 bytes a device. For one thread."""

    def __init__(self, utc_offset_h: float = 0.0) -> None:
        self.utc_offset_h = utc_offset_h
        self._least = np.zeros((0, SPANS), dtype=np.float32)
        """(devices, SPANS) smallest received - observed. [s]; inf: nothing came"""
        self._span = np.full(SPANS, -1, dtype=np.int64)
        """(SPANS,) the span that each column is of."""

    def grow(self, devices: int) -> None:
        """Make room for new devices."""
        more = np.full((devices - len(self._least), SPANS), np.inf, dtype=np.float32)
        self._least = np.concatenate([self._least, more])

    def observe(self, device: npt.NDArray[np.int32], readings: Observations) -> None:
        """Take readings and whose they are (-1: nobody's); the newest of each datastream are enough."""
        if not len(readings):
            return
        fit = (device >= 0) & (readings.remark == 0)
        span = readings.received_at // (SPAN_S * NS_PER_S)
        newest = int(span.max())
        fit &= span > newest - SPANS
        for one in np.unique(span[fit]).tolist():
            column = one % SPANS
            if self._span[column] > one:
                continue
            if self._span[column] < one:
                self._span[column] = one
                self._least[:, column] = np.inf
            which = fit & (span == one)
            delay = ((readings.received_at[which] - readings.observed_at[which]) / NS_PER_S).astype(np.float32)
            np.minimum.at(self._least[:, column], device[which], delay)

    def judge(self, device: int) -> ClockJudgement | None:
        """How the clock of a device goes; None if nothing came lately."""
        order = np.argsort(self._span)
        return judged((self._span[order] * SPAN_S).astype(np.float64), self._least[device, order], self.utc_offset_h)

    def wrong(self) -> int:
        """How many devices have a clock that somebody should set; not more than ``MOST_JUDGED`` are looked at."""
        there = np.isfinite(self._least)
        far = (there & (np.abs(self._least) > ZONE_TOLERANCE_S)).any(axis=1)
        high, low = np.where(there, self._least, -np.inf).max(axis=1), np.where(there, self._least, np.inf).min(axis=1)
        moves = (there.sum(axis=1) >= DRIFT_SPANS) & (high - low > DRIFT_S_PER_DAY / 24 * DRIFT_SPANS)
        found = [self.judge(int(i)) for i in np.flatnonzero(far | moves)[:MOST_JUDGED]]
        return sum(j is not None and j.wrong for j in found)


def judged(
    at_s: npt.NDArray[np.float64], least_s: npt.NDArray[np.float32], utc_offset_h: float
) -> ClockJudgement | None:
    """A judgement by the smallest delay of each span, in order of time.

    The drift is the median of the slopes between all pairs of spans (Theil and Sen), which one late span does not move.

    Examples
    --------
    >>> hours = np.arange(12) * 3600.0
    >>> judged(hours, (2.0 - hours / 3600).astype(np.float32), 7.0)
    ClockJudgement(ahead_s=9.0, zone_s=None, drift_s_per_d=24.0, spans=12)
    """
    there = np.isfinite(least_s)
    if not there.any():
        return None
    at, least = at_s[there], least_s[there].astype(np.float64)
    ahead = -float(least[-1]) if at.size < 3 else -float(least[-3:].min())
    drift = None
    if at.size >= DRIFT_SPANS:
        i, j = np.triu_indices(at.size, 1)
        slope = float(np.median((least[j] - least[i]) / (at[j] - at[i])))
        drift = round(-slope * 86_400, 2)
    zone = zone_of(ahead, utc_offset_h)
    if zone is None and utc_offset_h and abs(ahead + utc_offset_h * 3600) <= CITY_TOLERANCE_S:
        zone = -round(utc_offset_h * 3600)
    return ClockJudgement(ahead, zone, drift, int(at.size))
