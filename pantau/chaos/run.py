"""One pass: the fleet is sent once through broker and pipeline into a store, with faults on the way.

The fleet's time is data: it is told through the broker, after all readings up to it. So however long a fault lasts,
what is to come out is the same.
"""

from __future__ import annotations

import contextlib
import logging
import random
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from devices.registry import Registry
from pantau.chaos.comparing import Stored, read_back
from pantau.chaos.faults import SENDER_KINDS, Fault, Kind
from pantau.chaos.fleet import FleetScript
from pantau.chaos.link import Link
from pantau.chaos.sender import InterruptedSendError, Message, Sender
from pantau.chaos.servers import Broker, Disk, Influx, PipelineProcess, tail
from pantau.ports import free_port
from pantau.startup import StartupError
from storage.embedded import EmbeddedStore
from storage.influx import InfluxStore
from storage.settings import StoreSettings

log = logging.getLogger(__name__)

DATABASE = "chaos"
_PATIENCE_S = 120.0
_SETTLED_S = 2.5
"""The broker saves its queues every second, and is killed once these were short for so long."""
_RING_MIN = 20
"""How far back old messages are sent again: the core remembers the newest 32 times of each datastream."""


@dataclass
class Outcome:
    """What came out of a pass."""

    stored: Stored
    injected: list[Fault] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    """What must not happen, whatever the fault."""
    ended_while_full: int = 0
    """Times that the pipeline ended by itself because its disk was full."""
    messages: int = 0
    """Messages that the broker acknowledged to the devices, those sent again included."""
    seconds: float = 0.0


def prepare_registry(script: FleetScript, path: Path) -> None:
    """Register the fleet once; each pass begins with a copy."""
    with contextlib.closing(Registry(f"sqlite:///{path}")) as registry:
        registry.save(
            city=script.city,
            utc_offset_h=script.utc_offset_h,
            sites=list(script.sites),
            devices=list(script.devices),
            datastreams=list(script.datastreams),
        )


