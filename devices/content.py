"""What the registry holds, read from its tables and written back as differences.

Connections, transactions and checks are the registry's (``devices.registry``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, bindparam, delete, func, insert, select, update
from sqlalchemy.engine import Row

from devices.errors import InvalidEntryError
from devices.model import (
    CityRow,
    DatastreamRow,
    DeviceRow,
    InstallationRow,
    LimitsRow,
    RegistryRow,
    SiteRow,
    Table,
    ThresholdRow,
)
from telemetry.directory import Datastream, Device, Directory, Ladder, Limits, Site, Step

Entry = TypeVar("Entry", Site, Device, Datastream)

_LIMITS = Limits.__struct_fields__
_NO_LIMITS = Limits()
_NO_LADDER = Ladder()
_STEPS = msgspec.json.Decoder(tuple[Step, ...])


@dataclass
class Content:
    """Everything in the registry, by id and in order of dense index."""

    version: int
    city: str
    utc_offset_h: float
    sites: dict[str, Site]
    devices: dict[str, Device]
    datastreams: dict[str, Datastream]

    def directory(self) -> Directory:
        """The Directory of it; raises ValueError if something does not fit together."""
        return Directory(
            version=self.version,
            city=self.city,
            utc_offset_h=self.utc_offset_h,
            sites=tuple(self.sites.values()),
            devices=tuple(self.devices.values()),
            datastreams=tuple(self.datastreams.values()),
        )


def by_id(entries: Sequence[Entry], what: str) -> dict[str, Entry]:
    """Entries by id; raises InvalidEntryError if an id stands twice."""
    found: dict[str, Entry] = {}
    for entry in entries:
        if entry.id in found:
            raise InvalidEntryError(f"{what} id {entry.id!r} stands twice")
        found[entry.id] = entry
    return found


def stored_version(connection: Connection) -> int:
    """Version of the content; 0 if nothing was ever saved."""
    return connection.execute(select(RegistryRow.version)).scalar_one()


def load(connection: Connection) -> Content | None:
    """All content, or None if no city has been saved."""
    city = connection.execute(select(CityRow.id, CityRow.utc_offset_h)).one_or_none()
    if city is None:
        return None
    sites = [
        Site(*row)
        for row in connection.execute(
            select(SiteRow.id, SiteRow.name, SiteRow.latitude, SiteRow.longitude, SiteRow.district).order_by(
                SiteRow.dense_index
            )
        )
    ]
    devices = [
        Device(*row)
        for row in connection.execute(
            select(DeviceRow.id, SiteRow.id, DeviceRow.model, DeviceRow.silence_after_s)
            .join(InstallationRow, InstallationRow.device == DeviceRow.dense_index)
            .join(SiteRow, SiteRow.dense_index == InstallationRow.site)
            .where(InstallationRow.removed_at.is_(None))
            .order_by(DeviceRow.dense_index)
        )
    ]
    limits = {
        row[0]: Limits(*row[1:])
        for row in connection.execute(select(LimitsRow.datastream, *(getattr(LimitsRow, n) for n in _LIMITS)))
    }
    latest = (
        select(ThresholdRow.datastream, func.max(ThresholdRow.number).label("number"))
        .group_by(ThresholdRow.datastream)
        .subquery()
    )
    ladders = {
        row.datastream: ladder_of(row)
        for row in connection.execute(
            select(*ThresholdRow.__table__.columns).join(
                latest,
                (latest.c.datastream == ThresholdRow.datastream) & (latest.c.number == ThresholdRow.number),
            )
        )
    }
    streams = [
        Datastream(name, site, device, prop, limits.get(index, _NO_LIMITS), ladders.get(index, _NO_LADDER))
        for index, name, site, device, prop in connection.execute(
            select(DatastreamRow.dense_index, DatastreamRow.id, SiteRow.id, DeviceRow.id, DatastreamRow.property)
            .join(SiteRow, SiteRow.dense_index == DatastreamRow.site)
            .join(DeviceRow, DeviceRow.dense_index == DatastreamRow.device)
            .order_by(DatastreamRow.dense_index)
        )
    ]
    return Content(
        version=stored_version(connection),
        city=city.id,
        utc_offset_h=city.utc_offset_h,
        sites={s.id: s for s in sites},
        devices={d.id: d for d in devices},
        datastreams={d.id: d for d in streams},
    )


def write(connection: Connection, old: Content, new: Content, *, at: int, author: str, reason: str) -> None:
    """Write what differs between ``old`` (as it is in the tables) and ``new``, whose ids include all of ``old``.

    ``at`` is the time written beside new installations and threshold versions. [ns since 1970 UTC]
    """
    if old.version == 0:
        connection.execute(insert(CityRow), [{"id": new.city, "utc_offset_h": new.utc_offset_h}])
    elif old.utc_offset_h != new.utc_offset_h:
        connection.execute(update(CityRow).values(utc_offset_h=new.utc_offset_h))
    site_index = {name: i for i, name in enumerate(new.sites)}
    device_index = {name: i for i, name in enumerate(new.devices)}
    stream_index = {name: i for i, name in enumerate(new.datastreams)}
    _upsert(connection, SiteRow, old.sites, new.sites, site_index, lambda s: msgspec.structs.asdict(s))
    _upsert(
        connection,
        DeviceRow,
        old.devices,
        new.devices,
        device_index,
        lambda d: {"id": d.id, "model": d.model, "silence_after_s": d.silence_after_s},
    )
    moved = [d for d in new.devices.values() if d.id in old.devices and old.devices[d.id].site != d.site]
    installed = moved + [d for d in new.devices.values() if d.id not in old.devices]
    if moved:
        connection.execute(
            update(InstallationRow)
            .where(InstallationRow.device == bindparam("which"), InstallationRow.removed_at.is_(None))
            .values(removed_at=at),
            [{"which": device_index[d.id]} for d in moved],
        )
    if installed:
        connection.execute(
            insert(InstallationRow),
            [{"device": device_index[d.id], "site": site_index[d.site], "installed_at": at} for d in installed],
        )
    _upsert(
        connection,
        DatastreamRow,
        old.datastreams,
        new.datastreams,
        stream_index,
        lambda d: {
            "id": d.id,
            "site": site_index[d.site],
            "device": device_index[d.device],
            "property": d.property,
        },
    )
    _write_limits(connection, old, new, stream_index)
    _write_ladders(connection, old, new, stream_index, at=at, author=author, reason=reason)
    connection.execute(update(RegistryRow).values(version=new.version))


def _upsert(
    connection: Connection,
    table: type[Table],
    old: dict[str, Any],
    new: dict[str, Any],
    index: dict[str, int],
    values: Any,
) -> None:
    added = [values(e) | {"dense_index": index[e.id]} for e in new.values() if e.id not in old]
    if added:
        connection.execute(insert(table), added)
    changed = [values(e) for e in new.values() if e.id in old and values(e) != values(old[e.id])]
    if changed:
        names = [name for name in changed[0] if name != "id"]
        connection.execute(
            update(table)
            .where(table.__table__.c.id == bindparam("which"))
            .values({name: bindparam(f"new_{name}") for name in names}),
            [{"which": row["id"]} | {f"new_{name}": row[name] for name in names} for row in changed],
        )


def _write_limits(connection: Connection, old: Content, new: Content, index: dict[str, int]) -> None:
    before = {name: old.datastreams[name].limits for name in old.datastreams}
    changed = [d for d in new.datastreams.values() if d.limits != before.get(d.id, _NO_LIMITS)]
    if not changed:
        return
    stale = [{"which": index[d.id]} for d in changed if before.get(d.id, _NO_LIMITS) != _NO_LIMITS]
    if stale:
        connection.execute(delete(LimitsRow).where(LimitsRow.datastream == bindparam("which")), stale)
    rows = [msgspec.structs.asdict(d.limits) | {"datastream": index[d.id]} for d in changed if d.limits != _NO_LIMITS]
    if rows:
        connection.execute(insert(LimitsRow), rows)


def _write_ladders(
    connection: Connection,
    old: Content,
    new: Content,
    index: dict[str, int],
    *,
    at: int,
    author: str,
    reason: str,
) -> None:
    before = {name: old.datastreams[name].ladder for name in old.datastreams}
    changed = [d for d in new.datastreams.values() if d.ladder != before.get(d.id, _NO_LADDER)]
    if not changed:
        return
    numbers = connection.execute(
        select(ThresholdRow.datastream, func.max(ThresholdRow.number).label("last")).group_by(ThresholdRow.datastream)
    )
    last: dict[int, int] = {row.datastream: row.last for row in numbers}
    rows = [
        ladder_values(
            index[d.id],
            last.get(index[d.id], 0) + 1,
            d.ladder,
            version=new.version,
            at=at,
            author=author,
            reason=reason,
        )
        for d in changed
    ]
    connection.execute(insert(ThresholdRow), rows)


def ladder_rows(connection: Connection, datastream: int) -> Sequence[Row[Any]]:
    """All threshold versions of one datastream index, the oldest first."""
    query = select(*ThresholdRow.__table__.columns).where(ThresholdRow.datastream == datastream)
    return connection.execute(query.order_by(ThresholdRow.number)).all()


def ladder_of(row: Row[Any]) -> Ladder:
    """The ladder in a row of threshold versions."""
    return Ladder(
        steps=_STEPS.decode(row.steps),
        direction=row.direction,
        deadband=row.deadband,
        on_delay_s=row.on_delay_s,
        off_delay_s=row.off_delay_s,
        gate=row.gate,
    )


def ladder_values(
    datastream: int, number: int, ladder: Ladder, *, version: int, at: int, author: str, reason: str
) -> dict[str, Any]:
    """The row of a new threshold version."""
    return {
        "datastream": datastream,
        "number": number,
        "directory_version": version,
        "valid_from": at,
        "author": author,
        "reason": reason,
        "direction": int(ladder.direction),
        "deadband": ladder.deadband,
        "on_delay_s": ladder.on_delay_s,
        "off_delay_s": ladder.off_delay_s,
        "gate": int(ladder.gate),
        "steps": msgspec.json.encode(ladder.steps).decode(),
    }
