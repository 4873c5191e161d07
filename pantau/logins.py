"""Logins of devices at the broker, as the configuration asks for them: joins settings and ``devices.credentials``."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence

from devices.credentials import Broker, Credentials, Issuer, Login
from devices.credentials.choice import open_issuer
from devices.credentials.errors import CredentialsError
from devices.credentials.settings import CredentialsKind
from ingest.settings import BrokerSettings
from pantau.settings import ConfigurationError, Settings

log = logging.getLogger(__name__)


def device_broker(settings: Settings) -> BrokerSettings:
    """The broker whose logins are made. Raises ConfigurationError."""
    name = settings.credentials.broker
    found = next((b for b in settings.brokers if name in ("", b.name)), None)
    if found is None:
        raise ConfigurationError(f"credentials.broker names {name!r}, which is no [[broker]]")
    return found


def issuer_of(settings: Settings) -> Issuer | None:
    """The issuer of the configuration; None where Pantau makes no logins. Nothing is connected yet.

    Raises
    ------
    ConfigurationError, CredentialsError
        It can't be used.
    """
    if settings.credentials.kind == CredentialsKind.NONE:
        return None
    broker = device_broker(settings)
    # Who comes to one of our brokers by a name is no device, even where that is another broker.
    users = {b.username for b in settings.brokers if b.username}
    reserved = tuple(sorted({*settings.credentials.reserved, *users}))
    login = None if broker.username is None else Login(broker.username, broker.password or "")

    def make() -> Issuer:
        found = open_issuer(
            settings.credentials,
            Broker(
                broker.host,
                broker.port,
                broker.tls,
                broker.ca_file,
                broker.cert_file,
                broker.key_file,
                settings.credentials.timeout_s,
            ),
            city=settings.city.name,
            pipeline=login,
            pipeline_topics=broker.rights,
            reserved=reserved,
        )
        assert found is not None
        return found

    # Which one "auto" means only the broker knows, and it may be away when Pantau starts.
    return LateIssuer(make) if settings.credentials.kind == CredentialsKind.AUTO else make()


def prepare(issuer: Issuer, say: Callable[[str], None]) -> None:
    """Bring the broker to the state that logins need, in the background: it may be away."""

    def work() -> None:
        try:
            for line in issuer.prepare():
                say(f"broker: {line}")
        except CredentialsError as error:
            log.warning("logins of devices can't be made now: %s", error)

    threading.Thread(target=work, name="logins", daemon=True).start()


class LateIssuer:
    """An issuer that is opened when it is first needed, and again as long as that fails."""

    def __init__(self, make: Callable[[], Issuer]) -> None:
        self.kind = "auto"
        """``dynsec`` or ``files`` once the broker has said."""
        self._make = make
        self._lock = threading.Lock()
        self._found: Issuer | None = None

    def _issuer(self) -> Issuer:
        with self._lock:
            if self._found is None:
                self._found = self._make()
                self.kind = self._found.kind
            return self._found

    def create(self, device: str, *, speaks_for: Sequence[str] = ()) -> Credentials:
        """See ``Issuer``, as for all that follow."""
        return self._issuer().create(device, speaks_for=speaks_for)

    def create_many(self, devices: Iterable[str]) -> list[Credentials]:
        """See ``Issuer``."""
        return self._issuer().create_many(devices)

    def rotate(self, device: str) -> Credentials:
        """See ``Issuer``."""
        return self._issuer().rotate(device)

    def revoke(self, device: str) -> bool:
        """See ``Issuer``."""
        return self._issuer().revoke(device)

    def known(self) -> set[str]:
        """See ``Issuer``."""
        return self._issuer().known()

    def speaks_for(self, device: str) -> tuple[str, ...]:
        """See ``Issuer``."""
        return self._issuer().speaks_for(device)

    def prepare(self) -> list[str]:
        """See ``Issuer``."""
        return self._issuer().prepare()

    def check(self) -> str | None:
        """See ``Issuer``."""
        try:
            return self._issuer().check()
        except CredentialsError as error:
            return str(error)

    def note(self, language: str) -> str:
        """See ``Issuer``; empty while the broker has not said."""
        return "" if self._found is None else self._found.note(language)
