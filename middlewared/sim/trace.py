"""What happened, as lines, and one digest over all of them: two runs of a seed are equal to the byte or are not."""

from __future__ import annotations

import hashlib

from middlewared.sim.timeline import Timeline


class Trace:
    """lines: None unless they are kept."""

    def __init__(self, timeline: Timeline, *, keep: bool) -> None:
        self._timeline = timeline
        self._digest = hashlib.sha256()
        self.lines: list[str] | None = [] if keep else None

    def add(self, who: str, what: str, **fields: object) -> None:
        """One line: the true time in seconds, who, what, and its fields."""
        words = [f"{self._timeline.now:.6f} {who} {what}", *(f"{name}={value}" for name, value in fields.items())]
        line = " ".join(words)
        self._digest.update(line.encode() + b"\n")
        if self.lines is not None:
            self.lines.append(line)

    def sha256(self) -> str:
        return self._digest.hexdigest()
