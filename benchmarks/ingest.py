"""CPU of ingest a message: from Mosquitto's socket to journaled columns, acknowledged. Loss is counted.

    python -m benchmarks.ingest [--messages 60000] [--rate 15000] [--devices 1000]

The publisher and Mosquitto are processes of their own, on the same machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import psutil

from ingest.dead_letters import DeadLetters
from ingest.journal import Journal
from ingest.receiver import Receiver
from ingest.settings import BrokerSettings, Limits
from ingest.steps import STEP, decode_step, encode_step
from telemetry.directory import Datastream, Device, Directory, Site
from tests.real_parts.mosquitto import Mosquitto


def directory_of(devices: int, city: str = "bench") -> Directory:
    """A city of gauges ``d0``, ``d1``, ..., each with one datastream."""
    return Directory(
        version=1,
        city=city,
        utc_offset_h=7,
        sites=(Site("s", "S", -6.9, 107.6),),
        devices=tuple(Device(f"d{i}", "s") for i in range(devices)),
        datastreams=tuple(Datastream(f"d{i}:water_level_m", "s", f"d{i}", "water_level_m") for i in range(devices)),
    )


def run(
    messages: int, rate_per_s: float | None, devices: int, limits: Limits, *, bad: bool = False
) -> dict[str, float]:
    """One run; returns what was measured. ``bad``: as many messages again, at the same rate, that must be refused."""
    directory = directory_of(devices)
    with (
        tempfile.TemporaryDirectory() as folder,
        Mosquitto() as broker,
        Journal(Path(folder) / "journal") as journal,
        DeadLetters(Path(folder) / "dead_letters.sqlite") as dead_letters,
    ):
        receiver = Receiver([BrokerSettings("main", broker.host, broker.port)], limits, city="bench")
        receiver.start()
        while receiver.listening_since_ns is None:
            time.sleep(0.01)
        command = [sys.executable, "-m", "benchmarks.publisher", "--port", str(broker.port), "--city", "bench"]
        command += ["--devices", str(devices), "--messages", str(messages)]
        command += [] if rate_per_s is None else ["--rate", str(rate_per_s)]
        mosquitto = psutil.Process(broker.pid)
        broker_cpu = sum(mosquitto.cpu_times()[:2])
        publisher = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        flood = None
        if bad:
            flood = subprocess.Popen([*command, "--property", "mood", "--first", "1"], stdout=subprocess.PIPE)
        expected = 2 * messages if bad else messages
        got = refused = batches = 0
        worst_s = 0.0
        began = cpu = 0.0
        deadline = time.monotonic() + 60
        while got + refused < expected and time.monotonic() < deadline:
            now = time.time_ns()
            batch = receiver.poll(directory, now, 0.5)
            if batch is None:
                continue
            if not began:  # from the first batch on: the publisher takes its time to start
                began, cpu = time.perf_counter(), time.process_time()
                counted_from = batch.messages
            journal.append(STEP, encode_step(batch.observations, now, batch.listening_since_ns))
            journal.commit()
            dead_letters.keep(batch.dead_letters)
            receiver.acknowledge(batch)
            got, refused, batches = got + len(batch.observations), refused + len(batch.dead_letters), batches + 1
            if len(batch.observations):
                worst_s = max(worst_s, (time.time_ns() - int(batch.observations.received_at.min())) / 1e9)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        out, _ = publisher.communicate(timeout=60)
        if flood is not None:
            flood.communicate(timeout=60)
        broker_cpu = sum(mosquitto.cpu_times()[:2]) - broker_cpu
        receiver.close()
        rows = sum(len(decode_step(payload).observations) for _, _, payload in journal.read())
        dropped = receiver.status()[0].broker_dropped
    published = json.loads(out)
    measured = got + refused - counted_from
    return {
        "published": published["acknowledged"],
        "journaled": rows,
        "refused": refused,
        "broker_dropped": -1 if dropped is None else dropped,
        "messages_per_s": round(measured / seconds),
        "ingest_cpu_us_per_message": round(cpu / measured * 1e6, 2),
        "mosquitto_cpu_us_per_message": round(broker_cpu / expected * 1e6, 2),
        "batches": batches,
        "worst_socket_to_acknowledged_s": round(worst_s, 3),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="CPU of ingest a message")
    parser.add_argument("--messages", type=int, default=60_000)
    parser.add_argument("--rate", type=float, default=None, help="messages a second; default: 15000 and flat out")
    parser.add_argument("--devices", type=int, default=1000)
    a = parser.parse_args()
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    mosquitto = subprocess.run([Mosquitto().program, "-h"], capture_output=True, text=True, check=False)
    print(f"{os.cpu_count()} x {model}, Python {platform.python_version()}, {mosquitto.stdout.splitlines()[0]}")
    print(", ".join(f"{name} {version(name)}" for name in ("mqtt5", "msgspec", "numpy")), f"load {os.getloadavg()[0]}")
    for rate in [15_000.0, None] if a.rate is None else [a.rate]:
        print(f"rate {rate or 'flat out'}:", json.dumps(run(a.messages, rate, a.devices, Limits())), flush=True)
    rate = 15_000.0 if a.rate is None else a.rate
    result = run(a.messages, rate, a.devices, Limits(), bad=True)
    print(f"rate {rate} good and {rate} bad ones:", json.dumps(result))


if __name__ == "__main__":
    main()
