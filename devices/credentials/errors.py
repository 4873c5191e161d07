"""Errors of device logins.

DevicesError
└── CredentialsError             anything that goes wrong with a device's login
    ├── BrokerUnreachableError   retryable: no connection, or no answer in time
    ├── BrokerRefusedError       permanent until the settings change: our own login is refused, or may not do this
    ├── PluginMissingError       permanent until the broker changes: it has no dynamic security plugin
    ├── CredentialFilesError     permanent until somebody mends them: a file can't be read or written, or has no effect
    ├── CertificateError         the authority can't issue or revoke
    └── UnusableNameError        permanent: a device of this name can't have a login; also a ValueError
"""

from __future__ import annotations

from devices.errors import DevicesError


class CredentialsError(DevicesError):
    """Anything that goes wrong with a device's login."""


class BrokerUnreachableError(CredentialsError):
    """The broker did not answer; trying again later may help."""


class BrokerRefusedError(CredentialsError):
    """The broker refused us, or what we asked."""


class PluginMissingError(CredentialsError):
    """The broker takes our login, but nothing answers on the plugin's control topic."""


class CredentialFilesError(CredentialsError):
    """The password or ACL file can't be used, or the broker does not follow it."""


class CertificateError(CredentialsError):
    """A certificate can't be issued or revoked."""


class UnusableNameError(CredentialsError, ValueError):
    """The device's id can't be the name of a login; the message says why."""
