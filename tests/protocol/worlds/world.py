"""Every small world of the pair: what is so, whatever either controller knows of it.

A world is a product of few values for each thing that matters to who is active; times are such that each window of the
rules is passed in some world and not in another. What is rare is combined with everything else, but not with other rare
things (ODD), or there would be too many worlds.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple, TypeAlias

from middlewared.kernel.facts import Node

SIDES: tuple[Node, Node] = ("A", "B")
DISKS = 3

Both: TypeAlias = tuple[bool, bool]
"""Of A and of B."""

BOTH: tuple[Both, ...] = ((True, True), (True, False), (False, True), (False, False))
NONE: Both = (False, False)


class Power(Enum):
    """FROZEN: it runs no process, but its kernel and its links are up. BOOTING: up, and not settled."""

    OFF = 0
    FROZEN = 1
    BOOTING = 2
    UP = 3


class Held(NamedTuple):
    """One disk's register."""

    owner: Node | None
    term: int


class Ownership(NamedTuple):
    """believes: the term that each controller thinks it owns, 0: none. owned: that it owned in this boot and did not
    give up. resigned: it gave its term up when the world began to be so."""

    believes: tuple[int, int]
    disks: tuple[Held, Held, Held]
    owned: tuple[int, int]
    resigned: Both = NONE


class Interlink(NamedTuple):
    """carrier; and whether what A says reaches B, and what B says A."""

    carrier: bool
    passes: Both


class Lan(NamedTuple):
    """links: whether each has carrier on its networks; passes: whether A's adverts reach B, and B's A."""

    links: Both
    passes: Both


class Odd(NamedTuple):
    """What is mostly not so. begins: the owner's middlewared began anew."""

    default: Node = "A"
    disabled: bool = False
    forced: Both = NONE
    failed: Both = NONE
    held: Both = NONE
    fault: Both = NONE
    flapping: bool = False
    begins: bool = False


class World(NamedTuple):
    """cable: whether each controller reaches the disks. since_s: how long it has been so."""

    power: tuple[Power, Power]
    ownership: Ownership
    interlink: Interlink
    lan: Lan
    cable: Both
    odd: Odd
    since_s: float

    def runs(self, side: int) -> bool:
        return self.power[side] in (Power.BOOTING, Power.UP)

    def holder(self) -> int | None:
        """Which side holds a majority of the disks."""
        for side, node in enumerate(SIDES):
            if sum(held.owner == node for held in self.ownership.disks) > DISKS // 2:
                return side
        return None

    def beats(self, side: int) -> bool:
        """Whether the side's heartbeat on the disks goes on: they grant it to who holds them, in its term."""
        term, node = self.ownership.believes[side], SIDES[side]
        if not term or not self.runs(side) or not self.cable[side]:
            return False
        return sum(held == (node, term) for held in self.ownership.disks) > DISKS // 2


def all_of(owner: Node | None, term: int) -> tuple[Held, Held, Held]:
    return (Held(owner, term),) * 3


def _mirrored(own: Ownership) -> Ownership:
    across: dict[Node | None, Node | None] = {"A": "B", "B": "A", None: None}
    disks = [Held(across[held.owner], held.term) for held in own.disks]
    return Ownership(own.believes[::-1], (disks[0], disks[1], disks[2]), own.owned[::-1], own.resigned[::-1])


