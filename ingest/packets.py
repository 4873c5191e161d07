"""Cuts the byte stream of an MQTT 5 connection into packets.

PUBLISH packets, the mass of it, are cut here by hand: it costs half of what the ``mqtt5`` codec takes, it leaves
topics as bytes (a dictionary finds them as they are), and a topic that is not UTF-8, which makes that codec panic, is
just another unknown topic. All other packets are read by the codec. A packet that can't be read is cut out by its
length, kept, and the stream goes on behind it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import mqtt5
import numpy as np

USUAL_HEADS = frozenset((0x30, 0x32, 0x3A))
"""First bytes of PUBLISH packets at QoS 0 and 1 that are not retained."""
RETAINED_BIT = 0x01
MALFORMED = 0
"""Stands for the first byte of a packet that could not be read."""
OVERSIZE = 2
"""Stands for the first byte of a packet that was too large to be taken into memory."""
_OVERHEAD = 65_535 + 65_536
"""What a packet may have beside its payload: the topic, and properties within reason. [bytes]"""
_KEPT = 2 * 65_536 + 65_535
"""Of a packet that is too large, so many bytes are kept: all of the topic and the beginning of the payload."""


class StreamBrokenError(Exception):
    """Where the next packet begins can't be told any more."""


@dataclass(slots=True)
class Chunk:
    """The messages of one read from a socket, as columns."""

    received_at: int
    """[ns since 1970 UTC, the computer's clock]"""
    topics: list[bytes] = field(default_factory=list)
    payloads: list[bytes] = field(default_factory=list)
    heads: bytearray = field(default_factory=bytearray)
    """First byte of each packet, or MALFORMED or OVERSIZE."""
    packet_ids: bytearray = field(default_factory=bytearray)
    """Two bytes for each that wants an acknowledgement, in the order of reception."""
    notes: dict[int, str] = field(default_factory=dict)
    """Place in the columns → what is wrong with this packet."""
    size: int = 0
    """Bytes read."""

    def put(self, head: int, topic: bytes, payload: bytes, note: str | None = None) -> None:
        """Append one message."""
        if note is not None:
            self.notes[len(self.topics)] = note
        self.topics.append(topic)
        self.payloads.append(payload)
        self.heads.append(head)

    def append(self, other: Chunk) -> None:
        """Append the messages of another chunk."""
        for place, note in other.notes.items():
            self.notes[len(self.topics) + place] = note
        self.topics += other.topics
        self.payloads += other.payloads
        self.heads += other.heads
        self.packet_ids += other.packet_ids
        self.size += other.size


