"""How much waits, and whether that is worth a word."""

from __future__ import annotations

from ingest.backlog import Backlog


def test_a_fraction_of_a_second_is_no_backlog_although_more_than_ever_waits() -> None:
    backlog = Backlog()
    for second in range(20):
        backlog.note(float(second), 0, 240 * second)
    backlog.note(20.0, 52, 240 * 20)  # all that came in the last fifth of a second
    assert (backlog.messages, backlog.clear_in_s) == (52, 0.0)
    backlog.note(21.0, 900, 240 * 21)
    assert backlog.clear_in_s is None
