"""Replays through a real Mosquitto. The pipeline's HTTP side is a stand-in here: a tiny server that counts what
arrives at the broker and answers as the contract says. It is no pipeline: it judges nothing."""

import json
import subprocess
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import hypothesis.strategies as st
import numpy as np
import paho.mqtt.client as paho
import pytest
from hypothesis import given
from paho.mqtt.enums import CallbackAPIVersion

from devices.registry import Registry
from ingest.settings import BrokerSettings
from simulators.recording import Account, Recording, Truth, load_recording
from simulators.replay import CLOCK_STEP_S, messages, register, replay
from simulators.replay_page import PipelinePage, ReplayError, clock_ns
from simulators.replay_report import collect_report, score_by_severity
from simulators.score import Interval
from telemetry.directory import Datastream, Device, Ladder, Site, Step
from telemetry.observations import rfc3339
from tests.real_parts.mosquitto import Mosquitto, free_port

RECORDINGS = Path(__file__).parents[2] / "simulators" / "recordings"
S = 1_000_000_000
START = 1_600_000_000 * S


def recording(rows, devices=("a", "b"), truth=None, ladder=None) -> Recording:
    """From (second, device number, property number, value) rows."""
    names = ("water_level_m", "rain_mm")
    rows = sorted(rows, key=lambda r: r[0])
    return Recording(
        name="made up",
        city="kota",
        utc_offset_h=7.0,
        sites=(Site("s", "S", -6.9, 107.6),),
        devices=tuple(Device(d, "s") for d in devices),
        datastreams=tuple(Datastream(f"{d}.{p}", "s", d, p, ladder=ladder or Ladder()) for d in devices for p in names),
        datastream=np.array([2 * d + p for _, d, p, _ in rows], dtype=np.int32),
        observed_at=np.array([START + t * S for t, _, _, _ in rows], dtype=np.int64),
        value=np.array([v for *_, v in rows], dtype=np.float64),
        account=Account(),
        truth=truth,
    )


ROWS = st.lists(
    st.tuples(
        st.integers(0, 5000), st.integers(0, 1), st.integers(0, 1), st.floats(allow_nan=False, allow_infinity=False)
    ),
    min_size=1,
    max_size=60,
)


@given(ROWS)
def test_messages_hold_every_reading_once_in_order_of_time(rows):
    made = recording(rows)
    expected = Counter(
        (made.datastreams[d].device, made.datastreams[d].property, int(t), v)
        for d, t, v in zip(made.datastream, made.observed_at, made.value.tolist(), strict=True)
    )
    found: Counter[tuple[str, str, int, float]] = Counter()
    previous = 0
    seen = set()
    for when, device, payload, size in messages(made):
        content = json.loads(payload)
        assert clock_ns(content["time"]) == when >= previous
        previous = when
        assert len(content["values"]) == size
        found.update((device, name, when, value) for name, value in content["values"].items())
        seen.add((when, device))
    assert found == expected
    # Without doubled readings there is one message for each device and time.
    if max(Counter((t, d, p) for t, d, p, _ in rows).values()) == 1:
        assert len(seen) == sum(1 for _ in messages(made))


