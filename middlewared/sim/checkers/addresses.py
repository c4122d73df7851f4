"""I4: the virtual address is answered by one controller, but for what is left of the lease of one that lost its term.

A controller that is replaced finds that out within a lease of the disks' last confirmation (CUT_OFF, DEPOSED), and
where it freezes in that very moment its kernel answers for one lease of the address more.
"""

from __future__ import annotations

from middlewared.kernel.facts import Node, other
from middlewared.sim.carp import Deed
from middlewared.sim.checkers.checker import Checker, Report, Scene


class OneAddress(Checker):
    name = "I4 one address"

    def __init__(self, scene: Scene, report: Report) -> None:
        super().__init__(scene, report)
        self._taken_s: dict[Node, float] = {}

    def address(self, node: Node, deed: Deed, at_s: float) -> None:
        if deed == "renew too late":
            self.wrong(f"{node} renewed the address after its lease had ended")
        if deed == "take":
            self._taken_s[node] = at_s
        there = other(node)
        if deed not in ("take", "renew") or not self.scene.answers(there):
            return
        both_s = at_s - max(self._taken_s[node], self._taken_s.get(there, 0.0))
        if both_s > self.scene.both_may_answer_s:
            self.wrong(f"both answer for the address since {both_s:.2f} s")

    def stood_still(self, node: Node, for_s: float) -> None:
        if for_s > self.scene.lease_s and self.scene.answers(node):
            self.wrong(f"{node} answers for the address, and stood still for {for_s:.2f} s, longer than its lease")

    def at_end(self) -> None:
        nodes: tuple[Node, Node] = ("A", "B")
        answering = [node for node in nodes if self.scene.answers(node)]
        if len(answering) != 1:
            self.wrong(f"at the end the address is answered by {answering}")
