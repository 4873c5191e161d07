"""Logging in over HTTP: who a visitor is, sessions, the first account, and one's own password.

A session is a cookie that scripts can't read and other sites can't send (HttpOnly, SameSite=Strict); each change also
carries the session's CSRF token. Programs send ``Authorization: Bearer`` instead, and then the cookie does not count.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import cookie_parser
from starlette.types import Scope

from web.access import ACCOUNT_PAGE, LOGIN_PAGE, NOBODY, Visitor, describe, requires
from web.accounts import SESSION_LONGEST_NS, Accounts
from web.app import page
from web.passwords import MAX_LENGTH, same_code
from web.throttle import ACCOUNT, ADDRESS, Key, Limit, Throttle, network

SETUP_PAGE = "/setup"
STYLES = ("web/account.css",)


class KnownAccounts:
    """Who a visitor is, by token or session. An ``Identify``.

    Parameters
    ----------
    setup_code
        What the person who started the server was told, if there is no account yet; empty: no setup over the page.
    """

    def __init__(self, accounts: Accounts, setup_code: str = "") -> None:
        self.accounts = accounts
        self.setup_code = setup_code
        self._set_up = False

    def __call__(self, scope: Scope) -> Visitor:
        """A token counts before a session; a wrong one is nobody, whatever else came along."""
        authorization = Headers(scope=scope).get("authorization")
        if authorization is not None:
            kind, _, secret = authorization.partition(" ")
            return self.accounts.token_visitor(secret.strip()) if kind.lower() == "bearer" else NOBODY
        session = session_of(scope)
        return self.accounts.session_visitor(session) if session else NOBODY

    def needs_setup(self) -> bool:
        """Whether there is no account yet."""
        self._set_up = self._set_up or not self.accounts.empty()
        return not self._set_up


def cookie_name(scope: Scope) -> str:
    """Name of the session's cookie. With TLS its prefix makes browsers insist on Secure and on this very host."""
    return "__Host-pantau_session" if scope.get("scheme") == "https" else "pantau_session"


def session_of(scope: Scope) -> str:
    """What stands in the session's cookie; empty if there is none."""
    return cookie_parser(Headers(scope=scope).get("cookie", "")).get(cookie_name(scope), "")


class LoginOrder(BaseModel):
    """A person wants in."""

    login: str = Field(max_length=64)
    password: str = Field(max_length=MAX_LENGTH)


class SetupOrder(BaseModel):
    """The first account."""

    code: str = Field(description="The one-time code that the server printed when it started.", max_length=100)
    login: str = Field(max_length=64)
    name: str = Field(default="", max_length=100)
    password: str = Field(max_length=MAX_LENGTH)


class PasswordOrder(BaseModel):
    """A new password of one's own."""

    old: str = Field(max_length=MAX_LENGTH)
    new: str = Field(max_length=MAX_LENGTH)


class LoggedIn(BaseModel):
    """Who has logged in; the fields of ``GET /api/session``."""

    access: str
    how: str
    account: str
    name: str
    role: str | None
    rights: list[str]
    csrf: str
    must_change_password: bool


def add_login(app: FastAPI, known: KnownAccounts, *, throttle: Throttle | None = None) -> None:
    """Add pages and routes for logging in to an application that was created with ``identify=known``."""
    app.include_router(login_routes(known, throttle or Throttle()))
    for path, module, access in (
        (LOGIN_PAGE, "login", "public"),
        (SETUP_PAGE, "setup", "public"),
        (ACCOUNT_PAGE, "account", "person"),
        ("/accounts", "accounts", "administrator"),
    ):
        app.add_api_route(
            path,
            _page_maker(app, module),
            methods=["GET"],
            include_in_schema=False,
            dependencies=[requires(access)],  # type: ignore[arg-type]
        )


def _page_maker(app: FastAPI, module: str) -> Callable[[], HTMLResponse]:
    def show() -> HTMLResponse:
        return page(app, title=app.title, module=f"web/pages/{module}.js", styles=STYLES)

    return show


