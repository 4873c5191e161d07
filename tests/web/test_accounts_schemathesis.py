"""Schemathesis over the API of accounts, as an administrator and as nobody: the server does not fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from schemathesis.core import NOT_SET

from tests.real_parts.postgresql import PostgreSQL
from tests.web.people import CHEAP, PASSWORD, with_roles
from web.access import CSRF_HEADER, Right
from web.accounts import Accounts
from web.accounts_api import add_accounts
from web.app import create_app
from web.login import KnownAccounts, add_login
from web.throttle import Throttle

EXAMPLES = 15
ROUTES = 13


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('api') / 'accounts.sqlite'}"
    else:
        server: PostgreSQL = request.getfixturevalue("postgresql")
        url = server.database()
    accounts = with_roles(Accounts(url, passwords=CHEAP))
    _, token = accounts.create_token("administrator", "schema", [Right.READ], days=1, by="test")
    known = KnownAccounts(accounts)
    app = create_app(title="Pantau", version="1", identify=known)
    app.state.accounts = accounts
    # Each try hours after the one before: none is slowed down.
    add_login(app, known, throttle=Throttle(iter(range(0, 10**9, 10_000)).__next__))
    add_accounts(app, accounts)
    headers = {"Host": "localhost", "Authorization": f"Bearer {token}"}
    yield schemathesis.openapi.from_asgi("/openapi.json", app, headers=headers)
    accounts.close()


def test_no_server_error(api: schemathesis.BaseSchema) -> None:
    # Schemathesis makes the cases; they are sent without it, since its pytest plugin reaches into parts of pytest that
    # are gone, and its transport into parts of urllib3 that its successor here, urllib3-future, has not.
    accounts: Accounts = api.app.state.accounts
    client = TestClient(api.app, base_url="http://localhost", raise_server_exceptions=False)
    tried = set()
    for found in api.get_all_operations():
        operation = found.ok()
        tried.add(operation.label)

        @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
        @given(case=operation.as_strategy())
        def one(case: schemathesis.Case) -> None:
            session = accounts.log_in("administrator", PASSWORD)
            assert session is not None
            as_nobody = {"X-Pantau": "1", "Host": "localhost"}
            csrf = accounts.session_visitor(session).csrf
            for headers in (as_nobody, as_nobody | {"Cookie": f"pantau_session={session}", CSRF_HEADER: csrf}):
                given_headers = {k: v for k, v in (case.headers or {}).items() if k.lower() not in ("host", "cookie")}
                answer = client.request(
                    case.method,
                    case.formatted_path,
                    params=case.query,
                    headers=given_headers | headers,
                    **({} if case.body is NOT_SET else {"json": case.body}),
                )
                assert answer.status_code < 500, answer.text
                if answer.status_code >= 400:
                    assert answer.json()["detail"], "an error needs a sentence"

        one()
    assert len(tried) == ROUTES


def test_every_route_is_in_the_schema(tmp_path: Path) -> None:
    with_accounts = Accounts(f"sqlite:///{tmp_path / 'a.sqlite'}", passwords=CHEAP)
    known = KnownAccounts(with_accounts)
    app = create_app(title="Pantau", version="1", identify=known)
    add_login(app, known)
    add_accounts(app, with_accounts)
    described = {(m.upper(), path) for path, methods in app.openapi()["paths"].items() for m in methods}
    assert len(described) == ROUTES
    with_accounts.close()
