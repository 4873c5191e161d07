"""Slows down guessing: after some failures, each further try has to wait twice as long.

Counts per account and per address. A stranger who fails on an operator's name must not lock the operator out: who
comes from an address from which this account has logged in before is counted on its own. In memory, for one process;
a restart forgets.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass

FORGET_S = 3600.0
"""After so long without a try a key starts anew."""
MOST_KEYS = 20_000
"""Keys that are remembered; beyond that the one that was tried longest ago is forgotten."""


@dataclass(frozen=True)
class Limit:
    """How patient to be."""

    free: int
    """Tries without a wait."""
    first_s: float = 2.0
    """Wait after the next one; it doubles with each further one."""
    longest_s: float = 900.0

    def wait_s(self, tries: int) -> float:
        """How long to wait after so many failed tries.

        Examples
        --------
        >>> limit = Limit(free=5)
        >>> [limit.wait_s(n) for n in (1, 4, 5, 6, 7, 20)]
        [0.0, 0.0, 2.0, 4.0, 8.0, 900.0]
        """
        if tries < self.free:
            return 0.0
        return min(self.longest_s, self.first_s * 2.0 ** min(tries - self.free, 60))


ACCOUNT = Limit(free=5)
ADDRESS = Limit(free=20)
"""Several people may share one."""

Key = tuple[Hashable, ...]


@dataclass
class _Tries:
    count: int = 0
    last: float = 0.0
    free_at: float = 0.0


class Throttle:
    """Counts tries by key. Safe for threads.

    Parameters
    ----------
    clock
        Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tries: OrderedDict[Key, _Tries] = OrderedDict()
        self._lock = threading.Lock()

    def admit(self, limits: Iterable[tuple[Key, Limit]]) -> float:
        """Seconds until a try is allowed; 0: it is, and counts as failed until ``succeeded`` says otherwise.

        It is counted before its outcome is known, so that many tries at the same moment gain nothing.
        """
        now, limits = self._clock(), list(limits)
        with self._lock:
            wait = max((self._found(key, now).free_at - now for key, _ in limits), default=0.0)
            if wait > 0:
                return wait
            for key, limit in limits:
                tries = self._found(key, now)
                tries.count, tries.last = tries.count + 1, now
                tries.free_at = now + limit.wait_s(tries.count)
                self._tries[key] = tries
                self._tries.move_to_end(key)
            while len(self._tries) > MOST_KEYS:
                self._tries.popitem(last=False)
        return 0.0

    def succeeded(self, own: Key, shared: Iterable[Key] = ()) -> None:
        """A try was right: the account's failures are forgiven; of a shared key (an address) only this try."""
        with self._lock:
            self._tries.pop(own, None)
            for key in shared:
                tries = self._tries.get(key)
                if tries is not None:
                    tries.count, tries.free_at = max(0, tries.count - 1), 0.0

    def _found(self, key: Key, now: float) -> _Tries:
        tries = self._tries.get(key)
        return tries if tries is not None and now - tries.last < FORGET_S else _Tries()


def network(address: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 of an IPv6 address, which one household has whole.

    Examples
    --------
    >>> network("10.1.2.3"), network("2001:db8:1:2:3::4"), network("::ffff:10.1.2.3"), network("testclient")
    ('10.1.2.3', '2001:db8:1:2::/64', '10.1.2.3', 'testclient')
    """
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, 64), strict=False))
