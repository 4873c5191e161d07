"""The whole pipeline on a real Mosquitto: from a message to the alarm, the store and the page; and through faults."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread

import pytest

from devices.registry import Registry
from ingest.journal import Journal
from ingest.settings import BrokerSettings
from ingest.steps import STEP, decode_step
from pantau.runtime import Pipeline
from pantau.settings import ConfigurationError, PageSettings
from storage.embedded import EmbeddedStore
from storage.settings import StoreSettings
from telemetry.directory import Datastream, Device
from telemetry.observations import NS_PER_S
from tests.pantau.running import SITE, get, post, publisher, register, running, settings_for, wait_for
from tests.real_parts.account import assert_balances
from tests.real_parts.influxdb import InfluxDB
from tests.real_parts.mosquitto import Mosquitto, free_port
from web.server import ListenError

pytestmark = pytest.mark.mosquitto
EVERYTHING = (0, 2**62)


@pytest.fixture
def broker() -> Iterator[Mosquitto]:
    with Mosquitto(persistence=True) as mosquitto:
        yield mosquitto


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def test_from_a_message_to_alarm_store_and_page(tmp_path: Path, broker: Mosquitto) -> None:
    settings = settings_for(tmp_path, broker.port)
    register(settings)
    with running(settings) as pipeline, publisher(broker.port) as publish:
        t = now_ms()
        for i, level in enumerate((0.5, 1.5, 2.5)):
            publish("pantau/v1/kota/g0", {"time": t - 2000 + i, "property": "water_level_m", "value": level})
        publish(
            "pantau/v1/kota/g1",
            {
                "time": t,
                "values": {"water_level_m": 40, "battery_v": 3600},
                "units": {"water_level_m": "cm", "battery_v": "mV"},
            },
        )
        alarms = wait_for(lambda: get(pipeline, "/api/alarms")["alarms"], "an alarm")
        wait_for(lambda: get(pipeline, "/api/status")["counts"]["stored"] == 5, "5 stored readings")
        assert [a["subject"] for a in alarms] == ["g0.level"]
        wait_for(lambda: get(pipeline, "/api/alarms")["alarms"][0]["severity"] == 2, "Siaga 2")

        post(pipeline, "/api/alarms/acknowledge", {"id": alarms[0]["id"], "by": "Sari", "comment": "tim menuju lokasi"})
        acknowledged = wait_for(
            lambda: [a for a in get(pipeline, "/api/alarms")["alarms"] if a["state"] == "acknowledged"],
            "the acknowledgement",
        )
        assert acknowledged[0]["acknowledged_by"] == "Sari"
        series = get(pipeline, "/api/series?datastream=g1.level&from=" + str(t - 60_000) + "&to=" + str(t + 60_000))
        assert 0.4 in [float(x) for x in series["value"]]
        account = get(pipeline, "/api/account?device=g0")
        assert (account["received"], account["stored"], account["duplicate"]) == (3, 3, 0)
    assert_balances(tmp_path, sent={"g0": 3, "g1": 2}, refused=0)
    with Journal(tmp_path / "journal") as journal:
        actions = [a for _, kind, data in journal.read() if kind == STEP for a in decode_step(data).actions]
    assert [(a.by, a.comment) for a in actions] == [("Sari", "tim menuju lokasi")]


def test_bad_input_is_counted_kept_and_does_not_stop_the_stream(tmp_path: Path, broker: Mosquitto) -> None:
    settings = settings_for(tmp_path, broker.port)
    register(settings)
    topic = "pantau/v1/kota/g0"
    with publisher(broker.port) as publish:
        publish("pantau/v1/kota/g1", {"time": now_ms(), "property": "water_level_m", "value": 1}, retain=True)
    with running(settings) as pipeline, publisher(broker.port) as publish:
        t = now_ms()
        bad = {
            "malformed_json": b'{"time": 1, ',
            "invalid_utf8": b'{"property": "\xff\xfe"}',
            "empty_payload": b"",
            "payload_too_large": b'{"x": "' + b"a" * 1_100_000 + b'"}',
            "wrong_type": {"time": t, "property": "water_level_m", "value": "hoch"},
            "not_finite": b'{"time": %d, "property": "water_level_m", "value": NaN}' % t,
            "unknown_property": {"time": t, "property": "water_lvl", "value": 1},
            "wrong_unit": {"time": t, "property": "water_level_m", "value": 1, "unit": "Cel"},
            "time_in_future": {"time": t + 3_030_000, "property": "water_level_m", "value": 1},
            "time_local": {"time": t + 3_600_000, "property": "water_level_m", "value": 1},
            "time_too_old": {"time": t - 40 * 86_400_000, "property": "water_level_m", "value": 1},
            "clock_not_set": {"time": "1970-01-01T00:00:00Z", "property": "water_level_m", "value": 1},
            "time_without_zone": {"time": "2026-11-24T10:00:00", "property": "water_level_m", "value": 1},
        }
        for payload in bad.values():
            publish(topic, payload)
        publish("pantau/v1/kota/stranger", {"time": t, "property": "water_level_m", "value": 1})
        publish("pantau/v1/elsewhere/g0", {"time": t, "property": "water_level_m", "value": 1})
        reading = {"time": t, "property": "water_level_m", "value": 1.0}
        publish(topic, reading)
        publish(topic, reading)  # the same reading again is the same reading
        status = wait_for(
            lambda: (s := get(pipeline, "/api/status"))["counts"]["duplicates"] == 1 and s,
            "the duplicate to be counted",
        )
        expected = dict.fromkeys(bad, 1) | {"unknown_device": 1, "wrong_city": 1, "retained": 1}
        assert status["refused_by_reason"] == expected
        assert status["counts"]["readings"] == 2
        kept = {k.letter.reason: k.letter for k in pipeline.dead_letters.list(100)}
        assert {str(r) for r in kept} == set(expected)
        assert kept["wrong_type"].topic == topic and b"hoch" in kept["wrong_type"].payload  # type: ignore[index]
        wait_for(lambda: get(pipeline, "/api/status")["counts"]["stored"] == 1, "the reading to be stored")
    total = assert_balances(tmp_path, sent=len(expected) + 2, refused=len(expected))
    assert (total.refused, total.duplicate, total.stored) == (expected, 1, 1)


def test_a_device_registered_while_it_runs_is_heard_within_two_seconds(tmp_path: Path, broker: Mosquitto) -> None:
    settings = settings_for(tmp_path, broker.port)
    register(settings)
    with running(settings) as pipeline, publisher(broker.port) as publish:
        publish("pantau/v1/kota/g0", {"time": now_ms(), "property": "water_level_m", "value": 2.5})
        raised = wait_for(lambda: get(pipeline, "/api/alarms")["alarms"], "an alarm")[0]["raised_at"]
        with contextlib.closing(Registry(settings.data.registry)) as registry:
            directory = registry.directory()
            registry.save(
                city="kota",
                utc_offset_h=7.0,
                sites=directory.sites,
                devices=[*directory.devices, Device("new", SITE.id)],
                datastreams=[*directory.datastreams, Datastream("new.level", SITE.id, "new", "water_level_m")],
            )
        saved = time.monotonic()
        wait_for(lambda: get(pipeline, "/api/status")["datastreams"] == 7, "the new datastream", 5.0)
        assert time.monotonic() - saved < 2.0
        publish("pantau/v1/kota/new", {"time": now_ms(), "property": "water_level_m", "value": 0.1})
        wait_for(lambda: get(pipeline, "/api/account?device=new")["received"] == 1, "the new device's reading")
        assert get(pipeline, "/api/alarms")["alarms"][0]["raised_at"] == raised
    assert_balances(tmp_path, sent={"g0": 1, "new": 1}, refused=0)


def test_a_second_start_goes_on_where_the_first_stopped(tmp_path: Path, broker: Mosquitto) -> None:
    settings = settings_for(tmp_path, broker.port)
    register(settings)
    t = now_ms()
    with running(settings) as pipeline, publisher(broker.port) as publish:
        publish("pantau/v1/kota/g0", {"time": t, "property": "water_level_m", "value": 2.5})
        before = wait_for(lambda: get(pipeline, "/api/alarms")["alarms"], "an alarm")
    with publisher(broker.port) as publish:  # while nobody listens: the broker keeps it
        publish("pantau/v1/kota/g0", {"time": t + 1, "property": "water_level_m", "value": 3.5})
    with running(settings) as pipeline:
        after = wait_for(
            lambda: [a for a in get(pipeline, "/api/alarms")["alarms"] if a["severity"] == 3], "the alarm to climb"
        )
        assert after[0]["id"] == before[0]["id"]
        wait_for(lambda: pipeline.store.count_readings(*EVERYTHING) == 2, "both readings in the store")
    assert_balances(tmp_path, sent=2, refused=0)


def test_a_store_that_is_down_loses_nothing(tmp_path: Path, broker: Mosquitto) -> None:
    with InfluxDB(tmp_path / "influx") as influx:
        store = StoreSettings(kind="influxdb", url=influx.url, api="v1", bucket="pantau", timeout_s=2.0)
        settings = settings_for(tmp_path / "data", broker.port, store=store)
        register(settings)
        with running(settings) as pipeline, publisher(broker.port) as publish:
            t = now_ms() - 1000
            publish("pantau/v1/kota/g0", {"time": t, "property": "water_level_m", "value": 0.1})
            # The account counts by lots: this one is by itself.
            wait_for(lambda: get(pipeline, "/api/account?device=g0")["stored"] == 1, "the first reading")
            influx.stop()
            for i in range(1, 51):
                publish("pantau/v1/kota/g0", {"time": t + i, "property": "water_level_m", "value": 0.1 + i})
            down = wait_for(
                lambda: (s := get(pipeline, "/api/status"))["store"]["ok"] is False and s, "the store's failure"
            )
            assert down["store"]["last_error"]
            assert get(pipeline, "/api/alarms")["alarms"][0]["severity"] == 3  # alarms do not wait for the store
            # Neither lost nor stored: the account says that they wait.
            waiting = wait_for(
                lambda: (a := get(pipeline, "/api/account?device=g0"))["received"] == 51 and a, "the account"
            )
            assert (waiting["stored"], waiting["waiting"], waiting["unaccounted"]) == (1, 50, 0)
            influx.start()
            wait_for(lambda: get(pipeline, "/api/status")["counts"]["stored"] == 51, "all readings", 60.0)
            assert len(pipeline.store.readings("g0.level", *EVERYTHING)) == 51
            wait_for(lambda: get(pipeline, "/api/account?device=g0")["stored"] == 51, "the account", 40.0)
            assert_balances(tmp_path / "data", sent=51, refused=0, store=pipeline.store)


def test_two_brokers_and_one_of_them_down(tmp_path: Path, broker: Mosquitto) -> None:
    settings = settings_for(tmp_path, broker.port)
    register(settings)
    settings = replace(settings, brokers=(*settings.brokers, BrokerSettings("west", "127.0.0.1", free_port())))
    pipeline, stop = Pipeline(settings), Event()
    pipeline.start()
    worker = Thread(target=pipeline.run, args=(stop,))
    worker.start()
    try:
        wait_for(lambda: pipeline.receiver.status()[0].connected, "the broker that is there")
        with publisher(broker.port) as publish:
            publish("pantau/v1/kota/g0", {"time": now_ms(), "property": "water_level_m", "value": 2.5})
            wait_for(lambda: get(pipeline, "/api/alarms")["alarms"], "an alarm")
        brokers = {b["name"]: b for b in get(pipeline, "/api/status")["brokers"]}
        assert brokers["main"]["connected"] and not brokers["west"]["connected"]
        assert "refused" in brokers["west"]["last_error"]
    finally:
        stop.set()
        worker.join()
        pipeline.close()


def test_a_registry_of_another_city_is_refused(tmp_path: Path, broker: Mosquitto) -> None:
    register(settings_for(tmp_path, broker.port))
    with (
        pytest.raises(ConfigurationError, match="is of the city 'kota'"),
        running(settings_for(tmp_path, broker.port, city="other")),
    ):
        pass


def test_everything_is_closed_after_a_failed_start(tmp_path: Path, broker: Mosquitto) -> None:
    settings = settings_for(tmp_path, broker.port)
    register(settings)
    with running(settings) as first:
        taken = settings_for(tmp_path / "second", broker.port)
        register(taken)
        assert first.page is not None
        taken = replace(taken, page=PageSettings(port=first.page.port))
        with pytest.raises(ListenError, match="another program already listens there"), running(taken):
            pass
        with running(replace(taken, page=PageSettings(port=0))):  # its journal is free again
            pass


def test_windows_are_stored(tmp_path: Path, broker: Mosquitto) -> None:
    settings = settings_for(tmp_path, broker.port)
    register(settings)
    minute = (time.time_ns() // (60 * NS_PER_S) - 2) * 60 * NS_PER_S
    with running(settings) as pipeline, publisher(broker.port) as publish:
        for i in range(4):
            publish(
                "pantau/v1/kota/g0", {"time": minute + i * NS_PER_S, "property": "water_level_m", "value": 0.25 * i}
            )
        found = wait_for(lambda: len(pipeline.store.windows("g0.level", 60, *EVERYTHING)), "the minute's window")
        assert found == 1
    store = EmbeddedStore(settings.store.folder)
    window = store.windows("g0.level", 60, *EVERYTHING)
    assert (window.start[0], window.count[0], window.mean[0], window.maximum[0]) == (minute, 4, 0.375, 0.75)
    store.close()
