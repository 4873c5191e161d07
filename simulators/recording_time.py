"""Times of a recording's rows: from text or numbers to ns since 1970 UTC, across changes of summer time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from simulators.recording_map import NUMBER_FORMATS, TimeMap, zone_of
from telemetry.observations import NS_PER_S

_HAS_OFFSET = re.compile(r"\d[T ]\d.*(?:Z|z|[+-]\d\d(?::?\d\d)?)$")
_MIDNIGHT_24 = re.compile(r"(?<!\d)24(?=(?::?00)*$)")
_EARLIEST = pd.Timestamp("1800-01-01")
_LATEST = pd.Timestamp("2200-01-01")
_HALF_DAY = 43_200 * NS_PER_S

Mask = npt.NDArray[np.bool_]
Ns = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Times:
    """Times of rows, in their order in the file."""

    at: Ns
    """[ns since 1970 UTC]; of two possible ones the earlier."""
    reasons: npt.NDArray[np.object_]
    """Why a row has no time; '' if it has."""
    local: Ns
    """What the local clock showed, only where the time had no offset. [ns]"""
    is_local: Mask
    gap: Ns
    """How much later the second of two possible times is; 0 if there is only one. [ns]"""

    def take(self, rows: Mask) -> Times:
        """Only these rows."""
        return Times(self.at[rows], self.reasons[rows], self.local[rows], self.is_local[rows], self.gap[rows])


def instant(moment: datetime, zone: Any) -> int:
    """[ns since 1970 UTC] of a moment, which is in ``zone`` if it has no offset."""
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)
    return int(pd.Timestamp(moment).as_unit("ns").value)


def times_of(table: pd.DataFrame, time: TimeMap) -> Times:
    """Time of every row of a table of text."""
    text = table[time.columns[0]].str.strip()
    for column in time.columns[1:]:
        text = text + " " + table[column].str.strip()
    reasons = np.full(len(text), "", dtype=object)
    local, gap = np.zeros((2, len(text)), dtype=np.int64)
    is_local = np.zeros(len(text), dtype=bool)
    if time.format in NUMBER_FORMATS:
        start = time.start if time.start is not None else datetime.fromisoformat("1970-01-01T00:00:00+00:00")
        number = pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64)
        elapsed_s = number * NUMBER_FORMATS[time.format]
        round_s = time.round_s if time.round_s is not None else (1.0 if NUMBER_FORMATS[time.format] >= 60 else 0.0)
        if round_s > 0:
            elapsed_s = np.round(elapsed_s / round_s) * round_s
        bad = ~(np.abs(elapsed_s) < 6e9)
        whole = np.floor(np.where(bad, 0.0, elapsed_s))
        fraction = np.where(bad, 0.0, elapsed_s) - whole
        at = whole.astype(np.int64) * NS_PER_S + np.round(fraction * 1e6).astype(np.int64) * 1000
        at += instant(start, zone_of(time.zone, "time.zone"))
    else:
        is_local = ~_aware(text, time)
        stamp = pd.Series(pd.NaT, index=text.index, dtype="datetime64[ns, UTC]")
        if not is_local.all():
            stamp[~is_local] = _ns(_parse(text[~is_local], time.format, utc=True))
        if is_local.any():
            clock = _ns(_parse(text[is_local], time.format, utc=False))
            local[is_local] = _int(clock)
            placed = _placed(clock, time, earlier=time.ambiguous != "later")
            odd = np.flatnonzero(is_local)[(clock.notna() & placed.isna()).to_numpy()]
            reasons[odd] = [f"time {t!r} does not exist once in {time.zone}" for t in text.to_numpy()[odd]]
            stamp[is_local] = placed
            if time.ambiguous == "order":
                gap[is_local] = _int(_placed(clock, time, earlier=False)) - _int(placed)
        bad = stamp.isna().to_numpy()
        at = _int(stamp)
    unread = bad & (reasons == "")
    label = " + ".join(time.columns)
    reasons[unread] = [f"{label} must be a time ({time.format}), got {t!r}" for t in text.to_numpy()[unread]]
    return Times(at + round(time.shift_s * NS_PER_S), reasons, local, is_local, gap)


def second_hour(times: Times, device: npt.NDArray[np.intp], conditions: list[Mask]) -> Mask:
    """Which rows of a series are in the second of the two hours that the local clock shows alike.

    The series are the rows of each device that meet all conditions. Rows that meet only some of them help (one left out
    for its status still tells where the clock went back), if around that hour they are in order and each time comes
    once: then they are of one series, too. A file may have the newest row first.

    Parameters
    ----------
    times : Times
        N rows in the order of the file.
    device : (N,) array
        Number of the device.
    conditions : list of (N,) masks
        The rows that meet each condition.

    Returns
    -------
    (N,) mask; it means something only for rows that meet all conditions.
    """
    count = len(device)
    second = np.zeros(count, dtype=bool)
    twice = times.gap != 0
    undecided = twice & np.logical_and.reduce([*conditions, np.ones(count, dtype=bool)])
    for size in range(len(conditions) + 1):
        for chosen in combinations(conditions, size):
            if not undecided.any():
                return second
            rows = np.logical_and.reduce([*chosen, times.is_local])
            for night, series_sign in _nights(times.local, twice, device, rows):
                inside = twice[night]
                around = np.sign(np.diff(times.local[night[~inside]]))
                in_order = around.size > 0 and abs(around.sum()) == around.size
                if not undecided[night].any() or not (in_order or size == len(conditions)):
                    continue
                hour = night[inside]
                if (around.sum() or series_sign) < 0:
                    hour = hour[::-1]
                later = hour[_after_the_change(times.local[hour])]
                second[later[undecided[later]]] = True
                undecided[hour] = False
    return second


def _nights(local: Ns, twice: Mask, device: npt.NDArray[np.intp], rows: Mask) -> list[tuple[npt.NDArray[np.intp], int]]:
    """Stretches of rows of one device, from noon to noon, with times that come twice; > 0 if the device's rows rise."""
    order = np.flatnonzero(rows)
    order = order[np.argsort(device[order], kind="stable")]
    day = (local[order] - _HALF_DAY) // (2 * _HALF_DAY)
    same_device = np.diff(device[order]) == 0
    first = np.flatnonzero(np.concatenate(([True], ~same_device | (np.diff(day) != 0))))
    has_twice = np.logical_or.reduceat(twice[order], first) if order.size else np.zeros(0, dtype=bool)
    direction = np.sign(np.diff(local[order])) * same_device
    sign_of = np.bincount(device[order][1:], weights=direction, minlength=int(device.max(initial=0)) + 1)
    end = np.append(first[1:], order.size)
    return [(order[first[i] : end[i]], int(sign_of[device[order[first[i]]]])) for i in np.flatnonzero(has_twice)]


