"""The end-to-end benchmark's own sums are right; what it measures is for an idle machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.end_to_end import end_to_end
from benchmarks.profiling import as_markdown

pytestmark = pytest.mark.mosquitto
HOME = Path(__file__).parents[2]


def test_two_brokers_with_batches_and_the_profiler() -> None:
    row = end_to_end(41, None, 50, readings=20, brokers=2, profile=True)
    assert (row["published"], row["published_readings"], row["stored"], row["lost"]) == (41, 820, 820, 0)
    assert row["duplicates"] == row["refused"] == 0
    assert row["cpu_s_per_million_messages"] > 0
    assert row["readings_per_s"] == pytest.approx(20 * row["messages_per_s"], rel=0.2)
    shares = [f["share"] for f in row["profile"]]
    assert len(shares) == 10
    assert shares == sorted(shares, reverse=True)
    assert {f["thread"] for f in row["profile"]} <= {"loop", "connection"}
    assert as_markdown(row["profile"], 41).count("\n") == 11


def test_latencies_are_of_the_probes_alarms() -> None:
    row = end_to_end(1200, 600.0, 20, probe_every=20)
    assert row["lost"] == 0
    assert row["alarms"] == 60
    assert 0 < row["publish_to_alarm_ms"]["p50"] <= row["publish_to_alarm_ms"]["p99"] < 60_000


def test_the_plain_loop_by_command() -> None:
    command = [
        sys.executable,
        "-m",
        "benchmarks.end_to_end",
        "--messages",
        "300",
        "--batches",
        "3",
        "--only",
        "paho,batches",
    ]
    out = json.loads(subprocess.run([*command, "--json"], cwd=HOME, stdout=subprocess.PIPE, check=True).stdout)
    rows = {r["run"]: r for r in out["end_to_end"]}
    assert [r["lost"] for r in rows.values()] == [0] * len(rows)
    assert rows["plain paho loop, single readings, flat out"]["stored"] is None
    assert rows["100 readings a message, flat out"]["stored"] == 300
