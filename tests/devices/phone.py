"""A technician with a phone in front of the real thing: Mosquitto with its plugin, the pipeline, Chromium."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Locator, Page

from devices.credentials import Credentials
from devices.credentials.settings import CredentialsKind, CredentialsSettings
from ingest.settings import BrokerSettings
from pantau.runtime import Pipeline
from pantau.settings import PageAccess, PageSettings
from telemetry.directory import Datastream, Device, Limits, Site
from tests.devices.broker_user import BrokerUser
from tests.devices.secured_broker import ADMINISTRATOR, PIPELINE, Secured, secured
from tests.pantau.running import running, settings_for

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
HERE = {"latitude": -6.8800, "longitude": 107.6100, "accuracy": 8}
BROKER_LOG = ("log_dest topic", "log_dest stderr", "log_type notice", "log_type warning", "log_type error")
SITES = (
    Site("dago", "Jembatan Dago", -6.8801, 107.6101, "Coblong"),
    Site("siliwangi", "Jalan Siliwangi", -6.8840, 107.6085, "Coblong"),
    Site("cihampelas", "Cihampelas", -6.8890, 107.6040, "Coblong"),
    Site("pasteur", "Gerbang Pasteur", -6.8935, 107.5880, "Sukajadi"),
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
        from devices.registry import Registry

        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(Registry(settings.data.registry)) as registry:
            registry.save(
                city="kota",
                utc_offset_h=7.0,
                sites=SITES,
                devices=[Device("AWLR-0100", "dago", "generic-river-level", 3600.0)]
                + [Device("PM-17", "siliwangi", "generic-air-station", 1.0)],
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


def reading(name: str = "water_level_m", value: float = 1.24, **more: Any) -> bytes:
    """A message of a device that works."""
    values = {name: value, "battery_v": 3.6, "rssi_dbm": -97}
    return json.dumps({"time": time.time(), "values": values} | more).encode()


def plain(text: str) -> str:
    """Text without the spaces that keep values and units together."""
    return re.sub(r"[\s\u202f\u00a0]+", " ", text)
