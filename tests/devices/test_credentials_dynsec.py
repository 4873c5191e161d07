"""The plugin's own side of logins: preparing it, its errors in plain sentences, and states that others left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from devices.credentials import Credentials, DeviceSide, Login
from devices.credentials.dynsec import DEVICE_ROLE, DynsecIssuer, _Conversation
from devices.credentials.errors import (
    BrokerRefusedError,
    BrokerUnreachableError,
    CredentialsError,
    PluginMissingError,
    UnusableNameError,
)
from tests.devices.broker_user import NOT_AUTHORIZED, BrokerUser, wait_until
from tests.devices.secured_broker import ADMINISTRATOR, PIPELINE, Secured, secured
from tests.real_parts.mosquitto import Mosquitto, free_port

pytestmark = pytest.mark.mosquitto

SIDE = DeviceSide("mqtt.kota.example")


@pytest.fixture(scope="module")
def site() -> Iterator[Secured]:
    with secured("dynsec") as s:
        yield s


def dynsec(site: Secured) -> DynsecIssuer:
    assert isinstance(site.issuer, DynsecIssuer)
    return site.issuer


def by_hand(site: Secured, *commands: dict[str, object]) -> None:
    """Requests as another administrator would make them."""
    with _Conversation(dynsec(site)) as talk:
        talk.ask(list(commands))


def test_a_fresh_plugin_is_open_until_it_is_prepared() -> None:
    with secured("dynsec", prepare=False) as site:
        problem = site.issuer.check()
        assert problem is not None and "allows publishClientReceive to everybody by default" in problem
        with BrokerUser(site.port, PIPELINE.username, PIPELINE.password) as pipeline:
            assert pipeline.refused is not None
        assert site.issuer.prepare() == [
            "what no role allows is denied now",
            "the role pantau:pipeline reads pantau/v1/+/+",
            "the pipeline's user 'pantau' is made",
        ]
        assert site.issuer.prepare() == [] and site.issuer.check() is None
        with site.pipeline() as pipeline:
            assert pipeline.subscribe("pantau/v1/+/+") == 1
            assert pipeline.subscribe("$SYS/broker/publish/messages/dropped") == 1
            assert pipeline.subscribe("$SYS/broker/log/N") == 1
            assert pipeline.subscribe("#") == NOT_AUTHORIZED
            assert pipeline.publish("pantau/v1/kota/awlr-1") == NOT_AUTHORIZED


def test_preparing_mends_what_others_changed(site: Secured) -> None:
    by_hand(
        site,
        {"command": "setDefaultACLAccess", "acls": [{"acltype": "subscribe", "allow": True}]},
        {"command": "setClientPassword", "username": PIPELINE.username, "password": "another"},
        {"command": "removeClientRole", "username": PIPELINE.username, "rolename": "pantau:pipeline"},
        {
            "command": "addRoleACL",
            "rolename": "pantau:pipeline",
            "acltype": "publishClientSend",
            "topic": "#",
            "allow": True,
        },
    )
    assert "allows subscribe to everybody" in (site.issuer.check() or "")
    assert len(site.issuer.prepare()) == 4
    assert site.issuer.prepare() == [] and site.issuer.check() is None
    with site.pipeline() as pipeline:
        assert pipeline.refused is None and pipeline.subscribe("pantau/v1/+/+") == 1
        assert pipeline.publish("pantau/v1/kota/awlr-1") == NOT_AUTHORIZED


def test_a_device_cannot_take_over_the_pipelines_session(site: Secured) -> None:
    """Messages that wait for the pipeline would vanish: the session of a client id belongs to who connects with it."""
    made = site.issuer.create("awlr-1")
    with site.pipeline(client_id="pantau-main", keep_session=True) as pipeline:
        pipeline.subscribe("pantau/v1/+/+")
    with site.device(made) as device:
        assert device.publish(made.topic, b"waits") != NOT_AUTHORIZED
    with site.device(made, client_id="pantau-main", keep_session=True) as thief:
        assert thief.refused is not None
    with site.pipeline(client_id="pantau-main", keep_session=True) as pipeline:
        wait_until(lambda: (made.topic, b"waits") in pipeline.messages, "the message that waits")


def test_a_session_from_a_time_with_more_rights_reads_nothing(site: Secured) -> None:
    """A subscription stays in a session when the right to it goes; what is denied by default is receiving as well."""
    made = site.issuer.create("curious")
    grant = {"acltype": "subscribePattern", "topic": "pantau/v1/#", "allow": True}
    by_hand(site, {"command": "addRoleACL", "rolename": f"{DEVICE_ROLE}curious", **grant})
    with site.device(made, keep_session=True) as device:
        assert device.subscribe("pantau/v1/#") == 1
    by_hand(site, {"command": "removeRoleACL", "rolename": f"{DEVICE_ROLE}curious", **grant})
    talker = site.issuer.create("talker")
    with site.device(talker) as other:
        other.publish(talker.topic, b"while away")
        with site.device(made, keep_session=True) as device:
            other.publish(talker.topic, b"while there")
            time.sleep(0.5)
            assert device.messages == []


def test_client_ids_can_be_left_free_for_devices_that_choose_their_own() -> None:
    with secured("dynsec", bind_client_id=False) as site:
        made = site.issuer.create("awlr-1")
        with site.device(made, client_id="chosen-by-the-vendor") as device:
            assert device.refused is None and device.publish(made.topic) != NOT_AUTHORIZED


def test_another_administrators_user_is_left_alone(site: Secured) -> None:
    by_hand(site, {"command": "createClient", "username": "grafana", "password": "x"})
    for act in (site.issuer.create, site.issuer.rotate, site.issuer.revoke):
        with pytest.raises(UnusableNameError, match=r"'grafana' is a user of the broker .* that Pantau did not make"):
            act("grafana")
    with BrokerUser(site.port, "grafana", "x") as grafana:
        assert grafana.refused is None
    assert "grafana" not in site.issuer.known()


def test_whatever_state_a_login_is_in_creating_it_mends_it(site: Secured) -> None:
    role = DEVICE_ROLE + "torn"
    send = {"acltype": "publishClientSend", "allow": True}

    def works() -> None:
        made = site.issuer.create("torn")
        with site.device(made) as device:
            assert device.refused is None
            assert device.publish(made.topic) != NOT_AUTHORIZED
            assert device.publish("pantau/v1/kota/other") == NOT_AUTHORIZED
        assert "torn" in site.issuer.known()

    by_hand(site, {"command": "createRole", "rolename": role, "acls": [{**send, "topic": "#"}]})
    assert "torn" not in site.issuer.known(), "a role alone is no login"
    works()
    by_hand(
        site,
        {"command": "disableClient", "username": "torn"},
        {"command": "setClientId", "username": "torn", "clientid": "another"},
        {"command": "addRoleACL", "rolename": role, **send, "topic": "pantau/v1/#"},
        {"command": "addClientRole", "username": "torn", "rolename": "admin", "priority": 9},
    )
    works()
    by_hand(site, {"command": "deleteClient", "username": "torn"})
    assert site.issuer.revoke("torn") is False
    works()


def test_many_at_once_from_several_threads(site: Secured) -> None:
    made: list[Credentials] = []

    def make(names: list[str]) -> None:
        made.extend(site.issuer.create_many(names))

    names = [f"many-{i}" for i in range(120)]
    threads = [threading.Thread(target=make, args=(names[i::4],)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(c.device for c in made) == sorted(names)
    assert set(names) <= site.issuer.known()
    with site.device(made[77]) as device:
        assert device.publish(made[77].topic) != NOT_AUTHORIZED


def other(site: Secured, **changes: object) -> DynsecIssuer:
    values: dict[str, object] = {"broker": site.broker, "administrator": ADMINISTRATOR} | changes
    return DynsecIssuer(
        values["broker"],  # type: ignore[arg-type]
        values["administrator"],  # type: ignore[arg-type]
        city="kota",
        device_side=SIDE,
        answer_s=1.0,
    )


def said(issuer: DynsecIssuer, kind: type[CredentialsError]) -> str:
    """The sentence; ``check`` and an attempt say the same."""
    with pytest.raises(kind) as caught:
        issuer.create("awlr-1")
    assert issuer.check() == str(caught.value)
    return str(caught.value)


def test_a_wrong_administrator_is_told_in_one_sentence(site: Secured) -> None:
    wrong = said(other(site, administrator=Login("pantau-admin", "wrong")), BrokerRefusedError)
    assert "refuses user 'pantau-admin'" in wrong and "wrong" not in wrong
    assert "does not let user 'pantau' manage logins" in said(other(site, administrator=PIPELINE), BrokerRefusedError)


def test_a_broker_that_is_not_there_is_told_in_one_sentence(site: Secured) -> None:
    port = free_port()
    gone = said(other(site, broker=replace(site.broker, port=port)), BrokerUnreachableError)
    assert f"127.0.0.1:{port} can't be reached" in gone


def test_a_broker_without_the_plugin_is_told_in_one_sentence(site: Secured) -> None:
    with Mosquitto() as plain:
        missing = said(other(site, broker=replace(site.broker, port=plain.port)), PluginMissingError)
    assert "has no dynamic security plugin: nothing answers on $CONTROL/dynamic-security/v1" in missing
