"""``pantau chaos``: faults by the hundred, and whether anything in the store is not as without them."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from pantau.devices_command import Add, Option

if TYPE_CHECKING:
    from pantau.chaos.campaign import Report

EXAMPLES = """pantau chaos --short
  pantau chaos --faults 500 --seed 1 --report chaos.json
  pantau chaos --faults 500 --seed 1 --only 217
  pantau chaos --faults 40 --kind pipeline-killed --kind disk-full"""


def add_chaos_command(add: Add, as_json: Option) -> None:
    """Add the command to the parser of the command line."""
    sub = add("chaos", run_chaos, "faults by the hundred on a city of its own: is anything lost or changed?", EXAMPLES)
    sub.add_argument("--short", action="store_true", help="every kind of fault once, in about a minute")
    sub.add_argument("--faults", type=int, default=500, help="number of faults (default 500)")
    sub.add_argument("--seed", type=int, default=1, help="another seed, another fleet and other faults")
    sub.add_argument("--only", type=int, action="append", default=[], metavar="N", help="only fault N; may be repeated")
    sub.add_argument("--kind", action="append", default=[], help="only this kind, such as disk-full; may be repeated")
    sub.add_argument("--per-pass", type=int, default=25, help="faults in one pass of the fleet (default 25)")
    sub.add_argument("--folder", type=Path, help="where it keeps its files (default: a temporary folder)")
    sub.add_argument("--keep", action="store_true", help="keep the files of passes without differences too")
    sub.add_argument("--report", type=Path, metavar="FILE", help="write the report as JSON there")
    as_json(sub)


def run_chaos(chosen: argparse.Namespace) -> int:
    """Run a campaign; 1 if anything differs."""
    from pantau.chaos.campaign import Options, run_campaign
    from pantau.chaos.faults import Kind
    from pantau.startup import StartupError

    by_name = {k.name.lower().replace("_", "-"): k for k in Kind}
    for name in chosen.kind:
        if name not in by_name:
            raise StartupError(f"--kind must be one of {', '.join(by_name)}, got {name}")
    for what, value in (("--faults", chosen.faults), ("--per-pass", chosen.per_pass)):
        if value < 1:
            raise StartupError(f"{what} must be 1 or more, got {value}")
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="pantau-chaos-"))
    options = Options(
        folder=folder,
        seed=chosen.seed,
        faults=chosen.faults,
        short=chosen.short,
        only=tuple(chosen.only),
        kinds=frozenset(by_name[name] for name in chosen.kind) or frozenset(Kind),
        per_pass=chosen.per_pass,
        keep=chosen.keep,
    )
    if chosen.short:
        options = options.for_short()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that all processes are ended
    try:
        report = run_campaign(options, lambda text: print(text, file=sys.stderr, flush=True))
    finally:
        signal.signal(signal.SIGTERM, before)
    if chosen.report:
        chosen.report.write_text(json.dumps(report.as_json(), indent=1) + "\n", encoding="utf-8")
    if chosen.json:
        print(json.dumps(report.as_json()))
    else:
        print_report(report, Console())
        if not report.sound:
            print(f"Files of the passes with differences: {folder}")
    return 0 if report.sound else 1


def print_report(report: Report, console: Console) -> None:
    """The table: faults by kind, and what was found."""
    by_kind: dict[str, Any] = dict(sorted(report.injected.items()))
    alone: dict[str, int] = dict.fromkeys(by_kind, 0)
    for one in report.passes:
        if not one.sound:
            for kind in {f.kind.value for f in one.faults}:
                alone[kind] += 1
    table = Table(title=f"pantau chaos {report.plan}")
    table.add_column("fault")
    table.add_column("injected", justify="right")
    table.add_column("in passes with a difference", justify="right")
    for kind, count in by_kind.items():
        table.add_row(kind, str(count), str(alone[kind]))
    table.add_section()
    table.add_row("all", str(sum(by_kind.values())), str(sum(not p.sound for p in report.passes)))
    console.print(table)
    tables = Table()
    tables.add_column("stored")
    for store in report.rows:
        tables.add_column(f"rows, {store}", justify="right")
    tables.add_column("differences", justify="right")
    for name in next(iter(report.rows.values()), {}):
        counts = [str(rows.get(name, 0)) for rows in report.rows.values()]
        tables.add_row(name, *counts, str(report.different.get(name, 0)))
    console.print(tables)
    troubles = sum(len(p.trouble) for p in report.passes)
    console.print(
        f"{len([p for p in report.passes if p.faults])} passes of {report.readings} readings, "
        f"{report.seconds / 60:.1f} minutes; {troubles} troubles; the pipeline ended by itself "
        f"{report.ended_while_full} times because its disk was full"
    )
    for text in report.left_out:
        console.print(f"left out: {text}")
    console.print("No difference." if report.sound else "[bold red]There are differences.[/]")
