"""The loss account: counted once whatever happens, balanced, expected by the hour, bounded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.account import NAME, Account
from ingest.account_counts import NS_PER_HOUR, installed_s, per_s
from ingest.account_rows import AccountReader, AccountRow, By, balance_text, total_of
from ingest.connection import BrokerStatus
from ingest.errors import AccountDamagedError
from ingest.steps import Refused
from processing.core import State, step
from telemetry.directory import Datastream, Device, Directory, Installation, Site
from telemetry.observations import NS_PER_S, Observations

H = NS_PER_HOUR
T0 = 500_000 * H
MINUTE = 60 * NS_PER_S


def city(interval_s: float | None = 60.0, devices: int = 3, version: int = 1, watched: bool = True) -> Directory:
    """Gauges with two datastreams each."""
    return Directory(
        version,
        "kota",
        7.0,
        (Site("s", "S", -6.9, 107.6),),
        tuple(Device(f"g{i}", "s", interval_s=interval_s, watched=watched) for i in range(devices)),
        tuple(Datastream(f"g{i}.{p}", "s", f"g{i}", p) for i in range(devices) for p in ("water_level_m", "battery_v")),
        brokers=("main", "second"),
    )


class Pipe:
    """A core and its account, as the runtime joins them; killed by leaving the account unflushed."""

    def __init__(self, path: Path, directory: Directory, **more: object) -> None:
        self.path, self.directory, self.more = path, directory, more
        self.state = State.for_directory(directory)
        self.account = Account(path, from_beginning=True, **more)  # type: ignore[arg-type]
        self.account.use(directory)

    def step(self, position: int, now: int, rows: list[tuple[int, int]], **more: object) -> None:
        observations = Observations.of([s for s, _ in rows], [t for _, t in rows], [1.0] * len(rows))
        self.state, results = step(self.state, self.directory, observations, now)
        self.account.take(position, now, observations, results, **more)  # type: ignore[arg-type]

    def rows(self, by: By = By.HOUR, **more: object) -> list[AccountRow]:
        with AccountReader(self.path) as reader:
            return reader.devices(by, **more)  # type: ignore[arg-type]


def test_one_hour_by_hand(tmp_path: Path) -> None:
    pipe = Pipe(tmp_path / NAME, city())
    pipe.step(10, T0 + MINUTE, [(0, T0), (1, T0), (0, T0), (2, T0 + 1)], messages=[3, 1])
    pipe.step(
        20, T0 + 2 * MINUTE, [(0, T0), (0, T0 - 1)], messages=[0, 2], refused=[Refused("x", "no_time", "main", 2)]
    )
    pipe.account.flush(20)
    rows = pipe.rows()
    assert [(r.device, r.start_ns, r.received, r.duplicate, r.stored, r.refused) for r in rows] == [
        ("g0", T0 - H, 1, 0, 1, {}),
        ("g0", T0, 4, 2, 2, {}),
        ("g1", T0, 1, 0, 1, {}),
        ("x", T0, 0, 0, 0, {"no_time": 2}),
    ]
    with AccountReader(tmp_path / NAME) as reader:
        brokers = [(b.broker, b.delivered, b.refused) for b in reader.brokers()]
    assert brokers == [("main", 3, 2), ("second", 3, 0)]
    assert balance_text(total_of(rows)).startswith("It balances: 8 arrived = 6 received + 2 refused")
    assert total_of(rows).stored == total_of(pipe.rows(By.TOTAL)).stored == 4


def test_readings_wait_until_the_store_has_them(tmp_path: Path) -> None:
    pipe = Pipe(tmp_path / NAME, city())
    pipe.step(5, T0, [(0, T0)])
    pipe.step(6, T0, [(0, T0 + 1)])
    pipe.account.flush(4)
    assert [(r.stored, r.waiting) for r in pipe.rows()] == [(0, 2)]
    pipe.account.close()
    again = Account(tmp_path / NAME)  # a restart in between
    again.flush(6)
    assert [(r.stored, r.waiting, r.unaccounted) for r in pipe.rows()] == [(2, 0, 0)]
    assert [(r.stored, r.waiting) for r in pipe.rows(By.TOTAL)] == [(2, 0)]


def test_patience_keeps_what_the_store_will_have_in_a_moment(tmp_path: Path) -> None:
    pipe = Pipe(tmp_path / NAME, city())
    pipe.step(5, T0, [(0, T0)])
    pipe.account.flush(4, patient=True)
    assert (pipe.rows(), pipe.account.position) == ([], -1)
    pipe.account.flush(5, patient=True)
    assert [(r.stored, r.waiting) for r in pipe.rows()] == [(1, 0)]


@settings(deadline=None, max_examples=25)
@given(
    steps=st.lists(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=6), min_size=1, max_size=8),
    flushes=st.lists(st.tuples(st.integers(0, 8), st.integers(-1, 8)), max_size=4),
    killed_after=st.integers(0, 8),
)
def test_killed_anywhere_it_is_the_account_of_an_undisturbed_run(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[list[tuple[int, int]]],
    flushes: list[tuple[int, int]],
    killed_after: int,
) -> None:
    """Flushed wherever, killed wherever, and the whole journal taken again: the same counts."""
    folder = tmp_path_factory.mktemp("account")
    directory = city()

    def play(pipe: Pipe, upto: int, flush: bool) -> None:
        for i, rows in enumerate(steps[:upto]):
            refused = [Refused("x", "no_time", "main", len(rows))] if len(rows) % 2 else []
            pipe.step(
                i, T0 + i * 20 * MINUTE, [(s, T0 + t * 25 * MINUTE) for s, t in rows], messages=[1], refused=refused
            )
            if flush:
                for at, written in flushes:
                    if at == i:
                        pipe.account.flush(min(written, i))

    undisturbed = Pipe(folder / "undisturbed", directory)
    play(undisturbed, len(steps), flush=False)
    undisturbed.account.flush(len(steps))
    killed = Pipe(folder / "killed", directory)
    play(killed, killed_after, flush=True)
    killed.account.close()
    again = Pipe(folder / "killed", directory)
    play(again, len(steps), flush=True)
    again.account.flush(len(steps))
    assert again.rows() == undisturbed.rows()
    assert again.rows(By.TOTAL) == undisturbed.rows(By.TOTAL)
    for row in again.rows():
        assert row.unaccounted == row.waiting == 0
    with AccountReader(folder / "killed") as mine, AccountReader(folder / "undisturbed") as theirs:
        assert mine.brokers(By.HOUR) == theirs.brokers(By.HOUR)


def test_expected_of_whole_and_broken_hours(tmp_path: Path) -> None:
    """Two datastreams each minute: 120 an hour. It begins at half past, so 60 in the first hour."""
    directory = city()
    pipe = Pipe(tmp_path / NAME, directory)
    pipe.step(1, T0 + 30 * MINUTE, [])
    pipe.step(2, T0 + 2 * H + 15 * MINUTE, [(0, T0 + H)])
    pipe.account.flush(2)
    g0 = [(r.start_ns, r.expected, r.missing) for r in pipe.rows(device="g0")]
    assert g0 == [(T0, 60.0, 60), (T0 + H, 120.0, 119)]
    with_open_hour = [r.expected for r in pipe.rows(device="g0", directory=directory)]
    assert with_open_hour == [60.0, 120.0, 30.0]
    assert [r.expected for r in pipe.rows(By.TOTAL, device="g0", directory=directory)] == [210.0]


def test_expected_follows_the_directory_within_the_hour(tmp_path: Path) -> None:
    """15 minutes at a minute, 15 minutes unwatched, then 30 minutes at two minutes: 2 x (15 + 0 + 15)."""
    pipe = Pipe(tmp_path / NAME, city())
    pipe.step(1, T0, [])
    pipe.step(2, T0 + 15 * MINUTE, [])
    pipe.account.use(city(version=2, watched=False), 3)
    pipe.step(4, T0 + 30 * MINUTE, [])
    pipe.account.use(city(120.0, version=3), 5)
    pipe.step(6, T0 + H, [])
    pipe.account.flush(6)
    assert [r.expected for r in pipe.rows(device="g0")] == [pytest.approx(60.0)]


def test_a_device_that_is_swapped_is_expected_while_it_is_there() -> None:
    directory = Directory(
        1,
        "kota",
        7.0,
        (Site("s", "S", -6.9, 107.6),),
        (Device("old", "s", interval_s=60.0), Device("new", "s", interval_s=60.0)),
        (Datastream("level", "s", "new", "water_level_m"),),
        (
            Installation("old", "level", T0 - 9 * H, T0 + 20 * MINUTE),
            Installation("new", "level", T0 + 20 * MINUTE),
        ),
    )
    assert (installed_s(directory, T0, T0 + H) / 60).tolist() == [20.0, 40.0]
    assert per_s(directory).tolist() == [0.0, 1 / 60]  # the old one is in place no longer: nobody waits for it


def test_without_an_interval_nothing_is_expected(tmp_path: Path) -> None:
    pipe = Pipe(tmp_path / NAME, city(None))
    pipe.step(1, T0, [(0, T0)])
    pipe.step(2, T0 + 3 * H, [])
    pipe.account.flush(2)
    assert [(r.expected, r.missing) for r in pipe.rows(directory=city(None))] == [(None, None)]


def test_old_hours_become_days_of_the_city_and_the_sum_stays(tmp_path: Path) -> None:
    pipe = Pipe(tmp_path / NAME, city(), kept_days=1.0, utc_offset_h=7.0)
    for i in range(72):
        now = T0 + i * H
        pipe.step(i, now, [(0, now), (2, now)], messages=[2], refused=[Refused("g0", "no_time", "main", 1)])
    pipe.account.flush(100)
    rows = pipe.rows(device="g0")
    hours, days = [r for r in rows if r.hours == 1], [r for r in rows if r.hours == 24]
    assert len(hours) == 25
    assert all((d.start_ns // H + 7) % 24 == 0 for d in days)
    assert sum(r.received for r in rows) == 72 == pipe.rows(By.TOTAL, device="g0")[0].received
    assert sum(r.refused["no_time"] for r in rows) == 72
    assert sum(r.expected or 0 for r in rows) == pytest.approx(71 * 120)
    assert sum(r.received for r in pipe.rows(By.DAY, device="g0")) == 72


def test_what_comes_late_for_a_day_that_is_summed_goes_into_the_day(tmp_path: Path) -> None:
    pipe = Pipe(tmp_path / NAME, city(), kept_days=1.0)
    pipe.step(1, T0, [(0, T0)])
    pipe.step(2, T0 + 48 * H, [(0, T0 + 48 * H)])
    pipe.account.flush(2)
    pipe.step(3, T0 + 48 * H, [(2, T0)], refused=[Refused("g1", "no_time", "main", 1, T0 // H)])
    pipe.account.flush(2)
    day = [r for r in pipe.rows() if r.hours == 24 and r.received]
    assert [(r.device, r.received, r.stored, r.waiting, r.refused) for r in day] == [
        ("g0", 1, 1, 0, {}),
        ("g1", 1, 0, 1, {"no_time": 1}),
    ]
    pipe.account.flush(3)
    assert [(r.stored, r.waiting) for r in pipe.rows() if r.received] == [(1, 0), (1, 0), (1, 0)]
    assert all(r.unaccounted == 0 for r in pipe.rows())


def test_made_up_names_fill_neither_file_nor_memory(tmp_path: Path) -> None:
    pipe = Pipe(tmp_path / NAME, city())
    refused = [Refused(f"fake{i}", "unknown_device", "main", 1) for i in range(3000)]
    pipe.step(1, T0, [], refused=refused)
    pipe.account.flush(1)
    rows = pipe.rows()
    assert len(rows) == 1001
    assert next(r for r in rows if r.device == "").refused == {"unknown_device": 2000}
    assert total_of(rows).arrived == 3000


def test_names_that_are_no_text_are_kept(tmp_path: Path) -> None:
    pipe = Pipe(tmp_path / NAME, city())
    pipe.step(1, T0, [], refused=[Refused("\udc80", "wrong_topic", "main", 1)])
    pipe.account.flush(1)
    assert [r.device for r in pipe.rows()] == ["\\udc80"]


def test_before_any_clock_it_counts_by_the_computers(tmp_path: Path) -> None:
    pipe = Pipe(tmp_path / NAME, city())
    pipe.account.take_untimed(1, T0, [4], [Refused("g0", "no_time", "main", 4)])
    pipe.account.take_untimed(1, T0, [4], [Refused("g0", "no_time", "main", 4)])
    pipe.account.flush(-1)
    assert [(r.start_ns, r.refused) for r in pipe.rows()] == [(T0, {"no_time": 4})]


def test_brokers_count_on_through_restarts(tmp_path: Path) -> None:
    status = BrokerStatus("main", "x:1", True, 1, None, None, 5, 100, 3, True, 1, 7, 0)
    pipe = Pipe(tmp_path / NAME, city())
    pipe.step(1, T0, [])
    pipe.account.note_brokers([status])
    pipe.account.note_brokers([replace(status, broker_dropped=9)])
    pipe.account.flush(1)
    pipe.account.close()
    again = Account(tmp_path / NAME)
    again.note_brokers([replace(status, connects=1, sessions_lost=0, broker_dropped=2)])
    again.flush(1)
    with AccountReader(tmp_path / NAME) as reader:
        (row,) = reader.brokers()
    assert (row.dropped, row.reconnects, row.sessions_lost) == (11, 2, 1)


def test_hours_that_are_over_are_told_once_and_again_when_they_change(tmp_path: Path) -> None:
    pipe = Pipe(tmp_path / NAME, city())
    pipe.step(1, T0, [(0, T0)], refused=[Refused("x", "no_time", "main", 2), Refused("g0", "no_time", "main", 1)])
    pipe.account.flush(1)
    assert pipe.account.untold() == []
    pipe.step(2, T0 + H, [])
    pipe.account.flush(2)
    told = {u.device: u for u in pipe.account.untold()}
    assert (told["g0"].received, told["g0"].stored, told["g0"].refused, told["g0"].expected) == (1, 1, 1, 120.0)
    assert told[""].refused == 2
    assert pipe.account.untold() == []
    pipe.account.close()
    again = Pipe(tmp_path / NAME, city())  # killed before the store had them
    assert len(again.account.untold()) == 4
    again.account.told()
    again.step(3, T0 + H, [(0, T0 + 5)])
    again.account.flush(3)
    assert [(u.device, u.received) for u in again.account.untold()] == [("g0", 2)]


def test_letters_that_are_taken_again_count_as_refused_no_more(tmp_path: Path) -> None:
    pipe = Pipe(tmp_path / NAME, city())
    pipe.step(1, T0, [], refused=[Refused("g3", "unknown_device", "main", 2)])
    pipe.step(2, T0 + H, [])
    pipe.account.flush(2)
    assert [(u.device, u.refused) for u in pipe.account.untold() if u.refused] == [("", 2)]
    pipe.account.told()
    pipe.directory = city(devices=4, version=2)
    pipe.account.use(pipe.directory, 3)
    again = [Refused("g3", "unknown_device", "main", -2, T0 // H), Refused("g3", "wrong_unit", "main", 1, T0 // H)]
    pipe.step(4, T0 + H, [(6, T0)], refused=again)
    pipe.account.flush(4)
    row = next(r for r in pipe.rows() if r.device == "g3" and r.start_ns == T0)
    assert {k: n for k, n in row.refused.items() if n} == {"wrong_unit": 1}
    assert (row.received, row.arrived) == (1, 2)
    assert {(u.device, u.hour_ns): u.refused for u in pipe.account.untold()} == {("", T0): 0, ("g3", T0): 1}


def test_big_and_scattered_steps_count_alike(tmp_path: Path) -> None:
    """Dense counting and sorting give what a plain loop does."""
    chance = np.random.default_rng(3)
    stream = chance.integers(0, 6, 5000).astype(np.int32)
    for spread, name in ((2, "dense"), (100_000, "scattered")):
        at = T0 + chance.integers(0, spread, 5000) * H + chance.integers(0, 50, 5000)
        pipe = Pipe(tmp_path / name, city(), kept_days=20_000.0)
        pipe.step(1, T0 + spread * H, list(zip(stream.tolist(), at.tolist(), strict=True)))
        pipe.account.flush(1)
        wanted: dict[tuple[str, int], list[int]] = {}
        seen = set()
        for s, t in zip(stream.tolist(), at.tolist(), strict=True):
            cell = wanted.setdefault((f"g{s // 2}", t // H * H), [0, 0])
            cell[0] += 1
            cell[1] += (s, t) in seen
            seen.add((s, t))
        assert {(r.device, r.start_ns): [r.received, r.duplicate] for r in pipe.rows()} == wanted


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"not a database at all" * 100)
    with pytest.raises(AccountDamagedError, match="move it and its -wal and -shm away"):
        Account(tmp_path / NAME)
    with pytest.raises(FileNotFoundError, match="there is no loss account"):
        AccountReader(tmp_path / "none")


def test_what_does_not_balance_is_said() -> None:
    assert balance_text(AccountRow("g", 0, 1, received=5, stored=3)).startswith("It does NOT balance, by 2: ")
