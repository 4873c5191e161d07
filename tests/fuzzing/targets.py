"""What the fuzzer throws bytes at, and what must hold whatever they are: ``TARGETS``, name → function of bytes.

A target raises if its law is broken, and at nothing else. Every format in ``FORMATS`` and every codec in ``CODECS`` is
a target without being named here. ``seeds`` gives inputs to begin with: published and recorded payloads of the tests.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import json
import math
import struct
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import cbor2

from devices.models import load_catalogue
from ingest.codecs import CODECS, CodecError
from ingest.formats import FORMATS
from ingest.formats.pantau_json import PantauJson, decode_clock
from ingest.formats.senml_cbor import LABELS
from ingest.packets import Chunk, PacketStream, StreamBrokenError
from ingest.readings import FIRST_NS, LAST_NS, Readings, RefusedError
from ingest.settings import Limits
from telemetry.directory import Datastream, Device, Directory, Payload, Site
from telemetry.properties import PROPERTIES

Target = Callable[[bytes], object]

DATA = Path(__file__).parents[1] / "ingest" / "data"
CRASHES = Path(__file__).parent / "crashes"
NOW = 1_795_000_000_000_000_000
MAX_PAYLOAD = 1000
"""Of the packet stream, small, so that packets beyond it come up."""
NAMES = (
    "1000000000000001",
    "24e124707c483636",
    "24e1641092176759",
    "0102030405060708",
    "urn:dev:ow:10e2073a0108006",
    "madrid-ambientobserved-28079004-2016-03-15t11:00:00",
    "device-0a3478",
    "device-9845a",
    "trafficflowobserved-valladolid-osm-60821110",
    "plant/umh-1",
    "banjir/pos-1",
    "banjir/pos-1/gauge-a",
)
TOPICS: dict[str, tuple[str, ...]] = {
    "sparkplug_b": tuple(
        f"spBv1.0/banjir/{kind}/pos-1{device}"
        for kind, device in (
            ("NBIRTH", ""),
            ("DBIRTH", "/Gauge-A"),
            ("NDATA", ""),
            ("DDATA", "/Gauge-A"),
            ("NDEATH", ""),
            ("DDEATH", "/Gauge-A"),
            ("NCMD", ""),
            ("XXXX", ""),
        )
    ),
    "chirpstack": tuple(f"application/1/device/1000000000000001/event/{event}" for event in ("up", "join", "status")),
    "the_things_stack": tuple(f"v3/app/devices/one/{event}" for event in ("up", "join", "down/ack")),
}
JSON_TARGETS = frozenset(
    {"clock", "pantau_json", "senml_json", "smart_data_models", "chirpstack", "the_things_stack", "loriot"}
)
_OWN_TOPIC = ("pantau/v1/fuzz/one", "any/where")


@cache
def cities() -> tuple[Directory, ...]:
    """Cities of one gateway, ``one``, with all properties and names: without a model, and of each with a payload."""
    payloads = [model.payload for model in load_catalogue().values() if model.payload is not None]
    return tuple(_city(payload) for payload in (None, *payloads))


def _city(payload: Payload | None) -> Directory:
    return Directory(
        version=1,
        city="fuzz",
        utc_offset_h=7,
        sites=(Site("s", "S", -6.9, 107.6),),
        devices=(Device("one", "s", payload.model if payload else "", names=NAMES, gateway=True),),
        datastreams=tuple(Datastream(f"one:{name}", "s", "one", name) for name in PROPERTIES),
        payloads=(payload,) if payload else (),
    )


def _format(name: str) -> Target:
    """Byte 0 chooses the city, byte 1 the topic; the rest is the payload of one message after others."""
    made = [FORMATS[name]() for _ in cities()]
    topics, again, limits = TOPICS.get(name, _OWN_TOPIC), PantauJson(), Limits()

    def run(data: bytes) -> None:
        which = data[0] % len(made) if data else 0
        topic = topics[data[1] % len(topics)] if len(data) > 1 else topics[0]
        payload = data[2:]
        readings = _readings(which, topic, payload, limits)
        if not topic.startswith("pantau/"):
            readings.read_as(name)
        made[which].decode(topic, payload, readings)
        for at in readings.observed_at:
            assert FIRST_NS <= at <= LAST_NS, f"time {at} is no int64"
        taken = len(readings)
        assert taken + len(readings.dead_letters) + len(readings.presences) + readings.without_readings >= 1, (
            "the message left no account"
        )
        if taken:
            readings.finish()
        for letter in readings.dead_letters[:3]:
            if letter.fragment:
                once_more = _readings(which, topic, letter.payload, limits)
                once_more.read_as("pantau_json")
                again.decode("pantau/v1/fuzz/one", letter.payload, once_more)

    return run


def _readings(which: int, topic: str, payload: bytes, limits: Limits) -> Readings:
    readings = Readings(cities()[which], limits)
    readings.message = readings.announce("b", [topic.encode()], [payload])
    readings.begin(NOW, NOW)
    return readings


def _codec(name: str) -> Target:
    """Byte 0 is the port."""
    decode = CODECS[name]

    def run(data: bytes) -> None:
        with contextlib.suppress(CodecError):
            fields = decode(data[0] if data else 1, data[1:])
            assert all(isinstance(key, str) for key in fields)
            json.dumps(fields)

    return run


def clock(data: bytes) -> None:
    """A message on the topic of the clock."""
    with contextlib.suppress(RefusedError):
        now, speed = decode_clock(data)
        assert FIRST_NS <= now <= LAST_NS
        assert speed > 0


def packets(data: bytes) -> None:
    """What a broker sends: cut anywhere, it must give the same messages. Byte 0 is the length of the pieces."""
    step = 1 + (data[0] if data else 0)
    whole, pieces = _stream([data[1:]]), _stream([data[at : at + step] for at in range(1, len(data), step)])
    assert whole == pieces, f"cut into pieces of {step}: {pieces}, whole: {whole}"


def _stream(parts: list[bytes]) -> object:
    stream, chunk, control = PacketStream(MAX_PAYLOAD), Chunk(0), []
    broken = False
    try:
        for part in parts:
            control += stream.feed(part, chunk)
    except StreamBrokenError:
        broken = True
    # A connection whose stream is broken is closed: what the broker said besides messages no longer matters.
    told = None if broken else [str(packet) for packet in control]
    return chunk.topics, chunk.payloads, chunk.heads, chunk.packet_ids, told, broken


TARGETS: dict[str, Callable[[], Target]] = {
    "clock": lambda: clock,
    "packets": lambda: packets,
    **{name: (lambda name=name: _format(name)) for name in FORMATS},
    **{f"codec_{name}": (lambda name=name: _codec(name)) for name in CODECS},
}
"""Name → maker; a made one is given one input after another, and may remember."""


WORTH_TRYING: tuple[object, ...] = (
    *(None, True, False, 0, -1, 1, 0.5, 2**28, 2**31, 2**53, 2**63, 2**64, -(2**63), 10**400, 1e308, -1e308, 1e-320),
    *(math.nan, math.inf, -math.inf, "", "0", "one", "a" * 300, "Cel", "°C", "\ud800", "2026-11-24T10:20:00Z"),
    *(1_795_000_000, 1_795_000_000_000, "9999-12-31T23:59:60+23:59", [], {}, [[]], {"value": None}, b"\x00\xff"),
)


def changed(target: str, data: bytes, random: Random) -> bytes | None:
    """Like ``data``, but with one node of its JSON or CBOR changed; None if it holds none.

    Bytes changed at random seldom stay JSON: this gets the fuzzer past the parser.
    """
    start = 0 if target == "clock" else 2
    try:
        if target == "senml_cbor":
            content = cbor2.loads(data[start:], max_depth=20)
        elif target in JSON_TARGETS:
            content = json.loads(data[start:])
        else:
            return None
        holder = {"": content}
        _change(holder, random)
        new = cbor2.dumps(holder[""]) if target == "senml_cbor" else json.dumps(holder[""], default=bytes.hex).encode()
    except (ValueError, TypeError, RecursionError, OverflowError, cbor2.CBORError):
        return None
    return data[:start].ljust(start, b"\x00") + new


def _change(holder: dict[str, Any], random: Random) -> None:
    places: list[tuple[Any, Any]] = [(holder, "")]
    for inside, key in places:
        node = inside[key]
        if len(places) < 2000 and isinstance(node, dict | list):
            places += [(node, inner) for inner in (node if isinstance(node, dict) else range(len(node)))]
    inside, key = random.choice(places)
    action = random.randrange(6)
    if action == 0 and inside is not holder:
        del inside[key]
    elif action == 1 and isinstance(inside, list):
        inside.insert(key, inside[key])
    elif action == 2 and isinstance(inside, dict) and inside is not holder:
        other, name = random.choice(places)
        inside[name if isinstance(name, str) and other is not holder else f"{key}_"] = inside[key]
    elif action == 3:
        other, name = random.choice(places)
        inside[key] = copy.deepcopy(other[name])
    elif action == 4:
        inside[key] = random.choice([[inside[key]], {"value": inside[key]}])
    else:
        inside[key] = random.choice(WORTH_TRYING)


def seeds(target: str) -> Iterator[bytes]:
    """Inputs to begin with."""
    if target == "clock":
        yield b'{"now": "2026-11-24T10:20:00Z", "speed": 60}'
        yield b'{"now": 1795515600.25}'
    elif target == "packets":
        yield from _packet_seeds()
    elif target.startswith("codec_"):
        for path in sorted((DATA / "lorawan").rglob("payload*.json")):
            for data in _bytes_in(json.loads(path.read_text())):
                yield from (bytes([port]) + data for port in (1, 2, 85))
        yield from (bytes([2]) + bytes.fromhex(text) for text in ("03670110056700ff", "0cf10021", "02085d0003001f0d0a"))
    else:
        kinds, topics = len(cities()), len(TOPICS.get(target, _OWN_TOPIC))
        for number, payload in enumerate(_payloads(target)):
            for topic in range(min(topics, 6)):
                yield bytes([number % kinds, topic]) + payload


def _payloads(name: str) -> Iterator[bytes]:
    pack = [
        {
            "bn": "urn:dev:ow:10e2073a0108006:",
            "bt": 1.276020076001e9,
            "bu": "A",
            "bver": 5,
            "n": "voltage",
            "u": "V",
            "v": 1,
        },
        {"n": "temperature", "u": "Cel", "t": -5, "v": 1.2},
        {"n": "humidity", "u": "%RH", "bv": 3, "s": 1, "ut": 5},
        {"n": "one:connected", "vb": True, "vs": "x", "foo": 1, "bar_": 2},
    ]
    if name == "sparkplug_b":
        vectors = json.loads((DATA / "sparkplug" / "vectors.json").read_text())
        yield from (base64.b64decode(vector["payload_base64"]) for vector in vectors)
    elif name == "senml_cbor":
        number = {label: key for key, label in LABELS.items()}
        for records in (pack, pack[:1], pack[1:2], pack[2:], pack[3:]):
            yield cbor2.dumps([{number.get(key, key): value for key, value in record.items()} for record in records])
    elif name == "senml_json":
        yield from (json.dumps(records).encode() for records in (pack, pack[:1], pack[1:2], pack[2:]))
    elif name == "smart_data_models":
        yield from (path.read_bytes() for path in sorted((DATA / "smart_data_models").rglob("*.json")))
    elif name == "pantau_json":
        yield b'{"time": "2026-11-24T10:20:00Z", "property": "water_level_m", "value": 1.24, "unit": "m"}'
        yield b'{"time": 1795515600, "values": {"rain_mm": 124, "battery_v": null}, "units": {"rain_mm": "cm"}}'
        yield b'[{"device": "one", "property": "battery_v", "value": 1e999}, {"readings": []}, 7]'
        yield b'{"time": 1795515600000, "readings": [{"property": "connected", "value": true}, {"value": NaN}]}'
    else:
        folders = {"chirpstack": ("ChirpStack", "HTTP"), "the_things_stack": ("ThingsStack",), "loriot": ("LORIOT",)}
        wanted = folders.get(name, ("",))
        for path in sorted((DATA / "lorawan").rglob("payload*.json")):
            if path.parts[-3].startswith(wanted):
                yield path.read_bytes()


def _bytes_in(content: object) -> Iterator[bytes]:
    """Whatever looks like the bytes of an uplink, in hexadecimal or base64."""
    if isinstance(content, dict):
        for key, value in content.items():
            if isinstance(value, str) and key in ("data", "frm_payload", "bytes", "payload"):
                try:
                    yield bytes.fromhex(value)
                except ValueError:
                    with contextlib.suppress(ValueError):
                        yield base64.b64decode(value, validate=True)
            yield from _bytes_in(value)
    elif isinstance(content, list):
        for value in content:
            yield from _bytes_in(value)


def _packet_seeds() -> Iterator[bytes]:
    def publish(topic: bytes, payload: bytes, qos: int, properties: bytes = b"") -> bytes:
        body = struct.pack(">H", len(topic)) + topic + (b"\x00\x07" if qos else b"")
        body += bytes([len(properties)]) + properties + payload
        length = bytes([len(body)]) if len(body) < 128 else bytes([len(body) & 0x7F | 0x80, len(body) >> 7])
        return bytes([0x30 | qos << 1]) + length + body

    pair = b"\x26\x00\x01a\x00\x01b"  # a user property
    yield b"\x01" + publish(b"pantau/v1/c/d", b"{}", 1) + publish(b"t", b"x" * 200, 0, pair)
    yield b"\x07" + publish(b"t", b"y" * 1500, 1) + publish(b"t", b"z", 1, pair)
    yield (
        b"\x03" + b"\x20\x06\x00\x00\x03\x21\x00\x0a" + b"\xd0\x00" + b"\x90\x04\x00\x01\x00\x01" + b"\xe0\x02\x8e\x00"
    )
