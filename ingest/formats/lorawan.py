"""What LoRaWAN network servers deliver, whichever it is: an uplink of one device, and what its fields observe.

The formats of the servers read their own JSON into an ``Uplink``; ``take`` makes readings of it:

- The device is found by its DevEUI, else by its id or name at the server.
- The fields that the server has decoded are taken by the names that the device's model has in the catalogue; where it
  has decoded nothing that the model knows, the model's codec decodes the bytes. A device without a model gives the
  fields that are called like an observed property.
- The time is the server's time of reception, so that a copy through another gateway is the same reading. What a device
  kept and sends again (``history``) has its own times.
- The signal strength is that of the gateway that heard it best.
- Fields that nobody asked for mean nothing; the log names them once.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from ingest.codecs import ALSO_NAMED, CODECS, CodecError
from ingest.formats.pantau_json import finite
from ingest.formats.times import time_ns
from ingest.readings import Readings, RefusedError, kind, short
from ingest.refusals import Reason
from telemetry.directory import Field, Payload

log = logging.getLogger(__name__)

MAX_BYTES = 255
"""No LoRaWAN frame holds more."""
HISTORY = "history"
SIGNAL = "rssi_dbm"
_TIMES = ("timestamp", "time", "ts")
"""What the time of an entry of the history is called."""
_ANNOUNCED = 10_000
"""So many different sets of fields are named in the log at most."""

_EUI = re.compile(r"[0-9a-f]{16}")
_HEX = re.compile(r"([0-9A-Fa-f]{2})*")
_MEASURE = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(\D{0,10})", re.ASCII)


class Uplink(NamedTuple):
    """One uplink, as far as it matters here."""

    names: tuple[str, ...]
    """By which the device may be registered; the DevEUI first."""
    f_port: int | None
    data: bytes
    """b"": none."""
    fields: dict[str, Any] | None
    """As the server decoded them."""
    time_ns: int | None
    """When the server received it [ns since 1970 UTC]; None: it did not say."""
    rssi_dbm: float | None


class LorawanFormat:
    """What the formats of all servers share; each has its ``read``."""

    def __init__(self) -> None:
        self._announced: set[tuple[str, frozenset[str]]] = set()

    def decode(self, topic: str, payload: bytes, readings: Readings) -> None:
        """See ``ingest.formats.Format``."""
        device: str | None = None
        try:
            uplink = self.read(topic, payload)
            if uplink is None or uplink.f_port == 0 or not (uplink.data or uplink.fields):
                readings.nothing()  # of port 0 the network is the only reader
                return
            device = uplink.names[0]
            device, feeds = _find(uplink.names, readings)
            self._take(uplink, device, feeds, readings)
        except RefusedError as refused:
            readings.refuse(refused.reason, refused.detail, device=device)

    def read(self, topic: str, payload: bytes) -> Uplink | None:
        """The uplink in a message; None if it rightly is none. Raises RefusedError."""
        raise NotImplementedError

    def _take(self, uplink: Uplink, device: str, feeds: Mapping[str, int], readings: Readings) -> None:
        """Add the readings of an uplink, and refuse what can't be read. Raises RefusedError for the whole."""
        if not feeds:
            raise RefusedError(Reason.NOT_INSTALLED, f"device {short(device)} is not installed anywhere")
        payload = readings.directory.payload_of.get(device)
        if payload is None:
            payload = Payload("", fields=tuple(Field(name, name, "") for name in feeds))
        fields, undecoded = _fields(uplink, payload)
        taken = _Taken(device, feeds, readings)
        sources = {f.source.partition(".")[0] for f in payload.fields} | {HISTORY}
        for field in payload.fields:
            value = _at(fields, field.source)
            if value is _ABSENT and field.property == SIGNAL and uplink.rssi_dbm is not None:
                value = uplink.rssi_dbm
            if value is not _ABSENT:
                taken.add(field, value, uplink.time_ns, f"$.{field.source}", own_clock=False)
        for entry, at, where in _history(fields, taken):
            for field in payload.fields:
                value = _at(entry, field.source)
                if value is not _ABSENT:
                    taken.add(field, value, at, f"{where}.{field.source}", own_clock=True)
        if undecoded is not None:
            readings.refuse(Reason.UNDECODABLE, undecoded, device=device)
            return
        self._announce(payload.model or device, frozenset(fields.keys() - sources) | taken.without_datastream)
        if taken.any:
            return
        if taken.without_datastream:
            raise RefusedError(
                Reason.UNKNOWN_PROPERTY,
                f"device {short(device)} has no datastream of {_list(sorted(taken.without_datastream))}",
            )
        readings.nothing()  # such as a word on its firmware, or the battery alone

    def _announce(self, whose: str, names: frozenset[str]) -> None:
        if not names or (whose, names) in self._announced or len(self._announced) >= _ANNOUNCED:
            return
        self._announced.add((whose, names))
        log.info("uplinks of %s: fields that are not taken: %s", whose, ", ".join(sorted(names)[:50])[:1000])


