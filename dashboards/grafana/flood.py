"""The flood dashboard: open alarms, stage at each site with its levels, rise, rain, discharge, quality of the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import dashboard

from dashboards.grafana import influxql
from dashboards.grafana.alarms import alarm_counts, alarm_history, open_alarm_table
from dashboards.grafana.frame import FLOOD_UID, frame
from dashboards.grafana.influxql import CHOSEN_WIDTH, IN_SITES, SITE, USABLE, VALUE, InfluxQuery, of_property
from dashboards.grafana.panels import Text, label_of, ladder_thresholds, time_series, unit_of
from dashboards.grafana.quality import good_share
from storage import schema
from telemetry.directory import Directory
from telemetry.properties import PROPERTIES, Domain

LEVEL = "water_level_m"
RAIN = "rain_mm"
DISCHARGE = "discharge_m3_s"
STEADY_WIDTH_S = 900
"""Windows over which the rise is taken: long enough that waves do not count."""

_FLOOD = influxql.of_domain(Domain.FLOOD)
_ALARMS = f"{IN_SITES} AND {_FLOOD}"


def build(directory: Directory | None = None) -> dashboard.Dashboard:
    """The dashboard; with a directory also a row of panels with every station's own levels."""
    panels: list[Any] = [
        *alarm_counts(_ALARMS),
        open_alarm_table(_ALARMS),
        stage(),
        rise(),
        rain(),
        discharge(),
        alarm_history(_ALARMS),
        stage_windows(),
        good_share(_FLOOD),
    ]
    if directory is not None:
        stations = stage_of_stations(directory)
        if stations:
            panels.append(_row(stations))
    return frame(
        FLOOD_UID,
        Text("Banjir", "Flood"),
        Text(
            "Tinggi muka air, hujan dan alarm banjir di seluruh kota.",
            "Stage, rain and flood alarms across the city.",
        ),
        _FLOOD,
        panels,
        alarms=_ALARMS,
    )


def stage() -> Any:
    """Stage at each site, and the threshold that each site passed last."""
    highest = influxql.over_time(
        schema.READING, f"max({VALUE})", f"{IN_SITES} AND {of_property(LEVEL)} AND {USABLE}", SITE
    )
    threshold = influxql.column(schema.ALARM, "threshold")
    passed = influxql.in_range(
        schema.ALARM, threshold, f"{IN_SITES} AND {of_property(LEVEL)} AND {influxql.SEVERITY} > 0", SITE
    )
    return time_series(
        label_of(LEVEL),
        Text(
            "Bacaan tertinggi per langkah waktu, di atas nol peil tiap pos, tanpa bacaan gagal. "
            "Titik bertanda ▲: ambang yang dilampaui, pada saat alarm berubah.",
            "Highest reading in each step of time, above each gauge's own zero, without failed readings. "
            "Points marked ▲: the threshold passed, at the time when the alarm changed.",
        ),
        unit_of(LEVEL),
        InfluxQuery(highest, alias="$tag_site"),
        InfluxQuery(passed, alias="▲ $tag_site", ref_id="B"),
        span=24,
        height=11,
        decimals=PROPERTIES[LEVEL].decimals,
    ).override_by_regexp("^▲ .*", [dashboard.DynamicConfigValue(id_val="custom.drawStyle", value="points")])


def rise() -> Any:
    """How fast the water rises at each site."""
    width = schema.window_name(STEADY_WIDTH_S)
    last = influxql.column(schema.WINDOW, "last")
    condition = f"{IN_SITES} AND {of_property(LEVEL)} AND \"{schema.WIDTH}\" = '{width}'"
    return time_series(
        Text("Laju kenaikan air", "Rate of rise"),
        Text(
            f"Kenaikan muka air per jam, dari bacaan terakhir jendela {width}. Negatif: surut.",
            f"Rise of the stage per hour, from the last reading of {width} windows. Negative: falling.",
        ),
        "suffix: m/h",
        InfluxQuery(
            influxql.over_time(schema.WINDOW, f"derivative(last({last}), 1h)", condition, SITE), alias="$tag_site"
        ),
        decimals=2,
        interval=width,
    )


