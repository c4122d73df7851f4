"""What the simulated clients change: a few registers, each set by one command, two at once by another, or swapped.

`Swap` is refused where the register does not hold what the client believes: its answer tells what was seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec
from sqlalchemy import Column, MetaData, String, Table

from middlewared.kernel.errors import Refused
from middlewared.kernel.event import Event
from middlewared.plugin import Command, Noun, Plugin, Row

KEYS = ("a", "b", "c")


class Registers(msgspec.Struct, frozen=True, kw_only=True):
    """values: key -> text; a key that was never set holds the empty text."""

    values: tuple[tuple[str, str], ...] = ()

    def of(self, key: str) -> str:
        return dict(self.values).get(key, "")


class Put(Command, frozen=True, kw_only=True):
    """Set every one of `keys`, all or none."""

    noun: ClassVar[str] = "sim.register"
    keys: tuple[str, ...]
    value: str


class Swap(Command, frozen=True, kw_only=True):
    """Set `key` where it holds `old`; refused where it holds anything else."""

    noun: ClassVar[str] = "sim.register"
    key: str
    old: str
    value: str


class WasPut(Event, frozen=True, kw_only=True):
    """old: what the register held when it was decided."""

    kind: ClassVar[str] = "sim.register.put"
    key: str
    old: str
    value: str


def decide(state: Registers, command: Put | Swap) -> Sequence[Event]:
    """Raises Refused for a swap whose `old` is not there."""
    if isinstance(command, Put):
        return [WasPut(key=key, old=state.of(key), value=command.value) for key in command.keys]
    if state.of(command.key) != command.old:
        raise Refused(("old", f"{command.key} holds {state.of(command.key)!r}"))
    return [WasPut(key=command.key, old=command.old, value=command.value)]


def evolve(state: Registers, event: WasPut) -> Registers:
    return Registers(values=tuple(sorted({**dict(state.values), event.key: event.value}.items())))


table = Table(
    "sim_register", MetaData(), Column("key", String, primary_key=True), Column("value", String, nullable=False)
)


def project(state: Registers) -> list[Row]:
    return [{"key": key, "value": value} for key, value in state.values]


def restore(rows: Sequence[Row]) -> Registers:
    return Registers(values=tuple(sorted((str(row["key"]), str(row["value"])) for row in rows)))


NOUN = Noun(
    name="sim.register",
    initial=Registers(),
    events=(WasPut,),
    decide=decide,
    evolve=evolve,
    table=table,
    project=project,
    restore=restore,
)

plugin = Plugin(name="sim", nouns=(NOUN,))
