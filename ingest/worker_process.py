"""A process that receives and decodes a share of one broker's messages for the pipeline (``ingest.workers``).

It is a ``Receiver`` with a session of its own; each batch goes over a pipe to the pipeline, which journals it and then
says that it may be acknowledged. It keeps nothing: if it dies, the broker sends again what was not acknowledged; if the
pipeline dies, the pipe ends and so does this process. What travels is pickled: both ends are one program.
"""

from __future__ import annotations

import logging
import pickle
import signal
import threading
import time
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection as Pipe

from ingest.connection import BrokerStatus
from ingest.receiver import Batch, Receiver
from ingest.settings import BrokerSettings, ClockSource, Limits
from telemetry.brokers import BrokerLink
from telemetry.directory import Directory

STATUS_S = 0.25
"""How often it tells how it is doing, at least."""
_POLL_S = 0.1


@dataclass(frozen=True)
class Setup:
    """The first thing a process is told: what to receive."""

    broker: BrokerSettings
    """With the client id of this process."""
    filters: tuple[str, ...]
    limits: Limits
    city: str
    clock_source: ClockSource
    now_ns: int | None
    """Where the broker's clock goes on from; None: it has not spoken. [ns since 1970 UTC]"""
    heard_since_ns: int | None = None
    """Since when the session has been heard, by the broker's clock, if it was. [ns since 1970 UTC]"""


@dataclass(frozen=True)
class UseDirectory:
    """Decode by this directory from now on."""

    content: bytes
    """From ``Directory.to_bytes``."""


@dataclass(frozen=True)
class Safe:
    """The batch with this number is in the journal: acknowledge it."""

    number: int


@dataclass(frozen=True)
class Close:
    """Acknowledge what was said to be safe, disconnect, and end."""


@dataclass(frozen=True)
class Told:
    """What the process tells: a batch, if one came, and how it is doing."""

    number: int
    """Of the batch."""
    batch: Batch | None
    """Without receipts: these stay here."""
    status: BrokerStatus
    link: BrokerLink
    clock_speed: float
    clock_steps_back: int


def main(descriptor: int) -> None:
    """Run on the pipe with this file descriptor until told to close, or until the pipeline is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all: the pipeline closes us when it is done
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with Pipe(descriptor) as pipe:
        try:
            setup = pickle.loads(pipe.recv_bytes())
            assert isinstance(setup, Setup)
            _Worker(setup, pipe).run()
        except (EOFError, OSError):
            pass  # the pipeline is gone; the broker keeps what was not acknowledged


class _Worker:
    """The process's two threads: one receives and hands over, the other hears what the pipeline says."""

    def __init__(self, setup: Setup, pipe: Pipe) -> None:
        self._setup, self._pipe = setup, pipe
        self._receiver = Receiver(
            [setup.broker],
            setup.limits,
            city=setup.city,
            clock_source=setup.clock_source,
            filters={setup.broker.name: setup.filters},
            counts_clock=False,
        )
        if setup.heard_since_ns is not None:
            self._receiver.go_on_listening(setup.heard_since_ns)
        self._directory: Directory | None = None
        self._ready, self._closing = threading.Event(), threading.Event()
        self._open: dict[int, Batch] = {}
        """Handed over and not known to be safe yet."""
        self._gone = False

    def run(self) -> None:
        threading.Thread(target=self._hear, name="pipeline", daemon=True).start()
        self._ready.wait()
        self._receiver.start()
        try:
            self._hand_over()
        finally:
            if not self._gone:
                self._receiver.close()

    def _hand_over(self) -> None:
        number, told_at, told = 0, 0.0, None
        by_broker = self._setup.clock_source is ClockSource.BROKER
        while not self._closing.is_set():
            assert self._directory is not None
            now = self._setup.now_ns if by_broker else time.time_ns()
            batch = self._receiver.poll(self._directory, now, _POLL_S)
            status, link = self._receiver.status()[0], self._receiver.brokers[0]
            state = (status.connected, status.since_ns, status.last_error_ns, link)
            if batch is None and state == told and time.monotonic() - told_at < STATUS_S:
                continue
            told, told_at = state, time.monotonic()
            if batch is not None:
                number += 1
                self._open[number] = batch
                batch = replace(batch, receipts=[])
            self._pipe.send_bytes(
                pickle.dumps(
                    Told(number, batch, status, link, self._receiver.clock_speed, self._receiver.clock_steps_back),
                    protocol=5,
                )
            )

    def _hear(self) -> None:
        try:
            while True:
                said = pickle.loads(self._pipe.recv_bytes())
                if isinstance(said, Safe):
                    self._receiver.acknowledge(self._open.pop(said.number))
                elif isinstance(said, UseDirectory):
                    self._directory = Directory.from_bytes(said.content)
                    self._ready.set()
                elif isinstance(said, Close):
                    break
        except (EOFError, OSError):
            self._gone = True
        except Exception:
            logging.getLogger(__name__).exception("the pipeline can't be understood")
        finally:
            self._closing.set()
            self._ready.set()
