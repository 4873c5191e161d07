"""The Directory: an immutable snapshot of all that the hot path must know about sites, devices and datastreams.

The registry builds it; ingest looks readings up in it; the core reads its arrays, which are indexed by the dense
datastream index. A change in the registry is a new Directory, swapped in between two batches.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from telemetry.alarms import Severity
from telemetry.installations import BEGINNING_NS, OPEN_NS, Installed, OverlapError, build
from telemetry.properties import PROPERTIES, ObservedProperty

MAX_STEPS = 4
"""Largest number of thresholds on one ladder."""

MAX_DURATION_S = 1e9
"""Longest delay or silence that can be set, about 32 years; in nanoseconds it must fit into int64."""


class Direction(IntEnum):
    """On which side of a threshold it is bad."""

    ABOVE = 1
    BELOW = -1


class Gate(IntEnum):
    """When a reading may say something about the alarm at all."""

    ALWAYS = 0
    DARK = 1
    """Only while the sun is more than 6° below the horizon: street lamps are dark by day, and rightly so."""


class Step(msgspec.Struct, frozen=True):
    """One threshold of a ladder."""

    value: float
    """[unit of the property]"""
    severity: int
    label: str
    """What this level is called here, such as "Siaga 2"."""


class Ladder(msgspec.Struct, frozen=True):
    """The thresholds of one datastream, from the mildest to the worst."""

    steps: tuple[Step, ...] = ()
    direction: int = Direction.ABOVE
    deadband: float = 0.0
    """How far the value must come back over a threshold before the level is left. [unit of the property]"""
    on_delay_s: float = 0.0
    """How long the value must stay beyond a threshold before the level is entered."""
    off_delay_s: float = 0.0
    """How long the value must stay back before the level is left."""
    gate: int = Gate.ALWAYS


class Limits(msgspec.Struct, frozen=True):
    """What the quality tests need for one datastream. Unset limits (None) switch a test off."""

    fail_min: float | None = None
    """Sensor span: outside is FAIL. None: the property's physical span. [unit of the property]"""
    fail_max: float | None = None
    suspect_min: float | None = None
    """What is believable at this site: outside is SUSPECT."""
    suspect_max: float | None = None
    rate_max_per_s: float | None = None
    """Largest believable change. [unit of the property per s]"""
    flat_tolerance: float = 0.0
    """Readings that differ by no more than this from the one before are 'the same'."""
    flat_suspect_s: float | None = None
    """Time after which an unchanged value is SUSPECT."""
    flat_fail_s: float | None = None


class Site(msgspec.Struct, frozen=True):
    """A place where something is observed."""

    id: str
    name: str
    latitude: float
    longitude: float
    district: str = ""


class Device(msgspec.Struct, frozen=True):
    """A sensor station as it is now."""

    id: str
    site: str
    """Where it is installed; "": nowhere."""
    model: str = ""
    silence_after_s: float = 600.0
    """Without any reading for this long, the device counts as silent."""
    watched: bool = True
    """Whether its silence is an alarm; not while it is planned, in maintenance or retired."""
    names: tuple[str, ...] = ()
    """Other names by which messages call it, whatever their case: EUI, serial number, URN of an entity, ..."""
    interval_s: float | None = None
    """How often each of its datastreams is expected to send. None: nobody said."""
    gateway: bool = False
    """Whether its messages may speak for other devices."""
    clock: str = "utc"
    """The rule for the times that it sends; see ``CLOCKS``."""


CLOCKS = ("utc", "local", "none")
"""What a device's times mean: as they should be; the city's local time, sent as if it were UTC; nothing, since its
clock can't be used: the time of reception stands in."""


class Field(msgspec.Struct, frozen=True):
    """One field of a model's decoded payload, and what it observes."""

    source: str
    """Its name there; levels of nested objects are joined by dots."""
    property: str
    unit: str
    """As the device sends it."""


class Payload(msgspec.Struct, frozen=True):
    """How the messages of devices of one model are read."""

    model: str
    format: str = "pantau_json"
    """Of what it publishes on its own topic."""
    codec: str = ""
    """Who decodes the vendor's own bytes; "": nobody."""
    fields: tuple[Field, ...] = ()


