"""What a replay asks of the pipeline over HTTP: status, loss accounts, alarms."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from telemetry.observations import NS_PER_S

TOKEN_VARIABLE = "PANTAU_TOKEN"
"""Environment variable that holds an API token."""


class ReplayError(Exception):
    """A replay that cannot start or go on; the message is one sentence for the person who started it."""


class PipelinePage:
    """The HTTP API of a running pipeline.

    Parameters
    ----------
    url : str
        Such as ``http://127.0.0.1:8000``.
    timeout_s : float
        How long one answer may take.
    token : str
        An API token with the scope ``read``, where the page has accounts.
    """

    def __init__(self, url: str, timeout_s: float = 20.0, token: str = "") -> None:
        if not url.startswith(("http://", "https://")):
            raise ReplayError(f"the page's address must start with http:// or https://, got {url!r}")
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def status(self) -> dict[str, Any]:
        """``GET /api/status``: city, clock and counts since start."""
        found = self._get("/api/status")
        if found is None or not {"city", "clock", "counts"} <= found.keys():
            raise ReplayError(f"{self.url} is no page of a pipeline: it has no /api/status")
        return found

    def account(self, device: str) -> dict[str, Any]:
        """``GET /api/account``: what became of the readings of one device; all 0 if nothing is known of it."""
        found = self._get("/api/account", device=device)
        return found or {"device": device, "received": 0, "duplicate": 0, "late": 0, "refused": {}, "stored": 0}

    def alarms(self, start: str, end: str) -> list[dict[str, Any]]:
        """``GET /api/alarms``: alarms that stood at some time between two RFC 3339 times."""
        found = self._get("/api/alarms", **{"from": start, "to": end})
        if found is None:
            raise ReplayError(f"{self.url} has no /api/alarms")
        alarms: list[dict[str, Any]] = found["alarms"]
        return alarms

    def _get(self, path: str, **query: str) -> dict[str, Any] | None:
        url = self.url + path + ("?" + urlencode(query) if query else "")
        try:
            with urlopen(Request(url, headers=self._headers), timeout=self._timeout_s) as answer:
                found: dict[str, Any] = json.load(answer)
        except HTTPError as error:
            with error:
                if error.code == 404:
                    return None
                if error.code in (401, 403):
                    raise ReplayError(
                        f"{self.url} lets only accounts in: set {TOKEN_VARIABLE} to a token that may read "
                        "(pantau accounts create-token), or use --local"
                    ) from error
                raise ReplayError(f"{url} answers {error.code} {error.reason}") from error
        except (URLError, OSError) as error:
            raise ReplayError(f"cannot reach the pipeline's page {self.url}: {error}") from error
        except ValueError as error:
            raise ReplayError(f"{url} does not answer with JSON") from error
        if not isinstance(found, dict):
            raise ReplayError(f"{url} does not answer with a JSON object")
        return found


def clock_ns(text: str | None) -> int | None:
    """The time in RFC 3339 text [ns since 1970 UTC], to the microsecond; None for none."""
    if not text:
        return None
    moment = datetime.fromisoformat(text)
    return round(moment.replace(microsecond=0).timestamp()) * NS_PER_S + moment.microsecond * 1000
