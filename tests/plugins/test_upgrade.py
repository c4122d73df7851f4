from __future__ import annotations

import msgspec
import pytest
from middlewared_plugins.upgrade import plugin as upgrade
from middlewared_plugins.upgrade.readiness import pending, reasons

from middlewared.engine.dispatch import Dispatcher
from middlewared.engine.standin import FACTS, MemoryEngine, dispatcher
from middlewared.kernel.event import FIRST_FORMAT, LOG_FORMAT
from middlewared.log_format import NOUN
from middlewared.plugin import ControllerFacts, PeerBuild
from tests.plugins.client import Client

World = tuple[Dispatcher, MemoryEngine]

PEER = PeerBuild(version="0.1.0", age="same", log_format_max=LOG_FORMAT)
FIRST_BUILD = PeerBuild(version="", age="older", log_format_max=FIRST_FORMAT)
PAIR = msgspec.structs.replace(
    FACTS, version="0.1.0", paired=True, in_sync=("A", "B"), peer=PEER, log_format=FIRST_FORMAT
)


def facts(**changes: object) -> ControllerFacts:
    return msgspec.structs.replace(PAIR, **changes)


@pytest.fixture
def world() -> World:
    made, engine, _ = dispatcher(upgrade)
    engine.facts_now = PAIR
    return made, engine


@pytest.mark.parametrize(
    ("changes", "sentences"),
    [
        ({}, []),
        ({"log_format": LOG_FORMAT, "peer": None}, []),
        ({"paired": False, "peer": None, "in_sync": ("A",)}, []),
        ({"peer": None}, ["the other controller is not connected"]),
        (
            {"peer": None, "peer_refused": "peer reads log formats 1-1"},
            ["the other controller is not connected: peer reads log formats 1-1"],
        ),
        (
            {"peer": FIRST_BUILD, "in_sync": ("A",)},
            [
                "the other controller runs an older version, which reads log formats up to 1: upgrade it first",
                "the other controller is not in sync",
            ],
        ),
    ],
)
def test_every_reason_that_keeps_the_log_as_it_is_is_said(changes: dict[str, object], sentences: list[str]) -> None:
    assert reasons(facts(**changes)) == sentences


def test_an_upgrade_is_pending_from_the_moment_that_it_can_be_finished_until_it_was() -> None:
    assert not pending(facts(peer=FIRST_BUILD))
    assert pending(facts())
    assert not pending(facts(log_format=LOG_FORMAT))


async def test_status_says_what_both_controllers_run(world: World) -> None:
    assert await Client(world[0], "FAILOVER_READ").call("upgrade.status") == {
        "log_format": 1,
        "formats": [1, LOG_FORMAT],
        "version": "0.1.0",
        "peer_version": "0.1.0",
        "peer_age": "same",
        "peer_formats_up_to": LOG_FORMAT,
        "can_finalize": True,
        "why_not": [],
    }


async def test_finalize_raises_the_log_once(world: World) -> None:
    api, engine = world
    client = Client(api, "FAILOVER_READ", "FAILOVER_WRITE")
    assert await client.call("failover.upgrade_pending") is True
    await client.call("upgrade.finalize")
    assert engine.states[NOUN.name].log_format == LOG_FORMAT
    seq = engine.seq
    await client.call("upgrade.finalize")
    assert engine.seq == seq


async def test_finalize_is_refused_with_every_reason_while_the_other_controller_is_older(world: World) -> None:
    api, engine = world
    engine.facts_now = facts(peer=FIRST_BUILD)
    refused = await Client(api, "FAILOVER_WRITE").call("upgrade.finalize")
    assert refused["reason"] == (
        "The log cannot be raised now: the other controller runs an older version, which reads log formats up to 1: "
        "upgrade it first"
    )
    assert engine.executed == []


async def test_a_controller_that_was_never_paired_just_does_it(world: World) -> None:
    api, engine = world
    engine.facts_now = facts(paired=False, peer=None, in_sync=("A",))
    await Client(api, "FAILOVER_WRITE").call("upgrade.finalize")
    assert engine.states[NOUN.name].log_format == LOG_FORMAT


async def test_only_who_may_change_failover_may_finalize(world: World) -> None:
    assert (await Client(world[0], "FAILOVER_READ").call("upgrade.finalize"))["reason"].startswith("upgrade.finalize")
