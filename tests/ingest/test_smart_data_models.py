"""Smart Data Models against the published example entities (tests/ingest/data/smart_data_models, CC BY 4.0)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.formats import FORMATS
from ingest.formats.smart_data_models import MAX_ENTITIES, MODELS
from ingest.readings import Readings
from ingest.settings import Limits
from telemetry.directory import Datastream, Device, Directory, Field, Payload, Site
from telemetry.properties import PROPERTIES

DATA = Path(__file__).parent / "data" / "smart_data_models"
PROPERTIES_OF_ALL = sorted({name for model in MODELS.values() for name, _ in model.values()})
STREAMS = {
    "madrid": PROPERTIES_OF_ALL,
    "valladolid": PROPERTIES_OF_ALL,
    "loop": PROPERTIES_OF_ALL,
    "bin": ("rssi_dbm", "battery_v"),
    "own": ("temperature_c", "water_level_m", "discharge_m3_s", "laeq_db", "lamp_power_w"),
}
NAMES = {
    "madrid": ("Madrid-AmbientObserved-28079004-2016-03-15T11:00:00", "T2-NP-018"),
    "valladolid": ("device-0A3478",),
    "loop": ("TrafficFlowObserved-Valladolid-osm-60821110",),
    "bin": ("device-9845A",),
}
CITY = Directory(
    version=1,
    city="demo",
    utc_offset_h=7,
    sites=(Site("s", "Site", -6.9, 107.6),),
    devices=tuple(Device(d, "s", names=NAMES.get(d, ()), model="bin" if d == "bin" else "") for d in STREAMS),
    datastreams=tuple(Datastream(f"{d}:{p}", "s", d, p) for d, ps in STREAMS.items() for p in ps),
    payloads=(Payload("bin", "smart_data_models", "", (Field("batteryMillivolts", "battery_v", "mV"),)),),
)
WHERE = {CITY.feed_of[d][p]: (d, p) for d, ps in STREAMS.items() for p in ps}
NOW = 1_795_000_000_000_000_000


def read(content: Any, *, topic: str = "ngsi/notify", feed: bool = True) -> Readings:
    payload = content if isinstance(content, bytes) else json.dumps(content).encode()
    readings = Readings(CITY, Limits())
    readings.message = readings.announce("b", [topic.encode()], [payload])
    readings.begin(NOW, NOW)
    if feed:
        readings.read_as("smart_data_models")
    FORMATS["smart_data_models"]().decode(topic, payload, readings)
    return readings


def taken(readings: Readings) -> dict[tuple[str, str], tuple[float, str]]:
    """(device, property) → (value rounded, time of observation)"""
    times = [str(np.datetime64(ns // 10**9, "s")) for ns in readings.observed_at]
    return {WHERE[f]: (round(v, 9), t) for f, v, t in zip(readings.feed, readings.value, times, strict=True)}


def reasons(readings: Readings) -> list[str]:
    return [letter.reason.value for letter in readings.dead_letters]


def example(model: str, form: str = "example") -> dict[str, Any]:
    return json.loads((DATA / model / f"{form}.json").read_text())


def key_values(normalized: dict[str, Any]) -> dict[str, Any]:
    """What ?options=keyValues gives of a normalized entity."""
    return {name: a["value"] if isinstance(a, dict) else a for name, a in normalized.items()}


def linked_data(normalized: dict[str, Any]) -> dict[str, Any]:
    """The same entity as NGSI-LD."""
    entity: dict[str, Any] = {"@context": "https://example.org/context.jsonld"}
    for name, a in normalized.items():
        if name in ("id", "type"):
            entity[name] = f"urn:ngsi-ld:{normalized['type']}:{a}" if name == "id" else a
        elif name.startswith("ref"):
            entity[name] = {"type": "Relationship", "object": f"urn:ngsi-ld:Device:{a['value']}"}
        elif a["type"] == "DateTime":
            entity[name] = {"type": "Property", "value": {"@type": "DateTime", "@value": a["value"]}}
        else:
            unit = a.get("metadata", {}).get("unitCode", {}).get("value")
            entity[name] = {"type": "Property", "value": a["value"]} | ({} if unit is None else {"unitCode": unit})
    return entity


class TestExamples:
    """The values stand in the files; units and periods are worked out by hand."""

    def test_air_quality(self) -> None:
        got = taken(read(example("AirQualityObserved", "example-normalized")))
        at = "2016-03-15T11:00:00"
        assert got == {
            ("madrid", "co_ug_m3"): (500_000, at),  # unitCode GP: mg/m³
            ("madrid", "temperature_c"): (12.2, at),
            ("madrid", "wind_direction_deg"): (176, at),
            ("madrid", "wind_speed_m_s"): (0.64, at),
            ("madrid", "so2_ug_m3"): (11, at),
            ("madrid", "nox_ug_m3"): (139, at),
            ("madrid", "no2_ug_m3"): (69, at),
            ("madrid", "humidity_percent"): (54, at),
            ("madrid", "rain_mm"): (0, at),
            ("madrid", "pressure_hpa"): (1.1, at),
        }

    def test_weather(self) -> None:
        got = taken(read(example("WeatherObserved", "example-normalized")))
        at = "2016-11-30T07:00:00"
        assert got == {
            ("valladolid", "illuminance_lx"): (1000, at),
            ("valladolid", "temperature_c"): (3.3, at),
            ("valladolid", "rain_mm"): (0.1, at),
            ("valladolid", "pressure_hpa"): (938.9, at),
            ("valladolid", "wind_speed_m_s"): (2, at),
            ("valladolid", "wind_direction_deg"): (135, at),
            ("valladolid", "humidity_percent"): (15, at),
            ("valladolid", "water_level_m"): (0.5, at),  # 50 cm
        }

    def test_traffic(self) -> None:
        got = taken(read(example("TrafficFlowObserved", "example-normalized")))
        at = "2016-12-07T11:15:00"
        assert got == {
            ("loop", "flow_veh_h"): (2364, at),  # 197 vehicles in 5 minutes
            ("loop", "occupancy"): (0.76, at),
            ("loop", "speed_km_h"): (52.6, at),
        }

    def test_a_device_whose_rssi_has_no_unit(self) -> None:
        assert (
            reasons(read(example("Device"))) == reasons(read(example("Device", "example-normalized"))) == ["wrong_unit"]
        )

    @pytest.mark.parametrize("model", ["AirQualityObserved", "WeatherObserved", "TrafficFlowObserved", "Device"])
    def test_all_forms_of_an_entity_give_equal_readings(self, model: str) -> None:
        normalized = example(model, "example-normalized")
        first = read(normalized)
        for form in (
            key_values(normalized),
            linked_data(normalized),
            {"subscriptionId": "x", "data": [normalized]},
            [normalized],
        ):
            other = read(form)
            assert (taken(other), reasons(other)) == (taken(first), reasons(first))

    @pytest.mark.parametrize("model", ["AirQualityObserved", "WeatherObserved", "TrafficFlowObserved", "Device"])
    def test_the_published_pairs_agree_where_they_hold_the_same(self, model: str) -> None:
        plain, normalized = example(model), key_values(example(model, "example-normalized"))
        common = {name: value for name, value in plain.items() if name == "type" or normalized.get(name) == value}
        times = {
            "dateObserved": "2026-01-02T03:00:00Z/2026-01-02T03:05:00Z",
            "dateObservedFrom": None,
            "dateObservedTo": None,
        }
        a = read(common | {"id": "madrid"} | times)
        b = read(normalized | {"id": "madrid"} | times)
        assert taken(a).items() <= taken(b).items() or not taken(a)
        assert model == "Device" or taken(a)


class TestRules:
    def at(self, **attributes: Any) -> Readings:
        return read({"id": "own", "type": "WeatherObserved", "temperature": 20} | attributes)

    @pytest.mark.parametrize(
        ("attributes", "expected"),
        [
            ({}, "2026-11-18T11:06:40"),
            ({"dateObserved": "2026-01-02T03:04:05Z"}, "2026-01-02T03:04:05"),
            ({"dateObserved": "2026-01-02T03:04:05"}, "2026-01-02T03:04:05"),
            ({"dateObserved": "2026-01-02T03:04:05+07:00"}, "2026-01-01T20:04:05"),
            ({"dateObserved": "2026-01-02T03:00:00Z/2026-01-02T03:15:00Z"}, "2026-01-02T03:15:00"),
            ({"observationDateTime": "2020-09-16T13:30:00+05:30"}, "2020-09-16T08:00:00"),
            ({"TimeInstant": {"type": "DateTime", "value": "2026-01-02T03:04:05Z"}}, "2026-01-02T03:04:05"),
            (
                {"temperature": {"value": 20, "metadata": {"TimeInstant": {"value": "2026-01-02T03:04:05Z"}}}},
                "2026-01-02T03:04:05",
            ),
            (
                {
                    "temperature": {"value": 20, "observedAt": "2026-01-02T03:04:05Z"},
                    "dateObserved": "2025-01-01T00:00:00Z",
                },
                "2026-01-02T03:04:05",
            ),
        ],
    )
    def test_times(self, attributes: dict[str, Any], expected: str) -> None:
        assert taken(self.at(**attributes)) == {("own", "temperature_c"): (20, expected)}

    @pytest.mark.parametrize(
        ("code", "value", "expected"),
        [("CEL", 20, 20), ("KEL", 293.15, 20), ("FAH", 68, 20)],
    )
    def test_unit_codes(self, code: str, value: float, expected: float) -> None:
        v2 = self.at(temperature={"type": "Number", "value": value, "metadata": {"unitCode": {"value": code}}})
        ld = self.at(temperature={"type": "Property", "value": value, "unitCode": code})
        assert v2.value == ld.value == [pytest.approx(expected)]

    @pytest.mark.parametrize(
        ("entity", "expected"),
        [
            ({"type": "FloodMonitoring", "currentLevel": 1.98}, ("water_level_m", 1.98)),
            ({"type": "WaterObserved", "waterLevel": {"value": 250, "unitCode": "CMT"}}, ("water_level_m", 2.5)),
            ({"type": "WaterObserved", "flow": {"value": 500, "unitCode": "G51"}}, ("discharge_m3_s", 0.5)),
            ({"type": "NoiseLevelObserved", "LAeq": 67.8}, ("laeq_db", 67.8)),
            ({"type": "Streetlight", "powerConsumption": 10}, ("lamp_power_w", 10)),
            (
                {
                    "type": "https://smartdatamodels.org/dataModel.Weather/WeatherObserved",
                    "https://smartdatamodels.org/dataModel.Weather/temperature": {"type": "Property", "value": 3},
                },
                ("temperature_c", 3),
            ),
        ],
    )
    def test_models(self, entity: dict[str, Any], expected: tuple[str, float]) -> None:
        got = read(entity | {"id": "urn:ngsi-ld:Whatever:own"})
        assert {name: value for (_, name), (value, _) in taken(got).items()} == dict([expected])

    def test_the_table_names_properties_and_units_that_exist(self) -> None:
        for model in MODELS.values():
            for name, unit in model.values():
                assert unit in ("", "vehicles") or unit in PROPERTIES[name].conversions

    def test_fields_of_the_devices_model(self) -> None:
        got = read({"id": "device-9845A", "type": "Anything", "batteryMillivolts": {"value": 3600}})
        assert {key: value for key, (value, _) in taken(got).items()} == {("bin", "battery_v"): 3.6}

    def test_an_entity_without_a_device_of_its_own_is_of_the_topics(self) -> None:
        got = read({"id": "x", "type": "WeatherObserved", "temperature": 1}, topic="pantau/v1/demo/own", feed=False)
        assert list(taken(got)) == [("own", "temperature_c")]

    def test_on_a_devices_topic_only_a_gateway_speaks_for_others(self) -> None:
        got = read({"id": "loop", "type": "WeatherObserved", "temperature": 1}, topic="pantau/v1/demo/own", feed=False)
        assert reasons(got) == ["not_a_gateway"]


class TestRefused:
    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "empty_payload"),
            (b"{", "malformed_json"),
            ([], "no_readings"),
            ({"data": []}, "no_readings"),
            (7, "wrong_type"),
            ([[]], "wrong_type"),
            ([{}] * (MAX_ENTITIES + 1), "payload_too_large"),
            ({"id": "nobody", "type": "WeatherObserved", "temperature": 1}, "unknown_device"),
            ({"type": "WeatherObserved", "temperature": 1}, "unknown_device"),
            ({"id": "own", "type": "WeatherObserved", "snowHeight": 1}, "no_readings"),
            ({"id": "own", "type": "Vehicle", "speed": 1}, "unknown_property"),
            ({"id": "own", "temperature": 1}, "unknown_property"),
            ({"id": "own", "type": "WeatherObserved", "temperature": 1, "dateObserved": "yesterday"}, "malformed_time"),
            ({"id": "own", "type": "WeatherObserved", "temperature": 1, "dateObserved": 5}, "wrong_type"),
            ({"id": "own", "type": "WeatherObserved", "temperature": None}, "missing_value"),
            ({"id": "own", "type": "WeatherObserved", "temperature": "20"}, "wrong_type"),
            ({"id": "own", "type": "WeatherObserved", "temperature": {"value": True}}, "wrong_type"),
            ({"id": "own", "type": "WeatherObserved", "windSpeed": 1}, "unknown_property"),
            ({"id": "own", "type": "WeatherObserved", "temperature": {"value": 1, "unitCode": "KGM"}}, "wrong_unit"),
            ({"id": "own", "type": "WeatherObserved", "temperature": {"value": 1, "unitCode": 5}}, "wrong_type"),
            ({"id": "loop", "type": "TrafficFlowObserved", "intensity": 5}, "missing_value"),
            (b'{"id":"own","type":"WeatherObserved","temperature":1e999}', "not_finite"),
            (
                b'{"id":"own","type":"WeatherObserved","temperature":' + b'{"value":' * 5000 + b"1" + b"}" * 5001,
                "malformed_json",
            ),
        ],
    )
    def test_alone(self, content: Any, reason: str) -> None:
        got = read(content)
        assert (reasons(got), len(got)) == ([reason], 0)
        assert got.dead_letters[0].format == "smart_data_models"

    def test_the_others_of_an_entity_and_of_a_message_are_taken(self) -> None:
        got = read(
            [
                {"id": "nobody", "type": "WeatherObserved", "temperature": 1},
                {"id": "valladolid", "type": "WeatherObserved", "temperature": "warm", "windSpeed": 2},
            ]
        )
        assert list(taken(got)) == [("valladolid", "wind_speed_m_s")]
        assert reasons(got) == ["unknown_device", "wrong_type"]

    def test_a_letter_says_what_can_be_read_again(self) -> None:
        got = read(
            {
                "id": "own",
                "type": "WeatherObserved",
                "temperature": {"value": 300, "unitCode": "KEL"},
                "windSpeed": 9,
                "dateObserved": "2026-01-02T03:04:05Z",
            }
        )
        assert json.loads(got.dead_letters[0].payload) == {
            "device": "own",
            "property": "wind_speed_m_s",
            "value": 9,
            "time": "2026-01-02T03:04:05Z",
            "unit": None,
        }

    def test_a_value_in_an_unknown_unit_keeps_its_code(self) -> None:
        got = read([{"id": "own", "type": "WeatherObserved", "temperature": {"value": 1, "unitCode": "KGM"}}])
        assert json.loads(got.dead_letters[0].payload)["unit"] == "KGM"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["own", "WeatherObserved", "CEL", "2026-01-02T03:04:05Z/x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "id",
                    "type",
                    "temperature",
                    "value",
                    "metadata",
                    "unitCode",
                    "dateObserved",
                    "refDevice",
                    "data",
                    "observedAt",
                    "intensity",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=15,
)


@given(
    JSON
    | st.fixed_dictionaries(
        {"id": st.just("own"), "type": st.just("WeatherObserved"), "temperature": JSON}, optional={"dateObserved": JSON}
    )
)
def test_anything_leaves_an_account(content: Any) -> None:
    got = read(content)
    got.finish()
    assert len(got) + len(got.dead_letters) >= 1


@given(st.binary(max_size=40))
def test_any_bytes_leave_an_account(data: bytes) -> None:
    got = read(data)
    assert len(got) + len(got.dead_letters) >= 1
