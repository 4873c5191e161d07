"""All pages and routes in one application: the operator's, the technician's, and those of accounts."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import FastAPI

from dashboards.letters.api import STATIC_FILES as LETTER_FILES
from dashboards.letters.api import TEXTS as LETTER_TEXTS
from dashboards.letters.api import add_letters
from dashboards.operator.api import STATIC_FILES, TEXTS, add_operator_page
from dashboards.operator.live import LiveCity
from devices.api import add_device_api
from devices.fleet import Fleet
from devices.pages import STATIC_FILES as DEVICE_FILES
from devices.pages import TEXTS as DEVICE_TEXTS
from devices.pages import add_device_pages
from ingest.dead_letters import DeadLetters
from pantau import __version__
from web.access import OpenHouse
from web.accounts_api import add_accounts
from web.app import create_app
from web.login import KnownAccounts, add_login
from web.throttle import Throttle


def pages(
    live: LiveCity,
    known: KnownAccounts | None,
    fleet: Fleet,
    *,
    letters: DeadLetters | None = None,
    allowed_hosts: Iterable[str] = (),
    throttle: Throttle | None = None,
) -> FastAPI:
    """The complete application.

    Parameters
    ----------
    known
        Accounts; None: no login, everybody on this computer may look, acknowledge, and change devices.
    fleet
        The register, and what the technician's page needs besides.
    letters
        Dead letters; None: there is no page of them.
    """
    app = create_app(
        title="Pantau",
        version=__version__,
        identify=known or OpenHouse(),
        allowed_hosts=allowed_hosts,
        files={"operator": STATIC_FILES, "devices": DEVICE_FILES, "letters": LETTER_FILES},
        texts=[TEXTS, DEVICE_TEXTS, LETTER_TEXTS],
    )
    add_operator_page(app, live, version=__version__)
    add_device_api(app, fleet)
    add_device_pages(app)
    if letters is not None:
        add_letters(app, letters)
    if known is not None:
        add_login(app, known, throttle=throttle)
        add_accounts(app, known.accounts)
    return app
