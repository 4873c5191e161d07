"""Every route of the complete application, tried as everybody: nobody, each role, a token of each scope."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from dashboards.operator.live import LiveCity
from devices.fleet import Fleet
from devices.registry import Registry
from pantau.pages import pages
from tests.dashboards.operator.operator_city import small_city
from tests.web.people import CHEAP, PASSWORD, with_roles
from web.access import CSRF_HEADER, RIGHT_OF, Access, Right, Role, declared_routes
from web.accounts import Accounts
from web.login import KnownAccounts
from web.throttle import Throttle

TABLE = {
    "GET /static/{version}/{room}/{path:path}": "public",
    "GET /languages/{language}": "public",
    "GET /favicon.ico": "public",
    "GET /health": "public",
    "GET /docs": "viewer",
    "GET /openapi.json": "viewer",
    # The operator's page.
    "GET /": "viewer",
    "GET /api/status": "viewer",
    "GET /api/city": "viewer",
    "GET /api/live": "viewer",
    "GET /api/series": "viewer",
    "GET /api/account": "viewer",
    "GET /api/alarms": "viewer",
    "POST /api/alarms/acknowledge": "operator",
    # The technician's page.
    "GET /api/fleet": "viewer",
    "GET /api/models": "viewer",
    "GET /api/map": "viewer",
    "GET /api/districts": "viewer",
    "PUT /api/districts/{code}": "technician",
    "GET /api/audit": "viewer",
    "GET /api/devices": "viewer",
    "POST /api/devices": "technician",
    "GET /api/devices/{device}": "viewer",
    "PATCH /api/devices/{device}": "technician",
    "POST /api/devices/{device}/state": "technician",
    "POST /api/devices/{device}/move": "technician",
    "POST /api/devices/{device}/retire": "technician",
    "GET /api/devices/{device}/live": "viewer",
    "POST /api/devices/{device}/calibrations": "technician",
    "POST /api/devices/{device}/credentials": "technician",
    "POST /api/devices/{device}/credentials/revoke": "technician",
    "GET /api/sites": "viewer",
    "GET /api/sites/{site}": "viewer",
    "PUT /api/sites/{site}": "technician",
    "GET /api/datastreams/{datastream:path}/thresholds": "viewer",
    "PUT /api/datastreams/{datastream:path}/thresholds": "technician",
    "GET /api/jobs": "viewer",
    "GET /api/jobs/closed": "viewer",
    "POST /api/jobs": "technician",
    "POST /api/jobs/{job}/close": "technician",
    "GET /api/jobs/{job}/photo": "viewer",
    "POST /api/import": "technician",
    "GET /api/export": "viewer",
    "GET /devices": "viewer",
    "GET /devices/worker.js": "public",
    # Accounts.
    "GET /login": "public",
    "GET /setup": "public",
    "GET /api/session": "public",
    "POST /api/session": "public",
    "POST /api/setup": "public",
    "DELETE /api/session": "person",
    "GET /account": "person",
    "POST /api/account/password": "person",
    "GET /accounts": "administrator",
    "GET /api/accounts": "administrator",
    "POST /api/accounts": "administrator",
    "PATCH /api/accounts/{login}": "administrator",
    "POST /api/accounts/{login}/password": "administrator",
    "GET /api/accounts/log": "administrator",
    "GET /api/tokens": "administrator",
    "POST /api/tokens": "administrator",
    "DELETE /api/tokens/{ident}": "administrator",
}
"""Who may use what. A new route is entered here by hand, or the test below fails."""

ALLOWED = {
    "nobody": {"public"},
    "viewer": {"public", "person", "viewer"},
    "operator": {"public", "person", "viewer", "operator"},
    "technician": {"public", "person", "viewer", "technician"},
    "administrator": {"public", "person", "viewer", "operator", "technician", "administrator"},
    "temporary": {"public", "person"},
    "token read": {"public", "viewer"},
    "token alarms": {"public", "operator"},
    "token devices": {"public", "technician"},
    "token accounts": {"public", "administrator"},
    "expired token": {"public"},
}
"""Who may do what; written out, not computed."""

PLACES = {
    "version": "0",
    "room": "web",
    "path:path": "theme.js",
    "language": "id",
    "login": "ghost",
    "ident": "999",
    "code": "32.73.02",
    "device": "ghost",
    "site": "ghost",
    "datastream:path": "ghost.water_level_m",
    "job": "999",
}
ACCOUNTS_ONLY = {
    "GET /login",
    "GET /setup",
    "POST /api/session",
    "POST /api/setup",
    "DELETE /api/session",
    "GET /account",
    "POST /api/account/password",
} | {name for name, access in TABLE.items() if access == "administrator"}
"""What is not there where there are no accounts."""
UNSAFE = [name for name in TABLE if not name.startswith("GET ")]


class House:
    """The complete application, and a way to send requests as anybody."""

    def __init__(self, folder: Path) -> None:
        self.now = 1_795_516_200 * 10**9
        self.accounts = Accounts(f"sqlite:///{folder / 'accounts.sqlite'}", clock=lambda: self.now, passwords=CHEAP)
        with_roles(self.accounts)
        self.tokens = {
            f"token {right}": self.accounts.create_token("administrator", right, [right], days=30, by="test")[1]
            for right in Right
        }
        _, self.expired = self.accounts.create_token("administrator", "old", list(Right), days=1, by="test")
        self.now += 2 * 86_400 * 10**9
        self.temporary = self.accounts.create("temporary", Role.ADMINISTRATOR, by="test") or ""
        live = LiveCity()
        live.set_directory(small_city())
        self.registry = Registry(f"sqlite:///{folder / 'registry.sqlite'}")
        self.registry.put_city("bandung", 7.0, by="test")
        # Each request of the walk tries something; none of them is to be slowed down.
        unhurried = Throttle(iter(range(0, 10**9, 10_000)).__next__)
        self.app = pages(live, KnownAccounts(self.accounts), Fleet(self.registry), throttle=unhurried)

    def headers(self, who: str) -> dict[str, str]:
        """What a request of this visitor carries; a new session each time, since some requests end it."""
        if who in self.tokens or who == "expired token":
            return {"Authorization": f"Bearer {self.tokens.get(who, self.expired)}"}
        if who == "nobody":
            return {}
        session = self.accounts.log_in(who, self.temporary if who == "temporary" else PASSWORD)
        assert session is not None
        return {"Cookie": f"pantau_session={session}", CSRF_HEADER: self.accounts.session_visitor(session).csrf}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    found = House(tmp_path_factory.mktemp("house"))
    yield found
    found.accounts.close()
    found.registry.close()


def send(app: FastAPI, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
    """Status and, of a refusal, its sentence; an answer without end is left once it has begun."""

    async def talk() -> tuple[int, str]:
        begun: dict[str, Any] = {}
        body = bytearray()
        enough = asyncio.Event()

        sent = False

        async def receive() -> dict[str, Any]:
            nonlocal sent
            if sent:
                await asyncio.Event().wait()  # the visitor stays
            sent = True
            return {"type": "http.request", "body": b"{}", "more_body": False}

        async def answer(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                begun.update(message)
            else:
                body.extend(message.get("body", b""))
            if message["type"] == "http.response.body" and (begun["status"] < 400 or not message.get("more_body")):
                enough.set()

        given = {"Host": "localhost", "Content-Type": "application/json", "X-Pantau": "1"} | headers
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(k.lower().encode(), v.encode()) for k, v in given.items()],
            "client": ("127.0.0.1", 1),
            "server": ("localhost", 80),
        }
        running = asyncio.ensure_future(app(scope, receive, answer))  # type: ignore[arg-type]
        waiting = asyncio.ensure_future(enough.wait())
        await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if running.done():
            running.result()
        running.cancel()
        await asyncio.gather(running, waiting, return_exceptions=True)
        return begun["status"], json.loads(bytes(body))["detail"] if begun["status"] in (401, 403) else ""

    return asyncio.run(talk())


def address(name: str) -> tuple[str, str]:
    method, _, path = name.partition(" ")
    for place, value in PLACES.items():
        path = path.replace(f"{{{place}}}", value)
    assert "{" not in path, f"say in PLACES what stands at {path}"
    return method, path


def test_the_table_is_complete(house: House) -> None:
    declared = {f"{m} {r.path}": ", ".join(r.access) for r in declared_routes(house.app.routes) for m in r.methods}
    assert declared == TABLE


@pytest.mark.parametrize("who", ALLOWED)
def test_everybody_gets_what_the_table_says_and_nothing_else(house: House, who: str) -> None:
    wrong = []
    for name, access in TABLE.items():
        status, detail = send(house.app, *address(name), house.headers(who))
        assert status != 500, name
        if access in ALLOWED[who]:
            # Wrong passwords and codes are refused by the route, which was reached then.
            refused = status in (401, 403) and not ("wrong" in detail and access in ("public", "person"))
        else:
            expected = 401 if who in ("nobody", "expired token") else 403
            refused = True if status == expected else None
        if refused is not (access not in ALLOWED[who]):
            wrong.append(f"{name} ({access}) answers {who} with {status} {detail}")
    assert wrong == []


@pytest.mark.parametrize("name", UNSAFE)
def test_no_change_without_csrf_token_or_from_another_page(house: House, name: str) -> None:
    method, path = address(name)
    good = house.headers("administrator")
    for csrf in (None, "", "x" * 64):
        headers = {k: v for k, v in good.items() if k != CSRF_HEADER} | ({} if csrf is None else {CSRF_HEADER: csrf})
        status, detail = send(house.app, method, path, headers)
        if TABLE[name] == "public":
            assert "X-CSRF-Token" not in detail  # nobody has logged in yet
        else:
            assert status == 403 and "X-CSRF-Token" in detail, csrf
    for hostile in ({"X-Pantau": ""}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
        assert send(house.app, method, path, good | hostile)[0] == 403, hostile
    assert send(house.app, method, path, good | {"Content-Type": "text/plain"})[0] == 415


def test_an_open_house_lets_everybody_do_all_but_accounts(house: House) -> None:
    live = LiveCity()
    live.set_directory(small_city())
    app = pages(live, None, Fleet(house.registry))
    declared = {f"{m} {r.path}": r.access for r in declared_routes(app.routes) for m in r.methods}
    assert {n for n in TABLE if n not in declared} == ACCOUNTS_ONLY
    for name in declared:
        status, detail = send(app, *address(name), {})
        assert status not in (401, 403), (name, detail)


def test_the_table_covers_every_right() -> None:
    assert set(TABLE.values()) == {a.value for a in Access}
    assert set(RIGHT_OF.values()) == set(Right)
