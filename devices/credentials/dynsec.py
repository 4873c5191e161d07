"""Logins through Mosquitto's dynamic security plugin: requests on its control topic, in force at once.

Each device is a client of the plugin, named as the device, with a role of its own (``device:<id>``) that lets it
publish to its own topic and nothing else. Everything else is denied by default, so ``prepare`` must have run once.
The plugin's file is the only place where this is kept; the broker writes it.

The plugin (checked with Mosquitto 2.0.11) answers every request to all that listen on the response topic, so answers
are told apart by ``correlationData``. It disconnects a client whose login, password or role changes. It writes its
whole file for each command that changes something: making many logins gets slower the more there are.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import paho.mqtt.client as mqtt

from devices.credentials import (
    Broker,
    Credentials,
    DeviceSide,
    Login,
    check_name,
    new_password,
    topic_of,
)
from devices.credentials.broker import accepts, connected
from devices.credentials.errors import (
    BrokerRefusedError,
    BrokerUnreachableError,
    PluginMissingError,
    UnusableNameError,
)

CONTROL = "$CONTROL/dynamic-security/v1"
RESPONSE = f"{CONTROL}/response"
DEVICE_ROLE = "device:"
"""Before the device's id: the name of its role. Only clients that have their own such role are ours."""
PIPELINE_ROLE = "pantau:pipeline"

DENY_ALL = {"publishClientSend": False, "publishClientReceive": False, "subscribe": False, "unsubscribe": True}
"""Default access. Receiving is denied too: a session that once subscribed must not go on reading."""

PIPELINE_SYS_TOPICS = (
    "$SYS/broker/publish/messages/dropped",
    "$SYS/broker/store/messages/count",
    "$SYS/broker/+/count",
    "$SYS/broker/log/#",
)
"""The counts of dropped, held and retained messages, and the log that tells of refused logins (``log_dest topic``)."""

_BATCH = 10
"""Devices in one request: while the plugin writes its file for each of their commands, the broker does nothing else."""
_PAGE = 1000
_PER_COMMAND_S = 0.25
"""Added to the time limit for each command that makes the plugin write its file."""

Command = dict[str, Any]
Answer = dict[str, Any]


