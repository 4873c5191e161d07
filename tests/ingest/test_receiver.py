"""The receiver on a real Mosquitto: nothing is lost, nothing refused without a reason, troubles said in a sentence."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mqtt5
import pytest

from ingest.dead_letters import Reason
from ingest.journal import read_frames
from ingest.receiver import Receiver
from ingest.settings import BrokerSettings, ClockSource, Limits
from ingest.steps import decode_step
from tests.ingest.mqtt import (
    FAST,
    Publisher,
    collect,
    level,
    nothing_more,
    receiving,
    until,
    values,
)
from tests.ingest.small_city import CITY, directory, topic
from tests.real_parts.mosquitto import Mosquitto, free_port

pytestmark = pytest.mark.mosquitto

S = 1_000_000_000


def at(broker: Mosquitto, name: str = "main", **more: Any) -> BrokerSettings:
    return BrokerSettings(name, broker.host, broker.port, **(FAST | more))


@pytest.fixture(scope="module")
def shared() -> Iterator[Mosquitto]:
    with Mosquitto() as broker:
        yield broker


@pytest.fixture
def broker(shared: Mosquitto, request: pytest.FixtureRequest) -> Iterator[Mosquitto]:
    """A Mosquitto for the tests that neither stop nor configure it; each test leaves no session behind."""
    yield shared
    forget(shared, f"pantau-{request.node.name[:40]}")


def forget(broker: Mosquitto, client_id: str) -> None:
    """Have the broker drop a session."""
    Publisher(broker.port, client_id).close()


def named(broker: Mosquitto, request: pytest.FixtureRequest, **more: Any) -> BrokerSettings:
    """Settings with a session of the test's own."""
    return at(broker, client_id=f"pantau-{request.node.name[:40]}", **more)


