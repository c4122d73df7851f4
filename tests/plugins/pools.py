"""Controller A with pools in memory, and what is asked of it."""

from __future__ import annotations

from typing import Any

import msgspec
from middlewared_plugins.failover import plugin as failover
from middlewared_plugins.network import plugin as network
from middlewared_plugins.pool import plugin as pools
from middlewared_plugins.pool import pool

from middlewared.engine.dispatch import Dispatcher
from middlewared.engine.jobs import Jobs
from middlewared.engine.standin import FACTS, MemoryEngine, dispatcher
from middlewared.engine.standin_parts import MemoryClock
from middlewared.engine.told_pools import ToldPools
from middlewared.kernel.errors import NotActive
from middlewared.kernel.pools import Layout, Vdev
from middlewared.sim.pools import MemoryDisks, MemoryPools, PoolDisks
from tests.plugins.client import Client

MIRROR = {"name": "tank", "topology": {"data": [{"type": "MIRROR", "disks": ["shelf/0", "shelf/1"]}]}}
OTHER = {"name": "dozer", "topology": {"data": [{"type": "MIRROR", "disks": ["shelf/2", "shelf/3"]}]}}


class World:
    """Controller A, active, with its peer B and their disks."""

    def __init__(self, zfs: type[MemoryPools] = MemoryPools) -> None:
        self.api: Dispatcher
        self.engine: MemoryEngine
        self.api, self.engine, _ = dispatcher(pools, failover, network)
        self.shared = PoolDisks()
        self.zfs = zfs(self.shared, "controller-a")
        self.engine.pools = self.pools = ToldPools(self.zfs, lambda guids: None, lambda: True)
        self.engine.disks = MemoryDisks(self.shared, "controller-a")
        self.engine.facts_now = msgspec.structs.replace(FACTS, paired=True)
        self.sees([disk.serial for disk in self.shared.disks])
        self.admin = Client(self.api, "FULL_ADMIN")
        self.admin.session.options["legacy_jobs"] = False

    def sees(self, serials: list[str]) -> None:
        """What the other controller sees."""
        seen = [disk for disk in self.shared.disks if disk.serial in serials]
        self.engine.peer["disk.seen_here"] = [msgspec.to_builtins(disk) for disk in seen]

    async def call(self, method: str, *params: object) -> Any:
        return await self.admin.call(method, *params)

    def forget_jobs(self) -> None:
        """As a restart of the daemon does."""
        self.api.jobs = Jobs(MemoryClock(), lambda *_, **__: None)

    def stand_by(self) -> None:
        self.engine.facts_now = msgspec.structs.replace(self.engine.facts_now, status="BACKUP")
        self.engine.refusal = NotActive("A", ["http://10.0.0.9"])
        self.zfs.lose_power()


def fields(told: Any) -> list[str]:
    return [field for field, _, _ in told["extra"]]


async def request(world: World, ident: str, method: str, *params: object) -> Any:
    text = msgspec.json.encode({"jsonrpc": "2.0", "id": ident, "method": method, "params": params}).decode()
    answer = await world.api.answer(world.admin.session, text, lambda: None)
    assert answer is not None
    return msgspec.json.decode(answer)


async def stray(world: World) -> str:
    """A pool that is here, of a call whose process ended between ZFS and the log."""
    return await world.zfs.create("tank", Layout(data=(Vdev(type="MIRROR", devices=("/dev/shelf/0", "/dev/shelf/1")),)))


async def stranger(world: World) -> str:
    """A pool on the disks that another system has imported."""
    elsewhere = MemoryPools(world.shared, "elsewhere")
    await world.call("pool.create", MIRROR)
    guid = str(world.engine.state(pool.NOUN).pools[0].guid)
    await world.call("failover.update", {"disabled": True})
    await world.call("pool.export", 1)
    await elsewhere.import_pool(guid)
    return guid
