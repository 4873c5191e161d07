"""Six hours of a made-up city that holds something of everything that a dashboard can ask for."""

from __future__ import annotations

import numpy as np

from storage.schema import WINDOW_WIDTHS_S
from storage.store import PipelineStatus, StoredBatch
from telemetry.alarms import AlarmKind, AlarmState, Severity
from telemetry.directory import Datastream, Device, Directory, Ladder, Site, Step
from telemetry.observations import NS_PER_S, Observations
from telemetry.properties import PROPERTIES
from telemetry.quality import FAIL, GOOD
from telemetry.results import Transitions, Windows

HOURS = 6
START = 1_790_000_000 // 3600 * 3600
"""[s since 1970 UTC], a full hour."""
END = START + HOURS * 3600
STEP_S = 60


def directory() -> Directory:
    """Every observed property at two sites, one of them without a district and with a name that needs escapes."""
    sites = (Site("jembatan (1)", "Jembatan 1", -6.9, 107.6, "Kec. Satu"), Site("pos/2", "Pos 2", -6.8, 107.7))
    devices, streams = [], []
    ladder = Ladder((Step(1.5, 1, "Siaga 3"), Step(2.0, 2, "Siaga 2"), Step(2.5, 3, "Siaga 1")))
    for s, site in enumerate(sites):
        devices.append(Device(f"d{s}", site.id))
        streams += [Datastream(f"{s}.{p}", site.id, f"d{s}", p, ladder=ladder) for p in PROPERTIES]
    return Directory(3, "kota banjir", 7.0, sites, tuple(devices), tuple(streams), brokers=("utama",))


def batch() -> StoredBatch:
    """Readings every minute with their windows, alarms of every severity, silences, a broker, the pipeline's status."""
    of = directory()
    n, times = len(of.datastreams), np.arange(START, END, STEP_S, dtype=np.int64)
    stream = np.repeat(np.arange(n, dtype=np.int32), len(times))
    at = np.tile(times, n)
    value = 1.0 + 0.5 * np.sin(at / 3000.0 + stream)
    flag = np.where(at % 3600 == 0, FAIL, GOOD).astype(np.uint8)
    readings = Observations(stream, at * NS_PER_S, at * NS_PER_S, value, flag)
    status = tuple(
        PipelineStatus(t * NS_PER_S, k * 50, k * 60, k, k // 2, k // 3, k * 100, 0.01, k % 7, 0)
        for k, t in enumerate(range(START, END, 60), start=1)
    )
    return StoredBatch(1, 1, of, readings, _windows(stream, at, value, flag), _transitions(of), status)


def _windows(stream: np.ndarray, at: np.ndarray, value: np.ndarray, flag: np.ndarray) -> Windows:
    parts = []
    for width in WINDOW_WIDTHS_S:
        key = stream.astype(np.int64) * 10**10 + at // width
        _, first, count = np.unique(key, return_index=True, return_counts=True)
        parts.append(
            Windows(
                datastream=stream[first],
                width_s=np.full(len(first), width, np.int32),
                start=at[first] // width * width * NS_PER_S,
                count=count.astype(np.uint32),
                good_count=np.add.reduceat(flag == GOOD, first, dtype=np.uint32),
                minimum=np.minimum.reduceat(value, first),
                maximum=np.maximum.reduceat(value, first),
                mean=np.add.reduceat(value, first) / count,
                last=value[first + count - 1],
                total=np.add.reduceat(value, first),
                deviation=np.zeros(len(first)),
            )
        )
    return Windows.concat(parts)


def _transitions(of: Directory) -> Transitions:
    rows = []
    for i, stream in enumerate(of.datastreams):
        steps = stream.ladder.steps
        for k, step in enumerate(steps):
            # Every alarm rises step by step; the last stays at one of the severities.
            if k <= i % (len(steps) + 1):
                rows.append((AlarmKind.LEVEL, i, 1000, 1000 + 600 * k, step.severity, step.value + 0.1, step.value))
        if i % (len(steps) + 1) == len(steps):
            rows.append((AlarmKind.LEVEL, i, 1000, 9000, Severity.NORMAL, 0.2, steps[0].value))
    rows += [(AlarmKind.SILENCE, d, 2000, 2000, Severity.SIAGA, 700.0, 600.0) for d in range(len(of.devices))]
    rows.append((AlarmKind.BROKER, 0, 2000, 2000, Severity.SIAGA, 30.0, 30.0))
    rows.sort(key=lambda r: r[3])
    kind, subject, raised, at, severity, value, threshold = (np.array(c) for c in zip(*rows, strict=True))
    state = np.where(severity > 0, AlarmState.UNACKNOWLEDGED, AlarmState.NORMAL)
    return Transitions(
        kind=kind.astype(np.uint8),
        subject=subject.astype(np.int32),
        raised_at=(raised.astype(np.int64) + START) * NS_PER_S,
        at=(at.astype(np.int64) + START) * NS_PER_S,
        state=state.astype(np.uint8),
        severity=severity.astype(np.uint8),
        value=value,
        threshold=threshold,
        peak=value,
        peak_at=(at.astype(np.int64) + START) * NS_PER_S,
        directory_version=np.full(len(rows), of.version, np.int32),
    )
