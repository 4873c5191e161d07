"""Snapshots: the core's state on disk with the journal position it belongs to, for a quick start."""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from processing.core import State
from telemetry.directory import Directory

_MAGIC = b"PantauS1"
_HEAD = struct.Struct("<8sQqIQQ")
"""Magic, position, now, CRC-32 of the rest, length of the directory, length of the state."""


class SnapshotDamagedError(RuntimeError):
    """The snapshot file is not what was written."""


@dataclass(frozen=True)
class Snapshot:
    """The core after all journal frames before ``position``."""

    position: int
    now: int
    """The present of the last step. [ns since 1970 UTC]"""
    directory: bytes
    state: bytes

    def write(self, path: Path) -> None:
        """Replace the file at ``path``, durably and in one move."""
        crc = zlib.crc32(self.state, zlib.crc32(self.directory))
        head = _HEAD.pack(_MAGIC, self.position, self.now, crc, len(self.directory), len(self.state))
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            file.writelines((head, self.directory, self.state))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @classmethod
    def read(cls, path: Path) -> Snapshot | None:
        """The snapshot at ``path``, or None if there is none. Raises SnapshotDamagedError."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        problem = (
            f"{path} is damaged; delete it, and the start takes the journal again from its beginning instead "
            "(what is stored stays; alarms that began before the journal are forgotten)"
        )
        if len(data) < _HEAD.size:
            raise SnapshotDamagedError(problem)
        magic, position, now, crc, directory_length, state_length = _HEAD.unpack_from(data)
        body = data[_HEAD.size :]
        if magic != _MAGIC or len(body) != directory_length + state_length or zlib.crc32(body) != crc:
            raise SnapshotDamagedError(problem)
        return cls(position, now, body[:directory_length], body[directory_length:])

    def core(self) -> tuple[Directory, State | None]:
        """The directory and the state; None for a state that another version of Pantau wrote."""
        directory = Directory.from_bytes(self.directory)
        try:
            return directory, State.from_bytes(self.state)
        except (ValueError, KeyError):
            return directory, None
