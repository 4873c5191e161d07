"""A small directory and plain reference implementations that the tests of the core compare with."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from telemetry.directory import Datastream, Device, Directory, Gate, Ladder, Limits, Site, Step
from telemetry.observations import NS_PER_S, Observations

T0 = 1_795_000_000 * NS_PER_S // 3600 // NS_PER_S * 3600 * NS_PER_S
"""A full hour in November 2026."""

RIVER = Ladder(
    steps=(Step(1.0, 1, "Siaga 3"), Step(2.0, 2, "Siaga 2"), Step(3.0, 3, "Siaga 1")),
    deadband=0.25,
    on_delay_s=60.0,
    off_delay_s=300.0,
)
RIVER_AT_ONCE = Ladder(steps=RIVER.steps, deadband=0.25)
ROAD = Ladder(steps=(Step(20.0, 1, "padat"), Step(10.0, 2, "macet")), direction=-1, deadband=5.0, on_delay_s=120.0)
LAMP = Ladder(steps=(Step(20.0, 1, "padam"),), direction=-1, on_delay_s=900.0, gate=Gate.DARK)


def directory(version: int = 1, silence_after_s: float = 600.0, rivers: int = 2) -> Directory:
    """Rivers (delayed and at once, alternating), one road, one lamp; each its own device and site."""
    kinds = [("water_level_m", RIVER if i % 2 == 0 else RIVER_AT_ONCE) for i in range(rivers)]
    kinds += [("speed_km_h", ROAD), ("lamp_power_w", LAMP)]
    names = [f"s{i}" for i in range(len(kinds))]
    limits = Limits(
        fail_min=-1.0, fail_max=200.0, rate_max_per_s=0.05, flat_tolerance=0.0, flat_suspect_s=900.0, flat_fail_s=3600.0
    )
    return Directory(
        version=version,
        city="kota",
        utc_offset_h=7.0,
        sites=tuple(Site(n, n, -6.9, 107.6) for n in names),
        devices=tuple(Device(n, n, silence_after_s=silence_after_s) for n in names),
        datastreams=tuple(
            Datastream(f"{n}/{prop}", n, n, prop, limits, ladder)
            for n, (prop, ladder) in zip(names, kinds, strict=True)
        ),
    )


@dataclass
class PlainLevelAlarm:
    """One level alarm, reading by reading and second by second, as one would write it down from the rules."""

    ladder: Ladder
    active: list[bool] = field(default_factory=list)
    beyond: list[float] = field(default_factory=list)
    back: list[float] = field(default_factory=list)
    history: list[tuple[int, int]] = field(default_factory=list)
    """(moment, severity)"""

    def __post_init__(self) -> None:
        n = len(self.ladder.steps)
        self.active, self.beyond, self.back = [False] * n, [math.inf] * n, [math.inf] * n

    def _severity(self) -> int:
        return max((s.severity for s, on in zip(self.ladder.steps, self.active, strict=True) if on), default=0)

    def until(self, t: int, strictly: bool) -> None:
        """Let the delays run that end before ``t`` (or at it)."""
        on_ns, off_ns = round(self.ladder.on_delay_s * 1e9), round(self.ladder.off_delay_s * 1e9)
        moments = sorted(
            {b + on_ns for b in self.beyond if b != math.inf} | {b + off_ns for b in self.back if b != math.inf}
        )
        for moment in moments:
            if moment > t or (strictly and moment == t):
                break
            before = self._severity()
            for k in range(len(self.active)):
                if self.beyond[k] != math.inf and self.beyond[k] + on_ns == moment:
                    self.active[k] = True
                if self.back[k] != math.inf and self.back[k] + off_ns == moment:
                    self.active[k] = False
            if self._severity() != before:
                self.history.append((int(moment), self._severity()))

    def reading(self, t: int, value: float) -> None:
        """Take in the next reading."""
        self.until(t, strictly=True)
        sign = self.ladder.direction
        for k, s in enumerate(self.ladder.steps):
            is_beyond = value * sign >= s.value * sign
            is_back = value * sign < s.value * sign - self.ladder.deadband
            self.beyond[k] = min(self.beyond[k], t) if is_beyond else math.inf
            self.back[k] = min(self.back[k], t) if is_back else math.inf
        self.until(t, strictly=False)


def observations(rows: list[tuple[int, int, float]]) -> Observations:
    """(datastream, seconds after T0, value) → Observations."""
    if not rows:
        return Observations.empty()
    stream, seconds, value = zip(*rows, strict=True)
    return Observations.of(stream, T0 + np.array(seconds, dtype=np.int64) * NS_PER_S, value)
