"""Where a reading goes and how it is calibrated, by the time at which it was observed."""

from __future__ import annotations

import json
from dataclasses import replace

import msgspec
import pytest

from ingest.dead_letters import DeadLetter, Reason
from ingest.formats import pantau_json
from ingest.readings import Readings
from ingest.settings import Limits
from telemetry.brokers import UNKNOWN_BROKER
from telemetry.directory import Calibration, Datastream, Device, Directory, Installation
from telemetry.observations import NS_PER_S, Observations
from tests.ingest.small_city import directory, topic

NOW_S = 1_732_447_931
NOW = NOW_S * NS_PER_S


def ago(seconds: int) -> int:
    return NOW - seconds * NS_PER_S


def swapped() -> Directory:
    """1000 s ago gauge-2 took the place of gauge-1 for the water level; it came from the lamp's site, 500 s before."""
    city = directory()
    streams = [msgspec.structs.replace(s, device="gauge-2") if i == 0 else s for i, s in enumerate(city.datastreams)]
    return replace(
        city,
        devices=(*city.devices, Device("gauge-2", "site"), Device("spare", "")),
        datastreams=(*streams, Datastream("old-place", "site", "gauge-2", "water_level_m")),
        installations=(
            Installation("gauge-1", "gauge-1:water_level_m", ago(9000), ago(1000)),
            Installation("gauge-2", "old-place", ago(9000), ago(1500)),
            Installation("gauge-2", "gauge-1:water_level_m", ago(1000)),
        ),
        calibrations=(
            Calibration("gauge-1", "gauge-1:water_level_m", 1.0, 0.25, ago(5000)),
            Calibration("gauge-1", "gauge-1:water_level_m", 2.0, 0.0, ago(2000)),
            Calibration("gauge-2", "gauge-1:water_level_m", 1.0, -0.5, ago(100)),
            Calibration("lamp-1", "lamp-1:lamp_power_w", 1e300, 0.0, ago(9000)),
        ),
    )


CITY = swapped()


def decode(device: str, *messages: object) -> tuple[list[tuple[str, int, float]], list[DeadLetter]]:
    """(datastream id, seconds before now, value) of what is taken, and the dead letters."""
    readings = Readings(CITY, Limits())
    payloads = [json.dumps(m).encode() for m in messages]
    readings.announce("main", [topic(device).encode()] * len(payloads), payloads, 1)
    readings.begin(NOW, NOW)
    for number, payload in enumerate(payloads):
        readings.message = number
        pantau_json.decode(payload, CITY.feed_of[device], readings)
    got = readings.finish()
    assert (got.broker == 1).all()
    return [
        (CITY.datastreams[d].id, (NOW - t) // NS_PER_S, v)
        for d, t, v in zip(got.datastream.tolist(), got.observed_at.tolist(), got.value.tolist(), strict=True)
    ], readings.dead_letters


def level(seconds_ago: int, value: float, unit: str = "m") -> dict[str, object]:
    return {"time": NOW_S - seconds_ago, "property": "water_level_m", "value": value, "unit": unit}


def test_each_reading_goes_where_its_device_stood_and_is_calibrated_as_it_was() -> None:
    taken, dead = decode("gauge-1", level(8000, 1), level(5000, 1), level(2001, 100, "cm"), level(2000, 1))
    here = "gauge-1:water_level_m"
    assert taken == [(here, 8000, 1.0), (here, 5000, 1.25), (here, 2001, 1.25), (here, 2000, 2.0)]
    assert not dead
    taken, dead = decode("gauge-2", level(1501, 1), level(1000, 1), level(101, 1), level(100, 1))
    assert taken == [("old-place", 1501, 1.0), (here, 1000, 1.0), (here, 101, 1.0), (here, 100, 0.5)]
    assert not dead


@pytest.mark.parametrize(
    ("device", "seconds_ago", "named"),
    [
        ("gauge-1", 1000, ("2024-11-24T08:55:31", "until 2024-11-24T11:15:31", "gauge-1:water_level_m")),
        ("gauge-1", 9001, ("from 2024-11-24T09:02:11.000Z until 2024-11-24T11:15:31.000Z",)),
        ("gauge-2", 1200, ("until 2024-11-24T11:07:11.000Z (old-place) and from 2024-11-24T11:15:31.000Z (gauge-1",)),
    ],
)
def test_before_after_and_between_it_is_not_installed(device: str, seconds_ago: int, named: tuple[str, ...]) -> None:
    taken, (letter,) = decode(device, level(seconds_ago, 1))
    assert taken == []
    assert (letter.reason, letter.device, letter.broker) == (Reason.NOT_INSTALLED, device, "main")
    assert f"device '{device}' was not installed for water_level_m at 2024-11-24T" in letter.detail
    for words in named[-1:]:
        assert words in letter.detail


def test_of_several_values_only_the_one_without_a_place_is_refused() -> None:
    message = {"time": NOW_S - 10, "values": {"water_level_m": 1.0, "battery_v": 3.6}}
    taken, (letter,) = decode("gauge-1", message)
    assert taken == [("gauge-1:battery_v", 10, 3.6)]
    assert letter.reason == Reason.NOT_INSTALLED
    assert json.loads(letter.payload) == {"time": NOW_S - 10, "property": "water_level_m", "value": 1.0, "unit": None}


def test_a_device_that_was_never_installed_says_so() -> None:
    _, (letter,) = decode("spare", level(10, 1))
    assert letter.reason == Reason.NOT_INSTALLED
    _, (letter,) = decode("spare", {"property": "nonsense", "value": 1})
    assert letter.reason == Reason.UNKNOWN_PROPERTY


def test_a_calibration_that_leads_out_of_the_numbers_is_refused_and_a_wrong_clock_is_told_first() -> None:
    _, (letter,) = decode("lamp-1", {"time": NOW_S - 10, "property": "lamp_power_w", "value": 1e10})
    assert letter.reason == Reason.NOT_FINITE
    _, (letter,) = decode("gauge-1", level(-3600, 1))
    assert letter.reason == Reason.TIME_LOCAL


def test_without_a_number_the_broker_is_not_known() -> None:
    readings = Readings(CITY, Limits())
    readings.announce("main", [b"x"], [b"x"])
    readings.begin(NOW, NOW)
    readings.add(CITY.feed_of["gauge-1"]["battery_v"], "battery_v", 3.6, None, NOW)
    got: Observations = readings.finish()
    assert got.broker.tolist() == [UNKNOWN_BROKER]
