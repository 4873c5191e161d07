"""Does a new device work? What the running pipeline knows of it, turned into a verdict in plain words.

``DeviceWatch`` is what the page and the API ask; the composition root implements it. ``judge`` makes the verdict and is
pure. Each finding has a code, for which the pages' catalogues hold a title and what to do, in both languages.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Protocol

import msgspec

from telemetry.observations import NS_PER_S, rfc3339
from telemetry.properties import PROPERTIES, Domain
from telemetry.quality import FAIL, FLAG_NAMES, SUSPECT

TEXTS = Path(__file__).parent / "pages" / "languages"

NO_MESSAGE_S = 20.0
"""After this long without a message it is time to say what to check."""
CLOCK_S = 120.0
"""A clock that is off by more is worth a word. [s]"""
ZONE_S = 900.0
"""How exactly an offset must be that of the time zone to be called that. [s]"""
NAMELESS_S = 900.0
"""Refused logins without a name in this time before somebody began to look are somebody else's."""
WEAK_SIGNAL_DBM = -110.0
"""Below this, LTE-M, NB-IoT and LoRaWAN at usual spreading factors lose messages."""
SIMILAR = 0.75
"""Ratio of equal characters from which two ids are called similar."""


class LatestReading(msgspec.Struct, frozen=True):
    """The newest reading of one datastream."""

    datastream: str
    property: str
    value: float
    """[unit of the property]"""
    flag: int
    """QARTOD flag."""
    observed_at: int
    """By the device. [ns since 1970 UTC]"""
    received_at: int
    """When it reached us. [ns since 1970 UTC]"""
    low: float
    high: float
    """Span of values that are believed: the datastream's limits or, without any, what is physically possible."""
    drift_s_per_d: float | None = None
    """How much the device's clock gains a day, below 0: loses; None: not known, or too little to be told. [s/d]"""


class Letter(msgspec.Struct, frozen=True):
    """A message or reading of the device that was refused."""

    reason: str
    """As ``ingest`` names it, such as "wrong_unit"."""
    detail: str
    received_at: int
    """[ns since 1970 UTC]"""
    device: str = ""
    clock_off_s: float | None = None
    """How far its time was ahead of ours; negative: behind. Only for reasons of time. [s]"""


class Login(msgspec.Struct, frozen=True):
    """The device came to the broker's door."""

    at: int
    """[ns since 1970 UTC]"""
    refused: bool
    detail: str = ""
    named: bool = True
    """False: the broker's log does not say which client was refused (Mosquitto's password files)."""


class Trouble(msgspec.Struct, frozen=True):
    """A device that needs somebody."""

    device: str
    kind: str
    """"silent" or "faulty"."""
    since: int
    """[ns since 1970 UTC]"""
    values: dict[str, float] = {}
    """Of a faulty one: property → the value that can't be right. [unit of the property]"""
    heard: bool = True
    """False: it has never sent; ``since`` then is when it was installed, or when the pipeline began to look."""


class DeviceWatch(Protocol):
    """What the running pipeline knows of devices. All methods may be called from any thread."""

    def now(self) -> int:
        """The present by the pipeline's clock. [ns since 1970 UTC]"""
        ...

    def clock_speed(self) -> float:
        """1 in real time; more in a simulation."""
        ...

    def knows(self, device: str) -> bool:
        """Whether the pipeline has the device in its directory already."""
        ...

    def latest(self, device: str) -> tuple[LatestReading, ...]:
        """The newest reading of each datastream that the device feeds."""
        ...

    def letters(self, device: str, limit: int = 20) -> tuple[Letter, ...]:
        """The device's newest dead letters, newest first."""
        ...

    def strangers(self, since: int) -> tuple[str, ...]:
        """Ids under which devices that are not registered have sent since then."""
        ...

    def refused_logins(self, device: str) -> tuple[Login, ...] | None:
        """The device's tries to log in, newest first, refused or not; None where the broker does not tell."""
        ...

    def troubles(self) -> tuple[Trouble, ...]:
        """Every device that is silent or faulty now."""
        ...


class Finding(msgspec.Struct, frozen=True):
    """One thing to say about a device."""

    code: str
    weight: str
    """"problem" or "hint"."""
    values: dict[str, str | float] = {}
    """What stands in the text's places."""
    detail: str = ""
    """The pipeline's own words."""

    def text(self, language: str = "en") -> str:
        """Title and what to do, in words.

        Examples
        --------
        >>> Finding("clock_local", "problem", {"hours": 7}).text()
        "Device clock 7 h ahead. Probably local time sent as if it were UTC. Set the device's clock to UTC."
        """
        texts = _texts(language)
        values = {k: _spoken(k, v, self.values, language) for k, v in self.values.items()}
        values["span"] = _span(float(self.values["span_s"])) if "span_s" in self.values else ""
        title, to_do = (texts[f"devices.finding.{self.code}{end}"].format_map(_Places(values)) for end in ("", ".do"))
        return f"{title}{'' if title.endswith('.') else '.'} {to_do}"


