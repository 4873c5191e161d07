"""The faults of a campaign: what kinds there are, and the plan that a seed makes of them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """Kinds of faults, as the report calls them."""

    PIPELINE_KILLED = "pipeline killed (-9)"
    PIPELINE_KILLED_STARTING = "pipeline killed (-9) while it starts"
    PIPELINE_RESTARTED = "pipeline stopped and started"
    PIPELINE_FROZEN = "pipeline frozen (SIGSTOP)"
    BROKER_KILLED = "broker killed (-9)"
    BROKER_RESTARTED = "broker restarted"
    BROKER_FROZEN = "broker frozen (SIGSTOP)"
    STORE_KILLED = "store killed (-9)"
    STORE_AWAY = "store down for an hour of data"
    STORE_FROZEN = "store frozen (SIGSTOP)"
    DISK_FULL = "disk full"
    PIPELINE_LINK_CUT = "network cut: pipeline and broker"
    PIPELINE_LINK_STALLED = "network half-open: pipeline and broker"
    PIPELINE_LINK_RESET = "network reset: pipeline and broker"
    PIPELINE_LINK_SLOW = "network slow: pipeline and broker"
    DEVICES_LINK_CUT = "network cut: devices and broker"
    DEVICES_LINK_STALLED = "network half-open: devices and broker"
    DEVICES_LINK_RESET = "network reset: devices and broker"
    DEVICES_LINK_SLOW = "network slow: devices and broker"
    STORE_LINK_CUT = "network cut: pipeline and store"
    STORE_LINK_STALLED = "network half-open: pipeline and store"
    STORE_LINK_RESET = "network reset: pipeline and store"
    STORE_LINK_SLOW = "network slow: pipeline and store"
    ANSWERS_LOST = "acknowledgements to devices lost"
    SENT_TWICE = "messages sent twice"
    SENT_AGAIN = "old messages sent again, in any order"
    INTERLEAVED = "order among devices lost"
    CLOCK_BACK = "city's clock tells an earlier time"
    CLOCK_AHEAD = "city's clock 4 s ahead, and back"
    CLOCK_STOPS = "city's clock stands still for minutes"
    SYSTEM_CLOCK = "computer's clock jumps by days"


STORE_KINDS = frozenset(k for k in Kind if k.name.startswith("STORE_"))
"""They need a store that is a process of its own."""
SENDER_KINDS = frozenset(
    {
        Kind.SENT_TWICE,
        Kind.SENT_AGAIN,
        Kind.INTERLEAVED,
        Kind.CLOCK_BACK,
        Kind.CLOCK_AHEAD,
        Kind.CLOCK_STOPS,
    }
)
"""They are in what is sent."""

_OFTEN = {Kind.PIPELINE_KILLED: 4, Kind.BROKER_KILLED: 2, Kind.DISK_FULL: 2, Kind.STORE_KILLED: 2}
_ONLY_ONCE = frozenset({Kind.STORE_AWAY})
"""In one pass: it lasts long."""


@dataclass(frozen=True)
class Fault:
    """One fault."""

    number: int
    """Counted over the campaign, from 1."""
    kind: Kind
    tick: int
    """When it begins: after this minute of the fleet."""
    delay_s: float
    """So much later. [s of wall time]"""
    hold_s: float
    """How long it lasts. [s of wall time]"""
    hold_ticks: int
    """Or: so many minutes of the fleet."""
    luck: int
    """Seed of whatever else chance decides."""


@dataclass(frozen=True)
class Pass:
    """One run of the fleet with the faults in it."""

    number: int
    store: str
    """``embedded`` or ``influxdb``."""
    faults: tuple[Fault, ...]


def make_plan(
    seed: int, faults: int, ticks: int, *, kinds: frozenset[Kind] = frozenset(Kind), per_pass: int = 25
) -> list[Pass]:
    """Spread ``faults`` faults of ``kinds`` over passes of the fleet; every other pass uses InfluxDB.

    Kinds are dealt from a shuffled deck, so that all of them come about equally often (killing more often).
    """
    chance = random.Random(f"plan {seed}")
    with_store = bool(kinds & STORE_KINDS)
    decks: dict[bool, list[Kind]] = {False: [], True: []}
    passes: list[Pass] = []
    number = 0
    while number < faults:
        influxdb = with_store and len(passes) % 2 == 0
        dealt: list[Fault] = []
        put_back: list[Kind] = []
        while len(dealt) < per_pass and number < faults:
            # Kinds of the store have a deck of their own: half of what happens in a pass that has one.
            of_store = influxdb and (len(dealt) % 2 == 0 or not kinds - STORE_KINDS)
            deck = decks[of_store]
            if not deck:
                deck += [k for k in kinds if (k in STORE_KINDS) == of_store for _ in range(_OFTEN.get(k, 1))]
                deck.sort()
                chance.shuffle(deck)
            kind = deck.pop()
            if kind in _ONLY_ONCE and any(f.kind == kind for f in dealt):
                if deck:
                    put_back.append(kind)
                    continue
                break
            number += 1
            dealt.append(_fault(number, kind, ticks, chance))
        for kind in put_back:
            decks[kind in STORE_KINDS].append(kind)
        passes.append(Pass(len(passes) + 1, "influxdb" if influxdb else "embedded", tuple(dealt)))
    return passes


def one_of_each(seed: int, ticks: int) -> list[Pass]:
    """The short plan: every kind once, in two passes of the fleet, one of them with InfluxDB."""
    chance = random.Random(f"short {seed}")
    rest = [k for k in Kind if k not in STORE_KINDS]
    chance.shuffle(rest)
    passes, number = [], 0
    mixed = sorted(STORE_KINDS) + rest[: len(rest) // 3]
    for place, (store, kinds) in enumerate((("influxdb", mixed), ("embedded", rest[len(rest) // 3 :])), 1):
        faults = [_fault(number + i, kind, ticks, chance) for i, kind in enumerate(kinds, 1)]
        number += len(faults)
        passes.append(Pass(place, store, tuple(faults)))
    return passes


def _fault(number: int, kind: Kind, ticks: int, chance: random.Random) -> Fault:
    hold_ticks = chance.randint(2, 12)
    if kind == Kind.STORE_AWAY:
        hold_ticks = 60
    elif kind == Kind.BROKER_KILLED:
        hold_ticks = 15  # it may have to wait for its moment
    last = max(ticks - hold_ticks - 5, 4)
    hold_s = chance.uniform(0.1, 1.0)
    if kind in (Kind.PIPELINE_LINK_STALLED, Kind.DEVICES_LINK_STALLED, Kind.STORE_LINK_STALLED):
        hold_s = chance.uniform(0.5, 5.0)
    elif kind.name.endswith(("SLOW", "FROZEN")):
        hold_s = chance.uniform(0.3, 2.5)
    return Fault(
        number=number,
        kind=kind,
        tick=chance.randint(3, last),
        delay_s=round(chance.uniform(0.0, 0.2), 3),
        hold_s=round(hold_s, 3),
        hold_ticks=hold_ticks,
        luck=chance.randrange(2**31),
    )
