"""``pantau accounts …`` as an administrator types it, beside a pipeline that runs."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from pantau.cli import main
from tests.pantau.test_cli import write_config
from tests.real_parts.mosquitto import free_port

PASSWORD = "hujan deras di dago"


def pantau(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command as the shell would, in this process: a new one takes a second or two to start."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(stdout), redirect_stderr(stderr):
        patch.chdir(cwd)
        for name, value in environment.items():
            patch.setenv(name, value)
        try:
            code = main([str(a) for a in arguments])
        except SystemExit as left:
            code = int(left.code or 0)
    return subprocess.CompletedProcess([], code, stdout.getvalue(), stderr.getvalue())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_config(tmp_path, 1)
    return tmp_path


def told(done: subprocess.CompletedProcess[str]) -> object:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_an_account_from_beginning_to_end(folder: Path) -> None:
    assert told(pantau("accounts", "list", "--json", cwd=folder)) == {"accounts": []}
    made = told(pantau("accounts", "create", "siti", "--role", "administrator", "--name", "Siti", "--json", cwd=folder))
    assert isinstance(made, dict) and re.fullmatch(r"[a-z2-9]{5}(-[a-z2-9]{5}){3}", made["temporary_password"])
    done = pantau("accounts", "create", "budi", "--role", "viewer", "--password-env", "PW", cwd=folder, PW=PASSWORD)
    assert done.returncode == 0 and "temporary" not in done.stdout and PASSWORD not in done.stdout
    assert pantau("accounts", "role", "budi", "technician", cwd=folder).stdout == "budi is technician now\n"
    assert pantau("accounts", "disable", "budi", cwd=folder).stdout == "budi is disabled\n"
    assert pantau("accounts", "enable", "budi", cwd=folder).stdout == "budi is enabled\n"
    assert "temporary password, shown only now: " in pantau("accounts", "reset-password", "budi", cwd=folder).stdout
    listed = told(pantau("accounts", "list", "--json", cwd=folder))
    assert isinstance(listed, dict)
    assert [(a["login"], a["role"], a["must_change_password"]) for a in listed["accounts"]] == [
        ("budi", "technician", True),
        ("siti", "administrator", True),
    ]
    assert "budi" in pantau("accounts", "list", cwd=folder).stdout
    log = told(pantau("accounts", "log", "--json", cwd=folder))
    assert isinstance(log, dict) and [e["event"] for e in log["log"]] == [
        "password_reset",
        "changed",
        "changed",
        "changed",
        "created",
        "created",
    ]
    assert all(e["by"].startswith("console:") for e in log["log"])


def test_tokens(folder: Path) -> None:
    pantau("accounts", "create", "layar", "--role", "operator", cwd=folder)
    made = told(
        pantau("accounts", "create-token", "layar", "--label", "dinding", "--scope", "read", "--scope", "alarms",
               "--days", 7, "--json", cwd=folder)
    )  # fmt: skip
    assert isinstance(made, dict) and made["token"].startswith("pantau_") and made["scopes"] == ["alarms", "read"]
    tokens = told(pantau("accounts", "tokens", "--json", cwd=folder))
    assert isinstance(tokens, dict) and made["token"] not in json.dumps(tokens)
    assert pantau("accounts", "revoke-token", made["id"], cwd=folder).returncode == 0
    assert "revoked" in pantau("accounts", "tokens", cwd=folder).stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["create", "siti"], 2, "--role"),
        (["create", "siti", "--role", "king"], 2, "invalid choice"),
        (["create", "Siti Rahayu", "--role", "viewer"], 1, "login: 2 to 64 of a-z"),
        (["create", "siti", "--role", "viewer", "--password-env", "NOPE"], 1, "NOPE, which is not set"),
        (["role", "ghost", "viewer"], 1, "there is no account 'ghost'"),
        (["create-token", "ghost", "--label", "x"], 1, "there is no account 'ghost'"),
        (["create-token", "ghost", "--label", "x", "--scope", "all"], 2, "invalid choice"),
        (["revoke-token", "7"], 1, "there is no token 7"),
        (["dance"], 2, "invalid choice"),
    ],
)
def test_what_goes_wrong_is_one_sentence_and_an_exit_code(
    folder: Path, arguments: list[str], code: int, words: str
) -> None:
    done = pantau("accounts", *arguments, cwd=folder)
    assert done.returncode == code and words in done.stderr and "Traceback" not in done.stderr


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """``pantau run`` with no account yet: its address, and what it printed of the first run."""
    port = free_port()
    config = write_config(tmp_path, 1, port)
    process = subprocess.Popen(
        [sys.executable, "-m", "pantau", "run", "--config", str(config)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    assert process.stdout is not None
    line = next(line for line in process.stdout if "no accounts" in line or "pantau runs" in line)
    yield f"http://127.0.0.1:{port}", line
    process.terminate()
    process.wait(20)


def post(url: str, path: str, body: object) -> int:
    request = urllib.request.Request(
        url + path, json.dumps(body).encode(), {"Content-Type": "application/json", "X-Pantau": "1"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def status(url: str, token: str = "") -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{url}/api/status", headers=headers), timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_first_run_and_changes_from_the_command_line_reach_the_running_page(
    running: tuple[str, str], tmp_path: Path
) -> None:
    url, line = running
    code = re.search(r"open (\S+)/setup and enter this one-time code: ([A-Z2-9-]+)$", line.strip())
    assert code is not None and code[1] == url
    order = {"code": code[2], "login": "siti", "password": PASSWORD}
    assert post(url, "/api/setup", order | {"code": "X" * 20}) == 403
    assert post(url, "/api/setup", order) == 200
    assert post(url, "/api/setup", order | {"login": "mallory"}) == 409
    assert status(url) == 401
    made = told(pantau("accounts", "create-token", "siti", "--label", "replay", "--json", cwd=tmp_path))
    assert isinstance(made, dict)
    assert status(url, made["token"]) == 200
    pantau("accounts", "revoke-token", made["id"], cwd=tmp_path)
    assert status(url, made["token"]) == 401


def test_a_replay_needs_a_token_where_the_page_has_accounts(running: tuple[str, str], tmp_path: Path) -> None:
    url, _ = running
    from simulators.replay_page import PipelinePage, ReplayError

    with pytest.raises(
        ReplayError, match=r"set PANTAU_TOKEN to a token that may read \(pantau accounts create-token\)"
    ):
        PipelinePage(url).status()
    pantau("accounts", "create", "siti", "--role", "viewer", cwd=tmp_path)
    made = told(pantau("accounts", "create-token", "siti", "--label", "replay", "--json", cwd=tmp_path))
    assert isinstance(made, dict)
    assert PipelinePage(url, token=made["token"]).status()["city"] == "kota"
