"""Dead letters over HTTP: counted and shown with what to do, and marked by whoever may."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from dashboards.letters.api import STATIC_FILES, TEXTS, add_letters
from dashboards.letters.words import reason_text
from ingest.dead_letters import DeadLetter, DeadLetters, Reason
from web.access import How, Identify, OpenHouse, Right, Visitor
from web.app import create_app

S = 1_000_000_000
CHANGE = {"X-Pantau": "1", "X-CSRF-Token": "c"}


class Someone:
    """An ``Identify`` that knows one visitor."""

    def __init__(self, *rights: Right) -> None:
        self.visitor = Visitor(How.SESSION, "siti", "Siti", rights=frozenset(rights), csrf="c")

    def __call__(self, scope: object) -> Visitor:
        return self.visitor

    def needs_setup(self) -> bool:
        return False


def letters_in(path: Path) -> DeadLetters:
    letters = DeadLetters(path / "dead.sqlite")
    letters.keep(
        [
            DeadLetter(Reason.UNKNOWN_DEVICE, "no such", "pantau/v1/kota/a", b'{"x": "\xc3\xa9"}', "main", 1 * S, "a"),
            DeadLetter(Reason.UNKNOWN_DEVICE, "no such", "pantau/v1/kota/b", b"{}", "other", 2 * S, "b"),
            DeadLetter(Reason.MALFORMED_JSON, "what", "pantau/v1/kota/b", b"\xff\x00", "main", 3 * S, "b"),
            DeadLetter(Reason.RETAINED, "old", "pantau/v1/kota/b", b"1", "main", 4 * S, "b"),
        ]
    )
    return letters


def client(letters: DeadLetters, identify: Identify) -> TestClient:
    app = create_app(title="Pantau", version="1", identify=identify, files={"letters": STATIC_FILES}, texts=[TEXTS])
    add_letters(app, letters)
    return TestClient(app, base_url="http://127.0.0.1")


@pytest.fixture
def letters(tmp_path: Path) -> Iterator[DeadLetters]:
    with letters_in(tmp_path) as found:
        yield found


def test_they_are_shown_as_text_or_bytes_page_by_page(letters: DeadLetters) -> None:
    page = client(letters, OpenHouse())
    answer = page.get("/api/dead-letters", params={"limit": 2}).json()
    assert [x["id"] for x in answer["dead_letters"]] == [4, 3]
    assert (answer["dead_letters"][1]["text"], answer["dead_letters"][1]["hex"]) == (None, "ff 00")
    assert [x["again"] for x in answer["dead_letters"]] == [False, True]
    rest = page.get("/api/dead-letters", params={"before": answer["next"]}).json()
    assert [x["id"] for x in rest["dead_letters"]] == [2, 1]
    assert rest["dead_letters"][1]["text"] == '{"x": "é"}'
    assert "Daftarkan" in rest["dead_letters"][1]["to_do"]["id"]
    only = {
        "reason": "unknown_device",
        "broker": "main",
        "since": "1970-01-01T00:00:01Z",
        "until": "1970-01-01T00:00:02Z",
    }
    assert [x["id"] for x in page.get("/api/dead-letters", params=only).json()["dead_letters"]] == [1]
    assert page.get("/api/dead-letters/1").json()["device"] == "a"
    assert page.get("/api/dead-letters/99").status_code == 404
    assert page.get("/api/dead-letters", params={"since": "yesterday"}).status_code == 422
    assert page.get("/dead-letters").status_code == 200


def test_they_are_counted_by_reason_and_device(letters: DeadLetters) -> None:
    counts = client(letters, OpenHouse()).get("/api/dead-letters/counts").json()
    assert counts["refused"] == {"malformed_json": 1, "retained": 1, "unknown_device": 2}
    assert {(k["reason"], k["device"], k["letters"]) for k in counts["kept"]} == {
        ("malformed_json", "b", 1),
        ("retained", "b", 1),
        ("unknown_device", "a", 1),
        ("unknown_device", "b", 1),
    }
    assert counts["room"]["oldest_at"] == "1970-01-01T00:00:01Z"


def test_only_those_that_can_be_taken_again_count_as_such(letters: DeadLetters) -> None:
    page = client(letters, OpenHouse())
    page.post("/api/dead-letters/retry", json={"id": 1}, headers=CHANGE)
    kept = page.get("/api/dead-letters/counts").json()["kept"]
    assert {(k["reason"], k["device"]): (k["marked"], k["again"]) for k in kept} == {
        ("unknown_device", "a"): (1, 0),
        ("unknown_device", "b"): (0, 1),
        ("malformed_json", "b"): (0, 1),
        ("retained", "b"): (0, 0),
    }


def test_taking_again_marks_what_can_be_taken(letters: DeadLetters) -> None:
    page = client(letters, OpenHouse())
    assert page.post("/api/dead-letters/retry", json={}, headers=CHANGE).status_code == 422
    assert page.post("/api/dead-letters/retry", json={"id": 4}, headers=CHANGE).json() == {"marked": 0}
    assert page.post("/api/dead-letters/retry", json={"device": "b"}, headers=CHANGE).json() == {"marked": 2}
    assert page.post("/api/dead-letters/retry", json={"everything": True}, headers=CHANGE).json() == {"marked": 1}
    assert [k.id for k in letters.marked(10, 10**6)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("rights", "headers", "status"),
    [
        ((Right.READ,), CHANGE, 403),
        ((Right.READ, Right.ALARMS), CHANGE, 403),
        ((Right.READ, Right.DEVICES), {"X-Pantau": "1"}, 403),  # without the session's token
        ((Right.READ, Right.DEVICES), CHANGE, 202),
    ],
)
def test_only_technicians_may_have_them_taken(
    letters: DeadLetters, rights: tuple[Right, ...], headers: dict[str, str], status: int
) -> None:
    page = client(letters, Someone(*rights))
    assert page.get("/api/dead-letters").status_code == 200
    assert page.post("/api/dead-letters/retry", json={"id": 1}, headers=headers).status_code == status


def test_every_reason_has_its_words_in_both_languages() -> None:
    for reason in Reason:
        for language in ("id", "en"):
            title, to_do = reason_text(reason, language)
            assert title != reason, reason
            assert len(to_do) > 20, reason
    assert json.loads((TEXTS / "id.json").read_text()).keys() == json.loads((TEXTS / "en.json").read_text()).keys()
