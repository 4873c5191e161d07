"""Devices come, move, are swapped and go; datastreams stay. Every change is in the audit trail."""

from __future__ import annotations

import itertools
import json
import tempfile
import threading

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from devices.entities import (
    MAX_PHOTO_BYTES,
    CalibrationEntry,
    DatastreamEntry,
    DeviceEntry,
    DeviceState,
    District,
    InstallationEntry,
    NewDatastream,
    SiteEntry,
)
from devices.errors import InvalidEntryError
from devices.registry import Registry
from telemetry.directory import Calibration, Datastream, Device, Directory, Installation, Ladder, Limits, Site, Step
from telemetry.directory_change import DirectoryChange
from telemetry.properties import PROPERTIES

S = 10**9
SITE = SiteEntry("dayeuhkolot", "Pos Dayeuhkolot", -6.98, 107.62, 658.0, "EGM2008", "32.04.30")
LEVEL = NewDatastream("water_level_m", Limits(suspect_max=5.0))
RAIN = NewDatastream("rain_mm")
STREAM = "dayeuhkolot/water_level_m"
JPEG = b"\xff\xd8\xff\xe0" + b"x" * 100


@pytest.fixture
def registry(url):
    clock = iter(range(1_790_000_000 * S, 1_800_000_000 * S, S))
    registry = Registry(url, clock=lambda: next(clock))
    registry.put_city("bandung", 7.0, by="setup")
    yield registry
    registry.close()


def put(registry: Registry, name: str = "awlr-1", at_ns: int = 100 * S, site=SITE, streams=(LEVEL,), **fields) -> int:
    return registry.register(DeviceEntry(name, **fields), site, by="Rina", at_ns=at_ns, datastreams=streams)


# --- registering -------------------------------------------------------------------------------------------------


def test_registering_makes_site_device_installation_and_datastreams_in_one_version(registry):
    before = registry.version()
    assert put(registry, streams=[LEVEL, RAIN], serial="A-17", eui="24-e1-24-71-0d-3a-00-0f") == before + 1
    found = registry.device("awlr-1")
    assert found.device == DeviceEntry("awlr-1", "A-17", "24E124710D3A000F")
    assert found.site == SITE
    assert found.installations == (InstallationEntry("awlr-1", "dayeuhkolot", 100 * S),)
    assert found.datastreams == (
        DatastreamEntry(STREAM, "dayeuhkolot", "water_level_m", Limits(suspect_max=5.0)),
        DatastreamEntry("dayeuhkolot/rain_mm", "dayeuhkolot", "rain_mm"),
    )
    directory = registry.directory()
    assert directory.installations == (
        Installation("awlr-1", STREAM, 100 * S),
        Installation("awlr-1", "dayeuhkolot/rain_mm", 100 * S),
    )
    assert directory.sites == (Site("dayeuhkolot", "Pos Dayeuhkolot", -6.98, 107.62, "32.04.30"),)


def test_registering_the_same_again_changes_nothing(registry):
    version = put(registry)
    assert put(registry) == version
    assert put(registry, site="dayeuhkolot", at_ns=200 * S) == version
    assert len(registry.device("awlr-1").installations) == 1


def test_a_model_of_the_catalogue_brings_its_datastreams(registry):
    registry.register(DeviceEntry("meteo", model="generic-weather-station"), SITE, by="Rina")
    observed = [d.property for d in registry.device("meteo").datastreams]
    assert len(observed) > 3
    assert set(observed) <= set(PROPERTIES)


def test_a_second_device_of_the_same_kind_gets_its_own_datastream(registry):
    put(registry)
    put(registry, "awlr-2")
    assert [d.id for d in registry.datastreams("dayeuhkolot")] == [STREAM, f"{STREAM}/awlr-2"]
    put(registry, "loop-1", streams=[NewDatastream("flow_veh_h", label="to the north")])
    put(registry, "loop-2", streams=[NewDatastream("flow_veh_h", label="to the south")])
    assert [d.id for d in registry.datastreams("dayeuhkolot")][2:] == [
        "dayeuhkolot/flow_veh_h/to-the-north",
        "dayeuhkolot/flow_veh_h/to-the-south",
    ]


