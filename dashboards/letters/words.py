"""Reasons of dead letters in words for people, in the languages of the pages."""

from __future__ import annotations

import functools
import json
from pathlib import Path

TEXTS = Path(__file__).parent / "languages"


def reason_text(reason: str, language: str = "en") -> tuple[str, str]:
    """What a reason means, and what to do about it.

    Examples
    --------
    >>> reason_text("wrong_unit")
    ("Unit can't be used", 'Set the right unit in the device or in its model.')
    """
    texts = _texts(language)
    return texts.get(f"letters.reason.{reason}", reason), texts.get(f"letters.reason.{reason}.do", "")


@functools.cache
def _texts(language: str) -> dict[str, str]:
    found: dict[str, str] = json.loads((TEXTS / f"{language}.json").read_text(encoding="utf-8"))
    return found
