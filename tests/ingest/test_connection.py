"""The connection against a scripted broker: faults that a real one does not show on demand."""

from __future__ import annotations

import socket
import struct
import threading
import time
from typing import Any

import mqtt5
import pytest

from ingest.dead_letters import Reason
from ingest.formats import pantau_json
from ingest.receiver import Receiver
from ingest.settings import BrokerSettings, Limits
from tests.ingest.mqtt import (
    FAST,
    FakeBroker,
    Wire,
    collect,
    level,
    nothing_more,
    publish,
    read_pubacks,
    receiving,
    stay,
    until,
    values,
    welcome,
)
from tests.ingest.small_city import CITY, directory, topic
from tests.real_parts.mosquitto import free_port


def test_what_we_ask_for() -> None:
    asked: list[mqtt5.Packet] = []

    def script(wire: Wire, _: int, connect: mqtt5.ConnectPacket) -> None:
        asked.extend([connect, welcome(wire)])
        stay(wire)

    with FakeBroker(script) as broker, receiving(broker.settings(username="u", password="p")) as receiver:
        assert receiver.listening_since_ns is not None
    connect, subscribe = asked
    assert isinstance(connect, mqtt5.ConnectPacket)
    assert isinstance(subscribe, mqtt5.SubscribePacket)
    assert (connect.client_id, connect.username, connect.password) == ("pantau-fake", "u", b"p")
    assert (connect.clean_start, connect.session_expiry_interval, connect.keep_alive) == (False, 86_400, 30)
    assert (connect.receive_max, connect.max_packet_size, connect.topic_alias_max) == (20_000, None, 0)
    (pattern,) = subscribe.topic_filters
    assert pattern.pattern == "pantau/v1/+/+"
    assert pattern.max_qos == mqtt5.QoS.AT_LEAST_ONCE
    assert pattern.retain_as_published is False


def test_acknowledged_in_the_order_received_and_only_on_demand() -> None:
    told = threading.Event()
    acknowledged: list[int] = []

    def script(wire: Wire, _: int, __: mqtt5.ConnectPacket) -> None:
        welcome(wire)
        wire.write(*(publish(i, level(i)) for i in range(1, 501)))
        wire.sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            read_pubacks(wire, 1)
        told.set()
        wire.sock.settimeout(10)
        acknowledged.extend(read_pubacks(wire, 500))
        stay(wire)

    with FakeBroker(script) as broker, receiving(broker.settings()) as receiver:
        batches = collect(receiver, 500, acknowledge=False)
        assert told.wait(5)
        for batch in batches:
            receiver.acknowledge(batch)
        until(lambda: len(acknowledged) == 500)
    assert acknowledged == list(range(1, 501))
    assert values(batches) == list(range(1, 501))


def test_an_acknowledgement_of_the_old_connection_is_not_sent_on_the_new_one() -> None:
    """The packet ids begin anew there: it could acknowledge a message that is not safe."""
    second: list[int] = []
    polled, done = threading.Event(), threading.Event()

    def script(wire: Wire, number: int, _: mqtt5.ConnectPacket) -> None:
        welcome(wire, session_present=number > 0)
        if number == 0:
            wire.write(publish(1, level(1)), publish(2, level(2)))
            polled.wait(10)
            return  # the connection breaks
        wire.write(publish(1, level(1), duplicate=True), publish(2, level(2), duplicate=True))
        second.extend(read_pubacks(wire, 2))
        done.set()
        stay(wire)

    with FakeBroker(script) as broker, receiving(broker.settings()) as receiver:
        old = collect(receiver, 2, acknowledge=False)
        polled.set()
        until(lambda: receiver.status()[0].connects == 2)
        new = collect(receiver, 2, acknowledge=False)
        for batch in old:
            receiver.acknowledge(batch)
        time.sleep(0.3)
        assert second == []
        for batch in new:
            receiver.acknowledge(batch)
        assert done.wait(5)
        assert receiver.status()[0].sessions_lost == 0
    assert second == [1, 2]


