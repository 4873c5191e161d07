"""Takes pictures of the pages of accounts, to be looked at: ``python -m tests.web.account_pictures FOLDER``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.real_parts.chromium import chromium
from tests.web.people import PASSWORD
from tests.web.test_login_page import DESK, PHONE, build, log_in
from web.access import Right


def main(folder: Path) -> None:
    """Write the pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as first,
        tempfile.TemporaryDirectory() as second,
        chromium() as browser,
    ):
        empty, house = build(Path(first), roles=False), build(Path(second), roles=True)
        house.accounts.change("technician", name="Budi Santoso", by="administrator")
        house.accounts.change("viewer", disabled=True, by="administrator")
        house.accounts.create_token("operator", "layar dinding", [Right.READ], days=90, by="administrator")
        for device, options in (("phone", PHONE), ("desk", DESK)):
            for scheme in ("light", "dark"):
                shown = {"locale": "id-ID" if scheme == "light" else "en-GB", "color_scheme": scheme, **options}
                page = browser.new_context(**shown).new_page()
                page.goto(f"{empty.server.url}/setup")
                page.wait_for_selector("form")
                page.screenshot(path=folder / f"setup-{device}-{scheme}.png", full_page=True)
                page = browser.new_context(**shown).new_page()
                page.goto(f"{house.server.url}/accounts")
                page.wait_for_selector("form")
                log_in(page, "administrator", "wrong")
                page.wait_for_selector(".alert")
                page.screenshot(path=folder / f"login-{device}-{scheme}.png", full_page=True)
                log_in(page, "administrator", PASSWORD)
                page.wait_for_selector(".log")
                page.screenshot(path=folder / f"accounts-{device}-{scheme}.png", full_page=True)
                page.locator('[data-account="technician"] button').first.click()
                page.screenshot(path=folder / f"sure-{device}-{scheme}.png")
                page.locator("dialog .main").click()
                page.wait_for_selector("dialog .secret")
                page.screenshot(path=folder / f"secret-{device}-{scheme}.png")
                page.goto(f"{house.server.url}/account")
                page.wait_for_selector("form")
                page.screenshot(path=folder / f"account-{device}-{scheme}.png", full_page=True)
                page.goto(f"{house.server.url}/")
                page.wait_for_selector(".strip")
                page.screenshot(path=folder / f"operator-{device}-{scheme}.png")
        for made in (empty, house):
            made.server.stop()
            made.accounts.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
