"""The Store protocol: what the core's results are written to and read back from, and the types that travel.

Times are int64 nanoseconds since 1970 UTC. All spans are half open: start_ns <= time < end_ns.
A row that comes again (same identity) replaces the earlier one:

- reading: (datastream, observed_at)
- window: (datastream, width, start)
- transition of an alarm: (kind, subject, at), and in the embedded store also (raised_at, state, severity)
- pipeline status: at
- account: (device, at)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from storage.schema import KIND_NAMES, level_label
from telemetry.alarms import AlarmKind
from telemetry.directory import Directory
from telemetry.observations import NS_PER_S, Observations
from telemetry.properties import PROPERTIES, Domain
from telemetry.quality import FAIL, GOOD, SUSPECT
from telemetry.results import Transitions, Windows


@dataclass(frozen=True, slots=True)
class PipelineStatus:
    """How the pipeline itself is doing. Counts are since its start."""

    at: int
    """[ns since 1970 UTC]"""
    messages: int = 0
    readings: int = 0
    refused: int = 0
    duplicates: int = 0
    late: int = 0
    stored: int = 0
    latency_s: float = 0.0
    backlog_rows: int = 0
    spool_bytes: int = 0
    brokers: int = 0
    brokers_connected: int = 0
    backlog_messages: int = 0
    clear_in_s: float = 0.0
    """NaN while what waits does not become less."""


@dataclass(frozen=True, slots=True)
class AccountHour:
    """The loss account of one device and hour; ``ingest.account`` says what the numbers mean."""

    device: str
    """"": of no registered device."""
    at: int
    """Start of the hour. [ns since 1970 UTC]"""
    expected: float
    received: int
    duplicate: int
    refused: int
    late: int
    stored: int
    telling: int = 0
    """Grows with every telling: of two rows for one device and hour the one with the higher number counts."""


@dataclass(frozen=True, slots=True)
class HourCounts:
    """How many different readings the store has of each datastream and hour."""

    datastream: list[str]
    hour_ns: npt.NDArray[np.int64]
    count: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """What one step of the core gives to the store, with the journal positions it came from (both inclusive)."""

    first_position: int
    last_position: int
    directory: Directory
    readings: Observations
    windows: Windows
    transitions: Transitions
    pipeline: tuple[PipelineStatus, ...] = ()
    account: tuple[AccountHour, ...] = ()
    known: int = 0
    """How many of the readings were stored before, and come again with another flag."""

    def __post_init__(self) -> None:
        if not 0 <= self.first_position <= self.last_position:
            raise ValueError(
                f"journal positions must be 0 <= first_position <= last_position, "
                f"got {self.first_position} and {self.last_position}"
            )

    @property
    def rows(self) -> int:
        """Number of rows of all kinds."""
        few = len(self.transitions) + len(self.pipeline) + len(self.account)
        return len(self.readings) + len(self.windows) + few


@dataclass(frozen=True, slots=True)
class ReadingColumns:
    """Readings of one datastream, by time."""

    observed_at: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]
    """NaN where missing."""
    flag: npt.NDArray[np.uint8]
    remark: npt.NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))
    """As in ``Observations``; empty where none has one."""

    def __len__(self) -> int:
        return int(self.observed_at.shape[0])


@dataclass(frozen=True, slots=True)
class WindowColumns:
    """Windows of one datastream and one width, by start. Values are NaN where no reading was usable."""

    start: npt.NDArray[np.int64]
    count: npt.NDArray[np.int64]
    good_count: npt.NDArray[np.int64]
    minimum: npt.NDArray[np.float64]
    maximum: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float64]
    last: npt.NDArray[np.float64]
    total: npt.NDArray[np.float64]
    """Sum of the usable readings; NaN also where an earlier Pantau did not store it."""
    deviation: npt.NDArray[np.float64]
    """Their standard deviation; NaN as ``total``."""

    def __len__(self) -> int:
        return int(self.start.shape[0])


@dataclass(frozen=True, slots=True)
class Series:
    """A datastream over a span, at a resolution fit for a chart."""

    resolution_s: int
    """0: single readings; else the width of the windows."""
    time: npt.NDArray[np.int64]
    """observed_at, or start of the window."""
    mean: npt.NDArray[np.float64]
    """The reading itself, whatever its flag; or the mean of the window's usable readings (NaN if none)."""
    minimum: npt.NDArray[np.float64]
    maximum: npt.NDArray[np.float64]
    flag: npt.NDArray[np.uint8]
    """Of the reading; or GOOD if all readings of the window are, FAIL if none is usable, else SUSPECT."""

    def __len__(self) -> int:
        return int(self.time.shape[0])


