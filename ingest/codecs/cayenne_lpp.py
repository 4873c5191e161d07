"""Cayenne Low Power Payload: data that say their own type and channel, most significant byte first.

Source: myDevices' public table of types (docs.mydevices.com, "Cayenne LPP"). The names are those of The Things Stack's
decoder, ``temperature_3`` for the temperature on channel 3; a model's file in the catalogue says what they observe.
"""

from __future__ import annotations

import struct
from typing import Any

from ingest.codecs.errors import CodecError

_TYPES: dict[int, tuple[str, str, float]] = {
    0: ("digital_in", "B", 1),
    1: ("digital_out", "B", 1),
    2: ("analog_in", "h", 100),
    3: ("analog_out", "h", 100),
    101: ("luminosity", "H", 1),
    102: ("presence", "B", 1),
    103: ("temperature", "h", 10),
    104: ("relative_humidity", "B", 2),
    113: ("accelerometer", "hhh", 1000),
    115: ("barometric_pressure", "H", 10),
    134: ("gyrometer", "hhh", 100),
}
"""Type → name, packing of its items, and what each is divided by."""
_GPS, _GPS_BYTES = 136, 9


def decode(f_port: int, payload: bytes) -> dict[str, Any]:
    """The fields of an uplink. Raises CodecError, with those before, at a type that is not known or is cut off.

    Examples
    --------
    >>> decode(1, bytes.fromhex("03670110056700FF"))
    {'temperature_3': 27.2, 'temperature_5': 25.5}
    """
    fields: dict[str, Any] = {}
    at = 0
    while at < len(payload):
        if at + 2 > len(payload):
            raise CodecError(f"channel {payload[at]} is cut off", fields)
        channel, kind = payload[at], payload[at + 1]
        at += 2
        if kind == _GPS:
            if at + _GPS_BYTES > len(payload):
                raise CodecError(f"channel {channel} is cut off", fields)
            parts = [int.from_bytes(payload[i : i + 3], "big", signed=True) for i in range(at, at + _GPS_BYTES, 3)]
            latitude, longitude, altitude = parts[0] / 10_000, parts[1] / 10_000, parts[2] / 100
            fields[f"gps_{channel}"] = {"latitude": latitude, "longitude": longitude, "altitude": altitude}
            at += _GPS_BYTES
            continue
        if kind not in _TYPES:
            raise CodecError(f"type {kind} of channel {channel} is not one of Cayenne LPP", fields)
        name, packing, divisor = _TYPES[kind]
        size = struct.calcsize(">" + packing)
        if at + size > len(payload):
            raise CodecError(f"channel {channel} is cut off", fields)
        values = [item / divisor if divisor != 1 else item for item in struct.unpack_from(">" + packing, payload, at)]
        fields[f"{name}_{channel}"] = values[0] if len(values) == 1 else dict(zip("xyz", values, strict=True))
        at += size
    return fields
