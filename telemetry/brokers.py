"""The brokers as the core must know them: which of them we hear, since when, and which one a reading came through."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

UNKNOWN_BROKER = 255
"""Stands for a broker that is not known; so a city has at most 255."""

BROKER_AFTER_S = 30.0
"""Default of how long a broker may be away before that is an alarm."""


class BrokerLink(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Our connection to one broker at one moment, in the pipeline's clock. An input of the core, journaled."""

    connected: bool
    since: int | None
    """Since when ``connected`` is what it is; None: that is not known yet. [ns since 1970 UTC]"""
    alarm_after_s: float = BROKER_AFTER_S
    """Away for longer than this is an alarm."""

    @property
    def heard_since(self) -> int | None:
        """Since when we hear it; None while we don't. [ns since 1970 UTC]"""
        return self.since if self.connected else None


def listening_since(brokers: Sequence[BrokerLink]) -> int | None:
    """Since when every broker is heard; None while one is not, or if there is none. [ns since 1970 UTC]

    Examples
    --------
    >>> listening_since([BrokerLink(True, 10), BrokerLink(True, 30)])
    30
    >>> listening_since([BrokerLink(True, 10), BrokerLink(False, 30)]) is None
    True
    """
    heard = [b.heard_since for b in brokers]
    known = [since for since in heard if since is not None]
    return max(known) if known and len(known) == len(heard) else None
