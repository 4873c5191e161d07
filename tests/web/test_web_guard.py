"""The safeguards as a browser and an attacker meet them."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from web.access import requires
from web.app import create_app

CHANGE = {"X-Pantau": "1"}


@pytest.fixture
def app() -> FastAPI:
    app = create_app(title="Pantau", version="1", allowed_hosts=["pantau.example.id"])

    @app.get("/api/thing", dependencies=[requires("public")])
    def read() -> dict[str, int]:
        return {"n": 1}

    @app.post("/api/thing", dependencies=[requires("public")])
    def change(body: dict[str, int]) -> dict[str, int]:
        return body

    return app


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1", "10.1.2.3:80", "[::1]:8080", "PANTAU.example.id"])
def test_answers_to_its_own_names(app: FastAPI, host: str) -> None:
    assert TestClient(app).get("/api/thing", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "pantau.example.id.evil.example", "localhost.evil.example", ""])
def test_other_names_get_nothing(app: FastAPI, host: str) -> None:
    # DNS rebinding: a name of the attacker that now points to this machine.
    answer = TestClient(app).get("/api/thing", headers={"Host": host})
    assert answer.status_code == 421
    assert "does not answer to the name" in answer.json()["detail"]


def test_every_answer_carries_the_security_headers(app: FastAPI) -> None:
    client = TestClient(app, base_url="http://localhost")
    for path in ("/api/thing", "/docs", "/nowhere"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "script-src 'self'" in policy and "unsafe" not in policy and "default-src 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"


def test_the_api_is_not_cached(app: FastAPI) -> None:
    client = TestClient(app, base_url="http://localhost")
    assert client.get("/api/thing").headers["cache-control"] == "no-store"


def test_a_change_from_the_own_page_passes(app: FastAPI) -> None:
    client = TestClient(app, base_url="http://localhost:8080")
    answer = client.post("/api/thing", json={"a": 1}, headers=CHANGE | {"Origin": "http://localhost:8080"})
    assert answer.json() == {"a": 1}


@pytest.mark.parametrize(
    ("headers", "status", "word"),
    [
        ({}, 403, "X-Pantau"),
        (CHANGE | {"Origin": "http://evil.example"}, 403, "evil.example"),
        (CHANGE | {"Origin": "http://localhost:9"}, 403, "localhost:9"),
        (CHANGE | {"Origin": "null"}, 403, "null"),
        (CHANGE | {"Content-Type": "text/plain"}, 415, "application/json"),
    ],
)
def test_a_change_from_elsewhere_is_refused(app: FastAPI, headers: dict[str, str], status: int, word: str) -> None:
    client = TestClient(app, base_url="http://localhost:8080")
    answer = client.post("/api/thing", content='{"a": 1}', headers={"Content-Type": "application/json"} | headers)
    assert answer.status_code == status
    assert word in answer.json()["detail"]
