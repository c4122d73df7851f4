"""How long the oldest event that the standby has not applied has been waiting, by the owner's own clock.

One mark for every group of events: the seq up to which it goes, and when it was made. Where the standby is away for
long, neighbouring marks are melted into one with the later seq and the earlier time, so the answer errs upwards only.
"""

from __future__ import annotations

from collections import deque

MARKS = 1024


class Lag:
    """Marks of what waits, oldest first."""

    def __init__(self) -> None:
        self._marks: deque[tuple[int, float]] = deque()

    def made(self, seq: int, now: float) -> None:
        """The log ends at `seq` since `now`."""
        self._marks.append((seq, now))
        if len(self._marks) > MARKS:
            marks = list(self._marks)
            self._marks = deque((late[0], early[1]) for early, late in zip(marks[::2], marks[1::2], strict=False))
            if len(marks) % 2:
                self._marks.append(marks[-1])

    def reached(self, seq: int) -> None:
        """The standby has applied everything up to `seq`."""
        while self._marks and self._marks[0][0] <= seq:
            self._marks.popleft()

    def since(self) -> float | None:
        """When the oldest that waits was made; None when nothing does."""
        return self._marks[0][1] if self._marks else None
