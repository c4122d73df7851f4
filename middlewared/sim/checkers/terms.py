"""I9: a term is given once, to one controller, and the terms of a log never fall; its seqs have no gap."""

from __future__ import annotations

from collections.abc import Sequence

from middlewared.kernel.event import Record
from middlewared.kernel.facts import Node
from middlewared.sim.checkers.checker import Checker, Report, Scene


class TermsRise(Checker):
    name = "I9 terms rise"

    def __init__(self, scene: Scene, report: Report) -> None:
        super().__init__(scene, report)
        self._given: dict[int, Node] = {}
        self._last: dict[Node, int] = {"A": 0, "B": 0}

    def granted(self, node: Node, term: int) -> None:
        if term in self._given:
            self.wrong(f"term {term} was given to {self._given[term]} and then to {node}")
        if term <= self._last[node]:
            self.wrong(f"{node} owns term {term} after term {self._last[node]}")
        self._given[term] = node
        self._last[node] = term

    def stored(self, node: Node, records: Sequence[Record]) -> None:
        log = self.scene.platters[node].records
        before = log[-len(records) - 1] if len(log) > len(records) else None
        for record in records:
            if before is not None and (record.seq != before.seq + 1 or record.term < before.term):
                self.wrong(f"{node}: seq {record.seq} of term {record.term} after seq {before.seq} of {before.term}")
            before = record
