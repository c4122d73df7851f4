"""I8: a standby accepts no change: what a controller answers as done, it wrote itself, as the owner of a term.

Where an earlier copy of the request was carried out, perhaps by the other controller, the answer says so.
"""

from __future__ import annotations

from middlewared.sim.checkers.checker import Checker
from middlewared.sim.clients import Answer, Operation


class StandbyRefuses(Checker):
    name = "I8 standby refuses"

    def answered(self, operation: Operation, answer: Answer) -> None:
        if answer.outcome != "ok":
            return
        record = self.scene.platters[answer.node].at(answer.seq)
        if record is None:
            self.wrong(f"{answer.node} answers seq {answer.seq}, which its log does not have")
        elif record.origin != answer.node and not answer.again:
            self.wrong(f"{answer.node} answers seq {answer.seq}, which {record.origin} wrote")
