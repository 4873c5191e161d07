"""Dead letters: every message or reading that could not be used, kept with its topic, bytes and reason.

They live in one SQLite file. It is bounded by size and by age: beyond that the oldest are removed, and the removed are
counted. The counts by reason and device go on counting whatever was removed.

A letter whose cause is mended is *taken again*: it is marked, the running pipeline decodes it like a message, and then
it is *settled*: gone, and what was refused of it this time stands in its place. Between the two lies the journal, which
names the letters that a step consumed. So a letter is taken exactly once, whenever the pipeline is killed: what it
gave is proposed before the journal is written, and counts only once the letter itself is settled.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ingest.errors import DeadLettersFullError
from ingest.refusals import KEPT_PAYLOAD_BYTES, MENDABLE, NEVER_AGAIN, DeadLetter, Reason
from telemetry.observations import NS_PER_S, rfc3339

__all__ = ["KEPT_PAYLOAD_BYTES", "DeadLetter", "DeadLetters", "Fill", "Filter", "Kept", "Reason"]

log = logging.getLogger(__name__)

WARNING_FILL = 0.8
_MAX_DEVICES_COUNTED = 100_000
"""Made-up device names must not fill the disk either: further ones are counted together, under no device."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A dead letter as it is kept."""

    id: int
    """Never given again; a letter that is refused again gets another one."""
    letter: DeadLetter
    marked: bool = False
    """Whether it waits to be taken again."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which letters are meant; all that is given must hold."""

    reason: str | None = None
    device: str | None = None
    broker: str | None = None
    since: int | None = None
    until: int | None = None
    """Received in [since, until). [ns since 1970 UTC]"""

    def sql(self) -> tuple[str, list[str | int]]:
        """Condition and its values."""
        where, values = ["1"], list[str | int]()
        for name in ("reason", "device", "broker"):
            value = getattr(self, name)
            if value is not None:
                where.append(f"{name} = ?")
                values.append(_text(value))
        for sign, at in ((">=", self.since), ("<", self.until)):
            if at is not None:
                where.append(f"received_at {sign} ?")
                values.append(at)
        return " AND ".join(where), values


EVERYTHING = Filter()
_Letters = list[Kept]
_Devices = list[tuple[str, str | None]]
_Standing = list[tuple[str, str | None, int, int, int]]


@dataclass(frozen=True, slots=True)
class Fill:
    """How full the dead letters are."""

    kept: int
    kept_bytes: int
    max_count: int
    max_bytes: int
    removed: int
    """Letters removed to make room, since ever."""
    expired: int = 0
    """Letters removed because they were too old, since ever."""
    oldest_at: int | None = None
    """When the oldest was received. [ns since 1970 UTC]"""
    max_age_s: float = 90 * 86_400.0
    marked: int = 0
    """Letters that wait to be taken again."""

    @property
    def fraction(self) -> float:
        """0..1; the fuller of count and bytes."""
        return max(self.kept / self.max_count, self.kept_bytes / self.max_bytes)

    @property
    def warning(self) -> bool:
        """Whether it is time to look: at 80 %, or once letters had to be removed."""
        return self.removed > 0 or self.fraction >= WARNING_FILL

    def age(self, now: int) -> float:
        """How much of the allowed age the oldest has reached. 0..1, beyond 1 until it is removed."""
        return 0.0 if self.oldest_at is None else max(0, now - self.oldest_at) / NS_PER_S / self.max_age_s

    def trouble(self, now: int | None) -> str:
        """What is to be said of it, in a sentence; "" for nothing."""
        found = []
        if self.warning:
            found.append(
                f"{self.kept} dead letters fill {100 * self.fraction:.0f} % of their room"
                + (f", {self.removed} of the oldest had to be removed" if self.removed else "")
            )
        if now is not None and self.oldest_at is not None and self.age(now) >= WARNING_FILL:
            gone = self.oldest_at + round(self.max_age_s * NS_PER_S)
            found.append(f"the oldest dead letters will be removed on {rfc3339(gone)[:10]}")
        return "; ".join(found)


