"""Frames over TCP: a 4-byte big-endian length, then the body. Used by the peer link and the pairing."""

from __future__ import annotations

import asyncio
import socket
import struct

_LENGTH = struct.Struct(">I")
USER_TIMEOUT_MS = 3000


class FrameTooLong(ValueError):
    """A length beyond the limit: the other end does not speak this protocol."""


async def read_frame(reader: asyncio.StreamReader, limit: int) -> bytes:
    """One body. Raises FrameTooLong, asyncio.IncompleteReadError at the end of the stream, OSError."""
    (length,) = _LENGTH.unpack(await reader.readexactly(4))
    if length > limit:
        raise FrameTooLong(f"a frame of {length} bytes, at most {limit} are allowed")
    return await reader.readexactly(length)


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
