"""LiveCity: the city as it is now, fed by the runtime from its thread, read by the page's server from others.

New readings are taken by arrays; only alarms, which are few, are looped over. What changed since the last look is
marked, so that one small JSON frame per tick serves every open page.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import msgspec
import numpy as np

from dashboards.operator.alarm_book import Alarm, AlarmBook
from dashboards.operator.health import DeviceAccount, HealthStatus
from dashboards.operator.rain import CLASS_LIMITS_MM_H, RainGauges
from dashboards.operator.trend import BUCKET_S, Recent, approach, trend
from telemetry.alarms import Acknowledge, AlarmKind, AlarmState
from telemetry.directory import Directory
from telemetry.observations import NS_PER_S, Observations, rfc3339
from telemetry.properties import PROPERTIES, Domain
from telemetry.quality import FAIL, FLAG_NAMES, MISSING
from telemetry.results import Transitions, Windows

SeriesSource = Callable[[str, int, int, int], Observations | Windows]
"""(datastream id, start_ns, end_ns, max_points) → its readings, or aggregates if there would be too many."""
AlarmHistorySource = Callable[[int, int], Transitions]
"""(start_ns, end_ns) → transitions in [start, end)."""
AccountSource = Callable[[str], DeviceAccount | Mapping[str, Any] | None]
"""Device id → its loss account, or None if nothing came from it."""
AcknowledgeSink = Callable[[Acknowledge, str], None]
"""Takes an operator's acknowledgement and comment; the transition comes back through ``transition``."""

MAX_TRENDS_PER_FRAME = 60
TREND_DOMAINS = frozenset({Domain.FLOOD, Domain.DEVICE})
NO_TREND = frozenset({"rain_mm", "connected"})
"""Depth per interval and a switch: their change per hour says nothing. Nor does that of traffic, noise or lamps, which
swing within minutes; of the air, see AIR_TREND."""
AIR_TREND = frozenset({"pm2_5_ug_m3", "pm10_ug_m3", "no2_ug_m3", "nox_ug_m3", "o3_ug_m3", "so2_ug_m3", "co_ug_m3"})
EVERYTHING_NS = (-(2**62), 2**62)


def has_trend(name: str) -> bool:
    """Whether the change per hour of a property says something.

    Examples
    --------
    >>> has_trend("water_level_m"), has_trend("speed_km_h"), has_trend("rain_mm")
    (True, False, False)
    """
    return name in AIR_TREND or (PROPERTIES[name].domain in TREND_DOMAINS and name not in NO_TREND)


class UnknownError(LookupError):
    """There is no such alarm, device or datastream."""


class SourceError(RuntimeError):
    """What the runtime gave us to ask (store, accounts, pipeline) failed; the message says what and why."""


class RefusedError(RuntimeError):
    """The alarm is there, but can't be acknowledged (again)."""


