"""Learning a station's forecast from its history, and finding out on held-out floods whether it is to be used."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from processing.forecast import (
    LEADS,
    LINE_STEPS,
    PAST_STEPS,
    History,
    Nowcast,
    activity,
    back,
    bridged,
    features_of,
    mix,
    regime_of,
    scale_of,
    slope_of,
)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

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


def flood_rows(stage_m: Floats, settings: FitSettings) -> Bools:
    """Steps that count as flood when they are issued: high, or rising."""
    rise = stage_m - back(stage_m, LINE_STEPS)
    return (stage_m >= settings.flood_stage_m) | (rise >= settings.rising_m)


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
    stage = bridged(history.stage_m)
    flood = flood_rows(history.stage_m, settings)
    event, edges = _events(flood)
    slope = slope_of(stage)
    truth = np.stack([back(stage, -lead) - stage for lead in leads], axis=1)
    residual = truth - slope[:, None] * np.asarray(leads)

    none = np.empty(0, np.int64)
    upstream, rain = (np.arange(series.shape[0]) for series in (history.upstream_m, history.rain_mm))
    inputs = [(none, none)]
    inputs += [(upstream, none)] if upstream.size else []
    inputs += [(none, rain)] if rain.size else []
    inputs += [(upstream, rain)] if upstream.size and rain.size else []

    best: tuple[float, tuple[Ints, Ints], float, Floats] | None = None
    for chosen in inputs:
        features = features_of(history, *chosen)
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
    mixed = mix(stage, change, prior, list(leads))

    ratio, won = _compare(truth - experts[:, :, 0], truth - mixed, judged, event)
    flood_count = int(event.max(initial=-1)) + 1
    used = (flood_count >= settings.least_floods) & (ratio < 1 - settings.least_gain) & (2 * won > flood_count)
    quantile, floor, typical = _band(stage, mixed, truth - mixed, list(leads), settings)
    features = features_of(history, *chosen)
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
        typical,
        np.array(settings.rising_m),
    )


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
    margin = PAST_STEPS + longest_lead
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


def _band(
    stage_m: Floats, mixed: Floats, error: Floats, leads: list[int], settings: FitSettings
) -> tuple[Floats, Floats, Floats]:
    """(leads, regimes, 2) quantiles of error over scale, and the (leads,) floor and typical square of the scale."""
    regime = regime_of(stage_m, settings.rising_m)
    moves = activity(stage_m)
    quantile, floor, typical = np.zeros((len(leads), 3, 2)), np.zeros(len(leads)), np.zeros(len(leads))
    tail = (1 - settings.band) / 2
    for i, lead in enumerate(leads):
        known = ~np.isnan(error[:, i] + moves)
        steady = known & (regime == 0)
        floor[i] = max(1e-3, float(np.sqrt(np.mean(error[steady, i] ** 2))) if steady.any() else 0.0)
        if known.any():
            typical[i] = np.mean((error[known, i] / (moves[known] * lead + floor[i])) ** 2)
        scaled = error[:, i] / scale_of(stage_m, mixed[:, i], lead, floor[i], typical[i])
        for which in range(3):
            rows = known & (regime == which)
            if int(rows.sum()) < _LEAST_ROWS:
                rows = known & (regime > 0)
            if int(rows.sum()) < _LEAST_ROWS:
                rows = known
            if rows.any():
                # The finite-sample ranks of conformal prediction: a little wider than the plain quantiles.
                wide = tail - 1 / int(rows.sum())
                quantile[i, which] = np.quantile(scaled[rows], [max(wide, 0.0), min(1 - wide, 1.0)])
            else:
                quantile[i, which] = (-np.inf, np.inf)
    return quantile, floor, typical