@given(st.integers(-(2**61) // 1000, 2**62 // 1000))
def test_times_are_written_and_read_back_to_the_microsecond(us):
    assert clock_ns(rfc3339(us * 1000)) == us * 1000


# --- a stand-in for the pipeline -------------------------------------------------------------------------------------


class StandIn:
    """Subscribes like a pipeline, counts, and answers the HTTP contract; its status says that it is no pipeline."""

    def __init__(self, broker: Mosquitto, city: str = "kota", source: str = "broker") -> None:
        self.city, self.source = city, source
        self.now = "1970-01-01T00:00:00Z"
        self.directory_version = 1
        self.received: list[tuple[str, bytes, bool]] = []
        self.counts: Counter[str] = Counter()
        self.accounts: dict[str, Counter[str]] = {}
        self.alarms: list[dict[str, object]] = []
        self.deaf_after = 10**9
        """Takes no more readings than that."""
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv311)
        self._client.on_message = self._on_message
        self._client.connect(broker.host, broker.port)
        ready = threading.Event()
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.subscribe("pantau/v1/+/+", qos=1)
        self._client.loop_start()
        assert ready.wait(5)
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urlparse(self.path)
                code, answer = stand_in.answer(url.path, {k: v[0] for k, v in parse_qs(url.query).items()})
                body = json.dumps(answer).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.page = PipelinePage(f"http://127.0.0.1:{self._server.server_port}/", timeout_s=5)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, object]:
        if path == "/api/status":
            names = ("messages", "readings", "refused", "duplicates", "late", "stored")
            clock = {"source": self.source, "now": self.now, "speed": 1}
            status = {"city": self.city, "clock": clock, "counts": {n: self.counts[n] for n in names}}
            return 200, status | {"directory_version": self.directory_version, "note": "a stand-in, no pipeline"}
        if path == "/api/account":
            if query["device"] not in self.accounts:
                return 404, {"detail": "nothing is known"}
            n = self.accounts[query["device"]]
            refused = {"bad_value": n["refused"]} if n["refused"] else {}
            return 200, {"device": query["device"], "refused": refused} | {
                k: n[k] for k in ("received", "duplicate", "late", "stored")
            }
        if path == "/api/alarms":
            self.alarm_query = query
            return 200, {"alarms": self.alarms}
        return 404, {}

    def _on_message(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        self.received.append((message.topic, message.payload, message.retain))
        content = json.loads(message.payload)
        device = message.topic.rsplit("/", 1)[1]
        if device == "clock":
            self.now = content["now"]
            return
        if self.counts["readings"] >= self.deaf_after:
            return
        n = len(content["values"])
        self.counts.update(messages=1, readings=n, stored=n)
        self.accounts.setdefault(device, Counter()).update(received=n, stored=n)


@pytest.fixture(scope="module")
def broker():
    with Mosquitto() as running:
        yield running


@pytest.fixture
def stand_in(broker):
    clean = paho.Client(CallbackAPIVersion.VERSION2)
    clean.connect(broker.host, broker.port)
    clean.loop_start()
    for city in ("kota", "sheffield"):
        clean.publish(f"pantau/v1/{city}/clock", b"", qos=1, retain=True).wait_for_publish(5)
    clean.disconnect()
    clean.loop_stop()
    made = StandIn(broker)
    yield made
    made.close()


def settings_of(broker: Mosquitto) -> BrokerSettings:
    return BrokerSettings("test", broker.host, broker.port)


@pytest.mark.mosquitto
def test_everything_arrives_with_the_clock_in_front_and_beyond_the_end(broker, stand_in):
    rows = [(t, d, p, t + d + p / 2) for t in range(0, 3000, 20) for d in (0, 1) for p in (0, 1)]
    rows += [(90_000, 0, 0, 1.0)]  # after a gap of a day
    told = []
    made = recording(rows)
    sent = replay(made, settings_of(broker), page=stand_in.page, progress=lambda *row: told.append(row))
    assert (sent.readings, sent.messages) == (601, 301)
    now = None
    found = Counter()
    clocks = []
    for topic, payload, _ in stand_in.received:
        content = json.loads(payload)
        city, device = topic.split("/")[2:]
        assert city == "kota"
        if device == "clock":
            now = clock_ns(content["now"])
            clocks.append(now)
            continue
        at = clock_ns(content["time"])
        # What the pipeline needs: no reading from the future (300 s are allowed), and none that is late.
        assert 0 <= at - now < CLOCK_STEP_S * S
        found.update((device, name, at, value) for name, value in content["values"].items())
    assert found == Counter(
        (made.datastreams[d].device, made.datastreams[d].property, int(t), v)
        for d, t, v in zip(made.datastream, made.observed_at, made.value.tolist(), strict=True)
    )
    assert clocks == sorted(clocks)
    assert len(clocks) == sent.clock_messages < 60 + 8 + 2
    assert clocks[-1] == sent.final_clock == made.end + 7200 * S
    assert told[-1] == ("storing", 601, 601)
    assert ("sending", 601, 601) in told


@pytest.mark.mosquitto
def test_the_clock_is_retained(broker, stand_in):
    sent = replay(recording([(0, 0, 0, 1.0)]), settings_of(broker), page=stand_in.page)
    late = StandIn(broker)
    deadline = time.monotonic() + 5
    while not late.received and time.monotonic() < deadline:
        time.sleep(0.02)
    late.close()
    assert [(t, clock_ns(json.loads(p)["now"]), r) for t, p, r in late.received] == [
        ("pantau/v1/kota/clock", sent.final_clock, True)
    ]


@pytest.mark.mosquitto
def test_a_speed_is_kept_and_the_clock_runs_on_in_a_gap(broker, stand_in):
    # 50 s of recording with a gap of 40 s, at 20 times: 2.5 s.
    made = recording([(t, 0, 0, 1.0) for t in (0, 5, 10, 50)])
    began = time.monotonic()
    replay(made, settings_of(broker), page=stand_in.page, speed=20)
    assert 2.4 < time.monotonic() - began < 6
    contents = [json.loads(p) for t, p, _ in stand_in.received if t.endswith("clock")]
    assert all(c["speed"] == 20 for c in contents)
    inside = [t for c in contents if made.start + 10 * S < (t := clock_ns(c["now"])) < made.start + 50 * S]
    assert inside


@pytest.mark.mosquitto
def test_a_broker_that_restarts_loses_nothing(tmp_path):
    with Mosquitto(persistence=True) as broker:
        made = recording([(t, 0, 0, float(t)) for t in range(0, 20_000, 2)])
        got: set[float] = set()
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id="counter", clean_session=False)
        client.on_message = lambda _c, _d, m: (
            got.update(json.loads(m.payload)["values"].values()) if b"values" in m.payload else None
        )
        client.on_connect = lambda c, *_: c.subscribe("pantau/v1/+/+", qos=1)
        client.connect(broker.host, broker.port)
        client.loop_start()
        restarted = threading.Event()

        def restart(_what: str, done: int, _total: int) -> None:
            if done > 3000 and not restarted.is_set():
                restarted.set()
                broker.restart()

        sent = replay(made, settings_of(broker), progress=restart)
        deadline = time.monotonic() + 15
        while len(got) < len(made) and time.monotonic() < deadline:
            time.sleep(0.05)
        client.disconnect()
        client.loop_stop()
        assert restarted.is_set()
        assert sent.readings == len(made)
        assert got == set(made.value.tolist())


