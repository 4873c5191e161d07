"""Free TCP ports for servers that are started here, such as the demo's broker."""

from __future__ import annotations

import random
import socket

FIRST, LAST = 10_240, 32_767
"""Below the ports that Linux gives to outgoing connections: one of those could take the port of a server that is down
for a moment."""


def free_port() -> int:
    """A TCP port on the loopback that nobody listens on.

    Raises
    ------
    OSError
        None was found.

    Examples
    --------
    >>> FIRST <= free_port() <= LAST
    True
    """
    chance = random.SystemRandom()
    for _ in range(1000):
        port = chance.randint(FIRST, LAST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no free TCP port was found on the loopback")
