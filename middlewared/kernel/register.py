"""The register of one shared disk: who holds it, in which term, and the two slots that only the holder writes.

A register is free or held by one controller in one term. Rules, the whole of them:

    claim    granted when the term is above the register's and the register is still as the claimer read it
    release  granted to the holder in its term; the term stays, so no term is granted twice
    record   written by the holder in its term, and never over a later one: writes may overtake each other
    beat     written by the holder, in the term that it holds

Everything else is denied and leaves the register as it was. The comparison with what was read (`over`) is what a SCSI
disk does when PREEMPT names a key that is gone: it refuses. Two controllers that read the same state and both claim
cannot both be granted.

Not handled here: durability. Whoever keeps a register writes it down before it answers Granted; beats excepted.
Source: SCSI SPC-4 5.12 (persistent reservations), of which this is the part that is used.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from middlewared.kernel.facts import Node, PairRecord


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """What a voter says of its register. owner None: free. generation: rises at every claim and release."""

    term: int
    owner: Node | None
    generation: int


class Granted(msgspec.Struct, frozen=True):
    """The register now holds what was asked, and did so durably before this was said."""

    holding: Holding


class Denied(msgspec.Struct, frozen=True):
    """The register is unchanged; this is what it holds."""

    holding: Holding


class Silent(msgspec.Struct, frozen=True):
    """No answer within the deadline: the register may or may not have changed."""

    why: str


class Refused(msgspec.Struct, frozen=True):
    """The disk took no write from this controller: it is not the holder, or a later one is there."""

    why: str


Whose: TypeAlias = Literal["nobody", "us", "another pair", "unknown"]
"""Who wrote what is in a slot area. Unknown: it is no slot of anybody."""

Answer: TypeAlias = Granted | Denied | Silent

UNTOUCHED = Holding(term=0, owner=None, generation=0)


class Register(msgspec.Struct, frozen=True, kw_only=True):
    """One disk. beat: the count of the last heartbeat, 0 where none was written."""

    holding: Holding = UNTOUCHED
    record: PairRecord | None = None
    beat: int = 0

    def claim(self, node: Node, term: int, over: Holding) -> tuple[Register, Granted | Denied]:
        if term <= self.holding.term or over != self.holding:
            return self, Denied(self.holding)
        return self._hold(Holding(term=term, owner=node, generation=self.holding.generation + 1))

    def release(self, node: Node, term: int) -> tuple[Register, Granted | Denied]:
        if not self._held(node, term):
            return self, Denied(self.holding)
        return self._hold(Holding(term=term, owner=None, generation=self.holding.generation + 1))

    def write_record(self, node: Node, record: PairRecord) -> tuple[Register, Granted | Denied]:
        held = self.record
        overtaken = held is not None and (held.term, held.serial) > (record.term, record.serial)
        if record.owner != node or not self._held(node, record.term) or overtaken:
            return self, Denied(self.holding)
        return msgspec.structs.replace(self, record=record), Granted(self.holding)

    def write_beat(self, node: Node, term: int, count: int) -> tuple[Register, Granted | Denied]:
        if not self._held(node, term):
            return self, Denied(self.holding)
        return msgspec.structs.replace(self, beat=count), Granted(self.holding)

    def _held(self, node: Node, term: int) -> bool:
        return self.holding.owner == node and self.holding.term == term

    def _hold(self, holding: Holding) -> tuple[Register, Granted]:
        return msgspec.structs.replace(self, holding=holding), Granted(holding)
