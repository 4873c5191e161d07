"""The spool: batches on disk, in order, while the store does not take them.

One file for each append, written to a temporary name, fsynced and renamed, so that a file with its final name is
whole. Directories are large and change seldom: each is written once, beside the batches that name it. Only one
thread uses a Spool.
"""

from __future__ import annotations

import hashlib
import logging
import os
import zlib
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from storage.errors import SpoolFull
from storage.store import AccountHour, PipelineStatus, StoredBatch
from telemetry.directory import Directory
from telemetry.observations import Observations
from telemetry.results import DTYPES, Transitions, Windows

MAGIC = b"PANTSPL1"
_log = logging.getLogger(__name__)

_TYPES: dict[str, Any] = DTYPES | {
    "observed_at": np.int64,
    "received_at": np.int64,
    "flag": np.uint8,
    "remark": np.uint8,
}
"""The columns that are spooled: the broker of a reading is not stored."""
_LATER = ("total", "deviation")
"""Columns of windows that the files of earlier versions lack."""
_KINDS: dict[str, Any] = {"readings": Observations, "windows": Windows, "transitions": Transitions}


class DamagedFile(Exception):  # noqa: N818
    """A spool file that is not what was written."""


@dataclass(frozen=True, slots=True)
class SpoolFile:
    """One append: its name tells number, rows and last position."""

    path: Path
    number: int
    rows: int
    last_position: int
    size: int


class Spool:
    """Batches on disk, first in, first out. Raises OSError if the disk does not do its part."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = Path(folder)
        self._max_bytes = max_bytes
        self._known: dict[str, Directory] = {}
        self._written: tuple[Directory, str] | None = None
        self.damaged = 0
        """Files that could not be read and were put into ``damaged/``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.folder.glob("*.tmp"):
            leftover.unlink()
        found = []
        for path in self.folder.glob("*.spool"):
            number, rows, position = path.stem.split("_")
            found.append(SpoolFile(path, int(number), int(rows), int(position), path.stat().st_size))
        self._files = deque(sorted(found, key=lambda f: f.number))
        self._next = self._files[-1].number + 1 if self._files else 0
        self.rows = sum(f.rows for f in self._files)
        self.bytes = sum(f.size for f in self._files)

    def __len__(self) -> int:
        return len(self._files)

    def append(self, batches: Sequence[StoredBatch]) -> None:
        """Keep ``batches`` durably. Raises SpoolFull if the bound would be passed, OSError if the disk is full."""
        content = packed(batches, self._keep_directory)
        if self.bytes + len(content) > self._max_bytes:
            raise SpoolFull(
                f"the spool {self.folder} has {self.bytes / 2**20:.0f} MiB of at most {self._max_bytes / 2**20:.0f} "
                "(store.writer.max_spool_bytes): bring the store back, or raise the bound"
            )
        rows, position = sum(b.rows for b in batches), batches[-1].last_position
        path = self.folder / f"{self._next:012d}_{rows}_{position}.spool"
        write_durably(path, content)
        self._files.append(SpoolFile(path, self._next, rows, position, len(content)))
        self._next += 1
        self.rows += rows
        self.bytes += len(content)

    def oldest(self, max_rows: int) -> tuple[list[StoredBatch], int]:
        """The first batches, of one file at least and about ``max_rows`` rows, and how many files they fill."""
        batches: list[StoredBatch] = []
        taken = rows = 0
        while taken < len(self._files):
            file = self._files[taken]
            if taken and rows + file.rows > max_rows:
                break
            try:
                batches += self._unpacked(file.path)
            except DamagedFile as error:
                self._put_aside(taken, str(error))
                continue
            rows += file.rows
            taken += 1
        return batches, taken

    def drop(self, files: int) -> None:
        """Delete the first ``files`` files: the store has them."""
        for _ in range(files):
            file = self._files.popleft()
            file.path.unlink(missing_ok=True)
            self.rows -= file.rows
            self.bytes -= file.size
        if not self._files:
            for path in self.folder.glob("directory-*.json"):
                path.unlink(missing_ok=True)
            self._known.clear()
            self._written = None

    def _put_aside(self, index: int, why: str) -> None:
        file = self._files[index]
        _log.error("%s: put aside into damaged/", why)
        aside = self.folder / "damaged"
        aside.mkdir(exist_ok=True)
        file.path.rename(aside / file.path.name)
        del self._files[index]
        self.rows -= file.rows
        self.bytes -= file.size
        self.damaged += 1

    def _keep_directory(self, directory: Directory) -> str:
        if self._written is None or self._written[0] is not directory:
            content = directory.to_bytes()
            key = hashlib.sha256(content).hexdigest()[:32]
            path = self.folder / f"directory-{key}.json"
            if not path.exists():
                write_durably(path, content)
            self._written = (directory, key)
            self._known[key] = directory
        return self._written[1]

    def _unpacked(self, path: Path) -> list[StoredBatch]:
        return unpacked(path.read_bytes(), self._directory, str(path))

    def _directory(self, key: str) -> Directory:
        if key not in self._known:
            path = self.folder / f"directory-{key}.json"
            try:
                self._known[key] = Directory.from_bytes(path.read_bytes())
            except (FileNotFoundError, ValueError) as error:
                raise DamagedFile(f"the directory {path} can't be read: {error}") from error
        return self._known[key]


def packed(batches: Sequence[StoredBatch], name_of: Any) -> bytes:
    """Batches as bytes: magic, CRC-32, MessagePack with the columns as they are in memory (little endian)."""
    content = msgspec.msgpack.encode(
        [
            {
                "first": b.first_position,
                "last": b.last_position,
                "directory": name_of(b.directory),
                "pipeline": [asdict(s) for s in b.pipeline],
                "account": [asdict(a) for a in b.account],
                "known": b.known,
            }
            | {
                kind: {f.name: getattr(getattr(b, kind), f.name).tobytes() for f in fields(of) if f.name in _TYPES}
                for kind, of in _KINDS.items()
            }
            for b in batches
        ]
    )
    return MAGIC + zlib.crc32(content).to_bytes(4, "little") + content


def unpacked(data: bytes, directory_of: Any, where: str) -> list[StoredBatch]:
    """The batches that ``packed`` wrote. Raises DamagedFile."""
    content = data[len(MAGIC) + 4 :]
    if data[: len(MAGIC)] != MAGIC or data[len(MAGIC) : len(MAGIC) + 4] != zlib.crc32(content).to_bytes(4, "little"):
        raise DamagedFile(f"the spool file {where} is damaged (checksum)")
    found = []
    for b in msgspec.msgpack.decode(content):
        for name in _LATER:
            b["windows"].setdefault(name, np.full(len(b["windows"]["mean"]) // 8, np.nan).tobytes())
        columns = {
            kind: of(**{name: np.frombuffer(column, _TYPES[name]) for name, column in b[kind].items()})
            for kind, of in _KINDS.items()
        }
        pipeline = tuple(PipelineStatus(**s) for s in b["pipeline"])
        account = tuple(AccountHour(**a) for a in b.get("account", ()))
        known = b.get("known", 0)
        directory = directory_of(b["directory"])
        found.append(
            StoredBatch(b["first"], b["last"], directory, **columns, pipeline=pipeline, account=account, known=known)
        )
    return found


def write_durably(path: Path, content: bytes) -> None:
    """Write to a temporary name, fsync, rename, fsync the folder."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
