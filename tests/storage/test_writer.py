"""The writer: nothing is lost, reordered or doubled while the store comes and goes, or the process is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from storage.embedded import EmbeddedStore
from storage.errors import SpoolFull, StorageError, StoreRefused, StoreUnavailable
from storage.influx import InfluxStore
from storage.settings import StoreSettings, WriterSettings
from storage.spool import DamagedFile, Spool, packed, unpacked
from storage.store import PipelineStatus, StoredBatch
from storage.writer import StoreWriter
from telemetry.observations import NS_PER_S
from tests.real_parts.influxdb import InfluxDB
from tests.storage.city import T0, batch, directory, seconds

FAST = WriterSettings(flush_interval_s=0.02, retry_first_s=0.02, retry_max_s=0.1, put_timeout_s=0.2)


class FakeStore:
    """Remembers the positions that it was given; down, refusing or broken when told so."""

    def __init__(self) -> None:
        self.positions: list[int] = []
        self.writes = 0
        self.down = False
        self.refuse: set[int] = set()
        self.break_on: set[int] = set()

    def write(self, *batches: StoredBatch) -> None:
        self.writes += 1
        if self.down:
            raise StoreUnavailable("down for the test")
        if any(b.last_position in self.break_on for b in batches):
            raise KeyError("a fault in the store's code")
        self.positions += [b.last_position for b in batches]
        bad = [b.last_position for b in batches if b.last_position in self.refuse]
        if bad:
            raise StoreRefused([b"line %d" % p for p in bad], ["bad\nline"] * len(bad))


def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


@pytest.fixture
def fake():
    return FakeStore()


def test_batches_are_gathered_and_written_in_order(fake, tmp_path):
    batches = [seconds(p) for p in range(50)]
    writer = StoreWriter(fake, tmp_path, replace(FAST, flush_interval_s=0.5))
    assert writer.stored_position() == -1
    for one in batches:
        writer.put(one)
    until(lambda: writer.stored_position() == 49)
    assert fake.positions == list(range(50))
    assert fake.writes <= 2
    assert writer.status().rows_written == 50 * 8
    assert writer.status().backlog_rows == 0
    writer.close()


def test_a_write_has_at_most_max_rows(fake, tmp_path):
    sizes: list[int] = []
    real = fake.write
    fake.write = lambda *batches: (sizes.append(sum(b.rows for b in batches)), real(*batches))[1]
    writer = StoreWriter(fake, tmp_path, replace(FAST, max_rows=24))
    for p in range(40):
        writer.put(seconds(p))
    writer.close()
    assert max(sizes) <= 24 and fake.positions == list(range(40))


def test_a_store_that_is_down_costs_nothing_but_disk(fake, tmp_path):
    writer = StoreWriter(fake, tmp_path, FAST)
    writer.put(seconds(0))
    until(lambda: fake.positions == [0])
    fake.down = True
    for p in range(1, 30):
        writer.put(seconds(p))
        time.sleep(0.002)
    until(lambda: writer.stored_position() == 29)
    status = writer.status()
    assert not status.store_available and status.last_error == "down for the test"
    assert status.spool_bytes > 0 and status.backlog_rows == 29 * 8
    assert status.warning == "down for the test"
    assert fake.positions == [0]
    fake.down = False
    for p in range(30, 35):
        writer.put(seconds(p))
    until(lambda: writer.status().backlog_rows == 0)
    assert fake.positions == list(range(35))
    status = writer.status()
    assert status.store_available and status.warning == "" and status.spool_bytes == 0
    assert list(tmp_path.glob("*.spool")) == [] and list(tmp_path.glob("*.json")) == []
    writer.close()


def test_a_left_over_spool_is_written_first_at_the_next_start(fake, tmp_path):
    fake.down = True
    writer = StoreWriter(fake, tmp_path, FAST)
    for p in range(10):
        writer.put(seconds(p))
    writer.close()
    assert writer.stored_position() == 9 and fake.positions == []
    assert writer.written_position() == -1  # safe, but not in the store
    fake.down = False
    again = StoreWriter(fake, tmp_path, FAST, position=9)
    assert again.stored_position() == 9
    again.put(seconds(10))
    again.close()
    assert fake.positions == list(range(11))
    assert again.written_position() == 10


def test_closing_without_draining_spools_what_is_in_memory(fake, tmp_path):
    writer = StoreWriter(fake, tmp_path, replace(FAST, flush_interval_s=60))
    for p in range(3):
        writer.put(seconds(p))
    writer.close(drain=False)
    assert fake.positions == [] and writer.stored_position() == 2
    StoreWriter(fake, tmp_path, FAST).close()
    assert fake.positions == [0, 1, 2]
    with pytest.raises(StorageError, match="closed"):
        writer.put(seconds(3))


def test_refused_lines_are_kept_with_the_reason_and_the_rest_goes_on(fake, tmp_path):
    fake.refuse = {3, 5}
    writer = StoreWriter(fake, tmp_path, FAST)
    for p in range(10):
        writer.put(seconds(p))
    writer.close()
    assert sorted(set(fake.positions)) == list(range(10))
    (kept,) = (tmp_path / "refused").glob("*.lp")
    assert kept.read_bytes() == b"# bad line\nline 3\n# bad line\nline 5\n"
    assert writer.status().rows_refused == 2
    assert writer.status().rows_written == 10 * 8 - 2


def test_a_batch_on_which_the_code_fails_does_not_stop_the_others(fake, tmp_path):
    fake.break_on = {4}
    writer = StoreWriter(fake, tmp_path, FAST)
    for p in range(8):
        writer.put(seconds(p))
    writer.close()
    assert fake.positions == [0, 1, 2, 3, 5, 6, 7]
    kept = tmp_path / "refused" / "batch-4-4.spool"
    (found,) = unpacked(kept.read_bytes(), lambda _: directory(), "")
    assert found.readings.value.tolist() == seconds(4).readings.value.tolist()
    assert "a fault in the store's code" in kept.with_suffix(".txt").read_text()
    assert writer.status().rows_refused == 8


def test_a_full_spool_warns_early_then_put_says_so_and_nothing_is_lost(fake, tmp_path):
    one = len(packed([seconds(0)], lambda _: "x" * 32))
    settings = replace(FAST, max_spool_bytes=10 * one + 200, max_queue_rows=80, max_rows=8)
    fake.down = True
    writer = StoreWriter(fake, tmp_path, settings)
    warned_at = None
    taken = 0
    with pytest.raises(SpoolFull, match="rows wait in memory for the store: nothing can be stored or spooled"):
        for p in range(100):
            writer.put(seconds(p))
            taken += 1
            time.sleep(0.03)
            if warned_at is None and "wait in the spool: bring the store back" in writer.status().warning:
                warned_at = taken
    assert warned_at is not None and warned_at < taken - 2 and 10 < taken < 100
    assert writer.stored_position() < taken - 1
    assert "max_spool_bytes" in writer.status().warning
    assert sum(f.stat().st_size for f in tmp_path.glob("*.spool")) <= settings.max_spool_bytes
    fake.down = False
    for p in range(taken, taken + 20):
        until(lambda p=p: _put(writer, seconds(p)))
    writer.close()
    assert fake.positions == list(range(taken + 20))
    assert writer.status().warning == ""


def _put(writer: StoreWriter, one: StoredBatch) -> bool:
    try:
        writer.put(one)
    except SpoolFull:
        return False
    return True


def test_put_does_not_wait_for_a_slow_store(tmp_path):
    class Slow(FakeStore):
        def write(self, *batches: StoredBatch) -> None:
            time.sleep(0.5)
            super().write(*batches)

    writer = StoreWriter(Slow(), tmp_path, FAST)
    batches = [seconds(p) for p in range(200)]
    writer.put(batches[0])
    time.sleep(0.1)
    began = time.monotonic()
    for one in batches[1:]:
        writer.put(one)
    assert time.monotonic() - began < 0.3
    writer.close()


def test_the_spool_gives_back_what_it_got(tmp_path):
    nan = float("nan")
    status = PipelineStatus(T0, 1, 2, 3, 4, 5, 6, 0.25, 7, 8)
    raised = {"kind": 1, "subject": 1, "raised_at": T0 + 1999, "at": T0 + 5, "state": 1, "severity": 2, "value": 2.25}
    first = batch(1, [(0, T0, nan, 9), (1, T0, 1.5, 1)], [(0, 60, T0, 2, 1, nan)], [raised], (status,))
    second = replace(batch(7, [(2, T0 + 1, 2.5, 3)], of=directory(3, version=2)), first_position=2)
    spool = Spool(tmp_path, 10**6)
    spool.append([first, second])
    assert (spool.rows, len(spool)) == (6, 1)
    again = Spool(tmp_path, 10**6)
    assert (again.rows, again.bytes, len(again)) == (6, spool.bytes, 1)
    found, files = again.oldest(10)
    assert files == 1
    for got, expected in zip(found, (first, second), strict=True):
        assert (got.first_position, got.last_position) == (expected.first_position, expected.last_position)
        assert got.directory.to_bytes() == expected.directory.to_bytes()
        assert got.pipeline == expected.pipeline
        for kind in ("readings", "windows", "transitions"):
            for name in getattr(expected, kind).__slots__ or ():
                a, b = getattr(getattr(got, kind), name), getattr(getattr(expected, kind), name)
                assert a.dtype == b.dtype
                np.testing.assert_array_equal(a, b)
    again.drop(1)
    assert list(tmp_path.iterdir()) == [] and again.bytes == again.rows == 0


def test_a_damaged_spool_file_is_put_aside_and_counted(fake, tmp_path):
    spool = Spool(tmp_path, 10**6)
    for p in range(3):
        spool.append([seconds(p)])
    middle = sorted(tmp_path.glob("*.spool"))[1]
    content = bytearray(middle.read_bytes())
    content[len(content) // 2] ^= 1
    middle.write_bytes(content)
    with pytest.raises(DamagedFile, match="checksum"):
        unpacked(bytes(content), lambda _: directory(), str(middle))
    writer = StoreWriter(fake, tmp_path, FAST)
    writer.close()
    assert fake.positions == [0, 2]
    assert writer.status().damaged_files == 1
    assert [f.name for f in (tmp_path / "damaged").iterdir()] == [middle.name]


KILLED = """
import sys, time
from pathlib import Path
from storage.errors import StoreUnavailable
from storage.settings import WriterSettings
from storage.writer import StoreWriter
from tests.storage.city import seconds
class Down:
    def write(self, *batches):
        raise StoreUnavailable("down")
