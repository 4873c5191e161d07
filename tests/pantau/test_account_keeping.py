"""Hours that are over reach a real store through a writer: once, again when they change, and not before."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest.account import NAME, Account
from ingest.account_counts import NS_PER_HOUR
from pantau import account_keeping
from pantau.account_keeping import AccountTeller, device_account
from processing.core import State, step
from storage.embedded import EmbeddedStore
from storage.settings import WriterSettings
from storage.store import AccountHour, StoredBatch
from storage.writer import StoreWriter
from telemetry.directory import Datastream, Device, Directory, Site
from telemetry.observations import Observations
from telemetry.results import Transitions, Windows
from tests.pantau.running import wait_for

T0 = 500_000 * NS_PER_HOUR
CITY = Directory(
    1,
    "kota",
    7.0,
    (Site("s", "S", -6.9, 107.6),),
    (Device("g0", "s", interval_s=1800.0),),
    (Datastream("g0.level", "s", "g0", "water_level_m"),),
)


def test_an_hour_is_told_when_it_is_over_and_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_keeping, "TELL_S", 0.0)
    store = EmbeddedStore(tmp_path / "store")
    writer = StoreWriter(store, tmp_path / "spool", WriterSettings(flush_interval_s=0.05))
    account = Account(tmp_path / NAME, from_beginning=True)
    account.use(CITY)
    state = State.for_directory(CITY)
    position = 0

    def put(readings: Observations, hours: tuple[AccountHour, ...] = ()) -> int:
        batch = StoredBatch(position, position, CITY, readings, Windows.empty(), Transitions.empty(), (), hours)
        writer.put(batch)
        return position

    def take(now: int, *times: int) -> None:
        nonlocal state, position
        position += 1
        readings = Observations.of([0] * len(times), list(times), [1.0] * len(times))
        state, results = step(state, CITY, readings, now)
        account.take(position, now, readings, results)
        put(results.readings)
        wait_for(lambda: writer.status().backlog_rows == 0, "the store")
        account.flush(position)

    def told() -> list[tuple[int, float, int, int]]:
        wait_for(lambda: writer.status().backlog_rows == 0, "the store")
        return [(h.at, h.expected, h.received, h.duplicate) for h in store.account(T0, T0 + 9 * NS_PER_HOUR)]

    teller = AccountTeller(account, writer, lambda hours: put(Observations.empty(), hours))
    take(T0, T0, T0)
    teller.tell()
    assert told() == []
    take(T0 + NS_PER_HOUR)
    teller.tell()
    assert told() == [(T0, 2.0, 2, 1)]
    teller.tell()
    take(T0 + NS_PER_HOUR, T0 + 1)
    teller.tell()
    assert told() == [(T0, 2.0, 3, 1)]
    page = device_account(tmp_path / NAME, CITY, "g0")
    assert (page.received, page.duplicate, page.stored, page.unaccounted, page.expected) == (3, 1, 2, 0, 2.0)
    assert [(h.start_ns, h.received, h.missing) for h in page.hours] == [(T0, 3, 0)]
    assert device_account(tmp_path / NAME, CITY, "none").received == 0
    account.close()
    writer.close()
    store.close()
