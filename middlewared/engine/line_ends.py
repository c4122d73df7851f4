"""What comes over the line to the peer, each to whom it is for: the replication machine, or questions and answers."""

from __future__ import annotations

from typing import Protocol

from middlewared.engine.peer import Peer
from middlewared.engine.replicate import Replicator
from middlewared.protocol import replication_frames as frames
from middlewared.protocol import replication_values as values
from middlewared.protocol.peer_calls import Answer, Ask


class Line(Protocol):
    """The line to the peer, as long as it is up."""

    def send(self, frame: frames.LineFrame) -> None: ...

    def drop(self, why: str) -> None: ...


class LineEnds:
    """Hands what the peer link sees to the replicator, and questions and answers to `peer`."""

    def __init__(self, replicator: Replicator, peer: Peer) -> None:
        self._replicator = replicator
        self._peer = peer

    def up(self, line: Line) -> None:
        self._replicator.link_up(line)

    def got(self, line: Line, frame: frames.LineFrame) -> None:
        if self._replicator.line is not line:
            return
        if isinstance(frame, Ask | Answer):
            self._peer.got(frame)
            return
        self._replicator.feed(values.Got(frame))
        known = self._replicator.replica.line
        if isinstance(frame, frames.Hello) and known.greeted:
            self._peer.line_up(line.send, known.features)

    def down(self, line: Line) -> None:
        self._peer.line_down(line.send)
        self._replicator.link_down(line)
