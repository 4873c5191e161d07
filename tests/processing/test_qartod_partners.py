"""Multivariate and neighbour: hand-computed flags, a plain loop as the second implementation, laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processing.qartod import rate_of_change
from processing.qartod_partners import NOBODY, multivariate, neighbour
from processing.segments import Segments
from telemetry.observations import NS_PER_S
from telemetry.quality import FAIL, GOOD, MISSING, SUSPECT, UNKNOWN
from tests.processing.streams import Streams, streams

S = NS_PER_S
MINUTES = 60 * NS_PER_S


def partners(s: Streams) -> np.ndarray:
    """Each one's partner is the next; the last has none."""
    return np.append(s.segments.key[1:], NOBODY).astype(np.int32)


# --- multivariate


def test_a_jump_that_the_partner_shares_is_good_and_one_alone_is_suspect():
    segments = Segments.of(np.repeat(np.array([3, 8], np.int32), 4))
    stage = [0.5, 0.5, 2.0, 2.0]
    for discharge, expected in (([5.0, 5.0, 40.0, 41.0], GOOD), ([5.0, 5.0, 5.1, 5.0], SUSPECT)):
        value = np.array([*stage, *discharge])
        at = np.tile(np.arange(4) * MINUTES, 2)
        rate = rate_of_change(value, at, segments, suspect_per_s=np.array([0.01, 0.1]))
        flag = multivariate(rate, at, segments, partner=np.array([8, NOBODY], np.int32), longest_apart_s=60.0)
        assert flag.tolist() == [UNKNOWN, GOOD, expected, GOOD] + [UNKNOWN] * 4


def test_the_partners_verdict_may_not_be_too_old_or_of_later():
    segments = Segments.of(np.array([0, 1, 1], np.int32))
    partner = np.array([1, NOBODY], np.int32)
    rate = np.array([SUSPECT, GOOD, SUSPECT], np.uint8)
    at = np.array([100, 50, 101]) * S
    assert multivariate(rate, at, segments, partner=partner, longest_apart_s=50.0).tolist() == [SUSPECT, 2, 2]
    assert multivariate(rate, at, segments, partner=partner, longest_apart_s=49.0).tolist() == [UNKNOWN, 2, 2]
    assert multivariate(rate, at, segments, partner=partner, longest_apart_s=np.inf).tolist() == [SUSPECT, 2, 2]


def test_rows_without_a_verdict_are_passed_over():
    segments = Segments.of(np.array([0, 1, 1], np.int32))
    rate = np.array([SUSPECT, GOOD, MISSING], np.uint8)
    at = np.array([100, 50, 100]) * S
    flag = multivariate(rate, at, segments, partner=np.array([1, 0], np.int32), longest_apart_s=60.0)
    assert flag.tolist() == [SUSPECT, GOOD, MISSING]


@settings(deadline=None)
@given(streams(), st.sampled_from([0.0, 1.0, 2.0]), st.sampled_from([0.5, 5.0, np.inf]))
def test_multivariate_is_its_definition(s: Streams, limit: float, apart_s: float):
    rate = rate_of_change(s.value, s.at, s.segments, suspect_per_s=limit)
    expected = []
    for i in range(len(s.key)):
        other = [j for j in np.flatnonzero(s.key == s.key[i] + 1) if rate[j] in (GOOD, SUSPECT) and s.at[j] <= s.at[i]]
        if rate[i] in (UNKNOWN, MISSING):
            expected.append(int(rate[i]))
        elif s.key[i] == s.key[-1]:
            expected.append(UNKNOWN)
        elif rate[i] == GOOD:
            expected.append(GOOD)
        elif other and s.at[i] - s.at[other[-1]] <= apart_s * S:
            expected.append(GOOD if rate[other[-1]] == SUSPECT else SUSPECT)
        else:
            expected.append(UNKNOWN)
    flag = multivariate(rate, s.at, s.segments, partner=partners(s), longest_apart_s=apart_s)
    assert flag.tolist() == expected


# --- neighbour


def plain_neighbour(
    s: Streams, offset: np.ndarray, lag_s: np.ndarray, tolerance: float, apart_s: float, fewest: int
) -> np.ndarray:
    """Everybody is everybody else's neighbour."""
    keys = s.segments.key
    flags = []
    for i in range(len(s.key)):
        if np.isnan(s.value[i]):
            flags.append(MISSING)
            continue
        said = []
        for k, key in enumerate(keys):
            then = s.at[i] - round(lag_s[s.key[i], k] * S)
            heard = [j for j in np.flatnonzero(s.key == key) if s.at[j] <= then and not np.isnan(s.value[j])]
            if key != s.key[i] and heard and then - s.at[heard[-1]] <= apart_s * S:
                said.append(s.value[heard[-1]] + offset[s.key[i], k])
        if len(said) < fewest:
            flags.append(UNKNOWN)
        else:
            flags.append(SUSPECT if abs(s.value[i] - np.median(said)) > tolerance else GOOD)
    return np.array(flags, np.uint8)