class PassRun:
    """Everything that runs in one pass."""

    def __init__(
        self, script: FleetScript, registry: Path, folder: Path, store: str, faults: Sequence[Fault], pace_s: float
    ) -> None:
        self._script = script
        self._folder = folder
        self._faults = list(faults)
        self._pace_s = pace_s if faults else 0.0
        self._injected: list[Fault] = []
        self._trouble: list[str] = []
        self._tick = 0
        self._moved = threading.Condition()
        self._over = False
        self._resume = threading.Event()
        self._locks = {name: threading.Lock() for name in ("pipeline", "broker", "store", "disk", "clock")}
        self._locks |= {name: threading.Lock() for name in ("pipeline link", "devices link", "store link")}
        self._stack = contextlib.ExitStack()
        try:
            self._open(registry, store)
        except BaseException:
            self._stack.close()
            raise

    def _open(self, registry: Path, store: str) -> None:
        folder, stack = self._folder, self._stack
        folder.mkdir(parents=True)
        self.disk = Disk(folder / "data")
        stack.callback(self.disk.close)
        for file in registry.parent.glob(f"{registry.name}*"):
            shutil.copy(file, folder / "data" / file.name)
        self.broker = Broker(folder / "broker", free_port())
        stack.callback(self.broker.kill)
        self.broker.start()
        _wait_for_port(self.broker.port, self.broker)
        self.pipeline_link = stack.enter_context(Link(self.broker.port))
        self.devices_link = stack.enter_context(Link(self.broker.port))
        self.influx: Influx | None = None
        lines = ['kind = "embedded"']
        if store == "influxdb":
            port = free_port()
            self.influx = Influx(folder / "influxdb", port, free_port())
            stack.callback(self.influx.kill)
            self.influx.start()
            self.influx.wait_until_it_answers()
            self.store_link = stack.enter_context(Link(port))
            url = f"http://127.0.0.1:{self.store_link.port}"
            lines = ['kind = "influxdb"', f'url = "{url}"', 'api = "v1"', f'bucket = "{DATABASE}"', "timeout_s = 2.0"]
        page_port = free_port()
        config = folder / "pantau.toml"
        config.write_text(
            _CONFIG.format(
                city=self._script.city,
                folder=folder / "data",
                port=self.pipeline_link.port,
                page=page_port,
                store="\n".join(lines),
            ),
            encoding="utf-8",
        )
        clock_file = folder / "clock" if any(f.kind == Kind.SYSTEM_CLOCK for f in self._faults) else None
        self._clock_file = clock_file
        self.pipeline = PipelineProcess(config, page_port, self.disk, folder / "pipeline", clock_file)
        stack.callback(self.pipeline.close)
        self.sender = Sender(self.devices_link.port, "devices")
        stack.callback(self.sender.close)

    # ------------------------------------------------------------------------------------------------------- one pass

    def run(self) -> Outcome:
        """Send the whole fleet, with all faults, and read back what is stored. Call it once."""
        began = time.monotonic()
        with self._stack:
            self.pipeline.start()
            # Its session must be there before anything is published: from then on the broker keeps what it misses.
            self._wait(self.pipeline.listens, "the pipeline to listen")
            log.info("the pipeline listens after %.1f s", time.monotonic() - began)
            struck = [f for f in self._faults if f.kind not in SENDER_KINDS]
            workers = [
                threading.Thread(target=self._inject, args=(f,), name=f"fault-{f.number}", daemon=True) for f in struck
            ]
            for worker in workers:
                worker.start()
            self._send_fleet([(w, f) for w, f in zip(workers, struck, strict=True) if f.kind == Kind.BROKER_KILLED])
            self._move()
            log.info("all is sent after %.1f s", time.monotonic() - began)
            for worker in workers:
                worker.join(_PATIENCE_S)
            log.info("all faults are over after %.1f s", time.monotonic() - began)
            self._trouble += self._catch_up()
            log.info("all is stored after %.1f s", time.monotonic() - began)
            self._injected += [f for f in self._faults if f.kind in SENDER_KINDS]
            stored = self._read_back()
            self._trouble += self.pipeline.ended
            return Outcome(
                stored=stored,
                injected=sorted(self._injected, key=lambda f: f.number),
                trouble=self._trouble,
                ended_while_full=self.pipeline.ended_while_full,
                messages=self.sender.acknowledged,
                seconds=time.monotonic() - began,
            )

    def _catch_up(self) -> list[str]:
        """Wait until all is stored, and stop the pipeline."""
        end_ms = self._script.ticks[-1].clock_ms

        def done() -> bool:
            status = self.pipeline.status()
            return bool(
                status
                and status["clock"]["now_ms"] >= end_ms
                and status["store"]
                and status["store"]["backlog_rows"] == 0
            )

        try:
            self._wait(done, "the pipeline to catch up")
        except StartupError as error:
            return [f"{error} (its clock is at {self.pipeline.now_ms}, the end is {end_ms}): {self.pipeline.status()}"]
        code = self.pipeline.stop(signal.SIGINT)
        return [f"at the end the pipeline stopped with code {code}: {tail(self.pipeline.log)}"] if code else []

    def _read_back(self) -> Stored:
        names = [d.id for d in self._script.datastreams]
        if self.influx is not None:
            self.influx.wait_until_it_answers()
            settings = StoreSettings(kind="influxdb", url=self.influx.url, api="v1", bucket=DATABASE, timeout_s=30.0)
            with contextlib.closing(InfluxStore(settings)) as influx:
                return read_back(influx, names)
        self.pipeline.kill()
        with contextlib.closing(EmbeddedStore(self._folder / "data" / "store", read_only=True)) as embedded:
            return read_back(embedded, names)

    def _wait(self, condition: Callable[[], bool], what: str, timeout_s: float = _PATIENCE_S) -> None:
        until = time.monotonic() + timeout_s
        while not condition():
            if self.pipeline.given_up:
                raise StartupError(f"the pipeline ended by itself again and again: {self.pipeline.ended[-1]}")
            if time.monotonic() > until:
                raise StartupError(f"waited {timeout_s:g} s for {what}: {tail(self.pipeline.log)}")
            time.sleep(0.1)

    # -------------------------------------------------------------------------------------------------------- sending

    def _send_fleet(self, broker_kills: Sequence[tuple[threading.Thread, Fault]]) -> None:
        """Send all minutes; devices wait for a broker that is to be killed if that takes long."""
        ticks = self._script.ticks
        begin = self._script.clock(self._script.start_ms)
        while not self._finished():
            for worker, fault in broker_kills:
                if worker.is_alive() and fault.tick + 8 <= self._tick < len(ticks):
                    told_ms = ticks[self._tick].clock_ms
                    if not self._script.pending_within(told_ms - 13 * 60_000, told_ms + 3 * 60_000):
                        worker.join(60)
            try:
                if self._tick == 0:
                    self.sender.send([begin])
                self.sender.send(self._messages(self._tick) if self._tick < len(ticks) else [])
                if self.sender.interrupt.is_set():
                    raise InterruptedSendError
            except InterruptedSendError:
                # The broker was killed: what it held is lost, though acknowledged. Devices begin again behind what the
                # pipeline is known to have.
                self._resume.wait(_PATIENCE_S)
                self._resume.clear()
                self.sender.interrupt.clear()
                has = self.pipeline.now_ms
                self._tick = next((i for i, t in enumerate(ticks) if t.clock_ms > has), len(ticks))
                continue
            self._tick = min(self._tick + 1, len(ticks))
            self._move()
            if self._pace_s:
                time.sleep(self._pace_s)

    def _finished(self) -> bool:
        with self._moved:
            self._over = self._tick >= len(self._script.ticks) and not self.sender.interrupt.is_set()
            return self._over

    def _messages(self, tick: int) -> list[Message]:
        """What is sent in a minute, faults of sending included: the same whenever it is asked."""
        script, ticks = self._script, self._script.ticks
        sent: list[Message] = list(ticks[tick].messages)
        before: list[Message] = []
        clock: list[Message] = [script.clock(ticks[tick].clock_ms)]
        mixing = {tick - f.tick: f for f in self._faults if f.kind == Kind.INTERLEAVED and 0 <= tick - f.tick < 4}
        if 0 in mixing:
            sent = _mixed([m for t in ticks[tick : tick + 4] for m in t.messages], random.Random(mixing[0].luck))
        elif mixing:
            sent = []  # these are sent already
        for fault in self._faults:
            age = tick - fault.tick
            chance = random.Random(fault.luck)
            if fault.kind == Kind.SENT_TWICE and 0 <= age < 3:
                sent = [m for m in sent for _ in range(2)] if fault.luck % 2 else sent + sent
            elif fault.kind == Kind.SENT_AGAIN and age == 0:
                old = [m for t in ticks[max(tick - _RING_MIN, 0) : tick] for m in t.messages]
                devices = sorted({m[0] for m in old})
                chosen = set(chance.sample(devices, max(len(devices) // 3, 1))) if devices else set()
                old = [m for m in old if m[0] in chosen]
                chance.shuffle(old)
                before += old
            elif fault.kind == Kind.CLOCK_BACK and 0 <= age < 3:
                clock.append(script.clock(ticks[tick].clock_ms - chance.choice([1000, 60_000, 3_600_000, 86_400_000])))
            elif fault.kind == Kind.CLOCK_AHEAD and age == 0:
                clock.append(script.clock(ticks[tick].clock_ms + 4000))
            elif fault.kind == Kind.CLOCK_STOPS and 0 <= age < 3 and tick < len(ticks) - 1:
                clock = []
        return before + sent + clock

    # ---------------------------------------------------------------------------------------------------------- faults

    def _move(self) -> None:
        with self._moved:
            self._moved.notify_all()

    def _until_tick(self, tick: int, timeout_s: float = _PATIENCE_S) -> None:
        with self._moved:
            self._moved.wait_for(lambda: self._over or self._tick >= tick, timeout_s)

    def _hold(self, fault: Fault) -> None:
        """For some minutes of the fleet, but not for ever if these do not pass."""
        self._until_tick(fault.tick + fault.hold_ticks, 20.0)

    def _inject(self, fault: Fault) -> None:
        self._until_tick(fault.tick)
        time.sleep(fault.delay_s)
        try:
            with self._locks[_TARGETS[fault.kind]]:
                self._injected.append(fault)
                log.info("minute %d: fault %d, %s", self._tick, fault.number, fault.kind)
                self._strike(fault)
        except Exception as error:
            self._trouble.append(f"the fault {fault.number} ({fault.kind}) could not be made: {error!r}")

    def _strike(self, fault: Fault) -> None:
        match fault.kind:
            case Kind.PIPELINE_KILLED:
                self.pipeline.kill()
                time.sleep(fault.hold_s)
                self.pipeline.start()
            case Kind.PIPELINE_KILLED_STARTING:
                self.pipeline.kill()
                self.pipeline.start()
                time.sleep(random.Random(fault.luck).uniform(0.3, 3.0))
                self.pipeline.kill()
                self.pipeline.start()
            case Kind.PIPELINE_RESTARTED:
                # It may still be loading, and not heed signals yet: then it ends by the signal, as any program does.
                if (code := self.pipeline.stop()) not in (0, -signal.SIGTERM):
                    self._trouble.append(f"told to stop, the pipeline ended with {code}: {tail(self.pipeline.log)}")
                self.pipeline.start()
            case Kind.PIPELINE_FROZEN:
                self.pipeline.freeze()
                time.sleep(fault.hold_s)
                self.pipeline.thaw()
            case Kind.BROKER_KILLED:
                self._kill_broker(fault)
            case Kind.BROKER_RESTARTED:
                self.broker.stop()
                time.sleep(fault.hold_s)
                self.broker.start()
                _wait_for_port(self.broker.port, self.broker)
            case Kind.BROKER_FROZEN:
                self.broker.freeze()
                time.sleep(fault.hold_s)
                self.broker.thaw()
            case Kind.DISK_FULL:
                self._fill_disk(fault)
            case Kind.SYSTEM_CLOCK:
                assert self._clock_file is not None
                for jump_days in (1, -3, 40, -0.05, 0):
                    self._clock_file.write_text(f"{jump_days * 86_400}\n")
                    time.sleep(0.4)
            case Kind.STORE_KILLED | Kind.STORE_AWAY | Kind.STORE_FROZEN:
                self._strike_store(fault)
            case _:
                self._strike_link(fault)

    def _kill_broker(self, fault: Fault) -> None:
        # After a kill the broker may have forgotten the pipeline's session, and the pipeline knows that it was deaf: a
        # device that is quiet just then is given its whole time again. So not while a silence is to become an alarm.
        # And what the broker saved last must not be far behind: it comes again, and what is older than the newest 32
        # readings of a datastream is no longer known as a duplicate.
        until, close_since = time.monotonic() + 80, time.monotonic()
        ticks = self._script.ticks
        while time.monotonic() - close_since < _SETTLED_S:
            if self._over or time.monotonic() > until:
                self._injected.remove(fault)
                return
            sent_ms = ticks[min(self._tick, len(ticks) - 1)].clock_ms
            far = sent_ms - self.pipeline.now_ms > 10 * 60_000
            if far or self._script.pending_within(self.pipeline.now_ms - 2 * 60_000, sent_ms + 2 * 60_000):
                close_since = time.monotonic()
            time.sleep(0.02)
        with self._moved:
            if self._over:  # nobody is left to send again
                self._injected.remove(fault)
                return
            self.sender.interrupt.set()
        self.broker.kill()
        time.sleep(fault.hold_s)
        self.broker.start()
        _wait_for_port(self.broker.port, self.broker)
        # Before somebody has subscribed, a broker without sessions throws away whatever it is sent.
        self._wait(self.broker.has_subscriber, "the pipeline to subscribe again")
        # Devices begin again where the pipeline is: so let it take first what the broker had saved of its queue.
        same, before = 0, -1
        while same < 4 and time.monotonic() < until:
            listens = self.pipeline.listens()
            same = same + 1 if listens and before == self.pipeline.now_ms else 0
            before = self.pipeline.now_ms
            time.sleep(0.4)
        self._resume.set()

    def _fill_disk(self, fault: Fault) -> None:
        end = threading.Event()

        def keep_full() -> None:
            while not end.wait(0.05):
                self.disk.fill(self.pipeline.pid)

        worker = threading.Thread(target=keep_full, daemon=True)
        worker.start()
        self._hold(fault)
        time.sleep(fault.hold_s)
        end.set()
        worker.join()
        self.disk.make_room(self.pipeline.pid)

    def _strike_store(self, fault: Fault) -> None:
        assert self.influx is not None
        if fault.kind == Kind.STORE_FROZEN:
            self.influx.freeze()
            time.sleep(fault.hold_s)
            self.influx.thaw()
            return
        self.influx.kill()
        if fault.kind == Kind.STORE_AWAY:
            self._hold(fault)
        else:
            time.sleep(fault.hold_s)
        self.influx.start()
        self.influx.wait_until_it_answers()

    def _strike_link(self, fault: Fault) -> None:
        link = {"pipeline link": self.pipeline_link, "devices link": self.devices_link}.get(_TARGETS[fault.kind])
        link = link or self.store_link
        chance = random.Random(fault.luck)
        if fault.kind.name.endswith("RESET"):
            for _ in range(chance.randint(1, 4)):
                link.reset()
                time.sleep(chance.uniform(0.0, 0.3))
            return
        if fault.kind == Kind.ANSWERS_LOST:
            link.swallow_answers()
        elif fault.kind.name.endswith("CUT"):
            link.cut()
        elif fault.kind.name.endswith("STALLED"):
            link.stall()
        else:
            link.slow(chance.uniform(0.005, 0.1), chance.choice([20_000, 100_000, 1_000_000]))
        time.sleep(fault.hold_s)
        link.heal()


def _target(kind: Kind) -> str:
    """Two faults of one target do not overlap; all others may."""
    for prefix, target in (
        ("PIPELINE_LINK", "pipeline link"),
        ("DEVICES_LINK", "devices link"),
        ("STORE_LINK", "store link"),
        ("ANSWERS", "devices link"),
        ("PIPELINE", "pipeline"),
        ("BROKER", "broker"),
        ("STORE", "store"),
        ("DISK", "disk"),
    ):
        if kind.name.startswith(prefix):
            return target
    return "clock"


_TARGETS = {kind: _target(kind) for kind in Kind}


def _mixed(messages: Sequence[Message], chance: random.Random) -> list[Message]:
    """In any order among devices, but each device's own in their order."""
    order = [m[0] for m in messages]
    chance.shuffle(order)
    queues: dict[str, list[Message]] = {}
    for message in reversed(messages):
        queues.setdefault(message[0], []).append(message)
    return [queues[topic].pop() for topic in order]


def _wait_for_port(port: int, server: Broker) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.02)
    raise StartupError(f"{server.name} does not listen: {tail(server.log)}")


_CONFIG = """\
[city]
name = "{city}"
[clock]
source = "broker"
[data]
folder = "{folder}"
snapshot_interval_s = 0.7
[[broker]]
name = "main"
host = "127.0.0.1"
port = {port}
keep_alive_s = 2
connect_timeout_s = 2.0
backoff_first_s = 0.05
backoff_max_s = 0.3
[limits]
max_batch_messages = 300
max_future_s = 3600.0
[store]
{store}
[store.writer]
flush_interval_s = 0.2
retry_first_s = 0.1
retry_max_s = 0.5
[page]
port = {page}
access = "open"
"""
