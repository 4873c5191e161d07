"""A broker and a pipeline for one task alone, as ``pantau replay --local`` uses them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from ingest.settings import BrokerSettings, ClockSource, Limits
from pantau.demo import check_writable, embedded_broker
from pantau.runtime import Pipeline
from pantau.settings import CitySettings, ClockSettings, DataSettings, PageAccess, PageSettings, Settings
from storage.settings import StoreSettings


@contextlib.contextmanager
def local_pipeline(city: str, utc_offset_h: float, folder: Path) -> Iterator[tuple[BrokerSettings, str, str]]:
    """Run an embedded broker, and a pipeline with the broker's clock and the embedded store, in this process.

    Yields where devices publish, the page's address, and the registry's URL.
    """
    check_writable(folder)
    with contextlib.ExitStack() as stack:
        device_port, pipeline_port = stack.enter_context(embedded_broker())
        settings = Settings(
            city=CitySettings(city, utc_offset_h),
            clock=ClockSettings(ClockSource.BROKER),
            data=DataSettings(folder=folder),
            brokers=(BrokerSettings("embedded", "127.0.0.1", pipeline_port, watch_drops=False),),
            limits=Limits(),
            store=StoreSettings(folder=folder / "store"),
            page=PageSettings(port=0, access=PageAccess.OPEN),
        )
        pipeline = Pipeline(settings)
        pipeline.start()
        stop = threading.Event()
        worker = threading.Thread(target=pipeline.run, args=(stop,), name="pipeline")
        worker.start()

        def end() -> None:
            stop.set()
            worker.join()
            pipeline.close()

        stack.callback(end)
        assert pipeline.page is not None
        yield BrokerSettings("embedded", "127.0.0.1", device_port), pipeline.page.url, settings.data.registry
