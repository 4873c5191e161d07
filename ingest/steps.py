"""The journal's record of one step of the core: its readings, `now`, and the operators' actions.

A replay of these records through the core gives the same results again. Columns are written as they are, so a record
is a copy and no loop; 29 bytes a reading.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from telemetry.alarms import Acknowledge
from telemetry.observations import Observations

STEP = 1
"""Kind of a step's frame in the journal."""

_COLUMNS: tuple[tuple[str, str], ...] = (
    ("observed_at", "<i8"),
    ("received_at", "<i8"),
    ("value", "<f8"),
    ("datastream", "<i4"),
    ("flag", "|u1"),
)
"""Widest first: with an eight byte aligned start every column is aligned."""
_ROW_BYTES = sum(np.dtype(kind).itemsize for _, kind in _COLUMNS)


class _Head(msgspec.Struct, array_like=True):
    rows: int
    now_ns: int
    listening_since_ns: int | None
    actions: list[Acknowledge]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Head).decode


@dataclass(frozen=True, slots=True)
class StepRecord:
    """The inputs of one step of the core."""

    observations: Observations
    now_ns: int
    """[ns since 1970 UTC]"""
    listening_since_ns: int | None
    """Since when all brokers were connected; None while one was not. [ns since 1970 UTC]"""
    actions: tuple[Acknowledge, ...]


def encode_step(
    observations: Observations,
    now_ns: int,
    listening_since_ns: int | None,
    actions: Sequence[Acknowledge] = (),
) -> bytes:
    """One step's inputs as bytes, for ``Journal.append(STEP, ...)``.

    Examples
    --------
    >>> record = decode_step(encode_step(Observations.of([3], [10], [1.5]), 20, None))
    >>> record.observations.value, record.now_ns, record.listening_since_ns
    (array([1.5]), 20, None)
    """
    head = _encode(_Head(len(observations), now_ns, listening_since_ns, list(actions)))
    parts = [len(head).to_bytes(4, "little"), head, bytes(-(4 + len(head)) % 8)]
    for name, kind in _COLUMNS:
        column: npt.NDArray[np.generic] = getattr(observations, name)
        parts.append(np.ascontiguousarray(column, dtype=kind).tobytes())
    return b"".join(parts)


def decode_step(data: bytes) -> StepRecord:
    """The inputs that ``encode_step`` wrote. The columns are read-only views of ``data``.

    Raises
    ------
    ValueError
        ``data`` is no such record.
    """
    if len(data) < 4:
        raise ValueError(f"a step record has at least 4 bytes, got {len(data)}")
    length = int.from_bytes(data[:4], "little")
    try:
        head = _decode(data[4 : 4 + length])
    except msgspec.MsgspecError as error:
        raise ValueError(f"the head of the step record can't be read: {error}") from error
    at = 4 + length + -(4 + length) % 8
    expected = at + head.rows * _ROW_BYTES
    if head.rows < 0 or len(data) != expected:
        raise ValueError(f"a step record of {head.rows} readings has {expected} bytes, got {len(data)}")
    columns = {}
    for name, kind in _COLUMNS:
        columns[name] = np.frombuffer(data, dtype=kind, count=head.rows, offset=at)
        at += head.rows * np.dtype(kind).itemsize
    return StepRecord(
        observations=Observations(**columns),
        now_ns=head.now_ns,
        listening_since_ns=head.listening_since_ns,
        actions=tuple(head.actions),
    )
