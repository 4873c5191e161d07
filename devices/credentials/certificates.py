"""Client certificates for devices: a small authority of the city's own, and an issuer that adds a certificate.

For brokers with ``require_certificate`` and ``use_identity_as_username``: the common name of the certificate is the
device's id, and so its user name. The authority is made once in a folder: ``ca.pem`` and ``crl.pem`` are for the
broker (``cafile``, ``crlfile``), ``ca.key`` is the secret that everything hangs on. It is not encrypted: whoever reads
it can make certificates for any device, so that file is closed to other users.

The ``openssl`` program does the work. A device's private key is given to the caller once and not kept.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from devices.credentials import Credentials, Issuer
from devices.credentials.errors import CertificateError, UnusableNameError

DAYS = 3650
"""How long a device's certificate holds: a station may hang on its bridge for ten years. It can be revoked."""
AUTHORITY_DAYS = 7300
CRL_DAYS = 7300
"""A broker refuses everybody when its revocation list has run out, so it does not, within the authority's life."""

_NAME = re.compile(r"[A-Za-z0-9._:@-]{1,64}")
"""A common name has at most 64 characters. [RFC 5280, ub-common-name]"""

_CONFIG = """\
[ca]
default_ca = authority
[authority]
dir = {folder}
database = $dir/index.txt
serial = $dir/serial
crlnumber = $dir/crlnumber
new_certs_dir = $dir/issued
certificate = $dir/ca.pem
private_key = $dir/ca.key
default_md = sha256
default_days = {days}
default_crl_days = {crl_days}
policy = policy
unique_subject = no
x509_extensions = device
copy_extensions = none
[policy]
commonName = supplied
[req]
distinguished_name = dn
[dn]
[root]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[device]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


class Authority:
    """The city's certificate authority for devices, in a folder; made at the first use.

    Parameters
    ----------
    folder : Path
        Where its key, its certificate and the list of what it issued are.
    name : str
        Its common name, shown in every certificate.
    """

    def __init__(self, folder: Path, name: str = "Pantau devices") -> None:
        self.folder = Path(folder).absolute()
        self._name = name
        self._lock = threading.Lock()

    @property
    def ca_file(self) -> Path:
        """The authority's certificate: ``cafile`` of the broker's listener."""
        return self.folder / "ca.pem"

    @property
    def crl_file(self) -> Path:
        """The revocation list: ``crlfile`` of the broker's listener."""
        return self.folder / "crl.pem"

    def make(self) -> bool:
        """Make the authority unless it is there. Returns whether it was made. Raises CertificateError."""
        with self._locked():
            return self._make()

    def issue(self, device: str) -> tuple[str, str]:
        """A new certificate for a device; earlier ones are revoked.

        Returns
        -------
        (str, str)
            Certificate and private key (P-256), as PEM.

        Raises
        ------
        UnusableNameError
            The device's id is longer than 64 characters or has others than letters, digits, ``. _ : @`` and ``-``.
        CertificateError
            openssl is missing or fails.
        """
        if not _NAME.fullmatch(device):
            raise UnusableNameError(
                f"device {device!r} can't have a certificate: its id must be at most 64 letters, digits, . _ : @ and -"
            )
        with self._locked(), tempfile.TemporaryDirectory(prefix="pantau-certificate-") as folder:
            self._make()
            request, key, certificate = (Path(folder) / n for n in ("request", "key", "certificate"))
            curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
            subject = ("-subj", f"/CN={device}", "-utf8")
            self._openssl("req", "-new", *curve, *subject, "-keyout", str(key), "-out", str(request))
            self._revoke(device)
            self._openssl("ca", "-batch", "-notext", "-in", str(request), "-out", str(certificate))
            self._write_list()
            return certificate.read_text(encoding="ascii"), key.read_text(encoding="ascii")

    def revoke(self, device: str) -> bool:
        """Revoke all certificates of a device and write the revocation list. False: it had none that is in force."""
        with self._locked():
            if not self.ca_file.exists():
                return False
            had = self._revoke(device)
            self._write_list()
            return had

    def known(self) -> set[str]:
        """Devices with a certificate that is not revoked."""
        with self._locked():
            return {name for name, _ in self._valid()}

    def _valid(self) -> list[tuple[str, str]]:
        # A line of openssl's list: state, expiry, revocation, serial, file, subject, separated by tabs.
        index = self.folder / "index.txt"
        lines = index.read_text(encoding="utf-8").splitlines() if index.exists() else []
        fields = [line.split("\t") for line in lines]
        return [(f[5].removeprefix("/CN="), f[3]) for f in fields if f[0] == "V"]

    def _revoke(self, device: str) -> bool:
        serials = [serial for name, serial in self._valid() if name == device]
        for serial in serials:
            self._openssl("ca", "-revoke", str(self.folder / "issued" / f"{serial}.pem"))
        return bool(serials)

    def _write_list(self) -> None:
        new = self.folder / "crl.new"
        self._openssl("ca", "-gencrl", "-out", str(new))
        new.chmod(0o644)
        new.replace(self.crl_file)

    def _make(self) -> bool:
        if self.crl_file.exists():
            return False
        if self.ca_file.exists() and not (self.folder / "ca.key").exists():
            raise CertificateError(
                f"{self.ca_file} is there without its key ca.key: restore it, or move the folder away"
            )
        (self.folder / "issued").mkdir(exist_ok=True)
        values = {"folder": self.folder, "days": DAYS, "crl_days": CRL_DAYS}
        (self.folder / "openssl.cnf").write_text(_CONFIG.format(**values), encoding="utf-8")
        for name, content in (("index.txt", ""), ("serial", "1000\n"), ("crlnumber", "1000\n")):
            if not (self.folder / name).exists():
                (self.folder / name).write_text(content, encoding="ascii")
        if not self.ca_file.exists():
            curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
            subject = ("-subj", f"/CN={self._name}", "-utf8", "-days", str(AUTHORITY_DAYS), "-extensions", "root")
            key, new = self.folder / "ca.key", self.folder / "ca.new"
            self._openssl("req", "-x509", *curve, *subject, "-keyout", str(key), "-out", str(new))
            key.chmod(0o600)
            new.chmod(0o644)
            new.replace(self.ca_file)
        self._write_list()
        return True

    def _openssl(self, command: str, *arguments: str) -> None:
        program = shutil.which("openssl")
        if program is None:
            raise CertificateError("client certificates need the program openssl: install it (Debian: openssl)")
        config = ("-config", str(self.folder / "openssl.cnf"))
        done = subprocess.run(
            [program, command, *config, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
            cwd=self.folder,
        )
        if done.returncode != 0:
            words = " ".join(done.stderr.split())[-400:]
            raise CertificateError(f"openssl {command} failed in {self.folder}: {words}")

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with self._lock:
            try:
                # What is public in it stays readable for the broker; the list of names is, too.
                self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
                lock = os.open(self.folder / ".lock", os.O_CREAT | os.O_RDWR, 0o600)
            except OSError as error:
                raise CertificateError(f"the authority's folder {self.folder} can't be used: {error}") from error
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
            finally:
                os.close(lock)


class CertificateIssuer:
    """Another issuer's logins, each with a client certificate in addition.

    A device then may come in either way: by its certificate at the listener that wants one, or by its password at
    another. Its rights hang on the user name, which is the same.

    Parameters
    ----------
    inner : Issuer
        Makes the login and its rights.
    authority : Authority
        Makes the certificates.
    reload : callable or None
        Makes the broker read the revocation list again. None: a revoked device has no rights any more, but the broker
        still lets it connect until it reads the list.
    """

    def __init__(self, inner: Issuer, authority: Authority, reload: Callable[[], None] | None = None) -> None:
        self._inner = inner
        self._authority = authority
        self._reload = reload
        self.kind = inner.kind

    def create(self, device: str, *, speaks_for: Sequence[str] = ()) -> Credentials:
        """See ``Issuer.create``. A certificate that the device had before is revoked."""
        # The login first: it is the inner issuer that knows which names are other users'.
        made = self._with_certificate(self._inner.create(device, speaks_for=speaks_for))
        self._reread()
        return made

    def create_many(self, devices: Iterable[str]) -> list[Credentials]:
        """See ``Issuer.create_many``."""
        made = [self._with_certificate(c) for c in self._inner.create_many(devices)]
        self._reread()
        return made

    def rotate(self, device: str) -> Credentials:
        """See ``Issuer.rotate``: password and certificate are new."""
        made = self._with_certificate(self._inner.rotate(device))
        self._reread()
        return made

    def revoke(self, device: str) -> bool:
        """See ``Issuer.revoke``."""
        # The rights first: without them a certificate is of no use.
        had = self._inner.revoke(device)
        had_certificate = self._authority.revoke(device)
        self._reread()
        return had or had_certificate

    def known(self) -> set[str]:
        """See ``Issuer.known``."""
        return self._inner.known()

    def speaks_for(self, device: str) -> tuple[str, ...]:
        """See ``Issuer.speaks_for``."""
        return self._inner.speaks_for(device)

    def prepare(self) -> list[str]:
        """See ``Issuer.prepare``; makes the authority too."""
        done = self._inner.prepare()
        if self._authority.make():
            done.append(f"the authority for devices' certificates is made: {self._authority.ca_file}")
        return done

    def check(self) -> str | None:
        """See ``Issuer.check``."""
        problem = self._inner.check()
        if problem is None and not self._authority.crl_file.exists():
            return f"there is no authority for devices' certificates in {self._authority.folder} yet"
        return problem

    def note(self, language: str) -> str:
        """See ``Issuer.note``."""
        return self._inner.note(language)

    def _with_certificate(self, made: Credentials) -> Credentials:
        certificate, key = self._authority.issue(made.device)
        return replace(made, certificate_pem=certificate, key_pem=key)

    def _reread(self) -> None:
        if self._reload is not None:
            self._reload()
