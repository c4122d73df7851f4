"""After a commit: who hears of it.

A collection is a name that clients subscribe to: a noun (`network.configuration`) or what a plugin announces
(`failover.status`). A change of a noun tells its seq and the kind of the event, not the rows, for they may hold
secrets: who wants the state asks for it. Each notification is encoded once, whatever the number of clients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from middlewared.protocol import rpc
from middlewared.protocol.session import Session

Wake = Callable[[], None]


class Bus:
    """The sessions that are connected, and the way to tell them things. To be used from the event loop only."""

    def __init__(self) -> None:
        self._sessions: dict[Session, Wake] = {}

    def attach(self, session: Session, wake: Wake) -> None:
        """Tell `session` from now on; `wake` is called when its outbox has something."""
        self._sessions[session] = wake

    def detach(self, session: Session) -> None:
        """Its connection is gone."""
        self._sessions.pop(session, None)

    def committed(self, noun: str, kind: str, seq: int) -> None:
        """An event of `noun` was committed and applied."""
        self.publish(noun, fields={"kind": kind}, seq=seq)

    def publish(
        self,
        collection: str,
        *,
        msg: Literal["added", "changed", "removed"] = "changed",
        id: object = None,  # noqa: A002
        fields: Mapping[str, object] | None = None,
        seq: int | None = None,
    ) -> None:
        """Tell everyone who subscribed. seq: of the record that it comes from, where it comes from the log."""
        hearers = [(session, wake) for session, wake in self._sessions.items() if session.hears(collection)]
        if not hearers:
            return
        optional = {"id": id, "fields": fields, "seq": seq}
        params = {"msg": msg, "collection": collection, **{k: v for k, v in optional.items() if v is not None}}
        frame = rpc.encode_notice("collection_update", params)
        for session, wake in hearers:
            session.notify(collection, frame)
            wake()

    def end(self, collection: str, why: rpc.Detail | None = None) -> None:
        """The source of a collection ended: nobody is subscribed to it any longer. why None: in good order."""
        for session, wake in self._sessions.items():
            session.end(collection, why)
            wake()
