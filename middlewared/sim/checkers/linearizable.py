"""Every register is linearizable, with unknown outcomes allowed either way.

The log is the order that must explain all answers. So it is enough to check that
- it respects time: what was answered before another was asked stands before it;
- each change was decided on what the register held at its place: an event names the value that it replaced;
- a refused swap could have been refused: somewhere between the two instants the register held another value. A refusal
  that rests on a change which was never committed finds no such place.

Where an operator forced a takeover, answers of level `single` may rest on what is gone, and only the second is checked.

Source: Herlihy and Wing, Linearizability, 1990; unknown outcomes as in Jepsen's checkers.
"""

from __future__ import annotations

import bisect

import msgspec

from middlewared.sim.checkers.checker import Checker
from middlewared.sim.clients import Operation, asker
from middlewared.sim.noun import NOUN, Swap, WasPut


class Linearizable(Checker):
    name = "linearizable"

    def at_end(self) -> None:
        values = self._replay()
        if self.scene.forced:
            return
        placed = {asker(record): record.seq for record in self.scene.platters["A"].records}
        done = [op for op in self.scene.operations if op.outcome == "ok" and op.key in placed]
        answered = sorted((op.answered_at, placed[op.key]) for op in done)
        times, floors = [at for at, _ in answered], [0]
        for _, seq in answered:
            floors.append(max(floors[-1], seq))
        for op in self.scene.operations:
            floor = floors[bisect.bisect_left(times, op.asked_at)]
            if op.outcome == "ok" and placed.get(op.key, floor + 1) <= floor:
                self.wrong(f"{op} stands at seq {placed[op.key]}, but seq {floor} was answered before it was asked")
            if op.outcome == "refused" and isinstance(op.command, Swap):
                self._check_refusal(op, op.command, values, floor)

    def _replay(self) -> dict[str, list[tuple[int, str]]]:
        """Key -> (seq, value) of each change."""
        values: dict[str, list[tuple[int, str]]] = {}
        for record in self.scene.platters["A"].records:
            if record.kind == WasPut.kind:
                event = msgspec.json.decode(record.payload, type=WasPut)
                history = values.setdefault(event.key, [(0, NOUN.initial.of(event.key))])
                if history[-1][1] != event.old:
                    self.wrong(f"seq {record.seq} replaced {event.old!r} in {event.key}: it held {history[-1][1]!r}")
                history.append((record.seq, event.value))
        return values

    def _check_refusal(
        self, op: Operation, command: Swap, values: dict[str, list[tuple[int, str]]], floor: int
    ) -> None:
        """Between what was answered before it was asked, and where the answerer's log ended when it answered."""
        history = values.get(command.key, [(0, NOUN.initial.of(command.key))])
        ceiling = max(answer.seq for answer in op.given)
        first = max(i for i, (seq, _) in enumerate(history) if seq <= floor)
        held = [value for seq, value in history[first:] if seq <= max(ceiling, floor)]
        if all(value == command.old for value in held):
            self.wrong(f"{op} was refused although {command.key} held {command.old!r} all the while")
