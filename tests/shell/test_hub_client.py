"""The line to fenced, against a real SEQPACKET socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from middlewared.protocol import hub
from middlewared.shell.hub_client import HubClient

WRITTEN = hub.encode(hub.Written(id=7, ok=True))


class Hub:
    """A listening SEQPACKET socket that the test plays fenced on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connections: list[socket.socket] = []
        self.listen()

    def listen(self) -> None:
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self.path.unlink(missing_ok=True)
        self.listener.bind(str(self.path))
        self.listener.listen(4)

    async def accept(self) -> socket.socket:
        connection, _ = await asyncio.wait_for(asyncio.get_running_loop().sock_accept(self.listener), 2)
        self.connections.append(connection)
        return connection

    def close(self) -> None:
        for sock in (*self.connections, self.listener):
            sock.close()


class Owner:
    """Who uses the client: it notes what it is told."""

    def __init__(self, path: Path) -> None:
        self.told: list[hub.FromFenced] = []
        self.ups = 0
        self.downs: list[str] = []
        self.client = HubClient(
            str(path), "carpd", on_message=self.told.append, on_up=self.up, on_down=self.downs.append
        )

    def up(self) -> None:
        self.ups += 1


@pytest.fixture
def fenced(tmp_path: Path) -> Iterator[Hub]:
    made = Hub(tmp_path / "fenced.sock")
    yield made
    made.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(3):
        while not condition():  # noqa: ASYNC110 - the condition has no event of its own
            await asyncio.sleep(0.005)


async def read(sock: socket.socket) -> bytes:
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, hub.MAX_PACKET), 2)


async def test_the_first_packet_is_hello_and_then_the_owner_is_told_to_state_everything(fenced: Hub) -> None:
    owner = Owner(fenced.path)
    task = asyncio.create_task(owner.client.run())
    connection = await fenced.accept()
    hello = hub.decode_to_fenced(await read(connection))
    assert isinstance(hello, hub.Hello)
    assert hello.who == "carpd"
    assert owner.ups == 1
    task.cancel()


async def test_each_packet_is_one_message_in_order(fenced: Hub) -> None:
    owner = Owner(fenced.path)
    task = asyncio.create_task(owner.client.run())
    connection = await fenced.accept()
    for number in (1, 2, 3):
        connection.send(hub.encode(hub.Written(id=number, ok=True)))
    await until(lambda: len(owner.told) == 3)
    assert [message.id for message in owner.told if isinstance(message, hub.Written)] == [1, 2, 3]
    task.cancel()


async def test_a_hub_that_went_away_is_found_again_within_a_few_tries(fenced: Hub) -> None:
    owner = Owner(fenced.path)
    task = asyncio.create_task(owner.client.run())
    (await fenced.accept()).close()
    fenced.listener.close()
    await until(lambda: len(owner.downs) == 1)
    assert not owner.client.connected
    assert not owner.client.send(hub.Force())
    fenced.listen()
    await fenced.accept()
    await until(lambda: owner.ups == 2)
    task.cancel()


async def test_dropping_the_connection_discards_what_was_queued_on_it(fenced: Hub) -> None:
    owner = Owner(fenced.path)
    task = asyncio.create_task(owner.client.run())
    first = await fenced.accept()
    await until(lambda: owner.ups == 1)
    first.send(WRITTEN)
    owner.client.drop("stalled")
    second = await fenced.accept()
    await until(lambda: owner.ups == 2)
    second.send(hub.encode(hub.Written(id=8, ok=True)))
    await until(lambda: bool(owner.told))
    assert owner.told == [hub.Written(id=8, ok=True)]
    task.cancel()


async def test_a_packet_that_is_no_message_ends_the_connection_with_the_reason(fenced: Hub) -> None:
    owner = Owner(fenced.path)
    task = asyncio.create_task(owner.client.run())
    connection = await fenced.accept()
    connection.send(b'{"type":"nonsense"}')
    await until(lambda: len(owner.downs) == 1)
    assert "no message" in owner.downs[0]
    task.cancel()


async def test_a_hub_that_does_not_read_is_treated_as_lost(fenced: Hub) -> None:
    owner = Owner(fenced.path)
    task = asyncio.create_task(owner.client.run())
    await fenced.accept()
    await until(lambda: owner.ups == 1)
    sent = 0
    while owner.client.send(hub.Resign(why="x" * 10_000)):
        sent += 1
        assert sent < 10_000
    assert owner.downs
    assert not owner.client.connected
    task.cancel()


async def test_a_cancelled_client_closes_its_connection(fenced: Hub) -> None:
    owner = Owner(fenced.path)
    task = asyncio.create_task(owner.client.run())
    connection = await fenced.accept()
    await read(connection)
    task.cancel()
    assert await read(connection) == b""
