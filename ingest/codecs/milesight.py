"""Milesight's sensors: channels of two bytes (id, type), each followed by its data, least significant byte first.

Source: the tables in the README of each model, and its decoder, in Milesight-IoT/SensorDecoders (GitHub). Field names
and words are those of the samples in thingsboard/data-converters, which the catalogue of models follows; where they
differ from the vendor's newer decoder, the catalogue names both.

The answers to downlinks (channels 0xfe, 0xf8, 0xf9 and the unknown ones of 0xff) tell about settings: reading ends
there, and where there is nothing but zeros to the end.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ingest.codecs.errors import CodecError

Read = Callable[[Any], Any]
"""A number, or bytes, as they are packed → the field's value."""

_ANSWERS = (0xFE, 0xFF, 0xF8, 0xF9)


@dataclass(frozen=True)
class Channel:
    """The data of one channel: its packing, and a name and a reading for each item; "" leaves an item out."""

    items: struct.Struct
    names: tuple[str, ...]
    reads: tuple[Read, ...]

    def values(self, payload: bytes, start: int) -> dict[str, Any]:
        """The fields of the data that begin at ``start``."""
        packed = self.items.unpack_from(payload, start)
        return {name: read(item) for name, read, item in zip(self.names, self.reads, packed, strict=True) if name != ""}


def _channel(packing: str, *fields: tuple[str, Read]) -> Channel:
    return Channel(struct.Struct("<" + packing), tuple(name for name, _ in fields), tuple(read for _, read in fields))


def _as_is(value: Any) -> Any:
    return value


def _per(divisor: int, errors: Mapping[int, str] | None = None) -> Read:
    """The value divided; or a sentence where the number is the sensor's way to say that it has none."""

    def read(value: int) -> float | str:
        return errors[value] if errors and value in errors else value / divisor

    return read


def _number(errors: Mapping[int, str]) -> Read:
    def read(value: int) -> int | str:
        return errors.get(value, value)

    return read


def _word(*words: str) -> Read:
    """0 is the first word, and so on."""

    def read(value: int) -> str | int:
        return words[value] if value < len(words) else value

    return read


def _hex(value: bytes) -> str:
    return value.hex()


def _version(nibbles: bool) -> Read:
    def read(value: bytes) -> str:
        return f"v{value[0]}.{value[1] >> 4}" if nibbles else f"v{value[0]}.{value[1]}"

    return read


def _plain_version(value: bytes) -> str:
    return ".".join(str(part) for part in value)


_FAILED = "sensor failed (0xffff)"
_NO_DISTANCE = {0xFFFF: _FAILED, 0xFFFE: "sensor switched off (0xfffe)", 0xFFFD: "nothing in sight (0xfffd)"}
"""No such sensor sees as far as 65 m."""
_NO_SIGNED_DISTANCE = {code - 0x10000: words for code, words in _NO_DISTANCE.items()}
_NO_DEPTH = {0xFFFF: _FAILED, 0xFFFD: "out of the sensor's range (0xfffd)"}

_COMMON: dict[tuple[int, int], Channel] = {
    (0xFF, 0x01): _channel("B", ("ipso_version", lambda v: f"v{v >> 4}.{v & 15}")),
    (0xFF, 0x09): _channel("2s", ("hardware_version", _version(nibbles=True))),
    (0xFF, 0x0A): _channel("2s", ("firmware_version", _version(nibbles=False))),
    (0xFF, 0x0B): _channel("b", ("device_status", _as_is)),
    (0xFF, 0x0F): _channel("B", ("lorawan_class", _word("ClassA", "ClassB", "ClassC", "ClassCtoB"))),
    (0xFF, 0x16): _channel("8s", ("sn", _hex)),
    (0xFF, 0xFE): _channel("B", ("reset_event", lambda _: 1)),
    (0xFF, 0xFF): _channel("2s", ("tsl_version", _version(nibbles=True))),
    (0x01, 0x75): _channel("B", ("battery", _as_is)),
}
"""Of every model; the battery in percent."""

_TEMPERATURE = _channel("h", ("temperature", _per(10)))
_HUMIDITY = _channel("B", ("humidity", _per(2)))
_POSITION = _channel("B", ("position", _word("normal", "tilt")))
_TRIGGER = _word("idle", "trigger")
_BOOL: Read = bool

