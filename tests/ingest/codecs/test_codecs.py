"""All codecs: the expected decodings that came with the samples, published examples, and whatever bytes come."""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.models import load_catalogue
from ingest.codecs import ALSO_NAMED, CODECS, CodecError
from tests.ingest.lorawan_samples import model_of, payload_paths, result_of

MODELS = load_catalogue()
WRONG_IN_THE_RESULTS = {
    # A byte read with a sign; the vendor's own example of these bytes says 3.344 and normal
    # (TheThingsNetwork/lorawan-devices, vendor/nwave/nps405-codec.yaml).
    ("battery_voltage", 2.32): 3.344,
    ("battery_health", "critical"): "normal",
    # A temperature read without its sign, and a state the other way round than in the same sample's live value.
    ("temperature", 5760.0): -793.6,
    ("trigger", "idle"): "trigger",
}
"""(Field, value) of the converter that made the results → what the vendor's decoder makes of the same bytes."""
OF_THE_NETWORK = {"rssi", "snr"}


def frame_of(path: Path) -> tuple[int, bytes] | None:
    """Port and bytes of a sample's message."""
    message = json.loads(path.read_text())
    if "uplink_message" in message:
        return message["uplink_message"]["f_port"], base64.b64decode(message["uplink_message"]["frm_payload"])
    if "EUI" in message:
        return message["port"], bytes.fromhex(message["data"])
    return (message["fPort"], base64.b64decode(message["data"])) if "data" in message else None


@pytest.mark.parametrize("path", payload_paths(), ids=lambda p: "-".join((*p.parts[-4:-2], p.stem)))
def test_every_field_of_an_expected_decoding_is_decoded(path: Path) -> None:
    frame, result = frame_of(path), result_of(path)
    if frame is None:
        assert result["telemetry"] == []
        return
    fields = CODECS[MODELS[model_of(path)].codec](*frame)
    points = [fields, *fields.pop("history", [])]
    assert len(points) == len(result["telemetry"])
    expected_anywhere: set[str] = set()
    for got, expected in zip(points, result["telemetry"], strict=True):
        values = {k: v for k, v in expected["values"].items() if k not in OF_THE_NETWORK}
        expected_anywhere |= values.keys()
        for name, value in values.items():
            value = WRONG_IN_THE_RESULTS.get((name, value) if isinstance(value, str | float) else (name, ""), value)
            assert got[name] == (value.lower() if name == "sn" else value), name
        if got is not fields:
            assert got["timestamp"] * 1000 == expected["ts"]
    attributes = {k: v for k, v in result.get("attributes", {}).items() if k in fields}
    for name, value in attributes.items():
        assert fields[name] == (value.lower() if name == "sn" else value), name
    # The class is the only thing that a result leaves out, in the samples of one model.
    assert fields.keys() - expected_anywhere - attributes.keys() <= {"lorawan_class"}


