"""One thing that the configuration knows: its state, commands, events, rules and rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

import msgspec
from sqlalchemy import Table

from middlewared.kernel.event import Casts, Event
from middlewared.kernel.secret import Sealed

S = TypeVar("S", bound=msgspec.Struct)

Row = dict[str, object]


class Command(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody asks for. Ids, salts, hashes and times are in it already: deciding makes nothing up."""

    noun: ClassVar[str]


class Rewrap(Command, frozen=True, kw_only=True):
    """Close secrets of any noun anew. envelopes: place in the noun -> (what it holds, what it shall hold)."""

    noun: str  # type: ignore[misc]  # it is every noun's, so the command names its own
    envelopes: dict[str, tuple[Sealed | str, Sealed]]

    def __repr__(self) -> str:
        return f"Rewrap(noun={self.noun!r}, envelopes={sorted(self.envelopes)})"


@dataclass(frozen=True, kw_only=True)
class Secrets(Generic[S]):
    """What of a noun's state is secret, by names that stay: `held` tells all of it, `replaced` puts others there.

    A str is a secret from before there were envelopes, and is closed by the next rewrap. An envelope is bound to the
    noun and the name under which `held` tells it.
    """

    held: Callable[[S], Mapping[str, Sealed | str]]
    replaced: Callable[[S, Mapping[str, Sealed]], S]


@dataclass(frozen=True, kw_only=True, eq=False)
class Noun(Generic[S]):
    """One thing that the configuration knows, and its whole life.

    name: the namespace (`network.configuration`); its events' kinds begin with it.
    initial: the state of a new system.
    decide: (state, command) -> events; raises Refused or CallFailed. evolve: (state, event) -> state.
    table: where it is projected; project: state -> rows; restore: rows -> state, its inverse. A column with
    info={"secret": True} is never shown.
    command_for: (state before the event, event) -> the command that asks for what the event said, None where there is
    none; by it what lies in quarantine can be asked for again. Without it the noun's events cannot.
    secrets: what of the state is secret; None: nothing is.
    """

    name: str
    initial: S
    events: tuple[type[Event], ...]
    decide: Callable[[S, Any], Sequence[Event]]
    evolve: Callable[[S, Any], S]
    table: Table
    project: Callable[[S], Sequence[Row]]
    restore: Callable[[Sequence[Row]], S]
    upcasts: Casts = field(default_factory=dict)
    downcasts: Casts = field(default_factory=dict)
    command_for: Callable[[S, Any], Command | None] | None = None
    secrets: Secrets[S] | None = None
