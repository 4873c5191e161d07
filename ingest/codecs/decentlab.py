"""Decentlab's sensors: protocol version 2, device number, a bit for each group of values, then words of 16 bits.

Source: decentlab/decentlab-decoders (GitHub), whose published example payloads the tests use. As in the vendor's
decoder for network servers, each field is an object with its ``value`` and ``unit``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ingest.codecs.errors import CodecError

_VERSION = 2
_HEAD_BYTES = 5


@dataclass(frozen=True)
class Family:
    """The groups of values of one model, in the order of their bits: words in a group, and what they say."""

    groups: tuple[tuple[int, Callable[[list[int]], dict[str, Any]]], ...]

    def decode(self, f_port: int, payload: bytes) -> dict[str, Any]:
        """The fields of an uplink. Raises CodecError for another version, and where bytes lack.

        Examples
        --------
        >>> DL_MBX.decode(1, bytes.fromhex("02012f00020bb1"))["battery_voltage"]
        {'value': 2.993, 'unit': 'V'}
        """
        if len(payload) < _HEAD_BYTES:
            raise CodecError(f"{len(payload)} bytes, at least {_HEAD_BYTES} were expected")
        if payload[0] != _VERSION:
            raise CodecError(f"protocol version {payload[0]}, {_VERSION} was expected")
        fields: dict[str, Any] = {
            "protocol_version": payload[0],
            "device_id": int.from_bytes(payload[1:3], "big"),
        }
        bits = int.from_bytes(payload[3:_HEAD_BYTES], "big")
        at = _HEAD_BYTES
        for number, (words, read) in enumerate(self.groups):
            if not bits >> number & 1:
                continue
            end = at + 2 * words
            if end > len(payload):
                raise CodecError(f"group {number} of values is cut off", fields)
            fields |= read([int.from_bytes(payload[i : i + 2], "big") for i in range(at, end, 2)])
            at = end
        return fields


def _distance(words: list[int]) -> dict[str, Any]:
    millimetres, samples = words
    value = millimetres if samples > 0 else "no valid sample"
    return {"distance": {"value": value, "unit": "mm"}, "number_of_valid_samples": {"value": samples}}


def _battery(words: list[int]) -> dict[str, Any]:
    return {"battery_voltage": {"value": words[0] / 1000, "unit": "V"}}


DL_MBX = Family(((2, _distance), (1, _battery)))
"""Ultrasonic distance and level."""
