"""A shared disk in memory: the port `Voter` over kernel/register.py, with a cable that can be pulled."""

from __future__ import annotations

from collections.abc import Callable

from middlewared.kernel.facts import Node, PairRecord
from middlewared.kernel.register import Answer, Denied, Granted, Holding, Register, Silent

Change = tuple[Register, Granted | Denied]


class Disk:
    """The register itself; every controller's SimVoter on it sees the same one."""

    def __init__(self) -> None:
        self.register = Register()


class SimVoter:
    """One controller's cable to one disk. cut: True while the cable is pulled.

    A claim made through a cut cable never reaches the disk.
    """

    def __init__(self, name: str, disk: Disk, node: Node) -> None:
        self.name = name
        self.cut = False
        self._disk = disk
        self._node = node

    async def read(self) -> Holding | Silent:
        return self._silent() or self._disk.register.holding

    async def claim(self, node: Node, term: int, over: Holding) -> Answer:
        return self._change(node, lambda register: register.claim(node, term, over))

    async def release(self, node: Node, term: int) -> Answer:
        return self._change(node, lambda register: register.release(node, term))

    async def write_record(self, node: Node, record: PairRecord) -> Answer:
        return self._change(node, lambda register: register.write_record(node, record))

    async def read_record(self) -> PairRecord | Silent | None:
        return self._silent() or self._disk.register.record

    async def beat(self, node: Node, term: int, count: int) -> Answer:
        return self._change(node, lambda register: register.write_beat(node, term, count))

    async def read_beat(self) -> int | Silent:
        return self._silent() or self._disk.register.beat

    def _silent(self) -> Silent | None:
        return Silent(f"{self.name}: the cable is cut") if self.cut else None

    def _change(self, node: Node, change: Callable[[Register], Change]) -> Answer:
        if self.cut:
            return Silent(f"{self.name}: the cable is cut")
        if node != self._node:
            return Denied(self._disk.register.holding)
        self._disk.register, answer = change(self._disk.register)
        return answer
