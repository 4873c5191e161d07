"""Feeds of network servers on a real Mosquitto."""

from __future__ import annotations

import datetime
import json

import pytest

from ingest.refusals import Reason
from ingest.settings import BrokerSettings, Feed
from tests.ingest.lorawan_samples import EUI, FOLDER, city
from tests.ingest.mqtt import FAST, Publisher, collect, receiving
from tests.real_parts.mosquitto import Mosquitto

pytestmark = pytest.mark.mosquitto

FEEDS = (
    Feed("application/+/device/+/event/+", "chirpstack"),
    Feed("v3/+/devices/+/#", "the_things_stack"),
    Feed("loriot", "loriot"),
)


def test_uplinks_of_three_servers_become_readings_of_one_device() -> None:
    samples = FOLDER / "Milesight" / "EM310-UDL"
    chirpstack, things, loriot = (
        json.loads((samples / server / "uplink" / "payload.json").read_text())
        for server in ("ChirpStack", "ThingsStackCommunity", "LORIOT")
    )
    now = datetime.datetime.now(datetime.UTC)
    chirpstack["time"] = now.isoformat()
    things["uplink_message"]["received_at"] = (now - datetime.timedelta(seconds=1)).isoformat()
    loriot["ts"] = int(now.timestamp() * 1000) - 2000
    up = f"application/1/device/{EUI}/event/up"
    directory = city("milesight-em310-udl", ("water_level_m",))
    with Mosquitto() as broker:
        settings = BrokerSettings("lorawan", broker.host, broker.port, feeds=FEEDS, **FAST)  # type: ignore[arg-type]
        with receiving(settings) as receiver, Publisher(broker.port) as server:
            server.send(up.replace("/up", "/join"), '{"deviceInfo": {}}')
            server.send(up, json.dumps(chirpstack))
            server.send("v3/city@ttn/devices/eui-1/up", json.dumps(things))
            server.send("v3/city@ttn/devices/eui-1/join", '{"join_accept": {}}')
            server.send("loriot", json.dumps(loriot))
            server.send(up, json.dumps(chirpstack | {"deviceInfo": {"devEui": "ff" * 8}}))
            batches = collect(receiver, 6, city=directory)
    levels = [value for batch in batches for value in batch.observations.value.tolist()]
    times = [at for batch in batches for at in batch.observations.observed_at.tolist()]
    assert levels == pytest.approx([2.116] * 3)
    assert [round((times[0] - at) / 1e9, 1) for at in times] == pytest.approx([0, 1, 2], abs=0.2)
    (letter,) = [letter for batch in batches for letter in batch.dead_letters]
    assert letter.reason is Reason.UNKNOWN_DEVICE
    assert (letter.device, letter.format, letter.topic) == ("ff" * 8, "chirpstack", up)
