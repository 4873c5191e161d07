"""The thread between the core and a store: gathers batches, writes them, and spools them while the store is down.

Order is kept: as long as anything is in the spool, newer rows go behind it. A row leaves memory only when the store
or the fsynced spool has it, and the spool only when the store has it. Rows that the store refuses for good are kept
in ``refused/`` beside the spool, with the reason.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import random
import threading
import time
import traceback
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from storage.errors import SpoolFull, StorageError, StoreRefused, StoreUnavailable
from storage.settings import WriterSettings
from storage.spool import Spool, packed, write_durably
from storage.store import Store, StoredBatch

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WriterStatus:
    """How storing is going. Counts are since the writer's start."""

    stored_position: int
    """Journal position up to which all is durable, in the store or the spool; -1: nothing yet."""
    backlog_rows: int
    """Rows that the store does not have yet, in memory or in the spool."""
    spool_bytes: int
    rows_written: int
    """Rows that the store has taken."""
    readings_written: int
    """Readings among the rows of the writes that the store took, whole or in part."""
    rows_refused: int
    """Rows that the store will never take; they are in ``refused/``."""
    damaged_files: int
    """Files of the spool that could not be read; they are in ``damaged/``."""
    store_available: bool
    """False from a failed write to the next one that succeeds."""
    last_error: str
    """Of the last failure, whether or not it has been overcome; "" if there was none."""
    warning: str
    """One sentence for the operator while something needs doing, else ""."""


