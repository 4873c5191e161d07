"""``pantau.toml``: read, checked, and turned into the settings of each room.

Every key has its default in the dataclass of the room that uses it; ``pantau.example.toml`` shows them all. Secrets do
not stand in the file: a key such as ``password_env`` names the environment variable that holds one.
"""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import os
import ssl
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from devices.credentials.settings import CredentialsSettings
from ingest.settings import BrokerSettings, ClockSource, Limits
from storage.settings import Secret, StoreKind, StoreSettings, WriterSettings

T = TypeVar("T")

DEFAULT_FILE = Path("pantau.toml")


class ConfigurationError(ValueError):
    """The configuration can't be used; the message names the key, what came and what was expected."""


@dataclass(frozen=True)
class CitySettings:
    """Which city this is."""

    name: str = "kota"
    """Second part of every topic: ``pantau/v1/<name>/<device>``."""
    utc_offset_h: float = 7.0
    """Local time minus UTC: 7 for WIB, 8 for WITA, 9 for WIT."""

    def __post_init__(self) -> None:
        if not self.name or any(c in self.name for c in "/+# \0"):
            raise ValueError(f"name must be one level of an MQTT topic, without / + # or spaces, got {self.name!r}")
        if not -14 <= self.utc_offset_h <= 14:
            raise ValueError(f"utc_offset_h must be -14..14, got {self.utc_offset_h}")


@dataclass(frozen=True)
class ClockSettings:
    """Where the present comes from."""

    source: ClockSource = ClockSource.SYSTEM
    """``system``: this computer's clock. ``broker``: the clock that a simulation or a replay publishes."""


