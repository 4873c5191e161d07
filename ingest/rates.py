"""How much a device may send: one that runs away must not fill journal and store, nor hold up the others.

Each device has an account of readings. It is credited with ``device_readings_per_s`` for each second that passes here,
and for each second that its readings cover; it never holds more than ``device_burst_readings``, which it begins with. A
reading costs one. So a backlog that comes in the order of its times pays for itself, however long it is: a broker that
was away for a day, a logger that was cut off for a month. One that comes in another order has the burst: 100,000
readings are three days of a reading a minute for 23 datastreams. A device that floods with times of now earns twice
the rate at most.

What is beyond is refused and counted exactly, but only one reading a minute is kept as a dead letter.
"""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ingest.refusals import DeadLetter, Reason
from ingest.settings import Limits
from telemetry.directory import Directory
from telemetry.observations import NS_PER_S, Observations, rfc3339

log = logging.getLogger(__name__)

SAMPLE_NS = 60 * NS_PER_S
"""A dead letter is kept of a device that is limited this often. [the pipeline's clock]"""
OVER_NS = 600 * NS_PER_S
"""A device of which nothing was refused for so long is no runaway any more."""
_NEVER = -(2**63)


@dataclass(frozen=True, slots=True)
class Runaway:
    """A device that sends more than it may."""

    device: str
    since: int
    """[ns since 1970 UTC]"""
    refused: int
    """Readings, since then."""


@dataclass(slots=True)
class _Episode:
    since: int
    last: int
    refused: int
    sampled: int


class Rates:
    """The accounts of all devices; in memory, so that all begin anew with the process.

    ``judge`` belongs to one thread; ``runaways`` may be called from any.
    """

    def __init__(self, limits: Limits) -> None:
        self._per_ns = limits.device_readings_per_s / NS_PER_S
        self._rate = limits.device_readings_per_s
        self._burst = float(limits.device_burst_readings)
        self._credit = np.empty(0)
        self._heard_at = np.empty(0, dtype=np.int64)
        self._covered_to = np.empty(0, dtype=np.int64)
        self._mutex = threading.Lock()
        self._episodes: dict[str, _Episode] = {}

    def judge(self, observations: Observations, directory: Directory) -> tuple[Observations, list[DeadLetter]]:
        """Split a batch into what is taken and letters that stand for what is not.

        Parameters
        ----------
        observations : Observations
            In the order in which they came.
        directory : Directory
        """
        if not self._rate or not len(observations):
            return observations, []
        self._grow(len(directory.devices))
        device = directory.installed.device_at(observations.datastream, observations.observed_at)
        counts = np.bincount(device[device >= 0], minlength=self._credit.size)
        who = np.flatnonzero(counts)
        now = int(observations.received_at[-1])
        newest = np.full(self._credit.size, _NEVER, dtype=np.int64)
        np.maximum.at(newest, np.maximum(device, 0), np.where(device >= 0, observations.observed_at, _NEVER))
        newest = newest[who]
        passed = np.where(self._heard_at[who] == _NEVER, 0, np.maximum(now - self._heard_at[who], 0))
        covered = np.where(self._covered_to[who] == _NEVER, 0, np.maximum(newest - self._covered_to[who], 0))
        self._heard_at[who] = now
        self._covered_to[who] = np.maximum(newest, self._covered_to[who])
        have = np.minimum(self._credit[who] + passed * self._per_ns, self._burst) + covered * self._per_ns
        taken = np.minimum(counts[who], np.floor(have).astype(np.int64))
        self._credit[who] = np.minimum(have - taken, self._burst)
        excess = counts[who] - taken
        over = excess > 0
        if not over.any():
            return observations, []
        keep, letters = np.ones(len(observations), dtype=np.bool_), list[DeadLetter]()
        for index, allowed in zip(who[over].tolist(), taken[over].tolist(), strict=True):
            rows = np.flatnonzero(device == index)[allowed:]  # the later ones
            keep[rows] = False
            letters += self._refuse(observations, rows, directory, directory.devices[index].id, now)
        return observations.take(keep), letters

    def runaways(self, now: int) -> tuple[Runaway, ...]:
        """The devices that are limited now, the worst first. [ns since 1970 UTC]"""
        with self._mutex:
            self._episodes = {d: e for d, e in self._episodes.items() if now - e.last < OVER_NS}
            found = [Runaway(device, e.since, e.refused) for device, e in self._episodes.items()]
        return tuple(sorted(found, key=lambda r: -r.refused))

    def _grow(self, devices: int) -> None:
        more = devices - self._credit.size
        if more > 0:
            self._credit = np.concatenate([self._credit, np.full(more, self._burst)])
            never = np.full(more, _NEVER, dtype=np.int64)
            self._heard_at = np.concatenate([self._heard_at, never])
            self._covered_to = np.concatenate([self._covered_to, never])

    def _refuse(
        self, observations: Observations, rows: npt.NDArray[np.intp], directory: Directory, device: str, now: int
    ) -> list[DeadLetter]:
        """A letter for each broker that the readings came through; at most one of them is kept."""
        with self._mutex:
            episode = self._episodes.get(device)
            if episode is None or now - episode.last >= OVER_NS:
                episode = self._episodes[device] = _Episode(now, now, 0, _NEVER)
                log.warning("device %s sends more than %g readings/s: what is beyond is refused", device, self._rate)
            episode.last = now
            episode.refused += rows.size
            sample = episode.sampled == _NEVER or now - episode.sampled >= SAMPLE_NS
            if sample:
                episode.sampled = now
        letters = []
        brokers, times = np.unique(observations.broker[rows], return_counts=True)
        for place, (broker, n) in enumerate(zip(brokers.tolist(), times.tolist(), strict=True)):
            row = int(rows[observations.broker[rows] == broker][0])
            stream = directory.datastreams[int(observations.datastream[row])]
            reading = {
                "device": device,
                "time": rfc3339(int(observations.observed_at[row])),
                "property": stream.property,
                "value": float(observations.value[row]),
            }
            letters.append(
                DeadLetter(
                    reason=Reason.RATE_LIMITED,
                    detail=(
                        f"the device sends more than {self._rate:g} readings/s (limits.device_readings_per_s); "
                        f"this reading is a sample, after calibration"
                    ),
                    topic=f"pantau/v1/{directory.city}/{device}",
                    payload=json.dumps(reading).encode(),
                    broker=directory.brokers[broker] if broker < len(directory.brokers) else "",
                    received_at=int(observations.received_at[row]),
                    device=device,
                    fragment=True,
                    times=int(n),
                    kept=sample and place == 0,
                )
            )
        return letters
