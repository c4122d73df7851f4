"""Who may open this log after its owner: the controllers that the record names, or may name.

A write of the record that is under way, or whose outcome is not known, may be what the next owner reads; so may one of
an earlier owner that reached one disk alone. Until a record was written in this term, the peer may therefore stand in
it, whatever the one says that was read.
"""

from __future__ import annotations

from middlewared.kernel.event import START, Position
from middlewared.kernel.facts import Node, PairRecord, other
from middlewared.protocol.replication_values import Owning, Written

RETRY_S = 0.1


class InSync:
    """One term's view of the record. unwritten: none was written in this term."""

    def __init__(self, node: Node, tenure: Owning) -> None:
        self.named: frozenset[Node] = frozenset(tenure.record.in_sync if tenure.record else ())
        self.unwritten = not tenure.alone
        self.retry_at: float | None = None
        self._maybe: frozenset[Node] = frozenset({other(node)}) if self.unwritten else frozenset()
        self._asked: tuple[int, frozenset[Node]] | None = None
        self._asks = tenure.term << 20  # an answer to the owner of an earlier term is none to this one

    @property
    def under_way(self) -> bool:
        return self._asked is not None

    def may_name(self, node: Node) -> bool:
        asked = self._asked[1] if self._asked else frozenset()
        return node in self.named | self._maybe | asked

    def asks(self, now: float) -> bool:
        """Another record may be asked for now."""
        return self._asked is None and (self.retry_at is None or now >= self.retry_at)

    def ask(self, wanted: frozenset[Node]) -> int | None:
        """The number under which a record that names `wanted` is to be written; None where it stands so."""
        self.retry_at = None
        if wanted == self.named and not self._maybe:
            return None
        self._asks += 1
        self._asked = (self._asks, wanted)
        return self._asks

    def written(self, message: Written, now: float) -> None:
        if self._asked is None or self._asked[0] != message.id:
            return
        wanted = self._asked[1]
        self._asked = None
        if message.ok:
            self.named, self._maybe, self.unwritten = wanted, frozenset(), False
        else:
            self._maybe |= wanted
            self.retry_at = now + RETRY_S


def recorded(record: PairRecord | None) -> Position:
    """The committed position that it names."""
    return START if record is None else Position(record.committed_seq, 0, record.committed_hash)


def lacks(tenure: Owning, node: Node, head: Position) -> str | None:
    """Why the log of `node`, which ends at `head`, may not open the configuration; None if it may."""
    record = tenure.record
    if head.seq == 0:
        return "the log of this controller is empty and never followed the other's"
    if record is None:
        return None
    if node not in record.in_sync:
        return f"answered writes are known to controller {other(node)} alone; the log here ends at seq {head.seq}"
    if record.committed_seq > 0 and tenure.hash_here != record.committed_hash:
        return f"the log here does not hold the committed record {record.committed_seq}"
    return None
