"""The shipped dynsec.conf and what setup.py writes for it, with a real Mosquitto; paths and the port are replaced."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import socket
import subprocess
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from devices.credentials import Broker, DeviceSide, Login
from devices.credentials.dynsec import DynsecIssuer
from pantau import settings
from tests.devices.broker_user import NOT_AUTHORIZED, BrokerUser, wait_until
from tests.devices.secured_broker import PLUGIN

DEPLOY = Path(__file__).parents[2] / "deploy"
SETUP = runpy.run_path(str(DEPLOY / "setup.py"))
OVERRIDE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.dynsec.yaml").read_text(encoding="utf-8"))


@dataclass
class Deployed:
    port: int
    folder: Path
    secrets: dict[str, str]
    process: subprocess.Popen[bytes]

    def issuer(self) -> DynsecIssuer:
        """As pantau.toml's [credentials] asks for it."""
        admin = Login(settings.CredentialsSettings().admin_username, self.secrets["MQTT_ADMIN_PASSWORD"])
        return DynsecIssuer(
            Broker("127.0.0.1", self.port),
            admin,
            city="kota",
            device_side=DeviceSide("mqtt.kota.example"),
            pipeline=Login("pantau", self.secrets["MQTT_PANTAU_PASSWORD"]),
        )

    def user(self, name: str, password: str, client_id: str = "") -> BrokerUser:
        return BrokerUser(self.port, name, password, client_id)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    folder = tmp_path_factory.mktemp("dynsec")
    shutil.copy(DEPLOY / ".env.example", folder)
    SETUP["main"](["dynsec"], folder)
    secrets = SETUP["write_environment"](folder)
    (folder / "data").mkdir()
    # What the command of compose.dynsec.yaml does.
    shutil.copy(folder / "secrets/dynamic-security.json", folder / "data")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = int(s.getsockname()[1])
    config = (DEPLOY / "mosquitto/dynsec.conf").read_text(encoding="utf-8")
    for shipped, here in (
        ("\nlistener 1883\n", f"\nlistener {port} 127.0.0.1\n"),
        ("/usr/lib/mosquitto_dynamic_security.so", str(PLUGIN)),
        ("/mosquitto/data/", f"{folder / 'data'}/"),
    ):
        assert shipped in config
        config = config.replace(shipped, here)
    # Started by root, Mosquitto would change to a user who can't read the temporary folder.
    (folder / "mosquitto.conf").write_text(config + ("user root\n" if os.getuid() == 0 else ""), encoding="utf-8")
    process = subprocess.Popen(["mosquitto", "-c", str(folder / "mosquitto.conf")], stderr=(folder / "log").open("ab"))

    def answers() -> bool:
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", port)) == 0

    wait_until(answers, f"mosquitto: {(folder / 'log').read_text()}")
    yield Deployed(port, folder, secrets, process)
    process.terminate()
    process.wait(10)


@pytest.mark.mosquitto
def test_what_setup_writes_needs_no_more_preparing(broker: Deployed) -> None:
    issuer = broker.issuer()
    assert issuer.check() is None
    assert issuer.prepare() == [], "setup.py and prepare() mean the same"
    assert issuer.known() == set()


@pytest.mark.mosquitto
def test_a_device_registered_there_sends_and_the_pipeline_reads(broker: Deployed) -> None:
    made = broker.issuer().create("awlr-1")
    with (
        broker.user("pantau", broker.secrets["MQTT_PANTAU_PASSWORD"]) as pantau,
        broker.user(made.username, made.password, made.client_id) as device,
    ):
        assert pantau.subscribe("pantau/v1/+/+") == 1
        assert device.publish("pantau/v1/kota/awlr-2", b"forged") == NOT_AUTHORIZED
        device.publish(made.topic, b"1.24")
        wait_until(lambda: pantau.messages, "the reading")
        assert pantau.messages == [(made.topic, b"1.24")]


@pytest.mark.mosquitto
def test_nobody_else_comes_in_and_the_administrator_reads_no_readings(broker: Deployed) -> None:
    for name, password in (("awlr-1", "wrong"), ("pantau", ""), ("", "")):
        with broker.user(name, password) as stranger:
            assert stranger.refused is not None
    with broker.user("pantau-admin", broker.secrets["MQTT_ADMIN_PASSWORD"]) as admin:
        assert admin.subscribe("pantau/v1/#") == NOT_AUTHORIZED
        assert admin.publish("pantau/v1/kota/awlr-1") == NOT_AUTHORIZED
    with broker.user("pantau", broker.secrets["MQTT_PANTAU_PASSWORD"]) as pantau:
        assert pantau.publish("$CONTROL/dynamic-security/v1", b"{}") == NOT_AUTHORIZED
    with pytest.raises(Exception, match="another user of the broker"):
        broker.issuer().create("pantau")
    with pytest.raises(Exception, match="'health' is a user of the broker"):
        broker.issuer().create("health")


