"""``python -m pantau.chaos.shifted_clock FILE run …``: ``pantau`` with a clock that is wrong by the seconds in FILE.

What Python code is told as the time of day jumps whenever the file is written; monotonic clocks do not, as with a
computer whose clock is set. (libfaketime can't be used: it breaks Python's way to sleep.)
"""

from __future__ import annotations

import sys
import time
from pathlib import Path


def shift(file: Path) -> None:
    """Let ``time.time`` and ``time.time_ns`` be wrong from now on."""
    right = time.time_ns
    known = (-1.0, 0.0)
    """When the file was last read, and what it said. [s]"""

    def wrong_ns() -> int:
        nonlocal known
        if time.monotonic() - known[0] > 0.1:
            try:
                known = (time.monotonic(), float(file.read_text() or 0.0))
            except (OSError, ValueError):
                known = (time.monotonic(), known[1])
        return right() + round(known[1] * 1e9)

    time.time_ns = wrong_ns
    time.time = lambda: wrong_ns() / 1e9


if __name__ == "__main__":
    shift(Path(sys.argv[1]))
    from pantau.cli import main

    raise SystemExit(main(sys.argv[2:]))
