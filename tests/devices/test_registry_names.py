"""What messages call a device, whether it speaks for others, its clock and interval: kept, checked, told."""

from __future__ import annotations

import pytest

from devices.bulk import export_devices, import_devices
from devices.entities import CalibrationEntry, DeviceEntry, SiteEntry
from devices.errors import InvalidEntryError
from devices.registry import Registry
from telemetry.directory import Device, Field, Payload

EUI = "24E124710D3A000F"
SITE = SiteEntry("dago", "Dago", -6.88, 107.61)


@pytest.fixture
def registry(url):
    registry = Registry(url)
    registry.put_city("bandung", 7.0, by="setup")
    yield registry
    registry.close()


def put(registry: Registry, name: str, **fields) -> int:
    return registry.put_device(DeviceEntry(name, **fields), by="Rina")


def test_messages_find_a_device_by_any_of_its_names(registry):
    put(registry, "a", eui=EUI, serial="SN-7", alias="urn:ngsi-ld:Device:A", gateway=True, clock="local")
    put(
        registry, "b", serial="SN-7", model="generic-rain-gauge", interval_s=30.0
    )  # another model: the serial says nothing
    directory = registry.directory()
    assert directory.devices[0] == Device(
        "a", "", "", 3600.0, names=(EUI.lower(), "SN-7", "urn:ngsi-ld:Device:A"), gateway=True, clock="local"
    )
    assert directory.named == {EUI.lower(): "a", "urn:ngsi-ld:device:a": "a"}
    assert directory.gateways == {"a"}
    assert directory.devices[1].interval_s == 30.0
    assert [f.device.id for f in registry.labelled("URN:ngsi-ld:Device:A")] == ["a"]
    assert [f.device.id for f in registry.search("urn:ngsi")] == ["a"]


@pytest.mark.parametrize(
    "fields",
    [{"alias": "A"}, {"alias": "sn-1"}, {"alias": EUI.lower()}, {"alias": "URN:1"}],
)
def test_an_alias_is_nobody_elses_name(registry, fields):
    put(registry, "a", eui=EUI, serial="SN-1", alias="urn:1")
    version = registry.version()
    with pytest.raises(InvalidEntryError, match=r"device 'a' is called so|device 'b' is called so"):
        put(registry, "b", **fields)
    assert registry.version() == version
    assert registry.device("b") is None


@pytest.mark.parametrize("entry", [DeviceEntry("URN:1"), DeviceEntry("b", serial="Urn:1")])
def test_nobody_gets_the_alias_of_another_as_id_or_serial(registry, entry):
    put(registry, "a", alias="urn:1")
    with pytest.raises(InvalidEntryError, match="is called so"):
        registry.put_device(entry, by="Rina")


def test_an_alias_may_repeat_the_devices_own_names_and_change(registry):
    put(registry, "a", serial="SN-1", alias="sn-1")
    put(registry, "a", serial="SN-1", alias="a")
    put(registry, "a", serial="SN-1", alias="")
    put(registry, "b", alias="urn:1")
    assert registry.directory().named["urn:1"] == "b"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"clock": "wib"}, "clock must be one of utc, local, none, got 'wib'"),
        ({"interval_s": 0.0}, "interval_s must be above 0"),
        ({"alias": "x" * 201}, "alias must have at most 200 characters"),
    ],
)
def test_what_cannot_be_right_is_refused(registry, fields, message):
    with pytest.raises(InvalidEntryError, match=message):
        put(registry, "a", **fields)


def test_the_directory_tells_how_messages_of_the_models_in_use_are_read(registry):
    put(registry, "a", model="generic-rain-gauge")
    assert registry.directory().payloads == ()  # Pantau JSON
    put(registry, "b", model="milesight-em500-udl")
    directory = registry.directory()
    (payload,) = directory.payloads
    assert (payload.model, payload.format) == ("milesight-em500-udl", "pantau_json")
    assert payload.fields == (Field("distance", "water_level_m", "mm"),)
    assert isinstance(payload, Payload)
    assert directory.payload_of == {"b": payload}
    assert directory.devices[1].interval_s == 600.0  # the model's


