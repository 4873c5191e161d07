"""TLS with a client certificate on a real Mosquitto; what is wrong with a certificate is said in plain words."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from ingest.settings import BrokerSettings
from tests.ingest.mqtt import FAST, Publisher, collect, level, receiving, until, values
from tests.ingest.small_city import topic
from tests.real_parts.mosquitto import Mosquitto, free_port

pytestmark = pytest.mark.mosquitto


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def sign(folder: Path, name: str, ca: str = "ca", days: str = "2", names: str = "names") -> None:
    openssl(folder, *f"req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}".split())
    command = f"x509 -req -in {name}.csr -CA {ca}.pem -CAkey {ca}.key -CAcreateserial -out {name}.pem -extfile {names}"
    openssl(folder, *command.split(), "-days", days)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    (folder / "elsewhere").write_text("subjectAltName=DNS:broker.example\n")
    for ca in ("ca", "strange"):
        command = f"req -x509 -newkey rsa:2048 -nodes -keyout {ca}.key -out {ca}.pem -days 2 -subj /CN={ca}"
        openssl(folder, *command.split())
    sign(folder, "broker")
    sign(folder, "named_otherwise", names="elsewhere")
    sign(folder, "client")
    sign(folder, "of_strangers", ca="strange")
    # An end in the past; x509 itself knows no such number of days.
    (folder / "index.txt").write_text("")
    (folder / "serial").write_text("1000")
    (folder / "ca.conf").write_text(
        "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\nserial=serial\nnew_certs_dir=.\ncertificate=ca.pem\n"
        "private_key=ca.key\ndefault_md=sha256\npolicy=p\nx509_extensions=e\nunique_subject=no\n[p]\ncommonName=supplied\n"
        "[e]\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n"
    )
    openssl(
        folder,
        *[
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            "expired.key",
            "-out",
            "expired.csr",
            "-subj",
            "/CN=expired",
        ],
    )
    openssl(
        folder,
        *["ca", "-batch", "-config", "ca.conf", "-in", "expired.csr", "-out", "expired.pem"],
        *["-startdate", "20200101000000Z", "-enddate", "20200201000000Z", "-notext"],
    )
    return folder


def lines(pki: Path, certificate: str = "broker") -> list[str]:
    return [f"cafile {pki}/ca.pem", f"certfile {pki}/{certificate}.pem", f"keyfile {pki}/{certificate}.key"]


def at(broker: Mosquitto, pki: Path, client: str | None = None, **more: Any) -> BrokerSettings:
    mine = {} if client is None else {"cert_file": f"{pki}/{client}.pem", "key_file": f"{pki}/{client}.key"}
    return BrokerSettings(
        "main", broker.host, broker.port, tls=True, **({"ca_file": f"{pki}/ca.pem"} | FAST | mine | more)
    )


def told(settings: BrokerSettings, words: str) -> None:
    with receiving(settings, wait=False) as receiver:
        until(lambda: words in str(receiver.status()[0].last_error), lambda: str(receiver.status()[0].last_error))
        assert not receiver.status()[0].connected


def test_a_certificate_of_ours_is_wanted(pki: Path) -> None:
    plain = free_port()
    with Mosquitto([*lines(pki), "require_certificate true", f"listener {plain} 127.0.0.1"]) as broker:
        with receiving(at(broker, pki, "client")) as receiver:
            until(lambda: listens(plain))
            with Publisher(plain) as publisher:
                publisher.send(topic("gauge-1"), level(1))
            assert values(collect(receiver, 1)) == [1]
        told(at(broker, pki), "it wants a certificate of ours, and there is none: set cert_file and key_file")
        told(at(broker, pki, "expired"), "our certificate (cert_file) has expired")
        told(at(broker, pki, "of_strangers"), "it does not know the authority that signed our certificate (cert_file)")


def listens(port: int) -> bool:
    try:
        Publisher(port, "knock").close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("certificate", "more", "words"),
    [
        ("expired", {}, "is not trusted: certificate has expired"),
        ("named_otherwise", {}, "is not trusted: IP address mismatch, certificate is not valid for '127.0.0.1'"),
        ("broker", {"ca_file": "strange.pem"}, "is not trusted: it is signed by an authority that we do not know"),
    ],
)
def test_what_is_wrong_with_the_brokers_certificate(
    pki: Path, certificate: str, more: dict[str, str], words: str
) -> None:
    with Mosquitto(lines(pki, certificate)) as broker:
        told(at(broker, pki, **{key: f"{pki}/{file}" for key, file in more.items()}), words)


def test_each_broker_has_its_own_login_topics_and_certificate(pki: Path) -> None:
    """One with TLS and a certificate, one with a password; each is asked for its own topics only."""
    west = Mosquitto(["password_file {folder}/passwords"], anonymous=False)
    subprocess.run(["mosquitto_passwd", "-b", "-c", f"{west.folder}/passwords", "pantau", "secret"], check=True)
    with west, Mosquitto([*lines(pki), "require_certificate true", "use_identity_as_username true"]) as east:
        mine: dict[str, Any] = {"username": "pantau", "password": "secret"}
        other = BrokerSettings("west", west.host, west.port, topics=("pantau/v1/+/lamp-1",), **(FAST | mine))
        with (
            receiving(at(east, pki, "client"), other) as receiver,
            Publisher(west.port, username="pantau", password=b"secret") as publisher,
        ):
            publisher.send(topic("gauge-1"), level(1))  # not asked for there
            publisher.send(topic("lamp-1"), '{"property": "battery_v", "value": 3}')
            (batch,) = collect(receiver, 1)
            assert (batch.observations.value.tolist(), batch.observations.broker.tolist()) == ([3.0], [1])
        wrong = BrokerSettings("west", west.host, west.port, **(FAST | mine | {"password": "wrong"}))
        told(wrong, f"bad user name or password: {wrong.address} does not let us in as user 'pantau'")
