"""One client's wish to hear of a collection, and how far it has been told.

    LIVE       is told each change when it is committed; `at` is the last change that was queued for it
    REPLAYING  is behind the log: it is given spans of the log's records, in order, whenever the outbox has room.
               What is committed meanwhile is not queued for it, for the log has it too

    subscribe, without since         LIVE at the record that is applied last
    subscribe, since a record        REPLAYING from it
    a span reaches what is applied   LIVE, in the same turn, so no change falls between, and none comes twice
    the outbox is full               ended: it is told where to go on (`resume_at`)
    applied records are cut          ended: what it heard of them is not so
    records were told to nobody      REPLAYING again, if its notices carry its id; else ended, and told where to go on

A record is named by its seq and its term. A seq alone is not enough: after a cut another record stands there.

Not handled: changes that are not in the log (a status, a job) are told as they happen and cannot be replayed.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Literal, NamedTuple

from middlewared.protocol import rpc

OUTBOX_LIMIT = 1000
SPAN = OUTBOX_LIMIT // 4
"""How many changes one step of a replay may queue, and how full the outbox may be before it."""


class Cursor(NamedTuple):
    """A record of the log, or its beginning (0, 0)."""

    seq: int
    term: int


BEGINNING = Cursor(0, 0)


def change(
    collection: str,
    *,
    msg: Literal["added", "changed", "removed"] = "changed",
    id: object = None,  # noqa: A002
    fields: Mapping[str, object] | None = None,
    seq: int,
    term: int | None = None,
) -> bytes:
    """The notification of one change. term: only where it comes from the log; seq is the record's then."""
    optional = {"id": id, "fields": fields, "seq": seq, "term": term}
    params = {"msg": msg, "collection": collection, **{k: v for k, v in optional.items() if v is not None}}
    return rpc.encode_notice("collection_update", params)


class Subscription:
    """name: the collection, or `*`. addressed: its notices carry its id, so that two of one connection can differ."""

    __slots__ = ("addressed", "at", "id", "name", "replaying")

    def __init__(self, id_: str, name: str, at: Cursor, *, addressed: bool, replaying: bool) -> None:
        self.id = id_
        self.name = name
        self.at = at
        self.addressed = addressed
        self.replaying = replaying

    def hears(self, collection: str) -> bool:
        return self.name in (collection, "*")

    def why_behind(self) -> rpc.Detail:
        """Too much waits for it. What follows `since` is in the log, and can be asked for."""
        return self._resume(f"The client is {OUTBOX_LIMIT} notifications behind")

    def why_missed(self) -> rpc.Detail:
        """This controller took over another state than it had told of."""
        return self._resume("This controller was brought up to date without telling of each change")

    def _resume(self, why: str) -> rpc.Detail:
        extra = {"resume": True, "since": self.at.seq, "term": self.at.term}
        what = "What is not in the log cannot be told again: ask for the present state"
        return rpc.detail(errno.ENOBUFS, f"{why}; subscribe again since {self.at.seq}. {what}", extra)

    def why_cut(self, after: int) -> rpc.Detail:
        """Records after `after` that were told as committed are not in the log any more."""
        extra = {"resume": self.at.seq <= after, "since": self.at.seq, "term": self.at.term, "cut_after": after}
        reason = f"The records after {after} were taken off this controller's log; ask for the present state"
        return rpc.detail(errno.ESTALE, reason, extra)
