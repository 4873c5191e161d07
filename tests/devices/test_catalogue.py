"""The catalogue of device models: each file is sound, and each field of the real models' samples is accounted for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from devices.errors import InvalidEntryError
from devices.models import (
    CATALOGUE,
    NETWORK_FIELDS,
    DeviceModel,
    Format,
    Kind,
    Mounting,
    load_catalogue,
    read_model,
)
from telemetry.properties import PROPERTIES, conversion

RESULTS = Path(__file__).parent / "lorawan_results"
MODELS = load_catalogue()

MODEL_OF = {
    "Milesight_AM308": "milesight-am308",
    "Milesight_AM319": "milesight-am319",
    "Milesight_CT101-CT103": "milesight-ct10x",
    "Milesight_EM300-TH": "milesight-em300-th",
    "Milesight_EM310-UDL": "milesight-em310-udl",
    "Milesight_EM400-UDL": "milesight-em400-udl",
    "Milesight_EM410-RDL": "milesight-em410-rdl",
    "Milesight_EM500-SWL": "milesight-em500-swl",
    "Milesight_EM500-UDL": "milesight-em500-udl",
    "Milesight_TS201": "milesight-ts201",
    "Milesight_VS121": "milesight-vs121",
    "Milesight_WS302": "milesight-ws302",
    "Nwave_G4_NPS_SM": "nwave-g4-nps-sm",
}
"""Vendor and model in the samples' names → our id."""

NOT_IN_A_SAMPLE = {
    ("milesight-em410-rdl", "distance"): "its samples are from its start, before any measurement; the vendor names it",
    ("milesight-vs121", "rssi"): "the network servers' rssi was left out of its samples",
}


def fields_of(result: Any) -> dict[str, list[Any]]:
    """Field → its values, of one expected decoding: telemetry and attributes alike."""
    found: dict[str, list[Any]] = {}
    for item in result if isinstance(result, list) else [result]:
        for name, value in (item.get("attributes") or {}).items():
            found.setdefault(name, []).append(value)
        for point in item.get("telemetry") or []:
            for name, value in point.get("values", {}).items():
                found.setdefault(name, []).append(value)
    return found


def samples(prefix: str) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for path in sorted(RESULTS.glob(f"{prefix}_*.json")):
        for name, values in fields_of(json.loads(path.read_text(encoding="utf-8"))).items():
            found.setdefault(name, []).extend(values)
    return found


def test_every_sample_belongs_to_a_model() -> None:
    prefixes = {name for path in RESULTS.glob("*.json") for name in MODEL_OF if path.name.startswith(f"{name}_")}
    assert prefixes == set(MODEL_OF) and len(list(RESULTS.glob("*.json"))) >= len(MODEL_OF)


@pytest.mark.parametrize("prefix", MODEL_OF)
def test_every_field_of_a_sample_is_taken_or_left_with_a_reason(prefix: str) -> None:
    model = MODELS[MODEL_OF[prefix]]
    found = samples(prefix)
    assert found, "no sample"
    taken = {p.source or p.property for p in model.properties}
    assert set(found) - NETWORK_FIELDS - taken - set(model.not_mapped) == set(), (
        "neither mapped nor named as not mapped"
    )
    assert set(model.not_mapped) <= set(found), "named as not mapped, but no sample has it"
    unseen = {(model.id, name) for name in taken - set(found)}
    assert unseen <= set(NOT_IN_A_SAMPLE), "mapped, but no sample has it"
    for name in taken & set(found):
        assert all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in found[name]), name


