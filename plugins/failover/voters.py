"""`failover.voters`: which shared disks grant terms, by serial.

Until somebody names them, the boot file's do. A change takes two steps, each an event: both sets vote, then the new one
alone, once both controllers have taken the first step up (docs/voters.md). Naming the old set while both vote takes the
change back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec
from sqlalchemy import Column, Integer, MetaData, String, Table

from middlewared.kernel.errors import Refused
from middlewared.kernel.event import Event
from middlewared.kernel.facts import Voting
from middlewared.plugin import Command, Noun, Row

LOG_FORMAT = 3
COUNTS = (3, 5)
UNSET = Voting(number=0, sets=())

# Commands


class Change(Command, frozen=True, kw_only=True):
    """Let `new` vote instead of `old`, which votes now. number: of the configuration in which both do."""

    noun: ClassVar[str] = "failover.voters"
    number: int
    old: tuple[str, ...]
    new: tuple[str, ...]


class Settle(Command, frozen=True, kw_only=True):
    """Both controllers have taken up that both sets vote, which has the number `of`: the new one votes alone."""

    noun: ClassVar[str] = "failover.voters"
    of: int
    number: int


# Events


class Updated(Event, frozen=True, kw_only=True):
    kind: ClassVar[str] = "failover.voters.updated"
    since_format: ClassVar[tuple[int, ...]] = (LOG_FORMAT,)
    number: int
    sets: tuple[tuple[str, ...], ...]


# Rules


def decide(state: Voting, command: Change | Settle) -> Sequence[Event]:
    """Raises Refused for a set that cannot vote, and while another change is under way."""
    if isinstance(command, Settle):
        if state.number != command.of or len(state.sets) != 2:
            return []
        return [Updated(number=max(command.number, state.number + 1), sets=(state.sets[1],))]
    _check(command.new)
    number = max(command.number, state.number + 1)
    if len(state.sets) == 2:
        if set(command.new) != set(state.sets[0]):
            raise Refused(("disks", "a change of the voters is under way; only the old ones may be named, to undo it"))
        return [Updated(number=number, sets=(state.sets[0],))]
    old = state.sets[0] if state.sets else command.old
    return [] if set(command.new) == set(old) else [Updated(number=number, sets=(old, command.new))]


def _check(disks: Sequence[str]) -> None:
    if len(set(disks)) != len(disks):
        raise Refused(("disks", "a disk that is named twice would vote twice"))
    if len(disks) not in COUNTS:
        raise Refused(("disks", f"must be 3 or 5 shared disks, not {len(disks)}"))


def evolve(_: Voting, event: Updated) -> Voting:
    return Voting(number=event.number, sets=event.sets)


# Projection

table = Table(
    "failover_voter",
    MetaData(),
    Column("in_set", Integer, primary_key=True),
    Column("place", Integer, primary_key=True),
    Column("serial", String, nullable=False),
    Column("number", Integer, nullable=False),
)


def project(state: Voting) -> list[Row]:
    return [
        {"in_set": in_set, "place": place, "serial": serial, "number": state.number}
        for in_set, names in enumerate(state.sets)
        for place, serial in enumerate(names)
    ]


def restore(rows: Sequence[Row]) -> Voting:
    if not rows:
        return UNSET
    ordered = sorted(rows, key=lambda row: (row["in_set"], row["place"]))
    count = 1 + max(int(str(row["in_set"])) for row in rows)
    sets = tuple(tuple(str(row["serial"]) for row in ordered if row["in_set"] == number) for number in range(count))
    return msgspec.convert({"number": ordered[0]["number"], "sets": sets}, Voting)


NOUN = Noun(
    name="failover.voters",
    initial=UNSET,
    events=(Updated,),
    decide=decide,
    evolve=evolve,
    table=table,
    project=project,
    restore=restore,
)
