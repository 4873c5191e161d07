"""A simulated fleet through a real broker, with bad messages, repetitions and a restart: the account balances."""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path

import pytest

from devices.registry import Registry
from ingest.settings import ClockSource
from simulators.city import City
from simulators.fleet import FleetSettings, messages, run_fleet
from simulators.schedule import NS_PER_MIN
from tests.pantau.running import get, publisher, running, settings_for, wait_for
from tests.real_parts.account import assert_balances
from tests.real_parts.mosquitto import QUEUES_WITHOUT_LIMITS, Mosquitto

pytestmark = pytest.mark.mosquitto

CITY = City(seed=1)
START = CITY.start_of_evening("2026-11-24")
MIDDLE, END = START + 40 * NS_PER_MIN, START + 80 * NS_PER_MIN


@pytest.mark.timeout(300)
def test_more_than_an_hour_of_a_city_balances_for_every_device(tmp_path: Path) -> None:
    with Mosquitto(QUEUES_WITHOUT_LIMITS) as broker:
        settings = settings_for(tmp_path, broker.port, clock=ClockSource.BROKER, city="bandung")
        settings.data.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(Registry(settings.data.registry)) as registry:
            registry.save(
                city="bandung",
                utc_offset_h=7.0,
                sites=CITY.sites,
                devices=CITY.devices,
                datastreams=CITY.datastreams,
            )
            directory = registry.directory()
        samples = CITY.sample(START, END)
        sent = Counter(CITY.datastreams[i].device for i in samples.datastream.tolist())
        again = messages(CITY, CITY.sample(MIDDLE - NS_PER_MIN, MIDDLE))
        bad = 0
        for start, end in ((START, MIDDLE), (MIDDLE, END)):
            with running(settings) as pipeline, publisher(broker.port) as publish:
                fleet = FleetSettings(
                    start_ns=start, until_ns=end, speed=1200.0, port=broker.port, clock_interval_s=0.1
                )
                came = run_fleet(CITY, fleet)
                assert came.unacknowledged == came.refused == 0
                extra = 0
                if start == START:
                    for device, payload, n in again:  # what a device sends that heard no acknowledgement
                        publish(f"pantau/v1/bandung/{device}", payload)
                        sent[device] += n
                        extra += n
                    for payload in (b"{", b"", b'{"property": "water_level_m", "value": "tinggi"}'):
                        publish(f"pantau/v1/bandung/{CITY.devices[0].id}", payload)
                        sent[CITY.devices[0].id] += 1
                        bad += 1
                wait_for(
                    lambda wanted=came.readings + extra: get(pipeline, "/api/status")["counts"]["readings"] >= wanted,
                    "all readings",
                    90.0,
                )
        total = assert_balances(tmp_path, sent=sent, refused=bad, directory=directory)
    assert total.stored == len(samples) > 10_000
    assert total.duplicate == sum(n for _, _, n in again) > 0