def test_a_device_without_a_site_is_known_but_nowhere(registry):
    registry.put_device(DeviceEntry("spare", state=DeviceState.PLANNED), by="Rina")
    assert registry.device("spare").site is None
    assert registry.directory().devices == (Device("spare", "", "", 3600.0, watched=False),)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"site": SiteEntry("x", "X", 107.6, -6.9)}, "latitude and longitude look swapped"),
        ({"site": "nowhere"}, "names site 'nowhere', which is not in the registry"),
        ({"site": SiteEntry("x", "X\x00", -6.9, 107.6)}, "NUL"),
        ({"site": SiteEntry("x", "X", -6.9, 107.6, 9999.0)}, "elevation_m must be from -500 to 9000"),
        ({"eui": "24E1"}, "eui must be 16 hexadecimal digits, got '24E1'"),
        ({"at_ns": 1_790_000_000_000_000_000_000}, "at_ns must be nanoseconds since 1970"),
        ({"streams": [NewDatastream("level")]}, "unknown observed property 'level'"),
        ({"state": DeviceState.RETIRED}, "a retired device cannot be installed"),
        ({"silence_after_s": 0.0}, "silence_after_s must be above 0"),
        ({"name": "awlr 1"}, "device id 'awlr 1'"),
    ],
)
def test_what_cannot_be_right_is_refused_and_nothing_is_saved(registry, change, message):
    version = registry.version()
    with pytest.raises(InvalidEntryError, match=message):
        put(registry, **change)
    assert (registry.version(), len(registry.audit())) == (version, 1)  # the city's line only
    assert registry.device("awlr-1") is None


def test_a_swapped_position_that_is_on_earth_is_refused_where_the_city_is_known(url):
    registry = Registry(url)
    registry.put_city("sheffield", 0.0, by="setup")
    registry.put_site(SiteEntry("hadfields", "Hadfields", 53.41, -1.41), by="Rina")
    with pytest.raises(InvalidEntryError, match="look swapped"):
        registry.put_site(SiteEntry("tinsley", "Tinsley", -1.40, 53.42), by="Rina")
    registry.put_site(SiteEntry("tinsley", "Tinsley", 53.42, -1.40), by="Rina")
    registry.close()


def test_labels_are_unique(registry):
    put(registry, eui="24E124710D3A000F", serial="7", model="em500")
    with pytest.raises(InvalidEntryError, match="cannot both have the EUI 24E124710D3A000F"):
        put(registry, "b", eui="24:e1:24:71:0d:3a:00:0f")
    with pytest.raises(InvalidEntryError, match="cannot both have the serial number '7'"):
        put(registry, "b", serial="7", model="em500")
    put(registry, "b", serial="7", model="another vendor's")
    assert {f.device.id for f in registry.labelled("7")} == {"awlr-1", "b"}
    assert [f.device.id for f in registry.labelled(" 24-E1-24-71-0D-3A-00-0F ")] == ["awlr-1"]


def test_the_city_comes_first(url):
    registry = Registry(url)
    with pytest.raises(InvalidEntryError, match="holds no city yet"):
        put(registry)
    assert registry.version() == 0
    registry.close()


# --- swapping, moving, going -------------------------------------------------------------------------------------


def test_a_swapped_device_leaves_its_datastream_to_the_new_one(registry):
    put(registry)
    registry.set_ladder(STREAM, Ladder((Step(2.0, 3, "Siaga 1"),)), author="Rina", reason="survey")
    put_back = registry.directory()
    registry.replace("awlr-1", DeviceEntry("awlr-2", serial="B-3"), 500 * S, by="Budi")
    directory = registry.directory()
    assert [d.id for d in directory.datastreams] == [STREAM]
    assert directory.datastreams[0].ladder == put_back.datastreams[0].ladder
    assert directory.installations == (
        Installation("awlr-1", STREAM, 100 * S, 500 * S),
        Installation("awlr-2", STREAM, 500 * S),
    )
    assert directory.devices == (
        Device("awlr-1", "", "", 3600.0, watched=False),
        Device("awlr-2", "dayeuhkolot", "", 3600.0, names=("B-3",)),
    )
    assert registry.device("awlr-1").device.state == DeviceState.RETIRED
    assert registry.device("awlr-2").datastreams[0].id == STREAM


