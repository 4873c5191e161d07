"""Files of devices, row by row: CSV and GeoJSON into values, with everything that is wrong by row and column.

What the rows mean for the registry, all together, is ``devices.bulk``'s.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from devices.checks import (
    LATEST_NS,
    check_device_entry,
    check_id,
    check_position,
    check_property,
    check_site_entry,
    check_text,
    normal_device,
)
from devices.entities import DeviceEntry, DeviceState, NewDatastream, SiteEntry
from devices.errors import InvalidEntryError

COLUMNS = (
    *("device", "serial", "eui", "model", "firmware", "state", "silence_after_s"),
    *("alias", "gateway", "clock", "interval_s"),
    *("site", "site_name", "latitude", "longitude", "elevation_m", "datum", "district"),
    *("installed_at", "observes", "height_m"),
)
MAX_PROBLEMS = 1000
"""More are counted, not listed."""

OF_DEVICE = (
    *("serial", "eui", "model", "firmware", "state", "silence_after_s"),
    *("alias", "gateway", "clock", "interval_s"),
)
OF_SITE = ("site_name", "latitude", "longitude", "elevation_m", "datum", "district")
OF_PLACE = ("installed_at", "observes", "height_m")
"""Of a device at a site."""
YES, NO = ("yes", "true", "1", "ya"), ("no", "false", "0", "tidak")
_NS_PER_S = 10**9


@dataclass(frozen=True)
class Problem:
    """Something wrong in a file."""

    row: int
    """CSV: the line in a spreadsheet, whose first holds the names; GeoJSON: the feature, from 1; 0: the whole file."""
    column: str
    """"" if it concerns more than one."""
    message: str


@dataclass
class Row:
    """One line, as far as it could be read."""

    number: int
    cells: dict[str, str]
    values: dict[str, Any] = field(default_factory=dict)
    """Only of cells that hold something."""


class Problems:
    def __init__(self) -> None:
        self.found: list[Problem] = []
        self.more = 0

    def add(self, row: int, column: str, message: object) -> None:
        if len(self.found) < MAX_PROBLEMS:
            self.found.append(Problem(row, column, str(message)))
        else:
            self.more += 1

    def __bool__(self) -> bool:
        return bool(self.found)


def csv_rows(text: str, problems: Problems) -> Iterator[Row]:
    text = text.removeprefix("\ufeff")
    first = text.split("\n", 1)[0]
    semicolons = first.count(";") > first.count(",")  # what spreadsheets write where the comma is the decimal sign
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=";" if semicolons else ",", strict=True)
    try:
        names = [name.strip().lower() for name in next(reader, [])]
        if not _names_are_right(names, problems):
            return
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) > len(names) and any(cell.strip() for cell in cells[len(names) :]):
                problems.add(reader.line_num, "", f"{len(cells)} cells, but the first line names {len(names)} columns")
            row = Row(reader.line_num, dict(zip(names, (cell.strip() for cell in cells), strict=False)))
            if semicolons:
                for name in ("latitude", "longitude", "elevation_m", "silence_after_s", "interval_s", "height_m"):
                    if re.fullmatch(r"[+-]?\d+,\d+", row.cells.get(name, "")):
                        row.cells[name] = row.cells[name].replace(",", ".")
            yield row
    except csv.Error as error:
        problems.add(reader.line_num, "", f"this is no CSV: {error}")


def _names_are_right(names: Sequence[str], problems: Problems) -> bool:
    before = len(problems.found)
    for i, name in enumerate(names):
        if name not in COLUMNS:
            problems.add(1, name, f"unknown column {name!r}; there are: {', '.join(COLUMNS)}")
        elif name in names[:i]:
            problems.add(1, name, f"column {name!r} stands twice")
    if "device" not in names and "site" not in names:
        problems.add(1, "", "the first line must name the columns, 'device' or 'site' among them")
    return len(problems.found) == before


class _Feature(msgspec.Struct, tag="Feature"):
    geometry: dict[str, Any] | None = None
    properties: dict[str, Any] | None = None


class _Collection(msgspec.Struct, tag="FeatureCollection"):
    features: list[_Feature]


def features(text: str, problems: Problems) -> list[_Feature]:
    try:
        return msgspec.json.decode(text.removeprefix("\ufeff"), type=_Collection).features
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        problems.add(0, "", f"this is no GeoJSON FeatureCollection: {error}")
        return []


def geojson_rows(text: str, problems: Problems) -> Iterator[Row]:
    for number, feature in enumerate(features(text, problems), 1):
        given = feature.properties or {}
        for name in given:
            if name not in COLUMNS:
                problems.add(number, name, f"unknown property {name!r}; there are: {', '.join(COLUMNS)}")
        row = Row(number, {name: cell_text(value) for name, value in given.items() if name in COLUMNS})
        geometry = feature.geometry
        if geometry is not None:
            position = geometry.get("coordinates")
            if (
                geometry.get("type") != "Point"
                or not isinstance(position, list)
                or len(position) < 2
                or not all(isinstance(x, int | float) and not isinstance(x, bool) for x in position)
            ):
                problems.add(number, "geometry", "the geometry must be a Point [longitude, latitude] or null")
            else:
                row.cells["longitude"], row.cells["latitude"] = repr(position[0]), repr(position[1])
                if len(position) > 2:
                    row.cells.setdefault("elevation_m", repr(position[2]))
        yield row


def cell_text(value: object) -> str:
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else msgspec.json.encode(value).decode()


# --- one row ----------------------------------------------------------------------------------------------------


def read_row(row: Row, problems: Problems) -> None:
    """Turn cells into values; what is wrong is noted by its column."""
    for name, cell in row.cells.items():
        if not cell:
            continue
        try:
            row.values[name] = _READERS[name](cell)
        except ValueError as error:
            problems.add(row.number, name, error)
    if not row.cells.get("device") and not row.cells.get("site"):
        problems.add(row.number, "device", "a row needs a device, or a site, or both")
    if not row.cells.get("device"):
        for name in (*OF_DEVICE, *OF_PLACE):
            if row.cells.get(name):
                problems.add(row.number, name, "this is told of a device, but the row names none")
    if not row.cells.get("site"):
        for name in (*OF_SITE, *OF_PLACE):
            if row.cells.get(name):
                problems.add(row.number, name, "this is told of a site or of what is there, but the row names no site")
    if row.values.get("state") == DeviceState.RETIRED and row.cells.get("site"):
        problems.add(row.number, "site", "a retired device is at no site")
    if "latitude" in row.values and "longitude" in row.values:
        try:
            check_position(SiteEntry(row.cells.get("site", ""), "", row.values["latitude"], row.values["longitude"]))
        except InvalidEntryError as error:
            problems.add(row.number, "latitude", error)


def _id(what: str) -> Callable[[str], str]:
    def read(cell: str) -> str:
        check_id(cell, what)
        return cell

    return read


def _text(name: str) -> Callable[[str], str]:
    def read(cell: str) -> str:
        check_text(cell, name, longest=200)
        return cell

    return read


def _number(name: str) -> Callable[[str], float]:
    def read(cell: str) -> float:
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ValueError(f"{name} must be a number, got {cell!r}")
        return value

    return read


def _eui(cell: str) -> str:
    entry = normal_device(DeviceEntry("x", eui=cell))
    if not re.fullmatch(r"[0-9A-F]{16}", entry.eui):
        raise ValueError(f"eui must be 16 hexadecimal digits, got {cell!r}")
    return entry.eui


def _silence(cell: str) -> float:
    value = _number("silence_after_s")(cell)
    check_device_entry(DeviceEntry("x", silence_after_s=value))
    return value


def _interval(cell: str) -> float:
    value = _number("interval_s")(cell)
    check_device_entry(DeviceEntry("x", interval_s=value))
    return value


def _clock(cell: str) -> str:
    check_device_entry(DeviceEntry("x", clock=cell.lower()))
    return cell.lower()


def _gateway(cell: str) -> bool:
    if cell.lower() not in (*YES, *NO):
        raise ValueError(f"gateway must be yes or no, got {cell!r}")
    return cell.lower() in YES


def _elevation(cell: str) -> float:
    value = _number("elevation_m")(cell)
    check_site_entry(SiteEntry("x", "", 0.0, 0.0, value))
    return value


def _state(cell: str) -> DeviceState:
    try:
        return DeviceState(cell.lower())
    except ValueError:
        raise ValueError(f"state must be one of {', '.join(DeviceState)}, got {cell!r}") from None


def _observes(cell: str) -> tuple[NewDatastream, ...]:
    found: dict[str, NewDatastream] = {}
    for item in cell.split("|"):
        name, _, label = item.partition("=")
        name, label = name.strip(), label.strip().replace("%7C", "|").replace("%25", "%")
        check_property(name, "observes")
        check_text(label, "label", longest=200)
        if name in found:
            raise ValueError(f"a device cannot observe {name} twice")
        found[name] = NewDatastream(name, label=label)
    return tuple(found.values())


def _time(cell: str) -> int:
    """RFC 3339 with zone, to the nanosecond."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)", cell)
    try:
        if found is None:
            raise ValueError
        second = datetime.fromisoformat(found[1].upper() + found[3].upper().replace("Z", "+00:00"))
    except ValueError:
        raise ValueError(f"installed_at must be a time with zone, such as 2026-11-24T07:30:00Z, got {cell!r}") from None
    at_ns = int(second.timestamp()) * _NS_PER_S + int((found[2] or "").ljust(9, "0"))
    if not 0 <= at_ns <= LATEST_NS:
        raise ValueError(f"installed_at must lie between 1970 and 2200, got {cell!r}")
    return at_ns


_READERS: dict[str, Callable[[str], Any]] = {
    "device": _id("device"),
    "serial": _text("serial"),
    "eui": _eui,
    "model": _text("model"),
    "firmware": _text("firmware"),
    "state": _state,
    "silence_after_s": _silence,
    "alias": _text("alias"),
    "gateway": _gateway,
    "clock": _clock,
    "interval_s": _interval,
    "height_m": _number("height_m"),
    "site": _id("site"),
    "site_name": _text("site_name"),
    "latitude": _number("latitude"),
    "longitude": _number("longitude"),
    "elevation_m": _elevation,
    "datum": _text("datum"),
    "district": _text("district"),
    "installed_at": _time,
    "observes": _observes,
}


def time_text(at_ns: int) -> str:
    """RFC 3339 in UTC, with as many decimals as it takes.

    Examples
    --------
    >>> time_text(1_790_000_000_500_000_000)
    '2026-09-21T14:13:20.5Z'
    """
    second, rest = divmod(at_ns, _NS_PER_S)
    decimals = f".{rest:09d}".rstrip("0") if rest else ""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S") + decimals + "Z"
