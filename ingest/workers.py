"""Several processes that take one broker's load by a shared subscription, seen by the pipeline as one receiver.

Each process (``ingest.worker_process``) decodes its share and hands over batches; here they are joined, and once the
pipeline has journaled them, each process is told what it may acknowledge. A process that dies is started anew, with the
same session, so the broker sends again what was not safe. The pipeline keeps a connection of its own to every broker:
for the broker's figures, for formats that remember (their messages must not be shared out), and for the clock.

Sessions that are no longer wanted, because there are fewer processes than before, are looked up once more: they
unsubscribe, and are let go when the broker has nothing left for them.
"""

from __future__ import annotations

import contextlib
import json
import logging
import pickle
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection as PipeEnd
from pathlib import Path
from typing import Any

import numpy as np

from ingest.connection import BrokerStatus
from ingest.dead_letters import Kept
from ingest.formats import FORMATS
from ingest.rates import Rates
from ingest.receiver import CLOCK, Batch, Receiver
from ingest.settings import BrokerSettings, ClockSource, Limits
from ingest.worker_process import Close, Safe, Setup, Told, UseDirectory
from telemetry.brokers import BrokerLink, listening_since
from telemetry.directory import Directory
from telemetry.observations import Observations

log = logging.getLogger(__name__)

QUIET_S = 30.0
"""A session that is given up counts as empty when nothing has come for so long since it unsubscribed."""
_RESTART_FIRST_S, _RESTART_MAX_S, _STEADY_S = 0.1, 5.0, 10.0
_CLOSE_S = 20.0
_IDLE_S = 0.5
"""When nothing has come for so long, all that was sent before the clock stopped is here."""
_DEAD_CLOCK_S = 10.0
"""So long the broker's clock waits for a process that died."""


@dataclass(frozen=True, slots=True)
class JoinedBatch(Batch):
    """Batches of several sources as one."""

    safe: tuple[Callable[[], None], ...] = field(default=(), repr=False)
    """Tell each source that its part is safe."""


def open_receiver(
    brokers: Sequence[BrokerSettings],
    limits: Limits,
    *,
    city: str,
    clock_source: ClockSource = ClockSource.SYSTEM,
    remembered: Path,
) -> Receiver | Workers:
    """What receives from these brokers: the pipeline itself or, where one has several processes, these.

    Parameters
    ----------
    remembered : path
        A small file that says which sessions there are at the brokers; only needed where there were several processes.
    """
    if all(b.processes == 1 for b in brokers) and not remembered.exists():
        return Receiver(brokers, limits, city=city, clock_source=clock_source)
    return Workers(brokers, limits, city=city, clock_source=clock_source, remembered=remembered)


