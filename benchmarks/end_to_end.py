"""The whole pipeline on this machine: Mosquitto, journal, core, alarms and embedded store, at QoS 1.

    pantau bench [--short] [--json]

Publisher and Mosquitto are processes of their own on the same machine; the pipeline is a third one, which is measured.
Every run checks that what was published is what the store holds.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.cities import gauges
from ingest.settings import BrokerSettings
from pantau.runtime import Pipeline
from pantau.settings import CitySettings, DataSettings, PageSettings, Settings
from processing.core import State, step
from storage.settings import StoreSettings
from telemetry.observations import NS_PER_S, Observations
from telemetry.results import Transitions
from tests.real_parts.mosquitto import Mosquitto

EVERYTHING_NS = (0, 2**62)


class _Stopwatch:
    """CPU time of the thread that runs the pipeline, by what it is doing."""

    def __init__(self) -> None:
        self.cpu_s: dict[str, float] = {}

    def around(self, owner: Any, method: str, stage: str) -> None:
        inner = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            before = time.thread_time()
            try:
                return inner(*args, **kwargs)
            finally:
                self.cpu_s[stage] = self.cpu_s.get(stage, 0.0) + time.thread_time() - before

        setattr(owner, method, timed)


def _threads_cpu_s() -> dict[str, float]:
    """CPU time of this process's threads, by name."""
    names = {t.native_id: t.name for t in threading.enumerate()}
    cpu: dict[str, float] = {}
    for thread in psutil.Process().threads():
        name = names.get(thread.id, "others")
        name = "socket" if name.startswith("broker-") else name
        cpu[name] = cpu.get(name, 0.0) + thread.user_time + thread.system_time
    return cpu


def _pipeline_process(port: int, datastreams: int, folder: str, pipe: Connection) -> None:
    """The measured process: runs a pipeline, says when it listens, and answers with what was measured."""
    import pantau.runtime as runtime
    from devices.registry import Registry

    home = Path(folder)
    settings = Settings(
        city=CitySettings("bench", 7.0),
        data=DataSettings(folder=home),
        brokers=(BrokerSettings("main", "127.0.0.1", port),),
        store=StoreSettings(folder=home / "store"),
        page=PageSettings(port=0),
    )
    city = gauges(datastreams)
    registry = Registry(settings.data.registry)
    registry.save(
        city=city.city, utc_offset_h=7.0, sites=city.sites, devices=city.devices, datastreams=city.datastreams
    )
    registry.close()
    pipeline = Pipeline(settings)
    latencies_s: list[float] = []
    show = pipeline.live.transition

    def transition(transitions: Transitions) -> None:
        show(transitions)
        now = time.time_ns()
        latencies_s.extend(((now - transitions.at) / NS_PER_S).tolist())

    pipeline.live.transition = transition  # type: ignore[method-assign]
    watch = _Stopwatch()
    pipeline.start()
    watch.around(pipeline.receiver, "poll", "decode")
    watch.around(pipeline, "_journal", "journal")
    watch.around(runtime, "step", "core")
    watch.around(pipeline, "_put", "hand to store")
    watch.around(pipeline.live, "observe", "page")
    while pipeline.receiver.listening_since_ns is None:
        pipeline.work()
    me = psutil.Process()
    pipe.send("listening")
    expected, began, cpu, peak, done_at = -1, 0.0, 0.0, 0, 0.0
    threads: dict[str, float] = {}
    while True:
        pipeline.work()
        peak = max(peak, me.memory_info().rss)
        if not began and pipeline.counts.readings:
            began, cpu = time.perf_counter(), time.process_time()
            threads = _threads_cpu_s()
            watch.cpu_s.clear()
        if expected < 0 and pipe.poll():
            expected = pipe.recv()
        if not done_at and pipeline.counts.readings >= expected >= 0:
            done_at = time.perf_counter()
        stored = pipeline.writer.status().readings_written
        if done_at and (stored >= pipeline.counts.readings or time.perf_counter() - done_at > 60):
            break
    stored_at, cpu = time.perf_counter(), time.process_time() - cpu
    by_stage = dict(watch.cpu_s)
    for name, seconds in _threads_cpu_s().items():
        if name != "MainThread":
            by_stage[name] = seconds - threads.get(name, 0.0)
    by_stage["rest"] = cpu - sum(by_stage.values())
    status = pipeline.receiver.status()[0]
    readings = pipeline.counts.readings
    pipeline.close()
    from storage.embedded import EmbeddedStore

    store = EmbeddedStore(settings.store.folder)
    kept = store.count_readings(*EVERYTHING_NS)
    store.close()
    pipe.send(
        {
            "readings": readings,
            "refused": sum(pipeline.counts.refused.values()),
            "duplicates": pipeline.counts.duplicates,
            "in_store": kept,
            "dropped_by_broker": status.broker_dropped,
            "seconds": done_at - began,
            "seconds_to_stored": stored_at - began,
            "cpu_s": cpu,
            "cpu_by_stage_s": by_stage,
            "rss_peak_mib": round(peak / 2**20),
            "latencies_s": latencies_s,
        }
    )


