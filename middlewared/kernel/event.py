"""Events, and the records that carry them in the log.

An event is a fact in chosen words (`network.configuration.updated`), with the version of its shape. A record is the
line of the log that holds it: its place (seq), the term and controller that wrote it, who asked, and a hash that
covers all of it and the hash of the line before.

The payload's bytes are made once, by `seal`, and are stored, shipped and hashed as they are. Nothing re-serialises
them: two controllers that hold the same records hold the same bytes.

    hash = SHA-256( "mw-ev1" | prev | header | "\\n" | payload )
    header = JSON [seq, term, origin, kind, version, actor, request_id, wall_ns], then method where it is not empty

Records of log format 1 have no method, so what they hash to never changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar, NamedTuple

import msgspec

from middlewared.kernel.errors import MiddlewareError, UpgradePending

GENESIS_HASH = bytes(32)
FIRST_FORMAT = 1
LOG_FORMAT = 3
"""The newest log format: what this build reads and, once the log says so, writes."""
METHOD_SINCE = 2
"""The log format that brought Record.method."""
MAX_PAYLOAD = 256 * 1024
_MAGIC = b"mw-ev1"
_encode = msgspec.json.Encoder().encode


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every event. A subclass names its kind, `<noun>.<past participle>`, and its version, from 1.

    since_format: the log format in which each version may first be written, oldest version first. A log of an older
    format is given an older version, by downcasts, or none.
    """

    kind: ClassVar[str]
    version: ClassVar[int] = 1
    since_format: ClassVar[tuple[int, ...]] = (1,)


class Position(NamedTuple):
    """Where a log ends: its last seq (0: empty), the term of that record and its hash."""

    seq: int
    term: int
    hash: bytes


START = Position(0, 0, GENESIS_HASH)


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One line of the log. `wall_ns` is for display only; nothing is decided by it.

    method: of the API, that asked for the event; "" where none did, and in all records of log format 1. New fields
    come last and have a default: a record is an array on the wire and in quarantine, and older ones are shorter.
    """

    seq: int
    term: int
    origin: str
    kind: str
    version: int
    actor: str
    request_id: str
    wall_ns: int
    payload: bytes
    prev: bytes
    hash: bytes
    method: str = ""

    @property
    def position(self) -> Position:
        return Position(self.seq, self.term, self.hash)


class Headline(NamedTuple):
    """What of a record is told to whoever hears of changes: the rest may hold secrets."""

    seq: int
    term: int
    kind: str


class Stamp(msgspec.Struct, frozen=True, kw_only=True):
    """What the shell gives a command's events: who, how, where, when. Made outside: a decision is repeatable."""

    term: int
    origin: str
    actor: str
    request_id: str
    wall_ns: int
    method: str = ""


def digest(record: Record) -> bytes:
    """The hash that this record must carry, from its own fields."""
    header: list[int | str] = [
        record.seq,
        record.term,
        record.origin,
        record.kind,
        record.version,
        record.actor,
        record.request_id,
        record.wall_ns,
    ]
    if record.method:
        header.append(record.method)
    line = _encode(header)
    return hashlib.sha256(b"".join((_MAGIC, record.prev, line, b"\n", record.payload))).digest()


def seal(event: Event, after: Position, stamp: Stamp) -> Record:
    """Make the record that holds `event`, in its present version, right after `after`."""
    return _sealed(event.kind, event.version, msgspec.json.encode(event), after, stamp)


def _sealed(kind: str, version: int, payload: bytes, after: Position, stamp: Stamp) -> Record:
    unsigned = Record(
        seq=after.seq + 1,
        term=stamp.term,
        origin=stamp.origin,
        kind=kind,
        version=version,
        actor=stamp.actor,
        request_id=stamp.request_id,
        wall_ns=stamp.wall_ns,
        payload=payload,
        prev=after.hash,
        hash=b"",
        method=stamp.method,
    )
    return msgspec.structs.replace(unsigned, hash=digest(unsigned))


