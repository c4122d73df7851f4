"""Brings one connection's subscriptions from the record that they begin after to the present.

Reads a span of the log at a time, in the log's reader thread, and only while the outbox has room: a client that reads
slowly makes its own replay slow and nothing else, and what waits for it stays bounded however long the log is. The
last span and the change to live notifications are one turn of the loop (protocol/subscription.py).
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from middlewared.kernel.errors import MiddlewareError
from middlewared.kernel.event import Headline, Position
from middlewared.protocol import rpc
from middlewared.protocol.session import Session
from middlewared.protocol.subscription import SPAN, Cursor, Subscription, change

log = logging.getLogger(__name__)

STRIDE_MAX = 8 * SPAN


class Log(Protocol):
    """Where the changes stand, and how far they are true."""

    def applied(self) -> Position:
        """The last record that is committed and applied."""
        ...

    def noun_of(self, kind: str) -> str | None:
        """Whose state an event of `kind` changes; None for events of the engine itself."""
        ...

    def has_noun(self, collection: str) -> bool: ...

    async def headlines(self, after: int, upto: int) -> list[Headline]: ...


class Replay:
    """One session's. wake: called when its outbox has something."""

    def __init__(self, session: Session, wake: Callable[[], None], log: Log) -> None:
        self.wake = wake
        self._session = session
        self._log = log
        self._room = asyncio.Event()
        self._stride = SPAN
        self._task: asyncio.Task[None] | None = None

    def go_on(self) -> None:
        """There is a subscription that is behind."""
        if self._task is None:
            self._session.on_room = self._room.set
            self._task = asyncio.get_running_loop().create_task(self._run())

    def stop(self) -> None:
        """The connection is gone."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            while (subscription := self._session.to_replay()) is not None:
                if self._session.has_room():
                    await self._step(subscription)
                    self.wake()
                else:
                    self._room.clear()
                    await self._room.wait()
        finally:
            self._task = None
            self._session.on_room = None

    async def _step(self, subscription: Subscription) -> None:
        after = subscription.at
        upto = min(after.seq + self._stride, self._log.applied().seq)
        try:
            found = await self._log.headlines(after.seq, upto) if upto > after.seq else []
        except MiddlewareError as e:
            log.warning("event=replay_failed after=%d why=%r", after.seq, str(e))
            self._session.end_one(subscription, rpc.detail(errno.EIO, str(e)))
            return
        if upto > after.seq and not found:
            self._session.end_one(subscription, subscription.why_cut(after.seq))
            return
        changes, end = self._heard(subscription, found)
        # Where little is for it, more is read at a time: a collection that changes seldom may have a long log to cross.
        self._stride = min(2 * self._stride, STRIDE_MAX) if len(changes) < SPAN // 4 else SPAN
        self._session.replayed(subscription, changes, end, self._log.applied().seq)

    def _heard(self, subscription: Subscription, found: Sequence[Headline]) -> tuple[list[bytes], Cursor]:
        """The changes that are for it, SPAN at most, and the record up to which they were looked for."""
        changes: list[bytes] = []
        end = subscription.at
        for line in found:
            noun = self._log.noun_of(line.kind)
            end = Cursor(line.seq, line.term)
            if noun is not None and subscription.hears(noun):
                changes.append(change(noun, fields={"kind": line.kind}, seq=line.seq, term=line.term))
                if len(changes) == SPAN:
                    break
        return changes, end