def pubacks(packet_ids: bytes | bytearray) -> bytes:
    """The PUBACK packets (reason: success) for ``packet_ids``, of two bytes each.

    Examples
    --------
    >>> pubacks(b"\\x00\\x07\\x01\\x00").hex(" ")
    '40 02 00 07 40 02 01 00'
    """
    packets = np.empty((len(packet_ids) // 2, 4), dtype=np.uint8)
    packets[:, 0], packets[:, 1] = 0x40, 2
    packets[:, 2:] = np.frombuffer(packet_ids, dtype=np.uint8).reshape(-1, 2)
    return packets.tobytes()


class PacketStream:
    """The received half of one connection.

    Parameters
    ----------
    max_payload_bytes : int
        Packets with a (much) larger payload are not kept in memory; their beginning is, and they are reported.
    """

    def __init__(self, max_payload_bytes: int) -> None:
        self._max_length = max_payload_bytes + _OVERHEAD
        self._parts: list[bytes] = []
        self._have = 0
        self._need = 2
        self._skip = 0
        self._oversize: tuple[bytes, int] | None = None

    def feed(self, data: bytes, chunk: Chunk) -> list[mqtt5.Packet]:
        """Take the next bytes: messages go to ``chunk``, other packets are returned.

        Raises
        ------
        StreamBrokenError
            The length of a packet is no length.
        """
        chunk.size += len(data)
        control: list[mqtt5.Packet] = []
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            if self._skip:
                return control
            self._finish_oversize(chunk)
            data = data[skipped:]
        self._parts.append(data)
        self._have += len(data)
        if self._have < self._need:
            return control
        buffer = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        position = self._cut(buffer, chunk, control)
        rest = buffer[position:]
        self._parts = [rest] if rest else []
        self._have = len(rest)
        return control

    def _cut(self, buffer: bytes, chunk: Chunk, control: list[mqtt5.Packet]) -> int:
        """Take all whole packets out of ``buffer``; returns where the rest begins."""
        position, end = 0, len(buffer)
        self._need = 2
        while True:
            position = _cut_usual(buffer, position, chunk)
            if end - position < 2:
                break
            head, length, start = buffer[position], buffer[position + 1], position + 2
            if length >= 0x80:
                length, start = _variable_integer(buffer, position + 1)
                if start < 0:
                    self._need = end - position + 1
                    break
            stop = start + length
            if stop > end:
                if length > self._max_length:
                    if end - position < _KEPT:
                        self._need = _KEPT
                        break
                    self._oversize = (buffer[position : position + _KEPT], length)
                    self._skip = stop - end
                    return end
                self._need = stop - position
                break
            if head & 0xF0 != 0x30:
                _read_control(buffer[position:stop], head, chunk, control)
                position = stop
                continue
            _cut_publish(buffer, position, start, stop, chunk)
            position = stop
        return position

    def _finish_oversize(self, chunk: Chunk) -> None:
        assert self._oversize is not None
        beginning, length = self._oversize
        self._oversize = None
        note = f"packet of {length} bytes is too large; its beginning is kept"
        try:
            _, start = _variable_integer(beginning, 1)
            topic_end = start + 2 + (beginning[start] << 8 | beginning[start + 1])
            if beginning[0] & 0xF0 != 0x30 or beginning[0] & 0x06 > 0x02:
                raise IndexError
            at = topic_end + (2 if beginning[0] & 0x02 else 0)
            properties, body = _variable_integer(beginning, at)
            if body < 0:
                raise IndexError
        except (IndexError, StreamBrokenError):
            chunk.put(MALFORMED, b"", beginning, note)
            return
        if beginning[0] & 0x02:
            chunk.packet_ids += beginning[topic_end : topic_end + 2]
        chunk.put(OVERSIZE, beginning[start + 2 : topic_end], beginning[body + properties :], note)


def _variable_integer(buffer: bytes, position: int) -> tuple[int, int]:
    """MQTT's variable byte integer at ``position``, and where it ends; (0, -1) if more bytes are needed."""
    value = shift = 0
    for at in range(position, position + 4):
        if at >= len(buffer):
            return 0, -1
        value |= (buffer[at] & 0x7F) << shift
        if buffer[at] < 0x80:
            return value, at + 1
        shift += 7
    raise StreamBrokenError("the length of a packet has more than four bytes")


def _cut_usual(buffer: bytes, position: int, chunk: Chunk) -> int:
    """Take PUBLISH packets at QoS 0 and 1 without flags and properties, of less than 16 KiB, from ``position`` on.

    Ends before the first packet that is another one or not whole, and returns where it begins. Nearly all packets come
    this way, so it counts what each line here costs.
    """
    topics, packet_ids, at_qos_0 = chunk.topics, list[bytes](), list[int]()
    add_topic, add_payload, add_id = topics.append, chunk.payloads.append, packet_ids.append
    end = len(buffer)
    last = end - 4
    while position < last:
        head, length = buffer[position], buffer[position + 1]
        if head != 0x32 and head != 0x30:
            break
        if length < 0x80:
            start = position + 2
            stop = start + length
        else:
            more = buffer[position + 2]
            if more >= 0x80:
                break
            start = position + 3
            stop = start + length + (more << 7) - 0x80
        if stop > end:
            break
        topic_end = start + 2 + (buffer[start] << 8) + buffer[start + 1]
        if head == 0x32:
            body = topic_end + 3
            if body > stop or buffer[topic_end + 2]:
                break
            add_id(buffer[topic_end : topic_end + 2])
        else:
            body = topic_end + 1
            if body > stop or buffer[topic_end]:
                break
            at_qos_0.append(len(topics))
        add_topic(buffer[start + 2 : topic_end])
        add_payload(buffer[body:stop])
        position = stop
    chunk.packet_ids += b"".join(packet_ids)
    chunk.heads += b"\x32" * (len(topics) - len(chunk.heads))
    for place in at_qos_0:
        chunk.heads[place] = 0x30
    return position


def _cut_publish(buffer: bytes, position: int, start: int, stop: int, chunk: Chunk) -> None:
    """Take one PUBLISH packet, whose fixed header begins at ``position`` and ends before ``start``."""
    head = buffer[position]
    try:
        topic_end = start + 2 + (buffer[start] << 8 | buffer[start + 1])
        if head & 0x06 == 0x02:
            at = topic_end + 2
        elif head & 0x06 == 0:
            at = topic_end
        else:
            raise IndexError
        body = at + 1 + buffer[at]
        if buffer[at] >= 0x80:
            properties, body = _variable_integer(buffer, at)
            body = body + properties if body > 0 else stop + 1
    except (IndexError, StreamBrokenError):
        body = stop + 1
    if body > stop:
        _put_malformed(buffer[position:stop], start - position, chunk)
        return
    chunk.topics.append(buffer[start + 2 : topic_end])
    chunk.payloads.append(buffer[body:stop])
    chunk.heads.append(head)
    if head & 0x02:
        chunk.packet_ids += buffer[topic_end : topic_end + 2]


def _put_malformed(packet: bytes, start: int, chunk: Chunk) -> None:
    """Keep a PUBLISH packet that can't be read, and acknowledge it if its packet id can be."""
    chunk.put(MALFORMED, b"", packet, f"a PUBLISH packet of {len(packet)} bytes can't be read")
    if packet[0] & 0x06 == 0x02 and len(packet) >= start + 2:
        topic_end = start + 2 + (packet[start] << 8 | packet[start + 1])
        if topic_end + 2 <= len(packet):
            chunk.packet_ids += packet[topic_end : topic_end + 2]


def _read_control(packet: bytes, head: int, chunk: Chunk, control: list[mqtt5.Packet]) -> None:
    if head == 0x20 and len(packet) == 4:
        # Two bytes of content instead of three or more: this is how MQTT 3 refuses.
        raise StreamBrokenError("the broker does not speak MQTT 5")
    try:
        control.append(mqtt5.read(memoryview(packet))[0])
    except Exception as error:
        note = f"{_NAMES.get(head >> 4, 'unknown')} packet of {len(packet)} bytes can't be read: {error}"
        chunk.put(MALFORMED, b"", packet, note)
    except BaseException as error:
        # The codec's panics derive from BaseException.
        if type(error).__name__ != "PanicException":
            raise
        chunk.put(MALFORMED, b"", packet, f"{_NAMES.get(head >> 4, 'unknown')} packet made the codec panic: {error}")


_NAMES = {2: "CONNACK", 4: "PUBACK", 9: "SUBACK", 11: "UNSUBACK", 13: "PINGRESP", 14: "DISCONNECT", 15: "AUTH"}
