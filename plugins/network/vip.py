"""`network.vip`: the virtual address that follows the active controller."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import Column, Integer, MetaData, String, Table

from middlewared.kernel.errors import Refused
from middlewared.kernel.event import Event
from middlewared.kernel.facts import Vip
from middlewared.plugin import Command, Noun, Row

from .interface_rules import NAME, bits_of

# State


class VirtualAddress(msgspec.Struct, frozen=True, kw_only=True):
    """vip None: there is none."""

    vip: Vip | None = None


# Commands


class Update(Command, frozen=True, kw_only=True):
    """Set the address. What is left out stays; the first time everything but the prefix must be given.

    A prefix that was never given, or was one of the other family, is that of a single address.
    """

    noun: ClassVar[str] = "network.vip"
    address: str | UnsetType = UNSET
    prefix: int | UnsetType = UNSET
    interface: str | UnsetType = UNSET
    vhid: int | UnsetType = UNSET


class Delete(Command, frozen=True, kw_only=True):
    """Have no virtual address."""

    noun: ClassVar[str] = "network.vip"


# Events


class Updated(Event, frozen=True, kw_only=True):
    kind: ClassVar[str] = "network.vip.updated"
    vip: Vip


class Deleted(Event, frozen=True, kw_only=True):
    kind: ClassVar[str] = "network.vip.deleted"


# Rules


def decide(state: VirtualAddress, command: Update | Delete) -> Sequence[Event]:
    """Raises Refused with every field that is wrong. No event where nothing changes."""
    if isinstance(command, Delete):
        return [Deleted()] if state.vip is not None else []
    wanted = _merged(state.vip, command)
    problems = list(_problems(wanted))
    if problems:
        raise Refused(*problems)
    vip = msgspec.convert(wanted, Vip)
    return [Updated(vip=vip)] if vip != state.vip else []


def evolve(state: VirtualAddress, event: Updated | Deleted) -> VirtualAddress:
    return VirtualAddress(vip=event.vip if isinstance(event, Updated) else None)


def command_for(_: VirtualAddress, event: Updated | Deleted) -> Update | Delete:
    """Ask for what the event said, whole: an address and its group belong together."""
    if isinstance(event, Deleted):
        return Delete()
    return Update(**msgspec.structs.asdict(event.vip))


def _merged(vip: Vip | None, command: Update) -> dict[str, object]:
    before = msgspec.structs.asdict(vip) if vip is not None else {}
    given = {name: value for name, value in msgspec.structs.asdict(command).items() if value is not UNSET}
    merged = before | given
    six = ":" in str(merged.get("address"))
    if "prefix" not in given and (vip is None or six != (":" in vip.address)):
        merged["prefix"] = 128 if six else 32
    return merged


def _problems(wanted: dict[str, object]) -> Iterator[tuple[str, str]]:
    for name in ("address", "interface", "vhid"):
        if name not in wanted:
            yield name, "must be given for a first virtual address"
    bits = bits_of(str(wanted.get("address")))
    if "address" in wanted and bits is None:
        yield "address", f"{wanted['address']!r} is not the IP address of one controller"
    prefix, vhid = wanted.get("prefix"), wanted.get("vhid")
    if bits is not None and isinstance(prefix, int) and not 0 < prefix <= bits:
        yield "prefix", f"{prefix} is not a prefix length from 1 to {bits}"
    if isinstance(vhid, int) and not 1 <= vhid <= 255:
        yield "vhid", f"{vhid} is not a virtual host id from 1 to 255"
    if "interface" in wanted and not NAME.fullmatch(str(wanted["interface"])):
        yield "interface", f"{wanted['interface']!r} is not the name of an interface"


# Projection

table = Table(
    "network_vip",
    MetaData(),
    Column("vhid", Integer, primary_key=True),
    Column("address", String, nullable=False),
    Column("prefix", Integer, nullable=False),
    Column("interface", String, nullable=False),
)


def project(state: VirtualAddress) -> list[Row]:
    return [msgspec.to_builtins(state.vip)] if state.vip is not None else []


def restore(rows: Sequence[Row]) -> VirtualAddress:
    return VirtualAddress(vip=msgspec.convert(rows[0], Vip) if rows else None)


NOUN = Noun(
    name="network.vip",
    initial=VirtualAddress(),
    events=(Updated, Deleted),
    decide=decide,
    evolve=evolve,
    table=table,
    project=project,
    restore=restore,
    command_for=command_for,
)
