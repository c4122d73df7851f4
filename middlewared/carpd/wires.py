"""The CARP sockets on every interface that has a group, opened and closed as interfaces come and go."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

from middlewared.kernel.errors import PortFailed
from middlewared.protocol.carp import Packet
from middlewared.shell.carp_socket import CarpSocket
from middlewared.shell.journal import Journal
from middlewared.shell.links import Links

_LOOK_AWAY_S = 0.005


class Wires:
    """on_readable gets a function that yields (interface, packets that wait there); it must be called in a turn."""

    def __init__(
        self, links: Links, journal: Journal, on_readable: Callable[[Callable[[], list[Packet]], str], None]
    ) -> None:
        self._links = links
        self._journal = journal
        self._on_readable = on_readable
        self._open: dict[str, CarpSocket] = {}
        self._wanted: frozenset[str] = frozenset()

    def want(self, interfaces: frozenset[str]) -> None:
        """Have sockets on these interfaces, as far as they exist; the rest follows with `refresh`."""
        self._wanted = interfaces
        self.refresh()

    def refresh(self) -> None:
        """Links changed: close what is gone or was made anew, open what appeared."""
        for name, wire in list(self._open.items()):
            link = self._links.by_name(name)
            if name not in self._wanted or link is None or link.index != wire.link.index:
                self._close(name)
        for name in self._wanted - self._open.keys():
            self._try_open(name)

    def send(self, interface: str, frame: bytes) -> None:
        """A frame for an interface that is not there is lost, as on a cable that is not there."""
        wire = self._open.get(interface)
        if wire is None:
            return
        try:
            wire.send(frame)
        except PortFailed as e:
            self._journal.note("lost", interface=interface, why=e)

    def source(self, interface: str, vip: str) -> str:
        """The address that adverts for `vip` come from: the interface's primary or link-local one, else the VIP."""
        six = isinstance(ip_address(vip), IPv6Address)
        link = self._links.by_name(interface)
        if link is None:
            return vip
        try:
            found = self._links.addresses(link, socket.AF_INET6 if six else socket.AF_INET)
        except PortFailed as e:
            self._journal.note("lost", interface=interface, why=e)
            return vip
        addresses = [ip_address(packed) for packed in found if packed]
        best = sorted(addresses, key=lambda address: six and not address.is_link_local)
        return str(best[0]) if best else vip

    def discard(self) -> None:
        """Throw away everything that waits."""
        for wire in self._open.values():
            wire.discard()

    def close(self) -> None:
        for name in list(self._open):
            self._close(name)

    def _try_open(self, name: str) -> None:
        link = self._links.by_name(name)
        if link is None:
            return
        try:
            wire = CarpSocket(link)
        except PortFailed as e:
            self._journal.note("no_carp", interface=name, why=e)
            return
        self._open[name] = wire
        for receiver in wire.receivers():
            self._watch(wire, receiver)

    def _watch(self, wire: CarpSocket, receiver: socket.socket) -> None:
        if self._open.get(wire.link.name) is wire:
            asyncio.get_running_loop().add_reader(receiver, self._readable, wire, receiver)

    def _readable(self, wire: CarpSocket, receiver: socket.socket) -> None:
        """Read, and look away for a moment: a flood is then taken in batches, each at the price of one turn."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(receiver)
        loop.call_later(_LOOK_AWAY_S, self._watch, wire, receiver)
        self._on_readable(lambda: self._read(wire, receiver), wire.link.name)

    def _read(self, wire: CarpSocket, receiver: socket.socket) -> list[Packet]:
        try:
            return list(wire.read(receiver))
        except PortFailed as e:
            self._journal.note("lost", interface=wire.link.name, why=e)
            return []

    def _close(self, name: str) -> None:
        wire = self._open.pop(name)
        for receiver in wire.receivers():
            asyncio.get_running_loop().remove_reader(receiver)
        wire.close()
