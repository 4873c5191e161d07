"""Routes of the administrator: accounts, tokens, and the log of logins."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Path, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from web.access import Right, Role, Visitor, requires
from web.accounts import TOKEN_DAYS_MOST, Account, Accounts, LogEntry, Token
from web.errors import (
    AccountConflictError,
    AccountsError,
    AccountsUnavailableError,
    InvalidAccountError,
    UnknownAccountError,
)

Administrator = Annotated[Visitor, requires("administrator")]
Login = Annotated[str, Path(max_length=64, description="Login name of an account.")]

_STATUS: dict[type[AccountsError], int] = {
    InvalidAccountError: 422,
    UnknownAccountError: 404,
    AccountConflictError: 409,
    AccountsUnavailableError: 503,
}
MISTAKES: dict[int | str, dict[str, str]] = {
    404: {"description": "There is no such account or token"},
    409: {"description": "It exists already, or it is the last administrator"},
}


class NewAccount(BaseModel):
    """An account to be made."""

    login: str = Field(max_length=64)
    name: str = Field(default="", max_length=100)
    role: Role


class AccountChange(BaseModel):
    """What to change; what is not given stays."""

    name: str | None = Field(default=None, max_length=100)
    role: Role | None = None
    disabled: bool | None = None


class NewToken(BaseModel):
    """A token to be made."""

    account: str = Field(description="The account for which it acts.", max_length=64)
    label: str = Field(description="What it is for.", max_length=100)
    scopes: list[Right] = Field(min_length=1, max_length=len(Right))
    days: float = Field(default=90, gt=0, le=TOKEN_DAYS_MOST, description="How long it works.")


def add_accounts(app: FastAPI, accounts: Accounts) -> None:
    """Add the administrator's routes, and plain answers to what can go wrong with accounts."""
    app.include_router(account_routes(accounts))

    @app.exception_handler(AccountsError)
    async def refused(_: Request, error: AccountsError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, status_code=_STATUS.get(type(error), 500))


def account_routes(accounts: Accounts) -> APIRouter:
    """The routes under ``/api/accounts`` and ``/api/tokens``."""
    api = APIRouter(prefix="/api", tags=["accounts"])

    @api.get("/accounts", summary="All accounts", dependencies=[requires("administrator")])
    def all_accounts() -> dict[str, Any]:
        """By login name. `last_login_at` and `disabled_at` may be null."""
        return {"accounts": [account_json(a) for a in accounts.accounts()]}

    @api.post("/accounts", summary="Make an account", status_code=201, responses=MISTAKES)
    def create(order: NewAccount, by: Administrator) -> dict[str, Any]:
        """Answers with a temporary password, once: the person must change it at the first login."""
        login = order.login.strip().lower()
        password = accounts.create(login, order.role, name=order.name, by=by.account)
        return {"login": login, "password": password}

    @api.patch("/accounts/{login}", summary="Change or disable an account", status_code=204, responses=MISTAKES)
    def change(login: Login, order: AccountChange, by: Administrator) -> Response:
        """Disabling ends its sessions, and its tokens stop working. 409: it is the last administrator."""
        accounts.change(login, name=order.name, role=order.role, disabled=order.disabled, by=by.account)
        return Response(status_code=204)

    @api.post("/accounts/{login}/password", summary="Give a temporary password", responses=MISTAKES)
    def reset(login: Login, by: Administrator) -> dict[str, Any]:
        """Answers with it, once. All sessions of the account end."""
        return {"login": login, "password": accounts.reset_password(login, by=by.account)}

    @api.get("/accounts/log", summary="Logins and changes of accounts", dependencies=[requires("administrator")])
    def log(limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> dict[str, Any]:
        """The newest first."""
        return {"log": [log_json(e) for e in accounts.log(limit)]}

    @api.get("/tokens", summary="All tokens, without their secrets", dependencies=[requires("administrator")])
    def tokens() -> dict[str, Any]:
        """The newest first, those that are revoked or have expired too."""
        return {"tokens": [token_json(t) for t in accounts.tokens()]}

    @api.post("/tokens", summary="Make a token", status_code=201, responses=MISTAKES)
    def create_token(order: NewToken, by: Administrator) -> dict[str, Any]:
        """Answers with the token itself, once. It never may more than its account may at that time."""
        login = order.account.strip().lower()
        token, secret = accounts.create_token(login, order.label, order.scopes, days=order.days, by=by.account)
        return token_json(token) | {"token": secret}

    @api.delete("/tokens/{ident}", summary="Revoke a token", status_code=204, responses=MISTAKES)
    def revoke(ident: Annotated[int, Path(ge=1, lt=2**31)], by: Administrator) -> Response:
        """It stops working at once, for good."""
        accounts.revoke_token(ident, by=by.account)
        return Response(status_code=204)

    return api


def account_json(account: Account) -> dict[str, Any]:
    """An account as the API and the command line tell it."""
    return {
        "login": account.login,
        "name": account.name,
        "role": account.role.value,
        "must_change_password": account.must_change_password,
        "created_at": time_text(account.created_at),
        "disabled_at": time_text(account.disabled_at),
        "last_login_at": time_text(account.last_login_at),
    }


def token_json(token: Token) -> dict[str, Any]:
    """A token as the API and the command line tell it."""
    return {
        "id": token.id,
        "account": token.account,
        "label": token.label,
        "scopes": [s.value for s in token.scopes],
        "created_at": time_text(token.created_at),
        "expires_at": time_text(token.expires_at),
        "revoked_at": time_text(token.revoked_at),
        "used_at": time_text(token.used_at),
    }


def log_json(entry: LogEntry) -> dict[str, Any]:
    """A line of the log as the API and the command line tell it."""
    return {
        "at": time_text(entry.at),
        "event": entry.event.value,
        "account": entry.account,
        "by": entry.by,
        "address": entry.address,
        "detail": entry.detail,
    }


def time_text(ns: int | None) -> str | None:
    """RFC 3339 in UTC, to the second; None for none.

    Examples
    --------
    >>> time_text(1_700_000_000_999_999_999), time_text(None)
    ('2023-11-14T22:13:20Z', None)
    """
    if ns is None:
        return None
    return datetime.fromtimestamp(ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