_ABSENT = object()


def _find(names: tuple[str, ...], readings: Readings) -> tuple[str, Mapping[str, int]]:
    """(id, feeds) of the device that is registered by one of these names. Raises RefusedError."""
    registered = (n for n in names if n in readings.feed_of or n.lower() in readings.directory.named)
    return readings.find(next(registered, names[0]))


def _fields(uplink: Uplink, payload: Payload) -> tuple[dict[str, Any], str | None]:
    """The decoded fields, and why some or all of them could not be decoded."""
    decode = CODECS.get(payload.codec)
    if uplink.fields:
        also = ALSO_NAMED.get(payload.codec, {})
        fields = {also.get(name, name): value for name, value in uplink.fields.items()}
        sources = [f.source for f in payload.fields if f.property != SIGNAL]
        if HISTORY in fields or any(_at(fields, source) is not _ABSENT for source in sources):
            return fields, None
        if decode is None or not uplink.data:
            whose = f"the model {payload.model!r}" if payload.model else "the device, which has no model,"
            return fields, (
                f"none of the fields {_list(fields)} is one of {_list(sources)}, which {whose} is known by: "
                f"give the device its model, or mend the decoder at the network server"
            )
    if decode is None:
        if payload.codec:
            detail = f"this version has no codec {payload.codec!r}, which the model {payload.model!r} names"
        elif payload.model:
            detail = f"the model {payload.model!r} names no codec: have the network server decode its bytes"
        else:
            detail = (
                "the network server has not decoded the device's bytes, and it has no model in the catalogue: give it "
                "its model, or have the network server decode them"
            )
        return {}, detail
    if uplink.f_port is None:
        return {}, "the port is missing, without which bytes can't be decoded"
    try:
        return decode(uplink.f_port, uplink.data), None
    except CodecError as error:
        return error.fields, f"bytes {short(uplink.data.hex())} on port {uplink.f_port}, codec {payload.codec}: {error}"


def _list(names: Iterable[str]) -> str:
    """Some names, for a sentence."""
    first = [name[:40] for name in itertools.islice(names, 13)]
    return (", ".join(first[:12]) + (", ..." if len(first) > 12 else "")) or "(none)"


def _at(fields: Any, source: str) -> Any:
    """The value at a path of names with dots, or ``_ABSENT``; a name that itself has dots is found as well."""
    if not isinstance(fields, dict):
        return _ABSENT
    if source in fields:
        return fields[source]
    head, _, rest = source.partition(".")
    return _at(fields[head], rest) if rest and head in fields else _ABSENT


def _history(fields: dict[str, Any], taken: _Taken) -> Iterator[tuple[dict[str, Any], int, str]]:
    """Its entries, each with its time [ns since 1970 UTC] and where it stands."""
    entries = fields.get(HISTORY)
    if not isinstance(entries, list):
        return
    for number, entry in enumerate(entries):
        where = f"$.{HISTORY}[{number}]"
        if not isinstance(entry, dict):
            continue
        time = next((entry[name] for name in _TIMES if entry.get(name) is not None), None)
        try:
            if time is None:
                raise RefusedError(Reason.NO_TIME, f"{where} has no time; it must have a {_TIMES[0]}")
            yield entry, time_ns(time, f"{where}.time"), where
        except RefusedError as refused:
            taken.any = True
            taken.readings.refuse(
                refused.reason, refused.detail, device=taken.device, fragment=({"device": taken.device} | entry, None)
            )


class _Taken:
    """What came of one uplink so far."""

    def __init__(self, device: str, feeds: Mapping[str, int], readings: Readings) -> None:
        self.device = device
        self.feeds = feeds
        self.readings = readings
        self.any = False
        """Whether there was a reading, taken or refused."""
        self.without_datastream: frozenset[str] = frozenset()

    def add(self, field: Field, value: Any, at: int | None, where: str, *, own_clock: bool) -> None:
        """Take the value of a field, or refuse it."""
        feed = self.feeds.get(field.property)
        if feed is None:
            if field.property != SIGNAL:
                self.without_datastream |= {field.property}
            return
        self.any = True
        unit: str | None = field.unit or None
        time = self.readings.received_at if at is None else at
        item = {"device": self.device, "property": field.property, "value": value}
        item |= {"time": time} if time is not None else {}
        try:
            number, own_unit = _number(value, field.property, where)
            unit = own_unit or unit
            item |= {"value": number} | ({"unit": unit} if unit else {})
            self.readings.add(feed, field.property, number, unit, at, (item, None), own_clock=own_clock)
        except RefusedError as refused:
            self.readings.refuse(refused.reason, refused.detail, device=self.device, fragment=(item, None))


