"""An edge node of Sparkplug B at a real broker: asked for its births, and its death an alarm within seconds."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from devices.registry import Registry
from ingest.settings import BrokerSettings, Feed
from telemetry.directory import Datastream, Device
from tests.ingest.sparkplug_node import Specified, bd_seq, encode, level, rebirth
from tests.pantau.running import SITE, get, running, settings_for, wait_for
from tests.real_parts.mosquitto import Mosquitto

pytestmark = pytest.mark.mosquitto

TOPIC = "spBv1.0/banjir/{}/pos-1"


class EdgeNode:
    """A node with one device, which sends by alias and is born again when it is asked to."""

    def __init__(self, port: int, session: int) -> None:
        self.session, self.seq, self.asked = session, 0, 0
        self._lock = threading.Lock()
        self.ready = threading.Event()
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"pos-1-{session}")
        self.client.will_set(TOPIC.format("NDEATH"), encode(bd_seq(session)), qos=1)
        self.client.on_connect = lambda client, *_: client.subscribe(TOPIC.format("NCMD"), qos=1)
        self.client.on_subscribe = lambda *_: self.ready.set()
        self.client.on_message = self._commanded
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert self.ready.wait(10)

    def _commanded(self, _client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        for metric in Specified.FromString(message.payload).metrics:
            if metric.name == "Node Control/Rebirth" and metric.boolean_value:
                self.asked += 1
                self.is_born()

    def _send(self, topic: str, *metrics: dict[str, Any]) -> None:
        now = time.time_ns() // 1_000_000
        payload = encode(*({"timestamp": now} | m for m in metrics), seq=self.seq, timestamp=now)
        self.seq = (self.seq + 1) % 256
        self.client.publish(topic, payload, qos=0)

    def is_born(self) -> None:
        with self._lock:
            self.seq = 0
            self._send(TOPIC.format("NBIRTH"), bd_seq(self.session), rebirth())
            self._send(TOPIC.format("DBIRTH") + "/gauge-a", level(1.0, alias=7))

    def sends(self, value: float) -> None:
        with self._lock:
            self._send(TOPIC.format("DDATA") + "/gauge-a", {"alias": 7, "datatype": 10, "double_value": value})

    def loses_a_message(self) -> None:
        with self._lock:
            self.seq = (self.seq + 1) % 256

    def is_killed(self) -> None:
        """Its connection ends without a word, as that of a process that is killed."""
        sock = self.client.socket()
        assert sock is not None
        self.client.loop_stop()
        sock.shutdown(socket.SHUT_RDWR)
        sock.close()


def silences(pipeline: Any) -> dict[str, int]:
    """Device → severity of its silence alarm."""
    alarms = get(pipeline, "/api/alarms")["alarms"]
    return {a["subject"]: a["severity"] for a in alarms if a["kind"] == "silence" and a["severity"]}


def readings(pipeline: Any) -> int:
    count: int = pipeline.counts.readings
    return count


def test_an_edge_node_through_births_a_gap_and_its_death(tmp_path: Path) -> None:
    with Mosquitto() as broker:
        settings = settings_for(tmp_path, broker.port)
        feed = Feed("spBv1.0/banjir/#", "sparkplug_b")
        settings = replace(
            settings, brokers=(BrokerSettings("main", "127.0.0.1", broker.port, topics=(), feeds=(feed,)),)
        )
        settings.data.folder.mkdir(parents=True, exist_ok=True)
        registry = Registry(settings.data.registry)
        registry.save(
            city="kota",
            utc_offset_h=7.0,
            sites=[SITE],
            devices=[Device(n, SITE.id, silence_after_s=600.0) for n in ("pos-1", "gauge-a")],
            datastreams=[
                Datastream("level", SITE.id, "gauge-a", "water_level_m"),
                Datastream("battery", SITE.id, "pos-1", "battery_v"),
            ],
        )
        registry.close()
        node = EdgeNode(broker.port, 0)
        node.is_born()  # before we listen: we have missed it
        with running(settings) as pipeline:
            node.sends(1.1)
            wait_for(lambda: node.asked == 1, "the node to be asked for the births that we have missed")
            wait_for(lambda: readings(pipeline) == 1, "the value of the birth")
            assert pipeline.counts.refused == {"unknown_alias": 1}
            node.sends(1.2)
            wait_for(lambda: readings(pipeline) == 2, "a value by alias")
            (found,) = pipeline.receiver._routes.values()
            form: Any = found.feed_of(TOPIC.format("NDATA"))
            node.loses_a_message()
            node.sends(1.3)
            wait_for(lambda: readings(pipeline) == 3, "the value after the gap")
            assert form.format.lost == 1
            assert silences(pipeline) == {}
            killed = time.monotonic()
            node.is_killed()
            wait_for(lambda: silences(pipeline) == {"gauge-a": 1, "pos-1": 1}, "both to be silent", timeout_s=2.0)
            took = time.monotonic() - killed
            assert took < 2.0
            again = EdgeNode(broker.port, 1)
            again.is_born()
            wait_for(lambda: silences(pipeline) == {}, "both to be alive")
            again.client.disconnect()  # in good order: a node says nothing of its death to the broker then
            again.client.loop_stop()
            told_at = pipeline.state.silence.told_at.tolist()
        # Killed or stopped, the journal gives the same alarms again.
        (tmp_path / "snapshot.bin").unlink(missing_ok=True)
        with running(settings) as pipeline:
            assert silences(pipeline) == {}
            assert pipeline.state.silence.told_at.tolist() == told_at
