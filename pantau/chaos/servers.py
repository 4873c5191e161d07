"""The processes of a campaign, each of which can be killed, frozen and started again; and the disk that can be full."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from pantau.startup import StartupError

_MARGIN_BYTES = 4096
_RESTARTS = 5
"""So often it may end by itself before it is given up."""
_LATELY_S = 3.0


def program(name: str, package: str) -> str:
    """The path of a program. Raises StartupError."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise StartupError(f"pantau chaos needs {name}: apt-get install {package}")
    return found


class Server:
    """A process that is started again and again with the same command."""

    def __init__(self, name: str, folder: Path, command: list[str], environment: dict[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.folder = folder
        self.starts = 0
        self._command = command
        self._environment = environment or {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """What it printed since its last start."""
        return self.folder / f"{self.name}-{self.starts}.log"

    def start(self) -> None:
        """Start it; does not wait until it answers."""
        self.starts += 1
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=os.environ | self._environment,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,  # Ctrl-C reaches the campaign alone
            )

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return None if self._process is None else self._process.pid

    def exit_code(self) -> int | None:
        """Its exit code if it has ended by itself."""
        return None if self._process is None else self._process.poll()

    def kill(self) -> None:
        """Kill -9."""
        self._end(signal.SIGKILL, 20)

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = 40.0) -> int:
        """End it in good order; returns its exit code, -9 if it did not end in time."""
        return self._end(number, timeout_s)

    def freeze(self) -> None:
        """Let it do nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def _end(self, number: signal.Signals, timeout_s: float) -> int:
        process = self._process
        if process is None:
            return 0
        self._signal(number)
        self._signal(signal.SIGCONT)
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            code = -signal.SIGKILL
        self._process = None
        return code


class Broker(Server):
    """Mosquitto with persistence: a stop keeps its sessions, a kill what it had saved in the last seconds before."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "mosquitto.conf"
        lines = [
            f"listener {port} 127.0.0.1",
            "allow_anonymous true",
            "user root" if os.geteuid() == 0 else "",
            "max_queued_messages 0",
            "max_queued_bytes 0",
            "max_inflight_messages 0",
            "persistence true",
            f"persistence_location {folder}/",
            "autosave_interval 1",
            "log_dest stderr",
            "log_type error",
            "log_type warning",
            "log_type notice",
            "log_type subscribe",
            "sys_interval 1",
        ]
        config.write_text("\n".join(lines) + "\n", encoding="utf-8")
        super().__init__("broker", folder, [program("mosquitto", "mosquitto"), "-c", str(config)])

    def has_subscriber(self) -> bool:
        """Whether anybody has subscribed to readings since the last start."""
        with contextlib.suppress(OSError):
            return "pantau/v1/" in self.log.read_text(errors="replace")
        return False


class Influx(Server):
    """InfluxDB 1.x as a process of its own."""

    def __init__(self, folder: Path, port: int, rpc_port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        super().__init__(
            "influxdb",
            folder,
            [program("influxd", "influxdb"), "run", "-config", "/dev/null"],
            {
                "INFLUXDB_META_DIR": str(folder / "meta"),
                "INFLUXDB_DATA_DIR": str(folder / "data"),
                "INFLUXDB_DATA_WAL_DIR": str(folder / "wal"),
                "INFLUXDB_HTTP_BIND_ADDRESS": f"127.0.0.1:{port}",
                "INFLUXDB_BIND_ADDRESS": f"127.0.0.1:{rpc_port}",
                "INFLUXDB_REPORTING_DISABLED": "true",
                "INFLUXDB_MONITOR_STORE_ENABLED": "false",
                "INFLUXDB_HTTP_LOG_ENABLED": "false",
            },
        )

    def wait_until_it_answers(self, timeout_s: float = 60.0) -> None:
        """Raises StartupError if it does not."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            with (
                contextlib.suppress(OSError, urllib.error.URLError),
                urllib.request.urlopen(f"{self.url}/ping", timeout=1),
            ):
                return
            time.sleep(0.05)
        raise StartupError(f"InfluxDB does not answer at {self.url}: {tail(self.log)}")


class Disk:
    """The pipeline's data folder: a small file system of its own where that may be mounted, else under a size limit."""

    def __init__(self, folder: Path, size_mb: int = 96) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        mount = shutil.which("mount")
        self.mounted = (
            os.geteuid() == 0
            and mount is not None
            and subprocess.run(
                [mount, "-t", "tmpfs", "-o", f"size={size_mb}m", "pantau-chaos", str(folder)], capture_output=True
            ).returncode
            == 0
        )
        self.full = False
        self._room_since = -math.inf

    def was_full(self) -> bool:
        """Whether it is full, or was in the last seconds."""
        return self.full or time.monotonic() - self._room_since < _LATELY_S

    def fill(self, pid: int | None) -> None:
        """Leave no room. Without a file system of its own: no file of the process ``pid`` may grow."""
        self.full = True
        if not self.mounted:
            self.apply_to(pid)
            return
        with (self.folder / ".filler").open("ab", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                try:
                    while True:
                        file.write(b"\0" * size)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise

    def make_room(self, pid: int | None) -> None:
        """There is room again."""
        self.full, self._room_since = False, time.monotonic()
        (self.folder / ".filler").unlink(missing_ok=True)
        if not self.mounted:
            self.apply_to(pid)

    def apply_to(self, pid: int | None) -> None:
        """Give the limit to a process; nothing to do where the file system is full by itself."""
        if self.mounted or pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (_MARGIN_BYTES if self.full else hard, hard))

    def close(self) -> None:
        """Keep the files, and give back the memory."""
        if not self.mounted:
            return
        copy = self.folder.with_name(self.folder.name + "-copy")
        with contextlib.suppress(OSError, shutil.Error):
            shutil.copytree(self.folder, copy, ignore=shutil.ignore_patterns(".filler"))
        subprocess.run(["umount", "-l", str(self.folder)], capture_output=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()
            copy.rename(self.folder)


class PipelineProcess(Server):
    """``pantau run``, started again when it ends by itself, as a service manager would."""

    def __init__(self, config: Path, page_port: int, disk: Disk, folder: Path, clock_file: Path | None) -> None:
        module = ["pantau"]
        if clock_file is not None:
            clock_file.write_text("0\n")
            module = ["pantau.chaos.shifted_clock", str(clock_file)]
        super().__init__("pipeline", folder, [sys.executable, "-m", *module, "run", "--config", str(config)])
        self._url = f"http://127.0.0.1:{page_port}/api/status"
        self._disk = disk
        self._wanted = False
        self._mutex = threading.RLock()
        self.ended: list[str] = []
        """What was said each time it ended by itself while it should have run."""
        self.ended_while_full = 0
        """Times that it ended by itself because the disk was full."""
        self.now_ms = 0
        """The time up to which it has taken in everything, as far as it has told; it only grows."""
        self._closing = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="watch", daemon=True)
        self._watcher.start()

    def start(self) -> None:
        with self._mutex:
            self._wanted = True
            super().start()
            self._disk.apply_to(self.pid)

    def kill(self) -> None:
        with self._mutex:
            self._wanted = False
            super().kill()

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = 60.0) -> int:
        with self._mutex:
            self._wanted = False
            return super().stop(number, timeout_s)

    def status(self) -> dict[str, Any] | None:
        """What its page says, or None while it does not answer."""
        try:
            with urllib.request.urlopen(self._url, timeout=1) as response:
                found: dict[str, Any] = json.load(response)
        except (OSError, urllib.error.URLError, ValueError):
            return None
        self.now_ms = max(self.now_ms, int(found["clock"]["now_ms"] or 0))
        return found

    @property
    def given_up(self) -> bool:
        """Whether it ended by itself too often."""
        return len(self.ended) >= _RESTARTS

    def listens(self) -> bool:
        """Whether it is connected to all its brokers."""
        status = self.status()
        return bool(status and status["brokers"] and all(b["connected"] for b in status["brokers"]))

    def close(self) -> None:
        """Stop watching, and end it."""
        self._closing.set()
        self._watcher.join()
        self.kill()

    def _watch(self) -> None:
        while not self._closing.wait(0.2):
            with self._mutex:
                code = self.exit_code()
                if self._wanted and code is not None:
                    if self._disk.was_full():
                        self.ended_while_full += 1
                    else:
                        self.ended.append(f"the pipeline ended by itself with code {code}: {tail(self.log)}")
                    self._closing.wait(0.3)
                    if len(self.ended) < _RESTARTS:
                        self.start()
                    else:
                        self._wanted = False
            self.status()


def tail(path: Path, characters: int = 1500) -> str:
    """The end of a file."""
    try:
        return path.read_text(errors="replace")[-characters:].strip()
    except OSError:
        return ""