_SCHEMA = """
CREATE TABLE IF NOT EXISTS letter (
    id INTEGER PRIMARY KEY, received_at INTEGER, broker TEXT NOT NULL, topic TEXT NOT NULL, device TEXT,
    reason TEXT NOT NULL, detail TEXT NOT NULL, payload BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS letter_device ON letter (device, id) WHERE device IS NOT NULL;
CREATE TABLE IF NOT EXISTS count (
    device TEXT NOT NULL, reason TEXT NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (device, reason)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS fill (
    one INTEGER PRIMARY KEY CHECK (one = 1), kept INTEGER NOT NULL, bytes INTEGER NOT NULL, removed INTEGER NOT NULL
);
INSERT OR IGNORE INTO fill (one, kept, bytes, removed) VALUES (1, 0, 0, 0);
CREATE TABLE IF NOT EXISTS retaken (
    device TEXT NOT NULL, reason TEXT NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (device, reason)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS proposal (
    parent INTEGER NOT NULL, received_at INTEGER, broker TEXT NOT NULL, topic TEXT NOT NULL, device TEXT,
    reason TEXT NOT NULL, detail TEXT NOT NULL, payload BLOB NOT NULL, format TEXT NOT NULL, fragment INTEGER NOT NULL,
    truncated INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS looked (device TEXT PRIMARY KEY, at TEXT NOT NULL) WITHOUT ROWID;
"""
_LATER_COLUMNS = (
    ("letter", "format", "TEXT NOT NULL DEFAULT 'pantau_json'"),
    ("letter", "fragment", "INTEGER NOT NULL DEFAULT 0"),
    ("letter", "truncated", "INTEGER NOT NULL DEFAULT 0"),
    ("letter", "marked", "INTEGER NOT NULL DEFAULT 0"),
    ("fill", "expired", "INTEGER NOT NULL DEFAULT 0"),
    ("fill", "last_id", "INTEGER NOT NULL DEFAULT 0"),
)
"""Files of the first version lack these."""
_LATER = f"""
CREATE INDEX IF NOT EXISTS letter_marked ON letter (id) WHERE marked = 1;
CREATE INDEX IF NOT EXISTS letter_reason ON letter (reason, device, id);
CREATE INDEX IF NOT EXISTS letter_received ON letter (received_at);
UPDATE letter SET truncated = 1 WHERE length(payload) = {KEPT_PAYLOAD_BYTES} AND reason = 'payload_too_large';
UPDATE fill SET last_id = max(last_id, (SELECT ifnull(max(id), 0) FROM letter));
"""
_COLUMNS = "received_at, broker, topic, device, reason, detail, payload, format, fragment, truncated"
_AGAIN = f"truncated = 0 AND reason NOT IN ({', '.join(repr(str(r)) for r in sorted(NEVER_AGAIN))})"
_MENDABLE = ", ".join(repr(str(r)) for r in sorted(MENDABLE))
_Row = tuple[int | None, str, str, str | None, str, str, bytes, str, bool, bool]
_ROW_OVERHEAD = 64
"""What a row takes beside its payload and texts, about. [bytes]"""
_LENGTH = f"length(CAST(topic AS BLOB)) + length(CAST(detail AS BLOB)) + length(payload) + {_ROW_OVERHEAD}"


