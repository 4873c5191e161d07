"""A device that is registered late gets its earlier readings, by itself and exactly once, also where it is killed."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from devices.registry import Registry
from ingest.dead_letters import DeadLetters, Filter
from ingest.settings import Feed
from ingest.steps import STEP, decode_step
from pantau.runtime import Pipeline
from pantau.settings import Settings
from storage.embedded import EmbeddedStore
from telemetry.directory import Datastream, Device
from telemetry.observations import TAKEN_AGAIN
from tests.pantau.running import SITE, publisher, register, running, settings_for, wait_for
from tests.pantau.test_killed import start, status
from tests.real_parts.account import assert_balances
from tests.real_parts.mosquitto import QUEUES_WITHOUT_LIMITS, Mosquitto, free_port

pytestmark = pytest.mark.mosquitto
EVERYTHING = (0, 2**62)


def register_late(settings: Settings, name: str = "late", gateway: bool = False) -> None:
    with contextlib.closing(Registry(settings.data.registry)) as registry:
        registry.save(
            city=settings.city.name,
            utc_offset_h=7.0,
            sites=[SITE],
            devices=[Device(name, SITE.id, silence_after_s=600.0, gateway=gateway)],
            datastreams=[Datastream(f"{name}.level", SITE.id, name, "water_level_m")],
        )


def levels(name: str, count: int, ago_s: int = 600) -> list[dict[str, Any]]:
    start = int(time.time()) - ago_s
    return [{"time": start + i, "property": "water_level_m", "value": 0.5 + i / 100} for i in range(count)]


def refused(pipeline: Pipeline) -> int:
    return pipeline.dead_letters.fill().kept


def test_a_device_registered_late_gets_its_earlier_readings(tmp_path: Path) -> None:
    with Mosquitto() as broker, publisher(broker.port) as publish:
        settings = settings_for(tmp_path, broker.port)
        register(settings)
        with running(settings) as pipeline:
            sent = levels("late", 20)
            for message in sent:
                publish("pantau/v1/kota/late", message)
            publish(
                "pantau/v1/kota/late", {"values": {"water_level_m": 2.0, "nonsense": 1}, "time": sent[0]["time"] - 9}
            )
            publish("pantau/v1/kota/other", sent[0])
            wait_for(lambda: refused(pipeline) == 22, "the refused messages")
            register_late(settings)
            wait_for(lambda: refused(pipeline) == 2, "the letters to be taken again")
            wait_for(lambda: len(pipeline.store.readings("late.level", *EVERYTHING)) == 21, "the readings in the store")
            found = pipeline.store.readings("late.level", *EVERYTHING)
            assert found.value[1:].tolist() == [m["value"] for m in sent]
            left = {(k.letter.device, str(k.letter.reason)): k.letter for k in pipeline.dead_letters.list()}
            assert left.keys() == {("late", "unknown_property"), ("other", "unknown_device")}
            assert left["late", "unknown_property"].fragment
            counts = pipeline.dead_letters
            assert counts.retaken_for_device("late") == {"unknown_device": 21}
            assert counts.count_for_device("late") == {"unknown_device": 21, "unknown_property": 1}
            assert counts.count_for_device("other") == {"unknown_device": 1}
    total = assert_balances(tmp_path, sent=23, refused=2)
    assert total.refused == {"unknown_device": 1, "unknown_property": 1}


class KilledError(BaseException):
    """Stands for kill -9: nothing after it happens."""


def kill_at(pipeline: Pipeline, where: str) -> None:
    """Have the pipeline killed when it comes to this point with letters."""
    journal, settle, put = pipeline._journal, pipeline.retaking.settle, pipeline._hand_to_store

    def before_the_journal(record: bytes, *more: Any) -> int:
        if decode_step(record).letters:
            raise KilledError
        return journal(record, *more)

    def after_the_journal(batch: Any) -> None:
        if batch.retaken is not None:
            raise KilledError
        settle(batch)

    def after_settling(position: int, results: Any) -> None:
        if results.readings.remark.any():
            raise KilledError
        put(position, results)

    if where == "journal":
        pipeline._journal = before_the_journal  # type: ignore[method-assign]
    elif where == "settle":
        pipeline.retaking.settle = after_the_journal  # type: ignore[method-assign]
    else:
        pipeline._hand_to_store = after_settling  # type: ignore[method-assign]


@pytest.mark.parametrize("where", ["journal", "settle", "store"])
def test_letters_are_taken_exactly_once_whenever_the_pipeline_is_killed(tmp_path: Path, where: str) -> None:
    with Mosquitto() as broker, publisher(broker.port) as publish:
        settings = settings_for(tmp_path, broker.port)
        register(settings)
        with running(settings) as pipeline:
            message = {"values": {"water_level_m": 2.0, "nonsense": 1}, "time": int(time.time()) - 60}
            publish("pantau/v1/kota/late", message)
            wait_for(lambda: refused(pipeline) == 1, "the refused message")
        register_late(settings)

        pipeline = Pipeline(settings)
        pipeline.start()
        kill_at(pipeline, where)
        with pytest.raises(KilledError):
            for _ in range(300):
                pipeline.work()
        pipeline._complete = False  # so that nothing is saved
        pipeline.close()
        with running(settings) as pipeline:
            wait_for(lambda: len(pipeline.store.readings("late.level", *EVERYTHING)) == 1, "the reading")
            time.sleep(1.5)
            (left,) = pipeline.dead_letters.list()
            assert left.letter.reason == "unknown_property"
            assert pipeline.dead_letters.retaken_by_reason() == {"unknown_device": 1}
            assert pipeline.dead_letters.count_by_reason() == {"unknown_device": 1, "unknown_property": 1}
            steps = [decode_step(p) for _, kind, p in pipeline.journal.read(pipeline.journal.start) if kind == STEP]
            (taken,) = [s for s in steps if s.letters]
            assert taken.observations.remark.tolist() == [TAKEN_AGAIN]
    assert_balances(tmp_path, sent=2, refused=1)


def test_people_have_letters_taken_again_also_without_a_running_pipeline(tmp_path: Path) -> None:
    with Mosquitto() as broker, publisher(broker.port) as publish:
        settings = settings_for(tmp_path, broker.port)
        register(settings)
        with running(settings) as pipeline:
            publish("pantau/v1/kota/g0", b"{broken")
            publish(
                "pantau/v1/kota/g0", {"time": int(time.time()), "property": "water_level_m", "value": 1}, retain=True
            )
            wait_for(lambda: refused(pipeline) >= 1, "the refused message")
            first = pipeline.dead_letters.list()[-1].id
        with DeadLetters(tmp_path / "dead_letters.sqlite") as letters:
            assert letters.mark(Filter(device="g0")) == 1
            assert letters.mark(Filter(device="g0")) == 0
        with running(settings) as pipeline:
            wait_for(lambda: pipeline.dead_letters.get(first) is None, "the letter to be taken again")
            again = [k for k in pipeline.dead_letters.list() if k.letter.reason == "malformed_json"]
            assert len(again) == 1
            assert not again[0].marked
            assert pipeline.dead_letters.retaken_by_reason() == {}
            assert pipeline.dead_letters.count_by_reason()["malformed_json"] == 1


@pytest.mark.timeout(200)
def test_kill_9_while_letters_are_taken_loses_and_doubles_none(tmp_path: Path) -> None:
    """A real process, killed at random moments; each message gives one reading and one letter that stays."""
    letters_sent, chance = 2000, random.Random(3)
    with Mosquitto(QUEUES_WITHOUT_LIMITS) as broker:
        settings = settings_for(tmp_path / "data", broker.port, city="sheffield")
        register(settings)
        page_port = free_port()
        process = start(tmp_path, broker.port, page_port)
        folder = settings.data.folder
        wait_for(lambda: status(page_port), "the page", 60)
        client = mqtt.Client(CallbackAPIVersion.VERSION2)
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        client.publish("pantau/v1/sheffield/clock", json.dumps({"now": 1_700_000_000}), qos=1).wait_for_publish(10)
        for i in range(letters_sent):
            body = {"time": 1_699_990_000 + i, "values": {"water_level_m": i / 1000, "nonsense": i}}
            sent = client.publish("pantau/v1/sheffield/late", json.dumps(body), qos=1)
        sent.wait_for_publish(20)
        client.disconnect()
        client.loop_stop()

        def kept() -> int:
            with DeadLetters(folder / "dead_letters.sqlite") as letters:
                return letters.fill().kept

        wait_for(lambda: kept() == letters_sent, "all letters", 60)
        register_late(settings)
        for _ in range(3):
            time.sleep(chance.uniform(0.1, 1.2))
            process.kill()
            process.wait()
            process = start(tmp_path, broker.port, page_port)
            wait_for(lambda: status(page_port), "the page after a restart", 60)

        def counts() -> dict[str, int]:
            with DeadLetters(folder / "dead_letters.sqlite") as letters:
                return letters.retaken_by_reason()

        wait_for(lambda: counts() == {"unknown_device": letters_sent}, "all letters to be taken again", 60)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    with DeadLetters(folder / "dead_letters.sqlite") as letters:
        assert letters.count_by_reason() == {"unknown_device": letters_sent, "unknown_property": letters_sent}
        assert letters.fill().kept == letters_sent
    with contextlib.closing(EmbeddedStore(folder / "store")) as store:
        found = store.readings("late.level", *EVERYTHING)
        assert found.observed_at.tolist() == [(1_699_990_000 + i) * 10**9 for i in range(letters_sent)]
        assert set(found.remark.tolist()) == {TAKEN_AGAIN}


def test_a_reading_of_a_gateway_and_one_of_a_feed_are_taken_again_by_name(tmp_path: Path) -> None:
    with Mosquitto() as broker, publisher(broker.port) as publish:
        settings = settings_for(tmp_path, broker.port)
        feed = Feed("elsewhere/#", "pantau_json")
        settings = replace(settings, brokers=(replace(settings.brokers[0], feeds=(feed,)),))
        register(settings)
        at = int(time.time())
        one = {"time": at, "property": "water_level_m", "value": 1}
        with running(settings) as pipeline:
            publish("pantau/v1/kota/hub", [one | {"device": "late"}, one | {"device": "g1", "value": 2}])
            publish("elsewhere/late", one | {"time": at + 1})
            wait_for(lambda: refused(pipeline) == 2, "the refused messages")
            register_late(settings, "hub", gateway=True)
            wait_for(lambda: len(pipeline.store.readings("g1.level", *EVERYTHING)) == 1, "the gateway's reading")
            register_late(settings)
            wait_for(lambda: len(pipeline.store.readings("late.level", *EVERYTHING)) == 2, "both readings")
            wait_for(lambda: refused(pipeline) == 0, "no letter to be left")


def test_a_letter_that_names_a_device_in_characters_that_are_none_stops_nothing(tmp_path: Path) -> None:
    with Mosquitto() as broker, publisher(broker.port) as publish:
        settings = settings_for(tmp_path, broker.port)
        register(settings)
        register_late(settings, "hub", gateway=True)
        reading = {"time": int(time.time()), "property": "water_level_m", "value": 1}
        with running(settings) as pipeline:
            publish("pantau/v1/kota/hub", [reading, reading | {"device": "\ud800"}])  # half of a surrogate pair
            wait_for(lambda: refused(pipeline) == 1, "the letter")
            assert pipeline.dead_letters.mark() == 1
            wait_for(lambda: pipeline.dead_letters.fill().marked == 0, "it to be taken again")
            publish("pantau/v1/kota/g0", reading)
            wait_for(lambda: len(pipeline.store.readings("g0.level", *EVERYTHING)) == 1, "the next reading")
            assert refused(pipeline) == 1
