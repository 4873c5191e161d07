"""Errors of storage.

StorageError
├── StoreUnavailable   retry: the store is down, full, unreachable, or does not let us in; the data are fine
├── StoreRefused       permanent: the store is fine and will never take these rows
└── SpoolFull          retry: neither the store nor the spool takes more; slow down the input
"""

from __future__ import annotations


class StorageError(Exception):
    """Anything that storage raises on purpose."""


class StoreUnavailable(StorageError):  # noqa: N818 - says what is the case, like ConnectionRefusedError's siblings
    """The store cannot take rows now. Nothing is wrong with the rows: keep them and try again."""


class StoreRefused(StorageError):  # noqa: N818
    """The store will never take these rows. Every other row of the same call is stored.

    Attributes
    ----------
    lines : list of bytes
        The refused rows, in line protocol.
    reasons : list of str
        What the store said, one for each line.
    """

    def __init__(self, lines: list[bytes], reasons: list[str]) -> None:
        self.lines = lines
        self.reasons = reasons
        first = f": {reasons[0]}; first line: {lines[0][:200].decode(errors='replace')}" if lines else ""
        super().__init__(f"the store refused {len(lines)} row(s){first}")


class SpoolFull(StorageError):  # noqa: N818
    """The store is down and the spool has reached its bound. Nothing is lost: the rows were not taken."""
