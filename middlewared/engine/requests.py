"""Which requests this controller knows: those that are committed, and those whose records wait in the log.

The committed ones are kernel.outcomes' index. It is read from state.db beside the start, because a full one takes a
tenth of a second that nobody should wait for; what is committed meanwhile is folded in after it.

Only an owner is asked, and seldom while much waits: records that wait are looked at when somebody asks, so that a
standby that catches up never looks at them.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Iterable, Sequence

import msgspec

from middlewared.kernel.errors import CallFailed
from middlewared.kernel.event import Position, Record
from middlewared.kernel.outcomes import Key, Outcome, Outcomes, key_of


class Seen(msgspec.Struct, frozen=True):
    """A request that has records in the log. at: the last of them, while it is not committed; None once it is."""

    outcome: Outcome
    at: Position | None


class Requests:
    """The index, and what stands in the log after it."""

    def __init__(self) -> None:
        self._index: Outcomes | None = None
        self._late: list[Record] = []
        self._unseen: deque[Record] = deque()
        self._waiting: dict[Key, Seen] = {}

    @property
    def index(self) -> Outcomes | None:
        """None until it has been read."""
        return self._index

    def begin(self, index: Outcomes) -> None:
        """The index as state.db has it."""
        self._index = index
        index.fold(self._late)
        self._late.clear()

    def forget(self) -> None:
        """Begin anew, without an index."""
        self._index = None
        self._late.clear()
        self._unseen.clear()
        self._waiting.clear()

    def find(self, key: Key) -> Seen | None:
        while self._unseen:
            self._see(self._unseen.popleft())
        waits = self._waiting.get(key)
        known = self._index.find(key) if self._index is not None else None
        if known is None or (waits is not None and waits.outcome.first <= known.last + 1):
            return waits
        return Seen(known, None)

    def follow(self, records: Iterable[Record]) -> None:
        """These records stand in the log; they are not committed yet."""
        self._unseen.extend(records)

    def _see(self, record: Record) -> None:
        key = key_of(record)
        if key is None:
            return
        waits = self._waiting.get(key)
        # The first records of a command may be committed before the rest of it.
        known = waits.outcome if waits is not None else self._index.find(key) if self._index is not None else None
        if known is not None and known.last == record.seq - 1 and known.term == record.term:
            outcome = msgspec.structs.replace(known, last=record.seq)
        elif waits is None:
            outcome = Outcome(record.seq, record.seq, record.term, record.kind, 0, record.method)
        else:
            return
        self._waiting[key] = Seen(outcome, record.position)

    def committed(self, records: Sequence[Record]) -> None:
        """These, which stand in the log right after those that were committed before."""
        if self._index is None:
            self._late.extend(records)
        else:
            self._index.fold(records)
        last = records[-1].seq
        while self._unseen and self._unseen[0].seq <= last:
            self._unseen.popleft()
        if self._waiting:
            self._waiting = {key: seen for key, seen in self._waiting.items() if seen.outcome.last > last}

    def cut_after(self, seq: int) -> None:
        """Forget records that were cut from the log before they were committed."""
        while self._unseen and self._unseen[-1].seq > seq:
            self._unseen.pop()
        self._waiting = {key: seen for key, seen in self._waiting.items() if seen.outcome.last <= seq}


def must_be_same(request_id: str, before: tuple[str, str], now: tuple[str, str]) -> None:
    """Raises CallFailed: a client that gives one id to two things would be told the first's outcome for the second.

    before, now: noun and method; a record of the first format names no method.
    """
    if before[0] != now[0] or (before[1] and now[1] and before[1] != now[1]):
        reason = (
            f"Request {request_id} was {before[1] or before[0]}'s already; {now[1] or now[0]} needs an id of its own"
        )
        raise CallFailed(errno.EEXIST, reason, {"request_id": request_id})
