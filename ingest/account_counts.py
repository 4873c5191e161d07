"""The arithmetic of the loss account on whole columns: readings by device and hour, and how many are expected.

No loop over readings here. What is counted, and where it is written, is ``ingest.account``'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from telemetry.directory import Directory
from telemetry.observations import NS_PER_S

NS_PER_HOUR = 3600 * NS_PER_S

Ints = npt.NDArray[np.int64]
Pairs = list[tuple[npt.NDArray[np.int32], Ints]]
"""(device, observed_at) of readings, step by step."""


class Counts(NamedTuple):
    """Readings by hour and device."""

    hour: Ints
    device: Ints
    """Number of its name."""
    columns: npt.NDArray[np.int64]
    """(rows, 4) received, duplicate, late, taken"""


def per_s(directory: Directory) -> npt.NDArray[np.float64]:
    """(devices,) readings that each of a device's datastreams is expected to give; 0: no expectation. [1/s]"""
    interval = np.array([d.interval_s or np.inf for d in directory.devices], dtype=np.float64)
    rate: npt.NDArray[np.float64] = np.where(directory.watched, 1.0 / interval, 0.0)
    return rate


def installed_s(directory: Directory, start_ns: int, end_ns: int) -> npt.NDArray[np.float64]:
    """(devices,) how long a device fed its datastreams within a span, summed over them. [s]"""
    i = directory.installed
    seconds = (np.clip(i.end, start_ns, end_ns) - np.clip(i.start, start_ns, end_ns)) / NS_PER_S
    return np.bincount(i.device, seconds, minlength=len(directory.devices)).astype(np.float64)


def joined(parts: Pairs) -> tuple[Ints, Ints]:
    """(device, hour)"""
    if not parts:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    device = np.concatenate([d for d, _ in parts]).astype(np.int64)
    return device, np.concatenate([at for _, at in parts]) // NS_PER_HOUR


def tally(keys: Sequence[Ints], cells: int) -> tuple[Ints, Ints]:
    """How often each key occurs: the keys of the first, in order, and (keys, lists) counts. The others have no more."""
    if cells <= max(4 * keys[0].size, 65_536):
        counts = np.stack([np.bincount(k, minlength=cells) for k in keys], axis=1)
        found = np.flatnonzero(counts[:, 0])
        return found, counts[found]
    found, first = np.unique(keys[0], return_counts=True)
    columns = np.zeros((found.size, len(keys)), dtype=np.int64)
    columns[:, 0] = first
    for i, k in enumerate(keys[1:], 1):
        some, n = np.unique(k, return_counts=True)
        columns[np.searchsorted(found, some), i] = n
    return found, columns


def merged(parts: Sequence[Counts]) -> Counts:
    """The same rows of several chunks added up."""
    if len(parts) == 1:
        return parts[0]
    none = np.empty(0, dtype=np.int64)
    if not parts:
        return Counts(none, none, np.empty((0, 4), dtype=np.int64))
    hour, device = (np.concatenate([p[i] for p in parts]) for i in (0, 1))
    first = int(hour.min()) if hour.size else 0
    key = (hour - first) * 2**32 + device
    found, which = np.unique(key, return_inverse=True)
    sums = summed(np.concatenate([p.columns for p in parts]), which, found.size)
    return Counts(found // 2**32 + first, found % 2**32, sums)


def summed(columns: Ints, which: npt.NDArray[np.intp], size: int) -> Ints:
    """(size, columns) sums of the rows that belong together."""
    return np.stack([np.bincount(which, c, minlength=size) for c in columns.T], axis=1).astype(np.int64)