def end_to_end(
    messages: int, rate_per_s: float | None, datastreams: int, probe_every: int = 0, readings: int = 1
) -> dict[str, Any]:
    """One run through everything."""
    with tempfile.TemporaryDirectory() as folder, Mosquitto() as broker:
        ours, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=_pipeline_process, args=(broker.port, datastreams, folder, theirs))
        process.start()
        theirs.close()
        ours.recv()
        mosquitto = psutil.Process(broker.pid)
        before = sum(mosquitto.cpu_times()[:2])
        command = [sys.executable, "-m", "benchmarks.publisher", "--port", str(broker.port), "--city", "bench"]
        command += ["--devices", str(datastreams), "--messages", str(messages), "--probe-every", str(probe_every)]
        command += ["--readings", str(readings)]
        command += [] if rate_per_s is None else ["--rate", str(rate_per_s)]
        published = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
        ours.send(published["acknowledged"] * readings)
        got: dict[str, Any] = ours.recv()
        process.join()
        broker_cpu = sum(mosquitto.cpu_times()[:2]) - before
    n = got["readings"]
    latencies = np.array(got.pop("latencies_s"))
    row = {
        "datastreams": datastreams,
        "offered_per_s": rate_per_s,
        "published": published["acknowledged"],
        "in_store": got["in_store"],
        "lost": published["acknowledged"] * readings - got["in_store"] - got["refused"] - got["duplicates"],
        "messages_per_s": round(n / readings / got["seconds"]),
        "readings_per_s": round(n / got["seconds"]),
        "stored_per_s": round(n / got["seconds_to_stored"]),
        "pantau_cpu_s_per_million": round(got["cpu_s"] / n * 1e6, 1),
        "mosquitto_cpu_s_per_million": round(broker_cpu / n * 1e6, 1),
        "cpu_s_per_million_by_stage": {k: round(v / n * 1e6, 2) for k, v in got["cpu_by_stage_s"].items()},
        "rss_peak_mib": got["rss_peak_mib"],
        "dropped_by_broker": got["dropped_by_broker"],
    }
    if probe_every and latencies.size:
        row["alarms"] = int(latencies.size)
        row["publish_to_alarm_ms"] = {
            f"p{q}": round(float(np.percentile(latencies, q)) * 1000, 1) for q in (50, 99, 100)
        }
    return row


