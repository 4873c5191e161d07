"""Entities of the Smart Data Models, as NGSI v2 (key-values and normalized) or NGSI-LD brokers send them.

Which attribute of which model is which observed property, in what unit, is the table ``MODELS``: names and units are
those of the models' schemas. Rules are told in docs/formats.md; units by code are in ``ingest.formats.units``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ingest.formats.pantau_json import number_of, parse, unknown_property
from ingest.formats.times import time_ns
from ingest.formats.units import UN_CEFACT, factors, names
from ingest.readings import Fragment, Readings, RefusedError, convert, kind, short
from ingest.refusals import Reason
from telemetry.observations import NS_PER_S, rfc3339
from telemetry.properties import PROPERTIES

_ASK = ""
"""The model leaves the unit to ``unitCode``; without one the reading is refused."""
_WEATHER = {
    "temperature": ("temperature_c", "Cel"),
    "relativeHumidity": ("humidity_percent", "1"),
    "precipitation": ("rain_mm", "mm"),  # litres per square metre
    "windSpeed": ("wind_speed_m_s", "m/s"),
    "windDirection": ("wind_direction_deg", "deg"),
}
MODELS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    # The schema states no units of gases; these are the ones of its own example, which gives CO in mg/m³ (GP).
    "AirQualityObserved": _WEATHER
    | {
        "co": ("co_ug_m3", "mg/m3"),
        "no2": ("no2_ug_m3", "ug/m3"),
        "nox": ("nox_ug_m3", "ug/m3"),
        "o3": ("o3_ug_m3", "ug/m3"),
        "so2": ("so2_ug_m3", "ug/m3"),
        "pm10": ("pm10_ug_m3", "ug/m3"),
        "pm25": ("pm2_5_ug_m3", "ug/m3"),
        "pressure": ("pressure_hpa", "hPa"),
    },
    "WeatherObserved": _WEATHER
    | {
        "atmosphericPressure": ("pressure_hpa", "hPa"),
        "illuminance": ("illuminance_lx", "lx"),
        "streamGauge": ("water_level_m", "cm"),
    },
    "TrafficFlowObserved": {
        "intensity": ("flow_veh_h", "vehicles"),  # counted in the period of observation
        "occupancy": ("occupancy", "1"),
        "averageVehicleSpeed": ("speed_km_h", "km/h"),
    },
    "NoiseLevelObserved": {"LAeq": ("laeq_db", "dB")},
    "FloodMonitoring": {"currentLevel": ("water_level_m", "m")},
    "WaterObserved": {"waterLevel": ("water_level_m", "m"), "flow": ("discharge_m3_s", _ASK)},
    "Streetlight": {"powerConsumption": ("lamp_power_w", "W")},
    "Device": {"rssi": ("rssi_dbm", _ASK)},
}
"""Type of entity → attribute → (observed property, unit)."""
MAX_ENTITIES = 10_000
"""Of one message."""
_TIMES = ("dateObservedTo", "dateObserved", "observationDateTime", "TimeInstant", "observedAt", "dateLastValueReported")
"""Attributes that tell when all others were observed; the first that is there counts."""
_DEVICES = ("refDevice", "stationID", "refPointOfInterest")


class _Told(NamedTuple):
    """What an attribute says, whichever form it has."""

    value: Any
    unit_code: Any = None
    at: Any = None


class SmartDataModels:
    """One entity, a list of them, or the notification of a context broker: ``{"data": [...]}``."""

    def decode(self, topic: str, payload: bytes, readings: Readings) -> None:
        """See ``Format``."""
        try:
            content = parse(payload)
            path = "$"
            if isinstance(content, dict) and isinstance(content.get("data"), list):
                content, path = content["data"], "$.data"
            entities = content if isinstance(content, list) else [content]
            if not entities:
                raise RefusedError(Reason.NO_READINGS, f"{path} is an empty list")
            if len(entities) > MAX_ENTITIES:
                raise RefusedError(
                    Reason.PAYLOAD_TOO_LARGE,
                    f"{path} has {len(entities)} entities, at most {MAX_ENTITIES} are taken",
                )
        except RefusedError as refused:
            readings.refuse(refused.reason, refused.detail)
            return
        for number, entity in enumerate(entities):
            where = f"{path}[{number}]" if isinstance(content, list) else path
            try:
                _take(entity, where, topic, readings)
            except RefusedError as refused:
                fragment = None if len(entities) == 1 else (entity, None)
                readings.refuse(refused.reason, refused.detail, fragment=fragment)


def _take(entity: Any, path: str, topic: str, readings: Readings) -> None:
    """Add or refuse each reading of one entity.

    Raises
    ------
    RefusedError
        What is wrong concerns all of them.
    """
    if not isinstance(entity, dict):
        raise RefusedError(Reason.WRONG_TYPE, f"{path} must be an entity, got {kind(entity)}")
    plain = {_last(name): attribute for name, attribute in entity.items()}
    device = _device(plain, path, topic, readings)
    measured = _measured(plain, path, device, readings)
    period = _period(plain, path)
    streams = readings.feed_of[device]
    for name, property_name, unit, told in measured:
        where = f"{path}.{name}"
        item: dict[str, Any] = {"device": device, "property": property_name, "value": told.value}
        alone = len(measured) == 1 and path == "$"
        fragment: Fragment | None = None if alone else (item, None)
        try:
            observed_at = period[1]
            if told.at is not None:
                item["time"] = told.at
                observed_at = _time(told.at, f"{where}: time")
            if observed_at is not None:
                item["time"] = rfc3339(observed_at)
            item["unit"] = unit or "not told" if told.unit_code is None else told.unit_code
            value = _value(told, property_name, unit, period, where)
            item["value"], item["unit"] = value, None  # from here on in the property's own
            index = streams.get(property_name)
            if index is None:
                raise unknown_property(property_name, streams)
            readings.add(index, property_name, value, None, observed_at, fragment)
        except RefusedError as refused:
            readings.refuse(refused.reason, refused.detail, device=device, fragment=fragment)


def _device(entity: Mapping[str, Any], path: str, topic: str, readings: Readings) -> str:
    """The device that an entity is of: by its id, by what it refers to, else by the topic."""
    own = topic.rpartition("/")[2]
    told = [name for attribute in ("id", *_DEVICES) for name in _strings(_told(entity.get(attribute)).value)]
    for name in told:
        called = readings.directory.device_called
        device = called(name) or called(name.rpartition(":")[2])
        if device is not None:
            if not readings.may_speak_for(device):
                raise RefusedError(
                    Reason.NOT_A_GATEWAY,
                    f"{path} is of {short(device)}, but the topic's device is not registered as a gateway",
                )
            return device
    try:
        return readings.find(own)[0]
    except RefusedError:
        return readings.find(told[0] if told else own)[0]


def _measured(
    entity: Mapping[str, Any], path: str, device: str, readings: Readings
) -> list[tuple[str, str, str, _Told]]:
    """(attribute, property, unit, what it says) of those attributes that the device's model or the entity's knows."""
    types = [_last(name) for name in _strings(_told(entity.get("type")).value)]
    known: dict[str, tuple[str, str]] = {}
    for name in types:
        known |= MODELS.get(name, {})
    payload = readings.directory.payload_of.get(device)
    if payload is not None:
        known |= {field.source: (field.property, field.unit) for field in payload.fields}
    measured = [(name, *known[name], _told(entity[name])) for name in entity if name in known]
    if not measured:
        if not known:
            raise RefusedError(
                Reason.UNKNOWN_PROPERTY,
                f"{path}.type must be one of {', '.join(MODELS)}, got {short(', '.join(types)) if types else 'none'}",
            )
        raise RefusedError(Reason.NO_READINGS, f"{path} has none of the attributes {', '.join(known)}")
    return measured


def _value(told: _Told, property_name: str, unit: str, period: tuple[int | None, int | None], path: str) -> float:
    """The value in the unit of the property."""
    value = told.value
    if value is False and property_name == "rain_mm":
        value = 0  # the model's own example says so of a dry hour
    value = number_of(value, property_name, path)
    if told.unit_code is not None:
        code = told.unit_code
        if not isinstance(code, str):
            raise RefusedError(Reason.WRONG_TYPE, f"{path}: its unitCode must be a string, got {kind(code)}")
        found = factors(property_name, code, UN_CEFACT)
        if found is not None:
            return value if found == (1, 0) else float(value * found[0] + found[1])
        if not (unit == "vehicles" and code == "C62"):
            raise RefusedError(
                Reason.WRONG_UNIT,
                f"{path}: unitCode {short(code)} can't be turned into {PROPERTIES[property_name].unit} "
                f"({property_name}); known are {names(property_name, UN_CEFACT)}",
            )
    if unit == _ASK:
        raise RefusedError(
            Reason.WRONG_UNIT,
            f"{path} has no unitCode, and its model states no unit; known are {names(property_name, UN_CEFACT)}",
        )
    if unit != "vehicles":
        return convert(property_name, value, unit)
    start, end = period
    if start is None or end is None or end <= start:
        raise RefusedError(
            Reason.MISSING_VALUE,
            f"{path} counts vehicles in a period, which dateObservedFrom and dateObservedTo, or an interval in "
            "dateObserved, must tell",
        )
    return float(value * 3600 * NS_PER_S / (end - start))


def _period(entity: Mapping[str, Any], path: str) -> tuple[int | None, int | None]:
    """(begin if it is told, end or moment of observation if it is told) [ns since 1970 UTC]"""
    start: int | None = None
    end: int | None = None
    for name in _TIMES:
        told = _told(entity.get(name)).value
        if told is None:
            continue
        first, slash, second = told.partition("/") if isinstance(told, str) else (told, "", "")
        if end is None:
            end = _time(second if slash else first, f"{path}.{name}")
        if slash and start is None:
            start = _time(first, f"{path}.{name}")
    told = _told(entity.get("dateObservedFrom")).value
    if told is not None:
        start = _time(told, f"{path}.dateObservedFrom")
    return start, end


def _time(told: Any, path: str) -> int:
    """[ns since 1970 UTC]; without a zone it is UTC, as the models say."""
    if isinstance(told, dict):
        told = told.get("@value", told.get("value"))
    if not isinstance(told, str):
        raise RefusedError(Reason.WRONG_TYPE, f"{path} must be a string, got {kind(told)}")
    try:
        return time_ns(told, path)
    except RefusedError as refused:
        if refused.reason is not Reason.TIME_WITHOUT_ZONE:
            raise
        return time_ns(told + "Z", path)


def _told(attribute: Any) -> _Told:
    """The value of an attribute, its unit code and time: of a plain value, of NGSI v2 normalized, or of NGSI-LD."""
    if not isinstance(attribute, dict):
        return _Told(attribute)
    metadata = attribute.get("metadata")
    if not isinstance(metadata, dict):
        metadata = {}
    for key in ("value", "object", "@value"):
        if key in attribute:
            value = attribute[key]
            if isinstance(value, dict) and "@value" in value:
                value = value["@value"]
            return _Told(
                value,
                attribute.get("unitCode", _inner(metadata.get("unitCode"))),
                attribute.get("observedAt", _inner(metadata.get("TimeInstant"))),
            )
    return _Told(attribute)


def _inner(attribute: Any) -> Any:
    """The value of a piece of metadata."""
    return attribute.get("value") if isinstance(attribute, dict) else attribute


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        yield from (one for one in value[:10] if isinstance(one, str))


def _last(name: str) -> str:
    """A name without the address of its vocabulary.

    Examples
    --------
    >>> _last("https://smartdatamodels.org/dataModel.Weather/WeatherObserved"), _last("temperature")
    ('WeatherObserved', 'temperature')
    """
    if not name.startswith("http"):
        return name
    return name.rpartition("#")[2].rpartition("/")[2]
