"""The tables of accounts. Times are ns since 1970 UTC. Secrets are stored as hashes only."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, Integer, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

SCHEMA_VERSION = 1
"""Raised with every change of the tables below."""


class Table(DeclarativeBase):
    """Base of all tables."""


class SchemaRow(Table):
    """One row: which schema the tables have. Writers lock it."""

    __tablename__ = "accounts_schema"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    schema_version: Mapped[int] = mapped_column(Integer)


class AccountRow(Table):
    """A person, or a program that needs tokens. Never deleted, so that what it did keeps its name."""

    __tablename__ = "accounts"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    login: Mapped[str] = mapped_column(String(64), unique=True)
    name: Mapped[str] = mapped_column(Text)
    role: Mapped[str] = mapped_column(String(20))
    password: Mapped[str] = mapped_column(Text)
    """argon2id, encoded with parameters and salt."""
    must_change: Mapped[bool] = mapped_column(Boolean)
    """The password is temporary."""
    created_at: Mapped[int] = mapped_column(BigInteger)
    disabled_at: Mapped[int | None] = mapped_column(BigInteger)


class SessionRow(Table):
    """A browser that is logged in."""

    __tablename__ = "account_sessions"

    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    """SHA-256 of what stands in the cookie."""
    account: Mapped[int] = mapped_column(ForeignKey("accounts.id"), index=True)
    created_at: Mapped[int] = mapped_column(BigInteger)
    used_at: Mapped[int] = mapped_column(BigInteger)


class TokenRow(Table):
    """A token of a program."""

    __tablename__ = "account_tokens"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    """SHA-256 of the token: it is random, so no slow hash is needed."""
    account: Mapped[int] = mapped_column(ForeignKey("accounts.id"), index=True)
    label: Mapped[str] = mapped_column(Text)
    scopes: Mapped[str] = mapped_column(Text)
    """Rights, with spaces between."""
    created_at: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[int] = mapped_column(BigInteger)
    revoked_at: Mapped[int | None] = mapped_column(BigInteger)
    used_at: Mapped[int | None] = mapped_column(BigInteger)


class LogRow(Table):
    """What happened with accounts: logins and changes."""

    __tablename__ = "account_log"
    __table_args__ = (Index("account_log_by_account", "account", "event", "at"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    at: Mapped[int] = mapped_column(BigInteger, index=True)
    event: Mapped[str] = mapped_column(String(30))
    account: Mapped[str] = mapped_column(String(64))
    """Whom it is about; empty for a login under a name that no account has."""
    by: Mapped[str] = mapped_column(String(64))
    address: Mapped[str] = mapped_column(String(64))
    detail: Mapped[str] = mapped_column(Text)
