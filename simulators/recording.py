"""Recorded cities: CSV files and a map of them, read into datastreams and readings in order of time.

The map (``simulators.recording_map``) says what the columns are. What cannot be used is counted with its row number
and reason, never dropped silently. Sending the readings is left to ``simulators.replay``.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import pandas as pd

from devices.checks import check_datastream_entry, check_device_entry, check_site_entry
from devices.entities import DatastreamEntry, DeviceEntry, SiteEntry
from simulators.recording_map import (
    FileMap,
    RecordingError,
    RecordingMap,
    TruthMap,
    ValueMap,
    read_map,
    zone_of,
)
from simulators.recording_time import Mask, instant, second_hour, times_of
from simulators.score import Interval, ScoreError, read_truth
from telemetry.directory import Datastream, Device, Directory, Site
from telemetry.properties import conversion

MAP_NAME = "map.toml"
BAD_ROWS_KEPT = 1000
"""So many bad rows are kept with their reasons; all are counted."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that could not be used."""

    file: str
    row: int
    """1 for the first row after the header."""
    reason: str


@dataclass
class Account:
    """What became of every cell that could have been a reading."""

    rows: int = 0
    """Rows in all files, without headers."""
    readings: int = 0
    missing: int = 0
    """Empty cells and gap codes."""
    filtered: int = 0
    """Cells whose row did not meet the condition of ``where``."""
    other_devices: int = 0
    """Rows of stations that are not in the map."""
    bad: int = 0
    """Rows (bad time, too many fields) and cells (not a number) that could not be read."""
    bad_rows: list[BadRow] = field(default_factory=list)
    """The first of them."""

    def add_bad(self, file: str, rows: npt.NDArray[np.intp], reasons: list[str]) -> None:
        """Count bad rows (numbered from 0) of a file."""
        self.bad += len(rows)
        room = max(0, BAD_ROWS_KEPT - len(self.bad_rows))
        self.bad_rows += [BadRow(file, int(r) + 1, why) for r, why in zip(rows[:room], reasons[:room], strict=True)]


@dataclass(frozen=True)
class Truth:
    """True events of one datastream."""

    datastream: str
    events: tuple[Interval, ...]
    merge_gap_s: float
    horizon_s: float


@dataclass(frozen=True)
class Recording:
    """A recorded city: who is out there, and what they sent."""

    name: str
    city: str
    utc_offset_h: float
    sites: tuple[Site, ...]
    devices: tuple[Device, ...]
    datastreams: tuple[Datastream, ...]
    datastream: npt.NDArray[np.int32]
    """Position in ``datastreams``, for each reading."""
    observed_at: npt.NDArray[np.int64]
    """Not decreasing. [ns since 1970 UTC]"""
    value: npt.NDArray[np.float64]
    """[unit of the property]"""
    account: Account
    truth: Truth | None = None

    def __len__(self) -> int:
        return int(self.datastream.shape[0])

    @property
    def start(self) -> int:
        """Time of the first reading. [ns since 1970 UTC]"""
        return int(self.observed_at[0])

    @property
    def end(self) -> int:
        """Time of the last reading. [ns since 1970 UTC]"""
        return int(self.observed_at[-1])


def load_recording(path: Path | str, map_file: Path | str | None = None) -> Recording:
    """Read a recording.

    Parameters
    ----------
    path : path
        A folder with the files that the map names; or one CSV file: only that is read, by the entry of the map with
        its name, or by the only entry.
    map_file : path, optional
        The map; default: ``map.toml`` in the folder.

    Raises
    ------
    RecordingError
        A file or the map cannot be used, or there is not one reading in it.
    """
    path = Path(path)
    if not path.exists():
        raise RecordingError(f"there is no recording {path}")
    folder = path if path.is_dir() else path.parent
    map_path = Path(map_file) if map_file is not None else folder / MAP_NAME
    found = read_map(map_path)
    if path.is_file():
        chosen = [f for f in found.files if Path(f.path).name == path.name] or found.files
        if len(chosen) != 1:
            named = ", ".join(f.path or "one without path" for f in chosen)
            raise RecordingError(f"{map_path} describes several files ({named}), but which of them is {path.name}?")
        files = [(chosen[0], path)]
    else:
        nameless = next((i for i, f in enumerate(found.files) if not f.path), None)
        if nameless is not None:
            raise RecordingError(f"{map_path}: files[{nameless}].path is needed when a folder is replayed")
        files = [(f, folder / f.path) for f in found.files]
    return _Loader(found, map_path).load(files)


