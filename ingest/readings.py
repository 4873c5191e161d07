"""The columns that the payload formats fill while a batch is decoded, and the checks that are made on whole columns.

It leaves bytes to the formats, and topics and acknowledgements to the receiver.
"""

from __future__ import annotations

import bisect
import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ingest.clocks import cause, corrected
from ingest.dead_letters import KEPT_PAYLOAD_BYTES, DeadLetter, Reason
from ingest.settings import Limits
from telemetry.brokers import UNKNOWN_BROKER
from telemetry.directory import Directory
from telemetry.installations import BEGINNING_NS, OPEN_NS
from telemetry.observations import NS_PER_S, TAKEN_AGAIN, TIME_OF_RECEPTION, Observations
from telemetry.presence import Presence
from telemetry.properties import PROPERTIES, conversion
from telemetry.quality import UNKNOWN

FIRST_NS, LAST_NS = -(2**63), 2**63 - 1
"""What an int64 of nanoseconds can say: the years 1677 to 2262."""


Fragment = tuple[Any, str | None]
"""One reading of a message that holds several: its JSON object, and its name where the object holds several values."""


class _Block(NamedTuple):
    """Readings as columns."""

    feed: npt.NDArray[np.int32]
    observed_at: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]
    origin: npt.NDArray[np.int64]


class _Run(NamedTuple):
    """Readings of the messages from number ``first`` on, up to the next run, were received together."""

    first: int
    received_at: int | None
    now: int | None
    broker: int


