"""failover.become_passive and failover.history, over an engine in memory."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from middlewared_plugins.failover import plugin as failover
from middlewared_plugins.failover import succession
from middlewared_plugins.network import plugin as network
from middlewared_plugins.network.interface_rules import Interface

from middlewared.engine.standin import FACTS, MemoryEngine, dispatcher
from middlewared.kernel.facts import Node, SharedDisk, Vip, VipState
from middlewared.kernel.outlook import Side, Status
from middlewared.kernel.transition import StepTook, Transition
from middlewared.protocol import hub
from middlewared.protocol.failover_view import shown
from tests.plugins.client import Client
from tests.protocol.failover_views import NOW
from tests.protocol.failover_views import owner as an_owner

HEALTHY = msgspec.structs.replace(
    FACTS, paired=True, peer_connected=True, peer_heard=True, in_sync=("A", "B"), disks_ok=3, disks_total=3
)
VIP = Vip(vhid=1, address="192.0.2.10", prefix=24, interface="eth0")


def transition(node: Node, at_s: int, plan: str = "handover", outcome: str = "done") -> Transition:
    steps = (StepTook(name="ask", ms=2.0, outcome="done"), StepTook(name="drain", ms=10.4, outcome="running"))
    return Transition(
        node=node,
        plan=plan,
        at_ns=at_s * 10**9,
        term=4,
        rule="ASKED",
        cause="asked by root",
        outcome=outcome,
        why="",
        ms=12.4,
        steps=steps,
    )


def made() -> tuple[Client, MemoryEngine]:
    answers, engine, _ = dispatcher(failover, network)
    return Client(answers, "FULL_ADMIN"), engine


async def test_history_joins_both_controllers_newest_first() -> None:
    client, engine = made()
    engine.roles.transitions = [transition("A", 10), transition("A", 30)]
    engine.peer["failover.transitions"] = msgspec.to_builtins([transition("B", 20, "promotion")])
    found: Any = await client.call("failover.history")
    assert [(row["node"], row["plan"], row["at"]) for row in found] == [
        ("A", "handover", {"$date": 30000}),
        ("B", "promotion", {"$date": 20000}),
        ("A", "handover", {"$date": 10000}),
    ]
    assert len(await client.call("failover.history", {"limit": 1})) == 1
    assert [row["node"] for row in await client.call("failover.history", {"node": "B"})] == ["B"]


async def test_history_without_the_other_controller_is_this_ones() -> None:
    client, engine = made()
    engine.roles.transitions = [transition("A", 10)]
    assert len(await client.call("failover.history")) == 1


async def test_a_limit_out_of_bounds_is_named() -> None:
    client, _ = made()
    answer = await client.call("failover.history", {"limit": 0})
    assert answer["extra"] == [["options.limit", "must be 1-200", 22]]


async def test_become_passive_is_refused_with_the_reasons_while_failover_is_not_available() -> None:
    client, engine = made()
    client.session.options["legacy_jobs"] = False
    answer = await client.call("failover.become_passive")
    assert answer["reason"].startswith("Failover is not available: NOT_PAIRED"), answer
    assert engine.roles.wanted == []


async def test_become_passive_answers_with_the_steps() -> None:
    client, engine = made()
    client.session.options["legacy_jobs"] = False
    engine.facts_now = HEALTHY
    engine.states["network.vip"] = msgspec.structs.replace(engine.states["network.vip"], vip=VIP)
    engine.roles.outcome = transition("A", 10)
    answer = await client.call("failover.become_passive")
    assert [step["name"] for step in answer["steps"]] == ["ask", "drain"]
    assert engine.roles.wanted == ["asked by eva"]


def test_the_steps_so_far_are_described_with_their_durations() -> None:
    assert succession.described(transition("A", 10)) == "ask 2 ms, drain..."


async def test_the_state_of_a_pair_is_one_object() -> None:
    client, engine = made()
    engine.facts_now = msgspec.structs.replace(HEALTHY, status="MASTER", term=4)
    engine.roles.transitions = [transition("A", 10)]
    found = await client.call("failover.state")
    assert (found["role"], found["owner"], found["term"]) == ("MASTER", "A", 4)
    assert [reason["code"] for reason in found["reasons"]] == ["NO_VIP", "NO_CRITICAL_INTERFACES"]
    assert (found["icon"], found["available"]) == ("UNAVAILABLE", False)
    assert found["peer"]["why_not"].startswith("There is no virtual address; No interface is critical")
    assert found["last_transition"]["plan"] == "handover"
    assert found["rule"] == ""


def disks(*owners: Node | None, sets: tuple[int, ...] = (0,)) -> tuple[SharedDisk, ...]:
    """Voters of one set."""
    return tuple(
        SharedDisk(
            serial=f"S{n}",
            sets=sets,
            changing=False,
            reachable=True,
            owner=owner,
            term=4,
            keeps="slot",
            slots_of="",
            error="",
        )
        for n, owner in enumerate(owners)
    )


HELD_BY: dict[str, Node | None] = {"A": "A", "B": "B", ".": None}


async def state(status: Status, theirs: Status | None = None, **facts: Any) -> Any:
    """failover.state of A. theirs: what B says that it is; None: it is not connected."""
    client, engine = made()
    engine.facts_now = msgspec.structs.replace(HEALTHY, status=status, peer_connected=theirs is not None, **facts)
    if theirs is not None:
        engine.peer["failover.side"] = msgspec.to_builtins(Side(node="B", version="1", status=theirs, vips={}))
    await engine.pair_outlook.look()
    return await client.call("failover.state")


@pytest.mark.parametrize(
    ("status", "theirs", "held", "owner"),
    [
        ("MASTER", "BACKUP", "AAA", "A"),
        ("IMPORTING", "BACKUP", "AAA", "A"),
        ("BACKUP", "MASTER", "BBB", "B"),
        ("BACKUP", "BACKUP", "...", None),
        ("BACKUP", "BACKUP", "BBB", None),
        ("BACKUP", None, "BBA", "B"),
        ("BACKUP", None, "B.A", None),
        ("ELECTING", None, "AA.", None),
    ],
)
async def test_who_is_active_is_what_it_says_of_itself_else_what_the_disks_say(
    status: Status, theirs: Status | None, held: str, owner: Node | None
) -> None:
    found = await state(status, theirs, shared_disks=disks(*(HELD_BY[letter] for letter in held)))
    assert (found["owner"], found["peer"]["role"]) == (owner, theirs)


async def test_while_two_sets_vote_the_holder_has_a_majority_of_each() -> None:
    both = disks("A", "A", "B") + disks("A", "B", "B", sets=(1,))
    assert (await state("MASTER", "BACKUP", shared_disks=both))["reservation"]["holder"] is None
    both = disks("A", "A", "B") + disks("A", "A", "B", sets=(1,))
    assert (await state("MASTER", "BACKUP", shared_disks=both))["reservation"]["holder"] == "A"


async def test_what_is_wrong_with_this_controller_does_not_keep_the_other_one_from_taking_over() -> None:
    client, engine = made()
    engine.states["network.vip"] = msgspec.structs.replace(engine.states["network.vip"], vip=VIP)
    engine.facts_now = msgspec.structs.replace(HEALTHY, status="MASTER", pool_fault="tank is suspended")
    found = await client.call("failover.state")
    assert [reason["code"] for reason in found["reasons"]] == ["POOL_FAULT"]
    assert (found["peer"]["promotable"], found["peer"]["why_not"]) == (True, "")


async def test_the_rule_and_the_sentence_are_of_one_decision() -> None:
    client, engine = made()
    engine.facts_now = msgspec.structs.replace(HEALTHY, status="MASTER", why="B was silent on all channels")
    engine.seen = hub.Seen(at=NOW, view=shown(an_owner()))
    found = await client.call("failover.state")
    explained = await client.call("failover.explain")
    assert (found["rule"], found["why"]) == ("OWNS", explained["why"])
    engine.facts_now = msgspec.structs.replace(engine.facts_now, status="ERROR", halted="two logs differ at seq 1")
    found = await client.call("failover.state")
    assert (found["rule"], found["why"]) == ("", "two logs differ at seq 1")


async def test_a_virtual_address_is_told_with_its_failover_group() -> None:
    vip = VipState(
        vhid=1, address="192.0.2.10", state="MASTER", since=1, rivals=0, rejected=0, why="", interface="eth0"
    )
    client, engine = made()
    engine.facts_now = msgspec.structs.replace(HEALTHY, status="MASTER", vips=(vip,))
    assert [vip["group"] for vip in (await client.call("failover.state"))["vips"]] == [None]
    eth0 = Interface(name="eth0", critical=True, group=7)
    engine.states["interface"] = msgspec.structs.replace(engine.states["interface"], saved=(eth0,))
    assert [vip["group"] for vip in (await client.call("failover.state"))["vips"]] == [7]