def test_readings_come_with_their_values_and_times(broker: Mosquitto, request: pytest.FixtureRequest) -> None:
    with receiving(named(broker, request)) as receiver, Publisher(broker.port) as publisher:
        before = time.time_ns()
        publisher.send(topic("gauge-1"), level(1.5))
        publisher.send(
            topic("lamp-1"), '{"values": {"lamp_power_w": 0.09, "battery_v": 3}, "units": {"lamp_power_w": "kW"}}'
        )
        publisher.send(
            topic("gauge-1"), f'{{"time": {before // S - 60}, "property": "water_level_m", "value": 2}}', qos=0
        )
        batches = collect(receiver, 3)
        after = time.time_ns()
        city = directory()
        got = [
            (city.datastreams[d].id, v)
            for b in batches
            for d, v in zip(b.observations.datastream.tolist(), b.observations.value.tolist(), strict=True)
        ]
        assert got == [
            ("gauge-1:water_level_m", 1.5),
            ("lamp-1:lamp_power_w", 90.0),
            ("lamp-1:battery_v", 3.0),
            ("gauge-1:water_level_m", 2.0),
        ]
        received = [t for b in batches for t in b.observations.received_at.tolist()]
        assert all(before <= t <= after for t in received)
        observed = [t for b in batches for t in b.observations.observed_at.tolist()]
        assert observed[:3] == received[:3]
        assert observed[3] == (before // S - 60) * S
        assert [b.clock for b in batches] == [None] * len(batches)
        assert sum(len(b.dead_letters) for b in batches) == 0
        since = receiver.listening_since_ns
        assert since is not None
        assert since <= before
        assert batches[0].listening_since_ns == since
        status = receiver.status()[0]
        assert (status.messages, status.connected, status.connects) == (3, True, 1)
        assert status.last_error is None
        nothing_more(receiver)


def test_what_is_not_acknowledged_comes_again_and_what_is_does_not(
    broker: Mosquitto, request: pytest.FixtureRequest
) -> None:
    settings = named(broker, request)
    with receiving(settings) as receiver, Publisher(broker.port) as publisher:
        for i in range(5):
            publisher.reading(i)
        collect(receiver, 5)
        for i in range(5, 10):
            publisher.reading(i)
        collect(receiver, 5, acknowledge=False)
    with receiving(settings) as receiver:
        batches = collect(receiver, 5)
        assert values(batches) == [5, 6, 7, 8, 9]
        nothing_more(receiver)
        assert receiver.status()[0].sessions_lost == 0
    with receiving(settings) as receiver:
        nothing_more(receiver)


RECEIVE = """
import sys, time
from ingest.receiver import Receiver
from ingest.settings import BrokerSettings
from ingest.journal import Journal
from ingest.steps import STEP, encode_step
from tests.ingest.small_city import CITY, directory
journal = Journal(sys.argv[3])
receiver = Receiver([BrokerSettings("main", "127.0.0.1", int(sys.argv[1]), client_id=sys.argv[2])], city=CITY)
receiver.start()
city = directory()
while True:
    now = time.time_ns()
    batch = receiver.poll(city, now, 0.2)
    if batch is not None:
        journal.append(STEP, encode_step(batch.observations, now, batch.listening_since_ns))
        journal.commit()
        receiver.acknowledge(batch)
        print(len(batch.observations), flush=True)
"""


def test_kill_9_of_the_receiving_process_loses_nothing(
    broker: Mosquitto, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    client = f"pantau-{request.node.name[:40]}"
    with receiving(at(broker, client_id=client)):
        pass  # the session exists from here on
    command = [sys.executable, "-c", RECEIVE, str(broker.port), client, str(tmp_path)]
    with Publisher(broker.port) as publisher:
        sent = 0
        for _ in range(4):
            process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
            assert process.stdout is not None
            for _ in range(300):
                publisher.reading(sent)
                sent += 1
            process.stdout.readline()  # it has journaled something
            for _ in range(100):
                publisher.reading(sent)
                sent += 1
            process.kill()
            process.communicate()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])

        def journaled() -> set[float]:
            return {v for _, _, p in read_frames(tmp_path) for v in decode_step(p).observations.value.tolist()}

        try:
            until(lambda: len(journaled()) == sent, lambda: f"{len(journaled())} of {sent}")
        finally:
            process.kill()
            process.communicate()
    assert journaled() == set(range(sent))


def test_a_broker_that_restarts_in_the_middle_loses_nothing() -> None:
    with Mosquitto(persistence=True) as broker, receiving(at(broker)) as receiver:
        sent: list[int] = []
        got: list[float] = []
        for round_number in range(3):
            with Publisher(broker.port) as publisher:
                for _ in range(200):
                    publisher.reading(len(sent))
                    sent.append(len(sent))
                got += values(collect(receiver, 50, acknowledge=round_number != 1))
            listened = receiver.listening_since_ns
            broker.restart()
            until(lambda n=round_number: receiver.status()[0].connects == n + 2)  # type: ignore[misc]
            since = receiver.listening_since_ns
            assert since is not None
            assert listened is not None
            assert since > listened
        deadline = time.monotonic() + 10
        while set(got) != set(sent) and time.monotonic() < deadline:
            batch = receiver.poll(directory(), time.time_ns(), 0.2)
            if batch is not None:
                receiver.acknowledge(batch)
                got += batch.observations.value.tolist()
        assert set(got) == set(sent)
        status = receiver.status()[0]
        assert status.sessions_lost == 0
        # The last trouble is the loss itself, or an attempt to connect before the broker was up again.
        assert any(words in str(status.last_error) for words in ("closed the", "ended the", "connection refused"))


def test_a_broker_that_forgets_our_session_is_noticed() -> None:
    with Mosquitto() as broker, receiving(at(broker)) as receiver:
        broker.restart()
        until(lambda: receiver.status()[0].connects == 2)
        assert receiver.status()[0].sessions_lost == 1


