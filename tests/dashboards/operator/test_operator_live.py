"""LiveCity: newest values, alarms, clock, health, and what it tells pages."""

import json
import math
import threading
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.operator.health import BrokerStatus, DeviceAccount, HealthStatus, StoreStatus
from dashboards.operator.live import LiveCity, RefusedError, UnknownError
from telemetry.alarms import Acknowledge, AlarmKind, AlarmState
from telemetry.directory import Datastream, Directory, Site
from telemetry.observations import Observations
from telemetry.quality import FAIL, GOOD
from telemetry.results import Transitions
from tests.dashboards.operator.operator_city import (
    BATTERY,
    GAUGE,
    LEVEL,
    SPEED,
    T0,
    S,
    readings,
    small_city,
    transition,
)


def city() -> LiveCity:
    live = LiveCity()
    live.set_directory(small_city())
    live.set_clock("broker", T0, 60.0)
    return live


def delta(live: LiveCity) -> dict[str, Any]:
    frame = live.delta_frame()
    assert frame is not None
    return dict(json.loads(frame))


def test_a_delta_holds_only_what_changed_and_only_once() -> None:
    live = city()
    live.delta_frame()
    live.observe(Observations.concat([readings(BATTERY, 1, 3.6), readings(LEVEL, [1, 3, 2], [1.0, 1.25, 1.1])]))
    told = delta(live)["readings"]
    assert told["stream"] == [LEVEL, BATTERY]
    assert told["value"] == [1.25, 3.6]  # the newest, though it came in the middle
    assert told["time_ms"] == [T0 // 10**6 + 3000, T0 // 10**6 + 1000]
    assert told["flag"] == [GOOD, GOOD]
    assert live.delta_frame() is None


def test_an_older_reading_does_not_replace_a_newer_one() -> None:
    live = city()
    live.observe(readings(LEVEL, 10, 1.5))
    live.observe(readings(LEVEL, 5, 9.9))
    assert json.loads(live.state_frame())["readings"]["value"] == [1.5]


def test_a_missing_value_is_null_not_nan() -> None:
    live = city()
    live.observe(readings(LEVEL, 1, math.nan, flag=9))
    assert json.loads(live.state_frame())["readings"]["value"] == [None]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 600), st.integers(0, 50)), max_size=60), st.data())
def test_cutting_and_order_do_not_matter(rows: list[tuple[int, int, int]], data: st.DataObject) -> None:
    rows = list({(s, t): (s, t, v) for s, t, v in rows}.values())  # an identity has one value
    # reference: a plain dictionary
    newest: dict[int, tuple[int, int]] = {}
    for s, t, v in rows:
        newest[s] = max(newest.get(s, (-1, 0)), (t, v))
    live = city()
    left = data.draw(st.permutations(rows))
    while left:
        n = data.draw(st.integers(1, len(left)))
        part, left = left[:n], left[n:]
        live.observe(Observations.concat([readings(s, t, float(v)) for s, t, v in part]))
    told = json.loads(live.state_frame())["readings"]
    assert dict(zip(told["stream"], told["value"], strict=True)) == {s: v for s, (_, v) in newest.items()}


def test_an_alarm_climbs_returns_and_closes() -> None:
    live = city()
    live.transition(transition(at_s=0, severity=1))
    (alarm,) = live.alarms()
    assert alarm["id"] == f"level:dayeuhkolot.level:{T0}"
    assert (alarm["kind"], alarm["site"], alarm["device"], alarm["property"]) == (
        "level",
        "dayeuhkolot",
        "gauge-1",
        "water_level_m",
    )
    assert (alarm["raised_at"], alarm["cleared_at"]) == ("2026-11-24T11:20:00Z", None)
    assert (alarm["state"], alarm["severity"], alarm["label"]) == ("unacknowledged", 1, "Siaga 3")
    live.transition(transition(at_s=60, severity=3, value=2.1, threshold=2.0))
    live.transition(transition(at_s=90, severity=3, value=2.1, threshold=2.0, state=AlarmState.ACKNOWLEDGED))
    live.transition(transition(at_s=120, severity=1, value=1.3, threshold=1.0, peak=2.1, state=AlarmState.ACKNOWLEDGED))
    (alarm,) = live.alarms()
    assert (alarm["severity"], alarm["max_severity"], alarm["label"], alarm["max_label"]) == (
        1,
        3,
        "Siaga 3",
        "Siaga 1",
    )
    live.transition(transition(at_s=180, severity=0, state=AlarmState.NORMAL, value=0.9, peak=2.1))
    assert live.alarms() == []
    assert [a["state"] for a in delta(live)["alarms"]] == ["normal"]
    (alarm,) = live.alarms(T0, T0 + 600 * S)
    assert alarm["cleared_at"] == "2026-11-24T11:23:00Z"
    assert [t["label"] for t in alarm["transitions"]] == ["Siaga 3", "Siaga 1", "Siaga 1", "Siaga 3", ""]  # type: ignore[attr-defined]


