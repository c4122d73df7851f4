"""The committed state: a fold of the log up to the commit index, and its projection in state.db.

What is in memory is what queries see. state.db follows a moment later, the newest state of each noun at a time: it can
always be made again from the log, so nothing waits for it.

A record of a kind that this build does not know stops the fold there: it is stored, not applied, and `blocked` says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from middlewared.engine.outside import Projections, Threads, one_thread
from middlewared.engine.registry import Registry
from middlewared.kernel.errors import MiddlewareError, NoRole
from middlewared.kernel.event import Event, Record, UnknownKind

log = logging.getLogger(__name__)

State = msgspec.Struct

WRITE_AFTER_S = 0.05
"""How long state.db may be behind: written at once, it would take the processor from the very next commit."""


class Change(msgspec.Struct, frozen=True):
    """A record that became visible. noun: whose state it changed; None for events of the engine itself."""

    record: Record
    event: Event
    noun: str | None


class CommittedState:
    """Folds committed records into the nouns' states and keeps state.db behind them."""

    def __init__(self, registry: Registry, store: Projections, threads: Threads = one_thread) -> None:
        self._registry = registry
        self._store = store
        self._thread = threads("state.db")
        self._unapplied: deque[Record] = deque()
        self._dirty: set[str] = set()
        self._writing: asyncio.Task[None] | None = None
        self._awaited = asyncio.Event()
        self._closed = False
        self.blocked: str | None = None
        self.applied, self.pair_seq = store.applied()
        self.states: dict[str, Any] = store.load(list(registry.nouns.values()))

    def follow(self, records: Iterable[Record]) -> None:
        """These records stand in the log after the ones before; they are not committed yet."""
        self._unapplied.extend(records)

    def cut_after(self, seq: int) -> None:
        """Forget records that were cut from the log before they were applied."""
        while self._unapplied and self._unapplied[-1].seq > seq:
            self._unapplied.pop()

    def ahead(self) -> dict[str, Any]:
        """The state as it will be when everything in the log is committed. Raises as `fold` does."""
        states = dict(self.states)
        for record in self._unapplied:
            self.fold(states, record)
        return states

    def fold(self, states: dict[str, Any], record: Record) -> Change:
        """Apply one record to `states`. Raises UnknownKind; msgspec.ValidationError for a payload of another shape."""
        event = self._registry.catalogue.open(record)
        name = self._registry.noun_of.get(record.kind)
        if name is not None:
            states[name] = self._registry.nouns[name].evolve(states[name], event)
        return Change(record, event, name)

    def commit(self, commit_seq: int, pair_seq: int) -> list[Change]:
        """Apply everything up to commit_seq. Returns what became visible, in order."""
        changes: list[Change] = []
        while self._unapplied and self._unapplied[0].seq <= commit_seq and self.blocked is None:
            record = self._unapplied[0]
            try:
                changes.append(self.fold(self.states, record))
            except (UnknownKind, msgspec.ValidationError) as e:
                self.blocked = str(e) if isinstance(e, UnknownKind) else f"seq {record.seq}: {e}"
                log.error("event=apply_blocked why=%r", self.blocked)
                break
            self._unapplied.popleft()
            self.applied = record.position
        self.pair_seq = max(self.pair_seq, min(pair_seq, self.applied.seq))
        self._dirty |= {change.noun for change in changes if change.noun is not None}
        if changes and self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write())
        return changes

    async def flush(self) -> None:
        """Return when state.db holds what memory holds."""
        while self._writing is not None:
            self._awaited.set()
            await asyncio.shield(self._writing)

    async def digest(self) -> tuple[int, str]:
        """(applied seq, digest of every projected row) of state.db. Raises NoRole while the daemon ends."""
        if self._closed:
            raise NoRole("This controller is beginning anew")
        await self.flush()
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._digest)

    def _digest(self) -> tuple[int, str]:
        nouns = list(self._registry.nouns.values())
        return self._store.applied().position.seq, self._store.digest(nouns)

    async def replace(self, make: Callable[[], Projections]) -> None:
        """Let go of state.db, have it made again, and take it over. What was to be applied is forgotten."""
        await self.flush()
        self._store.close()
        self._store = store = await asyncio.get_running_loop().run_in_executor(self._thread, make)
        self.applied, self.pair_seq = store.applied()
        self._unapplied.clear()
        self._dirty.clear()
        self.states = store.load(list(self._registry.nouns.values()))
        self.blocked = None

    async def close(self) -> None:
        self._closed = True
        await self.flush()
        self._thread.shutdown()
        self._store.close()

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        written = None
        names: set[str] = set()
        try:
            while written != self.applied:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(WRITE_AFTER_S):
                        await self._awaited.wait()
                names, self._dirty = self._dirty, set()
                written = self.applied
                changed = {self._registry.nouns[name]: self.states[name] for name in sorted(names)}
                await loop.run_in_executor(self._thread, self._store.apply, changed, written, self.pair_seq)
        except MiddlewareError as e:
            # The next change writes these nouns too: the file must never name a record whose rows it lacks.
            self._dirty |= names
            log.error("event=state_db_behind why=%r", str(e))
        finally:
            self._writing = None
            self._awaited.clear()
