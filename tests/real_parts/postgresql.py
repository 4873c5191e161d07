"""A real PostgreSQL for tests: Debian's programs, as an unprivileged user, in a temporary folder, on a free port."""

from __future__ import annotations

import itertools
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from pantau.ports import free_port

FOLDERS = "/usr/lib/postgresql"
"""Debian keeps its programs out of PATH, one folder for each version."""


def programs() -> Path:
    """The folder with ``initdb`` and ``pg_ctl`` of the newest version."""
    found = [p.parent for p in Path(FOLDERS).glob("*/bin/initdb")]
    if found:
        return max(found, key=lambda p: [int(n) for n in re.findall(r"\d+", p.parent.name)])
    on_path = shutil.which("initdb")
    if on_path is None:
        raise RuntimeError("these tests need a real PostgreSQL: apt-get install postgresql")
    return Path(on_path).resolve().parent


class PostgreSQL:
    """A running server; use it as a context manager. Each ``database()`` is a new, empty one."""

    def __init__(self) -> None:
        self._bin = programs()
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
        # PostgreSQL refuses to run as root.
        self._user: dict[str, object] = {}
        self.owner = pwd.getpwuid(os.geteuid()).pw_name
        if os.geteuid() == 0:
            self.owner = "postgres" if _exists("postgres") else "nobody"
            entry = pwd.getpwnam(self.owner)
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
            self._user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        self._names = (f"test_{n}" for n in itertools.count())
        self._data = self.folder / "data"
        self._log = self.folder / "server.log"

    def _run(self, program: str, *arguments: str, check: bool = True) -> None:
        done = subprocess.run(
            [str(self._bin / program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if program != "pg_ctl" else subprocess.DEVNULL,  # the server would keep it open
            stderr=subprocess.STDOUT if program != "pg_ctl" else subprocess.DEVNULL,
            cwd=self.folder,
            text=True,
            timeout=120,
            **self._user,  # type: ignore[call-overload]
        )
        if check and done.returncode:
            log = self._log.read_text(errors="replace")[-2000:] if self._log.exists() else ""
            raise RuntimeError(f"{program} failed: {done.stdout}\n{log}")

    def start(self) -> None:
        """Make a cluster at the first start, and wait until it answers."""
        if not self._data.exists():
            self._run("initdb", "-D", str(self._data), "-U", "pantau", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8")
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder} "
            "-c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=60"
        )
        self._run("pg_ctl", "-D", str(self._data), "-l", str(self._log), "-w", "-t", "60", "-o", options, "start")

    def stop(self) -> None:
        """End it; connections are cut."""
        self._run("pg_ctl", "-D", str(self._data), "-m", "immediate", "-w", "stop", check=False)

    def url(self, database: str) -> str:
        """SQLAlchemy URL of a database."""
        return f"postgresql://pantau@127.0.0.1:{self.port}/{database}"

    def database(self) -> str:
        """URL of a new, empty database."""
        name = next(self._names)
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "pantau", name)
        return self.url(name)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True
