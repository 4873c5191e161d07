"""Finding devices while somebody types, and sites near a position.

What begins with the words typed comes from an index. Any other part of an id, serial number or name (people know the
last digits of a serial) is found by reading one narrow table: at 100,000 devices that takes some tens of milliseconds,
and is the same on SQLite and PostgreSQL.
"""

from __future__ import annotations

import math
from typing import Any

from sqlalchemy import Connection, and_, func, or_, select
from sqlalchemy import text as sql_text

from devices import content
from devices.entities import DeviceEntry, FoundDevice, NearSite, SiteEntry
from devices.model import DeviceRow, DeviceSearchRow, InstallationRow, SiteRow

EARTH_RADIUS_M = 6_371_008.8
"""Mean radius (IUGG)."""

_DEGREE_M = math.radians(1) * EARTH_RADIUS_M
_LOOKED_AT = 200
"""Of the devices that only hold a word somewhere, how many are put in order."""
_FIRST_BOX_DEG = 0.01
"""About a kilometre to each side."""


def search_devices(connection: Connection, text: str, limit: int, *, is_sqlite: bool) -> list[FoundDevice]:
    """Devices whose id, serial, EUI, alias or site holds every word of ``text``; ids that begin with it first."""
    words = text.casefold().split()
    column = DeviceSearchRow.words
    begin, beyond = words[0] if words else "", (words[0] if words else "") + "\U0010ffff"
    if is_sqlite:
        begins = and_(column >= begin, column < beyond)
        holds = [func.instr(column, w) > 0 for w in words]
    else:
        begins = and_(column.op("~>=~")(begin), column.op("~<~")(beyond))
        holds = [func.strpos(column, w) > 0 for w in words]
    # The first half comes from an index and in its order, so that one letter costs no more than ten.
    query = select(DeviceSearchRow.device, column).where(begins, *holds[1:])
    query = query.order_by(column if is_sqlite else column.op("USING")(sql_text("~<~"))).limit(limit)
    found = [row.device for row in connection.execute(query)]
    if words and len(found) < limit:
        rest = select(DeviceSearchRow.device, column).where(*holds).limit(limit + _LOOKED_AT)
        others = [row for row in connection.execute(rest) if row.device not in found]
        others.sort(key=lambda row: (f" {words[0]}" not in row.words, len(row.words), row.device))
        found += [row.device for row in others[: limit - len(found)]]
    return _found(connection, found)


def list_devices(connection: Connection, after: str, limit: int) -> list[FoundDevice]:
    """Devices by id, beginning after the one of that id."""
    query = select(DeviceRow.dense_index).where(DeviceRow.id > after).order_by(DeviceRow.id).limit(limit)
    return _found(connection, list(connection.execute(query).scalars()))


def device_labelled(connection: Connection, label: str) -> list[FoundDevice]:
    """Devices whose id, serial number, EUI or alias is this one: what a scanned label says."""
    eui = label.strip().replace("-", "").replace(":", "").upper()
    label = label.strip()
    query = select(DeviceRow.dense_index).where(
        or_(
            DeviceRow.id == label,
            DeviceRow.serial == label,
            and_(DeviceRow.eui == eui, DeviceRow.eui != ""),
            and_(func.lower(DeviceRow.alias) == label.lower(), DeviceRow.alias != ""),
        )
    )
    return _found(connection, list(connection.execute(query.order_by(DeviceRow.dense_index)).scalars()))


def _found(connection: Connection, indexes: list[int]) -> list[FoundDevice]:
    devices: dict[int, DeviceEntry] = content.devices_by_index(connection, indexes)
    where = content.site_of_device(connection, indexes)
    sites: dict[int, SiteEntry] = content.sites_by_index(connection, {site for site, _ in where.values()})
    return [FoundDevice(devices[i], sites[where[i][0]] if i in where else None) for i in indexes]


def search_sites(connection: Connection, text: str, limit: int, *, is_sqlite: bool) -> list[SiteEntry]:
    """Sites whose id or name holds every word of ``text``."""
    words = text.lower().split()
    holds = func.instr if is_sqlite else func.strpos
    # lower() of SQLite knows ASCII only: other capitals must be typed as they are.
    column = func.lower(SiteRow.id + " " + SiteRow.name)
    query = select(SiteRow.dense_index).where(and_(True, *(holds(column, w) > 0 for w in words)))
    indexes = list(connection.execute(query.order_by(SiteRow.dense_index).limit(limit)).scalars())
    sites = content.sites_by_index(connection, indexes)
    return [sites[i] for i in indexes]


def near_sites(connection: Connection, latitude: float, longitude: float, limit: int) -> list[NearSite]:
    """The nearest sites, the nearest first, with the devices that are there now."""
    half = _FIRST_BOX_DEG
    while True:
        wide = _width_deg(latitude, half)
        query = select(SiteRow.dense_index, SiteRow.latitude, SiteRow.longitude)
        query = query.where(SiteRow.latitude.between(latitude - half, latitude + half))
        if wide < 180:
            west, east = longitude - wide, longitude + wide
            inside: list[Any] = [SiteRow.longitude.between(west, east)]
            if west < -180:
                inside.append(SiteRow.longitude >= west + 360)
            if east > 180:
                inside.append(SiteRow.longitude <= east - 360)
            query = query.where(or_(*inside))
        rows = connection.execute(query).all()
        within = sorted((distance_m(latitude, longitude, row.latitude, row.longitude), row.dense_index) for row in rows)
        # Beyond the box's nearest side there may be nearer ones than some inside of it.
        sure = [w for w in within if half >= 180 or w[0] <= half * _DEGREE_M]
        if len(sure) >= limit or half >= 180:
            break
        half *= 4
    chosen = sure[:limit]
    sites = content.sites_by_index(connection, [i for _, i in chosen])
    there: content.Query = (
        select(InstallationRow.site, DeviceRow.id)
        .join(DeviceRow, DeviceRow.dense_index == InstallationRow.device)
        .where(InstallationRow.removed_at.is_(None))
        .order_by(DeviceRow.dense_index)
    )
    at: dict[int, list[str]] = {}
    for site, device in content.rows_in(connection, there, InstallationRow.site, [i for _, i in chosen]):
        at.setdefault(site, []).append(device)
    return [NearSite(sites[i], distance, tuple(at.get(i, ()))) for distance, i in chosen]


def _width_deg(latitude: float, radius_deg: float) -> float:
    """How far east and west of its centre a circle on the sphere reaches; 360 if around a pole. [°]

    Its widest place lies poleward of the centre: sin(width) = sin(radius) / cos(latitude).
    """
    if abs(latitude) + radius_deg >= 89.9:
        return 360.0
    return math.degrees(math.asin(math.sin(math.radians(radius_deg)) / math.cos(math.radians(latitude))))


def distance_m(latitude_1: float, longitude_1: float, latitude_2: float, longitude_2: float) -> float:
    """Great-circle distance by the haversine formula, on a sphere: right to half a percent.

    Examples
    --------
    >>> round(distance_m(0.0, 0.0, 1.0, 0.0))
    111195
    """
    a, b = math.radians(latitude_1), math.radians(latitude_2)
    h = (
        math.sin((b - a) / 2) ** 2
        + math.cos(a) * math.cos(b) * math.sin(math.radians(longitude_2 - longitude_1) / 2) ** 2
    )
    return 2 * EARTH_RADIUS_M * math.asin(min(1.0, math.sqrt(h)))
