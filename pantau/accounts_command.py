"""``pantau accounts …``: accounts, roles, passwords and tokens from the command line, also before the first login."""

from __future__ import annotations

import argparse
import contextlib
import getpass
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pantau.startup import StartupError

if TYPE_CHECKING:
    from web.accounts import Accounts

ROLES = ("viewer", "operator", "technician", "administrator")
SCOPES = ("read", "alarms", "devices", "accounts")

Command = Callable[[argparse.Namespace], int]
Add = Callable[[str, Command, str, str], argparse.ArgumentParser]
Option = Callable[[argparse.ArgumentParser], None]


def add_accounts_command(add: Add, config: Option, as_json: Option) -> None:
    """Add the command and its actions to the parser of the command line."""
    sub = add(
        "accounts",
        run_accounts,
        "accounts, roles, passwords and API tokens",
        "pantau accounts create siti --role operator --name 'Siti Rahayu'",
    )
    actions = sub.add_subparsers(title="actions", required=True, metavar="ACTION", dest="action")

    def action(name: str, text: str) -> argparse.ArgumentParser:
        parser = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        config(parser)
        as_json(parser)
        return parser

    def login(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("login", help="name of the account")

    def password(parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--password-env",
            metavar="VARIABLE",
            help="take the password from this environment variable (default: a temporary one is made and printed)",
        )

    action("list", "list the accounts")
    create = action("create", "make an account")
    login(create)
    create.add_argument("--role", choices=ROLES, required=True)
    create.add_argument("--name", default="", help="full name, shown beside what the person does")
    password(create)
    role = action("role", "give an account another role")
    login(role)
    role.add_argument("role", choices=ROLES)
    login(action("disable", "disable an account: it is logged out, and its tokens stop working"))
    login(action("enable", "enable an account again"))
    reset = action("reset-password", "give an account a new password; it is logged out everywhere")
    login(reset)
    password(reset)
    action("tokens", "list the tokens")
    token = action("create-token", "make a token for a program that acts for an account; it is shown once")
    login(token)
    token.add_argument("--label", required=True, help="what it is for")
    token.add_argument(
        "--scope",
        dest="scopes",
        choices=SCOPES,
        action="append",
        help="what it may do; several are several --scope (default: read)",
    )
    token.add_argument("--days", type=float, default=90.0, help="how long it works (default 90)")
    revoke = action("revoke-token", "end a token for good")
    revoke.add_argument("id", type=int, help="number of the token, from: pantau accounts tokens")
    log = action("log", "list logins and changes, the newest first")
    log.add_argument("--limit", type=int, default=20, help="so many (default 20)")


def run_accounts(chosen: argparse.Namespace) -> int:
    """Do one action; returns the exit code. Raises StartupError, ConfigurationError or AccountsError."""
    with _accounts(chosen.config) as accounts:
        told, text = _ACTIONS[chosen.action](accounts, chosen, f"console:{getpass.getuser()}"[:64])
    print(json.dumps(told, indent=2) if chosen.json else text)
    return 0


@contextlib.contextmanager
def _accounts(config: Path | None) -> Iterator[Accounts]:
    from pantau.settings import load
    from web.accounts import Accounts

    data = load(config).data
    data.folder.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(Accounts(data.accounts)) as accounts:
        yield accounts


Told = tuple[dict[str, Any], str]


def _list(accounts: Accounts, chosen: argparse.Namespace, by: str) -> Told:
    from web.accounts_api import account_json

    rows = [account_json(a) for a in accounts.accounts()]
    lines = [
        f"{r['login']:<20} {r['role']:<14} {r['name']:<24} last login {r['last_login_at'] or 'never'}"
        + (" (disabled)" if r["disabled_at"] else "")
        + (" (temporary password)" if r["must_change_password"] else "")
        for r in rows
    ]
    return {"accounts": rows}, "\n".join(lines) or "there are no accounts yet"


def _create(accounts: Accounts, chosen: argparse.Namespace, by: str) -> Told:
    from web.access import Role

    password = _password(chosen)
    temporary = accounts.create(chosen.login, Role(chosen.role), name=chosen.name, by=by, password=password)
    return _with_password({"login": chosen.login, "role": chosen.role}, temporary, f"made {chosen.login}")


def _role(accounts: Accounts, chosen: argparse.Namespace, by: str) -> Told:
    from web.access import Role

    accounts.change(chosen.login, role=Role(chosen.role), by=by)
    return {"login": chosen.login, "role": chosen.role}, f"{chosen.login} is {chosen.role} now"


def _disable(accounts: Accounts, chosen: argparse.Namespace, by: str) -> Told:
    disabled = chosen.action == "disable"
    accounts.change(chosen.login, disabled=disabled, by=by)
    return {"login": chosen.login, "disabled": disabled}, f"{chosen.login} is {chosen.action}d"


def _reset(accounts: Accounts, chosen: argparse.Namespace, by: str) -> Told:
    temporary = accounts.reset_password(chosen.login, by=by, password=_password(chosen))
    return _with_password({"login": chosen.login}, temporary, f"{chosen.login} has a new password")


def _tokens(accounts: Accounts, chosen: argparse.Namespace, by: str) -> Told:
    from web.accounts_api import token_json

    rows = [token_json(t) for t in accounts.tokens()]
    lines = [
        f"{r['id']:>4} {r['account']:<20} {r['label']:<24} {' '.join(r['scopes']):<24} "
        + (f"revoked {r['revoked_at']}" if r["revoked_at"] else f"until {r['expires_at']}")
        for r in rows
    ]
    return {"tokens": rows}, "\n".join(lines) or "there are no tokens yet"


def _create_token(accounts: Accounts, chosen: argparse.Namespace, by: str) -> Told:
    from web.access import Right
    from web.accounts_api import token_json

    scopes = [Right(s) for s in chosen.scopes or ["read"]]
    token, secret = accounts.create_token(chosen.login, chosen.label, scopes, days=chosen.days, by=by)
    told = token_json(token) | {"token": secret}
    return told, f"token {token.id}, shown only now: {secret}\nit works until {told['expires_at']}"


def _revoke(accounts: Accounts, chosen: argparse.Namespace, by: str) -> Told:
    accounts.revoke_token(chosen.id, by=by)
    return {"id": chosen.id, "revoked": True}, f"token {chosen.id} is revoked"


def _log(accounts: Accounts, chosen: argparse.Namespace, by: str) -> Told:
    from web.accounts_api import log_json

    rows = [log_json(e) for e in accounts.log(max(1, chosen.limit))]
    lines = [
        f"{r['at']} {r['event']:<16} {r['account'] or '(unknown account)':<20} by {r['by'] or '-':<20} "
        f"{r['address']} {r['detail']}".rstrip()
        for r in rows
    ]
    return {"log": rows}, "\n".join(lines) or "nothing has happened yet"


_ACTIONS: dict[str, Callable[[Accounts, argparse.Namespace, str], Told]] = {
    "list": _list,
    "create": _create,
    "role": _role,
    "disable": _disable,
    "enable": _disable,
    "reset-password": _reset,
    "tokens": _tokens,
    "create-token": _create_token,
    "revoke-token": _revoke,
    "log": _log,
}


def _password(chosen: argparse.Namespace) -> str | None:
    """The password in the environment variable that was named; None: make a temporary one."""
    if chosen.password_env is None:
        return None
    found = os.environ.get(chosen.password_env)
    if not found:
        raise StartupError(f"--password-env names the environment variable {chosen.password_env}, which is not set")
    return found


def _with_password(told: dict[str, Any], temporary: str | None, text: str) -> Told:
    if temporary is None:
        return told, text
    return told | {"temporary_password": temporary}, (
        f"{text}\ntemporary password, shown only now: {temporary}\nit must be changed at the first login"
    )
