"""The dashboard of devices and pipeline: who is silent, batteries, signal, and where readings go."""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.models import dashboard, units

from dashboards.grafana import influxql
from dashboards.grafana.alarms import alarm_history
from dashboards.grafana.frame import DEVICES_UID, frame
from dashboards.grafana.influxql import (
    AWAY,
    CHOSEN_WIDTH,
    DEVICE,
    IN_CITY,
    IN_SITES,
    SILENT,
    VALUE,
    InfluxQuery,
    of_property,
)
from dashboards.grafana.panels import (
    COUNT_UNIT,
    SEVERITY_COLOURS,
    Text,
    alarm_table,
    any_is,
    label_of,
    plain_threshold,
    stat,
    table,
    time_series,
    unit_of,
)
from storage import schema
from telemetry.alarms import Severity
from telemetry.properties import PROPERTIES

BATTERY = "battery_v"
SIGNAL = "rssi_dbm"
STATUS_INTERVAL = "10s"
"""The pipeline writes its status about this often."""

_SILENCE = f"{IN_SITES} AND {SILENT}"
_BROKERS = f"{IN_CITY} AND {AWAY}"


def build() -> dashboard.Dashboard:
    """The dashboard."""
    return frame(
        DEVICES_UID,
        Text("Perangkat dan jalur data", "Devices and pipeline"),
        Text(
            "Perangkat yang diam, baterai, sinyal, dan ke mana bacaan pergi.",
            "Silent devices, batteries, signal, and where readings go.",
        ),
        "",
        [
            silent_count(),
            refused(),
            backlog(),
            latency(),
            silent_devices(),
            silence_history(),
            brokers_away(),
            brokers_history(),
            battery(),
            battery_history(),
            signal(),
            signal_history(),
            connected(),
            received_by_device(),
            messages_and_readings(),
            losses(),
            stored(),
            backlog_history(),
        ],
        alarms=_SILENCE,
        span="now-24h",
    )


def silent_count() -> Any:
    """How many devices are silent."""
    count = f"SELECT count({influxql.STATE}) FROM ({influxql.last_changes(_SILENCE)}) WHERE {influxql.SEVERITY} > 0"
    return stat(
        Text("Perangkat diam", "Silent devices"),
        Text(
            "Perangkat yang tidak mengirim lebih lama dari yang diizinkan, pada akhir rentang waktu.",
            "Devices that have not sent for longer than allowed, at the end of the time range.",
        ),
        "none",
        InfluxQuery(count),
        thresholds=any_is(SEVERITY_COLOURS[Severity.SIAGA]),
        coloured=True,
        none_means="0",
    )


def silent_devices() -> Any:
    """The silent devices, the longest allowed silence first."""
    return alarm_table(
        Text("Perangkat diam", "Silent devices"),
        Text(
            "Waktu: saat alarm berubah. value: lama diam saat itu; threshold: lama diam yang diizinkan.",
            "Time: when the alarm changed. value: silence by then; threshold: silence allowed.",
        ),
        influxql.open_alarms(_SILENCE),
        units.Seconds,
        span=12,
    )


def silence_history() -> Any:
    """When each device was silent."""
    return alarm_history(_SILENCE, span=12)


def brokers_away() -> Any:
    """The brokers that are away."""
    return alarm_table(
        Text("Broker terputus", "Brokers disconnected"),
        Text(
            "Satu alarm per broker; perangkat yang terakhir didengar lewat broker itu tidak dianggap diam. "
            "value: lama terputus saat itu; threshold: yang diizinkan.",
            "One alarm for each broker; devices last heard through it are not called silent. "
            "value: absence by then; threshold: absence allowed.",
        ),
        influxql.open_alarms(_BROKERS),
        units.Seconds,
        span=12,
    )


def brokers_history() -> Any:
    """When each broker was away."""
    return alarm_history(_BROKERS, span=12)


def battery() -> Any:
    """Last battery voltage of each device, the lowest first."""
    return _last_of_each_device(BATTERY, descending=False)


def signal() -> Any:
    """Last signal strength of each device, the weakest first."""
    return _last_of_each_device(SIGNAL, descending=False)


def battery_history() -> Any:
    """Lowest battery voltage of each device over time."""
    return _lowest_over_time(BATTERY)


def signal_history() -> Any:
    """Weakest signal of each device over time."""
    return _lowest_over_time(SIGNAL)


def connected() -> Any:
    """How many brokers the pipeline is connected to."""
    there, all_of_them = (influxql.column(schema.PIPELINE, f) for f in ("brokers_connected", "brokers"))
    query = influxql.over_time(
        schema.PIPELINE, f'min({there}) AS "terhubung · connected", max({all_of_them}) AS "semua · all"', IN_CITY
    )
    return time_series(
        Text("Broker terhubung", "Brokers connected"),
        Text(
            "Terkecil dalam setiap langkah waktu. Selama satu broker putus, alarm perangkat diam miliknya ditahan.",
            "Smallest in each step of time. While a broker is gone, alarms of its silent devices are held back.",
        ),
        COUNT_UNIT,
        InfluxQuery(query, alias="$col"),
        minimum=0,
    )


