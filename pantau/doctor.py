"""``pantau doctor``: is everything that the pipeline needs there, and if not, what to do about it."""

from __future__ import annotations

import contextlib
import ctypes
import json
import shutil
import sqlite3
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from devices.credentials.errors import CredentialsError
from devices.errors import DevicesError, RegistryEmptyError
from devices.registry import Registry
from ingest.connection import DROPPED_TOPIC
from ingest.settings import BrokerSettings, ClockSource
from pantau.demo import check_writable
from pantau.logins import issuer_of
from pantau.retaking import NAME, open_letters
from pantau.runtime import open_store
from pantau.settings import ConfigurationError, Settings, load
from pantau.startup import StartupError
from storage.errors import StorageError
from storage.settings import StoreKind

FREE_FAIL_BYTES = 200 * 2**20
FREE_WARN_BYTES = 2 * 2**30
_FIGURES_S = 0.5
"""How long a broker may take to tell its figures."""
_TIME_ERROR = 5
"""What adjtimex(2) returns while the clock is not synchronised."""


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    check: str
    state: str
    """ok, warning or failure."""
    detail: str
    advice: str = ""
    """What to do about it."""


def examine(path: Path | None) -> list[Finding]:
    """Run all checks; the first is the configuration, without which there are no others."""
    try:
        settings = load(path)
    except ConfigurationError as error:
        return [Finding("configuration", "failure", str(error), "mend the file; pantau.example.toml shows every key")]
    name = (
        str(path) if path else ("pantau.toml" if Path("pantau.toml").exists() else "defaults (there is no pantau.toml)")
    )
    findings = [Finding("configuration", "ok", name)]
    findings += [_disk(settings), _registry(settings), _dead_letters(settings)]
    findings += [_broker(broker) for broker in settings.brokers]
    findings += [_credentials(settings), _store(settings), _clock(), _page(settings)]
    return findings


def as_json(findings: list[Finding]) -> str:
    """The findings for a program."""
    return json.dumps({"ok": healthy(findings), "findings": [asdict(f) for f in findings]}, indent=2)


def healthy(findings: list[Finding]) -> bool:
    """Whether nothing failed; warnings do not count."""
    return all(f.state != "failure" for f in findings)


def _disk(settings: Settings) -> Finding:
    folder = settings.data.folder
    try:
        check_writable(folder)
    except StartupError as error:
        return Finding(
            "disk", "failure", str(error), "give the folder to the user that runs pantau, or set data.folder"
        )
    free = shutil.disk_usage(folder).free
    detail = f"{folder.absolute()}: {free / 2**30:.1f} GiB free"
    if free < FREE_FAIL_BYTES:
        return Finding("disk", "failure", detail, "free some space: with a full disk no message is taken any more")
    if free < FREE_WARN_BYTES:
        return Finding("disk", "warning", detail, "free some space soon, or lower data.journal_days")
    return Finding("disk", "ok", detail)


def _registry(settings: Settings) -> Finding:
    try:
        with contextlib.closing(Registry(settings.data.registry)) as registry:
            directory = registry.directory()
    except RegistryEmptyError:
        return Finding("registry", "warning", "no device is registered", "register some: pantau register CITY.toml")
    except DevicesError as error:
        return Finding("registry", "failure", str(error), "check data.folder")
    if directory.city != settings.city.name:
        return Finding(
            "registry",
            "failure",
            f"it is of the city {directory.city!r}, but city.name is {settings.city.name!r}",
            "set city.name, or use another data.folder",
        )
    counts = f"{len(directory.sites)} sites, {len(directory.devices)} devices, {len(directory.datastreams)} datastreams"
    return Finding("registry", "ok", f"{counts}, version {directory.version}")