def test_payloads_up_to_the_limit_pass_and_larger_ones_are_refused(
    broker: Mosquitto, request: pytest.FixtureRequest
) -> None:
    limit = Limits().max_payload_bytes
    with receiving(named(broker, request)) as receiver, Publisher(broker.port) as publisher:
        publisher.send(topic("gauge-1"), level(1).ljust(limit))
        publisher.send(topic("gauge-1"), level(2).ljust(limit + 1))
        publisher.send(topic("gauge-1"), level(3).ljust(3 * limit))
        publisher.send(topic("gauge-1"), level(4))
        batches = collect(receiver, 4)
    assert values(batches) == [1, 4]
    dead = [d for b in batches for d in b.dead_letters]
    assert [d.reason for d in dead] == [Reason.PAYLOAD_TOO_LARGE] * 2
    assert dead[0].detail == f"payload must be at most {limit} bytes, got {limit + 1}"
    assert dead[0].payload == level(2).ljust(65_536)
    assert [d.device for d in dead] == ["gauge-1"] * 2
    assert batches[0].refused() or batches[-1].refused()


def test_a_list_of_thousands_of_readings(broker: Mosquitto, request: pytest.FixtureRequest) -> None:
    now = time.time_ns() // 1000
    readings = [{"time": now - i, "property": "water_level_m", "value": i} for i in range(10_000)]
    with receiving(named(broker, request)) as receiver, Publisher(broker.port) as publisher:
        publisher.send(topic("gauge-1"), json.dumps(readings))
        assert values(collect(receiver, 1)) == list(range(10_000))


def test_retained_readings_are_refused_and_live_ones_with_that_flag_are_not(
    broker: Mosquitto, request: pytest.FixtureRequest
) -> None:
    with Publisher(broker.port) as publisher:
        publisher.send(topic("gauge-1"), level(1), retain=True)
        try:
            with receiving(named(broker, request)) as receiver:
                batches = collect(receiver, 1)
                publisher.send(topic("gauge-1"), level(2), retain=True)
                live = collect(receiver, 1)
        finally:
            publisher.send(topic("gauge-1"), b"", retain=True)
    assert values(batches) == []
    assert [(d.reason, d.device) for d in batches[0].dead_letters] == [(Reason.RETAINED, "gauge-1")]
    assert values(live) == [2]


def test_topics_that_are_not_ours(broker: Mosquitto, request: pytest.FixtureRequest) -> None:
    settings = named(broker, request, topics=("pantau/#", "other/+"))
    with receiving(settings) as receiver, Publisher(broker.port) as publisher:
        publisher.send("pantau/v1/elsewhere/gauge-1", level(1))
        publisher.send("pantau/v2/demo/gauge-1", level(2))
        publisher.send("other/x", level(3))
        publisher.send("pantau/v1/demo/gauge-1/level", level(4))
        publisher.send("pantau/v1/demo/ghost", level(5))
        publisher.send("pantau/v1/demo/clock", '{"now": 0}')
        publisher.send("pantau/v1/demo/gauge-1", level(6))
        batches = collect(receiver, 7)
    assert values(batches) == [6]
    dead = [d for b in batches for d in b.dead_letters]
    assert [(d.reason, d.device) for d in dead] == [
        (Reason.WRONG_CITY, "gauge-1"),
        (Reason.WRONG_TOPIC, "gauge-1"),
        (Reason.WRONG_TOPIC, None),
        (Reason.WRONG_TOPIC, None),
        (Reason.UNKNOWN_DEVICE, "ghost"),
        (Reason.WRONG_TOPIC, "clock"),
    ]
    assert dead[0].detail == "city must be demo, got 'elsewhere'"
    assert dead[4].detail == "device 'ghost' is not registered in demo"


