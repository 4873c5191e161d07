"""The panel that most properties need: their mean over time at each site."""

from __future__ import annotations

from typing import Any

from dashboards.grafana import influxql
from dashboards.grafana.influxql import CHOSEN_WIDTH, IN_SITES, SITE, InfluxQuery, of_property
from dashboards.grafana.panels import Text, label_of, time_series, unit_of
from storage import schema
from telemetry.properties import PROPERTIES

MEANS = Text(
    "Rata-rata jendela yang dipilih, per lokasi, tanpa bacaan gagal. Bila satu titik grafik memuat beberapa jendela, "
    "yang tampak adalah rata-rata dari rata-rata jendela.",
    "Means of the windows chosen, by site, without failed readings. Where one point of the graph holds several "
    "windows, it shows the mean of their means.",
)


def window_means(property_name: str, *, span: int = 12, minimum: float | None = None) -> Any:
    """Mean of one property over time, one line for each site."""
    return time_series(
        label_of(property_name),
        MEANS,
        unit_of(property_name),
        InfluxQuery(_means(property_name), alias="$tag_site"),
        span=span,
        interval="$width",
        minimum=minimum,
    )


def several_window_means(title: Text, *property_names: str, span: int = 12) -> Any:
    """Means of several properties of one unit over time, one line for each site and property."""
    query = influxql.over_time(
        schema.WINDOW,
        f"mean({influxql.column(schema.WINDOW, 'mean')})",
        f"{IN_SITES} AND {of_property(*property_names)} AND {CHOSEN_WIDTH}",
        SITE,
        schema.PROPERTY,
    )
    units = {PROPERTIES[p].unit for p in property_names}
    if len(units) != 1:
        raise ValueError(f"properties of one panel must share one unit, got {sorted(units)} ({title.en})")
    return time_series(
        title,
        MEANS,
        unit_of(property_names[0]),
        InfluxQuery(query, alias="$tag_site $tag_property"),
        span=span,
        interval="$width",
    )


def _means(property_name: str) -> str:
    return influxql.over_time(
        schema.WINDOW,
        f"mean({influxql.column(schema.WINDOW, 'mean')})",
        f"{IN_SITES} AND {of_property(property_name)} AND {CHOSEN_WIDTH}",
        SITE,
    )
