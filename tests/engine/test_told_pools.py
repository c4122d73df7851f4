"""fenced is never told less than what may be imported."""

from __future__ import annotations

import pytest

from middlewared.engine.told_pools import ToldPools
from middlewared.kernel.errors import PortFailed
from middlewared.kernel.pools import Layout, Vdev
from middlewared.sim.pools import MemoryPools, PoolDisks

MIRROR = Layout(data=(Vdev(type="MIRROR", devices=("/dev/shelf/0", "/dev/shelf/1")),))


class World:
    def __init__(self) -> None:
        self.disks = PoolDisks()
        self.zfs = MemoryPools(self.disks, "a")
        self.told: list[list[str]] = []
        self.pools = ToldPools(self.zfs, lambda guids: self.told.append(list(guids)))


async def test_a_pool_is_told_before_it_is_made_and_by_its_guid_afterwards() -> None:
    world = World()
    guid = await world.pools.create("tank", MIRROR)
    assert world.told == [["new pool tank"], [guid]]


async def test_a_pool_is_told_before_it_is_imported_and_until_it_is_exported() -> None:
    world = World()
    guid = await world.pools.create("tank", MIRROR)
    await world.pools.export_pool("tank")
    await world.pools.import_pool(guid)
    await world.pools.destroy("tank")
    assert world.told[2:] == [[], [guid], [guid], []]


async def test_what_fails_leaves_what_is_so_told() -> None:
    world = World()
    guid = await world.pools.create("tank", MIRROR)
    world.disks.cut.add("a")
    with pytest.raises(PortFailed):
        await world.pools.export_pool("tank")
    with pytest.raises(PortFailed):
        await world.pools.import_pool("99")
    assert world.told[2:] == [[guid], [guid, "99"], [guid]]
