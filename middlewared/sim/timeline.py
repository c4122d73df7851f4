"""Virtual time: a heap of things to do, and a clock that jumps from one to the next.

True time is known to the world alone. Each controller has a Clock of its own, which began at another number, runs a
little too fast or too slow, and whose wall clock may jump.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

EPOCH_NS = 1_790_000_000_000_000_000


class Timeline:
    """now: true seconds since the world began. What is due at the same instant is done in the order of its asking."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._asked = 0

    def at(self, when: float, work: Callable[..., None], *args: Any) -> None:
        self._asked += 1
        heapq.heappush(self._heap, (max(when, self.now), self._asked, work, args))

    def after(self, delay_s: float, work: Callable[..., None], *args: Any) -> None:
        self.at(self.now + delay_s, work, *args)

    def run_until(self, end: float, over: Callable[[], bool] = lambda: False) -> None:
        """Do everything that is due before `end`, or until `over` says so."""
        heap = self._heap
        while heap and heap[0][0] <= end and not over():
            self.now, _, work, args = heapq.heappop(heap)
            work(*args)
        if not over():
            self.now = end


class Clock:
    """ports.Clock of one controller. rate: its seconds in a true second. start_s: what it shows at boot."""

    def __init__(self, timeline: Timeline, rate: float, start_s: float) -> None:
        self._timeline = timeline
        self._rate = rate
        self._booted_at = timeline.now
        self._start_s = start_s
        self.wall_skew_ns = 0

    def boottime(self) -> float:
        return self._start_s + (self._timeline.now - self._booted_at) * self._rate

    def wall_ns(self) -> int:
        return EPOCH_NS + int(self._timeline.now * 1e9) + self.wall_skew_ns

    def true_time(self, boottime: float) -> float:
        """When this clock shows `boottime`."""
        return self._booted_at + (boottime - self._start_s) / self._rate
