"""Language catalogues: one JSON file per language and room, key → text, with the same keys in each language.

Pages are in Indonesian first, and in English. Texts hold ``{name}`` where a value goes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

LANGUAGES = ("id", "en")
"""In order of preference when a browser asks for neither."""

SHELL_TEXTS = Path(__file__).parent / "languages"

_PLACE = re.compile(r"\{(\w+)\}")


def load_catalogues(folders: Iterable[Path]) -> dict[str, dict[str, str]]:
    """Read ``<folder>/<language>.json`` of every folder and join them by language.

    Raises
    ------
    ValueError
        A key stands in two folders, is missing in a language, or holds other ``{names}`` in one of them.
    """
    texts: dict[str, dict[str, str]] = {language: {} for language in LANGUAGES}
    for folder in folders:
        for language in LANGUAGES:
            path = folder / f"{language}.json"
            found: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
            twice = texts[language].keys() & found.keys()
            if twice:
                raise ValueError(f"{path}: text {min(twice)!r} already stands in another catalogue")
            texts[language] |= found
    first = texts[LANGUAGES[0]]
    for language in LANGUAGES[1:]:
        odd = first.keys() ^ texts[language].keys()
        if odd:
            raise ValueError(f"text {min(odd)!r} is not in all languages ({LANGUAGES[0]}, {language})")
        for key, text in texts[language].items():
            if set(_PLACE.findall(text)) != set(_PLACE.findall(first[key])):
                raise ValueError(f"text {key!r} holds other {{names}} in {language} than in {LANGUAGES[0]}")
    return texts
