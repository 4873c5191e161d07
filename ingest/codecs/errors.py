"""Why bytes could not be decoded."""

from __future__ import annotations

from typing import Any


class CodecError(Exception):
    """The bytes are not what this codec reads, wholly or from some place on.

    ``fields`` holds what stood before that place, and is right.
    """

    def __init__(self, message: str, fields: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.fields = fields or {}
