"""The gate: nothing is reached that does not declare who may reach it, and then only by those."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.responses import PlainTextResponse, StreamingResponse
from fastapi.testclient import TestClient
from starlette.types import Scope

import web.access
from web.access import (
    EVERYBODY,
    NOBODY,
    Access,
    How,
    OpenHouse,
    Right,
    Role,
    UndeclaredRouteError,
    Visitor,
    declared_routes,
    requires,
)
from web.app import create_app
from web.server import serve

CHANGE = {"X-Pantau": "1"}


class Known:
    """Everybody is the visitor that the test says."""

    def __init__(self, visitor: Visitor = NOBODY) -> None:
        self.visitor = visitor

    def __call__(self, scope: Scope) -> Visitor:
        return self.visitor

    def needs_setup(self) -> bool:
        return False


def client(app: FastAPI) -> TestClient:
    return TestClient(app, base_url="http://localhost")


def new_app(known: Any = None) -> FastAPI:
    return create_app(title="Pantau", version="1", identify=known)


def test_rights_are_sets_not_ranks() -> None:
    # The brief's roles: the operator does not change devices, the technician does not acknowledge.
    may = {role: {a for a in Access if Visitor(How.SESSION, rights=role.rights).may(a)} for role in Role}
    both = {Access.PUBLIC, Access.PERSON, Access.VIEWER}
    assert may == {
        Role.VIEWER: both,
        Role.OPERATOR: both | {Access.OPERATOR},
        Role.TECHNICIAN: both | {Access.TECHNICIAN},
        Role.ADMINISTRATOR: set(Access),
    }
    assert EVERYBODY.rights == {Right.READ, Right.ALARMS, Right.DEVICES}
    assert not EVERYBODY.may(Access.ADMINISTRATOR) and not EVERYBODY.may(Access.PERSON)


def test_without_anyone_known_only_public_routes_answer() -> None:
    c = client(new_app())
    assert c.get("/health").status_code == 200
    assert c.get("/openapi.json").status_code == 401 == c.get("/docs").status_code


def undeclared() -> Iterator[tuple[str, Any]]:
    yield "a route", lambda app: app.get("/x")(lambda: 1)
    yield "a plain route", lambda app: app.add_route("/x", lambda request: PlainTextResponse("x"))
    yield "a mounted application", lambda app: app.mount("/x", FastAPI())
    router = APIRouter()
    router.get("/deep")(lambda: 1)
    outer = APIRouter(prefix="/x")
    outer.include_router(router)
    yield "an included router", lambda app: app.include_router(outer)
    yield "public and more", lambda app: app.get("/x", dependencies=[requires("public"), requires("viewer")])(lambda: 1)


@pytest.mark.parametrize(("what", "add"), list(undeclared()), ids=lambda x: x if isinstance(x, str) else "")
def test_an_undeclared_route_stops_the_start(what: str, add: Any) -> None:
    app = new_app(OpenHouse())
    add(app)
    with pytest.raises(UndeclaredRouteError, match=r"/x.* declare"):
        declared_routes(app.routes)
    with pytest.raises(UndeclaredRouteError), client(app):
        pass
    with pytest.raises(UndeclaredRouteError, match="/x"):
        serve(app, "127.0.0.1", 0)


def test_a_route_that_comes_after_the_start_is_not_there() -> None:
    app = new_app(OpenHouse())
    c = client(app)
    assert c.get("/health").status_code == 200
    app.get("/late")(lambda: 1)
    assert c.get("/late").status_code == 404


def test_declarations_of_router_and_route_must_both_hold() -> None:
    known = Known()
    app = new_app(known)
    router = APIRouter(prefix="/api", dependencies=[requires("viewer")])

    @router.post("/x")
    def change(by: Annotated[Visitor, requires("operator")]) -> str:
        return by.account

    app.include_router(router, dependencies=[requires("technician")])
    assert declared_routes(app.routes)[-1].access == (Access.TECHNICIAN, Access.VIEWER, Access.OPERATOR)
    c = client(app)
    for rights, status in (
        (set(), 403),
        ({Right.READ, Right.ALARMS}, 403),
        ({Right.DEVICES, Right.ALARMS}, 403),
        ({Right.READ, Right.ALARMS, Right.DEVICES}, 200),
    ):
        known.visitor = Visitor(How.TOKEN, "siti", rights=frozenset(rights))
        assert c.post("/api/x", json={}, headers=CHANGE).status_code == status, rights


def test_a_refused_visitor_learns_nothing_from_his_body_and_is_not_read() -> None:
    app = new_app(Known())

    @app.post("/api/x", dependencies=[requires("operator")])
    def change(body: dict[str, int]) -> int:
        raise AssertionError("not reached")

    answer = client(app).post("/api/x", content="{not json", headers=CHANGE | {"Content-Type": "application/json"})
    assert answer.status_code == 401 and answer.headers["www-authenticate"].startswith("Bearer")


def test_other_methods_and_unknown_paths() -> None:
    c = client(new_app(OpenHouse()))
    answer = c.put("/docs", json={}, headers=CHANGE)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    assert c.get("/nowhere").status_code == 404 == c.get("/docs/").status_code
    assert c.head("/health").status_code == 405


def test_people_who_want_a_page_are_led_to_the_login_and_programs_are_not() -> None:
    known = Known()
    c = client(new_app(known))
    html = {"Accept": "text/html,application/xhtml+xml"}
    answer = c.get("/docs?a=1&b=//evil.example", headers=html, follow_redirects=False)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/login?next=/docs%3Fa%3D1%26b%3D//evil.example"
    assert c.get("/docs").status_code == 401
    known.visitor = Visitor(How.SESSION, "siti", must_change_password=True)
    answer = c.get("/docs", headers=html, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/account?next=/docs")
    known.visitor = Visitor(How.SESSION, "siti")
    assert c.get("/docs", headers=html, follow_redirects=False).status_code == 403


@pytest.mark.parametrize(
    ("header", "status"), [({}, 403), ({"X-CSRF-Token": "other"}, 403), ({"X-CSRF-Token": "right"}, 200)]
)
def test_a_session_changes_nothing_without_its_csrf_token(header: dict[str, str], status: int) -> None:
    app = new_app(Known(Visitor(How.SESSION, "siti", rights=Role.OPERATOR.rights, csrf="right")))
    app.post("/api/x", dependencies=[requires("operator")])(lambda: 1)
    app.get("/api/x", dependencies=[requires("operator")])(lambda: 1)
    assert client(app).post("/api/x", json={}, headers=CHANGE | header).status_code == status
    assert client(app).get("/api/x").status_code == 200


def test_the_route_itself_checks_too() -> None:
    # Even if the gate were not in front.
    app = FastAPI()
    app.get("/x", dependencies=[requires("viewer")])(lambda: 1)
    assert TestClient(app).get("/x").status_code == 401


def test_an_open_stream_ends_soon_after_its_visitor_may_no_longer_see_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.access, "RECHECK_S", 0.2)
    known = Known(Visitor(How.SESSION, "siti", rights=Role.VIEWER.rights))
    app = new_app(known)
    ended = threading.Event()

    @app.get("/stream", dependencies=[requires("viewer")])
    def stream() -> StreamingResponse:
        async def beats() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"data: x\n\n"
                    await asyncio.sleep(0.05)
            finally:
                ended.set()

        return StreamingResponse(beats(), media_type="text/event-stream")

    server = serve(app, "127.0.0.1", 0)
    try:
        began, taken_at, beats_seen = time.monotonic(), None, 0
        with httpx.stream("GET", f"{server.url}/stream", timeout=5) as answer:
            assert answer.status_code == 200
            for _ in answer.iter_raw():
                beats_seen += 1
                if taken_at is None and time.monotonic() - began > 0.6:
                    known.visitor, taken_at = NOBODY, time.monotonic()
                assert time.monotonic() - began < 5, "the stream went on"
        assert taken_at is not None and beats_seen > 5
        assert time.monotonic() - taken_at < 1.0
        assert ended.wait(5)  # what feeds it has been told
    finally:
        server.stop()
