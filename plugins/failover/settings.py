"""`failover`: whether the controllers may take over from each other, who is the default, how long a lost network lasts.

On the wire `master` means "the controller that answers is the default"; stored is which of the two it is, so that both
controllers apply the same event.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import Boolean, Column, Integer, MetaData, String, Table

from middlewared.kernel.errors import Refused
from middlewared.kernel.event import Event
from middlewared.kernel.facts import Node
from middlewared.plugin import Command, Noun, Row

TIMEOUT_MAX_S = 120
NOT_CRITICAL = (
    "no interface is critical, and none has a virtual address: nothing could fail over. Give one a virtual address "
    "first, by interface.update and interface.commit, or by network.vip.update"
)


# State


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    disabled: bool = False
    default_node: Node = "A"
    timeout_s: int = 0


# Commands


class Update(Command, frozen=True, kw_only=True):
    """Change what is given; what is left out stays. critical: some interface is critical, or has a virtual address."""

    noun: ClassVar[str] = "failover"
    disabled: bool | UnsetType = UNSET
    default_node: Node | UnsetType = UNSET
    timeout_s: int | UnsetType = UNSET
    critical: bool = True


# Events


class Updated(Event, frozen=True, kw_only=True):
    kind: ClassVar[str] = "failover.settings.updated"
    disabled: bool
    default_node: Node
    timeout_s: int


# Rules


def decide(state: Settings, command: Update) -> Sequence[Event]:
    """Raises Refused for a timeout out of range, or where nothing could fail over. No event where nothing changes."""
    if command.timeout_s is not UNSET and not 0 <= command.timeout_s <= TIMEOUT_MAX_S:
        raise Refused(("timeout", f"{command.timeout_s} is not a number of seconds from 0 to {TIMEOUT_MAX_S}"))
    asked = {name: getattr(command, name) for name in Settings.__struct_fields__}
    wanted = msgspec.structs.replace(state, **{name: value for name, value in asked.items() if value is not UNSET})
    if state.disabled and not wanted.disabled and not command.critical:
        raise Refused(("disabled", NOT_CRITICAL))
    return [Updated(**msgspec.structs.asdict(wanted))] if wanted != state else []


def evolve(_: Settings, event: Updated) -> Settings:
    return Settings(disabled=event.disabled, default_node=event.default_node, timeout_s=event.timeout_s)


def command_for(state: Settings, event: Updated) -> Update:
    """Ask for what the event changed."""
    told = msgspec.structs.asdict(event)
    return Update(**{name: value for name, value in told.items() if value != getattr(state, name)})


# Projection

table = Table(
    "failover_settings",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("disabled", Boolean, nullable=False),
    Column("default_node", String, nullable=False),
    Column("timeout_s", Integer, nullable=False),
)


def project(state: Settings) -> list[Row]:
    return [{"id": 1, **msgspec.to_builtins(state)}]


def restore(rows: Sequence[Row]) -> Settings:
    return msgspec.convert({k: v for k, v in rows[0].items() if k != "id"}, Settings) if rows else Settings()


NOUN = Noun(
    name="failover",
    initial=Settings(),
    events=(Updated,),
    decide=decide,
    evolve=evolve,
    table=table,
    project=project,
    restore=restore,
    command_for=command_for,
)
