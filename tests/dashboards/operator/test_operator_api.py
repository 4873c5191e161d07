"""The HTTP contract that other programs rely on, over a real server."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from dashboards.operator.api import operator_app, series_columns
from dashboards.operator.health import AccountHour, BrokerStatus, DeviceAccount, HealthStatus, StoreStatus
from dashboards.operator.live import LiveCity
from telemetry.alarms import Acknowledge, AlarmState
from telemetry.observations import Observations
from telemetry.quality import FAIL, SUSPECT
from telemetry.results import DTYPES, Windows
from tests.dashboards.operator.operator_city import LEVEL, T0, S, readings, small_city, transition
from web.access import OpenHouse
from web.server import Server, serve

CHANGE = {"X-Pantau": "1"}
ALARM = f"level:dayeuhkolot.level:{T0}"


@pytest.fixture
def live() -> LiveCity:
    city = LiveCity()
    city.set_directory(small_city())
    city.set_clock("broker", T0 + 600 * S, 60.0)
    return city


@pytest.fixture
def server(live: LiveCity) -> Iterator[Server]:
    running = serve(operator_app(live, version="1.2.3", identify=OpenHouse()), "127.0.0.1", 0)
    yield running
    running.stop()


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=5) as client:
        yield client


class Events:
    """Reads server-sent events off an open answer."""

    def __init__(self, answer: httpx.Response) -> None:
        self._lines = answer.iter_lines()

    def next(self, *names: str) -> dict[str, Any]:
        """The next event with one of these names."""
        name = ""
        for line in self._lines:
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: ") and name in names:
                return {"event": name} | json.loads(line[6:])
        raise AssertionError("the stream ended")


def test_status(live: LiveCity, http: httpx.Client) -> None:
    live.set_health(
        HealthStatus(
            messages=10,
            readings=20,
            duplicates=2,
            late=1,
            stored=17,
            refused_by_reason={"unknown device": 3, "bad unit": 1},
            brokers=(BrokerStatus("a", False, T0, "refused", 4),),
            store=StoreStatus("influxdb", False, 500, "timeout"),
        )
    )
    live.transition(transition(at_s=0, severity=2, threshold=1.5))
    told = http.get("/api/status").json()
    assert (told["city"], told["version"], told["directory_version"]) == ("bandung", "1.2.3", 1)
    clock = told["clock"]
    assert (clock["source"], clock["now"], clock["speed"]) == ("broker", "2026-11-24T11:30:00Z", 60.0)
    assert told["counts"] == {"messages": 10, "readings": 20, "refused": 4, "duplicates": 2, "late": 1, "stored": 17}
    assert told["refused_by_reason"] == {"unknown device": 3, "bad unit": 1}
    assert told["brokers"] == [
        {"name": "a", "connected": False, "since": "2026-11-24T11:20:00Z", "last_error": "refused", "dropped": 4}
    ]
    assert told["store"] == {"kind": "influxdb", "ok": False, "backlog_rows": 500, "last_error": "timeout"}
    assert told["alarms"]["siaga"] == 1


def test_city(http: httpx.Client) -> None:
    told = http.get("/api/city").json()
    assert [s["id"] for s in told["sites"]] == ["dayeuhkolot", "dago"]
    stream = told["datastreams"][0]
    assert (stream["id"], stream["direction"]) == ("dayeuhkolot.level", 1)
    assert stream["steps"][2] == {"value": 2.0, "severity": 3, "label": "Siaga 1"}
    level = told["properties"]["water_level_m"]
    assert level["unit"] == "m" and level["label"] == {"id": "Tinggi muka air", "en": "Water level"}


def test_series_gives_readings_then_joined_ones(live: LiveCity, http: httpx.Client) -> None:
    at = np.arange(0, 600, 1.0)
    flags = np.ones(600, dtype=np.uint8)
    flags[100], flags[200] = SUSPECT, FAIL
    whole = readings(LEVEL, at.tolist(), (at / 100).tolist())
    whole = Observations(whole.datastream, whole.observed_at, whole.received_at, whole.value, flags)
    asked: list[tuple[str, int, int, int]] = []

    def source(datastream: str, start: int, end: int, points: int) -> Observations:
        asked.append((datastream, start, end, points))
        return whole.take((whole.observed_at >= start) & (whole.observed_at < end))

    live.set_series_source(source)
    query = {"datastream": "dayeuhkolot.level", "from": "2026-11-24T11:20:00Z", "to": "2026-11-24T18:30:00+07:00"}
    told = http.get("/api/series", params={**query, "points": "700"}).json()
    assert asked == [("dayeuhkolot.level", T0, T0 + 600 * S, 700)]
    assert told["kind"] == "readings" and len(told["time_ms"]) == 600 and told["flag"][100] == SUSPECT
    told = http.get("/api/series", params={**query, "points": "60"}).json()
    assert told["kind"] == "windows" and 50 <= len(told["time_ms"]) <= 60
    # By hand: 600 s into 60 spans of just under 10 s; the first holds seconds 0 to 9.
    assert (told["minimum"][0], told["maximum"][0]) == (0.0, 0.09)
    assert told["value"][0] == pytest.approx(0.045)
    assert max(told["maximum"]) == pytest.approx(5.99) and FAIL in told["flag"] and SUSPECT in told["flag"]


def test_series_accepts_numbers_and_windows(live: LiveCity, http: httpx.Client) -> None:
    def column(name: str, values: list[float]) -> np.ndarray[Any, Any]:
        return np.array(values, dtype=DTYPES[name])

    live.set_series_source(
        lambda *_: Windows(
            datastream=column("datastream", [0, 0]),
            width_s=column("width_s", [60, 60]),
            start=column("start", [T0 + 60 * S, T0]),
            count=column("count", [2, 3]),
            good_count=column("good_count", [1, 3]),
            minimum=column("minimum", [1, 1]),
            maximum=column("maximum", [3, 2]),
            mean=column("mean", [2, np.nan]),
            last=column("last", [2, 1]),
            total=column("total", [4, np.nan]),
            deviation=column("deviation", [1, np.nan]),
        )
    )
    told = http.get("/api/series", params={"datastream": "dayeuhkolot.level", "from": str(T0 // S)}).json()
    assert (told["kind"], told["width_s"], told["from"]) == ("windows", 60, "2026-11-24T11:20:00Z")
    assert told["time_ms"] == [T0 // 10**6 + 30_000, T0 // 10**6 + 90_000]
    assert (told["value"], told["flag"]) == ([None, 2.0], [1, SUSPECT])


def test_an_empty_series_is_empty(live: LiveCity, http: httpx.Client) -> None:
    told = http.get("/api/series", params={"datastream": "dayeuhkolot.level"}).json()
    assert told["time_ms"] == [] and series_columns(Windows.empty(), 10)["time_ms"] == []


def test_account(live: LiveCity, http: httpx.Client) -> None:
    assert http.get("/api/account", params={"device": "gauge-1"}).status_code == 404
    live.set_account_source(
        lambda d: DeviceAccount(
            d,
            received=9,
            duplicate=2,
            late=1,
            refused={"bad unit": 1},
            stored=6,
            waiting=1,
            expected=10.0,
            missing=3,
            hours=(AccountHour(T0, 1, 10.0, 9, 2, 1, 1, 6, 1, 3),),
        )
    )
    assert http.get("/api/account", params={"device": "gauge-1"}).json() == {
        "device": "gauge-1",
        "received": 9,
        "duplicate": 2,
        "late": 1,
        "refused": {"bad unit": 1},
        "stored": 6,
        "waiting": 1,
        "expected": 10.0,
        "missing": 3,
        "unaccounted": 0,
        "hours": [
            {
                "start_ns": T0,
                "hours": 1,
                "expected": 10.0,
                "received": 9,
                "duplicate": 2,
                "late": 1,
                "refused": 1,
                "stored": 6,
                "waiting": 1,
                "missing": 3,
            }
        ],
    }


def test_alarms_open_and_by_time(live: LiveCity, http: httpx.Client) -> None:
    live.transition(transition(at_s=0, severity=1))
    (alarm,) = http.get("/api/alarms").json()["alarms"]
    wanted = {"id", "kind", "subject", "site", "device", "property", "raised_at", "cleared_at", "state", "severity"}
    wanted |= {"max_severity", "label", "peak", "peak_at", "transitions"}
    assert wanted <= alarm.keys() and alarm["id"] == ALARM
    assert alarm["transitions"] == [
        {
            "at": "2026-11-24T11:20:00Z",
            "severity": 1,
            "state": "unacknowledged",
            "value": 1.2,
            "threshold": 1.0,
            "label": "Siaga 3",
        }
    ]
    live.transition(transition(at_s=60, severity=0, state=AlarmState.NORMAL))
    assert http.get("/api/alarms").json() == {"alarms": []}
    assert len(http.get("/api/alarms?from=2026-11-24T11:00:00Z").json()["alarms"]) == 1
    assert http.get("/api/alarms?to=2026-11-24T11:00:00Z").json() == {"alarms": []}


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/api/series?datastream=x", 404, "no datastream 'x'"),
        ("/api/series", 422, "datastream"),
        ("/api/series?datastream=dayeuhkolot.level&from=yesterday", 422, "from: a time must be RFC 3339"),
        ("/api/series?datastream=dayeuhkolot.level&from=2026-11-24T11:20:00", 422, "with zone"),
        ("/api/series?datastream=dayeuhkolot.level&points=1", 422, "points"),
        ("/api/series?datastream=dayeuhkolot.level&from=2&to=1", 422, "must be before"),
        ("/api/alarms?from=2027-01-01T00:00:00Z&to=2026-01-01T00:00:00Z", 422, "must be before"),
        ("/api/alarms?from=99999999999999999999999", 422, "RFC 3339"),
        ("/api/account?device=x", 404, "no device 'x'"),
        ("/api/account", 422, "device"),
        ("/api/nothing", 404, "there is no GET /api/nothing"),
    ],
)
def test_wrong_questions_get_plain_answers(http: httpx.Client, path: str, status: int, words: str) -> None:
    answer = http.get(path)
    assert answer.status_code == status
    assert isinstance(answer.json()["detail"], str) and words in answer.json()["detail"]


def test_a_store_that_fails_is_said_plainly(live: LiveCity, http: httpx.Client) -> None:
    def broken(*_: object) -> Any:
        raise ConnectionError("no route to the store")

    live.set_series_source(broken)
    live.set_alarm_history_source(broken)
    live.set_account_source(broken)
    live.set_acknowledge(broken)
    live.transition(transition(at_s=0, severity=1))
    answers = [
        http.get("/api/series?datastream=dayeuhkolot.level"),
        http.get("/api/alarms?from=2026-11-24T11:00:00Z"),
        http.get("/api/account?device=gauge-1"),
        http.post("/api/alarms/acknowledge", json={"id": ALARM, "by": "Siti"}, headers=CHANGE),
    ]
    for answer in answers:
        assert answer.status_code == 503 and "no route to the store" in answer.json()["detail"]
    assert http.get("/api/alarms").json()["alarms"][0]["acknowledged_by"] == ""
    assert http.get("/api/status").status_code == 200


def test_acknowledging_over_http(live: LiveCity, http: httpx.Client) -> None:
    taken: list[Acknowledge] = []
    live.set_acknowledge(lambda order, _: taken.append(order))
    live.transition(transition(at_s=0, severity=1))
    body = {"id": ALARM, "by": "  Siti ", "comment": ""}
    assert http.post("/api/alarms/acknowledge", json=body).status_code == 403
    assert http.post("/api/alarms/acknowledge", json=body, headers=CHANGE).status_code == 200
    assert [(a.by, a.at) for a in taken] == [("Siti", T0 + 600 * S)]
    live.transition(transition(at_s=5, severity=1, state=AlarmState.ACKNOWLEDGED))
    again = http.post("/api/alarms/acknowledge", json=body, headers=CHANGE)
    assert again.status_code == 409 and "already acknowledged by Siti" in again.json()["detail"]
    missing = http.post("/api/alarms/acknowledge", json={**body, "id": "level:x:1"}, headers=CHANGE)
    assert missing.status_code == 404
    for wrong in ({"id": ALARM, "by": " "}, {"id": ALARM}, {"by": "Siti"}):
        assert http.post("/api/alarms/acknowledge", json=wrong, headers=CHANGE).status_code == 422
    assert len(taken) == 1


def test_live_sends_the_state_then_changes_at_most_four_times_a_second(live: LiveCity, http: httpx.Client) -> None:
    live.observe(readings(LEVEL, 1, 1.1))
    with http.stream("GET", "/api/live") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert "content-encoding" not in answer.headers
        events = Events(answer)
        state = events.next("state")
        assert state["readings"]["value"] == [1.1] and state["alarms"] == []
        began = time.monotonic()
        for k in range(40):
            live.observe(readings(LEVEL, 2 + k, 2.0 + k))
            time.sleep(0.05)
        deltas = []
        while not deltas or deltas[-1]["readings"]["value"] != [41.0]:
            deltas.append(events.next("delta"))
        assert len(deltas) <= (time.monotonic() - began) * 4 + 2
        live.transition(transition(at_s=0, severity=3, threshold=2.0))
        assert events.next("delta")["alarms"][0]["severity"] == 3


def test_live_beats_every_two_seconds_without_news(http: httpx.Client) -> None:
    with http.stream("GET", "/api/live") as answer:
        events = Events(answer)
        events.next("state")
        began = time.monotonic()
        events.next("beat")
        events.next("beat")
        assert 2.5 < time.monotonic() - began < 5.0


def test_a_new_directory_is_told_anew(live: LiveCity, http: httpx.Client) -> None:
    with http.stream("GET", "/api/live") as answer:
        events = Events(answer)
        events.next("state")
        live.set_directory(small_city(2))
        assert events.next("state")["directory_version"] == 2


def test_the_server_stops_within_two_seconds_with_open_streams(live: LiveCity, server: Server) -> None:
    with httpx.stream("GET", f"{server.url}/api/live") as answer:
        events = Events(answer)
        events.next("state")
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 2.0 and not server.alive
        with pytest.raises((AssertionError, httpx.HTTPError)):
            events.next("never")


def test_openapi_describes_all_routes(http: httpx.Client) -> None:
    paths = http.get("/openapi.json").json()["paths"]
    assert set(paths) == {
        "/api/session",
        "/api/status",
        "/api/city",
        "/api/live",
        "/api/series",
        "/api/account",
        "/api/alarms",
        "/api/alarms/acknowledge",
    }
