"""kill -9 of each of the three processes on the active controller: nothing moves. Needs root."""

from __future__ import annotations

import time

import pytest

from middlewared.kernel.facts import Node
from middlewared.lab.driver import Daemon, Pair
from middlewared.lab.watch import Watch
from tests.integration.conftest import records, write_at_vip

pytestmark = pytest.mark.root

DAEMONS: tuple[Daemon, ...] = ("middlewared", "carpd", "fenced")
KILLS = 2
BACK_S = 5.0
LEASE_MS = 1000.0


def answers(pair: Pair) -> bool:
    return pair.call("A", "failover.status", timeout_s=1.0) == "MASTER"


def writes(pair: Pair) -> bool:
    return bool(write_at_vip(pair, domain=f"t{time.time_ns():x}.test")["seq"])


def kill_and_wait_for_the_next(pair: Pair, node: Node, daemon: Daemon) -> None:
    before = pair.pid(node, daemon)
    pair.kill(node, daemon)
    pair.wait_until(f"{daemon} is back", lambda: pair.pid(node, daemon) != before, BACK_S)


@pytest.mark.parametrize("daemon", DAEMONS)
def test_a_process_of_the_active_that_is_killed_is_back_and_nothing_moved(pair: Pair, daemon: Daemon) -> None:
    seq = records(pair, "A")[-1].seq
    with Watch(pair) as watch:
        watch.wait_for_owner("A")
        for _ in range(KILLS):
            killed_ns = time.time_ns()
            kill_and_wait_for_the_next(pair, "A", daemon)
            pair.wait_until("A answers as the active", lambda: answers(pair), BACK_S)
            if daemon == "middlewared":
                # It dies with the writes that it had under way; a client's connection may be one of the old ones.
                pair.wait_until("a write is answered", lambda: writes(pair), BACK_S)
            else:
                assert writes(pair)
            pair.wait_until("the pair is whole", lambda: pair.is_whole("A"), BACK_S)
            assert watch.longest_silence_ms(killed_ns) < LEASE_MS
        assert watch.replies("B") == 0
    since = [record for record in records(pair, "A") if record.seq > seq]
    assert {record.origin for record in since} == {"A"}


def test_a_process_of_the_standby_that_is_killed_is_back_and_nothing_moved(pair: Pair) -> None:
    for daemon in DAEMONS:
        kill_and_wait_for_the_next(pair, "B", daemon)
        pair.wait_until("the pair is whole", lambda: pair.is_whole("A"), BACK_S)
    assert write_at_vip(pair, domain="standby-killed.test")["durability"] == "pair"
