"""The journal: what was committed is read back, whatever happened to the process; damage is told from a torn tail."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ingest.journal
from ingest.errors import (
    JournalBrokenError,
    JournalCorruptError,
    JournalError,
    JournalFullError,
    JournalLockedError,
)
from ingest.journal import HEADER_BYTES, MAGIC, Journal, read_frames

COMMITS = st.lists(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=60)), max_size=4), max_size=8)


def write(folder: Path, commits: list[list[tuple[int, bytes]]], segment_bytes: int = 10**9) -> list[int]:
    positions = []
    with Journal(folder, segment_bytes=segment_bytes) as journal:
        for frames in commits:
            positions += [journal.append(kind, payload) for kind, payload in frames]
            journal.commit()
    return positions


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.journal"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(COMMITS, st.sampled_from([1, 100, 10**9]), st.integers(0, 20))
def test_what_was_committed_is_read_back_from_any_position(
    tmp_path_factory: pytest.TempPathFactory, commits: list[list[tuple[int, bytes]]], segment_bytes: int, skip: int
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    positions = write(folder, commits, segment_bytes)
    expected = [(p, k, d) for p, (k, d) in zip(positions, [f for c in commits for f in c], strict=True)]
    assert positions == sorted(set(positions))
    with Journal(folder) as journal:
        assert list(journal.read()) == expected
        assert list(journal.read(journal.end)) == []
        if skip < len(expected):
            assert list(journal.read(positions[skip])) == expected[skip:]
            assert list(journal.read(positions[skip] + 1)) == expected[skip + 1 :]


def test_frames_that_were_not_committed_are_not_read(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.append(1, b"a")
        assert list(journal.read()) == []
        journal.discard()
        assert journal.commit() == 0
        assert journal.append(1, b"b") == 0
        journal.commit()
        assert [payload for _, _, payload in journal.read()] == [b"b"]


def test_the_second_writer_is_told_who_holds_it(tmp_path: Path) -> None:
    with Journal(tmp_path), pytest.raises(JournalLockedError, match=f"in use by process {os.getpid()}: stop it first"):
        Journal(tmp_path)
    Journal(tmp_path).close()


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_tail_cut_anywhere_costs_only_the_last_commit(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    write(folder, [[(1, b"first")], [(2, b"second"), (2, b"third" * 50), (2, MAGIC)]])
    first = HEADER_BYTES + 5
    path = files(folder)[0]
    keep = data.draw(st.integers(first, path.stat().st_size - 1))
    os.truncate(path, keep)
    with Journal(folder) as journal:
        whole = [payload for _, _, payload in journal.read()]
        assert whole == [b"first", b"second", b"third" * 50][: len(whole)]
        assert len(whole) >= 1
        assert path.stat().st_size == journal.end <= keep
        journal.append(3, b"after")
        journal.commit()
    assert [payload for _, _, payload in read_frames(folder)] == [*whole, b"after"]


def test_pages_of_the_last_commit_that_never_reached_the_disk_are_a_torn_tail(tmp_path: Path) -> None:
    """After a power cut the end of a commit may be there and its beginning not."""
    write(tmp_path, [[(1, b"first")], [(2, b"second"), (2, b"third")]])
    path = files(tmp_path)[0]
    data = bytearray(path.read_bytes())
    second = HEADER_BYTES + 5
    data[second : second + HEADER_BYTES + 6] = bytes(HEADER_BYTES + 6)
    path.write_bytes(data)
    assert [p for _, _, p in read_frames(tmp_path)] == [b"first"]
    with Journal(tmp_path) as journal:
        assert [p for _, _, p in journal.read()] == [b"first"]


def test_the_cut_is_said_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, [[(1, b"first")], [(2, b"second")]])
    path = files(tmp_path)[0]
    os.truncate(path, path.stat().st_size - 1)
    Journal(tmp_path).close()
    assert "cut 29 bytes of an unfinished commit at byte 29" in caplog.text


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_flipped_bit_before_the_last_commit_is_named_damage(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    write(folder, [[(1, b"first"), (1, b"one")], [(2, b"second" * 20)], [(3, b"last")]])
    path = files(folder)[0]
    content = bytearray(path.read_bytes())
    last = len(content) - HEADER_BYTES - 4
    at = data.draw(st.integers(0, last - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    with pytest.raises(JournalCorruptError, match=rf"{path} is damaged at byte \d+"):
        Journal(folder)
    with pytest.raises(JournalCorruptError, match=rf"{path} is damaged at byte \d+"):
        list(read_frames(folder))


def test_damage_in_an_older_segment_is_an_error_when_it_is_read(tmp_path: Path) -> None:
    write(tmp_path, [[(1, b"a" * 50)], [(1, b"b" * 50)], [(1, b"c" * 50)]], segment_bytes=1)
    path = files(tmp_path)[1]
    os.truncate(path, path.stat().st_size - 1)
    with Journal(tmp_path) as journal, pytest.raises(JournalCorruptError, match=f"{path} is damaged at byte 0"):
        list(journal.read())
    assert [p for _, _, p in read_frames(tmp_path, int(files(tmp_path)[2].stem))] == [b"c" * 50]


def test_old_segments_are_dropped_whole(tmp_path: Path) -> None:
    positions = write(tmp_path, [[(1, b"a" * 50)], [(1, b"b" * 50)], [(1, b"c" * 50)]], segment_bytes=1)
    with Journal(tmp_path) as journal:
        assert journal.drop_before(positions[1] - 1) == 0
        assert journal.drop_before(positions[1]) == 50 + HEADER_BYTES
        assert journal.start == positions[1]
        assert [p for p, _, _ in journal.read()] == positions[1:]
        journal.drop_before(10**12)
        assert [p for p, _, _ in journal.read()] == positions[2:]
        assert journal.append(1, b"d") == journal.end > positions[2]
        journal.commit()
    with Journal(tmp_path) as journal:
        assert journal.start == positions[2]


def test_position_at_leaves_out_what_is_older(tmp_path: Path) -> None:
    positions = write(tmp_path, [[(1, b"a")], [(1, b"b")], [(1, b"c")]], segment_bytes=1)
    for age, path in zip((300, 200, 100), files(tmp_path), strict=True):
        os.utime(path, (time.time() - age, time.time() - age))
    with Journal(tmp_path) as journal:
        assert journal.position_at(time.time() - 400) == positions[0]
        assert journal.position_at(time.time() - 250) == positions[1]
        assert journal.position_at(time.time() - 150) == positions[2]
        assert journal.position_at(time.time()) == positions[2]


@pytest.mark.parametrize("segment_bytes", [1, 10**9])
def test_a_full_disk_costs_nothing_that_was_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, segment_bytes: int
) -> None:
    real = os.write
    with Journal(tmp_path, segment_bytes=segment_bytes) as journal:
        journal.append(1, b"before")
        end = journal.commit()

        def half(file: int, data: Any) -> int:  # some bytes fit, and then no more
            if len(data) > 20:
                return real(file, data[:20])
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "write", half)
        journal.append(1, b"lost")
        with pytest.raises(JournalFullError, match="No space left on device"):
            journal.commit()
        monkeypatch.setattr(os, "write", real)
        assert journal.end == end
        assert [p for _, _, p in journal.read()] == [b"before"]
        assert journal.append(1, b"after") == end
        journal.commit()
        assert [p for _, _, p in journal.read()] == [b"before", b"after"]
    with Journal(tmp_path) as journal:
        assert [p for _, _, p in journal.read()] == [b"before", b"after"]


def test_a_file_size_limit_of_the_system_counts_as_a_full_disk(tmp_path: Path) -> None:
    """The kernel itself refuses here, with a real partial write before."""
    code = f"""