_AIR: dict[tuple[int, int], Channel] = {
    (0x03, 0x67): _TEMPERATURE,
    (0x04, 0x68): _HUMIDITY,
    (0x05, 0x00): _channel("B", ("pir", _TRIGGER)),
    (0x06, 0xCB): _channel("B", ("light_level", _as_is)),
    (0x07, 0x7D): _channel("H", ("co2", _as_is)),
    (0x08, 0x7D): _channel("H", ("tvoc", _as_is)),
    (0x08, 0xE6): _channel("H", ("tvoc", _as_is)),
    (0x09, 0x73): _channel("H", ("pressure", _per(10))),
    (0x0B, 0x7D): _channel("H", ("pm2_5", _as_is)),
    (0x0C, 0x7D): _channel("H", ("pm10", _as_is)),
    (0x0A, 0x7D): _channel("H", ("", _as_is)),  # formaldehyde and ozone, of other models of the series
    (0x0D, 0x7D): _channel("H", ("", _as_is)),
    (0x0E, 0x01): _channel("B", ("beep", lambda v: "yes" if v == 1 else "no")),
}
_AIR_HISTORY = (
    ("timestamp", _as_is),
    ("temperature", _per(10)),
    ("humidity", _per(2)),
    ("trigger", _TRIGGER),
    ("light_level", _as_is),
    ("co2", _as_is),
    ("tvoc", _as_is),
    ("pressure", _per(10)),
    ("pm2_5", _as_is),
    ("pm10", _as_is),
)
_AM308_HISTORY = _channel("IhHBBHHHHH", *_AIR_HISTORY)
_AM319_HISTORY = _channel("IhHBBHHHHHH", *_AIR_HISTORY, ("hcho", _per(100)))

_CURRENT_ALARMS = ("threshold alarm", "threshold alarm release", "over range alarm", "over range alarm release")


def _current_alarms(bits: int) -> list[str]:
    return [words for i, words in enumerate(_CURRENT_ALARMS) if bits >> i & 1]


def _regions(first: int) -> Channel:
    return _channel("8B", *((f"region_{i}_count", _as_is) for i in range(first, first + 8)))


def _flows(gate: str) -> Channel:
    return _channel("4H", *((f"{gate}_to_{to}", _as_is) for to in "abcd"))


def _sound(payload: bytes, start: int) -> dict[str, Any]:
    """Three levels, whose names tell the weighting in frequency (A, C, Z) and time (impulse, fast, slow)."""
    weighting, momentary, mean, loudest = struct.unpack_from("<BHHH", payload, start)
    frequency, time = "ZAC?"[weighting & 3], "IFS?"[weighting >> 2 & 3]
    return {
        f"L{frequency}{time}": momentary / 10,
        f"L{frequency}eq": mean / 10,
        f"L{frequency}{time}max": loudest / 10,
    }


def _probe_history(payload: bytes, start: int) -> dict[str, Any]:
    """The temperature counts only if the probe was read."""
    timestamp, status, temperature = struct.unpack_from("<IBh", payload, start)
    read = ("Success", "Read error", "Out of range")
    why = ("Periodic", "Alarm(Threshold or Mutation)", "Alarm release")
    status, event = status >> 4, status & 15
    return {
        "timestamp": timestamp,
        "temperature": temperature / 10 if status == 0 else f"the probe was not read (status {status})",
        "read_status": read[status] if status < len(read) else status,
        "event_type": why[event - 1] if 1 <= event <= len(why) else event,
    }


