"""What zfs-fuse printed in the lab, read. The files in golden/ are its own words."""

from __future__ import annotations

from pathlib import Path

import pytest

from middlewared.kernel.pools import Found, Health, Imported, Scan
from middlewared.shell.zfs import zfs_fuse_text as text
from middlewared.shell.zfs.mounts import mounted

GOLDEN = Path(__file__).parent / "golden"
TANK = Imported(name="tank", guid="8453837988298905108")
DISKS = tuple(f"/dev/shelf/{n}" for n in range(6))


def golden(name: str) -> str:
    return (GOLDEN / f"{name}.txt").read_text()


def health(name: str) -> Health:
    return text.health(golden(name), TANK, (500, 1, 499), mounted=True)


def test_no_pools_are_an_empty_list() -> None:
    assert text.pool_list("") == {}


def test_a_pool_is_listed_with_its_sizes_as_they_are_rounded() -> None:
    assert text.pool_list(golden("pool_list")) == {"tank": (TANK, (500 * 1024**2, 592 * 1024, 499 * 1024**2))}


def test_a_healthy_pool_has_its_parts_by_what_they_are_for() -> None:
    tank = health("status")
    assert (tank.status, tank.healthy, tank.detail, tank.data_errors) == ("ONLINE", True, "", 0)
    assert [(vdev.name, vdev.type, vdev.path) for vdev in tank.topology.data] == [
        ("mirror-0", "MIRROR", None),
        ("mirror-1", "MIRROR", None),
    ]
    assert [leaf.path for leaf in tank.topology.leaves()] == list(DISKS)
    assert [leaf.type for leaf in tank.topology.cache] == ["DISK"]
    assert [(leaf.path, leaf.status) for leaf in tank.topology.spare] == [("/dev/shelf/5", "AVAIL")]


def test_a_degraded_pool_says_what_is_the_matter_in_one_sentence() -> None:
    tank = health("status_degraded")
    assert (tank.status, tank.healthy) == ("DEGRADED", False)
    assert tank.detail.startswith("One or more devices has been taken offline by the administrator. Sufficient")
    assert [leaf.status for leaf in tank.topology.data[0].leaves()] == ["OFFLINE", "ONLINE"]


def test_a_pool_whose_disks_refuse_is_suspended_whatever_its_state_says() -> None:
    tank = health("status_suspended")
    assert (tank.status, tank.healthy, tank.data_errors) == ("SUSPENDED", False, 3)
    assert [leaf.write_errors for leaf in tank.topology.leaves()] == [33, 33, 37, 37]


def test_a_pool_whose_writes_landed_nowhere_is_faulted_whatever_its_state_says() -> None:
    tank = health("status_lost_writes")
    assert (tank.status, tank.healthy, tank.data_errors) == ("FAULTED", False, 1)
    assert [leaf.status for leaf in tank.topology.leaves()] == ["ONLINE", "ONLINE"]


@pytest.mark.parametrize(
    ("name", "scan"),
    [
        ("status", Scan()),
        ("status_scrubbed", Scan(function="SCRUB", state="FINISHED", percent=100.0)),
        ("status_resilvered", Scan(function="RESILVER", state="FINISHED", percent=100.0)),
        ("status_scrubbing", Scan(function="SCRUB", state="SCANNING", percent=99.22)),
    ],
)
def test_what_became_of_the_last_scan_is_told(name: str, scan: Scan) -> None:
    assert health(name).scan == scan


def test_a_scrub_that_was_stopped_is_canceled_and_keeps_its_errors() -> None:
    said = golden("status").replace(
        "none requested", "scrub stopped after 0h2m with 7 errors on Tue Nov 24 22:24:48 2026"
    )
    scan = text.health(said, TANK, (1, 1, 1), mounted=True).scan
    assert scan == Scan(function="SCRUB", state="CANCELED", errors=7)


def test_large_counts_are_told_in_thousands() -> None:
    said = golden("status").replace("shelf/0  ONLINE       0     0     0", "shelf/0  ONLINE    1.2K     0    3M")
    leaf = text.health(said, TANK, (1, 1, 1), mounted=True).topology.leaves()[0]
    assert (leaf.read_errors, leaf.checksum_errors) == (1200, 3_000_000)


def found(name: str) -> list[Found]:
    return text.found(golden(name))


def test_an_exported_pool_is_found_with_all_its_disks() -> None:
    assert found("import") == [
        Found(name="tank", guid=TANK.guid, status="ONLINE", foreign=False, last_used_by=None, devices=DISKS)
    ]


def test_a_pool_that_nobody_exported_is_foreign_and_its_label_says_whose() -> None:
    assert [pool.foreign for pool in found("import_foreign")] == [True]
    assert text.last_host(golden("label")) == "controller-a"
    assert text.last_host("failed to unpack label 0\n") is None


def test_disks_that_are_not_there_are_no_disks_of_a_found_pool() -> None:
    assert [(pool.status, pool.devices) for pool in found("import_degraded")] == [("DEGRADED", DISKS[1:])]
    assert [(pool.status, pool.devices) for pool in found("import_unavailable")] == [("UNAVAIL", DISKS[2:4])]


def test_several_pools_are_found_each_by_itself() -> None:
    other = golden("import_foreign").replace("tank", "dozer").replace("8453837988298905108", "7")
    assert [(pool.name, pool.guid, pool.foreign) for pool in text.found(golden("import") + "\n" + other)] == [
        ("tank", TANK.guid, False),
        ("dozer", "7", True),
    ]


def test_datasets_have_exact_sizes_and_say_where_each_property_comes_from() -> None:
    tank, below = text.datasets(golden("zfs_get"), mounted(golden("mountinfo")))
    assert (tank.id, tank.pool, tank.used, tank.available) == ("tank", "tank", 573440, 490160128)
    assert (tank.mountpoint, tank.mounted) == ("/mnt/tank", True)
    assert [ds.properties["mountpoint"].source for ds in (tank, below)] == ["LOCAL", "INHERITED"]
    assert [tank.properties[name].source for name in ("used", "atime")] == ["NONE", "DEFAULT"]


def test_a_dataset_that_the_kernel_does_not_know_is_not_mounted() -> None:
    assert [dataset.mounted for dataset in text.datasets(golden("zfs_get"), {"tank": "/mnt/tank"})] == [True, False]


def test_mounts_of_other_kinds_are_none_of_ours_and_blanks_are_escaped() -> None:
    assert mounted(golden("mountinfo")) == {"tank": "/mnt/tank", "tank/a": "/mnt/tank/a"}
    assert mounted(r"9 1 0:6 / /mnt/my\040pool rw - zfs my\040pool/a rw") == {"my pool/a": "/mnt/my pool"}
