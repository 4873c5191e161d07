"""The devices' side of MQTT: publishes at QoS 1, in order, and again whatever was not acknowledged.

Written by hand (MQTT 3.1.1) because a campaign must decide itself what is sent twice and in which order; paho-mqtt
sends again on its own. Like a device, it keeps a message until the broker has acknowledged it.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from collections.abc import Sequence

_PATIENCE_S = 1.5
"""Without any acknowledgement for so long, the connection is given up and begun anew."""
_WINDOW = 100

Message = tuple[str, bytes, bool]
"""Topic, payload, whether the broker keeps it for new subscribers."""


class InterruptedSendError(Exception):
    """Told to stop sending: what was given to ``send`` may have reached the broker or not."""


class Sender:
    """One connection to the broker at 127.0.0.1 ``port``."""

    def __init__(self, port: int, client_id: str) -> None:
        self._port = port
        self._client_id = client_id.encode()
        self._sock: socket.socket | None = None
        self._received = bytearray()
        self._next_id = 1
        self.interrupt = threading.Event()
        """Set: ``send`` gives up."""
        self.acknowledged = self.repeated = self.connects = 0

    def send(self, messages: Sequence[Message]) -> None:
        """Publish ``messages`` in order; returns once all are acknowledged. Raises InterruptedSendError."""
        for start in range(0, len(messages), _WINDOW):
            self._send_window(messages[start : start + _WINDOW])

    def _send_window(self, messages: Sequence[Message]) -> None:
        waiting: dict[int, Message] = {}
        for message in messages:
            waiting[self._next_id] = message
            self._next_id = self._next_id % 65_535 + 1
        again = False
        while waiting:
            if self.interrupt.is_set():
                self.close()
                raise InterruptedSendError
            try:
                sock = self._connected()
                sock.sendall(b"".join(_publish(*message, packet_id, again) for packet_id, message in waiting.items()))
                self.repeated += len(waiting) if again else 0
                self._take_answers(sock, waiting)
            except OSError:
                self.close()
                self.interrupt.wait(0.05)
            again = True

    def _take_answers(self, sock: socket.socket, waiting: dict[int, Message]) -> None:
        heard = time.monotonic()
        while waiting and not self.interrupt.is_set():
            if not select.select([sock], [], [], 0.1)[0]:
                if time.monotonic() - heard > _PATIENCE_S:
                    raise TimeoutError
                continue
            data = sock.recv(65536)
            if not data:
                raise ConnectionResetError
            heard = time.monotonic()
            self._received += data
            while len(self._received) >= 4:  # only PUBACK comes, of 4 bytes
                packet_id = struct.unpack_from(">H", self._received, 2)[0]
                self.acknowledged += waiting.pop(packet_id, None) is not None
                del self._received[:4]

    def _connected(self) -> socket.socket:
        if self._sock is None:
            sock = socket.create_connection(("127.0.0.1", self._port), timeout=2)
            try:
                body = b"\x00\x04MQTT\x04\x02\x00\x00" + struct.pack(">H", len(self._client_id)) + self._client_id
                sock.sendall(b"\x10" + _length(len(body)) + body)
                answer = b""
                while len(answer) < 4:
                    piece = sock.recv(4 - len(answer))
                    if not piece:
                        raise ConnectionResetError
                    answer += piece
                if answer[3]:
                    raise ConnectionRefusedError
            except OSError:
                sock.close()
                raise
            self._received.clear()
            self._sock = sock
            self.connects += 1
        return self._sock

    def close(self) -> None:
        """End the connection, as a device does that loses power."""
        if self._sock is not None:
            with contextlib.suppress(OSError):
                self._sock.close()
            self._sock = None


def _publish(topic: str, payload: bytes, retain: bool, packet_id: int, again: bool) -> bytes:
    name = topic.encode()
    head = 0x32 | (0x08 if again else 0) | (0x01 if retain else 0)
    body = struct.pack(">H", len(name)) + name + struct.pack(">H", packet_id) + payload
    return bytes([head]) + _length(len(body)) + body


def _length(n: int) -> bytes:
    out = bytearray()
    while True:
        n, digit = divmod(n, 128)
        out.append(digit | (0x80 if n else 0))
        if not n:
            return bytes(out)
