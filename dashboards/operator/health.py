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
class LimitedDevice:
    """A device that sends more than it may; what is beyond is refused."""

    device: str
    since_ns: int
    """[ns since 1970 UTC]"""
    refused: int
    """Readings, since then."""


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
    backlog_messages: int = 0
    """Messages that wait to be taken in, here or at the brokers."""
    clear_in_s: float | None = 0.0
    """When none will wait any more, if it goes on like this; None while they do not become fewer."""
    limited_devices: tuple[LimitedDevice, ...] = ()
    """Devices that send more than they may, the worst first."""
    dead_letters: int = 0
    """Messages and readings that were refused and are kept."""
    dead_letters_full: bool = False
    """Whether they near the bound of their room or age: the oldest will be removed."""
    clocks_wrong: int = 0
    """Devices whose clock is far off or drifts."""

    @property
    def refused(self) -> int:
        """All refused messages and readings."""
        return sum(self.refused_by_reason.values())


@dataclass(frozen=True, slots=True)
class AccountHour:
    """The loss account of one device and hour."""

    start_ns: int
    """[ns since 1970 UTC]"""
    hours: int = 1
    """24 where the hours of a day are kept as one."""
    expected: float | None = None
    """None: nothing says how many readings should come."""
    received: int = 0
    duplicate: int = 0
    late: int = 0
    refused: int = 0
    stored: int = 0
    waiting: int = 0
    missing: int | None = None


@dataclass(frozen=True, slots=True)
class DeviceAccount:
    """The loss account of one device: since ever, and by hours."""

    device: str
    received: int = 0
    duplicate: int = 0
    late: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    """Reason → count."""
    stored: int = 0
    waiting: int = 0
    """In the journal, but not in the store yet."""
    expected: float | None = None
    missing: int | None = None
    unaccounted: int = 0
    """Received, but neither duplicate nor stored nor waiting: 0, or there is a fault."""
    hours: tuple[AccountHour, ...] = ()
    """The newest ones, newest first."""
