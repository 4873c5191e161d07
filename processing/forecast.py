"""Nowcast of river stage: what a gauge will read in 15, 30 and 60 minutes, learnt per station from its own history.

Three forecasts are mixed. The *line* goes on with the Theil-Sen slope of the last half hour. *Persistence* keeps the
stage. The *regression* corrects the line by a ridge regression on lagged slopes of the gauge's own stage, of stages
upstream, and on rain sums; it has no intercept, so where nothing moves it forecasts no movement. Each is weighted by
how well it did over the last four hours, and in the floods of the history before that: a river that behaves unlike
its history falls back to the line by itself.

``processing.forecast_fit`` learns a model, tries it on floods that the regression has not seen, and notes for each lead
whether it is to be used: only if it beat the line there. Where it is not, use the line. What was measured on recorded
floods stands in docs/forecast.md.

All series lie on one regular grid of time, oldest first; ``on_grid`` and ``rain_on_grid`` put readings there. A
forecast issued at a step uses nothing that is later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from telemetry.observations import NS_PER_S

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

STEP_NS = 900 * NS_PER_S
"""Grid on which all recordings that the method was tried on lie. [ns]"""
LEADS = (1, 2, 4)
"""Leads that are forecast: 15, 30 and 60 min. [steps]"""

LINE_STEPS = 2
"""The line takes 3 readings: half an hour. [steps]"""
PAST_STEPS = 16
"""How far back the regression looks: four hours. [steps]"""
_LONGEST_GAP_STEPS = 4
"""Longest run of missing steps that is bridged. [steps]"""
_MEMORY_STEPS = 16
_MEMORY_PER_STEP = 0.95
_WEIGHT_POWER = 4
"""How recent errors weigh the forecasts: squared errors of the last 4 h, each worth 5 % less than the next newer one,
and that of the history counted once. The weight is the sum to the power of -4."""
_TYPICAL_WEIGHT = 5.0
"""How many recent errors the history's typical one counts for in the width of the band."""


@dataclass(frozen=True, slots=True)
class History:
    """What is known of one station: series on one regular grid of steps, oldest first. NaN is missing.

    Raises
    ------
    ValueError
        Shapes differ.
    """

    stage_m: Floats
    """(n,) [m]"""
    upstream_m: Floats = field(default_factory=lambda: np.empty((0, 0)))
    """(gauges upstream, n) [m]"""
    rain_mm: Floats = field(default_factory=lambda: np.empty((0, 0)))
    """(rain gauges, n) depth of the step that ends at each time. [mm]"""

    def __post_init__(self) -> None:
        if self.stage_m.ndim != 1:
            raise ValueError(f"stage_m must be (n,), got {self.stage_m.shape}")
        for name in ("upstream_m", "rain_mm"):
            series = getattr(self, name)
            if series.ndim != 2 or (series.shape[0] and series.shape[1] != self.stage_m.shape[0]):
                raise ValueError(f"{name} must be (gauges, {self.stage_m.shape[0]}), got {series.shape}")


@dataclass(frozen=True, slots=True)
class Forecast:
    """Forecasts issued at each step of a history: (n, leads) arrays."""

    stage_m: Floats
    """NaN where an input is missing that the model needs. [m]"""
    low_m: Floats
    high_m: Floats
    """The band. [m]"""


@dataclass(frozen=True, slots=True)
class Exceedance:
    """When a forecast reaches thresholds: (n, thresholds) arrays of steps from the issue on, between leads by lines.

    0 where the stage is there already, infinite where the last lead does not reach, NaN where there is no forecast.
    """

    expected_steps: Floats
    earliest_steps: Floats
    """By the upper end of the band."""
    latest_steps: Floats
    """By the lower end of the band."""


