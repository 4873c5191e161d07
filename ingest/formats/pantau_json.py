"""Pantau JSON: the payload of topics ``pantau/v1/<city>/<device>``, and of the clock.

Its forms::

    {"time": T, "property": "water_level_m", "value": 1.24, "unit": "m"}
    {"time": T, "values": {"water_level_m": 1.24, "battery_v": 3.6}, "units": {"water_level_m": "m"}}
    [ ...any of these, each of which may name another "device"... ]
    {"readings": [ ...the same... ]}

T is an RFC 3339 string with a zone, or Unix seconds (|T| < 1e11), milliseconds (< 1e14), microseconds (< 1e17) or
nanoseconds. Without T the time of reception counts, without a unit the property's own. ``time``, ``unit``, ``units``
and ``device`` may be null, which means the same as leaving them out. Unknown fields are allowed and mean nothing.

Messages of the first form, or lists of it, that come together are taken together, column by column; so is nearly all
that comes. A single one takes a short way; everything else, and everything wrong, a careful one.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from ingest.dead_letters import Reason
from ingest.formats.times import time_ns, times_ns
from ingest.readings import Fragment, Readings, RefusedError, convert, factors_of, kind, short
from ingest.senders import Senders
from telemetry.properties import PROPERTIES

_Name = Literal[tuple(PROPERTIES)]  # type: ignore[valid-type]
"""The decoder gives the same string each time, so that a dictionary finds it without comparing."""


class _Plain(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """The least that a reading says."""

    property: _Name  # type: ignore[valid-type]
    value: float
    time: int | float | str | None = None


class _One(_Plain, gc=False, forbid_unknown_fields=True):
    """One reading, alone in its message."""

    unit: str | None = None


class _Item(_One, gc=False, forbid_unknown_fields=True):
    """One of several readings."""

    device: str | None = None


class _Group(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    readings: list[_Item]


_decode_one = msgspec.json.Decoder(_One).decode
_decode_plain_lines = msgspec.json.Decoder(_Plain).decode_lines
_decode_plain_lists = msgspec.json.Decoder(list[_Plain]).decode_lines
_decode_lines = msgspec.json.Decoder(_One).decode_lines
_decode_lists = msgspec.json.Decoder(list[_Item]).decode_lines
_decode_groups = msgspec.json.Decoder(_Group).decode_lines
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


def decode_together(
    payloads: list[bytes], topics: list[bytes], senders: Senders, readings: Readings, first: int
) -> bool:
    """Take messages that each hold plain readings, all or none; whether they were taken.

    All of them must hold one reading each, or all a list of readings.

    Parameters
    ----------
    payloads, topics : list of bytes
    senders : Senders
        Of the broker they came through.
    readings : Readings
    first : int
        Number of the first message; the others follow.
    """
    lines, n = b"\n".join(payloads), len(payloads)
    # Each line must be one value, or the readings of one sender could be taken for those of another. Without a line
    # break in a payload, and with each beginning with a bracket, each line begins a value: nothing that is decoded here
    # has an object or a list where a bracket at the beginning of a line would be anything else. With as many values as
    # lines, each is one.
    # For groups the bracket is not enough: it could be that of a reading inside the group before.
    if lines.count(b"\n") != n - 1:
        return False
    if len(lines) > readings.max_payload_bytes and max(map(len, payloads)) > readings.max_payload_bytes:
        return False
    try:
        brackets = set(map(_first_byte, payloads))
        if brackets == _BRACE:
            if not payloads[0].startswith(_GROUP):
                ones = _either(_decode_plain_lines, _decode_lines, lines)
                return _take_ones(ones, topics, senders, readings, first)
            if not all(payload.startswith(_GROUP) for payload in payloads):
                return False
            lists = [group.readings for group in _decode_groups(lines)]
        elif brackets == _BRACKET:
            lists = _either(_decode_plain_lists, _decode_lists, lines)
        else:
            return False
        return _take_lists(lists, topics, senders, readings, first)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, RefusedError, IndexError):
        return False


_BRACE, _BRACKET, _GROUP = {ord("{")}, {ord("[")}, b'{"readings"'
_first_byte = itemgetter(0)


def _either(decode_plain: Callable[[bytes], Any], decode: Callable[[bytes], Any], lines: bytes) -> Any:
    """What the plain decoder gives or, if it finds more than that, the other one."""
    try:
        return decode_plain(lines)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return decode(lines)


def _take_ones(ones: list[Any], topics: list[bytes], senders: Senders, readings: Readings, first: int) -> bool:
    if len(ones) != len(topics):
        return False
    properties = [one.property for one in ones]
    feeds = senders.feeds(topics, properties)
    if feeds is None:
        return False
    times = [one.time for one in ones]
    timeless = times[0] is None and times.count(None) == len(ones)
    if timeless and readings.received_at is None:
        return False
    observed_at = None if timeless else times_ns(times)
    units = None if type(ones[0]) is _Plain else [one.unit for one in ones]
    values = _values_of(properties, [one.value for one in ones], units)
    readings.add_columns(feeds, observed_at, values, first)
    return True


def _take_lists(lists: list[Any], topics: list[bytes], senders: Senders, readings: Readings, first: int) -> bool:
    counts = list(map(len, lists))
    if len(lists) != len(topics) or 0 in counts:
        return False
    items = list(itertools.chain.from_iterable(lists))
    plain = type(items[0]) is _Plain
    properties = [item.property for item in items]
    times = [item.time for item in items]
    timeless = times[0] is None and times.count(None) == len(items)
    if timeless and readings.received_at is None:
        return False
    feeds: npt.NDArray[np.int32] | None
    if not plain and any(item.device is not None for item in items):
        feeds = _feeds_behind(lists, topics, senders, readings, first)
    elif len(set(properties)) == 1:
        feeds = senders.feeds(topics, properties[: len(topics)])
        feeds = None if feeds is None else np.repeat(feeds, counts)
    else:
        senders_of = list(itertools.chain.from_iterable(map(itertools.repeat, topics, counts)))
        feeds = senders.feeds(senders_of, properties)
    if feeds is None:
        return False
    observed_at = None if timeless else times_ns(times)
    units = None if plain else [item.unit for item in items]
    values = _values_of(properties, [item.value for item in items], units)
    readings.add_columns(feeds, observed_at, values, first, counts, _items_of)
    return True


def _feeds_behind(
    lists: list[list[_Item]], topics: list[bytes], senders: Senders, readings: Readings, first: int
) -> npt.NDArray[np.int32] | None:
    """The feeds of items that may name other devices than that of the topic; None if there is anything odd."""
    feeds: list[int | None] = []
    for number, (items, topic) in enumerate(zip(lists, topics, strict=True), first):
        readings.message = number
        whose: dict[str | None, Mapping[str, int]] = {}
        for device in {item.device for item in items}:
            if device is None:
                streams = senders.streams(topic)
            else:
                streams = readings.feed_of.get(device) if readings.may_speak_for(device) else None
            if streams is None:
                return None
            whose[device] = streams
        feeds += [whose[item.device].get(item.property) for item in items]
    return None if None in feeds else np.array(feeds, dtype=np.int32)


def _values_of(properties: list[str], values: list[float], units: list[str | None] | None) -> npt.NDArray[np.float64]:
    """Values in the units of their properties. Raises RefusedError."""
    if units is None or (units[0] is None and units.count(None) == len(units)):
        return np.array(values, dtype=np.float64)
    column = np.array(values, dtype=np.float64)
    if len(set(units)) == 1 == len(set(properties)):
        scale, offset = factors_of(properties[0], str(units[0]))
        if (scale, offset) == (1, 0):
            return column
        with np.errstate(over="ignore", invalid="ignore"):  # what becomes infinite is refused later
            return column * scale + offset
    pairs = list(zip(properties, units, strict=True))
    known = {pair: number for number, pair in enumerate(dict.fromkeys(pairs))}
    factors = np.array([(1.0, 0.0) if unit is None else factors_of(name, unit) for name, unit in known])
    if (factors == (1.0, 0.0)).all():
        return column
    scales, offsets = factors[[known[pair] for pair in pairs]].T
    with np.errstate(over="ignore", invalid="ignore"):
        return np.where((scales == 1) & (offsets == 0), column, column * scales + offsets)


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
