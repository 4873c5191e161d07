"""Checks of what people enter about sites, devices and datastreams, with messages for the one who typed it.

What needs the rest of the registry, such as names that do not exist, is checked in ``devices.changes``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import msgspec

from devices.entities import CalibrationEntry, DatastreamEntry, DeviceEntry, District, SiteEntry
from devices.errors import InvalidEntryError
from telemetry.directory import CLOCKS, MAX_DURATION_S, Limits, check_ladder
from telemetry.properties import PROPERTIES

RESERVED_DEVICE = "clock"
"""The topic level of the simulated clock; a device of that name could not be told from it."""

_BAD_ID = re.compile(r"[\s/+#\\\x00-\x1f\x7f]")
_BAD_DATASTREAM_ID = re.compile(r"[\s\\\x00-\x1f\x7f]")
_EUI = re.compile(r"[0-9A-F]{16}")
LATEST_NS = 7_258_118_400 * 10**9
"""The year 2200, in ns since 1970."""
_POSITIVE = ("rate_max_per_s", "flat_suspect_s", "flat_fail_s")


class _Polygon(msgspec.Struct, tag="Polygon"):
    coordinates: list[list[list[float]]]


class _MultiPolygon(msgspec.Struct, tag="MultiPolygon"):
    coordinates: list[list[list[list[float]]]]


def check_id(name: str, what: str) -> None:
    """An id becomes a topic level and a tag: 1 to 200 characters without spaces and without ``/ + # \\``.

    Examples
    --------
    >>> check_id("katulampa-01", "device")
    >>> check_id("katulampa/01", "device")
    Traceback (most recent call last):
        ...
    devices.errors.InvalidEntryError: device id 'katulampa/01' must be 1 to 200 characters without spaces, / + # and \\
    """
    if not 1 <= len(name) <= 200 or _BAD_ID.search(name):
        raise InvalidEntryError(f"{what} id {name!r} must be 1 to 200 characters without spaces, / + # and \\")


def check_position(site: SiteEntry, what: str = "site") -> None:
    """Latitude within ±90° and longitude within ±180°; says so if the two look swapped.

    Examples
    --------
    >>> check_position(SiteEntry("dayeuhkolot", "Dayeuhkolot", 107.62, -6.98))
    Traceback (most recent call last):
        ...
    devices.errors.InvalidEntryError: site 'dayeuhkolot': latitude and longitude look swapped: latitude 107.62, \
longitude -6.98
    """
    latitude, longitude = site.latitude, site.longitude
    where = f"latitude {latitude}, longitude {longitude}"
    if -90 <= latitude <= 90 and -180 <= longitude <= 180:
        return
    if -90 <= longitude <= 90 and -180 <= latitude <= 180:
        raise InvalidEntryError(f"{what} {site.id!r}: latitude and longitude look swapped: {where}")
    raise InvalidEntryError(
        f"{what} {site.id!r}: {where} is no place on Earth (expected degrees, -90..90 and -180..180)"
    )


def check_text(value: str, where: str, *, longest: int = 10_000) -> None:
    """Any text but what a database cannot keep: NUL, and halves of characters."""
    if len(value) > longest:
        raise InvalidEntryError(f"{where} must have at most {longest} characters, got {len(value)}")
    if "\x00" in value or any("\ud800" <= c <= "\udfff" for c in value):
        raise InvalidEntryError(f"{where} holds a character that is none (NUL or half a pair), got {value!r}")


def check_site_entry(site: SiteEntry) -> None:
    """Raise InvalidEntryError if the site cannot be right."""
    check_id(site.id, "site")
    check_position(site)
    for name in ("name", "datum", "district"):
        check_text(getattr(site, name), f"site {site.id!r}: {name}")
    if site.elevation_m is not None and not -500 <= site.elevation_m <= 9000:
        raise InvalidEntryError(f"site {site.id!r}: elevation_m must be from -500 to 9000, got {site.elevation_m}")


def check_swapped(site: SiteEntry, others: Sequence[tuple[float, float]]) -> None:
    """Refuse a position that lies where the city is only with latitude and longitude swapped.

    Near the equator and Greenwich a swapped position is a place on Earth as well, but one far from all others.

    Parameters
    ----------
    site : SiteEntry
        The one to check.
    others : sequence of (latitude, longitude)
        Sites of the same city, taken for right; none: nothing is known.

    Examples
    --------
    >>> check_swapped(SiteEntry("tinsley", "Tinsley", -1.4, 53.4), [(53.41, -1.41)])
    Traceback (most recent call last):
        ...
    devices.errors.InvalidEntryError: site 'tinsley': latitude and longitude look swapped: latitude -1.4, \
