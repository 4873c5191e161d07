"""The journal: append-only files that hold every accepted micro-batch before its broker is told so.

Frames are collected in memory and written by ``commit`` with one write and one fsync. Each frame carries a checksum
and the position at which its commit began. A commit starts only after the one before is on the disk, so a broken frame
followed by frames of the same commit (or by none) is a torn tail, which was never promised to anyone and is cut; a
broken frame followed by a frame of a later commit is damage, and an error.

What the frames mean is left to the callers; the helpers for the core's steps are in ``ingest.steps``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import logging
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from ingest.errors import JournalBrokenError, JournalCorruptError, JournalError, JournalFullError, JournalLockedError

log = logging.getLogger(__name__)

MAGIC = b"\xf5PJ1"
"""Begins every frame. 0xf5 never occurs in UTF-8 text."""
_HEADER = struct.Struct("<4sIIB3xQ")
"""Magic, payload length, CRC-32, kind, position of the commit's first frame."""
HEADER_BYTES = _HEADER.size
MAX_PAYLOAD = 2**31
_SUFFIX = ".journal"
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Journal:
    """The one writer of a journal folder, and a reader of it.

    Parameters
    ----------
    folder : path
        Created where missing. Holds ``<position>.journal`` segments and ``lock``.
    segment_bytes : int
        A new segment is begun by the first commit after this size.
    first_position : int
        Where positions begin if the folder holds no journal yet.

    Raises
    ------
    JournalLockedError
        Another process (or object) writes this journal.
    JournalCorruptError
        The last segment is damaged before its last commit.

    Notes
    -----
    A position is the byte offset of a frame over all segments, counted from the first frame ever written: it only
    grows, also after old segments were dropped.
    """

    def __init__(self, folder: str | Path, *, segment_bytes: int = 64 * 1024 * 1024, first_position: int = 0) -> None:
        self.folder = Path(folder)
        self._segment_bytes = segment_bytes
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(self.folder)
        self._file = -1
        self._broken = False
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        try:
            segments = _segments(self.folder)
            if segments:
                self._start, path = segments[-1]
                self._end = self._start + _recover(path, self._start)
                self._file = os.open(path, os.O_WRONLY)
                os.lseek(self._file, self._end - self._start, os.SEEK_SET)
            else:
                self._start = self._end = first_position
                self._begin_segment(first_position)
        except BaseException:
            self.close()
            raise

    @property
    def end(self) -> int:
        """Position after the last committed frame: where the next commit will begin."""
        return self._end

    @property
    def start(self) -> int:
        """Position of the oldest frame that is still kept."""
        return _segments(self.folder)[0][0]

    def append(self, kind: int, payload: bytes) -> int:
        """Take a frame for the next commit; returns its position.

        Parameters
        ----------
        kind : int
            0..255, the caller's own.
        payload : bytes
            Anything up to 2 GiB.
        """
        self._check_usable()
        if not 0 <= kind <= 255:
            raise ValueError(f"kind must be 0..255, got {kind}")
        if len(payload) > MAX_PAYLOAD:
            raise ValueError(f"payload must be at most {MAX_PAYLOAD} bytes, got {len(payload)}")
        position = self._end + self._pending_bytes
        self._pending.append(_frame(kind, payload, self._end))
        self._pending_bytes += len(self._pending[-1])
        return position

    def commit(self) -> int:
        """Make all appended frames durable; returns the position after them.

        Raises
        ------
        JournalFullError
            No room: the frames are dropped again, and positions are as before they were appended.
        JournalBrokenError
            The disk failed. This object is of no more use.
        """
        self._check_usable()
        if not self._pending:
            return self._end
        data = b"".join(self._pending)
        self._pending, self._pending_bytes = [], 0
        try:
            if self._end - self._start >= self._segment_bytes:
                self._begin_segment(self._end)
            _write_all(self._file, data)
            os.fdatasync(self._file)
        except OSError as error:
            self._cut_back(error)
        self._end += len(data)
        return self._end

    def discard(self) -> None:
        """Forget the frames that were appended since the last commit."""
        self._pending, self._pending_bytes = [], 0

    def read(self, position: int = 0) -> Iterator[tuple[int, int, bytes]]:
        """The committed frames from ``position`` on: (position, kind, payload). See ``read_frames``."""
        return read_frames(self.folder, position, end=self._end)

    def drop_before(self, position: int) -> int:
        """Delete the segments that lie wholly before ``position``; returns the bytes freed. The last one stays."""
        segments = _segments(self.folder)
        freed = 0
        for (_, path), (following, _) in itertools.pairwise(segments):
            if following > position:
                break
            freed += path.stat().st_size
            path.unlink()
        if freed:
            _sync_folder(self.folder)
        return freed

    def position_at(self, time_s: float) -> int:
        """A position before which everything was written before ``time_s`` [s since 1970, the computer's clock]."""
        segments = _segments(self.folder)
        position = segments[0][0]
        for (_, path), (following, _) in itertools.pairwise(segments):
            if path.stat().st_mtime >= time_s:
                break
            position = following
        return position

    def close(self) -> None:
        """Give up the lock. Frames that were not committed are lost."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_usable(self) -> None:
        if self._broken:
            raise JournalBrokenError(f"journal {self.folder}: a write failed before; open the journal again")
        if self._file < 0:
            raise JournalError(f"journal {self.folder} is closed")

    def _begin_segment(self, position: int) -> None:
        path = self.folder / f"{position:020d}{_SUFFIX}"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
        try:
            _sync_folder(self.folder)
        except OSError:
            os.close(file)
            path.unlink(missing_ok=True)
            raise
        if self._file >= 0:
            os.close(self._file)
        self._file, self._start = file, position

    def _cut_back(self, error: OSError) -> None:
        """After a failed write: leave the file as it was before, or give up this object."""
        if error.errno in _NO_ROOM:
            try:
                os.ftruncate(self._file, self._end - self._start)
                os.lseek(self._file, self._end - self._start, os.SEEK_SET)
                os.fdatasync(self._file)
            except OSError:
                self._broken = True
                raise JournalBrokenError(
                    f"journal {self.folder}: {error.strerror}, and cutting back failed too"
                ) from error
            raise JournalFullError(f"journal {self.folder}: {error.strerror}; nothing was written") from error
        # After a failed fsync the kernel may have thrown the pages away: what is on the disk is unknown.
        self._broken = True
        raise JournalBrokenError(f"journal {self.folder}: {error.strerror}") from error


def read_frames(folder: str | Path, position: int = 0, *, end: int | None = None) -> Iterator[tuple[int, int, bytes]]:
    """The frames of a journal from ``position`` on, also while another process writes it.

    Parameters
    ----------
    folder : path
    position : int
        Position of a frame, or any smaller number: frames that begin before it are left out. If older segments were
        dropped, reading begins at the oldest frame kept.
    end : int or None
        Stop at this position; a broken frame before it is damage. None: stop at the torn tail.

    Yields
    ------
    (position, kind, payload)

    Raises
    ------
    JournalCorruptError
        Names file and offset.
    """
    segments = _segments(Path(folder))
    for number, (start, path) in enumerate(segments):
        last = number == len(segments) - 1
        following = end if last else segments[number + 1][0]
        if not last and following is not None and following <= position:
            continue
        try:
            stream = path.open("rb")
        except FileNotFoundError:  # dropped in between
            continue
        with stream:
            at = start
            while following is None or at < following:
                head = stream.read(HEADER_BYTES)
                frame = _parse_header(head)
                payload = stream.read(frame[0]) if frame else b""
                if frame is None or len(payload) != frame[0] or zlib.crc32(payload, zlib.crc32(head[12:])) != frame[1]:
                    if following is None and not _later_commit(path, at - start):
                        return
                    raise JournalCorruptError(_damage(path, at - start))
                if at >= position:
                    yield at, frame[2], payload
                at += HEADER_BYTES + frame[0]


def _frame(kind: int, payload: bytes, commit: int) -> bytes:
    tail = _HEADER.pack(MAGIC, len(payload), 0, kind, commit)[12:]
    crc = zlib.crc32(payload, zlib.crc32(tail))
    return _HEADER.pack(MAGIC, len(payload), crc, kind, commit) + payload


def _parse_header(head: bytes) -> tuple[int, int, int, int] | None:
    """(payload length, checksum, kind, commit), or None if this begins no frame."""
    if len(head) < HEADER_BYTES:
        return None
    magic, length, crc, kind, commit = _HEADER.unpack(head)
    if magic != MAGIC or length > MAX_PAYLOAD:
        return None
    return length, crc, kind, commit


def _damage(path: Path, offset: int) -> str:
    return f"journal file {path} is damaged at byte {offset}: the frame there was committed but can't be read"


def _recover(path: Path, start: int) -> int:
    """Cut the torn tail off a last segment; returns its length then."""
    size = path.stat().st_size
    at = 0
    with path.open("rb") as stream:
        while at < size:
            head = stream.read(HEADER_BYTES)
            frame = _parse_header(head)
            payload = stream.read(frame[0]) if frame and frame[0] <= size - at else b""
            if frame is None or len(payload) != frame[0] or zlib.crc32(payload, zlib.crc32(head[12:])) != frame[1]:
                break
            at += HEADER_BYTES + frame[0]
    if at < size:
        if _later_commit(path, at):
            raise JournalCorruptError(_damage(path, at))
        log.warning(
            "journal file %s: cut %d bytes of an unfinished commit at byte %d (position %d)",
            path,
            size - at,
            at,
            start + at,
        )
        with path.open("r+b") as stream:
            stream.truncate(at)
            os.fsync(stream.fileno())
    return at


def _later_commit(path: Path, offset: int) -> bool:
    """Whether a sound frame behind ``offset`` belongs to a commit that began behind it."""
    start = int(path.stem)
    data = path.read_bytes()
    at = data.find(MAGIC, offset + 1)
    while at >= 0:
        head = data[at : at + HEADER_BYTES]
        frame = _parse_header(head)
        if frame is not None and start + offset < frame[3] <= start + at:
            payload = data[at + HEADER_BYTES : at + HEADER_BYTES + frame[0]]
            if len(payload) == frame[0] and zlib.crc32(payload, zlib.crc32(head[12:])) == frame[1]:
                return True
        at = data.find(MAGIC, at + 1)
    return False


def _segments(folder: Path) -> list[tuple[int, Path]]:
    """(position of the first frame, file) of each segment, oldest first."""
    return sorted((int(p.stem), p) for p in folder.glob(f"*{_SUFFIX}") if p.stem.isdigit())


def _lock(folder: Path) -> int:
    path = folder / "lock"
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o640)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(file, 100).decode("ascii", "replace").strip()
        os.close(file)
        raise JournalLockedError(
            f"journal {folder} is in use by process {holder or 'unknown'}: stop it first"
        ) from error
    os.ftruncate(file, 0)
    # The number is only for the sentence above; the lock is the flock.
    with contextlib.suppress(OSError):
        os.write(file, f"{os.getpid()}\n".encode())
    return file


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