writer = StoreWriter(Down(), Path(sys.argv[1]), WriterSettings(flush_interval_s=0.001))
p = 0
while True:
    writer.put(seconds(p))
    p += 1
    print(writer.stored_position(), flush=True)
    time.sleep(0.001)
"""


def test_kill_9_while_spooling_loses_nothing_that_was_called_durable(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "spool")],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        text=True,
    )
    assert process.stdout is not None
    for _ in range(30):
        process.stdout.readline()
    time.sleep(0.5)
    process.send_signal(signal.SIGKILL)
    durable = max(map(int, process.stdout.read().split()))
    process.wait()
    assert durable > 10
    store = EmbeddedStore(tmp_path / "store")
    StoreWriter(store, tmp_path / "spool", FAST).close()
    values = store.readings("gauge-0", -(2**62), 2**62).value.tolist()
    assert len(values) >= durable + 1 and values == [float(p) for p in range(len(values))]
    store.close()


RESUMED = """
import random, sys, time
from pathlib import Path
from storage.embedded import EmbeddedStore
from storage.errors import StoreUnavailable
from storage.settings import WriterSettings
from storage.writer import StoreWriter
from tests.storage.city import seconds
folder, end = Path(sys.argv[1]), int(sys.argv[2])
snapshot = folder / "snapshot"
resume = int(snapshot.read_text()) if snapshot.exists() else -1
store = EmbeddedStore(folder / "store")
store.forget_after(resume)
write, chance = store.write, random.Random()
def sometimes(*batches):
    if chance.random() < 0.3:
        raise StoreUnavailable("not now")
    write(*batches)
