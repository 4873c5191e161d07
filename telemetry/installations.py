"""Which device fed which datastream at which time, and how it was calibrated then, as arrays.

The Directory builds it from its installations and calibrations; ingest and the core ask it for whole batches.
Everything here speaks in indexes and nanoseconds: ids and their checks are the Directory's.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

BEGINNING_NS = -(2**63)
"""Start of an installation that has always been there."""
OPEN_NS = 2**63 - 1
"""End of an installation that goes on."""

Ints = npt.NDArray[np.int64]
Indexes = npt.NDArray[np.int32]


class OverlapError(ValueError):
    """Two installations claim the same feed, or the same datastream, at the same time."""

    def __init__(self, what: str, first: int, second: int) -> None:
        super().__init__(f"installations {first} and {second} overlap")
        self.what = what
        """"feed" or "datastream": what both claim."""
        self.first, self.second = first, second
        """Their rows as they were given."""


@dataclass(frozen=True, slots=True, eq=False)
class Installed:
    """All installations as rows, ordered by feed and time.

    A *feed* is a device and a property: what a message names. Feeds are numbered so that the one that feeds datastream
    ``i`` now has the number ``i``; former feeds come behind.
    """

    datastream: Indexes
    """(rows,)"""
    device: Indexes
    """(rows,)"""
    start: Ints
    """(rows,) first moment; BEGINNING_NS: always. [ns since 1970 UTC]"""
    end: Ints
    """(rows,) first moment after; OPEN_NS: goes on. [ns since 1970 UTC]"""
    feed: Indexes
    """(rows,)"""
    feed_begin: Indexes
    """(feeds,) first row of each feed."""
    feed_end: Indexes
    """(feeds,) one past its last row."""
    device_of: Indexes
    """(datastreams,) device installed now or, where there is none, last; -1 where there never was one."""
    swapped: npt.NDArray[np.bool_]
    """(datastreams,) whether more than one device has fed it."""
    of_stream: Indexes
    """(rows,) the rows ordered by datastream and time."""
    stream_begin: Indexes
    stream_end: Indexes
    """(datastreams,) where its rows begin and end in ``of_stream``."""
    always: bool
    """No installation begins or ends, and none was ever changed: row ``i`` is datastream ``i``."""
    calibration_begin: Indexes
    calibration_end: Indexes
    """(rows,) where its calibrations begin and end in the columns below; empty without any."""
    calibration_from: Ints
    """Valid from this moment on. [ns since 1970 UTC]"""
    scale: npt.NDArray[np.float64]
    offset: npt.NDArray[np.float64]
    """[unit of the property]"""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Installed):
            return NotImplemented
        return all(np.array_equal(getattr(self, f.name), getattr(other, f.name)) for f in fields(self))

    __hash__ = None  # type: ignore[assignment]

    def at(self, feed: Indexes, observed_at: Ints) -> npt.NDArray[np.intp]:
        """(n,) the row that covers each reading, or -1 where the device was not installed at that time."""
        if self.always:
            return feed.astype(np.intp)
        row = self.feed_end[feed].astype(np.intp) - 1
        first = self.feed_begin[feed]
        found = row >= first
        early = found & (observed_at < self.start[row])
        while early.any():  # once for each installation that lies later: hardly ever more than one
            row -= early
            found &= row >= first
            early &= found & (observed_at < self.start[row])
        return np.where(found & (observed_at < self.end[row]), row, -1)

    def device_at(self, datastream: Indexes, observed_at: Ints) -> Indexes:
        """(n,) the device that fed each datastream at each time; where none did, the one before, else the first."""
        device: Indexes = self.device_of[datastream]
        if self.always or not self.swapped[datastream].any():
            return device
        which = np.flatnonzero(self.swapped[datastream])
        stream, at = datastream[which], observed_at[which]
        place = self.stream_end[stream].astype(np.intp) - 1
        first = self.stream_begin[stream]
        early = (place > first) & (at < self.start[self.of_stream[place]])
        while early.any():
            place -= early
            early &= (place > first) & (at < self.start[self.of_stream[place]])
        device[which] = self.device[self.of_stream[place]]
        return device

    def calibrated(
        self, row: npt.NDArray[np.intp], observed_at: Ints, value: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        """(n,) values after the calibration in force at the time of observation; before the first one as they came.

        Parameters
        ----------
        row : (n,) int array
            From ``at``; -1 is left as it is.
        observed_at : (n,) int array
            [ns since 1970 UTC]
        value : (n,) float array
            [unit of the property]
        """
        if not self.calibration_from.size:
            return value
        which = np.flatnonzero((row >= 0) & (self.calibration_end[row] > self.calibration_begin[row]))
        if not which.size:
            return value
        at, first = observed_at[which], self.calibration_begin[row[which]]
        place = self.calibration_end[row[which]].astype(np.intp) - 1
        early = at < self.calibration_from[place]
        while early.any():
            place -= early
            early &= (place >= first) & (at < self.calibration_from[place])
        in_force = place >= first
        which, place = which[in_force], place[in_force]
        value = value.copy()
        with np.errstate(over="ignore", invalid="ignore"):
            value[which] = value[which] * self.scale[place] + self.offset[place]
        return value


def build(
    device: Indexes,
    datastream: Indexes,
    start: Ints,
    end: Ints,
    property_of: Indexes,
    calibrations: tuple[Indexes, Indexes, Ints, npt.NDArray[np.float64], npt.NDArray[np.float64]],
) -> Installed:
    """Order installations, number their feeds, and put the calibrations to them.

    Parameters
    ----------
    device, datastream, start, end : (rows,) arrays
        The installations, in any order.
    property_of : (datastreams,) int array
        Number of each datastream's property.
    calibrations : (device, datastream, valid from, scale, offset) arrays
        In any order; those of a pair that is not installed are of no effect.

    Raises
    ------
    OverlapError
        Two of them claim the same device and property, or the same datastream, at the same time.
    """
    streams = property_of.shape[0]
    pair = device.astype(np.int64) * 65_536 + property_of[datastream]
    newest_of_stream = np.full(streams, -1, dtype=np.int64)
    by_stream = _in_time(datastream.astype(np.int64), start, end, "datastream")
    newest_of_stream[datastream[by_stream]] = by_stream  # the last one stays
    by_pair = _in_time(pair, start, end, "feed")
    pairs, inverse = np.unique(pair, return_inverse=True)
    newest_of_pair = np.full(pairs.size, -1, dtype=np.int64)
    newest_of_pair[inverse[by_pair]] = by_pair
    feed_of_pair = datastream[newest_of_pair].astype(np.int32) if pairs.size else np.empty(0, dtype=np.int32)
    former = pair[newest_of_stream[feed_of_pair]] != pairs
    feed_of_pair[former] = streams + np.arange(int(former.sum()), dtype=np.int32)
    feed = feed_of_pair[inverse]
    order = np.lexsort((start, feed))
    device, datastream, start, end, feed = device[order], datastream[order], start[order], end[order], feed[order]
    feeds = np.arange(streams + int(former.sum()))
    of_stream = np.lexsort((start, datastream))
    stream_begin = np.searchsorted(datastream[of_stream], np.arange(streams), side="left")
    stream_end = np.searchsorted(datastream[of_stream], np.arange(streams), side="right")
    has = stream_end > stream_begin
    device_of = np.full(streams, -1, dtype=np.int32)
    device_of[has] = device[of_stream[stream_end[has] - 1]]
    swapped = np.zeros(streams, dtype=np.bool_)
    swapped[datastream[device != device_of[datastream]]] = True
    calibration_begin, calibration_end, columns = _calibrations(device, datastream, streams, calibrations)
    return Installed(
        datastream=_fixed(datastream, np.int32),
        device=_fixed(device, np.int32),
        start=_fixed(start, np.int64),
        end=_fixed(end, np.int64),
        feed=_fixed(feed, np.int32),
        feed_begin=_fixed(np.searchsorted(feed, feeds, side="left"), np.int32),
        feed_end=_fixed(np.searchsorted(feed, feeds, side="right"), np.int32),
        device_of=_fixed(device_of, np.int32),
        swapped=_fixed(swapped, np.bool_),
        of_stream=_fixed(of_stream, np.int32),
        stream_begin=_fixed(stream_begin, np.int32),
        stream_end=_fixed(stream_end, np.int32),
        always=bool(
            datastream.size == streams
            and (datastream == np.arange(streams)).all()
            and (start == BEGINNING_NS).all()
            and (end == OPEN_NS).all()
        ),
        calibration_begin=calibration_begin,
        calibration_end=calibration_end,
        calibration_from=_fixed(columns[0], np.int64),
        scale=_fixed(columns[1], np.float64),
        offset=_fixed(columns[2], np.float64),
    )


def _in_time(key: Ints, start: Ints, end: Ints, what: str) -> npt.NDArray[np.intp]:
    """The rows ordered by key and time; raises where two rows of a key overlap."""
    order = np.lexsort((start, key))
    clash = (key[order][1:] == key[order][:-1]) & (start[order][1:] < end[order][:-1])
    if clash.any():
        where = int(np.flatnonzero(clash)[0])
        raise OverlapError(what, *sorted((int(order[where]), int(order[where + 1]))))
    return order


def _calibrations(
    device: Indexes,
    datastream: Indexes,
    streams: int,
    calibrations: tuple[Indexes, Indexes, Ints, npt.NDArray[np.float64], npt.NDArray[np.float64]],
) -> tuple[Indexes, Indexes, tuple[Ints, npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    of_device, of_stream, valid_from, scale, offset = calibrations
    if not valid_from.size:
        none: Indexes = np.empty(0, dtype=np.int32)
        return none, none, (valid_from, scale, offset)
    key = of_device.astype(np.int64) * max(streams, 1) + of_stream
    order = np.lexsort((valid_from, key))
    wanted = device.astype(np.int64) * max(streams, 1) + datastream
    begin = np.searchsorted(key[order], wanted, side="left")
    end = np.searchsorted(key[order], wanted, side="right")
    return (
        _fixed(begin, np.int32),
        _fixed(end, np.int32),
        (valid_from[order], scale[order], offset[order]),
    )


def _fixed(array: npt.NDArray[Any], dtype: type[np.generic]) -> npt.NDArray[Any]:
    array = np.ascontiguousarray(array, dtype=dtype)
    array.setflags(write=False)
    return array
