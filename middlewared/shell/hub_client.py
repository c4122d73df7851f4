"""The line to fenced: one SEQPACKET connection that is made again for as long as it is wanted.

A connection that is lost is tried again each RETRY_S. Everything said on it is a whole statement (protocol/hub.py), so
nothing is queued here: what could not be sent is not sent, and the owner states it anew when `on_up` is called.

A hub that does not read (its buffer is full) is treated as lost: the next connection starts from whole statements,
which a queue of old ones would only delay.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from typing import Literal

import msgspec

from middlewared.protocol import hub

RETRY_S = 0.05
CONNECT_TIMEOUT_S = 0.5


class HubClient:
    """Speaks to fenced and keeps the connection up.

    path: fenced's socket. who: which client this is. The callbacks run in the event loop and must not block.
    on_message gets every packet of fenced, in order. on_up comes right after our Hello was sent: the time to state all
    that fenced must know. on_down gives the reason that the connection was lost.
    """

    def __init__(
        self,
        path: str,
        who: Literal["carpd", "middlewared"],
        *,
        on_message: Callable[[hub.FromFenced], None],
        on_up: Callable[[], None],
        on_down: Callable[[str], None],
    ) -> None:
        self._path = path
        self._who: Literal["carpd", "middlewared"] = who
        self._on_message = on_message
        self._on_up = on_up
        self._on_down = on_down
        self._socket: socket.socket | None = None
        self._lost = asyncio.Event()

    @property
    def connected(self) -> bool:
        return self._socket is not None

    async def run(self) -> None:
        """Connect, and connect again after each loss, until cancelled."""
        try:
            while True:
                self._lost.clear()
                if await self._connect():
                    await self._lost.wait()
                await asyncio.sleep(RETRY_S)
        finally:
            self._close()

    def send(self, message: hub.ToFenced) -> bool:
        """Send one statement. False: it was not sent, and on_up will be called when the hub is there (again)."""
        if self._socket is None:
            return False
        try:
            self._socket.send(hub.encode(message))
        except OSError as e:
            self.drop(f"sending to fenced: {os.strerror(e.errno or 0)}")
            return False
        return True

    def drop(self, why: str) -> None:
        """Give this connection up, with all that is queued on it, and make a new one.

        A fresh connection is the proof that what comes on it was said after this call.
        """
        if self._socket is None:
            return
        self._close()
        self._lost.set()
        self._on_down(why)

    async def _connect(self) -> bool:
        loop = asyncio.get_running_loop()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            await asyncio.wait_for(loop.sock_connect(sock, self._path), CONNECT_TIMEOUT_S)
        except (OSError, TimeoutError):
            # Not there yet: who needs it sees `connected`, and on_down was called when it went.
            sock.close()
            return False
        except BaseException:
            sock.close()
            raise
        self._socket = sock
        loop.add_reader(sock, self._readable)
        if self.send(hub.Hello(who=self._who, pid=os.getpid())):
            self._on_up()
        return True

    def _readable(self) -> None:
        sock = self._socket
        while sock is not None and sock is self._socket:
            try:
                packet = sock.recv(hub.MAX_PACKET)
            except BlockingIOError:
                return
            except OSError as e:
                self.drop(f"reading from fenced: {os.strerror(e.errno or 0)}")
                return
            if not packet:
                self.drop("fenced closed the connection")
                return
            self._deliver(packet)

    def _deliver(self, packet: bytes) -> None:
        try:
            message = hub.decode_from_fenced(packet)
        except msgspec.DecodeError as e:
            self.drop(f"fenced sent what is no message: {e}")
            return
        self._on_message(message)

    def _close(self) -> None:
        if self._socket is None:
            return
        sock, self._socket = self._socket, None
        with contextlib.suppress(RuntimeError, ValueError):  # the loop is already closed
            asyncio.get_running_loop().remove_reader(sock)
        sock.close()
