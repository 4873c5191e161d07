"""Changes of the registry, one entry or ten thousand at a time, each with its line in the audit trail.

An ``Edit`` lives inside one writing transaction (``devices.database``). Everything that can be wrong raises
InvalidEntryError, and the caller's transaction then leaves no trace.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Text, bindparam, delete, func, insert, select, update

from devices import content
from devices.audited import AuditedEdit
from devices.checks import (
    check_calibration,
    check_datastream_entry,
    check_device_entry,
    check_district,
    check_site_entry,
    normal_device,
)
from devices.entities import (
    CalibrationEntry,
    DatastreamEntry,
    DeviceEntry,
    DeviceState,
    District,
    InstallationEntry,
    NewDatastream,
    SiteEntry,
)
from devices.errors import InvalidEntryError
from devices.model import (
    CalibrationRow,
    CityRow,
    DatastreamRow,
    DeviceRow,
    DistrictRow,
    FeedRow,
    InstallationRow,
    LimitsRow,
    SiteRow,
    ThresholdRow,
)
from telemetry.directory import Ladder, Limits
from telemetry.observations import rfc3339


class Place(NamedTuple):
    """Where a device is to be installed, from when on, and what it feeds there."""

    device: str
    site: str
    start_ns: int
    datastreams: Sequence[NewDatastream]


class Feed(NamedTuple):
    """A device is to feed a datastream from ``start_ns`` on (None: it always has)."""

    device: int
    datastream: int
    start_ns: int | None


class Edit(AuditedEdit):
    """Changes of one transaction, to be ended with ``finish``; see ``devices.audited.AuditedEdit``."""

    def check(self) -> None:
        """What only the whole can tell."""
        if self.fed:
            self._check_feeds()

    # --- entries ------------------------------------------------------------------------------------------------

    def put_city(self, city: str, utc_offset_h: float) -> None:
        """Name the city at the first time, and set its time zone."""
        self.has_city = True
        old = content.load_city(self.connection)
        if old == (city, utc_offset_h):
            return
        if old is None:
            self.connection.execute(insert(CityRow), [{"id": city, "utc_offset_h": utc_offset_h}])
        elif old[0] != city:
            raise InvalidEntryError(f"this registry is that of city {old[0]!r}, got {city!r}: one registry each")
        else:
            self.connection.execute(update(CityRow).values(utc_offset_h=utc_offset_h))
        self.record("added" if old is None else "changed", "city", city, old, (city, utc_offset_h))

    def put_districts(self, entries: Iterable[District]) -> None:
        """Add or change districts."""
        given = _by_key(entries, "district", lambda d: d.code)
        for entry in given.values():
            check_district(entry)
        rows = content.rows_in(
            self.connection,
            select(DistrictRow.code, DistrictRow.name, DistrictRow.geojson),
            DistrictRow.code,
            given,
        )
        old = {row.code: District(*row) for row in rows}
        added = [msgspec.structs.asdict(e) for e in given.values() if e.code not in old]
        changed = [msgspec.structs.asdict(e) for e in given.values() if e.code in old and e != old[e.code]]
        self.insert(DistrictRow, added)
        self.update(DistrictRow, "code", changed)
        self.record_all("district", given, old)

    def put_sites(self, entries: Iterable[SiteEntry]) -> None:
        """Add or change sites."""
        given = _by_key(entries, "site", lambda e: e.id)
        for entry in given.values():
            check_site_entry(entry)
        old = content.sites_by_id(self.connection, given)
        next_index = self.next_index(SiteRow.dense_index)
        added = [e for e in given.values() if e.id not in old]
        self.insert(SiteRow, [msgspec.structs.asdict(e) | {"dense_index": next_index + i} for i, e in enumerate(added)])
        changed = [e for e in given.values() if e.id in old and e != old[e.id][1]]
        self.update(SiteRow, "id", [msgspec.structs.asdict(e) for e in changed])
        renamed = [old[e.id][0] for e in changed if e.name != old[e.id][1].name]
        query = select(InstallationRow.device).where(InstallationRow.removed_at.is_(None))
        self.searched.update(r.device for r in content.rows_in(self.connection, query, InstallationRow.site, renamed))
        self.record_all("site", given, {name: entry for name, (_, entry) in old.items()})

    def put_devices(self, entries: Iterable[DeviceEntry]) -> None:
        """Add or change devices. One that is retired is taken down now, if it is still installed."""
        given = _by_key((normal_device(e) for e in entries), "device", lambda e: e.id)
        for entry in given.values():
            check_device_entry(entry)
        old = content.devices_by_id(self.connection, given)
        next_index = self.next_index(DeviceRow.dense_index)
        added = [e for e in given.values() if e.id not in old]
        self.insert(DeviceRow, [_device_values(e) | {"dense_index": next_index + i} for i, e in enumerate(added)])
        self.searched.update(range(next_index, next_index + len(added)))
        changed = [e for e in given.values() if e.id in old and e != old[e.id][1]]
        self.update(DeviceRow, "id", [_device_values(e) for e in changed])
        self.searched.update(old[e.id][0] for e in changed)
        self._check_labels([*added, *changed])
        self._check_names([*added, *changed])
        self.record_all("device", given, {name: entry for name, (_, entry) in old.items()})
        self.take_down([e.id for e in changed if e.state == DeviceState.RETIRED], self.at, state=DeviceState.RETIRED)

    def _check_labels(self, entries: Sequence[DeviceEntry]) -> None:
        """No two devices have one EUI, or one serial number of one model."""
        query: content.Query = select(DeviceRow.id, DeviceRow.eui)
        holders: dict[str, str] = {}
        for row in content.rows_in(self.connection, query, DeviceRow.eui, {e.eui for e in entries if e.eui}):
            other = holders.setdefault(row.eui, row.id)
            if other != row.id:
                raise InvalidEntryError(f"devices {other!r} and {row.id!r} cannot both have the EUI {row.eui}")
        query = select(DeviceRow.id, DeviceRow.model, DeviceRow.serial)
        holders_of: dict[tuple[str, str], str] = {}
        wanted = {e.serial for e in entries if e.serial}
        for row in content.rows_in(self.connection, query, DeviceRow.serial, wanted):
            other = holders_of.setdefault((row.model, row.serial), row.id)
            if other != row.id:
                raise InvalidEntryError(
                    f"devices {other!r} and {row.id!r} of model {row.model!r} cannot both have the serial number "
                    f"{row.serial!r}"
                )

    def _check_names(self, entries: Sequence[DeviceEntry]) -> None:
        """No device has an alias that messages could take for another device, whatever the case."""
        names = {name.lower() for e in entries for name in (e.id, e.serial, e.eui, e.alias) if name}
        query: content.Query = select(DeviceRow.id, DeviceRow.alias).where(DeviceRow.alias != "")
        aliases = content.rows_in(self.connection, query, func.lower(DeviceRow.alias, type_=Text), names)
        holder: dict[str, str] = {}
        called = [(row.id, row.alias) for row in aliases]
        for column, small in (
            (DeviceRow.id, func.lower(DeviceRow.id, type_=Text)),
            (DeviceRow.serial, func.lower(DeviceRow.serial, type_=Text)),
            (DeviceRow.eui, DeviceRow.eui),
        ):
            wanted = {row.alias.upper() if small is DeviceRow.eui else row.alias.lower() for row in aliases}
            called += [tuple(r) for r in content.rows_in(self.connection, select(DeviceRow.id, column), small, wanted)]
        for device, name in called:
            other = holder.setdefault(name.lower(), device)
            if other != device:
                raise InvalidEntryError(
                    f"device {other!r} cannot have the alias {name!r}: device {device!r} is called so "
                    "(capital and small letters are the same here)"
                )

    def put_streams(self, entries: Iterable[tuple[DatastreamEntry, str]], *, reason: str) -> None:
        """Add or change datastreams, each with the device that feeds it ("": as it is).

        A new one has always been fed by its device, as far as we know; one that changes its device does so now. A
        device that was taken down is not put up again by this.
        """
        pairs = list(entries)
        wanted = _by_key((e for e, _ in pairs), "datastream", lambda e: e.id)
        for entry in wanted.values():
            check_datastream_entry(entry)
        devices = content.devices_by_id(self.connection, {d for _, d in pairs if d})
        for entry, device in pairs:
            if device and device not in devices:
                raise InvalidEntryError(
                    f"datastream {entry.id!r} names device {device!r}, which is not in the registry"
                )
        old = content.streams_where(self.connection, DatastreamRow.id, wanted)
        fed_by = self._fed_by([s.index for s in old.values()])
        down = self.down([index for index, _ in devices.values()])
        for entry, device in pairs:
            if not device and entry.id not in old:
                raise InvalidEntryError(f"datastream {entry.id!r} is new and needs a device that feeds it")
        first = {entry.id: devices[device][0] for entry, device in pairs if device}
        index_of = self._write_streams(list(wanted.values()), old, first, reason=reason)
        feeds, ended = [], []
        for entry, device in pairs:
            if not device:
                continue
            device_index, stream = devices[device][0], index_of[entry.id]
            now = fed_by.get(stream)
            if entry.id not in old:
                feeds.append(Feed(device_index, stream, None))
            elif device_index in down or (now is not None and now[0] == device_index):
                continue
            else:
                # A clock that was set back must not make an interval that ends before it begins.
                start = self.at if now is None or now[1] is None else max(self.at, now[1] + 1)
                if now is not None:
                    ended.append((stream, start))
                feeds.append(Feed(device_index, stream, start))
        self.end_feeds(ended)
        self.begin_feeds(feeds)

    def _write_streams(
        self,
        entries: Sequence[DatastreamEntry],
        old: dict[str, content.Stream],
        fed_by: dict[str, int],
        *,
        reason: str,
    ) -> dict[str, int]:
        """Datastreams with limits and ladders, without feeds; returns their indexes."""
        sites = content.sites_by_id(self.connection, {e.site for e in entries})
        for entry in entries:
            if entry.site not in sites:
                raise InvalidEntryError(
                    f"datastream {entry.id!r} names site {entry.site!r}, which is not in the registry"
                )
        index_of = {name: stream.index for name, stream in old.items()}
        next_index = self.next_index(DatastreamRow.dense_index)
        added = [e for e in entries if e.id not in old]
        for i, entry in enumerate(added):
            index_of[entry.id] = next_index + i

        def values(e: DatastreamEntry) -> dict[str, Any]:
            return {"id": e.id, "site": sites[e.site][0], "property": e.property, "label": e.label}

        self.insert(
            DatastreamRow,
            [values(e) | {"dense_index": index_of[e.id], "device": fed_by[e.id]} for e in added],
        )
        changed = [e for e in entries if e.id in old and e != old[e.id].entry]
        self.update(DatastreamRow, "id", [values(e) for e in changed])
        self.fed.update(old[e.id].device for e in changed if e.property != old[e.id].entry.property)
        before = {name: stream.entry for name, stream in old.items()}
        self._write_limits(entries, before, index_of)
        self._write_ladders(entries, before, index_of, reason)
        self.record_all("datastream", {e.id: e for e in entries}, before)
        return index_of

    def _write_limits(
        self, entries: Sequence[DatastreamEntry], old: dict[str, DatastreamEntry], index_of: dict[str, int]
    ) -> None:
        none = Limits()
        had = {e.id: old[e.id].limits if e.id in old else none for e in entries}
        changed = [e for e in entries if e.limits != had[e.id]]
        stale = [{"which": index_of[e.id]} for e in changed if had[e.id] != none]
        if stale:
            self.connection.execute(delete(LimitsRow).where(LimitsRow.datastream == bindparam("which")), stale)
        self.insert(
            LimitsRow,
            [msgspec.structs.asdict(e.limits) | {"datastream": index_of[e.id]} for e in changed if e.limits != none],
        )

    def _write_ladders(
        self,
        entries: Sequence[DatastreamEntry],
        old: dict[str, DatastreamEntry],
        index_of: dict[str, int],
        reason: str,
    ) -> None:
        none = Ladder()
        changed = [e for e in entries if e.ladder != (old[e.id].ladder if e.id in old else none)]
        query = select(ThresholdRow.datastream, func.max(ThresholdRow.number).label("last"))
        last = {
            row.datastream: row.last
            for row in content.rows_in(
                self.connection,
                query.group_by(ThresholdRow.datastream),
                ThresholdRow.datastream,
                [index_of[e.id] for e in changed if e.id in old],
            )
        }
        self.insert(
            ThresholdRow,
            [
                {
                    "datastream": index_of[e.id],
                    "number": last.get(index_of[e.id], 0) + 1,
                    "directory_version": self.version + 1,
                    "valid_from": self.at,
                    "author": self.by,
                    "reason": reason,
                    "direction": int(e.ladder.direction),
                    "deadband": e.ladder.deadband,
                    "on_delay_s": e.ladder.on_delay_s,
                    "off_delay_s": e.ladder.off_delay_s,
                    "gate": int(e.ladder.gate),
                    "steps": msgspec.json.encode(e.ladder.steps).decode(),
                }
                for e in changed
            ],
        )

    def put_calibrations(self, entries: Sequence[CalibrationEntry]) -> None:
        """Add calibrations of devices that have none at these moments: those that come with their installation."""
        for entry in entries:
            check_calibration(entry)
        devices = content.devices_by_id(self.connection, {e.device for e in entries})
        self.insert(
            CalibrationRow,
            [
                {
                    "device": devices[e.device][0],
                    "property": e.property,
                    "valid_from": e.valid_from_ns,
                    "scale": e.scale,
                    "offset_value": e.offset,
                }
                for e in entries
            ],
        )
        for entry in entries:
            self.record("added", "calibration", f"{entry.device}/{entry.property}", None, entry)

    def put_calibration(self, entry: CalibrationEntry) -> None:
        """Add a calibration, or change the one that is valid from the same moment."""
        check_calibration(entry)
        device, _ = self.device(entry.device)
        same = (
            (CalibrationRow.device == device)
            & (CalibrationRow.property == entry.property)
            & (CalibrationRow.valid_from == entry.valid_from_ns)
        )
        row = self.connection.execute(
            select(CalibrationRow.scale, CalibrationRow.offset_value).where(same)
        ).one_or_none()
        old = None if row is None else msgspec.structs.replace(entry, scale=row.scale, offset=row.offset_value)
        if old == entry:
            return
        values = {"scale": entry.scale, "offset_value": entry.offset}
        if old is None:
            key = {"device": device, "property": entry.property, "valid_from": entry.valid_from_ns}
            self.connection.execute(insert(CalibrationRow).values(**key, **values))
        else:
            self.connection.execute(update(CalibrationRow).where(same).values(**values))
        self.record("changed" if old else "added", "calibration", f"{entry.device}/{entry.property}", old, entry)

    # --- where devices are --------------------------------------------------------------------------------------

    def device(self, name: str) -> tuple[int, DeviceEntry]:
        """Index and entry of a device; raises if there is none."""
        found = content.devices_by_id(self.connection, [name])
        if name not in found:
            raise InvalidEntryError(f"there is no device {name!r} in the registry")
        return found[name]

    def site(self, name: str) -> tuple[int, SiteEntry]:
        """Index and entry of a site; raises if there is none."""
        found = content.sites_by_id(self.connection, [name])
        if name not in found:
            raise InvalidEntryError(f"there is no site {name!r} in the registry")
        return found[name]

    def install(self, places: Sequence[Place]) -> None:
        """Put devices at sites and let them feed datastreams there; one that is elsewhere is taken from there.

        A device that is there already stays as it is, but for datastreams that it does not feed yet. A datastream of
        the property that nobody feeds goes on with the device; otherwise there is a new one.
        """
        _by_key(places, "device", lambda p: p.device)
        devices = content.devices_by_id(self.connection, [p.device for p in places])
        sites = content.sites_by_id(self.connection, {p.site for p in places})
        for place in places:
            if place.device not in devices:
                raise InvalidEntryError(f"there is no device {place.device!r} in the registry")
            if place.site not in sites:
                raise InvalidEntryError(
                    f"device {place.device!r} names site {place.site!r}, which is not in the registry"
                )
        now_at = content.site_of_device(self.connection, [devices[p.device][0] for p in places])
        moved = [
            p for p in places if devices[p.device][0] in now_at and now_at[devices[p.device][0]][0] != sites[p.site][0]
        ]
        self._take_down([(devices[p.device][0], p.device, p.start_ns) for p in moved])
        leaving = {p.device for p in moved}
        new = [p for p in places if p.device in leaving or devices[p.device][0] not in now_at]
        self._check_not_before([(devices[p.device][0], p.device, p.start_ns) for p in new])
        self.insert(
            InstallationRow,
            [{"device": devices[p.device][0], "site": sites[p.site][0], "installed_at": p.start_ns} for p in new],
        )
        self.searched.update(devices[p.device][0] for p in new)
        for p in new:
            self.record("installed", "installation", p.device, None, InstallationEntry(p.device, p.site, p.start_ns))
        self._connect(places, {name: index for name, (index, _) in devices.items()})

    def _check_not_before(self, wanted: Sequence[tuple[int, str, int]]) -> None:
        """An installation begins at or after the end of the device's last one."""
        query = (
            select(InstallationRow.device, func.max(InstallationRow.removed_at).label("last"))
            .where(InstallationRow.removed_at.is_not(None))
            .group_by(InstallationRow.device)
        )
        rows = content.rows_in(self.connection, query, InstallationRow.device, [index for index, _, _ in wanted])
        last = {row.device: row.last for row in rows}
        for index, name, start_ns in wanted:
            if start_ns < last.get(index, start_ns):
                raise InvalidEntryError(
                    f"device {name!r} cannot be installed at {rfc3339(start_ns)}: it was somewhere else until "
                    f"{rfc3339(last[index])}"
                )

    def _connect(self, places: Sequence[Place], device_index: dict[str, int]) -> None:
        streams = content.streams_where(self.connection, SiteRow.id, {p.site for p in places if p.datastreams})
        fed_by = {s: d for s, (d, _) in self._fed_by([x.index for x in streams.values()]).items()}
        at_site: dict[tuple[str, str], list[content.Stream]] = {}
        for stream in streams.values():
            at_site.setdefault((stream.entry.site, stream.entry.property), []).append(stream)
        taken = self._taken_ids(places)
        next_index = self.next_index(DatastreamRow.dense_index)
        new: list[DatastreamEntry] = []
        first: dict[str, int] = {}
        feeds: list[Feed] = []
        for place in places:
            device = device_index[place.device]
            for plan in place.datastreams:
                options = at_site.setdefault((place.site, plan.property), [])
                if any(fed_by.get(s.index) == device for s in options):
                    continue
                free = [s for s in options if s.index not in fed_by and s.entry.label == plan.label]
                if free:
                    stream = free[0]
                else:
                    name = _stream_id(place, plan, taken)
                    taken.add(name)
                    entry = DatastreamEntry(name, place.site, plan.property, plan.limits, plan.ladder, plan.label)
                    check_datastream_entry(entry)
                    stream = content.Stream(next_index + len(new), entry, device)
                    new.append(entry)
                    first[name] = device
                    options.append(stream)
                fed_by[stream.index] = device
                feeds.append(Feed(device, stream.index, place.start_ns))
        self._write_streams(new, {}, first, reason="as its model is set up")
        self.begin_feeds(feeds)

    def _taken_ids(self, places: Sequence[Place]) -> set[str]:
        """Which of the ids that new datastreams may get are in use."""
        wanted = {name for p in places for d in p.datastreams for name in _stream_ids(p, d)}
        rows = content.rows_in(self.connection, select(DatastreamRow.id), DatastreamRow.id, wanted)
        return {row.id for row in rows}

    def replace(self, old: str, new: str, at_ns: int, *, old_state: DeviceState) -> None:
        """``new`` takes the place of ``old`` and goes on with all that it fed."""
        old_index, old_entry = self.device(old)
        new_index, _ = self.device(new)
        if old == new:
            raise InvalidEntryError(f"device {old!r} cannot replace itself")
        where = content.site_of_device(self.connection, [old_index, new_index])
        if old_index not in where:
            raise InvalidEntryError(f"device {old!r} is not installed, so it cannot be replaced")
        if new_index in where:
            raise InvalidEntryError(f"device {new!r} is installed already, so it cannot replace {old!r}")
        query = select(FeedRow.datastream).where(FeedRow.device == old_index, FeedRow.end_at.is_(None))
        streams = list(self.connection.execute(query.order_by(FeedRow.datastream)).scalars())
        site_index = where[old_index][0]
        site = content.sites_by_index(self.connection, [site_index])[site_index]
        self._take_down([(old_index, old, at_ns)])
        if old_entry.state != old_state:
            self._set_states([(old_entry, old_state)])
        self.install([Place(new, site.id, at_ns, ())])
        self.begin_feeds([Feed(new_index, stream, at_ns) for stream in streams])
        self._restart_calibrations(new, new_index, streams, at_ns)
        self.record("replaced", "device", old, {"device": old}, {"device": new, "site": site.id, "at_ns": at_ns})

    def _restart_calibrations(self, device: str, index: int, streams: Sequence[int], at_ns: int) -> None:
        """What was measured with the sensor elsewhere does not hold at its new place."""
        rows = content.rows_in(self.connection, select(DatastreamRow.property), DatastreamRow.dense_index, streams)
        properties = {row.property for row in rows}
        query = (
            select(CalibrationRow.property)
            .where(CalibrationRow.device == index, CalibrationRow.valid_from < at_ns)
            .distinct()
        )
        for name in self.connection.execute(query).scalars().all():
            if name in properties:
                self.put_calibration(CalibrationEntry(device, name, 1.0, 0.0, at_ns))

    def take_down(self, devices: Sequence[str], at_ns: int, *, state: DeviceState) -> None:
        """Devices end their installations and feeds, and get a state. The datastreams stay."""
        found = content.devices_by_id(self.connection, devices)
        self._take_down([(found[name][0], name, at_ns) for name in devices])
        self._set_states([(found[name][1], state) for name in devices if found[name][1].state != state])

    def _set_states(self, wanted: Sequence[tuple[DeviceEntry, DeviceState]]) -> None:
        changed = [(old, msgspec.structs.replace(old, state=state)) for old, state in wanted]
        self.update(DeviceRow, "id", [_device_values(new) for _, new in changed])
        for old, new in changed:
            self.record("changed", "device", new.id, old, new)

    def _take_down(self, wanted: Sequence[tuple[int, str, int]]) -> None:
        """End the open installation and feeds of (device index, id, time)."""
        where = content.site_of_device(self.connection, [index for index, _, _ in wanted])
        sites = content.sites_by_index(self.connection, {site for site, _ in where.values()})
        wanted = [w for w in wanted if w[0] in where]
        if not wanted:
            return
        for index, name, at_ns in wanted:
            site, since = where[index]
            if at_ns <= since:
                raise InvalidEntryError(
                    f"device {name!r} cannot leave site {sites[site].id!r} at {rfc3339(at_ns)}: "
                    f"it was installed there at {rfc3339(since)}"
                )
            entry = InstallationEntry(name, sites[site].id, since)
            self.record("removed", "installation", name, entry, msgspec.structs.replace(entry, end_ns=at_ns))
        self.connection.execute(
            update(InstallationRow)
            .where(InstallationRow.device == bindparam("which"), InstallationRow.removed_at.is_(None))
            .values(removed_at=bindparam("until")),
            [{"which": index, "until": at_ns} for index, _, at_ns in wanted],
        )
        end = {index: at_ns for index, _, at_ns in wanted}
        query = select(FeedRow.datastream, FeedRow.device).where(FeedRow.end_at.is_(None))
        rows = content.rows_in(self.connection, query, FeedRow.device, end)
        self.end_feeds([(row.datastream, end[row.device]) for row in rows])
        self.searched.update(end)

    # --- feeds --------------------------------------------------------------------------------------------------

    def _fed_by(self, streams: Iterable[int]) -> dict[int, tuple[int, int | None]]:
        """Datastream index → device that feeds it now, and since when."""
        query = select(FeedRow.datastream, FeedRow.device, FeedRow.start_at).where(FeedRow.end_at.is_(None))
        return {r[0]: (r[1], r[2]) for r in content.rows_in(self.connection, query, FeedRow.datastream, streams)}

    def down(self, devices: Sequence[int]) -> set[int]:
        """Those of the devices that were installed once and are not now."""
        rows = content.rows_in(
            self.connection, select(InstallationRow.device, InstallationRow.removed_at), InstallationRow.device, devices
        )
        return {r.device for r in rows} - {r.device for r in rows if r.removed_at is None}

    def end_feeds(self, ends: Sequence[tuple[int, int]]) -> None:
        """End what feeds (datastream index, time) now."""
        if not ends:
            return
        since = self._fed_by([stream for stream, _ in ends])
        for stream, at_ns in ends:
            start = since[stream][1]
            if start is not None and at_ns <= start:
                names = content.rows_in(self.connection, select(DatastreamRow.id), DatastreamRow.dense_index, [stream])
                raise InvalidEntryError(
                    f"datastream {names[0].id!r} cannot lose its device at {rfc3339(at_ns)}: that came only at "
                    f"{rfc3339(start)}"
                )
        self.connection.execute(
            update(FeedRow)
            .where(FeedRow.datastream == bindparam("which"), FeedRow.end_at.is_(None))
            .values(end_at=bindparam("until")),
            [{"which": stream, "until": at_ns} for stream, at_ns in ends],
        )

    def begin_feeds(self, feeds: Sequence[Feed]) -> None:
        """Let devices feed datastreams that nobody feeds now."""
        if not feeds:
            return
        self.insert(FeedRow, [{"device": f.device, "datastream": f.datastream, "start_at": f.start_ns} for f in feeds])
        rows = content.rows_in(
            self.connection,
            select(DatastreamRow.dense_index, DatastreamRow.id, DatastreamRow.device),
            DatastreamRow.dense_index,
            [f.datastream for f in feeds],
        )
        known = {row.dense_index: row for row in rows}
        changed = [f for f in feeds if known[f.datastream].device != f.device]
        self.update(DatastreamRow, "dense_index", [{"dense_index": f.datastream, "device": f.device} for f in changed])
        self.fed.update(f.device for f in feeds)
        names = content.devices_by_index(self.connection, {f.device for f in feeds})
        for f in feeds:
            after = {"device": names[f.device].id, "start_ns": f.start_ns}
            self.record("fed by", "datastream", known[f.datastream].id, None, after)

    def _check_feeds(self) -> None:
        """No device feeds one property twice at a time, and no datastream has two devices at a time."""
        query = select(
            FeedRow.device,
            FeedRow.datastream,
            FeedRow.start_at,
            FeedRow.end_at,
            DatastreamRow.property,
            DatastreamRow.id,
            DeviceRow.id,
        )
        query = query.join(DatastreamRow, DatastreamRow.dense_index == FeedRow.datastream).join(
            DeviceRow, DeviceRow.dense_index == FeedRow.device
        )
        rows = content.rows_in(self.connection, query, FeedRow.device, self.fed)
        for row, other in _overlaps(rows, lambda r: (r[0], r[4])):
            raise InvalidEntryError(
                f"device {row[6]!r} feeds {row[4]} twice (datastream {other[5]!r}, and {row[5]!r} at the same time)"
            )
        rows = content.rows_in(self.connection, query, FeedRow.datastream, {row[1] for row in rows})
        for row, other in _overlaps(rows, lambda r: r[1]):
            raise InvalidEntryError(
                f"datastream {row[5]!r} cannot be fed by device {row[6]!r} and by {other[6]!r} at the same time"
            )


