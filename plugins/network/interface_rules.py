"""One interface, and what must be so of it: alone, beside the others, and with two controllers.

Fields are refused under the names that clients know. The rules are those of the page: as many addresses on each
controller as there are virtual ones; a critical interface is in a group and has a VIP; one VHID for each VIP, used by
nobody else on the network; no two interfaces in one network.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_interface

import msgspec

from middlewared.kernel.facts import Vip

GROUP_MAX = 32
VHID_MAX = 255
_FIRST_FREE_VHID = 21
"""Lower ones are what routers are given by hand."""

# What the kernel accepts: up to 15 bytes, no slash, no colon, no white space, and not a directory's own name.
NAME = re.compile(r"(?!\.\.?$)[!-.0-9;-~]{1,15}")

Fault = tuple[str, str]


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """An address of one controller, with the length of its network's prefix."""

    address: str
    prefix: int


class Virtual(msgspec.Struct, frozen=True, kw_only=True):
    """A virtual address. vhid 0: not chosen yet."""

    address: str
    vhid: int = 0


class Interface(msgspec.Struct, frozen=True, kw_only=True):
    """aliases: of controller A; failover_aliases: of B; virtual_aliases: of whichever is active. Place by place."""

    name: str
    aliases: tuple[Address, ...] = ()
    failover_aliases: tuple[Address, ...] = ()
    virtual_aliases: tuple[Virtual, ...] = ()
    critical: bool = False
    group: int | None = None
    description: str = ""

    @property
    def vips(self) -> tuple[Vip, ...]:
        """A VIP answers the network of the addresses in its place."""
        return tuple(
            Vip(vhid=virtual.vhid, address=virtual.address, prefix=own.prefix, interface=self.name)
            for virtual, own in zip(self.virtual_aliases, self.aliases, strict=True)
        )


FIELDS = (
    "aliases",
    "failover_aliases",
    "failover_virtual_aliases",
    "failover_vhid",
    "failover_critical",
    "failover_group",
    "description",
)
"""What an update may name."""
_ATTRIBUTE = {
    "failover_virtual_aliases": "virtual_aliases",
    "failover_critical": "critical",
    "failover_group": "group",
}


def merged(
    before: Interface,
    given: Mapping[str, object],
    others: Sequence[Interface],
    foreign: Collection[int],
    elsewhere: Sequence[Vip],
) -> Interface:
    """The interface with the given fields changed; each virtual address has the VHID that it had, or a free one."""
    fields = {_ATTRIBUTE.get(name, name): value for name, value in given.items() if name != "failover_vhid"}
    wanted = msgspec.structs.replace(before, **fields)
    had = {virtual.address: virtual.vhid for virtual in before.virtual_aliases}
    first = given.get("failover_vhid")
    used = {vip.vhid for other in others for vip in other.virtual_aliases} | {*foreign}
    used |= {vip.vhid for vip in elsewhere} | {virtual.vhid for virtual in wanted.virtual_aliases}
    used |= {had[virtual.address] for virtual in wanted.virtual_aliases if virtual.address in had}
    chosen = []
    for place, virtual in enumerate(wanted.virtual_aliases):
        if place == 0 and isinstance(first, int):
            vhid = first
        else:
            free = (n for n in range(_FIRST_FREE_VHID, VHID_MAX + 1) if n not in used)
            vhid = virtual.vhid or had.get(virtual.address) or next(free, 0)
        used.add(vhid)
        chosen.append(Virtual(address=virtual.address, vhid=vhid))
    return msgspec.structs.replace(wanted, virtual_aliases=tuple(chosen))


def problems(
    wanted: Interface, others: Sequence[Interface], foreign: Collection[int], elsewhere: Sequence[Vip], *, paired: bool
) -> Iterator[Fault]:
    """Everything that is wrong with an interface."""
    if not NAME.fullmatch(wanted.name):
        yield "name", f"{wanted.name!r} is not the name of an interface"
    if len(wanted.description) > 200 or not (wanted.description.isprintable() or not wanted.description):
        yield "description", "must be one line of at most 200 characters"
    yield from _failover(wanted)
    wrong = [*_addresses(wanted), *_counts(wanted, paired=paired)]
    yield from wrong
    if not wrong:
        yield from _families(wanted)
        yield from _shared(wanted, others, elsewhere)
        yield from _vhids(wanted, others, foreign, elsewhere)


def _failover(wanted: Interface) -> Iterator[Fault]:
    if wanted.group is not None and not 1 <= wanted.group <= GROUP_MAX:
        yield "failover_group", f"{wanted.group} is not a failover group from 1 to {GROUP_MAX}"
    if not wanted.critical:
        return
    if wanted.group is None:
        yield "failover_group", "A failover group is required when configuring a critical failover interface."
    if not wanted.virtual_aliases:
        yield "failover_virtual_aliases", "A critical failover interface needs a virtual address."


