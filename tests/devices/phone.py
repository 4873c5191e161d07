"""A technician with a phone in front of the real thing: Mosquitto with its plugin, the pipeline, Chromium."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Locator, Page

from devices.credentials import Credentials
from devices.credentials.settings import CredentialsKind, CredentialsSettings
from devices.registry import Registry
from ingest.settings import BrokerSettings
from pantau.runtime import Pipeline
from pantau.settings import PageAccess, PageSettings
from telemetry.directory import Datastream, Device, Limits, Site
from tests.devices.broker_user import BrokerUser
from tests.devices.secured_broker import ADMINISTRATOR, PIPELINE, Secured, secured
from tests.pantau.running import running, settings_for

FAKE_CAMERA = "--use-fake-device-for-media-stream"
HERE = {"latitude": -6.8800, "longitude": 107.6100, "accuracy": 8}
BROKER_LOG = ("log_dest topic", "log_dest stderr", "log_type notice", "log_type warning", "log_type error")
SITES = (
    Site("dago", "Jembatan Dago", -6.8801, 107.6101, "Coblong"),
    Site("siliwangi", "Jalan Siliwangi", -6.8840, 107.6085, "Coblong"),
    Site("cihampelas", "Cihampelas", -6.8890, 107.6040, "Coblong"),
    Site("pasteur", "Gerbang Pasteur", -6.8935, 107.5880, "Sukajadi"),
)
DEVICES = (
    Device("AWLR-0100", "dago", "generic-river-level", 3600.0),
    Device("PM-17", "siliwangi", "generic-air-station", 1.0),
)


@dataclass
class City:
    """What runs."""

    pipeline: Pipeline
    secured: Secured

    @property
    def url(self) -> str:
        assert self.pipeline.page is not None
        return self.pipeline.page.url

    def device(self, credentials: Credentials | dict[str, str]) -> BrokerUser:
        """The device, with the login that the page showed."""
        c = (
            credentials
            if isinstance(credentials, dict)
            else {
                "username": credentials.username,
                "password": credentials.password,
                "client_id": credentials.client_id,
            }
        )
        return BrokerUser(self.secured.port, c["username"], c["password"], c["client_id"])


@contextlib.contextmanager
def city(folder: Path, *, access: PageAccess = PageAccess.OPEN, **page: Any) -> Iterator[City]:
    """A running city with four sites and two devices, whose broker lets nobody in without a login."""
    with secured("dynsec", BROKER_LOG) as site:
        settings = settings_for(folder, site.port)
        broker = BrokerSettings(
            "main", "127.0.0.1", site.port, username=PIPELINE.username, password=PIPELINE.password, backoff_max_s=1.0
        )
        settings = replace(
            settings,
            brokers=(broker,),
            page=PageSettings(port=0, access=access, **page),
            credentials=CredentialsSettings(
                CredentialsKind.DYNSEC,
                admin_username=ADMINISTRATOR.username,
                admin_password=ADMINISTRATOR.password,
            ),
        )
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(Registry(settings.data.registry)) as registry:
            registry.save(
                city="kota",
                utc_offset_h=7.0,
                sites=SITES,
                devices=DEVICES,
                datastreams=[
                    Datastream("dago/water_level_m", "dago", "AWLR-0100", "water_level_m", Limits(suspect_max=20.0)),
                    Datastream("siliwangi/pm2_5_ug_m3", "siliwangi", "PM-17", "pm2_5_ug_m3"),
                ],
            )
        with running(settings) as pipeline:
            yield City(pipeline, site)


@dataclass
class Phone:
    """A phone's browser that counts what the thumb does."""

    context: BrowserContext
    page: Page
    interactions: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def tap(self, what: Locator, name: str) -> None:
        """One interaction."""
        what.tap()
        self.interactions.append(f"tap {name}")

    def type(self, what: Locator, text: str, name: str) -> None:
        """Touching a field and typing into it: two interactions."""
        what.tap()
        what.fill(text)
        self.interactions += [f"tap {name}", f"type {text!r}"]

    def credentials(self) -> dict[str, str]:
        """What the page shows."""
        found = {}
        for key in ("username", "password", "topic", "client_id"):
            found[key] = self.page.locator(f'.credentials code[data-key="{key}"]').inner_text()
        return found


@contextlib.contextmanager
def phone(browser: Browser, url: str, *, path: str = "/devices", **options: Any) -> Iterator[Phone]:
    """A phone that opens the page."""
    context = browser.new_context(
        **(
            {
                "viewport": {"width": 390, "height": 844},
                "device_scale_factor": 2,
                "is_mobile": True,
                "has_touch": True,
                "locale": "id-ID",
                "geolocation": HERE,
                "permissions": ["geolocation"],
            }
            | options
        )
    )
    page = context.new_page()
    found = Phone(context, page)
    page.on(
        "console",
        lambda m: found.complaints.append(f"{m.type}: {m.text}") if m.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda e: found.complaints.append(f"error: {e}"))
    page.goto(url + path)
    try:
        yield found
    finally:
        context.close()


class Network:
    """The way from the phone to the server: a forwarder that can be cut."""

    def __init__(self, url: str) -> None:
        self._target = int(url.rpartition(":")[2])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._whole = True
        self.url = f"http://127.0.0.1:{self._port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """No network from now on."""
        self._whole = False
        for s in list(self._open):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """It is back."""
        self._whole = True

    def close(self) -> None:
        """For good."""
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if not self._whole:
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", self._target))
            for a, b in ((near, far), (far, near)):
                self._open.add(a)
                threading.Thread(target=self._pump, args=(a, b), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
        for s in (source, sink):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
        self._open.discard(source)
        source.close()


def big_png(width: int = 3000, height: int = 2000) -> bytes:
    """A picture as large as a camera's, with something in it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = b"\x00" + b"".join(bytes((x * 255 // width, 90, 160)) for x in range(width))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(row * height)) + chunk(b"IEND", b"")
    )


def jpeg_size(data: bytes) -> tuple[int, int]:
    """Width and height in a JPEG's frame header. [ITU-T T.81, B.2.2]"""
    at = 2
    while at < len(data):
        marker, length = data[at + 1], struct.unpack(">H", data[at + 2 : at + 4])[0]
        if marker in (0xC0, 0xC1, 0xC2):
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        at += 2 + length
    raise AssertionError("no frame header: this is no JPEG")


def reading(name: str = "water_level_m", value: float = 1.24, **more: Any) -> bytes:
    """A message of a device that works."""
    values = {name: value, "battery_v": 3.6, "rssi_dbm": -97}
    return json.dumps({"time": time.time(), "values": values} | more).encode()


def plain(text: str) -> str:
    """Text without the spaces that keep values and units together."""
    return re.sub(r"[\s\u202f\u00a0]+", " ", text)
