"""The catalogue of device models: what a device of a model observes, in which units, and how often it sends.

One TOML file for each model in ``devices/catalogue``; a city may keep more in a folder of its own. Choosing a model
gives a device its datastreams with these limits, and the time after which it counts as silent. Decoding of payloads is
left to ``ingest``; ``source`` says which field of the vendor's decoder a property comes from.
"""

from __future__ import annotations

import functools
import math
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal

import msgspec

from devices.checks import check_limits
from devices.city_file import LimitsTable
from devices.entities import NewDatastream
from devices.errors import InvalidEntryError
from telemetry.directory import Field, Limits, Payload
from telemetry.properties import PROPERTIES, conversion

CATALOGUE = Path(__file__).parent / "catalogue"

NETWORK_FIELDS = frozenset(
    (
        *("eui", "devAddr", "fPort", "frequency", "bandwidth", "spreadingFactor", "codeRate"),
        *("device_id", "join_eui", "net_id", "cluster_id", "cluster_adress", "cluster_address"),
        *("applicationId", "applicationName", "tenantId", "tenantName", "deviceProfileId", "deviceProfileName"),
    )
)
"""What a LoRaWAN network server adds to every uplink, and its integrations keep (one of them writes "adress")."""

_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_CODEC = re.compile(r"[a-z0-9]+([_-][a-z0-9]+)*")


class Kind(StrEnum):
    """What a station is for; the pages arrange models by it."""

    RIVER = "river"
    RAIN = "rain"
    TRAFFIC = "traffic"
    AIR = "air"
    NOISE = "noise"
    LIGHT = "light"
    WEATHER = "weather"
    PARKING = "parking"
    PEOPLE = "people"
    POWER = "power"


class Format(StrEnum):
    """How its readings reach the broker."""

    PANTAU_JSON = "pantau_json"
    """As ``docs/messages.md`` says, from the device or its gateway."""
    SENML_JSON = "senml_json"
    SENML_CBOR = "senml_cbor"
    """Sensor Measurement Lists, RFC 8428."""
    SMART_DATA_MODELS = "smart_data_models"
    """Entities of NGSI, with key and value or normalized."""
    LORAWAN = "lorawan"
    """Through a LoRaWAN network server: ``codec`` decodes the vendor's bytes where the server has not."""


class Mounting(StrEnum):
    """How a reading relates to what is observed."""

    DIRECT = "direct"
    DISTANCE_DOWN = "distance_down"
    """The sensor looks down at the water: level = its height above the gauge's zero − the distance it reads."""


@dataclass(frozen=True)
class ModelProperty:
    """One observed property of a model, and so one datastream of each such device."""

    property: str
    unit: str
    """As the device sends it; one that the property accepts."""
    low: float
    """Smallest value that the sensor can report. [unit of the property, before any calibration]"""
    high: float
    source: str = ""
    """Its field in the vendor's decoded payload; empty: the property's own name."""
    mounting: Mounting = Mounting.DIRECT
    limits: Limits = field(default_factory=Limits)

    def calibration(self, height: float = 0.0) -> tuple[float, float]:
        """Scale and offset that the reading needs from the start.

        Parameters
        ----------
        height : float
            Height of a sensor that looks down, above the gauge's zero. [unit of the property]

        Examples
        --------
        >>> ModelProperty("water_level_m", "mm", 0.3, 10.0, mounting=Mounting.DISTANCE_DOWN).calibration(6.5)
        (-1.0, 6.5)
        """
        return (-1.0, height) if self.mounting == Mounting.DISTANCE_DOWN else (1.0, 0.0)

    def limits_at(self, height: float | None = None) -> Limits:
        """The limits of the calibrated value: what the sensor can't report at all has failed.

        A sensor that looks down sees from its height down to its range; while nobody has told the height, all is
        believed.

        Examples
        --------
        >>> p = ModelProperty("water_level_m", "mm", 0.25, 10.0, mounting=Mounting.DISTANCE_DOWN)
        >>> limits = p.limits_at(6.5)
        >>> limits.fail_min, limits.fail_max
        (-3.5, 6.25)
        """
        limits = self.limits
        if self.mounting == Mounting.DIRECT:
            low = self.low if limits.fail_min is None else limits.fail_min
            high = self.high if limits.fail_max is None else limits.fail_max
            return msgspec.structs.replace(limits, fail_min=low, fail_max=high)
        if height is None:
            return limits
        return msgspec.structs.replace(limits, fail_min=height - self.high, fail_max=height - self.low)


@dataclass(frozen=True)
class DeviceModel:
    """One model of the catalogue."""

    id: str
    vendor: str
    """Empty: a generic model."""
    name: str
    kind: Kind
    format: Format
    interval_s: float
    """How often it sends as it comes, or as is advised."""
    silence_after_s: float
    properties: tuple[ModelProperty, ...]
    codec: str = ""
    """Who decodes the vendor's own bytes, of ``ingest.formats``; empty: nobody."""
    notes: dict[str, str] = field(default_factory=dict, compare=False)
    """What the technician should know, by language."""
    not_mapped: dict[str, str] = field(default_factory=dict, compare=False)
    """Fields of its decoded payload that are not taken → why."""

    @property
    def needs_height(self) -> bool:
        """Whether the technician must give the sensor's height above the gauge's zero."""
        return any(p.mounting == Mounting.DISTANCE_DOWN for p in self.properties)

    def datastreams(self, height: float | None = None) -> list[NewDatastream]:
        """What a device of this model observes; see ``ModelProperty.limits_at``."""
        return [NewDatastream(p.property, p.limits_at(height)) for p in self.properties]

    @property
    def payload(self) -> Payload | None:
        """How messages of its devices are read; None: as Pantau JSON, with nothing else to know."""
        if self.format == Format.PANTAU_JSON:
            return None
        # On a topic of its own a LoRaWAN device has a gateway that speaks Pantau JSON.
        own_topic = Format.PANTAU_JSON if self.format == Format.LORAWAN else self.format
        fields = tuple(Field(p.source or p.property, p.property, p.unit) for p in self.properties)
        return Payload(self.id, str(own_topic), self.codec, fields)


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of a model's file: a key that is not known is an error, not ignored."""


