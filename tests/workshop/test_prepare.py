"""What ./demo and ./check say when the machine lacks something: one sentence on what to do, and exit code 1.

The scripts run in a copy, with a PATH that holds a few of the system's programs and stand-ins for the others.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SYSTEM = ("bash", "cat", "dirname", "env", "grep", "id", "mktemp", "rm", "tee", "mkdir", "chmod", "cp", "touch")
NOBODY = 65534

# A python3 that can do nothing but tell its version, without ensurepip until the file `brought` exists beside it.
PYTHON = """#!/bin/bash
case "$*" in
*platform*) echo {version} ;;
*version_info*) exit {old} ;;
*ensurepip*) [ -e "$(dirname "$0")/brought" ] ;;
"-m venv"*) echo "Error: no space left on device" >&2; exit 1 ;;
*) exit 1 ;;
esac
"""


class Machine:
    """A folder with the scripts, and a PATH."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.project = folder / "pantau"
        (self.project / "tools").mkdir(parents=True)
        for name in (
            "demo",
            "check",
            "tools/prepare.sh",
            "pyproject.toml",
            "requirements.lock",
            "requirements-dev.lock",
        ):
            shutil.copy(ROOT / name, self.project / name)
        # prepare.sh appends Debian's folders of servers to PATH; here they must not bring the real programs back.
        prepare = self.project / "tools/prepare.sh"
        line = 'PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"'
        assert line in prepare.read_text()
        prepare.write_text(prepare.read_text().replace(line, "PATH=$PATH"))
        for name in SYSTEM:
            found = shutil.which(name)
            assert found, name
            (self.bin / name).symlink_to(found)
        self.log = folder / "log"

    def program(self, name: str, text: str) -> None:
        path = self.bin / name
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def python(self, version: str = "3.11.2", old: int = 0) -> None:
        self.program("python3", PYTHON.format(version=version, old=old))

    def run(self, command: str = "./demo", user: int | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.bin / "bash", command],
            cwd=self.project,
            env={"PATH": str(self.bin), "HOME": str(self.project), "LOG": str(self.log)} | env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            user=user,
        )

    def fails(self, command: str = "./demo", user: int | None = None, **env: str) -> str:
        """The last line that the failing command writes; it names the command."""
        done = self.run(command, user, **env)
        assert done.returncode == 1, done.stdout + done.stderr
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith(f"{command}: ")
        return last.removeprefix(f"{command}: ")


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_no_python_and_no_apt(machine):
    assert machine.fails() == (
        "Python 3.11 or newer is missing: install python3 python3-venv with this system's package manager, "
        "then run ./demo again (there is no apt-get here)."
    )


def test_a_named_python_that_is_not_there(machine):
    assert machine.fails(PYTHON="/opt/python9") == "PYTHON=/opt/python9 is not a program that can be run here."


def test_python_is_too_old(machine):
    machine.python("3.9.2", old=1)
    assert machine.fails() == (
        f"Python 3.11 or newer is needed, but {machine.bin}/python3 is 3.9.2. "
        "Name another one: PYTHON=/path/to/python3.11 ./demo"
    )


def test_no_venv_module_and_neither_root_nor_sudo(machine):
    machine.python()
    machine.program("apt-get", "#!/bin/bash\nexit 0\n")
    machine.program("id", "#!/bin/bash\necho 1000\n")
    assert machine.fails() == (
        "Python's venv module is missing: installing takes root, and there is no sudo here. "
        "Let an administrator run 'apt-get install python3-venv', then run ./demo again."
    )


def test_sudo_wants_a_password_that_nobody_can_type(machine):
    machine.python()
    machine.program("apt-get", "#!/bin/bash\nexit 0\n")
    machine.program("id", "#!/bin/bash\necho 1000\n")
    machine.program("sudo", "#!/bin/bash\nexit 1\n")
    assert machine.fails() == (
        "Python's venv module is missing: sudo refused. "
        "Let an administrator run 'apt-get install python3-venv', then run ./demo again."
    )


@pytest.mark.parametrize("user", [0, 1000])
def test_the_venv_module_is_installed_as_root_or_through_sudo(machine, user):
    machine.python()
    machine.program("id", f"#!/bin/bash\necho {user}\n")
    machine.program("sudo", '#!/bin/bash\n[ "$1" != -n ] || exit 0\necho "sudo $*" >>"$LOG"; export BY_SUDO=1; "$@"\n')
    machine.program(
        "apt-get",
        '#!/bin/bash\necho "apt-get $*" >>"$LOG"\n[ "$1" = update ] || touch "$(dirname "$0")/brought"\n',
    )
    # It goes on to make .venv, for which this stand-in has no space.
    assert machine.fails() == f"Python could not make {machine.project}/.venv (its words are above)."
    lines = machine.log.read_text().splitlines()
    assert "apt-get install -q -y --no-install-recommends python3-venv" in lines
    assert any(line.startswith("sudo ") for line in lines) == (user != 0)


