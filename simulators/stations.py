"""Sites, devices and datastreams of a simulated city, with the limits and thresholds that an engineer would register.

All thresholds are invented for the simulation, in the spirit of the rules that are named beside them. There is none
for noise: the limits of KepMenLH 48/1996 hold for means over day and night, and single minutes at any road exceed them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from simulators.plan import Plan, Position, Road, slug
from telemetry.alarms import Severity
from telemetry.directory import Datastream, Device, Direction, Gate, Ladder, Limits, Site, Step

PROPERTIES_OF = {
    "gauge": ("water_level_m", "battery_v"),
    "rain": ("rain_mm", "battery_v", "rssi_dbm"),
    "traffic": ("speed_km_h", "flow_veh_h", "occupancy"),
    "air": ("pm2_5_ug_m3", "pm10_ug_m3", "no2_ug_m3", "co_ug_m3", "temperature_c", "humidity_percent"),
    "noise": ("laeq_db", "battery_v"),
    "weather": (
        "temperature_c",
        "humidity_percent",
        "wind_speed_m_s",
        "wind_direction_deg",
        "pressure_hpa",
        "battery_v",
    ),
    "lamp": ("lamp_power_w", "rssi_dbm"),
}
"""Kind of device → what it measures, in the order of its datastreams."""

INTERVAL_S = {"gauge": 60, "rain": 60, "traffic": 60, "air": 60, "noise": 60, "weather": 60, "lamp": 300}
"""Kind of device → time between two readings."""

MODEL_OF = {
    "gauge": "Simulated radar level gauge",
    "rain": "Simulated tipping bucket 0.2 mm",
    "traffic": "Simulated loop detector",
    "air": "Simulated air post",
    "noise": "Simulated sound level meter",
    "weather": "Simulated weather post",
    "lamp": "Simulated lamp controller",
}


@dataclass(frozen=True)
class Station:
    """One device of the simulated city and what the models need to know of it."""

    kind: str
    device: str
    at: Position
    owner: int = -1
    """Position of its gauge or road in the plan, if it has one."""
    chainage_km: float = 0.0
    """Place along the road, in the direction of the road's line."""
    direction: int = 0
    """+1 with the road's line, -1 against it."""


@dataclass(frozen=True)
class Stations:
    """Everything that is installed in a city."""

    stations: tuple[Station, ...]
    """One for each device, in the same order."""
    sites: tuple[Site, ...]
    devices: tuple[Device, ...]
    datastreams: tuple[Datastream, ...]


def install(plan: Plan) -> Stations:
    """Place all devices of the plan."""
    stations: list[Station] = []
    sites: list[Site] = []
    devices: list[Device] = []
    datastreams: list[Datastream] = []

    def site(name: str, at: Position) -> str:
        site_id = slug(name)
        if all(s.id != site_id for s in sites):
            sites.append(Site(site_id, name, latitude=at[1], longitude=at[0], district=plan.district_at(at)))
        return site_id

    def device(station: Station, site_id: str) -> None:
        stations.append(station)
        silence_after_s = 3 * INTERVAL_S[station.kind] if station.kind == "lamp" else 600.0
        devices.append(Device(station.device, site_id, MODEL_OF[station.kind], silence_after_s))
        datastreams.extend(
            Datastream(
                id=f"{station.device}.{name}",
                site=site_id,
                device=station.device,
                property=name,
                limits=_limits(plan, station, name),
                ladder=_ladder(plan, station, name),
            )
            for name in PROPERTIES_OF[station.kind]
        )

    for i, gauge in enumerate(plan.gauges):
        device(Station("gauge", f"gauge-{gauge.id}", gauge.at, i), site(f"{gauge.river} - {gauge.name}", gauge.at))
    for name, at in plan.rain.items():
        device(Station("rain", f"rain-{slug(name)}", at), site(f"Pos hujan {name}", at))
    for i, road in enumerate(plan.roads):
        for name, at in road.counters.items():
            place = site(f"{road.name} - {name}", at)
            for sign, toward in zip((1, -1), road.directions, strict=True):
                device_id = f"traffic-{road.id}-{slug(name)}-{toward}"
                device(Station("traffic", device_id, at, i, chainage_km(plan, road, at), sign), place)
    for name, at in plan.air.items():
        device(Station("air", f"air-{slug(name.removeprefix('Kantor Kecamatan '))}", at), site(f"Pos udara {name}", at))
    for name, at in plan.noise.items():
        device(Station("noise", f"noise-{slug(name)}", at), site(f"Pos bising {name}", at))
    for name, at in plan.weather.items():
        device(Station("weather", f"weather-{slug(name)}", at), site(f"Pos cuaca {name}", at))
    for i, road in enumerate(plan.roads):
        for n in range(road.lamps):
            at = _along(plan, road, (n + 0.5) / road.lamps)
            device(Station("lamp", f"lamp-{road.id}-{n + 1:02d}", at, i), site(f"{road.name} - lampu {n + 1}", at))
    return Stations(tuple(stations), tuple(sites), tuple(devices), tuple(datastreams))


def chainage_km(plan: Plan, road: Road, at: Position) -> float:
    """How far along the road's line a place lies (nearest point of the line)."""
    line = plan.local_km(list(road.line))
    point = plan.local_km([at])[0]
    step = np.diff(line, axis=0)
    length = np.hypot(step[:, 0], step[:, 1])
    part = np.clip(((point - line[:-1]) * step).sum(axis=1) / length**2, 0.0, 1.0)
    away = np.hypot(*(line[:-1] + part[:, None] * step - point).T)
    nearest = int(np.argmin(away))
    return float(length[:nearest].sum() + part[nearest] * length[nearest])


