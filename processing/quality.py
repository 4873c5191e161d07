"""Quality tests of readings: range, rate of change, flat line. They flag and never delete.

The readings of a batch come sorted by datastream and time, each newer than all before it of its datastream; what the
tests must remember from earlier batches is in ``QualityState``. However a stream is cut into batches, the flags are
the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from processing.segments import Segments, last_true_before
from telemetry.directory import Directory
from telemetry.observations import NS_PER_S
from telemetry.quality import FAIL, GOOD, MISSING, SUSPECT, UNKNOWN, roll_up

NEVER = np.iinfo(np.int64).min
"""Stands for "not yet" where a time is expected."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.uint8]


@dataclass(slots=True)
class QualityState:
    """What the tests remember of each datastream."""

    usable_at: Ints
    """(datastreams,) time of the last reading that was in range; NEVER before the first. [ns]"""
    usable_value: Floats
    """(datastreams,) its value."""
    flat_since: Ints
    """(datastreams,) since when the value has not changed. [ns]"""


def gross_range(value: Floats, fail_min: Floats, fail_max: Floats, suspect_min: Floats, suspect_max: Floats) -> Flags:
    """Flag readings outside what the sensor can, or what is believable at its site; bounds belong to the inside.

    Parameters
    ----------
    value : (n,) float array
        NaN means missing. [unit of the property]
    fail_min, fail_max, suspect_min, suspect_max : (n,) float arrays
        Limits of each reading's datastream; infinite where there is none. [unit of the property]

    Returns
    -------
    (n,) uint8 array
        FAIL, SUSPECT, GOOD, or MISSING for NaN.

    References
    ----------
    U.S. IOOS QARTOD, gross range test, as in ioos_qc ``gross_range_test``.

    Examples
    --------
    >>> gross_range(np.array([1.0, 5.0, 9.0, np.nan]), *(np.full(4, x) for x in (0.0, 8.0, 1.0, 4.0)))
    array([1, 3, 4, 9], dtype=uint8)
    """
    flag = np.full(value.shape, GOOD, dtype=np.uint8)
    flag[(value < suspect_min) | (value > suspect_max)] = SUSPECT
    flag[(value < fail_min) | (value > fail_max)] = FAIL
    flag[np.isnan(value)] = MISSING
    return flag


def check(
    state: QualityState,
    directory: Directory,
    segments: Segments,
    observed_at: Ints,
    value: Floats,
) -> Flags:
    """Run all tests over a batch and take note of it in ``state``.

    Rate of change: SUSPECT, never FAIL, if ``|Δvalue| / Δt`` against the last reading in range is above
    ``rate_max_per_s``; real rivers rise 20 cm a minute, so a fast rise is for people to judge.
    Flat line: SUSPECT or FAIL once the value has stayed within ``flat_tolerance`` of its predecessor for
    ``flat_suspect_s`` or ``flat_fail_s``. A gap longer than ``flat_suspect_s`` starts a new run: nobody looked.

    Parameters
    ----------
    state : QualityState
        Changed in place.
    directory : Directory
        Gives the limits.
    segments : Segments
        The rows of each datastream; ``segments.key`` is the datastream index.
    observed_at, value : (n,) arrays
        Sorted by time within each segment, strictly increasing, newer than what ``state`` has seen. [ns], [unit]

    Returns
    -------
    (n,) uint8 array
        The roll-up of the tests: FAIL, SUSPECT, GOOD or MISSING.

    References
    ----------
    U.S. IOOS QARTOD, rate of change and flat line tests, as in ioos_qc ``rate_of_change_test`` and ``flat_line_test``,
    with two differences on purpose: intervals are not cut to whole seconds, and the flat line test compares each
    reading with the one before it instead of the range in a window.
    """
    stream = segments.key[segments.of_row]
    in_range = gross_range(
        value,
        directory.fail_min[stream],
        directory.fail_max[stream],
        directory.suspect_min[stream],
        directory.suspect_max[stream],
    )
    usable = in_range < FAIL
    previous = last_true_before(usable, segments)
    carried = previous < 0
    previous_at = np.where(carried, state.usable_at[stream], observed_at[previous])
    previous_value = np.where(carried, state.usable_value[stream], value[previous])
    known = previous_at != NEVER
    with np.errstate(invalid="ignore"):
        change = np.abs(value - previous_value)
    compared = known & usable
    interval_s = np.where(compared, observed_at - np.where(known, previous_at, 0), NS_PER_S) / NS_PER_S

    not_compared = np.where(in_range == MISSING, MISSING, UNKNOWN).astype(np.uint8)
    rate = not_compared.copy()
    rate[compared] = GOOD
    rate[compared & (change > directory.rate_max_per_s[stream] * interval_s)] = SUSPECT

    suspect_s = directory.flat_suspect_s[stream]
    fail_s = directory.flat_fail_s[stream]
    longest_gap_s = np.minimum(suspect_s, fail_s)
    stays = compared & (change <= directory.flat_tolerance[stream]) & (interval_s <= longest_gap_s)
    run_start = last_true_before(usable & ~stays, segments)
    run_start[usable & ~stays] = np.flatnonzero(usable & ~stays)
    since = np.where(run_start < 0, state.flat_since[stream], observed_at[run_start])
    flat_s = np.where(stays, observed_at - np.where(stays, since, 0), 0) / NS_PER_S
    flat = not_compared
    flat[compared] = GOOD
    flat[stays & (flat_s >= suspect_s)] = SUSPECT
    flat[stays & (flat_s >= fail_s)] = FAIL

    last = _last_row(usable, segments)
    seen = last >= 0
    row, key = last[seen], segments.key[seen]
    state.usable_at[key] = observed_at[row]
    state.usable_value[key] = value[row]
    state.flat_since[key] = since[row]
    return roll_up(in_range, rate, flat)


def _last_row(mask: npt.NDArray[np.bool_], segments: Segments) -> npt.NDArray[np.intp]:
    """(segments,) the last row of each segment where ``mask`` holds, or -1."""
    if not mask.size:
        return np.empty(0, dtype=np.intp)
    return np.maximum.reduceat(np.where(mask, np.arange(mask.shape[0]), -1), segments.start)