@pytest.mark.parametrize(
    ("codec", "port", "data", "expected"),
    [
        # github.com/decentlab/decentlab-decoders, DL-MBX: main() of each decoder.
        (
            "decentlab_dl_mbx",
            1,
            "02012f000304d200010bb1",
            {
                "protocol_version": 2,
                "device_id": 303,
                "distance": {"value": 1234, "unit": "mm"},
                "number_of_valid_samples": {"value": 1},
                "battery_voltage": {"value": 2.993, "unit": "V"},
            },
        ),
        (
            "decentlab_dl_mbx",
            1,
            "02012f00020bb1",
            {"protocol_version": 2, "device_id": 303, "battery_voltage": {"value": 2.993, "unit": "V"}},
        ),
        # TheThingsNetwork/lorawan-devices, vendor/dragino/ldds75-114-codec.yaml, its words as numbers.
        (
            "dragino_ldds75",
            2,
            "0D3B0AEF00000001",
            {"Bat": 3.387, "Distance": 2799, "Interrupt_flag": 0, "TempC_DS18B20": 0.0, "Sensor_flag": 1},
        ),
        # myDevices' documentation of Cayenne LPP: two temperature sensors; temperature and acceleration; a place.
        ("cayenne_lpp", 1, "03670110056700FF", {"temperature_3": 27.2, "temperature_5": 25.5}),
        (
            "cayenne_lpp",
            1,
            "0167FFD7067104D2FB2E0000",
            {"temperature_1": -4.1, "accelerometer_6": {"x": 1.234, "y": -1.234, "z": 0.0}},
        ),
        (
            "cayenne_lpp",
            1,
            "018806765FF2960A0003E8",
            {"gps_1": {"latitude": 42.3519, "longitude": -87.9094, "altitude": 10.0}},
        ),
        # vendor/nwave/nps405-codec.yaml, all of its examples.
        (
            "nwave_nps",
            1,
            "95",
            {
                "type": "parking_status",
                "occupied": True,
                "previous_state_duration": 74,
                "previous_state_duration_error": 0,
                "previous_state_duration_overflow": False,
            },
        ),
        (
            "nwave_nps",
            10,
            "D1201F345678",
            {
                "type": "user_registration",
                "occupied": True,
                "previous_state_duration": 160,
                "previous_state_duration_error": 4,
                "previous_state_duration_overflow": False,
                "tag_battery_voltage": 3.2,
                "tag_id": "1F345678",
            },
        ),
        (
            "nwave_nps",
            2,
            "00D3D800590B",
            {
                "type": "heartbeat",
                "occupied": False,
                "battery_voltage": 3.344,
                "temperature": -10,
                "battery_health": "normal",
                "hw_health_status": 0,
            },
        ),
        # Milesight-IoT/SensorDecoders, README of EM500-SWL and EM500-UDL (depth is called water_level here).
        ("milesight_em500_swl", 85, "01756403770200", {"battery": 100, "water_level": 2}),
        ("milesight_em500_udl", 85, "01756403821E00", {"battery": 100, "distance": 30}),
        # By hand from the table in the README of EM410-RDL: 1500 mm and 25.7 °C at 1 700 000 000; an alarm at 2000 mm.
        (
            "milesight_em410_rdl",
            85,
            "20ce00f15365dc05010100000084 82d0 07 01",
            {
                "history": [{"timestamp": 1_700_000_000, "distance": 1500, "temperature": 25.7, "event": 0}],
                "distance": 2000,
                "distance_alarm": 1,
            },
        ),
    ],
)
def test_published_examples(codec: str, port: int, data: str, expected: dict[str, Any]) -> None:
    assert CODECS[codec](port, bytes.fromhex(data)) == expected


@pytest.mark.parametrize(
    ("codec", "port", "data", "field"),
    [
        ("milesight_em310_udl", 85, "0382ffff", "distance"),
        ("milesight_em400_udl", 85, "0482fdff", "distance"),
        ("milesight_em410_rdl", 85, "0482ffff", "distance"),
        ("milesight_em410_rdl", 85, "0482fdff", "distance"),
        ("milesight_em500_swl", 85, "0377ffff", "water_level"),
        ("milesight_em500_swl", 85, "0377fdff", "water_level"),
        ("milesight_em500_udl", 85, "0382ffff", "distance"),
        ("milesight_ct10x", 85, "0967ffff", "temperature"),
        ("dragino_ldds75", 2, "0D3B000000000000", "Distance"),
        ("dragino_ldds75", 2, "0D3B001400000001", "Distance"),
    ],
)
def test_a_sensor_that_could_not_measure_gives_words(codec: str, port: int, data: str, field: str) -> None:
    assert isinstance(CODECS[codec](port, bytes.fromhex(data))[field], str)


