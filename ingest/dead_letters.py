"""Dead letters: every message or reading that could not be used, kept with its topic, bytes and reason.

They live in one SQLite file. Its size is bounded: beyond that the oldest are removed, and the removed are counted.
The counts by reason and device go on counting whatever was removed.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from ingest.errors import DeadLettersFullError

log = logging.getLogger(__name__)

KEPT_PAYLOAD_BYTES = 65_536
"""Of a payload that is too large, so many bytes from its beginning are kept."""
WARNING_FILL = 0.8
_MAX_DEVICES_COUNTED = 100_000
"""Made-up device names must not fill the disk either: further ones are counted together, under no device."""


class Reason(StrEnum):
    """Why a message or reading was refused."""

    MALFORMED_PACKET = "malformed_packet"
    """Not an MQTT packet that can be read."""
    WRONG_TOPIC = "wrong_topic"
    WRONG_CITY = "wrong_city"
    UNKNOWN_DEVICE = "unknown_device"
    """The device is not in the registry."""
    UNKNOWN_PROPERTY = "unknown_property"
    """Not an observed property, or this device has no datastream for it."""
    NOT_INSTALLED = "not_installed"
    """The device was not installed at the time of observation: before, after, or between two installations."""
    EMPTY_PAYLOAD = "empty_payload"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    INVALID_UTF8 = "invalid_utf8"
    MALFORMED_JSON = "malformed_json"
    WRONG_TYPE = "wrong_type"
    """A field is of the wrong type or lacking."""
    NO_READINGS = "no_readings"
    """A list, or an object of values, that is empty."""
    MISSING_VALUE = "missing_value"
    """The value is null."""
    NOT_FINITE = "not_finite"
    WRONG_UNIT = "wrong_unit"
    MALFORMED_TIME = "malformed_time"
    TIME_WITHOUT_ZONE = "time_without_zone"
    TIME_IN_FUTURE = "time_in_future"
    TIME_TOO_OLD = "time_too_old"
    NOT_A_GATEWAY = "not_a_gateway"
    """The message names another device than its topic does, and the topic's device is no gateway."""
    NO_TIME = "no_time"
    """The broker's clock has not spoken yet, so that no time can be judged or given."""
    FAULT = "fault"
    """A fault of ours while decoding; the log says more."""
    RETAINED = "retained"
    """A stored last value that the broker sends to every newcomer: it must not look fresh."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message, or one reading of a message, that could not be used."""

    reason: Reason
    detail: str
    """A sentence: the field, what came, what was expected."""
    topic: str
    """Bytes that are not UTF-8 are shown as ``\\xff``."""
    payload: bytes
    """The message's payload; for one reading out of several, that reading alone as JSON."""
    broker: str
    received_at: int | None
    """[ns since 1970 UTC]; None before the broker's clock has spoken."""
    device: str | None = None
    """The device that it names, registered or not."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A dead letter as it is kept."""

    id: int
    letter: DeadLetter