class DeadLetters:
    """The kept dead letters. Safe to use from several threads.

    Parameters
    ----------
    path : path
        SQLite file, created where missing.
    max_count, max_bytes : int
        Bounds of what is kept. Beyond either, the oldest tenth is removed.
    max_age_s : float
        ``expire`` removes what is older.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        max_count: int = 1_000_000,
        max_bytes: int = 1024**3,
        max_age_s: float = 90 * 86_400.0,
    ) -> None:
        if max_count < 1 or max_bytes < 1 or not max_age_s > 0:
            raise ValueError(
                f"max_count and max_bytes must be at least 1, and max_age_s above 0, "
                f"got {max_count}, {max_bytes} and {max_age_s}"
            )
        self.path = Path(path)
        self._max_count, self._max_bytes, self._max_age_s = max_count, max_bytes, max_age_s
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._mutex = threading.Lock()
        self._db = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None, timeout=10)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(_SCHEMA)
        for table, column, kind in _LATER_COLUMNS:
            if column not in {row[1] for row in self._db.execute(f"PRAGMA table_info({table})")}:
                self._db.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")
        self._db.executescript(_LATER)
        self._devices = {row[0] for row in self._db.execute("SELECT DISTINCT device FROM count")}
        self._warned = False

    def keep(self, letters: Sequence[DeadLetter]) -> None:
        """Keep ``letters`` durably, in one transaction.

        Raises
        ------
        DeadLettersFullError
            No room on the disk. Nothing of it was kept, so the messages must not be acknowledged yet.
        sqlite3.Error
            The disk failed; likewise.
        """
        if not letters:
            return
        rows = [_row(letter) for letter in letters if letter.kept]
        with self._mutex, self._transaction():
            self._insert(rows)
            self._count("count", [(x.device, x.reason.value) for x in letters], [x.times for x in letters])
            self._make_room()
        self._warn()

    # ------------------------------------------------------------------------------------------------------ looking

    def count_by_reason(self) -> dict[str, int]:
        """Reason → how many were refused, since ever."""
        return self._by_reason("count")

    def count_for_device(self, device: str) -> dict[str, int]:
        """Reason → how many of a device were refused, since ever."""
        return self._by_reason("count", device)

    def retaken_by_reason(self) -> dict[str, int]:
        """Reason → how many letters were taken again and no longer count as refused for it, since ever."""
        return self._by_reason("retaken")

    def retaken_for_device(self, device: str) -> dict[str, int]:
        """Reason → how many letters of a device were taken again, since ever."""
        return self._by_reason("retaken", device)

    def standing(self, only: Filter = EVERYTHING) -> _Standing:
        """(reason, device, letters, of them marked, of them free to be marked) of what is kept; the most first."""
        where, values = only.sql()
        with self._mutex:
            found: _Standing = self._db.execute(
                f"SELECT reason, device, count(*), sum(marked), sum(marked = 0 AND {_AGAIN}) FROM letter WHERE {where} "
                "GROUP BY reason, device ORDER BY count(*) DESC, reason, device",
                values,
            ).fetchall()
        return found

    def list(
        self,
        limit: int = 100,
        only: Filter = EVERYTHING,
        *,
        reason: str | None = None,
        device: str | None = None,
        before: int | None = None,
    ) -> _Letters:
        """The newest dead letters, newest first.

        Parameters
        ----------
        limit : int
        only : Filter
        reason, device : str or None
            In short for a filter of these.
        before : int or None
            Only with an id below this one: the next page.
        """
        where, values = (only if reason is None and device is None else Filter(reason, device)).sql()
        if before is not None:
            where, values = f"{where} AND id < ?", [*values, before]
        return self._kept(f"WHERE {where} ORDER BY id DESC LIMIT ?", *values, max(0, limit))

    def get(self, letter: int) -> Kept | None:
        """The letter with this id, if it is still there."""
        return next(iter(self._kept("WHERE id = ?", letter)), None)

    def fill(self) -> Fill:
        """How full it is, and how many letters were removed."""
        with self._mutex:
            kept, size, removed, expired = self._db.execute("SELECT kept, bytes, removed, expired FROM fill").fetchone()
            (oldest,) = self._db.execute("SELECT min(received_at) FROM letter").fetchone()
            (marked,) = self._db.execute("SELECT count(*) FROM letter WHERE marked = 1").fetchone()
        return Fill(kept, size, self._max_count, self._max_bytes, removed, expired, oldest, self._max_age_s, marked)

    # ------------------------------------------------------------------------------------------------- taking again

    def mark(self, only: Filter = EVERYTHING, *, letter: int | None = None) -> int:
        """Have the running pipeline take these letters again, or the one with this id; returns how many.

        Letters that can't be taken again stay as they are.
        """
        where, values = only.sql()
        if letter is not None:
            where, values = f"{where} AND id = ?", [*values, letter]
        with self._mutex, self._transaction():
            return self._db.execute(
                f"UPDATE letter SET marked = 1 WHERE marked = 0 AND {_AGAIN} AND {where}", values
            ).rowcount

    def mendable_devices(self) -> _Devices:
        """(device, how it was when last looked at) of letters whose cause a change in the register can mend."""
        with self._mutex:
            return self._db.execute(
                f"SELECT d.device, looked.at FROM (SELECT DISTINCT device FROM letter WHERE reason IN ({_MENDABLE}) "
                "AND device IS NOT NULL) AS d LEFT JOIN looked ON looked.device = d.device"
            ).fetchall()

    def mark_mended(self, devices: Mapping[str, str]) -> int:
        """Mark the mendable letters of these devices, and remember how these look now; returns how many."""
        marked = 0
        with self._mutex, self._transaction():
            for device, looks in devices.items():
                marked += self._db.execute(
                    f"UPDATE letter SET marked = 1 WHERE device = ? AND marked = 0 AND {_AGAIN} "
                    f"AND reason IN ({_MENDABLE})",
                    (device,),
                ).rowcount
                self._db.execute("INSERT OR REPLACE INTO looked VALUES (?, ?)", (device, looks))
        return marked

    def marked(self, limit: int, max_bytes: int) -> _Letters:
        """The oldest marked letters: so many at most, and about so many bytes."""
        found: _Letters = []
        size = 0
        for kept in self._kept("WHERE marked = 1 ORDER BY id LIMIT ?", limit):
            size += len(kept.letter.payload)
            if found and size > max_bytes:
                break
            found.append(kept)
        return found

    def propose(self, letters: Sequence[tuple[int, DeadLetter]]) -> None:
        """What was refused of letters that are being taken again, as (id of that letter, what was refused).

        Durable, but of no effect before ``settle``. Raises like ``keep``.
        """
        with self._mutex, self._transaction():
            self._db.execute("DELETE FROM proposal")
            self._db.executemany(
                "INSERT INTO proposal VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(parent, *_row(letter)) for parent, letter in letters],
            )

    def settle(self, letters: Sequence[int]) -> None:
        """These letters were taken again: away with them; what was refused of them this time takes their place.

        To be called once the journal has what they gave, and again with the same ids by whoever replays it: what is
        settled stays so.
        """
        if not letters:
            return
        with self._mutex, self._transaction():
            for letter in letters:
                found = self._db.execute(f"SELECT {_COLUMNS} FROM letter WHERE id = ?", (letter,)).fetchone()
                if found is None:
                    continue
                rows = self._db.execute(f"SELECT {_COLUMNS} FROM proposal WHERE parent = ?", (letter,)).fetchall()
                self._db.execute("DELETE FROM letter WHERE id = ?", (letter,))
                self._db.execute("UPDATE fill SET kept = kept - 1, bytes = bytes - ?", (_size(found),))
                self._insert(rows)
                before, after = (found[3], found[4]), [(row[3], row[4]) for row in rows]
                if before in after:  # it stands as before: neither taken nor refused anew
                    after.remove(before)
                else:
                    self._count("retaken", [before])
                self._count("count", after)
                self._db.execute("DELETE FROM proposal WHERE parent = ?", (letter,))

    def forget_proposals(self) -> None:
        """After a replay of the journal: what was proposed and not settled is of letters that were not taken."""
        with self._mutex, self._transaction():
            self._db.execute("DELETE FROM proposal")

    def expire(self, now: int) -> int:
        """Remove letters that were received too long before ``now`` [ns since 1970 UTC]; returns how many."""
        with self._mutex, self._transaction():
            return self._remove("received_at < ?", now - round(self._max_age_s * NS_PER_S), counted_as="expired")

    def close(self) -> None:
        """Close the file."""
        with self._mutex:
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                raise DeadLettersFullError(f"dead letters {self.path}: {error}; nothing was kept") from error
            raise

    def _counted_as(self, device: str | None) -> str:
        if device is None:
            return ""
        if device not in self._devices:
            if len(self._devices) >= _MAX_DEVICES_COUNTED:
                return ""
            self._devices.add(device)
        return device

    def _by_reason(self, table: str, device: str | None = None) -> dict[str, int]:
        where, values = ("", ()) if device is None else ("WHERE device = ?", (_text(device),))
        with self._mutex:
            return dict(
                self._db.execute(
                    f"SELECT reason, SUM(count) FROM {table} {where} GROUP BY reason ORDER BY reason", values
                )
            )

    def _kept(self, condition: str, *values: str | int) -> _Letters:
        with self._mutex:
            rows = self._db.execute(f"SELECT id, marked, {_COLUMNS} FROM letter {condition}", values).fetchall()
        return [Kept(row[0], _letter(row[2:]), bool(row[1])) for row in rows]

    def _insert(self, rows: Sequence[_Row]) -> None:
        (last,) = self._db.execute("SELECT last_id FROM fill").fetchone()
        self._db.executemany(
            f"INSERT INTO letter (id, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(last + 1 + i, *row) for i, row in enumerate(rows)],
        )
        self._db.execute(
            "UPDATE fill SET kept = kept + ?, bytes = bytes + ?, last_id = last_id + ?",
            (len(rows), sum(_size(row) for row in rows), len(rows)),
        )

    def _count(self, table: str, of: Sequence[tuple[str | None, str]], times: Sequence[int] | None = None) -> None:
        counts = Counter[tuple[str, str]]()
        for (device, reason), n in zip(of, times or [1] * len(of), strict=True):
            counts[self._counted_as(None if device is None else _text(device)), reason] += n
        self._db.executemany(
            f"INSERT INTO {table} VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
            [(device, reason, n) for (device, reason), n in counts.items()],
        )

    def _make_room(self) -> None:
        kept, size = self._db.execute("SELECT kept, bytes FROM fill").fetchone()
        if kept <= self._max_count and size <= self._max_bytes:
            return
        # A tenth more than needed, so that a flood does not make room at every batch.
        spare_count, spare_bytes = kept - int(self._max_count * 0.9), size - int(self._max_bytes * 0.9)
        gone = freed = last = 0
        for row_id, length in self._db.execute(f"SELECT id, {_LENGTH} FROM letter ORDER BY id"):
            if gone >= spare_count and freed >= spare_bytes:
                break
            gone, freed, last = gone + 1, freed + length, row_id
        self._remove("id <= ?", last, counted_as="removed")

    def _remove(self, where: str, value: int, *, counted_as: str) -> int:
        gone: int
        gone, freed = self._db.execute(
            f"SELECT count(*), ifnull(sum({_LENGTH}), 0) FROM letter WHERE {where}", (value,)
        ).fetchone()
        if gone:
            self._db.execute(f"DELETE FROM letter WHERE {where}", (value,))
            self._db.execute(
                f"UPDATE fill SET kept = kept - ?, bytes = bytes - ?, {counted_as} = {counted_as} + ?",
                (gone, freed, gone),
            )
        return gone

    def _warn(self) -> None:
        fill = self.fill()
        if fill.warning and not self._warned:
            log.warning(
                "dead letters %s: %d kept (%.0f %% of the room), %d of the oldest removed",
                self.path,
                fill.kept,
                100 * fill.fraction,
                fill.removed,
            )
        self._warned = fill.warning


def _row(letter: DeadLetter) -> _Row:
    return (
        letter.received_at,
        _text(letter.broker),
        _text(letter.topic),
        None if letter.device is None else _text(letter.device),
        letter.reason.value,
        _text(letter.detail),
        letter.payload,
        letter.format,
        letter.fragment,
        letter.truncated,
    )


def _size(row: _Row) -> int:
    return len(row[2].encode()) + len(row[5].encode()) + len(row[6]) + _ROW_OVERHEAD


def _letter(row: Any) -> DeadLetter:
    received_at, broker, topic, device, reason, detail, payload, of_format, fragment, truncated = row
    return DeadLetter(
        _reason(reason), detail, topic, payload, broker, received_at, device, of_format, bool(fragment), bool(truncated)
    )


def _reason(name: str) -> Reason:
    try:
        return Reason(name)
    except ValueError:  # of a newer or older version
        return Reason.FAULT


def _text(text: str) -> str:
    """Text that SQLite takes: lone surrogates become ``\\udc80``."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text