@dataclass(frozen=True)
class DataSettings:
    """Where Pantau keeps its own files."""

    folder: Path = Path("data")
    """Journal, registry, dead letters, snapshot, spool, and the embedded store unless ``store.folder`` is set."""
    database: Secret = field(default=Secret(""))
    """URL of a PostgreSQL for registry and accounts; empty: SQLite files in ``folder``."""
    snapshot_interval_s: float = 30.0
    """How often the core's state is saved, to bound how much of the journal is replayed after a crash."""
    journal_days: float = 30.0
    """How long journaled readings are kept. What a snapshot still needs is always kept."""
    account_days: float = 90.0
    """How long the loss account is kept by the hour; older hours are summed into days."""

    def __post_init__(self) -> None:
        for name in ("snapshot_interval_s", "journal_days", "account_days"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.database and not self.database.reveal().startswith(("postgresql://", "postgresql+psycopg://")):
            raise ValueError("data.database must be like postgresql://user:password@host/name")

    @property
    def registry(self) -> str:
        """SQLAlchemy URL of the registry."""
        if self.database:
            return self.database.reveal()
        return f"sqlite:///{self.folder.absolute() / 'registry.sqlite'}"

    @property
    def accounts(self) -> str:
        """SQLAlchemy URL of the accounts: a file of their own, or tables beside the registry's in PostgreSQL."""
        if self.database:
            return self.database.reveal()
        return f"sqlite:///{self.folder.absolute() / 'accounts.sqlite'}"


class PageAccess(StrEnum):
    """Who may use the pages."""

    ACCOUNTS = "accounts"
    """Who has an account, by its role."""
    OPEN = "open"
    """Everybody on this computer, without a login."""


@dataclass(frozen=True)
class PageSettings:
    """The pages: the operator's, the technician's, and their API."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 8000
    """0 takes any free port."""
    allowed_hosts: tuple[str, ...] = ()
    """Names under which browsers reach the page. Literal addresses and localhost always work."""
    basemap: str = ""
    """A GeoJSON file with rivers, roads and districts to draw under the sites; empty: none."""
    access: PageAccess = PageAccess.ACCOUNTS
    """``accounts``: people log in. ``open``: no login; only where ``host`` is a loopback address."""
    tls_cert: str = ""
    """Certificate (PEM, with those in between) for https; empty: http, as behind a proxy that speaks https."""
    tls_key: str = ""
    """Its key (PEM)."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise ValueError(f"port must be 0..65535, got {self.port}")
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ValueError(f"tls_cert and tls_key go together, got {self.tls_cert!r} and {self.tls_key!r}")
        if self.access is PageAccess.OPEN and not is_loopback(self.host):
            raise ValueError(
                f'access = "open" needs a host that only this computer reaches, such as 127.0.0.1, got {self.host!r}: '
                "without a login anyone could acknowledge alarms and change devices"
            )

    @property
    def url(self) -> str:
        """Where programs on this computer reach the page."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"{'https' if self.tls_cert else 'http'}://{f'[{host}]' if ':' in host else host}:{self.port}"

    def tls_context(self) -> ssl.SSLContext | None:
        """For programs on this computer that ask the page at ``url``; None: it speaks http.

        They know it by its certificate itself: that of a name is not that of this computer's own address.
        """
        if not self.tls_cert:
            return None
        context = ssl.create_default_context(cafile=self.tls_cert)
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        return context


def is_loopback(host: str) -> bool:
    """Whether only this computer reaches what listens there.

    Examples
    --------
    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Settings:
    """All of ``pantau.toml``."""

    city: CitySettings = field(default_factory=CitySettings)
    clock: ClockSettings = field(default_factory=ClockSettings)
    data: DataSettings = field(default_factory=DataSettings)
    brokers: tuple[BrokerSettings, ...] = (BrokerSettings("main"),)
    limits: Limits = field(default_factory=Limits)
    store: StoreSettings = field(default_factory=StoreSettings)
    writer: WriterSettings = field(default_factory=WriterSettings)
    page: PageSettings = field(default_factory=PageSettings)
    credentials: CredentialsSettings = field(default_factory=CredentialsSettings)


SECTIONS: dict[str, type[Any]] = {
    "city": CitySettings,
    "clock": ClockSettings,
    "data": DataSettings,
    "broker": BrokerSettings,
    "limits": Limits,
    "store": StoreSettings,
    "store.writer": WriterSettings,
    "page": PageSettings,
    "credentials": CredentialsSettings,
}
"""Section of the file → the dataclass of its keys. ``[[broker]]`` may come several times."""
SECRETS = {
    "data": ("database",),
    "broker": ("password",),
    "store": ("token", "password"),
    "credentials": ("admin_password",),
}
"""Keys that are given as the name of an environment variable, with ``_env`` behind the key."""


def load(path: Path | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Read and check a configuration file.

    Parameters
    ----------
    path : Path or None
        None: ``pantau.toml`` in the working folder if it is there, else all defaults.
    environment : mapping, optional
        Where secrets come from; the process's environment unless given.

    Raises
    ------
    ConfigurationError
        The file is missing or not TOML; a key is unknown or wrong; a secret's variable is not set.
    """
    if path is None:
        if not DEFAULT_FILE.exists():
            return parse({}, environment)
        path = DEFAULT_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigurationError(f"there is no configuration file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} can't be read: {error}") from error
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from error
    try:
        return parse(table, environment)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from None


def parse(table: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from the content of a configuration file. Raises ConfigurationError."""
    env = os.environ if environment is None else environment
    top = {name.split(".")[0] for name in SECTIONS}
    _known(table, top, "")
    for name in top - {"broker"}:
        _is_table(table.get(name, {}), name)
    store = dict(table.get("store", {}))
    writer = store.pop("writer", {})
    _is_table(writer, "store.writer")
    brokers = table.get("broker", [{"name": "main"}])
    if not isinstance(brokers, list) or not brokers or not all(isinstance(b, dict) for b in brokers):
        raise ConfigurationError("broker must be one or more [[broker]] sections")
    data = _section(DataSettings, table.get("data", {}), "data", env)
    if store.get("kind", StoreKind.EMBEDDED) == StoreKind.EMBEDDED:
        store.setdefault("folder", str(data.folder / "store"))
    settings = Settings(
        city=_section(CitySettings, table.get("city", {}), "city", env),
        clock=_section(ClockSettings, table.get("clock", {}), "clock", env),
        data=data,
        brokers=tuple(_section(BrokerSettings, b, "broker", env) for b in brokers),
        limits=_section(Limits, table.get("limits", {}), "limits", env),
        store=_section(StoreSettings, store, "store", env),
        writer=_section(WriterSettings, writer, "store.writer", env),
        page=_section(PageSettings, table.get("page", {}), "page", env),
        credentials=_section(CredentialsSettings, table.get("credentials", {}), "credentials", env),
    )
    names = [b.name for b in settings.brokers]
    if len(set(names)) != len(names):
        raise ConfigurationError(f"each broker needs a name of its own, got {names} (broker.name)")
    if settings.credentials.broker not in ("", *names):
        raise ConfigurationError(
            f"credentials.broker must be the name of a [[broker]] ({', '.join(names)}), "
            f"got {settings.credentials.broker!r}"
        )
    return settings


def keys_of(section: str) -> dict[str, Any]:
    """The keys of a section as they stand in the file, with their defaults; MISSING where there is none."""
    secrets = SECRETS.get(section, ())
    return {
        (f"{f.name}_env" if f.name in secrets else f.name): ("" if f.name in secrets else _default(f))
        for f in dataclasses.fields(SECTIONS[section])
    }


def _default(f: dataclasses.Field[Any]) -> Any:
    if f.default_factory is not dataclasses.MISSING:
        return f.default_factory()
    return f.default


def _is_table(value: Any, where: str) -> None:
    if not isinstance(value, dict):
        raise ConfigurationError(f"{where} must be a section [{where}], got {value!r}")


def _known(table: Mapping[str, Any], names: typing.Collection[str], where: str) -> None:
    for key in table:
        if key not in names:
            path = f"{where}.{key}" if where else key
            near = difflib.get_close_matches(key, names, 1)
            hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(sorted(names))}"
            raise ConfigurationError(f"{path} is not a setting{hint}")


def _section(cls: type[T], table: Mapping[str, Any], where: str, environment: Mapping[str, str]) -> T:
    _known(table, keys_of(where).keys(), where)
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for key, value in table.items():
        name = key.removesuffix("_env")
        if name in SECRETS.get(where, ()):
            values[name] = _secret(value, f"{where}.{key}", environment, hints[name])
            continue
        try:
            values[key] = msgspec.convert(value, hints[key], dec_hook=_to_path)
        except msgspec.ValidationError as error:
            raise ConfigurationError(f"{where}.{key}: {str(error).replace('`', '')}, got {value!r}") from None
    required = [f.name for f in dataclasses.fields(cls) if _default(f) is dataclasses.MISSING]  # type: ignore[arg-type]
    for name in required:
        if name not in values:
            raise ConfigurationError(f"{where}.{name} must be set")
    try:
        return cls(**values)
    except ValueError as error:
        text = str(error)
        raise ConfigurationError(text if where in text else f"{where}: {text}") from None


def _to_path(kind: type[Any], value: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise ValueError("expected a path as text")


def _secret(value: Any, where: str, environment: Mapping[str, str], kind: Any) -> Any:
    if not isinstance(value, str):
        raise ConfigurationError(f"{where} must be the name of an environment variable, got {value!r}")
    if not value:
        return Secret("") if kind is Secret else None
    if value not in environment:
        raise ConfigurationError(f"{where} names the environment variable {value}, which is not set")
    return Secret(environment[value]) if kind is Secret else environment[value]
