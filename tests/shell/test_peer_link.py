"""The line between two controllers, over real TLS on the loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import cast

import msgspec
import pytest

from middlewared.config import Interlink
from middlewared.kernel.errors import BadBootFile
from middlewared.kernel.event import START, Event, Stamp, seal
from middlewared.kernel.facts import Node
from middlewared.protocol import replication_frames as frames
from middlewared.shell import stream
from middlewared.shell.identity import Cluster, Keys
from middlewared.shell.peer_link import PeerLine, PeerLink, _listening
from tests.shell.loopback import WITHIN_S, interlinks, until


class Noted(Event, frozen=True, kw_only=True):
    kind = "test.noted"
    text: str


class Ends:
    """Who owns the line: it notes what it is told."""

    def __init__(self) -> None:
        self.line: PeerLine | None = None
        self.ups = 0
        self.downs = 0
        self.frames: list[frames.LineFrame] = []

    def up(self, line: PeerLine) -> None:
        self.line = line
        self.ups += 1

    def got(self, line: PeerLine, frame: frames.LineFrame) -> None:
        assert line is self.line
        self.frames.append(frame)

    def down(self, line: PeerLine) -> None:
        self.downs += 1
        if line is self.line:
            self.line = None

    def send(self, frame: frames.Frame) -> None:
        assert self.line is not None
        self.line.send(frame)


class World:
    """Both ends; each can be started and ended."""

    def __init__(self, directory: Path) -> None:
        self.links = dict(zip(("A", "B"), interlinks(), strict=True))
        self.keys = {"A": Keys(directory / "A", "A"), "B": Keys(directory / "B", "B")}
        cluster = Cluster.new()
        self.keys["A"].pair(cluster, self.keys["B"].certificate)
        self.keys["B"].pair(cluster, self.keys["A"].certificate)
        self.a, self.b = Ends(), Ends()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, node: Node) -> asyncio.Task[None]:
        ends = self.a if node == "A" else self.b
        task = asyncio.create_task(PeerLink(node, self.links[node], self.keys[node], ends).run())
        self._tasks.append(task)
        return task

    async def end(self, task: asyncio.Task[None]) -> None:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def connect_as_b(self, limit: int = 65536) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """B's end, in the hands of the test."""
        context = self.keys["B"].link_context(server=False)
        return await asyncio.open_connection("127.0.0.1", self.links["A"].port, ssl=context, limit=limit)

    async def up(self) -> None:
        await until(lambda: (self.a.line and self.b.line) is not None or any(task.done() for task in self._tasks))
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.result()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    yield made
    await made.close()


async def test_frames_arrive_whole_and_in_order_in_both_directions(world: World) -> None:
    world.start("B")
    world.start("A")
    await world.up()
    sent = [frames.Lead(n) for n in range(200)]
    for frame in sent:
        world.a.send(frame)
    world.b.send(frames.Stale(7))
    await until(lambda: len(world.b.frames) == 200 and len(world.a.frames) == 1)
    assert world.b.frames == sent
    assert world.a.frames == [frames.Stale(7)]


async def test_the_largest_frame_passes(world: World) -> None:
    world.start("A")
    world.start("B")
    await world.up()
    stamp = Stamp(term=1, origin="A", actor="", request_id="", wall_ns=0)
    records = tuple(seal(Noted(text="x" * 250_000), START, stamp) for _ in range(4))
    frame = frames.Append(1, START, records, 0, 0)
    assert frames.MAX_FRAME - 50_000 < len(frames.encode(frame)) <= frames.MAX_FRAME
    world.a.send(frame)
    await until(lambda: world.b.frames == [frame])


class Later(msgspec.Struct, frozen=True, tag="later"):
    """A frame that this build does not know."""


