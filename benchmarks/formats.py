"""CPU of the payload formats: microseconds a message and a reading, from bytes to columns.

    python -m benchmarks.formats [--loops 300]

Each figure is the best of seven rounds of CPU time. A plain Python loop of a thousand squares stands beside them, so
that figures of two machines can be compared.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import cbor2

from ingest.formats import FORMATS
from ingest.formats.senml_cbor import LABELS
from ingest.readings import Readings
from ingest.settings import Limits
from telemetry.directory import Datastream, Device, Directory, Site

NOW = 1_795_000_000_000_000_000
TOPIC = "pantau/v1/bench/air-1"
PROPERTIES = ("temperature_c", "rain_mm", "illuminance_lx", "pressure_hpa", "wind_speed_m_s", "wind_direction_deg")
SAMPLES = Path("tests/ingest/data/smart_data_models")


def directory() -> Directory:
    """One device that measures the weather."""
    properties = (*PROPERTIES, "humidity_percent", "water_level_m")
    return Directory(
        version=1,
        city="bench",
        utc_offset_h=7,
        sites=(Site("s", "S", -6.9, 107.6),),
        devices=(Device("air-1", "s", names=("device-0a3478",)),),
        datastreams=tuple(Datastream(f"air-1:{name}", "s", "air-1", name) for name in properties),
    )


def messages() -> dict[tuple[str, str], bytes]:
    """(format, what it holds) → payload."""
    pack: list[dict[str, object]] = [{"bn": "air-1:", "bt": NOW // 10**9, "n": "temperature", "u": "Cel", "v": 20.5}]
    pack += [{"n": "temperature", "u": "Cel", "v": 20.5 + i, "t": -i} for i in range(1, 100)]
    number = {name: label for label, name in LABELS.items()}
    many = [{"property": "temperature_c", "value": 20.5 + i, "time": NOW // 10**9 - i} for i in range(100)]
    weather = (SAMPLES / "WeatherObserved/example.json").read_bytes()
    normalized = (SAMPLES / "WeatherObserved/example-normalized.json").read_bytes()
    return {
        ("pantau_json", "list of 100"): json.dumps(many).encode(),
        ("senml_json", "pack of 100"): json.dumps(pack).encode(),
        ("senml_json", "1 record"): json.dumps(pack[:1]).encode(),
        ("senml_cbor", "pack of 100"): cbor2.dumps([{number[k]: v for k, v in record.items()} for record in pack]),
        ("senml_cbor", "1 record"): cbor2.dumps([{number[k]: v for k, v in pack[0].items()}]),
        ("smart_data_models", "WeatherObserved, key-values"): weather,
        ("smart_data_models", "WeatherObserved, normalized"): normalized,
    }


def best_us(call: Callable[[], object], loops: int) -> float:
    """CPU time of one call, the best of seven rounds. [us]"""
    rounds = []
    for _ in range(7):
        start = time.process_time()
        for _ in range(loops):
            call()
        rounds.append((time.process_time() - start) / loops * 1e6)
    return min(rounds)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loops", type=int, default=300)
    loops = parser.parse_args().loops
    city, limits = directory(), Limits()
    print(f"Python {platform.python_version()}, {platform.machine()}")
    print(f"a loop of a thousand squares: {best_us(lambda: [i * i for i in range(1000)], loops):.0f} us\n")
    print("| format | message | bytes | us a message | us a reading |\n|---|---|---:|---:|---:|")
    for (name, what), payload in messages().items():
        decoder = FORMATS[name]()

        def decode(
            payload: bytes = payload, decode: Callable[[str, bytes, Readings], None] = decoder.decode
        ) -> Readings:
            readings = Readings(city, limits)
            readings.message = readings.announce("b", [TOPIC.encode()], [payload])
            readings.begin(NOW, NOW)
            decode(TOPIC, payload, readings)
            return readings

        got = decode()
        if got.dead_letters:
            raise SystemExit(f"{name}: {got.dead_letters[0].detail}")
        us = best_us(decode, loops)
        print(f"| {name} | {what} | {len(payload)} | {us:.1f} | {us / len(got):.2f} |")


if __name__ == "__main__":
    main()
