"""HTTP routes of the operator's page, for the page itself and for other programs."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from fastapi import APIRouter, FastAPI, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, Field

from dashboards.operator.live import LiveCity, RefusedError, SourceError, UnknownError
from dashboards.operator.stream import Hub
from telemetry.observations import NS_PER_S, Observations, rfc3339
from telemetry.quality import FAIL, GOOD, MISSING, SUSPECT
from telemetry.results import Windows
from web.access import Identify, Visitor, requires
from web.app import create_app, page

HERE = Path(__file__).parent
STATIC_FILES = HERE / "static"
TEXTS = HERE / "languages"
DEFAULT_SPAN_S = 6 * 3600
MAX_POINTS = 5000


class AcknowledgeOrder(BaseModel):
    """An operator takes note of an alarm."""

    id: str = Field(description='The alarm\'s name: "<kind>:<subject id>:<raised_at ns>".', max_length=500)
    by: str = Field(
        default="",
        description="Who; where there are accounts, the account's name is taken.",
        max_length=100,
    )
    comment: str = Field(default="", max_length=1000)


def parse_time(text: str) -> int:
    """A time in a query: RFC 3339 with zone, or Unix seconds, milliseconds, microseconds or nanoseconds by its size.

    Returns [ns since 1970 UTC]. Raises ValueError with a plain sentence.

    Examples
    --------
    >>> parse_time("2023-11-14T22:13:20Z"), parse_time("1700000000"), parse_time("1700000000000")
    (1700000000000000000, 1700000000000000000, 1700000000000000000)
    """
    text = text.strip()
    if re.fullmatch(r"-?\d{1,19}", text):
        number = int(text)
        for limit, factor in ((10**11, NS_PER_S), (10**14, 10**6), (10**17, 10**3)):
            if abs(number) < limit:
                return number * factor
        return number
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError(f"a time must be RFC 3339 with zone, such as 2026-01-31T20:00:00Z, got {text!r}")
    whole = int(moment.replace(microsecond=0).timestamp())
    return whole * NS_PER_S + moment.microsecond * 1000


def operator_app(
    city: LiveCity,
    *,
    version: str,
    identify: Identify | None = None,
    allowed_hosts: Iterable[str] = (),
    title: str = "Pantau",
) -> FastAPI:
    """An application with the operator's page alone. Whoever has more pages joins them by ``create_app`` himself."""
    app = create_app(
        title=title,
        version=version,
        identify=identify,
        allowed_hosts=allowed_hosts,
        files={"operator": STATIC_FILES},
        texts=[TEXTS],
    )
    add_operator_page(app, city, version=version)
    return app


def add_operator_page(app: FastAPI, city: LiveCity, *, version: str, path: str = "/") -> None:
    """Hang the operator's page at ``path`` and its API under ``/api`` into an application of ``web.app.create_app``.

    The application must serve ``STATIC_FILES`` as "operator" and hold the catalogues in ``TEXTS``.
    """
    hub = Hub(city, app.state.assets.version)
    app.state.close_streams = hub.close
    app.include_router(operator_routes(city, hub, version))

    @app.exception_handler(SourceError)
    async def unavailable(_: Request, error: SourceError) -> JSONResponse:
        logging.getLogger(__name__).warning("%s", error, exc_info=error.__cause__)
        return JSONResponse({"detail": str(error)}, status_code=503)

    @app.get(path, include_in_schema=False, dependencies=[requires("viewer")])
    def operator_page() -> HTMLResponse:
        return page(
            app,
            title=f"{app.title} – operator",
            module="operator/main.js",
            styles=("web/vendor/leaflet/leaflet.css", "web/vendor/uplot/uPlot.min.css", "operator/page.css"),
        )


