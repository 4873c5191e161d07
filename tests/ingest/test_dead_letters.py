"""Dead letters are kept, counted and bounded, and a flood of them costs little."""

from __future__ import annotations

import logging
import sqlite3
import tempfile
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.dead_letters import DeadLetter, DeadLetters, Reason
from ingest.errors import DeadLettersFullError


def letter(
    number: int, reason: Reason = Reason.MALFORMED_JSON, device: str | None = "d1", payload: bytes = b"x"
) -> DeadLetter:
    return DeadLetter(reason, f"detail {number}", f"pantau/v1/demo/{device}", payload, "main", number, device)


def test_what_is_kept_comes_back_newest_first(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "dead.sqlite"
    with DeadLetters(path) as dead:
        dead.keep([letter(1), letter(2, Reason.NOT_FINITE, "d2"), letter(3, payload=b"\xff\x00")])
        dead.keep([])
    with DeadLetters(path) as dead:
        assert [k.letter for k in dead.list(10)] == [
            letter(3, payload=b"\xff\x00"),
            letter(2, Reason.NOT_FINITE, "d2"),
            letter(1),
        ]
        assert [k.id for k in dead.list(2)] == [3, 2]
        assert [k.letter.received_at for k in dead.list(10, device="d1")] == [3, 1]
        assert [k.letter.received_at for k in dead.list(10, reason="not_finite")] == [2]
        assert dead.list(10, reason="not_finite", device="d1") == []
        assert dead.count_by_reason() == {"malformed_json": 2, "not_finite": 1}
        assert dead.count_for_device("d1") == {"malformed_json": 2}
        assert dead.count_for_device("d3") == {}


@pytest.mark.parametrize("text", ["\ud800", "null\0in it", "'; DROP TABLE letter; --", "\\xff", "ü" * 500])
def test_any_text_is_kept(tmp_path: Path, text: str) -> None:
    with DeadLetters(tmp_path / "dead.sqlite") as dead:
        dead.keep([DeadLetter(Reason.WRONG_TOPIC, text, text, b"", text, None, text)])
        (kept,) = dead.list(10, device=text)
        assert kept.letter.device == text.encode("utf-8", "backslashreplace").decode()
        assert dead.count_for_device(text) == {"wrong_topic": 1}


def test_beyond_the_count_the_oldest_go_and_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with DeadLetters(tmp_path / "dead.sqlite", max_count=100) as dead:
        dead.keep([letter(i) for i in range(79)])
        assert not dead.fill().warning
        assert not caplog.text
        dead.keep([letter(79)])
        assert dead.fill().warning
        assert "80 kept (80 % of the room), 0 of the oldest removed" in caplog.text
        for i in range(80, 350):
            dead.keep([letter(i)])
            fill = dead.fill()
            assert fill.kept <= 100
            assert fill.kept + fill.removed == i + 1
        assert dead.count_by_reason() == {"malformed_json": 350}
        newest = [k.letter.received_at for k in dead.list(1000)]
        assert newest == list(range(349, 349 - fill.kept, -1))
        assert fill.warning


def test_beyond_the_bytes_the_oldest_go(tmp_path: Path) -> None:
    with DeadLetters(tmp_path / "dead.sqlite", max_bytes=1_000_000) as dead:
        for i in range(100):
            dead.keep([letter(i, payload=bytes(50_000))])
            fill = dead.fill()
            assert fill.kept_bytes <= 1_000_000
        assert 15 <= fill.kept <= 20
        dead.keep([letter(1000, payload=bytes(2_000_000))])  # larger than all the room
        assert dead.fill().kept == 0
        assert dead.count_by_reason() == {"malformed_json": 101}
    # The file is not much larger than what it may hold.
    assert (tmp_path / "dead.sqlite").stat().st_size < 5_000_000


def test_nothing_of_a_failed_batch_is_kept(tmp_path: Path) -> None:
    with DeadLetters(tmp_path / "dead.sqlite") as dead:
        dead.keep([letter(1)])
        broken = DeadLetter(Reason.NOT_FINITE, "x", "t", object(), "main", 1)  # type: ignore[arg-type]
        with pytest.raises((sqlite3.Error, TypeError)):
            dead.keep([letter(2), broken])
        assert dead.fill().kept == 1
        assert dead.count_by_reason() == {"malformed_json": 1}
        dead.keep([letter(3)])
        assert [k.letter.received_at for k in dead.list(10)] == [3, 1]


def test_a_full_disk_costs_nothing_that_was_kept(tmp_path: Path) -> None:
    with DeadLetters(tmp_path / "dead.sqlite") as dead:
        dead.keep([letter(1)])
        pages = dead._db.execute("PRAGMA page_count").fetchone()[0]
        dead._db.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(DeadLettersFullError, match="full; nothing was kept"):
            dead.keep([letter(2, payload=bytes(100_000))])
        assert (dead.fill().kept, dead.count_by_reason()) == (1, {"malformed_json": 1})
        dead._db.execute(f"PRAGMA max_page_count = {pages + 1000}")
        dead.keep([letter(2, payload=bytes(100_000))])
        assert dead.fill().kept == 2


def test_made_up_device_names_do_not_fill_the_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.dead_letters._MAX_DEVICES_COUNTED", 10)
    with DeadLetters(tmp_path / "dead.sqlite") as dead:
        dead.keep([letter(i, device=f"ghost-{i}") for i in range(100)])
        assert dead.count_by_reason() == {"malformed_json": 100}
        rows = sqlite3.connect(tmp_path / "dead.sqlite").execute("SELECT COUNT(*) FROM count").fetchone()
        assert rows[0] <= 11
        assert len(dead.list(10, device="ghost-99")) == 1


def test_several_threads_may_read_while_one_writes(tmp_path: Path) -> None:
    errors: list[BaseException] = []
    with DeadLetters(tmp_path / "dead.sqlite", max_count=500) as dead:
        stop = threading.Event()

        def read() -> None:
            try:
                while not stop.is_set():
                    dead.list(50)
                    dead.count_by_reason()
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        for i in range(50):
            dead.keep([letter(i)] * 20)
        stop.set()
        for thread in threads:
            thread.join()
        assert dead.count_by_reason() == {"malformed_json": 1000}
    assert not errors


def test_a_flood_is_kept_faster_than_it_can_come(tmp_path: Path) -> None:
    """15,000 bad messages a second, in batches of 20 ms, must leave time for the good ones (bound: half of it)."""
    batch = [letter(i, payload=b'{"property": "water_level_m", "value": NaN, "time": 1732447931}') for i in range(300)]
    with DeadLetters(tmp_path / "dead.sqlite", max_count=20_000) as dead:
        began = time.process_time()
        for _ in range(100):
            dead.keep(batch)
        cpu_s = time.process_time() - began
        assert dead.count_by_reason() == {"malformed_json": 30_000}
        assert dead.fill().removed > 0
    assert cpu_s / 30_000 < 33e-6


def test_a_file_of_the_first_version_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "dead.sqlite"
    db = sqlite3.connect(path)
    db.executescript(
        """
        CREATE TABLE letter (id INTEGER PRIMARY KEY, received_at INTEGER, broker TEXT NOT NULL, topic TEXT NOT NULL,
            device TEXT, reason TEXT NOT NULL, detail TEXT NOT NULL, payload BLOB NOT NULL);
        CREATE TABLE count (device TEXT NOT NULL, reason TEXT NOT NULL, count INTEGER NOT NULL,
            PRIMARY KEY (device, reason)) WITHOUT ROWID;
        CREATE TABLE fill (one INTEGER PRIMARY KEY CHECK (one = 1), kept INTEGER NOT NULL, bytes INTEGER NOT NULL,
            removed INTEGER NOT NULL);
        INSERT INTO fill VALUES (1, 1, 100, 0);
        INSERT INTO letter VALUES (7, 5, 'main', 't', 'd1', 'unknown_device', 'x', x'7b7d');
        INSERT INTO count VALUES ('d1', 'unknown_device', 1);
        """
    )
    db.close()
    with DeadLetters(path) as dead:
        (old,) = dead.list()
        assert (old.id, old.letter.format, old.letter.again) == (7, "pantau_json", True)
        dead.keep([letter(1)])
        assert [k.id for k in dead.list()] == [8, 7]


def test_what_is_too_old_is_removed_and_told_before(tmp_path: Path) -> None:
    with DeadLetters(tmp_path / "dead.sqlite", max_age_s=100) as dead:
        dead.keep([letter(0), letter(50 * 10**9), replace(letter(1), received_at=None)])
        assert dead.fill().trouble(79 * 10**9) == ""
        assert "will be removed on 1970-01-01" in dead.fill().trouble(80 * 10**9)
        assert dead.expire(101 * 10**9) == 1
        fill = dead.fill()
        assert (fill.kept, fill.expired, fill.removed, fill.warning) == (2, 1, 0, False)


def test_what_cannot_be_taken_again_is_not_marked(tmp_path: Path) -> None:
    with DeadLetters(tmp_path / "dead.sqlite") as dead:
        dead.keep([letter(1), letter(2, Reason.RETAINED), replace(letter(3), truncated=True)])
        assert dead.mark() == 1
        assert [k.id for k in dead.marked(10, 10**6)] == [1]
        assert not dead.list(reason="retained")[0].letter.again


REASONS = st.sampled_from([Reason.UNKNOWN_DEVICE, Reason.UNKNOWN_PROPERTY, Reason.MALFORMED_JSON])
OUTCOMES = st.lists(st.lists(REASONS, max_size=3), max_size=4)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(first=st.lists(REASONS, min_size=1, max_size=6), rounds=st.lists(OUTCOMES, max_size=4), data=st.data())
def test_the_counts_balance_however_often_letters_are_taken_and_settled(
    first: list[Reason], rounds: list[list[list[Reason]]], data: st.DataObject
) -> None:
    """Refused less taken again is what is kept; ids never come again; settling twice is settling once."""
    with tempfile.TemporaryDirectory() as folder, DeadLetters(Path(folder) / "dead.sqlite") as dead:
        dead.keep([letter(i, reason) for i, reason in enumerate(first)])
        seen = {k.id for k in dead.list()}
        for outcomes in rounds:
            dead.mark()
            taken = dead.marked(len(outcomes), 10**9)
            pairs = list(zip(taken, outcomes, strict=False))
            dead.propose([(kept.id, letter(0, reason)) for kept, reasons in pairs for reason in reasons])
            if data.draw(st.booleans()):  # killed before the journal
                dead.forget_proposals()
                assert {k.id for k in dead.list()} >= {kept.id for kept in taken}
                continue
            for _ in range(data.draw(st.integers(1, 2))):
                dead.settle([kept.id for kept in taken])
                dead.settle([])
            left = {k.id for k in dead.list()}
            assert not left & {kept.id for kept in taken}
            assert len(left - seen) == sum(len(reasons) for _, reasons in pairs)
            seen |= left
        kept = Counter(str(k.letter.reason) for k in dead.list(1000))
        balance = Counter(dead.count_by_reason())
        balance.subtract(dead.retaken_by_reason())
        assert +balance == kept
        assert dead.fill().kept == sum(kept.values())
        sizes = sum(len(k.letter.topic) + len(k.letter.detail) + len(k.letter.payload) + 64 for k in dead.list(1000))
        assert dead.fill().kept_bytes == sizes