class LiveCity:
    """The newest value of every datastream, open alarms, the clock and the pipeline's health.

    All methods may be called from any thread.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.RLock()
        self._monotonic = monotonic
        self.directory = Directory(0, "", 7.0, (), (), ())
        self.basemap: dict[str, Any] | None = None
        self.book = AlarmBook()
        self.health = HealthStatus()
        self.epoch = 0
        """Raised when pages must be told everything anew."""
        self._city_json: bytes | None = None
        self._clock: tuple[str, int, float] = ("system", 0, 1.0)
        self._clock_moved_at = monotonic()
        self._heard_at: float | None = None
        self._health_changed = False
        self._refused_day = -1
        self._refused_at_midnight = 0
        self._changed_alarms: dict[tuple[int, int, int], Alarm] = {}
        self._trends: dict[tuple[int, int, int], dict[str, object] | None] = {}
        self._trend_bucket: dict[tuple[int, int, int], int] = {}
        self._rain = RainGauges()
        self._allocate(0)
        self._series_source: SeriesSource | None = None
        self._history_source: AlarmHistorySource | None = None
        self._account_source: AccountSource | None = None
        self._acknowledge: AcknowledgeSink | None = None

    # ------------------------------------------------------------------------------------------- fed by the runtime

    def set_directory(self, directory: Directory, basemap: dict[str, Any] | None = None) -> None:
        """Take a new version of the directory; indexes keep their meaning. ``basemap`` None keeps the one there is.

        ``basemap`` is a GeoJSON FeatureCollection in which each feature's property ``kind`` is "river", "road",
        "district", … .
        """
        with self._lock:
            self.directory = directory
            if basemap is not None:
                self.basemap = basemap
            self._city_json = None
            self._grow(len(directory.datastreams))
            self._rain.set_directory(directory)
            self.epoch += 1

    def observe(self, readings: Observations) -> None:
        """Take the new readings of a step. Raises IndexError if one is not in the directory."""
        if not len(readings):
            return
        ordered = np.diff(readings.datastream) * 1.0
        if (ordered < 0).any() or ((ordered == 0) & (np.diff(readings.observed_at) < 0)).any():
            readings = readings.take(np.lexsort((readings.observed_at, readings.datastream)))
        with self._lock:
            self._recent.put(readings)
            self._rain.put(readings)
            # The last row of each datastream is its newest.
            last = np.flatnonzero(np.append(readings.datastream[1:] != readings.datastream[:-1], True))
            last = last[readings.observed_at[last] >= self._at[readings.datastream[last]]]
            stream = readings.datastream[last]
            self._at[stream] = readings.observed_at[last]
            self._value[stream] = readings.value[last]
            self._flag[stream] = readings.flag[last]
            self._dirty[stream] = True
            self._heard_at = self._monotonic()
            self._follow_peaks(readings)

    def correct(self, corrected: Observations) -> None:
        """Take the new flags of earlier readings."""
        if not len(corrected):
            return
        with self._lock:
            newest = np.flatnonzero(self._at[corrected.datastream] == corrected.observed_at)
            stream = corrected.datastream[newest]
            self._flag[stream] = corrected.flag[newest]
            self._dirty[stream] = True

    def transition(self, transitions: Transitions) -> None:
        """Take the changes of alarms of a step."""
        if not len(transitions):
            return
        with self._lock:
            for alarm in self.book.take(self.directory, transitions):
                self._changed_alarms[alarm.key] = alarm
            self._mark_alarmed()

    def stand(self, open_alarms: Transitions) -> None:
        """Take the alarms as they stand, after changes were withdrawn."""
        with self._lock:
            for alarm in self.book.stand(self.directory, open_alarms):
                self._changed_alarms[alarm.key] = alarm
            self._mark_alarmed()

    def restore(self, latest: Observations, open_alarms: Transitions) -> None:
        """After a restart: the newest reading of each datastream, and the transitions known of open alarms."""
        with self._lock:
            heard = self._heard_at
            self.book = AlarmBook()
            self._changed_alarms.clear()
            self.observe(latest)
            self.book.restore(self.directory, open_alarms)
            self._mark_alarmed()
            self._heard_at = heard
            self.epoch += 1

    def set_clock(self, source: str, now_ns: int, speed: float) -> None:
        """What time it is for the pipeline: source "system" or "broker", [ns since 1970 UTC], times real time."""
        with self._lock:
            if now_ns != self._clock[1]:
                self._clock_moved_at = self._monotonic()
            self._clock = (source, now_ns, speed)

    def set_health(self, health: HealthStatus) -> None:
        """Replace the pipeline's health."""
        with self._lock:
            day = (self._clock[1] // NS_PER_S + round(self.directory.utc_offset_h * 3600)) // 86_400
            if day != self._refused_day:
                # Counts begin anew with each start of the pipeline: then the day's count is what we saw of it.
                self._refused_at_midnight = self.health.refused if self._refused_day >= 0 else 0
                self._refused_day = day
            if health.refused < self._refused_at_midnight:
                self._refused_at_midnight = 0
            self.health = health
            self._health_changed = True

    def set_series_source(self, source: SeriesSource) -> None:
        """Where charts come from."""
        self._series_source = source

    def set_alarm_history_source(self, source: AlarmHistorySource) -> None:
        """Where transitions older than this process come from."""
        self._history_source = source

    def set_account_source(self, source: AccountSource) -> None:
        """Where a device's loss account comes from."""
        self._account_source = source

    def set_acknowledge(self, sink: AcknowledgeSink) -> None:
        """Who takes acknowledgements."""
        self._acknowledge = sink

    # -------------------------------------------------------------------------------------------- read by the server

    def now_ns(self) -> int:
        """The pipeline's time, as last told. [ns since 1970 UTC]"""
        return self._clock[1]

    def city_json(self) -> bytes:
        """Everything about the city that changes only with its directory."""
        with self._lock:
            if self._city_json is None:
                self._city_json = msgspec.json.encode(_city(self.directory, self.basemap))
            return self._city_json

    def status(self, version: str) -> dict[str, Any]:
        """The pipeline's health and the count of alarms."""
        with self._lock:
            h = self.health
            return {
                "city": self.directory.city,
                "version": version,
                "directory_version": self.directory.version,
                "clock": self._clock_dict(),
                "counts": {
                    "messages": h.messages,
                    "readings": h.readings,
                    "refused": h.refused,
                    "duplicates": h.duplicates,
                    "late": h.late,
                    "stored": h.stored,
                },
                "refused_by_reason": dict(h.refused_by_reason),
                "alarms": self.book.counts(),
                "sites": len(self.directory.sites),
                "devices": len(self.directory.devices),
                "datastreams": len(self.directory.datastreams),
            } | self._health_dict()

    def state_frame(self) -> bytes:
        """All that a page needs when it opens, as JSON."""
        with self._lock:
            self._refresh_trends(list(self.book.open.values()))
            known = np.flatnonzero(self._at != 0)
            frame = {
                "directory_version": self.directory.version,
                "clock": self._clock_dict(),
                "health": self._health_dict(),
                "alarms": [a.as_dict(self.directory, latest=1) for a in self.book.open.values()],
                "trends": self._trend_rows(self.book.open.values()),
                "readings": self._readings(known),
                "rain": self._rain.known(self._clock[1]),
            }
        return msgspec.json.encode(frame)

    def delta_frame(self) -> bytes | None:
        """What changed since the last call, as JSON; None if nothing did. An alarm in state "normal" is closed."""
        with self._lock:
            changed = np.flatnonzero(self._dirty)
            rain = self._rain.changed(self._clock[1])
            if not (changed.size or self._changed_alarms or self._health_changed or rain):
                return None
            frame: dict[str, Any] = {"clock": self._clock_dict()}
            if changed.size:
                frame["readings"] = self._readings(changed)
                self._dirty[changed] = False
            if rain:
                frame["rain"] = rain
            if self._changed_alarms:
                frame["alarms"] = [a.as_dict(self.directory, latest=1) for a in self._changed_alarms.values()]
                self._changed_alarms = {}
            moved = [a for a in self.book.open.values() if a.kind == AlarmKind.LEVEL and self._trend_is_old(a)]
            moved = moved[:MAX_TRENDS_PER_FRAME]
            if moved:
                self._refresh_trends(moved)
                frame["trends"] = self._trend_rows(moved)
            if self._health_changed:
                frame["health"] = self._health_dict()
                self._health_changed = False
        return msgspec.json.encode(frame)

    def beat_frame(self) -> bytes:
        """A sign of life with the clock, as JSON."""
        with self._lock:
            return msgspec.json.encode({"clock": self._clock_dict()})

    def alarms(self, start_ns: int | None = None, end_ns: int | None = None) -> list[dict[str, object]]:
        """Alarms that stood at any time in [start, end], by the time they were raised; the open ones without a span.

        Older ones come from the history source. Of an alarm that began before ``start`` and closed before this
        process started, only the transitions in the span are known.
        """
        if start_ns is None and end_ns is None:
            with self._lock:
                found = sorted(self.book.open.values(), key=lambda a: a.raised_at)
                return [a.as_dict(self.directory) for a in found]
        start = EVERYTHING_NS[0] if start_ns is None else start_ns
        end = EVERYTHING_NS[1] if end_ns is None else end_ns
        history = AlarmBook()
        if self._history_source is not None:
            try:
                transitions = self._history_source(start, end)
            except Exception as error:  # whatever a store may raise
                raise SourceError(f"the history of alarms can't be read now: {error}") from error
            history.take(self.directory, transitions)
        with self._lock:
            book = AlarmBook()
            book.open, book.closed = dict(self.book.open), dict(self.book.closed)
            book.complete(history)
            found = [
                a
                for a in (book.closed | book.open).values()
                if a.raised_at <= end
                and (a.state != AlarmState.NORMAL or a.cleared_at is None or a.cleared_at >= start)
            ]
            return [a.as_dict(self.directory) for a in sorted(found, key=lambda a: a.raised_at)]

    def acknowledge(self, ident: str, by: str, comment: str) -> None:
        """Pass an operator's acknowledgement on.

        Raises UnknownError if no open alarm has this name, RefusedError if it is acknowledged already or if there is
        no pipeline to take it.
        """
        with self._lock:
            alarm = self.book.find(self.directory, ident)
            if alarm is None:
                raise UnknownError(f"there is no open alarm {ident!r}; it may be closed already")
            if alarm.state == AlarmState.ACKNOWLEDGED:
                who = f" by {alarm.acknowledged_by}" if alarm.acknowledged_by else ""
                raise RefusedError(f"alarm {ident!r} is already acknowledged{who}")
            if self._acknowledge is None:
                raise RefusedError("this server shows alarms only; no pipeline is there to take an acknowledgement")
            order = Acknowledge(AlarmKind(alarm.kind), alarm.subject, alarm.raised_at, self._clock[1], by)
        try:
            self._acknowledge(order, comment)
        except Exception as error:  # whatever a pipeline may raise
            raise SourceError(f"the pipeline did not take the acknowledgement: {error}") from error
        with self._lock:
            alarm.acknowledged_by, alarm.comment = by, comment
            self._changed_alarms[alarm.key] = alarm

    def account(self, device: str) -> DeviceAccount | None:
        """The loss account of a device, None without a source. Raises UnknownError if there is no such device."""
        if device not in self.directory.index_of:
            raise UnknownError(f"there is no device {device!r} in {self.directory.city or 'this city'}")
        if self._account_source is None:
            return None
        try:
            given = self._account_source(device)
        except Exception as error:  # whatever a pipeline may raise
            raise SourceError(f"the loss account can't be read now: {error}") from error
        if isinstance(given, DeviceAccount):
            return given
        return DeviceAccount(**{"device": device, **(given or {})})

    def series(self, datastream: str, start_ns: int, end_ns: int, max_points: int) -> Observations | Windows:
        """Readings of a datastream in [start, end), or aggregates. Raises UnknownError if there is no such datastream.

        Without a source: what the short ring holds. Raises SourceError if the source fails.
        """
        stream = next((i for i, d in enumerate(self.directory.datastreams) if d.id == datastream), None)
        if stream is None:
            raise UnknownError(f"there is no datastream {datastream!r} in {self.directory.city or 'this city'}")
        if self._series_source is not None:
            try:
                return self._series_source(datastream, start_ns, end_ns, max_points)
            except Exception as error:  # whatever a store may raise
                raise SourceError(f"the readings can't be read now: {error}") from error
        with self._lock:
            time_s, value = self._recent.series(stream)
        inside = (time_s * NS_PER_S >= start_ns) & (time_s * NS_PER_S < end_ns)
        time_s, value = time_s[inside][-max_points:], np.round(value[inside][-max_points:], 4)
        return Observations.of(np.full(time_s.shape, stream), time_s * NS_PER_S, value)

    # ------------------------------------------------------------------------------------------------------ private

    def _allocate(self, n: int) -> None:
        self._at = np.zeros(n, dtype=np.int64)
        self._value = np.full(n, np.nan)
        self._flag = np.full(n, MISSING, dtype=np.uint8)
        self._dirty = np.zeros(n, dtype=np.bool_)
        self._alarmed = np.zeros(n, dtype=np.bool_)
        self._recent = Recent(n)

    def _grow(self, n: int) -> None:
        old = self._at.size
        if n <= old:
            return
        at, value, flag, recent = self._at, self._value, self._flag, self._recent
        self._allocate(0)
        self._at = np.concatenate([at, np.zeros(n - old, dtype=np.int64)])
        self._value = np.concatenate([value, np.full(n - old, np.nan)])
        self._flag = np.concatenate([flag, np.full(n - old, MISSING, dtype=np.uint8)])
        self._dirty = np.zeros(n, dtype=np.bool_)
        self._alarmed = np.zeros(n, dtype=np.bool_)
        recent.grow(n)
        self._recent = recent
        self._mark_alarmed()

    def _mark_alarmed(self) -> None:
        self._alarmed[:] = False
        for alarm in self.book.open.values():
            if alarm.kind == AlarmKind.LEVEL:
                self._alarmed[alarm.subject] = True

    def _follow_peaks(self, readings: Observations) -> None:
        """Between two transitions a value may go on to a new peak."""
        usable = (readings.flag != FAIL) & (readings.flag != MISSING) & np.isfinite(readings.value)
        rows = np.flatnonzero(self._alarmed[readings.datastream] & usable)
        if not rows.size:
            return
        by_stream = {a.subject: a for a in self.book.open.values() if a.kind == AlarmKind.LEVEL and a.severity}
        for subject in np.unique(readings.datastream[rows]).tolist():
            alarm = by_stream.get(subject)
            if alarm is None:
                continue
            mine = rows[(readings.datastream[rows] == subject) & (readings.observed_at[rows] >= alarm.raised_at)]
            if not mine.size:
                continue
            direction = self.directory.datastreams[subject].ladder.direction
            worst = mine[np.argmax(readings.value[mine] * direction)]
            value = float(readings.value[worst])
            if not alarm.peak * direction >= value * direction:
                alarm.peak, alarm.peak_at = value, int(readings.observed_at[worst])

    def _readings(self, streams: np.ndarray[Any, np.dtype[np.intp]]) -> dict[str, list[Any]]:
        return {
            "stream": streams.tolist(),
            "time_ms": (self._at[streams] // 1_000_000).tolist(),
            "value": np.round(self._value[streams], 4).tolist(),
            "flag": self._flag[streams].tolist(),
        }

    def _trend_is_old(self, alarm: Alarm) -> bool:
        bucket = int(self._at[alarm.subject] // (BUCKET_S * NS_PER_S))
        return self._trend_bucket.get(alarm.key) != bucket

    def _refresh_trends(self, alarms: list[Alarm]) -> None:
        for key in self._trends.keys() - self.book.open.keys():
            del self._trends[key]
            self._trend_bucket.pop(key, None)
        for alarm in alarms:
            if alarm.kind != AlarmKind.LEVEL or not self._trend_is_old(alarm):
                continue
            stream = self.directory.datastreams[alarm.subject]
            self._trend_bucket[alarm.key] = int(self._at[alarm.subject] // (BUCKET_S * NS_PER_S))
            change = trend(*self._recent.series(alarm.subject)) if has_trend(stream.property) else None
            if change is None:
                self._trends[alarm.key] = None
                continue
            ahead = approach(stream.ladder, change.value, change) if alarm.severity else None
            self._trends[alarm.key] = {
                "per_h": round(change.per_h, 4),
                "low_per_h": round(change.low_per_h, 4),
                "high_per_h": round(change.high_per_h, 4),
                "next": None if ahead is None else asdict(ahead),
            }

    def _trend_rows(self, alarms: Any) -> dict[str, object]:
        return {a.ident(self.directory): self._trends.get(a.key) for a in alarms if a.kind == AlarmKind.LEVEL}

    def _clock_dict(self) -> dict[str, object]:
        source, now, speed = self._clock
        return {
            "source": source,
            "now": rfc3339(now),
            "now_ms": now // 1_000_000,
            "speed": speed,
            "still_s": round(self._monotonic() - self._clock_moved_at, 1),
        }

    def _health_dict(self) -> dict[str, Any]:
        h = self.health
        return {
            "messages_per_s": h.messages_per_s,
            "readings_per_s": h.readings_per_s,
            "latency_s": h.latency_s,
            "refused_today": h.refused - self._refused_at_midnight,
            "duplicates": h.duplicates,
            "late": h.late,
            "last_reading_age_s": None if self._heard_at is None else round(self._monotonic() - self._heard_at, 1),
            "brokers": [
                {
                    "name": b.name,
                    "connected": b.connected,
                    "since": rfc3339(b.since_ns) if b.since_ns else None,
                    "last_error": b.last_error,
                    "dropped": b.dropped,
                }
                for b in h.brokers
            ],
            "backlog": {
                "messages": h.backlog_messages,
                "clear_in_s": None if h.clear_in_s is None else round(h.clear_in_s, 1),
            },
            "dead_letters": h.dead_letters,
            "dead_letters_full": h.dead_letters_full,
            "clocks_wrong": h.clocks_wrong,
            "limited_devices": [
                {"device": d.device, "since": rfc3339(d.since_ns), "refused": d.refused} for d in h.limited_devices
            ],
            "store": None if h.store is None else asdict(h.store),
        }


def _city(directory: Directory, basemap: dict[str, Any] | None) -> dict[str, Any]:
    used = sorted({d.property for d in directory.datastreams})
    return {
        "city": directory.city,
        "utc_offset_h": directory.utc_offset_h,
        "directory_version": directory.version,
        "flags": {str(number): name for number, name in FLAG_NAMES.items()},
        "domains": [d.value for d in Domain],
        "rain_class_limits_mm_h": CLASS_LIMITS_MM_H,
        "properties": {
            name: {
                "unit": PROPERTIES[name].unit,
                "domain": PROPERTIES[name].domain.value,
                "decimals": PROPERTIES[name].decimals,
                "label": {"id": PROPERTIES[name].label_id, "en": PROPERTIES[name].label_en},
            }
            for name in used
        },
        "sites": [
            {
                "id": s.id,
                "name": s.name,
                "latitude": s.latitude,
                "longitude": s.longitude,
                "district": s.district,
            }
            for s in directory.sites
        ],
        "devices": [
            {"id": d.id, "site": d.site, "model": d.model, "silence_after_s": d.silence_after_s}
            for d in directory.devices
        ],
        "datastreams": [
            {
                "id": d.id,
                "site": d.site,
                "device": d.device,
                "property": d.property,
                "direction": d.ladder.direction,
                "steps": [{"value": s.value, "severity": s.severity, "label": s.label} for s in d.ladder.steps],
            }
            for d in directory.datastreams
        ],
        "basemap": basemap,
    }
