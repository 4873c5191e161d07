"""How well incidents are found: California #7 and the discharge deficit on a simulated road, and what they cost.

``python -m benchmarks.incidents``: parameters are chosen on one set of days, the figures are of others, and the
template is learnt on a third. The same parameters then meet another road, of which only the
template is learnt. Seeds are fixed: the same figures each time.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from processing.indicators.incidents import (
    California7,
    CaliforniaLimits,
    DeficitLimits,
    DischargeDeficit,
    Template,
    learn_template,
)
from simulators.corridor import Corridor, Day, Detected, morning, simulate

Bools = npt.NDArray[np.bool_]

AFTER_END_S = 300.0
"""An alarm so long after an incident's end still is of it."""
ACCEPTED_PER_STATION_HOUR = 0.01
"""Highest rate of false alarms that calibration accepts: one in 100 hours of a station."""


@dataclass(frozen=True)
class Score:
    """What detectors are judged by."""

    incidents: int
    found: int
    queueing: int
    """Incidents that held vehicles back; the others can't be seen."""
    queueing_found: int
    false_alarms: int
    station_hours: float
    delays_s: tuple[float, ...]
    """From the incident's begin."""

    @property
    def false_per_station_hour(self) -> float:
        """False alarms per hour of a station."""
        return self.false_alarms / self.station_hours


def california(detected: Detected, limits: CaliforniaLimits) -> Bools:
    """(days, intervals, pairs) where an incident was confirmed; all days at once."""
    days, intervals, stations = detected.occupancy.shape
    state = California7.empty(days * (stations - 1))
    alarms = np.zeros((days, intervals, stations - 1), dtype=np.bool_)
    for t in range(intervals):
        now = detected.occupancy[:, t]
        alarms[:, t] = state.step(now[:, :-1].ravel(), now[:, 1:].ravel(), limits).reshape(days, -1)
    return alarms


def deficit(detected: Detected, template: Template, limits: DeficitLimits) -> Bools:
    """(days, intervals, pairs) where an incident was called; all days at once."""
    days, intervals, stations = detected.occupancy.shape
    number = np.arange(days * stations).reshape(days, stations)
    upstream, downstream = number[:, :-1].ravel(), number[:, 1:].ravel()
    everywhere = Template(
        *(np.tile(a, days) for a in (template.free_flow_per_occupancy, template.capacity_veh_h, template.noise_share))
    )
    state = DischargeDeficit.empty(days * stations, upstream.size)
    alarms = np.zeros((days, intervals, stations - 1), dtype=np.bool_)
    for t in range(intervals):
        flow, occupancy = detected.flow_veh_h[:, t].ravel(), detected.occupancy[:, t].ravel()
        called = state.step(flow, occupancy, upstream, downstream, everywhere, limits)
        alarms[:, t] = called.reshape(days, -1)
    return alarms


def score(alarms: Bools, corridor: Corridor, days: Sequence[Day], delayed: Sequence[Sequence[bool]]) -> Score:
    """An alarm is right at the pair with the incident or its neighbours, from its begin to a while after its end."""
    found, queueing, queueing_found, false = 0, 0, 0, 0
    delays: list[float] = []
    for d, day in enumerate(days):
        at, pair = np.nonzero(alarms[d])
        time_s = (at + 1) * corridor.interval_s
        right = np.zeros(at.size, dtype=np.bool_)
        for blockage, held in zip(day.blockages, delayed[d], strict=True):
            place = int(np.searchsorted(corridor.stations, blockage.cell)) - 1
            mine = (np.abs(pair - place) <= 1) & (time_s > blockage.start_s)
            mine &= time_s <= blockage.end_s + AFTER_END_S
            right |= mine
            in_time = mine & (time_s <= blockage.end_s)
            found += bool(in_time.any())
            queueing += held
            queueing_found += held and bool(in_time.any())
            if in_time.any():
                delays.append(float(time_s[in_time].min() - blockage.start_s))
        false += int((~right).sum())
    hours = len(days) * alarms.shape[1] * corridor.interval_s / 3600.0 * corridor.stations.size
    total = sum(len(day.blockages) for day in days)
    return Score(total, found, queueing, queueing_found, false, hours, tuple(delays))


def best(scores: Sequence[Score], accepted_per_station_hour: float = ACCEPTED_PER_STATION_HOUR) -> int:
    """Index of the most incidents found within the accepted rate of false alarms; else of the fewest false alarms."""

    def rank(one: Score) -> tuple[float, ...]:
        late = float(np.mean(one.delays_s)) if one.delays_s else np.inf
        if one.false_per_station_hour <= accepted_per_station_hour:
            return (0.0, -one.found, one.false_alarms, late)
        return (1.0, one.false_per_station_hour, -one.found, late)

    return min(range(len(scores)), key=lambda i: rank(scores[i]))


