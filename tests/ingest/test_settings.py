"""Wrong settings stop with one sentence that names the field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ingest.errors import IngestError, SettingsError
from ingest.receiver import Receiver
from ingest.settings import BrokerSettings, Limits


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("port", 0, 'port must be 1..65535, got 0 (broker "main")'),
        ("port", 65_536, 'port must be 1..65535, got 65536 (broker "main")'),
        ("port", "1883", "port must be 1..65535, got '1883' (broker \"main\")"),
        ("port", True, 'port must be 1..65535, got True (broker "main")'),
        ("receive_maximum", 0, 'receive_maximum must be 1..65535, got 0 (broker "main")'),
        ("keep_alive_s", 0, 'keep_alive_s must be 1..65535, got 0 (broker "main")'),
        ("session_expiry_s", -1, 'session_expiry_s must be 0..4294967295, got -1 (broker "main")'),
        ("host", "", 'host must not be empty (broker "main")'),
        ("connect_timeout_s", float("nan"), 'connect_timeout_s must be a number above 0, got nan (broker "main")'),
        ("topics", (), 'topics must be a list of one or more topic filters, got () (broker "main")'),
        ("topics", "a/b", "topics must be a list of one or more topic filters, got 'a/b' (broker \"main\")"),
        ("topics", ("a/#/b",), "topics: 'a/#/b' is no MQTT topic filter: # must stand alone as the last level"),
        ("topics", ("a/b+",), "topics: 'a/b+' is no MQTT topic filter: + must stand alone in its level"),
        ("password", "x", 'username must be set where a password is (broker "main")'),
        ("ca_file", "/nowhere", 'tls must be true where ca_file is set (broker "main")'),
    ],
)
def test_a_wrong_broker_setting_is_named(field: str, value: Any, sentence: str) -> None:
    with pytest.raises(SettingsError) as raised:
        BrokerSettings("main", **{field: value})
    assert sentence in str(raised.value)
    assert isinstance(raised.value, (IngestError, ValueError))


def test_a_missing_certificate_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"ca_file: there is no file .*no\.pem \(broker \"main\"\)"):
        BrokerSettings("main", tls=True, ca_file=str(tmp_path / "no.pem"))


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_future_s", 0), ("max_age_s", -1.0), ("max_payload_bytes", 0), ("max_waiting_bytes", 0), ("gather_s", 2)],
)
def test_a_wrong_limit_is_named(field: str, value: float) -> None:
    with pytest.raises(SettingsError, match=field):
        Limits(**{field: value})


def test_the_password_is_not_shown() -> None:
    assert "secret" not in repr(BrokerSettings("main", username="u", password="secret"))


def test_the_client_id_follows_the_name() -> None:
    assert BrokerSettings("west").client_id == "pantau-west"


@pytest.mark.parametrize(
    ("brokers", "sentence"),
    [
        ([], "at least one broker"),
        ([BrokerSettings("a"), BrokerSettings("a", port=1884)], "name of each broker must be different, got 'a' twice"),
        ([BrokerSettings("a", client_id="x"), BrokerSettings("b", client_id="x")], "client_id of each broker"),
    ],
)
def test_brokers_must_differ(brokers: list[BrokerSettings], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        Receiver(brokers, city="demo")