class DynsecIssuer:
    """Makes device logins in Mosquitto's dynamic security plugin.

    Parameters
    ----------
    broker : Broker
        Where to reach it.
    administrator : Login
        A client of the plugin that may use its control topic.
    city : str
        Second part of the devices' topics.
    device_side : DeviceSide
        What devices are told about the broker.
    pipeline : Login or None
        The pipeline's own login, made and given its role by ``prepare``.
    pipeline_topics : sequence of str
        Topic filters that the pipeline subscribes to.
    bind_client_id : bool
        A device may connect under its own id as client id only. Without it, a device could take over the session of
        the pipeline by using its client id, and make the messages that wait there vanish.
    reserved : iterable of str
        More user names that no device may have.
    answer_s : float
        How long the plugin may take for an answer.
    """

    kind = "dynsec"

    def __init__(
        self,
        broker: Broker,
        administrator: Login,
        *,
        city: str,
        device_side: DeviceSide,
        pipeline: Login | None = None,
        pipeline_topics: Sequence[str] = ("pantau/v1/+/+",),
        bind_client_id: bool = True,
        reserved: Iterable[str] = (),
        answer_s: float = 5.0,
    ) -> None:
        self._broker = broker
        self._administrator = administrator
        self._city = city
        self._side = device_side
        self._pipeline = pipeline
        self._pipeline_topics = tuple(pipeline_topics)
        self._bind = bind_client_id
        self._reserved = {administrator.username, *reserved} | ({pipeline.username} if pipeline else set())
        self._answer_s = answer_s
        self._lock = threading.Lock()

    def create(self, device: str, *, speaks_for: Sequence[str] = ()) -> Credentials:
        """See ``Issuer.create``. Raises UnusableNameError for a name that is another user's."""
        return self._create({device: tuple(speaks_for)})[0]

    def create_many(self, devices: Iterable[str]) -> list[Credentials]:
        """See ``Issuer.create_many``. Those made before an error stay."""
        wanted: dict[str, tuple[str, ...]] = dict.fromkeys(devices, ())
        names = list(wanted)
        made: list[Credentials] = []
        for name in names:
            check_name(name, self._reserved)
        for start in range(0, len(names), _BATCH):
            made += self._create(dict.fromkeys(names[start : start + _BATCH], ()))
        return made

    def rotate(self, device: str) -> Credentials:
        """See ``Issuer.rotate``."""
        check_name(device, self._reserved)
        with self._lock, _Conversation(self) as talk:
            client, role = self._look(talk, [device])[device]
            self._must_be_ours(device, client)
            password = new_password()
            # The role is not touched: the device keeps the rights that it has.
            talk.ask(
                [
                    {"command": "setClientPassword", "username": device, "password": password},
                    {"command": "enableClient", "username": device},
                ]
            )
        return self._credentials(device, password, self._others(device, role))

    def revoke(self, device: str) -> bool:
        """See ``Issuer.revoke``."""
        check_name(device, self._reserved)
        with self._lock, _Conversation(self) as talk:
            client, role = self._look(talk, [device])[device]
            if client is not None:
                self._must_be_ours(device, client)
            # The client first: from then on the device is out, even if we are stopped before the role is gone.
            commands = [{"command": "deleteClient", "username": device}] if client is not None else []
            commands += [{"command": "deleteRole", "rolename": DEVICE_ROLE + device}] if role is not None else []
            if commands:
                talk.ask(commands, missing_is_fine=True)
            return client is not None

    def known(self) -> set[str]:
        """See ``Issuer.known``."""
        with self._lock, _Conversation(self) as talk:
            clients = set(talk.list_all("listClients", "clients"))
            roles = talk.list_all("listRoles", "roles")
        return {r.removeprefix(DEVICE_ROLE) for r in roles if r.startswith(DEVICE_ROLE)} & clients

    def speaks_for(self, device: str) -> tuple[str, ...]:
        """See ``Issuer.speaks_for``."""
        check_name(device, self._reserved)
        with self._lock, _Conversation(self) as talk:
            return self._others(device, self._look(talk, [device])[device][1])

    def prepare(self) -> list[str]:
        """Deny everything by default, and give the pipeline its login and role.

        The pipeline's password is set only if the broker refuses it, so that a running pipeline is not disconnected.
        """
        done: list[str] = []
        with self._lock, _Conversation(self) as talk:
            (answer,) = talk.ask([{"command": "getDefaultACLAccess"}])
            access = {a["acltype"]: a["allow"] for a in answer["data"]["acls"]}
            if access != DENY_ALL:
                talk.ask(
                    [
                        {
                            "command": "setDefaultACLAccess",
                            "acls": [{"acltype": k, "allow": v} for k, v in DENY_ALL.items()],
                        }
                    ]
                )
                done.append("what no role allows is denied now")
            if self._pipeline is not None:
                done += self._prepare_pipeline(talk, self._pipeline)
        return done

    def ping(self) -> None:
        """Ask the plugin something harmless.

        Raises
        ------
        BrokerUnreachableError, BrokerRefusedError, PluginMissingError
            It does not answer, or not to us.
        """
        with self._lock, _Conversation(self) as talk:
            talk.ask([{"command": "getDefaultACLAccess"}])

    def check(self) -> str | None:
        """See ``Issuer.check``: the plugin answers, and everything that no role allows is denied."""
        try:
            with self._lock, _Conversation(self) as talk:
                (answer,) = talk.ask([{"command": "getDefaultACLAccess"}])
        except (BrokerUnreachableError, BrokerRefusedError, PluginMissingError) as error:
            return str(error)
        access = {a["acltype"]: a["allow"] for a in answer["data"]["acls"]}
        open_ones = [k for k, denied in DENY_ALL.items() if not denied and access.get(k, True)]
        if open_ones:
            return (
                f"broker {self._broker.address} allows {' and '.join(open_ones)} to everybody by default: "
                "devices could read or write for others until the broker is prepared"
            )
        return None

    def note(self, language: str) -> str:
        """Nothing to say: changes are in force at once."""
        return ""

    # -- inside -------------------------------------------------------------------------------------------------

    def _create(self, wanted: Mapping[str, tuple[str, ...]]) -> list[Credentials]:
        for device, others in wanted.items():
            check_name(device, self._reserved)
            for other in others:
                check_name(other)
        passwords = {device: new_password() for device in wanted}
        with self._lock, _Conversation(self) as talk:
            found = self._look(talk, list(wanted))
            commands: list[Command] = []
            for device, others in wanted.items():
                client, role = found[device]
                if client is not None:
                    self._must_be_ours(device, client)
                commands += self._commands(device, passwords[device], others, client, role)
            talk.ask(commands)
        return [self._credentials(d, passwords[d], others) for d, others in wanted.items()]

    def _commands(
        self, device: str, password: str, others: tuple[str, ...], client: Answer | None, role: Answer | None
    ) -> list[Command]:
        """The fewest that bring the device's client and role to what is wanted."""
        name = DEVICE_ROLE + device
        acls = [_acl("publishClientSend", topic_of(self._city, d)) for d in (device, *others)]
        commands: list[Command] = []
        if role is None:
            commands.append({"command": "createRole", "rolename": name, "acls": acls})
        elif _rights(role["acls"]) != _rights(acls):
            commands.append({"command": "modifyRole", "rolename": name, "acls": acls})
        client_id = {"clientid": device} if self._bind else {}
        if client is None:
            roles = [{"rolename": name}]
            commands.append(
                {"command": "createClient", "username": device, "password": password, "roles": roles, **client_id}
            )
            return commands
        # Neither role nor groups may stay that another hand has added.
        commands.append(
            {
                "command": "modifyClient",
                "username": device,
                "password": password,
                "clientid": device if self._bind else "",
                "roles": [{"rolename": name}],
                "groups": [],
            }
        )
        # modifyClient of 2.0.11 does not disconnect whoever uses the old password; this does.
        commands.append({"command": "setClientPassword", "username": device, "password": password})
        if client.get("disabled"):
            commands.append({"command": "enableClient", "username": device})
        return commands

    def _look(self, talk: _Conversation, devices: list[str]) -> dict[str, tuple[Answer | None, Answer | None]]:
        """Client and role of each device as the plugin has them, or None."""
        commands: list[Command] = []
        for device in devices:
            commands.append({"command": "getClient", "username": device})
            commands.append({"command": "getRole", "rolename": DEVICE_ROLE + device})
        answers = talk.ask(commands, missing_is_fine=True)
        data = [a.get("data", {}) for a in answers]
        return {d: (data[2 * i].get("client"), data[2 * i + 1].get("role")) for i, d in enumerate(devices)}

    def _must_be_ours(self, device: str, client: Answer | None) -> None:
        if client is None:
            raise UnusableNameError(f"device {device!r} has no login at the broker {self._broker.address}")
        if all(r["rolename"] != DEVICE_ROLE + device for r in client.get("roles", [])):
            raise UnusableNameError(
                f"{device!r} is a user of the broker {self._broker.address} that Pantau did not make: "
                "choose another id for the device, or delete that user"
            )

    def _others(self, device: str, role: Answer | None) -> tuple[str, ...]:
        prefix = topic_of(self._city, "")
        topics = [a["topic"] for a in (role or {}).get("acls", []) if a["allow"]]
        names = (t.removeprefix(prefix) for t in topics if t.startswith(prefix))
        return tuple(sorted(n for n in names if n != device))

    def _credentials(self, device: str, password: str, others: tuple[str, ...]) -> Credentials:
        side = self._side
        return Credentials(
            device=device,
            username=device,
            password=password,
            host=side.host,
            port=side.port,
            tls=side.tls,
            topic=topic_of(self._city, device),
            client_id=device,
            speaks_for=others,
            ca_pem=side.ca_pem,
        )

    def _prepare_pipeline(self, talk: _Conversation, pipeline: Login) -> list[str]:
        acls = pipeline_rights(self._pipeline_topics)
        found = talk.ask(
            [
                {"command": "getRole", "rolename": PIPELINE_ROLE},
                {"command": "getClient", "username": pipeline.username},
            ],
            missing_is_fine=True,
        )
        role, client = found[0].get("data", {}).get("role"), found[1].get("data", {}).get("client")
        done: list[str] = []
        if role is None:
            talk.ask([{"command": "createRole", "rolename": PIPELINE_ROLE, "acls": acls}])
            done.append(f"the role {PIPELINE_ROLE} reads {', '.join(self._pipeline_topics)}")
        elif _rights(role["acls"]) != _rights(acls):
            talk.ask([{"command": "modifyRole", "rolename": PIPELINE_ROLE, "acls": acls}])
            done.append(f"the role {PIPELINE_ROLE} reads {', '.join(self._pipeline_topics)} now")
        roles = [{"rolename": PIPELINE_ROLE}]
        if client is None:
            talk.ask(
                [
                    {
                        "command": "createClient",
                        "username": pipeline.username,
                        "password": pipeline.password,
                        "roles": roles,
                    }
                ]
            )
            return [*done, f"the pipeline's user {pipeline.username!r} is made"]
        if all(r["rolename"] != PIPELINE_ROLE for r in client.get("roles", [])):
            talk.ask([{"command": "addClientRole", "username": pipeline.username, "rolename": PIPELINE_ROLE}])
            done.append(f"the pipeline's user {pipeline.username!r} has its role")
        if not accepts(self._broker, pipeline, client_id=client.get("clientid") or ""):
            talk.ask(
                [
                    {
                        "command": "setClientPassword",
                        "username": pipeline.username,
                        "password": pipeline.password,
                    },
                    {"command": "enableClient", "username": pipeline.username},
                ]
            )
            done.append(f"the pipeline's user {pipeline.username!r} has the password of the settings")
        return done


