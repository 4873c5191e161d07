"""Settings of device logins: who makes them, and what devices are told about the broker."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from enum import StrEnum


class CredentialsKind(StrEnum):
    """How the broker learns of devices' logins."""

    NONE = "none"
    """Pantau makes none: somebody else manages the broker's users."""
    DYNSEC = "dynsec"
    """Through Mosquitto's dynamic security plugin."""
    FILES = "files"
    """Through Mosquitto's password and ACL files."""
    AUTO = "auto"
    """Through the plugin if it answers, else through the files; which one it is, is said."""


@dataclass(frozen=True)
class CredentialsSettings:
    """Section ``[credentials]``."""

    kind: CredentialsKind = CredentialsKind.NONE
    broker: str = ""
    """Name of the ``[[broker]]`` whose logins these are; empty: the first."""
    device_host: str = ""
    """Host that devices connect to; empty: the broker's host as we know it."""
    device_port: int = 0
    """0: the broker's port as we know it."""
    device_tls: bool | None = None
    """None: as we connect ourselves."""
    device_ca_file: str = ""
    """Authority (PEM) that devices are given along with their login, to know the broker by."""
    bind_client_id: bool = True
    """A device may connect under its id as client id only (dynsec)."""
    admin_username: str = "pantau-admin"
    """A client of the plugin that may use its control topic (dynsec)."""
    admin_password: str | None = field(default=None, repr=False)
    password_file: str = ""
    """``password_file`` of mosquitto.conf (files)."""
    acl_file: str = ""
    """``acl_file`` of mosquitto.conf (files)."""
    pid_file: str = ""
    """``pid_file`` of mosquitto.conf: that process gets SIGHUP to read its files again."""
    reload_command: str = ""
    """Or a command that makes it do so."""
    timeout_s: float = 5.0
    """How long the broker may take for a connection, and for an answer."""
    reserved: tuple[str, ...] = ()
    """User names of the broker that no device may have: those of other programs."""
    certificates: str = ""
    """Folder of the authority for client certificates; empty: devices get none."""

    def __post_init__(self) -> None:
        if not 0 <= self.device_port <= 65_535:
            raise ValueError(f"device_port must be 0..65535, got {self.device_port}")
        if not 0 < self.timeout_s <= 600:
            raise ValueError(f"timeout_s must be above 0 and at most 600, got {self.timeout_s}")
        if self.kind == CredentialsKind.NONE:
            return
        if not self.admin_username:
            raise ValueError("admin_username must not be empty")
        if self.kind in (CredentialsKind.DYNSEC, CredentialsKind.AUTO) and not self.admin_password:
            raise ValueError(f'admin_password_env must be set where kind is "{self.kind}"')
        if self.kind in (CredentialsKind.FILES, CredentialsKind.AUTO):
            for name in ("password_file", "acl_file"):
                if not getattr(self, name):
                    raise ValueError(f'{name} must be set where kind is "{self.kind}"')
            if bool(self.pid_file) == bool(self.reload_command):
                raise ValueError(f'one of pid_file and reload_command must be set where kind is "{self.kind}"')
        try:
            shlex.split(self.reload_command)
        except ValueError as error:
            raise ValueError(f"reload_command is no command line: {error}, got {self.reload_command!r}") from None