class Workers:
    """Receives from all brokers, with several processes where a broker's settings say so. See ``Receiver``."""

    def __init__(
        self,
        brokers: Sequence[BrokerSettings],
        limits: Limits,
        *,
        city: str,
        clock_source: ClockSource = ClockSource.SYSTEM,
        remembered: Path | None = None,
    ) -> None:
        self._brokers = tuple(brokers)
        self._limits = limits
        self._by_broker = ClockSource(clock_source) is ClockSource.BROKER
        self._one_stream = self._by_broker and len(brokers) == 1
        self.rates = Rates(limits)
        """Of the devices."""
        self._remembered = remembered
        unlimited = replace(limits, device_readings_per_s=0.0)  # a device's rate is judged by all that it sends
        clock = f"pantau/v1/{city}/{CLOCK}" if self._by_broker else None
        remembering = {name for name, maker in FORMATS.items() if getattr(maker, "remembers", False)}
        before = _recall(remembered)
        self._sessions = {b.client_id: max(before.get(b.client_id, 1), b.processes) for b in brokers}
        self._arrived: deque[_HandedOver] = deque()
        self._processes: list[_Process] = []
        self._retiring: list[_Retiring] = []
        self._to_leave: dict[int, tuple[str, ...]] = {}
        """By broker: filters that the pipeline's own session may still have, and no longer wants."""
        own: dict[str, tuple[str, ...]] = {}
        for i, b in enumerate(brokers):
            mine, each = b.filters_apart(clock, remembering)
            if self._sessions[b.client_id] == 1:
                continue
            if b.processes > 1:
                own[b.name] = mine
            wanted = own.get(b.name, b.filters)
            possible = dict.fromkeys((*b.filters, *([clock] if clock else [])))
            self._to_leave[i] = tuple(f for f in possible if f not in wanted)
            for number in range(1, self._sessions[b.client_id] + 1):
                settings = replace(b, client_id=f"{b.client_id}.{number}", watch_drops=False)
                if b.processes > 1 and number <= b.processes:
                    setup = Setup(settings, each, unlimited, city, ClockSource(clock_source), None)
                    self._processes.append(_Process(self, i, number, setup, number <= before.get(b.client_id, 0)))
                else:
                    one = Receiver(
                        [settings], unlimited, city=city, clock_source=clock_source, filters={b.name: ()},
                        counts_clock=False,
                    )  # fmt: skip
                    self._retiring.append(_Retiring(i, number, one, each))
        self._main = Receiver(brokers, unlimited, city=city, clock_source=clock_source, filters=own)
        self._directory: Directory | None = None
        self._directory_bytes = b""
        self._now: int | None = None
        self._own: list[Batch] = []
        """Batches of the pipeline's own connections that are not taken yet."""
        self._begun = False
        self._held: list[_Held] = []
        self._arrived_at = 0.0
        self._clock_of_main: int | None = None
        self._closing = False

    # ------------------------------------------------------------------------------------- as ``Receiver`` has them

    def go_on_listening(self, since_ns: int) -> None:
        """See ``Receiver.go_on_listening``."""
        if len(self._brokers) == 1:
            self._main.go_on_listening(since_ns)
            for process in self._processes:
                process.link = BrokerLink(True, since_ns, process.link.alarm_after_s)

    def start(self) -> None:
        """Begin to connect to all brokers; the processes start with the first ``poll``, which brings the directory."""
        self._remember()
        self._main.start()

    def close(self) -> None:
        """End the processes and disconnect from all brokers; they keep for us what is not acknowledged."""
        self._closing = True
        for process in self._processes:
            process.begin_to_close()
        for process in self._processes:
            process.close()
        for old in self._retiring:
            old.receiver.close()
        self._main.close()

    def poll(self, directory: Directory, now_ns: int | None, timeout_s: float) -> JoinedBatch | None:
        """What has come since the last call, or None if nothing came within ``timeout_s``. See ``Receiver.poll``."""
        self._now = now_ns
        self._use(directory)
        own = self._main.poll(directory, now_ns, 0.0 if self._arrived else timeout_s)
        if own is not None:
            self._own.append(own)
        if not self._all_have_told(now_ns):
            time.sleep(min(timeout_s, 0.01))
            return None
        parts: list[Batch] = []
        safe: list[Callable[[], None]] = []
        messages = 0
        for batch in self._own:
            parts.append(batch)
            safe.append(lambda b=batch: self._main.acknowledge(b))  # type: ignore[misc]
            self._clock_of_main = batch.clock
            messages += batch.messages
        self._own.clear()
        while self._arrived and messages < self._limits.max_batch_messages:
            handed = self._arrived.popleft()
            handed.process.take(handed.batch, handed.size)
            parts.append(_through(handed.batch, handed.process.broker, len(self._brokers)))
            safe.append(handed.acknowledge)
            messages += handed.batch.messages
        if self._to_leave or self._retiring:
            self._settle(directory, now_ns, parts, safe)
        if self._one_stream:
            parts, safe = self._in_order(parts, safe)
        if not parts:
            return None
        return self._join(parts, safe, directory)

    def take_again(self, directory: Directory, letters: Sequence[Kept], now_ns: int | None) -> Batch:
        """What dead letters give when they are read again. See ``Receiver.take_again``."""
        return self._main.take_again(directory, letters, now_ns)

    def acknowledge(self, batch: Batch) -> None:
        """Tell the brokers that the messages of ``batch`` are safe; call it once they are."""
        for tell in batch.safe if isinstance(batch, JoinedBatch) else ():
            tell()

    def status(self) -> list[BrokerStatus]:
        """How each broker is doing, in the order of the settings: all connections to it as one."""
        return [
            _joined_status([own, *(p.status() for p in self._processes if p.broker == i)])
            for i, own in enumerate(self._main.status())
        ]

    @property
    def brokers(self) -> tuple[BrokerLink, ...]:
        """How each broker is heard: only while all connections to it stand. See ``Receiver.brokers``."""
        return tuple(
            _joined_link([own, *(p.link for p in self._processes if p.broker == i)])
            for i, own in enumerate(self._main.brokers)
        )

    @property
    def listening_since_ns(self) -> int | None:
        """Since when all brokers are connected, in the pipeline's clock; None while one is not. [ns since 1970 UTC]"""
        return listening_since(self.brokers)

    @property
    def clock_speed(self) -> float:
        """How fast the broker's clock says it runs. [times real time]"""
        return self._main.clock_speed

    @property
    def clock_steps_back(self) -> int:
        """Clock messages that were ignored because they told an earlier time."""
        return self._main.clock_steps_back

    @property
    def processes(self) -> tuple[int | None, ...]:
        """Ids of the processes; None for one that is just being started."""
        return tuple(p.pid for p in self._processes)

    # ------------------------------------------------------------------------------------------------------ inside

    def _use(self, directory: Directory) -> None:
        if directory is self._directory:
            return
        self._directory = directory
        content = directory.to_bytes()
        if content == self._directory_bytes:
            return
        first = not self._directory_bytes
        self._directory_bytes = content
        for process in self._processes:
            if first:
                process.start()
            else:
                process.say(UseDirectory(content))

    def _join(self, parts: Sequence[Batch], safe: Sequence[Callable[[], None]], directory: Directory) -> JoinedBatch:
        observations, letters = self.rates.judge(Observations.concat([p.observations for p in parts]), directory)
        return JoinedBatch(
            observations=observations,
            dead_letters=[letter for p in parts for letter in p.dead_letters] + letters,
            clock=self._clock() if self._by_broker else None,
            messages=sum(p.messages for p in parts),
            brokers=self.brokers,
            receipts=[],
            presences=tuple(x for p in parts for x in p.presences),
            messages_by_broker=tuple(map(sum, zip(*(p.messages_by_broker for p in parts), strict=True))),
            safe=tuple(safe),
        )

    def _in_order(
        self, parts: list[Batch], safe: list[Callable[[], None]]
    ) -> tuple[list[Batch], list[Callable[[], None]]]:
        """Hold back what came at a time of the broker's clock that not everybody has passed.

        The order in which a device sent matters for its alarms, and its messages come through different processes. A
        batch is safe once all of it was let through.
        """
        if parts:
            self._arrived_at = time.monotonic()
        self._held += [_Held(batch, tell) for batch, tell in zip(parts, safe, strict=True)]
        passed, quiet = self._clock(), time.monotonic() - self._arrived_at > _IDLE_S
        ready: list[Batch] = []
        told: list[Callable[[], None]] = []
        still: list[_Held] = []
        for held in self._held:
            o = held.batch.observations
            through = np.full(len(o), quiet) if quiet or passed is None else o.received_at < passed
            if through.all():
                ready.append(held.batch)
                told.append(held.safe)
                continue
            if through.any():
                ready.append(_readings_alone(held.batch, o.take(through)))
                held.batch = replace(held.batch, observations=o.take(~through))
            still.append(held)
        self._held = still
        return ready, told

    def _all_have_told(self, now_ns: int | None) -> bool:
        """Whether every stream of the one broker's clock has begun, so that none can be left behind."""
        if not self._one_stream or self._begun:
            return True
        if now_ns is not None:  # remembered from before: all begin there
            self._clock_of_main = now_ns
            for process in self._processes:
                process.clock = now_ns
            self._begun = True
        else:
            heard = {id(h.process) for h in self._arrived if h.batch.clock is not None}
            self._begun = len(heard) == len(self._processes) and any(b.clock is not None for b in self._own)
        return self._begun

    def _clock(self) -> int | None:
        """The time that everybody has reached: who lags behind must not find that it is too late for his readings."""
        told = [p.clock for p in self._processes if self._one_stream or p.counts_for_clock()]
        if self._one_stream or all(s.connected for s in self._main.status()):
            told.append(self._clock_of_main)
        known = [t for t in told if t is not None]
        if self._one_stream and len(known) < len(told):
            return self._now  # what has come of a process is not taken in yet, and may begin anywhere
        return min(known) if known else self._now

    def _settle(
        self, directory: Directory, now_ns: int | None, parts: list[Batch], safe: list[Callable[[], None]]
    ) -> None:
        """Once everybody listens who shall, unsubscribe whoever shall no longer; let go of sessions that are empty."""
        statuses = self._main.status()
        for i in list(self._to_leave):
            ready = statuses[i].connected and all(p.status().connected for p in self._processes if p.broker == i)
            if ready:
                filters = self._to_leave.pop(i)
                if filters:
                    self._main.leave(self._brokers[i].name, filters)
                for old in self._retiring:
                    if old.broker == i:
                        old.begin(self._brokers[i].name)
        for old in list(self._retiring):
            batch = old.receiver.poll(directory, now_ns, 0.0) if old.begun else None
            if batch is not None:
                old.last = time.monotonic()
                parts.append(_through(batch, old.broker, len(self._brokers)))
                safe.append(lambda r=old.receiver, b=batch: r.acknowledge(b))  # type: ignore[misc]
            elif old.is_empty(self._brokers[old.broker].name):
                old.receiver.close()
                self._retiring.remove(old)
                b = self._brokers[old.broker]
                if not any(o.broker == old.broker for o in self._retiring):
                    self._sessions[b.client_id] = b.processes
                    self._remember()
                log.info("broker %s: the session %s.%d is empty and given up", b.name, b.client_id, old.number)

    def _remember(self) -> None:
        if self._remembered is None:
            return
        several = {client: n for client, n in self._sessions.items() if n > 1}
        if several:
            part = self._remembered.with_suffix(".part")
            part.write_text(json.dumps(several), encoding="utf-8")
            part.replace(self._remembered)
        else:
            self._remembered.unlink(missing_ok=True)

    def _take_in(self, handed: _HandedOver) -> None:
        self._arrived.append(handed)
        self._main.wake()


