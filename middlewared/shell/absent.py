"""A disk that votes and that this controller has no way to: it is in the configuration and not in the boot file."""

from __future__ import annotations

from middlewared.kernel.facts import Node, PairRecord
from middlewared.kernel.register import Answer, Holding, Silent, Whose


class Absent:
    """The port `Voter`: always silent."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.keeps = "nowhere"
        self._silent = Silent(f"{name}: the boot file names no such disk")

    async def read(self) -> Holding | Silent:
        return self._silent

    async def claim(self, node: Node, term: int, over: Holding) -> Answer:
        return self._silent

    async def release(self, node: Node, term: int) -> Answer:
        return self._silent

    async def write_record(self, node: Node, record: PairRecord) -> Answer:
        return self._silent

    async def read_record(self) -> PairRecord | Silent | None:
        return self._silent

    async def beat(self, node: Node, term: int, count: int) -> Answer:
        return self._silent

    async def read_beat(self) -> int | Silent:
        return self._silent

    async def whose(self) -> Whose | Silent:
        return self._silent
