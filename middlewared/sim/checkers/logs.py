"""I5: neither log ever holds another record than the other where both are known to hold one, and they end up equal."""

from __future__ import annotations

from middlewared.kernel.event import START, follows
from middlewared.kernel.facts import Node
from middlewared.sim.checkers.checker import Checker, Report, Scene


class LogsAgree(Checker):
    name = "I5 logs agree"

    def __init__(self, scene: Scene, report: Report) -> None:
        super().__init__(scene, report)
        self._known: list[bytes] = []

    def committed(self, node: Node, commit_seq: int, pair_seq: int) -> None:
        records = self.scene.platters[node].records
        self._known += [record.hash for record in records[len(self._known) : pair_seq]]
        at = min(pair_seq, len(self._known), len(records))
        if at and records[at - 1].hash != self._known[at - 1]:
            self.wrong(f"{node} has another record at seq {at} than the one that was known to be on both")

    def at_end(self) -> None:
        a, b = ([record.hash for record in self.scene.platters[node].records] for node in ("A", "B"))
        if a != b:
            common = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
            self.wrong(f"the logs leave each other after seq {common}; they end at seq {len(a)} and {len(b)}")
        at = START
        for record in self.scene.platters["A"].records:
            why = follows(record, at)
            if why is not None:
                self.wrong(f"seq {record.seq} does not follow: {why}")
            at = record.position