def received_by_device() -> Any:
    """Readings received from each device in the time range, and how many were good."""
    count, good = (influxql.column(schema.WINDOW, f) for f in ("count", "good_count"))
    query = influxql.in_range(
        schema.WINDOW,
        f'sum({count}) AS "readings", sum({good}) AS "good"',
        f"{IN_SITES} AND {CHOSEN_WIDTH}",
        DEVICE,
    )
    return table(
        Text("Bacaan per perangkat", "Readings by device"),
        Text(
            "Bacaan yang diterima dalam rentang waktu ini (readings) dan yang baik (good), yang paling sedikit dahulu; "
            "dari jendela yang dipilih.",
            "Readings received in this time range, and the good ones, the fewest first; from the windows chosen.",
        ),
        COUNT_UNIT,
        InfluxQuery(query, result_format="table"),
        sort_by="readings",
        descending=False,
    )


def messages_and_readings() -> Any:
    """Messages and readings per second."""
    return _rates(
        Text("Pesan dan bacaan", "Messages and readings"),
        Text("Yang diterima dari broker, per detik.", "Received from the brokers, per second."),
        "messages",
        "readings",
    )


def losses() -> Any:
    """Refused, duplicate and late readings per second."""
    return _rates(
        Text("Ditolak, ganda, terlambat", "Refused, duplicate, late"),
        Text(
            "Per detik. Yang ditolak ada di surat mati beserta alasannya; yang terlambat disimpan, tidak dihitung.",
            "Per second. The refused are in the dead letters with a reason; the late are stored but not aggregated.",
        ),
        "refused",
        "duplicates",
        "late",
    )


def stored() -> Any:
    """Rows stored per second."""
    return _rates(
        Text("Tersimpan", "Stored"),
        Text("Baris yang diterima penyimpanan, per detik.", "Rows that the store has taken, per second."),
        "stored",
    )


def refused() -> Any:
    """Refused in the time range."""
    column = influxql.column(schema.PIPELINE, "refused")
    return stat(
        Text("Ditolak", "Refused"),
        Text(
            "Pesan atau bacaan yang ditolak dalam rentang waktu ini; alasannya ada di surat mati. "
            "Bila Pantau dimulai ulang di dalamnya, angka ini dapat terlalu kecil.",
            "Messages or readings refused in this time range; the dead letters hold the reasons. "
            "If Pantau was restarted in it, the number can be too small.",
        ),
        COUNT_UNIT,
        InfluxQuery(influxql.in_range(schema.PIPELINE, f"spread({column})", IN_CITY)),
        thresholds=any_is(SEVERITY_COLOURS[Severity.WASPADA]),
    )


def backlog() -> Any:
    """Rows that wait for the store."""
    column = influxql.column(schema.PIPELINE, "backlog_rows")
    return stat(
        Text("Antrean penyimpanan", "Store backlog"),
        Text("Baris yang menunggu penyimpanan, terakhir diketahui.", "Rows that wait for the store, as last known."),
        COUNT_UNIT,
        InfluxQuery(influxql.in_range(schema.PIPELINE, f"last({column})", IN_CITY)),
        thresholds=plain_threshold(SEVERITY_COLOURS[Severity.NORMAL]),
    )


def latency() -> Any:
    """From reception to result."""
    column = influxql.column(schema.PIPELINE, "latency_s")
    return stat(
        Text("Dari penerimaan ke hasil", "From reception to result"),
        Text("Waktu proses, terakhir diketahui.", "Time of processing, as last known."),
        units.Seconds,
        InfluxQuery(influxql.in_range(schema.PIPELINE, f"last({column})", IN_CITY)),
        decimals=3,
    )


def backlog_history() -> Any:
    """Rows that wait for the store, over time."""
    column = influxql.column(schema.PIPELINE, "backlog_rows")
    return time_series(
        Text("Antrean penyimpanan", "Store backlog"),
        Text(
            "Baris yang menunggu penyimpanan. Naik terus: penyimpanan mati atau terlalu lambat.",
            "Rows that wait for the store. Rising steadily: the store is down or too slow.",
        ),
        COUNT_UNIT,
        InfluxQuery(influxql.over_time(schema.PIPELINE, f"max({column})", IN_CITY), alias="backlog"),
        interval=STATUS_INTERVAL,
        minimum=0,
    )


def _rates(title: Text, description: Text, *counters: str) -> Any:
    rates = ", ".join(
        f'non_negative_derivative(max({influxql.column(schema.PIPELINE, c)}), 1s) AS "{c}"' for c in counters
    )
    return time_series(
        title,
        description,
        units.CountsPerSecond,
        InfluxQuery(influxql.over_time(schema.PIPELINE, rates, IN_CITY), alias="$col"),
        interval=STATUS_INTERVAL,
        minimum=0,
    )


def _last_of_each_device(property_name: str, *, descending: bool) -> Any:
    label = label_of(property_name)
    return table(
        Text(f"{label.id}, terakhir", f"{label.en}, last"),
        Text(
            "Bacaan terakhir tiap perangkat dalam rentang waktu ini, yang terendah dahulu.",
            "Last reading of each device in this time range, the lowest first.",
        ),
        unit_of(property_name),
        InfluxQuery(
            influxql.in_range(
                schema.READING, f'last({VALUE}) AS "last"', f"{IN_SITES} AND {of_property(property_name)}", DEVICE
            ),
            result_format="table",
        ),
        sort_by="last",
        descending=descending,
    )


def _lowest_over_time(property_name: str) -> Any:
    query = influxql.over_time(schema.READING, f"min({VALUE})", f"{IN_SITES} AND {of_property(property_name)}", DEVICE)
    return time_series(
        label_of(property_name),
        Text("Terendah per langkah waktu, tiap perangkat.", "Lowest in each step of time, of each device."),
        unit_of(property_name),
        InfluxQuery(query, alias="$tag_device"),
        decimals=PROPERTIES[property_name].decimals,
    )
