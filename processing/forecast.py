"""Nowcast of river stage: what a gauge will read in 15, 30 and 60 minutes, learnt per station from its own history.

Three forecasts are mixed. The *line* goes on with the Theil-Sen slope of the last half hour. *Persistence* keeps the
stage. The *regression* corrects the line by a ridge regression on lagged slopes of the gauge's own stage, of stages
upstream, and on rain sums; it has no intercept, so where nothing moves it forecasts no movement. Each is weighted by
how well it did over the last eight hours, and in the floods of the history before that: a river that behaves unlike
its history falls back to the line by itself.

``fit`` tries the mixture on floods that the regression has not seen, and the model says for each lead whether it is to
be used: only if it beat the line there. Where it is not, use the line (``processing.indicators.stage``). What was
measured on recorded floods stands in docs/forecast.md.

All series lie on one regular grid of time, oldest first; ``on_grid`` and ``rain_on_grid`` put readings there. A
forecast issued at a step uses nothing that is later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from processing.indicators.rain import depth_over
from telemetry.observations import NS_PER_S

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

STEP_NS = 900 * NS_PER_S
"""Grid on which all recordings that the method was tried on lie. [ns]"""
LEADS = (1, 2, 4)
"""Leads that are forecast: 15, 30 and 60 min. [steps]"""
EXPERTS = ("line", "persistence", "regression")

_LINE_STEPS = 2
"""The line takes 3 readings: half an hour. [steps]"""
_STAGE_STEPS = 16
_RAIN_STEPS = 24
"""How far back the regression looks. [steps]"""
_LONGEST_GAP_STEPS = 4
"""Longest run of missing steps that is bridged. [steps]"""
_MEMORY_STEPS = 32
_MEMORY_PER_STEP = 0.95
_WEIGHT_POWER = 4
"""How recent errors weigh the forecasts: squared errors of the last 8 h, each worth 5 % less than the next newer one,
beside those of the history as if one step old; the weight is the error's 8th power, turned over."""
_RIDGES = (1e-3, 1e-2, 1e-1, 1.0)
_FOLDS = 8
_EVENT_GAP_STEPS = 48
"""Rows of flood less than half a day apart are one flood. [steps]"""
_LEAST_ROWS = 100
"""Fewer rows of one regime than this give no quantiles of their own. [rows]"""


@dataclass(frozen=True, slots=True)
class FitSettings:
    """What counts as flood, and what a model must reach.

    Raises
    ------
    ValueError
        A value is out of its range.
    """

    flood_stage_m: float = np.inf
    """At this stage and above, a row is of a flood. [m]"""
    rising_m: float = 0.02
    """A row is also of a flood if the stage has risen by this over the last half hour. [m]"""
    least_gain: float = 0.05
    """A lead is used only if the RMSE in held-out floods is below (1 - this) of the line's."""
    least_floods: int = 3
    """With fewer floods in the history no lead is used."""
    band: float = 0.9
    """Share of outcomes that shall lie in the band."""

    def __post_init__(self) -> None:
        if not self.rising_m > 0:
            raise ValueError(f"rising_m must be positive, got {self.rising_m}")
        if np.isnan(self.flood_stage_m):
            raise ValueError("flood_stage_m must be a number, got nan")
        if not 0 <= self.least_gain < 1:
            raise ValueError(f"least_gain must be at least 0 and below 1, got {self.least_gain}")
        if self.least_floods < 2:
            raise ValueError(f"least_floods must be at least 2, got {self.least_floods}")
        if not 0 < self.band < 1:
            raise ValueError(f"band must be between 0 and 1, got {self.band}")


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
    rising_m: Floats
    """() rise over half an hour that makes a row rising. [m]"""

    @property
    def steps_needed(self) -> int:
        """How many of the newest steps a forecast depends on; with fewer it is still made, from less."""
        deepest = max(_STAGE_STEPS, _RAIN_STEPS if self.rain.size else 0)
        return deepest + _MEMORY_STEPS + int(self.leads.max()) + _LONGEST_GAP_STEPS + 1

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


def rain_on_grid(observed_at: Ints, rain_mm: Floats, grid_at: Ints, *, step_ns: int = STEP_NS) -> Floats:
    """Depth of the step that ends at each time of the grid; NaN where readings cover less than half of it. [mm]"""
    stream = np.zeros(observed_at.shape, np.int32)
    depths = depth_over(stream, observed_at, rain_mm, np.zeros(grid_at.shape, np.int32), grid_at, step_ns)
    return np.where(depths.covered >= 0.5, depths.depth_mm, np.nan)


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
    return np.asarray(stage_m[:, None] + _slope(stage_m)[:, None] * np.asarray(leads))


