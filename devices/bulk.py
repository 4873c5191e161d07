"""Import and export of devices and sites as CSV or GeoJSON, and of districts as GeoJSON.

The columns are told in ``docs/devices.md``; GeoJSON has the same names as properties of its features. An import is all
or nothing, says everything that is wrong by row and column, and can be repeated: what is there already stays as it is.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, select

from devices import content
from devices.bulk_rows import (
    COLUMNS,
    OF_DEVICE,
    OF_SITE,
    Problem,
    Problems,
    Row,
    cell_text,
    csv_rows,
    features,
    geojson_rows,
    read_row,
    time_text,
)
from devices.changes import Edit, Place
from devices.checks import check_device_entry, check_district, check_swapped
from devices.entities import CalibrationEntry, DeviceEntry, DeviceState, District, NewDatastream, SiteEntry
from devices.errors import InvalidEntryError
from devices.model import CalibrationRow, DatastreamRow, DeviceRow, FeedRow, InstallationRow, SiteRow
from devices.models import DeviceModel, load_catalogue
from devices.registry import Registry

Format = Literal["csv", "geojson"]

LEVEL = "water_level_m"
"""The only property that a sensor that looks down observes (``devices.models``)."""


@dataclass(frozen=True)
class Report:
    """What an import did or, in a dry run, would do."""

    rows: int
    problems: tuple[Problem, ...]
    more_problems: int
    """How many are not listed."""
    changes: dict[str, int]
    """Such as {"device added": 3, "site changed": 1}; empty: everything is there already."""
    applied: bool
    version: int
    """Of the registry afterwards."""
    devices: tuple[str, ...] = ()
    """Ids of the devices in the file that are installed and not retired, in its order; if it was applied."""


class _Undo(Exception):  # noqa: N818 (it is no error)
    """Ends a transaction without a trace."""


# --- import -----------------------------------------------------------------------------------------------------


def import_devices(registry: Registry, text: str, form: Format, *, by: str, dry_run: bool = True) -> Report:
    """Add and change what a file says, in one transaction, if nothing in it is wrong.

    Parameters
    ----------
    text : str
        The file; a byte order mark is no harm.
    dry_run : bool
        Find out what would happen and what is wrong, and change nothing.
    """
    problems = Problems()
    rows = list(csv_rows(text, problems) if form == "csv" else geojson_rows(text, problems))
    for row in rows:
        read_row(row, problems)
    report = _in_transaction(registry, len(rows), problems, by, dry_run, lambda edit: _apply(edit, rows, problems))
    if not report.applied:
        return report
    return replace(report, devices=tuple(r.values["device"] for r in rows if {"device", "site"} <= r.values.keys()))


def import_districts(registry: Registry, text: str, *, by: str, dry_run: bool = True) -> Report:
    """Add and change districts: a GeoJSON FeatureCollection of (Multi)Polygons with ``code`` and ``name``."""
    problems = Problems()
    found: dict[str, District] = {}
    given = features(text, problems)
    for number, feature in enumerate(given, 1):
        properties = feature.properties or {}
        code, name = cell_text(properties.get("code", "")), cell_text(properties.get("name", ""))
        geometry = "" if feature.geometry is None else msgspec.json.encode(feature.geometry).decode()
        district = District(code, name or code, geometry)
        try:
            check_district(district)
        except InvalidEntryError as error:
            problems.add(number, "geometry" if "border" in str(error) else "code", error)
            continue
        if code in found:
            problems.add(number, "code", f"district {code!r} stands twice")
        found[code] = district
    return _in_transaction(registry, len(given), problems, by, dry_run, lambda edit: edit.put_districts(found.values()))


def _in_transaction(
    registry: Registry, rows: int, problems: Problems, by: str, dry_run: bool, work: Callable[[Edit], None]
) -> Report:
    changes: Counter[str] = Counter()
    version = 0
    try:
        with registry.edit(by) as edit:
            version = edit.version
            work(edit)
            if not problems:
                after = edit.finish()
                changes = edit.counts()
            if problems or dry_run:
                raise _Undo
            version = after
    except _Undo:
        pass
    except InvalidEntryError as error:
        problems.add(0, "", error)
    return Report(
        rows,
        tuple(sorted(problems.found, key=lambda p: p.row)),
        problems.more,
        dict(changes) if not problems else {},
        not problems and not dry_run,
        version,
    )


# --- all rows together ------------------------------------------------------------------------------------------


def _apply(edit: Edit, rows: Sequence[Row], problems: Problems) -> None:
    sites = _sites(edit.connection, rows, problems)
    devices = _devices(edit.connection, rows, problems)
    heights: list[CalibrationEntry] = []
    places = _places(edit, rows, devices, heights, problems)
    if problems:
        return
    row_of = {row.values["device"]: row.number for row in rows if "device" in row.values}
    row_of |= {row.values["site"]: row.number for row in rows if "site" in row.values and "device" not in row.values}
    try:
        edit.put_sites(sites.values())
        edit.put_devices(devices.values())
        edit.install(places)
        known = _calibrated_at(edit.connection, heights)
        edit.put_calibrations([c for c in heights if (c.device, c.property, c.valid_from_ns) not in known])
    except InvalidEntryError as error:
        # What only the database can tell names what it is about.
        named = [row_of[name] for name in re.findall(r"'([^']*)'", str(error)) if name in row_of]
        problems.add(named[0] if named else 0, "", error)


def _sites(connection: Connection, rows: Sequence[Row], problems: Problems) -> dict[str, SiteEntry]:
    """Each site named, as it shall be: what several rows say of it must agree."""
    told: dict[str, dict[str, Any]] = {}
    first: dict[str, int] = {}
    for row in rows:
        site = row.values.get("site")
        if site is None:
            continue
        first.setdefault(site, row.number)
        known = told.setdefault(site, {})
        for name in OF_SITE:
            if name in row.values and known.setdefault(name, row.values[name]) != row.values[name]:
                problems.add(
                    row.number, name, f"site {site!r} has {known[name]!r} in an earlier row, got {row.values[name]!r}"
                )
    old = content.sites_by_id(connection, told)
    found: dict[str, SiteEntry] = {}
    for name, values in told.items():
        if "site_name" in values:
            values["name"] = values.pop("site_name")
        if name in old:
            found[name] = msgspec.structs.replace(old[name][1], **values)
        elif "latitude" in values and "longitude" in values:
            found[name] = SiteEntry(**({"id": name, "name": name} | values))
        elif not problems:
            problems.add(first[name], "site", f"site {name!r} is new and needs latitude and longitude")
    _check_swapped(connection, found, first, problems)
    return found


def _check_swapped(
    connection: Connection, sites: dict[str, SiteEntry], first: dict[str, int], problems: Problems
) -> None:
    query = select(SiteRow.id, SiteRow.latitude, SiteRow.longitude).limit(100)
    others = [(row.latitude, row.longitude) for row in connection.execute(query) if row.id not in sites]
    on_earth = {k: s for k, s in sites.items() if abs(s.latitude) <= 90 and abs(s.longitude) <= 180}
    if not others:  # a first import is compared with itself: the median is right unless half of it is wrong
        ordered = sorted(on_earth.values(), key=lambda s: s.latitude)
        others = [(s.latitude, s.longitude) for s in ordered[len(ordered) // 2 :][:1]]
    for name, site in on_earth.items():
        if others and max(abs(site.latitude - others[0][0]), abs(site.longitude - others[0][1])) <= 5:
            continue
        try:
            check_swapped(site, others)
        except InvalidEntryError as error:
            problems.add(first[name], "latitude", error)


def _devices(connection: Connection, rows: Sequence[Row], problems: Problems) -> dict[str, DeviceEntry]:
    """Each device named, as it shall be."""
    named = [row for row in rows if "device" in row.values]
    old = content.devices_by_id(connection, {row.values["device"] for row in named})
    silence = _silence_by_model()
    found: dict[str, DeviceEntry] = {}
    row_of: dict[str, int] = {}
    by_eui: dict[str, str] = {}
    by_serial: dict[tuple[str, str], str] = {}
    for row in named:
        name = row.values["device"]
        if name in found:
            problems.add(row.number, "device", f"device {name!r} stands in row {row_of[name]} too")
            continue
        values = {column: row.values[column] for column in OF_DEVICE if column in row.values}
        known = old[name][1] if name in old else DeviceEntry(name)
        if name not in old and "silence_after_s" not in values and values.get("model") in silence:
            values["silence_after_s"] = silence[values["model"]]
        entry = msgspec.structs.replace(known, **values)
        row_of[name] = row.number
        try:
            check_device_entry(entry)
        except InvalidEntryError as error:
            problems.add(row.number, "device", error)
        found[name] = entry
        if entry.eui and by_eui.setdefault(entry.eui, name) != name:
            problems.add(row.number, "eui", f"EUI {entry.eui} is that of device {by_eui[entry.eui]!r} too")
        label = (entry.model, entry.serial)
        if entry.serial and by_serial.setdefault(label, name) != name:
            problems.add(row.number, "serial", f"serial {entry.serial!r} is that of device {by_serial[label]!r} too")
    for other in content.rows_in(connection, select(DeviceRow.id, DeviceRow.eui), DeviceRow.eui, by_eui):
        if other.id not in found:
            problems.add(row_of[by_eui[other.eui]], "eui", f"EUI {other.eui} is that of device {other.id!r} already")
    query: content.Query = select(DeviceRow.id, DeviceRow.model, DeviceRow.serial)
    for other in content.rows_in(connection, query, DeviceRow.serial, {serial for _, serial in by_serial}):
        holder = by_serial.get((other.model, other.serial))
        if holder is not None and other.id not in found:
            message = f"serial {other.serial!r} is that of device {other.id!r} already"
            problems.add(row_of[holder], "serial", message)
    return found


def _silence_by_model() -> dict[str, float]:
    return {model.id: model.silence_after_s for model in load_catalogue().values()}


def _calibrated_at(connection: Connection, wanted: Iterable[CalibrationEntry]) -> set[tuple[str, str, int]]:
    """Device, property and time of what is calibrated at the same moments already."""
    query: content.Query = select(DeviceRow.id, CalibrationRow.property, CalibrationRow.valid_from).join(
        DeviceRow, DeviceRow.dense_index == CalibrationRow.device
    )
    return {tuple(row) for row in content.rows_in(connection, query, DeviceRow.id, {c.device for c in wanted})}


def _heights(connection: Connection, devices: Iterable[str] | None) -> dict[str, float]:
    """Height in force of each sensor that looks down. [m above the gauge's zero]"""
    query: content.Query = select(DeviceRow.id, CalibrationRow.scale, CalibrationRow.offset_value).join(
        DeviceRow, DeviceRow.dense_index == CalibrationRow.device
    )
    query = query.where(CalibrationRow.property == LEVEL).order_by(CalibrationRow.valid_from)
    rows = connection.execute(query) if devices is None else content.rows_in(connection, query, DeviceRow.id, devices)
    latest = {name: (scale, offset) for name, scale, offset in rows}
    return {name: offset for name, (scale, offset) in latest.items() if scale == -1.0}


def _places(
    edit: Edit,
    rows: Sequence[Row],
    devices: dict[str, DeviceEntry],
    heights: list[CalibrationEntry],
    problems: Problems,
) -> list[Place]:
    """Where each device shall be; and in ``heights`` the calibrations that follow from how high it hangs."""
    named = [row for row in rows if "device" in row.values and "site" in row.values]
    query: content.Query = (
        select(DeviceRow.id, SiteRow.id.label("site"), InstallationRow.installed_at)
        .join(DeviceRow, DeviceRow.dense_index == InstallationRow.device)
        .join(SiteRow, SiteRow.dense_index == InstallationRow.site)
        .where(InstallationRow.removed_at.is_(None))
    )
    now_at = {
        r.id: r for r in content.rows_in(edit.connection, query, DeviceRow.id, [row.values["device"] for row in named])
    }
    hangs = _heights(edit.connection, [row.values["device"] for row in named if "height_m" in row.values])
    catalogue = load_catalogue()
    models: dict[tuple[str, float | None], Sequence[NewDatastream]] = {}
    places: list[Place] = []
    for row in named:
        name, site = row.values["device"], row.values["site"]
        if name not in devices:
            continue
        entry, at = devices[name], now_at.get(name)
        start = row.values.get("installed_at")
        there = at is not None and at.site == site
        if at is not None and there and start not in (None, at.installed_at):
            problems.add(
                row.number,
                "installed_at",
                f"device {name!r} is at site {site!r} since {time_text(at.installed_at)}; an import cannot change that",
            )
            continue
        if entry.state == DeviceState.RETIRED:
            problems.add(row.number, "site", f"device {name!r} is retired, so it can be at no site")
            continue
        wanted = row.values.get("observes")
        model, height = catalogue.get(entry.model), row.values.get("height_m")
        if not _height_is_right(row, model, height, hangs.get(name) if there else None, there, problems):
            continue
        key = (entry.model, height)
        if key not in models:
            models[key] = () if model is None else model.datastreams(height)
        if model is not None and height is not None and not there:
            for p in model.properties:
                scale, offset = p.calibration(height)
                if scale != 1.0:
                    since = edit.at if start is None else start
                    heights.append(CalibrationEntry(name, p.property, scale, offset, since))
        if wanted is None:
            wanted = models[key] if not there else ()
        else:
            limits = {d.property: d.limits for d in models[key]}
            wanted = [NewDatastream(d.property, limits.get(d.property, d.limits), label=d.label) for d in wanted]
        places.append(Place(name, site, edit.at if start is None else start, wanted))
    return places


def _height_is_right(
    row: Row, model: DeviceModel | None, height: float | None, hangs: float | None, there: bool, problems: Problems
) -> bool:
    """Whether the row says how high the sensor hangs where that must be known, and only there."""
    looks_down = model is not None and model.needs_height
    if height is None:
        if model is None or not looks_down or there or "observes" in row.values:
            return True
        problems.add(row.number, "height_m", f"model {model.id!r} looks down: give its height above the gauge's zero")
    elif not looks_down:
        problems.add(row.number, "height_m", "only a sensor that looks down, of a model in the catalogue, has a height")
    elif there and hangs != height:
        was = "is not known to look down" if hangs is None else f"hangs {hangs:g} m above the gauge's zero"
        problems.add(
            row.number, "height_m", f"the device {was}; an import cannot change that: calibrate it (pantau devices)"
        )
    else:
        return True
    return False


# --- export -----------------------------------------------------------------------------------------------------


def export_devices(registry: Registry, form: Format) -> str:
    """All devices, with where they are and what they observe now; then the sites where no device is.

    What it leaves out: former installations, calibrations, limits and thresholds.
    """
    with registry.read() as connection:
        rows = list(_export_rows(connection))
    if form == "csv":
        out = io.StringIO(newline="")
        writer = csv.writer(out, lineterminator="\r\n")
        writer.writerow(COLUMNS)
        writer.writerows([_plain(row.get(name)) for name in COLUMNS] for row in rows)
        return out.getvalue()
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [row["longitude"], row["latitude"]]}
            if "site" in row
            else None,
            "properties": {
                name: row[name] for name in COLUMNS if name in row and name not in ("latitude", "longitude")
            },
        }
        for row in rows
    ]
    return msgspec.json.format(
        msgspec.json.encode({"type": "FeatureCollection", "features": features}), indent=1
    ).decode()


