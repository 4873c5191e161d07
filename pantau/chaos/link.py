"""A link: what stands for the network between two processes, so that it can be cut, slowed, stalled and reset.

It forwards TCP connections to 127.0.0.1. A ``Link`` in good health adds about a tenth of a millisecond.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from types import TracebackType
from typing import Self

_LOOK_S = 0.05
_PIECE = 65536


class Link:
    """Listens on a free port of 127.0.0.1, and forwards to ``port`` there."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._mutex = threading.Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._closing = False
        self._cut = False
        self._stalled = False
        self._deaf = False
        self._delay_s = 0.0
        self._bytes_per_s = 0.0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, name="link", daemon=True)
        self._acceptor.start()

    # ------------------------------------------------------------------------------------------------------- weather

    def cut(self) -> None:
        """End all connections; new ones are ended at once."""
        self._cut = True
        self._drop(rst=False)

    def reset(self) -> None:
        """End all connections with RST, which throws away what is on its way."""
        self._drop(rst=True)

    def stall(self) -> None:
        """Forward nothing, in both directions, and end nothing: a half-open connection."""
        self._stalled = True

    def swallow_answers(self) -> None:
        """Forward what clients send, and nothing of what they are answered."""
        self._deaf = True

    def slow(self, delay_s: float, bytes_per_s: float) -> None:
        """Each piece waits ``delay_s``, and no direction carries more than ``bytes_per_s``."""
        self._delay_s, self._bytes_per_s = delay_s, bytes_per_s

    def heal(self) -> None:
        """All is well again. Connections over which answers were swallowed are ended with RST."""
        if self._deaf:
            self._drop(rst=True)
        self._cut = self._stalled = self._deaf = False
        self._delay_s = self._bytes_per_s = 0.0

    # ------------------------------------------------------------------------------------------------------ forwarding

    def _accept(self) -> None:
        while not self._closing:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._cut:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._target), timeout=1)
            except OSError:
                client.close()
                continue
            for sock in (client, server):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.settimeout(None)
            pair = (client, server)
            with self._mutex:
                self._pairs.add(pair)
            for source, sink, answers in ((client, server, False), (server, client, True)):
                threading.Thread(
                    target=self._forward, args=(pair, source, sink, answers), name="link", daemon=True
                ).start()

    def _forward(
        self, pair: tuple[socket.socket, socket.socket], source: socket.socket, sink: socket.socket, answers: bool
    ) -> None:
        with contextlib.suppress(OSError, ValueError):  # closed by the other direction, or by us
            while pair in self._pairs:
                if self._stalled:
                    time.sleep(_LOOK_S)
                    continue
                if not select.select([source], [], [], _LOOK_S)[0]:
                    continue
                rate = self._bytes_per_s
                data = source.recv(min(_PIECE, max(int(rate * _LOOK_S), 64)) if rate else _PIECE)
                if not data:
                    break
                if self._delay_s or rate:
                    time.sleep(self._delay_s + (len(data) / rate if rate else 0.0))
                while self._stalled and pair in self._pairs:
                    time.sleep(_LOOK_S)
                if not (answers and self._deaf):
                    sink.sendall(data)
        self._end(pair, rst=False)

    def _drop(self, *, rst: bool) -> None:
        with self._mutex:
            pairs = list(self._pairs)
        for pair in pairs:
            self._end(pair, rst=rst)

    def _end(self, pair: tuple[socket.socket, socket.socket], *, rst: bool) -> None:
        with self._mutex:
            if pair not in self._pairs:
                return
            self._pairs.remove(pair)
        for sock in pair:
            with contextlib.suppress(OSError):
                if rst:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                else:
                    sock.shutdown(socket.SHUT_RDWR)
            with contextlib.suppress(OSError):
                sock.close()

    def close(self) -> None:
        """End everything."""
        self._closing = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._drop(rst=False)
        self._acceptor.join(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
