"""`failover.quarantine`: the tails that were cut from either controller's log, and what somebody decided about each.

The records themselves lie in the quarantine directory of the controller that cut them; here both know of them. Who
reapplied or discarded a tail, and when, is said by the record of the event.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import ClassVar, Literal

import msgspec
from sqlalchemy import JSON, Column, Integer, MetaData, String, Table

from middlewared.kernel.errors import CallFailed, Refused
from middlewared.kernel.event import Event
from middlewared.kernel.facts import Node
from middlewared.kernel.tail import Tail
from middlewared.plugin import Command, Noun, Row

LOG_FORMAT = 2
"""The first log format in which the events of this noun may be written: an older build could not apply them."""
REASON_LIMIT = 1000
REFUSALS_LIMIT = 100

Fate = Literal["open", "reapplied", "discarded"]


# State


class Refusal(msgspec.Struct, frozen=True):
    """An event that was asked for again and refused."""

    seq: int
    reason: str


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a tail's events: how many of each. refusals: the first of those that were refused."""

    applied: int
    unchanged: int
    refused: int
    not_reapplicable: int
    refusals: tuple[Refusal, ...] = ()


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One tail. reason: why it was discarded. result: of reapplying it."""

    tail: Tail
    fate: Fate = "open"
    reason: str = ""
    result: Result | None = None


class Quarantine(msgspec.Struct, frozen=True, kw_only=True):
    """Every tail that was noted, in the order in which they were."""

    entries: tuple[Entry, ...] = ()

    def of(self, id_: str) -> Entry | None:
        return next((entry for entry in self.entries if entry.tail.id == id_), None)

    def digests(self, node: Node, *fates: Fate) -> frozenset[str]:
        """Of the tails that this controller cut, with one of these fates."""
        mine = (entry for entry in self.entries if entry.tail.node == node)
        return frozenset(entry.tail.digest for entry in mine if entry.fate in fates)


# Commands


class Note(Command, frozen=True, kw_only=True):
    """Have both controllers know of a tail."""

    noun: ClassVar[str] = "failover.quarantine"
    tail: Tail


class Conclude(Command, frozen=True, kw_only=True):
    """A tail's events were asked for again, and this became of them."""

    noun: ClassVar[str] = "failover.quarantine"
    id: str
    result: Result


class Discard(Command, frozen=True, kw_only=True):
    """Give a tail up."""

    noun: ClassVar[str] = "failover.quarantine"
    id: str
    reason: str


# Events


class Added(Event, frozen=True, kw_only=True):
    kind: ClassVar[str] = "failover.quarantine.added"
    since_format: ClassVar[tuple[int, ...]] = (2,)
    tail: Tail


class Reapplied(Event, frozen=True, kw_only=True):
    kind: ClassVar[str] = "failover.quarantine.reapplied"
    since_format: ClassVar[tuple[int, ...]] = (2,)
    id: str
    result: Result


class Discarded(Event, frozen=True, kw_only=True):
    kind: ClassVar[str] = "failover.quarantine.discarded"
    since_format: ClassVar[tuple[int, ...]] = (2,)
    id: str
    reason: str


# Rules


def decide(state: Quarantine, command: Note | Conclude | Discard) -> Sequence[Event]:
    """Raises Refused for a tail that is not known or a reason that is none, CallFailed for one that was decided about.

    No event where nothing changes.
    """
    if isinstance(command, Note):
        return [] if state.of(command.tail.id) is not None else [Added(tail=command.tail)]
    entry = state.of(command.id)
    if entry is None:
        raise Refused(("id", f"there is no tail {command.id} in quarantine", errno.ENOENT))
    if isinstance(command, Conclude):
        if entry.fate == "discarded":
            raise CallFailed(errno.EEXIST, f"{command.id} was discarded: {entry.reason}")
        return [Reapplied(id=command.id, result=command.result)] if entry.fate == "open" else []
    reason = command.reason.strip()
    if not 1 <= len(reason) <= REASON_LIMIT:
        raise Refused(("reason", f"must be given: 1-{REASON_LIMIT} characters that say why it is given up"))
    return [Discarded(id=command.id, reason=reason)] if entry.fate != "discarded" else []


def evolve(state: Quarantine, event: Added | Reapplied | Discarded) -> Quarantine:
    if isinstance(event, Added):
        return Quarantine(entries=(*state.entries, Entry(tail=event.tail)))
    return Quarantine(entries=tuple(_after(entry, event) for entry in state.entries))


def _after(entry: Entry, event: Reapplied | Discarded) -> Entry:
    if entry.tail.id != event.id:
        return entry
    if isinstance(event, Reapplied):
        return msgspec.structs.replace(entry, fate="reapplied", result=event.result)
    return msgspec.structs.replace(entry, fate="discarded", reason=event.reason)


# Projection

table = Table(
    "failover_quarantine",
    MetaData(),
    Column("number", Integer, primary_key=True),
    Column("id", String, nullable=False),
    Column("fate", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("tail", JSON, nullable=False),
    Column("result", JSON, nullable=False),
)


def project(state: Quarantine) -> list[Row]:
    return [
        {
            "number": number,
            "id": entry.tail.id,
            "fate": entry.fate,
            "reason": entry.reason,
            "tail": msgspec.to_builtins(entry.tail),
            "result": msgspec.to_builtins(entry.result),
        }
        for number, entry in enumerate(state.entries, 1)
    ]


def restore(rows: Sequence[Row]) -> Quarantine:
    return Quarantine(
        entries=tuple(
            msgspec.convert({k: v for k, v in row.items() if k not in ("number", "id")}, Entry)
            for row in sorted(rows, key=lambda row: msgspec.convert(row["number"], int))
        )
    )


NOUN = Noun(
    name="failover.quarantine",
    initial=Quarantine(),
    events=(Added, Reapplied, Discarded),
    decide=decide,
    evolve=evolve,
    table=table,
    project=project,
    restore=restore,
)
