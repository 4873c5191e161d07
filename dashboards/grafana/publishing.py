"""Put data source, folder and dashboards on a Grafana server through its HTTP API. Doing it again changes nothing.

For servers whose files are out of reach; ``deploy/`` provisions the same from files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from grafana_client import GrafanaApi
from grafana_client.client import GrafanaClientError, GrafanaException, TokenAuth

from dashboards.grafana import generate
from dashboards.grafana.frame import DATA_SOURCE_UID, FOLDER_TITLE, FOLDER_UID
from dashboards.grafana.influxql import DATA_SOURCE_TYPE

NOT_FOUND = 404
OF_THE_SERVER = ("id", "version")
"""Keys of a dashboard that Grafana sets itself."""


class PublishError(Exception):
    """Grafana did not take something; the message says what and why."""


@dataclass(frozen=True)
class DataSource:
    """The InfluxDB that Grafana shall read, in InfluxQL."""

    url: str
    """As seen from the Grafana server."""
    database: str
    """Database (1.x, 3.x), or the database that is mapped to the bucket (2.x; by itself the bucket's name)."""
    token: str = ""
    """2.x and 3.x: sent as ``Authorization: Token …``."""
    name: str = "Pantau"

    def payload(self) -> dict[str, Any]:
        """The data source as Grafana's API and provisioning files describe it."""
        settings: dict[str, Any] = {"dbName": self.database, "httpMode": "POST", "version": "InfluxQL"}
        payload = {
            "uid": DATA_SOURCE_UID,
            "name": self.name,
            "type": DATA_SOURCE_TYPE,
            "access": "proxy",
            "url": self.url,
            "jsonData": settings,
        }
        if self.token:
            settings["httpHeaderName1"] = "Authorization"
            payload["secureJsonData"] = {"httpHeaderValue1": f"Token {self.token}"}
        return payload


def publish(
    url: str,
    token: str,
    data_source: DataSource | None = None,
    models: Mapping[str, dict[str, Any]] | None = None,
) -> dict[str, str]:
    """Bring a Grafana server to the state of the code.

    Parameters
    ----------
    url
        Of Grafana, such as ``https://grafana.example.org`` (a path below it is fine).
    token
        Of a service account that may write data sources, folders and dashboards.
    data_source
        None leaves data sources alone.
    models
        Dashboards as plain JSON values, by UID; default: as generated.

    Returns
    -------
    dict
        What was done to each UID: ``created``, ``updated`` or ``unchanged``.

    Raises
    ------
    PublishError
        Grafana refused something.
    OSError
        Grafana does not answer.
    """
    # The client puts "api" right behind the path, so a path needs its slash.
    api = GrafanaApi.from_url(f"{url.rstrip('/')}/", credential=TokenAuth(token))
    done: dict[str, str] = {}
    if data_source is not None:
        done[DATA_SOURCE_UID] = _try("data source", _put_data_source, api, data_source)
    done[FOLDER_UID] = _try("folder", _put_folder, api)
    for uid, model in (generate.dashboards() if models is None else models).items():
        done[uid] = _try(f"dashboard {uid}", _put_dashboard, api, uid, model)
    return done


def _put_data_source(api: Any, data_source: DataSource) -> str:
    if _existing(api.datasource.get_datasource_by_uid, DATA_SOURCE_UID) is None:
        api.datasource.create_datasource(data_source.payload())
        return "created"
    # Secrets can't be read back, so it is written again.
    api.datasource.update_datasource_by_uid(DATA_SOURCE_UID, data_source.payload())
    return "updated"


def _put_folder(api: Any) -> str:
    if _existing(api.folder.get_folder, FOLDER_UID) is not None:
        return "unchanged"
    api.folder.create_folder(FOLDER_TITLE, uid=FOLDER_UID)
    return "created"


def _put_dashboard(api: Any, uid: str, model: dict[str, Any]) -> str:
    existing = _existing(api.dashboard.get_dashboard, uid)
    if existing is not None:
        there = {k: v for k, v in existing["dashboard"].items() if k not in OF_THE_SERVER}
        if there == model and existing.get("meta", {}).get("folderUid") == FOLDER_UID:
            return "unchanged"
    api.dashboard.update_dashboard({"dashboard": model, "folderUid": FOLDER_UID, "overwrite": True})
    return "created" if existing is None else "updated"


def _existing(get: Any, uid: str) -> Any:
    try:
        return get(uid)
    except GrafanaClientError as error:
        if error.status_code == NOT_FOUND:
            return None
        raise


def _try(what: str, put: Any, *arguments: Any) -> str:
    try:
        return str(put(*arguments))
    except GrafanaException as error:
        raise PublishError(f"Grafana did not take {what}: {error.status_code} {error.message}") from error
