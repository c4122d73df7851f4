"""The line between the controllers: mutual TLS over the interlink, one frame after another.

B dials A, whoever owns; the roles are said in the frames. A new connection replaces the old one: the dialler knows
best that the old one is dead. A closing line is no sign of death of anybody.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import Counter
from typing import Protocol

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


class Ends(Protocol):
    """What the line's owner must take."""

    def up(self, line: PeerLine) -> None: ...

    def got(self, line: PeerLine, frame: frames.LineFrame) -> None: ...

    def down(self, line: PeerLine) -> None: ...


class PeerLine:
    """One connection to the peer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._why = "closed by the peer"
        self._passed_over: Counter[str] = Counter()

    def send(self, frame: frames.LineFrame) -> None:
        """Queue a frame. A peer that does not read is dropped, never waited for."""
        self._writer.write(stream.frame(frames.encode(frame)))
        if self._writer.transport.get_write_buffer_size() > UNSENT_LIMIT:
            self.drop("the peer does not read")
            self._writer.transport.abort()

    def drop(self, why: str) -> None:
        """Close after what was sent. `Ends.down` follows."""
        self._why = why
        self._writer.close()

    async def serve(self, ends: Ends) -> str:
        """Hand every frame on until the line ends. Returns why it ended."""
        stream.notice_death(self._writer.get_extra_info("socket"))
        ends.up(self)
        try:
            while True:
                frame = frames.decode(await stream.read_frame(self._reader, frames.MAX_FRAME))
                if isinstance(frame, frames.Unknown):
                    self._pass_over(frame.tag)
                else:
                    ends.got(self, frame)
        except (asyncio.IncompleteReadError, OSError, ssl.SSLError) as e:
            why = self._why if isinstance(e, asyncio.IncompleteReadError) else str(e)
        except (stream.FrameTooLong, msgspec.DecodeError) as e:
            why = f"the peer sent no frame: {e}"
        finally:
            self._writer.transport.abort()
            ends.down(self)
            if self._passed_over:
                log.warning("event=frames_passed_over counts=%r", dict(self._passed_over))
        return why

    def _pass_over(self, tag: str) -> None:
        """A newer peer's frame: see replication_frames for why the line goes on."""
        self._passed_over[tag] += 1
        if self._passed_over[tag] == 1:
            log.warning("event=frame_passed_over tag=%r", tag)


class PeerLink:
    """Keeps a line to the peer for as long as it runs."""

    def __init__(self, node: Node, interlink: Interlink, keys: Keys, ends: Ends) -> None:
        self._node = node
        self._interlink = interlink
        self._keys = keys
        self._ends = ends
        self._server: asyncio.Server | None = None
        self._lines: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until cancelled. Raises BadBootFile when the interlink's address cannot be listened on."""
        try:
            if self._node == "A":
                await self._listen()
            else:
                await self._dial()
        finally:
            for task in list(self._lines):
                task.cancel()
            if self._server is not None:
                self._server.close()

    async def _listen(self) -> None:
        context = self._keys.link_context(server=True)
        address, port = self._interlink.address, self._interlink.port
        try:
            self._server = await asyncio.start_server(
                self._accept, address, port, ssl=context, ssl_handshake_timeout=CONNECT_TIMEOUT_S, reuse_address=True
            )
        except OSError as e:
            raise BadBootFile(f"interlink: {address}:{port}: {e.strerror}") from None
        await self._server.serve_forever()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        for older in list(self._lines):
            older.cancel()
        self._lines.add(task)
        try:
            log.info("event=peer_line_up")
            log.info("event=peer_line_down why=%r", await PeerLine(reader, writer).serve(self._ends))
        except asyncio.CancelledError:
            # The task ends here; asyncio's streams of 3.11 would log one that is cancelled as a fault.
            log.info("event=peer_line_down why=ended_here")
        finally:
            self._lines.discard(task)

    async def _dial(self) -> None:
        context = self._keys.link_context(server=False)
        pause_s = RETRY_MIN_S
        while True:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    reader, writer = await asyncio.open_connection(
                        self._interlink.peer,
                        self._interlink.port,
                        ssl=context,
                        local_addr=(self._interlink.address, 0),
                        ssl_handshake_timeout=CONNECT_TIMEOUT_S,
                    )
            except (OSError, TimeoutError, ssl.SSLError) as e:
                log.debug("event=peer_unreachable why=%r", str(e))
                pause_s = min(pause_s * 2, RETRY_MAX_S)
            else:
                pause_s = RETRY_MIN_S
                log.info("event=peer_line_up")
                log.info("event=peer_line_down why=%r", await PeerLine(reader, writer).serve(self._ends))
            await asyncio.sleep(pause_s)
