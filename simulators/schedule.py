"""What happens when: every episode of four hours has its storm, incident, dark lamp, dead battery and faults.

Episodes begin at 01:20, 05:20, 09:20, 13:20, 17:20 and 21:20 local time. The one at 17:20 has the great storm, at
rush hour and dusk; the others are milder and differ. Everything is drawn from the seed and the episode's number alone.
Whom it strikes is settled by a hash of its name, so that a new device seldom changes another one's fate.
"""

from __future__ import annotations

from dataclasses import dataclass

from simulators.chance import Dice, key
from simulators.faults import AFFECTED, Fault
from simulators.plan import Plan
from simulators.rain import Cell, great_storm, lesser_storm
from simulators.stations import Stations
from simulators.traffic import Incident

NS_PER_MIN = 60_000_000_000
EPISODE_MIN = 240
EPISODE_NS = EPISODE_MIN * NS_PER_MIN
FIRST_LOCAL_MIN = 80
"""The first episode of a local day begins at 01:20."""

GREAT_STORM = 4
"""Place of the 17:20 episode in its day."""

# Strongest cell of the milder storms, in the order of the day; nights and mornings are drier.
_PEAK_MM_H = (60.0, 30.0, 55.0, 75.0, 0.0, 80.0)

_SMALL_CATCHMENT_KM2 = 20.0


@dataclass(frozen=True)
class Outage:
    """A device that does not work as it should, in minutes since its episode began."""

    station: int
    start_min: float
    end_min: float


class Schedule:
    """The happenings of each episode of one city."""

    def __init__(self, plan: Plan, stations: Stations, seed: int) -> None:
        self._plan = plan
        self._seed = seed
        self._offset_ns = round((FIRST_LOCAL_MIN - 60.0 * plan.utc_offset_h) * NS_PER_MIN)
        fed = {g.to for g in plan.gauges}
        self._headwaters = [g for g in plan.gauges if g.id not in fed and g.area_km2 <= _SMALL_CATCHMENT_KM2]
        self._stations = stations.stations
        self._lamps = self._of_kinds("lamp")
        self._counters = self._of_kinds("traffic")
        self._batteries = self._of_kinds("rain", "noise", "weather")
        self._dead: dict[int, Outage | None] = {}
        self._faults: dict[int, tuple[Fault, ...]] = {}
        places = plan.local_km(list(plan.outline))
        self._reach_km = float(abs(places).max())

    def _of_kinds(self, *kinds: str) -> list[int]:
        return [i for i, s in enumerate(self._stations) if s.kind in kinds]

    def _struck(self, stations: list[int], what: str, episode: int) -> int:
        """The one of ``stations`` whose name draws highest."""
        return max(stations, key=lambda i: key(self._seed, what, episode, self._stations[i].device))

    def episode_at(self, time_ns: int) -> int:
        """Number of the episode in which a time lies. [ns since 1970 UTC]"""
        return (time_ns - self._offset_ns) // EPISODE_NS

    def start_ns(self, episode: int) -> int:
        """When an episode begins. [ns since 1970 UTC]"""
        return episode * EPISODE_NS + self._offset_ns

    def storm(self, episode: int) -> tuple[Cell, ...]:
        """The rain cells of an episode."""
        dice = Dice(self._seed, "storm", episode)
        slot = episode % 6
        if slot == GREAT_STORM and self._headwaters:
            target = max(self._headwaters, key=lambda g: key(self._seed, "target", episode, g.id))
            x, y = self._plan.local_km([target.catchment])[0]
            return great_storm(dice, float(x), float(y))
        return lesser_storm(dice, 0.7 * self._reach_km, _PEAK_MM_H[slot])

    def incident(self, episode: int, demand_share: float) -> Incident | None:
        """The road incident of an episode; it lets pass about a third of what would arrive.

        ``demand_share``: demand at the beginning of the episode as a share of the rush hour's.
        """
        if not self._counters:
            return None
        dice = Dice(self._seed, "incident", episode)
        counter = self._stations[self._struck(self._counters, "incident", episode)]
        start = dice.between(18.0, 22.0)
        return Incident(
            road=counter.owner,
            direction=counter.direction,
            chainage_km=counter.chainage_km + counter.direction * dice.between(0.12, 0.22),
            start_min=start,
            end_min=start + dice.between(32.0, 48.0),
            capacity_left=dice.between(0.25, 0.32) * demand_share,
        )

    def dark_lamps(self, episode: int) -> tuple[Outage, ...]:
        """Lamps that fail: from before dusk in the 17:20 episode, amid the night in the two after it."""
        dice = Dice(self._seed, "lamp", episode)
        slot = episode % 6
        if not self._lamps or slot not in (GREAT_STORM, 5, 0):
            return ()
        start = 0.0 if slot == GREAT_STORM else dice.between(20.0, 50.0)
        return (Outage(self._struck(self._lamps, "lamp", episode), start, dice.between(190.0, 230.0)),)

    def dead_battery(self, episode: int) -> Outage | None:
        """A device whose battery runs down until it is silent, and is changed two hours later."""
        if episode not in self._dead:
            dice = Dice(self._seed, "battery", episode)
            self._dead[episode] = (
                Outage(
                    self._struck(self._batteries, "battery", episode),
                    dice.between(44.0, 56.0),
                    dice.between(165.0, 195.0),
                )
                if self._batteries
                else None
            )
        return self._dead[episode]

    def faults(self, episode: int) -> tuple[Fault, ...]:
        """The sensors that lie in an episode; never the one whose battery dies."""
        if episode not in self._faults:
            dead = self.dead_battery(episode)
            found = []
            for kind, properties in AFFECTED.items():
                sound = [i for i in self._of_kinds(*properties) if dead is None or i != dead.station]
                if sound:
                    dice = Dice(self._seed, kind, episode)
                    station = self._struck(sound, kind, episode)
                    name = properties[self._stations[station].kind]
                    found.append(Fault(kind, station, name, dice.between(8.0, 25.0), dice.between(150.0, 200.0)))
            self._faults[episode] = tuple(found)
        return self._faults[episode]
