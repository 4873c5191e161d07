"""Errors of the registry.

DevicesError
├── RegistryUnavailableError    retryable: the database cannot be opened, is locked, or its disk is full
├── RegistryIncompatibleError   permanent: the database was written by a newer Pantau, or is no registry
├── RegistryEmptyError          permanent until somebody saves a city
└── InvalidEntryError           permanent: what was to be saved is wrong; also a ValueError
"""

from __future__ import annotations


class DevicesError(Exception):
    """Anything that goes wrong in this room."""


class RegistryUnavailableError(DevicesError):
    """The database cannot be reached now; trying again later may help."""


class RegistryIncompatibleError(DevicesError):
    """The database is not one that this version can work with."""


class RegistryEmptyError(DevicesError):
    """No city has been saved yet."""


class InvalidEntryError(DevicesError, ValueError):
    """A site, device, datastream or ladder that cannot be right; the message names it and says why."""