store.write = sometimes
settings = WriterSettings(flush_interval_s=0.02, retry_first_s=0.02, retry_max_s=0.1)
writer = StoreWriter(store, folder / "spool", settings, position=resume)
print("started", flush=True)
for p in range(resume + 1, end):
    writer.put(seconds(p))
    if p % 7 == 0:
        durable = writer.stored_position()
        (folder / "snapshot.new").write_text(str(durable))
        (folder / "snapshot.new").rename(snapshot)
    time.sleep(0.002)
store.write = write
writer.close()
store.close()
"""


def test_killed_and_resumed_again_and_again_the_store_holds_each_row_once(tmp_path):
    """As the runtime does: resume from a snapshot that is no newer than what is durable, forget, write again."""
    end, killed = 400, 0
    for pause in (0.15, 0.25, 0.1, 0.2, 0.15, None):
        process = subprocess.Popen(
            [sys.executable, "-c", RESUMED, str(tmp_path), str(end)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            text=True,
        )
        assert process.stdout is not None and process.stdout.readline() == "started\n"
        if pause is not None:
            time.sleep(pause)
            killed += process.poll() is None
            process.kill()
        assert process.wait(120) in (0, -signal.SIGKILL)
        process.stdout.close()
    assert killed >= 3
    store = EmbeddedStore(tmp_path / "store")
    assert store.count_readings(-(2**62), 2**62) == 4 * end
    for i in range(4):
        assert store.readings(f"gauge-{i}", -(2**62), 2**62).value.tolist() == [p + i / 10 for p in range(end)]
        found = store.windows(f"gauge-{i}", 60, -(2**62), 2**62)
        assert found.count.tolist() == [60] * 6 + [40]
        assert found.mean.tolist() == [59.0 + 60 * k for k in range(6)] + [399.0]
    assert list((tmp_path / "spool").glob("*.spool")) == []
    store.close()


@pytest.mark.influxdb
def test_a_real_influxdb_stopped_killed_and_started_again_has_every_row(tmp_path):
    server = InfluxDB(tmp_path / "influx")
    server.start()
    store = InfluxStore(StoreSettings(kind="influxdb", url=server.url, api="v1", bucket="city", timeout_s=5))
    writer = StoreWriter(store, tmp_path / "spool", FAST)
    stop = threading.Event()
    last = [-1]

    def feed() -> None:
        p = 0
        while not stop.is_set():
            writer.put(seconds(p))
            last[0] = p
            p += 1
            time.sleep(0.002)

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        for end in (server.stop, server.kill):
            time.sleep(0.4)
            end()
            until(lambda: not writer.status().store_available)
            time.sleep(0.4)
            assert "does not answer: start it" in writer.status().last_error
            assert writer.status().spool_bytes > 0
            server.start()
            until(lambda: writer.status().store_available)
        time.sleep(0.3)
        stop.set()
        feeder.join()
        writer.close()
        status = writer.status()
        assert (status.backlog_rows, status.rows_refused, status.stored_position) == (0, 0, last[0])
        n = last[0] + 1
        assert n > 200
        assert store.count_readings(T0 - NS_PER_S, T0 + 10**6 * NS_PER_S) == 4 * n
        for i in range(4):
            found = store.readings(f"gauge-{i}", T0 - NS_PER_S, T0 + 10**6 * NS_PER_S)
            assert found.value.tolist() == [p + i / 10 for p in range(n)]
            assert found.observed_at.tolist() == [T0 + p * NS_PER_S for p in range(n)]
            minutes = store.windows(f"gauge-{i}", 60, T0, T0 + 10**6 * NS_PER_S)
            assert minutes.count.sum() == n  # each minute's last version has come last
    finally:
        stop.set()
        feeder.join()
        server.stop()
        store.close()


def test_settings_say_what_is_wrong():
    with pytest.raises(ValueError, match=r"max_rows must be above 0, got 0 \(store.writer.max_rows\)"):
        WriterSettings(max_rows=0)
    with pytest.raises(ValueError, match="warn_spool_fraction"):
        WriterSettings(warn_spool_fraction=0)
    with pytest.raises(ValueError, match="retry_max_s must be at least retry_first_s"):
        WriterSettings(retry_first_s=60)