def test_a_topic_that_is_not_utf8_is_stopped_by_mosquitto_and_hurts_nobody(
    broker: Mosquitto, request: pytest.FixtureRequest
) -> None:
    with receiving(named(broker, request)) as receiver:
        publisher = Publisher(broker.port, "rude")
        publisher.wire.write(b"\x32\x19\x00\x10pantau/v1/demo/\xff\x00\x05\x00{...}")
        answer: object = None
        with contextlib.suppress(OSError):
            answer = publisher.wire.read()
        assert answer is None or isinstance(answer, mqtt5.DisconnectPacket)
        publisher.close()
        with Publisher(broker.port) as polite:
            polite.reading(1)
            assert values(collect(receiver, 1)) == [1]


def test_a_new_directory_is_used_from_the_next_batch_on(broker: Mosquitto, request: pytest.FixtureRequest) -> None:
    with receiving(named(broker, request)) as receiver, Publisher(broker.port) as publisher:
        publisher.send(topic("new-1"), level(1))
        publisher.send(topic("lamp-1"), level(2))
        batches = collect(receiver, 2)
        assert [d.reason for b in batches for d in b.dead_letters] == [Reason.UNKNOWN_DEVICE, Reason.UNKNOWN_PROPERTY]
        later = directory(2, more=(("new-1", "water_level_m"), ("lamp-1", "water_level_m")))
        publisher.send(topic("new-1"), level(3))
        publisher.send(topic("lamp-1"), level(4))
        batches = collect(receiver, 2, city=later)
        assert values(batches) == [3, 4]
        assert [d for b in batches for d in b.observations.datastream.tolist()] == [7, 8]


def test_times_are_judged_by_the_given_now(broker: Mosquitto, request: pytest.FixtureRequest) -> None:
    with receiving(named(broker, request)) as receiver, Publisher(broker.port) as publisher:
        for i, time_s in enumerate([1000, 1299, 1301, 1000 - 30 * 86_400 - 1]):
            publisher.reading(i, time_s=time_s)
        batches = collect(receiver, 4, now=lambda: 1000 * S)
        assert values(batches) == [0, 1]
        assert [d.reason for b in batches for d in b.dead_letters] == [Reason.TIME_IN_FUTURE, Reason.TIME_TOO_OLD]
        publisher.reading(9, time_s=5)
        assert values(collect(receiver, 1, now=lambda: None)) == [9]


def test_the_brokers_clock(broker: Mosquitto, request: pytest.FixtureRequest) -> None:
    settings = named(broker, request)
    clock = topic("clock")
    with Publisher(broker.port) as publisher:
        publisher.send(clock, '{"now": 1000, "speed": 60}', retain=True)
        try:
            with receiving(settings, clock=ClockSource.BROKER) as receiver:
                assert receiver.listening_since_ns is None
                (batch,) = collect(receiver, 1, now=lambda: None)
                assert (batch.clock, len(batch.dead_letters), batch.messages) == (1000 * S, 0, 1)
                assert receiver.clock_speed == 60
                assert receiver.listening_since_ns == 1000 * S
                # Each reading is judged by the clock as it was told before it.
                publisher.reading(1, time_s=1400)
                publisher.send(clock, '{"now": 1200, "speed": 60}', retain=True)
                publisher.reading(2, time_s=1400)
                publisher.send(clock, '{"now": 1100, "speed": 60}', retain=True)  # not back in time
                publisher.send(topic("gauge-1"), level(3))
                publisher.send(clock, '{"now": "soon"}')
                batches = collect(receiver, 6, now=lambda: None)
                assert batches[-1].clock == 1200 * S
                assert receiver.clock_steps_back == 1
                assert values(batches) == [2, 3]
                dead = [d for b in batches for d in b.dead_letters]
                assert [(d.reason, d.received_at) for d in dead] == [
                    (Reason.MALFORMED_TIME, 1200 * S),
                    (Reason.TIME_IN_FUTURE, 1000 * S),
                ] or [(d.reason, d.received_at) for d in dead] == [
                    (Reason.TIME_IN_FUTURE, 1000 * S),
                    (Reason.MALFORMED_TIME, 1200 * S),
                ]
                assert [t for b in batches for t in b.observations.received_at.tolist()] == [1200 * S] * 2
                assert [t for b in batches for t in b.observations.observed_at.tolist()] == [1400 * S, 1200 * S]
                # A caller that remembers a later time moves the clock on.
                publisher.send(topic("gauge-1"), level(4))
                (batch,) = collect(receiver, 1, now=lambda: 5000 * S)
                assert batch.clock == 5000 * S
                assert batch.observations.observed_at.tolist() == [5000 * S]
        finally:
            publisher.send(clock, b"", retain=True)