def test_a_new_device_starts_uncalibrated_where_it_replaces(registry):
    put(registry)
    put(registry, "awlr-2", site=SiteEntry("nanjung", "Nanjung", -6.94, 107.54))
    registry.put_calibration(CalibrationEntry("awlr-1", "water_level_m", 1.0, 0.2, 100 * S), by="Rina")
    registry.put_calibration(CalibrationEntry("awlr-2", "water_level_m", -1.0, 6.5, 100 * S), by="Rina")
    registry.take_down("awlr-2", 400 * S, by="Rina")
    registry.replace("awlr-1", "awlr-2", 500 * S, by="Rina", old_state=DeviceState.MAINTENANCE)
    assert set(registry.directory().calibrations) == {
        Calibration("awlr-1", STREAM, 1.0, 0.2, 100 * S),
        Calibration("awlr-2", "nanjung/water_level_m", -1.0, 6.5, 100 * S),
        Calibration("awlr-2", "nanjung/water_level_m", 1.0, 0.0, 500 * S),
        Calibration("awlr-2", STREAM, -1.0, 6.5, 100 * S),
        Calibration("awlr-2", STREAM, 1.0, 0.0, 500 * S),
    }
    assert registry.device("awlr-1").device.state == DeviceState.MAINTENANCE


def test_a_calibration_of_the_same_moment_is_a_correction(registry):
    put(registry)
    first = CalibrationEntry("awlr-1", "water_level_m", 1.0, 0.2, 100 * S)
    version = registry.put_calibration(first, by="Rina")
    assert registry.put_calibration(first, by="Rina") == version
    corrected = CalibrationEntry("awlr-1", "water_level_m", 1.0, 0.25, 100 * S)
    assert registry.put_calibration(corrected, by="Rina") == version + 1
    assert registry.calibrations("awlr-1") == (corrected,)
    with pytest.raises(InvalidEntryError, match="scale must be a finite number other than 0"):
        registry.put_calibration(CalibrationEntry("awlr-1", "water_level_m", 0.0, 0.0, 1), by="Rina")


def test_a_moved_device_observes_the_same_elsewhere(registry):
    put(registry, streams=[LEVEL, RAIN])
    nanjung = SiteEntry("nanjung", "Nanjung", -6.94, 107.54)
    put(registry, "awlr-9", site=nanjung)
    registry.retire("awlr-9", 300 * S, by="Rina")
    registry.move("awlr-1", "nanjung", 500 * S, by="Rina")
    # It goes on with the level that nobody feeds there now, and gets a new datastream for the rain.
    assert registry.directory().installations == (
        Installation("awlr-1", STREAM, 100 * S, 500 * S),
        Installation("awlr-1", "dayeuhkolot/rain_mm", 100 * S, 500 * S),
        Installation("awlr-9", "nanjung/water_level_m", 100 * S, 300 * S),
        Installation("awlr-1", "nanjung/water_level_m", 500 * S),
        Installation("awlr-1", "nanjung/rain_mm", 500 * S),
    )
    assert [i.site for i in registry.installations("awlr-1")] == ["dayeuhkolot", "nanjung"]


def test_a_retired_device_is_nowhere_and_may_be_put_up_again(registry):
    put(registry)
    registry.set_state("awlr-1", DeviceState.RETIRED, by="Rina")
    assert registry.device("awlr-1").site is None
    assert [d.id for d in registry.directory().datastreams] == [STREAM]
    later = 1_795_000_000 * S
    registry.install("awlr-1", "dayeuhkolot", later, by="Rina", datastreams=[LEVEL])
    assert registry.device("awlr-1").device.state == DeviceState.ACTIVE
    assert registry.directory().installations[-1] == Installation("awlr-1", STREAM, later)


