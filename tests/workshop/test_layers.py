"""The layers between the rooms hold, and the contracts that say so can fail."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ROOMS = PROJECT["tool"]["importlinter"]["root_packages"]
LINT_IMPORTS = Path(sys.executable).parent / "lint-imports"

LAYERS = "A room imports only rooms below it"
CORE = "The core does no I/O, reads no clock and knows no broker"


def lint(folder: Path) -> tuple[int, str]:
    """Run import-linter on ``folder`` (and nothing else: python -P and the editable install would find this tree)."""
    done = subprocess.run(
        [LINT_IMPORTS, "--no-cache", "--no-logo"],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def copy(tmp_path):
    """A copy of the rooms' Python files in which a test may break the rules."""
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            if "node_modules" not in path.parts:
                target = tmp_path / path.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_contracts_hold(copy):
    code, words = lint(copy)
    assert code == 0, words
    assert f"{LAYERS} KEPT" in words
    assert f"{CORE} KEPT" in words


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("telemetry/quality.py", "import storage", LAYERS),  # upward
        ("ingest/__init__.py", "import devices", LAYERS),  # sideways
        ("processing/quality.py", "from web import app", LAYERS),  # sideways
        ("storage/schema.py", "def later():\n    import pantau", LAYERS),  # upward, hidden in a function
        ("processing/quality.py", "import time", CORE),
        ("processing/windows.py", "from datetime import datetime", CORE),
        ("telemetry/observations.py", "import pandas", CORE),
    ],
)
def test_a_forbidden_import_breaks_its_contract(copy, module, line, contract):
    with (copy / module).open("a") as file:
        file.write(f"\n{line}\n")
    code, words = lint(copy)
    assert code == 1, words
    assert f"{contract} BROKEN" in words


def test_every_room_stands_in_every_list():
    rooms = {p.parent.name for p in ROOT.glob("*/__init__.py")}
    layers = {
        room.strip()
        for contract in PROJECT["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers"
        for layer in contract["layers"]
        for room in re.split(r"[|:]", layer)
    }
    assert rooms == set(ROOMS) == layers
    assert rooms == set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    assert rooms == set(PROJECT["tool"]["mypy"]["packages"])
    assert rooms == set(PROJECT["tool"]["ruff"]["lint"]["isort"]["known-first-party"])
    assert rooms | {"tests"} == set(PROJECT["tool"]["pytest"]["ini_options"]["testpaths"])
