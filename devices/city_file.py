"""The city file: sites, devices, datastreams and thresholds as TOML, and the tables that other files share with it.

Every key is explained in ``docs/city-file.md``. What is read here is saved by ``devices.registry``.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from devices.errors import InvalidEntryError
from telemetry.directory import Datastream, Device, Directory, Gate, Ladder, Limits, Site, Step

SEVERITIES = {"waspada": 1, "siaga": 2, "awas": 3}
DIRECTIONS = {"above": 1, "below": -1}
GATES = {"always": Gate.ALWAYS, "dark": Gate.DARK}


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of a TOML file: a key that is not known is an error, not ignored."""


class StepTable(Table, frozen=True, kw_only=True):
    """One threshold."""

    value: float
    severity: Literal["waspada", "siaga", "awas"]
    label: str = ""


class LadderTable(Table, frozen=True, kw_only=True):
    """Thresholds of a datastream."""

    steps: list[StepTable] = []
    direction: Literal["above", "below"] = "above"
    deadband: float = 0.0
    on_delay_s: float = 0.0
    off_delay_s: float = 0.0
    gate: Literal["always", "dark"] = "always"

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


class LimitsTable(Table, frozen=True, kw_only=True):
    """Limits of the quality tests; the keys are those of ``telemetry.directory.Limits``."""

    fail_min: float | None = None
    fail_max: float | None = None
    suspect_min: float | None = None
    suspect_max: float | None = None
    rate_max_per_s: float | None = None
    flat_tolerance: float = 0.0
    flat_suspect_s: float | None = None
    flat_fail_s: float | None = None

    def limits(self) -> Limits:
        """As the Directory has it."""
        return Limits(**{name: getattr(self, name) for name in Limits.__struct_fields__})


class SiteTable(Table, frozen=True, kw_only=True):
    """A place."""

    id: str
    name: str = ""
    latitude: float
    longitude: float
    district: str = ""

    def site(self) -> Site:
        """As the Directory has it."""
        return Site(self.id, self.name or self.id, self.latitude, self.longitude, self.district)


class DeviceTable(Table, frozen=True, kw_only=True):
    """A station."""

    id: str
    site: str
    model: str = ""
    silence_after_s: float = 3600.0
    alias: str = ""
    gateway: bool = False
    clock: Literal["utc", "local", "none"] = "utc"
    interval_s: float | None = None

    def device(self) -> Device:
        """As the Directory has it."""
        return Device(
            self.id,
            self.site,
            self.model,
            self.silence_after_s,
            names=(self.alias,) if self.alias else (),
            interval_s=self.interval_s,
            gateway=self.gateway,
            clock=self.clock,
        )


class DatastreamTable(Table, frozen=True, kw_only=True):
    """An observed property of a device, at the device's site."""

    device: str
    property: str
    id: str = ""
    limits: LimitsTable = LimitsTable()
    ladder: LadderTable = LadderTable()


class CityTable(Table, frozen=True, kw_only=True):
    """The city itself."""

    name: str
    utc_offset_h: float


class CityFile(Table, frozen=True, kw_only=True):
    """The whole file."""

    city: CityTable
    site: list[SiteTable]
    device: list[DeviceTable]
    datastream: list[DatastreamTable]


@dataclass(frozen=True)
class RegisteredCity:
    """What a city file holds, ready for ``Registry.save``."""

    name: str
    utc_offset_h: float
    sites: tuple[Site, ...]
    devices: tuple[Device, ...]
    datastreams: tuple[Datastream, ...]


def load_city(path: Path) -> RegisteredCity:
    """Read and check a city file.

    Raises
    ------
    InvalidEntryError
        It can't be read, is no TOML, a key is wrong, or what it says does not fit together; the message names the key.
    """
    try:
        found = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8-sig")), CityFile)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidEntryError(f"cannot read the city file {path}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise InvalidEntryError(f"{path} is no TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise InvalidEntryError(f"{path}: {str(error).replace('`', '')}") from error
    site_of = {d.id: d.site for d in found.device}
    for i, d in enumerate(found.datastream):
        if d.device not in site_of:
            raise InvalidEntryError(f"{path}: datastream[{i}].device names {d.device!r}, which is no [[device]]")
    city = RegisteredCity(
        found.city.name,
        found.city.utc_offset_h,
        tuple(s.site() for s in found.site),
        tuple(d.device() for d in found.device),
        tuple(
            Datastream(
                d.id or f"{site_of[d.device]}/{d.property}",
                site_of[d.device],
                d.device,
                d.property,
                d.limits.limits(),
                d.ladder.ladder(),
            )
            for d in found.datastream
        ),
    )
    try:
        Directory(1, city.name, city.utc_offset_h, city.sites, city.devices, city.datastreams)
    except ValueError as error:
        raise InvalidEntryError(f"{path}: {error}") from error
    return city