def _addresses(wanted: Interface) -> Iterator[Fault]:
    for field, aliases in (("aliases", wanted.aliases), ("failover_aliases", wanted.failover_aliases)):
        for place, alias in enumerate(aliases):
            bits = bits_of(alias.address)
            if bits is None:
                yield f"{field}.{place}.address", f"{alias.address!r} is not the IP address of one controller"
            elif not 0 < alias.prefix <= bits:
                yield f"{field}.{place}.netmask", f"{alias.prefix} is not a prefix length from 1 to {bits}"
    for place, virtual in enumerate(wanted.virtual_aliases):
        if bits_of(virtual.address) is None:
            where = f"failover_virtual_aliases.{place}.address"
            yield where, f"{virtual.address!r} is not the IP address of one controller"


def _counts(wanted: Interface, *, paired: bool) -> Iterator[Fault]:
    """Each controller has as many addresses as the other, and none has a virtual one without both its own."""
    count = len(wanted.aliases)
    with_peer = paired or wanted.failover_aliases or wanted.virtual_aliases
    if with_peer and len(wanted.failover_aliases) != count:
        there = len(wanted.failover_aliases)
        yield "failover_aliases", f"there are {there} addresses of the other controller, and {count} in aliases"
    if wanted.virtual_aliases and len(wanted.virtual_aliases) != count:
        there = len(wanted.virtual_aliases)
        yield "failover_virtual_aliases", f"there are {there} virtual addresses, and {count} in aliases"


def _families(wanted: Interface) -> Iterator[Fault]:
    """What stands in one place is in one network: a VIP that is not in its holder's cannot be reached."""
    for place, own in enumerate(wanted.aliases):
        network = ip_interface(f"{own.address}/{own.prefix}").network
        lists: list[tuple[str, Sequence[Address | Virtual]]] = [
            ("failover_aliases", wanted.failover_aliases),
            ("failover_virtual_aliases", wanted.virtual_aliases),
        ]
        for field, aliases in lists:
            if place < len(aliases) and ip_address(aliases[place].address) not in network:
                yield f"{field}.{place}.address", f"{aliases[place].address} is not in {network}, as aliases.{place} is"


def _shared(wanted: Interface, others: Sequence[Interface], elsewhere: Sequence[Vip]) -> Iterator[Fault]:
    """No address is there twice, and no two interfaces of a controller are in one network."""
    taken = {ip_address(address): f"interface {other.name}" for other in others for _, address in _named(other)}
    taken |= {ip_address(vip.address): "network.vip" for vip in elsewhere}
    seen: dict[object, str] = {}
    for field, text in _named(wanted):
        address = ip_address(text)
        where = taken.get(address) or seen.get(address)
        if where is not None:
            yield field, f"{text} is an address of {where} already"
        seen[address] = f"this interface ({field})"
    for place, own in enumerate(wanted.aliases):
        for other in others:
            if any(_overlap(own, each) for each in other.aliases):
                network = ip_interface(f"{own.address}/{own.prefix}").network
                yield f"aliases.{place}.address", f"interface {other.name} is in the network {network} already"


def _vhids(
    wanted: Interface, others: Sequence[Interface], foreign: Collection[int], elsewhere: Sequence[Vip]
) -> Iterator[Fault]:
    taken = {virtual.vhid: f"by {virtual.address}" for other in others for virtual in other.virtual_aliases}
    taken |= {vip.vhid: f"by {vip.address}" for vip in elsewhere}
    for place, virtual in enumerate(wanted.virtual_aliases):
        field = "failover_vhid" if place == 0 else f"failover_virtual_aliases.{place}.vhid"
        vhid = virtual.vhid
        if not 1 <= vhid <= VHID_MAX:
            yield field, f"{vhid} is not a virtual host id from 1 to {VHID_MAX}"
        elif vhid in taken:
            yield field, f"VHID {vhid} is in use {taken[vhid]}"
        elif vhid in foreign:
            yield field, f"VHID {vhid} is in use on this network"
        taken[vhid] = f"by {virtual.address}"


def _named(interface: Interface) -> Iterator[tuple[str, str]]:
    """(field, address) of every address."""
    for place, alias in enumerate(interface.aliases):
        yield f"aliases.{place}.address", alias.address
    for place, alias in enumerate(interface.failover_aliases):
        yield f"failover_aliases.{place}.address", alias.address
    for place, virtual in enumerate(interface.virtual_aliases):
        yield f"failover_virtual_aliases.{place}.address", virtual.address


def _overlap(one: Address, other: Address) -> bool:
    networks = [ip_interface(f"{each.address}/{each.prefix}").network for each in (one, other)]
    return networks[0].version == networks[1].version and networks[0].overlaps(networks[1])


def bits_of(text: str) -> int | None:
    """The length of the address; None for what no interface can hold on a LAN: a scope, a group, 0.0.0.0, loopback."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    wrong = "%" in text or address.is_multicast or address.is_unspecified or address.is_loopback
    return None if wrong else address.max_prefixlen
