"""Rain intensity against hand arithmetic: T0 is a whole minute, times are seconds after it."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.operator.live import LiveCity
from dashboards.operator.rain import RainGauges, rain_class
from telemetry.directory import Datastream
from telemetry.observations import Observations
from telemetry.quality import FAIL, MISSING, SUSPECT
from telemetry.results import Transitions
from tests.dashboards.operator.operator_city import LEVEL, RAIN, T0, S, readings, small_city

SECOND = 4
MORE = (Datastream("dago.rain", "dago", "loop-1", "rain_mm"),)
"""A second gauge. Both devices count as silent after 600 s."""


def gauges(*parts: Observations) -> RainGauges:
    found = RainGauges()
    found.set_directory(small_city(more=MORE))
    for part in parts:
        found.put(part)
    return found


def now_of(rain: RainGauges, now_s: float, stream: int = RAIN) -> tuple[float | None, float | None, int]:
    """(10 minutes, 60 minutes, class) of one gauge."""
    told = rain.known(T0 + round(now_s * S))
    assert told is not None
    if stream not in told["stream"]:
        return None, None, 0
    at = told["stream"].index(stream)
    values = [None if np.isnan(told[k][at]) else told[k][at] for k in ("mm_h_10min", "mm_h_60min")]
    return values[0], values[1], told["class"][at]


def minutes(first: int, last: int) -> list[float]:
    return [60.0 * m for m in range(first, last + 1)]


def test_a_gauge_by_the_minute() -> None:
    # An hour dry, then ten minutes with 0.7 mm each: 7 mm in 10 min = 42 mm/h, and 7 mm in the hour.
    rain = gauges(readings(RAIN, minutes(0, 60), 0.0), readings(RAIN, minutes(61, 70), 0.7))
    assert now_of(rain, 4200) == (42.0, 7.0, 4)


def test_rain_arrives_and_leaves() -> None:
    rain = gauges(readings(RAIN, minutes(0, 10), 0.0))
    assert now_of(rain, 600) == (0.0, None, 0)  # ten minutes are no half of an hour
    rain.put(readings(RAIN, minutes(11, 11), 0.2))
    assert now_of(rain, 660) == (1.2, None, 1)  # 0.2 mm in 10 min
    rain.put(readings(RAIN, minutes(12, 21), 0.0))
    assert now_of(rain, 1260)[0] == 0.0


def test_irregular_intervals_are_each_spread_over_their_own_time() -> None:
    # At 0 unknown; (0, 240] 2 mm, (240, 270] 1 mm, (270, 870] 3 mm. The last 600 s hold just the
    # last of these: 3 mm in 10 min = 18 mm/h.
    # All: 6 mm in 870 s, but only 14.5 minutes of the hour are known: nothing is said of it.
    rain = gauges(readings(RAIN, [0, 240, 270, 870], [5.0, 2.0, 1.0, 3.0]))
    assert now_of(rain, 870) == (18.0, None, 3)
    # (870, 1110] 1 mm. Window (510, 1110]: 360 s of the 600 s with 3 mm are 1.8 mm, and 1 mm: 2.8 mm = 16.8 mm/h.
    rain.put(readings(RAIN, 1110, 1.0))
    assert now_of(rain, 1110)[0] == 16.8


def test_a_quarter_hour_gauge_is_no_cloudburst() -> None:
    # 2 mm in 15 min are 8 mm/h in each of its minutes, not 12 mm/h in the last ten. silence_after_s is 600 s in the
    # small city: here the gauge is allowed an hour.
    city = small_city()
    slow = RainGauges()
    device = city.devices[0]
    patient = type(device)(device.id, device.site, device.model, 3600.0)
    slow.set_directory(
        type(city)(2, city.city, city.utc_offset_h, city.sites, (patient, *city.devices[1:]), city.datastreams)
    )
    slow.put(readings(RAIN, [0, 900, 1800], [0.0, 2.0, 2.0]))
    told = slow.known(T0 + 1800 * S)
    assert told is not None
    assert (told["mm_h_10min"], told["mm_h_60min"], told["class"]) == ([8.0], [8.0], [2])
    # Valid until the next reading is ten minutes overdue: 1800 + 900 + 600.
    assert slow.known(T0 + 3300 * S) == told
    gone = slow.known(T0 + 3301 * S)
    assert gone is not None and gone["stream"] == []


def test_depth_after_a_gap_is_not_counted() -> None:
    # Silent from 600 to 2400 (over 600 s): the 9 mm may be of one minute or of thirty. Three minutes later too little
    # is known; after five: 5 × 0.1 mm in 5 min = 6 mm/h. The hour then knows 10 + 5 minutes: still nothing.
    rain = gauges(readings(RAIN, minutes(0, 10), 0.1), readings(RAIN, 2400, 9.0))
    assert now_of(rain, 2400) == (None, None, 0)
    rain.put(readings(RAIN, minutes(41, 43), 0.1))
    assert now_of(rain, 2580)[0] is None
    rain.put(readings(RAIN, minutes(44, 45), 0.1))
    assert now_of(rain, 2700) == (6.0, None, 2)
    # What comes late fills the gap: (600, 2400] by the minute with 0.1 mm; the 9 mm are of the last minute.
    rain.put(readings(RAIN, minutes(11, 39), 0.1))
    # Window (2100, 2700]: 4 × 0.1 + 9 + 5 × 0.1 = 9.9 mm = 59.4 mm/h; all 45 min: 44 × 0.1 + 9 = 13.4 mm = 17.9 mm/h.
    assert now_of(rain, 2700) == (59.4, 17.9, 4)


def test_a_silent_gauge_says_nothing() -> None:
    rain = gauges(readings(RAIN, minutes(0, 10), 1.0))
    assert now_of(rain, 600 + 60 + 600) == (60.0, None, 4)
    assert now_of(rain, 600 + 60 + 601) == (None, None, 0)


def test_a_restart_knows_no_rain_before_it_has_seen_some() -> None:
    live = LiveCity()
    live.set_directory(small_city())
    live.set_clock("broker", T0 + 60 * S, 60.0)
    live.restore(readings(RAIN, 60, 30.0), Transitions.empty())
    assert json.loads(live.state_frame())["rain"]["stream"] == []
    live.observe(readings(RAIN, 60, 30.0))  # read again from the journal: not counted twice
    live.observe(readings(RAIN, [120, 180, 240, 300], 0.5))
    assert json.loads(live.state_frame())["rain"]["stream"] == []  # four minutes
    live.observe(readings(RAIN, 360, 0.5))
    told = json.loads(live.state_frame())["rain"]
    # 5 × 0.5 mm in 5 min = 30 mm/h; the 30 mm of before are of an unknown time.
    assert told == {"stream": [RAIN], "mm_h_10min": [30.0], "mm_h_60min": [None], "class": [4]}


def test_frames_tell_rain_only_when_it_changes() -> None:
    live = LiveCity()
    live.set_directory(small_city(more=MORE))

    def told(at_s: float) -> Any:
        live.set_clock("broker", T0 + round(at_s * S), 60.0)
        frame = live.delta_frame()
        return None if frame is None else json.loads(frame).get("rain")

    live.observe(readings(RAIN, minutes(0, 10), 0.0))
    live.observe(readings(SECOND, minutes(0, 10), 0.1))
    # Both in one batch: 0.1 mm a minute is 6 mm/h.
    assert told(600) == {
        "stream": [RAIN, SECOND],
        "mm_h_10min": [0.0, 6.0],
        "mm_h_60min": [None, None],
        "class": [0, 2],
    }
    live.observe(readings(RAIN, 660, 0.0))
    live.observe(readings(SECOND, 660, 0.1))
    assert told(660) is None  # new readings, the same rain
    live.observe(readings(SECOND, 720, 0.2))
    assert told(720)["stream"] == [SECOND]
    assert told(720) is None
    # Time alone ends what is known: 660 + 60 + 600, 720 + 60 + 600.
    assert told(1330) == {"stream": [RAIN], "mm_h_10min": [None], "mm_h_60min": [None], "class": [0]}
    assert told(1390)["stream"] == [SECOND]
    assert live.delta_frame() is None


def test_a_new_directory_keeps_what_is_known() -> None:
    rain = RainGauges()
    rain.set_directory(small_city())
    rain.put(readings(RAIN, minutes(0, 10), 0.1))
    rain.set_directory(small_city(2, MORE))
    rain.put(readings(SECOND, minutes(0, 10), 0.2))
    assert now_of(rain, 600)[0] == 6.0
    assert now_of(rain, 600, SECOND)[0] == 12.0


def test_a_city_without_gauges_has_no_rain() -> None:
    rain = RainGauges()
    assert rain.known(T0) is None and rain.changed(T0) is None
    assert gauges(readings(LEVEL, [0, 60], 1.0)).known(T0) is not None


def test_unusable_depths_are_left_out_and_doubtful_ones_count() -> None:
    rain = gauges(
        readings(RAIN, minutes(0, 8), 0.1),
        readings(RAIN, 540, 50.0, flag=FAIL),
        readings(RAIN, 545, np.nan, flag=MISSING),
        readings(RAIN, 550, -1.0),
        readings(RAIN, 600, 0.2, flag=SUSPECT),
    )
    # 0.2 mm in the last two minutes, 8 × 0.1 mm before: 1 mm in 10 min.
    assert now_of(rain, 600)[0] == 6.0


def test_readings_each_second() -> None:
    # 0.01 mm/s is 36 mm/h, in whatever second the minute began.
    rain = gauges(readings(RAIN, np.arange(17, 17 + 3600).astype(float).tolist(), 0.01))
    assert now_of(rain, 3616)[:2] == (36.0, 36.0)


@pytest.mark.parametrize(("mm_h", "expected"), [(0.9, 0), (1, 1), (5, 1), (5.1, 2), (10, 2), (20, 3), (20.1, 4)])
def test_classes(mm_h: float, expected: int) -> None:
    # ringan 1–5, sedang 5–10, lebat 10–20, sangat lebat > 20 mm/h
    assert rain_class(mm_h) == expected


def plain(rows: list[tuple[int, int]], window_s: int) -> float | None:
    """The definition, reading by reading; depths in 0.1 mm."""
    rows = sorted(rows)
    newest = rows[-1][0]
    fell, covered = 0.0, 0.0
    for (before, _), (at, depth) in pairwise(rows):
        inside = at - max(before, newest - window_s)
        if at - before <= 600 and inside > 0:
            fell += depth / 10 * inside / (at - before)
            covered += inside
    return fell / covered * 3600 if covered * 2 >= window_s else None


@given(st.dictionaries(st.integers(0, 110), st.integers(0, 30), min_size=2, max_size=60), st.data())
def test_cutting_and_order_do_not_matter(by_minute: dict[int, int], data: st.DataObject) -> None:
    rows = [(60 * m + m % 60, depth) for m, depth in by_minute.items()]
    rain = gauges()
    left = data.draw(st.permutations(rows))
    while left:
        n = data.draw(st.integers(1, len(left)))
        part, left = left[:n], left[n:]
        rain.put(readings(RAIN, [float(t) for t, _ in part], [d / 10 for _, d in part]))
        rain.known(0)
    found = now_of(rain, max(t for t, _ in rows))
    for value, window_s in zip(found[:2], (600, 3600), strict=True):
        expected = plain(rows, window_s)
        assert (value is None) == (expected is None)
        assert expected is None or value is None or abs(value - expected) <= 0.0501
