"""Several receiving processes on a real Mosquitto: the same as one, whatever is killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest import workers
from ingest.receiver import Receiver
from ingest.refusals import Reason
from ingest.settings import BrokerSettings, ClockSource, Limits
from ingest.workers import Workers, open_receiver
from tests.devices.secured_broker import ADMINISTRATOR, PIPELINE, secured
from tests.ingest.mqtt import FAST, Publisher, collect, level, until, values
from tests.ingest.small_city import CITY, directory, topic
from tests.real_parts.mosquitto import Mosquitto

pytestmark = pytest.mark.mosquitto

S = 1_000_000_000


def at(broker: Mosquitto, processes: int, name: str = "main", **more: Any) -> BrokerSettings:
    return BrokerSettings(name, broker.host, broker.port, processes=processes, **(FAST | more))


@contextlib.contextmanager
def open_workers(
    folder: Path, *brokers: BrokerSettings, clock: ClockSource = ClockSource.SYSTEM, limits: Limits | None = None
) -> Iterator[Workers]:
    """All of them listening."""
    receiver = Workers(
        brokers, limits or Limits(), city=CITY, clock_source=clock, remembered=folder / "ingest_sessions.json"
    )
    receiver.start()
    city = directory()
    try:
        deadline = time.monotonic() + 30
        while not all(s.connected for s in receiver.status()):
            assert time.monotonic() < deadline, receiver.status()
            batch = receiver.poll(city, time.time_ns() if clock is ClockSource.SYSTEM else None, 0.05)
            assert batch is None or not len(batch.observations)
        yield receiver
    finally:
        receiver.close()


def take_all(receiver: Any, condition: Callable[[], bool], got: list[float], timeout_s: float = 30) -> None:
    """Poll and acknowledge until the condition holds."""
    city = directory()
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{len(got)} came; {receiver.status()}"
        batch = receiver.poll(city, time.time_ns(), 0.1)
        if batch is not None:
            got += batch.observations.value.tolist()
            receiver.acknowledge(batch)


def test_messages_are_shared_out_and_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    with Mosquitto() as broker, open_workers(tmp_path, at(broker, 2)) as receiver:
        assert len(set(receiver.processes)) == 2
        with Publisher(broker.port) as publisher:
            for i in range(1000):
                publisher.reading(i)
            publisher.send(topic("ghost"), level(1))
            batches = collect(receiver, 1001)  # type: ignore[arg-type]
        assert sorted(values(batches)) == list(range(1000))
        assert [d.reason for b in batches for d in b.dead_letters] == [Reason.UNKNOWN_DEVICE]
        assert {d.broker for b in batches for d in b.dead_letters} == {"main"}
        assert {n for b in batches for n in b.observations.broker.tolist()} == {0}
        assert sum(sum(b.messages_by_broker) for b in batches) == 1001
        (status,) = receiver.status()
        assert (status.messages, status.connects, status.sessions_lost) == (1001, 1, 0)
        took = [p.status().messages for p in receiver._processes]
        assert min(took) > 300  # both did their part
        (link,) = receiver.brokers
        assert link.connected
        assert link.since is not None
    assert json.loads((tmp_path / "ingest_sessions.json").read_text()) == {"pantau-main": 2}


def test_a_new_directory_reaches_the_processes(tmp_path: Path) -> None:
    later = directory(2, more=(("new-1", "water_level_m"),))
    with (
        Mosquitto() as broker,
        open_workers(tmp_path, at(broker, 2)) as receiver,
        Publisher(broker.port) as publisher,
    ):
        receiver.poll(later, time.time_ns(), 0)
        time.sleep(0.5)
        for i in range(10):
            publisher.send(topic("new-1"), level(i))
        batches = collect(receiver, 10, city=later)  # type: ignore[arg-type]
        assert sorted(values(batches)) == list(range(10))
        assert {d for b in batches for d in b.observations.datastream.tolist()} == {7}


def test_kill_9_of_a_process_in_the_middle_loses_nothing(tmp_path: Path) -> None:
    """What it had received and not handed over, or handed over and not been told to be safe, comes again."""
    with Mosquitto() as broker, open_workers(tmp_path, at(broker, 2)) as receiver:
        got: list[float] = []
        sent = 0
        with Publisher(broker.port) as publisher:
            for round_number in range(4):
                for _ in range(300):
                    publisher.reading(sent)
                    sent += 1
                if round_number % 2:  # taken, but not acknowledged: those of the dead come again
                    while (batch := receiver.poll(directory(), time.time_ns(), 1)) is None:
                        pass
                    got += batch.observations.value.tolist()
                until(lambda n=round_number % 2: receiver.processes[n] is not None)  # type: ignore[misc]
                victim = receiver.processes[round_number % 2]
                assert victim is not None
                os.kill(victim, signal.SIGKILL)
                for _ in range(100):
                    publisher.reading(sent)
                    sent += 1
                if round_number % 2:
                    receiver.acknowledge(batch)
        until(lambda: "was killed by signal 9" in str(receiver.status()[0].last_error))
        assert "nothing is lost" in str(receiver.status()[0].last_error)
        take_all(receiver, lambda: set(got) == set(range(sent)), got)
        until(lambda: receiver.poll(directory(), time.time_ns(), 0.05) is None and receiver.status()[0].connected)
        (status,) = receiver.status()
        assert status.sessions_lost == 0
        assert status.connects >= 3


def test_while_a_process_is_dead_its_broker_counts_as_unheard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_RESTART_FIRST_S", 1.0)
    with Mosquitto() as broker, open_workers(tmp_path, at(broker, 2)) as receiver:
        victim = receiver.processes[1]
        assert victim is not None
        before = time.time_ns()
        os.kill(victim, signal.SIGKILL)
        until(lambda: not receiver.brokers[0].connected)
        since = receiver.brokers[0].since
        assert since is not None and since >= before
        until(lambda: receiver.brokers[0].connected)
        later = receiver.brokers[0].since
        assert later is not None and later > since


def test_the_sessions_stay_over_a_restart_of_the_pipeline(tmp_path: Path) -> None:
    with Mosquitto(persistence=True) as broker:
        with open_workers(tmp_path, at(broker, 3)):
            pass
        with Publisher(broker.port) as publisher:
            for i in range(300):
                publisher.reading(i)
        broker.restart()
        got: list[float] = []
        with open_workers_and_take(tmp_path, at(broker, 3), got) as receiver:
            take_all(receiver, lambda: len(got) >= 300, got)
            (status,) = receiver.status()
            assert (status.resumed, status.sessions_lost) == (True, 0)
        assert sorted(got) == list(range(300))


@contextlib.contextmanager
def open_workers_and_take(folder: Path, broker: BrokerSettings, got: list[float]) -> Iterator[Any]:
    """Whatever ``open_receiver`` gives, listening; what comes meanwhile goes to ``got``."""
    receiver = open_receiver([broker], Limits(), city=CITY, remembered=folder / "ingest_sessions.json")
    receiver.start()
    try:
        take_all(receiver, lambda: all(s.connected for s in receiver.status()), got)
        yield receiver
    finally:
        receiver.close()


@pytest.mark.parametrize(("before", "after"), [(1, 2), (3, 2), (2, 1), (2, 3)])
def test_another_number_of_processes_strands_no_message(
    tmp_path: Path, before: int, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "QUIET_S", 1.5)
    remembered = tmp_path / "ingest_sessions.json"
    with Mosquitto() as broker:
        got: list[float] = []
        with open_workers_and_take(tmp_path, at(broker, before), got):
            pass
        sent = 0
        with Publisher(broker.port) as publisher:
            for _ in range(600):  # wait in the sessions of before
                publisher.reading(sent)
                sent += 1
            with open_workers_and_take(tmp_path, at(broker, after), got) as receiver:
                for _ in range(300):
                    publisher.reading(sent)
                    sent += 1
                take_all(receiver, lambda: set(got) == set(range(sent)), got)
                if after == 1 or before > after:
                    expected = {} if after == 1 else {"pantau-main": after}
                    take_all(
                        receiver,
                        lambda: (json.loads(remembered.read_text()) if remembered.exists() else {}) == expected,
                        got,
                    )
                del got[:]
                for i in range(300):  # and from now on each comes once, to those that listen
                    publisher.reading(sent + i)
                take_all(receiver, lambda: len(got) >= 300, got)
                until(lambda: receiver.poll(directory(), time.time_ns(), 0.2) is None)
                assert sorted(got) == list(range(sent, sent + 300))
        if after == 1:
            again = open_receiver([at(broker, 1)], Limits(), city=CITY, remembered=remembered)
            assert isinstance(again, Receiver)
            again.close()


def test_the_brokers_clock_is_that_of_the_slowest(tmp_path: Path) -> None:
    """Every process judges times by the clock as it was told before them, and the pipeline's is that of the last."""
    with Mosquitto() as broker, Publisher(broker.port) as publisher:
        publisher.send(topic("clock"), '{"now": 1000, "speed": 60}', retain=True)
        with open_workers(tmp_path, at(broker, 2), clock=ClockSource.BROKER) as receiver:
            for tick in range(1000, 3000, 10):
                publisher.send(topic("clock"), f'{{"now": {tick}, "speed": 60}}')
                publisher.reading(tick, time_s=tick + 290)  # 300 s ahead would be refused
            clock, messages = 0, 0
            got: list[float] = []
            deadline = time.monotonic() + 20
            while len(got) < 200 or clock < 2990 * S:
                assert time.monotonic() < deadline, (len(got), clock)
                batch = receiver.poll(directory(), clock or None, 0.1)
                if batch is None:
                    continue
                receiver.acknowledge(batch)
                assert not batch.dead_letters
                assert batch.clock is None or batch.clock >= clock
                clock = batch.clock or clock
                messages += batch.messages
                got += batch.observations.value.tolist()
                received = batch.observations.received_at
                assert (received == (batch.observations.value * S).astype(int)).all()
            assert receiver.clock_speed == 60
        assert sorted(got) == list(range(1000, 3000, 10))
        assert messages in (400, 401)  # every tick once, however many heard it; the retained one perhaps before


