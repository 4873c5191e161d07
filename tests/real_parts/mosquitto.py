"""A real Mosquitto for tests: on a free port, in a temporary folder, with any configuration; it can be restarted."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from pantau.ports import free_port

QUEUES_WITHOUT_LIMITS = ("max_queued_messages 0", "max_queued_bytes 0", "max_inflight_messages 0")
"""Mosquitto's defaults drop messages for a subscriber that lags."""


class Mosquitto:
    """A running Mosquitto; use it as a context manager.

    Parameters
    ----------
    lines : sequence of str
        More lines for mosquitto.conf, after the listener. ``{folder}`` stands for its folder.
    persistence : bool
        Keep sessions and queued messages across ``restart``.
    anonymous : bool
        Let clients in without a user name.
    """

    def __init__(
        self,
        lines: Sequence[str] = (),
        *,
        persistence: bool = False,
        anonymous: bool = True,
        queues: Sequence[str] = QUEUES_WITHOUT_LIMITS,
    ) -> None:
        found = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
        found = found or shutil.which("mosquitto")
        if found is None:
            raise RuntimeError("these tests need a real broker: apt-get install mosquitto")
        self.program: str = found
        self.host = "127.0.0.1"
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="mosquitto-"))
        self.log = self.folder / "mosquitto.log"
        self._process: subprocess.Popen[bytes] | None = None
        content = [
            f"listener {self.port} {self.host}",
            f"allow_anonymous {'true' if anonymous else 'false'}",
            "user root" if _is_root() else "",
            *queues,
            f"persistence {'true' if persistence else 'false'}",
            f"persistence_location {self.folder}/" if persistence else "",
            "sys_interval 1",
            *(line.format(folder=self.folder) for line in lines),
        ]
        self.config = self.folder / "mosquitto.conf"
        self.config.write_text("\n".join(content) + "\n")

    def start(self) -> None:
        """Start it, and wait until it listens."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen([self.program, "-c", str(self.config)], stdout=log, stderr=log)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                socket.create_connection((self.host, self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        self.stop()
        raise RuntimeError(f"Mosquitto did not start:\n{self.log.read_text()}\n{self.config.read_text()}")

    def stop(self) -> None:
        """Stop it the regular way; with persistence it writes its sessions before."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=20)
            self._process = None

    def kill(self) -> None:
        """Kill it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=20)
            self._process = None

    def restart(self) -> None:
        """Stop and start, on the same port."""
        self.stop()
        self.start()

    @property
    def pid(self) -> int:
        """Process id."""
        assert self._process is not None, "it does not run"
        return self._process.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def _is_root() -> bool:
    return os.geteuid() == 0
