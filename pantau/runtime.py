"""The pipeline: joins brokers, journal, core, store and page, and keeps them in step.

One thread runs the loop: poll the brokers, journal the batch, acknowledge it, step the core, hand the results on.
A killed pipeline opens its last snapshot and replays the journal from there: the core decides by its inputs alone, and
these are all in the journal.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from dashboards.operator.health import BrokerStatus, DeviceAccount, HealthStatus, StoreStatus
from dashboards.operator.live import LiveCity
from devices.errors import DevicesError
from devices.fleet import Fleet
from devices.registry import Registry
from ingest.connection import BrokerStatus as Broker
from ingest.dead_letters import DeadLetters
from ingest.errors import DeadLettersFullError, JournalFullError
from ingest.journal import Journal
from ingest.receiver import Batch, Receiver
from ingest.settings import ClockSource
from ingest.steps import STEP, decode_step, encode_step
from pantau.history import alarm_history, chart
from pantau.logins import issuer_of, prepare
from pantau.pages import pages
from pantau.settings import ConfigurationError, PageAccess, Settings
from pantau.snapshot import Snapshot
from pantau.startup import StartupError
from pantau.watching import FleetWatch
from processing.core import State, step
from storage.embedded import EmbeddedStore
from storage.errors import SpoolFull
from storage.influx import InfluxStore
from storage.settings import StoreKind
from storage.store import PipelineStatus, Store, StoredBatch
from storage.writer import StoreWriter
from telemetry.alarms import Acknowledge
from telemetry.brokers import UNKNOWN_BROKER
from telemetry.directory import Directory
from telemetry.observations import NS_PER_S, Observations, rfc3339
from telemetry.results import Results, Transitions, Windows
from web.accounts import Accounts
from web.login import KnownAccounts
from web.passwords import setup_code
from web.server import Server, serve

log = logging.getLogger(__name__)

DIRECTORY = 2
"""Kind of the journal's frame that holds a new directory (``ingest.steps.STEP`` is the other kind)."""
TICK_S = 1.0
"""Without any message the core is stepped this often, so that silence and delays are noticed."""
POLL_S = 0.1
HEALTH_S = 0.5
STATUS_S = 10.0
"""How often the pipeline's own state is stored. [s of wall time]"""
EVERYTHING_NS = (0, 2**62)

POSITIONS_APART = 2**40
"""A journal that replaces a lost one begins at the next multiple of this."""

Say = Callable[[str], None]
T = TypeVar("T")


class _StoppedError(Exception):
    """Told to stop while waiting for room."""


def open_store(settings: Settings, *, read_only: bool = False) -> Store:
    """The store that the settings name; read-only beside the pipeline that writes to it."""
    if settings.store.kind == StoreKind.EMBEDDED:
        return EmbeddedStore(settings.store.folder, read_only=read_only)
    return InfluxStore(settings.store)


def read_basemap(path: str) -> dict[str, Any]:
    """The GeoJSON file that is drawn under the sites. Raises ConfigurationError."""
    try:
        found: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"page.basemap: {path} can't be read as GeoJSON: {error}") from error
    return found


def _trouble(broker: Broker) -> str:
    """What is or was wrong with a broker, for a person."""
    if broker.sessions_lost:
        return (
            f"it forgot our session {broker.sessions_lost} times: what was sent while we were away is lost; "
            "switch on its persistence"
        )
    return broker.last_error or ""


@dataclass
class Counts:
    """What went through since the start."""

    messages: int = 0
    readings: int = 0
    duplicates: int = 0
    late: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    received_by: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """(devices,)"""
    duplicates_by: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    late_by: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def grow(self, devices: int) -> None:
        """Make room for new devices."""
        for name in ("received_by", "duplicates_by", "late_by"):
            have = getattr(self, name)
            setattr(self, name, np.concatenate([have, np.zeros(devices - have.size, dtype=np.int64)]))

    def take(self, batch: Batch, results: Results, directory: Directory) -> None:
        """Add one step."""
        self.refuse(batch)
        self.readings += len(batch.observations)
        self.duplicates += results.duplicates.size
        self.late += results.late.size
        n = self.received_by.size
        came = batch.observations
        for count, device in (
            (self.received_by, directory.installed.device_at(came.datastream, came.observed_at)),
            (self.duplicates_by, results.duplicate_devices),
            (self.late_by, results.late_devices),
        ):
            if device.size:
                count += np.bincount(device[device >= 0], minlength=n)

    def refuse(self, batch: Batch) -> None:
        """Add the messages of a batch, and what of them was refused."""
        self.messages += batch.messages
        for letter in batch.dead_letters:
            self.refused[letter.reason] = self.refused.get(letter.reason, 0) + 1


