"""The catalog of the embedded store: which Parquet files count, and what spans of time and positions they hold.

A SQLite file. One transaction makes the files of a write, or of a merge, valid all at once; a file that is not in
the catalog does not count. Several processes may read it while one writes.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

NAME = "catalog.sqlite"


@dataclass(frozen=True, slots=True)
class DataFile:
    """One Parquet file. Bounds are inclusive."""

    name: str
    """Path below the store's folder."""
    kind: str
    level: int
    """0: as written; higher: merged from files of the level below."""
    day: int
    """Days since 1970 UTC that the rows belong to; -1 for level 0, which is not divided by day."""
    first_time: int
    last_time: int
    first_position: int
    last_position: int
    rows: int
    created_at_s: float
    """[s since 1970 UTC]"""


_COLUMNS = ", ".join(f.name for f in fields(DataFile))
_MARKS = ", ".join("?" for _ in fields(DataFile))
_CREATE = """
CREATE TABLE IF NOT EXISTS files (
    name TEXT PRIMARY KEY, kind TEXT NOT NULL, level INTEGER NOT NULL, day INTEGER NOT NULL,
    first_time INTEGER NOT NULL, last_time INTEGER NOT NULL,
    first_position INTEGER NOT NULL, last_position INTEGER NOT NULL,
    rows INTEGER NOT NULL, created_at_s REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS files_by_time ON files (kind, last_time);
CREATE TABLE IF NOT EXISTS trash (name TEXT PRIMARY KEY, since_s REAL NOT NULL) WITHOUT ROWID;
"""


class Catalog:
    """Safe for several threads. Raises sqlite3.Error if the file can't be used."""

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        path = folder / NAME
        uri = f"{path.resolve().as_uri()}?mode={'ro' if read_only else 'rwc'}"
        self._lock = threading.Lock()
        self._db = sqlite3.connect(uri, uri=True, timeout=30, isolation_level=None, check_same_thread=False)
        if not read_only:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(_CREATE)

    def change(self, add: Sequence[DataFile], remove: Iterable[str] = ()) -> None:
        """Make ``add`` count and ``remove`` not, at once and durably. Removed files go to the trash."""
        now = time.time()
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany(f"INSERT INTO files ({_COLUMNS}) VALUES ({_MARKS})", [astuple(f) for f in add])
                for name in remove:
                    self._db.execute("DELETE FROM files WHERE name = ?", (name,))
                    self._db.execute("INSERT OR REPLACE INTO trash VALUES (?, ?)", (name, now))
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise

    def within(self, kind: str, start_ns: int, end_ns: int) -> list[DataFile]:
        """Files that may hold rows of start_ns <= time < end_ns, oldest position first."""
        return self._files(
            "kind = ? AND last_time >= ? AND first_time < ? ORDER BY last_position, name", (kind, start_ns, end_ns)
        )

    def after(self, position: int) -> list[DataFile]:
        """Files that hold rows from journal positions > ``position``."""
        return self._files("last_position > ?", (position,))

    def of_level(self, kind: str, level: int) -> list[DataFile]:
        """Files of one level, oldest position first."""
        return self._files("kind = ? AND level = ? ORDER BY last_position, name", (kind, level))

    def of_day(self, kind: str, day: int) -> list[DataFile]:
        """Merged files of one day, oldest position first."""
        return self._files("kind = ? AND day = ? AND level > 0 ORDER BY last_position, name", (kind, day))

    def crowded(self, at_least: int, rows_below: int) -> list[tuple[str, int, int, int, float]]:
        """(kind, day, level, files, newest creation) of merged files smaller than ``rows_below``."""
        with self._lock:
            return self._db.execute(
                "SELECT kind, day, level, count(*), max(created_at_s) FROM files WHERE level > 0 AND rows < ? "
                "GROUP BY kind, day, level HAVING count(*) >= ? ORDER BY day, level",
                (rows_below, at_least),
            ).fetchall()

    def scattered_days(self, rows_below: int, before_s: float) -> list[tuple[str, int]]:
        """(kind, day) with several small files and no change since ``before_s``."""
        with self._lock:
            return self._db.execute(
                "SELECT kind, day FROM files WHERE level > 0 AND rows < ? "
                "GROUP BY kind, day HAVING count(*) > 1 AND max(created_at_s) < ? ORDER BY day",
                (rows_below, before_s),
            ).fetchall()

    def names(self) -> set[str]:
        """Every file that counts."""
        with self._lock:
            return {name for (name,) in self._db.execute("SELECT name FROM files")}

    def trash(self, before_s: float) -> list[str]:
        """Files that were thrown away before ``before_s``."""
        with self._lock:
            return [n for (n,) in self._db.execute("SELECT name FROM trash WHERE since_s < ?", (before_s,))]

    def emptied(self, names: Sequence[str]) -> None:
        """These files of the trash are deleted now."""
        with self._lock:
            self._db.executemany("DELETE FROM trash WHERE name = ?", [(n,) for n in names])

    def close(self) -> None:
        """Close the SQLite file."""
        with self._lock:
            self._db.close()

    def _files(self, where: str, values: tuple[object, ...]) -> list[DataFile]:
        with self._lock:
            rows = self._db.execute(f"SELECT {_COLUMNS} FROM files WHERE {where}", values).fetchall()
        return [DataFile(*row) for row in rows]
