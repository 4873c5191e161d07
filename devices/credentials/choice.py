"""The issuer that the settings ask for; ``auto`` looks whether the broker has the plugin."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from devices.credentials import Broker, DeviceSide, Issuer, Login
from devices.credentials.certificates import Authority, CertificateIssuer
from devices.credentials.dynsec import DynsecIssuer
from devices.credentials.errors import BrokerRefusedError, CredentialFilesError, PluginMissingError
from devices.credentials.files import NOTES, FileIssuer, Reload
from devices.credentials.settings import CredentialsKind, CredentialsSettings

REASONS = {
    "en": (
        "The broker's dynamic security plugin does not answer ({reason}). Pantau therefore writes the files "
        "{passwords} and {acl}, and tells the broker to read them again."
    ),
    "id": (
        "Plugin dynamic security pada broker tidak menjawab ({reason}). Karena itu Pantau menulis berkas {passwords} "
        "dan {acl}, lalu meminta broker membacanya kembali."
    ),
}


def open_issuer(
    settings: CredentialsSettings,
    broker: Broker,
    *,
    city: str,
    pipeline: Login | None,
    pipeline_topics: Sequence[str],
    reserved: Sequence[str] = (),
) -> Issuer | None:
    """The issuer of the settings, or None where Pantau makes no logins.

    Parameters
    ----------
    broker : Broker
        How Pantau reaches the broker.
    pipeline : Login or None
        The pipeline's own login; None: it comes in without one.
    pipeline_topics : sequence of str
        Topic filters that the pipeline subscribes to.
    reserved : sequence of str
        More user names that no device may have.

    Raises
    ------
    BrokerUnreachableError
        ``kind`` is ``auto`` and the broker does not answer, so that nobody knows what it has.
    CredentialFilesError
        ``device_ca_file`` can't be read.
    """
    if settings.kind == CredentialsKind.NONE:
        return None
    side = _device_side(settings, broker)
    names = (settings.admin_username, *reserved)
    reload = (
        Reload(Path(settings.pid_file) if settings.pid_file else None, shlex.split(settings.reload_command))
        if settings.pid_file or settings.reload_command
        else None
    )

    def files(notes: dict[str, str] | None = None) -> Issuer:
        assert reload is not None  # the settings have seen to it
        return FileIssuer(
            broker,
            Path(settings.password_file),
            Path(settings.acl_file),
            reload,
            city=city,
            device_side=side,
            pipeline=pipeline,
            pipeline_topics=pipeline_topics,
            reserved=names,
            notes=notes or NOTES,
        )

    issuer: Issuer
    if settings.kind == CredentialsKind.FILES:
        issuer = files()
    else:
        plugin = DynsecIssuer(
            broker,
            Login(settings.admin_username, settings.admin_password or ""),
            city=city,
            device_side=side,
            pipeline=pipeline,
            pipeline_topics=pipeline_topics,
            bind_client_id=settings.bind_client_id,
            answer_s=settings.timeout_s,
            reserved=reserved,
        )
        issuer = plugin
        if settings.kind == CredentialsKind.AUTO:
            try:
                plugin.ping()
            except (PluginMissingError, BrokerRefusedError) as error:
                reason = str(error).replace("{", "{{").replace("}", "}}")
                issuer = files({k: v.replace("{reason}", reason) for k, v in REASONS.items()})
    if settings.certificates:
        folder = Path(settings.certificates)
        reread = issuer.reread if isinstance(issuer, FileIssuer) else reload
        issuer = CertificateIssuer(issuer, Authority(folder, f"Pantau devices of {city}"), reread)
    return issuer


def _device_side(settings: CredentialsSettings, broker: Broker) -> DeviceSide:
    ca_pem = ""
    if settings.device_ca_file:
        try:
            ca_pem = Path(settings.device_ca_file).read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise CredentialFilesError(f"device_ca_file {settings.device_ca_file} can't be read: {error}") from error
    return DeviceSide(
        host=settings.device_host or broker.host,
        port=settings.device_port or broker.port,
        tls=broker.tls if settings.device_tls is None else settings.device_tls,
        ca_pem=ca_pem,
    )
