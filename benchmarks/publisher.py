"""A fast publisher: single-reading messages at QoS 1, at a given rate or as fast as the broker takes them.

As a program it prints one JSON line with what the broker acknowledged::

    python -m benchmarks.publisher --port 1883 --city demo --devices 1000 --messages 100000 --rate 15000

Flat out, all packets are encoded before the first is sent, and go out in large writes, so that the publisher takes as
little of the machine as it can. With ``--wait`` it says ``ready`` then, and begins when it gets a line.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import select
import socket
import sys
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import asdict, dataclass

import mqtt5

_PREPARED = 50_000
"""Readings in one of the pieces that are encoded before the start."""
_WRITE_BYTES = 262_144
"""Most bytes of one write."""


@dataclass(frozen=True)
class Published:
    """What came of it."""

    sent: int
    acknowledged: int
    """By the broker, with success."""
    seconds: float
    cpu_seconds: float
    """Of this publisher."""

    @property
    def per_s(self) -> float:
        """Messages acknowledged a second."""
        return self.acknowledged / self.seconds if self.seconds else 0.0


def publish(
    host: str,
    port: int,
    *,
    city: str,
    devices: int,
    messages: int,
    property_name: str = "water_level_m",
    rate_per_s: float | None = None,
    window: int = 5000,
    first: int = 0,
    seed: int = 1,
    device_name: str = "d{}",
    timeout_s: float = 60.0,
    probe_every: int = 0,
    readings_per_message: int = 1,
    username: str | None = None,
    password: str | None = None,
    first_device: int = 0,
    ready: Callable[[], None] | None = None,
) -> Published:
    """Publish messages, going round the devices ``d0``, ``d1``, ..., with one reading in each unless told otherwise.

    Parameters
    ----------
    rate_per_s : float or None
        None: as fast as the broker takes them.
    window : int
        Most messages on their way without the broker's acknowledgement.
    first : int
        Number of the first message. Message i comes from device i % devices, and its time is i µs after the start of
        the program's second, so that each reading is one of its kind.
    first_device : int
        Number of the first device.
    ready : function, optional
        Called when all is prepared; publishing begins when it returns.
    timeout_s : float
        Give up if the broker stays silent for so long.
    readings_per_message : int
        More than one: a list of readings of one device, a microsecond apart.
    probe_every : int
        If not 0, readings carry the time of sending, and every so-manieth message comes from one of the devices
        ``probe0`` to ``probe99``, going to 9 and back to 0 in turn, so that each of them moves an alarm.

    Raises
    ------
    OSError
        The broker can't be reached, refuses us, or falls silent.
    """
    rng = random.Random(seed)
    sock = socket.create_connection((host, port), timeout=10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    name = f"publisher-{rng.getrandbits(32):08x}-{first}"
    secret = None if password is None else password.encode()
    sock.sendall(
        mqtt5.ConnectPacket(name, username=username, password=secret, clean_start=True, keep_alive=600).write()
    )
    greeting, used = _read(sock, b"")
    if not isinstance(greeting[0], mqtt5.ConnAckPacket) or greeting[0].reason_code != 0:
        raise ConnectionRefusedError(f"the broker did not let us in: {greeting}")
    window = min(window, greeting[0].receive_max)
    sock.setblocking(False)
    topics = [f"pantau/v1/{city}/{device_name.format(first_device + d)}".encode() for d in range(devices)]
    heads = [len(t).to_bytes(2, "big") + t for t in topics]
    probes = [len(t).to_bytes(2, "big") + t for t in (f"pantau/v1/{city}/probe{i}".encode() for i in range(100))]
    values = [f"{rng.uniform(0, 3):.3f}".encode() for _ in range(997)]
    reading = b'{"time": %%d, "property": "%s", "value": %%s}' % property_name.encode()

    def encode(begin: int, count: int, start_us: int) -> tuple[bytearray, list[int]]:
        """Packets of ``count`` messages from number ``begin`` on, and where each of them ends."""
        out, ends = bytearray(), []
        for number in range(begin, begin + count):
            head, value = heads[number % devices], values[number % 997]
            if probe_every and number % probe_every == 0:
                turn, which = divmod(number // probe_every, len(probes))
                head, value = probes[which], b"0" if turn % 2 else b"9"
            if readings_per_message == 1:
                payload = reading % (start_us + number, value)
            else:
                at = start_us + number * readings_per_message
                parts = [reading % (at + i, values[(number + i) % 997]) for i in range(readings_per_message)]
                payload = b"[" + b",".join(parts) + b"]"
            body = head + ((number - first) % 65_535 + 1).to_bytes(2, "big") + b"\0" + payload
            out += b"\x32" + _length(len(body)) + body
            ends.append(len(out))
        return out, ends

    start_us = int(time.time()) * 1_000_000
    prepared: list[tuple[bytearray, list[int]]] = []
    if rate_per_s is None and not probe_every:
        size = max(1, _PREPARED // readings_per_message)
        prepared = [encode(first + i, min(size, messages - i), start_us) for i in range(0, messages, size)]
        prepared.reverse()
    if ready is not None:
        ready()
    began, cpu = time.perf_counter(), time.process_time()
    sent = acknowledged = refused = at = 0
    out, ends, rest, heard = bytearray(), list[int](), used, time.monotonic()
    while acknowledged + refused < messages:
        if at == len(out) and sent < messages:
            if prepared:
                (out, ends), at = prepared.pop(), 0
            else:
                due = messages
                if rate_per_s is not None:
                    due = min(messages, int((time.perf_counter() - began) * rate_per_s) + 1)
                if due > sent:
                    us = time.time_ns() // 1000 - first - sent if probe_every else start_us
                    (out, ends), at = encode(first + sent, min(due - sent, 1000), us), 0
        # Only so many messages as the window has room for; a packet that has begun counts as sent.
        before = bisect_right(ends, at)
        begun = before + (at > (ends[before - 1] if before else 0))
        room = window - (sent - acknowledged - refused)
        last = ends[min(len(ends), begun + room) - 1] if ends and begun + room > 0 else at
        if at < last:
            with contextlib.suppress(BlockingIOError):
                at += sock.send(memoryview(out)[at : min(last, at + _WRITE_BYTES)])
            now_before = bisect_right(ends, at)
            sent += now_before + (at > (ends[now_before - 1] if now_before else 0)) - begun
        else:
            time.sleep(0.001)  # nothing to send now: acknowledgements are cheaper read together than one by one
        ready_to, _, _ = select.select([sock], [sock] if at < last else [], [], 0.001)
        if ready_to:
            data = sock.recv(262_144)
            if not data:
                raise ConnectionResetError(f"the broker closed the connection after {acknowledged} acknowledgements")
            good, bad, rest = _count_pubacks(rest + data)
            acknowledged, refused, heard = acknowledged + good, refused + bad, time.monotonic()
        elif time.monotonic() - heard > timeout_s:
            raise TimeoutError(f"the broker acknowledged {acknowledged} of {sent} messages, and then nothing more")
    seconds = time.perf_counter() - began
    sock.setblocking(True)
    sock.sendall(mqtt5.DisconnectPacket().write())
    sock.close()
    return Published(sent, acknowledged, seconds, time.process_time() - cpu)


def _read(sock: socket.socket, data: bytes) -> tuple[tuple[mqtt5.Packet, int], bytes]:
    while True:
        try:
            packet, used = mqtt5.read(memoryview(data))
            return (packet, used), data[used:]
        except IndexError:
            more = sock.recv(4096)
            if not more:
                raise ConnectionResetError("the broker closed the connection") from None
            data += more


def _length(n: int) -> bytes:
    """An MQTT variable byte integer."""
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def _count_pubacks(data: bytes) -> tuple[int, int, bytes]:
    """Successful and refused acknowledgements, and the bytes of an unfinished packet."""
    if len(data) % 4 == 0 and data[::4].count(0x40) == len(data) // 4 == data[1::4].count(2):
        return len(data) // 4, 0, b""
    good = bad = at = 0
    while len(data) - at >= 2 and len(data) - at >= 2 + data[at + 1]:
        if data[at] == 0x40:
            # Two bytes: success. More: a reason code, of which those from 0x80 on are refusals.
            refused = data[at + 1] > 2 and data[at + 4] >= 0x80
            good, bad = good + (not refused), bad + refused
        at += 2 + data[at + 1]
    return good, bad, data[at:]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--city", default="demo")
    parser.add_argument("--property", default="water_level_m")
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=None, help="messages a second; default: as fast as it goes")
    parser.add_argument("--window", type=int, default=5000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--readings", type=int, default=1, help="readings in each message")
    parser.add_argument("--probe-every", type=int, default=0, help="so many messages for one that moves an alarm")
    parser.add_argument("--first-device", type=int, default=0)
    parser.add_argument("--wait", action="store_true", help='say "ready" when all is encoded, and wait for a line')
    parser.add_argument("--username")
    parser.add_argument("--password")
    a = parser.parse_args()

    def wait() -> None:
        print("ready", flush=True)
        sys.stdin.readline()

    result = publish(
        a.host,
        a.port,
        city=a.city,
        devices=a.devices,
        messages=a.messages,
        property_name=a.property,
        rate_per_s=a.rate,
        window=a.window,
        first=a.first,
        probe_every=a.probe_every,
        readings_per_message=a.readings,
        username=a.username,
        password=a.password,
        first_device=a.first_device,
        ready=wait if a.wait else None,
    )
    print(json.dumps(asdict(result) | {"per_s": round(result.per_s)}))


if __name__ == "__main__":
    main()
