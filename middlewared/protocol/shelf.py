"""Frames between a controller and the shelf: one JSON object a line, each request answered with its id.

Requests may be sent without waiting (pipelined); answers to reads and beats may overtake those to the rest, because
only the rest waits for the disk.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from middlewared.kernel.facts import Node, PairRecord
from middlewared.kernel.register import Holding

MAX_LINE = 64 * 1024


class Read(msgspec.Struct, frozen=True, kw_only=True, tag="read"):
    """What does the register hold? Answered by Held."""

    id: int


class Claim(msgspec.Struct, frozen=True, kw_only=True, tag="claim"):
    """Answered by Held, as are Release, WriteRecord and Beat: they differ in `granted`."""

    id: int
    node: Node
    term: int
    over: Holding


class Release(msgspec.Struct, frozen=True, kw_only=True, tag="release"):
    id: int
    node: Node
    term: int


class WriteRecord(msgspec.Struct, frozen=True, kw_only=True, tag="write_record"):
    id: int
    node: Node
    record: PairRecord


class ReadRecord(msgspec.Struct, frozen=True, kw_only=True, tag="read_record"):
    """Answered by RecordIs."""

    id: int


class Beat(msgspec.Struct, frozen=True, kw_only=True, tag="beat"):
    id: int
    node: Node
    term: int
    count: int


class ReadBeat(msgspec.Struct, frozen=True, kw_only=True, tag="read_beat"):
    """Answered by BeatIs."""

    id: int


class Held(msgspec.Struct, frozen=True, kw_only=True, tag="held"):
    """What the register holds after the request; granted: the request changed it (a Read grants nothing)."""

    id: int
    granted: bool
    holding: Holding


class RecordIs(msgspec.Struct, frozen=True, kw_only=True, tag="record"):
    id: int
    record: PairRecord | None


class BeatIs(msgspec.Struct, frozen=True, kw_only=True, tag="beat_is"):
    id: int
    count: int


Change: TypeAlias = Claim | Release | WriteRecord
"""Requests that must be durable before they are answered."""

Request: TypeAlias = Read | Claim | Release | WriteRecord | ReadRecord | Beat | ReadBeat
Reply: TypeAlias = Held | RecordIs | BeatIs

_requests: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
_replies: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)


def encode(frame: Request | Reply) -> bytes:
    return msgspec.json.encode(frame) + b"\n"


def decode_request(line: bytes) -> Request:
    """Raises msgspec.DecodeError for a line of the wrong form."""
    return _requests.decode(line)


def decode_reply(line: bytes) -> Reply:
    """Raises msgspec.DecodeError for a line of the wrong form."""
    return _replies.decode(line)
