"""What the registry keeps, as callers see it: plain values without database. Times are ns since 1970 UTC.

The tables behind them are in ``devices.model``; what the pipeline gets of them is ``telemetry.directory.Directory``.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from telemetry.directory import Ladder, Limits

MAX_PHOTO_BYTES = 4 * 2**20
"""Largest photo of a job. A phone's page makes it smaller before it sends it."""

MAX_NOTE_CHARACTERS = 10_000
"""Longest text of a job."""


class DeviceState(StrEnum):
    """What is expected of a device. Only an active one can be silent."""

    PLANNED = "planned"
    ACTIVE = "active"
    MAINTENANCE = "maintenance"
    RETIRED = "retired"


class District(msgspec.Struct, frozen=True):
    """A part of the city with its border."""

    code: str
    """Administrative code, such as "32.73.07"."""
    name: str
    geojson: str = ""
    """A GeoJSON geometry (Polygon or MultiPolygon) as JSON text; "" if the border is not known."""


class SiteEntry(msgspec.Struct, frozen=True):
    """A place where something is observed."""

    id: str
    name: str
    latitude: float
    """[° north, WGS 84]"""
    longitude: float
    """[° east, WGS 84]"""
    elevation_m: float | None = None
    """Height of the zero of the site's levels above ``datum``."""
    datum: str = ""
    """What heights here refer to, such as "EGM2008" or "staff gauge Dayeuhkolot"."""
    district: str = ""
    """A district's code; or any text, which then stands for itself."""


class DeviceEntry(msgspec.Struct, frozen=True):
    """A sensor station, wherever it is."""

    id: str
    serial: str = ""
    """As printed on it. Two devices of one model cannot have the same."""
    eui: str = ""
    """LoRaWAN's DevEUI, 16 hexadecimal digits in capitals; unique."""
    model: str = ""
    """A key of the catalogue (``devices.models``), or any text."""
    firmware: str = ""
    state: DeviceState = DeviceState.ACTIVE
    silence_after_s: float = 3600.0
    alias: str = ""
    """What messages call it besides id, EUI and serial: URN of an entity, SenML base name, Sparkplug group/node/device.

    Nobody else's name, whatever the case."""
    gateway: bool = False
    """Whether its messages may speak for other devices."""
    clock: str = "utc"
    """What its times mean; one of ``telemetry.directory.CLOCKS``."""
    interval_s: float | None = None
    """How often each of its datastreams is expected to send; None: as its model does."""


class InstallationEntry(msgspec.Struct, frozen=True):
    """A device at a site from ``start_ns`` (inclusive) to ``end_ns`` (exclusive; None: it is still there)."""

    device: str
    site: str
    start_ns: int
    end_ns: int | None = None


class DatastreamEntry(msgspec.Struct, frozen=True):
    """One observed property at one site. It goes on when the device that feeds it is swapped."""

    id: str
    site: str
    property: str
    limits: Limits = Limits()
    ladder: Ladder = Ladder()
    label: str = ""
    """What tells it from another one of the same property at the site, such as "northbound"."""


class CalibrationEntry(msgspec.Struct, frozen=True):
    """From ``valid_from_ns`` on, a value of this device becomes value · scale + offset."""

    device: str
    property: str
    scale: float
    offset: float
    """[unit of the property]"""
    valid_from_ns: int


class LadderVersion(msgspec.Struct, frozen=True):
    """One version of a datastream's ladder."""

    number: int
    """1, 2, 3, ... for each datastream."""
    ladder: Ladder
    author: str
    reason: str
    valid_from: int
    """When it was saved. [ns since 1970 UTC]"""
    directory_version: int
    """First version of the Directory with this ladder."""


class Job(msgspec.Struct, frozen=True):
    """Something a technician is to do, or has done."""

    id: int
    device: str
    """"" if it concerns the whole site."""
    site: str
    kind: str
    """Such as "silent", "faulty", "inspection", "calibration"."""
    text: str
    opened_at: int
    due_at: int | None = None
    closed_at: int | None = None
    closed_by: str = ""
    note: str = ""
    """What was done."""
    photo: bytes | None = None
    """Only ``Registry.job(id)`` gives it; lists leave it out."""
    has_photo: bool = False
    opened_by: str = ""


class AuditEntry(msgspec.Struct, frozen=True):
    """One change of one thing."""

    at_ns: int
    by: str
    action: str
    """Such as "added", "changed", "installed", "removed", "replaced", "retired", "closed"."""
    kind: str
    """Such as "site", "device", "installation", "datastream", "thresholds", "calibration", "district", "job"."""
    subject: str
    """Its id."""
    before: str
    """JSON of it before; "" if it was not there."""
    after: str
    """JSON of it afterwards; "" if it is gone."""


class NewDatastream(msgspec.Struct, frozen=True):
    """What a newly registered device observes, besides what its model says."""

    property: str
    limits: Limits = Limits()
    ladder: Ladder = Ladder()
    label: str = ""


class DeviceDetails(msgspec.Struct, frozen=True):
    """Everything about one device."""

    device: DeviceEntry
    site: SiteEntry | None
    """Where it is now; None: it is not installed."""
    installations: tuple[InstallationEntry, ...]
    """The oldest first."""
    datastreams: tuple[DatastreamEntry, ...]
    """Those that it feeds now."""
    calibrations: tuple[CalibrationEntry, ...]
    """By time."""


class FoundDevice(msgspec.Struct, frozen=True):
    """One answer of a search."""

    device: DeviceEntry
    site: SiteEntry | None


class NearSite(msgspec.Struct, frozen=True):
    """A site and how far away it is."""

    site: SiteEntry
    distance_m: float
    devices: tuple[str, ...]
    """Ids of the devices that are there now."""
