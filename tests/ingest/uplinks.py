"""Decoding one message of a network server in a test."""

from __future__ import annotations

import json
from typing import Any

from ingest.formats import FORMATS
from ingest.readings import Readings
from ingest.refusals import DeadLetter
from ingest.settings import Limits
from telemetry.directory import Directory

YEARS = 100 * 365.25 * 86_400
NOW = 1_764_000_000_000_000_000
"""2025-11-24T16:00:00Z. [ns since 1970 UTC]"""

Row = tuple[str, int, float]
"""Property, time of observation [ns since 1970 UTC], value [unit of the property]."""


def decode(
    format_name: str,
    message: Any,
    directory: Directory,
    topic: str = "application/1/device/1000000000000001/event/up",
    *,
    received_at: int | None = NOW,
) -> tuple[list[Row], list[DeadLetter], int]:
    """What a message gives: readings, dead letters, and how many messages rightly held no reading."""
    payload = message if isinstance(message, bytes) else json.dumps(message).encode()
    readings = Readings(directory, Limits(max_age_s=YEARS))
    readings.announce("lorawan", [topic.encode()], [payload])
    readings.begin(received_at, NOW)
    readings.read_as(format_name)
    FORMATS[format_name]().decode(topic, payload, readings)
    found = readings.finish()
    rows = [
        (directory.datastreams[d].property, t, v)
        for d, t, v in zip(found.datastream.tolist(), found.observed_at.tolist(), found.value.tolist(), strict=True)
    ]
    return rows, readings.dead_letters, readings.without_readings
