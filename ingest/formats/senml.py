"""SenML (RFC 8428) as JSON and as CBOR: packs of records, resolved and turned into readings.

The rules by which a record's name becomes a device and a property are told in docs/formats.md. Which units there are is
left to ``ingest.formats.units``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from ingest.formats import senml_cbor
from ingest.formats.pantau_json import finite, parse, unknown_property
from ingest.formats.units import SENML, factors, names
from ingest.readings import FIRST_NS, LAST_NS, Fragment, Readings, RefusedError, kind, short
from ingest.refusals import Reason
from telemetry.observations import rfc3339
from telemetry.properties import PROPERTIES, conversion

VERSIONS = (*range(1, 11), 26)
"""Of packs that are understood: 10 is RFC 8428; RFC 9100 adds 16 where secondary units (RFC 8798) are used."""
ABSOLUTE_FROM_S = 2.0**28
"""Smaller times are relative to now: to the time of reception (RFC 8428, section 4.5.3)."""
MAX_NAME = 256
"""Characters of a resolved name. The RFC names no bound; this one keeps the search for its device short."""
MAX_RECORDS = 10_000
"""Of one pack: each record that is refused becomes a dead letter."""
_LATEST_S = LAST_NS / 1e9
_MAX_ROUTES = 200_000
_SEPARATORS = frozenset("-:./_")
_NAME_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-:./_")

WORDS: Mapping[str, tuple[str, ...]] = {
    word: properties
    for words, properties in (
        ("temperature temp air_temperature", ("temperature_c",)),
        ("humidity hum rh relative_humidity", ("humidity_percent",)),
        ("pressure air_pressure barometric_pressure", ("pressure_hpa",)),
        ("level water_level stage", ("water_level_m",)),
        ("discharge", ("discharge_m3_s",)),
        ("flow", ("flow_veh_h", "discharge_m3_s")),
        ("rain rainfall precipitation", ("rain_mm",)),
        ("speed", ("speed_km_h",)),
        ("travel_time", ("travel_time_s",)),
        ("pm2_5 pm25 pm2.5", ("pm2_5_ug_m3",)),
        ("pm10", ("pm10_ug_m3",)),
        ("no2", ("no2_ug_m3",)),
        ("nox", ("nox_ug_m3",)),
        ("o3 ozone", ("o3_ug_m3",)),
        ("so2", ("so2_ug_m3",)),
        ("co", ("co_ug_m3",)),
        ("noise laeq sound_level", ("laeq_db",)),
        ("power lamp_power", ("lamp_power_w",)),
        ("illuminance light lux", ("illuminance_lx",)),
        ("wind_speed", ("wind_speed_m_s",)),
        ("wind_direction", ("wind_direction_deg",)),
        ("battery voltage battery_voltage vbat", ("battery_v",)),
        ("rssi signal", ("rssi_dbm",)),
        ("connected online", ("connected",)),
    )
    for word in words.split()
}
"""What a record may call an observed property, beside the property's own name. Of two, the one that its unit fits."""