def test_bad_bytes_become_dead_letters_and_the_stream_goes_on() -> None:
    """Mosquitto checks topics itself, so these come from the scripted broker."""
    acknowledged: list[int] = []
    truncated = b"\x32\x05\x00\xff\x00\x01\x00"  # says its topic is longer than the packet

    def script(wire: Wire, _: int, __: mqtt5.ConnectPacket) -> None:
        welcome(wire)
        bad_topic = b"\x32\x11\x00\x09pantau/\xff\xfe\x00\x07\x00{}!"
        wire.write(publish(5, level(1)), bad_topic, truncated, b"\xd0\x01\x00", publish(9, level(2)))
        acknowledged.extend(read_pubacks(wire, 3))
        stay(wire)

    with FakeBroker(script) as broker, receiving(broker.settings()) as receiver:
        batches = collect(receiver, 5)
        until(lambda: len(acknowledged) == 3)
        assert receiver.status()[0].connected
    assert values(batches) == [1, 2]
    dead = [d for b in batches for d in b.dead_letters]
    assert [d.reason for d in dead] == [Reason.WRONG_TOPIC, Reason.MALFORMED_PACKET, Reason.MALFORMED_PACKET]
    assert dead[0].topic == "pantau/\\xff\\xfe"
    assert dead[0].payload == b"{}!"
    assert dead[1].payload == truncated
    assert "PINGRESP" in dead[2].detail
    assert acknowledged == [5, 7, 9]


def test_after_a_length_that_is_none_we_connect_anew_and_keep_what_came_before() -> None:
    def script(wire: Wire, number: int, _: mqtt5.ConnectPacket) -> None:
        welcome(wire)
        if number == 0:
            wire.write(publish(1, level(1)), b"\x32\xff\xff\xff\xff\x01")
        else:
            wire.write(publish(1, level(2)))
        stay(wire)

    with FakeBroker(script) as broker, receiving(broker.settings()) as receiver:
        assert values(collect(receiver, 2)) == [1, 2]
        status = receiver.status()[0]
        assert status.connects == 2
        assert "more than four bytes" in str(status.last_error)


def test_a_packet_that_comes_byte_by_byte() -> None:
    def script(wire: Wire, _: int, __: mqtt5.ConnectPacket) -> None:
        welcome(wire)
        for byte in publish(1, level(1)):
            wire.write(bytes([byte]))
            time.sleep(0.001)
        stay(wire)

    with FakeBroker(script) as broker, receiving(broker.settings()) as receiver:
        assert values(collect(receiver, 1)) == [1]


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (mqtt5.ConnAckPacket(reason_code=mqtt5.ConnAckReasonCode.BAD_USER_NAME_OR_PASSWORD), "bad user name or pass"),
        (mqtt5.ConnAckPacket(reason_code=mqtt5.ConnAckReasonCode.NOT_AUTHORIZED), "bad user name or password"),
        (
            mqtt5.ConnAckPacket(reason_code=mqtt5.ConnAckReasonCode.SERVER_BUSY, reason_str="at lunch"),
            "refused us: server busy (at lunch)",
        ),
        (b"\x20\x02\x00\x01", "does not speak MQTT 5"),
        (b"", "closed the connection at our greeting: check whether it wants TLS, and that it speaks MQTT 5"),
    ],
)
def test_refusals_are_said_in_a_sentence(answer: mqtt5.Packet | bytes, sentence: str) -> None:
    with (
        FakeBroker(lambda wire, _, __: wire.write(answer)) as broker,
        receiving(broker.settings(), wait=False) as receiver,
    ):
        until(lambda: sentence in str(receiver.status()[0].last_error), lambda: str(receiver.status()[0]))
        assert f"127.0.0.1:{broker.port}" in str(receiver.status()[0].last_error)
        assert receiver.listening_since_ns is None
        assert not receiver.status()[0].connected


def test_a_refused_topic_is_named() -> None:
    def script(wire: Wire, _: int, __: mqtt5.ConnectPacket) -> None:
        wire.write(mqtt5.ConnAckPacket())
        subscribe = wire.read()
        assert isinstance(subscribe, mqtt5.SubscribePacket)
        wire.write(mqtt5.SubAckPacket(subscribe.packet_id, [mqtt5.SubAckReasonCode.NOT_AUTHORIZED]))
        stay(wire)

    with FakeBroker(script) as broker, receiving(broker.settings(), wait=False) as receiver:
        until(lambda: receiver.status()[0].last_error == "the broker refuses the topic pantau/v1/+/+: not authorized")


def test_a_second_client_with_our_name_is_reported() -> None:
    def script(wire: Wire, _: int, __: mqtt5.ConnectPacket) -> None:
        welcome(wire)
        wire.write(mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER))
        stay(wire)

    with FakeBroker(script) as broker, receiving(broker.settings(), wait=False) as receiver:
        until(lambda: "with our client id 'pantau-fake'" in str(receiver.status()[0].last_error))


def test_a_broker_that_accepts_but_never_answers() -> None:
    with (
        FakeBroker(lambda wire, _, __: time.sleep(1.5)) as broker,
        receiving(broker.settings(connect_timeout_s=0.3), wait=False) as receiver,
    ):
        until(lambda: "did not answer our greeting within 0.3 s" in str(receiver.status()[0].last_error))


