"""Which dead letters a change in the register may have mended, and how a letter is read again.

A device registered late gets its earlier readings by itself: whenever the directory changes, every device with letters
that a change can mend is looked at, and if it is not as it was when they were last looked at, they are marked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from ingest.dead_letters import DeadLetters, Kept
from ingest.refusals import DeadLetter
from telemetry.directory import Directory

LETTERS_AT_ONCE = 500
BYTES_AT_ONCE = 4 * 1024 * 1024
"""Of letters in one step of the core: live messages do not wait long for them."""


def mark_mended(letters: DeadLetters, directory: Directory) -> int:
    """Mark the letters of devices that have become known or were changed; returns how many.

    What it looked at is kept with the letters: so nothing is missed or done twice when the pipeline is killed.
    """
    changed = {}
    for device, before in letters.mendable_devices():
        looks = fingerprint(directory, device)
        if looks is not None and looks != before:
            changed[device] = looks
    return letters.mark_mended(changed) if changed else 0


def fingerprint(directory: Directory, name: str) -> str | None:
    """All that decides whether messages of a device can be read, in short; None where nobody has the name."""
    device = directory.device_called(name)
    if device is None:
        return None
    entry = directory.devices[directory.device_index[device]]
    installed, feeds = directory.installed, []
    for observed, feed in sorted(directory.feed_of[device].items()):
        rows = range(int(installed.feed_begin[feed]), int(installed.feed_end[feed]))
        spans = [(int(installed.datastream[r]), int(installed.start[r]), int(installed.end[r])) for r in rows]
        feeds.append((observed, spans))
    content = (device, entry.names, entry.gateway, entry.clock, directory.payload_of.get(device), feeds)
    return hashlib.blake2b(msgspec.json.encode(content), digest_size=12).hexdigest()


@dataclass(frozen=True, slots=True)
class Retaken:
    """What letters gave that were read again: for ``DeadLetters.propose`` and ``settle``."""

    letters: Sequence[Kept] = ()
    refused: list[tuple[int, DeadLetter]] = field(default_factory=list)
    """(id of the letter, what was refused of it this time)."""

    @property
    def ids(self) -> list[int]:
        """Of the letters."""
        return [kept.id for kept in self.letters]
