"""The embedded store: what is written is read back, whatever is merged, repeated or killed meanwhile."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage import embedded
from storage.embedded import NS_PER_DAY, EmbeddedStore
from storage.errors import StoreUnavailable
from storage.store import AccountHour, PipelineStatus
from telemetry.observations import NS_PER_S, Observations
from tests.storage.city import T0, batch, directory, seconds

FOREVER = (-(2**62), 2**62)


@pytest.fixture
def store(tmp_path: Path):
    opened = EmbeddedStore(tmp_path / "store")
    yield opened
    opened.close()


def parquet_files(store: EmbeddedStore, kind: str) -> list[Path]:
    names = store._catalog.names()
    return [store.folder / n for n in names if n.startswith(kind)]


def test_readings_come_back_exactly_to_the_nanosecond(store):
    store.write(batch(5, [(0, T0 + 1, 1.25, 1), (0, T0, float("nan"), 9), (1, T0 + 1, 7.0, 4)]))
    found = store.readings("gauge-0", *FOREVER)
    assert found.observed_at.tolist() == [T0, T0 + 1]
    assert np.isnan(found.value[0]) and found.value[1] == 1.25
    assert found.flag.tolist() == [9, 1]
    assert store.readings("gauge-0", T0 + 1, T0 + 2).value.tolist() == [1.25]
    assert len(store.readings("gauge-0", T0, T0)) == 0
    assert len(store.readings("unknown", *FOREVER)) == 0


def test_an_empty_store_answers_with_nothing(store):
    assert len(store.readings("gauge-0", *FOREVER)) == 0
    assert len(store.windows("gauge-0", 60, *FOREVER)) == 0
    assert len(store.series("gauge-0", T0, T0 + NS_PER_DAY)) == 0
    assert store.transitions(*FOREVER) == []
    assert store.pipeline(*FOREVER) == []
    assert store.count_readings(*FOREVER) == 0
    assert store.check() is None
    store.write()
    store.write(batch(1))


def test_a_window_that_comes_again_replaces_the_earlier_one(store):
    store.write(batch(1, window_rows=[(0, 60, T0, 1, 1, 5.0)]))
    # Twice in one batch, and in two batches of one write: the later one counts.
    store.write(
        batch(2, window_rows=[(0, 60, T0, 2, 2, 6.0), (0, 60, T0, 3, 2, 7.0)]),
        batch(3, window_rows=[(0, 60, T0, 4, 2, 8.0), (0, 900, T0, 9, 9, 9.0)]),
    )
    found = store.windows("gauge-0", 60, *FOREVER)
    assert found.start.tolist() == [T0]
    assert (found.count[0], found.good_count[0], found.mean[0]) == (4, 2, 8.0)
    assert (found.minimum[0], found.maximum[0], found.last[0]) == (7.0, 9.0, 8.5)
    assert store.windows("gauge-0", 900, *FOREVER).count.tolist() == [9]


def test_writing_again_changes_nothing(store):
    batches = [seconds(p) for p in range(3)]
    store.write(*batches)
    before = store.readings("gauge-1", *FOREVER), store.windows("gauge-1", 60, *FOREVER)
    for b in batches:
        store.write(b)
    after = store.readings("gauge-1", *FOREVER), store.windows("gauge-1", 60, *FOREVER)
    assert before[0].value.tolist() == after[0].value.tolist() == [0.1, 1.1, 2.1]
    assert len(after[1]) == 1 and after[1].mean.tolist() == [2.0] == before[1].mean.tolist()
    assert store.count_readings(*FOREVER) == 12
    assert store.count_readings(*FOREVER, datastream="gauge-1") == 3


def test_alarm_history_has_names_and_is_newest_last(store):
    raised = {
        "kind": 1,
        "subject": 1,
        "raised_at": T0,
        "at": T0,
        "state": 1,
        "severity": 2,
        "value": 2.1,
        "threshold": 2.0,
        "peak": 2.1,
        "peak_at": T0,
        "directory_version": 7,
    }
    silent = {
        "kind": 2,
        "subject": 0,
        "raised_at": T0 - 5,
        "at": T0 + 3,
        "state": 1,
        "severity": 1,
        "value": 700.0,
        "threshold": 600.0,
        "peak": 700.0,
        "peak_at": T0 + 3,
        "directory_version": 7,
    }
    back = raised | {"at": T0 + 9, "state": 3, "severity": 0, "value": 1.0}
    store.write(batch(1, transition_rows=[back]))
    store.write(batch(2, transition_rows=[raised, silent]))
    store.write(batch(2, transition_rows=[raised, silent]))
    level, silence, returned = store.transitions(*FOREVER)
    assert (level.kind, level.subject, level.property, level.domain) == ("level", "gauge-1", "water_level_m", "flood")
    assert (level.city, level.site, level.district, level.label) == ("kota banjir", "site-1", "Kec. Satu", "Siaga 2")
    assert (level.raised_at, level.at, level.value, level.threshold) == (T0, T0, 2.1, 2.0)
    assert (level.state, level.severity, level.directory_version, level.peak) == (1, 2, 7, 2.1)
    assert (silence.kind, silence.subject, silence.domain, silence.property) == ("silence", "dev-0", "device", "")
    assert (silence.raised_at, silence.label, silence.district) == (T0 - 5, "", "")
    assert (returned.at, returned.state, returned.label) == (T0 + 9, 3, "")
    assert [a.at for a in store.transitions(T0 + 1, T0 + 9)] == [T0 + 3]


def test_the_alarm_of_a_broker_bears_its_name(store):
    away = {"kind": 3, "subject": 1, "raised_at": T0, "at": T0, "state": 1, "severity": 2, "value": 30, "threshold": 30}
    named = batch(1, transition_rows=[away])
    store.write(replace(named, directory=named.directory.with_brokers(("utama", "cadangan"))))
    (found,) = store.transitions(*FOREVER)
    assert (found.kind, found.subject, found.domain, found.site, found.property, found.label) == (
        "broker",
        "cadangan",
        "device",
        "",
        "",
        "",
    )


def test_a_change_that_is_told_again_replaces_what_was_told_and_withdrawn_ones_are_no_history(store):
    rows = [
        {"kind": 1, "subject": 0, "raised_at": T0, "at": T0 + at, "state": s, "severity": v}
        for at, s, v in ((0, 1, 1), (1, 1, 3), (2, 1, 2), (3, 3, 0), (1, 4, 0), (2, 1, 1))
    ]
    store.write(batch(1, transition_rows=rows[:2]))
    store.write(batch(2, transition_rows=rows[2:4]))
    store.write(batch(3, transition_rows=rows[4:]))
    assert [(t.state, t.severity) for t in store.transitions(*FOREVER)] == [(1, 1), (1, 1), (3, 0)]
    store.write(batch(4, transition_rows=rows[1:2]))  # it was so after all
    assert [(t.state, t.severity) for t in store.transitions(*FOREVER)] == [(1, 1), (1, 3), (1, 1), (3, 0)]


def test_pipeline_status_comes_back(store):
    status = PipelineStatus(T0, 1, 2, 3, 4, 5, 6, 0.25, 7, 8)
    store.write(batch(1, pipeline=(status,)))
    store.write(batch(2, pipeline=(PipelineStatus(T0 + NS_PER_S),)))
    assert store.pipeline(*FOREVER) == [status, PipelineStatus(T0 + NS_PER_S)]


def test_the_account_of_an_hour_is_that_of_its_last_telling(store, monkeypatch):
    monkeypatch.setattr(embedded, "FRESH_FILES", 2)
    first = AccountHour("dev-0", T0, 60.0, 5, 1, 2, 0, 4, telling=1)
    other = AccountHour("", T0, 0.0, 0, 0, 7, 0, 0, telling=1)
    again = replace(first, received=6, stored=5, telling=2)
    store.write(batch(9, account=(first, other)))
    store.write(batch(9, account=(again,)))
    assert store.account(*FOREVER) == [other, again]
    # It does not come from the journal: what is forgotten and taken again does not bring it back.
    assert store.last_position() == -1
    store.forget_after(3)
    store.merge()
    store.merge_quiet_days(quiet_s=-1)
    assert store.account(T0, T0 + 1) == [other, again]
    assert store.account(T0 + 1, T0 + 2) == []


def test_readings_are_counted_once_by_whole_hours(store):
    hour = 3600 * NS_PER_S
    assert store.count_by_hour(*FOREVER).datastream == []
    start = T0 // hour * hour
    times = [(0, start), (0, start + hour - 1), (0, start + hour), (1, -1), (1, -hour), (1, -hour - 1)]
    store.write(batch(1, [(s, t, 1.0, 1) for s, t in times]))
    store.write(batch(2, [(0, start, 2.0, 1)]))
    found = store.count_by_hour(-(2**62), 2**62)
    got = dict(zip(zip(found.datastream, found.hour_ns.tolist(), strict=True), found.count.tolist(), strict=True))
    assert got == {
        ("gauge-0", start): 2,
        ("gauge-0", start + hour): 1,
        ("gauge-1", -hour): 2,
        ("gauge-1", -2 * hour): 1,
    }
    assert found.count.sum() == store.count_readings(-(2**62), 2**62)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 6), st.floats(allow_nan=False), st.sampled_from([1, 2, 3, 4, 9])),
        min_size=1,
        max_size=60,
    ),
    cuts=st.lists(st.integers(0, 60), max_size=6),
    merge=st.booleans(),
)
def test_like_a_dictionary_whatever_the_cutting_and_merging(tmp_path_factory, monkeypatch, rows, cuts, merge):
    """Reference: a dict keyed by identity. Times lie half a day apart, so files are divided by day."""
    monkeypatch.setattr(embedded, "FRESH_FILES", 2)
    monkeypatch.setattr(embedded, "MERGE_FILES", 2)
    rows = [(s, T0 + k * NS_PER_DAY // 2, v, f) for s, k, v, f in rows]
    store = EmbeddedStore(tmp_path_factory.mktemp("store"))
    expected: dict[tuple[int, int], tuple[float, int]] = {}
    edges = sorted({0, len(rows), *(c for c in cuts if c < len(rows))})
    for position, (a, b) in enumerate(itertools.pairwise(edges)):
        store.write(batch(position, rows[a:b]))
        if merge:
            store.merge()
    store.merge_quiet_days(quiet_s=-1)
    for s, t, v, f in rows:
        expected[s, t] = (v, f)
    for s in range(4):
        found = store.readings(f"gauge-{s}", *FOREVER)
        got = dict(
            zip(found.observed_at.tolist(), zip(found.value.tolist(), found.flag.tolist(), strict=True), strict=True)
        )
        assert got == {t: vf for (stream, t), vf in expected.items() if stream == s}
        assert np.all(np.diff(found.observed_at) > 0)
    assert store.count_readings(*FOREVER) == len(expected)
    store.close()


def test_few_files_stay_after_many_writes(store):
    for p in range(500):
        store.write(seconds(p))
    store.merge()
    assert len(parquet_files(store, "readings")) < embedded.FRESH_FILES + embedded.MERGE_FILES * 2
    store.merge_quiet_days(quiet_s=-1)
    assert len([f for f in parquet_files(store, "readings") if "date=" in str(f)]) == 1
    assert store.readings("gauge-3", *FOREVER).value.tolist() == [p + 0.3 for p in range(500)]
    assert store.windows("gauge-3", 60, *FOREVER).count.sum() == 500


def test_replaced_files_are_deleted_after_a_while(store):
    for p in range(embedded.FRESH_FILES):
        store.write(seconds(p))
    store.merge()
    on_disk = len(list(store.folder.glob("readings/*/*.parquet")))
    assert on_disk > len(parquet_files(store, "readings"))
    store._empty_trash(time.time() + 1)
    assert set(store.folder.glob("readings/*/*.parquet")) == set(parquet_files(store, "readings"))


def test_readers_see_every_row_while_files_are_written_and_merged(store, monkeypatch):
    monkeypatch.setattr(embedded, "FRESH_FILES", 3)
    monkeypatch.setattr(embedded, "MERGE_FILES", 2)
    monkeypatch.setattr(embedded, "TRASH_S", 0.0)  # replaced files vanish at once: the hardest case for readers
    written, wrong, reads = [-1], [], [0]
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            at_least = written[0] + 1
            try:
                values = store.readings("gauge-2", *FOREVER).value.tolist()
                count = store.windows("gauge-2", 60, *FOREVER).count.tolist()
            except Exception as error:
                wrong.append(repr(error))
                return
            reads[0] += 1
            if values != [p + 0.2 for p in range(len(values))] or len(values) < at_least:
                wrong.append(f"{len(values)} of at least {at_least}")
            if count and any(c != 60 for c in count[1:-1]):
                wrong.append(f"windows {count}")

    readers = [threading.Thread(target=read) for _ in range(2)]
    for thread in readers:
        thread.start()
    for p in range(200):
        store.write(seconds(p))
        written[0] = p
        if p % 5 == 0:
            store.merge()
            store._empty_trash(time.time() + 1)
    done.set()
    for thread in readers:
        thread.join()
    assert wrong == []
    assert reads[0] > 10


def _read_from_outside(folder: str, answers) -> None:
    other = EmbeddedStore(Path(folder), read_only=True)
    for _ in range(40):
        answers.put(len(other.readings("gauge-0", *FOREVER)))
    other.close()


def test_another_process_reads_while_this_one_writes(store, monkeypatch):
    monkeypatch.setattr(embedded, "FRESH_FILES", 3)
    store.write(seconds(0))
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    reader = context.Process(target=_read_from_outside, args=(str(store.folder), answers))
    reader.start()
    p = 1
    while reader.is_alive() and p < 5000:
        store.write(seconds(p))
        p += 1
        time.sleep(0.005)
    seen = [answers.get(timeout=30) for _ in range(40)]
    reader.join()
    assert reader.exitcode == 0
    assert seen == sorted(seen) and seen[0] >= 1
    assert seen[-1] <= p


def test_a_second_writer_is_told_so(store):
    with pytest.raises(StoreUnavailable, match=r"another process writes to .*store"):
        EmbeddedStore(store.folder)
    reader = EmbeddedStore(store.folder, read_only=True)
    with pytest.raises(StoreUnavailable, match="reading only"):
        reader.write(seconds(1))
    reader.close()


def test_reading_a_folder_without_a_store(tmp_path):
    with pytest.raises(StoreUnavailable, match="can't be opened"):
        EmbeddedStore(tmp_path / "nothing", read_only=True)


def test_forget_after_drops_exactly_the_later_rows(store, monkeypatch):
    monkeypatch.setattr(embedded, "FRESH_FILES", 2)
    store.write(*[seconds(p) for p in range(10)])
    store.write(*[seconds(p) for p in range(10, 20)])
    store.merge()
    for p in range(20, 30):
        store.write(seconds(p))
    store.forget_after(13)
    assert store.readings("gauge-0", *FOREVER).value.tolist() == [float(p) for p in range(14)]
    store.write(*[seconds(p) for p in range(14, 30)])
    assert store.readings("gauge-0", *FOREVER).value.tolist() == [float(p) for p in range(30)]
    store.forget_after(10**9)
    assert store.count_readings(*FOREVER) == 30 * 4
    store.forget_after(-1)
    assert store.count_readings(*FOREVER) == 0


def test_without_its_catalog_the_files_are_taken_again(tmp_path):
    store = EmbeddedStore(tmp_path)
    for p in range(40):
        store.write(seconds(p))
    store.merge()
    for p in range(40, 45):
        store.write(seconds(p))
    store.close()
    for name in tmp_path.glob("catalog.sqlite*"):
        name.unlink()
    again = EmbeddedStore(tmp_path)
    assert again.readings("gauge-0", *FOREVER).value.tolist() == [float(p) for p in range(45)]
    again.close()


def test_left_over_files_of_a_killed_process_do_not_count(tmp_path):
    store = EmbeddedStore(tmp_path)
    store.write(seconds(0))
    store.close()
    fresh = next((tmp_path / "readings/fresh").iterdir())
    shutil.copy(fresh, fresh.with_name("000000000000009-0123456789ab.parquet"))
    fresh.with_name("000000000000009-000000000000.parquet.tmp").write_bytes(b"half a fi")
    again = EmbeddedStore(tmp_path)
    assert list((tmp_path / "readings/fresh").iterdir()) == [fresh]
    assert again.count_readings(*FOREVER) == 4
    again.close()


WRITER = """
import sys
from pathlib import Path
from storage import embedded
from storage.embedded import EmbeddedStore
from tests.storage.city import seconds
embedded.FRESH_FILES, embedded.MERGE_FILES = 3, 2
store = EmbeddedStore(Path(sys.argv[1]))
p = int(sys.argv[2])
while True:
    store.write(seconds(p))
    print(p, flush=True)
    p += 1