def _along(plan: Plan, road: Road, fraction: float) -> Position:
    line = plan.local_km(list(road.line))
    chain = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    lon, lat = zip(*road.line, strict=True)
    at = fraction * chain[-1]
    return round(float(np.interp(at, chain, lon)), 6), round(float(np.interp(at, chain, lat)), 6)


def _limits(plan: Plan, station: Station, name: str) -> Limits:
    match name:
        case "water_level_m":
            gauge = plan.gauges[station.owner]
            # Real rivers rise 20 cm a minute; only twice that is disbelieved.
            return Limits(
                fail_min=-1.0,
                fail_max=15.0,
                suspect_min=gauge.rating[2] - 0.2,
                suspect_max=math.ceil(gauge.siaga[-1] * 2.0),
                rate_max_per_s=0.4 / 60,
                flat_suspect_s=3600,
                flat_fail_s=4 * 3600,
            )
        case "rain_mm":  # no flat test: no rain is rightly the same for weeks
            return Limits(fail_max=20.0, suspect_max=6.0)
        case "speed_km_h":
            return Limits(fail_max=160.0, suspect_max=120.0, flat_suspect_s=1800, flat_fail_s=4 * 3600)
        case "flow_veh_h":  # no flat test: at night a minute without a vehicle follows another
            return Limits(suspect_max=2600.0 * plan.roads[station.owner].lanes)
        case "occupancy":
            return Limits(flat_suspect_s=2 * 3600, flat_fail_s=6 * 3600)
        case "pm2_5_ug_m3" | "pm10_ug_m3":
            return Limits(
                fail_max=1000.0, suspect_max=600.0, rate_max_per_s=4.0, flat_suspect_s=3600, flat_fail_s=6 * 3600
            )
        case "no2_ug_m3":
            return Limits(fail_max=1500.0, suspect_max=500.0, flat_suspect_s=3600)
        case "co_ug_m3":
            return Limits(fail_max=100_000.0, suspect_max=30_000.0, flat_suspect_s=3600)
        case "temperature_c":
            return Limits(fail_min=-10.0, fail_max=60.0, suspect_min=8.0, suspect_max=38.0, rate_max_per_s=0.05)
        case "humidity_percent":  # saturated air is flat at 100
            return Limits(suspect_min=15.0)
        case "wind_speed_m_s":
            return Limits(fail_max=75.0, suspect_max=35.0)
        case "pressure_hpa":
            return Limits(
                fail_min=850.0, fail_max=1060.0, suspect_min=890.0, suspect_max=960.0, flat_suspect_s=6 * 3600
            )
        case "laeq_db":
            return Limits(fail_min=20.0, fail_max=130.0, suspect_min=28.0, suspect_max=110.0, flat_suspect_s=1800)
        case "lamp_power_w":  # no flat test: a lamp that is off is rightly off all day
            return Limits(fail_max=4.0 * plan.roads[station.owner].lamp_w)
        case "battery_v":
            return Limits(fail_max=6.0, suspect_min=2.5, suspect_max=4.4)
        case _:
            return Limits()


def _ladder(plan: Plan, station: Station, name: str) -> Ladder:
    match name:
        case "water_level_m":
            severities = (Severity.WASPADA, Severity.SIAGA, Severity.AWAS)
            return Ladder(
                steps=tuple(
                    Step(value, int(severity), f"Siaga {3 - i}")
                    for i, (value, severity) in enumerate(
                        zip(plan.gauges[station.owner].siaga, severities, strict=True)
                    )
                ),
                deadband=0.10,
                on_delay_s=130.0,  # three readings: a single false echo is no flood
                off_delay_s=600.0,
            )
        case "speed_km_h":
            # Shares of free speed at which the Highway Capacity Manual speaks of levels E and F, and standstill.
            free = plan.roads[station.owner].free_km_h
            return Ladder(
                steps=(
                    Step(float(min(20, round(0.40 * free))), int(Severity.WASPADA), "Padat"),
                    Step(float(min(12, round(0.27 * free))), int(Severity.SIAGA), "Macet"),
                    Step(float(min(6, round(0.14 * free))), int(Severity.AWAS), "Macet total"),
                ),
                direction=int(Direction.BELOW),
                deadband=2.0,
                on_delay_s=240.0,
                off_delay_s=300.0,
            )
        case "pm2_5_ug_m3":
            # The ISPU's 24 h bounds of "sangat tidak sehat" and "berbahaya", held for an hour.
            return Ladder(
                steps=(
                    Step(150.4, int(Severity.WASPADA), "Sangat tidak sehat"),
                    Step(250.4, int(Severity.SIAGA), "Berbahaya"),
                ),
                deadband=10.0,
                on_delay_s=3600.0,
                off_delay_s=1800.0,
            )
        case "lamp_power_w":
            return Ladder(
                steps=(Step(0.2 * plan.roads[station.owner].lamp_w, int(Severity.WASPADA), "Lampu padam"),),
                direction=int(Direction.BELOW),
                on_delay_s=900.0,
                off_delay_s=300.0,
                gate=int(Gate.DARK),
            )
        case "battery_v":
            return Ladder(
                steps=(Step(3.3, int(Severity.WASPADA), "Baterai lemah"),),
                direction=int(Direction.BELOW),
                deadband=0.05,
                on_delay_s=600.0,
                off_delay_s=600.0,
            )
        case _:
            return Ladder()
