"""The methods of `interface`: what there is, and how to edit it. How edits come into force: interface_trial.py."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from middlewared.kernel.errors import CallFailed, Refused
from middlewared.kernel.facts import FailoverGroup, HostLink, VipState
from middlewared.plugin import Call, ControllerFacts, command, query
from middlewared.plugin.filters import Filters, Options, pick

from . import interface, vip
from .interface_rules import Address, Interface, Virtual

Family = Literal["INET", "INET6"]
_TYPES = {"bond": "LINK_AGGREGATION", "bridge": "BRIDGE", "vlan": "VLAN"}


class Alias(msgspec.Struct, frozen=True, kw_only=True):
    """An address as clients know it. netmask: the length of its network's prefix."""

    type: Family
    address: str
    netmask: int


class VirtualAlias(msgspec.Struct, frozen=True, kw_only=True):
    """A virtual address: always a single one (netmask 32 or 128), with a VHID of its own."""

    type: Family
    address: str
    netmask: int
    vhid: int


class CarpConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A virtual address on the controller that answers. state: INIT, BACKUP or MASTER; the rest: see VipState."""

    vhid: int
    address: str
    state: str
    why: str
    advskew: int
    rivals: int
    conflicts: int
    rejected: dict[str, int]


class Stranger(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody else who was seen in the last ten seconds; see Sighting."""

    kind: str
    vhid: int
    address: str
    who: str
    how: str
    count: int


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What the kernel of the controller that answers says. tags: CriticalGroupN, Interlink."""

    name: str
    link_state: str
    link_address: str
    permanent_link_address: str
    mtu: int
    aliases: tuple[Alias, ...]
    carp_config: tuple[CarpConfig, ...]
    vrrp_config: tuple[CarpConfig, ...]
    strangers: tuple[Stranger, ...]
    tags: tuple[str, ...]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One interface. aliases: addresses of controller A; failover_aliases: of B; whichever of the two answers.

    The configuration is shown with the edits that wait for a commit; `state` is what is so now.
    """

    id: str
    name: str
    type: str
    description: str
    ipv4_dhcp: bool
    ipv6_auto: bool
    mtu: int | None
    aliases: tuple[Alias, ...]
    failover_aliases: tuple[Alias, ...]
    failover_virtual_aliases: tuple[VirtualAlias, ...]
    failover_critical: bool
    failover_group: int | None
    failover_vhid: int | None
    state: State


class AliasRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An address. netmask: prefix length; left out it is that of aliases, place by place. vhid: of a virtual one."""

    address: str
    netmask: int | UnsetType = UNSET
    type: Family | UnsetType = UNSET
    vhid: int | UnsetType = UNSET


class UpdateRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is left out stays."""

    name: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    ipv4_dhcp: bool | UnsetType = UNSET
    ipv6_auto: bool | UnsetType = UNSET
    mtu: int | UnsetType | None = UNSET
    aliases: tuple[AliasRequest, ...] | UnsetType = UNSET
    failover_aliases: tuple[AliasRequest, ...] | UnsetType = UNSET
    failover_virtual_aliases: tuple[AliasRequest, ...] | UnsetType = UNSET
    failover_critical: bool | UnsetType = UNSET
    failover_group: int | UnsetType | None = UNSET
    failover_vhid: int | UnsetType | None = UNSET


@query("interface.query", roles=("NETWORK_INTERFACE_READ",))
async def query_interfaces(call: Call, filters: Filters = [], options: Options = Options()) -> object:  # noqa: B006, B008
    """The interfaces of this system, with filters and options."""
    return pick([msgspec.to_builtins(entry) for entry in await _entries(call)], filters, options)


@query("interface.get_instance", roles=("NETWORK_INTERFACE_READ",))
async def get_instance(call: Call, id: str) -> Entry:  # noqa: A002
    """One interface, by its name."""
    return await _entry(call, id)


@query("interface.failover_groups", roles=("NETWORK_INTERFACE_READ",))
async def failover_groups(call: Call) -> list[FailoverGroup]:
    """The critical interfaces that are in force, by failover group."""
    return list(call.state(interface.NOUN).groups)


