"""Street lamps: burning by day, dark at night, flickering; and a dead feeder from many dark lamps of one circuit.

Whether a lamp ought to burn comes from the sun (``processing.sun``) and, for lamps that are dimmed or switched off
late at night, from the part of their rated power that their schedule expects. Between the two elevations (twilight)
nothing is said. How long a condition lasted is carried from batch to batch in ``LampState``; readings must be newer
than what the state has seen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from processing.segments import Segments, last_true
from telemetry.observations import NS_PER_S

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

NEVER = np.iinfo(np.int64).min

DAY_BURNER, OUTAGE, FLICKER = 1, 2, 4
"""Bits of a lamp's condition."""


@dataclass(frozen=True, slots=True)
class LampSettings:
    """When a lamp's power is wrong. All defaults are unverified rules of thumb: calibrate them for a city."""

    day_above_elevation_deg: float = 3.0
    """The sun is up: a lamp ought not to burn."""
    dark_below_elevation_deg: float = -6.0
    """It is dark (the end of civil twilight): a lamp ought to burn."""
    burning_above_fraction: float = 0.2
    """Of rated power: above, a lamp burns."""
    out_below_fraction: float = 0.15
    """Of the expected power: below, a lamp is dark."""
    day_burner_after_s: int = 1800
    outage_after_s: int = 900
    """How long the condition must last before it counts."""
    broken_by_gap_s: int = 7200
    """After a longer time without a reading a condition starts anew."""
    flicker_transitions: int = 4
    """So many changes between burning and dark, at night ..."""
    flicker_within_s: int = 3600
    """... within this time are a flicker."""

    def __post_init__(self) -> None:
        if self.dark_below_elevation_deg >= self.day_above_elevation_deg:
            raise ValueError(
                "dark_below_elevation_deg must be below day_above_elevation_deg, got "
                f"{self.dark_below_elevation_deg} and {self.day_above_elevation_deg} (processing.indicators.lamps)"
            )
        if not 0 < self.out_below_fraction <= self.burning_above_fraction < 1:
            raise ValueError(
                "expected 0 < out_below_fraction <= burning_above_fraction < 1, got "
                f"{self.out_below_fraction} and {self.burning_above_fraction} (processing.indicators.lamps)"
            )
        if self.flicker_transitions < 2:
            raise ValueError(
                f"flicker_transitions must be at least 2, got {self.flicker_transitions} (processing.indicators.lamps)"
            )


@dataclass(frozen=True, slots=True)
class LampState:
    """What is remembered of each lamp: 25 bytes and 8 for each transition of a flicker."""

    last_at: Ints
    """(lamps,) time of the newest reading, or NEVER. [ns]"""
    day_burning_since: Ints
    """(lamps,) begin of the condition, or NEVER. [ns]"""
    out_since: Ints
    burning: npt.NDArray[np.int8]
    """(lamps,) at night, last seen: 1 burning, 0 dark, -1 not known."""
    transitions: Ints
    """(lamps, flicker_transitions) times of the newest changes, ascending; NEVER where there were fewer. [ns]"""

    @classmethod
    def empty(cls, lamps: int, settings: LampSettings) -> LampState:
        """Nothing has been seen."""
        never = np.full(lamps, NEVER, dtype=np.int64)
        return cls(
            never,
            never.copy(),
            never.copy(),
            np.full(lamps, -1, dtype=np.int8),
            np.full((lamps, settings.flicker_transitions), NEVER, dtype=np.int64),
        )


@dataclass(frozen=True, slots=True)
class LampConditions:
    """What is wrong with a lamp at each reading; every array is (n,)."""

    known: Bools
    """False where the reading had no power or was not newer than the state: nothing is said."""
    condition: npt.NDArray[np.uint8]
    """Bits DAY_BURNER, OUTAGE, FLICKER."""
    day_burning_since: Ints
    """Begin of the condition, also before it has lasted long enough; NEVER if it does not hold. [ns]"""
    out_since: Ints


