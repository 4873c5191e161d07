"""HTTP routes of the dead letters, and the page that shows them.

Looking needs the right to read; having letters taken again is for technicians, since it changes what is stored.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, FastAPI, HTTPException, Query
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, Field

from dashboards.letters.words import TEXTS, reason_text
from dashboards.operator.api import parse_time
from ingest.dead_letters import DeadLetters, Filter, Kept, Reason
from telemetry.observations import rfc3339
from web.access import Visitor, requires
from web.app import page

STATIC_FILES = Path(__file__).parent / "static"
SHOWN_BYTES = 20_000
ReasonQuery = Annotated[Reason | None, Query()]
NameQuery = Annotated[str | None, Query(max_length=500)]
TimeQuery = Annotated[str | None, Query(max_length=100, description="RFC 3339 with zone, or Unix time.")]
_CONTROL = frozenset(range(32)) - {9, 10, 13}

__all__ = ["STATIC_FILES", "TEXTS", "add_letters", "letter_dict"]


class RetryOrder(BaseModel):
    """Which letters are to be taken again: one by its id, or all that fit everything that is given."""

    id: int | None = Field(default=None, ge=1, le=2**62)
    reason: Reason | None = None
    device: str | None = Field(default=None, max_length=500)
    broker: str | None = Field(default=None, max_length=500)
    everything: bool = Field(default=False, description="All of them; needed where nothing else is given.")


def add_letters(app: FastAPI, letters: DeadLetters) -> None:
    """Hang page and routes into an application that serves ``STATIC_FILES`` as "letters" and holds ``TEXTS``."""
    app.include_router(letter_routes(letters))

    @app.get("/dead-letters", include_in_schema=False, dependencies=[requires("viewer")])
    def letter_page() -> HTMLResponse:
        return page(
            app,
            title=f"{app.title} – ditolak",
            module="letters/main.js",
            styles=("web/account.css", "letters/page.css"),
        )


def letter_routes(letters: DeadLetters) -> APIRouter:
    """The routes under ``/api/dead-letters``."""
    api = APIRouter(prefix="/api/dead-letters", tags=["dead letters"])

    @api.get("", summary="Messages and readings that were refused, newest first", dependencies=[requires("viewer")])
    def the_letters(
        reason: ReasonQuery = None,
        device: NameQuery = None,
        broker: NameQuery = None,
        since: TimeQuery = None,
        until: TimeQuery = None,
        before: Annotated[int | None, Query(ge=0, le=2**62, description="`next` of the page before.")] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    ) -> Response:
        """`text`: the payload, if it is text; `hex`: if not. `again`: whether it can be taken again."""
        only = _only(reason, device, broker, since, until)
        found = letters.list(limit, only, before=before)
        return _json(
            {
                "dead_letters": [letter_dict(k) for k in found],
                "next": found[-1].id if len(found) == limit else None,
            }
        )

    @api.get("/counts", summary="How many are kept, by reason and device", dependencies=[requires("viewer")])
    def counts(
        reason: ReasonQuery = None,
        device: NameQuery = None,
        broker: NameQuery = None,
        since: TimeQuery = None,
        until: TimeQuery = None,
    ) -> Response:
        """`refused` and `taken_again`: since ever, by reason. `kept`: those that are still here.

        Of the kept ones, `marked` wait to be taken again, and `again` can be marked so.
        """
        return _json(counts_dict(letters, _only(reason, device, broker, since, until)))

    @api.get("/{letter}", summary="One of them", dependencies=[requires("viewer")])
    def the_letter(letter: int) -> Response:
        """404: it is gone: taken again, or removed to make room."""
        found = letters.get(letter) if abs(letter) < 2**62 else None
        if found is None:
            raise HTTPException(404, f"there is no dead letter {letter}: it may have been taken again or removed")
        return _json(letter_dict(found))

    @api.post("/retry", summary="Have letters taken again", status_code=202)
    def retry(order: RetryOrder, _: Annotated[Visitor, requires("technician")]) -> Response:
        """202: `marked` so many; the pipeline takes them within seconds. What is refused again stays."""
        only = Filter(order.reason, _clean(order.device), _clean(order.broker))
        if order.id is None and only == Filter() and not order.everything:
            raise HTTPException(422, "say which: id, reason, device, broker, or everything")
        return _json({"marked": letters.mark(only, letter=order.id)}, 202)

    return api


def counts_dict(letters: DeadLetters, only: Filter) -> dict[str, Any]:
    """Counts as the API and the command line tell them."""
    fill = letters.fill()
    return {
        "refused": letters.count_by_reason(),
        "taken_again": letters.retaken_by_reason(),
        "kept": [
            {"reason": reason, "device": device, "letters": n, "marked": marked, "again": free}
            for reason, device, n, marked, free in letters.standing(only)
        ],
        "room": {
            "letters": fill.kept,
            "bytes": fill.kept_bytes,
            "fraction": round(fill.fraction, 4),
            "removed": fill.removed,
            "expired": fill.expired,
            "marked": fill.marked,
            "oldest_at": None if fill.oldest_at is None else rfc3339(fill.oldest_at),
        },
    }


def letter_dict(kept: Kept) -> dict[str, Any]:
    """A letter as the API and the command line tell it."""
    letter = kept.letter
    shown = letter.payload[:SHOWN_BYTES]
    text = (
        shown.decode("utf-8", "replace" if len(shown) < len(letter.payload) else "strict") if _is_text(shown) else None
    )
    return {
        "id": kept.id,
        "received_at": None if letter.received_at is None else rfc3339(letter.received_at),
        "reason": str(letter.reason),
        "detail": letter.detail,
        "device": letter.device,
        "broker": letter.broker,
        "topic": letter.topic,
        "format": letter.format,
        "bytes": len(letter.payload),
        "text": text,
        "hex": None if text is not None else shown.hex(" "),
        "fragment": letter.fragment,
        "truncated": letter.truncated,
        "again": letter.again,
        "marked": kept.marked,
        "meaning": {language: reason_text(letter.reason, language)[0] for language in ("id", "en")},
        "to_do": {language: reason_text(letter.reason, language)[1] for language in ("id", "en")},
    }


def _is_text(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError as error:
        if error.start < len(payload) - 3 or len(payload) < SHOWN_BYTES:
            return False
    return not any(byte in _CONTROL for byte in payload)


def _only(
    reason: Reason | None, device: str | None, broker: str | None, since: str | None, until: str | None
) -> Filter:
    return Filter(reason, _clean(device), _clean(broker), _time("since", since), _time("until", until))


def _clean(text: str | None) -> str | None:
    return text.replace("\0", "\\0") if text is not None else None


def _time(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        at = parse_time(text)
    except ValueError as error:
        raise HTTPException(422, f"{name}: {error}") from None
    if not -(2**63) <= at < 2**63:
        raise HTTPException(422, f"{name}: must be within the years 1678 to 2261")
    return at


def _json(content: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")