class _PropertyTable(_Table, frozen=True, kw_only=True):
    property: str
    unit: str
    range: tuple[float, float]
    source: str = ""
    mounting: Mounting = Mounting.DIRECT
    limits: LimitsTable = LimitsTable()


class _NotesTable(_Table, frozen=True, kw_only=True):
    id: str
    en: str


class _ModelFile(_Table, frozen=True, kw_only=True):
    schema: Literal[1]
    vendor: str = ""
    name: str
    kind: Kind
    format: Format
    interval_s: float
    silence_after_s: float
    codec: str = ""
    notes: _NotesTable | None = None
    properties: list[_PropertyTable]
    not_mapped: dict[str, str] = {}


@functools.cache
def _own() -> tuple[DeviceModel, ...]:
    return tuple(read_model(path) for path in sorted(CATALOGUE.glob("*.toml")))


def load_catalogue(folders: Iterable[Path] = ()) -> dict[str, DeviceModel]:
    """All models by id: Pantau's own, and those in the folders given.

    Raises
    ------
    InvalidEntryError
        A file is wrong, or two have one id; the message names the file.
    """
    models = {m.id: m for m in _own()}
    for folder in folders:
        for path in sorted(Path(folder).glob("*.toml")):
            model = read_model(path)
            if model.id in models:
                raise InvalidEntryError(f"{path}: there already is a model {model.id!r}; rename the file")
            models[model.id] = model
    return models


def read_model(path: Path) -> DeviceModel:
    """One model from its file; its id is the file's name. Raises InvalidEntryError."""
    try:
        file = msgspec.toml.decode(path.read_bytes(), type=_ModelFile)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.DecodeError) as error:
        raise InvalidEntryError(f"{path}: {error}") from error
    model = DeviceModel(
        id=path.stem,
        vendor=file.vendor,
        name=file.name,
        kind=file.kind,
        format=file.format,
        interval_s=file.interval_s,
        silence_after_s=file.silence_after_s,
        properties=tuple(
            ModelProperty(p.property, p.unit, *p.range, p.source, p.mounting, p.limits.limits())
            for p in file.properties
        ),
        codec=file.codec,
        notes={"id": file.notes.id, "en": file.notes.en} if file.notes else {},
        not_mapped=file.not_mapped,
    )
    try:
        check_model(model)
    except InvalidEntryError as error:
        raise InvalidEntryError(f"{path}: {error}") from None
    return model


def check_model(model: DeviceModel) -> None:
    """Raise InvalidEntryError if the model cannot be right."""
    if not _ID.fullmatch(model.id):
        raise InvalidEntryError(f"model id {model.id!r} must be small letters and digits, joined by -")
    if not model.name.strip():
        raise InvalidEntryError("name must not be empty")
    if not (0 < model.interval_s < model.silence_after_s and math.isfinite(model.silence_after_s)):
        raise InvalidEntryError(
            f"silence_after_s must be above interval_s, and that above 0, got {model.silence_after_s} and "
            f"{model.interval_s}"
        )
    if model.codec and not _CODEC.fullmatch(model.codec):
        raise InvalidEntryError(f"codec must be small letters and digits, joined by _ or -, got {model.codec!r}")
    if model.codec and model.format != Format.LORAWAN:
        raise InvalidEntryError(
            f'a codec is of use only with format = "lorawan"; format is {str(model.format)!r}, codec {model.codec!r}'
        )
    names = [p.property for p in model.properties]
    if not names or len(set(names)) != len(names):
        raise InvalidEntryError(f"properties must be one or more, each once, got {names}")
    taken = {p.source or p.property for p in model.properties}
    if both := taken & model.not_mapped.keys():
        raise InvalidEntryError(f"{min(both)} is both a property's field and not mapped")
    for p in model.properties:
        _check_property(p)


def _check_property(p: ModelProperty) -> None:
    if p.property not in PROPERTIES:
        raise InvalidEntryError(f"{p.property} is not an observed property (docs/nomenclature.md)")
    known = PROPERTIES[p.property]
    if conversion(p.property, p.unit) is None:
        raise InvalidEntryError(f"{p.property}: unit must be one of {', '.join(known.conversions)}, got {p.unit!r}")
    if not p.low < p.high:
        raise InvalidEntryError(f"{p.property}: range must be from low to high, got {p.low} and {p.high}")
    if not (known.span_min <= p.low and p.high <= known.span_max):
        raise InvalidEntryError(
            f"{p.property}: range must be within {known.span_min:g}..{known.span_max:g}, got {p.low:g}..{p.high:g}"
        )
    check_limits(p.limits, p.property)
    if p.mounting == Mounting.DISTANCE_DOWN:
        if known.unit != "m":
            raise InvalidEntryError(f"{p.property}: only a level in m can be seen from above")
        if p.limits.fail_min is not None or p.limits.fail_max is not None:
            raise InvalidEntryError(f"{p.property}: fail_min and fail_max follow from the height; leave them out")
        return
    for name in ("fail_min", "fail_max", "suspect_min", "suspect_max"):
        value = getattr(p.limits, name)
        if value is not None and not p.low <= value <= p.high:
            raise InvalidEntryError(
                f"{p.property}: {name} must be within the range {p.low:g}..{p.high:g}, got {value:g}"
            )
