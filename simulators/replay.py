"""Replays a recording into a running pipeline over MQTT, with the recording's own times, as fast as wanted.

The pipeline must take its time from the broker (``clock.source = "broker"``). In front of the readings of each time
step comes a clock message with that time, so that no reading is from the future; a gap in the recording is a jump of
the clock. After the last reading the clock goes on for a while, so that windows close and delays run out.

What the pipeline made of it is told by ``simulators.replay_report``.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from devices.registry import Registry
from ingest.settings import BrokerSettings
from simulators.recording import Recording
from simulators.replay_page import PipelinePage, ReplayError, clock_ns
from telemetry.observations import NS_PER_S, rfc3339

IN_FLIGHT = 1000
"""Most messages that may wait for the broker's confirmation."""
AHEAD = 20_000
"""Most readings that may be sent before the pipeline has taken them; bounds the queue at the broker."""
CLOCK_STEP_S = 60.0
"""The clock is sent at least this often in recorded time; the pipeline allows readings 300 s ahead of it."""
AFTER_END_S = 7200.0
"""How long the clock goes on after the last reading, at least."""
AFTER_END_STEP_S = 900.0
STALL_S = 60.0
"""Nothing moves for so long: give up."""
POLL_S = 0.25

ReportProgress = Callable[[str, int, int], None]
"""(what is being done, how many are done, of how many)"""


@dataclass(frozen=True)
class Sent:
    """What a replay sent."""

    readings: int
    messages: int
    """Messages with readings."""
    clock_messages: int
    final_clock: int
    """Time of the last clock message. [ns since 1970 UTC]"""
    elapsed_s: float
    """From the first message to the broker's confirmation of the last."""


def register(recording: Recording, registry: Registry) -> int:
    """Save the recording's sites, devices and datastreams with their thresholds; returns the registry's version."""
    return registry.save(
        city=recording.city,
        utc_offset_h=recording.utc_offset_h,
        sites=recording.sites,
        devices=recording.devices,
        datastreams=recording.datastreams,
        author="recording",
        reason=f"map of {recording.name}",
    )


def replay(
    recording: Recording,
    broker: BrokerSettings,
    *,
    page: PipelinePage | None = None,
    speed: float | None = None,
    directory_version: int = 0,
    progress: ReportProgress | None = None,
    stall_s: float = STALL_S,
) -> Sent:
    """Send a whole recording, and wait until the pipeline has taken and stored it.

    Parameters
    ----------
    recording : Recording
        What is sent.
    broker : BrokerSettings
        Where to; its topics and client id are not used.
    page : PipelinePage, optional
        The pipeline's page. Without one nothing is checked, and only the broker's confirmations are waited for.
    speed : float, optional
        So many times as fast as it was; None: as fast as it goes.
    directory_version : int
        Wait until the pipeline knows this version of the registry (what ``register`` returned).
    progress : callable, optional
        Told about every few hundred readings.
    stall_s : float
        Give up when nothing moves for so long. [s]

    Raises
    ------
    ReplayError
        The pipeline is of another city, has another clock or is ahead of the recording; the broker cannot be
        reached; or nothing moves any more.
    """
    if speed is not None and not speed > 0:
        raise ReplayError(f"speed must be above 0, got {speed}")
    tell = progress or (lambda _what, _done, _total: None)
    taken_before = stored_before = 0
    if page is not None:
        _check_pipeline(page.status(), recording)
        _await_directory(page, directory_version, stall_s)
        counts = page.status()["counts"]
        taken_before = counts["readings"] + counts["refused"]
        stored_before = _settled(counts)
    with _Publisher(broker, stall_s) as publisher:
        sent = _send(recording, publisher, page, taken_before, speed, tell, stall_s)
    if page is not None:
        _await_stored(page, sent, stored_before, tell, stall_s)
    return sent


