"""The frames of the peer link, and the point up to which two logs are one.

A frame is a 4-byte big-endian length and a msgpack body of at most 1 MiB. Records travel as their stored bytes.

    both      HELLO   who I am and what I can read; sent first, checked once
    owner     LEAD    I own `term`; tell me your history
    standby   FOLLOW  my history, in answer to LEAD
    owner     MATCH   up to here your log is mine; cut what lies beyond
    owner     APPEND  records right after `prev`, and the commit index
    standby   ACK     what my log holds, read back after its commit; what is applied
    owner     COMMIT  the commit index, when no APPEND carries it within 20 ms
    owner     CHECKPOINT  the digest of my state at this seq; the next ACK has the standby's
    owner     FETCH   send me your records after this position (an owner that adopts)
    standby   TAIL    they are these; the end of my log
    both      STALE   your term is old: this one is known here
    both      REFUSE  why this link can carry nothing; the link is closed after it

The peer may be of another build. A new field of a known frame has a default, and an older build passes over it. A new
frame is sent only to a peer whose HELLO named the feature that it belongs to (NEEDS): the first build closes a line
on which a frame of another name comes.

This build passes over a frame that it does not know, and counts it. That is safe: nothing rests on a frame having been
taken. What an APPEND follows stands in it, so what is missing before it shows as a gap; an ACK says what the store
read back; and everything else is asked for again.

The two frames of peer_calls travel on the same line and are no business of the log's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias, get_args

import msgspec

from middlewared.kernel.event import LOG_FORMAT, START, Position, Record
from middlewared.kernel.facts import Node
from middlewared.kernel.secret import may_pair
from middlewared.protocol import peer_calls

PROTOCOL = 1
MAX_FRAME = 1024 * 1024
BATCH_RECORDS = 512
HISTORY_TERMS = 8192
"""A term of a history takes at most 55 bytes of a frame."""
BATCH_BYTES = 512 * 1024


class TermEnd(NamedTuple):
    """The last record that a log holds of one term."""

    term: int
    seq: int
    hash: bytes


History: TypeAlias = tuple[TermEnd, ...]
"""Every term of a log, oldest first."""


FEATURES: tuple[str, ...] = ("digest", peer_calls.FEATURE)
"""What this build can do on the line beyond the first build."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who a controller is to its peer.

    catalogue: digest of the event kinds known; key_ids: always empty, for the first build. secret_keys: ids of the
    keys that open secrets; empty for the first build, and where there is none. log_format_min: the format that this log
    is written in; log_format_max: the newest that this build can read. features: see FEATURES. version: of the
    product, for display only.
    """

    cluster_id: str
    node: Node
    catalogue: str
    key_ids: tuple[str, ...] = ()
    protocol: int = PROTOCOL
    log_format_min: int = 1
    log_format_max: int = LOG_FORMAT
    features: tuple[str, ...] = ()
    version: str = ""
    secret_keys: tuple[str, ...] = ()


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    identity: Identity


class Lead(msgspec.Struct, frozen=True, tag="lead"):
    """before: tell the terms before this one; 0: the newest."""

    term: int
    before: int = 0


class Follow(msgspec.Struct, frozen=True, tag="follow"):
    """complete: the history begins with the log; an older build never says otherwise."""

    term: int
    head: Position
    history: History
    complete: bool = True


class Match(msgspec.Struct, frozen=True, tag="match"):
    term: int
    at: Position


class Append(msgspec.Struct, frozen=True, tag="append"):
    term: int
    prev: Position
    records: tuple[Record, ...]
    commit_seq: int
    pair_seq: int


class Ack(msgspec.Struct, frozen=True, tag="ack"):
    """digest: of the state at digest_seq, the last one that was asked for; 0 and "" before there is one.

    blocked: why nothing after applied_seq is applied here, until an operator does something; "" while it is.
    """

    term: int
    head: Position
    applied_seq: int
    digest_seq: int = 0
    digest: str = ""
    blocked: str = ""


class Checkpoint(msgspec.Struct, frozen=True, tag="checkpoint"):
    """digest: of the owner's state right after record `seq`. shape: of that state (kernel.digest.shape)."""

    term: int
    seq: int
    digest: str
    shape: str


class Commit(msgspec.Struct, frozen=True, tag="commit"):
    term: int
    commit_seq: int
    pair_seq: int


class Fetch(msgspec.Struct, frozen=True, tag="fetch"):
    term: int
    after: Position


class Tail(msgspec.Struct, frozen=True, tag="tail"):
    term: int
    prev: Position
    records: tuple[Record, ...]
    head: Position


class Stale(msgspec.Struct, frozen=True, tag="stale"):
    term: int


class Refuse(msgspec.Struct, frozen=True, tag="refuse"):
    why: str


