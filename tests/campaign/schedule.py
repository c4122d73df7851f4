"""What goes wrong, and when, from one seed. Pure: the same seed is the same sequence of episodes.

An episode is one fault, or two that overlap, held for a while, then undone; after it the pair is given time to become
whole again, so that a fault that it does not recover from is seen at once and by name.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Literal, TypeAlias

import msgspec

from middlewared.kernel.facts import Node
from middlewared.lab.faults import LINKS, Link, Way

Daemon: TypeAlias = Literal["fenced", "carpd", "middlewared"]

HELD_S = (0.05, 6.0)
PAUSE_S = (0.2, 3.0)
TWO_AT_ONCE = 0.3


class Kill(msgspec.Struct, frozen=True, tag=True):
    """kill -9 of one daemon; init starts it again."""

    node: Node
    daemon: Daemon


class PowerOff(msgspec.Struct, frozen=True, tag=True):
    node: Node


class Freeze(msgspec.Struct, frozen=True, tag=True):
    node: Node


class Cut(msgspec.Struct, frozen=True, tag=True):
    link: Link
    way: Way


Fault: TypeAlias = Kill | PowerOff | Freeze | Cut


class Episode(msgspec.Struct, frozen=True, kw_only=True):
    """faults: the second, where there is one, comes gap_s after the first. All are undone after held_s more."""

    faults: tuple[Fault, ...]
    gap_s: float
    held_s: float
    pause_s: float


def episodes(seed: int) -> Iterator[Episode]:
    """Without end."""
    chance = random.Random(seed)
    while True:
        count = 2 if chance.random() < TWO_AT_ONCE else 1
        yield Episode(
            faults=tuple(_fault(chance) for _ in range(count)),
            gap_s=chance.uniform(0, 1.0),
            held_s=_log_uniform(chance, *HELD_S),
            pause_s=_log_uniform(chance, *PAUSE_S),
        )


def _fault(chance: random.Random) -> Fault:
    node: Node = chance.choice(("A", "B"))
    match chance.randrange(10):
        case 0 | 1:
            return Kill(node, "middlewared")
        case 2:
            return Kill(node, chance.choice(("fenced", "carpd")))
        case 3 | 4:
            return PowerOff(node)
        case 5 | 6:
            return Freeze(node)
        case _:
            return Cut(chance.choice(LINKS), chance.choice(("both", "both", "in", "out")))


def _log_uniform(chance: random.Random, low: float, high: float) -> float:
    """As often between 0.1 and 1 as between 1 and 10: short faults find other bugs than long ones."""
    return float(low * (high / low) ** chance.random())


def name(fault: Fault) -> str:
    """The kind of a fault, for counting."""
    match fault:
        case Kill():
            return f"kill {fault.daemon}"
        case PowerOff():
            return "power off"
        case Freeze():
            return "freeze"
        case Cut():
            cable = fault.link.partition(":")[0]
            return f"cut {cable}" if fault.way == "both" else f"cut {cable} one way"
