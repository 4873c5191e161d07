"""Congestion at a station, and incidents between neighbouring stations: streaming, a few numbers kept of each.

Each ``step`` takes one interval of all stations. What is called an incident here is a queue whose head lies between
two stations where fewer vehicles leave it than the road is known to carry there: the daily queue before a bottleneck,
and the head of a queue that dissolves, discharge at capacity and are none. An incident that leaves room for all who
come makes no queue, and nothing here can see it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from telemetry.observations import NS_PER_S

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

NEVER = np.iinfo(np.int64).min

# --------------------------------------------------------------------------------------------------------- congestion


@dataclass(frozen=True)
class CongestionLimits:
    """When a station is congested. Speeds are shares of its free speed; defaults are a choice, not a standard."""

    onset_share: float = 0.5
    """At or below this congestion begins. [1]"""
    clearance_share: float = 0.65
    """At or above this it ends. [1]"""
    onset_hold_s: float = 120.0
    """How long it must last before it is believed."""
    clearance_hold_s: float = 300.0
    gap_s: float = 900.0
    """A longer gap between readings ends what was pending; what was believed stays."""

    def __post_init__(self) -> None:
        if not 0.0 < self.onset_share < self.clearance_share:
            raise ValueError(
                f"onset_share must be above 0 and below clearance_share, got {self.onset_share}, {self.clearance_share}"
            )


@dataclass(slots=True)
class Congestion:
    """State of all stations; congestion is dated at its first slow reading, though believed only after the hold."""

    congested: Bools
    pending_since: Ints
    """(stations,) since when readings speak for a change; NEVER if they don't. [ns]"""
    last_at: Ints
    """(stations,) newest reading; NEVER before the first. [ns]"""

    @classmethod
    def empty(cls, stations: int) -> Congestion:
        """No station is congested."""
        never = np.full(stations, NEVER, dtype=np.int64)
        return cls(np.zeros(stations, dtype=np.bool_), never, never.copy())

    def step(
        self, at: Ints | int, speed_km_h: Floats, free_km_h: Floats, limits: CongestionLimits
    ) -> tuple[Bools, Bools, Ints]:
        """Take at most one reading of each station.

        Parameters
        ----------
        at : (stations,) int64 array or int
            Time of the readings; one that is not newer than the last of its station is left out. [ns]
        speed_km_h : (stations,) float array
            NaN: no reading, or no vehicle.
        free_km_h : (stations,) float array

        Returns
        -------
        onset, clearance : (stations,) bool arrays
            Stations where congestion is now believed to have begun, or ended.
        since : (stations,) int64 array
            When that was; NEVER elsewhere. [ns]

        Examples
        --------
        >>> state, limits = Congestion.empty(1), CongestionLimits(onset_hold_s=60, clearance_hold_s=60)
        >>> free, minute = np.array([50.0]), 60_000_000_000
        >>> speeds = enumerate([48.0, 20.0, 22.0, 30.0, 40.0, 45.0])
        >>> steps = [state.step(i * minute, np.array([v]), free, limits) for i, v in speeds]
        >>> [(i, int(since[0]) // minute) for i, (on, off, since) in enumerate(steps) if on[0] or off[0]]
        [(2, 1), (5, 4)]
        """
        when = np.broadcast_to(np.asarray(at, dtype=np.int64), self.congested.shape)
        share = speed_km_h / free_km_h
        heard = ~np.isnan(share) & ((self.last_at == NEVER) | (when > self.last_at))
        gap_from = np.where(self.last_at == NEVER, when, self.last_at)
        gap = heard & (when - gap_from > round(limits.gap_s * NS_PER_S))
        against = np.where(self.congested, share >= limits.clearance_share, share <= limits.onset_share)
        fresh = gap | (self.pending_since == NEVER)
        pending = np.where(against, np.where(fresh, when, self.pending_since), NEVER)
        self.pending_since = np.where(heard, pending, self.pending_since)
        self.last_at = np.where(heard, when, self.last_at)
        hold = np.where(self.congested, limits.clearance_hold_s, limits.onset_hold_s) * NS_PER_S
        waiting = heard & against
        changed = waiting & (when - np.where(waiting, self.pending_since, when) >= hold.astype(np.int64))
        onset, clearance = changed & ~self.congested, changed & self.congested
        since = np.where(changed, self.pending_since, NEVER)
        self.congested = self.congested ^ changed
        self.pending_since = np.where(changed, NEVER, self.pending_since)
        return onset, clearance, since


# ------------------------------------------------------------------------------------------------------ California #7


@dataclass(frozen=True)
class CaliforniaLimits:
    """Thresholds of California #7, as occupancies 0-1; to be calibrated for each road."""

    difference: float = 0.08
    """T1: occupancy upstream less that downstream, at least."""
    relative_difference: float = 0.5
    """T2: the same over the occupancy upstream, at least."""
    downstream_max: float = 0.15
    """T3: occupancy downstream, at most."""