def flood_rows(stage_m: Floats, settings: FitSettings) -> Bools:
    """Steps that count as flood when they are issued: high, or rising."""
    rise = stage_m - _back(stage_m, _LINE_STEPS)
    return (stage_m >= settings.flood_stage_m) | (rise >= settings.rising_m)


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
    stage = _bridged(history.stage_m)
    leads = model.leads.tolist()
    change = _slope(stage)[:, None] * model.leads + _features(history, model.upstream, model.rain) @ model.coefficient.T
    mixed = _mix(stage, change, model.prior_mse, leads)
    regime = _regime(stage, float(model.rising_m))
    low, high = np.empty_like(mixed), np.empty_like(mixed)
    for i, lead in enumerate(leads):
        scale = _activity(stage) * lead + model.floor_m[i]
        low[:, i] = mixed[:, i] + scale * model.band_quantile[i, regime, 0]
        high[:, i] = mixed[:, i] + scale * model.band_quantile[i, regime, 1]
    issued_from = history.stage_m[:, None]  # inside a bridged gap there is no stage to issue a forecast from
    return Forecast(issued_from + mixed, issued_from + low, issued_from + high)


def fit(history: History, settings: FitSettings | None = None, *, leads: tuple[int, ...] = LEADS) -> Nowcast:
    """Learn a station from its history, and find out on held-out floods whether the result is to be used.

    The history is cut between floods into at most eight parts. Each part is forecast by regressions that were fitted
    to the others, with a margin around it as wide as the inputs reach. By these forecasts, in floods only, are chosen
    the inputs (own stage; with upstream; with rain; with both) and the strength of the ridge; from them come the
    decision whether to use the model, the weights before any recent error is known, and the band (from all rows). The
    coefficients are then fitted to the whole history. As the same floods choose and decide, the ratio is a little too
    good; ``least_gain`` is there for that.

    Parameters
    ----------
    history : History
        As long as possible; what is NaN is left out.
    settings : FitSettings, optional
    leads : tuple of int
        [steps]

    Returns
    -------
    Nowcast
        With ``used`` False at all leads if the history has fewer than ``least_floods`` floods.

    Raises
    ------
    ValueError
        A lead is not positive, or fewer than 100 steps have all that a regression on the own stage needs.

    References
    ----------
    Ridge regression: Hoerl and Kennard (1970), Technometrics 12. Mixing forecasts by their recent errors: Bates and
    Granger (1969), "The combination of forecasts", Operational Research Quarterly 20, 451-468. Scaled residuals of
    held-out data as a band: split conformal prediction (Lei et al. 2018, J. Am. Stat. Assoc. 113), whose guarantee
    does not hold here, since floods of one river are not exchangeable: see the coverage measured in docs/forecast.md.
    """
    settings = settings or FitSettings()
    if not leads or min(leads) < 1:
        raise ValueError(f"leads must be positive steps, got {leads}")
    stage = _bridged(history.stage_m)
    flood = flood_rows(history.stage_m, settings)
    event, edges = _events(flood)
    slope = _slope(stage)
    truth = np.stack([_back(stage, -lead) - stage for lead in leads], axis=1)
    residual = truth - slope[:, None] * np.asarray(leads)

    none = np.empty(0, np.int64)
    upstream, rain = (np.arange(series.shape[0]) for series in (history.upstream_m, history.rain_mm))
    inputs = [(none, none)]
    inputs += [(upstream, none)] if upstream.size else []
    inputs += [(none, rain)] if rain.size else []
    inputs += [(upstream, rain)] if upstream.size and rain.size else []

    best: tuple[float, tuple[Ints, Ints], float, Floats] | None = None
    for chosen in inputs:
        features = _features(history, *chosen)
        usable = ~np.isnan(features).any(axis=1)
        if int(usable.sum()) < 100:
            if not chosen[0].size and not chosen[1].size:
                raise ValueError(f"at least 100 steps with a complete past are needed, got {int(usable.sum())}")
            continue
        for ridge, held_out in _held_out(features, residual, edges, max(leads)).items():
            # Where an input is missing the line stands in, so that all inputs are judged by the same rows.
            error = np.where(np.isnan(held_out), 0.0, held_out) - residual
            known = ~np.isnan(residual).any(axis=1)
            rows = flood & known if np.any(flood & known) else known
            score = float(np.mean(_mean_square(error[rows]) / np.maximum(_mean_square(residual[rows]), 1e-12)))
            if best is None or score < best[0]:
                best = score, chosen, ridge, held_out
    assert best is not None
    _, chosen, ridge, held_out = best

    change = slope[:, None] * np.asarray(leads) + held_out
    experts = np.stack([slope[:, None] * np.asarray(leads), np.zeros_like(change), change], axis=2)
    known = ~np.isnan(truth[:, :, None] - experts).any(axis=(1, 2))
    judged = flood & known
    weighed = judged if judged.any() else known
    prior = np.maximum(_mean_square((truth[:, :, None] - experts)[weighed]), 1e-12)
    mixed = _mix(stage, change, prior, list(leads))

    ratio, won = _compare(truth - experts[:, :, 0], truth - mixed, judged, event)
    flood_count = int(event.max(initial=-1)) + 1
    used = (flood_count >= settings.least_floods) & (ratio < 1 - settings.least_gain) & (2 * won > flood_count)
    quantile, floor = _band(stage, truth - mixed, list(leads), settings)
    features = _features(history, *chosen)
    coefficient = np.stack([_solve(*_gram(features, residual[:, i]), ridge) for i in range(len(leads))])
    return Nowcast(
        np.array(leads, np.int64),
        used,
        ratio,
        won,
        np.array(flood_count, np.int64),
        chosen[0],
        chosen[1],
        coefficient,
        prior,
        quantile,
        floor,
        np.array(settings.rising_m),
    )


