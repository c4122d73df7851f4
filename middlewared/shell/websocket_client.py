"""One websocket to a server: opening, sending, receiving, each with a deadline. No library, so that it starts quickly.

A far end that died without a word is noticed by TCP in about 3 s: keepalive 1 s / 1 s / 3 for a silent line,
TCP_USER_TIMEOUT for data that nobody acknowledges.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections import deque
from urllib.parse import urlsplit

import msgspec

from middlewared.kernel.errors import PortFailed
from middlewared.protocol import websocket
from middlewared.protocol.websocket import Broken, Message, Opcode

API_PATH = "/api/current"
MAX_MESSAGE = 16 * 1024 * 1024
CLOSE_S = 1.0
SILENT_S = 3
FORMS = "ws://HOST[:PORT]/api/current, http://HOST[:PORT] or ws+unix:///PATH"


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where a server is. socket: the path of a unix socket, else None."""

    uri: str
    host: str
    port: int
    tls: bool
    socket: str | None
    path: str


def parse(uri: str) -> Address:
    """Read a URI in one of FORMS; `wss` and `https` mean TLS. Raises PortFailed."""
    parts = urlsplit(uri)
    if parts.scheme == "ws+unix" and parts.path:
        return Address(uri=uri, host="localhost", port=0, tls=False, socket=parts.path, path=API_PATH)
    try:
        port = parts.port
    except ValueError:
        raise PortFailed(f"read the address {uri!r}", "the port is not a number from 0 to 65535") from None
    if parts.scheme not in ("ws", "wss", "http", "https") or not parts.hostname:
        raise PortFailed(f"read the address {uri!r}", f"it must be {FORMS}")
    tls = parts.scheme in ("wss", "https")
    http = parts.scheme in ("http", "https")
    path = parts.path if parts.path and not (http and parts.path == "/") else API_PATH
    query = f"?{parts.query}" if parts.query else ""
    port = port or (443 if tls else 80)
    return Address(uri=uri, host=parts.hostname, port=port, tls=tls, socket=None, path=path + query)


class Link:
    """An open websocket."""

    def __init__(self, address: Address, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.address = address
        self._reader = reader
        self._writer = writer
        self._messages = websocket.Reader(MAX_MESSAGE)
        self._ready: deque[Message] = deque()

    async def send(self, text: bytes) -> None:
        """Send one text message. Raises PortFailed when the connection is gone."""
        self._write(Opcode.TEXT, text)
        try:
            await self._writer.drain()
        except OSError as e:
            raise self._failed("send to", e) from None

    async def receive(self) -> bytes:
        """The next data message; pings are answered. Raises PortFailed when the connection ends, and says why."""
        while True:
            while not self._ready:
                self._ready.extend(await self._read())
            message = self._ready.popleft()
            if message.opcode in (Opcode.TEXT, Opcode.BINARY):
                return message.payload
            if message.opcode is Opcode.PING:
                self._write(Opcode.PONG, message.payload)
            elif message.opcode is Opcode.CLOSE:
                raise self._failed("receive from", _close_reason(message.payload))

    async def close(self) -> None:
        """Say goodbye; wait at most CLOSE_S."""
        if not self._writer.is_closing():
            self._write(Opcode.CLOSE, (1000).to_bytes(2, "big"))
        self._writer.close()
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._writer.wait_closed()
        except (OSError, TimeoutError):
            self._writer.transport.abort()

    async def _read(self) -> list[Message]:
        try:
            data = await self._reader.read(65536)
            if not data:
                raise self._failed("receive from", "the connection was closed")
            return self._messages.receive(data)
        except (OSError, Broken) as e:
            raise self._failed("receive from", e) from None

    def _write(self, opcode: Opcode, payload: bytes) -> None:
        self._writer.write(websocket.encode(opcode, payload, os.urandom(4)))

    def _failed(self, deed: str, why: object) -> PortFailed:
        return PortFailed(f"{deed} {self.address.uri}", _reason(why))


async def open_link(address: Address, timeout_s: float) -> Link:
    """Connect and open a websocket within `timeout_s`. Raises PortFailed."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await _connect(address)
            await _upgrade(address, reader, writer)
            return Link(address, reader, writer)
    except (OSError, Broken, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as e:
        if writer is not None:
            writer.transport.abort()
        why = f"no answer within {timeout_s:g} s" if isinstance(e, TimeoutError) else _reason(e)
        raise PortFailed(f"connect to {address.uri}", why) from None


async def _connect(address: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if address.socket is not None:
        return await asyncio.open_unix_connection(address.socket, limit=MAX_MESSAGE)
    tls = ssl.create_default_context() if address.tls else None
    reader, writer = await asyncio.open_connection(address.host, address.port, ssl=tls, limit=MAX_MESSAGE)
    sock: socket.socket = writer.get_extra_info("socket")
    for level, option, value in (
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENT_S * 1000),
    ):
        sock.setsockopt(level, option, value)
    return reader, writer


async def _upgrade(address: Address, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    name = f"[{address.host}]" if ":" in address.host else address.host
    host = name if address.socket is not None else f"{name}:{address.port}"
    nonce = os.urandom(16)
    origin = f"{'https' if address.tls else 'http'}://{host}"
    writer.write(websocket.opening_request(host, address.path, nonce, origin))
    head = await reader.readuntil(b"\r\n\r\n")
    websocket.check_opening(head[: websocket.MAX_HEAD], nonce)


def _close_reason(payload: bytes) -> str:
    code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
    return f"closed with code {code} {payload[2:].decode('utf-8', 'replace')}".rstrip()


def _reason(why: object) -> str:
    # asyncio puts the address into strerror; who asked knows the address.
    number = why.errno if isinstance(why, OSError) else None
    return os.strerror(number) if number is not None and number > 0 else str(why)
