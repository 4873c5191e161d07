"""Who may do what: roles and rights, what each route declares, and the gate in front of all routes.

Every route is denied unless it declares its access with ``requires``. An application with a route that declares
nothing does not start. Who a visitor is (session, token, or nobody) is found by an ``Identify``; accounts are kept
elsewhere (``web.accounts``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from hmac import compare_digest
from typing import Any, Literal, Protocol
from urllib.parse import quote

from fastapi import Depends, Request
from fastapi.routing import iter_route_contexts
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CSRF_HEADER = "X-CSRF-Token"
LOGIN_PAGE = "/login"
ACCOUNT_PAGE = "/account"
RECHECK_S = 3.0
"""How often the visitor of an open stream is looked at again; after a logout it ends that soon."""

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_VISITOR = "pantau.visitor"


class Right(StrEnum):
    """What a visitor may do. Also the scopes of API tokens."""

    READ = "read"
    """See everything but accounts."""
    ALARMS = "alarms"
    """Acknowledge alarms."""
    DEVICES = "devices"
    """Register, change, swap and retire devices; close jobs."""
    ACCOUNTS = "accounts"
    """Accounts, tokens, and the log of logins."""


class Role(StrEnum):
    """What an account is for: a set of rights."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    TECHNICIAN = "technician"
    ADMINISTRATOR = "administrator"

    @property
    def rights(self) -> frozenset[Right]:
        """The rights of this role."""
        return _RIGHTS[self]


_RIGHTS = {
    Role.VIEWER: frozenset({Right.READ}),
    Role.OPERATOR: frozenset({Right.READ, Right.ALARMS}),
    Role.TECHNICIAN: frozenset({Right.READ, Right.DEVICES}),
    Role.ADMINISTRATOR: frozenset(Right),
}


class Access(StrEnum):
    """What a route declares: who may use it."""

    PUBLIC = "public"
    """Everybody."""
    PERSON = "person"
    """Whoever has logged in with a password, whatever the role; not a token."""
    VIEWER = "viewer"
    OPERATOR = "operator"
    TECHNICIAN = "technician"
    ADMINISTRATOR = "administrator"


RIGHT_OF = {
    Access.VIEWER: Right.READ,
    Access.OPERATOR: Right.ALARMS,
    Access.TECHNICIAN: Right.DEVICES,
    Access.ADMINISTRATOR: Right.ACCOUNTS,
}
"""The right that a visitor needs for a declared access."""


class How(StrEnum):
    """How a visitor came in."""

    NOBODY = "nobody"
    OPEN = "open"
    """No accounts here: everybody on this machine."""
    SESSION = "session"
    TOKEN = "token"


@dataclass(frozen=True)
class Visitor:
    """Who makes a request."""

    how: How = How.NOBODY
    account: str = ""
    """Login name; empty for nobody and in an open house."""
    name: str = ""
    """As others should read it, such as beside an acknowledgement; never empty for a session or a token."""
    role: Role | None = None
    rights: frozenset[Right] = frozenset()
    csrf: str = ""
    """What a session's changes carry in ``X-CSRF-Token``."""
    must_change_password: bool = False
    """A temporary password: nothing else is allowed until it is changed."""

    def may(self, access: Access) -> bool:
        """Whether this visitor may use a route with this declaration.

        Examples
        --------
        >>> Visitor().may(Access.PUBLIC), Visitor().may(Access.VIEWER)
        (True, False)
        >>> Visitor(How.SESSION, rights=Role.OPERATOR.rights).may(Access.TECHNICIAN)
        False
        """
        if access is Access.PUBLIC:
            return True
        if access is Access.PERSON:
            return self.how is How.SESSION
        return RIGHT_OF[access] in self.rights and not self.must_change_password


NOBODY = Visitor()
EVERYBODY = Visitor(How.OPEN, rights=frozenset({Right.READ, Right.ALARMS, Right.DEVICES}))
"""The visitor of an open house: operator and technician at once."""


def describe(visitor: Visitor) -> dict[str, Any]:
    """A visitor as the API tells it."""
    return {
        "access": "open" if visitor.how is How.OPEN else "accounts",
        "how": visitor.how.value,
        "account": visitor.account,
        "name": visitor.name,
        "role": visitor.role and visitor.role.value,
        "rights": sorted(visitor.rights),
        "csrf": visitor.csrf,
        "must_change_password": visitor.must_change_password,
    }


