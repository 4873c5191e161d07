"""Real servers for tests: Debian's InfluxDB 1.6 (data and queries) and VictoriaMetrics (the v2 HTTP path only)."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from pantau.ports import free_port

INSTALL = "apt-get install influxdb victoria-metrics"


class _Server:
    program = ""
    ready_path = ""

    def __init__(self, folder: Path) -> None:
        if shutil.which(self.program) is None:
            raise RuntimeError(f"this test needs {self.program}: {INSTALL}")
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> tuple[list[str], dict[str, str]]:
        raise NotImplementedError

    def start(self) -> None:
        """Start it, or start it again on the same port and data, and wait until it answers."""
        command, environment = self.command()
        log_path = self.folder / "server.log"
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(command, env=os.environ | environment, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(self.url + self.ready_path, timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
        raise RuntimeError(f"{self.program} did not start: {log_path.read_text(errors='replace')[-2000:]}")

    def stop(self) -> None:
        """End it in good order."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self):  # type: ignore[no-untyped-def]
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class InfluxDB(_Server):
    """InfluxDB 1.6; ``with InfluxDB(tmp_path) as server: server.url``. ``stop`` and ``start`` keep the data."""

    program = "influxd"
    ready_path = "/ping"

    def __init__(self, folder: Path, *, auth: bool = False, settings: dict[str, str] | None = None) -> None:
        super().__init__(folder)
        self._rpc_port = free_port()
        self._auth = auth
        self._settings = settings or {}

    def command(self) -> tuple[list[str], dict[str, str]]:
        return ["influxd", "run", "-config", "/dev/null"], {
            "INFLUXDB_META_DIR": str(self.folder / "meta"),
            "INFLUXDB_DATA_DIR": str(self.folder / "data"),
            "INFLUXDB_DATA_WAL_DIR": str(self.folder / "wal"),
            "INFLUXDB_HTTP_BIND_ADDRESS": f"127.0.0.1:{self.port}",
            "INFLUXDB_BIND_ADDRESS": f"127.0.0.1:{self._rpc_port}",
            "INFLUXDB_REPORTING_DISABLED": "true",
            "INFLUXDB_MONITOR_STORE_ENABLED": "false",
            "INFLUXDB_HTTP_LOG_ENABLED": "false",
            "INFLUXDB_HTTP_AUTH_ENABLED": str(self._auth).lower(),
            **self._settings,
        }


class VictoriaMetrics(_Server):
    """VictoriaMetrics: takes the v2 write path and answers 204 to anything, so it can't check data."""

    program = "victoria-metrics"
    ready_path = "/health"

    def command(self) -> tuple[list[str], dict[str, str]]:
        return [
            "victoria-metrics",
            f"-storageDataPath={self.folder / 'vm'}",
            f"-httpListenAddr=127.0.0.1:{self.port}",
            "-retentionPeriod=100y",
            "-dedup.minScrapeInterval=1ms",
            "-search.latencyOffset=0s",
            "-loggerLevel=WARN",
        ], {}
