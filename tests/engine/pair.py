"""Two controllers in one event loop: real logs, real projections, real machines; a line and a shared disk in memory.

async with Pair(directory) as pair:
    await pair.in_sync()
    await pair.a.update(domain="lab.example")
"""

from __future__ import annotations

import asyncio
import errno
import sqlite3
import tempfile
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal

import msgspec
from middlewared_plugins.failover import plugin as failover
from middlewared_plugins.network import configuration
from middlewared_plugins.network import plugin as network

from middlewared.engine.apply import Change
from middlewared.engine.aside import SetAside
from middlewared.engine.context import Committed
from middlewared.engine.engine import Engine
from middlewared.engine.registry import Registry
from middlewared.engine.repair import Repairer, Snapshots
from middlewared.engine.replicate import Replicator, history
from middlewared.engine.start import committed_state, rebuilt
from middlewared.kernel.errors import CallFailed, MiddlewareError
from middlewared.kernel.event import FIRST_FORMAT, Position, Record
from middlewared.kernel.facts import Node, PairRecord
from middlewared.kernel.register import Granted, Register
from middlewared.plugin import Command, Plugin
from middlewared.protocol import peer_calls
from middlewared.protocol import replication_frames as frames
from middlewared.protocol import replication_values as values
from middlewared.protocol.replication import Replica
from middlewared.protocol.replication_owner import Owner, Phase
from middlewared.shell.clock import SystemClock
from middlewared.store import schema, sqlite
from middlewared.store.log import LogStore

WITHIN_S = 5.0
REGISTRY = Registry((network, failover))
OLDER = Registry((Plugin(name="network", nouns=(configuration.NOUN,)),))
"""What a build knew that had no virtual addresses yet."""


async def until(condition: Callable[[], bool], within_s: float = WITHIN_S) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - the condition has no event of its own
            await asyncio.sleep(0.002)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Nobody else can write the database: whoever tries waits, as for a disk that is slow."""
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        yield
        holder.execute("ROLLBACK")


@cache
def blank(which: Literal["log", "state"]) -> bytes:
    """An empty database of the present schema: migrating one for every test would be half of its time."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "blank.db"
        engine = sqlite.writer(path, "NORMAL")
        schema.bring_current(engine, which)
        engine.dispose()
        return path.read_bytes()


class Disk:
    """The shared disk, and fenced before it. writable False: every write is refused. written: what was granted."""

    def __init__(self) -> None:
        self.register = Register()
        self.writable = True
        self.written: list[PairRecord] = []

    def claim(self, node: Node) -> int:
        term = self.register.holding.term + 1
        self.register, answer = self.register.claim(node, term, self.register.holding)
        assert isinstance(answer, Granted)
        return term

    async def write(self, node: Node, record: PairRecord) -> bool:
        if not self.writable:
            return False
        self.register, answer = self.register.write_record(node, record)
        if isinstance(answer, Granted):
            self.written.append(record)
        return isinstance(answer, Granted)


class Role:
    """What the engine asks about its controller's role."""

    standby = False

    def active_urls(self) -> tuple[str, ...]:
        return ("http://10.0.0.9",)

    def is_standby(self) -> bool:
        return self.standby

    def why(self) -> str:
        return "the test says so"


class Counting(Engine):
    """The engine, and the size of every group that it had stored."""

    groups: list[int]

    def storing(self, records: tuple[Record, ...]) -> None:
        self.groups.append(len(records))
        super().storing(records)


async def away(method: str, params: Sequence[object]) -> object:
    raise CallFailed(errno.EHOSTUNREACH, "There is no other controller")


