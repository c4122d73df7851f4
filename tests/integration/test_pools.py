"""Pools in the lab: real ZFS on disks that both controllers reach. Needs root and zfs-fuse."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from middlewared.client import Client
from middlewared.kernel.errors import CallFailed, Refused
from middlewared.kernel.facts import Node
from middlewared.lab.driver import Pair
from middlewared.lab.programs import pools_possible

pytestmark = pytest.mark.root

TANK = {"name": "tank", "topology": {"data": [{"type": "MIRROR", "disks": ["SHELF-3", "SHELF-4"]}]}}


@pytest.fixture(autouse=True)
def without_pools(pair: Pair) -> Iterator[Pair]:
    """Each test begins and ends with failover disabled and no pool, so that the last may go."""
    if not pools_possible():
        assert os.environ.get("CI") != "true", "needs zfs-fuse"
        pytest.skip("needs zfs-fuse")
    pair.call("A", "failover.update", {"disabled": True})
    yield pair
    for pool in ask(pair, "A", "pool.query"):
        job(pair, "pool.export", pool["id"], {"destroy": True})
    pair.call("A", "failover.update", {"disabled": False})


def ask(pair: Pair, node: Node, method: str, *params: object) -> Any:
    return pair.call(node, method, *params)


def job(pair: Pair, method: str, *params: object) -> Any:
    """A job's result, as an administrator at the virtual IP gets it."""

    async def run() -> object:
        up = pair.result
        async with Client(up.vip_url, username=up.user, password=up.password, patience_s=5.0) as client:
            return await client.call_job(method, *params, progress=told.append)

    told: list[Mapping[str, Any]] = []
    result = asyncio.run(run())
    assert told[-1]["state"] == "SUCCESS"
    return result


def test_a_pool_is_made_written_scrubbed_exported_and_imported(pair: Pair) -> None:
    made = job(pair, "pool.create", TANK)
    assert (made["status"], made["healthy"], made["path"], made["disks"]) == (
        ("ONLINE", True, "/mnt/tank", ["SHELF-3", "SHELF-4"])
    )
    assert pair.run("A", "findmnt", "-n", "-o", "FSTYPE", "/mnt/tank") == "fuse.zfs\n"
    pair.run("A", "sh", "-c", "echo kept > /mnt/tank/file && sync")

    scrubbed = job(pair, "pool.scrub", made["id"])
    assert (scrubbed["scan"]["state"], scrubbed["scan"]["errors"]) == ("FINISHED", 0)

    job(pair, "pool.export", made["id"])
    assert pair.execute("A", "test", "-e", "/mnt/tank/file").returncode != 0
    (found,) = job(pair, "pool.import_find")
    assert (found["guid"], found["exported"]) == (made["guid"], True)
    again = job(pair, "pool.import_pool", {"guid": made["guid"]})
    assert (again["disks"], again["healthy"]) == (made["disks"], True)
    assert pair.run("A", "cat", "/mnt/tank/file") == "kept\n"


def test_a_pool_that_was_made_and_not_configured_is_found_and_taken_up_as_it_is(pair: Pair) -> None:
    disks = ["/dev/shelf/3", "/dev/shelf/4"]
    pair.run("A", "zpool", "create", "-o", "cachefile=none", "-R", "/mnt", "-m", "/tank", "tank", "mirror", *disks)
    pair.run("A", "sh", "-c", "echo kept > /mnt/tank/file")
    (found,) = job(pair, "pool.import_find")
    assert (found["name"], found["imported"]) == ("tank", True)
    made = job(pair, "pool.create", TANK)
    assert (made["guid"], made["healthy"], made["disks"]) == (found["guid"], True, ["SHELF-3", "SHELF-4"])
    assert pair.run("A", "cat", "/mnt/tank/file") == "kept\n"


def test_the_standby_knows_the_pool_and_imports_nothing(pair: Pair) -> None:
    made = job(pair, "pool.create", TANK)
    pair.wait_until("B knows the pool", lambda: bool(ask(pair, "B", "pool.query")), 5.0)
    (told,) = ask(pair, "B", "pool.query")
    assert (told["guid"], told["status"], told["imported"]) == (made["guid"], "OFFLINE", False)
    assert pair.run("B", "zpool", "list", "-H") == ""
    with pytest.raises(CallFailed, match="active controller"):
        ask(pair, "B", "pool.dataset.query")


def test_a_disk_has_a_serial_number_and_both_controllers_see_it(pair: Pair) -> None:
    job(pair, "pool.create", TANK)
    disks = {disk["serial"]: disk for disk in ask(pair, "A", "disk.query")}
    assert sorted(disks) == [f"SHELF-{number}" for number in range(6)]
    assert {serial: disk["pool"] for serial, disk in disks.items() if disk["pool"]} == {
        "SHELF-3": "tank",
        "SHELF-4": "tank",
    }
    assert [disks["SHELF-5"]["nodes"][node]["seen"] for node in "AB"] == [True, True]
    with pytest.raises(Refused, match=r"pool_create\.topology\.data\.0\.disks\.0: .* belongs to pool tank"):
        job(pair, "pool.create", TANK | {"name": "other"})


def test_datasets_are_made_below_the_pool_and_deleted(pair: Pair) -> None:
    job(pair, "pool.create", TANK)
    made = ask(pair, "A", "pool.dataset.create", {"name": "tank/docs", "compression": "ON"})
    assert (made["mounted"], made["mountpoint"], made["compression"]["value"]) == (True, "/mnt/tank/docs", "ON")
    changed = ask(pair, "A", "pool.dataset.update", "tank/docs", {"quota": 16 * 1024**2})
    assert changed["quota"]["parsed"] == 16 * 1024**2
    assert ask(pair, "A", "pool.dataset.delete", "tank/docs") is True
    assert [one["id"] for one in ask(pair, "A", "pool.dataset.query")] == ["tank"]


def test_the_last_pool_stays_while_failover_is_enabled(pair: Pair) -> None:
    made = job(pair, "pool.create", TANK)
    pair.call("A", "failover.update", {"disabled": False})
    with pytest.raises(CallFailed, match="last pool"):
        job(pair, "pool.export", made["id"])
    pair.call("A", "failover.update", {"disabled": True})


def test_what_is_written_to_a_pool_that_is_not_mounted_fills_nothing(pair: Pair) -> None:
    write = "mkdir /mnt/none && dd if=/dev/zero of=/mnt/none/x bs=64k count=4; rm -r /mnt/none"
    assert "No space left" in pair.execute("A", "sh", "-c", write).stderr
