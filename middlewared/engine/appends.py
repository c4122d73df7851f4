"""Groups on their way into log.db, in their order, also while the disk has no room for them.

    open       groups go to the writer's thread as they come. Those that wait there become one commit, up to JOINED
               records: a standby that catches up waits for one fsync, not for each
    no room    a group found no space. It may have been sent to the peer, so it is never taken back: the store is opened
               anew, its end is checked, and the same bytes are tried again, after RETRY_S, doubling up to RETRY_MAX_S.
               Every later group waits behind it. `full` says why; the engine takes no command meanwhile

Whoever waits for a command's outcome waits to its deadline and is told that it is unknown; a standby acknowledges
nothing, so the owner leaves it out. When there is room again all of it lands, and the role was never touched.

Only a lack of space is tried again. After any other failure what is on the disk is not known, and asking the same file
again proves nothing: this process must end, and the next one opens the file (store/log.py has the reason).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future

from middlewared.engine.outside import Log
from middlewared.kernel.errors import OutOfSpace
from middlewared.kernel.event import Position, Record

log = logging.getLogger(__name__)

JOINED = 2048
"""More in one commit would save little, and whoever waits for the first of them would notice."""
RETRY_S = 0.25
RETRY_MAX_S = 2.0

Group = tuple[Record, ...]


class Appends:
    """stored: told the end of the log after each commit, in order, and how many groups it took; failed: told what no
    second try can mend.
    """

    def __init__(
        self,
        store: Log,
        writer: Executor,
        stored: Callable[[Position, int], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self.full: str | None = None
        self._store = store
        self._writer = writer
        self._stored = stored
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._groups: deque[Group] = deque()
        self._waiting: deque[Group] = deque()
        self._delay_s = RETRY_S
        self._timer: asyncio.TimerHandle | None = None

    def add(self, group: Group) -> None:
        self._groups.append(group)
        if self.full is None:
            self._waiting.append(group)
            self._submit(self._append, self._waiting, self._appended)

    def apart(self) -> None:
        """What is added from here on is not joined with what waits: other work for the thread comes between."""
        self._waiting = deque()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _submit(
        self,
        work: Callable[[deque[Group]], Position | None],
        groups: deque[Group],
        done: Callable[[Future[Position | None]], None],
    ) -> None:
        future = self._writer.submit(work, groups)
        future.add_done_callback(lambda future: self._loop.call_soon_threadsafe(done, future))

    def _append(self, waiting: deque[Group]) -> Position | None:
        """In the writer's thread: commit what waits. None: the work before this one took the group along."""
        if not waiting:
            return None
        group = waiting.popleft()
        while waiting and len(group) + len(waiting[0]) <= JOINED:
            group += waiting.popleft()
        return self._store.append(group)

    def _landed(self, end: Position) -> None:
        groups = 0
        while self._groups and self._groups[0][-1].seq <= end.seq:
            self._groups.popleft()
            groups += 1
        self._stored(end, groups)

    def _appended(self, future: Future[Position | None]) -> None:
        if future.cancelled():
            return
        error = future.exception()
        if error is None:
            end = future.result()
            if end is not None:
                self._landed(end)
        elif not isinstance(error, OutOfSpace):
            self._failed(error)
        elif self.full is None:
            # Groups behind this one fail in the same way; they keep their places.
            log.error("event=no_room why=%r", str(error))
            self.full = str(error)
            self._try_later()

    def _try_later(self) -> None:
        self._timer = self._loop.call_later(self._delay_s, self._try_again)
        self._delay_s = min(2 * self._delay_s, RETRY_MAX_S)

    def _try_again(self) -> None:
        self._submit(self._land, deque(self._groups), self._tried)

    def _land(self, groups: deque[Group]) -> Position:
        end = self._store.reopen()
        return end if any(end == group[-1].position for group in groups) else self._store.append(groups[0])

    def _tried(self, future: Future[Position | None]) -> None:
        if future.cancelled():
            return
        error = future.exception()
        if isinstance(error, OutOfSpace):
            self._try_later()
        elif error is not None:
            self._failed(error)
        else:
            end = future.result()
            assert end is not None
            self._landed(end)
            self._go_on()

    def _go_on(self) -> None:
        if self._groups:
            self._submit(self._append, deque(self._groups), self._tried)
        else:
            log.warning("event=room_again")
            self.full, self._delay_s = None, RETRY_S
