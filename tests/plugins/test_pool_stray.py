"""A pool that ZFS has and the configuration does not: shown, taken up, or exported again."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import msgspec
import pytest

from middlewared.engine.standin_parts import NoDisks
from middlewared.kernel.errors import CallFailed, PortFailed
from middlewared.kernel.facts import PoolName
from middlewared.kernel.pools import Dataset, Health
from middlewared.sim.pools import MemoryPools
from tests.plugins.pools import MIRROR, World, fields, request, stray


@pytest.fixture
async def world() -> World:
    return World()


async def test_a_pool_that_was_made_and_not_configured_is_shown_and_taken_up_as_it_is(world: World) -> None:
    guid = await stray(world)
    assert await world.call("pool.query") == []
    (found,) = await world.call("pool.import_find")
    assert (found["guid"], found["status"], found["imported"], found["exported"]) == (guid, "ONLINE", True, False)
    told = await world.call("pool.import_pool", {"guid": guid})
    assert (told["guid"], told["disks"], told["imported"]) == (guid, ["SHELF-0", "SHELF-1"], True)
    assert await world.call("pool.import_find") == []
    assert (await world.call("pool.import_pool", {"guid": guid}))["extra"][0][1] == f"pool {guid} is there already"


async def test_a_creation_that_ended_between_zfs_and_the_log_is_finished_by_its_repetition(world: World) -> None:
    ident = "0c6c1b9e-3f40-4a6f-9f2b-77c5a8a3a001"
    execute = world.engine.execute
    reached = asyncio.Event()

    async def nothing_more(*_: object, **__: object) -> Any:
        reached.set()
        await asyncio.Event().wait()

    world.engine.execute = nothing_more  # type: ignore[method-assign]
    first = asyncio.create_task(request(world, ident, "pool.create", MIRROR))
    await asyncio.wait_for(reached.wait(), 5)
    await world.api.jobs.close()
    await first
    assert ([one.name for one in await world.zfs.imported()], await world.call("pool.query")) == (["tank"], [])
    world.engine.execute = execute  # type: ignore[method-assign]
    world.forget_jobs()
    again = await request(world, ident, "pool.create", MIRROR)
    assert world.shared.pools.keys() == {again["result"]["guid"]}


async def test_a_pool_of_that_name_that_was_made_otherwise_is_not_taken_for_the_one_that_is_asked_for(
    world: World,
) -> None:
    guid = await stray(world)
    stripes = {"data": [{"type": "STRIPE", "disks": ["shelf/0", "shelf/1"]}]}
    others = {"data": [{"type": "MIRROR", "disks": ["shelf/2", "shelf/3"]}]}
    more = MIRROR["topology"] | {"spares": ["shelf/4"]}  # type: ignore[operator]
    for topology in (stripes, others, more):
        told = await world.call("pool.create", {"name": "tank", "topology": topology, "force": True})
        assert (fields(told), guid in told["extra"][0][1]) == (["pool_create.name"], True)


async def test_the_disks_of_a_pool_that_is_here_and_not_configured_are_not_taken_even_by_force(world: World) -> None:
    await stray(world)
    told = await world.call("pool.create", MIRROR | {"name": "other", "force": True})
    assert {message for _, message, _ in told["extra"]} == {
        "disk shelf/0 belongs to pool tank",
        "disk shelf/1 belongs to pool tank",
    }
    disk = await world.call("disk.query", [["serial", "=", "SHELF-0"]], {"get": True})
    assert (disk["pool"], disk["exported_zpool"]) == (None, "tank")


async def test_a_pool_of_which_no_disk_is_shared_is_not_taken_up(world: World) -> None:
    guid = await stray(world)
    world.engine.disks = NoDisks()
    assert await world.call("pool.import_find") == []
    assert fields(await world.call("pool.import_pool", {"guid": guid})) == ["pool_import.guid"]


class Faulty(MemoryPools):
    """A ZFS that does not tell datasets, or does not mount them, as long as `fault` says so."""

    fault = ""

    async def datasets(self, pool: str) -> tuple[Dataset, ...]:
        if self.fault == "datasets":
            raise PortFailed(f"list the datasets of {pool}", "`zfs get` did not end within 10 s")
        return await super().datasets(pool)

    async def health(self, name: str) -> Health:
        return msgspec.structs.replace(await super().health(name), mounted=self.fault != "mount")


@pytest.mark.parametrize(("fault", "why"), [("datasets", "did not end"), ("mount", "not mounted at /mnt/tank")])
async def test_an_import_that_fails_after_zfs_did_it_leaves_the_pool_exported(fault: str, why: str) -> None:
    world = World(Faulty)
    assert isinstance(world.zfs, Faulty)
    guid = await stray(world)
    await world.zfs.export_pool("tank")
    world.zfs.fault = fault
    assert why in (await world.call("pool.import_pool", {"guid": guid}))["reason"]
    world.zfs.fault = ""
    assert (await world.zfs.imported(), await world.call("pool.query")) == ((), [])
    assert (await world.call("pool.import_pool", {"guid": guid}))["guid"] == guid


async def test_a_pool_that_the_log_does_not_take_is_exported_again(world: World) -> None:
    execute = world.engine.execute
    world.engine.execute = no_room  # type: ignore[method-assign]
    assert (await world.call("pool.create", MIRROR))["errname"] == "ENOSPC"
    assert await world.zfs.imported() == ()
    world.engine.execute = execute  # type: ignore[method-assign]
    (found,) = await world.call("pool.import_find")
    assert (found["exported"], found["imported"]) == (True, False)


@pytest.mark.parametrize(("options", "missed"), [({}, ["tank"]), ({"destroy": True}, [])])
async def test_an_exported_pool_that_the_log_does_not_take_out_is_wanted_again_unless_it_is_destroyed(
    world: World, options: dict[str, object], missed: list[str]
) -> None:
    await world.call("failover.update", {"disabled": True})
    made = await world.call("pool.create", MIRROR)
    world.engine.execute = no_room  # type: ignore[method-assign]
    assert (await world.call("pool.export", 1, options))["errname"] == "ENOSPC"
    assert await world.zfs.imported() == ()
    assert [one.name for one in await world.pools.missing([PoolName(name="tank", guid=made["guid"])])] == missed


async def no_room(*_: object, **__: object) -> Any:
    raise CallFailed(errno.ENOSPC, "The disk of this controller is full")
