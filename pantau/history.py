"""What the page reads back from the store: charts and past alarms, in the types that the page takes."""

from __future__ import annotations

import numpy as np

from storage.schema import KIND_NAMES
from storage.store import AlarmRecord, Store
from telemetry.alarms import AlarmKind
from telemetry.directory import Directory
from telemetry.observations import Observations
from telemetry.quality import GOOD
from telemetry.results import DTYPES, Transitions, Windows

_KINDS = {name: AlarmKind(kind) for kind, name in KIND_NAMES.items()}


def chart(
    store: Store, directory: Directory, datastream: str, start_ns: int, end_ns: int, max_points: int
) -> Observations | Windows:
    """A datastream for a chart: its readings if they are few enough, else windows."""
    index = next(i for i, d in enumerate(directory.datastreams) if d.id == datastream)
    series = store.series(datastream, start_ns, end_ns, max_points)
    stream = np.full(len(series), index, dtype=np.int32)
    if series.resolution_s == 0:
        return Observations(stream, series.time, series.time, series.mean, series.flag)
    one = np.ones(len(series), dtype=np.uint32)
    return Windows(
        datastream=stream,
        width_s=np.full(len(series), series.resolution_s, dtype=np.int32),
        start=series.time,
        count=one,
        good_count=np.where(series.flag == GOOD, one, 0).astype(np.uint32),
        minimum=series.minimum,
        maximum=series.maximum,
        mean=series.mean,
        last=series.mean,
        total=np.full(len(series), np.nan),
        deviation=np.full(len(series), np.nan),
    )


def alarm_history(store: Store, directory: Directory, start_ns: int, end_ns: int) -> Transitions:
    """Past changes of alarms whose subjects are in the directory."""
    subjects = {
        AlarmKind.LEVEL: {d.id: i for i, d in enumerate(directory.datastreams)},
        AlarmKind.SILENCE: {d.id: i for i, d in enumerate(directory.devices)},
        AlarmKind.BROKER: {name: i for i, name in enumerate(directory.brokers)},
    }
    rows = []
    for record in store.transitions(start_ns, end_ns):
        kind = _KINDS[record.kind]
        subject = subjects[kind].get(record.subject)
        if subject is not None:
            rows.append(_row(record, kind, subject))
    if not rows:
        return Transitions.empty()
    columns = zip(Transitions.__dataclass_fields__, zip(*rows, strict=True), strict=True)
    return Transitions(**{name: np.array(column, dtype=DTYPES[name]) for name, column in columns})


def _row(r: AlarmRecord, kind: AlarmKind, subject: int) -> tuple[float, ...]:
    return (
        kind,
        subject,
        r.raised_at,
        r.at,
        r.state,
        r.severity,
        r.value,
        r.threshold,
        r.peak,
        r.peak_at,
        r.directory_version,
    )
