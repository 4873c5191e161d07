"""Rivers: from rain on the ground to the stage at each gauge. Every step keeps the water: what goes in comes out.

Rain → runoff (SCS curve number) → linear reservoirs (Nash cascade, and a slow one) → down the river with its travel
time and some flattening → stage by the gauge's rating curve. All but the first and the last step are linear, so the
answers to separate storms may be added.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simulators.plan import Gauge, Plan

Floats = npt.NDArray[np.float64]

RESERVOIRS = 3
"""Length of the Nash cascade."""

QUICK_SHARE = 0.75
"""Share of the runoff that comes at the catchment's own lag; the rest seeps through the ground beside the river."""

SLOW_LAG_MIN = 150.0
"""Mean further delay of the slow rest."""

FLATTENING = 0.3
"""Share of a reach's travel time that is a linear reservoir; the rest is pure delay."""


def curve_number_runoff_mm(rain_mm: Floats, curve_number: Floats | float) -> Floats:
    """Runoff depth that a storm has given so far, from the rain that has fallen so far.

    Parameters
    ----------
    rain_mm : float array
        Cumulative rain of one storm. [mm]
    curve_number : float or array that broadcasts against it
        SCS curve number, (0, 100].

    References
    ----------
    USDA NEH-630, chapter 10: S = 25400/CN - 254 mm, Ia = 0.2 S, Pe = (P - Ia)² / (P - Ia + S).

    Examples
    --------
    >>> curve_number_runoff_mm(np.array([5.0, 50.8, 127.0]), 80).round(1)  # 0, 0.5625 in and 2.893 in
    array([ 0. , 14.3, 73.5])
    """
    retention = 25400.0 / np.asarray(curve_number, dtype=np.float64) - 254.0
    beyond = np.maximum(rain_mm - 0.2 * retention, 0.0)
    bottom = beyond + retention
    return np.asarray(beyond * beyond / np.where(bottom > 0.0, bottom, 1.0))


def linear_reservoir(constant_min: float, steps: int) -> Floats:
    """Answer of a linear reservoir (S = K Q) to one unit of inflow in the first minute; shape (steps,), sum → 1.

    References
    ----------
    Q₁ = Q₀ e^(-Δt/K) + I (1 - e^(-Δt/K)), exact for inflow that is constant over the step.
    """
    keep = np.exp(-1.0 / constant_min)
    return np.asarray((1.0 - keep) * keep ** np.arange(steps, dtype=np.float64))


def nash_cascade(lag_min: float, steps: int, reservoirs: int = RESERVOIRS) -> Floats:
    """Unit hydrograph per minute of equal linear reservoirs in series, with mean delay ``lag_min``; shape (steps,).

    References
    ----------
    Nash, "The form of the instantaneous unit hydrograph", IASH Publ. 45 (1957): lag = n K.
    """
    one = linear_reservoir(lag_min / reservoirs, steps)
    answer = one
    for _ in range(reservoirs - 1):
        answer = np.convolve(answer, one)[:steps]
    return answer


def catchment(lag_min: float, steps: int) -> Floats:
    """Unit hydrograph of a catchment: the quick cascade, and a slow reservoir fed by it. Shape (steps,), sum → 1."""
    quick = nash_cascade(lag_min, steps)
    slow = np.convolve(quick, linear_reservoir(SLOW_LAG_MIN, steps))[:steps]
    return QUICK_SHARE * quick + (1.0 - QUICK_SHARE) * slow


def reach(travel_min: float, steps: int) -> Floats:
    """Answer of a stretch of river: delay, then a linear reservoir; mean delay is ``travel_min``. Shape (steps,)."""
    delay = round((1.0 - FLATTENING) * travel_min)
    answer = np.zeros(steps)
    flat = linear_reservoir(max(FLATTENING * travel_min, 0.5), steps)
    answer[delay:] = flat[: max(steps - delay, 0)]
    return answer


def stage_m(discharge_m3_s: Floats, a: Floats, b: Floats, zero_m: Floats) -> Floats:
    """Stage of a discharge by the rating curve Q = a (H - H₀)^b (ISO 18320).

    Examples
    --------
    >>> stage_m(np.array([0.0, 40.0]), np.array([10.0]), np.array([2.0]), np.array([0.1]))
    array([0.1, 2.1])
    """
    return zero_m + (np.maximum(discharge_m3_s, 0.0) / a) ** (1.0 / b)


