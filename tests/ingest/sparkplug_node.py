"""Payloads of an edge node, encoded by a definition of the messages that is not Pantau's, and a city that has one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from ingest.dead_letters import DeadLetter
from ingest.formats.sparkplug import Sparkplug
from ingest.readings import Readings
from ingest.settings import Limits
from telemetry.directory import Datastream, Device, Directory, Field, Payload, Site
from telemetry.observations import NS_PER_S, Observations
from telemetry.presence import Presence

NOW_MS = 1_795_000_000_000
NODE = "spBv1.0/banjir/{}/pos-1"
DEVICE = "spBv1.0/banjir/{}/pos-1/{}"

_T = descriptor_pb2.FieldDescriptorProto


def _specified() -> type[Any]:
    """The specification's messages, with the texts as texts and more of the fields than Pantau reads."""
    file = descriptor_pb2.FileDescriptorProto(name="specified.proto", package="specified")

    def message(name: str, *rows: tuple[int, str, int, str]) -> None:
        m = file.message_type.add(name=name)
        for number, what, kind, of in rows:
            f = m.field.add(number=number, name=what, type=kind, label=3 if of.startswith("*") else 1)  # type: ignore[arg-type]
            if kind == _T.TYPE_MESSAGE:
                f.type_name = ".specified." + of.lstrip("*")

    u32, u64, string, boolean, inner = (
        _T.TYPE_UINT32, _T.TYPE_UINT64, _T.TYPE_STRING, _T.TYPE_BOOL, _T.TYPE_MESSAGE,
    )  # fmt: skip
    message(
        "Payload",
        (1, "timestamp", u64, ""),
        (2, "metrics", inner, "*Metric"),
        (3, "seq", u64, ""),
        (4, "uuid", string, ""),
        (5, "body", _T.TYPE_BYTES, ""),
    )
    message(
        "Metric",
        (1, "name", string, ""),
        (2, "alias", u64, ""),
        (3, "timestamp", u64, ""),
        (4, "datatype", u32, ""),
        (5, "is_historical", boolean, ""),
        (6, "is_transient", boolean, ""),
        (7, "is_null", boolean, ""),
        (8, "metadata", inner, "MetaData"),
        (9, "properties", inner, "PropertySet"),
        (10, "int_value", u32, ""),
        (11, "long_value", u64, ""),
        (12, "float_value", _T.TYPE_FLOAT, ""),
        (13, "double_value", _T.TYPE_DOUBLE, ""),
        (14, "boolean_value", boolean, ""),
        (15, "string_value", string, ""),
        (16, "bytes_value", _T.TYPE_BYTES, ""),
        (17, "dataset_value", inner, "DataSet"),
        (18, "template_value", inner, "Template"),
    )
    message("MetaData", (2, "content_type", string, ""), (8, "description", string, ""))
    message("DataSet", (1, "num_of_columns", u64, ""), (2, "columns", string, "*"), (3, "types", u32, "*"))
    message(
        "Template",
        (1, "version", string, ""),
        (2, "metrics", inner, "*Metric"),
        (4, "template_ref", string, ""),
        (5, "is_definition", boolean, ""),
    )
    message("PropertySet", (1, "keys", string, "*"), (2, "values", inner, "*PropertyValue"))
    message("PropertyValue", (1, "type", u32, ""), (2, "is_null", boolean, ""), (3, "int_value", u32, ""),
            (8, "string_value", string, ""))  # fmt: skip
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found: type[Any] = message_factory.GetMessageClass(pool.FindMessageTypeByName("specified.Payload"))
    return found


Specified = _specified()


