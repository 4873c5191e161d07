"""Noise: worked examples by hand, the two schedules, and sums that are added."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processing.indicators import noise
from processing.indicators.noise import EU_2002_49, KEPMENLH_48_1996

HOUR = 3600 * 10**9
DAY = 24 * HOUR


def test_four_measurements_of_a_day_and_three_of_a_night():
    # Levels of a student's worksheet (id.scribd.com/document/477011698; its own sums are wrong: LM 169 dB). By hand:
    # LS: (3*10^8.06 + 5*10^7.62 + 3*10^8.06 + 5*10^7.37) / 16 = 6.3388e7 -> 78.02 dB
    # LM: (2*10^6.97 + 3*10^4.55 + 3*10^3.84) / 8 = 2.3490e6 -> 63.71 dB
    # LSM: (16*6.3388e7 + 8*2.3490e6*3.1623) / 24 = 4.4735e7 -> 76.51 dB
    ls = noise.ls_of_samples(np.array([80.6, 76.2, 80.6, 73.7]))
    lm = noise.lm_of_samples(np.array([69.7, 45.5, 38.4]))
    assert ls == pytest.approx(78.02, abs=0.01)
    assert lm == pytest.approx(63.71, abs=0.01)
    assert noise.day_level_db(np.array([ls, lm]), KEPMENLH_48_1996) == pytest.approx(76.51, abs=0.01)
    assert np.isnan(noise.ls_of_samples(np.array([80.6, np.nan, 80.6, 73.7])))
    with pytest.raises(ValueError, match="expected 4 levels"):
        noise.ls_of_samples(np.zeros(3))


def test_lden_by_hand():
    # 12 h at 60, 4 h at 57 + 5, 8 h at 50 + 10: (12e6 + 4*10^6.2 + 8e6) / 24 = 1.0975e6 -> 60.404
    assert noise.day_level_db(np.array([60.0, 57.0, 50.0]), EU_2002_49) == pytest.approx(60.404, abs=1e-3)
    assert np.isnan(noise.day_level_db(np.array([60.0, np.nan, 50.0]), EU_2002_49))


@pytest.mark.parametrize(
    ("local", "day", "period"),
    [
        ("2026-03-10T06:00", "2026-03-10", 0),
        ("2026-03-10T21:59", "2026-03-10", 0),
        ("2026-03-10T22:00", "2026-03-10", 1),
        ("2026-03-11T05:59", "2026-03-10", 1),
        ("2026-03-11T06:00", "2026-03-11", 0),
    ],
)
@pytest.mark.parametrize("offset_h", [7, 8, 5.5, -3])
def test_a_night_belongs_to_the_day_on_which_it_begins(local, day, period, offset_h):
    at = np.array([local], "datetime64[ns]").astype(np.int64) - round(offset_h * HOUR)
    days, periods = noise.period_of(at, offset_h, KEPMENLH_48_1996)
    assert days[0] == np.datetime64(day).astype("datetime64[D]").astype(int)
    assert periods[0] == period


def test_levels_of_local_days_in_bandung():
    # 2 days of 10-minute readings from 06:00 WIB: 65 dB by day, 55 dB by night, on datastream 1.
    begin = np.datetime64("2026-03-10T06:00", "ns").astype(np.int64) - 7 * HOUR
    at = begin + np.arange(2 * 144) * HOUR // 6
    hour = np.arange(2 * 144) // 6 % 24
    level = np.where(hour < 16, 65.0, 55.0)
    level[144 + 40 : 144 + 70] = np.nan  # 30 of 96 readings of the second day: under three quarters are left
    first = int(np.datetime64("2026-03-10").astype(int))
    sums = noise.day_sums(
        np.ones(at.size, int),
        at,
        level,
        datastreams=2,
        first_day=first,
        days=3,
        utc_offset_h=7,
        schedule=KEPMENLH_48_1996,
    )
    levels = noise.day_levels(sums, KEPMENLH_48_1996, readings_per_h=6)
    assert levels.period_db[1, 0] == pytest.approx([65, 55])
    # (16*10^6.5 + 8*10^6) / 24 = 2.4415e6 -> 63.877
    assert levels.day_db[1, 0] == pytest.approx(63.877, abs=1e-3)
    assert np.isnan(levels.period_db[1, 1, 0])
    assert levels.period_db[1, 1, 1] == pytest.approx(55)
    assert np.isnan(levels.day_db[[1, 1, 0], [1, 2, 0]]).all()
    codes = noise.compare_with_limit(levels.day_db[1], noise.KEPMENLH_LIMITS_DB["housing"])
    assert codes.tolist() == [noise.EXCEEDED, noise.UNKNOWN_LEVEL, noise.UNKNOWN_LEVEL]


def test_the_limit_and_the_tolerance_themselves_are_kept():
    codes = noise.compare_with_limit(np.array([55.0, 58.0]), np.array([55.0, 55.0]), tolerance_db=3)
    assert codes.tolist() == [noise.WITHIN, noise.TOLERATED]


ROWS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 3 * 24 * 60), st.floats(0, 160) | st.just(float("nan"))), max_size=80
)


def sums_of(rows, schedule=EU_2002_49):
    stream, minute, level = (np.array(c) for c in zip(*rows, strict=True)) if rows else (np.empty(0),) * 3
    return noise.day_sums(
        stream.astype(int),
        minute.astype(np.int64) * 60 * 10**9,
        level.astype(float),
        datastreams=3,
        first_day=0,
        days=4,
        utc_offset_h=7,
        schedule=schedule,
    )


@settings(deadline=None)
@given(ROWS, st.randoms(use_true_random=False), st.integers(0, 80))
def test_parts_in_any_order_make_the_whole(rows, random, cut):
    whole = sums_of(rows)
    shuffled = rows.copy()
    random.shuffle(shuffled)
    merged = sums_of(shuffled[:cut]) + sums_of(shuffled[cut:])
    for name in ("coarse", "fine", "count"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(merged, name))


@settings(deadline=None)
@given(st.lists(st.floats(20, 120), min_size=2, max_size=2), st.floats(0, 30))
def test_louder_periods_never_make_a_quieter_day(levels, more):
    low = noise.day_level_db(np.array(levels), KEPMENLH_48_1996)
    for i in range(2):
        louder = np.array(levels)
        louder[i] += more
        assert noise.day_level_db(louder, KEPMENLH_48_1996) >= low - 1e-9
    assert low <= max(levels[0], levels[1] + 5) + 1e-9


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="24 hours together"):
        noise.DaySchedule(6, (noise.Period("LS", 16, 0),))
    with pytest.raises(ValueError, match="begins_local_h"):
        noise.DaySchedule(24, KEPMENLH_48_1996.periods)
    with pytest.raises(ValueError, match="expected 2 periods"):
        noise.day_level_db(np.zeros(3), KEPMENLH_48_1996)
    with pytest.raises(ValueError, match="readings_per_h"):
        noise.day_levels(sums_of([]), EU_2002_49, readings_per_h=0)
    with pytest.raises(ValueError, match="cannot be added"):
        sums_of([]) + sums_of([], KEPMENLH_48_1996)
