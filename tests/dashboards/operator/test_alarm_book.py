"""Alarms put together from their changes, also when late readings change what was told."""

from __future__ import annotations

from dashboards.operator.alarm_book import AlarmBook
from telemetry.alarms import AlarmKind, AlarmState
from telemetry.results import Transitions
from tests.dashboards.operator.operator_city import LEVEL, T0, S, small_city, transition

CITY = small_city()
KEY = (int(AlarmKind.LEVEL), LEVEL, T0)


def change(at_s: int, state: AlarmState, severity: int, raised_s: int = 0) -> Transitions:
    return transition(at_s=at_s, severity=severity, state=state, raised_s=raised_s)


def test_what_never_was_is_gone() -> None:
    book = AlarmBook()
    book.take(CITY, change(0, AlarmState.UNACKNOWLEDGED, 1))
    (gone,) = book.take(CITY, change(0, AlarmState.WITHDRAWN, 0))
    assert gone.as_dict(CITY)["state"] == "withdrawn"
    assert not book.open and not book.closed
    assert book.take(CITY, change(0, AlarmState.WITHDRAWN, 0)) == []


def test_an_alarm_goes_back_to_what_is_left_of_it() -> None:
    book = AlarmBook()
    book.take(CITY, change(0, AlarmState.UNACKNOWLEDGED, 1))
    book.take(CITY, change(60, AlarmState.UNACKNOWLEDGED, 3))
    book.take(CITY, change(60, AlarmState.WITHDRAWN, 0))
    alarm = book.open[KEY]
    assert (alarm.severity, alarm.max_severity, len(alarm.changes)) == (1, 1, 1)


def test_a_change_that_is_found_late_takes_its_place() -> None:
    book = AlarmBook()
    book.take(CITY, change(0, AlarmState.UNACKNOWLEDGED, 1))
    book.take(CITY, change(120, AlarmState.RETURNED_UNACKNOWLEDGED, 0))
    book.take(CITY, change(60, AlarmState.UNACKNOWLEDGED, 2))
    alarm = book.open[KEY]
    assert [c.severity for c in alarm.changes] == [1, 2, 0]
    assert (alarm.state, alarm.severity, alarm.max_severity) == (AlarmState.RETURNED_UNACKNOWLEDGED, 0, 2)
    assert alarm.cleared_at == T0 + 120 * S


def test_one_that_was_over_stands_again() -> None:
    book = AlarmBook()
    book.take(CITY, change(0, AlarmState.UNACKNOWLEDGED, 1))
    book.take(CITY, change(30, AlarmState.ACKNOWLEDGED, 1))
    book.take(CITY, change(120, AlarmState.NORMAL, 0))
    assert KEY in book.closed
    book.take(CITY, change(120, AlarmState.WITHDRAWN, 0))
    assert KEY in book.open and KEY not in book.closed
    assert book.open[KEY].state == AlarmState.ACKNOWLEDGED


def test_a_restored_alarm_that_loses_all_that_is_known_of_it_still_stands() -> None:
    book = AlarmBook()
    book.restore(CITY, change(60, AlarmState.UNACKNOWLEDGED, 3))  # it climbed; how it began is not known any more
    book.take(CITY, change(60, AlarmState.WITHDRAWN, 0))
    assert not book.open
    (alarm,) = book.stand(CITY, change(0, AlarmState.UNACKNOWLEDGED, 1))
    assert book.open[KEY] is alarm
    assert (alarm.severity, alarm.max_severity) == (1, 1)
    assert book.stand(CITY, change(0, AlarmState.UNACKNOWLEDGED, 1)) == []
