"""Cities of any size for benchmarks."""

from __future__ import annotations

from telemetry.directory import Datastream, Device, Directory, Ladder, Limits, Site, Step

LIMITS = Limits(suspect_min=-1.0, suspect_max=50.0, rate_max_per_s=1e9, flat_suspect_s=86_400.0)
LADDER = Ladder(steps=(Step(4.0, 1, "Siaga 3"), Step(5.0, 2, "Siaga 2"), Step(6.0, 3, "Siaga 1")), deadband=0.1)


def gauges(datastreams: int, city: str = "bench", probes: int = 100) -> Directory:
    """River gauges ``d0``, ``d1``, ... and ``probe0``, ``probe1``, ..., each with one datastream and three levels."""
    names = [f"d{i}" for i in range(datastreams)] + [f"probe{i}" for i in range(probes)]
    return Directory(
        version=1,
        city=city,
        utc_offset_h=7.0,
        sites=(Site("s", "S", -6.9, 107.6),),
        devices=tuple(Device(n, "s", silence_after_s=3600.0) for n in names),
        datastreams=tuple(Datastream(f"{n}.water_level_m", "s", n, "water_level_m", LIMITS, LADDER) for n in names),
    )
