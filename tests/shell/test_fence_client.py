"""The daemon's side of fenced's socket, against a real SEQPACKET socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeVar

import pytest

from middlewared.kernel.errors import PortFailed
from middlewared.kernel.facts import PairRecord, PoolName, Vip, Voting
from middlewared.protocol import hub
from middlewared.shell.fence_client import FenceClient
from middlewared.shell.identity import Cluster
from tests.engine.standing import standing
from tests.shell.loopback import until

T = TypeVar("T", bound=hub.ToFenced)
VIP = Vip(vhid=7, address="10.0.0.9", prefix=24, interface="lan0")
VOTING = Voting(number=7, sets=(("SHELF-0", "SHELF-1", "SHELF-2"),))
RECORD = PairRecord(term=1, owner="A", in_sync=("A",), committed_seq=0, committed_hash=b"")
CLUSTER = Cluster(cluster_id="c1", key=b"k" * 32)


class Fenced:
    """The test plays fenced. heard, lost: what the client told its listener."""

    def __init__(self, path: Path, cluster: Cluster | None = CLUSTER) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self._listener.bind(str(path))
        self._listener.listen(4)
        self._connection: socket.socket | None = None
        self.standings: list[hub.Standing] = []
        self.losses = 0
        self.client = FenceClient(str(path), cluster, single_term=5)
        self.client.tell(self)
        self._task = asyncio.create_task(self.client.run())

    def heard(self, said: hub.Standing) -> None:
        self.standings.append(said)

    def lost(self) -> None:
        self.losses += 1

    async def accept(self) -> None:
        loop = asyncio.get_running_loop()
        self._connection, _ = await asyncio.wait_for(loop.sock_accept(self._listener), 2)
        assert isinstance(await self.read(hub.Hello), hub.Hello)

    async def read(self, kind: type[T]) -> T:
        assert self._connection is not None
        loop = asyncio.get_running_loop()
        packet = await asyncio.wait_for(loop.sock_recv(self._connection, hub.MAX_PACKET), 2)
        message = hub.decode_to_fenced(packet)
        assert isinstance(message, kind)
        return message

    def nothing_more(self) -> bool:
        assert self._connection is not None
        try:
            return self._connection.recv(hub.MAX_PACKET, socket.MSG_DONTWAIT | socket.MSG_PEEK) == b""
        except BlockingIOError:
            return True

    def say(self, message: hub.FromFenced) -> None:
        assert self._connection is not None
        self._connection.send(hub.encode(message))

    def hang_up(self) -> None:
        assert self._connection is not None
        self._connection.close()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self._connection is not None:
            self._connection.close()
        self._listener.close()


@pytest.fixture
async def fenced(tmp_path: Path) -> AsyncIterator[Fenced]:
    made = Fenced(tmp_path / "fenced.sock")
    yield made
    await made.close()


async def state_all(client: FenceClient) -> None:
    await client.set_policy(disabled=True, default_node="B", timeout_s=30.0, voting=VOTING)
    await client.set_vips([VIP])
    await client.set_pools([])


async def test_half_a_configuration_is_never_stated(fenced: Fenced) -> None:
    await fenced.accept()
    await fenced.client.set_vips([VIP])
    await fenced.client.set_policy(disabled=True, default_node="B", timeout_s=30.0, voting=VOTING)
    assert fenced.nothing_more()
    await fenced.client.set_pools([PoolName(name="tank", guid="11")])
    assert await fenced.read(hub.Settings) == hub.Settings(
        paired=True,
        cluster_id="c1",
        key=b"k" * 32,
        disabled=True,
        default_node="B",
        timeout_s=30.0,
        single_term=5,
        vips=(VIP,),
        voting=VOTING,
        pools=True,
    )
    assert fenced.client.vips == (VIP,)


async def test_each_change_and_each_new_fenced_gets_the_whole_again(fenced: Fenced) -> None:
    await fenced.accept()
    await state_all(fenced.client)
    first = await fenced.read(hub.Settings)
    await fenced.client.set_vips([])
    assert (await fenced.read(hub.Settings)).vips == ()
    await fenced.client.set_vips([VIP])
    assert await fenced.read(hub.Settings) == first
    fenced.hang_up()
    await until(lambda: fenced.losses == 1)
    await fenced.accept()
    assert await fenced.read(hub.Settings) == first


async def test_a_controller_that_was_never_paired_says_so(tmp_path: Path) -> None:
    fenced = Fenced(tmp_path / "fenced.sock", None)
    await fenced.accept()
    await state_all(fenced.client)
    said = await fenced.read(hub.Settings)
    assert (said.paired, said.cluster_id, said.key, said.single_term) == (False, "", bytes(32), 5)
    await fenced.close()


async def test_what_fenced_says_is_handed_on_in_order(fenced: Fenced) -> None:
    await fenced.accept()
    fenced.say(standing("STANDBY", 1))
    fenced.say(standing("OWNER", 2))
    await until(lambda: len(fenced.standings) == 2)
    assert [(said.role, said.term) for said in fenced.standings] == [("STANDBY", 1), ("OWNER", 2)]


async def test_a_new_term_is_asked_for_and_a_claim_forced(fenced: Fenced) -> None:
    await fenced.accept()
    fenced.client.begin()
    assert await fenced.read(hub.Begin) == hub.Begin()
    fenced.client.force()
    assert await fenced.read(hub.Force) == hub.Force()


async def test_without_fenced_a_claim_cannot_be_forced_and_a_record_is_not_written(fenced: Fenced) -> None:
    with pytest.raises(PortFailed, match="claim the term: fenced is not running"):
        fenced.client.force()
    assert await fenced.client.write(RECORD) is False


@pytest.mark.parametrize("ok", [True, False])
async def test_each_write_gets_its_own_answer_whatever_their_order(fenced: Fenced, ok: bool) -> None:
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    await fenced.accept()
    first = asyncio.create_task(fenced.client.write(RECORD))
    second = asyncio.create_task(fenced.client.write(RECORD))
    asked = [await fenced.read(hub.Write), await fenced.read(hub.Write)]
    assert [message.record for message in asked] == [RECORD, RECORD]
    fenced.say(hub.Written(id=999, ok=True))
    fenced.say(hub.Written(id=asked[1].id, ok=ok))
    fenced.say(hub.Written(id=asked[1].id, ok=not ok))
    fenced.say(hub.Written(id=asked[0].id, ok=not ok))
    async with asyncio.timeout(2):
        assert (await first, await second) == (not ok, ok)
    assert faults == []


async def test_a_write_is_not_done_when_fenced_goes_away_before_it_answers(fenced: Fenced) -> None:
    await fenced.accept()
    work = asyncio.create_task(fenced.client.write(RECORD))
    await fenced.read(hub.Write)
    fenced.hang_up()
    start = asyncio.get_running_loop().time()
    assert await work is False
    assert asyncio.get_running_loop().time() - start < 0.5


async def test_a_write_that_is_not_answered_is_given_up_after_a_second(fenced: Fenced) -> None:
    await fenced.accept()
    async with asyncio.timeout(2):
        assert await fenced.client.write(RECORD) is False


async def test_the_state_of_the_addresses_is_known_until_fenced_is_lost(fenced: Fenced) -> None:
    await fenced.accept()
    carp = hub.Carp(vips=(), scheduling="SCHED_RR 5")
    fenced.say(carp)
    await until(lambda: fenced.client.carp == carp)
    fenced.hang_up()
    await until(lambda: fenced.losses == 1)
    assert fenced.client.carp is None


async def test_a_pool_s_fault_is_told_while_there_is_a_pool_and_to_each_new_fenced(fenced: Fenced) -> None:
    await fenced.accept()
    fenced.client.pools(["11"])
    fenced.client.pool_fault("tank is SUSPENDED")
    fenced.client.pools(["11", "12"])
    fenced.hang_up()
    await until(lambda: fenced.losses == 1)
    await fenced.accept()
    assert await fenced.read(hub.Pools) == hub.Pools(imported=("11", "12"), fault="tank is SUSPENDED")
    fenced.client.pools([])
    assert await fenced.read(hub.Pools) == hub.Pools()