def expected_fraction(at: Ints, utc_offset_h: float, steps: tuple[tuple[float, float], ...] = ((0.0, 1.0),)) -> Floats:
    """Part of rated power that a dimming schedule expects at night.

    Parameters
    ----------
    at : (n,) int64 array
        [ns since 1970 UTC]
    utc_offset_h : float
        Local standard time minus UTC. [h]
    steps : tuple of (local hour, fraction)
        From that hour on; ascending. Before the first step the last one holds, from the evening before.

    Examples
    --------
    Full until 22:00, half until 04:30, in UTC+7; at 21:00, 23:00 and 04:00 local:

    >>> at = np.array([14, 16, 21]) * 3600 * 10**9
    >>> expected_fraction(at, 7, ((4.5, 1.0), (22.0, 0.5)))
    array([1. , 0.5, 0.5])
    """
    hours = np.array([h for h, _ in steps], dtype=np.float64)
    fractions = np.array([f for _, f in steps], dtype=np.float64)
    if not hours.size or (np.diff(hours) <= 0).any() or hours[0] < 0 or hours[-1] >= 24:
        raise ValueError(
            f"steps must have ascending hours from 0 to below 24, got {steps} (processing.indicators.lamps)"
        )
    if not ((fractions >= 0) & (fractions <= 1)).all():
        raise ValueError(f"fractions must be within 0 and 1, got {steps} (processing.indicators.lamps)")
    local_h = (at / (3600 * NS_PER_S) + utc_offset_h) % 24
    expected: Floats = fractions[np.searchsorted(hours, local_h, side="right") - 1]
    return expected


def lamp_conditions(
    state: LampState,
    lamp: npt.NDArray[np.integer],
    at: Ints,
    power_w: Floats,
    rated_w: Floats,
    elevation_deg: Floats,
    expected: Floats | None = None,
    settings: LampSettings = LampSettings(),
) -> tuple[LampState, LampConditions]:
    """Conditions of lamps at their readings.

    Day-burner: the sun is above ``day_above_elevation_deg`` and the power above ``burning_above_fraction`` of the
    rated, for ``day_burner_after_s``. Outage: the sun is below ``dark_below_elevation_deg`` and the power below
    ``out_below_fraction`` of the expected, for ``outage_after_s``. Flicker: at night ``flicker_transitions`` changes
    between burning and dark within ``flicker_within_s``; between the two fractions nothing changes, and while the
    schedule expects no light nothing is counted, so that dimming is no flicker.

    Parameters
    ----------
    state : LampState
    lamp : (n,) int array
        Index of the lamp; rows sorted by lamp, then time.
    at : (n,) int64 array
        [ns since 1970 UTC]
    power_w : (n,) float array
        NaN means missing.
    rated_w : (n,) float array
        Rated power of the reading's lamp. NaN or not positive: not known, nothing is said.
    elevation_deg : (n,) float array
        Of the sun at the lamp, from ``processing.sun.solar_elevation_deg``.
    expected : (n,) float array, optional
        From ``expected_fraction``; without it a lamp burns fully all night.
    settings : LampSettings

    Returns
    -------
    LampState
        A new one. Cutting the rows into batches by time does not change the conditions.
    LampConditions

    References
    ----------
    No standard is known; thresholds: see ``LampSettings``.
    """
    n = lamp.shape[0]
    condition = np.zeros(n, dtype=np.uint8)
    day_since, out_since = np.full(n, NEVER, dtype=np.int64), np.full(n, NEVER, dtype=np.int64)
    known = np.isfinite(power_w) & (rated_w > 0) & (at > state.last_at[lamp])
    rows = np.flatnonzero(known)
    if not rows.size:
        return state, LampConditions(known, condition, day_since, out_since)
    who, t, sun = lamp[rows], at[rows], elevation_deg[rows]
    fraction = power_w[rows] / rated_w[rows]
    wanted = np.ones(rows.size) if expected is None else expected[rows]
    segments = Segments.of(who.astype(np.int32))
    first = np.zeros(rows.size, dtype=np.bool_)
    first[segments.start] = True
    lamps = who[segments.start]
    before = np.where(first, state.last_at[who], np.roll(t, 1))
    gap = (before == NEVER) | (t - np.where(before == NEVER, t, before) > settings.broken_by_gap_s * NS_PER_S)

    dark = sun < settings.dark_below_elevation_deg
    asked = dark & (wanted > 0)
    burns_by_day = (sun > settings.day_above_elevation_deg) & (fraction > settings.burning_above_fraction)
    is_out = asked & (fraction < settings.out_below_fraction * wanted)
    day = _since(burns_by_day, t, first, gap, state.day_burning_since[who], segments)
    out = _since(is_out, t, first, gap, state.out_since[who], segments)

    burning = np.full(rows.size, -1, dtype=np.int8)
    burning[asked & (fraction > settings.burning_above_fraction * wanted)] = 1
    burning[is_out] = 0
    kept, ring, earlier = _transitions(state, burning, t, who, segments)

    condition[rows] |= np.where(_lasted(day, t, settings.day_burner_after_s), DAY_BURNER, 0).astype(np.uint8)
    condition[rows] |= np.where(_lasted(out, t, settings.outage_after_s), OUTAGE, 0).astype(np.uint8)
    flickers = (
        asked & (earlier != NEVER) & (t - np.where(earlier == NEVER, t, earlier) < settings.flicker_within_s * NS_PER_S)
    )
    condition[rows] |= np.where(flickers, FLICKER, 0).astype(np.uint8)
    day_since[rows], out_since[rows] = day, out

    ends = segments.end - 1
    new = replace(
        state,
        last_at=_with(state.last_at, lamps, t[ends]),
        day_burning_since=_with(state.day_burning_since, lamps, day[ends]),
        out_since=_with(state.out_since, lamps, out[ends]),
        burning=_with(state.burning, lamps, kept[ends]),
        transitions=_with(state.transitions, lamps, ring),
    )
    return new, LampConditions(known, condition, day_since, out_since)


