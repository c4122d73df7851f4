"""What the neighbours of one interface say about some addresses: ARP, and neighbour advertisements.

ARP comes by AF_PACKET, with a filter in the kernel for the addresses that matter, so that a busy network wakes nobody.
Neighbour advertisements come by a raw ICMPv6 socket with a filter for their type; it hears what is sent to all nodes
and to this interface's own addresses. Neither hears what this host itself sends by the interface.

Sources: packet(7), linux/filter.h (classic BPF), RFC 3542 section 3.2 (ICMP6_FILTER).
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, ip_address

from middlewared.kernel.errors import PortFailed
from middlewared.protocol.neighbours import Claim, in_advertisement, in_arp
from middlewared.shell.carp_socket import IPV6_RECVHOPLIMIT, hop_limit
from middlewared.shell.links import Link

_ETH_P_ARP = 0x0806
_SO_ATTACH_FILTER = 26
_ICMP6_FILTER = 1
_ADVERTISEMENT = 136
_SIZE = 512
_AT_ONCE = 64

_INSTRUCTION = struct.Struct("=HBBI")
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_SENDER_ADDRESS = 14 + 14
_JUMP_MAX = 255


class NeighbourSocket:
    """The sockets on one link. addresses: what is listened for. Raises PortFailed when they cannot be made."""

    def __init__(self, link: Link, addresses: Sequence[str]) -> None:
        self.link = link
        self.addresses = frozenset(addresses)
        self._canonical = frozenset(str(ip_address(address)) for address in addresses)
        parsed = [ip_address(address) for address in addresses]
        four = [address for address in parsed if isinstance(address, IPv4Address)]
        self._in: list[socket.socket] = []
        try:
            if four:
                self._in.append(_listen_arp(link, four))
            if len(four) < len(parsed):
                self._in.append(_listen_advertisements(link))
        except OSError as e:
            self.close()
            raise PortFailed(f"listening to the neighbours on {link.name}", e.strerror or str(e)) from None

    def close(self) -> None:
        for sock in self._in:
            sock.close()

    def receivers(self) -> tuple[socket.socket, ...]:
        """What to watch for reading; give the one that is readable to `read`."""
        return tuple(self._in)

    def read(self, receiver: socket.socket) -> Iterator[Claim]:
        """What was said of the addresses, at most a few dozen at once."""
        for _ in range(_AT_ONCE):
            try:
                data, ancillary, _, _ = receiver.recvmsg(_SIZE, 64)
            except BlockingIOError:
                return
            except OSError as e:
                if e.errno not in (errno.ENETDOWN, errno.ENXIO, errno.ENODEV):
                    raise PortFailed(f"reading of the neighbours on {self.link.name}", e.strerror or str(e)) from None
                return
            six = receiver.family == socket.AF_INET6
            claim = in_advertisement(data, hop_limit(ancillary)) if six else in_arp(data)
            if claim is not None and claim.address in self._canonical:
                yield claim

    def discard(self) -> None:
        """Throw away what waits."""
        for receiver in self._in:
            for _ in self.read(receiver):
                pass


def _listen_arp(link: Link, addresses: Sequence[IPv4Address]) -> socket.socket:
    # Bound to no protocol until the filter is there: nothing else may slip in before.
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
    try:
        _attach(sock, _from_any_of(addresses))
        sock.bind((link.name, _ETH_P_ARP))
    except OSError:
        sock.close()
        raise
    return sock


def _from_any_of(addresses: Sequence[IPv4Address]) -> list[bytes]:
    """A filter that lets ARP packets of these senders through. A jump goes at most 255 instructions ahead."""
    wanted = addresses[:_JUMP_MAX]
    program = [_INSTRUCTION.pack(_LOAD_WORD, 0, 0, _SENDER_ADDRESS)]
    for number, address in enumerate(wanted):
        program.append(_INSTRUCTION.pack(_JUMP_IF_EQUAL, len(wanted) - number, 0, int(address)))
    return [*program, _INSTRUCTION.pack(_RETURN, 0, 0, 0), _INSTRUCTION.pack(_RETURN, 0, 0, _SIZE)]


def _attach(sock: socket.socket, program: Sequence[bytes]) -> None:
    code = ctypes.create_string_buffer(b"".join(program))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program), ctypes.addressof(code)))


def _listen_advertisements(link: Link) -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    sock = socket.socket(socket.AF_INET6, kind, socket.IPPROTO_ICMPV6)
    try:
        blocked = bytearray(b"\xff" * 32)
        word, bit = divmod(_ADVERTISEMENT, 32)
        struct.pack_into("=I", blocked, word * 4, 0xFFFFFFFF & ~(1 << bit))
        sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, bytes(blocked))
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link.name.encode() + b"\0")
    except OSError:
        sock.close()
        raise
    return sock