@pytest.mark.mosquitto
def test_user_names_are_used_and_a_refusal_is_told(tmp_path):
    password_file = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-c", "-b", str(password_file), "rina", "secret"], check=True)
    password_file.chmod(0o644)
    one = recording([(0, 0, 0, 1.0)])
    with Mosquitto([f"password_file {password_file}"], anonymous=False) as broker:
        right = BrokerSettings("test", broker.host, broker.port, username="rina", password="secret")
        assert replay(one, right).readings == 1
        wrong = BrokerSettings("test", broker.host, broker.port, username="rina", password="guess")
        with pytest.raises(ReplayError, match="does not let us in: Not authorized"):
            replay(one, wrong)


def test_a_broker_that_is_not_there_is_told():
    nowhere = BrokerSettings("test", "127.0.0.1", free_port())
    with pytest.raises(ReplayError, match=r"cannot reach the broker 127\.0\.0\.1"):
        replay(recording([(0, 0, 0, 1.0)]), nowhere)


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.mosquitto
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": "system"}, "whose clock comes from the broker"),
        ({"city": "solo"}, "watches city 'solo', but the recording is of 'kota'"),
        ({"now": rfc3339(START + 1000 * S)}, "later than the recording's start .* fresh data folder"),
    ],
)
def test_a_pipeline_that_does_not_fit_is_refused_before_anything_is_sent(broker, stand_in, change, message):
    for name, value in change.items():
        setattr(stand_in, name, value)
    with pytest.raises(ReplayError, match=message):
        replay(recording([(0, 0, 0, 1.0)]), settings_of(broker), page=stand_in.page)
    time.sleep(0.1)
    assert stand_in.received == []


@pytest.mark.mosquitto
def test_a_pipeline_without_the_registry_is_told(broker, stand_in):
    with pytest.raises(ReplayError, match="still has version 1 of the registry, not 5"):
        replay(recording([(0, 0, 0, 1.0)]), settings_of(broker), page=stand_in.page, directory_version=5, stall_s=0.3)


@pytest.mark.mosquitto
def test_a_pipeline_that_stops_taking_is_told_with_numbers(broker, stand_in):
    stand_in.deaf_after = 2
    made = recording([(t, 0, 0, 1.0) for t in range(5)])
    with pytest.raises(ReplayError, match=r"of 5 readings the pipeline has stored, refused or recognized 2,"):
        replay(made, settings_of(broker), page=stand_in.page, stall_s=0.5)


def test_a_page_that_is_none_is_told():
    with pytest.raises(ReplayError, match="cannot reach the pipeline's page"):
        PipelinePage(f"http://127.0.0.1:{free_port()}").status()
    with pytest.raises(ReplayError, match="must start with http"):
        PipelinePage("localhost:8000")


# --- registry and report ---------------------------------------------------------------------------------------------


def test_a_recording_is_registered_with_its_thresholds(tmp_path):
    don = load_recording(RECORDINGS / "don_hadfields_2007")
    registry = Registry(f"sqlite:///{tmp_path}/r.db")
    assert register(don, registry) == 1
    assert register(don, registry) == 1
    assert registry.directory().datastreams == don.datastreams
    assert registry.ladders("don-hadfields.water_level_m")[0].reason == "map of River Don at Hadfields, 2007"


LADDER = Ladder((Step(1.0, 1, "Siaga 3"), Step(2.0, 3, "Siaga 1")))


