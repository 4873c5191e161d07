"""What all panels share: bilingual titles, units, the colours of severities, and one function for each kind of panel.

Titles and descriptions are bilingual, Indonesian first: one set of dashboards and links serves everybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import stat as stat_builders
from grafana_foundation_sdk.builders import statetimeline as statetimeline_builders
from grafana_foundation_sdk.builders import table as table_builders
from grafana_foundation_sdk.builders import timeseries as timeseries_builders
from grafana_foundation_sdk.models import common, dashboard, units

from dashboards.grafana.influxql import DATA_SOURCE_TYPE, DATA_SOURCE_VARIABLE, InfluxQuery
from telemetry.alarms import AlarmState, Severity
from telemetry.directory import Direction, Ladder
from telemetry.properties import PROPERTIES

WIDTH = 24
"""Width of a dashboard in grid columns."""

SEVERITY_COLOURS: dict[Severity, str] = {
    Severity.NORMAL: "green",
    Severity.WASPADA: "yellow",
    Severity.SIAGA: "orange",
    Severity.AWAS: "red",
}
SEVERITY_WORDS: dict[Severity, str] = {
    Severity.NORMAL: "Normal",
    Severity.WASPADA: "Waspada · Advisory",
    Severity.SIAGA: "Siaga · Warning",
    Severity.AWAS: "Awas · Danger",
}
STATE_WORDS: dict[AlarmState, str] = {
    AlarmState.NORMAL: "normal",
    AlarmState.UNACKNOWLEDGED: "belum diakui · unacknowledged",
    AlarmState.ACKNOWLEDGED: "diakui · acknowledged",
    AlarmState.RETURNED_UNACKNOWLEDGED: "reda, belum diakui · returned, unacknowledged",
    AlarmState.WITHDRAWN: "ditarik · withdrawn",
}
NO_COLOUR = "text"
"""Grafana's name for the colour of plain text."""

GRAFANA_UNITS: dict[str, str] = {
    "m": units.Meter,
    "m³/s": units.CubicMetersPerSecond,
    "mm": units.Millimeter,
    "km/h": units.KilometersPerHour,
    "veh/h": "suffix: veh/h",
    "1": units.PercentUnit,
    "s": units.Seconds,
    "µg/m³": units.MicrogramPerCubicMeter,
    "dB(A)": "suffix: dB(A)",
    "W": units.Watt,
    "lx": units.Lux,
    "°C": units.Celsius,
    "%": units.Percent,
    "m/s": units.MetersPerSecond,
    "°": units.Degrees,
    "hPa": units.Hectopascals,
    "V": units.Volt,
    "dBm": units.DecibelMilliWatt,
}
"""Unit of an observed property → unit in Grafana. Fractions ("1") are shown in percent."""

ALARMS_UNIT = "suffix: alarm"
COUNT_UNIT = units.Short


@dataclass(frozen=True)
class Text:
    """A text in Indonesian and English."""

    id: str
    en: str

    def title(self) -> str:
        """Both on one line; once, if they are the same."""
        return self.id if self.id == self.en else f"{self.id} · {self.en}"

    def paragraphs(self) -> str:
        """One paragraph each."""
        return self.id if self.id == self.en else f"{self.id}\n\n{self.en}"


def label_of(property_name: str) -> Text:
    """Name of an observed property, from the catalogue."""
    observed = PROPERTIES[property_name]
    return Text(observed.label_id, observed.label_en)


def unit_of(property_name: str) -> str:
    """Grafana's unit for an observed property."""
    return GRAFANA_UNITS[PROPERTIES[property_name].unit]


def data_source() -> common.DataSourceRef:
    """The data source that the reader chose."""
    return common.DataSourceRef(type_val=DATA_SOURCE_TYPE, uid=DATA_SOURCE_VARIABLE)


def severity_thresholds() -> Any:
    """Steps at the severities' numbers, for fields that hold a severity."""
    steps = [
        dashboard.Threshold(value=None if s == Severity.NORMAL else float(s), color=SEVERITY_COLOURS[s])
        for s in Severity
    ]
    return builders.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps)


def plain_threshold(colour: str) -> Any:
    """A single step: every value in one colour."""
    steps = [dashboard.Threshold(value=None, color=colour)]
    return builders.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps)


def any_is(colour: str) -> Any:
    """Plain at zero, ``colour`` from one on: for counts of bad things."""
    steps = [dashboard.Threshold(value=None, color=NO_COLOUR), dashboard.Threshold(value=1.0, color=colour)]
    return builders.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps)


def ladder_steps(ladder: Ladder) -> list[tuple[float | None, str]]:
    """Threshold steps (value, colour) of a station's own ladder, ascending; None is the lowest step.

    Examples
    --------
    >>> from telemetry.directory import Step
    >>> ladder_steps(Ladder((Step(1.5, 1, "Siaga 3"), Step(2.0, 3, "Siaga 1"))))
    [(None, 'green'), (1.5, 'yellow'), (2.0, 'red')]
    >>> ladder_steps(Ladder((Step(11.8, 1, "low"), Step(11.0, 2, "empty")), direction=Direction.BELOW))
    [(None, 'orange'), (11.0, 'yellow'), (11.8, 'green')]
    """
    colours = [SEVERITY_COLOURS[Severity.NORMAL], *(SEVERITY_COLOURS[Severity(s.severity)] for s in ladder.steps)]
    values = [s.value for s in ladder.steps]
    if ladder.direction == Direction.BELOW:
        colours, values = colours[::-1], values[::-1]
    return list(zip([None, *values], colours, strict=True))


