"""How long this process stood still lately: nothing that it answers is quicker than its event loop.

Heartbeats and leases are fenced's and carpd's, which do not wait for this process; so standing still moves no role. It
ends with a restart by the watchdog where it lasts too long (systemd.service(5), WatchdogSec), and is told before.
"""

from __future__ import annotations

import asyncio
from collections import deque

from middlewared.ports import Clock

INTERVAL_S = 0.1
KEPT_S = 60.0


class LoopLag:
    """worst_s: the longest that it stood still in the last minute."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._late: deque[tuple[float, float]] = deque()
        """When, and by how much: only what nothing later exceeds, so the first is the longest."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            due = self._clock.boottime() + INTERVAL_S
            await asyncio.sleep(INTERVAL_S)
            self.woke(due)

    def woke(self, due: float) -> None:
        """What should have gone on at `due` goes on now; both by CLOCK_BOOTTIME."""
        now = self._clock.boottime()
        late = now - due
        while self._late and self._late[-1][1] <= late:
            self._late.pop()
        self._late.append((now, late))
        while self._late[0][0] < now - KEPT_S:
            self._late.popleft()

    @property
    def worst_s(self) -> float:
        return self._late[0][1] if self._late else 0.0