@pytest.mark.mosquitto
def test_the_pipeline_hears_of_a_refused_login(broker: Deployed) -> None:
    with broker.user("pantau", broker.secrets["MQTT_PANTAU_PASSWORD"]) as pantau:
        assert pantau.subscribe("$SYS/broker/log/#") == 1
        with broker.user("awlr-9", "wrong", "awlr-9"):
            pass
        wait_until(lambda: any(b"not authorised" in payload for _, payload in pantau.messages), "the log", 5.0)


@pytest.mark.mosquitto
def test_the_health_check_of_the_compose_file_answers(broker: Deployed) -> None:
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    match = re.search(r'"CMD-SHELL", "(mosquitto_sub .*?)"\]', text)
    assert match is not None
    command = match.group(1).replace('\\"', '"').replace("$$", "$")
    command = command.replace("mosquitto_sub", f"mosquitto_sub -p {broker.port}")
    environment = {**os.environ, "HEALTH_PASSWORD": broker.secrets["MQTT_HEALTH_PASSWORD"]}
    done = subprocess.run(command, shell=True, env=environment, stdout=subprocess.DEVNULL, timeout=20)
    assert done.returncode == 0


def directives(name: str) -> list[str]:
    lines = (DEPLOY / "mosquitto" / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_the_two_configurations_differ_in_who_knows_the_logins_alone() -> None:
    plain, dynsec = directives("mosquitto.conf"), directives("dynsec.conf")
    assert [line.split()[0] for line in plain if line not in dynsec] == ["password_file", "acl_file"]
    assert [line.split()[0] for line in dynsec if line not in plain] == ["plugin", "plugin_opt_config_file"]


def test_the_override_follows_the_compose_specification_and_names_what_is_there() -> None:
    schema = json.loads(Path(__file__).with_name("compose-spec.schema.json").read_text(encoding="utf-8"))
    base = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    assert list(jsonschema.Draft7Validator(schema).iter_errors(OVERRIDE)) == []
    assert OVERRIDE["services"].keys() <= base["services"].keys()
    for volume in OVERRIDE["services"]["mosquitto"]["volumes"]:
        source, target, mode = volume.split(":")
        assert mode == "ro" and (source == "./secrets/dynamic-security.json" or (DEPLOY / source).exists())
        assert target in OVERRIDE["services"]["mosquitto"]["command"][2]
    subprocess.run(["sh", "-n"], input=OVERRIDE["services"]["mosquitto"]["command"][2], text=True, check=True)


def test_the_commented_lines_of_pantau_toml_are_understood() -> None:
    text = (DEPLOY / "pantau.toml").read_text(encoding="utf-8")
    before, after = text.split("\n[credentials]\n")
    taken = after.replace("# kind", "kind").replace("# admin", "admin").replace("# device_host", "device_host")
    table = tomllib.loads(before + "\n[credentials]\n" + taken)
    environment = dict(yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["pantau"]["environment"])
    environment |= OVERRIDE["services"]["pantau"]["environment"]
    read = settings.parse(table, environment)
    assert read.credentials.kind == "dynsec" and read.credentials.admin_password
    assert read.brokers[0].topics == (SETUP["PIPELINE_TOPICS"][0],)


def test_an_environment_from_before_gets_the_administrators_password(tmp_path: Path) -> None:
    shutil.copy(DEPLOY / ".env.example", tmp_path)
    SETUP["main"]([], tmp_path)
    old = [line for line in (tmp_path / ".env").read_text().splitlines() if "MQTT_ADMIN_PASSWORD" not in line]
    (tmp_path / ".env").write_text("\n".join(old) + "\n")
    SETUP["main"](["dynsec"], tmp_path)
    values = SETUP["write_environment"](tmp_path)
    assert len(values["MQTT_ADMIN_PASSWORD"]) == 32
    first = (tmp_path / "secrets/dynamic-security.json").read_bytes()
    time.sleep(0.01)
    SETUP["main"](["dynsec"], tmp_path)
    assert (tmp_path / "secrets/dynamic-security.json").read_bytes() == first, "what exists is left alone"
    assert SETUP["write_environment"](tmp_path) == values
