"""The third-party files are those of the locked packages."""

import json

from web.vendor import CHECKSUMS, FILES, HERE, VENDOR, locked_packages, sha256


def test_vendor_files_are_those_of_the_locked_packages() -> None:
    record = json.loads(CHECKSUMS.read_text())
    assert record["packages"] == locked_packages(), "run: python -m web.vendor"
    present = {p.relative_to(VENDOR).as_posix(): sha256(p) for p in VENDOR.rglob("*") if p.is_file()}
    assert present == record["files"]
    assert set(present) == set(FILES.values())


def test_every_package_is_pinned_and_brings_its_licence() -> None:
    wanted = json.loads((HERE / "package.json").read_text())["dependencies"]
    assert all(version[0].isdigit() for version in wanted.values())
    assert {name.split("/")[0] for name in FILES if name.endswith("LICENSE")} == set(wanted)


def test_the_pages_name_no_other_server() -> None:
    root = HERE.parent
    own = [p for pattern in ("web/static/*", "*/*/static/*") for p in root.glob(pattern) if p.is_file()]
    assert len(own) > 12
    for path in own:
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text and "https://" not in text, path.name
