"""Accounts, their sessions and tokens, and the log of what happened with them, in a database.

Who may use which route is decided in ``web.access``; how often somebody may try a password, in ``web.throttle``.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from web.access import NOBODY, How, Right, Role, Visitor
from web.accounts_model import SCHEMA_VERSION, AccountRow, LogRow, SchemaRow, SessionRow, Table, TokenRow
from web.database import Database
from web.errors import AccountConflictError, AccountsIncompatibleError, InvalidAccountError, UnknownAccountError
from web.passwords import Passwords, check_new_password, temporary_password

NS_PER_S = 1_000_000_000
NS_PER_DAY = 86_400 * NS_PER_S
SESSION_IDLE_NS = 7 * NS_PER_DAY
"""A session ends when it has not been used for so long; an open page uses it."""
SESSION_LONGEST_NS = 30 * NS_PER_DAY
SESSION_NOTED_NS = 300 * NS_PER_S
"""That a session or token was used is written at most this often."""
TOKEN_DAYS_MOST = 730
KNOWN_ADDRESS_NS = 30 * NS_PER_DAY
LOG_KEPT_NS = 400 * NS_PER_DAY
TOKEN_PREFIX = "pantau_"
"""So that scanners for leaked secrets, and people, see what it is."""

_LOGIN = re.compile(r"[a-z0-9][a-z0-9._@-]{1,63}")


class Event(StrEnum):
    """What the log tells."""

    LOGIN = "login"
    LOGIN_FAILED = "login_failed"
    LOGOUT = "logout"
    SETUP = "setup"
    CREATED = "created"
    CHANGED = "changed"
    PASSWORD_CHANGED = "password_changed"
    PASSWORD_RESET = "password_reset"
    TOKEN_CREATED = "token_created"
    TOKEN_REVOKED = "token_revoked"


@dataclass(frozen=True)
class Account:
    """A person, or a program that needs tokens. Times in ns since 1970 UTC."""

    login: str
    name: str
    role: Role
    must_change_password: bool
    created_at: int
    disabled_at: int | None
    last_login_at: int | None


@dataclass(frozen=True)
class Token:
    """A token of a program, without the secret. Times in ns since 1970 UTC."""

    id: int
    account: str
    label: str
    scopes: tuple[Right, ...]
    created_at: int
    expires_at: int
    revoked_at: int | None
    used_at: int | None


@dataclass(frozen=True)
class LogEntry:
    """One line of the log. ``at`` in ns since 1970 UTC."""

    at: int
    event: Event
    account: str
    by: str
    address: str
    detail: str


class Accounts:
    """All accounts of one Pantau.

    Parameters
    ----------
    url
        SQLAlchemy URL: SQLite or PostgreSQL.
    clock
        The present. [ns since 1970 UTC]
    passwords
        How passwords are hashed.

    Raises
    ------
    AccountsUnavailableError, AccountsIncompatibleError
        The database can't be used.
    """

    def __init__(
        self, url: str, *, clock: Callable[[], int] = time.time_ns, passwords: Passwords | None = None
    ) -> None:
        self._clock = clock
        self._passwords = passwords or Passwords()
        self._database = Database(url)
        try:
            self._create()
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    def _create(self) -> None:
        with self._database.creating() as connection:
            Table.metadata.create_all(connection)
            version = connection.execute(select(SchemaRow.schema_version)).scalar()
            if version is None:
                connection.execute(insert(SchemaRow).values(id=1, schema_version=SCHEMA_VERSION))
            elif version != SCHEMA_VERSION:
                raise AccountsIncompatibleError(
                    f"the accounts in {self._database.where} have schema version {version}; "
                    f"this Pantau works with {SCHEMA_VERSION}"
                )
            now = self._clock()
            connection.execute(delete(LogRow).where(LogRow.at < now - LOG_KEPT_NS))
            connection.execute(delete(SessionRow).where(SessionRow.created_at < now - SESSION_LONGEST_NS))

    # ----------------------------------------------------------------------------------------------------- accounts

    def empty(self) -> bool:
        """Whether there is no account yet."""
        with self._database.reading() as connection:
            return connection.execute(select(AccountRow.id).limit(1)).first() is None

    def accounts(self) -> tuple[Account, ...]:
        """All accounts, by login name."""
        last = (
            select(LogRow.account, func.max(LogRow.at).label("at"))
            .where(LogRow.event == Event.LOGIN.value)
            .group_by(LogRow.account)
            .subquery()
        )
        query = (
            select(AccountRow.__table__, last.c.at)
            .outerjoin(last, last.c.account == AccountRow.login)
            .order_by(AccountRow.login)
        )
        with self._database.reading() as connection:
            return tuple(
                Account(r.login, r.name, Role(r.role), r.must_change, r.created_at, r.disabled_at, r.at)
                for r in connection.execute(query)
            )

    def create_first(self, login: str, password: str, *, name: str = "", address: str = "") -> None:
        """Make the first account, an administrator. Raises AccountConflictError if there is one already."""
        self._insert(login, Role.ADMINISTRATOR, name, password, False, by=login, address=address, first=True)

    def create(self, login: str, role: Role, *, name: str = "", by: str, password: str | None = None) -> str | None:
        """Make an account.

        Returns
        -------
        str or None
            A temporary password, to be told to the person once; None if ``password`` was given.

        Raises
        ------
        InvalidAccountError, AccountConflictError
        """
        temporary = None if password is not None else temporary_password()
        self._insert(login, role, name, password or temporary or "", temporary is not None, by=by)
        return temporary

    def _insert(
        self,
        login: str,
        role: Role,
        name: str,
        password: str,
        temporary: bool,
        *,
        by: str,
        address: str = "",
        first: bool = False,
    ) -> None:
        check_login(login)
        name = _checked_name(name)
        check_new_password(password, login)
        encoded = self._passwords.hash(password)
        now = self._clock()
        with self._database.writing(SchemaRow.__table__) as connection:
            if first and connection.execute(select(AccountRow.id).limit(1)).first() is not None:
                raise AccountConflictError("there are accounts already: log in")
            if _account(connection, login) is not None:
                raise AccountConflictError(f"there is an account {login!r} already")
            connection.execute(
                insert(AccountRow).values(
                    login=login,
                    name=name,
                    role=role.value,
                    password=encoded,
                    must_change=temporary,
                    created_at=now,
                    disabled_at=None,
                )
            )
            _note(connection, now, Event.SETUP if first else Event.CREATED, login, by, address, role.value)

    def change(
        self, login: str, *, name: str | None = None, role: Role | None = None, disabled: bool | None = None, by: str
    ) -> None:
        """Change what is given. Disabling ends all sessions, and tokens stop working while it lasts.

        Raises
        ------
        UnknownAccountError, InvalidAccountError
        AccountConflictError
            It is the last administrator who is not disabled.
        """
        now = self._clock()
        with self._database.writing(SchemaRow.__table__) as connection:
            row = _known(connection, login)
            values: dict[str, object] = {}
            if name is not None and _checked_name(name) != row.name:
                values["name"] = _checked_name(name)
            if role is not None and role.value != row.role:
                values["role"] = role.value
            if disabled is not None and disabled != (row.disabled_at is not None):
                values["disabled_at"] = now if disabled else None
            if not values:
                return
            loses = values.get("role", row.role) != Role.ADMINISTRATOR.value or values.get("disabled_at") is not None
            if row.role == Role.ADMINISTRATOR.value and row.disabled_at is None and loses:
                others = connection.execute(
                    select(AccountRow.id)
                    .where(AccountRow.role == Role.ADMINISTRATOR.value, AccountRow.disabled_at.is_(None))
                    .where(AccountRow.id != row.id)
                    .limit(1)
                ).first()
                if others is None:
                    raise AccountConflictError(f"{login!r} is the last administrator: make another one first")
            connection.execute(update(AccountRow).where(AccountRow.id == row.id).values(values))
            if values.get("disabled_at") is not None:
                connection.execute(delete(SessionRow).where(SessionRow.account == row.id))
            detail = ", ".join(
                ("enabled" if value is None else "disabled") if key == "disabled_at" else f"{key}: {value}"
                for key, value in sorted(values.items())
            )
            _note(connection, now, Event.CHANGED, login, by, "", detail)

    def reset_password(self, login: str, *, by: str, password: str | None = None) -> str | None:
        """Give an account a new password, temporary unless ``password`` is given; all its sessions end."""
        temporary = None if password is not None else temporary_password()
        chosen = password if password is not None else temporary or ""
        check_new_password(chosen, login)
        encoded, now = self._passwords.hash(chosen), self._clock()
        with self._database.writing() as connection:
            row = _known(connection, login)
            self._set_password(connection, row.id, encoded, temporary=temporary is not None)
            _note(connection, now, Event.PASSWORD_RESET, login, by)
        return temporary

    def change_password(self, login: str, old: str, new: str, *, address: str = "") -> str | None:
        """Change one's own password: all sessions end, and a new one begins.

        Returns
        -------
        str or None
            What stands in the new session's cookie; None: the old password is wrong.

        Raises
        ------
        InvalidAccountError
            The new password won't do.
        """
        row = self._right(login, old)
        if row is None:
            return None
        check_new_password(new, login)
        if old == new:
            raise InvalidAccountError("password: it must be another one than before")
        encoded, now = self._passwords.hash(new), self._clock()
        with self._database.writing() as connection:
            if not _unchanged(connection, row):
                return None
            self._set_password(connection, row.id, encoded, temporary=False)
            _note(connection, now, Event.PASSWORD_CHANGED, login, login, address)
            return _begin_session(connection, row.id, now)

    @staticmethod
    def _set_password(connection: Connection, account: int, encoded: str, *, temporary: bool) -> None:
        connection.execute(
            update(AccountRow).where(AccountRow.id == account).values(password=encoded, must_change=temporary)
        )
        connection.execute(delete(SessionRow).where(SessionRow.account == account))

    # ----------------------------------------------------------------------------------------------------- sessions

    def log_in(self, login: str, password: str, *, address: str = "", ends: str = "") -> str | None:
        """Begin a session, never one that somebody else chose: the session ``ends`` that came along ends.

        Returns
        -------
        str or None
            What stands in the cookie; None: name or password is wrong, or the account is disabled. It takes as long.
        """
        row = self._right(login, password)
        now = self._clock()
        encoded = self._passwords.hash(password) if row is not None and self._passwords.outdated(row.password) else None
        with self._database.writing() as connection:
            if ends:
                connection.execute(delete(SessionRow).where(SessionRow.token_hash == _hash(ends)))
            if row is None or not _unchanged(connection, row):
                # Not the name as it was typed: now and then that is a password.
                known = login if _LOGIN.fullmatch(login) and _account(connection, login) is not None else ""
                _note(connection, now, Event.LOGIN_FAILED, known, "", address)
                return None
            if encoded is not None:
                connection.execute(update(AccountRow).where(AccountRow.id == row.id).values(password=encoded))
            _note(connection, now, Event.LOGIN, login, login, address)
            return _begin_session(connection, row.id, now)

    def _right(self, login: str, password: str) -> Row[tuple[AccountRow]] | None:
        row = None
        if _LOGIN.fullmatch(login):
            with self._database.reading() as connection:
                row = _account(connection, login)
        right = self._passwords.check(None if row is None else row.password, password)
        return row if right and row is not None and row.disabled_at is None else None

    def knows_address(self, login: str, address: str) -> bool:
        """Whether this account has logged in from an address in the last 30 days."""
        query = (
            select(LogRow.id)
            .where(LogRow.account == login, LogRow.event == Event.LOGIN.value, LogRow.address == address)
            .where(LogRow.at >= self._clock() - KNOWN_ADDRESS_NS)
            .limit(1)
        )
        with self._database.reading() as connection:
            return connection.execute(query).first() is not None

    def log_out(self, session: str, *, address: str = "") -> None:
        """End a session."""
        with self._database.writing() as connection:
            login = connection.execute(
                select(AccountRow.login)
                .join(SessionRow, SessionRow.account == AccountRow.id)
                .where(SessionRow.token_hash == _hash(session))
            ).scalar()
            connection.execute(delete(SessionRow).where(SessionRow.token_hash == _hash(session)))
            if login is not None:
                _note(connection, self._clock(), Event.LOGOUT, login, login, address)

    def session_visitor(self, session: str) -> Visitor:
        """Who stands behind a session's cookie; ``NOBODY`` if it has ended."""
        now = self._clock()
        query = (
            select(AccountRow.__table__, SessionRow.created_at.label("begun_at"), SessionRow.used_at)
            .join(SessionRow, SessionRow.account == AccountRow.id)
            .where(SessionRow.token_hash == _hash(session))
        )
        with self._database.reading() as connection:
            row = connection.execute(query).first()
        if row is None or row.disabled_at is not None:
            return NOBODY
        if now - row.used_at >= SESSION_IDLE_NS or now - row.begun_at >= SESSION_LONGEST_NS:
            return NOBODY
        if now - row.used_at >= SESSION_NOTED_NS:
            with self._database.writing() as connection:
                connection.execute(
                    update(SessionRow).where(SessionRow.token_hash == _hash(session)).values(used_at=now)
                )
        role = Role(row.role)
        rights = frozenset[Right]() if row.must_change else role.rights
        return Visitor(
            How.SESSION, row.login, row.name or row.login, role, rights, csrf_of(session), bool(row.must_change)
        )

    # ------------------------------------------------------------------------------------------------------- tokens

    def create_token(
        self, login: str, label: str, scopes: Iterable[Right], *, days: float, by: str
    ) -> tuple[Token, str]:
        """Make a token for a program that acts for an account.

        Returns
        -------
        (Token, str)
            What is kept, and the token itself, to be shown once.

        Raises
        ------
        UnknownAccountError
        InvalidAccountError
            No label, no scope, a scope that the account itself lacks, or an expiry beyond ``TOKEN_DAYS_MOST`` days.
        """
        label, wanted = label.strip(), tuple(sorted(set(scopes)))
        if not 0 < len(label) <= 100 or not label.isprintable():
            raise InvalidAccountError(f"label: 1 to 100 characters that say what the token is for, got {label[:200]!r}")
        if not wanted:
            raise InvalidAccountError(f"scopes: at least one of {', '.join(Right)}")
        if not 0 < days <= TOKEN_DAYS_MOST:
            raise InvalidAccountError(f"days: more than 0, at most {TOKEN_DAYS_MOST}, got {days:g}")
        now, secret = self._clock(), TOKEN_PREFIX + secrets.token_urlsafe(32)
        expires = now + round(days * NS_PER_DAY)
        with self._database.writing() as connection:
            row = _known(connection, login)
            beyond = [s for s in wanted if s not in Role(row.role).rights]
            if beyond:
                raise InvalidAccountError(f"scopes: {login!r} ({row.role}) has no right {beyond[0].value!r} itself")
            values = {
                "token_hash": _hash(secret),
                "account": row.id,
                "label": label,
                "scopes": " ".join(wanted),
                "created_at": now,
                "expires_at": expires,
                "revoked_at": None,
                "used_at": None,
            }
            done = connection.execute(insert(TokenRow).values(values).returning(TokenRow.id))
            ident: int = done.scalar_one()
            _note(connection, now, Event.TOKEN_CREATED, login, by, "", f"{ident}: {label} ({' '.join(wanted)})")
        return Token(ident, login, label, wanted, now, expires, None, None), secret

    def revoke_token(self, ident: int, *, by: str) -> None:
        """End a token for good. Raises UnknownAccountError."""
        now = self._clock()
        with self._database.writing() as connection:
            row = connection.execute(
                select(TokenRow.label, TokenRow.revoked_at, AccountRow.login)
                .join(AccountRow, AccountRow.id == TokenRow.account)
                .where(TokenRow.id == ident)
            ).first()
            if row is None:
                raise UnknownAccountError(f"there is no token {ident}")
            if row.revoked_at is None:
                connection.execute(update(TokenRow).where(TokenRow.id == ident).values(revoked_at=now))
                _note(connection, now, Event.TOKEN_REVOKED, row.login, by, "", f"{ident}: {row.label}")

    def tokens(self) -> tuple[Token, ...]:
        """All tokens, the newest first."""
        query = (
            select(TokenRow.__table__, AccountRow.login)
            .join(AccountRow, AccountRow.id == TokenRow.account)
            .order_by(TokenRow.id.desc())
        )
        with self._database.reading() as connection:
            return tuple(
                Token(
                    r.id,
                    r.login,
                    r.label,
                    tuple(Right(s) for s in r.scopes.split()),
                    r.created_at,
                    r.expires_at,
                    r.revoked_at,
                    r.used_at,
                )
                for r in connection.execute(query)
            )

    def token_visitor(self, secret: str) -> Visitor:
        """Who stands behind a token: never more than its account may now. ``NOBODY`` if it has ended."""
        now = self._clock()
        query = (
            select(TokenRow.__table__, AccountRow.login, AccountRow.name, AccountRow.role, AccountRow.disabled_at)
            .join(AccountRow, AccountRow.id == TokenRow.account)
            .where(TokenRow.token_hash == _hash(secret))
        )
        with self._database.reading() as connection:
            row = connection.execute(query).first()
        if row is None or row.revoked_at is not None or row.disabled_at is not None or now >= row.expires_at:
            return NOBODY
        if row.used_at is None or now - row.used_at >= SESSION_NOTED_NS:
            with self._database.writing() as connection:
                connection.execute(update(TokenRow).where(TokenRow.id == row.id).values(used_at=now))
        role = Role(row.role)
        rights = role.rights & {Right(s) for s in row.scopes.split()}
        return Visitor(How.TOKEN, row.login, f"{row.name or row.login} ({row.label})", role, rights)

    # ---------------------------------------------------------------------------------------------------------- log

    def log(self, limit: int = 100) -> tuple[LogEntry, ...]:
        """The newest entries, the newest first."""
        query = select(LogRow.__table__).order_by(LogRow.id.desc()).limit(limit)
        with self._database.reading() as connection:
            return tuple(
                LogEntry(r.at, Event(r.event), r.account, r.by, r.address, r.detail) for r in connection.execute(query)
            )


