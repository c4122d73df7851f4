"""What a client hears: a subscription on one connection, and one that goes on over many.

A connection ends, a controller dies, the reader is slow: each ends a Subscription with its reason. A Following begins
again, at whichever controller answers, after the last record that its reader was given; so its reader is given each
record of the log once, in order. Its place moves when the reader takes a notification, not when one arrives.

    the connection is lost, or no address answers      again, until `patience_s` have passed without success
    too much was not read, here or at the server       again at once
    the record is not known there (a standby behind)   again, as above
    another record stands at its place                 raised: the reader must ask for the present state
    the collection does not come from the log          the state is asked for anew, and given as a notification
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from middlewared.kernel.errors import CallFailed, MiddlewareError, NotActive, OutcomeUnknown, PortFailed, Refused

NOTICES_LIMIT = 1000
RETRY_S = 0.2
PATIENCE_S = 60.0

Notice = dict[str, Any]


class Subscription:
    """The notifications of one collection on one connection, as an asynchronous iterator of their `params`.

    addressed: only what carries its id is for it. id, seq, term: as the server answered, seq 0 where it did not say.
    """

    def __init__(self, name: str, *, addressed: bool = False) -> None:
        self.name = name
        self.addressed = addressed
        self.id = ""
        self.seq = 0
        self.term = 0
        self._queue: asyncio.Queue[Notice | MiddlewareError | None] = asyncio.Queue()

    def begin(self, answer: object) -> None:
        """The server answered."""
        if isinstance(answer, Mapping):
            self.id, self.seq, self.term = str(answer["id"]), int(answer["seq"]), int(answer["term"])
        else:
            self.id = str(answer)

    def hears(self, notice: Notice) -> bool:
        if self.addressed or "subscription" in notice:
            return bool(self.addressed and notice.get("subscription") == self.id)
        return self.name in (notice.get("collection"), "*")

    def is_ended_by(self, notice: Notice) -> bool:
        return self.hears(notice) and notice.get("collection") == self.name

    def put(self, params: Notice) -> None:
        """A notification came. A reader that is NOTICES_LIMIT behind is told so, after what it has."""
        if self._queue.qsize() < NOTICES_LIMIT:
            self._queue.put_nowait(params)
        elif self._queue.qsize() == NOTICES_LIMIT:
            reason = f"{NOTICES_LIMIT} notifications of {self.name} were not read"
            self.end(CallFailed(errno.ENOBUFS, reason, {"resume": True}))

    def end(self, why: MiddlewareError | None) -> None:
        """There will be no more. why None: in good order."""
        self._queue.put_nowait(why)

    async def __aiter__(self) -> AsyncIterator[Notice]:
        while (notice := await self._queue.get()) is not None:
            if isinstance(notice, MiddlewareError):
                raise notice
            yield notice


Open = Callable[[str, dict[str, object]], Awaitable[Subscription]]
Forget = Callable[[Subscription], Awaitable[None]]
Ask = Callable[[str], Awaitable[list[Notice]]]


class Following:
    """A collection, over lost connections and changes of roles, as an asynchronous iterator of notifications' `params`.

    open_: subscribes somewhere, with options. forget: ends a subscription whose connection may still be there. ask:
    what the collections that do not come from the log show now. since, term: the last record that the reader has.
    """

    def __init__(self, name: str, open_: Open, forget: Forget, ask: Ask, patience_s: float = PATIENCE_S) -> None:
        self.name = name
        self.since: int | None = None
        self.term: int | None = None
        self._open = open_
        self._forget = forget
        self._ask = ask
        self._patience_s = patience_s
        self._current: Subscription | None = None
        self._from_log = True

    async def begin(self, since: int | None, term: int | None) -> None:
        """Subscribe for the first time. Raises what the server says."""
        self._current = await self._open(self.name, _options(since, term))
        self.since, self.term = self._current.seq, self._current.term

    async def __aiter__(self) -> AsyncIterator[Notice]:
        while True:
            current, self._current = self._current, None
            if current is None:
                current, present = await self._again()
                for notice in present:
                    yield notice
            try:
                async for notice in current:
                    if "term" in notice:
                        self.since, self.term = notice["seq"], notice["term"]
                    yield notice
                return
            except CallFailed as e:
                if not (isinstance(e.extra, Mapping) and e.extra.get("resume")):
                    raise
                await self._forget(current)
            except PortFailed:
                continue

    async def _again(self) -> tuple[Subscription, list[Notice]]:
        """A new subscription, and what is to be known beside it."""
        until = time.monotonic() + self._patience_s
        while True:
            try:
                return await self._open_since(), await self._ask(self.name)
            except (PortFailed, NotActive, OutcomeUnknown, Refused) as e:
                if isinstance(e, Refused) and e.problems[0][2] != errno.ERANGE:
                    raise
                if time.monotonic() + RETRY_S >= until:
                    raise
            await asyncio.sleep(RETRY_S)

    async def _open_since(self) -> Subscription:
        if self._from_log:
            try:
                return await self._open(self.name, _options(self.since, self.term))
            except Refused as e:
                if e.problems[0][2] != errno.EOPNOTSUPP:
                    raise
                self._from_log = False
        return await self._open(self.name, _options(None, None))


def _options(since: int | None, term: int | None) -> dict[str, object]:
    given = {"since": since, "term": term}
    return {"position": True, **{name: value for name, value in given.items() if value is not None}}
