"""The live stream of the page: one frame per tick for all open pages, as server-sent events.

A page first gets a full ``state``, then ``delta`` events at most four times a second, and a ``beat`` every two
seconds. A page that reads too slowly loses no truth: its queue is dropped and it gets a full ``state`` again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from dashboards.operator.live import LiveCity

TICK_S = 0.25
BEAT_S = 2.0
QUEUE_FRAMES = 40
"""Ten seconds of ticks."""


def event(name: str, data: bytes) -> bytes:
    """One server-sent event; JSON holds no line breaks.

    Examples
    --------
    >>> event("beat", b"{}")
    b'event: beat\\ndata: {}\\n\\n'
    """
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


class Hub:
    """Gives every open page its stream. Lives in the server's event loop; ``close`` may be called from any thread."""

    def __init__(self, city: LiveCity, assets_version: str) -> None:
        self.city = city
        self.assets_version = assets_version
        self._queues: set[asyncio.Queue[bytes | None]] = set()
        self._ticker: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    @property
    def pages(self) -> int:
        """How many streams are open."""
        return len(self._queues)

    async def stream(self) -> AsyncIterator[bytes]:
        """The events of one page, until it goes away or the server stops."""
        if self._closed:
            return
        self._loop = asyncio.get_running_loop()
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._queues.add(queue)
        if self._ticker is None or self._ticker.done():
            self._ticker = asyncio.create_task(self._tick(self.city.epoch))
        try:
            # Browsers try again after this many milliseconds. The version tells a page that it has been replaced.
            yield b"retry: 1000\n" + event("hello", b'{"assets":"%s"}' % self.assets_version.encode())
            yield self._state()
            while (item := await queue.get()) is not None:
                if queue.qsize() >= QUEUE_FRAMES:  # frames were left out
                    while not queue.empty():
                        if queue.get_nowait() is None:
                            return
                    item = self._state()
                yield item
        finally:
            self._queues.discard(queue)

    def close(self) -> None:
        """End all streams now and refuse new ones."""
        self._closed = True
        if self._loop is not None and not self._loop.is_closed():
            with contextlib.suppress(RuntimeError):  # the loop may end between the question and the call
                self._loop.call_soon_threadsafe(self._send, None)

    def _state(self) -> bytes:
        return event("state", self.city.state_frame())

    def _send(self, item: bytes | None) -> None:
        for queue in self._queues:
            if queue.qsize() <= QUEUE_FRAMES or item is None:  # a full queue is told everything anew
                queue.put_nowait(item)

    async def _tick(self, epoch: int) -> None:
        """Tell the pages what changes since ``epoch``, taken before the first page got its state."""
        loop = asyncio.get_running_loop()
        beaten_at = loop.time()
        while self._queues and not self._closed:
            await asyncio.sleep(TICK_S)
            if self.city.epoch != epoch:
                epoch = self.city.epoch
                self.city.delta_frame()  # the full state says it all
                self._send(self._state())
            elif (delta := self.city.delta_frame()) is not None:
                self._send(event("delta", delta))
            if loop.time() - beaten_at >= BEAT_S - TICK_S / 2:
                beaten_at = loop.time()
                self._send(event("beat", self.city.beat_frame()))
