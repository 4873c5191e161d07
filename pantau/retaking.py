"""Dead letters in the running pipeline: kept, taken again once their cause is mended, and let go of when too old.

The register mends most causes, so its changes mark letters by themselves; people mark others on the page or with
``pantau dead-letters retry``. Marked letters go through the pipeline like messages, a bounded number at a time, so that
live messages come first.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from pathlib import Path

from ingest.dead_letters import DeadLetters, Filter, Reason
from ingest.errors import DeadLettersFullError
from ingest.mending import BYTES_AT_ONCE, LETTERS_AT_ONCE, fingerprint, mark_mended
from ingest.receiver import Batch, Receiver
from ingest.settings import Limits
from ingest.workers import Workers
from telemetry.directory import Directory

NAME = "dead_letters.sqlite"
LOOK_S = 1.0
"""How often it is looked whether letters are marked, while none are."""
PAUSE_S = 0.1
"""Between two lots of letters, at least;"""
SHARE = 3.0
"""and so many times as long as the lot took: three quarters of the time are for live messages."""
FOLLOW_SHARE = 20.0
"""Likewise between two looks at what a change of the register may have mended."""
TIDY_S = 60.0

log = logging.getLogger(__name__)


def open_letters(folder: Path, limits: Limits) -> DeadLetters:
    """The dead letters of a data folder, with the bounds of the configuration."""
    return DeadLetters(folder / NAME, max_age_s=limits.dead_letter_days * 86_400.0)


class Retaking:
    """Joins dead letters and pipeline. Belongs to the pipeline's thread."""

    def __init__(self, letters: DeadLetters) -> None:
        self._letters = letters
        self._due_at = self._tidy_at = self._follow_at = self._began = 0.0
        self._changed = False
        self._trouble = self._told = ""
        self.kept = 0
        """Letters that were kept when it was last looked. [at most a minute ago]"""

    def keep(self, batch: Batch, directory: Directory) -> None:
        """Keep what was refused; to be called before the journal. Raises like ``DeadLetters.keep``."""
        if batch.retaken is not None:
            self._letters.propose(batch.retaken.refused)
            return
        self._letters.keep(batch.dead_letters)
        # A process that receives for us may not have had the newest directory yet.
        unknown = {x.device for x in batch.dead_letters if x.reason is Reason.UNKNOWN_DEVICE and x.device}
        for device in unknown:
            if fingerprint(directory, device) is not None:
                self._letters.mark(Filter(Reason.UNKNOWN_DEVICE, device))

    def settle(self, batch: Batch) -> None:
        """Once the journal has what letters gave; raises like ``DeadLetters.keep``."""
        if batch.retaken is not None:
            self._letters.settle(batch.retaken.ids)
            now = time.monotonic()
            self._due_at = now + max(PAUSE_S, SHARE * (now - self._began))

    def follow(self) -> None:
        """The register has changed: mark soon what that may have mended."""
        self._changed = True

    def _look_through(self, directory: Directory) -> None:
        marked = mark_mended(self._letters, directory)
        self._changed = False
        now = time.monotonic()
        self._follow_at = now + FOLLOW_SHARE * (now - self._began)
        if marked:
            log.info("%d dead letters are taken again: the register was changed", marked)

    def next(
        self, receiver: Receiver | Workers, directory: Directory, now: int | None, monotonic: float
    ) -> Batch | None:
        """What the next lot of marked letters gives; None if none are due."""
        look = self._changed and monotonic >= self._follow_at
        if now is None or (monotonic < self._due_at and not look):
            return None
        self._began = time.monotonic()
        try:
            if look:
                self._look_through(directory)
            if monotonic >= self._tidy_at:
                self._tidy_at = monotonic + TIDY_S
                self._tidy(now)
            letters = self._letters.marked(LETTERS_AT_ONCE, BYTES_AT_ONCE)
        except (sqlite3.Error, DeadLettersFullError) as error:
            if str(error) != self._trouble:
                log.error("dead letters can't be taken again now: %s", error)
            self._trouble, self._due_at = str(error), monotonic + LOOK_S
            return None
        self._trouble = ""
        self._due_at = monotonic + (PAUSE_S if letters else LOOK_S)
        return receiver.take_again(directory, letters, now) if letters else None

    def _tidy(self, now: int) -> None:
        gone = self._letters.expire(now)
        if gone:
            log.warning("%d dead letters were older than limits.dead_letter_days and are removed", gone)
        fill = self._letters.fill()
        self.kept = fill.kept
        self._told, before = fill.trouble(now), self._told
        if self._told and self._told != before:
            log.warning("%s: see pantau dead-letters", self._told)

    @property
    def trouble(self) -> str:
        """What is to be said of the letters' room and age, as of the last minute; "" for nothing."""
        return self._told
