"""Run the application in a thread of its own, and stop it promptly even while streams are open."""

from __future__ import annotations

import errno
import socket
import ssl
import threading
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from web.access import declared_routes

STOP_WITHIN_S = 1.0
"""How long open answers may take to finish when the server stops."""


class ListenError(RuntimeError):
    """The address can't be listened on; the message is one sentence for the person who starts the program."""


class Server:
    """A running server."""

    def __init__(self, server: uvicorn.Server, listener: socket.socket, on_stop: Callable[[], None] | None) -> None:
        self._server = server
        self._listener = listener
        self._on_stop = on_stop
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)
        self.started = threading.Event()
        """Set once requests are answered."""
        host, port = listener.getsockname()[:2]
        self.port: int = port
        scheme = "https" if server.config.is_ssl else "http"
        self.url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"

    def start(self) -> None:
        """Begin to serve; returns when requests are answered. Raises RuntimeError if that fails."""
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise RuntimeError("the web server stopped while it started; its log says why")
            self._thread.join(0.01)
        self.started.set()

    def stop(self) -> None:
        """End open streams, answer what is under way, and stop within two seconds."""
        if self._on_stop is not None:
            self._on_stop()
        self._server.should_exit = True
        self._thread.join(STOP_WITHIN_S + 0.5)
        if self._thread.is_alive():
            self._server.force_exit = True
            self._thread.join(0.5)
        self._listener.close()

    @property
    def alive(self) -> bool:
        """Whether the thread still serves."""
        return self._thread.is_alive()

    def _run(self) -> None:
        self._server.run(sockets=[self._listener])


def serve(
    app: FastAPI,
    host: str,
    port: int,
    *,
    tls: tuple[str, str] | None = None,
    on_stop: Callable[[], None] | None = None,
) -> Server:
    """Start serving ``app`` and return once it answers.

    Parameters
    ----------
    host, port
        Where to listen; port 0 takes any free one (see ``Server.port``).
    tls
        Files of a certificate and its key (PEM), for https; None: http.
    on_stop
        Called first when the server is told to stop, to end open streams. Default: ``app.state.close_streams``
        if there is one.

    Raises
    ------
    ListenError
        The address is taken, not ours, or not permitted; or the certificate can't be used.
    UndeclaredRouteError
        A route does not declare who may use it.
    """
    declared_routes(app.routes)
    if tls is not None:
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(*tls)
        except (OSError, ssl.SSLError) as error:
            raise ListenError(f"cannot serve pages by https with {tls[0]} and {tls[1]}: {error}") from error
    listener = _listen(host, port)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=round(STOP_WITHIN_S),
        server_header=False,
        ws="none",
        ssl_certfile=None if tls is None else tls[0],
        ssl_keyfile=None if tls is None else tls[1],
    )
    server = Server(uvicorn.Server(config), listener, on_stop or getattr(app.state, "close_streams", None))
    server.start()
    return server


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            reason = "another program already listens there; stop it or choose another port"
        elif error.errno == errno.EACCES:
            reason = "this port needs administrator rights; choose one above 1023"
        elif error.errno == errno.EADDRNOTAVAIL:
            reason = "this machine has no such address"
        else:
            reason = str(error)
        raise ListenError(f"cannot serve pages at {host} port {port}: {reason}") from error
    return listener
