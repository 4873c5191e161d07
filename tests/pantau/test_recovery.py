"""A start after files were lost, damaged or swapped: nothing stored is destroyed, and a sentence says why."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from devices.registry import Registry
from ingest.errors import JournalFullError
from ingest.settings import ClockSource
from pantau import runtime
from pantau.runtime import Pipeline
from pantau.settings import CitySettings, ConfigurationError, Settings
from pantau.snapshot import Snapshot, SnapshotDamagedError
from pantau.startup import StartupError
from storage.embedded import EmbeddedStore
from telemetry.directory import Datastream, Device, Ladder, Step
from tests.pantau.running import SITE, get, publisher, register, running, settings_for, wait_for
from tests.real_parts.mosquitto import Mosquitto

pytestmark = pytest.mark.mosquitto
EVERYTHING = (0, 2**62)


@pytest.fixture
def broker() -> Iterator[Mosquitto]:
    with Mosquitto(persistence=True) as mosquitto:
        yield mosquitto


def stored(settings: Settings) -> int:
    store = EmbeddedStore(settings.store.folder, read_only=True)
    try:
        return store.count_readings(*EVERYTHING)
    finally:
        store.close()


def take(settings: Settings, port: int, values: list[float]) -> None:
    """Run a pipeline for as long as it takes to store some readings of g0."""
    with running(settings) as pipeline, publisher(port) as publish:
        for value in values:
            publish("pantau/v1/kota/g0", {"time": time.time_ns(), "property": "water_level_m", "value": value})
        wait_for(lambda: pipeline.writer.status().readings_written >= len(values), "the readings to be stored")


def test_a_deleted_journal_costs_nothing_that_is_stored(tmp_path: Path, broker: Mosquitto) -> None:
    settings = settings_for(tmp_path, broker.port)
    register(settings)
    take(settings, broker.port, [0.1, 2.5, 0.2])
    shutil.rmtree(tmp_path / "journal")
    take(settings, broker.port, [0.3])
    take(settings, broker.port, [0.4])
    assert stored(settings) == 5


def test_a_state_of_another_version_costs_nothing_that_is_stored(tmp_path: Path, broker: Mosquitto) -> None:
    settings = settings_for(tmp_path, broker.port)
    register(settings)
    take(settings, broker.port, [0.1, 2.5, 0.2])
    snapshot = Snapshot.read(tmp_path / "snapshot.bin")
    assert snapshot is not None
    replace(snapshot, state=b"of another version").write(tmp_path / "snapshot.bin")
    for file in sorted((tmp_path / "journal").glob("*.journal"))[:-1]:
        file.unlink()
    take(settings, broker.port, [0.3])
    assert stored(settings) == 4


def test_a_deleted_journal_and_state_begin_anew_and_keep_what_is_stored(tmp_path: Path, broker: Mosquitto) -> None:
    settings = settings_for(tmp_path, broker.port)
    register(settings)
    take(settings, broker.port, [0.1, 2.5])
    shutil.rmtree(tmp_path / "journal")
    (tmp_path / "snapshot.bin").unlink()
    take(settings, broker.port, [0.3])
    take(settings, broker.port, [0.4])
    assert stored(settings) == 4


def test_a_damaged_state_is_named_and_deleting_it_keeps_what_is_stored(tmp_path: Path, broker: Mosquitto) -> None:
    settings = settings_for(tmp_path, broker.port)
    register(settings)
    take(settings, broker.port, [0.1, 2.5])
    snapshot = tmp_path / "snapshot.bin"
    content = bytearray(snapshot.read_bytes())
    content[-1] ^= 1
    snapshot.write_bytes(content)
    with pytest.raises(SnapshotDamagedError, match=r"snapshot\.bin is damaged; delete it"), running(settings):
        pass
    snapshot.unlink()
    with running(settings) as pipeline:  # the journal has it all
        assert get(pipeline, "/api/alarms")["alarms"][0]["severity"] == 2
    assert stored(settings) == 2


def test_a_fault_between_journal_and_store_loses_nothing(
    tmp_path: Path, broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(tmp_path, broker.port)
    register(settings)
    with pytest.raises(ZeroDivisionError):
        pipeline = Pipeline(settings)
        pipeline.start()
        try:
            wait_for(lambda: all(b.connected for b in pipeline.receiver.status()), "the broker")
            with publisher(broker.port) as publish:
                publish("pantau/v1/kota/g0", {"property": "water_level_m", "value": 2.5})

            def fails(*_: Any, **__: Any) -> Any:
                raise ZeroDivisionError

            monkeypatch.setattr(runtime, "step", fails)
            for _ in range(50):
                pipeline.work()
        finally:
            pipeline.close()
    monkeypatch.undo()
    with running(settings) as pipeline:
        assert get(pipeline, "/api/alarms")["alarms"][0]["severity"] == 2
        wait_for(lambda: pipeline.store.count_readings(*EVERYTHING) == 1, "the reading")


def test_a_registry_with_other_datastreams_is_refused(tmp_path: Path, broker: Mosquitto) -> None:
    settings = settings_for(tmp_path, broker.port)
    register(settings)
    take(settings, broker.port, [0.1])
    for file in tmp_path.glob("registry.sqlite*"):
        file.unlink()
    with contextlib.closing(Registry(settings.data.registry)) as registry:
        registry.save(
            city="kota",
            utc_offset_h=7.0,
            sites=[SITE],
            devices=[Device("g0", SITE.id)],
            datastreams=[
                Datastream("g0.battery", SITE.id, "g0", "battery_v"),
                Datastream("g0.level", SITE.id, "g0", "water_level_m", ladder=Ladder((Step(0.5, 3, "x"),))),
            ],
        )
    with pytest.raises(ConfigurationError, match="not the one that the saved state belongs to"), running(settings):
        pass


def test_a_deleted_registry_is_said_and_putting_it_back_goes_on(tmp_path: Path, broker: Mosquitto) -> None:
    settings = settings_for(tmp_path, broker.port)
    register(settings)
    take(settings, broker.port, [0.1])
    for file in tmp_path.glob("registry.sqlite*"):
        file.rename(tmp_path / f"kept-{file.name}")
    with pytest.raises(ConfigurationError, match="not the one that the saved state belongs to"), running(settings):
        pass
    for file in tmp_path.glob("registry.sqlite*"):
        file.unlink()
    for file in tmp_path.glob("kept-registry.sqlite*"):
        file.rename(tmp_path / file.name.removeprefix("kept-"))
    take(settings, broker.port, [0.2])
    assert stored(settings) == 2


def test_the_folder_of_another_city_is_refused(tmp_path: Path, broker: Mosquitto) -> None:
    settings = settings_for(tmp_path, broker.port)
    register(settings)
    take(settings, broker.port, [0.1])
    other = replace(settings, city=CitySettings("lain"))
    with pytest.raises(ConfigurationError, match="is of the city 'kota'"), running(other):
        pass


def test_readings_from_the_future_of_this_computer_are_not_run_by_its_clock(tmp_path: Path, broker: Mosquitto) -> None:
    simulated = settings_for(tmp_path, broker.port, clock=ClockSource.BROKER)
    register(simulated)
    with running(simulated) as pipeline, publisher(broker.port) as publish:
        publish("pantau/v1/kota/clock", {"now": "2068-01-01T00:00:00Z"}, retain=True)
        publish("pantau/v1/kota/g0", {"time": "2068-01-01T00:00:00Z", "property": "water_level_m", "value": 1})
        wait_for(lambda: pipeline.counts.readings == 1, "the reading")
    with (
        pytest.raises(StartupError, match="readings up to 2068-01-01T00:00:00Z, ahead of this computer's clock"),
        running(settings_for(tmp_path, broker.port)),
    ):
        pass


def test_a_full_disk_can_be_stopped(tmp_path: Path, broker: Mosquitto, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_for(tmp_path, broker.port)
    register(settings)
    pipeline, stop = Pipeline(settings), threading.Event()
    pipeline.start()

    def full() -> int:
        raise JournalFullError("no room")

    monkeypatch.setattr(pipeline.journal, "commit", full)
    worker = threading.Thread(target=pipeline.run, args=(stop,))
    worker.start()
    time.sleep(1.5)
    stop.set()
    worker.join(5)
    assert not worker.is_alive()
    pipeline.close()