class Identify(Protocol):
    """Finds out who makes a request; may ask a database. Called in a thread."""

    def __call__(self, scope: Scope) -> Visitor:
        """The visitor; ``NOBODY`` if unknown."""

    def needs_setup(self) -> bool:
        """Whether there are no accounts yet."""


class OpenHouse:
    """No accounts: everybody may look, acknowledge, and change devices. For this machine alone."""

    def __call__(self, scope: Scope) -> Visitor:
        """Everybody is the same visitor."""
        return EVERYBODY

    def needs_setup(self) -> bool:
        """Never."""
        return False


class NobodyKnown:
    """Knows nobody: only public routes answer."""

    def __call__(self, scope: Scope) -> Visitor:
        """Nobody."""
        return NOBODY

    def needs_setup(self) -> bool:
        """Never."""
        return False


class Requirement:
    """The dependency behind ``requires``."""

    def __init__(self, access: Access) -> None:
        self.access = access

    def __call__(self, request: Request) -> Visitor:
        """The visitor. The gate has looked already; this is the same check at the route itself."""
        visitor: Visitor = request.scope.get(_VISITOR, NOBODY)
        refused = refusal(visitor, [self.access])
        if refused is not None:
            raise HTTPException(*refused)
        return visitor


def requires(access: Literal["public", "person", "viewer", "operator", "technician", "administrator"]) -> Any:
    """Declare who may use a route; for ``dependencies=[…]`` of a route or router, or as a parameter.

    As a parameter it gives the ``Visitor``: ``def change(by: Annotated[Visitor, requires("technician")])``. Of several
    declarations (router and route) all must hold.
    """
    return Depends(_REQUIREMENTS[Access(access)])


_REQUIREMENTS = {access: Requirement(access) for access in Access}


class UndeclaredRouteError(RuntimeError):
    """A route does not say who may use it; the message names it."""


@dataclass(frozen=True)
class DeclaredRoute:
    """One route as the gate sees it."""

    path: str
    methods: frozenset[str]
    access: tuple[Access, ...]
    """All that must hold; never empty."""


def declared_routes(routes: Iterable[BaseRoute]) -> list[DeclaredRoute]:
    """All routes with what they declare, in the order in which they are tried.

    Raises
    ------
    UndeclaredRouteError
        A route declares nothing, or more beside ``public``, or is of a kind that can't declare (a mounted
        application, a plain Starlette route).
    """
    found = []
    for route in iter_route_contexts(list(routes)):
        dependant = getattr(route, "dependant", None)
        access = tuple(dict.fromkeys(_declarations(dependant)))
        name = f"{'/'.join(sorted(route.methods or ['?']))} {route.path}"
        if not access or not route.methods or route.path is None:
            raise UndeclaredRouteError(f"the route {name} does not declare who may use it: add requires(…)")
        if Access.PUBLIC in access and len(access) > 1:
            raise UndeclaredRouteError(f"the route {name} is declared public and {', '.join(access)} at once")
        found.append(DeclaredRoute(route.path, frozenset(route.methods), access))
    return found


def _declarations(dependant: Any) -> Iterable[Access]:
    if dependant is None:
        return
    if isinstance(dependant.call, Requirement):
        yield dependant.call.access
    for inner in dependant.dependencies:
        yield from _declarations(inner)


def refusal(visitor: Visitor, access: Iterable[Access]) -> tuple[int, str] | None:
    """Status and sentence if a visitor may not use a route; None if he may."""
    denied = next((a for a in access if not visitor.may(a)), None)
    if denied is None:
        return None
    if visitor.how is How.NOBODY:
        return 401, "log in, or send a token: Authorization: Bearer …"
    if denied is Access.PERSON:
        return 403, "only a person who has logged in with a password may do this"
    if visitor.must_change_password:
        return 403, "the password is temporary: change it first"
    has = ", ".join(sorted(visitor.rights)) or "nothing"
    return 403, f"this needs the right {RIGHT_OF[denied].value!r}; this {_WHAT[visitor.how]} has {has}"


_WHAT = {How.SESSION: "account", How.TOKEN: "token", How.OPEN: "page without accounts"}


