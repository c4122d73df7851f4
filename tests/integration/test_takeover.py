"""The active controller dies, sleeps, or loses its cables: who is active then, with which configuration. Needs root.

The lab's `power off` lets nothing out: no FIN, no RST. Replies are told apart by `middlewared.lab.watch`.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable

import msgspec
import pytest

from middlewared.client import Client
from middlewared.kernel.errors import MiddlewareError
from middlewared.kernel.facts import Node
from middlewared.lab.driver import Pair
from middlewared.lab.faults import NODES
from middlewared.lab.watch import Watch
from tests.integration.conftest import (
    all_noted,
    boot_both,
    domains,
    holds_for,
    leave_b_behind,
    quarantined,
    records,
    write_at_vip,
)

pytestmark = pytest.mark.root

TAKEOVER_S = 4.0
"""How long these tests wait for a takeover; how fast it is, is for `python -m bench vip`."""
CLIENTS, WRITES_EACH = 8, 25
CALL_S = 20.0


def test_when_the_active_loses_power_the_standby_serves_the_same_configuration(pair: Pair) -> None:
    write_at_vip(pair, domain="before.test")
    set_aside = [quarantined(pair, node) for node in NODES]
    digest = pair.sync("A").state_digest
    pair.power_off("A")
    pair.wait_until("B is active", lambda: (pair.role("B"), pair.vip_owner()) == ("MASTER", "B"), TAKEOVER_S)
    config = pair.call("B", "network.configuration.config")
    assert isinstance(config, dict)
    assert config["domain"] == "before.test"
    assert pair.sync("B").state_digest == digest
    assert write_at_vip(pair, domain="alone.test")["durability"] == "single"

    pair.power_on("A")
    pair.wait_until("A is standby in sync", lambda: pair.is_whole("B"), within_s=8)
    assert records(pair, "A") == records(pair, "B")
    assert pair.sync("A").state_digest == pair.sync("B").state_digest
    assert [quarantined(pair, node) for node in NODES] == set_aside
    assert write_at_vip(pair, domain="again.test")["durability"] == "pair"


def newest_change(pair: Pair, node: Node) -> tuple[str, str]:
    """(plan, rule) of what `node` kept last of its role."""
    (told,) = msgspec.convert(pair.call(node, "failover.history", {"node": node, "limit": 1}), list[dict[str, object]])
    return str(told["plan"]), str(told["rule"])


class Writers:
    """Clients that write side by side through the virtual IP, each its own domains, whatever happens meanwhile.

    acknowledged: for each client the domains that were answered, with the time of the answer.
    """

    def __init__(self, pair: Pair) -> None:
        self.acknowledged: list[dict[str, float]] = [{} for _ in range(CLIENTS)]
        self._pair = pair
        self._all_here = asyncio.Barrier(CLIENTS)
        self._under_way = asyncio.Event()

    async def write_while(self, fault: Callable[[], None]) -> float:
        """All writes, with the fault in their middle. Returns when the fault was in force."""
        writers = [asyncio.create_task(self._write(number)) for number in range(CLIENTS)]
        await asyncio.wait_for(self._under_way.wait(), 15)
        await asyncio.to_thread(fault)
        in_force_at = time.monotonic()
        await asyncio.wait_for(asyncio.gather(*writers), 30)
        return in_force_at

    async def _write(self, number: int) -> None:
        up, mine = self._pair.result, self.acknowledged[number]
        async with Client(
            up.vip_url, username=up.user, password=up.password, durability=True, patience_s=CALL_S
        ) as client:
            await client.call("auth.me")
            await self._all_here.wait()
            for count in range(WRITES_EACH):
                fields = {"domain": f"c{number}-{count}.test"}
                await client.call("network.configuration.update", fields, timeout_s=CALL_S)
                mine[fields["domain"]] = time.monotonic()
                if sum(map(len, self.acknowledged)) >= CLIENTS * WRITES_EACH // 3:
                    self._under_way.set()


def test_clients_that_write_while_the_active_loses_power_are_answered_and_every_write_is_done_once(pair: Pair) -> None:
    writers = Writers(pair)
    off_at = asyncio.run(writers.write_while(lambda: pair.power_off("A")))
    acknowledged = {domain for client in writers.acknowledged for domain in client}
    done = Counter(domains(records(pair, "B")))
    assert {domain: done[domain] for domain in acknowledged} == dict.fromkeys(acknowledged, 1)
    for client in writers.acknowledged:
        assert len(client) == WRITES_EACH
        assert max(client.values()) > off_at

    pair.power_on("A")
    pair.wait_until("A is standby in sync", lambda: all_noted(pair, "B") and pair.is_whole("B"), within_s=8)
    assert records(pair, "A") == records(pair, "B")
    # What only A had was answered to nobody; it is kept and counted. Its clients asked again, and B did it for them.
    unanswered = quarantined(pair, "A")
    assert {r.request_id for r in unanswered if r.request_id} <= {r.request_id for r in records(pair, "B")}
    assert pair.sync("A").quarantine.count == len(unanswered)
    assert pair.sync("B").quarantine.count == 0


def test_a_frozen_active_is_relieved_and_is_standby_by_itself_when_it_thaws(pair: Pair) -> None:
    with Watch(pair) as watch:
        watch.wait_for_owner("A")
        frozen_ns = time.time_ns()
        pair.freeze("A")
        watch.wait_for_owner("B", TAKEOVER_S)
        pair.thaw("A")
        pair.wait_until("A is standby in sync", lambda: pair.is_whole("B"), within_s=5)
        holds_for(lambda: pair.vip_owner() == "B", 1.5, "B has the virtual IP, alone")
        assert watch.change("A", "B", frozen_ns).double == 0
    assert newest_change(pair, "A") in (("loss", "CUT_OFF"), ("loss", "DEPOSED"))


def test_a_controller_without_its_lan_hands_over_at_once(pair: Pair) -> None:
    boot_both(pair)
    with Watch(pair) as watch:
        watch.wait_for_owner("A")
        cut_ns = time.time_ns()
        pair.cut("lan:A")
        watch.wait_for_owner("B", TAKEOVER_S)
        pair.wait_until("A is standby", lambda: pair.role("A") == "BACKUP", within_s=2)
        pair.heal("lan:A")
        pair.wait_until("A is standby in sync", lambda: pair.is_whole("B"), within_s=5)
        assert watch.change("A", "B", cut_ns).double == 0
    assert newest_change(pair, "A") == ("loss", "LINK_LOST")


def test_in_a_full_partition_the_owner_of_the_disks_keeps_the_virtual_ip(pair: Pair) -> None:
    with Watch(pair) as watch:
        watch.wait_for_owner("A")
        cut_ns = time.time_ns()
        pair.cut("lan:B", "interlink")
        assert write_at_vip(pair, domain="partition.test")["durability"] == "single"
        holds_for(lambda: pair.vip_owner() == "A", 3.0, "A has the virtual IP, alone")
        assert (pair.role("A"), pair.role("B")) == ("MASTER", "BACKUP")
        pair.heal("lan:B", "interlink")
        pair.wait_until("both in sync", lambda: pair.is_whole("A"), within_s=5)
        assert watch.replies("B") == 0
        assert watch.longest_silence_ms(cut_ns) < 500


def test_in_a_partition_on_the_owner_s_side_the_standby_does_not_take_the_virtual_ip(pair: Pair) -> None:
    pair.cut("interlink", "lan:A")  # in this order: without its LAN alone, A hands over
    holds_for(lambda: pair.vip_owner() == "A", 3.0, "A has the virtual IP, alone")
    assert (pair.role("A"), pair.role("B")) == ("MASTER", "BACKUP")
    pair.heal("interlink", "lan:A")
    pair.wait_until("A goes on", lambda: pair.is_whole("A"), within_s=5)


def test_a_standby_that_was_left_behind_holds_the_virtual_ip_and_writes_nothing_until_it_heard_the_other(
    pair: Pair,
) -> None:
    log = leave_b_behind(pair, "missed.test")
    reasons = pair.call("B", "failover.disabled.reasons")
    assert isinstance(reasons, list)
    assert "CONFIG_BEHIND" in reasons
    with pytest.raises(MiddlewareError) as refusal:
        pair.call("B", "network.configuration.update", {"domain": "fork.test"})
    assert "CONFIG_BEHIND" in str(refusal.value)
    assert records(pair, "B") == log

    pair.power_on("A")
    pair.wait_until("both in sync", pair.is_whole, within_s=10)
    assert domains(records(pair, "B"))[-1] == "missed.test"
    assert records(pair, "A") == records(pair, "B")
    assert write_at_vip(pair, domain="open.test")["durability"] == "pair"


def test_what_force_master_gives_up_lies_in_quarantine_when_the_other_returns(pair: Pair) -> None:
    leave_b_behind(pair, "given-up.test")
    pair.call("B", "failover.force_master")
    pair.wait_until("B writes", lambda: write_at_vip(pair, domain="forced.test")["seq"] > 0, within_s=5)

    pair.power_on("A")
    pair.wait_until("both in sync", pair.is_whole, within_s=10)
    kept = domains(records(pair, "A"))
    assert kept[-1] == "forced.test"
    assert "given-up.test" not in kept
    set_aside = quarantined(pair, "A")
    assert domains(set_aside)[-1] == "given-up.test"
    assert pair.sync("A").quarantine.count == len(set_aside)


@pytest.mark.full
def test_who_is_forced_to_be_active_stays_so(pair: Pair) -> None:
    for turn in range(60):
        forced = NODES[1 - turn % 2]
        pair.force_master(forced)
        pair.wait_until("the pair is whole", pair.is_whole, TAKEOVER_S)
        assert pair.role(forced) == "MASTER", turn


async def write_many(pair: Pair, clients: int, each: int) -> None:
    async def write(number: int) -> None:
        up = pair.result
        async with Client(up.vip_url, username=up.user, password=up.password, patience_s=CALL_S) as client:
            for count in range(each):
                await client.request("network.configuration.update", [{"domain": f"c{number}-{count}.test"}])

    await asyncio.gather(*map(write, range(clients)))


@pytest.mark.full
def test_s8_a_standby_that_was_off_during_a_thousand_writes_is_equal_again_from_the_log(pair: Pair) -> None:
    log = pair.layout.machine("B") / "log.db"
    file, had = log.stat().st_ino, len(records(pair, "B"))
    pair.power_off("B")
    asyncio.run(write_many(pair, 8, 125))
    pair.power_on("B")
    pair.wait_until("B is standby in sync", lambda: pair.is_whole("A"), within_s=15)
    assert len(records(pair, "B")) >= had + 1000
    assert records(pair, "A") == records(pair, "B")
    assert pair.sync("A").state_digest == pair.sync("B").state_digest
    assert log.stat().st_ino == file, "what it had stayed"
