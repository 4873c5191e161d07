"""Presence: what devices, or whoever carries their messages, say of their being there: birth and death certificates."""

from __future__ import annotations

from typing import NamedTuple


class Presence(NamedTuple):
    """One certificate. An input of the core, journaled like a reading."""

    device: int
    """Device index."""
    alive: bool
    """True: it is there (a birth); False: it is not (a death, such as a broker's last will for it)."""
    at: int
    """Since when. [ns since 1970 UTC]"""
