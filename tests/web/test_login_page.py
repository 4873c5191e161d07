"""Pages of accounts in a real browser: first run, login, own password, accounts and tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from dashboards.operator.api import STATIC_FILES, TEXTS, add_operator_page
from dashboards.operator.live import LiveCity
from telemetry.alarms import Acknowledge
from tests.dashboards.operator.operator_city import T0, S, small_city, transition
from tests.real_parts.chromium import CHROMIUM, chromium
from tests.web.people import CHEAP, PASSWORD, with_roles
from web.accounts import Accounts
from web.accounts_api import add_accounts
from web.app import create_app
from web.login import KnownAccounts, add_login
from web.server import Server, serve

pytestmark = pytest.mark.browser

CODE = "ABCDE-FGHJK-MNPQR-STUVW"
OTHER = "macet di pasteur lagi"
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
DESK: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}}


@dataclass
class House:
    """A server with accounts and the operator's page."""

    accounts: Accounts
    server: Server
    live: LiveCity
    orders: list[tuple[Acknowledge, str]] = field(default_factory=list)


def build(folder: Path, *, roles: bool) -> House:
    accounts = Accounts(f"sqlite:///{folder / 'accounts.sqlite'}", passwords=CHEAP)
    if roles:
        with_roles(accounts)
    known = KnownAccounts(accounts, CODE)
    app = create_app(title="Pantau", version="1", identify=known, files={"operator": STATIC_FILES}, texts=[TEXTS])
    live = LiveCity()
    live.set_directory(small_city())
    live.set_clock("system", T0 + 600 * S, 1.0)
    add_operator_page(app, live, version="1")
    add_login(app, known)
    add_accounts(app, accounts)
    house = House(accounts, serve(app, "127.0.0.1", 0), live)
    live.set_acknowledge(lambda order, comment: house.orders.append((order, comment)))
    return house


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip("no chromium")
    with chromium() as started:
        yield started


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[House]:
    house = build(tmp_path, roles=False)
    yield house
    house.server.stop()
    house.accounts.close()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    found = build(tmp_path, roles=True)
    yield found
    found.server.stop()
    found.accounts.close()


class Contexts(list[BrowserContext]):
    """What a test opened, and what its pages complained about."""

    complaints: list[str]


@pytest.fixture
def contexts(browser: Browser) -> Iterator[Contexts]:
    """At the end no page may have complained, but for requests that the server refused."""
    found = Contexts()
    found.complaints = []
    yield found
    for context in found:
        context.close()
    assert [c for c in found.complaints if "status of 4" not in c] == []


def open_page(browser: Browser, contexts: Contexts, url: str, **options: Any) -> Page:
    context = browser.new_context(**({"locale": "id-ID", "color_scheme": "light"} | DESK | options))
    contexts.append(context)
    page = context.new_page()
    page.on("pageerror", lambda e: contexts.complaints.append(str(e)))
    page.on("console", lambda m: contexts.complaints.append(m.text) if m.type == "error" else None)
    page.set_default_timeout(10_000)
    page.goto(url)
    return page


def log_in(page: Page, login: str, password: str = PASSWORD) -> None:
    page.fill('[name="login"]', login)
    page.fill('[name="password"]', password)
    page.press('[name="password"]', "Enter")


