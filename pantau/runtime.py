"""The pipeline: joins brokers, journal, core, store and page, and keeps them in step.

One thread runs the loop: poll the brokers, journal the batch, acknowledge it, step the core, hand the results on.
A killed pipeline opens its last snapshot and replays the journal from there: the core decides by its inputs alone, and
these are all in the journal.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from dashboards.operator.health import BrokerStatus, DeviceAccount, HealthStatus, LimitedDevice, StoreStatus
from dashboards.operator.live import LiveCity
from devices.fleet import Fleet
from devices.registry import Registry
from ingest.account import NAME as ACCOUNT_NAME
from ingest.account import Account
from ingest.backlog import Backlog, waiting_messages
from ingest.connection import BrokerStatus as Broker
from ingest.errors import DeadLettersFullError, JournalFullError
from ingest.journal import Journal
from ingest.receiver import Batch
from ingest.settings import ClockSource
from ingest.steps import DIRECTORY, DIRECTORY_CHANGE, STEP, UNTIMED, decode_step, encode_step
from ingest.workers import open_receiver
from pantau.account_keeping import AccountTeller, device_account, refused_of
from pantau.following import RegistryFollower
from pantau.history import alarm_history, chart
from pantau.logins import issuer_of, prepare
from pantau.pages import pages
from pantau.retaking import Retaking, open_letters
from pantau.settings import ConfigurationError, PageAccess, Settings
from pantau.snapshot import Snapshot
from pantau.startup import StartupError
from pantau.watching import FleetWatch
from processing.core import State, step
from processing.silence import DEAF
from storage.embedded import EmbeddedStore
from storage.errors import SpoolFull
from storage.influx import InfluxStore
from storage.settings import StoreKind
from storage.store import AccountHour, PipelineStatus, Store, StoredBatch
from storage.writer import StoreWriter
from telemetry.alarms import Acknowledge, AlarmState
from telemetry.brokers import UNKNOWN_BROKER
from telemetry.directory import Directory
from telemetry.directory_change import DirectoryChange
from telemetry.observations import NS_PER_S, Observations, rfc3339
from telemetry.results import Results, Transitions, Windows
from web.accounts import Accounts
from web.login import KnownAccounts
from web.passwords import setup_code
from web.server import Server, serve

log = logging.getLogger(__name__)

TICK_S = 1.0
"""Without any message the core is stepped this often, so that silence and delays are noticed."""
POLL_S = 0.1
HEALTH_S = 0.5
STATUS_S = 10.0
"""How often the pipeline's own state is stored. [s of wall time]"""

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

    def take(self, batch: Batch, results: Results) -> None:
        """Add one step."""
        self.refuse(batch)
        self.readings += len(batch.observations)
        self.duplicates += results.duplicates.size
        self.late += results.late.size

    def refuse(self, batch: Batch) -> None:
        """Add the messages of a batch, and what of them was refused."""
        self.messages += batch.messages
        for letter in batch.dead_letters:
            self.refused[letter.reason] = self.refused.get(letter.reason, 0) + letter.times


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
        self._last_step_at = self._last_health_at = self._last_status_at = 0.0
        self._last_snapshot_at = time.monotonic()
        self._waiting_snapshot: tuple[Snapshot, int] | None = None
        self._last_put = -1
        self._backlog = Backlog()
        self._account_trouble = ""
        self._clocks_wrong = 0
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
        self.dead_letters = open_letters(self._folder, self.settings.limits)
        self._closers.append(self.dead_letters.close)
        self.retaking = Retaking(self.dead_letters)
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
        self.follower = RegistryFollower(self.registry, self.directory)
        self._closers.append(self.follower.close)
        self._check_ahead()
        self.live.set_clock(str(self.settings.clock.source), self._now or 0, 1.0)
        self.live.restore(self.state.latest(), self.state.open_alarms(self.directory))
        self.live.set_series_source(lambda *span: chart(self.store, self.directory, *span))
        self.live.set_alarm_history_source(lambda *span: alarm_history(self.store, self.directory, *span))
        self.live.set_account_source(self._account_of)
        self.live.set_acknowledge(self._take_acknowledgement)
        page = self.settings.page
        self.watch.observe(self.state.latest())
        issuer = issuer_of(self.settings)
        fleet = Fleet(self.registry, issuer, self.watch, self._basemap)
        known, letters = self._open_accounts(), self.dead_letters
        app = pages(self.live, known, fleet, letters=letters, allowed_hosts=page.allowed_hosts)
        tls = (page.tls_cert, page.tls_key) if page.tls_cert else None
        self.page = serve(app, page.host, page.port, tls=tls)
        self._closers.append(self.page.stop)
        if self.accounts is not None and self.accounts.setup_code:
            self._say(
                f"There are no accounts yet: open {self.page.url}/setup and enter this one-time code: "
                f"{self.accounts.setup_code}"
            )
        self.receiver = open_receiver(
            self.settings.brokers,
            self.settings.limits,
            city=self.settings.city.name,
            clock_source=self.settings.clock.source,
            remembered=self._folder / "ingest_sessions.json",
        )
        self._closers.append(self.receiver.close)
        heard = self.state.silence.listening
        if heard.size and int(heard[0]) != DEAF:
            self.receiver.go_on_listening(int(heard[0]))
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
        account = self._folder / ACCOUNT_NAME
        fresh = snapshot is None and not any((self._folder / "journal").glob("*.journal"))
        self.account = Account(
            account,
            kept_days=self.settings.data.account_days,
            utc_offset_h=self.settings.city.utc_offset_h,
            from_beginning=fresh and self.store.last_position() < 0,
        )
        self._closers.append(self.account.close)
        used = max(self.store.last_position(), saved - 1, self.account.position)
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
            self.directory, state = snapshot.core()
            if state is None:
                self._say(
                    "the saved state was written by another version of Pantau: quality tests, open windows and alarms "
                    "begin anew from here; what is stored stays"
                )
                state = State.for_directory(self.directory)
            self.state = state
            self._now = snapshot.now
            if position > saved:
                self._say("the journal since the saved state is gone: what only it held is not taken again")
        if not fresh and self.account.covered < (saved if self.journal.end == self.journal.start else position):
            self._say(f"the loss account {ACCOUNT_NAME} begins anew: what came before is not all in it")
            self.account.begin_again(position - 1)
        self.account.use(self.directory)
        # Only what the journal can give again is forgotten.
        self.store.forget_after(position - 1)
        self.writer = StoreWriter(self.store, self._folder / "spool", self.settings.writer, position=position - 1)
        self._closers.append(self.writer.close)
        self.teller = AccountTeller(self.account, self.writer, self._put_account)
        replayed = 0
        for at, kind, payload in self.journal.read(position):
            if kind == DIRECTORY:
                self._turn_to(Directory.from_bytes(payload), at)
            elif kind == DIRECTORY_CHANGE:
                self._turn_to(DirectoryChange.from_bytes(payload).applied(self.directory), at)
            elif kind == UNTIMED:
                record = decode_step(payload)
                self.account.take_untimed(at, record.now_ns, record.messages, record.refused)
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
                    presence=record.presence,
                )
                self.account.take(at, record.now_ns, record.observations, results, record.messages, record.refused)
                self.dead_letters.settle(record.letters)
                self._hand_to_store(at, results)
                replayed += len(record.observations)
        self.dead_letters.forget_proposals()
        if replayed:
            self._say(f"resumed: {replayed} readings of the journal taken again")

    def _turn_to(self, directory: Directory, position: int) -> None:
        """Go on with this directory, which the journal has at ``position``; brokers may have other numbers in it."""
        self.state = self.state.rewired(self.directory.brokers, directory.brokers)
        self.directory = directory
        self.account.use(directory, position)

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
        whole = directory.to_bytes()
        if whole != self.directory.to_bytes():
            self._put_in_force(directory, DIRECTORY, whole)
        else:
            self._tell_directory()

    def _put_in_force(self, directory: Directory, kind: int, record: bytes) -> None:
        """Journal a new version of the directory, and go on with it."""
        position = self.journal.append(kind, record)
        self.journal.commit()
        self._turn_to(directory, position)
        self.state = self.state.grown_to(directory)
        self._tell_directory()

    def _tell_directory(self) -> None:
        self.live.set_directory(self.directory, self._basemap)
        self.watch.use(self.directory)
        self.retaking.follow()

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
        letters = self.retaking.next(self.receiver, self.directory, self._now, monotonic)
        if letters is not None:
            self._process(letters)
        if monotonic - self._last_health_at >= HEALTH_S:
            self._last_health_at = monotonic
            self._tell_health(monotonic)
            self._keep_account()
        self._follow_registry()
        self._keep_snapshots(monotonic)

    def _follow_registry(self) -> None:
        """Take in what was registered or changed since; a registry that fails for a while stops nothing."""
        found, trouble = self.follower.take(), self.follower.trouble
        if found is not None:
            try:
                if found.change is None:
                    self._use(found.directory)
                else:
                    self._put_in_force(found.directory, DIRECTORY_CHANGE, found.change.to_bytes())
                self.follower.use(self.directory)
            except ConfigurationError as error:
                trouble = str(error)
        if trouble and trouble != self._registry_trouble:
            log.error("the registry can't be followed: %s", trouble)
        if trouble or found is not None:
            self._registry_trouble = trouble

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
            self._with_room(lambda: self.retaking.keep(batch, self.directory))
        now = self._present()
        if now is None:  # the broker's clock has not spoken yet; until it does, the receiver takes no reading
            if batch is not None:
                messages, refused = batch.messages_by_broker, refused_of(batch)
                at = time.time_ns()
                record = encode_step(Observations.empty(), at, messages=messages, refused=refused)
                self.account.take_untimed(self._journal(record, UNTIMED), at, messages, refused)
                self.receiver.acknowledge(batch)
                self.counts.refuse(batch)
            return
        with self._lock:
            actions = list(self._actions)
            self._actions.clear()
        self._complete = False
        presence = () if batch is None else batch.presences
        messages, refused = ((), []) if batch is None else (batch.messages_by_broker, refused_of(batch))
        position = self._journal(
            encode_step(
                observations,
                now,
                actions=actions,
                brokers=brokers,
                presence=presence,
                messages=messages,
                refused=refused,
                letters=() if batch is None or batch.retaken is None else batch.retaken.ids,
            )
        )
        if batch is not None:
            self.receiver.acknowledge(batch)
        self.state, results = step(
            self.state, self.directory, observations, now, brokers=brokers, actions=actions, presence=presence
        )
        self.account.take(position, now, observations, results, messages, refused)
        if batch is not None:
            self.counts.take(batch, results)
            self._with_room(lambda: self.retaking.settle(batch))
        self._hand_to_store(position, results)
        self._complete = True
        self.live.set_clock(str(self.settings.clock.source), now, self.receiver.clock_speed)
        self.live.observe(results.readings)
        self.live.correct(results.corrected)
        self.watch.observe(results.readings)
        self.live.transition(results.transitions)
        if (results.transitions.state == AlarmState.WITHDRAWN).any():
            self.live.stand(self.state.open_alarms(self.directory))
        fresh = batch is not None and batch.retaken is None and len(observations)
        if fresh and self.settings.clock.source == ClockSource.SYSTEM:
            self._latency_s.append((time.time_ns() - int(observations.received_at[0])) / NS_PER_S)

    def _journal(self, record: bytes, kind: int = STEP) -> int:
        """Write a record durably; returns its position."""

        def write() -> int:
            position = self.journal.append(kind, record)
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
        readings = Observations.concat([results.readings, results.corrected])
        self._put(position, readings, results.windows, results.transitions, known=len(results.corrected))

    def _put(
        self,
        position: int,
        readings: Observations,
        windows: Windows,
        transitions: Transitions,
        status: tuple[PipelineStatus, ...] = (),
        account: tuple[AccountHour, ...] = (),
        known: int = 0,
    ) -> None:
        batch = StoredBatch(position, position, self.directory, readings, windows, transitions, status, account, known)
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
            if self.writer.stored_position() >= needed and self._save_account():
                snapshot.write(self._folder / "snapshot.bin")
                self._waiting_snapshot = None
                self._drop_journal(snapshot.position)
        elif monotonic - self._last_snapshot_at >= self.settings.data.snapshot_interval_s:
            self._last_snapshot_at = monotonic
            self._waiting_snapshot = (self._snapshot(), self._last_put)

    def _keep_account(self) -> None:
        """Write the loss account now and then; without room it stays in memory, and the journal has it."""
        try:
            self.account.note_brokers(self.receiver.status())
            self.account.keep(self.writer.written_position())
            self.teller.tell()
            self._account_trouble = ""
        except sqlite3.Error as error:
            if str(error) != self._account_trouble:
                log.error("the loss account can't be written: %s", error)
            self._account_trouble = str(error)

    def _save_account(self) -> bool:
        """Have the loss account on the disk as far as the journal goes: a snapshot lets it not be read again."""
        try:
            self.account.flush(self.writer.written_position(), durable_to=self.journal.end)
        except sqlite3.Error as error:
            log.error("the loss account can't be written: %s", error)
            return False
        return True

    def _account_of(self, device: str) -> DeviceAccount:
        """The account of a device as it is now, with what was counted since it was last written."""
        with contextlib.suppress(sqlite3.Error):  # no room: then without that
            self.account.flush(self.writer.written_position())
        return device_account(self.account.path, self.directory, device)

    def _put_account(self, hours: tuple[AccountHour, ...]) -> int:
        position = max(self._last_put, 0)
        self._put(position, Observations.empty(), Windows.empty(), Transitions.empty(), (), hours)
        return position

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
        written, brokers = self.writer.status(), self.receiver.status()
        self._backlog.note(monotonic, waiting_messages(brokers), self.counts.messages)
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
                for b in brokers
            ),
            backlog_messages=self._backlog.messages,
            clear_in_s=self._backlog.clear_in_s,
            dead_letters=self.retaking.kept,
            dead_letters_full=bool(self.retaking.trouble),
            clocks_wrong=self._clocks_wrong,
            limited_devices=tuple(
                LimitedDevice(r.device, r.since, r.refused) for r in self.receiver.rates.runaways(self._clock())
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
            self._clocks_wrong = self.watch.clocks_wrong()
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
                backlog_messages=health.backlog_messages,
                clear_in_s=math.nan if health.clear_in_s is None else health.clear_in_s,
            )
            self._put(max(self._last_put, 0), Observations.empty(), Windows.empty(), Transitions.empty(), (status,))

    def _in_our_time(self, wall_ns: int | None) -> int:
        """A time of the computer's clock in the pipeline's; 0 for none. [ns since 1970 UTC]"""
        if wall_ns is None or self.settings.clock.source == ClockSource.SYSTEM:
            return wall_ns or 0
        return max((self._now or 0) - round((time.time_ns() - wall_ns) * self.receiver.clock_speed), 1)

    # ----------------------------------------------------------------------------------------------------- stopping

    def close(self) -> None:
        """Stop taking messages, write out what there is, save the state, and let go of everything."""
        if hasattr(self, "receiver"):
            self.receiver.close()
            self.writer.close()
            if self._complete and self.writer.stored_position() >= self._last_put and self._save_account():
                self._snapshot().write(self._folder / "snapshot.bin")
        while self._closers:
            self._closers.pop()()
