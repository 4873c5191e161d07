"""The third-party files are those of the locked packages."""

import json

from dashboards.operator.vendor import CHECKSUMS, FILES, HERE, VENDOR, locked_packages, sha256


def test_vendor_files_are_those_of_the_locked_packages() -> None:
    record = json.loads(CHECKSUMS.read_text())
    assert record["packages"] == locked_packages(), "run: python -m dashboards.operator.vendor"
    present = {p.relative_to(VENDOR).as_posix(): sha256(p) for p in VENDOR.rglob("*") if p.is_file()}
    assert present == record["files"]
    assert set(present) == set(FILES.values())


def test_every_package_is_pinned_and_brings_its_licence() -> None:
    wanted = json.loads((HERE / "package.json").read_text())["dependencies"]
    assert all(version[0].isdigit() for version in wanted.values())
    assert {name.split("/")[0] for name in FILES if name.endswith("LICENSE")} == set(wanted)


def test_the_page_names_no_other_server() -> None:
    own = [p for p in (HERE / "static").glob("*") if p.is_file()]
    assert len(own) > 8
    for path in own:
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text and "https://" not in text, path.name
