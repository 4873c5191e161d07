"""The embedded store: Parquet files in a folder, read with DuckDB. No server, nothing to install.

Layout, below the folder::

    catalog.sqlite                        which files count (``storage.catalog``)
    readings/fresh/<position>-<id>.parquet        one write each
    readings/date=2026-11-24/<level>-<id>.parquet     merged, one UTC day each
    windows/ alarms/ pipeline/ account/               likewise

A write is durable when its files and then the catalog are fsynced; kill -9 before that leaves files that do not
count and are deleted at the next start. A merge replaces several small files by a larger one, sorted so that a read
touches little; it runs in a thread of its own. Replaced files stay for a while, for readers that have just listed
them. Every row carries the journal position of its batch: of rows with one identity the highest position counts.
(Rows of the loss account do not come from one place of the journal: theirs is the number of the telling.)
Times are int64 columns named ``..._ns``, nanoseconds since 1970 UTC.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import sqlite3
import tempfile
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import polars as pl

from storage.catalog import NAME as CATALOG_NAME
from storage.catalog import Catalog, DataFile
from storage.errors import StoreUnavailable
from storage.store import (
    AccountHour,
    AlarmRecord,
    HourCounts,
    PipelineStatus,
    ReadingColumns,
    Series,
    StoredBatch,
    WindowColumns,
    alarm_records,
    chart_series,
    last_of_each,
)
from telemetry.alarms import AlarmState
from telemetry.directory import Directory
from telemetry.observations import Observations
from telemetry.results import Windows

NS_PER_DAY = 86_400_000_000_000
FRESH_FILES = 30
"""Merge fresh files once there are this many; a write a second gives as many seconds."""
MERGE_FILES = 8
"""Merge this many files of one level and day into one of the next level."""
MERGED_ROWS_MAX = 2_000_000
"""Files of half this size and more are not merged further: bounds the memory of a merge to about 300 MB."""
DUCKDB_MEMORY = "512MB"
"""What a read may use before it spills to the temporary folder."""
QUIET_S = 900.0
"""A day's files are merged to one when none was added for this long."""
TRASH_S = 120.0
"""How long a replaced file stays for readers that have listed it."""
LOW_DISK_BYTES = 2**30

_log = logging.getLogger(__name__)

# Per kind of file: its time column, and the identity of a row in the order by which a merged file is sorted.
_TIME = {
    "readings": "observed_at_ns",
    "windows": "start_ns",
    "alarms": "at_ns",
    "pipeline": "at_ns",
    "account": "at_ns",
}
_IDENTITY = {
    "readings": ("datastream", "observed_at_ns"),
    "windows": ("width_s", "datastream", "start_ns"),
    "alarms": ("at_ns", "kind", "subject", "raised_at_ns"),
    "pipeline": ("at_ns",),
    "account": ("at_ns", "device"),
}
_ALARM_TIMES = {"raised_at": "raised_at_ns", "at": "at_ns", "peak_at": "peak_at_ns"}
_STATUS_FIELDS = (
    "messages",
    "readings",
    "refused",
    "duplicates",
    "late",
    "stored",
    "latency_s",
    "backlog_rows",
    "spool_bytes",
    "brokers",
    "brokers_connected",
    "backlog_messages",
    "clear_in_s",
)
_WINDOW_LATER = ("total", "deviation")
_STATUS_FLOATS = ("latency_s", "clear_in_s")
_STATUS_LATER = ("backlog_messages", "clear_in_s")
"""Files of the first version lack these (and ``_WINDOW_LATER``); they read as 0 (and as NaN)."""


