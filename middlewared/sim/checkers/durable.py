"""I2: an answered write is committed, and in the log for good.

Before it can be lost it must have been committed too early, so each commit is held against the disks at that moment:
whoever may open the configuration by a record that a successor could read must have everything that is committed. At
the end every answered write must be in the log: at level `pair` always, at level `single` unless an operator forced a
takeover and so accepted its loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from middlewared.kernel.event import Position, Record
from middlewared.kernel.facts import Node, PairRecord, other
from middlewared.sim.checkers.checker import Checker, Report, Scene
from middlewared.sim.clients import Answer, Key, Operation, asker


class AnsweredIsKept(Checker):
    name = "I2 answered is kept"

    def __init__(self, scene: Scene, report: Report) -> None:
        super().__init__(scene, report)
        self._pair: dict[Node, int] = {"A": 0, "B": 0}
        self._highest: Record | None = None
        self._last: dict[Node, bytes] = {"A": b"", "B": b""}
        self._reached: dict[Node, int] = {"A": 0, "B": 0}
        self._answered: list[tuple[Key, str]] = []

    def applied(self, node: Node, at: Position) -> None:
        self._reached[node] = max(self._reached[node], at.seq)

    def committed(self, node: Node, commit_seq: int, pair_seq: int) -> None:
        self._reached[node] = max(self._reached[node], commit_seq)
        mine = self.scene.platters[node].at(commit_seq)
        if mine is None:
            self.wrong(f"{node} commits seq {commit_seq}, which is not durable there")
            return
        self._check_level(node, pair_seq)
        if mine.origin != node or mine.hash == self._last[node]:
            return  # a standby is told, and an owner that only learns of a level lets nothing more be answered
        self._last[node] = mine.hash
        if self._highest is None or mine.seq > self._highest.seq:
            self._highest = mine
        for record in self._records_that_may_be_read():
            if record.term > mine.term and self.scene.forced:
                continue
            for member in record.in_sync:
                theirs = self.scene.platters[member].at(commit_seq)
                if theirs is None or theirs.hash != mine.hash:
                    self.wrong(
                        f"{node} commits seq {commit_seq}, but {member}, which the record of term {record.term} "
                        f"lets open, does not hold it"
                    )

    def stored(self, node: Node, records: Sequence[Record]) -> None:
        """Nobody who lacks what was committed may be able to open by any record, whenever it was written."""
        highest = self._highest
        if highest is None or self.scene.forced:
            return
        for record in self._records_that_may_be_read():
            for member in record.in_sync:
                platter = self.scene.platters[member]
                at, held = platter.at(record.committed_seq), platter.at(highest.seq)
                opens = at is not None and at.hash == record.committed_hash
                if opens and (held is None or held.hash != highest.hash):
                    self.wrong(f"the record of term {record.term} lets {member} open, which lacks seq {highest.seq}")

    def _check_level(self, node: Node, pair_seq: int) -> None:
        """What is said to be on both is on both."""
        if pair_seq <= self._pair[node]:
            return
        self._pair[node] = pair_seq
        here, there = (self.scene.platters[n].at(pair_seq) for n in (node, other(node)))
        if here is None or there is None or here.hash != there.hash:
            self.wrong(f"{node} says that seq {pair_seq} is on both controllers, and it is not")

    def _records_that_may_be_read(self) -> list[PairRecord]:
        """The latest record of every majority of the disks."""
        records = [disk.register.record for disk in self.scene.disks]
        found: list[PairRecord] = []
        for majority in combinations(records, len(records) // 2 + 1):
            written = [record for record in majority if record is not None]
            latest = max(written, key=lambda record: (record.term, record.serial), default=None)
            if latest is not None and latest not in found:
                found.append(latest)
        return found

    def answered(self, operation: Operation, answer: Answer) -> None:
        if answer.outcome != "ok":
            return
        self._answered.append((operation.key, answer.level))
        if answer.seq > self._reached[answer.node]:
            self.wrong(
                f"{answer.node} answers seq {answer.seq}, and knows only seq {self._reached[answer.node]} as committed"
            )

    def at_end(self) -> None:
        log = {asker(record) for record in self.scene.platters["A"].records}
        for key, level in self._answered:
            if key not in log and (level == "pair" or not self.scene.forced):
                self.wrong(f"{'/'.join(key)} was answered at level {level} and is gone")
