"""One controller's side of the replicated log: a machine with one door.

Theory
------
The owner of a term is the only writer. Its records go to its own disk and to the peer side by side; the **commit
index** is what is durable on every member of `in_sync`, and nothing is visible before it covers it. `in_sync` stands in
the record on the shared disks, and a successor may open the configuration only if it stands there itself and its log
reaches the record's committed position.

Rules, each the answer to a way of losing an answered write:

* The record is written *before* what it allows: {me} before the first reply without the peer, {me, peer} before the
  first reply at level `pair`; and before half of a log is anywhere: {me} before a standby that lost answered records
  gets the first of them, {peer} before an owner that lacks them adopts the first.
* The standby acknowledges the position that its store read back after the commit, never what it received.
* A gap, or a record that does not follow, ends the line; it begins again from HELLO. Nothing is patched.
* A tail that the owner does not have is cut only after it lies in quarantine. A tail that holds an event known to be
  answered at level `pair` is a broken invariant: the controller halts and cuts nothing.
* An owner that restarts first asks the peer in sync for its tail: the peer may hold records of this owner's last term
  that never reached its own disk.
* An owner whose log does not reach the record opens nothing. It adopts the tail of the peer that does, or is forced,
  which names the loss.

The machine is one of three things at a time: an Owner (replication_owner), a Standby (replication_standby), or halted,
which only a restart by an operator ends.

Not handled here: who owns (failover), and what events mean. Nor a controller in sync whose whole data directory was
put back from an older copy while both were off: it cannot know what it lacks, and may open where it comes up alone.
The log matching is Raft's (Ongaro and Ousterhout 2014, section 5.3); the commit rule is not a majority of logs but
primary-backup with the shared disks as the register of the configuration.

The caller performs the actions in order and feeds back what became of them: Store -> Stored, Read -> Records or
Unreadable, WriteRecord -> Written, Cut -> CutDone or Broken, DigestAt -> Digested where the fold is not beyond it,
Refold -> Refolded, FetchSnapshot -> SnapshotInstalled, SnapshotRefused or SnapshotNotFetched. Digested comes unasked,
too, at every seq that is a multiple of kernel.digest.CHECKPOINT_EVENTS.
"""

from __future__ import annotations

import msgspec

from middlewared.kernel.errors import Diverged
from middlewared.kernel.event import Position
from middlewared.protocol import replication_frames as frames
from middlewared.protocol.checkpoint import Agreement
from middlewared.protocol.repair import Repair
from middlewared.protocol.replication_frames import History, Identity
from middlewared.protocol.replication_log import Line, LogEnds
from middlewared.protocol.replication_owner import Owner
from middlewared.protocol.replication_standby import Standby
from middlewared.protocol.replication_values import (
    Action,
    Applied,
    Broken,
    Close,
    CutDone,
    Digested,
    DropLink,
    Got,
    Halt,
    LinkDown,
    LinkUp,
    Message,
    Owning,
    Proposed,
    Records,
    Refolded,
    SnapshotInstalled,
    SnapshotNotFetched,
    SnapshotRefused,
    Standing,
    Stored,
    Tick,
    Unreadable,
    Written,
)


