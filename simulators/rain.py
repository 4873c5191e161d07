"""Rain: storms made of round cells that move over the city, grow and decay; and the tipping bucket that measures it.

A storm lies wholly inside its episode (four hours): it is dry at both ends. Time is minutes since the episode began.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simulators.chance import Dice

Floats = npt.NDArray[np.float64]

DRY_AFTER_MIN = 225.0
"""No cell lives longer than this into its episode."""

TIP_MM = 0.2
"""Rain for one tip of the bucket."""

TIP_TAKES_S = 0.45
"""Time of one tip, in which rain is lost. [Duchon 2014, in domain.md of the project's notes]"""


@dataclass(frozen=True)
class Cell:
    """One rain cell: a Gaussian of intensity in space, a trapezium with rounded edges in time."""

    peak_mm_h: float
    radius_km: float
    """Distance from the centre at which the rain is exp(-1/2) of that in the centre."""
    x_km: float
    """Centre at the middle of its life, east and north of the city's centre."""
    y_km: float
    u_km_min: float
    """Movement to the east and to the north."""
    v_km_min: float
    start_min: float
    rise_min: float
    end_min: float
    fall_min: float


def intensity_mm_h(cells: tuple[Cell, ...], x_km: Floats, y_km: Floats, time_min: Floats) -> Floats:
    """Rain at places and times.

    Parameters
    ----------
    x_km, y_km : (p,) float arrays
        Places, east and north of the city's centre.
    time_min : (t,) float array
        Minutes since the episode began.

    Returns
    -------
    (t, p) float array [mm/h]
        Sum over the cells, without any below 0.05 mm/h.

    References
    ----------
    Gaussian cells as in Northrop, "A clustered spatial-temporal model of rainfall", Proc. R. Soc. A 454 (1998);
    here with a lifetime that swells and fades.
    """
    rain = np.zeros((time_min.size, x_km.size))
    for c in cells:
        life = np.clip((time_min - c.start_min) / c.rise_min, 0.0, 1.0)
        life = np.minimum(life, np.clip((c.end_min - time_min) / c.fall_min, 0.0, 1.0))
        life = life * life * (3.0 - 2.0 * life)
        age = time_min - 0.5 * (c.start_min + c.end_min)
        dx = x_km[None, :] - (c.x_km + c.u_km_min * age)[:, None]
        dy = y_km[None, :] - (c.y_km + c.v_km_min * age)[:, None]
        rain += (c.peak_mm_h * life)[:, None] * np.exp(-0.5 * (dx * dx + dy * dy) / c.radius_km**2)
    rain[rain < 0.05] = 0.0
    return rain


def great_storm(dice: Dice, x_km: float, y_km: float) -> tuple[Cell, ...]:
    """The storm of the afternoon: a heavy cell over (x, y) from about minute 10 to 60, and lesser ones around it."""
    bearing = dice.between(0.0, 2 * np.pi)
    speed = dice.between(0.04, 0.08)
    u, v = speed * np.sin(bearing), speed * np.cos(bearing)
    main = Cell(
        peak_mm_h=dice.between(75.0, 83.0),
        radius_km=dice.between(2.1, 2.3),
        x_km=x_km + dice.between(-0.3, 0.3),
        y_km=y_km + dice.between(-0.3, 0.3),
        u_km_min=u,
        v_km_min=v,
        start_min=dice.between(7.0, 9.0),
        rise_min=20.0,
        end_min=dice.between(72.0, 80.0),
        fall_min=26.0,
    )
    return (main, *(_small_cell(dice, x_km, y_km, 5.0, 55.0, 6.0, 18.0) for _ in range(2 + dice.below(2))))


def lesser_storm(dice: Dice, reach_km: float, peak_mm_h: float) -> tuple[Cell, ...]:
    """Up to four cells of at most ``peak_mm_h``, within ``reach_km`` of the centre; at times none."""
    return tuple(_small_cell(dice, 0.0, 0.0, reach_km, 110.0, 0.2 * peak_mm_h, peak_mm_h) for _ in range(dice.below(5)))


def _small_cell(
    dice: Dice, x_km: float, y_km: float, reach_km: float, latest_min: float, weakest_mm_h: float, strongest_mm_h: float
) -> Cell:
    start = dice.between(10.0, latest_min)
    bearing, speed = dice.between(0.0, 2 * np.pi), dice.between(0.05, 0.25)
    return Cell(
        peak_mm_h=dice.between(weakest_mm_h, strongest_mm_h),
        radius_km=dice.between(1.2, 2.6),
        x_km=x_km + dice.between(-reach_km, reach_km),
        y_km=y_km + dice.between(-reach_km, reach_km),
        u_km_min=speed * np.sin(bearing),
        v_km_min=speed * np.cos(bearing),
        start_min=start,
        rise_min=dice.between(6.0, 15.0),
        end_min=min(start + dice.between(30.0, 85.0), DRY_AFTER_MIN),
        fall_min=dice.between(8.0, 20.0),
    )


def caught_mm_h(rain_mm_h: Floats) -> Floats:
    """What a tipping bucket catches: rain that falls while it tips is lost.

    Examples
    --------
    >>> caught_mm_h(np.array([0.0, 20.0, 175.0])).round(1)  # about 1 % and 10 % lost, as in Duchon 2014
    array([  0. ,  19.8, 157.7])
    """
    return rain_mm_h / (1.0 + rain_mm_h * TIP_TAKES_S / (3600.0 * TIP_MM))
