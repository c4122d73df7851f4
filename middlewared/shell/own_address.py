"""Gives an interface the address that the boot file names. Nothing else does: a controller reads no configuration
before it has spoken to the other.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
import time
from ipaddress import ip_address

from middlewared.kernel.errors import PortFailed
from middlewared.shell import netlink
from middlewared.shell.links import Link, Links
from middlewared.shell.netlink import Netlink, attribute

_IFF_UP = 0x1
_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBi")
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_SCOPE_LINK = 253


def give_address(interface: str, address: str, prefix: int, wait_s: float) -> None:
    """Bring the interface up, with this address; what is there already stays.

    wait_s: how long the interface may take to appear. Raises PortFailed.
    """
    requests = Netlink()
    links = Links(requests, lambda: None)
    try:
        link = _appeared(links, interface, wait_s)
        up = _IFINFO.pack(socket.AF_UNSPEC, 0, link.index, _IFF_UP, _IFF_UP)
        requests.change(f"bring {link.name} up", netlink.RTM_NEWLINK, up)
        ip = ip_address(address)
        family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
        head = _IFADDR.pack(family, prefix, 0, _SCOPE_LINK if ip.is_link_local else 0, link.index)
        payload = head + attribute(_IFA_LOCAL, ip.packed) + attribute(_IFA_ADDRESS, ip.packed)
        flags = netlink.NLM_F_CREATE | netlink.NLM_F_EXCL
        purpose = f"give {link.name} the address {address}/{prefix}"
        requests.change(purpose, netlink.RTM_NEWADDR, payload, flags=flags, tolerate=(errno.EEXIST,))
    finally:
        links.close()
        requests.close()


def _appeared(links: Links, name: str, wait_s: float) -> Link:
    limit = time.monotonic() + wait_s
    while (link := links.by_name(name)) is None:
        left = limit - time.monotonic()
        if left <= 0:
            there = ", ".join(sorted(link.name for link in links.all()))
            raise PortFailed("addresses", f"there is no interface {name}; there are: {there}")
        select.select([links], [], [], left)
        links.read()
    return link