class _Process:
    """One receiving process: started, heard, and started anew when it dies."""

    def __init__(self, workers: Workers, broker: int, number: int, setup: Setup, known: bool) -> None:
        self.broker, self.number = broker, number
        self.link = BrokerLink(False, None, setup.broker.alarm_after_s)
        self.clock: int | None = None
        """The latest time that a batch of it told. [ns since 1970 UTC]"""
        self.pid: int | None = None
        self._workers, self._setup = workers, setup
        self._known = known
        """Whether its session was there before this start of the pipeline."""
        self._room = threading.Condition()
        self._waiting_bytes = self._waiting_messages = 0
        self._life = 0
        self._pipe: PipeEnd | None = None
        self._sending = threading.Lock()
        self._died_at = 0.0
        self._last: Told | None = None
        self._trouble: tuple[str, int] | None = None
        self._before = _Sums()
        """Of its former lives."""
        self._thread = threading.Thread(target=self._run, name=f"{setup.broker.client_id}.{number}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def say(self, what: Any) -> None:
        """Tell it something; one that is dead is told what matters when it is started anew."""
        with self._sending:
            if self._pipe is not None:
                with contextlib.suppress(OSError):  # its end is noticed where it is heard
                    self._pipe.send_bytes(pickle.dumps(what, protocol=5))

    def acknowledge(self, life: int, number: int) -> None:
        if life == self._life:
            self.say(Safe(number))

    def take(self, batch: Batch, size: int) -> None:
        """The pipeline takes what was handed over."""
        with self._room:
            self._waiting_bytes -= size
            self._waiting_messages -= batch.messages
            self._room.notify()
        if batch.clock is not None:
            self.clock = batch.clock

    def counts_for_clock(self) -> bool:
        """Whether the broker's clock waits for it: unless it is away from the broker, or dead for long."""
        return self.link.connected or (
            self.pid is None and self._life > 0 and time.monotonic() - self._died_at < _DEAD_CLOCK_S
        )

    def status(self) -> BrokerStatus:
        """Counts are since the start of the pipeline, over all its lives."""
        last, before = self._last, self._before
        if last is None:
            since = None if self._trouble is None else self._trouble[1]
            s = BrokerStatus(
                self._setup.broker.name, self._setup.broker.address, False, since, None, None, 0, 0, 0, None, 0, None, 0
            )
        else:
            s = last.status
        trouble, trouble_ns = s.last_error, s.last_error_ns
        if self._trouble is not None and (trouble_ns or 0) < self._trouble[1]:
            trouble, trouble_ns = self._trouble
        return replace(
            s,
            last_error=trouble,
            last_error_ns=trouble_ns,
            messages=before.messages + s.messages,
            bytes=before.bytes + s.bytes,
            connects=before.connects + s.connects,
            resumed=s.resumed if self._known or self._life > 1 else s.resumed or None,
            sessions_lost=before.sessions_lost + s.sessions_lost + (self._life > 1 and s.resumed is False),
            waiting_bytes=s.waiting_bytes + self._waiting_bytes,
            waiting_messages=s.waiting_messages + self._waiting_messages,
        )

    def begin_to_close(self) -> None:
        with self._room:
            self._room.notify()
        self.say(Close())

    def close(self) -> None:
        if self._thread.ident is not None:
            self._thread.join(timeout=_CLOSE_S + 5)

    # Everything below runs in this process's thread of the pipeline.

    def _run(self) -> None:
        failures = 0
        while not self._workers._closing:
            began = time.monotonic()
            code = self._live()
            if self._workers._closing:
                return
            failures = 0 if time.monotonic() - began > _STEADY_S else failures + 1
            self._mourn(code)
            time.sleep(min(_RESTART_MAX_S, _RESTART_FIRST_S * 2 ** min(failures, 10)))

    def _live(self) -> int:
        """Start it, and hear it until it ends; returns its exit status."""
        ours, theirs = Pipe()
        with theirs:
            command = f"from ingest.worker_process import main; main({theirs.fileno()})"
            process = subprocess.Popen(
                [sys.executable, "-c", command], stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),)
            )
        with self._sending:
            self._pipe = ours
            self._life += 1
            self.pid = process.pid
        now = self.clock if self.clock is not None else self._workers._now
        heard = self.link.since if self.link.connected and self._workers._one_stream else None
        self.say(replace(self._setup, now_ns=now, heard_since_ns=heard))
        self.say(UseDirectory(self._workers._directory_bytes))
        if self._workers._closing:
            self.say(Close())
        try:
            while True:
                data = ours.recv_bytes()
                told = pickle.loads(data)
                assert isinstance(told, Told)
                self._hear(told, len(data))
        except (EOFError, OSError):
            pass
        finally:
            with self._sending:
                self._pipe, self.pid = None, None
                ours.close()
        try:
            return process.wait(_CLOSE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def _hear(self, told: Told, size: int) -> None:
        self._last, self.link = told, told.link
        if told.batch is None:
            return
        with self._room:
            self._waiting_bytes += size
            self._waiting_messages += told.batch.messages
        self._workers._take_in(_HandedOver(self, self._life, told.number, told.batch, size))
        with self._room:
            # Then its pipe fills, it stops polling, and its connection stops reading.
            while self._waiting_bytes > self._workers._limits.max_waiting_bytes and not self._workers._closing:
                self._room.wait(0.5)

    def _mourn(self, code: int) -> None:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        sentence = f"receiving process {self.number} {how}; it is started anew, and nothing is lost"
        log.warning("broker %s: %s", self._setup.broker.name, sentence)
        wall = time.time_ns()
        if self._last is not None:
            self._before.add(self._last.status, self._life > 1)
        self._last, self._trouble, self._died_at = None, (sentence, wall), time.monotonic()
        if self._workers._one_stream:
            return  # its clock comes the same way as its readings: while we hear nothing, no time passes
        since = self._workers._now if self._workers._by_broker else wall
        self.link = BrokerLink(False, since, self._setup.broker.alarm_after_s)


@dataclass(frozen=True, slots=True)
class _HandedOver:
    """A batch of a process, not taken by the pipeline yet."""

    process: _Process
    life: int
    number: int
    batch: Batch
    size: int
    """[bytes]"""

    def acknowledge(self) -> None:
        self.process.acknowledge(self.life, self.number)


@dataclass
class _Held:
    """A batch that waits for its time."""

    batch: Batch
    safe: Callable[[], None]


@dataclass
class _Sums:
    messages: int = 0
    bytes: int = 0
    connects: int = 0
    sessions_lost: int = 0

    def add(self, status: BrokerStatus, later_life: bool) -> None:
        self.messages += status.messages
        self.bytes += status.bytes
        self.connects += status.connects
        self.sessions_lost += status.sessions_lost + (later_life and status.resumed is False)


@dataclass
class _Retiring:
    """A session of a process that there is no longer."""

    broker: int
    number: int
    receiver: Receiver
    filters: tuple[str, ...]
    begun: bool = False
    last: float = 0.0

    def begin(self, name: str) -> None:
        self.receiver.leave(name, self.filters)
        self.receiver.start()
        self.begun, self.last = True, time.monotonic()

    def is_empty(self, name: str) -> bool:
        if not self.begun:
            return False
        if not self.receiver.has_left(name) or not self.receiver.status()[0].connected:
            self.last = time.monotonic()
        return time.monotonic() - self.last > QUIET_S


def _recall(path: Path | None) -> dict[str, int]:
    """Client id of a broker's settings → most processes it may have sessions of."""
    if path is None or not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(client): int(n) for client, n in found.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        log.warning("%s can't be read (%s): sessions of former processes may be left at the brokers", path, error)
        return {}


def _readings_alone(batch: Batch, observations: Observations) -> Batch:
    """Some readings of a batch whose other content comes with the rest of it."""
    nobody = tuple(0 for _ in batch.messages_by_broker)
    return replace(
        batch,
        observations=observations,
        dead_letters=[],
        messages=0,
        messages_by_broker=nobody,
        presences=(),
        receipts=[],
    )


def _through(batch: Batch, broker: int, brokers: int) -> Batch:
    """The batch of a receiver that has one broker, which is the pipeline's number ``broker`` of so many."""
    o = batch.observations
    return replace(
        batch,
        observations=replace(o, broker=np.full(len(o), broker, dtype=np.uint8)),
        messages_by_broker=tuple(batch.messages if i == broker else 0 for i in range(brokers)),
    )


def _joined_link(links: Sequence[BrokerLink]) -> BrokerLink:
    """Heard while all are, since the last one is; not heard since the first one is not."""
    lost = [link for link in links if not link.connected]
    times = [link.since for link in lost or links]
    known = [t for t in times if t is not None]
    since = None if len(known) < len(times) else (min(known) if lost else max(known))
    return BrokerLink(not lost, since, links[0].alarm_after_s)


def _joined_status(statuses: Sequence[BrokerStatus]) -> BrokerStatus:
    own = statuses[0]
    link = _joined_link([BrokerLink(s.connected, s.since_ns) for s in statuses])
    troubled = max(statuses, key=lambda s: (not s.connected and s.last_error is not None, s.last_error_ns or 0))
    resumed = [s.resumed for s in statuses if s.resumed is not None]
    return replace(
        own,
        connected=link.connected,
        since_ns=link.since,
        last_error=troubled.last_error,
        last_error_ns=troubled.last_error_ns,
        messages=sum(s.messages for s in statuses),
        bytes=sum(s.bytes for s in statuses),
        connects=sum(max(0, s.connects - 1) for s in statuses) + all(s.connects for s in statuses),
        resumed=all(resumed) if resumed else None,
        sessions_lost=sum(s.sessions_lost for s in statuses),
        waiting_bytes=sum(s.waiting_bytes for s in statuses),
        waiting_messages=sum(s.waiting_messages for s in statuses),
    )
