"""What the API takes: bodies of requests with their checks, and times as text. The routes are in ``devices.api``."""

from __future__ import annotations

import base64
import binascii
import re
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from devices.entities import MAX_PHOTO_BYTES, NewDatastream, SiteEntry
from devices.errors import InvalidEntryError
from telemetry.directory import Gate, Ladder, Limits, Step
from telemetry.observations import NS_PER_S

MAX_IMPORT_CHARACTERS = 64 * 2**20
SEVERITIES = {"waspada": 1, "siaga": 2, "awas": 3}
DIRECTIONS = {"above": 1, "below": -1}
GATES = {"always": Gate.ALWAYS, "dark": Gate.DARK}
_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
_PHOTO = re.compile(r"data:image/(?:jpeg|png|webp);base64,")


def time_ns(text: str) -> int:
    """A time as RFC 3339 with zone, in [ns since 1970 UTC]. Raises ValueError with a plain sentence.

    Examples
    --------
    >>> time_ns("2026-11-24T17:00:00+07:00")
    1795514400000000000
    >>> time_ns("2026-11-24 17:00")
    Traceback (most recent call last):
        ...
    ValueError: a time must be RFC 3339 with zone, such as 2026-01-31T20:00:00Z, got '2026-11-24 17:00'
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError(f"a time must be RFC 3339 with zone, such as 2026-01-31T20:00:00Z, got {text!r}")
    try:
        inside = _EARLIEST <= moment <= _LATEST
    except OverflowError:
        inside = False
    if not inside:
        raise ValueError(f"a time must be from 1970 to 2200, got {text!r}")
    return int(moment.replace(microsecond=0).timestamp()) * NS_PER_S + moment.microsecond * 1000


def _checked_time(text: str) -> str:
    time_ns(text)
    return text


def _clean(text: object) -> object:
    if isinstance(text, str) and ("\x00" in text or any("\ud800" <= c <= "\udfff" for c in text)):
        raise ValueError("holds a character that is none (NUL or half a pair)")
    return text


Text = Annotated[str, BeforeValidator(_clean), Field(max_length=10_000)]
Id = Annotated[str, BeforeValidator(_clean), Field(max_length=200)]
Time = Annotated[str, AfterValidator(_checked_time), Field(max_length=40, description="RFC 3339 with zone.")]
Number = Annotated[float, Field(allow_inf_nan=False, ge=-1e15, le=1e15)]


class Order(BaseModel):
    """A body: a key that is not known is an error, not ignored."""

    model_config = ConfigDict(extra="forbid")


class SiteFields(Order):
    """A place."""

    name: Text = ""
    latitude: Number = Field(description="Degrees north, WGS 84.")
    longitude: Number = Field(description="Degrees east, WGS 84.")
    elevation_m: Number | None = Field(default=None, description="Height of the zero of levels above `datum`.")
    datum: Text = ""
    district: Text = ""

    def entry(self, name: str) -> SiteEntry:
        """As the registry has it."""
        return SiteEntry(
            name, self.name or name, self.latitude, self.longitude, self.elevation_m, self.datum, self.district
        )


class NewSite(SiteFields):
    """A place, with its id."""

    id: Id


class LimitsFields(Order):
    """Limits of the quality tests, in the property's unit."""

    fail_min: Number | None = None
    fail_max: Number | None = None
    suspect_min: Number | None = None
    suspect_max: Number | None = None
    rate_max_per_s: Number | None = None
    flat_tolerance: Number = 0.0
    flat_suspect_s: Number | None = None
    flat_fail_s: Number | None = None

    def limits(self) -> Limits:
        """As the Directory has it."""
        return Limits(**{name: getattr(self, name) for name in Limits.__struct_fields__})


class DatastreamOrder(Order):
    """What a device observes besides, or instead of, what its model says."""

    property: Id
    label: Text = ""
    limits: LimitsFields = LimitsFields()

    def entry(self) -> NewDatastream:
        """As the registry has it."""
        return NewDatastream(self.property, self.limits.limits(), label=self.label)


Clock = Literal["utc", "local", "none"]
State = Literal["planned", "active", "maintenance", "retired"]