def told(broker: Mosquitto, receiver: Receiver, now_s: int) -> None:
    """Tell the time, and have it heard."""
    with Publisher(broker.port) as publisher:
        publisher.send(topic("clock"), json.dumps({"now": now_s}))
    (batch,) = collect(receiver, 1, now=lambda: None)
    assert batch.clock == now_s * S


def test_by_its_own_clock_a_broker_is_heard_since_the_first_time_it_told(
    broker: Mosquitto, request: pytest.FixtureRequest
) -> None:
    with (
        receiving(named(broker, request), clock=ClockSource.BROKER) as receiver,
        Publisher(broker.port) as publisher,
    ):
        for now_s in (1000, 2000, 3000):
            publisher.send(topic("clock"), json.dumps({"now": now_s}))
        time.sleep(0.2)
        batches = collect(receiver, 3, now=lambda: None)
        assert (len(batches), batches[0].clock) == (1, 3000 * S)  # however they are cut into batches
        assert receiver.listening_since_ns == 1000 * S


def test_by_its_own_clock_a_broker_is_heard_without_a_break_as_long_as_it_keeps_our_session() -> None:
    # Its clock comes the same way as its readings, so while we hear nothing no time passes and nobody falls silent.
    with Mosquitto(persistence=True) as broker:
        with receiving(at(broker), clock=ClockSource.BROKER) as receiver:
            told(broker, receiver, 1000)
            broker.stop()
            until(lambda: not receiver.status()[0].connected)
            receiver.poll(directory(), None, 0.1)
            assert [(b.connected, b.since) for b in receiver.brokers] == [(True, 1000 * S)]
            broker.start()
            until(lambda: receiver.status()[0].connects == 2)
            told(broker, receiver, 2000)
            assert receiver.listening_since_ns == 1000 * S
        # Another process that knows since when, as after a kill.
        receiver = Receiver([at(broker)], city=CITY, clock_source=ClockSource.BROKER)
        receiver.go_on_listening(1000 * S)
        receiver.start()
        try:
            until(lambda: receiver.status()[0].connects == 1)
            told(broker, receiver, 3000)
            assert receiver.listening_since_ns == 1000 * S
            # A broker that has forgotten the session has lost messages: what is silent since then may have spoken.
            broker.kill()
            for kept in broker.folder.glob("*.db"):
                kept.unlink()
            broker.start()
            until(lambda: receiver.status()[0].connects == 2)
            told(broker, receiver, 4000)
            assert receiver.listening_since_ns == 3000 * S
        finally:
            receiver.close()


def test_before_the_brokers_clock_has_spoken(broker: Mosquitto, request: pytest.FixtureRequest) -> None:
    with (
        receiving(named(broker, request), clock=ClockSource.BROKER) as receiver,
        Publisher(broker.port) as publisher,
    ):
        publisher.reading(1, time_s=77)
        publisher.send(topic("gauge-1"), level(2))
        batches = collect(receiver, 2, now=lambda: None)
        assert values(batches) == []
        assert [d.reason for b in batches for d in b.dead_letters] == [Reason.NO_TIME, Reason.NO_TIME]
        assert batches[-1].clock is None
        assert receiver.listening_since_ns is None


