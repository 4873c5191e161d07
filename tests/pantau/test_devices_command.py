"""``pantau devices …``: what it does, what it prints, and its exit codes."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from devices.credentials import Credentials
from devices.credentials.errors import BrokerUnreachableError
from devices.entities import DeviceState
from devices.registry import Registry
from pantau.cli import main
from tests.devices.broker_user import NOT_AUTHORIZED, BrokerUser
from tests.devices.phone import city, reading
from tests.devices.secured_broker import ADMINISTRATOR, PIPELINE, secured
from tests.pantau.running import wait_for

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pantau.toml").write_text('[city]\nname = "kota"\n[page]\nport = 1\n', encoding="utf-8")
    return tmp_path


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["devices", *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@pytest.fixture
def registry(folder: Path) -> Iterator[Registry]:
    (folder / "data").mkdir()
    with contextlib.closing(Registry(f"sqlite:///{folder / 'data' / 'registry.sqlite'}")) as found:
        yield found


def answer(result: tuple[int, str, str]) -> Any:
    assert result[0] == 0, result
    return json.loads(result[1])


def dago(run: Run, serial: str = "AWLR-1") -> None:
    code, _, error = run(
        "register",
        *("--serial", serial, "--model", "generic-river-level"),
        *("--new-site", "Jembatan Dago", "--position=-6.88,107.61"),
    )
    assert code == 0, error


def test_a_device_is_registered_shown_swapped_and_retired(run: Run, registry: Registry) -> None:
    dago(run)
    shown = answer(run("show", "AWLR-1", "--json"))
    assert (shown["site"]["id"], shown["site"]["latitude"]) == ("jembatan-dago", -6.88)
    assert shown["has_login"] is None
    assert run("register", "--serial", "AWLR-1", "--model", "generic-river-level", "--site", "jembatan-dago")[1] == (
        "AWLR-1 is registered already at Jembatan Dago\n"
    )
    code, out, _ = run("replace", "AWLR-1", "--serial", "AWLR-2", "--keep-old")
    assert (code, out) == (0, "AWLR-2 is registered at Jembatan Dago\n")
    old, new = registry.device("AWLR-1"), registry.device("AWLR-2")
    assert old is not None and new is not None
    assert old.device.state == DeviceState.MAINTENANCE
    assert {d.id for d in new.datastreams} == {d["id"] for d in shown["datastreams"]}
    assert run("state", "AWLR-2", "maintenance")[0] == 0
    assert run("calibrate", "AWLR-2", "water_level_m", "--offset=0.12", "--from", "2030-01-01T00:00:00Z")[0] == 0
    assert registry.calibrations("AWLR-2")[-1].offset == 0.12
    assert run("retire", "AWLR-2")[1] == "AWLR-2 is retired\n"
    assert [d["id"] for d in answer(run("list", "--json"))["devices"]] == ["AWLR-1", "AWLR-2"]
    assert answer(run("list", "AWLR-2", "--json"))["devices"][0]["state"] == "retired"
    audit = answer(run("audit", "--json", "--subject", "AWLR-2"))["audit"]
    assert {a["by"].partition(":")[0] for a in audit} == {"console"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["show", "nope"], "there is no device 'nope' (pantau devices list)"),
        (["register", "--serial", "x", "--model", "nope", "--site", "s"], "there is no model 'nope' in the catalogue"),
        (["register", "--serial", "x", "--model", "generic-rain-gauge", "--site", "s"], "there is no site 's'"),
        (["register", "--new-site", "S", "--serial", "x"], "--new-site needs --position"),
        (
            ["register", "--new-site", "S", "--position", "here", "--serial", "x"],
            "a position must be latitude,longitude",
        ),
        (["register", "--serial", "x", "--at", "today"], "a time must be RFC 3339 with zone"),
        (["replace", "nope", "--serial", "x"], "there is no device 'nope'"),
        (["credentials", "list"], "Pantau makes no logins of devices"),
        (["close-job", "7", "--note", "x"], "there is no job"),
        (["import", "nothing.csv"], "No such file"),
    ],
)
def test_what_can_not_be_done_is_said_in_one_sentence(run: Run, arguments: list[str], sentence: str) -> None:
    code, out, error = run(*arguments)
    assert (code, out) == (1, "") and sentence in error and error.count("\n") == 1


def test_a_command_that_is_not_understood(run: Run) -> None:
    with pytest.raises(SystemExit) as stopped:
        run("frobnicate")
    assert stopped.value.code == 2


def test_export_and_import_again(run: Run, folder: Path, registry: Registry) -> None:
    dago(run)
    for name in ("fleet.csv", "fleet.geojson"):
        assert run("export", name)[0] == 0
        told = answer(run("import", name, "--json"))
        assert told["applied"] and told["changes"] == {}
    rows = list(csv.DictReader(io.StringIO((folder / "fleet.csv").read_text(encoding="utf-8"))))
    (folder / "more.csv").write_text(
        "device,model,site,latitude,longitude\nR-1,generic-rain-gauge,dago2,-6.881,107.611\nR-2,x,dago2,-96,107\n",
        encoding="utf-8",
    )
    code, out, _ = run("import", "more.csv")
    assert code == 1 and "row 3" in out and "nothing was imported" in out
    assert registry.device("R-1") is None and rows[0]["device"] == "AWLR-1"
    (folder / "more.csv").write_text(
        "device,model,site,latitude,longitude\nR-1,generic-rain-gauge,dago2,-6.881,107.611\n", encoding="utf-8"
    )
    assert "would change" in run("import", "more.csv", "--dry-run")[1]
    assert registry.device("R-1") is None
    assert run("import", "more.csv")[0] == 0 and registry.device("R-1") is not None


def test_jobs(run: Run, folder: Path) -> None:
    dago(run)
    job = answer(run("open-job", "AWLR-1", "inspection", "--due", "2026-01-01T00:00:00Z", "--json"))["id"]
    code, out, error = run("jobs")
    assert code == 0 and out.startswith(f"{job} ") and "Jembatan Dago" in out
    assert "what is silent or faulty is not known: no pipeline answers" in error
    (folder / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    assert answer(run("close-job", job, "--note", "cleaned", "--photo", "photo.jpg", "--json"))["note"] == "cleaned"
    assert run("jobs")[1] == "no jobs\n"


@pytest.mark.mosquitto
def test_logins_on_a_real_broker(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADMIN", ADMINISTRATOR.password)
    monkeypatch.setenv("PIPELINE", PIPELINE.password)
    with secured("dynsec") as site:
        (folder / "pantau.toml").write_text(
            '[city]\nname = "kota"\n[page]\nport = 1\n'
            f'[[broker]]\nname = "main"\nhost = "127.0.0.1"\nport = {site.port}\n'
            f'username = "{PIPELINE.username}"\npassword_env = "PIPELINE"\n'
            f'[credentials]\nkind = "dynsec"\nadmin_username = "{ADMINISTRATOR.username}"\n'
            'admin_password_env = "ADMIN"\n',
            encoding="utf-8",
        )
        assert run("credentials", "check")[1] == "logins can be made (dynsec)\n"
        told = answer(
            run(
                "register",
                *("--serial", "AWLR-1", "--model", "generic-river-level", "--new-site", "Dago", "--json"),
                "--position=-6.88,107.61",
            )
        )
        first = told["credentials"]

        def let_in(login: dict[str, Any]) -> int | None:
            with BrokerUser(site.port, login["username"], login["password"], login["client_id"]) as user:
                return user.refused

        assert let_in(first) is None
        second = answer(run("credentials", "rotate", "AWLR-1", "--json"))["credentials"]
        assert (let_in(first), let_in(second)) == (NOT_AUTHORIZED, None)
        assert answer(run("credentials", "list", "--json"))["devices"] == ["AWLR-1"]
        assert run("credentials", "revoke", "AWLR-1")[1] == "AWLR-1 is cut off\n"
        assert let_in(second) == NOT_AUTHORIZED
        code, out, _ = run("credentials", "create", "--missing")
        (row,) = csv.DictReader(io.StringIO(out))
        assert code == 0 and let_in(row) is None


@pytest.mark.mosquitto
def test_whether_a_new_device_works_is_asked_from_the_running_pipeline(run: Run, folder: Path) -> None:
    with city(folder / "data") as found:
        port = found.url.rpartition(":")[2]
        (folder / "pantau.toml").write_text(f'[city]\nname = "kota"\n[page]\nport = {port}\n', encoding="utf-8")
        code, out, _ = run("watch", "AWLR-0100", "--timeout", "1")
        assert (code, out.splitlines()[0]) == (1, "no message came")
        wait_for(lambda: "silent:PM-17" in run("jobs", "--near=-6.88,107.61")[1], "the silent device")
        login = found.secured.issuer.create("AWLR-0100")

        with found.device(login) as device:
            sent = reading(values={"water_level_m": 1.24})
            later = threading.Timer(1.0, lambda: device.publish(login.topic, sent))
            later.start()
            code, out, _ = run("watch", "AWLR-0100")
            later.join()
            assert (code, out) == (0, "receiving\nwater_level_m 1.24 m, quality good\n")
            later = threading.Timer(1.0, lambda: device.publish(login.topic, b"1.24"))
            later.start()
            code, out, _ = run("watch", "AWLR-0100")
            later.join()
        assert code == 1 and "Unknown message format. The device sends, but its message can't be read." in out


class Maker:
    """An issuer that breaks off at the device ``bad``."""

    def known(self) -> set[str]:
        return {"r-0"}

    def create_many(self, devices: Any) -> list[Credentials]:
        if "bad" in devices:
            raise BrokerUnreachableError("the broker went away")
        return [Credentials(d, d, f"secret of {d}", "h", 1883, False, f"pantau/v1/kota/{d}", d) for d in devices]


def test_logins_of_an_import_go_into_a_file_for_its_owner_alone(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pantau.logins.issuer_of", lambda _: Maker())
    lines = [f"r-{n},generic-rain-gauge,dago,-6.88,107.61" for n in range(1)]
    lines += [f"r-{n},generic-rain-gauge,s-{n},-6.88,107.61" for n in range(1, 4)]
    (folder / "d.csv").write_text("\n".join(["device,model,site,latitude,longitude", *lines]) + "\n")
    told = answer(run("import", "d.csv", "--logins", "new.csv", "--json"))
    assert told["logins"] == 3  # r-0 has one
    with (folder / "new.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["device"], r["password"]) for r in rows] == [(f"r-{n}", f"secret of r-{n}") for n in (1, 2, 3)]
    assert (folder / "new.csv").stat().st_mode & 0o777 == 0o600
    code, _, error = run("import", "d.csv", "--logins", "new.csv")
    assert code != 0 and "new.csv is there already" in error
    monkeypatch.setattr("pantau.devices_command.LOGINS_AT_ONCE", 1)
    run("register", "--id", "bad", "--model", "generic-rain-gauge", "--site", "s-1", "--no-login")
    code, _, error = run("credentials", "create", "r-1", "bad", "--file", "more.csv")
    assert code != 0 and "the broker went away" in error
    assert (folder / "more.csv").read_text().count("secret of r-1") == 1  # what was made before is not lost