import resource, sys
from ingest.journal import Journal
from ingest.errors import JournalFullError
journal = Journal({str(tmp_path)!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
written = 0
try:
    while True:
        journal.append(1, b"x" * 977)
        journal.commit()
        written += 1
except JournalFullError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.append(1, b"y")
journal.commit()
assert len(list(journal.read())) == written + 1, written
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "File too large; nothing was written" in done.stdout


def test_after_a_failed_fsync_the_journal_must_be_opened_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(tmp_path) as journal:

        def broken(_: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(ingest.journal.os, "fdatasync", broken)
        journal.append(1, b"a")
        with pytest.raises(JournalBrokenError, match="Input/output error"):
            journal.commit()
        monkeypatch.undo()
        with pytest.raises(JournalBrokenError):
            journal.append(1, b"b")


def test_a_closed_journal_says_so(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.close()
    with pytest.raises(JournalError, match="is closed"):
        journal.append(1, b"b")


def test_wrong_arguments(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal, pytest.raises(ValueError, match=r"kind must be 0\.\.255, got 256"):
        journal.append(256, b"")


WRITER = """
import os, random, sys
from ingest.journal import Journal
rng = random.Random(int(sys.argv[2]))
journal = Journal(sys.argv[1], segment_bytes=20_000)
number = len(list(journal.read()))
while True:
    frames = rng.randint(1, 5)
    for _ in range(frames):
        journal.append(7, number.to_bytes(8, "little") + rng.randbytes(rng.randint(0, 3000)))
        number += 1
    journal.commit()
    print(number, flush=True)
"""


def test_every_committed_frame_survives_kill_9(tmp_path: Path) -> None:
    rng = random.Random(5)
    committed = 0
    for round_number in range(8):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(round_number)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        writer.stdout.readline()  # it runs
        time.sleep(rng.uniform(0, 0.15))
        writer.send_signal(signal.SIGKILL)
        told = writer.stdout.read().split()
        writer.wait()
        committed = max(committed, int(told[-1]) if told else 0)
        with Journal(tmp_path) as journal:
            numbers = [int.from_bytes(p[:8], "little") for _, _, p in journal.read()]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) >= committed
        committed = len(numbers)
    assert committed > 50
    assert len(files(tmp_path)) > 3


def test_it_can_be_read_while_another_process_writes(tmp_path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), "3"], stdout=subprocess.PIPE, text=True)
    try:
        assert writer.stdout is not None
        seen = 0
        for _ in range(30):
            told = int(writer.stdout.readline())
            numbers = [int.from_bytes(p[:8], "little") for _, _, p in read_frames(tmp_path)]
            assert numbers == list(range(len(numbers)))
            assert len(numbers) >= max(told, seen)
            seen = len(numbers)
    finally:
        writer.kill()
        writer.communicate()