def export_districts(registry: Registry) -> str:
    """All districts as a GeoJSON FeatureCollection."""
    features = [
        {
            "type": "Feature",
            "geometry": msgspec.Raw(d.geojson.encode()) if d.geojson else None,
            "properties": {"code": d.code, "name": d.name},
        }
        for d in registry.districts()
    ]
    return msgspec.json.encode({"type": "FeatureCollection", "features": features}).decode()


def _plain(value: object) -> str:
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


def _export_rows(connection: Connection) -> Iterator[dict[str, Any]]:
    sites = dict(content.all_sites(connection))
    query: content.Query = select(InstallationRow.device, InstallationRow.site, InstallationRow.installed_at).where(
        InstallationRow.removed_at.is_(None)
    )
    where = {row.device: (row.site, row.installed_at) for row in connection.execute(query)}
    query = (
        select(FeedRow.device, DatastreamRow.site, DatastreamRow.property, DatastreamRow.label)
        .join(DatastreamRow, DatastreamRow.dense_index == FeedRow.datastream)
        .where(FeedRow.end_at.is_(None))
        .order_by(DatastreamRow.dense_index)
    )
    observes: dict[int, list[str]] = {}
    for device, site, name, label in connection.execute(query):
        if device in where and where[device][0] == site:
            label = label.replace("%", "%25").replace("|", "%7C")
            observes.setdefault(device, []).append(f"{name}={label}" if label else name)
    used = set()
    heights = _heights(connection, None)
    catalogue = load_catalogue()
    for index, device in content.all_devices(connection):
        row = {"device": device.id} | _told(device, OF_DEVICE)
        if index in where:
            site, installed_at = where[index]
            used.add(site)
            row |= _site_cells(sites[site]) | {"installed_at": time_text(installed_at)}
            row |= {"observes": "|".join(observes[index])} if index in observes else {}
            if device.id in heights and device.model in catalogue and catalogue[device.model].needs_height:
                row["height_m"] = heights[device.id]
        yield row
    for index, entry in sites.items():
        if index not in used:
            yield _site_cells(entry)


def _site_cells(entry: SiteEntry) -> dict[str, Any]:
    cells = {"site": entry.id} | _told(entry, ("latitude", "longitude", "elevation_m", "datum", "district"))
    return cells | ({"site_name": entry.name} if entry.name else {})


def _told(entry: DeviceEntry | SiteEntry, names: Iterable[str]) -> dict[str, Any]:
    """Only what is not empty."""
    values = {name: getattr(entry, name) for name in names}
    if isinstance(entry, DeviceEntry):
        values |= {"gateway": "yes" if entry.gateway else "", "clock": "" if entry.clock == "utc" else entry.clock}
        values["state"] = str(entry.state)
    return {name: value for name, value in values.items() if value is not None and value != ""}