@pytest.mark.parametrize(("state", "watched"), [("planned", False), ("active", True), ("maintenance", False)])
def test_only_an_active_device_is_watched(registry, state, watched):
    put(registry)
    registry.set_state("awlr-1", DeviceState(state), by="Rina")
    assert registry.directory().devices[0].watched is watched
    assert registry.device("awlr-1").site == SITE  # it stays where it is


def test_times_that_contradict_history_are_refused(registry):
    put(registry)
    put(registry, "awlr-2", site=SiteEntry("nanjung", "Nanjung", -6.94, 107.54))
    with pytest.raises(InvalidEntryError, match=r"cannot leave site 'dayeuhkolot' at 1970-01-01T00:01:40"):
        registry.retire("awlr-1", 100 * S, by="Rina")
    with pytest.raises(InvalidEntryError, match="awlr-2' is installed already"):
        registry.replace("awlr-1", "awlr-2", 500 * S, by="Rina")
    with pytest.raises(InvalidEntryError, match="installed at site 'nanjung'; move it"):
        registry.install("awlr-2", "dayeuhkolot", by="Rina")
    registry.take_down("awlr-2", 500 * S, by="Rina")
    with pytest.raises(InvalidEntryError, match="it was somewhere else until 1970-01-01T00:08:20"):
        registry.install("awlr-2", "nanjung", 400 * S, by="Rina")
    with pytest.raises(InvalidEntryError, match="not installed, so it cannot be replaced"):
        registry.replace("awlr-2", "awlr-1", by="Rina")
    with pytest.raises(InvalidEntryError, match="no device 'ghost'"):
        registry.retire("ghost", by="Rina")


def test_the_city_file_does_not_put_up_again_what_was_taken_down(registry):
    entries = {
        "sites": [Site("dayeuhkolot", "Pos Dayeuhkolot", -6.98, 107.62)],
        "devices": [Device("awlr-1", "dayeuhkolot", "", 900.0)],
        "datastreams": [Datastream(STREAM, "dayeuhkolot", "awlr-1", "water_level_m")],
    }
    registry.save(city="bandung", utc_offset_h=7.0, **entries)
    version = registry.replace("awlr-1", DeviceEntry("awlr-2"), by="Rina")
    assert registry.save(city="bandung", utc_offset_h=7.0, **entries) == version
    directory = registry.directory()
    assert directory.datastreams[0].device == "awlr-2"
    # The first one had always fed it.
    assert directory.installations[0].start_ns == -(2**63)


def test_what_a_save_does_not_tell_stays(registry):
    put(registry, serial="A-17", firmware="1.2")
    registry.put_district(District("32.04.30", "Dayeuhkolot"), by="Rina")
    version = registry.version()
    directory = registry.directory()
    assert directory.sites[0].district == "Dayeuhkolot"
    assert version == registry.save(
        city="bandung",
        utc_offset_h=7.0,
        sites=directory.sites,
        devices=directory.devices,
        datastreams=directory.datastreams,
    )
    assert registry.site("dayeuhkolot") == SITE


@pytest.mark.parametrize(
    "geojson",
    [
        "{}",
        '{"type":"Point","coordinates":[1,2]}',
        '{"type":"Polygon","coordinates":[[[107,-6],[108,-6],[107,-6]]]}',
        '{"type":"Polygon","coordinates":[[[107,-6],[108,-6],[108,-7],[107,-7]]]}',
        '{"type":"Polygon","coordinates":[[[-6,107],[-6,108],[-7,108],[-6,107]]]}',
        '{"type":"Polygon","coordinates":[[[107],[108,-6],[108,-7],[107]]]}',
    ],
)
def test_a_border_that_is_none_is_refused(registry, geojson):
    with pytest.raises(InvalidEntryError, match=r"border|position|ring|swapped"):
        registry.put_district(District("32.73", "Bandung", geojson), by="Rina")


# --- audit trail -------------------------------------------------------------------------------------------------


