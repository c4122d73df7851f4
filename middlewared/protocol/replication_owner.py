"""The owner's side of the replicated log, for one term.

    GATHERING   this log reaches the record, and the peer in sync may hold the end of our own last term:
                it is asked for it, for at most GATHER_S
    BEHIND      this log does not reach the record: nothing is opened until the peer's tail was adopted
    OPEN        records are proposed, stored and shipped side by side, and committed

Commit rule: durable here, and on every controller that the record names or may name (in_sync.py).

Whoever lacks answered records is out of the record before it gets the first of them, so that half of a log opens
nothing: a standby whose log leaves this one below what may have been answered, and this controller before it adopts.

The record leaves the peer out when the line closes, or when records are out and nothing was acknowledged for SILENT_S.
It takes the peer in again when the line streams live and the peer is less than WINDOW behind; from the asking on,
commits wait for it.
"""

from __future__ import annotations

import enum
from collections import deque

from middlewared.kernel.errors import Diverged
from middlewared.kernel.event import Position, Record
from middlewared.kernel.facts import Node, PairRecord, other
from middlewared.protocol import replication_frames as frames
from middlewared.protocol import replication_values as values
from middlewared.protocol.checkpoint import Agreement
from middlewared.protocol.in_sync import InSync, lacks, recorded
from middlewared.protocol.lag import Lag
from middlewared.protocol.replication_log import Line, LogEnds

GATHER_S = 1.0
SILENT_S = 0.25
COMMIT_NOTICE_S = 0.02
WINDOW = 4096
READS = 2
"""While one batch is shipped, and stored and applied over there, the next is read."""


class Phase(enum.Enum):
    GATHERING = "gathering"
    BEHIND = "behind"
    OPEN = "open"


