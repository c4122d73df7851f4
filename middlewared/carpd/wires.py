"""The sockets on every interface that has a group, opened and closed as interfaces come and go.

Each has two kinds of ear: one for CARP, one for what neighbours say of the VIPs.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv6Address, ip_address
from typing import Protocol, TypeAlias

from middlewared.kernel.errors import PortFailed
from middlewared.kernel.facts import Vip
from middlewared.protocol.carp_messages import Packet
from middlewared.protocol.neighbours import Claim
from middlewared.shell.carp_socket import CarpSocket
from middlewared.shell.journal import Journal
from middlewared.shell.links import Link, Links
from middlewared.shell.neighbour_socket import NeighbourSocket

_LOOK_AWAY_S = 0.005
_FLOOD, _LOOK_AWAY_LONGER_S = 32, 0.02
"""A batch of so many was a flood: the next may be larger, and comes at the price of one turn as well."""

Heard: TypeAlias = Packet | Claim


class Ear(Protocol):
    """What listens on one link."""

    link: Link

    def receivers(self) -> tuple[socket.socket, ...]: ...

    def read(self, receiver: socket.socket) -> Iterable[Heard]: ...

    def discard(self) -> None: ...

    def close(self) -> None: ...


class Wires:
    """on_readable gets a function that yields what waits on an interface, and its name; to be called in a turn."""

    def __init__(
        self, links: Links, journal: Journal, on_readable: Callable[[Callable[[], list[Heard]], str], None]
    ) -> None:
        self._links = links
        self._journal = journal
        self._on_readable = on_readable
        self._carp: dict[str, CarpSocket] = {}
        self._neighbours: dict[str, NeighbourSocket] = {}
        self._wanted: dict[str, frozenset[str]] = {}
        self._sources: dict[tuple[str, bool], str | None] = {}

    def want(self, vips: Sequence[Vip], *, neighbours: bool = True) -> None:
        """Have sockets on the interfaces of these VIPs, as far as they exist; the rest follows with `refresh`.

        neighbours: listen to what others say of the VIPs' addresses, too.
        """
        interfaces = {vip.interface for vip in vips}
        self._wanted = {
            name: frozenset(vip.address for vip in vips if neighbours and vip.interface == name) for name in interfaces
        }
        self.refresh()

    def refresh(self) -> None:
        """Links changed: close what is gone or was made anew, open what appeared."""
        for name, carp in list(self._carp.items()):
            if name not in self._wanted or not self._is_there(carp.link):
                self._close(self._carp.pop(name))
        for name, ear in list(self._neighbours.items()):
            if self._wanted.get(name) != ear.addresses or not self._is_there(ear.link):
                self._close(self._neighbours.pop(name))
        for name, addresses in self._wanted.items():
            link = self._links.by_name(name)
            if link is not None:
                self._try_open(link, addresses)

    def send(self, interface: str, frame: bytes) -> None:
        """A frame for an interface that is not there is lost, as on a cable that is not there."""
        wire = self._carp.get(interface)
        if wire is None:
            return
        try:
            wire.send(frame)
        except PortFailed as e:
            self._journal.note("lost", interface=interface, why=e)

    def mac(self, interface: str) -> bytes | None:
        """The interface's own MAC; None when it is not there."""
        link = self._links.by_name(interface)
        return link.mac if link is not None and len(link.mac) == 6 else None

    def source(self, interface: str, vip: str) -> str:
        """The address that adverts for `vip` come from: the interface's primary or link-local one, else the VIP."""
        six = isinstance(ip_address(vip), IPv6Address)
        if (interface, six) not in self._sources:
            self._sources[interface, six] = self._look_for_source(interface, six)
        return self._sources[interface, six] or vip

    def look_anew(self) -> None:
        """The interfaces may have other addresses than when their sources were looked for."""
        self._sources = {}

    def _look_for_source(self, interface: str, six: bool) -> str | None:
        link = self._links.by_name(interface)
        if link is None:
            return None
        try:
            found = self._links.addresses(link, socket.AF_INET6 if six else socket.AF_INET)
        except PortFailed as e:
            self._journal.note("lost", interface=interface, why=e)
            return None
        addresses = [ip_address(packed) for packed in found if packed]
        best = sorted(addresses, key=lambda address: six and not address.is_link_local)
        return str(best[0]) if best else None

    def discard(self) -> None:
        """Throw away everything that waits."""
        ears: list[Ear] = [*self._carp.values(), *self._neighbours.values()]
        for ear in ears:
            ear.discard()

    def close(self) -> None:
        self.want(())

    def _is_there(self, link: Link) -> bool:
        now = self._links.by_name(link.name)
        return now is not None and now.index == link.index

    def _try_open(self, link: Link, addresses: frozenset[str]) -> None:
        try:
            if link.name not in self._carp:
                self._carp[link.name] = carp = CarpSocket(link)
                self._listen(carp)
            if addresses and link.name not in self._neighbours:
                self._neighbours[link.name] = ear = NeighbourSocket(link, sorted(addresses))
                self._listen(ear)
        except PortFailed as e:
            self._journal.note("deaf", interface=link.name, why=e)

    def _listen(self, ear: Ear) -> None:
        for receiver in ear.receivers():
            self._watch(ear, receiver)

    def _watch(self, ear: Ear, receiver: socket.socket) -> None:
        if ear in (self._carp.get(ear.link.name), self._neighbours.get(ear.link.name)):
            asyncio.get_running_loop().add_reader(receiver.fileno(), self._readable, ear, receiver)

    def _readable(self, ear: Ear, receiver: socket.socket) -> None:
        """Read, and look away for a moment: a flood is then taken in batches, each at the price of one turn."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(receiver.fileno())
        found: list[Heard] = []
        self._on_readable(lambda: self._read(ear, receiver, found), ear.link.name)
        away_s = _LOOK_AWAY_LONGER_S if len(found) > _FLOOD else _LOOK_AWAY_S
        loop.call_later(away_s, self._watch, ear, receiver)

    def _read(self, ear: Ear, receiver: socket.socket, found: list[Heard]) -> list[Heard]:
        try:
            found.extend(ear.read(receiver))
        except PortFailed as e:
            self._journal.note("lost", interface=ear.link.name, why=e)
        return found

    def _close(self, ear: Ear) -> None:
        for receiver in ear.receivers():
            asyncio.get_running_loop().remove_reader(receiver.fileno())
        ear.close()
