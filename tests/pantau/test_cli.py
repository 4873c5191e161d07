"""The command line as its users type it: help, exit codes, JSON, and one sentence for what goes wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pantau.running import publisher, register, running, settings_for, wait_for
from tests.real_parts.mosquitto import QUEUES_WITHOUT_LIMITS, Mosquitto, free_port

ROOT = Path(__file__).parents[2]
RECORDINGS = ROOT / "simulators" / "recordings"
COMMANDS = ("demo", "run", "replay", "register", "accounts", "doctor", "dead-letters", "dashboards", "bench")


def pantau(
    *arguments: object, cwd: Path, timeout_s: float = 120, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder of its own."""
    return subprocess.run(
        [sys.executable, "-m", "pantau", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "120", **environment},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def write_config(folder: Path, broker_port: int, page_port: int = 0, city: str = "kota") -> Path:
    """A configuration whose files are in ``folder``."""
    path = folder / "pantau.toml"
    path.write_text(
        f'[city]\nname = "{city}"\n[data]\nfolder = "{folder / "data"}"\n'
        f'[[broker]]\nname = "main"\nhost = "127.0.0.1"\nport = {broker_port}\nconnect_timeout_s = 2.0\n'
        f"[page]\nport = {page_port or free_port()}\n",
        encoding="utf-8",
    )
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_with_an_example(tmp_path: Path, command: str) -> None:
    done = pantau(command, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert f"pantau {command}" in done.stdout
    assert "Example:" in done.stdout


def test_all_commands_stand_in_the_help(tmp_path: Path) -> None:
    done = pantau("--help", cwd=tmp_path)
    assert set(COMMANDS) <= set(re.findall(r"^    ([a-z-]+)", done.stdout, re.M))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "required"),
        (["dance"], 2, "invalid choice"),
        (["run", "--config", "nope.toml"], 1, "there is no configuration file nope.toml"),
        (["register", "nope.toml"], 1, "cannot read the city file nope.toml"),
        (["replay", "nope.csv"], 1, "there is no recording nope.csv"),
        (
            ["replay", RECORDINGS / "calder_2025", "--speed", "fast", "--local"],
            1,
            "--speed must be max or a number above 0",
        ),
        (["dead-letters"], 1, "there are no dead letters"),
        (["dashboards", "check"], 1, 'set store.kind = "influxdb"'),
        (["demo", "--port", "0", "--folder", "/proc/nope"], 1, "cannot keep files in /proc/nope"),
    ],
)
def test_what_goes_wrong_is_one_sentence_and_an_exit_code(
    tmp_path: Path, arguments: list[object], code: int, words: str
) -> None:
    done = pantau(*arguments, cwd=tmp_path)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    if code == 1:
        assert len(done.stderr.strip().splitlines()) == 1


