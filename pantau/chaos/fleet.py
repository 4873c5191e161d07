"""The fleet of a campaign: which devices of the simulated city send what, minute by minute of its time.

A pure function of the seed. A few devices fall silent for a while, beside what the city's own luck does to them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import msgspec
import numpy as np
import numpy.typing as npt

from pantau.chaos.sender import Message
from simulators.city import City, Samples
from simulators.fleet import messages
from telemetry.directory import Datastream, Device, Site
from telemetry.observations import NS_PER_S

TICK_S = 60
"""Simulated time between two words of the clock."""
DATE = "2026-11-24"
_SLEEP_MIN = (20.0, 35.0)


@dataclass(frozen=True)
class Tick:
    """A minute of the fleet."""

    messages: tuple[Message, ...]
    clock_ms: int
    """Told after them: there is nothing older to come. [ms since 1970 UTC]"""


@dataclass(frozen=True)
class FleetScript:
    """All that a fleet sends."""

    city: str
    utc_offset_h: float
    sites: tuple[Site, ...]
    devices: tuple[Device, ...]
    datastreams: tuple[Datastream, ...]
    start_ms: int
    ticks: tuple[Tick, ...]
    readings: dict[tuple[str, int], float] = field(repr=False)
    """(datastream id, time of observation [ns since 1970 UTC]) → value, of every reading."""
    pending: tuple[tuple[int, int], ...]
    """[start, end) in ms since 1970 UTC: times at which a device is quiet and its silence is not an alarm yet."""

    def clock(self, clock_ms: int) -> Message:
        """What tells the time."""
        now = np.datetime_as_string(np.datetime64(clock_ms, "ms"))
        return f"pantau/v1/{self.city}/clock", msgspec.json.encode({"now": f"{now}Z", "speed": 60.0}), True

    def pending_within(self, first_ms: int, last_ms: int) -> bool:
        """Whether a silence is pending at any time from ``first_ms`` to ``last_ms``."""
        return any(start <= last_ms and first_ms < end for start, end in self.pending)


def write_script(seed: int, minutes: int = 130, devices: int = 60) -> FleetScript:
    """Write what a fleet of about ``devices`` devices sends in ``minutes`` of the city's stormy evening."""
    city = City(seed)
    begin = city.start_of_evening(DATE)
    end = begin + minutes * TICK_S * NS_PER_S
    chance = random.Random(seed)
    chosen = _choose(city, begin, end, devices)
    samples = city.sample(begin, end)
    device_of = city.device_of[samples.datastream]
    keep = np.isin(device_of, chosen)
    for device, (start, stop) in _sleepers(chosen, begin, minutes, chance).items():
        keep &= ~((device_of == device) & (samples.observed_at >= start) & (samples.observed_at < stop))
    samples = _take(samples, keep)
    device_of = city.device_of[samples.datastream]
    ticks = []
    for minute in range(minutes):
        low = begin + minute * TICK_S * NS_PER_S
        high = low + TICK_S * NS_PER_S
        part = _take(samples, (samples.observed_at >= low) & (samples.observed_at < high))
        sent = tuple((f"pantau/v1/{city.name}/{name}", payload, False) for name, payload, _ in messages(city, part))
        ticks.append(Tick(sent, high // 1_000_000))
    mine = [city.devices[i] for i in chosen]
    names, sites = {d.id for d in mine}, {d.site for d in mine}
    readings = {
        (city.datastreams[s].id, at): value
        for s, at, value in zip(
            samples.datastream.tolist(),
            (samples.observed_at // 1_000_000 * 1_000_000).tolist(),  # messages tell milliseconds
            samples.value.tolist(),
            strict=True,
        )
    }
    pending = []
    for device in chosen:
        allowed_ns = round(city.devices[device].silence_after_s * NS_PER_S)
        at = np.sort(samples.observed_at[device_of == device])
        edges = np.concatenate([[begin], at, [end]])
        gaps = np.flatnonzero(np.diff(edges) > allowed_ns)
        pending += [(int(edges[g]) // 1_000_000, (int(edges[g]) + allowed_ns) // 1_000_000 + 60_000) for g in gaps]
    return FleetScript(
        city=city.name,
        utc_offset_h=city.utc_offset_h,
        sites=tuple(s for s in city.sites if s.id in sites),
        devices=tuple(mine),
        datastreams=tuple(d for d in city.datastreams if d.device in names),
        start_ms=begin // 1_000_000,
        ticks=tuple(ticks),
        readings=readings,
        pending=tuple(sorted(pending)),
    )


def _choose(city: City, begin: int, end: int, devices: int) -> list[int]:
    """Those to whom something happens, and some of every kind."""
    number = {d.id: i for i, d in enumerate(city.devices)}
    of_stream = {d.id: d.device for d in city.datastreams}
    happens = {of_stream.get(h.subject, h.subject) for h in city.truth(begin, end)}
    chosen = [number[name] for name in sorted(happens & number.keys())][:devices]
    step = max(len(city.devices) / max(devices - len(chosen), 1), 1.0)
    spread = {int(i * step) for i in range(devices - len(chosen))}
    return sorted({*chosen, *(i for i in spread if i < len(city.devices))})


def _sleepers(chosen: list[int], begin: int, minutes: int, chance: random.Random) -> dict[int, tuple[int, int]]:
    """Two groups of devices that stop for a while, each group at about the same time."""
    sleeping = chance.sample(chosen, min(6, len(chosen)))
    found = {}
    for i, device in enumerate(sleeping):
        start_min = minutes * (0.12 if i % 2 else 0.55) + chance.uniform(0, 2)
        stop_min = start_min + chance.uniform(*_SLEEP_MIN)
        found[device] = (begin + round(start_min * 60 * NS_PER_S), begin + round(stop_min * 60 * NS_PER_S))
    return found


def _take(samples: Samples, keep: npt.NDArray[np.bool_]) -> Samples:
    return Samples(samples.datastream[keep], samples.observed_at[keep], samples.value[keep])
