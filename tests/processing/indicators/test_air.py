"""ISPU, US AQI and NowCast against the published tables, hand arithmetic, laws, and a recorded year's fortnight."""

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processing.indicators import air

MARYLEBONE = Path(__file__).parent / "data" / "marylebone_2015_06_25_to_07_08.csv"

# Permen LHK P.14/2020, annex: the table's corners.
CORNERS = [
    ("pm10_ug_m3", [50, 150, 350, 420]),
    ("pm2_5_ug_m3", [15.5, 55.4, 150.4, 250.4]),
    ("so2_ug_m3", [52, 180, 400, 800]),
    ("co_ug_m3", [4000, 8000, 15000, 30000]),
    ("o3_ug_m3", [120, 235, 400, 800]),
    ("no2_ug_m3", [80, 200, 1130, 2260]),
    ("hc_ug_m3", [45, 100, 215, 432]),
]


@pytest.mark.parametrize(("pollutant", "concentrations"), CORNERS)
def test_corners_of_the_table_have_its_indices(pollutant, concentrations):
    assert air.ispu(pollutant, np.array(concentrations, float)) == pytest.approx([50, 100, 200, 300])
    assert air.ispu(pollutant, np.array([0.0, -3.0])).tolist() == [0, 0]


def test_between_corners_by_hand():
    # NO2 100: (100 - 50) / (200 - 80) * (100 - 80) + 50 = 58.33; PM10 50.5 is just above 50, no gap: 50.25
    assert air.ispu("no2_ug_m3", np.array([100.0])) == pytest.approx([58.3333333])
    assert air.ispu("pm10_ug_m3", np.array([50.5])) == pytest.approx([50.25])


def test_last_anchor_can_be_chosen():
    assert air.ispu("pm10_ug_m3", np.array([500.0])) == pytest.approx([500])
    assert air.ispu("pm10_ug_m3", np.array([500.0]), air.IspuSettings(last_anchor=400)) == pytest.approx([400])
    # beyond the table the last line goes on: 300..500 over 80 ug/m3
    assert air.ispu("pm10_ug_m3", np.array([540.0])) == pytest.approx([600])


@settings(deadline=None)
@given(
    st.sampled_from(air.ISPU_POLLUTANTS),
    st.floats(0, 1e5),
    st.floats(0, 1e5),
    st.sampled_from([400.0, 500.0]),
)
def test_more_pollution_never_has_a_lower_index(pollutant, a, b, anchor):
    low, high = sorted((a, b))
    index = air.ispu(pollutant, np.array([low, high]), air.IspuSettings(last_anchor=anchor))
    assert index[0] <= index[1]
    assert (air.ispu_category(index) >= 0).all()


def test_the_rolling_mean_needs_three_quarters_of_the_hours():
    hourly = np.full((2, 30), 40.0)
    hourly[1, 10:17] = np.nan  # 7 of 24 hours: 17 are left
    hourly[0, 10:16] = np.nan  # 6 of 24: 18 are left
    mean = air.rolling_mean(hourly, 24, 0.75)
    assert np.isnan(mean[:, :17]).all()
    assert mean[0, 23] == 40
    assert np.isnan(mean[1, 23])


@settings(deadline=None)
@given(st.lists(st.integers(0, 500) | st.none(), min_size=1, max_size=60), st.integers(1, 24))
def test_the_rolling_mean_is_the_mean_of_each_hours_window(values, hours):
    hourly = np.array([[np.nan if v is None else float(v) for v in values]])
    mean = air.rolling_mean(hourly, hours, 0.5)
    for i in range(len(values)):
        window = [v for v in values[max(0, i - hours + 1) : i + 1] if v is not None]
        if len(window) >= hours / 2:
            assert mean[0, i] == pytest.approx(sum(window) / len(window))
        else:
            assert np.isnan(mean[0, i])


def test_the_worst_pollutant_is_the_dominant_one():
    steady = {
        "pm10_ug_m3": np.full((2, 24), 50.0),  # 50
        "pm2_5_ug_m3": np.array([[55.4] * 24, [np.nan] * 24]),  # 100, none
    }
    result = air.ispu_of_hours(steady)
    assert result.index[:, -1] == pytest.approx([100, 50])
    assert [air.ISPU_POLLUTANTS[i] for i in result.dominant[:, -1]] == ["pm2_5_ug_m3", "pm10_ug_m3"]
    assert result.category[:, -1].tolist() == [1, 0]
    assert result.pollutants[:, -1].tolist() == [2, 1]
    assert (result.dominant[:, 0] == air.NO_POLLUTANT).all()
    assert (result.category[:, 0] == -1).all()


