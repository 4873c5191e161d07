"""How the register grows: import, start-up load, memory, search while typing, single changes, at up to 100,000 devices.

Run: ``python -m benchmarks.devices [--sizes 1000 10000 100000] [--own-postgresql] [--live]``. ``--live`` measures how
soon a running pipeline takes a reading of a device that was just registered, and what it costs the loop. Each device
has two datastreams, one of them with thresholds, that it feeds since it was installed. Every figure is of one process
on the machine that runs it; memory is measured in processes of their own.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import gc
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import paho.mqtt.client as mqtt
import psutil
from paho.mqtt.enums import CallbackAPIVersion

from devices.bulk import import_devices
from devices.entities import DeviceEntry, NewDatastream
from devices.registry import Registry
from ingest.settings import BrokerSettings
from pantau.runtime import POLL_S, Pipeline
from pantau.settings import CitySettings, DataSettings, PageAccess, PageSettings, Settings
from telemetry.directory import Directory, Ladder, Step
from tests.real_parts.mosquitto import Mosquitto

STREETS = ("Asia Afrika", "Braga", "Cihampelas", "Dago", "Ir. H. Juanda", "Pasteur", "Setiabudi", "Soekarno-Hatta")
OBSERVED = ("water_level_m", "battery_v")
LADDER = Ladder((Step(1.5, 1, "Siaga 3"), Step(2.0, 2, "Siaga 2"), Step(2.9, 3, "Siaga 1")), deadband=0.05)


def fleet(devices: int, seed: int = 1) -> str:
    """A CSV of that many devices, each at a site of its own."""
    random_ = random.Random(seed)
    lines = ["device,serial,eui,model,firmware,site,site_name,latitude,longitude,district,installed_at,observes"]
    serials = random_.sample(range(10**10), devices)
    for n in range(devices):
        street = random_.choice(STREETS)
        lines.append(
            f"awlr-{n:06d},SN{serials[n]:010d},{random_.randrange(2**63):016X},radar,1.{n % 7},"
            f"site-{n:06d},Jl. {street} {n % 400},{-6.9 + random_.uniform(-0.2, 0.2):.6f},"
            f"{107.6 + random_.uniform(-0.2, 0.2):.6f},32.73.{n % 30:02d},2026-01-01T00:00:00Z,{'|'.join(OBSERVED)}"
        )
    return "\n".join(lines)


def timed(work: Callable[[], object], times: int = 1) -> list[float]:
    """Seconds on the clock of each run."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return took


def typed(registry: Registry, devices: int) -> tuple[float, float]:
    """Seconds of a search, median and worst, over the prefixes that somebody types, and parts that are not there."""
    random_ = random.Random(2)
    words = [f"awlr-{random_.randrange(devices):06d}" for _ in range(4)] + ["Jl. Dago 17", "soekarno", "no such thing"]
    words += [registry.device(f"awlr-{random_.randrange(devices):06d}").device.serial[-5:] for _ in range(3)]  # type: ignore[union-attr]
    prefixes = [word[:n] for word in words for n in range(1, len(word) + 1)]
    took = [timed(lambda p=p: registry.search(p, 20))[0] for p in prefixes]  # type: ignore[misc]
    return float(np.median(took)), max(took)


def array_bytes(directory: Directory) -> int:
    """Bytes of all numpy arrays of the Directory: what the core's inner loops read."""
    found = [v for v in vars(directory).values() if isinstance(v, np.ndarray)]
    installed = directory.installed
    found += [v for name in installed.__slots__ if isinstance(v := getattr(installed, name), np.ndarray)]
    return sum(a.nbytes for a in found)


def index_bytes(directory: Directory) -> int:
    """Bytes of the dictionaries by which a message finds its datastream, without their strings."""
    tables = {id(t): t for table in (directory.index_of, directory.feed_of) for t in (table, *table.values())}
    return sum(sys.getsizeof(t) for t in tables.values())


def memory(url: str) -> None:
    """Print as JSON what the Directory costs this process; called in a process of its own."""
    registry = Registry(url)
    registry.version()
    process = psutil.Process()
    gc.collect()
    before = process.memory_info().rss
    began = time.perf_counter()
    directory = registry.directory()
    took = time.perf_counter() - began
    gc.collect()
    after = process.memory_info().rss
    print(
        json.dumps(
            {
                "load_s": took,
                "rss": after - before,
                "arrays": array_bytes(directory),
                "index": index_bytes(directory),
                "datastreams": len(directory.datastreams),
            }
        )
    )
    registry.close()


def in_its_own_process(url: str) -> dict[str, float]:
    """What ``memory`` says, the fastest of three."""
    runs = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.devices", "--memory-of", url],
            check=True,
            capture_output=True,
            text=True,
            cwd=Path(__file__).parent.parent,
        )
        runs.append(json.loads(done.stdout))
    return min(runs, key=lambda r: r["load_s"])


