"""InfluxDB as a store: data and queries on a real 1.6, the v2 path on VictoriaMetrics, answers of others on a fake."""

from __future__ import annotations

import json
import threading
import urllib.request
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import polars as pl
import pytest

from storage.embedded import EmbeddedStore
from storage.errors import StoreRefused, StoreUnavailable
from storage.influx import LINES_PER_REQUEST, InfluxStore
from storage.settings import Secret, StoreSettings
from storage.store import AccountHour, AlarmRecord, PipelineStatus
from telemetry.observations import NS_PER_S, Observations
from tests.real_parts.influxdb import InfluxDB, VictoriaMetrics, free_port
from tests.storage.city import T0, batch, seconds

HOUR = 3600 * NS_PER_S


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with InfluxDB(tmp_path_factory.mktemp("influx")) as running:
        yield running


@pytest.fixture
def store(server, request):
    bucket = "db_" + "".join(c if c.isalnum() else "_" for c in request.node.name)
    opened = InfluxStore(StoreSettings(kind="influxdb", url=server.url, api="v1", bucket=bucket))
    yield opened
    opened.close()


def ask(url: str, query: str) -> dict[str, object]:
    with urllib.request.urlopen(f"{url}/query", data=("q=" + urllib.request.quote(query)).encode()) as answer:
        return json.load(answer)


RAISED = {
    "kind": 1,
    "subject": 1,
    "raised_at": T0,
    "at": T0,
    "state": 1,
    "severity": 2,
    "value": 2.1,
    "threshold": 2.0,
    "peak": 2.1,
    "peak_at": T0,
    "directory_version": 7,
}
SILENT = {
    "kind": 2,
    "subject": 0,
    "raised_at": T0 - 5000,
    "at": T0 + 3,
    "state": 1,
    "severity": 1,
    "value": 700.0,
    "threshold": 600.0,
    "peak": float("nan"),
    "peak_at": T0 + 3000,
    "directory_version": 7,
}


@pytest.mark.influxdb
def test_the_database_is_made_and_rows_come_back_exactly(store):
    nan = float("nan")
    status = PipelineStatus(T0, 1, 2, 3, 4, 5, 6, 0.25, 7, 8)
    store.write(
        batch(
            1,
            [(0, T0 + 1, 1.25, 1), (0, T0, nan, 9), (1, T0 + 1, float("inf"), 4)],
            [(0, 60, T0, 2, 1, 1.5), (0, 900, T0, 3, 0, nan)],
            [RAISED, SILENT],
            (status,),
        )
    )
    found = store.readings("gauge-0", T0, T0 + 2)
    assert found.observed_at.tolist() == [T0, T0 + 1]
    assert np.isnan(found.value[0]) and found.value[1] == 1.25
    assert found.flag.tolist() == [9, 1] and found.flag.dtype == np.uint8
    assert store.readings("gauge-0", T0, T0 + 1).flag.tolist() == [9]
    assert np.isnan(store.readings("gauge-1", T0, T0 + 2).value[0])  # InfluxDB has no infinity
    assert len(store.readings("unknown", T0, T0 + 2)) == 0
    minute = store.windows("gauge-0", 60, T0, T0 + 1)
    assert (minute.count[0], minute.good_count[0], minute.minimum[0], minute.maximum[0]) == (2, 1, 0.5, 2.5)
    assert (minute.mean[0], minute.last[0], minute.start[0]) == (1.5, 2.0, T0)
    assert np.isnan(store.windows("gauge-0", 900, T0, T0 + 1).mean[0])
    level, silence = store.transitions(T0, T0 + 10)
    assert level == AlarmRecord(
        "level",
        "gauge-1",
        "water_level_m",
        "flood",
        "kota banjir",
        "Kec. Satu",
        "site-1",
        T0,
        T0,
        1,
        2,
        2.1,
        2.0,
        2.1,
        T0,
        "Siaga 2",
        7,
    )
    assert (silence.kind, silence.subject, silence.domain, silence.property) == ("silence", "dev-0", "device", "")
    assert silence.raised_at == T0 - 5000 and silence.peak_at == T0 + 3000 and np.isnan(silence.peak)
    assert store.pipeline(T0, T0 + 1) == [status]
    assert store.count_readings(-(2**63), 2**63) == 3
    assert store.count_readings(T0, T0 + 2, datastream="gauge-0") == 2
    assert store.count_readings(T0, T0 + 1, datastream="gauge-1") == 0
    assert store.check() is None


