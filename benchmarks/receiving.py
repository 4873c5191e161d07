"""CPU from the bytes of PUBLISH packets to the journal's record, without a broker: microseconds a reading.

    python -m benchmarks.receiving [--read 16384] [--batch 2000]

Packets are cut, decoded and encoded for the journal as the pipeline does it, in reads and batches of a steady load;
each device has been heard before. Each figure is the best of five rounds of CPU time.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import random
import time
from collections.abc import Callable

from benchmarks.ingest import directory_of
from ingest.packets import Chunk, PacketStream
from ingest.receiver import Receiver
from ingest.settings import BrokerSettings, Limits
from ingest.steps import encode_step
from telemetry.directory import Directory

DEVICES = 5000
READINGS = 60_000
Time = Callable[[int], object]


def microseconds(us: int) -> object:
    """As a number."""
    return us


def rfc3339(us: int) -> object:
    """As a string with microseconds."""
    return datetime.datetime.fromtimestamp(us / 1e6, datetime.UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def seconds(us: int) -> object:
    """As a string of whole seconds."""
    return datetime.datetime.fromtimestamp(us // 10**6, datetime.UTC).isoformat()[:-6] + "Z"


def stream_of(readings: int, start_us: int, time_of: Time, *, unit: str | None = None, group: bool = False) -> bytes:
    """Packets of ``readings`` readings each, of all devices in turn."""
    rng = random.Random(1)
    out = bytearray()
    for number in range(READINGS // readings):
        topic = f"pantau/v1/bench/d{number % DEVICES}".encode()
        items: list[dict[str, object]] = []
        for i in range(readings):
            at = time_of(start_us + number * readings + i)
            item = {"time": at, "property": "water_level_m", "value": round(rng.uniform(0, 3), 3)}
            items.append(item | ({"unit": unit} if unit else {}))
        content: object = items[0] if readings == 1 else items
        payload = json.dumps({"readings": items} if group else content).encode()
        body = len(topic).to_bytes(2, "big") + topic + (number % 65_535 + 1).to_bytes(2, "big") + b"\0" + payload
        out.append(0x32)
        length = len(body)
        while length > 127:
            out.append(length & 127 | 128)
            length >>= 7
        out.append(length)
        out += body
    return bytes(out)


def measure(stream: bytes, directory: Directory, read_bytes: int, batch: int, readings: int) -> dict[str, float]:
    """CPU of one reading by stage, the best of five rounds. [us]"""
    receiver = Receiver(
        [BrokerSettings("main", "localhost", 1)], Limits(device_readings_per_s=0.0, gather_s=0.0), city="bench"
    )
    connection = receiver._connections[0]
    rounds = []
    for number in range(6):
        packets, spent, taken, waiting = PacketStream(2**20), {"cut": 0.0, "decode": 0.0, "record": 0.0}, 0, 0
        now = time.time_ns()
        for begin in range(0, len(stream), read_bytes):
            chunk = Chunk(received_at=now)
            data = stream[begin : begin + read_bytes]
            began = time.process_time()
            packets.feed(data, chunk)
            spent["cut"] += time.process_time() - began
            receiver._deliver(connection, 0, chunk)
            waiting += len(chunk.topics) * readings
            if waiting < batch and begin + read_bytes < len(stream):
                continue
            began = time.process_time()
            got = receiver.poll(directory, now, 0)
            decoded = time.process_time()
            if got is not None:
                encode_step(got.observations, now, brokers=got.brokers, messages=got.messages_by_broker)
                spent["record"] += time.process_time() - decoded
                taken += len(got.observations)
            spent["decode"] += decoded - began
            waiting = 0
        if taken != READINGS:
            raise SystemExit(f"{READINGS} readings were sent, {taken} taken")
        if number:  # in the first one each device is new
            rounds.append({stage: cpu_s / READINGS * 1e6 for stage, cpu_s in spent.items()})
    return min(rounds, key=lambda r: sum(r.values()))


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--read", type=int, default=16_384, help="bytes of one read from the socket")
    parser.add_argument("--batch", type=int, default=2_000, help="readings of one batch, about")
    a = parser.parse_args()
    start_us = (time.time_ns() // 1000) - 60_000_000
    directory = directory_of(DEVICES)
    print(f"Python {platform.python_version()}, {platform.machine()}\n")
    print("| messages | cut | decode | record | us a reading | us a message |\n|---|--:|--:|--:|--:|--:|")
    for what, readings, time_of, more in (
        ("1 reading, time as a number", 1, microseconds, {}),
        ("1 reading, RFC 3339", 1, rfc3339, {}),
        ("1 reading, whole seconds, unit", 1, seconds, {"unit": "cm"}),
        ("list of 100, time as a number", 100, microseconds, {}),
        ("list of 100, RFC 3339", 100, rfc3339, {}),
        ("group of 100, whole seconds, unit", 100, seconds, {"unit": "cm", "group": True}),
    ):
        stream = stream_of(readings, start_us, time_of, **more)  # type: ignore[arg-type]
        us = measure(stream, directory, a.read, a.batch, readings)
        total = sum(us.values())
        stages = " | ".join(f"{us[stage]:.2f}" for stage in ("cut", "decode", "record"))
        print(f"| {what} | {stages} | {total:.2f} | {total * readings:.1f} |", flush=True)


if __name__ == "__main__":
    main()
