"""The relay between the host and the lab, on loopback."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from middlewared.lab import relay

DEADLINE_S = 5.0


class Far:
    """The other end, which a test makes speak, hang up or fail."""

    def __init__(self) -> None:
        self.connections: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.connections.put((reader, writer))


class Road:
    """A far server, the relay to it, and the port where a client comes in."""

    def __init__(self, far: Far, port: int) -> None:
        self.far = far
        self.port = port

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)


@pytest_asyncio.fixture
async def road() -> AsyncIterator[Road]:
    far = Far()
    server = await asyncio.start_server(far.accept, "127.0.0.1", 0)
    near = socket.create_server(("127.0.0.1", 0))
    task = asyncio.create_task(relay.serve([(near, *server.sockets[0].getsockname())]))
    yield Road(far, near.getsockname()[1])
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    server.close()
    while not far.connections.empty():
        far.connections.get_nowait()[1].close()


async def test_bytes_and_ends_are_carried_in_both_directions(road: Road) -> None:
    async with asyncio.timeout(DEADLINE_S):
        reader, writer = await road.connect()
        far_reader, far_writer = await road.far.connections.get()
        writer.write(b"question")
        writer.write_eof()
        assert await far_reader.read() == b"question"
        far_writer.write(b"answer")
        far_writer.close()
        assert await reader.read() == b"answer"
        writer.close()


async def test_a_far_side_that_fails_resets_the_near_side(road: Road) -> None:
    async with asyncio.timeout(DEADLINE_S):
        reader, writer = await road.connect()
        _, far_writer = await road.far.connections.get()
        linger = struct.pack("ii", 1, 0)
        far_writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        far_writer.transport.abort()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


async def test_a_far_side_that_cannot_be_reached_resets_the_near_side() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = closed.getsockname()
    near = socket.create_server(("127.0.0.1", 0))
    task = asyncio.create_task(relay.serve([(near, *nobody)]))
    async with asyncio.timeout(DEADLINE_S):
        reader, writer = await asyncio.open_connection(*near.getsockname())
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_dead_far_side_is_noticed_by_keepalive_within_seconds(road: Road) -> None:
    with socket.create_connection(("127.0.0.1", road.port)) as connection:
        relay.watch_for_death(connection)
        levels = [socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT]
        assert [connection.getsockopt(socket.IPPROTO_TCP, level) for level in levels] == [1, 1, 3, 3000]
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