class Pipeline:
    """Everything that runs for one city. ``start``, then ``run`` until told to stop, then ``close``."""

    def __init__(self, settings: Settings, say: Say = log.info, basemap: dict[str, Any] | None = None) -> None:
        self.settings = settings
        self._basemap = basemap
        self.live = LiveCity()
        self.counts = Counts()
        self.page: Server | None = None
        self.accounts: KnownAccounts | None = None
        self._say = say
        self._folder = settings.data.folder
        self._closers: list[Callable[[], None]] = []
        self._actions: deque[Acknowledge] = deque()
        self._lock = threading.Lock()
        self._now: int | None = None
        self._latency_s: deque[float] = deque(maxlen=1000)
        self._rate: deque[tuple[float, int, int]] = deque(maxlen=21)
        self._last_step_at = self._last_health_at = self._last_status_at = self._last_version_at = 0.0
        self._last_snapshot_at = time.monotonic()
        self._waiting_snapshot: tuple[Snapshot, int] | None = None
        self._last_put = -1
        self._registry_trouble = ""
        self._stopping = threading.Event()
        self._complete = True
        """Whether the core has taken in all that is in the journal; if not, its state is not fit to be saved."""

    # ---------------------------------------------------------------------------------------------------- starting

    def start(self) -> None:
        """Open everything, bring the core up to the end of the journal, connect, and serve the page.

        Raises
        ------
        OSError, ingest.errors.IngestError, web.server.ListenError, and the errors of registry and store
            With a sentence for the person who starts it. What was opened is closed again.
        """
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        data = self.settings.data
        if self.settings.page.basemap:
            self._basemap = read_basemap(self.settings.page.basemap)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._say("opening registry, store and journal")
        self.registry = Registry(data.registry, clock=self._clock)
        self._closers.append(self.registry.close)
        if self.registry.city() is None:
            self.registry.put_city(self.settings.city.name, self.settings.city.utc_offset_h, by="setup")
        self.dead_letters = DeadLetters(self._folder / "dead_letters.sqlite")
        self._closers.append(self.dead_letters.close)
        self.store = open_store(self.settings)
        self._closers.append(self.store.close)
        self.watch = FleetWatch(
            self.dead_letters,
            now=self._clock,
            clock_speed=lambda: self.receiver.clock_speed if hasattr(self, "receiver") else 1.0,
            silent=self._silent_devices,
        )
        self._resume()
        self._use(self.registry.directory() if self.registry.version() else self.directory)
        self._check_ahead()
        self.live.set_clock(str(self.settings.clock.source), self._now or 0, 1.0)
        self.live.restore(self.state.latest(), self.state.open_alarms(self.directory))
        self.live.set_series_source(lambda *span: chart(self.store, self.directory, *span))
        self.live.set_alarm_history_source(lambda *span: alarm_history(self.store, self.directory, *span))
        self.live.set_account_source(self.account)
        self.live.set_acknowledge(self._take_acknowledgement)
        page = self.settings.page
        self.watch.observe(self.state.latest())
        issuer = issuer_of(self.settings)
        fleet = Fleet(self.registry, issuer, self.watch, self._basemap)
        app = pages(self.live, self._open_accounts(), fleet, allowed_hosts=page.allowed_hosts)
        self.page = serve(app, page.host, page.port)
        self._closers.append(self.page.stop)
        if self.accounts is not None and self.accounts.setup_code:
            self._say(
                f"There are no accounts yet: open {self.page.url}/setup and enter this one-time code: "
                f"{self.accounts.setup_code}"
            )
        self.receiver = Receiver(
            self.settings.brokers,
            self.settings.limits,
            city=self.settings.city.name,
            clock_source=self.settings.clock.source,
        )
        self._closers.append(self.receiver.close)
        self.receiver.start()
        self.watch.logins.follow(self.settings.brokers)
        self._closers.append(self.watch.logins.close)
        if issuer is not None:
            prepare(issuer, self._say)

    def _open_accounts(self) -> KnownAccounts | None:
        """The accounts, with a one-time code if there are none yet; None if the pages are open."""
        if self.settings.page.access is PageAccess.OPEN:
            return None
        accounts = Accounts(self.settings.data.accounts)
        self._closers.append(accounts.close)
        self.accounts = KnownAccounts(accounts, setup_code() if accounts.empty() else "")
        return self.accounts

    def _resume(self) -> None:
        """Bring the core to where it was: last snapshot, then the rest of the journal."""
        snapshot = Snapshot.read(self._folder / "snapshot.bin")
        saved = 0 if snapshot is None else snapshot.position
        # A new journal must not give positions again that rows of the store came from.
        used = max(self.store.last_position(), saved - 1)
        first = (used // POSITIONS_APART + 1) * POSITIONS_APART
        self.journal = Journal(self._folder / "journal", first_position=first)
        self._closers.append(self.journal.close)
        if saved > self.journal.end:
            raise StartupError(
                f"the journal in {self._folder / 'journal'} ends before the saved state in snapshot.bin: it is an "
                "older one. Put the right one back, or move both away to begin with an empty core; what is stored stays"
            )
        position = max(saved, self.journal.start)
        if snapshot is None:
            self.directory = Directory(0, self.settings.city.name, self.settings.city.utc_offset_h, (), (), ())
            self.state = State.for_directory(self.directory)
        else:
            self.directory, self.state = snapshot.core()
            self._now = snapshot.now
            if position > saved:
                self._say("the journal since the saved state is gone: what only it held is not taken again")
        # Only what the journal can give again is forgotten.
        self.store.forget_after(position - 1)
        self.writer = StoreWriter(self.store, self._folder / "spool", self.settings.writer, position=position - 1)
        self._closers.append(self.writer.close)
        replayed = 0
        for at, kind, payload in self.journal.read(position):
            if kind == DIRECTORY:
                self._turn_to(Directory.from_bytes(payload))
            elif kind == STEP:
                record = decode_step(payload)
                self._now = record.now_ns
                self.state, results = step(
                    self.state,
                    self.directory,
                    record.observations,
                    record.now_ns,
                    brokers=record.brokers,
                    listening_since=record.listening_since_ns,
                    actions=record.actions,
                )
                self._hand_to_store(at, results)
                replayed += len(record.observations)
        if replayed:
            self._say(f"resumed: {replayed} readings of the journal taken again")

    def _turn_to(self, directory: Directory) -> None:
        """Go on with this directory; brokers may have other numbers in it."""
        self.state = self.state.rewired(self.directory.brokers, directory.brokers)
        self.directory = directory

    def _use(self, directory: Directory) -> None:
        """Go on with another version of the directory, if it is another one.

        Raises
        ------
        ConfigurationError
            It is of another city, or its datastreams and devices are not those that the core knows.
        """
        if directory.city not in ("", self.settings.city.name):
            raise ConfigurationError(
                f"the registry in {self._folder} is of the city {directory.city!r}, "
                f"but city.name in the configuration is {self.settings.city.name!r}"
            )
        # Brokers that are configured no longer keep their names behind the others: their alarms are still to be closed.
        names = [b.name for b in self.settings.brokers]
        names += [name for name in self.directory.brokers if name not in names]
        directory = directory.with_brokers(tuple(names[:UNKNOWN_BROKER]))
        for what in ("datastreams", "devices"):
            known, new = ([x.id for x in getattr(d, what)] for d in (self.directory, directory))
            if new[: len(known)] != known:
                raise ConfigurationError(
                    f"the registry in {self._folder} is not the one that the saved state belongs to: its {what} are "
                    "others. Put the right one back, or move journal and snapshot.bin away to begin with an empty core"
                )
        if directory.to_bytes() != self.directory.to_bytes():
            self.journal.append(DIRECTORY, directory.to_bytes())
            self.journal.commit()
            self._turn_to(directory)
            self.state = self.state.grown_to(directory)
        self.counts.grow(len(self.directory.devices))
        self.live.set_directory(self.directory, self._basemap)
        self.watch.use(self.directory)

    def _check_ahead(self) -> None:
        """Refuse to run by the computer's clock where readings are from its future: newer ones would look old."""
        newest = int(self.state.newest_at.max(initial=0))
        ahead_s = (newest - time.time_ns()) / NS_PER_S
        if self.settings.clock.source == ClockSource.SYSTEM and ahead_s > self.settings.limits.max_future_s:
            raise StartupError(
                f"{self._folder} holds readings up to {rfc3339(newest)}, ahead of this computer's clock: set the clock "
                'right; or, if they are of a simulation, use clock.source = "broker" or another data.folder'
            )

    # ----------------------------------------------------------------------------------------------------- running

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set."""
        self._stopping = stop
        try:
            while not stop.is_set():
                self.work()
        except _StoppedError:
            log.warning("stopped while there was no room on the disk; the brokers keep what was not taken")

    def work(self) -> None:
        """One turn of the loop: at most one batch."""
        monotonic = time.monotonic()
        batch = self.receiver.poll(self.directory, self._present(), POLL_S)
        if batch is not None or self._actions or monotonic - self._last_step_at >= TICK_S:
            self._process(batch)
        if monotonic - self._last_health_at >= HEALTH_S:
            self._last_health_at = monotonic
            self._tell_health(monotonic)
        if monotonic - self._last_version_at >= TICK_S:
            self._last_version_at = monotonic
            self._follow_registry()
        self._keep_snapshots(monotonic)

    def _follow_registry(self) -> None:
        """Take in what was registered or changed since; a registry that fails for a while stops nothing."""
        try:
            if self.registry.version() != self.directory.version:
                self._use(self.registry.directory())
            self._registry_trouble = ""
        except (DevicesError, ConfigurationError) as error:
            if str(error) != self._registry_trouble:
                log.error("the registry can't be followed: %s", error)
            self._registry_trouble = str(error)

    @property
    def now(self) -> int | None:
        """The present of the last step; None if nothing has told the time yet. [ns since 1970 UTC]"""
        return self._now

    def _present(self) -> int | None:
        if self.settings.clock.source == ClockSource.SYSTEM:
            self._now = time.time_ns()
        return self._now

    def _clock(self) -> int:
        """The present for other threads; before anything has told it, this computer's. [ns since 1970 UTC]"""
        system = self.settings.clock.source == ClockSource.SYSTEM
        return time.time_ns() if system or self._now is None else self._now

    def _silent_devices(self) -> list[str]:
        return [str(a["device"]) for a in self.live.alarms() if a["kind"] == "silence" and a["cleared_at"] is None]

    def _process(self, batch: Batch | None) -> None:
        """Journal, acknowledge, step, hand on. Without a batch: let time pass."""
        self._last_step_at = time.monotonic()
        if batch is None:
            observations, brokers = Observations.empty(), self.receiver.brokers
        else:
            observations, brokers = batch.observations, batch.brokers
            if batch.clock is not None:
                self._now = max(batch.clock, self._now or 0)
            self._with_room(lambda: self.dead_letters.keep(batch.dead_letters))
        now = self._present()
        if now is None:  # the broker's clock has not spoken yet; until it does, the receiver takes no reading
            if batch is not None:
                self.receiver.acknowledge(batch)
                self.counts.refuse(batch)
            return
        with self._lock:
            actions = list(self._actions)
            self._actions.clear()
        self._complete = False
        position = self._journal(encode_step(observations, now, actions=actions, brokers=brokers))
        if batch is not None:
            self.receiver.acknowledge(batch)
        self.state, results = step(self.state, self.directory, observations, now, brokers=brokers, actions=actions)
        if batch is not None:
            self.counts.take(batch, results, self.directory)
        self._hand_to_store(position, results)
        self._complete = True
        self.live.set_clock(str(self.settings.clock.source), now, self.receiver.clock_speed)
        self.live.observe(results.readings)
        self.watch.observe(results.readings)
        self.live.transition(results.transitions)
        if len(observations) and self.settings.clock.source == ClockSource.SYSTEM:
            self._latency_s.append((time.time_ns() - int(observations.received_at[0])) / NS_PER_S)

    def _journal(self, record: bytes) -> int:
        """Write a record durably; returns its position."""

        def write() -> int:
            position = self.journal.append(STEP, record)
            self.journal.commit()
            return position

        return self._with_room(write)

    def _with_room(self, write: Callable[[], T]) -> T:
        """Write something; while there is no room for it, wait: what is not acknowledged stays at the broker."""
        warned = False
        while True:
            try:
                return write()
            except (JournalFullError, DeadLettersFullError, SpoolFull) as error:
                if not warned:
                    log.error("%s; nothing is taken from the brokers until there is room", error)
                    warned = True
                if self._stopping.wait(0.5):
                    raise _StoppedError from error

    def _hand_to_store(self, position: int, results: Results) -> None:
        self._put(position, results.readings, results.windows, results.transitions)

    def _put(
        self,
        position: int,
        readings: Observations,
        windows: Windows,
        transitions: Transitions,
        status: tuple[PipelineStatus, ...] = (),
    ) -> None:
        batch = StoredBatch(position, position, self.directory, readings, windows, transitions, status)
        if not batch.rows:
            return
        self._with_room(lambda: self.writer.put(batch))
        self._last_put = position

    def _take_acknowledgement(self, action: Acknowledge, comment: str) -> None:
        with self._lock:
            self._actions.append(
                Acknowledge(action.kind, action.subject, action.raised_at, action.at, action.by, comment)
            )

    # --------------------------------------------------------------------------------------------------- snapshots

    def _keep_snapshots(self, monotonic: float) -> None:
        """Save the state now and then; a snapshot counts only once the store has all that came before it."""
        if self._waiting_snapshot is not None:
            snapshot, needed = self._waiting_snapshot
            if self.writer.stored_position() >= needed:
                snapshot.write(self._folder / "snapshot.bin")
                self._waiting_snapshot = None
                self._drop_journal(snapshot.position)
        elif monotonic - self._last_snapshot_at >= self.settings.data.snapshot_interval_s:
            self._last_snapshot_at = monotonic
            self._waiting_snapshot = (self._snapshot(), self._last_put)

    def _snapshot(self) -> Snapshot:
        return Snapshot(self.journal.end, self._now or 0, self.directory.to_bytes(), self.state.to_bytes())

    def _drop_journal(self, position: int) -> None:
        """Let go of journal segments that are older than ``journal_days`` and that no snapshot needs."""
        oldest_kept_s = time.time() - self.settings.data.journal_days * 86_400
        self.journal.drop_before(min(position, self.journal.position_at(oldest_kept_s)))

    # ------------------------------------------------------------------------------------------------------ telling

    def _tell_health(self, monotonic: float) -> None:
        self._rate.append((monotonic, self.counts.messages, self.counts.readings))
        (t0, m0, r0), (t1, m1, r1) = self._rate[0], self._rate[-1]
        seconds = max(t1 - t0, 1e-9)
        written = self.writer.status()
        health = HealthStatus(
            messages=self.counts.messages,
            readings=self.counts.readings,
            duplicates=self.counts.duplicates,
            late=self.counts.late,
            stored=written.readings_written,
            refused_by_reason=dict(self.counts.refused),
            messages_per_s=(m1 - m0) / seconds,
            readings_per_s=(r1 - r0) / seconds,
            latency_s=float(np.median(self._latency_s)) if self._latency_s else None,
            brokers=tuple(
                BrokerStatus(b.name, b.connected, self._in_our_time(b.since_ns), _trouble(b), b.broker_dropped or 0)
                for b in self.receiver.status()
            ),
            store=StoreStatus(
                str(self.settings.store.kind),
                written.store_available,
                written.backlog_rows,
                written.warning or ("" if written.store_available else written.last_error),
            ),
        )
        self.live.set_health(health)
        if monotonic - self._last_status_at >= STATUS_S and self._now is not None:
            self._last_status_at = monotonic
            status = PipelineStatus(
                at=self._now,
                messages=health.messages,
                readings=health.readings,
                refused=health.refused,
                duplicates=health.duplicates,
                late=health.late,
                stored=health.stored,
                latency_s=health.latency_s or 0.0,
                backlog_rows=written.backlog_rows,
                spool_bytes=written.spool_bytes,
                brokers=len(health.brokers),
                brokers_connected=sum(b.connected for b in health.brokers),
            )
            self._put(max(self._last_put, 0), Observations.empty(), Windows.empty(), Transitions.empty(), (status,))

    def _in_our_time(self, wall_ns: int | None) -> int:
        """A time of the computer's clock in the pipeline's; 0 for none. [ns since 1970 UTC]"""
        if wall_ns is None or self.settings.clock.source == ClockSource.SYSTEM:
            return wall_ns or 0
        return max((self._now or 0) - round((time.time_ns() - wall_ns) * self.receiver.clock_speed), 1)

    def account(self, device: str) -> DeviceAccount:
        """The loss account of one device: since the start of this process, but for what is stored: that is counted."""
        directory, installed = self.directory, self.directory.installed
        index = next(i for i, d in enumerate(directory.devices) if d.id == device)
        stored = 0
        for row in np.flatnonzero(installed.device == index).tolist():
            start, end = (
                max(EVERYTHING_NS[0], int(installed.start[row])),
                min(EVERYTHING_NS[1], int(installed.end[row])),
            )
            if start < end:
                stored += self.store.count_readings(
                    start, end, directory.datastreams[int(installed.datastream[row])].id
                )
        refused = {str(reason): n for reason, n in self.dead_letters.count_for_device(device).items()}
        return DeviceAccount(
            device,
            received=int(self.counts.received_by[index]),
            duplicate=int(self.counts.duplicates_by[index]),
            late=int(self.counts.late_by[index]),
            refused=refused,
            stored=stored,
        )

    # ----------------------------------------------------------------------------------------------------- stopping

    def close(self) -> None:
        """Stop taking messages, write out what there is, save the state, and let go of everything."""
        if hasattr(self, "receiver"):
            self.receiver.close()
            self.writer.close()
            if self._complete and self.writer.stored_position() >= self._last_put:
                self._snapshot().write(self._folder / "snapshot.bin")
        while self._closers:
            self._closers.pop()()
