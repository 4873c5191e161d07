"""What is shown of credentials: each snippet is run, or compiled, as it is pasted."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devices.credentials import Credentials, show
from tests.devices.broker_user import wait_until
from tests.devices.secured_broker import Secured, secured
from web.languages import LANGUAGES

ODD = "qu\"ote's-$HOME-`id`-é-%s-{x}"
"""A device's id with all that a snippet's language could take for its own."""

CREDENTIALS = Credentials(
    device=ODD,
    username=ODD,
    password="k3vq-8m2n-pw",
    host="mqtt.kota.example",
    port=8883,
    tls=True,
    topic=f"pantau/v1/kota/{ODD}",
    client_id=ODD,
    speaks_for=("leaf-1", "leaf-2"),
    ca_pem="-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n",
    certificate_pem="-----BEGIN CERTIFICATE-----\nREVG\n-----END CERTIFICATE-----\n",
    key_pem="-----BEGIN PRIVATE KEY-----\nR0hJ\n-----END PRIVATE KEY-----\n",
)


@pytest.fixture(scope="module")
def site() -> Iterator[Secured]:
    with secured("dynsec") as s:
        yield s


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_text_has_all_and_says_that_it_is_shown_once(language: str) -> None:
    text = show.text(CREDENTIALS, language)
    for part in (ODD, "k3vq-8m2n-pw", "mqtt.kota.example", "8883", "TLS", CREDENTIALS.topic, "leaf-1, leaf-2"):
        assert part in text
    assert {"en": "Shown this once", "id": "Hanya ditampilkan sekali"}[language] in text
    assert "PRIVATE KEY" not in text, "a key is a file, not a text to read aloud"
    bare = show.text(Credentials("d", "d", "p", "h", 1883, False, "t", "d"), language)
    assert {"en": "can be read on the way", "id": "dapat terbaca di jalan"}[language] in bare
    assert "leaf" not in bare


def test_the_two_languages_say_different_things() -> None:
    assert show.text(CREDENTIALS, "en") != show.text(CREDENTIALS, "id")
    for kind in show.SNIPPETS:
        assert show.snippet(CREDENTIALS, "en", kind) != show.snippet(CREDENTIALS, "id", kind)


def test_the_qr_code_holds_what_a_setup_program_needs() -> None:
    held = json.loads(show.qr_payload(CREDENTIALS))
    assert held == {
        "pantau": 1,
        "host": "mqtt.kota.example",
        "port": 8883,
        "tls": True,
        "username": ODD,
        "password": "k3vq-8m2n-pw",
        "client_id": ODD,
        "topic": CREDENTIALS.topic,
    }
    svg = show.qr_svg(CREDENTIALS)
    assert svg.startswith("<svg") and 'fill="#fff"' in svg and 'stroke="#000"' in svg
    assert "k3vq" not in svg, "the secret is in the dots alone"
    lines = show.qr_terminal(CREDENTIALS).splitlines()
    assert len(lines) > 20 and len({len(line) for line in lines}) == 1


def test_the_qr_code_is_read_by_another_program(tmp_path: Path) -> None:
    show._qr(CREDENTIALS).save(str(tmp_path / "code.png"), scale=6, border=4)
    done = subprocess.run(
        ["zbarimg", "--quiet", "--raw", "-Sdisable", "-Sqrcode.enable", str(tmp_path / "code.png")],
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.decode().strip() == show.qr_payload(CREDENTIALS)


@pytest.mark.mosquitto
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_shell_snippet_sends_a_reading(site: Secured, tmp_path: Path, language: str) -> None:
    made = site.issuer.create(ODD)
    local = Credentials(**{**made.__dict__, "host": "127.0.0.1", "port": site.port, "tls": False})
    script = show.snippet(local, language, "shell", property_name="rain_mm")
    with site.pipeline() as pipeline:
        pipeline.subscribe("pantau/v1/+/+")
        done = subprocess.run(["sh", "-e"], input=script, capture_output=True, text=True, timeout=30, cwd=tmp_path)
        assert done.returncode == 0 and done.stderr == ""
        wait_until(lambda: pipeline.messages, "the reading")
        assert pipeline.messages == [(made.topic, b'{"values": {"rain_mm": 0.0}}')]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_micropython_snippet_connects_and_publishes(monkeypatch: pytest.MonkeyPatch, language: str) -> None:
    """In Python, with ``umqtt.simple`` replaced by one that writes down what it is told."""
    told: list[Any] = []

    class EnoughError(Exception):
        """Leaves the endless loop."""

    class MQTTClient:
        def __init__(self, *values: Any, **options: Any) -> None:
            told.append((values, options))

        def connect(self) -> None:
            told.append("connect")

        def publish(self, *values: Any, **options: Any) -> None:
            told.append((values, options))
            raise EnoughError

    simple = types.ModuleType("umqtt.simple")
    simple.MQTTClient = MQTTClient  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "umqtt", types.ModuleType("umqtt"))
    monkeypatch.setitem(sys.modules, "umqtt.simple", simple)
    with pytest.raises(EnoughError):
        exec(show.snippet(CREDENTIALS, language, "micropython"), {})
    (values, options), connect, (message, quality) = told
    assert connect == "connect" and values == (ODD, "mqtt.kota.example")
    assert (options["port"], options["user"], options["password"]) == (8883, ODD, "k3vq-8m2n-pw")
    assert options["ssl"] is True
    assert options["ssl_params"]["cadata"] == CREDENTIALS.ca_pem.encode()
    assert options["ssl_params"]["key"] == CREDENTIALS.key_pem.encode()
    assert message[0] == CREDENTIALS.topic and json.loads(message[1]) == {"values": {"water_level_m": 0.0}}
    assert quality == {"qos": 1}


ARDUINO = r"""
#include <cstdio>
#include <cstring>
#include <cstdlib>
struct { void begin(long) {} template<class... A> void printf(const char *, A...) {} } Serial;
const int WL_CONNECTED = 3;
struct { void begin(const char *, const char *) {} int status() { return WL_CONNECTED; } } WiFi;
inline void delay(unsigned long) {}
inline unsigned long millis() { return 1; }
inline void say(const char *s) { fwrite(s, 1, strlen(s) + 1, stdout); }
struct WiFiClient {};
struct WiFiClientSecure {
  void setInsecure() { say("insecure"); }
  void setCACert(const char *s) { say(s); }
  void setCertificate(const char *s) { say(s); }
  void setPrivateKey(const char *s) { say(s); }
};
struct PubSubClient {
  template<class T> PubSubClient(T &) {}
  void setServer(const char *h, int p) { say(h); char b[9]; snprintf(b, 9, "%d", p); say(b); }
  void setBufferSize(int) {}
  bool connected() { return false; }
  int state() { return 0; }
  bool connect(const char *c, const char *u, const char *p) { say(c); say(u); say(p); return true; }
  void loop() {}
  void publish(const char *t, const char *p) { say(t); say(p); exit(0); }
};
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++ to compile the Arduino snippet")
@pytest.mark.parametrize("tls", [True, False])
def test_the_arduino_snippet_compiles_and_publishes(tmp_path: Path, tls: bool) -> None:
    """With the libraries replaced by ones that print what they are told."""
    for header in ("WiFi.h", "WiFiClient.h", "WiFiClientSecure.h", "PubSubClient.h"):
        (tmp_path / header).write_text('#pragma once\n#include "stand_in.h"\n')
    (tmp_path / "stand_in.h").write_text("#pragma once\n" + ARDUINO)
    source = show.snippet(Credentials(**{**CREDENTIALS.__dict__, "tls": tls}), "id")
    (tmp_path / "sketch.cpp").write_text(source + "\nint main() { setup(); for (;;) loop(); }\n", encoding="utf-8")
    build = ["g++", "-std=gnu++17", "-Wall", "-Werror", "-I", str(tmp_path), "-o", "sketch", "sketch.cpp"]
    done = subprocess.run(build, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    out = subprocess.run([str(tmp_path / "sketch")], capture_output=True, timeout=20, check=True).stdout
    c = CREDENTIALS
    pems = [c.ca_pem, c.certificate_pem, c.key_pem] if tls else []
    reading = '{"values":{"water_level_m":0.000}}'
    assert out.decode().split("\0")[:-1] == [
        *pems,
        c.host,
        "8883",
        c.client_id,
        c.username,
        c.password,
        c.topic,
        reading,
    ]


def test_without_an_authority_the_arduino_snippet_says_what_is_not_checked() -> None:
    c = Credentials("d", "d", "p", "h", 8883, True, "t", "d")
    assert re.search(r"setInsecure\(\);  // The broker is not checked", show.snippet(c, "en"))
    assert "--tls-use-os-certs" in show.snippet(c, "en", "shell")
