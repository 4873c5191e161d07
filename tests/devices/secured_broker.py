"""A real Mosquitto that lets nobody in, with an issuer for it: through its plugin, or through files."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from devices.credentials import Broker, Credentials, DeviceSide, Issuer, Login
from devices.credentials.dynsec import DynsecIssuer
from devices.credentials.files import FileIssuer, Reload, password_line
from tests.devices.broker_user import BrokerUser
from tests.real_parts.mosquitto import Mosquitto

PLUGIN = next(
    (p for p in sorted(Path("/usr/lib").glob("**/mosquitto_dynamic_security.so"))),
    Path("/usr/lib/mosquitto_dynamic_security.so"),
)
ADMINISTRATOR = Login("pantau-admin", "an administrator's password")
WATCHER = Login("watcher", "a watcher's password")
PIPELINE = Login("pantau", "the pipeline's password")


@dataclass
class Secured:
    """A running broker, its issuer, and what tests need of both."""

    mosquitto: Mosquitto
    issuer: Issuer
    broker: Broker

    @property
    def port(self) -> int:
        return self.mosquitto.port

    def pipeline(self, **options: Any) -> BrokerUser:
        return BrokerUser(self.port, PIPELINE.username, PIPELINE.password, **options)

    def watcher(self) -> BrokerUser:
        """Somebody who may read everything, and subscribes to it."""
        who = ADMINISTRATOR if self.issuer.kind == "dynsec" else WATCHER
        user = BrokerUser(self.port, who.username, who.password)
        assert user.subscribe("#") == 1
        return user

    def device(self, credentials: Credentials, **options: Any) -> BrokerUser:
        c = credentials
        return BrokerUser(self.port, c.username, c.password, options.pop("client_id", c.client_id), **options)


@contextlib.contextmanager
def secured(kind: str, lines: Sequence[str] = (), *, prepare: bool = True, **options: Any) -> Iterator[Secured]:
    """A broker with logins of this kind. More ``options`` go to the issuer."""
    if kind == "dynsec":
        if not PLUGIN.exists():
            pytest.fail("Mosquitto's dynamic security plugin is not there; it comes with Debian's mosquitto")
        own = [f"plugin {PLUGIN}", "plugin_opt_config_file {folder}/dynamic-security.json"]
    else:
        own = ["password_file {folder}/passwords", "acl_file {folder}/acl", "pid_file {folder}/pid"]
    mosquitto = Mosquitto([*own, *lines], anonymous=False, persistence=True)
    folder = mosquitto.folder
    broker = Broker(mosquitto.host, mosquitto.port, timeout_s=10.0)
    side = DeviceSide("mqtt.kota.example", 8883, tls=True)
    issuer: Issuer
    if kind == "dynsec":
        first_dynsec_file(folder / "dynamic-security.json")
        issuer = DynsecIssuer(
            broker, ADMINISTRATOR, city="kota", device_side=side, pipeline=PIPELINE, **{"answer_s": 10.0, **options}
        )
    else:
        (folder / "acl").write_text(f"# by hand\nuser {WATCHER.username}\ntopic read #\n")
        (folder / "passwords").write_text(password_line(WATCHER.username, WATCHER.password) + "\n")
        reload = Reload(pid_file=folder / "pid")
        files = (folder / "passwords", folder / "acl")
        issuer = FileIssuer(
            broker, *files, reload, city="kota", device_side=side, pipeline=PIPELINE, **{"verify_s": 10.0, **options}
        )
    with mosquitto:
        if prepare:
            issuer.prepare()
        yield Secured(mosquitto, issuer, broker)


def first_dynsec_file(path: Path) -> None:
    """As ``mosquitto_ctrl dynsec init`` makes it: an administrator, and Mosquitto's own default access."""
    done = subprocess.run(
        ["mosquitto_ctrl", "dynsec", "init", str(path), ADMINISTRATOR.username, ADMINISTRATOR.password],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=20,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(path.read_text())["clients"][0]["username"] == ADMINISTRATOR.username