def test_the_city_file_keeps_what_it_does_not_tell(registry):
    put(registry, "a", alias="urn:1", gateway=True, clock="none", interval_s=5.0)
    registry.save(city="bandung", utc_offset_h=7.0, sites=(), devices=[Device("a", "", "", 600.0)], datastreams=())
    entry = registry.device("a").device
    assert (entry.alias, entry.gateway, entry.clock, entry.interval_s) == ("urn:1", True, "none", 5.0)
    registry.save(
        city="bandung",
        utc_offset_h=7.0,
        sites=(),
        devices=[Device("a", "", "", 600.0, names=("urn:2",), clock="local", interval_s=9.0)],
        datastreams=(),
    )
    entry = registry.device("a").device
    assert (entry.alias, entry.gateway, entry.clock, entry.interval_s) == ("urn:2", True, "local", 9.0)


# --- files ----------------------------------------------------------------------------------------------------------

HEAD = "device,model,alias,gateway,clock,interval_s,site,latitude,longitude,installed_at,height_m\n"
DOWN = "u1,milesight-em500-udl,grp/edge/u1,yes,local,300,dago,-6.88,107.61,2026-11-24T00:00:00Z,6.5\n"


def load(registry: Registry, text: str, form: str = "csv"):
    return import_devices(registry, text, form, by="Rina", dry_run=False)


def test_a_file_brings_names_clock_and_the_height_of_what_looks_down(registry, new_url):
    assert load(registry, HEAD + DOWN).applied
    assert load(registry, HEAD + DOWN).changes == {}
    entry = registry.device("u1").device
    assert (entry.alias, entry.gateway, entry.clock, entry.interval_s) == ("grp/edge/u1", True, "local", 300.0)
    (stream,) = registry.datastreams("dago")
    assert (stream.limits.fail_min, stream.limits.fail_max) == (6.5 - 10.0, 6.5 - 0.03)
    (calibration,) = registry.calibrations("u1")
    assert (calibration.scale, calibration.offset) == (-1.0, 6.5)
    assert calibration.valid_from_ns == registry.installations("u1")[0].start_ns
    for form in ("csv", "geojson"):
        other = Registry(new_url())
        other.put_city("bandung", 7.0, by="setup")
        text = export_devices(registry, form)
        assert load(other, text, form).applied
        assert export_devices(other, form) == text
        assert other.calibrations("u1") == registry.calibrations("u1")
        other.close()


def test_a_model_brings_the_range_of_its_sensor(registry):
    load(registry, "device,model,site,latitude,longitude\nr1,generic-rain-gauge,dago,-6.88,107.61\n")
    limits = {s.property: s.limits for s in registry.datastreams("dago")}["rain_mm"]
    assert limits.fail_min == 0.0
    assert limits.fail_max is not None


@pytest.mark.parametrize(
    ("line", "column", "message"),
    [
        (DOWN.replace(",6.5\n", ",\n"), "height_m", "looks down: give its height"),
        (DOWN.replace("milesight-em500-udl", "radar"), "height_m", "only a sensor that looks down"),
        (DOWN.replace("yes", "maybe"), "gateway", "gateway must be yes or no, got 'maybe'"),
        (DOWN.replace("local", "wib"), "clock", "clock must be one of"),
        (DOWN.replace(",300,", ",-1,"), "interval_s", "interval_s must be above 0"),
    ],
)
def test_wrong_cells_are_told_by_their_column(registry, line, column, message):
    report = load(registry, HEAD + line)
    assert not report.applied
    (problem,) = report.problems
    assert (problem.row, problem.column) == (2, column)
    assert message in problem.message


def test_an_import_does_not_change_the_height(registry):
    load(registry, HEAD + DOWN)
    (problem,) = load(registry, HEAD + DOWN.replace(",6.5\n", ",7\n")).problems
    assert "hangs 6.5 m above the gauge's zero; an import cannot change that" in problem.message
    registry.put_calibration(CalibrationEntry("u1", "water_level_m", -1.0, 7.0, 1_800_000_000 * 10**9), by="Rina")
    assert load(registry, HEAD + DOWN.replace(",6.5\n", ",7\n")).changes == {}