class Verdict(msgspec.Struct, frozen=True):
    """How a device does."""

    state: str
    """"waiting", "receiving" or "trouble"."""
    readings: tuple[LatestReading, ...]
    """Those that came since; without ``since``, all."""
    findings: tuple[Finding, ...]


_BY_REASON = {
    "malformed_packet": "unknown_format",
    "empty_payload": "unknown_format",
    "payload_too_large": "unknown_format",
    "invalid_utf8": "unknown_format",
    "malformed_json": "unknown_format",
    "wrong_type": "unknown_format",
    "no_readings": "unknown_format",
    "malformed_time": "unknown_format",
    "undecodable": "wrong_model",
    "missing_value": "no_value",
    "not_finite": "no_value",
    "unknown_property": "unknown_property",
    "wrong_unit": "wrong_unit",
    "wrong_topic": "wrong_address",
    "wrong_city": "wrong_address",
    "retained": "retained",
    "time_without_zone": "no_zone",
    "not_installed": "not_installed",
    "unknown_device": "not_yet_known",
}


_CLOCKS = {"time_local": "clock_local", "time_wrong_scale": "clock_scale", "clock_not_set": "clock_unset"}


def judge(
    watch: DeviceWatch, device: str, *, since: int | None, utc_offset_h: float, silence_after_s: float = 3600.0
) -> Verdict:
    """How the device does, by what came since ``since`` (the moment somebody began to look; None: lately).

    Parameters
    ----------
    since : int or None
        [ns since 1970 UTC], by the pipeline's clock.
    utc_offset_h : float
        Of the city: a clock that is off by just this much was set to local time.
    silence_after_s : float
        Without ``since``, readings and refusals that are older than this do not count.
    """
    now = watch.now()
    begin = now - round(silence_after_s * NS_PER_S) if since is None else since
    readings = tuple(r for r in watch.latest(device) if r.received_at >= begin)
    heard = max((r.received_at for r in readings), default=None)
    letters = [x for x in watch.letters(device) if x.received_at >= begin]
    # What came before the newest message is mended; one message may hold good and bad readings.
    newest = max([x.received_at for x in letters] + ([] if heard is None else [heard]), default=0)
    letters = [x for x in letters if x.received_at >= newest - NS_PER_S]
    findings = [*_of_letters(letters, watch.knows(device), utc_offset_h)]
    for reading in readings:
        findings += _of_reading(reading, utc_offset_h)
    if not readings and not letters:
        findings += _of_nothing(watch, device, begin, now, waited=since is not None)
    unique: dict[str, Finding] = {}
    for finding in findings:
        unique.setdefault(finding.code + str(finding.values.get("property", "")), finding)
    found = tuple(sorted(unique.values(), key=lambda f: f.weight != "problem"))
    state = "receiving" if readings else "waiting"
    if found and found[0].weight == "problem":
        state = "trouble"
    return Verdict(state, readings, found)


def _of_letters(letters: Iterable[Letter], known: bool, utc_offset_h: float) -> Iterable[Finding]:
    for letter in letters:
        if letter.clock_off_s is not None and letter.reason in ("time_in_future", "time_too_old"):
            yield _clock(letter.clock_off_s, utc_offset_h, "problem", letter.detail)
        elif letter.clock_off_s is not None and letter.reason in _CLOCKS:
            off_s = abs(letter.clock_off_s)
            size: dict[str, str | float] = {"span_s": off_s, "hours": round(off_s / 900) / 4}
            yield Finding(_CLOCKS[letter.reason], "problem", size, letter.detail)
        elif letter.reason == "unknown_device":
            if not known:
                yield Finding("not_yet_known", "hint", detail=letter.detail)
        else:
            code = _BY_REASON.get(letter.reason, "other")
            yield Finding(code, "problem", detail=letter.detail)


def _of_reading(reading: LatestReading, utc_offset_h: float) -> Iterable[Finding]:
    values: dict[str, str | float] = {"property": reading.property, "value": reading.value}
    if not reading.low <= reading.value <= reading.high:
        yield Finding("out_of_range", "problem", values | {"low": reading.low, "high": reading.high})
    elif reading.flag in (SUSPECT, FAIL):
        yield Finding("doubtful", "problem", values)
    if reading.property == "rssi_dbm" and reading.value < WEAK_SIGNAL_DBM:
        yield Finding("signal_weak", "hint", {"signal": reading.value})
    if reading.drift_s_per_d is not None:
        drift = reading.drift_s_per_d
        yield Finding("clock_gains" if drift > 0 else "clock_loses", "hint", {"drift": round(abs(drift))})
    off_s = (reading.observed_at - reading.received_at) / NS_PER_S
    if abs(off_s) > CLOCK_S:
        yield _clock(off_s, utc_offset_h, "hint", "")


