"""Passwords: argon2id hashes, what a new one must be like, and temporary ones.

argon2id with the second recommended parameters of RFC 9106 (section 4: 64 MiB, three passes, four lanes).
"""

from __future__ import annotations

import secrets
import threading
import unicodedata
from functools import cached_property

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from web.errors import InvalidAccountError

MIN_LENGTH = 12
MAX_LENGTH = 1000
HASHES_AT_ONCE = 2
"""Each takes 64 MiB; more logins at the same moment wait."""

_SYMBOLS = "23456789abcdefghjkmnpqrstuvwxyz"
"""Without those that are easily mistaken: 0 o, 1 l i. 31 of them: 4.95 bits each."""


class Passwords:
    """Makes and checks hashes. Slow by intent; safe for threads."""

    def __init__(self, *, time_cost: int = 3, memory_cost: int = 65_536, parallelism: int = 4) -> None:
        self._hasher = PasswordHasher(time_cost, memory_cost, parallelism)
        self._turn = threading.BoundedSemaphore(HASHES_AT_ONCE)

    @cached_property
    def _nobody(self) -> str:
        """What nobody's password is compared with."""
        return self._hasher.hash(secrets.token_urlsafe())

    def hash(self, password: str) -> str:
        """The encoded hash, with its parameters and salt."""
        with self._turn:
            return self._hasher.hash(_same(password))

    def check(self, encoded: str | None, password: str) -> bool:
        """Whether the password is right. For an account that does not exist (None) it takes as long, and is wrong."""
        nobody = self._nobody  # made by the first login, whoever that is
        with self._turn:
            try:
                self._hasher.verify(encoded or nobody, _same(password))
            except (VerifyMismatchError, VerificationError, InvalidHashError):
                return False
        return encoded is not None

    def outdated(self, encoded: str) -> bool:
        """Whether the hash was made with other parameters than those of now."""
        return self._hasher.check_needs_rehash(encoded)


def check_new_password(password: str, login: str) -> None:
    """Refuse a password that is short, simple, or the account's name.

    Length is what counts (NIST SP 800-63B-4, 3.1.1): no rules about kinds of characters.

    Raises
    ------
    InvalidAccountError
        With a sentence for the person.

    Examples
    --------
    >>> check_new_password("hujan deras di dago", "siti")
    >>> check_new_password("aaaaaaaaaaaaaaa", "siti")
    Traceback (most recent call last):
    ...
    web.errors.InvalidAccountError: password: it repeats too few characters
    """
    same = _same(password)
    if len(same) < MIN_LENGTH:
        raise InvalidAccountError(f"password: at least {MIN_LENGTH} characters, got {len(same)}")
    if len(same) > MAX_LENGTH:
        raise InvalidAccountError(f"password: at most {MAX_LENGTH} characters, got {len(same)}")
    if len(set(same.lower())) < 5:
        raise InvalidAccountError("password: it repeats too few characters")
    rest = same.lower().replace(login.lower(), "").replace("pantau", "")
    if len(rest) < MIN_LENGTH // 2:
        raise InvalidAccountError("password: it is hardly more than the account's or the program's name")


def temporary_password() -> str:
    """A random one that can be read aloud: four groups of five, 99 bits."""
    return "-".join(_group() for _ in range(4))


def setup_code() -> str:
    """The one-time code of the first start: as a temporary password, in capitals."""
    return temporary_password().upper()


def same_code(given: str, code: str) -> bool:
    """Whether a typed code is right; spaces, dashes and case do not matter.

    Examples
    --------
    >>> same_code(" abcde fghjk", "ABCDE-FGHJK"), same_code("", ""), same_code("é", "ABCDE")
    (True, False, False)
    """
    typed, right = (c.replace("-", "").replace(" ", "").upper().encode() for c in (given, code))
    return bool(right) and secrets.compare_digest(typed, right)


def _group() -> str:
    return "".join(secrets.choice(_SYMBOLS) for _ in range(5))


def _same(password: str) -> str:
    """One text however the keyboard composed its accents (NIST SP 800-63B-4, 3.1.1.2)."""
    return unicodedata.normalize("NFKC", password)