def alarm(subject: str, *changes: tuple[int, int, str], kind: str = "level", cleared: int | None = None):
    return {
        "id": "x",
        "kind": kind,
        "subject": subject,
        "site": "s",
        "device": "a",
        "property": "water_level_m",
        "raised_at": rfc3339(START + changes[0][0] * S),
        "cleared_at": None if cleared is None else rfc3339(START + cleared * S),
        "state": "normal",
        "severity": changes[-1][1],
        "max_severity": max(c[1] for c in changes),
        "label": changes[-1][2],
        "peak": 2.5,
        "peak_at": rfc3339(START + 500 * S),
        "transitions": [
            {
                "at": rfc3339(START + t * S),
                "severity": s,
                "state": "unacknowledged",
                "value": 1.5,
                "threshold": 1.0,
                "label": label,
            }
            for t, s, label in changes
        ],
    }


def test_alarms_are_scored_by_the_severity_they_reached():
    # One flood from 300 s to 400 s. First alarm: waspada at 100, awas at 320, back to waspada at 380, gone at 450.
    # Second alarm: waspada only, long after: false for waspada, nothing for awas.
    truth = Truth("a.water_level_m", (Interval(START + 300 * S, START + 400 * S),), 0.0, 0.0)
    made = recording([(0, 0, 0, 1.0), (5000, 0, 0, 1.0)], truth=truth, ladder=LADDER)
    alarms = [
        alarm("a.water_level_m", (100, 1, "Siaga 3"), (320, 3, "Siaga 1"), (380, 1, "Siaga 3"), (450, 0, "")),
        alarm("a.water_level_m", (2000, 1, "Siaga 3")),
        alarm("a.rain_mm", (300, 3, "other")),
    ]
    waspada, awas = score_by_severity(alarms, made, START + 9000 * S)
    assert (waspada.severity, waspada.hits, waspada.misses, waspada.false_alarms, waspada.lead_s) == (1, 1, 0, 1, 200.0)
    assert (awas.severity, awas.hits, awas.misses, awas.false_alarms, awas.lead_s) == (3, 1, 0, 0, -20.0)
    assert (waspada.pod, waspada.far, waspada.bias) == (1.0, 0.5, 2.0)


@pytest.mark.mosquitto
def test_the_report_adds_up(broker, stand_in, capsys):
    truth = Truth("a.water_level_m", (Interval(START + 300 * S, START + 400 * S),), 0.0, 0.0)
    made = recording([(t, d, 0, 1.0) for t in range(0, 5000, 100) for d in (0, 1)], truth=truth, ladder=LADDER)
    sent = replay(made, settings_of(broker), page=stand_in.page)
    stand_in.accounts["a"].update(received=2, stored=-3, duplicate=2, late=1, refused=3)
    stand_in.alarms = [
        alarm("a.water_level_m", (100, 1, "Siaga 3"), (320, 3, "Siaga 1"), (450, 0, ""), cleared=450),
        alarm("b", (2000, 1, ""), kind="silence", cleared=2100),
        alarm("b", (5500, 1, ""), kind="silence"),  # after its last reading, at 4900 s: the recording's end
        alarm("b", (-50, 1, ""), kind="silence"),  # before its first one
        alarm("other.rain_mm", (300, 3, "not of this recording")),
    ]
    report = collect_report(stand_in.page, made, sent)
    assert stand_in.alarm_query == {"from": rfc3339(made.start), "to": rfc3339(sent.final_clock)}
    assert (report.sent, report.received, report.stored, report.duplicates, report.late) == (100, 102, 97, 2, 1)
    assert report.refused == {"bad_value": 3}
    assert report.unaccounted == 100 - 97 - 2 - 3
    assert [(a.subject, a.kind, a.label, a.max_severity) for a in report.alarms] == [
        ("a.water_level_m", "level", "Siaga 1", 3),
        ("b", "silence", "", 1),
    ]
    assert [(c.severity, c.label) for c in report.alarms[0].changes] == [(1, "Siaga 3"), (3, "Siaga 1"), (0, "")]
    assert [(s.severity, s.hits, s.false_alarms) for s in report.scores] == [(1, 1, 0), (3, 1, 0)]
    assert report.silences_outside == 2
    again = json.loads(report.to_json())
    assert again["scores"][0]["pod"] == 1.0
    assert again["alarms"][0]["cleared_at"] == rfc3339(START + 450 * S)
    report.print()
    text = capsys.readouterr().out
    assert "unaccounted for" in text
    # 1600000000 is 2020-09-13 12:26:40 UTC; nothing is cut off at 80 columns.
    assert "2020-09-13 12:28 to 2020-09-13 12:34  awas (Siaga 1)  a.water_level_m, peak 2.5 at 2020-09-13 12:35" in text
    assert "09-13 12:28 Siaga 3 → 09-13 12:32 Siaga 1 → 09-13 12:34 normal" in text
    assert "…" not in text
