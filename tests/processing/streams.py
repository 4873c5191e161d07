"""Datastreams for property tests, and their readings cut into batches at random."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from processing.qartod_rows import new_rows
from processing.segments import Segments
from telemetry.observations import NS_PER_S

Test = Callable[[np.ndarray, np.ndarray, Segments], np.ndarray]


def one(n: int) -> Segments:
    """All rows of one datastream."""
    return Segments.of(np.zeros(n, np.int32))


@dataclass(frozen=True)
class Streams:
    """Readings of several datastreams, sorted by datastream and time. Some values are NaN."""

    key: np.ndarray
    at: np.ndarray
    value: np.ndarray

    @property
    def segments(self) -> Segments:
        return Segments.of(self.key)


@st.composite
def streams(draw: st.DrawFn, most: int = 40) -> Streams:
    """Up to four datastreams with up to ``most`` readings; small whole values, often equal; quarters of seconds."""
    keys, times, values = [], [], []
    for key in range(draw(st.integers(1, 4))):
        n = draw(st.integers(1, most))
        steps = draw(st.lists(st.sampled_from([1, 2, 4, 4, 4, 8, 40]), min_size=n, max_size=n))
        level = st.one_of(st.integers(0, 4), st.just(2), st.just(2), st.none())
        values += [np.nan if v is None else float(v) for v in draw(st.lists(level, min_size=n, max_size=n))]
        times += list(np.cumsum(steps) * (NS_PER_S // 4))
        keys += [key] * n
    return Streams(np.array(keys, np.int32), np.array(times, np.int64), np.array(values))


@dataclass(frozen=True)
class Batches:
    """Readings, and the batch in which each arrives."""

    streams: Streams
    batch: np.ndarray

    def run(self, test: Test, history: int, late: int = 0, *, with_value: bool = False) -> np.ndarray:
        """The flags of ``test``, batch for batch, with the newest ``history`` rows of each datastream carried along.

        ``with_value``: rows without a value are not carried.
        """
        s, flag = self.streams, np.zeros(self.streams.at.shape, np.uint8)
        for number in range(int(self.batch.max()) + 1):
            rows, carried = [], []
            for key in np.unique(s.key[self.batch == number]):
                seen = np.flatnonzero((s.key == key) & (self.batch < number))
                old = seen[np.isfinite(s.value[seen])] if with_value else seen
                old = old[max(len(old) - history, 0) :]
                rows += [*old, *np.flatnonzero((s.key == key) & (self.batch == number))]
                carried.append(len(old))
            row = np.array(rows, dtype=np.intp)
            segments = Segments.of(s.key[row])
            new = new_rows(segments, np.array(carried), late)
            given_now = test(s.value[row], s.at[row], segments)
            assert not late or not np.any(flag[row[new]]), "a verdict is given once"
            flag[row[new]] = given_now[new]
        if late:
            last = test(s.value, s.at, s.segments)
            waiting = flag == 0
            assert np.array_equal(np.flatnonzero(waiting), s.segments.end - 1)
            flag[waiting] = last[waiting]
        return flag


@st.composite
def cut(draw: st.DrawFn, s: Streams) -> Batches:
    """Each datastream's readings arrive in order, a random number of them in each batch."""
    steps = draw(st.lists(st.sampled_from([0, 0, 0, 1, 2]), min_size=len(s.at), max_size=len(s.at)))
    batch = np.zeros(len(s.at), dtype=np.int64)
    for start, end in zip(s.segments.start, s.segments.end, strict=True):
        batch[start:end] = np.cumsum(steps[start:end])
    return Batches(s, batch)
