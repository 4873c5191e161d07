"""Sensors that lie: false echoes, a frozen value, a broken wire. What the quality tests are there to find.

Faults change what is reported, never what is true. One of each sort happens in every episode, at its own station.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from simulators.chance import Keys, uniform

Floats = npt.NDArray[np.float64]

ECHO_SHARE = 0.16
"""Share of every second reading of a level gauge that is a false echo; the reading after one is right again."""

ECHO_M = 1.8
"""How much nearer the false echo's object is than the water."""

BROKEN_WIRE_C = -127.0
"""What a common digital thermometer (DS18B20) gives without a sensor."""


class FaultKind(StrEnum):
    """Sorts of faults."""

    ECHOES = "false echoes"
    FROZEN = "frozen value"
    BROKEN_WIRE = "broken wire"


AFFECTED = {
    FaultKind.ECHOES: {"gauge": "water_level_m"},
    FaultKind.FROZEN: {"air": "pm2_5_ug_m3", "noise": "laeq_db"},
    FaultKind.BROKEN_WIRE: {"weather": "temperature_c"},
}
"""Sort of fault → kinds of devices it can strike, and the property that suffers."""


@dataclass(frozen=True)
class Fault:
    """A sensor that lies, in minutes since its episode began."""

    kind: FaultKind
    station: int
    property: str
    start_min: float
    end_min: float


def distort(kind: FaultKind, value: Floats, frozen_at: float, key_of: Keys, n: npt.NDArray[np.int64]) -> Floats:
    """What a faulty sensor reports instead of ``value``.

    Parameters
    ----------
    value : (n,) float array
        What it would report if it were sound.
    frozen_at : float
        The value at which it froze (FROZEN).
    key_of, n : (n,) arrays
        Key of the datastream and number of each reading, for the chance of an echo.
    """
    match kind:
        case FaultKind.ECHOES:
            struck = (n % 2 == 0) & (uniform(key_of ^ np.uint64(0xEC40), n) < ECHO_SHARE)
            return np.where(struck, np.round(value + ECHO_M, 3), value)
        case FaultKind.FROZEN:
            return np.full_like(value, frozen_at)
        case FaultKind.BROKEN_WIRE:
            return np.full_like(value, BROKEN_WIRE_C)
