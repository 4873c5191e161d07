"""Takes the pictures of the operator's page for docs/images: a simulated Bandung in the evening's great storm.

``python -m tests.dashboards.operator.operator_pictures``
"""

from __future__ import annotations

from pathlib import Path

from dashboards.operator.api import operator_app
from telemetry.observations import NS_PER_S
from tests.dashboards.operator.operator_preview import Preview
from tests.dashboards.operator.test_operator_page import open_page
from tests.real_parts.chromium import chromium
from web.access import OpenHouse
from web.server import serve

ROOT = Path(__file__).parents[3]
PICTURES = (
    ("operator-dark", {"viewport": {"width": 1920, "height": 1080}, "color_scheme": "dark", "locale": "id-ID"}, False),
    ("operator-site", {"viewport": {"width": 1920, "height": 1080}, "color_scheme": "light", "locale": "en-GB"}, True),
    ("operator-phone", {"viewport": {"width": 390, "height": 844}, "color_scheme": "light", "locale": "id-ID"}, False),
)


def main() -> None:
    """Write the pictures."""
    preview = Preview()
    silent = frozenset(d.id for d in preview.directory.devices[5::63])
    preview.advance(67 * 60 * NS_PER_S, silent)
    preview.report(41.0)
    # The oldest of the alarms that stand has been seen to.
    standing = [a for a in preview.live.alarms() if a["severity"] and a["domain"] != "device"]
    preview.live.acknowledge(str(standing[0]["id"]), "Siti", "polantas di lokasi")
    preview.advance(30 * NS_PER_S, silent)
    server = serve(operator_app(preview.live, version="pictures", identify=OpenHouse()), "127.0.0.1", 0)
    try:
        with chromium() as browser:
            for name, options, with_site in PICTURES:
                preview.advance(NS_PER_S, silent)
                context, page, _ = open_page(browser, server.url, **options)
                page.wait_for_timeout(1000)
                if with_site:
                    page.locator(".alarm .site").first.click()
                    page.wait_for_timeout(1500)
                page.screenshot(path=ROOT / "docs" / "images" / f"{name}.png")
                context.close()
    finally:
        server.stop()


if __name__ == "__main__":
    main()
