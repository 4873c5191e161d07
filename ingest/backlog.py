"""How much waits to be taken in, and when it will be done.

What waits is estimated per broker as the larger of two counts: what we have received and not yet taken in, and what the
broker says it holds for its subscribers (``$SYS``; unacknowledged messages of ours are in both). The broker tells its
figure every ``sys_interval`` (Mosquitto: 10 s), for all its subscribers together; so it is the most there can be.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from ingest.connection import BrokerStatus

WINDOW_S = 30.0
"""The rate at which the backlog shrinks is that since it was largest within the last so many seconds."""
_LEAST_S = 3.0
_SMALL_S = 1.0
"""What is done within this is no backlog worth a forecast."""


def waiting_messages(brokers: Sequence[BrokerStatus]) -> int:
    """Messages that wait with us or at the brokers."""
    return sum(max(b.waiting_messages, b.broker_waiting or 0) for b in brokers)


class Backlog:
    """The forecast: arrival and processing go on as they did since the backlog was largest, in the last half minute."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, int]] = deque()
        self.messages = 0

    def note(self, monotonic_s: float, waiting: int, processed: int) -> None:
        """Take how much waits now, and how many messages were processed since the start."""
        self.messages = waiting
        self._seen.append((monotonic_s, waiting, processed))
        while len(self._seen) > 2 and monotonic_s - self._seen[1][0] >= WINDOW_S:
            self._seen.popleft()

    @property
    def clear_in_s(self) -> float | None:
        """When nothing will wait any more: 0 if so little waits as now, None while it does not shrink.

        Examples
        --------
        >>> backlog = Backlog()
        >>> backlog.note(0.0, 9000, 0); backlog.note(10.0, 6000, 5000)  # 300/s fewer: 200/s arrive, 500/s are processed
        >>> backlog.messages, backlog.clear_in_s
        (6000, 20.0)
        """
        if not self.messages:
            return 0.0
        begun, _, before = self._seen[0]
        t1, waiting1, processed1 = self._seen[-1]
        if t1 - begun >= _LEAST_S and waiting1 <= (processed1 - before) / (t1 - begun) * _SMALL_S:
            return 0.0  # also where it is the most there was
        t0, waiting0, processed0 = max(
            self._seen, key=lambda seen: (seen[1], -seen[0])
        )  # the first, where it stood still
        seconds = t1 - t0
        if seconds < _LEAST_S:
            return None
        processing = (processed1 - processed0) / seconds
        if waiting1 <= processing * _SMALL_S:
            return 0.0
        arrival = processing + (waiting1 - waiting0) / seconds
        return None if processing <= arrival else waiting1 / (processing - arrival)
