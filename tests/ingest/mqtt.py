"""The other side of MQTT for the tests of ingest: a plain publisher, a scripted broker, and a loop that receives."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Self

import mqtt5

from ingest.receiver import Batch, Receiver
from ingest.settings import BrokerSettings, ClockSource, Limits
from telemetry.directory import Directory
from tests.ingest.small_city import CITY, directory, topic

FAST = {"backoff_first_s": 0.05, "backoff_max_s": 0.2}


class Wire:
    """A blocking MQTT 5 conversation, either end."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.settimeout(10)
        self._rest = b""

    def read(self) -> mqtt5.Packet:
        while True:
            try:
                packet, used = mqtt5.read(memoryview(self._rest))
            except IndexError:
                data = self.sock.recv(65_536)
                if not data:
                    raise ConnectionResetError("closed by the other side") from None
                self._rest += data
            else:
                self._rest = self._rest[used:]
                return packet

    def write(self, *packets: mqtt5.Packet | bytes) -> None:
        self.sock.sendall(b"".join(p if isinstance(p, bytes) else p.write() for p in packets))


class Publisher:
    """Publishes, and waits for the acknowledgement of each QoS 1 message."""

    def __init__(self, port: int, name: str = "test-publisher", **connect: object) -> None:
        self.wire = Wire(socket.create_connection(("127.0.0.1", port), timeout=10))
        self.wire.write(mqtt5.ConnectPacket(name, clean_start=True, keep_alive=600, **connect))  # type: ignore[arg-type]
        answer = self.wire.read()
        assert isinstance(answer, mqtt5.ConnAckPacket)
        assert answer.reason_code == mqtt5.ConnAckReasonCode.SUCCESS, answer
        self._id = 0

    def send(self, to: str, payload: bytes | str, *, qos: int = 1, retain: bool = False) -> None:
        self._id = self._id % 65_535 + 1
        self.wire.write(
            mqtt5.PublishPacket(
                to,
                payload.encode() if isinstance(payload, str) else payload,
                qos=mqtt5.QoS.AT_LEAST_ONCE if qos else mqtt5.QoS.AT_MOST_ONCE,
                retain=retain,
                packet_id=self._id if qos else None,
            )
        )
        if qos:
            answer = self.wire.read()
            assert isinstance(answer, mqtt5.PubAckPacket), answer

    def reading(self, value: float, device: str = "gauge-1", time_s: float | None = None) -> None:
        """A water level; ``value`` makes it recognizable."""
        when = time.time() if time_s is None else time_s
        self.send(topic(device), f'{{"time": {when:.6f}, "property": "water_level_m", "value": {value}}}')

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.wire.write(mqtt5.DisconnectPacket())
        self.wire.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def receiving(
    *brokers: BrokerSettings, clock: ClockSource = ClockSource.SYSTEM, wait: bool = True, limits: Limits | None = None
) -> Iterator[Receiver]:
    """A started receiver, by default one that listens already."""
    receiver = Receiver(brokers, limits, city=CITY, clock_source=clock)
    receiver.start()
    try:
        if wait:
            until(lambda: all(s.connected for s in receiver.status()), lambda: str(receiver.status()))
        yield receiver
    finally:
        receiver.close()


def until(condition: Callable[[], bool], what: Callable[[], str] = str, timeout_s: float = 15) -> None:
    """Wait for something to come true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"did not come true: {what()}"
        time.sleep(0.01)


def collect(
    receiver: Receiver,
    messages: int,
    *,
    acknowledge: bool = True,
    timeout_s: float = 20,
    now: Callable[[], int | None] = time.time_ns,
    city: Directory | None = None,
) -> list[Batch]:
    """Batches with (at least) so many messages."""
    city = directory() if city is None else city
    batches: list[Batch] = []
    deadline = time.monotonic() + timeout_s
    while sum(b.messages for b in batches) < messages:
        assert time.monotonic() < deadline, f"{sum(b.messages for b in batches)} of {messages} messages came"
        batch = receiver.poll(city, now(), 0.2)
        if batch is not None:
            batches.append(batch)
            if acknowledge:
                receiver.acknowledge(batch)
    return batches


def values(batches: list[Batch]) -> list[float]:
    return [v for b in batches for v in b.observations.value.tolist()]


def nothing_more(receiver: Receiver, seconds: float = 0.4) -> None:
    """Assert that no further message comes."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        batch = receiver.poll(directory(), time.time_ns(), 0.05)
        assert batch is None or batch.messages == 0, batch


class FakeBroker:
    """Listens on a port and plays ``script`` with each client, one after the other.

    ``script`` is called with the wire, the number of the connection (from 0) and the client's CONNECT packet.
    """

    def __init__(self, script: Callable[[Wire, int, mqtt5.ConnectPacket], None]) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(0.1)
        self.port: int = self._server.getsockname()[1]
        self._script = script
        self._closing = False
        self.errors: list[BaseException] = []
        self.connections = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def settings(self, **more: object) -> BrokerSettings:
        return BrokerSettings("fake", "127.0.0.1", self.port, **(FAST | more))  # type: ignore[arg-type]

    def _run(self) -> None:
        while not self._closing:
            try:
                sock, _ = self._server.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            with sock:
                wire = Wire(sock)
                try:
                    connect = wire.read()
                    assert isinstance(connect, mqtt5.ConnectPacket)
                    number, self.connections = self.connections, self.connections + 1
                    self._script(wire, number, connect)
                except (OSError, AssertionError) as error:
                    self.errors.append(error)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        self._server.close()
        self._thread.join(timeout=15)
        failed = [e for e in self.errors if isinstance(e, AssertionError)]
        if failed:
            raise failed[0]


def welcome(wire: Wire, *, session_present: bool = False) -> mqtt5.SubscribePacket:
    """CONNACK and SUBACK, as a broker that agrees to everything; returns the SUBSCRIBE."""
    wire.write(mqtt5.ConnAckPacket(session_present=session_present))
    subscribe = wire.read()
    assert isinstance(subscribe, mqtt5.SubscribePacket)
    wire.write(mqtt5.SubAckPacket(subscribe.packet_id, [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE]))
    return subscribe


def publish(packet_id: int, payload: bytes, to: str = topic("gauge-1"), **more: object) -> bytes:
    """A QoS 1 PUBLISH packet."""
    return mqtt5.PublishPacket(to, payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=packet_id, **more).write()  # type: ignore[arg-type]


def level(value: float) -> bytes:
    """A payload without a time."""
    return f'{{"property": "water_level_m", "value": {value}}}'.encode()


def read_pubacks(wire: Wire, count: int) -> list[int]:
    """Packet ids of the next acknowledgements."""
    ids: list[int] = []
    while len(ids) < count:
        packet = wire.read()
        if isinstance(packet, mqtt5.PubAckPacket):
            ids.append(packet.packet_id)
        elif isinstance(packet, mqtt5.SubscribePacket):
            wire.write(mqtt5.SubAckPacket(packet.packet_id, [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_MOST_ONCE]))
        elif isinstance(packet, mqtt5.PingReqPacket):
            wire.write(mqtt5.PingRespPacket())
    return ids


def stay(wire: Wire) -> None:
    """Answer pings and subscriptions until the client goes."""
    with contextlib.suppress(OSError):
        read_pubacks(wire, 10**9)