def fits(page: Page) -> bool:
    """Nothing has to be scrolled sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


def test_first_run_on_a_phone(browser: Browser, empty: House, contexts: Contexts) -> None:
    page = open_page(browser, contexts, empty.server.url, **PHONE)
    expect(page).to_have_url(re.compile("/setup$"))
    expect(page.locator("h1")).to_have_text("Akun pertama")
    assert fits(page)
    page.fill('[name="code"]', "wrong")
    page.fill('[name="login"]', "siti")
    page.fill('[name="name"]', "Siti Rahayu")
    page.fill('[name="password"]', PASSWORD)
    page.get_by_role("button", name="Buat akun").click()
    expect(page.get_by_role("alert")).to_contain_text("Kode itu salah")
    page.fill('[name="code"]', CODE.lower())
    page.get_by_role("button", name="Buat akun").click()
    expect(page).to_have_url(re.compile("/accounts$"))
    expect(page.locator('[data-account="siti"]')).to_contain_text("Siti Rahayu")
    assert fits(page)
    page.goto(f"{empty.server.url}/setup")
    expect(page.locator("main")).to_contain_text("Sudah ada akun")


def test_login_leads_back_to_where_one_wanted_to_go(browser: Browser, house: House, contexts: Contexts) -> None:
    page = open_page(browser, contexts, f"{house.server.url}/?x=1", **PHONE)
    expect(page).to_have_url(re.compile(r"/login\?next=/%3Fx%3D1$"))
    expect(page.locator('[name="login"]')).to_be_focused()
    assert fits(page)
    log_in(page, "operator", "wrong")
    expect(page.get_by_role("alert")).to_have_text("Nama akun atau kata sandi salah.")
    log_in(page, "operator")
    expect(page).to_have_url(f"{house.server.url}/?x=1")
    expect(page.locator(".strip")).to_be_visible()
    page.goto(f"{house.server.url}/login?next=https://evil.example/")
    expect(page).to_have_url(f"{house.server.url}/")


def test_by_keyboard_alone_and_in_english(browser: Browser, house: House, contexts: Contexts) -> None:
    page = open_page(browser, contexts, f"{house.server.url}/login", locale="en-GB")
    expect(page.locator("h1")).to_have_text("Log in")
    expect(page.locator("html")).to_have_attribute("lang", "en")
    expect(page.locator('[name="login"]')).to_be_focused()
    page.keyboard.type("viewer")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Show password")).to_be_focused()
    page.keyboard.press("Space")
    expect(page.locator('[name="password"]')).to_have_attribute("type", "text")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".strip")).to_be_visible()


def test_too_many_tries_are_told_with_the_time_to_wait(browser: Browser, house: House, contexts: Contexts) -> None:
    page = open_page(browser, contexts, f"{house.server.url}/login")
    for _ in range(5):
        with page.expect_response("**/api/session"):
            log_in(page, "viewer", "wrong")
        expect(page.locator("button.main")).to_be_enabled()
    log_in(page, "viewer", "wrong")
    expect(page.get_by_role("alert")).to_contain_text("Coba lagi dalam")
    expect(page.locator("button.main")).to_be_disabled()
    expect(page.locator("button.main")).to_be_enabled()


def test_the_name_of_the_account_stands_beside_what_the_operator_acknowledges(
    browser: Browser, house: House, contexts: Contexts
) -> None:
    house.live.transition(transition(at_s=0, severity=2, threshold=1.5))
    page = open_page(browser, contexts, house.server.url)
    log_in(page, "operator")
    page.locator(".alarm .acknowledge").click()
    expect(page.locator("dialog")).to_contain_text("Dicatat sebagai Operator")
    assert page.locator('dialog [name="by"]').count() == 0
    page.fill('dialog [name="comment"]', "tim menuju lokasi")
    page.locator("dialog button.main").click()
    expect(page.locator("dialog")).to_have_count(0)
    (order, comment), *_ = house.orders
    assert (order.by, comment) == ("Operator", "tim menuju lokasi")


def test_a_viewer_sees_alarms_but_no_button(browser: Browser, house: House, contexts: Contexts) -> None:
    house.live.transition(transition(at_s=0, severity=2, threshold=1.5))
    page = open_page(browser, contexts, house.server.url)
    log_in(page, "viewer")
    expect(page.locator(".alarm")).to_be_visible()
    assert page.locator(".acknowledge").count() == 0
    expect(page.locator(".who-link")).to_contain_text("Viewer")


def test_a_new_password_logs_the_other_screen_out(browser: Browser, house: House, contexts: Contexts) -> None:
    screen = open_page(browser, contexts, house.server.url)
    log_in(screen, "operator")
    expect(screen.locator(".strip")).to_be_visible()
    phone = open_page(browser, contexts, f"{house.server.url}/account", **PHONE)
    log_in(phone, "operator")
    expect(phone.locator("h1")).to_have_text("Akun saya")
    assert fits(phone)
    phone.fill('[name="old"]', "wrong wrong wrong")
    phone.fill('[name="new"]', OTHER)
    phone.get_by_role("button", name="Ganti kata sandi").click()
    expect(phone.get_by_role("alert")).to_contain_text("Kata sandi sekarang salah")
    phone.fill('[name="old"]', PASSWORD)
    phone.get_by_role("button", name="Ganti kata sandi").click()
    expect(phone.get_by_role("status")).to_contain_text("Kata sandi sudah diganti")
    # Its stream ends within seconds, and the login comes.
    expect(screen).to_have_url(re.compile("/login"), timeout=15_000)
    phone.get_by_role("button", name="Keluar").click()
    expect(phone).to_have_url(re.compile("/login$"))


def test_the_administrator_makes_an_account_and_a_token(browser: Browser, house: House, contexts: Contexts) -> None:
    page = open_page(browser, contexts, f"{house.server.url}/accounts")
    log_in(page, "administrator")
    account = page.get_by_role("form", name="Akun baru")
    account.locator('[name="login"]').fill("budi")
    account.locator('[name="name"]').fill("Budi Santoso")
    account.locator('[name="role"]').select_option("technician")
    account.get_by_role("button").click()
    temporary = page.locator("dialog .secret").inner_text()
    page.get_by_role("button", name="Selesai").click()
    line = page.locator('[data-account="budi"]')
    expect(line).to_contain_text("kata sandi sementara")

    fresh = open_page(browser, contexts, house.server.url, **PHONE)
    log_in(fresh, "budi", temporary)
    expect(fresh.locator(".notice")).to_contain_text("sementara")
    fresh.fill('[name="old"]', temporary)
    fresh.fill('[name="new"]', OTHER)
    fresh.get_by_role("button", name="Ganti kata sandi").click()
    expect(fresh.locator(".strip")).to_be_visible()

    token = page.get_by_role("form", name="Token baru")
    token.locator('[name="label"]').fill("layar dinding")
    token.locator('[name="account"]').select_option("viewer")
    expect(token.locator('[type="checkbox"]')).to_have_count(1)  # a viewer's token may only look
    token.get_by_role("button").click()
    assert page.locator("dialog .secret").inner_text().startswith("pantau_")
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)
    page.get_by_role("button", name="Cabut token layar dinding").click()
    page.get_by_role("button", name="Ya", exact=True).click()
    expect(page.locator("[data-token]")).to_contain_text("dicabut")

    line.get_by_role("combobox").select_option("viewer")
    expect(page.locator(".log")).to_contain_text("role: viewer")
    line.get_by_role("button", name="Nonaktifkan").click()
    page.get_by_role("button", name="Ya", exact=True).click()
    expect(line).to_contain_text("dinonaktifkan")
    expect(fresh).to_have_url(re.compile("/login"), timeout=15_000)
    assert page.locator('[data-account="administrator"]').get_by_role("button", name="Nonaktifkan").count() == 0


CONTRAST = """() => {
  const rgb = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return { r, g, b, a }; };
  const channel = (c) => { c /= 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
  const luminance = ({ r, g, b }) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const c = rgb(getComputedStyle(node).backgroundColor);
      if (c.a > 0) return c;
    }
    return rgb("rgb(255,255,255)");
  };
  const low = [];
  for (const node of document.querySelectorAll("#page *")) {
    const text = [...node.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!text && node.tagName !== "INPUT") continue;
    if (node.closest(":disabled") || !node.getClientRects().length) continue;
    const style = getComputedStyle(node);
    const [a, b] = [luminance(rgb(style.color)), luminance(ground(node))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) low.push(`${node.tagName} ${node.textContent.slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return low;
}"""
"""Texts whose contrast is below 4.5 : 1 (WCAG 2.2, 1.4.3), by the formula of its definition of contrast ratio."""

NAMELESS = """() => [...document.querySelectorAll("button, input:not([type=hidden]), select, a")]
  .filter((n) => n.getClientRects().length && !n.closest("[aria-hidden=true]") && !n.matches("[aria-hidden=true]"))
  .filter((n) => !(n.getAttribute("aria-label") || n.textContent.trim() || n.labels?.length))
  .map((n) => n.outerHTML.slice(0, 100))"""
SMALL = """() => [...document.querySelectorAll("button, select, a.button, input.field, label.choice")]
  .filter((n) => n.getClientRects().length && n.getBoundingClientRect().height < 44)
  .map((n) => n.outerHTML.slice(0, 100))"""
"""What a thumb may miss: lower than 44 pixels (WCAG 2.2, 2.5.5)."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/login", "/account", "/accounts"])
def test_everything_can_be_read_named_and_hit(
    browser: Browser, house: House, contexts: Contexts, path: str, scheme: str
) -> None:
    page = open_page(browser, contexts, f"{house.server.url}{path}", color_scheme=scheme, **PHONE)
    if path != "/login":
        log_in(page, "administrator")
        expect(page.locator("h1")).to_have_text(re.compile("^Akun"))
    if path == "/accounts":
        expect(page.locator(".log")).to_be_visible()
    if path == "/login":
        log_in(page, "administrator", "wrong")
        expect(page.locator(".alert")).to_be_visible()
    assert page.evaluate(CONTRAST) == []
    assert page.evaluate(NAMELESS) == []
    assert page.evaluate(SMALL) == []
    assert fits(page)