@settings(max_examples=200, deadline=None)
@given(streams(), st.integers(1, 3), st.sampled_from([0.5, 1.0, 2.0]), st.sampled_from([1.0, 5.0, np.inf]), st.data())
def test_neighbour_is_its_definition(s: Streams, fewest: int, tolerance: float, apart_s: float, data: st.DataObject):
    n = len(s.segments.key)
    square = st.lists(st.lists(st.integers(0, 3), min_size=n, max_size=n), min_size=n, max_size=n)
    offset, lag_s = (np.array(data.draw(square), dtype=np.float64) for _ in range(2))
    everybody = np.tile(s.segments.key, (n, 1))
    np.fill_diagonal(everybody, NOBODY)
    flag = neighbour(
        s.value,
        s.at,
        s.segments,
        neighbours=everybody,
        offset=offset,
        lag_s=lag_s,
        tolerance=tolerance,
        longest_apart_s=apart_s,
        min_neighbours=fewest,
    )
    assert np.array_equal(flag, plain_neighbour(s, offset, lag_s, tolerance, apart_s, fewest))


def test_a_flood_wave_agrees_after_its_lag_and_not_without():
    minutes = np.arange(120)
    wave = 3 * np.exp(-(((minutes - 60) / 10) ** 2))
    upstream, downstream = wave, 0.4 + np.roll(wave, 20)
    segments = Segments.of(np.repeat(np.array([0, 1], np.int32), 120))
    flags = {
        lag_s: neighbour(
            np.concatenate([upstream, downstream]),
            np.tile(minutes * MINUTES, 2),
            segments,
            neighbours=np.array([[NOBODY], [0]], np.int32),
            offset=np.array([[0.0], [0.4]]),
            lag_s=np.array([[0.0], [lag_s]]),
            tolerance=0.3,
            longest_apart_s=60.0,
            min_neighbours=1,
        )[120:]
        for lag_s in (0.0, 1200.0)
    }
    assert np.all(flags[1200.0][:20] == UNKNOWN)
    assert np.all(flags[1200.0][20:] == GOOD)
    assert np.sum(flags[0.0] == SUSPECT) > 30


def test_one_wrong_neighbour_of_three_does_not_matter():
    value = np.array([1.0, 1.1, 0.9, 50.0])
    everybody = np.tile(np.arange(4, dtype=np.int32), (4, 1))
    np.fill_diagonal(everybody, NOBODY)
    flag = neighbour(
        value,
        np.zeros(4, np.int64),
        Segments.of(np.arange(4, dtype=np.int32)),
        neighbours=everybody,
        offset=np.zeros((4, 4)),
        lag_s=np.zeros((4, 4)),
        tolerance=0.5,
        longest_apart_s=60.0,
        min_neighbours=3,
    )
    assert flag.tolist() == [GOOD, GOOD, GOOD, SUSPECT]


@settings(deadline=None)
@given(streams())
def test_neither_ever_says_fail(s: Streams):
    n = len(s.segments.key)
    everybody = np.tile(s.segments.key, (n, 1))
    zeros = np.zeros((n, n))
    flag = neighbour(
        s.value,
        s.at,
        s.segments,
        neighbours=everybody,
        offset=zeros + 100,
        lag_s=zeros,
        tolerance=0.0,
        longest_apart_s=np.inf,
        min_neighbours=1,
    )
    assert not np.any(flag == FAIL)
    assert np.all((flag == SUSPECT) == np.isfinite(s.value))
    failed = np.full(s.at.shape, FAIL, np.uint8)
    assert not np.any(multivariate(failed, s.at, s.segments, partner=partners(s), longest_apart_s=1.0) == FAIL)


def test_what_can_not_be_asked():
    s = Segments.of(np.array([0, 1], np.int32))
    good = {
        "neighbours": np.array([[1], [0]], np.int32),
        "offset": np.zeros((2, 1)),
        "lag_s": np.zeros((2, 1)),
        "tolerance": 1.0,
        "longest_apart_s": 1.0,
    }
    with pytest.raises(ValueError, match="lag_s must not be negative"):
        neighbour(np.ones(2), np.zeros(2, np.int64), s, **{**good, "lag_s": -np.ones((2, 1))})
    with pytest.raises(ValueError, match=r"offset must have the shape \(segments, k\)"):
        neighbour(np.ones(2), np.zeros(2, np.int64), s, **{**good, "offset": np.zeros((2, 2))})
    with pytest.raises(ValueError, match="min_neighbours must be at least 1, got 0"):
        neighbour(np.ones(2), np.zeros(2, np.int64), s, **good, min_neighbours=0)
    with pytest.raises(ValueError, match="keys of segments must increase"):
        neighbour(np.ones(2), np.zeros(2, np.int64), Segments.of(np.array([1, 0], np.int32)), **good)
    with pytest.raises(ValueError, match="rate_flag must have the shape"):
        multivariate(np.ones(3, np.uint8), np.zeros(2, np.int64), s, partner=np.zeros(2, np.int32), longest_apart_s=1.0)
