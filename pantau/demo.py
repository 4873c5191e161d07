"""``pantau demo``: a living, simulated Bandung with everything in it: broker, fleet, pipeline, store and page."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from iotcore import Broker

from devices.registry import Registry
from ingest.settings import BrokerSettings, ClockSource, Limits
from pantau.ports import free_port
from pantau.runtime import Pipeline, Say
from pantau.settings import (
    CitySettings,
    ClockSettings,
    DataSettings,
    PageAccess,
    PageSettings,
    Settings,
    is_loopback,
)
from pantau.startup import StartupError
from simulators.basemap import basemap
from simulators.city import City
from storage.settings import StoreSettings
from telemetry.observations import NS_PER_S, rfc3339

SEED = 1
SPEED = 60.0
"""Simulated seconds per second."""

_RUMQTTD = """\
id = 0

[router]
id = 0
max_connections = 10000
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10

[v4.1]
name = "devices"
listen = "127.0.0.1:{device_port}"
next_connection_delay_ms = 1
connections = {{ connection_timeout_ms = 60000, max_payload_size = 1048576, max_inflight_count = 1000 }}

[v5.1]
name = "pipeline"
listen = "127.0.0.1:{pipeline_port}"
next_connection_delay_ms = 1
connections = {{ connection_timeout_ms = 60000, max_payload_size = 1048576, max_inflight_count = 1000 }}
"""


@dataclass(frozen=True)
class DemoOptions:
    """What can be chosen on the command line."""

    folder: Path = Path("pantau-demo")
    host: str = "127.0.0.1"
    page_port: int = 8000
    mqtt_port: int = 0
    """0 takes any free port."""
    speed: float = SPEED
    seed: int = SEED


@contextlib.contextmanager
def embedded_broker(mqtt_port: int = 0) -> Iterator[tuple[int, int]]:
    """A broker inside the Python package ``iotcore`` (rumqttd), for trying out: its sessions live in memory.

    Yields its two ports on 127.0.0.1: for devices (MQTT 3.1.1), and for the pipeline (MQTT 5). Raises StartupError if
    ``mqtt_port`` (0: any free one) is taken.
    """
    device_port, pipeline_port = mqtt_port or free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="pantau-broker-") as folder:
        config = Path(folder) / "rumqttd.toml"
        config.write_text(_RUMQTTD.format(device_port=device_port, pipeline_port=pipeline_port), encoding="utf-8")
        broker = Broker(config_path=str(config))
        try:
            broker.start()
        except OSError:
            raise StartupError(
                f"the broker cannot listen at 127.0.0.1 port {device_port}: another program already does; "
                "stop it, or leave --mqtt-port away"
            ) from None
        except RuntimeError as error:
            raise StartupError(f"the embedded broker did not start: {error}") from error
        try:
            yield device_port, pipeline_port
        finally:
            broker.stop()


def demo_settings(options: DemoOptions, city: City, pipeline_port: int) -> Settings:
    """The settings of the demo's pipeline."""
    return Settings(
        city=CitySettings(city.name, city.utc_offset_h),
        clock=ClockSettings(ClockSource.BROKER),
        data=DataSettings(folder=options.folder),
        brokers=(BrokerSettings("embedded", "127.0.0.1", pipeline_port, watch_drops=False),),
        limits=Limits(),
        store=StoreSettings(folder=options.folder / "store"),
        page=PageSettings(
            host=options.host,
            port=options.page_port,
            access=PageAccess.OPEN if is_loopback(options.host) else PageAccess.ACCOUNTS,
        ),
    )


def run_demo(options: DemoOptions, stop: threading.Event, say: Say, ready: threading.Event | None = None) -> None:
    """Run the demo until ``stop`` is set.

    Raises
    ------
    StartupError, and what ``Pipeline.start`` raises
        With one sentence for the person who started it.
    """
    say("building the city")
    city = City(seed=options.seed)
    check_writable(options.folder)
    with contextlib.ExitStack() as stack:
        say("starting the embedded MQTT broker")
        device_port, pipeline_port = stack.enter_context(embedded_broker(options.mqtt_port))
        say(f"registering {len(city.devices)} devices with {len(city.datastreams)} datastreams")
        settings = demo_settings(options, city, pipeline_port)
        with contextlib.closing(Registry(settings.data.registry)) as registry:
            registry.save(
                city=city.name,
                utc_offset_h=city.utc_offset_h,
                sites=city.sites,
                devices=city.devices,
                datastreams=city.datastreams,
            )
        say("starting the pipeline")
        pipeline = Pipeline(settings, say, basemap(city.plan))
        pipeline.start()
        stack.callback(pipeline.close)
        zone = timezone(timedelta(hours=city.utc_offset_h))
        begin = pipeline.now or city.start_of_evening(f"{datetime.now(zone):%Y-%m-%d}")
        stack.enter_context(_fleet(options, city, device_port, begin))
        assert pipeline.page is not None
        local = datetime.fromtimestamp(begin / NS_PER_S, zone)
        say(
            f"\nThe living city runs {options.speed:g} times as fast as real time; it is {local:%d %B %Y %H:%M}.\n"
            f"Open  {pipeline.page.url}\n"
            f"MQTT  127.0.0.1 port {device_port} (MQTT 3.1.1)\n"
            f"Files {options.folder.absolute()}\n"
            "Stop with Ctrl-C; a second start goes on from where this one stopped.\n"
        )
        if ready is not None:
            ready.set()
        pipeline.run(stop)
        say("stopping")


@contextlib.contextmanager
def _fleet(options: DemoOptions, city: City, port: int, begin: int) -> Iterator[None]:
    """The simulated devices, in a process of their own as real ones would be."""
    command = [sys.executable, "-m", "simulators.fleet", "--host", "127.0.0.1", "--port", str(port)]
    command += [
        "--city",
        city.name,
        "--seed",
        str(options.seed),
        "--start",
        rfc3339(begin),
        "--speed",
        str(options.speed),
    ]
    command += ["--stop-with-stdin"]
    # A process group of its own: Ctrl-C reaches this process alone, which then stops the fleet.
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        yield
    finally:
        try:
            process.communicate(timeout=10)  # closes its standard input, which ends it
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def check_writable(folder: Path) -> None:
    """Raise StartupError with one sentence if files can't be kept in ``folder``."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".write-test-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise StartupError(
            f"cannot keep files in {folder.absolute()}: {error.strerror}; "
            "choose another folder with --folder, or change its permissions"
        ) from None
