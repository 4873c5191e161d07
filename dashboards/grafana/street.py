"""The street dashboard: air, noise, lamps and weather."""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.models import dashboard

from dashboards.grafana import influxql
from dashboards.grafana.alarms import alarm_counts, alarm_history, open_alarm_table
from dashboards.grafana.frame import STREET_UID, frame
from dashboards.grafana.influxql import IN_SITES, SITE, USABLE, InfluxQuery, of_property
from dashboards.grafana.panels import Text, label_of, time_series, unit_of
from dashboards.grafana.quality import good_share
from dashboards.grafana.series import several_window_means, window_means
from storage import schema
from telemetry.properties import PROPERTIES, Domain

NOISE = "laeq_db"

_STREET = influxql.of_domain(Domain.STREET)
_ALARMS = f"{IN_SITES} AND {_STREET}"


def build() -> dashboard.Dashboard:
    """The dashboard."""
    return frame(
        STREET_UID,
        Text("Jalan", "Street"),
        Text("Udara, kebisingan, lampu jalan dan cuaca.", "Air, noise, street lamps and weather."),
        _STREET,
        [
            *alarm_counts(_ALARMS),
            open_alarm_table(_ALARMS),
            particles(),
            gases(),
            carbon_monoxide(),
            noise(),
            lamp_power(),
            illuminance(),
            temperature(),
            humidity(),
            wind_speed(),
            wind_direction(),
            air_pressure(),
            good_share(_STREET),
            alarm_history(_ALARMS),
        ],
        alarms=_ALARMS,
        span="now-24h",
    )


def particles() -> Any:
    """Fine dust at each site."""
    return several_window_means(Text("Partikulat", "Particles"), "pm2_5_ug_m3", "pm10_ug_m3")


def gases() -> Any:
    """Gases at each site; carbon monoxide has a panel of its own, its numbers being a hundred times larger."""
    return several_window_means(Text("Gas", "Gases"), "no2_ug_m3", "nox_ug_m3", "o3_ug_m3", "so2_ug_m3")


def carbon_monoxide() -> Any:
    """Carbon monoxide at each site."""
    return window_means("co_ug_m3")


def noise() -> Any:
    """Sound level at each site, averaged as energy."""
    condition = f"{IN_SITES} AND {of_property(NOISE)} AND {USABLE}"
    return time_series(
        label_of(NOISE),
        Text(
            "Rata-rata energi bacaan per langkah waktu (bukan rata-rata desibel), tanpa bacaan gagal.",
            "Energy mean of the readings in each step of time (not the mean of the decibels), without failed readings.",
        ),
        unit_of(NOISE),
        InfluxQuery(influxql.energy_mean_over_time(condition, SITE), alias="$tag_site"),
        decimals=PROPERTIES[NOISE].decimals,
    )


def lamp_power() -> Any:
    """Power of the lamps at each site."""
    return window_means("lamp_power_w", minimum=0)


def illuminance() -> Any:
    """Illuminance at each site."""
    return window_means("illuminance_lx", minimum=0)


def temperature() -> Any:
    """Air temperature at each site."""
    return window_means("temperature_c")


def humidity() -> Any:
    """Relative humidity at each site."""
    return window_means("humidity_percent", minimum=0)


def wind_speed() -> Any:
    """Wind speed at each site."""
    return window_means("wind_speed_m_s", minimum=0)


def wind_direction() -> Any:
    """The direction observed last: a mean of 350° and 10° would be south."""
    name = "wind_direction_deg"
    condition = f"{IN_SITES} AND {of_property(name)} AND {USABLE}"
    query = influxql.over_time(schema.READING, f"last({influxql.VALUE})", condition, SITE)
    return time_series(
        label_of(name),
        Text(
            "Arah yang terakhir teramati per langkah waktu, asal angin, dari utara searah jarum jam.",
            "Direction observed last in each step of time, where the wind comes from, clockwise from north.",
        ),
        unit_of(name),
        InfluxQuery(query, alias="$tag_site"),
        decimals=PROPERTIES[name].decimals,
    )


def air_pressure() -> Any:
    """Air pressure at each site."""
    return window_means("pressure_hpa")
