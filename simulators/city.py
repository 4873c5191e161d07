"""A living simulated city: what its sensors report at any time, and what really happened.

A ``City`` is a pure function of its seed and of time: any interval can be asked, in any order and any cutting.
Try ``python -m simulators.city --preview``.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt

from simulators.chance import keys, normal, uniform
from simulators.faults import distort
from simulators.plan import Plan, load
from simulators.rain import TIP_MM
from simulators.schedule import EPISODE_MIN, EPISODE_NS, NS_PER_MIN, Schedule
from simulators.stations import INTERVAL_S, PROPERTIES_OF, install
from simulators.world import World
from telemetry.directory import Datastream, Device, Directory, Site
from telemetry.observations import NS_PER_S

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CLOCK_ERROR_MS = 800
"""A device's readings come up to this much after their regular time, differently each time."""

# Random error of each sensor: constant part, part in proportion to the value; and digits that it reports.
_SENSOR: dict[str, tuple[float, float, int]] = {
    "water_level_m": (0.003, 0.003, 3),
    "battery_v": (0.003, 0.0, 2),
    "rssi_dbm": (1.0, 0.0, 0),
    "pm2_5_ug_m3": (0.7, 0.03, 1),
    "pm10_ug_m3": (1.0, 0.03, 1),
    "no2_ug_m3": (0.8, 0.02, 1),
    "co_ug_m3": (12.0, 0.01, 0),
    "temperature_c": (0.05, 0.0, 2),
    "humidity_percent": (0.4, 0.0, 1),
    "wind_speed_m_s": (0.1, 0.15, 1),
    "wind_direction_deg": (8.0, 0.0, 0),
    "pressure_hpa": (0.04, 0.0, 2),
    "laeq_db": (1.5, 0.0, 1),
    "lamp_power_w": (0.05, 0.01, 1),
}
_NEVER_NEGATIVE = {"pm2_5_ug_m3", "pm10_ug_m3", "no2_ug_m3", "co_ug_m3", "wind_speed_m_s", "lamp_power_w"}


@dataclass(frozen=True, slots=True)
class Samples:
    """Readings as equally long columns, in order of time and then of datastream."""

    datastream: npt.NDArray[np.int32]
    """Position in ``City.datastreams``."""
    observed_at: Ints
    """[ns since 1970 UTC]"""
    value: Floats
    """[unit of the property]"""

    def __len__(self) -> int:
        return int(self.datastream.shape[0])


