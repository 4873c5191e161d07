"""The benchmarks' publisher sends what it says, whether encoded before the start or on the way."""

from __future__ import annotations

import json
import threading
import time

import paho.mqtt.client as mqtt
import pytest

from benchmarks.publisher import publish
from tests.real_parts.mosquitto import Mosquitto

pytestmark = pytest.mark.mosquitto


def received(broker: Mosquitto, messages: int, **how: object) -> list[tuple[str, object]]:
    """What a subscriber gets of a publisher's messages."""
    got: list[tuple[str, object]] = []
    listening = threading.Event()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)  # type: ignore[attr-defined]
    client.on_connect = lambda client, *_: client.subscribe("pantau/v1/demo/+", qos=1)
    client.on_subscribe = lambda *_: listening.set()
    client.on_message = lambda _c, _u, m: got.append((m.topic.rsplit("/", 1)[1], json.loads(m.payload)))
    client.connect(broker.host, broker.port)
    client.loop_start()
    assert listening.wait(5)
    result = publish(broker.host, broker.port, city="demo", messages=messages, **how)  # type: ignore[arg-type]
    assert result.sent == result.acknowledged == messages
    before = -1
    while len(got) < messages and len(got) > before:
        before = len(got)
        time.sleep(2.0)
    client.disconnect()
    client.loop_stop()
    return got


@pytest.mark.parametrize("window", [1, 7, 5000])
@pytest.mark.parametrize("rate", [None, 100_000.0])
def test_each_message_comes_once(rate: float | None, window: int) -> None:
    messages = 500 if window < 10 else 70_000  # packet ids begin anew after 65,535
    with Mosquitto() as broker:
        got = received(broker, messages, devices=10, first_device=30, rate_per_s=rate, window=window)
    assert {device for device, _ in got} == {f"d{n}" for n in range(30, 40)}
    times = [reading["time"] for _, reading in got]  # type: ignore[index]
    assert len(times) == messages
    assert sorted(times) == list(range(min(times), min(times) + messages))


def test_batches_hold_readings_a_microsecond_apart() -> None:
    with Mosquitto() as broker:
        got = received(broker, 700, devices=7, readings_per_message=100)
    times = [r["time"] for _, readings in got for r in readings]  # type: ignore[attr-defined]
    assert sorted(times) == list(range(min(times), min(times) + 70_000))


def test_probes_carry_the_time_of_sending() -> None:
    with Mosquitto() as broker:
        before = time.time()
        got = received(broker, 600, devices=5, rate_per_s=600.0, probe_every=100)
    probes = [(device, r["time"] / 1e6 - before) for device, r in got if device.startswith("probe")]  # type: ignore[index]
    assert [device for device, _ in probes] == [f"probe{i}" for i in range(6)]
    for i, (_, after_s) in enumerate(probes):
        assert after_s == pytest.approx(probes[0][1] + i / 6, abs=0.1)