@command("interface.update", takes="interface_update", roles=("NETWORK_INTERFACE_WRITE",))
async def update(call: Call, id: str, interface_update: UpdateRequest) -> Entry:  # noqa: A002
    """Edit an interface. The edit waits for interface.commit; refused while failover is enabled."""
    await gate(call)
    link = await _link(call, id)
    if link is not None and link.interlink:
        raise CallFailed(errno.EPERM, f"{id} is the interlink: its address is in the boot file of each controller")
    _refuse_what_is_not_offered(id, interface_update)
    facts = call.controller.facts()
    foreign = {seen.vhid for seen in facts.sightings if seen.interface == id and seen.kind != "VIP_CONFLICT"}
    elsewhere = call.state(vip.NOUN).vip
    await call.execute(
        interface.Update(
            name=id,
            **_wanted(call, id, interface_update),
            paired=facts.paired,
            foreign=tuple(sorted(foreign)),
            elsewhere=(elsewhere,) if elsewhere is not None else (),
        )
    )
    return await _entry(call, id)


@command("interface.create", roles=("NETWORK_INTERFACE_WRITE",))
async def create(call: Call, interface_create: dict[str, Any]) -> Entry:
    """Always refused: there are no interfaces but those that the controllers have."""
    kind = interface_create.get("type", "any type")
    raise CallFailed(errno.EOPNOTSUPP, f"Interfaces of type {kind} are not made here: update one that both have")


@command("interface.delete", roles=("NETWORK_INTERFACE_WRITE",))
async def delete(call: Call, id: str) -> str:  # noqa: A002
    """Forget the configuration of an interface; it waits for interface.commit; refused while failover is enabled."""
    await gate(call)
    await _entry(call, id)
    await call.execute(interface.Delete(name=id))
    return id


METHODS = (query_interfaces, get_instance, failover_groups, update, create, delete)


async def gate(call: Call) -> None:
    """Raises CallFailed while the two controllers may take over from each other: addresses would change under that."""
    if not call.controller.facts().paired:
        return
    settings = msgspec.to_builtins(await call.query("failover.config"))
    if not settings["disabled"]:
        raise CallFailed(
            errno.EPERM,
            "Interfaces cannot be changed while failover is enabled: disable it with failover.update {disabled: true}"
            " and enable it again afterwards",
        )


# From the wire to the noun


def _refuse_what_is_not_offered(id_: str, request: UpdateRequest) -> None:
    problems = []
    if request.name not in (UNSET, id_):
        problems.append(("name", f"an interface keeps its name, {id_}"))
    problems += [
        (field, "addresses are given: the two controllers must know each other's")
        for field in ("ipv4_dhcp", "ipv6_auto")
        if getattr(request, field) is True
    ]
    virtual = () if request.failover_virtual_aliases is UNSET else request.failover_virtual_aliases
    problems += [
        (f"failover_virtual_aliases.{place}.vhid", "0 is not a virtual host id from 1 to 255")
        for place, alias in enumerate(virtual)
        if alias.vhid == 0
    ]
    if request.mtu not in (UNSET, None):
        problems.append(("mtu", "the MTU stays as the system has it"))
    if problems:
        raise Refused(*problems)


def _wanted(call: Call, id_: str, request: UpdateRequest) -> dict[str, Any]:
    """The fields of the command that the request names."""
    before = next((each for each in call.state(interface.NOUN).edited if each.name == id_), Interface(name=id_))
    plain = ("description", "failover_critical", "failover_group", "failover_vhid")
    fields = {name: value for name in plain if (value := getattr(request, name)) is not UNSET}
    own = before.aliases
    if request.aliases is not UNSET:
        own = fields["aliases"] = _addresses("aliases", request.aliases, ())
    if request.failover_aliases is not UNSET:
        fields["failover_aliases"] = _addresses("failover_aliases", request.failover_aliases, own)
    if request.failover_virtual_aliases is not UNSET:
        fields["failover_virtual_aliases"] = tuple(
            Virtual(address=alias.address, vhid=0 if alias.vhid is UNSET else alias.vhid)
            for alias in request.failover_virtual_aliases
        )
    return fields