Frame: TypeAlias = Hello | Lead | Follow | Match | Append | Ack | Checkpoint | Commit | Fetch | Tail | Stale | Refuse
LineFrame: TypeAlias = Frame | peer_calls.Ask | peer_calls.Answer
"""Everything that travels on the line."""

NEEDS: dict[type[Frame], str] = {Checkpoint: "digest"}
"""The feature that a peer must have named before a frame of the class is sent; those of the first build need none."""


class Unknown(msgspec.Struct, frozen=True):
    """A frame whose name this build does not know."""

    tag: str


class _Named(msgspec.Struct, frozen=True):
    type: str


_decoder: msgspec.msgpack.Decoder[LineFrame] = msgspec.msgpack.Decoder(LineFrame)
_name: msgspec.msgpack.Decoder[_Named] = msgspec.msgpack.Decoder(_Named)
_TAGS = frozenset(cls.__struct_config__.tag for cls in get_args(LineFrame))


def encode(frame: LineFrame) -> bytes:
    """The body of a frame, without its length."""
    return msgspec.msgpack.encode(frame)


def decode(body: bytes) -> LineFrame | Unknown:
    """Raises msgspec.DecodeError for a body of the wrong form."""
    try:
        return _decoder.decode(body)
    except msgspec.ValidationError:
        tag = _name.decode(body).type
        if tag in _TAGS:
            raise
        return Unknown(tag)


def common_features(mine: Identity, theirs: Identity) -> frozenset[str]:
    """What both ends of the line can do beyond the first build."""
    return frozenset(mine.features) & frozenset(theirs.features)


def may_send(frame: type[Frame], features: frozenset[str]) -> bool:
    """Whether a peer takes frames of this class. features: the common ones; none before its HELLO was heard."""
    return frame not in NEEDS or NEEDS[frame] in features


def why_refused(mine: Identity, theirs: Identity) -> str | None:
    """Why these two cannot be a pair; None if they can.

    A catalogue that differs refuses nothing: an unknown kind is stored and not applied.
    """
    if theirs.protocol != mine.protocol:
        return f"peer speaks link protocol {theirs.protocol}, this controller {mine.protocol}"
    if theirs.cluster_id != mine.cluster_id:
        return f"peer belongs to cluster {theirs.cluster_id}, this controller to {mine.cluster_id}"
    if theirs.node == mine.node:
        return f"both controllers say that they are {mine.node}"
    if theirs.key_ids != mine.key_ids:
        return f"peer holds the keys {theirs.key_ids}, this controller {mine.key_ids}"
    if not may_pair(mine.secret_keys, theirs.secret_keys):
        return (
            f"peer holds the keys {', '.join(theirs.secret_keys)} of secrets, "
            f"this controller {', '.join(mine.secret_keys)}, and neither holds the other's"
        )
    return formats_apart(mine, theirs)


def formats_apart(mine: Identity, theirs: Identity) -> str | None:
    """Why one of the two could not read the other's log; None if both could."""
    if max(theirs.log_format_min, mine.log_format_min) <= min(theirs.log_format_max, mine.log_format_max):
        return None
    return (
        f"peer reads log formats {theirs.log_format_min}-{theirs.log_format_max}, "
        f"this controller {mine.log_format_min}-{mine.log_format_max}"
    )


def told(history: History, before: int) -> tuple[History, int]:
    """As much of a history as fits a frame, the newest terms before `before` (0: of all), and after which seq."""
    older = [end for end in history if end.term < before] if before else history
    left_out = older[:-HISTORY_TERMS]
    return tuple(older[-HISTORY_TERMS:]), left_out[-1].seq if left_out else 0


def ask_before(mine: History, follow: Follow) -> int | None:
    """Where a history that was told in part must be told further because nothing in it is common; None: it need not."""
    if follow.complete or not follow.history or match_point(mine, follow.history) != (START.term, START.seq):
        return None
    return follow.history[0].term


def match_point(mine: History, theirs: History) -> tuple[int, int]:
    """The highest (term, seq) that both logs hold; (0, 0) if none.

    A term has one writer and its records are dense, so both logs hold the same records of a common term up to the
    shorter end. Whether that is true of these bytes is for the hash at the point to say.
    """
    ends = {end.term: end.seq for end in mine}
    for end in reversed(theirs):
        if end.term in ends:
            return end.term, min(end.seq, ends[end.term])
    return START.term, START.seq


def hash_at(history: History, seq: int) -> bytes | None:
    """The hash at `seq` if a term ends there."""
    return next((end.hash for end in history if end.seq == seq), None)


def batches(records: Sequence[Record]) -> Iterator[tuple[Record, ...]]:
    """Cut records into pieces that fit a frame."""
    piece: list[Record] = []
    size = 0
    for record in records:
        if piece and (len(piece) == BATCH_RECORDS or size + len(record.payload) > BATCH_BYTES):
            yield tuple(piece)
            piece, size = [], 0
        piece.append(record)
        size += len(record.payload) + 256
    if piece:
        yield tuple(piece)
