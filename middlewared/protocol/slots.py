"""The slot area of a shared disk: the pair's record in two copies, and a heartbeat sector for each controller. Pure.

    sector 0, 1    the record; written in turn, the one that holds the older goes first
    sector 2, 3    the heartbeats of A and of B; each is written by that controller alone

A sector is SECTOR bytes, written in one piece past the page cache:

    0   magic 8 | kind 1 | format 1 | length 2 | write counter 8 | cluster 16 | payload | 0 ...
    4060   HMAC-SHA256 over all before, under a key of the cluster, 32
    4092   CRC-32 over all before, 4

A sector that fails any check is *absent*, never empty: `unpack` says why. Torn, by a power cut in the middle of the
write, fails the CRC; made by somebody without the key, the HMAC. So a torn write of the record leaves the other copy,
which is the one that was written before; and a disk both of whose copies are absent has no voice for "none was ever
written". It has one where both are blank (all zero), or whole and of another cluster: nobody of this one wrote there.

A stale sector is a whole one: an older write that a disk came back with. What is newest is told by (term, serial), over
a majority of the disks, which is the business of who reads them; within a disk the higher write counter is the later.

Not handled: two writers at once. The reservation lets the holder alone write the disk, and it writes one at a time.
The CRC is zlib's, since Python has no CRC-32C of its own.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
import zlib
from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec

from middlewared.kernel.facts import Node, PairRecord
from middlewared.kernel.register import Whose

SECTOR = 4096
RECORDS = (0, 1)
BEATS: dict[Node, int] = {"A": 2, "B": 3}
SECTORS = 4
AREA_BYTES = 1024 * 1024
"""What is kept free at the start of the disk for it, as a partition would be."""

_MAGIC = b"MWSLOT\x00\x01"
_FORMAT = 1
_HEADER = struct.Struct("<8sBBHQ16s")
_MAC_AT = SECTOR - 36
_CRC_AT = SECTOR - 4
MAX_PAYLOAD = _MAC_AT - _HEADER.size

Kind: TypeAlias = Literal["record", "beat"]
_KINDS: dict[Kind, int] = {"record": 1, "beat": 2}


class Blank(msgspec.Struct, frozen=True):
    """Nothing was ever written here."""


class Foreign(msgspec.Struct, frozen=True):
    """A whole sector of another cluster: the disk was part of another pair."""


class Bad(msgspec.Struct, frozen=True):
    """Something is here that is no sector of this cluster, or not a whole one."""

    why: str


class Written(msgspec.Struct, frozen=True):
    """counter: of the writes to this slot; the higher is the later."""

    counter: int
    payload: bytes


Sector: TypeAlias = Blank | Foreign | Bad | Written


class Seal(msgspec.Struct, frozen=True, kw_only=True):
    """What makes a sector this cluster's. key: protocol.keys.slot_key."""

    cluster_id: str
    key: bytes

    @property
    def cluster(self) -> bytes:
        return hashlib.sha256(self.cluster_id.encode()).digest()[:16]


def pack(kind: Kind, counter: int, payload: bytes, seal: Seal) -> bytes:
    """One sector. Raises ValueError for a payload that has no room."""
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"{len(payload)} bytes do not fit into a slot")
    head = _HEADER.pack(_MAGIC, _KINDS[kind], _FORMAT, len(payload), counter, seal.cluster) + payload
    body = head.ljust(_MAC_AT, b"\0")
    body += hmac.digest(seal.key, body, "sha256")
    return body + zlib.crc32(body).to_bytes(4, "little")


def unpack(kind: Kind, sector: bytes, seal: Seal) -> Sector:
    """What a sector says; total, whatever it holds."""
    if len(sector) != SECTOR:
        return Bad(f"{len(sector)} bytes are no sector")
    if not any(sector):
        return Blank()
    magic, kind_byte, format_, length, counter, cluster = _HEADER.unpack_from(sector)
    if magic != _MAGIC:
        return Bad("it is no slot")
    if zlib.crc32(sector[:_CRC_AT]).to_bytes(4, "little") != sector[_CRC_AT:]:
        return Bad("the checksum does not fit: it was written in part")
    if format_ != _FORMAT:
        return Bad(f"it has format {format_}")
    if cluster != seal.cluster:
        return Foreign()
    if not hmac.compare_digest(hmac.digest(seal.key, sector[:_MAC_AT], "sha256"), sector[_MAC_AT:_CRC_AT]):
        return Bad("it was made without the key of this cluster")
    if kind_byte != _KINDS[kind] or length > MAX_PAYLOAD:
        return Bad("it is another kind of slot")
    return Written(counter, sector[_HEADER.size : _HEADER.size + length])


def whose(sectors: Sequence[bytes], seal: Seal) -> Whose:
    """Who wrote what is in the area; torn sectors of a cluster tell nothing beside whole ones."""
    found = [unpack("record", sectors[at], seal) for at in RECORDS]
    found += [unpack("beat", sectors[at], seal) for at in BEATS.values()]
    if any(isinstance(sector, Written) for sector in found):
        return "us"
    if any(isinstance(sector, Foreign) for sector in found):
        return "another pair"
    return "nobody" if all(isinstance(sector, Blank) for sector in found) else "unknown"


class RecordSlots(msgspec.Struct, frozen=True):
    """Both copies of the record on one disk, as they were read.

    record: the later of the copies that are whole; None: neither is. next_copy, next_counter: for the next write.
    bad: why a copy is absent; empty where both are whole or blank.
    """

    record: PairRecord | None
    next_copy: int
    next_counter: int
    bad: tuple[str, ...]

    @property
    def unreadable(self) -> bool:
        """Whether nobody knows if a record was ever written here."""
        return self.record is None and bool(self.bad)


def read_records(sectors: tuple[bytes, bytes], seal: Seal) -> RecordSlots:
    """The record of a disk."""
    copies = [unpack("record", sector, seal) for sector in sectors]
    counters = [copy.counter if isinstance(copy, Written) else -1 for copy in copies]
    bad = [copy.why for copy in copies if isinstance(copy, Bad)]
    record = None
    for counter, copy in sorted(zip(counters, copies, strict=True), key=lambda pair: -pair[0]):
        if not isinstance(copy, Written):
            continue
        try:
            record = msgspec.json.decode(copy.payload, type=PairRecord)
            break
        except msgspec.DecodeError as e:
            bad.append(f"write {counter} is no record: {e}")
    return RecordSlots(record, counters.index(min(counters)), max(counters) + 1, tuple(bad))


def write_record(record: PairRecord, slots: RecordSlots, seal: Seal) -> tuple[int, bytes]:
    """Which sector to write, and what: the copy that is older, or absent."""
    return RECORDS[slots.next_copy], pack("record", slots.next_counter, msgspec.json.encode(record), seal)


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """One heartbeat: the owner's count in its term."""

    term: int
    count: int


def write_beat(node: Node, beat: Beat, seal: Seal) -> tuple[int, bytes]:
    return BEATS[node], pack("beat", beat.count, msgspec.json.encode(beat), seal)


def read_beat(sector: bytes, seal: Seal) -> Beat | None:
    """None where it is blank or absent."""
    found = unpack("beat", sector, seal)
    if not isinstance(found, Written):
        return None
    try:
        return msgspec.json.decode(found.payload, type=Beat)
    except msgspec.DecodeError:
        return None