def _clock(off_s: float, utc_offset_h: float, weight: str, detail: str) -> Finding:
    """What a clock that is off by so much probably is.

    Examples
    --------
    >>> _clock(7 * 3600 - 20, 7.0, "problem", "").code, _clock(-7 * 3600, 7.0, "hint", "").code
    ('clock_local', 'clock_zone')
    >>> _clock(1800, 7.0, "problem", "").code, _clock(-1.5e9, 7.0, "problem", "").code
    ('clock_fast', 'clock_unset')
    """
    hours = round(off_s / 1800) / 2
    whole = abs(off_s - hours * 3600) <= ZONE_S
    zone = whole and abs(hours) == abs(utc_offset_h) and hours != 0
    size: dict[str, str | float] = {"span_s": abs(off_s), "hours": abs(hours)}
    if off_s > 0:
        return Finding("clock_local" if zone else "clock_fast", weight, size, detail)
    if off_s < -365 * 86_400:
        return Finding("clock_unset", weight, size, detail)
    # Much more likely a wrong zone than readings that were kept for just so long.
    return Finding("clock_zone" if zone else "clock_slow", "problem" if zone else weight, size, detail)


def _of_nothing(watch: DeviceWatch, device: str, begin: int, now: int, *, waited: bool) -> Iterable[Finding]:
    logins = watch.refused_logins(device)
    recent = [x for x in logins or () if x.at >= begin]
    own = [x for x in recent if x.named]
    if own:
        if own[0].refused:
            yield Finding("credentials_refused", "problem", detail=own[0].detail)
        elif waited:
            yield Finding("logged_in", "hint")
        return
    if not waited:
        return
    if recent:
        # Nobody else was refused in the time before: it was this one. Otherwise it may have been.
        others = any(begin - NAMELESS_S * NS_PER_S <= x.at < begin for x in logins or () if not x.named)
        yield Finding("credentials_perhaps" if others else "credentials_refused", "hint" if others else "problem")
        if not others:
            return
    alike = similar(device, watch.strangers(begin))
    if alike is not None:
        yield Finding("stranger", "problem", {"id": alike})
    elif (now - begin) / NS_PER_S / max(watch.clock_speed(), 1.0) >= NO_MESSAGE_S:
        yield Finding("no_message", "hint")


def similar(device: str, others: Sequence[str]) -> str | None:
    """The one of ``others`` that is most like ``device``, if one is like it.

    Examples
    --------
    >>> similar("AWLR-0231", ["lamp-7", "AWLR-0213"])
    'AWLR-0213'
    >>> similar("AWLR-0231", ["lamp-7"]) is None
    True
    """
    best, likeness = None, SIMILAR
    for other in others:
        ratio = SequenceMatcher(None, device.lower(), other.lower()).ratio()
        if ratio >= likeness:
            best, likeness = other, ratio
    return best


def as_dict(watch: DeviceWatch, verdict: Verdict, since: int | None, language: str = "en") -> dict[str, Any]:
    """A verdict as the API tells it."""
    now = watch.now()
    return {
        "state": verdict.state,
        "now": rfc3339(now),
        "since": None if since is None else rfc3339(since),
        "clock_speed": watch.clock_speed(),
        "readings": [
            {
                "datastream": r.datastream,
                "property": r.property,
                "unit": PROPERTIES[r.property].unit,
                "value": r.value,
                "flag": r.flag,
                "quality": FLAG_NAMES.get(r.flag, "unknown"),
                "observed_at": rfc3339(r.observed_at),
                "received_at": rfc3339(r.received_at),
                "age_s": max(0.0, round((now - r.received_at) / NS_PER_S, 1)),
                "of_device": PROPERTIES[r.property].domain is Domain.DEVICE,
            }
            for r in verdict.readings
        ],
        "findings": [
            {
                "code": f.code,
                "weight": f.weight,
                "values": f.values,
                "detail": f.detail,
                "text": f.text(language),
            }
            for f in verdict.findings
        ],
    }


class _Places(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "?"


@functools.cache
def _texts(language: str) -> dict[str, str]:
    found: dict[str, str] = json.loads((TEXTS / f"{language}.json").read_text(encoding="utf-8"))
    return found


def _spoken(key: str, value: str | float, values: dict[str, str | float], language: str) -> str:
    about = PROPERTIES.get(str(values.get("property", "")))
    if key == "property" and about is not None:
        return about.label_id if language == "id" else about.label_en
    if isinstance(value, str):
        return value
    if key in ("value", "low", "high") and about is not None:
        return f"{value:.{about.decimals}f} {about.unit}".strip()
    return f"{value:g}"


def _span(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
