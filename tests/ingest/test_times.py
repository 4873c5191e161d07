"""Times of many readings at once are those of each alone, which ``test_pantau_json`` checks against references."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingest.formats.times import strings_ns, time_ns, times_ns
from ingest.readings import FIRST_NS, LAST_NS, RefusedError

DATES = st.one_of(
    st.just("2024-11-24"),
    st.dates(datetime.date(1600, 1, 1), datetime.date(2300, 1, 1)).map(str),
    st.sampled_from(["2024-02-30", "2024-13-01", "0000-01-01", "1678-01-01", "2261-12-31", "2024-1-011", "2024/11/24"]),
)
RFC_3339 = st.builds(
    "".join,
    st.tuples(
        DATES,
        st.sampled_from("TTTTt -"),
        st.one_of(
            st.times().map(lambda t: t.strftime("%H:%M:%S")),
            st.sampled_from(["23:59:60", "24:00:00", "12:60:00", "1:2:3"]),
        ),
        st.one_of(
            st.just(""),
            st.integers(0, 10**6).map(lambda n: f".{n:06d}"),
            st.text("0123456789x", max_size=12).map(".".__add__),
        ),
        st.sampled_from(["Z", "Z", "z", "", "+07:00", "-03:30", "+24:00", "+07:60", "+0700", "~07:00", "+٠7:00", "\0"]),
    ),
)
USUAL = st.builds(
    "2024-11-2{}T11:{:02d}:{:02d}.{:03d}Z".format,
    st.integers(0, 9),
    st.integers(0, 59),
    st.integers(0, 59),
    st.integers(0, 999),
)
WHOLE = st.one_of(
    st.integers(1_700_000_000, 1_800_000_000),
    st.integers(-(2**70), 2**70),
    st.sampled_from(
        [0, 10**11 - 1, 10**11, 10**14, 10**17, -(10**11), FIRST_NS, LAST_NS, LAST_NS + 1, 9_223_372_036, 9_223_372_037]
    ),
)
FRACTIONS = st.one_of(
    st.floats(1.7e9, 1.8e9),
    st.floats(1.7e12, 1.8e12),
    st.floats(),
    st.sampled_from([1e11, 9.223372036e9, 9.223372037e9, -1e14]),
)


def one_by_one(times: list[Any]) -> list[int] | None:
    try:
        return [time_ns(time) for time in times]
    except RefusedError:
        return None


def together(times: list[Any]) -> list[int] | None:
    try:
        return times_ns(times).tolist()  # type: ignore[no-any-return]
    except RefusedError:
        return None


@given(
    st.one_of(
        st.lists(USUAL, min_size=1, max_size=20),
        st.lists(RFC_3339, min_size=1, max_size=4),
        st.lists(WHOLE, min_size=1, max_size=5),
        st.lists(FRACTIONS, min_size=1, max_size=5),
        st.lists(st.one_of(RFC_3339, WHOLE, FRACTIONS, st.none(), st.booleans()), min_size=1, max_size=4),
    )
)
@example(
    [
        "2024-11-24T11:32:11Z",
        "2024-11-24T11:32:11.5Z",
        "2024-11-24T18:32:11+07:00",
        "2024-11-24T18:32:11.123456789012+07:00",
    ]
)
@example(["2024-11-24T11:32:11.12345Z", "2024-11-24T11:32:11+00:00"])  # equally long
@example(["2024-11-24T11:32:11Z", "2024-11-24T11:32:11Z\0"])
@example(["2024-11-24T11:32:11.Z"])
@example(["2261-12-31T23:59:60.999999999-23:59"])
@example(["1678-01-01T00:00:00+23:59"])
def test_many_times_at_once_are_those_of_each_alone(times: list[Any]) -> None:
    assert together(times) == one_by_one(times)


@pytest.mark.parametrize(
    "time",
    [
        "2024-11-24T11:32:11Z",
        "2024-11-24 11:32:11.25z",
        "2024-11-24t18:32:11+07:00",
        "2024-12-31T23:59:60.123456789Z",
        "1999-02-28T00:00:00.000001-11:30",
    ],
)
def test_usual_strings_take_the_way_of_the_many(time: str) -> None:
    found = strings_ns([time] * 3)
    assert found is not None and found.tolist() == [time_ns(time)] * 3
