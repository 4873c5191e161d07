"""Real recordings, at top speed, through a real Mosquitto and the pipeline into a real InfluxDB, and read back."""

from __future__ import annotations

import contextlib
import json
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devices.registry import Registry
from ingest.settings import BrokerSettings, ClockSource
from simulators.recording import Recording, load_recording
from simulators.replay import register, replay
from simulators.replay_page import PipelinePage
from simulators.replay_report import Report, collect_report
from storage.settings import StoreSettings
from tests.pantau.running import running, settings_for
from tests.real_parts.account import assert_balances
from tests.real_parts.influxdb import InfluxDB
from tests.real_parts.mosquitto import QUEUES_WITHOUT_LIMITS, Mosquitto

RECORDINGS = Path(__file__).parents[2] / "simulators" / "recordings"

pytestmark = [pytest.mark.mosquitto, pytest.mark.influxdb, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def influx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InfluxDB]:
    with InfluxDB(tmp_path_factory.mktemp("influx")) as server:
        yield server


def replayed(folder: Path, influx: InfluxDB, name: str) -> tuple[Recording, Report]:
    """Replay a recording into a database of its own name; returns it and what became of it."""
    recording = load_recording(RECORDINGS / name, RECORDINGS / name / "map.toml")
    store = StoreSettings(kind="influxdb", url=influx.url, api="v1", bucket=name)
    with Mosquitto(QUEUES_WITHOUT_LIMITS) as broker:
        settings = settings_for(folder, broker.port, clock=ClockSource.BROKER, city=recording.city, store=store)
        settings.data.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(Registry(settings.data.registry)) as registry:
            version = register(recording, registry)
        with running(settings) as pipeline:
            assert pipeline.page is not None
            page = PipelinePage(pipeline.page.url)
            sent = replay(
                recording, BrokerSettings("main", "127.0.0.1", broker.port), page=page, directory_version=version
            )
            report = collect_report(page, recording, sent)
            assert_balances(folder, sent=sent.readings, refused=0, store=pipeline.store)
            return recording, report


def ask(influx: InfluxDB, database: str, query: str) -> list[list[Any]]:
    """The rows of InfluxDB's own answer."""
    form = urllib.parse.urlencode({"db": database, "q": query, "epoch": "s"})
    with urllib.request.urlopen(f"{influx.url}/query?{form}") as response:
        result = json.load(response)["results"][0]
    assert "error" not in result, result
    return [row for series in result.get("series", []) for row in series["values"]]


def truth(name: str) -> Any:
    return json.loads((RECORDINGS / name / "truth.json").read_text(encoding="utf-8"))


def test_a_flood_don_2007(tmp_path: Path, influx: InfluxDB) -> None:
    _, report = replayed(tmp_path, influx, "don_hadfields_2007")
    known = truth("don_hadfields_2007")
    assert report.stored == report.received == report.sent
    assert (report.unaccounted, report.refused, report.duplicates, report.late) == (0, {}, 0, 0)
    stage = "\"property\" = 'water_level_m'"
    count = known["rows"] - known["missing_values"]
    # the values themselves, as InfluxDB has them
    assert ask(influx, "don_hadfields_2007", f"SELECT count(value) FROM reading WHERE {stage}")[0][1] == count
    peak = ask(influx, "don_hadfields_2007", f"SELECT max(value) FROM reading WHERE {stage}")[0]
    assert peak[1] == known["peak_stage_m"]
    assert peak[0] == 1182796200  # 2007-06-25T18:30:00Z
    # all windows together have seen each reading once
    for width in ("1m", "15m", "1h"):
        query = f"SELECT sum(count) FROM window WHERE {stage} AND width = '{width}'"
        assert ask(influx, "don_hadfields_2007", query)[0][1] == count
    hour = (
        "SELECT max FROM window WHERE \"property\" = 'water_level_m' AND width = '1h' AND time = '2007-06-25T18:00:00Z'"
    )
    assert ask(influx, "don_hadfields_2007", hour)[0][1] == known["peak_stage_m"]
    # the alarms: the two floods of June reach Siaga 1, each as one alarm, when the level is passed
    levels = [a for a in report.alarms if a.kind == "level"]
    awas = [a for a in levels if a.max_severity == 3]
    passed = [w[0] + "Z" for w in known["threshold_windows"]["2.9"]]
    assert [next(c.at for c in a.changes if c.severity == 3) for a in awas] == passed
    assert awas[1].peak == known["peak_stage_m"] and awas[1].peak_at == "2007-06-25T18:30:00Z"
    best = {s.severity: s for s in report.scores}
    assert (best[3].pod, best[3].far) == (1.0, 0.0)
    assert (best[2].pod, best[2].far, best[2].csi) == (1.0, 0.0, 1.0)
    assert best[2].lead_s is not None and best[2].lead_s > 3600
    stored = ask(influx, "don_hadfields_2007", "SELECT severity FROM alarm WHERE kind = 'level' AND severity = 3")
    assert len(stored) == 2