@dataclass(slots=True)
class California7:
    """California algorithm #7 on pairs of neighbouring stations.

    References
    ----------
    Payne and Tignor 1978, Freeway incident-detection algorithms based on decision trees with states, TRR 682. Starting
    values and the test of downstream occupancy in place of its change: unverified beyond secondary sources.
    """

    stage: npt.NDArray[np.int8]
    """(pairs,) 0 none, 1 tentative, 2 confirmed, 3 continuing."""

    @classmethod
    def empty(cls, pairs: int) -> California7:
        """No incident anywhere."""
        return cls(np.zeros(pairs, dtype=np.int8))

    def step(self, upstream: Floats, downstream: Floats, limits: CaliforniaLimits) -> Bools:
        """Take the occupancies of one interval.

        Parameters
        ----------
        upstream, downstream : (pairs,) float arrays
            Occupancy 0-1; if one is NaN the pair stays as it is.

        Returns
        -------
        (pairs,) bool array: an incident was confirmed just now. ``stage >= 2`` says where one stands.

        Examples
        --------
        >>> pairs = California7.empty(1)
        >>> up, down, limits = np.array([0.30]), np.array([0.05]), CaliforniaLimits()
        >>> [bool(pairs.step(up, down, limits)[0]) for _ in range(3)]
        [False, True, False]
        """
        difference = upstream - downstream
        relative = np.divide(difference, upstream, out=np.zeros_like(difference), where=upstream > 0.0)
        lasts = relative >= limits.relative_difference
        begins = lasts & (difference >= limits.difference) & (downstream <= limits.downstream_max)
        after = np.where(self.stage == 0, begins.astype(np.int8), np.where(lasts, np.minimum(self.stage + 1, 3), 0))
        known = ~np.isnan(difference)
        confirmed = known & (after == 2)
        self.stage = np.where(known, after, self.stage).astype(np.int8)
        return np.asarray(confirmed)


# ------------------------------------------------------------------------------------------------- discharge deficit


@dataclass(frozen=True)
class Template:
    """What is normal at each station, learnt from its own history: the free branch of flow over occupancy."""

    free_flow_per_occupancy: Floats
    """(stations,) flow over occupancy in free traffic. [veh/h]"""
    capacity_veh_h: Floats
    """(stations,) flow that it is known to carry."""
    noise_share: Floats
    """(stations,) standard deviation of one interval's flow, as a share of that."""


def learn_template(
    flow_veh_h: Floats, occupancy: Floats, *, smooth: int = 20, capacity_quantile: float = 0.95, free_share: float = 0.7
) -> Template:
    """Learn each station's free branch and capacity; days with incidents do no harm if they are few.

    Parameters
    ----------
    flow_veh_h, occupancy : (intervals, stations) float arrays
        In order of time, NaN where missing; the rush hours of some days at least.
    smooth : int
        Intervals over which flow is averaged before its quantile is taken, so that noise of counting is not capacity.
    capacity_quantile : float
        Quantile of that flow, over all intervals.
    free_share : float
        Intervals with less than this share of the free branch's flow over occupancy are congested.

    Returns
    -------
    Template
        NaN for a station that was never seen with vehicles: no incident is ever found there.

    Raises
    ------
    ValueError
        Shapes differ, or there are fewer than ``smooth`` intervals.
    """
    if flow_veh_h.shape != occupancy.shape or flow_veh_h.ndim != 2 or flow_veh_h.shape[0] < smooth:
        raise ValueError(
            f"flow_veh_h and occupancy must be (intervals, stations) with at least {smooth} intervals, "
            f"got {flow_veh_h.shape} and {occupancy.shape}"
        )
    usable = (flow_veh_h > 0.0) & (occupancy > 0.0)
    ratio = np.divide(flow_veh_h, occupancy, out=np.full(occupancy.shape, np.nan), where=usable)
    first = _quantile(ratio, 0.75)
    free = _quantile(np.where(ratio >= free_share * first, ratio, np.nan), 0.5)
    windows = np.lib.stride_tricks.sliding_window_view(flow_veh_h, smooth, axis=0)
    capacity = _quantile(windows.mean(axis=-1), capacity_quantile)
    busy = np.where(flow_veh_h[1:] >= 0.5 * capacity, np.abs(np.diff(flow_veh_h, axis=0)), np.nan)
    # of two normal deviates: median |a - b| = 0.6745 · sqrt(2) · sd
    noise = np.divide(_quantile(busy, 0.5), 0.6745 * np.sqrt(2.0) * capacity, where=capacity > 0.0, out=0.0 * capacity)
    return Template(free, capacity, noise)


