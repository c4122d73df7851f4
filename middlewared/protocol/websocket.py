"""The client's side of the websocket protocol: bytes in, messages out. Small, so that a command line starts quickly.

    opening   `opening_request(...)` is sent; the answer's head goes to `check_opening`
    sending   `encode(opcode, payload, mask)`; a client masks every frame, with 4 bytes of chance that are handed in
    reading   `Reader.receive(bytes) -> messages`: data messages whole, control frames as they come

Not handled: extensions (none is offered, so none may be used), subprotocols, the server's side.
Source: RFC 6455, section numbers beside the rules.
"""

from __future__ import annotations

import base64
import hashlib
from enum import IntEnum
from typing import NamedTuple

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
MAX_HEAD = 16 * 1024


class Opcode(IntEnum):
    """5.2"""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class Message(NamedTuple):
    """A whole data message, or a control frame."""

    opcode: Opcode
    payload: bytes


class Broken(ValueError):
    """The other end does not speak the protocol; the message says how. The connection is of no use any more."""


def opening_request(host: str, path: str, nonce: bytes, origin: str) -> bytes:
    """The request that opens a connection. nonce: 16 bytes of chance. 4.1"""
    key = base64.b64encode(nonce).decode()
    lines = (
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
        f"Origin: {origin}",
    )
    return "\r\n".join((*lines, "", "")).encode("ascii")


def check_opening(head: bytes, nonce: bytes) -> None:
    """Raise Broken unless `head`, the server's answer up to the empty line, opens the connection. 4.1"""
    status, *lines = head.decode("latin-1").split("\r\n")
    if status.split(" ")[1:2] != ["101"]:
        raise Broken(f"the server answers {status!r}")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    digest = hashlib.sha1(base64.b64encode(nonce) + _GUID, usedforsecurity=False).digest()
    if headers.get("sec-websocket-accept") != base64.b64encode(digest).decode():
        raise Broken("the server's Sec-WebSocket-Accept is not the answer to our key")
    if "sec-websocket-extensions" in headers:
        raise Broken("the server uses an extension that was not offered")


def encode(opcode: Opcode, payload: bytes, mask: bytes) -> bytes:
    """One masked frame. 5.2, 5.3"""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, 0x80 | size))
    elif size < 65536:
        head = bytes((0x80 | opcode, 0x80 | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 0x80 | 127)) + size.to_bytes(8, "big")
    return head + mask + _xor(payload, mask)


def _xor(payload: bytes, mask: bytes) -> bytes:
    """As one long number: a loop over the bytes takes fifty times as long."""
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


class Reader:
    """What came from the server, cut into messages. limit: bytes of one message."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._opcode: Opcode | None = None
        self._parts: list[bytes] = []

    def receive(self, data: bytes) -> list[Message]:
        """The messages that are complete now. Raises Broken."""
        self._buffer += data
        messages = []
        while (frame := self._next_frame()) is not None:
            message = self._join(*frame)
            if message is not None:
                messages.append(message)
        return messages

    def _next_frame(self) -> tuple[bool, Opcode, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        if buffer[0] & 0x70 or buffer[1] & 0x80:
            raise Broken("a frame with reserved bits, or masked")  # 5.1, 5.2
        try:
            opcode = Opcode(buffer[0] & 0x0F)
        except ValueError:
            raise Broken(f"a frame with opcode {buffer[0] & 0x0F}") from None
        size, start = buffer[1] & 0x7F, 2
        if size >= 126:
            start = 4 if size == 126 else 10
            if len(buffer) < start:
                return None
            size = int.from_bytes(buffer[2:start], "big")
        if size > self._limit:
            raise Broken(f"a frame of {size} bytes; {self._limit} are allowed")
        if len(buffer) < start + size:
            return None
        final, payload = bool(buffer[0] & 0x80), bytes(buffer[start : start + size])
        del buffer[: start + size]
        return final, opcode, payload

    def _join(self, final: bool, opcode: Opcode, payload: bytes) -> Message | None:
        """Fragments to a message; control frames may stand between them. 5.4, 5.5"""
        if opcode >= Opcode.CLOSE:
            if not final or len(payload) > 125:
                raise Broken("a control frame in fragments, or longer than 125 bytes")
            return Message(opcode, payload)
        if (opcode is Opcode.CONTINUATION) == (self._opcode is None):
            raise Broken("a fragment without a beginning, or a beginning within a message")
        self._opcode = opcode if self._opcode is None else self._opcode
        self._parts.append(payload)
        if sum(map(len, self._parts)) > self._limit:
            raise Broken(f"a message longer than {self._limit} bytes")
        if not final:
            return None
        message = Message(self._opcode, b"".join(self._parts))
        self._opcode, self._parts = None, []
        return message
