"""The roll-up against the order of QARTOD, written out by hand: FAIL, SUSPECT, GOOD, UNKNOWN, MISSING."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.quality import FAIL, FLAG_NAMES, GOOD, MISSING, SUSPECT, UNKNOWN, roll_up

# (one test says, another says, the reading gets), from the order of qartod_compare in ioos_qc: 4 > 3 > 1 > 2 > 9.
TABLE = [
    (1, 1, 1),
    (1, 2, 1),
    (1, 3, 3),
    (1, 4, 4),
    (1, 9, 1),
    (2, 2, 2),
    (2, 3, 3),
    (2, 4, 4),
    (2, 9, 2),
    (3, 3, 3),
    (3, 4, 4),
    (3, 9, 3),
    (4, 4, 4),
    (4, 9, 4),
    (9, 9, 9),
]

FLAGS = st.sampled_from([1, 2, 3, 4, 9])


def u8(*flags: int) -> np.ndarray:
    return np.array(flags, dtype=np.uint8)


def test_the_numbers_are_those_of_qartod():
    assert (GOOD, UNKNOWN, SUSPECT, FAIL, MISSING) == (1, 2, 3, 4, 9)
    assert set(FLAG_NAMES) == {1, 2, 3, 4, 9}


@pytest.mark.parametrize(("one", "other", "expected"), TABLE)
def test_two_tests_of_one_reading(one, other, expected):
    assert roll_up(u8(one), u8(other)).tolist() == [expected]
    assert roll_up(u8(other), u8(one)).tolist() == [expected]


def test_the_table_has_every_pair():
    assert {(a, b) for a, b, _ in TABLE} == set(itertools.combinations_with_replacement([1, 2, 3, 4, 9], 2))


def test_one_test_alone_decides():
    flags = u8(1, 2, 3, 4, 9)
    result = roll_up(flags)
    assert result.tolist() == [1, 2, 3, 4, 9]
    assert result.dtype == np.uint8


def test_no_readings():
    assert roll_up(u8(), u8()).shape == (0,)


@given(st.lists(FLAGS, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_the_tests_does_not_matter(flags, random):
    shuffled = flags.copy()
    random.shuffle(shuffled)
    assert roll_up(*map(u8, flags)).tolist() == roll_up(*map(u8, shuffled)).tolist()


@given(FLAGS, FLAGS, FLAGS)
def test_rolling_up_in_two_steps_is_the_same(a, b, c):
    assert roll_up(roll_up(u8(a), u8(b)), u8(c)).tolist() == roll_up(u8(a), u8(b), u8(c)).tolist()