@pytest.mark.influxdb
def test_readings_are_counted_by_hour_and_the_account_is_that_of_its_last_telling(store):
    assert store.count_by_hour(T0, T0 + HOUR).datastream == []
    start = T0 // HOUR * HOUR
    rows = [(0, start, 1.0, 1), (0, start + HOUR - 1, 1.0, 1), (0, start + HOUR, 1.0, 1), (1, start + 5, 1.0, 1)]
    rows += [(1, start + 9000 * HOUR, float("nan"), 9)]
    store.write(batch(1, rows))
    found = store.count_by_hour(start, start + 9001 * HOUR)
    got = dict(zip(zip(found.datastream, found.hour_ns.tolist(), strict=True), found.count.tolist(), strict=True))
    assert got == {
        ("gauge-0", start): 2,
        ("gauge-0", start + HOUR): 1,
        ("gauge-1", start): 1,
        ("gauge-1", start + 9000 * HOUR): 1,
    }
    first = AccountHour("dev-0", start, 60.0, 5, 1, 2, 0, 4)
    other = AccountHour("", start, 0.0, 0, 0, 7, 0, 0)
    store.write(batch(1, account=(first, other)))
    store.write(batch(1, account=(replace(first, received=6, stored=5),)))
    assert store.account(start, start + 1) == [other, replace(first, received=6, stored=5)]


@pytest.mark.influxdb
def test_an_empty_database_answers_with_nothing(store):
    for _ in range(2):  # before there is a database, and after
        assert len(store.readings("gauge-0", T0, T0 + 1)) == 0
        assert store.transitions(T0, T0 + 1) == [] and store.count_readings(T0, T0 + 1) == 0
        assert store.check() is None  # makes it
    assert len(store.readings("gauge-0", T0, T0 + 1)) == 0
    assert len(store.windows("gauge-0", 60, T0, T0 + 1)) == 0
    assert len(store.series("gauge-0", T0, T0 + HOUR)) == 0
    assert store.transitions(T0, T0 + 1) == [] and store.pipeline(T0, T0 + 1) == []
    assert store.count_readings(T0, T0 + 1) == 0
    store.write()
    store.write(batch(1))


@pytest.mark.influxdb
def test_writing_again_changes_nothing_and_a_window_is_replaced(store):
    for _ in range(2):
        store.write(*[seconds(p) for p in range(5)])
    assert store.count_readings(T0, T0 + HOUR) == 20
    assert store.windows("gauge-2", 60, T0, T0 + HOUR).count.tolist() == [5]
    store.write(batch(9, window_rows=[(2, 60, T0, 8, 8, 1.0), (2, 60, T0, 9, 9, 2.0)]))
    assert store.windows("gauge-2", 60, T0, T0 + HOUR).count.tolist() == [9]
    store.forget_after(0)
    assert store.count_readings(T0, T0 + HOUR) == 20


