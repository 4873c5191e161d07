"""The fleet on a real Mosquitto: all that is sent arrives, the clock never runs ahead, stops and restarts are clean."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from simulators.city import City
from simulators.fleet import FleetError, FleetSettings, Sent, main, messages, parse_time, run_fleet
from simulators.schedule import NS_PER_MIN
from tests.real_parts.mosquitto import Mosquitto, free_port

CITY = City(seed=1)
START = CITY.start_of_evening("2026-11-24")
ROOT = Path(__file__).parents[2]


class Listener:
    """Subscribes to the whole city and keeps everything in order of arrival."""

    def __init__(self, port: int) -> None:
        self.received: list[tuple[str, dict, bool]] = []
        ready = threading.Event()
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, "listener", clean_session=False)
        self.client.on_connect = lambda client, *_: client.subscribe("pantau/v1/bandung/#", qos=1)
        self.client.on_subscribe = lambda *_: ready.set()
        self.client.on_message = lambda _c, _d, m: self.received.append((m.topic, json.loads(m.payload), m.retain))
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert ready.wait(10)

    def wait_for(self, count: int, timeout_s: float = 20.0) -> None:
        deadline = time.monotonic() + timeout_s
        while len(self.received) < count and time.monotonic() < deadline:
            time.sleep(0.02)

    @property
    def clocks(self) -> list[dict]:
        return [body for topic, body, _ in self.received if topic.endswith("/clock")]

    @property
    def readings(self) -> dict[tuple[str, int, str], float]:
        """(device, time in ns, property) → value."""
        return {
            (topic.rsplit("/", 1)[1], ns(body["time"]), name): value
            for topic, body, _ in self.received
            if not topic.endswith("/clock")
            for name, value in body["values"].items()
        }

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def ns(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000) * 1_000_000


def expected(start_ns: int, end_ns: int) -> dict[tuple[str, int, str], float]:
    s = CITY.sample(start_ns, end_ns)
    return {
        (CITY.datastreams[i].device, at, CITY.datastreams[i].property): value
        for i, at, value in zip(s.datastream.tolist(), s.observed_at.tolist(), s.value.tolist(), strict=True)
    }


@pytest.fixture
def broker() -> Iterator[Mosquitto]:
    with Mosquitto(persistence=True) as started:
        yield started


def test_messages_hold_the_readings_of_one_device_at_one_time() -> None:
    samples = CITY.sample(START, START + 2 * NS_PER_MIN)
    made = messages(CITY, samples)
    assert sum(n for _, _, n in made) == len(samples)
    assert {d for d, _, _ in made} == {d.id for d in CITY.devices if not d.id.startswith("lamp")} | {
        d for d, _, _ in made if d.startswith("lamp")
    }
    found = {
        (device, ns(body["time"]), name): value
        for device, payload, _ in made
        for body in [json.loads(payload)]
        for name, value in body["values"].items()
    }
    assert found == expected(START, START + 2 * NS_PER_MIN)
    times = [json.loads(payload)["time"] for _, payload, _ in made]
    assert times == sorted(times)
    assert messages(CITY, CITY.sample(START, START)) == []


@pytest.mark.mosquitto
@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_every_reading_arrives_with_the_clock_behind_it(broker: Mosquitto, version: str) -> None:
    listener = Listener(broker.port)
    end = START + 12 * NS_PER_MIN
    settings = FleetSettings(
        start_ns=START, until_ns=end, speed=600.0, port=broker.port, mqtt_version=version, clock_interval_s=0.1
    )
    sent = run_fleet(CITY, settings)
    listener.wait_for(sent.messages + sent.clocks)
    listener.close()
    assert listener.readings == expected(START, end)
    assert (sent.readings, sent.until_ns) == (len(CITY.sample(START, end)), end)
    assert (sent.unacknowledged, sent.refused, sent.reconnects) == (0, 0, 0)
    assert len(listener.received) == sent.messages + sent.clocks
    # 12 simulated minutes at 600 × are 1.2 s, with a clock every 0.1 s, and one before all readings
    assert 1.2 <= sent.wall_s < 30.0 and 5 <= len(listener.clocks) == sent.clocks <= 14
    assert listener.received[0][0].endswith("/clock") and ns(listener.clocks[0]["now"]) == START
    assert ns(listener.clocks[-1]["now"]) == end and listener.clocks[-1]["speed"] == 600.0

    now, seen = START - 1, set()
    for topic, body, _ in listener.received:
        if topic.endswith("/clock"):
            assert ns(body["now"]) > now
            now = ns(body["now"])
            due = {(d, at) for d, at, _ in expected(START, now)}
            assert due <= seen, "the clock overtook readings"
        else:
            assert ns(body["time"]) >= now, "a reading came after the clock had passed it"
            seen.add((topic.rsplit("/", 1)[1], ns(body["time"])))


@pytest.mark.mosquitto
def test_the_clock_is_retained_and_readings_are_not(broker: Mosquitto) -> None:
    run_fleet(CITY, FleetSettings(start_ns=START, until_ns=START + NS_PER_MIN, speed=3600, port=broker.port))
    listener = Listener(broker.port)
    listener.wait_for(1)
    time.sleep(0.2)
    listener.close()
    assert [(topic, retained) for topic, _, retained in listener.received] == [("pantau/v1/bandung/clock", True)]
    assert ns(listener.clocks[0]["now"]) == START + NS_PER_MIN


@pytest.mark.mosquitto
def test_a_later_start_resumes_the_same_city(broker: Mosquitto) -> None:
    listener = Listener(broker.port)
    middle, end = START + 3 * NS_PER_MIN, START + 6 * NS_PER_MIN
    first = run_fleet(CITY, FleetSettings(start_ns=START, until_ns=middle, speed=1e5, port=broker.port))
    second = run_fleet(City(seed=1), FleetSettings(start_ns=middle, until_ns=end, speed=1e5, port=broker.port))
    listener.wait_for(first.messages + first.clocks + second.messages + second.clocks)
    listener.close()
    assert listener.readings == expected(START, end)


@pytest.mark.mosquitto
def test_a_broker_that_goes_away_and_comes_back_loses_nothing(
    broker: Mosquitto, capfd: pytest.CaptureFixture[str]
) -> None:
    listener = Listener(broker.port)
    end = START + 10 * NS_PER_MIN
    result: list[Sent] = []
    settings = FleetSettings(start_ns=START, until_ns=end, speed=200.0, port=broker.port, gateways=2)
    fleet = threading.Thread(target=lambda: result.append(run_fleet(CITY, settings)))
    fleet.start()
    listener.wait_for(300)
    broker.stop()
    time.sleep(0.3)
    assert fleet.is_alive()
    broker.start()
    fleet.join(30)
    assert result and result[0].reconnects >= 3 and result[0].unacknowledged == 0
    deadline = time.monotonic() + 20
    while (not listener.clocks or ns(listener.clocks[-1]["now"]) < end) and time.monotonic() < deadline:
        time.sleep(0.05)
    listener.close()
    assert listener.readings == expected(START, end)  # a message may come twice, none may be missing
    assert result[0].readings == len(CITY.sample(START, end))
    assert "connection to 127.0.0.1:" in capfd.readouterr().err


@pytest.mark.mosquitto
def test_a_stop_is_obeyed_soon_even_without_a_broker(broker: Mosquitto) -> None:
    stop = threading.Event()
    result: list[Sent] = []
    settings = FleetSettings(start_ns=START, speed=60.0, port=broker.port)
    fleet = threading.Thread(target=lambda: result.append(run_fleet(CITY, settings, stop)))
    fleet.start()
    time.sleep(0.5)
    broker.stop()
    time.sleep(0.6)
    stop.set()
    asked = time.monotonic()
    fleet.join(20)
    assert time.monotonic() - asked < 15.0
    assert result[0].messages > 0
    assert result[0].unacknowledged > 0  # said, not hidden


@pytest.mark.mosquitto
@pytest.mark.parametrize("way", ["SIGTERM", "SIGINT", "stdin"])
def test_the_program_ends_cleanly_and_says_what_it_sent(broker: Mosquitto, way: str) -> None:
    command = [sys.executable, "-m", "simulators.fleet", "--port", str(broker.port), "--start", "2026-11-24T17:20"]
    listener = Listener(broker.port)
    program = subprocess.Popen(
        [*command, "--json", "--stop-with-stdin"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    listener.wait_for(50)
    if way == "stdin":
        assert program.stdin is not None
        program.stdin.close()
    else:
        os.kill(program.pid, getattr(signal, way))
    assert program.wait(15) == 0
    assert program.stdout is not None
    sent = json.loads(program.stdout.read())
    program.stdout.close()
    listener.wait_for(sent["messages"] + sent["clocks"])
    listener.close()
    assert len(listener.received) == sent["messages"] + sent["clocks"] >= 50
    assert len(listener.readings) == sent["readings"] and sent["unacknowledged"] == 0


@pytest.mark.mosquitto
def test_a_refused_connection_is_said_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with Mosquitto(anonymous=False) as closed:
        assert main(["--port", str(closed.port), "--start", "2026-11-24T17:20"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "refused the connection: Not authorized" in said


def test_nobody_there_is_said_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    assert main(["--port", str(port), "--start", "2026-11-24T17:20"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"no MQTT broker answers at 127.0.0.1:{port}" in said


def test_settings_that_cannot_be_are_refused() -> None:
    for wrong, message in (
        ({"speed": 0.0}, "speed must be above 0, got 0.0"),
        ({"speed": float("nan")}, "speed must be above 0, got nan"),
        ({"port": 70_000}, "port must be 1-65535, got 70000"),
        ({"mqtt_version": "4"}, "mqtt_version must be one of 3.1.1, 5, got '4'"),
        ({"gateways": 0}, "gateways must be at least 1, got 0"),
        ({"clock_interval_s": 0.0}, "clock_interval_s must be above 0, got 0.0"),
        ({"until_ns": START}, "the end of the simulated time must be after its start"),
    ):
        with pytest.raises(FleetError, match=message):
            FleetSettings(start_ns=START, **wrong)
    assert "geheim" not in repr(FleetSettings(start_ns=START, password="geheim"))


def test_times_are_read_in_the_citys_zone_unless_they_name_one() -> None:
    assert parse_time("2026-11-24T17:20", CITY) == START == parse_time("2026-11-24T10:20:00Z", CITY)
    assert int(np.datetime64("2026-11-24T10:20", "ns").astype(np.int64)) == START
    assert (parse_time("evening", CITY) - START) % (86_400 * 10**9) == 0
    with pytest.raises(FleetError, match="'gestern' is no time"):
        parse_time("gestern", CITY)
