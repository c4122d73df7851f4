"""Commands between the call and its outcome, in order: first those that wait to be decided, then those that are.

A command may have several callers: copies of one request join the first. Any of them may go away; when all have before
it was decided, it never is.
"""

from __future__ import annotations

import asyncio
from bisect import insort
from collections import deque
from collections.abc import Iterator, Mapping

from middlewared.engine.context import Committed
from middlewared.engine.requests import Requests, must_be_same
from middlewared.kernel.event import START, Position
from middlewared.kernel.outcomes import Key, Outcome, name_of
from middlewared.plugin import Command


class Waiter:
    """One command.

    at: its last record, once it is decided; term: in which it was written; events: how many it made. refusal: why it
    made none. It was decided against records that may not be committed yet, so it is no answer before they are.
    """

    __slots__ = ("_callers", "actor", "at", "command", "events", "method", "refusal", "request_id", "term")

    def __init__(self, command: Command, actor: str, request_id: str, method: str) -> None:
        self.command = command
        self.actor = actor
        self.request_id = request_id
        self.method = method
        self.at = START
        self.term = 0
        self.events = 0
        self.refusal: Exception | None = None
        self._callers: list[asyncio.Future[Committed]] = []

    @property
    def key(self) -> Key:
        return self.request_id, name_of(self.actor)

    @property
    def wanted(self) -> bool:
        return any(not caller.done() for caller in self._callers)

    def join(self) -> asyncio.Future[Committed]:
        """One more caller waits for the outcome; who cancels this is gone."""
        caller = asyncio.get_running_loop().create_future()
        self._callers.append(caller)
        return caller

    def answer(self, outcome: Committed | Exception) -> None:
        for caller in self._callers:
            if caller.done():
                continue
            if isinstance(outcome, Exception):
                caller.set_exception(outcome)
            else:
                caller.set_result(outcome)


class UnderWay:
    """All of them; each is found by its key until it is finished."""

    def __init__(self) -> None:
        self._queue: deque[Waiter] = deque()
        self._decided: deque[Waiter] = deque()
        self._by_key: dict[Key, Waiter] = {}

    @property
    def queued(self) -> int:
        return len(self._queue)

    def copy_of(
        self, waiter: Waiter, requests: Requests, noun_of: Mapping[str, str], committed_seq: int
    ) -> Waiter | Outcome | None:
        """What an earlier copy of a command came to, or the one whose outcome is to be waited for; None: there is none.

        That may be `waiter` itself, when the records of the first copy wait in the log. Raises CallFailed when the id
        was used for something else.
        """
        asked = waiter.command.noun, waiter.method
        first = self._by_key.get(waiter.key)
        if first is not None:
            must_be_same(waiter.request_id, (first.command.noun, first.method), asked)
            return first
        seen = requests.find(waiter.key)
        if seen is None:
            return None
        outcome = seen.outcome
        must_be_same(waiter.request_id, (noun_of.get(outcome.kind, "something else"), outcome.method), asked)
        if seen.at is None and outcome.last <= committed_seq:
            return outcome
        # What is beyond the commit index and no longer waits stands in projections that were made from the log alone.
        waiter.events = outcome.events
        self.decided(waiter, seen.at or Position(outcome.last, outcome.term, b""), outcome.term)
        return waiter

    def enqueue(self, waiter: Waiter) -> None:
        self._queue.append(waiter)
        self._by_key[waiter.key] = waiter

    def next(self) -> Waiter | None:
        """Take the first that waits to be decided and that anybody still waits for."""
        while self._queue:
            waiter = self._queue.popleft()
            if waiter.wanted:
                return waiter
            self._forget(waiter)
        return None

    def decided(self, waiter: Waiter, at: Position, term: int) -> None:
        """Its last record is `at`; a command without records waits for what it was decided against."""
        waiter.at, waiter.term = at, term
        self._by_key[waiter.key] = waiter
        if not self._decided or self._decided[-1].at.seq <= at.seq:
            self._decided.append(waiter)
        else:
            insort(self._decided, waiter, key=lambda other: other.at.seq)

    def finish(self, waiter: Waiter, outcome: Committed | Exception) -> None:
        self._forget(waiter)
        waiter.answer(outcome)

    def reached(self, seq: int) -> Iterator[Waiter]:
        """Take those whose last record is `seq` or before, in order."""
        while self._decided and self._decided[0].at.seq <= seq:
            yield self._decided.popleft()

    def cut_after(self, seq: int) -> Iterator[Waiter]:
        """Take those whose last record comes after `seq`, the last first."""
        while self._decided and self._decided[-1].at.seq > seq:
            yield self._decided.pop()

    def refuse_queued(self, error: Exception) -> None:
        while self._queue:
            self.finish(self._queue.popleft(), error)

    def _forget(self, waiter: Waiter) -> None:
        if self._by_key.get(waiter.key) is waiter:
            del self._by_key[waiter.key]
