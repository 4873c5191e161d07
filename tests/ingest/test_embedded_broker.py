"""The receiver on the embedded broker, which the demo uses: sessions resume, acknowledgement is ours to give."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import paho.mqtt.client as mqtt

from ingest.settings import BrokerSettings
from tests.ingest.mqtt import FAST, collect, receiving, values
from tests.ingest.small_city import topic
from tests.real_parts.embedded_broker import embedded_broker


def settings(port: int, **more: Any) -> BrokerSettings:
    return BrokerSettings("embedded", "127.0.0.1", port, **(FAST | more))


def send(port: int, numbers: range) -> None:
    """As a device does: MQTT 3.1.1, QoS 1."""
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="device", protocol=mqtt.MQTTv311)
    client.connect("127.0.0.1", port, keepalive=60)
    client.loop_start()
    try:
        sent = [
            client.publish(
                topic("gauge-1"), f'{{"time": {time.time():.6f}, "property": "water_level_m", "value": {i}}}', qos=1
            )
            for i in numbers
        ]
        for message in sent:
            message.wait_for_publish(10)
            assert message.is_published()
    finally:
        client.disconnect()
        client.loop_stop()


def test_sessions_resume_and_nothing_is_lost() -> None:
    with contextlib.ExitStack() as stack:
        devices, pipeline = stack.enter_context(embedded_broker())
        with receiving(settings(pipeline)) as receiver:
            send(devices, range(100))
            assert values(collect(receiver, 100)) == list(range(100))
            send(devices, range(100, 120))
            collect(receiver, 20, acknowledge=False)
        send(devices, range(120, 130))  # while we are away
        with receiving(settings(pipeline)) as receiver:
            again = values(collect(receiver, 30))
            assert sorted(set(again)) == list(range(100, 130))
            send(devices, range(130, 140))
            # This broker hangs up once, on the question for drops: what it gave before may come a second time.
            while not set(range(130, 140)) <= set(again):
                again += values(collect(receiver, 1))
            assert set(again) == set(range(100, 140))


def test_more_than_its_window_flows_as_it_is_acknowledged() -> None:
    with embedded_broker(inflight=50) as (devices, pipeline), receiving(settings(pipeline)) as receiver:
        send(devices, range(2000))
        assert sorted(set(values(collect(receiver, 2000)))) == list(range(2000))
        status = receiver.status()[0]
        assert status.broker_dropped is None
        assert status.connects <= 2  # it hangs up once, on the question for drops
