"""The page of refused messages in a real browser: what a technician sees and does, on a desk and on a phone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from dashboards.letters.api import STATIC_FILES, TEXTS, add_letters
from ingest.dead_letters import DeadLetter, DeadLetters, Reason
from tests.real_parts.chromium import CHROMIUM, chromium
from tests.web.people import CHEAP, PASSWORD, with_roles
from web.access import OpenHouse
from web.accounts import Accounts
from web.app import create_app
from web.login import KnownAccounts, add_login
from web.server import Server, serve

pytestmark = pytest.mark.browser

S = 1_000_000_000
T0 = 1_795_519_200 * S  # 2026-11-24T11:20:00Z
DESK: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}}
PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
LOCALES = {"id": "id-ID", "en": "en-GB"}
LONG = b'{"time": "' + b"2026" * 300 + b'"}'
ATTACK = '<img src=x onerror="document.title=1"> <b>&amp;'
OLDER = 60
"""Letters of one busy device, older than all others: more than one page of them."""

WORDS: dict[str, dict[str, str]] = {
    "id": {
        "title": "Pesan yang ditolak",
        "unknown_device": "Alat belum terdaftar",
        "unknown_device.do": "Tindakan: Daftarkan dengan id persis ini",
        "wrong_unit": "Satuan tidak dapat dipakai",
        "again": "Ambil lagi",
        "again.all": "Ambil lagi semuanya (2)",
        "waits": "menunggu diambil lagi",
        "never": "tidak dapat diambil lagi",
        "truncated": "Hanya awalnya disimpan",
        "hex": "Isi pesan (4 B, sebagai byte)",
        "nodevice": "tanpa nama alat",
        "time": "24 Nov 2026",
    },
    "en": {
        "title": "Refused messages",
        "unknown_device": "Device is not registered",
        "unknown_device.do": "What to do: Register it under exactly this id",
        "wrong_unit": "Unit can't be used",
        "again": "Take again",
        "again.all": "Take all again (2)",
        "waits": "waits to be taken again",
        "never": "can't be taken again",
        "truncated": "Only the beginning is kept",
        "hex": "What came (4 B, as bytes)",
        "nodevice": "no device named",
        "time": "24 Nov 2026",
    },
}


def some_letters(letters: DeadLetters) -> None:
    """The ones that tests look at are the newest; ids 1 to ``OLDER`` are one device's."""

    def letter(
        reason: Reason, detail: str, payload: bytes, device: str | None, s: int | None, **more: Any
    ) -> DeadLetter:
        topic = f"pantau/v1/kota/{device or 'x'}"
        return DeadLetter(reason, detail, topic, payload, "utama", None if s is None else T0 + s * S, device, **more)

    letters.keep(
        [letter(Reason.MALFORMED_JSON, "unexpected end", b'{"time": ', "traffic-loop-0042", i) for i in range(OLDER)]
    )
    letters.keep(
        [
            letter(Reason.UNKNOWN_DEVICE, "no device AWLR-0231", b'{"value": 1.24}', "AWLR-0231", 100),
            letter(Reason.UNKNOWN_DEVICE, "no device AWLR-0232", b'{"value": "\xc2\xb5"}', "AWLR-0232", 101),
            letter(Reason.UNDECODABLE, "no codec takes these bytes", b"\x00\xff\x10\x80", "eui-70b3d57ed0051234", 102),
            letter(Reason.WRONG_UNIT, f"unit: {ATTACK}", json.dumps({"unit": ATTACK}).encode(), "PM-17", 103),
            letter(Reason.RETAINED, "retained without a time", b'{"value": 3}', "PM-17", 104),
            letter(Reason.PAYLOAD_TOO_LARGE, "300000 bytes", LONG, "cam-" + "x" * 120, 105, truncated=True),
            letter(Reason.WRONG_TOPIC, "topic of five parts", b"{}", None, None),
        ]
    )


@dataclass
class House:
    """A server with the page."""

    letters: DeadLetters
    server: Server
    accounts: Accounts | None

    @property
    def url(self) -> str:
        return f"{self.server.url}/dead-letters"

    def close(self) -> None:
        self.server.stop()
        self.letters.close()
        if self.accounts is not None:
            self.accounts.close()


def build(folder: Path, *, accounts: bool) -> House:
    people = with_roles(Accounts(f"sqlite:///{folder / 'accounts.sqlite'}", passwords=CHEAP)) if accounts else None
    known = KnownAccounts(people) if people is not None else None
    letters = DeadLetters(folder / "dead.sqlite")
    app = create_app(
        title="Pantau", version="1", identify=known or OpenHouse(), files={"letters": STATIC_FILES}, texts=[TEXTS]
    )
    add_letters(app, letters)
    if known is not None:
        add_login(app, known)
    return House(letters, serve(app, "127.0.0.1", 0), people)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip("no chromium")
    with chromium() as started:
        yield started


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """Everybody may do everything."""
    found = build(tmp_path, accounts=False)
    some_letters(found.letters)
    yield found
    found.close()


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[House]:
    """One has to log in."""
    found = build(tmp_path, accounts=True)
    some_letters(found.letters)
    yield found
    found.close()


