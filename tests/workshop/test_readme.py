"""The README's quick start, run as it is written: its commands, in a fresh clone of this commit.

The commands are the lines of the ```sh blocks under the README's heading "Quick start". Git is told to fetch the
address after `git clone` from this repository.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]

INSTALL_TIMEOUT_S = 600
START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 30


def quick_start(readme: str) -> list[str]:
    """The commands under the heading "Quick start", in order, without comments and empty lines."""
    found: list[str] = []
    heading, level, fence = False, 0, ""
    for line in readme.splitlines():
        if fence:
            if line.startswith("```"):
                fence = ""
            elif heading and fence == "```sh":
                found.append(re.sub(r"(^|\s)#.*", "", line).strip())
        elif line.startswith("```"):
            fence = line.strip()
        elif title := re.match(r"(#+)\s+(.*)", line):
            if title[2].lower().startswith("quick start"):
                heading, level = True, len(title[1])
            elif len(title[1]) <= level:
                heading = False
    commands = [line for line in found if line]
    assert commands, 'README.md has no ```sh block with commands under a heading "Quick start"'
    return commands


def commands() -> list[str]:
    return quick_start((ROOT / "README.md").read_text())


def before(command: str) -> list[str]:
    """What a newcomer types before ``command`` to have the clone."""
    lines = commands()
    assert command in lines, f"README.md's quick start does not have the command {command}"
    get = [line for line in lines[: lines.index(command)] if line.startswith(("git clone", "cd "))]
    assert [line.split()[0] for line in get] == ["git", "cd"], "the quick start should begin with git clone and cd"
    return get


def newcomer() -> dict[str, str]:
    """The environment of someone who has none of ours activated, and to whom this repository is the README's."""
    ours = str(ROOT / ".venv")
    path = os.pathsep.join(p for p in os.environ["PATH"].split(os.pathsep) if not p.startswith(ours))
    address = shlex.split(before("./demo")[0])[2]
    git = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{ROOT}.insteadOf",
        "GIT_CONFIG_VALUE_0": address,
    }
    hidden = ("VIRTUAL_ENV", "PYTHONPATH", "PYTEST_CURRENT_TEST", "PYTEST_ADDOPTS")
    return {k: v for k, v in os.environ.items() if k not in hidden} | git | {"PATH": path}


def test_the_commands_of_a_quick_start_are_found():
    readme = (
        "# X\n\n## Quick start\n\nWords.\n\n```sh\ngit clone https://example.org/x.git  # the code\ncd x\n./demo\n```\n"
        "\n### Tests\n\n```sh\n# all of them\n./check\n```\n\n```toml\nno = 1\n```\n\n## Next\n\n```sh\nrm -r x\n```\n"
    )
    assert quick_start(readme) == ["git clone https://example.org/x.git", "cd x", "./demo", "./check"]


def test_the_readme_names_both_commands_on_its_first_screen():
    lines = [re.sub(r"\s+#.*", "", line) for line in (ROOT / "README.md").read_text().splitlines()[:45]]
    assert "./demo" in lines
    assert "./check" in lines


def test_what_the_readme_calls_the_tests_is_what_ci_runs():
    assert "./check" in commands()
    script = [
        line
        for line in (ROOT / ".ci/run").read_text().splitlines()
        if line.strip() and not line.startswith(("#", "set "))
    ]
    assert [line.split()[0] for line in script] == ["cd", "export", "./check"]
    assert script[-1] == "./check </dev/null"


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """The clone that the README's first lines make; the path has a space in it, as some people's have."""
    if not (ROOT / ".git").exists():
        pytest.fail(f"{ROOT} is no git clone, so its README's git clone cannot be run")
    home = tmp_path_factory.mktemp("new comer")
    script = "\n".join(["set -e", *before("./demo"), "pwd -P"])
    done = subprocess.run(["bash", "-c", script], cwd=home, env=newcomer(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.splitlines()[-1])


@contextmanager
def running(command: str, folder: Path, output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """``command`` as a terminal runs it: in a process group of its own, which Ctrl-C reaches as a whole."""
    with output.open("wb") as file:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            cwd=folder,
            env=newcomer(),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def address_of_page(process: subprocess.Popen[bytes], output: Path) -> str:
    """The first http address that the running command prints, once it answers."""
    installed_by = time.monotonic() + INSTALL_TIMEOUT_S
    while time.monotonic() < installed_by:
        words = output.read_text(errors="replace")
        assert process.poll() is None, f"./demo ended with exit code {process.returncode}:\n{words}"
        found = re.search(r"https?://[^\s\x1b\"'<>]+", words)
        if found:
            return found[0].rstrip(".,;:)")
        time.sleep(0.2)
    pytest.fail(f"./demo printed no address within {INSTALL_TIMEOUT_S} s:\n{output.read_text(errors='replace')}")


def page(address: str) -> str:
    """The text of the page at ``address``; waits until it is served."""
    begin = time.monotonic()
    while True:
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return answer.read().decode()
        except OSError:
            if time.monotonic() - begin > START_TIMEOUT_S:
                raise
            time.sleep(0.2)


def processes_in(folder: Path) -> list[str]:
    """Command lines of the processes that run something in ``folder``."""
    lines = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if str(folder) in line and process.pid != os.getpid():
            lines.append(line)
    return lines


@pytest.mark.readme
@pytest.mark.timeout(INSTALL_TIMEOUT_S + START_TIMEOUT_S + STOP_TIMEOUT_S + 60)
def test_the_demo_serves_its_page_until_ctrl_c(clone, tmp_path):
    output = tmp_path / "output"
    with running("./demo", clone, output) as process:
        text = page(address_of_page(process, output))
        assert "<html" in text.lower()
        os.killpg(process.pid, signal.SIGINT)
        code = process.wait(STOP_TIMEOUT_S)
    words = output.read_text(errors="replace")
    assert code in (0, 130), words
    assert "Traceback" not in words
    assert processes_in(clone) == []


@pytest.mark.readme
@pytest.mark.timeout(INSTALL_TIMEOUT_S)
def test_check_runs_in_the_clone_and_hands_its_arguments_to_pytest(clone):
    """`./check` alone would run this test again, endlessly; so it is given one folder of tests to run."""
    done = subprocess.run(
        ["bash", "-c", "./check tests/telemetry"],
        cwd=clone,
        env=newcomer(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=INSTALL_TIMEOUT_S,
    )
    words = done.stdout + done.stderr
    assert done.returncode == 0, words
    assert re.search(r"=== \d+ passed", words), words
    assert "all is well" in done.stdout


@pytest.mark.readme
@pytest.mark.timeout(INSTALL_TIMEOUT_S)
def test_check_fails_when_no_test_was_run(clone):
    done = subprocess.run(
        ["bash", "-c", "./check tests/telemetry -k no_test_has_this_name"],
        cwd=clone,
        env=newcomer(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=INSTALL_TIMEOUT_S,
    )
    assert done.returncode == 1
    assert re.search(r"FAILED after \d+ s: .*\btests$", done.stderr.strip()), done.stderr
