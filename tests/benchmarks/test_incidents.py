from __future__ import annotations

import sys

import numpy as np
import pytest

from benchmarks import incidents
from benchmarks.incidents import Score, best, score
from simulators.corridor import Blockage, Corridor, Day


def test_score_by_hand() -> None:
    # stations at cells 2, 7, 12, ...: cell 10 lies in pair 1. Intervals of 30 s end at 30, 60, ...
    demand = np.zeros(1)
    days = [
        Day(1, demand, demand, 1.0, (Blockage(10, 100.0, 700.0, 0.5), Blockage(40, 100.0, 700.0, 0.5))),
        Day(2, demand, demand, 1.0, ()),
    ]
    alarms = np.zeros((2, 120, 11), dtype=bool)
    alarms[0, 2, 1] = True  # 90 s: before it began: false
    alarms[0, 9, 2] = True  # 300 s, the pair beside: found after 200 s
    alarms[0, 20, 1] = True  # again, 630 s: neither false nor found twice
    alarms[0, 30, 1] = True  # 930 s, within 300 s of its end: not false
    alarms[0, 34, 1] = True  # 1050 s: false
    alarms[0, 9, 4] = True  # three pairs off: false
    alarms[1, 5, 1] = True  # another day: false
    found = score(alarms, Corridor(), days, [(True, False), ()])
    assert found == Score(2, 1, 1, 1, 4, 24.0, (200.0,))  # 2 days · 1 h · 12 stations
    assert found.false_per_station_hour == pytest.approx(4 / 24)


def test_calibration_prefers_finds_within_what_is_accepted() -> None:
    many = Score(10, 9, 9, 9, 5, 100.0, (60.0,))
    few = Score(10, 5, 5, 5, 1, 100.0, (60.0,))
    assert best([many, few]) == 1
    assert best([many, few], accepted_per_station_hour=0.05) == 0
    assert best([many, few], accepted_per_station_hour=0.0) == 1


def test_it_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["incidents", "--intervals", "60", "--seeds", "3"])
    incidents.main()
    assert capsys.readouterr().out.count("| another |") == 3
