"""The campaign of faults itself: its parts do what they say, its short form finds nothing, and a loss is found."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from pantau.chaos.comparing import Stored, against_what_was_sent, differences
from pantau.chaos.faults import SENDER_KINDS, STORE_KINDS, Kind, make_plan, one_of_each
from pantau.chaos.fleet import FleetScript, write_script
from pantau.chaos.link import Link
from pantau.chaos.run import PassRun, prepare_registry
from pantau.chaos.sender import InterruptedSendError, Message, Sender
from pantau.cli import main
from tests.real_parts.mosquitto import Mosquitto

TICKS = 100


@pytest.fixture(scope="module")
def script() -> FleetScript:
    return write_script(1, TICKS, 12)


def test_one_seed_one_plan() -> None:
    assert make_plan(7, 200, TICKS) == make_plan(7, 200, TICKS)
    assert make_plan(7, 200, TICKS) != make_plan(8, 200, TICKS)
    assert one_of_each(7, TICKS) == one_of_each(7, TICKS)


def test_a_plan_has_as_many_faults_as_asked_of_every_kind_and_within_the_fleets_time() -> None:
    passes = make_plan(1, 500, TICKS)
    faults = [f for p in passes for f in p.faults]
    assert [f.number for f in faults] == list(range(1, 501))
    counts = Counter(f.kind for f in faults)
    assert set(counts) == set(Kind)
    assert min(counts.values()) >= 5
    assert all(0 < f.tick < TICKS for f in faults)
    # Faults of the store only where it is a process of its own, and only one that lasts an hour.
    assert all(p.store == "influxdb" for p in passes for f in p.faults if f.kind in STORE_KINDS)
    assert all(sum(f.kind == Kind.STORE_AWAY for f in p.faults) <= 1 for p in passes)
    assert {p.store for p in passes} == {"embedded", "influxdb"}


def test_the_short_plan_has_every_kind_once() -> None:
    assert Counter(f.kind for p in one_of_each(3, TICKS) for f in p.faults) == Counter(Kind)


def test_only_kinds_that_are_asked_for() -> None:
    kinds = frozenset({Kind.DISK_FULL, Kind.PIPELINE_KILLED})
    passes = make_plan(1, 30, TICKS, kinds=kinds)
    assert {f.kind for p in passes for f in p.faults} == kinds
    assert sum(len(p.faults) for p in passes) == 30


def test_a_fleets_script_is_of_its_seed_and_told_in_order(script: FleetScript) -> None:
    again = write_script(1, TICKS, 12)
    assert again.ticks == script.ticks
    assert again.readings == script.readings
    assert [t.clock_ms for t in script.ticks] == [script.start_ms + 60_000 * i for i in range(1, TICKS + 1)]
    for tick in script.ticks:
        for _, payload, _ in tick.messages:
            assert "time" in json.loads(payload)
    in_messages = sum(len(json.loads(m[1])["values"]) for t in script.ticks for m in t.messages)
    assert in_messages == len(script.readings)
    assert script.pending  # somebody falls silent


def test_differences_are_named() -> None:
    expected = Stored({"readings": {("a", 1): (("value", 1.0), ("flag", 1)), ("a", 2): (("value", 2.0), ("flag", 1))}})
    found = Stored({"readings": {("a", 1): (("value", 1.5), ("flag", 1)), ("b", 2): (("value", 2.0), ("flag", 1))}})
    (difference,) = differences(expected, found)
    assert (difference.missing, difference.added, difference.changed, difference.rows) == (1, 1, 1, 3)
    assert "value 1.5 instead of 1.0" in difference.examples[-1]
    assert differences(expected, expected) == []


class Echo:
    """A server that sends back what it gets."""

    def __init__(self) -> None:
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                peer, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(peer,), daemon=True).start()

    @staticmethod
    def _answer(peer: socket.socket) -> None:
        try:
            while data := peer.recv(1000):
                peer.sendall(data)
        except OSError:
            pass


def ask(sock: socket.socket, text: bytes) -> bytes:
    sock.sendall(text)
    return sock.recv(1000)


def test_a_link_can_be_cut_stalled_reset_and_slowed() -> None:
    echo = Echo()
    with Link(echo.port) as link:

        def connect() -> socket.socket:
            return socket.create_connection(("127.0.0.1", link.port), timeout=5)

        with connect() as sock:
            assert ask(sock, b"well") == b"well"
            link.stall()
            sock.settimeout(0.4)
            with pytest.raises(TimeoutError):
                ask(sock, b"stalled")
            link.heal()
            sock.settimeout(5)
            assert sock.recv(100) == b"stalled"  # nothing was lost
            link.slow(0.2, 1e6)
            began = time.monotonic()
            assert ask(sock, b"slow") == b"slow"
            assert time.monotonic() - began > 0.4
            link.heal()
            link.reset()
            with pytest.raises(ConnectionResetError):
                sock.recv(100)
        link.cut()
        with connect() as sock:
            assert sock.recv(100) == b""
        link.heal()
        with connect() as sock:
            assert ask(sock, b"again") == b"again"
            link.swallow_answers()
            sock.settimeout(0.3)
            with pytest.raises(TimeoutError):
                ask(sock, b"unanswered")
            link.heal()
            with pytest.raises(ConnectionResetError):
                sock.recv(100)
    echo.sock.close()


def test_a_sender_keeps_its_order_and_sends_again_what_was_not_acknowledged() -> None:
    got: list[tuple[int, bytes]] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def broker() -> None:
        for connection in range(2):
            peer, _ = listener.accept()
            data = b""
            answered = False
            while True:
                try:
                    piece = peer.recv(65536)
                except OSError:
                    break
                if not piece:
                    break
                data += piece
                if not answered:
                    length = 2 + data[1]
                    if len(data) < length:
                        continue
                    data, answered = data[length:], True
                    peer.sendall(b"\x20\x02\x00\x00")
                while len(data) >= 2 and len(data) >= 2 + data[1]:
                    packet, data = data[: 2 + data[1]], data[2 + data[1] :]
                    at = 4 + int.from_bytes(packet[2:4], "big")
                    got.append((packet[0], packet[at + 2 :]))
                    if connection == 1 or len(got) == 1:
                        peer.sendall(b"\x40\x02" + packet[at : at + 2])
                if connection == 0 and len(got) == 3:
                    peer.close()  # one of three acknowledged
                    break

    threading.Thread(target=broker, daemon=True).start()
    sender = Sender(listener.getsockname()[1], "devices")
    messages: list[Message] = [("t", b"1", False), ("t", b"2", False), ("t", b"3", False)]
    sender.send(messages)
    first, again = 0x32, 0x3A
    assert got == [(first, b"1"), (first, b"2"), (first, b"3"), (again, b"2"), (again, b"3")]
    assert (sender.acknowledged, sender.repeated, sender.connects) == (3, 2, 2)
    sender.interrupt.set()
    with pytest.raises(InterruptedSendError):
        sender.send(messages)
    listener.close()


@pytest.mark.mosquitto
def test_a_sender_on_a_real_broker() -> None:
    with Mosquitto() as broker:
        sender = Sender(broker.port, "devices")
        sender.send([("a/b", str(i).encode(), False) for i in range(1000)])
        assert (sender.acknowledged, sender.repeated) == (1000, 0)
        sender.close()


@pytest.mark.mosquitto
@pytest.mark.timeout(240)
def test_a_loss_is_found(tmp_path: Path, script: FleetScript) -> None:
    """A message that the devices never send is missing in the store: the campaign says so."""
    registry = tmp_path / "registry.sqlite"
    prepare_registry(script, registry)
    whole = PassRun(script, registry, tmp_path / "whole", "embedded", (), 0.0).run()
    assert whole.trouble == []
    assert against_what_was_sent(script, whole.stored) == []
    tick = script.ticks[50]
    lossy = write_script(1, TICKS, 12)
    ticks = (*lossy.ticks[:50], type(tick)(tick.messages[1:], tick.clock_ms), *lossy.ticks[51:])
    object.__setattr__(lossy, "ticks", ticks)
    found = PassRun(lossy, registry, tmp_path / "lossy", "embedded", (), 0.0).run()
    values = len(json.loads(tick.messages[0][1])["values"])
    readings = next(d for d in differences(whole.stored, found.stored) if d.table == "readings")
    assert (readings.missing, readings.added) == (values, 0)
    assert next(d for d in against_what_was_sent(script, found.stored) if d.table == "readings").missing == values


@pytest.mark.mosquitto
@pytest.mark.influxdb
@pytest.mark.timeout(400)
def test_every_kind_of_fault_once_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "chaos.json"
    code = main(["chaos", "--short", "--folder", str(tmp_path / "chaos"), "--report", str(report)])
    shown = capsys.readouterr()
    found = json.loads(report.read_text())
    assert code == 0, shown.err[-4000:]
    assert found["sound"]
    assert found["differences"] == {}
    # A kill of the broker may find no moment without a silence that is pending.
    assert found["faults"] >= len(Kind) - 1
    assert set(found["faults_by_kind"]) >= {k.value for k in SENDER_KINDS}
    assert sum(found["rows_of_the_undisturbed_runs"]["embedded"].values()) > 10_000
    assert "No difference." in shown.out


def test_a_kind_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chaos", "--kind", "earthquake"]) == 1
    assert "--kind must be one of pipeline-killed" in capsys.readouterr().err
