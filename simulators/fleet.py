"""The simulated city's devices on a real broker: every reading a real MQTT message, paced by a speeded clock.

A few connections act as gateways; each device has its own topic ``pantau/v1/<city>/<device>``. The clock is told on
``pantau/v1/<city>/clock`` (retained): first when the fleet starts, then only once the broker has acknowledged every
reading up to its time. Who sees the clock say T has been sent all readings up to T.

Try ``python -m simulators.fleet --port 1883 --speed 60``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import numpy as np
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from simulators.chance import key
from simulators.city import City, Samples
from telemetry.observations import NS_PER_S

_NS_PER_MS = 1_000_000

VERSIONS = {"3.1.1": MQTTProtocolVersion.MQTTv311, "5": MQTTProtocolVersion.MQTTv5}
PASSWORD_VARIABLE = "PANTAU_FLEET_PASSWORD"
"""Environment variable that holds the password for ``--username``."""

_IN_FLIGHT = 50
_WAITING = 1000
_LONGEST_STEP_S = 600.0
_CONNECT_TIMEOUT_S = 10.0
_LAST_WORDS_S = 3.0


class FleetError(Exception):
    """The fleet cannot run as it was asked to; the message is one sentence for the person who asked."""


@dataclass(frozen=True)
class FleetSettings:
    """How a fleet runs."""

    start_ns: int
    """Simulated time at which it starts. [ns since 1970 UTC]"""
    until_ns: int | None = None
    """Simulated time at which it ends by itself."""
    speed: float = 60.0
    """Simulated seconds per second. What the broker cannot take at this speed comes slower."""
    host: str = "127.0.0.1"
    port: int = 1883
    mqtt_version: str = "3.1.1"
    username: str | None = None
    password: str | None = dataclasses.field(default=None, repr=False)
    gateways: int = 4
    """Connections over which the devices are spread."""
    clock_interval_s: float = 0.25
    """Time between two clock messages."""

    def __post_init__(self) -> None:
        if not self.speed > 0:
            raise FleetError(f"speed must be above 0, got {self.speed}")
        if not 0 < self.port < 65536:
            raise FleetError(f"port must be 1-65535, got {self.port}")
        if self.mqtt_version not in VERSIONS:
            raise FleetError(f"mqtt_version must be one of {', '.join(VERSIONS)}, got {self.mqtt_version!r}")
        if self.gateways < 1:
            raise FleetError(f"gateways must be at least 1, got {self.gateways}")
        if not self.clock_interval_s > 0:
            raise FleetError(f"clock_interval_s must be above 0, got {self.clock_interval_s}")
        if self.until_ns is not None and self.until_ns <= self.start_ns:
            raise FleetError("the end of the simulated time must be after its start")


@dataclass(frozen=True)
class Sent:
    """What a fleet has done."""

    messages: int
    """Messages of devices that the broker acknowledged."""
    readings: int
    """Readings in them."""
    clocks: int
    """Clock messages that the broker acknowledged."""
    refused: int
    """Messages that the broker acknowledged with an error (MQTT 5 only)."""
    unacknowledged: int
    """Messages without an answer when the fleet stopped."""
    reconnects: int
    until_ns: int
    """All readings before this simulated time were acknowledged."""
    wall_s: float


class _Gateway:
    """One connection that publishes for some of the devices."""

    def __init__(self, settings: FleetSettings, number: int, stop: threading.Event) -> None:
        self._where = f"{settings.host}:{settings.port}"
        self._stop = stop
        self._changed = threading.Condition()
        self._answer: ReasonCode | None = None
        self._readings_of: dict[int, int] = {}
        self._early: dict[int, bool] = {}
        """Answers that came before publish() returned: message id → accepted."""
        self.acknowledged = self.readings = self.refused = self.connects = 0
        # one process may run several fleets on one broker
        name = f"pantau-fleet-{os.getpid()}-{id(self):x}-{number}"
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, name, protocol=VERSIONS[settings.mqtt_version])
        self._client.max_inflight_messages_set(_IN_FLIGHT)
        self._client.reconnect_delay_set(min_delay=1, max_delay=8)
        if settings.username is not None:
            self._client.username_pw_set(settings.username, settings.password)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish
        try:
            self._client.connect(settings.host, settings.port, keepalive=30)
        except (OSError, ValueError) as error:
            raise FleetError(f"no MQTT broker answers at {self._where}: {error}") from error
        self._client.loop_start()
        if not self._wait(lambda: self._answer is not None, _CONNECT_TIMEOUT_S):
            self.close()
            raise FleetError(f"what listens at {self._where} did not answer as an MQTT {settings.mqtt_version} broker")
        if self._answer is not None and self._answer.is_failure:
            self.close()
            raise FleetError(f"the broker at {self._where} refused the connection: {self._answer}")

    @property
    def waiting(self) -> int:
        """Messages that the broker has not acknowledged yet."""
        with self._changed:
            return len(self._readings_of)

    def publish(self, topic: str, payload: bytes, readings: int, *, retain: bool = False) -> bool:
        """Hand over a message; waits while too many are unanswered. False: stopped, not handed over."""
        while not self._wait(lambda: len(self._readings_of) < _WAITING, 1.0):
            if self._stop.is_set():
                return False
        info = self._client.publish(topic, payload, qos=1, retain=retain)
        if info.rc not in (MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_NO_CONN):
            raise FleetError(f"paho-mqtt did not take a message for {topic}: {mqtt.error_string(info.rc)}")
        with self._changed:
            self._readings_of[info.mid] = readings
            if info.mid in self._early:
                self._answered(info.mid, self._early.pop(info.mid))
        return True

    def settle(self, timeout_s: float, *, only_connected: bool = False) -> bool:
        """Wait until every message is acknowledged (or the connection is lost). False: not within the time."""
        return self._wait(
            lambda: not self._readings_of or (only_connected and not self._client.is_connected()), timeout_s
        )

    def close(self) -> None:
        """Say goodbye and end the connection's thread."""
        self._client.disconnect()
        self._client.loop_stop()

    def _answered(self, message: int, accepted: bool) -> None:
        readings = self._readings_of.pop(message)
        if accepted:
            self.acknowledged += 1
            self.readings += readings
        else:
            self.refused += 1

    def _wait(self, done: Callable[[], bool], timeout_s: float) -> bool:
        with self._changed:
            return self._changed.wait_for(done, timeout_s)

    def _on_connect(
        self,
        client: mqtt.Client,
        data: Any,
        flags: mqtt.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        with self._changed:
            self._answer = reason
            self.connects += not reason.is_failure
            self._changed.notify_all()
        if reason.is_failure and self.connects:
            print(f"fleet: the broker at {self._where} refuses to connect again: {reason}", file=sys.stderr)

    def _on_disconnect(
        self,
        client: mqtt.Client,
        data: Any,
        flags: mqtt.DisconnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        with self._changed:
            self._changed.notify_all()
        if reason.is_failure and self.connects:
            print(f"fleet: connection to {self._where} lost ({reason}); trying again", file=sys.stderr)

    def _on_publish(
        self, client: mqtt.Client, data: Any, mid: int, reason: ReasonCode, properties: Properties | None
    ) -> None:
        with self._changed:
            if mid in self._readings_of:
                self._answered(mid, not reason.is_failure)
            else:
                self._early[mid] = not reason.is_failure
            self._changed.notify_all()


def messages(city: City, samples: Samples) -> list[tuple[str, bytes, int]]:
    """Turn readings into messages: device id, payload, number of readings; in order of time.

    The readings of one device at one time become one message of Pantau JSON, in its form for several values.
    """
    if not len(samples):
        return []
    device = city.device_of[samples.datastream]
    order = np.lexsort((device, samples.observed_at))
    device, at = device[order], samples.observed_at[order]
    first = np.flatnonzero(np.concatenate([[True], (device[1:] != device[:-1]) | (at[1:] != at[:-1])]))
    times = np.datetime_as_string(at[first].astype("datetime64[ns]"), unit="ms").tolist()
    names = [city.datastreams[i].property for i in samples.datastream[order].tolist()]
    values = samples.value[order].tolist()
    ends = [*first[1:].tolist(), len(values)]
    encode = msgspec.json.Encoder().encode
    return [
        (
            city.devices[d].id,
            encode({"time": f"{t}Z", "values": dict(zip(names[a:b], values[a:b], strict=True))}),
            b - a,
        )
        for d, t, a, b in zip(device[first].tolist(), times, first.tolist(), ends, strict=True)
    ]


def run_fleet(city: City, settings: FleetSettings, stop: threading.Event | None = None) -> Sent:
    """Publish the city's readings until ``settings.until_ns`` or until ``stop`` is set.

    Raises
    ------
    FleetError
        No broker answers, or it refuses the connection, at the beginning. A connection that is lost later is tried
        again until it works, and the simulated time waits for it.
    """
    stop = stop or threading.Event()
    began = time.monotonic()
    gateways: list[_Gateway] = []
    try:
        for number in range(settings.gateways + 1):
            gateways.append(_Gateway(settings, number, stop))  # noqa: PERF401 (those already open must be closed)
        reached = _publish_all(city, settings, gateways[0], gateways[1:], stop)
        if stop.is_set():
            goodbye = time.monotonic() + _LAST_WORDS_S
            for gateway in gateways:
                gateway.settle(max(goodbye - time.monotonic(), 0.0), only_connected=True)
        clock, devices = gateways[0], gateways[1:]
        return Sent(
            messages=sum(g.acknowledged for g in devices),
            readings=sum(g.readings for g in devices),
            clocks=clock.acknowledged,
            refused=sum(g.refused for g in gateways),
            unacknowledged=sum(g.waiting for g in gateways),
            reconnects=sum(g.connects - 1 for g in gateways),
            until_ns=reached,
            wall_s=round(time.monotonic() - began, 3),
        )
    finally:
        for gateway in gateways:
            gateway.close()


def _publish_all(
    city: City, settings: FleetSettings, clock: _Gateway, gateways: list[_Gateway], stop: threading.Event
) -> int:
    """The loop of the fleet. Returns the simulated time up to which every reading was acknowledged."""
    home = f"pantau/v1/{city.name}/"
    gateway_of = {d.id: gateways[key(d.id, "gateway") % len(gateways)] for d in city.devices}
    step_ns = round(min(max(2 * settings.clock_interval_s * settings.speed, 1.0), _LONGEST_STEP_S) * NS_PER_S)
    reached = settings.start_ns - settings.start_ns % _NS_PER_MS

    def tell_the_time() -> None:
        now = np.datetime_as_string(np.datetime64(reached, "ns"), unit="ms")
        clock.publish(home + "clock", msgspec.json.encode({"now": f"{now}Z", "speed": settings.speed}), 0, retain=True)

    # Before the first reading: a pipeline that follows the clock takes none before.
    tell_the_time()
    while not clock.settle(1.0):
        if stop.is_set():
            return reached
    zero_wall, zero_ns = time.monotonic(), reached
    while not stop.is_set() and (settings.until_ns is None or reached < settings.until_ns):
        woke = time.monotonic()
        due = zero_ns + int((woke - zero_wall) * settings.speed * 1e3) * _NS_PER_MS
        behind = due > reached + step_ns
        if behind:  # the broker or this machine is slower than asked: the simulated clock waits
            due = reached + step_ns
            zero_wall, zero_ns = woke, due
        if settings.until_ns is not None:
            due = min(due, settings.until_ns)
        if due > reached:
            for device, payload, readings in messages(city, city.sample(reached, due)):
                if not gateway_of[device].publish(home + device, payload, readings):
                    return reached
            for gateway in gateways:
                while not gateway.settle(1.0):
                    if stop.is_set():
                        return reached
            reached = due
            tell_the_time()
        if not behind:
            stop.wait(max(0.0, settings.clock_interval_s - (time.monotonic() - woke)))
    while not clock.settle(1.0) and not stop.is_set():
        pass
    return reached


def parse_time(text: str, city: City) -> int:
    """A simulated time from text: RFC 3339, or local time of the city without a zone, or "evening" (17:20 today).

    Raises FleetError if the text is none of these.
    """
    local = timezone(timedelta(hours=city.utc_offset_h))
    if text == "evening":
        return city.start_of_evening(datetime.now(UTC).astimezone(local).date().isoformat())
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise FleetError(f"{text!r} is no time such as 2026-11-24T17:20 or 2026-11-24T10:20:00Z") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=local)
    return round(moment.timestamp() * 1000) * _NS_PER_MS


def main(arguments: list[str] | None = None) -> int:
    """Command line of the fleet. Returns the exit code: 0 ended as asked, 2 could not run."""
    parser = argparse.ArgumentParser(
        prog="python -m simulators.fleet",
        description="Publish a simulated city's readings to an MQTT broker.",
        epilog=f"The password for --username is taken from the environment variable {PASSWORD_VARIABLE}.",
    )
    parser.add_argument("--host", default=FleetSettings.host)
    parser.add_argument("--port", type=int, default=FleetSettings.port)
    parser.add_argument("--mqtt", choices=list(VERSIONS), default=FleetSettings.mqtt_version, help="protocol version")
    parser.add_argument("--username")
    parser.add_argument("--city", default="bandung", help="id of a city that comes along, or a file *.toml")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--start", default="evening", help='simulated time, local unless it has a zone; "evening": 17:20'
    )
    parser.add_argument("--until", help="simulated time at which to end; without it, until stopped")
    parser.add_argument("--speed", type=float, default=FleetSettings.speed, help="simulated seconds per second")
    parser.add_argument("--gateways", type=int, default=FleetSettings.gateways, help="number of connections")
    parser.add_argument("--json", action="store_true", help="at the end, print what was sent as a line of JSON")
    parser.add_argument("--stop-with-stdin", action="store_true", help="end when standard input is closed")
    chosen = parser.parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if chosen.stop_with_stdin:
        threading.Thread(target=_stop_with_stdin, args=(stop,), daemon=True).start()
    try:
        city = City(chosen.seed, chosen.city)
        settings = FleetSettings(
            start_ns=parse_time(chosen.start, city),
            until_ns=None if chosen.until is None else parse_time(chosen.until, city),
            speed=chosen.speed,
            host=chosen.host,
            port=chosen.port,
            mqtt_version=chosen.mqtt,
            username=chosen.username,
            password=os.environ.get(PASSWORD_VARIABLE),
            gateways=chosen.gateways,
        )
        sent = run_fleet(city, settings, stop)
    except (FleetError, ValueError) as error:
        print(f"fleet: {error}", file=sys.stderr)
        return 2
    if chosen.json:
        print(json.dumps(dataclasses.asdict(sent)), flush=True)
    else:
        print(f"sent {sent.readings} readings in {sent.messages} messages, {sent.unacknowledged} unanswered")
    return 0


def _stop_with_stdin(stop: threading.Event) -> None:
    # not through sys.stdin: its lock, held by this thread, would abort the program's end
    while os.read(0, 4096):
        pass
    stop.set()


if __name__ == "__main__":
    raise SystemExit(main())