def login_routes(known: KnownAccounts, throttle: Throttle) -> APIRouter:
    """The routes for logging in and out, the first account, and one's own password."""
    api = APIRouter(prefix="/api", tags=["accounts"])
    accounts = known.accounts

    def admit(request: Request, own: tuple[Key, Limit]) -> tuple[str, Key, Key]:
        address = address_of(request)
        shared: Key = ("address", address)
        wait_s = throttle.admit([own, (shared, ADDRESS)])
        if wait_s > 0:
            seconds = math.ceil(wait_s)
            raise HTTPException(429, f"too many failed tries: wait {seconds} s", headers={"Retry-After": str(seconds)})
        return address, own[0], shared

    def account_key(request: Request, login: str) -> tuple[Key, Limit]:
        address = address_of(request)
        if accounts.knows_address(login, address):
            return ("account", login, address), ACCOUNT
        return ("account", login), ACCOUNT

    @api.post(
        "/session", summary="Log in", response_model=LoggedIn, dependencies=[requires("public")], responses=REFUSED
    )
    def log_in(order: LoginOrder, request: Request) -> Response:
        """Sets the session's cookie. 401: name or password is wrong. 429: too many failed tries."""
        login = order.login.strip().lower()
        address, own, shared = admit(request, account_key(request, login if login.isprintable() else ""))
        session = accounts.log_in(login, order.password, address=address, ends=session_of(request.scope))
        if session is None:
            raise HTTPException(401, "name or password is wrong")
        throttle.succeeded(own, [shared])
        return _welcome(accounts, session, request)

    @api.delete("/session", summary="Log out", status_code=204, dependencies=[requires("person")])
    def log_out(request: Request) -> Response:
        """Ends this session."""
        accounts.log_out(session_of(request.scope), address=address_of(request))
        answer = Response(status_code=204)
        answer.delete_cookie(cookie_name(request.scope), secure=_secure(request), httponly=True, samesite="strict")
        return answer

    @api.post(
        "/setup",
        summary="Make the first account",
        response_model=LoggedIn,
        dependencies=[requires("public")],
        responses=REFUSED,
    )
    def set_up(order: SetupOrder, request: Request) -> Response:
        """Makes an administrator and logs in. 403: the code is wrong. 409: there are accounts already."""
        if not known.needs_setup():
            raise HTTPException(409, "there are accounts already: log in")
        address, own, shared = admit(request, (("setup",), ACCOUNT))
        if not same_code(order.code, known.setup_code):
            raise HTTPException(403, "the code is wrong: it stands where the server was started, in its first lines")
        throttle.succeeded(own, [shared])
        login = order.login.strip().lower()
        accounts.create_first(login, order.password, name=order.name, address=address)
        session = accounts.log_in(login, order.password, address=address, ends=session_of(request.scope))
        assert session is not None
        return _welcome(accounts, session, request)

    @api.post("/account/password", summary="Change one's own password", response_model=LoggedIn, responses=REFUSED)
    def change_password(
        order: PasswordOrder, request: Request, visitor: Annotated[Visitor, requires("person")]
    ) -> Response:
        """All sessions of the account end, and a new one begins here. 403: the old password is wrong."""
        address, own, shared = admit(request, account_key(request, visitor.account))
        session = accounts.change_password(visitor.account, order.old, order.new, address=address)
        if session is None:
            raise HTTPException(403, "the old password is wrong")
        throttle.succeeded(own, [shared])
        return _welcome(accounts, session, request)

    return api


REFUSED: dict[int | str, dict[str, str]] = {
    401: {"description": "Name or password is wrong"},
    403: {"description": "Not allowed"},
    409: {"description": "It exists already"},
    429: {"description": "Too many failed tries; `Retry-After` says how long to wait"},
}


def address_of(request: Request) -> str:
    """Where a request comes from, as the throttle counts it."""
    return network(request.client.host) if request.client is not None else ""


def _secure(request: Request) -> bool:
    return request.url.scheme == "https"


def _welcome(accounts: Accounts, session: str, request: Request) -> JSONResponse:
    answer = JSONResponse(describe(accounts.session_visitor(session)))
    answer.set_cookie(
        cookie_name(request.scope),
        session,
        max_age=SESSION_LONGEST_NS // 1_000_000_000,
        path="/",
        secure=_secure(request),
        httponly=True,
        samesite="strict",
    )
    return answer
