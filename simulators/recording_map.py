"""The map of a recording: a TOML file that says which column of which CSV file is which datastream.

Every key is explained in ``docs/replay.md``. Reading the CSV files is left to ``simulators.recording``.
"""

from __future__ import annotations

import tomllib
from datetime import datetime
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec

from devices.city_file import DeviceTable, LadderTable, LimitsTable, SiteTable, Table
from telemetry.properties import PROPERTIES, conversion

NUMBER_FORMATS = {"days": 86_400.0, "hours": 3600.0, "minutes": 60.0, "seconds": 1.0, "milliseconds": 0.001}
"""Time formats that are plain numbers, counted from ``start``. [s]"""


class RecordingError(Exception):
    """A map or a file of a recording that cannot be used. Permanent; the message names the file and the key."""


class TimeMap(Table, frozen=True, kw_only=True):
    """Where and how the time stands in a file."""

    columns: list[str]
    format: str = "iso"
    zone: str = "UTC"
    start: datetime | None = None
    round_s: float | None = None
    shift_s: float = 0.0
    ambiguous: Literal["order", "earlier", "later", "drop"] = "order"
    nonexistent: Literal["drop", "forward"] = "drop"


class ValueMap(Table, frozen=True, kw_only=True):
    """One column that is a datastream (or, with a device column, one datastream for each device)."""

    column: str
    property: str
    device: str = ""
    datastream: str = ""
    site: str = ""
    unit: str = ""
    scale: float = 1.0
    offset: float = 0.0
    missing: list[str | float] = msgspec.field(default_factory=list)
    where: dict[str, str | list[str]] = msgspec.field(default_factory=dict)
    limits: LimitsTable = LimitsTable()
    ladder: LadderTable = LadderTable()


class FileMap(Table, frozen=True, kw_only=True):
    """One CSV file."""

    path: str = ""
    time: TimeMap
    values: list[ValueMap]
    skip_lines: int = 0
    header: bool = True
    separator: str = ","
    decimal: str = "."
    thousands: str = ""
    quote: str = '"'
    quoted_newlines: bool = False
    encoding: str = "utf-8-sig"
    device_column: str = ""
    devices: dict[str, str] = msgspec.field(default_factory=dict)


class EventMap(Table, frozen=True, kw_only=True):
    """One true event."""

    start: datetime
    end: datetime


class TruthMap(Table, frozen=True, kw_only=True):
    """What really happened, for scoring the alarms."""

    datastream: str
    file: str = ""
    level: str = ""
    events: list[EventMap] = msgspec.field(default_factory=list)
    zone: str = "UTC"
    merge_gap_s: float = 0.0
    horizon_s: float = 0.0


class RecordingMap(Table, frozen=True, kw_only=True):
    """The whole map."""

    name: str
    city: str
    utc_offset_h: float = 0.0
    sites: list[SiteTable]
    devices: list[DeviceTable]
    files: list[FileMap]
    limits: dict[str, LimitsTable] = msgspec.field(default_factory=dict)
    ladders: dict[str, LadderTable] = msgspec.field(default_factory=dict)
    truth: TruthMap | None = None


def read_map(path: Path) -> RecordingMap:
    """Read and check a map.

    Raises
    ------
    RecordingError
        It cannot be read, is no TOML, or a key is wrong; the message names the key.
    """
    try:
        found = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8-sig")), RecordingMap)
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingError(f"cannot read the map {path}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise RecordingError(f"{path} is not a TOML file: {error}") from error
    except msgspec.ValidationError as error:
        raise RecordingError(f"{path}: {str(error).replace('`$.', '`')}") from error
    _check(found, path)
    return found


def zone_of(name: str, where: str) -> ZoneInfo:
    """The time zone of that IANA name; raises RecordingError, naming ``where``."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise RecordingError(f"{where} must be UTC or an IANA name such as Asia/Jakarta, got {name!r}") from error


def _check(found: RecordingMap, path: Path) -> None:
    devices = {d.id for d in found.devices}
    sites = {s.id for s in found.sites}
    if not found.files:
        raise RecordingError(f"{path}: files must name at least one file")
    for device in found.devices:
        if device.site not in sites:
            raise RecordingError(f"{path}: devices: {device.id!r} names site {device.site!r}, which is not in sites")
    for i, file in enumerate(found.files):
        _check_file(file, f"{path}: files[{i}]", devices, sites)
    if found.truth is not None:
        zone_of(found.truth.zone, f"{path}: truth.zone")
        if bool(found.truth.file) == bool(found.truth.events):
            raise RecordingError(f"{path}: truth must have either file or events")


def _check_file(file: FileMap, where: str, devices: set[str], sites: set[str]) -> None:
    zone_of(file.time.zone, f"{where}.time.zone")
    if not file.time.columns:
        raise RecordingError(f"{where}.time.columns must name at least one column")
    if file.time.format != "iso" and file.time.format not in NUMBER_FORMATS and "%" not in file.time.format:
        raise RecordingError(
            f"{where}.time.format must be iso, one of {', '.join(NUMBER_FORMATS)}, or a strptime format such as "
            f"%d/%m/%Y %H:%M, got {file.time.format!r}"
        )
    if file.time.format in NUMBER_FORMATS and len(file.time.columns) != 1:
        raise RecordingError(f"{where}.time.columns: a time counted in {file.time.format} stands in one column")
    if file.skip_lines < 0:
        raise RecordingError(f"{where}.skip_lines must be 0 or more, got {file.skip_lines}")
    for name in ("separator", "decimal", "quote"):
        if len(getattr(file, name)) != 1:
            raise RecordingError(f"{where}.{name} must be one character, got {getattr(file, name)!r}")
    if not file.values:
        raise RecordingError(f"{where}.values must name at least one column")
    for station, device in file.devices.items():
        if device not in devices:
            raise RecordingError(f"{where}.devices: {station!r} is mapped to {device!r}, which is not in devices")
    for k, value in enumerate(file.values):
        here = f"{where}.values[{k}]"
        if value.property not in PROPERTIES:
            raise RecordingError(
                f"{here}.property must be one of {', '.join(sorted(PROPERTIES))}, got {value.property!r}"
            )
        if value.unit and conversion(value.property, value.unit) is None:
            known = ", ".join(PROPERTIES[value.property].conversions)
            raise RecordingError(f"{here}.unit must be one of {known}, got {value.unit!r}")
        if value.site and value.site not in sites:
            raise RecordingError(f"{here}.site {value.site!r} is not in sites")
        if file.device_column and (value.device or value.datastream):
            raise RecordingError(f"{here}: device and datastream have no place in a file with a device_column")
        if not file.device_column and value.device not in devices:
            raise RecordingError(f"{here}.device {value.device!r} is not in devices")
