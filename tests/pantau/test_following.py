"""Following the register beside the loop: small changes by difference, large ones as a whole, trouble told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from devices.entities import DeviceEntry, District, NewDatastream, SiteEntry
from devices.errors import RegistryUnavailableError
from devices.registry import Registry
from pantau.following import Next, RegistryFollower
from tests.pantau.running import wait_for


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    registry = Registry(f"sqlite:///{tmp_path / 'r.db'}")
    registry.put_city("bandung", 7.0, by="setup")
    yield registry
    registry.close()


def put(registry: Registry, name: str) -> None:
    registry.register(
        DeviceEntry(name), SiteEntry("dago", "Dago", -6.88, 107.61), by="Rina", datastreams=[NewDatastream("rain_mm")]
    )


def next_of(follower: RegistryFollower) -> Next:
    found: list[Next] = []

    def came() -> bool:
        taken = follower.take()
        found.extend([taken] if taken is not None else [])
        return bool(found)

    wait_for(came, "a newer directory")
    return found[0]


def test_a_change_comes_once_and_then_the_next(registry: Registry) -> None:
    follower = RegistryFollower(registry, registry.directory().with_brokers(("main",)))
    try:
        put(registry, "a")
        first = next_of(follower)
        assert first.change is not None
        assert first.directory.brokers == ("main",)
        assert [d.id for d in first.directory.devices] == ["a"]
        assert follower.take() is None
        follower.use(first.directory)
        put(registry, "b")
        second = next_of(follower)
        assert second.change is not None
        assert second.change.base == first.directory.version
        assert second.directory == registry.directory().with_brokers(("main",))
        follower.use(second.directory)
        registry.put_district(District("32", "Coblong"), by="Rina")
        third = next_of(follower)
        assert third.change is None  # a district may be that of every site
        assert third.directory.version == registry.version()
    finally:
        follower.close()


def test_trouble_is_told_and_ends(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> int:
        raise RegistryUnavailableError("the database does not answer")

    follower = RegistryFollower(registry, registry.directory())
    try:
        with monkeypatch.context() as patch:
            patch.setattr(registry, "version", away)
            wait_for(lambda: follower.trouble == "the database does not answer", "the trouble")
        put(registry, "a")
        assert [d.id for d in next_of(follower).directory.devices] == ["a"]
        assert follower.trouble == ""
    finally:
        follower.close()
