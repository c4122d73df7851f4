"""What may be asked of `pool.create`, and under which field a fault is told."""

from __future__ import annotations

import pytest
from middlewared_plugins.pool.pool import Pool, Pools
from middlewared_plugins.pool.request import CreateRequest, Shelf, TopologyRequest, VdevRequest, laid_out

from middlewared.kernel.errors import Refused
from middlewared.kernel.pools import Disk, Layout, Vdev, VdevType

DISKS = tuple(Disk(name=f"sd{c}", path=f"/dev/sd{c}", serial=f"S-{c}", size=9) for c in "abcdef")
SEEN = frozenset(disk.serial for disk in DISKS)
NONE = Pools()
SHELF = Shelf(disks=DISKS, in_use={}, holding={}, theirs=SEEN)


def asked(type_: VdevType, *disks: str, name: str = "tank", force: bool = False) -> CreateRequest:
    return CreateRequest(name=name, topology=TopologyRequest(data=(VdevRequest(type=type_, disks=disks),)), force=force)


def faults(request: CreateRequest, shelf: Shelf = SHELF, state: Pools = NONE) -> dict[str, str]:
    with pytest.raises(Refused) as error:
        laid_out(request, shelf, state)
    return {field: message for field, message, _ in error.value.problems}


def test_a_disk_is_named_by_its_serial_its_name_or_its_path() -> None:
    layout, serials = laid_out(asked("MIRROR", "S-a", "sdb", "/dev/sdc"), SHELF, Pools())
    assert layout == Layout(data=(Vdev(type="MIRROR", devices=("/dev/sda", "/dev/sdb", "/dev/sdc")),))
    assert serials == ("S-a", "S-b", "S-c")


def test_every_part_of_a_topology_comes_to_its_place() -> None:
    topology = TopologyRequest(
        data=(VdevRequest(type="MIRROR", disks=("sda", "sdb")),),
        log=(VdevRequest(type="STRIPE", disks=("sdc",)),),
        cache=(VdevRequest(type="STRIPE", disks=("sdd", "sde")),),
        spares=("sdf",),
    )
    layout, serials = laid_out(CreateRequest(name="tank", topology=topology), SHELF, Pools())
    assert [vdev.devices for vdev in layout.log] == [("/dev/sdc",)]
    assert (layout.cache, layout.spares) == (("/dev/sdd", "/dev/sde"), ("/dev/sdf",))
    assert serials == tuple(disk.serial for disk in DISKS)


def test_a_stripe_is_refused_without_force() -> None:
    assert list(faults(asked("STRIPE", "sda"))) == ["topology.data.0.type"]
    assert laid_out(asked("STRIPE", "sda", force=True), SHELF, Pools())[0].data[0].type == "STRIPE"


@pytest.mark.parametrize(("type_", "too_few"), [("MIRROR", 1), ("RAIDZ1", 2), ("RAIDZ2", 3), ("RAIDZ3", 4)])
def test_each_kind_of_part_needs_its_disks(type_: VdevType, too_few: int) -> None:
    names = [disk.name for disk in DISKS]
    assert list(faults(asked(type_, *names[:too_few]))) == ["topology.data.0.disks"]
    laid_out(asked(type_, *names[: too_few + 1]), SHELF, Pools())


def test_faults_come_all_at_once_each_under_its_field() -> None:
    shelf = Shelf(disks=DISKS, in_use={"S-a": "dozer"}, holding={"S-b": "old"}, theirs=SEEN - {"S-c"})
    state = Pools(pools=(Pool(id=1, name="dozer", guid="1", disks=("S-a",)),))
    assert faults(asked("MIRROR", "sda", "sdb", "sdc", "sdx", "S-c", name="dozer"), shelf, state) == {
        "name": "there is a pool dozer already",
        "topology.data.0.disks.0": "disk sda belongs to pool dozer",
        "topology.data.0.disks.1": "disk sdb holds pool old, which can be imported; `force` overwrites it",
        "topology.data.0.disks.2": "the other controller does not see disk sdc (S-c)",
        "topology.data.0.disks.3": "there is no disk sdx",
        "topology.data.0.disks.4": "the other controller does not see disk sdc (S-c)",
    }


def test_force_overwrites_what_lies_on_a_disk_but_never_a_pool_of_this_pair() -> None:
    shelf = Shelf(disks=DISKS, in_use={"S-a": "dozer"}, holding={"S-b": "old"}, theirs=frozenset())
    assert list(faults(asked("MIRROR", "sda", "sdb", force=True), shelf)) == ["topology.data.0.disks.0"]


def test_a_disk_may_be_named_once_and_a_pool_needs_data() -> None:
    assert faults(asked("MIRROR", "sda", "S-a"))["topology.data.0.disks.1"].startswith("disk S-a is named at")
    assert list(faults(CreateRequest(name="tank", topology=TopologyRequest()))) == ["topology.data"]


def test_a_disk_without_a_serial_number_cannot_be_shared() -> None:
    nameless = Shelf(disks=(Disk(name="sdz", path="/dev/sdz", serial="", size=9),), in_use={}, holding={}, theirs=None)
    assert list(faults(asked("STRIPE", "sdz", force=True), nameless)) == ["topology.data.0.disks.0"]


def test_a_cache_is_a_stripe_and_a_log_is_no_raid() -> None:
    topology = TopologyRequest(
        data=(VdevRequest(type="MIRROR", disks=("sda", "sdb")),),
        log=(VdevRequest(type="RAIDZ1", disks=("sdc", "sdd", "sde")),),
        cache=(VdevRequest(type="MIRROR", disks=("sdf", "S-f")),),
    )
    told = faults(CreateRequest(name="tank", topology=topology))
    assert {"topology.log.0.type", "topology.cache.0.type"} <= set(told)


def test_what_the_other_controller_sees_is_not_asked_for_where_it_is_away() -> None:
    alone = Shelf(disks=DISKS, in_use={}, holding={}, theirs=None)
    assert laid_out(asked("MIRROR", "sda", "sdb"), alone, Pools())[1] == ("S-a", "S-b")