@dataclass(frozen=True, slots=True)
class Nowcast:
    """A fitted model of one station. Plain arrays, so that it can be stored (``to_arrays``).

    Gains and counts are of floods held out from the regression.
    """

    leads: Ints
    """(leads,) [steps]"""
    used: Bools
    """(leads,) whether the model is to be used at each lead; if not, use the line."""
    rmse_ratio: Floats
    """(leads,) RMSE of the mixture over that of the line in held-out floods; NaN without floods."""
    floods_won: Ints
    """(leads,) in how many held-out floods the mixture had the smaller RMSE."""
    floods: Ints
    """() how many floods there were."""
    upstream: Ints
    """Rows of ``History.upstream_m`` that the regression takes."""
    rain: Ints
    """Rows of ``History.rain_mm`` that the regression takes."""
    coefficient: Floats
    """(leads, features) of the regression's correction of the line."""
    prior_mse: Floats
    """(leads, experts) mean squared error of each forecast in held-out floods. [m²]"""
    band_quantile: Floats
    """(leads, regimes, 2) quantiles of error / scale; the regimes are steady, rising, falling."""
    floor_m: Floats
    """(leads,) scale of the error where nothing moves. [m]"""
    typical: Floats
    """(leads,) mean square of error over movement in the history, where the scale starts from."""
    rising_m: Floats
    """() rise over half an hour that makes a row rising. [m]"""

    @property
    def steps_needed(self) -> int:
        """How many of the newest steps a forecast depends on (61 with the usual leads)."""
        return PAST_STEPS + 2 * (_MEMORY_STEPS + int(self.leads.max())) + _LONGEST_GAP_STEPS + 1

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The fields by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Back from ``to_arrays``.

        Raises
        ------
        ValueError
            A field is missing.
        """
        missing = [f.name for f in fields(cls) if f.name not in arrays]
        if missing:
            raise ValueError(f"a stored nowcast needs the fields {', '.join(missing)}")
        return cls(**{f.name: np.asarray(arrays[f.name]) for f in fields(cls)})


def on_grid(observed_at: Ints, value: Floats, grid_at: Ints, *, oldest_ns: int = STEP_NS) -> Floats:
    """The newest reading at or before each time of the grid; NaN if it is ``oldest_ns`` old or older, or none.

    Parameters
    ----------
    observed_at, value : (n,) arrays
        Readings of one datastream sorted by time; NaN ones are left out. [ns since 1970 UTC]
    grid_at : (m,) int64 array
        [ns since 1970 UTC]

    Examples
    --------
    >>> on_grid(np.array([10, 28]), np.array([1.0, 2.0]), np.array([5, 15, 30, 45]), oldest_ns=15)
    array([nan,  1.,  2., nan])
    """
    known = ~np.isnan(value)
    observed_at, value = observed_at[known], value[known]
    row = np.searchsorted(observed_at, grid_at, side="right") - 1
    there = row >= 0
    row = np.maximum(row, 0)
    if not observed_at.size:
        return np.full(grid_at.shape, np.nan)
    return np.where(there & (grid_at - observed_at[row] < oldest_ns), value[row], np.nan)


def rain_on_grid(
    observed_at: Ints, rain_mm: Floats, grid_at: Ints, *, step_ns: int = STEP_NS, oldest_ns: int = 4 * STEP_NS
) -> Floats:
    """Depth of the readings of the step that ends at each time of the grid.

    A depth counts whole for the step in which it was read. To spread it over its interval, as
    ``processing.indicators.rain`` does, would tell a step of rain that nobody could know of yet.

    Parameters
    ----------
    observed_at, rain_mm : (n,) arrays
        Readings of one datastream sorted by time; NaN ones are left out. [ns since 1970 UTC, mm]
    grid_at : (m,) int64 array
        [ns since 1970 UTC]
    oldest_ns : int
        NaN where the newest reading is as old as this, or there is none. [ns]

    Examples
    --------
    >>> rain_on_grid(np.array([8, 12, 20]), np.array([0.2, 0.4, 1.0]), np.array([10, 20, 30]), step_ns=10, oldest_ns=10)
    array([0.2, 1.4, nan])
    """
    known = ~np.isnan(rain_mm)
    observed_at = observed_at[known]
    total = np.concatenate((np.zeros(1), np.cumsum(rain_mm[known])))
    until = np.searchsorted(observed_at, grid_at, side="right")
    depth = total[until] - total[np.searchsorted(observed_at, grid_at - step_ns, side="right")]
    if not observed_at.size:
        return np.full(grid_at.shape, np.nan)
    heard = (until > 0) & (grid_at - observed_at[np.maximum(until - 1, 0)] < oldest_ns)
    return np.where(heard, depth, np.nan)


def line(stage_m: Floats, leads: tuple[int, ...] = LEADS) -> Floats:
    """The straight line: stage plus the Theil-Sen slope of the last half hour (three readings).

    Returns
    -------
    (n, leads) float array
        [m]

    Examples
    --------
    >>> line(np.array([1.0, 1.1, 1.4]))[-1].round(6)
    array([1.6, 1.8, 2.2])
    """
    return np.asarray(stage_m[:, None] + slope_of(stage_m)[:, None] * np.asarray(leads))


def forecast(model: Nowcast, history: History) -> Forecast:
    """Forecasts issued at each step; the last row is the one from now.

    The last row depends on the last ``model.steps_needed`` steps only, so a live station hands in no more than these.

    Raises
    ------
    ValueError
        The history lacks a gauge that the model takes.
    """
    for name, rows, series in (
        ("upstream_m", model.upstream, history.upstream_m),
        ("rain_mm", model.rain, history.rain_mm),
    ):
        if rows.size and series.shape[0] <= rows.max():
            raise ValueError(f"{name} must have at least {rows.max() + 1} gauges, got {series.shape[0]}")
    stage = bridged(history.stage_m)
    leads = model.leads.tolist()
    change = (
        slope_of(stage)[:, None] * model.leads + features_of(history, model.upstream, model.rain) @ model.coefficient.T
    )
    mixed = mix(stage, change, model.prior_mse, leads)
    regime = regime_of(stage, float(model.rising_m))
    low, high = np.empty_like(mixed), np.empty_like(mixed)
    for i, lead in enumerate(leads):
        scale = scale_of(stage, mixed[:, i], lead, float(model.floor_m[i]), float(model.typical[i]))
        low[:, i] = mixed[:, i] + scale * model.band_quantile[i, regime, 0]
        high[:, i] = mixed[:, i] + scale * model.band_quantile[i, regime, 1]
    issued_from = history.stage_m[:, None]  # inside a bridged gap there is no stage to issue a forecast from
    return Forecast(issued_from + mixed, issued_from + low, issued_from + high)


def exceedance(model: Nowcast, made: Forecast, stage_m: Floats, threshold_m: Floats) -> Exceedance:
    """When the stage is forecast to reach each threshold, by the leads that the model is to be used at.

    Parameters
    ----------
    model : Nowcast
    made : Forecast
        Its forecasts, (n, leads).
    stage_m : (n,) float array
        The stages they were issued from. [m]
    threshold_m : (thresholds,) float array
        [m]

    Returns
    -------
    Exceedance
        ``earliest_steps`` <= ``expected_steps`` <= ``latest_steps`` wherever the forecast lies in its band. All NaN if
        no lead is to be used.

    Raises
    ------
    ValueError
        Shapes do not fit.
    """
    if made.stage_m.shape != (stage_m.shape[0], model.leads.shape[0]):
        raise ValueError(f"made must be of {stage_m.shape[0]} stages and {model.leads.shape[0]} leads")
    leads = np.concatenate((np.zeros(1), model.leads[model.used]))

    def first(ahead: Floats) -> Floats:
        path = np.concatenate((stage_m[:, None], ahead[:, model.used]), axis=1)
        missing = np.asarray(np.isnan(path).any(axis=1))
        time = np.where((stage_m[:, None] >= threshold_m) & ~missing[:, None], 0.0, np.inf)
        for i in range(1, leads.shape[0]):
            below, above = path[:, i - 1, None], path[:, i, None]
            crosses = np.isinf(time) & (above >= threshold_m)
            share = (threshold_m - below) / np.where(crosses, above - below, 1.0)
            time = np.where(crosses, leads[i - 1] + share * (leads[i] - leads[i - 1]), time)
        missing |= not model.used.any()
        return np.where(missing[:, None], np.nan, time)

    return Exceedance(first(made.stage_m), first(made.high_m), first(made.low_m))


def back(series: Floats, steps: int) -> Floats:
    """The series as it was some steps ago; NaN before it began. Negative steps look ahead: for truths only."""
    moved = np.full(series.shape, np.nan)
    if steps == 0:
        moved[:] = series
    elif 0 < steps < series.shape[0]:
        moved[steps:] = series[:-steps]
    elif -series.shape[0] < steps < 0:
        moved[:steps] = series[-steps:]
    return moved


def bridged(stage_m: Floats) -> Floats:
    """Short gaps filled by straight lines.

    A forecast from inside a gap does not exist, and one from after it knows both ends: nothing later is used.
    """
    at = np.flatnonzero(~np.isnan(stage_m))
    if not at.size:
        return stage_m
    steps = np.arange(stage_m.shape[0])
    after = np.searchsorted(at, steps)
    between = (after > 0) & (after < at.shape[0])
    gap = at[np.minimum(after, at.shape[0] - 1)] - at[np.maximum(after - 1, 0)] - 1
    fill = np.isnan(stage_m) & between & (gap <= _LONGEST_GAP_STEPS)
    return np.where(fill, np.interp(steps, at, stage_m[at]), stage_m)


def _held(series: Floats) -> Floats:
    """Short gaps filled by the value before them, which is all that is known inside a gap."""
    steps = np.arange(series.shape[0])
    last = np.maximum.accumulate(np.where(np.isnan(series), -1, steps))
    fill = (last >= 0) & (steps - last <= _LONGEST_GAP_STEPS)
    return np.where(fill, series[np.maximum(last, 0)], np.nan)


def slope_of(stage_m: Floats) -> Floats:
    """Theil-Sen slope of three readings. [m per step]"""
    one, two = back(stage_m, 1), back(stage_m, 2)
    return np.asarray(np.median(np.stack((stage_m - one, one - two, (stage_m - two) / 2)), axis=0))


def features_of(history: History, upstream: Ints, rain: Ints) -> Floats:
    """(n, features): all are 0 where nothing moves and no rain falls."""
    stage = bridged(history.stage_m)
    slope = slope_of(stage)
    steps = [back(stage, k) - back(stage, k + 1) for k in range(3)]
    columns = [slope, steps[0] - steps[1], steps[1] - steps[2]]
    columns += [(back(stage, a) - back(stage, b)) / (b - a) - slope for a, b in ((2, 4), (4, 8), (8, 16))]
    for gauge in upstream.tolist():
        above = _held(history.upstream_m[gauge])
        columns += [(back(above, a) - back(above, b)) / (b - a) for a, b in ((0, 2), (2, 4), (4, 6), (6, 8), (8, 16))]
    for gauge in rain.tolist():
        columns += [_rain_sum(history.rain_mm[gauge], a, b) for a, b in ((0, 2), (2, 4), (4, 8), (8, 16))]
    return np.stack(columns, axis=1)


def _rain_sum(rain_mm: Floats, newest: int, oldest: int) -> Floats:
    """Depth of the steps from ``newest`` to before ``oldest`` ago; missing ones count as the mean of the known ones,
    and where more than half are missing it is NaN."""
    known = np.concatenate((np.zeros(oldest), np.cumsum(~np.isnan(rain_mm))))
    depth = np.concatenate((np.zeros(oldest), np.cumsum(np.nan_to_num(rain_mm))))
    n = rain_mm.shape[0]

    def over(total: Floats) -> Floats:
        return total[oldest - newest : oldest - newest + n] - total[:n]

    count, total = over(known), over(depth)
    enough = 2 * count >= oldest - newest
    return np.where(enough, total / np.where(enough, count, 1) * (oldest - newest), np.nan)


def mix(stage_m: Floats, regression: Floats, prior_mse: Floats, leads: list[int]) -> Floats:
    """(n, leads) changes of stage: the three forecasts, weighted by their errors up to each step."""
    n = stage_m.shape[0]
    worth = _MEMORY_PER_STEP ** np.arange(_MEMORY_STEPS)
    slope = slope_of(stage_m)
    mixed = np.empty((n, len(leads)))
    for i, lead in enumerate(leads if n else ()):
        experts = np.stack((slope * lead, np.zeros(n), regression[:, i]))
        known = stage_m - back(stage_m, lead)
        errors = np.stack([known - back(expert, lead) for expert in experts])
        square = np.where(np.isnan(errors).any(axis=0), 0.0, errors**2)
        recent = np.stack([np.convolve(s, worth)[:n] for s in square]) + prior_mse[i][:, None]
        weight = (recent / recent.min(axis=0)) ** -_WEIGHT_POWER
        mixed[:, i] = (weight * experts).sum(axis=0) / weight.sum(axis=0)
    return mixed


def regime_of(stage_m: Floats, rising_m: float) -> npt.NDArray[np.intp]:
    """0 steady, 1 rising, 2 falling, by the last half hour."""
    rise = stage_m - back(stage_m, LINE_STEPS)
    return np.where(rise >= rising_m, 1, np.where(rise <= -rising_m, 2, 0))


def activity(stage_m: Floats) -> Floats:
    """Mean movement of a step over the last hour. [m]"""
    moves = [np.abs(back(stage_m, k) - back(stage_m, k + 1)) for k in range(4)]
    return np.asarray(np.mean(np.stack(moves), axis=0))


def scale_of(stage_m: Floats, mixed: Floats, lead: int, floor_m: float, typical: float) -> Floats:
    """Scale of the error to be expected: how much moves, times how far off the forecasts have been of late.

    ``mixed`` are the (n,) changes of stage that were forecast, ``typical`` the mean square of error over movement in
    the history. [m]
    """
    n = stage_m.shape[0]
    moves = activity(stage_m) * lead + floor_m
    off = (stage_m - back(stage_m + mixed, lead)) / back(moves, lead)
    known = ~np.isnan(off)
    if not n or not typical:
        return moves
    worth = _MEMORY_PER_STEP ** np.arange(_MEMORY_STEPS)
    square = np.convolve(np.where(known, off, 0.0) ** 2, worth)[:n]
    weight = np.convolve(known.astype(np.float64), worth)[:n]
    return moves * np.sqrt((square + _TYPICAL_WEIGHT * typical) / (weight + _TYPICAL_WEIGHT))
