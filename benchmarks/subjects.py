"""What is measured end to end, in a process of its own: the pipeline.

Over a pipe it says "listening"; told "begin" it notes its CPU time and says "begun"; then it gets the number of
readings to expect, and answers with what was measured. So does ``plain_paho``. See ``end_to_end``.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

from benchmarks.cities import gauges
from benchmarks.profiling import Profiled
from ingest.settings import BrokerSettings, Limits
from pantau.runtime import Pipeline
from pantau.settings import CitySettings, DataSettings, PageSettings, Settings
from storage.settings import StoreSettings
from telemetry.observations import NS_PER_S
from telemetry.results import Transitions

EVERYTHING_NS = (0, 2**62)
GIVE_UP_S = 20.0
"""If nothing more came for so long, the rest is lost."""


class _Stopwatch:
    """CPU time of the thread that runs the pipeline, by what it is doing; what runs inside another counts once."""

    def __init__(self) -> None:
        self.cpu_s: dict[str, float] = {}
        self._inner = [0.0]

    def around(self, owner: Any, method: str, stage: str) -> None:
        call = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            before = time.thread_time()
            self._inner.append(0.0)
            try:
                return call(*args, **kwargs)
            finally:
                spent = time.thread_time() - before
                self.cpu_s[stage] = self.cpu_s.get(stage, 0.0) + spent - self._inner.pop()
                self._inner[-1] += spent

        setattr(owner, method, timed)


def _threads_cpu_s() -> dict[str, float]:
    """CPU time of this process's threads, by name."""
    names = {t.native_id: t.name for t in threading.enumerate()}
    cpu: dict[str, float] = {}
    for thread in psutil.Process().threads():
        name = names.get(thread.id, "others")
        name = "socket" if name.startswith("mqtt-") else name
        cpu[name] = cpu.get(name, 0.0) + thread.user_time + thread.system_time
    return cpu


def tree_cpu_s() -> float:
    """CPU time of this process and of those that it started."""
    return time.process_time() + sum(sum(p.cpu_times()[:2]) for p in psutil.Process().children(recursive=True))


def tree_peak_mib() -> int:
    """The most memory that each process of the tree ever had, added up. [MiB]"""
    peak_kib = 0
    for pid in (os.getpid(), *(p.pid for p in psutil.Process().children(recursive=True))):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                peak_kib += int(line.split()[1])
    return round(peak_kib / 1024)


def settings_for(home: Path, ports: Sequence[int], processes: int) -> Settings:
    """The pipeline's settings: the defaults, but for the limit on what a device may send.

    A few thousand devices stand for a big city here, so each sends more than a real one may.
    """
    return Settings(
        city=CitySettings("bench", 7.0),
        data=DataSettings(folder=home),
        brokers=tuple(BrokerSettings(f"b{i}", "127.0.0.1", port, processes=processes) for i, port in enumerate(ports)),
        limits=Limits(device_readings_per_s=0.0),
        store=StoreSettings(folder=home / "store"),
        page=PageSettings(port=0),
    )


def pipeline_process(
    ports: Sequence[int], datastreams: int, folder: str, pipe: Connection, processes: int, profile: bool
) -> None:
    """A pipeline as ``pantau run`` has it: durable journal, core with alarms, loss account, embedded store, page."""
    import pantau.runtime as runtime
    from devices.registry import Registry
    from storage.embedded import EmbeddedStore

    settings = settings_for(Path(folder), ports, processes)
    city = gauges(datastreams)
    registry = Registry(settings.data.registry)
    registry.save(
        city=city.city, utc_offset_h=7.0, sites=city.sites, devices=city.devices, datastreams=city.datastreams
    )
    registry.close()
    profiled = Profiled() if profile else None
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
    if profiled is None:
        watch.around(pipeline.receiver, "poll", "decode")
        watch.around(pipeline, "_journal", "journal")
        watch.around(runtime, "step", "core")
        watch.around(pipeline.account, "take", "account")
        watch.around(pipeline, "_put", "hand to store")
        watch.around(pipeline.live, "observe", "page")
        watch.around(pipeline.watch, "observe", "technician's page")
        watch.around(pipeline, "_tell_health", "health")
        watch.around(pipeline, "_keep_account", "account")
    while pipeline.receiver.listening_since_ns is None:
        pipeline.work()
    pipe.send("listening")
    expected, began, cpu, own_cpu, done_at = -1, 0.0, 0.0, 0.0, 0.0
    threads: dict[str, float] = {}
    taken, taken_at = 0, time.monotonic()
    if profiled is not None:
        profiled.enable()
    while True:
        pipeline.work()
        readings = pipeline.counts.readings + sum(pipeline.counts.refused.values())
        now = time.monotonic()
        if readings != taken:
            taken, taken_at = readings, now
        if expected < 0 and pipe.poll():
            word = pipe.recv()
            if word == "begin":
                began, cpu, own_cpu, threads = time.monotonic(), tree_cpu_s(), time.process_time(), _threads_cpu_s()
                watch.cpu_s.clear()
                taken_at = began
                pipe.send("begun")
            else:
                expected = word
        if not done_at and expected >= 0 and (readings >= expected or now - taken_at > GIVE_UP_S):
            done_at = taken_at
        stored = pipeline.writer.status().readings_written
        if done_at and (stored >= pipeline.counts.readings or now - done_at > 60 + GIVE_UP_S):
            break
    if profiled is not None:
        profiled.disable()
    stored_at, cpu, own_cpu = time.monotonic(), tree_cpu_s() - cpu, time.process_time() - own_cpu
    by_stage = dict(watch.cpu_s)
    for name, seconds in _threads_cpu_s().items():
        if name != "MainThread":
            by_stage[name] = seconds - threads.get(name, 0.0)
    if cpu - own_cpu > 0.01:
        by_stage["receiving processes"] = cpu - own_cpu
    by_stage["rest"] = cpu - sum(by_stage.values())
    peak_mib = tree_peak_mib()
    statuses = pipeline.receiver.status()
    counts = pipeline.counts
    pipeline.close()
    store = EmbeddedStore(settings.store.folder)
    kept = store.count_readings(*EVERYTHING_NS)
    store.close()
    pipe.send(
        {
            "readings": counts.readings,
            "refused": sum(counts.refused.values()),
            "duplicates": counts.duplicates,
            "in_store": kept,
            "dropped_by_broker": sum(s.broker_dropped or 0 for s in statuses),
            "seconds": done_at - began,
            "seconds_to_stored": stored_at - began,
            "cpu_s": cpu,
            "cpu_by_stage_s": by_stage,
            "rss_peak_mib": peak_mib,
            "latencies_s": latencies_s,
            "profile": [] if profiled is None else profiled.top(),
        }
    )
