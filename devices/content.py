"""Reading the registry's tables: single entries with their indexes.

Connections and transactions are ``devices.database``'s, changes are made in ``devices.changes``, and the Directory is
read in ``devices.loading``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import msgspec
from sqlalchemy import ARRAY, ColumnElement, Connection, and_, any_, bindparam, func, select
from sqlalchemy.orm import InstrumentedAttribute

from devices.entities import (
    CalibrationEntry,
    DatastreamEntry,
    DeviceEntry,
    DeviceState,
    InstallationEntry,
    LadderVersion,
    SiteEntry,
)
from devices.model import (
    CalibrationRow,
    CityRow,
    DatastreamRow,
    DeviceRow,
    InstallationRow,
    LimitsRow,
    RegistryRow,
    SiteRow,
    ThresholdRow,
)
from telemetry.directory import (
    Ladder,
    Limits,
    Step,
)

Query: TypeAlias = Any
"""A SELECT; the library's own type differs with every list of columns."""

Column: TypeAlias = InstrumentedAttribute[Any] | ColumnElement[Any]

_LIMITS = Limits.__struct_fields__
_NO_LIMITS = Limits()
_NO_LADDER = Ladder()
_STEPS = msgspec.json.Decoder(tuple[Step, ...])

_LADDER = (
    ThresholdRow.steps,
    ThresholdRow.direction,
    ThresholdRow.deadband,
    ThresholdRow.on_delay_s,
    ThresholdRow.off_delay_s,
    ThresholdRow.gate,
)
_SITE = (
    SiteRow.id,
    SiteRow.name,
    SiteRow.latitude,
    SiteRow.longitude,
    SiteRow.elevation_m,
    SiteRow.datum,
    SiteRow.district,
)
_DEVICE = (
    DeviceRow.id,
    DeviceRow.serial,
    DeviceRow.eui,
    DeviceRow.model,
    DeviceRow.firmware,
    DeviceRow.state,
    DeviceRow.silence_after_s,
    DeviceRow.alias,
    DeviceRow.gateway,
    DeviceRow.clock,
    DeviceRow.interval_s,
)


def stored_version(connection: Connection) -> int:
    """Version of the content; 0 if nothing was ever saved."""
    return connection.execute(select(RegistryRow.version)).scalar_one()


def load_city(connection: Connection) -> tuple[str, float] | None:
    """Id and UTC offset in hours; None: no city has been saved."""
    row = connection.execute(select(CityRow.id, CityRow.utc_offset_h)).one_or_none()
    return None if row is None else (row.id, row.utc_offset_h)


def driver_rows(connection: Connection, query: Query) -> Iterator[Any]:
    """The driver's own tuples."""
    # At 100,000 rows making Row objects takes longer than the query.
    cursor = connection.execute(query).cursor
    assert cursor is not None
    rows: Iterator[Any] = iter(cursor)  # type: ignore[call-overload]
    return rows


def ladders_in_force(connection: Connection, datastreams: Sequence[int] | None = None) -> dict[int, Ladder]:
    """Ladder in force by datastream index, of all datastreams or of some."""
    latest = select(ThresholdRow.datastream, func.max(ThresholdRow.number).label("number")).group_by(
        ThresholdRow.datastream
    )
    found: dict[int, Ladder] = {}
    same: dict[tuple[Any, ...], Ladder] = {}  # stations of a kind often share theirs
    if datastreams is not None:
        latest = latest.where(among(connection, ThresholdRow.datastream, datastreams))
    newest = latest.subquery()
    query = select(ThresholdRow.datastream, *_LADDER).join(
        newest, and_(newest.c.datastream == ThresholdRow.datastream, newest.c.number == ThresholdRow.number)
    )
    for index, *values in driver_rows(connection, query):
        key = tuple(values)
        ladder = same.get(key)
        if ladder is None:
            ladder = same[key] = Ladder(_STEPS.decode(key[0]), *key[1:])
        found[index] = ladder
    return found


def rows_in(connection: Connection, query: Query, column: Column, values: Iterable[Any]) -> list[Any]:
    """The rows of a query whose column has one of the values, however many these are."""
    values = list(values)
    return list(connection.execute(query.where(among(connection, column, values)))) if values else []


def whole_or_among(connection: Connection, query: Query, column: Column, values: Sequence[Any] | None) -> Query:
    """The query as it is, or (``values``) with only those rows whose column has one of the values."""
    return query if values is None else query.where(among(connection, column, values))


def among(connection: Connection, column: Column, values: Sequence[Any]) -> ColumnElement[bool]:
    """``column IN (values)`` with all values in one parameter: there may be a hundred thousand."""
    if connection.dialect.name == "sqlite":
        listed = func.json_each(msgspec.json.encode(values).decode()).table_valued("value")
        return column.in_(select(listed.c.value))
    return column == any_(bindparam(None, list(values), type_=ARRAY(column.type)))


# --- single entries ---------------------------------------------------------------------------------------------


def sites_by_id(connection: Connection, ids: Iterable[str]) -> dict[str, tuple[int, SiteEntry]]:
    """Index and entry of each site that there is."""
    rows = rows_in(connection, select(SiteRow.dense_index, *_SITE), SiteRow.id, ids)
    return {row[1]: (row[0], SiteEntry(*row[1:])) for row in rows}


def sites_by_index(connection: Connection, indexes: Iterable[int]) -> dict[int, SiteEntry]:
    """Entry of each site."""
    rows = rows_in(connection, select(SiteRow.dense_index, *_SITE), SiteRow.dense_index, indexes)
    return {row[0]: SiteEntry(*row[1:]) for row in rows}


