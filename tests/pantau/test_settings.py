"""pantau.toml: defaults, the sample file, and the sentence for each mistake."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from ingest.settings import ClockSource
from pantau.settings import SECTIONS, ConfigurationError, Settings, keys_of, load, parse

SAMPLE = Path(__file__).parents[2] / "pantau.example.toml"


def test_the_sample_file_is_the_defaults() -> None:
    assert load(SAMPLE) == Settings()


def test_the_sample_file_shows_every_key() -> None:
    text = SAMPLE.read_text(encoding="utf-8")
    for section in SECTIONS:
        header = f"[[{section}]]" if section == "broker" else f"[{section}]"
        part = re.split(r"^\[", text.split(f"\n{header}\n", 1)[1], maxsplit=1, flags=re.M)[0]
        shown = set(re.findall(r"^(?:# )?([a-z_]+) = ", part, flags=re.M))
        assert shown == set(keys_of(section)), section


def test_without_a_file_all_is_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load() == Settings()
    Path("pantau.toml").write_text('[city]\nname = "kolaka-timur"\nutc_offset_h = 8\n', encoding="utf-8")
    assert load().city.name == "kolaka-timur"


def test_several_brokers_and_a_secret_from_the_environment() -> None:
    table = tomllib.loads(
        """
        [clock]
        source = "broker"
        [[broker]]
        name = "east"
        username = "pantau"
        password_env = "EAST_PASSWORD"
        [[broker]]
        name = "west"
        host = "west.example"
        port = 8883
        tls = true
        topics = ["pantau/v1/kota/+"]
        [store]
        kind = "influxdb"
        token_env = "INFLUX_TOKEN"
        """
    )
    settings = parse(table, {"EAST_PASSWORD": "s3cret", "INFLUX_TOKEN": "t0ken"})
    assert [b.address for b in settings.brokers] == ["localhost:1883", "west.example:8883"]
    assert settings.brokers[0].password == "s3cret"
    assert settings.store.token.reveal() == "t0ken"
    assert settings.clock.source == ClockSource.BROKER
    assert "s3cret" not in repr(settings) and "t0ken" not in repr(settings)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[citty]\nname = 'x'", "citty is not a setting; did you mean city?"),
        ("[city]\nnaem = 'x'", "city.naem is not a setting; did you mean name?"),
        ("[city]\nname = 'a/b'", "city: name must be one level of an MQTT topic"),
        ("[city]\nname = 5", "city.name: Expected str, got int, got 5"),
        ("city = 5", r"city must be a section \[city\], got 5"),
        ("[[broker]]\nhost = 'x'", "broker.name must be set"),
        ("[[broker]]\nname = 'a'\nport = 99999", r'port must be 1..65535, got 99999 \(broker "a"\)'),
        ("[[broker]]\nname = 'a'\n[[broker]]\nname = 'a'", "each broker needs a name of its own"),
        ("[broker]\nname = 'a'", r"broker must be one or more \[\[broker\]\] sections"),
        ("[[broker]]\nname = 'a'\nusername = 'u'\npassword_env = 'NOT_SET'", "NOT_SET, which is not set"),
        ("[[broker]]\nname = 'a'\npassword = 'x'", "broker.password is not a setting; did you mean password_env"),
        ("[clock]\nsource = 'sun'", "clock.source: .*'sun'"),
        ("[store]\nkind = 'oracle'", "kind must be embedded or influxdb"),
        ("[store.writer]\nmax_rows = -1", "max_rows must be above 0, got -1"),
        ("[data]\nsnapshot_interval_s = 0", "data: snapshot_interval_s must be above 0, got 0"),
        ("[page]\naccess = 'open'\nhost = '0.0.0.0'", 'page: access = "open" needs a host that only this computer'),
        ("[page]\naccess = 'open'\nhost = 'pantau.example'", "needs a host that only this computer reaches"),
        ("[page]\naccess = 'anyone'", "page.access: .*'anyone'"),
        ("[page]\nport = 'http'", "page.port: Expected int, got str"),
        ("[limits]\nmax_future_s = nan", "max_future_s must be a number above 0, got nan"),
        ("[[broker", "is not valid TOML"),
    ],
)
def test_a_mistake_is_named_in_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "pantau.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=sentence) as caught:
        load(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.5", "localhost", "::1"])
def test_pages_may_be_open_where_only_this_computer_reaches_them(host: str) -> None:
    assert parse({"page": {"access": "open", "host": host}}, {}).page.access == "open"


def test_pages_want_accounts_unless_told_otherwise() -> None:
    assert parse({}, {}).page.access == "accounts"


def test_accounts_stand_beside_the_registry(tmp_path: Path) -> None:
    settings = parse({"data": {"folder": str(tmp_path)}}, {})
    assert settings.data.accounts == f"sqlite:///{tmp_path}/accounts.sqlite"
    url = "postgresql://pantau:s3cret@db/pantau"
    settings = parse({"data": {"database_env": "DATABASE"}}, {"DATABASE": url})
    assert settings.data.accounts == settings.data.registry == url
    assert "s3cret" not in repr(settings)
    with pytest.raises(ConfigurationError, match=r"data\.database must be like postgresql://") as caught:
        parse({"data": {"database_env": "DATABASE"}}, {"DATABASE": "mysql://pantau:s3cret@db/pantau"})
    assert "s3cret" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no configuration file"):
        load(tmp_path / "nope.toml")