@dataclass(frozen=True)
class Model:
    """What a model's channels hold, beside those that all have."""

    channels: dict[tuple[int, int], Channel]
    special: dict[tuple[int, int], tuple[int, Callable[[bytes, int], dict[str, Any]]]]
    """Channels whose names depend on the data: their length [bytes], and how they are read."""
    history: frozenset[tuple[int, int]]
    """Those of them whose data are one moment of the past."""

    def decode(self, f_port: int, payload: bytes) -> dict[str, Any]:
        """The fields of an uplink. Raises CodecError, with those before, where it meets a channel unknown or cut off.

        Examples
        --------
        >>> MODELS["em310_udl"].decode(85, bytes.fromhex("01755C03824408040001"))
        {'battery': 92, 'distance': 2116, 'position': 'tilt'}
        """
        fields: dict[str, Any] = {}
        at = 0
        while at < len(payload):
            key = (payload[at], payload[at + 1] if at + 1 < len(payload) else -1)
            at += 2
            channel = self.channels.get(key)
            length, read = (channel.items.size, channel.values) if channel else self.special.get(key, (0, None))
            if read is None:
                if key[0] in _ANSWERS or not any(payload[at - 2 :]):
                    break
                if key[1] < 0:
                    raise CodecError(f"channel {key[0]:02x} is cut off", fields)
                raise CodecError(f"channel {key[0]:02x} {key[1]:02x} is not known of this model", fields)
            if at + length > len(payload):
                raise CodecError(f"channel {key[0]:02x} {key[1]:02x} is cut off", fields)
            found = read(payload, at)
            if key in self.history:
                fields.setdefault("history", []).append(found)
            else:
                fields.update(found)
            at += length
        return fields


def _model(
    channels: dict[tuple[int, int], Channel],
    history: dict[tuple[int, int], Channel] | None = None,
    special: dict[tuple[int, int], tuple[int, Callable[[bytes, int], dict[str, Any]]]] | None = None,
    special_history: frozenset[tuple[int, int]] = frozenset(),
) -> Model:
    history = history or {}
    return Model(_COMMON | channels | history, special or {}, frozenset(history) | special_history)


_PAST = (0x20, 0xCE)

_CT10X = _model(
    {
        (0xFF, 0x0B): _channel("B", ("power", lambda _: "on")),
        (0x03, 0x97): _channel("I", ("total_current", _per(100))),
        (0x09, 0x67): _channel("h", ("temperature", _per(10, {-1: _FAILED, -3: "out of the sensor's range (0xfffd)"}))),
        (0x84, 0x98): _channel(
            "HHHB",
            ("current_max", _per(100)),
            ("current_min", _per(100)),
            ("current", _per(100)),
            ("alarm", _current_alarms),
        ),
        (0x89, 0x67): _channel("hB", ("temperature", _per(10)), ("temperature_alarm", _as_is)),
    },
    special={
        (0x04, 0x98): (
            2,
            lambda payload, at: (
                {"alarm": "read failed"}
                if payload[at : at + 2] == b"\xff\xff"
                else {"current": int.from_bytes(payload[at : at + 2], "little") / 100}
            ),
        )
    },
)

