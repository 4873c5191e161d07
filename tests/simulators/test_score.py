"""Event scoring: worked by hand, and laws that hold for any events and alarms."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from simulators.score import Interval, ScoreError, merge, read_truth, score

S = 1_000_000_000


def seconds(*pairs: tuple[int, int]) -> list[Interval]:
    return [Interval(a * S, b * S) for a, b in pairs]


INTERVALS = st.lists(
    st.tuples(st.integers(0, 500), st.integers(0, 50)).map(lambda p: Interval(p[0] * S, (p[0] + p[1]) * S)), max_size=12
)
TIMES = st.integers(0, 60).map(float)


def test_worked_by_hand():
    # Events: A 100-200, B 1000-1100, C 2000-2100.
    # Alarms: 40-150 hits A (lead 60 s); 160-170 is a repeat of A; 1010-1020 hits B 10 s late;
    # 1500-1600 has no event: false. C is missed. H 2, M 1, F 1.
    found = score(
        seconds((100, 200), (1000, 1100), (2000, 2100)), seconds((160, 170), (40, 150), (1500, 1600), (1010, 1020))
    )
    assert (found.hits, found.misses, found.false_alarms, found.repeats) == (2, 1, 1, 1)
    assert found.pod == pytest.approx(2 / 3)
    assert found.far == pytest.approx(1 / 3)
    assert found.csi == pytest.approx(2 / 4)
    assert found.bias == pytest.approx(3 / 3)
    assert found.leads_s == (60.0, -10.0)
    assert found.lead_s == 25.0


def test_an_alarm_that_cleared_before_the_event_counts_within_the_horizon():
    event, alarm = seconds((100, 200)), seconds((10, 40))
    assert score(event, alarm, horizon_s=60).hits == 1  # ended 60 s before: just within
    assert score(event, alarm, horizon_s=60).leads_s == (90.0,)
    early = score(event, alarm, horizon_s=59)
    assert (early.hits, early.misses, early.false_alarms) == (0, 1, 1)


def test_an_alarm_during_one_event_is_no_warning_of_the_next():
    found = score(seconds((0, 10), (30, 40)), seconds((5, 8)), horizon_s=100)
    assert (found.hits, found.misses, found.false_alarms) == (1, 1, 0)


def test_an_alarm_over_two_events_hits_both_but_leads_only_the_first():
    found = score(seconds((10, 20), (90, 95)), seconds((5, 100)))
    assert (found.hits, found.misses, found.leads_s) == (2, 0, (5.0,))


def test_close_events_are_one():
    events = seconds((0, 10), (15, 20), (26, 30))
    assert merge(events, 5) == tuple(seconds((0, 20), (26, 30)))
    assert merge(events, 6) == tuple(seconds((0, 30)))
    found = score(events, seconds((16, 17)), merge_gap_s=6)
    assert (found.hits, found.misses, found.leads_s) == (1, 0, (-16.0,))


def test_zero_denominators_are_undefined():
    nothing = score([], [])
    assert (nothing.pod, nothing.far, nothing.csi, nothing.bias, nothing.lead_s) == (None,) * 5
    quiet = score(seconds((0, 1)), [])
    assert (quiet.pod, quiet.far, quiet.csi, quiet.bias, quiet.lead_s) == (0.0, None, 0.0, 0.0, None)
    noisy = score([], seconds((0, 1)))
    assert (noisy.pod, noisy.far, noisy.csi, noisy.bias, noisy.lead_s) == (None, 1.0, 0.0, None, None)


@given(INTERVALS, INTERVALS, TIMES, TIMES)
def test_counts_add_up_and_ratios_stay_in_bounds(events, alarms, gap, horizon):
    found = score(events, alarms, merge_gap_s=gap, horizon_s=horizon)
    assert found.hits + found.misses == len(merge(events, gap))
    assert 0 <= found.false_alarms + found.repeats <= len(alarms)
    assert len(found.leads_s) <= found.hits
    for ratio in (found.pod, found.far, found.csi):
        assert ratio is None or 0 <= ratio <= 1
    if found.csi is not None and found.pod is not None:
        assert found.csi <= found.pod


@given(INTERVALS, INTERVALS, TIMES, TIMES, st.randoms())
def test_the_order_of_events_and_alarms_does_not_matter(events, alarms, gap, horizon, random):
    expected = score(events, alarms, merge_gap_s=gap, horizon_s=horizon)
    random.shuffle(events)
    random.shuffle(alarms)
    assert score(events, alarms, merge_gap_s=gap, horizon_s=horizon) == expected


@given(INTERVALS.filter(bool), TIMES)
def test_the_truth_itself_is_a_perfect_warning(events, gap):
    truth = merge(events, gap)
    found = score(events, truth, merge_gap_s=gap)
    assert (found.pod, found.far, found.csi, found.bias, found.lead_s) == (1.0, 0.0, 1.0, 1.0, 0.0)


@given(INTERVALS, INTERVALS, st.integers(-1000, 1000))
def test_shifting_everything_in_time_changes_nothing(events, alarms, shift):
    moved = [[Interval(i.start + shift * S, i.end + shift * S) for i in x] for x in (events, alarms)]
    assert score(*moved) == score(events, alarms)


@given(INTERVALS, INTERVALS, TIMES, TIMES)
def test_a_longer_horizon_only_finds_more(events, alarms, a, b):
    short, long = (score(events, alarms, horizon_s=h) for h in sorted((a, b)))
    assert long.hits >= short.hits
    assert long.false_alarms <= short.false_alarms


def test_truth_files():
    windows = {"threshold_windows": {"2.9": [["1970-01-01T00:01:00", "1970-01-01T00:02:00", 8]]}}
    assert read_truth(windows, level="2.9") == tuple(seconds((60, 120)))
    events = {"events": [{"start": "1970-01-01T07:00:05+07:00", "end": "1970-01-01T00:00:06Z", "note": "x"}]}
    assert read_truth(events) == tuple(seconds((5, 6)))
    for content, level, message in [
        (windows, "3.0", "no level '3.0' in threshold_windows, only 2.9"),
        (windows, "", "with a level chosen"),
        ([], "", "must hold an object"),
        ({"events": [{"start": "1970-01-01"}]}, "", "must have a start and an end"),
        ({"events": [{"start": "noon", "end": "night"}]}, "", "got 'noon'"),
        ({"events": [{"start": "1970-01-02", "end": "1970-01-01"}]}, "", "must not end before it starts"),
    ]:
        with pytest.raises(ScoreError, match=message):
            read_truth(content, level=level)