@dataclass(frozen=True, slots=True)
class Fill:
    """How full the dead letters are."""

    kept: int
    kept_bytes: int
    max_count: int
    max_bytes: int
    removed: int
    """Letters removed to make room, since ever."""

    @property
    def fraction(self) -> float:
        """0..1; the fuller of count and bytes."""
        return max(self.kept / self.max_count, self.kept_bytes / self.max_bytes)

    @property
    def warning(self) -> bool:
        """Whether it is time to look: at 80 %, or once letters had to be removed."""
        return self.removed > 0 or self.fraction >= WARNING_FILL


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
INSERT OR IGNORE INTO fill VALUES (1, 0, 0, 0);
"""
_ROW_OVERHEAD = 64
"""What a row takes beside its payload and texts, about. [bytes]"""


class DeadLetters:
    """The kept dead letters. Safe to use from several threads.

    Parameters
    ----------
    path : path
        SQLite file, created where missing.
    max_count, max_bytes : int
        Bounds of what is kept. Beyond either, the oldest tenth is removed.
    """

    def __init__(self, path: str | Path, *, max_count: int = 1_000_000, max_bytes: int = 1024**3) -> None:
        if max_count < 1 or max_bytes < 1:
            raise ValueError(f"max_count and max_bytes must be at least 1, got {max_count} and {max_bytes}")
        self.path = Path(path)
        self._max_count, self._max_bytes = max_count, max_bytes
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._mutex = threading.Lock()
        self._db = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None, timeout=10)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(_SCHEMA)
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
        rows = [
            (
                letter.received_at,
                _text(letter.broker),
                _text(letter.topic),
                None if letter.device is None else _text(letter.device),
                letter.reason.value,
                _text(letter.detail),
                letter.payload,
            )
            for letter in letters
        ]
        added = sum(len(r[2]) + len(r[5]) + len(r[6]) for r in rows) + _ROW_OVERHEAD * len(rows)
        with self._mutex, self._transaction():
            self._db.executemany(
                "INSERT INTO letter (received_at, broker, topic, device, reason, detail, payload)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                rows,
            )
            counts = Counter((self._counted_as(row[3]), row[4]) for row in rows)
            self._db.executemany(
                "INSERT INTO count VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
                [(device, reason, n) for (device, reason), n in counts.items()],
            )
            self._db.execute("UPDATE fill SET kept = kept + ?, bytes = bytes + ?", (len(rows), added))
            self._make_room()
        self._warn()

    def count_by_reason(self) -> dict[str, int]:
        """Reason → how many there were, since ever."""
        with self._mutex:
            return dict(self._db.execute("SELECT reason, SUM(count) FROM count GROUP BY reason ORDER BY reason"))

    def count_for_device(self, device: str) -> dict[str, int]:
        """Reason → how many there were of a device, since ever."""
        with self._mutex:
            return dict(
                self._db.execute("SELECT reason, count FROM count WHERE device = ? ORDER BY reason", (_text(device),))
            )

    def list(self, limit: int = 100, *, reason: str | None = None, device: str | None = None) -> list[Kept]:
        """The newest dead letters, newest first.

        Parameters
        ----------
        limit : int
        reason, device : str or None
            Only those with this reason, or of this device.
        """
        where, values = [], []
        for name, value in (("reason", reason), ("device", device)):
            if value is not None:
                where.append(f"{name} = ?")
                values.append(_text(value))
        condition = f"WHERE {' AND '.join(where)} " if where else ""
        with self._mutex:
            rows = self._db.execute(
                "SELECT id, reason, detail, topic, payload, broker, received_at, device FROM letter "
                f"{condition}ORDER BY id DESC LIMIT ?",
                (*values, max(0, limit)),
            ).fetchall()
        return [Kept(row[0], DeadLetter(Reason(row[1]), *row[2:])) for row in rows]

    def fill(self) -> Fill:
        """How full it is, and how many letters were removed to make room."""
        with self._mutex:
            kept, size, removed = self._db.execute("SELECT kept, bytes, removed FROM fill").fetchone()
        return Fill(kept, size, self._max_count, self._max_bytes, removed)

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

    def _make_room(self) -> None:
        kept, size = self._db.execute("SELECT kept, bytes FROM fill").fetchone()
        if kept <= self._max_count and size <= self._max_bytes:
            return
        # A tenth more than needed, so that a flood does not make room at every batch.
        spare_count, spare_bytes = kept - int(self._max_count * 0.9), size - int(self._max_bytes * 0.9)
        gone = freed = last = 0
        for row_id, length in self._db.execute(
            f"SELECT id, length(topic) + length(detail) + length(payload) + {_ROW_OVERHEAD} FROM letter ORDER BY id"
        ):
            if gone >= spare_count and freed >= spare_bytes:
                break
            gone, freed, last = gone + 1, freed + length, row_id
        self._db.execute("DELETE FROM letter WHERE id <= ?", (last,))
        self._db.execute(
            "UPDATE fill SET kept = kept - ?, bytes = bytes - ?, removed = removed + ?", (gone, freed, gone)
        )

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


def _text(text: str) -> str:
    """Text that SQLite takes: lone surrogates become ``\\udc80``."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text