"""


def test_kill_9_at_any_moment_loses_nothing_that_was_written(tmp_path):
    rng = random.Random(4)
    acknowledged = -1
    for _ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(acknowledged + 1)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            env=os.environ | {"POLARS_MAX_THREADS": "1"},
            text=True,
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.uniform(0.05, 0.7))
        process.send_signal(signal.SIGKILL)
        lines = process.stdout.read().split()
        process.wait()
        acknowledged = max([acknowledged + 1, *map(int, lines)])
        store = EmbeddedStore(tmp_path)
        values = store.readings("gauge-1", *FOREVER).value.tolist()
        # What was acknowledged is there; of the write under way all or nothing.
        assert len(values) in (acknowledged + 1, acknowledged + 2)
        assert values == [p + 0.1 for p in range(len(values))]
        assert store.windows("gauge-1", 60, *FOREVER).mean[-1] == len(values) - 1
        on_disk = {str(f) for kind in ("readings", "windows") for f in store.folder.glob(f"{kind}/*/*")}
        assert on_disk == {str(store.folder / n) for n in store._catalog.names()}
        store.forget_after(acknowledged)
        store.close()
    assert acknowledged > 20


def test_a_chart_takes_readings_while_they_are_few_and_windows_then(store):
    day = NS_PER_DAY
    start = T0 // day * day
    minutes = np.arange(3 * 1440)
    store.write(
        batch(
            1,
            Observations.of(np.zeros(3 * 1440), start + minutes * 60 * NS_PER_S, minutes.astype(float)),
            [(0, 60, start + int(m) * 60 * NS_PER_S, 1, 1, float(m)) for m in minutes]
            + [(0, 900, start + int(m) * 60 * NS_PER_S, 15, 15, float(m) + 7) for m in minutes[::15]]
            + [(0, 3600, start + int(m) * 60 * NS_PER_S, 60, 59, float(m) + 29.5) for m in minutes[::60]],
        )
    )
    hour = store.series("gauge-0", start, start + 3600 * NS_PER_S, max_points=100)
    assert hour.resolution_s == 0 and len(hour) == 60 and hour.mean.tolist() == [float(m) for m in range(60)]
    whole = store.series("gauge-0", start, start + 3 * day, max_points=1000)
    assert whole.resolution_s == 900 and len(whole) == 288
    assert whole.mean[1] == 22.0 and whole.minimum[1] == 21.0 and whole.flag[0] == 1
    coarse = store.series("gauge-0", start, start + 3 * day, max_points=100)
    assert coarse.resolution_s == 3600 and len(coarse) == 72 and coarse.flag[0] == 3
    # 72 hours to at most 20 points: 4 hours each; the mean of 29.5, 89.5, 149.5, 209.5 is 119.5.
    joined = store.series("gauge-0", start, start + 3 * day, max_points=20)
    assert joined.resolution_s == 4 * 3600 and len(joined) == 18
    assert (joined.mean[0], joined.minimum[0], joined.maximum[0]) == (119.5, 28.5, 210.5)
    with pytest.raises(ValueError, match="max_points must be 1 or more, got 0"):
        store.series("gauge-0", start, start + day, max_points=0)


def test_datastreams_of_a_newer_directory_in_one_write(store):
    store.write(
        batch(1, [(1, T0, 1.0, 1)], of=directory(2)),
        batch(2, [(3, T0, 3.0, 1)], of=directory(4, version=2)),
    )
    assert store.readings("gauge-1", *FOREVER).value.tolist() == [1.0]
    assert store.readings("gauge-3", *FOREVER).value.tolist() == [3.0]


def test_a_damaged_file_is_named_in_the_error(store):
    store.write(seconds(0))
    parquet_files(store, "readings")[0].write_bytes(b"PAR1 not really PAR1")
    with pytest.raises(StoreUnavailable, match=r"reading .* failed"):
        store.readings("gauge-0", *FOREVER)


def test_closed_twice_and_used_after(store):
    store.close()
    store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        store.write(seconds(1))
    with pytest.raises(StoreUnavailable, match="closed"):
        store.readings("gauge-0", *FOREVER)


def test_a_disk_that_fails_leaves_nothing_half_written(store, monkeypatch):
    store.write(seconds(0))

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    for target in ("_sync", "_write"):
        with monkeypatch.context() as patch:
            patch.setattr(embedded, target, full if target == "_sync" else lambda frame, path: full(path))
            with pytest.raises(StoreUnavailable, match="No space left on device"):
                store.write(seconds(1))
        assert store.count_readings(*FOREVER) == 4
    store.write(seconds(1))
    assert store.count_readings(*FOREVER) == 8


def test_merging_that_fails_is_reported_and_overcome(store, monkeypatch):
    monkeypatch.setattr(embedded, "FRESH_FILES", 2)
    monkeypatch.setattr(store, "_stop", threading.Event())
    monkeypatch.setattr(store._stop, "wait", lambda timeout: time.sleep(0.02))
    for p in range(3):
        store.write(seconds(p))
    store.merge()
    bad = parquet_files(store, "readings")[0]
    content = bad.read_bytes()
    bad.write_bytes(b"PAR1 not really PAR1")
    store.write(seconds(3))
    for p in range(4, 4 + 2 * embedded.MERGE_FILES**2):
        store.write(seconds(p))
    deadline = time.monotonic() + 20
    while (found := store.check()) is None and time.monotonic() < deadline:
        store._wake.set()
        time.sleep(0.02)
    assert found is not None and f"{bad} can't be read" in found
    bad.write_bytes(content)
    while store.check() is not None and time.monotonic() < deadline:
        store._wake.set()
        time.sleep(0.02)
    assert store.check() is None
    assert store.count_readings(*FOREVER) == 4 * (4 + 2 * embedded.MERGE_FILES**2)


def test_a_catalog_that_is_no_database_says_what_to_do(tmp_path):
    store = EmbeddedStore(tmp_path)
    store.write(seconds(0))
    store.close()
    (tmp_path / "catalog.sqlite").write_bytes(b"garbage " * 1000)
    with pytest.raises(StoreUnavailable, match=r"move catalog.sqlite .* away and start again"):
        EmbeddedStore(tmp_path)
    for name in tmp_path.glob("catalog.sqlite*"):
        name.unlink()
    again = EmbeddedStore(tmp_path)
    assert again.count_readings(*FOREVER) == 4
    again.close()


def test_reading_a_store_that_nobody_writes_to(tmp_path):
    store = EmbeddedStore(tmp_path)
    store.write(seconds(0))
    store.close()
    for _ in range(2):
        reader = EmbeddedStore(tmp_path, read_only=True)
        assert reader.count_readings(*FOREVER) == 4
        assert reader.check() is None
        reader.close()


def test_times_at_both_ends_of_what_can_be_written(store):
    ends = [-(2**63) + 2, 0, 2**63 - 2]
    store.write(batch(1, [(0, t, 1.0, 1) for t in ends]))
    store.merge_quiet_days(quiet_s=-1)
    for p in range(2, 2 + embedded.FRESH_FILES):
        store.write(seconds(p))
    store.merge()
    found = store.readings("gauge-0", -(2**63), 2**63 - 1).observed_at.tolist()
    assert found[:2] == ends[:2] and found[-1] == ends[2]


def test_remarks_come_back_also_beside_files_without_them(tmp_path: Path) -> None:
    rows = Observations.of([0, 0], [T0, T0 + 1], [1.0, 2.0])
    plain = replace(batch(1), readings=rows)
    with contextlib.closing(EmbeddedStore(tmp_path)) as store:
        store.write(plain)
        name = directory().datastreams[0].id
        assert store.readings(name, 0, 2**62).remark.tolist() == [0, 0]
        for path in tmp_path.glob("readings/fresh/*.parquet"):  # as an earlier version wrote it
            pl.read_parquet(path).drop("remark").write_parquet(path)
        assert store.readings(name, 0, 2**62).remark.tolist() == []
        more = replace(Observations.of([0], [T0 + 2], [3.0]), remark=np.array([6], np.uint8))
        store.write(replace(plain, first_position=2, last_position=2, readings=more))
        for _ in range(2):
            assert store.readings(name, 0, 2**62).remark.tolist() == [0, 0, 6]
            store.merge_quiet_days(0.0)
