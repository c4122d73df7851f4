"""What goes in and out of the replication machine: messages of the shell, and actions for it."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from middlewared.kernel.event import Position, Record
from middlewared.kernel.facts import PairRecord
from middlewared.protocol.checkpoint import Disagreement
from middlewared.protocol.replication_frames import Frame, History

# --- in --------------------------------------------------------------------------------------------------------------


class Owning(msgspec.Struct, frozen=True, kw_only=True):
    """This controller holds the term.

    hash_here: this log's hash at the record's committed_seq; None if the log ends before it.
    alone: never paired, so there is no peer and no record. forced: an operator accepts this log as it is.
    """

    term: int
    record: PairRecord | None
    hash_here: bytes | None
    alone: bool = False
    forced: bool = False


class Standing(msgspec.Struct, frozen=True):
    """This controller holds no term; the highest known is `term`."""

    term: int


class LinkUp(msgspec.Struct, frozen=True):
    """The line to the peer is open, and both ends have proved their keys."""


class LinkDown(msgspec.Struct, frozen=True):
    """The line is closed, from whichever end."""


class Got(msgspec.Struct, frozen=True):
    """A frame came from the peer."""

    frame: Frame


class Proposed(msgspec.Struct, frozen=True):
    """New records of this owner, right after the last ones."""

    records: tuple[Record, ...]


class Stored(msgspec.Struct, frozen=True):
    """The end of the log as read back after a commit."""

    head: Position


class Records(msgspec.Struct, frozen=True):
    """What Read asked for: the position that was named, and records right after it."""

    at: Position
    records: tuple[Record, ...]


class Unreadable(msgspec.Struct, frozen=True):
    """What Read asked for is not as it was written; it is not sent."""

    why: str


class Written(msgspec.Struct, frozen=True):
    """ok: the record is on a majority of the shared disks. Otherwise it may or may not be."""

    id: int
    ok: bool


class CutDone(msgspec.Struct, frozen=True):
    """The tail lies in quarantine, and the log ends here."""

    head: Position
    history: History


class Broken(msgspec.Struct, frozen=True):
    """Something that must hold does not. Nothing may be cut or written until an operator has looked."""

    why: str


class Applied(msgspec.Struct, frozen=True):
    """The state now contains everything up to this seq. blocked: why nothing after it is applied; "" while it is."""

    seq: int
    blocked: str = ""


class Digested(msgspec.Struct, frozen=True):
    """The digest of the state as it is right after the record `seq`."""

    seq: int
    digest: str


class Refolded(msgspec.Struct, frozen=True):
    """What the log gives at `seq`. repaired: it is what was wanted, and the state is what the log says now."""

    seq: int
    digest: str
    repaired: bool


class SnapshotInstalled(msgspec.Struct, frozen=True):
    """The state is what the owner's snapshot says, and what this log holds after it."""


class SnapshotRefused(msgspec.Struct, frozen=True):
    """It is not what it says, or does not belong to this log."""

    why: str


class SnapshotNotFetched(msgspec.Struct, frozen=True):
    """The owner could not be asked for it, or not for long enough."""

    why: str


class Tick(msgspec.Struct, frozen=True):
    """The deadline passed."""


Message: TypeAlias = (
    Owning
    | Standing
    | LinkUp
    | LinkDown
    | Got
    | Proposed
    | Stored
    | Records
    | Unreadable
    | Written
    | CutDone
    | Broken
    | Applied
    | Digested
    | Refolded
    | SnapshotInstalled
    | SnapshotRefused
    | SnapshotNotFetched
    | Tick
)

# --- out -------------------------------------------------------------------------------------------------------------


class Send(msgspec.Struct, frozen=True):
    """Send a frame to the peer."""

    frame: Frame


class Store(msgspec.Struct, frozen=True):
    """Append these to the log with a full commit; answer with Stored. In order, one after the other."""

    records: tuple[Record, ...]


class Read(msgspec.Struct, frozen=True):
    """Read the position at `seq` and up to `limit` records after it; answer with Records."""

    seq: int
    limit: int


class WriteRecord(msgspec.Struct, frozen=True):
    """Have fenced write the record; answer with Written."""

    id: int
    record: PairRecord


class Committed(msgspec.Struct, frozen=True):
    """Everything up to commit_seq may be applied and answered; up to pair_seq it is durable on both."""

    commit_seq: int
    pair_seq: int


class Open(msgspec.Struct, frozen=True):
    """Writes may be proposed in this term; its first record must be `term.begin`."""

    term: int
    adopted: int


class Close(msgspec.Struct, frozen=True):
    """No more writes. What was proposed and is not committed has an unknown outcome."""

    why: str


class Cut(msgspec.Struct, frozen=True):
    """Put everything after `at` into quarantine, then cut it; answer with CutDone.

    The log must hold exactly `at` at that seq, else answer with Broken.
    """

    at: Position


class DigestAt(msgspec.Struct, frozen=True):
    """Make the digest of the state at `seq`, when the fold is there; answer with Digested.

    Where the fold is beyond it, there is none, and no answer.
    """

    seq: int


class Differs(msgspec.Struct, frozen=True):
    """The owner's state is another one at the same seq of the same log."""

    what: Disagreement


class Refold(msgspec.Struct, frozen=True):
    """Fold this controller's own log up to `seq` anew. Where that gives the digest `wanted`, take it over.

    Answer with Refolded. Appends and acknowledgements go on meanwhile.
    """

    seq: int
    wanted: str


class FetchSnapshot(msgspec.Struct, frozen=True):
    """Get the owner's snapshot and install it; answer with one of the three that begin with Snapshot."""


class StopApplying(msgspec.Struct, frozen=True):
    """Nothing more may be applied here."""

    why: str


class DropLink(msgspec.Struct, frozen=True):
    """Close the line; it is opened again by whoever dials."""

    why: str


class Halt(msgspec.Struct, frozen=True):
    """An invariant is broken: stop writing, tell the operator."""

    why: str


OfState: TypeAlias = DigestAt | Differs | Refold | FetchSnapshot | StopApplying
"""What is asked of the committed state."""

Action: TypeAlias = Send | Store | Read | WriteRecord | Committed | Open | Close | Cut | OfState | DropLink | Halt
