"""What is stored, by name: measurements, tags, fields and their units. Dashboards import these names.

Every tag has as many values as there are sites, devices, datastreams or alarms, never more with time: no message
number, time or free text is a tag. So the number of series is bounded by the directory:
datastreams x (1 + number of window widths) x devices that fed them + datastreams + 2 x devices + brokers + 2.

This module holds names only; encoding is in ``line_protocol``, files in ``embedded``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from telemetry.alarms import AlarmKind
from telemetry.directory import Directory
from telemetry.properties import PROPERTIES


class FieldType(StrEnum):
    """How a field travels in line protocol; a store refuses a field that changes its type."""

    FLOAT = "float"
    INTEGER = "integer"
    STRING = "string"


@dataclass(frozen=True, slots=True)
class Field:
    """One stored field of a measurement."""

    name: str
    type: FieldType
    unit: str
    """Unit, or "" for a pure number or text; "property" means the unit of the observed property."""
    meaning: str


@dataclass(frozen=True, slots=True)
class Measurement:
    """One kind of stored row: name, tags (all optional in a row: an empty value is left out) and fields."""

    name: str
    tags: tuple[str, ...]
    fields: tuple[Field, ...]
    time: str
    """What the row's time means."""

    def field(self, name: str) -> Field:
        """The field called ``name``; KeyError if there is none."""
        for f in self.fields:
            if f.name == name:
                return f
        raise KeyError(f"measurement {self.name!r} has no field {name!r}; it has {[f.name for f in self.fields]}")


# Tags.
CITY = "city"
"""Name of the city, as in the directory."""
DISTRICT = "district"
"""District of the site; left out where the site has none."""
SITE = "site"
"""Site id."""
DEVICE = "device"
"""Id of the device that fed the datastream at that time."""
DATASTREAM = "datastream"
"""Datastream id."""
PROPERTY = "property"
"""Name of the observed property, such as ``water_level_m``; the unit is part of the name."""
DOMAIN = "domain"
"""flood, traffic, street or device."""
WIDTH = "width"
"""Width of a window: a window name."""
KIND = "kind"
"""What an alarm is about: level, silence or broker."""
SUBJECT = "subject"
"""Datastream id (level), device id (silence) or name of the broker (broker)."""

DATASTREAM_TAGS = (CITY, DISTRICT, SITE, DEVICE, DATASTREAM, PROPERTY, DOMAIN)

# Windows.
WINDOW_WIDTHS_S = (60, 300, 900, 3600, 86_400)
"""The widths that are aggregated and stored; a day is the city's own. [s]"""


def window_name(width_s: int) -> str:
    """The value of the tag ``width`` for a width in seconds.

    Examples
    --------
    >>> [window_name(w) for w in (10, 60, 900, 3600, 86400)]
    ['10s', '1m', '15m', '1h', '1d']
    """
    for size, letter in ((86_400, "d"), (3600, "h"), (60, "m")):
        if width_s % size == 0:
            return f"{width_s // size}{letter}"
    return f"{width_s}s"


WINDOW_NAMES: dict[int, str] = {w: window_name(w) for w in WINDOW_WIDTHS_S}
"""Width in seconds → value of the tag ``width``."""

# Kinds of alarms.
LEVEL = "level"
SILENCE = "silence"
BROKER = "broker"
KIND_NAMES: dict[int, str] = {AlarmKind.LEVEL: LEVEL, AlarmKind.SILENCE: SILENCE, AlarmKind.BROKER: BROKER}

_F, _I, _S = FieldType.FLOAT, FieldType.INTEGER, FieldType.STRING

READING = Measurement(
    "reading",
    DATASTREAM_TAGS,
    (
        Field("value", _F, "property", "The reading. Left out where it is missing (NaN) or not finite."),
        Field("flag", _I, "", "QARTOD flag: 1 good, 2 unknown, 3 suspect, 4 fail, 9 missing."),
        Field(
            "remark",
            _I,
            "",
            "Sum of: 1 the time of reception stands in, 2 time corrected by the rule stated for the device, 4 taken "
            "again from the dead letters. Left out if 0.",
        ),
    ),
    "When it was observed, by the device.",
)

WINDOW = Measurement(
    "window",
    (*DATASTREAM_TAGS, WIDTH),
    (
        Field("count", _I, "", "Readings that arrived, whatever their flag."),
        Field("good_count", _I, "", "Readings flagged good."),
        Field("min", _F, "property", "Over the readings not flagged fail or missing; left out if there are none."),
        Field("max", _F, "property", "As min."),
        Field("mean", _F, "property", "As min."),
        Field("last", _F, "property", "The reading observed last, of those that count for min."),
        Field("sum", _F, "property", "As min: of rain, the depth that fell in the window."),
        Field("deviation", _F, "property", "As min: standard deviation around the mean, of these readings alone."),
    ),
    "Start of the window [start, start + width).",
)

