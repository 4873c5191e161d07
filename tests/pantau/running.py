"""A pipeline in a thread of the test, and a paho client that publishes to it."""

from __future__ import annotations

import contextlib
import json
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from devices.registry import Registry
from ingest.settings import BrokerSettings, ClockSource
from pantau.runtime import Pipeline
from pantau.settings import CitySettings, ClockSettings, DataSettings, PageAccess, PageSettings, Settings
from storage.settings import StoreSettings, WriterSettings
from telemetry.directory import Datastream, Device, Ladder, Limits, Site, Step

SITE = Site("jembatan", "Jembatan Dago", -6.88, 107.61, "Coblong")
LADDER = Ladder(steps=(Step(1.0, 1, "Siaga 3"), Step(2.0, 2, "Siaga 2"), Step(3.0, 3, "Siaga 1")), deadband=0.2)


def settings_for(
    folder: Path,
    port: int,
    *,
    clock: ClockSource = ClockSource.SYSTEM,
    city: str = "kota",
    store: StoreSettings | None = None,
) -> Settings:
    """Settings of a pipeline whose files are in ``folder``."""
    return Settings(
        city=CitySettings(city),
        clock=ClockSettings(clock),
        data=DataSettings(folder=folder, snapshot_interval_s=1.0),
        brokers=(BrokerSettings("main", "127.0.0.1", port, backoff_max_s=1.0),),
        store=store or StoreSettings(folder=folder / "store"),
        writer=WriterSettings(flush_interval_s=0.2),
        page=PageSettings(port=0, access=PageAccess.OPEN),
    )


def register(settings: Settings, devices: int = 3, ladder: Ladder = LADDER) -> None:
    """Register gauges ``g0``, ``g1``, …, each with a water level and a battery."""
    settings.data.folder.mkdir(parents=True, exist_ok=True)
    names = [f"g{i}" for i in range(devices)]
    with contextlib.closing(Registry(settings.data.registry)) as registry:
        registry.save(
            city=settings.city.name,
            utc_offset_h=7.0,
            sites=[SITE],
            devices=[Device(n, SITE.id, silence_after_s=600.0) for n in names],
            datastreams=[
                d
                for n in names
                for d in (
                    Datastream(f"{n}.level", SITE.id, n, "water_level_m", Limits(suspect_max=20.0), ladder),
                    Datastream(f"{n}.battery", SITE.id, n, "battery_v"),
                )
            ],
        )


@contextlib.contextmanager
def running(settings: Settings) -> Iterator[Pipeline]:
    """Run a pipeline until the block ends; it listens when the block begins."""
    pipeline = Pipeline(settings)
    pipeline.start()
    stop = threading.Event()
    worker = threading.Thread(target=pipeline.run, args=(stop,))
    worker.start()
    try:
        wait_for(lambda: all(b.connected for b in pipeline.receiver.status()), "the brokers to be connected")
        yield pipeline
    finally:
        stop.set()
        worker.join()
        pipeline.close()


@contextlib.contextmanager
def publisher(port: int) -> Iterator[Callable[..., None]]:
    """Publish at QoS 1 and wait for the broker's acknowledgement."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", port)
    client.loop_start()

    def publish(topic: str, payload: Any, *, retain: bool = False) -> None:
        body = payload if isinstance(payload, (bytes, str)) else json.dumps(payload)
        client.publish(topic, body, qos=1, retain=retain).wait_for_publish(10)

    try:
        yield publish
    finally:
        client.disconnect()
        client.loop_stop()


def wait_for(condition: Callable[[], Any], what: str, timeout_s: float = 20.0) -> Any:
    """The first true answer of ``condition``; fails after ``timeout_s``."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        answer = condition()
        if answer:
            return answer
        time.sleep(0.02)
    raise AssertionError(f"waited {timeout_s:g} s for {what}")


def get(pipeline: Pipeline, path: str) -> Any:
    """JSON of the page's API."""
    assert pipeline.page is not None
    with urllib.request.urlopen(pipeline.page.url + path, timeout=10) as response:
        return json.load(response)


def post(pipeline: Pipeline, path: str, body: Any) -> Any:
    """Post JSON as the page does."""
    assert pipeline.page is not None
    request = urllib.request.Request(
        pipeline.page.url + path,
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "X-Pantau": "1", "Origin": pipeline.page.url},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)