def other_road(interval_s: float) -> Corridor:
    """Two lanes, 60 km/h, longer vehicles, detectors further apart, a narrower bottleneck elsewhere."""
    return Corridor(
        free_km_h=60.0,
        lanes=2.0,
        bottleneck_cell=30,
        bottleneck_share=0.75,
        ramp_cell=20,
        queue_drop=0.08,
        detector_every=8,
        detected_length_m=7.0,
        interval_s=interval_s,
    )


def drive(corridor: Corridor, first: int, seeds: int) -> tuple[list[Day], Detected]:
    """Days with 0, 1 and 2 incidents in turn."""
    days = [morning(corridor, seed, blockages=seed % 3) for seed in range(first, first + seeds)]
    return days, simulate(corridor, days)


def learnt(corridor: Corridor, seeds: int) -> Template:
    """The template of a road from days that are used for nothing else."""
    _, history = drive(corridor, 10_000, seeds)
    shape = (-1, corridor.stations.size)
    return learn_template(history.flow_veh_h.reshape(shape), history.occupancy.reshape(shape))


def measure(
    interval_s: float, seeds: int, accepted: float = ACCEPTED_PER_STATION_HOUR
) -> list[tuple[str, str, CaliforniaLimits | DeficitLimits, Score]]:
    """Calibrate on ``seeds`` days, test on as many others; (road, detector, parameters, score)."""
    first = Corridor(interval_s=interval_s)
    days, seen = drive(first, 20_000, seeds)
    template = learnt(first, seeds)
    one = itertools.product((0.04, 0.06, 0.08, 0.12, 0.16, 0.2), (0.2, 0.3, 0.4, 0.5, 0.6, 0.7), (0.08, 0.1, 0.15, 0.2))
    two = itertools.product(
        (0.5, 0.65, 0.8), (0.6, 0.75), (0.12, 0.16, 0.2, 0.25), (1.0, 2.0, 3.0, 4.0), (0.3, 0.5, 1.0)
    )
    california_tried = [CaliforniaLimits(*p) for p in one]
    deficit_tried = [DeficitLimits(u, 0.12, f, k, h, s) for u, f, k, h, s in two]
    scores = [score(california(seen, p), first, days, seen.delayed) for p in california_tried]
    california_limits = california_tried[best(scores, accepted)]
    scores = [score(deficit(seen, template, p), first, days, seen.delayed) for p in deficit_tried]
    deficit_limits = deficit_tried[best(scores, accepted)]
    rows: list[tuple[str, str, CaliforniaLimits | DeficitLimits, Score]] = []
    for road, corridor in (("calibrated", first), ("another", other_road(interval_s))):
        days, unseen = drive(corridor, 50_000, seeds)
        template = learnt(corridor, seeds)
        alarms = california(unseen, california_limits)
        rows.append((road, "California #7", california_limits, score(alarms, corridor, days, unseen.delayed)))
        alarms = deficit(unseen, template, deficit_limits)
        rows.append((road, "discharge deficit", deficit_limits, score(alarms, corridor, days, unseen.delayed)))
        alarms = deficit(unseen, template, DeficitLimits())
        rows.append(
            (road, "discharge deficit, defaults", DeficitLimits(), score(alarms, corridor, days, unseen.delayed))
        )
    return rows


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--intervals", default="30,60", help="lengths of the detectors' intervals [s]")
    parser.add_argument("--seeds", type=int, default=45, help="days to learn, to calibrate and to test on, each")
    parser.add_argument(
        "--accepted",
        type=float,
        default=ACCEPTED_PER_STATION_HOUR,
        help="false alarms per station-hour that calibration accepts",
    )
    arguments = parser.parse_args()
    for interval in arguments.intervals.split(","):
        print(f"\nIntervals of {interval} s, {arguments.seeds} test days of 4 h\n")
        print(
            "| road | detector | found | of those that queue | false alarms | per station-hour | median, mean delay |"
        )
        print("|---|---|---|---|---|---|---|")
        rows = measure(float(interval), arguments.seeds, arguments.accepted)
        for road, name, _, s in rows:
            delays = np.array(s.delays_s) if s.delays_s else np.array([np.nan])
            print(
                f"| {road} | {name} | {s.found}/{s.incidents} | {s.queueing_found}/{s.queueing} | {s.false_alarms} "
                f"| {s.false_per_station_hour:.4f} | {np.median(delays):.0f} s, {delays.mean():.0f} s |"
            )
        print()
        for _, _, limits, _ in rows[:2]:
            print(limits)


if __name__ == "__main__":
    main()
