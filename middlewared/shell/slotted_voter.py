"""The port `Voter` of a disk whose reservation and whose slots are two things, as on SCSI and NVMe disks.

Every write to a slot is preceded by a look at the register, so that a controller which holds the disk in another term
is denied; what comes between the look and the write, the disk refuses. So nothing here decides who may write.
"""

from __future__ import annotations

from middlewared.kernel.facts import Node, PairRecord
from middlewared.kernel.register import Answer, Denied, Granted, Holding, Refused, Silent, Whose
from middlewared.ports import Reservation, Slots


class SlottedVoter:
    """One shared disk."""

    def __init__(self, reservation: Reservation, slots: Slots) -> None:
        self.name = reservation.name
        self.keeps = "slots"
        self._reservation = reservation
        self._slots = slots

    async def read(self) -> Holding | Silent:
        return await self._reservation.read()

    async def claim(self, node: Node, term: int, over: Holding) -> Answer:
        return await self._reservation.claim(node, term, over)

    async def release(self, node: Node, term: int) -> Answer:
        return await self._reservation.release(node, term)

    async def write_record(self, node: Node, record: PairRecord) -> Answer:
        held = await self._reservation.read()
        if isinstance(held, Silent):
            return held
        if not _holds(held, node, record.term) or record.owner != node:
            return Denied(held)
        return await self._answer(held, await self._slots.write_record(record))

    async def read_record(self) -> PairRecord | Silent | None:
        return await self._slots.read_record()

    async def beat(self, node: Node, term: int, count: int) -> Answer:
        held = await self._reservation.read()
        if isinstance(held, Silent):
            return held
        if not _holds(held, node, term):
            return Denied(held)
        return await self._answer(held, await self._slots.beat(node, term, count))

    async def read_beat(self) -> int | Silent:
        return await self._slots.read_beat()

    async def whose(self) -> Whose | Silent:
        return await self._slots.whose()

    async def _answer(self, held: Holding, outcome: Refused | Silent | None) -> Answer:
        if outcome is None:
            return Granted(held)
        if isinstance(outcome, Silent):
            return outcome
        now = await self._reservation.read()
        return now if isinstance(now, Silent) else Denied(now)


def _holds(held: Holding, node: Node, term: int) -> bool:
    return held.owner == node and held.term == term
