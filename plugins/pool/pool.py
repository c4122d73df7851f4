"""`pool`: which pools the pair has. What they are like at this moment only ZFS knows, on the controller that has them.

A pool is here from the moment that it was made, or imported, until it is exported for good: whoever becomes active
imports just these, by their guids.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

import msgspec
from sqlalchemy import JSON, Column, Integer, MetaData, String, Table

from middlewared.kernel.errors import Refused
from middlewared.kernel.event import Event
from middlewared.plugin import Command, Noun, Row

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,49}")
_RESERVED = re.compile(r"mirror|raidz|draid|spare|log$|c[0-9]")


# State


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """id: for clients. guid: decimal, by which it is imported. disks: serial numbers, as the pool was made of."""

    id: int
    name: str
    guid: str
    disks: tuple[str, ...]


class Pools(msgspec.Struct, frozen=True, kw_only=True):
    """By id."""

    pools: tuple[Pool, ...] = ()

    def named(self, name: str) -> Pool | None:
        return next((pool for pool in self.pools if pool.name == name), None)


# Commands


class Add(Command, frozen=True, kw_only=True):
    """Have a pool that exists on the disks."""

    noun: ClassVar[str] = "pool"
    name: str
    guid: str
    disks: tuple[str, ...]


class Remove(Command, frozen=True, kw_only=True):
    """Have it no longer; what is on its disks stays."""

    noun: ClassVar[str] = "pool"
    guid: str


# Events


class Added(Event, frozen=True, kw_only=True):
    kind: ClassVar[str] = "pool.added"
    since_format: ClassVar[tuple[int, ...]] = (3,)
    pool: Pool


class Removed(Event, frozen=True, kw_only=True):
    kind: ClassVar[str] = "pool.removed"
    since_format: ClassVar[tuple[int, ...]] = (3,)
    guid: str


# Rules


def why_no_name(name: str) -> str | None:
    """What is wrong with the name of a pool; None where nothing is."""
    if not _NAME.fullmatch(name):
        return f"{name!r} is not a name of a pool: a letter, then at most 49 letters, digits, _ . : or -"
    if _RESERVED.match(name):
        return f"{name!r} begins with a word that ZFS keeps for parts of a pool"
    return None


def decide(state: Pools, command: Add | Remove) -> Sequence[Event]:
    """Raises Refused for a pool whose name or guid is there already. No event where there is nothing to remove."""
    if isinstance(command, Remove):
        return [Removed(guid=command.guid)] if any(pool.guid == command.guid for pool in state.pools) else []
    why = why_no_name(command.name)
    if why is None and state.named(command.name) is not None:
        why = f"there is a pool {command.name} already"
    problems = [("name", why)] if why is not None else []
    if any(pool.guid == command.guid for pool in state.pools):
        problems.append(("guid", f"pool {command.guid} is there already"))
    if problems:
        raise Refused(*problems)
    number = 1 + max((pool.id for pool in state.pools), default=0)
    return [Added(pool=Pool(id=number, name=command.name, guid=command.guid, disks=command.disks))]


def evolve(state: Pools, event: Added | Removed) -> Pools:
    if isinstance(event, Added):
        return Pools(pools=(*state.pools, event.pool))
    return Pools(pools=tuple(pool for pool in state.pools if pool.guid != event.guid))


# Projection

table = Table(
    "pool",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("name", String, nullable=False),
    Column("guid", String, nullable=False),
    Column("disks", JSON, nullable=False),
)


def project(state: Pools) -> list[Row]:
    return [msgspec.to_builtins(pool) for pool in state.pools]


def restore(rows: Sequence[Row]) -> Pools:
    return Pools(pools=tuple(sorted((msgspec.convert(row, Pool) for row in rows), key=lambda pool: pool.id)))


# A tail that lies in quarantine is asked for again without its pools: an owner serves only with all of them, and only
# somebody who looks at the disks can say whether what was made or exported then is still so. Hence no command_for.
NOUN = Noun(
    name="pool",
    initial=Pools(),
    events=(Added, Removed),
    decide=decide,
    evolve=evolve,
    table=table,
    project=project,
    restore=restore,
)