class Owner:
    """Owns one term. A new term is a new Owner: nothing is carried over but the log."""

    def __init__(
        self, log: LogEnds, line: Line, agreement: Agreement, node: Node, tenure: values.Owning, now: float
    ) -> None:
        self.log = log
        self.line = line
        self.agreement = agreement
        self.node = node
        self.peer = other(node)
        self.term = tenure.term
        self.alone = tenure.alone
        self.phase = Phase.GATHERING
        self.why = ""
        self._in_sync = InSync(node, tenure)
        self._recorded = recorded(tenure.record)
        self.acked: Position | None = None
        self.peer_applied_seq = 0
        self.peer_blocked = ""
        self.lag = Lag()
        self.lag.made(log.tip.seq, now)
        # opening
        self._gather_until: float | None = now + GATHER_S
        self._adopted = 0
        self._opened_at = 0
        # streaming
        self._follow: frames.Follow | None = None
        self._streaming = False
        self._reading: deque[int] = deque()
        self._sent = log.tip
        self._silent_since: float | None = None
        self._silent = False
        self._patience_until = now + GATHER_S
        self._notice_at: float | None = None
        self._begin(tenure, now)

    @property
    def synced(self) -> frozenset[Node]:
        """The controllers that the record names, as far as this owner knows."""
        return self._in_sync.named

    def deadline(self) -> float | None:
        times = [self._gather_until, self._in_sync.retry_at, self._notice_at, self.agreement.deadline()]
        if self._silent_since is not None and not self._silent:
            times.append(self._silent_since + SILENT_S)
        if (
            self.phase is Phase.OPEN
            and not self._streaming
            and self.peer in self.synced
            and not self._in_sync.under_way
        ):
            times.append(self._patience_until)
        return min((t for t in times if t is not None), default=None)

    # --- opening ---

    def _begin(self, tenure: values.Owning, now: float) -> None:
        log = self.log
        why = None if tenure.alone or tenure.forced else lacks(tenure, self.node, log.head)
        if why is not None:
            self.phase, self.why, self._gather_until = Phase.BEHIND, why, None
            self.lead()
            return
        self._believe(tenure)
        if tenure.forced or not self._peer_may_hold_ours(tenure):
            self._open(now)
        else:
            self.lead()

    def _believe(self, tenure: values.Owning) -> None:
        """What the record says is committed is, also where this controller forgot it: no later record may say less."""
        record, log = tenure.record, self.log
        if record is None or tenure.hash_here != record.committed_hash or record.committed_seq <= log.committed.seq:
            return
        self.line.committed(log, self._recorded, log.pair_seq)

    def _peer_may_hold_ours(self, tenure: values.Owning) -> bool:
        record = tenure.record
        return record is not None and record.owner == self.node and self.peer in record.in_sync

    def lead(self) -> None:
        """Tell the peer who owns; it answers with its history."""
        if self.line.greeted:
            self.line.send(frames.Lead(self.term))

    def _open(self, now: float) -> None:
        self._gather_until = None
        self.phase, self.why = Phase.OPEN, ""
        # Which of the records of earlier terms were answered is not known here: all of them may have been.
        self._opened_at = self.log.tip.seq
        self._patience_until = now + SILENT_S if self.line.greeted else now
        self.line.act(values.Open(self.term, self._adopted))
        # What the peer told while its records were gathered was used up by that.
        self.lead()

    def _gather(self, follow: frames.Follow, now: float) -> None:
        """The peer told its history before this owner opened: adopt what it has, or cut what is not to be kept."""
        log = self.log
        term, seq = frames.match_point(log.history, follow.history)
        if seq == log.head.seq:
            self._fetch_or_open(follow.head.seq > seq, now)
        elif self.phase is Phase.GATHERING:
            self._open(now)
        elif seq < log.pair_seq:
            raise Diverged(
                f"the peer's log leaves this one at seq {seq}, but seq {log.pair_seq} was answered at level pair; "
                "nothing was cut"
            )
        else:
            at = frames.hash_at(follow.history, seq) or frames.hash_at(log.history, seq) or b""
            self.line.cut(log, Position(seq, term, at))

    def _step_aside(self, now: float) -> None:
        """Have the record name the peer alone, then adopt; one that names only this controller stays as it is."""
        if self.synced != {self.node}:
            self._wish(now)
            if self._in_sync.unwritten:
                return
        if self._follow is not None:
            follow, self._follow = self._follow, None
            self._gather(follow, now)

    def _fetch_or_open(self, more: bool, now: float) -> None:
        if more:
            self._fetch()
        elif self.phase is Phase.GATHERING or self.peer in self.synced or not self.synced:
            self._open(now)

    def _fetch(self) -> None:
        self.line.send(frames.Fetch(self.term, self.log.head))

    def _adopt(self, tail: frames.Tail, now: float) -> None:
        if self.phase is Phase.OPEN or tail.prev != self.log.tip:
            return
        if tail.records:
            self._adopted += len(tail.records)
            self.line.store(self.log, tail.records)
        else:
            self._fetch_or_open(tail.head.seq > tail.prev.seq, now)  # what it read for its last role may be empty, too

    # --- what happens ---

    def line_down(self) -> None:
        self._follow = None
        self._streaming = False
        self._reading.clear()
        self._silent_since = None
        self.acked = None
        self.peer_blocked = ""
        self._patience_until = 0.0

    def got(self, frame: frames.Frame, now: float) -> None:
        """A frame of this term. Raises Diverged."""
        match frame:
            case frames.Follow() if self.phase is not Phase.GATHERING:
                self._follow = frame
            case frames.Follow():
                self._gather(frame, now)
            case frames.Tail():
                self._adopt(frame, now)
            case frames.Ack() if self._streaming:
                if self.acked is None:
                    # It may hold records that it was never told are committed, and no append may follow for long.
                    self._notice_at = now + COMMIT_NOTICE_S
                    self.agreement.followed(now)
                if self.acked is None or frame.head.seq > self.acked.seq:
                    self._silent_since = None
                    self._silent = False
                self.acked = frame.head
                self.peer_applied_seq, self.peer_blocked = frame.applied_seq, frame.blocked
                self.lag.reached(frame.applied_seq)
                self.agreement.answered(frame.digest_seq, frame.digest, now)

    def propose(self, records: tuple[Record, ...], now: float) -> None:
        live = self.acked is not None and not self._reading and self._sent == self.log.tip
        if live:
            # First to the peer, whose answer takes longer than the disk here; neither waits for the other.
            self._ship(records)
        self.line.store(self.log, records)
        self.lag.made(self.log.tip.seq, now)

    def stored(self) -> None:
        if self.phase is not Phase.OPEN and self.log.head == self.log.tip:
            self._fetch()

    def cut_done(self, _: Position) -> None:
        self._sent = self.log.tip
        self._fetch()

    def written(self, message: values.Written, now: float) -> None:
        self._in_sync.written(message, now)

    def have_read(self, message: values.Records) -> None:
        if message.at.seq not in self._reading:
            return
        self._reading.remove(message.at.seq)
        if not self._streaming:
            self._streaming = True
            self._sent = message.at
            self.line.send(frames.Match(self.term, message.at))
        elif message.at == self._sent:
            self._ship(message.records)

    def settle(self, now: float) -> None:
        """Do what the last message, or the time, has made due."""
        if self._gather_until is not None and now >= self._gather_until and self.log.head == self.log.tip:
            self._open(now)
        if self.phase is Phase.BEHIND:
            self._step_aside(now)
        if self.phase is Phase.OPEN:
            self._serve()
            self._pump()
            self._watch_peer(now)
            self._commit(now)
            self._wish(now)
        if self._notice_at is not None and now >= self._notice_at:
            self._notice_at = None
            # Before its first ACK the standby may be setting a tail aside and follows nothing; that ACK asks again.
            if self._streaming and self.acked is not None:
                self.line.send(frames.Commit(self.term, self.log.committed.seq, self.log.pair_seq))
        if self.agreement.due(now) and self._compares():
            self.line.act(values.DigestAt(self.log.applied_seq))

    # --- what is told ---

    def behind(self, now: float) -> tuple[int, float]:
        """How many events the peer has not applied, and for how many seconds the oldest of them has been waiting."""
        since = self.lag.since()
        if self.alone or since is None:
            return 0, 0.0
        return self.log.tip.seq - self.peer_applied_seq, now - since

    # --- the digest of the state ---

    def _compares(self) -> bool:
        return self._streaming and self.acked is not None and frames.may_send(frames.Checkpoint, self.line.features)

    def applied(self, now: float) -> None:
        if self._compares():
            self.agreement.applied(self.log.applied_seq, now)

    def digested(self, message: values.Digested, now: float) -> None:
        self.agreement.here(message.seq, message.digest)
        if self._compares():
            self.line.send(frames.Checkpoint(self.term, message.seq, message.digest, self.agreement.shape))
            self.agreement.said(message.seq, now)

    # --- streaming ---

    def _serve(self) -> None:
        """Find where the standby's log leaves this one. MATCH says it with the hash that is read here: the standby, not
        this owner, stops where its own log contradicts it.

        Records follow the first ACK: the standby may have a tail to set aside first. It may also have records already
        that are still on their way to the disk here: it is not told to set those aside.
        """
        follow, log = self._follow, self.log
        if follow is None or (follow.head.seq > log.head.seq and log.head != log.tip):
            return
        self._streaming = False
        self._reading.clear()
        self._silent, self._silent_since, self.acked = False, None, None
        if self._lost(follow) and self._in_sync.may_name(self.peer):
            return
        self._follow = None
        self._read(frames.match_point(log.history, follow.history)[1], 0)

    def _lost(self, follow: frames.Follow) -> bool:
        """The standby holds less than what may have been answered."""
        return frames.match_point(self.log.history, follow.history)[1] < max(self._opened_at, self.log.committed.seq)

    def _ship(self, records: tuple[Record, ...]) -> None:
        for piece in frames.batches(records):
            self.line.send(
                frames.Append(self.term, self._sent, piece, self.log.committed.seq, self.log.pair_seq),
            )
            self._sent = piece[-1].position
            self._notice_at = None

    def _pump(self) -> None:
        """Catch-up: read on from the disk, at most a window ahead of what is acknowledged."""
        if not self._streaming or self.acked is None:
            return
        after = self._reading[-1] + frames.BATCH_RECORDS if self._reading else self._sent.seq
        while len(self._reading) < READS and after < self.log.head.seq and after - self.acked.seq < WINDOW:
            self._read(after, frames.BATCH_RECORDS)
            after += frames.BATCH_RECORDS

    def _read(self, after: int, limit: int) -> None:
        self._reading.append(after)
        self.line.act(values.Read(after, limit))

    def _watch_peer(self, now: float) -> None:
        if not self._streaming or self.acked is None or self._sent.seq <= self.acked.seq:
            self._silent_since = None
        elif self._silent_since is None:
            self._silent_since = now
        elif now - self._silent_since >= SILENT_S:
            self._silent = True

    # --- the commit rule and the record ---

    def _commit(self, now: float) -> None:
        if not self.alone and self.node not in self.synced:
            return
        log = self.log
        reached = log.head
        if self._in_sync.may_name(self.peer):
            if not self._streaming or self.acked is None:
                return
            reached = min(log.head, self.acked, key=lambda position: position.seq)
        # A record committed without the peer is durable on both once it was acknowledged and the record names both.
        pair_seq = max(log.pair_seq, reached.seq) if self.peer in self.synced else log.pair_seq
        if reached.seq > log.committed.seq or pair_seq > log.pair_seq:
            self.line.committed(log, max(reached, log.committed, key=lambda position: position.seq), pair_seq)
            if self._streaming and self._notice_at is None:
                self._notice_at = now + COMMIT_NOTICE_S

    def _wish(self, now: float) -> None:
        """Have the record say who is in sync, where it does not."""
        if self.alone or not self._in_sync.asks(now):
            return
        wanted = self._wanted(now)
        if (id_ := self._in_sync.ask(wanted)) is None:
            return
        committed = self._recorded if self.phase is Phase.BEHIND else self.log.committed
        record = PairRecord(
            term=self.term,
            owner=self.node,
            in_sync=tuple(sorted(wanted)),
            committed_seq=committed.seq,
            committed_hash=committed.hash,
        )
        self.line.act(values.WriteRecord(id_, record))

    def _wanted(self, now: float) -> frozenset[Node]:
        me, both = frozenset({self.node}), frozenset({self.node, self.peer})
        if self.phase is Phase.BEHIND:
            return both - me
        if self._follow is not None and self._lost(self._follow):
            return me
        if not self._streaming:
            # Just opened, with the line up: the peer is about to follow.
            return self.synced if self.peer in self.synced and now < self._patience_until else me
        if self._silent:
            return me
        if self.peer in self.synced:
            return both
        if self._in_sync.unwritten:
            # How far this log was committed may be known only in part: all of it is, before the peer is let in.
            return me
        near = self.acked is not None and self._sent == self.log.tip and self._sent.seq - self.acked.seq < WINDOW
        return both if near else me