longitude 53.4 is far from every other site of the city
    """
    if not others:
        return
    as_given = min(max(abs(site.latitude - a), abs(site.longitude - o)) for a, o in others)
    swapped = min(max(abs(site.longitude - a), abs(site.latitude - o)) for a, o in others)
    if as_given > 5 and swapped < 1:
        raise InvalidEntryError(
            f"site {site.id!r}: latitude and longitude look swapped: latitude {site.latitude}, longitude "
            f"{site.longitude} is far from every other site of the city"
        )


def normal_device(device: DeviceEntry) -> DeviceEntry:
    """The EUI in capitals without separators, as it is compared; spaces around serial number and alias cut off.

    Examples
    --------
    >>> normal_device(DeviceEntry("a", eui="24-e1-24-71-0d-3a-00-0f")).eui
    '24E124710D3A000F'
    """
    eui = re.sub(r"[\s:.-]", "", device.eui).upper()
    serial, alias = device.serial.strip(), device.alias.strip()
    if eui == device.eui and serial == device.serial and alias == device.alias:
        return device
    return msgspec.structs.replace(device, eui=eui, serial=serial, alias=alias)


def check_device_entry(device: DeviceEntry) -> None:
    """Raise InvalidEntryError if the device cannot be right."""
    check_id(device.id, "device")
    where = f"device {device.id!r}"
    if device.id == RESERVED_DEVICE:
        raise InvalidEntryError(f"device id {device.id!r} is taken by the clock's topic; choose another")
    if not (math.isfinite(device.silence_after_s) and device.silence_after_s > 0):
        raise InvalidEntryError(f"{where}: silence_after_s must be above 0, got {device.silence_after_s}")
    if device.silence_after_s > MAX_DURATION_S:
        raise InvalidEntryError(
            f"{where}: silence_after_s must be at most {MAX_DURATION_S:.0f}, got {device.silence_after_s}"
        )
    for name in ("serial", "model", "firmware", "alias"):
        check_text(getattr(device, name), f"{where}: {name}", longest=200)
    if device.clock not in CLOCKS:
        raise InvalidEntryError(f"{where}: clock must be one of {', '.join(CLOCKS)}, got {device.clock!r}")
    if device.interval_s is not None and not 0 < device.interval_s <= MAX_DURATION_S:
        raise InvalidEntryError(
            f"{where}: interval_s must be above 0 and at most {MAX_DURATION_S:.0f}, or left out, "
            f"got {device.interval_s}"
        )
    if device.eui and not _EUI.fullmatch(device.eui):
        raise InvalidEntryError(f"{where}: eui must be 16 hexadecimal digits, got {device.eui!r}")


def check_datastream_entry(stream: DatastreamEntry) -> None:
    """Raise InvalidEntryError if the datastream cannot be right.

    Its id is a tag but no topic level, so it may hold ``/``, as in ``dayeuhkolot/water_level_m``.
    """
    if not 1 <= len(stream.id) <= 200 or _BAD_DATASTREAM_ID.search(stream.id):
        raise InvalidEntryError(f"datastream id {stream.id!r} must be 1 to 200 characters without spaces and \\")
    where = f"datastream {stream.id!r}"
    check_property(stream.property, where)
    check_limits(stream.limits, where)
    check_text(stream.label, f"{where}: label", longest=200)
    for step in stream.ladder.steps:
        check_text(step.label, f"{where}: label of a threshold", longest=200)
    try:
        check_ladder(stream.ladder, where)
    except ValueError as error:
        raise InvalidEntryError(str(error)) from error


def check_property(name: str, where: str) -> None:
    """It must be in the catalogue of observed properties."""
    if name not in PROPERTIES:
        raise InvalidEntryError(f"{where}: unknown observed property {name!r} (known: {', '.join(sorted(PROPERTIES))})")


def check_calibration(entry: CalibrationEntry) -> None:
    """Raise InvalidEntryError if the calibration cannot be right."""
    where = f"calibration of device {entry.device!r}"
    check_property(entry.property, where)
    if not (math.isfinite(entry.scale) and entry.scale != 0):
        raise InvalidEntryError(f"{where}: scale must be a finite number other than 0, got {entry.scale}")
    if not math.isfinite(entry.offset):
        raise InvalidEntryError(f"{where}: offset must be a finite number, got {entry.offset}")
    check_time(entry.valid_from_ns, f"{where}: valid_from_ns")


def check_time(at_ns: int, where: str) -> None:
    """Between 1970 and 2200, in nanoseconds: other units show themselves by this."""
    if not 0 <= at_ns <= LATEST_NS:
        raise InvalidEntryError(f"{where} must be nanoseconds since 1970 (until 2200), got {at_ns}")


def check_district(district: District) -> None:
    """A code, a name, and a Polygon or MultiPolygon whose positions are on Earth."""
    where = f"district {district.code!r}"
    if not 1 <= len(district.code) <= 200:
        raise InvalidEntryError(f"{where}: the code must have 1 to 200 characters")
    check_text(district.code, where)
    check_text(district.name, f"{where}: name")
    if not district.geojson:
        return
    try:
        geometry = msgspec.json.decode(district.geojson, type=_Polygon | _MultiPolygon)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise InvalidEntryError(f"{where}: the border must be a GeoJSON Polygon or MultiPolygon ({error})") from error
    polygons = [geometry.coordinates] if isinstance(geometry, _Polygon) else geometry.coordinates
    for ring in (ring for polygon in polygons for ring in polygon):
        if len(ring) < 4 or ring[0] != ring[-1]:
            raise InvalidEntryError(
                f"{where}: a ring of its border must have 4 or more positions and end where it began"
            )
        for position in ring:
            if len(position) < 2:
                raise InvalidEntryError(
                    f"{where}: a position of its border must be [longitude, latitude], got {position}"
                )
            longitude, latitude = position[:2]
            check_position(SiteEntry(district.code, "", latitude, longitude), "district")


def check_limits(limits: Limits, where: str) -> None:
    """Every limit is a finite number, the spans have a minimum below their maximum, times and rates are above 0."""
    for name in limits.__struct_fields__:
        value = getattr(limits, name)
        if value is not None and not math.isfinite(value):
            raise InvalidEntryError(f"{where}: {name} must be a finite number, got {value}")
    for name in _POSITIVE:
        value = getattr(limits, name)
        if value is not None and value <= 0:
            raise InvalidEntryError(f"{where}: {name} must be above 0, got {value}")
    if limits.flat_tolerance < 0:
        raise InvalidEntryError(f"{where}: flat_tolerance must be 0 or more, got {limits.flat_tolerance}")
    for low, high in (("fail_min", "fail_max"), ("suspect_min", "suspect_max")):
        minimum, maximum = getattr(limits, low), getattr(limits, high)
        if minimum is not None and maximum is not None and minimum >= maximum:
            raise InvalidEntryError(f"{where}: {low} must be below {high}, got {minimum} and {maximum}")
