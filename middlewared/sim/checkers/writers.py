"""I1: a term has one writer, and it is the controller that the disks gave the term."""

from __future__ import annotations

from collections.abc import Sequence

from middlewared.kernel.event import Record
from middlewared.kernel.facts import Node
from middlewared.sim.checkers.checker import FIRST_TERM, Checker, Report, Scene


class OneWriter(Checker):
    name = "I1 one writer"

    def __init__(self, scene: Scene, report: Report) -> None:
        super().__init__(scene, report)
        self._owners: dict[int, str] = {FIRST_TERM: "A"}

    def granted(self, node: Node, term: int) -> None:
        self._owners[term] = node

    def proposed(self, node: Node, records: Sequence[Record]) -> None:
        for record in records:
            if self._owners.get(record.term) != node:
                self.wrong(f"{node} writes seq {record.seq} in term {record.term}, which was not given to it")

    def stored(self, node: Node, records: Sequence[Record]) -> None:
        for record in records:
            if self._owners.get(record.term) != record.origin:
                self.wrong(f"{node} stores seq {record.seq} of term {record.term} from {record.origin}, not its owner")
