"""A pipeline that is killed again and again ends with the same readings, windows and alarms as an undisturbed one."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ingest.settings import BrokerSettings
from simulators.recording import Recording, load_recording
from simulators.replay import Sent, register, replay
from storage.embedded import EmbeddedStore
from tests.real_parts.account import assert_balances
from tests.real_parts.mosquitto import QUEUES_WITHOUT_LIMITS, Mosquitto, free_port

DON = Path(__file__).parents[2] / "simulators" / "recordings" / "don_hadfields_2007"
EVERYTHING = (0, 2**62)
KILLS = 4

pytestmark = pytest.mark.mosquitto


def start(folder: Path, broker_port: int, page_port: int, processes: int = 1) -> subprocess.Popen[bytes]:
    """``pantau run``, as its user would start it."""
    config = folder / "pantau.toml"
    config.write_text(
        f"""
        [city]
        name = "sheffield"
        [clock]
        source = "broker"
        [data]
        folder = "{folder / "data"}"
        snapshot_interval_s = 0.5
        [[broker]]
        name = "main"
        host = "127.0.0.1"
        port = {broker_port}
        backoff_max_s = 0.5
        processes = {processes}
        [limits]
        max_batch_messages = 500
        [page]
        port = {page_port}
        access = "open"
        """,
        encoding="utf-8",
    )
    return subprocess.Popen(
        [sys.executable, "-m", "pantau", "run", "--config", str(config)], stdout=subprocess.DEVNULL, cwd=folder
    )


def status(page_port: int) -> dict[str, Any] | None:
    """What the page says, or None while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{page_port}/api/status", timeout=2) as response:
            found: dict[str, Any] = json.load(response)
            return found
    except (OSError, urllib.error.URLError):
        return None


def run(
    folder: Path, recording: Recording, kills: int, processes: int = 1, kill: Callable[[int, int], bool] | None = None
) -> tuple[dict[str, Any], Sent]:
    """Replay a recording into a pipeline that is killed ``kills`` times; returns what its store holds.

    ``kill``, called with the process id and which time it is, may kill something else instead: then it says True.
    """
    from devices.registry import Registry

    (folder / "data").mkdir(parents=True)
    registry = Registry(f"sqlite:///{folder / 'data' / 'registry.sqlite'}")
    register(recording, registry)
    registry.close()
    chance, page_port = random.Random(7), free_port()
    with Mosquitto(QUEUES_WITHOUT_LIMITS) as broker:
        process = start(folder, broker.port, page_port, processes)
        # The session must be there before anything is published: from then on the broker keeps what we miss.
        wait(lambda: (s := status(page_port)) and s["brokers"] and s["brokers"][0]["connected"], "the first connection")
        sent = replay(recording, BrokerSettings("main", "127.0.0.1", broker.port))
        for number in range(kills):
            time.sleep(chance.uniform(0.3, 1.5))
            if kill is not None and kill(process.pid, number):
                continue
            process.send_signal(signal.SIGKILL)
            process.wait()
            process = start(folder, broker.port, page_port, processes)
            wait(lambda: status(page_port), "the page after a restart")
        end = sent.final_clock // 1_000_000
        wait(
            lambda: (
                (s := status(page_port))
                and s["clock"]["now_ms"] >= end
                and s["store"]
                and s["store"]["backlog_rows"] == 0
            ),
            "the pipeline to catch up",
        )
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    return stored(folder, recording), sent


def stored(folder: Path, recording: Recording) -> dict[str, Any]:
    """What the store of a run holds."""
    store = EmbeddedStore(folder / "data" / "store")
    names = [d.id for d in recording.datastreams]
    found: dict[str, Any] = {}
    for name in names:
        readings = store.readings(name, *EVERYTHING)
        found[name] = (readings.observed_at, readings.value, readings.flag)
        for width_s in (60, 900, 3600):
            w = store.windows(name, width_s, *EVERYTHING)
            found[f"{name} {width_s}"] = (w.start, w.count, w.good_count, w.minimum, w.maximum, w.mean, w.last)
    found["alarms"] = [
        (r.subject, r.raised_at, r.at, r.state, r.severity, r.value, r.threshold, r.peak, r.peak_at)
        for r in store.transitions(*EVERYTHING)
    ]
    store.close()
    return found


def wait(condition: Any, what: str, timeout_s: float = 60.0) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, f"waited {timeout_s:g} s for {what}"
        time.sleep(0.05)


@pytest.mark.timeout(400)
def test_kill_9_changes_nothing(tmp_path: Path) -> None:
    recording = load_recording(DON, DON / "map.toml")
    undisturbed, sent = run(tmp_path / "undisturbed", recording, 0)
    killed, _ = run(tmp_path / "killed", recording, KILLS)
    assert sum(len(undisturbed[d.id][0]) for d in recording.datastreams) == sent.readings
    by_device = {d.id: 0 for d in recording.devices}
    for d in recording.datastreams:
        by_device[d.device] += len(undisturbed[d.id][0])
    calm = assert_balances(tmp_path / "undisturbed" / "data", sent=by_device, refused=0)
    torn = assert_balances(tmp_path / "killed" / "data", sent=by_device, refused=0, redelivered=True)
    assert (torn.stored, torn.received - torn.duplicate) == (calm.stored, sent.readings)
    assert undisturbed.keys() == killed.keys()
    assert killed["alarms"] == undisturbed["alarms"]
    assert len(killed["alarms"]) > 10
    for name in undisturbed.keys() - {"alarms"}:
        for mine, theirs in zip(killed[name], undisturbed[name], strict=True):
            np.testing.assert_array_equal(mine, theirs, err_msg=name)