def _number(value: Any, property_name: str, where: str) -> tuple[float, str | None]:
    """A value as a number, and its unit where it brings one: 2799, "2799", "2799 mm", {"value": 2799, "unit": "mm"}.

    Raises RefusedError.
    """
    unit: str | None = None
    if isinstance(value, dict) and "value" in value:
        unit = value["unit"] if isinstance(value.get("unit"), str) and value["unit"] else None
        value = value["value"]
    if isinstance(value, str):
        measure = _MEASURE.fullmatch(value) if len(value) <= 40 else None
        if measure is None:
            raise RefusedError(Reason.MISSING_VALUE, f"{where} is no number but says {short(value)}")
        value, unit = float(measure[1]), measure[2].strip() or unit
    if isinstance(value, bool):
        if property_name != "connected":
            raise RefusedError(Reason.WRONG_TYPE, f"{where} must be a number, got {kind(value)}")
        value = float(value)
    if value is None:
        raise RefusedError(Reason.MISSING_VALUE, f"{where} is null")
    if not isinstance(value, int | float):
        raise RefusedError(Reason.WRONG_TYPE, f"{where} must be a number, got {kind(value)}")
    return finite(value, where), unit


def from_base64(text: Any, path: str) -> bytes:
    """Bytes of a frame; b"" for none. Raises RefusedError.

    Examples
    --------
    >>> from_base64("AXVcA4JECAQAAQ==", "$.data").hex()
    '01755c03824408040001'
    """
    if text is None:
        return b""
    if not isinstance(text, str):
        raise RefusedError(Reason.WRONG_TYPE, f"{path} must be a string in base64")
    try:
        return _frame(base64.b64decode(text.encode("ascii"), validate=True), path)
    except (binascii.Error, UnicodeEncodeError, ValueError) as error:
        raise RefusedError(Reason.UNDECODABLE, f"{path} must be base64, got {short(text)}") from error


def from_hex(text: Any, path: str) -> bytes:
    """Bytes of a frame; b"" for none. Raises RefusedError."""
    if text is None:
        return b""
    if not isinstance(text, str):
        raise RefusedError(Reason.WRONG_TYPE, f"{path} must be a string in hexadecimal digits")
    if not _HEX.fullmatch(text):
        raise RefusedError(Reason.UNDECODABLE, f"{path} must be hexadecimal digits, got {short(text)}")
    return _frame(bytes.fromhex(text), path)


def _frame(data: bytes, path: str) -> bytes:
    if len(data) > MAX_BYTES:
        raise RefusedError(Reason.UNDECODABLE, f"{path} has {len(data)} bytes; a LoRaWAN frame has at most {MAX_BYTES}")
    return data


def eui(value: Any, path: str) -> str:
    """A DevEUI as 16 hexadecimal digits in small letters. Raises RefusedError.

    Examples
    --------
    >>> eui("24-E1-24-70-7C-48-36-36", "$.devEUI"), eui("JOEkcHxINjY=", "$.devEUI")
    ('24e124707c483636', '24e124707c483636')
    """
    if isinstance(value, str) and len(value) <= 40:
        plain = value.replace("-", "").replace(":", "").lower()
        if _EUI.fullmatch(plain):
            return plain
        if len(value) == 12:  # as older servers can be set to write it
            try:
                raw = base64.b64decode(value.encode("ascii"), validate=True)
            except (binascii.Error, UnicodeEncodeError, ValueError):
                raw = b""
            if len(raw) == 8:
                return raw.hex()
    raise RefusedError(Reason.WRONG_TYPE, f"{path} must be a DevEUI of 16 hexadecimal digits, got {kind(value)}")


def port(value: Any, path: str) -> int | None:
    """A port, or None. Raises RefusedError."""
    if value is None or (type(value) is int and 0 <= value <= 255):
        return value
    raise RefusedError(Reason.WRONG_TYPE, f"{path} must be a whole number from 0 to 255, got {kind(value)}")


def names(*values: Any) -> tuple[str, ...]:
    """Those that are names."""
    return tuple(value for value in values if isinstance(value, str) and value)


def best_rssi(gateways: Any) -> float | None:
    """The strongest signal among gateways, each with its ``rssi``. [dBm]"""
    if not isinstance(gateways, list):
        return None
    heard: list[float] = [
        gateway["rssi"]
        for gateway in gateways
        if isinstance(gateway, dict) and type(gateway.get("rssi")) in (int, float)
    ]
    # 0 is what a server writes that does not know it.
    return max((float(rssi) for rssi in heard if -200 <= rssi < 0), default=None)


def first_time(*times: tuple[Any, str]) -> int | None:
    """The first time that is there, from (value, where it stands). [ns since 1970 UTC] Raises RefusedError."""
    for value, path in times:
        if value is not None and value != "":
            return time_ns(value, path)
    return None
