"""What a person is told when Pantau can't start."""

from __future__ import annotations

import sqlite3

from devices.errors import DevicesError
from ingest.errors import IngestError
from pantau.settings import ConfigurationError
from pantau.snapshot import SnapshotDamagedError
from storage.errors import StorageError
from web.errors import AccountsError
from web.server import ListenError


class StartupError(RuntimeError):
    """Pantau can't start; the message is one sentence that says why and what to do."""


EXPECTED = (
    StartupError,
    ConfigurationError,
    ListenError,
    SnapshotDamagedError,
    IngestError,
    DevicesError,
    StorageError,
    AccountsError,
    sqlite3.Error,
    OSError,
)
"""Errors with a sentence of their own; anything else is a fault of Pantau and is shown whole."""


def sentence(error: BaseException) -> str:
    """One line for a person."""
    return " ".join(str(error).split()) or type(error).__name__
