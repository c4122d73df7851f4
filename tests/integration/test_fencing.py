"""What a takeover does to the disks of the controller that it takes them from, and to its power. Needs root."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from middlewared.kernel.facts import Node
from middlewared.lab.driver import Pair

pytestmark = pytest.mark.root

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
