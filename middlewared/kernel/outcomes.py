"""What became of each command, so that one that is sent twice is carried out once.

Theory
------
A client whose answer was lost sends the same request again, under the same id, perhaps to the other controller. Whether
the first copy was carried out stands in the log: every record names the request and the actor that it comes from. This
index is a fold of those headers alone, so it is the same on both controllers, survives a restart and a takeover as the
log does, and holds for records that were written before there was an index.

* The key is (request_id, name): the id that the client made, and who it is, without the address from which it asks:
  `eva@10.0.0.5:4711` and `eva@10.0.0.6:4712` are one actor. Two actors never answer for each other.
* All records of a command stand side by side, in one term; together they are one outcome.
* Of two outcomes with one key the first counts. Only a build without this index could have written the second.
* A command that was refused, or that changed nothing, left no record and is not known here. It is decided anew when it
  comes again, and that is right: nothing happened that could happen twice, and the state may have become one in which
  it can be carried out.

Kept are the last LIMIT commands and none that is older than KEPT_NS of **log time**: the sum, over consecutive
records, of how far the wall clock moved between them, at least 0 and at most STEP_NS. A clock that jumps a year ahead
expires one hour's worth, one that jumps back nothing; a quiet week counts as an hour, and then more is kept than was
promised. A client that asks later than that asks for a new command.

Not handled: what a command answered. The state as it was after the outcome's last record can be found again
(engine/history.py), and the answer is made from it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import TypeAlias

import msgspec

from middlewared.kernel.event import Record

LIMIT = 100_000
KEPT_NS = 24 * 3600 * 1_000_000_000
STEP_NS = 3600 * 1_000_000_000

Key: TypeAlias = tuple[str, str]
"""(request_id, name of the actor)"""


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """One command's records, `first` to `last`, written in `term`.

    kind: of the first; at_ns: log time of the last; method: that asked for it, as far as the log says.
    """

    first: int
    last: int
    term: int
    kind: str
    at_ns: int
    method: str = ""

    @property
    def events(self) -> int:
        return self.last - self.first + 1


class LogTime(msgspec.Struct, frozen=True):
    """log_ns: the log time at record `seq`, whose wall clock was `wall_ns`."""

    seq: int = 0
    log_ns: int = 0
    wall_ns: int = 0


class Delta(msgspec.Struct, frozen=True):
    """What changed: commands that ended, oldest first; what begins before record `oldest` is forgotten."""

    ended: list[tuple[Key, Outcome]]
    oldest: int
    time: LogTime


def name_of(actor: str) -> str:
    """Who it is, without where it asks from."""
    return actor.partition("@")[0]


def key_of(record: Record) -> Key | None:
    """What the record's command is known by; None for what nobody asked for."""
    return (record.request_id, name_of(record.actor)) if record.request_id else None


class Outcomes:
    """The index, folded record by record. It is changed in place: a copy for each record would be too dear.

    kept: what an earlier fold remembered, oldest first, as of `time`.
    """

    def __init__(self, kept: Iterable[tuple[Key, Outcome]] = (), time: LogTime = LogTime()) -> None:  # noqa: B008
        self._kept: OrderedDict[Key, Outcome] = OrderedDict(kept)
        self._names: dict[str, str] = {}
        self._seq, self._log_ns, self._wall_ns = time.seq, time.log_ns, time.wall_ns
        self._oldest_ns = next(iter(self._kept.values())).at_ns if self._kept else 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def seq(self) -> int:
        """The last record that is folded in."""
        return self._seq

    def find(self, key: Key) -> Outcome | None:
        return self._kept.get(key)

    def delta(self, seq: int) -> Delta:
        """What is to be written where everything up to record `seq` is. Its cost is the number of commands since."""
        oldest = next(iter(self._kept.values())).first if self._kept else self._seq + 1
        return Delta(self._since(seq), oldest, LogTime(self._seq, self._log_ns, self._wall_ns))

    def _since(self, seq: int) -> list[tuple[Key, Outcome]]:
        found = []
        for key in reversed(self._kept):
            outcome = self._kept[key]
            if outcome.last <= seq:
                break
            found.append((key, outcome))
        found.reverse()
        return found

    def fold(self, records: Iterable[Record]) -> None:
        """The next records are committed."""
        kept = self._kept
        for record in records:
            self._log_ns += max(0, min(record.wall_ns - self._wall_ns, STEP_NS))
            self._seq, self._wall_ns = record.seq, record.wall_ns
            if record.request_id:
                self._remember(record)
            if self._oldest_ns < self._log_ns - KEPT_NS or len(kept) > LIMIT:
                self._expire()

    def _expire(self) -> None:
        kept, since_ns = self._kept, self._log_ns - KEPT_NS
        while kept and (len(kept) > LIMIT or next(iter(kept.values())).at_ns < since_ns):
            kept.popitem(last=False)
        self._oldest_ns = next(iter(kept.values())).at_ns if kept else self._log_ns

    def _remember(self, record: Record) -> None:
        # Few names and kinds, many records: each is kept once.
        name, kind = name_of(record.actor), record.kind
        key = (record.request_id, self._names.setdefault(name, name))
        known = self._kept.get(key)
        if known is None:
            kind = self._names.setdefault(kind, kind)
            method = self._names.setdefault(record.method, record.method)
            self._kept[key] = Outcome(record.seq, record.seq, record.term, kind, self._log_ns, method)
        elif known.last == record.seq - 1 and known.term == record.term:
            self._kept[key] = Outcome(known.first, record.seq, known.term, known.kind, self._log_ns, known.method)
