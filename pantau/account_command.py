"""``pantau account``: the loss account by device or broker, and its comparison with what the store holds."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from ingest.account import NAME
from ingest.account_counts import NS_PER_HOUR
from ingest.account_rows import AccountReader, AccountRow, BrokerRow, By, Known, balance_text, total_of
from storage.store import Store
from telemetry.directory import Directory
from telemetry.observations import NS_PER_S, rfc3339

OK, FAILED = 0, 1
TRIES, PAUSE_S = 4, 2.0
"""Beside a running pipeline the store may be a moment ahead or behind: what differs is looked at again."""
FIRST_NS, LAST_NS = -(2**62), 2**62
_EMPTY = Directory(0, "", 7.0, (), (), ())


@dataclass(frozen=True)
class Difference:
    """One device and hour for which account and store do not agree."""

    device: str
    hour: str
    """[RFC 3339 UTC]"""
    account: int
    """Stored, by the account."""
    store: int
    """Different readings in the store."""

    def __str__(self) -> str:
        return f"{self.device} {self.hour}: {self.account:,} stored by the account, {self.store:,} in the store"


def add_account_command(
    add: Callable[..., argparse.ArgumentParser],
    config: Callable[[argparse.ArgumentParser], None],
    as_json: Callable[[argparse.ArgumentParser], None],
) -> None:
    """Add ``pantau account`` to the command line."""
    sub = add(
        "account",
        _account,
        "show what became of every reading: expected, received, duplicate, refused, late, stored",
        "pantau account --device awlr-dayeuhkolot --from 24h\n  pantau account --verify",
    )
    config(sub)
    sub.add_argument("--device", help="only this device; by the hour unless --by says otherwise")
    sub.add_argument("--broker", action="store_true", help="brokers: delivered, refused, dropped, reconnects")
    when = "RFC 3339 with zone such as 2026-01-31T20:00:00Z, or back from now such as 24h or 7d"
    sub.add_argument("--from", dest="start", metavar="T", help=f"hours from here on: {when}")
    sub.add_argument("--to", dest="end", metavar="T", help="hours before this one")
    sub.add_argument("--by", choices=[str(by) for by in By], help="rows for each hour, day or in all (default: total)")
    sub.add_argument("--verify", action="store_true", help="count in the store, and name every difference")
    as_json(sub)


def _account(chosen: argparse.Namespace) -> int:
    from pantau.settings import load
    from pantau.startup import StartupError

    settings = load(chosen.config)
    path = settings.data.folder / NAME
    if not path.exists():
        raise StartupError(f"there is no loss account at {path}: has the pipeline run with this configuration?")
    by = By(chosen.by) if chosen.by else By.HOUR if chosen.device else By.TOTAL
    with AccountReader(path, utc_offset_h=settings.city.utc_offset_h) as reader:
        known = reader.known()
        start, end = (_time(name, getattr(chosen, name), known) for name in ("start", "end"))
        if chosen.broker:
            return _show_brokers(reader.brokers(by, start, end), by, chosen.json)
        directory = _directory(settings.data.registry)
        rows = reader.devices(by, start, end, device=chosen.device, directory=directory)
        differences: list[Difference] | None = None
        if chosen.verify:
            from pantau.runtime import open_store

            with closing(open_store(settings, read_only=True)) as store:
                differences = verify(reader, store, directory, start, end, device=chosen.device)
    total = total_of(rows)
    if chosen.json:
        found: dict[str, Any] = {
            "rows": [_row(r) for r in rows],
            "total": _row(total),
            "balances": total.unaccounted == 0,
            "begun": None if known.begun_ns is None else rfc3339(known.begun_ns),
        }
        if differences is not None:
            found["differences"] = [asdict(d) for d in differences]
        print(json.dumps(found, indent=2))
    else:
        _print(rows, total, by)
        for difference in differences or ():
            print(difference)
        if differences is not None:
            print(
                f"The store does NOT agree: {len(differences):,} differences."
                if differences
                else "The store agrees, for every device and hour."
            )
        print(balance_text(total))
    return FAILED if total.unaccounted or differences else OK


def verify(
    reader: AccountReader,
    store: Store,
    directory: Directory,
    start_ns: int | None = None,
    end_ns: int | None = None,
    *,
    device: str | None = None,
    tries: int = TRIES,
) -> list[Difference]:
    """Count in the store, by device and hour, and name what the account says otherwise.

    A late reading may be one that the core does not remember: then it is in the store already, so as many as were late
    may be fewer there. Waiting readings may be there or not. Where the account began later than the store, earlier
    hours may hold more.
    """
    found: list[Difference] = []
    for attempt in range(tries):
        if attempt:
            time.sleep(PAUSE_S)
        found = _differences(reader, store, directory, start_ns, end_ns, device)
        if not found:
            break
    return found


def _differences(
    reader: AccountReader,
    store: Store,
    directory: Directory,
    start_ns: int | None,
    end_ns: int | None,
    device: str | None,
) -> list[Difference]:
    known = reader.known()
    rows = [r for r in reader.devices(By.HOUR, start_ns, end_ns, device=device) if r.hours == 1]
    # Hours that are summed into days are not compared any more.
    first = FIRST_NS if start_ns is None else -(-start_ns // NS_PER_HOUR) * NS_PER_HOUR
    if days := [r.start_ns + 24 * NS_PER_HOUR for r in reader.devices(By.HOUR) if r.hours > 1]:
        first = max(first, max(days))
    end = LAST_NS if end_ns is None else -(-end_ns // NS_PER_HOUR) * NS_PER_HOUR
    counted = _counted(store, directory, first, end, device)
    said = {(r.device, r.start_ns): r for r in rows if r.start_ns >= first}
    found = []
    for name, hour in sorted(said.keys() | counted.keys(), key=lambda key: (key[1], key[0])):
        row, there = said.get((name, hour), AccountRow(name, hour, 1)), counted.get((name, hour), 0)
        least, most = row.stored - row.late, row.stored + row.waiting
        may_be_more = not known.from_beginning and (known.begun_ns is None or hour < known.begun_ns)
        if there < least or (there > most and not may_be_more):
            found.append(Difference(name, rfc3339(hour), row.stored, there))
    return found


def _counted(
    store: Store, directory: Directory, start_ns: int, end_ns: int, device: str | None
) -> dict[tuple[str, int], int]:
    """(device, hour) → different readings in the store."""
    counts = store.count_by_hour(start_ns, end_ns)
    index = {s.id: i for i, s in enumerate(directory.datastreams)}
    swapped = directory.installed.swapped
    found: dict[tuple[str, int], int] = {}

    def add(which: int, hour: int, n: int) -> None:
        name = directory.devices[which].id if which >= 0 else ""
        if device is None or name == device:
            found[name, hour] = found.get((name, hour), 0) + n

    for stream, hour, n in zip(counts.datastream, counts.hour_ns.tolist(), counts.count.tolist(), strict=True):
        i = index.get(stream, -1)
        if i < 0 or not swapped[i]:
            add(-1 if i < 0 else int(directory.device_of[i]), hour, n)
            continue
        at = store.readings(stream, hour, hour + NS_PER_HOUR).observed_at
        fed_by, times = np.unique(
            directory.installed.device_at(np.full(at.shape, i, dtype=np.int32), at), return_counts=True
        )
        for which, some in zip(fed_by.tolist(), times.tolist(), strict=True):
            add(which, hour, some)
    return found


def _directory(url: str) -> Directory:
    """The directory, for what is expected in the hour that is not over, and for which device fed what."""
    from devices.registry import Registry

    with closing(Registry(url)) as registry:
        return registry.directory() if registry.version() else _EMPTY


def _time(name: str, text: str | None, known: Known) -> int | None:
    from dashboards.operator.api import parse_time
    from pantau.startup import StartupError

    if text is None:
        return None
    if back := re.fullmatch(r"(\d+)([hd])", text.strip()):
        now = time.time_ns() if known.now_ns is None else known.now_ns
        length = int(back[1]) * (24 if back[2] == "d" else 1)
        return (now // NS_PER_HOUR + 1 - length) * NS_PER_HOUR
    try:
        return parse_time(text)
    except ValueError as error:
        option = "--from" if name == "start" else "--to"
        raise StartupError(f"{option}: {error}, or such as 24h or 7d") from None


def _row(row: AccountRow) -> dict[str, Any]:
    return {
        "device": row.device,
        "start": rfc3339(row.start_ns) if row.hours else None,
        "hours": row.hours or None,
        "expected": None if row.expected is None else round(row.expected, 2),
        "arrived": row.arrived,
        "received": row.received,
        "duplicate": row.duplicate,
        "refused": row.refused,
        "late": row.late,
        "stored": row.stored,
        "waiting": row.waiting,
        "missing": row.missing,
        "unaccounted": row.unaccounted,
    }


def _when(start_ns: int, hours: int) -> str:
    text = rfc3339(start_ns // NS_PER_S * NS_PER_S).replace("T", " ").replace(":00Z", "Z")
    return f"{text} (day)" if hours == 24 else text


def _print(rows: list[AccountRow], total: AccountRow, by: By) -> None:
    columns = ("expected", "received", "duplicate", "refused", "late", "stored", "waiting", "missing")
    table = Table(box=box.SIMPLE_HEAD, show_footer=len(rows) > 1)
    if by is not By.TOTAL:
        table.add_column("hour" if by is By.HOUR else "day from", no_wrap=True)
    table.add_column("device", footer="total")
    for name in columns:
        table.add_column(name, justify="right", footer=_cell(total, name))
    table.add_column("refused because")
    for row in rows:
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in sorted(row.refused.items()) if n)
        when = [] if by is By.TOTAL else [_when(row.start_ns, row.hours if by is By.HOUR else 1)]
        table.add_row(*when, row.device or "(none)", *(_cell(row, name) for name in columns), reasons)
    _console().print(table)


def _cell(row: AccountRow, name: str) -> str:
    value = sum(row.refused.values()) if name == "refused" else getattr(row, name)
    return "–" if value is None else f"{round(value):,}"


def _show_brokers(rows: list[BrokerRow], by: By, as_json: bool) -> int:
    columns = ("delivered", "refused", "dropped", "reconnects", "sessions_lost")
    if as_json:
        found = [
            {"broker": r.broker, "start": rfc3339(r.start_ns) if r.hours else None, "hours": r.hours or None}
            | {c: getattr(r, c) for c in columns}
            for r in rows
        ]
        print(json.dumps({"brokers": found}, indent=2))
        return OK
    table = Table(box=box.SIMPLE_HEAD)
    if by is not By.TOTAL:
        table.add_column("hour" if by is By.HOUR else "day from", no_wrap=True)
    table.add_column("broker")
    for name in columns:
        table.add_column(name.replace("_", " "), justify="right")
    for r in rows:
        when = [] if by is By.TOTAL else [_when(r.start_ns, r.hours if by is By.HOUR else 1)]
        table.add_row(*when, r.broker, *(f"{getattr(r, c):,}" for c in columns))
    _console().print(table)
    dropped, lost = sum(r.dropped for r in rows), sum(r.sessions_lost for r in rows)
    if dropped or lost:
        print(
            f"Brokers dropped {dropped:,} messages and forgot our session {lost:,} times: "
            "what was lost that way never came here."
        )
    else:
        print("No broker says that it dropped a message, and none forgot our session.")
    return OK


def _console() -> Console:
    return Console() if sys.stdout.isatty() else Console(width=160)
