"""Client certificates on a real Mosquitto that wants one: the name in the certificate is who the device is."""

from __future__ import annotations

import re
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from devices.credentials import Credentials
from devices.credentials.certificates import Authority, CertificateIssuer
from devices.credentials.errors import CertificateError, UnusableNameError
from devices.credentials.files import FileIssuer, Reload
from tests.devices.broker_user import NOT_AUTHORIZED, BrokerUser, wait_until
from tests.devices.secured_broker import Secured, secured
from tests.real_parts.mosquitto import free_port

OWN, OTHER = "pantau/v1/kota/awlr-1", "pantau/v1/kota/awlr-2"


def openssl(*arguments: str) -> str:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass
class Tls:
    """A broker with a second listener that wants certificates, and an issuer that makes them."""

    site: Secured
    issuer: CertificateIssuer
    authority: Authority
    port: int
    server_ca: Path
    folder: Path

    def device(self, made: Credentials, username: str | None = None, client_id: str = "") -> BrokerUser:
        certificate, key = self.folder / "cert", self.folder / "key"
        certificate.write_text(made.certificate_pem)
        key.write_text(made.key_pem)
        tls = (str(self.server_ca), str(certificate), str(key))
        return BrokerUser(self.port, username, None if username is None else "x", client_id, tls=tls)


@pytest.fixture(scope="module", params=["dynsec", "files"])
def tls(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tls]:
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder / "authority")
    assert authority.make() is True
    server = ("-keyout", str(folder / "server.key"), "-out", str(folder / "server.pem"))
    name = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", *name, *server)
    port = free_port()
    lines = [
        f"listener {port} 127.0.0.1",
        f"certfile {folder / 'server.pem'}",
        f"keyfile {folder / 'server.key'}",
        f"cafile {authority.ca_file}",
        f"crlfile {authority.crl_file}",
        "require_certificate true",
        "use_identity_as_username true",
        "use_username_as_clientid true",
    ]
    if request.param == "dynsec":
        lines.append("pid_file {folder}/pid")
    with secured(request.param, lines) as site:
        reload = Reload(pid_file=site.mosquitto.folder / "pid")
        reread = site.issuer.reread if isinstance(site.issuer, FileIssuer) else reload
        issuer = CertificateIssuer(site.issuer, authority, reread)
        yield Tls(site, issuer, authority, port, folder / "server.pem", folder)


@pytest.mark.mosquitto
def test_a_certificate_is_enough_and_gives_the_rights_of_its_name(tls: Tls) -> None:
    made = tls.issuer.create("awlr-1")
    tls.issuer.create("awlr-2")
    assert made.password and made.key_pem not in repr(made)
    with tls.site.watcher() as watcher:
        # A user name and a client id that are sent along count for nothing.
        for username in (None, "awlr-2", "pantau", "pantau-admin"):
            with tls.device(made, username, client_id="awlr-2") as device:
                assert device.refused is None
                device.publish(OWN, str(username).encode())
                device.subscribe("#")
                # Last: Debian's Mosquitto 2.0.11 ends a connection over such an attempt.
                device.publish(OTHER, b"forged")
            assert device.messages == []
        with tls.device(made) as device:
            device.publish(OWN, b"last")
        wait_until(lambda: (OWN, b"last") in watcher.messages, "the last message")
        own = [payload for topic, payload in watcher.messages if topic == OWN]
        assert own == [b"None", b"awlr-2", b"pantau", b"pantau-admin", b"last"]
        assert b"forged" not in [payload for _, payload in watcher.messages]
    # The password works too, at the listener without certificates.
    with tls.site.device(made) as device:
        assert device.refused is None


@pytest.mark.mosquitto
def test_without_a_certificate_of_this_authority_nobody_comes_in(tls: Tls, tmp_path: Path) -> None:
    made = tls.issuer.create("awlr-1")
    stranger = Authority(tmp_path / "stranger", "Pantau devices")
    certificate, key = stranger.issue("awlr-1")
    (tmp_path / "cert").write_text(certificate)
    (tmp_path / "key").write_text(key)
    for cert, its_key in ((str(tmp_path / "cert"), str(tmp_path / "key")), (None, None)):
        with BrokerUser(tls.port, "awlr-1", made.password, tls=(str(tls.server_ca), cert, its_key)) as user:
            assert user.refused is not None, cert


