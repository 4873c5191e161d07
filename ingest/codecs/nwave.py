"""Nwave's parking sensors: what the bytes mean depends on the port.

Source: the vendor's decoder nps405.js in TheThingsNetwork/lorawan-devices (GitHub). The temperature is that of the
housing in the road.
"""

from __future__ import annotations

from typing import Any

from ingest.codecs.errors import CodecError

_RESETS = ("rejoining_lorawan_network", "watchdog", "power_on", "user_request", 4, 5, "brownout", "other")
_LENGTHS = {1: 1, 2: 3, 3: 5, 10: 5}
"""Port → the fewest bytes of its messages."""
_DEBUG_PORT = 6


def decode(f_port: int, payload: bytes) -> dict[str, Any]:
    """The fields of an uplink. Raises CodecError for a port that is not known, and for too few bytes.

    Examples
    --------
    >>> decode(3, bytes.fromhex("0204090200"))
    {'type': 'startup', 'firmware_version': '2.4.9', 'reset_cause': 'power_on', 'occupied': False}
    """
    if f_port == _DEBUG_PORT:
        return {"type": "debug"}
    if f_port not in _LENGTHS:
        raise CodecError(f"a parking sensor sends nothing on port {f_port}")
    if len(payload) < _LENGTHS[f_port]:
        raise CodecError(f"{len(payload)} bytes on port {f_port}, at least {_LENGTHS[f_port]} were expected")
    occupied = bool(payload[0] & 1)
    if f_port == 1:
        return {"type": "parking_status", "occupied": occupied} | _previous(payload[0] >> 1)
    if f_port == 10:
        found: dict[str, Any] = {"type": "user_registration"}
        if len(payload) > _LENGTHS[f_port]:
            found["tag_battery_voltage"] = payload[1] / 10
        found["tag_id"] = payload[len(payload) - 4 :].hex().upper()
        return found | ({"occupied": True} | _previous(payload[0] >> 1) if occupied else {})
    if f_port == 3:
        cause = payload[3]
        return {
            "type": "startup",
            "firmware_version": ".".join(str(part) for part in payload[:3]),
            "reset_cause": _RESETS[cause] if cause < len(_RESETS) else cause,
            "occupied": bool(payload[4] & 1),
        }
    millivolts = 2500 + 4 * payload[1]
    temperature = int.from_bytes(payload[2:3], "big", signed=True) / 2 + 10
    low, critical = (3000, 2900) if temperature >= -5 else (2900, 2800)
    return {
        "type": "heartbeat",
        "occupied": occupied,
        "hw_health_status": payload[0] & 0x7F,
        "temperature": temperature,
        "battery_voltage": millivolts / 1000,
        "battery_health": "normal" if millivolts >= low else "low" if millivolts >= critical else "critical",
    }


def _previous(code: int) -> dict[str, Any]:
    """How long the state before lasted [min]: exact up to 90 minutes, then in steps of 5 minutes and of an hour."""
    if code < 90:
        duration, error = code, 0
    elif code < 120:
        duration, error = 90 + (code - 90) * 5, 4
    else:
        duration, error = 240 + (min(code, 127) - 120) * 60, 59
    return {
        "previous_state_duration": duration,
        "previous_state_duration_error": error if code < 127 else None,
        "previous_state_duration_overflow": code >= 127,
    }
