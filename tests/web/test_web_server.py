"""The server thread: starts, says why it can't, and stops promptly with open streams."""

import asyncio
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi.responses import StreamingResponse

from web.access import requires
from web.app import create_app
from web.server import ListenError, serve


def test_serves_and_stops() -> None:
    server = serve(create_app(title="Pantau", version="1"), "127.0.0.1", 0)
    assert server.started.is_set()
    assert httpx.get(f"{server.url}/health").status_code == 200
    server.stop()
    assert not server.alive
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url)


def test_serves_by_https(tmp_path: Path) -> None:
    certificate, key = tmp_path / "page.crt", tmp_path / "page.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-days", "2", "-subj", "/CN=pantau.test", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    server = serve(create_app(title="Pantau", version="1"), "127.0.0.1", 0, tls=(str(certificate), str(key)))
    try:
        assert server.url == f"https://127.0.0.1:{server.port}"
        context = ssl.create_default_context(cafile=certificate)
        assert httpx.get(f"{server.url}/health", verify=context).status_code == 200
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(f"{server.url}/health")
    finally:
        server.stop()


def test_a_certificate_that_cannot_be_used_is_said_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "page.crt").write_text("none")
    files = (str(tmp_path / "page.crt"), str(tmp_path / "page.key"))
    with pytest.raises(ListenError, match=r"^cannot serve pages by https with .*page\.crt and .*page\.key: "):
        serve(create_app(title="Pantau", version="1"), "127.0.0.1", 0, tls=files)


def test_a_taken_port_is_said_in_one_sentence() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ListenError, match=rf"^cannot serve pages at 127.0.0.1 port {port}: another program"):
            serve(create_app(title="Pantau", version="1"), "127.0.0.1", port)


def test_an_address_of_another_machine_is_said_in_one_sentence() -> None:
    with pytest.raises(ListenError, match="this machine has no such address"):
        serve(create_app(title="Pantau", version="1"), "192.0.2.1", 0)  # TEST-NET-1 (RFC 5737): nobody's


def test_stops_within_two_seconds_although_a_stream_never_ends() -> None:
    app = create_app(title="Pantau", version="1")

    @app.get("/endless", dependencies=[requires("public")])
    def endless() -> StreamingResponse:
        async def forever() -> AsyncIterator[bytes]:
            while True:
                yield b"x"
                await asyncio.sleep(0.05)

        return StreamingResponse(forever())

    server = serve(app, "127.0.0.1", 0)
    reading = threading.Event()

    def read() -> None:
        try:
            with httpx.stream("GET", f"{server.url}/endless") as answer:
                for _ in answer.iter_raw():
                    reading.set()
        except httpx.HTTPError:
            pass

    reader = threading.Thread(target=read)
    reader.start()
    assert reading.wait(5)
    began = time.monotonic()
    server.stop()
    took = time.monotonic() - began
    reader.join(5)
    assert took < 2.0 and not server.alive and not reader.is_alive()
