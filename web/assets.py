"""Static files under a path that names their content: /static/<hash>/<room>/<file>.

The hash covers all files together, so relative imports between modules keep working, browsers may keep the files
for ever, and a changed file is a new address. A file asked for under an outdated hash is served uncached.
"""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

SHELL_FILES = Path(__file__).parent / "static"

# Do not depend on the machine's mime table: a wrong type for a module stops the page.
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".json": "application/json"}


@dataclass(frozen=True)
class Assets:
    """The static files of all rooms."""

    folders: Mapping[str, Path]
    """Room name, as it stands in the address → its folder."""
    version: str
    """Hash of all names and contents."""

    @classmethod
    def of(cls, folders: Mapping[str, Path]) -> Assets:
        """Read all files once and name their content."""
        digest = hashlib.sha256()
        for room, folder in sorted(folders.items()):
            for path in sorted(p for p in folder.rglob("*") if p.is_file()):
                content = path.read_bytes()
                digest.update(f"{room}/{path.relative_to(folder).as_posix()} {len(content)}\n".encode())
                digest.update(content)
        return cls(folders, digest.hexdigest()[:12])

    @property
    def base(self) -> str:
        """Where the files of all rooms stand now."""
        return f"/static/{self.version}"

    def serve(self, version: str, room: str, path: str, request: Request) -> Response:
        """The file, 304 if the browser has it, or 404."""
        folder = self.folders.get(room)
        file = None if folder is None else (folder / path).resolve()
        if folder is None or file is None or not file.is_relative_to(folder.resolve()) or not file.is_file():
            return JSONResponse({"detail": f"there is no file {room}/{path}"}, status_code=404)
        etag = f'"{self.version}"'
        headers = {
            "Cache-Control": "public, max-age=31536000, immutable" if version == self.version else "no-cache",
            "ETag": etag,
        }
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        kind = _TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        return FileResponse(file, media_type=kind, headers=headers)
