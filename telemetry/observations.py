"""Observations: many readings as columns. The one form in which readings travel from ingest to storage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import numpy.typing as npt

from telemetry.brokers import UNKNOWN_BROKER
from telemetry.quality import UNKNOWN

NS_PER_S = 1_000_000_000
_NO_BROKERS = np.empty(0, dtype=np.uint8)
_UNKNOWN_BROKER = np.uint8(UNKNOWN_BROKER)
_NO_REMARKS = np.empty(0, dtype=np.uint8)
_NO_REMARK = np.uint8(0)

TIME_OF_RECEPTION = 1
"""Remark: the message told no time, or one that is not to be used; the time of reception stands in."""
TIME_CORRECTED = 2
"""Remark: the time is not the one that was sent, but corrected by the rule stated for the device's clock."""
TAKEN_AGAIN = 4
"""Remark: it was refused at first, and taken again from the dead letters once the cause was mended."""


def rfc3339(ns: int) -> str:
    """A time as RFC 3339 in UTC, with as many decimals as it needs.

    Examples
    --------
    >>> rfc3339(1_182_796_200_000_000_000), rfc3339(1_500_000_000)
    ('2007-06-25T18:30:00Z', '1970-01-01T00:00:01.5Z')
    """
    return str(np.datetime64(ns, "ns")).rstrip("0").rstrip(".") + "Z"


@dataclass(frozen=True, slots=True)
class Observations:
    """Readings as equally long columns. (datastream, observed_at) is a reading's identity."""

    datastream: npt.NDArray[np.int32]
    """Dense index given by the registry."""
    observed_at: npt.NDArray[np.int64]
    """When it happened, by the device. [ns since 1970 UTC]"""
    received_at: npt.NDArray[np.int64]
    """When it reached us. [ns since 1970 UTC]"""
    value: npt.NDArray[np.float64]
    """In the unit of the observed property. NaN means missing."""
    flag: npt.NDArray[np.uint8]
    """QARTOD flag; UNKNOWN before the quality tests ran."""
    broker: npt.NDArray[np.uint8] = field(default_factory=lambda: _NO_BROKERS)
    """Number of the broker it came through, in the order of the settings; UNKNOWN_BROKER where none is given."""
    remark: npt.NDArray[np.uint8] = field(default_factory=lambda: _NO_REMARKS)
    """How it came about: the sum of TIME_OF_RECEPTION, TIME_CORRECTED and TAKEN_AGAIN; 0: nothing to be said."""

    def __post_init__(self) -> None:
        n = self.datastream.shape
        if self.broker is _NO_BROKERS:
            object.__setattr__(self, "broker", np.broadcast_to(_UNKNOWN_BROKER, n))
        if self.remark is _NO_REMARKS:
            object.__setattr__(self, "remark", np.broadcast_to(_NO_REMARK, n))
        for name in ("observed_at", "received_at", "value", "flag", "broker", "remark"):
            if getattr(self, name).shape != n:
                raise ValueError(f"{name} must have the shape of datastream {n}, got {getattr(self, name).shape}")

    def __len__(self) -> int:
        n: int = self.datastream.shape[0]
        return n

    @classmethod
    def of(
        cls,
        datastream: npt.ArrayLike,
        observed_at: npt.ArrayLike,
        value: npt.ArrayLike,
        received_at: npt.ArrayLike | None = None,
    ) -> Self:
        """Build from anything array-like; flags are UNKNOWN, and received_at is observed_at unless given."""
        stream = np.asarray(datastream, dtype=np.int32)
        observed = np.asarray(observed_at, dtype=np.int64)
        return cls(
            datastream=stream,
            observed_at=observed,
            received_at=observed if received_at is None else np.asarray(received_at, dtype=np.int64),
            value=np.asarray(value, dtype=np.float64),
            flag=np.full(stream.shape, UNKNOWN, dtype=np.uint8),
        )

    @classmethod
    def empty(cls) -> Self:
        """No readings."""
        return cls.of([], [], [])

    @classmethod
    def concat(cls, parts: Sequence[Observations]) -> Observations:
        """All readings of ``parts`` one after another."""
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return cls.empty()
        return cls(
            datastream=np.concatenate([p.datastream for p in parts]),
            observed_at=np.concatenate([p.observed_at for p in parts]),
            received_at=np.concatenate([p.received_at for p in parts]),
            value=np.concatenate([p.value for p in parts]),
            flag=np.concatenate([p.flag for p in parts]),
            broker=np.concatenate([p.broker for p in parts]),
            remark=np.concatenate([p.remark for p in parts]),
        )

    def take(self, index: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> Observations:
        """The readings at ``index`` (integers or a mask), in that order."""
        return Observations(
            datastream=self.datastream[index],
            observed_at=self.observed_at[index],
            received_at=self.received_at[index],
            value=self.value[index],
            flag=self.flag[index],
            broker=self.broker[index],
            remark=self.remark[index],
        )
