"""The throttle: how many tries get through, whatever somebody does; and whom it must not hit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from web.throttle import ACCOUNT, ADDRESS, FORGET_S, MOST_KEYS, Limit, Throttle


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def admitted(gaps: list[float], limit: Limit) -> list[float]:
    """When tries got through that come after these gaps and all fail. [s]"""
    clock, found = Clock(), []
    throttle = Throttle(clock)
    for gap in gaps:
        clock.now += gap
        if throttle.admit([(("account", "siti"), limit)]) == 0.0:
            found.append(clock.now)
    return found


def test_five_are_free_then_the_wait_doubles() -> None:
    # By hand: after the fifth 2 s, after the sixth 4 s, after the seventh 8 s.
    assert admitted([0.0] * 5 + [1.9, 0.1, 3.9, 0.1, 7.9, 0.1], ACCOUNT) == [0, 0, 0, 0, 0, 2.0, 6.0, 14.0]


@given(st.lists(st.floats(0, 1200) | st.floats(0, 5000), max_size=300))
def test_no_pattern_of_tries_gets_many_through_in_an_hour(gaps: list[float]) -> None:
    # By hand, as fast as possible from nothing: 5 at once; after waits of 2, 4, ..., 512 s 9 more, until 1022 s; every
    # 900 s two more within the hour: 16. To start anew takes an hour without any, so no hour holds more.
    times = admitted(gaps, ACCOUNT)
    for i, begin in enumerate(times):
        assert sum(begin <= t < begin + 3600 for t in times[i:]) <= 16


@given(st.integers(1, 60), st.integers(1, 60))
def test_more_failures_never_wait_less(fewer: int, more: int) -> None:
    fewer, more = sorted((fewer, more))
    assert ACCOUNT.wait_s(fewer) <= ACCOUNT.wait_s(more) <= 900.0


def test_tries_at_the_same_moment_count_before_their_outcome_is_known() -> None:
    throttle = Throttle(Clock())
    waits = [throttle.admit([(("account", "siti"), ACCOUNT)]) for _ in range(100)]
    assert waits.count(0.0) == 5


def test_success_forgives_the_account_but_only_one_try_of_the_address() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    account, address = ("account", "mallory"), ("address", "10.0.0.9")
    # Who owns one account must not clean the address with it, in order to guess at others.
    for n in range(ADDRESS.free):
        assert throttle.admit([(("account", f"victim{n}"), ACCOUNT), (address, ADDRESS)]) == 0.0
    clock.now = 2.0
    assert throttle.admit([(account, ACCOUNT), (address, ADDRESS)]) == 0.0
    throttle.succeeded(account, [address])
    clock.now = 2.1
    assert throttle.admit([(("account", "victim"), ACCOUNT), (address, ADDRESS)]) == 0.0
    assert throttle.admit([(("account", "victim2"), ACCOUNT), (address, ADDRESS)]) > 0.0


def test_an_hour_without_tries_forgets() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    for _ in range(5):
        throttle.admit([(("account", "siti"), ACCOUNT)])
    assert throttle.admit([(("account", "siti"), ACCOUNT)]) == 2.0
    clock.now = FORGET_S
    assert [throttle.admit([(("account", "siti"), ACCOUNT)]) for _ in range(5)] == [0.0] * 5


def test_memory_is_bounded() -> None:
    throttle = Throttle(Clock())
    for n in range(MOST_KEYS + 100):
        throttle.admit([(("account", str(n)), ACCOUNT)])
    assert len(throttle._tries) == MOST_KEYS
