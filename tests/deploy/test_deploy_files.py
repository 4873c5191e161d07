"""The deployment's files against the schemas, programs and code that read them. No container engine is used."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from dashboards.grafana import frame, generate
from dashboards.grafana.influxql import DATA_SOURCE_TYPE
from dashboards.grafana.publishing import DataSource
from pantau import settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
DASHBOARDS_IN_GRAFANA = "/var/lib/pantau-dashboards"


def schema() -> dict[str, Any]:
    return json.loads(Path(__file__).with_name("compose-spec.schema.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def mounts(service: str) -> dict[str, tuple[str, str]]:
    """Target → (source, mode) of a service's volumes."""
    parts = [v.split(":") for v in SERVICES[service]["volumes"]]
    return {p[1]: (p[0], p[2] if len(p) > 2 else "rw") for p in parts}


def test_compose_file_follows_the_compose_specification() -> None:
    validator = jsonschema.Draft7Validator(schema())
    assert [e.message for e in validator.iter_errors(COMPOSE)] == []
    broken = {**COMPOSE, "services": {"x": {"image": "y", "helthcheck": {}}}}
    assert list(validator.iter_errors(broken)), "the schema finds nothing wrong with a misspelt key"


@pytest.mark.parametrize("name", SERVICES)
def test_services_have_few_rights_and_a_health_check(name: str) -> None:
    service = SERVICES[name]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["cap_drop"] == ["ALL"]
    user, _, _ = service["user"].partition(":")
    assert int(user) > 0
    assert "privileged" not in service and "cap_add" not in service
    assert service["healthcheck"]["test"]
    assert re.fullmatch(r"[\w./-]+:\d+\.\d+\.\d+", service["image"]), "pin a whole version"
    # InfluxDB's image has not been seen to start with a read-only root.
    assert service.get("read_only", False) or name == "influxdb"
    for port in service.get("ports", []):
        assert re.fullmatch(r"\$\{\w+_ADDRESS:-127\.0\.0\.1\}:\d+:\d+", port), "loopback unless said otherwise"


def test_every_mounted_file_is_there_and_every_volume_declared() -> None:
    made_by_setup = {"./secrets/mosquitto-passwords"}
    for name, service in SERVICES.items():
        for target, (source, mode) in mounts(name).items():
            if source.startswith("."):
                assert mode == "ro", f"{name}: {target}"
                assert source in made_by_setup or (DEPLOY / source).exists(), f"{name}: {source}"
            else:
                assert source in COMPOSE["volumes"], f"{name}: {source}"
        assert set(service["networks"]) <= set(COMPOSE["networks"])


def test_every_variable_of_the_compose_files_is_in_the_example() -> None:
    text = "".join((DEPLOY / name).read_text(encoding="utf-8") for name in ("compose.yaml", "compose.dynsec.yaml"))
    used = set(re.findall(r"(?<!\$)\$\{(\w+)", text))
    lines = (DEPLOY / ".env.example").read_text(encoding="utf-8").splitlines()
    assert used == {line.partition("=")[0] for line in lines if line and not line.startswith("#")}


def test_pantau_toml_is_understood_and_agrees_with_the_compose_file() -> None:
    environment = dict(SERVICES["pantau"]["environment"])
    read = settings.load(DEPLOY / "pantau.toml", environment)
    assert read.store.kind == "influxdb" and read.store.token.reveal() == environment["PANTAU_INFLUX_TOKEN"]
    assert {read.brokers[0].host, read.store.url.split("//")[1].split(":")[0]} <= set(SERVICES)
    assert str(read.data.folder) in mounts("pantau")
    influx = SERVICES["influxdb"]["environment"]
    assert read.store.org == influx["DOCKER_INFLUXDB_INIT_ORG"]
    assert read.store.bucket == influx["DOCKER_INFLUXDB_INIT_BUCKET"]
    assert SERVICES["pantau"]["ports"][0].endswith(f":{read.page.port}")


# Grafana's documentation: "Provision Grafana" and "Provision the InfluxDB data source".
DATA_SOURCE_KEYS = {"uid", "name", "type", "access", "url", "isDefault", "editable", "jsonData", "secureJsonData"}
PROVIDER_KEYS = {
    "name",
    "orgId",
    "type",
    "folder",
    "folderUid",
    "disableDeletion",
    "allowUiUpdates",
    "updateIntervalSeconds",
    "options",
}


def test_provisioned_data_source_is_the_one_that_publishing_makes() -> None:
    file = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/pantau.yaml").read_text(encoding="utf-8"))
    assert file["apiVersion"] == 1
    (source,) = file["datasources"]
    assert set(source) == DATA_SOURCE_KEYS
    made = DataSource(source["url"], "pantau", "grafana:$INFLUX_GRAFANA_PASSWORD").payload()
    assert {k: source[k] for k in made} == made
    assert source["uid"] == frame.DATA_SOURCE_UID and source["type"] == DATA_SOURCE_TYPE
    assert source["jsonData"]["dbName"] == SERVICES["influxdb"]["environment"]["DOCKER_INFLUXDB_INIT_BUCKET"]
    assert "INFLUX_GRAFANA_PASSWORD" in SERVICES["grafana"]["environment"]
    assert (
        SERVICES["grafana"]["environment"]["INFLUX_GRAFANA_PASSWORD"]
        == (SERVICES["influxdb"]["environment"]["GRAFANA_READER_PASSWORD"])
    )


def test_provisioned_dashboards_are_the_committed_ones() -> None:
    file = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/pantau.yaml").read_text(encoding="utf-8"))
    (provider,) = file["providers"]
    assert set(provider) == PROVIDER_KEYS
    assert provider["folderUid"] == frame.FOLDER_UID
    source, mode = mounts("grafana")[provider["options"]["path"]]
    assert (DEPLOY / source).resolve() == generate.GENERATED.resolve() and mode == "ro"


def test_influxdb_init_script_is_sound_shell() -> None:
    script = DEPLOY / "influxdb/init.sh"
    assert script.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", str(script)], check=True)
    used = set(re.findall(r"\$(\w+)", script.read_text(encoding="utf-8")))
    from_image = {"DOCKER_INFLUXDB_INIT_BUCKET_ID"}
    assert used - from_image <= set(SERVICES["influxdb"]["environment"])


def test_dockerfile_copies_what_the_wheel_needs_and_installs_by_hash() -> None:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    assert "--require-hashes" in text and "--no-deps" in text
    assert re.findall(r"^USER (\S+)", text, re.MULTILINE)[-1] == SERVICES["pantau"]["user"]
    kept = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    backend = project["build-system"]["requires"][0]
    assert kept == packages | {"requirements.lock", "pyproject.toml", "README.md", "LICENSE"}
    assert f"\n{backend} " in (ROOT / "requirements.lock").read_text(encoding="utf-8")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_unit_is_sound(tmp_path: Path) -> None:
    text = (DEPLOY / "systemd/pantau.service").read_text(encoding="utf-8")
    # The program is not installed where the unit expects it; everything else is as shipped.
    unit = tmp_path / "pantau.service"
    unit.write_text(text.replace("/opt/pantau/bin/pantau", "/bin/true"), encoding="utf-8")
    result = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert (result.returncode, [line for line in result.stderr.splitlines() if "pantau" in line]) == (0, [])
    unit.write_text(text.replace("NoNewPrivileges", "NoNewPriviledges"), encoding="utf-8")
    result = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert "NoNewPriviledges" in result.stderr, "a misspelt key passes unseen"