class EmbeddedStore:
    """A ``Store`` in a folder: one process writes, in one thread; any number of threads and processes read.

    Parameters
    ----------
    folder : Path
        Made if missing.
    read_only : bool
        For a second process: no lock, no merging; ``write`` and ``forget_after`` raise StoreUnavailable.

    Raises
    ------
    StoreUnavailable
        The folder can't be used, another process writes to it, or (read_only) nothing is stored there.
    """

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self.folder = Path(folder)
        self._read_only = read_only
        self._closed = False
        self._merging = threading.Lock()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._merge_error = ""
        self._names: tuple[Directory, pl.Series] | None = None
        self._lock_file: int | None = None
        self._last_tidy_s = 0.0
        try:
            if not read_only:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._lock_file = _locked(self.folder / "writer.lock")
            missing = not (self.folder / CATALOG_NAME).exists()
            self._catalog = Catalog(self.folder, read_only=read_only)
        except BlockingIOError:
            raise StoreUnavailable(
                f"another process writes to {self.folder}: stop it, or give this one a folder of its own (store.folder)"
            ) from None
        except (OSError, sqlite3.Error) as error:
            self._unlock()
            raise StoreUnavailable(self._cant_open(error)) from error
        self._duck = duckdb.connect(":memory:")
        # Files live for minutes and the system caches them: a cache of DuckDB's own costs more than it gives.
        self._duck.execute("SET enable_external_file_cache = false")
        self._duck.execute(f"SET memory_limit = '{DUCKDB_MEMORY}'")
        self._duck.execute("SET temp_directory = ?", [tempfile.gettempdir()])
        self._thread: threading.Thread | None = None
        if not read_only:
            try:
                if missing:
                    self._adopt()
                self._sweep()
            except (OSError, sqlite3.Error, pl.exceptions.PolarsError) as error:
                self.close()
                raise StoreUnavailable(self._cant_open(error)) from error
            self._thread = threading.Thread(target=self._keep_merging, name="store-merge", daemon=True)
            self._thread.start()

    # Writing

    def write(self, *batches: StoredBatch) -> None:
        """See ``Store.write``; never refuses a row."""
        self._writable()
        frames = {
            "readings": self._readings_frame(batches),
            "windows": self._windows_frame(batches),
            "alarms": _alarms_frame(batches),
            "pipeline": _pipeline_frame(batches),
            "account": _account_frame(batches),
        }
        try:
            self._commit([(kind, 0, -1, frame) for kind, frame in frames.items() if frame is not None])
        except (OSError, sqlite3.Error, pl.exceptions.PolarsError) as error:
            raise StoreUnavailable(f"writing to {self.folder} failed: {error}") from error
        self._wake.set()

    def forget_after(self, position: int) -> None:
        """See ``Store.forget_after``."""
        self._writable()
        try:
            with self._merging:
                stale = [f for f in self._catalog.after(position) if f.kind != "account"]
                kept = []
                for file in stale:
                    if file.first_position <= position:
                        frame = _read(self.folder / file.name).filter(pl.col("position") <= position)
                        if len(frame):
                            kept.append((file.kind, file.level, file.day, frame))
                self._commit(kept, replacing=stale)
        except (OSError, sqlite3.Error, pl.exceptions.PolarsError) as error:
            raise StoreUnavailable(f"rewriting {self.folder} failed: {error}") from error

    def last_position(self) -> int:
        """See ``Store.last_position``."""
        return max((f.last_position for f in self._catalog.after(-1) if f.kind != "account"), default=-1)

    # Reading

    def readings(self, datastream: str, start_ns: int, end_ns: int) -> ReadingColumns:
        """See ``Store.readings``."""
        # Files of earlier versions have no column of remarks: so it can't be named.
        columns = "* EXCLUDE (datastream)"
        found = self._select("readings", columns, start_ns, end_ns, "datastream = ?", datastream)
        if found is None:
            return ReadingColumns(np.empty(0, np.int64), np.empty(0), np.empty(0, np.uint8))
        keep = last_of_each(found["position"], found["observed_at_ns"])
        remark = found["remark"][keep].astype(np.uint8) if "remark" in found else np.empty(0, np.uint8)
        return ReadingColumns(found["observed_at_ns"][keep], found["value"][keep], found["flag"][keep], remark)

    def windows(self, datastream: str, width_s: int, start_ns: int, end_ns: int) -> WindowColumns:
        """See ``Store.windows``."""
        # Files of earlier versions have no sum and no deviation: so they can't be named.
        columns = ("minimum", "maximum", "mean", "last", "total", "deviation")
        chosen = "* EXCLUDE (datastream, width_s)"
        found = self._select("windows", chosen, start_ns, end_ns, "width_s = ? AND datastream = ?", width_s, datastream)
        if found is None:
            none, nothing = np.empty(0, np.int64), np.empty(0)
            return WindowColumns(none, none, none, *[nothing] * len(columns))
        for name in _WINDOW_LATER:
            found.setdefault(name, np.full(found["start_ns"].size, np.nan))
        keep = last_of_each(found["position"], found["start_ns"])
        count, good = found["count"][keep].astype(np.int64), found["good_count"][keep].astype(np.int64)
        return WindowColumns(found["start_ns"][keep], count, good, *(found[c][keep] for c in columns))

    def series(self, datastream: str, start_ns: int, end_ns: int, max_points: int = 1000) -> Series:
        """See ``Store.series``."""
        return chart_series(self, datastream, start_ns, end_ns, max_points)

    def transitions(self, start_ns: int, end_ns: int) -> list[AlarmRecord]:
        """See ``Store.transitions``."""
        found = self._select("alarms", "*", start_ns, end_ns)
        if found is None:
            return []
        keep = last_of_each(found["position"], *(found[c] for c in _IDENTITY["alarms"]))
        keep = keep[found["state"][keep] != AlarmState.WITHDRAWN]
        keep = keep[np.lexsort((keep, found["position"][keep], found["at_ns"][keep]))]
        columns = {name: column[keep].tolist() for name, column in found.items()}
        names = {f.name: _ALARM_TIMES.get(f.name, f.name) for f in fields(AlarmRecord)}
        return [AlarmRecord(**{n: columns[c][i] for n, c in names.items()}) for i in range(len(keep))]

    def pipeline(self, start_ns: int, end_ns: int) -> list[PipelineStatus]:
        """See ``Store.pipeline``."""
        found = self._select("pipeline", "*", start_ns, end_ns)
        if found is None:
            return []
        keep = last_of_each(found["position"], found["at_ns"])
        for name in _STATUS_LATER:
            found.setdefault(name, np.zeros(found["at_ns"].size))
        columns = {name: found[name][keep].tolist() for name in ("at_ns", *_STATUS_FIELDS)}
        return [
            PipelineStatus(columns["at_ns"][i], **{c: columns[c][i] for c in _STATUS_FIELDS}) for i in range(len(keep))
        ]

    def count_readings(self, start_ns: int, end_ns: int, datastream: str | None = None) -> int:
        """See ``Store.count_readings``."""
        where, values = ("datastream = ?", (datastream,)) if datastream is not None else ("true", ())
        sql = (
            "SELECT count(*) AS n FROM (SELECT DISTINCT datastream, observed_at_ns "
            "FROM read_parquet(?, hive_partitioning = false) "
            f"WHERE observed_at_ns >= ? AND observed_at_ns < ? AND {where})"
        )
        found = self._query("readings", sql, start_ns, end_ns, *values)
        return 0 if found is None else int(found["n"][0])

    def count_by_hour(self, start_ns: int, end_ns: int) -> HourCounts:
        """See ``Store.count_by_hour``."""
        hour = "observed_at_ns // 3600000000000 - CASE WHEN observed_at_ns % 3600000000000 < 0 THEN 1 ELSE 0 END"
        sql = (
            f"SELECT datastream, {hour} AS hour, count(DISTINCT observed_at_ns) AS n "
            "FROM read_parquet(?, hive_partitioning = false) "
            "WHERE observed_at_ns >= ? AND observed_at_ns < ? GROUP BY ALL"
        )
        found = self._query("readings", sql, start_ns, end_ns)
        if found is None:
            return HourCounts([], np.empty(0, np.int64), np.empty(0, np.int64))
        hours, n = found["hour"].astype(np.int64), found["n"].astype(np.int64)
        return HourCounts(found["datastream"].tolist(), hours * 3_600_000_000_000, n)

    def account(self, start_ns: int, end_ns: int) -> list[AccountHour]:
        """See ``Store.account``."""
        found = self._select("account", "*", start_ns, end_ns)
        if found is None:
            return []
        keep = last_of_each(found["position"], found["at_ns"], found["device"])
        columns = {("at" if n == "at_ns" else n): c[keep].tolist() for n, c in found.items()}
        columns["telling"] = columns.pop("position")
        return [AccountHour(**dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]

    # Looking after itself

    def check(self) -> str | None:
        """See ``Store.check``."""
        try:
            if not self._read_only:
                probe = self.folder / f".probe-{uuid.uuid4().hex}"
                probe.write_bytes(b"x")
                probe.unlink()
            self._catalog.names()
            free = shutil.disk_usage(self.folder).free
        except (OSError, sqlite3.Error) as error:
            return f"the embedded store in {self.folder} can't be used ({error}): check the folder's owner and the disk"
        if self._merge_error:
            return f"files in {self.folder} can't be merged, reading gets slower: {self._merge_error}"
        if free < LOW_DISK_BYTES:
            return f"only {free / 2**20:.0f} MiB are free for the store in {self.folder}: make room on that disk"
        return None

    def merge(self) -> None:
        """Do now all merging that is due. The store's own thread does this by itself."""
        self._writable()
        with self._merging:
            for kind in _TIME:
                while len(fresh := self._catalog.of_level(kind, 0)) >= FRESH_FILES:
                    self._merge_files(kind, _up_to(fresh, MERGED_ROWS_MAX), 1)
            while crowded := self._catalog.crowded(MERGE_FILES, MERGED_ROWS_MAX // 2):
                for kind, day, level, _, _ in crowded:
                    small = [f for f in self._catalog.of_day(kind, day) if f.level == level and _is_small(f)]
                    self._merge_files(kind, _up_to(small, MERGED_ROWS_MAX), level + 1)

    def merge_quiet_days(self, quiet_s: float = QUIET_S) -> None:
        """Merge all files of a day to one (or few, if large) once nothing has been added to it for ``quiet_s``."""
        self._writable()
        with self._merging:
            for kind, day in self._catalog.scattered_days(MERGED_ROWS_MAX // 2, time.time() - quiet_s):
                small = _up_to([f for f in self._catalog.of_day(kind, day) if _is_small(f)], MERGED_ROWS_MAX)
                if len(small) > 1:
                    self._merge_files(kind, small, max(f.level for f in small) + 1)

    def close(self) -> None:
        """See ``Store.close``."""
        if self._closed:
            return
        self._closed = True
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        self._catalog.close()
        self._duck.close()
        self._unlock()

    def _keep_merging(self) -> None:
        while not self._closed:
            self._wake.wait(60)
            self._wake.clear()
            if self._closed:
                return
            try:
                self.merge()
                self._merge_error = ""
                if time.monotonic() - self._last_tidy_s > 60:
                    self._last_tidy_s = time.monotonic()
                    self.merge_quiet_days()
                    self._empty_trash(time.time() - TRASH_S)
            except Exception as error:
                # Whatever it is (a full disk, a damaged file): all rows are still there, only in more files.
                if str(error) != self._merge_error:
                    _log.exception("merging files in %s failed; it is tried again every minute", self.folder)
                self._merge_error = str(error)
                self._stop.wait(60)

    def _merge_files(self, kind: str, files: Sequence[DataFile], level: int) -> None:
        """Replace ``files`` by one file for each day; of rows with one identity the newest stays."""
        frame = pl.concat([_read(self.folder / f.name) for f in files], how="diagonal")  # older ones lack columns
        identity = list(_IDENTITY[kind])
        frame = frame.sort([*identity, "position"], maintain_order=True)
        # The last of each run of equal identities; DataFrame.unique needs twice the memory and four times as long.
        ends = pl.any_horizontal(pl.col(c) != pl.col(c).shift(-1) for c in identity).fill_null(True)
        frame = frame.filter(ends)
        days = frame[_TIME[kind]] // NS_PER_DAY
        parts = [(kind, level, int(day), frame.filter(days == day)) for day in days.unique().sort()]
        self._commit(parts, replacing=files)

    def _commit(self, parts: Sequence[tuple[str, int, int, pl.DataFrame]], replacing: Sequence[DataFile] = ()) -> None:
        """Write one file for each (kind, level, day, rows), then make them count in place of ``replacing``."""
        added = []
        folders = set()
        for kind, level, day, frame in parts:
            last = int(frame["position"].max())  # type: ignore[arg-type]
            where = "fresh" if level == 0 else f"date={np.datetime64(day, 'D')}"
            stem = f"{last:015d}" if level == 0 else str(level)
            name = f"{kind}/{where}/{stem}-{uuid.uuid4().hex[:12]}.parquet"
            folders.add(_write(frame, self.folder / name))
            added.append(_described(frame, name, kind, level, day))
        for folder in folders:
            _sync(folder)
        if added or replacing:
            self._catalog.change(added, [f.name for f in replacing])

    def _adopt(self) -> None:
        """Without a catalog (lost, or files copied from elsewhere): every Parquet file counts."""
        found = []
        for kind in _TIME:
            for path in sorted((self.folder / kind).glob("*/*.parquet")):
                frame = _read(path)
                merged = path.parent.name.startswith("date=")
                level = int(path.name.split("-")[0]) if merged else 0
                day = int(frame[_TIME[kind]][0] // NS_PER_DAY) if merged else -1
                found.append(_described(frame, str(path.relative_to(self.folder)), kind, level, day))
        if found:
            _log.warning("%s had no catalog: took %d Parquet files into a new one", self.folder, len(found))
            self._catalog.change(found)

    def _sweep(self) -> None:
        """Delete what a killed process left: files that do not count."""
        self._empty_trash(time.time() + 1)
        names = self._catalog.names()
        for kind in _TIME:
            for path in (self.folder / kind).glob("*/*.parquet*"):
                if str(path.relative_to(self.folder)) not in names:
                    path.unlink(missing_ok=True)

    def _empty_trash(self, before_s: float) -> None:
        names = self._catalog.trash(before_s)
        for name in names:
            (self.folder / name).unlink(missing_ok=True)
        self._catalog.emptied(names)

    def _cant_open(self, error: Exception) -> str:
        advice = ""
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
            advice = f"; move {CATALOG_NAME} (and -wal, -shm) away and start again: it is made anew from the files"
        return f"the embedded store in {self.folder} can't be opened: {error}{advice}"

    def _writable(self) -> None:
        if self._closed:
            raise StoreUnavailable(f"the embedded store in {self.folder} is closed")
        if self._read_only:
            raise StoreUnavailable(f"the embedded store in {self.folder} was opened for reading only")

    def _unlock(self) -> None:
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    def _select(
        self, kind: str, columns: str, start_ns: int, end_ns: int, where: str = "true", *values: object
    ) -> dict[str, npt.NDArray[Any]] | None:
        names = columns if columns.startswith("*") else f"{columns}, position"
        clause = f"{_TIME[kind]} >= ? AND {_TIME[kind]} < ? AND {where}"
        union = ", union_by_name = true" if columns.startswith("*") else ""
        sql = f"SELECT {names} FROM read_parquet(?, hive_partitioning = false{union}) WHERE {clause}"
        return self._query(kind, sql, start_ns, end_ns, *values)

    def _query(
        self, kind: str, sql: str, start_ns: int, end_ns: int, *values: object
    ) -> dict[str, npt.NDArray[Any]] | None:
        """Run ``sql`` over the files of the span; None if there are none. A file merged away meanwhile: list again."""
        for attempt in range(5):
            if self._closed:
                raise StoreUnavailable(f"the embedded store in {self.folder} is closed")
            try:
                files = [str(self.folder / f.name) for f in self._catalog.within(kind, start_ns, end_ns)]
                if not files:
                    return None
                with self._duck.cursor() as cursor:
                    found = cursor.execute(sql, [files, start_ns, end_ns, *values]).fetchnumpy()
                return {name: _filled(column) for name, column in found.items()}
            except (duckdb.Error, sqlite3.Error) as error:
                if attempt == 4 or not isinstance(error, duckdb.IOException):
                    raise StoreUnavailable(f"reading {self.folder} failed: {error}") from error
        return None

    def _readings_frame(self, batches: Sequence[StoredBatch]) -> pl.DataFrame | None:
        parts = [b for b in batches if len(b.readings)]
        if not parts:
            return None
        rows = Observations.concat([b.readings for b in parts])
        position = np.repeat([b.last_position for b in parts], [len(b.readings) for b in parts]).astype(np.int64)
        keep = last_of_each(position, rows.datastream, rows.observed_at)
        return pl.DataFrame(
            {
                "datastream": self._datastream_ids(parts).gather(rows.datastream[keep].astype(np.uint32)),
                "observed_at_ns": rows.observed_at[keep],
                "value": rows.value[keep],
                "flag": rows.flag[keep],
                "remark": rows.remark[keep],
                "position": position[keep],
            }
        )

    def _windows_frame(self, batches: Sequence[StoredBatch]) -> pl.DataFrame | None:
        parts = [b for b in batches if len(b.windows)]
        if not parts:
            return None
        rows = Windows.concat([b.windows for b in parts])
        position = np.repeat([b.last_position for b in parts], [len(b.windows) for b in parts]).astype(np.int64)
        keep = last_of_each(position, rows.width_s, rows.datastream, rows.start)
        return pl.DataFrame(
            {
                "width_s": rows.width_s[keep],
                "datastream": self._datastream_ids(parts).gather(rows.datastream[keep].astype(np.uint32)),
                "start_ns": rows.start[keep],
                "count": rows.count[keep],
                "good_count": rows.good_count[keep],
                "minimum": rows.minimum[keep],
                "maximum": rows.maximum[keep],
                "mean": rows.mean[keep],
                "last": rows.last[keep],
                "total": rows.total[keep],
                "deviation": rows.deviation[keep],
                "position": position[keep],
            }
        )

    def _datastream_ids(self, batches: Sequence[StoredBatch]) -> pl.Series:
        """Ids by index. An index keeps its datastream for ever, so the longest directory serves all batches."""
        directory = max((b.directory for b in batches), key=lambda d: len(d.datastreams))
        if self._names is None or self._names[0] is not directory:
            self._names = (directory, pl.Series([d.id for d in directory.datastreams], dtype=pl.String))
        return self._names[1]


def _alarms_frame(batches: Sequence[StoredBatch]) -> pl.DataFrame | None:
    rows = []
    for batch in batches:
        for record in alarm_records(batch.directory, batch.transitions):
            row: dict[str, object] = asdict(record)
            rows.append({_ALARM_TIMES.get(name, name): value for name, value in row.items()})
            rows[-1]["position"] = batch.last_position
    return pl.DataFrame(rows, infer_schema_length=None) if rows else None


def _pipeline_frame(batches: Sequence[StoredBatch]) -> pl.DataFrame | None:
    rows = [
        {"at_ns": s.at}
        | {name: float(getattr(s, name)) if name in _STATUS_FLOATS else getattr(s, name) for name in _STATUS_FIELDS}
        | {"position": b.last_position}
        for b in batches
        for s in b.pipeline
    ]
    return pl.DataFrame(rows, infer_schema_length=None) if rows else None


def _account_frame(batches: Sequence[StoredBatch]) -> pl.DataFrame | None:
    rows = [
        {
            "at_ns": a.at,
            "device": a.device,
            "expected": float(a.expected),
            "received": a.received,
            "duplicate": a.duplicate,
            "refused": a.refused,
            "late": a.late,
            "stored": a.stored,
            "position": a.telling,
        }
        for b in batches
        for a in b.account
    ]
    return pl.DataFrame(rows, infer_schema_length=None) if rows else None


def _up_to(files: Sequence[DataFile], rows: int) -> list[DataFile]:
    """The first files, two at least, with at most ``rows`` rows together."""
    total = np.cumsum([f.rows for f in files])
    return list(files[: max(2, int(np.searchsorted(total, rows, side="right")))])


def _is_small(file: DataFile) -> bool:
    return file.rows < MERGED_ROWS_MAX // 2


def _described(frame: pl.DataFrame, name: str, kind: str, level: int, day: int) -> DataFile:
    times, positions = frame[_TIME[kind]].to_numpy(), frame["position"].to_numpy()
    return DataFile(
        name=name,
        kind=kind,
        level=level,
        day=day,
        first_time=int(times.min()),
        last_time=int(times.max()),
        first_position=int(positions.min()),
        last_position=int(positions.max()),
        rows=len(frame),
        created_at_s=time.time(),
    )


def _filled(column: Any) -> npt.NDArray[Any]:
    """A column of numbers that older files lack is 0 there."""
    if np.ma.isMaskedArray(column) and column.dtype.kind in "iuf":
        return np.asarray(np.ma.filled(column, 0))
    return np.asarray(column)


def _read(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path, hive_partitioning=False, glob=False)
    except pl.exceptions.PolarsError as error:
        raise OSError(f"{path} can't be read: {error}") from error


def _write(frame: pl.DataFrame, path: Path) -> Path:
    """Write to a temporary name, fsync, rename; returns the folder, which the caller must fsync."""
    if not path.parent.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _sync(path.parent.parent)
        _sync(path.parent.parent.parent)
    temporary = path.with_name(path.name + ".tmp")
    try:
        frame.write_parquet(temporary, compression="zstd", compression_level=1, row_group_size=50_000)
        _sync(temporary)
        temporary.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    return path.parent


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _locked(path: Path) -> int:
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise
    return file
