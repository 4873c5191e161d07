"""A small invented city for the tests of the operator's page, and shorthand for what the core would say."""

from __future__ import annotations

import numpy as np

from telemetry.alarms import AlarmKind, AlarmState
from telemetry.directory import Datastream, Device, Directory, Ladder, Site, Step
from telemetry.observations import Observations
from telemetry.quality import GOOD
from telemetry.results import DTYPES, Transitions

S = 1_000_000_000
T0 = 1_795_519_200 * S
"""2026-11-24T11:20:00Z = 18:20:00 WIB"""

LEVEL, SPEED, BATTERY, RAIN = range(4)
GAUGE, COUNTER = range(2)

LADDER = Ladder(steps=(Step(1.0, 1, "Siaga 3"), Step(1.5, 2, "Siaga 2"), Step(2.0, 3, "Siaga 1")), deadband=0.05)


def small_city(version: int = 1, more: tuple[Datastream, ...] = ()) -> Directory:
    """Two sites: a gauge at a river, a counter at a road."""
    return Directory(
        version,
        "bandung",
        7.0,
        (
            Site("dayeuhkolot", "Dayeuhkolot", -6.985, 107.625, "Dayeuhkolot"),
            Site("dago", "Jl. Dago <b>&", -6.885, 107.614, "Coblong"),
        ),
        (Device("gauge-1", "dayeuhkolot", "Radar"), Device("loop-1", "dago")),
        (
            Datastream("dayeuhkolot.level", "dayeuhkolot", "gauge-1", "water_level_m", ladder=LADDER),
            Datastream(
                "dago.speed", "dago", "loop-1", "speed_km_h", ladder=Ladder(steps=(Step(10, 1, "Padat"),), direction=-1)
            ),
            Datastream("gauge-1.battery", "dayeuhkolot", "gauge-1", "battery_v"),
            Datastream("dayeuhkolot.rain", "dayeuhkolot", "gauge-1", "rain_mm"),
            *more,
        ),
    )


def readings(stream: int, at_s: float | list[float], value: float | list[float], flag: int = GOOD) -> Observations:
    """Readings of one datastream at seconds after T0."""
    at = T0 + (np.atleast_1d(np.asarray(at_s, dtype=np.float64)) * S).astype(np.int64)
    values = np.broadcast_to(np.asarray(value, dtype=np.float64), at.shape)
    return Observations(
        np.full(at.shape, stream, dtype=np.int32), at, at, values, np.full(at.shape, flag, dtype=np.uint8)
    )


def transition(
    *,
    at_s: float,
    severity: int,
    subject: int = LEVEL,
    kind: AlarmKind = AlarmKind.LEVEL,
    state: AlarmState = AlarmState.UNACKNOWLEDGED,
    raised_s: float = 0.0,
    value: float = 1.2,
    threshold: float = 1.0,
    peak: float | None = None,
) -> Transitions:
    """One row; times in seconds after T0."""
    raised, at = T0 + round(raised_s * S), T0 + round(at_s * S)
    row = (kind, subject, raised, at, state, severity, value, threshold, value if peak is None else peak, at, 1)
    names = Transitions.__dataclass_fields__
    return Transitions(**{n: np.array([v], dtype=DTYPES[n]) for n, v in zip(names, row, strict=True)})