@pytest.mark.mosquitto
def test_revoking_takes_the_rights_at_once_and_the_connection_at_the_next_try(tls: Tls) -> None:
    made = tls.issuer.create("stolen")
    kept = tls.issuer.create("kept")
    with tls.site.watcher() as watcher, tls.device(made) as device:
        device.publish(made.topic, b"before")
        began = time.monotonic()
        assert tls.issuer.revoke("stolen") is True
        if tls.issuer.kind == "dynsec":
            assert device.left.wait(3.0), "the plugin disconnects it"
        # Files: the connection may stay, but it is of no use from the moment that the broker reads them.
        wait_until(lambda: device.publish(made.topic, b"after") == NOT_AUTHORIZED, "no rights any more", 3.0)
        assert time.monotonic() - began < 3.0
        # Anything that slipped through before that moment is from before it.
        seen = len(watcher.messages)
        device.publish(made.topic, b"later")
        time.sleep(0.3)
        assert (made.topic, b"later") not in watcher.messages[seen - 1 :]

    def refused() -> bool:
        with tls.device(made) as again:
            return again.refused is not None

    wait_until(refused, "the broker to read the revocation list", 5.0)
    with tls.device(kept) as other:
        assert other.refused is None, "the list refuses nobody else"
    assert tls.authority.known() >= {"kept"} and "stolen" not in tls.authority.known()
    assert tls.issuer.revoke("stolen") is False


@pytest.mark.mosquitto
def test_a_new_certificate_replaces_the_old_one(tls: Tls) -> None:
    old = tls.issuer.create("renewed")
    new = tls.issuer.rotate("renewed")

    def refused() -> bool:
        with tls.device(old) as device:
            return device.refused is not None

    wait_until(refused, "the old certificate to be refused", 5.0)
    with tls.device(new) as device:
        assert device.refused is None and device.publish(new.topic) != NOT_AUTHORIZED
    assert tls.issuer.check() is None and tls.issuer.note("en") == tls.site.issuer.note("en")


def test_the_authority_is_made_once_and_its_key_is_closed(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    assert authority.known() == set() and authority.revoke("awlr-1") is False
    assert authority.make() is True
    first = authority.ca_file.read_bytes()
    assert authority.make() is False and Authority(tmp_path / "authority").make() is False
    assert authority.ca_file.read_bytes() == first
    assert stat.S_IMODE((authority.folder / "ca.key").stat().st_mode) == 0o600
    certificate, key = authority.issue("awlr-1")
    (tmp_path / "cert").write_text(certificate)
    openssl("verify", "-CAfile", str(authority.ca_file), "-purpose", "sslclient", str(tmp_path / "cert"))
    text = openssl("x509", "-in", str(tmp_path / "cert"), "-noout", "-text")
    assert "CN = awlr-1" in text and "CA:FALSE" in text and "Digital Signature" in text
    assert "TLS Web Client Authentication" in text and "TLS Web Server Authentication" not in text
    # The key was given away and is nowhere in the folder.
    secret = re.sub(r"-----.*-----|\s", "", key)
    for path in authority.folder.rglob("*"):
        if path.is_file():
            assert secret not in re.sub(r"\s", "", path.read_text(errors="replace")), path
    assert authority.known() == {"awlr-1"}


@pytest.mark.parametrize("name", ["a" * 65, "é", "a/CN=pantau", "a b", "", "a\nCN=pantau", "a,b"])
def test_a_name_that_cannot_stand_in_a_certificate_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnusableNameError, match="can't have a certificate"):
        Authority(tmp_path / "authority").issue(name)


def test_a_lost_key_and_a_folder_that_cannot_be_used_are_said(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    authority.make()
    (authority.folder / "ca.key").unlink()
    authority.crl_file.unlink()
    with pytest.raises(CertificateError, match="without its key"):
        authority.make()
    (tmp_path / "file").touch()
    with pytest.raises(CertificateError, match="can't be used"):
        Authority(tmp_path / "file" / "authority").make()
