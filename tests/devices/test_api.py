"""The JSON API: what it does to the register, and what it says when it can't."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from devices.api import add_device_api
from devices.credentials import Credentials
from devices.credentials.errors import BrokerUnreachableError
from devices.fleet import Fleet
from devices.pages import STATIC_FILES, TEXTS, add_device_pages
from devices.registry import Registry
from devices.watch import LatestReading, Letter, Login, Trouble
from telemetry.directory import Datastream, Device, Site
from web.access import OpenHouse
from web.app import create_app

S = 1_000_000_000
NOW = 1_795_516_200 * S  # 2026-11-24T10:30:00Z
CHANGE = {"X-Pantau": "1"}
JPEG = b"\xff\xd8\xff\xe0 not really"


@dataclass
class FakeIssuer:
    """Logins without a broker."""

    kind: str = "dynsec"
    logins: dict[str, int] = field(default_factory=dict)
    away: bool = False

    def create(self, device: str, *, speaks_for: Sequence[str] = ()) -> Credentials:
        if self.away:
            raise BrokerUnreachableError("the broker localhost:1883 does not answer")
        self.logins[device] = self.logins.get(device, 0) + 1
        password = f"secret-{self.logins[device]}"
        return Credentials(
            device, device, password, "mqtt.kota.example", 8883, True, f"pantau/v1/kota/{device}", device
        )

    def create_many(self, devices: Any) -> list[Credentials]:
        return [self.create(d) for d in devices]

    def rotate(self, device: str) -> Credentials:
        return self.create(device)

    def revoke(self, device: str) -> bool:
        return self.logins.pop(device, None) is not None

    def known(self) -> set[str]:
        return set(self.logins)

    def speaks_for(self, device: str) -> tuple[str, ...]:
        return ()

    def prepare(self) -> list[str]:
        return []

    def check(self) -> str | None:
        return None

    def note(self, language: str) -> str:
        return ""


@dataclass
class FakeWatch:
    """A pipeline that knows what the test says."""

    time: int = NOW
    readings: dict[str, list[LatestReading]] = field(default_factory=dict)
    refused: dict[str, list[Letter]] = field(default_factory=dict)
    logins: dict[str, list[Login]] | None = None
    bad: list[Trouble] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    def now(self) -> int:
        return self.time

    def clock_speed(self) -> float:
        return 1.0

    def knows(self, device: str) -> bool:
        return True

    def latest(self, device: str) -> tuple[LatestReading, ...]:
        return tuple(self.readings.get(device, ()))

    def letters(self, device: str, limit: int = 20) -> tuple[Letter, ...]:
        return tuple(self.refused.get(device, ())[:limit])

    def strangers(self, since: int) -> tuple[str, ...]:
        return tuple(self.others)

    def refused_logins(self, device: str) -> tuple[Login, ...] | None:
        return None if self.logins is None else tuple(self.logins.get(device, ()))

    def troubles(self) -> tuple[Trouble, ...]:
        return tuple(self.bad)


@dataclass
class House:
    """The application without a pipeline."""

    registry: Registry
    issuer: FakeIssuer
    watch: FakeWatch
    http: TestClient

    def get(self, path: str, status: int = 200) -> Any:
        answer = self.http.get(path)
        assert answer.status_code == status, answer.text
        return answer.json()

    def send(self, path: str, body: Any, status: int = 200, method: str = "POST") -> Any:
        answer = self.http.request(method, path, json=body, headers=CHANGE)
        assert answer.status_code == status, answer.text
        return answer.json()


def make_app(registry: Registry, issuer: FakeIssuer | None, watch: FakeWatch | None) -> Any:
    app = create_app(
        title="Pantau", version="test", identify=OpenHouse(), files={"devices": STATIC_FILES}, texts=[TEXTS]
    )
    add_device_api(app, Fleet(registry, issuer, watch))
    add_device_pages(app)
    return app


def make_registry(url: str, watch: FakeWatch) -> Registry:
    registry = Registry(url, clock=watch.now)
    watch.time = NOW - 86_400 * S
    registry.save(
        city="kota",
        utc_offset_h=7.0,
        sites=[Site("dago", "Jembatan Dago", -6.88, 107.61), Site("pasteur", "Pasteur", -6.8935, 107.588)],
        devices=[Device("awlr-1", "dago", "generic-river-level", 600.0)],
        datastreams=[Datastream("dago/water_level_m", "dago", "awlr-1", "water_level_m")],
    )
    watch.time = NOW
    return registry


@pytest.fixture
def house(url: str) -> Iterator[House]:
    """On SQLite and on PostgreSQL."""
    issuer, watch = FakeIssuer(), FakeWatch()
    registry = make_registry(url, watch)
    with TestClient(make_app(registry, issuer, watch), base_url="http://localhost") as http:
        yield House(registry, issuer, watch, http)
    registry.close()


def test_registering_in_one_go_and_a_second_time(house: House) -> None:
    order = {"serial": "AWLR 0231", "model": "generic-river-level", "site": "pasteur"}
    told = house.send("/api/devices?language=en", order, 201)
    assert told["device"] | {"silence_after_s": 0} == {
        "id": "AWLR-0231",
        "serial": "AWLR 0231",
        "eui": "",
        "model": "generic-river-level",
        "firmware": "",
        "state": "active",
        "silence_after_s": 0,
        "alias": "",
        "gateway": False,
        "clock": "utc",
        "interval_s": None,
    }
    assert told["device"]["silence_after_s"] == 600.0  # the model's
    assert {d["property"] for d in told["datastreams"]} == {"water_level_m", "battery_v", "rssi_dbm"}
    login = told["credentials"]
    assert (login["username"], login["password"], login["topic"]) == (
        "AWLR-0231",
        "secret-1",
        "pantau/v1/kota/AWLR-0231",
    )
    assert "<svg" in login["qr_svg"] and "PubSubClient" in login["snippets"]["arduino"]
    assert "water_level_m" in login["snippets"]["shell"]
    assert told["live_since"] == "2026-11-24T10:30:00Z"
    # The phone lost the answer and asks again.
    again = house.send("/api/devices", order, 200)
    assert again["already"] and again["credentials"] is None
    # Somebody types the number of a device that is elsewhere.
    detail = house.send("/api/devices", order | {"site": "dago"}, 409)["detail"]
    assert detail == "device 'AWLR-0231' is registered already, at site 'Pasteur'"


def test_a_device_that_was_on_before_it_was_saved_is_heard(house: House) -> None:
    house.send("/api/devices", {"id": "a", "model": "generic-rain-gauge", "site": "pasteur"}, 201)
    assert house.registry.installations("a")[0].start_ns == NOW - 3600 * S
    # Where somebody else measured until now, exactly now counts.
    house.send("/api/devices", {"id": "b", "model": "generic-rain-gauge", "site": "dago"}, 201)
    assert house.registry.installations("b")[0].start_ns == NOW


def test_a_new_site_with_a_sensor_that_looks_down(house: House) -> None:
    site = {"id": "cikapundung", "name": "Cikapundung", "latitude": -6.9, "longitude": 107.607}
    order = {"serial": "UDL-1", "model": "generic-river-distance", "new_site": site, "height": 6.5}
    told = house.send("/api/devices", order, 201)
    # A distance d below a sensor 6.5 m above the gauge's zero is a level of 6.5 - d.
    assert [(c["property"], c["scale"], c["offset"]) for c in told["calibrations"]] == [("water_level_m", -1.0, 6.5)]
    level = next(d for d in told["datastreams"] if d["property"] == "water_level_m")
    assert level["limits"]["fail_max"] < 6.5


def test_swapped_coordinates_are_refused(house: House) -> None:
    site = {"id": "x", "latitude": 107.61, "longitude": -6.88}
    detail = house.send("/api/devices", {"id": "d", "model": "generic-rain-gauge", "new_site": site}, 422)["detail"]
    assert "latitude and longitude look swapped" in detail
    assert house.get("/api/devices/d", 404)["detail"] == "there is no device 'd'"


def test_a_swap_goes_on_with_the_datastreams_and_ends_the_old_login(house: House) -> None:
    house.issuer.create("awlr-1")
    told = house.send("/api/devices", {"serial": "awlr-2", "replaces": "awlr-1"}, 201)
    assert [d["id"] for d in told["datastreams"]] == ["dago/water_level_m"]
    assert told["device"]["model"] == "generic-river-level"
    assert house.issuer.known() == {"awlr-2"}
    assert house.get("/api/devices/awlr-1")["device"]["state"] == "retired"
    again = house.send("/api/devices", {"serial": "awlr-2", "replaces": "awlr-1"}, 200)
    assert again["already"]


def test_a_registration_from_the_queue_counts_from_when_it_was_pressed(house: House) -> None:
    order = {"serial": "awlr-2", "replaces": "awlr-1", "at": "2026-11-24T09:00:00+00:00"}
    house.send("/api/devices", order, 201)
    assert house.registry.installations("awlr-2")[0].start_ns == NOW - 5400 * S
    # A phone whose clock is ahead can't install in the future.
    house.watch.time += S
    house.send("/api/devices", {"serial": "awlr-3", "replaces": "awlr-2", "at": "2030-01-01T00:00:00Z"}, 201)
    assert house.registry.installations("awlr-3")[0].start_ns == NOW + S


def test_a_broker_that_is_away_does_not_stop_a_registration(house: House) -> None:
    house.issuer.away = True
    told = house.send("/api/devices", {"id": "d", "model": "generic-rain-gauge", "site": "dago"}, 201)
    assert told["credentials"] is None
    assert told["problems"] == [
        "the device is registered, but its login could not be made: the broker localhost:1883 does not answer"
    ]
    detail = house.send("/api/devices/d/credentials", {}, 503)["detail"]
    assert detail == "the broker localhost:1883 does not answer"
    house.issuer.away = False
    assert house.send("/api/devices/d/credentials", {})["credentials"]["password"] == "secret-1"


@pytest.mark.parametrize(
    ("order", "status", "words"),
    [
        ({}, 422, "a device needs a serial number, an EUI or an id"),
        ({"id": "d", "model": "nope", "site": "dago"}, 404, "there is no model 'nope'"),
        ({"id": "d", "model": "generic-rain-gauge", "site": "nowhere"}, 404, "there is no site 'nowhere'"),
        ({"id": "d", "replaces": "nobody"}, 404, "there is no device 'nobody' to be replaced"),
        ({"id": "d", "site": "dago", "replaces": "awlr-1"}, 422, "give one of site, new_site and replaces"),
        ({"id": "a/b", "model": "generic-rain-gauge", "site": "dago"}, 422, "must be 1 to 200 characters"),
        ({"id": "d", "modell": "x"}, 422, "modell: extra inputs are not permitted"),
        ({"id": "d", "site": "dago", "at": "yesterday"}, 422, "a time must be RFC 3339 with zone"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(house: House, order: dict[str, Any], status: int, words: str) -> None:
    version = house.registry.version()
    assert words in house.send("/api/devices", order, status)["detail"]
    assert house.registry.version() == version


def test_search_and_pages(house: House) -> None:
    for i in range(7):
        house.send("/api/devices", {"id": f"r{i}", "model": "generic-rain-gauge", "site": "pasteur"}, 201)
    found = house.get("/api/devices?q=paste&limit=3")
    assert len(found["devices"]) == 3 and found["devices"][0]["site"]["name"] == "Pasteur"
    seen: list[str] = []
    after: str | None = ""
    while after is not None:
        page = house.get(f"/api/devices?limit=3&after={after}")
        seen += [d["id"] for d in page["devices"]]
        after = page["next"]
    assert seen == ["awlr-1", *(f"r{i}" for i in range(7))]


def test_sites_near_a_position_with_their_silent_devices(house: House) -> None:
    house.watch.bad = [Trouble("awlr-1", "silent", NOW - 7200 * S)]
    near = house.get("/api/sites?latitude=-6.8801&longitude=107.6101")["sites"]
    assert [s["id"] for s in near] == ["dago", "pasteur"]
    # 0.0001° of latitude are 11.1 m, and of longitude here 11.0 m.
    assert near[0]["distance_m"] == pytest.approx(15.7, abs=0.2)
    assert [(d["id"], d["silent_s"]) for d in near[0]["devices"]] == [("awlr-1", 7200.0)]
    assert house.get("/api/sites?latitude=1", 422)["detail"] == "give latitude and longitude together"


def test_changes_of_a_device(house: House) -> None:
    house.send("/api/devices/awlr-1", {"firmware": "1.2"}, method="PATCH")
    assert house.get("/api/devices/awlr-1")["device"]["firmware"] == "1.2"
    house.send("/api/devices/awlr-1/state", {"state": "maintenance"})
    assert not house.registry.directory().watched[0]
    moved = house.send("/api/devices/awlr-1/move", {"site": "pasteur"})
    assert moved["site"]["id"] == "pasteur"
    house.watch.time += S
    told = house.send("/api/devices/awlr-1/calibrations", {"property": "water_level_m", "offset": 0.1}, 201)
    assert told["calibrations"][-1] == {
        "property": "water_level_m",
        "scale": 1.0,
        "offset": 0.1,
        "valid_from": "2026-11-24T10:30:01Z",
    }
    house.issuer.create("awlr-1")
    assert house.send("/api/devices/awlr-1/retire", {})["device"]["state"] == "retired"
    assert house.issuer.known() == set()
    assert house.send("/api/devices/awlr-1/credentials", {}, 409)["detail"].endswith("it gets no login")
    actions = [a["action"] for a in house.get("/api/audit?subject=awlr-1")["audit"]]
    assert "retired" in actions or "changed" in actions


def test_thresholds_are_versions_with_author_and_reason(house: House) -> None:
    path = "/api/datastreams/dago/water_level_m/thresholds"
    assert house.get(path)["versions"] == []
    order = {"steps": [{"value": 2.0, "severity": "siaga", "label": "Siaga 2"}], "reason": "flood of 2025"}
    house.send(path, order, method="PUT")
    version = house.get(path)["versions"][-1]
    assert (version["number"], version["reason"], version["author"]) == (1, "flood of 2025", "technician")
    assert version["steps"] == order["steps"]
    wrong = {"steps": [{"value": 2, "severity": "awas"}, {"value": 3, "severity": "siaga"}], "reason": "x"}
    assert "severity must not fall" in house.send(path, wrong, 422, "PUT")["detail"]
    assert house.get("/api/datastreams/no/thresholds", 404)["detail"] == "there is no datastream 'no'"


def test_jobs_that_were_found_and_jobs_that_were_opened(house: House) -> None:
    house.watch.bad = [Trouble("awlr-1", "faulty", NOW - 60 * S, {"water_level_m": 99.0})]
    number = house.send("/api/jobs", {"kind": "inspection", "site": "pasteur", "due_at": "2026-11-20T00:00:00Z"}, 201)[
        "id"
    ]
    listed = house.get("/api/jobs?latitude=-6.88&longitude=107.61")
    assert [(j["id"], j["overdue"]) for j in listed["jobs"]] == [("faulty:awlr-1", False), (number, True)]
    assert listed["jobs"][0]["text"] == "water_level_m 99.00 m"
    photo = "data:image/jpeg;base64," + base64.b64encode(JPEG).decode()
    order = {"note": "sensor cleaned", "photo": photo}
    done = house.send("/api/jobs/faulty:awlr-1/close", order)
    assert house.http.get(done["photo"]).content == JPEG
    # A phone that lost the answer sends again; the trouble that was closed does not come back by itself.
    assert house.send("/api/jobs/faulty:awlr-1/close", order)["id"] == done["id"]
    assert [j["id"] for j in house.get("/api/jobs")["jobs"]] == [number]
    # It comes again when it begins anew.
    house.watch.bad = [Trouble("awlr-1", "faulty", NOW + 60 * S, {"water_level_m": 98.0})]
    assert house.get("/api/jobs")["total"] == 2
    assert house.send(f"/api/jobs/{number}/close", {"note": "x", "photo": "nonsense"}, 422)["detail"].startswith(
        "photo must be a data URL"
    )
    assert house.send("/api/jobs/999/close", {"note": "x"}, 404)["detail"] == "there is no job 999"
    page = house.get("/api/jobs?limit=1")
    assert page["next"] == 1 and house.get("/api/jobs?limit=1&offset=1")["next"] is None


def test_what_the_live_route_tells(house: House) -> None:
    path = "/api/devices/awlr-1/live?since=2026-11-24T10:29:00Z"
    assert house.get(path)["state"] == "waiting"
    house.watch.readings["awlr-1"] = [
        LatestReading("dago/water_level_m", "water_level_m", 1.24, 1, NOW - S, NOW - S, -10.0, 50.0),
        LatestReading("dago/rssi_dbm", "rssi_dbm", -97.0, 1, NOW - S, NOW - S, -150.0, 0.0),
    ]
    told = house.get(path)
    assert (told["state"], told["findings"]) == ("receiving", [])
    assert [(r["value"], r["unit"], r["quality"], r["of_device"]) for r in told["readings"]] == [
        (1.24, "m", "good", False),
        (-97.0, "dBm", "good", True),
    ]
    house.watch.refused["awlr-1"] = [Letter("time_in_future", "time … is 25200 s ahead", NOW, "awlr-1", 25_200.0)]
    told = house.get(path + "&language=id")
    assert told["state"] == "trouble"
    assert told["findings"][0]["text"].startswith("Jam alat 7 jam lebih cepat. Mungkin waktu setempat")


def test_without_a_pipeline_and_without_logins(tmp_path: Path) -> None:
    watch = FakeWatch()
    registry = make_registry(f"sqlite:///{tmp_path / 'r.db'}", watch)
    with TestClient(make_app(registry, None, None), base_url="http://localhost") as http:
        assert http.get("/api/devices/awlr-1/live").json()["state"] == "unwatched"
        assert http.get("/api/fleet").json()["credentials"] is None
        told = http.post(
            "/api/devices", json={"id": "d", "model": "generic-rain-gauge", "site": "dago"}, headers=CHANGE
        )
        assert told.status_code == 201 and told.json()["credentials"] is None
        refused = http.post("/api/devices/d/credentials", json={}, headers=CHANGE)
        assert refused.status_code == 409 and "Pantau makes no logins" in refused.json()["detail"]
    registry.close()


def test_import_and_export(house: House) -> None:
    text = house.http.get("/api/export?format=csv").text
    rows = text.splitlines()
    assert rows[0].startswith("device,") and rows[1].startswith("awlr-1,")
    same = house.send("/api/import", {"format": "csv", "content": text, "dry_run": False})
    assert same["changes"] == {} and same["applied"]
    bad = house.send("/api/import", {"format": "csv", "content": text.replace("-6.88", "96.88")}, 422)
    assert bad["problems"] and "nothing was imported" in bad["detail"]
    assert house.http.get("/api/export?format=geojson").json()["type"] == "FeatureCollection"
    border = {"type": "Polygon", "coordinates": [[[107.6, -6.9], [107.62, -6.9], [107.62, -6.87], [107.6, -6.9]]]}
    districts = {
        "type": "FeatureCollection",
        "features": [{"type": "Feature", "properties": {"code": "32.73.02", "name": "Coblong"}, "geometry": border}],
    }
    order = {"what": "districts", "format": "geojson", "content": json.dumps(districts), "dry_run": False}
    assert house.send("/api/import", order)["applied"]
    assert house.get("/api/map")["features"][0]["properties"]["name"] == "Coblong"


def test_the_page_and_its_worker(house: House) -> None:
    page = house.http.get("/devices")
    assert 'data-preset="light"' in page.text and "devices/main.js" in page.text
    worker = house.http.get("/devices/worker.js")
    assert worker.headers["Service-Worker-Allowed"] == "/devices"
    assert "VERSION" not in worker.text.replace("VERSION below", "") and "FILES" not in worker.text
    listed = worker.text.partition('cache.addAll(["/static')[2]
    assert listed
    for path in re.findall(r'"(/static/[^"]+)"', worker.text):
        assert house.http.get(path).status_code == 200, path
