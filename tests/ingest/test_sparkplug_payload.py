"""The payload of Sparkplug B, against recorded vectors and an encoder with the specification's own definition."""

from __future__ import annotations

import base64
import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.formats.sparkplug_payload import DataType, MalformedError, number, parse, properties, rebirth_request, text
from tests.ingest.sparkplug_node import Specified, encode

VECTORS = json.loads((Path(__file__).parent / "data/sparkplug/vectors.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("vector", VECTORS, ids=[v["name"] for v in VECTORS])
def test_recorded_payloads_are_read_as_another_reader_read_them(vector: dict[str, Any]) -> None:
    payload, told = parse(base64.b64decode(vector["payload_base64"])), vector["decoded"]
    assert (payload.timestamp, payload.seq) == (told["timestamp"], told["seq"])
    assert len(payload.metrics) == vector["metric_count"]
    for metric, expected in zip(payload.metrics, told["metrics"], strict=True):
        value = next(v for k, v in expected.items() if k.endswith("_value"))
        assert text(metric.name) == expected.get("name", "")
        assert (metric.alias, metric.datatype) == (expected["alias"], expected["datatype"])
        assert number(metric, metric.datatype) == float(value)


def _one(**value: Any) -> Any:
    return parse(encode(value)).metrics[0]


@pytest.mark.parametrize(
    ("datatype", "value", "expected"),
    [
        # Two's complement by hand: 0xFB = 256 - 5; some senders widen it to 32 bits, some to 64.
        (DataType.INT8, {"int_value": 0xFB}, -5),
        (DataType.INT8, {"int_value": 0xFFFF_FFFB}, -5),
        (DataType.INT8, {"int_value": 127}, 127),
        (DataType.INT16, {"int_value": 0x8000}, -32_768),
        (DataType.INT32, {"int_value": 0xFFFF_FFFF}, -1),
        (DataType.INT32, {"long_value": 0xFFFF_FFFF_FFFF_FFFE}, -2),
        (DataType.INT64, {"long_value": 2**64 - 3}, -3),
        (DataType.INT64, {"long_value": 2**63 - 1}, float(2**63 - 1)),
        (DataType.UINT8, {"int_value": 255}, 255),
        (DataType.UINT16, {"int_value": 65_535}, 65_535),
        (DataType.UINT32, {"long_value": 4_294_967_295}, 4_294_967_295),
        (DataType.UINT64, {"long_value": 2**64 - 1}, float(2**64 - 1)),
        (DataType.FLOAT, {"float_value": 22.5}, 22.5),
        (DataType.DOUBLE, {"double_value": 1.24}, 1.24),
        (DataType.BOOLEAN, {"boolean_value": True}, 1),
        (DataType.UNKNOWN, {"double_value": 1.24}, 1.24),
        (DataType.UNKNOWN, {"int_value": 5}, None),
        (DataType.STRING, {"string_value": "5"}, None),
        (DataType.DATE_TIME, {"long_value": 1_795_000_000_000}, None),
        (DataType.TEXT, {"string_value": "tinggi"}, None),
        (DataType.UUID, {"string_value": "c0ffee"}, None),
        (DataType.BYTES, {"bytes_value": b"\x01"}, None),
        (DataType.FILE, {"bytes_value": b"\x01"}, None),
        (DataType.INT32_ARRAY, {"bytes_value": struct.pack("<2i", 1, 2)}, None),
        (DataType.DATA_SET, {"dataset_value": {"num_of_columns": 1, "columns": ["a"], "types": [3]}}, None),
        (DataType.TEMPLATE, {"template_value": {"version": "1"}}, None),
        (99, {"int_value": 5}, None),
    ],
)
def test_numbers_of_each_datatype(datatype: int, value: dict[str, Any], expected: float | None) -> None:
    assert number(_one(datatype=int(datatype), **value), datatype) == expected


@given(st.sampled_from([8, 16, 32, 64]), st.data())
def test_signed_numbers_come_back(bits: int, data: st.DataObject) -> None:
    value = data.draw(st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1))
    kind = {8: 1, 16: 2, 32: 3, 64: 4}[bits]
    where = "long_value" if bits == 64 else "int_value"
    assert number(_one(datatype=kind, **{where: value % 2**bits}), kind) == float(value)


def test_properties_are_found_whatever_their_case_and_null_ones_are_not() -> None:
    metric = _one(name="x", properties={"engUnit": "cm", "Quality": 500})
    told = properties(metric)
    assert text(told["engunit"].string_value) == "cm"
    assert told["quality"].int_value == 500


def test_a_text_that_is_not_utf8_spoils_only_itself() -> None:
    bad = b"\x0a\x02\xff\x41\x20\x0a\x69" + struct.pack("<d", 1.5)
    payload = parse(encode({"name": "good", "double_value": 2.5}) + b"\x12" + bytes([len(bad)]) + bad)
    assert [text(m.name) for m in payload.metrics] == ["good", "\\xffA"]
    assert [number(m, 10) for m in payload.metrics] == [2.5, 1.5]


def test_fields_that_are_not_known_are_skipped() -> None:
    payload = parse(encode({"name": "x", "double_value": 1.0, "metadata": {"description": "d"}}, more=b"\xfa\x01\x01!"))
    assert number(payload.metrics[0], 10) == 1.0


@pytest.mark.parametrize(
    "data",
    [
        b"\x08",  # a number that ends before it began
        b"\x08" + b"\xff" * 11,  # one of more than ten bytes
        b"\x12\x05\x0a",  # a length beyond the end
        b"\x0f",  # wire type 7
        b"{}",
        b"\x12\x02\x92\x01" * 3 + b"\xff",
    ],
)
def test_bytes_that_are_no_payload_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError, match="not a protobuf message"):
        parse(data)


def test_a_message_nested_without_end_is_malformed() -> None:
    def wrapped(tag: bytes, inner: bytes) -> bytes:
        length, size = b"", len(inner)
        while size > 127:
            length, size = length + bytes([size & 127 | 128]), size >> 7
        return tag + length + bytes([size]) + inner

    data = b""
    for _ in range(200):
        data = wrapped(b"\x12", wrapped(b"\x92\x01", data))
    with pytest.raises(MalformedError):
        parse(data)


def test_the_request_for_a_birth_is_read_by_the_specification() -> None:
    request = Specified.FromString(rebirth_request(1_795_000_000_000))
    assert not request.HasField("seq")
    (metric,) = request.metrics
    assert (metric.name, metric.datatype, metric.boolean_value) == ("Node Control/Rebirth", 11, True)
    assert request.timestamp == metric.timestamp == 1_795_000_000_000


@given(st.floats(allow_nan=True), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.text())
def test_what_the_specification_writes_is_read(value: float, alias: int, timestamp: int, name: str) -> None:
    data = encode({"name": name, "alias": alias, "timestamp": timestamp, "datatype": 10, "double_value": value}, seq=3)
    (metric,) = parse(data).metrics
    read = number(metric, 10)
    assert read == value or (read is not None and math.isnan(read) and math.isnan(value))
    assert (metric.alias, metric.timestamp, text(metric.name)) == (alias, timestamp, name)
