"""The registry's database: opening it, its transactions, and its migrations.

SQLite runs in WAL mode, so that the pipeline reads while somebody writes. Writers go one after the other: on SQLite by
its write lock, on PostgreSQL by a lock on the one row of ``registry``. A reader sees one state from begin to end.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from psycopg import Error
from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from devices.errors import RegistryIncompatibleError, RegistryUnavailableError
from devices.model import REVISION, SCHEMA_VERSION

BUSY_TIMEOUT_S = 30.0
"""How long a writer waits for another one."""

MIGRATION_LOCK = 0x70616E746175
"""Key of PostgreSQL's advisory lock: one process migrates, the others wait ("pantau" in ASCII)."""


class Database:
    """An opened database with the tables of ``devices.model``.

    Raises
    ------
    RegistryUnavailableError
        It cannot be opened or written.
    RegistryIncompatibleError
        It is no registry, or a newer Pantau wrote it.
    """

    def __init__(self, url: str) -> None:
        try:
            parsed = make_url(url)
            if parsed.drivername in ("postgresql", "postgres"):
                parsed = parsed.set(drivername="postgresql+psycopg")
            self.is_sqlite = parsed.get_backend_name() == "sqlite"
            self.where = (parsed.database or "") if self.is_sqlite else parsed.render_as_string(hide_password=True)
            if self.is_sqlite:
                _check_sqlite_path(self.where, url)
            self._engine = _engine(parsed, self.is_sqlite)
        except (ArgumentError, NoSuchModuleError, ImportError) as error:
            raise RegistryUnavailableError(
                "the registry's address must look like sqlite:///registry.db or "
                f"postgresql://user:password@host/database, got {url.split('@')[-1]!r} ({error})"
            ) from error
        try:
            self._migrate()
        except BaseException:
            self._engine.dispose()
            raise

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state of the content."""
        with self._guarded(), self._engine.connect() as connection:
            if not self.is_sqlite:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that no other writer can come between."""
        with self._guarded(), self._engine.connect() as connection:
            # SQLite: take the write lock at once, so that what is read before writing cannot change in between.
            connection = connection.execution_options(pantau_writes=True)
            with connection.begin():
                if not self.is_sqlite:
                    connection.execute(text(f"SET LOCAL lock_timeout = '{BUSY_TIMEOUT_S:.0f}s'"))
                    connection.execute(text("SELECT version FROM registry FOR UPDATE"))
                yield connection

    def _migrate(self) -> None:
        with self._guarded(), self._engine.connect() as connection:
            connection = connection.execution_options(pantau_writes=True)
            with connection.begin():
                if not self.is_sqlite:
                    connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
                revision = self._revision(connection)
                if revision != REVISION:
                    _upgrade(connection, revision)

    def _revision(self, connection: Connection) -> str | None:
        """The revision that the tables have; None: there are none."""
        tables = set(inspect(connection).get_table_names())
        revision: str | None = None
        if "registry_revision" in tables:
            revision = connection.execute(text("SELECT version_num FROM registry_revision")).scalar()
        if "registry" not in tables:
            if revision is not None or "sites" in tables:
                raise RegistryIncompatibleError(f"{self.where} is not a registry: it has tables of something else")
            return None
        schema = connection.execute(text("SELECT schema_version FROM registry")).scalar()
        if revision is None and schema == 1:
            return "0001"  # made by the Pantau before migrations
        if schema != SCHEMA_VERSION and not (schema == 1 and revision == "0001"):
            raise RegistryIncompatibleError(
                f"the registry {self.where} has schema version {schema}; this Pantau works with {SCHEMA_VERSION}"
            )
        if revision is None or revision > REVISION:
            raise RegistryIncompatibleError(
                f"the registry {self.where} is at migration {revision}; this Pantau knows those up to {REVISION}"
            )
        return revision

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except PoolTimeoutError as error:
            raise RegistryUnavailableError(f"cannot use the registry {self.where}: all connections are busy") from error
        except DBAPIError as error:
            reason = str(error.orig).strip()
            if "not a database" in reason:
                raise RegistryIncompatibleError(f"{self.where} is not a registry: {reason}") from error
            if "readonly" in reason or "read-only" in reason:
                reason = f"no write access ({reason})"
            raise RegistryUnavailableError(f"cannot use the registry {self.where}: {reason}") from error


def insert_rows(connection: Connection, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows that have the same columns, by the driver's fastest way."""
    if not rows:
        return
    names = list(rows[0])
    columns = ", ".join(f'"{name}"' for name in names)
    values = [tuple(row.values()) if list(row) == names else tuple(row[n] for n in names) for row in rows]
    if connection.dialect.name == "sqlite":
        marks = ", ".join("?" * len(names))
        connection.exec_driver_sql(f'INSERT INTO "{table}" ({columns}) VALUES ({marks})', values)
        return
    cursor: Any = connection.connection.cursor()
    try:
        with cursor.copy(f'COPY "{table}" ({columns}) FROM STDIN') as copy:
            for row in values:
                copy.write_row(row)
    except Error as error:  # SQLAlchemy wraps only what goes through it
        raise DBAPIError(f"COPY {table}", None, error) from error
    finally:
        cursor.close()


def update_rows(connection: Connection, table: str, key: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Update rows, found by their value of ``key``; all of them have the same columns."""
    if not rows:
        return
    names = [name for name in rows[0] if name != key]
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    values = ", ".join(f'"{name}" = {mark}' for name in names)
    connection.exec_driver_sql(
        f'UPDATE "{table}" SET {values} WHERE "{key}" = {mark}',
        [(*(row[name] for name in names), row[key]) for row in rows],
    )


def _engine(url: URL, is_sqlite: bool) -> Engine:
    if is_sqlite:
        engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    # The pipeline polls for years: a connection that the server has closed meanwhile is replaced unseen.
    return create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": 10})


def _upgrade(connection: Connection, revision: str | None) -> None:
    from alembic import command  # takes a third of a second to import, and is hardly ever needed
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "devices:migrations")
    config.attributes["connection"] = connection
    if revision == "0001" and "registry_revision" not in inspect(connection).get_table_names():
        command.stamp(config, "0001")
    command.upgrade(config, "head")


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
