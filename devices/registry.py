"""The registry: sites, devices, datastreams, limits and thresholds in a database, and the Directory made from it.

SQLite (in WAL mode, so that the pipeline reads while the command line writes) or any database that SQLAlchemy
reaches, by URL. Every change raises the version, in the same transaction; the pipeline polls ``version()`` and takes
a new ``directory()`` when it has changed. Devices' credentials, accounts and migrations are not kept here yet.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, create_engine, event, insert, select, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from devices.checks import check_datastream, check_device, check_id, check_site
from devices.content import Content, by_id, ladder_of, ladder_rows, ladder_values, load, stored_version, write
from devices.errors import InvalidEntryError, RegistryEmptyError, RegistryIncompatibleError, RegistryUnavailableError
from devices.model import (
    SCHEMA_VERSION,
    DatastreamRow,
    DeviceRow,
    InstallationRow,
    RegistryRow,
    SiteRow,
    Table,
    ThresholdRow,
)
from telemetry.directory import Datastream, Device, Directory, Ladder, Site, check_ladder

BUSY_TIMEOUT_S = 30.0
"""How long a writer waits for another one."""


@dataclass(frozen=True)
class LadderVersion:
    """One version of a datastream's ladder."""

    number: int
    """1, 2, 3, ... for each datastream."""
    ladder: Ladder
    author: str
    reason: str
    valid_from: int
    """When it was saved, by the clock of the machine. [ns since 1970 UTC]"""
    directory_version: int
    """First version of the Directory with this ladder."""


@dataclass(frozen=True)
class Installation:
    """A device at a site for an interval of time."""

    device: str
    site: str
    installed_at: int
    """When it was saved. [ns since 1970 UTC]"""
    removed_at: int | None


