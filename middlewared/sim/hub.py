"""fenced's socket within one controller: whole statements, handed on after a moment, and lost with either process.

The fenced at one end is the production one. At the other are this floor's word for word equivalents of the daemon's
FenceClient and of carpd, which are thin and touch sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Protocol

from middlewared.fenced.outside import OnGone, OnMessage
from middlewared.kernel.facts import PairRecord
from middlewared.protocol import hub
from middlewared.sim.loop import Loop
from middlewared.sim.timeline import Timeline

HOP_S = 0.0001
RETRY_S = 0.05
WRITE_TIMEOUT_S = 1.0


class Client:
    """fenced.outside.Client: one process that is connected. hear: what it does with a message."""

    def __init__(self, who: str, hear: Callable[[hub.FromFenced], None], lost: Callable[[], None]) -> None:
        self.who: str | None = who
        self.hear = hear
        self.lost = lost
        self.gone = False
        self._server: HubServer

    def join(self, server: HubServer) -> None:
        self._server = server

    def send(self, message: hub.FromFenced) -> None:
        self._server.deliver(self, message)


class HubServer:
    """fenced.outside.Hub."""

    def __init__(self, timeline: Timeline, loop: Loop, on_message: OnMessage, on_gone: OnGone) -> None:
        self._timeline = timeline
        self._loop = loop
        self._on_message = on_message
        self._on_gone = on_gone
        self._clients: list[Client] = []
        self.listening = False

    def open(self) -> None:
        self.listening = True

    def close(self) -> None:
        self.listening = False

    def say(self, who: str, message: hub.FromFenced) -> None:
        for client in list(self._clients):
            if client.who == who:
                client.send(message)

    def has(self, who: str) -> bool:
        return any(client.who == who for client in self._clients)

    # --- the clients' side ---

    def connect(self, client: Client, hello: hub.Hello) -> bool:
        """False: nobody listens."""
        if not self.listening or self._loop.dead:
            return False
        client.join(self)
        self._clients.append(client)
        self.take(client, hello)
        return True

    def take(self, client: Client, message: hub.ToFenced) -> None:
        if not client.gone:
            self._timeline.after(HOP_S, self._arrives, client, message)

    def _arrives(self, client: Client, message: hub.ToFenced) -> None:
        self._loop.call_soon(self._heard, client, message)

    def leave(self, client: Client) -> None:
        """The client's process is gone."""
        client.gone = True
        if client in self._clients:
            self._clients.remove(client)
            self._loop.call_soon(self._on_gone, client)

    def deliver(self, client: Client, message: hub.FromFenced) -> None:
        if not client.gone and not self._loop.dead:
            self._timeline.after(HOP_S, client.hear, message)

    def crash(self) -> None:
        """fenced is dead: every client loses its connection."""
        clients, self._clients = self._clients, []
        for client in clients:
            client.gone = True
            self._timeline.after(HOP_S, client.lost)

    def _heard(self, client: Client, message: hub.ToFenced) -> None:
        if not client.gone:
            self._on_message(client, message)


class Listener(Protocol):
    """shell.fence_client.Listener."""

    def heard(self, standing: hub.Standing) -> None: ...

    def lost(self) -> None: ...


class FenceClient:
    """What shell.fence_client does for the daemon, on the loop of middlewared.

    server: the hub that listens now, None while there is none. settings: what the effects state.
    """

    def __init__(
        self, timeline: Timeline, loop: Loop, server: Callable[[], HubServer | None], settings: hub.Settings
    ) -> None:
        self._timeline = timeline
        self._loop = loop
        self._server_now = server
        self._settings = settings
        self._listeners: list[Listener] = []
        self._client: Client | None = None
        self._server: HubServer | None = None
        self._writes: dict[int, asyncio.Future[bool]] = {}
        self._pools: hub.Pools | None = None
        self._ids = 0

    def tell(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def connect(self) -> None:
        """Connect, and again after each loss, for as long as the process lives."""
        if self._loop.dead or self._client is not None:
            return
        server = self._server_now()
        client = Client("middlewared", self._hear, self._lost)
        if server is None or self._loop.frozen or not server.connect(client, hub.Hello(who="middlewared", pid=1)):
            self._timeline.after(RETRY_S, self.connect)
            return
        self._client, self._server = client, server
        if self._pools is not None:
            server.take(client, self._pools)
        server.take(client, self._settings)

    def state(self, settings: hub.Settings) -> None:
        self._settings = settings
        self._send(settings)

    def begin(self) -> None:
        self._send(hub.Begin())

    def force(self) -> None:
        self._send(hub.Force())

    def pools(self, imported: Sequence[str]) -> None:
        self._pools = hub.Pools(imported=tuple(imported))
        self._send(self._pools)

    def serve(self, term: int) -> None:
        self._send(hub.Serve(term=term))

    def block(self, term: int, why: str) -> None:
        self._send(hub.Block(term=term, why=why))

    def resign(self, why: str = "an operator asked for it", *, failed: bool = False) -> None:
        self._send(hub.Resign(why=why, failed=failed))

    def end(self, why: str) -> None:
        self._send(hub.End(why=why))

    async def write(self, record: PairRecord) -> bool:
        self._ids += 1
        ident = self._ids
        answer: asyncio.Future[bool] = self._loop.create_future()
        self._writes[ident] = answer
        try:
            if not self._send(hub.Write(id=ident, record=record)):
                return False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WRITE_TIMEOUT_S):
                    return await answer
            return False
        finally:
            del self._writes[ident]

    def leave(self) -> None:
        """The process is dead."""
        if self._client is not None and self._server is not None:
            self._server.leave(self._client)

    def _send(self, message: hub.ToFenced) -> bool:
        if self._client is None or self._server is None:
            return False
        self._server.take(self._client, message)
        return True

    def _hear(self, message: hub.FromFenced) -> None:
        self._loop.call_soon(self._take, message)

    def _take(self, message: hub.FromFenced) -> None:
        if isinstance(message, hub.Standing):
            for listener in self._listeners:
                listener.heard(message)
        elif isinstance(message, hub.Written):
            answer = self._writes.get(message.id)
            if answer is not None and not answer.done():
                answer.set_result(message.ok)

    def _lost(self) -> None:
        self._client = self._server = None
        self._loop.call_soon(self._was_lost)
        self._timeline.after(RETRY_S, self.connect)

    def _was_lost(self) -> None:
        for answer in self._writes.values():
            if not answer.done():
                answer.set_result(False)
        for listener in self._listeners:
            listener.lost()