def _quantile(values: Floats, q: float) -> Floats:
    """Of each column, without its NaN; NaN where there is nothing else."""
    count = (~np.isnan(values)).sum(axis=0)
    ordered = np.sort(values, axis=0)  # NaN last
    row = np.maximum(np.ceil(q * count).astype(np.intp) - 1, 0)
    return np.asarray(np.take_along_axis(ordered, row[None], axis=0)[0])


@dataclass(frozen=True)
class DeficitLimits:
    """Parameters of the discharge deficit. The defaults prefer few false alarms: see ``benchmarks.incidents``."""

    congested_share: float = 0.5
    """Upstream: flow over occupancy at most this share of the free branch's."""
    occupancy_min: float = 0.12
    """Upstream: at least this occupancy; on an empty road one slow vehicle looks like congestion."""
    free_share: float = 0.7
    """Downstream: at least this share."""
    allowance: float = 0.25
    """Deficit (share of capacity) that is normal: noise, rain, the capacity that a queue costs."""
    alarm_noise: float = 3.0
    """An incident is called when the deficits beyond the allowance add up to so many standard deviations of a count.

    The sum grows to twice that and no further, so that an incident's end is seen soon.
    """
    smooth: float = 0.5
    """Weight of the newest interval in the moving averages of flow and occupancy, 0-1; 1 takes it alone."""


@dataclass(slots=True)
class DischargeDeficit:
    """Incidents by the head of a queue that lets too few pass: McMaster's comparison of stations, with a CUSUM.

    Where upstream is congested and downstream is free, the head of a queue lies between. Its discharge is what passes
    downstream. At a daily bottleneck that is the flow which the station downstream is known to carry at most (learnt:
    ``Template.capacity_veh_h``), behind an incident it is less. The deficit beyond an allowance is summed up (CUSUM);
    the sum falls when there is no such head, or it discharges well.

    California #7 asks how much two occupancies differ. That difference is as great at the head of each daily queue, so
    its thresholds must be fitted to each road; here the flow tells them apart, and what differs from road to road is
    learnt. It is later, and blind where an incident leaves about as much as the daily bottleneck does.

    References
    ----------
    Persaud and Hall 1989 and Persaud, Hall and Hall 1990 (McMaster): station states in the flow-occupancy plane, and
    recurrent if downstream discharges at VCRIT; the same logic in www.trg.soton.ac.uk/prime (Persaud ID). Page 1954
    for the CUSUM. The combination is this module's own.
    """

    deficit: Floats
    """(pairs,) CUSUM."""
    standing: Bools
    """(pairs,) an incident stands."""
    flow_veh_h: Floats
    """(stations,) moving average; NaN before the first."""
    occupancy: Floats

    @classmethod
    def empty(cls, stations: int, pairs: int) -> DischargeDeficit:
        """Nothing was measured yet."""
        nan = np.full(stations, np.nan)
        return cls(np.zeros(pairs), np.zeros(pairs, dtype=np.bool_), nan, nan.copy())

    def step(
        self,
        flow_veh_h: Floats,
        occupancy: Floats,
        upstream: npt.NDArray[np.intp],
        downstream: npt.NDArray[np.intp],
        template: Template,
        limits: DeficitLimits,
    ) -> Bools:
        """Take one interval of all stations.

        Parameters
        ----------
        flow_veh_h, occupancy : (stations,) float arrays
            NaN where missing: pairs of that station stay as they are.
        upstream, downstream : (pairs,) index arrays
            Stations of each pair.

        Returns
        -------
        (pairs,) bool array: an incident is called just now. ``standing`` says where one stands.
        """
        heard = ~(np.isnan(flow_veh_h) | np.isnan(occupancy))
        self.flow_veh_h = _averaged(self.flow_veh_h, flow_veh_h, heard, limits.smooth)
        self.occupancy = _averaged(self.occupancy, occupancy, heard, limits.smooth)
        expected = self.occupancy * template.free_flow_per_occupancy
        share = np.divide(self.flow_veh_h, expected, out=np.ones_like(expected), where=expected > 0.0)
        slow = (share <= limits.congested_share) & (self.occupancy >= limits.occupancy_min)
        head = slow[upstream] & (share[downstream] >= limits.free_share)
        missing = 1.0 - self.flow_veh_h[downstream] / template.capacity_veh_h[downstream]
        grown = self.deficit + np.where(head, missing, 0.0) - limits.allowance
        alarm = limits.alarm_noise * template.noise_share[downstream]
        known = heard[upstream] & heard[downstream] & ~np.isnan(grown + alarm)
        self.deficit = np.where(known, np.clip(grown, 0.0, 2.0 * alarm), self.deficit)
        called = known & ~self.standing & (self.deficit >= alarm)
        self.standing = (self.standing & (self.deficit > 0.0)) | called
        return np.asarray(called)


def _averaged(before: Floats, new: Floats, heard: Bools, weight: float) -> Floats:
    moved = np.where(np.isnan(before), new, before + weight * (new - before))
    return np.where(heard, moved, before)
