"""The methods of pool, over pools in memory."""

from __future__ import annotations

import errno

import pytest
from middlewared_plugins.pool import pool

from middlewared.kernel.errors import PortFailed
from middlewared.kernel.pools import Imported
from middlewared.sim.pools import MemoryDisks, MemoryPools
from tests.plugins.pools import MIRROR, OTHER, World, fields, request, stranger, stray


@pytest.fixture
async def world() -> World:
    return World()


# pool.create, query


async def test_a_pool_is_made_configured_and_told_as_clients_know_it(world: World) -> None:
    told = await world.call("pool.create", MIRROR)
    assert told["disks"] == ["SHELF-0", "SHELF-1"]
    assert (told["id"], told["name"], told["path"], told["status"], told["healthy"], told["imported"]) == (
        (1, "tank", "/mnt/tank", "ONLINE", True, True)
    )
    (mirror,) = told["topology"]["data"]
    assert (mirror["type"], [child["disk"] for child in mirror["children"]]) == ("MIRROR", ["shelf/0", "shelf/1"])
    assert told["topology"]["special"] == []
    assert told["size"] == told["free"] + told["allocated"]
    assert await world.call("pool.query") == [told] == [await world.call("pool.get_instance", 1)]
    assert world.engine.state(pool.NOUN).pools[0].guid == told["guid"]


async def test_pools_are_queried_with_filters(world: World) -> None:
    await world.call("pool.create", MIRROR)
    assert await world.call("pool.query", [["name", "=", "none"]]) == []
    assert (await world.call("pool.query", [["name", "=", "tank"]], {"get": True}))["id"] == 1


async def test_every_fault_of_a_creation_is_named_by_its_field(world: World) -> None:
    await world.call("pool.create", MIRROR)
    told = await world.call("pool.create", MIRROR | {"topology": {"data": [{"type": "STRIPE", "disks": ["shelf/1"]}]}})
    assert fields(told) == [
        "pool_create.name",
        "pool_create.topology.data.0.type",
        "pool_create.topology.data.0.disks.0",
    ]


async def test_a_disk_that_the_other_controller_does_not_see_is_refused(world: World) -> None:
    world.sees(["SHELF-0"])
    assert fields(await world.call("pool.create", MIRROR)) == ["pool_create.topology.data.0.disks.1"]


async def test_what_zfs_says_is_told_and_nothing_is_configured(world: World) -> None:
    world.shared.cut.add("controller-a")
    world.engine.disks = MemoryDisks(world.shared, "controller-b")
    assert "I/O error" in (await world.call("pool.create", MIRROR))["reason"]
    assert world.engine.state(pool.NOUN).pools == ()


async def test_a_creation_that_is_sent_again_under_its_id_makes_nothing_again(world: World) -> None:
    ident = "0c6c1b9e-3f40-4a6f-9f2b-77c5a8a3a001"
    first = await request(world, ident, "pool.create", MIRROR)
    assert first["result"]["name"] == "tank"
    world.forget_jobs()
    again = await request(world, ident, "pool.create", MIRROR)
    assert again["result"]["guid"] == first["result"]["guid"]
    assert world.shared.pools.keys() == {first["result"]["guid"]}


async def test_without_zfs_pools_are_told_and_cannot_be_changed(world: World) -> None:
    world.engine.pools = None
    assert await world.call("pool.query") == []
    told = await world.call("pool.create", MIRROR)
    assert (told["error"], "[pools]" in told["reason"]) == (errno.EOPNOTSUPP, True)


# arguments that clients of this API family send


async def test_what_clients_send_besides_is_taken_where_it_means_nothing_here(world: World) -> None:
    await world.call("failover.update", {"disabled": True})
    made = await world.call("pool.create", MIRROR)
    assert await world.call("pool.get_instance", 1, {"extra": {}}) == made
    await world.call("pool.dataset.create", {"name": "tank/docs"})
    assert await world.call("pool.dataset.delete", "tank/docs", {"recursive": True, "force": True}) is True
    options = {"destroy": False, "cascade": True, "restart_services": True}
    assert await world.call("pool.export", 1, options) is None
    asked = {"guid": made["guid"], "name": "tank", "enable_attachments": True}
    assert (await world.call("pool.import_pool", asked))["name"] == "tank"


@pytest.mark.parametrize("exported", [True, False])
async def test_an_import_does_not_rename_a_pool(world: World, exported: bool) -> None:
    guid = await stray(world)
    if exported:
        await world.zfs.export_pool("tank")
    told = await world.call("pool.import_pool", {"guid": guid, "name": "dozer"})
    assert told["extra"][0][:2] == [
        "pool_import.name",
        f"pool {guid} is called tank, and an import does not give it another name",
    ]
    assert len(await world.zfs.imported()) == (0 if exported else 1)


# where ZFS does not answer


class Silent(MemoryPools):
    """A ZFS that does not tell what is imported once it is `silent`."""

    silent = False

    async def imported(self) -> tuple[Imported, ...]:
        if self.silent:
            raise PortFailed("list the pools", "`zpool list` did not end within 10 s")
        return await super().imported()


