"""The technician's page in a phone's browser, against the real broker and the real pipeline."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

import devices.watch
from devices.entities import DeviceState
from tests.devices.broker_user import NOT_AUTHORIZED, BrokerUser
from tests.devices.phone import (
    FAKE_CAMERA,
    City,
    Network,
    Phone,
    big_png,
    city,
    jpeg_size,
    phone,
    plain,
    reading,
)
from tests.real_parts.chromium import CHROMIUM, chromium

pytestmark = [pytest.mark.browser, pytest.mark.mosquitto]

WORDS: dict[str, dict[str, str]] = {
    "id": {
        "waiting": "Menunggu pesan pertama…",
        "first": "Pembacaan pertama diterima",
        "good": "mutu baik",
        "signal": "Sinyal −97 dBm",
        "battery": "Baterai 3,60 V",
        "value": "1,24 m",
        "silence": "Belum ada pesan.",
        "refused": "Kredensial ditolak",
        "format": "Format pesan tidak dikenal",
        "clock": "Jam alat 7 jam lebih cepat",
        "local": "Mungkin waktu setempat",
        "range": "Tinggi muka air di luar rentang: 99,00 m",
        "mount": "Periksa dudukan",
    },
    "en": {
        "waiting": "Waiting for the first message…",
        "first": "First reading received",
        "good": "quality good",
        "signal": "Signal −97 dBm",
        "battery": "Battery 3.60 V",
        "value": "1.24 m",
        "silence": "No message yet.",
        "refused": "Credentials refused",
        "format": "Unknown message format",
        "clock": "Device clock 7 h ahead",
        "local": "Probably local time",
        "range": "Water level outside range: 99.00 m",
        "mount": "Check the mount",
    },
}
LOCALES = {"id": "id-ID", "en": "en-GB"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.fail("these tests need Debian's chromium")
    with chromium(FAKE_CAMERA) as started:
        yield started


@pytest.fixture(scope="module")
def running_city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[City]:
    with city(tmp_path_factory.mktemp("city")) as found:
        yield found


def fill_in(p: Phone, serial: str, *, site: str = "Jembatan Dago") -> None:
    """The whole form, as one does who does not trust what is chosen already."""
    p.type(p.page.locator("#serial"), serial, "serial")
    p.tap(p.page.locator(".choice:has(input[value=generic-river-level])"), "model")
    p.tap(p.page.locator(f'.choice:has-text("{site}")'), "site")


def registered(p: Phone, serial: str) -> dict[str, str]:
    """Fill in and save; gives what the page shows of the login."""
    fill_in(p, serial)
    p.tap(p.page.locator(".save .big"), "save")
    p.page.wait_for_selector(".credentials", timeout=20_000)
    return p.credentials()


def live(p: Phone, *words: str, timeout: float = 15_000) -> None:
    """The live panel says all of this."""
    until = time.monotonic() + timeout / 1000
    while True:
        text = plain(p.page.locator(".live").inner_text())
        if all(w in text for w in words):
            return
        assert time.monotonic() < until, f"the panel says {text!r}, not {words}"
        p.page.wait_for_timeout(100)


def known_to_pipeline(found: City, device: str) -> None:
    until = time.monotonic() + 5
    while not found.pipeline.watch.knows(device):
        assert time.monotonic() < until
        time.sleep(0.05)


def ask(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


@pytest.mark.parametrize("language", ["id", "en"])
def test_from_opening_the_page_to_the_first_reading_in_at_most_eight_interactions(
    browser: Browser, running_city: City, language: str
) -> None:
    words = WORDS[language]
    begun = time.monotonic()
    with phone(browser, running_city.url, locale=LOCALES[language]) as p:
        login = registered(p, f"FIRST-{language}")
        live(p, words["waiting"])
        saved = time.monotonic()
        known_to_pipeline(running_city, f"FIRST-{language}")
        assert time.monotonic() - saved < 2.0
        with running_city.device(login) as device:
            assert device.publish(login["topic"], reading()) == 0
            live(p, words["first"], words["value"], words["good"], words["signal"], words["battery"])
        assert len(p.interactions) <= 8, p.interactions
        assert time.monotonic() - begun < 60.0
        assert p.complaints == []
        assert p.page.evaluate("document.documentElement.dataset.theme") == "light"


def test_a_new_site_is_where_the_phone_is_or_where_the_pin_is_set(browser: Browser, running_city: City) -> None:
    registry = running_city.pipeline.registry
    with phone(browser, running_city.url) as p:
        p.type(p.page.locator("#serial"), "NEW-1", "serial")
        p.tap(p.page.locator(".choice:has(input[value=generic-rain-gauge])"), "model")
        p.tap(p.page.locator('.tabs3 button:has-text("Lokasi baru")'), "new site")
        p.type(p.page.locator(".labelled input"), "Taman Ganesha", "name")
        p.tap(p.page.locator(".save .big"), "save")
        p.page.wait_for_selector(".credentials", timeout=20_000)
        assert len(p.interactions) <= 8 - 1, p.interactions
        where = registry.device("NEW-1")
        assert where is not None and where.site is not None
        assert (where.site.name, where.site.latitude, where.site.longitude) == ("Taman Ganesha", -6.88, 107.61)

        p.page.goto(running_city.url + "/devices")
        p.page.locator("#serial").fill("NEW-2")
        p.page.locator(".choice:has(input[value=generic-rain-gauge])").tap()
        p.page.locator('.tabs3 button:has-text("Lokasi baru")').tap()
        p.page.locator(".over-map").tap()
        p.page.wait_for_selector(".pin-map .leaflet-container")
        p.page.mouse.move(200, 500)
        p.page.mouse.down()
        p.page.mouse.move(200, 400, steps=5)  # the map goes up, so the pin goes south
        p.page.mouse.up()
        expect(p.page.locator(".cover-hint b")).to_contain_text("dari Anda")
        p.page.locator(".cover-do .main").tap()
        p.page.locator(".save .big").tap()
        p.page.wait_for_selector(".credentials", timeout=20_000)
        where = registry.device("NEW-2")
        assert where is not None and where.site is not None
        assert -6.8840 < where.site.latitude < -6.8805 and abs(where.site.longitude - 107.61) < 2e-4
        assert p.complaints == []


def test_without_the_phones_position_the_pin_is_set_by_hand(browser: Browser, running_city: City) -> None:
    with phone(browser, running_city.url, permissions=[]) as p:
        expect(p.page.locator(".here")).to_contain_text("Izinkan lokasi")
        p.page.locator('.tabs3 button:has-text("Lokasi baru")').tap()
        expect(p.page.locator(".form")).to_contain_text("tandai di peta")
        p.page.locator(".over-map").tap()
        p.page.locator(".cover-do .main").tap()
        expect(p.page.locator(".form")).to_contain_text("ditandai di peta")


@pytest.mark.parametrize("language", ["id", "en"])
def test_the_live_panel_says_what_is_wrong(
    browser: Browser, running_city: City, language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices.watch, "NO_MESSAGE_S", 1.0)
    monkeypatch.setattr(devices.watch, "NAMELESS_S", 0.0)  # the other tests' refused logins do not count
    words = WORDS[language]
    serial = f"WRONG-{language}"
    with phone(browser, running_city.url, locale=LOCALES[language]) as p:
        login = registered(p, serial)
        live(p, words["waiting"], words["silence"])
        known_to_pipeline(running_city, serial)
        refused = BrokerUser(running_city.secured.port, login["username"], "not-the-password", login["client_id"])
        assert refused.refused == NOT_AUTHORIZED
        refused.close()
        live(p, words["refused"])
        with running_city.device(login) as device:
            device.publish(login["topic"], b'{"time": ')
            live(p, words["format"])
            device.publish(login["topic"], reading(time=time.time() + 7 * 3600))
            live(p, words["clock"], words["local"])
            time.sleep(1.1)  # what came before is mended
            device.publish(login["topic"], reading())
            live(p, words["first"], words["value"])
            device.publish(login["topic"], reading(value=99.0))
            live(p, words["range"], words["mount"])
        assert p.complaints == []


def test_a_device_with_a_mistyped_serial_number_is_found(browser: Browser, running_city: City) -> None:
    with phone(browser, running_city.url) as p:
        login = registered(p, "AWLR-0213")
        known_to_pipeline(running_city, "AWLR-0213")
        wrong = running_city.secured.issuer.create("AWLR-0231")  # the broker knows it, the register does not
        with running_city.device(wrong) as sender:
            assert sender.publish(wrong.topic, reading()) == 0
        live(p, "AWLR-0231", "salah ketik")
        assert login["topic"].endswith("/AWLR-0213")


def test_swapping_a_sensor_on_the_phone_goes_on_with_its_history(browser: Browser, running_city: City) -> None:
    pipeline = running_city.pipeline
    with phone(browser, running_city.url) as p:
        old = registered(p, "OLD-1")
        known_to_pipeline(running_city, "OLD-1")
        with running_city.device(old) as device:
            device.publish(old["topic"], reading(value=1.0))
            live(p, "1,00 m")
            streams = {d.id for d in pipeline.registry.device("OLD-1").datastreams}  # type: ignore[union-attr]
            p.page.locator('.row-button:has-text("Ganti alat ini")').tap()
            p.page.locator("#serial").fill("FRESH-1")
            p.page.locator('.save .big:has-text("Ganti alat")').tap()
            p.page.wait_for_selector(".credentials", timeout=20_000)
            fresh = p.credentials()
            assert device.left.wait(5)  # the old one's login has ended, and it is cut off
        known_to_pipeline(running_city, "FRESH-1")
        with running_city.device(fresh) as device:
            device.publish(fresh["topic"], reading(value=1.01))
            live(p, "Pembacaan pertama diterima", "1,01 m")
        expect(p.page.locator(".device")).to_contain_text("Menggantikan OLD-1")
        found, gone = pipeline.registry.device("FRESH-1"), pipeline.registry.device("OLD-1")
        assert found is not None and gone is not None
        assert {d.id for d in found.datastreams} == streams
        assert (gone.site, gone.device.state) == (None, DeviceState.RETIRED)
        level = next(d.id for d in found.datastreams if d.property == "water_level_m")
        until = time.monotonic() + 10
        while [float(v) for v in pipeline.store.readings(level, 0, 2**62).value] != [1.0, 1.01]:
            assert time.monotonic() < until
            time.sleep(0.1)
        assert p.complaints == []


def test_a_job_is_closed_with_a_note_and_a_small_photo(browser: Browser, running_city: City, tmp_path: Path) -> None:
    picture = tmp_path / "camera.png"
    picture.write_bytes(big_png())
    with phone(browser, running_city.url, path="/devices#jobs") as p:
        job = p.page.locator('.job:has-text("Jalan Siliwangi")')
        expect(job).to_contain_text("belum pernah mengirim", timeout=15_000)
        expect(job).to_contain_text("PM-17 · 475 m")
        job.locator(".main").tap()
        p.page.locator(".sheet textarea").fill("baterai diganti")
        p.page.locator(".sheet input[type=file]").set_input_files(picture)
        p.page.wait_for_selector(".photo img")
        p.page.locator(".sheet .main").tap()
        expect(p.page.locator(".note.done")).to_contain_text("Jalan Siliwangi: selesai")
        expect(job).to_have_count(0)
        assert p.complaints == []
    closed = ask(running_city.url + "/api/jobs/closed")["jobs"][0]
    assert (closed["device"], closed["kind"], closed["note"]) == ("PM-17", "silent", "baterai diganti")
    with urllib.request.urlopen(running_city.url + closed["photo"], timeout=10) as answer:
        photo = answer.read()
        assert answer.headers["Content-Type"] == "image/jpeg"
    assert jpeg_size(photo) == (1280, 853) and len(photo) <= 300_000
    assert not [j for j in ask(running_city.url + "/api/jobs")["jobs"] if j["device"] == "PM-17"]


def test_a_lost_network_costs_nothing(browser: Browser, running_city: City) -> None:
    with contextlib.closing(Network(running_city.url)) as network, phone(browser, network.url) as p:
        page = p.page
        page.wait_for_selector(".choice")
        # Not by wait_for_function: it evaluates text inside of the page, which its content policy forbids.
        ready = "caches.match('/devices').then((x) => x !== undefined && navigator.serviceWorker.controller !== null)"
        until = time.monotonic() + 30
        while not page.evaluate(ready):
            assert time.monotonic() < until, "the service worker did not keep the page"
            page.wait_for_timeout(100)
        fill_in(p, "FIELD-1")
        network.cut()
        page.reload()  # half-way, in the field: the page and what was typed are still there
        page.wait_for_selector(".choice")
        assert page.locator("#serial").input_value() == "FIELD-1"
        expect(page.locator(".banner")).to_contain_text("Tanpa jaringan")
        page.locator(".save .big").tap()
        expect(page.locator(".waiting-list")).to_contain_text("FIELD-1")
        page.goto(network.url + "/devices#waiting")
        page.reload()
        expect(page.locator(".waiting-list")).to_contain_text("Dikirim sendiri begitu ada jaringan")
        assert running_city.pipeline.registry.device("FIELD-1") is None
        kept = page.evaluate("JSON.stringify(localStorage)")
        assert "password" not in kept
        network.mend()
        page.locator('.job.sent:has-text("FIELD-1") .main').tap(timeout=20_000)
        known = running_city.pipeline.registry.device("FIELD-1")
        assert known is not None and known.site is not None and known.site.id == "dago"
        page.locator('.big:has-text("Buat dan tampilkan")').tap()
        page.wait_for_selector(".credentials")
        login = p.credentials()
        known_to_pipeline(running_city, "FIELD-1")
        with running_city.device(login) as device:
            device.publish(login["topic"], reading())
            live(p, "Pembacaan pertama diterima")


def test_what_the_server_refuses_is_said_and_can_be_mended(browser: Browser, running_city: City) -> None:
    with contextlib.closing(Network(running_city.url)) as network, phone(browser, network.url) as p:
        page = p.page
        fill_in(p, "AWLR-0100", site="Jalan Siliwangi")  # it is installed elsewhere
        expect(page.locator(".note.warn")).to_contain_text("Sudah terdaftar: Jembatan Dago")
        page.locator(".save .big").tap()
        expect(page.locator(".problem")).to_contain_text("sudah terdaftar di Jembatan Dago")
        network.cut()
        page.locator(".save .big").tap()
        expect(page.locator(".waiting-list")).to_contain_text("AWLR-0100")
        network.mend()
        expect(page.locator(".waiting-list .problem")).to_contain_text("Ditolak", timeout=15_000)
        page.locator('.big:has-text("Perbaiki")').tap()
        assert page.locator("#serial").input_value() == "AWLR-0100"
        page.locator("#serial").fill("AWLR-0101")
        page.locator(".save .big").tap()
        page.wait_for_selector(".credentials", timeout=20_000)


def test_the_serial_number_is_scanned_where_the_browser_can(browser: Browser, running_city: City) -> None:
    # Chromium reads barcodes on Android only; the camera is Chromium's own test picture.
    stub = """globalThis.BarcodeDetector = class {
        static async getSupportedFormats() { return ["qr_code"]; }
        async detect(video) { return video.videoWidth ? [{ rawValue: globalThis.code }] : []; }
    };"""
    with phone(browser, running_city.url, permissions=["geolocation", "camera"]) as p:
        p.context.add_init_script(stub)
        p.page.reload()
        for code, serial in {
            "AWLR-0231": "AWLR-0231",
            "LW:D0:24E124C0002A0001:24E124743C210123:ABCD": "24E124743C210123",
            "https://vendor.example/p/EM500-7/?x=1": "EM500-7",
            "Model EM500; S/N: 6445B43411 2024": "6445B43411",
        }.items():
            p.page.evaluate(f"globalThis.code = {json.dumps(code)}")
            p.page.locator(".square").tap()
            expect(p.page.locator("#serial")).to_have_value(serial)
        assert p.complaints == []


def test_login_of_a_device_is_renewed_and_taken_away_on_the_phone(browser: Browser, running_city: City) -> None:
    with phone(browser, running_city.url) as p:
        first = registered(p, "KEY-1")
        p.page.reload()
        p.page.locator('.row-button:has-text("Kata sandi baru")').tap()
        p.page.locator(".sheet .main").tap()
        p.page.wait_for_selector(".credentials")
        second = p.credentials()
        assert second["password"] != first["password"]
        assert running_city.device(first).refused == NOT_AUTHORIZED
        with running_city.device(second) as device:
            assert device.refused is None
            p.page.locator('.row-button:has-text("Cabut kredensial")').tap()
            p.page.locator(".sheet .main").tap()
            assert device.left.wait(5)
        expect(p.page.locator(".credentials")).to_have_count(0)


def test_everything_that_is_touched_is_large_enough_for_a_thumb(browser: Browser, running_city: City) -> None:
    small = """() => [...document.querySelectorAll('button, a, input, textarea, label.choice, label.big')]
        .filter((n) => n.offsetParent !== null && !n.closest('label.choice, label.photo') || n.matches('label'))
        .filter((n) => !n.closest('.leaflet-container'))
        .map((n) => [n.outerHTML.slice(0, 90), n.getBoundingClientRect()])
        .filter(([, r]) => r.width > 0 && (r.height < 48 || r.width < 48))
        .map(([t, r]) => `${t} ${r.width}×${r.height}`)"""
    with phone(browser, running_city.url) as p:
        p.page.wait_for_selector(".choice")
        for tab in ("site", "new", "swap"):
            p.page.locator(".tabs3 button").nth(("site", "new", "swap").index(tab)).tap()
            assert p.page.evaluate(small) == []
        registered_before = p.page.url
        for screen in ("#jobs", "#find", "#waiting", "#device/AWLR-0100"):
            p.page.goto(registered_before.split("#")[0] + screen)
            p.page.wait_for_timeout(700)
            assert p.page.evaluate(small) == [], screen
            assert p.page.evaluate("document.documentElement.scrollWidth") <= 390


def test_operators_page_leads_here_and_back(browser: Browser, running_city: City) -> None:
    with phone(browser, running_city.url, path="/") as p:
        p.page.locator("a.to-devices").tap()
        p.page.wait_for_selector("#serial")
        p.page.locator("a.home").tap()
        p.page.wait_for_selector(".strip")


def test_a_technician_logs_in_and_registers_within_eight_interactions(browser: Browser, tmp_path: Path) -> None:
    from pantau.settings import PageAccess
    from web.access import Role

    with city(tmp_path, access=PageAccess.ACCOUNTS) as found:
        assert found.pipeline.accounts is not None
        accounts = found.pipeline.accounts.accounts
        accounts.create("budi", Role.TECHNICIAN, name="Budi", by="test", password="kata sandi yang panjang 7")
        with phone(browser, found.url) as p:
            p.page.wait_for_selector("input[name=login], input[autocomplete=username]")
            name = p.page.locator("input[autocomplete=username]")
            secret = p.page.locator("input[type=password]")
            name.fill("budi")
            secret.fill("kata sandi yang panjang 7")
            secret.press("Enter")
            p.interactions += ["type name", "type password", "enter"]
            p.page.wait_for_selector("#serial")
            p.page.wait_for_selector(".choice.chosen")  # the site where one stands is chosen already
            p.type(p.page.locator("#serial"), "LOGIN-1", "serial")
            p.tap(p.page.locator(".choice:has(input[value=generic-river-level])"), "model")
            p.tap(p.page.locator(".save .big"), "save")
            p.page.wait_for_selector(".credentials", timeout=20_000)
            login = p.credentials()
            known_to_pipeline(found, "LOGIN-1")
            with found.device(login) as device:
                device.publish(login["topic"], reading())
                live(p, "Pembacaan pertama diterima")
            assert len(p.interactions) <= 8, p.interactions
            assert found.pipeline.registry.audit(subject="LOGIN-1")[0][1].by == "Budi"
