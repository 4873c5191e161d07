"""Discharge from stage by rating curve, and stage from discharge.

A curve is a few segments Q = a (H - H0)^b, each valid from a stage on. It holds for steady flow in the bed in which it
was gauged: hysteresis, backwater and a changed bed are not in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LARGEST_JOINT_DROP = 0.02
"""Share by which discharge may fall where one segment hands over to the next: rounding of published parameters."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Q = ``a`` (H - ``h0_m``)^``b`` from ``from_stage_m`` on; Q in m³/s, H in m."""

    from_stage_m: float
    a: float
    """[m³/s per m^b]"""
    h0_m: float
    """Stage of no flow by this segment's formula; it may be below the bed for upper segments. [m]"""
    b: float
    """Usually 1.5 to 2.5 for one control; published upper segments go down to about 1.1."""


@dataclass(frozen=True, slots=True)
class RatingCurve:
    """The rating curve of one gauge.

    Raises
    ------
    ValueError
        No segment; a parameter is not finite; ``a`` or ``b`` is not positive; a segment begins below its own
        ``h0_m``; the segments do not begin one above the other, and ``to_stage_m`` above the last; or the discharge
        falls by more than ``LARGEST_JOINT_DROP`` where two segments meet, so that there is no inverse.
    """

    segments: tuple[Segment, ...]
    to_stage_m: float
    """Highest stage at which the curve was gauged; above it values are extrapolations. [m]"""

    def __post_init__(self) -> None:
        if not self.segments:
            raise ValueError("a rating curve needs at least one segment")
        for s in self.segments:
            for name in ("from_stage_m", "a", "h0_m", "b"):
                if not np.isfinite(getattr(s, name)):
                    raise ValueError(f"{name} must be a finite number, got {getattr(s, name)}")
            if s.a <= 0 or s.b <= 0:
                raise ValueError(f"a and b must be positive, got a = {s.a}, b = {s.b}")
            if s.from_stage_m < s.h0_m:
                raise ValueError(f"from_stage_m must not be below h0_m, got {s.from_stage_m} and {s.h0_m}")
        starts = [s.from_stage_m for s in self.segments] + [self.to_stage_m]
        if any(not below < above for below, above in pairwise(starts)):
            raise ValueError(f"segments must begin one above the other and end at to_stage_m, got {starts}")
        for lower, upper in pairwise(self.segments):
            h = upper.from_stage_m
            before, after = (s.a * (h - s.h0_m) ** s.b for s in (lower, upper))
            if after < before * (1 - LARGEST_JOINT_DROP):
                raise ValueError(f"discharge must not fall at {h} m, got {before:.4g} below and {after:.4g} m3/s above")


