"""Which links there are, which have carrier, and word of every change.

By rtnetlink notifications, never by /sys: a sysfs that was mounted in another network namespace shows that one's links.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

import msgspec

from middlewared.shell import netlink
from middlewared.shell.netlink import Netlink

_IFF_UP = 0x1
_IFF_LOWER_UP = 0x10000
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_LINK, _IFLA_LINKINFO = 1, 3, 5, 18
_IFLA_INFO_KIND = 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBi")
_BUFFER = 64 * 1024


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """A network interface. carrier: it is up and a signal is there. parent: the index of the one it lies on, or 0."""

    index: int
    name: str
    mac: bytes
    kind: str
    parent: int
    up: bool
    carrier: bool


class Links:
    """All links of this network namespace, kept true by notifications.

    The owner watches `fileno` and calls `read` when it is readable, and after whatever may have called `catch_up`;
    on_change is then called once, if anything changed since it was last.
    """

    def __init__(self, requests: Netlink, on_change: Callable[[], None]) -> None:
        self._requests = requests
        self._on_change = on_change
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self._socket.bind((0, netlink.RTMGRP_LINK))
        self._links: dict[int, Link] = {}
        self.refresh()
        self._told = self._links

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def refresh(self) -> None:
        """Ask for all links. Raises PortFailed."""
        dumped = self._requests.dump("listing the links", netlink.RTM_GETLINK, _IFINFO.pack(0, 0, 0, 0, 0))
        self._links = {link.index: link for link in map(_link, dumped)}

    def read(self) -> None:
        """Take in the notifications that wait, and tell of them."""
        self.catch_up()
        if self._links != self._told:
            self._told = self._links
            self._on_change()

    def catch_up(self) -> None:
        """Take in the notifications that wait, those of our own changes as well; the next `read` tells of them."""
        try:
            while True:
                for kind, _, payload in netlink.messages(self._socket.recv(_BUFFER)):
                    self._take(kind, payload)
        except BlockingIOError:
            pass
        except OSError:
            # ENOBUFS: notifications were lost, so only asking helps.
            self.refresh()

    def by_name(self, name: str) -> Link | None:
        return next((link for link in self._links.values() if link.name == name), None)

    def all(self) -> tuple[Link, ...]:
        return tuple(self._links.values())

    def has_carrier(self, name: str) -> bool:
        link = self.by_name(name)
        return link is not None and link.carrier

    def addresses(self, link: Link, family: socket.AddressFamily) -> list[bytes]:
        """The packed addresses of a link, in the kernel's order (IPv4: the primary first). Raises PortFailed."""
        found = []
        request = _IFADDR.pack(family, 0, 0, 0, 0)
        for payload in self._requests.dump(f"listing the addresses of {link.name}", netlink.RTM_GETADDR, request):
            if _IFADDR.unpack_from(payload)[4] == link.index:
                values = netlink.attributes(payload[_IFADDR.size :])
                found.append(values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS, b""))
        return found

    def _take(self, kind: int, payload: bytes) -> None:
        if kind == netlink.RTM_NEWLINK:
            link = _link(payload)
            self._links = {**self._links, link.index: link}
        elif kind == netlink.RTM_DELLINK:
            gone = _IFINFO.unpack_from(payload)[2]
            self._links = {index: link for index, link in self._links.items() if index != gone}


def _link(payload: bytes) -> Link:
    _, _, index, flags, _ = _IFINFO.unpack_from(payload)
    values = netlink.attributes(payload[_IFINFO.size :])
    info = netlink.attributes(values.get(_IFLA_LINKINFO, b""))
    return Link(
        index=index,
        name=values.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace"),
        mac=values.get(_IFLA_ADDRESS, b""),
        kind=info.get(_IFLA_INFO_KIND, b"").rstrip(b"\0").decode(errors="replace"),
        parent=int.from_bytes(values.get(_IFLA_LINK, b""), "little"),
        up=bool(flags & _IFF_UP),
        carrier=bool(flags & _IFF_UP and flags & _IFF_LOWER_UP),
    )
