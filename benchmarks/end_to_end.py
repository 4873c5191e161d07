"""The whole pipeline on this machine: Mosquitto, journal, core, alarms and embedded store, at QoS 1.

    pantau bench [--short] [--brokers 1,2,4] [--processes 1,2] [--profile] [--json]

Publisher and Mosquitto are processes of their own on the same machine; the pipeline is a third one, which is measured,
and so is a plain paho-mqtt loop that only counts, on the same stream. Every run checks that what was published is what
the store holds. See docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.cities import gauges
from benchmarks.profiling import as_markdown
from benchmarks.subjects import pipeline_process
from processing.core import State, step
from telemetry.observations import NS_PER_S, Observations
from tests.real_parts.mosquitto import Mosquitto

SECTIONS = ("publisher", "single", "paho", "batches", "latency", "core")
"""What can be run; with ``--brokers``, ``--processes`` and ``--profile`` more."""


class _Publishers:
    """One publisher for each broker, which all begin at once; the devices are shared out among them."""

    def __init__(
        self,
        ports: Sequence[int],
        messages: int,
        devices: int,
        rate_per_s: float | None = None,
        probe_every: int = 0,
        readings: int = 1,
    ) -> None:
        self._processes = []
        for i, port in enumerate(ports):
            share = messages // len(ports) + (i < messages % len(ports))
            command = [sys.executable, "-m", "benchmarks.publisher", "--wait", "--port", str(port), "--city", "bench"]
            command += ["--devices", str(devices // len(ports)), "--first-device", str(i * (devices // len(ports)))]
            command += ["--messages", str(share), "--probe-every", str(probe_every), "--readings", str(readings)]
            command += [] if rate_per_s is None else ["--rate", str(rate_per_s / len(ports))]
            self._processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        for process in self._processes:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise RuntimeError("a publisher could not begin")

    def publish(self) -> list[dict[str, Any]]:
        """Begin, and wait until all is acknowledged by the brokers."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        said = [process.communicate()[0] for process in self._processes]
        if any(process.returncode for process in self._processes):
            raise RuntimeError("a publisher failed")
        return [json.loads(text) for text in said]


def _cpu_s(brokers: Sequence[Mosquitto]) -> float:
    return sum(sum(psutil.Process(b.pid).cpu_times()[:2]) for b in brokers)


def _ended(subject: subprocess.Popen[bytes] | BaseProcess) -> None:
    """Wait for its end."""
    if isinstance(subject, subprocess.Popen):
        subject.wait(60)
    else:
        subject.join(60)


def publisher_alone(messages: int, datastreams: int, readings: int = 1) -> dict[str, Any]:
    """How fast the publisher is with nobody subscribed: what it can't be, nothing else can be measured to be."""
    with Mosquitto() as broker:
        publishers = _Publishers([broker.port], messages, datastreams, readings=readings)
        before = _cpu_s([broker])
        (got,) = publishers.publish()
        broker_cpu = _cpu_s([broker]) - before
    n = got["acknowledged"]
    return {
        "published": n,
        "messages_per_s": round(n / got["seconds"]),
        "readings_per_s": round(n * readings / got["seconds"]),
        "publisher_cpu_s_per_million_messages": round(got["cpu_seconds"] / n * 1e6, 2),
        "mosquitto_cpu_s_per_million_messages": round(broker_cpu / n * 1e6, 2),
    }


