"""Interfaces of the lab's pair, configured through the API: addresses, trials, failover groups. Needs root.

Each test that configures leaves the pair as it found it: unconfigured, failover enabled.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from middlewared.kernel.errors import MiddlewareError
from middlewared.kernel.facts import Node
from middlewared.lab.driver import Pair
from middlewared.lab.faults import NODES
from middlewared.lab.layout import LAN, PREFIX, VIP
from tests.integration.conftest import boot_both, holds_for

pytestmark = [pytest.mark.root, pytest.mark.full]

VIP_2, VIP_2_6, VIP_3 = "198.51.100.10", "2001:db8:51::10", "192.0.2.20"
ETH1 = {
    "aliases": [{"address": "198.51.100.1", "netmask": 24}, {"address": "2001:db8:51::1", "netmask": 64}],
    "failover_aliases": [{"address": "198.51.100.2"}, {"address": "2001:db8:51::2"}],
    "failover_virtual_aliases": [{"address": VIP_2}, {"address": VIP_2_6}],
}
ETH0 = {
    "aliases": [{"address": LAN["A"], "netmask": PREFIX}],
    "failover_aliases": [{"address": LAN["B"]}],
    "failover_virtual_aliases": [{"address": VIP_3}],
}
TAKEOVER_S = 4.0


def addresses(pair: Pair, node: Node) -> str:
    return pair.run(node, "ip", "-o", "addr", "show")


def holders(pair: Pair, address: str) -> str:
    """The controllers whose kernels have the address; one without power has none."""
    return "".join(node for node in NODES if pair.root_pid(node) and f" {address}/" in addresses(pair, node))


def is_active(pair: Pair, node: Node) -> bool:
    return pair.role(node) == "MASTER" and holders(pair, VIP_2) == node and holders(pair, VIP_2_6) == node


@contextmanager
def failover_disabled(pair: Pair, node: Node) -> Iterator[None]:
    pair.call(node, "failover.update", {"disabled": True})
    yield
    pair.call(node, "failover.update", {"disabled": False})


@contextmanager
def configured(pair: Pair, **interfaces: dict[str, object]) -> Iterator[None]:
    """With these interfaces; whoever is active at the end forgets them again."""
    with failover_disabled(pair, "A"):
        for name, wanted in interfaces.items():
            pair.call("A", "interface.update", name, wanted)
        pair.call("A", "interface.commit", {"rollback": False})
        pair.wait_until("A has the addresses", lambda: holders(pair, VIP_2) == "A", TAKEOVER_S)
    try:
        yield
    finally:
        pair.make_whole()
        owner: Node = "A" if pair.role("A") == "MASTER" else "B"
        with failover_disabled(pair, owner):
            for name in interfaces:
                pair.call(owner, "interface.delete", name)
            pair.call(owner, "interface.commit", {"rollback": False})
            gone = lambda: not any(holders(pair, each) for each in ("198.51.100.1", "198.51.100.2", VIP_2))  # noqa: E731
            pair.wait_until("the addresses are gone", gone, TAKEOVER_S)
            if "eth0" in interfaces:  # what the lab's init had set became the configuration's, and went with it
                pair.wait_until("eth0 is bare", lambda: not holders(pair, LAN["B"]), TAKEOVER_S)
                for node, address in LAN.items():
                    pair.run(node, "ip", "addr", "add", f"{address}/{PREFIX}", "dev", "eth0")


def test_an_edit_is_tried_on_both_controllers_checked_in_and_kept(pair: Pair) -> None:
    with pytest.raises(MiddlewareError, match=r"failover\.update"):
        pair.call("A", "interface.update", "eth1", ETH1)
    with failover_disabled(pair, "A"):
        pair.call("A", "interface.update", "eth1", ETH1)
        assert pair.call("A", "interface.has_pending_changes") is True
        assert pair.call("A", "interface.network_config_to_be_removed") == []
        pair.call("A", "interface.commit", {"checkin_timeout": 10})
        assert pair.call("A", "interface.checkin_waiting")
        pair.wait_until("A has the VIPs", lambda: holders(pair, VIP_2) + holders(pair, VIP_2_6) == "AA", TAKEOVER_S)
        pair.wait_until("B has its own", lambda: holders(pair, "198.51.100.2") == "B", TAKEOVER_S)
        pair.call("A", "interface.checkin")
        assert pair.call("A", "interface.checkin_waiting") is None
        assert pair.call("A", "interface.has_pending_changes") is False
        reach = f"import socket; socket.create_connection(({VIP_2!r}, 80), 2)"
        pair.run("client", sys.executable, "-c", reach)
        pair.call("A", "interface.delete", "eth1")
        pair.call("A", "interface.commit", {"checkin_timeout": 1})
        pair.wait_until("A's are gone", lambda: not holders(pair, "198.51.100.1"), TAKEOVER_S)
        pair.wait_until("and back in time", lambda: holders(pair, "198.51.100.1") == "A", TAKEOVER_S)
        assert pair.call("A", "interface.has_pending_changes") is False
        pair.call("A", "interface.delete", "eth1")
        pair.call("A", "interface.commit", {"rollback": False})
        pair.wait_until("all are gone", lambda: not holders(pair, "198.51.100.1") + holders(pair, VIP_2), TAKEOVER_S)


@pytest.mark.full
def test_s12_a_failover_during_the_trial_leaves_the_rollback_to_the_new_active(pair: Pair) -> None:
    pair.call("A", "failover.update", {"disabled": True})
    pair.call("A", "interface.update", "eth1", ETH1)
    pair.call("A", "interface.commit", {"checkin_timeout": 5})
    pair.call("A", "failover.update", {"disabled": False})
    pair.wait_until("A has the VIP", lambda: holders(pair, VIP_2) == "A", TAKEOVER_S)
    pair.wait_until("both know", lambda: pair.is_whole("A"), TAKEOVER_S)
    pair.power_off("A")
    pair.wait_until("B is active", lambda: is_active(pair, "B"), TAKEOVER_S)
    assert pair.call("B", "interface.has_pending_changes") is True
    pair.wait_until("B rolls back", lambda: pair.call("B", "interface.has_pending_changes") is False, 7.0)
    pair.wait_until("its addresses are gone", lambda: not holders(pair, VIP_2), TAKEOVER_S)
    pair.power_on("A")
    pair.wait_until("A follows", lambda: pair.is_whole("B"), within_s=10)
    pair.wait_until("the address of the trial is gone from A, too", lambda: not holders(pair, "198.51.100.1"), 5.0)


@pytest.mark.full
def test_s16_vips_of_two_networks_and_both_families_move_together_to_exactly_one(pair: Pair) -> None:
    with configured(pair, eth1=ETH1):
        move(pair, "B")
        move(pair, "A")


def move(pair: Pair, node: Node) -> None:
    pair.force_master(node)
    pair.wait_until(f"{node} is active", lambda: is_active(pair, node), TAKEOVER_S)
    assert holders(pair, VIP) == node
    pair.wait_until("both are in sync", lambda: pair.is_whole(node), 8.0)


@pytest.mark.full
def test_s7_a_group_fails_with_its_last_member_and_separate_groups_with_the_first(pair: Pair) -> None:
    boot_both(pair)
    together = {"failover_critical": True, "failover_group": 1}
    with configured(pair, eth0=ETH0 | together, eth1=ETH1 | together):
        assert pair.call("A", "interface.failover_groups") == [{"number": 1, "interfaces": ["eth0", "eth1"]}]
        pair.cut("lan:A")
        holds_for(lambda: pair.role("A") == "MASTER", 2.0, "one of two members is enough")
        pair.cut("lan2:A")
        pair.wait_until("B is active", lambda: is_active(pair, "B"), TAKEOVER_S)
        pair.heal("lan:A", "lan2:A")
        pair.wait_until("B is whole", lambda: pair.is_whole("B"), 8.0)
        with failover_disabled(pair, "B"):
            pair.call("B", "interface.update", "eth1", {"failover_group": 2})
            pair.call("B", "interface.commit", {"rollback": False})
        pair.wait_until("B is whole", lambda: pair.is_whole("B"), 8.0)
        pair.cut("lan2:B")
        pair.wait_until("A is active at the first", lambda: is_active(pair, "A"), TAKEOVER_S)
        pair.heal("lan2:B")


@pytest.mark.full
def test_s6_the_standby_s_network_alone_moves_nothing(pair: Pair) -> None:
    pair.cut("lan:B")
    holds_for(lambda: (pair.role("A"), pair.vip_owner()) == ("MASTER", "A"), 3.0, "A stays")
    assert pair.call("A", "failover.disabled.reasons") == ["NO_LINK"]
    pair.heal("lan:B")
    pair.wait_until("no reason", lambda: pair.call("A", "failover.disabled.reasons") == [], within_s=5)


@pytest.mark.full
def test_s17_a_network_that_flaps_ten_times_a_second_moves_the_pair_at_most_once(pair: Pair) -> None:
    terms = {pair.sync("A").term}
    end = time.monotonic() + 6.0
    while time.monotonic() < end:
        pair.cut("lan:A")
        pair.heal("lan:A")
        terms |= {pair.sync(node).term for node in NODES}
    pair.wait_until("in sync again", pair.is_whole, 10.0)
    terms.add(pair.sync("B").term)
    assert len(terms) <= 2
