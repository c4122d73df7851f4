"""The network interfaces among which setup lets choose."""

from __future__ import annotations

import socket
from ipaddress import ip_address

import msgspec

from middlewared.shell.links import Links
from middlewared.shell.netlink import Netlink

_NOT_CABLES = ("macvlan", "dummy", "ifb", "sit", "tun")


class Nic(msgspec.Struct, frozen=True, kw_only=True):
    """addresses: without those that the kernel gave of itself (fe80::)."""

    name: str
    mac: str
    carrier: bool
    addresses: tuple[str, ...]

    @property
    def reachable(self) -> tuple[str, ...]:
        """The addresses at which others than a neighbour could reach it."""
        return tuple(address for address in self.addresses if not ip_address(address).is_link_local)


def all_nics() -> list[Nic]:
    """By name. Raises PortFailed."""
    requests = Netlink()
    links = Links(requests, lambda: None)
    try:
        found = [link for link in links.all() if link.name != "lo" and link.kind not in _NOT_CABLES]
        return sorted(
            (
                Nic(
                    name=link.name,
                    mac=link.mac.hex(":"),
                    carrier=link.carrier,
                    addresses=tuple(
                        str(ip_address(packed))
                        for family in (socket.AF_INET, socket.AF_INET6)
                        for packed in links.addresses(link, family)
                        if not packed.startswith(b"\xfe\x80")
                    ),
                )
                for link in found
            ),
            key=lambda nic: nic.name,
        )
    finally:
        links.close()
        requests.close()
