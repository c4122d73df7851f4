"""Controllers that a client may talk to: the real API over an engine in memory."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from middlewared_plugins.auth import login
from middlewared_plugins.auth import plugin as auth
from middlewared_plugins.auth.attempts import Attempts
from middlewared_plugins.core import plugin as core
from sqlalchemy import Column, Integer, MetaData, Table

from middlewared.client import Client
from middlewared.config import BootFile
from middlewared.engine.bus import Bus
from middlewared.engine.standin import MemoryEngine, dispatcher
from middlewared.kernel.event import Event
from middlewared.plugin import Announcement, Call, Command, Noun, Plugin, command, job, local, query
from middlewared.shell.websocket import ApiServer

SECRET = "s3cret"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Tally(msgspec.Struct, frozen=True):
    n: int = 0


class Add(Command, frozen=True, kw_only=True):
    noun: ClassVar[str] = "tally"


class Added(Event, frozen=True, kw_only=True):
    kind: ClassVar[str] = "tally.added"


TALLY: Noun[Tally] = Noun(
    name="tally",
    initial=Tally(),
    events=(Added,),
    decide=lambda _, __: [Added()],
    evolve=lambda state, _: Tally(state.n + 1),
    table=Table("tally", MetaData(), Column("n", Integer, primary_key=True)),
    project=lambda state: [{"n": state.n}],
    restore=lambda rows: Tally(),
)


class Node:
    """One server with two methods that can be made to hang: one that writes, one that asks."""

    def __init__(self, directory: Path, name: str) -> None:
        run_dir = directory / name
        run_dir.mkdir()
        self.boot = BootFile(node="A", run_dir=str(run_dir), listen=f"127.0.0.1:{free_port()}")
        self.url = f"http://{self.boot.listen}"
        self.engine: MemoryEngine
        self.bus: Bus
        methods = (
            command("test.write")(self._answer),
            query("test.query")(self._answer),
            job("test.job")(self._answer),
            command("test.add")(self._add),
            local("test.act")(self._answer),
        )
        announced = Announcement(collection="test.announced", query="test.query", field="text")
        test = Plugin(name="test", nouns=(TALLY,), methods=methods, announces=(announced,))
        self._answers, self.engine, self.bus = dispatcher(core, auth, test)
        self.log = self.engine.log
        self.server = ApiServer(self._answers, self.bus, self.boot)
        self.name = name
        self.hangs = False
        self.calls = 0
        self.reached = asyncio.Event()
        self.let_go = asyncio.Event()

    @property
    def unix(self) -> str:
        return f"ws+unix://{self.boot.api_socket}"

    async def die(self) -> None:
        await self.server.stop()

    def goes_on_from(self, other: Node) -> None:
        """Have the log of another node, as after a takeover."""
        self._answers.engine = self.engine = other.engine

    async def _add(self, call: Call) -> int:
        await call.execute(Add())
        await self._answer(call)
        return call.state(TALLY).n

    async def _answer(self, call: Call, text: str = "") -> str:
        self.calls += 1
        self.reached.set()
        if self.hangs:
            await self.let_go.wait()
        return self.name + text


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Callable[[str], Node]]:
    nodes: list[Node] = []
    login._attempts = Attempts()

    def made(name: str) -> Node:
        nodes.append(Node(tmp_path, name))
        return nodes[-1]

    try:
        yield made
    finally:
        for node in nodes:
            await node.server.stop()


@pytest.fixture
async def a(make: Callable[[str], Node]) -> Node:
    return await started(make("a"))


@pytest.fixture
async def b(make: Callable[[str], Node]) -> Node:
    return await started(make("b"))


async def started(node: Node) -> Node:
    await node.server.start()
    async with Client(node.unix) as client:
        await client.call("user.setup_local_administrator", "root", SECRET)
    return node


def far(*nodes: Node, **settings: float) -> Client:
    return Client(*(node.url for node in nodes), username="root", password=SECRET, **settings)  # type: ignore[arg-type]


async def lost(node: Node, call: Coroutine[Any, Any, object]) -> asyncio.Task[object]:
    """The call was carried out on `node`, and the node died before it could answer."""
    node.hangs = True
    task = asyncio.create_task(call)
    await asyncio.wait_for(node.reached.wait(), 5)
    await node.die()
    return task


def commit(*nodes: Node, n: int = 1, term: int = 1) -> None:
    """The same records on every node."""
    for node in nodes:
        for _ in range(n):
            node.bus.committed("user", "user.changed", node.log.append("user.administrator.set_up", term))