def _device_values(entry: DeviceEntry) -> dict[str, Any]:
    return msgspec.structs.asdict(entry) | {"state": entry.state.value}


def _by_key(entries: Iterable[Any], what: str, key: Callable[[Any], str]) -> dict[str, Any]:
    """Entries by id; raises if one stands twice."""
    found: dict[str, Any] = {}
    for entry in entries:
        if key(entry) in found:
            raise InvalidEntryError(f"{what} id {key(entry)!r} stands twice")
        found[key(entry)] = entry
    return found


def _overlaps(rows: Sequence[Any], key: Callable[[Any], Any]) -> Iterable[tuple[Any, Any]]:
    """Pairs of feed rows (…, …, start, end, …) of one key whose times overlap."""
    by_key: dict[Any, list[Any]] = {}
    for row in rows:
        by_key.setdefault(key(row), []).append(row)
    for group in by_key.values():
        if len(group) < 2:
            continue
        group.sort(key=lambda r: -(2**63) if r[2] is None else r[2])
        for row, later in itertools.pairwise(group):
            if row[3] is None or later[2] is None or row[3] > later[2]:
                yield row, later


def _stream_ids(place: Place, plan: NewDatastream) -> tuple[str, str]:
    label = "/" + re.sub(r"[\s\\\x00-\x1f\x7f]+", "-", plan.label)[:50] if plan.label else ""
    base = f"{place.site}/{plan.property}{label}"
    return base, f"{base}/{place.device}"


def _stream_id(place: Place, plan: NewDatastream, taken: set[str]) -> str:
    for name in _stream_ids(place, plan):
        if name not in taken:
            return name
    raise InvalidEntryError(
        f"device {place.device!r} needs a datastream {_stream_ids(place, plan)[-1]!r} for {plan.property}, but there "
        "is one of that name already"
    )
