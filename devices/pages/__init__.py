"""The technician's phone page: its files and texts, and how it hangs in the application.

The page is at ``/devices``. It works without a network: a service worker keeps its files on the phone, and what is to
be changed waits there. All data goes through ``devices.api``.
"""

from __future__ import annotations

import json
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, Response

from web.access import requires
from web.app import page
from web.assets import SHELL_FILES

HERE = Path(__file__).parent
STATIC_FILES = HERE / "static"
TEXTS = HERE / "languages"
STYLES = ("web/vendor/leaflet/leaflet.css", "devices/page.css")


def add_device_pages(app: FastAPI) -> None:
    """Hang the page into an application that serves ``STATIC_FILES`` as "devices" and holds the texts in ``TEXTS``."""
    base = app.state.assets.base
    worker = (STATIC_FILES / "worker.js").read_text(encoding="utf-8")
    worker = worker.replace("VERSION", app.state.assets.version).replace("FILES", json.dumps(_files(base)))

    @app.get("/devices", include_in_schema=False, dependencies=[requires("viewer")])
    def device_page() -> HTMLResponse:
        return page(app, title=f"{app.title} – alat", module="devices/main.js", styles=STYLES, theme="light")

    @app.get("/devices/worker.js", include_in_schema=False, dependencies=[requires("public")])
    def device_worker() -> Response:
        return Response(
            worker,
            media_type="text/javascript",
            headers={"Cache-Control": "no-cache", "Service-Worker-Allowed": "/devices"},
        )


def _files(base: str) -> list[str]:
    """What the page needs, so that it opens without a network."""
    own = [f"devices/{p.name}" for p in sorted(STATIC_FILES.glob("*")) if p.name != "worker.js"]
    shared = [f"web/{p.name}" for p in sorted(SHELL_FILES.glob("*")) if p.suffix in (".js", ".css", ".svg")]
    vendor = ["web/vendor/htm/preact.js", "web/vendor/leaflet/leaflet.js", "web/vendor/leaflet/leaflet.css"]
    return [f"{base}/{name}" for name in (*own, *shared, *vendor)]
