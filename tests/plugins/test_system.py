from __future__ import annotations

import msgspec
import pytest
from middlewared_plugins.failover import plugin as failover
from middlewared_plugins.network import plugin as network
from middlewared_plugins.system import plugin as system

from middlewared.engine.dispatch import Dispatcher
from middlewared.engine.standin import FACTS, MemoryEngine, dispatcher
from tests.plugins.client import Client

World = tuple[Dispatcher, MemoryEngine]


@pytest.fixture
def world() -> World:
    made, engine, _ = dispatcher(system, network, failover)
    engine.facts_now = msgspec.structs.replace(
        FACTS, version="1.2.3", boot_id="b", uptime_s=2.5, wall_ns=1_700_000_000_123_456_789, status="BACKUP"
    )
    return made, engine


async def test_info_tells_this_controllers_own_name_and_the_time_in_milliseconds(world: World) -> None:
    api, _ = world
    api.node = "B"
    assert await Client(api, "SYSTEM_GENERAL_READ").call("system.info") == {
        "version": "1.2.3",
        "hostname": "controller-b",
        "node": "B",
        "boot_id": "b",
        "uptime_seconds": 2.5,
        "datetime": {"$date": 1_700_000_000_123},
        "status": "BACKUP",
    }


async def test_the_version_is_told_without_a_login(world: World) -> None:
    assert await Client(world[0]).call("system.version") == "middlewared-1.2.3"
    assert (await Client(world[0]).call("system.info"))["error"] == 207


@pytest.mark.parametrize(
    ("status", "is_ready"),
    [("SINGLE", True), ("MASTER", True), ("BACKUP", True), ("ELECTING", False), ("IMPORTING", False), ("ERROR", False)],
)
async def test_a_controller_is_ready_when_it_has_a_role_and_serves_it(
    world: World, status: str, is_ready: bool
) -> None:
    api, engine = world
    engine.facts_now = msgspec.convert({**msgspec.structs.asdict(FACTS), "status": status}, type(FACTS))
    assert await Client(api).call("system.ready") is is_ready


async def test_effects_that_fail_are_told_with_their_reason(world: World) -> None:
    api, engine = world
    engine.facts_now = msgspec.structs.replace(FACTS, effects={"hosts": "read-only file system", "hostname": None})
    assert await Client(api, "SYSTEM_GENERAL_READ").call("system.effects") == [
        {"effect": "hostname", "problem": None},
        {"effect": "hosts", "problem": "read-only file system"},
    ]
