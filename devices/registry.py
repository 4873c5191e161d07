"""The registry: what a city runs its fleet on, in a database, and the Directory made from it.

SQLite by default, PostgreSQL by its URL. Every change is one transaction, all or nothing, with a line in the audit
trail. A change that the pipeline must know of raises the version; it polls ``version()`` and takes a new
``directory()`` when it has changed. Logins of devices are ``devices.credentials``', accounts of people ``web``'s.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import msgspec
from sqlalchemy import Connection, select

from devices import content, jobs, loading, search
from devices.changes import Edit, Place
from devices.checks import check_id, check_swapped, check_time
from devices.database import Database
from devices.entities import (
    AuditEntry,
    CalibrationEntry,
    DatastreamEntry,
    DeviceDetails,
    DeviceEntry,
    DeviceState,
    District,
    FoundDevice,
    InstallationEntry,
    Job,
    LadderVersion,
    NearSite,
    NewDatastream,
    SiteEntry,
)
from devices.errors import InvalidEntryError, RegistryEmptyError
from devices.model import AuditRow, DatastreamRow, DistrictRow, FeedRow, SiteRow
from telemetry.directory import Datastream, Device, Directory, Ladder, Site
from telemetry.directory_change import DirectoryChange


class Registry:
    """Sites, devices and datastreams of one city.

    Parameters
    ----------
    url : str
        Such as ``sqlite:////var/lib/pantau/registry.db`` (four slashes: an absolute path), or
        ``postgresql://user:password@host/database``. Its tables are brought up to date when it is opened.
    clock : callable
        Gives the time that is written beside changes. [ns since 1970 UTC]

    Raises
    ------
    RegistryUnavailableError
        The database cannot be opened or written.
    RegistryIncompatibleError
        It is no registry, or a newer Pantau wrote it.

    Every method raises RegistryUnavailableError when the database fails, and those that change something raise
    InvalidEntryError when an entry cannot be right; nothing was changed then. They may be called from any thread.
    """

    def __init__(self, url: str, *, clock: Callable[[], int] = time.time_ns) -> None:
        self._clock = clock
        self._database = Database(url)

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    # --- for the pipeline ---------------------------------------------------------------------------------------

    def version(self) -> int:
        """Version of the Directory: 0 while nothing has been saved. Cheap, meant to be polled."""
        with self._database.reading() as connection:
            return content.stored_version(connection)

    def directory(self) -> Directory:
        """The Directory as it is now.

        Raises
        ------
        RegistryEmptyError
            No city has been saved yet.
        """
        with self._database.reading() as connection:
            directory = loading.load_directory(connection)
        if directory is None:
            raise RegistryEmptyError(f"the registry {self._database.where} holds no city yet")
        return directory

    def change_since(self, directory: Directory) -> DirectoryChange | None:
        """What makes the Directory of now out of an earlier one of this registry; quick however many devices there are.

        None: so much has changed, or such things, that the whole ``directory()`` is to be taken.
        """
        with self._database.reading() as connection:
            return loading.load_change(connection, directory)

    def save(
        self,
        *,
        city: str,
        utc_offset_h: float,
        sites: Iterable[Site],
        devices: Iterable[Device],
        datastreams: Iterable[Datastream],
        author: str = "setup",
        reason: str = "saved with the datastream",
    ) -> int:
        """Add or change sites, devices and datastreams, by their ids, in one transaction; all or nothing.

        What is in the registry and not named here stays as it is, and so does what these entries do not tell, such as a
        serial number. New datastreams and devices get the next free dense indexes in the order given. A changed ladder
        becomes a new threshold version by ``author``. A device that was taken down is not put up again.

        Returns
        -------
        int
            The version; raised by one if anything changed.
        """
        sites, devices, datastreams = list(sites), list(devices), list(datastreams)
        with self.edit(author) as edit:
            _put_city(edit, city, utc_offset_h)
            old_sites = content.sites_by_id(edit.connection, [s.id for s in sites])
            districts = {
                row.code: row.name for row in edit.connection.execute(select(DistrictRow.code, DistrictRow.name))
            }
            edit.put_sites(_site_entry(s, old_sites, districts) for s in sites)
            old_devices = content.devices_by_id(edit.connection, [d.id for d in devices])
            edit.put_devices(_device_entry(d, old_devices) for d in devices)
            down = edit.down([index for index, _ in old_devices.values()])
            edit.install(
                [
                    Place(d.id, d.site, edit.at, ())
                    for d in devices
                    if d.site and (d.id not in old_devices or old_devices[d.id][0] not in down)
                ]
            )
            old_streams = content.streams_where(edit.connection, DatastreamRow.id, [s.id for s in datastreams])
            edit.put_streams(((_stream_entry(s, old_streams), s.device) for s in datastreams), reason=reason)
            return edit.finish()

    # --- entries ------------------------------------------------------------------------------------------------

    def put_city(self, city: str, utc_offset_h: float, *, by: str) -> int:
        """Name the city, or change its time zone; returns the version, as all that follow do."""
        with self.edit(by) as edit:
            _put_city(edit, city, utc_offset_h)
            return edit.finish()

    def put_district(self, entry: District, *, by: str) -> int:
        """Add or change a district."""
        with self.edit(by) as edit:
            edit.put_districts([entry])
            return edit.finish()

    def put_site(self, entry: SiteEntry, *, by: str) -> int:
        """Add or change a site."""
        with self.edit(by) as edit:
            _check_swapped(edit, [entry])
            edit.put_sites([entry])
            return edit.finish()

    def put_device(self, entry: DeviceEntry, *, by: str) -> int:
        """Add or change a device. One that is retired by this is taken down now."""
        with self.edit(by) as edit:
            edit.put_devices([entry])
            return edit.finish()

    def put_calibration(self, entry: CalibrationEntry, *, by: str) -> int:
        """Add a calibration, or correct the one that is valid from the same moment."""
        with self.edit(by) as edit:
            edit.put_calibration(entry)
            return edit.finish()

    def set_state(self, device: str, state: DeviceState, *, by: str) -> int:
        """Change what is expected of a device; ``retired`` takes it down now."""
        with self.edit(by) as edit:
            _, entry = edit.device(device)
            edit.put_devices([msgspec.structs.replace(entry, state=DeviceState(state))])
            return edit.finish()

    def set_ladder(self, datastream_id: str, ladder: Ladder, *, author: str, reason: str) -> int:
        """Put a new threshold version in force for one datastream; the earlier ones are kept.

        Returns
        -------
        int
            The version; raised by one unless the ladder is the one already in force.

        Raises
        ------
        InvalidEntryError
            Unknown datastream, a ladder that cannot be right, or nobody named as its author.
        """
        if not author.strip() or not reason.strip():
            raise InvalidEntryError(
                f"datastream {datastream_id!r}: a change of thresholds needs an author and a reason"
            )
        with self.edit(author) as edit:
            entry = _stream(content.streams_where(edit.connection, DatastreamRow.id, [datastream_id]), datastream_id)
            edit.put_streams([(msgspec.structs.replace(entry, ladder=ladder), "")], reason=reason)
            return edit.finish()

    def put_datastream(self, entry: DatastreamEntry, *, by: str, reason: str = "changed with the datastream") -> int:
        """Change limits, label or thresholds of a datastream that is there. New ones come with their device."""
        with self.edit(by) as edit:
            edit.put_streams([(entry, "")], reason=reason)
            return edit.finish()

    # --- where devices are --------------------------------------------------------------------------------------

    def register(
        self,
        device: DeviceEntry,
        site: SiteEntry | str,
        *,
        by: str,
        at_ns: int | None = None,
        datastreams: Sequence[NewDatastream] | None = None,
    ) -> int:
        """A device at a site with its datastreams, in one go. Doing the same again changes nothing.

        Parameters
        ----------
        device : DeviceEntry
            New, or one that is not installed elsewhere.
        site : SiteEntry or str
            A new or known site, or the id of a known one.
        at_ns : int, optional
            When it was installed; now by default. Earlier readings of it are refused. [ns since 1970 UTC]
        datastreams : sequence of NewDatastream, optional
            What it observes; what the catalogue says of its model by default.
        """
        with self.edit(by) as edit:
            if isinstance(site, SiteEntry):
                _check_swapped(edit, [site])
                edit.put_sites([site])
                site = site.id
            if device.state == DeviceState.RETIRED:
                raise InvalidEntryError(f"device {device.id!r}: a retired device cannot be installed")
            edit.put_devices([device])
            plans = model_datastreams(device.model) if datastreams is None else datastreams
            _refuse_elsewhere(edit, device.id, site)
            edit.install([Place(device.id, site, _time(edit, at_ns), plans)])
            return edit.finish()

    def install(
        self,
        device: str,
        site: str,
        at_ns: int | None = None,
        *,
        by: str,
        datastreams: Sequence[NewDatastream] | None = None,
    ) -> int:
        """Put a device that is nowhere at a site; see ``register``. It becomes active unless it is planned."""
        with self.edit(by) as edit:
            index, entry = edit.device(device)
            _refuse_elsewhere(edit, device, site)
            if index in edit.down([index]) or entry.state == DeviceState.RETIRED:
                edit.put_devices([msgspec.structs.replace(entry, state=DeviceState.ACTIVE)])
            plans = model_datastreams(entry.model) if datastreams is None else datastreams
            edit.install([Place(device, site, _time(edit, at_ns), plans)])
            return edit.finish()

    def move(self, device: str, site: str, at_ns: int | None = None, *, by: str) -> int:
        """A device leaves its site for another and observes the same there, in that site's datastreams."""
        with self.edit(by) as edit:
            index, entry = edit.device(device)
            if index not in content.site_of_device(edit.connection, [index]):
                raise InvalidEntryError(f"device {device!r} is not installed, so it cannot be moved")
            known = {plan.property: plan for plan in model_datastreams(entry.model)}
            plans = [
                known.get(s.property, NewDatastream(s.property, s.limits, label=s.label))
                for s in _fed_now(edit.connection, index)
            ]
            edit.install([Place(device, site, _time(edit, at_ns), plans)])
            return edit.finish()

    def replace(
        self,
        old_device: str,
        new_device: DeviceEntry | str,
        at_ns: int | None = None,
        *,
        by: str,
        old_state: DeviceState = DeviceState.RETIRED,
    ) -> int:
        """A device takes the place of another and goes on with its datastreams; the new one starts uncalibrated.

        Messages of the old one that were observed before ``at_ns`` still go where they belong. ``old_state`` is that of
        the old one afterwards: ``maintenance`` if it is to be repaired.
        """
        with self.edit(by) as edit:
            if isinstance(new_device, DeviceEntry):
                edit.put_devices([new_device])
                new_device = new_device.id
            _, entry = edit.device(new_device)
            if entry.state == DeviceState.RETIRED:
                edit.put_devices([msgspec.structs.replace(entry, state=DeviceState.ACTIVE)])
            edit.replace(old_device, new_device, _time(edit, at_ns), old_state=DeviceState(old_state))
            return edit.finish()

    def retire(self, device: str, at_ns: int | None = None, *, by: str) -> int:
        """A device is taken down for good. Its datastreams stay, without a device."""
        return self.take_down(device, at_ns, by=by, state=DeviceState.RETIRED)

    def take_down(
        self, device: str, at_ns: int | None = None, *, by: str, state: DeviceState = DeviceState.MAINTENANCE
    ) -> int:
        """A device is taken from its site, to the workshop or for good."""
        with self.edit(by) as edit:
            edit.device(device)
            edit.take_down([device], _time(edit, at_ns), state=DeviceState(state))
            return edit.finish()

    # --- jobs ---------------------------------------------------------------------------------------------------

    def open_job(
        self, *, kind: str, text: str, by: str, device: str = "", site: str = "", due_at: int | None = None
    ) -> int:
        """Write down something to be done; returns the job's number, of the open one if there is such a job already."""
        with self.edit(by) as edit:
            number = jobs.open_job(
                edit, device=device, site=site, kind=kind, text=text, opened_at=edit.at, due_at=due_at
            )
            edit.finish()
            return number

    def close_job(self, number: int, *, by: str, note: str = "", photo: bytes | None = None) -> Job:
        """A job is done. ``photo``: JPEG, PNG or WebP, at most ``entities.MAX_PHOTO_BYTES``."""
        with self.edit(by) as edit:
            jobs.close_job(edit, number, note=note, photo=photo, closed_at=edit.at)
            edit.finish()
            return jobs.get_job(edit.connection, number)

    def job(self, number: int) -> Job:
        """One job with its photo; raises InvalidEntryError if there is none."""
        with self._database.reading() as connection:
            return jobs.get_job(connection, number, with_photo=True)

    def jobs(
        self, *, only_open: bool = True, device: str | None = None, site: str | None = None, limit: int = 200
    ) -> list[Job]:
        """Jobs without their photos, the most urgent first."""
        with self._database.reading() as connection:
            return jobs.list_jobs(connection, only_open=only_open, device=device, site=site, limit=limit)

    # --- looking up ---------------------------------------------------------------------------------------------

    def city(self) -> tuple[str, float] | None:
        """The city's id and UTC offset in hours; None: none was saved yet."""
        with self._database.reading() as connection:
            return content.load_city(connection)

    def device(self, device_id: str) -> DeviceDetails | None:
        """Everything about a device, or None."""
        with self._database.reading() as connection:
            found = content.devices_by_id(connection, [device_id])
            if device_id not in found:
                return None
            index, entry = found[device_id]
            where = content.site_of_device(connection, [index])
            site = content.sites_by_index(connection, [where[index][0]])[where[index][0]] if where else None
            return DeviceDetails(
                entry,
                site,
                content.installations_of(connection, device_id),
                tuple(_fed_now(connection, index)),
                content.calibrations_of(connection, device_id),
            )

    def entries(self, device_ids: Sequence[str]) -> dict[str, DeviceEntry]:
        """Many devices by id; those that are not there are left out."""
        with self._database.reading() as connection:
            return {name: entry for name, (_, entry) in content.devices_by_id(connection, device_ids).items()}

    def search(self, text: str, limit: int = 20) -> list[FoundDevice]:
        """Devices whose id, serial, EUI, site id or site name holds every word of the text, best first."""
        with self._database.reading() as connection:
            return search.search_devices(connection, text, limit, is_sqlite=self._database.is_sqlite)

    def devices(self, *, after: str = "", limit: int = 100) -> list[FoundDevice]:
        """All devices by id, page by page: ``after`` is the last id of the page before."""
        with self._database.reading() as connection:
            return search.list_devices(connection, after, limit)

    def labelled(self, label: str) -> list[FoundDevice]:
        """Devices whose id, serial number or EUI is exactly what a label says."""
        with self._database.reading() as connection:
            return search.device_labelled(connection, label)

    def site(self, site_id: str) -> SiteEntry | None:
        """A site, or None."""
        with self._database.reading() as connection:
            found = content.sites_by_id(connection, [site_id])
            return found[site_id][1] if found else None

    def search_sites(self, text: str, limit: int = 20) -> list[SiteEntry]:
        """Sites whose id or name holds every word of the text."""
        with self._database.reading() as connection:
            return search.search_sites(connection, text, limit, is_sqlite=self._database.is_sqlite)

    def near(self, latitude: float, longitude: float, limit: int = 10) -> list[NearSite]:
        """The nearest sites with their devices, the nearest first."""
        with self._database.reading() as connection:
            return search.near_sites(connection, latitude, longitude, limit)

    def districts(self) -> list[District]:
        """All districts by code."""
        query = select(DistrictRow.code, DistrictRow.name, DistrictRow.geojson).order_by(DistrictRow.code)
        with self._database.reading() as connection:
            return [District(*row) for row in connection.execute(query)]

    def datastreams(self, site_id: str) -> list[DatastreamEntry]:
        """All datastreams of a site, fed or not."""
        with self._database.reading() as connection:
            return [s.entry for s in content.streams_where(connection, SiteRow.id, [site_id]).values()]

    def datastream(self, datastream_id: str) -> DatastreamEntry | None:
        """A datastream, or None."""
        with self._database.reading() as connection:
            found = content.streams_where(connection, DatastreamRow.id, [datastream_id])
            return found[datastream_id].entry if found else None

    def ladders(self, datastream_id: str) -> tuple[LadderVersion, ...]:
        """All threshold versions of one datastream, the oldest first. Empty: it never had any threshold."""
        with self._database.reading() as connection:
            index = connection.execute(
                select(DatastreamRow.dense_index).where(DatastreamRow.id == datastream_id)
            ).scalar_one_or_none()
            if index is None:
                raise InvalidEntryError(f"there is no datastream {datastream_id!r} in the registry")
            return content.ladder_versions(connection, index)

    def installations(self, device_id: str) -> tuple[InstallationEntry, ...]:
        """Where a device has stood, the oldest first. Empty: there is no such device, or it never was anywhere."""
        with self._database.reading() as connection:
            return content.installations_of(connection, device_id)

    def calibrations(self, device_id: str) -> tuple[CalibrationEntry, ...]:
        """All calibrations of a device, by property and time."""
        with self._database.reading() as connection:
            return content.calibrations_of(connection, device_id)

    def audit(
        self, *, kind: str | None = None, subject: str | None = None, limit: int = 200, before: int | None = None
    ) -> list[tuple[int, AuditEntry]]:
        """Changes with their numbers, the newest first; ``before``: only those of a smaller number (the next page)."""
        query = select(
            AuditRow.id,
            AuditRow.at,
            AuditRow.changed_by,
            AuditRow.action,
            AuditRow.kind,
            AuditRow.subject,
            AuditRow.before_json,
            AuditRow.after_json,
        )
        for column, value in ((AuditRow.kind, kind), (AuditRow.subject, subject)):
            if value is not None:
                query = query.where(column == value)
        if before is not None:
            query = query.where(AuditRow.id < before)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(AuditRow.id.desc()).limit(limit)).all()
        return [(row[0], AuditEntry(*row[1:])) for row in rows]

    # --- transactions -------------------------------------------------------------------------------------------

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Several queries that see one state; see ``devices.content``."""
        with self._database.reading() as connection:
            yield connection

    @contextmanager
    def edit(self, by: str) -> Iterator[Edit]:
        """Several changes in one transaction; the caller ends with ``edit.finish()``. An error undoes all of them."""
        with self._database.writing() as connection:
            yield Edit(connection, at=self._clock(), by=by)


def model_datastreams(model: str) -> list[NewDatastream]:
    """What a model of the catalogue observes; nothing for a model that is not in it."""
    from devices.models import load_catalogue

    found = load_catalogue().get(model)
    return [] if found is None else found.datastreams()


def _put_city(edit: Edit, city: str, utc_offset_h: float) -> None:
    check_id(city, "city")
    if not -12 <= utc_offset_h <= 14:
        raise InvalidEntryError(f"city {city!r}: utc_offset_h must be from -12 to 14, got {utc_offset_h}")
    edit.put_city(city, float(utc_offset_h))


def _time(edit: Edit, at_ns: int | None) -> int:
    if at_ns is None:
        return edit.at
    check_time(at_ns, "at_ns")
    return at_ns


def _check_swapped(edit: Edit, entries: Sequence[SiteEntry]) -> None:
    names = {e.id for e in entries}
    query = select(SiteRow.id, SiteRow.latitude, SiteRow.longitude).limit(100)
    others = [(row.latitude, row.longitude) for row in edit.connection.execute(query) if row.id not in names]
    for entry in entries:
        check_swapped(entry, others)


def _refuse_elsewhere(edit: Edit, device: str, site: str) -> None:
    index, _ = edit.device(device)
    where = content.site_of_device(edit.connection, [index])
    if index in where:
        at = content.sites_by_index(edit.connection, [where[index][0]])[where[index][0]]
        if at.id != site:
            raise InvalidEntryError(f"device {device!r} is installed at site {at.id!r}; move it, or take it down first")


def _fed_now(connection: Connection, device: int) -> list[DatastreamEntry]:
    query = select(FeedRow.datastream).where(FeedRow.device == device, FeedRow.end_at.is_(None))
    indexes = connection.execute(query).scalars().all()
    return [s.entry for s in content.streams_where(connection, DatastreamRow.dense_index, indexes).values()]


def _stream(found: dict[str, content.Stream], name: str) -> DatastreamEntry:
    if name not in found:
        raise InvalidEntryError(f"there is no datastream {name!r} in the registry")
    return found[name].entry


def _site_entry(site: Site, old: dict[str, tuple[int, SiteEntry]], districts: dict[str, str]) -> SiteEntry:
    known = old[site.id][1] if site.id in old else SiteEntry(site.id, "", 0.0, 0.0)
    district = site.district
    if known.district != district and districts.get(known.district) == district:
        district = known.district  # the Directory hands out the district's name
    return msgspec.structs.replace(
        known, name=site.name, latitude=site.latitude, longitude=site.longitude, district=district
    )


def _device_entry(device: Device, old: dict[str, tuple[int, DeviceEntry]]) -> DeviceEntry:
    if device.id in old:
        known = old[device.id][1]
    else:
        known = DeviceEntry(device.id, state=DeviceState.ACTIVE if device.watched else DeviceState.MAINTENANCE)
    usual = _model_interval(device.model)
    aliases = [n for n in device.names if n.upper() != known.eui and n != known.serial]
    return msgspec.structs.replace(
        known,
        model=device.model,
        silence_after_s=device.silence_after_s,
        # What a Device is by default says nothing.
        alias=aliases[-1] if aliases else known.alias,
        gateway=device.gateway or known.gateway,
        clock=device.clock if device.clock != "utc" else known.clock,
        interval_s=device.interval_s if device.interval_s not in (None, usual) else known.interval_s,
    )


def _model_interval(model: str) -> float | None:
    from devices.models import load_catalogue

    found = load_catalogue().get(model)
    return None if found is None else found.interval_s


def _stream_entry(stream: Datastream, old: dict[str, content.Stream]) -> DatastreamEntry:
    label = old[stream.id].entry.label if stream.id in old else ""
    return DatastreamEntry(stream.id, stream.site, stream.property, stream.limits, stream.ladder, label)