_A_SIDE = (
    Ownership((5, 0), all_of("A", 5), (5, 0)),  # A owns
    Ownership((0, 0), all_of("A", 5), (0, 0)),  # its key is there since before its boot
    Ownership((0, 0), all_of("A", 5), (5, 0)),  # its fenced restarted, or it was cut off for a while
    Ownership((0, 6), all_of("B", 6), (5, 6)),  # and B took the term meanwhile
    Ownership((4, 5), all_of("B", 5), (4, 5)),  # A slept while B took the term
    Ownership((4, 0), all_of("B", 5), (4, 0)),  # B won and is about to own
    Ownership((4, 0), all_of(None, 5), (4, 0)),  # B won, and gave it up again
    Ownership((5, 0), (Held("A", 5), Held(None, 6), Held(None, 6)), (5, 0)),  # B tried for a term and lost it
    Ownership((5, 0), (Held("A", 5), Held("B", 6), Held(None, 5)), (5, 0)),  # it is still trying
    Ownership((0, 0), all_of(None, 5), (0, 0), (True, False)),  # A gave its term up
    Ownership((0, 0), all_of("A", 5), (0, 0), (True, False)),  # and is about to free the disks
)
OWNERSHIPS = (
    Ownership((0, 0), all_of(None, 5), (0, 0)),
    Ownership((0, 0), (Held("A", 5), Held("B", 6), Held(None, 5)), (0, 0)),
    *_A_SIDE,
    *(_mirrored(own) for own in _A_SIDE),
)

INTERLINKS = (*(Interlink(True, passes) for passes in BOTH), Interlink(False, NONE))

LANS = (
    *(Lan((True, True), passes) for passes in BOTH),
    Lan((False, True), NONE),
    Lan((True, False), NONE),
    Lan((False, False), NONE),
)
FEW_LANS = (LANS[0], LANS[3], LANS[4], LANS[5])

POWERS = tuple(powers for powers in itertools.product(Power, Power) if any(power.value > 1 for power in powers))

SINCE_S = (0.05, 0.5, 1.3, 30.0)

A_ONLY: Both = (True, False)
B_ONLY: Both = (False, True)
AB: Both = (True, True)

ODD = (
    Odd(default="B"),
    Odd(disabled=True),
    *(Odd(disabled=disabled, forced=who) for disabled in (False, True) for who in (A_ONLY, B_ONLY, AB)),
    *(Odd(failed=who) for who in (A_ONLY, B_ONLY, AB)),
    *(Odd(held=who) for who in (A_ONLY, B_ONLY, AB)),
    *(Odd(fault=who) for who in (A_ONLY, B_ONLY, AB)),
    Odd(flapping=True),
    Odd(begins=True),
)


def worlds(stride: int = 1, odd: Odd | None = None) -> Iterator[World]:
    """Every world, or each `stride`-th of them; of those in which this is odd, where it is given."""
    found = _all_worlds() if odd is None else _odd_worlds(odd)
    return itertools.islice(found, 0, None, stride)


def _places() -> Iterator[tuple[tuple[Power, Power], Ownership, Interlink, Both, float]]:
    places = [(power, own) for power in POWERS for own in OWNERSHIPS if _is_possible(power, own)]
    for (power, own), interlink, cable, since_s in itertools.product(places, INTERLINKS, BOTH, SINCE_S):
        yield power, own, interlink, cable, since_s


def _all_worlds() -> Iterator[World]:
    for power, own, interlink, cable, since_s in _places():
        for lan in LANS:
            yield World(power, own, interlink, lan, cable, Odd(), since_s)
        for lan, odd in itertools.product(FEW_LANS, ODD):
            if _matters(odd, power, own):
                yield World(power, own, interlink, lan, cable, odd, since_s)


def _odd_worlds(odd: Odd) -> Iterator[World]:
    for power, own, interlink, cable, since_s in _places():
        if _matters(odd, power, own):
            for lan in FEW_LANS:
                yield World(power, own, interlink, lan, cable, odd, since_s)


def _is_possible(powers: tuple[Power, Power], own: Ownership) -> bool:
    """Who is off or has just booted remembers nothing."""
    return all(
        power in (Power.FROZEN, Power.UP) or not (own.believes[side] or own.owned[side] or own.resigned[side])
        for side, power in enumerate(powers)
    )


def _matters(odd: Odd, powers: tuple[Power, Power], own: Ownership) -> bool:
    """Whether what is odd is known to somebody who is there."""
    per_side = zip(odd.forced, odd.failed, odd.held, odd.fault, strict=True)
    if any(any(of_side) and power is Power.OFF for of_side, power in zip(per_side, powers, strict=True)):
        return False
    return any(own.believes) if odd.flapping or odd.begins else True
