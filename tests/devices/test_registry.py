"""The registry gives back what was saved, keeps indexes and history, and says clearly what is wrong."""

import multiprocessing
import os
import re
import tempfile
import time
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from sqlalchemy import text

from devices.database import Database
from devices.errors import (
    InvalidEntryError,
    RegistryEmptyError,
    RegistryIncompatibleError,
    RegistryUnavailableError,
)
from devices.registry import Registry
from telemetry.directory import Datastream, Device, Directory, Gate, Ladder, Limits, Site, Step
from telemetry.properties import PROPERTIES

LADDER = Ladder((Step(1.5, 1, "Siaga 3"), Step(2.0, 2, "Siaga 2"), Step(2.9, 3, "Siaga 1")), deadband=0.05)
SITE = Site("hadfields", "Hadfields", 53.41, -1.41, "Sheffield")
DEVICE = Device("don-1", "hadfields", "pressure", 3600.0)
LEVEL = Datastream("don-1.level", "hadfields", "don-1", "water_level_m", Limits(suspect_max=5.0), LADDER)


def save(registry: Registry, sites=(SITE,), devices=(DEVICE,), datastreams=(LEVEL,), city="sheffield") -> int:
    return registry.save(city=city, utc_offset_h=0.0, sites=sites, devices=devices, datastreams=datastreams)


def content(d: Directory) -> tuple:
    """What makes a Directory; its arrays follow from it."""
    return (d.version, d.city, d.utc_offset_h, d.sites, d.devices, d.datastreams)


# --- any valid content -------------------------------------------------------------------------------------------

IDS = st.text("abcdefgXYZ019._-:é港", min_size=1, max_size=12).filter(lambda s: s != "clock")
TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=10)
FINITE = st.floats(-1e6, 1e6, allow_nan=False)
MAYBE = st.none() | FINITE
POSITIVE = st.none() | st.floats(1e-6, 1e6)


@st.composite
def limits(draw):
    low, high = sorted(draw(st.lists(FINITE, min_size=2, max_size=2, unique=True)))
    return Limits(
        fail_min=draw(st.sampled_from([None, low])),
        fail_max=draw(st.sampled_from([None, high])),
        suspect_max=draw(MAYBE),
        rate_max_per_s=draw(POSITIVE),
        flat_tolerance=draw(st.floats(0, 10)),
        flat_suspect_s=draw(POSITIVE),
        flat_fail_s=draw(POSITIVE),
    )


@st.composite
def ladders(draw):
    direction = draw(st.sampled_from([1, -1]))
    values = sorted(draw(st.lists(FINITE, max_size=4, unique=True)), reverse=direction < 0)
    severities = sorted(draw(st.lists(st.integers(1, 3), min_size=len(values), max_size=len(values))))
    steps = tuple(Step(v, s, draw(TEXT)) for v, s in zip(values, severities, strict=True))
    return Ladder(steps, direction, draw(st.floats(0, 5)), draw(st.floats(0, 900)), 0.0, draw(st.sampled_from(Gate)))


@st.composite
def cities(draw):
    site_ids = draw(st.lists(IDS, min_size=1, max_size=4, unique=True))
    sites = [Site(i, draw(TEXT), draw(st.floats(-90, 90)), draw(st.floats(-180, 180)), draw(IDS)) for i in site_ids]
    devices = [
        Device(i, draw(st.sampled_from(site_ids)), draw(TEXT), draw(st.floats(0.001, 1e6)))
        for i in draw(st.lists(IDS, min_size=1, max_size=4, unique=True))
    ]
    fed = draw(
        st.lists(
            st.tuples(st.sampled_from([d.id for d in devices]), st.sampled_from(sorted(PROPERTIES))),
            max_size=8,
            unique=True,
        )
    )
    streams = [
        Datastream(
            f"{device}.{name}.{k}", draw(st.sampled_from(site_ids)), device, name, draw(limits()), draw(ladders())
        )
        for k, (device, name) in enumerate(fed)
    ]
    return draw(st.floats(-12, 14)), sites, devices, streams


