"""What the pipeline tells of single devices: the broker's log, newest readings, silence and faults."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ingest.dead_letters import DeadLetter, DeadLetters, Reason
from pantau.watching import FleetWatch, Logins
from telemetry.directory import Datastream, Device, Directory, Installation, Limits, Site
from telemetry.observations import Observations
from telemetry.quality import FAIL, GOOD

S = 1_000_000_000
NOW = 1_000 * S
SITE = Site("s", "S", -6.9, 107.6)


def directory(*installations: Installation) -> Directory:
    return Directory(
        1,
        "kota",
        7.0,
        (SITE,),
        (Device("a", "s", "", 60.0), Device("b", "s", "", 60.0)),
        (
            Datastream("level", "s", "b" if installations else "a", "water_level_m", Limits(suspect_max=5.0)),
            Datastream("battery", "s", "a", "battery_v"),
        ),
        installations,
    )


def observations(
    stream: int, at_s: float, value: float, flag: int = GOOD, received_s: float | None = None
) -> Observations:
    received = at_s if received_s is None else received_s
    o = Observations.of([stream], [round(at_s * S)], [value], [round(received * S)])
    return Observations(o.datastream, o.observed_at, o.received_at, o.value, np.array([flag], np.uint8))


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[FleetWatch]:
    silent: list[str] = []
    with DeadLetters(tmp_path / "letters.sqlite") as letters:
        found = FleetWatch(letters, now=lambda: NOW, clock_speed=lambda: 1.0, silent=lambda: silent)
        found.silent = silent  # type: ignore[attr-defined]
        found.letters_file = letters  # type: ignore[attr-defined]
        yield found


def test_the_brokers_log_tells_who_was_let_in() -> None:
    # Lines of Mosquitto 2.0.11.
    logins = Logins(lambda: NOW)
    assert logins.of("a") is None  # no broker has told anything yet
    logins.take("1795524202: New connection from 127.0.0.1:47676 on port 18883.")
    assert logins.of("a") == ()
    logins.take("1795524202: New client connected from 127.0.0.1:47676 as client-a (p2, c1, k60, u'a').")
    logins.take("1795524202: Client <unknown> disconnected, not authorised.")
    logins.take("1795524202: Client b disconnected, not authorised.")
    logins.take("1795524202: Client client-a disconnected.")
    assert [(x.refused, x.named) for x in logins.of("a") or ()] == [(False, True), (True, False)]
    assert [(x.refused, x.named) for x in logins.of("client-a") or ()] == [(False, True), (True, False)]
    assert (True, True) in [(x.refused, x.named) for x in logins.of("b") or ()]


def test_the_newest_reading_counts_and_a_late_one_still_says_that_the_device_sends(watch: FleetWatch) -> None:
    watch.use(directory())
    watch.observe(observations(0, 100, 1.0))
    watch.observe(Observations.concat([observations(0, 102, 3.0), observations(0, 101, 2.0)]))
    watch.observe(observations(0, 50, 9.0, received_s=200))
    (reading,) = watch.latest("a")
    assert (reading.value, reading.observed_at, reading.received_at) == (3.0, 102 * S, 200 * S)
    assert (reading.low, reading.high) == (-100.0, 5.0)
    assert watch.latest("b") == () == watch.latest("nobody")


def test_after_a_swap_the_old_ones_reading_is_not_the_new_ones(watch: FleetWatch) -> None:
    watch.use(directory())
    watch.observe(observations(0, 100, 1.0))
    watch.use(directory(Installation("a", "level", 0, 150 * S), Installation("b", "level", 150 * S)))
    assert watch.latest("b") == ()
    watch.observe(observations(0, 160, 2.0))
    assert [r.value for r in watch.latest("b")] == [2.0]
    assert [r.datastream for r in watch.latest("a")] == []


def test_faulty_devices_and_since_when(watch: FleetWatch) -> None:
    watch.use(directory())
    watch.observe(observations(0, 100, 99.0, FAIL))
    watch.observe(observations(0, 110, 98.0, FAIL))
    (trouble,) = watch.troubles()
    assert (trouble.device, trouble.kind, trouble.since, trouble.values) == (
        "a",
        "faulty",
        100 * S,
        {"water_level_m": 98.0},
    )
    watch.observe(observations(0, 120, 1.0))
    assert watch.troubles() == ()


def test_silent_devices_and_those_that_never_sent(watch: FleetWatch) -> None:
    watch.use(directory())
    watch.observe(observations(0, 100, 1.0))
    watch.silent += ["a", "b"]  # type: ignore[attr-defined]
    assert [(t.device, t.since, t.heard) for t in watch.troubles()] == [("a", 100 * S, True), ("b", NOW, False)]


def test_dead_letters_tell_how_far_a_clock_is_off(watch: FleetWatch) -> None:
    watch.use(directory())
    letters: DeadLetters = watch.letters_file  # type: ignore[attr-defined]
    details = {
        Reason.TIME_IN_FUTURE: "time 2026-11-24T20:06:25.827Z is 25200 s ahead of 2026-11-24T13:06:25.804Z, at most …",
        Reason.TIME_TOO_OLD: "time 1970-01-01T00:00:00.000Z is 1795516200 s before 2026-11-24T13:06:25.804Z, at …",
        Reason.WRONG_UNIT: "unit 'x' can't be turned into m, which is 3 s ahead of nothing",
    }
    letters.keep([DeadLetter(r, d, "pantau/v1/kota/a", b"", "main", NOW, "a") for r, d in details.items()])
    letters.keep([DeadLetter(Reason.UNKNOWN_DEVICE, "", "pantau/v1/kota/aa", b"", "main", NOW, "aa")])
    assert [(x.reason, x.clock_off_s) for x in watch.letters("a")] == [
        ("wrong_unit", None),
        ("time_too_old", -1_795_516_200.0),
        ("time_in_future", 25_200.0),
    ]
    assert watch.strangers(NOW) == ("aa",) and watch.strangers(NOW + 1) == ()
