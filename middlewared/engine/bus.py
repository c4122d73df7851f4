"""After a commit: who hears of it.

A collection is a name that clients subscribe to: a noun (`network.configuration`) or what a plugin announces
(`failover.status`). A change of a noun tells its seq and the kind of the event, not the rows, for they may hold
secrets: who wants the state asks for it. Each notification is encoded once, whatever the number of clients.

A change of a noun comes from the log and has the `seq` and `term` of its record; whoever subscribes since a record is
brought from there to the present by a replay (engine/replay.py). Any other change has the seq that was applied last.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from typing import Literal

from middlewared.engine.replay import Log, Replay
from middlewared.kernel.errors import Refused
from middlewared.protocol import rpc
from middlewared.protocol.session import Session
from middlewared.protocol.subscription import Cursor, Subscription, change

Wake = Callable[[], None]


class Bus:
    """The sessions that are connected, and the way to tell them things. To be used from the event loop only."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._sessions: dict[Session, Replay] = {}
        self._told_seq = log.applied().seq

    def attach(self, session: Session, wake: Wake) -> None:
        """Tell `session` from now on; `wake` is called when its outbox has something."""
        self._sessions[session] = Replay(session, wake, self._log)

    def detach(self, session: Session) -> None:
        """Its connection is gone."""
        replay = self._sessions.pop(session, None)
        if replay is not None:
            replay.stop()

    async def subscribe(
        self, session: Session, name: str, *, addressed: bool, since: int | None = None, term: int | None = None
    ) -> Subscription:
        """Let `session` hear of `name`: from now on, or of everything after the record `since` and then from now on.

        term: of that record, as the client knows it. Raises Refused for a record that is not there or is another one
        than the client saw, and for a collection that does not come from the log; CallFailed.
        """
        applied = self._log.applied()
        if since is None:
            return session.subscribe(name, Cursor(applied.seq, applied.term), addressed=addressed)
        if name != "*" and not self._log.has_noun(name):
            raise Refused(
                ("options.since", f"{name} does not come from the log: ask for its present state", errno.EOPNOTSUPP)
            )
        if not 0 <= since <= applied.seq:
            what = "must not be negative" if since < 0 else f"is beyond {applied.seq}, the last that is applied here"
            raise Refused(("options.since", what, errno.ERANGE))
        at = await self._record(since)
        if term is not None and term != at.term:
            what = f"record {since} is of term {at.term} here: what this client saw there is not in this log"
            raise Refused(("options.term", f"{what}; ask for the present state", errno.ESTALE))
        made = session.subscribe(name, at, addressed=True, replaying=True)
        if session in self._sessions:
            self._sessions[session].go_on()
        return made

    def applied(self, first: int, last: int) -> None:
        """The records from `first` to `last` were applied, and `committed` tells of each that changes a noun.

        A state that was taken over from the other controller may be ahead of the one before: what lies between was
        told to nobody, and is in the log.
        """
        if first > self._told_seq + 1:
            for session, replay in self._sessions.items():
                session.missed(self._log.has_noun)
                replay.go_on()
                replay.wake()
        self._told_seq = last

    def committed(self, noun: str, kind: str, at: Cursor) -> None:
        """An event of `noun` was committed and applied."""
        self._tell(noun, lambda: change(noun, fields={"kind": kind}, seq=at.seq, term=at.term), at)

    def publish(
        self,
        collection: str,
        *,
        msg: Literal["added", "changed", "removed"] = "changed",
        id: object = None,  # noqa: A002
        fields: Mapping[str, object] | None = None,
        to: Callable[[Session], bool] | None = None,
    ) -> None:
        """Tell everyone who subscribed of a change that is not in the log. to: which of them may know; None: all."""
        seq = self._log.applied().seq
        self._tell(collection, lambda: change(collection, msg=msg, id=id, fields=fields, seq=seq), None, to)

    def end(self, collection: str, why: rpc.Detail | None = None) -> None:
        """The source of a collection ended: nobody is subscribed to it any longer. why None: in good order."""
        for session, replay in self._sessions.items():
            session.end(collection, why)
            replay.wake()

    def cut(self, after: int) -> None:
        """Applied records after `after` were cut from the log: who heard of them, or of what follows, is told."""
        self._told_seq = after
        for session, replay in self._sessions.items():
            session.cut(after, self._log.has_noun)
            replay.wake()

    def _tell(
        self, collection: str, make: Callable[[], bytes], at: Cursor | None, to: Callable[[Session], bool] | None = None
    ) -> None:
        frame: bytes | None = None
        for session, replay in self._sessions.items():
            if session.hears(collection) and (to is None or to(session)):
                frame = frame or make()
                session.notify(collection, frame, at)
                replay.wake()

    async def _record(self, seq: int) -> Cursor:
        found = await self._log.headlines(seq - 1, seq) if seq > 0 else []
        return Cursor(seq, found[0].term if found else 0)
