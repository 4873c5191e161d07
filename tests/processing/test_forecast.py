from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processing import forecast_fit
from processing.forecast import (
    LEADS,
    STEP_NS,
    Forecast,
    History,
    Nowcast,
    exceedance,
    features_of,
    forecast,
    line,
    on_grid,
    rain_on_grid,
)
from processing.forecast_fit import FitSettings, _compare, _events, _held_out, fit, flood_rows
from processing.indicators.stage import rate_of_rise
from telemetry.observations import NS_PER_S

STEPS = 3000


def flood_waves(rng: np.random.Generator, steps: int = STEPS) -> np.ndarray:
    """Discharge-like waves: now and then a steep rise and a slow fall, above nothing."""
    shape = np.concatenate((np.linspace(0, 1, 9), np.exp(-np.arange(1, 120) / 25)))
    pulses = np.zeros(steps)
    pulses[rng.choice(np.arange(60, steps - 60), steps // 150, replace=False)] = rng.uniform(0.3, 2.0, steps // 150)
    return np.convolve(pulses, shape)[:steps]


def valley(seed: int, steps: int = STEPS) -> History:
    """A gauge that repeats the one upstream 4 steps later, which itself follows the rain of 3 steps before."""
    rng = np.random.default_rng(seed)
    above = flood_waves(rng, steps)
    rise = np.maximum(np.diff(above, prepend=0.0), 0)
    rain = np.concatenate((rise[3:], np.zeros(3))) * 20
    own = np.concatenate((np.zeros(4), above[:-4])) * 0.8 + 1
    return History(
        own + 0.002 * rng.normal(size=steps), above[None] + 0.002 * rng.normal(size=(1, steps)), rain[None].round(1)
    )


@pytest.fixture(scope="module")
def learnt() -> Nowcast:
    return fit(valley(1))


def rmse(stage: np.ndarray, made: np.ndarray, lead: int, rows: np.ndarray) -> float:
    truth = np.full(stage.shape, np.nan)
    truth[:-lead] = stage[lead:]
    return float(np.sqrt(np.nanmean((truth - made)[rows] ** 2)))


def tail(history: History, steps: int) -> History:
    return History(history.stage_m[-steps:], history.upstream_m[:, -steps:], history.rain_mm[:, -steps:])


def test_what_comes_from_upstream_is_foreseen(learnt):
    """The water takes 4 steps from the gauge above, so an hour ahead nothing but noise is unknown."""
    unseen = valley(2)
    made = forecast(learnt, unseen)
    rows = flood_rows(unseen.stage_m, FitSettings())
    assert learnt.used.all()
    assert learnt.upstream.tolist() == [0]
    for i, lead in enumerate(LEADS):
        ours = rmse(unseen.stage_m, made.stage_m[:, i], lead, rows)
        lines = rmse(unseen.stage_m, line(unseen.stage_m)[:, i], lead, rows)
        assert ours < 0.7 * lines
        assert learnt.rmse_ratio[i] == pytest.approx(ours / lines, abs=0.15)  # the gate told what was to come


@settings(max_examples=40, deadline=None)
@given(st.integers(200, 599), st.integers(0, 2**32 - 1))
def test_a_forecast_does_not_know_what_comes_after_it(learnt, at, seed):
    """Whatever is put in place of all data after a step: what was issued up to it stays the same, bit for bit."""
    before = valley(3, 600)
    rng = np.random.default_rng(seed)
    changed = [s.copy() for s in (before.stage_m[None], before.upstream_m, before.rain_mm)]
    for series in changed:
        series[:, at + 1 :] = rng.choice([np.nan, 0.0, 50.0, -3.0, 1.2], series[:, at + 1 :].shape)
    # with a gap right before, which must not be closed with a later value
    holes = rng.random(changed[0][0].shape) < 0.1
    stages = [np.where(holes, np.nan, before.stage_m), np.where(holes, np.nan, changed[0][0])]
    gaps = [np.where(holes, np.nan, before.upstream_m), np.where(holes, np.nan, changed[1])]
    a = forecast(learnt, History(stages[0], gaps[0], before.rain_mm))
    b = forecast(learnt, History(stages[1], gaps[1], changed[2]))
    for name in Forecast.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(a, name)[: at + 1], getattr(b, name)[: at + 1])


def test_a_model_that_is_fitted_knows_nothing_after_its_history():
    whole = valley(4)
    cut = STEPS // 2
    first = History(whole.stage_m[:cut], whole.upstream_m[:, :cut], whole.rain_mm[:, :cut])
    again = History(first.stage_m.copy(), first.upstream_m.copy(), first.rain_mm.copy())
    for name, value in fit(first).to_arrays().items():
        np.testing.assert_array_equal(fit(again).to_arrays()[name], value)


@pytest.mark.parametrize("gap_at", [None, 5, 20])
def test_the_newest_steps_are_enough(learnt, gap_at):
    history = valley(5)
    if gap_at:
        history.stage_m[-gap_at - 3 : -gap_at] = np.nan
        history.upstream_m[0, -gap_at - 2 : -gap_at] = np.nan
    whole, newest = forecast(learnt, history), forecast(learnt, tail(history, learnt.steps_needed))
    for name in Forecast.__dataclass_fields__:
        assert np.isfinite(getattr(newest, name)[-1]).all()
        np.testing.assert_allclose(getattr(newest, name)[-1], getattr(whole, name)[-1], rtol=1e-9)


@pytest.mark.parametrize("least_gain", [0.0, 0.05, 0.3, 0.5])
@pytest.mark.parametrize("least_floods", [3, 30])
def test_the_gate_lets_through_what_it_says(least_gain, least_floods):
    """Own stage only: the gains lie between nothing and a half, and differ by lead."""
    for seed in range(4):
        model = fit(History(valley(seed).stage_m), FitSettings(least_gain=least_gain, least_floods=least_floods))
        enough = model.floods >= least_floods
        won = 2 * model.floods_won > model.floods
        assert model.used.tolist() == [
            enough and w and r < 1 - least_gain for w, r in zip(won, model.rmse_ratio, strict=True)
        ]


def test_few_floods_are_no_reason_to_trust():
    history = valley(1)
    quiet = History(np.where(np.arange(STEPS) < 2800, 1.0, history.stage_m))
    model = fit(quiet)
    assert 0 < model.floods < FitSettings().least_floods
    assert not model.used.any()
    flat = fit(History(np.full(500, 1.0)))
    assert (int(flat.floods), flat.used.any(), np.isnan(flat.rmse_ratio).all()) == (0, False, True)
    assert not fit(history, FitSettings(least_gain=0.99)).used.any()


def test_still_water_is_forecast_to_be_still(learnt):
    still = History(np.full(200, 3.25), np.full((1, 200), 7.0), np.zeros((1, 200)))
    made = forecast(learnt, still)
    np.testing.assert_allclose(made.stage_m[-1], 3.25)
    assert (made.low_m[-1] <= 3.25).all()
    assert (made.high_m[-1] >= 3.25).all()
    assert (made.high_m[-1] - made.low_m[-1] < 0.2).all()


@settings(deadline=None)
@given(st.integers(-50, 50))
def test_a_lifted_datum_lifts_the_forecast_and_nothing_else(learnt, metres):
    history = valley(6, 300)
    lifted = forecast(learnt, replace(history, stage_m=history.stage_m + metres))
    plain = forecast(learnt, history)
    for name in Forecast.__dataclass_fields__:
        np.testing.assert_allclose(getattr(lifted, name), getattr(plain, name) + metres, atol=1e-6)


def test_the_band_holds_what_it_says_on_floods_like_those_of_the_history(learnt):
    unseen = valley(7, 20_000)
    made = forecast(learnt, unseen)
    for i, lead in enumerate(LEADS):
        inside = (made.low_m[:-lead, i] <= unseen.stage_m[lead:]) & (unseen.stage_m[lead:] <= made.high_m[:-lead, i])
        known = ~np.isnan(made.stage_m[:-lead, i])
        moving = known & (np.abs(unseen.stage_m[:-lead] - np.roll(unseen.stage_m, 2)[:-lead]) >= 0.02)
        assert np.mean(inside[known]) == pytest.approx(0.9, abs=0.04)
        assert np.mean(inside[moving]) == pytest.approx(0.9, abs=0.08)


def test_a_missing_reading_is_bridged_and_a_long_gap_is_not(learnt):
    history = valley(8, 300)
    whole = forecast(learnt, history).stage_m
    short = replace(history, stage_m=history.stage_m.copy(), upstream_m=history.upstream_m.copy())
    short.stage_m[250] = np.nan
    short.upstream_m[0, 255] = np.nan
    made = forecast(learnt, short).stage_m
    assert np.isnan(made[250]).all()
    assert np.isfinite(made[251:]).all()
    np.testing.assert_allclose(made[251:], whole[251:], atol=0.1)
    long = replace(history, upstream_m=history.upstream_m.copy())
    long.upstream_m[0, 250:] = np.nan
    made = forecast(learnt, long).stage_m
    assert np.isfinite(made[60:254]).all()
    assert np.isnan(made[254:]).all()


def test_after_a_long_gap_the_forecast_waits_for_its_past(learnt):
    history = valley(8, 300)
    history.stage_m[240:250] = np.nan
    made = forecast(learnt, history).stage_m
    assert np.isfinite(made[60:240]).all()
    assert np.isnan(made[240:266]).all()
    assert np.isfinite(made[266:]).all()


def test_held_out_parts_have_no_say_in_what_forecasts_them():
    """Whatever is put into a part, and next to it as far as the inputs of its rows reach: its correction stays."""
    history = valley(10)
    features = features_of(history, np.array([0]), np.array([0]))
    rng = np.random.default_rng(3)
    target = rng.normal(size=(STEPS, 2))
    _, edges = _events(flood_rows(history.stage_m, FitSettings()))
    assert 2 <= edges.size <= 7
    plain = _held_out(features, target, edges, 4)
    start, end = int(edges[0]), int(edges[1])
    target[start - 20 : end + 20] = 1e6
    for ridge, changed in _held_out(features, target, edges, 4).items():
        np.testing.assert_allclose(changed[start:end], plain[ridge][start:end], rtol=1e-6, atol=1e-8)
        assert not np.allclose(changed[end:], plain[ridge][end:], rtol=1e-6, equal_nan=True)


def test_rain_that_has_nothing_to_do_with_the_river_is_not_taken():
    """Forty gauges of noise and a short history: fitted to the same rows, they would seem to help."""
    history = valley(12, 700)
    rain = np.random.default_rng(5).exponential(1.0, (40, 700))
    model = fit(replace(history, rain_mm=rain, upstream_m=np.empty((0, 0))))
    assert not model.rain.size


def test_most_floods_must_be_won_not_one_large_one(monkeypatch):
    history = History(valley(1).stage_m)
    floods = int(fit(history).floods)
    for won, used in ((floods // 2, False), (floods // 2 + 1, True)):
        answer = np.full(3, 0.5), np.full(3, won)
        monkeypatch.setattr(forecast_fit, "_compare", lambda *_, answer=answer: answer)
        assert fit(history).used.tolist() == [used] * 3


def test_the_band_widens_where_the_forecasts_have_been_off(learnt):
    calm = History(np.full(200, 1.0), np.full((1, 200), 2.0), np.zeros((1, 200)))
    rough = replace(calm, stage_m=calm.stage_m.copy())
    rough.stage_m[170:190] += 0.1 * np.random.default_rng(2).normal(size=20)  # still again for 2 h before the end
    a, b = forecast(learnt, calm), forecast(learnt, rough)
    width = [(made.high_m - made.low_m)[[150, -1]] for made in (a, b)]
    np.testing.assert_allclose(width[0][0], width[1][0])
    assert (width[1][1] > 1.5 * width[0][1]).all()


def test_missing_rain_counts_as_the_mean_of_the_rest(learnt):
    """Of a steady rain half may be missing without any change; more than half, and there is no forecast."""
    n = 120
    steady = History(np.full(n, 1.0), np.full((1, n), 2.0), np.full((1, n), 0.4))
    half = replace(steady, rain_mm=np.where(np.arange(n) % 2 == 0, np.nan, steady.rain_mm))
    most = replace(steady, rain_mm=np.where(np.arange(n) % 4 > 0, np.nan, steady.rain_mm))
    model = replace(
        learnt,
        rain=np.array([0]),
        coefficient=np.ones((3, features_of(steady, learnt.upstream, np.array([0])).shape[1])),
    )
    np.testing.assert_allclose(forecast(model, half).stage_m[60:], forecast(model, steady).stage_m[60:])
    assert np.isnan(forecast(model, most).stage_m).all()


def made_of(*rows: list[float]) -> Forecast:
    stage = np.array(rows)
    return Forecast(stage, stage - 0.2, stage + 0.2)


def test_when_a_threshold_is_reached_by_hand(learnt):
    model = replace(learnt, used=np.array([True, True, True]))  # leads of 1, 2 and 4 steps
    stages = np.array([1.0, 1.0, 3.0, 1.0])
    made = made_of([1.2, 1.6, 2.0], [1.0, 0.9, 0.8], [2.9, 2.8, 2.7], [np.nan] * 3)
    got = exceedance(model, made, stages, np.array([1.1, 1.8, 2.5]))
    # 1.0 -> 1.2 -> 1.6 -> 2.0: 1.1 halfway to the first lead, 1.8 halfway from the second to the third, 2.5 not
    inf, nan = np.inf, np.nan
    np.testing.assert_allclose(got.expected_steps, [[0.5, 3, inf], [inf] * 3, [0, 0, 0], [nan] * 3])
    # upper end 1.4, 1.8, 2.2 and 1.2, 1.1, 1.0; lower end 1.0, 1.4, 1.8
    np.testing.assert_allclose(got.earliest_steps, [[0.25, 2, inf], [0.5, inf, inf], [0, 0, 0], [nan] * 3])
    np.testing.assert_allclose(got.latest_steps, [[1.25, 4, inf], [inf] * 3, [0, 0, 0], [nan] * 3])


def test_leads_that_are_not_to_be_used_say_nothing_about_thresholds(learnt):
    made, stage = made_of([9.0, 1.5, 2.0]), np.array([1.0])
    some = exceedance(replace(learnt, used=np.array([False, True, True])), made, stage, np.array([1.25, 2.0]))
    np.testing.assert_allclose(some.expected_steps, [[1.0, 4.0]])
    none = exceedance(replace(learnt, used=np.zeros(3, bool)), made, stage, np.array([0.5, 1.25]))
    assert np.isnan(none.expected_steps).all()
    with pytest.raises(ValueError, match="made must be of 2 stages and 3 leads"):
        exceedance(learnt, made, np.array([1.0, 2.0]), np.array([1.0]))


def test_ratio_and_floods_won_by_hand():
    line_error = np.array([[3.0], [4.0], [1.0], [9.0], [2.0]])
    error = np.array([[1.0], [2.0], [2.0], [9.0], [1.0]])
    judged = np.array([True, True, True, False, True])
    event = np.array([0, 0, 1, 1, 2])
    # squares: 9 + 16 + 1 + 4 = 30 and 1 + 4 + 4 + 1 = 10; floods 0 and 2 are won
    ratio, won = _compare(line_error, error, judged, event)
    np.testing.assert_allclose(ratio, np.sqrt(10 / 30))
    assert won.tolist() == [2]


def test_a_model_comes_back_from_a_file(learnt):
    file = io.BytesIO()
    np.savez(file, **learnt.to_arrays())
    file.seek(0)
    with np.load(file) as stored:
        again = Nowcast.from_arrays(stored)
    history = valley(9, 300)
    for name in Forecast.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(forecast(again, history), name), getattr(forecast(learnt, history), name))
    with pytest.raises(ValueError, match="needs the fields used, floods"):
        Nowcast.from_arrays({k: v for k, v in learnt.to_arrays().items() if k not in ("used", "floods")})


def test_other_leads_and_inputs():
    history = valley(1)
    model = fit(History(history.stage_m), leads=(2, 8))
    assert (model.leads.tolist(), model.upstream.size, model.rain.size) == ([2, 8], 0, 0)
    assert forecast(model, History(history.stage_m)).stage_m.shape == (STEPS, 2)
    rainy = fit(History(history.stage_m, rain_mm=history.rain_mm))
    assert rainy.rain.tolist() == [0]
    assert rainy.rmse_ratio[2] < fit(History(history.stage_m)).rmse_ratio[2]


def test_the_line_by_hand():
    # slopes of 1.0, 1.1, 1.4: 0.1, 0.3 and 0.2 between the outer two; the median is 0.2 a step
    np.testing.assert_allclose(line(np.array([1.0, 1.1, 1.4]))[-1], [1.6, 1.8, 2.2])
    assert np.isnan(line(np.array([1.0, 1.1]))).all()


def test_the_line_is_that_of_the_rate_of_rise():
    """Second implementation: ``rate_of_rise`` over half an hour, at each step."""
    stage = valley(13, 400).stage_m
    rows = np.arange(2, 400)[:, None] - np.arange(3)
    at = rows * STEP_NS
    rise = rate_of_rise(at, stage[rows], np.ones(at.shape, bool), at[:, 0], span_ns=2 * STEP_NS)
    np.testing.assert_allclose(line(stage)[2:, 2] - stage[2:], rise.m_per_h, atol=1e-9)


def test_what_counts_as_flood():
    stage = np.array([1.0, 1.0, 1.01, 1.03, 1.03, 1.0, 2.5, 2.4, 2.3, np.nan])
    expected = [False, False, False, True, True, False, True, True, False, False]
    assert flood_rows(stage, FitSettings(rising_m=0.02)).tolist() == expected
    expected[8] = True
    assert flood_rows(stage, FitSettings(rising_m=0.02, flood_stage_m=2.2)).tolist() == expected


def test_readings_are_laid_on_the_grid():
    minute = 60 * NS_PER_S
    at, value = np.array([0, 7, 16, 44]) * minute, np.array([1.0, 2.0, np.nan, 4.0])
    grid = np.arange(5) * STEP_NS
    np.testing.assert_array_equal(on_grid(at, value, grid), [1.0, 2.0, np.nan, 4.0, np.nan])
    np.testing.assert_array_equal(on_grid(at, value, grid, oldest_ns=30 * minute), [1.0, 2.0, 2.0, 4.0, 4.0])
    assert np.isnan(on_grid(at[:0], value[:0], grid)).all()
    # 1 mm in each minute from 00:00 to 00:37
    minutes = np.arange(38) * minute
    np.testing.assert_allclose(rain_on_grid(minutes, np.ones(38), grid), [1, 15, 15, 7, 0])
    gone = rain_on_grid(minutes, np.ones(38), grid, oldest_ns=20 * minute)
    np.testing.assert_allclose(gone, [1, 15, 15, 7, np.nan])
    assert np.isnan(rain_on_grid(minutes, np.full(38, np.nan), grid)).all()


@given(
    st.lists(st.tuples(st.integers(0, 200), st.sampled_from([0.0, 0.2, 1.4, np.nan])), unique_by=lambda r: r[0]),
    st.integers(0, 200),
)
def test_the_grid_does_not_know_what_comes_after_it(readings, cut):
    readings.sort()
    at, value = np.array([r[0] for r in readings], np.int64), np.array([r[1] for r in readings], np.float64)
    grid, early = np.arange(0, cut + 1, 10), at <= cut
    for laid in (
        lambda t, v: on_grid(t, v, grid, oldest_ns=15),
        lambda t, v: rain_on_grid(t, v, grid, step_ns=10, oldest_ns=40),
    ):
        np.testing.assert_array_equal(laid(at, value), laid(at[early], value[early]))


def test_wrong_arguments_are_refused(learnt):
    with pytest.raises(ValueError, match=r"upstream_m must be \(gauges, 5\), got \(1, 4\)"):
        History(np.zeros(5), np.zeros((1, 4)))
    with pytest.raises(ValueError, match="stage_m must be"):
        History(np.zeros((5, 1)))
    with pytest.raises(ValueError, match="upstream_m must have at least 1 gauges, got 0"):
        forecast(learnt, History(np.zeros(50)))
    with pytest.raises(ValueError, match="at least 100 steps"):
        fit(History(np.zeros(80)))
    with pytest.raises(ValueError, match=r"leads must be positive steps, got \(0, 1\)"):
        fit(valley(1), leads=(0, 1))
    for wrong in (
        {"rising_m": 0.0},
        {"flood_stage_m": np.nan},
        {"least_gain": 1.0},
        {"least_floods": 1},
        {"band": 1.0},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            FitSettings(**wrong)


def test_an_empty_history_gives_no_forecasts(learnt):
    made = forecast(learnt, History(np.empty(0), np.empty((1, 0)), np.empty((1, 0))))
    assert made.stage_m.shape == (0, 3)