def operator_routes(city: LiveCity, hub: Hub, version: str) -> APIRouter:
    """The routes under ``/api``."""
    api = APIRouter(prefix="/api", tags=["operator"])

    @api.get("/status", summary="Health of the pipeline", dependencies=[requires("viewer")])
    def status() -> Response:
        """Counts since the pipeline started, the clock, brokers, the store, and how many alarms are open."""
        return _json(city.status(version) | {"pages": hub.pages})

    @api.get("/city", summary="What the city consists of", dependencies=[requires("viewer")])
    def the_city() -> Response:
        """Sites, devices, datastreams with thresholds, properties with labels in both languages, and the base map."""
        return Response(city.city_json(), media_type="application/json")

    @api.get("/live", summary="Server-sent events: state, then delta and beat", dependencies=[requires("viewer")])
    def live() -> StreamingResponse:
        """`state`: all open alarms and newest readings. `delta`: what changed, at most 4 a second. `beat`: each 2 s.

        In `readings`, `stream` is the position in `/api/city`'s `datastreams`.
        """
        return StreamingResponse(hub.stream(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})

    @api.get("/series", summary="Readings of a datastream", dependencies=[requires("viewer")])
    def series(
        datastream: str,
        start: Annotated[str | None, Query(alias="from", description="Default: six hours before `to`.")] = None,
        end: Annotated[str | None, Query(alias="to", description="Default: now, by the pipeline's clock.")] = None,
        points: Annotated[int, Query(ge=10, le=MAX_POINTS)] = 800,
    ) -> Response:
        """Readings in [from, to) as columns; beyond `points`, aggregates with minimum and maximum instead.

        Times are Unix milliseconds. `flag`: 1 good, 2 unknown, 3 suspect, 4 fail, 9 missing.
        """
        end_ns = city.now_ns() + 1 if end is None else _time("to", end)
        start_ns = end_ns - DEFAULT_SPAN_S * NS_PER_S if start is None else _time("from", start)
        _ordered(start_ns, end_ns)
        try:
            found = city.series(datastream, start_ns, end_ns, points)
        except UnknownError as error:
            raise HTTPException(404, str(error)) from None
        return _json(
            {"datastream": datastream, "from": rfc3339(start_ns), "to": rfc3339(end_ns)} | series_columns(found, points)
        )

    @api.get("/account", summary="Loss account of a device", dependencies=[requires("viewer")])
    def account(device: str) -> Response:
        """What became of its readings, since ever and by hours: `received` = `duplicate` + `stored` + `waiting`.

        `late` is a part of `stored`; `refused` (by reason) was not even received. `missing`: expected, but never come;
        null where nothing says how many are expected. `unaccounted` is 0, or there is a fault.
        """
        try:
            found = city.account(device)
        except UnknownError as error:
            raise HTTPException(404, str(error)) from None
        if found is None:
            raise HTTPException(404, "this server keeps no loss account")
        return _json(asdict(found))

    @api.get("/alarms", summary="Alarms with all their transitions", dependencies=[requires("viewer")])
    def alarms(
        start: Annotated[str | None, Query(alias="from", description="RFC 3339 with zone")] = None,
        end: Annotated[str | None, Query(alias="to", description="RFC 3339 with zone")] = None,
    ) -> Response:
        """Without a span: the open ones. With `from` and/or `to`: all that stood at some time in it.

        `severity`: 0 none, 1 waspada, 2 siaga, 3 awas. `cleared_at`: when the condition ended. `state`: normal,
        unacknowledged, acknowledged, returned_unacknowledged.
        """
        start_ns = None if start is None else _time("from", start)
        end_ns = None if end is None else _time("to", end)
        if start_ns is not None and end_ns is not None:
            _ordered(start_ns, end_ns)
        return _json({"alarms": city.alarms(start_ns, end_ns)})

    @api.post("/alarms/acknowledge", summary="Take note of an alarm")
    def acknowledge(order: AcknowledgeOrder, visitor: Annotated[Visitor, requires("operator")]) -> Response:
        """200: the pipeline has it; the alarm's state follows in the live stream.

        404: no such open alarm. 409: acknowledged already.
        """
        by = visitor.name or order.by.strip()
        if not by:
            raise HTTPException(422, "by: who acknowledges? There are no accounts here, so a name must be given")
        try:
            city.acknowledge(order.id, by, order.comment.strip())
        except UnknownError as error:
            raise HTTPException(404, str(error)) from None
        except RefusedError as error:
            raise HTTPException(409, str(error)) from None
        return _json({"id": order.id, "by": by, "comment": order.comment.strip()})

    return api


def series_columns(found: Observations | Windows, max_points: int) -> dict[str, Any]:
    """A series as the API tells it; readings beyond ``max_points`` are joined to spans of equal length."""
    if isinstance(found, Windows):
        order = np.argsort(found.start, kind="stable")
        found = found.take(order)
        width_s = int(found.width_s[0]) if len(found) else 0
        return {
            "kind": "windows",
            "width_s": width_s,
            "time_ms": (found.start // 1_000_000 + width_s * 500).tolist(),
            "value": found.mean.tolist(),
            "minimum": found.minimum.tolist(),
            "maximum": found.maximum.tolist(),
            "flag": np.where(found.good_count == found.count, GOOD, SUSPECT).tolist(),
        }
    found = found.take(np.argsort(found.observed_at, kind="stable"))
    if len(found) > max_points:
        return _joined(found, max_points)
    return {
        "kind": "readings",
        "width_s": 0,
        "time_ms": (found.observed_at // 1_000_000).tolist(),
        "value": found.value.tolist(),
        "flag": found.flag.tolist(),
    }


def _joined(found: Observations, max_points: int) -> dict[str, Any]:
    """Mean, minimum and maximum of the usable readings of each span; the worst flag that occurs in it."""
    first, last = int(found.observed_at[0]), int(found.observed_at[-1])
    width = (last - first) // max_points + 1
    span = (found.observed_at - first) // width
    starts = np.flatnonzero(np.append(True, span[1:] != span[:-1]))
    usable = (found.flag != FAIL) & (found.flag != MISSING) & np.isfinite(found.value)
    count = np.add.reduceat(usable.astype(np.int64), starts)
    none = count == 0
    total = np.add.reduceat(np.where(usable, found.value, 0.0), starts)
    low = np.minimum.reduceat(np.where(usable, found.value, np.inf), starts)
    high = np.maximum.reduceat(np.where(usable, found.value, -np.inf), starts)
    worst = np.maximum.reduceat(np.where(found.flag == MISSING, 0, found.flag), starts)
    return {
        "kind": "windows",
        "width_s": width / NS_PER_S,
        "time_ms": ((first + span[starts] * width + width // 2) // 1_000_000).tolist(),
        "value": np.where(none, np.nan, total / np.maximum(count, 1)).tolist(),
        "minimum": np.where(none, np.nan, low).tolist(),
        "maximum": np.where(none, np.nan, high).tolist(),
        "flag": np.where(worst == 0, MISSING, worst).tolist(),
    }


def _json(content: object) -> Response:
    return Response(msgspec.json.encode(content), media_type="application/json")


def _time(name: str, text: str) -> int:
    try:
        return parse_time(text)
    except ValueError as error:
        raise HTTPException(422, f"{name}: {error}") from None


def _ordered(start_ns: int, end_ns: int) -> None:
    if start_ns >= end_ns:
        raise HTTPException(422, f"from ({rfc3339(start_ns)}) must be before to ({rfc3339(end_ns)})")