@settings(max_examples=40, deadline=None)
@given(cities(), st.data())
def test_what_is_saved_comes_back_equal_and_saving_again_changes_nothing(city, data):
    offset, sites, devices, streams = city
    with tempfile.TemporaryDirectory() as folder:
        registry = Registry(f"sqlite:///{folder}/r.db")
        entries = {"city": "c", "utc_offset_h": offset, "sites": sites, "devices": devices, "datastreams": streams}
        assert registry.save(**entries) == 1
        expected = (1, "c", offset, tuple(sites), tuple(devices), tuple(streams))
        assert content(registry.directory()) == expected
        shuffled = entries | {k: data.draw(st.permutations(entries[k])) for k in ("sites", "devices", "datastreams")}
        assert registry.save(**shuffled) == 1
        registry.close()
        again = Registry(f"sqlite:///{folder}/r.db")
        assert content(again.directory()) == expected
        again.close()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 20), max_size=8, unique=True), min_size=1, max_size=6))
def test_dense_indexes_never_change_and_have_no_gaps(saves):
    with tempfile.TemporaryDirectory() as folder:
        registry = Registry(f"sqlite:///{folder}/r.db")
        first_seen: list[int] = []
        for numbers in saves:
            save(
                registry,
                devices=[Device(f"d{n}", "hadfields") for n in numbers],
                datastreams=[Datastream(f"s{n}", "hadfields", f"d{n}", "rain_mm") for n in numbers],
            )
            first_seen += [n for n in numbers if n not in first_seen]
            directory = registry.directory()
            assert [d.id for d in directory.datastreams] == [f"s{n}" for n in first_seen]
            assert [d.id for d in directory.devices] == [f"d{n}" for n in first_seen]
        registry.close()


# --- changes -----------------------------------------------------------------------------------------------------


def test_every_change_raises_the_version_by_one_and_is_seen(url):
    registry = Registry(url)
    assert registry.version() == 0
    assert save(registry) == 1
    moved = Site("hadfields", "Hadfields bridge", 53.42, -1.40, "Sheffield")
    assert save(registry, sites=[moved]) == 2
    slower = Device("don-1", "hadfields", "radar", 900.0)
    assert save(registry, sites=[moved], devices=[slower]) == 3
    unlimited = Datastream("don-1.level", "hadfields", "don-1", "water_level_m", Limits(), LADDER)
    assert save(registry, sites=[moved], devices=[slower], datastreams=[unlimited]) == 4
    assert registry.save(city="sheffield", utc_offset_h=1, sites=[], devices=[], datastreams=[]) == 5
    directory = registry.directory()
    assert (directory.version, directory.utc_offset_h) == (5, 1.0)
    assert (directory.sites, directory.devices, directory.datastreams) == ((moved,), (slower,), (unlimited,))


def test_thresholds_keep_their_history(url):
    times = iter(range(100, 200, 10))
    registry = Registry(url, clock=lambda: next(times))
    save(registry)
    lower = Ladder((Step(1.2, 2, "Siaga"),))
    assert registry.set_ladder("don-1.level", lower, author="Rina", reason="survey") == 2
    assert registry.set_ladder("don-1.level", lower, author="Rina", reason="again") == 2
    assert registry.set_ladder("don-1.level", Ladder(), author="Budi", reason="gauge under repair") == 3
    history = registry.ladders("don-1.level")
    assert [(h.number, h.ladder, h.author, h.reason, h.directory_version) for h in history] == [
        (1, LADDER, "setup", "saved with the datastream", 1),
        (2, lower, "Rina", "survey", 2),
        (3, Ladder(), "Budi", "gauge under repair", 3),
    ]
    assert [h.valid_from for h in history] == sorted({h.valid_from for h in history})
    assert registry.directory().datastreams[0].ladder == Ladder()
    # A save with a ladder is a threshold version too.
    assert save(registry) == 4
    assert registry.ladders("don-1.level")[-1].ladder == LADDER
    assert [h.number for h in registry.ladders("don-1.level")] == [1, 2, 3, 4]


def test_a_moved_device_gets_a_new_installation(url):
    times = iter([100, 200])
    registry = Registry(url, clock=lambda: next(times))
    save(registry)
    other = Site("tinsley", "Tinsley", 53.41, -1.40)
    save(registry, sites=[SITE, other], devices=[Device("don-1", "tinsley", "pressure", 3600.0)])
    assert [(i.site, i.start_ns, i.end_ns) for i in registry.installations("don-1")] == [
        ("hadfields", 100, 200),
        ("tinsley", 200, None),
    ]
    assert registry.directory().devices[0].site == "tinsley"


