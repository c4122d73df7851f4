"""failover.become_passive and failover.history, over an engine in memory."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from middlewared_plugins.failover import plugin as failover
from middlewared_plugins.failover import succession
from middlewared_plugins.network import plugin as network

from middlewared.engine.standin import FACTS, MemoryEngine, dispatcher
from middlewared.kernel.facts import Node, Vip
from middlewared.kernel.transition import StepTook, Transition
from tests.plugins.client import Client

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


@pytest.mark.parametrize(
    ("status", "heard", "owner"),
    [
        ("MASTER", True, "A"),
        ("IMPORTING", True, "A"),
        ("BACKUP", True, "B"),
        ("BACKUP", False, None),
        ("ELECTING", True, None),
    ],
)
async def test_who_is_active_is_told_only_where_it_is_known(status: str, heard: bool, owner: Node | None) -> None:
    client, engine = made()
    engine.facts_now = msgspec.structs.replace(HEALTHY, status=status, peer_heard=heard)
    assert (await client.call("failover.state"))["owner"] == owner
