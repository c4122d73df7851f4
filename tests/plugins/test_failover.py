"""The methods, the reasons and the effect of failover."""

from __future__ import annotations

import msgspec
import pytest
from middlewared_plugins.failover import effects, settings, voters
from middlewared_plugins.failover import plugin as failover
from middlewared_plugins.network import plugin as network

from middlewared.engine.dispatch import Dispatcher
from middlewared.engine.standin import FACTS, MemoryEngine, dispatcher
from middlewared.kernel.facts import Node
from tests.plugins.client import Client
from tests.plugins.view import MemoryView

HEALTHY = msgspec.structs.replace(
    FACTS, paired=True, peer_connected=True, peer_heard=True, in_sync=("A", "B"), disks_ok=3, disks_total=3
)
World = tuple[Dispatcher, MemoryEngine]


@pytest.fixture
def world() -> World:
    made, engine, _ = dispatcher(failover, network)
    engine.facts_now = HEALTHY
    return made, engine


# The methods


async def test_t6_failover_is_not_enabled_where_nothing_could_fail_over_and_the_error_says_what_to_do(
    world: World,
) -> None:
    admin = Client(world[0], "FULL_ADMIN")
    await admin.call("failover.update", {"disabled": True})
    refused = await admin.call("failover.update", {"disabled": False, "timeout": 9})
    assert refused["extra"][0][0] == "failover_update.disabled"
    assert refused["extra"][0][1].startswith("no interface is critical, and none has a virtual address")
    assert (await admin.call("failover.config"))["timeout"] == 0
    await admin.call("network.vip.update", {"address": "10.0.0.9", "interface": "lan0", "vhid": 7})
    assert (await admin.call("failover.update", {"disabled": False}))["disabled"] is False


async def test_the_reasons_come_from_the_settings_the_address_and_the_facts(world: World) -> None:
    admin = Client(world[0], "FULL_ADMIN")
    assert await Client(world[0]).call("failover.disabled.reasons") == ["NO_VIP", "NO_CRITICAL_INTERFACES"]
    await admin.call("network.vip.update", {"address": "10.0.0.9", "interface": "lan0", "vhid": 7})
    await admin.call("failover.update", {"disabled": True})
    assert await Client(world[0]).call("failover.disabled.reasons") == ["NO_FAILOVER"]


@pytest.mark.parametrize(
    ("answers", "master", "default"), [("A", True, "A"), ("A", False, "B"), ("B", True, "B"), ("B", False, "A")]
)
async def test_master_is_about_the_controller_that_answers(
    world: World, answers: Node, master: bool, default: Node
) -> None:
    api, engine = world
    api.node = answers
    told = await Client(api, "FAILOVER_WRITE").call("failover.update", {"master": master})
    assert told == {"id": 1, "disabled": False, "master": master, "timeout": 0}
    assert engine.states["failover"].default_node == default
    api.node = "B" if answers == "A" else "A"
    assert (await Client(api, "FAILOVER_READ").call("failover.config"))["master"] is not master


async def test_master_that_is_left_out_stays_whoever_answers(world: World) -> None:
    api, engine = world
    admin = Client(api, "FULL_ADMIN")
    await admin.call("failover.update", {"master": False})
    api.node = "B"
    await admin.call("failover.update", {"timeout": 5})
    assert engine.states["failover"] == settings.Settings(default_node="B", timeout_s=5)


@pytest.mark.parametrize("seconds", [-1, 121])
async def test_a_timeout_out_of_range_is_refused_by_its_field(world: World, seconds: int) -> None:
    told = await Client(world[0], "FULL_ADMIN").call("failover.update", {"timeout": seconds})
    assert [field for field, _, _ in told["extra"]] == ["failover_update.timeout"]


async def test_without_a_login_one_learns_who_is_active_and_no_more(world: World) -> None:
    api, engine = world
    engine.facts_now = msgspec.structs.replace(HEALTHY, status="BACKUP", active_urls=("http://10.0.0.9",))
    nobody = Client(api)
    assert await nobody.call("failover.status") == "BACKUP"
    assert await nobody.call("failover.get_ips") == ["http://10.0.0.9"]
    assert await nobody.call("failover.licensed") is True
    for method in ("failover.config", "failover.node", "failover.sync.status", "failover.force_master"):
        assert (await nobody.call(method))["error"] == 207


async def test_the_state_of_both_logs_is_told_as_it_is(world: World) -> None:
    api, engine = world
    engine.facts_now = msgspec.structs.replace(
        HEALTHY,
        term=4,
        last_seq=9,
        commit_seq=8,
        applied_seq=7,
        peer_durable_seq=6,
        peer_applied_seq=5,
        lag_events=4,
        lag_ms=40,
        digest_equal_at_seq=2,
        state_differs="a row",
        quarantined=3,
        behind="why",
        apply_blocked="because",
        peer_apply_blocked="seq 9",
    )
    told = await Client(api, "FAILOVER_READ").call("failover.sync.status")
    digest = told.pop("state_digest")
    assert digest == (await engine.state_digest())[1]
    assert told == {
        "term": 4,
        "last_seq": 9,
        "commit_seq": 8,
        "applied_seq": 7,
        "peer_durable_seq": 6,
        "peer_applied_seq": 5,
        "lag_events": 4,
        "lag_ms": 40,
        "in_sync": ["A", "B"],
        "peer_connected": True,
        "peer_refused": None,
        "apply_blocked": "because",
        "peer_apply_blocked": "seq 9",
        "config_behind": "why",
        "digest_at_seq": 0,
        "digest_equal_at_seq": 2,
        "state_differs": "a row",
        "quarantine": {"count": 3},
    }


async def test_pairing_is_for_the_console_alone(world: World) -> None:
    far = Client(world[0], "FULL_ADMIN")
    assert (await far.call("failover.pair.open"))["errname"] == "EACCES"
    assert (await far.call("failover.pair.join", "CODE", "10.0.0.2"))["errname"] == "EACCES"
    near = Client(world[0], local_root=True)
    near.session.log_in("root", frozenset({"FULL_ADMIN"}))
    assert (await near.call("failover.pair.open"))["reason"].endswith("An engine in memory has no peer")


async def test_the_term_can_be_forced_on_a_standby(world: World) -> None:
    told = await Client(world[0], "FAILOVER_WRITE").call("failover.force_master")
    assert told["reason"].endswith("An engine in memory has no voters")
    assert (await Client(world[0], "FAILOVER_READ").call("failover.force_master"))["errname"] == "EACCES"


# The effect


async def test_fenced_is_told_the_whole_policy() -> None:
    view = MemoryView("B")
    view.set(settings.NOUN, settings.Settings(disabled=True, default_node="B", timeout_s=30))
    effect = effects.EFFECTS[0]
    await effect.reconcile(view)
    assert view.told.policy == (True, "B", 30.0)
    assert view.told.voting == voters.UNSET
    assert effect.watches == (settings.NOUN.name, voters.NOUN.name)


def test_status_and_reasons_are_announced_under_the_fields_that_clients_know() -> None:
    assert {(a.collection, a.query, a.field) for a in failover.announces} == {
        ("failover.status", "failover.status", "status"),
        ("failover.disabled.reasons", "failover.disabled.reasons", "disabled_reasons"),
        ("failover.disabled.details", "failover.disabled.details", "disabled_details"),
        ("failover.state", "failover.state", "state"),
        ("failover.sync.status", "failover.sync.status", "sync_status"),
    }
