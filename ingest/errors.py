"""Errors of this package.

    IngestError
    ├── SettingsError          permanent: the configuration is wrong; startup stops
    ├── DeadLettersFullError   retryable: no room on the disk; nothing of the batch was kept
    ├── AccountDamagedError    permanent: move the file away, and a new account begins
    └── JournalError
        ├── JournalFullError   retryable: no room on the disk; nothing of the failed commit remains
        ├── JournalLockedError permanent while the other process lives
        ├── JournalCorruptError     permanent: committed frames are damaged; names file and offset
        └── JournalBrokenError permanent for this object: the disk failed; open the journal anew

Bad messages are no errors: they become dead letters. A broker that can't be reached is no error either: the connection
tries again and says so in its status.
"""

from __future__ import annotations


class IngestError(Exception):
    """Anything that this package raises on purpose."""


class SettingsError(IngestError, ValueError):
    """A setting is wrong. The message names the field, what came and what was expected."""


class DeadLettersFullError(IngestError):
    """No room on the disk for dead letters. Nothing of the batch was kept: keep it again once there is room."""


class JournalError(IngestError):
    """The journal can't do what was asked."""


class JournalFullError(JournalError):
    """No room on the disk. Nothing of the failed commit remains: append and commit again once there is room."""


class JournalLockedError(JournalError):
    """Another process writes this journal."""


class JournalCorruptError(JournalError):
    """Frames that had been committed are damaged."""


class JournalBrokenError(JournalError):
    """Writing failed in a way that leaves unknown what is on the disk. Open the journal again to find out."""


class AccountDamagedError(IngestError):
    """The file of the loss account is not one."""