class _Conversation:
    """Requests to the plugin over one connection; a context manager.

    Raises
    ------
    BrokerUnreachableError, BrokerRefusedError, PluginMissingError
        On entry and on each request.
    """

    def __init__(self, issuer: DynsecIssuer) -> None:
        self._broker = issuer._broker
        self._administrator = issuer._administrator
        self._answer_s = issuer._answer_s
        self._came = threading.Condition()
        self._answers: dict[str, Answer] = {}
        self._reasons: dict[int, Any] = {}

    def __enter__(self) -> _Conversation:
        self._context = connected(self._broker, self._administrator)
        self._client = self._context.__enter__()
        try:
            self._listen()
        except BaseException:
            self._context.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self._context.__exit__(None, None, None)

    def ask(self, commands: list[Command], *, missing_is_fine: bool = False) -> list[Answer]:
        """Send commands in one request and wait for all answers, in their order.

        ``missing_is_fine``: that a client or role is not there is no error; its answer has no ``data`` then.
        """
        marks = [secrets.token_hex(8) for _ in commands]
        request = {"commands": [{**c, "correlationData": m} for c, m in zip(commands, marks, strict=True)]}
        info = self._client.publish(CONTROL, json.dumps(request), qos=1)
        limit_s = self._answer_s + _PER_COMMAND_S * len(commands)
        if not self._wait(lambda: info.mid in self._reasons or all(m in self._answers for m in marks), limit_s):
            raise BrokerUnreachableError(f"broker {self._broker.address} did not take the request in {limit_s:g} s")
        reason = self._reasons.get(info.mid)
        if reason is not None and reason.is_failure:
            raise BrokerRefusedError(
                f"broker {self._broker.address} does not let user {self._administrator.username!r} "
                f"manage logins: {str(reason).lower()}"
            )
        if not self._wait(lambda: all(m in self._answers for m in marks), limit_s):
            raise PluginMissingError(
                f"broker {self._broker.address} has no dynamic security plugin: nothing answers on {CONTROL}"
            )
        answers = [self._answers.pop(m) for m in marks]
        for command, answer in zip(commands, answers, strict=True):
            error = answer.get("error")
            if error and not (missing_is_fine and "not found" in error.lower()):
                about = command.get("username") or command.get("rolename") or ""
                raise BrokerRefusedError(
                    f"broker {self._broker.address} refuses {command['command']} {about!r}: {error}"
                )
        return answers

    def list_all(self, command: str, key: str) -> list[str]:
        """All names of a list, page by page."""
        names: list[str] = []
        while True:
            (answer,) = self.ask([{"command": command, "verbose": False, "count": _PAGE, "offset": len(names)}])
            page = answer["data"][key]
            names += page
            if not page or len(names) >= answer["data"]["totalCount"]:
                return names

    def _listen(self) -> None:
        subscribed: list[Any] = []

        def on_subscribe(_client: Any, _data: Any, _mid: int, reasons: list[Any], _properties: Any) -> None:
            with self._came:
                subscribed.extend(reasons)
                self._came.notify_all()

        def on_publish(_client: Any, _data: Any, mid: int, reason: Any, _properties: Any) -> None:
            with self._came:
                self._reasons[mid] = reason
                self._came.notify_all()

        def on_message(_client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
            try:
                responses = json.loads(message.payload)["responses"]
                came = {r["correlationData"]: r for r in responses if "correlationData" in r}
            except (ValueError, KeyError, TypeError):
                return  # not an answer to us
            with self._came:
                self._answers |= came
                self._came.notify_all()

        self._client.on_subscribe = on_subscribe
        self._client.on_publish = on_publish
        self._client.on_message = on_message
        self._client.subscribe(RESPONSE, 1)
        if not self._wait(lambda: bool(subscribed), self._answer_s):
            raise BrokerUnreachableError(f"broker {self._broker.address} did not answer within {self._answer_s:g} s")
        if subscribed[0].is_failure:
            raise BrokerRefusedError(
                f"broker {self._broker.address} does not let user {self._administrator.username!r} manage logins: "
                f"it may not read {RESPONSE}"
            )

    def _wait(self, condition: Callable[[], bool], limit_s: float) -> bool:
        until = time.monotonic() + limit_s
        with self._came:
            while not condition():
                left = until - time.monotonic()
                if left <= 0 or not self._came.wait(left):
                    return condition()
            return True


def pipeline_rights(topics: Iterable[str]) -> list[Command]:
    """What the pipeline may do: read these topics, and what the broker says about itself."""
    return [
        _acl(kind, topic)
        for topic in (*topics, *PIPELINE_SYS_TOPICS)
        for kind in ("subscribePattern", "publishClientReceive")
    ]


def _acl(kind: str, topic: str) -> Command:
    return {"acltype": kind, "topic": topic, "allow": True}


def _rights(acls: Iterable[Mapping[str, Any]]) -> set[tuple[str, str, bool]]:
    return {(a["acltype"], a["topic"], bool(a["allow"])) for a in acls}
