"""A websocket client that costs next to nothing, for load: raw sockets, no masking, one call under way on each."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable

OPENING = (
    b"GET /api/current HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def frame(text: bytes) -> bytes:
    """A text frame as a client sends it, with a mask of zeros (RFC 6455, 5.2)."""
    length = bytes((0x80 | len(text),)) if len(text) < 126 else b"\xfe" + struct.pack(">H", len(text))
    return b"\x81" + length + bytes(4) + text


def begin(link: socket.socket) -> socket.socket:
    """Turn a connected socket into a websocket."""
    link.sendall(OPENING)
    head = b""
    while b"\r\n\r\n" not in head:
        head += link.recv(4096)
    return link


def load(links: list[socket.socket], seconds: float, next_frame: Callable[[], bytes]) -> tuple[int, float]:
    """The next call of a connection goes out when its answer is in. Returns (answered, seconds)."""
    by_number = {link.fileno(): link for link in links}
    poll = select.epoll()
    for number, link in by_number.items():
        poll.register(number, select.EPOLLIN)
        link.sendall(next_frame())
    answered, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        for number, _ in poll.poll(1.0):
            by_number[number].recv(8192)
            by_number[number].sendall(next_frame())
            answered += 1
    elapsed = time.perf_counter() - start
    poll.close()
    return answered, elapsed