def test_two_brokers_of_which_one_is_down() -> None:
    port = free_port()
    with Mosquitto() as up:
        down = BrokerSettings("east", "127.0.0.1", port, **FAST)  # type: ignore[arg-type]
        with (
            receiving(at(up, "west"), down, wait=False) as receiver,
            Publisher(up.port) as publisher,
        ):
            until(lambda: receiver.status()[0].connected and receiver.status()[1].last_error is not None)
            publisher.reading(1)
            batches = collect(receiver, 1)
            assert (values(batches), batches[0].observations.broker.tolist()) == ([1], [0])
            west, east = receiver.status()
            assert (west.connected, east.connected) == (True, False)
            assert east.last_error == f"connection refused at 127.0.0.1:{port}: is the broker running?"
            assert receiver.listening_since_ns is None
            heard, deaf = receiver.brokers
            assert (heard.connected, heard.since, deaf.connected) == (True, west.since_ns, False)
            assert deaf.since is not None
            assert deaf.heard_since is None
            second = Mosquitto()
            second.port = port
            second.config.write_text(second.config.read_text().replace("listener ", "#", 1) + f"listener {port}\n")
            with second:
                until(lambda: receiver.status()[1].connected)
                assert receiver.listening_since_ns == receiver.status()[1].since_ns
                with Publisher(port) as other:
                    other.send(topic("lamp-1"), '{"property": "lamp_power_w", "value": 7}')
                    other.send(topic("lamp-1"), "?")
                batches = collect(receiver, 2)
                assert values(batches) == [7]
                assert [b for batch in batches for b in batch.observations.broker.tolist()] == [1]
                assert batches[0].brokers == receiver.brokers
                assert [d.broker for b in batches for d in b.dead_letters] == ["east"]


