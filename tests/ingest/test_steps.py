"""A step's record gives back what was put in, and nothing else is taken for one."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.steps import Refused, decode_step, encode_step
from telemetry.alarms import Acknowledge, AlarmKind
from telemetry.brokers import UNKNOWN_BROKER, BrokerLink
from telemetry.observations import Observations
from telemetry.presence import Presence

INT64 = st.integers(-(2**63), 2**63 - 1)
ROWS = st.lists(st.tuples(st.integers(0, 2**31 - 1), INT64, INT64, st.floats(), st.integers(0, 9)), max_size=20)
ACTIONS = st.lists(
    st.builds(Acknowledge, st.sampled_from(AlarmKind), st.integers(0, 2**31 - 1), INT64, INT64, st.text(max_size=20)),
    max_size=3,
)


def observations(rows: list[tuple[int, int, int, float, int]]) -> Observations:
    columns = list(zip(*rows, strict=True)) or [()] * 5
    return Observations(
        datastream=np.array(columns[0], np.int32),
        observed_at=np.array(columns[1], np.int64),
        received_at=np.array(columns[2], np.int64),
        value=np.array(columns[3], np.float64),
        flag=np.array(columns[4], np.uint8),
    )


@given(ROWS, INT64, st.none() | INT64, ACTIONS)
def test_round_trip(
    rows: list[tuple[int, int, int, float, int]], now: int, since: int | None, actions: list[Acknowledge]
) -> None:
    before = observations(rows)
    after = decode_step(encode_step(before, now, since, actions))
    for name in ("datastream", "observed_at", "received_at", "value", "flag"):
        got, put = getattr(after.observations, name), getattr(before, name)
        assert got.dtype == put.dtype
        assert got.tobytes() == put.tobytes()  # NaN included
        assert got.flags.aligned or not len(got)
    assert (after.now_ns, after.listening_since_ns, list(after.actions)) == (now, since, actions)
    assert all(isinstance(a.kind, AlarmKind) for a in after.actions)


LINKS = st.lists(st.builds(BrokerLink, st.booleans(), st.none() | INT64, st.floats(0.1, 1e6)), max_size=4)


@given(ROWS, INT64, LINKS, ACTIONS, st.data())
def test_round_trip_with_brokers(
    rows: list[tuple[int, int, int, float, int]],
    now: int,
    links: list[BrokerLink],
    actions: list[Acknowledge],
    data: st.DataObject,
) -> None:
    numbers = data.draw(st.lists(st.integers(0, 255), min_size=len(rows), max_size=len(rows)))
    before = replace(observations(rows), broker=np.array(numbers, np.uint8))
    after = decode_step(encode_step(before, now, actions=actions, brokers=links))
    assert after.observations.broker.tolist() == numbers
    assert after.observations.value.tobytes() == before.value.tobytes()
    assert (after.now_ns, after.brokers, list(after.actions)) == (now, tuple(links), actions)


def test_records_from_before_brokers_were_told_apart_are_read() -> None:
    """Bytes that the first Pantau wrote, which knew only since when all brokers were heard."""
    columns = "0a000000000000000f00000000000000000000000000f83f0300000002"
    action = (
        "86a46b696e6402a77375626a65637407a97261697365645f617405a2617409a26279a453617269a7636f6d6d656e74a000000000000000"
    )
    after = decode_step(bytes.fromhex("35000000940114c091" + action + columns))
    assert (after.brokers, after.listening_since_ns, after.now_ns) == (None, None, 20)
    assert after.actions == (Acknowledge(AlarmKind.SILENCE, 7, 5, 9, "Sari"),)
    readings = after.observations
    assert (readings.datastream[0], readings.observed_at[0], readings.received_at[0]) == (3, 10, 15)
    assert (readings.value[0], readings.flag[0], readings.broker[0]) == (1.5, 2, UNKNOWN_BROKER)
    after = decode_step(bytes.fromhex("050000009401140c9000000000000000" + columns))
    assert (after.brokers, after.listening_since_ns) == (None, 12)


@given(ROWS, st.data())
def test_a_record_that_was_cut_is_refused(rows: list[tuple[int, int, int, float, int]], data: st.DataObject) -> None:
    record = encode_step(observations(rows), 1, None)
    with pytest.raises(ValueError, match="step record"):
        decode_step(record[: data.draw(st.integers(0, len(record) - 1))])


@given(st.binary(max_size=100))
def test_other_bytes_are_refused(record: bytes) -> None:
    with pytest.raises(ValueError, match="step record"):
        decode_step(record)


@given(st.lists(st.builds(Presence, st.integers(0, 2**31 - 1), st.booleans(), INT64), max_size=4))
def test_births_and_deaths_come_back_in_their_order(presence: list[Presence]) -> None:
    record = decode_step(encode_step(Observations.empty(), 5, brokers=[], presence=presence))
    assert record.presence == tuple(presence)
    assert all(type(p) is Presence for p in record.presence)


def test_a_record_from_before_births_and_deaths_were_told_has_none() -> None:
    """As it was written then: a head of seven fields."""
    head = msgspec.msgpack.encode([0, 5, None, [], [], [3], []])
    data = len(head).to_bytes(4, "little") + head + bytes(-(4 + len(head)) % 8)
    assert decode_step(data).presence == ()
    assert decode_step(data).messages == (3,)


COUNTS = st.lists(st.integers(0, 2**40), max_size=4)
REFUSED = st.lists(
    st.builds(Refused, st.text(max_size=9), st.text(max_size=9), st.text(max_size=9), st.integers(-9, 2**40)),
    max_size=4,
)


@given(COUNTS, REFUSED)
def test_what_the_account_needs_comes_back(messages: list[int], refused: list[Refused]) -> None:
    after = decode_step(encode_step(Observations.empty(), 1, messages=messages, refused=refused))
    assert (after.messages, after.refused) == (tuple(messages), tuple(refused))