def _broker(broker: BrokerSettings) -> Finding:
    """Connect as the pipeline would, under another client id."""
    name = f"broker {broker.name}"
    answered = threading.Event()
    answer: list[str] = []
    told: dict[str, Any] = {}
    """What the broker says of itself."""

    def connected(client: mqtt.Client, _data: Any, _flags: Any, reason: Any, properties: Any) -> None:
        answer.append("" if reason == 0 else str(reason))
        if properties is not None:
            told.update(vars(properties))
        if reason == 0 and broker.watch_drops:
            client.subscribe(DROPPED_TOPIC)
        answered.set()

    def heard(_client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        with contextlib.suppress(ValueError):
            told["dropped"] = int(message.payload)

    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"{broker.client_id}-doctor", protocol=mqtt.MQTTv5)
    client.on_connect, client.on_message = connected, heard
    if broker.username is not None:
        client.username_pw_set(broker.username, broker.password)
    started = time.monotonic()
    try:
        if broker.tls:
            client.tls_set(broker.ca_file, broker.cert_file, broker.key_file)
        client.connect(broker.host, broker.port, keepalive=broker.keep_alive_s)
        client.loop_start()
        if not answered.wait(broker.connect_timeout_s):
            answer.append(f"no answer within {broker.connect_timeout_s:g} s")
        took = time.monotonic() - started
    except ConnectionRefusedError:
        answer.append("connection refused")
        return Finding(
            name, "failure", f"{broker.address}: connection refused", "start the broker, or check host and port"
        )
    except ssl.SSLError as error:
        return Finding(
            name, "failure", f"{broker.address}: {error.reason or error}", "check tls, ca_file and the host name"
        )
    except OSError as error:
        return Finding(name, "failure", f"{broker.address}: {error}", "check host, port and the network")
    else:
        if not answer[0] and broker.watch_drops:
            time.sleep(_FIGURES_S)
    finally:
        client.disconnect()
        client.loop_stop()
    if answer[0]:
        return Finding(
            name, "failure", f"{broker.address}: {answer[0]}", "check username, password_env and the broker's log"
        )
    if broker.processes > 1 and told.get("SharedSubscriptionAvailable") == 0:
        return Finding(
            name, "failure", f"{broker.address}: it has no shared subscriptions", "set processes = 1 for this broker"
        )
    if told.get("dropped"):
        return Finding(
            name,
            "warning",
            f"{broker.address}: since its start it has dropped {told['dropped']} messages for its subscribers",
            "set its queue limits, such as max_queued_messages 0 and max_queued_bytes (docs/deploy.md)",
        )
    return Finding(name, "ok", f"{broker.address}: connected with MQTT 5 in {1000 * took:.0f} ms")


def _dead_letters(settings: Settings) -> Finding:
    """Whether what was refused nears the bounds of room or age."""
    folder = settings.data.folder
    if not (folder / NAME).exists():
        return Finding("dead letters", "ok", "none yet")
    try:
        with open_letters(folder, settings.limits) as letters:
            fill = letters.fill()
    except (OSError, sqlite3.Error) as error:
        return Finding("dead letters", "failure", f"{folder / NAME}: {error}", "check the disk and the folder's owner")
    trouble = fill.trouble(time.time_ns() if settings.clock.source == ClockSource.SYSTEM else None)
    advice = "pantau dead-letters count says what was refused and what to do about it"
    if trouble:
        return Finding("dead letters", "warning", trouble, advice)
    return Finding("dead letters", "ok", f"{fill.kept} kept, {fill.marked} wait to be taken again")


def _credentials(settings: Settings) -> Finding:
    """Whether logins of devices can be made now."""
    try:
        issuer = issuer_of(settings)
        problem = issuer.check() if issuer is not None else None
    except (CredentialsError, ConfigurationError) as error:
        issuer, problem = None, str(error)
    if problem is not None:
        return Finding("credentials", "failure", problem, "check the [credentials] section (docs/credentials.md)")
    if issuer is None:
        return Finding("credentials", "ok", 'kind is "none": the users of the broker are not managed here')
    if note := issuer.note("en"):
        advice = 'Mosquitto\'s dynamic security plugin needs no files and no reload: kind = "dynsec"'
        return Finding("credentials", "warning", note, advice)
    return Finding("credentials", "ok", f"{issuer.kind}: logins of devices can be made and revoked")


def _store(settings: Settings) -> Finding:
    where = (
        f"{settings.store.url} ({settings.store.api})"
        if settings.store.kind == StoreKind.INFLUXDB
        else str(settings.store.folder)
    )
    if settings.store.kind == StoreKind.EMBEDDED and not settings.store.folder.exists():
        return Finding("store", "ok", f"embedded: {where}, made by the first start")
    advice = f"check the section [store] of the configuration; it points to {where}"
    try:
        with contextlib.closing(open_store(settings, read_only=True)) as store:
            problem = store.check()
    except (StorageError, OSError) as error:
        problem = str(error)
    if problem:
        return Finding("store", "failure", problem, advice)
    return Finding("store", "ok", f"{settings.store.kind}: {where}")


def _clock() -> Finding:
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    synchronised = _clock_synchronised()
    if synchronised is None:
        return Finding("clock", "warning", f"{now}; this system does not say whether it is synchronised")
    if not synchronised:
        return Finding(
            "clock", "warning", f"{now}; not synchronised", "switch on NTP, such as with timedatectl set-ntp true"
        )
    return Finding("clock", "ok", f"{now}, synchronised")


def _clock_synchronised() -> bool | None:
    try:
        adjtimex: Callable[[Any], int] = ctypes.CDLL(None).adjtimex
    except (OSError, AttributeError):
        return None
    # struct timex is at most 256 bytes; all zero asks without changing anything.
    result = adjtimex(ctypes.create_string_buffer(512))
    return None if result < 0 else result != _TIME_ERROR


def _page(settings: Settings) -> Finding:
    url = settings.page.url
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=3, context=settings.page.tls_context()) as response:
            program = json.load(response)["program"]
        return Finding("page", "ok", f"{url}: {program} is running there")
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return Finding("page", "ok", f"{url}: free; no pipeline is running there")
    except (ValueError, KeyError):
        return Finding("page", "failure", f"{url}: another program answers there", "set page.port to a free one")