def test_a_span_finds_the_alarms_that_stood_in_it() -> None:
    live = city()
    live.transition(transition(at_s=0, severity=1))
    live.transition(transition(at_s=100, severity=0, state=AlarmState.NORMAL))
    live.transition(transition(at_s=200, raised_s=200, severity=1))
    spans = [(-50, -1, 0), (50, 60, 1), (100, 150, 1), (101, 199, 0), (0, 300, 2), (250, 300, 1)]
    for start, end, count in spans:
        assert len(live.alarms(T0 + start * S, T0 + end * S)) == count, (start, end)


def test_a_repeated_transition_changes_nothing() -> None:
    live = city()
    rows = Transitions.concat([transition(at_s=0, severity=1), transition(at_s=5, severity=2, threshold=1.5)])
    live.transition(rows)
    before = live.alarms()
    live.transition(rows)
    assert live.alarms() == before


def test_the_peak_follows_the_readings_between_transitions_but_not_failed_ones() -> None:
    live = city()
    live.transition(transition(at_s=0, severity=1, value=1.2))
    live.observe(readings(LEVEL, [10, 20, 30], [1.3, 1.45, 1.4]))
    live.observe(readings(LEVEL, 40, 77.0, flag=FAIL))
    live.observe(readings(LEVEL, [41, 42], [math.nan, 1.1]))
    (alarm,) = live.alarms()
    assert (alarm["peak"], alarm["peak_at"]) == (1.45, "2026-11-24T11:20:20Z")


def test_restore_shows_open_alarms_with_the_worst_level_they_reached() -> None:
    live = city()
    live.restore(readings(LEVEL, 300, 1.2), transition(at_s=0, severity=1, peak=1.7))
    (alarm,) = live.alarms()
    assert (alarm["severity"], alarm["max_severity"], alarm["max_label"]) == (1, 2, "Siaga 2")
    # What happened before the restart is known to the store.
    live.set_alarm_history_source(
        lambda start, end: Transitions.concat(
            [transition(at_s=0, severity=1), transition(at_s=60, severity=2, threshold=1.5, value=1.7)]
        )
    )
    live.transition(transition(at_s=400, severity=2, threshold=1.5, value=1.6))
    (alarm,) = live.alarms(T0, T0 + 500 * S)
    assert [t["at"] for t in alarm["transitions"]] == [  # type: ignore[attr-defined]
        "2026-11-24T11:20:00Z",
        "2026-11-24T11:21:00Z",
        "2026-11-24T11:26:40Z",
    ]


def test_a_rising_level_says_how_fast_and_how_soon() -> None:
    live = city()
    at = np.arange(0, 601, 30)
    live.observe(readings(LEVEL, at.tolist(), (1.0 + at / 3600).tolist()))  # 1 m/h, to 1.1667 m at 600 s
    live.transition(transition(at_s=0, severity=1))
    (told,) = json.loads(live.state_frame())["trends"].values()
    assert told["per_h"] == pytest.approx(1.0, abs=0.01)
    assert (told["next"]["label"], told["next"]["threshold"]) == ("Siaga 2", 1.5)
    # By hand: (1.5 - 1.1667) m / (1 m/h) = 0.333 h = 1200 s; the middle of the last three readings is 30 s old.
    assert told["next"]["soonest_s"] == pytest.approx(1230, abs=15)
    assert told["next"]["latest_s"] == pytest.approx(1230, abs=15)


