"""CARP on one interface: adverts out from the virtual MAC, adverts in with their TTL.

Out goes by AF_PACKET, because a raw IP socket would send the interface's own MAC, and it is the advert, ten times a
second, that keeps every switch knowing where the virtual MAC is. In comes by a raw IP socket per family, bound to the
interface and a member of the CARP group: the kernel has checked and reassembled, and one per family serves every VHID.

Sources: packet(7), raw(7), ip(7), ipv6(7).
"""

from __future__ import annotations

import errno
import socket
import struct
import sys

from middlewared.kernel.errors import PortFailed
from middlewared.protocol.carp_messages import Packet
from middlewared.protocol.carp_packet import GROUP_4, GROUP_6, PROTOCOL
from middlewared.shell.links import Link

IPV6_RECVHOPLIMIT, _IPV6_HOPLIMIT = 51, 52
_SIZE = 2048
_IP4_HEADER = 20
_AT_ONCE = 1024
_DISCARD_ROUNDS = 16
_SO_RCVBUFFORCE = 33
_RECEIVE_BUFFER = 1024 * 1024
"""A small frame takes 768 bytes of it: some 1300 wait here, which a flood of 10 000 a second fills in 0.13 s."""

# A link that is down or going away: the next advert is due in 0.1 s, and carrier is reported by other means.
_NOT_NOW = (errno.ENETDOWN, errno.ENXIO, errno.ENODEV, errno.ENOBUFS, errno.EAGAIN)


class CarpSocket:
    """The sockets on one link. Raises PortFailed when they cannot be made (the link is gone, no permission)."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.lost = 0
        """Frames that could not be sent."""
        self._out: socket.socket | None = None
        self._in: list[socket.socket] = []
        try:
            self._out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
            self._out.bind((link.name, 0))
            self._in.append(_listen_4(link))
            if socket.has_ipv6:
                self._in += _listen_6(link)
        except OSError as e:
            self.close()
            raise PortFailed(f"CARP on {link.name}", e.strerror or str(e)) from None

    def close(self) -> None:
        for sock in (self._out, *self._in):
            if sock is not None:
                sock.close()

    def receivers(self) -> tuple[socket.socket, ...]:
        """What to watch for reading; give the one that is readable to `read`."""
        return tuple(self._in)

    def send(self, frame: bytes) -> None:
        """Send a whole Ethernet frame; one that cannot leave now is lost and counted."""
        assert self._out is not None
        try:
            self._out.send(frame)
        except OSError as e:
            self.lost += 1
            if e.errno not in _NOT_NOW:
                raise PortFailed(f"sending on {self.link.name}", e.strerror or str(e)) from None

    def read(self, receiver: socket.socket) -> list[Packet]:
        """What waits there, at most a few hundred at once, so that a flood cannot keep the loop from its duties."""
        found: list[Packet] = []
        try:
            if receiver is self._in[0]:
                _receive_4(receiver, found)
            else:
                _receive_6(receiver, found)
        except BlockingIOError:
            pass
        except OSError as e:
            if e.errno not in _NOT_NOW:
                raise PortFailed(f"reading CARP on {self.link.name}", e.strerror or str(e)) from None
        return found

    def discard(self) -> None:
        """Throw away all that waits; after a flood at most a few thousand frames."""
        for receiver in self._in:
            for _ in range(_DISCARD_ROUNDS):
                if not self.read(receiver):
                    break


def _listen_4(link: Link) -> socket.socket:
    sock = _raw(socket.AF_INET, link)
    member = GROUP_4.packed + bytes(4) + struct.pack("=i", link.index)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
    return sock


def _listen_6(link: Link) -> list[socket.socket]:
    try:
        sock = _raw(socket.AF_INET6, link)
    except OSError as e:
        if e.errno == errno.EAFNOSUPPORT:
            return []
        raise
    try:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, GROUP_6.packed + struct.pack("=i", link.index))
    except OSError as e:
        sock.close()
        # IPv6 is switched off on this link: there is no such group to join, and no advert to hear.
        if e.errno in (errno.ENODEV, errno.EADDRNOTAVAIL, errno.EINVAL):
            return []
        raise
    return [sock]


def _raw(family: socket.AddressFamily, link: Link) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, PROTOCOL)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link.name.encode() + b"\0")
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
    except OSError:
        sock.close()
        raise
    return sock


def _receive_4(receiver: socket.socket, found: list[Packet]) -> None:
    """An IPv4 raw socket gives the IP header, too. Each line here is paid ten thousand times a second in a flood."""
    receive, name = receiver.recv, socket.inet_ntoa
    for _ in range(_AT_ONCE):
        data = receive(_SIZE)
        if len(data) >= _IP4_HEADER:
            found.append(Packet(data=data[(data[0] & 0x0F) * 4 :], ttl=data[8], source=name(data[12:16])))


def _receive_6(receiver: socket.socket, found: list[Packet]) -> None:
    """An IPv6 raw socket gives the payload, and the hop limit beside it."""
    for _ in range(_AT_ONCE):
        data, ancillary, _, address = receiver.recvmsg(_SIZE, 64)
        found.append(Packet(data=data, ttl=hop_limit(ancillary), source=address[0].partition("%")[0]))


def hop_limit(ancillary: list[tuple[int, int, bytes]]) -> int:
    """What came beside a packet on a socket with IPV6_RECVHOPLIMIT; 0 where it did not."""
    for level, kind, value in ancillary:
        if level == socket.IPPROTO_IPV6 and kind == _IPV6_HOPLIMIT:
            return int.from_bytes(value[:4], sys.byteorder)
    return 0
