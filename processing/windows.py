"""Windows in event time: what is known of each minute, five minutes, quarter hour, hour and local day of a datastream.

Only the window that a datastream is in is held; it is published when the watermark passes its end or a reading of a
later window comes, whichever is first, and again whenever it is corrected. Sums are kept in multiples of 2⁻²⁰ of the
unit (those of squares in whole squares and 2⁻³² of them), which makes them exact, so that neither the order of
readings nor the cutting into batches changes a mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from telemetry.observations import NS_PER_S
from telemetry.quality import FAIL, GOOD
from telemetry.results import Windows

DAY_S = 86_400
WIDTHS_S = (60, 300, 900, 3600, DAY_S)
"""Days are those of the city, all others begin where UTC's do."""

NO_WINDOW = np.iinfo(np.int64).min
_QUANTUM = 2.0**-20
_REST = 2.0**-32

WINDOW = np.dtype(
    [
        ("start", np.int64),
        ("total", np.float64),
        ("squares", np.float64),
        ("squares_rest", np.float64),
        ("minimum", np.float64),
        ("maximum", np.float64),
        ("last", np.float64),
        ("count", np.uint32),
        ("good_count", np.uint32),
        ("usable_count", np.uint32),
        ("published", np.uint32),
    ]
)
"""What is known of one window. ``minimum``, ``maximum`` and ``last`` mean nothing while ``usable_count`` is 0."""

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Records = npt.NDArray[np.void]


@dataclass(slots=True)
class WindowState:
    """The windows of one width that the datastreams are in."""

    width_s: int
    held: Records
    """(datastreams,) of WINDOW; its start is NO_WINDOW before the first reading."""


def window_start(observed_at: Ints, width_s: int, utc_offset_ns: int) -> Ints:
    """Start of the window that each moment lies in. [ns since 1970 UTC]"""
    width_ns = width_s * NS_PER_S
    offset = utc_offset_ns if width_s == DAY_S else 0
    start: Ints = (observed_at + offset) // width_ns * width_ns - offset
    return start


def aggregate(
    state: WindowState,
    stream: npt.NDArray[np.int32],
    observed_at: Ints,
    value: Floats,
    flag: npt.NDArray[np.uint8],
    watermark: int,
    utc_offset_ns: int = 0,
) -> Windows | None:
    """Add a batch to the windows of one width.

    Parameters
    ----------
    state : WindowState
        Changed in place.
    stream, observed_at, value, flag : (n,) arrays
        Sorted by datastream and time; of each datastream all newer than what was added before.
    watermark : int
        Windows that end up to it are published as they are changed. [ns]
    utc_offset_ns : int
        Where local days begin.

    Returns
    -------
    Windows or None
        Those that are over, new or changed.
    """
    if not stream.size:
        return None
    start = window_start(observed_at, state.width_s, utc_offset_ns)
    owner, groups = _group(stream, start, value, flag)
    first = np.empty(owner.shape, dtype=np.bool_)
    first[0] = True
    np.not_equal(owner[1:], owner[:-1], out=first[1:])
    last = np.append(first[1:], True)
    at_first = np.flatnonzero(first)
    held = state.held[owner[at_first]]
    goes_on = held["start"] == groups["start"][at_first]
    _merge(groups, at_first[goes_on], held[goes_on])
    left = np.flatnonzero(~goes_on & (held["start"] != NO_WINDOW) & (held["published"] == 0))
    over = groups["start"] + state.width_s * NS_PER_S <= watermark
    groups["published"] = over
    state.held[owner[last]] = groups[last]
    told = np.flatnonzero(~last | over)
    parts = []
    if left.size:
        parts.append(_rows(state.width_s, owner[at_first[left]], held[left]))
    if told.size:
        parts.append(_rows(state.width_s, owner[told], groups[told]))
    return Windows.concat(parts) if parts else None


def sweep(state: WindowState, watermark: int) -> Windows | None:
    """Publish the windows whose end the watermark has passed, and that were not published yet."""
    held = state.held
    start = held["start"]
    due = np.flatnonzero(
        (held["published"] == 0) & (start != NO_WINDOW) & (start <= watermark - state.width_s * NS_PER_S)
    )
    if not due.size:
        return None
    held["published"][due] = 1
    return _rows(state.width_s, due.astype(np.int32), held[due])


def _group(
    stream: npt.NDArray[np.int32], start: Ints, value: Floats, flag: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.int32], Records]:
    """The datastream and the window of each run of rows that belong together."""
    n = stream.shape[0]
    first = np.empty(n, dtype=np.bool_)
    first[0] = True
    np.logical_or(stream[1:] != stream[:-1], start[1:] != start[:-1], out=first[1:])
    at = np.flatnonzero(first)
    usable = flag < FAIL
    groups = np.empty(at.shape, dtype=WINDOW)
    groups["start"] = start[at]
    groups["count"] = np.diff(np.append(at, n))
    exact = np.rint(np.where(usable, value, 0.0) / _QUANTUM) * _QUANTUM
    square = exact * exact
    whole = np.rint(square)
    rest = np.rint((square - whole) / _REST) * _REST
    if at.shape[0] == n:  # one row each, as most often
        groups["good_count"] = flag == GOOD
        groups["usable_count"] = usable
        groups["total"], groups["squares"], groups["squares_rest"] = exact, whole, rest
        groups["minimum"] = np.where(usable, value, np.inf)
        groups["maximum"] = np.where(usable, value, -np.inf)
        groups["last"] = value
        return stream, groups
    add = np.add.reduceat
    groups["good_count"] = add((flag == GOOD).astype(np.uint32), at)
    groups["usable_count"] = add(usable.astype(np.uint32), at)
    groups["total"], groups["squares"], groups["squares_rest"] = add(exact, at), add(whole, at), add(rest, at)
    groups["minimum"] = np.minimum.reduceat(np.where(usable, value, np.inf), at)
    groups["maximum"] = np.maximum.reduceat(np.where(usable, value, -np.inf), at)
    groups["last"] = value[np.maximum.reduceat(np.where(usable, np.arange(n), 0), at)]
    return stream[at], groups


def _merge(groups: Records, at: npt.NDArray[np.intp], earlier: Records) -> None:
    """Add what was known of the windows ``groups[at]`` before."""
    if not at.size:
        return
    later = groups[at]
    for name in ("count", "good_count", "total", "squares", "squares_rest"):
        later[name] += earlier[name]
    later["minimum"] = np.minimum(later["minimum"], earlier["minimum"])
    later["maximum"] = np.maximum(later["maximum"], earlier["maximum"])
    nothing = later["usable_count"] == 0
    later["last"][nothing] = earlier["last"][nothing]
    later["usable_count"] += earlier["usable_count"]
    groups[at] = later


def _rows(width_s: int, stream: npt.NDArray[np.int32], record: Records) -> Windows:
    usable = record["usable_count"].astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = record["total"] / usable
        square = (record["squares"] / usable - mean * mean) + record["squares_rest"] / usable
    none = usable == 0
    return Windows(
        datastream=stream.astype(np.int32),
        width_s=np.full(stream.shape, width_s, dtype=np.int32),
        start=record["start"].copy(),
        count=record["count"].copy(),
        good_count=record["good_count"].copy(),
        minimum=np.where(none, np.nan, record["minimum"]),
        maximum=np.where(none, np.nan, record["maximum"]),
        mean=np.where(none, np.nan, mean),
        last=np.where(none, np.nan, record["last"]),
        total=np.where(none, np.nan, record["total"]),
        deviation=np.where(none, np.nan, np.sqrt(np.maximum(square, 0.0))),
    )
