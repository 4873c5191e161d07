"""The Directory read from the registry's tables: all of it at the start, what changed since afterwards.

What changed is known from the audit trail. Only the entries that it names are read then, so that a change is in force
in a moment however many devices there are; see ``telemetry.directory_change``.
"""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, select

from devices.content import (
    Query,
    driver_rows,
    ladders_in_force,
    load_city,
    rows_in,
    stored_version,
    whole_or_among,
)
from devices.model import (
    AuditRow,
    CalibrationRow,
    DatastreamRow,
    DeviceRow,
    DistrictRow,
    FeedRow,
    InstallationRow,
    LimitsRow,
    SiteRow,
)
from devices.models import DeviceModel, load_catalogue
from telemetry.directory import (
    Calibration,
    Datastream,
    Device,
    Directory,
    Installation,
    Ladder,
    Limits,
    Payload,
    Site,
)
from telemetry.directory_change import DirectoryChange
from telemetry.installations import BEGINNING_NS

MOST_CHANGES = 50_000
"""After more lines of the audit trail the whole Directory is read again: it takes no longer, and is simpler."""

_NO_LIMITS = Limits()
_NO_LADDER = Ladder()


def load_directory(connection: Connection) -> Directory | None:
    """The Directory, or None if no city has been saved."""
    # Hundreds of thousands of new objects, none of them garbage: looking for it takes a sixth of the time.
    collects = gc.isenabled()
    gc.disable()
    try:
        return _load_directory(connection)
    finally:
        if collects:
            gc.enable()


def _load_directory(connection: Connection) -> Directory | None:
    city = load_city(connection)
    if city is None:
        return None
    # Dense indexes begin at 0 and leave nothing out.
    sites = [site for _, site in _sites(connection, None)]
    site_ids = [site.id for site in sites]
    devices = [device for _, device in _devices(connection, None, site_ids)]
    device_ids = [device.id for device in devices]
    streams = [stream for _, stream in _streams(connection, None, site_ids, device_ids)]
    names = _Names(device_ids, [stream.id for stream in streams])
    return Directory(
        version=stored_version(connection),
        city=city[0],
        utc_offset_h=city[1],
        sites=tuple(sites),
        devices=tuple(devices),
        datastreams=tuple(streams),
        installations=_installations(connection, None, names),
        calibrations=_calibrations(connection, None, names),
        payloads=payloads_of({d.model for d in devices}),
    )


def load_change(connection: Connection, base: Directory) -> DirectoryChange | None:
    """What makes the Directory of now out of ``base``; None if the whole is to be read instead.

    ``base`` must be a Directory of this registry, whatever ``brokers`` it names.
    """
    version = stored_version(connection)
    query = (
        select(AuditRow.directory_version, AuditRow.kind, AuditRow.subject)
        .where(AuditRow.directory_version > base.version)
        .limit(MOST_CHANGES + 1)
    )
    told: dict[str, set[str]] = {}
    versions = set()
    rows = list(driver_rows(connection, query))
    for changed_in, kind, subject in rows:
        versions.add(changed_in)
        told.setdefault(kind, set()).add(subject)
    # Older Pantaus did not write down which version a change made.
    if len(rows) > MOST_CHANGES or len(versions) != version - base.version or told.keys() - _FOLLOWED:
        return None
    # "calibration" names <device>/<property>.
    of_device = told.get("device", set()) | told.get("installation", set())
    of_device |= {subject.rpartition("/")[0] for subject in told.get("calibration", ())}
    changed_sites = _indexes(connection, SiteRow, told.get("site", ()))
    changed_devices = _indexes(connection, DeviceRow, of_device)
    changed_streams = _indexes(connection, DatastreamRow, told.get("datastream", ()))
    fed = rows_in(connection, select(FeedRow.datastream), FeedRow.device, changed_devices)
    changed_streams = sorted({*changed_streams, *(row.datastream for row in fed)})
    site_ids = _Known(base.sites)
    device_ids = _Known(base.devices)
    sites = dict(_sites(connection, changed_sites))
    site_ids.new |= {index: site.id for index, site in sites.items()}
    devices = dict(_devices(connection, changed_devices, site_ids))
    device_ids.new |= {index: device.id for index, device in devices.items()}
    streams = dict(_streams(connection, changed_streams, site_ids, device_ids))
    names = _Names(device_ids, {index: stream.id for index, stream in streams.items()})
    models = {d.model for i, d in enumerate(base.devices) if i not in devices} | {d.model for d in devices.values()}
    return DirectoryChange(
        base=base.version,
        version=version,
        sites=tuple(sites.items()),
        devices=tuple(devices.items()),
        datastreams=tuple(streams.items()),
        installations=_installations(connection, changed_streams, names),
        calibrations=_calibrations(connection, changed_streams, names),
        payloads=payloads_of(models),
    )


_FOLLOWED = frozenset(("site", "device", "installation", "datastream", "calibration"))
"""Kinds of the audit trail whose changes are read singly; after another (city, district) all is read again."""


class _Known:
    """Index → id of what a Directory has, and of what is new."""

    def __init__(self, entries: Sequence[Any]) -> None:
        self._entries = entries
        self.new: dict[int, str] = {}

    def __getitem__(self, index: int) -> str:
        found = self.new.get(index)
        return str(self._entries[index].id) if found is None else found


IdOf = Mapping[int, str] | Sequence[str] | _Known


@dataclass(frozen=True)
class _Names:
    device: IdOf
    datastream: IdOf


def payloads_of(models: Iterable[str]) -> tuple[Payload, ...]:
    """How messages are read, of those of the models that need more than Pantau JSON."""
    catalogue = load_catalogue()
    return tuple(p for name in sorted(set(models)) if name in catalogue and (p := catalogue[name].payload) is not None)