class Kind(StrEnum):
    """Kinds of true happenings."""

    LEVEL = "level"
    """The true value of a datastream is beyond a threshold of its ladder. Subject: datastream id."""
    INCIDENT = "incident"
    """A road is blocked in part. Subject: road id."""
    LAMP_FAILURE = "lamp failure"
    """Subject: device id."""
    SILENCE = "silence"
    """A device does not send. Subject: device id."""
    FAULT = "fault"
    """A sensor lies. Subject: datastream id; label: how."""


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that truly happened, cut to the interval that was asked for."""

    kind: Kind
    subject: str
    start: int
    """[ns since 1970 UTC]"""
    end: int
    """[ns since 1970 UTC]"""
    label: str = ""
    """Name of the level (LEVEL), such as "Siaga 2"; a higher level's happening lies within the lower one's."""
    severity: int = 0
    peak: float = math.nan
    """Worst true value (LEVEL)."""


@dataclass(frozen=True)
class _Group:
    """All devices of one kind."""

    kind: str
    interval_ns: int
    phase_ns: Ints
    """(devices,)"""
    stream: npt.NDArray[np.int32]
    """(devices, properties)"""


class City:
    """A simulated city.

    Parameters
    ----------
    seed : int
        Another seed, another city's weather and luck; the posts stand where they stand.
    plan : str or Path
        Id of a city in ``cities/``, or the path of such a file.
    faults : bool
        Whether some sensors lie (see ``faults``).

    Raises
    ------
    ValueError
        There is no such city, or its file is wrong.
    """

    def __init__(self, seed: int = 1, plan: str | Path = "bandung", *, faults: bool = True) -> None:
        self.seed = seed
        self._with_faults = faults
        self.plan: Plan = load(plan)
        installed = install(self.plan)
        self.name: str = self.plan.id
        self.title: str = self.plan.title
        self.utc_offset_h: float = self.plan.utc_offset_h
        self.sites: tuple[Site, ...] = installed.sites
        self.devices: tuple[Device, ...] = installed.devices
        self.datastreams: tuple[Datastream, ...] = installed.datastreams
        self.schedule = Schedule(self.plan, installed, seed)
        self.world = World(self.plan, installed, self.schedule, seed)
        self._directory = self.directory()
        self.device_of = self._directory.device_of
        """(datastreams,) position of each datastream's device."""
        names = np.array([d.id for d in self.devices])
        self._groups = []
        for kind, members in self.world.members.items():
            interval_ns = INTERVAL_S[kind] * NS_PER_S
            phase = uniform(keys(seed, [str(n) for n in names[members]], "phase"), np.array([0]))
            stream = [[self._directory.index_of[str(n)][p] for p in PROPERTIES_OF[kind]] for n in names[members]]
            self._groups.append(
                _Group(
                    kind,
                    interval_ns,
                    (phase * (interval_ns // 1_000_000)).astype(np.int64) * 1_000_000,
                    np.array(stream, dtype=np.int32),
                )
            )
        self._error_keys = keys(seed, [d.id for d in self.datastreams], "error")
        self._clock_keys = {
            g.kind: keys(seed, [str(n) for n in names[self.world.members[g.kind]]], "clock") for g in self._groups
        }

    def directory(self, version: int = 1) -> Directory:
        """The city as a Directory, in the order of ``sites``, ``devices`` and ``datastreams``."""
        return Directory(version, self.name, self.utc_offset_h, self.sites, self.devices, self.datastreams)

    def start_of_evening(self, date: str) -> int:
        """17:20 local time of a day ("2026-11-24"), when the great storm's episode begins. [ns since 1970 UTC]"""
        local = datetime.fromisoformat(date).replace(
            hour=17, minute=20, tzinfo=timezone(timedelta(hours=self.utc_offset_h))
        )
        return round(local.timestamp()) * NS_PER_S

    def sample(self, start_ns: int, end_ns: int) -> Samples:
        """All readings observed in [start, end). [ns since 1970 UTC]

        ``sample(a, b)`` followed by ``sample(b, c)`` is ``sample(a, c)``.
        """
        parts: list[Samples] = []
        if end_ns > start_ns:
            for episode in range(self.schedule.episode_at(start_ns), self.schedule.episode_at(end_ns - 1) + 1):
                began = self.schedule.start_ns(episode)
                low, high = max(start_ns, began), min(end_ns, began + EPISODE_NS)
                of_all = [s for group in self._groups for s in self._read(group, episode, low, high)]
                parts.append(_in_order(of_all))
        return _joined(parts)

    def truth(self, start_ns: int, end_ns: int) -> list[Happening]:
        """What truly happens in [start, end), in order of time; happenings are cut at both ends."""
        if end_ns <= start_ns:
            return []
        found: list[Happening] = []
        episodes = range(self.schedule.episode_at(start_ns), self.schedule.episode_at(end_ns - 1) + 1)
        for episode in episodes:
            found += self._scheduled(episode, start_ns, end_ns)
        found += self._levels(list(episodes), start_ns, end_ns)
        return sorted(found, key=lambda h: (h.start, h.kind, h.subject, h.severity))

    def _read(self, group: _Group, episode: int, low: int, high: int) -> Iterator[Samples]:
        """The readings of one kind of device in [low, high), which lies in one episode."""
        devices = group.phase_ns.size
        slack = CLOCK_ERROR_MS * 1_000_000
        first = (low - slack) // group.interval_ns - 1
        count = np.arange(first, high // group.interval_ns + 1, dtype=np.int64)
        device = np.repeat(np.arange(devices), count.size)
        n = np.tile(count, devices)
        at = self._observed_at(group, device, n)
        keep = (at >= low) & (at < high)
        dying = self.schedule.dead_battery(episode)
        began = self.schedule.start_ns(episode)
        if dying is not None:
            dead = self.world.members[group.kind][device] == dying.station
            minute = (at - began) / NS_PER_MIN
            keep &= ~(dead & (minute >= dying.start_min) & (minute < dying.end_min))
        device, n, at = device[keep], n[keep], at[keep]
        truth = self.world.truth(episode)
        names = PROPERTIES_OF[group.kind]
        read = {name: _at_minute(truth[group.kind, name], at - began, device) for name in names if name != "rain_mm"}
        if group.kind == "rain":
            before = np.maximum(self._observed_at(group, device, n - 1), began)  # dry across the border of episodes
            fallen = truth["rain", "rain_mm"]
            tips = np.floor(_at_minute(fallen, at - began, device) / TIP_MM)
            read["rain_mm"] = TIP_MM * (tips - np.floor(_at_minute(fallen, before - began, device) / TIP_MM))
        for p, name in enumerate(names):
            stream = group.stream[device, p]
            error = normal(self._error_keys[stream], n)
            if group.kind == "traffic":
                value = self._counted(group, name, read, device, error, n)
            elif name == "rain_mm":
                value = np.round(read[name], 1)
            else:
                value = _measured(name, read[name], error)
            if self._with_faults:
                for fault in self.schedule.faults(episode):
                    if fault.property != name:
                        continue
                    minute = (at - began) / NS_PER_MIN
                    struck = self.world.members[group.kind][device] == fault.station
                    struck &= (minute >= fault.start_min) & (minute < fault.end_min)
                    if struck.any():
                        mine = int(np.searchsorted(self.world.members[group.kind], fault.station))
                        frozen_at = round(float(truth[group.kind, name][int(fault.start_min), mine]), 1)
                        keys_of = self._error_keys[stream[struck]]
                        value[struck] = distort(fault.kind, value[struck], frozen_at, keys_of, n[struck])
            good = ~np.isnan(value)
            yield Samples(stream[good], at[good], value[good])

    def _observed_at(self, group: _Group, device: npt.NDArray[np.intp], n: Ints) -> Ints:
        late_ms = (uniform(self._clock_keys[group.kind][device], n) * CLOCK_ERROR_MS).astype(np.int64)
        return n * group.interval_ns + group.phase_ns[device] + late_ms * 1_000_000

    def _counted(
        self, group: _Group, name: str, read: dict[str, Floats], device: npt.NDArray[np.intp], error: Floats, n: Ints
    ) -> Floats:
        """What a loop detector makes of a minute: whole vehicles, and a speed only if there was one."""
        expected = read["flow_veh_h"] * group.interval_ns / (3600 * NS_PER_S)
        flow_key = self._error_keys[group.stream[device, PROPERTIES_OF["traffic"].index("flow_veh_h")]]
        # flow under signals is steadier than chance arrivals: the spread of the count is half of Poisson's
        vehicles = np.maximum(np.round(expected + 0.7 * np.sqrt(expected) * normal(flow_key, n)), 0.0)
        match name:
            case "flow_veh_h":
                return np.asarray(np.round(vehicles * 3600 * NS_PER_S / group.interval_ns, 0))
            case "speed_km_h":
                spread = 0.18 / np.sqrt(np.maximum(vehicles, 1.0))
                speed = np.round(np.maximum(read[name] * (1.0 + spread * error), 0.5), 1)
                return np.where(vehicles > 0.0, speed, np.nan)
            case _:
                share = vehicles / np.maximum(expected, 1e-9)
                # in a queue the detector is covered whatever passes
                covered = np.where(read[name] > 0.4, 1.0 + 0.02 * error, share)
                return np.asarray(np.round(np.clip(read[name] * covered, 0.0, 1.0), 3))

    def _scheduled(self, episode: int, start_ns: int, end_ns: int) -> list[Happening]:
        began = self.schedule.start_ns(episode)
        found: list[tuple[Kind, str, float, float]] = []
        incident = self.schedule.incident(episode, float(self.world.demand(np.zeros(1), episode)[0]))
        if incident is not None:
            found.append((Kind.INCIDENT, self.plan.roads[incident.road].id, incident.start_min, incident.end_min))
        found += [
            (Kind.LAMP_FAILURE, self.devices[lamp.station].id, lamp.start_min, lamp.end_min)
            for lamp in self.schedule.dark_lamps(episode)
        ]
        dead = self.schedule.dead_battery(episode)
        if dead is not None:
            found.append((Kind.SILENCE, self.devices[dead.station].id, dead.start_min, dead.end_min))
        labelled = [(*f, "") for f in found]
        if self._with_faults:
            labelled += [
                (Kind.FAULT, f"{self.devices[f.station].id}.{f.property}", f.start_min, f.end_min, str(f.kind))
                for f in self.schedule.faults(episode)
            ]
        cut = [
            Happening(
                kind,
                subject,
                max(began + round(start * NS_PER_MIN), start_ns),
                min(began + round(end * NS_PER_MIN), end_ns),
                label,
            )
            for kind, subject, start, end, label in labelled
        ]
        return [h for h in cut if h.start < h.end]

    def _levels(self, episodes: list[int], start_ns: int, end_ns: int) -> list[Happening]:
        """Intervals in which true values lie beyond thresholds; lamps are left to their failures."""
        found: list[Happening] = []
        truths = [self.world.truth(e) for e in episodes]
        began = self.schedule.start_ns(episodes[0])
        at = began + np.arange(EPISODE_MIN * len(episodes) + 1) * NS_PER_MIN
        for group in self._groups:
            for p, name in enumerate(PROPERTIES_OF[group.kind]):
                if name == "lamp_power_w":
                    continue
                value = np.vstack([*(t[group.kind, name][:-1] for t in truths), truths[-1][group.kind, name][-1:]])
                for d, stream in enumerate(group.stream[:, p]):
                    for step in self.datastreams[stream].ladder.steps:
                        sign = self.datastreams[stream].ladder.direction
                        for a, b in _beyond(at, sign * value[:, d], sign * step.value):
                            a, b = max(a, start_ns), min(b, end_ns)
                            if a >= b:
                                continue
                            inside = value[(at >= a) & (at <= b), d]
                            worst = sign * float((sign * inside).max()) if inside.size else step.value
                            found.append(
                                Happening(
                                    Kind.LEVEL, self.datastreams[stream].id, a, b, step.label, step.severity, worst
                                )
                            )
        return found


def _at_minute(nodes: Floats, since_ns: Ints, device: npt.NDArray[np.intp]) -> Floats:
    """Values between the full minutes, linearly."""
    position = since_ns / NS_PER_MIN
    before = np.minimum(position.astype(np.int64), EPISODE_MIN - 1)
    part = position - before
    return np.asarray((1.0 - part) * nodes[before, device] + part * nodes[before + 1, device])


def _measured(name: str, true: Floats, error: Floats) -> Floats:
    constant, relative, digits = _SENSOR[name]
    value = np.round(true + (constant + relative * np.abs(true)) * error, digits)
    if name == "wind_direction_deg":
        value = value % 360.0
    if name == "humidity_percent":
        value = np.clip(value, 0.0, 100.0)
    if name in _NEVER_NEGATIVE:
        value = np.maximum(value, 0.0)
    return np.asarray(value)


def _in_order(parts: list[Samples]) -> Samples:
    all_of = _joined(parts)
    order = np.lexsort((all_of.datastream, all_of.observed_at))
    return Samples(all_of.datastream[order], all_of.observed_at[order], all_of.value[order])


def _joined(parts: list[Samples]) -> Samples:
    if not parts:
        return Samples(np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0))
    return Samples(
        np.concatenate([p.datastream for p in parts]),
        np.concatenate([p.observed_at for p in parts]),
        np.concatenate([p.value for p in parts]),
    )


def _beyond(at: Ints, value: Floats, threshold: float) -> list[tuple[int, int]]:
    """Intervals in which a broken line lies at or over a threshold."""
    over = value >= threshold
    edge = np.flatnonzero(over[1:] != over[:-1])
    part = (threshold - value[edge]) / (value[edge + 1] - value[edge])
    cross = at[edge] + np.round(part * (at[edge + 1] - at[edge])).astype(np.int64)
    bounds = [int(c) for c in cross]
    if over[0]:
        bounds.insert(0, int(at[0]))
    if over[-1]:
        bounds.append(int(at[-1]))
    return list(zip(bounds[::2], bounds[1::2], strict=True))


def preview(city: City, start_ns: int, minutes: int = 180, every_min: int = 5) -> str:
    """A table of the heaviest rain, the highest gauge, the slowest counter and the dark lamp, and what is true."""
    end_ns = start_ns + minutes * NS_PER_MIN
    happenings = city.truth(start_ns, end_ns)
    local = timezone(timedelta(hours=city.utc_offset_h))

    def clock(t: int) -> str:
        return datetime.fromtimestamp(t / 1e9, UTC).astimezone(local).strftime("%H:%M")

    def about(kind: str, prefix: str = "") -> list[Happening]:
        return [h for h in happenings if h.kind == kind and h.subject.startswith(prefix)]

    samples = city.sample(start_ns, end_ns)
    ids = np.array([d.id for d in city.datastreams])
    floods = about(Kind.LEVEL, "gauge")
    jams = about(Kind.LEVEL, "traffic")
    gauge = max(floods, key=lambda h: (h.severity, h.peak)).subject if floods else "gauge-curug-dago.water_level_m"
    counter = max(jams, key=lambda h: (h.severity, h.end - h.start)).subject if jams else ""
    lamps = about(Kind.LAMP_FAILURE)
    lamp = f"{lamps[0].subject}.lamp_power_w" if lamps else ""
    silent = about(Kind.SILENCE)

    def series(name: str) -> tuple[Ints, Floats]:
        mine = ids[samples.datastream] == name
        return samples.observed_at[mine], samples.value[mine]

    rains = np.flatnonzero([d.property == "rain_mm" for d in city.datastreams])
    speeds = np.flatnonzero([d.property == "speed_km_h" for d in city.datastreams])
    lines = [
        f"{city.title}, seed {city.seed}, local time; gauge {gauge}, counter {counter}, lamp {lamp}",
        " time  rain mm/h  gauge m  gauges at S3/S2/S1   speed  city median  slow counters  lamp W",
    ]
    shown = {name: series(name) for name in (gauge, counter, lamp)}
    for t in range(start_ns, end_ns, every_min * NS_PER_MIN):
        now = (samples.observed_at >= t) & (samples.observed_at < t + 60 * NS_PER_S)
        rain = samples.value[now & np.isin(samples.datastream, rains)]
        speed = samples.value[now & np.isin(samples.datastream, speeds)]

        def latest(name: str, t: int = t) -> str:
            at, value = shown[name]
            seen = at < t + 60 * NS_PER_S
            return f"{value[seen][-1]:7.2f}" if seen.any() else "      -"

        at_level = [sum(h.start <= t < h.end and h.label == f"Siaga {k}" for h in floods) for k in (3, 2, 1)]
        slow = len({h.subject for h in jams if h.start <= t < h.end})
        lines.append(
            f"{clock(t)}  {rain.max() * 60 if rain.size else 0:9.0f}  {latest(gauge)}"
            f"  {at_level[0]:6d} {at_level[1]:4d} {at_level[2]:4d}    {latest(counter)}"
            f"  {np.median(speed) if speed.size else math.nan:11.1f}  {slow:13d}  {latest(lamp)}"
        )
    lines += [f"silent: {h.subject} {clock(h.start)}-{clock(h.end)}" for h in silent]
    lines += [f"{h.label}: {h.subject} {clock(h.start)}-{clock(h.end)}" for h in about(Kind.FAULT)]
    lines += [f"incident: {h.subject} {clock(h.start)}-{clock(h.end)}" for h in about(Kind.INCIDENT)]
    worst: dict[str, Happening] = {}
    for h in [*floods, *jams, *about(Kind.LEVEL, "air")]:
        if h.subject not in worst or h.severity > worst[h.subject].severity:
            worst[h.subject] = h
    lines += [f"{h.label}: {h.subject} {clock(h.start)}-{clock(h.end)}, worst {h.peak:.2f}" for h in worst.values()]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Command line: show a simulated city."""
    parser = argparse.ArgumentParser(prog="python -m simulators.city", description="Show a simulated city.")
    parser.add_argument("--preview", action="store_true", help="table of the first hours after 17:20")
    parser.add_argument("--city", default="bandung", help="id of a city that comes along, or a file *.toml")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--date", default="2026-11-24", help="local date, YYYY-MM-DD")
    parser.add_argument("--hours", type=float, default=3.0)
    chosen = parser.parse_args(arguments)
    try:
        city = City(chosen.seed, chosen.city)
        start_ns = city.start_of_evening(chosen.date)
    except ValueError as error:
        parser.error(str(error))
    if chosen.preview:
        print(preview(city, start_ns, round(60 * chosen.hours)))
    else:
        kinds = ", ".join(f"{len(m)} {kind}" for kind, m in city.world.members.items())
        print(f"{city.title}: {len(city.sites)} sites, {len(city.devices)} devices ({kinds})")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
