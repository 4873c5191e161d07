"""The frame of every dashboard: UID, variables, annotations of alarms, links between the dashboards, time settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import dashboard

from dashboards.grafana import influxql
from dashboards.grafana.panels import SEVERITY_COLOURS, WIDTH, Text, data_source
from storage import schema
from telemetry.alarms import Severity

TAG = "pantau"
"""Tag of all our dashboards; the links between them go by it."""

FOLDER_UID = "pantau"
FOLDER_TITLE = "Pantau"
DATA_SOURCE_UID = "pantau-influxdb"
FLOOD_UID = "pantau-flood"
TRAFFIC_UID = "pantau-traffic"
STREET_UID = "pantau-street"
DEVICES_UID = "pantau-devices"

ALL = ".*"
LOOK_BACKS = ("30d", "3d", "7d", "90d")
"""The first is the default. InfluxDB 3 Core answers for about three days only: choose 3d there."""


class AlarmAnnotation:
    """Query of an annotation in the form that Grafana's InfluxDB data source expects."""

    def __init__(self, query: str, text_column: str, tags_column: str) -> None:
        self.query = query
        self.text_column = text_column
        self.tags_column = tags_column

    def build(self) -> AlarmAnnotation:
        """The query itself: the SDK takes builders."""
        return self

    def to_json(self) -> dict[str, object]:
        """The annotation's target as it stands in a dashboard's JSON."""
        return {
            "fromAnnotations": True,
            "query": self.query,
            "rawQuery": True,
            "refId": "Anno",
            "tagsColumn": self.tags_column,
            "textColumn": self.text_column,
            "textEditor": True,
        }


def frame(
    uid: str,
    title: Text,
    description: Text,
    domain_condition: str,
    panels: Sequence[Any],
    *,
    alarms: str,
    span: str = "now-6h",
) -> dashboard.Dashboard:
    """A whole dashboard.

    ``domain_condition`` narrows the sites that can be chosen ("": all); ``alarms`` says which alarms are annotated.
    """
    built = (
        builders.Dashboard(f"Pantau: {title.title()}")
        .uid(uid)
        .description(description.paragraphs())
        .tags([TAG])
        .readonly()
        .time(span, "now")
        .timezone("browser")
        .refresh("30s")
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .link(
            builders.DashboardLink("Pantau")
            .type(dashboard.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .include_vars(True)
            .keep_time(True)
        )
        .annotation(_annotation(alarms))
    )
    for variable in _variables(domain_condition):
        built.with_variable(variable)
    whole = built.build()
    whole.panels = _placed([p.build() for p in panels])
    for number, panel in enumerate(every_panel(whole), start=1):
        panel.id_val = number
    return whole


def _placed(panels: Sequence[Any]) -> list[Any]:
    """Panels from left to right in the order given; a panel that does not fit begins a new line."""
    x = y = line_height = 0
    for panel in panels:
        if isinstance(panel, dashboard.RowPanel):
            y, x, line_height = y + line_height, 0, 0
            panel.grid_pos = dashboard.GridPos(h=1, w=WIDTH, x=0, y=y)
            panel.panels = _placed(panel.panels)
            y += 1
            continue
        width, height = panel.grid_pos.w, panel.grid_pos.h
        if x + width > WIDTH:
            y, x, line_height = y + line_height, 0, 0
        panel.grid_pos = dashboard.GridPos(h=height, w=width, x=x, y=y)
        x, line_height = x + width, max(line_height, height)
    return list(panels)


def every_panel(whole: dashboard.Dashboard) -> list[Any]:
    """All panels and rows, those inside rows included."""
    return [p for outer in whole.panels for p in (outer, *(getattr(outer, "panels", None) or ()))]


def _variables(domain_condition: str) -> list[Any]:
    reading = schema.READING
    in_domain = f"{influxql.IN_CITY} AND {domain_condition}" if domain_condition else influxql.IN_CITY
    in_district = f'{in_domain} AND "{schema.DISTRICT}" =~ /^($district)$/'
    return [
        builders.DatasourceVariable("datasource").label("Sumber data · Data source").type(influxql.DATA_SOURCE_TYPE),
        _query_variable(
            "city", "Kota · City", f'SHOW TAG VALUES FROM "{reading.name}" WITH KEY = "{schema.CITY}"', many=False
        ),
        _query_variable(
            "district",
            "Kecamatan · District",
            influxql.tag_values(schema.DISTRICT, reading, in_domain),
        ),
        _query_variable("site", "Lokasi · Site", influxql.tag_values(schema.SITE, reading, in_district)),
        _choice("width", "Jendela · Window", list(schema.WINDOW_NAMES.values())),
        _choice("lookback", "Alarm sejak · Alarms since", list(LOOK_BACKS)),
    ]


def _query_variable(name: str, label: str, query: str, *, many: bool = True) -> Any:
    variable = (
        builders.QueryVariable(name)
        .label(label)
        .datasource(data_source())
        .query(query)
        .definition(query)
        .refresh(dashboard.VariableRefresh.ON_DASHBOARD_LOAD)
        .sort(dashboard.VariableSort.NATURAL_ASC)
        .multi(many)
        .include_all(many)
    )
    if many:
        variable.all_value(ALL).current(dashboard.VariableOption(selected=True, text=["All"], value=["$__all"]))
    return variable


def _choice(name: str, label: str, values: list[str]) -> Any:
    options = [dashboard.VariableOption(selected=v == values[0], text=v, value=v) for v in values]
    return (
        builders.CustomVariable(name)
        .label(label)
        .values(",".join(values))
        .options(options)
        .current(options[0])
        .multi(False)
        .include_all(False)
    )


def _annotation(alarms: str) -> Any:
    condition = f"{alarms} AND {influxql.SEVERITY} >= {int(Severity.SIAGA)}"
    query = influxql.in_range(schema.ALARM, f'{influxql.LABEL}, "{schema.SITE}", {influxql.SEVERITY}', condition)
    return (
        builders.AnnotationQuery()
        .name("Siaga, awas · Warning, danger")
        .datasource(data_source())
        .enable(True)
        .icon_color(SEVERITY_COLOURS[Severity.SIAGA])
        .target(AlarmAnnotation(query, text_column="label", tags_column=schema.SITE))
    )