class Registry:
    """Sites, devices and datastreams of one city.

    Parameters
    ----------
    url : str
        Such as ``sqlite:////var/lib/pantau/registry.db`` (four slashes: an absolute path).
    clock : callable
        Gives the time that is written beside changes. [ns since 1970 UTC]

    Raises
    ------
    RegistryUnavailableError
        The database cannot be opened or written.
    RegistryIncompatibleError
        It is no registry, or a newer Pantau wrote it.
    """

    def __init__(self, url: str, *, clock: Callable[[], int] = time.time_ns) -> None:
        self._clock = clock
        try:
            parsed = make_url(url)
            self._where = parsed.database or "" if url.startswith("sqlite") else parsed.render_as_string()
            if url.startswith("sqlite"):
                _check_sqlite_path(self._where, url)
            timeout = {"timeout": BUSY_TIMEOUT_S} if url.startswith("sqlite") else {}
            self._engine = create_engine(parsed, connect_args=timeout)
        except (ArgumentError, NoSuchModuleError, ImportError) as error:
            raise RegistryUnavailableError(
                f"the registry's address must look like sqlite:///registry.db, got {url!r} ({error})"
            ) from error
        if url.startswith("sqlite"):
            event.listen(self._engine, "connect", _prepare_sqlite)
            event.listen(self._engine, "begin", _begin_sqlite)
        try:
            self._create()
        except BaseException:
            self._engine.dispose()
            raise

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def version(self) -> int:
        """Version of the Directory: 0 while nothing has been saved. Cheap, meant to be polled."""
        with self._reading() as connection:
            return stored_version(connection)

    def directory(self) -> Directory:
        """The Directory as it is now.

        Raises
        ------
        RegistryEmptyError
            No city has been saved yet.
        """
        with self._reading() as connection:
            content = load(connection)
        if content is None:
            raise RegistryEmptyError(f"the registry {self._where} holds no city yet")
        return content.directory()

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

        What is in the registry and not named here stays as it is. New datastreams and devices get the next free
        dense indexes in the order given. A changed ladder becomes a new threshold version by ``author``.

        Returns
        -------
        int
            The version; raised by one if anything changed.

        Raises
        ------
        InvalidEntryError
            Anything is wrong with the entries; nothing was saved then.
        """
        sites, devices, datastreams = list(sites), list(devices), list(datastreams)
        check_id(city, "city")
        if not -12 <= utc_offset_h <= 14:
            raise InvalidEntryError(f"city {city!r}: utc_offset_h must be from -12 to 14, got {utc_offset_h}")
        for site in sites:
            check_site(site)
        for device in devices:
            check_device(device)
        for stream in datastreams:
            check_datastream(stream)
        with self._writing() as connection:
            old = load(connection) or Content(0, city, utc_offset_h, {}, {}, {})
            if old.city != city:
                raise InvalidEntryError(f"this registry is that of city {old.city!r}, got {city!r}: one registry each")
            new = Content(
                old.version,
                city,
                float(utc_offset_h),
                old.sites | by_id(sites, "site"),
                old.devices | by_id(devices, "device"),
                old.datastreams | by_id(datastreams, "datastream"),
            )
            if new == old and old.version > 0:
                return old.version
            new.version = old.version + 1
            for device in new.devices.values():
                if device.site not in new.sites:
                    raise InvalidEntryError(
                        f"device {device.id!r} names site {device.site!r}, which is not in the registry"
                    )
            try:
                new.directory()
            except ValueError as error:
                raise InvalidEntryError(str(error)) from error
            write(connection, old, new, at=self._clock(), author=author, reason=reason)
            return new.version

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
        try:
            check_ladder(ladder, f"datastream {datastream_id!r}")
        except ValueError as error:
            raise InvalidEntryError(str(error)) from error
        with self._writing() as connection:
            index = _datastream_index(connection, datastream_id)
            version = stored_version(connection)
            rows = ladder_rows(connection, index)
            if ladder == (ladder_of(rows[-1]) if rows else Ladder()):
                return version
            row = ladder_values(
                index, len(rows) + 1, ladder, version=version + 1, at=self._clock(), author=author, reason=reason
            )
            connection.execute(insert(ThresholdRow), [row])
            connection.execute(update(RegistryRow).values(version=version + 1))
            return version + 1

    def ladders(self, datastream_id: str) -> tuple[LadderVersion, ...]:
        """All threshold versions of one datastream, the oldest first. Empty: it never had any threshold."""
        with self._reading() as connection:
            return tuple(
                LadderVersion(r.number, ladder_of(r), r.author, r.reason, r.valid_from, r.directory_version)
                for r in ladder_rows(connection, _datastream_index(connection, datastream_id))
            )

    def installations(self, device_id: str) -> tuple[Installation, ...]:
        """Where a device has stood, the oldest first. Empty: there is no such device."""
        query = (
            select(SiteRow.id, InstallationRow.installed_at, InstallationRow.removed_at)
            .join(SiteRow, SiteRow.dense_index == InstallationRow.site)
            .join(DeviceRow, DeviceRow.dense_index == InstallationRow.device)
            .where(DeviceRow.id == device_id)
            .order_by(InstallationRow.id)
        )
        with self._reading() as connection:
            return tuple(Installation(device_id, *row) for row in connection.execute(query))

    def _create(self) -> None:
        with self._writing() as connection:
            Table.metadata.create_all(connection)
            row = connection.execute(select(RegistryRow.schema_version)).scalar()
            if row is None:
                connection.execute(insert(RegistryRow), [{"id": 1, "schema_version": SCHEMA_VERSION, "version": 0}])
            elif row != SCHEMA_VERSION:
                raise RegistryIncompatibleError(
                    f"the registry {self._where} has schema version {row}; this Pantau works with {SCHEMA_VERSION}"
                )

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._guarded(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._guarded(), self._engine.connect() as connection:
            # SQLite: take the write lock at once, so that what is read before writing cannot change in between.
            connection = connection.execution_options(pantau_writes=True)
            with connection.begin():
                yield connection

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            reason = str(error.orig)
            if "not a database" in reason:
                raise RegistryIncompatibleError(f"{self._where} is not a registry: {reason}") from error
            if "readonly" in reason or "read-only" in reason:
                reason = f"no write access ({reason})"
            raise RegistryUnavailableError(f"cannot use the registry {self._where}: {reason}") from error


def _check_sqlite_path(path: str, url: str) -> None:
    if not path or path == ":memory:":
        raise RegistryUnavailableError(f"the registry needs a file that processes can share, got {url!r}")
    file = Path(path)
    if file.is_dir():
        raise RegistryUnavailableError(f"cannot open the registry {path}: it is a folder")
    if not file.absolute().parent.is_dir():
        raise RegistryUnavailableError(
            f"cannot open the registry {path}: the folder {file.absolute().parent} does not exist"
        )


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # SQLAlchemy's recipe for SQLite: the driver begins no transactions of its own; _begin_sqlite does.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("pantau_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _datastream_index(connection: Connection, datastream_id: str) -> int:
    index = connection.execute(
        select(DatastreamRow.dense_index).where(DatastreamRow.id == datastream_id)
    ).scalar_one_or_none()
    if index is None:
        raise InvalidEntryError(f"there is no datastream {datastream_id!r} in the registry")
    return index