def _back(series: Floats, steps: int) -> Floats:
    """The series as it was some steps ago; NaN before it began. Negative steps look ahead: for truths only."""
    moved = np.full(series.shape, np.nan)
    if steps == 0:
        moved[:] = series
    elif 0 < steps < series.shape[0]:
        moved[steps:] = series[:-steps]
    elif -series.shape[0] < steps < 0:
        moved[:steps] = series[-steps:]
    return moved


def _bridged(stage_m: Floats) -> Floats:
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


def _slope(stage_m: Floats) -> Floats:
    """Theil-Sen slope of three readings. [m per step]"""
    one, two = _back(stage_m, 1), _back(stage_m, 2)
    return np.asarray(np.median(np.stack((stage_m - one, one - two, (stage_m - two) / 2)), axis=0))


def _features(history: History, upstream: Ints, rain: Ints) -> Floats:
    """(n, features): all are 0 where nothing moves and no rain falls."""
    stage = _bridged(history.stage_m)
    slope = _slope(stage)
    steps = [_back(stage, k) - _back(stage, k + 1) for k in range(3)]
    columns = [slope, steps[0] - steps[1], steps[1] - steps[2]]
    columns += [(_back(stage, a) - _back(stage, b)) / (b - a) - slope for a, b in ((2, 4), (4, 8), (8, 16))]
    for gauge in upstream.tolist():
        above = _held(history.upstream_m[gauge])
        columns += [(_back(above, a) - _back(above, b)) / (b - a) for a, b in ((0, 2), (2, 4), (4, 6), (6, 8), (8, 16))]
    for gauge in rain.tolist():
        columns += [_rain_sum(history.rain_mm[gauge], a, b) for a, b in ((0, 2), (2, 4), (4, 12), (12, _RAIN_STEPS))]
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


def _mix(stage_m: Floats, regression: Floats, prior_mse: Floats, leads: list[int]) -> Floats:
    """(n, leads) changes of stage: the three forecasts, weighted by their errors up to each step."""
    n = stage_m.shape[0]
    worth = _MEMORY_PER_STEP ** np.arange(_MEMORY_STEPS)
    slope = _slope(stage_m)
    mixed = np.empty((n, len(leads)))
    for i, lead in enumerate(leads if n else ()):
        experts = np.stack((slope * lead, np.zeros(n), regression[:, i]))
        known = stage_m - _back(stage_m, lead)
        errors = np.stack([known - _back(expert, lead) for expert in experts])
        square = np.where(np.isnan(errors).any(axis=0), 0.0, errors**2)
        recent = np.stack([np.convolve(s, worth)[:n] for s in square]) + prior_mse[i][:, None]
        weight = (recent / recent.min(axis=0)) ** -_WEIGHT_POWER
        mixed[:, i] = (weight * experts).sum(axis=0) / weight.sum(axis=0)
    return mixed


def _regime(stage_m: Floats, rising_m: float) -> npt.NDArray[np.intp]:
    """0 steady, 1 rising, 2 falling, by the last half hour."""
    rise = stage_m - _back(stage_m, _LINE_STEPS)
    return np.where(rise >= rising_m, 1, np.where(rise <= -rising_m, 2, 0))


def _activity(stage_m: Floats) -> Floats:
    """Mean movement of a step over the last hour. [m]"""
    moves = [np.abs(_back(stage_m, k) - _back(stage_m, k + 1)) for k in range(4)]
    return np.asarray(np.mean(np.stack(moves), axis=0))