def _with(array: npt.NDArray, index: npt.NDArray[np.integer], values: npt.NDArray) -> npt.NDArray:  # type: ignore[type-arg]
    changed = array.copy()
    changed[index] = values
    return changed


def _lasted(since: Ints, t: Ints, after_s: int) -> Bools:
    lasted: Bools = (since != NEVER) & (t - np.where(since == NEVER, t, since) >= after_s * NS_PER_S)
    return lasted


def _since(holds: Bools, t: Ints, first: Bools, gap: Bools, carried: Ints, segments: Segments) -> Ints:
    """Since when a condition has held without a break, at each row; NEVER where it does not hold."""
    goes_on = first & holds & ~gap & (carried != NEVER)
    held_before = np.zeros_like(holds)
    held_before[1:] = holds[:-1]
    starts = holds & (first | gap | ~held_before)
    begin = np.where(goes_on, carried, t)
    at_start = last_true(starts, segments)
    since: Ints = np.where(holds, begin[at_start], NEVER)
    return since


def _transitions(
    state: LampState, burning: npt.NDArray[np.int8], t: Ints, who: npt.NDArray[np.integer], segments: Segments
) -> tuple[npt.NDArray[np.int8], Ints, Ints]:
    """Changes between burning and dark.

    Returns
    -------
    (rows,) int8 array
        Whether the lamp was last seen burning.
    (lamps, N) int64 array
        The newest N changes of each lamp of the batch.
    (rows,) int64 array
        Time of the N-th newest change up to the row, or NEVER.
    """
    seen = last_true(burning >= 0, segments)
    kept = np.where(seen >= 0, burning[seen], state.burning[who]).astype(np.int8)
    previous = np.roll(kept, 1)
    previous[segments.start] = state.burning[who[segments.start]]
    changed = (kept != previous) & (previous >= 0)
    where = np.flatnonzero(changed)
    lamps = who[segments.start]
    size = state.transitions.shape[1]
    held = state.transitions[lamps]
    # Each lamp's remembered changes, then its new ones: the N-th newest is N - 1 places before.
    new = np.bincount(segments.of_row[where], minlength=lamps.size)
    start = np.cumsum(new + size) - (new + size)
    line = np.empty(int((new + size).sum()), dtype=np.int64)
    line[(start[:, None] + np.arange(size)).ravel()] = held.ravel()
    changes_before = np.cumsum(changed)
    in_segment = changes_before - (changes_before - changed)[segments.first_row]
    line[start[segments.of_row[where]] + size + in_segment[where] - 1] = t[where]
    earlier = line[start[segments.of_row] + in_segment]
    ring = line[(start + new)[:, None] + np.arange(size)]
    return kept, ring, earlier


@dataclass(frozen=True, slots=True)
class FeederSettings:
    """When dark lamps are one fault. Unverified defaults: calibrate them for a city."""

    min_lamps: int = 3
    min_fraction: float = 0.8
    """Part of the circuit's watched lamps that were not dark before."""
    together_within_s: int = 900
    """The lamps go dark within this time: as long as the lamps' reporting interval, and some margin."""

    def __post_init__(self) -> None:
        if self.min_lamps < 2 or not 0 < self.min_fraction <= 1 or self.together_within_s < 0:
            raise ValueError(
                "expected min_lamps >= 2, min_fraction in (0, 1], together_within_s >= 0, got "
                f"{self.min_lamps}, {self.min_fraction}, {self.together_within_s} (processing.indicators.lamps)"
            )