def test_a_wrong_password(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.touch(mode=0o600)
    subprocess.run(["mosquitto_passwd", "-b", str(passwords), "pantau", "right"], check=True)
    with Mosquitto([f"password_file {passwords}"], anonymous=False) as broker:
        sentence = f"bad user name or password: 127.0.0.1:{broker.port} does not let us in"
        with receiving(at(broker, username="pantau", password="wrong"), wait=False) as receiver:
            until(lambda: receiver.status()[0].last_error == f"{sentence} as user 'pantau'")
        with receiving(at(broker), wait=False) as receiver:
            until(lambda: receiver.status()[0].last_error == f"{sentence} without a user name")
        with receiving(at(broker, username="pantau", password="right")) as receiver:
            assert receiver.status()[0].last_error is None


def openssl(*arguments: str, folder: Path) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate authority, a broker's certificate for localhost and 127.0.0.1, and a client's."""
    folder = tmp_path_factory.mktemp("tls")
    for name in ("ca", "other-ca"):
        openssl(
            *f"req -x509 -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.pem -days 2".split(),
            "-subj",
            f"/CN={name}",
            folder=folder,
        )
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for name in ("broker", "client"):
        openssl(
            *f"req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr".split(),
            "-subj",
            f"/CN={name}",
            folder=folder,
        )
        openssl(
            *f"x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {name}.pem -days 2".split(),
            "-extfile",
            "names",
            folder=folder,
        )
    return folder


def test_tls(certificates: Path) -> None:
    files = [
        f"cafile {certificates}/ca.pem",
        f"certfile {certificates}/broker.pem",
        f"keyfile {certificates}/broker.key",
    ]
    plain = free_port()
    with Mosquitto([*files, f"listener {plain} 127.0.0.1"]) as broker, Publisher(plain) as publisher:
        trusted = at(broker, tls=True, ca_file=f"{certificates}/ca.pem")
        with receiving(trusted) as receiver:
            for i in range(3000):
                publisher.wire.write(mqtt5.PublishPacket(topic("gauge-1"), level(i)))
            assert values(collect(receiver, 3000)) == list(range(3000))
            publisher.send(topic("gauge-1"), level(1).ljust(1_000_000))
            assert values(collect(receiver, 1)) == [1]
        stranger = at(broker, tls=True, ca_file=f"{certificates}/other-ca.pem")
        with receiving(stranger, wait=False) as receiver:
            sentence = f"TLS: the certificate of 127.0.0.1:{broker.port} is not trusted: "
            until(lambda: str(receiver.status()[0].last_error).startswith(sentence))
        with receiving(replace(trusted, port=plain, connect_timeout_s=1), wait=False) as receiver:
            until(lambda: str(receiver.status()[0].last_error).startswith("TLS"))
        with receiving(at(broker, connect_timeout_s=1), wait=False) as receiver:
            until(lambda: receiver.status()[0].last_error is not None)
            assert "whether it wants TLS" in str(receiver.status()[0].last_error)


def test_tls_with_a_certificate_of_our_own(certificates: Path) -> None:
    files = [
        f"cafile {certificates}/ca.pem",
        f"certfile {certificates}/broker.pem",
        f"keyfile {certificates}/broker.key",
    ]
    with Mosquitto([*files, "require_certificate true"]) as broker:
        settings = at(
            broker,
            tls=True,
            ca_file=f"{certificates}/ca.pem",
            cert_file=f"{certificates}/client.pem",
            key_file=f"{certificates}/client.key",
        )
        with receiving(settings) as receiver:
            assert receiver.status()[0].connected
        with receiving(at(broker, tls=True, ca_file=f"{certificates}/ca.pem"), wait=False) as receiver:
            until(lambda: receiver.status()[0].last_error is not None)


def test_messages_that_the_broker_dropped_are_told() -> None:
    """With Mosquitto's limits on, a subscriber that does not acknowledge loses messages; the broker counts them."""
    with (
        Mosquitto(queues=["max_queued_messages 50"]) as broker,
        receiving(at(broker, receive_maximum=10)) as receiver,
        Publisher(broker.port) as publisher,
    ):
        batches = []

        def dropped() -> int | None:
            batch = receiver.poll(directory(), time.time_ns(), 0.1)
            if batch is not None:
                batches.append(batch)
            return receiver.status()[0].broker_dropped

        until(lambda: dropped() == 0)
        for i in range(500):
            publisher.reading(i)
        until(lambda: (dropped() or 0) > 0)
        told = -1
        while told != (told := dropped() or 0):
            time.sleep(2.2)  # the count is told once a second
        for batch in batches:
            receiver.acknowledge(batch)
        got = len(values(batches))
        got += len(values(collect(receiver, 500 - told - got)))
        nothing_more(receiver)
        assert got + told == 500
        assert told >= 400


@pytest.mark.parametrize("rate", [None, 15_000])
def test_a_city_in_a_storm_loses_nothing(broker: Mosquitto, request: pytest.FixtureRequest, rate: int | None) -> None:
    messages = 30_000
    command = [sys.executable, "-m", "benchmarks.publisher", "--port", str(broker.port), "--city", CITY]
    command += ["--devices", "500", "--messages", str(messages), *([] if rate is None else ["--rate", str(rate)])]
    city = directory(more=tuple((f"d{i}", "water_level_m") for i in range(500)))
    with receiving(named(broker, request)) as receiver:
        publisher = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
        batches = collect(receiver, messages, city=city, timeout_s=40)
        out, _ = publisher.communicate(timeout=20)
        assert json.loads(out)["acknowledged"] == messages
        nothing_more(receiver)
        status = receiver.status()[0]
    identities = {
        (d, t)
        for b in batches
        for d, t in zip(b.observations.datastream.tolist(), b.observations.observed_at.tolist(), strict=True)
    }
    assert len(identities) == messages == len(values(batches))
    assert sum(len(b.dead_letters) for b in batches) == 0
    assert status.messages == messages
    assert (status.waiting_bytes, status.broker_dropped) in ((0, 0), (0, None))


def test_close_is_quick_and_may_be_repeated(broker: Mosquitto, request: pytest.FixtureRequest) -> None:
    receiver = Receiver([named(broker, request)], city=CITY)
    receiver.start()
    until(lambda: receiver.status()[0].connected)
    began = time.monotonic()
    receiver.close()
    receiver.close()
    assert time.monotonic() - began < 1