def test_settings_and_names_are_checked():
    with pytest.raises(ValueError, match="last_anchor must be above 300"):
        air.IspuSettings(last_anchor=300)
    with pytest.raises(ValueError, match="completeness"):
        air.IspuSettings(completeness=0)
    with pytest.raises(ValueError, match="hours"):
        air.IspuSettings(hours=0)
    with pytest.raises(ValueError, match="pollutant must be one of"):
        air.ispu("nox_ug_m3", np.zeros(1))
    with pytest.raises(ValueError, match="one shape"):
        air.ispu_of_hours({"pm10_ug_m3": np.zeros((1, 2)), "no2_ug_m3": np.zeros((1, 3))})
    with pytest.raises(ValueError, match="must be one of"):
        air.us_aqi("o3_ug_m3", np.zeros(1))


# 40 CFR 58 app. G as of May 2024: ends of each band.
@pytest.mark.parametrize(
    ("pollutant", "concentration", "index"),
    [
        ("pm2_5_ug_m3", 0.0, 0),
        ("pm2_5_ug_m3", 9.0, 50),
        ("pm2_5_ug_m3", 9.1, 51),
        ("pm2_5_ug_m3", 9.19, 51),  # cut to 9.1
        ("pm2_5_ug_m3", 55.4, 150),
        ("pm2_5_ug_m3", 55.5, 151),
        ("pm2_5_ug_m3", 125.4, 200),
        ("pm2_5_ug_m3", 225.4, 300),
        ("pm2_5_ug_m3", 325.4, 500),
        # 20.0: (100 - 51) / (35.4 - 9.1) * (20 - 9.1) + 51 = 71.3
        ("pm2_5_ug_m3", 20.0, 71),
        ("pm10_ug_m3", 54.9, 50),
        ("pm10_ug_m3", 154, 100),
        ("pm10_ug_m3", 604, 500),
    ],
)
def test_us_aqi_of_published_bands(pollutant, concentration, index):
    assert air.us_aqi(pollutant, np.array([concentration]))[0] == index


def test_us_aqi_of_nothing():
    index = air.us_aqi("pm2_5_ug_m3", np.array([np.nan, 1e4]))
    assert np.isnan(index[0])
    assert index[1] > 500
    assert air.us_aqi_category(index).tolist() == [-1, 5]


def nowcast_by_plain_rules(values):
    """Second implementation, hour by hour, newest first."""
    newest_first = values[::-1][:12]
    if sum(v is not None for v in newest_first[:3]) < 2:
        return None
    known = [v for v in newest_first if v is not None]
    if max(known) == 0:
        return 0.0
    w = max(0.5, min(known) / max(known))
    up = sum(w**i * v for i, v in enumerate(newest_first) if v is not None)
    return up / sum(w**i for i, v in enumerate(newest_first) if v is not None)


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 300) | st.none(), min_size=20, max_size=20), min_size=1, max_size=4))
def test_nowcast_agrees_with_plain_rules(rows):
    hourly = np.array([[np.nan if v is None else float(v) for v in row] for row in rows])
    result = air.nowcast_particles(hourly, decimals=None)
    for r, row in enumerate(rows):
        for hour in range(20):
            expected = nowcast_by_plain_rules(row[: hour + 1])
            if expected is None:
                assert np.isnan(result[r, hour])
            else:
                assert result[r, hour] == pytest.approx(expected)


def test_nowcast_of_steady_air_is_that_air_and_is_cut_not_rounded():
    assert air.nowcast_particles(np.full((1, 12), 12.34))[0, -1] == 12.3
    assert air.nowcast_particles(np.full((1, 12), 12.39))[0, -1] == 12.3
    assert air.nowcast_particles(np.full((1, 12), 12.3))[0, -1] == 12.3
    assert air.nowcast_particles(np.empty((0, 5))).shape == (0, 5)
    assert air.nowcast_particles(np.empty((3, 0))).shape == (3, 0)


def test_ozone_surrogate_takes_the_newest_of_three_hours():
    got = air.nowcast_ozone_surrogate(np.array([[40.0, 60.0, np.nan]]))
    assert got[0] == pytest.approx([38.5, 55.5, 55.5])


def test_ispu_of_the_recorded_hot_spell():
    with MARYLEBONE.open() as lines:
        rows = list(csv.DictReader(lines))
    no2 = np.array([[float(r["no2"]) if r["no2"] else np.nan for r in rows]])
    assert np.nanmax(no2) == pytest.approx(290.41695, abs=1e-3)  # truth.json: the year's maximum, 1 July 16:00
    result = air.ispu_of_hours({"no2_ug_m3": no2})
    # The mean of 24 hours by plain Python, and by hand on the line of 80..200 ug/m3.
    for hour in (30, 100, 200):
        window = [v for v in no2[0, hour - 23 : hour + 1].tolist() if v == v]
        mean = sum(window) / len(window)
        expected = 50 * mean / 80 if mean <= 80 else 50 + 50 / 120 * (mean - 80)
        assert len(window) >= 18
        assert result.index[0, hour] == pytest.approx(expected)
    assert result.category.max() == 1
