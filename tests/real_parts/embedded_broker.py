"""The embedded broker (rumqttd in the package ``iotcore``) for tests: MQTT 3.1.1 and MQTT 5 on two ports."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from iotcore import Broker

from tests.real_parts.mosquitto import free_port

_CONFIG = """
id = 0
[router]
id = 0
max_connections = 1000
max_outgoing_packet_count = 1000
max_segment_size = 104857600
max_segment_count = 10
{listeners}
"""
_LISTENER = """
[{version}.1]
name = "{version}"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1
[{version}.1.connections]
connection_timeout_ms = 60000
max_payload_size = 2097152
max_inflight_count = {inflight}
dynamic_filters = true
"""


@contextlib.contextmanager
def embedded_broker(inflight: int = 500) -> Iterator[tuple[int, int]]:
    """A running broker: its ports for MQTT 3.1.1 and for MQTT 5."""
    old, new = free_port(), free_port()
    listeners = [_LISTENER.format(version=v, port=p, inflight=inflight) for v, p in (("v4", old), ("v5", new))]
    with tempfile.TemporaryDirectory(prefix="rumqttd-") as folder:
        config = Path(folder) / "rumqttd.toml"
        config.write_text(_CONFIG.format(listeners="".join(listeners)))
        with Broker(config_path=str(config)):
            yield old, new
