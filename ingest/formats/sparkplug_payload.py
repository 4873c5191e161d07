"""The protobuf payload of Sparkplug B: as much of its message definition as readings need.

The definition is that of the specification (Sparkplug 3.0, 6.4), written here as a table; google's ``protobuf`` reads
by it. What is not in the table, such as the cells of data sets, is skipped as unknown fields are. Topics, sessions and
meaning are the format's.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError


class DataType(IntEnum):
    """What a metric's value is. [Sparkplug 3.0, 6.4.16]"""

    UNKNOWN = 0
    INT8 = 1
    INT16 = 2
    INT32 = 3
    INT64 = 4
    UINT8 = 5
    UINT16 = 6
    UINT32 = 7
    UINT64 = 8
    FLOAT = 9
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12
    DATE_TIME = 13
    TEXT = 14
    UUID = 15
    DATA_SET = 16
    BYTES = 17
    FILE = 18
    TEMPLATE = 19
    PROPERTY_SET = 20
    PROPERTY_SET_LIST = 21
    INT8_ARRAY = 22
    INT16_ARRAY = 23
    INT32_ARRAY = 24
    INT64_ARRAY = 25
    UINT8_ARRAY = 26
    UINT16_ARRAY = 27
    UINT32_ARRAY = 28
    UINT64_ARRAY = 29
    FLOAT_ARRAY = 30
    DOUBLE_ARRAY = 31
    BOOLEAN_ARRAY = 32
    STRING_ARRAY = 33
    DATE_TIME_ARRAY = 34


SIGNED_BITS: dict[int, int] = {DataType.INT8: 8, DataType.INT16: 16, DataType.INT32: 32, DataType.INT64: 64}
UNSIGNED: frozenset[int] = frozenset({DataType.UINT8, DataType.UINT16, DataType.UINT32, DataType.UINT64})

_DEFINITION = {
    "Payload": "1 timestamp uint64, 2 metrics *Metric, 3 seq uint64",
    "Metric": (
        "1 name bytes, 2 alias uint64, 3 timestamp uint64, 4 datatype uint32, 5 is_historical bool,"
        " 6 is_transient bool, 7 is_null bool, 9 properties PropertySet,"
        " 10 int_value |uint32, 11 long_value |uint64, 12 float_value |float, 13 double_value |double,"
        " 14 boolean_value |bool, 15 string_value |bytes, 16 bytes_value |bytes, 17 dataset_value |bytes,"
        " 18 template_value |Template, 19 extension_value |bytes"
    ),
    "Template": "2 metrics *Metric, 5 is_definition bool",
    "PropertySet": "1 keys *bytes, 2 values *PropertyValue",
    "PropertyValue": "1 type uint32, 2 is_null bool, 3 int_value uint32, 4 long_value uint64, 8 string_value bytes",
}
"""Message → its fields: number, name, type; ``*``: repeated; ``|``: the value is one of these.

Texts are read as bytes, so that one that is not UTF-8 spoils only itself.
"""


def _payload_class() -> type[Any]:
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="pantau_sparkplug_b.proto", package="pantau.sparkplug_b")
    for message_name, definition in _DEFINITION.items():
        message = file.message_type.add(name=message_name)
        for entry in definition.split(","):
            number, name, kind = entry.split()
            field = message.field.add(number=int(number), name=name, label=kinds.LABEL_OPTIONAL)
            if kind.startswith("*"):
                field.label = kinds.LABEL_REPEATED
            elif kind.startswith("|"):
                if not message.oneof_decl:
                    message.oneof_decl.add(name="value")
                field.oneof_index = 0
            kind = kind.lstrip("*|")
            if kind in _DEFINITION:
                field.type, field.type_name = kinds.TYPE_MESSAGE, f".pantau.sparkplug_b.{kind}"
            else:
                field.type = kinds.Type.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found: type[Any] = message_factory.GetMessageClass(pool.FindMessageTypeByName("pantau.sparkplug_b.Payload"))
    return found


Payload = _payload_class()
"""The message class: ``Payload.FromString(data)``; its ``metrics`` have the fields of the specification."""


class MalformedError(ValueError):
    """Bytes that are no such payload."""


def parse(data: bytes) -> Any:
    """The ``Payload`` that these bytes hold.

    Raises
    ------
    MalformedError

    Examples
    --------
    >>> payload = parse(bytes.fromhex("08e807 1209 1064 2009 650000b441 18 03".replace(" ", "")))
    >>> payload.timestamp, payload.seq, payload.metrics[0].alias, payload.metrics[0].float_value
    (1000, 3, 100, 22.5)
    """
    try:
        return Payload.FromString(data)
    except DecodeError as error:
        raise MalformedError(f"not a protobuf message of Sparkplug B: {error}") from error


def text(data: bytes) -> str:
    """A text of a payload; what is not UTF-8 in it is shown as ``\\xff``."""
    return data.decode("utf-8", "backslashreplace")


def number(metric: Any, datatype: int) -> float | None:
    """The value of a metric as a number; None if it is none, or if its datatype does not say which.

    Whole numbers are two's complement of the datatype's width, in whichever of ``int_value`` and ``long_value`` they
    come: the senders in use do not agree on that. Without a datatype they can't be told from negative ones.

    Parameters
    ----------
    metric : Metric
    datatype : int
        Its own or, where it has none, that of its birth; 0 if neither is known.
    """
    kind = metric.WhichOneof("value")
    if kind == "double_value":
        return float(metric.double_value)
    if kind == "float_value":
        return float(metric.float_value)
    if kind == "boolean_value":
        return float(metric.boolean_value)
    if kind not in ("int_value", "long_value"):
        return None
    whole = int(getattr(metric, kind))
    if datatype == DataType.BOOLEAN or datatype in UNSIGNED:
        return float(whole)
    bits = SIGNED_BITS.get(datatype)
    if bits is None:
        return None
    whole &= (1 << bits) - 1
    return float(whole - (1 << bits) if whole >> (bits - 1) else whole)


def properties(metric: Any) -> dict[str, Any]:
    """Key in small letters → its ``PropertyValue``, of those that are not null."""
    given = metric.properties
    pairs: Iterable[tuple[bytes, Any]] = zip(given.keys, given.values, strict=False)
    return {text(key).lower(): value for key, value in pairs if not value.is_null}


def rebirth_request(timestamp_ms: int) -> bytes:
    """The payload of an NCMD by which an edge node is asked for its births. [ms since 1970 UTC]

    Without a sequence number, as the specification demands (tck-id-payloads-ncmd-seq).
    """
    payload = Payload(timestamp=max(0, timestamp_ms))
    payload.metrics.add(
        name=REBIRTH.encode(), timestamp=max(0, timestamp_ms), datatype=DataType.BOOLEAN, boolean_value=True
    )
    data: bytes = payload.SerializeToString()
    return data


REBIRTH = "Node Control/Rebirth"
"""The metric that asks for it."""
