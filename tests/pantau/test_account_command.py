"""``pantau account`` on a pipeline that ran: tables, JSON, brokers, and the comparison with the store."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ingest.account import NAME
from ingest.account_counts import NS_PER_HOUR
from storage.embedded import EmbeddedStore
from storage.store import StoredBatch
from telemetry.observations import Observations
from telemetry.results import Transitions, Windows
from tests.pantau.running import get, publisher, register, running, settings_for, wait_for
from tests.real_parts.account import assert_balances
from tests.real_parts.mosquitto import Mosquitto

pytestmark = pytest.mark.mosquitto


def account(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    config = folder / "pantau.toml"
    config.write_text(f'[city]\nname = "kota"\n[data]\nfolder = "{folder}"\n', encoding="utf-8")
    command = [sys.executable, "-m", "pantau", "account", "-c", str(config), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_account_of_a_run_balances_and_is_verified_against_the_store(tmp_path: Path) -> None:
    with Mosquitto(persistence=True) as broker:
        settings = settings_for(tmp_path, broker.port)
        register(settings)
        t = time.time_ns() // 1_000_000
        with running(settings) as pipeline, publisher(broker.port) as publish:
            for i in range(5):
                publish("pantau/v1/kota/g0", {"time": t - i, "property": "water_level_m", "value": 1})
            for _ in range(2):
                publish("pantau/v1/kota/g1", {"time": t, "values": {"water_level_m": 1, "battery_v": 3}})
            publish("pantau/v1/kota/g1", {"time": t - 26 * 3_600_000, "property": "battery_v", "value": 3})
            publish("pantau/v1/kota/g0", b"{")
            publish("pantau/v1/kota/nobody", b"{}")
            wait_for(
                lambda: get(pipeline, "/api/account?device=g1")["stored"] == 3,
                "the account of g1",
            )
            beside = account(tmp_path, "--json")  # beside the running pipeline
            page = get(pipeline, "/api/account?device=g1")
        total = assert_balances(tmp_path, sent=12, refused=2)
        assert (total.received, total.duplicate, total.stored) == (10, 2, 8)
        assert (page["received"], page["duplicate"], page["unaccounted"]) == (5, 2, 0)
        assert page["hours"][0]["stored"] == 2
        found: dict[str, Any] = json.loads(beside.stdout)
        assert found["balances"] and {r["device"] for r in found["rows"]} >= {"g0", "g1"}

        shown = account(tmp_path, "--verify")
        assert shown.returncode == 0, shown.stderr
        assert "The store agrees" in shown.stdout
        assert shown.stdout.rstrip().endswith(
            "It balances: 12 arrived = 10 received + 2 refused; 10 received = 2 duplicate + 8 stored + 0 waiting."
        )
        hours = json.loads(account(tmp_path, "--device", "g1", "--json").stdout)["rows"]
        assert [(r["received"], r["duplicate"], r["stored"]) for r in hours] == [(1, 0, 1), (4, 2, 2)]
        assert len(json.loads(account(tmp_path, "--device", "g1", "--from", "2h", "--json").stdout)["rows"]) == 1
        days = json.loads(account(tmp_path, "--device", "g1", "--by", "day", "--json").stdout)["rows"]
        assert [r["hours"] for r in days] == [24, 24]
        brokers = json.loads(account(tmp_path, "--broker", "--json").stdout)["brokers"]
        assert [(b["broker"], b["delivered"], b["refused"], b["reconnects"]) for b in brokers] == [("main", 10, 2, 0)]
        assert "No broker says that it dropped" in account(tmp_path, "--broker").stdout

        # The store lost a file, and has a reading that the account knows nothing of.
        at = (t * 1_000_000 // NS_PER_HOUR - 5) * NS_PER_HOUR
        store = EmbeddedStore(settings.store.folder)
        lost = max((settings.store.folder / "readings").glob("*/*.parquet"), key=lambda p: p.stat().st_size)
        with sqlite3.connect(settings.store.folder / "catalog.sqlite") as catalog:
            catalog.execute("DELETE FROM files WHERE name = ?", (str(lost.relative_to(settings.store.folder)),))
        stranger = Observations.of([0], [at], [1.0])
        store.write(StoredBatch(1, 1, pipeline.directory, stranger, Windows.empty(), Transitions.empty()))
        store.close()
        differs = account(tmp_path, "--verify")
        assert differs.returncode == 1
        assert "0 stored by the account, 1 in the store" in differs.stdout
        assert "differences." in differs.stdout


def test_without_an_account_it_says_so(tmp_path: Path) -> None:
    done = account(tmp_path)
    assert done.returncode == 1
    assert "there is no loss account at" in done.stderr
    with Mosquitto() as broker:
        settings = settings_for(tmp_path, broker.port)
        register(settings)
        with running(settings):
            pass
    wrong = account(tmp_path, "--from", "yesterday")
    assert wrong.returncode == 1
    assert "--from: a time must be RFC 3339 with zone" in wrong.stderr


def test_a_lost_account_begins_anew_and_is_right_from_there(tmp_path: Path) -> None:
    with Mosquitto(persistence=True) as broker:
        settings = settings_for(tmp_path, broker.port)
        register(settings)
        for _ in range(2):
            with running(settings) as pipeline, publisher(broker.port) as publish:
                publish("pantau/v1/kota/g0", {"time": time.time_ns(), "property": "water_level_m", "value": 1})
                wait_for(lambda: pipeline.counts.readings == 1, "the reading")
            assert_balances(tmp_path)
            for file in tmp_path.glob(f"{NAME}*"):
                file.unlink()


def test_an_older_account_put_back_begins_anew(tmp_path: Path) -> None:
    with Mosquitto(persistence=True) as broker:
        settings = settings_for(tmp_path, broker.port)
        register(settings)
        for turn in range(3):
            with running(settings) as pipeline, publisher(broker.port) as publish:
                publish("pantau/v1/kota/g0", {"time": time.time_ns(), "property": "water_level_m", "value": 1})
                wait_for(lambda: pipeline.counts.readings == 1, "the reading")
            if turn == 0:
                shutil.copy(tmp_path / NAME, tmp_path / "kept")
            if turn == 1:
                shutil.copy(tmp_path / "kept", tmp_path / NAME)
        total = assert_balances(tmp_path)
        assert total.received == 2  # of the first and the last turn
