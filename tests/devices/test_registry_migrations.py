"""Tables made from nothing and tables migrated from the first version are the same, and nothing is lost on the way.

The files in ``version_1`` were written by the first version's own code (the one before migrations), on both databases.
"""

from __future__ import annotations

import multiprocessing
import sqlite3
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from devices.database import Database
from devices.errors import RegistryIncompatibleError
from devices.model import REVISION, Table
from devices.registry import Registry
from telemetry.directory import Datastream, Device, Ladder, Limits, Site, Step

VERSION_1 = Path(__file__).parent / "version_1"


@pytest.fixture
def old_url(url: str) -> str:
    """A database as the first version left it."""
    if url.startswith("sqlite"):
        with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
            connection.executescript((VERSION_1 / "sqlite.sql").read_text())
        connection.close()
    else:
        with psycopg.connect(url) as connection:
            connection.execute((VERSION_1 / "postgresql.sql").read_text())
    return url


def differences(url: str) -> list:
    database = Database(url)
    with database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": "registry_revision"})
        found = compare_metadata(context, Table.metadata)
        revision = connection.execute(text("SELECT version_num FROM registry_revision")).scalar_one()
    database.close()
    assert revision == REVISION
    return found


def test_the_newest_file_is_the_revision_that_the_model_names():
    config = Config()
    config.set_main_option("script_location", "devices:migrations")
    assert ScriptDirectory.from_config(config).get_heads() == [REVISION]


def test_from_nothing_the_tables_are_those_of_the_model(url):
    assert differences(url) == []


def test_from_the_first_version_the_tables_are_those_of_the_model(old_url):
    assert differences(old_url) == []


def test_nothing_of_the_first_version_is_lost(old_url):
    registry = Registry(old_url)
    assert registry.version() == 3
    directory = registry.directory()
    survey = Ladder((Step(1.2, 2, "Siaga"),))
    lebat = Ladder((Step(10.0, 1, "lebat"),))
    # What the first version's own directory() gave for it.
    assert (directory.version, directory.city, directory.utc_offset_h) == (3, "bandung", 7.0)
    assert directory.sites == (
        Site("dayeuhkolot", "Pos Dayeuhkolot", -6.98, 107.62, "Kecamatan Dayeuhkolot"),
        Site("lembang", "Pos Hujan “Lembang” – É", -6.81, 107.61),
    )
    assert directory.devices == (
        Device("awlr-1", "dayeuhkolot", "pressure", 3600.0),
        Device("arr-1", "dayeuhkolot", "", 900.0),
        Device("arr-2", "lembang", "tip", 900.0),
    )
    assert directory.datastreams == (
        Datastream(
            "dayeuhkolot/water_level_m",
            "dayeuhkolot",
            "awlr-1",
            "water_level_m",
            Limits(suspect_max=5.0, rate_max_per_s=0.01),
            survey,
        ),
        Datastream("dayeuhkolot/battery_v", "dayeuhkolot", "awlr-1", "battery_v"),
        Datastream("lembang.rain", "lembang", "arr-2", "rain_mm", Limits(fail_max=50.0), lebat),
        Datastream("dayeuhkolot/rain_mm", "dayeuhkolot", "arr-1", "rain_mm"),
    )
    assert directory.installed.always  # readings of any time are taken, as before
    assert [v.author for v in registry.ladders("dayeuhkolot/water_level_m")] == ["setup", "Rina"]
    assert [(i.site, i.start_ns, i.end_ns) for i in registry.installations("arr-1")] == [
        ("lembang", 1_790_000_000_000_000_000, 1_790_000_002_000_000_000),
        ("dayeuhkolot", 1_790_000_002_000_000_000, None),
    ]
    # and it goes on working
    assert [f.device.id for f in registry.search("hujan “lembang” – é")] == ["arr-2"]
    assert registry.retire("arr-2", by="Rina") == 4
    assert [f.device.id for f in registry.search("lembang")] == []
    registry.close()


def test_opening_again_changes_nothing(old_url):
    Registry(old_url).close()
    first = Registry(old_url)
    assert first.version() == 3
    assert first.audit() == []
    first.close()


def _open(url: str, answers) -> None:
    registry = Registry(url)
    answers.put(registry.version())
    registry.close()


def test_several_processes_migrate_at_once(old_url):
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    openers = [context.Process(target=_open, args=(old_url, answers)) for _ in range(4)]
    for opener in openers:
        opener.start()
    for opener in openers:
        opener.join(60)
        assert opener.exitcode == 0
    assert [answers.get(timeout=5) for _ in openers] == [3] * 4


def test_a_later_revision_is_refused(url):
    Registry(url).close()
    database = Database(url)
    with database.writing() as connection:
        connection.execute(text("UPDATE registry_revision SET version_num = '9999'"))
    database.close()
    with pytest.raises(RegistryIncompatibleError, match="at migration 9999"):
        Registry(url)


def test_tables_of_something_else_are_left_alone(url):
    connection = sqlite3.connect(url.removeprefix("sqlite:///")) if url.startswith("sqlite") else psycopg.connect(url)
    with connection:
        connection.execute("CREATE TABLE sites (url TEXT)")
    connection.close()
    with pytest.raises(RegistryIncompatibleError, match="is not a registry"):
        Registry(url)


def test_a_migration_that_breaks_off_leaves_the_old_tables(old_url, monkeypatch):
    from devices import database

    def broken(connection, revision):
        upgrade(connection, revision)
        raise KeyboardInterrupt

    upgrade = database._upgrade
    monkeypatch.setattr(database, "_upgrade", broken)
    with pytest.raises(KeyboardInterrupt):
        Registry(old_url)
    monkeypatch.undo()
    if old_url.startswith("sqlite"):
        with sqlite3.connect(old_url.removeprefix("sqlite:///")) as connection:
            assert connection.execute("SELECT schema_version FROM registry").fetchall() == [(1,)]
            assert not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'feeds'").fetchall()
    assert Registry(old_url).version() == 3