class _Loader:
    def __init__(self, found: RecordingMap, map_path: Path) -> None:
        self.map = found
        self.map_path = map_path
        self.account = Account()
        self.site_of = {d.id: d.site for d in found.devices}
        self.streams: dict[str, Datastream] = {}
        self.index: dict[str, int] = {}
        self.parts: list[tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], npt.NDArray[np.float64]]] = []

    def load(self, files: list[tuple[FileMap, Path]]) -> Recording:
        for file, path in files:
            self._read(file, path)
        whole = len(files) == len(self.map.files)
        for what, named in (("limits", self.map.limits), ("ladders", self.map.ladders)):
            unknown = next((name for name in named if name not in self.streams), None)
            if unknown is not None and whole:
                known = ", ".join(self.streams)
                raise RecordingError(f"{self.map_path}: {what}: there is no datastream {unknown!r} (there are {known})")
        stream = np.concatenate([p[0] for p in self.parts])
        observed_at = np.concatenate([p[1] for p in self.parts])
        value = np.concatenate([p[2] for p in self.parts])
        if stream.size == 0:
            first = self.account.bad_rows[0] if self.account.bad_rows else None
            why = f"; row {first.row} of {first.file}: {first.reason}" if first else ""
            raise RecordingError(
                f"not one reading in {', '.join(path.name for _, path in files)}: {self.account.rows} rows, "
                f"{self.account.missing} missing, {self.account.filtered} filtered, "
                f"{self.account.other_devices} of other devices, {self.account.bad} bad{why}"
            )
        self.account.readings = int(stream.size)
        order = np.lexsort((stream, observed_at))
        recording = Recording(
            name=self.map.name,
            city=self.map.city,
            utc_offset_h=self.map.utc_offset_h,
            sites=tuple(s.site() for s in self.map.sites),
            devices=tuple(d.device() for d in self.map.devices),
            datastreams=tuple(self.streams.values()),
            datastream=stream[order],
            observed_at=observed_at[order],
            value=value[order],
            account=self.account,
            truth=self._truth(self.map.truth, whole),
        )
        try:
            for s in recording.sites:
                check_site_entry(SiteEntry(s.id, s.name, s.latitude, s.longitude, district=s.district))
            for d in recording.devices:
                check_device_entry(DeviceEntry(d.id, model=d.model, silence_after_s=d.silence_after_s))
            for x in recording.datastreams:
                check_datastream_entry(DatastreamEntry(x.id, x.site, x.property, x.limits, x.ladder))
            Directory(0, recording.city, 0.0, recording.sites, recording.devices, recording.datastreams)
        except ValueError as error:
            raise RecordingError(f"{self.map_path}: {error}") from error
        return recording

    def _read(self, file: FileMap, path: Path) -> None:
        where = path.name
        # One datastream for each value column and device, even if it turns out to have no reading.
        stations = file.devices or {d.id: d.id for d in self.map.devices}
        for value in file.values:
            for fed_by in dict.fromkeys(stations.values()) if file.device_column else [value.device]:
                self._declare(value, fed_by)
        table, skipped = _table(file, path)
        self.account.rows += len(table) + len(skipped)
        self.account.add_bad(where, np.array([r for r, _ in skipped], dtype=np.intp), [why for _, why in skipped])
        row_number = table.index.to_numpy()
        if file.device_column:
            device = table[file.device_column].str.strip().map(stations)
            known = device.notna().to_numpy()
            self.account.other_devices += int((~known).sum())
            table, device, row_number = table[known], device[known], row_number[known]
        else:
            device = pd.Series("", index=table.index)
        times = times_of(table, file.time)
        fine = times.reasons == ""
        self.account.add_bad(where, row_number[~fine], list(times.reasons[~fine]))
        table, device, row_number, times = table[fine], device[fine], row_number[fine], times.take(fine)
        device_number = pd.factorize(device)[0].astype(np.intp) if times.gap.any() else None
        second: dict[str, Mask] = {}
        for value in file.values:
            conditions = [
                table[column].str.strip().isin([allowed] if isinstance(allowed, str) else allowed).to_numpy(dtype=bool)
                for column, allowed in value.where.items()
            ]
            observed_at = times.at
            if device_number is not None:
                which = repr(value.where)
                if which not in second:
                    second[which] = second_hour(times, device_number, conditions)
                observed_at = times.at + times.gap * second[which]
            meets = np.logical_and.reduce([*conditions, np.ones(len(table), dtype=bool)])
            self._take(file, value, table, device, row_number, observed_at, meets, where)

    def _take(
        self,
        file: FileMap,
        value: ValueMap,
        table: pd.DataFrame,
        device: pd.Series[str],
        row_number: npt.NDArray[np.intp],
        observed_at: npt.NDArray[np.int64],
        meets: Mask,
        where: str,
    ) -> None:
        self.account.filtered += int((~meets).sum())
        text = table[value.column].str.strip()
        number = _numbers(text, file)
        codes = {str(code) for code in value.missing}
        missing = (text == "").to_numpy() | text.isin(codes).to_numpy()
        missing |= np.isin(number, [float(c) for c in codes if _is_number(c)])
        self.account.missing += int((meets & missing).sum())
        bad = np.flatnonzero(meets & ~missing & ~np.isfinite(number))
        self.account.add_bad(
            where,
            row_number[bad],
            [f"{value.column} must be a number, got {t!r}" for t in text.iloc[bad]],
        )
        good = meets & ~missing & np.isfinite(number)
        scale, shift = conversion(value.property, value.unit) if value.unit else (1.0, 0.0)  # type: ignore[misc]
        if file.device_column:
            names = device[good].to_numpy(dtype=object)
            streams = np.array([self._name(value, d) for d in names], dtype=object)
            stream = np.array([self.index[s] for s in streams], dtype=np.int32)
        else:
            stream = np.full(int(good.sum()), self.index[self._name(value, value.device)], dtype=np.int32)
        self.parts.append((stream, observed_at[good], (number[good] * value.scale + value.offset) * scale + shift))

    def _name(self, value: ValueMap, device: str) -> str:
        return value.datastream or f"{device}.{value.property}"

    def _declare(self, value: ValueMap, device: str) -> None:
        name = self._name(value, device)
        limits = self.map.limits.get(name, value.limits).limits()
        ladder = self.map.ladders.get(name, value.ladder).ladder()
        stream = Datastream(name, value.site or self.site_of[device], device, value.property, limits, ladder)
        if self.streams.setdefault(name, stream) != stream:
            raise RecordingError(f"{self.map_path}: datastream {name!r} is described twice, and differently")
        self.index.setdefault(name, len(self.index))

    def _truth(self, truth: TruthMap | None, whole: bool) -> Truth | None:
        if truth is None or (truth.datastream not in self.streams and not whole):
            return None
        if truth.datastream not in self.streams:
            raise RecordingError(f"{self.map_path}: truth.datastream {truth.datastream!r} is not in the recording")
        zone = zone_of(truth.zone, f"{self.map_path}: truth.zone")
        if truth.file:
            path = self.map_path.parent / truth.file
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
                events = read_truth(content, level=truth.level, zone=zone)
            except (OSError, ValueError, ScoreError) as error:
                raise RecordingError(f"cannot use the truth file {path}: {error}") from error
        else:
            events = tuple(Interval(instant(e.start, zone), instant(e.end, zone)) for e in truth.events)
        return Truth(truth.datastream, events, truth.merge_gap_s, truth.horizon_s)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _open(path: Path, encoding: str) -> IO[str]:
    """The file as text, with every end of line as a newline."""
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding=encoding)
    return path.open(encoding=encoding)


