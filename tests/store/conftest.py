"""A small noun, and chains of records about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest
from sqlalchemy import JSON, Column, Integer, MetaData, String, Table

from middlewared.kernel.event import START, Catalogue, Event, Position, Record, Stamp, seal
from middlewared.plugin import Command, Noun, Row


class Shelf(msgspec.Struct, frozen=True, kw_only=True):
    """Named jars, each with what is in it."""

    jars: dict[str, tuple[int, ...]] = {}


class Filled(Event, frozen=True, kw_only=True):
    kind: ClassVar[str] = "shelf.jar.filled"
    name: str
    amount: int


class Broken(Event, frozen=True, kw_only=True):
    kind: ClassVar[str] = "shelf.jar.broken"
    name: str


def evolve(state: Shelf, event: Filled | Broken) -> Shelf:
    jars = dict(state.jars)
    if isinstance(event, Filled):
        jars[event.name] = (*jars.get(event.name, ()), event.amount)
    else:
        jars.pop(event.name, None)
    return Shelf(jars=jars)


table = Table(
    "shelf_jar",
    MetaData(),
    Column("name", String, primary_key=True),
    Column("count", Integer, nullable=False),
    Column("amounts", JSON, nullable=False),
)


def project(state: Shelf) -> Sequence[Row]:
    return [
        {"name": name, "count": len(amounts), "amounts": list(amounts)} for name, amounts in sorted(state.jars.items())
    ]


def restore(rows: Sequence[Row]) -> Shelf:
    return msgspec.convert({"jars": {str(row["name"]): row["amounts"] for row in rows}}, Shelf)


def decide(state: Shelf, command: Command) -> Sequence[Event]:
    raise NotImplementedError


NOUN: Noun[Shelf] = Noun(
    name="shelf",
    initial=Shelf(),
    events=(Filled, Broken),
    decide=decide,
    evolve=evolve,
    table=table,
    project=project,
    restore=restore,
)

Chain = Callable[..., list[Record]]


@pytest.fixture(scope="session")
def shelf() -> Noun[Shelf]:
    """A noun with one row a jar."""
    return NOUN


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    return Catalogue(NOUN.events)


@pytest.fixture(scope="session")
def chain() -> Chain:
    """chain(count, after=START, term=1, method=""): so many records, each filling one of five jars."""

    def make(count: int, after: Position = START, term: int = 1, method: str = "") -> list[Record]:
        records = []
        stamp = Stamp(
            term=term,
            origin="A",
            actor="admin",
            request_id="r-1",
            wall_ns=1_700_000_000_123_456_789,
            method=method,
        )
        for _ in range(count):
            record = seal(Filled(name=f"jar-{after.seq % 5}", amount=after.seq), after, stamp)
            records.append(record)
            after = record.position
        return records

    return make


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "log.db"
