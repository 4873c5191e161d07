"""Which issuer the settings mean; ``auto`` asks the broker."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from devices.credentials import Broker, Issuer
from devices.credentials.choice import open_issuer
from devices.credentials.errors import BrokerUnreachableError, CredentialFilesError
from devices.credentials.settings import CredentialsKind, CredentialsSettings
from tests.devices.secured_broker import ADMINISTRATOR, PIPELINE, Secured, secured
from tests.real_parts.mosquitto import free_port

AUTO: dict[str, Any] = {
    "kind": CredentialsKind.AUTO,
    "admin_password": ADMINISTRATOR.password,
    "password_file": "/x/passwords",
    "acl_file": "/x/acl",
    "pid_file": "/x/pid",
}


def opened(settings: CredentialsSettings, broker: Broker) -> Issuer | None:
    return open_issuer(settings, broker, city="kota", pipeline=PIPELINE, pipeline_topics=["pantau/v1/+/+"])


def auto_for(site: Secured, **changes: Any) -> Issuer:
    folder = site.mosquitto.folder
    files = {name: str(folder / name.removesuffix("_file")) for name in ("acl_file", "pid_file")}
    values = AUTO | files | {"password_file": str(folder / "passwords")} | changes
    issuer = opened(CredentialsSettings(**values), site.broker)
    assert issuer is not None
    return issuer


@pytest.mark.mosquitto
def test_auto_takes_the_plugin_where_it_answers() -> None:
    with secured("dynsec") as site:
        issuer = auto_for(site)
        assert issuer.kind == "dynsec" and issuer.note("en") == "" == issuer.note("id")
        assert issuer.check() is None
        with site.device(issuer.create("awlr-1")) as device:
            assert device.refused is None


@pytest.mark.mosquitto
def test_auto_writes_files_where_the_plugin_does_not_answer_and_says_so() -> None:
    with secured("files") as site:
        issuer = auto_for(site)
        assert issuer.kind == "files" and issuer.check() is None
        for language, words in (("en", "dynamic security plugin does not answer"), ("id", "tidak menjawab")):
            note = issuer.note(language)
            assert words in note and str(site.mosquitto.folder / "passwords") in note
            assert "refuses user 'pantau-admin'" in note, "the reason"
        with site.device(issuer.create("awlr-1")) as device:
            assert device.refused is None


@pytest.mark.mosquitto
def test_auto_with_a_wrong_administrator_does_not_pretend() -> None:
    """The broker has the plugin, but does not know us: files would be of no effect, and the attempt says so."""
    with secured("dynsec") as site:
        (site.mosquitto.folder / "passwords").touch()
        (site.mosquitto.folder / "acl").touch()
        (site.mosquitto.folder / "pid").write_text(str(site.mosquitto.pid))
        issuer = auto_for(site, admin_password="wrong")
        with pytest.raises(CredentialFilesError, match="does not follow it"):
            issuer.create("awlr-1")


def test_auto_with_a_broker_that_is_away_says_so() -> None:
    with pytest.raises(BrokerUnreachableError):
        opened(CredentialsSettings(**AUTO), Broker("127.0.0.1", free_port()))


def test_none_means_that_somebody_else_manages_the_users() -> None:
    assert opened(CredentialsSettings(), Broker()) is None


def test_devices_are_told_another_address_than_ours(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("-----BEGIN CERTIFICATE-----\n")
    passwords = tmp_path / "passwords"
    settings = CredentialsSettings(
        kind=CredentialsKind.FILES,
        device_host="mqtt.kota.example",
        device_port=8883,
        device_tls=True,
        device_ca_file=str(ca),
        password_file=str(passwords),
        acl_file=str(tmp_path / "acl"),
        reload_command="true",
    )
    issuer = opened(settings, Broker("mosquitto", 1883))
    assert issuer is not None
    made = issuer._credentials("awlr-1", ())  # type: ignore[attr-defined]
    assert (made.host, made.port, made.tls, made.ca_pem) == ("mqtt.kota.example", 8883, True, ca.read_text())
    ca.unlink()
    with pytest.raises(CredentialFilesError, match=r"device_ca_file .* can't be read"):
        opened(settings, Broker())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"kind": CredentialsKind.DYNSEC}, 'admin_password_env must be set where kind is "dynsec"'),
        (AUTO | {"admin_password": None}, 'admin_password_env must be set where kind is "auto"'),
        (AUTO | {"admin_username": ""}, "admin_username must not be empty"),
        (AUTO | {"acl_file": ""}, 'acl_file must be set where kind is "auto"'),
        (AUTO | {"pid_file": ""}, "one of pid_file and reload_command must be set"),
        (AUTO | {"reload_command": "true"}, "one of pid_file and reload_command must be set"),
        (AUTO | {"pid_file": "", "reload_command": "echo 'x"}, "reload_command is no command line"),
        ({"device_port": 70000}, "device_port must be 0..65535, got 70000"),
    ],
)
def test_a_mistake_in_the_settings_is_named(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        CredentialsSettings(**changes)


def test_the_administrators_password_is_not_printed() -> None:
    assert "hunter2" not in repr(CredentialsSettings(kind=CredentialsKind.DYNSEC, admin_password="hunter2"))
