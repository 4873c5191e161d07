"""A device that is registered late gets its earlier readings, by itself and exactly once, also where it is killed."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

import pytest

from devices.registry import Registry
from ingest.dead_letters import Filter
from ingest.steps import STEP, decode_step
from pantau.runtime import Pipeline
from pantau.settings import Settings
from telemetry.directory import Datastream, Device
from telemetry.observations import TAKEN_AGAIN
from tests.pantau.running import SITE, publisher, register, running, settings_for, wait_for
from tests.real_parts.mosquitto import Mosquitto

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
        from ingest.dead_letters import DeadLetters

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
