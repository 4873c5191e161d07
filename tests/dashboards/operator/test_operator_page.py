"""The page in a real browser: what the operator sees, and how soon."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from dashboards.operator.api import operator_app
from dashboards.operator.health import AccountHour, BrokerStatus, HealthStatus, StoreStatus
from dashboards.operator.live import LiveCity
from telemetry.alarms import Acknowledge, AlarmKind, AlarmState
from telemetry.observations import Observations
from telemetry.quality import FAIL, SUSPECT
from tests.dashboards.operator.operator_city import COUNTER, GAUGE, LEVEL, RAIN, T0, S, readings, small_city, transition
from tests.real_parts.chromium import CHROMIUM, chromium
from web.access import OpenHouse
from web.server import Server, serve

pytestmark = pytest.mark.browser

ALARM = f"level:dayeuhkolot.level:{T0}"


class Feeder:
    """Plays the runtime: moves the clock on, and answers acknowledgements."""

    def __init__(self) -> None:
        self.live = LiveCity()
        self.live.set_directory(small_city())
        self.live.set_acknowledge(self.acknowledge)
        self.live.set_series_source(self.series)
        hour = AccountHour(T0 // (3600 * S) * 3600 * S, 1, 60.0, 12, 1, 0, 2, 10, 1, 49)
        self.account: dict[str, Any] = {"received": 1200, "duplicate": 1, "stored": 1198, "waiting": 1}
        self.account |= {"refused": {"wrong_unit": 2}, "expected": 1260.0, "missing": 61, "hours": (hour,)}
        self.live.set_account_source(lambda device: self.account)
        self.now = T0 + 600 * S
        self.kept: list[Observations] = []
        self.comments: list[str] = []
        self.server: Server | None = None
        self.tell()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def serve(self, port: int = 0) -> Server:
        self.server = serve(operator_app(self.live, version="test", identify=OpenHouse()), "127.0.0.1", port)
        return self.server

    def tell(self, *, connected: bool = True, store_ok: bool = True, since_ns: int = T0) -> None:
        self.live.set_clock("broker", self.now, 60.0)
        self.live.set_health(
            HealthStatus(
                messages=100,
                messages_per_s=12.5,
                refused_by_reason={"bad unit": 4},
                duplicates=2,
                brokers=(BrokerStatus("utama", connected, since_ns),),
                store=StoreStatus("embedded", store_ok, 0 if store_ok else 700, "" if store_ok else "disk full"),
            )
        )

    def observe(self, part: Observations) -> None:
        self.kept.append(part)
        self.live.observe(part)

    def series(self, datastream: str, start: int, end: int, points: int) -> Observations:
        stream = [d.id for d in self.live.directory.datastreams].index(datastream)
        whole = Observations.concat(self.kept)
        return whole.take((whole.datastream == stream) & (whole.observed_at >= start) & (whole.observed_at < end))

    def acknowledge(self, order: Acknowledge, comment: str) -> None:
        self.comments.append(comment)
        alarm = next(a for a in self.live.book.open.values() if a.key == (order.kind, order.subject, order.raised_at))
        self.live.transition(
            transition(
                at_s=(max(order.at, alarm.changes[-1].at + S) - T0) / S,  # as the core: after the last change
                kind=order.kind,
                subject=order.subject,
                raised_s=(order.raised_at - T0) / S,
                severity=alarm.severity,
                state=AlarmState.ACKNOWLEDGED,
                threshold=alarm.threshold,
            )
        )

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        if self.server is not None and self.server.alive:
            self.server.stop()

    def _run(self) -> None:
        while not self._stop.wait(0.2):
            self.now += 12 * S  # 60 times real time
            self.live.set_clock("broker", self.now, 60.0)


@dataclass
class Seen:
    """What the browser did besides showing the page."""

    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    ignore: str = ""

    def problems(self) -> list[str]:
        return [m for m in self.messages if not (self.ignore and re.search(self.ignore, m))]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip("no chromium")
    with chromium() as started:
        yield started


@pytest.fixture
def feeder() -> Iterator[Feeder]:
    found = Feeder()
    found.serve()
    yield found
    found.close()


def open_page(browser: Browser, url: str, **options: Any) -> tuple[BrowserContext, Page, Seen]:
    context = browser.new_context(
        **({"viewport": {"width": 1920, "height": 1080}, "locale": "id-ID", "color_scheme": "dark"} | options)
    )
    page = context.new_page()
    seen = Seen()
    page.on(
        "console", lambda m: seen.messages.append(f"{m.type}: {m.text}") if m.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda e: seen.messages.append(f"error: {e}"))
    page.on("request", lambda r: seen.requests.append(r.url))
    page.goto(url)
    page.wait_for_selector(".strip", timeout=10_000)
    return context, page, seen


@pytest.fixture
def opened(browser: Browser, feeder: Feeder) -> Iterator[tuple[Page, Seen]]:
    """The page, which at the end must have asked nobody else and complained about nothing."""
    assert feeder.server is not None
    context, page, seen = open_page(browser, feeder.server.url)
    yield page, seen
    context.close()
    assert seen.problems() == []
    foreign = [u for u in seen.requests if not u.startswith((feeder.server.url, "data:"))]
    assert foreign == []


def test_a_quiet_city_says_so(opened: tuple[Page, Seen]) -> None:
    page, _ = opened
    expect(page.locator(".worst")).to_contain_text("Tidak ada alarm")
    expect(page.locator(".alarms .none")).to_contain_text("2 lokasi dipantau")
    expect(page.locator(".simulation")).to_have_text("Simulasi 60×")
    expect(page.locator(".zone")).to_have_text("WIB")
    expect(page.locator(".open-notice")).to_contain_text("Tanpa akun: siapa pun yang memakai komputer ini")
    expect(page.locator(".health")).to_contain_text("utama terhubung")
    expect(page.locator(".health")).to_contain_text("13 pesan/detik")


def test_an_alarm_climbs_and_returns(opened: tuple[Page, Seen], feeder: Feeder) -> None:
    page, _ = opened
    feeder.observe(readings(LEVEL, 600, 1.21))
    feeder.live.transition(transition(at_s=600, raised_s=600, severity=1))
    line = page.locator(".alarm")
    expect(line).to_have_count(1)
    expect(line).to_contain_text("Dayeuhkolot")
    expect(line).to_contain_text("Tinggi muka air · Siaga 3")
    expect(line).to_contain_text("1,21")
    expect(line).to_contain_text("batas 1,00")
    expect(line).to_contain_text("sejak 18:30")
    expect(page.locator(".worst")).to_have_class(re.compile("waspada"))
    feeder.live.transition(transition(at_s=700, raised_s=600, severity=3, value=2.2, threshold=2.0))
    expect(page.locator(".worst")).to_contain_text("Awas")
    expect(page.locator(".count.awas b")).to_have_text("1")
    expect(page).to_have_title(re.compile("AWAS"))
    feeder.live.transition(
        transition(at_s=800, raised_s=600, severity=0, state=AlarmState.RETURNED_UNACKNOWLEDGED, peak=2.2)
    )
    expect(page.locator(".alarm.over")).to_contain_text("puncak 2,20")
    expect(page.locator(".worst")).to_contain_text("Tidak ada alarm")
    feeder.live.transition(transition(at_s=900, raised_s=600, severity=0, state=AlarmState.NORMAL, peak=2.2))
    expect(line).to_have_count(0)
    expect(page.locator(".recent li")).to_contain_text("Awas · Tinggi muka air · puncak 2,20")


def test_alarms_stand_in_order_of_urgency(opened: tuple[Page, Seen], feeder: Feeder) -> None:
    page, _ = opened
    feeder.live.transition(transition(at_s=0, severity=3, threshold=2.0, state=AlarmState.ACKNOWLEDGED))
    feeder.live.transition(transition(at_s=5, raised_s=5, severity=1, subject=1, threshold=10.0))
    feeder.live.transition(
        transition(at_s=9, raised_s=9, severity=1, kind=AlarmKind.SILENCE, subject=GAUGE, value=600, threshold=600)
    )
    expect(page.locator(".events .alarm")).to_have_count(2)
    # Unacknowledged comes before acknowledged, even if that is worse.
    expect(page.locator(".events .alarm .site")).to_have_text(["Jl. Dago <b>&", "Dayeuhkolot"])
    expect(page.locator(".jobs .job")).to_have_count(1)
    expect(page.locator(".jobs .job")).to_contain_text("diam")
    expect(page.locator(".count.jobs b")).to_have_text("1")


def test_a_device_that_told_its_death_is_not_just_silent(opened: tuple[Page, Seen], feeder: Feeder) -> None:
    page, _ = opened
    feeder.live.transition(
        transition(at_s=0, severity=1, kind=AlarmKind.SILENCE, subject=GAUGE, value=120, threshold=0)
    )
    feeder.live.transition(
        transition(at_s=60, raised_s=60, severity=1, kind=AlarmKind.SILENCE, subject=COUNTER, value=0, threshold=0)
    )
    told, never = (page.locator(".jobs .job", has_text=name).locator(".text") for name in ("gauge-1", "loop-1"))
    expect(told).to_have_text(re.compile(r"^melapor mati 1\d mnt lalu · terakhir 18:18$"))
    expect(never).to_have_text(re.compile(r"^melapor mati \d+ mnt lalu$"))  # it has never sent before
    page.get_by_role("button", name="English").click()
    expect(told).to_have_text(re.compile(r"^reported offline 1\d min ago · last 18:18$"))


def test_acknowledging_does_not_shorten_a_silence(opened: tuple[Page, Seen], feeder: Feeder) -> None:
    page, _ = opened
    silence: dict[str, Any] = {
        "severity": 1,
        "kind": AlarmKind.SILENCE,
        "subject": GAUGE,
        "value": 600,
        "threshold": 600,
    }
    feeder.live.transition(transition(at_s=0, **silence))
    text = page.locator(".jobs .job .text")
    expect(text).to_have_text(re.compile(r"^diam 2\d mnt · terakhir 18:10$"))
    feeder.live.transition(transition(at_s=600, state=AlarmState.ACKNOWLEDGED, **silence))
    expect(page.locator(".jobs .job.acknowledged")).to_have_count(1)
    expect(text).to_have_text(re.compile(r"^diam 2\d mnt · terakhir 18:10$"))


def test_a_lost_broker_is_one_job_in_plain_words(opened: tuple[Page, Seen], feeder: Feeder) -> None:
    page, _ = opened
    feeder.live.set_directory(feeder.live.directory.with_brokers(("utama", "cadangan")))
    feeder.live.transition(
        transition(at_s=30, raised_s=30, severity=2, kind=AlarmKind.BROKER, subject=1, value=30, threshold=30)
    )
    job = page.locator(".jobs .job")
    expect(job).to_have_count(1)
    expect(job.locator(".site")).to_have_text("Broker cadangan")
    expect(job).to_contain_text("alatnya tidak dapat didengar")
    expect(job).to_contain_text("terputus")
    expect(page.locator(".count.jobs b")).to_have_text("1")
    expect(page.locator(".worst")).to_contain_text("Tidak ada alarm")
    job.locator(".acknowledge").click()
    expect(page.locator("dialog .ask-what")).to_contain_text("Broker cadangan")
    page.locator("dialog [name=by]").fill("Siti")
    page.keyboard.press("Enter")
    expect(job).to_contain_text("diakui Siti")
    page.get_by_role("button", name="English").click()
    expect(job).to_contain_text("its devices can't be heard")


def test_acknowledging(opened: tuple[Page, Seen], feeder: Feeder) -> None:
    page, _ = opened
    feeder.live.transition(transition(at_s=0, severity=2, threshold=1.5))
    page.locator(".acknowledge").click()
    expect(page.locator("dialog button.main")).to_be_disabled()
    page.locator("dialog [name=by]").fill("Siti")
    page.locator("dialog [name=comment]").fill("petugas berangkat")
    page.keyboard.press("Enter")
    expect(page.locator(".alarm.acknowledged")).to_contain_text("diakui Siti")
    expect(page.locator(".alarm.acknowledged")).to_contain_text("petugas berangkat")
    assert feeder.comments == ["petugas berangkat"]
    # The line is as wide as before: its name is still there to read.
    assert page.locator(".alarm.acknowledged .site").evaluate("(n) => n.getBoundingClientRect().width") > 90
    # It gets worse; this time the name is remembered, and Enter is enough.
    feeder.live.transition(transition(at_s=7200, severity=3, threshold=2.0))
    page.locator(".acknowledge").click()
    expect(page.locator("dialog [name=by]")).to_have_value("Siti")
    page.keyboard.press("Enter")
    expect(page.locator(".alarm.acknowledged")).to_contain_text("diakui Siti")
    expect(page.locator("dialog")).to_have_count(0)


def test_a_failed_acknowledgement_is_said(opened: tuple[Page, Seen], feeder: Feeder) -> None:
    page, seen = opened
    seen.ignore = "409"
    feeder.live.transition(transition(at_s=0, severity=2, threshold=1.5))
    page.locator(".acknowledge").click()
    page.locator("dialog [name=by]").fill("Siti")
    alarm = next(iter(feeder.live.book.open.values()))
    alarm.state = AlarmState.ACKNOWLEDGED  # somebody else was faster; the page has not heard yet
    page.locator("dialog button.main").click()
    expect(page.locator("dialog [role=alert]")).to_contain_text("already acknowledged")


def test_the_site_panel_shows_charts_with_thresholds_and_doubts(opened: tuple[Page, Seen], feeder: Feeder) -> None:
    page, _ = opened
    at = np.arange(-3000, 600, 60)
    feeder.observe(readings(LEVEL, at.tolist(), (1.0 + at / 6000).tolist()))
    feeder.observe(readings(LEVEL, 600, 1.6, flag=SUSPECT))
    feeder.observe(readings(LEVEL, 610, 7.0, flag=FAIL))
    feeder.live.transition(transition(at_s=600, severity=1))
    page.locator(".alarm .site").click()
    panel = page.locator(".site-panel")
    expect(panel.locator("h2")).to_have_text("Dayeuhkolot")
    expect(panel.locator(".chart canvas")).to_have_count(2)  # level and rain; the battery has no chart
    expect(panel.locator(".flag").first).to_have_text("gagal")
    expect(panel.locator(".chart").first).to_contain_text("○ diragukan")
    expect(panel.locator(".chart").first).to_contain_text("× gagal")
    # The threshold lines are in the picture: pixels in the colours of the severities, along whole rows.
    for colour in ("#ffd84a", "#ffa94d"):
        assert longest_row(page, ".chart canvas", colour) > 100, colour
    for label in ("1 jam", "24 jam", "7 hari"):
        panel.get_by_role("button", name=label).click()
        expect(panel.get_by_role("button", name=label)).to_have_attribute("aria-pressed", "true")
        expect(panel.locator(".chart canvas")).to_have_count(2)
    account = panel.locator("p.account").first
    expect(account).to_contain_text("Diterima 1.200 = ganda 1 + disimpan 1.198 + menunggu 1; ditolak 2, terlambat 0.")
    expect(account).to_contain_text("Neracanya seimbang. Belum datang 61 dari 1.260 yang seharusnya.")
    hours = panel.locator("details.account").first
    hours.locator("summary").click()
    expect(hours.locator("tbody tr")).to_have_count(1)
    expect(hours.locator("tbody td")).to_have_text(["60", "12", "49", "1", "0", "2", "10", "1"])
    page.keyboard.press("Escape")
    expect(panel).to_have_count(0)


def longest_row(page: Page, selector: str, colour: str) -> int:
    """Largest number of pixels of about this colour in one row of a canvas."""
    return int(
        page.locator(selector).first.evaluate(
            """(canvas, colour) => {
              const want = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
              const { width, height } = canvas;
              const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
              copy.drawImage(canvas, 0, 0);
              const { data } = copy.getImageData(0, 0, width, height);
              let most = 0;
              for (let y = 0; y < height; y++) {
                let n = 0;
                for (let x = 0; x < width; x++) {
                  const i = 4 * (y * width + x);
                  if (data[i + 3] > 100 && want.every((w, k) => Math.abs(w - data[i + k]) < 25)) n += 1;
                }
                most = Math.max(most, n);
              }
              return most;
            }""",
            colour,
        )
    )


def test_a_value_is_on_the_screen_within_two_seconds(opened: tuple[Page, Seen], feeder: Feeder) -> None:
    page, _ = opened
    feeder.observe(readings(LEVEL, 600, 1.2))
    feeder.live.transition(transition(at_s=600, severity=1))
    page.locator(".alarm .site").click()
    expect(page.locator(".site-panel .newest .value").first).to_contain_text("1,20")
    # The page itself notes when the value appears; both clocks are this machine's.
    page.evaluate(
        """() => {
          window.shown = new Promise((done) => {
            new MutationObserver(() => {
              const text = document.querySelector(".site-panel .newest .value").textContent;
              if (text.startsWith("1,87")) done(Date.now());
            }).observe(document.body, { subtree: true, childList: true, characterData: true });
          });
        }"""
    )
    sent = page.evaluate("() => Date.now()")
    feeder.observe(readings(LEVEL, 700, 1.87))
    shown = page.evaluate("() => window.shown")
    assert shown - sent < 2000
    expect(page.locator(".alarm .value")).to_contain_text("1,87")


def test_a_lost_connection_is_unmissable_and_heals(browser: Browser, feeder: Feeder) -> None:
    assert feeder.server is not None
    url, port = feeder.server.url, feeder.server.port
    context, page, _ = open_page(browser, url)
    feeder.live.transition(transition(at_s=0, severity=2, threshold=1.5))
    expect(page.locator(".alarm")).to_have_count(1)
    feeder.server.stop()
    expect(page.locator(".trouble.gone")).to_contain_text("Koneksi terputus", timeout=9000)
    expect(page.locator(".page")).to_have_class(re.compile("lost"))
    assert "grayscale" in page.locator(".body").evaluate("(n) => getComputedStyle(n).filter")
    # Meanwhile the alarm got worse; the page that returns knows it.
    feeder.live.transition(transition(at_s=60, severity=3, threshold=2.0))
    feeder.serve(port)
    expect(page.locator(".trouble")).to_have_count(0, timeout=9000)
    expect(page.locator(".alarm.awas")).to_have_count(1)
    context.close()


def test_the_pipelines_own_troubles_are_said(opened: tuple[Page, Seen], feeder: Feeder) -> None:
    page, _ = opened
    feeder.tell(connected=False, store_ok=False)
    expect(page.locator(".trouble")).to_contain_text("Broker utama terputus sejak 18:20")
    expect(page.locator(".trouble")).to_contain_text("Penyimpanan gagal: 700 baris menunggu")
    # "No alarms" must not claim more than is known.
    expect(page.locator(".none")).to_contain_text("tidak sepenuhnya diketahui")
    feeder.tell(connected=False, since_ns=0)
    expect(page.locator(".trouble")).to_contain_text("Broker utama tidak terhubung")
    feeder.tell()
    expect(page.locator(".trouble")).to_have_count(0)


def test_no_data_at_all_is_said(browser: Browser, feeder: Feeder) -> None:
    assert feeder.server is not None
    context, page, _ = open_page(browser, feeder.server.url)
    feeder.observe(readings(LEVEL, 600, 1.2))
    feeder.tell()
    expect(page.locator(".health")).to_contain_text("utama terhubung")
    expect(page.locator(".trouble")).to_have_count(0)
    # 600 s of allowed silence at 60 times real time are 10 s, but never less than a minute.
    feeder.live._heard_at = feeder.live._monotonic() - 61
    feeder.tell()
    expect(page.locator(".trouble")).to_contain_text("Tidak ada data masuk sejak 1 mnt lalu")
    feeder.observe(readings(LEVEL, 700, 1.2))
    feeder.tell()
    expect(page.locator(".trouble")).to_have_count(0)
    context.close()


def test_a_clock_that_stands_still_is_said(browser: Browser, feeder: Feeder) -> None:
    assert feeder.server is not None
    feeder._stop.set()
    feeder._thread.join()
    feeder.live._clock_moved_at -= 9
    context, page, _ = open_page(browser, feeder.server.url)
    expect(page.locator(".trouble")).to_contain_text("Jam sistem tidak bergerak", timeout=9000)
    context.close()


def test_both_languages(browser: Browser, feeder: Feeder) -> None:
    assert feeder.server is not None
    for locale, text in (("id-ID", "Tidak ada alarm"), ("en-US", "No alarms"), ("fr-FR", "Tidak ada alarm")):
        context, page, seen = open_page(browser, feeder.server.url, locale=locale)
        expect(page.locator(".worst")).to_contain_text(text)
        assert seen.problems() == []
        context.close()
    context, page, _ = open_page(browser, feeder.server.url)
    page.get_by_role("button", name="English").click()
    expect(page.locator(".worst")).to_contain_text("No alarms")
    page.reload()  # remembered
    expect(page.locator(".worst")).to_contain_text("No alarms")
    expect(page.locator("html")).to_have_attribute("lang", "en")
    context.close()


# Colour pairs of text on ground, as the style sheet uses them. Large, bold words need 3:1, all others 4.5:1 (WCAG AA).
TEXT_PAIRS = [
    ("text", "bg"),
    ("text", "surface"),
    ("text", "raised"),
    ("muted", "bg"),
    ("muted", "surface"),
    ("muted", "raised"),
    ("place", "surface"),
    ("silence", "surface"),
    ("silence", "raised"),
    ("waspada-ink", "waspada"),
    ("siaga-ink", "siaga"),
    ("awas-ink", "awas"),
    ("waspada-text", "surface"),
    ("siaga-text", "surface"),
    ("awas-text", "surface"),
    ("waspada-text", "raised"),
    ("siaga-text", "raised"),
    ("awas-text", "raised"),
    ("shout-ink", "shout"),
]
SHAPE_PAIRS = [("faint", "surface"), ("focus", "surface"), ("strong-line", "surface"), ("strong-line", "bg")]


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.1)."""
    parts = [int(colour.strip()[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_both_themes_have_contrast(browser: Browser, feeder: Feeder, scheme: str) -> None:
    assert feeder.server is not None
    context, page, _ = open_page(browser, feeder.server.url, color_scheme=scheme)
    expect(page.locator("html")).to_have_attribute("data-theme", scheme)

    def colour(name: str) -> str:
        return str(page.evaluate(f"() => getComputedStyle(document.documentElement).getPropertyValue('--{name}')"))

    weak = {p: round(contrast(colour(p[0]), colour(p[1])), 2) for p in TEXT_PAIRS}
    assert {p: c for p, c in weak.items() if c < 4.5} == {}
    shapes = {p: round(contrast(colour(p[0]), colour(p[1])), 2) for p in SHAPE_PAIRS}
    assert {p: c for p, c in shapes.items() if c < 3.0} == {}
    other = "light" if scheme == "dark" else "dark"
    page.locator(".theme").click()
    expect(page.locator("html")).to_have_attribute("data-theme", other)
    page.reload()  # remembered
    expect(page.locator("html")).to_have_attribute("data-theme", other)
    context.close()


def test_the_keyboard_is_enough(opened: tuple[Page, Seen], feeder: Feeder) -> None:
    page, _ = opened
    feeder.live.transition(transition(at_s=0, severity=2, threshold=1.5))
    expect(page.locator(".alarm")).to_have_count(1)
    page.keyboard.press("/")
    page.keyboard.type("dago")
    expect(page.locator("#search-found li")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page.locator(".site-panel h2")).to_have_text("Jl. Dago <b>&")  # a name is text, never markup
    page.keyboard.press("Escape")
    expect(page.locator(".site-panel")).to_have_count(0)
    page.locator(".alarm .acknowledge").focus()
    page.keyboard.press("Enter")
    page.keyboard.type("Siti")
    page.keyboard.press("Enter")
    expect(page.locator(".alarm.acknowledged")).to_have_count(1)


def test_a_click_on_the_map_opens_the_site(opened: tuple[Page, Seen], feeder: Feeder) -> None:
    page, _ = opened
    feeder.live.transition(transition(at_s=0, severity=3, threshold=2.0))
    expect(page.locator(".alarm.awas")).to_have_count(1)
    page.wait_for_function(
        """() => {
          const canvas = document.querySelector(".site-canvas.loud");
          const { data, width, height } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          let x = 0, y = 0, n = 0;
          for (let i = 0; i < data.length; i += 4) {
            if (data[i] > 200 && data[i + 1] < 70 && data[i + 2] < 80 && data[i + 3] > 200) {
              n += 1; x += (i / 4) % width; y += Math.floor(i / 4 / width);
            }
          }
          window.red = n > 100 ? [x / n, y / n] : null;
          return window.red;
        }"""
    )
    x, y = page.evaluate("() => window.red")
    page.locator(".map-canvas").click(position={"x": x, "y": y})
    expect(page.locator(".site-panel h2")).to_have_text("Dayeuhkolot")


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (1366, 768), (390, 844)])
def test_nothing_sticks_out_sideways(browser: Browser, feeder: Feeder, width: int, height: int) -> None:
    assert feeder.server is not None
    feeder.observe(readings(LEVEL, 600, 1.2))
    feeder.live.transition(transition(at_s=0, severity=3, threshold=2.0))
    feeder.live.transition(
        transition(at_s=9, raised_s=9, severity=1, kind=AlarmKind.SILENCE, subject=GAUGE, value=600, threshold=600)
    )
    context, page, _ = open_page(browser, feeder.server.url, viewport={"width": width, "height": height})
    expect(page.locator(".alarm")).to_have_count(1)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    for selector in (".alarm > *", ".strip > *", ".job > *"):
        right = page.locator(selector).evaluate_all("(l) => Math.max(...l.map((n) => n.getBoundingClientRect().right))")
        assert right <= width, selector
    context.close()


def blue_pixels(page: Page) -> int:
    """How much of the map's foremost canvas is as blue as --rain (#4aa8ff in the dark)."""
    return int(
        page.evaluate(
            """() => {
              const drawn = document.querySelector("canvas.loud");
              const pen = new OffscreenCanvas(drawn.width, drawn.height).getContext("2d", { willReadFrequently: true });
              pen.drawImage(drawn, 0, 0);
              const { data } = pen.getImageData(0, 0, drawn.width, drawn.height);
              const far = (i) => Math.abs(data[i] - 74) + Math.abs(data[i + 1] - 168) + Math.abs(data[i + 2] - 255);
              let n = 0;
              for (let i = 0; i < data.length; i += 4) n += data[i + 3] > 200 && far(i) < 40;
              return n;
            }"""
        )
    )


def test_rain_is_seen_to_arrive_and_to_end(opened: tuple[Page, Seen], feeder: Feeder) -> None:
    page, _ = opened
    line = page.locator(".rain-line")
    expect(page.locator(".rain-legend")).to_contain_text("1 · 5 · 10 · 20 mm/jam")
    expect(line).to_have_text("Hujan belum diketahui")
    start = (feeder.now - T0) / S

    def minutes(first: int, count: int, depth: float) -> None:
        feeder.observe(readings(RAIN, [start + 60.0 * m for m in range(first, first + count)], depth))

    minutes(-20, 11, 0.0)  # its newest reading is ten minutes old
    expect(line).to_contain_text("Tidak hujan")
    expect(line).to_contain_text("(1 pos hujan)")
    assert blue_pixels(page) == 0
    minutes(-9, 10, 0.7)  # 7 mm in 10 min
    expect(line).to_contain_text("Hujan sangat lebat 42 mm/jam")
    expect(line).to_contain_text("Dayeuhkolot")
    expect(line).to_contain_text("(hujan di 1 dari 1 pos hujan)")
    expect(page.locator(".worst")).to_contain_text("Tidak ada alarm")  # rain is no alarm
    page.wait_for_timeout(1500)  # the map draws it within a second
    drop = blue_pixels(page)
    assert drop > 300  # a drop of radius 13, and its figure
    line.locator(".site").click()
    panel = page.locator(".stream", has_text="Hujan").filter(has=page.locator(".chart"))
    expect(panel.locator(".rain-now")).to_contain_text("Hujan sangat lebat 42 mm/jam (10 menit terakhir)")
    expect(panel.locator(".chart-note")).to_contain_text("mm tiap pembacaan")
    page.keyboard.press("Escape")
    page.locator(".switches button").first.click()
    expect(line).to_contain_text("Very heavy rain 42 mm/h")
    expect(line).to_contain_text("(raining at 1 of 1 rain gauges)")
    minutes(1, 10, 0.0)
    expect(line).to_contain_text("No rain")
    page.wait_for_timeout(1500)
    assert blue_pixels(page) == 0


def test_an_account_that_does_not_balance_says_so(opened: tuple[Page, Seen], feeder: Feeder) -> None:
    page, _ = opened
    feeder.account = {"received": 10, "stored": 7, "unaccounted": 3}
    feeder.live.transition(transition(at_s=600, severity=1))
    page.locator(".alarm .site").click()
    expect(page.locator("p.account .unbalanced").first).to_contain_text("Selisih 3")
    expect(page.locator("details.account")).to_have_count(0)