MODELS: dict[str, Model] = {
    "am308": _model(_AIR, {_PAST: _AM308_HISTORY, (0x21, 0xCE): _AM308_HISTORY}),
    "am319": _model(
        _AIR | {(0x0A, 0x7D): _channel("H", ("hcho", _per(100)))},
        {_PAST: _AM319_HISTORY, (0x21, 0xCE): _AM319_HISTORY},
    ),
    "ct10x": _CT10X,
    "em300_th": _model(
        {(0x03, 0x67): _TEMPERATURE, (0x04, 0x68): _HUMIDITY},
        {
            _PAST: _channel(
                "IhBB", ("timestamp", _as_is), ("temperature", _per(10)), ("humidity", _per(2)), ("", _as_is)
            )
        },
    ),
    "em310_udl": _model(
        {(0x03, 0x82): _channel("H", ("distance", _number(_NO_DISTANCE))), (0x04, 0x00): _POSITION},
    ),
    "em400_udl": _model(
        {
            (0x03, 0x67): _TEMPERATURE,
            (0x04, 0x82): _channel("H", ("distance", _number(_NO_DISTANCE))),
            (0x05, 0x00): _POSITION,
            (0x83, 0x67): _channel("hB", ("temperature", _per(10)), ("temperature_abnormal", _BOOL)),
            (0x84, 0x82): _channel("HB", ("distance", _number(_NO_DISTANCE)), ("distance_alarming", _BOOL)),
        },
    ),
    "em410_rdl": _model(
        {
            (0x03, 0x67): _TEMPERATURE,
            (0x04, 0x82): _channel("h", ("distance", _number(_NO_SIGNED_DISTANCE))),
            (0x05, 0x00): _POSITION,
            (0x06, 0xC7): _channel("h", ("radar_signal_rssi", _per(100))),
            (0x84, 0x82): _channel("hB", ("distance", _number(_NO_SIGNED_DISTANCE)), ("distance_alarm", _as_is)),
            (0x94, 0x82): _channel(
                "hhB",
                ("distance", _number(_NO_SIGNED_DISTANCE)),
                ("distance_mutation", _as_is),
                ("distance_alarm", _as_is),
            ),
            # In the blind zone, or with nothing in sight: the number is no distance to be believed.
            (0xB4, 0x82): _channel("hB", ("", _as_is), ("distance_exception", _as_is)),
        },
        {
            _PAST: _channel(
                "IhhhB",
                ("timestamp", _as_is),
                ("distance", _number(_NO_SIGNED_DISTANCE)),
                ("temperature", _per(10, {-1: _FAILED, -2: "sensor switched off (0xfffe)"})),
                ("", _as_is),
                ("event", _as_is),
            )
        },
    ),
    "em500_swl": _model(
        {
            (0x03, 0x77): _channel("H", ("water_level", _number(_NO_DEPTH))),
            (0xFF, 0x1B): _channel("Bhh", ("", _as_is), ("", _as_is), ("", _as_is)),
        },
        {_PAST: _channel("IH", ("timestamp", _as_is), ("water_level", _number(_NO_DEPTH)))},
    ),
    "em500_udl": _model(
        {
            (0x03, 0x82): _channel("H", ("distance", _number(_NO_DISTANCE))),
            # The vendor's decoder divides this distance by 10 and states no unit: it is not taken for a level.
            (0x83, 0xE9): _channel("HHB", ("", _as_is), ("", _as_is), ("distance_alarm", _as_is)),
        },
        {_PAST: _channel("IH", ("timestamp", _as_is), ("distance", _number(_NO_DISTANCE)))},
    ),
    "ts201": _model(
        {
            (0x03, 0x67): _TEMPERATURE,
            (0x83, 0x67): _channel(
                "hB",
                ("temperature", _per(10)),
                ("temperature_alarm", _word("Threshold Alarm Release", "Threshold Alarm", "Mutation Alarm")),
            ),
            (0x93, 0x67): _channel(
                "hhB",
                ("temperature", _per(10)),
                ("temperature_mutation", _per(10)),
                ("temperature_alarm", _word("Threshold Alarm Release", "Threshold Alarm", "Mutation Alarm")),
            ),
            (0xB3, 0x67): _channel("B", ("read_status", lambda v: f"the probe was not read (status {v})")),
            (0xFF, 0xA0): _channel("B8s", ("", _as_is), ("", _as_is)),
        },
        special={_PAST: (7, _probe_history)},
        special_history=frozenset((_PAST,)),
    ),
    "vs121": _model(
        {
            (0xFF, 0x01): _channel("B", ("protocol_version", _as_is)),
            (0xFF, 0x08): _channel("6s", ("sn", _hex)),
            (0xFF, 0x09): _channel("2s", ("hardware_version", _plain_version)),
            (0xFF, 0x1F): _channel("4s", ("firmware_version", _plain_version)),
            (0x04, 0xC9): _channel("BBH", ("people_count_all", _as_is), ("region_count", _as_is), ("", _as_is)),
            (0x05, 0xCC): _channel("hh", ("people_in", _as_is), ("people_out", _as_is)),
            (0x06, 0xCD): _channel("B", ("people_count_max", _as_is)),
            (0x07, 0xD5): _regions(1),
            (0x08, 0xD5): _regions(9),
            (0x09, 0xDA): _flows("a"),
            (0x0A, 0xDA): _flows("b"),
            (0x0B, 0xDA): _flows("c"),
            (0x0C, 0xDA): _flows("d"),
            (0x0D, 0xCC): _channel("HH", ("people_total_in", _as_is), ("people_total_out", _as_is)),
            (0x0E, 0xE4): _channel("BHH", ("", _as_is), ("dwell_time_avg", _as_is), ("dwell_time_max", _as_is)),
            (0x0F, 0x85): _channel("I", ("timestamp", _as_is)),
            (0x10, 0xF7): _channel("HH", ("line_in", _as_is), ("line_out", _as_is)),
        }
    ),
    "ws302": _model({}, special={(0x05, 0x5B): (7, _sound)}),
}
"""Model → its codec."""
