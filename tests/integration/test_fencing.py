"""What a takeover does to the disks of the controller that it takes them from, and to its power. Needs root."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from middlewared.kernel.facts import Node
from middlewared.lab.driver import Pair
from middlewared.lab.programs import pools_possible
from tests.integration.test_pools import TANK, ask, job

pytestmark = [pytest.mark.root, pytest.mark.full]

DISKS = 6
TAKEOVER_S = 8.0
BOOT_S = 20.0


def read_only(pair: Pair, node: Node) -> set[str]:
    """What the kernel of the controller says of every part of every disk."""
    script = "for n in 0 1 2 3 4 5; do blockdev --getro /dev/slots/$n /dev/shelf/$n; done"
    said = pair.run(node, "sh", "-c", script).split()
    assert len(said) == 2 * DISKS
    return set(said)


def order(pair: Pair, **words: object) -> None:
    """Tell the shelf."""
    with socket.socket(socket.AF_UNIX) as shelf:
        shelf.connect(str(pair.layout.shelf_control))
        shelf.sendall(json.dumps(words).encode() + b"\n")
        assert json.loads(shelf.recv(65536))["ok"]


def test_a_frozen_owner_cannot_write_any_shared_disk_once_the_other_owns(pair: Pair) -> None:
    assert (read_only(pair, "A"), read_only(pair, "B")) == ({"0"}, {"1"})
    pair.freeze("A")
    pair.wait_until("B is active", lambda: pair.role("B") == "MASTER", TAKEOVER_S)
    pair.wait_until("the disks are B's", lambda: read_only(pair, "B") == {"0"}, 2.0)
    assert read_only(pair, "A") == {"1"}
    pair.thaw("A")
    pair.wait_until("the pair is whole", lambda: pair.is_whole("B"), BOOT_S)
    assert read_only(pair, "A") == {"1"}


@pytest.fixture
def with_power(pair: Pair) -> Iterator[Pair]:
    """B may cut A's power; a disk that holds pools refuses to be claimed."""
    file = pair.layout.boot_file("B")
    before = file.read_text()
    file.write_text(f'{before}\n[power]\nbackend = "lab"\n')
    restart_fenced(pair)
    order(pair, verb="refuse", disk=5)
    yield pair
    order(pair, verb="obey", disk=5)
    file.write_text(before)
    restart_fenced(pair)


def restart_fenced(pair: Pair) -> None:
    before = pair.pid("B", "fenced")
    pair.kill("B", "fenced")
    pair.wait_until("fenced is back", lambda: pair.pid("B", "fenced") != before, 5.0)
    pair.wait_until("the pair is whole", pair.is_whole, BOOT_S)


@pytest.mark.full
def test_an_owner_whose_disk_cannot_be_taken_loses_its_power_and_is_standby_after_its_boot(with_power: Pair) -> None:
    pair = with_power
    log = pair.layout.logs("B") / "fenced.log"
    frozen = pair.root_pid("A")
    pair.freeze("A")
    pair.wait_until("B is active", lambda: pair.role("B") == "MASTER", TAKEOVER_S)
    pair.wait_until("A is off", lambda: "event=power-was off=True" in log.read_text(), 5.0)
    pair.wait_until("A boots", lambda: pair.root_pid("A") not in (0, frozen), BOOT_S)
    pair.wait_until("the pair is whole", lambda: pair.is_whole("B"), BOOT_S)
    status: Any = pair.call("A", "failover.status")
    assert status == "BACKUP"


@pytest.fixture
def with_tank(pair: Pair) -> Iterator[Pair]:
    """A has a pool; in the end it is gone, whoever has it then."""
    if not pools_possible():
        assert os.environ.get("CI") != "true", "needs zfs-fuse"
        pytest.skip("needs zfs-fuse")
    job(pair, "pool.create", TANK)
    yield pair
    owner: Node = "A" if pair.role("A") == "MASTER" else "B"
    pair.call(owner, "failover.update", {"disabled": True})
    for pool in ask(pair, owner, "pool.query"):
        job(pair, "pool.export", pool["id"], {"destroy": True})
    pair.call(owner, "failover.update", {"disabled": False})


@pytest.mark.full
def test_an_owner_with_a_pool_that_is_cut_off_from_everything_is_relieved_and_ends_itself_when_it_sees_it(
    with_tank: Pair,
) -> None:
    """F18: silent on every channel, and alive."""
    pair = with_tank
    write(pair, "A", "before")
    alive = pair.root_pid("A")
    pair.cut("lan:A", "interlink", "shelf:A")
    pair.wait_until("B is active", lambda: pair.role("B") == "MASTER", TAKEOVER_S)
    pair.wait_until("B has the pool", lambda: [p["status"] for p in ask(pair, "B", "pool.query")] == ["ONLINE"], 5.0)
    assert pair.run("B", "cat", "/mnt/tank/before") == "before\n"
    write(pair, "B", "after")
    assert pair.root_pid("A") == alive, "it does not know"
    pair.heal("lan:A", "interlink", "shelf:A")
    pair.wait_until("A ends itself", lambda: pair.root_pid("A") != alive, 5.0)
    pair.wait_until("the pair is whole", lambda: pair.is_whole("B"), BOOT_S)
    (alert,) = (alert for alert in ask(pair, "A", "alert.list") if alert["klass"] == "ControllerEnded")
    assert "1 pools are imported here, and B owns" in alert["formatted"]
    (tank,) = ask(pair, "B", "pool.query")
    job(pair, "pool.scrub", tank["id"])
    assert "errors: No known data errors" in pair.run("B", "zpool", "status", "tank")
    assert pair.run("B", "cat", "/mnt/tank/after") == "after\n"


def write(pair: Pair, node: Node, name: str) -> None:
    """A file on the pool, fsynced: sync(2) says nothing to a file system in user space."""
    pair.run(node, "sh", "-c", f"echo {name} | dd of=/mnt/tank/{name} conv=fsync status=none")
