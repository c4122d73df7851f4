"""The ways between the parts of the world, each direction for itself, and the line that the log takes.

A Path carries single words: any may be lost, late, or come twice. The peer line is a TCP stream: in order or not at
all. What is lost on it comes later; what stays away for BREAK_S ends it, at each end when that end notices.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Protocol

from middlewared.kernel.facts import Node
from middlewared.protocol import replication_frames as frames
from middlewared.sim.timeline import Timeline

BREAK_S = 3.0
RESEND_S = 0.2


class Path:
    """One direction of one channel. quick_s: its usual delay. loss, twice: in 0..1. late, late_s: of how many words how
    much later. records_s: how much later a pair record is at the most, on a cable."""

    def __init__(self, random: Random, quick_s: float) -> None:
        self._random = random
        self._quick_s = quick_s
        self.cut = False
        self.loss = 0.0
        self.twice = 0.0
        self.late = 0.0
        self.late_s = 0.0
        self.records_s = 0.0

    def heal(self) -> None:
        self.cut = False
        self.loss = self.twice = self.late = self.late_s = self.records_s = 0.0

    def delay_s(self) -> float | None:
        """How long the next word takes; None: it is lost."""
        if self.loss and self._random.random() < self.loss:
            return None
        delay_s = self._quick_s * (0.5 + self._random.random())
        if self.late and self._random.random() < self.late:
            delay_s += self._random.random() * self.late_s
        return delay_s

    def record_s(self) -> float:
        """How much longer the next pair record takes: half of them are not late."""
        if self.records_s and self._random.random() < 0.5:
            return self._random.random() * self.records_s
        return 0.0

    def carry(self, timeline: Timeline, arrive: Callable[[], None]) -> None:
        """Carry one word, which may overtake others."""
        if self.cut:
            return
        copies = 2 if self.twice and self._random.random() < self.twice else 1
        for _ in range(copies):
            delay_s = self.delay_s()
            if delay_s is not None:
                timeline.after(delay_s, arrive)


class Reader(Protocol):
    """What the line tells the process at one of its ends."""

    def line_up(self, end: End) -> None: ...

    def line_got(self, end: End, frame: frames.LineFrame) -> None: ...

    def line_down(self, end: End) -> None: ...


class End:
    """One end of one connection: engine.replicate.Line of the process there."""

    def __init__(self, node: Node, reader: Reader, path: Path, timeline: Timeline) -> None:
        self.node = node
        self.closed = False
        self.other: End
        self._reader = reader
        self._path = path
        self._timeline = timeline
        self._arrives_at = 0.0
        self._stuck: deque[bytes] = deque()
        self._stuck_since: float | None = None

    def send(self, frame: frames.LineFrame) -> None:
        if not self.closed:
            self._put(frames.encode(frame))

    def drop(self, why: str) -> None:
        """Close after what was sent."""
        if not self.closed:
            self._put(b"")
            self._timeline.after(0.0, self.hear_end)

    def hear_end(self) -> None:
        """This end knows that the line is over."""
        if not self.closed:
            self.closed = True
            self._reader.line_down(self)

    def opens_in(self, delay_s: float) -> None:
        """The process here learns of the line; nothing arrives before that."""
        self.other._arrives_at = self._timeline.now + delay_s
        self._timeline.after(delay_s, self._reader.line_up, self)

    def gone(self, *, said: bool) -> None:
        """The process here is dead. said: its kernel is not, and tells the other end."""
        self.closed = True
        if said:
            self._put(b"")
        else:
            self._timeline.after(BREAK_S, self.other.hear_end)

    def flush(self) -> None:
        """The way is free again."""
        if self._path.cut or self._stuck_since is None:
            return
        self._stuck_since = None
        stuck, self._stuck = self._stuck, deque()
        for body in stuck:
            self._put(body)

    def _put(self, body: bytes) -> None:
        if self._path.cut:
            self._stuck.append(body)
            if self._stuck_since is None:
                self._stuck_since = self._timeline.now
                self._timeline.after(BREAK_S, self._break, self._timeline.now)
            return
        delay_s = self._path.delay_s()
        if delay_s is None:
            delay_s = RESEND_S
        self._arrives_at = max(self._arrives_at, self._timeline.now + delay_s)
        self._timeline.at(self._arrives_at, self._arrive, body)

    def _break(self, since: float) -> None:
        """Nothing was acknowledged for too long: this end gives up; the other hears nothing for as long as it."""
        if self._stuck_since == since:
            self.hear_end()
            self._timeline.after(BREAK_S / 2, self.other.hear_end)

    def _arrive(self, body: bytes) -> None:
        other = self.other
        if other.closed:
            return
        if body:
            frame = frames.decode(body)
            assert not isinstance(frame, frames.Unknown), "both ends are of one build"
            other._reader.line_got(other, frame)
        else:
            other.hear_end()


class Network:
    """Every path of the world by its name, as (channel, from)."""

    def __init__(self, timeline: Timeline, random: Random) -> None:
        self._timeline = timeline
        self._random = random
        self._paths: dict[tuple[str, Node], Path] = {}
        self.ends: list[End] = []

    def path(self, channel: str, node: Node, quick_s: float = 0.0003) -> Path:
        """The path of `channel` that begins at `node`."""
        key = channel, node
        if key not in self._paths:
            self._paths[key] = Path(self._random, quick_s)
        return self._paths[key]

    def cut(self, channel: str, node: Node, cut: bool = True) -> None:
        self.path(channel, node).cut = cut
        if channel == "line" and not cut:
            self.flush()

    def flush(self) -> None:
        self.ends = [end for end in self.ends if not end.closed]
        for end in list(self.ends):
            end.flush()

    def heal(self) -> None:
        for path in self._paths.values():
            path.heal()
        self.flush()

    def connect(self, a: Reader, b: Reader) -> tuple[End, End]:
        """B has dialled A, and both proved their keys."""
        ends = (
            End("A", a, self.path("line", "A"), self._timeline),
            End("B", b, self.path("line", "B"), self._timeline),
        )
        ends[0].other, ends[1].other = ends[1], ends[0]
        self.ends = [end for end in self.ends if not end.closed] + list(ends)
        for end in ends:
            end.other.opens_in(self.path("line", end.node).delay_s() or RESEND_S)
        return ends
