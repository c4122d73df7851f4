"""Drives the replication machine: performs its actions on the log, the line and the record, and feeds back the outcome.

log.db has one writer thread, so appends and cuts happen in the order in which the machine asked for them; reads have a
thread of their own. No decision is made here.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, ParamSpec, Protocol, TypeVar

from middlewared.engine.appends import RETRY_MAX_S, Appends
from middlewared.engine.outside import Log, Threads, one_thread
from middlewared.kernel.errors import Diverged, LogDamaged, OutOfSpace
from middlewared.kernel.event import Headline, Position, Record
from middlewared.kernel.facts import PairRecord
from middlewared.ports import Clock
from middlewared.protocol import replication_values as values
from middlewared.protocol.replication import Replica
from middlewared.protocol.replication_frames import Frame, History, TermEnd

log = logging.getLogger(__name__)

DAMAGED_PAUSE_S = 5.0

P = ParamSpec("P")
T = TypeVar("T")


class Line(Protocol):
    """The line to the peer, as long as it is up."""

    def send(self, frame: Frame) -> None: ...

    def drop(self, why: str) -> None: ...


class Listener(Protocol):
    """Who must know what the machine said."""

    def storing(self, records: tuple[Record, ...]) -> None: ...

    def stored(self, groups: int) -> None: ...

    def committed(self, commit_seq: int, pair_seq: int) -> None: ...

    def opened(self, term: int, adopted: int) -> None: ...

    def closed(self, why: str) -> None: ...

    async def was_cut(self, at: Position, count: int) -> None: ...

    def halted(self, why: str) -> None: ...

    def fatal(self, why: str) -> None:
        """The log cannot be written or read: this process must end."""
        ...


class Care(Protocol):
    """Who performs what is asked of the committed state."""

    def perform(self, action: values.OfState) -> None: ...


class Replicator:
    """Performs what the machine asks for.

    room: why the disk shall take no more configuration, None while it shall. damage: why a record could not be read for
    the peer, until it could.
    """

    def __init__(
        self,
        replica: Replica,
        store: Log,
        clock: Clock,
        quarantine: Path,
        write_record: Callable[[PairRecord], Awaitable[bool]],
        listener: Listener,
        room: Callable[[], str | None] = lambda: None,
        threads: Threads = one_thread,
    ) -> None:
        self.replica = replica
        self.line: Line | None = None
        self.damage: LogDamaged | None = None
        self.care: Care
        self._store = store
        self._clock = clock
        self._quarantine = quarantine
        self._write_record = write_record
        self._listener = listener
        self._room = room
        self._writer = threads("log.db writer")
        self._reader = threads("log.db reader")
        self._loop = asyncio.get_running_loop()
        self._appends = Appends(store, self._writer, self._stored, self._not_stored)
        self._inbox: deque[values.Message] = deque()
        self._feeding = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    def feed(self, message: values.Message) -> None:
        """Hand a message to the machine and perform what it answers.

        What an action feeds back waits until the actions before it are performed: frames keep their order.
        """
        self._inbox.append(message)
        if self._feeding:
            return
        self._feeding = True
        try:
            while self._inbox:
                for action in self.replica.receive(self._inbox.popleft(), self._clock.boottime()):
                    self._perform(action)
        finally:
            self._feeding = False
        self._arm()

    def link_up(self, line: Line) -> None:
        if self.line is not None:
            self.link_down(self.line)
        self.line = line
        self.feed(values.LinkUp())

    def link_down(self, line: Line) -> None:
        """The line is closed; one that was replaced by a newer one says nothing any more."""
        if self.line is line:
            self.line = None
            self.feed(values.LinkDown())

    async def hash_at(self, seq: int) -> bytes | None:
        """This log's hash at `seq`; None where it ends before."""
        # In the writer's thread: what is on its way to the disk counts, and a successor is judged by this.
        found = await self._loop.run_in_executor(self._writer, self._store.at, seq)
        return found.hash if found else None

    async def headlines(self, after: int, upto: int) -> list[Headline]:
        """Of this log's records after `after`, up to `upto`. Raises LogDamaged, PortFailed."""
        return await self._read(self._store.headlines, after, upto)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        self._appends.close()
        await self._loop.run_in_executor(None, self._writer.shutdown)
        self._reader.shutdown()
        if self._timer is not None:
            self._timer.cancel()

    def _perform(self, action: values.Action) -> None:
        match action:
            case values.Store():
                self._listener.storing(action.records)
                self._appends.add(action.records)
            case values.Send():
                if self.line is not None:
                    self.line.send(action.frame)
            case values.Committed():
                self._listener.committed(action.commit_seq, action.pair_seq)
            case values.Read():
                self.spawn(self._feed_read(action))
            case values.WriteRecord():
                self.spawn(self._feed_written(action))
            case values.Cut():
                self._appends.apart()
                self.spawn(self._feed_cut(action.at))
            case values.Open():
                self._listener.opened(action.term, action.adopted)
            case values.Close():
                self._listener.closed(action.why)
            case (
                values.DigestAt() | values.Differs() | values.Refold() | values.FetchSnapshot() | values.StopApplying()
            ):
                self.care.perform(action)
            case values.DropLink():
                log.warning("event=line_dropped why=%r", action.why)
                if self.line is not None:
                    self.line.drop(action.why)
            case values.Halt():
                self._listener.halted(action.why)

    def _arm(self) -> None:
        """Have the machine told when its deadline has passed. A timer for an earlier time stays: most deadlines move
        on before they are reached, and setting each would cost a write more than the machine does.
        """
        due = self.replica.deadline()
        if due is None or (self._timer is not None and self._timer_due <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        # A little late rather than a little early: an early Tick would find nothing due.
        delay = max(0.0, due - self._clock.boottime()) + 0.001
        self._timer, self._timer_due = self._loop.call_later(delay, self._tick), due

    def _tick(self) -> None:
        self._timer = None
        due = self.replica.deadline()
        if due is not None and due <= self._clock.boottime():
            self.feed(values.Tick())
        else:
            self._arm()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Carry out work that the machine waits for. If it fails, nobody would ever answer: this process must end."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._listener.fatal(str(error) or repr(error))

    # --- the log ---

    def no_room(self) -> str | None:
        """Why nothing new may be written here; None while there is room. Cheap enough for every command."""
        return self._appends.full or self._room()

    def _stored(self, head: Position, groups: int) -> None:
        self.feed(values.Stored(head))
        self._listener.stored(groups)

    def _not_stored(self, error: BaseException) -> None:
        if isinstance(error, Diverged):
            self.feed(values.Broken(str(error)))
        else:
            self._listener.fatal(f"the log cannot be written: {error}")

    async def _read(self, function: Callable[P, T], *args: P.args, **_: P.kwargs) -> T:
        return await self._loop.run_in_executor(self._reader, function, *args)

    async def _feed_read(self, action: values.Read) -> None:
        """For the peer: no record leaves this controller that is not as it was written.

        One that is not costs the line and nothing else. The file is asked again with a pause between: the peer dials
        five times a second.
        """
        if self.damage is not None:
            await asyncio.sleep(DAMAGED_PAUSE_S)
        try:
            at, records = await self._read(self._store.checked, action.seq, action.limit)
        except LogDamaged as e:
            log.error("event=log_damaged file=%s seq=%d why=%r", e.where, e.seq, e.what)
            self.damage = e
            self.feed(values.Unreadable(str(e)))
            return
        if self.damage is not None and at.seq < self.damage.seq <= at.seq + len(records):
            self.damage = None
        self.feed(values.Records(at, tuple(records)))

    async def _feed_written(self, action: values.WriteRecord) -> None:
        ok = await self._write_record(action.record)
        self.feed(values.Written(action.id, ok))

    async def _feed_cut(self, at: Position) -> None:
        try:
            head, history, count = await self._with_room(self._cut, at)
        except Diverged as e:
            self.feed(values.Broken(str(e)))
            return
        await self._listener.was_cut(at, count)
        self.feed(values.CutDone(head, history))

    async def _with_room(self, work: Callable[[Position], T], at: Position) -> T:
        """In the writer's thread; as often as it takes while the disk has no room."""
        again = False
        while True:
            try:
                if again:
                    await self._loop.run_in_executor(self._writer, self._store.reopen)
                return await self._loop.run_in_executor(self._writer, work, at)
            except OutOfSpace as e:
                log.error("event=no_room why=%r", str(e))
                again = True
                await asyncio.sleep(RETRY_MAX_S)

    def _cut(self, at: Position) -> tuple[Position, History, int]:
        ends = self.replica.log
        done = self._store.cut(at, self._quarantine, pair_seq=ends.pair_seq, committed_seq=ends.committed.seq)
        return self._store.head(), history(self._store), done.n if done else 0


def history(store: Log) -> History:
    """Every term of the log, as the replication machine wants it."""
    return tuple(TermEnd(*end) for end in store.term_history())
