"""Opens the database of accounts: SQLite in WAL mode, or PostgreSQL, by URL, with plain errors."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Table, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from web.errors import AccountsIncompatibleError, AccountsUnavailableError

BUSY_TIMEOUT_S = 30.0
"""How long a writer waits for another one (SQLite)."""


class Database:
    """Transactions on one database.

    Parameters
    ----------
    url : str
        ``sqlite:////var/lib/pantau/accounts.sqlite`` or ``postgresql://user:password@host/database``.

    Raises
    ------
    AccountsUnavailableError
        The URL can't be used.
    """

    def __init__(self, url: str) -> None:
        try:
            parsed = make_url(url)
            if parsed.drivername == "postgresql":
                parsed = parsed.set(drivername="postgresql+psycopg")
            self.sqlite = parsed.get_backend_name() == "sqlite"
            self.where = (parsed.database or "") if self.sqlite else parsed.render_as_string()
            if self.sqlite:
                _check_file(self.where)
                self.engine = create_engine(parsed, connect_args={"timeout": BUSY_TIMEOUT_S})
                event.listen(self.engine, "connect", _prepare_sqlite)
                event.listen(self.engine, "begin", _begin_sqlite)
            else:
                self.engine = create_engine(parsed, pool_pre_ping=True)
        except (ArgumentError, NoSuchModuleError, ImportError) as error:
            raise AccountsUnavailableError(
                f"the accounts' URL must look like sqlite:///accounts.sqlite or postgresql://host/database ({error})"
            ) from error

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads."""
        with self._plain_errors(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self, alone: object | None = None) -> Iterator[Connection]:
        """A transaction that writes. SQLite: the only one at that time; PostgreSQL: only if given a table to lock."""
        with self._plain_errors(), self.engine.connect() as connection:
            connection = connection.execution_options(pantau_writes=True)
            with connection.begin():
                if alone is not None and not self.sqlite:
                    assert isinstance(alone, Table)
                    connection.exec_driver_sql(f"LOCK TABLE {alone.name} IN EXCLUSIVE MODE")
                yield connection

    @contextmanager
    def creating(self) -> Iterator[Connection]:
        """A transaction in which tables are made, the only one of its kind at that time."""
        with self.writing() as connection:
            if not self.sqlite:
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7262825)")  # any number, always the same
            yield connection

    @contextmanager
    def _plain_errors(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            reason = " ".join(str(error.orig).split())
            if "not a database" in reason:
                raise AccountsIncompatibleError(f"{self.where} holds no accounts: {reason}") from error
            raise AccountsUnavailableError(f"cannot use the accounts in {self.where}: {reason}") from error


def _check_file(path: str) -> None:
    if not path or path == ":memory:":
        raise AccountsUnavailableError("accounts need a file that processes can share, got a database in memory")
    if Path(path).is_dir():
        raise AccountsUnavailableError(f"cannot open the accounts in {path}: it is a folder")
    parent = Path(path).absolute().parent
    if not parent.is_dir():
        raise AccountsUnavailableError(f"cannot open the accounts in {path}: the folder {parent} does not exist")
    try:
        Path(path).touch(mode=0o600)  # nobody else needs to read hashes; SQLite's other files take over the mode
    except OSError as error:
        raise AccountsUnavailableError(f"cannot open the accounts in {path}: {error.strerror}") from error


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # SQLAlchemy's recipe: the driver begins no transactions of its own; _begin_sqlite does.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("foreign_keys = ON", "journal_mode = WAL", "synchronous = FULL"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("pantau_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