class Controller:
    """One of the two. told: what became visible. fatal: why the process would have ended."""

    def __init__(
        self, node: Node, directory: Path, disk: Disk, registry: Registry, deadline_s: float, log_format: int
    ) -> None:
        self.node = node
        self.directory = directory
        self.role = Role()
        self.told: list[Change] = []
        self.fatal: list[str] = []
        self.registry = registry
        if not directory.exists():
            directory.mkdir()
            (directory / "log.db").write_bytes(blank("log"))
            (directory / "state.db").write_bytes(blank("state"))
        self.log = LogStore.open(directory / "log.db")
        self.state = committed_state(registry, self.log, directory / "state.db")
        self.engine = Counting(
            registry,
            self.state,
            SystemClock(),
            node,
            self.role,
            on_change=self.told.extend,
            on_cut=self._cut,
            on_fatal=self.fatal.append,
            deadline_s=deadline_s,
            begins_in=log_format,
        )
        self.engine.groups = []
        self.aside = SetAside(node, self.log, directory / "quarantine", registry, self.engine)
        identity = frames.Identity(
            log_format_min=self.state.written_format(),
            cluster_id="c",
            node=node,
            catalogue=registry.catalogue.digest(),
            features=frames.FEATURES,
        )
        self.replica = Replica(
            identity, self.log.head(), history(self.log), self.state.committed, self.state.pair_seq, self.state.shape
        )
        self.replicator = Replicator(
            self.replica,
            self.log,
            SystemClock(),
            directory / "quarantine",
            lambda record: disk.write(node, record),
            self.engine,
        )
        self.engine.attach(self.replicator)
        path = directory / "state.db"
        self.asked: list[str] = []
        self.peer: Callable[[str, Sequence[object]], Awaitable[object]] = away
        self.snapshots = Snapshots(self.state, registry, path, away)
        self.repairer = Repairer(
            self.state,
            self.log,
            registry,
            path,
            self,
            SystemClock(),
            self.replica,
            feed=self.replicator.feed,
            resume=self.engine.resume,
        )
        self.engine.care.repairer = self.repairer

    async def ask(self, method: str, *params: object, timeout_s: float) -> object:
        """Ask the other controller, beside the wire."""
        self.asked.append(method)
        answer = msgspec.msgpack.encode(await self.peer(method, msgspec.msgpack.decode(msgspec.msgpack.encode(params))))
        return msgspec.msgpack.decode(answer)

    # --- roles ---

    async def own(
        self, term: int, record: PairRecord | None = None, *, alone: bool = False, forced: bool = False
    ) -> None:
        """Be the owner of `term` as fenced would say it; returns when the machine is."""
        self.role.standby = False
        here = await self.replicator.hash_at(record.committed_seq) if record is not None else None
        self.replicator.feed(values.Owning(term=term, record=record, hash_here=here, alone=alone, forced=forced))
        await until(lambda: self.replica.term == term and isinstance(self.replica.side, Owner))

    async def opened(self) -> None:
        """Until the first record of the term is committed."""
        await until(lambda: self.phase is Phase.OPEN and self.replica.log.committed.term == self.replica.term)

    def stand(self, term: int) -> None:
        self.role.standby = True
        self.replicator.feed(values.Standing(term))

    @property
    def quarantined(self) -> int:
        return self.aside.undecided

    @property
    def phase(self) -> Phase | None:
        return self.replica.side.phase if isinstance(self.replica.side, Owner) else None

    # --- commands ---

    async def execute(self, command: Command, request_id: str | None = None, actor: str = "eva") -> Committed:
        """As a client would whose requests each have an id of their own, unless one is given."""
        request_id = request_id or str(uuid.uuid4())
        return await self.engine.execute(command, actor=actor, origin="10.0.0.5:1", request_id=request_id)

    def update(self, **fields: Any) -> Coroutine[Any, Any, Committed]:
        return self.execute(configuration.Update(**fields))

    @property
    def configuration(self) -> configuration.Configuration:
        return self.engine.state(configuration.NOUN)

    def records(self) -> list[Record]:
        return self.log.since(0, 10_000)

    def kinds(self) -> list[str]:
        return [record.kind for record in self.records()]

    async def close(self) -> None:
        await self.replicator.close()
        self.repairer.close()
        self.snapshots.close()
        await self.state.close()
        self.log.close()

    # --- state.db, as the daemon keeps it ---

    async def _cut(self, at: Position, _: int, applied: bool) -> None:
        self.aside.refresh()
        if applied:
            await self.state.replace(lambda: rebuilt(self.registry, self.log, self.directory / "state.db", at.seq))


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
