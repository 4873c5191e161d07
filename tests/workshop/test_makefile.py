"""Each target of the Makefile runs something that is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Makefile").read_text()


def test_the_modules_that_it_runs_exist():
    modules = re.findall(r"python -m ([a-z_.]*[a-z])(?=\s|$)", TEXT, re.MULTILINE)
    assert "web.vendor" in modules
    for module in modules:
        assert ROOT.joinpath(*module.split(".")).with_suffix(".py").is_file(), module


def test_the_contributing_guide_names_targets_that_exist():
    targets = set(re.findall(r"^([a-z]+):(?!=)", TEXT, re.MULTILINE))
    named = set(re.findall(r"`make ([a-z]+)", (ROOT / "CONTRIBUTING.md").read_text()))
    assert named
    assert named <= targets