def test_every_change_is_in_the_audit_trail_and_the_states_follow_each_other(registry):
    work = [
        lambda: registry.put_district(District("32.04.30", "Dayeuhkolot"), by="Rina"),
        lambda: put(registry),
        lambda: registry.put_site(SiteEntry("dayeuhkolot", "Renamed", -6.98, 107.62), by="Rina"),
        lambda: registry.put_device(DeviceEntry("awlr-1", firmware="2"), by="Rina"),
        lambda: registry.set_ladder(STREAM, Ladder((Step(2.0, 3, "x"),)), author="Rina", reason="survey"),
        lambda: registry.put_datastream(DatastreamEntry(STREAM, "dayeuhkolot", "water_level_m"), by="Rina"),
        lambda: registry.put_calibration(CalibrationEntry("awlr-1", "water_level_m", 1.0, 0.2, 5), by="Rina"),
        lambda: registry.set_state("awlr-1", DeviceState.MAINTENANCE, by="Rina"),
        lambda: registry.replace("awlr-1", DeviceEntry("awlr-2"), 900 * S, by="Rina"),
        lambda: registry.retire("awlr-2", by="Rina"),
        lambda: registry.put_city("bandung", 8.0, by="Rina"),
        lambda: registry.close_job(
            registry.open_job(kind="inspection", text="look", site="dayeuhkolot", by="Rina"), by="Rina"
        ),
    ]
    for change in work:
        before = len(registry.audit(limit=1000))
        change()
        assert len(registry.audit(limit=1000)) > before
    entries = [entry for _, entry in reversed(registry.audit(limit=1000))]
    assert {e.by for e in entries[1:]} == {"Rina"}
    assert [e.at_ns for e in entries] == sorted(e.at_ns for e in entries)
    last: dict[tuple[str, str], str] = {}
    for e in entries:
        if e.action not in ("added", "changed", "closed"):
            continue
        assert e.before == last.get((e.kind, e.subject), ""), e
        last[e.kind, e.subject] = e.after
        assert e.before != e.after
    assert json.loads(last["device", "awlr-1"])["state"] == "retired"
    of_device = registry.audit(kind="device", subject="awlr-1")
    assert [e.action for _, e in of_device][-1] == "added"
    page = registry.audit(limit=3)
    assert [e for _, e in registry.audit(limit=2, before=page[0][0])] == [e for _, e in page[1:]]


def test_nobody_changes_anything_without_a_name(registry):
    with pytest.raises(InvalidEntryError, match="name of who"):
        registry.put_site(SITE, by=" ")


# --- jobs --------------------------------------------------------------------------------------------------------


def test_a_job_is_opened_once_and_closed_with_note_and_photo(registry):
    put(registry)
    version = registry.version()
    number = registry.open_job(kind="silent", text="no reading for 2 h", device="awlr-1", by="Pantau", due_at=900 * S)
    assert registry.open_job(kind="silent", text="no reading for 3 h", device="awlr-1", by="Pantau") == number
    other = registry.open_job(kind="inspection", text="yearly", site="dayeuhkolot", by="Rina")
    assert [j.id for j in registry.jobs()] == [number, other]
    closed = registry.close_job(number, by="Budi", note="battery changed", photo=JPEG)
    assert (closed.closed_by, closed.note, closed.has_photo, closed.photo) == ("Budi", "battery changed", True, None)
    assert registry.job(number).photo == JPEG
    assert registry.close_job(number, by="Budi", note="battery changed", photo=JPEG) == closed
    with pytest.raises(InvalidEntryError, match="closed already, by 'Budi'"):
        registry.close_job(number, by="Rina", note="other")
    assert [j.id for j in registry.jobs()] == [other]
    assert [j.id for j in registry.jobs(only_open=False, device="awlr-1")] == [number]
    assert registry.open_job(kind="silent", text="again", device="awlr-1", by="Pantau") not in (number, other)
    assert registry.version() == version  # the pipeline need not load anything for it
    assert "xxx" not in str(registry.audit(kind="job"))


