"""One, two or three receiving processes, killed or not: the same readings, windows and alarms."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from simulators.recording import load_recording
from storage.embedded import EmbeddedStore
from tests.pantau.running import get, publisher, register, running, settings_for, wait_for
from tests.pantau.test_killed import DON, run
from tests.real_parts.mosquitto import Mosquitto

pytestmark = pytest.mark.mosquitto


@pytest.mark.timeout(400)
def test_any_number_of_processes_gives_the_same(tmp_path: Path) -> None:
    recording = load_recording(DON, DON / "map.toml")
    chance = random.Random(11)

    def kill(pid: int, number: int) -> bool:
        """A receiving process, then the pipeline, in turn."""
        if number % 2:
            return False
        receiving = psutil.Process(pid).children()
        if receiving:
            os.kill(chance.choice(receiving).pid, signal.SIGKILL)
        return True

    one, sent = run(tmp_path / "one", recording, 0)
    others = {
        "two": run(tmp_path / "two", recording, 0, 2)[0],
        "three": run(tmp_path / "three", recording, 0, 3)[0],
        "killed": run(tmp_path / "killed", recording, 4, 2, kill)[0],
    }
    assert sum(len(one[d.id][0]) for d in recording.datastreams) == sent.readings
    assert len(one["alarms"]) > 10
    for which, found in others.items():
        assert found["alarms"] == one["alarms"], which
        for name in one.keys() - {"alarms"}:
            for mine, theirs in zip(found[name], one[name], strict=True):
                np.testing.assert_array_equal(mine, theirs, err_msg=f"{which} {name}")


def test_a_device_that_floods_is_limited_and_the_others_do_not_notice(tmp_path: Path) -> None:
    """One device sends as fast as it can, in batches; 50 others send a reading each half second."""
    others, rounds = 50, 8
    with Mosquitto() as broker:
        settings = settings_for(tmp_path, broker.port)
        settings = replace(
            settings, limits=replace(settings.limits, device_readings_per_s=20.0, device_burst_readings=1000)
        )
        register(settings, devices=others + 1)
        with running(settings) as pipeline, publisher(broker.port) as flood, publisher(broker.port) as publish:
            process = psutil.Process()
            before = process.memory_info().rss
            sent = flooded = 0
            late_s: list[float] = []
            for number in range(rounds):
                ends = time.monotonic() + 0.5
                for device in range(1, others + 1):
                    publish(f"pantau/v1/kota/g{device}", {"property": "battery_v", "value": number + device / 100})
                    sent += 1
                at = time.monotonic()
                while time.monotonic() < ends:
                    now = time.time()
                    batch = [{"time": now - i / 1000, "property": "water_level_m", "value": 0.1} for i in range(500)]
                    flood("pantau/v1/kota/g0", batch)
                    flooded += 500
                expected = number + others / 100
                wait_for(
                    lambda v=expected: v in [r.value for r in pipeline.watch.latest(f"g{others}")],  # type: ignore[misc]
                    "the last device's reading",
                    5.0,
                )
                late_s.append(time.monotonic() - at)
            wait_for(
                lambda: pipeline.counts.readings + pipeline.counts.refused.get("rate_limited", 0) == sent + flooded,
                "every reading to be taken or refused",
            )
            refused = pipeline.counts.refused["rate_limited"]
            assert sum(pipeline.counts.refused.values()) == refused
            assert flooded - refused <= 1000 + 2 * 20 * (rounds + 2)
            assert pipeline.dead_letters.count_for_device("g0") == {"rate_limited": refused}
            assert pipeline.dead_letters.fill().kept <= 2
            assert process.memory_info().rss - before < 150 * 2**20
            wait_for(
                lambda: (
                    [(d["device"], d["refused"]) for d in get(pipeline, "/api/status")["limited_devices"]]
                    == [("g0", refused)]
                ),
                "the warning",
            )
        assert max(late_s) < 2.5
        found = EmbeddedStore(settings.store.folder, read_only=True)
        for device in range(1, others + 1):
            assert len(found.readings(f"g{device}.battery", 0, 2**62)) == rounds
        found.close()


def test_what_waits_is_told_and_when_it_will_be_done(tmp_path: Path) -> None:
    """The core is slowed down: memory stays bounded, and nothing that was acknowledged is lost."""
    messages, size = 5000, 4000
    with Mosquitto() as broker:
        settings = settings_for(tmp_path, broker.port)
        limits = replace(
            settings.limits, max_waiting_bytes=2_000_000, max_batch_messages=100, device_readings_per_s=0.0
        )
        settings = replace(settings, limits=limits)
        register(settings, devices=1)
        with running(settings) as pipeline, publisher(broker.port) as publish:
            process = psutil.Process()
            real = pipeline._process

            def slow(batch: object) -> None:
                if batch is not None:
                    time.sleep(0.25)
                real(batch)  # type: ignore[arg-type]

            pipeline._process = slow  # type: ignore[method-assign]
            before = process.memory_info().rss
            now = time.time() - messages
            for i in range(messages):
                body = json.dumps({"time": now + i, "property": "water_level_m", "value": i / messages})
                publish("pantau/v1/kota/g0", body + " " * size)
            seen: list[tuple[int, float | None]] = []
            peak = 0
            ends = time.monotonic() + 60
            while pipeline.counts.readings < messages:
                assert time.monotonic() < ends, pipeline.counts
                seen.append((pipeline.live.health.backlog_messages, pipeline.live.health.clear_in_s))
                peak = max(peak, process.memory_info().rss)
                time.sleep(0.05)
            assert peak - before < 60 * 2**20  # 20 MB of payload were sent
            assert max(waiting for waiting, _ in seen) > 1000
            forecasts = [(waiting, clear) for waiting, clear in seen if clear]
            assert forecasts
            # 100 messages each 0.25 s and a bit: less than 400 a second. How much less is the machine's to say.
            assert all(clear > waiting / 1000 for waiting, clear in forecasts)
            wait_for(lambda: pipeline.live.health.clear_in_s == 0.0, "the end of the backlog")
            wait_for(
                lambda: len(pipeline.store.readings("g0.level", 0, 2**62)) == messages, "every reading in the store"
            )