@dataclass(frozen=True, slots=True)
class FeederFaults:
    """Circuits whose lamps went dark together; at most one fault for a circuit, ascending."""

    circuit: Ints
    since: Ints
    """When the first of the lamps went dark. [ns]"""
    first_lamp: Ints
    """Which lamp that was (first-out); of several at the same time the one with the lowest index. Lamps that report
    every quarter of an hour are seen to go dark in the order of their reports."""
    lamps: Ints
    """How many went dark together."""
    of: Ints
    """How many were lit until then."""
    fault_of_lamp: Ints
    """(all lamps,) the row of the fault that a lamp belongs to, or -1: its own outage is not another alarm."""


def feeder_faults(
    circuit: Ints, watched: Bools, out_since: Ints, settings: FeederSettings = FeederSettings()
) -> FeederFaults:
    """Find dead feeders among dark lamps.

    In each circuit the lamps that went dark within ``together_within_s`` of one another are taken, from the moment with
    the most of them. They are one fault if they are at least ``min_lamps`` and ``min_fraction`` of the watched lamps
    that had not been dark before. Lamps that were dark before remain faults of their own; those that go dark later
    belong to the fault, but are not counted in ``lamps``.

    Parameters
    ----------
    circuit : (lamps,) int64 array
        Circuit of each lamp, or negative if not known.
    watched : (lamps,) bool array
        Lamps that count: not in maintenance, and known to report.
    out_since : (lamps,) int64 array
        Since when a lamp is dark, or silent (a controller without supply sends nothing); NEVER if it is lit. [ns]
    settings : FeederSettings

    Returns
    -------
    FeederFaults

    Examples
    --------
    Lamp 0 has been dark for days; 1, 2 and 3 went dark together, 2 first; 4 is lit and hangs on another circuit:

    >>> h = 3600 * 10**9
    >>> since = np.array([1 * h, 90 * h + 60, 90 * h, 90 * h + 99, NEVER])
    >>> f = feeder_faults(np.array([5, 5, 5, 5, 6]), np.ones(5, bool), since)
    >>> f.circuit, f.first_lamp, f.lamps, f.of, f.fault_of_lamp
    (array([5]), array([2]), array([3]), array([3]), array([-1,  0,  0,  0, -1]))
    """
    counted = watched & (circuit >= 0)
    lamp = np.flatnonzero(counted & (out_since != NEVER))
    fault_of_lamp = np.full(circuit.shape, -1, dtype=np.int64)
    nothing = np.empty(0, dtype=np.int64)
    if not lamp.size:
        return FeederFaults(nothing, nothing, nothing, nothing, nothing, fault_of_lamp)
    lamp = lamp[np.lexsort((lamp, out_since[lamp], circuit[lamp]))]
    since = out_since[lamp]
    names, of_row = np.unique(circuit[lamp], return_inverse=True)
    # Times as ranks, so that (circuit, time) is one number that cannot overflow.
    times = np.unique(since)
    key = of_row * (times.size + 1) + np.searchsorted(times, since)
    latest = np.searchsorted(times, since + settings.together_within_s * NS_PER_S, side="right")
    end = np.searchsorted(key, of_row * (times.size + 1) + latest, side="left")
    place = np.arange(lamp.size)
    together = end - place
    begin = np.flatnonzero(np.append(True, of_row[1:] != of_row[:-1]))
    most = np.maximum.reduceat(together, begin)
    best = np.full(names.size, lamp.size)
    np.minimum.at(best, of_row, np.where(together == most[of_row], place, lamp.size))
    all_lamps = np.bincount(np.searchsorted(names, circuit[counted & np.isin(circuit, names)]), minlength=names.size)
    lit_before = all_lamps - (best - begin)
    # 0.8 · 5 must not ask for a fifth lamp because of rounding.
    enough = (most >= settings.min_lamps) & (most >= np.round(settings.min_fraction * lit_before, 9))
    chosen = np.flatnonzero(enough)
    row_of_circuit = np.full(names.size, -1, dtype=np.int64)
    row_of_circuit[chosen] = np.arange(chosen.size)
    in_fault = (row_of_circuit[of_row] >= 0) & (place >= best[of_row])
    fault_of_lamp[lamp[in_fault]] = row_of_circuit[of_row[in_fault]]
    head = best[chosen]
    return FeederFaults(
        names[chosen].astype(np.int64),
        since[head],
        lamp[head].astype(np.int64),
        most[chosen].astype(np.int64),
        lit_before[chosen].astype(np.int64),
        fault_of_lamp,
    )