@pytest.mark.parametrize(
    ("photo", "message"),
    [
        (b"\xff\xd8\xff" + b"x" * MAX_PHOTO_BYTES, "at most 4194304 bytes"),
        (b"<svg onload=alert(1)>", "must be a JPEG, PNG or WebP"),
    ],
)
def test_a_photo_that_is_none_or_too_large_is_refused(registry, photo, message):
    put(registry)
    number = registry.open_job(kind="silent", text="", device="awlr-1", by="Pantau")
    with pytest.raises(InvalidEntryError, match=message):
        registry.close_job(number, by="Budi", photo=photo)
    assert registry.job(number).closed_at is None


def test_a_job_needs_a_place(registry):
    registry.put_device(DeviceEntry("spare"), by="Rina")
    with pytest.raises(InvalidEntryError, match="needs a site, or a device that is installed"):
        registry.open_job(kind="silent", text="", device="spare", by="Rina")
    with pytest.raises(InvalidEntryError, match="no job 77"):
        registry.job(77)


# --- many at once ------------------------------------------------------------------------------------------------


def test_threads_register_at_the_same_time(registry):
    failures = []

    def work(name: str) -> None:
        try:
            for n in range(5):
                put(registry, f"{name}{n}", site=SiteEntry(f"{name}{n}", "", -6.9, 107.6))
                registry.directory()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    directory = registry.directory()
    assert len(directory.datastreams) == len(directory.devices) == 20
    assert directory.version == 21


# --- any order of work -------------------------------------------------------------------------------------------

DEVICES = st.sampled_from(["a", "b", "c"])
SITES = st.sampled_from(["x", "y"])
TIMES = st.sampled_from([0, 0, 0, 1, 3])
"""Steps back from the latest time so far: most work follows what was done before, some contradicts it."""
PLANS = st.lists(st.sampled_from(["rain_mm", "battery_v"]), unique=True).map(lambda p: [NewDatastream(n) for n in p])
WORK = st.one_of(
    st.tuples(st.just("register"), DEVICES, SITES, TIMES, PLANS),
    st.tuples(st.just("install"), DEVICES, SITES, TIMES, PLANS),
    st.tuples(st.just("move"), DEVICES, SITES, TIMES),
    st.tuples(st.just("replace"), DEVICES, DEVICES, TIMES),
    st.tuples(st.just("retire"), DEVICES, TIMES),
    st.tuples(st.just("take_down"), DEVICES, TIMES),
    st.tuples(st.just("set_state"), DEVICES, st.sampled_from(DeviceState)),
    st.tuples(st.just("calibrate"), DEVICES, st.sampled_from(["rain_mm", "battery_v"]), TIMES),
    st.tuples(st.just("save"), DEVICES, SITES),
    st.tuples(
        st.just("put_device"),
        st.builds(
            DeviceEntry,
            DEVICES,
            serial=st.sampled_from(["", "S1", "S2"]),
            eui=st.sampled_from(["", "24E124710D3A000F"]),
            model=st.sampled_from(["", "milesight-em500-udl", "generic-rain-gauge"]),
            alias=st.sampled_from(["", "s1", "urn:1", "URN:2"]),
            gateway=st.booleans(),
            clock=st.sampled_from(["utc", "local"]),
            interval_s=st.sampled_from([None, 60.0]),
        ),
    ),
    st.tuples(st.just("put_site"), SITES, st.sampled_from([-6.9, -6.8])),
    st.tuples(st.just("set_ladder"), st.integers(0, 20), st.sampled_from([1.0, 2.0])),
    st.tuples(st.just("put_district"), st.sampled_from(["Coblong", "Cicendo"])),
)


