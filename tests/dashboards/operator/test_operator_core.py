"""LiveCity fed by the real core: what it shows is what the core says, also after a restart."""

import numpy as np

from dashboards.operator.live import LiveCity
from processing.core import State, step
from telemetry.alarms import Acknowledge
from tests.dashboards.operator.operator_city import LEVEL, T0, S, readings, small_city

SHOWN = ("id", "state", "severity", "max_severity", "label", "peak", "raised_at")


def test_the_page_follows_the_core_and_survives_a_restart() -> None:
    directory = small_city()
    state = State.for_directory(directory)
    live = LiveCity()
    live.set_directory(directory)
    orders: list[Acknowledge] = []
    live.set_acknowledge(lambda order, _: orders.append(order))

    def pass_minute(minute: int, level: float) -> None:
        nonlocal state
        now = T0 + minute * 60 * S
        given, orders[:] = list(orders), []
        state, results = step(
            state, directory, readings(LEVEL, minute * 60 - 1, level), now, listening_since=T0, actions=given
        )
        live.set_clock("broker", now, 60.0)
        live.observe(results.readings)
        live.transition(results.transitions)

    for minute, level in enumerate(np.linspace(0.5, 2.2, 18), start=1):
        pass_minute(minute, float(level))
    (alarm,) = [a for a in live.alarms() if a["kind"] == "level"]
    assert (alarm["severity"], alarm["label"], alarm["state"]) == (3, "Siaga 1", "unacknowledged")
    assert [t["severity"] for t in alarm["transitions"]] == [1, 2, 3]  # type: ignore[attr-defined]
    live.acknowledge(str(alarm["id"]), "Siti", "")
    pass_minute(19, 2.3)
    pass_minute(20, 1.7)
    (alarm,) = [a for a in live.alarms() if a["kind"] == "level"]
    assert (alarm["state"], alarm["severity"], alarm["max_severity"], alarm["peak"]) == ("acknowledged", 2, 3, 2.3)

    again = LiveCity()
    again.set_directory(directory)
    restarted = State.from_bytes(state.to_bytes())
    again.restore(restarted.latest(), restarted.open_alarms(directory))
    before, after = ({a["id"]: a for a in city.alarms()} for city in (live, again))
    assert before.keys() == after.keys()
    for ident in before:
        assert {k: after[ident][k] for k in SHOWN} == {k: before[ident][k] for k in SHOWN}
