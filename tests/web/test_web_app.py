"""The shell: languages, assets, plain errors, the API's page."""

import json
import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from web.access import OpenHouse, requires
from web.app import create_app
from web.assets import Assets
from web.languages import LANGUAGES, load_catalogues

ROOT = Path(__file__).parents[2]


def client() -> TestClient:
    app = create_app(title="Pantau", version="1", identify=OpenHouse())

    @app.get("/api/twice", dependencies=[requires("public")])
    def twice(number: int) -> int:
        return 2 * number

    return TestClient(app, base_url="http://localhost")


def test_every_catalogue_in_the_repository_has_the_same_keys_in_all_languages() -> None:
    folders = {p.parent for p in ROOT.glob("*/**/languages/id.json") if "node_modules" not in p.parts}
    folders |= {p.parent for p in ROOT.glob("*/languages/id.json")}
    folders = {f for f in folders if ".venv" not in f.parts}
    assert len(folders) >= 2
    texts = load_catalogues(sorted(folders))
    assert texts["id"].keys() == texts["en"].keys() and len(texts["id"]) > 50
    assert all(text.strip() for language in LANGUAGES for text in texts[language].values())


@pytest.mark.parametrize(
    ("other", "word"),
    [({"a": "x"}, "'b' is not in all languages"), ({"a": "x {n}", "b": "y"}, "other {names}")],
)
def test_catalogues_that_differ_stop_the_start(tmp_path: Path, other: dict[str, str], word: str) -> None:
    (tmp_path / "id.json").write_text(json.dumps({"a": "x", "b": "y"}))
    (tmp_path / "en.json").write_text(json.dumps(other))
    with pytest.raises(ValueError, match=re.escape(word)):
        load_catalogues([tmp_path])


def test_assets_may_be_kept_for_ever_under_their_hash_only() -> None:
    c = client()
    base = c.app.state.assets.base  # type: ignore[attr-defined]
    answer = c.get(f"{base}/web/theme.js")
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-type"].startswith("text/javascript")
    assert c.get(f"{base}/web/theme.js", headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
    assert c.get("/static/000000000000/web/theme.js").headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["web/../app.py", "web/%2e%2e/app.py", "web//etc/passwd", "nothing/theme.js", "web/"])
def test_nothing_outside_the_folders_is_served(path: str) -> None:
    c = client()
    assert c.get(f"{c.app.state.assets.base}/{path}").status_code == 404  # type: ignore[attr-defined]


def test_the_hash_follows_content_and_names(tmp_path: Path) -> None:
    (tmp_path / "a.js").write_text("1")
    first = Assets.of({"x": tmp_path}).version
    assert Assets.of({"x": tmp_path}).version == first
    (tmp_path / "a.js").write_text("2")
    second = Assets.of({"x": tmp_path}).version
    (tmp_path / "a.js").rename(tmp_path / "b.js")
    assert len({first, second, Assets.of({"x": tmp_path}).version}) == 3


def test_errors_are_plain_sentences() -> None:
    c = client()
    assert c.get("/api/twice?number=4").json() == 8
    answer = c.get("/api/twice?number=four")
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("number: ") and "'four'" in answer.json()["detail"]
    assert c.get("/api/twice").json()["detail"].startswith("number: ")
    assert c.get("/nowhere").status_code == 404 and "detail" in c.get("/nowhere").json()
    assert "klingon" in c.get("/languages/klingon").json()["detail"]


def test_large_answers_are_compressed() -> None:
    c = client()
    answer = c.get("/openapi.json")
    assert answer.headers.get("content-encoding") == "gzip" or len(answer.content) < 1000
    assert c.get("/languages/id").status_code == 200


def test_pages_hold_no_inline_script_or_style() -> None:
    text = client().get("/docs").text
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|style=", text)
