"""A clock that the test turns."""

from __future__ import annotations


class HandClock:
    def __init__(self, now: float = 100.0) -> None:
        self.now = now

    def boottime(self) -> float:
        return self.now

    def wall_ns(self) -> int:
        return 0
