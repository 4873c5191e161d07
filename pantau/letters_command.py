"""``pantau dead-letters …``: what was refused, counted and shown, and having it taken again."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pantau.startup import StartupError

if TYPE_CHECKING:
    from ingest.dead_letters import DeadLetters, Filter

OK, NONE = 0, 1
SHOWN = 200

Command = Callable[[argparse.Namespace], int]
Add = Callable[[str, Command, str, str], argparse.ArgumentParser]
Option = Callable[[argparse.ArgumentParser], None]


def add_letters_command(add: Add, config: Option, as_json: Option) -> None:
    """Add the command and its actions to the parser of the command line."""
    sub = add(
        "dead-letters",
        run_letters_command,
        "messages that were refused: list, count, show them, have them taken again",
        "pantau dead-letters count\n  pantau dead-letters list --reason unknown_device\n"
        "  pantau dead-letters retry --device awlr-7",
    )
    config(sub)
    _filters(sub)
    _limit(sub)
    as_json(sub)
    actions = sub.add_subparsers(title="actions", metavar="ACTION", dest="action")

    def action(name: str, text: str) -> argparse.ArgumentParser:
        parser = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        # What stood before the action counts too.
        parser.add_argument(
            "-c", "--config", type=Path, metavar="FILE", default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )
        parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON for a program")
        return parser

    listing = action("list", "list the newest (this is done without any action, too)")
    _filters(listing, argparse.SUPPRESS)
    _limit(listing, argparse.SUPPRESS)
    _filters(action("count", "count them by reason and device, and say what to do"), argparse.SUPPRESS)
    action("show", "show one of them in full").add_argument("number", type=int, help="its number, as list shows it")
    retry = action("retry", "have them taken again, by the running pipeline or the next that runs")
    retry.add_argument("number", type=int, nargs="?", help="only the one with this number")
    retry.add_argument("--all", action="store_true", help="all that can be taken again")
    _filters(retry, argparse.SUPPRESS)


def run_letters_command(chosen: argparse.Namespace) -> int:
    """Run the action that was chosen."""
    with _letters(chosen.config) as letters:
        only = _only(chosen)
        if chosen.action == "count":
            return _count(letters, only, chosen.json)
        if chosen.action == "show":
            return _show(letters, chosen.number, chosen.json)
        if chosen.action == "retry":
            return _retry(letters, only, chosen)
        return _list(letters, only, chosen)


def _filters(parser: argparse.ArgumentParser, default: Any = None) -> None:
    parser.add_argument("--reason", default=default, help="only with this reason, such as unknown_device")
    parser.add_argument("--device", default=default, help="only of this device, registered or not")
    parser.add_argument("--broker", default=default, help="only that came through this broker")
    parser.add_argument(
        "--since", metavar="TIME", default=default, help="only received at or after this time (RFC 3339)"
    )
    parser.add_argument("--until", metavar="TIME", default=default, help="only received before this time (RFC 3339)")


def _limit(parser: argparse.ArgumentParser, default: Any = 20) -> None:
    parser.add_argument("--limit", type=int, default=default, help="newest so many (default 20)")


@contextlib.contextmanager
def _letters(config: Path | None) -> Iterator[DeadLetters]:
    from pantau.retaking import NAME, open_letters
    from pantau.settings import load

    settings = load(config)
    path = settings.data.folder / NAME
    if not path.exists():
        raise StartupError(f"there are no dead letters at {path}: has the pipeline run with this configuration?")
    with open_letters(settings.data.folder, settings.limits) as letters:
        yield letters


def _only(chosen: argparse.Namespace) -> Filter:
    from dashboards.operator.api import parse_time
    from ingest.dead_letters import Filter, Reason

    times = {}
    for name in ("since", "until"):
        given = getattr(chosen, name, None)
        try:
            times[name] = None if given is None else parse_time(given)
        except ValueError as error:
            raise StartupError(f"--{name}: {error}") from None
    reason = getattr(chosen, "reason", None)
    if reason is not None and reason not in set(Reason):
        raise StartupError(f"--reason must be one of {', '.join(sorted(Reason))}, got {reason!r}")
    return Filter(reason, getattr(chosen, "device", None), getattr(chosen, "broker", None), **times)


def _list(letters: DeadLetters, only: Filter, chosen: argparse.Namespace) -> int:
    from rich.console import Console

    from dashboards.letters.api import letter_dict

    counts = letters.count_by_reason()
    rows = [letter_dict(k) for k in letters.list(chosen.limit, only)]
    for row in rows:
        row["payload"] = row["text"] if row["text"] is not None else row["hex"]
    if chosen.json:
        retaken = letters.retaken_by_reason()
        print(json.dumps({"count_by_reason": counts, "taken_again": retaken, "dead_letters": rows}, indent=2))
        return OK
    console = Console()
    console.print(", ".join(f"{n} {reason}" for reason, n in sorted(counts.items())) or "no dead letters")
    for row in rows:
        payload = row["payload"]
        shown = payload if len(payload) <= SHOWN else f"{payload[:SHOWN]}… ({row['bytes']} bytes)"
        head = f"\n{row['id']}  {row['reason']} {row['received_at']} {row['topic']}"
        console.print(head, style="bold", markup=False, highlight=False)
        console.print(f"  {row['detail']}", markup=False, highlight=False)
        console.print(f"  {shown}", markup=False, highlight=False)
        if row["marked"]:
            console.print("  waits to be taken again", markup=False, highlight=False)
    return OK


def _count(letters: DeadLetters, only: Filter, as_json: bool) -> int:
    from rich.console import Console

    from dashboards.letters.api import counts_dict
    from dashboards.letters.words import reason_text

    counts = counts_dict(letters, only)
    if as_json:
        print(json.dumps(counts, indent=2))
        return OK
    console, room = Console(), counts["room"]
    by_reason: dict[str, list[dict[str, Any]]] = {}
    for row in counts["kept"]:
        by_reason.setdefault(row["reason"], []).append(row)
    for reason, rows in sorted(by_reason.items(), key=lambda item: -sum(r["letters"] for r in item[1])):
        title, to_do = reason_text(reason)
        total = sum(r["letters"] for r in rows)
        console.print(f"\n{total}  {reason}: {title}", style="bold", markup=False, highlight=False)
        console.print(f"   → {to_do}", markup=False, highlight=False)
        for row in rows[:10]:
            console.print(
                f"   {row['letters']:>8}  {row['device'] or '(no device named)'}", markup=False, highlight=False
            )
        if len(rows) > 10:
            console.print(f"   and of {len(rows) - 10} more devices", highlight=False)
    again = sum(counts["taken_again"].values())
    console.print(
        f"\n{room['letters']} kept ({100 * room['fraction']:.0f} % of the room), {room['marked']} wait to be taken "
        f"again, {again} were taken again, {room['removed']} removed to make room, {room['expired']} too old",
        highlight=False,
    )
    return OK


def _show(letters: DeadLetters, number: int, as_json: bool) -> int:
    from dashboards.letters.api import letter_dict

    kept = letters.get(number)
    if kept is None:
        raise StartupError(f"there is no dead letter {number}: it may have been taken again or removed")
    row = letter_dict(kept)
    if as_json:
        print(json.dumps(row, indent=2))
        return OK
    payload = kept.letter.payload
    for name in ("id", "received_at", "reason", "detail", "device", "broker", "topic", "format", "bytes"):
        print(f"{name:12} {row[name]}")
    print(f"{'what to do':12} {row['to_do']['en']}")
    print(f"{'':12} {row['to_do']['id']}")
    if not row["again"]:
        print(f"{'':12} it can't be taken again" + (": only its beginning is kept" if row["truncated"] else ""))
    print(payload.decode() if row["text"] is not None else payload.hex(" "))
    return OK


def _retry(letters: DeadLetters, only: Filter, chosen: argparse.Namespace) -> int:
    from ingest.dead_letters import Filter

    if chosen.number is None and only == Filter() and not chosen.all:
        raise StartupError("say which: a number, --reason, --device, --broker, --since, --until, or --all")
    marked = letters.mark(only, letter=chosen.number)
    if chosen.json:
        print(json.dumps({"marked": marked}))
    elif marked:
        print(f"{marked} marked: the running pipeline takes them within seconds, or the next that runs")
    else:
        print("none: there is none like this that can be taken again, or they are marked already")
    return OK if marked else NONE