def _indexes(connection: Connection, table: Any, ids: Collection[str]) -> list[int]:
    return sorted(row[0] for row in rows_in(connection, select(table.dense_index), table.id, ids))


def _sites(connection: Connection, indexes: Sequence[int] | None) -> Iterable[tuple[int, Site]]:
    districts: dict[str, str] = dict(driver_rows(connection, select(DistrictRow.code, DistrictRow.name)))
    query: Query = select(
        SiteRow.dense_index, SiteRow.id, SiteRow.name, SiteRow.latitude, SiteRow.longitude, SiteRow.district
    ).order_by(SiteRow.dense_index)
    for index, name, title, latitude, longitude, district in driver_rows(
        connection, whole_or_among(connection, query, SiteRow.dense_index, indexes)
    ):
        said = districts.get(district) or districts.setdefault(district, district)
        yield index, Site(name, title, latitude, longitude, said)


def _devices(connection: Connection, indexes: Sequence[int] | None, site_ids: IdOf) -> Iterable[tuple[int, Device]]:
    where: Query = select(InstallationRow.device, InstallationRow.site).where(InstallationRow.removed_at.is_(None))
    site_of: dict[int, int] = dict(
        driver_rows(connection, whole_or_among(connection, where, InstallationRow.device, indexes))
    )
    catalogue = load_catalogue()
    models: dict[str, tuple[str, DeviceModel | None]] = {}  # one string for each model instead of one for each device
    query: Query = select(
        DeviceRow.dense_index,
        DeviceRow.id,
        DeviceRow.model,
        DeviceRow.silence_after_s,
        DeviceRow.state,
        DeviceRow.eui,
        DeviceRow.serial,
        DeviceRow.alias,
        DeviceRow.interval_s,
        DeviceRow.gateway,
        DeviceRow.clock,
    ).order_by(DeviceRow.dense_index)
    for index, name, model, silence_after_s, state, eui, serial, alias, interval_s, gateway, clock in driver_rows(
        connection, whole_or_among(connection, query, DeviceRow.dense_index, indexes)
    ):
        site = site_of.get(index)
        known = models.get(model)
        if known is None:
            known = models[model] = (model, catalogue.get(model))
        if interval_s is None and known[1] is not None:
            interval_s = known[1].interval_s
        names = tuple([n for n in (eui.lower(), serial, alias) if n and n != name])
        yield (
            index,
            Device(
                name,
                "" if site is None else site_ids[site],
                known[0],
                silence_after_s,
                state == "active",
                names,
                interval_s,
                bool(gateway),
                "utc" if clock == "utc" else clock,
            ),
        )


def _streams(
    connection: Connection, indexes: Sequence[int] | None, site_ids: IdOf, device_ids: IdOf
) -> Iterable[tuple[int, Datastream]]:
    same: dict[tuple[Any, ...], Limits] = {}  # what comes of one model is often the same
    columns: Query = select(LimitsRow.datastream, *(getattr(LimitsRow, name) for name in Limits.__struct_fields__))
    limits = {
        index: same.get(key) or same.setdefault(key, Limits(*key))
        for index, *values in driver_rows(
            connection, whole_or_among(connection, columns, LimitsRow.datastream, indexes)
        )
        if (key := tuple(values))
    }
    ladders = ladders_in_force(connection, indexes)
    properties: dict[str, str] = {}
    query: Query = select(
        DatastreamRow.dense_index, DatastreamRow.id, DatastreamRow.site, DatastreamRow.device, DatastreamRow.property
    ).order_by(DatastreamRow.dense_index)
    for index, name, site, device, prop in driver_rows(
        connection, whole_or_among(connection, query, DatastreamRow.dense_index, indexes)
    ):
        yield (
            index,
            Datastream(
                name,
                site_ids[site],
                device_ids[device],
                properties.setdefault(prop, prop),
                limits.get(index, _NO_LIMITS),
                ladders.get(index, _NO_LADDER),
            ),
        )


def _installations(connection: Connection, streams: Sequence[int] | None, names: _Names) -> tuple[Installation, ...]:
    # A datastream that one device has always fed needs no installation. All of one device begin at the same time.
    times: dict[int, int] = {}
    query: Query = (
        select(FeedRow.device, FeedRow.datastream, FeedRow.start_at, FeedRow.end_at)
        .where(FeedRow.start_at.is_not(None) | FeedRow.end_at.is_not(None))
        .order_by(FeedRow.id)
    )
    return tuple(
        [
            Installation(
                names.device[device],
                names.datastream[stream],
                BEGINNING_NS if start is None else times.setdefault(start, start),
                end,
            )
            for device, stream, start, end in driver_rows(
                connection, whole_or_among(connection, query, FeedRow.datastream, streams)
            )
        ]
    )


def _calibrations(connection: Connection, streams: Sequence[int] | None, names: _Names) -> tuple[Calibration, ...]:
    query: Query = (
        select(
            CalibrationRow.device,
            DatastreamRow.dense_index,
            CalibrationRow.scale,
            CalibrationRow.offset_value,
            CalibrationRow.valid_from,
        )
        .join(FeedRow, FeedRow.device == CalibrationRow.device)
        .join(
            DatastreamRow,
            and_(DatastreamRow.dense_index == FeedRow.datastream, DatastreamRow.property == CalibrationRow.property),
        )
        .distinct()
        .order_by(CalibrationRow.device, DatastreamRow.dense_index, CalibrationRow.valid_from)
    )
    return tuple(
        Calibration(names.device[device], names.datastream[stream], scale, offset, valid_from)
        for device, stream, scale, offset, valid_from in driver_rows(
            connection, whole_or_among(connection, query, DatastreamRow.dense_index, streams)
        )
    )
