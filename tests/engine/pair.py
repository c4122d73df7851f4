"""Two controllers in one event loop: real logs, real projections, real machines; a line and a shared disk in memory.

async with Pair(directory) as pair:
    await pair.in_sync()
    await pair.a.update(domain="lab.example")
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from middlewared.engine.context import Committed
from middlewared.engine.registry import Registry
from middlewared.kernel.errors import MiddlewareError
from middlewared.kernel.event import FIRST_FORMAT
from middlewared.kernel.facts import Node
from middlewared.protocol import peer_calls
from middlewared.protocol import replication_frames as frames
from middlewared.protocol import replication_values as values
from tests.engine.controllers import REGISTRY, WITHIN_S, Controller, Disk, until


class End:
    """One controller's end of the line."""

    def __init__(self, wire: Wire, other: Controller) -> None:
        self._wire = wire
        self.other = other

    def send(self, frame: frames.Frame) -> None:
        self._wire.carry(self, frames.encode(frame))

    def drop(self, why: str) -> None:
        self._wire.dropped.append(why)
        asyncio.get_running_loop().call_soon(self._wire.close, self)


class Wire:
    """The line: bytes in order, one loop turn later. held: they wait until `release`. dropped: why an end closed it."""

    def __init__(self, a: Controller, b: Controller) -> None:
        self._controllers = (a, b)
        a.peer, b.peer = b.snapshots.answer, a.snapshots.answer
        self._ends: tuple[End, End] | None = None
        self._waiting: list[tuple[End, bytes]] = []
        self.held = False
        self.dropped: list[str] = []

    @property
    def up(self) -> bool:
        return self._ends is not None

    def connect(self) -> None:
        a, b = self._controllers
        self._ends = (End(self, b), End(self, a))
        a.replicator.link_up(self._ends[0])
        b.replicator.link_up(self._ends[1])

    def cut(self) -> None:
        ends, self._ends = self._ends, None
        self._waiting.clear()
        if ends is not None:
            for controller, end in zip(self._controllers, ends, strict=True):
                asyncio.get_running_loop().call_soon(controller.replicator.link_down, end)

    def close(self, end: End) -> None:
        """One end closes the line: what it sent before arrives before."""
        if self._ends is not None and end in self._ends:
            self.cut()

    def carry(self, end: End, body: bytes) -> None:
        if self.held:
            self._waiting.append((end, body))
        else:
            asyncio.get_running_loop().call_soon(self._arrive, end, body)

    def release(self) -> None:
        self.held = False
        waiting, self._waiting = self._waiting, []
        for end, body in waiting:
            self.carry(end, body)

    def _arrive(self, end: End, body: bytes) -> None:
        frame = frames.decode(body)
        assert not isinstance(frame, frames.Unknown | peer_calls.Ask | peer_calls.Answer)
        if self._ends is not None and end in self._ends:
            end.other.replicator.feed(values.Got(frame))


class Pair:
    """Both controllers, their line and their disk. A begins as the owner of term 1; B stands by.

    log_format: in which their log begins. Most tests count records, and want it without the one that says so.
    """

    def __init__(
        self,
        directory: Path,
        *,
        deadline_s: float = WITHIN_S,
        registry: Registry = REGISTRY,
        log_format: int = FIRST_FORMAT,
    ) -> None:
        self._directory = directory
        self._log_format = log_format
        self._deadline_s = deadline_s
        self._registry = registry
        self.disk = Disk()

    async def __aenter__(self) -> Pair:
        self.a, self.b = self._started("A"), self._started("B")
        self.wire = Wire(self.a, self.b)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.wire.cut()
        await self.a.close()
        await self.b.close()

    def _started(self, node: Node, registry: Registry | None = None) -> Controller:
        directory, known = self._directory / node, registry or self._registry
        return Controller(node, directory, self.disk, known, self._deadline_s, self._log_format)

    async def in_sync(self) -> None:
        """A owns, B follows, and the record says so."""
        self.b.stand(0)
        self.wire.connect()
        await self.a.own(self.disk.claim("A"), forced=True)
        await self.a.opened()
        await until(lambda: self.said_in_sync() == ("A", "B"))

    async def alone(self) -> None:
        """A owns, B was never heard."""
        await self.a.own(self.disk.claim("A"), forced=True)
        await self.a.opened()

    async def take_over(self, by: Controller, *, forced: bool = False) -> None:
        """One owns the next term, by the record; the other has not heard of it."""
        await by.own(self.disk.claim(by.node), self.disk.register.record, forced=forced)

    async def restart(
        self, node: Node, registry: Registry | None = None, crash: Callable[[Path], None] = lambda _: None
    ) -> Controller:
        """End one controller's process and start it again on its files, to which `crash` may do something."""
        self.wire.cut()
        await (self.a if node == "A" else self.b).close()
        crash(self._directory / node)
        made = self._started(node, registry)
        if node == "A":
            self.a = made
        else:
            self.b = made
        self.wire = Wire(self.a, self.b)
        return made

    def said_in_sync(self) -> tuple[Node, ...]:
        return self.disk.written[-1].in_sync if self.disk.written else ()

    async def equal(self, within_s: float = WITHIN_S) -> None:
        """Until both logs end alike and both states are folded up to there; fails unless the digests are equal."""
        a, b = self.a, self.b
        await until(
            lambda: a.state.applied.seq == b.state.applied.seq == a.log.head().seq == b.log.head().seq, within_s
        )
        assert [r.hash for r in a.records()] == [r.hash for r in b.records()]
        assert await a.state.digest() == await b.state.digest()


async def outcome(work: asyncio.Task[Committed]) -> Committed | MiddlewareError:
    """What became of a command, within a bound."""
    async with asyncio.timeout(WITHIN_S):
        try:
            return await work
        except MiddlewareError as e:
            return e
