"""Settings of storage: which store, where, and how rows are gathered for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit


class StoreKind(StrEnum):
    """Which store."""

    EMBEDDED = "embedded"
    INFLUXDB = "influxdb"


class Secret(str):
    """A text that does not show itself when printed.

    Examples
    --------
    >>> print([Secret("hunter2")], Secret(""))
    [***] (not set)
    >>> Secret("hunter2").reveal()
    'hunter2'
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "***" if len(self) else "(not set)"

    __str__ = __repr__

    def __format__(self, format_spec: str) -> str:
        return repr(self)

    def reveal(self) -> str:
        """The text itself."""
        return str.__str__(self)


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Where results are kept. Secrets come from the environment, read by the composition root."""

    kind: str = StoreKind.EMBEDDED
    """embedded (Parquet files in ``folder``) or influxdb."""
    folder: Path = Path("data/store")
    """Of the embedded store."""
    url: str = "http://127.0.0.1:8086"
    """Of InfluxDB."""
    api: str = "v2"
    """Write path of InfluxDB: v2 (InfluxDB 2.x and 3.x) or v1 (1.x)."""
    bucket: str = "pantau"
    """Bucket (v2) or database (v1). Queries name it as the database; InfluxDB 2.x maps it by DBRP."""
    org: str = "pantau"
    """Organisation (v2)."""
    token: Secret = field(default=Secret(""))
    """v2."""
    username: str = ""
    """v1, if the server asks for it."""
    password: Secret = field(default=Secret(""))
    timeout_s: float = 10.0
    """For one request."""
    verify_tls: bool = True
    """Check the server's certificate (https only)."""
    ca_file: str = ""
    """Certificates to trust instead of the system's, in PEM; empty: the system's."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))
        object.__setattr__(self, "token", Secret(str.__str__(self.token)))
        object.__setattr__(self, "password", Secret(str.__str__(self.password)))
        if self.kind not in tuple(StoreKind):
            raise ValueError(f"kind must be embedded or influxdb, got {self.kind!r} (store.kind)")
        if self.api not in ("v1", "v2"):
            raise ValueError(f"api must be v1 or v2, got {self.api!r} (store.api)")
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"url must look like http://host:8086, got {self.url!r} (store.url)")
        if parts.username or parts.password:
            raise ValueError("url must hold no user name or password; set them apart (store.url)")
        if not self.bucket:
            raise ValueError("bucket must not be empty (store.bucket)")
        if not self.timeout_s > 0:
            raise ValueError(f"timeout_s must be above 0, got {self.timeout_s} (store.timeout_s)")


@dataclass(frozen=True, slots=True)
class WriterSettings:
    """How rows are gathered for the store, and what happens while it is down."""

    flush_interval_s: float = 1.0
    """Rows wait at most about this long before they are written."""
    max_rows: int = 50_000
    """Rows of one write; more rows are several writes."""
    max_queue_rows: int = 2_000_000
    """Rows in memory; beyond, ``put`` waits."""
    put_timeout_s: float = 5.0
    """How long ``put`` waits before it raises SpoolFull."""
    max_spool_bytes: int = 10 * 2**30
    """Size of the spool on disk."""
    warn_spool_fraction: float = 0.5
    """A warning is in the status from this part of ``max_spool_bytes`` on."""
    retry_first_s: float = 0.5
    """Pause after the first failed write; doubled after each further one, with jitter."""
    retry_max_s: float = 30.0

    def __post_init__(self) -> None:
        for name in (
            "flush_interval_s",
            "max_rows",
            "max_queue_rows",
            "put_timeout_s",
            "max_spool_bytes",
            "retry_first_s",
        ):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)} (store.writer.{name})")
        if not 0 < self.warn_spool_fraction <= 1:
            raise ValueError(
                f"warn_spool_fraction must be in (0, 1], got {self.warn_spool_fraction} "
                "(store.writer.warn_spool_fraction)"
            )
        if self.retry_max_s < self.retry_first_s:
            raise ValueError(
                f"retry_max_s must be at least retry_first_s {self.retry_first_s}, got {self.retry_max_s} "
                "(store.writer.retry_max_s)"
            )