def encode(
    *metrics: dict[str, Any], seq: int | None = None, timestamp: int | None = NOW_MS, more: bytes = b""
) -> bytes:
    """A payload; a metric's ``properties`` are a dictionary of texts and numbers."""
    payload = Specified()
    if timestamp is not None:
        payload.timestamp = timestamp
    if seq is not None:
        payload.seq = seq
    for metric in metrics:
        plain = {k: v for k, v in metric.items() if k not in ("properties", "members", "definition")}
        row = payload.metrics.add(**plain)
        for key, value in metric.get("properties", {}).items():
            row.properties.keys.append(key)
            told = row.properties.values.add()
            if isinstance(value, str):
                told.type, told.string_value = 12, value
            else:
                told.type, told.int_value = 3, value
        for member in metric.get("members", ()):
            row.template_value.metrics.add(**member)
        if metric.get("definition"):
            row.template_value.is_definition = True
    data: bytes = payload.SerializeToString() + more
    return data


def bd_seq(number: int) -> dict[str, Any]:
    return {"name": "bdSeq", "datatype": 8, "long_value": number}


def rebirth() -> dict[str, Any]:
    return {"name": "Node Control/Rebirth", "datatype": 11, "boolean_value": False}


def level(value: float, **more: Any) -> dict[str, Any]:
    return {"name": "Inputs/water_level_m", "datatype": 10, "double_value": value, **more}


def city() -> Directory:
    """A registered node (pos-1), three devices behind it by full name, last part or a model's fields, one elsewhere."""
    streams = (
        ("pos-1", "battery_v"),
        ("gauge", "water_level_m"),
        ("gauge", "temperature_c"),
        ("hujan-1", "rain_mm"),
        ("hujan-1", "battery_v"),
        ("far", "water_level_m"),
    )
    return Directory(
        version=1,
        city="kota",
        utc_offset_h=7,
        sites=(Site("site", "Site", -6.9, 107.6),),
        devices=(
            Device("pos-1", "site", names=("banjir/pos-1",)),
            Device("gauge", "site", names=("Banjir/Pos-1/Gauge-A",)),
            Device("hujan-1", "site", model="bucket"),
            Device("far", "site", names=("banjir/pos-9/gauge",)),
        ),
        datastreams=tuple(Datastream(f"{d}:{p}", "site", d, p) for d, p in streams),
        payloads=(Payload("bucket", fields=(Field("Rain/Total", "rain_mm", "in"),)),),
    )


@dataclass
class Heard:
    """What the format made of messages."""

    observations: Observations
    letters: list[DeadLetter]
    presences: list[Presence]
    requests: list[tuple[str, bytes]]
    without_readings: int
    values: dict[str, list[float]] = field(default_factory=dict)


def hear(
    form: Sparkplug,
    *messages: tuple[str, bytes],
    at_s: float = 0,
    directory: Directory | None = None,
    again: bool = False,
) -> Heard:
    """Have messages decoded that were received ``at_s`` after NOW_MS."""
    directory = CITY if directory is None else directory
    readings = Readings(directory, Limits(), again=again)
    received = NOW_MS * 1_000_000 + round(at_s * NS_PER_S)
    first = readings.announce("main", [t.encode() for t, _ in messages], [p for _, p in messages], 0)
    readings.begin(received, received)
    for number, (topic, payload) in enumerate(messages):
        readings.message = first + number
        readings.read_as("sparkplug_b")
        form.decode(topic, payload, readings)
    found = readings.finish()
    values: dict[str, list[float]] = {}
    for stream, value in zip(found.datastream.tolist(), found.value.tolist(), strict=True):
        values.setdefault(directory.datastreams[stream].id, []).append(value)
    requests = [(topic, payload) for _, topic, payload in readings.requests]
    return Heard(found, readings.dead_letters, readings.presences, requests, readings.without_readings, values)


def births(number: int = 0, *devices: str, seq: int = 0, **metric: Any) -> Sequence[tuple[str, bytes]]:
    """The births of a node and of its devices, which give the alias 7 to a water level."""
    sent = [(NODE.format("NBIRTH"), encode(bd_seq(number), rebirth(), seq=seq))]
    for i, device in enumerate(devices):
        birth = encode(level(1.0, alias=7, timestamp=NOW_MS - 1000, **metric), seq=seq + 1 + i)
        sent.append((DEVICE.format("DBIRTH", device), birth))
    return sent


CITY = city()