def test_two_devices_can_swap_their_datastreams_in_one_save(url):
    registry = Registry(url)
    devices = [Device("a", "hadfields"), Device("b", "hadfields")]
    save(registry, devices=devices, datastreams=[Datastream(x, "hadfields", x, "rain_mm") for x in "ab"])
    swapped = [Datastream("a", "hadfields", "b", "rain_mm"), Datastream("b", "hadfields", "a", "rain_mm")]
    assert save(registry, devices=devices, datastreams=swapped) == 2
    assert registry.directory().index_of == {"a": {"rain_mm": 1}, "b": {"rain_mm": 0}}


def test_what_is_left_out_stays(url):
    registry = Registry(url)
    save(registry)
    assert save(registry, sites=[], devices=[], datastreams=[]) == 1
    assert registry.directory().datastreams == (LEVEL,)


# --- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sites": [Site("x", "X", 107.6, -6.9)]}, "latitude and longitude look swapped"),
        ({"sites": [Site("x", "X", 107.6, 206.9)]}, "no place on Earth"),
        ({"sites": [Site("x", "X", float("nan"), 107.0)]}, "no place on Earth"),
        ({"sites": [Site("a b", "X", 0.0, 0.0)]}, "site id 'a b'"),
        ({"sites": [SITE, SITE]}, "site id 'hadfields' stands twice"),
        ({"devices": [Device("don/1", "hadfields")]}, "device id 'don/1'"),
        ({"devices": [Device("clock", "hadfields")]}, "taken by the clock's topic"),
        ({"devices": [Device("don-1", "nowhere")]}, "names site 'nowhere'"),
        ({"devices": [Device("don-1", "hadfields", "", float("inf"))]}, "silence_after_s must be above 0, got inf"),
        ({"datastreams": [Datastream("a b", "hadfields", "don-1", "rain_mm")]}, "datastream id 'a b'"),
        ({"datastreams": [Datastream("s", "hadfields", "ghost", "rain_mm")]}, "names device 'ghost'"),
        ({"datastreams": [Datastream("s", "hadfields", "don-1", "level")]}, "unknown observed property 'level'"),
        (
            {"datastreams": [LEVEL, Datastream("s", "hadfields", "don-1", "water_level_m")]},
            "feeds water_level_m twice",
        ),
        (
            {"datastreams": [Datastream("s", "hadfields", "don-1", "rain_mm", Limits(fail_min=2, fail_max=1))]},
            "fail_min must be below fail_max, got 2 and 1",
        ),
        (
            {
                "datastreams": [
                    Datastream("s", "hadfields", "don-1", "rain_mm", ladder=Ladder((Step(2, 1, ""), Step(1, 2, ""))))
                ]
            },
            "from the mildest to the worst",
        ),
        ({"city": "ban/dung"}, "city id 'ban/dung'"),
    ],
)
def test_a_wrong_entry_is_refused_by_name_and_nothing_is_saved(url, change, message):
    registry = Registry(url)
    with pytest.raises(InvalidEntryError, match=message):
        save(registry, **change)
    assert registry.version() == 0
    with pytest.raises(RegistryEmptyError, match="holds no city"):
        registry.directory()


def test_a_refused_save_leaves_what_was_there(url):
    registry = Registry(url)
    save(registry)
    with pytest.raises(InvalidEntryError):
        save(registry, sites=[Site("new", "New", 1.0, 2.0)], datastreams=[Datastream("s", "new", "ghost", "rain_mm")])
    assert content(registry.directory()) == (1, "sheffield", 0.0, (SITE,), (DEVICE,), (LEVEL,))


def test_set_ladder_refuses_unknown_streams_bad_ladders_and_nameless_authors(url):
    registry = Registry(url)
    save(registry)
    with pytest.raises(InvalidEntryError, match="no datastream 'other'"):
        registry.set_ladder("other", LADDER, author="a", reason="r")
    with pytest.raises(InvalidEntryError, match="severity must be 1"):
        registry.set_ladder("don-1.level", Ladder((Step(1, 7, ""),)), author="a", reason="r")
    with pytest.raises(InvalidEntryError, match="author and a reason"):
        registry.set_ladder("don-1.level", Ladder(), author=" ", reason="r")
    assert registry.version() == 1


