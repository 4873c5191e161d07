"""Logins at a real Mosquitto, once through its plugin and once through files: who may do what, and until when."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from devices.credentials import Credentials
from devices.credentials.errors import UnusableNameError
from tests.devices.broker_user import NOT_AUTHORIZED, BrokerUser, wait_until
from tests.devices.secured_broker import ADMINISTRATOR, PIPELINE, Secured, secured

pytestmark = pytest.mark.mosquitto

OWN = "pantau/v1/kota/awlr-1"
OTHER = "pantau/v1/kota/awlr-2"


@pytest.fixture(scope="module", params=["dynsec", "files"])
def site(request: pytest.FixtureRequest) -> Iterator[Secured]:
    with secured(request.param) as s:
        yield s


@pytest.fixture(scope="module")
def logins(site: Secured) -> dict[str, Credentials]:
    return {c.device: c for c in site.issuer.create_many(["awlr-1", "awlr-2"])}


def test_credentials_say_all_that_a_device_needs(site: Secured, logins: dict[str, Credentials]) -> None:
    c = logins["awlr-1"]
    assert (c.username, c.client_id, c.topic) == ("awlr-1", "awlr-1", OWN)
    assert (c.host, c.port, c.tls) == ("mqtt.kota.example", 8883, True)
    assert len(set(c.password) - {"-"}) > 8 and c.password != logins["awlr-2"].password
    assert c.password not in repr(c)
    # Nobody but the broker has it, and the broker has a salted hash.
    for path in site.mosquitto.folder.rglob("*"):
        if path.is_file():
            assert c.password.encode() not in path.read_bytes(), path


def test_a_device_publishes_as_itself_and_the_pipeline_reads_it(site: Secured, logins: dict[str, Credentials]) -> None:
    with site.pipeline() as pipeline, site.device(logins["awlr-1"]) as device:
        assert pipeline.subscribe("pantau/v1/+/+") == 1
        assert device.publish(OWN, b"1.24") in (0, 16)  # 16: nobody subscribed, not so here
        wait_until(lambda: pipeline.messages, "the reading")
        assert pipeline.messages == [(OWN, b"1.24")]


def test_a_device_cannot_publish_as_another(site: Secured, logins: dict[str, Credentials]) -> None:
    with site.watcher() as watcher:
        for topic in (
            OTHER,
            "pantau/v1/bandung/awlr-1",
            "pantau/v1/kota/clock",
            "pantau/v1/kota/awlr-1/more",
            "pantau/v1/kota",
            "pantau/v1/kota/AWLR-1",
            "other",
            "$SYS/broker/uptime",
            "$CONTROL/dynamic-security/v1",
        ):
            for retain in (False, True):
                # A connection for each: Debian's Mosquitto 2.0.11 ends one over such an attempt.
                with site.device(logins["awlr-1"]) as device:
                    assert device.refused is None
                    assert device.publish(topic, b"forged", retain=retain) in (NOT_AUTHORIZED, 0), topic
        with site.device(logins["awlr-1"]) as device:
            device.publish(OWN, b"true")
        # A will is published by the broker when the device is gone: not for another either.
        thief = site.device(logins["awlr-1"], will=(OTHER, b"forged"))
        assert thief.refused is None or thief.refused == NOT_AUTHORIZED
        thief.close(politely=False)
        with site.device(logins["awlr-1"]) as device:
            device.publish(OWN, b"last")
        wait_until(lambda: (OWN, b"last") in watcher.messages, "the last message")
        assert [m for m in watcher.messages if m[1] in (b"forged", b"true")] == [(OWN, b"true")]


def test_a_device_cannot_come_in_as_another(site: Secured, logins: dict[str, Credentials]) -> None:
    mine, others = logins["awlr-1"], logins["awlr-2"]
    for username, password in (
        ("awlr-2", mine.password),
        ("awlr-1", others.password),
        ("awlr-1", ""),
        ("awlr-1", None),
        (None, None),
        ("AWLR-1", mine.password),
        (PIPELINE.username, mine.password),
        (ADMINISTRATOR.username, mine.password),
    ):
        with BrokerUser(site.port, username, password, "awlr-1") as stranger:
            assert stranger.refused is not None, (username, password)


def test_a_device_cannot_read(site: Secured, logins: dict[str, Credentials]) -> None:
    with site.device(logins["awlr-2"]) as other:
        other.publish(OTHER, b"secret", retain=True)
    with site.device(logins["awlr-1"]) as spy, site.device(logins["awlr-2"]) as other:
        for topic in (
            "#",
            "pantau/v1/#",
            "pantau/v1/kota/+",
            OTHER,
            "$share/group/pantau/v1/kota/+",
            "$SYS/#",
            "$SYS/broker/log/#",
            "$CONTROL/#",
            "$CONTROL/dynamic-security/v1/response",
        ):
            spy.subscribe(topic)
        other.publish(OTHER, b"secret")
        site.issuer.known()  # with the plugin: a request whose answer is on a control topic
        other.publish(OTHER, b"secret too")
        time.sleep(1.0)
        assert not spy.left.is_set()
        assert [m for m in spy.messages if m[0] != OWN] == []


def test_a_session_from_before_reads_nothing_either(site: Secured) -> None:
    """A subscription that a session holds from a time when it was allowed is of no use."""
    made = site.issuer.create("curious")
    with site.device(made, keep_session=True) as device:
        device.subscribe("pantau/v1/#")
    with site.device(site.issuer.create("talker")) as talker:
        talker.publish("pantau/v1/kota/talker", b"secret")
    with site.device(made, keep_session=True) as device:
        time.sleep(0.5)
        assert device.messages == []


def test_revoking_cuts_a_connected_device_off_within_seconds(site: Secured) -> None:
    made = site.issuer.create("stolen")
    with site.pipeline() as pipeline:
        pipeline.subscribe("pantau/v1/+/+")
        with site.device(made) as device:
            device.publish(made.topic, b"before")
            wait_until(lambda: (made.topic, b"before") in pipeline.messages, "the message before")
            began = time.monotonic()
            assert site.issuer.revoke("stolen") is True
            assert device.left.wait(3.0), "it still was connected after 3 s"
            took_s = time.monotonic() - began
        with site.device(made) as device:
            assert device.refused is not None
            assert device.publish(made.topic, b"after") == NOT_AUTHORIZED
        assert [m for m in pipeline.messages if m[0] == made.topic] == [(made.topic, b"before")]
    assert took_s < 3.0
    assert "stolen" not in site.issuer.known()
    assert site.issuer.revoke("stolen") is False, "again is no error"


def test_a_new_password_makes_the_old_one_useless_at_once(site: Secured) -> None:
    old = site.issuer.create("awlr-3", speaks_for=["awlr-4"])
    with site.device(old) as device:
        new = site.issuer.rotate("awlr-3")
        assert device.left.wait(3.0), "who used the old password still is connected"
    assert new.password != old.password and new.speaks_for == ("awlr-4",)
    with site.device(old) as device:
        assert device.refused is not None
    with site.device(new) as device:
        assert device.refused is None
        assert device.publish(new.topic) != NOT_AUTHORIZED
    # Registering it again is the same, and takes rights away that are not named again.
    again = site.issuer.create("awlr-3")
    with site.device(new) as device:
        assert device.refused is not None
    assert again.speaks_for == () == site.issuer.speaks_for("awlr-3")


def test_a_gateway_may_speak_for_the_devices_behind_it(site: Secured) -> None:
    made = site.issuer.create("gateway-1", speaks_for=["leaf-1", "leaf-2"])
    assert made.speaks_for == ("leaf-1", "leaf-2") == site.issuer.speaks_for("gateway-1")
    with site.pipeline() as pipeline:
        pipeline.subscribe("pantau/v1/+/+")
        for name in ("leaf-3", "awlr-2"):
            with site.device(made) as gateway:
                assert gateway.publish(f"pantau/v1/kota/{name}", b"forged") == NOT_AUTHORIZED
        with site.device(made) as gateway:
            for name in ("gateway-1", "leaf-1", "leaf-2"):
                assert gateway.publish(f"pantau/v1/kota/{name}", name.encode()) != NOT_AUTHORIZED
        wait_until(lambda: pipeline.messages and pipeline.messages[-1][1] == b"leaf-2", "the last message")
        fresh = [payload for _, payload in pipeline.messages if payload != b"secret"]
        assert fresh == [b"gateway-1", b"leaf-1", b"leaf-2"]
    # The rights hold from the moment that they are changed.
    site.issuer.create("gateway-1", speaks_for=["leaf-2"])
    assert site.issuer.speaks_for("gateway-1") == ("leaf-2",)
    with site.device(site.issuer.rotate("gateway-1")) as gateway:
        assert gateway.publish("pantau/v1/kota/leaf-1") == NOT_AUTHORIZED


def test_logins_survive_a_restart_of_the_broker(site: Secured) -> None:
    made = site.issuer.create("lasting")
    site.mosquitto.restart()
    with site.device(made) as device:
        assert device.refused is None and device.publish(made.topic) != NOT_AUTHORIZED
        assert "lasting" in site.issuer.known()
    assert site.issuer.check() is None


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (PIPELINE.username, "the name is that of another user"),
        ("clock", "taken by the clock's topic"),
        ("a/b", "must be 1 to 200 characters without spaces"),
        ("#", "must be 1 to 200 characters without spaces"),
        ("+", "must be 1 to 200 characters without spaces"),
        ("", "must be 1 to 200 characters without spaces"),
        ("two words", "must be 1 to 200 characters without spaces"),
        ("line\nuser pantau", "must be 1 to 200 characters without spaces"),
    ],
)
def test_a_name_that_cannot_be_a_devices_is_refused(site: Secured, name: str, sentence: str) -> None:
    before = site.issuer.known()
    for act in (site.issuer.create, site.issuer.rotate, site.issuer.revoke):
        with pytest.raises(UnusableNameError, match=sentence):
            act(name)
    with pytest.raises(UnusableNameError):
        site.issuer.create("awlr-9", speaks_for=[name] if name != PIPELINE.username else ["a b"])
    assert site.issuer.known() == before


@pytest.mark.parametrize("name", ['quote"s', "apo'strophe", "$(id)", "%u", "%c", "é-雨", "a.b_c-d@e=f;g", "-x", "user"])
def test_an_odd_name_gives_rights_to_its_own_topic_alone(site: Secured, name: str) -> None:
    made = site.issuer.create(name)
    with site.watcher() as watcher:
        with site.device(made) as device:
            assert device.refused is None
            device.publish(OTHER, b"forged")
        with site.device(made) as device:
            device.publish(made.topic, json.dumps(name).encode())
        wait_until(lambda: (made.topic, json.dumps(name).encode()) in watcher.messages, "its own message")
        assert b"forged" not in [payload for _, payload in watcher.messages]
    assert name in site.issuer.known()
    assert site.issuer.revoke(name)
    with site.device(made) as device:
        assert device.refused is not None


def test_rotating_a_device_without_a_login_is_refused(site: Secured) -> None:
    with pytest.raises(UnusableNameError, match="'nobody' has no login"):
        site.issuer.rotate("nobody")


def test_preparing_again_changes_nothing_and_disturbs_nobody(site: Secured) -> None:
    with site.pipeline() as pipeline:
        assert site.issuer.prepare() == []
        assert not pipeline.left.wait(0.5)
    assert site.issuer.check() is None