# What the samples' values are in our units, by hand from the vendors' units: mm and cm to m.
@pytest.mark.parametrize(
    ("prefix", "name", "expected"),
    [
        ("Milesight_EM500-SWL", "water_level_m", 0.02),
        ("Milesight_EM310-UDL", "water_level_m", 2.116),
        ("Milesight_EM500-UDL", "water_level_m", 0.03),
        ("Milesight_WS302", "laeq_db", 47.4),
        ("Nwave_G4_NPS_SM", "battery_v", 2.32),
        ("Milesight_EM300-TH", "temperature_c", 30.8),
    ],
)
def test_a_sample_in_our_unit_is_within_the_models_range(prefix: str, name: str, expected: float) -> None:
    (entry,) = (p for p in MODELS[MODEL_OF[prefix]].properties if p.property == name)
    scale, offset = conversion(name, entry.unit) or (float("nan"), 0.0)
    value = samples(prefix)[entry.source][0] * scale + offset
    assert value == pytest.approx(expected)
    assert entry.low <= value <= entry.high


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda m: m.id)
def test_a_model_is_whole(model: DeviceModel) -> None:
    assert model.notes.keys() == {"id", "en"} and all(model.notes.values())
    assert all(len(reason) > 10 for reason in model.not_mapped.values())
    assert (model.format == Format.LORAWAN) == bool(model.vendor)
    assert model.silence_after_s >= 3 * model.interval_s, "three messages may get lost before it counts as silent"
    for p in model.properties:
        assert PROPERTIES[p.property].span_min <= p.low < p.high <= PROPERTIES[p.property].span_max
        # A believable flood must not be doubted: Katulampa rose 80 cm in four minutes on 21 September 2020.
        if p.property == "water_level_m" and p.limits.rate_max_per_s is not None:
            assert p.limits.rate_max_per_s > 2 * 0.80 / 240
        if p.property in ("rain_mm", "lamp_power_w"):
            assert p.limits.flat_suspect_s is None, "no rain, and a lamp that is off, are rightly the same for long"


def test_there_is_a_generic_model_of_each_kind_of_station() -> None:
    generic = {m.kind for m in MODELS.values() if not m.vendor}
    assert generic >= {Kind.RIVER, Kind.RAIN, Kind.TRAFFIC, Kind.AIR, Kind.NOISE, Kind.LIGHT, Kind.WEATHER}


def test_a_sensor_that_looks_down_needs_its_height() -> None:
    model = MODELS["milesight-em400-udl"]
    assert model.needs_height and not MODELS["milesight-em500-swl"].needs_height
    level = next(p for p in model.properties if p.mounting == Mounting.DISTANCE_DOWN)
    scale, offset = level.calibration(6.5)
    assert 2.116 * scale + offset == pytest.approx(4.384)  # 6.5 m above the gauge's zero, 2.116 m down to the water
    limits = level.limits_at(6.5)
    assert (limits.fail_min, limits.fail_max) == (-3.5, 6.25)  # its range is 0.25 m to 10 m
    assert limits.rate_max_per_s == level.limits.rate_max_per_s


def test_a_city_may_add_models_of_its_own(tmp_path: Path) -> None:
    source = (CATALOGUE / "generic-rain-gauge.toml").read_text(encoding="utf-8")
    (tmp_path / "our-rain-gauge.toml").write_text(source.replace("Rain gauge", "Ours"), encoding="utf-8")
    models = load_catalogue([tmp_path])
    assert models["our-rain-gauge"].name == "Ours" and models.keys() - MODELS.keys() == {"our-rain-gauge"}
    (tmp_path / "generic-rain-gauge.toml").write_text(source, encoding="utf-8")
    with pytest.raises(InvalidEntryError, match=r"generic-rain-gauge\.toml: there already is a model"):
        load_catalogue([tmp_path])


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ('"rain_mm"', '"rainfall_mm"', "rainfall_mm is not an observed property"),
        ('unit = "mm"', 'unit = "m3"', "rain_mm: unit must be one of mm, cm, in, got 'm3'"),
        ("range = [0.0, 100.0]", "range = [100.0, 0.0]", "range must be from low to high"),
        ("range = [0.0, 100.0]", "range = [0.0, 9999.0]", "range must be within 0..2000"),
        ("range = [0.0, 100.0]", "range = [0.0, 30.0]", "fail_max must be within the range 0..30, got 40"),
        ("suspect_max", "suspect_maximum", "unknown field"),
        ("silence_after_s = 900.0", "silence_after_s = 30.0", "silence_after_s must be above interval_s"),
        ('kind = "rain"', 'kind = "snow"', "snow"),
        ("schema = 1", "schema = 2", "schema"),
        ("schema = 1", "schema =", "invalid|Invalid"),
        ('property = "battery_v"', 'property = "rain_mm"', "each once|unit must be"),
        ('property = "rain_mm"', 'property = "rain_mm"\nmounting = "distance_down"', "only a level in m"),
    ],
)
def test_a_mistake_in_a_model_is_named_with_its_file(tmp_path: Path, before: str, after: str, sentence: str) -> None:
    source = (CATALOGUE / "generic-rain-gauge.toml").read_text(encoding="utf-8")
    assert before in source
    file = tmp_path / "rain.toml"
    file.write_text(source.replace(before, after, 1), encoding="utf-8")
    with pytest.raises(InvalidEntryError, match=sentence) as caught:
        read_model(file)
    assert str(file) in str(caught.value)
