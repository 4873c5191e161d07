"""What the running pipeline knows of single devices, for the technician's page: ``devices.watch.DeviceWatch``.

The runtime feeds it from its thread, the page's server asks it from others. The broker's own log (``$SYS/broker/log``,
Mosquitto with ``log_dest topic``) tells of logins; it is followed on a connection of its own, so that a broker that
does not like that costs the readings nothing.
"""

from __future__ import annotations

import logging
import re
import ssl
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable

import numpy as np
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from devices.watch import LatestReading, Letter, Login, Trouble
from ingest.clocks import DRIFT_S_PER_DAY, DeviceClocks
from ingest.dead_letters import DeadLetter, DeadLetters, Reason
from ingest.settings import BrokerSettings
from telemetry.directory import Directory
from telemetry.observations import Observations
from telemetry.properties import PROPERTIES
from telemetry.quality import FAIL, MISSING

log = logging.getLogger(__name__)

LOG_TOPIC = "$SYS/broker/log/#"
RECONNECT_MOST_S = 60
LOGINS_KEPT = 5
"""For each client id; and so many client ids are remembered:"""
CLIENTS_KEPT = 20_000
NAMELESS_KEPT = 200
STRANGERS_LOOKED_AT = 300
SILENT_S = 1.0
CLOCKS_S = 60.0

_OFF = re.compile(r" is (\d+(?:\.\d+)?) s (ahead of|before) ")
_OF_CLOCKS = frozenset(
    {
        Reason.TIME_IN_FUTURE,
        Reason.TIME_TOO_OLD,
        Reason.TIME_LOCAL,
        Reason.TIME_WRONG_SCALE,
        Reason.CLOCK_NOT_SET,
    }
)
_ACCEPTED = re.compile(r"New client connected from \S+ as (\S+) \(.*?(?:u'([^']*)')?\)")
_REFUSED = re.compile(r"Client (\S+)(?: \[[^\]]*\])? disconnected[,:] not authori[sz]ed")
_NAMELESS = "<unknown>"


class Logins:
    """Who came to the brokers' doors, as far as the brokers tell."""

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._of: OrderedDict[str, deque[Login]] = OrderedDict()
        self._nameless: deque[Login] = deque(maxlen=NAMELESS_KEPT)
        self._told = False
        self._clients: list[mqtt.Client] = []

    def follow(self, brokers: Iterable[BrokerSettings]) -> None:
        """Follow the logs of these brokers; returns at once."""
        for settings in brokers:
            if not settings.watch_drops:
                continue  # a broker that hangs up on whoever asks for $SYS
            client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"{settings.client_id}-log")
            if settings.username is not None:
                client.username_pw_set(settings.username, settings.password)
            if settings.tls:
                client.tls_set(settings.ca_file, settings.cert_file, settings.key_file, tls_version=ssl.PROTOCOL_TLS)
            client.reconnect_delay_set(1, RECONNECT_MOST_S)
            client.on_connect = lambda c, *_: c.subscribe(LOG_TOPIC)
            client.on_message = lambda _c, _u, m: self.take(m.payload.decode("utf-8", "replace"))
            try:
                client.connect_async(settings.host, settings.port, settings.keep_alive_s)
                client.loop_start()
            except (OSError, ValueError) as error:
                log.info("the log of broker %s can't be followed: %s", settings.name, error)
                continue
            self._clients.append(client)

    def take(self, line: str) -> None:
        """One line of a broker's log."""
        with self._lock:
            self._told = True
            accepted = _ACCEPTED.search(line)
            if accepted:
                names = {accepted[1], accepted[2] or accepted[1]}
                for name in names:
                    self._keep(name, Login(self._now(), False))
                return
            refused = _REFUSED.search(line)
            if not refused:
                return
            login = Login(self._now(), True, line.partition(": ")[2] or line)
            if refused[1] == _NAMELESS:
                self._nameless.appendleft(login)
            else:
                self._keep(refused[1], login)

    def of(self, device: str) -> tuple[Login, ...] | None:
        """Those of a device and those that nobody knows whose they were, newest first; None without any log."""
        with self._lock:
            if not self._told:
                return None
            named = list(self._of.get(device, ()))
            nameless = [Login(x.at, True, x.detail, named=False) for x in self._nameless]
        return tuple(sorted([*named, *nameless], key=lambda x: -x.at))

    def close(self) -> None:
        """Let go of the connections."""
        for client in self._clients:
            client.disconnect()
            client.loop_stop()

    def _keep(self, name: str, login: Login) -> None:
        self._of.setdefault(name, deque(maxlen=LOGINS_KEPT)).appendleft(login)
        self._of.move_to_end(name)
        if len(self._of) > CLIENTS_KEPT:
            self._of.popitem(last=False)