@dataclass
class Visits:
    """What a test opened, and what its pages complained about and asked for."""

    browser: Browser
    contexts: list[BrowserContext] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def open(self, house: House, wait: str = ".reasons", **options: Any) -> Page:
        context = self.browser.new_context(**({"locale": "id-ID", "color_scheme": "light"} | DESK | options))
        self.contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda e: self.complaints.append(str(e)))
        page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("request", lambda r: self.requests.append(r.url))
        page.set_default_timeout(10_000)
        page.goto(house.url)
        page.wait_for_selector(wait, state="attached")
        return page

    def enter(self, house: House, login: str, **options: Any) -> Page:
        """Through the login, which leads back here."""
        page = self.open(house, '[name="login"]', **options)
        page.fill('[name="login"]', login)
        page.fill('[name="password"]', PASSWORD)
        page.press('[name="password"]', "Enter")
        expect(page).to_have_url(re.compile("/dead-letters"))
        page.wait_for_selector(".reasons")
        return page


@pytest.fixture
def visits(browser: Browser) -> Iterator[Visits]:
    """At the end no page may have complained (which a break of its content policy makes it do) or asked elsewhere."""
    found = Visits(browser)
    yield found
    for context in found.contexts:
        context.close()
    assert found.complaints == []
    assert [u for u in found.requests if not u.startswith(("http://127.0.0.1:", "data:"))] == []


def reason(page: Page, text: str) -> Locator:
    return page.locator(".reasons > li").filter(has=page.locator(".reason", has_text=text))


def letter(page: Page, text: str) -> Locator:
    return page.locator(".letters > li").filter(has=page.locator(".letter-head", has_text=text))


def fits(page: Page) -> bool:
    """Nothing has to be scrolled sideways, and nothing is cut off at the right."""
    return bool(
        page.evaluate(
            """() => document.documentElement.scrollWidth <= innerWidth
              && [...document.querySelectorAll("main *")].every(
                (n) => n.getBoundingClientRect().right <= innerWidth + 0.5)"""
        )
    )


@pytest.mark.parametrize("language", ["id", "en"])
def test_they_are_listed_with_counts_and_what_to_do(house: House, visits: Visits, language: str) -> None:
    words = WORDS[language]
    page = visits.open(house, locale=LOCALES[language])
    expect(page.locator("h1")).to_have_text(words["title"])
    expect(page.locator("html")).to_have_attribute("lang", language)
    expect(page).to_have_title(f"{words['title']} – Pantau")
    expect(page.locator(".reasons .reason b")).to_have_text(["60", "2", "1", "1", "1", "1", "1"])
    expect(page.locator(".letters > li")).to_have_count(50)
    line = reason(page, words["unknown_device"])
    expect(line.locator("b")).to_have_text("2")
    expect(line).to_contain_text(words["unknown_device.do"])
    # No word is missing, and no reason stands there by its id.
    text = page.locator("#page").inner_text()
    assert "letters." not in text
    assert not [r for r in Reason if re.search(rf"\b{r}\b", text) and "_" in r]
    first = letter(page, "PM-17").first
    expect(first.locator("time")).to_contain_text(words["time"])
    expect(letter(page, words["nodevice"])).to_have_count(1)
    # The other language without loading again.
    page.get_by_role("button", name="English" if language == "id" else "Bahasa Indonesia").click()
    expect(page.locator("h1")).to_have_text(WORDS["en" if language == "id" else "id"]["title"])


def test_one_reason_or_one_device_can_be_looked_at_alone(house: House, visits: Visits) -> None:
    page = visits.open(house)
    expect(page.locator(".letters > li")).to_have_count(50)
    line = reason(page, "Alat belum terdaftar")
    line.locator(".reason").click()
    expect(line.locator(".reason")).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".letters > li")).to_have_count(2)
    expect(page).to_have_url(re.compile(r"\?reason=unknown_device$"))
    # Everything to see of these at once, none of others.
    expect(page.locator(".only")).to_contain_text("Alat belum terdaftar")
    line.locator(".devices button", has_text="AWLR-0232").click()
    expect(page.locator(".letters > li")).to_have_count(1)
    expect(page.locator(".letters > li")).to_contain_text("AWLR-0232")
    expect(line).to_contain_text("Ambil lagi semuanya (1)")
    # The address can be sent to a colleague.
    page.reload()
    expect(page.locator(".letters > li")).to_have_count(1)
    expect(page).to_have_url(re.compile(r"\?reason=unknown_device&device=AWLR-0232$"))
    line.locator(".reason").click()
    expect(page.locator(".letters > li")).to_have_count(50)
    page.get_by_role("button", name="Yang lebih lama").click()
    expect(page.locator(".letters > li")).to_have_count(OLDER + 7)
    expect(page.get_by_role("button", name="Yang lebih lama")).to_have_count(0)


