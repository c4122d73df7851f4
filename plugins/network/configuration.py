"""`network.configuration`: names, name servers and default gateways of the pair.

Each controller has a host name of its own; everything else is common. `hostname` is controller A's on the wire and
`hostname_b` controller B's, whichever of them answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from typing import ClassVar

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import JSON, Column, Integer, MetaData, String, Table

from middlewared.kernel.errors import Refused
from middlewared.kernel.event import Event
from middlewared.kernel.facts import PerNode
from middlewared.plugin import Command, Noun, Row

# RFC 1123, section 2.1, and RFC 1035, section 2.3.4.
_LABEL = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?")


# State


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """Empty text means: not set."""

    hostnames: PerNode = PerNode(A="controller-a", B="controller-b")
    hostname_virtual: str = ""
    domain: str = "local"
    domains: tuple[str, ...] = ()
    nameserver1: str = ""
    nameserver2: str = ""
    nameserver3: str = ""
    ipv4gateway: str = ""
    ipv6gateway: str = ""
    hosts: tuple[str, ...] = ()

    @property
    def nameservers(self) -> tuple[str, ...]:
        return tuple(x for x in (self.nameserver1, self.nameserver2, self.nameserver3) if x)

    @property
    def search(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(x for x in (self.domain, *self.domains) if x))


# Commands


class Update(Command, frozen=True, kw_only=True):
    """Change what is given; what is left out stays."""

    noun: ClassVar[str] = "network.configuration"
    hostname: str | UnsetType = UNSET
    hostname_b: str | UnsetType = UNSET
    hostname_virtual: str | UnsetType = UNSET
    domain: str | UnsetType = UNSET
    domains: tuple[str, ...] | UnsetType = UNSET
    nameserver1: str | UnsetType = UNSET
    nameserver2: str | UnsetType = UNSET
    nameserver3: str | UnsetType = UNSET
    ipv4gateway: str | UnsetType = UNSET
    ipv6gateway: str | UnsetType = UNSET
    hosts: tuple[str, ...] | UnsetType = UNSET


# Events


class Updated(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The fields that changed, with their new values."""

    kind: ClassVar[str] = "network.configuration.updated"
    hostnames: PerNode | UnsetType = UNSET
    hostname_virtual: str | UnsetType = UNSET
    domain: str | UnsetType = UNSET
    domains: tuple[str, ...] | UnsetType = UNSET
    nameserver1: str | UnsetType = UNSET
    nameserver2: str | UnsetType = UNSET
    nameserver3: str | UnsetType = UNSET
    ipv4gateway: str | UnsetType = UNSET
    ipv6gateway: str | UnsetType = UNSET
    hosts: tuple[str, ...] | UnsetType = UNSET


# Rules


def decide(state: Configuration, command: Update) -> Sequence[Event]:
    """Raises Refused with every field that is wrong. No event where nothing changes."""
    problems = list(_problems(command))
    if problems:
        raise Refused(*problems)
    wanted = _given(command)
    hostnames = PerNode(
        A=str(wanted.pop("hostname", state.hostnames.A)), B=str(wanted.pop("hostname_b", state.hostnames.B))
    )
    wanted["hostnames"] = hostnames
    changed = {name: value for name, value in wanted.items() if value != getattr(state, name)}
    return [msgspec.structs.replace(Updated(), **changed)] if changed else []


def evolve(state: Configuration, event: Updated) -> Configuration:
    return msgspec.structs.replace(state, **_given(event))


def command_for(state: Configuration, event: Updated) -> Update:
    """Ask for what the event said; of the host names for the one that it changed."""
    given = _given(event)
    hostnames = given.pop("hostnames", state.hostnames)
    assert isinstance(hostnames, PerNode)
    for name, mine, before in (
        ("hostname", hostnames.A, state.hostnames.A),
        ("hostname_b", hostnames.B, state.hostnames.B),
    ):
        if mine != before:
            given[name] = mine
    return msgspec.structs.replace(Update(), **given)


def _given(struct: msgspec.Struct) -> dict[str, object]:
    """The fields that are set."""
    return {name: value for name in struct.__struct_fields__ if (value := getattr(struct, name)) is not UNSET}


def _problems(command: Update) -> Iterator[tuple[str, str]]:
    for name, value in _given(command).items():
        if isinstance(value, tuple):
            faults = (_wrong(name, item) for item in value)
            yield from ((f"{name}.{i}", fault) for i, fault in enumerate(faults) if fault)
        elif isinstance(value, str) and (fault := _wrong(name, value)):
            yield name, fault


def _wrong(name: str, text: str) -> str | None:
    """What is wrong with one text of the field `name`."""
    match name:
        case "hostname" | "hostname_b":
            return None if _LABEL.fullmatch(text) else _name_fault(text)
        case "hostname_virtual":
            return None if not text or _LABEL.fullmatch(text) else _name_fault(text)
        case "domain" | "domains":
            labels = text.split(".")
            return None if not text or all(map(_LABEL.fullmatch, labels)) else f"{text!r} is not a domain name"
        case "hosts":
            return _wrong_hosts_line(text)
        case "ipv4gateway":
            return _wrong_address(text, (4,))
        case "ipv6gateway":
            return _wrong_address(text, (6,))
        case _:
            return _wrong_address(text, (4, 6))


def _name_fault(text: str) -> str:
    return f"{text!r} is not a host name: 1-63 letters, digits and hyphens, no hyphen at either end"


def _wrong_address(text: str, versions: tuple[int, ...]) -> str | None:
    if not text:
        return None
    kind = "IPv4" if versions == (4,) else "IPv6" if versions == (6,) else "IP"
    try:
        # ipaddress lets anything stand after the % of a scope, a line break as well.
        right = text.isascii() and text.isprintable() and " " not in text and ip_address(text).version in versions
    except ValueError:
        right = False
    return None if right else f"{text!r} is not an {kind} address"


def _wrong_hosts_line(text: str) -> str | None:
    address, *names = text.partition("#")[0].split() or [""]
    if _wrong_address(address, (4, 6)) or not address:
        return f"{text!r} does not begin with an IP address"
    if not names or not text.replace("\t", " ").isprintable():
        return f"{text!r} must be one line: an address and at least one name"
    return None


# Projection

table = Table(
    "network_configuration",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("hostname_a", String, nullable=False),
    Column("hostname_b", String, nullable=False),
    Column("hostname_virtual", String, nullable=False),
    Column("domain", String, nullable=False),
    Column("domains", JSON, nullable=False),
    Column("nameserver1", String, nullable=False),
    Column("nameserver2", String, nullable=False),
    Column("nameserver3", String, nullable=False),
    Column("ipv4gateway", String, nullable=False),
    Column("ipv6gateway", String, nullable=False),
    Column("hosts", JSON, nullable=False),
)


def project(state: Configuration) -> list[Row]:
    row = msgspec.to_builtins(state)
    hostnames = row.pop("hostnames")
    return [{"id": 1, "hostname_a": hostnames["A"], "hostname_b": hostnames["B"], **row}]


def restore(rows: Sequence[Row]) -> Configuration:
    if not rows:
        return Configuration()
    row = {name: value for name, value in rows[0].items() if name != "id"}
    row["hostnames"] = {"A": row.pop("hostname_a"), "B": row.pop("hostname_b")}
    return msgspec.convert(row, Configuration)


NOUN = Noun(
    name="network.configuration",
    initial=Configuration(),
    events=(Updated,),
    decide=decide,
    evolve=evolve,
    table=table,
    project=project,
    restore=restore,
    command_for=command_for,
)