def test_one_registry_holds_one_city(url):
    registry = Registry(url)
    save(registry)
    with pytest.raises(InvalidEntryError, match="that of city 'sheffield', got 'leeds'"):
        save(registry, city="leeds")


# --- the file ----------------------------------------------------------------------------------------------------


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    for url, message in [
        (f"sqlite:///{tmp_path}/none/r.db", f"the folder {tmp_path}/none does not exist"),
        (f"sqlite:///{tmp_path}", "it is a folder"),
        ("sqlite://", "needs a file"),
        ("registry.db", "must look like sqlite:///registry.db"),
        ("nosuchdb://x/y", "must look like sqlite:///registry.db"),
    ]:
        with pytest.raises(RegistryUnavailableError, match=message):
            Registry(url)


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("These are my notes. " * 100)
    with pytest.raises(RegistryIncompatibleError, match=r"notes\.txt is not a registry"):
        Registry(f"sqlite:///{path}")
    assert path.read_text() == "These are my notes. " * 100


def _open_as_nobody(url: str, answer) -> None:
    if os.geteuid() == 0:  # root may write anywhere
        os.setresuid(65534, 65534, 65534)
    try:
        Registry(url)
        answer.put("opened")
    except RegistryUnavailableError as error:
        answer.put(str(error))


def test_a_file_without_write_access_is_refused():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        path.chmod(0o755)
        Registry(f"sqlite:///{path}/r.db").close()
        (path / "r.db").chmod(0o444)
        context = multiprocessing.get_context("fork")  # its modules are loaded: nobody need not be able to read them
        answer = context.Queue()
        child = context.Process(target=_open_as_nobody, args=(f"sqlite:///{path}/r.db", answer))
        child.start()
        assert re.search(r"cannot use the registry .*r\.db: no write access", answer.get(timeout=30))
        child.join()


def test_a_newer_schema_is_refused(url):
    Registry(url).close()
    database = Database(url)
    with database.writing() as connection:
        connection.execute(text("UPDATE registry SET schema_version = 99"))
    database.close()
    with pytest.raises(RegistryIncompatibleError, match="schema version 99"):
        Registry(url)


def _add_sites(url: str, prefix: str, count: int) -> None:
    registry = Registry(url)
    for n in range(count):
        save(registry, sites=[Site(f"{prefix}{n}", "", 1.0, 2.0)], devices=[], datastreams=[])


def test_two_processes_write_while_a_third_reads(url):
    """Both processes also create the tables at the same time."""
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_add_sites, args=(url, prefix, 20)) for prefix in "ab"]
    for writer in writers:
        writer.start()
    registry = Registry(url)
    seen = []
    while any(w.is_alive() for w in writers):
        seen.append(registry.version())
        if seen[-1]:
            directory = registry.directory()
            assert len(directory.sites) == directory.version  # each save adds one site: no half-written state
        time.sleep(0.01)
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert seen == sorted(seen)
    assert registry.version() == 40
    assert {s.id for s in registry.directory().sites} == {f"{p}{n}" for p in "ab" for n in range(20)}


def test_ten_thousand_devices_are_saved_and_loaded_fast(url):
    registry = Registry(url)
    sites = [Site(f"s{n}", f"Site {n}", -6.9, 107.6) for n in range(10_000)]
    devices = [Device(f"d{n}", f"s{n}") for n in range(10_000)]
    streams = [
        Datastream(f"d{n}.x", f"s{n}", f"d{n}", "rain_mm", Limits(suspect_max=50), LADDER) for n in range(10_000)
    ]
    start = time.process_time()
    save(registry, sites, devices, streams)
    saved = time.process_time()
    directory = registry.directory()
    loaded = time.process_time()
    assert len(directory.datastreams) == 10_000
    # CPU time, with room for a slow machine; 1.9 s and 0.15 s were measured.
    assert saved - start < 10
    assert loaded - saved < 2