def follows(record: Record, after: Position) -> str | None:
    """Why `record` cannot stand right after `after`; None if it can.

    Checked: the dense seq, a term that never falls, the hash of the line before, the record's own hash.
    """
    return chained((record,), after)[1]


def chained(records: Iterable[Record], after: Position) -> tuple[Position, str | None]:
    """Where the records that can stand one after another right after `after` end, and why the next one cannot.

    None: all of them can. One walk for many: every record of a standby and of a check passes here.
    """
    seq, term, prev = after
    why = None
    for record in records:
        if record.seq != seq + 1:
            why = f"seq {record.seq} where {seq + 1} belongs"
        elif record.term < term:
            why = f"term {record.term} after term {term}"
        elif record.prev != prev:
            why = "prev is not the hash of the record before"
        elif record.hash != digest(record):
            why = "its bytes do not give its hash"
        if why is not None:
            break
        seq, term, prev = record.seq, record.term, record.hash
    return Position(seq, term, prev), why


class UnknownKind(MiddlewareError):
    """A record of a kind or version that this build does not know: stored, not applied, reported."""


Cast = Callable[[dict[str, object]], dict[str, object]]
Casts = Mapping[tuple[str, int], Cast]
"""(kind, version) -> pure function from that version's payload to the next one's (up) or the one before's (down)."""


class Catalogue:
    """Every kind of event that this build knows, how an old version becomes the present one, and the way back.

    events: the classes. Raises ValueError when a kind is declared twice, or does not say since when each of its
    versions is written.
    """

    def __init__(self, events: Iterable[type[Event]], upcasts: Casts | None = None, downcasts: Casts | None = None):
        self._classes: dict[str, type[Event]] = {}
        for cls in events:
            if cls.kind in self._classes:
                raise ValueError(f"event kind {cls.kind!r} is declared twice")
            if len(cls.since_format) != cls.version:
                raise ValueError(f"event kind {cls.kind!r} does not say since when each of its versions is written")
            self._classes[cls.kind] = cls
        self._upcasts = dict(upcasts or {})
        self._downcasts = dict(downcasts or {})
        self._decoders = {(kind, cls.version): msgspec.json.Decoder(cls) for kind, cls in self._classes.items()}

    def knows(self, record: Record) -> bool:
        cls = self._classes.get(record.kind)
        return cls is not None and record.version <= cls.version

    def open(self, record: Record) -> Event:
        """The event that the record holds, in its present version. Raises UnknownKind."""
        present = self._decoders.get((record.kind, record.version))
        if present is not None:
            return present.decode(record.payload)
        if not self.knows(record):
            raise UnknownKind(f"seq {record.seq}: kind {record.kind} version {record.version} is not known here")
        cls = self._classes[record.kind]
        payload: dict[str, object] = msgspec.json.decode(record.payload)
        for version in range(record.version, cls.version):
            payload = self._upcasts[record.kind, version](payload)
        return msgspec.convert(payload, cls)

    def seal(self, event: Event, after: Position, stamp: Stamp, log_format: int) -> Record:
        """Like `seal`, in the newest version that a log of this format may hold. Raises UpgradePending."""
        version = event.version
        if event.since_format[-1] <= log_format:
            return seal(event, after, stamp)
        payload: dict[str, object] = msgspec.to_builtins(event)
        while event.since_format[version - 1] > log_format:
            if (event.kind, version) not in self._downcasts:
                raise UpgradePending(event.kind, event.since_format[version - 1], log_format)
            payload = self._downcasts[event.kind, version](payload)
            version -= 1
        return _sealed(event.kind, version, msgspec.json.encode(payload), after, stamp)

    def digest(self) -> str:
        """Equal on two builds that know the same kinds in the same versions."""
        lines = sorted(f"{kind}:{cls.version}" for kind, cls in self._classes.items())
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
