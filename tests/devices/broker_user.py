"""A user of a real broker, for tests of logins: connects, publishes, subscribes, and remembers what happened."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

NOT_AUTHORIZED = 135
"""Reason code. [MQTT 5.0, 2.4]"""


class BrokerUser:
    """An MQTT 5 client; a context manager that disconnects without a word (so that a will is sent).

    ``refused`` is the broker's reason where it does not let the user in, else None.
    """

    def __init__(
        self,
        port: int,
        username: str | None = None,
        password: str | None = None,
        client_id: str = "",
        *,
        keep_session: bool = False,
        will: tuple[str, bytes] | None = None,
        tls: tuple[str, str | None, str | None] | None = None,
    ) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self.refused: int | None = None
        self.left = threading.Event()
        self.left_because: Any = None
        self._connected = threading.Event()
        self._answers: dict[tuple[str, int], int] = {}
        self._changed = threading.Condition()
        c = self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv5)
        if username is not None:
            c.username_pw_set(username, password)
        if will is not None:
            c.will_set(*will, qos=1)
        if tls is not None:
            c.tls_set(*tls, tls_version=ssl.PROTOCOL_TLS_CLIENT)
        c.on_connect = self._on_connect
        c.on_disconnect = self._on_disconnect
        c.on_message = lambda _c, _d, m: self.messages.append((m.topic, m.payload))
        c.on_publish = lambda _c, _d, mid, reason, _p: self._answer("publish", mid, reason.value)
        c.on_subscribe = lambda _c, _d, mid, reasons, _p: self._answer("subscribe", mid, reasons[0].value)
        properties = mqtt.Properties(mqtt.PacketTypes.CONNECT)
        if keep_session:
            properties.SessionExpiryInterval = 3600
        try:
            c.connect("127.0.0.1", port, keepalive=30, clean_start=not keep_session, properties=properties)
        except (ssl.SSLError, ConnectionResetError):
            self.refused = -1
            return
        c.loop_start()
        if not self._connected.wait(10) and self.refused is None:
            raise AssertionError("the broker did not answer")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self, *, politely: bool = True) -> None:
        """Leave; impolitely the broker sends the will."""
        if politely:
            self._client.disconnect()
        elif (s := self._client.socket()) is not None:
            self._client.loop_stop()
            s.close()
            return
        self._client.loop_stop()

    def publish(self, topic: str, payload: bytes = b"1", *, retain: bool = False) -> int:
        """The broker's reason code."""
        info = self._client.publish(topic, payload, qos=1, retain=retain)
        return self._wait(("publish", info.mid))

    def subscribe(self, topic: str) -> int:
        """The broker's reason code; 0 and 1 are the granted QoS."""
        _, mid = self._client.subscribe(topic, 1)
        return self._wait(("subscribe", mid or 0))

    def _wait(self, key: tuple[str, int]) -> int:
        with self._changed:
            if not self._changed.wait_for(lambda: key in self._answers or self.left.is_set(), 10):
                raise AssertionError(f"no answer to {key}")
            return self._answers.pop(key, NOT_AUTHORIZED)

    def _answer(self, what: str, mid: int, reason: int) -> None:
        with self._changed:
            self._answers[what, mid] = reason
            self._changed.notify_all()

    def _on_connect(self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self.refused = reason.value
            client.disconnect()  # or paho would try again and again
        self._connected.set()

    def _on_disconnect(self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if not self._connected.is_set():
            self.refused = -1
            self._connected.set()
        with self._changed:
            self.left_because = reason
            self.left.set()
            self._changed.notify_all()
        client.disconnect()


def wait_until(condition: Callable[[], Any], what: str, timeout_s: float = 15.0) -> None:
    """Wait, or fail."""
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, f"waited {timeout_s:g} s for {what}"
        time.sleep(0.02)
