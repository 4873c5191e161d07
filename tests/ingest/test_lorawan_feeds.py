"""Feeds of network servers on a real Mosquitto."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest

from ingest.dead_letters import DeadLetters
from ingest.formats import FORMATS
from ingest.mending import mark_mended
from ingest.readings import Readings
from ingest.receiver import Receiver
from ingest.refusals import Reason
from ingest.settings import BrokerSettings, Feed, Limits
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


def test_a_device_that_gets_its_model_later_gets_its_earlier_levels(tmp_path: Path) -> None:
    payload = (FOLDER / "Milesight" / "EM310-UDL" / "ChirpStack" / "uplink" / "payload.json").read_bytes()
    up = f"application/1/device/{EUI}/event/up"
    at = 1_684_741_625_404_859_000
    without, with_model = (city(model, ("water_level_m",)) for model in ("", "milesight-em310-udl"))
    readings = Readings(without, Limits())
    readings.announce("lorawan", [up.encode()], [payload])
    readings.begin(at, at)
    readings.read_as("chirpstack")
    FORMATS["chirpstack"]().decode(up, payload, readings)
    assert [letter.reason for letter in readings.dead_letters] == [Reason.UNDECODABLE]
    receiver = Receiver((BrokerSettings("lorawan", "127.0.0.1", 1, feeds=FEEDS),), city="demo")
    with DeadLetters(tmp_path / "dead-letters.sqlite") as letters:
        letters.keep(readings.dead_letters)
        assert mark_mended(letters, with_model) == 1
        batch = receiver.take_again(with_model, letters.marked(10, 10_000_000), at)
    assert batch.observations.value.tolist() == pytest.approx([2.116])
    assert batch.observations.observed_at.tolist() == [at]
    assert batch.retaken is not None and batch.retaken.refused == []
