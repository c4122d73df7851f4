"""What ports.PoolStore promises, kept by ZFS in namespaces and by the one in memory."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from middlewared.kernel.errors import PortFailed
from middlewared.kernel.pools import Dataset, Layout, Vdev
from middlewared.lab.programs import pools_possible
from tests.contract.pool_rigs import MemoryRig, PoolRig, ZfsFuseRig
from tests.shell.zfs.machine import shelf


@pytest.fixture(scope="module")
def zfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZfsFuseRig]:
    if not pools_possible():
        assert os.environ.get("CI") != "true", "needs root and zfs-fuse"
        pytest.skip("needs root and zfs-fuse")
    directory: Path = tmp_path_factory.mktemp("shelf")
    with shelf(directory, 4) as ports:
        rig = ZfsFuseRig(ports)
        yield rig
        rig.close()


@pytest.fixture(params=["memory", "zfs-fuse"])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[PoolRig]:
    if request.param == "memory":
        yield MemoryRig()
        return
    real: ZfsFuseRig = request.getfixturevalue("zfs")
    yield real
    await real.clean()


def mirror(rig: PoolRig, first: int = 0) -> Layout:
    return Layout(data=(Vdev(type="MIRROR", devices=tuple(rig.devices()[first : first + 2])),))


async def test_a_pool_that_is_created_is_imported_mounted_healthy_and_named_by_its_guid(rig: PoolRig) -> None:
    store = rig.store("A")
    guid = await store.create("tank", mirror(rig))
    assert [(pool.name, pool.guid) for pool in await store.imported()] == [("tank", guid)]
    health = await store.health("tank")
    assert (health.guid, health.status, health.mounted, health.healthy) == (guid, "ONLINE", True, True)
    assert [vdev.type for vdev in health.topology.data] == ["MIRROR"]
    assert [leaf.path for leaf in health.topology.leaves()] == rig.devices()[:2]
    assert 0 < health.free <= health.size


async def test_a_disk_that_belongs_to_a_pool_is_refused_unless_forced_and_the_name_may_be_taken_once(
    rig: PoolRig,
) -> None:
    store = rig.store("A")
    await store.create("tank", mirror(rig))
    with pytest.raises(PortFailed, match="/dev/shelf/1"):
        await store.create("other", Layout(data=(Vdev(type="STRIPE", devices=(rig.devices()[1],)),)))
    with pytest.raises(PortFailed, match="exists"):
        await store.create("tank", mirror(rig, 2))
    await store.export_pool("tank")
    with pytest.raises(PortFailed, match="create pool other"):
        await store.create("other", mirror(rig))
    await store.create("other", mirror(rig), force=True)
    assert [pool.name for pool in await store.imported()] == ["other"]


async def test_a_disk_that_is_not_there_is_named(rig: PoolRig) -> None:
    with pytest.raises(PortFailed, match="/dev/shelf/77"):
        await rig.store("A").create("tank", Layout(data=(Vdev(type="STRIPE", devices=("/dev/shelf/77",)),)))


async def test_a_pool_that_one_exported_the_other_imports_without_force(rig: PoolRig) -> None:
    a, b = rig.store("A"), rig.store("B")
    guid = await a.create("tank", mirror(rig))
    await b.found()  # so it has read the disks before they change
    await a.export_pool("tank")
    assert await a.imported() == ()
    assert [(pool.name, pool.guid, pool.foreign, pool.last_used_by) for pool in await b.found()] == [
        ("tank", guid, False, None)
    ]
    await b.import_pool(guid)
    assert (await b.health("tank")).mounted
    assert await a.found() == () or (await a.found())[0].foreign


async def test_a_pool_that_nobody_exported_says_who_had_it_and_is_imported_by_force_only(rig: PoolRig) -> None:
    a, b = rig.store("A"), rig.store("B")
    guid = await a.create("tank", mirror(rig))
    rig.power_cut("A")
    assert [(pool.foreign, pool.last_used_by) for pool in await b.found()] == [(True, "controller-a")]
    with pytest.raises(PortFailed, match="in use from other system"):
        await b.import_pool(guid)
    assert await b.imported() == ()
    await b.import_pool(guid, force=True)
    assert [pool.guid for pool in await b.imported()] == [guid]


async def test_a_controller_that_comes_back_has_nothing_imported(rig: PoolRig) -> None:
    await rig.store("A").create("tank", mirror(rig))
    rig.power_cut("A")
    store = rig.store("A")
    assert await store.imported() == ()
    assert [(pool.name, pool.foreign) for pool in await store.found()] == [("tank", False)]
    await store.import_pool((await store.found())[0].guid)


async def test_several_pools_live_beside_one_another(rig: PoolRig) -> None:
    store = rig.store("A")
    await store.create("tank", mirror(rig))
    await store.create("dozer", mirror(rig, 2))
    assert sorted(pool.name for pool in await store.imported()) == ["dozer", "tank"]
    await store.export_pool("tank")
    assert [pool.name for pool in await store.imported()] == ["dozer"]
    assert [pool.name for pool in await store.found()] == ["tank"]


async def test_what_is_imported_here_is_not_found_and_then_nothing_is(rig: PoolRig) -> None:
    store = rig.store("A")
    await store.create("tank", mirror(rig))
    assert await store.found() == ()


async def test_what_is_not_there_is_neither_exported_nor_imported_nor_looked_at(rig: PoolRig) -> None:
    store = rig.store("A")
    for attempt in (store.export_pool("tank"), store.import_pool("4711"), store.health("tank")):
        with pytest.raises(PortFailed):
            await attempt


async def test_a_pool_that_is_destroyed_is_found_no_more(rig: PoolRig) -> None:
    store = rig.store("A")
    await store.create("tank", mirror(rig))
    await store.destroy("tank")
    assert (await store.imported(), await store.found()) == ((), ())


async def test_a_scrub_ends_without_errors_and_says_so(rig: PoolRig) -> None:
    store = rig.store("A")
    await store.create("tank", mirror(rig))
    assert (await store.health("tank")).scan.state == "NONE"
    await store.scrub("tank")
    scan = await store.scan_over("tank", lambda scan: None)
    assert (scan.function, scan.state, scan.percent, scan.errors) == ("SCRUB", "FINISHED", 100.0, 0)
    await store.scrub("tank", stop=True)


async def test_datasets_are_created_changed_and_destroyed_and_are_mounted(rig: PoolRig) -> None:
    store = rig.store("A")
    await store.create("tank", mirror(rig))
    await store.create_dataset("tank/docs", {"compression": "on"})
    await store.create_dataset("tank/docs/old", {})
    found = {dataset.id: dataset for dataset in await store.datasets("tank")}
    assert sorted(found) == ["tank", "tank/docs", "tank/docs/old"]
    assert all(dataset.mounted and dataset.mountpoint == f"/mnt/{id_}" for id_, dataset in found.items())
    assert local(found["tank/docs"], "compression") == "on"
    await store.set_dataset("tank/docs", {"compression": None, "atime": "off"})
    docs = {dataset.id: dataset for dataset in await store.datasets("tank")}["tank/docs"]
    assert (local(docs, "compression"), local(docs, "atime")) == (None, "off")
    with pytest.raises(PortFailed, match="children"):
        await store.destroy_dataset("tank/docs")
    await store.destroy_dataset("tank/docs", recursive=True)
    assert [dataset.id for dataset in await store.datasets("tank")] == ["tank"]


async def test_datasets_follow_their_pool_to_the_other_controller(rig: PoolRig) -> None:
    a, b = rig.store("A"), rig.store("B")
    guid = await a.create("tank", mirror(rig))
    await a.create_dataset("tank/docs", {})
    await a.export_pool("tank")
    await b.import_pool(guid)
    assert [(dataset.id, dataset.mounted) for dataset in await b.datasets("tank")] == [
        ("tank", True),
        ("tank/docs", True),
    ]


async def test_a_pool_that_wants_to_be_mounted_elsewhere_is_mounted_below_mnt_all_the_same(rig: PoolRig) -> None:
    a, b = rig.store("A"), rig.store("B")
    guid = await a.create("tank", mirror(rig))
    await a.set_dataset("tank", {"mountpoint": "/srv"})
    await a.export_pool("tank")
    await b.import_pool(guid)
    (tank,) = await b.datasets("tank")
    assert (tank.mounted, str(tank.mountpoint)[:5]) == (True, "/mnt/")
    await b.set_dataset("tank", {"mountpoint": None})
    (tank,) = await b.datasets("tank")
    assert (tank.mounted, tank.mountpoint) == (True, "/mnt/tank")


@pytest.mark.parametrize(("id_", "why"), [("tank/docs", "exists"), ("tank/no/parent", "parent does not exist")])
async def test_a_dataset_that_cannot_be_made_says_why(rig: PoolRig, id_: str, why: str) -> None:
    store = rig.store("A")
    await store.create("tank", mirror(rig))
    await store.create_dataset("tank/docs", {})
    with pytest.raises(PortFailed, match=why):
        await store.create_dataset(id_, {})


def local(dataset: Dataset, name: str) -> str | None:
    """The property, where it was set on the dataset itself."""
    kept = dataset.properties.get(name)
    return kept.value if kept is not None and kept.source == "LOCAL" else None