ALARM = Measurement(
    "alarm",
    (CITY, DISTRICT, SITE, KIND, SUBJECT, PROPERTY, DOMAIN),
    (
        Field(
            "state",
            _I,
            "",
            "0 normal, 1 unacknowledged, 2 acknowledged, 3 returned unacknowledged, 4 withdrawn: it never was so.",
        ),
        Field("severity", _I, "", "0 normal, 1 waspada, 2 siaga, 3 awas."),
        Field("value", _F, "property", "The reading that caused the change; else seconds of silence or absence."),
        Field("threshold", _F, "property", "The threshold that was passed; else the allowed seconds."),
        Field("peak", _F, "property", "Worst reading of this occurrence so far."),
        Field("raised_at", _I, "ns since 1970 UTC", "When this occurrence of the alarm began."),
        Field("peak_at", _I, "ns since 1970 UTC", "When the peak was."),
        Field("label", _S, "", "What the level is called at this station, such as Siaga 2; left out if none."),
        Field("directory_version", _I, "", "Version of the thresholds that were in force."),
    ),
    "When the change happened, in event time.",
)

PIPELINE = Measurement(
    "pipeline",
    (CITY,),
    (
        Field("messages", _I, "", "Messages received since start."),
        Field("readings", _I, "", "Readings decoded since start."),
        Field("refused", _I, "", "Messages or readings sent to the dead letters since start."),
        Field("duplicates", _I, "", "Readings that had been seen before, since start."),
        Field("late", _I, "", "Readings older than the horizon, since start: stored, not aggregated."),
        Field("stored", _I, "", "Rows that the store has taken since start."),
        Field("latency_s", _F, "s", "From reception to the result, over the last interval."),
        Field("backlog_rows", _I, "", "Rows that wait for the store, in memory or in the spool."),
        Field("spool_bytes", _I, "B", "Size of the spool on disk."),
        Field("brokers", _I, "", "Brokers in the configuration."),
        Field("brokers_connected", _I, "", "Brokers that are connected."),
        Field("backlog_messages", _I, "", "Messages that wait to be taken in, here or at the brokers."),
        Field("clear_in_s", _F, "s", "When none will wait any more; left out while they do not become fewer."),
    ),
    "When the status was taken, in the pipeline's clock.",
)

ACCOUNT = Measurement(
    "account",
    (CITY, DEVICE),
    (
        Field("expected", _F, "", "Readings expected in the hour; 0 where nothing says how many."),
        Field("received", _I, "", "Readings observed in the hour that came, by now."),
        Field("duplicate", _I, "", "Of received: had come before."),
        Field("refused", _I, "", "Messages or readings refused in the hour, by time of reception."),
        Field("late", _I, "", "Of stored: too old to be aggregated."),
        Field("stored", _I, "", "Of received: in the store by now."),
    ),
    "Start of the hour. Written when it is over, and again when it changes. Without a device: of no registered one.",
)

MEASUREMENTS: dict[str, Measurement] = {m.name: m for m in (READING, WINDOW, ALARM, PIPELINE, ACCOUNT)}


def datastream_tags(directory: Directory, datastream: int, device: int | None = None) -> dict[str, str]:
    """Tag values of a datastream, by its index; every tag of ``DATASTREAM_TAGS`` that is not empty.

    ``device`` is the index of the device that fed it then, if that is not the one that does now.

    Examples
    --------
    >>> from telemetry.directory import Datastream, Device, Site
    >>> d = Directory(1, "bandung", 7, (Site("dayeuhkolot", "Dayeuhkolot", -6.98, 107.62, "Bojongsoang"),),
    ...               (Device("awlr-1", "dayeuhkolot"),),
    ...               (Datastream("dayeuhkolot.water_level_m", "dayeuhkolot", "awlr-1", "water_level_m"),))
    >>> datastream_tags(d, 0)  # doctest: +NORMALIZE_WHITESPACE
    {'city': 'bandung', 'district': 'Bojongsoang', 'site': 'dayeuhkolot', 'device': 'awlr-1',
     'datastream': 'dayeuhkolot.water_level_m', 'property': 'water_level_m', 'domain': 'flood'}
    """
    stream = directory.datastreams[datastream]
    site = directory.sites[int(directory.site_of[datastream])]
    fed_by = int(directory.device_of[datastream]) if device is None else device
    return _filled(
        {
            CITY: directory.city,
            DISTRICT: site.district,
            SITE: site.id,
            DEVICE: directory.devices[fed_by].id if fed_by >= 0 else "",
            DATASTREAM: stream.id,
            PROPERTY: stream.property,
            DOMAIN: str(PROPERTIES[stream.property].domain),
        }
    )


def level_label(directory: Directory, datastream: int, severity: int, threshold: float) -> str:
    """What the level is called at this station: the step with this threshold, else the first of this severity."""
    steps = directory.datastreams[datastream].ladder.steps
    for step in steps:
        if step.value == threshold and severity > 0:
            return step.label
    return next((s.label for s in steps if s.severity == severity), "")


def _filled(tags: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in tags.items() if value}
