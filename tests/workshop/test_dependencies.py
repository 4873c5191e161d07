"""docs/dependencies.md, pyproject.toml, the lock files and the imports tell the same story."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ROOMS = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]

SECTIONS = {
    "Running": PROJECT["project"]["dependencies"],
    "Building": PROJECT["dependency-groups"]["build"],
    "Working on it": PROJECT["dependency-groups"]["dev"],
}

COMES_WITH = {"starlette": "fastapi", "pydantic": "fastapi"}
"""Packages that a direct dependency is made of, so that importing them is using that one."""


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def names(requirements: list[str]) -> list[str]:
    return [normalized(re.split(r"[^A-Za-z0-9._-]", r)[0]) for r in requirements]


def table(heading: str) -> dict[str, str]:
    section = (ROOT / "docs/dependencies.md").read_text().split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return dict(re.findall(r"^\| ([a-z0-9-]+) \| (.+) \|$", section, re.MULTILINE))


def pins(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / lock).read_text(), re.MULTILINE))


@pytest.mark.parametrize("heading", SECTIONS)
def test_each_direct_dependency_has_its_reason(heading):
    assert list(table(heading)) == names(SECTIONS[heading])
    for reason in table(heading).values():
        assert reason.endswith(".")
        assert len(reason) > 15


def test_each_direct_dependency_is_locked():
    running, working = pins("requirements.lock"), pins("requirements-dev.lock")
    assert set(names(SECTIONS["Running"] + SECTIONS["Building"])) <= set(running)
    assert set(names(SECTIONS["Working on it"])) <= set(working)


def test_a_pin_in_pyproject_is_the_locked_version():
    running = pins("requirements.lock")
    for requirement in SECTIONS["Running"] + SECTIONS["Building"] + PROJECT["build-system"]["requires"]:
        name, _, version = requirement.partition("==")
        assert not version or running[normalized(name)] == version


def test_the_development_lock_holds_the_other_one():
    """./check installs requirements-dev.lock only, and counts requirements.lock as installed."""
    running, working = pins("requirements.lock"), pins("requirements-dev.lock")
    assert running.items() <= working.items()


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_a_lock_has_hashes_for_all_and_names_no_host(lock):
    text = (ROOT / lock).read_text()
    entries = re.split(r"^(?=[a-z0-9-]+==)", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(pins(lock)) > 20
    for entry in entries:
        assert "--hash=sha256:" in entry, entry.splitlines()[0]
    assert "://" not in text
    assert not re.search(r"^--?[a-z-]*(index|find-links|host)", text, re.MULTILINE)


def third_party_imports() -> dict[str, str]:
    """Module → a file of the product that imports it."""
    found: dict[str, str] = {}
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            if "node_modules" in path.parts:
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    modules = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    modules = [node.module]
                else:
                    continue
                for module in modules:
                    top = module.partition(".")[0]
                    if top not in sys.stdlib_module_names and top not in ROOMS:
                        found[top] = str(path.relative_to(ROOT))
    return found


def test_what_is_imported_is_a_direct_dependency_and_each_of_those_is_used():
    distributions = packages_distributions()
    used = set()
    for module, path in third_party_imports().items():
        owners = {normalized(COMES_WITH.get(module, d)) for d in distributions.get(module, [module])}
        assert owners & set(names(SECTIONS["Running"])), f"{path} imports {module}, which pyproject.toml does not name"
        used |= owners
    assert set(names(SECTIONS["Running"])) - used == set(), "named in pyproject.toml, but nothing imports it"
