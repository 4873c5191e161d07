"""Randomness without a state: a number is drawn from a key and a counter, so that any minute can be computed alone.

A key belongs to one thing (a device's property, an episode's storm). Things that are added change no other's draws.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Keys = npt.NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def key(*parts: object) -> int:
    """A 64-bit key for what ``parts`` name together.

    Examples
    --------
    >>> key(1, "rain-lembang") == key(1, "rain-lembang"), key(1, "rain-lembang") == key(2, "rain-lembang")
    (True, False)
    """
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def keys(seed: int, names: list[str], what: str) -> Keys:
    """One key for each of ``names``. Shape (len(names),)."""
    return np.array([key(seed, name, what) for name in names], dtype=np.uint64)


def uniform(key_of: Keys, counter: npt.NDArray[np.int64]) -> Floats:
    """Numbers in (0, 1), one for each pair of key and counter (broadcast).

    References
    ----------
    SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014 (finalizer).
    """
    with np.errstate(over="ignore"):
        z = key_of + counter.astype(np.uint64) * _GOLDEN
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return np.asarray(((z >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53)


def normal(key_of: Keys, counter: npt.NDArray[np.int64]) -> Floats:
    """Standard normal numbers (Box-Muller), one for each pair of key and counter (broadcast)."""
    radius = np.sqrt(-2.0 * np.log(uniform(key_of, 2 * counter)))
    return np.asarray(radius * np.cos(2.0 * np.pi * uniform(key_of, 2 * counter + 1)))


def wander(key_of: Keys, time: Floats, period: float) -> Floats:
    """A smooth random walk about zero: normal numbers at every ``period``, joined by a smooth step (broadcast)."""
    position = time / period
    before = np.floor(position)
    part = position - before
    part = part * part * (3.0 - 2.0 * part)
    n = before.astype(np.int64)
    return np.asarray((1.0 - part) * normal(key_of, n) + part * normal(key_of, n + 1))


class Dice:
    """Draws for one thing, one after another.

    Examples
    --------
    >>> Dice(7, "storm", 3).between(0, 1) == Dice(7, "storm", 3).between(0, 1)
    True
    """

    def __init__(self, *parts: object) -> None:
        self._key = np.array([key(*parts)], dtype=np.uint64)
        self._drawn = 0

    def between(self, low: float, high: float) -> float:
        """A number in (low, high)."""
        u = uniform(self._key, np.array([self._drawn], dtype=np.int64))[0]
        self._drawn += 1
        return low + (high - low) * float(u)

    def below(self, n: int) -> int:
        """A whole number in [0, n)."""
        return min(int(self.between(0, n)), n - 1)
