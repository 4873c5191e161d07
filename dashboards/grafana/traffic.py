"""The traffic dashboard: speed, flow, occupancy, travel time, alarms, quality of the data."""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.models import dashboard

from dashboards.grafana import influxql
from dashboards.grafana.alarms import alarm_counts, alarm_history, open_alarm_table
from dashboards.grafana.frame import TRAFFIC_UID, frame
from dashboards.grafana.influxql import IN_SITES
from dashboards.grafana.panels import Text
from dashboards.grafana.quality import good_share
from dashboards.grafana.series import window_means
from telemetry.properties import Domain

_TRAFFIC = influxql.of_domain(Domain.TRAFFIC)
_ALARMS = f"{IN_SITES} AND {_TRAFFIC}"


def build() -> dashboard.Dashboard:
    """The dashboard."""
    return frame(
        TRAFFIC_UID,
        Text("Lalu lintas", "Traffic"),
        Text(
            "Kecepatan, arus dan okupansi di tiap titik ukur.",
            "Speed, flow and occupancy at every measuring point.",
        ),
        _TRAFFIC,
        [
            *alarm_counts(_ALARMS),
            speed(),
            flow(),
            occupancy(),
            travel_time(),
            open_alarm_table(_ALARMS),
            alarm_history(_ALARMS),
            good_share(_TRAFFIC),
        ],
        alarms=_ALARMS,
    )


def speed() -> Any:
    """Speed at each site."""
    return window_means("speed_km_h", minimum=0)


def flow() -> Any:
    """Vehicles per hour at each site."""
    return window_means("flow_veh_h", minimum=0)


def occupancy() -> Any:
    """Share of the time that the detector is covered, at each site."""
    return window_means("occupancy", minimum=0)


def travel_time() -> Any:
    """Travel time of each route."""
    return window_means("travel_time_s", minimum=0)