async def test_a_frame_that_is_not_known_here_is_passed_over_and_counted(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    first = world.start("A")
    world.start("B")
    await world.up()
    for frame in (Later(), frames.Lead(1), Later(), frames.Lead(2)):
        world.a.send(cast("frames.Frame", frame))
    await until(lambda: world.b.frames == [frames.Lead(1), frames.Lead(2)])
    await world.end(first)
    await until(lambda: world.b.downs == 1)
    assert [r.getMessage() for r in caplog.records if "passed_over" in r.getMessage()] == [
        "event=frame_passed_over tag='later'",
        "event=frames_passed_over counts={'later': 2}",
    ]


async def test_a_line_that_was_dropped_is_dialled_again_and_what_was_said_before_still_arrives(world: World) -> None:
    world.start("A")
    world.start("B")
    await world.up()
    assert world.a.line is not None
    world.a.send(frames.Refuse("enough"))
    world.a.line.drop("enough")
    await until(lambda: world.a.ups == world.b.ups == 2)
    assert world.b.frames == [frames.Refuse("enough")]
    assert world.a.downs == world.b.downs == 1


async def test_a_peer_that_starts_later_or_again_is_found(world: World) -> None:
    world.start("B")
    first = world.start("A")
    await world.up()
    await world.end(first)
    await until(lambda: world.b.downs == 1)
    world.start("A")
    await until(lambda: world.b.ups == 2)


async def test_a_new_line_replaces_the_one_that_the_dialler_has_given_up(world: World) -> None:
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    world.start("A")
    await listening(world.links["A"])
    old_reader, old_writer = await world.connect_as_b()
    await until(lambda: world.a.ups == 1)
    world.start("B")
    await until(lambda: world.a.ups == 2)
    async with asyncio.timeout(WITHIN_S):
        with suppress(ConnectionError):
            assert await old_reader.read() == b""
    await until(lambda: world.a.downs == 1)
    assert world.a.line is not None
    world.a.send(frames.Lead(1))
    await until(lambda: world.b.frames == [frames.Lead(1)])
    old_writer.transport.abort()
    assert faults == []


async def listening(interlink: Interlink) -> None:
    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((interlink.address, interlink.port)) == 0

    await until(answers)


async def test_who_was_not_paired_never_gets_a_line(world: World, tmp_path: Path) -> None:
    stranger = Keys(tmp_path / "C", "B")
    stranger.pair(Cluster.new(), world.keys["A"].certificate)
    world.start("A")
    await listening(world.links["A"])
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", world.links["A"].port, ssl=stranger.link_context(server=False)
    )
    writer.write(stream.frame(frames.encode(frames.Stale(9))))
    async with asyncio.timeout(WITHIN_S):
        with suppress(OSError):
            assert await reader.read() == b""
    assert world.a.ups == 0
    world.start("B")
    await until(lambda: world.a.line is not None)


class Fault(Exception):
    """Something that the line's owner does not expect."""


async def test_a_frame_that_its_taker_fails_on_ends_the_link_with_that_fault(world: World) -> None:
    def fail(*_: object) -> None:
        raise Fault

    world.start("A")
    failing = world.start("B")
    await world.up()
    world.b.got = fail  # type: ignore[method-assign, assignment]
    world.a.send(frames.Lead(1))
    with pytest.raises(Fault):
        await asyncio.wait_for(failing, WITHIN_S)
    assert world.b.downs == 1
    await until(lambda: world.a.downs == 1)


async def test_an_owner_that_fails_on_a_line_that_comes_up_ends_the_link_with_that_fault(world: World) -> None:
    def fail(*_: object) -> None:
        raise Fault

    world.b.up = fail  # type: ignore[method-assign, assignment]
    failing = world.start("B")
    world.start("A")
    with pytest.raises(Fault):
        await asyncio.wait_for(failing, WITHIN_S)
    assert world.b.downs == 1


@pytest.mark.parametrize("said", [b"\x00\x10\x00\x01", stream.frame(b"no frame"), b"GET / HTTP/1.1\r\n\r\n"])
async def test_what_is_no_frame_ends_the_line_and_the_next_one_is_taken(world: World, said: bytes) -> None:
    world.start("A")
    await listening(world.links["A"])
    reader, writer = await world.connect_as_b()
    await until(lambda: world.a.ups == 1)
    writer.write(said)
    async with asyncio.timeout(WITHIN_S):
        with suppress(ConnectionError):
            await reader.read()
    writer.transport.abort()
    await until(lambda: world.a.downs == 1)
    assert world.a.frames == []
    world.start("B")
    await until(lambda: world.a.ups == 2)


async def test_a_peer_that_does_not_read_is_dropped_and_never_waited_for(world: World) -> None:
    world.start("A")
    await listening(world.links["A"])
    _, writer = await world.connect_as_b(limit=1)
    await until(lambda: world.a.line is not None)
    stamp = Stamp(term=1, origin="A", actor="", request_id="", wall_ns=0)
    record = seal(Noted(text="x" * 260_000), START, stamp)
    sent = 0
    while world.a.line is not None and sent < 400:
        world.a.send(frames.Append(1, START, (record, record, record), 0, 0))
        sent += 1
        await asyncio.sleep(0)
    assert 20 < sent < 400
    assert world.a.downs == 1
    writer.transport.abort()


async def test_a_port_in_use_ends_the_link_with_the_address(world: World) -> None:
    with socket.socket() as other:
        other.bind((world.links["A"].address, world.links["A"].port))
        other.listen()
        with pytest.raises(BadBootFile, match=rf"^interlink: 127\.0\.0\.1:{world.links['A'].port}: .*in use"):
            await asyncio.wait_for(world.start("A"), WITHIN_S)


async def test_a_controller_without_its_interlinks_address_listens_all_the_same(world: World) -> None:
    for address in ("192.0.2.77", "2001:db8::77"):
        with _listening(address, world.links["A"].port) as sock:
            assert sock.getsockname()[:2] == (address, world.links["A"].port)


async def test_a_link_that_is_cancelled_closes_its_line_and_its_port(world: World) -> None:
    task = world.start("A")
    world.start("B")
    await world.up()
    await world.end(task)
    await until(lambda: world.a.downs == world.b.downs == 1)
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind((world.links["A"].address, world.links["A"].port))
