"""Prepare a deployment: random secrets in ``.env``, and passwords for the broker. Needs only Python's own library.

    python3 deploy/setup.py                    # once: writes deploy/.env and deploy/secrets/mosquitto-passwords
    python3 deploy/setup.py device awlr-1      # a password for one more device, printed once
    python3 deploy/setup.py dynsec             # for compose.dynsec.yaml: deploy/secrets/dynamic-security.json

What exists is left alone, so running it again is safe. Mosquitto reads its passwords again on SIGHUP:
``docker compose -f deploy/compose.yaml kill -s HUP mosquitto``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import secrets
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ITERATIONS = 101
"""Of PBKDF2; mosquitto_passwd's own number. The passwords are random, so more rounds would add nothing."""
SALT_BYTES = 12
RESERVED = ("clock",)
"""Last level of a topic that is no device's: a simulation's clock."""
BROKER_USERS = {"pantau": "MQTT_PANTAU_PASSWORD", "health": "MQTT_HEALTH_PASSWORD"}


PIPELINE_TOPICS = (
    "pantau/v1/+/+",
    "$SYS/broker/publish/messages/dropped",
    "$SYS/broker/store/messages/count",
    "$SYS/broker/+/count",
    "$SYS/broker/log/#",
)
"""What Pantau reads; the first as in ``deploy/pantau.toml``."""


def hashed(password: str) -> tuple[str, str]:
    """Salt and hash as Mosquitto 2.0 keeps them: PBKDF2 with SHA-512, in base64."""
    salt = os.urandom(SALT_BYTES)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS)
    return base64.b64encode(salt).decode(), base64.b64encode(digest).decode()


def password_line(username: str, password: str) -> str:
    """A line of Mosquitto's password file, as mosquitto_passwd 2.0 writes it."""
    salt, digest = hashed(password)
    return f"{username}:$7${ITERATIONS}${salt}${digest}"


def write_environment(folder: Path) -> dict[str, str]:
    """Write ``.env`` from ``.env.example`` with a random value for each empty key; return all values.

    An ``.env`` from before there was the user who makes devices' logins gets that password at its end.
    """
    path = folder / ".env"
    if path.exists():
        if "MQTT_ADMIN_PASSWORD=" not in path.read_text(encoding="utf-8"):
            with path.open("a", encoding="utf-8") as file:
                file.write(f"MQTT_ADMIN_PASSWORD={secrets.token_hex(16)}\n")
    else:
        shared = secrets.token_hex(32)
        lines = []
        for line in (folder / ".env.example").read_text(encoding="utf-8").splitlines():
            key, sign, value = line.partition("=")
            if sign and not value and not line.startswith("#"):
                value = shared if key in ("INFLUX_ADMIN_TOKEN", "PANTAU_INFLUX_TOKEN") else secrets.token_hex(16)
                line = f"{key}={value}"
            lines.append(line)
        with open(path, "x", encoding="utf-8", opener=lambda p, f: os.open(p, f, 0o600)) as file:
            file.write("\n".join(lines) + "\n")
    pairs = (line.partition("=") for line in path.read_text(encoding="utf-8").splitlines() if line[:1] not in ("#", ""))
    return {key: value for key, _, value in pairs}


def passwords_file(folder: Path) -> Path:
    """Where the broker's passwords are. The folder is closed to others; the container sees the file alone."""
    (folder / "secrets").mkdir(mode=0o700, exist_ok=True)
    return folder / "secrets" / "mosquitto-passwords"


def write_broker_passwords(folder: Path, environment: dict[str, str]) -> None:
    """Write the password file with the users that the deployment itself needs."""
    path = passwords_file(folder)
    if not path.exists():
        lines = [password_line(user, environment[key]) for user, key in BROKER_USERS.items()]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        path.chmod(0o644)


def write_dynsec(folder: Path, environment: dict[str, str]) -> Path:
    """Write the first content of the dynamic security plugin's file: who makes logins, Pantau, and the health check.

    Everything that no role allows is denied. From then on Pantau adds devices through the plugin.
    """
    path = passwords_file(folder).with_name("dynamic-security.json")
    if path.exists():
        return path
    everything = "$CONTROL/dynamic-security/#"
    read = ("subscribePattern", "publishClientReceive")
    roles = {
        "pantau:administrator": [(kind, everything) for kind in (*read, "publishClientSend")],
        "pantau:pipeline": [(kind, topic) for topic in PIPELINE_TOPICS for kind in read],
        "pantau:health": [(kind, "$SYS/broker/uptime") for kind in read],
    }
    users = {
        "pantau-admin": ("MQTT_ADMIN_PASSWORD", "pantau:administrator"),
        "pantau": ("MQTT_PANTAU_PASSWORD", "pantau:pipeline"),
        "health": ("MQTT_HEALTH_PASSWORD", "pantau:health"),
    }
    clients: list[dict[str, Any]] = []
    for username, (key, role) in users.items():
        salt, digest = hashed(environment[key])
        client = {"username": username, "password": digest, "salt": salt, "iterations": ITERATIONS}
        clients.append({**client, "roles": [{"rolename": role}]})
    content = {
        "clients": clients,
        "roles": [
            {"rolename": name, "acls": [{"acltype": kind, "topic": topic, "allow": True} for kind, topic in acls]}
            for name, acls in roles.items()
        ],
        "defaultACLAccess": {
            "publishClientSend": False,
            "publishClientReceive": False,
            "subscribe": False,
            "unsubscribe": True,
        },
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    path.chmod(0o644)
    return path


def add_device(folder: Path, device: str) -> str:
    """Give a device a new random password, in place of an earlier one, and return it."""
    taken = (*BROKER_USERS, *RESERVED)
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", device) or device in taken:
        raise SystemExit(f"device must be of letters, digits, - _ and ., and not {', '.join(taken)}, got {device!r}")
    path = passwords_file(folder)
    kept = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith(f"{device}:")]
    password = secrets.token_hex(16)
    # In place, not by renaming: the container has this very file mounted.
    path.write_text("\n".join([*kept, password_line(device, password)]) + "\n", encoding="utf-8")
    return password


def main(arguments: list[str], folder: Path = HERE) -> None:
    """The command line."""
    write_broker_passwords(folder, write_environment(folder))
    match arguments:
        case []:
            print(f"ready: {folder / '.env'} and {passwords_file(folder)}")
        case ["dynsec"]:
            print(f"ready: {write_dynsec(folder, write_environment(folder))}")
        case ["device", device]:
            print(add_device(folder, device))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
