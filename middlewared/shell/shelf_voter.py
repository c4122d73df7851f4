"""The port `Voter` over a cable of the lab's shelf: one unix stream, requests pipelined, each with its deadline."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import msgspec

from middlewared.kernel.facts import Node, PairRecord
from middlewared.kernel.register import Answer, Denied, Granted, Holding, Silent, Whose
from middlewared.protocol import shelf

T = TypeVar("T", bound=shelf.Reply)


class ShelfVoter:
    """One shared disk, seen through this controller's cable to it.

    name: for people. path: the cable's socket. deadline_s: for reads and beats. durable_s: for what the disk must have
    written down before it answers. The cable is (re)connected by whoever asks next; nothing is asked twice.
    """

    def __init__(self, name: str, path: str, *, deadline_s: float, durable_s: float) -> None:
        self.name = name
        self.keeps = "register"
        self._path = path
        self._deadline_s = deadline_s
        self._durable_s = durable_s
        self._next_id = 0
        self._waiting: dict[int, asyncio.Future[shelf.Reply]] = {}
        self._cable: _Cable | None = None

    async def read(self) -> Holding | Silent:
        reply = await self._ask(shelf.Read(id=self._id()), shelf.Held, self._deadline_s)
        return reply if isinstance(reply, Silent) else reply.holding

    async def claim(self, node: Node, term: int, over: Holding) -> Answer:
        return await self._change(shelf.Claim(id=self._id(), node=node, term=term, over=over), self._durable_s)

    async def release(self, node: Node, term: int) -> Answer:
        return await self._change(shelf.Release(id=self._id(), node=node, term=term), self._durable_s)

    async def write_record(self, node: Node, record: PairRecord) -> Answer:
        return await self._change(shelf.WriteRecord(id=self._id(), node=node, record=record), self._durable_s)

    async def read_record(self) -> PairRecord | Silent | None:
        reply = await self._ask(shelf.ReadRecord(id=self._id()), shelf.RecordIs, self._deadline_s)
        return reply if isinstance(reply, Silent) else reply.record

    async def beat(self, node: Node, term: int, count: int) -> Answer:
        return await self._change(shelf.Beat(id=self._id(), node=node, term=term, count=count), self._deadline_s)

    async def read_beat(self) -> int | Silent:
        reply = await self._ask(shelf.ReadBeat(id=self._id()), shelf.BeatIs, self._deadline_s)
        return reply if isinstance(reply, Silent) else reply.count

    async def whose(self) -> Whose | Silent:
        return "nobody"

    def close(self) -> None:
        """Let go of the cable; whoever waits gets Silent."""
        if self._cable is not None:
            self._cable.transport.abort()
            self._lost(self._cable, "closed")

    def _id(self) -> int:
        self._next_id += 1
        return self._next_id

    async def _change(self, request: shelf.Change | shelf.Beat, within_s: float) -> Answer:
        reply = await self._ask(request, shelf.Held, within_s)
        if isinstance(reply, Silent):
            return reply
        return Granted(reply.holding) if reply.granted else Denied(reply.holding)

    async def _ask(self, request: shelf.Request, expected: type[T], within_s: float) -> T | Silent:
        answer: asyncio.Future[shelf.Reply] = asyncio.get_running_loop().create_future()
        self._waiting[request.id] = answer
        try:
            async with asyncio.timeout(within_s):
                cable = self._cable or await self._connect()
                cable.transport.write(shelf.encode(request))
                reply = await answer
        except TimeoutError:
            return Silent(f"{self.name}: no answer within {within_s * 1000:.0f} ms")
        except OSError as e:
            return Silent(f"{self.name}: {e.strerror or e}")
        finally:
            self._waiting.pop(request.id, None)
        if not isinstance(reply, expected):
            return Silent(f"{self.name}: answered {type(reply).__name__} to {type(request).__name__}")
        return reply

    async def _connect(self) -> _Cable:
        _, cable = await asyncio.get_running_loop().create_unix_connection(lambda: _Cable(self), self._path)
        if self._cable is not None:
            # Two askers connected at once; the first cable stays.
            cable.transport.abort()
            return self._cable
        self._cable = cable
        return cable

    def answered(self, reply: shelf.Reply) -> None:
        """A reply came in. One that is past its deadline is dropped here."""
        waiting = self._waiting.get(reply.id)
        if waiting is not None and not waiting.done():
            waiting.set_result(reply)

    def _lost(self, cable: _Cable, why: str) -> None:
        if cable is not self._cable:
            return
        self._cable = None
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ConnectionResetError(0, f"the cable was lost: {why}"))

    def lost(self, cable: _Cable, error: Exception | None) -> None:
        """The cable's far end is gone; whoever waits gets Silent."""
        self._lost(cable, str(error or "closed by the shelf"))


class _Cable(asyncio.Protocol):
    """Bytes to lines, lines to replies."""

    transport: asyncio.Transport

    def __init__(self, voter: ShelfVoter) -> None:
        self._voter = voter
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        try:
            for line in lines:
                self._voter.answered(shelf.decode_reply(line))
        except msgspec.DecodeError as e:
            self.transport.abort()
            self._voter.lost(self, e)

    def connection_lost(self, exc: Exception | None) -> None:
        self._voter.lost(self, exc)