class Gate:
    """ASGI middleware: lets a request through to a declared route if its visitor may use it, and nothing else.

    Parameters
    ----------
    routes
        Gives the application's routes; asked once, at the first request.
    identify
        Who a visitor is.
    """

    def __init__(self, app: ASGIApp, *, routes: Callable[[], Iterable[BaseRoute]], identify: Identify) -> None:
        self.app = app
        self._routes = routes
        self._identify = identify
        self._table: list[tuple[Any, DeclaredRoute]] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            self._match({"path": "", "method": ""})  # an undeclared route stops the start
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"only HTTP is served here, got {scope['type']}")
        route, allowed = self._match(scope)
        headers = Headers(scope=scope)
        if route is None:
            answer = _no_route(allowed, f"{scope['method']} {scope['path']}")
            await answer(scope, receive, send)
            return
        if route.access != (Access.PUBLIC,):
            visitor = await run_in_threadpool(self._identify, scope)
            refused = refusal(visitor, route.access) or _forged(visitor, scope["method"], headers)
            if refused is not None:
                await _refuse(refused, visitor, scope, headers)(scope, receive, send)
                return
            scope[_VISITOR] = visitor
            await self._watched(scope, receive, send, route.access)
            return
        await self.app(scope, receive, send)

    def _match(self, scope: Scope) -> tuple[DeclaredRoute | None, set[str]]:
        if self._table is None:
            self._table = [(compile_path(r.path)[0], r) for r in declared_routes(self._routes())]
        allowed: set[str] = set()
        for pattern, route in self._table:
            if pattern.match(scope["path"]):
                if scope["method"] in route.methods:
                    return route, set()
                allowed |= route.methods
        return None, allowed

    async def _watched(self, scope: Scope, receive: Receive, send: Send, access: tuple[Access, ...]) -> None:
        """Run the application; an open stream ends when its visitor may not see it any longer."""
        looking: asyncio.Task[None] | None = None
        running, ended = asyncio.current_task(), False
        assert running is not None

        async def look() -> None:
            nonlocal ended
            while True:
                await asyncio.sleep(RECHECK_S)
                visitor = await run_in_threadpool(self._identify, scope)
                if refusal(visitor, access) is not None:
                    ended = True
                    running.cancel()
                    return

        async def watch(message: Message) -> None:
            nonlocal looking
            if message["type"] == "http.response.start":
                kind = Headers(raw=message["headers"]).get("content-type", "")
                if kind.startswith("text/event-stream"):
                    looking = asyncio.create_task(look())
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except asyncio.CancelledError:
            if not ended or running.uncancel():  # somebody else wants this to stop too
                raise
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            if looking is not None:
                looking.cancel()


def _forged(visitor: Visitor, method: str, headers: Headers) -> tuple[int, str] | None:
    """A change by a session must carry what only our own pages can know."""
    if visitor.how is not How.SESSION or method in _SAFE_METHODS:
        return None
    if compare_digest(headers.get(CSRF_HEADER, "").encode(), visitor.csrf.encode()):
        return None
    return 403, f"a change needs this session's {CSRF_HEADER}; GET /api/session tells it"


def _no_route(allowed: set[str], what: str) -> Response:
    if allowed:
        return JSONResponse(
            {"detail": f"{what}: allowed here are {', '.join(sorted(allowed))}"},
            status_code=405,
            headers={"Allow": ", ".join(sorted(allowed))},
        )
    return JSONResponse({"detail": f"there is no {what}"}, status_code=404)


def _refuse(refused: tuple[int, str], visitor: Visitor, scope: Scope, headers: Headers) -> Response:
    """A page that a person wants to see leads to the login; anything else gets a plain answer."""
    status, detail = refused
    wants_page = scope["method"] == "GET" and "text/html" in headers.get("accept", "")
    if wants_page and (status == 401 or visitor.must_change_password):
        target = LOGIN_PAGE if status == 401 else ACCOUNT_PAGE
        query = scope.get("query_string", b"").decode("latin-1")
        here = quote(scope["path"] + (f"?{query}" if query else ""), safe="/")
        return RedirectResponse(f"{target}?next={here}", status_code=303)
    extra = {"WWW-Authenticate": 'Bearer realm="pantau"'} if status == 401 else None
    return JSONResponse({"detail": detail}, status_code=status, headers=extra)
