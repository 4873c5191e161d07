"""Columns of readings stay together, row by row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.observations import Observations
from telemetry.quality import UNKNOWN
from telemetry.results import Transitions, Windows

COLUMNS = ("datastream", "observed_at", "received_at", "value", "flag")

ROWS = st.lists(
    st.tuples(
        st.integers(0, 2**31 - 1),
        st.integers(-(2**63), 2**63 - 1),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=True),
        st.sampled_from([1, 2, 3, 4, 9]),
    ),
    max_size=20,
)


def columns(rows: list[tuple]) -> Observations:
    datastream, observed_at, received_at, value, flag = zip(*rows, strict=True) if rows else ((),) * 5
    return Observations(
        datastream=np.array(datastream, dtype=np.int32),
        observed_at=np.array(observed_at, dtype=np.int64),
        received_at=np.array(received_at, dtype=np.int64),
        value=np.array(value, dtype=np.float64),
        flag=np.array(flag, dtype=np.uint8),
    )


def rows_of(observations: Observations) -> list[tuple]:
    """As text, so that NaN equals NaN."""
    return [tuple(map(repr, row)) for row in zip(*(getattr(observations, c).tolist() for c in COLUMNS), strict=True)]


def assert_types(observations: Observations) -> None:
    types = [getattr(observations, c).dtype for c in COLUMNS]
    assert types == [np.int32, np.int64, np.int64, np.float64, np.uint8]


@given(st.lists(ROWS, max_size=4))
def test_concat_gives_all_rows_one_after_another(parts):
    whole = Observations.concat([columns(p) for p in parts])
    assert rows_of(whole) == [row for p in parts for row in rows_of(columns(p))]
    assert len(whole) == sum(map(len, parts))
    assert_types(whole)


@given(ROWS.filter(bool), st.data())
def test_take_gives_the_rows_asked_for_in_that_order(rows, data):
    observations = columns(rows)
    index = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=30))
    taken = observations.take(np.array(index, dtype=np.intp))
    assert rows_of(taken) == [rows_of(observations)[i] for i in index]
    assert_types(taken)


@given(ROWS, st.data())
def test_take_with_a_mask_splits_the_rows(rows, data):
    observations = columns(rows)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))), dtype=bool)
    both = Observations.concat([observations.take(mask), observations.take(~mask)])
    assert sorted(rows_of(both)) == sorted(rows_of(observations))


def test_of_fills_in_what_is_not_given():
    observations = Observations.of([3, 1], [10, 20], [1.5, float("nan")])
    assert observations.received_at.tolist() == [10, 20]
    assert observations.flag.tolist() == [UNKNOWN, UNKNOWN]
    assert_types(observations)
    assert Observations.of([3], [10], [1.5], received_at=[12]).received_at.tolist() == [12]


def test_empty_has_no_rows_but_the_right_types():
    for empty in (Observations.empty(), Observations.concat([])):
        assert len(empty) == 0
        assert_types(empty)


@pytest.mark.parametrize("short", [c for c in COLUMNS if c != "datastream"])
def test_columns_of_different_length_are_refused_by_name(short):
    parts = {c: getattr(columns([(1, 2, 3, 4.0, 1), (1, 3, 3, 4.0, 1)]), c) for c in COLUMNS}
    parts[short] = parts[short][:1]
    with pytest.raises(ValueError, match=rf"{short} must have the shape of datastream \(2,\), got \(1,\)"):
        Observations(**parts)


@pytest.mark.parametrize("table", [Windows, Transitions])
def test_results_are_columns_too(table):
    empty = table.empty()
    assert len(empty) == 0
    names = list(table.__dataclass_fields__)
    two = table(**{n: np.array([i, i + 100], dtype=getattr(empty, n).dtype) for i, n in enumerate(names)})
    four = table.concat([two, empty, two])
    assert len(four) == 4
    swapped = four.take(np.array([1, 0], dtype=np.intp))
    for i, n in enumerate(names):
        assert getattr(four, n).tolist() == [i, i + 100] * 2
        assert getattr(swapped, n).tolist() == [i + 100, i]
        assert getattr(swapped, n).dtype == getattr(empty, n).dtype