async def test_every_pool_is_told_as_unknown_with_what_zfs_said() -> None:
    world = World(Silent)
    await world.call("pool.create", MIRROR)
    await world.call("pool.create", OTHER)
    world.zfs.silent = True  # type: ignore[attr-defined]
    told = await world.call("pool.query")
    assert [(one["name"], one["status"], one["healthy"]) for one in told] == [
        ("tank", "UNKNOWN", None),
        ("dozer", "UNKNOWN", None),
    ]
    assert "did not end within 10 s" in told[0]["status_detail"]
    assert told[0] == await world.call("pool.get_instance", 1)


# the standby


async def test_on_the_standby_pools_are_told_as_not_imported_there(world: World) -> None:
    await world.call("pool.create", MIRROR)
    world.stand_by()
    (told,) = await world.call("pool.query")
    assert (told["status"], told["imported"], told["healthy"], told["topology"], told["size"]) == (
        ("OFFLINE", False, None, None, None)
    )
    assert "stands by" in told["status_detail"]


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("pool.create", [MIRROR]),
        ("pool.export", [1]),
        ("pool.scrub", [1]),
        ("pool.import_pool", [{"guid": "7"}]),
        ("pool.dataset.query", []),
        ("pool.dataset.create", [{"name": "tank/x"}]),
    ],
)
async def test_what_only_the_active_controller_can_do_says_where_that_is(
    world: World, method: str, params: list[object]
) -> None:
    world.stand_by()
    told = await world.call(method, *params)
    assert (told["error"], told["extra"]["active_urls"]) == (errno.EROFS, ["http://10.0.0.9"])


async def test_a_configured_pool_that_the_active_controller_lacks_is_not_healthy(world: World) -> None:
    await world.call("pool.create", MIRROR)
    world.zfs.lose_power()
    (told,) = await world.call("pool.query")
    assert (told["status"], told["healthy"]) == ("OFFLINE", False)


# import, export, scrub


async def test_a_pool_is_exported_found_and_imported_again(world: World) -> None:
    await world.call("failover.update", {"disabled": True})
    made = await world.call("pool.create", MIRROR)
    assert await world.call("pool.export", 1) is None
    assert (await world.call("pool.query"), await world.zfs.imported()) == ([], ())
    (found,) = await world.call("pool.import_find")
    assert (found["name"], found["guid"], found["exported"], found["imported"]) == ("tank", made["guid"], True, False)
    again = await world.call("pool.import_pool", {"guid": made["guid"]})
    assert (again["guid"], again["disks"], again["imported"]) == (made["guid"], made["disks"], True)
    assert await world.call("pool.import_find") == []


async def test_a_pool_that_somebody_else_did_not_export_needs_force(world: World) -> None:
    guid = await stranger(world)
    (found,) = await world.call("pool.import_find")
    assert (found["hostname"], found["exported"]) == ("elsewhere", False)
    told = await world.call("pool.import_pool", {"guid": guid})
    assert (fields(told), "elsewhere" in told["extra"][0][1]) == (["pool_import.force"], True)
    assert (await world.call("pool.import_pool", {"guid": guid, "force": True}))["name"] == "tank"


async def test_a_disk_with_such_a_pool_is_overwritten_by_force_only(world: World) -> None:
    await stranger(world)
    disks = ["pool_create.topology.data.0.disks.0", "pool_create.topology.data.0.disks.1"]
    assert fields(await world.call("pool.create", MIRROR)) == disks


async def test_a_pool_that_is_not_there_cannot_be_imported(world: World) -> None:
    told = await world.call("pool.import_pool", {"guid": "4711"})
    assert told["extra"] == [["pool_import.guid", "there is no pool 4711 on the shared disks", errno.ENOENT]]


async def test_the_last_pool_is_kept_while_failover_is_enabled(world: World) -> None:
    await world.call("pool.create", MIRROR)
    told = await world.call("pool.export", 1)
    assert (told["error"], "tank is the last pool" in told["reason"]) == (errno.EOPNOTSUPP, True)
    assert [one.name for one in await world.zfs.imported()] == ["tank"]
    await world.call("failover.update", {"disabled": True})
    assert await world.call("pool.export", 1, {"destroy": True}) is None
    assert await world.call("pool.import_find") == []


async def test_a_pool_that_is_not_imported_is_given_up_all_the_same(world: World) -> None:
    await world.call("failover.update", {"disabled": True})
    await world.call("pool.create", MIRROR)
    world.zfs.lose_power()
    assert await world.call("pool.export", 1) is None
    assert await world.call("pool.query") == []


async def test_a_pool_that_is_not_imported_cannot_be_destroyed(world: World) -> None:
    await world.call("failover.update", {"disabled": True})
    await world.call("pool.create", MIRROR)
    world.zfs.lose_power()
    assert (await world.call("pool.export", 1, {"destroy": True}))["errname"] == "EINVAL"
    assert len(world.engine.state(pool.NOUN).pools) == 1


async def test_a_pool_from_elsewhere_is_mounted_by_its_name(world: World) -> None:
    guid = await stranger(world)
    elsewhere = MemoryPools(world.shared, "elsewhere")
    await elsewhere.import_pool(guid)
    await elsewhere.set_dataset("tank", {"mountpoint": "/srv"})
    await elsewhere.export_pool("tank")
    await world.call("pool.import_pool", {"guid": guid})
    assert [one["mountpoint"] for one in await world.call("pool.dataset.query")] == ["/mnt/tank"]