def _after_the_change(local: Ns) -> Mask:
    """Of times in the hour that comes twice, in order: those after the clock went back.

    That is the largest step back. Without one, the first half of those that show the same time are before it.
    """
    step = np.diff(local)
    if (step < 0).any():
        return np.arange(local.size) > int(step.argmin())
    _, first, group, size = np.unique(local, return_index=True, return_inverse=True, return_counts=True)
    occurrence = np.arange(local.size) - first[group]
    later: Mask = 2 * occurrence >= size[group] + (size[group] % 2)
    return later


def _aware(text: pd.Series[str], time: TimeMap) -> Mask:
    if time.format == "iso":
        return text.str.contains(_HAS_OFFSET.pattern).to_numpy(dtype=bool)
    return np.full(len(text), "%z" in time.format)


def _placed(clock: pd.Series[pd.Timestamp], time: TimeMap, *, earlier: bool) -> pd.Series[pd.Timestamp]:
    """UTC of local times; NaT where one does not exist, or is dropped as ambiguous."""
    ambiguous: Any = "NaT" if time.ambiguous == "drop" else np.full(len(clock), earlier)
    nonexistent: Any = "shift_forward" if time.nonexistent == "forward" else "NaT"
    placed = clock.dt.tz_localize(zone_of(time.zone, "time.zone"), ambiguous=ambiguous, nonexistent=nonexistent)
    return placed.dt.tz_convert("UTC")


def _int(stamps: pd.Series[pd.Timestamp]) -> Ns:
    """[ns since 1970], and the same number for every NaT."""
    zone = stamps.dt.tz
    filled = stamps.fillna(_EARLIEST.tz_localize(zone))
    plain = filled if zone is None else filled.dt.tz_localize(None)
    return plain.to_numpy(dtype="datetime64[ns]").astype(np.int64)


def _ns(stamps: pd.Series[pd.Timestamp]) -> pd.Series[pd.Timestamp]:
    """Nanosecond resolution; NaT for years that it cannot hold."""
    zone = stamps.dt.tz
    low, high = _EARLIEST.tz_localize(zone), _LATEST.tz_localize(zone)
    return stamps.where((stamps > low) & (stamps < high)).dt.as_unit("ns")


def _parse(text: pd.Series[str], form: str, *, utc: bool) -> pd.Series[pd.Timestamp]:
    form = "ISO8601" if form == "iso" else form
    stamps = pd.to_datetime(text, format=form, utc=utc, errors="coerce")
    # 24:00 is the midnight at the end of the day.
    late = stamps.isna()
    if late.any():
        late &= text.str.contains(_MIDNIGHT_24.pattern)
    if late.any():
        midnight = text[late].str.replace(_MIDNIGHT_24, "00", regex=True)
        again = pd.to_datetime(midnight, format=form, utc=utc, errors="coerce")
        stamps[late] = again + pd.Timedelta(days=1)
    return stamps
