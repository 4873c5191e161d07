"""The loss account of a pipeline that ran: it must balance, also against what was sent and what the store has."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from devices.registry import Registry
from ingest.account import NAME
from ingest.account_rows import AccountReader, AccountRow, By, total_of
from pantau.account_command import verify
from storage.embedded import EmbeddedStore
from storage.store import Store
from telemetry.directory import Directory

Sent = int | Mapping[str, int]


def assert_balances(
    folder: Path,
    *,
    sent: Sent | None = None,
    refused: int | None = None,
    redelivered: bool = False,
    store: Store | None = None,
    directory: Directory | None = None,
) -> AccountRow:
    """Check the account in a pipeline's data folder once it has stopped or has nothing to do; returns its total.

    Parameters
    ----------
    folder : path
        ``data.folder``.
    sent : int or {device: int}
        Readings that were published, each once or (known duplicates) more often, in all or by device.
    refused : int
        Messages or readings among what was published that can't be used.
    redelivered : bool
        A broker may have delivered messages twice, as it does after a kill: then more may have arrived than was sent,
        but what is stored is still each reading once.
    store, directory
        Where they are not the embedded store and the registry in ``folder``.
    """
    if directory is None:
        with closing(Registry(f"sqlite:///{folder / 'registry.sqlite'}")) as registry:
            directory = registry.directory()
    opened = EmbeddedStore(folder / "store", read_only=True) if store is None else store
    try:
        with AccountReader(folder / NAME) as reader:
            until = time.monotonic() + 20
            while any(r.waiting for r in reader.devices()) and time.monotonic() < until:
                time.sleep(0.1)
            hours, totals = reader.devices(By.HOUR), reader.devices()
            brokers = reader.brokers()
            differences = verify(reader, opened, directory, tries=2)
    finally:
        if store is None:
            opened.close()
    assert not [str(d) for d in differences]
    for row in (*hours, *totals):
        assert row.unaccounted == row.waiting == 0, row
        assert row.received == row.duplicate + row.stored, row
        assert 0 <= row.late <= row.stored, row
    total, by_hour = total_of(totals), total_of(hours)
    assert (by_hour.received, by_hour.duplicate, by_hour.stored, by_hour.late, by_hour.refused) == (
        total.received,
        total.duplicate,
        total.stored,
        total.late,
        total.refused,
    )
    assert sum(b.refused for b in brokers) == sum(total.refused.values())
    arrived = {r.device: r for r in totals}
    for device, n in sent.items() if isinstance(sent, Mapping) else ():
        _assert_sent(arrived.get(device, AccountRow(device, 0, 0)), n, None, redelivered)
    if sent is not None:
        _assert_sent(total, sent if isinstance(sent, int) else sum(sent.values()), refused, redelivered)
    return total


def _assert_sent(row: AccountRow, sent: int, refused: int | None, redelivered: bool) -> None:
    """``sent`` counts all that was published, usable or not."""
    gone = sum(row.refused.values())
    if refused is not None:
        assert gone == refused or (redelivered and gone >= refused), (row, refused)
    if redelivered:
        assert row.arrived >= sent, (row, sent)
        assert refused is None or row.stored <= sent - refused, (row, sent, refused)
    else:
        assert row.arrived == sent, (row, sent)
