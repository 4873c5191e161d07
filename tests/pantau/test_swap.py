"""A sensor is swapped while the pipeline runs: real broker, real registry, and the history goes on."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest

from devices.entities import CalibrationEntry, DeviceEntry, NewDatastream, SiteEntry
from devices.registry import Registry
from pantau.runtime import Pipeline
from telemetry.observations import NS_PER_S
from tests.pantau.running import LADDER, get, publisher, running, settings_for, wait_for
from tests.real_parts.account import assert_balances
from tests.real_parts.mosquitto import Mosquitto

pytestmark = pytest.mark.mosquitto

SITE = SiteEntry("jembatan", "Jembatan Dago", -6.88, 107.61)
MINUTE_NS = 60 * NS_PER_S


def readings(pipeline: Pipeline, now: int) -> list[tuple[int, float]]:
    """(minutes before ``now``, value) of all that is stored of the water level."""
    stream = next(d.id for d in pipeline.directory.datastreams if d.property == "water_level_m")
    found = pipeline.store.readings(stream, 0, 2**62)
    return [
        (round((now - at) / MINUTE_NS), round(value, 3))
        for at, value in zip(found.observed_at.tolist(), found.value.tolist(), strict=True)
    ]


def alarms(pipeline: Pipeline, kind: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = get(pipeline, "/api/alarms")["alarms"]
    return [a for a in found if a["kind"] == kind]


def test_history_goes_on_and_each_reading_lands_where_and_as_it_was_at_its_time(tmp_path: Path) -> None:
    now = time.time_ns()

    def ago(minutes: float) -> int:
        return now - round(minutes * MINUTE_NS)

    with Mosquitto(persistence=True) as broker:
        settings = settings_for(tmp_path, broker.port)
        settings.data.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(Registry(settings.data.registry)) as registry:
            registry.put_city("kota", 7.0, by="Sari")
            registry.register(
                DeviceEntry("lama", silence_after_s=2.0),
                SITE,
                by="Sari",
                at_ns=ago(180),
                datastreams=[NewDatastream("water_level_m", ladder=LADDER), NewDatastream("battery_v")],
            )
            registry.put_calibration(CalibrationEntry("lama", "water_level_m", 1.0, 0.1, ago(120)), by="Sari")
            with running(settings) as pipeline, publisher(broker.port) as publish:

                def send(device: str, minutes: float, level: float, unit: str = "m") -> None:
                    body = {"time": ago(minutes) // 1000, "property": "water_level_m", "value": level, "unit": unit}
                    publish(f"pantau/v1/kota/{device}", body)

                def stored(count: int) -> list[tuple[int, float]]:
                    return wait_for(
                        lambda: len(found := readings(pipeline, now)) == count and found, f"{count} stored readings"
                    )

                send("lama", 150, 1.5)  # before its first calibration
                send("lama", 90, 140, "cm")  # converted first, then calibrated: 1.40 + 0.10
                assert stored(2) == [(150, 1.5), (90, 1.5)]
                raised = wait_for(lambda: alarms(pipeline, "level"), "a level alarm")[0]["raised_at"]
                quiet = wait_for(lambda: alarms(pipeline, "silence"), "the old device to be silent")
                assert [a["subject"] for a in quiet] == ["lama"]

                registry.replace("lama", DeviceEntry("baru"), ago(60), by="Budi")
                registry.put_calibration(CalibrationEntry("baru", "water_level_m", 2.0, -0.5, ago(30)), by="Budi")
                replaced = time.monotonic()
                # The old device is retired: its silence is over. The level's alarm stands as it stood.
                wait_for(lambda: not alarms(pipeline, "silence"), "the old device's silence to end")
                assert time.monotonic() - replaced < 2.5
                assert [a["raised_at"] for a in alarms(pipeline, "level")] == [raised]

                send("baru", 50, 1.7)
                send("baru", 20, 1.1)  # 2 × 1.1 − 0.5
                send("lama", 70, 1.45)  # a late message of the old device, from before the swap
                send("lama", 55, 9.9)  # it is on a technician's desk by now
                send("baru", 65, 8.8)  # on the desk, before it was put up
                assert stored(5) == [(150, 1.5), (90, 1.5), (70, 1.55), (50, 1.7), (20, 1.7)]
                assert [a["raised_at"] for a in alarms(pipeline, "level")] == [raised]
                letters = wait_for(
                    lambda: len(kept := pipeline.dead_letters.list(10)) == 2 and kept, "the refused readings"
                )
                told = {k.letter.device: k.letter for k in letters}
                assert {str(letter.reason) for letter in told.values()} == {"not_installed"}
                assert "'lama' was not installed for water_level_m" in told["lama"].detail
                assert "until" in told["lama"].detail and "jembatan" in told["lama"].detail
                assert "from" in told["baru"].detail
                for device, count in (("lama", 3), ("baru", 2)):
                    account = wait_for(
                        lambda device=device, count=count: (
                            (a := get(pipeline, f"/api/account?device={device}"))["stored"] == count and a
                        ),
                        f"the account of {device}",
                    )
                    assert (account["received"], account["refused"]) == (count, {"not_installed": 1})
            with running(settings) as pipeline, publisher(broker.port) as publish:
                assert readings(pipeline, now) == [(150, 1.5), (90, 1.5), (70, 1.55), (50, 1.7), (20, 1.7)]
    assert_balances(tmp_path, sent={"lama": 4, "baru": 3}, refused=2)
    # From the journal alone, through every directory of its time, it all comes out again.
    (tmp_path / "snapshot.bin").unlink()
    pipeline = Pipeline(settings)
    pipeline.start()
    try:
        wait_for(lambda: len(readings(pipeline, now)) == 5, "the readings to be stored again")
        assert readings(pipeline, now) == [(150, 1.5), (90, 1.5), (70, 1.55), (50, 1.7), (20, 1.7)]
        assert [a["raised_at"] for a in alarms(pipeline, "level")] == [raised]
        assert not alarms(pipeline, "silence")
    finally:
        pipeline.close()
    assert_balances(tmp_path, sent={"lama": 4, "baru": 3}, refused=2)  # and nothing is counted twice
