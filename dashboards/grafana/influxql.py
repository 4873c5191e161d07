"""InfluxQL for Grafana's InfluxDB data source, in the part that InfluxDB 1.x, 2.x and 3.x share.

The foundation SDK has no query class for InfluxDB; ``InfluxQuery`` is one, in raw query mode. Measurements, tags and
fields come from ``storage.schema``. Not used, because InfluxDB 3 lacks them: SLIMIT, SHOW SERIES, cardinality
queries, INTEGRAL, SAMPLE, HOLT_WINTERS.

Variables with several values are written ``=~ /^($site)$/``: Grafana fills in ``a``, ``(a|b)`` or, for "All", ``.*``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from storage import schema
from telemetry.alarms import AlarmState
from telemetry.properties import Domain
from telemetry.quality import FAIL

DATA_SOURCE_TYPE = "influxdb"
DATA_SOURCE_VARIABLE = "${datasource}"

LOOK_BACK = "$lookback"
"""How far back the last change of an alarm that is still open may lie; a variable of the dashboard."""


def column(measurement: schema.Measurement, name: str) -> str:
    """Quoted name of a tag or field; KeyError unless it is one that is written.

    Examples
    --------
    >>> column(schema.WINDOW, "mean"), column(schema.WINDOW, "width")
    ('"mean"', '"width"')
    """
    return f'"{name}"' if name in measurement.tags else f'"{measurement.field(name).name}"'


SITE = schema.SITE
DEVICE = schema.DEVICE
SUBJECT = schema.SUBJECT

IN_CITY = f"\"{schema.CITY}\" = '$city'"
IN_SITES = f'{IN_CITY} AND "{schema.DISTRICT}" =~ /^($district)$/ AND "{SITE}" =~ /^($site)$/'
VALUE = column(schema.READING, "value")
USABLE = f"{column(schema.READING, 'flag')} < {FAIL}"
"""Readings that are not flagged FAIL or MISSING."""
CHOSEN_WIDTH = f"\"{schema.WIDTH}\" = '$width'"
"""Windows of the width that the reader chose."""
SILENT = f"\"{schema.KIND}\" = '{schema.SILENCE}'"
"""Alarms about devices that do not send."""
AWAY = f"\"{schema.KIND}\" = '{schema.BROKER}'"
"""Alarms about brokers that the pipeline is not connected to; they stand at no site."""

STATE = column(schema.ALARM, "state")
SEVERITY = column(schema.ALARM, "severity")
LABEL = column(schema.ALARM, "label")
NOT_WITHDRAWN = f"{STATE} < {int(AlarmState.WITHDRAWN)}"
"""Of changes of alarms: late readings have not shown that it never was so."""
_SHOWN = ", ".join([SEVERITY, *(column(schema.ALARM, f) for f in ("label", "value", "threshold", "peak"))])
_EACH_ALARM = ", ".join(f'"{t}"' for t in (SITE, SUBJECT, schema.KIND))


@dataclass(frozen=True)
class InfluxQuery:
    """One query of a panel, as Grafana's InfluxDB data source expects it. Is its own builder."""

    query: str
    alias: str = ""
    """Name of each series; ``$tag_site`` and ``$col`` are filled in."""
    result_format: Literal["time_series", "table"] = "time_series"
    ref_id: str = "A"

    def build(self) -> InfluxQuery:
        """The query itself: the SDK's panels take builders."""
        return self

    def to_json(self) -> dict[str, object]:
        """The target as it stands in a dashboard's JSON."""
        target: dict[str, object] = {
            "datasource": {"type": DATA_SOURCE_TYPE, "uid": DATA_SOURCE_VARIABLE},
            "query": self.query,
            "rawQuery": True,
            "refId": self.ref_id,
            "resultFormat": self.result_format,
        }
        if self.alias:
            target["alias"] = self.alias
        return target