def do(registry: Registry, work: tuple, now: int) -> None:
    name, *rest = work

    def at(back: int) -> int:
        return (now - back) * S

    match name:
        case "register":
            device, site, back, plans = rest
            entry = registry.device(device).device if registry.device(device) else DeviceEntry(device)
            registry.register(entry, SiteEntry(site, site, -6.9, 107.6), by="Rina", at_ns=at(back), datastreams=plans)
        case "install":
            registry.install(*rest[:2], at(rest[2]), by="Rina", datastreams=rest[3])
        case "move":
            registry.move(*rest[:2], at(rest[2]), by="Rina")
        case "replace":
            registry.replace(*rest[:2], at(rest[2]), by="Rina")
        case "retire" | "take_down":
            getattr(registry, name)(rest[0], at(rest[1]), by="Rina")
        case "set_state":
            registry.set_state(*rest, by="Rina")
        case "calibrate":
            registry.put_calibration(CalibrationEntry(rest[0], rest[1], 2.0, 0.0, at(rest[2])), by="Rina")
        case "put_device":
            registry.put_device(rest[0], by="Rina")
        case "put_site":
            registry.put_site(SiteEntry(rest[0], rest[0], rest[1], 107.6, district="07"), by="Rina")
        case "put_district":
            registry.put_district(District("07", rest[0]), by="Rina")
        case "set_ladder":
            streams = registry.directory().datastreams
            ladder = Ladder((Step(rest[1], 1, "Siaga"),))
            registry.set_ladder(streams[rest[0] % len(streams)].id, ladder, author="Rina", reason="survey")
        case "save":
            device, site = rest
            registry.save(
                city="bandung",
                utc_offset_h=7.0,
                sites=[Site(site, site, -6.9, 107.6)],
                devices=[Device(device, site)],
                datastreams=[Datastream(f"{site}.rain", site, device, "rain_mm")],
            )


NO_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)
"""A database for each example: making a failing one smaller would take many minutes."""


def content_of(directory: Directory) -> dict:
    """Everything in a Directory, for comparing; the order of installations and calibrations says nothing."""
    found = dict(vars(directory))
    installed = found.pop("installed")
    found |= {f"installed.{name}": getattr(installed, name) for name in installed.__slots__}
    for name in ("installations", "calibrations"):
        found[name] = sorted(found[name], key=repr)
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in found.items()}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], phases=NO_SHRINKING)
@given(st.lists(WORK, min_size=6, max_size=16))
def test_whatever_is_done_in_whatever_order_the_directory_fits_together(work):
    with tempfile.TemporaryDirectory() as folder:
        clock = iter(range(S, 10**6 * S, S))
        registry = Registry(f"sqlite:///{folder}/r.db", clock=lambda: next(clock))
        registry.put_city("bandung", 7.0, by="setup")
        do(registry, ("register", "a", "x", 0, [NewDatastream("rain_mm"), NewDatastream("battery_v")]), 10)
        do(registry, ("register", "b", "y", 0, [NewDatastream("rain_mm")]), 10)
        registry.put_device(DeviceEntry("c"), by="Rina")
        before = followed = registry.directory()
        for now, one in enumerate(work, 11):
            lines = len(registry.audit(limit=10_000))
            try:
                do(registry, one, now)
            except InvalidEntryError:
                assert registry.version() == before.version
                assert len(registry.audit(limit=10_000)) == lines
                continue
            directory = registry.directory()  # it checks that no two installations overlap
            assert directory.version - before.version in (0, 1)
            if directory.version > before.version:
                # What changed, put into the Directory of before, gives the same.
                change = registry.change_since(followed)
                assert (change is None) == (one[0] == "put_district")
                followed = (
                    directory if change is None else DirectoryChange.from_bytes(change.to_bytes()).applied(followed)
                )
                assert content_of(followed) == content_of(directory)
            assert (len(registry.audit(limit=10_000)) > lines) == (directory.version > before.version)
            # Nobody's index ever changes, and no interval of the past is lost.
            assert [d.id for d in directory.devices][: len(before.devices)] == [d.id for d in before.devices]
            assert [d.id for d in directory.datastreams][: len(before.datastreams)] == [
                d.id for d in before.datastreams
            ]
            ended = {i for i in before.installations if i.end_ns is not None}
            assert ended <= set(directory.installations)
            for device in directory.devices:
                details = registry.device(device.id)
                assert (details.site.id if details.site else "") == device.site
                assert all(i.end_ns is None or i.start_ns < i.end_ns for i in details.installations)
                for first, second in itertools.pairwise(details.installations):
                    assert first.end_ns <= second.start_ns
            before = directory
        registry.close()
