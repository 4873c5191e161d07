"""Accounts of a test: one for each role, a clock that tests move, and hashes that cost little."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient

from web.access import Role
from web.accounts import NS_PER_S, Accounts
from web.passwords import Passwords

BASE = "http://localhost"
PASSWORD = "hujan deras di dago"
T0 = 1_795_516_200 * NS_PER_S  # 24 November 2026, 10:30 UTC
CHEAP = Passwords(time_cost=1, memory_cost=64, parallelism=1)
"""argon2id with hardly any work: what these tests check does not depend on it."""


@dataclass
class Clock:
    """The present of accounts [ns since 1970 UTC] and of throttle and gate [s]."""

    now_s: float = 0.0
    base: int = field(default=T0)

    def ns(self) -> int:
        return self.base + round(self.now_s * NS_PER_S)

    def s(self) -> float:
        return self.now_s


def with_roles(accounts: Accounts) -> Accounts:
    """An account for each role, named after it, all with ``PASSWORD``."""
    accounts.create_first("administrator", PASSWORD)
    for role in Role:
        if role is not Role.ADMINISTRATOR:
            accounts.create(role.value, role, name=role.value.title(), by="administrator", password=PASSWORD)
    return accounts


class Person:
    """A browser: keeps its cookie, and sends what our pages send."""

    def __init__(self, app: FastAPI, base: str = BASE, **options: Any) -> None:
        self.http = TestClient(app, base_url=base, raise_server_exceptions=True, **options)
        self.csrf = ""

    def log_in(self, login: str, password: str = PASSWORD) -> Any:
        answer = self.send("POST", "/api/session", {"login": login, "password": password})
        self.csrf = answer.json().get("csrf", "")
        return answer

    def get(self, path: str, **headers: str) -> Any:
        return self.http.get(path, headers=headers, follow_redirects=False)

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        given = {"X-Pantau": "1", "X-CSRF-Token": self.csrf} | {k.replace("_", "-"): v for k, v in headers.items()}
        return self.http.request(method, path, json={} if body is None else body, headers=given)

    @property
    def session(self) -> str:
        return self.http.cookies.get("pantau_session") or ""