@dataclass(frozen=True, slots=True)
class Ratings:
    """The rating curves of many gauges as padded arrays: (curves, segments), and (curves,) for ``to_stage_m``.

    Examples
    --------
    >>> weir = RatingCurve((Segment(from_stage_m=0.5, a=10.0, h0_m=0.5, b=2.0),), to_stage_m=3.0)
    >>> ratings = Ratings.of([weir])
    >>> q = ratings.discharge_m3_s(np.zeros(4, np.int64), np.array([0.2, 1.5, 2.5, 3.5]))
    >>> q
    array([ 0., 10., 40., nan])
    >>> ratings.stage_m(np.zeros(4, np.int64), q)
    array([0.5, 1.5, 2.5, nan])
    """

    from_stage_m: Floats
    """Infinite for padding."""
    a: Floats
    h0_m: Floats
    b: Floats
    to_stage_m: Floats

    @classmethod
    def of(cls, curves: Sequence[RatingCurve]) -> Self:
        """Curve ``i`` of the sequence is curve ``i`` of the arrays."""
        most = max((len(c.segments) for c in curves), default=1)
        pad = Segment(np.inf, 1.0, 0.0, 1.0)
        table = [c.segments + (pad,) * (most - len(c.segments)) for c in curves]

        def column(name: str) -> Floats:
            return np.array([[getattr(s, name) for s in row] for row in table], np.float64).reshape(len(table), most)

        return cls(
            column("from_stage_m"),
            column("a"),
            column("h0_m"),
            column("b"),
            np.array([c.to_stage_m for c in curves], np.float64),
        )

    def discharge_m3_s(self, curve: Ints, stage_m: Floats, *, extrapolate: bool = False) -> Floats:
        """Discharge of stages.

        Parameters
        ----------
        curve : (n,) int64 array
            Which curve each stage belongs to.
        stage_m : (n,) float array
            [m]
        extrapolate : bool
            Use the last segment above ``to_stage_m`` as well; else those are NaN.

        Returns
        -------
        (n,) float array
            0 where the first segment has no flow any more (H <= H0); between that and ``from_stage_m`` of the first
            segment its formula is used only if ``extrapolate``, else NaN. [m³/s]

        References
        ----------
        Power law with segments: ISO 18320:2020, "Hydrometry - Measurement of liquid flow in open channels -
        Determination of the stage-discharge relationship". That nothing is computed outside the gauged stages follows
        Delft-FEWS (publicwiki.deltares.nl, rating curves).
        """
        self._check(curve, stage_m)
        segment = np.maximum((stage_m[:, None] >= self.from_stage_m[curve]).sum(axis=1) - 1, 0)
        head = stage_m - self.h0_m[curve, segment]
        discharge: Floats = self.a[curve, segment] * np.maximum(head, 0.0) ** self.b[curve, segment]
        if not extrapolate:
            below = (stage_m < self.from_stage_m[curve, 0]) & (head > 0)
            discharge = np.where(below | (stage_m > self.to_stage_m[curve]), np.nan, discharge)
        return discharge

    def stage_m(self, curve: Ints, discharge_m3_s: Floats, *, extrapolate: bool = False) -> Floats:
        """Stage of discharges: H = H0 + (Q / a)^(1/b) of the segment that Q falls into.

        Parameters
        ----------
        curve, discharge_m3_s : (n,) arrays
            [-, m³/s]
        extrapolate : bool
            As with ``discharge_m3_s``.

        Returns
        -------
        (n,) float array
            A discharge that falls between two segments (a small jump where they meet) gives the stage where they meet.
            The stage of no flow for 0; NaN for negative discharges. [m]
        """
        self._check(curve, discharge_m3_s)
        start = self.from_stage_m[curve]
        a, h0, b = self.a[curve], self.h0_m[curve], self.b[curve]
        real = np.isfinite(start)
        from_discharge = np.where(real, a * np.maximum(np.where(real, start, 0.0) - h0, 0.0) ** b, np.inf)
        segment = np.maximum((discharge_m3_s[:, None] >= from_discharge).sum(axis=1) - 1, 0)
        row = np.arange(curve.shape[0])
        known = discharge_m3_s >= 0
        flow = np.where(known, discharge_m3_s, 0.0)
        stage = h0[row, segment] + (flow / a[row, segment]) ** (1 / b[row, segment])
        last = segment + 1 >= start.shape[1]
        stage = np.minimum(stage, np.where(last, np.inf, start[row, np.where(last, segment, segment + 1)]))
        if not extrapolate:
            outside = ((stage < start[:, 0]) & (flow > 0)) | (stage > self.to_stage_m[curve] * (1 + 1e-12))
            stage = np.where(outside, np.nan, stage)
        return np.where(known, stage, np.nan)

    def _check(self, curve: Ints, value: Floats) -> None:
        if curve.shape != value.shape or curve.ndim != 1:
            raise ValueError(f"curve and values must be (n,), got {curve.shape} and {value.shape}")
        if np.any((curve < 0) | (curve >= self.to_stage_m.shape[0])):
            raise ValueError(f"curve must be 0 to {self.to_stage_m.shape[0] - 1}, got {curve.min()} to {curve.max()}")