@dataclass(frozen=True)
class RiverNetwork:
    """The gauges of a city, upstream before downstream, with their unit hydrographs."""

    gauges: tuple[Gauge, ...]
    order: tuple[int, ...]
    """Positions of the gauges so that each comes after all above it."""
    below: tuple[int, ...]
    """Position of the next gauge downstream, -1 at the end."""
    points_km: Floats
    """(gauges · 7, 2) places over which each catchment's rain is averaged."""
    catchment_answer: Floats
    """(gauges, steps)"""
    reach_answer: Floats
    """(gauges, steps); from the gauge to the one below."""

    @staticmethod
    def of(plan: Plan, steps: int) -> RiverNetwork:
        """Build from a plan, for answers of ``steps`` minutes. Raises ValueError if the rivers run in a circle."""
        gauges = plan.gauges
        position = {g.id: i for i, g in enumerate(gauges)}
        below = tuple(position[g.to] if g.to else -1 for g in gauges)
        order: list[int] = []
        while len(order) < len(gauges):
            ready = [
                i
                for i in range(len(gauges))
                if i not in order and all(up in order for up in range(len(gauges)) if below[up] == i)
            ]
            if not ready:
                raise ValueError(
                    "the rivers run in a circle: " + ", ".join(g.id for g in gauges if position[g.id] not in order)
                )
            order += ready
        angle = np.arange(6) * np.pi / 3
        ring = np.concatenate([[[0.0, 0.0]], 0.65 * np.stack([np.cos(angle), np.sin(angle)], axis=1)])
        centres = plan.local_km([g.catchment for g in gauges])
        radius = np.array([g.reach_km for g in gauges])
        return RiverNetwork(
            gauges=gauges,
            order=tuple(order),
            below=below,
            points_km=(centres[:, None, :] + radius[:, None, None] * ring).reshape(-1, 2),
            catchment_answer=np.array([catchment(g.lag_min, steps) for g in gauges]).reshape(-1, steps),
            reach_answer=np.array([reach(g.travel_min, steps) for g in gauges]).reshape(-1, steps),
        )

    def runoff_mm(self, rain_mm_h: Floats) -> Floats:
        """Runoff depth of every minute and catchment from the rain of every minute and point.

        Parameters
        ----------
        rain_mm_h : (t, gauges · 7) float array
            Mean rain of each minute at ``points_km``; one storm, from its beginning.

        Returns
        -------
        (t, gauges) float array [mm per minute]
        """
        rain = rain_mm_h.reshape(rain_mm_h.shape[0], len(self.gauges), -1).mean(axis=2) / 60.0
        number = np.array([g.curve_number for g in self.gauges])
        total = curve_number_runoff_mm(np.cumsum(rain, axis=0), number)
        return np.diff(total, axis=0, prepend=0.0)

    def discharge_m3_s(self, runoff_mm: Floats) -> Floats:
        """Discharge at every gauge that a storm's runoff causes, at the ends of the minutes.

        Parameters
        ----------
        runoff_mm : (t, gauges) float array
            Runoff depth of each minute. [mm]

        Returns
        -------
        (steps + 1, gauges) float array
            From the storm's beginning (0 there); its own water and that from above.
        """
        steps = self.catchment_answer.shape[1]
        area = np.array([g.area_km2 for g in self.gauges])
        inflow = runoff_mm * 60.0 * area / 3.6  # Q [m³/s] = depth [mm/h] · area [km²] / 3.6
        out = np.zeros((steps + 1, len(self.gauges)))
        for i in self.order:
            out[1:, i] += np.convolve(inflow[:, i], self.catchment_answer[i])[:steps]
            if self.below[i] >= 0:
                out[1:, self.below[i]] += np.convolve(out[1:, i], self.reach_answer[i])[:steps]
        return out

    def stage_m(self, storm_discharge_m3_s: Floats) -> Floats:
        """Stage at every gauge for the discharge that storms add to dry weather's; shape (t, gauges)."""
        base = np.array([g.base_m3_s for g in self.gauges])
        a, b, zero = np.array([g.rating for g in self.gauges]).T
        return stage_m(base + storm_discharge_m3_s, a, b, zero)