def check_login(login: str) -> None:
    """Refuse what can't be a login name. Raises InvalidAccountError."""
    if not _LOGIN.fullmatch(login):
        raise InvalidAccountError(
            f"login: 2 to 64 of a-z, 0-9, dot, dash, underscore and @, beginning with a letter or digit, got {login!r}"
        )


def csrf_of(session: str) -> str:
    """What a session's changes carry: only who holds the session, or was told by the server, can know it."""
    return hmac.new(session.encode(), b"pantau csrf", hashlib.sha256).hexdigest()


def _checked_name(name: str) -> str:
    name = " ".join(name.split())
    if len(name) > 100 or not name.isprintable():
        raise InvalidAccountError(f"name: at most 100 printable characters, got {name[:200]!r}")
    return name


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def _account(connection: Connection, login: str) -> Row[tuple[AccountRow]] | None:
    return connection.execute(select(AccountRow.__table__).where(AccountRow.login == login)).first()


def _known(connection: Connection, login: str) -> Row[tuple[AccountRow]]:
    row = _account(connection, login)
    if row is None:
        raise UnknownAccountError(f"there is no account {login!r}")
    return row


def _unchanged(connection: Connection, row: Row[tuple[AccountRow]]) -> bool:
    """Whether the account is still as it was when its password was checked, which takes a while."""
    now = _account(connection, row.login)
    return now is not None and now.password == row.password and now.disabled_at is None


def _begin_session(connection: Connection, account: int, now: int) -> str:
    session = secrets.token_urlsafe(32)
    connection.execute(
        insert(SessionRow).values(token_hash=_hash(session), account=account, created_at=now, used_at=now)
    )
    return session


def _note(
    connection: Connection, at: int, event: Event, account: str, by: str, address: str = "", detail: str = ""
) -> None:
    connection.execute(
        insert(LogRow).values(
            at=at, event=event.value, account=account, by=by, address=address[:64], detail=detail[:1000]
        )
    )