def test_silence_is_noticed_and_pings_are_sent() -> None:
    pings: list[int] = []

    def script(wire: Wire, number: int, _: mqtt5.ConnectPacket) -> None:
        welcome(wire)
        if number == 0:
            deadline = time.monotonic() + 2.5
            while time.monotonic() < deadline:
                packet = wire.read()
                if isinstance(packet, mqtt5.PingReqPacket):
                    pings.append(1)
                    wire.write(mqtt5.PingRespPacket())
                elif isinstance(packet, mqtt5.SubscribePacket):
                    wire.write(mqtt5.SubAckPacket(packet.packet_id, [mqtt5.SubAckReasonCode.NOT_AUTHORIZED]))
        time.sleep(2.0)  # deaf and dumb, but the connection stands

    with FakeBroker(script) as broker, receiving(broker.settings(keep_alive_s=1)) as receiver:
        time.sleep(2.2)
        assert receiver.status()[0].connects == 1, receiver.status()
        assert len(pings) >= 2
        until(lambda: "has been silent for 1.5 s" in str(receiver.status()[0].last_error))


def test_a_broker_that_hangs_up_on_the_question_for_drops_is_not_asked_again() -> None:
    def script(wire: Wire, number: int, _: mqtt5.ConnectPacket) -> None:
        welcome(wire)
        wire.sock.settimeout(1)
        try:
            packet = wire.read()
        except TimeoutError:
            packet = None
        if number == 0:
            assert isinstance(packet, mqtt5.SubscribePacket)
            return
        assert packet is None
        wire.write(publish(1, level(1)))
        stay(wire)

    with FakeBroker(script) as broker, receiving(broker.settings(), wait=False) as receiver:
        assert values(collect(receiver, 1)) == [1]
        assert receiver.status()[0].connects == 2
        assert receiver.status()[0].broker_dropped is None


def test_the_brokers_count_of_drops_goes_on_over_its_restarts() -> None:
    counts = [b"10", b"15", b"3", b"?", b"4"]  # began at 10 before us, 5 more, restarted: 3, then 1 more

    def script(wire: Wire, _: int, __: mqtt5.ConnectPacket) -> None:
        welcome(wire)
        for count in counts:
            wire.write(mqtt5.PublishPacket("$SYS/broker/publish/messages/dropped", count, retain=True))
        wire.write(publish(1, level(1)))
        stay(wire)

    with FakeBroker(script) as broker, receiving(broker.settings()) as receiver:
        batches = collect(receiver, 1)
        assert sum(b.messages for b in batches) == 1
        assert not [d for b in batches for d in b.dead_letters]
        assert receiver.status()[0].broker_dropped == 9


def test_nobody_there() -> None:
    port = free_port()
    with receiving(BrokerSettings("x", "127.0.0.1", port, **FAST), wait=False) as receiver:  # type: ignore[arg-type]
        expected = f"connection refused at 127.0.0.1:{port}: is the broker running?"
        until(lambda: receiver.status()[0].last_error == expected)
    with receiving(BrokerSettings("x", "no-such-host.invalid", **FAST), wait=False) as receiver:  # type: ignore[arg-type]
        until(lambda: "the host name 'no-such-host.invalid' is not known" in str(receiver.status()[0].last_error))


def test_the_pause_between_attempts_grows_to_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    bounds: list[float] = []

    def uniform(low: float, high: float) -> float:
        assert low == 0
        bounds.append(high)
        return 0.0

    monkeypatch.setattr("ingest.connection.random.uniform", uniform)
    settings = BrokerSettings("x", "127.0.0.1", free_port(), backoff_first_s=0.5, backoff_max_s=3)
    with receiving(settings, wait=False):
        until(lambda: len(bounds) >= 6)
    assert bounds[:6] == [0.5, 1, 2, 3, 3, 3]


