"""The operator's page with a simulated Bandung behind it, without brokers or stores: to look at it while building.

``python -m tests.dashboards.operator.operator_preview --port 8099 --minutes 130 --speed 60``
"""

from __future__ import annotations

import argparse
import threading
import time

import numpy as np

from dashboards.operator.api import operator_app
from dashboards.operator.health import BrokerStatus, DeviceAccount, HealthStatus, StoreStatus
from dashboards.operator.live import LiveCity
from processing.core import State, step
from simulators.basemap import basemap
from simulators.city import City
from simulators.plan import load
from telemetry.alarms import Acknowledge
from telemetry.observations import NS_PER_S, Observations
from web.access import OpenHouse
from web.server import serve


class Preview:
    """A city in memory: the core runs, and what it gives is kept for the charts."""

    def __init__(self, date: str = "2026-11-24", history_h: float = 6.0) -> None:
        self.city = City(seed=3)
        self.directory = self.city.directory()
        self.live = LiveCity()
        self.live.set_directory(self.directory, basemap(load("bandung")))
        self.live.set_series_source(self.series)
        self.live.set_account_source(lambda d: DeviceAccount(d, received=1204, duplicate=3, late=1, stored=1200))
        self.live.set_acknowledge(lambda order, comment: self.orders.append(order))
        self.orders: list[Acknowledge] = []
        self.kept: list[Observations] = []
        self.state = State.for_directory(self.directory)
        self.evening = self.city.start_of_evening(date)
        self.now = self.evening - int(history_h * 3600) * NS_PER_S
        self.messages = 0
        self.advance(self.evening - self.now)

    def series(self, datastream: str, start_ns: int, end_ns: int, max_points: int) -> Observations:
        index = [d.id for d in self.directory.datastreams].index(datastream)
        whole = Observations.concat(list(self.kept))
        return whole.take((whole.datastream == index) & (whole.observed_at >= start_ns) & (whole.observed_at < end_ns))

    def advance(self, span_ns: int, silent: frozenset[str] = frozenset()) -> None:
        """Let time pass in steps of at most five minutes."""
        end = self.now + span_ns
        while self.now < end:
            until = min(end, self.now + 300 * NS_PER_S)
            samples = self.city.sample(self.now, until)
            quiet = np.array([d.id in silent for d in self.directory.devices])[self.directory.device_of]
            keep = ~quiet[samples.datastream]
            readings = Observations.of(samples.datastream[keep], samples.observed_at[keep], samples.value[keep])
            orders, self.orders = self.orders, []
            self.state, results = step(self.state, self.directory, readings, until, listening_since=0, actions=orders)
            self.now = until
            self.messages += len(readings)
            self.kept.append(results.readings)
            self.live.set_clock("broker", until, 60.0)
            self.live.observe(results.readings)
            self.live.transition(results.transitions)

    def report(self, rate: float, **changes: object) -> None:
        """Tell the page a plausible state of the pipeline."""
        self.live.set_health(
            HealthStatus(
                messages=self.messages,
                readings=self.messages,
                stored=self.messages,
                duplicates=3,
                late=1,
                refused_by_reason={"unknown device": 12},
                messages_per_s=rate,
                readings_per_s=rate,
                latency_s=0.2,
                brokers=(BrokerStatus("Broker utama", True, self.evening),),
                store=StoreStatus("influxdb", True, 120),
            )
        )


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8099)
    parser.add_argument("--minutes", type=float, default=130.0)
    parser.add_argument("--speed", type=float, default=60.0)
    asked = parser.parse_args()
    preview = Preview()
    names = [d.id for d in preview.directory.devices]
    silent = frozenset(names[5::37])
    preview.advance(int(asked.minutes * 60) * NS_PER_S, silent)
    server = serve(operator_app(preview.live, version="preview", identify=OpenHouse()), "127.0.0.1", asked.port)
    print(server.url, flush=True)
    stop = threading.Event()
    try:
        while not stop.wait(0.25):
            began = time.monotonic()
            before = preview.messages
            preview.advance(int(0.25 * asked.speed * NS_PER_S), silent)
            preview.report((preview.messages - before) / 0.25)
            if time.monotonic() - began > 0.25:
                print("slow", time.monotonic() - began, flush=True)
    finally:
        server.stop()


if __name__ == "__main__":
    main()
