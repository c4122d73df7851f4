"""A tail that was cut from a log: what it is called, and what is known of it without reading it whole."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from middlewared.kernel.event import Record
from middlewared.kernel.facts import Node

NAMES_LIMIT = 64
"""How many different terms, kinds and actors are told of one tail; the counts are of all."""


class Tail(msgspec.Struct, frozen=True, kw_only=True):
    """node: the controller whose log it was. digest: SHA-256 of its quarantine file. first, last: seqs; n: records.

    answered: of how many it is known that somebody was told ok, at level single; None where it was not noted. Of the
    last moments before a power loss it may not be known. A record that was answered at level pair is never cut.
    at_ns: when it was cut; since_ns, until_ns: of the first and last record; of wall clocks, for display.
    kinds: how many events of each.
    """

    node: Node
    digest: str
    first: int
    last: int
    n: int
    at_ns: int
    answered: int | None = None
    since_ns: int = 0
    until_ns: int = 0
    terms: tuple[int, ...] = ()
    kinds: dict[str, int] = {}
    actors: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return f"{self.node}-{self.digest[:16]}"


class Page(msgspec.Struct, frozen=True):
    """Some records of a tail, and where the next ones begin; None: these are the last."""

    records: tuple[Record, ...]
    next: int | None


def described(tail: Tail, records: Iterable[Record]) -> Tail:
    """The same tail, with what its records say."""
    terms: dict[int, None] = {}
    actors: dict[str, None] = {}
    kinds: dict[str, int] = {}
    times: list[int] = []
    for record in records:
        _note(terms, record.term)
        _note(actors, record.actor)
        if record.kind in kinds or len(kinds) < NAMES_LIMIT:
            kinds[record.kind] = kinds.get(record.kind, 0) + 1
        times = [*times[:1], record.wall_ns]
    return msgspec.structs.replace(
        tail,
        since_ns=times[0] if times else 0,
        until_ns=times[-1] if times else 0,
        terms=tuple(terms),
        kinds=kinds,
        actors=tuple(actors),
    )


def _note(names: dict[Any, None], name: object) -> None:
    if len(names) < NAMES_LIMIT:
        names.setdefault(name)
