"""Lamps: scenarios under the real sun, a second implementation reading by reading, and feeders."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processing.indicators import lamps as la
from processing.indicators.lamps import DAY_BURNER, FLICKER, NEVER, OUTAGE, FeederSettings, LampSettings, LampState
from processing.sun import solar_elevation_deg

S = 10**9
MINUTE = 60 * S
HOUR = 3600 * S


def bandung_night(minutes, begin="2026-06-21T05:00"):
    """Times of every so many minutes from local noon (UTC+7) for a day, and the sun there."""
    at = np.datetime64(begin, "ns").astype(np.int64) + np.arange(0, 24 * 60, minutes) * MINUTE
    return at, solar_elevation_deg(at, np.full(at.size, -6.9), np.full(at.size, 107.6))


def run(at, power, sun, rated=100.0, expected=None, settings=LampSettings(), lamp=None):  # noqa: B008
    lamp = np.zeros(at.size, int) if lamp is None else lamp
    state = LampState.empty(int(lamp.max()) + 1, settings)
    power = np.asarray(power, float)
    return la.lamp_conditions(state, lamp, at, power, np.full(at.size, rated), sun, expected, settings)[1]


def test_a_sound_lamp_is_silent():
    at, sun = bandung_night(5)
    for on_at in (-1.0, -4.0):  # photocells differ
        assert not run(at, np.where(sun < on_at, 98.0, 0.5), sun).condition.any()


def test_a_lamp_that_burns_by_day():
    at, sun = bandung_night(5)
    got = run(at, np.full(at.size, 98.0), sun)
    wrong = got.condition == DAY_BURNER
    # local noon: the first half hour does not count yet, the night is right
    assert at[wrong][0] == at[0] + 30 * MINUTE
    assert not got.condition[sun < 3].any()
    evening = at[(sun > 3) & (at < at[0] + 8 * HOUR)][-1]
    assert got.day_burning_since[at == evening] == at[0]


def test_a_dark_lamp_at_night():
    at, sun = bandung_night(5)
    got = run(at, np.full(at.size, 0.3), sun)
    night = at[sun < -6]
    wrong = at[(got.condition & OUTAGE) > 0]
    assert wrong[0] == night[0] + 15 * MINUTE
    assert wrong[-1] == night[-1]
    assert set(got.condition.tolist()) == {0, OUTAGE}


def test_a_dimmed_lamp_is_no_outage_and_no_flicker():
    at, sun = bandung_night(5)
    expected = la.expected_fraction(at, 7, ((1.0, 0.0), (4.0, 1.0), (22.0, 0.1)))
    power = np.where(sun < -1, 100 * expected, 0.0)
    assert not run(at, power, sun, expected=expected).condition.any()
    assert (run(at, power, sun).condition == OUTAGE).any()  # it is one where no schedule is known
    dark_when_dimmed = np.where(expected == 0.1, 0.5, power)
    assert (run(at, dark_when_dimmed, sun, expected=expected).condition & OUTAGE).any()


def test_a_flickering_lamp():
    at, sun = bandung_night(5)
    power = np.where(sun < -1, 98.0, 0.0)
    night = np.flatnonzero(sun < -6)
    power[night[20:24]] = [0, 98, 0, 98]
    got = run(at, power, sun)
    flicker = at[(got.condition & FLICKER) > 0]
    # the fourth change is at night[23]; the first of them was 15 minutes before, so it lasts 45 minutes more
    assert flicker[0] == at[night[23]]
    assert flicker[-1] == at[night[20]] + 55 * MINUTE
    power[night[20:24]] = [0, 98, 98, 98]
    assert not run(at, power, sun).condition.any()
    power[night[20:24]] = [18, 98, 18, 98]  # between the fractions: not decided
    assert not run(at, power, sun).condition.any()


def test_nothing_is_said_without_power_or_rating():
    at, sun = bandung_night(5)
    assert not run(at, np.full(at.size, np.nan), sun).known.any()
    assert not run(at, np.full(at.size, 50.0), sun, rated=np.nan).known.any()
    empty = np.empty(0)
    state = LampState.empty(3, LampSettings())
    same, got = la.lamp_conditions(state, empty.astype(int), empty.astype(np.int64), empty, empty, empty)
    assert same is state
    assert got.condition.shape == (0,)


def by_plain_rules(rows, s):
    """Second implementation: one reading after the other of one lamp."""
    out, last, day, dark_since, burning, changes = [], None, None, None, None, []
    for t, power, sun, expected in rows:
        gap = last is None or t - last > s.broken_by_gap_s * S
        asked = sun < s.dark_below_elevation_deg and expected > 0
        if not (sun > s.day_above_elevation_deg and power > 100 * s.burning_above_fraction):
            day = None
        elif day is None or gap:
            day = t
        out_now = asked and power / 100 < s.out_below_fraction * expected
        if not out_now:
            dark_since = None
        elif dark_since is None or gap:
            dark_since = t
        now = False if out_now else True if asked and power / 100 > s.burning_above_fraction * expected else burning
        if burning is not None and now != burning:
            changes.append(t)
        burning, last = now, t
        n = s.flicker_transitions
        code = DAY_BURNER if day is not None and t - day >= s.day_burner_after_s * S else 0
        code |= OUTAGE if dark_since is not None and t - dark_since >= s.outage_after_s * S else 0
        code |= FLICKER if asked and len(changes) >= n and t - changes[-n] < s.flicker_within_s * S else 0
        out.append(code)
    return out


STEP = st.tuples(
    st.sampled_from([1, 5, 10, 20, 130]),  # minutes since the reading before
    st.sampled_from([0.0, 5.0, 17.0, 50.0, 100.0]),
    st.sampled_from([-20.0, -20.0, -20.0, 0.0, 20.0]),
    st.sampled_from([1.0, 1.0, 0.5, 0.0]),
)


@settings(deadline=None)
@given(
    st.lists(st.lists(STEP, min_size=1, max_size=40), min_size=1, max_size=3),
    st.lists(st.integers(0, 3000), max_size=3),
)
def test_agrees_with_plain_rules_however_it_is_cut(lines, cuts):
    settings = LampSettings(day_burner_after_s=1200, flicker_transitions=3)
    columns, expected_codes = [], []
    for lamp, steps in enumerate(lines):
        t = 0
        rows = []
        for minutes, power, sun, expected in steps:
            t += minutes * MINUTE
            rows.append((t, power, sun, expected))
        columns += [(lamp, *row) for row in rows]
        expected_codes += by_plain_rules(rows, settings)
    lamp, at, power, sun, expected = (np.array(c) for c in zip(*columns, strict=True))
    at = at.astype(np.int64)
    state = LampState.empty(len(lines), settings)
    got = np.zeros(lamp.size, np.uint8)
    edges = [0, *sorted(c * MINUTE for c in cuts), 10**18]
    for a, b in pairwise(edges):
        rows = np.flatnonzero((at >= a) & (at < b))
        state, conditions = la.lamp_conditions(
            state, lamp[rows], at[rows], power[rows], np.full(rows.size, 100.0), sun[rows], expected[rows], settings
        )
        assert conditions.known.all()
        got[rows] = conditions.condition
    assert got.tolist() == expected_codes


def test_old_readings_are_not_taken():
    settings = LampSettings()
    state = LampState.empty(1, settings)
    row = (np.zeros(1, int), np.array([HOUR]), np.array([50.0]), np.array([100.0]), np.array([-20.0]))
    state, first = la.lamp_conditions(state, *row)
    _, again = la.lamp_conditions(state, *row)
    assert first.known.all()
    assert not again.known.any()


@pytest.mark.parametrize(("gap_h", "lasted"), [(2, True), (2.1, False)])
def test_a_long_gap_begins_anew_also_between_batches(gap_h, lasted):
    settings = LampSettings()
    state = LampState.empty(1, settings)
    conditions = []
    for t in (HOUR, round((1 + gap_h) * HOUR)):
        row = (np.zeros(1, int), np.array([t]), np.array([0.0]), np.array([100.0]), np.array([-20.0]))
        state, got = la.lamp_conditions(state, *row)
        conditions.append(int(got.condition[0]))
    assert conditions == [0, OUTAGE if lasted else 0]


def feeder(since, circuit=None, watched=None, **settings):
    since = np.array([NEVER if s is None else s * MINUTE for s in since], np.int64)
    circuit = np.zeros(since.size, np.int64) if circuit is None else np.array(circuit)
    watched = np.ones(since.size, bool) if watched is None else np.array(watched)
    return la.feeder_faults(circuit, watched, since, FeederSettings(**settings))


def test_a_dead_feeder_is_one_fault_with_its_first_lamp():
    got = feeder([12, 10, 14, 11, None])
    assert (got.circuit.tolist(), got.lamps.tolist(), got.of.tolist()) == ([0], [4], [5])
    assert got.first_lamp.tolist() == [1]
    assert got.since.tolist() == [10 * MINUTE]
    assert got.fault_of_lamp.tolist() == [0, 0, 0, 0, -1]


def test_single_lamps_are_no_feeder():
    assert not feeder([10, 11, None, None, None]).circuit.size  # two of five
    assert not feeder([10, 11, 12, None, None]).circuit.size  # three of five: 60 %
    assert not feeder([10, 200, 400, 600]).circuit.size  # all dark, at different times
    assert not feeder([None] * 4).circuit.size
    assert not feeder([]).circuit.size
    assert not feeder([10, 10, 10], circuit=[-1, -1, -1]).circuit.size
    assert not feeder([10, 10, 10], watched=[True, True, False]).circuit.size


def test_circuits_are_apart_and_old_and_later_faults_are_told_from_it():
    got = feeder(
        [5, 100, 101, 102, 300, 100, 100, None],
        circuit=[7, 7, 7, 7, 7, 9, 9, 9],
        min_fraction=0.7,
    )
    assert got.circuit.tolist() == [7]
    assert (got.lamps.tolist(), got.of.tolist(), got.first_lamp.tolist()) == ([3], [4], [1])
    # lamp 0 was dark long before; lamp 4, dark later, hangs on the dead feeder
    assert got.fault_of_lamp.tolist() == [-1, 0, 0, 0, 0, -1, -1, -1]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(-1, 2), st.booleans(), st.none() | st.integers(0, 60)), min_size=1, max_size=25),
    st.randoms(use_true_random=False),
)
def test_faults_do_not_depend_on_the_order_of_lamps(rows, random):
    def found(order):
        circuit, watched, since = zip(*(rows[i] for i in order), strict=True)
        got = feeder(since, circuit, watched)
        members = {
            (int(c), int(a), int(n), int(m), frozenset(order[i] for i in np.flatnonzero(got.fault_of_lamp == row)))
            for row, (c, a, n, m) in enumerate(zip(got.circuit, got.since, got.lamps, got.of, strict=True))
        }
        for row, lamp in enumerate(got.first_lamp):
            assert got.fault_of_lamp[lamp] == row
        return members

    order = list(range(len(rows)))
    shuffled = order.copy()
    random.shuffle(shuffled)
    assert found(order) == found(shuffled)


@settings(deadline=None)
@given(st.lists(st.integers(0, 40), min_size=3, max_size=12), st.integers(0, 5))
def test_the_fault_is_the_densest_time(minutes, lit):
    got = feeder(minutes + [None] * lit)
    # every possible head in plain Python: lamps dark within 15 minutes of it, of those not dark before
    best = max(sum(head <= m <= head + 15 for m in minutes) for head in minutes)
    head = min(h for h in minutes if sum(h <= m <= h + 15 for m in minutes) == best)
    of = len(minutes) + lit - sum(m < head for m in minutes)
    if best >= 3 and best >= 0.8 * of - 1e-9:
        assert (got.lamps.tolist(), got.of.tolist(), got.since.tolist()) == ([best], [of], [head * MINUTE])
    else:
        assert not got.circuit.size


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="dark_below"):
        LampSettings(dark_below_elevation_deg=5)
    with pytest.raises(ValueError, match="out_below_fraction"):
        LampSettings(out_below_fraction=0.5)
    with pytest.raises(ValueError, match="flicker_transitions"):
        LampSettings(flicker_transitions=1)
    with pytest.raises(ValueError, match="min_lamps"):
        FeederSettings(min_lamps=1)
    with pytest.raises(ValueError, match="ascending hours"):
        la.expected_fraction(np.zeros(1, np.int64), 7, ((5.0, 1.0), (5.0, 0.5)))
    with pytest.raises(ValueError, match="fractions"):
        la.expected_fraction(np.zeros(1, np.int64), 7, ((5.0, 1.5),))
