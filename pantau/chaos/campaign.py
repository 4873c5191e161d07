"""A campaign: undisturbed runs, then passes with faults, each compared with them; and the report."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pantau.chaos.comparing import Difference, Stored, against_what_was_sent, as_json, differences
from pantau.chaos.faults import STORE_KINDS, Fault, Kind, Pass, make_plan, one_of_each
from pantau.chaos.fleet import FleetScript, write_script
from pantau.chaos.run import Outcome, PassRun, prepare_registry
from pantau.startup import StartupError

log = logging.getLogger(__name__)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """What can be chosen."""

    folder: Path
    seed: int = 1
    faults: int = 500
    short: bool = False
    """Every kind once, on a smaller fleet; ``faults`` and ``per_pass`` do not matter then."""
    only: tuple[int, ...] = ()
    """Numbers of the faults that are made; all others of the plan are left out."""
    kinds: frozenset[Kind] = frozenset(Kind)
    per_pass: int = 25
    minutes: int = 130
    devices: int = 60
    pace_s: float = 0.1
    """Between two minutes of the fleet. [s of wall time]"""
    keep: bool = False
    """Keep the files of passes without differences too."""

    def for_short(self) -> Options:
        """The same, on the fleet of the short form."""
        return replace(self, short=True, minutes=100, devices=30, pace_s=0.08)


@dataclass
class PassReport:
    """One pass of the report."""

    number: int
    store: str
    seconds: float
    messages: int
    faults: list[Fault]
    differences: list[Difference]
    trouble: list[str]
    folder: str = ""

    @property
    def sound(self) -> bool:
        """Nothing was found."""
        return not self.differences and not self.trouble


@dataclass
class Report:
    """What a campaign found."""

    seed: int
    plan: str
    """The options that make the plan, as they stand on the command line."""
    readings: int
    rows: dict[str, dict[str, int]]
    """Store → table → rows of the undisturbed run."""
    passes: list[PassReport] = field(default_factory=list)
    undisturbed: list[Difference] = field(default_factory=list)
    """What the undisturbed runs do not hold of what was sent."""
    left_out: list[str] = field(default_factory=list)
    """Kinds of faults that can't be made on this machine, and why."""
    disk: str = ""
    ended_while_full: int = 0
    seconds: float = 0.0

    @property
    def injected(self) -> Counter[str]:
        """Faults that were made, by kind."""
        return Counter(f.kind.value for p in self.passes for f in p.faults)

    @property
    def different(self) -> Counter[str]:
        """Differing rows by table, over all passes."""
        found: Counter[str] = Counter()
        for difference in [*self.undisturbed, *(d for p in self.passes for d in p.differences)]:
            found[difference.table] += difference.rows
        return found

    @property
    def sound(self) -> bool:
        """Nothing was found in any pass."""
        return not self.undisturbed and all(p.sound for p in self.passes)

    def as_json(self) -> dict[str, Any]:
        """For a program."""
        return {
            "seed": self.seed,
            "plan": self.plan,
            "faults": sum(self.injected.values()),
            "faults_by_kind": dict(sorted(self.injected.items())),
            "left_out": self.left_out,
            "readings": self.readings,
            "rows_of_the_undisturbed_runs": self.rows,
            "differences": dict(self.different),
            "undisturbed_against_sent": [as_json(d) for d in self.undisturbed],
            "disk": self.disk,
            "ended_while_full": self.ended_while_full,
            "seconds": round(self.seconds, 1),
            "sound": self.sound,
            "passes": [
                {
                    "number": p.number,
                    "store": p.store,
                    "seconds": round(p.seconds, 1),
                    "messages": p.messages,
                    "faults": [
                        {"number": f.number, "kind": f.kind.value, "minute": f.tick, "luck": f.luck} for f in p.faults
                    ],
                    "differences": [as_json(d) for d in p.differences],
                    "trouble": p.trouble,
                    "folder": p.folder,
                }
                for p in self.passes
            ],
        }


