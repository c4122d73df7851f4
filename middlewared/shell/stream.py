"""Frames over TCP: a 4-byte big-endian length, then the body. Used by the peer link and the pairing."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator

_LENGTH = struct.Struct(">I")
USER_TIMEOUT_MS = 3000


class FrameTooLong(ValueError):
    """A length beyond the limit: the other end does not speak this protocol."""

    def __init__(self, length: int, limit: int) -> None:
        super().__init__(f"a frame of {length} bytes, at most {limit} are allowed")


async def read_frame(reader: asyncio.StreamReader, limit: int) -> bytes:
    """One body. Raises FrameTooLong, asyncio.IncompleteReadError at the end of the stream, OSError."""
    (length,) = _LENGTH.unpack(await reader.readexactly(4))
    if length > limit:
        raise FrameTooLong(length, limit)
    return await reader.readexactly(length)


class Unread:
    """What came of a stream and is no whole frame yet; for a protocol, which is given the bytes as they come."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = bytearray()

    def take(self, data: bytes) -> Iterator[bytes]:
        """Every body that is whole with `data`. Raises FrameTooLong; nothing can be taken after that."""
        unread = self._bytes
        unread += data
        begin = 0
        try:
            while len(unread) - begin >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(unread, begin)
                if length > self._limit:
                    raise FrameTooLong(length, self._limit)
                end = begin + _LENGTH.size + length
                if end > len(unread):
                    break
                body = bytes(unread[begin + _LENGTH.size : end])
                begin = end
                yield body
        finally:
            del unread[:begin]


def frame(body: bytes) -> bytes:
    return _LENGTH.pack(len(body)) + body


def notice_death(connection: socket.socket) -> None:
    """Have the kernel close a connection whose other end is gone, within about 3 s."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
