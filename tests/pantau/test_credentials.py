"""Logins of devices in the whole: a broker that knows nobody but its administrator, and a pipeline that sees to it."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import pytest

from devices.credentials.settings import CredentialsKind, CredentialsSettings
from pantau.doctor import examine, healthy
from pantau.logins import issuer_of
from tests.devices.broker_user import wait_until
from tests.devices.secured_broker import ADMINISTRATOR, PIPELINE, Secured, secured
from tests.pantau.running import register, running, settings_for

pytestmark = pytest.mark.mosquitto


def configuration(folder: Path, site: Secured, password: str = ADMINISTRATOR.password) -> Path:
    file = folder / "pantau.toml"
    file.write_text(
        f"""
        [data]
        folder = "{folder / "data"}"
        [[broker]]
        name = "main"
        host = "127.0.0.1"
        port = {site.port}
        username = "{PIPELINE.username}"
        password_env = "PIPELINE"
        [page]
        port = 1
        [credentials]
        kind = "dynsec"
        admin_password_env = "ADMINISTRATOR"
        """,
        encoding="utf-8",
    )
    return file


def test_a_device_of_the_register_sends_with_its_own_login_and_with_no_other(tmp_path: Path) -> None:
    with secured("dynsec", prepare=False) as site:
        plain = settings_for(tmp_path, site.port)
        broker = dataclasses.replace(plain.brokers[0], username=PIPELINE.username, password=PIPELINE.password)
        settings = dataclasses.replace(
            plain,
            brokers=(broker,),
            credentials=CredentialsSettings(kind=CredentialsKind.DYNSEC, admin_password=ADMINISTRATOR.password),
        )
        register(settings, devices=2)
        with running(settings) as pipeline:  # it is let in when it has prepared the broker
            issuer = issuer_of(settings)
            assert issuer is not None
            made = issuer.create("g0")
            reading = json.dumps({"time": time.time(), "property": "water_level_m", "value": 1.24}).encode()
            with site.device(made) as device:
                device.publish("pantau/v1/kota/g1", reading)
            with site.device(made) as device:
                device.publish(made.topic, reading)
            wait_until(lambda: pipeline.state.latest().value.size > 0, "the reading")
            time.sleep(0.5)
            latest = pipeline.state.latest()
            names = [pipeline.directory.datastreams[i].id for i in latest.datastream]
            assert names == ["g0.level"] and latest.value.tolist() == [1.24]


def test_the_doctor_says_whether_logins_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE", PIPELINE.password)
    monkeypatch.setenv("ADMINISTRATOR", ADMINISTRATOR.password)
    with secured("dynsec", prepare=False) as site:
        file = configuration(tmp_path, site)

        def finding() -> tuple[str, str]:
            (found,) = (f for f in examine(file) if f.check == "credentials")
            return found.state, found.detail

        state, detail = finding()
        assert state == "failure" and "allows publishClientReceive to everybody by default" in detail
        site.issuer.prepare()
        assert finding() == ("ok", "dynsec: logins of devices can be made and revoked")
        monkeypatch.setenv("ADMINISTRATOR", "wrong")
        state, detail = finding()
        assert state == "failure" and "refuses user 'pantau-admin'" in detail and not healthy(examine(file))
    (tmp_path / "pantau.toml").write_text("[credentials]\nbroker = 'west'\n")
    assert "credentials.broker must be the name of a [[broker]] (main), got 'west'" in examine(file)[0].detail