@dataclass(frozen=True, slots=True)
class AlarmRecord:
    """One change of one alarm, as history: names instead of indexes, since the directory may have moved on."""

    kind: str
    """level, silence or broker."""
    subject: str
    """Datastream id, device id or name of the broker."""
    property: str
    """Empty but for level."""
    domain: str
    city: str
    district: str
    site: str
    raised_at: int
    """[ns since 1970 UTC; InfluxDB keeps microseconds]"""
    at: int
    """[ns since 1970 UTC]"""
    state: int
    severity: int
    value: float
    threshold: float
    peak: float
    peak_at: int
    """[ns since 1970 UTC; InfluxDB keeps microseconds]"""
    label: str
    directory_version: int


def alarm_records(directory: Directory, rows: Transitions) -> list[AlarmRecord]:
    """Changes of alarms with the names that the directory has for their subjects.

    Transitions are few, so a loop over them does no harm.
    """
    sites = {s.id: s for s in directory.sites} if len(rows) else {}
    records = []
    for i in range(len(rows)):
        kind, subject = int(rows.kind[i]), int(rows.subject[i])
        severity, threshold = int(rows.severity[i]), float(rows.threshold[i])
        if kind == AlarmKind.LEVEL:
            stream = directory.datastreams[subject]
            name, at_site, observed = stream.id, stream.site, stream.property
            domain = PROPERTIES[observed].domain
            label = level_label(directory, subject, severity, threshold)
        elif kind == AlarmKind.BROKER:
            name, at_site, observed, domain, label = directory.broker_name(subject), "", "", Domain.DEVICE, ""
        else:
            device = directory.devices[subject]
            name, at_site, observed, domain, label = device.id, device.site, "", Domain.DEVICE, ""
        site = sites.get(at_site)
        records.append(
            AlarmRecord(
                kind=KIND_NAMES[kind],
                subject=name,
                property=observed,
                domain=str(domain),
                city=directory.city,
                district=site.district if site else "",
                site=at_site,
                raised_at=int(rows.raised_at[i]),
                at=int(rows.at[i]),
                state=int(rows.state[i]),
                severity=severity,
                value=float(rows.value[i]),
                threshold=threshold,
                peak=float(rows.peak[i]),
                peak_at=int(rows.peak_at[i]),
                label=label,
                directory_version=int(rows.directory_version[i]),
            )
        )
    return records


class Store(Protocol):
    """Where results are kept. Safe for one writing thread and any number of reading threads at once."""

    def write(self, *batches: StoredBatch) -> None:
        """Store all rows of ``batches``, which are in order of position; durable on return, and idempotent.

        Raises
        ------
        StoreUnavailable
            Write the same batches again later; what part of them is stored already does no harm.
        StoreRefused
            The rows it names will never be taken; all others are stored.
        """
        ...

    def readings(self, datastream: str, start_ns: int, end_ns: int) -> ReadingColumns:
        """All readings of a datastream (by id). Raises StoreUnavailable, like every other read."""
        ...

    def windows(self, datastream: str, width_s: int, start_ns: int, end_ns: int) -> WindowColumns:
        """All windows of a datastream (by id) of one width whose start is in the span."""
        ...

    def series(self, datastream: str, start_ns: int, end_ns: int, max_points: int = 1000) -> Series:
        """A datastream for a chart: single readings if they are few enough, else windows."""
        ...

    def transitions(self, start_ns: int, end_ns: int) -> list[AlarmRecord]:
        """History of all alarms, newest last; without what was withdrawn."""
        ...

    def pipeline(self, start_ns: int, end_ns: int) -> list[PipelineStatus]:
        """How the pipeline was doing, newest last."""
        ...

    def count_readings(self, start_ns: int, end_ns: int, datastream: str | None = None) -> int:
        """Number of different readings, of one datastream or of all."""
        ...

    def count_by_hour(self, start_ns: int, end_ns: int) -> HourCounts:
        """Number of different readings of each datastream and whole hour of the span that has any."""
        ...

    def account(self, start_ns: int, end_ns: int) -> list[AccountHour]:
        """The loss account of hours that begin in the span, by time and device."""
        ...

    def forget_after(self, position: int) -> None:
        """Crash recovery: rows from journal positions > ``position`` will be computed and written again."""
        ...

    def last_position(self) -> int:
        """The highest journal position that a row came from; -1 if there is none, or the store does not keep it."""
        ...

    def check(self) -> str | None:
        """None if the store is ready to write and read, else one sentence: what is wrong and what to do."""
        ...

    def close(self) -> None:
        """Let go of connections, files and threads. Calling it twice does no harm."""
        ...


