"""The audit of this controller: notes beside the log, and the log's events with what they changed.

A note costs its caller an entry in a dictionary. Notes of one second that differ in nothing but their time and request
become one with a count, so that a client which is refused a thousand times cannot push out the others. A thread of its
own writes them; what finds no room in the queue, or cannot be written, is counted and noted as `lost`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from middlewared.engine.history import History
from middlewared.engine.outside import Threads, one_thread
from middlewared.engine.registry import Registry
from middlewared.kernel.audit import Event, Filter, Kept, Note, NoteKind
from middlewared.kernel.errors import CallFailed, MiddlewareError
from middlewared.kernel.event import Record
from middlewared.kernel.hidden import hidden
from middlewared.ports import Clock

log = logging.getLogger(__name__)

PAUSE_S = 1.0
QUEUE = 4096
STATES_S = 5.0
"""How long one query may look for past states; the events beyond it are shown without."""
NAME = 100
SENTENCE = 250
"""Characters that are kept. A page of a thousand notes fits an answer of the other controller."""


class Store(Protocol):
    """store.audit.AuditStore."""

    def write(self, notes: Sequence[Note]) -> None: ...

    def find(self, wanted: Filter, before: int | None, limit: int) -> list[Kept]: ...

    def close(self) -> None: ...


class Log(Protocol):
    """store.log.LogStore, as far as it is looked through here."""

    def sought(self, wanted: Filter, before: int, limit: int) -> list[Record]: ...


class AuditTrail:
    """To be used from the event loop only."""

    def __init__(
        self,
        store: Store,
        events: Log,
        history: Callable[[], History],
        registry: Registry,
        clock: Clock,
        threads: Threads = one_thread,
    ) -> None:
        self._store = store
        self._events = events
        self._history = history
        self._registry = registry
        self._clock = clock
        self._thread = threads("audit.db")
        self._walks = threads("log.db audit")
        self._waiting: dict[tuple[object, ...], Note] = {}
        self._lost = 0
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Future[None] | None = None

    def note(
        self,
        kind: NoteKind,
        *,
        who: str = "",
        origin: str = "",
        method: str = "",
        request_id: str = "",
        errno: int = 0,
        reason: str = "",
    ) -> None:
        """Keep it, in a moment."""
        key = (kind, who, origin, method, errno)
        known = self._waiting.get(key)
        if known is not None:
            self._waiting[key] = msgspec.structs.replace(known, times=known.times + 1)
        elif len(self._waiting) >= QUEUE:
            self._lost += 1
        else:
            self._waiting[key] = Note(
                at_ns=self._clock.wall_ns(),
                kind=kind,
                who=who[:NAME],
                origin=origin[:NAME],
                method=method[:NAME],
                request_id=request_id[:NAME],
                errno=errno,
                reason=reason[:SENTENCE],
            )
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PAUSE_S, self._write)

    async def rows(self, wanted: Filter, before: int | None, limit: int) -> list[Kept]:
        """The newest notes of this controller that are looked for, below id `before`. Raises what the store raises."""
        await self.flush()
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._store.find, wanted, before, limit)

    async def events(self, wanted: Filter, before: int | None, limit: int) -> list[Event]:
        """The newest applied events of the log that are looked for, below seq `before`, with what they changed."""
        applied = self._history().seq
        below = applied + 1 if before is None else min(before, applied + 1)
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._walks, self._events.sought, wanted, below, limit)
        until = loop.time() + STATES_S
        # Forwards: each search for a state goes on from where the one before ended.
        shown = [await self._shown(record, until - loop.time()) for record in reversed(found)]
        return shown[::-1]

    async def flush(self) -> None:
        """Everything that was noted is in the file, or counted as lost."""
        if self._writing is not None:
            await self._writing
        if self._timer is not None:
            self._timer.cancel()
            self._write()
        if self._writing is not None:
            await self._writing

    async def close(self) -> None:
        """Write what waits, and let go of the file."""
        await self.flush()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._store.close)
        self._thread.shutdown()
        self._walks.shutdown(cancel_futures=True)

    def _write(self) -> None:
        self._timer = None
        if self._writing is not None:
            self._timer = asyncio.get_running_loop().call_later(PAUSE_S, self._write)
            return
        notes = list(self._waiting.values())
        self._waiting = {}
        lost, self._lost = self._lost, 0
        if lost:
            reason = "They found no room in the queue, or could not be written"
            notes.append(Note(at_ns=self._clock.wall_ns(), kind="lost", times=lost, reason=reason))
        if notes:
            self._writing = asyncio.ensure_future(self._carry_out(notes))

    async def _carry_out(self, notes: list[Note]) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._store.write, notes)
        except MiddlewareError as e:
            self._lost += sum(note.times for note in notes)
            log.error("event=audit_lost count=%d why=%r", self._lost, str(e))
        finally:
            self._writing = None

    async def _shown(self, record: Record, left_s: float) -> Event:
        who, _, origin = record.actor.partition("@")
        before: dict[str, object] | None = None
        after: dict[str, object] | None = None
        why = ""
        if record.kind in self._registry.noun_of:
            try:
                before, after = await self._changed(record, left_s)
            except (CallFailed, TimeoutError) as e:
                why = e.reason if isinstance(e, CallFailed) else "The states before it were not found in time"
        return Event(
            seq=record.seq,
            at_ns=record.wall_ns,
            node="A" if record.origin == "A" else "B",
            who=who,
            origin=origin,
            method=record.method,
            request_id=record.request_id,
            event=record.kind,
            before=before,
            after=after,
            why=why,
        )

    async def _changed(self, record: Record, left_s: float) -> tuple[dict[str, object], dict[str, object]]:
        """The fields of the noun's state that differ, before and after the event."""
        if left_s <= 0:
            raise TimeoutError
        noun = self._registry.nouns[self._registry.noun_of[record.kind]]
        old = await self._history().state_at(noun, record.seq - 1, left_s)
        new = await self._history().state_at(noun, record.seq, left_s)
        before, after = _fields(old), _fields(new)
        names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
        return (
            {name: hidden(name, before[name]) for name in names if name in before},
            {name: hidden(name, after[name]) for name in names if name in after},
        )


def _fields(state: Any) -> dict[str, Any]:
    plain = msgspec.to_builtins(state, str_keys=True)
    return plain if isinstance(plain, dict) else {"": plain}
