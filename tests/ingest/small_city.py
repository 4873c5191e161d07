"""A city of three devices for the tests of ingest."""

from __future__ import annotations

from telemetry.directory import Datastream, Device, Directory, Site

CITY = "demo"
STREAMS = (
    ("gauge-1", "water_level_m"),
    ("gauge-1", "battery_v"),
    ("gauge-1", "connected"),
    ("gauge-1", "temperature_c"),
    ("lamp-1", "lamp_power_w"),
    ("lamp-1", "battery_v"),
    ("meter-1", "co_ug_m3"),
)


def directory(version: int = 1, more: tuple[tuple[str, str], ...] = ()) -> Directory:
    """The city; ``more`` appends (device, property) pairs."""
    streams = STREAMS + more
    devices = dict.fromkeys(device for device, _ in streams)
    return Directory(
        version=version,
        city=CITY,
        utc_offset_h=7,
        sites=(Site("site", "Site", -6.9, 107.6),),
        devices=tuple(Device(d, "site", gateway=d == "gauge-1") for d in devices),
        datastreams=tuple(Datastream(f"{d}:{p}", "site", d, p) for d, p in streams),
    )


def topic(device: str) -> str:
    """The topic of a device."""
    return f"pantau/v1/{CITY}/{device}"
