"""All pages and routes in one application: the operator's, and those of accounts."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import FastAPI

from dashboards.operator.api import STATIC_FILES, TEXTS, add_operator_page
from dashboards.operator.live import LiveCity
from pantau import __version__
from web.access import OpenHouse
from web.accounts_api import add_accounts
from web.app import create_app
from web.login import KnownAccounts, add_login
from web.throttle import Throttle


def pages(
    live: LiveCity,
    known: KnownAccounts | None,
    *,
    allowed_hosts: Iterable[str] = (),
    throttle: Throttle | None = None,
) -> FastAPI:
    """The complete application.

    Parameters
    ----------
    known
        Accounts; None: no login, everybody on this computer may look, acknowledge, and change devices.
    """
    app = create_app(
        title="Pantau",
        version=__version__,
        identify=known or OpenHouse(),
        allowed_hosts=allowed_hosts,
        files={"operator": STATIC_FILES},
        texts=[TEXTS],
    )
    add_operator_page(app, live, version=__version__)
    if known is not None:
        add_login(app, known, throttle=throttle)
        add_accounts(app, known.accounts)
    return app
