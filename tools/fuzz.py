"""Coverage-guided fuzzing (atheris) of everything that reads bytes from a broker.

    python -m tools.fuzz                                   # 10 million inputs over all targets
    python -m tools.fuzz --inputs 100000 --targets senml_cbor packets

What is tried, and which laws must hold, is in ``tests/fuzzing/targets.py``. Each target runs in a process of its own.
An input that breaks a law is kept under ``--crashes`` with the traceback beside it, and the run goes on: copy the
``.bin`` to ``tests/fuzzing/crashes`` and it is a test. Takes hours of CPU; be kind with ``nice -n 15``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from random import Random
from typing import Any

import psutil

MAX_CRASHES = 20
"""Of one target: further ones are only counted. Those that end in the same line count as one."""
SLOW_S = 1.0
"""An input that takes more CPU than this is kept like one that breaks a law."""
MAX_LENGTH = 4096
TIMEOUT_S = 60
MEMORY_MB = 2048


def work(target: str, inputs: int, folder: Path, crashes: Path) -> None:
    """Run one target in this process; atheris ends the process."""
    import atheris

    with atheris.instrument_imports(include=["ingest", "telemetry.properties"]):
        from tests.fuzzing.targets import TARGETS, changed, seeds
    logging.disable(logging.CRITICAL)
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in seeds(target):
        (corpus / hashlib.sha1(seed).hexdigest()).write_bytes(seed[:MAX_LENGTH])
    run = TARGETS[target]()
    process = psutil.Process()
    told: dict[str, Any] = {"target": target, "inputs": 0, "crashes": {}, "slowest_s": 0.0, "rss_mb": {}}
    begin, marks = time.monotonic(), {inputs // 10, inputs // 2, inputs}

    def keep(data: bytes, why: str, sentence: str) -> None:
        told["crashes"][why] = told["crashes"].get(why, 0) + 1
        if told["crashes"][why] == 1 and len(told["crashes"]) <= MAX_CRASHES:
            crashes.mkdir(parents=True, exist_ok=True)
            name = f"{target}-{hashlib.sha1(data).hexdigest()[:12]}"
            (crashes / f"{name}.bin").write_bytes(data)
            (crashes / f"{name}.txt").write_text(f"{sentence}\n{data!r}\n")

    def tell() -> None:
        told["seconds"] = time.monotonic() - begin
        (folder / "told.json").write_text(json.dumps(told))

    def one(data: bytes) -> None:
        start = time.thread_time()
        try:
            run(data)
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            keep(data, f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}", traceback.format_exc())
        took = time.thread_time() - start
        told["inputs"] += 1
        if took > told["slowest_s"]:
            told["slowest_s"] = took
            (folder / "slowest.bin").write_bytes(data)
            if took > SLOW_S:
                keep(data, "slow", f"took {took:.1f} s of CPU")
        if told["inputs"] in marks:
            told["rss_mb"][str(told["inputs"])] = process.memory_info().rss / 2**20
            tell()
        elif told["inputs"] % 20_000 == 0:
            tell()

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        random = Random(seed)
        new = changed(target, data, random) if random.random() < 0.5 else None
        return atheris.Mutate(data, max_size) if new is None or len(new) > max_size else new

    options = [f"-runs={inputs}", f"-max_len={MAX_LENGTH}", f"-timeout={TIMEOUT_S}", f"-rss_limit_mb={MEMORY_MB}"]
    options += [f"-artifact_prefix={crashes}/{target}-", "-print_final_stats=1", "-reload=0"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], one, custom_mutator=mutate)
    atheris.Fuzz()


def run_target(target: str, inputs: int, folder: Path, crashes: Path) -> dict[str, Any]:
    """Have a process fuzz one target; what it told, with its exit code."""
    folder.mkdir(parents=True, exist_ok=True)
    crashes.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tools.fuzz", "--worker", target, "--inputs", str(inputs)]
    command += ["--work", str(folder), "--crashes", str(crashes)]
    with (folder / "log.txt").open("wb") as log:
        code = subprocess.run(
            command, stdout=log, stderr=subprocess.STDOUT, check=False, env=dict(os.environ)
        ).returncode
    told: dict[str, Any] = {
        "target": target,
        "inputs": 0,
        "crashes": {},
        "slowest_s": 0.0,
        "rss_mb": {},
        "seconds": 0.0,
    }
    if (folder / "told.json").exists():
        told = json.loads((folder / "told.json").read_text())
    if code != 0:  # libFuzzer gave up: a hang, too much memory, or a fault of the interpreter
        last = (folder / "log.txt").read_text(errors="replace")[-2000:]
        told["crashes"][f"the process ended with {code}"] = 1
        (crashes / f"{target}-ended.txt").write_text(last)
    return told


def row(told: dict[str, Any]) -> str:
    """One line of the table."""
    rss = list(told["rss_mb"].values())
    growth = f"{rss[-1] - rss[0]:+.0f}" if len(rss) > 1 else "?"
    rate = told["inputs"] / told["seconds"] if told["seconds"] else 0
    crashes = sum(told["crashes"].values())
    kinds = f" ({len(told['crashes'])} kinds)" if crashes else ""
    return (
        f"| {told['target']} | {told['inputs']:,} | {told['seconds']:,.0f} | {rate:,.0f} | {crashes}{kinds} | "
        f"{told['slowest_s'] * 1000:.0f} | {growth} |"
    )


def main() -> int:
    """Fuzz the targets one after another and print a table; 1 if any law was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=10_000_000, help="over all targets together")
    parser.add_argument("--targets", nargs="+", help="only these")
    parser.add_argument("--crashes", type=Path, default=Path("fuzz-crashes"), help="folder for inputs that break a law")
    parser.add_argument("--work", type=Path, help="folder for corpora and logs, which the next run goes on from")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        work(asked.worker, asked.inputs, asked.work, asked.crashes)
        return 0
    from tests.fuzzing.targets import TARGETS

    targets = asked.targets or list(TARGETS)
    for name in targets:
        if name not in TARGETS:
            parser.error(f"targets are {', '.join(TARGETS)}, got {name}")
    print("| target | inputs | s | inputs/s | broke a law | slowest, ms of CPU | memory, MB |")
    print("|---|---:|---:|---:|---:|---:|---:|", flush=True)
    all_told = []
    with tempfile.TemporaryDirectory() as temporary:
        for name in targets:
            folder = (asked.work or Path(temporary)) / name
            all_told.append(run_target(name, -(-asked.inputs // len(targets)), folder, asked.crashes))
            print(row(all_told[-1]), flush=True)
    inputs, seconds = sum(t["inputs"] for t in all_told), sum(t["seconds"] for t in all_told)
    broken = sum(sum(t["crashes"].values()) for t in all_told)
    print(f"\n{inputs:,} inputs in {seconds:,.0f} s; {broken} broke a law.")
    if broken:
        print(f"See {asked.crashes}: each with its traceback; a .bin copied to tests/fuzzing/crashes is a test.")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
