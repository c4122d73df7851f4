"""Two controllers become a pair, over real TLS on the loopback."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from middlewared.kernel.errors import CallFailed, Refused
from middlewared.kernel.facts import Node
from middlewared.kernel.secret import KeyBundle
from middlewared.shell import stream
from middlewared.shell.identity import Cluster, Keys, first_secret_keys, read_code
from middlewared.shell.pairing import PORT_OFFSET, TRIES, Denied, Grant, Join, PairingDoor, join
from tests.shell.loopback import interlinks, until


class World:
    """A opens the door; B joins, or whoever the test says."""

    def __init__(self, directory: Path) -> None:
        self.interlink, _ = interlinks()
        self.a = Keys(directory / "A", "A")
        self.b = Keys(directory / "B", "B")
        self.cluster = Cluster.new()
        self.paired = 0
        self.rooms = 0
        self.door = PairingDoor("A", self.a, self.cluster, self.interlink, self.on_paired)

    def on_paired(self) -> None:
        self.paired += 1

    async def make_room(self) -> None:
        assert self.b.cluster is None
        self.rooms += 1

    async def join(self, code: str, keys: Keys | None = None, node: Node = "B") -> None:
        await join(node, keys or self.b, code, "127.0.0.1", self.interlink, self.make_room)

    async def refusal(self, code: str, keys: Keys | None = None, node: Node = "B") -> str:
        with pytest.raises(Refused) as error:
            await self.join(code, keys, node)
        ((field, why, _),) = error.value.problems
        assert field == "code"
        return why

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the door, for who says what no controller would."""
        port = self.interlink.port + PORT_OFFSET
        context = self.b.pairing_context(server=False)
        return await asyncio.open_connection("127.0.0.1", port, ssl=context)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    yield made
    made.door.close()


def wrong(code: str, at: int) -> str:
    """The same code with another letter at one place."""
    return code[:at] + ("B" if code[at] == "A" else "A") + code[at + 1 :]


async def test_both_know_the_cluster_and_each_others_certificate_afterwards(world: World) -> None:
    await world.join(await world.door.open())
    assert world.rooms == 1
    await until(lambda: world.paired == 1)
    assert world.a.cluster == world.b.cluster == world.cluster
    a, b = world.a.link_context(server=True), world.b.link_context(server=False)
    assert [c["subject"] for c in a.get_ca_certs()] == [((("commonName", "middlewared B"),),)]
    assert [c["subject"] for c in b.get_ca_certs()] == [((("commonName", "middlewared A"),),)]


async def test_who_joins_uses_the_keys_of_the_first_controller_s_secrets_and_keeps_its_own_beside_them(
    world: World,
) -> None:
    first = KeyBundle("a1", {"a1": bytes(32)})
    world.a.keep_secret_keys(first)
    world.b.keep_secret_keys(KeyBundle("b2", {"b2": bytes(32)}))
    await world.join(await world.door.open())
    await until(lambda: world.paired == 1)
    assert world.a.secret_keys == first
    assert world.b.secret_keys == KeyBundle("a1", {"a1": bytes(32), "b2": bytes(32)})


