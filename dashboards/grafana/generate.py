"""Write the dashboards as JSON: sorted and indented, so that a change is seen as a difference of lines.

``generated/`` holds the dashboards that fit every city. With a directory, ``build`` adds what only one city has: each
gauge with its own levels.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards.grafana import devices, flood, street, traffic
from telemetry.directory import Directory

GENERATED = Path(__file__).parent / "generated"


def dashboards(directory: Directory | None = None) -> dict[str, dict[str, Any]]:
    """Every dashboard as plain JSON values, by UID."""
    built = [flood.build(directory), traffic.build(), street.build(), devices.build()]
    plain = [json.loads(json.dumps(b, cls=JSONEncoder)) for b in built]
    return {d["uid"]: d for d in plain}


def text_of(model: dict[str, Any]) -> str:
    """The JSON text that is written and committed."""
    return json.dumps(model, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def build(folder: Path = GENERATED, directory: Directory | None = None) -> list[Path]:
    """Write one file for each dashboard, named by its UID, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for uid, model in dashboards(directory).items():
        path = folder / f"{uid}.json"
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=folder, suffix=".part", delete=False) as part:
            part.write(text_of(model))
        Path(part.name).chmod(0o644)
        Path(part.name).replace(path)
        written.append(path)
    return written


if __name__ == "__main__":
    for written_path in build():
        print(written_path)