def _events(flood: Bools) -> tuple[Ints, Ints]:
    """(n,) number of each row's flood, -1 outside; and the steps at which the history is cut, between floods."""
    rows = np.flatnonzero(flood)
    new = np.ones(rows.shape, np.bool_)
    new[1:] = np.diff(rows) > _EVENT_GAP_STEPS
    event = np.full(flood.shape, -1, np.int64)
    event[rows] = np.cumsum(new) - 1
    first = rows[new]
    last = np.append(rows[np.flatnonzero(new)[1:] - 1], rows[-1:])
    cuts = (first[1:] + last[:-1]) // 2
    if not cuts.size:  # no two floods to keep apart: equal parts
        return event, np.arange(1, _FOLDS) * (flood.shape[0] // _FOLDS)
    keep = np.unique(np.linspace(0, cuts.shape[0], min(_FOLDS, cuts.shape[0] + 1) + 1).astype(np.int64)[1:-1] - 1)
    return event, cuts[keep[keep >= 0]]


def _gram(features: Floats, target: Floats) -> tuple[Floats, Floats, int]:
    """X'X, X'y and the count over the complete rows."""
    rows = ~(np.isnan(features).any(axis=1) | np.isnan(target))
    x, y = features[rows], target[rows]
    return x.T @ x, x.T @ y, int(rows.sum())


def _solve(xx: Floats, xy: Floats, rows: int, ridge: float) -> Floats:
    """Coefficients of a ridge on columns scaled to a root mean square of 1."""
    scale = np.sqrt(np.maximum(np.diag(xx) / max(rows, 1), 1e-18))
    scaled = xx / np.outer(scale, scale) / max(rows, 1)
    return np.asarray(np.linalg.solve(scaled + ridge * np.eye(scale.shape[0]), xy / scale / max(rows, 1)) / scale)


def _held_out(features: Floats, residual: Floats, edges: Ints, longest_lead: int) -> dict[float, Floats]:
    """For each ridge the (n, leads) corrections, each part's from a regression on the others. NaN without others."""
    n, leads = residual.shape
    margin = max(_STAGE_STEPS, _RAIN_STEPS) + longest_lead
    out = {ridge: np.full((n, leads), np.nan) for ridge in _RIDGES}
    bounds = [0, *edges.tolist(), n]
    if len(bounds) == 2:
        return out
    for i in range(leads):
        xx, xy, rows = _gram(features, residual[:, i])
        for start, end in pairwise(bounds):
            near = slice(max(0, start - margin), end + margin)
            near_xx, near_xy, near_rows = _gram(features[near], residual[near, i])
            if rows - near_rows < 100:
                continue
            for ridge, held_out in out.items():
                coefficient = _solve(xx - near_xx, xy - near_xy, rows - near_rows, ridge)
                held_out[start:end, i] = features[start:end] @ coefficient
    return out


def _mean_square(error: Floats) -> Floats:
    return np.asarray(np.mean(error**2, axis=0)) if error.shape[0] else np.ones(error.shape[1:])


def _compare(line_error: Floats, error: Floats, judged: Bools, event: Ints) -> tuple[Floats, Ints]:
    """(leads,) RMSE over the line's, and in how many floods it is smaller."""
    if not judged.any():
        return np.full(error.shape[1], np.nan), np.zeros(error.shape[1], np.int64)
    of, ours, lines = event[judged], error[judged] ** 2, line_error[judged] ** 2
    won = np.zeros(error.shape[1], np.int64)
    for i in range(error.shape[1]):
        won[i] = int((np.bincount(of, ours[:, i]) < np.bincount(of, lines[:, i])).sum())
    return np.sqrt(ours.mean(axis=0) / np.maximum(lines.mean(axis=0), 1e-18)), won


def _band(stage_m: Floats, error: Floats, leads: list[int], settings: FitSettings) -> tuple[Floats, Floats]:
    """(leads, regimes, 2) quantiles of error over scale, and the (leads,) floor of the scale."""
    regime = _regime(stage_m, settings.rising_m)
    activity = _activity(stage_m)
    quantile, floor = np.zeros((len(leads), 3, 2)), np.zeros(len(leads))
    tail = (1 - settings.band) / 2
    for i, lead in enumerate(leads):
        known = ~np.isnan(error[:, i] + activity)
        steady = known & (regime == 0)
        floor[i] = max(1e-3, float(np.sqrt(np.mean(error[steady, i] ** 2))) if steady.any() else 0.0)
        scaled = error[:, i] / (activity * lead + floor[i])
        for which in range(3):
            rows = known & (regime == which)
            if int(rows.sum()) < _LEAST_ROWS:
                rows = known & (regime > 0)
            if int(rows.sum()) < _LEAST_ROWS:
                rows = known
            if rows.any():
                # The finite-sample ranks of conformal prediction: a little wider than the plain quantiles.
                n = int(rows.sum())
                wide = tail - 1 / n
                quantile[i, which] = np.quantile(scaled[rows], [max(wide, 0.0), min(1 - wide, 1.0)])
            else:
                quantile[i, which] = (-np.inf, np.inf)
    return quantile, floor
