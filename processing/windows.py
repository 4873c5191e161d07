"""Windows in event time: what is known of each minute, five minutes, quarter hour, hour and local day of a datastream.

Only the window that a datastream is in is held; it is published when the watermark passes its end or a reading of a
later window comes, whichever is first, and again whenever it is corrected. Sums are kept in multiples of 2⁻²⁰ of the
unit (those of squares in whole squares and 2⁻³² of them), which makes them exact, so that neither the order of
readings nor the cutting into batches changes a mean.

The mean of sound is that of its energy, that of directions a direction (``processing.means``). Their two sums stand in
the places of the sum and of the squares; no sum and no deviation is told of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from processing.means import MeanKind, finish, kind_of, transform
from telemetry.directory import Directory
from telemetry.observations import NS_PER_S
from telemetry.properties import PROPERTIES
from telemetry.quality import FAIL, GOOD
from telemetry.results import Windows

DAY_S = 86_400
WIDTHS_S = (60, 300, 900, 3600, DAY_S)
"""Days are those of the city, all others begin where UTC's do."""
_WIDTHS = np.array(WIDTHS_S, dtype=np.int64)
_AT_A_TIME = 4096

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
Kinds = npt.NDArray[np.uint8]

_KIND_OF_PROPERTY: Kinds = np.array(
    [MeanKind.ARITHMETIC if kind_of(name) == MeanKind.WEIGHTED else kind_of(name) for name in PROPERTIES],
    dtype=np.uint8,
)
Records = npt.NDArray[np.void]


@dataclass(slots=True)
class WindowState:
    """The windows of one width that the datastreams are in."""

    width_s: int
    held: Records
    """(datastreams,) of WINDOW; its start is NO_WINDOW before the first reading."""


def as_bytes(records: Records) -> Records:
    """The same records as pieces of memory: numpy copies these in one go, others field by field."""
    return records.view(np.dtype((np.void, records.dtype.itemsize)))


def kinds_of_mean(directory: Directory) -> Kinds:
    """(datastreams,) how the mean of each datastream's windows is taken: by energy for sound, circular for directions.

    Speeds are averaged as they come: the flow that would be their weight is another datastream.
    """
    found: Kinds = _KIND_OF_PROPERTY[directory.property_of]
    return found


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
    kind: Kinds,
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
    kind : (datastreams,) array
        How the mean of each datastream is taken; see ``kinds_of_mean``.
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
    owner, groups = _group(stream, start, value, flag, kind[stream])
    first = np.empty(owner.shape, dtype=np.bool_)
    first[0] = True
    np.not_equal(owner[1:], owner[:-1], out=first[1:])
    last = np.append(first[1:], True)
    at_first = np.flatnonzero(first)
    held = as_bytes(state.held)[owner[at_first]].view(WINDOW)
    goes_on = held["start"] == groups["start"][at_first]
    _merge(groups, at_first[goes_on], as_bytes(held)[goes_on].view(WINDOW))
    left = np.flatnonzero(~goes_on & (held["start"] != NO_WINDOW) & (held["published"] == 0))
    over = groups["start"] + state.width_s * NS_PER_S <= watermark
    groups["published"] = over
    as_bytes(state.held)[owner[last]] = as_bytes(groups)[last]
    told = np.flatnonzero(~last | over)
    parts = []
    if left.size:
        parts.append(_rows(state.width_s, owner[at_first[left]], as_bytes(held)[left].view(WINDOW), kind))
    if told.size:
        parts.append(_rows(state.width_s, owner[told], as_bytes(groups)[told].view(WINDOW), kind))
    return Windows.concat(parts) if parts else None


def aggregate_one_each(
    held: Records,
    stream: npt.NDArray[np.int32],
    observed_at: Ints,
    value: Floats,
    flag: npt.NDArray[np.uint8],
    kind: Kinds,
    watermark: int,
    utc_offset_ns: int = 0,
) -> Windows | None:
    """Add one reading of each of some datastreams to the windows of all widths at once; else as ``aggregate``.

    ``held`` is (datastreams, widths) of WINDOW. A few thousand datastreams are taken at a time: what is known of so
    many stays near the processor.
    """
    parts = []
    for begin in range(0, stream.shape[0], _AT_A_TIME):
        rows = slice(begin, begin + _AT_A_TIME)
        columns = (stream[rows], observed_at[rows], value[rows], flag[rows])
        parts += _add_one_each(held, *columns, kind, watermark, utc_offset_ns)
    return Windows.concat(parts) if parts else None


def _add_one_each(
    held: Records,
    stream: npt.NDArray[np.int32],
    observed_at: Ints,
    value: Floats,
    flag: npt.NDArray[np.uint8],
    kind: Kinds,
    watermark: int,
    utc_offset_ns: int,
) -> list[Windows]:
    whole = held.view(np.dtype((np.void, held.shape[1] * WINDOW.itemsize)))[:, 0]
    w = whole[stream].view(WINDOW).reshape(stream.shape[0], held.shape[1])
    start = np.stack([window_start(observed_at, width_s, utc_offset_ns) for width_s in WIDTHS_S], axis=1)
    parts = []
    fresh = w["start"] != start
    if fresh.any():
        row, width = np.nonzero(fresh & (w["start"] != NO_WINDOW) & (w["published"] == 0))
        if row.size:
            parts.append(_rows(_WIDTHS[width], stream[row], as_bytes(w)[row, width].view(WINDOW), kind))
        empty = np.zeros(1, dtype=WINDOW)
        empty["minimum"], empty["maximum"], empty["last"] = np.inf, -np.inf, np.nan
        as_bytes(w)[fresh] = as_bytes(empty)
        w["start"] = start
    usable = flag < FAIL
    exact, whole_square, rest = _sums(value, usable, kind[stream])
    w["count"] += 1
    w["good_count"] += (flag == GOOD)[:, None]
    w["usable_count"] += usable[:, None]
    w["total"] += exact[:, None]
    w["squares"] += whole_square[:, None]
    w["squares_rest"] += rest[:, None]
    w["minimum"] = np.minimum(w["minimum"], np.where(usable, value, np.inf)[:, None])
    w["maximum"] = np.maximum(w["maximum"], np.where(usable, value, -np.inf)[:, None])
    w["last"] = np.where(usable[:, None], value[:, None], w["last"])
    over = start <= watermark - _WIDTHS * NS_PER_S
    w["published"] = over
    whole[stream] = w.view(whole.dtype)[:, 0]
    row, width = np.nonzero(over)
    if row.size:
        parts.append(_rows(_WIDTHS[width], stream[row], as_bytes(w)[row, width].view(WINDOW), kind))
    return parts


