"""``pantau demo``: a newcomer sees rain, a river that rises, a flood alarm that climbs, a jam and a failed lamp."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.real_parts.account import assert_balances

SPEED = 240
"""Simulated seconds per second; the demo's own 60 would take this test four times as long."""
SEEN_WITHIN_S = 120 * 60
"""Two minutes at the demo's own speed. [simulated s]"""


def get(url: str, path: str) -> Any:
    with urllib.request.urlopen(url + path, timeout=10) as response:
        return json.load(response)


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@contextlib.contextmanager
def demo(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the demo until the block ends; yields the process and the address that it prints."""
    command = [sys.executable, "-m", "pantau", "demo", "--port", "0", "--folder", str(folder), "--speed", str(SPEED)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.stdout is not None
        url = ""
        for line in process.stdout:
            if line.startswith("Open "):
                url = line.split()[1]
            if line.startswith("Stop "):
                break
        assert url.startswith("http://127.0.0.1:"), "the demo ended before it printed its address"
        yield process, url
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def stop(process: subprocess.Popen[str]) -> None:
    """Ctrl-C: everything ends, and says so."""
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2  # the broker and the fleet
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive
    assert process.stdout is not None
    assert process.stdout.read().endswith("stopped\n")


@pytest.mark.timeout(300)
def test_the_living_city(tmp_path: Path) -> None:
    with demo(tmp_path / "demo") as (process, url):
        status = get(url, "/api/status")
        assert status["devices"] >= 300
        began: float | None = None
        seen: dict[str, float] = {}
        until = time.monotonic() + 200
        while len(seen) < 6 and time.monotonic() < until:
            status = get(url, "/api/status")
            if status["counts"]["readings"] and began is None:
                began = seconds(status["clock"]["now"])
            alarms = get(url, "/api/alarms")["alarms"]
            for alarm in alarms:
                if alarm["property"] == "water_level_m":
                    for t in alarm["transitions"]:
                        seen.setdefault(f"river at severity {t['severity']}", seconds(t["at"]))
                if alarm["property"] == "speed_km_h":
                    seen.setdefault("jam", seconds(alarm["raised_at"]))
                if alarm["property"] == "lamp_power_w":
                    seen.setdefault("lamp", seconds(alarm["raised_at"]))
                if alarm["kind"] == "silence":
                    seen.setdefault("silent device", seconds(alarm["raised_at"]))
            time.sleep(0.2)
        assert began is not None
        assert status["clock"]["source"] == "broker" and status["clock"]["speed"] == SPEED
        expected = {"river at severity 1", "river at severity 2", "river at severity 3", "jam", "lamp", "silent device"}
        assert expected <= set(seen), f"not seen: {expected - set(seen)}"
        assert {what: t - began < SEEN_WITHIN_S for what, t in seen.items()} == dict.fromkeys(seen, True)
        counts = get(url, "/api/status")["counts"]
        assert (counts["refused"], counts["duplicates"], counts["late"]) == (0, 0, 0)
        end = seconds(get(url, "/api/status")["clock"]["now"])
        flood = next(a for a in get(url, "/api/alarms")["alarms"] if a["property"] == "water_level_m")
        stop(process)
    with demo(tmp_path / "demo") as (process, url):
        until = time.monotonic() + 30
        while get(url, "/api/status")["counts"]["readings"] == 0:
            assert time.monotonic() < until, "no reading after the second start"
            time.sleep(0.1)
        status = get(url, "/api/status")
        assert end <= seconds(status["clock"]["now"]) < end + 3600
        again = get(url, f"/api/alarms?from={flood['raised_at']}&to={status['clock']['now']}")["alarms"]
        assert flood["id"] in {a["id"] for a in again}
        assert status["counts"]["late"] == 0
        stop(process)
    total = assert_balances(tmp_path / "demo")
    assert total.stored > 0 and not total.refused
