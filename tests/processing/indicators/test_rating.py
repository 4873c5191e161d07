from __future__ import annotations

import csv
import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing.indicators.rating import RatingCurve, Ratings, Segment

DON = Path(__file__).parents[3] / "simulators/recordings/don_hadfields_2007"
# River Don at Sheffield Hadfields, published with the June 2007 flood (truth.json)
HADFIELDS = RatingCurve(
    (
        Segment(0.39, 77.2829, 0.3077, 1.3803),
        Segment(0.927, 79.5656, 0.34, 1.2967),
        Segment(1.436, 41.3367, -0.5767, 1.1066),
    ),
    to_stage_m=3.58,
)
WEIR = RatingCurve((Segment(1.0, 4.0, 0.5, 2.0),), to_stage_m=2.5)
BOTH = Ratings.of([WEIR, HADFIELDS])


def column(name: str) -> dict[str, float]:
    with gzip.open(DON / name, "rt", encoding="latin-1") as file:
        rows = [r for r in csv.reader(file) if len(r) > 2 and r[0][2:3] == "/"]
    return {r[0]: float(r[1]) for r in rows if r[1] not in ("", "---")}


def test_the_agencys_own_discharges_of_a_flood_year():
    """Beside the discharge the agency computed from the same stages, half of them within 0.5 %."""
    stages, flows = column("stage_15min.csv.gz"), column("flow_15min.csv.gz")
    times = [t for t in stages if t in flows and t[3:5] == "06" and stages[t] >= 0.39]
    stage, flow = (np.array([c[t] for t in times]) for c in (stages, flows))
    ours = BOTH.discharge_m3_s(np.ones(len(times), np.int64), stage, extrapolate=True)
    assert len(times) > 1500
    assert np.median(np.abs(ours / flow - 1)) < 0.005
    assert ours.max() == pytest.approx(259.0, abs=0.5)  # published peak: 4.675 m, 259 m3/s
    threshold = BOTH.discharge_m3_s(np.array([1]), np.array([2.9]))
    assert threshold[0] == pytest.approx(164.1, abs=0.1)  # published flow at 2.9 m


def test_by_hand_and_outside_the_gauged_stages():
    curve = np.zeros(5, np.int64)
    stage = np.array([0.4, 0.75, 1.5, 2.5, 3.5])
    # 4 (H - 0.5)^2: no flow, 0.25, 4, 16, 36
    np.testing.assert_allclose(BOTH.discharge_m3_s(curve, stage), [0, np.nan, 4, 16, np.nan])
    np.testing.assert_allclose(BOTH.discharge_m3_s(curve, stage, extrapolate=True), [0, 0.25, 4, 16, 36])
    flow = np.array([0.0, 0.25, 4.0, 16.0, 36.0])
    np.testing.assert_allclose(BOTH.stage_m(curve, flow), [0.5, np.nan, 1.5, 2.5, np.nan])
    np.testing.assert_allclose(BOTH.stage_m(curve, flow, extrapolate=True), [0.5, 0.75, 1.5, 2.5, 3.5])
    assert np.isnan(BOTH.stage_m(np.zeros(2, np.int64), np.array([-1.0, np.nan]), extrapolate=True)).all()
    assert np.isnan(BOTH.discharge_m3_s(np.array([1]), np.array([np.nan]))).all()


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 3000)), min_size=1, max_size=30))
def test_the_inverse_comes_back(rows):
    curve = np.array([c for c, _ in rows], np.int64)
    stage = np.array([(1.0 if c == 0 else 0.39) + mm / 1000 for c, mm in rows])
    back = BOTH.stage_m(curve, BOTH.discharge_m3_s(curve, stage, extrapolate=True), extrapolate=True)
    np.testing.assert_allclose(back, stage, atol=2e-4)  # the segments of Hadfields meet within 0.2 mm


@given(st.lists(st.integers(0, 300_000), min_size=2, max_size=30))
def test_more_discharge_is_never_less_stage_nor_the_other_way(flows):
    flow = np.sort(np.array(flows)) / 1000
    curve = np.ones(len(flow), np.int64)
    stage = BOTH.stage_m(curve, flow, extrapolate=True)
    assert np.all(np.diff(stage) >= 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a": 0.0}, "a and b must be positive, got a = 0.0"),
        ({"b": -1.0}, "a and b must be positive"),
        ({"a": float("nan")}, "a must be a finite number, got nan"),
        ({"h0_m": 1.5}, "from_stage_m must not be below h0_m, got 1.0 and 1.5"),
    ],
)
def test_bad_segments_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        RatingCurve((replace(WEIR.segments[0], **change),), to_stage_m=2.5)


def test_bad_curves_are_refused():
    with pytest.raises(ValueError, match="at least one segment"):
        RatingCurve((), to_stage_m=1.0)
    with pytest.raises(ValueError, match="one above the other"):
        RatingCurve(HADFIELDS.segments[::-1], to_stage_m=3.58)
    with pytest.raises(ValueError, match="one above the other"):
        RatingCurve(WEIR.segments, to_stage_m=1.0)
    with pytest.raises(ValueError, match=r"discharge must not fall at 2\.0 m"):
        RatingCurve((*WEIR.segments, Segment(2.0, 1.0, 0.5, 2.0)), to_stage_m=3.0)
    with pytest.raises(ValueError, match="curve must be 0 to 1, got 2 to 2"):
        BOTH.discharge_m3_s(np.array([2]), np.array([1.0]))
    with pytest.raises(ValueError, match=r"must be \(n,\)"):
        BOTH.stage_m(np.array([1]), np.array([1.0, 2.0]))


def test_no_curves_and_no_stages():
    none = np.empty(0, np.int64)
    assert Ratings.of([]).discharge_m3_s(none, np.empty(0)).shape == (0,)
    assert BOTH.stage_m(none, np.empty(0)).shape == (0,)