def latest_of_each(windows: Windows) -> Windows:
    """Each window as it stands last in these rows; sorted by width, datastream and start."""
    order = np.lexsort((np.arange(len(windows)), windows.start, windows.datastream, windows.width_s))
    width, stream, start = windows.width_s[order], windows.datastream[order], windows.start[order]
    is_last = np.ones(len(windows), dtype=np.bool_)
    is_last[:-1] = (width[1:] != width[:-1]) | (stream[1:] != stream[:-1]) | (start[1:] != start[:-1])
    return windows.take(order[is_last])


def sweep(state: WindowState, kind: Kinds, watermark: int) -> Windows | None:
    """Publish the windows whose end the watermark has passed, and that were not published yet."""
    held = state.held
    start = held["start"]
    due = np.flatnonzero(
        (held["published"] == 0) & (start != NO_WINDOW) & (start <= watermark - state.width_s * NS_PER_S)
    )
    if not due.size:
        return None
    held["published"][due] = 1
    return _rows(state.width_s, due.astype(np.int32), as_bytes(held)[due].view(WINDOW), kind)


def _group(
    stream: npt.NDArray[np.int32], start: Ints, value: Floats, flag: npt.NDArray[np.uint8], kind: Kinds
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
    exact, whole, rest = _sums(value, usable, kind)
    add = np.add.reduceat
    groups["good_count"] = add((flag == GOOD).astype(np.uint32), at)
    groups["usable_count"] = add(usable.astype(np.uint32), at)
    groups["total"], groups["squares"], groups["squares_rest"] = add(exact, at), add(whole, at), add(rest, at)
    groups["minimum"] = np.minimum.reduceat(np.where(usable, value, np.inf), at)
    groups["maximum"] = np.maximum.reduceat(np.where(usable, value, -np.inf), at)
    groups["last"] = value[np.maximum.reduceat(np.where(usable, np.arange(n), 0), at)]
    return stream[at], groups


def _sums(value: Floats, usable: npt.NDArray[np.bool_], kind: Kinds) -> tuple[Floats, Floats, Floats]:
    """What is summed of each row, all exact: value and square, in two parts; or the two sums of another mean."""
    exact = np.rint(np.where(usable, value, 0.0) * (1 / _QUANTUM)) * _QUANTUM
    square = exact * exact
    whole = np.rint(square)
    rest = np.rint((square - whole) * (1 / _REST)) * _REST
    if kind.any():
        other = np.flatnonzero((kind != MeanKind.ARITHMETIC) & usable)
        exact[other], whole[other] = transform(kind[other], value[other])
        rest[other] = 0.0
    return exact, whole, rest


def _merge(groups: Records, at: npt.NDArray[np.intp], earlier: Records) -> None:
    """Add what was known of the windows ``groups[at]`` before."""
    if not at.size:
        return
    later = as_bytes(groups)[at].view(WINDOW)
    for name in ("count", "good_count", "total", "squares", "squares_rest"):
        later[name] += earlier[name]
    later["minimum"] = np.minimum(later["minimum"], earlier["minimum"])
    later["maximum"] = np.maximum(later["maximum"], earlier["maximum"])
    nothing = later["usable_count"] == 0
    later["last"][nothing] = earlier["last"][nothing]
    later["usable_count"] += earlier["usable_count"]
    as_bytes(groups)[at] = as_bytes(later)


def _rows(width_s: int | Ints, stream: npt.NDArray[np.int32], record: Records, kinds: Kinds) -> Windows:
    usable = record["usable_count"].astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = record["total"] / usable
        square = (record["squares"] / usable - mean * mean) + record["squares_rest"] / usable
    none = usable == 0
    total = record["total"].copy()
    kind = kinds[stream]
    if kind.any():
        other = np.flatnonzero(kind)
        mean[other] = finish(kind[other], total[other], record["squares"][other], usable[other])
        total[other] = square[other] = np.nan
    return Windows(
        datastream=stream.astype(np.int32),
        width_s=np.full(stream.shape, width_s, dtype=np.int32),
        start=record["start"].astype(np.int64),
        count=record["count"].astype(np.uint32),
        good_count=record["good_count"].astype(np.uint32),
        minimum=np.where(none, np.nan, record["minimum"]),
        maximum=np.where(none, np.nan, record["maximum"]),
        mean=np.where(none, np.nan, mean),
        last=np.where(none, np.nan, record["last"]),
        total=np.where(none, np.nan, total),
        deviation=np.where(none, np.nan, np.sqrt(np.maximum(square, 0.0))),
    )