def rain() -> Any:
    """Rain at each site."""
    condition = f"{IN_SITES} AND {of_property(RAIN)} AND {USABLE}"
    return time_series(
        label_of(RAIN),
        Text(
            "Jumlah hujan per langkah waktu, tanpa bacaan gagal.",
            "Sum of the rain in each step of time, without failed readings.",
        ),
        unit_of(RAIN),
        InfluxQuery(influxql.over_time(schema.READING, f"sum({VALUE})", condition, SITE), alias="$tag_site"),
        bars=True,
        decimals=PROPERTIES[RAIN].decimals,
        interval=schema.window_name(STEADY_WIDTH_S),
        minimum=0,
    )


def discharge() -> Any:
    """Discharge at each site."""
    mean = influxql.column(schema.WINDOW, "mean")
    condition = f"{IN_SITES} AND {of_property(DISCHARGE)} AND {CHOSEN_WIDTH}"
    return time_series(
        label_of(DISCHARGE),
        Text("Rata-rata debit jendela yang dipilih.", "Mean discharge of the windows chosen."),
        unit_of(DISCHARGE),
        InfluxQuery(influxql.over_time(schema.WINDOW, f"mean({mean})", condition, SITE), alias="$tag_site"),
        decimals=PROPERTIES[DISCHARGE].decimals,
        interval="$width",
    )


def stage_windows() -> Any:
    """Lowest, mean and highest stage of each window."""
    condition = f"{IN_SITES} AND {of_property(LEVEL)} AND {CHOSEN_WIDTH}"
    low, mean, high = (influxql.column(schema.WINDOW, f) for f in ("min", "mean", "max"))
    query = influxql.over_time(
        schema.WINDOW, f'min({low}) AS "min", mean({mean}) AS "mean", max({high}) AS "max"', condition, SITE
    )
    return time_series(
        Text("Tinggi muka air per jendela", "Stage by window"),
        Text(
            "Terendah, rata-rata dan tertinggi tiap jendela yang dipilih, seperti yang disimpan.",
            "Lowest, mean and highest of each window chosen, as stored.",
        ),
        unit_of(LEVEL),
        InfluxQuery(query, alias="$tag_site $col"),
        decimals=PROPERTIES[LEVEL].decimals,
        interval="$width",
    )


def stage_of_stations(directory: Directory) -> list[Any]:
    """One panel for each gauge with thresholds: its stage, and its own levels as coloured lines."""
    panels = []
    for stream in directory.datastreams:
        if stream.property != LEVEL or not stream.ladder.steps:
            continue
        site = next(s for s in directory.sites if s.id == stream.site)
        condition = f"{influxql.IN_CITY} AND \"{schema.DATASTREAM}\" = '{influxql.literal(stream.id)}' AND {USABLE}"
        levels = ", ".join(f"{s.label or s.severity}: {s.value:g} m" for s in stream.ladder.steps)
        panels.append(
            time_series(
                Text(site.name, site.name),
                Text(
                    f"Tinggi muka air dan ambang pos ini. {levels}. Versi ambang {directory.version}.",
                    f"Stage, and the thresholds of this gauge. {levels}. Thresholds of version {directory.version}.",
                ),
                unit_of(LEVEL),
                InfluxQuery(influxql.over_time(schema.READING, f"max({VALUE})", condition, SITE), alias="$tag_site"),
                span=8,
                height=8,
                decimals=PROPERTIES[LEVEL].decimals,
                thresholds=ladder_thresholds(stream.ladder),
            )
        )
    return panels


def _row(panels: Sequence[Any]) -> Any:
    row = builders.Row(Text("Tiap pos dengan ambangnya", "Each gauge with its levels").title())
    for panel in panels:
        row.with_panel(panel)
    return row
