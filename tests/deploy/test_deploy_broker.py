"""The shipped mosquitto.conf, acl and setup.py with a real Mosquitto; only paths and the port are replaced."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

DEPLOY = Path(__file__).parents[2] / "deploy"
SETUP = runpy.run_path(str(DEPLOY / "setup.py"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared deployment with two devices; ``passwords`` of everybody are read from what setup.py wrote."""
    path = tmp_path_factory.mktemp("deploy")
    shutil.copy(DEPLOY / ".env.example", path)
    SETUP["main"]([], path)
    return path


@dataclass
class Broker:
    port: int
    folder: Path
    passwords: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            ["mosquitto", "-c", str(self.folder / "mosquitto.conf")], stderr=(self.folder / "log").open("ab")
        )
        wait_until(lambda: answers(self.port), f"mosquitto: {(self.folder / 'log').read_text()}")

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait(10)

    def client(self, user: str, client_id: str = "") -> mqtt.Client:
        c = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv5)
        c.username_pw_set(user, self.passwords[user])
        return c

    def connect(self, c: mqtt.Client, **options: Any) -> None:
        c.connect("127.0.0.1", self.port, **options)
        c.loop_start()
        wait_until(c.is_connected, "no connection")


def answers(port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def wait_until(condition: Callable[[], bool], otherwise: str, timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.05)


@pytest.fixture(scope="module")
def broker(folder: Path) -> Iterator[Broker]:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = int(s.getsockname()[1])
    (folder / "data").mkdir()
    config = (DEPLOY / "mosquitto/mosquitto.conf").read_text(encoding="utf-8")
    shutil.copy(DEPLOY / "mosquitto/acl", folder / "acl")
    for shipped, here in (
        ("\nlistener 1883\n", f"\nlistener {port} 127.0.0.1\n"),
        ("/mosquitto/config/passwords", str(SETUP["passwords_file"](folder))),
        ("/mosquitto/config/acl", str(folder / "acl")),
        ("/mosquitto/data/", f"{folder / 'data'}/"),
    ):
        assert shipped in config
        config = config.replace(shipped, here)
    # Started by root, Mosquitto would change to a user who can't read the temporary folder.
    (folder / "mosquitto.conf").write_text(config + ("user root\n" if os.getuid() == 0 else ""), encoding="utf-8")
    env = SETUP["write_environment"](folder)
    passwords = {
        "pantau": env["MQTT_PANTAU_PASSWORD"],
        "health": env["MQTT_HEALTH_PASSWORD"],
        "awlr-1": SETUP["add_device"](folder, "awlr-1"),
        "awlr-2": SETUP["add_device"](folder, "awlr-2"),
    }
    running = Broker(port, folder, passwords)
    running.start()
    yield running
    running.stop()


@pytest.mark.mosquitto
def test_stranger_and_wrong_password_are_refused(broker: Broker) -> None:
    for arguments in ([], ["-u", "awlr-1", "-P", "wrong"]):
        command = ["mosquitto_pub", "-p", str(broker.port), "-t", "pantau/v1/kota/awlr-1", "-m", "x", *arguments]
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode != 0 and "not authori" in result.stderr.lower()


@pytest.mark.mosquitto
def test_device_writes_to_its_own_topic_alone_and_pantau_reads_it(broker: Broker) -> None:
    seen: list[tuple[str, bytes]] = []
    reader = broker.client("pantau")
    ready: list[bool] = []
    reader.on_message = lambda *a: seen.append((a[2].topic, a[2].payload))
    reader.on_subscribe = lambda *_: ready.append(True)
    reader.on_connect = lambda c, *_: c.subscribe("#", 1)
    broker.connect(reader)
    wait_until(lambda: bool(ready), "no subscription")
    for user, topic in (
        ("awlr-1", "pantau/v1/kota/awlr-2"),
        ("awlr-1", "pantau/v1/kota/clock"),
        ("awlr-1", "other"),
        ("pantau", "pantau/v1/kota/awlr-2"),
        ("awlr-1", "pantau/v1/kota/awlr-1"),
    ):
        login = ["-u", user, "-P", broker.passwords[user]]
        command = ["mosquitto_pub", "-p", str(broker.port), "-q", "1", "-t", topic, "-m", "1", *login]
        subprocess.run(command, check=True, timeout=10)
    wait_until(lambda: bool(seen), "nothing came")
    time.sleep(0.3)
    reader.loop_stop()
    assert [s for s in seen if not s[0].startswith("$SYS")] == [("pantau/v1/kota/awlr-1", b"1")]


@pytest.mark.mosquitto
def test_health_check_of_the_compose_file_answers(broker: Broker) -> None:
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    match = re.search(r'"CMD-SHELL", "(mosquitto_sub .*?)"\]', text)
    assert match is not None
    command = (
        match.group(1)
        .replace('\\"', '"')
        .replace("$$", "$")
        .replace("mosquitto_sub", f"mosquitto_sub -p {broker.port}")
    )
    environment = {**os.environ, "HEALTH_PASSWORD": broker.passwords["health"]}
    assert subprocess.run(command, shell=True, env=environment, stdout=subprocess.DEVNULL, timeout=20).returncode == 0
    environment["HEALTH_PASSWORD"] = "wrong"
    assert subprocess.run(command, shell=True, env=environment, capture_output=True, timeout=20).returncode != 0


@pytest.mark.mosquitto
def test_messages_wait_for_pantau_through_a_restart_of_the_broker(broker: Broker) -> None:
    session = mqtt.Properties(mqtt.PacketTypes.CONNECT)
    session.SessionExpiryInterval = 3600
    # Never clean_start: Mosquitto 2.0.11 does not save a session across its own restart that began with it.
    ready: list[bool] = []
    reader = broker.client("pantau", "pantau-main")
    reader.on_subscribe = lambda *_: ready.append(True)
    reader.on_connect = lambda c, *_: c.subscribe("pantau/v1/+/+", 1)
    broker.connect(reader, clean_start=False, properties=session)
    wait_until(lambda: bool(ready), "no subscription")
    reader.disconnect()
    reader.loop_stop()
    # More than Mosquitto's own limit of 1000, which would drop the rest.
    count = 3000
    device = broker.client("awlr-2")
    broker.connect(device)
    sent = [device.publish("pantau/v1/kota/awlr-2", str(i).encode(), 1) for i in range(count)]
    for message in sent:
        message.wait_for_publish(20)
    device.disconnect()
    device.loop_stop()
    broker.stop()
    broker.start()
    seen: list[int] = []
    again = broker.client("pantau", "pantau-main")
    again.on_message = lambda *a: seen.append(int(a[2].payload))
    broker.connect(again, clean_start=False, properties=session)
    wait_until(lambda: len(seen) >= count, f"only {len(seen)} of {count} came", 30)
    again.disconnect()
    again.loop_stop()
    assert seen == list(range(count))


def test_setup_run_again_changes_nothing(folder: Path) -> None:
    files = [folder / ".env", SETUP["passwords_file"](folder)]
    before = [f.read_bytes() for f in files]
    SETUP["main"]([], folder)
    assert [f.read_bytes() for f in files] == before
    assert files[0].stat().st_mode & 0o077 == 0 and files[1].parent.stat().st_mode & 0o077 == 0
    values = SETUP["write_environment"](folder)
    assert all(values.values()), "an empty secret is left"
    assert values["PANTAU_INFLUX_TOKEN"] == values["INFLUX_ADMIN_TOKEN"]


def test_device_gets_a_new_password_in_place_of_the_old(tmp_path: Path) -> None:
    shutil.copy(DEPLOY / ".env.example", tmp_path)
    SETUP["main"]([], tmp_path)
    first, second = SETUP["add_device"](tmp_path, "d"), SETUP["add_device"](tmp_path, "d")
    lines = SETUP["passwords_file"](tmp_path).read_text().splitlines()
    assert first != second and [line.split(":")[0] for line in lines] == ["pantau", "health", "d"]


@pytest.mark.parametrize("name", ["pantau", "clock", "a/b", "a:b", "", "#"])
def test_name_that_is_no_devices_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SystemExit, match="device must be"):
        SETUP["add_device"](tmp_path, name)
