"""The disks that vote, changed under a pair and damaged under one. Needs root."""

from __future__ import annotations

from typing import Any

import pytest

from middlewared.kernel.facts import Node
from middlewared.lab.driver import Pair
from middlewared.lab.faults import NODES
from middlewared.protocol.slots import SECTOR
from tests.integration.conftest import write_at_vip

pytestmark = pytest.mark.root

FIRST = {"SHELF-0", "SHELF-1", "SHELF-2"}
OTHERS = {"SHELF-2", "SHELF-3", "SHELF-4"}
CHANGE_S = 10.0
TAKEOVER_S = 8.0


def voting(pair: Pair, node: Node) -> set[str]:
    """The disks that vote there, and nobody else while a change is under way."""
    listed: Any = pair.call(node, "failover.voters.query")
    states = {disk["state"] for disk in listed}
    return (
        {disk["serial"] for disk in listed if disk["state"] == "voting"}
        if states <= {"voting", "not voting"}
        else set()
    )


def fit_to_vote(pair: Pair, node: Node) -> set[str]:
    """The disks that vote, or whose slots were read: a controller that has just booted has not looked yet."""
    listed: Any = pair.call(node, "failover.voters.query")
    return {disk["serial"] for disk in listed if disk["state"] == "voting" or disk["slots_of"]}


def change(pair: Pair, owner: Node, disks: set[str]) -> None:
    for node in NODES:
        pair.wait_until("the slots are seen", lambda: disks <= fit_to_vote(pair, node), CHANGE_S)  # noqa: B023
    pair.call(owner, "failover.voters.set", sorted(disks))
    pair.wait_until("both vote by them", lambda: voting(pair, "A") == voting(pair, "B") == disks, CHANGE_S)


def tear(pair: Pair, disk: int, *sectors: int) -> None:
    """What a write that was cut off leaves of a record on a disk."""
    with pair.layout.disk_images()[disk].open("r+b") as image:
        for sector in sectors:
            image.seek(sector * SECTOR + SECTOR // 2)
            image.write(b"\1" * 100)


def test_the_voters_are_changed_while_the_pair_works_and_the_new_ones_carry_a_takeover(pair: Pair) -> None:
    assert voting(pair, "A") == FIRST
    change(pair, "A", OTHERS)
    write_at_vip(pair, domain="new-voters.test")
    pair.power_off("A")
    pair.wait_until("B is active", lambda: pair.role("B") == "MASTER", TAKEOVER_S)
    write_at_vip(pair, domain="alone.test")
    pair.power_on("A")
    pair.wait_until("the pair is whole", lambda: pair.is_whole("B"), 15.0)
    assert voting(pair, "A") == voting(pair, "B") == OTHERS, "over a boot as well"
    change(pair, "B", FIRST)


@pytest.mark.full
def test_a_record_that_is_torn_on_one_disk_and_old_on_another_is_known_all_the_same(pair: Pair) -> None:
    """F31: of three disks one lost its record, one has only the copy before, one is whole."""
    write_at_vip(pair, domain="before.test")
    pair.power_off("B")
    written = write_at_vip(pair, domain="on-a-alone.test")
    assert written["durability"] == "single"
    pair.power_off("A")
    tear(pair, 0, 0, 1)
    pair.power_on("B")
    pair.wait_until("B serves", lambda: pair.role("B") == "MASTER", 15.0)
    status: Any = pair.call("B", "failover.sync.status")
    assert status["config_behind"] is not None, "the record on the other disks says that A alone has what was answered"
    pair.power_on("A")
    pair.wait_until("the pair is whole", lambda: pair.is_whole("B"), 20.0)