def test_traffic_and_steady_levels_announce_nothing() -> None:
    live = city()
    at = np.arange(0, 601, 30)
    rng = np.random.default_rng(1)
    live.observe(readings(LEVEL, at.tolist(), (1.2 + 0.003 * rng.standard_normal(at.size)).tolist()))
    live.observe(readings(SPEED, at.tolist(), (9.0 - at / 600).tolist()))
    live.transition(transition(at_s=0, severity=1))
    live.transition(transition(at_s=0, severity=1, subject=SPEED, threshold=10.0))
    trends = json.loads(live.state_frame())["trends"]
    level = trends[f"level:dayeuhkolot.level:{T0}"]
    assert level["next"] is None and level["low_per_h"] * level["high_per_h"] < 0
    assert trends[f"level:dago.speed:{T0}"] is None


def test_acknowledging_goes_to_the_pipeline_and_shows_who() -> None:
    live = city()
    taken: list[tuple[Acknowledge, str]] = []
    live.transition(transition(at_s=0, severity=1))
    ident = f"level:dayeuhkolot.level:{T0}"
    with pytest.raises(RefusedError, match="no pipeline"):
        live.acknowledge(ident, "Siti", "")
    live.set_acknowledge(lambda order, comment: taken.append((order, comment)))
    live.acknowledge(ident, "Siti", "petugas menuju lokasi")
    assert taken == [(Acknowledge(AlarmKind.LEVEL, LEVEL, T0, T0, "Siti"), "petugas menuju lokasi")]
    live.transition(transition(at_s=5, severity=1, state=AlarmState.ACKNOWLEDGED))
    (alarm,) = live.alarms()
    assert (alarm["state"], alarm["acknowledged_by"], alarm["comment"]) == (
        "acknowledged",
        "Siti",
        "petugas menuju lokasi",
    )
    with pytest.raises(RefusedError, match="already acknowledged by Siti"):
        live.acknowledge(ident, "Budi", "")
    with pytest.raises(UnknownError, match="no open alarm"):
        live.acknowledge("level:nowhere:1", "Budi", "")
    # It gets worse: that is for a new acknowledgement.
    live.transition(transition(at_s=60, severity=2, threshold=1.5))
    assert live.alarms()[0]["acknowledged_by"] == ""


def test_silence_is_a_job_and_does_not_count_as_an_event() -> None:
    live = city()
    live.transition(transition(at_s=0, severity=1, kind=AlarmKind.SILENCE, subject=GAUGE, value=600.0, threshold=600.0))
    (alarm,) = live.alarms()
    assert (alarm["kind"], alarm["subject"], alarm["site"], alarm["property"], alarm["domain"]) == (
        "silence",
        "gauge-1",
        "dayeuhkolot",
        None,
        "device",
    )
    assert live.status("1")["alarms"] == {
        "awas": 0,
        "siaga": 0,
        "waspada": 0,
        "returned": 0,
        "jobs": 1,
        "unacknowledged": 0,
    }


def test_a_broker_that_is_away_is_one_job_at_no_site_and_can_be_acknowledged() -> None:
    live = city()
    live.set_directory(live.directory.with_brokers(("utama", "cadangan")))
    taken: list[Acknowledge] = []
    live.set_acknowledge(lambda order, comment: taken.append(order))
    live.transition(
        transition(at_s=30, raised_s=30, severity=2, kind=AlarmKind.BROKER, subject=1, value=30, threshold=30)
    )
    (alarm,) = live.alarms()
    assert alarm["id"] == f"broker:cadangan:{T0 + 30 * S}"
    assert (alarm["subject"], alarm["site"], alarm["device"], alarm["property"], alarm["domain"]) == (
        "cadangan",
        "",
        "",
        None,
        "device",
    )
    assert (live.status("1")["alarms"]["jobs"], live.status("1")["alarms"]["unacknowledged"]) == (1, 0)
    assert live.delta_frame() is not None
    live.acknowledge(str(alarm["id"]), "Budi", "PLN padam")
    assert [(a.kind, a.subject, a.raised_at) for a in taken] == [(AlarmKind.BROKER, 1, T0 + 30 * S)]


def test_a_grown_directory_keeps_what_was_known() -> None:
    live = city()
    live.observe(readings(LEVEL, 1, 1.25))
    live.transition(transition(at_s=0, severity=1))
    epoch = live.epoch
    live.set_directory(
        small_city(2, (Datastream("dago.flow", "dago", "loop-1", "flow_veh_h"),)), {"type": "FeatureCollection"}
    )
    assert live.epoch > epoch
    live.observe(readings(4, 2, 900.0))
    state = json.loads(live.state_frame())
    assert state["directory_version"] == 2
    assert dict(zip(state["readings"]["stream"], state["readings"]["value"], strict=True)) == {0: 1.25, 4: 900.0}
    assert len(state["alarms"]) == 1
    assert json.loads(live.city_json())["basemap"] == {"type": "FeatureCollection"}


