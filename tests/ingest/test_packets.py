"""Cutting the byte stream: the hand-written half agrees with the codec, and nothing derails it."""

from __future__ import annotations

from itertools import pairwise

import mqtt5
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingest.packets import MALFORMED, OVERSIZE, Chunk, PacketStream, StreamBrokenError, pubacks

TOPICS = st.text(st.characters(exclude_characters="+#\0", exclude_categories=("Cs",)), min_size=1, max_size=20)
PUBLISHES = st.builds(
    lambda topic, payload, qos1, packet_id, retain, duplicate, properties: mqtt5.PublishPacket(
        topic,
        payload,
        qos=mqtt5.QoS.AT_LEAST_ONCE if qos1 else mqtt5.QoS.AT_MOST_ONCE,
        packet_id=packet_id if qos1 else None,
        retain=retain,
        duplicate=duplicate and qos1,
        content_type="x" * properties if properties else None,
        user_properties=[("k", "v" * properties)] if properties else None,
    ),
    TOPICS,
    st.binary(max_size=300),
    st.booleans(),
    st.integers(1, 65_535),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0, 0, 1, 80, 9000]),  # lengths of properties of one, two and three bytes
)


def feed(stream: PacketStream, data: bytes, cuts: list[int] | None = None) -> tuple[Chunk, list[mqtt5.Packet]]:
    chunk = Chunk(0)
    control = []
    for a, b in pairwise([0, *sorted(c % (len(data) + 1) for c in cuts or []), len(data)]):
        if b > a:
            control += stream.feed(data[a:b], chunk)
    return chunk, control


def ids_of(chunk: Chunk) -> list[int]:
    ids = bytes(chunk.packet_ids)
    return [int.from_bytes(ids[i : i + 2], "big") for i in range(0, len(ids), 2)]


@given(st.lists(PUBLISHES, max_size=8), st.lists(st.integers(0, 100_000), max_size=6), st.sampled_from([1, 1, 9]))
def test_publishes_come_out_as_the_codec_reads_them_wherever_the_stream_is_cut(
    packets: list[mqtt5.PublishPacket], cuts: list[int], times: int
) -> None:
    packets = packets * times  # many are cut at once
    data = b"".join(p.write() for p in packets)
    chunk, control = feed(PacketStream(1000), data, cuts)
    assert not control
    assert not chunk.notes
    assert [t.decode() for t in chunk.topics] == [p.topic for p in packets]
    assert chunk.payloads == [p.payload for p in packets]
    assert [bool(h & 1) for h in chunk.heads] == [p.retain for p in packets]
    assert ids_of(chunk) == [p.packet_id for p in packets if p.packet_id]
    assert chunk.size == len(data)


def test_other_packets_come_out_in_between() -> None:
    publish = mqtt5.PublishPacket("a", b"1", qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=7).write()
    data = mqtt5.ConnAckPacket().write() + publish + mqtt5.PingRespPacket().write() + publish
    chunk, control = feed(PacketStream(1000), data, list(range(len(data))))
    assert [type(p) for p in control] == [mqtt5.ConnAckPacket, mqtt5.PingRespPacket]
    assert chunk.payloads == [b"1", b"1"]


@given(st.lists(st.integers(1, 65_535), max_size=20))
def test_pubacks_are_as_the_codec_writes_them(ids: list[int]) -> None:
    expected = b"".join(mqtt5.PubAckPacket(i).write() for i in ids)
    assert pubacks(b"".join(i.to_bytes(2, "big") for i in ids)) == expected


SOUND = mqtt5.PublishPacket("t", b"x", qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=9).write()


@pytest.mark.parametrize(
    ("packet", "packet_ids"),
    [
        (b"\x32\x03\x00\xff\x00", []),  # the topic is longer than the packet
        (b"\x32\x00", []),  # nothing in it
        (b"\x32\x03\x00\x01a", []),  # no packet id
        (b"\x32\x06\x00\x01a\x00\x05\x7f", [5]),  # the properties are longer than the packet
        (b"\x32\x0a\x00\x01a\x00\x05\xff\xff\xff\xff\x01", [5]),  # a length of properties that is none
        (b"\x36\x06\x00\x01a\x00\x05\x00", []),  # QoS 3
        (b"\x34\x06\x00\x01a\x00\x05\x00", []),  # QoS 2, which was not asked for
    ],
)
def test_a_malformed_publish_is_cut_out_and_kept(packet: bytes, packet_ids: list[int]) -> None:
    chunk, _ = feed(PacketStream(1000), packet + SOUND)
    assert list(chunk.heads) == [MALFORMED, 0x32]
    assert chunk.payloads == [packet, b"x"]
    assert "can't be read" in chunk.notes[0]
    assert ids_of(chunk) == [*packet_ids, 9]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "packet",
    [
        b"\xd0\x01\x00",  # a PINGRESP with content
        b"\x00\x00",  # no packet type
        b"\xf1\x00",
        b"\x20\x03\x00\x98\x00",  # a reason code that the codec does not know
        b"\xe0\x07\x8e\x05\x1f\x00\x02\xff\xff",  # DISCONNECT with a reason string that is not UTF-8: the codec panics
    ],
)
def test_a_control_packet_that_cannot_be_read_does_not_derail_the_stream(packet: bytes) -> None:
    chunk, control = feed(PacketStream(1000), packet + SOUND)
    assert not control
    assert list(chunk.heads) == [MALFORMED, 0x32]
    assert chunk.payloads[1] == b"x"