class RegisterOrder(Order):
    """A device, and where it stands: `site`, `new_site`, `replaces`, or none of them (it lies in the store)."""

    id: Id = Field(default="", description="Becomes part of its topic. Default: the serial number or EUI.")
    serial: Text = ""
    eui: Id = ""
    model: Text = Field(default="", description="Of `GET /api/models`; gives the datastreams.")
    firmware: Text = ""
    state: Literal["planned", "active", "maintenance"] = "active"
    silence_after_s: Number | None = Field(default=None, description="Default: the model's.")
    alias: Id = Field(default="", description="What messages call it besides: a URN, a SenML name, a Sparkplug name.")
    gateway: bool | None = Field(default=None, description="Whether its messages may speak for other devices.")
    clock: Clock | None = Field(
        default=None,
        description="What its times mean: `utc`; `local`: the city's time sent as if it were UTC; `none`: not used.",
    )
    interval_s: Number | None = Field(default=None, description="How often it sends. Default: the model's.")
    site: Id | None = Field(default=None, description="Id of a known site.")
    new_site: NewSite | None = None
    replaces: Id | None = Field(default=None, description="Id of the device whose place it takes.")
    old_state: Literal["retired", "maintenance"] = Field(default="retired", description="Of the replaced device.")
    at: Time | None = Field(default=None, description="When it was installed. Default: now.")
    height: Number | None = Field(
        default=None, description="Of a sensor that looks down: its height above the gauge's zero, in m."
    )
    datastreams: list[DatastreamOrder] | None = Field(default=None, max_length=50, description="Default: the model's.")
    credentials: bool = Field(default=True, description="Make the login and show it in the answer.")


class DeviceChange(Order):
    """What changes of a device; what is left out stays."""

    serial: Text | None = None
    eui: Id | None = None
    model: Text | None = None
    firmware: Text | None = None
    state: State | None = None
    silence_after_s: Number | None = None
    alias: Id | None = None
    gateway: bool | None = None
    clock: Clock | None = None
    interval_s: Number | None = None


class StateOrder(Order):
    """What is expected of a device."""

    state: State


class MoveOrder(Order):
    """To another site."""

    site: Id
    at: Time | None = None


class AtOrder(Order):
    """When; default: now."""

    at: Time | None = None


class NoOrder(Order):
    """An empty body."""


class CalibrationOrder(Order):
    """From `valid_from` on, a value becomes value · scale + offset."""

    property: Id
    scale: Number = 1.0
    offset: Number = 0.0
    valid_from: Time | None = Field(default=None, description="By time of observation. Default: now.")


class StepFields(Order):
    """One threshold."""

    value: Number
    severity: Literal["waspada", "siaga", "awas"]
    label: Text = ""


class ThresholdsOrder(Order):
    """A new version of a datastream's thresholds."""

    steps: list[StepFields] = Field(max_length=20)
    direction: Literal["above", "below"] = "above"
    deadband: Number = 0.0
    on_delay_s: Number = 0.0
    off_delay_s: Number = 0.0
    gate: Literal["always", "dark"] = "always"
    reason: Text = Field(description="Why; kept with the version.")

    def ladder(self) -> Ladder:
        """As the Directory has it."""
        return Ladder(
            steps=tuple(Step(s.value, SEVERITIES[s.severity], s.label or s.severity) for s in self.steps),
            direction=DIRECTIONS[self.direction],
            deadband=self.deadband,
            on_delay_s=self.on_delay_s,
            off_delay_s=self.off_delay_s,
            gate=GATES[self.gate],
        )


class DistrictOrder(Order):
    """A part of the city."""

    name: Text
    geojson: Annotated[str, BeforeValidator(_clean), Field(max_length=5_000_000)] = Field(
        default="", description="A GeoJSON geometry (Polygon or MultiPolygon) as text."
    )


class JobOrder(Order):
    """Something to be done at a device or a site."""

    kind: Annotated[str, BeforeValidator(_clean), Field(min_length=1, max_length=100)]
    text: Text = ""
    device: Id = ""
    site: Id = ""
    due_at: Time | None = None


class CloseOrder(Order):
    """A job is done."""

    note: Text = ""
    photo: str | None = Field(
        default=None,
        max_length=MAX_PHOTO_BYTES * 4 // 3 + 100,
        description="A picture as a data URL: data:image/jpeg;base64,…",
    )


class ImportOrder(Order):
    """A file of devices and sites, or of districts."""

    what: Literal["devices", "districts"] = "devices"
    format: Literal["csv", "geojson"]
    content: str = Field(max_length=MAX_IMPORT_CHARACTERS, description="The file's text.")
    dry_run: bool = Field(default=True, description="Say what would change and what is wrong; change nothing.")


def photo_bytes(photo: str | None) -> bytes | None:
    """The picture in a data URL. Raises InvalidEntryError.

    Examples
    --------
    >>> photo_bytes("data:image/jpeg;base64,/9j/")
    b'\\xff\\xd8\\xff'
    """
    if photo is None:
        return None
    begin = _PHOTO.match(photo)
    if begin is None:
        raise InvalidEntryError("photo must be a data URL of a JPEG, PNG or WebP: data:image/jpeg;base64,…")
    try:
        return base64.b64decode(photo[begin.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidEntryError(f"photo is not valid base64: {error}") from error


def device_id(text: str) -> str:
    """The id that a serial number or EUI gives: the same without what a topic can't hold.

    Examples
    --------
    >>> device_id(" AWLR 0231/B ")
    'AWLR-0231-B'
    """
    return re.sub(r"[\s/+#\\]+", "-", text.strip())[:200]