class Record(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A record as it came; fields that are None were not there."""

    n: str | None = None
    u: str | None = None
    v: float | None = None
    vs: str | None = None
    vb: bool | None = None
    vd: str | bytes | None = None
    s: float | None = None
    t: float | None = None
    ut: float | None = None
    bn: str | None = None
    bt: float | None = None
    bu: str | None = None
    bv: float | None = None
    bs: float | None = None
    bver: int | None = None
    refused: tuple[Reason, str, Any] | None = None
    """Why it can't be used, and what stood there; its base values still hold."""


class _FastRecord(Record, gc=False, forbid_unknown_fields=True):
    vd: str | None = None
    refused: None = None


class Route:
    """Where the value of a record with one name and unit goes, and how it becomes the property's unit."""

    __slots__ = ("device", "feed", "offset", "plain", "property", "scale")

    def __init__(self, device: str, property_name: str, feed: int, scale: float, offset: float) -> None:
        self.device, self.property, self.feed, self.scale, self.offset = device, property_name, feed, scale, offset
        self.plain = scale == 1 and offset == 0


_Key = str | tuple[str | None, str] | None
_decode_fast = msgspec.json.Decoder(list[_FastRecord]).decode


class _Senml:
    """What both encodings share: routes found earlier, by topic, name and unit."""

    def __init__(self) -> None:
        self._directory: object = None
        self._routes: dict[tuple[str, str, str | None], dict[_Key, Route]] = {}
        """(topic, base name, base unit) → name, or name and unit, as a record states them → route."""
        self._count = 0

    def _take(self, topic: str, records: Sequence[Record], readings: Readings) -> None:
        """Resolve the records one after another; add their readings, or refuse them."""
        _check_pack(records)
        if self._directory is not readings.directory or self._count > _MAX_ROUTES:
            self._directory, self._routes, self._count = readings.directory, {}, 0
        received_at = readings.received_at
        base_name, base_time, base_value = "", 0.0, None
        base_unit: str | None = None
        routes = self._routes.get((topic, base_name, base_unit), {})
        times: list[int] = []
        at_reception: list[int] = []
        relative: list[int] = []
        values: list[float] = []
        found: list[Route] = []
        refused_any = False
        for number, record in enumerate(records):
            if record.bn is not None or record.bu is not None:
                base_name = base_name if record.bn is None else record.bn
                base_unit = base_unit if record.bu is None else record.bu
                routes = self._routes.get((topic, base_name, base_unit), {})
            if record.bt is not None:
                base_time = record.bt
            if record.bv is not None:
                base_value = record.bv
            key = record.n if record.u is None else (record.n, record.u)
            time = base_time if record.t is None else base_time + record.t
            value = record.v
            try:
                if (
                    value is None
                    or record.vb is not None
                    or record.vs is not None
                    or record.vd is not None
                    or record.refused is not None
                ):
                    if _only_bases(record):
                        continue
                    value = _unusual_value(record, base_value, f"$[{number}]")
                elif base_value is not None:
                    value += base_value
                by_own_clock = ABSOLUTE_FROM_S <= time < _LATEST_S
                if by_own_clock:
                    observed_at = round(time * 1e6) * 1000
                elif time == 0 and received_at is not None:
                    observed_at = received_at
                else:
                    observed_at = _relative(time, received_at, f"$[{number}]")
                route = routes.get(key)
                if route is None:
                    unit = base_unit if record.u is None else record.u
                    routes[key] = route = _find(topic, base_name + (record.n or ""), base_name, unit, readings)
                    self._routes[topic, base_name, base_unit] = routes  # only now: others may have any length
                    self._count += 1 + len(topic) // 100
                if record.vb is not None and route.property != "connected":
                    raise RefusedError(
                        Reason.WRONG_TYPE, f"$[{number}].vb: {route.property} must be a number, got a truth value"
                    )
            except RefusedError as refused:
                unit = base_unit if record.u is None else record.u
                resolved = _Resolved(base_name + (record.n or ""), base_name, unit, time, value, record)
                _refuse(refused, resolved, topic, alone=len(records) == 1, readings=readings)
                refused_any = True
                continue
            if not by_own_clock:
                (relative if time else at_reception).append(len(times))
            times.append(observed_at)
            values.append(value if route.plain else value * route.scale + route.offset)
            found.append(route)
        if len(found) == 1 and len(records) == 1:
            at = None if at_reception else times[0]
            readings.add(found[0].feed, found[0].property, values[0], None, at, own_clock=not relative)
        elif found:

            def fragments_of(_: bytes) -> list[Fragment]:
                return [(_as_pantau_json(*one), None) for one in zip(found, times, values, strict=True)]

            feeds = [route.feed for route in found]
            readings.add_several(feeds, times, values, fragments_of, at_reception=at_reception, not_own_clock=relative)
        elif not refused_any:
            raise RefusedError(Reason.NO_READINGS, "no record of the pack holds a value")


class SenmlJson(_Senml):
    """application/senml+json"""

    def decode(self, topic: str, payload: bytes, readings: Readings) -> None:
        """See ``Format``."""
        try:
            records: Sequence[Record]
            try:
                records = _decode_fast(payload)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                records = _records(parse(payload))
            self._take(topic, records, readings)
        except RefusedError as refused:
            readings.refuse(refused.reason, refused.detail)


class SenmlCbor(_Senml):
    """application/senml+cbor"""

    def decode(self, topic: str, payload: bytes, readings: Readings) -> None:
        """See ``Format``."""
        try:
            if not payload:
                raise RefusedError(Reason.EMPTY_PAYLOAD, "payload is empty")
            content, finite = senml_cbor.decode(payload)
            records: Sequence[Record] | None = None
            if finite:
                with contextlib.suppress(msgspec.ValidationError):
                    records = msgspec.convert(content, list[_FastRecord])
            self._take(topic, _records(content) if records is None else records, readings)
        except RefusedError as refused:
            readings.refuse(refused.reason, refused.detail)


class _Resolved(NamedTuple):
    """A record that is refused, as far as it is resolved."""

    name: str
    base_name: str
    unit: str | None
    time_s: float
    value: float | None
    record: Record


def _records(content: object) -> list[Record]:
    """The records of a pack in which something is unusual.

    Raises
    ------
    RefusedError
        What is wrong concerns the whole pack: its form, a base value, or a field that must be understood.
    """
    if type(content) is not list:
        what = content.what if isinstance(content, senml_cbor.Opaque) else kind(content)
        raise RefusedError(Reason.WRONG_TYPE, f"a SenML pack must be a list of records, got {what}")
    return [_record(item, f"$[{number}]") for number, item in enumerate(content)]


def _record(item: object, path: str) -> Record:
    record = Record()
    if type(item) is not dict:
        what = item.what if isinstance(item, senml_cbor.Opaque) else kind(item)
        record.refused = Reason.WRONG_TYPE, f"{path} must be an object, got {what}", item
        return record
    for label, value in item.items():
        check = _CHECKS.get(label)
        if check is not None:
            try:
                setattr(record, label, check(value, f"{path}.{label}"))
            except RefusedError as refused:
                if label[0] == "b":
                    raise
                record.refused = refused.reason, refused.detail, item
        elif label.endswith("_"):
            raise RefusedError(
                Reason.WRONG_TYPE,
                f"{path} holds the field {short(label)}, which must be understood, and is not known here",
            )
    return record


def _text(value: object, path: str) -> str:
    if type(value) is not str:
        raise RefusedError(Reason.WRONG_TYPE, f"{path} must be a string, got {_what(value)}")
    return value


def _number(value: object, path: str) -> float:
    if value is None:
        raise RefusedError(Reason.MISSING_VALUE, f"{path} is null")
    if type(value) is not float and type(value) is not int:
        raise RefusedError(Reason.WRONG_TYPE, f"{path} must be a number, got {_what(value)}")
    return finite(value, path)


def _truth(value: object, path: str) -> bool:
    if type(value) is not bool:
        raise RefusedError(Reason.WRONG_TYPE, f"{path} must be true or false, got {_what(value)}")
    return value


def _data(value: object, path: str) -> str | bytes:
    if type(value) is not str and type(value) is not bytes:
        raise RefusedError(Reason.WRONG_TYPE, f"{path} must be data, got {_what(value)}")
    return value


def _version(value: object, path: str) -> int:
    number = _number(value, path)
    if not number.is_integer():
        raise RefusedError(Reason.WRONG_TYPE, f"{path} must be a whole number, got {_what(value)}")
    return int(number)


def _what(value: object) -> str:
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return value.what if isinstance(value, senml_cbor.Opaque) else kind(value)


_CHECKS: dict[str, Callable[[object, str], Any]] = {
    "n": _text,
    "u": _text,
    "v": _number,
    "vs": _text,
    "vb": _truth,
    "vd": _data,
    "s": _number,
    "t": _number,
    "ut": _number,
    "bn": _text,
    "bt": _number,
    "bu": _text,
    "bv": _number,
    "bs": _number,
    "bver": _version,
}


def _check_pack(records: Sequence[Record]) -> None:
    """Its length and its version, which must be one that is understood and the same wherever it stands."""
    if not records:
        raise RefusedError(Reason.NO_READINGS, "the pack is an empty list")
    if len(records) > MAX_RECORDS:
        raise RefusedError(
            Reason.PAYLOAD_TOO_LARGE, f"the pack has {len(records)} records, at most {MAX_RECORDS} are taken"
        )
    versions = [record.bver for record in records if record.bver is not None]
    for version in versions:
        if version not in VERSIONS:
            raise RefusedError(Reason.WRONG_TYPE, f"bver must be 1 to 10, or 26, got {version}")
        if version != versions[0]:
            raise RefusedError(Reason.WRONG_TYPE, f"bver is {versions[0]} and {version} in one pack")


def _only_bases(record: Record) -> bool:
    """Whether it states base values for the records that follow, and nothing else."""
    return (
        record.refused is None
        and all(getattr(record, name) is None for name in _OWN)
        and any(getattr(record, name) is not None for name in _BASES)
    )


_OWN = ("n", "u", "v", "vs", "vb", "vd", "s", "t", "ut")
_BASES = ("bn", "bt", "bu", "bv", "bs", "bver")


def _unusual_value(record: Record, base_value: float | None, path: str) -> float:
    """The value of a record that has not just ``v``."""
    if record.refused is not None:
        raise RefusedError(record.refused[0], record.refused[1])
    fields = [name for name in ("v", "vs", "vb", "vd") if getattr(record, name) is not None]
    if len(fields) > 1:
        raise RefusedError(Reason.WRONG_TYPE, f"{path} has several values: {', '.join(fields)}")
    if record.vb is not None:
        return float(record.vb)
    if fields:
        raise RefusedError(Reason.WRONG_TYPE, f"{path} holds {'text' if fields == ['vs'] else 'data'}, not a number")
    if record.s is not None:
        raise RefusedError(Reason.MISSING_VALUE, f"{path} holds only a sum; no observed property takes one")
    if base_value is None:
        raise RefusedError(Reason.MISSING_VALUE, f"{path} has no value")
    return base_value


def _relative(time_s: float, received_at: int | None, path: str) -> int:
    """The time of a record that is not a usual absolute one. [ns since 1970 UTC]"""
    if time_s < ABSOLUTE_FROM_S:
        if received_at is None:
            raise RefusedError(
                Reason.NO_TIME, f"{path}: its time counts from now, and the broker's clock has not spoken yet"
            )
        if time_s > -_LATEST_S:
            observed_at = received_at + round(time_s * 1e6) * 1000
            if FIRST_NS <= observed_at <= LAST_NS:
                return observed_at
    if time_s > 0:
        raise RefusedError(
            Reason.TIME_IN_FUTURE, f"{path}: time {time_s!r} s is after the year 2261; times of SenML are seconds"
        )
    raise RefusedError(Reason.TIME_TOO_OLD, f"{path}: time {time_s!r} s from now is before the year 1678")


def _find(topic: str, name: str, base_name: str, unit: str | None, readings: Readings) -> Route:
    """Where the readings of records with this resolved name and unit go.

    Raises
    ------
    RefusedError
        The name is not allowed, or leads to no property of a device that the sender may speak for.
    """
    if not name or len(name) > MAX_NAME:
        raise RefusedError(
            Reason.WRONG_TYPE, f"a name must have 1 to {MAX_NAME} characters, got {len(name)}: {short(name)}"
        )
    if not _NAME_CHARACTERS.issuperset(name) or name[0] in _SEPARATORS:
        raise RefusedError(
            Reason.WRONG_TYPE,
            f"a name must begin with a letter or digit and hold only these and - : . / _, got {short(name)}",
        )
    device, rest = _split(topic, name, readings)
    if device is None:
        readings.find(_guess(name, base_name)[0])  # refuses it with its reason, unless it is a name after all
        raise RefusedError(Reason.UNKNOWN_DEVICE, f"no device is registered by a name that begins {short(name)}")
    if not readings.may_speak_for(device):
        raise RefusedError(
            Reason.NOT_A_GATEWAY,
            f"name {short(name)} is of {short(device)}, but the topic's device is not registered as a gateway",
        )
    return _route(device, rest, unit, readings)


def _split(topic: str, name: str, readings: Readings) -> tuple[str | None, str]:
    """(device id, the rest that names the property); None if no device is known that the name may mean."""
    called = readings.directory.device_called
    own = called(topic.rpartition("/")[2])
    if own is not None and _candidates(own, name, readings):
        return own, name
    for cut in range(len(name), 0, -1):
        if cut == len(name) or name[cut] in _SEPARATORS:
            device = called(name[:cut]) or called(name[: cut + 1])
            if device is not None:
                return device, name[cut + 1 :]
    return (own, name) if ":" not in name and "/" not in name else (None, name)


def _guess(name: str, base_name: str) -> tuple[str, str]:
    """(device, rest) of a name whose device is not known, for people and for when it is registered."""
    device = base_name.rstrip("-:./_")
    if device and name.startswith(device) and len(name) > len(device):
        return device, name[len(device) + 1 :]
    cut = max(name.rfind(":"), name.rfind("/"))
    return (name[:cut], name[cut + 1 :]) if cut > 0 else (name, "")


def _candidates(device: str, rest: str, readings: Readings) -> tuple[tuple[str, str | None], ...]:
    """(property, unit if the record names none) that ``rest`` may mean of a device; () if it is no such name."""
    payload = readings.directory.payload_of.get(device)
    if payload is not None:
        fields = tuple((field.property, field.unit) for field in payload.fields if field.source == rest)
        if fields:
            return fields
    if rest in PROPERTIES:
        return ((rest, None),)
    return tuple((name, None) for name in WORDS.get(rest.lower().replace("-", "_"), ()))


def _route(device: str, rest: str, unit: str | None, readings: Readings) -> Route:
    streams = readings.feed_of[device]
    if rest:
        candidates = _candidates(device, rest, readings)
        if not candidates:
            raise unknown_property(rest, streams)
    else:
        fitting = [] if unit is None else [name for name in streams if factors(name, unit, SENML)]
        if len(fitting) != 1:
            raise RefusedError(
                Reason.UNKNOWN_PROPERTY,
                f"the name is that of device {short(device)} alone, and the unit is "
                f"{'missing' if unit is None else short(unit)}: it fits {', '.join(fitting) or 'no'} property of it",
            )
        candidates = ((fitting[0], None),)
    there = [(name, usual) for name, usual in candidates if name in streams]
    if not there:
        raise unknown_property(candidates[0][0], streams)
    for name, usual in there:
        if unit is not None:
            found = factors(name, unit, SENML)
        else:
            found = (1.0, 0.0) if usual is None else conversion(name, usual)
        if found is not None:
            return Route(device, name, streams[name], *found)
    name, usual = there[0]
    raise RefusedError(
        Reason.WRONG_UNIT,
        f"unit {short(unit or usual or '')} of SenML can't be turned into {PROPERTIES[name].unit} ({name}); "
        f"known are {names(name, SENML)}",
    )


def _as_pantau_json(route: Route, time_ns: int, value: float) -> dict[str, Any]:
    return {"device": route.device, "time": rfc3339(time_ns), "property": route.property, "value": value}


def _refuse(refused: RefusedError, resolved: _Resolved, topic: str, *, alone: bool, readings: Readings) -> None:
    """Make a dead letter of one record: as Pantau JSON as far as it is understood, else as it came."""
    device, rest = _split(topic, resolved.name[:MAX_NAME], readings)
    if device is None:
        device, rest = _guess(resolved.name[:MAX_NAME], resolved.base_name[:MAX_NAME])
    # One that takes another's name is not to be counted for that other.
    whose = None if refused.reason is Reason.NOT_A_GATEWAY else device
    if alone:
        readings.refuse(refused.reason, refused.detail, device=whose)
        return
    record = resolved.record
    if record.refused is not None:
        item = _plain(record.refused[2])
    elif resolved.value is None or record.vb is not None:
        item = _plain({name: getattr(record, name) for name in _OWN if getattr(record, name) is not None})
        item = {"n": resolved.name} | item
    else:
        item = _reading(device, rest, resolved, readings)
    readings.refuse(refused.reason, refused.detail, device=whose, fragment=(item, None))


def _reading(device: str, rest: str, resolved: _Resolved, readings: Readings) -> dict[str, Any]:
    """Pantau JSON of a record with a value, which can be read again once its device or property is registered."""
    candidates = _candidates(device, rest, readings)
    name, usual = candidates[0] if candidates else (rest, None)
    unit = usual if resolved.unit is None else resolved.unit
    value = resolved.value
    if name in PROPERTIES and unit is not None and value is not None:
        found = factors(name, unit, SENML)
        if found is not None:
            value, unit = value * found[0] + found[1], None
    time: str | float | None = resolved.time_s
    try:
        at = _relative(resolved.time_s, readings.received_at, "") if resolved.time_s < ABSOLUTE_FROM_S else None
        if at is None and resolved.time_s < _LATEST_S:
            at = round(resolved.time_s * 1e6) * 1000
        time = time if at is None else rfc3339(at)
    except RefusedError:
        time = None if resolved.time_s == 0 else time
    item: dict[str, Any] = {"device": device, "time": time, "property": name, "value": value}
    return item if unit is None else item | {"unit": unit}


def _plain(value: object, depth: int = 0) -> Any:
    """What JSON can say of a record as it came."""
    if isinstance(value, dict) and depth < 3:
        return {str(key): _plain(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list) and depth < 3:
        return [_plain(inner, depth + 1) for inner in value]
    if isinstance(value, bytes):
        return value.hex()
    return value if value is None or isinstance(value, str | int | float) else _what(value)
