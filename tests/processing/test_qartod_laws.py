"""What holds for every quality test: other datastreams, units, and the beginning of time do not matter."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processing.qartod import SpikeMethod, gap, rate_of_change, spike
from processing.qartod_flat_band import FlatBand, flat_band
from processing.qartod_rows import Flags
from processing.qartod_windows import Spread, attenuated, flat_line
from processing.segments import Segments
from telemetry.observations import NS_PER_S
from telemetry.quality import FAIL, GOOD, MISSING, SUSPECT, UNKNOWN
from tests.processing.streams import Streams, streams

Test = Callable[[np.ndarray, np.ndarray, Segments, float], Flags]


def by_flat_band(value: np.ndarray, at: np.ndarray, segments: Segments, unit: float) -> Flags:
    none = FlatBand.none(segments.key.shape[0])
    return flat_band(none, value, at, segments, tolerance=1.5 * unit, suspect_s=1.0, fail_s=2.0, longest_gap_s=5.0)[1]


# Each with limits in a unit that is ``unit`` times as fine.
TESTS: dict[str, Test] = {
    "spike by average": lambda x, t, s, u: spike(x, s, suspect=1.0 * u, fail=2.0 * u),
    "spike by differential": lambda x, t, s, u: spike(
        x, s, suspect=1.0 * u, fail=2.0 * u, method=SpikeMethod.DIFFERENTIAL
    ),
    "rate of change": lambda x, t, s, u: rate_of_change(x, t, s, suspect_per_s=1.0 * u),
    "gap": lambda x, t, s, u: gap(t, s, expected_s=1.0),
    "flat line by window": lambda x, t, s, u: flat_line(x, t, s, tolerance=1.5 * u, suspect_s=1.0, fail_s=2.0),
    "flat line by band": by_flat_band,
    "attenuated by range": lambda x, t, s, u: attenuated(
        x, t, s, window_s=2.5, suspect=2.0 * u, fail=1.0 * u, spread=Spread.RANGE
    ),
    "attenuated by standard deviation": lambda x, t, s, u: attenuated(x, t, s, window_s=2.5, suspect=u, fail=0.5 * u),
}
EVERY_TEST = pytest.mark.parametrize("test", TESTS.values(), ids=TESTS)


@EVERY_TEST
@settings(max_examples=30, deadline=None)
@given(s=streams(), data=st.data())
def test_the_other_datastreams_and_their_order_do_not_matter(test: Test, s: Streams, data: st.DataObject):
    flag = test(s.value, s.at, s.segments, 1.0)
    for start, end in zip(s.segments.start, s.segments.end, strict=True):
        alone = Segments.of(s.key[start:end])
        assert np.array_equal(test(s.value[start:end], s.at[start:end], alone, 1.0), flag[start:end])
    order = data.draw(st.permutations(range(len(s.segments.key))))
    rows = np.concatenate([np.arange(s.segments.start[k], s.segments.end[k]) for k in order])
    assert np.array_equal(test(s.value[rows], s.at[rows], Segments.of(s.key[rows]), 1.0), flag[rows])


@EVERY_TEST
@settings(max_examples=30, deadline=None)
@given(s=streams(), unit=st.sampled_from([0.25, 1024.0]), years=st.integers(-50, 200))
def test_units_and_the_date_do_not_matter(test: Test, s: Streams, unit: float, years: int):
    """Powers of two keep the arithmetic exact."""
    flag = test(s.value, s.at, s.segments, 1.0)
    later = s.at + years * 365 * 86_400 * NS_PER_S
    assert np.array_equal(test(s.value * unit, later, s.segments, unit), flag)


@EVERY_TEST
@settings(max_examples=30, deadline=None)
@given(s=streams())
def test_missing_is_missing_and_nothing_else_is(test: Test, s: Streams):
    flag = test(s.value, s.at, s.segments, 1.0)
    assert flag.dtype == np.uint8
    assert set(flag.tolist()) <= {GOOD, UNKNOWN, SUSPECT, FAIL, MISSING}
    if test is not TESTS["gap"]:
        assert np.array_equal(flag == MISSING, np.isnan(s.value))


@EVERY_TEST
@settings(max_examples=30, deadline=None)
@given(s=streams())
def test_nothing_that_was_given_is_changed(test: Test, s: Streams):
    value, at = s.value.copy(), s.at.copy()
    value.flags.writeable = at.flags.writeable = False
    test(value, at, s.segments, 1.0)


@EVERY_TEST
def test_no_readings(test: Test):
    nobody = Segments.of(np.empty(0, np.int32))
    assert test(np.empty(0), np.empty(0, np.int64), nobody, 1.0).tolist() == []


@EVERY_TEST
def test_it_can_say_something_bad_and_something_good(test: Test):
    value = np.array([2.0] * 12 + [9.0, 0.0, 9.0, 5.0, 0.0])
    at = np.append(np.arange(16), 30) * NS_PER_S
    flag = test(value, at, Segments.of(np.zeros(17, np.int32)), 1.0)
    assert GOOD in flag
    assert SUSPECT in flag or FAIL in flag
