"""Groups on their way into log.db, in their order, also while the disk has no room for them.

    open       groups go to the writer's thread as they come
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

RETRY_S = 0.25
RETRY_MAX_S = 2.0

Group = tuple[Record, ...]


class Appends:
    """stored: told the end of the log after each group, in order. failed: told what no second try can mend."""

    def __init__(
        self, store: Log, writer: Executor, stored: Callable[[Position], None], failed: Callable[[BaseException], None]
    ) -> None:
        self.full: str | None = None
        self._store = store
        self._writer = writer
        self._stored = stored
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._groups: deque[Group] = deque()
        self._delay_s = RETRY_S
        self._timer: asyncio.TimerHandle | None = None

    def add(self, group: Group) -> None:
        self._groups.append(group)
        if self.full is None:
            self._submit(self._store.append, group, self._appended)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _submit(
        self, work: Callable[[Group], Position], group: Group, done: Callable[[Future[Position]], None]
    ) -> None:
        future = self._writer.submit(work, group)
        future.add_done_callback(lambda future: self._loop.call_soon_threadsafe(done, future))

    def _appended(self, future: Future[Position]) -> None:
        if future.cancelled():
            return
        error = future.exception()
        if error is None:
            self._groups.popleft()
            self._stored(future.result())
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
        self._submit(self._land, self._groups[0], self._tried)

    def _land(self, group: Group) -> Position:
        end = self._store.reopen()
        return end if end == group[-1].position else self._store.append(group)

    def _tried(self, future: Future[Position]) -> None:
        if future.cancelled():
            return
        error = future.exception()
        if isinstance(error, OutOfSpace):
            self._try_later()
        elif error is not None:
            self._failed(error)
        else:
            self._groups.popleft()
            self._stored(future.result())
            self._go_on()

    def _go_on(self) -> None:
        if self._groups:
            self._submit(self._store.append, self._groups[0], self._tried)
        else:
            log.warning("event=room_again")
            self.full, self._delay_s = None, RETRY_S
