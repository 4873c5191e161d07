"""Takes pictures of the technician's page: two for docs/images, and every state of it into a folder to look at.

``python -m tests.devices.phone_pictures [FOLDER]``
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser

from tests.devices.broker_user import BrokerUser
from tests.devices.phone import FAKE_CAMERA, City, Network, city, phone, reading
from tests.real_parts.chromium import chromium

IMAGES = Path(__file__).parents[2] / "docs" / "images"


def main() -> None:
    """Write the pictures."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory() as data, city(Path(data)) as found, chromium(FAKE_CAMERA) as browser:
        for language, locale, theme in (("id", "id-ID", "light"), ("en", "en-GB", "dark")):
            walk(browser, found, folder, language, locale, theme)


def walk(browser: Browser, found: City, folder: Path | None, language: str, locale: str, theme: str) -> None:
    """Everything that a technician sees, in one language and theme."""
    network = Network(found.url)
    with phone(browser, network.url, locale=locale) as p:
        page = p.page
        page.evaluate(f"localStorage.setItem('pantau.theme', '{theme}')")
        page.reload()
        number = iter(range(1, 100))

        def take(name: str, image: str = "", *, whole: bool = False) -> None:
            page.wait_for_timeout(400)
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
                page.screenshot(path=folder / f"{theme}-{next(number):02}-{name}.png", full_page=whole)
            if image and language == "id":
                page.screenshot(path=IMAGES / f"{image}.png")

        river = page.locator(".choice:has(input[value=generic-river-level])")
        places, save = page.locator(".tabs3 button"), page.locator(".save .big")
        page.wait_for_selector(".choice")
        take("empty")
        serial = "AWLR-0231" if language == "id" else "AWLR-0232"
        page.locator("#serial").fill(serial)
        river.tap()
        page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
        take("filled", "technician-install")
        places.nth(1).tap()
        take("new-site", whole=True)
        page.locator(".over-map").tap()
        take("pin")
        page.locator(".cover-do .main").tap()
        places.nth(2).tap()
        save.tap()
        take("missing")
        places.nth(0).tap()
        page.locator('.choice:has-text("Jembatan Dago")').tap()
        save.tap()
        page.wait_for_selector(".credentials")
        take("waiting")
        login = p.credentials()
        page.wait_for_timeout(2000)
        BrokerUser(found.secured.port, login["username"], "wrong", login["client_id"]).close()
        page.wait_for_timeout(1500)
        take("refused")
        with found.device(login) as device:

            def send(name: str, payload: bytes, image: str = "") -> None:
                device.publish(login["topic"], payload)
                page.wait_for_timeout(2000)
                take(name, image)

            send("format", b'{"time": ')
            send("clock", reading(time=time.time() + 7 * 3600))
            send("first", reading(), "technician-live")
            send("range", reading(value=99.0))
        page.locator(".credentials .tabs3 button").first.tap()
        take("snippet", whole=True)
        tabs = page.locator("nav.tabs a")
        tabs.nth(1).tap()
        page.wait_for_timeout(1500)
        take("jobs")
        page.locator(".job .main").first.tap()
        take("close")
        page.locator(".sheet .big").nth(1).tap()
        tabs.nth(2).tap()
        take("find")
        page.locator("input[type=search]").fill("dago")
        take("search")
        tabs.nth(0).tap()
        lost(network, take, page.locator("#serial"), river, save, serial)
        page.wait_for_selector(".job.sent", timeout=20_000)
        take("sent")
    network.close()


def lost(network: Network, take: Callable[..., None], field: object, river: object, save: object, serial: str) -> None:
    """A device is registered without a network."""
    field.fill(f"{serial}-B")  # type: ignore[attr-defined]
    river.tap()  # type: ignore[attr-defined]
    network.cut()
    save.tap()  # type: ignore[attr-defined]
    take("kept")
    network.mend()


if __name__ == "__main__":
    main()
