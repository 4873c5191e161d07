"""The ozone NowCast against a plain least-squares fit of each station, its decisions, and what it is worth."""

import numpy as np
import pytest

from processing.indicators.ozone import HOURS, WINDOW, nowcast_ozone


def summer(hours, seed):
    """Ozone that rises every day to another height, with 2 ppb of noise."""
    rng = np.random.default_rng(seed)
    hour = np.arange(hours)
    peak = np.repeat(rng.uniform(20, 60, hours // 24 + 1), 24)[:hours]
    return np.maximum(
        5 + peak * np.clip(np.sin((hour % 24 - 8) / 24 * 2 * np.pi), 0, None) + rng.normal(0, 2, hours), 0
    )


def by_plain_fit(values):
    """Second implementation for one station without gaps."""
    rows, means = [], []
    for t in range(WINDOW - 1, HOURS - 3):
        rows.append([1.0, *values[t - WINDOW + 1 : t + 1]])
        means.append(np.mean(values[t - 4 : t + 4]))
    fit, *_ = np.linalg.lstsq(np.array(rows), np.array(means), rcond=None)
    return float(fit @ [1.0, *values[-WINDOW:]])


def test_agrees_with_a_plain_fit_of_each_station():
    hourly = np.array([summer(HOURS, seed) for seed in range(3)])
    assert nowcast_ozone(hourly) == pytest.approx([max(by_plain_fit(v), 0.0) for v in hourly], abs=1e-6)


def test_is_nearer_to_the_mean_around_now_than_the_surrogate():
    air = summer(HOURS + 64, 7)
    ends = np.arange(HOURS, HOURS + 60)
    got = nowcast_ozone(np.array([air[e - HOURS : e] for e in ends]))
    truth = np.array([air[e - 5 : e + 3].mean() for e in ends])
    surrogate = 0.85 * air[ends - 1] + 4.5
    assert np.sqrt(np.mean((got - truth) ** 2)) < 0.6 * np.sqrt(np.mean((surrogate - truth) ** 2))


def test_what_decides_between_the_methods():
    hourly = np.array([summer(HOURS, 1)] * 6)
    hourly[1, 10:18] = np.nan  # 8 hours in a row
    hourly[2, : HOURS - WINDOW] = np.nan
    hourly[3] = 0.0
    hourly[4, -1] = np.nan
    hourly[5] = np.nan
    got = nowcast_ozone(hourly)
    surrogate = 0.85 * hourly[0, -1] + 4.5
    assert got[0] != pytest.approx(surrogate)
    assert got[1:4] == pytest.approx([surrogate, surrogate, 0.0])
    assert np.isnan(got[4:]).all()


def test_short_gaps_are_filled_and_change_little():
    whole = summer(HOURS, 3)
    gaps = whole.copy()
    gaps[[0, 40, 41, 42, 43, 44, 45, 46, 200]] = np.nan
    got = nowcast_ozone(np.array([whole, gaps]))
    assert abs(got[0] - got[1]) < 5
    assert got[0] != got[1]


def test_constant_air_stays():
    assert nowcast_ozone(np.full((2, HOURS), 31.0)) == pytest.approx([31.0, 31.0])
    assert nowcast_ozone(np.empty((0, HOURS))).shape == (0,)


def test_two_weeks_are_needed():
    with pytest.raises(ValueError, match="336"):
        nowcast_ozone(np.zeros((1, 24)))