def ladder_thresholds(ladder: Ladder) -> Any:
    """The thresholds of one station, coloured by severity."""
    steps = [dashboard.Threshold(value=v, color=c) for v, c in ladder_steps(ladder)]
    return builders.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps)


def severity_mapping() -> dashboard.ValueMap:
    """Words and colours in place of a severity's number."""
    return dashboard.ValueMap(
        options={
            str(int(s)): dashboard.ValueMappingResult(text=SEVERITY_WORDS[s], color=SEVERITY_COLOURS[s], index=int(s))
            for s in Severity
        }
    )


def state_mapping() -> dashboard.ValueMap:
    """Words in place of an alarm state's number."""
    return dashboard.ValueMap(
        options={str(int(s)): dashboard.ValueMappingResult(text=STATE_WORDS[s], index=int(s)) for s in AlarmState}
    )


def _common(panel: Any, title: Text, description: Text, unit: str, queries: Sequence[InfluxQuery]) -> Any:
    return (
        panel.title(title.title())
        .description(description.paragraphs())
        .datasource(data_source())
        .unit(unit)
        .targets(list(queries))
    )


def time_series(
    title: Text,
    description: Text,
    unit: str,
    *queries: InfluxQuery,
    span: int = 12,
    height: int = 9,
    decimals: int | None = None,
    thresholds: Any = None,
    bars: bool = False,
    interval: str = "",
    minimum: float | None = None,
) -> Any:
    """Lines (or bars) over time. ``thresholds`` are drawn as dashed lines."""
    panel = (
        _common(timeseries_builders.Panel(), title, description, unit, queries)
        .span(span)
        .height(height)
        .line_width(1)
        .fill_opacity(60 if bars else 0)
        .draw_style(common.GraphDrawStyle.BARS if bars else common.GraphDrawStyle.LINE)
        .show_points(common.VisibilityMode.AUTO)
        .legend(
            common_builders.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(
            common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING)
        )
        .thresholds(thresholds if thresholds is not None else plain_threshold(NO_COLOUR))
    )
    if thresholds is not None:
        panel.thresholds_style(
            common_builders.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        )
    if decimals is not None:
        panel.decimals(decimals)
    if interval:
        panel.interval(interval)
    if minimum is not None:
        panel.min(minimum)
    return panel


def stat(
    title: Text,
    description: Text,
    unit: str,
    *queries: InfluxQuery,
    thresholds: Any = None,
    span: int = 6,
    height: int = 4,
    decimals: int | None = None,
    coloured: bool = False,
    none_means: str = "–",
) -> Any:
    """One large number: the last value. ``none_means`` is shown if the answer is empty."""
    panel = (
        _common(stat_builders.Panel(), title, description, unit, queries)
        .span(span)
        .height(height)
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .color_mode(common.BigValueColorMode.BACKGROUND if coloured else common.BigValueColorMode.VALUE)
        .graph_mode(common.BigValueGraphMode.NONE)
        .no_value(none_means)
        .thresholds(thresholds if thresholds is not None else plain_threshold(NO_COLOUR))
    )
    if decimals is not None:
        panel.decimals(decimals)
    return panel


def table(
    title: Text,
    description: Text,
    unit: str,
    *queries: InfluxQuery,
    sort_by: str,
    descending: bool = True,
    span: int = 12,
    height: int = 9,
    thresholds: Any = None,
    none_means: str = "–",
) -> Any:
    """Rows, sorted by one column."""
    return (
        _common(table_builders.Panel(), title, description, unit, queries)
        .span(span)
        .height(height)
        .sort_by([common_builders.TableSortByFieldState().display_name(sort_by).desc(descending)])
        .filterable(True)
        .no_value(none_means)
        .thresholds(thresholds if thresholds is not None else plain_threshold(NO_COLOUR))
    )


def alarm_table(title: Text, description: Text, query: str, unit: str, span: int = 24) -> Any:
    """Open alarms, the worst first. Columns are named as in the store."""
    coloured = common.TableColoredBackgroundCellOptions(mode=common.TableCellBackgroundDisplayMode.BASIC)
    return (
        table(
            title,
            description,
            unit,
            InfluxQuery(query, result_format="table"),
            sort_by="severity",
            span=span,
            none_means="Tidak ada alarm · No alarms",
        )
        .override_by_name(
            "severity",
            [
                dashboard.DynamicConfigValue(id_val="mappings", value=[severity_mapping()]),
                dashboard.DynamicConfigValue(id_val="custom.cellOptions", value=coloured),
                dashboard.DynamicConfigValue(id_val="unit", value="none"),
            ],
        )
        .override_by_name(
            "state",
            [
                dashboard.DynamicConfigValue(id_val="mappings", value=[state_mapping()]),
                dashboard.DynamicConfigValue(id_val="unit", value="none"),
            ],
        )
    )


def severity_timeline(title: Text, description: Text, query: str, alias: str, span: int = 24, height: int = 8) -> Any:
    """Severity of each alarm over time: coloured from one change to the next."""
    return (
        _common(statetimeline_builders.Panel(), title, description, "none", [InfluxQuery(query, alias=alias)])
        .span(span)
        .height(height)
        .mappings([severity_mapping()])
        .thresholds(severity_thresholds())
        .color_scheme(builders.FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS))
        .show_value(common.VisibilityMode.NEVER)
        .merge_values(True)
        .fill_opacity(80)
        .line_width(0)
        .no_value("–")
    )