class Datastream(msgspec.Struct, frozen=True):
    """One observed property at one site. It goes on when the device that feeds it is swapped for another."""

    id: str
    site: str
    device: str
    """The device that feeds it now or, where there is none, did last; "": there never was one."""
    property: str
    limits: Limits = Limits()
    ladder: Ladder = Ladder()


class Installation(msgspec.Struct, frozen=True, gc=False):
    """This device fed this datastream from a moment on, up to another."""

    device: str
    datastream: str
    start_ns: int
    """[ns since 1970 UTC]"""
    end_ns: int | None = None
    """The first moment after it. None: it goes on. [ns since 1970 UTC]"""


class Calibration(msgspec.Struct, frozen=True, gc=False):
    """What a device's values are multiplied by, and then raised by, from a moment of observation on.

    It holds until the device's next calibration for that datastream. Before the first one values are as they come.
    """

    device: str
    datastream: str
    scale: float
    offset: float
    """[unit of the property]"""
    valid_from_ns: int
    """[ns since 1970 UTC]"""


class _Content(msgspec.Struct, frozen=True):
    version: int
    city: str
    utc_offset_h: float
    sites: tuple[Site, ...]
    devices: tuple[Device, ...]
    datastreams: tuple[Datastream, ...]
    installations: tuple[Installation, ...] = ()
    calibrations: tuple[Calibration, ...] = ()
    brokers: tuple[str, ...] = ()
    payloads: tuple[Payload, ...] = ()


