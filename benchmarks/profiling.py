"""The functions that take the most CPU time of the pipeline: cProfile in its loop and in the brokers' connections.

The clock is the CPU time of each thread, so waiting does not count. A profiler makes functions that are called often
look dearer than they are: the order tells where to look, the figures of a run without it tell what it costs.
"""

from __future__ import annotations

import cProfile
import pstats
import time
from pathlib import Path
from typing import Any

HOME = Path(__file__).resolve().parent.parent


class Profiled:
    """Profiles the thread that calls ``enable``, and the threads of all connections that start after this was made."""

    def __init__(self) -> None:
        from ingest.connection import Connection

        self._loop = cProfile.Profile(time.thread_time)
        self._connections: list[cProfile.Profile] = []
        run = Connection._run

        def profiled(connection: Connection) -> None:
            profile = cProfile.Profile(time.thread_time)
            self._connections.append(profile)
            profile.runcall(run, connection)

        Connection._run = profiled  # type: ignore[method-assign, assignment]

    def enable(self) -> None:
        """Begin with the loop's thread, which is this one."""
        self._loop.enable()

    def disable(self) -> None:
        """End with the loop's thread; those of the connections end with the connections."""
        self._loop.disable()

    def top(self, count: int = 10) -> list[dict[str, Any]]:
        """The functions with the most own time, once the connections are closed."""
        found: list[dict[str, Any]] = []
        for thread, profiles in (("loop", [self._loop]), ("connection", self._connections)):
            if not profiles:
                continue
            stats = pstats.Stats(profiles[0])
            for other in profiles[1:]:
                stats.add(other)
            for (file, line, name), (_, calls, own_s, _, _) in stats.stats.items():  # type: ignore[attr-defined]
                found.append({"thread": thread, "function": _named(file, line, name), "calls": calls, "own_s": own_s})
        total = sum(f["own_s"] for f in found) or 1.0
        for f in found:
            f["share"] = f["own_s"] / total
        return sorted(found, key=lambda f: -f["own_s"])[:count]


def _named(file: str, line: int, name: str) -> str:
    """A function, for people."""
    if file == "~":  # built in
        return name.strip("<>")
    path = Path(file)
    if path.is_relative_to(HOME) and ".venv" not in path.parts:
        return f"{path.relative_to(HOME)}:{line} {name}"
    parts = path.parts
    at = parts.index("site-packages") + 1 if "site-packages" in parts else len(parts) - 1
    return f"{'/'.join(parts[at:])}:{line} {name}"


def as_markdown(rows: list[dict[str, Any]], messages: int) -> str:
    """The top ten as a table."""
    lines = ["| thread | function | calls | own CPU s per million messages | share |", "|---|---|--:|--:|--:|"]
    for r in rows:
        function = r["function"].replace("|", "\\|")
        own = r["own_s"] / messages * 1e6
        lines.append(f"| {r['thread']} | `{function}` | {r['calls']:,} | {own:.2f} | {r['share']:.0%} |")
    return "\n".join(lines)