def test_a_river_without_a_flood_calder_2025(tmp_path: Path, influx: InfluxDB) -> None:
    recording, report = replayed(tmp_path, influx, "calder_2025")
    known = truth("calder_2025")
    assert report.stored == report.sent == sum(f["rows"] - f["null"] for f in known.values())
    assert report.unaccounted == 0
    assert [a for a in report.alarms if a.kind == "level"] == []
    peaks = ask(
        influx, "calder_2025", "SELECT max(value) FROM reading WHERE \"property\" = 'water_level_m' GROUP BY site"
    )
    assert sorted(p[1] for p in peaks) == sorted(f["max"] for f in known.values() if "max_rise_60min_m" in f)
    rain = ask(influx, "calder_2025", "SELECT sum(value) FROM reading WHERE \"property\" = 'rain_mm' GROUP BY site")
    totals = [f["total_mm"] for f in known.values() if "total_mm" in f]
    assert sorted(r[1] for r in rain) == pytest.approx(sorted(totals))
    assert len(recording.devices) == 4


def test_traffic_berlin_2024(tmp_path: Path, influx: InfluxDB) -> None:
    recording, report = replayed(tmp_path, influx, "berlin_2024")
    assert report.stored == report.sent == len(recording)
    assert report.unaccounted == 0
    slowest = ask(influx, "berlin_2024", "SELECT min(value) FROM reading WHERE \"property\" = 'speed_km_h'")[0][1]
    assert slowest >= 0  # -1 says that no vehicle came


def test_air_marylebone_2015(tmp_path: Path, influx: InfluxDB) -> None:
    _, report = replayed(tmp_path, influx, "marylebone_2015")
    known = truth("marylebone_2015")
    no2 = "\"property\" = 'no2_ug_m3'"
    assert report.unaccounted == 0
    assert (
        ask(influx, "marylebone_2015", f"SELECT count(value) FROM reading WHERE {no2}")[0][1]
        == (known["no2_2015"]["hours_valid"])
    )
    over = ask(influx, "marylebone_2015", f"SELECT count(value) FROM reading WHERE {no2} AND value > 200")[0][1]
    assert over == known["no2_2015"]["hours_over_200"]
    mean = ask(influx, "marylebone_2015", f"SELECT mean(value) FROM reading WHERE {no2}")[0][1]
    assert mean == pytest.approx(known["no2_2015"]["annual_mean"], abs=0.005)
    worst = max((a for a in report.alarms if a.kind == "level"), key=lambda a: a.peak or 0)
    assert worst.peak == pytest.approx(known["no2_max"], abs=1e-4)
    assert worst.peak_at == known["no2_max_at"].replace("+00:00", "Z")
    assert all(a.max_severity < 3 for a in report.alarms)  # 400 µg/m³ was not reached
