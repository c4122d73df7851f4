"""What this controller sees of its disks and pools is looked at again and again."""

from __future__ import annotations

import msgspec

from middlewared.engine.pool_watch import PoolWatch
from middlewared.kernel.errors import PortFailed
from middlewared.kernel.pools import Health, Imported, Layout, Vdev
from middlewared.sim.pools import MemoryDisks, MemoryPools, PoolDisks

MIRROR = Layout(data=(Vdev(type="MIRROR", devices=("/dev/shelf/0", "/dev/shelf/1")),))


class Silent(MemoryPools):
    """A ZFS that does not answer."""

    async def imported(self) -> tuple[Imported, ...]:
        raise PortFailed("list the pools", "`zpool list` did not end within 10 s")


class World:
    def __init__(self) -> None:
        self.shared = PoolDisks(2)
        self.zfs = MemoryPools(self.shared, "a")
        self.told: list[str | None] = []
        self.watch = PoolWatch(self.zfs, MemoryDisks(self.shared, "a"), self.told.append)


async def test_before_the_first_look_nothing_is_known() -> None:
    world = World()
    assert (world.watch.serials, world.watch.fault) == (None, None)


async def test_the_disks_that_answer_are_known_by_their_serials() -> None:
    world = World()
    await world.watch.look()
    before = world.watch.serials
    world.shared.cut.add("a")
    await world.watch.look()
    assert (before, world.watch.serials) == (("SHELF-0", "SHELF-1"), ())


async def test_a_pool_that_stops_is_told_once_and_so_is_that_it_goes_on() -> None:
    world = World()
    await world.zfs.create("tank", MIRROR)
    await world.watch.look()
    assert world.told == []
    world.shared.cut.add("a")
    await world.watch.look()
    await world.watch.look()
    assert world.told == ["tank is SUSPENDED"] == [world.watch.fault]
    world.shared.cut.clear()
    await world.watch.look()
    assert world.told == ["tank is SUSPENDED", None]


class Limping(MemoryPools):
    """A ZFS whose pools have lost a disk."""

    async def health(self, name: str) -> Health:
        detail = "One or more devices could not be opened."
        return msgspec.structs.replace(await super().health(name), status="DEGRADED", detail=detail)


async def test_a_pool_that_lost_a_disk_goes_on_and_is_told_apart_from_one_that_stopped() -> None:
    world = World()
    zfs = Limping(world.shared, "a")
    await zfs.create("tank", MIRROR)
    watch = PoolWatch(zfs, MemoryDisks(world.shared, "a"), world.told.append)
    await watch.look()
    assert watch.degraded == {"tank": "One or more devices could not be opened."}
    assert (watch.fault, world.told) == (None, [])


async def test_where_zfs_does_not_answer_what_was_told_stands() -> None:
    world = World()
    world.watch.fault = "tank is SUSPENDED"
    silent = PoolWatch(Silent(world.shared, "a"), MemoryDisks(world.shared, "a"), world.told.append)
    silent.fault = "tank is SUSPENDED"
    await silent.look()
    assert (silent.fault, world.told) == ("tank is SUSPENDED", [])


async def test_without_zfs_the_disks_are_looked_at_all_the_same() -> None:
    world = World()
    watch = PoolWatch(None, MemoryDisks(world.shared, "a"), world.told.append)
    await watch.look()
    assert (watch.serials, watch.fault) == (("SHELF-0", "SHELF-1"), None)
