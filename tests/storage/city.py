"""A small made-up city and batches of made-up results, for the tests of storage."""

from __future__ import annotations

import numpy as np

from storage.store import AccountHour, PipelineStatus, StoredBatch
from telemetry.directory import Datastream, Device, Directory, Ladder, Site, Step
from telemetry.observations import NS_PER_S, Observations
from telemetry.results import DTYPES, Transitions, Windows

T0 = 1_790_000_040 * NS_PER_S
"""2026-09-21 14:14:00 UTC, a full minute."""


def directory(streams: int = 4, version: int = 1, city: str = "kota banjir", prefix: str = "gauge") -> Directory:
    """Gauges of one datastream each, every second site without a district."""
    ladder = Ladder(steps=(Step(1.5, 1, "Siaga 3"), Step(2.0, 2, "Siaga 2"), Step(2.5, 3, "Siaga 1")))
    sites = tuple(Site(f"site-{i}", f"Site {i}", -6.9, 107.6, "Kec. Satu" if i % 2 else "") for i in range(streams))
    devices = tuple(Device(f"dev-{i}", f"site-{i}") for i in range(streams))
    named = tuple(
        Datastream(f"{prefix}-{i}", f"site-{i}", f"dev-{i}", "water_level_m", ladder=ladder) for i in range(streams)
    )
    return Directory(version, city, 7.0, sites, devices, named)


def observations(rows: list[tuple[int, int, float, int]]) -> Observations:
    """From (datastream, observed_at, value, flag)."""
    stream, at, value, flag = (list(c) for c in zip(*rows, strict=True)) if rows else ([], [], [], [])
    of = Observations.of(stream, at, value)
    return Observations(of.datastream, of.observed_at, of.received_at, of.value, np.array(flag, np.uint8))


def windows(rows: list[tuple[int, int, int, int, int, float]]) -> Windows:
    """From (datastream, width_s, start, count, good_count, mean); min, max and last are made from the mean."""
    names = ("datastream", "width_s", "start", "count", "good_count", "mean")
    columns = {n: np.array([r[i] for r in rows], dtype=DTYPES[n]) for i, n in enumerate(names)}
    mean = columns["mean"]
    return Windows(
        **columns,
        minimum=mean - 1,
        maximum=mean + 1,
        last=mean + 0.5,
        total=mean * 2,
        deviation=np.full(len(rows), 0.25),
    )


def transitions(rows: list[dict[str, float]]) -> Transitions:
    """From dicts of columns; what is missing is 0."""
    return Transitions(
        **{
            n: np.array([r.get(n, 0) for r in rows], dtype=DTYPES[n])
            for n in (
                "kind",
                "subject",
                "raised_at",
                "at",
                "state",
                "severity",
                "value",
                "threshold",
                "peak",
                "peak_at",
                "directory_version",
            )
        }
    )


def batch(
    position: int,
    readings: list[tuple[int, int, float, int]] | Observations = (),  # type: ignore[assignment]
    window_rows: list[tuple[int, int, int, int, int, float]] = (),  # type: ignore[assignment]
    transition_rows: list[dict[str, float]] = (),  # type: ignore[assignment]
    pipeline: tuple[PipelineStatus, ...] = (),
    of: Directory | None = None,
    account: tuple[AccountHour, ...] = (),
) -> StoredBatch:
    """A batch from one journal position."""
    return StoredBatch(
        position,
        position,
        of or directory(),
        readings if isinstance(readings, Observations) else observations(list(readings)),
        windows(list(window_rows)),
        transitions(list(transition_rows)),
        pipeline,
        account,
    )


def seconds(position: int, streams: int = 4) -> StoredBatch:
    """Position p: one reading of each datastream at second p with value p + stream/10, and its minute's window."""
    at = T0 + position * NS_PER_S
    minute = at // (60 * NS_PER_S) * 60 * NS_PER_S
    return batch(
        position,
        [(i, at, position + i / 10, 1) for i in range(streams)],
        [(i, 60, minute, position % 60 + 1, position % 60 + 1, float(position)) for i in range(streams)],
        of=directory(streams),
    )
