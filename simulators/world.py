"""The true state of a simulated city at every full minute of an episode, as each station would see it without error.

Sensors, with their noise and resolution, are in ``city``. Nothing here depends on what was asked before: an episode
is computed from the schedule of itself and the episodes whose water, queues and washed air reach into it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from simulators import river, street, traffic
from simulators.chance import Keys, key, keys, uniform, wander
from simulators.plan import Plan
from simulators.rain import caught_mm_h, intensity_mm_h
from simulators.schedule import EPISODE_MIN, NS_PER_MIN, Schedule
from simulators.stations import Stations

Floats = npt.NDArray[np.float64]
Truth = dict[tuple[str, str], Floats]
"""(kind of device, property) → (EPISODE_MIN + 1, devices of that kind)."""

NODES = np.arange(EPISODE_MIN + 1)

WATER_REACHES = 5
"""Episodes after its own in which a storm's water is still followed (20 h; then less than 1 % is left)."""

HOURS_PER_DAY = 24
_MIN_PER_DAY = 24 * 60
_OFF_W = 0.6
_CACHED = 8

_T = TypeVar("_T")


class World:
    """The truth of one city."""

    def __init__(self, plan: Plan, stations: Stations, schedule: Schedule, seed: int) -> None:
        self.plan = plan
        self.schedule = schedule
        self._seed = seed
        all_stations = stations.stations
        self.members: dict[str, npt.NDArray[np.intp]] = {
            kind: np.array([i for i, s in enumerate(all_stations) if s.kind == kind], dtype=np.intp)
            for kind in dict.fromkeys(s.kind for s in all_stations)
        }
        self._names = [s.device for s in all_stations]
        self._at_km = plan.local_km([s.at for s in all_stations])
        self._latitude = np.array([s.at[1] for s in all_stations])
        self._longitude = np.array([s.at[0] for s in all_stations])
        self._height_m = plan.height_m + plan.northward_rise_m_km * np.maximum(self._at_km[:, 1], 0.0)
        self._rivers = river.RiverNetwork.of(plan, (WATER_REACHES + 1) * EPISODE_MIN)

        counters = [all_stations[i] for i in self.members.get("traffic", ())]
        self._road = np.array([c.owner for c in counters], dtype=np.intp)
        self._direction = np.array([c.direction for c in counters], dtype=np.float64)
        self._chainage_km = np.array([c.chainage_km for c in counters])
        self._free_km_h = np.array([plan.roads[c.owner].free_km_h for c in counters])
        self._lanes = np.array([plan.roads[c.owner].lanes for c in counters], dtype=np.float64)
        busy = np.array([plan.roads[c.owner].busy for c in counters])
        self._busy = busy * (0.82 + 0.18 * uniform(self._keys("traffic", "busy"), np.array([0])))

        lamps = [all_stations[i] for i in self.members.get("lamp", ())]
        self._lamp_w = np.array([plan.roads[s.owner].lamp_w for s in lamps])
        self._lamp_dims = np.array([key(seed, plan.roads[s.owner].id, "dims") % 2 == 0 for s in lamps], dtype=bool)

        self._truths: OrderedDict[int, Truth] = OrderedDict()
        self._waters: OrderedDict[int, Floats] = OrderedDict()
        self._queues: OrderedDict[int, tuple[Floats, Floats]] = OrderedDict()

    def truth(self, episode: int) -> Truth:
        """The true values at minutes 0, 1, ... EPISODE_MIN of an episode."""
        return _remembered(self._truths, episode, self._truth)

    def time_ns(self, episode: int) -> npt.NDArray[np.int64]:
        """The times of an episode's full minutes. [ns since 1970 UTC]"""
        return self.schedule.start_ns(episode) + NODES * NS_PER_MIN

    def rain_mm_h(self, episode: int, kind: str) -> Floats:
        """Rain at the stations of a kind, (EPISODE_MIN + 1, stations)."""
        at = self._at_km[self.members[kind]]
        return intensity_mm_h(self.schedule.storm(episode), at[:, 0], at[:, 1], NODES.astype(np.float64))

    def runoff_mm(self, episode: int) -> Floats:
        """Runoff depth of each minute and catchment of an episode's storm, (EPISODE_MIN, gauges)."""
        points = self._rivers.points_km
        middle = NODES[:-1].astype(np.float64) + 0.5
        return self._rivers.runoff_mm(intensity_mm_h(self.schedule.storm(episode), points[:, 0], points[:, 1], middle))

    def demand(self, minutes: Floats, episode: int) -> Floats:
        """Demand as a share of the rush hour's, at minutes since an episode began."""
        local_min = self.schedule.start_ns(episode) / NS_PER_MIN + 60.0 * self.plan.utc_offset_h + minutes
        day = np.floor(local_min / _MIN_PER_DAY)
        weekend = (day + 3) % 7 >= 5  # 1 January 1970 was a Thursday
        return traffic.demand_share((local_min - day * _MIN_PER_DAY) / 60.0, weekend)

    def _keys(self, kind: str, what: str) -> Keys:
        return keys(self._seed, [self._names[i] for i in self.members.get(kind, ())], what)

    def _wander(self, kind: str, what: str, minute: Floats, period_min: float) -> Floats:
        """(t, stations of the kind) smooth random numbers; ``minute`` counts from 1970 so that episodes join."""
        return wander(self._keys(kind, what)[None, :], minute[:, None], period_min)

    def _city_wander(self, what: str, minute: Floats, period_min: float) -> Floats:
        return wander(np.array([key(self._seed, what)], dtype=np.uint64), minute, period_min)

    def _truth(self, episode: int) -> Truth:
        time_ns = self.time_ns(episode)
        minute = time_ns / NS_PER_MIN
        hour = (minute / 60.0 + self.plan.utc_offset_h) % HOURS_PER_DAY
        out: Truth = {}
        if "gauge" in self.members:
            out["gauge", "water_level_m"] = self._stage_m(episode)
        if "rain" in self.members:
            caught = caught_mm_h(self.rain_mm_h(episode, "rain")) / 60.0
            out["rain", "rain_mm"] = np.vstack([np.zeros(caught.shape[1]), np.cumsum(caught[:-1], axis=0)])
        load_of: dict[str, Floats] = {}
        if "traffic" in self.members:
            load_of = self._traffic(out, episode, minute)
        self._weather(out, episode, minute, hour)
        if "air" in self.members:
            self._air(out, episode, minute, hour, load_of.get("air", np.zeros(1)))
        if "noise" in self.members:
            self._noise(out, episode, hour)
        if "lamp" in self.members:
            self._lamps(out, episode, time_ns, hour)
        self._batteries(out, episode, hour)
        for kind in ("rain", "lamp"):
            if kind in self.members:
                rain = self.rain_mm_h(episode, kind)
                mean = -112.0 + 30.0 * uniform(self._keys(kind, "rssi"), np.array([0]))
                out[kind, "rssi_dbm"] = (
                    mean + self._wander(kind, "rssi", minute, 20.0) * 2.0 - 5.0 * rain / (rain + 20.0)
                )
        return out

    def _stage_m(self, episode: int) -> Floats:
        flow = np.zeros((EPISODE_MIN + 1, len(self.plan.gauges)))
        for ago in range(WATER_REACHES + 1):
            water = _remembered(self._waters, episode - ago, self._water)
            flow = flow + water[ago * EPISODE_MIN : (ago + 1) * EPISODE_MIN + 1]
        return self._rivers.stage_m(flow)

    def _water(self, episode: int) -> Floats:
        return self._rivers.discharge_m3_s(self.runoff_mm(episode))

    def _queue(self, episode: int) -> tuple[Floats, Floats]:
        """Length of the queue and outflow at the minutes of the incident's episode and the next."""
        minutes = np.arange(2 * EPISODE_MIN + 1, dtype=np.float64)
        demand = self.demand(minutes, episode)
        incident = self.schedule.incident(episode, float(demand[0]))
        assert incident is not None  # only asked where there are counters
        road = self.plan.roads[incident.road]
        return traffic.queue_km(incident, 0.9 * road.busy * demand, road.free_km_h)

    def _traffic(self, out: Truth, episode: int, minute: Floats) -> dict[str, Floats]:
        """Fill in the counters' truth; give the vehicles on the road (0-1 of standstill) near each air post."""
        share = self.demand(NODES.astype(np.float64), episode)[:, None]
        rain = self.rain_mm_h(episode, "traffic")
        slower, narrower = traffic.rain_slows(rain)
        free = self._free_km_h * slower
        ratio = share * self._busy * (1.0 + 0.04 * self._wander("traffic", "demand", minute, 12.0))
        ratio = np.clip(ratio / narrower, 0.002, 0.97)
        density: Floats
        _, density = traffic.greenshields(ratio, free)
        flow = ratio * traffic.capacity_veh_h(free)
        for ago in (1, 0):
            began = episode - ago
            start_share = float(self.demand(np.zeros(1), began)[0])
            incident = self.schedule.incident(began, start_share)
            if incident is None:
                continue
            length, passing = _remembered(self._queues, began, self._queue)
            here = slice(ago * EPISODE_MIN, (ago + 1) * EPISODE_MIN + 1)
            length, passing = length[here], passing[here, None]
            mine = np.flatnonzero((self._road == incident.road) & (self._direction == incident.direction))
            behind = (incident.chainage_km - self._chainage_km[mine]) * incident.direction
            inside = traffic.in_queue(length, behind)
            _, packed = traffic.greenshields(passing, free[:, mine], congested=True)
            packed_flow = passing * traffic.capacity_veh_h(free[:, mine])
            # beyond the incident only what passes it arrives, and runs freely
            beyond = (behind < 0.0)[None, :] & (length > 0.0)[:, None]
            thin = np.where(beyond, np.minimum(ratio[:, mine], passing), ratio[:, mine])
            _, thin_density = traffic.greenshields(thin, free[:, mine])
            thin_flow = thin * traffic.capacity_veh_h(free[:, mine])
            density[:, mine] = (1.0 - inside) * thin_density + inside * packed
            flow[:, mine] = (1.0 - inside) * thin_flow + inside * packed_flow
        out["traffic", "speed_km_h"] = flow / density
        out["traffic", "flow_veh_h"] = flow * self._lanes
        out["traffic", "occupancy"] = np.minimum(density * traffic.DETECTED_LENGTH_M / 1000.0, 1.0)
        packed_share = density / traffic.JAM_DENSITY_VEH_KM
        if "air" not in self.members:
            return {}
        near, away_km = self._nearest_place("air")
        local = packed_share[:, near].mean(axis=2)
        roadside = np.exp(-away_km / 0.5)
        return {"air": 0.35 * packed_share.mean(axis=1)[:, None] + 0.65 * roadside * local}

    def _nearest_place(self, kind: str) -> tuple[npt.NDArray[np.intp], Floats]:
        """Both counters of the place nearest to each station of a kind, (stations, 2), and how far it is [km]."""
        counters = self._at_km[self.members["traffic"]]
        away = np.hypot(*(self._at_km[self.members[kind]][:, None, :] - counters[None, :, :]).transpose(2, 0, 1))
        near = np.argsort(away, axis=1, kind="stable")[:, :2]
        return near, np.take_along_axis(away, near, axis=1).mean(axis=1)

    def _washed(self, episode: int, kind: str) -> Floats:
        """Share of particles left in the air, (EPISODE_MIN + 1, stations); the two storms before count too."""
        rain = [
            self.rain_mm_h(episode - 2, kind)[:-1],
            self.rain_mm_h(episode - 1, kind)[:-1],
            self.rain_mm_h(episode, kind),
        ]
        return street.washed_air(np.concatenate(rain))[2 * EPISODE_MIN :]

    def _weather(self, out: Truth, episode: int, minute: Floats, hour: Floats) -> None:
        for kind in ("air", "weather"):
            if kind not in self.members:
                continue
            height = self._height_m[self.members[kind]]
            wet = 1.0 - self._washed(episode, kind)
            warm = 23.6 + 4.0 * street.day_wave(hour, 13.5) + 0.8 * self._city_wander("warmth", minute, 1440.0)
            temperature = (
                warm[:, None]
                - 0.0065 * (height - self.plan.height_m)
                - 5.0 * wet
                + 0.3 * self._wander(kind, "temperature", minute, 30.0)
            )
            dew = 18.2 + 0.8 * self._city_wander("dew", minute, 720.0)[:, None] + 0.5 * wet
            out[kind, "temperature_c"] = temperature
            out[kind, "humidity_percent"] = street.relative_humidity_percent(temperature, dew)
        if "weather" not in self.members:
            return
        rain = self.rain_mm_h(episode, "weather")
        calm = 1.3 + 0.9 * street.day_wave(hour, 14.0)
        gust = 5.5 * rain / (rain + 15.0)
        wind = calm[:, None] * (1.0 + 0.25 * self._wander("weather", "wind", minute, 10.0)) + gust
        out["weather", "wind_speed_m_s"] = np.maximum(wind, 0.0)
        turn = 150.0 + 70.0 * self._city_wander("wind", minute, 240.0)
        out["weather", "wind_direction_deg"] = turn[:, None] + 15.0 * self._wander("weather", "turn", minute, 30.0)
        tide = 1.3 * np.cos(2 * np.pi * (hour - 10.0) / 12.0) + 1.0 * self._city_wander("pressure", minute, 1440.0)
        height = self._height_m[self.members["weather"]]
        out["weather", "pressure_hpa"] = street.pressure_at(height) + tide[:, None] + 0.8 * rain / (rain + 20.0)

    def _air(self, out: Truth, episode: int, minute: Floats, hour: Floats, load: Floats) -> None:
        left = self._washed(episode, "air")
        still = (1.0 + 0.25 * street.day_wave(hour, 5.0))[:, None]
        haze = (1.0 + 0.2 * self._city_wander("haze", minute, 1440.0))[:, None]
        fine = (11.0 * haze + 75.0 * load) * still * left * (1.0 + 0.06 * self._wander("air", "pm", minute, 30.0))
        out["air", "pm2_5_ug_m3"] = fine
        out["air", "pm10_ug_m3"] = 1.45 * fine + 7.0 * left
        gas = 1.0 + 0.06 * self._wander("air", "gas", minute, 30.0)
        out["air", "no2_ug_m3"] = (12.0 + 95.0 * load) * still * gas
        out["air", "co_ug_m3"] = (330.0 + 3400.0 * load) * still * gas

    def _noise(self, out: Truth, episode: int, hour: Floats) -> None:
        rain = self.rain_mm_h(episode, "noise")
        quiet = 43.0 + 5.0 * street.day_wave(hour, 14.0)[:, None]
        level = street.add_levels_db(quiet, 36.0 + 13.0 * np.log10(1.0 + rain / 2.0))
        if "traffic" in self.members:
            near, away_km = self._nearest_place("noise")
            flow = out["traffic", "flow_veh_h"][:, near].sum(axis=2)
            speed = out["traffic", "speed_km_h"][:, near].mean(axis=2)
            farther_db = 10.0 * np.log10(np.maximum(away_km * 1000.0, 12.0) / 10.0)
            level = street.add_levels_db(level, street.traffic_sound_db(flow, speed) - farther_db)
        out["noise", "laeq_db"] = level

    def _lamps(self, out: Truth, episode: int, time_ns: npt.NDArray[np.int64], hour: Floats) -> None:
        lamps = self.members["lamp"]
        sun = street.solar_elevation_deg(time_ns[:, None], self._latitude[lamps], self._longitude[lamps])
        # each photocell switches at its own darkness, between 1° and 3° below the horizon
        lit = sun < -1.0 - 2.0 * uniform(self._keys("lamp", "photocell"), np.array([0]))
        late = ((hour >= 23.0) | (hour < 4.5))[:, None]
        power = np.where(lit, self._lamp_w * np.where(late & self._lamp_dims, 0.6, 1.0), _OFF_W)
        for outage in self.schedule.dark_lamps(episode):
            broken = (outage.start_min <= NODES) & (outage.end_min > NODES)
            power[broken, int(np.searchsorted(lamps, outage.station))] = _OFF_W
        out["lamp", "lamp_power_w"] = power

    def _batteries(self, out: Truth, episode: int, hour: Floats) -> None:
        dying = self.schedule.dead_battery(episode)
        for kind in ("gauge", "rain", "noise", "weather"):
            if kind not in self.members:
                continue
            new = 3.58 + 0.08 * uniform(self._keys(kind, "battery"), np.array([0]))
            volt = new + 0.02 * street.day_wave(hour, 13.0)[:, None]
            if dying is not None and dying.station in self.members[kind]:
                one = int(np.searchsorted(self.members[kind], dying.station))
                drop = np.clip(NODES / dying.start_min, 0.0, 1.0)
                volt[:, one] -= np.where(dying.end_min > NODES, 0.75 * drop, 0.0)
            out[kind, "battery_v"] = volt


def _remembered(cache: OrderedDict[int, _T], episode: int, make: Callable[[int], _T]) -> _T:
    """The value of an episode, computed once; the cache keeps the latest few."""
    if episode not in cache:
        cache[episode] = make(episode)
        while len(cache) > _CACHED:
            cache.popitem(last=False)
    cache.move_to_end(episode)
    return cache[episode]