@dataclass(frozen=True)
class Directory:
    """Everything the hot path must know, as arrays over the datastream index (and over the device index).

    The position of a datastream in ``datastreams`` is its index, and that of a device in ``devices`` its own.
    Neither is ever given to another one; a later version only appends.

    A datastream without any of the ``installations`` has always been fed by its ``Datastream.device``.
    """

    version: int
    city: str
    utc_offset_h: float
    sites: tuple[Site, ...]
    devices: tuple[Device, ...]
    datastreams: tuple[Datastream, ...]
    installations: tuple[Installation, ...] = ()
    """In any order. One datastream, and one property of one device, has only one at a time."""
    calibrations: tuple[Calibration, ...] = ()
    brokers: tuple[str, ...] = ()
    """Names of the brokers in the order of the settings; the registry knows nothing of them."""
    payloads: tuple[Payload, ...] = ()
    """How messages are read, for each model that needs more than Pantau JSON."""

    property_of: npt.NDArray[np.int32] = field(init=False, repr=False, compare=False)
    """Number of each datastream's property, in the order of ``PROPERTIES``."""
    site_of: npt.NDArray[np.int32] = field(init=False, repr=False, compare=False)
    device_of: npt.NDArray[np.int32] = field(init=False, repr=False, compare=False)
    """Installed now or, where none is, last; -1 where there never was one."""
    latitude: npt.NDArray[np.float64] = field(init=False, repr=False, compare=False)
    longitude: npt.NDArray[np.float64] = field(init=False, repr=False, compare=False)
    fail_min: npt.NDArray[np.float64] = field(init=False, repr=False, compare=False)
    fail_max: npt.NDArray[np.float64] = field(init=False, repr=False, compare=False)
    suspect_min: npt.NDArray[np.float64] = field(init=False, repr=False, compare=False)
    suspect_max: npt.NDArray[np.float64] = field(init=False, repr=False, compare=False)
    rate_max_per_s: npt.NDArray[np.float64] = field(init=False, repr=False, compare=False)
    flat_tolerance: npt.NDArray[np.float64] = field(init=False, repr=False, compare=False)
    flat_suspect_s: npt.NDArray[np.float64] = field(init=False, repr=False, compare=False)
    flat_fail_s: npt.NDArray[np.float64] = field(init=False, repr=False, compare=False)
    direction: npt.NDArray[np.int8] = field(init=False, repr=False, compare=False)
    threshold: npt.NDArray[np.float64] = field(init=False, repr=False, compare=False)
    """(datastreams, MAX_STEPS); +inf (ABOVE) or -inf (BELOW) where a ladder has fewer steps."""
    severity: npt.NDArray[np.uint8] = field(init=False, repr=False, compare=False)
    """(datastreams, MAX_STEPS); 0 where a ladder has fewer steps."""
    deadband: npt.NDArray[np.float64] = field(init=False, repr=False, compare=False)
    on_delay_ns: npt.NDArray[np.int64] = field(init=False, repr=False, compare=False)
    off_delay_ns: npt.NDArray[np.int64] = field(init=False, repr=False, compare=False)
    gate: npt.NDArray[np.uint8] = field(init=False, repr=False, compare=False)
    clock_rule: npt.NDArray[np.uint8] | None = field(init=False, repr=False, compare=False)
    """(devices,) place of each device's rule in ``CLOCKS``; None where all times are taken as they are sent."""
    silence_after_ns: npt.NDArray[np.int64] = field(init=False, repr=False, compare=False)
    """(devices,)"""
    watched: npt.NDArray[np.bool_] = field(init=False, repr=False, compare=False)
    """(devices,) whether silence is an alarm: the device says so, and it is installed."""
    expected_since: npt.NDArray[np.int64] = field(init=False, repr=False, compare=False)
    """(devices,) start of the oldest installation that goes on; before it there is no silence. [ns since 1970 UTC]"""
    installed: Installed = field(init=False, repr=False, compare=False)
    """Installations and calibrations as arrays."""
    index_of: dict[str, dict[str, int]] = field(init=False, repr=False, compare=False)
    """Device id → property name → index of the datastream that the device feeds now or did last."""
    feed_of: dict[str, dict[str, int]] = field(init=False, repr=False, compare=False)
    """Device id → property name → feed, for ``installed.at``: how ingest finds a reading's datastream."""
    device_index: dict[str, int] = field(init=False, repr=False, compare=False)
    """Device id → its index."""
    named: dict[str, str] = field(init=False, repr=False, compare=False)
    """Names of devices other than their ids, in small letters → device id. A name that several have is not there."""
    shared_names: frozenset[str] = field(init=False, repr=False, compare=False)
    """Names that several devices have, in small letters: they call none."""
    gateways: frozenset[str] = field(init=False, repr=False, compare=False)
    """Ids of the devices that may speak for others."""
    payload_of: dict[str, Payload] = field(init=False, repr=False, compare=False)
    """Device id → how its messages are read, where its model is one of ``payloads``."""

    def __post_init__(self) -> None:
        site_index = _unique([s.id for s in self.sites], "site")
        device_index = _unique([d.id for d in self.devices], "device")
        _unique([d.id for d in self.datastreams], "datastream")
        _check(self)
        _all_found(
            site_index,
            [d.site for d in self.devices if d.site],
            "site",
            lambda i: f"device {[d.id for d in self.devices if d.site][i]!r}",
        )
        streams = self.datastreams
        put = object.__setattr__
        site_of = _all_found(site_index, [d.site for d in streams], "site", lambda i: f"datastream {streams[i].id!r}")
        put(self, "site_of", _column(site_of, np.int32))
        self._install(device_index)
        put(self, "latitude", _taken(_column([s.latitude for s in self.sites]), self.site_of))
        put(self, "longitude", _taken(_column([s.longitude for s in self.sites]), self.site_of))
        inf = math.inf
        # Most datastreams share their limits with others of their property, and their ladders: each is written once.
        numbers: dict[tuple[int, str], int] = {}
        kind = np.array([numbers.setdefault((id(d.limits), d.property), len(numbers)) for d in streams], np.intp)
        limits, spans = _firsts([d.limits for d in streams], kind), _firsts([d.property for d in streams], kind)
        lowest, highest = [PROPERTIES[p].span_min for p in spans], [PROPERTIES[p].span_max for p in spans]
        for name, values in (
            ("fail_min", [_or(m.fail_min, low) for m, low in zip(limits, lowest, strict=True)]),
            ("fail_max", [_or(m.fail_max, high) for m, high in zip(limits, highest, strict=True)]),
            ("suspect_min", [_or(m.suspect_min, -inf) for m in limits]),
            ("suspect_max", [_or(m.suspect_max, inf) for m in limits]),
            ("rate_max_per_s", [_or(m.rate_max_per_s, inf) for m in limits]),
            ("flat_tolerance", [m.flat_tolerance for m in limits]),
            ("flat_suspect_s", [_or(m.flat_suspect_s, inf) for m in limits]),
            ("flat_fail_s", [_or(m.flat_fail_s, inf) for m in limits]),
        ):
            put(self, name, _taken(_column(values), kind))
        same: dict[int, int] = {}
        kind = np.array([same.setdefault(id(d.ladder), len(same)) for d in streams], np.intp)
        ladders = _firsts([d.ladder for d in streams], kind)
        threshold = np.empty((len(ladders), MAX_STEPS))
        severity = np.zeros((len(ladders), MAX_STEPS), dtype=np.uint8)
        for i, ladder in enumerate(ladders):
            threshold[i] = ladder.direction * inf
            for k, step in enumerate(ladder.steps):
                threshold[i, k] = step.value
                severity[i, k] = step.severity
        put(self, "direction", _taken(_column([m.direction for m in ladders], np.int8), kind))
        put(self, "threshold", _taken(threshold, kind))
        put(self, "severity", _taken(severity, kind))
        put(self, "deadband", _taken(_column([m.deadband for m in ladders]), kind))
        put(self, "on_delay_ns", _taken(_column([round(m.on_delay_s * 1e9) for m in ladders], np.int64), kind))
        put(self, "off_delay_ns", _taken(_column([round(m.off_delay_s * 1e9) for m in ladders], np.int64), kind))
        put(self, "gate", _taken(_column([m.gate for m in ladders], np.uint8), kind))
        put(
            self,
            "silence_after_ns",
            _column([round(d.silence_after_s * 1e9) for d in self.devices], np.int64),
        )
        rule = _column([CLOCKS.index(d.clock) for d in self.devices], np.uint8)
        put(self, "clock_rule", rule if rule.any() else None)
        put(self, "device_index", device_index)
        named, shared = all_names(self.devices, device_index)
        put(self, "named", named)
        put(self, "shared_names", shared)
        put(self, "gateways", frozenset(d.id for d in self.devices if d.gateway))
        of_model = {p.model: p for p in self.payloads}
        put(self, "payload_of", {d.id: of_model[d.model] for d in self.devices if d.model in of_model})

    def _install(self, device_index: dict[str, int]) -> None:
        """Fill everything that depends on installations and calibrations."""
        streams = self.datastreams
        stream_index = {d.id: i for i, d in enumerate(streams)}
        names = list(PROPERTIES)
        number = {name: i for i, name in enumerate(names)}
        object.__setattr__(self, "property_of", _column([number[d.property] for d in streams], np.int32))
        given = self.installations
        device = _all_found(device_index, [x.device for x in given], "device", lambda _: "an installation")
        stream = _all_found(stream_index, [x.datastream for x in given], "datastream", lambda _: "an installation")
        start = [x.start_ns for x in self.installations]
        end = [OPEN_NS if x.end_ns is None else x.end_ns for x in self.installations]
        placed = set(stream)
        named = [i for i, d in enumerate(streams) if d.device]
        fed_by = _all_found(
            device_index, [streams[i].device for i in named], "device", lambda n: f"datastream {streams[named[n]].id!r}"
        )
        for i, fed in zip(named, fed_by, strict=True):
            if i not in placed:
                device.append(fed)
                stream.append(i)
                start.append(BEGINNING_NS)
                end.append(OPEN_NS)
        calibrations = self.calibrations
        try:
            installed = build(
                np.array(device, dtype=np.int32),
                np.array(stream, dtype=np.int32),
                np.array(start, dtype=np.int64),
                np.array(end, dtype=np.int64),
                self.property_of,
                (
                    np.array(
                        [_found(device_index, c.device, "device", "a calibration") for c in calibrations], np.int32
                    ),
                    np.array(
                        [_found(stream_index, c.datastream, "datastream", "a calibration") for c in calibrations],
                        np.int32,
                    ),
                    np.array([c.valid_from_ns for c in calibrations], np.int64),
                    np.array([c.scale for c in calibrations], np.float64),
                    np.array([c.offset for c in calibrations], np.float64),
                ),
            )
        except OverlapError as error:
            first, second = error.first, error.second
            whose, other = streams[stream[first]], streams[stream[second]]
            name = self.devices[device[second]].id
            if error.what == "datastream":
                raise ValueError(
                    f"datastream {whose.id!r} is fed by device {self.devices[device[first]].id!r} and by {name!r} "
                    f"at the same time"
                ) from None
            if start[first] == start[second] == BEGINNING_NS:
                raise ValueError(f"device {name!r} feeds {whose.property} twice (datastream {other.id!r})") from None
            raise ValueError(
                f"device {name!r} feeds {whose.property} of datastream {whose.id!r} and {other.id!r} at the same time"
            ) from None
        self._put_installed(installed, {d.id: {} for d in self.devices}, None)

    def _put_installed(
        self, installed: Installed, index_of: dict[str, dict[str, int]], only: npt.NDArray[np.bool_] | None
    ) -> None:
        """Fill what follows from the installations.

        Parameters
        ----------
        index_of : dict
            As the field of this name; what it says of the devices that are looked at must be empty.
        only : (devices,) bool array, optional
            The devices that are looked at; None: all of them.
        """
        put = object.__setattr__
        streams = self.datastreams
        put(self, "installed", installed)
        put(self, "device_of", installed.device_of)
        goes_on = np.zeros(len(self.devices), dtype=np.bool_)
        goes_on[installed.device[installed.end == OPEN_NS]] = True
        ended = np.zeros(len(self.devices), dtype=np.bool_)
        ended[installed.device] = True
        ended &= ~goes_on
        since = np.full(len(self.devices), OPEN_NS, dtype=np.int64)
        still = installed.end == OPEN_NS
        np.minimum.at(since, installed.device[still], installed.start[still])
        since[~goes_on] = BEGINNING_NS
        put(self, "expected_since", _frozen(since))
        wanted = np.array([d.watched and d.site != "" for d in self.devices], dtype=np.bool_)
        put(self, "watched", _frozen(wanted & ~ended))
        feed_of = index_of
        last = installed.feed_end[installed.feed_end > installed.feed_begin] - 1
        last = last[np.argsort(installed.datastream[last], kind="stable")]
        seen = last if only is None else last[only[installed.device[last]]]
        for which, i in zip(installed.device[seen].tolist(), installed.datastream[seen].tolist(), strict=True):
            index_of[self.devices[which].id][streams[i].property] = i
        last = last[installed.feed[last] >= len(streams)]
        if last.size:
            feeds = installed.feed[last].tolist()
            former = zip(installed.device[last].tolist(), installed.datastream[last].tolist(), feeds, strict=True)
            feed_of = dict(index_of)
            for which, i, feed in former:
                name = self.devices[which].id
                if feed_of[name] is index_of[name]:
                    feed_of[name] = dict(index_of[name])
                feed_of[name][streams[i].property] = feed
        put(self, "index_of", index_of)
        put(self, "feed_of", feed_of)

    def device_called(self, name: str) -> str | None:
        """The id of the device with this id or, whatever its case, other name.

        Of a URN also what follows its kind, or its last part, may be the name: ``0024befffe804ff1`` of
        ``urn:dev:mac:0024befffe804ff1``, ``gauge:7`` of ``urn:ngsi-ld:Device:gauge:7``.
        """
        if name in self.device_index:
            return name
        small = name.lower()
        device = self.named.get(small)
        if device is None and small.startswith("urn:"):
            for part in (*name.split(":", 3)[3:], name.rpartition(":")[2]):
                device = part if part in self.device_index else self.named.get(part.lower())
                if device is not None:
                    return device
        return device

    def observed_property(self, datastream: int) -> ObservedProperty:
        """The catalogue entry of a datastream."""
        return PROPERTIES[self.datastreams[datastream].property]

    def with_brokers(self, brokers: tuple[str, ...]) -> Directory:
        """The same Directory with these names of brokers; the arrays are shared, so it costs nothing."""
        if brokers == self.brokers:
            return self
        named = copy.copy(self)
        object.__setattr__(named, "brokers", brokers)
        return named

    def broker_name(self, number: int) -> str:
        """What the broker with this number is called; its number where that is not known."""
        return self.brokers[number] if 0 <= number < len(self.brokers) else str(number)

    def to_bytes(self) -> bytes:
        """The whole content as JSON; ``from_bytes`` gives an equal Directory."""
        return msgspec.json.encode(
            _Content(
                self.version,
                self.city,
                self.utc_offset_h,
                self.sites,
                self.devices,
                self.datastreams,
                self.installations,
                self.calibrations,
                self.brokers,
                self.payloads,
            )
        )

    @staticmethod
    def from_bytes(data: bytes) -> Directory:
        """The Directory that ``to_bytes`` wrote.

        Raises msgspec.DecodeError if it is no such JSON, ValueError if it is but its content cannot be right.
        """
        c = msgspec.json.decode(data, type=_Content)
        return Directory(
            c.version,
            c.city,
            c.utc_offset_h,
            c.sites,
            c.devices,
            c.datastreams,
            c.installations,
            c.calibrations,
            c.brokers,
            c.payloads,
        )


