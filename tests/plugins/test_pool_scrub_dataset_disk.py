"""pool.scrub, pool.dataset and disk, over pools in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from middlewared_plugins.pool import effects, pool

from middlewared.kernel.facts import PoolName
from middlewared.kernel.pools import Scan
from middlewared.sim.pools import MemoryPools, PoolDisks
from tests.plugins.pools import MIRROR, OTHER, World, fields, stranger
from tests.plugins.view import MemoryView
from tests.shell.loopback import until


@pytest.fixture
async def world() -> World:
    return World()


async def test_a_scrub_says_what_it_came_to(world: World) -> None:
    await world.call("pool.create", MIRROR)
    told = await world.call("pool.scrub", 1)
    assert told["scan"] == {"function": "SCRUB", "state": "FINISHED", "percent": 100.0, "errors": 0}
    assert fields(await world.call("pool.scrub", 1, "SLEEP")) == ["action"]
    assert (await world.call("pool.scrub", 9))["errname"] == "ENOENT"


class LongScrubs(MemoryPools):
    """A ZFS whose scrubs last until they are stopped."""

    def __init__(self, shared: PoolDisks, host: str) -> None:
        super().__init__(shared, host)
        self.running: dict[str, asyncio.Event] = {}

    async def scrub(self, name: str, *, stop: bool = False) -> None:
        if stop:
            self.running.pop(name).set()
        else:
            self.running[name] = asyncio.Event()

    async def scan_over(self, name: str, told: Callable[[Scan], None]) -> Scan:
        await self.running[name].wait()
        return Scan(function="SCRUB", state="CANCELED")


async def test_pools_are_scrubbed_side_by_side_and_a_scrub_that_runs_can_be_stopped() -> None:
    world = World(LongScrubs)
    zfs = world.zfs
    assert isinstance(zfs, LongScrubs)
    await world.call("pool.create", MIRROR)
    await world.call("pool.create", OTHER)
    scrubs = [asyncio.create_task(world.call("pool.scrub", number)) for number in (1, 2)]
    async with asyncio.timeout(5):
        await until(lambda: len(zfs.running) == 2)
        assert (await world.call("pool.scrub", 1, "STOP"))["name"] == "tank"
        assert (await scrubs[0])["name"] == "tank"
        assert not scrubs[1].done()
        await world.call("pool.scrub", 2, "STOP")
        await scrubs[1]


async def test_a_scrub_cannot_be_paused(world: World) -> None:
    await world.call("pool.create", MIRROR)
    assert "STOP ends it" in (await world.call("pool.scrub", 1, "PAUSE"))["extra"][0][1]


# datasets


async def test_datasets_are_made_changed_told_and_deleted(world: World) -> None:
    await world.call("pool.create", MIRROR)
    made = await world.call("pool.dataset.create", {"name": "tank/docs", "compression": "ON", "quota": 4096})
    assert (made["id"], made["pool"], made["mountpoint"], made["mounted"]) == (
        "tank/docs",
        "tank",
        "/mnt/tank/docs",
        True,
    )
    assert made["quota"] == {"parsed": 4096, "rawvalue": "4096", "value": "4096", "source": "LOCAL"}
    changed = await world.call("pool.dataset.update", "tank/docs", {"quota": None, "compression": "INHERIT"})
    assert ("compression" in changed, changed["quota"]["rawvalue"]) == (False, "none")
    assert [one["id"] for one in await world.call("pool.dataset.query")] == ["tank", "tank/docs"]
    assert await world.call("pool.dataset.delete", "tank/docs") is True
    assert [one["id"] for one in await world.call("pool.dataset.query", [["pool", "=", "tank"]])] == ["tank"]


@pytest.mark.parametrize(
    ("data", "wrong"),
    [
        ({"name": "tank"}, "name"),
        ({"name": "none/x"}, "name"),
        ({"name": "tank/@"}, "name"),
        ({"name": "tank//x"}, "name"),
        ({"name": "tank/x", "type": "VOLUME"}, "type"),
        ({"name": "tank/x", "quota": -1}, "quota"),
        ({"name": "tank/x", "atime": "o n"}, "atime"),
        ({"name": "tank/x", "colour": "red"}, "colour"),
    ],
)
async def test_a_dataset_that_cannot_be_is_refused_by_its_field(
    world: World, data: dict[str, object], wrong: str
) -> None:
    await world.call("pool.create", MIRROR)
    assert fields(await world.call("pool.dataset.create", data)) == [f"pool_dataset_create.{wrong}"]


async def test_a_pool_is_not_deleted_as_a_dataset(world: World) -> None:
    await world.call("pool.create", MIRROR)
    assert (await world.call("pool.dataset.delete", "tank", {"recursive": True}))["errname"] == "EINVAL"
    assert (await world.call("pool.dataset.delete", "tank/none"))["errname"] == "ENOENT"


# disks


async def test_a_disk_is_told_with_both_controllers_views_and_its_pool(world: World) -> None:
    await world.call("pool.create", MIRROR)
    world.sees(["SHELF-0"])
    told = {disk["serial"]: disk for disk in await world.call("disk.query")}
    assert len(told) == 6
    first = told["SHELF-0"]
    assert (first["name"], first["pool"], first["identifier"]) == ("shelf/0", "tank", "{serial}SHELF-0")
    assert [first["nodes"][node]["seen"] for node in "AB"] == [True, True]
    assert [told["SHELF-5"]["nodes"][node]["seen"] for node in "AB"] == [True, False]
    assert told["SHELF-5"]["pool"] is None


async def test_where_the_other_controller_cannot_be_asked_its_view_says_why(world: World) -> None:
    del world.engine.peer["disk.seen_here"]
    told = await world.call("disk.query", [["serial", "=", "SHELF-0"]], {"get": True})
    assert (told["nodes"]["B"]["seen"], bool(told["nodes"]["B"]["why"])) == (None, True)


async def test_a_disk_that_only_the_other_controller_sees_is_told(world: World) -> None:
    world.shared.cut.add("controller-a")
    (told,) = await world.call("disk.query", [["serial", "=", "SHELF-2"]])
    assert (told["name"], [told["nodes"][node]["seen"] for node in "AB"]) == ("shelf/2", [False, True])


async def test_a_disk_with_a_pool_that_is_nobodys_says_its_name(world: World) -> None:
    await stranger(world)
    told = await world.call("disk.query", [["serial", "=", "SHELF-0"]], {"get": True})
    assert (told["pool"], told["exported_zpool"]) == (None, "tank")


# the effect


async def test_fenced_is_told_the_pools_by_name_and_guid() -> None:
    view = MemoryView()
    await effects.name_pools(view)
    assert view.told.pools == []
    view.set(pool.NOUN, pool.Pools(pools=(pool.Pool(id=1, name="tank", guid="11", disks=()),)))
    await effects.name_pools(view)
    assert view.told.pools == [PoolName(name="tank", guid="11")]
