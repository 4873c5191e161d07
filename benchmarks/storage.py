"""How fast storing is: the line protocol encoder, the embedded store's writes, and a chart of a week.

Run: ``python -m benchmarks.storage``. Seeded data; every figure is of one process on the machine that runs it.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np

from storage.embedded import EmbeddedStore
from storage.line_protocol import LineEncoder, joined
from storage.schema import datastream_tags
from storage.store import StoredBatch
from telemetry.directory import Datastream, Device, Directory, Site
from telemetry.observations import NS_PER_S, Observations
from telemetry.results import Transitions, Windows

T0 = 1_790_000_040 * NS_PER_S


def city(datastreams: int) -> Directory:
    """As many gauges as datastreams."""
    indexes = range(datastreams)
    return Directory(
        1,
        "bandung",
        7.0,
        tuple(Site(f"site-{i}", f"Site {i}", -6.9, 107.6, f"Kecamatan {i % 30}") for i in indexes),
        tuple(Device(f"awlr-{i}", f"site-{i}") for i in indexes),
        tuple(Datastream(f"site-{i}.water_level_m", f"site-{i}", f"awlr-{i}", "water_level_m") for i in indexes),
    )


def second(directory: Directory, position: int, rows: int, rng: np.random.Generator) -> StoredBatch:
    """One second of a city: ``rows`` readings, no windows."""
    streams = rng.integers(0, len(directory.datastreams), rows)
    times = T0 + position * NS_PER_S + rng.integers(0, NS_PER_S, rows)
    readings = Observations.of(streams, times, rng.normal(2, 1, rows))
    return StoredBatch(position, position, directory, readings, Windows.empty(), Transitions.empty())


def plain_lines(directory: Directory, readings: Observations) -> bytes:
    """The reference: a loop with an f-string a row."""
    tags = [
        ",".join(f"{k}={v.replace(' ', chr(92) + ' ')}" for k, v in sorted(datastream_tags(directory, i).items()))
        for i in range(len(directory.datastreams))
    ]
    columns = (
        readings.datastream.tolist(),
        readings.value.tolist(),
        readings.flag.tolist(),
        readings.observed_at.tolist(),
    )
    return "\n".join(f"reading,{tags[d]} value={v},flag={f}i {t}" for d, v, f, t in zip(*columns, strict=True)).encode()


def encoder(rows: int) -> None:
    """Line protocol, readings only, in requests of 10,000 lines."""
    directory, rng = city(10_000), np.random.default_rng(1)
    batch = second(directory, 0, rows, rng)
    encode = LineEncoder()
    encode.readings(directory, batch.readings.take(np.arange(1)))

    def columns() -> None:
        lines = encode.readings(directory, batch.readings)
        for start in range(0, len(lines), 10_000):
            joined(lines.slice(start, 10_000))

    report("line protocol, column-wise", rows, columns)
    report("line protocol, plain loop", rows, lambda: plain_lines(directory, batch.readings))


def report(what: str, rows: int, work: object) -> None:
    """Best of three, wall and CPU."""
    best = (float("inf"), float("inf"))
    for _ in range(3):
        wall, cpu = time.perf_counter(), time.process_time()
        work()  # type: ignore[operator]
        best = min(best, (time.perf_counter() - wall, time.process_time() - cpu))
    print(f"{what:34s} {rows / best[0] / 1e6:6.2f} M rows/s   {best[1] / rows * 1e6:6.2f} CPU s per M rows")


def embedded(seconds: int, rows: int) -> None:
    """One write for each second of a city, as fast as they go; merging runs beside it."""
    directory, rng = city(10_000), np.random.default_rng(2)
    with tempfile.TemporaryDirectory() as folder:
        store = EmbeddedStore(Path(folder))
        took = []
        cpu = time.process_time()
        for p in range(seconds):
            batch = second(directory, p, rows, rng)
            began = time.perf_counter()
            store.write(batch)
            took.append(time.perf_counter() - began)
        store.merge()
        cpu = time.process_time() - cpu
        size = sum(f.stat().st_size for f in Path(folder).rglob("*.parquet"))
        q50, q99 = np.quantile(took, (0.5, 0.99)) * 1e3
        total = seconds * rows
        print(
            f"embedded, {rows} rows a write       {total / sum(took) / 1e6:6.2f} M rows/s   "
            f"{cpu / total * 1e6:6.2f} CPU s per M rows with merging; a write {q50:.0f} ms, 99 % {q99:.0f} ms; "
            f"{size / total:.1f} B a row on disk (before the trash is emptied)"
        )
        began = time.perf_counter()
        found = store.readings("site-7.water_level_m", T0, T0 + 10**7 * NS_PER_S)
        print(
            f"reading back one of 10,000 datastreams: {len(found)} readings in "
            f"{(time.perf_counter() - began) * 1e3:.0f} ms"
        )
        store.close()


def week(datastreams: int) -> None:
    """A chart of a week of one datastream: readings once a minute, windows of three widths."""
    directory, rng = city(datastreams), np.random.default_rng(3)
    start = T0 // (86_400 * NS_PER_S) * 86_400 * NS_PER_S
    streams = np.arange(datastreams, dtype=np.int32)
    with tempfile.TemporaryDirectory() as folder:
        store = EmbeddedStore(Path(folder))
        for hour in range(7 * 24):
            batches = []
            at = start + hour * 3600 * NS_PER_S
            minutes = np.repeat(at + np.arange(60) * 60 * NS_PER_S, datastreams)
            readings = Observations.of(np.tile(streams, 60), minutes, rng.normal(2, 1, 60 * datastreams))
            for width in (60, 900, 3600):
                starts = np.repeat(at + np.arange(0, 3600, width) * NS_PER_S, datastreams)
                n = len(starts)
                value, count = rng.normal(2, 1, n), np.full(n, width // 60, np.uint32)
                windows = Windows(
                    np.tile(streams, 3600 // width),
                    np.full(n, width, np.int32),
                    starts,
                    count,
                    count,
                    *[value] * 6,
                )
                batches.append(
                    StoredBatch(
                        hour,
                        hour,
                        directory,
                        readings if width == 60 else Observations.empty(),
                        windows,
                        Transitions.empty(),
                    )
                )
            store.write(*batches)
        store.merge()
        store.merge_quiet_days(quiet_s=-1)
        for points in (400, 1000, 20_000):
            took = []
            for k in range(5):
                began = time.perf_counter()
                series = store.series(f"site-{k}.water_level_m", start, start + 7 * 86_400 * NS_PER_S, points)
                took.append(time.perf_counter() - began)
            print(
                f"a week of one of {datastreams} datastreams, at most {points:6d} points: {len(series):6d} points of "
                f"{series.resolution_s:4d} s in {np.median(took) * 1e3:.0f} ms"
            )
        store.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=15_000, help="rows of one write")
    parser.add_argument("--seconds", type=int, default=120, help="writes")
    arguments = parser.parse_args()
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    encoder(200_000)
    embedded(arguments.seconds, arguments.rows)
    week(500)
