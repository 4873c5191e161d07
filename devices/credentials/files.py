"""Logins through Mosquitto's password and ACL files, for a broker without the dynamic security plugin.

The files are written whole, under a lock, and put in place by renaming; then the broker is told to read them again
(SIGHUP). With each change the user ``pantau-check``, who may do nothing, gets a new password; when the broker takes it,
the change is in force, and until then the broker is told again: Mosquitto forgets a signal that comes while it still
follows the one before. Lines of other users are left as they are. What Pantau writes into the ACL file stands behind a
mark, at its end.

On SIGHUP Mosquitto (checked with 2.0.11) disconnects whoever's user or password is gone. Each device has an ACL entry
of its own and no pattern is used, so that a client that came in by a certificate loses its rights at the same moment.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from devices.credentials import (
    Broker,
    Credentials,
    DeviceSide,
    Login,
    check_name,
    new_password,
    topic_of,
)
from devices.credentials.broker import accepts
from devices.credentials.errors import CredentialFilesError, CredentialsError, UnusableNameError

ITERATIONS = 101
"""Of PBKDF2; mosquitto_passwd 2.0's own number. The passwords are random, so more rounds would add nothing."""
SALT_BYTES = 12
MARK = "# Pantau writes below this line; changes there are lost."
CHECK_USER = "pantau-check"
"""Its password changes with each change of the files. It has no rights, and nobody keeps its password."""
RELOAD_TIMEOUT_S = 30.0
TELL_AGAIN_S = 1.0

NOTES = {
    "en": (
        "This broker has no dynamic security plugin (or it is not used): Pantau writes the files {passwords} and "
        "{acl}, and tells the broker to read them again."
    ),
    "id": (
        "Broker ini tidak memiliki plugin dynamic security (atau tidak dipakai): Pantau menulis berkas {passwords} dan "
        "{acl}, lalu meminta broker membacanya kembali."
    ),
}


def password_line(username: str, password: str, salt: bytes | None = None) -> str:
    """A line of Mosquitto's password file: PBKDF2 with SHA-512, as mosquitto_passwd 2.0 writes it.

    Examples
    --------
    >>> password_line("a", "secret", b"0123456789ab")[:32]
    'a:$7$101$MDEyMzQ1Njc4OWFi$EO/lLl'
    """
    salt = os.urandom(SALT_BYTES) if salt is None else salt
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS)
    return f"{username}:$7${ITERATIONS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


