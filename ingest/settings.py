"""Settings of this package: one ``BrokerSettings`` for each broker, and the ``Limits`` of what is accepted.

Everything is checked on construction, before any connection; a wrong value raises ``SettingsError``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import msgspec

from ingest.errors import SettingsError
from telemetry.brokers import BROKER_AFTER_S

MAX_MQTT_PACKET = 268_435_455
"""Largest remaining length of an MQTT packet. [bytes; MQTT 5.0, 2.1.4]"""


class ClockSource(StrEnum):
    """Where `now` comes from."""

    SYSTEM = "system"
    """The computer's clock."""
    BROKER = "broker"
    """The latest message on ``pantau/v1/<city>/clock``: simulations and replays, which may run fast."""


class Feed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Messages of a broker that are not Pantau's own, such as those of a LoRaWAN network server."""

    topic: str
    """Topic filter that is subscribed to, at QoS 1."""
    format: str
    """How their payloads are read: a name of ``ingest.formats.FORMATS``."""


@dataclass(frozen=True)
class BrokerSettings:
    """How to reach one broker and what to ask it for."""

    name: str
    """Short name for logs, status and dead letters."""
    host: str = "localhost"
    port: int = 1883
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca_file: str | None = None
    """Certificate authority (PEM) that signed the broker's certificate. None: those of the system."""
    cert_file: str | None = None
    """Our own certificate (PEM), where the broker wants one."""
    key_file: str | None = None
    topics: tuple[str, ...] = ("pantau/v1/+/+",)
    """Topic filters that are subscribed to, at QoS 1. May be empty where there are feeds."""
    feeds: tuple[Feed, ...] = ()
    """Other topics, in other formats. A topic that several of them match belongs to the first."""
    processes: int = 1
    """How many processes of their own receive and decode, each a share of the messages; 1: the pipeline itself does."""
    watch_drops: bool = True
    """Follow the broker's own figures (``$SYS``): messages that it dropped, and that it holds. A broker that hangs up
    on whoever asks (rumqttd) is asked once; False spares that reconnect."""
    client_id: str = ""
    """Names our session at the broker: it must stay the same across restarts. Default: ``pantau-<name>``."""
    session_expiry_s: int = 86_400
    """How long the broker keeps messages for us while we are away."""
    receive_maximum: int = 20_000
    """Most messages that may be on their way without our acknowledgement."""
    keep_alive_s: int = 30
    connect_timeout_s: float = 10.0
    backoff_first_s: float = 0.5
    """Upper bound of the pause before the first new attempt; doubles with each failure."""
    backoff_max_s: float = 30.0
    alarm_after_s: float = BROKER_AFTER_S
    """A broker that we are not connected to for longer than this is an alarm."""

    def __post_init__(self) -> None:
        if not self.name:
            raise SettingsError("name of a broker must not be empty")
        if not self.client_id:
            object.__setattr__(self, "client_id", f"pantau-{self.name}")
        where = f'(broker "{self.name}")'
        if not self.host:
            raise SettingsError(f"host must not be empty {where}")
        _whole("port", self.port, 1, 65_535, where)
        _whole("processes", self.processes, 1, 64, where)
        _whole("receive_maximum", self.receive_maximum, 1, 65_535, where)
        _whole("keep_alive_s", self.keep_alive_s, 1, 65_535, where)
        _whole("session_expiry_s", self.session_expiry_s, 0, 2**32 - 1, where)
        for name in ("connect_timeout_s", "backoff_first_s", "backoff_max_s", "alarm_after_s"):
            _above_zero(name, getattr(self, name), where)
        if self.backoff_max_s < self.backoff_first_s:
            raise SettingsError(
                f"backoff_max_s must be at least backoff_first_s ({self.backoff_first_s}), "
                f"got {self.backoff_max_s} {where}"
            )
        if self.password is not None and self.username is None:
            raise SettingsError(f"username must be set where a password is {where}")
        if len(self.client_id.encode()) > 65_535:
            raise SettingsError(f"client_id must be at most 65535 bytes long {where}")
        if isinstance(self.topics, str) or not (self.topics or self.feeds):
            raise SettingsError(f"topics must be a list of one or more topic filters, got {self.topics!r} {where}")
        from ingest.formats import FORMATS  # they need the limits of this module

        for feed in self.feeds:
            if feed.format not in FORMATS:
                raise SettingsError(
                    f"feeds: format must be one of {', '.join(sorted(FORMATS))}, got {feed.format!r} {where}"
                )
        for topic in self.filters:
            if (problem := _filter_problem(topic)) is not None:
                raise SettingsError(f"topics: {topic!r} is no MQTT topic filter: {problem} {where}")
        for name in ("ca_file", "cert_file", "key_file"):
            path = getattr(self, name)
            if path is not None and not self.tls:
                raise SettingsError(f"tls must be true where {name} is set {where}")
            if path is not None and not Path(path).is_file():
                raise SettingsError(f"{name}: there is no file {path} {where}")
        if self.key_file is not None and self.cert_file is None:
            raise SettingsError(f"cert_file must be set where key_file is {where}")

    @property
    def filters(self) -> tuple[str, ...]:
        """All topic filters that are subscribed to, each once."""
        return tuple(dict.fromkeys((*self.topics, *(feed.topic for feed in self.feeds))))

    @property
    def group(self) -> str:
        """Name of the shared subscription of several processes."""
        return re.sub(r"[/+#]", "-", self.client_id)

    @property
    def rights(self) -> tuple[str, ...]:
        """What our user must be allowed to subscribe to: the filters, and as shared ones where there are processes."""
        shared = [f"$share/{self.group}/{topic}" for topic in self.filters if self.processes > 1]
        return (*self.filters, *shared)

    def filters_apart(self, clock_topic: str | None, own: Collection[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What the pipeline itself subscribes to, and what each of several processes does.

        Parameters
        ----------
        clock_topic : str or None
            Of the broker's clock, if that is what counts: everybody hears it, for times are judged by it.
        own : collection of str
            Formats that remember what came before: their messages must all go to one process.
        """
        alone = {feed.topic for feed in self.feeds if feed.format in own}
        clock = () if clock_topic is None else (clock_topic,)
        shared = tuple(f"$share/{self.group}/{topic}" for topic in self.filters if topic not in alone)
        return (*(topic for topic in self.filters if topic in alone), *clock), (*shared, *clock)

    @property
    def address(self) -> str:
        """``host:port``, for people.

        Examples
        --------
        >>> BrokerSettings("main", "broker.example", 8883).address
        'broker.example:8883'
        """
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Limits:
    """What is accepted, and how much may wait in memory."""

    max_future_s: float = 300.0
    """A reading from further ahead of `now` is refused: the device's clock is wrong."""
    max_age_s: float = 30 * 86_400.0
    """A reading older than this is refused. Devices that were cut off deliver late, but not that late."""
    max_payload_bytes: int = 1024 * 1024
    max_waiting_bytes: int = 64 * 1024 * 1024
    """Bytes that may wait for ``Receiver.poll`` before we stop reading from that broker."""
    max_batch_messages: int = 20_000
    """About as many messages does one ``Receiver.poll`` give at most."""
    device_readings_per_s: float = 100.0
    """What a device may send in the long run; 0: as much as it likes. See ``ingest.rates``."""
    device_burst_readings: int = 100_000
    """So many readings beyond that may come at once."""
    dead_letter_days: float = 90.0
    """So long is kept what was refused."""
    gather_s: float = 0.01
    """How long ``Receiver.poll`` waits for more after the first message: large batches cost less than small ones."""

    def __post_init__(self) -> None:
        _above_zero("max_future_s", self.max_future_s, "(limits)")
        _above_zero("max_age_s", self.max_age_s, "(limits)")
        _whole("max_payload_bytes", self.max_payload_bytes, 1, MAX_MQTT_PACKET, "(limits)")
        _whole("max_waiting_bytes", self.max_waiting_bytes, 1, 2**40, "(limits)")
        _whole("max_batch_messages", self.max_batch_messages, 1, 10_000_000, "(limits)")
        if self.device_readings_per_s != 0:
            _above_zero("device_readings_per_s", self.device_readings_per_s, "(limits)")
        _whole("device_burst_readings", self.device_burst_readings, 1, 10**12, "(limits)")
        _above_zero("dead_letter_days", self.dead_letter_days, "(limits)")
        if not 0 <= self.gather_s <= 1:
            raise SettingsError(f"gather_s must be 0..1, got {self.gather_s} (limits)")


def _whole(name: str, value: int, low: int, high: int, where: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise SettingsError(f"{name} must be {low}..{high}, got {value!r} {where}")


def _above_zero(name: str, value: float, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (value > 0 and math.isfinite(value)):
        raise SettingsError(f"{name} must be a number above 0, got {value!r} {where}")


def _filter_problem(topic: str) -> str | None:
    if not topic:
        return "it is empty"
    if "\x00" in topic or len(topic.encode("utf-8", "surrogatepass")) > 65_535:
        return "it holds a null character or is too long"
    levels = topic.split("/")
    if any("#" in level and level != "#" for level in levels) or "#" in levels[:-1]:
        return "# must stand alone as the last level"
    if any("+" in level and level != "+" for level in levels):
        return "+ must stand alone in its level"
    return None
