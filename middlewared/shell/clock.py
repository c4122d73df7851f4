"""ports.Clock on this machine."""

from __future__ import annotations

import time


class SystemClock:
    """CLOCK_BOOTTIME for decisions, because it goes on during suspend; wall time for display."""

    def boottime(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wall_ns(self) -> int:
        return time.time_ns()