def test_a_topic_that_is_not_utf8_comes_out_as_bytes() -> None:
    chunk, _ = feed(PacketStream(1000), b"\x32\x08\x00\x02\xff\xfe\x00\x05\x00x" + SOUND)
    assert chunk.topics == [b"\xff\xfe", b"t"]
    assert ids_of(chunk) == [5, 9]


def test_the_refusal_of_an_mqtt_3_broker_is_understood() -> None:
    with pytest.raises(StreamBrokenError, match="does not speak MQTT 5"):
        feed(PacketStream(1000), b"\x20\x02\x00\x01")


def test_a_length_of_five_bytes_breaks_the_stream() -> None:
    with pytest.raises(StreamBrokenError):
        feed(PacketStream(1000), b"\x32\xff\xff\xff\xff\x01")


@pytest.mark.parametrize("step", [1, 1000, 65_536, 10_000_000])
@pytest.mark.parametrize("qos1", [True, False])
def test_of_a_giant_packet_the_beginning_is_kept_and_the_memory_stays_small(step: int, qos1: bool) -> None:
    payload = b"0123456789" * (300_000 if step > 1 else 30_000)
    giant = mqtt5.PublishPacket(
        "pantau/v1/demo/x",
        payload,
        qos=mqtt5.QoS.AT_LEAST_ONCE if qos1 else mqtt5.QoS.AT_MOST_ONCE,
        packet_id=77 if qos1 else None,
    ).write()
    stream, chunk = PacketStream(1000), Chunk(0)
    data = giant + SOUND
    for at in range(0, len(data), step):
        stream.feed(data[at : at + step], chunk)
        assert stream._have <= 300_000 or step > 1_000_000
        if not chunk.topics:
            assert not chunk.packet_ids, "acknowledged before it was received"
    if step > len(data):  # it came as one piece, so it was in memory anyway
        assert list(chunk.heads) == [0x32 if qos1 else 0x30, 0x32]
        return
    assert list(chunk.heads) == [OVERSIZE, 0x32]
    assert chunk.topics[0] == b"pantau/v1/demo/x"
    assert payload.startswith(chunk.payloads[0])
    assert len(chunk.payloads[0]) > 65_536
    length = mqtt5.read(memoryview(giant))[1] - (5 if len(giant) > 2_097_152 else 4)  # without its fixed header
    assert f"packet of {length} bytes is too large" in chunk.notes[0]
    assert ids_of(chunk) == ([77, 9] if qos1 else [9])


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=4))
@example(b"\x32\x05\x00\x03ab\x00", [])
@example(b"\x30\x80\x80\x80\x01", [3])
def test_no_bytes_whatever_raise_anything_else(data: bytes, cuts: list[int]) -> None:
    try:
        chunk, _ = feed(PacketStream(10), data, cuts)
    except StreamBrokenError:
        return
    assert len(chunk.topics) == len(chunk.payloads) == len(chunk.heads)


@given(
    st.lists(
        st.one_of(
            st.just(SOUND),
            st.just(mqtt5.PublishPacket("a/b", b"", duplicate=False).write()),
            st.just(mqtt5.PingRespPacket().write()),
            st.sampled_from(
                [b"\x32\x00", b"\x32\x01\x00", b"\x30\x02\x00\x05", b"\x36\x06\x00\x01a\x00\x05\x00", b"\xd0\x01\x00"]
            ),
            st.binary(max_size=60).map(lambda b: bytes([0x30 | len(b) % 16, len(b)]) + b),
            st.binary(min_size=120, max_size=300).map(
                lambda b: b"\x32" + bytes([len(b) % 128 | 128, len(b) // 128]) + b
            ),
        ),
        max_size=80,
    ),
    st.binary(max_size=6),
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_many_at_once_come_out_as_one_by_one(packets: list[bytes], rest: bytes) -> None:
    def run(*pieces: bytes) -> object:
        stream, chunk, control = PacketStream(1000), Chunk(0), list[mqtt5.Packet]()
        broken = False
        try:
            for piece in pieces:
                control += stream.feed(piece, chunk)
        except StreamBrokenError:
            broken = True
        kinds = [] if broken else [type(p) for p in control]
        return broken, kinds, chunk.topics, chunk.payloads, chunk.heads, chunk.packet_ids, chunk.notes

    whole = b"".join(packets) + rest
    assert run(whole) == run(*(whole[i : i + 1] for i in range(len(whole))))


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=4))
def test_where_it_is_cut_changes_nothing(data: bytes, cuts: list[int]) -> None:
    def run(cuts: list[int]) -> object:
        chunk = Chunk(0)
        stream = PacketStream(1_000_000)
        broken = False
        try:
            for a, b in pairwise([0, *sorted(c % (len(data) + 1) for c in cuts), len(data)]):
                stream.feed(data[a:b], chunk)
        except StreamBrokenError:
            broken = True
        return broken, chunk.topics, chunk.payloads, chunk.heads, chunk.packet_ids

    assert run(cuts) == run([])