class StoreWriter:
    """Starts its thread at once; a spool left by an earlier process is written first.

    Parameters
    ----------
    store : Store
        Written to by this thread alone; not closed by ``close``.
    spool_folder : Path
        Made if missing. One writer for each folder.
    settings : WriterSettings
    position : int
        What ``stored_position`` says before the first ``put``.

    Raises
    ------
    OSError
        The spool folder can't be used.
    """

    def __init__(
        self, store: Store, spool_folder: Path, settings: WriterSettings | None = None, *, position: int = -1
    ) -> None:
        self._store = store
        self._settings = settings or WriterSettings()
        self._folder = Path(spool_folder)
        self._spool = Spool(self._folder, self._settings.max_spool_bytes)
        self._changed = threading.Condition()
        self._queue: deque[tuple[float, StoredBatch]] = deque()
        self._queue_rows = 0
        self._held: list[StoredBatch] = []
        self._position = position
        self._written = -1 if len(self._spool) else position
        self._closing: str | None = None
        self._close_before = 0.0
        self._failures = 0
        self._retry_at = 0.0
        self._rows_written = 0
        self._readings_written = 0
        self._rows_refused = 0
        self._last_error = ""
        self._hold_reason = ""
        self._gave_up = False
        """A try failed while closing."""
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def put(self, batch: StoredBatch) -> None:
        """Hand over a batch; batches must come in order of position.

        Raises
        ------
        SpoolFull
            Memory is full because neither the store nor the spool takes more, for ``put_timeout_s``. The batch was
            not taken: put it again later, and take in no more until then.
        StorageError
            The writer is closed.
        """
        deadline = time.monotonic() + self._settings.put_timeout_s
        with self._changed:
            while self._closing is None and self._queue and self._full(batch):
                left = deadline - time.monotonic()
                if left <= 0:
                    why = self._hold_reason or self._last_error or "the store is slower than the input"
                    raise SpoolFull(f"{self._queue_rows} rows wait in memory for the store: {why}")
                self._changed.wait(left)
            if self._closing is not None:
                raise StorageError("the store writer is closed")
            self._queue.append((time.monotonic(), batch))
            self._queue_rows += batch.rows
            self._changed.notify_all()

    def stored_position(self) -> int:
        """Journal position up to which all rows are durable, in the store or in the spool."""
        with self._changed:
            return self._position

    def written_position(self) -> int:
        """Journal position up to which the store itself has all rows; -1 where that is not known yet."""
        with self._changed:
            return self._written

    def status(self) -> WriterStatus:
        """How storing is going."""
        with self._changed:
            spool_bytes, spool_rows = self._spool.bytes, self._spool.rows
            return WriterStatus(
                stored_position=self._position,
                backlog_rows=self._queue_rows + sum(b.rows for b in self._held) + spool_rows,
                spool_bytes=spool_bytes,
                rows_written=self._rows_written,
                readings_written=self._readings_written,
                rows_refused=self._rows_refused,
                damaged_files=self._spool.damaged,
                store_available=self._failures == 0,
                last_error=self._last_error,
                warning=self._warning(spool_bytes, spool_rows),
            )

    def close(self, drain: bool = True, timeout_s: float = 30.0) -> None:
        """End the thread. Nothing is lost: what the store does not take by then is in the spool.

        Parameters
        ----------
        drain : bool
            Write everything to the store, the spool too, for at most ``timeout_s``. Otherwise rows in memory go to
            the spool at once.
        """
        with self._changed:
            if self._closing is None:
                self._closing = "drain" if drain else "spool"
                self._close_before = time.monotonic() + timeout_s
            self._changed.notify_all()
        self._thread.join()

    def _full(self, batch: StoredBatch) -> bool:
        return self._queue_rows + batch.rows > self._settings.max_queue_rows

    def _warning(self, spool_bytes: int, spool_rows: int) -> str:
        if self._hold_reason:
            return self._hold_reason
        if spool_bytes > self._settings.max_spool_bytes * self._settings.warn_spool_fraction:
            return (
                f"{spool_rows} rows ({spool_bytes / 2**20:.0f} MiB of at most "
                f"{self._settings.max_spool_bytes / 2**20:.0f}) wait in the spool: bring the store back"
            )
        return self._last_error if self._failures else ""

    # The thread

    def _run(self) -> None:
        while True:
            batches = self._held or self._take()
            if batches:
                self._secure(batches)
            elif self._may_drain():
                self._drain()
            elif self._closing is not None:
                return
            if self._held and self._closing is not None and time.monotonic() > self._close_before:
                _log.error(
                    "closing with %d rows neither in the store nor in the spool; the journal has them (%s)",
                    sum(b.rows for b in self._held),
                    self._hold_reason,
                )
                return

    def _may_drain(self) -> bool:
        if not len(self._spool):
            return False
        if self._closing is None:
            return time.monotonic() >= self._retry_at
        # While closing one try is enough if the store is down; but that one is made.
        return self._closing == "drain" and not self._gave_up and time.monotonic() < self._close_before

    def _take(self) -> list[StoredBatch]:
        """The next batches, once they are due; nothing if there is other work, or the writer closes."""
        settings = self._settings
        with self._changed:
            while True:
                now = time.monotonic()
                due = bool(self._queue) and (
                    self._queue_rows >= settings.max_rows
                    or now - self._queue[0][0] >= settings.flush_interval_s
                    or self._closing is not None
                )
                if due or self._closing is not None:
                    break
                wait = self._queue[0][0] + settings.flush_interval_s - now if self._queue else None
                if len(self._spool):
                    until_retry = self._retry_at - now
                    if until_retry <= 0:
                        return []
                    wait = until_retry if wait is None else min(wait, until_retry)
                self._changed.wait(wait)
            taken: list[StoredBatch] = []
            rows = 0
            while self._queue and (not taken or rows + self._queue[0][1].rows <= settings.max_rows):
                batch = self._queue.popleft()[1]
                taken.append(batch)
                rows += batch.rows
            self._held = taken
            self._queue_rows -= rows
            self._changed.notify_all()
            return taken

    def _secure(self, batches: list[StoredBatch]) -> None:
        """Bring ``batches`` into the store or else into the spool; if neither takes them they stay held."""
        stored = False
        if not len(self._spool) and self._closing != "spool" and time.monotonic() >= self._retry_at:
            stored = self._write(batches)
        if not stored:
            try:
                self._spool.append(batches)
            except (OSError, SpoolFull) as error:
                self._hold(error)
                return
        with self._changed:
            self._held = []
            self._hold_reason = ""
            self._position = max(self._position, batches[-1].last_position)
            if stored:
                self._written = max(self._written, batches[-1].last_position)
            self._changed.notify_all()

    def _hold(self, error: Exception) -> None:
        reason = f"nothing can be stored or spooled: {error}"
        if not self._hold_reason:
            _log.error("%s", reason)
        with self._changed:
            self._hold_reason = reason
        if self._may_drain():
            self._drain()
        with self._changed:
            if self._closing is None:
                self._changed.wait(self._settings.retry_first_s)
        if self._closing is not None:
            time.sleep(min(0.1, self._settings.retry_first_s))

    def _drain(self) -> None:
        """Write the oldest part of the spool."""
        try:
            batches, files = self._spool.oldest(self._settings.max_rows)
            if files and not self._write(batches):
                return
            with self._changed:
                self._spool.drop(files)
                if batches:
                    self._written = max(self._written, batches[-1].last_position)
        except OSError as error:
            self._failed(error)

    def _write(self, batches: Sequence[StoredBatch]) -> bool:
        """True if the store has all rows, or all but those that are kept in ``refused/``."""
        rows = sum(b.rows for b in batches)
        if not rows:
            return True
        try:
            try:
                self._store.write(*batches)
            except StoreRefused as refused:
                self._keep_refused(refused)
                rows -= len(refused.lines)
        except (StoreUnavailable, OSError, MemoryError) as error:
            self._failed(error)
            return False
        except Exception as error:
            # A fault of ours or of a library. One such batch must not stop all that come after it.
            if len(batches) > 1:
                return all(self._write([b]) for b in batches)
            return self._put_aside(batches[0], error)
        with self._changed:
            if self._failures:
                _log.warning("the store takes rows again")
            self._rows_written += rows
            self._readings_written += sum(len(b.readings) - b.known for b in batches)
            self._failures = 0
            self._retry_at = 0.0
        return True

    def _failed(self, error: BaseException) -> None:
        settings = self._settings
        pause = min(settings.retry_max_s, settings.retry_first_s * 2 ** min(self._failures, 30))
        with self._changed:
            if not self._failures:
                _log.warning("storing failed, rows go to the spool: %s", error)
            self._failures += 1
            self._gave_up = self._closing is not None
            self._last_error = str(error) or repr(error)
            self._retry_at = time.monotonic() + pause * random.uniform(0.5, 1.0)

    def _keep_refused(self, refused: StoreRefused) -> None:
        """Append the refused lines, each after a comment with the reason, to a file a day."""
        _log.error("%s", refused)
        folder = self._folder / "refused"
        folder.mkdir(exist_ok=True)
        path = folder / f"{dt.datetime.now(dt.UTC):%Y-%m-%d}.lp"
        with path.open("ab") as file:
            for line, reason in zip(refused.lines, refused.reasons, strict=True):
                file.write(b"# " + " ".join(reason.split()).encode() + b"\n" + line + b"\n")
            file.flush()
            os.fsync(file.fileno())
        with self._changed:
            self._rows_refused += len(refused.lines)
            self._last_error = str(refused)

    def _put_aside(self, batch: StoredBatch, error: Exception) -> bool:
        """Keep a batch on which the store's code fails, whole, with the traceback."""
        _log.exception("storing the batch of position %d failed: put into refused/", batch.last_position)
        try:
            folder = self._folder / "refused"
            folder.mkdir(exist_ok=True)
            stem = f"batch-{batch.first_position}-{batch.last_position}"
            again = (folder / f"{stem}.txt").exists()
            write_durably(folder / f"{stem}.directory.json", batch.directory.to_bytes())
            write_durably(folder / f"{stem}.spool", packed([batch], lambda _: f"{stem}.directory.json"))
            write_durably(folder / f"{stem}.txt", "".join(traceback.format_exception(error)).encode())
        except OSError as full:
            self._failed(full)
            return False
        with self._changed:
            self._rows_refused += 0 if again else batch.rows
            self._last_error = repr(error)
        return True