class Reload:
    """Tells the broker to read its files again.

    Parameters
    ----------
    pid_file : Path or None
        The broker's ``pid_file``: the process in it gets SIGHUP.
    command : sequence of str
        Or a program that does it, such as ``systemctl reload mosquitto``; no shell is used.
    """

    def __init__(self, pid_file: Path | None = None, command: Sequence[str] = ()) -> None:
        self.pid_file = pid_file
        self.command = tuple(command)

    def __call__(self) -> None:
        """Raises CredentialFilesError if it can't be done."""
        if self.command:
            self._run()
        elif self.pid_file is not None:
            try:
                _hang_up(int(self.pid_file.read_text(encoding="ascii")))
            except (OSError, ValueError) as error:
                raise CredentialFilesError(
                    f"the broker can't be told to read its files again: {self.pid_file}: {error}"
                ) from error
        else:
            raise CredentialFilesError(
                "the broker can't be told to read its files again: set pid_file or reload_command (credentials)"
            )

    def _run(self) -> None:
        text = " ".join(self.command)
        try:
            done = subprocess.run(
                self.command, capture_output=True, text=True, timeout=RELOAD_TIMEOUT_S, stdin=subprocess.DEVNULL
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CredentialFilesError(f"the reload command failed: {text}: {error}") from error
        if done.returncode != 0:
            words = " ".join((done.stderr or done.stdout).split())
            raise CredentialFilesError(f"the reload command failed with code {done.returncode}: {text}: {words}")


def _hang_up(pid: int) -> None:
    """SIGHUP to Mosquitto, and to nothing that SIGHUP would end. Raises OSError or ValueError."""
    process = Path(f"/proc/{pid}")
    if process.exists():
        # A file that a broker left behind may name any process by now.
        if "mosquitto" not in (process / "comm").read_text(encoding="utf-8"):
            raise ValueError(f"process {pid} is no mosquitto; is the broker stopped?")
        # A broker that is just starting listens before it catches signals.
        until = time.monotonic() + 5.0
        while not int(re.findall(r"^SigCgt:\s*(\w+)", (process / "status").read_text(), re.M)[0], 16) & 1:
            if time.monotonic() > until:
                raise ValueError(f"process {pid} does not catch SIGHUP")
            time.sleep(0.02)
    os.kill(pid, signal.SIGHUP)


class FileIssuer:
    """Makes device logins in a password file and an ACL file.

    Parameters
    ----------
    broker : Broker
        Where the broker is, to try a new login.
    password_file, acl_file : Path
        The files that mosquitto.conf names. Their folders must be writable: the files are put in place by renaming,
        so a container must have the folder mounted and not the files.
    reload : callable
        Makes the broker read them again; see ``Reload``.
    pipeline : Login or None
        The pipeline's own login; ``prepare`` writes it.
    pipeline_topics : sequence of str
        Topic filters that it reads.
    verify_s : float
        How long the broker may take until it follows the files.
    """

    kind = "files"

    def __init__(
        self,
        broker: Broker,
        password_file: Path,
        acl_file: Path,
        reload: Callable[[], None],
        *,
        city: str,
        device_side: DeviceSide,
        pipeline: Login | None = None,
        pipeline_topics: Sequence[str] = ("pantau/v1/+/+",),
        reserved: Iterable[str] = (),
        verify_s: float = 5.0,
        notes: dict[str, str] = NOTES,
    ) -> None:
        self._broker = broker
        self._passwords = Path(password_file)
        self._acl = Path(acl_file)
        self._reload = reload
        self._city = city
        self._side = device_side
        self._pipeline = pipeline
        self._pipeline_topics = tuple(pipeline_topics)
        self._reserved = {CHECK_USER, *reserved} | ({pipeline.username} if pipeline else set())
        self._verify_s = verify_s
        self._notes = notes
        self._lock = threading.Lock()

    def create(self, device: str, *, speaks_for: Sequence[str] = ()) -> Credentials:
        """See ``Issuer.create``. Raises CredentialFilesError if the broker does not follow the files."""
        return self._create({device: tuple(speaks_for)})[0]

    def create_many(self, devices: Iterable[str]) -> list[Credentials]:
        """See ``Issuer.create_many``: the files are written once."""
        return self._create(dict.fromkeys(devices, ()))

    def rotate(self, device: str) -> Credentials:
        """See ``Issuer.rotate``."""
        self._check(device)
        with self._changing() as (passwords, acl):
            if device not in acl.devices:
                raise UnusableNameError(f"device {device!r} has no login in {self._passwords}")
            others = acl.devices[device]
            made = self._credentials(device, others)
            passwords.put(device, made.password)
        return made

    def revoke(self, device: str) -> bool:
        """See ``Issuer.revoke``."""
        self._check(device)
        # In force even if nothing changes now: an earlier attempt may have written the files and failed then.
        with self._changing(always=True) as (passwords, acl):
            had = acl.devices.pop(device, None) is not None
            if had:
                passwords.lines.pop(device, None)
        return had

    def known(self) -> set[str]:
        """See ``Issuer.known``."""
        with self._locked():
            return set(self._read()[1].devices)

    def speaks_for(self, device: str) -> tuple[str, ...]:
        """See ``Issuer.speaks_for``."""
        self._check(device)
        with self._locked():
            return self._read()[1].devices.get(device, ())

    def prepare(self) -> list[str]:
        """Write the files if they are not there, with the pipeline's own user."""
        done: list[str] = []
        with self._changing() as (passwords, acl):
            if self._pipeline is not None:
                if not passwords.matches(self._pipeline):
                    passwords.put(self._pipeline.username, self._pipeline.password)
                    done.append(f"{self._passwords} has the pipeline's user {self._pipeline.username!r}")
                if not acl.names_user(self._pipeline.username):
                    acl.pipeline = self._pipeline_lines()
                    done.append(f"{self._acl} lets {self._pipeline.username!r} read")
        return done

    def check(self) -> str | None:
        """See ``Issuer.check``: the files can be written, and the broker lets the pipeline in as they say."""
        for path in (self._passwords, self._acl):
            if not path.is_file():
                return f"there is no file {path}: make it, and name it in mosquitto.conf"
            if not os.access(path, os.R_OK) or not os.access(path.parent, os.W_OK):
                return f"{path} can't be written by this user (its folder must be writable too)"
        try:
            with self._locked():
                passwords, acl = self._read()
            missing = sorted(set(acl.devices) - set(passwords.lines))
            if missing:
                return f"{self._passwords} has no line for {missing[0]!r}, which {self._acl} names"
            if self._pipeline is not None:
                if self._pipeline.username not in passwords.lines:
                    return f"{self._passwords} has no line for the pipeline's user {self._pipeline.username!r}"
                if not accepts(self._broker, self._pipeline):
                    return (
                        f"broker {self._broker.address} refuses the pipeline's user {self._pipeline.username!r}: "
                        f"does it read {self._passwords}?"
                    )
        except CredentialsError as error:
            return str(error)
        return None

    def note(self, language: str) -> str:
        """That files are written, and which."""
        return self._notes[language].format(passwords=self._passwords, acl=self._acl)

    # -- inside -------------------------------------------------------------------------------------------------

    def _create(self, wanted: dict[str, tuple[str, ...]]) -> list[Credentials]:
        for device, others in wanted.items():
            self._check(device)
            for other in others:
                check_name(other)
        made = [self._credentials(d, others) for d, others in wanted.items()]
        if not made:
            return made
        with self._changing() as (passwords, acl):
            for c in made:
                if c.device not in acl.devices and (c.device in passwords.lines or acl.names_user(c.device)):
                    raise UnusableNameError(
                        f"{c.device!r} is a user in {self._passwords} or {self._acl} that Pantau did not make: "
                        "choose another id for the device, or delete that user"
                    )
            for c in made:
                passwords.put(c.device, c.password)
                acl.devices[c.device] = c.speaks_for
        return made

    def _check(self, device: str) -> None:
        check_name(device, self._reserved)
        if ":" in device:
            raise UnusableNameError(
                f"device {device!r} can't have a login: Mosquitto's password file allows no ':' in a name"
            )

    def _credentials(self, device: str, others: tuple[str, ...]) -> Credentials:
        side = self._side
        return Credentials(
            device=device,
            username=device,
            password=new_password(),
            host=side.host,
            port=side.port,
            tls=side.tls,
            topic=topic_of(self._city, device),
            client_id=device,
            speaks_for=others,
            ca_pem=side.ca_pem,
        )

    def _pipeline_lines(self) -> list[str]:
        assert self._pipeline is not None
        topics = (
            *self._pipeline_topics,
            "$SYS/broker/publish/messages/dropped",
            "$SYS/broker/store/messages/count",
            "$SYS/broker/+/count",
            "$SYS/broker/log/#",
        )
        return [f"user {self._pipeline.username}", *(f"topic read {t}" for t in topics)]

    def reread(self) -> None:
        """Make the broker read its files again, and wait until it has. Raises CredentialFilesError."""
        with self._changing(always=True):
            pass

    def _put_in_force(self, check: Login) -> None:
        """Tell the broker to read the files, until it takes the login that has just been written."""
        until = time.monotonic() + self._verify_s
        while True:
            self._reload()
            again = min(until, time.monotonic() + TELL_AGAIN_S)
            while True:
                if accepts(self._broker, check):
                    return
                if time.monotonic() >= again:
                    break
                time.sleep(0.1)
            if time.monotonic() >= until:
                raise CredentialFilesError(
                    f"{self._passwords} is written, but broker {self._broker.address} does not follow it "
                    f"within {self._verify_s:g} s: does it read this file, and is it told to read it again?"
                )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One at a time, across processes too."""
        with self._lock:
            try:
                lock = (self._passwords.parent / f".{self._passwords.name}.lock").open("a")
            except OSError as error:
                raise CredentialFilesError(f"{self._passwords} can't be written: {error}") from error
            with lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield

    def _read(self) -> tuple[_Passwords, _Acl]:
        try:
            return (
                _Passwords(self._passwords.read_text(encoding="utf-8") if self._passwords.exists() else ""),
                _Acl(self._acl.read_text(encoding="utf-8") if self._acl.exists() else "", self._city),
            )
        except (OSError, UnicodeDecodeError) as error:
            raise CredentialFilesError(f"{self._passwords} or {self._acl} can't be read: {error}") from error

    @contextlib.contextmanager
    def _changing(self, *, always: bool = False) -> Iterator[tuple[_Passwords, _Acl]]:
        """The files' content; what changed in the block is written and put in force at its end, ``always`` anyway."""
        with self._locked():
            passwords, acl = self._read()
            before = (passwords.text(), acl.text())
            yield passwords, acl
            there = self._passwords.exists() and self._acl.exists()
            if there and not always and (passwords.text(), acl.text()) == before:
                return
            check = Login(CHECK_USER, new_password())
            passwords.put(check.username, check.password)
            # A stop between the two leaves a user without rights, or rights without a user: harmless, and mended by
            # doing the same again.
            _replace(self._passwords, passwords.text())
            _replace(self._acl, acl.text())
            self._put_in_force(check)


class _Passwords:
    """The password file: user → its line; lines that are no user's are kept too."""

    def __init__(self, text: str) -> None:
        self.lines: dict[str, str] = {}
        self.other: list[str] = []
        for line in text.splitlines():
            name, colon, _ = line.partition(":")
            if colon and not line.startswith("#"):
                self.lines[name.strip()] = line
            elif line.strip():
                self.other.append(line)

    def put(self, username: str, password: str) -> None:
        """Set a user's password."""
        self.lines[username] = password_line(username, password)

    def matches(self, login: Login) -> bool:
        """Whether the line of this user is that of its password."""
        parts = self.lines.get(login.username, "").rpartition(":")[2].split("$")
        if len(parts) != 5 or parts[1] != "7" or not parts[2].isdigit():
            return False
        try:
            salt, digest = base64.b64decode(parts[3]), base64.b64decode(parts[4])
        except ValueError:
            return False
        return hashlib.pbkdf2_hmac("sha512", login.password.encode(), salt, int(parts[2])) == digest

    def text(self) -> str:
        """The whole file."""
        return "".join(f"{line}\n" for line in (*self.other, *self.lines.values()))


class _Acl:
    """The ACL file: what stands before the mark is left alone; behind it are the pipeline's lines and the devices."""

    def __init__(self, text: str, city: str) -> None:
        self._city = city
        before, _, behind = text.partition(MARK)
        self._before = before.rstrip("\n")
        self.pipeline: list[str] = []
        self.devices: dict[str, tuple[str, ...]] = {}
        user, is_device = "", False
        topics: list[str] = []
        prefix = topic_of(city, "")

        def close() -> None:
            if not user:
                return
            if is_device:
                names = [t.removeprefix(prefix) for t in topics]
                self.devices[user] = tuple(n for n in names if n != user)
            else:
                self.pipeline = [f"user {user}", *(f"topic read {t}" for t in topics)]

        for line in behind.splitlines():
            word, _, rest = line.strip().partition(" ")
            if word == "user":
                close()
                user, topics, is_device = rest.strip(), [], False
            elif word == "topic":
                access, _, topic = rest.partition(" ")
                topics.append(topic.strip())
                is_device = is_device or access == "write"
        close()

    def names_user(self, username: str) -> bool:
        """Whether lines outside of ours are about this user, or the pipeline's lines are."""
        lines = (*self._before.splitlines(), *self.pipeline[:1])
        return any(line.split() == ["user", username] for line in lines)

    def text(self) -> str:
        """The whole file."""
        parts = [self._before, ""] if self._before else []
        parts += [MARK, *self.pipeline]
        for device, others in self.devices.items():
            parts.append(f"user {device}")
            parts += [f"topic write {topic_of(self._city, d)}" for d in (device, *others)]
        return "\n".join(parts) + "\n"


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all, with the mode and owner that it has."""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            try:
                old = path.stat()
            except FileNotFoundError:
                Path(name).chmod(0o640)
            else:
                Path(name).chmod(old.st_mode & 0o7777)
                if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
                    with contextlib.suppress(PermissionError):
                        os.chown(name, old.st_uid, old.st_gid)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CredentialFilesError(f"{path} can't be written: {error}") from error