@pytest.mark.influxdb
def test_both_stores_give_the_same_answers(store, tmp_path):
    rng = np.random.default_rng(7)
    n = 3000
    streams = rng.integers(0, 4, n)
    times = T0 + rng.integers(0, 8 * 3600, n) * NS_PER_S
    obs = Observations.of(streams, times, rng.normal(2, 1, n))
    starts = [T0 // HOUR * HOUR + k * HOUR for k in range(9)]
    rows = [(i, 3600, s, k + 1, k % 2 + 1, float(rng.normal())) for i in range(4) for k, s in enumerate(starts)]
    rows += [
        (i, 900, s + q * HOUR // 4, k, 1, float(rng.normal()))
        for i in range(4)
        for k, s in enumerate(starts)
        for q in range(4)
    ]
    other = EmbeddedStore(tmp_path)
    for one in (store, other):
        one.write(batch(1, obs, rows, [RAISED, SILENT]))
    for i in range(4):
        name = f"gauge-{i}"
        for start, end in ((T0, T0 + HOUR), (T0 + 7, T0 + 9 * HOUR), (0, 2**62)):
            a, b = store.readings(name, start, end), other.readings(name, start, end)
            assert a.observed_at.tolist() == b.observed_at.tolist()
            assert a.value.tolist() == b.value.tolist() and a.flag.tolist() == b.flag.tolist()
        for points in (5, 20, 100, 5000):
            a, b = (s.series(name, T0, T0 + 8 * HOUR, max_points=points) for s in (store, other))
            assert a.resolution_s == b.resolution_s and len(a) == len(b)
            for column in ("time", "mean", "minimum", "maximum", "flag"):
                assert getattr(a, column).tolist() == getattr(b, column).tolist()
    assert store.count_readings(T0, T0 + HOUR) == other.count_readings(T0, T0 + HOUR)
    mine, others = store.transitions(T0, T0 + HOUR), other.transitions(T0, T0 + HOUR)
    assert mine[0] == others[0] and len(mine) == len(others) == 2
    other.close()


@pytest.mark.influxdb
def test_refused_lines_are_found_one_by_one_and_all_others_are_stored(store):
    lines = [f"reading,datastream=x value={k}.5,flag=1i {T0 + k}" for k in range(3 * LINES_PER_REQUEST // 2)]
    lines[7] = f'reading,datastream=x value="text",flag=1i {T0 + 7}'
    lines[8] = f"reading,datastream=x value=1.0,flag=2.5 {T0 + 8}"
    lines[12_345] = "no line protocol at all"
    with pytest.raises(StoreRefused, match=r"the store refused 3 row\(s\)") as caught:
        store.write_lines(pl.Series(lines))
    by_line = dict(zip(caught.value.lines, caught.value.reasons, strict=True))
    assert set(by_line) == {lines[k].encode() for k in (7, 8, 12_345)}
    assert "field type conflict" in by_line[lines[7].encode()]
    assert "unable to parse" in by_line[lines[12_345].encode()]
    found = store.readings("x", T0, T0 + HOUR)
    assert found.observed_at.tolist() == [T0 + k for k in range(len(lines)) if k not in (7, 8, 12_345)]


@pytest.mark.influxdb
def test_user_and_password(tmp_path):
    with InfluxDB(tmp_path, auth=True) as server:
        ask(server.url, "CREATE USER ani WITH PASSWORD 'ra''has''ia' WITH ALL PRIVILEGES".replace("''", "\\'"))
        settings = StoreSettings(
            kind="influxdb", url=server.url, api="v1", bucket="city", username="ani", password=Secret("ra'has'ia")
        )
        good = InfluxStore(settings)
        assert good.check() is None
        good.write(seconds(1))
        assert good.count_readings(T0, T0 + HOUR) == 4
        bad = InfluxStore(
            StoreSettings(
                kind="influxdb", url=server.url, api="v1", bucket="city", username="ani", password=Secret("wrong")
            )
        )
        with pytest.raises(StoreUnavailable, match="does not accept the user name or password"):
            bad.write(seconds(2))
        assert "does not accept the user name or password" in str(bad.check())
        assert "wrong" not in str(bad.check())
        with pytest.raises(StoreUnavailable, match="does not accept"):
            bad.readings("gauge-0", T0, T0 + 1)


@pytest.mark.influxdb
def test_v2_settings_on_a_1_x_server_say_so(server):
    store = InfluxStore(StoreSettings(kind="influxdb", url=server.url, api="v2", token=Secret("t")))
    with pytest.raises(StoreUnavailable, match=r'no write path v2: set api = "v1" \(store.api\)'):
        store.write(seconds(1))
    assert 'set api = "v1"' in str(store.check())
    store.close()


def test_a_server_that_is_not_there(tmp_path):
    for api in ("v1", "v2"):
        store = InfluxStore(StoreSettings(kind="influxdb", url=f"http://127.0.0.1:{free_port()}", api=api))
        with pytest.raises(StoreUnavailable, match=r"does not answer: start it, or correct store.url"):
            store.write(seconds(1))
        assert "does not answer" in str(store.check())
        with pytest.raises(StoreUnavailable, match="does not answer"):
            store.series("gauge-0", T0, T0 + HOUR)
        store.close()


def test_closed_twice_and_used_after():
    for api in ("v1", "v2"):
        store = InfluxStore(StoreSettings(kind="influxdb", url="http://127.0.0.1:1", api=api))
        store.close()
        store.close()
        with pytest.raises(StoreUnavailable, match="is closed"):
            store.write(seconds(1))
        with pytest.raises(StoreUnavailable, match="is closed"):
            store.readings("x", 0, 1)


@pytest.mark.influxdb
def test_the_v2_write_path_on_victoria_metrics(tmp_path):
    with VictoriaMetrics(tmp_path) as server:
        store = InfluxStore(StoreSettings(kind="influxdb", url=server.url, token=Secret("any")))
        store.write(*[seconds(p) for p in range(10)])
        urllib.request.urlopen(f"{server.url}/internal/force_flush").read()
        found = []
        for _ in range(50):
            url = f"{server.url}/api/v1/export?match[]=reading_value"
            found = [json.loads(line) for line in urllib.request.urlopen(url).read().splitlines()]
            if sum(len(s["values"]) for s in found) >= 40:
                break
            threading.Event().wait(0.1)
        assert {s["metric"]["datastream"] for s in found} == {f"gauge-{i}" for i in range(4)}
        assert sum(len(s["values"]) for s in found) == 40
        store.close()


class Recorder:
    """An HTTP server that answers as told and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, object]] = []
        self.asked: list[tuple[str, str, dict[str, list[str]], dict[str, str], bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def _any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                parts = urlsplit(self.path)
                headers = {k.lower(): v for k, v in self.headers.items()}
                outer.asked.append((self.command, parts.path, parse_qs(parts.query), headers, body))
                status, content = outer.answers.pop(0) if outer.answers else (204, None)
                data = (
                    b"" if content is None else content if isinstance(content, bytes) else json.dumps(content).encode()
                )
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = _any  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def recorder():
    running = Recorder()
    yield running
    running.close()


def v2(recorder: Recorder, **more: object) -> InfluxStore:
    of = {"url": recorder.url, "bucket": "kota", "org": "dinas", "token": Secret("s3cret")} | more
    return InfluxStore(StoreSettings(kind="influxdb", **of))


def test_what_a_v2_server_is_asked(recorder):
    store = v2(recorder)
    store.write(seconds(3, streams=1))
    ((method, path, query, headers, body),) = recorder.asked
    assert (method, path) == ("POST", "/api/v2/write")
    assert query == {"org": ["dinas"], "bucket": ["kota"], "precision": ["ns"]}
    assert headers["authorization"] == "Token s3cret"
    assert headers["content-type"].startswith("text/plain")
    assert body.decode().splitlines()[0] == (
        r"reading,city=kota\ banjir,datastream=gauge-0,device=dev-0,domain=flood,property=water_level_m,site=site-0 "
        f"value=3.0,flag=1i {T0 + 3 * NS_PER_S}"
    )
    recorder.answers = [(200, {"results": [{"statement_id": 0}]})]
    assert len(store.readings("it's", T0, T0 + 5)) == 0
    method, path, query, headers, _ = recorder.asked[-1]
    assert (method, path, query["db"], query["epoch"]) == ("GET", "/query", ["kota"], ["ns"])
    assert headers["authorization"] == "Token s3cret"
    where = rf"""WHERE "datastream" = 'it\'s' AND time >= {T0} AND time <= {T0 + 4}"""
    assert query["q"] == [f'SELECT "value", "flag", "remark" FROM "reading" {where}']


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (401, {"code": "unauthorized", "message": "unauthorized access"}, "does not accept the token"),
        (403, {"code": "forbidden", "message": "insufficient permissions"}, "right to read and write 'kota'"),
        (404, {"code": "not found", "message": 'bucket "kota" not found'}, "has no bucket 'kota': make it there"),
        (404, b"404 page not found\n", r'no write path v2: set api = "v1"'),
        (429, {"code": "too many requests", "message": "slow down"}, "answers 429: slow down"),
        (500, {"code": "internal error", "message": "disk"}, "answers 500: disk"),
        (503, b"", "answers 503"),
        (302, b"", "answers 302"),
    ],
)
def test_trouble_that_is_worth_another_try(recorder, status, body, sentence):
    recorder.answers = [(status, body)]
    store = v2(recorder)
    with pytest.raises(StoreUnavailable, match=sentence) as caught:
        store.write(seconds(1))
    assert "s3cret" not in str(caught.value)
    assert len(recorder.asked) == 1
    store.write(seconds(1))


def test_a_request_that_is_too_large_is_divided(recorder):
    recorder.answers = [(413, b"too large")]
    v2(recorder).write(seconds(1))
    assert len(recorder.asked) == 3
    whole, first, second = (r[4].splitlines() for r in recorder.asked)
    assert first + second == whole


def test_a_server_that_refuses_everything_is_not_asked_for_ever(recorder):
    lines = [f"m v={k} {k}" for k in range(5000)]
    recorder.answers = [(422, {"code": "unprocessable entity", "message": "no"})] * 10_000
    with pytest.raises(StoreRefused) as caught:
        v2(recorder).write_lines(pl.Series(lines))
    assert sorted(caught.value.lines) == sorted(line.encode() for line in lines)
    assert len(recorder.asked) < 500


def test_another_program_at_the_address(recorder):
    recorder.answers = [(200, b"<html>"), (200, {"status": "ok"})]
    store = v2(recorder)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="does not answer as InfluxDB does"):
            store.readings("x", 0, 1)


def test_a_swapped_device_gives_one_row_for_each_time(recorder):
    """Two series of one datastream (the tag device differs) may hold the same time; the larger window counts."""
    columns = ["time", "count", "good_count", "min", "max", "mean", "last", "sum", "deviation"]
    rows = [[T0, 5, 5, 1, 2, 1.5, 2, 7.5, 0.5], [T0, 3, 3, 9, 9, 9, 9, 27, 0], [T0 + 60, 1, 0, *[None] * 6]]
    answer = {"results": [{"series": [{"name": "window", "columns": columns, "values": rows}]}]}
    recorder.answers = [(200, answer)]
    found = v2(recorder).windows("x", 60, T0, T0 + 100)
    assert found.count.tolist() == [5, 1] and found.mean[0] == 1.5 and found.total[0] == 7.5 and np.isnan(found.mean[1])


def test_secrets_are_masked():
    settings = StoreSettings(kind="influxdb", token=Secret("s3cret"), password="hunter2")  # type: ignore[arg-type]
    for text in (repr(settings), str(settings), f"{settings.token} {settings.password}", "%s" % settings.password):  # noqa: UP031
        assert "s3cret" not in text and "hunter2" not in text
    assert settings.password.reveal() == "hunter2"


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"kind": "oracle"}, r"kind must be embedded or influxdb, got 'oracle' \(store.kind\)"),
        ({"api": "v3"}, r"api must be v1 or v2, got 'v3' \(store.api\)"),
        ({"url": "influx:8086"}, r"url must look like http://host:8086, got 'influx:8086' \(store.url\)"),
        ({"url": "http://u:p@host"}, "no user name or password"),
        ({"bucket": ""}, "bucket must not be empty"),
        ({"timeout_s": 0}, "timeout_s must be above 0, got 0"),
    ],
)
def test_settings_say_what_is_wrong(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        StoreSettings(**wrong)


def test_a_missing_server_program_is_an_error_that_says_what_to_install(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(InfluxDB, "program", "influxd-that-is-not-there")
    with pytest.raises(RuntimeError, match="apt-get install influxdb victoria-metrics"):
        InfluxDB(tmp_path)
