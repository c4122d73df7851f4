"""One failure of the active controller after the other, under a writer, with everything held against what it was told.

A round: the pair is whole and one controller writes; after a random while it loses its power, or is frozen. When the
other one's first write is acknowledged the file is read back, the pool scrubbed, and the first controller brought back.
A frozen one is thawed 5 s after it was relieved; it ends itself, boots, and must be standby without help.

What decides is kept in `Round`; a sentence in `wrong` is something that must never be.
"""

from __future__ import annotations

import random
import time
from typing import Literal, TypeAlias

import msgspec

from middlewared.kernel.facts import Node, other
from middlewared.lab.driver import Pair
from middlewared.lab.watch import Watch
from tests.failover import tank
from tests.failover.writer import Writer

Fault: TypeAlias = Literal["cut", "freeze"]

THAW_AFTER_S = 5.0
PHASE_S = 0.3
ON_S = 0.5
WHOLE_S = 30.0


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """node: who failed. told_ms: what the lab's command took. after_ms: from the command to the first acknowledged
    write of the other controller; silent_ms: from the last one of the first controller. steps: of the other one's
    promotion, in ms. back_s: until the pair was whole again. wrong: what must not be, in sentences.
    """

    node: Node
    told_ms: float
    after_ms: float
    silent_ms: float
    steps: dict[str, float]
    back_s: float
    wrong: tuple[str, ...]


class Rounds:
    """To be used while `writer` runs, and `watch` where VIP replies are to be counted."""

    def __init__(
        self,
        pair: Pair,
        pool: tank.Tank,
        writer: Writer,
        watch: Watch | None,
        chance: random.Random,
    ) -> None:
        self._pair = pair
        self._pool = pool
        self._writer = writer
        self._watch = watch
        self._chance = chance
        self._turns = 1

    def one(self, node: Node, fault: Fault) -> Round:
        """`node` is active and fails. Raises PortFailed where the pair does not do what it must in time."""
        pair, writer, taker = self._pair, self._writer, other(node)
        writer.wait_for(node)
        time.sleep(self._chance.uniform(0, PHASE_S))
        began_ns, wall_ns = time.monotonic_ns(), time.time_ns()
        if fault == "cut":
            pair.power_off(node)
        else:
            pair.freeze(node)
        told_ns = time.monotonic_ns()
        taken_ns = writer.wait_for(taker)
        last_ns = max(told.at_ns for told in writer.told[-5000:] if told.record.node == node)
        steps = self._steps(taker)
        wrong = [] if fault == "cut" else self._thaw(node, taken_ns, wall_ns)
        time.sleep(ON_S)
        wrong += self._file(taker)
        back_s = self._bring_back(node, fault)
        return Round(
            node=node,
            told_ms=(told_ns - began_ns) / 1e6,
            after_ms=(taken_ns - began_ns) / 1e6,
            silent_ms=(taken_ns - last_ns) / 1e6,
            steps=steps,
            back_s=back_s,
            wrong=tuple(wrong),
        )

    def _steps(self, taker: Node) -> dict[str, float]:
        newest = msgspec.convert(self._pair.call(taker, "failover.history", {"node": taker, "limit": 1}), list[_Told])
        return {step.name: step.ms for step in newest[0].steps} if newest else {}

    def _thaw(self, node: Node, taken_ns: int, wall_ns: int) -> list[str]:
        """Thawed, it comes back as standby by itself, and says and writes nothing more."""
        time.sleep(max(0.0, THAW_AFTER_S - (time.monotonic_ns() - taken_ns) / 1e9))
        replies = self._watch.replies(node) if self._watch is not None else 0
        self._pair.thaw(node)
        self._pair.wait_until(f"{node} is standby by itself", lambda: self._pair.is_whole(other(node)), WHOLE_S)
        wrong = []
        if self._writer.first_after(node, taken_ns) is not None:
            wrong.append(f"{node} acknowledged a write after {other(node)} had taken over")
        if self._watch is not None:
            double = self._watch.change(node, other(node), wall_ns).double
            late = self._watch.replies(node) - replies
            if double or late:
                wrong.append(f"{node} answered for the virtual IP: {double} times after {other(node)}, {late} thawed")
        return wrong

    def _file(self, taker: Node) -> list[str]:
        """Read everything back: the file, and by a scrub every block."""
        verdict, turns = self._writer.verdict(taker)
        wrong = []
        if not verdict.clean:
            wrong.append(f"the file of {verdict.count} records: {verdict}")
        self._turns += 1
        if len(turns) != self._turns or turns[-1] != taker:
            wrong.append(f"who wrote after {self._turns - 1} rounds, in the file's order: {turns}")
        scan = tank.scrub(self._pair, self._pool)
        if scan.errors:
            wrong.append(f"scrub: {scan.errors} errors")
        return wrong

    def _bring_back(self, node: Node, fault: Fault) -> float:
        """Until the pair is whole; a controller that ended itself is freed of the memory of it.

        The third time in ten minutes it would not take over any more: the rounds here are minutes apart at most.
        """
        ended = self._pair.layout.machine(node) / "ended.json"
        if fault == "freeze" and ended.exists():
            self._pair.power_off(node)
            ended.unlink()
        began = time.monotonic()
        self._pair.power_on(node)
        self._pair.wait_until("the pair is whole", lambda: self._pair.is_whole(other(node)), WHOLE_S)
        back_s = time.monotonic() - began
        self._writer.start(node)
        if self._watch is not None:
            self._watch.mark(node)
        return back_s


class _Step(msgspec.Struct, frozen=True):
    name: str
    ms: float


class _Told(msgspec.Struct, frozen=True):
    steps: tuple[_Step, ...]
