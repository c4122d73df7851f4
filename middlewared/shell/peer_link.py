"""The line between the controllers: mutual TLS over the interlink, one frame after another.

B dials A, whoever owns; the roles are said in the frames. A new connection replaces the old one: the dialler knows
best that the old one is dead. A closing line is no sign of death of anybody.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from typing import Protocol, cast

import msgspec

from middlewared.config import Interlink
from middlewared.kernel.errors import BadBootFile
from middlewared.kernel.facts import Node
from middlewared.protocol import replication_frames as frames
from middlewared.shell import stream
from middlewared.shell.identity import Keys

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 2.0
RETRY_MIN_S = 0.05
RETRY_MAX_S = 0.2
UNSENT_LIMIT = 16 * 1024 * 1024

# linux/in.h, linux/in6.h
_IP_FREEBIND = 15
_IPV6_FREEBIND = 78


class Ends(Protocol):
    """What the line's owner must take."""

    def up(self, line: PeerLine) -> None: ...

    def got(self, line: PeerLine, frame: frames.LineFrame) -> None: ...

    def down(self, line: PeerLine) -> None: ...


class PeerLine(asyncio.Protocol):
    """One connection to the peer. Every frame is handed on as it comes: a write waits for each of them.

    ended: why the line ended, once it has; or what its owner raised when it was told something.
    """

    def __init__(self, ends: Ends, made: Callable[[PeerLine], None]) -> None:
        """made: told first that the line is up."""
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._ends = ends
        self._made = made
        self._transport: asyncio.Transport
        self._unread = stream.Unread(frames.MAX_FRAME)
        self._why = "closed by the peer"
        self._passed_over: Counter[str] = Counter()

    def send(self, frame: frames.LineFrame) -> None:
        """Queue a frame. A peer that does not read is dropped, never waited for."""
        self._transport.write(stream.frame(frames.encode(frame)))
        if self._transport.get_write_buffer_size() > UNSENT_LIMIT:
            self._why = "the peer does not read"
            self._transport.abort()

    def drop(self, why: str) -> None:
        """Close after what was sent. `Ends.down` follows."""
        self._why = why
        self._transport.close()

    def end(self, why: str) -> None:
        """Close at once; `Ends.down` was told when this returns."""
        self._why = why
        self._transport.abort()
        self._down()

    # --- what the transport tells ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one without saying so
        stream.notice_death(transport.get_extra_info("socket"))
        self._made(self)
        try:
            self._ends.up(self)
        except Exception as e:
            self._fail(e)

    def data_received(self, data: bytes) -> None:
        try:
            for body in self._unread.take(data):
                if self._transport.is_closing():
                    return
                self._got(frames.decode(body))
        except (stream.FrameTooLong, msgspec.DecodeError) as e:
            self.end(f"the peer sent no frame: {e}")
        except Exception as e:
            self._fail(e)

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self._why = str(exc)
        self._down()

    def _got(self, frame: frames.LineFrame | frames.Unknown) -> None:
        if isinstance(frame, frames.Unknown):
            self._pass_over(frame.tag)
        else:
            self._ends.got(self, frame)

    def _pass_over(self, tag: str) -> None:
        """A newer peer's frame: see replication_frames for why the line goes on."""
        self._passed_over[tag] += 1
        if self._passed_over[tag] == 1:
            log.warning("event=frame_passed_over tag=%r", tag)

    def _fail(self, fault: Exception) -> None:
        """Whoever waits for this line's end hears what its owner failed on."""
        self._transport.abort()
        self._down(fault)

    def _down(self, fault: Exception | None = None) -> None:
        if self.ended.done():
            return
        if fault is None:
            self.ended.set_result(self._why)
        else:
            self.ended.set_exception(fault)
        self._ends.down(self)
        if self._passed_over:
            log.warning("event=frames_passed_over counts=%r", dict(self._passed_over))


class PeerLink:
    """Keeps a line to the peer for as long as it runs."""

    def __init__(self, node: Node, interlink: Interlink, keys: Keys, ends: Ends) -> None:
        self._node = node
        self._interlink = interlink
        self._keys = keys
        self._ends = ends
        self._line: PeerLine | None = None
        self._broken: asyncio.Future[None]

    async def run(self) -> None:
        """Until cancelled. Raises BadBootFile when the interlink's address cannot be listened on, and whatever was
        raised by who was told of a line.
        """
        self._broken = asyncio.get_running_loop().create_future()
        try:
            if self._node == "A":
                await self._listen()
            else:
                await self._dial()
        finally:
            if self._line is not None:
                self._line.end("ended here")

    def _up(self, line: PeerLine) -> None:
        if self._line is not None:
            self._line.end("replaced by a newer one")
        self._line = line
        line.ended.add_done_callback(self._down)
        log.info("event=peer_line_up")

    def _down(self, ended: asyncio.Future[str]) -> None:
        fault = ended.exception()
        if fault is None:
            log.info("event=peer_line_down why=%r", ended.result())
        elif not self._broken.done():
            self._broken.set_exception(fault)

    async def _listen(self) -> None:
        address, port = self._interlink.address, self._interlink.port
        try:
            server = await asyncio.get_running_loop().create_server(
                lambda: PeerLine(self._ends, self._up),
                sock=_listening(address, port),
                ssl=self._keys.link_context(server=True),
                ssl_handshake_timeout=CONNECT_TIMEOUT_S,
                ssl_shutdown_timeout=CONNECT_TIMEOUT_S,
            )
        except OSError as e:
            raise BadBootFile(f"interlink: {address}:{port}: {e.strerror}") from None
        try:
            await self._broken
        finally:
            server.close()

    async def _dial(self) -> None:
        loop = asyncio.get_running_loop()
        context = self._keys.link_context(server=False)
        pause_s = RETRY_MIN_S
        while not self._broken.done():
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    _, line = await loop.create_connection(
                        lambda: PeerLine(self._ends, self._up),
                        self._interlink.peer,
                        self._interlink.port,
                        ssl=context,
                        local_addr=(self._interlink.address, 0),
                        ssl_handshake_timeout=CONNECT_TIMEOUT_S,
                        ssl_shutdown_timeout=CONNECT_TIMEOUT_S,
                    )
            except (OSError, TimeoutError, ssl.SSLError) as e:
                log.debug("event=peer_unreachable why=%r", str(e))
                pause_s = min(pause_s * 2, RETRY_MAX_S)
            else:
                pause_s = RETRY_MIN_S
                await asyncio.wait([line.ended])
            await asyncio.sleep(pause_s)
        await self._broken


def _listening(address: str, port: int) -> socket.socket:
    """A socket that is bound whether the address is there or not: a controller serves without its interlink too."""
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        level, option = (socket.IPPROTO_IPV6, _IPV6_FREEBIND) if ":" in address else (socket.IPPROTO_IP, _IP_FREEBIND)
        sock.setsockopt(level, option, 1)
        sock.setblocking(False)
        sock.bind((address, port))
    except OSError:
        sock.close()
        raise
    return sock
