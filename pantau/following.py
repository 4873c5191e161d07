"""Follows the register beside the pipeline's loop: the next Directory is made while the loop goes on with its own.

Mostly a few entries have changed, and a change of the Directory is made of these. Where so much has changed that the
whole is read again, that takes seconds, and the loop still goes on meanwhile.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

from devices.errors import DevicesError
from devices.registry import Registry
from telemetry.directory import Directory
from telemetry.directory_change import DirectoryChange

POLL_S = 0.25
"""How often the version is asked for: one row, by its key."""


class Next(NamedTuple):
    """A newer Directory."""

    directory: Directory
    change: DirectoryChange | None
    """What makes it out of the one in use; None: it was read as a whole."""


class RegistryFollower:
    """Looks for newer versions of the registry in a thread of its own."""

    def __init__(self, registry: Registry, directory: Directory) -> None:
        self._registry = registry
        self._directory = directory
        self._lock = threading.Lock()
        self._next: Next | None = None
        self._trouble = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="registry", daemon=True)
        self._thread.start()

    def take(self) -> Next | None:
        """The next Directory, once; None while the one in use is the newest. Tell ``use`` what became of it."""
        with self._lock:
            found, self._next = self._next, None
            return found

    def use(self, directory: Directory) -> None:
        """This Directory is in use now; look for newer ones."""
        with self._lock:
            self._directory = directory

    @property
    def trouble(self) -> str:
        """Why the registry can't be followed now; "": it can."""
        return self._trouble

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join(10.0)

    def _work(self) -> None:
        taken = -1
        while not self._stop.wait(POLL_S):
            with self._lock:
                base, waiting = self._directory, self._next is not None
            if waiting:
                continue
            try:
                version = self._registry.version()
                if version not in (base.version, taken):
                    found = self._read(base)
                    with self._lock:
                        self._next = found
                    taken = found.directory.version  # until ``use`` is told, or another version comes
                else:
                    taken = -1 if version == base.version else taken
                self._trouble = ""
            except (DevicesError, ValueError) as error:
                self._trouble = str(error)

    def _read(self, base: Directory) -> Next:
        change = self._registry.change_since(base)
        if change is not None:
            return Next(change.applied(base), change)
        return Next(self._registry.directory().with_brokers(base.brokers), None)