def core_cost(datastreams: int, rows: int) -> dict[str, Any]:
    """The core alone, in batches of ``rows``, each datastream about once a minute: CPU of one reading."""
    directory = gauges(datastreams)
    state = State.for_directory(directory)
    rng = np.random.default_rng(1)
    now = 1_795_000_000 * NS_PER_S
    steps = max(10, min(100, 1_000_000 // rows))
    batches = []
    for _ in range(steps):
        stream = rng.permutation(datastreams)[:rows].astype(np.int32)
        span = 60 * NS_PER_S * stream.size // datastreams
        at = now + rng.integers(0, span, stream.size)
        batches.append((Observations.of(stream, at, rng.normal(1, 0.2, stream.size)), now + span))
        now += span
    began = time.process_time()
    for batch, at_now in batches:
        state, _ = step(state, directory, batch, at_now, listening_since=batches[0][1])
    seconds = time.process_time() - began
    n = sum(len(b) for b, _ in batches)
    return {
        "datastreams": datastreams,
        "batch": len(batches[0][0]),
        "cpu_us_per_reading": round(seconds / n * 1e6, 2),
        "million_per_cpu_s": round(n / seconds / 1e6, 2),
        "state_bytes_per_datastream": round(len(state.to_bytes()) / datastreams),
    }


def machine() -> dict[str, Any]:
    """What was measured on, and with which versions."""
    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    mosquitto = subprocess.run(["mosquitto", "-h"], stdout=subprocess.PIPE, text=True, check=False).stdout.split("\n")[
        0
    ]
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": platform.platform(),
        "python": platform.python_version(),
        "broker": mosquitto,
        "load_before": round(os.getloadavg()[0], 2),
        **{name: version(name) for name in ("numpy", "mqtt5", "msgspec", "polars", "duckdb")},
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measure Pantau end to end on this machine")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args()
    part = 10 if a.short else 1
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731
    found: dict[str, Any] = {"machine": machine(), "end_to_end": [], "core": []}
    runs: list[tuple[str, int, float | None, int, int, int]] = [
        ("single readings, as fast as it goes", 600_000 // part, None, 10_000, 0, 1),
        ("single readings, 15,000 messages/s", 300_000 // part, 15_000.0, 10_000, 0, 1),
        ("100 readings a message, as fast as it goes", 20_000 // part, None, 10_000, 0, 100),
        ("1,000 messages/s with alarms", 20_000 // part, 1_000.0, 1_000, 50, 1),
        ("10,000 messages/s with alarms", 200_000 // part, 10_000.0, 10_000, 500, 1),
    ]
    for name, messages, rate, datastreams, probe_every, readings in runs:
        say(f"bench: {name}")
        found["end_to_end"].append({"run": name, **end_to_end(messages, rate, datastreams, probe_every, readings)})
    for datastreams in (1_000, 10_000, 100_000):
        for rows in (1_000, 100_000):
            if rows <= datastreams or rows == 1_000:
                say(f"bench: core, {datastreams} datastreams, batches of {min(rows, datastreams)}")
                found["core"].append(core_cost(datastreams, rows))
    if a.json:
        print(json.dumps(found, indent=2))
    else:
        _print(found)


def _print(found: dict[str, Any]) -> None:
    console = Console(width=160)
    console.print(", ".join(f"{k} {v}" for k, v in found["machine"].items()), highlight=False)
    table = Table(title="End to end: publisher → Mosquitto → journal → core → embedded store, QoS 1")
    for head in (
        "run",
        "published",
        "lost",
        "messages/s",
        "readings/s",
        "stored/s",
        "CPU s/M",
        "of these",
        "Mosquitto",
        "p50",
        "p99",
        "RSS",
    ):
        table.add_column(head, justify="left" if head in ("run", "of these") else "right")
    for r in found["end_to_end"]:
        latency = r.get("publish_to_alarm_ms", {})
        table.add_row(
            r["run"],
            f"{r['published']:,}",
            str(r["lost"]),
            f"{r['messages_per_s']:,}",
            f"{r['readings_per_s']:,}",
            f"{r['stored_per_s']:,}",
            f"{r['pantau_cpu_s_per_million']}",
            ", ".join(f"{k} {v}" for k, v in r["cpu_s_per_million_by_stage"].items()),
            f"{r['mosquitto_cpu_s_per_million']}",
            f"{latency['p50']} ms" if latency else "",
            f"{latency['p99']} ms" if latency else "",
            f"{r['rss_peak_mib']} MiB",
        )
    console.print(table)
    table = Table(title="The core alone")
    for head in ("datastreams", "batch", "CPU µs a reading", "million readings a CPU s", "state, bytes a datastream"):
        table.add_column(head, justify="right")
    for r in found["core"]:
        table.add_row(
            f"{r['datastreams']:,}",
            f"{r['batch']:,}",
            f"{r['cpu_us_per_reading']}",
            f"{r['million_per_cpu_s']}",
            f"{r['state_bytes_per_datastream']:,}",
        )
    console.print(table)


if __name__ == "__main__":
    main()