class FleetWatch:
    """The newest reading of every datastream and when it came; asks dead letters and logins. A ``DeviceWatch``."""

    def __init__(
        self,
        dead_letters: DeadLetters,
        *,
        now: Callable[[], int],
        clock_speed: Callable[[], float],
        silent: Callable[[], Iterable[str]],
    ) -> None:
        self._lock = threading.Lock()
        self._dead_letters = dead_letters
        self._now = now
        self._clock_speed = clock_speed
        self._silent = silent
        self._silent_at, self._silent_devices = -SILENT_S, list[str]()
        self.logins = Logins(now)
        self._begun = now()
        self._directory = Directory(0, "", 0.0, (), (), ())
        self._device_index: dict[str, int] = {}
        self._observed_at = np.zeros(0, dtype=np.int64)
        self._received_at = np.zeros(0, dtype=np.int64)
        self._value = np.zeros(0)
        self._flag = np.zeros(0, dtype=np.uint8)
        self._failing_since = np.zeros(0, dtype=np.int64)
        self._clocks = DeviceClocks()
        self._clocks_at, self._wrong_clocks = -CLOCKS_S, 0

    # ------------------------------------------------------------------------------------------- fed by the runtime

    def use(self, directory: Directory) -> None:
        """Go on with another version of the directory; indexes keep their meaning."""
        grow = len(directory.datastreams) - self._value.size
        with self._lock:
            self._directory = directory
            self._clocks.utc_offset_h = directory.utc_offset_h
            self._clocks.grow(len(directory.devices))
            self._device_index = directory.device_index
            self._observed_at = np.concatenate([self._observed_at, np.zeros(grow, dtype=np.int64)])
            self._received_at = np.concatenate([self._received_at, np.zeros(grow, dtype=np.int64)])
            self._value = np.concatenate([self._value, np.full(grow, np.nan)])
            self._flag = np.concatenate([self._flag, np.full(grow, MISSING, dtype=np.uint8)])
            self._failing_since = np.concatenate([self._failing_since, np.zeros(grow, dtype=np.int64)])

    def observe(self, readings: Observations) -> None:
        """Take the readings of a step; of each datastream only the newest counts."""
        if not len(readings):
            return
        rows = np.lexsort((readings.observed_at, readings.datastream))
        streams = readings.datastream[rows]
        newest = rows[np.append(streams[1:] != streams[:-1], True)]
        stream = readings.datastream[newest]
        with self._lock:
            self._clocks.observe(self._directory.device_of[stream], readings.take(newest))
            later = readings.observed_at[newest] >= self._observed_at[stream]
            # A device whose clock runs behind still is a device that sends.
            np.maximum.at(self._received_at, stream, readings.received_at[newest])
            newest, stream = newest[later], stream[later]
            self._observed_at[stream] = readings.observed_at[newest]
            self._value[stream] = readings.value[newest]
            self._flag[stream] = readings.flag[newest]
            failing = readings.flag[newest] == FAIL
            begins = failing & (self._failing_since[stream] == 0)
            self._failing_since[stream[begins]] = readings.observed_at[newest[begins]]
            self._failing_since[stream[~failing]] = 0

    # ----------------------------------------------------------------------------------------------- asked by pages

    def now(self) -> int:
        """The present by the pipeline's clock. [ns since 1970 UTC]"""
        return self._now()

    def clock_speed(self) -> float:
        """1 in real time; more in a simulation."""
        return self._clock_speed()

    def knows(self, device: str) -> bool:
        """Whether the device is in the directory that is in use."""
        return device in self._device_index

    def latest(self, device: str) -> tuple[LatestReading, ...]:
        """The newest reading of each datastream that the device feeds, if it is the device's own."""
        with self._lock:
            directory = self._directory
            index = self._device_index.get(device)
            if index is None:
                return ()
            streams = np.array(sorted(directory.index_of[device].values()), dtype=np.int32)
            streams = streams[(directory.device_of[streams] == index) & (self._received_at[streams] > 0)]
            streams = streams[directory.installed.device_at(streams, self._observed_at[streams]) == index]
            found = []
            clock = self._clocks.judge(index)
            drift = None if clock is None else clock.drift_s_per_d
            if drift is not None and abs(drift) <= DRIFT_S_PER_DAY:
                drift = None
            for i in streams.tolist():
                about = PROPERTIES[directory.datastreams[i].property]
                low = max(about.span_min, float(directory.fail_min[i]), float(directory.suspect_min[i]))
                high = min(about.span_max, float(directory.fail_max[i]), float(directory.suspect_max[i]))
                found.append(
                    LatestReading(
                        directory.datastreams[i].id,
                        about.name,
                        float(self._value[i]),
                        int(self._flag[i]),
                        int(self._observed_at[i]),
                        int(self._received_at[i]),
                        low,
                        high,
                        drift,
                    )
                )
            return tuple(found)

    def clocks_wrong(self) -> int:
        """How many devices have a clock that somebody should set, by what came in the last day; as of a minute ago."""
        at = time.monotonic()
        if at - self._clocks_at >= CLOCKS_S:
            self._clocks_at = at
            with self._lock:
                self._wrong_clocks = self._clocks.wrong()
        return self._wrong_clocks

    def letters(self, device: str, limit: int = 20) -> tuple[Letter, ...]:
        """The device's newest dead letters, newest first."""
        return tuple(_letter(k.letter) for k in self._dead_letters.list(limit, device=device))

    def strangers(self, since: int) -> tuple[str, ...]:
        """Ids under which devices that are not registered have sent since then."""
        kept = self._dead_letters.list(STRANGERS_LOOKED_AT, reason=Reason.UNKNOWN_DEVICE)
        names = [k.letter.device for k in kept if (k.letter.received_at or 0) >= since]
        return tuple(dict.fromkeys(n for n in names if n and not self.knows(n)))

    def refused_logins(self, device: str) -> tuple[Login, ...] | None:
        """The device's tries to log in, newest first; None where no broker tells."""
        return self.logins.of(device)

    def troubles(self) -> tuple[Trouble, ...]:
        """Devices that are silent (by the core's judgement) or whose newest values can't be right."""
        silent = self._silent_lately()
        with self._lock:
            directory = self._directory
            found = [self._silence(d) for d in silent if d in self._device_index]
            failing = np.flatnonzero(self._failing_since > 0)
            of_device: dict[int, list[int]] = {}
            for i in failing.tolist():
                of_device.setdefault(int(directory.device_of[i]), []).append(i)
            quiet = set(silent)
            for index, streams in of_device.items():
                device = directory.devices[index] if index >= 0 else None
                if device is None or device.id in quiet or not directory.watched[index]:
                    continue
                since = int(self._failing_since[streams].min())
                values = {directory.datastreams[i].property: round(float(self._value[i]), 4) for i in streams}
                found.append(Trouble(device.id, "faulty", since, values))
        return tuple(found)

    def _silent_lately(self) -> list[str]:
        """Asked at most once a second: a page that searches as one types asks often."""
        at = time.monotonic()
        if at - self._silent_at >= SILENT_S:
            self._silent_at, self._silent_devices = at, list(self._silent())
        return self._silent_devices

    def _silence(self, device: str) -> Trouble:
        directory, index = self._directory, self._device_index[device]
        streams = [i for i in directory.index_of[device].values() if directory.device_of[i] == index]
        heard = max((int(self._received_at[i]) for i in streams), default=0)
        since = heard or max(int(directory.expected_since[index]), self._begun)
        return Trouble(device, "silent", since, heard=heard > 0)


def _letter(letter: DeadLetter) -> Letter:
    off = _OFF.search(letter.detail) if letter.reason in _OF_CLOCKS else None
    return Letter(
        reason=str(letter.reason),
        detail=letter.detail,
        received_at=letter.received_at or 0,
        device=letter.device or "",
        clock_off_s=None if off is None else float(off[1]) * (1 if off[2] == "ahead of" else -1),
    )