def end_to_end(
    messages: int,
    rate_per_s: float | None,
    datastreams: int,
    probe_every: int = 0,
    readings: int = 1,
    *,
    brokers: int = 1,
    processes: int = 1,
    plain: bool = False,
    profile: bool = False,
) -> dict[str, Any]:
    """One run through everything; ``plain``: through the plain paho-mqtt loop instead."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        mosquittos = [stack.enter_context(Mosquitto()) for _ in range(brokers)]
        ports = [m.port for m in mosquittos]
        ours, theirs = multiprocessing.Pipe()
        subject: subprocess.Popen[bytes] | BaseProcess
        if plain:
            descriptor = theirs.fileno()
            command = [sys.executable, "-m", "benchmarks.plain_paho", str(ports[0]), str(descriptor)]
            subject = subprocess.Popen(command, pass_fds=[descriptor])
        else:
            what = (ports, datastreams, folder, theirs, processes, profile)
            subject = context.Process(target=pipeline_process, args=what)
            subject.start()
        theirs.close()
        try:
            ours.recv()
            publishers = _Publishers(ports, messages, datastreams, rate_per_s, probe_every, readings)
            ours.send("begin")
            ours.recv()
            before = _cpu_s(mosquittos)
            said = publishers.publish()
            acknowledged = sum(p["acknowledged"] for p in said)
            ours.send(acknowledged if plain else acknowledged * readings)
            got: dict[str, Any] = ours.recv()
            broker_cpu = _cpu_s(mosquittos) - before
            _ended(subject)
        except BaseException:
            subject.terminate()
            raise
    if plain:
        stored, lost, n = None, acknowledged - got["messages"], got["messages"]
    else:
        stored = got["in_store"]
        lost = acknowledged * readings - stored - got["refused"] - got["duplicates"]
        n = got["readings"] / readings
    seconds, million = got["seconds"] or 1e-9, max(n, 1) / 1e6
    row = {
        "datastreams": datastreams,
        "offered_per_s": rate_per_s,
        "brokers": brokers,
        "processes": processes,
        "published": acknowledged,
        "published_readings": acknowledged * readings,
        "stored": stored,
        "lost": lost,
        "messages_per_s": round(n / seconds),
        "readings_per_s": round(n * readings / seconds),
        "cpu_s_per_million_messages": round(got["cpu_s"] / million, 2),
        "mosquitto_cpu_s_per_million_messages": round(broker_cpu / million, 2),
        "publisher_cpu_s_per_million_messages": round(sum(p["cpu_seconds"] for p in said) / million, 2),
        "publisher_messages_per_s": round(acknowledged / max(p["seconds"] for p in said)),
        "rss_peak_mib": got["rss_peak_mib"],
    }
    if plain:
        return row
    row |= {
        "refused": got["refused"],
        "duplicates": got["duplicates"],
        "stored_readings_per_s": round(n * readings / got["seconds_to_stored"]),
        "cpu_s_per_million_messages_by_stage": {
            k: round(v / million, 2) for k, v in got["cpu_by_stage_s"].items() if v > 0.0
        },
        "dropped_by_broker": got["dropped_by_broker"],
    }
    latencies = np.array(got["latencies_s"])
    if probe_every and latencies.size:
        row["alarms"] = int(latencies.size)
        row["publish_to_alarm_ms"] = {
            f"p{q}": round(float(np.percentile(latencies, q)) * 1000, 1) for q in (50, 99, 100)
        }
    if profile:
        row["profile"] = got["profile"]
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
        **{name: version(name) for name in ("numpy", "mqtt5", "msgspec", "polars", "duckdb", "paho-mqtt")},
    }


def _numbers(text: str) -> list[int]:
    try:
        found = [int(part) for part in text.split(",") if part]
    except ValueError:
        found = [0]
    if any(n < 1 for n in found):
        raise argparse.ArgumentTypeError(f"expected numbers above 0 with commas between, got {text!r}")
    return found


def _sections(text: str) -> list[str]:
    found = [part for part in text.split(",") if part]
    for part in found:
        if part not in SECTIONS:
            raise argparse.ArgumentTypeError(f"{part!r} is none of {', '.join(SECTIONS)}")
    return found


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options but ``--json``."""
    parser.add_argument("--short", action="store_true", help="a quick, rough run: a tenth of everything")
    parser.add_argument("--messages", type=int, default=600_000, help="of one reading, flat out (default: 600000)")
    parser.add_argument("--batches", type=int, default=0, help="of 100 readings (default: a thirtieth of --messages)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of the runs at a given rate (default: 20)")
    parser.add_argument("--brokers", type=_numbers, default=[], help="also over so many brokers, such as 1,2,4")
    parser.add_argument("--processes", type=_numbers, default=[], help="also with so many receiving processes")
    parser.add_argument("--profile", action="store_true", help="also the ten functions with the most CPU time")
    parser.add_argument(
        "--only", type=_sections, default=list(SECTIONS), help=f"some of {','.join(SECTIONS)}; '' for none"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measure Pantau end to end on this machine")
    add_options(parser)
    parser.add_argument("--json", action="store_true")
    found = measure(parser.parse_args())
    print(json.dumps(found, indent=2) if found["json"] else _markdown(found))


def measure(a: argparse.Namespace) -> dict[str, Any]:
    """Run what was asked for, one after another."""
    part = 10 if a.short else 1
    flat = max(1, a.messages // part)
    batches = max(1, (a.batches or a.messages // 30) // part)
    seconds = a.seconds / part
    runs: list[tuple[str, dict[str, Any]]] = []
    if "single" in a.only:
        runs.append(("single readings, flat out", {"messages": flat}))
    if "paho" in a.only:
        runs.append(("plain paho loop, single readings, flat out", {"messages": flat, "plain": True}))
    if "batches" in a.only:
        runs.append(("100 readings a message, flat out", {"messages": batches, "readings": 100}))
    if "batches" in a.only and "paho" in a.only:
        what = {"messages": batches, "readings": 100, "plain": True}
        runs.append(("plain paho loop, 100 readings a message, flat out", what))
    if "latency" in a.only:
        for rate, datastreams in ((1_000, 1_000), (10_000, 10_000)):
            what = {"messages": round(rate * seconds), "rate_per_s": float(rate), "datastreams": datastreams}
            runs.append((f"single readings, {rate:,} messages/s", what | {"probe_every": rate // 20}))
    runs += [
        (f"single readings, flat out, {n} broker{'s' * (n > 1)}", {"messages": flat, "brokers": n}) for n in a.brokers
    ]
    for n in a.processes:
        runs.append((f"single readings, flat out, processes = {n}", {"messages": flat, "processes": n}))
    found: dict[str, Any] = {"json": a.json, "machine": machine(), "publisher": [], "end_to_end": [], "core": []}
    began = time.monotonic()
    if "publisher" in a.only:
        for name, messages, readings in (("single readings", flat, 1), ("100 readings a message", batches, 100)):
            _say(f"publisher alone, {name}", began)
            found["publisher"].append({"run": name, **publisher_alone(messages, 10_000, readings)})
    for name, what in runs:
        _say(name, began)
        arguments = {"rate_per_s": None, "datastreams": 10_000} | what
        found["end_to_end"].append({"run": name, **end_to_end(**arguments)})
    if a.profile:
        _say("with the profiler", began)
        row = end_to_end(flat, None, 10_000, profile=True)
        found["profile"] = {"published": row["published"], "top": row["profile"]}
    if "core" in a.only:
        for datastreams in (1_000, 10_000, 100_000):
            for rows in (1_000, 100_000):
                if rows <= datastreams or rows == 1_000:
                    _say(f"core, {datastreams} datastreams, batches of {min(rows, datastreams)}", began)
                    found["core"].append(core_cost(datastreams, rows))
    _say("done", began)
    return found


def _say(text: str, began: float) -> None:
    print(f"bench: {time.monotonic() - began:5.0f} s  {text}", file=sys.stderr, flush=True)


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """A Markdown table; all but the first column are to the right."""

    def cell(x: Any) -> str:
        return "" if x is None else f"{x:,}" if isinstance(x, (int, float)) else str(x)

    lines = ["| " + " | ".join(heads) + " |", "|---|" + "--:|" * (len(heads) - 1)]
    return lines + ["| " + " | ".join(map(cell, row)) + " |" for row in rows]


def _markdown(found: dict[str, Any]) -> str:
    lines = [", ".join(f"{k} {v}" for k, v in found["machine"].items()), ""]
    if found["publisher"]:
        heads: tuple[str, ...] = (
            "publisher alone",
            "published",
            "messages/s",
            "readings/s",
            "its CPU s/M messages",
            "Mosquitto's",
        )
        keys: tuple[str, ...] = (
            "run",
            "published",
            "messages_per_s",
            "readings_per_s",
            "publisher_cpu_s_per_million_messages",
        )
        keys += ("mosquitto_cpu_s_per_million_messages",)
        lines += [*_table(heads, [[r[k] for k in keys] for r in found["publisher"]]), ""]
    if found["end_to_end"]:
        heads = ("run", "published", "readings", "stored", "lost", "published/s", "messages/s", "readings/s", "CPU s/M")
        heads += ("Mosquitto's", "publisher's", "p50 ms", "p99 ms", "RSS peak MiB")
        keys = ("run", "published", "published_readings", "stored", "lost", "publisher_messages_per_s")
        keys += ("messages_per_s", "readings_per_s")
        keys += ("cpu_s_per_million_messages", "mosquitto_cpu_s_per_million_messages")
        keys += ("publisher_cpu_s_per_million_messages",)
        rows = []
        for r in found["end_to_end"]:
            latency = r.get("publish_to_alarm_ms", {})
            rows.append([*(r[k] for k in keys), latency.get("p50"), latency.get("p99"), r["rss_peak_mib"]])
        lines += [*_table(heads, rows), ""]
        for r in found["end_to_end"]:
            if stages := r.get("cpu_s_per_million_messages_by_stage"):
                lines.append(f"- {r['run']}: CPU s/M messages: " + ", ".join(f"{k} {v}" for k, v in stages.items()))
        lines.append("")
        plain = {r["published_readings"] // r["published"]: r for r in found["end_to_end"] if "plain paho" in r["run"]}
        for r in found["end_to_end"]:
            other = plain.get(r["published_readings"] // r["published"])
            if other is None or r is other or r["offered_per_s"] is not None:
                continue
            speed = r["messages_per_s"] / max(other["messages_per_s"], 1)
            cpu = r["cpu_s_per_million_messages"] / max(other["cpu_s_per_million_messages"], 1e-9)
            lines.append(f"- {r['run']}: {speed:.2f} times the messages/s of the plain loop, {cpu:.2f} times its CPU")
        lines.append("")
    if "profile" in found:
        lines += [as_markdown(found["profile"]["top"], found["profile"]["published"]), ""]
    if found["core"]:
        heads = ("datastreams", "batch", "CPU µs a reading", "million readings a CPU s", "state, bytes a datastream")
        keys = ("datastreams", "batch", "cpu_us_per_reading", "million_per_cpu_s", "state_bytes_per_datastream")
        lines += _table(heads, [[r[k] for k in keys] for r in found["core"]])
    return "\n".join(lines).rstrip()


if __name__ == "__main__":
    main()
