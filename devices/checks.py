"""Checks of what people enter about sites, devices and datastreams, with messages for the one who typed it.

What the Directory itself checks (unknown property, order of a ladder, names that do not exist) is left to it.
"""

from __future__ import annotations

import math
import re

from devices.errors import InvalidEntryError
from telemetry.directory import Datastream, Device, Limits, Site

RESERVED_DEVICE = "clock"
"""The topic level of the simulated clock; a device of that name could not be told from it."""

_BAD_ID = re.compile(r"[\s/+#\\\x00-\x1f\x7f]")
_BAD_DATASTREAM_ID = re.compile(r"[\s\\\x00-\x1f\x7f]")
_POSITIVE = ("rate_max_per_s", "flat_suspect_s", "flat_fail_s")


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


def check_position(site: Site) -> None:
    """Latitude within ±90° and longitude within ±180°; says so if the two look swapped.

    Examples
    --------
    >>> check_position(Site("dayeuhkolot", "Dayeuhkolot", 107.62, -6.98))
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
        raise InvalidEntryError(f"site {site.id!r}: latitude and longitude look swapped: {where}")
    raise InvalidEntryError(f"site {site.id!r}: {where} is no place on Earth (expected degrees, -90..90 and -180..180)")


def check_site(site: Site) -> None:
    """Raise InvalidEntryError if the site cannot be right."""
    check_id(site.id, "site")
    check_position(site)


def check_device(device: Device) -> None:
    """Raise InvalidEntryError if the device cannot be right."""
    check_id(device.id, "device")
    if device.id == RESERVED_DEVICE:
        raise InvalidEntryError(f"device id {device.id!r} is taken by the clock's topic; choose another")
    if not (math.isfinite(device.silence_after_s) and device.silence_after_s > 0):
        raise InvalidEntryError(f"device {device.id!r}: silence_after_s must be above 0, got {device.silence_after_s}")


def check_datastream(stream: Datastream) -> None:
    """Raise InvalidEntryError if the datastream's id or limits cannot be right.

    Its id is a tag but no topic level, so it may hold ``/``, as in ``dayeuhkolot/water_level_m``.
    """
    if not 1 <= len(stream.id) <= 200 or _BAD_DATASTREAM_ID.search(stream.id):
        raise InvalidEntryError(f"datastream id {stream.id!r} must be 1 to 200 characters without spaces and \\")
    check_limits(stream.limits, f"datastream {stream.id!r}")


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