class RefusedError(Exception):
    """Why a message or reading can't be used."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Readings:
    """The readings and dead letters of one batch, being collected.

    The receiver calls ``begin`` for each run of messages with the same time of reception, and sets ``message`` for each
    message; the formats call ``add`` and ``refuse``, or ``add_columns`` for many readings at once.
    """

    def __init__(self, directory: Directory, limits: Limits, *, again: bool = False) -> None:
        self.again = again
        """Whether these are dead letters that are taken again."""
        self.directory = directory
        self.feed_of: Mapping[str, Mapping[str, int]] = directory.feed_of
        self._blocks: list[_Block] = []
        self._rows = 0
        """In the blocks; behind them come, one by one:"""
        self._feed: list[int] = []
        self._observed_at: list[int] = []
        self._value: list[float] = []
        self._origin: list[int] = []
        self.message = 0
        """Number of the message being decoded: its place in this batch."""
        self.received_at: int | None = None
        """Of the message being decoded. [ns since 1970 UTC]; None before the broker's clock has spoken."""
        self.dead_letters: list[DeadLetter] = []
        self.refused_of: list[int] = []
        """Number of the message that each of ``dead_letters`` came in."""
        self.presences: list[Presence] = []
        """Births and deaths, as devices or their gateways tell them."""
        self.requests: list[tuple[int, str, bytes]] = []
        """(number of the message, topic, payload): to be published at the broker that the message came from."""
        self.without_readings = 0
        """Messages that rightly hold none."""
        self._formats: dict[int, str] = {}
        """By message, where it is not Pantau JSON on a topic of Pantau's."""
        self._sought: dict[int, str] = {}
        """By message, the name by which no device is registered."""
        self._limits = limits
        self.max_payload_bytes = limits.max_payload_bytes
        self._rules = directory.clock_rule
        self._topics: list[bytes] = []
        self._payloads: list[bytes] = []
        self._brokers: list[str] = []
        self._broker = UNKNOWN_BROKER
        self._first_messages: list[int] = []
        self._runs: list[_Run] = []
        self._timeless: list[int] = []
        """Rows for which the time of reception stands in."""
        self._network_timed: list[int] = []
        """Rows whose time no clock of the device has told."""
        self._fragments: dict[int, Fragment] = {}
        """By row, for readings that came together with others in one message."""
        self._several: list[tuple[int, int, Callable[[bytes], list[Fragment]]]] = []
        """(first row, one past the last, how to find the fragments) of messages that were taken whole."""
        self._opened: tuple[int, list[Fragment]] = (-1, [])
        """First row and fragments of the latest of them that had to be opened again."""

    def __len__(self) -> int:
        return self._rows + len(self._feed)

    @property
    def feed(self) -> list[int]:
        """Of each reading so far."""
        return self._columns().feed.tolist()  # type: ignore[no-any-return]

    @property
    def observed_at(self) -> list[int]:
        """Of each reading so far. [ns since 1970 UTC]"""
        return self._columns().observed_at.tolist()  # type: ignore[no-any-return]

    @property
    def value(self) -> list[float]:
        """Of each reading so far. [unit of the property]"""
        return self._columns().value.tolist()  # type: ignore[no-any-return]

    @property
    def origin(self) -> list[int]:
        """Number of the message that each reading so far came in."""
        return self._columns().origin.tolist()  # type: ignore[no-any-return]

    def _columns(self) -> _Block:
        """All readings so far."""
        if self._feed or not self._blocks:
            self._close_block()
        if len(self._blocks) > 1:
            self._blocks = [_Block(*(np.concatenate(columns) for columns in zip(*self._blocks, strict=True)))]
        return self._blocks[0]

    def _close_block(self) -> None:
        """Turn what came one by one into columns."""
        block = _Block(
            np.array(self._feed, dtype=np.int32),
            np.array(self._observed_at, dtype=np.int64),
            np.array(self._value, dtype=np.float64),
            np.array(self._origin, dtype=np.int64),
        )
        self._rows += len(self._feed)
        self._blocks.append(block)
        self._feed, self._observed_at, self._value, self._origin = [], [], [], []

    def announce(
        self, broker: str, topics: list[bytes], payloads: list[bytes], broker_number: int = UNKNOWN_BROKER
    ) -> int:
        """Announce the next messages, which came through this broker; returns the number of the first."""
        first = len(self._topics)
        self._broker = broker_number
        self._brokers.append(broker)
        self._first_messages.append(first)
        self._topics += topics
        self._payloads += payloads
        return first

    def begin(self, received_at: int | None, now: int | None, first: int | None = None) -> None:
        """Messages from number ``first`` on (``message``) were received at ``received_at`` and are judged by ``now``.

        Until the next one; of two from the same number on the later counts. [ns since 1970 UTC]
        """
        self.received_at = received_at
        self._runs.append(_Run(self.message if first is None else first, received_at, now, self._broker))

    def read_as(self, format_name: str) -> None:
        """The message being decoded came on a feed, in this format."""
        self._formats[self.message] = format_name

    def may_speak_for(self, device: str) -> bool:
        """Whether the message being decoded may hold readings of this device: its own, or from a gateway.

        Whoever publishes on the topics of a feed is a gateway by configuration.
        """
        if self.message in self._formats:
            return True
        sender = self._topics[self.message].rpartition(b"/")[2].decode("utf-8", "backslashreplace")
        return device == sender or sender in self.directory.gateways

    def find(self, name: str) -> tuple[str, Mapping[str, int]]:
        """(id, feeds by property) of the device with this id or other name; see ``Directory.device_called``.

        Raises
        ------
        RefusedError
            There is no such device, or several have this name.
        """
        feeds = self.feed_of.get(name)
        if feeds is not None:
            return name, feeds
        device = self.directory.device_called(name)
        if device is None:
            self._sought[self.message] = name
            raise RefusedError(Reason.UNKNOWN_DEVICE, f"no device is registered by the name {short(name)}")
        return device, self.feed_of[device]

    def nothing(self) -> None:
        """The message being decoded rightly holds no reading."""
        self.without_readings += 1

    def presence(self, device: str, alive: bool, at_ns: int | None) -> None:
        """It is told that the device (an id) is there, or that it is not, from ``at_ns`` on. [ns since 1970 UTC]

        None: from now on.
        """
        at = self.received_at if at_ns is None else at_ns
        if at is not None:
            self.presences.append(Presence(self.directory.device_index[device], alive, at))

    def request(self, topic: str, payload: bytes) -> None:
        """Have this published, at QoS 0, at the broker that the message being decoded came from."""
        self.requests.append((self.message, topic, payload))

    def add(
        self,
        index: int,
        property_name: str,
        value: float,
        unit: str | None,
        observed_at: int | None,
        fragment: Fragment | None = None,
        *,
        own_clock: bool = True,
    ) -> None:
        """Take one reading of the feed ``index``; ``observed_at`` None means the time of reception.

        ``own_clock`` False: the time is a network server's, so that the rule for the device's clock is not for it.

        Raises
        ------
        RefusedError
            The unit can't be converted, or there is no time.
        """
        if unit is not None:
            value = convert(property_name, value, unit)
        if observed_at is None:
            observed_at = self.received_at
            if observed_at is None:
                raise RefusedError(
                    Reason.NO_TIME, "time is missing, and the broker's clock, which would stand in, has not spoken yet"
                )
            self._timeless.append(len(self))
        elif not own_clock and self._rules is not None:
            self._network_timed.append(len(self))
        if fragment is not None:
            self._fragments[len(self)] = fragment
        self._feed.append(index)
        self._observed_at.append(observed_at)
        self._value.append(value)
        self._origin.append(self.message)

    def add_columns(
        self,
        feeds: npt.NDArray[np.int32],
        observed_at: npt.NDArray[np.int64] | None,
        values: npt.NDArray[np.float64],
        first: int,
        counts: list[int] | None = None,
        fragments_of: Callable[[bytes], list[Fragment]] | None = None,
    ) -> None:
        """Take the readings of the messages ``first``, ``first + 1``, ..., in the units of the properties.

        Parameters
        ----------
        feeds, observed_at, values : (n,) arrays
            ``observed_at`` None: the time of reception, which must be known.
        first : int
        counts : list of int, optional
            How many readings each message holds; one each if not given.
        fragments_of : function, optional
            Asked with the payload of a message of several where some of them turn out to be refused.
        """
        n = feeds.shape[0]
        if self._feed:
            self._close_block()
        if observed_at is None:
            observed_at = np.full(n, self.received_at, dtype=np.int64)
            self._timeless += range(self._rows, self._rows + n)
        if counts is None:
            origin = np.arange(first, first + n)
        else:
            origin = np.repeat(np.arange(first, first + len(counts)), counts)
            if fragments_of is not None:
                ends = itertools.accumulate(counts, initial=self._rows)
                self._several += [(a, b, fragments_of) for a, b in itertools.pairwise(ends) if b - a > 1]
        self._blocks.append(_Block(feeds, observed_at, values, origin))
        self._rows += n

    def add_several(
        self,
        feeds: list[int],
        observed_at: list[int],
        values: list[float],
        fragments_of: Callable[[bytes], list[Fragment]],
        *,
        at_reception: Iterable[int] = (),
        not_own_clock: Iterable[int] = (),
    ) -> None:
        """Take all readings of the message being decoded, in the units of their properties.

        ``fragments_of`` is asked with the payload where some of them turn out to be refused. The places of those whose
        time is that of reception, and of those whose time is not by the device's clock, are told where there are such.
        """
        first = len(self)
        self._timeless += [first + place for place in at_reception]
        if self._rules is not None:
            self._network_timed += [first + place for place in not_own_clock]
        self._several.append((first, first + len(feeds), fragments_of))
        self._feed += feeds
        self._observed_at += observed_at
        self._value += values
        self._origin += [self.message] * len(feeds)

    def refuse(
        self, reason: Reason, detail: str, *, device: str | None = None, fragment: Fragment | None = None
    ) -> None:
        """Make a dead letter of the message being decoded or, if given, of ``fragment``, one of its readings."""
        self._refuse(self.message, reason, detail, self.received_at, device, fragment)

    def finish(self) -> Observations:
        """The readings that pass the checks of time, of finite values and of installation, after calibration.

        The others become dead letters.
        """
        feed, observed_at, raw_value, origin = self._columns()
        n = feed.shape[0]
        runs = sorted(self._runs, key=lambda run: run.first)
        lengths = np.diff([*np.searchsorted(origin, [run.first for run in runs]), n])

        def column(of_run: Callable[[_Run], int], dtype: type[np.generic] = np.int64) -> npt.NDArray[Any]:
            return np.repeat(np.array([of_run(run) for run in runs], dtype=dtype), lengths)

        received_at = column(lambda run: 0 if run.received_at is None else run.received_at)
        np.copyto(received_at, observed_at, where=column(lambda run: run.received_at is None, np.bool_))
        if self._timeless and len(runs) > 1:  # readings that were taken together need not have come together
            observed_at[self._timeless] = received_at[self._timeless]
        latest, oldest = column(lambda run: self._latest(run.now)), column(lambda run: self._oldest(run.now))
        installed = self.directory.installed
        observed_at, remark = self._by_rule(feed, observed_at, received_at)
        row = installed.at(feed, observed_at)
        value = installed.calibrated(row, observed_at, raw_value)
        observations = Observations(
            datastream=installed.datastream[row] if n else feed,
            observed_at=observed_at,
            received_at=received_at,
            value=value,
            flag=np.full(n, UNKNOWN, dtype=np.uint8),
            broker=column(lambda run: run.broker, np.uint8),
            remark=remark,
        )
        future, old, infinite, nowhere = observed_at > latest, observed_at < oldest, ~np.isfinite(value), row < 0
        bad = future | old | infinite | nowhere
        if not bad.any():
            return observations
        limits, offset_h = self._limits, self.directory.utc_offset_h
        for i in np.flatnonzero(bad).tolist():
            at = int(observed_at[i])
            if infinite[i]:
                reason, detail = Reason.NOT_FINITE, "value is not finite in the unit of the property"
            elif future[i]:
                now = int(latest[i]) - round(limits.max_future_s * NS_PER_S)
                off_s = (at - now) / NS_PER_S
                reason, why = cause(off_s, at, now, offset_h)
                detail = (
                    f"time {iso(at)} is {off_s:.0f} s ahead of {iso(now)}, "
                    f"at most {limits.max_future_s:g} s are allowed: {why}"
                )
            elif old[i]:
                now = int(oldest[i]) + round(limits.max_age_s * NS_PER_S)
                off_s = (at - now) / NS_PER_S
                reason, why = cause(off_s, at, now, offset_h)
                detail = (
                    f"time {iso(at)} is {-off_s:.0f} s before {iso(now)}, "
                    f"at most {limits.max_age_s:g} s are allowed: {why}"
                )
            else:
                reason, detail = Reason.NOT_INSTALLED, self._not_installed(int(feed[i]), at)
            device = self.directory.devices[installed.device[installed.feed_end[feed[i]] - 1]].id
            self._refuse(int(origin[i]), reason, detail, int(received_at[i]), device, self._fragment_of(i))
        return observations.take(~bad)

    def _fragment_of(self, row: int) -> Fragment | None:
        if row in self._fragments or not self._several:
            return self._fragments.get(row)
        place = bisect.bisect_right(self._several, row, key=lambda several: several[0]) - 1
        first, end, fragments_of = self._several[place]
        if place < 0 or row >= end:
            return None
        if self._opened[0] != first:  # rows come in order, so that each message is opened once
            self._opened = (first, fragments_of(self._payloads[self._columns().origin[row]]))
        return self._opened[1][row - first]

    def _by_rule(
        self, feed: npt.NDArray[np.int32], observed_at: npt.NDArray[np.int64], received_at: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
        """The times of observation by the rules stated for the devices' clocks, and the remarks on the readings."""
        if self._rules is None and not self._timeless and not self.again:
            return observed_at, np.broadcast_to(np.uint8(0), observed_at.shape)
        remark = np.full(observed_at.shape, TAKEN_AGAIN if self.again else 0, dtype=np.uint8)
        stands_in = np.zeros(observed_at.shape, dtype=np.bool_)
        stands_in[self._timeless] = True
        if self._rules is not None:
            installed = self.directory.installed
            rule = self._rules[installed.device[installed.feed_end[feed] - 1]]
            rule[stands_in] = 0
            rule[self._network_timed] = 0
            observed_at, of_rule = corrected(observed_at, received_at, rule, self.directory.utc_offset_h)
            remark |= of_rule
        remark[stands_in] |= TIME_OF_RECEPTION
        return observed_at, remark

    def _not_installed(self, feed: int, observed_at: int) -> str:
        """A sentence that names the time and the installations nearest to it."""
        installed = self.directory.installed
        rows = list(range(int(installed.feed_begin[feed]), int(installed.feed_end[feed])))
        before = [r for r in rows if int(installed.end[r]) <= observed_at][-1:]
        after = [r for r in rows if int(installed.start[r]) > observed_at][:1]
        stream = self.directory.datastreams[int(installed.datastream[rows[0]])]
        spans = []
        for r in before + after:
            start, end = int(installed.start[r]), int(installed.end[r])
            since = "always" if start == BEGINNING_NS else f"from {iso(start)}"
            until = "" if end == OPEN_NS else f" until {iso(end)}"
            spans.append(f"{since}{until} ({self.directory.datastreams[int(installed.datastream[r])].id})")
        name = self.directory.devices[int(installed.device[rows[0]])].id
        return (
            f"device {short(name)} was not installed for {stream.property} at {iso(observed_at)}; "
            f"it was {' and '.join(spans)}"
        )

    def _latest(self, now: int | None) -> int:
        return LAST_NS if now is None else min(LAST_NS, now + round(self._limits.max_future_s * NS_PER_S))

    def _oldest(self, now: int | None) -> int:
        return FIRST_NS if now is None else max(FIRST_NS, now - round(self._limits.max_age_s * NS_PER_S))

    def broker_of(self, message: int) -> str:
        """Name of the broker that the message with this number came from."""
        return self._brokers[bisect.bisect_right(self._first_messages, message) - 1]

    def _refuse(
        self,
        message: int,
        reason: Reason,
        detail: str,
        received_at: int | None,
        device: str | None,
        fragment: Fragment | None,
    ) -> None:
        topic = self._topics[message].decode("utf-8", "backslashreplace")
        whole = self._payloads[message]
        payload = whole if fragment is None else _render(fragment, whole)
        if device is None and reason is Reason.UNKNOWN_DEVICE:
            device = self._sought.get(message)
        self.refused_of.append(message)
        self.dead_letters.append(
            DeadLetter(
                reason=reason,
                detail=detail,
                topic=topic,
                payload=payload if len(payload) <= KEPT_PAYLOAD_BYTES else payload[:KEPT_PAYLOAD_BYTES],
                broker=self.broker_of(message),
                received_at=received_at,
                format="pantau_json" if fragment is not None else self._formats.get(message, "pantau_json"),
                device=topic.rpartition("/")[2] if device is None and topic.count("/") == 3 else device,
                fragment=payload is not whole,
                truncated=len(payload) > KEPT_PAYLOAD_BYTES or reason is Reason.PAYLOAD_TOO_LARGE,
            )
        )


def convert(property_name: str, value: float, unit: str) -> float:
    """``value`` in the property's own unit.

    Raises
    ------
    RefusedError
        The unit can't be converted.

    Examples
    --------
    >>> convert("water_level_m", 125.0, "cm")
    1.25
    """
    scale, offset = factors_of(property_name, unit)
    return value if scale == 1 and offset == 0 else value * scale + offset


def factors_of(property_name: str, unit: str) -> tuple[float, float]:
    """(scale, offset): a value in ``unit`` times scale plus offset is in the property's own unit.

    Raises
    ------
    RefusedError
        The unit can't be converted.
    """
    factors = _conversions.get((property_name, unit))
    if factors is None:
        factors = conversion(property_name, unit)
        if factors is None:
            raise RefusedError(
                Reason.WRONG_UNIT,
                f"unit {short(unit)} can't be turned into {PROPERTIES[property_name].unit} ({property_name}); "
                f"known are {', '.join(PROPERTIES[property_name].conversions)}",
            )
        if len(_conversions) < 10_000:
            _conversions[property_name, unit] = factors
    return factors


_conversions: dict[tuple[str, str], tuple[float, float]] = {}


def iso(time_ns: int) -> str:
    """A time for people. [ns since 1970 UTC]

    Examples
    --------
    >>> iso(1_732_447_931_500_000_000)
    '2024-11-24T11:32:11.500Z'
    """
    return f"{np.datetime64(time_ns, 'ns').astype('datetime64[ms]')}Z"


def _render(fragment: Fragment, message: bytes) -> bytes:
    item, name = fragment
    if name is not None:
        units = item.get("units")
        item = {key: item[key] for key in ("device", "time") if key in item} | {
            "property": name,
            "value": item["values"][name],
            "unit": units.get(name) if isinstance(units, dict) else units,
        }
    try:
        return json.dumps(item).encode()
    except (ValueError, RecursionError):  # numbers of thousands of digits, thousands of brackets
        return message


def short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


def kind(value: object) -> str:
    """What came, for a sentence."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the string {short(value)}"
    if isinstance(value, float):
        return f"the number {value!r}"
    if isinstance(value, int):
        return f"the number {value}" if abs(value) < 10**40 else "a huge number"
    return "a list" if isinstance(value, list) else "an object"
