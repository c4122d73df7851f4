"""A shared disk in memory: the port `Voter` over kernel/register.py, through a cable that can be pulled or be slow."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from middlewared.kernel.facts import Node, PairRecord
from middlewared.kernel.register import Answer, Denied, Granted, Holding, Register, Silent, Whose
from middlewared.sim.loop import Loop
from middlewared.sim.network import Path
from middlewared.sim.timeline import Timeline

Change = tuple[Register, Granted | Denied]
T = TypeVar("T")


class Disk:
    """The register itself; every controller's voter on it sees the same one. dead: nobody is answered.

    told: to whom it belongs, as each controller's fenced was told last; nothing where it was not answered.
    """

    def __init__(self) -> None:
        self.register = Register()
        self.dead = False
        self.told: dict[Node, Node | None] = {}

    def tell(self, node: Node, said: object) -> None:
        """This reaches the controller, as an answer."""
        match said:
            case Holding(owner=owner) | Granted(holding=Holding(owner=owner)) | Denied(holding=Holding(owner=owner)):
                self.told[node] = owner
            case Silent():
                self.told.pop(node, None)


class SimVoter:
    """One controller's cable to one disk. cut: True while the cable is pulled.

    A claim made through a cut cable never reaches the disk.
    """

    def __init__(self, name: str, disk: Disk, node: Node) -> None:
        self.name = name
        self.keeps = "register"
        self.cut = False
        self._disk = disk
        self._node = node

    async def read(self) -> Holding | Silent:
        return await self._ask(lambda: self._disk.register.holding)

    async def claim(self, node: Node, term: int, over: Holding) -> Answer:
        return await self._change(node, lambda register: register.claim(node, term, over))

    async def release(self, node: Node, term: int) -> Answer:
        return await self._change(node, lambda register: register.release(node, term))

    async def write_record(self, node: Node, record: PairRecord) -> Answer:
        return await self._change(node, lambda register: register.write_record(node, record))

    async def read_record(self) -> PairRecord | Silent | None:
        return await self._ask(lambda: self._disk.register.record)

    async def beat(self, node: Node, term: int, count: int) -> Answer:
        return await self._change(node, lambda register: register.write_beat(node, term, count))

    async def read_beat(self) -> int | Silent:
        return await self._ask(lambda: self._disk.register.beat)

    async def whose(self) -> Whose | Silent:
        return "nobody"

    async def _ask(self, question: Callable[[], T], extra_s: float = 0.0) -> T | Silent:
        """extra_s: how much longer than usual it is on its way."""
        return Silent(f"{self.name}: the cable is cut") if self.cut else question()

    async def _change(self, node: Node, change: Callable[[Register], Change], extra_s: float = 0.0) -> Answer:
        def at_the_disk() -> Granted | Denied:
            if node != self._node:
                return Denied(self._disk.register.holding)
            self._disk.register, answer = change(self._disk.register)
            return answer

        return await self._ask(at_the_disk, extra_s)


class Cable(SimVoter):
    """A cable on which words take their time, and on which a question or its answer may be lost."""

    def __init__(
        self, name: str, disk: Disk, node: Node, timeline: Timeline, loop: Loop, path: Path, deadline_s: float
    ) -> None:
        super().__init__(name, disk, node)
        self._timeline = timeline
        self._loop = loop
        self._path = path
        self._deadline_s = deadline_s

    async def write_record(self, node: Node, record: PairRecord) -> Answer:
        return await self._change(node, lambda register: register.write_record(node, record), self._path.record_s())

    async def _ask(self, question: Callable[[], T], extra_s: float = 0.0) -> T | Silent:
        there_s, back_s = self._path.delay_s(), self._path.delay_s()
        answer = self._loop.create_future()
        silent = Silent(f"{self.name}: no answer")
        lost = there_s is None or self._path.cut
        there_s = (there_s or 0.0) + extra_s
        in_time = back_s is not None and there_s + back_s <= self._deadline_s
        awaited = not lost and in_time and not self._disk.dead
        ends_at = self._timeline.now + (there_s + (back_s or 0.0) + 1e-6)

        def ends(with_what: T | Silent) -> None:
            if not answer.done() and not self._loop.dead:
                self._disk.tell(self._node, with_what)
                answer.set_result(with_what)

        def at_the_disk() -> None:
            if self._disk.dead or self._path.cut:
                if awaited:  # the cable was pulled, or the disk died, while the words were on their way
                    self._timeline.at(ends_at, ends, silent)
                return
            said = question()
            if back_s is not None:
                self._timeline.after(back_s, ends, said)

        if not lost:
            self._timeline.after(there_s, at_the_disk)
        if not awaited:
            self._timeline.after(self._deadline_s, ends, silent)
        answered: T | Silent = await answer
        return answered