class ConsoleProgress:
    """Progress bars on the terminal: ``with ConsoleProgress() as progress: replay(..., progress=progress)``."""

    def __init__(self) -> None:
        self._bars = Progress(
            TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        )
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Move the bar of ``what``."""
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=total)
        self._bars.update(self._tasks[what], completed=done, total=total)


def messages(recording: Recording) -> Iterator[tuple[int, str, bytes, int]]:
    """(time [ns], device, payload, number of readings) in order of time: one message for a device and time.

    If a datastream has several readings at one time, the second and later ones go in messages of their own.
    """
    device_index = {d.id: i for i, d in enumerate(recording.devices)}
    device_of = np.array([device_index[s.device] for s in recording.datastreams], dtype=np.int64)
    stream, at = recording.datastream.astype(np.int64), recording.observed_at
    same = np.lexsort((stream, at))
    first = np.ones(len(stream), dtype=bool)
    first[1:] = (np.diff(stream[same]) != 0) | (np.diff(at[same]) != 0)
    start = np.maximum.accumulate(np.where(first, np.arange(len(stream)), 0))
    copy = np.empty(len(stream), dtype=np.int64)
    copy[same] = np.arange(len(stream)) - start
    order = np.lexsort((stream, copy, device_of[stream], at))
    stream, at, copy, value = stream[order], at[order], copy[order], recording.value[order]
    device = device_of[stream]
    edge = np.ones(len(stream), dtype=bool)
    edge[1:] = (np.diff(at) != 0) | (np.diff(device) != 0) | (np.diff(copy) != 0)
    begin = np.flatnonzero(edge)
    end = np.append(begin[1:], len(stream))
    names = [f'"{s.property}":' for s in recording.datastreams]
    values = value.tolist()
    streams = stream.tolist()
    time_ns = -1
    text = ""
    for a, b, when, who in zip(begin.tolist(), end.tolist(), at[begin].tolist(), device[begin].tolist(), strict=True):
        if when != time_ns:
            time_ns, text = when, rfc3339(when)
        content = ",".join(names[streams[i]] + repr(values[i]) for i in range(a, b))
        yield when, recording.devices[who].id, f'{{"time":"{text}","values":{{{content}}}}}'.encode(), b - a


def _check_pipeline(status: dict[str, Any], recording: Recording) -> None:
    if status["city"] != recording.city:
        raise ReplayError(f"the pipeline watches city {status['city']!r}, but the recording is of {recording.city!r}")
    clock = status["clock"]
    if clock["source"] != "broker":
        raise ReplayError(
            f'a replay needs a pipeline whose clock comes from the broker (clock.source = "broker"), '
            f"this one has {clock['source']!r}"
        )
    now = clock_ns(clock["now"])
    if now and now > recording.start:  # 0: the clock has not spoken yet
        raise ReplayError(
            f"the pipeline's clock stands at {clock['now']}, later than the recording's start "
            f"{rfc3339(recording.start)}: start the pipeline with a fresh data folder"
        )


def _await_directory(page: PipelinePage, version: int, stall_s: float) -> None:
    deadline = time.monotonic() + stall_s
    while (known := page.status().get("directory_version", version)) < version:
        if time.monotonic() > deadline:
            raise ReplayError(
                f"after {stall_s:.0f} s the pipeline still has version {known} of the registry, not {version}: "
                "does it use the same registry?"
            )
        time.sleep(POLL_S)


def _settled(counts: dict[str, int]) -> int:
    """Readings whose fate is known: stored, refused, or seen before."""
    return counts["stored"] + counts["refused"] + counts["duplicates"]


def _send(
    recording: Recording,
    publisher: _Publisher,
    page: PipelinePage | None,
    taken_before: int,
    speed: float | None,
    tell: ReportProgress,
    stall_s: float,
) -> Sent:
    clock_topic = f"pantau/v1/{recording.city}/clock"
    total = len(recording)
    began = time.monotonic()
    clock_at = -(2**63)
    clock_wall = -1.0
    clocks = count = done = told = 0
    allowed = AHEAD

    def send_clock(now_ns: int) -> None:
        nonlocal clock_at, clock_wall, clocks
        rate = f',"speed":{speed:g}' if speed is not None else ""
        publisher.publish(clock_topic, f'{{"now":"{rfc3339(now_ns)}"{rate}}}'.encode(), retain=True)
        clock_at, clock_wall = now_ns, time.monotonic()
        clocks += 1

    for when, device, payload, size in messages(recording):
        if when > clock_at:
            if speed is not None:
                due = began + (when - recording.start) / NS_PER_S / speed
                while (wait := due - time.monotonic()) > 0:
                    time.sleep(min(wait, 1.0))
                    if wait > 1.0:
                        send_clock(when - round((due - time.monotonic()) * speed * NS_PER_S))
            if when - clock_at >= CLOCK_STEP_S * NS_PER_S or (
                speed is not None and time.monotonic() - clock_wall > 0.5
            ):
                send_clock(when)
        publisher.publish(f"pantau/v1/{recording.city}/{device}", payload)
        count += 1
        done += size
        if page is not None and done >= allowed:
            allowed = _await_room(page, done, taken_before, stall_s) + AHEAD
        if done - told >= 500:
            told = done
            tell("sending", done, total)
    longest_delay_s = max((s.ladder.off_delay_s + s.ladder.on_delay_s for s in recording.datastreams), default=0.0)
    after_s = max(AFTER_END_S, longest_delay_s + 3600.0)
    for k in range(1, int(np.ceil(after_s / AFTER_END_STEP_S)) + 1):
        send_clock(recording.end + round(k * AFTER_END_STEP_S * NS_PER_S))
    publisher.drain()
    tell("sending", done, total)
    return Sent(done, count, clocks, clock_at, time.monotonic() - began)


def _await_room(page: PipelinePage, done: int, taken_before: int, stall_s: float) -> int:
    """Wait until the pipeline is less than ``AHEAD`` / 2 readings behind; returns how many it has taken."""
    taken, moved = -1, time.monotonic()
    while True:
        counts = page.status()["counts"]
        now_taken = counts["readings"] + counts["refused"] - taken_before
        if now_taken != taken:
            taken, moved = now_taken, time.monotonic()
        if done - taken <= AHEAD // 2:
            return taken
        if time.monotonic() - moved > stall_s:
            raise ReplayError(
                f"the pipeline has taken {taken} of {done} readings and no more for {stall_s:.0f} s: is it still "
                "connected to this broker?"
            )
        time.sleep(POLL_S / 5)


def _await_stored(page: PipelinePage, sent: Sent, stored_before: int, tell: ReportProgress, stall_s: float) -> None:
    """Wait until the pipeline has seen the last clock message and the fate of every reading is known."""
    seen: tuple[object, ...] = ()
    moved = time.monotonic()
    while True:
        status = page.status()
        settled = _settled(status["counts"]) - stored_before
        now = clock_ns(status["clock"]["now"])
        tell("storing", min(settled, sent.readings), sent.readings)
        if now is not None and now >= sent.final_clock // 1000 * 1000 and settled >= sent.readings:
            return
        if (settled, now) != seen:
            seen, moved = (settled, now), time.monotonic()
        if time.monotonic() - moved > stall_s:
            raise ReplayError(
                f"of {sent.readings} readings the pipeline has stored, refused or recognized {settled}, its clock "
                f"stands at {status['clock']['now']} of {rfc3339(sent.final_clock)}, "
                f"and nothing moved for {stall_s:.0f} s"
            )
        time.sleep(POLL_S)


class _Publisher:
    """One connection that publishes with QoS 1 and a bounded number of unconfirmed messages."""

    def __init__(self, broker: BrokerSettings, stall_s: float) -> None:
        self._broker = broker
        self._stall_s = stall_s
        self._changed = threading.Condition()
        self._published = 0
        self._confirmed = 0
        self._connected = False
        self._refusal = ""
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id="", protocol=paho.MQTTv311)
        if broker.username is not None:
            client.username_pw_set(broker.username, broker.password)
        if broker.tls:
            context = ssl.create_default_context(cafile=broker.ca_file)
            if broker.cert_file is not None:
                context.load_cert_chain(broker.cert_file, broker.key_file)
            client.tls_set_context(context)
        # paho would walk through all that is unconfirmed at every confirmation: the bound is kept by publish() below.
        client.max_inflight_messages_set(0)
        client.max_queued_messages_set(0)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.reconnect_delay_set(1, 5)
        self._client = client

    def __enter__(self) -> Self:
        b = self._broker
        try:
            self._client.connect(b.host, b.port, keepalive=b.keep_alive_s)
        except (OSError, ValueError) as error:
            raise ReplayError(f"cannot reach the broker {b.address}: {error}") from error
        self._client.loop_start()
        with self._changed:
            self._changed.wait_for(lambda: self._connected or bool(self._refusal), timeout=b.connect_timeout_s)
            connected, refusal = self._connected, self._refusal
        if not connected:
            self._stop()
            raise ReplayError(f"the broker {b.address} does not let us in: {refusal or 'no answer'}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Send one message; waits while too many are unconfirmed."""
        if self._published - self._confirmed >= IN_FLIGHT:
            self._await(IN_FLIGHT // 2)
        self._client.publish(topic, payload, qos=1, retain=retain)
        self._published += 1

    def drain(self) -> None:
        """Wait until every message is confirmed."""
        self._await(0)

    def _await(self, most: int) -> None:
        confirmed, moved = self._confirmed, time.monotonic()
        while self._published - self._confirmed > most:
            with self._changed:
                self._changed.wait(timeout=0.05)
            if self._confirmed != confirmed:
                confirmed, moved = self._confirmed, time.monotonic()
            elif time.monotonic() - moved > self._stall_s:
                raise ReplayError(
                    f"the broker {self._broker.address} has confirmed {confirmed} of {self._published} messages and no "
                    f"more for {self._stall_s:.0f} s{': ' + self._refusal if self._refusal else ''}"
                )

    def _stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(
        self, _client: paho.Client, _data: Any, _flags: Any, code: ReasonCode, _more: Properties | None
    ) -> None:
        with self._changed:
            self._connected = not code.is_failure
            self._refusal = str(code) if code.is_failure else ""
            self._changed.notify_all()

    def _on_disconnect(
        self, _client: paho.Client, _data: Any, _flags: Any, code: ReasonCode, _more: Properties | None
    ) -> None:
        with self._changed:
            self._connected = False
            self._refusal = self._refusal or str(code)
            self._changed.notify_all()

    def _on_publish(
        self, _client: paho.Client, _data: Any, _mid: int, _code: ReasonCode, _more: Properties | None
    ) -> None:
        # Only this thread writes it.
        self._confirmed += 1
        if self._confirmed % 256 == 0:
            with self._changed:
                self._changed.notify_all()
