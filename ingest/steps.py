"""The journal's record of one step of the core: its readings, `now`, the operators' actions, births and deaths.

A replay of these records through the core gives the same results again, and the same loss account: for it the record
also says how many messages came and what of them was refused. Columns are written as they are, so a record is a copy
and no loop; 30 bytes a reading. Records from before brokers were told apart have no column of brokers, and in their
place since when all of them were heard; those without any remark have no column of remarks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from telemetry.alarms import Acknowledge
from telemetry.brokers import BrokerLink
from telemetry.observations import Observations
from telemetry.presence import Presence

# Kinds of the journal's frames, all of them:
STEP = 1
"""A step's record."""
DIRECTORY = 2
"""A new directory, whole."""
UNTIMED = 3
"""What came before any clock had spoken: a record without readings, whose ``now_ns`` says nothing. The core is not
stepped by it."""
DIRECTORY_CHANGE = 4
"""What makes a new directory out of the one before."""

_COLUMNS: tuple[tuple[str, str], ...] = (
    ("observed_at", "<i8"),
    ("received_at", "<i8"),
    ("value", "<f8"),
    ("datastream", "<i4"),
    ("flag", "|u1"),
    ("broker", "|u1"),
    ("remark", "|u1"),
)
"""Widest first: with an eight byte aligned start every column is aligned."""


class Refused(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """So many messages or readings of one step that were refused for one reason."""

    device: str
    """As the message names it; "": none."""
    reason: str
    broker: str
    """Name of the broker they came through."""
    count: int
    """Below 0 for dead letters that were taken again: they do not count as refused any more."""
    hour: int | None = None
    """Hour of reception, since 1970, where it is not that of the step."""


class _Head(msgspec.Struct, array_like=True):
    rows: int
    now_ns: int
    listening_since_ns: int | None
    actions: list[Acknowledge]
    brokers: list[BrokerLink] | None = None
    """None: brokers are not told apart, and there is no column of them."""
    messages: list[int] = []
    refused: list[Refused] = []
    presence: list[Presence] = []
    letters: list[int] = []
    remarks: bool = False
    """Whether there is a column of remarks."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Head).decode


@dataclass(frozen=True, slots=True)
class StepRecord:
    """The inputs of one step of the core."""

    observations: Observations
    now_ns: int
    """[ns since 1970 UTC]"""
    listening_since_ns: int | None
    """Where ``brokers`` is None: since when all were connected; None while one was not. [ns since 1970 UTC]"""
    actions: tuple[Acknowledge, ...]
    brokers: tuple[BrokerLink, ...] | None
    """How each broker was heard, in the order of the settings."""
    messages: tuple[int, ...] = ()
    """Messages that came through each broker, in the order of the settings; empty where that is not known."""
    refused: tuple[Refused, ...] = ()
    presence: tuple[Presence, ...] = ()
    """Births and deaths of devices, in the order in which they came."""
    letters: tuple[int, ...] = ()
    """Ids of the dead letters that were taken again and gave these readings."""


def encode_step(
    observations: Observations,
    now_ns: int,
    listening_since_ns: int | None = None,
    actions: Sequence[Acknowledge] = (),
    *,
    brokers: Sequence[BrokerLink] | None = None,
    messages: Sequence[int] = (),
    refused: Sequence[Refused] = (),
    presence: Sequence[Presence] = (),
    letters: Sequence[int] = (),
) -> bytes:
    """One step's inputs as bytes, for ``Journal.append(STEP, ...)``.

    Without ``brokers`` the brokers of the readings are left out too.

    Examples
    --------
    >>> record = decode_step(encode_step(Observations.of([3], [10], [1.5]), 20, brokers=[BrokerLink(True, 5)]))
    >>> record.observations.value, record.now_ns, record.brokers
    (array([1.5]), 20, (BrokerLink(connected=True, since=5, alarm_after_s=30.0),))
    """
    links = None if brokers is None else list(brokers)
    with_remarks = bool(observations.remark.any())
    head = _encode(
        _Head(
            len(observations),
            now_ns,
            listening_since_ns,
            list(actions),
            links,
            list(messages),
            list(refused),
            list(presence),
            list(letters),
            with_remarks,
        )
    )
    parts = [len(head).to_bytes(4, "little"), head, bytes(-(4 + len(head)) % 8)]
    for name, kind in _columns(links is not None, with_remarks):
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
    kinds = _columns(head.brokers is not None, head.remarks)
    expected = at + head.rows * sum(np.dtype(kind).itemsize for _, kind in kinds)
    if head.rows < 0 or len(data) != expected:
        raise ValueError(f"a step record of {head.rows} readings has {expected} bytes, got {len(data)}")
    columns = {}
    for name, kind in kinds:
        columns[name] = np.frombuffer(data, dtype=kind, count=head.rows, offset=at)
        at += head.rows * np.dtype(kind).itemsize
    return StepRecord(
        observations=Observations(**columns),
        now_ns=head.now_ns,
        listening_since_ns=head.listening_since_ns,
        actions=tuple(head.actions),
        brokers=None if head.brokers is None else tuple(head.brokers),
        messages=tuple(head.messages),
        refused=tuple(head.refused),
        letters=tuple(head.letters),
        presence=tuple(head.presence),
    )


def _columns(with_brokers: bool, with_remarks: bool) -> list[tuple[str, str]]:
    left_out = {name for name, there in (("broker", with_brokers), ("remark", with_remarks)) if not there}
    return [column for column in _COLUMNS if column[0] not in left_out]