async def test_who_joins_a_controller_of_the_first_build_has_the_key_that_that_one_will_derive(world: World) -> None:
    code = await world.door.open()
    world.b.keep_secret_keys(KeyBundle("b2", {"b2": bytes(32)}))
    parts = read_code(code)
    assert parts is not None
    granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def old_door(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await stream.read_frame(reader, 65536)
        body = msgspec.json.decode(msgspec.json.encode(Grant("A", world.a.certificate, world.cluster)))
        del body["secret_keys"]
        writer.write(stream.frame(msgspec.json.encode(body)))
        await stream.read_frame(reader, 65536)
        writer.close()
        granted.set_result(None)

    world.door.close()
    port = world.interlink.port + PORT_OFFSET
    context = world.a.pairing_context(server=True)
    async with await asyncio.start_server(old_door, "127.0.0.1", port, ssl=context):
        await world.join(code)
        await granted
    assert world.b.secret_keys is not None
    assert world.b.secret_keys.active == first_secret_keys(world.cluster).active


async def test_two_controllers_without_secrets_have_the_same_first_key_when_they_are_a_pair(world: World) -> None:
    assert world.a.secret_keys is None
    await world.join(await world.door.open())
    await until(lambda: world.paired == 1)
    assert world.a.secret_keys == world.b.secret_keys
    assert world.a.secret_keys is not None


def test_no_secret_of_a_pairing_shows_in_a_repr() -> None:
    cluster = Cluster.new()
    shown = repr((cluster, Join(b"ten bytes!", "B", ""), Grant("A", "", cluster, KeyBundle("a1", {"a1": b"a key"}))))
    assert "ten bytes!" not in shown
    assert "a key" not in shown
    assert repr(cluster.key) not in shown


async def test_a_code_is_good_once(world: World) -> None:
    code = await world.door.open()
    await world.join(code)
    await until(lambda: world.paired == 1)
    with pytest.raises(CallFailed) as error:
        await world.join(code)
    assert error.value.errno == errno.EHOSTUNREACH


async def test_a_wrong_secret_is_refused_and_nothing_is_kept_or_set_aside(world: World) -> None:
    code = await world.door.open()
    assert await world.refusal(wrong(code, 0)) == "the code is wrong"
    assert (world.a.cluster, world.b.cluster, world.rooms, world.paired) == (None, None, 0, 0)
    await world.join(code)


async def test_after_five_wrong_secrets_the_right_one_is_no_longer_good(world: World) -> None:
    code = await world.door.open()
    for _ in range(TRIES):
        assert await world.refusal(wrong(code, 0)) == "the code is wrong"
    assert await world.refusal(code) == "the code is no longer good; print a new one"
    assert world.a.cluster is None


async def test_the_code_of_another_controller_is_not_told_to_the_one_that_answers(world: World, tmp_path: Path) -> None:
    code = await world.door.open()
    assert await world.refusal(wrong(code, 30)) == "is not the code of the controller that answers there"
    assert world.rooms == 0
    await world.join(code)


async def test_two_controllers_of_the_same_slot_are_refused(world: World) -> None:
    assert await world.refusal(await world.door.open(), node="A") == "both boot files say node = 'A'"


@pytest.mark.parametrize("code", ["", "nonsense", "AAAA-AAAA"])
async def test_what_is_no_code_is_refused_without_a_connection(world: World, code: str) -> None:
    assert "is not a pairing code" in await world.refusal(code)


async def test_where_nobody_listens_the_address_is_named(world: World) -> None:
    code = await world.door.open()
    world.door.close()
    with pytest.raises(CallFailed, match=rf"^127\.0\.0\.1:{world.interlink.port + PORT_OFFSET}: .") as error:
        await world.join(code)
    assert error.value.errno == errno.EHOSTUNREACH


async def test_a_port_in_use_is_named(world: World) -> None:
    with socket.socket() as other:
        other.bind((world.interlink.address, world.interlink.port + PORT_OFFSET))
        other.listen()
        with pytest.raises(CallFailed, match=rf"^interlink 127\.0\.0\.1:{world.interlink.port + 1}: .*in use") as error:
            await world.door.open()
    assert error.value.errno == errno.EADDRINUSE


async def test_where_the_second_could_not_make_room_nobody_is_paired(world: World) -> None:
    async def no_room() -> None:
        raise CallFailed(28, "no space")

    code = await world.door.open()
    with pytest.raises(CallFailed, match="no space"):
        await join("B", world.b, code, "127.0.0.1", world.interlink, no_room)
    assert (world.a.cluster, world.b.cluster, world.paired) == (None, None, 0)
    await world.join(code)


async def test_a_first_that_never_heard_kept_is_not_paired_and_its_code_is_still_good(world: World) -> None:
    code = await world.door.open()
    secret, _ = read_code(code) or (b"", b"")
    reader, writer = await world.connect()
    writer.write(stream.frame(msgspec.json.encode(Join(secret, "B", world.b.certificate))))
    answer = msgspec.json.decode(await stream.read_frame(reader, 65536), type=Grant | Denied)
    assert isinstance(answer, Grant)
    assert answer.cluster == world.cluster
    writer.transport.abort()
    await asyncio.sleep(0)
    assert (world.a.cluster, world.paired) == (None, 0)
    await world.join(code)
    await until(lambda: world.paired == 1)


@pytest.mark.parametrize(
    "said", [b"\xff\xff\xff\xff", stream.frame(b"{}"), stream.frame(b'{"type":"kept"}'), b"\0\0\0\x10half"]
)
async def test_who_says_something_else_gets_nothing_and_the_door_stays_open(world: World, said: bytes) -> None:
    code = await world.door.open()
    reader, writer = await world.connect()
    writer.write(said)
    if said.endswith(b"half"):
        writer.transport.abort()
    async with asyncio.timeout(5):
        told = await reader.read()
    assert b"cluster" not in told
    writer.transport.abort()
    await world.join(code)


async def test_a_host_that_does_not_speak_this_protocol_is_named(world: World) -> None:
    code = await Foreign(world).open()
    with pytest.raises(CallFailed, match="does not speak this protocol") as error:
        await world.join(code)
    assert error.value.errno == errno.EPROTO
    assert world.b.cluster is None


class Foreign:
    """Has the right certificate and another language."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def open(self) -> str:
        code = await self._world.door.open()
        self._world.door.close()
        port = self._world.interlink.port + PORT_OFFSET
        context = self._world.a.pairing_context(server=True)
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", port, ssl=context)
        return code

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await stream.read_frame(reader, 65536)
        writer.write(stream.frame(b'{"type":"hello"}'))
        writer.close()
        self._server.close()
