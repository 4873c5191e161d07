"""The application that all pages hang on: safeguards, languages, assets, plain errors, and the API's own page."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware

from web.access import Gate, Identify, NobodyKnown, describe, requires
from web.assets import SHELL_FILES, Assets
from web.guard import Guard
from web.languages import LANGUAGES, SHELL_TEXTS, load_catalogues


def create_app(
    *,
    title: str,
    version: str,
    identify: Identify | None = None,
    allowed_hosts: Iterable[str] = (),
    files: Mapping[str, Path] | None = None,
    texts: Iterable[Path] = (),
) -> FastAPI:
    """Make the application; rooms then add their routes with ``app.include_router``.

    Parameters
    ----------
    title, version
        Name of the product and its version, as the API's description shows them.
    identify
        Who a visitor is (``web.access.OpenHouse``, ``web.login.KnownAccounts``). None: nobody is known, and only routes
        declared public answer.
    allowed_hosts
        Names under which browsers reach the server. Literal addresses and ``localhost`` always work.
    files
        Room name → folder of static files, served at ``app.state.assets.base + "/<room>/…"``.
    texts
        Folders of language catalogues (``id.json``, ``en.json``), joined and served at ``/languages/<language>``.

    Raises
    ------
    ValueError
        The catalogues do not match each other.
    """
    app = FastAPI(title=title, version=version, docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    assets = Assets.of({"web": SHELL_FILES, **(files or {})})
    catalogues = {k: json.dumps(v, ensure_ascii=False) for k, v in load_catalogues([SHELL_TEXTS, *texts]).items()}
    identify = identify or NobodyKnown()
    app.state.assets, app.state.identify = assets, identify
    app.add_middleware(GZipMiddleware, minimum_size=1000, compresslevel=5)
    app.add_middleware(Gate, routes=lambda: app.routes, identify=identify)
    app.add_middleware(Guard, allowed_hosts=allowed_hosts)

    @app.get("/static/{version}/{room}/{path:path}", include_in_schema=False, dependencies=[requires("public")])
    def static(version: str, room: str, path: str, request: Request) -> Response:
        return assets.serve(version, room, path, request)

    @app.get("/languages/{language}", include_in_schema=False, dependencies=[requires("public")])
    def language(language: str) -> Response:
        if language not in catalogues:
            raise HTTPException(404, f"there is no language {language!r}; there are {', '.join(LANGUAGES)}")
        return Response(catalogues[language], media_type="application/json", headers={"Cache-Control": "no-cache"})

    @app.get("/openapi.json", include_in_schema=False, dependencies=[requires("viewer")])
    def openapi() -> JSONResponse:
        return JSONResponse(app.openapi())

    @app.get("/health", include_in_schema=False, dependencies=[requires("public")])
    def health() -> dict[str, str]:
        return {"program": title, "health": "ok"}

    @app.get("/api/session", tags=["accounts"], summary="Who you are here", dependencies=[requires("public")])
    def session(request: Request) -> JSONResponse:
        """`access`: "accounts", or "open" where there are none. `setup`: the first account has yet to be made.

        `rights`: read, alarms, devices, accounts. `csrf`: what a change carries in `X-CSRF-Token`.
        """
        return JSONResponse(describe(identify(request.scope)) | {"setup": identify.needs_setup()})

    @app.get("/docs", include_in_schema=False, dependencies=[requires("viewer")])
    def docs() -> HTMLResponse:
        return page(app, title=f"{title}: API", module="web/docs.js")

    @app.get("/favicon.ico", include_in_schema=False, dependencies=[requires("public")])
    def favicon(request: Request) -> Response:
        return assets.serve("", "web", "icon.svg", request)

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"detail": error.detail}, status_code=error.status_code, headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def unreadable(_: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"detail": "; ".join(_sentence(dict(e)) for e in error.errors())}, status_code=422)

    return app


def page(
    app: FastAPI, *, title: str, module: str, styles: Iterable[str] = (), theme: Literal["", "light", "dark"] = ""
) -> HTMLResponse:
    """The HTML of one page: the shared style, its own styles, and the module that draws it.

    ``module`` and ``styles`` are files of rooms, such as ``operator/main.js``. ``theme``: which one a visitor gets who
    has chosen none; empty: that of his system.
    """
    assets: Assets = app.state.assets
    preset = f' data-preset="{theme}"' if theme else ""
    links = "".join(f'<link rel="stylesheet" href="{assets.base}/{s}">\n' for s in ("web/shell.css", *styles))
    return HTMLResponse(
        f"""<!doctype html>
<html lang="id"{preset}>
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{html.escape(title)}</title>
<link rel="icon" type="image/svg+xml" href="{assets.base}/web/icon.svg">
{links}<script src="{assets.base}/web/theme.js"></script>
<script type="module" src="{assets.base}/{module}"></script>
</head>
<body>
<noscript>Halaman ini memerlukan JavaScript. This page needs JavaScript.</noscript>
<div id="page"></div>
</body>
</html>
""",
        headers={"Cache-Control": "no-cache"},
    )


def _sentence(error: dict[str, object]) -> str:
    place = error.get("loc")
    name = ".".join(str(p) for p in place if p not in ("query", "body", "path")) if isinstance(place, tuple) else ""
    given = error.get("input")
    got = "" if error.get("type") == "missing" or isinstance(given, dict) else f", got {given!r}"
    return f"{name or 'body'}: {str(error.get('msg', 'not valid'))[:1].lower()}{str(error.get('msg', ''))[1:]}{got}"
