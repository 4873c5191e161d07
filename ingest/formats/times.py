"""Times as payloads tell them: RFC 3339 strings, and Unix seconds, milliseconds, microseconds or nanoseconds.

One by one, with a reason where it is no time; or many at once, as most come, which leaves the others to the first.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ingest.readings import FIRST_NS, LAST_NS, RefusedError, kind, short
from ingest.refusals import Reason
from telemetry.observations import NS_PER_S


def time_ns(time: object, path: str = "$.time") -> int:
    """A time T as [ns since 1970 UTC], within int64.

    Numbers with a fraction are rounded to the microsecond, which is what float64 holds of a time of today.

    Parameters
    ----------
    time : int, float or str
        Anything else is refused.
    path : str
        Where it stood, for the sentence of a refusal.

    Raises
    ------
    RefusedError

    Examples
    --------
    >>> time_ns(1732447931), time_ns(1732447931.25), time_ns(1732447931250)
    (1732447931000000000, 1732447931250000000, 1732447931250000000)
    >>> time_ns("2024-11-24T18:32:11.25+07:00")
    1732447931250000000
    """
    if type(time) is str:
        head, tail = _heads.get(time[:16]), _tails.get(time[16:])
        return _string_ns(time, path) if head is None or tail is None else head + tail
    if type(time) is int:
        ns = time * _scale_of(abs(time))
    elif type(time) is float:
        if not math.isfinite(time):
            raise RefusedError(Reason.NOT_FINITE, f"{path} is not finite")
        magnitude = abs(time)
        if magnitude < 1e11:
            ns = round(time * 1e6) * 1000
        elif magnitude < 1e14:
            ns = round(time * 1e3) * 1000
        elif magnitude < 1e17:
            ns = round(time) * 1000
        else:
            ns = int(time)
    else:
        raise RefusedError(Reason.WRONG_TYPE, f"{path} must be a string or a number, got {kind(time)}")
    if ns > LAST_NS:
        raise RefusedError(Reason.TIME_IN_FUTURE, f"{path} is {kind(time)}: after the year 2261")
    if ns < FIRST_NS:
        raise RefusedError(Reason.TIME_TOO_OLD, f"{path} is {kind(time)}: before the year 1678")
    return ns


def _scale_of(size: int) -> int:
    """What a whole number that is a time counts. [ns]"""
    if size < 100_000_000_000:
        return NS_PER_S
    if size < 100_000_000_000_000:
        return 1_000_000
    return 1000 if size < 100_000_000_000_000_000 else 1


def _fractions_ns(times: Sequence[float]) -> npt.NDArray[np.int64] | None:
    """``time_ns`` of each number of seconds or milliseconds with a fraction; None if one is anything else."""
    number = np.array(times, dtype=np.float64)
    size = np.abs(number)
    in_s = size < LAST_NS / NS_PER_S - 1
    if not (in_s | ((size >= 1e11) & (size < LAST_NS / 1e6 - 1))).all():
        return None
    us: npt.NDArray[np.int64] = np.rint(number * np.where(in_s, 1e6, 1e3)).astype(np.int64)
    return us * 1000


def times_ns(times: Sequence[Any]) -> npt.NDArray[np.int64]:
    """``time_ns`` of each, at once where they are alike. Raises RefusedError."""
    kinds = set(map(type, times))
    found: npt.NDArray[np.int64] | None = None
    if kinds == {int}:
        found = _whole_ns(times)
    elif kinds == {str}:
        known = dict.fromkeys(times)
        if len(known) * 4 > len(times):
            found = strings_ns(times)
        else:
            known = {time: time_ns(time) for time in known}
            found = np.array([known[time] for time in times], dtype=np.int64)
    elif kinds == {float}:
        found = _fractions_ns(times)
    return np.array([time_ns(time) for time in times], dtype=np.int64) if found is None else found


def _whole_ns(times: Sequence[int]) -> npt.NDArray[np.int64] | None:
    """``time_ns`` of each whole number; None if one is outside of int64."""
    try:
        number = np.array(times, dtype=np.int64)
    except OverflowError:
        return None
    first, last = int(number.min()), int(number.max())
    scale = _scale_of(last)
    if first >= 0 and scale == _scale_of(first):
        return number * scale if last <= LAST_NS // scale else None
    if first == FIRST_NS:  # it has no absolute value
        return None
    size = np.abs(number)
    scales = np.select([size < 10**11, size < 10**14, size < 10**17], [NS_PER_S, 1_000_000, 1000], 1)
    return number * scales if (size <= LAST_NS // scales).all() else None


_HEAD = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d)", re.ASCII)
_TAIL = re.compile(r":(\d\d)(?:\.(\d+))?(?:([Zz])|([+-])(\d\d):(\d\d))?", re.ASCII)
_heads: dict[str, int] = {}
"""``2024-11-24T11:32`` → its ns. Devices of a city send the same few minutes again and again."""
_tails: dict[str, int] = {}
"""``:11.250+07:00`` → the ns to add."""


def _string_ns(time: str, path: str) -> int:
    """``time_ns`` of an RFC 3339 string; digits below the nanosecond are cut off. A leap second is the next one."""
    head, tail = _HEAD.fullmatch(time[:16]), _TAIL.fullmatch(time[16:])
    if head is None or tail is None:
        raise RefusedError(Reason.MALFORMED_TIME, f"{path} must be like 2024-11-24T11:32:11Z, got {short(time)}")
    year, month, day, hour, minute = (int(part) for part in head.groups())
    second, fraction, utc, sign, zone_hour, zone_minute = tail.groups()
    if utc is None and sign is None:
        raise RefusedError(
            Reason.TIME_WITHOUT_ZONE, f"{path} must say its zone, like 2024-11-24T11:32:11Z, got {short(time)}"
        )
    try:
        days = datetime.date(year, month, day).toordinal() - datetime.date(1970, 1, 1).toordinal()
    except ValueError as error:
        raise RefusedError(Reason.MALFORMED_TIME, f"{path} is no time: {short(time)}: {error}") from error
    zone_s = 0 if sign is None else (int(zone_hour) * 3600 + int(zone_minute) * 60) * (-1 if sign == "+" else 1)
    if hour > 23 or minute > 59 or int(second) > 60 or (sign and (int(zone_hour) > 23 or int(zone_minute) > 59)):
        raise RefusedError(Reason.MALFORMED_TIME, f"{path} is no time: {short(time)}")
    if not 1678 <= year <= 2261:
        reason = Reason.TIME_IN_FUTURE if year > 2261 else Reason.TIME_TOO_OLD
        raise RefusedError(reason, f"{path} is {short(time)}: not within the years 1678 to 2261")
    head_ns = (days * 86_400 + hour * 3600 + minute * 60) * NS_PER_S
    tail_ns = (int(second) + zone_s) * NS_PER_S + (int(fraction[:9].ljust(9, "0")) if fraction else 0)
    if len(_heads) >= 5_000:
        _heads.clear()
    if len(_tails) >= 50_000:
        _tails.clear()
    _heads[time[:16]] = head_ns
    if len(time) < 50:
        _tails[time[16:]] = tail_ns
    return head_ns + tail_ns


_KINDS_OF_TIMES = 12
"""Of more different lengths, each is read alone."""


def strings_ns(times: Sequence[str]) -> npt.NDArray[np.int64] | None:
    """``time_ns`` of RFC 3339 strings, at once; None if one of them is anything but usual, or too few are alike.

    Examples
    --------
    >>> strings_ns(["2024-11-24T18:32:11.25+07:00", "2024-11-24T11:32:11Z"]).tolist()
    [1732447931250000000, 1732447931000000000]
    """
    lengths = list(map(len, times))
    kinds = set(lengths)
    if len(kinds) == 1:
        return _alike_ns("".join(times), len(times), lengths[0])
    if len(kinds) > _KINDS_OF_TIMES:
        return None
    length, found = np.array(lengths), np.empty(len(times), dtype=np.int64)
    for one in kinds:
        which = np.flatnonzero(length == one)
        some = _alike_ns("".join([times[i] for i in which.tolist()]), which.size, one)
        if some is None:
            return None
        found[which] = some
    return found


def _alike_ns(text: str, n: int, length: int) -> npt.NDArray[np.int64] | None:
    """``strings_ns`` of ``n`` times of equal length, one behind the other."""
    if not 20 <= length < 50 or not text.isascii():
        return None
    octets = np.ascontiguousarray(np.frombuffer(text.encode(), dtype=np.uint8).reshape(n, length).T)
    utc = (octets[-1] | 0x20) == ord("z")
    if utc.all():
        zone, body = False, length - 1
    elif utc.any() or length < 25:
        return None
    else:
        zone, body = True, length - 6
    if body == 20 or not _marked(octets, body):
        return None
    digits = octets - 48  # anything else than a digit is above 9
    for begin, end in (*_DIGITS, (20, body), *(((body + 1, body + 3), (body + 4, body + 6)) if zone else ())):
        if (digits[begin:end] > 9).any():
            return None
    hour, minute, second = (_two(digits, at) for at in (11, 14, 17))
    if (hour > 23).any() or (minute > 59).any() or (second > 60).any():
        return None
    seconds = hour * np.int32(3600) + minute * np.int32(60) + second
    if zone:
        sign, zone_hour, zone_minute = octets[body], _two(digits, body + 1), _two(digits, body + 4)
        ahead = sign == ord("+")
        odd = ~ahead & (sign != ord("-")) | (octets[body + 3] != ord(":")) | (zone_hour > 23) | (zone_minute > 59)
        if odd.any():
            return None
        seconds -= np.where(ahead, np.int32(1), np.int32(-1)) * (
            zone_hour * np.int32(3600) + zone_minute * np.int32(60)
        )
    days = _days_of(digits[:10])
    if days is None:
        return None
    ns: npt.NDArray[np.int64] = (days * 86_400 + seconds) * NS_PER_S
    if body > 20:
        decimals = min(body - 20, 9)
        fraction = digits[20].astype(np.int32)
        for place in range(21, 20 + decimals):
            fraction *= 10
            fraction += digits[place]
        ns += fraction * np.int64(10 ** (9 - decimals))
    return ns


_DIGITS = ((0, 4), (5, 7), (8, 10), (11, 13), (14, 16), (17, 19))
"""Where the digits of ``2024-11-24T11:32:11`` stand."""
Octets = npt.NDArray[np.uint8]


def _marked(octets: Octets, body: int) -> bool:
    """Whether the marks between the digits of times are right."""
    for at, mark in ((4, "-"), (7, "-"), (13, ":"), (16, ":"), *(((19, "."),) if body > 19 else ())):
        if (octets[at] != ord(mark)).any():
            return False
    between = octets[10]
    return bool(((between | 0x20 == ord("t")) | (between == ord(" "))).all())


def _two(digits: Octets, at: int) -> Octets:
    """Numbers of two digits."""
    number: Octets = digits[at] * np.uint8(10) + digits[at + 1]
    return number


def _days_of(digits: Octets) -> npt.NDArray[np.int64] | None:
    """Days since 1970 of dates like ``2024-11-24``; None if one is none, or not within the years of int64.

    (10, n) their digits.
    """
    if (digits == digits[:, :1]).all():
        digits = digits[:, :1]
    date = _two(digits, 0) * np.int64(1_000_000) + _two(digits, 2) * np.int64(10_000)
    date += _two(digits, 5) * np.int64(100) + _two(digits, 8)
    dates, which = np.unique(date, return_inverse=True)
    days = []
    for number in dates.tolist():
        year, month, day = number // 10_000, number // 100 % 100, number % 100
        if not 1678 <= year <= 2261:
            return None
        try:
            days.append(datetime.date(year, month, day).toordinal() - _DAY_0)
        except ValueError:
            return None
    found: npt.NDArray[np.int64] = np.array(days, dtype=np.int64)[which]
    return found


_DAY_0 = datetime.date(1970, 1, 1).toordinal()