def plan_of(options: Options) -> tuple[list[Pass], list[str]]:
    """The passes, and what is left out on this machine."""
    left_out = []
    kinds = options.kinds
    if kinds & STORE_KINDS and kinds - STORE_KINDS and shutil.which("influxd") is None:
        left_out.append("faults of the store: InfluxDB is not installed (apt-get install influxdb)")
        kinds = kinds - STORE_KINDS
    if options.short:
        passes = one_of_each(options.seed, options.minutes)
    else:
        passes = make_plan(options.seed, options.faults, options.minutes, kinds=kinds, per_pass=options.per_pass)
    chosen = []
    for one in passes:
        faults = tuple(f for f in one.faults if f.kind in kinds and (not options.only or f.number in options.only))
        if faults:
            chosen.append(Pass(one.number, one.store, faults))
    return chosen, left_out


def run_campaign(options: Options, say: Say) -> Report:
    """Run the whole campaign. Raises StartupError where a server is missing or does not start."""
    began = time.monotonic()
    passes, left_out = plan_of(options)
    script = write_script(options.seed, options.minutes, options.devices)
    options.folder.mkdir(parents=True, exist_ok=True)
    registry = options.folder / "registry.sqlite"
    prepare_registry(script, registry)
    how = f"--seed {options.seed} " + ("--short" if options.short else f"--faults {options.faults}")
    if options.per_pass != Options.per_pass and not options.short:
        how += f" --per-pass {options.per_pass}"
    if options.kinds != frozenset(Kind):
        how += "".join(f" --kind {k.name.lower().replace('_', '-')}" for k in sorted(options.kinds))
    report = Report(options.seed, how, len(script.readings), {}, left_out=left_out)
    expected: dict[str, Stored] = {}
    for store in sorted({p.store for p in passes}):
        outcome, _ = _one(options, script, registry, f"undisturbed-{store}", store, ())
        expected[store] = outcome.stored
        report.rows[store] = outcome.stored.counts()
        report.undisturbed += against_what_was_sent(script, outcome.stored)
        rows = ", ".join(f"{n} {table}" for table, n in outcome.stored.counts().items())
        say(f"undisturbed, {store}: {rows}; {outcome.seconds:.1f} s")
        if outcome.trouble:
            raise StartupError(f"even undisturbed the pipeline has trouble: {outcome.trouble[0]}")
    for one in passes:
        outcome, folder = _one(options, script, registry, f"pass-{one.number}", one.store, one.faults)
        found = PassReport(
            one.number,
            one.store,
            outcome.seconds,
            outcome.messages,
            outcome.injected,
            differences(expected[one.store], outcome.stored),
            outcome.trouble,
        )
        report.passes.append(found)
        report.ended_while_full += outcome.ended_while_full
        if found.sound and not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            found.folder = str(folder)
            (folder / "found.json").write_text(json.dumps(report.as_json()["passes"][-1], indent=1, default=str))
        verdict = "no difference" if found.sound else _verdict(found)
        say(f"pass {one.number}, {one.store}: {len(found.faults)} faults, {found.seconds:.1f} s: {verdict}")
        if not found.sound:
            for difference in found.differences:
                for example in difference.examples[:3]:
                    say(f"    {difference.table}: {example}")
            for trouble in found.trouble:
                say(f"    {trouble[-600:]}")
            numbers = ", ".join(f"{f.number} {f.kind}" for f in found.faults)
            say(f"    repeat one alone, or several: pantau chaos {how} --only N [--only N ...], of {numbers}")
    report.seconds = time.monotonic() - began
    return report


def _verdict(found: PassReport) -> str:
    told = [f"{d.rows} {d.table} differ" for d in found.differences]
    told += [f"{len(found.trouble)} troubles"] if found.trouble else []
    return ", ".join(told)


def _one(
    options: Options, script: FleetScript, registry: Path, name: str, store: str, faults: Sequence[Fault]
) -> tuple[Outcome, Path]:
    folder = options.folder / name
    shutil.rmtree(folder, ignore_errors=True)
    return PassRun(script, registry, folder, store, faults, options.pace_s).run(), folder