def test_a_fault_of_the_decoder_costs_one_message_and_not_the_stream(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = pantau_json.decode

    def decode(payload: bytes, *rest: Any) -> None:
        if payload.startswith(b"!"):
            raise ZeroDivisionError("oops")
        real(payload, *rest)

    monkeypatch.setattr(pantau_json, "decode", decode)

    def script(wire: Wire, _: int, __: mqtt5.ConnectPacket) -> None:
        welcome(wire)
        wire.write(publish(1, level(1)), publish(2, b"!"), publish(3, b"!"), publish(4, level(2)))
        stay(wire)

    with FakeBroker(script) as broker, receiving(broker.settings()) as receiver:
        batches = collect(receiver, 4)
    assert values(batches) == [1, 2]
    dead = [d for b in batches for d in b.dead_letters]
    assert [(d.reason, d.payload) for d in dead] == [(Reason.FAULT, b"!")] * 2
    assert "ZeroDivisionError: oops" in dead[0].detail
    assert caplog.text.count("made the decoder fail") == 1


def test_memory_is_bounded_while_nobody_polls() -> None:
    """We stop reading; the broker's socket fills; and then all of it comes, in order."""
    total, size = 3000, 5000
    sent: list[int] = []

    def script(wire: Wire, _: int, __: mqtt5.ConnectPacket) -> None:
        welcome(wire)
        wire.sock.settimeout(60)
        for i in range(total):
            wire.write(publish(i + 1, level(i) + b" " * size))
            sent.append(i)
        stay(wire)

    limits = Limits(max_waiting_bytes=1_000_000)
    with FakeBroker(script) as broker, receiving(broker.settings(keep_alive_s=1), limits=limits) as receiver:
        time.sleep(2.5)  # longer than the keep-alive: a broker that is not read is not a silent one
        status = receiver.status()[0]
        assert status.waiting_bytes <= 1_000_000 + 2 * 65_536 * 16
        assert len(sent) < total
        assert status.connected
        batches = collect(receiver, total)
        assert values(batches) == list(range(total))
        assert receiver.status()[0].connects == 1


def test_a_connection_that_breaks_while_we_do_not_read_costs_no_cpu() -> None:
    broke = threading.Event()

    def script(wire: Wire, number: int, _: mqtt5.ConnectPacket) -> None:
        welcome(wire, session_present=number > 0)
        if number > 0:
            wire.write(publish(1, level(-1)))
            stay(wire)
            return
        wire.sock.settimeout(0.3)
        try:
            for i in range(20_000):  # 100 MB: more than the sockets can hold
                wire.write(publish(i + 1, level(i) + b" " * 5000))
        except TimeoutError:  # the client has stopped reading: hang up with a reset
            wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            wire.sock.close()
            broke.set()

    limits = Limits(max_waiting_bytes=200_000)
    with FakeBroker(script) as broker, receiving(broker.settings(), limits=limits) as receiver:
        assert broke.wait(20)
        cpu = time.process_time()
        time.sleep(1)
        assert time.process_time() - cpu < 0.4
        until(lambda: -1 in values(collect(receiver, 1)))
        assert receiver.status()[0].connects == 2
        assert receiver.status()[0].resumed is True


def test_a_giant_payload_is_refused_without_being_taken_into_memory() -> None:
    def script(wire: Wire, _: int, __: mqtt5.ConnectPacket) -> None:
        welcome(wire)
        wire.write(publish(1, b"x" * 40_000_000), publish(2, level(2)))
        assert read_pubacks(wire, 2) == [1, 2]
        stay(wire)

    with FakeBroker(script) as broker, receiving(broker.settings()) as receiver:
        batches = collect(receiver, 2)
        time.sleep(0.2)
    (dead,) = [d for b in batches for d in b.dead_letters]
    assert (dead.reason, dead.device, dead.topic) == (Reason.PAYLOAD_TOO_LARGE, "gauge-1", topic("gauge-1"))
    assert dead.payload == b"x" * 65_536
    assert values(batches) == [2]


def test_closing_before_or_while_connecting() -> None:
    Receiver([BrokerSettings("never-started")], city=CITY).close()
    receiver = Receiver([BrokerSettings("x", "127.0.0.1", free_port())], city=CITY)
    receiver.start()
    began = time.monotonic()
    receiver.close()
    assert time.monotonic() - began < 2


def test_closing_sends_the_acknowledgements_that_were_given() -> None:
    acknowledged: list[int] = []
    goodbye = threading.Event()

    def script(wire: Wire, _: int, __: mqtt5.ConnectPacket) -> None:
        welcome(wire)
        wire.write(publish(3, level(1)))
        while True:
            packet = wire.read()
            if isinstance(packet, mqtt5.PubAckPacket):
                acknowledged.append(packet.packet_id)
            elif isinstance(packet, mqtt5.DisconnectPacket):
                assert packet.session_expiry_interval is None  # the session stays
                goodbye.set()
                return

    with FakeBroker(script) as broker:
        receiver = Receiver([broker.settings()], city=CITY)
        receiver.start()
        batch = None
        while batch is None:
            batch = receiver.poll(directory(), time.time_ns(), 0.2)
        receiver.acknowledge(batch)
        receiver.close()
        assert goodbye.wait(5)
        nothing_more(receiver, 0.1)
    assert acknowledged == [3]
