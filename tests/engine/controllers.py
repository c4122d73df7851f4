"""One controller in the test's own loop: a real log, a real projection, a real machine; its shared disk in memory."""

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
from middlewared.kernel.errors import CallFailed
from middlewared.kernel.event import Position, Record
from middlewared.kernel.facts import Node, PairRecord
from middlewared.kernel.register import Granted, Register
from middlewared.plugin import Command, Plugin
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
    sure = True
    closing: str | None = None

    def active_urls(self) -> tuple[str, ...]:
        return ("http://10.0.0.9",)

    def is_standby(self) -> bool:
        return self.standby

    def is_sure(self) -> bool:
        return self.sure

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
        self.asked: list[str] = []
        self.peer: Callable[[str, Sequence[object]], Awaitable[object]] = away
        if not directory.exists():
            directory.mkdir()
            (directory / "log.db").write_bytes(blank("log"))
            (directory / "state.db").write_bytes(blank("state"))
        self.log = LogStore.open(directory / "log.db")
        self.state = committed_state(registry, self.log, directory / "state.db")
        self.engine = self._engine(deadline_s, log_format)
        self.aside = SetAside(node, self.log, directory / "quarantine", registry, self.engine)
        self.replica = self._machine()
        self.replicator = Replicator(
            self.replica,
            self.log,
            SystemClock(),
            directory / "quarantine",
            lambda record: disk.write(node, record),
            self.engine,
        )
        self.engine.attach(self.replicator)
        self.snapshots = Snapshots(self.state, registry, directory / "state.db", away)
        self.repairer = self._repairer()
        self.engine.care.repairer = self.repairer

    def _engine(self, deadline_s: float, log_format: int) -> Counting:
        engine = Counting(
            self.registry,
            self.state,
            SystemClock(),
            self.node,
            self.role,
            on_change=self.told.extend,
            on_cut=self._cut,
            on_fatal=self.fatal.append,
            deadline_s=deadline_s,
            begins_in=log_format,
        )
        engine.groups = []
        return engine

    def _machine(self) -> Replica:
        identity = frames.Identity(
            log_format_min=self.state.written_format(),
            cluster_id="c",
            node=self.node,
            catalogue=self.registry.catalogue.digest(),
            features=frames.FEATURES,
        )
        state = self.state
        return Replica(identity, self.log.head(), history(self.log), state.committed, state.pair_seq, state.shape)

    def _repairer(self) -> Repairer:
        return Repairer(
            self.state,
            self.log,
            self.registry,
            self.directory / "state.db",
            self,
            SystemClock(),
            self.replica,
            feed=self.replicator.feed,
            resume=self.engine.resume,
        )

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
