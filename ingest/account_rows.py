"""The loss account as it is read: rows of devices and brokers by hour, by day, or in all.

A reader has a connection of its own and never waits for the pipeline that writes; what it gives is of one moment.
What the numbers mean is said in ``ingest.account``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from ingest.account import DAY, EVER, HOUR, day_or_hour_sql, day_sql
from ingest.account_counts import NS_PER_HOUR, installed_s, per_s
from ingest.errors import AccountDamagedError
from telemetry.directory import Directory

HOURS_MAX = 2**40
"""Beyond all hours."""


class By(StrEnum):
    """What a row covers."""

    HOUR = "hour"
    DAY = "day"
    """Of the city's own time."""
    TOTAL = "total"


@dataclass(slots=True)
class AccountRow:
    """What became of the readings of one device in one span."""

    device: str
    """"": what was refused and named no device, or one of very many that nobody knows."""
    start_ns: int
    """[ns since 1970 UTC]; of a total 0."""
    hours: int
    """Length: 1, 24, or 0 for a total. Hours that are kept no longer come as days, also where hours were asked for."""
    expected: float | None = None
    """Readings; None: nothing says how many."""
    received: int = 0
    duplicate: int = 0
    late: int = 0
    """Of ``stored`` and ``waiting``: too old to be aggregated."""
    stored: int = 0
    waiting: int = 0
    """In the journal, but not in the store yet."""
    refused: dict[str, int] = field(default_factory=dict)
    """Reason → messages or readings."""

    @property
    def arrived(self) -> int:
        """All readings that came, and messages that could not be read."""
        return self.received + sum(self.refused.values())

    @property
    def missing(self) -> int | None:
        """Expected, but never come; None: nothing says how many are expected."""
        return None if self.expected is None else max(0, round(self.expected - (self.received - self.duplicate)))

    @property
    def unaccounted(self) -> int:
        """What does not balance: received, but neither duplicate nor stored nor waiting. Always 0, or there is a fault.

        Examples
        --------
        >>> AccountRow("g0", 0, 1, received=5, duplicate=1, stored=3, waiting=1).unaccounted
        0
        """
        return self.received - self.duplicate - self.stored - self.waiting

    def add(self, other: AccountRow) -> None:
        """Add another row's numbers."""
        for name in ("received", "duplicate", "late", "stored", "waiting"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        if other.expected is not None:
            self.expected = (self.expected or 0.0) + other.expected
        for reason, n in other.refused.items():
            self.refused[reason] = self.refused.get(reason, 0) + n


@dataclass(frozen=True, slots=True)
class BrokerRow:
    """What came through one broker in one span."""

    broker: str
    start_ns: int
    hours: int
    delivered: int
    """Messages that it delivered to us; again, where it delivered one twice."""
    refused: int
    """Messages, or readings of messages, that were refused."""
    dropped: int
    """Messages that it says it dropped, for any of its subscribers."""
    reconnects: int
    sessions_lost: int
    """How often it had forgotten our session: what was sent while we were away is lost then."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the account says of itself."""

    begun_ns: int | None
    """When it began; nothing is expected of the time before. [ns since 1970 UTC]"""
    now_ns: int | None
    """The present of the last step that is counted."""
    from_beginning: bool
    """Whether all that was ever stored is in it."""
    position: int
    written: int
    """Journal position up to which the store had everything when it was last asked; -1: not known."""


class AccountReader:
    """Reads ``account.sqlite``, also while the pipeline writes it. Use it from one thread.

    Raises
    ------
    FileNotFoundError
        There is no account yet.
    AccountDamagedError
    """

    def __init__(self, path: str | Path, *, utc_offset_h: float = 7.0) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise FileNotFoundError(
                f"there is no loss account at {path}: has the pipeline run with this configuration?"
            )
        self._offset_h = round(utc_offset_h)
        self._day = day_sql(self._offset_h)
        uri = f"{self.path.resolve().as_uri()}?mode=ro"
        self._db = sqlite3.connect(uri, uri=True, timeout=30, isolation_level=None)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> AccountReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def known(self) -> Known:
        """What the account says of itself."""
        meta = dict(self._rows("SELECT key, value FROM meta"))
        return Known(
            meta.get("begun"),
            meta.get("now"),
            bool(meta.get("from_beginning", 0)),
            meta.get("position", -1),
            meta.get("written", -1),
        )

    def devices(
        self,
        by: By = By.TOTAL,
        start_ns: int | None = None,
        end_ns: int | None = None,
        *,
        device: str | None = None,
        directory: Directory | None = None,
    ) -> list[AccountRow]:
        """Rows in the order of time and device.

        Parameters
        ----------
        by : By
        start_ns, end_ns : int or None
            Hours that begin in [start, end); None: no bound. A total without bounds is of all time.
        device : str or None
            Only this one.
        directory : Directory or None
            Where given, the hour that is not over yet has what is expected of its part that is.
        """
        if self._db.in_transaction:  # a moment of the caller's own
            return self._devices(by, start_ns, end_ns, device, directory)
        self._rows("BEGIN")
        try:
            return self._devices(by, start_ns, end_ns, device, directory)
        finally:
            self._rows("COMMIT")

    def brokers(
        self, by: By = By.TOTAL, start_ns: int | None = None, end_ns: int | None = None, *, broker: str | None = None
    ) -> list[BrokerRow]:
        """Rows in the order of time and broker; bounds as in ``devices``."""
        spans, start, hours, where, values = self._span(by, start_ns, end_ns)
        if broker is not None:
            where, values = f"{where} AND broker = ?", [*values, broker]
        return [
            BrokerRow(name, at * NS_PER_HOUR, length, *numbers)
            for at, length, name, *numbers in self._rows(
                f"SELECT {start}, {hours}, broker, sum(delivered), sum(refused), sum(dropped), sum(reconnects), "
                f"sum(sessions_lost) FROM broker WHERE span IN {spans} AND {where} GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
                values,
            )
        ]

    def _span(self, by: By, start_ns: int | None, end_ns: int | None) -> tuple[str, str, str, str, list[Any]]:
        """SQL for: the spans of the rows to read, the start and length of the rows to give, and the condition."""
        if by is By.TOTAL and start_ns is None and end_ns is None:
            return f"({EVER})", "0", "0", "true", []
        first = -HOURS_MAX if start_ns is None else -(-start_ns // NS_PER_HOUR)
        end = HOURS_MAX if end_ns is None else -(-end_ns // NS_PER_HOUR)
        start, hours = {By.HOUR: ("hour", "span"), By.DAY: (self._day, str(DAY)), By.TOTAL: ("0", "0")}[by]
        return f"({HOUR}, {DAY})", start, hours, "hour >= ? AND hour < ?", [first, end]

    def _devices(
        self, by: By, start_ns: int | None, end_ns: int | None, device: str | None, directory: Directory | None
    ) -> list[AccountRow]:
        spans, start, hours, where, values = self._span(by, start_ns, end_ns)
        names = {0: ""}
        if device is None:
            names |= dict(self._rows("SELECT id, name FROM name"))
        else:
            names = dict(self._rows("SELECT id, name FROM name WHERE name = ?", [device]))
            where, values = f"{where} AND device = ?", [*values, next(iter(names), -1)]
        found: dict[tuple[int, int, int], AccountRow] = {}

        def row(at: int, length: int, number: int) -> AccountRow:
            key = (at, length, number)
            if key not in found:
                found[key] = AccountRow(names.get(number, ""), at * NS_PER_HOUR, length)
            return found[key]

        group = "GROUP BY 1, 2, 3"
        for at, length, number, *numbers in self._rows(
            f"SELECT {start}, {hours}, device, sum(expected), sum(received), sum(duplicate), sum(late), sum(stored) "
            f"FROM device WHERE span IN {spans} AND {where} {group}",
            values,
        ):
            of = row(at, length, number)
            of.expected, of.received, of.duplicate, of.late, of.stored = numbers
        for at, length, number, reason, n in self._rows(
            f"SELECT {start}, {hours}, device, reason, sum(count) FROM refused WHERE span IN {spans} AND {where} "
            f"{group}, 4 ORDER BY 4",
            values,
        ):
            if n:  # else all of them were taken again
                row(at, length, number).refused[reason] = n
        summed = dict(self._rows("SELECT key, value FROM meta")).get("summed", -HOURS_MAX)
        if by is By.HOUR:  # as the other numbers of that hour are kept
            start = day_or_hour_sql(self._offset_h, summed)
        hours = hours.replace("span", f"iif(hour < {summed}, {DAY}, {HOUR})")
        for at, length, number, n in self._rows(
            f"SELECT {start}, {hours}, device, sum(count) FROM waiting WHERE {where} {group}", values
        ):
            row(at, length, number).waiting = n
        if directory is not None:
            self._add_open_hour(found, by, start_ns, end_ns, names, directory)
        rows = [r for r in found.values() if r.device or r.received or r.refused or r.waiting]
        return sorted(rows, key=lambda r: (r.start_ns, r.hours, r.device))

    def _add_open_hour(
        self,
        found: dict[tuple[int, int, int], AccountRow],
        by: By,
        start_ns: int | None,
        end_ns: int | None,
        names: dict[int, str],
        directory: Directory,
    ) -> None:
        meta = dict(self._rows("SELECT key, value FROM meta"))
        if not {"now", "begun", "closed"} <= meta.keys():
            return
        hour, now = meta["closed"], meta["now"]
        if not (start_ns is None or hour * NS_PER_HOUR >= start_ns) or not (
            end_ns is None or hour * NS_PER_HOUR < end_ns
        ):
            return
        rate = per_s(directory)
        if not rate.any():
            return
        amount = rate * installed_s(directory, max(hour * NS_PER_HOUR, meta["begun"]), max(now, meta["begun"]))
        at, length = {By.HOUR: (hour, HOUR), By.TOTAL: (0, 0)}.get(by) or (
            self._rows(f"SELECT {self._day} FROM (SELECT ? AS hour)", [hour])[0][0],
            DAY,
        )
        number = {name: i for i, name in names.items()}
        for i in amount.nonzero()[0].tolist():
            key = (at, length, number.get(directory.devices[i].id, -1))
            if key[2] >= 0:
                row = found.setdefault(key, AccountRow(directory.devices[i].id, at * NS_PER_HOUR, length))
                row.expected = (row.expected or 0.0) + float(amount[i])

    def _rows(self, sql: str, values: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        try:
            with closing(self._db.execute(sql, tuple(values))) as cursor:
                return cursor.fetchall()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            raise AccountDamagedError(f"the loss account {self.path} is damaged: {error}") from error


def total_of(rows: Iterable[AccountRow]) -> AccountRow:
    """All rows added up."""
    total = AccountRow("", 0, 0)
    for row in rows:
        total.add(row)
    return total


def balance_text(total: AccountRow) -> str:
    """One sentence that says whether it balances, and how.

    Examples
    --------
    >>> balance_text(AccountRow("", 0, 0, received=5, duplicate=1, stored=4, refused={"no_time": 2}))
    'It balances: 7 arrived = 5 received + 2 refused; 5 received = 1 duplicate + 4 stored + 0 waiting.'
    """
    t = total
    refused = sum(t.refused.values())
    sums = (
        f"{t.arrived:,} arrived = {t.received:,} received + {refused:,} refused; "
        f"{t.received:,} received = {t.duplicate:,} duplicate + {t.stored:,} stored + {t.waiting:,} waiting"
    )
    if t.unaccounted:
        return f"It does NOT balance, by {t.unaccounted:,}: {sums}."
    return f"It balances: {sums}."
