"""The hub: a page that reads too slowly is told everything anew instead of falling behind for ever."""

import asyncio
import json

from dashboards.operator.live import LiveCity
from dashboards.operator.stream import QUEUE_FRAMES, Hub
from tests.dashboards.operator.operator_city import LEVEL, readings, small_city


def test_a_slow_page_gets_the_state_again() -> None:
    live = LiveCity()
    live.set_directory(small_city())

    async def scenario() -> list[str]:
        hub = Hub(live, "abc")
        stream = hub.stream()
        seen = [(await anext(stream)).decode(), (await anext(stream)).decode()]
        assert hub.pages == 1
        for k in range(QUEUE_FRAMES + 10):
            live.observe(readings(LEVEL, k, float(k)))
            hub._send(b"event: delta\ndata: {}\n\n")
        seen.append((await anext(stream)).decode())
        hub.close()
        rest = [item async for item in stream]
        assert rest == [] and hub.pages == 0
        assert [item async for item in hub.stream()] == []  # closed for good
        return seen

    hello, first, later = asyncio.run(scenario())
    assert '"assets":"abc"' in hello and first.startswith("event: state")
    assert later.startswith("event: state")
    value = json.loads(later.split("data: ")[1])["readings"]["value"]
    assert value == [float(QUEUE_FRAMES + 9)]
