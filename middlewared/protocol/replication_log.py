"""What the replication machine knows of its own log and of the line to the peer; shared by owner and standby."""

from __future__ import annotations

from collections import deque

from middlewared.kernel.event import Position, Record
from middlewared.protocol import replication_frames as frames
from middlewared.protocol.replication_frames import History, Identity, TermEnd
from middlewared.protocol.replication_values import Action, Committed, Cut, DropLink, Send, Store


class LogEnds:
    """The ends of one log, in the order committed <= head <= tip.

    head: durable, as the store read it back. tip: given to the store, perhaps not durable yet. committed: covered by
    the commit index. pair_seq: the highest seq known to have been committed at level pair. applied_seq: in the state.
    blocked: why nothing after it is applied.
    """

    def __init__(self, head: Position, history: History, committed: Position, pair_seq: int) -> None:
        self.head = head
        self.tip = head
        self.committed = committed
        self.pair_seq = pair_seq
        self.applied_seq = committed.seq
        self.blocked = ""
        self.cutting = False
        self._history = list(history)
        self._storing: deque[tuple[Record, ...]] = deque()

    @property
    def quiet(self) -> bool:
        """Nothing is on its way to the disk: what is told of this log now stays true."""
        return self.tip == self.head and not self.cutting

    @property
    def history(self) -> History:
        return tuple(self._history)

    def storing(self, records: tuple[Record, ...]) -> None:
        self._storing.append(records)
        self.tip = records[-1].position

    def stored(self, head: Position) -> None:
        """Everything up to `head` is durable."""
        while self._storing and self._storing[0][-1].seq <= head.seq:
            self._extend(self._storing.popleft())
        self.head = head

    def _extend(self, records: tuple[Record, ...]) -> None:
        history, last = self._history, records[-1]
        if history and history[-1].term == last.term:
            history[-1] = TermEnd(last.term, last.seq, last.hash)
            return
        for record in records:
            if history and history[-1].term == record.term:
                history.pop()
            history.append(TermEnd(record.term, record.seq, record.hash))

    def was_cut(self, head: Position, history: History) -> None:
        self.cutting = False
        self.head = self.tip = head
        self._history = list(history)
        self.applied_seq = min(self.applied_seq, head.seq)
        if self.committed.seq > head.seq:
            self.committed = head


class Line:
    """The line to the peer and the actions of the message under way. Frames go nowhere while the line is down.

    peer: who it is, once it has greeted. features: what both ends can do beyond the first build. refused: why the peer
    closed the line, until it greets again. apart: why the two cannot read each other's log, by its last HELLO.
    """

    def __init__(self) -> None:
        self.up = False
        self.peer: Identity | None = None
        self.features: frozenset[str] = frozenset()
        self.refused: str | None = None
        self.apart: str | None = None
        self.actions: list[Action] = []

    @property
    def greeted(self) -> bool:
        return self.peer is not None

    def greet(self, mine: Identity, theirs: Identity) -> None:
        self.peer = theirs
        self.features = frames.common_features(mine, theirs)
        self.refused = None

    def act(self, action: Action) -> None:
        self.actions.append(action)

    def send(self, frame: frames.Frame) -> None:
        """A frame that the peer does not take goes nowhere: whoever sends it must do without an answer."""
        if self.up and frames.may_send(type(frame), self.features):
            self.act(Send(frame))

    def drop(self, why: str) -> None:
        """Say why, and close."""
        self.send(frames.Refuse(why))
        self.act(DropLink(why))
        self.down()

    def down(self) -> None:
        self.up = False
        self.peer = None
        self.features = frozenset()

    def store(self, log: LogEnds, records: tuple[Record, ...]) -> None:
        self.act(Store(records))
        log.storing(records)

    def cut(self, log: LogEnds, at: Position) -> None:
        log.cutting = True
        self.act(Cut(at))

    def committed(self, log: LogEnds, position: Position, pair_seq: int) -> None:
        log.committed, log.pair_seq = position, pair_seq
        self.act(Committed(position.seq, pair_seq))
