"""I6: the same record gives the same state, on whichever controller, before and after any crash, cut or rebuild."""

from __future__ import annotations

from middlewared.kernel.event import Position
from middlewared.kernel.facts import Node
from middlewared.sim.checkers.checker import Checker, Report, Scene
from middlewared.sim.disk import digest_of


class StatesEqual(Checker):
    name = "I6 states equal"

    def __init__(self, scene: Scene, report: Report) -> None:
        super().__init__(scene, report)
        self._digests: dict[bytes, str] = {}

    def applied(self, node: Node, at: Position) -> None:
        states = self.scene.states(node)
        if states is not None:
            digest = digest_of(states)
            if self._digests.setdefault(at.hash, digest) != digest:
                self.wrong(f"after seq {at.seq} the state of {node} is another than it was there before")

    def at_end(self) -> None:
        a, b = (self.scene.states(node) for node in ("A", "B"))
        if a is None or b is None or digest_of(a) != digest_of(b):
            self.wrong("the two controllers show different states")
