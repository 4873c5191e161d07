"""The loss account: for every device and hour what was expected and what became of what came; likewise for brokers.

It is a projection of the journal. Each step's counts are added together with the step's position in one transaction,
so a step is counted exactly once: what a killed process had not written is counted when the journal is taken again,
and what it had written is skipped. Hours are those of observation for readings, and of reception for what was refused
and for brokers.

    received = duplicate + stored + waiting        late is a part of stored
    arrived  = received + refused
    missing  = expected - (received - duplicate), if that is above 0

``stored`` is counted once the store has the rows of the step; until then they are waiting. Reading the account back is
left to ``ingest.account_rows``.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ingest.account_counts import NS_PER_HOUR, Counts, Pairs, installed_s, joined, merged, per_s, summed, tally
from ingest.connection import BrokerStatus
from ingest.errors import AccountDamagedError
from ingest.steps import Refused
from telemetry.directory import Directory
from telemetry.observations import Observations
from telemetry.results import Results

NAME = "account.sqlite"
EVER, HOUR, DAY = 0, 1, 24
"""What a row covers: all time, one hour, one day. [h, but for EVER]"""

_FLUSH_S = 1.0
_PATIENCE_S = 5.0
"""A step's readings are written as waiting if the store does not have them by then."""
_SHARE = 100
"""The account pauses so many times as long as its last flush took: it takes at most 1 % of a processor."""
_CUT_ROWS = 2_000_000
"""Readings in memory that are added up at once, whether or not a flush is due."""
_SLOT_S = 600.0
"""Readings that wait for the store are confirmed together where they came within so long."""
_MAX_UNKNOWN, _MAX_UNKNOWN_HOUR = 100_000, 1000
"""Names that no device has, in all and within an hour; further ones are counted under no name."""
_MAX_HOURS_CLOSED = 31 * 24
"""After a longer pause nothing is expected of the hours before."""
_MAX_HOURS_SUMMED = 500
_DAYS_KEPT = 3653
_FAR = 2**40

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS name (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, known INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS device (
    span INTEGER, hour INTEGER, device INTEGER, expected REAL, received INTEGER NOT NULL, duplicate INTEGER NOT NULL,
    late INTEGER NOT NULL, stored INTEGER NOT NULL, told INTEGER NOT NULL, PRIMARY KEY (span, hour, device)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS untold ON device (told, hour) WHERE told <> 1;
CREATE TABLE IF NOT EXISTS refused (
    span INTEGER, hour INTEGER, device INTEGER, reason TEXT, count INTEGER NOT NULL,
    PRIMARY KEY (span, hour, device, reason)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS broker (
    span INTEGER, hour INTEGER, broker TEXT, delivered INTEGER NOT NULL, refused INTEGER NOT NULL,
    dropped INTEGER NOT NULL, reconnects INTEGER NOT NULL, sessions_lost INTEGER NOT NULL,
    PRIMARY KEY (span, hour, broker)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS slot (slot INTEGER PRIMARY KEY, position INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS waiting (
    slot INTEGER, hour INTEGER, device INTEGER, count INTEGER NOT NULL, PRIMARY KEY (slot, hour, device)
) WITHOUT ROWID;
"""
_ADD_DEVICE = """
INSERT INTO device VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
    expected = CASE WHEN excluded.expected IS NULL THEN expected ELSE ifnull(expected, 0) + excluded.expected END,
    received = received + excluded.received, duplicate = duplicate + excluded.duplicate,
    late = late + excluded.late, stored = stored + excluded.stored, told = excluded.told
"""
_ADD_REFUSED = "INSERT INTO refused VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count"
_BROKER_COLUMNS = ("delivered", "refused", "dropped", "reconnects", "sessions_lost")
_ADD_BROKER = "INSERT INTO broker VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET " + ", ".join(
    f"{c} = {c} + excluded.{c}" for c in _BROKER_COLUMNS
)
_ADD_WAITING = "INSERT INTO waiting VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count"


class Untold(NamedTuple):
    """The account of one device and hour that is over, for the store."""

    device: str
    """"": of no registered device."""
    hour_ns: int
    expected: float
    received: int
    duplicate: int
    refused: int
    late: int
    stored: int
    telling: int
    """Grows with every telling."""


@dataclass
class _Chunk:
    """What came in a few steps, before it is written."""

    began: float
    received: Pairs = field(default_factory=list)
    duplicate: Pairs = field(default_factory=list)
    late: Pairs = field(default_factory=list)
    taken: Pairs = field(default_factory=list)
    rows: int = 0
    last: int = -1
    """Position of the last step in it."""
    needed: int = -1
    """Position that the store must have reached so that all of ``taken`` is stored."""
    refused: Counter[tuple[int, int, str]] = field(default_factory=Counter)
    """(hour, device's number, reason)"""
    brokers: Counter[tuple[int, str, str]] = field(default_factory=Counter)
    """(hour, broker, column)"""
    expected: list[tuple[int, npt.NDArray[np.float64]]] = field(default_factory=list)
    """(hour, by device)"""
    counts: Counts | None = None
    """Once added up."""

    @property
    def empty(self) -> bool:
        return self.last < 0 and not self.brokers and not self.expected and not self.refused


class Account:
    """The one writer of the account. ``take`` and ``use`` belong to one thread; ``flush`` may be called from any.

    Parameters
    ----------
    path : path
        SQLite file, created where missing; readers may have it open at the same time.
    kept_days : float
        How long hours are kept; older ones are summed into days.
    utc_offset_h : float
        Where a day begins.
    from_beginning : bool
        Where the file is made now: whether nothing was ever stored before.

    Raises
    ------
    AccountDamagedError
        The file is no such account.
    """

    def __init__(
        self, path: str | Path, *, kept_days: float = 90.0, utc_offset_h: float = 7.0, from_beginning: bool = False
    ) -> None:
        self.path = Path(path)
        self._kept_hours = max(1, round(kept_days * 24))
        self._offset_h = round(utc_offset_h)
        self._lock = threading.RLock()
        self._directory: Directory | None = None
        self._numbers = np.zeros(1, dtype=np.int64)
        """Device index + 1 → number of its name; the first is that of no device."""
        self._hour_names: tuple[int, set[int]] = (0, set())
        self._new_names: list[tuple[int, str]] = []
        self._newly_known: list[int] = []
        self._brokers_seen: dict[str, tuple[int, int, int]] = {}
        self._flushed_at = time.monotonic()
        self._pause_s = _FLUSH_S
        self._slot: tuple[int, float] | None = None
        self._chunk = _Chunk(time.monotonic())
        self._cut: deque[_Chunk] = deque()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None, timeout=30)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.executescript(_SCHEMA)
            meta = dict(self._db.execute("SELECT key, value FROM meta"))
            if not meta:
                self._db.execute("INSERT INTO meta VALUES ('from_beginning', ?)", (int(from_beginning),))
                self._db.execute("INSERT INTO name VALUES (0, '', 0)")
            self._db.execute("UPDATE device SET told = 0 WHERE told = 2")
            self._number = dict(self._db.execute("SELECT name, id FROM name"))
            self._known = {i for (i,) in self._db.execute("SELECT id FROM name WHERE known = 1")}
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            raise AccountDamagedError(
                f"the loss account {self.path} is damaged ({error}): move it and its -wal and -shm away, "
                "and a new one begins; nothing else is lost"
            ) from error
        self.position: int = meta.get("position", -1)
        """Of the last step that is counted in the file."""
        self.covered: int = max(meta.get("covered", -1), self.position + 1)
        """The journal before this position is counted, or holds nothing to count."""
        self._seen = self.position
        self._now: int | None = meta.get("now")
        self._begun: int | None = meta.get("begun")
        self._summed: int = meta.get("summed", -_FAR)
        """Hours before this one are kept as days."""
        self._closed: int | None = meta.get("closed")
        """Hours before this one have all that is expected of them."""
        self._written = -1

    # ------------------------------------------------------------------------------------------------------- taking

    def use(self, directory: Directory, position: int | None = None) -> None:
        """Go on with this directory, which the journal has at ``position``; None: the one that is in force already."""
        with self._lock:
            before, self._directory = self._directory, directory
            known = self._numbers.size - 1
            more = [self._number_of(d.id, known=True) for d in directory.devices[known:]]
            self._numbers = np.concatenate([self._numbers, np.array(more, dtype=np.int64)])
            if position is None or position <= self._seen or before is None or self._now is None:
                return
            # Before this moment as much was expected as the directory before said.
            factor, were = per_s(directory), np.zeros(len(directory.devices))
            were[: len(before.devices)] = per_s(before)
            if (factor != were).any():
                hour = self._now // NS_PER_HOUR
                start = max(hour * NS_PER_HOUR, self._begun or 0)
                self._chunk.expected.append((hour, (were - factor) * installed_s(directory, start, self._now)))

    def take(
        self,
        position: int,
        now_ns: int,
        observations: Observations,
        results: Results,
        messages: Sequence[int] = (),
        refused: Iterable[Refused] = (),
    ) -> None:
        """Count a step of the core; nothing if it is counted already. ``use`` must have told the directory."""
        with self._lock:
            if position <= self._seen:
                return
            self._advance(now_ns)
            self._take(position, now_ns, messages, refused)
            assert self._directory is not None
            chunk, device_at = self._chunk, self._directory.installed.device_at
            if len(observations):
                came, kept = observations, results.readings
                chunk.received.append((device_at(came.datastream, came.observed_at), came.observed_at))
                if len(kept):
                    chunk.taken.append((device_at(kept.datastream, kept.observed_at), kept.observed_at))
                    chunk.needed = position
                if results.duplicates.size:
                    chunk.duplicate.append((results.duplicate_devices, results.duplicate_at))
                if results.late.size:
                    chunk.late.append((results.late_devices, results.late_at))
                chunk.rows += len(came)
                if chunk.rows >= _CUT_ROWS:
                    self._cut_off()

    def take_untimed(
        self, position: int, now_ns: int, messages: Sequence[int] = (), refused: Iterable[Refused] = ()
    ) -> None:
        """Count what came before the clock had spoken; ``now_ns`` is by this computer's clock."""
        with self._lock:
            if position > self._seen:
                self._take(position, now_ns, messages, refused)

    def note_brokers(self, statuses: Sequence[BrokerStatus]) -> None:
        """Count what the connections say: reconnects, lost sessions, messages that the broker dropped."""
        with self._lock:
            hour = (time.time_ns() if self._now is None else self._now) // NS_PER_HOUR
            for s in statuses:
                now = (max(s.connects - 1, 0), s.sessions_lost, s.broker_dropped or 0)
                before = self._brokers_seen.get(s.name, (0, 0, 0))
                for column, more in zip(
                    ("reconnects", "sessions_lost", "dropped"), np.subtract(now, before).tolist(), strict=True
                ):
                    if more > 0:
                        self._chunk.brokers[hour, s.name, column] += more
                self._brokers_seen[s.name] = now

    def _take(self, position: int, now_ns: int, messages: Sequence[int], refused: Iterable[Refused]) -> None:
        chunk, hour = self._chunk, now_ns // NS_PER_HOUR
        self._seen = chunk.last = position
        for i, n in enumerate(messages):
            if n:
                name = str(i) if self._directory is None else self._directory.broker_name(i)
                chunk.brokers[hour, name, "delivered"] += n
        for r in refused:
            hour = now_ns // NS_PER_HOUR if r.hour is None else r.hour
            number = self._refused_number(r.device, hour) if r.count > 0 else self._number.get(r.device, 0)
            chunk.refused[hour, number, r.reason] += r.count
            chunk.brokers[hour, r.broker, "refused"] += r.count

    def _advance(self, now_ns: int) -> None:
        """Let time pass: hours that are over get what was expected of them."""
        hour = now_ns // NS_PER_HOUR
        if self._closed is None or self._begun is None:
            self._closed, self._begun = hour, now_ns
        elif hour > self._closed:
            assert self._directory is not None
            if (factor := per_s(self._directory)).any():
                for h in range(max(self._closed, hour - _MAX_HOURS_CLOSED), hour):
                    start, end = max(h * NS_PER_HOUR, self._begun), (h + 1) * NS_PER_HOUR
                    self._chunk.expected.append((h, factor * installed_s(self._directory, start, end)))
            self._closed = hour
        self._now = max(now_ns, self._now or now_ns)

    def _refused_number(self, name: str, hour: int) -> int:
        number = self._number.get(name)
        if number in self._known or number == 0:
            return number or 0
        if self._hour_names[0] != hour:
            self._hour_names = (hour, set())
        names = self._hour_names[1]
        if number not in names:
            full = number is None and len(self._number) - len(self._known) > _MAX_UNKNOWN
            if full or len(names) >= _MAX_UNKNOWN_HOUR:
                return 0
        number = self._number_of(name)
        names.add(number)
        return number

    def _number_of(self, name: str, *, known: bool = False) -> int:
        number = self._number.get(name)
        if number is None:
            number = self._number[name] = len(self._number)
            self._new_names.append((number, name.encode("utf-8", "backslashreplace").decode()))
        if known and number not in self._known:
            self._known.add(number)
            self._newly_known.append(number)
        return number

    # ------------------------------------------------------------------------------------------------------ writing

    def keep(self, written: int) -> None:
        """Write if it is time to. ``written``: the store has the rows of all steps up to this position."""
        if time.monotonic() - self._flushed_at >= self._pause_s:
            self.flush(written, patient=True)

    def flush(self, written: int | None = None, *, patient: bool = False, durable_to: int | None = None) -> None:
        """Write what was counted.

        Parameters
        ----------
        written : int or None
            As in ``keep``; None: as it was said last.
        patient : bool
            Leave for the next time what the store may have in a moment.
        durable_to : int or None
            All of the journal before this position was taken. On return it is on the disk, and survives a loss of
            power.

        Raises
        ------
        sqlite3.Error
            Nothing was written; what was counted is kept for the next time.
        """
        with self._lock:
            began = time.monotonic()
            self._written = max(self._written, -1 if written is None else written)
            self._cut_off()
            ready: list[_Chunk] = []
            for chunk in self._cut:
                if patient and chunk.needed > self._written and began - chunk.began < _PATIENCE_S + self._pause_s:
                    break
                ready.append(chunk)
            self._flushed_at = began
            self._write(ready, durable_to)
            for _ in ready:
                self._cut.popleft()
            took = time.monotonic() - began
            self._flushed_at = began + took
            self._pause_s = max(_FLUSH_S, _SHARE * took)

    def _cut_off(self) -> None:
        if not self._chunk.empty:
            self._cut.append(self._chunk)
            self._add_up(self._chunk)
            self._chunk = _Chunk(time.monotonic())

    def _add_up(self, chunk: _Chunk) -> None:
        """Count the readings of a chunk by device and hour."""
        parts = [joined(p) for p in (chunk.received, chunk.duplicate, chunk.late, chunk.taken)]
        chunk.received, chunk.duplicate, chunk.late, chunk.taken = [], [], [], []
        device, hours = parts[0]
        if not device.size:
            chunk.counts = Counts(hours, device, np.empty((0, 4), dtype=np.int64))
            return
        width, first = self._numbers.size, int(hours.min())
        cells, columns = tally([(h - first) * width + d + 1 for d, h in parts], (int(hours.max()) - first + 1) * width)
        chunk.counts = Counts(cells // width + first, self._numbers[cells % width], columns)

    def _write(self, chunks: Sequence[_Chunk], durable_to: int | None) -> None:
        durable = durable_to is not None
        if durable:
            self._db.execute("PRAGMA synchronous = FULL")
        try:
            with self._transaction():
                self._write_names()
                self._write_chunks(chunks)
                self._confirm()
                position = max((c.last for c in chunks), default=-1)
                values = {"position": max(position, self.position), "written": self._written, "covered": durable_to}
                if chunks:
                    values |= {"now": self._now, "begun": self._begun, "closed": self._closed}
                self._db.executemany(
                    "INSERT OR REPLACE INTO meta VALUES (?, ?)", [(k, v) for k, v in values.items() if v is not None]
                )
                summed = self._sum_up()
        finally:
            if durable:
                self._db.execute("PRAGMA synchronous = NORMAL")
        self._new_names.clear()
        self._newly_known.clear()
        self._summed = summed
        self.position = max(position, self.position)
        self.covered = max(self.covered, self.position + 1, -1 if durable_to is None else durable_to)

    def _write_names(self) -> None:
        if self._new_names:
            self._db.executemany("INSERT INTO name VALUES (?, ?, 0)", self._new_names)
        # What they were refused before was told to the store in the row of no device.
        strangers = set(self._newly_known) - {n for n, _ in self._new_names}
        self._db.executemany(
            "UPDATE device SET told = 0 WHERE span = 1 AND device = 0 AND told <> 0 "
            "AND hour IN (SELECT hour FROM refused WHERE span = 1 AND device = ?)",
            [(n,) for n in strangers],
        )
        if self._newly_known:
            self._db.executemany("UPDATE name SET known = 1 WHERE id = ?", [(n,) for n in self._newly_known])

    def _write_chunks(self, chunks: Sequence[_Chunk]) -> None:
        stored = [c for c in chunks if c.needed <= self._written]
        self._write_counts(merged([c.counts for c in stored if c.counts is not None]), stored=True)
        waiting = merged([c.counts for c in chunks if c.counts is not None and c.needed > self._written])
        self._write_counts(waiting, stored=False)
        if some := np.flatnonzero(waiting.columns[:, 3]).tolist():
            slot = self._slot_for(max(c.needed for c in chunks))
            hours, devices, taken = (c.tolist() for c in (waiting.hour, waiting.device, waiting.columns[:, 3]))
            self._db.executemany(_ADD_WAITING, [(slot, hours[i], devices[i], taken[i]) for i in some])
        place = self._place
        refused: Counter[tuple[int, int, str]] = Counter()
        brokers: Counter[tuple[int, str, str]] = Counter()
        for chunk in chunks:
            refused.update(chunk.refused)
            brokers.update(chunk.brokers)
            for hour, by_device in chunk.expected:
                those = np.flatnonzero(by_device)
                numbers, amounts = self._numbers[those + 1].tolist(), by_device[those].tolist()
                self._add_devices(
                    [(*place(hour), n, amount, 0, 0, 0, 0, 0) for n, amount in zip(numbers, amounts, strict=True)]
                )
        # What was refused of devices that nobody knows is told to the store in one row.
        touched = {(hour, device if device in self._known else 0) for hour, device, _ in refused}
        self._add_devices([(*place(hour), device, None, 0, 0, 0, 0, 0) for hour, device in touched])
        for where in (place, lambda _: (EVER, 0)):
            self._db.executemany(_ADD_REFUSED, [(*where(h), d, reason, n) for (h, d, reason), n in refused.items()])
            rows_of: dict[tuple[int, str], dict[str, int]] = {}
            for (hour, name, column), n in brokers.items():
                rows_of.setdefault((hour, name), dict.fromkeys(_BROKER_COLUMNS, 0))[column] += n
            self._db.executemany(_ADD_BROKER, [(*where(h), name, *c.values()) for (h, name), c in rows_of.items()])

    def _write_counts(self, counts: Counts, *, stored: bool) -> None:
        """Add rows of readings: to their hours (or days), and to all time."""
        if not counts.hour.size:
            return
        columns = counts.columns.copy()
        columns[:, 3] *= stored
        place = self._place
        self._db.executemany(
            _ADD_DEVICE,
            [
                (*place(hour), device, None, *row, 0)
                for hour, device, row in zip(
                    counts.hour.tolist(), counts.device.tolist(), columns.tolist(), strict=True
                )
            ],
        )
        numbers, which = np.unique(counts.device, return_inverse=True)
        sums = summed(columns, which, numbers.size)
        self._db.executemany(
            _ADD_DEVICE,
            [(EVER, 0, device, None, *row, 1) for device, row in zip(numbers.tolist(), sums.tolist(), strict=True)],
        )

    def _add_devices(self, rows: list[tuple[Any, ...]]) -> None:
        self._db.executemany(_ADD_DEVICE, rows)
        self._db.executemany(_ADD_DEVICE, [(EVER, 0, *row[2:8], 1) for row in rows])

    def _slot_for(self, needed: int) -> int:
        """The slot of readings that wait until the store has reached a position."""
        now = time.monotonic()
        if self._slot is None or now - self._slot[1] > _SLOT_S:
            highest = self._db.execute("SELECT max(slot) FROM slot").fetchone()[0]
            self._slot = ((highest or 0) + 1, now)
        self._db.execute(
            "INSERT INTO slot VALUES (?, ?) ON CONFLICT DO UPDATE SET position = max(position, excluded.position)",
            (self._slot[0], needed),
        )
        return self._slot[0]

    def _confirm(self) -> None:
        """What waited and is in the store now counts as stored."""
        for (slot,) in self._db.execute("SELECT slot FROM slot WHERE position <= ?", (self._written,)).fetchall():
            of_hour = (f"iif(hour < {self._summed}, {DAY}, {HOUR})", day_or_hour_sql(self._offset_h, self._summed), 0)
            for span, hour, told in (of_hour, (EVER, 0, 1)):
                self._db.execute(
                    f"INSERT INTO device SELECT {span}, {hour}, device, NULL, 0, 0, 0, sum(count), {told} FROM waiting "
                    "WHERE slot = ? GROUP BY 2, 3 ON CONFLICT DO UPDATE "
                    "SET stored = stored + excluded.stored, told = excluded.told",
                    (slot,),
                )
            self._db.execute("DELETE FROM waiting WHERE slot = ?", (slot,))
            self._db.execute("DELETE FROM slot WHERE slot = ?", (slot,))
            if self._slot is not None and self._slot[0] == slot:
                self._slot = None

    def _place(self, hour: int) -> tuple[int, int]:
        """(span, hour) of the row in which an hour is kept."""
        if hour >= self._summed:
            return HOUR, hour
        return DAY, hour - (hour + self._offset_h) % 24

    def _sum_up(self) -> int:
        """Sum hours that are older than they are kept into days, and let very old days go."""
        if self._now is None or self._summed >= (now := self._now // NS_PER_HOUR) - self._kept_hours:
            return self._summed
        firsts = [
            self._db.execute(f"SELECT min(hour) FROM {table} WHERE span = 1").fetchone()[0]
            for table in ("device", "refused", "broker")
        ]
        oldest = min((f for f in firsts if f is not None), default=now)
        before = min(now - self._kept_hours, oldest + _MAX_HOURS_SUMMED)
        day = day_sql(self._offset_h)
        for table, keys, columns in (
            ("device", "device", "expected, received, duplicate, late, stored"),
            ("refused", "device, reason", "count"),
            ("broker", "broker", ", ".join(_BROKER_COLUMNS)),
        ):
            names = columns.split(", ")
            sums = ", ".join(f"sum({c})" for c in names)
            told = ", 1" if table == "device" else ""
            more = ", ".join(
                f"{c} = coalesce({c} + excluded.{c}, {c}, excluded.{c})"
                if c == "expected"
                else f"{c} = {c} + excluded.{c}"
                for c in names
            )
            self._db.execute(
                f"INSERT INTO {table} SELECT {DAY}, {day}, {keys}, {sums}{told} FROM {table} "
                f"WHERE span = 1 AND hour < ? GROUP BY {day}, {keys} ON CONFLICT DO UPDATE SET {more}",
                (before,),
            )
            self._db.execute(f"DELETE FROM {table} WHERE span = 1 AND hour < ?", (before,))
            self._db.execute(f"DELETE FROM {table} WHERE span = 24 AND hour < ?", (now - 24 * _DAYS_KEPT,))
        self._db.execute("INSERT OR REPLACE INTO meta VALUES ('summed', ?)", (before,))
        return before

    @contextmanager
    def _transaction(self) -> Any:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    # ------------------------------------------------------------------------------------------------ for the store

    def untold(self, limit: int = 50_000) -> list[Untold]:
        """Hours that are over and that the store does not have as they are; they count as being told from now on."""
        with self._lock:
            if self._closed is None:
                return []
            rows = self._db.execute(
                "SELECT name.name, device.*, CASE WHEN device.device = 0 "
                " THEN (SELECT sum(count) FROM refused JOIN name ON refused.device = id "
                "       WHERE span = 1 AND refused.hour = device.hour AND known = 0) "
                " ELSE (SELECT sum(count) FROM refused "
                "       WHERE span = 1 AND refused.hour = device.hour AND refused.device = device.device) END "
                "FROM device JOIN name ON device.device = id WHERE told = 0 AND hour < ? ORDER BY hour LIMIT ?",
                (self._closed, limit),
            ).fetchall()
            if not rows:
                return []
            with self._transaction():
                self._db.execute("INSERT INTO meta VALUES ('telling', 1) ON CONFLICT DO UPDATE SET value = value + 1")
                n: int = self._db.execute("SELECT value FROM meta WHERE key = 'telling'").fetchone()[0]
                self._db.executemany(
                    "UPDATE device SET told = 2 WHERE span = 1 AND hour = ? AND device = ?",
                    [(r[2], r[3]) for r in rows],
                )
            return [Untold(r[0], r[2] * NS_PER_HOUR, r[4] or 0.0, r[5], r[6], r[10] or 0, r[7], r[8], n) for r in rows]

    def told(self) -> None:
        """The store has what ``untold`` gave."""
        with self._lock, self._transaction():
            self._db.execute("UPDATE device SET told = 1 WHERE told = 2")

    def begin_again(self, position: int) -> None:
        """The steps between here and ``position`` can't be counted any more: the account is not one of all time."""
        with self._lock, self._transaction():
            self._db.execute("INSERT OR REPLACE INTO meta VALUES ('from_beginning', 0)")
            self._db.execute("INSERT OR REPLACE INTO meta VALUES ('position', ?)", (position,))
            self.position = self._seen = position
            self.covered = position + 1
            self._begun = self._closed = None

    def close(self) -> None:
        """Close the file; what was not flushed is counted when the journal is taken again."""
        with self._lock:
            self._db.close()


def day_sql(offset_h: int) -> str:
    """SQL for the hour in which the local day of ``hour`` began."""
    return f"(hour - ((hour + {offset_h}) % 24 + 24) % 24)"


def day_or_hour_sql(offset_h: int, summed: int) -> str:
    """SQL for the hour under which ``hour`` is kept, where those before ``summed`` are kept as days."""
    return f"iif(hour < {summed}, {day_sql(offset_h)}, hour)"
