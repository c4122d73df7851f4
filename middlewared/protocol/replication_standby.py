"""The standby's side of the replicated log.

    LEAD  -> FOLLOW, once nothing is on its way to the disk
    MATCH -> ACK if the log ends there; Cut if it goes on; halt if what would be cut was answered at level pair
    APPEND -> Store; Stored -> ACK, with the position that the store read back
    COMMIT, or the index in APPEND -> Committed, never beyond what is durable here
    CHECKPOINT -> the digest of the state at that seq, in the next ACK; Differs where it is another
    FETCH -> Read; Records -> TAIL: an owner adopts what only this log holds

A frame that does not fit ends the line.
"""

from __future__ import annotations

from middlewared.kernel.errors import Diverged
from middlewared.kernel.event import Position
from middlewared.protocol import replication_frames as frames
from middlewared.protocol.checkpoint import Agreement, Verdict
from middlewared.protocol.repair import Repair
from middlewared.protocol.replication_log import Line, LogEnds
from middlewared.protocol.replication_values import Differs, DigestAt, Digested, Read, Records

APPLIED_NOTICE_S = 0.02


class Standby:
    """Follows the owner of `term`, whoever it turns out to be."""

    def __init__(self, log: LogEnds, line: Line, agreement: Agreement, repair: Repair, term: int) -> None:
        self.log = log
        self.line = line
        self.agreement = agreement
        self.repair = repair
        self.term = term
        self._lead_waits = False
        self._tell_before = 0
        self._told_after = 0
        self._following = False
        self._matched_at: Position | None = None
        self._fetched: Position | None = None
        self._announced = (0, 0)
        self._ack_at: float | None = None
        self._level_at: float | None = None

    def deadline(self) -> float | None:
        return self._ack_at

    def line_down(self) -> None:
        self._following = self._lead_waits = False
        self._matched_at = self._fetched = None
        self._ack_at = None

    def got(self, frame: frames.Frame, now: float) -> None:
        """A frame of this term or a higher one. Raises Diverged."""
        match frame:
            case frames.Lead():
                self.term = frame.term
                self._following = False
                self._matched_at = None
                self._lead_waits, self._tell_before = True, frame.before
                self._answer_lead()
            case frames.Match() if frame.at.seq < self._told_after:
                self.line.drop(f"MATCH at seq {frame.at.seq}, but only what follows seq {self._told_after} was told")
            case frames.Match() if self.log.quiet:
                self._matched_at = frame.at
                self._matched(frame.at)
            case frames.Append() if self._following:
                self._append(frame)
            case frames.Commit() if self._following:
                self._announce(frame.commit_seq, frame.pair_seq)
            case frames.Checkpoint():
                self._compare(frame, now)
            case frames.Fetch():
                self._fetched = frame.after
                self.line.act(Read(frame.after.seq, frames.BATCH_RECORDS))
            case _:
                self.line.drop(f"{type(frame).__name__} before MATCH")

    def stored(self) -> None:
        self._follow_commit()
        self._acknowledge()
        self._answer_lead()

    def cut_done(self, head: Position) -> None:
        """The log ends at `head`. If the owner that asked for it is still there, this is what it follows."""
        self._announced = (self.log.committed.seq, self.log.pair_seq)
        if self._matched_at == head:
            self._follow()
        self._answer_lead()

    def have_read(self, message: Records) -> None:
        if message.at == self._fetched:
            first = next(frames.batches(message.records), ())
            self.line.send(frames.Tail(self.term, message.at, first, self.log.head))

    def applied(self, now: float) -> None:
        """The owner is told within APPLIED_NOTICE_S, unless an ACK for records tells it sooner."""
        if self._following and self._ack_at is None:
            self._ack_at = now + APPLIED_NOTICE_S

    def digested(self, message: Digested, now: float) -> None:
        self._judge(self.agreement.here(message.seq, message.digest), now)

    def _compare(self, frame: frames.Checkpoint, now: float) -> None:
        if not self._following or frame.shape != self.agreement.shape or not frame.shape:
            return
        verdict = self.agreement.there(frame.seq, frame.digest)
        if verdict is Verdict.UNKNOWN:
            self.line.act(DigestAt(frame.seq))
        self._judge(verdict, now)

    def _judge(self, verdict: Verdict, now: float) -> None:
        if verdict is not Verdict.UNKNOWN:
            self.applied(now)
        if verdict is Verdict.DIFFERENT and self.agreement.differs is not None:
            self.line.act(Differs(self.agreement.differs))
        for action in self.repair.judged(verdict, self.agreement.differs):
            self.line.act(action)

    def settle(self, now: float) -> None:
        if self._level_at is None or self._level():
            self._level_at = now
        if self._ack_at is not None and now >= self._ack_at:
            self._acknowledge()

    def _level(self) -> bool:
        return self._following and self.log.applied_seq >= self._announced[0]

    def behind(self, now: float) -> tuple[int, float]:
        """How many events that the owner has committed are not applied here, as far as it said, and for how many
        seconds this controller has not known itself to be level with it."""
        if self._level() or self._level_at is None:
            return 0, 0.0
        return max(0, self._announced[0] - self.log.applied_seq), now - self._level_at

    def _answer_lead(self) -> None:
        """A history is told only when nothing is on its way to the disk."""
        if self._lead_waits and self.log.quiet:
            self._lead_waits = False
            history, self._told_after = frames.told(self.log.history, self._tell_before)
            self.line.send(frames.Follow(self.term, self.log.head, history, self._told_after == 0))

    def _matched(self, at: Position) -> None:
        log = self.log
        if at == log.head:
            self._follow()
        elif at.seq >= log.head.seq:
            raise Diverged(f"the owner's log and this one hold different records at seq {at.seq}")
        elif at.seq < log.pair_seq:
            raise Diverged(
                f"the owner's log leaves this one at seq {at.seq}, but seq {log.pair_seq} was answered at level pair; "
                "nothing was cut"
            )
        else:
            self.line.cut(log, at)

    def _follow(self) -> None:
        self._following = True
        self._acknowledge()

    def _append(self, frame: frames.Append) -> None:
        if frame.prev != self.log.tip:
            self.line.drop(f"a gap: records after seq {frame.prev.seq}, but this log ends at {self.log.tip.seq}")
            return
        if frame.records:
            self.line.store(self.log, frame.records)
        self._announce(frame.commit_seq, frame.pair_seq)

    def _announce(self, commit_seq: int, pair_seq: int) -> None:
        self._announced = (commit_seq, pair_seq)
        self._follow_commit()

    def _follow_commit(self) -> None:
        commit_seq, pair_seq = self._announced
        log = self.log
        reached = min(commit_seq, log.head.seq)
        pair_seq = max(log.pair_seq, min(pair_seq, reached))
        if reached > log.committed.seq:
            # Below the head the hash is not at hand; a standby's committed position is only ever compared by seq.
            position = log.head if reached == log.head.seq else Position(reached, self.term, b"")
            self.line.committed(log, position, pair_seq)
        elif pair_seq > log.pair_seq:
            self.line.committed(log, log.committed, pair_seq)

    def _acknowledge(self) -> None:
        self._ack_at = None
        if self._following:
            digest_seq, digest = self.agreement.answer
            log = self.log
            self.line.send(frames.Ack(self.term, log.head, log.applied_seq, digest_seq, digest, log.blocked))
