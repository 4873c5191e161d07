"""However the messages of a broker come, in one piece or each alone, what is read of them is the same."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.connection import DROPPED_TOPIC
from ingest.dead_letters import DeadLetter, Reason
from ingest.packets import MALFORMED, Chunk
from ingest.receiver import Batch, Receiver
from ingest.settings import BrokerSettings, ClockSource, Limits
from tests.ingest.small_city import CITY, directory, topic

S = 1_000_000_000
NOW_S = 1_732_447_931
NOW = NOW_S * S
Message = tuple[int, str, bytes]
"""(first byte of the packet, topic, payload)"""


def level(value: float, **more: object) -> bytes:
    return json.dumps({"property": "water_level_m", "value": value, "time": NOW_S} | more).encode()


USUAL = st.sampled_from(
    [
        (0x32, topic("gauge-1"), level(1)),
        (0x32, topic("gauge-1"), level(2.5)),
        (0x30, topic("gauge-1"), level(250, unit="cm")),
        (0x3A, topic("lamp-1"), b'{"property": "battery_v", "value": 3.1, "time": "2024-11-24T11:32:11Z"}'),
        (0x32, topic("lamp-1"), b'{"property": "battery_v", "value": 3.2}'),
    ]
)
ODD = st.sampled_from(
    [
        (0x32, topic("gauge-1"), b"["),
        (0x32, topic("gauge-1"), b""),
        (0x32, topic("gauge-1"), level(1, time=1)),
        (
            0x32,
            topic("gauge-1"),
            b'[{"property": "battery_v", "value": 1}, {"property": "battery_v", "value": 2, "time": 5}]',
        ),
        (0x32, topic("gauge-1"), b'{"property": "mood", "value": 1}'),
        (0x32, topic("gauge-1"), b'{"values": {"water_level_m": 1, "battery_v": "x"}}'),
        (0x33, topic("gauge-1"), level(1)),
        (0x32, topic("nobody"), level(1)),
        (0x32, f"pantau/v1/{CITY}/clock", b'{"now": 1732447991}'),
        (0x32, "pantau/v1/elsewhere/gauge-1", level(1)),
        (0x32, topic("gauge-1") + "/x", level(1)),
        (0x30, DROPPED_TOPIC, b"0"),
        (MALFORMED, "", b"\x32\x00"),
    ]
)
MESSAGES = st.one_of(
    st.lists(USUAL, max_size=60),
    st.lists(st.one_of(*[USUAL] * 12, ODD), max_size=60),
    st.lists(st.one_of(USUAL, ODD), max_size=25),
)


def read(chunks: list[Chunk], source: ClockSource, now: int | None = NOW, *, one_by_one: bool = False) -> list[Batch]:
    receiver = Receiver([BrokerSettings("main", "localhost", 1)], Limits(gather_s=0.0), city=CITY, clock_source=source)
    city, (connection,) = directory(), receiver._connections
    batches = []
    for number, chunk in enumerate(chunks):
        receiver._deliver(connection, 0, chunk)
        if one_by_one or number == len(chunks) - 1:
            batch = receiver.poll(city, now, 0)
            if batch is not None:
                batches.append(batch)
                now = batch.clock or now
    return batches


def chunk_of(messages: list[Message], received_at: int) -> Chunk:
    chunk = Chunk(received_at)
    for head, name, payload in messages:
        chunk.put(head, name.encode(), payload, "odd" if head == MALFORMED else None)
    chunk.size = sum(len(payload) for _, _, payload in messages)
    return chunk


def rows(batches: list[Batch]) -> list[tuple[object, ...]]:
    columns = ("datastream", "observed_at", "received_at", "value", "remark", "broker")
    return [row for b in batches for row in zip(*(getattr(b.observations, c).tolist() for c in columns), strict=True)]


def letters(batches: list[Batch]) -> list[DeadLetter]:
    """In order of reception and reason: readings that are refused for their time come last in a batch."""
    found = [letter for b in batches for letter in b.dead_letters]
    return sorted(found, key=lambda x: (x.received_at or 0, x.reason, x.payload, x.detail))


@settings(deadline=None)
@given(
    MESSAGES,
    st.lists(st.integers(0, 60), max_size=5),
    st.sampled_from([(ClockSource.SYSTEM, NOW), (ClockSource.BROKER, NOW), (ClockSource.BROKER, None)]),
)
def test_one_piece_or_each_alone_gives_the_same(
    messages: list[Message], cuts: list[int], clock: tuple[ClockSource, int | None]
) -> None:
    ends = sorted({min(c, len(messages)) for c in cuts} | {len(messages)})
    pieces, begin = [], 0
    for number, end in enumerate(ends):
        pieces.append((messages[begin:end], NOW + number * 1000))
        begin = end
    pieces = [p for p in pieces if p[0]]
    joined = read([chunk_of(part, at) for part, at in pieces], *clock)
    alone = read([chunk_of([message], at) for part, at in pieces for message in part], *clock, one_by_one=True)
    assert sum(b.messages for b in joined) == sum(b.messages for b in alone)
    assert rows(joined) == rows(alone)
    assert letters(joined) == letters(alone)


def test_each_keeps_its_time_of_reception() -> None:
    timeless = (0x32, topic("lamp-1"), b'{"property": "battery_v", "value": 3.2}')
    (batch,) = read([chunk_of([timeless] * 3, NOW + 7 * i) for i in range(4)], ClockSource.SYSTEM)
    expected = [NOW + 7 * i for i in range(4) for _ in range(3)]
    assert batch.observations.received_at.tolist() == batch.observations.observed_at.tolist() == expected


@pytest.mark.parametrize("place", [0, 1, 49, 99])
def test_one_odd_message_costs_the_others_nothing(place: int) -> None:
    messages = [(0x32, topic("gauge-1"), level(i)) for i in range(100)]
    messages[place] = (0x32, topic("gauge-1"), b"{")
    (batch,) = read([chunk_of(messages, NOW)], ClockSource.SYSTEM)
    assert batch.observations.value.tolist() == [float(i) for i in range(100) if i != place]
    assert [x.reason for x in batch.dead_letters] == [Reason.MALFORMED_JSON]
