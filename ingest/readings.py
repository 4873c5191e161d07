"""The columns that the payload formats fill while a batch is decoded, and the checks that are made on whole columns.

It leaves bytes to the formats, and topics and acknowledgements to the receiver.
"""

from __future__ import annotations

import bisect
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from ingest.dead_letters import KEPT_PAYLOAD_BYTES, DeadLetter, Reason
from ingest.settings import Limits
from telemetry.directory import Directory
from telemetry.observations import NS_PER_S, Observations
from telemetry.properties import PROPERTIES, conversion
from telemetry.quality import UNKNOWN

FIRST_NS, LAST_NS = -(2**63), 2**63 - 1
"""What an int64 of nanoseconds can say: the years 1677 to 2262."""


Fragment = tuple[Any, str | None]
"""One reading of a message that holds several: its JSON object, and its name where the object holds several values."""


class RefusedError(Exception):
    """Why a message or reading can't be used."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Readings:
    """The readings and dead letters of one batch, being collected.

    The receiver calls ``begin`` for each run of messages with the same time of reception, and sets ``message`` for each
    message; the formats append to the columns, or call ``add`` and ``refuse``.
    """

    def __init__(self, directory: Directory, limits: Limits) -> None:
        self.directory = directory
        self.index_of: Mapping[str, Mapping[str, int]] = directory.index_of
        self.datastream: list[int] = []
        self.observed_at: list[int] = []
        """[ns since 1970 UTC]; within int64."""
        self.value: list[float] = []
        """[unit of the property]"""
        self.origin: list[int] = []
        """Number of the message that each reading came in."""
        self.message = 0
        """Number of the message being decoded: its place in this batch."""
        self.received_at: int | None = None
        """Of the message being decoded. [ns since 1970 UTC]; None before the broker's clock has spoken."""
        self.dead_letters: list[DeadLetter] = []
        self._limits = limits
        self._topics: list[bytes] = []
        self._payloads: list[bytes] = []
        self._brokers: list[str] = []
        self._first_messages: list[int] = []
        self._runs: list[tuple[int, int | None, int | None]] = []
        self._fragments: dict[int, Fragment] = {}
        """By row, for readings that came together with others in one message."""

    def __len__(self) -> int:
        return len(self.datastream)

    def announce(self, broker: str, topics: list[bytes], payloads: list[bytes]) -> int:
        """Announce the next messages; returns the number of the first."""
        first = len(self._topics)
        self._brokers.append(broker)
        self._first_messages.append(first)
        self._topics += topics
        self._payloads += payloads
        return first

    def begin(self, received_at: int | None, now: int | None) -> None:
        """From here on messages were received at ``received_at`` and are judged by ``now``. [ns since 1970 UTC]"""
        self.received_at = received_at
        self._runs.append((len(self.datastream), received_at, now))

    def add(
        self,
        index: int,
        property_name: str,
        value: float,
        unit: str | None,
        observed_at: int | None,
        fragment: Fragment | None = None,
    ) -> None:
        """Take one reading of the datastream ``index``; ``observed_at`` None means the time of reception.

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
        if fragment is not None:
            self._fragments[len(self.datastream)] = fragment
        self.datastream.append(index)
        self.observed_at.append(observed_at)
        self.value.append(value)
        self.origin.append(self.message)

    def refuse(
        self, reason: Reason, detail: str, *, device: str | None = None, fragment: Fragment | None = None
    ) -> None:
        """Make a dead letter of the message being decoded or, if given, of ``fragment``, one of its readings."""
        self._refuse(self.message, reason, detail, self.received_at, device, fragment)

    def finish(self) -> Observations:
        """The readings that pass the checks of time and of finite values; the others become dead letters."""
        n = len(self.datastream)
        observed_at = np.array(self.observed_at, dtype=np.int64)
        value = np.array(self.value, dtype=np.float64)
        bounds = [*(first for first, _, _ in self._runs), n]
        lengths = np.diff(bounds)
        received_at = np.repeat(np.array([0 if r is None else r for _, r, _ in self._runs], dtype=np.int64), lengths)
        unknown = np.repeat(np.array([r is None for _, r, _ in self._runs], dtype=bool), lengths)
        np.copyto(received_at, observed_at, where=unknown)
        latest = np.repeat(np.array([self._latest(now) for _, _, now in self._runs], dtype=np.int64), lengths)
        oldest = np.repeat(np.array([self._oldest(now) for _, _, now in self._runs], dtype=np.int64), lengths)
        observations = Observations(
            datastream=np.array(self.datastream, dtype=np.int32),
            observed_at=observed_at,
            received_at=received_at,
            value=value,
            flag=np.full(n, UNKNOWN, dtype=np.uint8),
        )
        future, old, infinite = observed_at > latest, observed_at < oldest, ~np.isfinite(value)
        bad = future | old | infinite
        if not bad.any():
            return observations
        limits = self._limits
        for row in np.flatnonzero(bad).tolist():
            if infinite[row]:
                reason, detail = Reason.NOT_FINITE, "value is not finite in the unit of the property"
            elif future[row]:
                reason = Reason.TIME_IN_FUTURE
                now = int(latest[row]) - round(limits.max_future_s * NS_PER_S)
                ahead = (self.observed_at[row] - now) / NS_PER_S
                detail = (
                    f"time {iso(self.observed_at[row])} is {ahead:.0f} s ahead of {iso(now)}, "
                    f"at most {limits.max_future_s:g} s are allowed: check the clock of the device"
                )
            else:
                reason = Reason.TIME_TOO_OLD
                now = int(oldest[row]) + round(limits.max_age_s * NS_PER_S)
                age = (now - self.observed_at[row]) / NS_PER_S
                detail = (
                    f"time {iso(self.observed_at[row])} is {age:.0f} s before {iso(now)}, "
                    f"at most {limits.max_age_s:g} s are allowed"
                )
            device = self.directory.devices[self.directory.device_of[self.datastream[row]]].id
            self._refuse(self.origin[row], reason, detail, int(received_at[row]), device, self._fragments.get(row))
        return observations.take(~bad)

    def _latest(self, now: int | None) -> int:
        return LAST_NS if now is None else min(LAST_NS, now + round(self._limits.max_future_s * NS_PER_S))

    def _oldest(self, now: int | None) -> int:
        return FIRST_NS if now is None else max(FIRST_NS, now - round(self._limits.max_age_s * NS_PER_S))

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
        payload = self._payloads[message] if fragment is None else _render(fragment, self._payloads[message])
        self.dead_letters.append(
            DeadLetter(
                reason=reason,
                detail=detail,
                topic=topic,
                payload=payload if len(payload) <= KEPT_PAYLOAD_BYTES else payload[:KEPT_PAYLOAD_BYTES],
                broker=self._brokers[bisect.bisect_right(self._first_messages, message) - 1],
                received_at=received_at,
                device=topic.rpartition("/")[2] if device is None and topic.count("/") == 3 else device,
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
    scale, offset = factors
    return value if scale == 1 and offset == 0 else value * scale + offset


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
