"""Dragino's LDDS75: ultrasonic distance on port 2, most significant byte first.

Source: the vendor's decoders and their example in TheThingsNetwork/lorawan-devices (GitHub). The fields are named as
there; its decoder gives the distance as words, like "2799 mm", which is read as well.
"""

from __future__ import annotations

import struct
from typing import Any

from ingest.codecs.errors import CodecError

_PORT = 2
_INVALID_MM = 20
"""What it sends for a distance that could not be measured; 0 without a sensor."""
_PACKING = struct.Struct(">HHBhB")


def decode_ldds75(f_port: int, payload: bytes) -> dict[str, Any]:
    """The fields of an uplink: ``Bat`` in V, ``Distance`` in mm. Raises CodecError.

    Examples
    --------
    >>> decode_ldds75(2, bytes.fromhex("0D3B0AEF00000001"))["Distance"]
    2799
    """
    if f_port != _PORT:
        raise CodecError(f"readings come on port {_PORT}, not on {f_port}")
    if len(payload) != _PACKING.size:
        raise CodecError(f"{len(payload)} bytes, {_PACKING.size} were expected")
    battery, distance, interrupt, temperature, sensor = _PACKING.unpack(payload)
    return {
        "Bat": (battery & 0x3FFF) / 1000,
        "Distance": "no sensor" if distance == 0 else distance if distance > _INVALID_MM else "invalid reading",
        "Interrupt_flag": interrupt,
        "TempC_DS18B20": temperature / 10,
        "Sensor_flag": sensor,
    }
