"""The verdict on a new device, in plain words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import devices.watch
from devices.pages import TEXTS
from devices.watch import Finding, LatestReading, Letter, Login, judge
from tests.devices.test_api import NOW, FakeWatch, S

SINCE = NOW - 30 * S


def level(value: float = 1.24, *, flag: int = 1, behind_s: float = 1.0, received_s: float = 1.0) -> LatestReading:
    at = NOW - round(received_s * S)
    return LatestReading("d/water_level_m", "water_level_m", value, flag, at - round(behind_s * S), at, -10.0, 50.0)


def letter(reason: str, *, off_s: float | None = None, age_s: float = 1.0) -> Letter:
    return Letter(reason, "said so", NOW - round(age_s * S), "d", off_s)


def codes(watch: FakeWatch, since: int | None = SINCE) -> tuple[str, list[str]]:
    verdict = judge(watch, "d", since=since, utc_offset_h=7.0)
    return verdict.state, [f.code for f in verdict.findings]


def test_a_reading_that_is_good_needs_no_words() -> None:
    assert codes(FakeWatch(readings={"d": [level()]})) == ("receiving", [])


def test_a_reading_from_before_somebody_began_to_look_does_not_count() -> None:
    assert codes(FakeWatch(readings={"d": [level(received_s=60.0)]}))[0] == "waiting"


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (letter("malformed_json"), "unknown_format"),
        (letter("invalid_utf8"), "unknown_format"),
        (letter("unknown_property"), "unknown_property"),
        (letter("wrong_unit"), "wrong_unit"),
        (letter("wrong_city"), "wrong_address"),
        (letter("retained"), "retained"),
        (letter("time_without_zone"), "no_zone"),
        (letter("undecodable"), "wrong_model"),
        (letter("not_installed"), "not_installed"),
        (letter("missing_value"), "no_value"),
        (letter("something_new"), "other"),
        (letter("time_in_future", off_s=7 * 3600.0 - 200), "clock_local"),
        (letter("time_in_future", off_s=8 * 3600.0), "clock_fast"),  # not this city's zone
        (letter("time_local", off_s=8 * 3600.0), "clock_local"),
        (letter("time_wrong_scale", off_s=-1.7e9), "clock_scale"),
        (letter("clock_not_set", off_s=-1.7e9), "clock_unset"),
        (letter("time_in_future", off_s=1800.0), "clock_fast"),
        (letter("time_too_old", off_s=-1.7e9), "clock_unset"),
        (letter("time_too_old", off_s=-40 * 86_400.0), "clock_slow"),
    ],
)
def test_a_refused_message_says_what_to_do(found: Letter, code: str) -> None:
    assert codes(FakeWatch(refused={"d": [found]})) == ("trouble", [code])


def test_what_is_mended_is_forgotten() -> None:
    watch = FakeWatch(refused={"d": [letter("malformed_json", age_s=10.0)]}, readings={"d": [level()]})
    assert codes(watch) == ("receiving", [])
    # One message with a good and a bad reading: both are said.
    watch = FakeWatch(refused={"d": [letter("wrong_unit", age_s=1.0)]}, readings={"d": [level()]})
    assert codes(watch) == ("trouble", ["wrong_unit"])
    # Another mistake than before: only the newest.
    watch = FakeWatch(refused={"d": [letter("wrong_unit"), letter("malformed_json", age_s=9.0)]})
    assert codes(watch) == ("trouble", ["wrong_unit"])


def test_values_that_can_not_be_right() -> None:
    assert codes(FakeWatch(readings={"d": [level(99.0)]})) == ("trouble", ["out_of_range"])
    assert codes(FakeWatch(readings={"d": [level(2.0, flag=3)]})) == ("trouble", ["doubtful"])
    weak = LatestReading("d/rssi_dbm", "rssi_dbm", -118.0, 1, NOW - S, NOW - S, -150.0, 0.0)
    assert codes(FakeWatch(readings={"d": [level(), weak]})) == ("receiving", ["signal_weak"])


def test_a_clock_that_is_behind_but_not_so_far_that_it_is_refused() -> None:
    assert codes(FakeWatch(readings={"d": [level(behind_s=7 * 3600.0)]})) == ("trouble", ["clock_zone"])
    # Readings that were kept while there was no network.
    assert codes(FakeWatch(readings={"d": [level(behind_s=1500.0)]})) == ("receiving", ["clock_slow"])


def test_silence() -> None:
    assert codes(FakeWatch(), NOW - 5 * S) == ("waiting", [])
    assert codes(FakeWatch(), NOW - 25 * S) == ("waiting", ["no_message"])
    assert codes(FakeWatch(), None) == ("waiting", [])
    assert codes(FakeWatch(others=["e-7", "x"])) == ("waiting", ["no_message"])


def test_logins() -> None:
    def with_logins(*logins: Login) -> FakeWatch:
        return FakeWatch(logins={"d": list(logins)})

    refused, accepted = Login(NOW - 5 * S, True), Login(NOW - 4 * S, False)
    assert codes(with_logins(refused)) == ("trouble", ["credentials_refused"])
    assert codes(with_logins(accepted, refused)) == ("waiting", ["logged_in"])
    nameless = Login(NOW - 5 * S, True, named=False)
    assert codes(with_logins(nameless)) == ("trouble", ["credentials_refused"])
    # Somebody was refused in the time before, too: it need not be this device.
    earlier = Login(SINCE - 60 * S, True, named=False)
    assert codes(with_logins(nameless, earlier)) == ("waiting", ["credentials_perhaps", "no_message"])


def test_every_finding_has_its_words_in_both_languages() -> None:
    for language in ("id", "en"):
        texts = json.loads((TEXTS / f"{language}.json").read_text(encoding="utf-8"))
        known = {k.removeprefix("devices.finding.").removesuffix(".do") for k in texts if "finding" in k}
        said = Path(devices.watch.__file__).read_text(encoding="utf-8")
        used = {c for c in known if f'"{c}"' in said}
        assert used == known
        for code in known:
            values: dict[str, str | float] = {
                "property": "water_level_m", "value": 1.0, "low": 0.0, "high": 2.0, "hours": 7.0, "span_s": 90.0,
                "id": "x", "signal": -118.0, "drift": 48.0,
            }  # fmt: skip
            finding = Finding(code, "problem", values)
            text, template = (
                finding.text(language),
                texts[f"devices.finding.{code}"] + texts[f"devices.finding.{code}.do"],
            )
            assert "{" not in text and text.count("?") == template.count("?"), text  # "?" stands for what is missing