def test_the_clock_waits_for_what_is_not_taken_in_yet(tmp_path: Path) -> None:
    """A first batch of ticks that fills the limit leaves the processes' readings for later: the clock must not leap."""
    limits = Limits(max_batch_messages=5)
    with (
        Mosquitto() as broker,
        Publisher(broker.port) as publisher,
        open_workers(tmp_path, at(broker, 2), clock=ClockSource.BROKER, limits=limits) as receiver,
    ):
        for tick in range(1000, 2000, 10):
            publisher.send(topic("clock"), f'{{"now": {tick}, "speed": 60}}')
            publisher.reading(tick, time_s=tick)
        time.sleep(1)  # so that all of it waits
        clock = 0
        got: list[float] = []
        deadline = time.monotonic() + 20
        while len(got) < 100:
            assert time.monotonic() < deadline, (len(got), clock)
            batch = receiver.poll(directory(), clock or None, 0.1)
            if batch is None:
                continue
            receiver.acknowledge(batch)
            assert (batch.observations.received_at >= clock).all()
            got += batch.observations.value.tolist()
            clock = batch.clock or clock
        assert sorted(got) == list(range(1000, 2000, 10))


def test_one_broker_has_processes_and_another_has_none(tmp_path: Path) -> None:
    with Mosquitto() as east, Mosquitto() as west:
        settings = (at(east, 1, "east"), at(west, 2, "west"))
        with open_workers(tmp_path, *settings) as receiver, Publisher(east.port) as a, Publisher(west.port) as b:
            for i in range(100):
                a.reading(i)
                b.reading(1000 + i)
            batches = collect(receiver, 200)  # type: ignore[arg-type]
            came = [
                (n, v)
                for batch in batches
                for n, v in zip(batch.observations.broker.tolist(), batch.observations.value.tolist(), strict=True)
            ]
            assert sorted(came) == [(0, float(i)) for i in range(100)] + [(1, 1000.0 + i) for i in range(100)]
            assert [sum(x) for x in zip(*(batch.messages_by_broker for batch in batches), strict=True)] == [100, 100]
            west.stop()
            until(lambda: not receiver.brokers[1].connected)
            assert receiver.brokers[0].connected
            a.reading(7)
            assert values(collect(receiver, 1)) == [7]  # type: ignore[arg-type]


def test_the_plugin_for_security_lets_the_processes_share(tmp_path: Path) -> None:
    """Mosquitto's dynamic security plugin looks at shared filters as they are written."""
    rights = BrokerSettings("main", processes=2).rights
    assert rights == ("pantau/v1/+/+", "$share/pantau-main/pantau/v1/+/+")
    with secured("dynsec", pipeline_topics=rights) as site:
        who: dict[str, Any] = {"username": PIPELINE.username, "password": PIPELINE.password}
        with open_workers(tmp_path, at(site.mosquitto, 2, **who)) as receiver:
            until(lambda: receiver.status()[0].broker_waiting is not None, lambda: str(receiver.status()))
            with Publisher(
                site.port, username=ADMINISTRATOR.username, password=ADMINISTRATOR.password.encode()
            ) as some:
                some.send(topic("gauge-1"), level(1))
