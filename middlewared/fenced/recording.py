"""The owner's writes of the record: in its own term, numbered, one after the other."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from middlewared.fenced.disks import Disks, later
from middlewared.fenced.facts import Facts
from middlewared.kernel.facts import PairRecord


class Recording:
    """What is on a majority of the disks is kept in `facts.record`."""

    def __init__(self, facts: Facts, disks: Disks, note: Callable[..., None]) -> None:
        self._facts = facts
        self._disks = disks
        self._note = note
        self._serial = 0

    def begin(self, term: int, record: PairRecord | None) -> PairRecord | None:
        """A term begins. What of the record goes on in it, to be given to `carry_over`."""
        self._serial = 1
        if record is not None:
            record = msgspec.structs.replace(record, owner=self._facts.node, term=term, serial=self._serial)
        self._facts.record = record
        return record

    async def carry_over(self, record: PairRecord) -> None:
        """Write the record in the new term; middlewared's own writes come after it, in order."""
        why = await self._disks.write_record(record)
        if why is not None and self._disks.voters:
            self._note("record-not-written", term=record.term, why=why)

    async def write(self, record: PairRecord) -> str | None:
        """middlewared's record, in our term only. None once a majority of the disks holds it, otherwise why not."""
        facts = self._facts
        if not facts.owns or record.term != facts.term or record.owner != facts.node:
            return f"this controller does not own term {record.term}"
        self._serial += 1
        record = msgspec.structs.replace(record, serial=self._serial)
        why = await self._disks.write_record(record)
        if why is None:
            facts.record = later(facts.record, record)
        return why