def _addresses(field: str, requests: Sequence[AliasRequest], beside: Sequence[Address]) -> tuple[Address, ...]:
    found = []
    for place, request in enumerate(requests):
        prefix = request.netmask
        if prefix is UNSET:
            if place >= len(beside):
                raise Refused((f"{field}.{place}.netmask", "is required"))
            prefix = beside[place].prefix
        found.append(Address(address=request.address, prefix=prefix))
    return tuple(found)


# From the noun to the wire


async def _link(call: Call, id_: str) -> HostLink | None:
    """The interface as the kernel has it; None where only the configuration knows it. Raises CallFailed ENOENT."""
    link = next((link for link in await call.host.interfaces() if link.name == id_), None)
    if link is None and all(each.name != id_ for each in call.state(interface.NOUN).edited):
        raise CallFailed(errno.ENOENT, f"Interface {id_} does not exist")
    return link


async def _entry(call: Call, id_: str) -> Entry:
    await _link(call, id_)
    return next(entry for entry in await _entries(call) if entry.id == id_)


async def _entries(call: Call) -> list[Entry]:
    links = {link.name: link for link in await call.host.interfaces()}
    state = call.state(interface.NOUN)
    configured = {each.name: each for each in state.edited}
    facts = call.controller.facts()
    return [
        _told(configured.get(name, Interface(name=name)), links.get(name), state, facts)
        for name in sorted(links.keys() | configured.keys())
    ]


def _told(wanted: Interface, link: HostLink | None, state: interface.Interfaces, facts: ControllerFacts) -> Entry:
    return Entry(
        id=wanted.name,
        name=wanted.name,
        type=_TYPES.get(link.kind, "PHYSICAL") if link is not None else "PHYSICAL",
        description=wanted.description,
        ipv4_dhcp=False,
        ipv6_auto=False,
        mtu=None,
        aliases=_aliases(wanted.aliases),
        failover_aliases=_aliases(wanted.failover_aliases),
        failover_virtual_aliases=tuple(
            VirtualAlias(type=_family(each.address), address=each.address, netmask=_bits(each.address), vhid=each.vhid)
            for each in wanted.virtual_aliases
        ),
        failover_critical=wanted.critical,
        failover_group=wanted.group,
        failover_vhid=wanted.virtual_aliases[0].vhid if wanted.virtual_aliases else None,
        state=_state(wanted.name, link, state, facts),
    )


def _state(name: str, link: HostLink | None, state: interface.Interfaces, facts: ControllerFacts) -> State:
    carp = tuple(_carp(each) for each in facts.vips if each.interface == name)
    strangers = (msgspec.to_builtins(each) for each in facts.sightings if each.interface == name)
    tags = [f"CriticalGroup{group.number}" for group in state.groups if name in group.interfaces]
    if link is not None and link.interlink:
        tags.append("Interlink")
    up = "UNKNOWN" if link is None else "UP" if link.carrier else "DOWN"
    return State(
        name=name,
        link_state=f"LINK_STATE_{up}",
        link_address=link.mac if link is not None else "",
        permanent_link_address=link.mac if link is not None else "",
        mtu=link.mtu if link is not None else 0,
        aliases=_live(link),
        carp_config=carp,
        vrrp_config=carp,
        strangers=tuple(msgspec.convert(each, Stranger) for each in strangers),
        tags=tuple(tags),
    )


def _carp(vip: VipState) -> CarpConfig:
    return CarpConfig(
        vhid=vip.vhid,
        address=vip.address,
        state=vip.state,
        why=vip.why,
        advskew=vip.advskew,
        rivals=vip.rivals,
        conflicts=vip.conflicts,
        rejected=vip.rejected_by,
    )


def _live(link: HostLink | None) -> tuple[Alias, ...]:
    addresses = link.addresses if link is not None else ()
    return tuple(Alias(type=_family(address), address=address, netmask=prefix) for address, prefix in addresses)


def _aliases(addresses: Sequence[Address]) -> tuple[Alias, ...]:
    return tuple(Alias(type=_family(each.address), address=each.address, netmask=each.prefix) for each in addresses)


def _family(address: str) -> Family:
    return "INET6" if ":" in address else "INET"


def _bits(address: str) -> int:
    return 128 if ":" in address else 32
