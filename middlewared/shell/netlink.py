"""rtnetlink, as much of it as a VIP needs: messages with attributes, one request at a time, an answer to each.

pyroute2 does this and more, but takes 90 ms to import, which is a third of what a killed carpd may be away
(docs/decisions/0001-netlink-by-hand.md). Sources: netlink(7), rtnetlink(7), linux/rtnetlink.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Collection, Iterator

from middlewared.kernel.errors import PortFailed

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP = 0x300
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE = 24
RTM_NEWRULE, RTM_DELRULE = 32, 33

RTMGRP_LINK = 0x1

_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_TYPE_MASK = 0x3FFF
_ANSWER_TIMEOUT_S = 0.5
_BUFFER = 64 * 1024


def attribute(kind: int, data: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return _ATTRIBUTE.pack(4 + len(data), kind) + data + bytes(-len(data) % 4)


def u32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def attributes(data: bytes) -> dict[int, bytes]:
    """The attributes in `data`, by kind; what is cut off is left out."""
    found: dict[int, bytes] = {}
    while len(data) >= _ATTRIBUTE.size:
        size, kind = _ATTRIBUTE.unpack_from(data)
        if not _ATTRIBUTE.size <= size <= len(data):
            break
        found[kind & _TYPE_MASK] = data[_ATTRIBUTE.size : size]
        data = data[(size + 3) & ~3 :]
    return found


def messages(packet: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(type, sequence, payload) of each message in a packet."""
    while len(packet) >= _HEADER.size:
        size, kind, _, sequence, _ = _HEADER.unpack_from(packet)
        if not _HEADER.size <= size <= len(packet):
            return
        yield kind, sequence, packet[_HEADER.size : size]
        packet = packet[(size + 3) & ~3 :]


class Netlink:
    """A socket for requests. Every call is answered by the kernel before it returns; none takes longer than 0.5 s."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        seconds = int(_ANSWER_TIMEOUT_S)
        timeout = struct.pack("=qq", seconds, int((_ANSWER_TIMEOUT_S - seconds) * 1_000_000))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def change(
        self, purpose: str, kind: int, payload: bytes, *, flags: int = 0, tolerate: Collection[int] = ()
    ) -> None:
        """Change something. tolerate: errnos that mean that there was nothing to do. Raises PortFailed."""
        for answer, data in self._exchange(purpose, kind, payload, NLM_F_ACK | flags):
            if answer == _NLMSG_ERROR:
                code = -int.from_bytes(data[:4], "little", signed=True)
                if code and code not in tolerate:
                    raise PortFailed(purpose, f"{os.strerror(code)} ({errno.errorcode.get(code, code)})")
                return

    def dump(self, purpose: str, kind: int, payload: bytes) -> list[bytes]:
        """Every object of a kind, as the payloads of its messages. Raises PortFailed."""
        found: list[bytes] = []
        for answer, data in self._exchange(purpose, kind, payload, NLM_F_DUMP):
            if answer == _NLMSG_ERROR:
                code = -int.from_bytes(data[:4], "little", signed=True)
                raise PortFailed(purpose, os.strerror(code))
            if answer == _NLMSG_DONE:
                break
            found.append(data)
        return found

    def _exchange(self, purpose: str, kind: int, payload: bytes, flags: int) -> Iterator[tuple[int, bytes]]:
        self._sequence += 1
        head = _HEADER.pack(_HEADER.size + len(payload), kind, NLM_F_REQUEST | flags, self._sequence, 0)
        try:
            self._socket.send(head + payload)
            while True:
                for answer, sequence, data in messages(self._socket.recv(_BUFFER)):
                    # An answer to a request that had timed out is no answer to this one.
                    if sequence == self._sequence:
                        yield answer, data
        except BlockingIOError:
            raise PortFailed(purpose, f"the kernel did not answer within {_ANSWER_TIMEOUT_S} s") from None
        except OSError as e:
            raise PortFailed(purpose, e.strerror or str(e)) from None