def test_a_failed_probe_and_no_valid_sample_give_words() -> None:
    (point,) = CODECS["milesight_ts201"](85, bytes.fromhex("20cec79afa6412bdff"))["history"]
    assert isinstance(point["temperature"], str) and point["read_status"] == "Read error"
    assert isinstance(
        CODECS["decentlab_dl_mbx"](1, bytes.fromhex("02012f000304d20000" + "0bb1"))["distance"]["value"], str
    )


def test_only_a_mean_level_with_weighting_a_is_called_so() -> None:
    # The byte 05 is weighting A, fast; 06 is C, fast; as in the vendor's decoder.
    assert CODECS["milesight_ws302"](85, bytes.fromhex("055b053f02da016a02"))["LAeq"] == 47.4
    assert "LAeq" not in CODECS["milesight_ws302"](85, bytes.fromhex("055b063f02da016a02"))


@pytest.mark.parametrize(
    ("codec", "port", "data", "words", "before"),
    [
        ("milesight_em310_udl", 85, "01755c7777", "77 77 is not known", {"battery": 92}),
        ("milesight_em310_udl", 85, "01755c0382ff", "03 82 is cut off", {"battery": 92}),
        ("milesight_em310_udl", 85, "01755c03", "03 is cut off", {"battery": 92}),
        ("cayenne_lpp", 1, "0367011005", "channel 5 is cut off", {"temperature_3": 27.2}),
        ("cayenne_lpp", 1, "05ff", "type 255", {}),
        ("cayenne_lpp", 1, "058800", "channel 5 is cut off", {}),
        ("decentlab_dl_mbx", 1, "0201", "at least 5", {}),
        ("decentlab_dl_mbx", 1, "01012f0000", "version 1", {}),
        ("decentlab_dl_mbx", 1, "02012f000304d2", "cut off", {"protocol_version": 2, "device_id": 303}),
        ("dragino_ldds75", 3, "0D3B0AEF00000001", "port 2", {}),
        ("dragino_ldds75", 2, "0D3B0AEF", "8 were expected", {}),
        ("nwave_nps", 4, "00", "port 4", {}),
        ("nwave_nps", 2, "00", "at least 3", {}),
    ],
)
def test_what_cannot_be_read_is_said_and_what_stood_before_is_kept(
    codec: str, port: int, data: str, words: str, before: dict[str, Any]
) -> None:
    with pytest.raises(CodecError, match=words) as caught:
        CODECS[codec](port, bytes.fromhex(data))
    assert caught.value.fields == before


def test_the_catalogue_and_the_codecs_know_each_other() -> None:
    named = {model.codec for model in MODELS.values() if model.codec}
    # Channels of Cayenne LPP mean what each city's own model says.
    assert named == set(CODECS) - {"cayenne_lpp"}
    assert set(ALSO_NAMED) <= set(CODECS)


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for inner in value.values() for leaf in leaves(inner)]
    return [leaf for inner in value for leaf in leaves(inner)] if isinstance(value, list) else [value]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(CODECS)), st.integers(0, 255), st.binary(max_size=255))
def test_any_bytes_give_fields_or_a_codec_error(codec: str, port: int, data: bytes) -> None:
    try:
        fields = CODECS[codec](port, data)
    except CodecError as error:
        fields = error.fields
    assert all(value is None or isinstance(value, str | bool | int | float) for value in leaves(fields))
    assert all(math.isfinite(value) for value in leaves(fields) if isinstance(value, float))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_channels_of_a_model_in_any_order_are_read(data: st.DataObject) -> None:
    from ingest.codecs.milesight import MODELS as FAMILIES

    model = FAMILIES[data.draw(st.sampled_from(sorted(FAMILIES)))]
    frame = b""
    for key in data.draw(st.lists(st.sampled_from(sorted(model.channels)), min_size=1, max_size=8)):
        size = model.channels[key].items.size
        frame += bytes(key) + data.draw(st.binary(min_size=size, max_size=size))
    fields = model.decode(85, frame)
    assert all(value is None or isinstance(value, str | bool | int | float) for value in leaves(fields))
