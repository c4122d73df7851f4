"""The network interfaces of this controller: what they are, and which addresses of ours they have.

An address that was set here is marked by its protocol number (IFA_PROTO, Linux 5.18), and only such are ever taken
away: what an installer, a DHCP client or a person set stays, until the configuration names it, which makes it ours. New
addresses are set before old ones go, so that a change of one of several cuts nobody off; and since the kernel takes the
other addresses of a network away with its first, it is told not to (`promote_secondaries`).

Source: rtnetlink(7), linux/Documentation/networking/ip-sysctl.rst.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from middlewared.kernel.errors import PortFailed
from middlewared.kernel.facts import HostLink
from middlewared.shell.rtnl import PROTOCOL, Rtnl

if TYPE_CHECKING:
    from pyroute2 import IPRoute

_LOOPBACK = "lo"
_VIRTUAL_MAC = "00:00:5e:00:01:"
_LINK_LOCAL_SCOPE = 253
_IFA_F_NODAD = 0x02
_LOWER_UP = 0x10000

Wanted = Mapping[str, Sequence[tuple[str, int]]]
"""Interface -> (address, prefix length) of each address that it shall have."""


class Interfaces:
    """Reads and sets them. Every call raises PortFailed. interlink: the interface to the other controller, or ""."""

    def __init__(self, rtnl: Rtnl, interlink: str = "") -> None:
        self._rtnl = rtnl
        self._interlink = interlink

    async def all(self) -> list[HostLink]:
        """Every interface but loopback and those of virtual addresses, by name."""
        return await self._rtnl.ask("list the interfaces", lambda netlink: _links(netlink, self._interlink))

    async def set_addresses(self, wanted: Wanted) -> None:
        """Have exactly these addresses of ours on all interfaces, and each named interface up."""
        faults = await self._rtnl.ask("set the addresses of the interfaces", lambda netlink: _set(netlink, wanted))
        if faults:
            raise PortFailed("set the addresses of the interfaces", "; ".join(faults))


def _links(netlink: IPRoute, interlink: str) -> list[HostLink]:
    addresses: dict[int, list[tuple[str, int]]] = {}
    for index, address, prefix, _ in _addresses(netlink):
        addresses.setdefault(index, []).append((address, prefix))
    found = []
    for link in netlink.get_links():
        name, mac = link.get_attr("IFLA_IFNAME"), link.get_attr("IFLA_ADDRESS") or ""
        info = link.get_attr("IFLA_LINKINFO")
        kind = (info.get_attr("IFLA_INFO_KIND") if info is not None else None) or ""
        if name == _LOOPBACK or (kind == "macvlan" and mac.startswith(_VIRTUAL_MAC)):
            continue
        found.append(
            HostLink(
                name=name,
                mac=mac,
                kind=kind,
                mtu=link.get_attr("IFLA_MTU") or 0,
                carrier=bool(link["flags"] & _LOWER_UP),
                addresses=tuple(addresses.get(link["index"], ())),
                interlink=name == interlink,
            )
        )
    return sorted(found, key=lambda link: link.name)


def _addresses(netlink: IPRoute) -> Iterator[tuple[int, str, int, bool]]:
    """(index of the link, address, prefix length, whether it is ours); none that IPv6 gave itself."""
    for found in netlink.get_addr():
        if found["scope"] == _LINK_LOCAL_SCOPE:
            continue
        address = found.get_attr("IFA_LOCAL") or found.get_attr("IFA_ADDRESS")
        yield found["index"], address, found["prefixlen"], found.get_attr("IFA_PROTO") == PROTOCOL


def _set(netlink: IPRoute, wanted: Wanted) -> list[str]:
    """What could not be done, a sentence each: one interface that is not there must not keep the others from theirs."""
    indices = {link.get_attr("IFLA_IFNAME"): link["index"] for link in netlink.get_links()}
    faults = [f"there is no interface {name}" for name in wanted if name not in indices]
    whole = {
        (indices[name], str(ip_address(address)), prefix)
        for name, addresses in wanted.items()
        if name in indices
        for address, prefix in addresses
    }
    for name in wanted:
        if name in indices:
            netlink.link("set", index=indices[name], state="up")
            _promote_secondaries(name)
    _add(netlink, whole)
    stale = {(index, address, prefix) for index, address, prefix, ours in _addresses(netlink) if ours} - whole
    for index, address, prefix in sorted(stale):
        netlink.addr("del", index=index, address=address, prefixlen=prefix)
    return faults


def _add(netlink: IPRoute, whole: set[tuple[int, str, int]]) -> None:
    ours = {(index, address, prefix) for index, address, prefix, ours in _addresses(netlink) if ours}
    for index, address, prefix in sorted(whole - ours):
        flags = {"flags": _IFA_F_NODAD} if ":" in address else {}
        netlink.addr("replace", index=index, address=address, prefixlen=prefix, proto=PROTOCOL, **flags)


def _promote_secondaries(name: str) -> None:
    try:
        Path(f"/proc/sys/net/ipv4/conf/{name}/promote_secondaries").write_text("1")
    except OSError as e:
        raise PortFailed(f"keep the other addresses of {name}", e.strerror or str(e)) from None
