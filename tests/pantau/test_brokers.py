"""Two real brokers, one of them stopped: only its devices are held, and it is one alarm of its own."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from devices.registry import Registry
from ingest.settings import BrokerSettings
from pantau.runtime import Pipeline
from processing.core import LATENESS_S
from telemetry.directory import Datastream, Device
from tests.pantau.running import SITE, get, publisher, running, settings_for, wait_for
from tests.real_parts.account import assert_balances
from tests.real_parts.mosquitto import Mosquitto

pytestmark = pytest.mark.mosquitto

SILENCE_S = 4.0
AWAY_S = 1.5
MAIN, OTHER = ("a-talks", "a-silent"), ("b-talks", "b-silent")


def subjects(pipeline: Pipeline, kind: str) -> list[str]:
    """Subjects of the alarms that stand."""
    return sorted(a["subject"] for a in get(pipeline, "/api/alarms")["alarms"] if a["kind"] == kind)


def test_one_broker_down_holds_its_devices_alone_and_is_one_alarm(tmp_path: Path) -> None:
    with Mosquitto() as main, Mosquitto() as other:
        settings = settings_for(tmp_path, main.port)
        fast: dict[str, Any] = {"backoff_first_s": 0.1, "backoff_max_s": 0.3, "alarm_after_s": AWAY_S}
        settings = replace(
            settings,
            brokers=(
                BrokerSettings("utama", "127.0.0.1", main.port, **fast),
                BrokerSettings("cadangan", "127.0.0.1", other.port, **fast),
            ),
        )
        settings.data.folder.mkdir(parents=True, exist_ok=True)
        registry = Registry(settings.data.registry)
        registry.save(
            city="kota",
            utc_offset_h=7.0,
            sites=[SITE],
            devices=[Device(n, SITE.id, silence_after_s=SILENCE_S) for n in MAIN + OTHER],
            datastreams=[Datastream(f"{n}.level", SITE.id, n, "water_level_m") for n in MAIN + OTHER],
        )
        registry.close()
        value = 0.0

        def say(publish: Any, device: str) -> None:
            nonlocal value
            value += 0.01
            publish(f"pantau/v1/kota/{device}", {"property": "water_level_m", "value": value})

        with running(settings) as pipeline, publisher(main.port) as to_main:
            with publisher(other.port) as to_other:
                for name in MAIN:
                    say(to_main, name)
                for name in OTHER:
                    say(to_other, name)
                wait_for(lambda: get(pipeline, "/api/status")["counts"]["readings"] == 4, "all four to be heard")
            stopped_at = time.time_ns()
            other.stop()
            began = time.monotonic()
            seen: set[str] = set()
            while time.monotonic() - began < SILENCE_S + LATENESS_S + 3.0:
                say(to_main, "a-talks")
                seen |= set(subjects(pipeline, "silence"))
                time.sleep(0.3)
            assert seen == {"a-silent"}  # the other broker's silent device is found as ever
            assert subjects(pipeline, "broker") == ["cadangan"]
            alarm = next(a for a in get(pipeline, "/api/alarms")["alarms"] if a["kind"] == "broker")
            assert (alarm["severity"], alarm["domain"], alarm["site"], alarm["state"]) == (
                2,
                "device",
                "",
                "unacknowledged",
            )
            raised = int(alarm["id"].rsplit(":", 1)[1])
            assert AWAY_S - 0.1 < (raised - stopped_at) / 1e9 < AWAY_S + 1.5
            assert get(pipeline, "/api/status")["alarms"]["jobs"] == 2

            other.start()
            wait_for(lambda: not subjects(pipeline, "broker"), "the broker's alarm to end")
            back = time.monotonic()
            with publisher(other.port) as to_other:
                while "b-silent" not in subjects(pipeline, "silence"):
                    assert time.monotonic() - back < SILENCE_S + LATENESS_S + 8.0
                    say(to_main, "a-talks")
                    say(to_other, "b-talks")
                    time.sleep(0.3)
            assert time.monotonic() - back > SILENCE_S - 1.0  # it had its whole time again
            assert subjects(pipeline, "silence") == ["a-silent", "b-silent"]
            wait_for(
                lambda: [r.state for r in pipeline.store.transitions(0, 2**62) if r.kind == "broker"] == [1, 0],
                "the broker's alarm in the store",
            )
            record = next(r for r in pipeline.store.transitions(0, 2**62) if r.kind == "broker")
            assert (record.subject, record.site, record.domain) == ("cadangan", "", "device")
            past = get(pipeline, f"/api/alarms?from={stopped_at // 10**6}&to={time.time_ns() // 10**6}")["alarms"]
            assert [a["subject"] for a in past if a["kind"] == "broker"] == ["cadangan"]
            history = Counter((r.kind, r.subject, r.at, r.state) for r in pipeline.store.transitions(0, 2**62))
        # The journal carries brokers and links: replayed from its beginning it tells the same story.
        (tmp_path / "snapshot.bin").unlink()
        pipeline = Pipeline(settings)
        pipeline.start()
        try:
            wait_for(
                lambda: (
                    history <= Counter((r.kind, r.subject, r.at, r.state) for r in pipeline.store.transitions(0, 2**62))
                ),
                "the same alarms after a replay",
            )
            assert pipeline.state.silence.broker.tolist() == [0, 0, 1, 1]
        finally:
            pipeline.close()
        assert_balances(tmp_path, sent=round(value * 100), refused=0)
