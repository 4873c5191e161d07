"""What many begin with: paho-mqtt at QoS 1 (MQTT 3.1.1, its default), and a callback that does nothing but count.

    python -m benchmarks.plain_paho PORT DESCRIPTOR

It speaks over the pipe with this file descriptor, in the words of ``subjects``, but counts messages. It stores nothing,
checks nothing and keeps nothing for a restart.
"""

from __future__ import annotations

import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

import paho.mqtt.client as mqtt

GIVE_UP_S = 20.0
"""If nothing more came for so long, the rest is lost."""


def count(port: int, pipe: Connection) -> None:
    """Subscribe to all readings, and count."""
    counted, last_at = 0, time.monotonic()
    listening = threading.Event()

    def on_message(client: mqtt.Client, userdata: object, message: mqtt.MQTTMessage) -> None:
        nonlocal counted, last_at
        counted += 1
        last_at = time.monotonic()

    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="plain-paho")  # type: ignore[attr-defined]
    client.on_connect = lambda client, *_: client.subscribe("pantau/v1/+/+", qos=1)
    client.on_subscribe = lambda *_: listening.set()
    client.on_message = on_message
    client.connect("127.0.0.1", port)
    client.loop_start()
    if not listening.wait(10):
        raise TimeoutError("the plain loop could not subscribe")
    pipe.send("listening")
    pipe.recv()
    began, cpu = time.monotonic(), time.process_time()
    last_at = began
    pipe.send("begun")
    while not pipe.poll(0.1):
        pass
    expected = pipe.recv()
    while counted < expected and time.monotonic() - last_at < GIVE_UP_S:
        time.sleep(0.05)
    seconds, cpu = last_at - began, time.process_time() - cpu
    client.disconnect()
    client.loop_stop()
    peak_kib = next(
        int(line.split()[1])
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        if line.startswith("VmHWM:")
    )
    pipe.send({"messages": counted, "seconds": seconds, "cpu_s": cpu, "rss_peak_mib": round(peak_kib / 1024)})


if __name__ == "__main__":
    with Connection(int(sys.argv[2])) as end:
        count(int(sys.argv[1]), end)
