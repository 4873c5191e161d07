"""What is in a store at the end of a run, as rows that can be compared; and the differences between two of them.

Left out, because they tell of the run and not of the city: the rows of the measurement ``pipeline``, journal positions,
and when a reading was received.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import astuple, dataclass, field, fields
from typing import Any

import numpy as np

from pantau.chaos.fleet import FleetScript
from storage.schema import WINDOW_WIDTHS_S, window_name
from storage.store import Store
from telemetry.observations import NS_PER_S, rfc3339

EVERYTHING = (0, 2**62)
_RUN_ONLY = {"received_at", "position"}
_ALARM_IDENTITY = ("kind", "subject", "raised_at", "at")
_EXAMPLES = 5

Rows = dict[tuple[Any, ...], tuple[Any, ...]]
"""Identity of a row → its other fields, by name and value."""


@dataclass
class Stored:
    """All that a store holds of a city, by table."""

    tables: dict[str, Rows] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Rows of each table."""
        return {name: len(rows) for name, rows in self.tables.items()}


def read_back(store: Store, datastreams: Iterable[str]) -> Stored:
    """Read everything through the interface that the pages use."""
    readings: Rows = {}
    windows: dict[int, Rows] = {width_s: {} for width_s in WINDOW_WIDTHS_S}
    for name in datastreams:
        readings |= _rows(name, store.readings(name, *EVERYTHING), "observed_at")
        for width_s, rows in windows.items():
            rows |= _rows(name, store.windows(name, width_s, *EVERYTHING), "start")
    alarms: Rows = {}
    for record in store.transitions(*EVERYTHING):
        values = {f.name: _plain(getattr(record, f.name)) for f in fields(record) if f.name not in _RUN_ONLY}
        key = tuple(values.pop(name) for name in _ALARM_IDENTITY)
        alarms[key] = tuple(values.items())
    tables = {"readings": readings}
    tables |= {f"windows of {window_name(width_s)}": rows for width_s, rows in windows.items()}
    return Stored(tables | {"alarm changes": alarms})


def _rows(name: str, columns: Any, key: str) -> Rows:
    names = [f.name for f in fields(columns) if f.name not in _RUN_ONLY and f.name != key]
    values = [[_plain(v) for v in np.asarray(getattr(columns, n)).tolist()] for n in names]
    keys = getattr(columns, key).tolist()
    return {(name, at): tuple(zip(names, row, strict=True)) for at, *row in zip(keys, *values, strict=True)}


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


@dataclass(frozen=True)
class Difference:
    """Rows of one table that are not as they should be."""

    table: str
    missing: int
    added: int
    changed: int
    examples: tuple[str, ...]

    @property
    def rows(self) -> int:
        """How many."""
        return self.missing + self.added + self.changed


def differences(expected: Stored, found: Stored) -> list[Difference]:
    """What is not equal, by table; nothing if all is."""
    result = []
    for table in expected.tables.keys() | found.tables.keys():
        wanted, got = expected.tables.get(table, {}), found.tables.get(table, {})
        missing = sorted(wanted.keys() - got.keys(), key=str)
        added = sorted(got.keys() - wanted.keys(), key=str)
        changed = sorted((k for k in wanted.keys() & got.keys() if wanted[k] != got[k]), key=str)
        if missing or added or changed:
            told = [f"missing: {_named(k)} {dict(wanted[k])}" for k in missing[:_EXAMPLES]]
            told += [f"added: {_named(k)} {dict(got[k])}" for k in added[:_EXAMPLES]]
            told += [f"changed: {_named(k)} {_change(wanted[k], got[k])}" for k in changed[:_EXAMPLES]]
            result.append(Difference(table, len(missing), len(added), len(changed), tuple(told)))
    return sorted(result, key=lambda d: d.table)


def _named(key: tuple[Any, ...]) -> str:
    return " ".join(rfc3339(k) if isinstance(k, int) and k > 1e15 else str(k) for k in key)


def _change(wanted: tuple[Any, ...], got: tuple[Any, ...]) -> str:
    return ", ".join(
        f"{name} {got_value} instead of {value}"
        for (name, value), (_, got_value) in zip(wanted, got, strict=True)
        if value != got_value
    )


def against_what_was_sent(script: FleetScript, found: Stored) -> list[Difference]:
    """Whether a store holds each reading that the fleet sent, with its value, and counts them all in its windows.

    The undisturbed run is held against this, so that a loss which happens in every run does not pass as normal.
    """
    sent: Rows = {key: (("value", value),) for key, value in script.readings.items()}
    stored: Rows = {k: tuple(f for f in v if f[0] == "value") for k, v in found.tables["readings"].items()}
    expected, got = Stored({"readings": sent}), Stored({"readings": stored})
    last_ns = script.ticks[-1].clock_ms * 1_000_000
    for width_s in WINDOW_WIDTHS_S:
        width_ns = width_s * NS_PER_S
        counts: dict[tuple[str, int], int] = {}
        for name, at in script.readings:
            counts[name, at // width_ns * width_ns] = counts.get((name, at // width_ns * width_ns), 0) + 1
        table = f"windows of {window_name(width_s)}"
        closed = {k: (("count", n),) for k, n in counts.items() if k[1] + width_ns <= last_ns - 60 * NS_PER_S}
        rows = {k: tuple(f for f in v if f[0] == "count") for k, v in found.tables[table].items() if k in closed}
        expected.tables[table], got.tables[table] = dict(closed), rows
    return differences(expected, got)


def as_json(difference: Difference) -> dict[str, Any]:
    """For the report."""
    names = [f.name for f in fields(difference)]
    return dict(zip(names, astuple(difference), strict=True))
