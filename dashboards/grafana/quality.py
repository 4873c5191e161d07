"""The panel about the quality of the data that the domains' dashboards share."""

from __future__ import annotations

from typing import Any

from dashboards.grafana import influxql
from dashboards.grafana.influxql import CHOSEN_WIDTH, IN_SITES, SITE, InfluxQuery
from dashboards.grafana.panels import GRAFANA_UNITS, Text, time_series
from storage import schema


def good_share(domain_condition: str) -> Any:
    """Share of the readings that are flagged good, at each site."""
    good, count = (influxql.column(schema.WINDOW, f) for f in ("good_count", "count"))
    query = influxql.over_time(
        schema.WINDOW, f"sum({good}) / sum({count})", f"{IN_SITES} AND {domain_condition} AND {CHOSEN_WIDTH}", SITE
    )
    return time_series(
        Text("Bacaan baik", "Good readings"),
        Text(
            "Bagian bacaan yang lolos semua uji mutu, per lokasi; dari jendela yang dipilih.",
            "Share of the readings that passed every quality test, by site; from the windows chosen.",
        ),
        GRAFANA_UNITS["1"],
        InfluxQuery(query, alias="$tag_site"),
        interval="$width",
        minimum=0,
    )
