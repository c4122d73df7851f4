"""What an advert is worth: one is believed once, and ends the mastership of everybody who has an older term.

A believed advert is a sign of life, so one that is played again would keep the dead alive. Counters begin with the term
(protocol/carp_election.py); they are read from the frame here, since a checker must not share the mistakes of what it
checks. A carpd that has just begun knows of no counter, which is said there.
"""

from __future__ import annotations

from middlewared.kernel.facts import Node
from middlewared.sim.carp import Word
from middlewared.sim.checkers.checker import Checker, Report, Scene

_FAREWELL = 255
"""As advbase: who says that no advert follows goes, in whatever term."""


class AdvertsRise(Checker):
    name = "I4 adverts rise"

    def __init__(self, scene: Scene, report: Report) -> None:
        super().__init__(scene, report)
        self._believed: dict[Node, int] = {}

    def advert(self, node: Node, word: Word, data: bytes) -> None:
        counter, last = int.from_bytes(data[8:16], "big"), self._believed.get(node, 0)
        if word == "begins":
            self._believed[node] = 0
        elif word == "believes":
            if counter <= last:
                self.wrong(f"{node} believes an advert with counter {counter:#x} after {last:#x}")
            self._believed[node] = max(counter, last)
        elif counter >> 40 < last >> 40 and data[5] != _FAREWELL:
            self.wrong(f"{node} advertises term {counter >> 40}, and has heard of term {last >> 40}")
