"""The pipeline's own health, as the runtime tells it to the page."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class BrokerStatus:
    """One MQTT broker as we see it."""

    name: str
    connected: bool
    since_ns: int
    """Since when it is connected, or not; 0: never tried. [ns since 1970 UTC]"""
    last_error: str = ""
    dropped: int = 0
    """Messages that the broker itself says it dropped."""


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """The store of results."""

    kind: str
    """Such as "embedded" or "influxdb"."""
    ok: bool = True
    backlog_rows: int = 0
    """Rows waiting to be written."""
    last_error: str = ""


@dataclass(frozen=True, slots=True)
class HealthStatus:
    """What went through the pipeline since it started, and how it is now."""

    messages: int = 0
    readings: int = 0
    duplicates: int = 0
    late: int = 0
    stored: int = 0
    refused_by_reason: dict[str, int] = field(default_factory=dict)
    messages_per_s: float = 0.0
    readings_per_s: float = 0.0
    latency_s: float | None = None
    """From reception to result, recently; None if nothing came."""
    brokers: tuple[BrokerStatus, ...] = ()
    store: StoreStatus | None = None

    @property
    def refused(self) -> int:
        """All refused messages and readings."""
        return sum(self.refused_by_reason.values())


@dataclass(frozen=True, slots=True)
class DeviceAccount:
    """The loss account of one device."""

    device: str
    received: int = 0
    duplicate: int = 0
    late: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    """Reason → count."""
    stored: int = 0
