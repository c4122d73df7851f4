"""One turn at a time: the clock is read, a stall is noticed, the work is done, the timer is set anew.

Everything that happens in carpd happens in a turn, and a turn begins with the question whether this process stood
still. A process that was frozen wakes with its queues full of things that were true once; the turn that notices this
does no work but `on_stall`, which throws them away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from middlewared.ports import Clock


class Turns:
    """stall_s: how long between two turns means that this process stood still; some deadline must always be nearer.

    on_stall(gap_s, now) replaces the work of the turn that noticed it. after(now) ends every turn and returns the next
    deadline; on_deadline(now) is the work then.
    """

    def __init__(
        self,
        clock: Clock,
        stall_s: float,
        *,
        on_stall: Callable[[float, float], None],
        on_deadline: Callable[[float], None],
        after: Callable[[float], float],
    ) -> None:
        self._clock = clock
        self._stall_s = stall_s
        self._on_stall = on_stall
        self._on_deadline = on_deadline
        self._after = after
        self._last = clock.boottime()
        self._timer: asyncio.TimerHandle | None = None
        self._inside = False

    def take(self, work: Callable[[float], None]) -> None:
        """Do `work(now)` as a turn. A turn within a turn (a connection lost by sending) is part of it."""
        if self._inside:
            work(self._last)
            return
        now = self._clock.boottime()
        gap_s, self._last = now - self._last, now
        self._inside = True
        try:
            if gap_s > self._stall_s:
                self._on_stall(gap_s, now)
            else:
                work(now)
            self._arm(self._after(now))
        finally:
            self._inside = False

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        wait_s = max(0.0, deadline - self._clock.boottime())
        self._timer = asyncio.get_running_loop().call_later(wait_s, self.take, self._on_deadline)
