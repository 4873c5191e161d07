"""The frame of a change of the registry: the audit trail, what devices are found by, and the version."""

from __future__ import annotations

from collections import Counter
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, func, select, update

from devices import content
from devices.database import insert_rows, update_rows
from devices.entities import DatastreamEntry, DeviceEntry, District, SiteEntry
from devices.errors import InvalidEntryError
from devices.model import AuditRow, DeviceSearchRow, RegistryRow, Table

Entry = TypeVar("Entry", SiteEntry, DeviceEntry, DatastreamEntry, District)


class AuditedEdit:
    """Changes of one transaction. ``finish`` writes the audit trail and raises the version, if anything changed.

    Parameters
    ----------
    connection : Connection
        Inside a writing transaction.
    at : int
        Now, written beside every change. [ns since 1970 UTC]
    by : str
        Who does it.
    """

    def __init__(self, connection: Connection, *, at: int, by: str) -> None:
        if not by.strip():
            raise InvalidEntryError("a change of the registry needs the name of who makes it")
        self.connection = connection
        self.at = at
        self.by = by
        self.version = content.stored_version(connection)
        self.changed = False
        self.has_city = self.version > 0
        self._audit: list[dict[str, Any]] = []
        self.searched: set[int] = set()
        self.fed: set[int] = set()
        """Devices that got something to feed."""

    def check(self) -> None:
        """Overridden: raises InvalidEntryError if the changes do not fit together."""

    def record(self, action: str, kind: str, subject: str, before: object, after: object) -> None:
        """Note a change of the Directory for the audit trail."""
        self.changed = True
        self.note(action, kind, subject, before, after, version=self.version + 1)

    def note(self, action: str, kind: str, subject: str, before: object, after: object, *, version: int = 0) -> None:
        """Note a change that the pipeline need not know of."""
        self._audit.append(
            {
                "at": self.at,
                "changed_by": self.by,
                "action": action,
                "kind": kind,
                "subject": subject,
                "before_json": "" if before is None else msgspec.json.encode(before).decode(),
                "after_json": "" if after is None else msgspec.json.encode(after).decode(),
                "directory_version": version,
            }
        )

    def record_all(self, kind: str, new: dict[str, Entry], old: dict[str, Entry]) -> None:
        for name, entry in new.items():
            before = old.get(name)
            if before != entry:
                self.record("added" if before is None else "changed", kind, name, before, entry)

    def finish(self) -> int:
        """Check what only the whole can tell, write audit trail and search words; returns the version."""
        if self.changed and not self.has_city:
            raise InvalidEntryError("the registry holds no city yet: save a city file, or name the city, first")
        self.check()
        self.insert(AuditRow, self._audit)
        if self.searched:
            self._write_search()
        if self.changed:
            self.version += 1
            self.connection.execute(update(RegistryRow).values(version=self.version))
        return self.version

    def counts(self) -> Counter[str]:
        """How many of each kind of change, such as {"device added": 3}."""
        return Counter(f"{row['kind']} {row['action']}" for row in self._audit)

    def _write_search(self) -> None:
        devices = content.devices_by_index(self.connection, self.searched)
        where = content.site_of_device(self.connection, self.searched)
        sites = content.sites_by_index(self.connection, {site for site, _ in where.values()})
        known = {
            row.device
            for row in content.rows_in(
                self.connection, select(DeviceSearchRow.device), DeviceSearchRow.device, self.searched
            )
        }
        rows = []
        for index, entry in devices.items():
            words = [entry.id, entry.serial, entry.eui, entry.alias]
            if index in where:
                site = sites[where[index][0]]
                words += [site.id, site.name]
            rows.append({"device": index, "words": " ".join(w for w in words if w).casefold()})
        self.insert(DeviceSearchRow, [r for r in rows if r["device"] not in known])
        self.update(DeviceSearchRow, "device", [r for r in rows if r["device"] in known])

    def next_index(self, column: Any) -> int:
        return int(self.connection.execute(select(func.coalesce(func.max(column), -1))).scalar_one()) + 1

    def insert(self, table: type[Table], rows: list[dict[str, Any]]) -> None:
        insert_rows(self.connection, table.__tablename__, rows)

    def update(self, table: type[Table], key: str, rows: list[dict[str, Any]]) -> None:
        update_rows(self.connection, table.__tablename__, key, rows)
