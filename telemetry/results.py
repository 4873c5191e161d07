"""Results: what the core says about a batch of readings, as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Self

import numpy as np
import numpy.typing as npt

from telemetry.observations import Observations

DTYPES: dict[str, type[np.generic]] = {
    "datastream": np.int32,
    "width_s": np.int32,
    "start": np.int64,
    "count": np.uint32,
    "good_count": np.uint32,
    "minimum": np.float64,
    "maximum": np.float64,
    "mean": np.float64,
    "last": np.float64,
    "total": np.float64,
    "deviation": np.float64,
    "kind": np.uint8,
    "subject": np.int32,
    "raised_at": np.int64,
    "at": np.int64,
    "state": np.uint8,
    "severity": np.uint8,
    "value": np.float64,
    "threshold": np.float64,
    "peak": np.float64,
    "peak_at": np.int64,
    "directory_version": np.int32,
}
"""The type of every column, by name."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Equally long arrays that belong together, row by row."""

    def __len__(self) -> int:
        first: npt.NDArray[np.generic] = getattr(self, fields(self)[0].name)
        n: int = first.shape[0]
        return n

    @classmethod
    def empty(cls) -> Self:
        """No rows."""
        return cls(**{f.name: np.empty(0, dtype=DTYPES[f.name]) for f in fields(cls)})

    @classmethod
    def concat(cls, parts: Sequence[Self]) -> Self:
        """All rows of ``parts`` one after another; at least one part."""
        if len(parts) == 1:
            return parts[0]
        return cls(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)})

    def take(self, index: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> Self:
        """The rows at ``index`` (integers or a mask)."""
        return type(self)(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


@dataclass(frozen=True, slots=True)
class Windows(Columns):
    """Aggregates of windows [start, start + width). A row that comes again replaces the earlier one."""

    datastream: npt.NDArray[np.int32]
    width_s: npt.NDArray[np.int32]
    start: npt.NDArray[np.int64]
    """[ns since 1970 UTC]"""
    count: npt.NDArray[np.uint32]
    """Readings that arrived, whatever their flag."""
    good_count: npt.NDArray[np.uint32]
    """Readings flagged GOOD."""
    minimum: npt.NDArray[np.float64]
    """Over the usable readings, those not flagged FAIL or MISSING; NaN if there are none."""
    maximum: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float64]
    last: npt.NDArray[np.float64]
    """Value of the usable reading observed last."""
    total: npt.NDArray[np.float64]
    """Sum of the usable readings: the depth of rain of the window, for one."""
    deviation: npt.NDArray[np.float64]
    """Standard deviation of the usable readings around their mean, as of a whole population."""


@dataclass(frozen=True, slots=True)
class Transitions(Columns):
    """Changes of alarms, in the order in which they happened. (kind, subject, raised_at) names the alarm."""

    kind: npt.NDArray[np.uint8]
    """AlarmKind."""
    subject: npt.NDArray[np.int32]
    """Datastream index (LEVEL), device index (SILENCE) or number of the broker (BROKER)."""
    raised_at: npt.NDArray[np.int64]
    """When this occurrence of the alarm began. [ns since 1970 UTC]"""
    at: npt.NDArray[np.int64]
    """When this change happened, in event time. [ns since 1970 UTC]"""
    state: npt.NDArray[np.uint8]
    """AlarmState after the change."""
    severity: npt.NDArray[np.uint8]
    """Severity after the change; 0 once the condition is gone."""
    value: npt.NDArray[np.float64]
    """The reading that caused the change (LEVEL), or the seconds of silence (SILENCE) or absence (BROKER)."""
    threshold: npt.NDArray[np.float64]
    """The threshold that was passed, or the allowed seconds of silence or absence."""
    peak: npt.NDArray[np.float64]
    """Worst reading of this occurrence so far."""
    peak_at: npt.NDArray[np.int64]
    directory_version: npt.NDArray[np.int32]
    """Version of the thresholds that were in force."""


@dataclass(frozen=True, slots=True)
class Results:
    """All that one step of the core gives.

    Late readings change what was said before. A change of an alarm that was told, and was never so, is among the
    transitions again with the state WITHDRAWN.
    """

    readings: Observations
    """The new readings with their flags: without duplicates, in order of datastream and time."""
    windows: Windows
    transitions: Transitions
    duplicates: npt.NDArray[np.int32]
    """Datastream of each reading that had been seen before and was left out."""
    duplicate_devices: npt.NDArray[np.int32]
    """The device that each of them came from; -1 where none was ever installed."""
    late: npt.NDArray[np.int32]
    """Datastream of each reading older than the horizon: stored, but not aggregated and not alarmed on."""
    late_devices: npt.NDArray[np.int32]
    duplicate_at: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """When each of ``duplicates`` was observed. [ns since 1970 UTC]"""
    late_at: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    corrected: Observations = field(default_factory=Observations.empty)
    """Earlier readings whose flag is another one now that a reading came late. Their time of reception is not told."""