def test_health_counts_refusals_of_the_local_day() -> None:
    live = city()  # 18:20 WIB

    def refused_today(refused: int, at_s: int) -> int:
        live.set_clock("system", T0 + at_s * S, 1.0)
        live.set_health(
            HealthStatus(
                refused_by_reason={"unknown device": refused},
                brokers=(BrokerStatus("a", True, T0),),
                store=StoreStatus("embedded"),
            )
        )
        return int(delta(live)["health"]["refused_today"])

    assert refused_today(5, 0) == 5
    assert refused_today(7, 3600) == 7
    midnight = 5 * 3600 + 40 * 60
    assert refused_today(9, midnight + 1) == 2
    assert refused_today(1, midnight + 60) == 1  # the pipeline was started anew


def test_the_clock_that_stands_still_is_noticed() -> None:
    at = [100.0]
    live = LiveCity(monotonic=lambda: at[0])
    live.set_clock("broker", T0, 60.0)
    at[0] += 12
    live.set_clock("broker", T0, 60.0)  # told again, but not moved
    assert json.loads(live.beat_frame())["clock"]["still_s"] == 12
    live.set_clock("broker", T0 + S, 60.0)
    assert json.loads(live.beat_frame())["clock"]["still_s"] == 0


def test_accounts_come_from_the_runtime() -> None:
    live = city()
    assert live.account("gauge-1") is None
    live.set_account_source(lambda d: {"received": 3, "refused": {"bad unit": 1}, "stored": 2})
    assert live.account("gauge-1") == DeviceAccount("gauge-1", received=3, refused={"bad unit": 1}, stored=2)
    live.set_account_source(lambda d: None)  # it never sent
    assert live.account("gauge-1") == DeviceAccount("gauge-1")
    with pytest.raises(UnknownError, match="no device 'x'"):
        live.account("x")


def test_ten_thousand_readings_are_cheap() -> None:
    n = 10_000
    sites = tuple(Site(f"s{i}", f"S{i}", -6.9, 107.6) for i in range(n))
    from telemetry.directory import Device

    live = LiveCity()
    live.set_directory(
        Directory(
            1,
            "big",
            7.0,
            sites,
            tuple(Device(f"d{i}", f"s{i}") for i in range(n)),
            tuple(Datastream(f"d{i}", f"s{i}", f"d{i}", "water_level_m") for i in range(n)),
        )
    )
    stream = np.arange(n, dtype=np.int32)
    spent = []
    for k in range(20):
        at = np.full(n, T0 + k * S)
        batch = Observations(stream, at, at, np.full(n, 1.0 + k), np.full(n, GOOD, dtype=np.uint8))
        began = time.perf_counter()
        live.observe(batch)
        frame = live.delta_frame()
        spent.append(time.perf_counter() - began)
        assert frame is not None
    # 3 ms on a quiet machine; this is no measurement, but a loop gone wild would be seen.
    assert sorted(spent)[10] < 0.5


def test_feeding_and_reading_from_several_threads() -> None:
    live = city()
    stop = threading.Event()
    failed: list[BaseException] = []

    def guard(work: Any) -> None:
        try:
            k = 0
            while not stop.is_set():
                k += 1
                work(k)
        except BaseException as error:
            failed.append(error)

    def feed(k: int) -> None:
        live.observe(readings(LEVEL, k, 1.0 + k % 7))
        live.transition(transition(at_s=k, raised_s=k, severity=1))
        live.transition(transition(at_s=k, raised_s=k, severity=0, state=AlarmState.NORMAL))

    def look(_: int) -> None:
        for text in (live.state_frame(), live.delta_frame() or b"{}"):
            json.loads(text)
        live.alarms()
        live.alarms(T0, T0 + 10**6 * S)

    threads = [threading.Thread(target=guard, args=(work,)) for work in (feed, look, look)]
    for thread in threads:
        thread.start()
    time.sleep(1.0)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failed
