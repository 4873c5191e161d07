"""Real uplinks of 13 models through 3 network servers, against the expected decodings that came with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ingest.refusals import Reason
from telemetry.properties import conversion
from tests.ingest.lorawan_samples import city, format_of, model_of, payload_paths, result_of
from tests.ingest.uplinks import decode

WRONG_IN_THE_RESULT = {
    # The converter that made the results reads a byte with a sign: 2500 mV + 4 · 0xd3 is 3344 mV, as in the
    # vendor's own example of the very same bytes (TheThingsNetwork/lorawan-devices, vendor/nwave/nps405-codec.yaml).
    ("nwave-g4-nps-sm", "battery_v", 2.32): 3.344,
    # The bytes of the history are in the wrong order in these samples, so that the values are nonsense; the converter
    # reads the temperature without its sign, which the vendor's decoder minds.
    ("milesight-am308", "temperature_c", 5760.0): -793.6,
    ("milesight-am319", "temperature_c", 5760.0): -793.6,
}
PATHS = payload_paths()


def expected_rows(path: Path, message: dict[str, Any]) -> list[tuple[str, int, float]]:
    """From the sample's result: its fields, by the catalogue's table and by hand from its units to ours."""
    rows: list[tuple[str, int, float]] = []
    payload = city(model_of(path)).payloads[0]
    for point in result_of(path).get("telemetry", []):
        for field in payload.fields:
            value = point["values"].get(field.source)
            if value is None or field.property == "rssi_dbm":
                continue
            scale, offset = conversion(field.property, field.unit) or (float("nan"), 0.0)
            value = value * scale + offset
            value = WRONG_IN_THE_RESULT.get((payload.model, field.property, value), value)
            rows.append((field.property, point["ts"], value))
    return sorted(rows)


@pytest.mark.parametrize("path", PATHS, ids=lambda p: "-".join((*p.parts[-4:-2], p.stem)))
def test_an_uplink_gives_the_readings_of_its_expected_decoding(path: Path) -> None:
    message = json.loads(path.read_text())
    rows, dead, nothing = decode(format_of(path), message, city(model_of(path)))
    assert not dead
    got = sorted((name, at // 1_000_000, value) for name, at, value in rows if name != "rssi_dbm")
    expected = expected_rows(path, message)
    assert [row[:2] for row in got] == [row[:2] for row in expected]
    assert [row[2] for row in got] == pytest.approx([row[2] for row in expected], rel=1e-12)
    assert bool(nothing) == (not rows)


def test_all_samples_are_there() -> None:
    assert len(PATHS) == 116


def test_the_signal_is_that_of_the_best_gateway() -> None:
    seen = {}
    for path in PATHS:
        if model_of(path) == "milesight-em310-udl":
            rows, _, _ = decode(format_of(path), json.loads(path.read_text()), city(model_of(path)))
            seen[path.parts[-3], path.stem] = [value for name, _, value in rows if name == "rssi_dbm"]
    # By eye from the messages; payload_1 of LORIOT was heard at -38 and -42 dBm.
    assert seen == {
        ("ChirpStack", "payload"): [-35],
        ("HTTP", "payload"): [-57],
        ("LORIOT", "payload"): [-21],
        ("LORIOT", "payload_1"): [-38],
        ("ThingsStackCommunity", "payload"): [-35],
        ("ThingsStackIndustries", "payload"): [-24],
    }


@pytest.mark.parametrize("path", PATHS[::7], ids=lambda p: "-".join((*p.parts[-4:-2], p.stem)))
def test_an_unregistered_device_is_refused_by_its_eui(path: Path) -> None:
    message = json.loads(path.read_text())
    rows, dead, _ = decode(format_of(path), message, city(model_of(path), names=("ffffffffffffffff",)))
    assert not rows
    assert [letter.reason for letter in dead] == [Reason.UNKNOWN_DEVICE]
    eui = dead[0].device
    assert eui is not None and eui in path.read_text().lower() and len(eui) == 16
    assert dead[0].payload == json.dumps(message).encode() and dead[0].format == format_of(path)