def test_a_taken_port_is_one_sentence(tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        page = pantau("demo", "--port", port, cwd=tmp_path)
        assert page.returncode == 1
        assert f"port {port}: another program already listens there" in page.stderr
        assert "Traceback" not in page.stderr
        mqtt = pantau("demo", "--port", 0, "--mqtt-port", port, cwd=tmp_path)
        assert mqtt.returncode == 1
        assert f"the broker cannot listen at 127.0.0.1 port {port}" in mqtt.stderr


def test_the_documented_city_file_registers_and_again_changes_nothing(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "city-file.md").read_text(encoding="utf-8")
    example = re.search(r"```toml\n(.*?)```", text, re.S)
    assert example
    (tmp_path / "city.toml").write_text(example[1], encoding="utf-8")
    config = write_config(tmp_path, free_port(), city="kolaka-timur")
    first = pantau("register", "city.toml", "--json", "-c", config, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout) == {"version": 1, "changed": True, "sites": 1, "devices": 1, "datastreams": 1}
    again = pantau("register", "city.toml", "-c", config, cwd=tmp_path)
    assert again.stdout.startswith("nothing new: 1 sites, 1 devices, 1 datastreams")
    (tmp_path / "city.toml").write_text(example[1].replace("latitude = -4.13", "latitude = 121.9"), encoding="utf-8")
    swapped = pantau("register", "city.toml", "-c", config, cwd=tmp_path)
    assert swapped.returncode == 1
    assert "latitude" in swapped.stderr
    (tmp_path / "city.toml").write_text(example[1].replace("deadband", "dead_band"), encoding="utf-8")
    unknown = pantau("register", "city.toml", "-c", config, cwd=tmp_path)
    assert "dead_band" in unknown.stderr


@pytest.mark.mosquitto
def test_doctor_says_what_is_well_and_what_is_not(tmp_path: Path) -> None:
    with Mosquitto() as broker:
        config = write_config(tmp_path, broker.port)
        register(settings_for(tmp_path / "data", broker.port))
        well = pantau("doctor", "--json", "-c", config, cwd=tmp_path)
        found = {f["check"]: f for f in json.loads(well.stdout)["findings"]}
        assert well.returncode == 0, well.stdout
        assert list(found) == [
            "configuration",
            "disk",
            "registry",
            "dead letters",
            "broker main",
            "credentials",
            "store",
            "clock",
            "page",
        ]
        assert {f["state"] for name, f in found.items() if name not in ("clock", "disk")} == {"ok"}
    ill = pantau("doctor", "--json", "-c", config, cwd=tmp_path)
    assert ill.returncode == 1
    failure = next(f for f in json.loads(ill.stdout)["findings"] if f["state"] == "failure")
    assert failure["check"] == "broker main"
    assert "connection refused" in failure["detail"]
    assert failure["advice"].startswith("start the broker")
    shown = pantau("doctor", "-c", config, cwd=tmp_path)
    assert "→ start the broker" in shown.stdout
    config.write_text("[city]\nname = 5\n", encoding="utf-8")
    wrong = pantau("doctor", "-c", config, cwd=tmp_path)
    assert wrong.returncode == 1
    assert "city.name" in wrong.stdout


@pytest.mark.mosquitto
def test_doctor_finds_a_wrong_password(tmp_path: Path) -> None:
    with Mosquitto(anonymous=False) as broker:
        done = pantau("doctor", "--json", "-c", write_config(tmp_path, broker.port), cwd=tmp_path)
        failure = next(f for f in json.loads(done.stdout)["findings"] if f["check"] == "broker main")
        assert failure["state"] == "failure"
        assert "Not authorized" in failure["detail"]


@pytest.mark.mosquitto
def test_dead_letters_are_listed(tmp_path: Path) -> None:
    with Mosquitto() as broker:
        settings = settings_for(tmp_path / "data", broker.port)
        register(settings)
        with running(settings) as pipeline, publisher(broker.port) as publish:
            publish("pantau/v1/kota/g0", b"{half")
            publish("pantau/v1/kota/nobody", b'{"property": "water_level_m", "value": 1}')
            wait_for(lambda: sum(pipeline.counts.refused.values()) == 2, "both dead letters")
        config = write_config(tmp_path, broker.port)
        listed = pantau("dead-letters", "--json", "-c", config, cwd=tmp_path)
        assert json.loads(listed.stdout)["count_by_reason"] == {"malformed_json": 1, "unknown_device": 1}
        one = pantau("dead-letters", "--reason", "malformed_json", "-c", config, cwd=tmp_path)
        assert "{half" in one.stdout and "nobody" not in one.stdout
        listed = pantau("dead-letters", "list", "--device", "nobody", "--json", "-c", config, cwd=tmp_path)
        (letter,) = json.loads(listed.stdout)["dead_letters"]
        number = str(letter["id"])
        assert "Register it" in letter["to_do"]["en"]
        counted = pantau("dead-letters", "count", "-c", config, cwd=tmp_path)
        assert "Device is not registered" in counted.stdout and "2 kept" in counted.stdout
        shown = pantau("dead-letters", "show", number, "-c", config, cwd=tmp_path)
        assert '{"property": "water_level_m", "value": 1}' in shown.stdout
        assert pantau("dead-letters", "retry", "-c", config, cwd=tmp_path).returncode == 1  # says no which
        marked = pantau("dead-letters", "retry", number, "--json", "-c", config, cwd=tmp_path)
        assert json.loads(marked.stdout) == {"marked": 1}
        doctor = pantau("doctor", "--json", "-c", config, cwd=tmp_path)
        (found,) = [f for f in json.loads(doctor.stdout)["findings"] if f["check"] == "dead letters"]
        assert (found["state"], found["detail"]) == ("ok", "2 kept, 1 wait to be taken again")


@pytest.mark.timeout(300)
def test_replay_with_a_pipeline_of_its_own(tmp_path: Path) -> None:
    done = pantau(
        "replay",
        RECORDINGS / "calder_2025",
        "--local",
        "--report",
        "report.json",
        "--json",
        cwd=tmp_path,
        timeout_s=280,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report == json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["sent"] == report["stored"] == 10_988
    assert [a for a in report["alarms"] if a["kind"] == "level"] == []


@pytest.mark.mosquitto
def test_replay_is_refused_where_there_is_no_pipeline_or_another_clock(tmp_path: Path) -> None:
    with Mosquitto(QUEUES_WITHOUT_LIMITS) as broker:
        settings = settings_for(tmp_path / "data", broker.port, city="todmorden")
        config = write_config(tmp_path, broker.port, city="todmorden")
        alone = pantau("replay", RECORDINGS / "calder_2025", "-c", config, cwd=tmp_path)
        assert alone.returncode == 1
        name = re.search(r"the map is of the city '(.*?)'", alone.stderr)
        city = name[1] if name else "todmorden"
        settings = settings_for(tmp_path / "data", broker.port, city=city)
        register(settings)
        config = write_config(tmp_path, broker.port, city=city)
        alone = pantau("replay", RECORDINGS / "calder_2025", "-c", config, cwd=tmp_path)
        assert "cannot reach the pipeline's page" in alone.stderr
        with running(settings) as pipeline:
            assert pipeline.page is not None
            config = write_config(tmp_path, broker.port, pipeline.page.port, city)
            wrong_clock = pantau("replay", RECORDINGS / "calder_2025", "-c", config, cwd=tmp_path)
            assert wrong_clock.returncode == 1
            assert 'clock.source = "broker"' in wrong_clock.stderr


def test_dashboards_are_built(tmp_path: Path) -> None:
    done = pantau("dashboards", "build", "--folder", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for line in done.stdout.split():
        assert json.loads(Path(line).read_text(encoding="utf-8"))["panels"]
    assert len(done.stdout.split()) >= 4
    assert pantau("dashboards", "check", "--no-queries", cwd=tmp_path).returncode == 0