class _Counted:
    """A stream of text for pandas that counts the lines read."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._newlines = 0
        self._last = "\n"

    def read(self, size: int = -1) -> str:
        text = self._stream.read(size)
        self._newlines += text.count("\n")
        self._last = text[-1:] or self._last
        return text

    def __iter__(self) -> Iterator[str]:  # pandas asks for it, but only reads
        return iter(self._stream)

    @property
    def lines(self) -> int:
        return self._newlines + (self._last != "\n")


def _table(file: FileMap, path: Path) -> tuple[pd.DataFrame, list[tuple[int, str]]]:
    """All needed columns as text, indexed by row (0: the first after the header), and the rows left out."""
    needed = list(file.time.columns) + [v.column for v in file.values] + [c for v in file.values for c in v.where]
    if file.device_column:
        needed.append(file.device_column)
    try:
        with _open(path, file.encoding) as stream:
            for _ in range(file.skip_lines):
                stream.readline()
            if file.quoted_newlines:
                reader = csv.reader(stream, delimiter=file.separator, quotechar=file.quote, strict=True)
                first, header_lines = next(reader, None), reader.line_num
            else:
                lines = (_fields(line, file) for line in stream)
                first, header_lines = next(lines, []), 1
                if first is None and not file.header:
                    first = next((fields for fields in lines if fields is not None), [])
                if first is None:
                    raise RecordingError(f"{path.name}: the quotes of its header do not pair")
        if not first:
            raise RecordingError(
                f"{path.name} ends before its header, or has a blank line there (skip_lines = {file.skip_lines})"
            )
        names = [n.strip() for n in first] if file.header else [str(i + 1) for i in range(len(first))]
        absent = next((n for n in needed if n not in names), None)
        if absent is not None:
            raise RecordingError(f"{path.name} has no column {absent!r}; its columns are {', '.join(names)}")
        return _read_rows(
            file, path, file.skip_lines + (header_lines if file.header else 0), names, sorted(set(needed))
        )
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, LookupError, csv.Error) as error:
        raise RecordingError(f"cannot read {path}: {error}") from error


def _read_rows(
    file: FileMap, path: Path, skip_lines: int, names: list[str], needed: list[str]
) -> tuple[pd.DataFrame, list[tuple[int, str]]]:
    # One column more than the header has: what stands there shows that a row has too many fields, as one with an
    # unquoted decimal comma has. pandas alone would cut it off silently.
    beyond = len(names)
    position = [names.index(n) for n in needed]
    skipped: list[tuple[int, str]] = []
    with _open(path, file.encoding) as stream:
        for _ in range(skip_lines):
            stream.readline()
        counted = _Counted(stream)
        try:
            table = pd.read_csv(  # type: ignore[call-overload]
                counted,
                sep=file.separator,
                quotechar=file.quote,
                header=None,
                names=list(range(beyond + 1)),
                index_col=False,
                dtype=str,
                keep_default_na=False,
                skip_blank_lines=False,
            )
        except pd.errors.EmptyDataError:
            return pd.DataFrame({n: pd.Series([], dtype=str) for n in needed}), []
        except pd.errors.ParserError:  # rows that are longer still, or a quote that is never closed
            table = None
    if table is None or (len(table) != counted.lines and not file.quoted_newlines):
        # Read again, slowly. Surplus fields of a row are joined into that one column.
        rows: list[list[str]] = []
        for i, fields in enumerate(_records(file, path, skip_lines)):
            if fields is None:
                skipped.append((i, "the quotes of the row do not pair"))
            row = fields or []
            rows.append([*row[:beyond], *[""] * (beyond - len(row)), "".join(row[beyond:])])
        table = pd.DataFrame(rows, columns=range(beyond + 1), dtype=str)
    table = table.fillna("")
    too_long = (table[beyond].str.strip() != "").to_numpy()
    skipped += [(int(row), f"more fields than the header's {beyond}") for row in np.flatnonzero(too_long)]
    table = table[~too_long]
    table = table[(table != "").any(axis=1)]  # blank lines, and rows skipped above
    skipped.sort()
    return pd.DataFrame({n: table[p] for n, p in zip(needed, position, strict=True)}, index=table.index), skipped


def _records(file: FileMap, path: Path, skip_lines: int) -> list[list[str] | None]:
    """The fields of every row; None for one whose quotes do not pair."""
    with _open(path, file.encoding) as stream:
        for _ in range(skip_lines):
            stream.readline()
        lines = list(stream)
    if file.quoted_newlines:
        try:
            return list(csv.reader(lines, delimiter=file.separator, quotechar=file.quote, strict=True))
        except csv.Error:
            pass  # a stray quote: each line is a row
    return [_fields(line, file) for line in lines]


def _fields(line: str, file: FileMap) -> list[str] | None:
    """The fields of one line; None if its quotes do not pair."""
    line = line.rstrip("\n")
    if file.quote not in line:
        return line.split(file.separator)
    reader = csv.reader([line, ""], delimiter=file.separator, quotechar=file.quote)
    fields = next(reader)
    return fields if reader.line_num == 1 else None  # an open quote takes the next line, too


def _numbers(text: pd.Series[str], file: FileMap) -> npt.NDArray[np.float64]:
    if file.thousands:
        text = text.str.replace(file.thousands, "", regex=False)
    if file.decimal != ".":
        # With a decimal comma, "1.5" is not one and a half: it is not a number.
        text = text.mask(text.str.contains(".", regex=False), "?").str.replace(file.decimal, ".", regex=False)
    return pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64)
