"""A request is carried out once and whole, however often it is sent and to whomever.

A command's events stand side by side in the log, all of them or none, and no request has its events at two places. Two
clients that use the same id ask for two things.
"""

from __future__ import annotations

from collections import defaultdict

from middlewared.sim.checkers.checker import Checker
from middlewared.sim.clients import Key, asker


class ExactlyOnce(Checker):
    name = "once"

    def at_end(self) -> None:
        places: defaultdict[Key, list[int]] = defaultdict(list)
        for record in self.scene.platters["A"].records:
            places[asker(record)].append(record.seq)
        for operation in self.scene.operations:
            seqs = places.get(operation.key, [])
            if len(seqs) > operation.size:
                self.wrong(f"{operation} was carried out more than once: seqs {seqs}")
            elif seqs and seqs != list(range(seqs[0], seqs[0] + operation.size)):
                self.wrong(f"{operation} was carried out in part: seqs {seqs}")
