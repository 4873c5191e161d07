"""The quality tests of U.S. IOOS QARTOD that look at single readings, pairs and triples; many datastreams at once.

Each test takes rows sorted by datastream and time (``Segments``) and gives one flag for each row: 1 good, 2 not
evaluated, 3 suspect, 4 fail, 9 missing. They flag and never change a value. Limits are one number for all datastreams
or one for each segment; NaN or infinity switches a test off, and its flag is then UNKNOWN.

A value that is not finite is missing. So a caller who wants readings that failed another test (``gross_range`` in
``processing.quality``) left out of these puts NaN in their place, and combines all flags by
``telemetry.quality.roll_up``.

**Streaming.** Each test also takes rows of history at the start of each segment; the flags of the other rows are then
those that a batch over everything would give, if the history is as long as the test's docstring says.
``processing.qartod_rows.new_rows`` tells which rows get their verdict.

Tests over a window of time stand in ``processing.qartod_windows``, those that compare datastreams in
``processing.qartod_partners``.

References
----------
U.S. IOOS QARTOD, Manual for Real-Time Quality Control of Water Level Data, version 2.1 (March 2021); read through its
implementation ioos_qc, commit 9c1853a (https://github.com/ioos/ioos_qc). docs/quality.md names all differences.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from processing.qartod_rows import (
    Bools,
    Flags,
    Floats,
    Index,
    Ints,
    PerStream,
    Present,
    check_rows,
    nanoseconds,
    not_evaluated,
    of_segment,
)
from processing.segments import Segments
from telemetry.observations import NS_PER_S
from telemetry.quality import FAIL, GOOD, SUSPECT, UNKNOWN

NEVER = np.iinfo(np.int64).min
"""Stands for "not yet" where a time is expected."""


class SpikeMethod(Enum):
    """How the height of a spike is measured."""

    AVERAGE = "average"
    """Distance from the mean of both neighbours. Also high where a steep rise begins or ends."""
    DIFFERENTIAL = "differential"
    """The smaller of the steps before and after, where they go in opposite directions; else 0. A rise has none."""


def spike(
    value: Floats,
    segments: Segments,
    *,
    suspect: PerStream,
    fail: PerStream = np.inf,
    method: SpikeMethod = SpikeMethod.AVERAGE,
) -> Flags:
    """Flag single readings that stick out from both neighbours.

    History: 2 rows. The verdict is one row late: a segment's last row is UNKNOWN until the next row is there.

    Parameters
    ----------
    value : (n,) float array
        NaN means missing. [unit of the property]
    segments : Segments
        The rows of each datastream, in order of time.
    suspect, fail : float or (segments,) float array
        Height above which (not: from which on) a reading is SUSPECT or FAIL. [unit of the property]
    method : SpikeMethod
        FAIL by ``AVERAGE`` also hits the foot of a true flood that rises by more than twice ``fail`` from one reading
        to the next; ``DIFFERENTIAL`` does not.

    Returns
    -------
    (n,) uint8 array
        FAIL, SUSPECT, GOOD, MISSING; UNKNOWN for the first and last row of each segment, and beside a missing value.

    Raises
    ------
    ValueError
        Shapes differ.

    References
    ----------
    QARTOD spike test as in ioos_qc ``spike_test``: ``|x[n-1] - (x[n] + x[n-2]) / 2|``, or ``differential``.
    Differences: a threshold of 0 is a threshold; with none, nothing was evaluated and the flag is UNKNOWN.

    Examples
    --------
    >>> s = Segments.of(np.zeros(5, np.int32))
    >>> spike(np.array([1.0, 1.0, 3.0, 1.0, 1.0]), s, suspect=0.5, fail=1.5)
    array([2, 3, 4, 3, 2], dtype=uint8)
    >>> spike(np.array([1.0, 1.0, 3.0, 1.0, 1.0]), s, suspect=0.5, fail=1.5, method=SpikeMethod.DIFFERENTIAL)
    array([2, 1, 4, 1, 2], dtype=uint8)
    """
    check_rows(segments, value)
    flag = not_evaluated(value)
    if value.size < 3:
        return flag
    inner = segments.of_row[2:] == segments.of_row[:-2]
    before, here, after = value[:-2], value[1:-1], value[2:]
    finite = np.isfinite(value)
    with np.errstate(invalid="ignore", over="ignore"):
        if method is SpikeMethod.AVERAGE:
            height = np.abs(here - (before + after) / 2)
        else:
            up, down = here - before, after - here
            height = np.where(np.sign(up) * np.sign(down) < 0, np.minimum(np.abs(up), np.abs(down)), 0.0)
    segment = segments.of_row[1:-1]
    suspect_of, fail_of = of_segment(suspect, segments)[segment], of_segment(fail, segments)[segment]
    evaluated = inner & finite[:-2] & finite[1:-1] & finite[2:] & (np.isfinite(suspect_of) | np.isfinite(fail_of))
    verdict = flag[1:-1]
    verdict[evaluated] = GOOD
    verdict[evaluated & (height > suspect_of)] = SUSPECT
    verdict[evaluated & (height > fail_of)] = FAIL
    return flag


def rate_of_change(value: Floats, observed_at: Ints, segments: Segments, *, suspect_per_s: PerStream) -> Flags:
    """Flag readings that differ from the one before by more than is believable in that time. Never FAIL.

    Real rivers rise 20 cm a minute: whether a fast rise is a flood or a fault is not told by its speed.

    History: 1 row that has a value (the newest one).

    Parameters
    ----------
    value : (n,) float array
        NaN means missing; the next reading is compared with the last one that has a value. [unit of the property]
    observed_at : (n,) int64 array
        Strictly increasing within each segment. [ns since 1970 UTC]
    segments : Segments
        The rows of each datastream.
    suspect_per_s : float or (segments,) float array
        Largest believable change. [unit of the property per s]

    Returns
    -------
    (n,) uint8 array
        SUSPECT, GOOD, MISSING, or UNKNOWN without a reading before.

    Raises
    ------
    ValueError
        Shapes differ, or times do not increase.

    References
    ----------
    QARTOD rate of change test as in ioos_qc ``rate_of_change_test``. Differences: seconds are not cut to whole ones;
    there is no FAIL; the first reading, and one after missing ones, is not GOOD unseen.

    Examples
    --------
    Half a second apart, which ioos_qc takes for 0 s:

    >>> s = Segments.of(np.zeros(3, np.int32))
    >>> rate_of_change(np.array([1.0, 1.2, 9.0]), np.array([0, 5, 10]) * 10**8, s, suspect_per_s=2.0)
    array([2, 1, 3], dtype=uint8)
    """
    check_rows(segments, value, observed_at)
    flag = not_evaluated(value)
    present = Present.of(value, segments)
    if present.row.size < 2:
        return flag
    limit = of_segment(suspect_per_s, segments)[present.segment[1:]]
    evaluated = (present.segment[1:] == present.segment[:-1]) & np.isfinite(limit)
    seconds = np.diff(observed_at[present.row]) / NS_PER_S
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        rate = np.abs(np.diff(present.value) / seconds)
    verdict = np.full(limit.shape, UNKNOWN, dtype=np.uint8)
    verdict[evaluated] = GOOD
    verdict[evaluated & (rate > limit)] = SUSPECT
    flag[present.row[1:]] = verdict
    return flag


def gap(observed_at: Ints, segments: Segments, *, expected_s: PerStream, suspect_times: float = 2.0) -> Flags:
    """Flag readings that come after a gap. Never FAIL: it is not the reading's fault that others are lost.

    History: 1 row, with a value or without.

    Parameters
    ----------
    observed_at : (n,) int64 array
        Strictly increasing within each segment. [ns since 1970 UTC]
    segments : Segments
        The rows of each datastream.
    expected_s : float or (segments,) float array
        Interval at which readings are expected. [s]
    suspect_times : float
        A reading that comes more than so many intervals after the one before is SUSPECT.

    Returns
    -------
    (n,) uint8 array
        SUSPECT, GOOD, or UNKNOWN for the first row of a segment; also for rows without a value.

    Raises
    ------
    ValueError
        Shapes differ, or times do not increase.

    References
    ----------
    QARTOD timing/gap test. ioos_qc ``time_gap_test`` gives FAIL, cuts the limit to whole seconds, and gives the first
    row the flag of the second; here such rows are SUSPECT and UNKNOWN.

    Examples
    --------
    >>> s = Segments.of(np.zeros(4, np.int32))
    >>> gap(np.array([0, 60, 180, 301]) * 10**9, s, expected_s=60.0)
    array([2, 1, 1, 3], dtype=uint8)
    """
    check_rows(segments, observed_at=observed_at)
    flag = np.full(observed_at.shape, UNKNOWN, dtype=np.uint8)
    longest_s = of_segment(expected_s, segments) * suspect_times
    on = np.isfinite(longest_s)
    longest = nanoseconds(longest_s)[segments.of_row]
    evaluated = (segments.of_row[1:] == segments.of_row[:-1]) & on[segments.of_row[1:]]
    late = np.diff(observed_at) > longest[1:]
    flag[1:][evaluated] = GOOD
    flag[1:][evaluated & late] = SUSPECT
    return flag


def silent_since(last_at: Ints, now: int, *, expected_s: PerStream, suspect_times: float = 2.0) -> Ints:
    """Since when datastreams are overdue, judged at a given time.

    Parameters
    ----------
    last_at : (datastreams,) int64 array
        Time of the newest reading of each; ``NEVER`` where there was none yet. [ns since 1970 UTC]
    now : int
        The time of the judgement. [ns since 1970 UTC]
    expected_s : float or (datastreams,) float array
        Interval at which readings are expected; NaN or infinite: nobody said. [s]
    suspect_times : float
        Overdue when the next reading is not there after so many intervals; as in ``gap``.

    Returns
    -------
    (datastreams,) int64 array
        When it became overdue: ``last_at`` and the allowed time. ``NEVER`` where it is not, or can't be told. [ns]

    Examples
    --------
    >>> since = silent_since(np.array([0, 100, NEVER]), 200 * 10**9, expected_s=60.0)
    >>> since // 10**9, since == NEVER
    (array([        120,         120, -9223372037]), array([False, False,  True]))
    """
    allowed_s = np.broadcast_to(np.asarray(expected_s, dtype=np.float64), last_at.shape) * suspect_times
    on = np.isfinite(allowed_s) & (last_at != NEVER)
    due = np.where(on, last_at, 0) + nanoseconds(np.where(on, allowed_s, 0.0))
    return np.where(on & (now > due), due, NEVER)


@dataclass(frozen=True, slots=True)
class Climatology:
    """Spans of believable values by month and hour of day in local time; several rows for a datastream.

    Rows are sorted by datastream. Where several rows of a datastream hold, the last one counts, as in ioos_qc.
    """

    datastream: npt.NDArray[np.int32]
    """(spans,) key of the datastream, increasing."""
    first_month: Ints
    """(spans,) 1 to 12."""
    last_month: Ints
    """(spans,) included; before ``first_month`` means into the next year: 11 to 2 is November to February."""
    from_hour: Floats
    """(spans,) hour of the local day, 0 to 24."""
    until_hour: Floats
    """(spans,) not included; not after ``from_hour`` means past midnight: 22 to 5 is the night. 0 to 24: all day."""
    suspect_min: Floats
    """(spans,) bounds belong to the inside; infinite where there is none. [unit of the property]"""
    suspect_max: Floats
    fail_min: Floats
    fail_max: Floats

    def __post_init__(self) -> None:
        shape = self.datastream.shape
        for name in ("first_month", "last_month", "from_hour", "until_hour", *self._spans()):
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} must have the shape of datastream {shape}, got {getattr(self, name).shape}")
        if np.any(self.datastream[1:] < self.datastream[:-1]):
            raise ValueError("spans must be sorted by datastream")
        for name in ("first_month", "last_month"):
            if np.any((getattr(self, name) < 1) | (getattr(self, name) > 12)):
                raise ValueError(f"{name} must be from 1 to 12")
        for name in ("from_hour", "until_hour"):
            if not np.all((getattr(self, name) >= 0) & (getattr(self, name) <= 24)):
                raise ValueError(f"{name} must be from 0 to 24")

    @staticmethod
    def _spans() -> tuple[str, ...]:
        return ("suspect_min", "suspect_max", "fail_min", "fail_max")


def climatology(
    value: Floats, observed_at: Ints, segments: Segments, spans: Climatology, *, utc_offset_h: PerStream
) -> Flags:
    """Flag readings outside what is believable at their season and hour.

    History: none.

    Parameters
    ----------
    value : (n,) float array
        NaN means missing. [unit of the property]
    observed_at : (n,) int64 array
        [ns since 1970 UTC]
    segments : Segments
        The rows of each datastream; ``segments.key`` is looked up in ``spans.datastream``.
    spans : Climatology
        What is believable.
    utc_offset_h : float or (segments,) float array
        Local time less UTC; the same all year. [h]

    Returns
    -------
    (n,) uint8 array
        FAIL, SUSPECT, GOOD, MISSING, or UNKNOWN where no span holds.

    Raises
    ------
    ValueError
        Shapes differ.

    References
    ----------
    QARTOD climatology test as in ioos_qc ``climatology_test``. Difference: months and hours are those of local time.

    Examples
    --------
    A lamp's power, expected below 5 W by day (6 to 17 h, UTC+7):

    >>> f, i = np.array, lambda x: np.array([x], np.int64)
    >>> day = Climatology(np.zeros(1, np.int32), i(1), i(12), f([6.0]), f([17.0]),
    ...                   f([-np.inf]), f([5.0]), f([-np.inf]), f([np.inf]))
    >>> at = np.array(["2026-06-21T03:00", "2026-06-21T15:00"], "datetime64[ns]").astype(np.int64)
    >>> climatology(f([80.0, 80.0]), at, Segments.of(np.zeros(2, np.int32)), day, utc_offset_h=7.0)
    array([3, 2], dtype=uint8)
    """
    check_rows(segments, value)
    if observed_at.shape != value.shape:
        raise ValueError(f"observed_at must have the shape of value {value.shape}, got {observed_at.shape}")
    flag = not_evaluated(value)
    finite = np.isfinite(value)
    first = np.searchsorted(spans.datastream, segments.key, side="left")
    count = np.searchsorted(spans.datastream, segments.key, side="right") - first
    most = int(count.max(initial=0))
    if not most:
        return flag
    offset_h = np.broadcast_to(np.asarray(utc_offset_h, dtype=np.float64), segments.key.shape)
    local = observed_at + np.rint(offset_h * 3600 * NS_PER_S).astype(np.int64)[segments.of_row]
    month = local.astype("datetime64[ns]").astype("datetime64[M]").astype(np.int64) % 12 + 1
    hour = local % (24 * 3600 * NS_PER_S) / (3600 * NS_PER_S)
    for position in range(most):
        row = np.flatnonzero((count > position)[segments.of_row] & finite)
        span = (first + position)[segments.of_row[row]]
        holds = _in_months(month[row], spans, span) & _in_hours(hour[row], spans, span)
        row, span = row[holds], span[holds]
        x = value[row]
        flag[row] = GOOD
        flag[row[(x < spans.suspect_min[span]) | (x > spans.suspect_max[span])]] = SUSPECT
        flag[row[(x < spans.fail_min[span]) | (x > spans.fail_max[span])]] = FAIL
    return flag


def _in_months(month: Ints, spans: Climatology, span: Index) -> Bools:
    first, last = spans.first_month[span], spans.last_month[span]
    after, before = month >= first, month <= last
    return np.where(first <= last, after & before, after | before)


def _in_hours(hour: Floats, spans: Climatology, span: Index) -> Bools:
    begin, end = spans.from_hour[span], spans.until_hour[span]
    after, before = hour >= begin, hour < end
    return np.where(begin < end, after & before, after | before)
