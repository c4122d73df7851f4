"""The methods of pool, pool.dataset and disk, over pools in memory."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from middlewared_plugins.failover import plugin as failover
from middlewared_plugins.network import plugin as network
from middlewared_plugins.pool import effects, pool
from middlewared_plugins.pool import plugin as pools

from middlewared.engine.dispatch import Dispatcher
from middlewared.engine.jobs import Jobs
from middlewared.engine.standin import FACTS, MemoryEngine, dispatcher
from middlewared.engine.standin_parts import MemoryClock, NoDisks
from middlewared.engine.told_pools import ToldPools
from middlewared.kernel.errors import CallFailed, NotActive, PortFailed
from middlewared.kernel.facts import PoolName
from middlewared.kernel.pools import Dataset, Health, Imported, Layout, Scan, Vdev
from middlewared.sim.pools import MemoryDisks, MemoryPools, PoolDisks
from tests.plugins.client import Client
from tests.plugins.view import MemoryView
from tests.shell.loopback import until

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


@pytest.fixture
async def world() -> World:
    return World()


def fields(told: Any) -> list[str]:
    return [field for field, _, _ in told["extra"]]


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


async def request(world: World, ident: str, method: str, *params: object) -> Any:
    text = msgspec.json.encode({"jsonrpc": "2.0", "id": ident, "method": method, "params": params}).decode()
    answer = await world.api.answer(world.admin.session, text, lambda: None)
    assert answer is not None
    return msgspec.json.decode(answer)


async def test_without_zfs_pools_are_told_and_cannot_be_changed(world: World) -> None:
    world.engine.pools = None
    assert await world.call("pool.query") == []
    told = await world.call("pool.create", MIRROR)
    assert (told["error"], "[pools]" in told["reason"]) == (errno.EOPNOTSUPP, True)


# pools that ZFS has and the configuration does not


async def stray(world: World) -> str:
    """A pool that is here, of a call whose process ended between ZFS and the log."""
    return await world.zfs.create("tank", Layout(data=(Vdev(type="MIRROR", devices=("/dev/shelf/0", "/dev/shelf/1")),)))


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


async def stranger(world: World) -> str:
    """A pool on the disks that another system has imported."""
    elsewhere = MemoryPools(world.shared, "elsewhere")
    await world.call("pool.create", MIRROR)
    guid = str(world.engine.state(pool.NOUN).pools[0].guid)
    await world.call("failover.update", {"disabled": True})
    await world.call("pool.export", 1)
    await elsewhere.import_pool(guid)
    return guid


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
