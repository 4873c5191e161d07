"""Password and ACL files: their format, what is left alone, and a broker that does not follow them."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from devices.credentials import DeviceSide, Login
from devices.credentials.errors import CredentialFilesError, UnusableNameError
from devices.credentials.files import ITERATIONS, MARK, FileIssuer, Reload, _Passwords, password_line
from tests.devices.secured_broker import PIPELINE, WATCHER, Secured, secured

pytestmark = pytest.mark.mosquitto


@pytest.fixture(scope="module")
def site() -> Iterator[Secured]:
    with secured("files") as s:
        yield s


def issuer(
    site: Secured, folder: Path | None = None, reload: Reload | None = None, verify_s: float = 10.0
) -> FileIssuer:
    folder = folder or site.mosquitto.folder
    return FileIssuer(
        site.broker,
        folder / "passwords",
        folder / "acl",
        reload or Reload(pid_file=site.mosquitto.folder / "pid"),
        city="kota",
        device_side=DeviceSide("h"),
        pipeline=PIPELINE,
        verify_s=verify_s,
    )


def test_the_format_is_that_of_mosquitto_passwd(tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-c", "-b", str(file), "awlr-1", "secret word"], check=True, timeout=20)
    theirs = file.read_text()
    ours = password_line("awlr-1", "secret word") + "\n"
    name, kind, rounds, salt, digest = theirs.replace(":", "$", 1).split("$")[0:1] + theirs.split("$")[1:]
    assert (name, kind, rounds) == ("awlr-1", "7", str(ITERATIONS))
    assert [len(part) for part in ours.split("$")] == [len(part) for part in theirs.split("$")]
    assert (len(salt), len(digest.strip())) == (16, 88)  # base64 of 12 and of 64 bytes
    for text in (theirs, ours):
        assert _Passwords(text).matches(Login("awlr-1", "secret word"))
        assert not _Passwords(text).matches(Login("awlr-1", "secret"))
    assert not _Passwords("awlr-1:plain\n").matches(Login("awlr-1", "plain"))


def test_lines_of_others_and_the_files_modes_stay(site: Secured) -> None:
    folder = site.mosquitto.folder
    passwords, acl = folder / "passwords", folder / "acl"
    passwords.chmod(0o604)
    os.chown(acl, 1, 1) if os.geteuid() == 0 else None
    before = acl.read_text().split(MARK)[0]
    watcher = next(line for line in passwords.read_text().splitlines() if line.startswith(WATCHER.username))
    site.issuer.create("awlr-1")
    site.issuer.revoke("awlr-1")
    assert acl.read_text().split(MARK)[0] == before and "# by hand\nuser watcher\ntopic read #" in before
    assert watcher in passwords.read_text().splitlines()
    assert stat.S_IMODE(passwords.stat().st_mode) == 0o604
    if os.geteuid() == 0:
        assert (acl.stat().st_uid, acl.stat().st_gid) == (1, 1)
    assert sorted(p.name for p in folder.iterdir() if ".lock" not in p.name and p.name.startswith(".")) == []


def test_files_without_write_access_are_said_and_nothing_is_lost(site: Secured) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere: the rights of files do not hold for it")
    folder = site.mosquitto.folder
    before = (folder / "passwords").read_text()
    folder.chmod(0o555)
    try:
        with pytest.raises(CredentialFilesError, match=r"passwords|acl"):
            site.issuer.create("awlr-1")
    finally:
        folder.chmod(0o755)
    assert (folder / "passwords").read_text() == before


def test_the_same_devices_give_the_same_acl_file(site: Secured) -> None:
    site.issuer.create("awlr-1", speaks_for=["leaf"])
    text = (site.mosquitto.folder / "acl").read_text()
    site.issuer.rotate("awlr-1")
    site.issuer.create("awlr-1", speaks_for=["leaf"])
    assert (site.mosquitto.folder / "acl").read_text() == text
    assert text.endswith("user awlr-1\ntopic write pantau/v1/kota/awlr-1\ntopic write pantau/v1/kota/leaf\n")


def test_a_user_that_pantau_did_not_make_is_left_alone(site: Secured) -> None:
    with pytest.raises(UnusableNameError, match=r"'watcher' is a user in .* that Pantau did not make"):
        site.issuer.create("watcher")
    with pytest.raises(UnusableNameError, match="no login"):
        site.issuer.rotate("watcher")
    assert site.issuer.revoke("watcher") is False
    with site.watcher() as watcher:
        assert watcher.refused is None


def test_a_colon_cannot_stand_in_a_name(site: Secured) -> None:
    with pytest.raises(UnusableNameError, match="allows no ':' in a name"):
        site.issuer.create("a8:40:41")


def test_files_that_the_broker_does_not_read_are_found_at_once(site: Secured, tmp_path: Path) -> None:
    stranger = issuer(site, tmp_path, verify_s=0.5)
    (tmp_path / "passwords").touch()
    (tmp_path / "acl").touch()
    with pytest.raises(CredentialFilesError, match=r"does not follow it within 0.5 s: does it read this file"):
        stranger.create("awlr-7")
    (tmp_path / "passwords").write_text(password_line(PIPELINE.username, "another password") + "\n")
    (tmp_path / "acl").write_text("")
    assert stranger.check() is None, "the broker lets the pipeline in, so nothing is known to be wrong"


def test_what_is_missing_is_said(site: Secured, tmp_path: Path) -> None:
    assert "there is no file" in (issuer(site, tmp_path).check() or "")
    (tmp_path / "passwords").touch()
    (tmp_path / "acl").touch()
    assert "has no line for the pipeline's user 'pantau'" in (issuer(site, tmp_path).check() or "")
    assert site.issuer.check() is None
    with pytest.raises(CredentialFilesError, match="can't be written"):
        issuer(site, tmp_path / "nowhere").create("awlr-1")


def test_a_reload_that_fails_is_said_and_can_be_made_good(site: Secured) -> None:
    no_pid = issuer(site, reload=Reload(pid_file=site.mosquitto.folder / "no-such-pid"))
    failing = issuer(site, reload=Reload(command=[sys.executable, "-c", "import sys; sys.exit('no such service')"]))
    absent = issuer(site, reload=Reload(command=["no-such-program"]))
    made = site.issuer.create("awlr-8")
    with pytest.raises(CredentialFilesError, match=r"failed with code 1: .*no such service"):
        failing.revoke("awlr-8")
    with pytest.raises(CredentialFilesError, match="no-such-program"):
        absent.revoke("awlr-8")
    with pytest.raises(CredentialFilesError, match="can't be told to read its files again"):
        no_pid.revoke("awlr-8")
    with site.device(made) as device:
        assert device.refused is None, "the broker has not read the files yet"
        assert site.issuer.revoke("awlr-8") is False
        assert device.left.wait(3.0), "the attempt that works cuts it off, although the files were written before"


def test_a_stale_pid_file_ends_no_other_process(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as bystander:
        try:
            (tmp_path / "pid").write_text(str(bystander.pid))
            with pytest.raises(CredentialFilesError, match="is no mosquitto"):
                Reload(pid_file=tmp_path / "pid")()
            time.sleep(0.2)
            assert bystander.poll() is None
        finally:
            bystander.kill()


def test_signals_that_come_thick_and_fast_are_not_lost(site: Secured) -> None:
    """Mosquitto forgets a SIGHUP that comes while it follows another."""
    stop = threading.Event()

    def bother() -> None:
        while not stop.is_set():
            os.kill(site.mosquitto.pid, signal.SIGHUP)
            time.sleep(0.001)

    thread = threading.Thread(target=bother)
    thread.start()
    try:
        for i in range(10):
            made = site.issuer.create(f"fast-{i}")
            with site.device(made) as device:
                assert device.refused is None
                site.issuer.revoke(f"fast-{i}")
                assert device.left.wait(3.0)
            with site.device(made) as device:
                assert device.refused is not None
    finally:
        stop.set()
        thread.join()


def test_a_broker_that_is_just_starting_is_not_ended(site: Secured) -> None:
    for _ in range(5):
        site.mosquitto.restart()
        Reload(pid_file=site.mosquitto.folder / "pid")()
        time.sleep(0.1)
        with site.pipeline() as pipeline:
            assert pipeline.refused is None


def test_a_reload_command_works_as_the_signal_does(site: Secured) -> None:
    commanded = issuer(site, reload=Reload(command=["kill", "-HUP", str(site.mosquitto.pid)]))
    with site.device(commanded.create("awlr-6")) as device:
        assert device.refused is None


def test_several_writers_lose_nothing(site: Secured) -> None:
    def make(start: int) -> None:
        own = issuer(site)  # as another process would
        for i in range(start, start + 5):
            own.create(f"writer-{i}")

    threads = [threading.Thread(target=make, args=(i * 5,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert {f"writer-{i}" for i in range(20)} <= site.issuer.known()
    assert site.issuer.check() is None


def test_it_says_that_files_are_written_and_why(site: Secured) -> None:
    english, indonesian = site.issuer.note("en"), site.issuer.note("id")
    assert "no dynamic security plugin" in english and "tidak memiliki plugin" in indonesian
    for text in (english, indonesian):
        assert str(site.mosquitto.folder / "passwords") in text and str(site.mosquitto.folder / "acl") in text
