"""The core alone: process time of a step for each reading, beside a plain copy of the same columns.

    python -m benchmarks.core

Levels walk at random; one datastream in four has a ladder of thresholds. The first quarter of the steps is not counted.
"""

from __future__ import annotations

import time

import numpy as np

from processing.core import State, step
from telemetry.directory import Datastream, Device, Directory, Ladder, Limits, Site, Step
from telemetry.observations import NS_PER_S, Observations

T0 = 1_795_000_200 * NS_PER_S
CASES = ((1_000, 1_000), (100_000, 1_000), (100_000, 10_000), (100_000, 100_000))
"""Datastreams, readings a batch."""
LADDER = Ladder(
    steps=(Step(1.0, 1, "Siaga 3"), Step(2.0, 2, "Siaga 2"), Step(3.0, 3, "Siaga 1")),
    deadband=0.1,
    on_delay_s=60,
    off_delay_s=300,
)
LIMITS = Limits(fail_min=-10, fail_max=200, rate_max_per_s=0.05, flat_suspect_s=900, flat_fail_s=3600)
PROPERTIES = ("water_level_m", "rain_mm", "temperature_c", "battery_v")


def city(datastreams: int) -> Directory:
    """Stations with four datastreams each."""
    stations = range(datastreams // 4)
    return Directory(
        1,
        "kota",
        7.0,
        tuple(Site(f"s{i}", f"s{i}", -6.9, 107.6) for i in stations),
        tuple(Device(f"d{i}", f"s{i}") for i in stations),
        tuple(
            Datastream(f"s{i}/{name}", f"s{i}", f"d{i}", name, LIMITS, Ladder() if k else LADDER)
            for i in stations
            for k, name in enumerate(PROPERTIES)
        ),
    )


def measure(datastreams: int, batch: int) -> str:
    """One case, as a line."""
    rng = np.random.default_rng(1)
    directory = city(datastreams)
    state = State.for_directory(directory)
    level = rng.normal(0.5, 0.3, datastreams)
    steps = 300 if batch == 1_000 else 40
    at, taken, copied = T0, 0.0, 0.0
    for number in range(steps):
        stream = (number * batch + np.arange(batch)) % datastreams
        at += int(60 * NS_PER_S * batch / datastreams)
        level[stream] += rng.normal(0, 0.02, batch)
        readings = Observations.of(stream.astype(np.int32), np.full(batch, at), level[stream])
        begun = time.process_time_ns()
        for column in (readings.datastream, readings.observed_at, readings.received_at, readings.value, readings.flag):
            column.copy()
        between = time.process_time_ns()
        state, _ = step(state, directory, readings, at + NS_PER_S, listening_since=T0)
        done = time.process_time_ns()
        if number >= steps // 4:
            copied += between - begun
            taken += done - between
    counted = (steps - steps // 4) * batch
    begun = time.process_time_ns()
    size = len(state.to_bytes())
    saved_s = (time.process_time_ns() - begun) / 1e9
    return (
        f"{datastreams:7d} | {batch:7d} | {taken / counted:6.0f} | {taken / copied:6.0f} | "
        f"{size / datastreams:6.0f} | {saved_s:.2f}"
    )


def main() -> None:
    """Print the table."""
    print("streams | a batch | ns each | copies | state B a stream | saved in s")
    for case in CASES:
        print(measure(*case), flush=True)


if __name__ == "__main__":
    main()
