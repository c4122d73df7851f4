"""fenced is never told less than what may be imported."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from middlewared.engine.told_pools import ToldPools
from middlewared.kernel.errors import PortFailed
from middlewared.kernel.facts import PoolName
from middlewared.kernel.pools import Imported, Layout, Vdev
from middlewared.sim.pools import MemoryPools, PoolDisks

OTHER = Layout(data=(Vdev(type="MIRROR", devices=("/dev/shelf/2", "/dev/shelf/3")),))
MIRROR = Layout(data=(Vdev(type="MIRROR", devices=("/dev/shelf/0", "/dev/shelf/1")),))


class World:
    def __init__(self) -> None:
        self.disks = PoolDisks()
        self.zfs = MemoryPools(self.disks, "a")
        self.told: list[list[str]] = []
        self.fenced = True
        self.pools = ToldPools(self.zfs, self.tell, lambda: self.fenced)

    def tell(self, imported: Sequence[str]) -> None:
        self.told.append(list(imported))


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


async def test_two_that_come_at_once_are_both_told_until_both_are_there() -> None:
    world = World()
    one = await world.pools.create("one", MIRROR)
    two = await world.pools.create("two", OTHER)
    await world.pools.export_pool("one")
    await world.pools.export_pool("two")
    world.told.clear()
    await asyncio.gather(world.pools.import_pool(one), world.pools.import_pool(two))
    assert world.told[-1] == sorted([one, two])
    assert all(told == sorted(told) for told in world.told)


async def test_nothing_is_forced_unless_the_disks_are_fenced() -> None:
    world = World()
    guid = await world.pools.create("tank", MIRROR)
    await world.pools.export_pool("tank")
    world.fenced = False
    with pytest.raises(PortFailed, match="fenced does not say"):
        await world.pools.import_pool(guid, force=True)
    await world.pools.import_pool(guid)


async def test_an_import_that_is_cancelled_leaves_the_pool_told_for_it_may_come_yet() -> None:
    world = World()
    guid = await world.pools.create("tank", MIRROR)
    await world.pools.export_pool("tank")
    world.zfs.import_pool = never  # type: ignore[method-assign]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(world.pools.import_pool(guid), 0.01)
    await world.pools.look()
    assert world.told[-1] == [guid]


async def never(guid: str, *, force: bool = False) -> None:
    await asyncio.Event().wait()


class SlowPools(MemoryPools):
    """begins: what is asked does nothing before. proven: an export is not over before. answers: nor is a look."""

    def __init__(self, shared: PoolDisks) -> None:
        super().__init__(shared, "a")
        self.begins, self.proven, self.answers = asyncio.Event(), asyncio.Event(), asyncio.Event()
        for gate in (self.begins, self.proven, self.answers):
            gate.set()

    async def imported(self) -> tuple[Imported, ...]:
        seen = await super().imported()
        await self.answers.wait()
        return seen

    async def import_pool(self, guid: str, *, force: bool = False) -> None:
        await self.begins.wait()
        await super().import_pool(guid, force=force)

    async def export_pool(self, name: str, *, force: bool = False) -> None:
        await self.begins.wait()
        await super().export_pool(name, force=force)
        await self.proven.wait()


async def all_wait() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_pool_that_is_being_exported_is_not_missed() -> None:
    world = World()
    zfs = SlowPools(world.disks)
    pools = ToldPools(zfs, world.tell, lambda: True)
    wanted = (PoolName(name="tank", guid=await pools.create("tank", MIRROR)),)
    zfs.proven.clear()
    exporting = asyncio.create_task(pools.export_pool("tank"))
    await all_wait()
    assert await pools.missing(wanted) == []
    zfs.proven.set()
    await exporting
    assert await pools.missing(wanted) == []


async def test_a_look_from_before_an_export_does_not_make_the_pool_missed_again() -> None:
    world = World()
    zfs = SlowPools(world.disks)
    pools = ToldPools(zfs, world.tell, lambda: True)
    wanted = (PoolName(name="tank", guid=await pools.create("tank", MIRROR)),)
    zfs.begins.clear()
    exporting = asyncio.create_task(pools.export_pool("tank"))
    await all_wait()
    zfs.answers.clear()
    looking = asyncio.create_task(pools.look())
    await all_wait()
    zfs.begins.set()
    await all_wait()
    zfs.answers.set()
    await asyncio.gather(exporting, looking)
    assert await pools.missing(wanted) == []


async def test_a_look_from_before_an_import_tells_the_pool_all_the_same() -> None:
    world = World()
    zfs = SlowPools(world.disks)
    pools = ToldPools(zfs, world.tell, lambda: True)
    guid = await pools.create("tank", MIRROR)
    await pools.export_pool("tank")
    zfs.begins.clear()
    importing = asyncio.create_task(pools.import_pool(guid))
    await all_wait()
    zfs.answers.clear()
    looking = asyncio.create_task(pools.look())
    await all_wait()
    zfs.begins.set()
    await all_wait()
    world.told.clear()
    zfs.answers.set()
    await asyncio.gather(importing, looking)
    assert world.told == [[guid], [guid]]