def of_property(*names: str) -> str:
    """Condition on the observed property.

    Examples
    --------
    >>> of_property("rain_mm")
    '"property" = \\'rain_mm\\''
    >>> of_property("pm2_5_ug_m3", "pm10_ug_m3")
    '"property" =~ /^(pm2_5_ug_m3|pm10_ug_m3)$/'
    """
    if len(names) == 1:
        return f"\"{schema.PROPERTY}\" = '{names[0]}'"
    return f'"{schema.PROPERTY}" =~ /^({"|".join(names)})$/'


def of_domain(domain: Domain) -> str:
    """Condition on the domain."""
    return f"\"{schema.DOMAIN}\" = '{domain}'"


def over_time(measurement: schema.Measurement, expression: str, condition: str, *tags: str) -> str:
    """Aggregate over steps of time in the time range shown, one series for each combination of ``tags``."""
    grouping = ", ".join(["time($__interval)", *(column(measurement, t) for t in tags)])
    return (
        f'SELECT {expression} FROM "{measurement.name}" WHERE {condition} AND $timeFilter '
        f"GROUP BY {grouping} fill(none)"
    )


def in_range(measurement: schema.Measurement, expression: str, condition: str, *tags: str) -> str:
    """One answer for the whole time range shown (or every point, if nothing is aggregated) and each ``tags``."""
    query = f'SELECT {expression} FROM "{measurement.name}" WHERE {condition} AND $timeFilter'
    return f"{query} GROUP BY {', '.join(column(measurement, t) for t in tags)}" if tags else query


def energy_mean_over_time(condition: str, *tags: str) -> str:
    """Energy mean of sound levels, 10·log₁₀(mean(10^(L/10))): an arithmetic mean of decibels would be wrong.

    The numbers are written as floats: with ``pow(10, …)`` InfluxDB 1.6 counts in integers.
    """
    grouping = ", ".join(["time($__interval)", *(column(schema.READING, t) for t in tags)])
    energy = f'SELECT pow(10.0, {VALUE} / 10.0) AS "energy" FROM "{schema.READING.name}" WHERE {condition}'
    return f'SELECT 10.0 * log10(mean("energy")) FROM ({energy}) WHERE $timeFilter GROUP BY {grouping} fill(none)'


def last_changes(condition: str) -> str:
    """Last change of every alarm up to the end of the time range shown."""
    until = f"time > ${{__to}}ms - {LOOK_BACK} AND time <= ${{__to}}ms"
    return (
        f'SELECT last({STATE}) AS {STATE}, {_SHOWN} FROM "{schema.ALARM.name}" '
        f"WHERE {condition} AND {NOT_WITHDRAWN} AND {until} GROUP BY {_EACH_ALARM}"
    )


def open_alarms(condition: str) -> str:
    """The alarms that are not back to normal at the end of the time range shown, one row each."""
    return f"SELECT {STATE}, {_SHOWN} FROM ({last_changes(condition)}) WHERE {STATE} > 0 GROUP BY {_EACH_ALARM}"


def count_open(condition: str, severity: int) -> str:
    """How many alarms stand at ``severity`` at the end of the time range shown; no row if there are none."""
    return f"SELECT count({STATE}) FROM ({last_changes(condition)}) WHERE {SEVERITY} = {severity}"


def severity_changes(condition: str) -> str:
    """Every change of severity in the time range shown, one series for each alarm."""
    return in_range(schema.ALARM, SEVERITY, f"{condition} AND {NOT_WITHDRAWN}", SITE, SUBJECT)


def tag_values(tag: str, measurement: schema.Measurement, condition: str) -> str:
    """The values of a tag, for a variable."""
    return f'SHOW TAG VALUES FROM "{measurement.name}" WITH KEY = {column(measurement, tag)} WHERE {condition}'


def literal(text: str) -> str:
    """``text`` for use between single quotes.

    Examples
    --------
    >>> literal("it's")
    "it\\\\'s"
    """
    return text.replace("\\", "\\\\").replace("'", "\\'")
