"""One MQTT 5 connection to the broker for a moment: to try a login, or to ask the plugin something.

The pipeline's own connections are not made here; see ``ingest``.
"""

from __future__ import annotations

import contextlib
import secrets
import ssl
import threading
from collections.abc import Iterator
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from devices.credentials import Broker, Login
from devices.credentials.errors import BrokerRefusedError, BrokerUnreachableError

_REFUSED = {134, 135}
"""Reason codes of CONNACK: bad user name or password, not authorized. [MQTT 5.0, 3.2.2.2]"""


@contextlib.contextmanager
def connected(broker: Broker, login: Login | None, client_id: str = "") -> Iterator[mqtt.Client]:
    """A connected client whose network loop runs in a thread; disconnected at the end of the block.

    Parameters
    ----------
    client_id : str
        Empty: a new random one.

    Raises
    ------
    BrokerUnreachableError
        No connection within ``broker.timeout_s``.
    BrokerRefusedError
        The broker refuses the login.
    """
    name = client_id or f"pantau-credentials-{secrets.token_hex(4)}"
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5)
    answered = threading.Event()
    reasons: list[Any] = []

    def on_connect(_client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        reasons.append(reason)
        answered.set()

    client.on_connect = on_connect
    client.connect_timeout = broker.timeout_s
    if login is not None:
        client.username_pw_set(login.username, login.password)
    try:
        if broker.tls:
            client.tls_set(broker.ca_file, broker.cert_file, broker.key_file)
        client.connect(broker.host, broker.port, keepalive=30)
    except ssl.SSLError as error:
        raise BrokerUnreachableError(f"broker {broker.address}: {error.reason or error}") from error
    except (OSError, ValueError) as error:
        raise BrokerUnreachableError(f"broker {broker.address} can't be reached: {error}") from error
    client.loop_start()
    try:
        if not answered.wait(broker.timeout_s):
            raise BrokerUnreachableError(f"broker {broker.address} did not answer within {broker.timeout_s:g} s")
        if reasons[0].is_failure:
            who = f"user {login.username!r}" if login else "a client without a user name"
            if reasons[0].value in _REFUSED:
                raise BrokerRefusedError(f"broker {broker.address} refuses {who}: {str(reasons[0]).lower()}")
            raise BrokerUnreachableError(f"broker {broker.address} takes no connection: {str(reasons[0]).lower()}")
        yield client
    finally:
        client.disconnect()
        client.loop_stop()


def accepts(broker: Broker, login: Login, client_id: str = "") -> bool:
    """Whether the broker lets this login in. Raises BrokerUnreachableError."""
    try:
        with connected(broker, login, client_id):
            return True
    except BrokerRefusedError:
        return False
