"""Schemathesis over the whole API of the register: whatever is sent, the server does not fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings

from devices.registry import Registry
from tests.devices.test_api import JPEG, FakeIssuer, FakeWatch, make_app, make_registry
from tests.real_parts.postgresql import PostgreSQL
from web.access import declared_routes

EXAMPLES = 15
"""For each route; a run of all routes takes about half a minute."""

KNOWN = {"device": "awlr-1", "site": "dago", "datastream": "dago/water_level_m", "job": "1"}


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('api') / 'registry.db'}"
    else:
        server: PostgreSQL = request.getfixturevalue("postgresql")
        url = server.database()
    watch = FakeWatch()
    registry: Registry = make_registry(url, watch)
    number = registry.open_job(kind="inspection", text="", by="test", device="awlr-1")
    assert str(number) == KNOWN["job"]
    registry.close_job(number, by="test", note="done", photo=JPEG)
    app = make_app(registry, FakeIssuer(), watch)
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as http:
        yield http
    registry.close()


def test_no_server_error(api: TestClient) -> None:
    schema = schemathesis.openapi.from_dict(api.get("/openapi.json").json())
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 25
    for operation in operations:
        statuses = _statuses(api, operation)
        assert statuses - {404, 405, 415, 421}, f"{operation.label} was never reached"


def _statuses(api: TestClient, operation: Any) -> set[int]:
    """What the route answers to all that the schema allows, and to much that it does not; fails at a server error."""
    seen: set[int] = set()

    @given(case=operation.as_strategy())
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    def never_fails(case: schemathesis.Case) -> None:
        tried = [dict(case.path_parameters or {})]
        if tried[0].keys() & KNOWN.keys():
            tried.append(tried[0] | {k: v for k, v in KNOWN.items() if k in tried[0]})
        for parameters in tried:  # as generated, which names nothing that is there, and with what is there
            case.path_parameters = parameters
            answer = send(api, case)
            seen.add(answer.status_code)
            assert answer.status_code < 500, f"{answer.status_code}: {answer.text}"
            if answer.status_code >= 400:
                assert answer.json()["detail"], f"{answer.status_code} without a sentence"

    never_fails()
    return seen


def send(api: TestClient, case: schemathesis.Case) -> Any:
    """Send a case. Schemathesis' own transport does not work beside urllib3-future, which Grafana's client brings."""
    wanted = case.as_transport_kwargs(base_url="http://localhost", headers={"X-Pantau": "1", "Host": "localhost"})
    ready = requests.Request(**wanted).prepare()
    assert ready.method is not None and ready.url is not None
    headers = {k: v for k, v in ready.headers.items() if k.lower() != "content-length"}
    return api.request(ready.method, ready.url, headers=headers, content=ready.body, follow_redirects=False)


def test_every_route_of_the_api_is_in_the_schema(tmp_path: Path) -> None:
    watch = FakeWatch()
    registry = make_registry(f"sqlite:///{tmp_path / 'r.db'}", watch)
    app = make_app(registry, FakeIssuer(), watch)
    described = {(method.upper(), path) for path, methods in app.openapi()["paths"].items() for method in methods}
    routes = {(m, r.path.replace(":path}", "}")) for r in declared_routes(app.routes) for m in r.methods}
    wanted = {(m, p) for m, p in routes if p.startswith("/api/")}
    assert wanted and wanted <= described
    registry.close()
