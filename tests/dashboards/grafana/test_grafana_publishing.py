"""Publishing against a stand-in that speaks the documented HTTP API. It is no Grafana: it stores what it is sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from dashboards.grafana import generate
from dashboards.grafana.publishing import DataSource, PublishError, publish

TOKEN = "glsa_stand_in"


class StandIn(ThreadingHTTPServer):
    """Grafana's documented endpoints for data sources, folders and dashboards, below the path /monitor."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, str, Any]] = []
        self.data_sources: dict[str, Any] = {}
        self.folders: dict[str, Any] = {}
        self.dashboards: dict[str, Any] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/monitor"


class Handler(BaseHTTPRequestHandler):
    server: StandIn

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(*self._get())

    def do_POST(self) -> None:
        self._answer(*self._write())

    def do_PUT(self) -> None:
        self._answer(*self._write())

    def _get(self) -> tuple[int, Any]:
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            return 401, {"message": "Invalid API key"}
        kept = {
            "/monitor/api/datasources/uid/": self.server.data_sources,
            "/monitor/api/folders/": self.server.folders,
            "/monitor/api/dashboards/uid/": self.server.dashboards,
        }
        for prefix, things in kept.items():
            if self.path.startswith(prefix):
                thing = things.get(self.path.removeprefix(prefix))
                return (200, thing) if thing is not None else (404, {"message": "not found"})
        return 404, {"message": f"the stand-in does not know {self.path}"}

    def _write(self) -> tuple[int, Any]:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            return 401, {"message": "Invalid API key"}
        self.server.requests.append((self.command, self.path, body))
        match self.command, self.path:
            case "POST", "/monitor/api/datasources":
                if body["uid"] in self.server.data_sources:
                    return 409, {"message": "data source with the same name already exists"}
                self.server.data_sources[body["uid"]] = {k: v for k, v in body.items() if k != "secureJsonData"}
                return 200, {"id": 1, "message": "Datasource added", "name": body["name"]}
            case "PUT", path if path.startswith("/monitor/api/datasources/uid/"):
                return 200, {"id": 1, "message": "Datasource updated", "name": body["name"]}
            case "POST", "/monitor/api/folders":
                self.server.folders[body["uid"]] = {"id": 2, "uid": body["uid"], "title": body["title"]}
                return 200, self.server.folders[body["uid"]]
            case "POST", "/monitor/api/dashboards/db":
                if body["folderUid"] not in self.server.folders:
                    return 400, {"message": "folder not found"}
                uid = body["dashboard"]["uid"]
                version = self.server.dashboards.get(uid, {"dashboard": {"version": 0}})["dashboard"]["version"] + 1
                self.server.dashboards[uid] = {
                    "dashboard": {**body["dashboard"], "id": 7, "version": version},
                    "meta": {"folderUid": body["folderUid"]},
                }
                return 200, {"id": 7, "uid": uid, "status": "success", "version": version}
        return 404, {"message": f"the stand-in does not know {self.command} {self.path}"}

    def _answer(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    server = StandIn()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(5)


SOURCE = DataSource("http://influxdb:8086", "pantau", "secret")


def test_everything_is_created_once_and_then_left_alone(stand_in: StandIn) -> None:
    first = publish(stand_in.url, TOKEN, SOURCE)
    assert set(first.values()) == {"created"}
    assert set(first) == {"pantau-influxdb", "pantau", *generate.dashboards()}
    assert {u: d["dashboard"]["version"] for u, d in stand_in.dashboards.items()} == dict.fromkeys(
        generate.dashboards(), 1
    )
    stand_in.requests.clear()
    second = publish(stand_in.url + "/", TOKEN, SOURCE)
    assert second == {u: "updated" if u == "pantau-influxdb" else "unchanged" for u in first}
    assert [(m, p) for m, p, _ in stand_in.requests] == [("PUT", "/monitor/api/datasources/uid/pantau-influxdb")]


def test_only_what_changed_is_written(stand_in: StandIn) -> None:
    publish(stand_in.url, TOKEN)
    models = generate.dashboards()
    models["pantau-street"]["refresh"] = "1m"
    done = publish(stand_in.url, TOKEN, models=models)
    assert {u for u, what in done.items() if what == "updated"} == {"pantau-street"}
    assert stand_in.dashboards["pantau-street"]["dashboard"]["refresh"] == "1m"
    assert stand_in.data_sources == {}


def test_data_source_is_as_documented_for_influxql_with_a_token(stand_in: StandIn) -> None:
    publish(stand_in.url, TOKEN, SOURCE)
    body = next(b for _, p, b in stand_in.requests if p.endswith("/datasources"))
    # Grafana's documentation, "Provision the InfluxDB data source", InfluxDB 2.x for InfluxQL.
    assert body["jsonData"] == {
        "dbName": "pantau",
        "httpHeaderName1": "Authorization",
        "httpMode": "POST",
        "version": "InfluxQL",
    }
    assert body["secureJsonData"] == {"httpHeaderValue1": "Token secret"}
    assert "secureJsonData" not in DataSource("http://influxdb:8086", "pantau").payload()


def test_refusal_says_what_and_why(stand_in: StandIn) -> None:
    with pytest.raises(PublishError, match="folder: 401"):
        publish(stand_in.url, "wrong")
    assert stand_in.requests == []


def test_no_server_is_an_os_error(stand_in: StandIn) -> None:
    url = stand_in.url
    stand_in.shutdown()
    stand_in.server_close()
    with pytest.raises(OSError):
        publish(url, TOKEN)
