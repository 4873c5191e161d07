"""``pantau dashboards``: the Grafana dashboards with what the configuration and the registry know."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from dashboards.grafana import generate
from dashboards.grafana.checks import InfluxQL
from dashboards.grafana.checks import check as check_models
from dashboards.grafana.publishing import DataSource
from dashboards.grafana.publishing import publish as publish_models
from devices.errors import RegistryEmptyError
from devices.registry import Registry
from pantau.settings import Settings, load
from pantau.startup import StartupError
from storage.settings import StoreKind, StoreSettings
from telemetry.directory import Directory

TOKEN_VARIABLE = "GRAFANA_TOKEN"
"""Of a Grafana service account that may write data sources, folders and dashboards."""
READER_VARIABLE = "GRAFANA_INFLUX_TOKEN"
"""What Grafana reads InfluxDB with; it should not be able to write."""


def build(config: Path | None, folder: Path | None) -> list[Path]:
    """Write the dashboards' JSON files; returns their paths. Into a folder of one's own: with the gauges' levels."""
    return generate.build() if folder is None else generate.build(folder, _directory(load(config)))


def check(config: Path | None, *, with_queries: bool = True) -> list[str]:
    """All problems of the dashboards, a line each; with every query asked of the configured InfluxDB."""
    influxql = None
    if with_queries:
        settings = _with_influx(config)
        influxql = InfluxQL(settings.store.url, settings.store.bucket, _reader(settings.store))
    return [str(problem) for problem in check_models(influxql)]


def publish(config: Path | None, url: str) -> list[str]:
    """Put data source, folder and dashboards into a running Grafana; returns what was done, a line each."""
    settings = _with_influx(config)
    token = os.environ.get(TOKEN_VARIABLE)
    if not token:
        raise StartupError(f"set the environment variable {TOKEN_VARIABLE} to a token of a Grafana service account")
    source = DataSource(settings.store.url, settings.store.bucket, os.environ.get(READER_VARIABLE, ""))
    models = generate.dashboards(_directory(settings))
    return [f"{what}: {uid}" for uid, what in publish_models(url, token, source, models).items()]


def _reader(store: StoreSettings) -> str:
    """The token to read with; user and password take its place on 1.x (``Authorization: Token user:password``)."""
    if store.api == "v1":
        return f"{store.username}:{store.password.reveal()}" if store.username else ""
    return store.token.reveal()


def _with_influx(config: Path | None) -> Settings:
    settings = load(config)
    if settings.store.kind != StoreKind.INFLUXDB:
        raise StartupError('Grafana reads InfluxDB: set store.kind = "influxdb" in the configuration')
    return settings


def _directory(settings: Settings) -> Directory | None:
    if not settings.data.folder.exists():
        return None
    try:
        with contextlib.closing(Registry(settings.data.registry)) as registry:
            return registry.directory()
    except RegistryEmptyError:
        return None