@pytest.mark.parametrize("language", ["id", "en"])
def test_a_payload_is_shown_as_text_or_as_bytes(house: House, visits: Visits, language: str) -> None:
    words = WORDS[language]
    page = visits.open(house, locale=LOCALES[language])
    title = page.title()
    text = letter(page, "AWLR-0232")
    expect(text.locator("pre")).to_have_count(0)
    text.locator(".letter-head").click()
    expect(text.locator("pre")).to_have_text('{"value": "µ"}')
    expect(text).to_contain_text("pantau/v1/kota/AWLR-0232")
    expect(text).to_contain_text("utama")
    octets = letter(page, "eui-70b3d57ed0051234")
    octets.locator(".letter-head").click()
    expect(octets.locator("pre")).to_have_text("00 ff 10 80")
    expect(octets).to_contain_text(words["hex"])
    # What a device sends is text, never a part of the page.
    hostile = letter(page, words["wrong_unit"])
    hostile.locator(".letter-head").click()
    expect(hostile.locator("pre")).to_have_text(json.dumps({"unit": ATTACK}))
    assert page.title() == title
    assert page.locator("main img").count() == 0
    expect(letter(page, "cam-xxx")).to_contain_text(words["truncated"])
    text.locator(".letter-head").click()
    expect(text.locator("pre")).to_have_count(0)


@pytest.mark.parametrize("language", ["id", "en"])
def test_a_technician_has_them_taken_again(guarded: House, visits: Visits, language: str) -> None:
    words = WORDS[language]
    page = visits.enter(guarded, "technician", locale=LOCALES[language])
    sent = []
    page.on("request", lambda r: sent.append(r.headers) if r.method == "POST" else None)
    one = letter(page, words["wrong_unit"])
    one.get_by_role("button", name=words["again"], exact=True).click()
    expect(one).to_contain_text(words["waits"])
    assert [k.letter.device for k in guarded.letters.marked(10, 10**6)] == ["PM-17"]
    assert sent[0]["x-csrf-token"]
    line = reason(page, words["unknown_device"])
    line.locator(".reason").click()
    line.get_by_role("button", name=words["again.all"]).click()
    expect(page.locator(".letters .more", has_text=words["waits"])).to_have_count(2)
    marked = guarded.letters.marked(10, 10**6)
    assert {k.letter.device for k in marked} == {"PM-17", "AWLR-0231", "AWLR-0232"}
    # What the pipeline does with them; the page hears of it by itself.
    guarded.letters.settle([k.id for k in marked])
    expect(line).to_have_count(0, timeout=12_000)
    expect(page.locator(".letters > li")).to_have_count(0)
    # The reason is gone from the list, but there is a way back to all.
    page.locator(".only .button").click()
    expect(page.locator(".letters > li")).to_have_count(50)
    # What can never be taken is not offered.
    page.goto(guarded.url + "?reason=retained")
    expect(page.locator(".letters > li")).to_have_count(1)
    expect(page.locator(".letters > li")).to_contain_text(words["never"])
    expect(page.get_by_role("button", name=words["again"])).to_have_count(0)


def test_a_viewer_only_looks(guarded: House, visits: Visits) -> None:
    page = visits.enter(guarded, "viewer")
    reason(page, "Alat belum terdaftar").locator(".reason").click()
    expect(page.locator(".letters > li")).to_have_count(2)
    expect(page.get_by_role("button", name=re.compile("Ambil lagi"))).to_have_count(0)
    assert guarded.letters.marked(10, 10**6) == []


@pytest.mark.parametrize("language", ["id", "en"])
def test_a_phone_needs_no_sideways_scrolling(house: House, visits: Visits, language: str) -> None:
    page = visits.open(house, locale=LOCALES[language], **PHONE)
    assert fits(page)
    for text in ("cam-xxx", "eui-70b3d57ed0051234", WORDS[language]["wrong_unit"]):
        letter(page, text).locator(".letter-head").tap()
        expect(letter(page, text).locator("pre")).to_have_count(1)
    assert fits(page)
    for button in page.locator(".reasons .reason").all():
        button.tap()
        expect(page.locator(".devices")).to_have_count(1)
        assert fits(page), button.inner_text()
    low = page.evaluate(
        """() => [...document.querySelectorAll("main button")]
          .filter((b) => b.getBoundingClientRect().height < 44).map((b) => b.innerText)"""
    )
    assert low == []  # a thumb, perhaps in a glove


def test_a_house_without_any_says_so(tmp_path: Path, visits: Visits) -> None:
    found = build(tmp_path, accounts=False)
    try:
        page = visits.open(found)
        expect(page.locator("main")).to_contain_text("Tidak ada: semua yang datang dapat dipakai.")
        # The first one comes in: it is seen without a touch.
        some_letters(found.letters)
        expect(page.locator(".letters > li")).to_have_count(50, timeout=12_000)
    finally:
        found.close()


def test_a_server_that_is_gone_is_said(house: House, browser: Browser) -> None:
    visits = Visits(browser)
    page = visits.open(house)
    house.server.stop()
    try:
        letter(page, "AWLR-0231").get_by_role("button", name="Ambil lagi", exact=True).click()
        expect(page.get_by_role("alert")).to_contain_text("server tidak dapat dihubungi", ignore_case=True)
    finally:
        visits.contexts[0].close()
