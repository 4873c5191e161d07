"""Pantau JSON: the payload of topics ``pantau/v1/<city>/<device>``, and of the clock.

Its forms::

    {"time": T, "property": "water_level_m", "value": 1.24, "unit": "m"}
    {"time": T, "values": {"water_level_m": 1.24, "battery_v": 3.6}, "units": {"water_level_m": "m"}}
    [ ...any of these, each of which may name another "device"... ]
    {"readings": [ ...the same... ]}

T is an RFC 3339 string with a zone, or Unix seconds (|T| < 1e11), milliseconds (< 1e14), microseconds (< 1e17) or
nanoseconds. Without T the time of reception counts, without a unit the property's own. ``time``, ``unit``, ``units``
and ``device`` may be null, which means the same as leaving them out. Unknown fields are allowed and mean nothing.

The first form, which nearly all devices send, takes a short way; everything else, and everything wrong, a careful one.
"""

from __future__ import annotations

import datetime
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from ingest.dead_letters import Reason
from ingest.readings import FIRST_NS, LAST_NS, Fragment, Readings, RefusedError, convert, short
from telemetry.observations import NS_PER_S
from telemetry.properties import PROPERTIES


class _One(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    property: str
    value: float
    time: int | float | str | None = None
    unit: str | None = None


class _Item(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """One of several readings."""

    property: str
    value: float
    time: int | float | str | None = None
    unit: str | None = None
    device: str | None = None


class _Group(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    readings: list[_Item]


_decode_one = msgspec.json.Decoder(_One).decode
_decode_lines = msgspec.json.Decoder(_One).decode_lines
_decode_many = msgspec.json.Decoder(list[_Item] | _Group).decode
_decode_any = msgspec.json.Decoder().decode


def decode(payload: bytes, streams: Mapping[str, int], readings: Readings) -> None:
    """Add all readings of ``payload`` to ``readings``, or refuse them with a reason. Never raises.

    Parameters
    ----------
    payload : bytes
    streams : property name → feed
        Of the topic's device.
    readings : Readings
    """
    try:
        one = _decode_one(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        several = payload[:1] == b"[" or b'"readings"' in payload
        if not (several and _decode_several(payload, streams, readings)):
            _decode_carefully(payload, streams, readings)
        return
    try:
        observed_at = None if one.time is None else time_ns(one.time)
        index = streams.get(one.property)
        if index is None:
            raise unknown_property(one.property, streams)
        readings.add(index, one.property, one.value, one.unit, observed_at)
    except RefusedError as refused:
        readings.refuse(refused.reason, refused.detail)


def decode_together(payloads: list[bytes], streams: list[Mapping[str, int]], readings: Readings, first: int) -> bool:
    """Take messages that each hold one plain reading, all or none; whether they were taken.

    Parameters
    ----------
    payloads : list of bytes
    streams : list of (property name → feed)
        Of the device of each message.
    readings : Readings
    first : int
        Number of the first message; the others follow.
    """
    lines = b"\n".join(payloads)
    # Each line must be one value, or the readings of one sender could be taken for those of another. A string can't
    # hold a line break, so a brace at the beginning of a line opens an object; in the plain form that is a new value.
    n = len(payloads)
    if lines[:1] != b"{" or lines.count(b"\n{") != n - 1 or lines.count(b"\n") != n - 1 or lines.count(b"{") != n:
        return False
    try:
        ones = _decode_lines(lines)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    if len(ones) != n:
        return False
    feeds = [of_device.get(one.property) for of_device, one in zip(streams, ones, strict=True)]
    if None in feeds:
        return False
    try:
        times = _times_ns([one.time for one in ones])
        values = [one.value if one.unit is None else convert(one.property, one.value, one.unit) for one in ones]
    except RefusedError:
        return False
    readings.add_messages(feeds, times, values, first)  # type: ignore[arg-type]
    return True


class PantauJson:
    """The format on a feed's topics: the device is the topic's last level."""

    def decode(self, topic: str, payload: bytes, readings: Readings) -> None:
        """See ``Format``."""
        try:
            _, streams = readings.find(topic.rpartition("/")[2])
        except RefusedError as refused:
            readings.refuse(refused.reason, refused.detail)
            return
        decode(payload, streams, readings)


def decode_clock(payload: bytes) -> tuple[int, float]:
    """What a clock message ``{"now": T, "speed": 60}`` says: [ns since 1970 UTC], [times real time; 1 if not given].

    Raises
    ------
    RefusedError

    Examples
    --------
    >>> decode_clock(b'{"now": "1970-01-01T00:00:02Z", "speed": 60}')
    (2000000000, 60.0)
    """
    content = parse(payload)
    if not isinstance(content, dict) or "now" not in content:
        raise RefusedError(Reason.WRONG_TYPE, "a clock message must be an object with the field now")
    speed = content.get("speed", 1)
    if isinstance(speed, bool) or not isinstance(speed, int | float) or not 0 < speed < 1e12:
        raise RefusedError(Reason.WRONG_TYPE, f"speed must be a number above 0, got {short(str(speed))} ($.speed)")
    return time_ns(content["now"], "$.now"), float(speed)


def time_ns(time: object, path: str = "$.time") -> int:
    """A time T as [ns since 1970 UTC], within int64.

    Numbers with a fraction are rounded to the microsecond, which is what float64 holds of a time of today.

    Parameters
    ----------
    time : int, float or str
        Anything else is refused.
    path : str
        Where it stood, for the sentence of a refusal.

    Raises
    ------
    RefusedError

    Examples
    --------
    >>> time_ns(1732447931), time_ns(1732447931.25), time_ns(1732447931250)
    (1732447931000000000, 1732447931250000000, 1732447931250000000)
    >>> time_ns("2024-11-24T18:32:11.25+07:00")
    1732447931250000000
    """
    if type(time) is str:
        head, tail = _heads.get(time[:16]), _tails.get(time[16:])
        return _string_ns(time, path) if head is None or tail is None else head + tail
    if type(time) is int:
        size = abs(time)
        if size < 100_000_000_000:
            ns = time * NS_PER_S
        elif size < 100_000_000_000_000:
            ns = time * 1_000_000
        elif size < 100_000_000_000_000_000:
            ns = time * 1000
        else:
            ns = time
    elif type(time) is float:
        if not math.isfinite(time):
            raise RefusedError(Reason.NOT_FINITE, f"{path} is not finite")
        magnitude = abs(time)
        if magnitude < 1e11:
            ns = round(time * 1e6) * 1000
        elif magnitude < 1e14:
            ns = round(time * 1e3) * 1000
        elif magnitude < 1e17:
            ns = round(time) * 1000
        else:
            ns = int(time)
    else:
        raise RefusedError(Reason.WRONG_TYPE, f"{path} must be a string or a number, got {kind(time)}")
    if ns > LAST_NS:
        raise RefusedError(Reason.TIME_IN_FUTURE, f"{path} is {kind(time)}: after the year 2261")
    if ns < FIRST_NS:
        raise RefusedError(Reason.TIME_TOO_OLD, f"{path} is {kind(time)}: before the year 1678")
    return ns


def _times_ns(times: list[Any]) -> list[int]:
    """``time_ns`` of each; whole numbers, of which there are many, at once."""
    if set(map(type, times)) == {int} and max(map(abs, times)) < LAST_NS:
        number = np.array(times, dtype=np.int64)
        size = np.abs(number)
        scale = np.select([size < 10**11, size < 10**14, size < 10**17], [NS_PER_S, 1_000_000, 1000], 1)
        if (size <= LAST_NS // scale).all():
            return (number * scale).tolist()  # type: ignore[no-any-return]
    return [time_ns(time) for time in times]


_HEAD = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d)", re.ASCII)
_TAIL = re.compile(r":(\d\d)(?:\.(\d+))?(?:([Zz])|([+-])(\d\d):(\d\d))?", re.ASCII)
_heads: dict[str, int] = {}
"""``2024-11-24T11:32`` → its ns. Devices of a city send the same few minutes again and again."""
_tails: dict[str, int] = {}
"""``:11.250+07:00`` → the ns to add."""


def _string_ns(time: str, path: str) -> int:
    """``time_ns`` of an RFC 3339 string; digits below the nanosecond are cut off. A leap second is the next one."""
    head, tail = _HEAD.fullmatch(time[:16]), _TAIL.fullmatch(time[16:])
    if head is None or tail is None:
        raise RefusedError(Reason.MALFORMED_TIME, f"{path} must be like 2024-11-24T11:32:11Z, got {short(time)}")
    year, month, day, hour, minute = (int(part) for part in head.groups())
    second, fraction, utc, sign, zone_hour, zone_minute = tail.groups()
    if utc is None and sign is None:
        raise RefusedError(
            Reason.TIME_WITHOUT_ZONE, f"{path} must say its zone, like 2024-11-24T11:32:11Z, got {short(time)}"
        )
    try:
        days = datetime.date(year, month, day).toordinal() - datetime.date(1970, 1, 1).toordinal()
    except ValueError as error:
        raise RefusedError(Reason.MALFORMED_TIME, f"{path} is no time: {short(time)}: {error}") from error
    zone_s = 0 if sign is None else (int(zone_hour) * 3600 + int(zone_minute) * 60) * (-1 if sign == "+" else 1)
    if hour > 23 or minute > 59 or int(second) > 60 or (sign and (int(zone_hour) > 23 or int(zone_minute) > 59)):
        raise RefusedError(Reason.MALFORMED_TIME, f"{path} is no time: {short(time)}")
    if not 1678 <= year <= 2261:
        reason = Reason.TIME_IN_FUTURE if year > 2261 else Reason.TIME_TOO_OLD
        raise RefusedError(reason, f"{path} is {short(time)}: not within the years 1678 to 2261")
    head_ns = (days * 86_400 + hour * 3600 + minute * 60) * NS_PER_S
    tail_ns = (int(second) + zone_s) * NS_PER_S + (int(fraction[:9].ljust(9, "0")) if fraction else 0)
    if len(_heads) >= 5_000:
        _heads.clear()
    if len(_tails) >= 50_000:
        _tails.clear()
    _heads[time[:16]] = head_ns
    if len(time) < 50:
        _tails[time[16:]] = tail_ns
    return head_ns + tail_ns


def parse(payload: bytes) -> Any:
    """JSON as Python objects; NaN, Infinity and numbers beyond float64 become floats that are not finite."""
    if not payload.strip():
        raise RefusedError(Reason.EMPTY_PAYLOAD, "payload is empty")
    try:
        return _decode_any(payload)
    except RecursionError as error:
        raise RefusedError(Reason.MALFORMED_JSON, "payload is nested too deeply") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        try:
            text = payload.decode()
        except UnicodeDecodeError as bad_bytes:
            raise RefusedError(Reason.INVALID_UTF8, f"payload is not UTF-8: {bad_bytes}") from error
        # The standard library's parser takes NaN and huge numbers: so their readings can be told from the good ones.
        try:
            return json.loads(text, parse_int=_int)
        except (ValueError, RecursionError):
            raise RefusedError(Reason.MALFORMED_JSON, f"payload is not JSON: {error}") from error


def _int(digits: str) -> int | float:
    return int(digits) if len(digits) <= 300 else float(digits)


def _decode_several(payload: bytes, streams: Mapping[str, int], readings: Readings) -> bool:
    """Take a list of plain readings, all or none; whether it was taken."""
    try:
        many = _decode_many(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    items = many.readings if type(many) is _Group else many
    feeds: list[int] = []
    times: list[int] = []
    values: list[float] = []
    feed_of, to_ns = readings.feed_of, time_ns
    last_time: int | float | str | None = None
    observed_at = 0
    spoken_for: str | None = None
    whose: Mapping[str, int] | None = streams
    try:
        for item in items:
            if item.device != spoken_for:
                spoken_for = item.device
                if spoken_for is None:
                    whose = streams
                else:
                    whose = feed_of.get(spoken_for) if readings.may_speak_for(spoken_for) else None
                if whose is None:
                    return False
            feed = whose.get(item.property)  # type: ignore[union-attr]
            if feed is None or item.time is None:
                return False
            if item.time != last_time or type(item.time) is not type(last_time):
                last_time = item.time
                observed_at = to_ns(last_time)
            feeds.append(feed)
            times.append(observed_at)
            values.append(item.value if item.unit is None else convert(item.property, item.value, item.unit))
    except RefusedError:
        return False
    if len(items) < 2:
        return False
    readings.add_several(feeds, times, values, _items_of)
    return True


def _items_of(payload: bytes) -> list[Fragment]:
    """The readings as they stand in a payload that ``_decode_several`` took."""
    content = parse(payload)
    return [(item, None) for item in (content["readings"] if isinstance(content, dict) else content)]


def _decode_carefully(payload: bytes, streams: Mapping[str, int], readings: Readings) -> None:
    try:
        content = parse(payload)
    except RefusedError as refused:
        readings.refuse(refused.reason, refused.detail)
        return
    if isinstance(content, dict) and "readings" in content:
        items, path = content["readings"], "$.readings"
        if not isinstance(items, list):
            readings.refuse(Reason.WRONG_TYPE, f"{path} must be a list, got {kind(items)}")
            return
        # What stands beside the list holds for each of its objects that does not say otherwise.
        common = {name: content[name] for name in ("device", "time") if content.get(name) is not None}
        if common:
            items = [common | item if isinstance(item, dict) else item for item in items]
    elif isinstance(content, list):
        items, path = content, "$"
    else:
        _decode_object(content, "$", streams, readings, alone=True)
        return
    if not items:
        readings.refuse(Reason.NO_READINGS, f"{path} is an empty list")
    for number, item in enumerate(items):
        _decode_object(item, f"{path}[{number}]", streams, readings, alone=len(items) == 1)


def _decode_object(item: Any, path: str, streams: Mapping[str, int], readings: Readings, *, alone: bool) -> None:
    """Add or refuse the reading or the readings of one object; ``alone`` if the message holds nothing else."""
    whole = None if alone else (item, None)
    device = item.get("device") if isinstance(item, dict) else None
    named = device if isinstance(device, str) else None
    try:
        values, units = _values(item, path)
    except RefusedError as refused:
        readings.refuse(refused.reason, refused.detail, device=named, fragment=whole)
        return
    single = "values" not in item
    problem: RefusedError | None = None
    observed_at: int | None = None
    try:
        if device is not None:
            streams = _streams_of(device, path, readings)
        if item.get("time") is not None:
            observed_at = time_ns(item["time"], f"{path}.time")
    except RefusedError as refused:
        problem = refused  # of every reading of this object
        if refused.reason is Reason.NOT_A_GATEWAY:
            named = None  # it is the sender's fault, not that of the device whose name it took
    for name, value in values.items():
        fragment = whole if single else (None if alone and len(values) == 1 else (item, name))
        try:
            if problem is not None:
                raise problem
            index = streams.get(name)
            if index is None:
                raise unknown_property(name, streams)
            where = f"{path}.value" if single else f"{path}.values.{name}"
            unit = units.get(name)
            if unit is not None and type(unit) is not str:
                raise RefusedError(Reason.WRONG_TYPE, f"{where}: its unit must be a string, got {kind(unit)}")
            readings.add(index, name, number_of(value, name, where), unit, observed_at, fragment)
        except RefusedError as refused:
            readings.refuse(refused.reason, refused.detail, device=named, fragment=fragment)


def _values(item: Any, path: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The values and the units by property, whichever of the two forms ``item`` has."""
    if not isinstance(item, dict):
        raise RefusedError(Reason.WRONG_TYPE, f"{path} must be an object, got {kind(item)}")
    if "values" not in item:
        name = item.get("property")
        if type(name) is not str:
            what = f"must be a string, got {kind(name)}" if "property" in item else "is missing"
            raise RefusedError(Reason.WRONG_TYPE, f"{path}.property {what}")
        if item.get("units") is not None:
            raise RefusedError(Reason.WRONG_TYPE, f"{path}.units goes with values; a single value has a unit")
        return {name: item.get("value")}, {name: item.get("unit")}
    for name in ("property", "value", "unit"):
        if item.get(name) is not None:
            raise RefusedError(Reason.WRONG_TYPE, f"{path}.{name} must not stand beside values")
    values, units = item["values"], item.get("units")
    if not isinstance(values, dict):
        raise RefusedError(Reason.WRONG_TYPE, f"{path}.values must be an object, got {kind(values)}")
    if units is not None and not isinstance(units, dict):
        raise RefusedError(Reason.WRONG_TYPE, f"{path}.units must be an object, got {kind(units)}")
    if not values:
        raise RefusedError(Reason.NO_READINGS, f"{path}.values is empty")
    return values, units or {}


def _streams_of(device: object, path: str, readings: Readings) -> Mapping[str, int]:
    if type(device) is not str:
        raise RefusedError(Reason.WRONG_TYPE, f"{path}.device must be a string, got {kind(device)}")
    if not readings.may_speak_for(device):
        raise RefusedError(
            Reason.NOT_A_GATEWAY,
            f"{path}.device names {short(device)}, but the topic's device is not registered as a gateway",
        )
    try:
        _, streams = readings.find(device)
    except RefusedError as refused:
        raise RefusedError(refused.reason, f"{path}.device: {refused.detail}") from None
    return streams


def unknown_property(name: str, streams: Mapping[str, int]) -> RefusedError:
    if name in PROPERTIES:
        if not streams:
            return RefusedError(Reason.NOT_INSTALLED, f"this device is not installed anywhere: no place for its {name}")
        return RefusedError(Reason.UNKNOWN_PROPERTY, f"this device has no datastream of {name}")
    return RefusedError(Reason.UNKNOWN_PROPERTY, f"{short(name)} is no observed property")


def number_of(value: object, property_name: str, where: str) -> float:
    if type(value) is float or type(value) is int:
        return finite(value, where)
    if value is None:
        raise RefusedError(Reason.MISSING_VALUE, f"{where} is null or missing")
    if type(value) is bool and property_name == "connected":
        return float(value)
    raise RefusedError(Reason.WRONG_TYPE, f"{where} must be a number, got {kind(value)}")


def finite(value: float, where: str) -> float:
    """A number of JSON, which may be an integer of any size, as a float. Raises RefusedError."""
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise RefusedError(Reason.NOT_FINITE, f"{where} is not a finite number")
    return number


def kind(value: object) -> str:
    """What came, for a sentence."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the string {short(value)}"
    if isinstance(value, float):
        return f"the number {value!r}"
    if isinstance(value, int):
        return f"the number {value}" if abs(value) < 10**40 else "a huge number"
    return "a list" if isinstance(value, list) else "an object"