def all_sites(connection: Connection) -> Iterator[tuple[int, SiteEntry]]:
    """Index and entry of every site, in order of index."""
    for index, *values in driver_rows(connection, select(SiteRow.dense_index, *_SITE).order_by(SiteRow.dense_index)):
        yield index, SiteEntry(*values)


def all_devices(connection: Connection) -> Iterator[tuple[int, DeviceEntry]]:
    """Index and entry of every device, in order of index."""
    query = select(DeviceRow.dense_index, *_DEVICE).order_by(DeviceRow.dense_index)
    for index, *values in driver_rows(connection, query):
        yield index, _device(values)


def devices_by_id(connection: Connection, ids: Iterable[str]) -> dict[str, tuple[int, DeviceEntry]]:
    """Index and entry of each device that there is."""
    rows = rows_in(connection, select(DeviceRow.dense_index, *_DEVICE), DeviceRow.id, ids)
    return {row[1]: (row[0], _device(row[1:])) for row in rows}


def devices_by_index(connection: Connection, indexes: Iterable[int]) -> dict[int, DeviceEntry]:
    """Entry of each device."""
    rows = rows_in(connection, select(DeviceRow.dense_index, *_DEVICE), DeviceRow.dense_index, indexes)
    return {row[0]: _device(row[1:]) for row in rows}


def _device(values: Sequence[Any]) -> DeviceEntry:
    name, serial, eui, model, firmware, state, silence_after_s, alias, gateway, clock, interval_s = values
    # A row of the driver has SQLite's 0 and 1.
    return DeviceEntry(
        name,
        serial,
        eui,
        model,
        firmware,
        DeviceState(state),
        silence_after_s,
        alias,
        bool(gateway),
        clock,
        interval_s,
    )


class Stream(msgspec.Struct, frozen=True):
    """A datastream with its index, and the device that its row names."""

    index: int
    entry: DatastreamEntry
    device: int


def streams_where(
    connection: Connection, column: InstrumentedAttribute[Any], values: Iterable[Any]
) -> dict[str, Stream]:
    """Datastreams by id, of those whose column has one of the values."""
    query = select(
        DatastreamRow.dense_index,
        DatastreamRow.id,
        SiteRow.id,
        DatastreamRow.property,
        DatastreamRow.label,
        DatastreamRow.device,
    ).join(SiteRow, SiteRow.dense_index == DatastreamRow.site)
    rows = rows_in(connection, query.order_by(DatastreamRow.dense_index), column, values)
    indexes = [row[0] for row in rows]
    ladders = ladders_in_force(connection, indexes)
    limits = {
        row[0]: Limits(*row[1:])
        for row in rows_in(
            connection,
            select(LimitsRow.datastream, *(getattr(LimitsRow, name) for name in _LIMITS)),
            LimitsRow.datastream,
            indexes,
        )
    }
    return {
        name: Stream(
            index,
            DatastreamEntry(name, site, prop, limits.get(index, _NO_LIMITS), ladders.get(index, _NO_LADDER), label),
            device,
        )
        for index, name, site, prop, label, device in rows
    }


def site_of_device(connection: Connection, devices: Iterable[int]) -> dict[int, tuple[int, int]]:
    """Device index → index of the site where it is installed now, and since when."""
    query = select(InstallationRow.device, InstallationRow.site, InstallationRow.installed_at).where(
        InstallationRow.removed_at.is_(None)
    )
    return {row[0]: (row[1], row[2]) for row in rows_in(connection, query, InstallationRow.device, devices)}


def installations_of(connection: Connection, device_id: str) -> tuple[InstallationEntry, ...]:
    """Where a device has stood, the oldest first."""
    query = (
        select(SiteRow.id, InstallationRow.installed_at, InstallationRow.removed_at)
        .join(SiteRow, SiteRow.dense_index == InstallationRow.site)
        .join(DeviceRow, DeviceRow.dense_index == InstallationRow.device)
        .where(DeviceRow.id == device_id)
        .order_by(InstallationRow.installed_at, InstallationRow.id)
    )
    return tuple(InstallationEntry(device_id, *row) for row in connection.execute(query))


def calibrations_of(connection: Connection, device_id: str) -> tuple[CalibrationEntry, ...]:
    """All calibrations of a device, by property and time."""
    query = (
        select(CalibrationRow.property, CalibrationRow.scale, CalibrationRow.offset_value, CalibrationRow.valid_from)
        .join(DeviceRow, DeviceRow.dense_index == CalibrationRow.device)
        .where(DeviceRow.id == device_id)
        .order_by(CalibrationRow.property, CalibrationRow.valid_from)
    )
    return tuple(CalibrationEntry(device_id, *row) for row in connection.execute(query))


def ladder_versions(connection: Connection, datastream: int) -> tuple[LadderVersion, ...]:
    """All threshold versions of one datastream index, the oldest first."""
    query = (
        select(*ThresholdRow.__table__.columns)
        .where(ThresholdRow.datastream == datastream)
        .order_by(ThresholdRow.number)
    )
    return tuple(
        LadderVersion(
            row.number,
            Ladder(_STEPS.decode(row.steps), row.direction, row.deadband, row.on_delay_s, row.off_delay_s, row.gate),
            row.author,
            row.reason,
            row.valid_from,
            row.directory_version,
        )
        for row in connection.execute(query)
    )