def test_apt_cannot_reach_its_archive(machine):
    machine.python()
    machine.program("id", "#!/bin/bash\necho 0\n")
    machine.program("apt-get", "#!/bin/bash\necho 'E: Unable to fetch some archives' >&2\nexit 100\n")
    done = machine.run()
    assert done.returncode == 1
    assert "E: Unable to fetch some archives" in done.stderr
    assert done.stderr.strip().endswith(
        "apt-get could not install python3-venv (its words are above). Check the network, then run ./demo again."
    )


def test_check_installs_only_the_programs_that_are_missing_and_stops_only_their_services(machine):
    machine.python()
    (machine.bin / "brought").touch()
    for name in ("git", "openssl", "zbarimg", "influxd", "chromium", "mosquitto_pub"):
        machine.program(name, "#!/bin/bash\n")
    machine.program("id", "#!/bin/bash\necho 0\n")
    machine.program("ldconfig", "#!/bin/bash\necho '    libc.so.6 (libc6,x86-64) => /lib/libc.so.6'\n")
    for name in ("apt-get", "service", "systemctl"):
        machine.program(name, f'#!/bin/bash\necho "{name} $*" >>"$LOG"\n')
    assert machine.fails("./check") == f"Python could not make {machine.project}/.venv (its words are above)."
    lines = machine.log.read_text().splitlines()
    assert lines[:2] == [
        "apt-get update -q",
        "apt-get install -q -y --no-install-recommends mosquitto victoria-metrics postgresql libatomic1",
    ]
    services = ("mosquitto", "influxdb", "victoria-metrics", "postgresql")
    stopped = [word for line in lines[2:] for word in line.split() if word in services]
    assert stopped == ["mosquitto", "victoria-metrics", "postgresql"]


def test_the_folder_cannot_be_written_to():
    """Root may write anywhere, so root runs this one as nobody (in a folder that everybody may enter)."""
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine(Path(folder))
        machine.python()
        (machine.bin / "brought").touch()
        Path(folder).chmod(0o755)
        machine.project.chmod(0o555)
        try:
            assert machine.fails(user=NOBODY if os.geteuid() == 0 else None) == (
                f"{machine.project} cannot be written to, and .venv must be made in it. "
                "Clone Pantau into a folder of your own."
            )
        finally:
            machine.project.chmod(0o755)


@pytest.fixture
def small(machine):
    """A machine with a real Python, and a lock file without packages: .venv is made in seconds, without a network."""
    machine.program("python3", f'#!/bin/bash\nexec {shutil.which("python3", path="/usr/bin")} "$@"\n')
    done = subprocess.run([machine.bin / "python3", "-c", "import ensurepip"], capture_output=True, check=False)
    if done.returncode:
        pytest.fail("Debian's python3-venv is missing; ./check installs it")
    return machine


def test_an_unreachable_package_index_is_said_in_one_sentence(small):
    (small.project / "requirements.lock").write_text(f"numpy==2.4.6 --hash=sha256:{64 * '0'}\n")
    closed = "http://127.0.0.1:9/simple"  # nothing listens on the discard port
    assert small.fails(PIP_INDEX_URL=closed, PIP_RETRIES="0", PIP_CONFIG_FILE=os.devnull) == (
        "The package index could not be reached (pip's words are above). Check the network, then run ./demo again."
    )


def test_a_second_run_installs_nothing(small):
    """With what `installed-*` says, the script goes straight on to pantau; a change of the lock installs again."""
    small.run(PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_RETRIES="0", PIP_CONFIG_FILE=os.devnull)
    venv = small.project / ".venv"
    pantau = venv / "bin/pantau"
    pantau.write_text('#!/bin/bash\necho "pantau $*"\n')
    pantau.chmod(0o755)
    fingerprint = (
        f'cd "{small.project}"; . tools/prepare.sh; fingerprint requirements.lock >.venv/installed-requirements.lock'
    )
    subprocess.run([small.bin / "bash", "-c", fingerprint], env={"PATH": str(small.bin)}, check=True)
    begin = time.perf_counter()
    done = small.run("./demo")
    assert done.stdout == "pantau demo\n"
    assert time.perf_counter() - begin < 2
    with (small.project / "requirements.lock").open("a") as lock:
        lock.write("# changed\n")
    done = small.run("./demo", PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_RETRIES="0", PIP_CONFIG_FILE=os.devnull)
    assert done.returncode == 1
    assert "packages from requirements.lock" in done.stdout
