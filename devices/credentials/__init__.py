"""Logins of devices at the broker: made, renewed and taken away, with rights to the device's own topic alone.

``Issuer`` is what the pages, the API and the command line use. ``dynsec.DynsecIssuer`` speaks to Mosquitto's dynamic
security plugin; ``files.FileIssuer`` writes a password and an ACL file for a broker without it;
``certificates.CertificateIssuer`` adds a client certificate to either. ``choice.open_issuer`` makes the one that the
settings ask for. ``show`` turns credentials into text, a QR code and firmware snippets.

A password is random, is given to the caller once, and is kept nowhere by Pantau: the broker has its salted hash.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from devices.checks import RESERVED_DEVICE, check_id
from devices.credentials.errors import UnusableNameError
from devices.errors import InvalidEntryError

ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"
"""Letters and digits that nobody mistakes for one another when typing them from a screen in the sun."""
GROUPS, GROUP_LENGTH = 7, 4
"""28 characters of 31: 138 bits."""


@dataclass(frozen=True)
class Broker:
    """How Pantau itself reaches the broker whose logins it manages."""

    host: str = "localhost"
    port: int = 1883
    tls: bool = False
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    timeout_s: float = 5.0
    """For a connection, and for each answer."""

    @property
    def address(self) -> str:
        """``host:port``, for people."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class DeviceSide:
    """How devices reach the broker: often another name and port than ours."""

    host: str
    port: int = 1883
    tls: bool = False
    ca_pem: str = ""
    """Authority that signed the broker's certificate, for devices that do not know it."""


@dataclass(frozen=True)
class Login:
    """A user of the broker and its password."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Credentials:
    """What a device needs to send. Shown once; the secrets are left out when it is printed."""

    device: str
    username: str
    password: str = field(repr=False)
    host: str
    port: int
    tls: bool
    topic: str
    client_id: str
    speaks_for: tuple[str, ...] = ()
    """Other devices on whose topics it may publish: those behind a gateway."""
    ca_pem: str = field(default="", repr=False)
    certificate_pem: str = field(default="", repr=False)
    """A client certificate, where the issuer makes them."""
    key_pem: str = field(default="", repr=False)


class Issuer(Protocol):
    """Makes and takes away devices' logins. All calls may come from several threads, and may be repeated."""

    kind: str
    """``dynsec`` or ``files``."""

    def create(self, device: str, *, speaks_for: Sequence[str] = ()) -> Credentials:
        """Give a device a login, or, if it has one, a new password and exactly these rights."""
        ...

    def create_many(self, devices: Iterable[str]) -> list[Credentials]:
        """``create`` for each, with fewer round trips."""
        ...

    def rotate(self, device: str) -> Credentials:
        """A new password; the old one is of no use at once, and who used it is disconnected. Rights stay.

        Raises
        ------
        UnusableNameError
            The device has no login.
        """
        ...

    def revoke(self, device: str) -> bool:
        """Take the login away and disconnect the device. False: it had none."""
        ...

    def known(self) -> set[str]:
        """The devices that have a login made here."""
        ...

    def speaks_for(self, device: str) -> tuple[str, ...]:
        """Other devices on whose topics this one may publish."""
        ...

    def prepare(self) -> list[str]:
        """Bring the broker to the state that logins need. Returns what was changed, a sentence each; empty: nothing."""
        ...

    def check(self) -> str | None:
        """None if logins can be made now, else one sentence that says why not."""
        ...

    def note(self, language: str) -> str:
        """What a person should know about how logins are made here; empty: nothing."""
        ...


def topic_of(city: str, device: str) -> str:
    """The topic on which a device publishes.

    Examples
    --------
    >>> topic_of("bandung", "awlr-1")
    'pantau/v1/bandung/awlr-1'
    """
    return f"pantau/v1/{city}/{device}"


def new_password() -> str:
    """A random password of 138 bits, in groups, without characters that look alike.

    Examples
    --------
    >>> len(new_password()), new_password() == new_password()
    (34, False)
    """
    letters = [secrets.choice(ALPHABET) for _ in range(GROUPS * GROUP_LENGTH)]
    return "-".join("".join(letters[i : i + GROUP_LENGTH]) for i in range(0, len(letters), GROUP_LENGTH))


def check_name(device: str, reserved: Collection[str] = ()) -> None:
    """Raise UnusableNameError unless a device of this id may have a login.

    Examples
    --------
    >>> check_name("pantau", reserved={"pantau"})
    Traceback (most recent call last):
        ...
    devices.credentials.errors.UnusableNameError: device 'pantau' can't have a login: the name is that of another user \
of the broker
    """
    try:
        check_id(device, "device")
    except InvalidEntryError as error:
        raise UnusableNameError(str(error)) from None
    if device == RESERVED_DEVICE:
        raise UnusableNameError(f"device {device!r} can't have a login: the name is taken by the clock's topic")
    if device in reserved:
        raise UnusableNameError(f"device {device!r} can't have a login: the name is that of another user of the broker")
