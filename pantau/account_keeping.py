"""Between the loss account and the rest of the pipeline: what a batch says to it, and what page and store get of it.

The counting is in ``ingest.account``.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from dashboards.operator.health import AccountHour as PageHour
from dashboards.operator.health import DeviceAccount
from ingest.account import HOUR, Account
from ingest.account_counts import NS_PER_HOUR
from ingest.account_rows import AccountReader, By
from ingest.receiver import Batch
from ingest.refusals import DeadLetter
from ingest.steps import Refused
from storage.store import AccountHour
from storage.writer import StoreWriter
from telemetry.directory import Directory

TELL_S = 60.0
"""How often hours that are over are written to the store, if any are new or have changed. [s of wall time]"""
PAGE_HOURS = 48


def refused_of(batch: Batch) -> list[Refused]:
    """What of a batch was refused, for the journal; less for what was taken again."""
    counted: Counter[tuple[str, str, str, int | None]] = Counter()
    for letter in batch.dead_letters:
        counted[_counted_as(letter)] += letter.times
    if batch.retaken is not None:
        for kept in batch.retaken.letters:
            counted[_counted_as(kept.letter)] -= 1
        for _, letter in batch.retaken.refused:
            counted[_counted_as(letter)] += 1
    return [Refused(*key[:3], n, key[3]) for key, n in counted.items() if n]


def _counted_as(letter: DeadLetter) -> tuple[str, str, str, int | None]:
    """Device, reason, broker and hour of reception, as they can be written."""
    hour = None if letter.received_at is None else letter.received_at // NS_PER_HOUR
    device = (letter.device or "").encode("utf-8", "backslashreplace").decode()
    return device, str(letter.reason), letter.broker, hour


class AccountTeller:
    """Writes hours that are over to the store, through the writer, and again those that changed since."""

    def __init__(self, account: Account, writer: StoreWriter, put: Callable[[tuple[AccountHour, ...]], int]) -> None:
        self._account = account
        self._writer = writer
        self._put = put
        """Hands rows to the writer; returns the position that they were given."""
        self._at = float("-inf")
        self._on_the_way: int | None = None

    def tell(self) -> None:
        """Do so, if it is time to."""
        if time.monotonic() - self._at < TELL_S:
            return
        self._at = time.monotonic()
        if self._on_the_way is not None:
            # Batches are written in order: the store has ours once it has a later one, or all.
            if self._writer.written_position() <= self._on_the_way and self._writer.status().backlog_rows:
                return
            self._on_the_way = None
            self._account.told()
        if rows := self._account.untold():
            self._on_the_way = self._put(tuple(AccountHour(*row) for row in rows))


def device_account(path: Path, directory: Directory, device: str) -> DeviceAccount:
    """The account of one device for the page: since ever, and its newest hours, newest first."""
    with AccountReader(path, utc_offset_h=directory.utc_offset_h) as reader:
        now = reader.known().now_ns
        start = None if now is None else (now // NS_PER_HOUR - PAGE_HOURS + 1) * NS_PER_HOUR
        hours = reader.devices(By.HOUR, start, device=device, directory=directory)
        total = next(iter(reader.devices(By.TOTAL, device=device, directory=directory)), None)
    if total is None:
        return DeviceAccount(device)
    return DeviceAccount(
        device,
        received=total.received,
        duplicate=total.duplicate,
        late=total.late,
        refused=total.refused,
        stored=total.stored,
        waiting=total.waiting,
        expected=total.expected,
        missing=total.missing,
        unaccounted=total.unaccounted,
        hours=tuple(
            PageHour(
                r.start_ns,
                r.hours or HOUR,
                r.expected,
                r.received,
                r.duplicate,
                r.late,
                sum(r.refused.values()),
                r.stored,
                r.waiting,
                r.missing,
            )
            for r in reversed(hours)
        ),
    )