class Replica:
    """The machine. `now` is CLOCK_BOOTTIME in seconds, handed in with every message.

    head, history: of this controller's log. committed: the last position known committed; pair_seq: likewise at pair.
    state_shape: of this build's state; digests are compared only between equal ones.
    """

    def __init__(
        self,
        identity: Identity,
        head: Position,
        history: History,
        committed: Position,
        pair_seq: int,
        state_shape: str = "",
    ) -> None:
        self.identity = identity
        self.log = LogEnds(head, history, committed, pair_seq)
        self.line = Line()
        self.agreement = Agreement(state_shape)
        self.repair = Repair()
        self.side: Owner | Standby = self._standby(0)
        self._tenure: Owning | None = None
        self.halted: str | None = None

    @property
    def term(self) -> int:
        return self.side.term

    def goes_on_in(self, log_format: int) -> None:
        """The format of this log, as its newest record leaves it; a peer must be able to read it."""
        self.identity = msgspec.structs.replace(self.identity, log_format_min=log_format)

    def holds(self, secret_keys: tuple[str, ...]) -> None:
        """The keys of secrets that this controller holds from now on; said in the next HELLO."""
        self.identity = msgspec.structs.replace(self.identity, secret_keys=secret_keys)

    def peer_reads(self, log_format: int) -> bool:
        """Nobody who is on the line at this moment would be left behind by this format."""
        return self.line.peer is None or self.line.peer.log_format_max >= log_format

    def deadline(self) -> float | None:
        """When to send a Tick, in CLOCK_BOOTTIME seconds; None: not needed."""
        return None if self.halted else self.side.deadline()

    def receive(self, message: Message, now: float) -> tuple[Action, ...]:
        """Take one message; perform the returned actions in order."""
        self.line.actions = []
        if self.halted is None:
            try:
                self._take(message, now)
                if self._tenure is not None and self.log.quiet:
                    self._own(self._tenure, now)
                self.side.settle(now)
            except Diverged as broken:
                self._halt(str(broken))
        elif isinstance(message, LinkUp):
            self.line.up = True
            self.line.drop(self.halted)
        return tuple(self.line.actions)

    def _take(self, message: Message, now: float) -> None:
        side = self.side
        match message:
            case Owning():
                self._tenure = message
            case Standing():
                self._tenure = None
                self._stand(message.term)
            case LinkUp():
                self.line.up = True
                self.line.send(frames.Hello(self.identity))
            case LinkDown():
                self._line_down()
            case Got():
                self._got(message.frame, now)
            case Proposed() if isinstance(side, Owner):
                side.propose(message.records, now)
            case Stored():
                self.log.stored(message.head)
                side.stored()
            case Records():
                side.have_read(message)
            case Written() if isinstance(side, Owner):
                side.written(message, now)
            case CutDone():
                self.log.was_cut(message.head, message.history)
                self.agreement.cut(message.head.seq)
                side.cut_done(message.head)
            case Unreadable():
                self.line.drop(message.why)
                self._line_down()
            case Broken():
                raise Diverged(message.why)
            case Applied():
                self.log.applied_seq, self.log.blocked = message.seq, message.blocked
                side.applied(now)
            case Digested():
                side.digested(message, now)
            case Refolded() | SnapshotInstalled() | SnapshotRefused() | SnapshotNotFetched():
                self._repaired(message)
            case Tick() | Proposed() | Written():
                pass

    def _repaired(self, message: Refolded | SnapshotInstalled | SnapshotRefused | SnapshotNotFetched) -> None:
        """What became of a repair. Where the state is another one now, what was said of it counts no more."""
        match message:
            case Refolded():
                actions = self.repair.refolded(message)
                if message.repaired:
                    self.agreement.forget_here()
                    self.agreement.here(message.seq, message.digest)
            case SnapshotInstalled():
                actions = self.repair.installed()
                self.agreement.forget_here()
            case SnapshotRefused():
                actions = self.repair.refused(message.why)
            case SnapshotNotFetched():
                actions = self.repair.not_fetched()
        for action in actions:
            self.line.act(action)

    def _own(self, tenure: Owning, now: float) -> None:
        """Begin a tenure, once the log is quiet: what the last role had under way must be known first."""
        self._tenure = None
        if tenure.term < self.term:
            return
        if isinstance(self.side, Owner):
            if tenure.term == self.side.term:
                return
            self.line.act(Close(f"term {tenure.term} begins"))
        self.repair.reset()
        self.side = Owner(self.log, self.line, self.agreement, self.identity.node, tenure, now)

    def _standby(self, term: int) -> Standby:
        return Standby(self.log, self.line, self.agreement, self.repair, term)

    def _stand(self, term: int) -> None:
        if isinstance(self.side, Owner):
            self.line.act(Close(f"this controller no longer owns; the highest term known is {term}"))
            self.side = self._standby(term)
        else:
            self.side.term = max(self.side.term, term)

    def _got(self, frame: frames.Frame, now: float) -> None:
        if isinstance(frame, frames.Hello):
            self._greet(frame.identity)
        elif isinstance(frame, frames.Refuse):
            self.line.refused = frame.why
            self.line.act(DropLink(f"the peer refuses: {frame.why}"))
            self._line_down()
        elif not self.line.greeted:
            self.line.drop(f"{type(frame).__name__} before HELLO")
            self._line_down()
        elif isinstance(frame, frames.Stale):
            self._outranked(frame.term)
        elif frame.term < self.term:
            self.line.send(frames.Stale(self.term))
        else:
            self._outranked(frame.term)
            self._got_in_term(frame, now)

    def _got_in_term(self, frame: frames.Frame, now: float) -> None:
        if isinstance(self.side, Owner):
            before = frames.ask_before(self.log.history, frame) if isinstance(frame, frames.Follow) else None
            if before is not None:
                self.line.send(frames.Lead(self.term, before))
            else:
                self.side.got(frame, now)
        else:
            self.side.got(frame, now)
            if not self.line.up:
                self._line_down()

    def _greet(self, identity: Identity) -> None:
        self.line.apart = frames.formats_apart(self.identity, identity)
        why = frames.why_refused(self.identity, identity)
        if why is not None:
            self.line.drop(why)
            self._line_down()
            return
        self.line.greet(self.identity, identity)
        if isinstance(self.side, Owner):
            self.side.lead()

    def _outranked(self, term: int) -> None:
        """Where a higher term lives, nothing more is promised in ours; fenced will say the same in a moment."""
        if isinstance(self.side, Owner) and term > self.side.term:
            self._stand(term)

    def _line_down(self) -> None:
        self.line.down()
        self.agreement.line_down()
        self.side.line_down()

    def _halt(self, why: str) -> None:
        if isinstance(self.side, Owner):
            self.line.act(Close(why))
        self.halted = why
        if self.line.up:
            self.line.drop(why)
        self._line_down()
        self.line.act(Halt(why))
