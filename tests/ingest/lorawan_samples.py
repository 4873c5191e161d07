"""The samples of tests/ingest/data/lorawan, and a city with their devices."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from devices.models import load_catalogue
from telemetry.directory import Datastream, Device, Directory, Payload, Site

FOLDER = Path(__file__).parent / "data" / "lorawan"
MODEL_OF = {
    "AM308": "milesight-am308",
    "AM319": "milesight-am319",
    "CT101-CT103": "milesight-ct10x",
    "EM300-TH": "milesight-em300-th",
    "EM310-UDL": "milesight-em310-udl",
    "EM400-UDL": "milesight-em400-udl",
    "EM410-RDL": "milesight-em410-rdl",
    "EM500-SWL": "milesight-em500-swl",
    "EM500-UDL": "milesight-em500-udl",
    "TS201": "milesight-ts201",
    "VS121": "milesight-vs121",
    "WS302": "milesight-ws302",
    "G4_NPS_SM": "nwave-g4-nps-sm",
}
"""Folder of the samples → model of the catalogue."""
FORMAT_OF = {
    "ChirpStack": "chirpstack",
    "HTTP": "chirpstack",
    "LORIOT": "loriot",
    "ThingsStackCommunity": "the_things_stack",
    "ThingsStackIndustries": "the_things_stack",
}
"""Folder of the server → format. The samples "HTTP" are of a gateway that writes like ChirpStack 3."""
EUI = "1000000000000001"
"""Of the device of most samples."""
OTHER_EUIS = ("24e124707c483636", "24e1641092176759", "0102030405060708")


def payload_paths() -> list[Path]:
    return sorted(FOLDER.rglob("payload*.json"))


def result_of(path: Path) -> dict[str, Any]:
    """The expected decoding of the device itself, without those of its gateways."""
    result = json.loads(path.with_name(path.name.replace("payload", "result")).read_text())
    first = result[0] if isinstance(result, list) else result
    assert isinstance(first, dict)
    return first


def model_of(path: Path) -> str:
    return MODEL_OF[path.parts[-4]]


def format_of(path: Path) -> str:
    return FORMAT_OF[path.parts[-3]]


def city(
    model: str,
    properties: tuple[str, ...] | None = None,
    *,
    names: tuple[str, ...] = (EUI, *OTHER_EUIS),
    payload: Payload | None = None,
    clock: str = "utc",
) -> Directory:
    """One device, ``station-1``, of this model, with its properties or those given; "" is no model."""
    if model and payload is None:
        payload = _catalogue()[model].payload
        assert payload is not None
    if properties is None:
        assert payload is not None
        properties = tuple(field.property for field in payload.fields)
    return Directory(
        version=1,
        city="demo",
        utc_offset_h=7,
        sites=(Site("site", "Site", -6.9, 107.6),),
        devices=(Device("station-1", "site", model, names=names, clock=clock),),
        datastreams=tuple(Datastream(f"station-1:{p}", "site", "station-1", p) for p in properties),
        payloads=(payload,) if payload else (),
    )


_catalogue = cache(load_catalogue)
