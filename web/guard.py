"""Safeguards around every request: Host check, origin of changes, security headers, no caching of the API.

Plain ASGI, so that streams (server-sent events) pass through untouched. Who may do what is not decided here but in
``web.access``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CHANGE_HEADER = "X-Pantau"
"""A page of another origin can't send this header without asking first, and is never allowed to."""

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "font-src 'self'",
        "manifest-src 'self'",
        "worker-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)

SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), geolocation=(self), microphone=(), payment=(), usb=()",
}

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def host_name(host: str) -> str:
    """The name in a Host header, without the port and in lower case.

    Examples
    --------
    >>> host_name("Pantau.Local:8080"), host_name("[::1]:8080"), host_name("10.0.0.7")
    ('pantau.local', '::1', '10.0.0.7')
    """
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def host_allowed(host: str, allowed: frozenset[str]) -> bool:
    """Whether a Host header is one of ours.

    DNS rebinding needs a *name* that its owner can point elsewhere; so any literal address passes, ``localhost``
    passes, and other names only if they are listed.

    Examples
    --------
    >>> host_allowed("127.0.0.1:8080", frozenset()), host_allowed("evil.example", frozenset())
    (True, False)
    >>> host_allowed("pantau.bandung.go.id", frozenset({"pantau.bandung.go.id"}))
    True
    """
    name = host_name(host)
    if name == "localhost" or name in allowed:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def same_origin(origin: str | None, host: str, scheme: str) -> bool:
    """Whether a request's Origin header names the server it is sent to; programs send none, and pass.

    Behind a proxy that ends TLS the scheme we see is http while the browser's is https, hence only a downgrade
    (an http page against an https server) is refused.

    Examples
    --------
    >>> same_origin("http://localhost:80", "localhost:80", "http"), same_origin("null", "localhost:80", "http")
    (True, False)
    >>> same_origin(None, "localhost:80", "http"), same_origin("http://localhost:81", "localhost:80", "http")
    (True, False)
    """
    if origin is None:
        return True
    accepted = {f"https://{host}"} if scheme == "https" else {f"http://{host}", f"https://{host}"}
    return origin.lower() in {a.lower() for a in accepted}


class Guard:
    """ASGI middleware; see the module."""

    def __init__(self, app: ASGIApp, allowed_hosts: Iterable[str] = ()) -> None:
        self.app = app
        self.allowed_hosts = frozenset(h.lower() for h in allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refusal(scope)
        answer = self.app if refusal is None else JSONResponse({"detail": refusal[1]}, status_code=refusal[0])
        await answer(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not host_allowed(host, self.allowed_hosts):
            return 421, f"this server does not answer to the name {host_name(host)!r}; add it to the allowed hosts"
        if scope["method"] in _SAFE_METHODS:
            return None
        # A page of another origin can't send Authorization either, and a session's cookie does not count beside it.
        if headers.get(CHANGE_HEADER) != "1" and "authorization" not in headers:
            return 403, f"a request that changes something needs the header '{CHANGE_HEADER}: 1'"
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return 415, "a request that changes something needs a JSON body with Content-Type: application/json"
        if not same_origin(headers.get("origin"), host, scope.get("scheme", "http")):
            return 403, f"a page of {headers.get('origin')!r} may not change anything here"
        return None
