"""Copy the third-party files of the pages from the locked npm packages to static/vendor.

``python -m web.vendor`` runs ``npm ci`` (which checks each package against the lock file), copies,
and writes checksums.json. Nothing here is needed to run the page.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
VENDOR = HERE / "static" / "vendor"
CHECKSUMS = HERE / "vendor-checksums.json"

FILES = {
    "leaflet/dist/leaflet-src.esm.js": "leaflet/leaflet.js",
    "leaflet/dist/leaflet.css": "leaflet/leaflet.css",
    "leaflet/LICENSE": "leaflet/LICENSE",
    "uplot/dist/uPlot.esm.js": "uplot/uPlot.js",
    "uplot/dist/uPlot.min.css": "uplot/uPlot.min.css",
    "uplot/LICENSE": "uplot/LICENSE",
    # Holds Preact as well, hence Preact's licence beside it.
    "htm/preact/standalone.module.js": "htm/preact.js",
    "htm/LICENSE": "htm/LICENSE",
    "preact/LICENSE": "htm/LICENSE-preact",
}


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def locked_packages() -> dict[str, str]:
    """Package → "version integrity" as the lock file has it."""
    packages = json.loads((HERE / "package-lock.json").read_text())["packages"]
    return {
        name.removeprefix("node_modules/"): f"{entry['version']} {entry['integrity']}"
        for name, entry in packages.items()
        if name
    }


def main() -> None:
    """Install, copy, and record what was copied."""
    subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=HERE, check=True)
    shutil.rmtree(VENDOR, ignore_errors=True)
    for source, target in FILES.items():
        (VENDOR / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(HERE / "node_modules" / source, VENDOR / target)
    record = {"packages": locked_packages(), "files": {t: sha256(VENDOR / t) for t in sorted(FILES.values())}}
    CHECKSUMS.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
