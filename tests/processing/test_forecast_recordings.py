"""The forecast on recorded floods that it has not been trained on. The figures are told in docs/forecast.md."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.forecast import errors
from benchmarks.recorded_floods import Case, cases, rotherham
from processing.forecast import Nowcast
from processing.forecast_fit import FitSettings, fit

CASES = {case.name: case for case in cases()}


def tried(case: Case) -> tuple[Nowcast, np.ndarray, np.ndarray, np.ndarray]:
    """The model; by lead, in flood: RMSE of the model and of the line, and the share of truths in the band."""
    model = fit(case.train, FitSettings(flood_stage_m=case.flood_stage_m, rising_m=case.rising_m))
    made, truth, methods, flood = errors(case, model)
    rows = flood[:, None] & ~np.isnan(methods["model"])
    rmse = [np.sqrt(np.nanmean(np.where(rows, methods[m], np.nan) ** 2, axis=0)) for m in ("model", "line")]
    inside = (made.low_m <= truth) & (truth <= made.high_m)
    return model, rmse[0], rmse[1], (inside & rows).sum(axis=0) / rows.sum(axis=0)


def test_the_records_of_rotherham_and_hadfields_are_laid_side_by_side():
    """The rises of an hour go together as the records stand, and do not if one is moved by a day."""
    for year in (2007, 2019):
        history = rotherham(year)
        own, above = (s[4:] - s[:-4] for s in (history.stage_m, history.upstream_m[0]))
        known = ~np.isnan(own + above)
        assert np.corrcoef(own[known], above[known])[0, 1] > 0.6
        moved = known[96:] & ~np.isnan(above[:-96])
        assert np.corrcoef(own[96:][moved], above[:-96][moved])[0, 1] < 0.2


@pytest.mark.parametrize(("year", "other", "most_at_1_h"), [(2007, 2019, 0.8), (2019, 2007, 0.86)])
def test_with_upstream_the_line_is_beaten_on_an_unseen_flood(year, other, most_at_1_h):
    model, ours, lines, _ = tried(CASES[f"Rotherham with Hadfields upstream, {year} -> {other}"])
    assert model.used.all()
    assert (ours < 0.95 * lines).all()
    assert ours[2] < most_at_1_h * lines[2]
    _, own_stage_only, _, _ = tried(CASES[f"Rotherham, {year} -> {other}"])
    assert ours[2] < own_stage_only[2]


def test_the_flood_of_june_2007_from_the_months_before_it():
    model, ours, lines, _ = tried(CASES["Hadfields, January to 19 June 2007 -> flood of June 2007"])
    assert model.used.tolist() == [False, True, True]
    assert (ours < 0.97 * lines).all()
    assert ours[2] < 0.93 * lines[2]


@pytest.mark.parametrize("name", CASES)
def test_where_it_does_not_win_it_loses_little(name):
    """Also where the gate would not use it; the mixture falls back to the line by itself."""
    _, ours, lines, inside = tried(CASES[name])
    assert (ours < 1.05 * lines).all()
    assert (inside > 0.6).all()


def test_one_flood_is_not_enough_to_use_the_model():
    model, *_ = tried(CASES["Skelton, 2015 -> 2000"])
    assert model.floods == 1
    assert not model.used.any()