def one_size(url: str, devices: int) -> None:
    """A row of the table."""
    registry = Registry(url)
    registry.put_city("bandung", 7.0, by="benchmark")
    text = fleet(devices)

    def load() -> None:
        report = import_devices(registry, text, "csv", by="benchmark", dry_run=False)
        if not report.applied:
            raise SystemExit(f"the import was refused: {report.problems[:3]}")

    imported = timed(load)[0]
    again = timed(load)[0]
    _thresholds(registry)
    median, worst = typed(registry, devices)
    numbers = iter(range(10**6))
    single = timed(
        lambda: registry.register(DeviceEntry(f"new-{next(numbers)}"), "site-000007", by="benchmark", datastreams=()),
        5,
    )
    near = max(timed(lambda: registry.near(-6.9, 107.6, 10), 5))
    registry.close()
    found = in_its_own_process(url)
    streams = found["datastreams"]
    print(
        f"{devices:8,d} {imported:9.2f} {again:9.2f} {found['load_s']:8.2f} {median * 1e3:8.1f} {worst * 1e3:8.1f} "
        f"{float(np.median(single)) * 1e3:9.1f} {near * 1e3:7.1f} {found['arrays'] / streams:8.0f} "
        f"{found['index'] / streams:8.0f} {found['rss'] / streams:8.0f}",
        flush=True,
    )


class _Turns:
    """The pipeline's loop in a thread, with the longest time that one turn of it took."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self.longest_s = 0.0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        while not self.stop.is_set():
            began = time.perf_counter()
            self._pipeline.work()
            self.longest_s = max(self.longest_s, time.perf_counter() - began - POLL_S)


def live(folder: Path, devices: int) -> None:
    """A row of the other table: registered while the pipeline runs, sent at once and again until it is taken."""
    registry = Registry(f"sqlite:///{folder / 'registry.sqlite'}")
    registry.put_city("bandung", 7.0, by="benchmark")
    report = import_devices(registry, fleet(devices), "csv", by="benchmark", dry_run=False)
    if not report.applied:
        raise SystemExit(f"the import was refused: {report.problems[:3]}")
    with Mosquitto() as broker:
        settings = Settings(
            city=CitySettings("bandung"),
            data=DataSettings(folder, snapshot_interval_s=1e6),
            brokers=(BrokerSettings("main", "127.0.0.1", broker.port, watch_drops=False),),
            page=PageSettings(port=0, access=PageAccess.OPEN),
        )
        settings = dataclasses.replace(
            settings, store=dataclasses.replace(settings.store, folder=str(folder / "store"))
        )
        pipeline = Pipeline(settings, lambda _: None)
        pipeline.start()
        client = mqtt.Client(CallbackAPIVersion.VERSION2)
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        turns = _Turns(pipeline)
        time.sleep(2.0)
        took, stalls = [], []
        for n in range(5):
            name = f"live-{n}"
            turns.longest_s = 0.0
            registry.register(DeviceEntry(name), "site-000007", by="benchmark", datastreams=[NewDatastream("rain_mm")])
            began = time.perf_counter()
            while not pipeline.watch.latest(name):
                now = datetime.now(UTC).isoformat()
                client.publish(f"pantau/v1/bandung/{name}", json.dumps({"time": now, "values": {"rain_mm": 0.2}}), 1)
                time.sleep(0.02)
                if time.perf_counter() - began > 60:
                    raise SystemExit(f"{devices} devices: the reading of {name} was never taken")
            took.append(time.perf_counter() - began)
            stalls.append(turns.longest_s)
            time.sleep(0.5)
        turns.stop.set()
        turns.thread.join()
        client.loop_stop()
        pipeline.close()
    registry.close()
    print(
        f"{devices:8,d} {float(np.median(took)):9.2f} {max(took):9.2f} {float(np.median(stalls)) * 1e3:9.0f} "
        f"{max(stalls) * 1e3:9.0f}",
        flush=True,
    )


def _thresholds(registry: Registry) -> None:
    """The levels get a ladder, all in one save."""
    directory = registry.directory()
    registry.save(
        city=directory.city,
        utc_offset_h=directory.utc_offset_h,
        sites=(),
        devices=(),
        datastreams=[
            msgspec.structs.replace(d, ladder=LADDER) for d in directory.datastreams if d.property == OBSERVED[0]
        ],
        author="benchmark",
    )


def main() -> None:
    """Run what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--postgresql", metavar="URL", help="an empty database of a server that runs; for one size")
    parser.add_argument("--own-postgresql", action="store_true", help="start a server for it, as the tests do")
    parser.add_argument("--memory-of", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--live", action="store_true", help="from the registration to the first reading taken")
    arguments = parser.parse_args()
    if arguments.memory_of:
        memory(arguments.memory_of)
        return
    print(f"Python {platform.python_version()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
    if arguments.live:
        print("          registered to taken, s   longest turn of the loop, ms")
        print(" devices    median     worst    median     worst")
        for devices in arguments.sizes:
            with tempfile.TemporaryDirectory() as folder:
                live(Path(folder), devices)
        return
    print("                                        search, ms        one change  near    bytes a datastream")
    print(" devices  import_s   again_s   load_s   median    worst           ms       ms   arrays    index      rss")
    with contextlib.ExitStack() as stack:
        if arguments.own_postgresql:
            from tests.real_parts.postgresql import PostgreSQL

            server = stack.enter_context(PostgreSQL())
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        for devices in arguments.sizes:
            if arguments.postgresql:
                one_size(arguments.postgresql, devices)
            elif arguments.own_postgresql:
                one_size(server.database(), devices)
            else:
                one_size(f"sqlite:///{folder}/{devices}.db", devices)


if __name__ == "__main__":
    main()
