"""The committed state: a fold of the log up to the commit index, and its projection in state.db.

What is in memory is what queries see. state.db follows a moment later, the newest state of each noun at a time: it can
always be made again from the log, so nothing waits for it.

The digest of the projected rows is known at exact points: whenever the fold passes a multiple of CHECKPOINT_EVENTS, so
that both controllers know it at the same seqs, and wherever it was asked for. A point keeps the states of the nouns
that changed since the point before; projecting them is the work of the thread that writes state.db.

A record of a kind that this build does not know stops the fold there: it is stored, not applied, and `blocked` says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from middlewared import log_format
from middlewared.engine.durable import said_on_both
from middlewared.engine.history import History
from middlewared.engine.outside import Log, Projections, Threads, one_thread
from middlewared.engine.registry import Registry
from middlewared.engine.requests import Requests
from middlewared.kernel.digest import CHECKPOINT_EVENTS
from middlewared.kernel.errors import MiddlewareError, NoRole
from middlewared.kernel.event import FIRST_FORMAT, START, Event, Position, Record, UnknownKind
from middlewared.kernel.outcomes import Outcomes
from middlewared.kernel.secret import Sealed
from middlewared.plugin import Noun
from middlewared.store import outcomes
from middlewared.store.rows import Difference
from middlewared.store.state import UNKNOWN

log = logging.getLogger(__name__)

State = msgspec.Struct

WRITE_AFTER_S = 0.2
"""How long state.db may be behind: written at once, it would take the processor from the very next commit."""

FRESH_S = 0.2
"""How long whoever asks for the digest of this moment waits behind a slow disk before it gets the last one."""


class Change(msgspec.Struct, frozen=True):
    """A record that became visible. noun: whose state it changed; None for events of the engine itself."""

    record: Record
    event: Event
    noun: str | None


class _Point:
    """The fold at `position`. told: whether on_digest hears of it."""

    __slots__ = ("changed", "position", "shown", "told")

    def __init__(self, position: Position, changed: dict[Noun[Any], Any]) -> None:
        self.position = position
        self.changed = changed
        self.told = False
        self.shown: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()


def _nobody(seq: int, digest: str) -> None:
    """Nobody wants to know the digest."""


def format_of(states: Mapping[str, Any]) -> int:
    """The format in which a log goes on whose fold these states are."""
    state: log_format.LogFormat = states[log_format.NOUN.name]
    return state.log_format


class CommittedState:
    """Folds committed records into the nouns' states and keeps state.db behind them.

    shown: (seq, digest) of the newest rows. differs: the last difference that was found in it, and at which seq.
    on_digest: hears of the digest at each point that both controllers know, and where `mark` asked for it. requests:
    which are known. history: past states. taking: held by whoever takes another state.db over; takes: how often that
    was done. paused: nothing may be applied at this moment.

    log: of the same controller, for what state.db does not say. Made inside the running loop.
    """

    def __init__(self, registry: Registry, store: Projections, log: Log, threads: Threads = one_thread) -> None:
        self._registry = registry
        self._store = store
        self._log = log
        self._thread = threads("state.db")
        self._unapplied: deque[Record] = deque()
        self._dirty: set[str] = set()
        self._points: deque[_Point] = deque()
        self._marks: set[int] = set()
        self._writing: asyncio.Task[None] | None = None
        self._awaited = asyncio.Event()
        self._closed = False
        self.on_digest: Callable[[int, str], None] = _nobody
        self.blocked: str | None = None
        self.paused = False
        self.taking = asyncio.Lock()
        self.takes = 0
        self.differs: tuple[int, str] | None = None
        self.applied, self._pair_seq = store.applied()
        self._said_pair_seq = said_on_both(self._log, self.applied.seq) if self._pair_seq == UNKNOWN else 0
        self._written = self.applied
        self.shown = (self.applied.seq, store.digest)
        self.shape = store.shape
        self.states: dict[str, Any] = store.load(list(registry.nouns.values()))
        self.requests = Requests()
        self.history = History(registry, log, threads)
        self.history.begin(self.applied.seq, self.states)
        self._indexed_seq = 0
        self._indexing = asyncio.get_running_loop().create_task(self._index(self.applied.seq))

    @property
    def pair_seq(self) -> int:
        """The last seq known durable on both controllers."""
        return max(self._pair_seq, self._said_pair_seq)

    @property
    def committed(self) -> Position:
        """Up to where the log is known to be committed; projections made from the log alone may show more."""
        return START if self._pair_seq == UNKNOWN else self.applied

    @property
    def log_format(self) -> int:
        """The format in which the log goes on, as far as it is committed."""
        return format_of(self.states)

    def written_format(self) -> int:
        """The same for the whole log, committed or not: whoever is to hold it must be able to read this format."""
        raised = (record for record in self._unapplied if record.kind == log_format.Raised.kind)
        formats = (msgspec.json.decode(record.payload, type=log_format.Raised).log_format for record in raised)
        return max(self.log_format, *formats, FIRST_FORMAT)

    def held_secrets(self) -> dict[str, Mapping[str, Sealed | str]]:
        """Every noun that declares secrets, and what it holds."""
        return {
            noun.name: noun.secrets.held(self.states[noun.name])
            for noun in self._registry.nouns.values()
            if noun.secrets is not None
        }

    def follow(self, records: Sequence[Record]) -> None:
        """These records stand in the log after the ones before; they are not committed yet."""
        self._unapplied.extend(records)
        self.requests.follow(records)

    def cut_after(self, seq: int) -> None:
        """Forget records that were cut from the log before they were applied."""
        while self._unapplied and self._unapplied[-1].seq > seq:
            self._unapplied.pop()
        self.requests.cut_after(seq)

    async def indexed(self) -> None:
        """Return when `requests` knows every committed request."""
        if self.requests.index is None:
            await asyncio.shield(self._indexing)

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
        changes = self._fold_upto(commit_seq)
        if self._pair_seq != UNKNOWN or commit_seq >= self.applied.seq:
            self._pair_seq = max(self._pair_seq, min(pair_seq, self.applied.seq))
        if changes:
            self._wake_writer()
        return changes

    def _fold_upto(self, commit_seq: int) -> list[Change]:
        changes: list[Change] = []
        unapplied, states, note = self._unapplied, self.states, self.history.note
        try:
            while unapplied and unapplied[0].seq <= commit_seq and self.blocked is None:
                record = unapplied[0]
                change = self.fold(states, record)
                unapplied.popleft()
                changes.append(change)
                if change.noun is not None:
                    note(record.seq, change.noun, states[change.noun])
                    self._dirty.add(change.noun)
                if record.seq % CHECKPOINT_EVENTS == 0 or record.seq in self._marks:
                    self.applied = record.position
                    self._point().told = True
        except (UnknownKind, msgspec.ValidationError) as e:
            self.blocked = str(e) if isinstance(e, UnknownKind) else f"seq {record.seq}: {e}"
            log.error("event=apply_blocked why=%r", self.blocked)
        finally:
            if changes:
                self.applied = changes[-1].record.position
                self.requests.committed([change.record for change in changes])
            self.history.seq = self.applied.seq
        return changes

    def mark(self, seq: int) -> None:
        """Have on_digest told the digest at exactly `seq`; nothing is told when the fold is beyond it already."""
        self._marks = {mark for mark in self._marks if mark > self.applied.seq}
        if self.paused:
            return
        if seq == self.applied.seq:
            self._point().told = True
            self._wake_writer()
        elif seq > self.applied.seq:
            self._marks.add(seq)

    async def flush(self) -> None:
        """Return when state.db holds what memory holds."""
        while self._writing is not None:
            self._awaited.set()
            await asyncio.shield(self._writing)

    async def digest(self) -> tuple[int, str]:
        """(applied seq, digest of every projected row), of this moment where the disk lets the rows be projected now.

        Raises NoRole while the daemon ends.
        """
        if self._closed:
            raise NoRole("This controller is beginning anew")
        if self.paused or self.shown[0] == self.applied.seq:
            return self.shown
        point = self._point()
        self._wake_writer()
        self._awaited.set()
        try:
            async with asyncio.timeout(FRESH_S):
                return await asyncio.shield(point.shown)
        except TimeoutError:
            return self.shown

    async def replace(self, make: Callable[[], Projections]) -> None:
        """Let go of state.db, have it made again, and take it over. What was to be applied is forgotten."""
        async with self.taking:
            await asyncio.wait([self._indexing])
            await self.flush()
            self._store.close()
            store = await asyncio.get_running_loop().run_in_executor(self._thread, make)
            self._unapplied.clear()
            self._take(store)
            self.blocked = None

    async def install(
        self, make: Callable[[], Projections], between: Callable[[int, int], Sequence[Record]]
    ) -> Difference | None:
        """Take over another state.db of the same log, which `make` puts in place of this one.

        Nothing is applied meanwhile, and nothing that waits is forgotten; the caller holds `taking`. between: the
        records after one seq and up to another. Returns the first row in which the old state differed, at the last
        record that it had applied.
        """
        self.paused = True
        loop = asyncio.get_running_loop()
        try:
            await asyncio.wait([self._indexing])
            await self.flush()
            before, until = self._store.rows, self.applied.seq
            self._store.close()
            store = await loop.run_in_executor(self._thread, make)
            at = store.applied().position.seq
            waiting = [record for record in self._unapplied if record.seq > at]
            self._unapplied = deque([*await loop.run_in_executor(self._thread, between, at, until), *waiting])
            self._take(store)
            self._fold_upto(until)
            self._start_writer()
            await self.flush()
            if self.applied.seq != until:
                return None
            return await loop.run_in_executor(self._thread, before.first_difference, self._store.rows)
        finally:
            self.paused = False

    def _take(self, store: Projections) -> None:
        self._store = store
        self.applied, self._pair_seq = store.applied()
        self._said_pair_seq = said_on_both(self._log, self.applied.seq) if self._pair_seq == UNKNOWN else 0
        self._written = self.applied
        self.shown = (self.applied.seq, store.digest)
        self._dirty.clear()
        self.states = store.load(list(self._registry.nouns.values()))
        self.history.begin(self.applied.seq, self.states)
        self.requests.forget()
        self.requests.follow(self._unapplied)
        self._indexing = asyncio.get_running_loop().create_task(self._index(self.applied.seq))
        self.takes += 1

    async def close(self) -> None:
        self._closed = True
        await asyncio.wait([self._indexing])
        await self.flush()
        self._thread.shutdown()
        self.history.close()
        self._store.close()

    def _point(self) -> _Point:
        """A point at the present place of the fold."""
        if not self._points or self._points[-1].position != self.applied:
            names, self._dirty = self._dirty, set()
            changed = {self._registry.nouns[name]: self.states[name] for name in sorted(names)}
            self._points.append(_Point(self.applied, changed))
        return self._points[-1]

    def _wake_writer(self) -> None:
        if not self.paused:
            self._start_writer()

    def _start_writer(self) -> None:
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write())

    async def _index(self, applied_seq: int) -> None:
        loop = asyncio.get_running_loop()
        found, self._indexed_seq = await loop.run_in_executor(self._thread, self._read_index, applied_seq)
        self.requests.begin(found)

    def _read_index(self, applied_seq: int) -> tuple[Outcomes, int]:
        """The outcomes up to record `applied_seq`, and up to which record state.db has their rows."""
        try:
            found = self._store.outcomes()
        except MiddlewareError as e:
            log.error("event=outcomes_unreadable why=%r", str(e))
        else:
            if found.seq == applied_seq:
                return found, applied_seq
        return outcomes.folded(self._log, applied_seq), 0

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._points or self._written != self.applied:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(WRITE_AFTER_S):
                        await self._awaited.wait()
                self._awaited.clear()
                self._point()
                points, self._points = list(self._points), deque()
                commands = self.requests.index.delta(self._indexed_seq) if self.requests.index is not None else None
                self._tell(points, await loop.run_in_executor(self._thread, self._project, points))
                last = points[-1].position
                try:
                    await loop.run_in_executor(self._thread, self._store.write, last, self._pair_seq, commands)
                except MiddlewareError as e:
                    # The rows stay noted as unwritten: the next change writes them too.
                    log.error("event=state_db_behind why=%r", str(e))
                    if not self._points:
                        break
                else:
                    self._written = last
                    if commands is not None:
                        self._indexed_seq = commands.time.seq
        finally:
            self._writing = None
            self._awaited.clear()

    def _project(self, points: list[_Point]) -> list[str]:
        return [self._store.project(point.changed) for point in points]

    def _tell(self, points: list[_Point], digests: list[str]) -> None:
        for point, digest in zip(points, digests, strict=True):
            self.shown = (point.position.seq, digest)
            point.shown.set_result(self.shown)
            if point.told:
                self.on_digest(point.position.seq, digest)