Shared = TypeVar("Shared")


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _frozen(array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    array.setflags(write=False)
    return array


def _column(values: Sequence[float], dtype: type[np.generic] = np.float64) -> npt.NDArray[np.generic]:
    return _frozen(np.array(values, dtype=dtype))


def all_names(devices: tuple[Device, ...], ids: dict[str, int]) -> tuple[dict[str, str], frozenset[str]]:
    """Other names, in small letters → device id, without those that several devices have; and these."""
    found: dict[str, str] = {}
    shared: set[str] = set()
    for device in devices:
        for name in device.names:
            small = name.lower()
            if found.setdefault(small, device.id) != device.id:
                shared.add(small)
    if shared or not ids.keys().isdisjoint(found):
        found = {name: device for name, device in found.items() if name not in shared and name not in ids}
    return found, frozenset(shared - ids.keys())


def _unique(ids: list[str], what: str) -> dict[str, int]:
    index = {name: i for i, name in enumerate(ids)}
    if len(index) != len(ids):
        twice = next(name for i, name in enumerate(ids) if index[name] != i)
        raise ValueError(f"{what} id {twice!r} stands twice in the directory")
    return index


def _found(index: dict[str, int], name: str, what: str, whose: str) -> int:
    if name not in index:
        raise ValueError(f"{whose} names {what} {name!r}, which is not in the directory")
    return index[name]


def _all_found(index: dict[str, int], names: list[str], what: str, whose: Callable[[int], str]) -> list[int]:
    """``_found`` of many names; ``whose`` says of a position whose name it is."""
    try:
        return [index[name] for name in names]
    except KeyError:
        return [_found(index, name, what, whose(i)) for i, name in enumerate(names)]


def _firsts(values: Sequence[Shared], kind: npt.NDArray[np.intp]) -> list[Shared]:
    """The first value of each kind 0, 1, 2, ..., as they come."""
    _, first = np.unique(kind, return_index=True)
    return [values[i] for i in first.tolist()]


def _taken(array: npt.NDArray[np.generic], kind: npt.NDArray[np.integer]) -> npt.NDArray[np.generic]:
    return _frozen(np.ascontiguousarray(array[kind]))


def _check(directory: Directory) -> None:
    if not -12 <= directory.utc_offset_h <= 14:
        raise ValueError(f"utc_offset_h must be from -12 to 14, got {directory.utc_offset_h}")
    for site in directory.sites:
        if not (-90 <= site.latitude <= 90 and -180 <= site.longitude <= 180):
            raise ValueError(
                f"site {site.id!r}: latitude {site.latitude}, longitude {site.longitude} is no place on Earth"
            )
    for device in directory.devices:
        if not 0 < device.silence_after_s <= MAX_DURATION_S:
            raise ValueError(
                f"device {device.id!r}: silence_after_s must be above 0 and at most {MAX_DURATION_S:.0f}, "
                f"got {device.silence_after_s}"
            )
        if device.clock not in CLOCKS:
            raise ValueError(f"device {device.id!r}: clock must be one of {', '.join(CLOCKS)}, got {device.clock!r}")
        if device.interval_s is not None and not 0 < device.interval_s <= MAX_DURATION_S:
            raise ValueError(
                f"device {device.id!r}: interval_s must be above 0 and at most {MAX_DURATION_S:.0f}, or left out, "
                f"got {device.interval_s}"
            )
    fine: set[Limits | Ladder] = set()  # most datastreams share theirs with others
    for stream in directory.datastreams:
        if stream.property not in PROPERTIES:
            raise ValueError(f"datastream {stream.id!r}: unknown observed property {stream.property!r}")
        if stream.limits not in fine:
            _check_limits(stream.limits, stream.id)
            fine.add(stream.limits)
        if stream.ladder not in fine:
            check_ladder(stream.ladder, stream.id)
            fine.add(stream.ladder)
    for x in directory.installations:
        end = OPEN_NS if x.end_ns is None else x.end_ns
        if not BEGINNING_NS <= x.start_ns < end <= OPEN_NS:
            where = f"installation of device {x.device!r} at datastream {x.datastream!r}"
            raise ValueError(f"{where}: start_ns must lie before end_ns, got {x.start_ns} and {x.end_ns}")
    _check_calibrations(directory.calibrations)


def _check_calibrations(calibrations: tuple[Calibration, ...]) -> None:
    seen: set[tuple[str, str, int]] = set()
    for c in calibrations:
        where = f"calibration of device {c.device!r} at datastream {c.datastream!r}"
        if not (math.isfinite(c.scale) and c.scale != 0):
            raise ValueError(f"{where}: scale must be a finite number other than 0, got {c.scale}")
        if not math.isfinite(c.offset):
            raise ValueError(f"{where}: offset must be a finite number, got {c.offset}")
        if not BEGINNING_NS <= c.valid_from_ns <= OPEN_NS:
            raise ValueError(f"{where}: valid_from_ns must be nanoseconds since 1970, got {c.valid_from_ns}")
        key = (c.device, c.datastream, c.valid_from_ns)
        if key in seen:
            raise ValueError(f"{where}: two are valid from the same moment, {c.valid_from_ns}")
        seen.add(key)


def _check_limits(limits: Limits, where: str) -> None:
    """A NaN or an infinity would silently switch a test off, and does not survive being written down."""
    for name in limits.__struct_fields__:
        value = getattr(limits, name)
        if value is not None and not math.isfinite(value):
            raise ValueError(f"{where}: {name} must be a finite number or left out, got {value}")
    for low, high in (("fail_min", "fail_max"), ("suspect_min", "suspect_max")):
        minimum, maximum = getattr(limits, low), getattr(limits, high)
        if minimum is not None and maximum is not None and minimum > maximum:
            raise ValueError(f"{where}: {low} must not be above {high}, got {minimum} and {maximum}")
    for name in ("rate_max_per_s", "flat_tolerance", "flat_suspect_s", "flat_fail_s"):
        value = getattr(limits, name)
        if value is not None and value < 0:
            raise ValueError(f"{where}: {name} must be 0 or more, got {value}")


def check_ladder(ladder: Ladder, where: str) -> None:
    """Raise ValueError, naming ``where``, if a ladder's steps are too many, unordered, or not finite."""
    if len(ladder.steps) > MAX_STEPS:
        raise ValueError(f"{where}: at most {MAX_STEPS} thresholds, got {len(ladder.steps)}")
    if ladder.direction not in (Direction.ABOVE, Direction.BELOW):
        raise ValueError(f"{where}: direction must be 1 (above) or -1 (below), got {ladder.direction}")
    if ladder.gate not in tuple(Gate):
        raise ValueError(f"{where}: gate must be one of {[int(g) for g in Gate]}, got {ladder.gate}")
    if not (math.isfinite(ladder.deadband) and ladder.deadband >= 0):
        raise ValueError(f"{where}: deadband must be 0 or more, got {ladder.deadband}")
    for name in ("on_delay_s", "off_delay_s"):
        value = getattr(ladder, name)
        if not 0 <= value <= MAX_DURATION_S:
            raise ValueError(f"{where}: {name} must be from 0 to {MAX_DURATION_S:.0f}, got {value}")
    if any(not math.isfinite(s.value) for s in ladder.steps):
        raise ValueError(f"{where}: a threshold must be a finite number")
    if any(s.severity not in (Severity.WASPADA, Severity.SIAGA, Severity.AWAS) for s in ladder.steps):
        raise ValueError(f"{where}: severity must be 1 (waspada), 2 (siaga) or 3 (awas)")
    ordered = sorted(ladder.steps, key=lambda s: s.value * ladder.direction)
    if list(ladder.steps) != ordered or len({s.value for s in ladder.steps}) != len(ladder.steps):
        raise ValueError(
            f"{where}: thresholds must go from the mildest to the worst, got {[s.value for s in ladder.steps]}"
        )
    if any(a.severity > b.severity for a, b in zip(ladder.steps, ladder.steps[1:], strict=False)):
        raise ValueError(f"{where}: severity must not fall along the ladder")
