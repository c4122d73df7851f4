"""I7: what is not in the log any more lies in quarantine, exactly: nothing is missing there and nothing is too much.

And what was visible on either controller, to a client or an effect, is in the log for good, unless an operator forced a
takeover.
"""

from __future__ import annotations

from collections.abc import Sequence

from middlewared.kernel.event import Position, Record
from middlewared.kernel.facts import Node
from middlewared.sim.checkers.checker import Checker, Report, Scene


class NothingVanishes(Checker):
    name = "I7 nothing vanishes"

    def __init__(self, scene: Scene, report: Report) -> None:
        super().__init__(scene, report)
        self._stored: dict[Node, dict[bytes, int]] = {"A": {}, "B": {}}
        self._visible: dict[bytes, tuple[Node, int]] = {}

    def stored(self, node: Node, records: Sequence[Record]) -> None:
        self._stored[node].update((record.hash, record.seq) for record in records)

    def applied(self, node: Node, at: Position) -> None:
        self._visible.setdefault(at.hash, (node, at.seq))

    def at_end(self) -> None:
        for node, platter in self.scene.platters.items():
            here = {record.hash for record in platter.records}
            aside = {record.hash for record in platter.quarantine}
            missing = sorted(seq for digest, seq in self._stored[node].items() if digest not in here | aside)
            if missing:
                self.wrong(f"{node} held seq {missing} once; they are neither in its log nor in its quarantine")
            if here & aside:
                self.wrong(f"{node} has in quarantine what is in its log")
        if self.scene.forced:
            return
        kept = {record.hash for record in self.scene.platters["A"].records}
        for digest, (node, seq) in self._visible.items():
            if seq and digest not in kept:
                self.wrong(f"seq {seq} was visible on {node} and is not in the log")