_CHART_WIDTHS_S = (60, 900, 3600)
"""Widths that charts are drawn from: those that there always were, and no days, of which the last is missing long."""


def chart_series(store: Store, datastream: str, start_ns: int, end_ns: int, max_points: int) -> Series:
    """Choose the resolution for a chart of at most ``max_points`` points and read it; the same for every store.

    Single readings if the hourly (or finer) windows say that they are few enough; else the finest window width that
    fits; else hourly windows, several joined to one point.
    """
    if max_points < 1:
        raise ValueError(f"max_points must be 1 or more, got {max_points}")
    span_s = max(end_ns - start_ns, 0) / NS_PER_S
    counting = next((w for w in _CHART_WIDTHS_S if span_s <= w * 1000), _CHART_WIDTHS_S[-1])
    # One window earlier: the first may have begun before the span.
    counted = int(store.windows(datastream, counting, start_ns - counting * NS_PER_S, end_ns).count.sum())
    # At most a count of both ends too many; late readings are in no window and so uncounted.
    if counted <= 1.5 * max_points + 2:
        raw = store.readings(datastream, start_ns, end_ns)
        if len(raw) <= max_points:
            return Series(0, raw.observed_at, raw.value, raw.value, raw.value, raw.flag)
    width_s = next((w for w in _CHART_WIDTHS_S if span_s / w <= max_points), _CHART_WIDTHS_S[-1])
    found = store.windows(datastream, width_s, start_ns, end_ns)
    if len(found) <= max_points:
        return Series(width_s, found.start, found.mean, found.minimum, found.maximum, _window_flags(found))
    return _joined(found, width_s, int(np.ceil(span_s / width_s / max_points)))


def last_of_each(position: npt.NDArray[np.int64], *identity: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """Index of the row with the highest position (of equals, the last) of each identity, sorted by identity."""
    order = np.lexsort((position, *identity[::-1]))
    if not len(order):
        return order
    last = np.zeros(len(order), dtype=bool)
    last[-1] = True
    for column in identity:
        by_identity = column[order]
        last[:-1] |= by_identity[1:] != by_identity[:-1]
    return order[last]


def _window_flags(windows: WindowColumns) -> npt.NDArray[np.uint8]:
    flag = np.where(windows.good_count == windows.count, GOOD, SUSPECT)
    return np.where(np.isnan(windows.mean), FAIL, flag).astype(np.uint8)


def _joined(windows: WindowColumns, width_s: int, times: int) -> Series:
    """Join each ``times`` windows to one point, aligned to multiples of the new width since 1970.

    The mean is weighted by count: the number of usable readings of a window is not stored.
    """
    new_width_s = width_s * times
    bucket = windows.start // (new_width_s * NS_PER_S)
    first = np.flatnonzero(np.diff(bucket, prepend=bucket[0] - 1))
    usable = ~np.isnan(windows.mean)
    weight = np.where(usable, np.maximum(windows.count, 1), 0).astype(np.float64)
    total = np.add.reduceat(weight, first)
    weighted = np.add.reduceat(np.where(usable, windows.mean, 0.0) * weight, first)
    mean = np.divide(weighted, total, out=np.full(len(first), np.nan), where=total > 0)
    minimum = np.fmin.reduceat(windows.minimum, first)
    maximum = np.fmax.reduceat(windows.maximum, first)
    count = np.add.reduceat(windows.count, first)
    good = np.add.reduceat(windows.good_count, first)
    unknown = np.full(len(first), np.nan)
    joined = WindowColumns(
        bucket[first] * new_width_s * NS_PER_S, count, good, minimum, maximum, mean, unknown, unknown, unknown
    )
    return Series(new_width_s, joined.start, mean, minimum, maximum, _window_flags(joined))
