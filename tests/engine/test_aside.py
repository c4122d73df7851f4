"""A tail from its cut to its end, through the API of the owner; the line and the disk are in memory."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from middlewared_plugins.failover import effects, quarantine
from middlewared_plugins.failover import plugin as failover

from middlewared.engine.bus import Bus
from middlewared.engine.dispatch import Dispatcher
from middlewared.engine.duties import Duties, DutyContext
from middlewared.engine.jobs import Jobs
from middlewared.engine.peer import Questions
from middlewared.engine.standin import FACTS
from middlewared.engine.standin_parts import MemoryHost, MemoryTrail
from middlewared.kernel.errors import CallFailed, ConfigBehind
from middlewared.kernel.facts import Node
from middlewared.plugin import Aside, ControllerFacts
from middlewared.shell.clock import SystemClock
from tests.engine.controllers import REGISTRY, Controller, until
from tests.engine.pair import Pair
from tests.engine.test_divergence import diverge, reconciled
from tests.plugins.client import Client
from tests.plugins.view import MemoryView


class Side:
    """One controller as its plugins and its peer see it. away: the line between the two carries no question."""

    def __init__(self, controller: Controller) -> None:
        self.node: Node = controller.node
        self.aside: Aside = controller.aside
        self.controller = controller
        self.other: Side
        self.away = False
        bus = Bus(controller.engine)
        self.api = Dispatcher(
            REGISTRY,
            controller.engine,
            node=controller.node,
            controller=self,  # type: ignore[arg-type]
            host=MemoryHost(),
            bus=bus,
            jobs=Jobs(SystemClock(), bus.publish),
            trail=MemoryTrail(),
        )

    def facts(self) -> ControllerFacts:
        return msgspec.structs.replace(FACTS, log_format=self.controller.state.log_format)

    async def ask_peer(self, method: str, *params: object, timeout_s: float = 2.0) -> object:
        if self.away:
            raise CallFailed(107, "The other controller is not connected")
        answer = await Questions(self.other.api)(method, params)
        return msgspec.msgpack.decode(msgspec.msgpack.encode(answer))


class World:
    """A has a tail in quarantine that says `n0.example`; B owns. `admin` calls B."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.a, self.b = Side(pair.a), Side(pair.b)
        self.a.other, self.b.other = self.b, self.a
        self.admin = Client(self.b.api, "FULL_ADMIN")
        self.admin.session.options["legacy_jobs"] = False
        self.duties = Duties(failover.duties, pair.b.engine, self.b)  # type: ignore[arg-type]

    async def call(self, method: str, *params: object) -> Any:
        return await self.admin.call(f"failover.quarantine.{method}", *params)

    async def settle(self, controller: Controller) -> None:
        """The effect, as the controller's reconciler would run it."""
        view = MemoryView(controller.node)
        view.aside = controller.aside
        view.set(quarantine.NOUN, controller.engine.state(quarantine.NOUN))
        await effects.settle_quarantine(view)

    def noted(self, controller: Controller) -> list[quarantine.Entry]:
        return list(controller.engine.state(quarantine.NOUN).entries)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with Pair(tmp_path, log_format=2) as pair:
        await diverge(pair, 1)
        await reconciled(pair, 1)
        made = World(pair)
        duties = asyncio.create_task(made.duties.run())
        await until(lambda: bool(made.noted(pair.a)))
        yield made
        duties.cancel()
        await asyncio.gather(duties, return_exceptions=True)


async def test_both_controllers_know_of_a_tail_that_one_of_them_cut(world: World) -> None:
    await world.pair.equal()
    (entry,) = world.noted(world.pair.b)
    assert entry == world.noted(world.pair.a)[0]
    assert (entry.tail.node, entry.tail.n, entry.tail.answered) == ("A", 1, 1)
    assert entry.tail.digest == world.pair.a.log.cuts()[0].digest
    (listed,) = await world.call("list")
    assert (listed["kinds"], listed["actors"]) == ({"network.configuration.updated": 1}, ["eva@10.0.0.5:1"])


async def test_the_tail_is_compared_on_the_owner_though_its_file_is_with_the_other(world: World) -> None:
    (listed,) = await world.call("list")
    told = await world.call("diff", listed["id"])
    assert told["rows"] == [
        {
            "noun": "network.configuration",
            "table": "network_configuration",
            "key": {"id": 1},
            "field": "domain",
            "before": "local",
            "quarantined": "n0.example",
            "now": "forced.example",
            "again": "n0.example",
            "conflict": True,
        }
    ]


async def test_reapplied_the_value_is_back_on_both_once_and_for_all(world: World) -> None:
    (listed,) = await world.call("list")
    result = await world.call("reapply", listed["id"])
    assert result == {"applied": 1, "unchanged": 0, "refused": 0, "not_reapplicable": 0, "refusals": []}
    await world.pair.equal()
    assert world.pair.a.configuration.domain == "n0.example"
    again = next(r for r in world.pair.b.records() if b"n0.example" in r.payload)
    assert (again.actor, again.origin) == ("eva@10.0.0.9:5", "B")
    await world.pair.b.update(domain="later.example")
    assert await world.call("reapply", listed["id"]) == result
    assert world.pair.b.configuration.domain == "later.example"
    await world.settle(world.pair.a)
    assert world.pair.a.quarantined == 0


async def test_discarded_the_file_is_gone_and_the_log_says_by_whom_and_why(world: World) -> None:
    (listed,) = await world.call("list")
    await world.call("discard", listed["id"], "of no use")
    await world.pair.equal()
    assert len(list((world.pair.a.directory / "quarantine").iterdir())) == 1
    await world.settle(world.pair.a)
    assert list((world.pair.a.directory / "quarantine").iterdir()) == []
    record = world.pair.a.records()[-1]
    assert (record.kind, record.actor) == ("failover.quarantine.discarded", "eva@10.0.0.9:5")
    assert b"of no use" in record.payload
    assert world.pair.a.log.cuts()[0].n == 1


async def test_with_the_other_controller_away_its_tail_is_listed_and_not_compared(world: World) -> None:
    world.b.away = True
    (listed,) = await world.call("list")
    assert (await world.call("diff", listed["id"]))["errname"] == "ENOTCONN"
    assert (await world.call("reapply", listed["id"]))["errname"] == "ENOTCONN"
    world.b.away = False
    assert (await world.call("reapply", listed["id"]))["applied"] == 1


async def test_a_reapplying_that_was_interrupted_goes_on_and_does_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, before_the_fault = 600, 300
    async with Pair(tmp_path, log_format=2) as pair:
        await diverge(pair, count)
        await reconciled(pair, count)
        world = World(pair)
        execute, calls = pair.b.engine.execute, itertools.count()

        async def until_the_fault(*args: Any, **kwargs: Any) -> Any:
            if next(calls) == before_the_fault:
                raise ConfigBehind("the log here is behind")
            return await execute(*args, **kwargs)

        id_ = pair.a.aside.tails()[0].id
        with monkeypatch.context() as patched:
            patched.setattr(pair.b.engine, "execute", until_the_fault)
            assert (await world.call("reapply", id_))["errname"] == "EHAUNAVAILABLE"
        done = [r for r in pair.b.records() if b"example" in r.payload and r.actor == "eva@10.0.0.9:5"]
        assert 0 < len(done) < count
        assert world.noted(pair.b)[0].fate == "open"
        assert (await world.call("reapply", id_))["applied"] == count
        done = [r for r in pair.b.records() if b"example" in r.payload and r.actor == "eva@10.0.0.9:5"]
        assert len(done) == len({record.payload for record in done}) == count


async def test_an_owner_that_ends_before_it_noted_a_tail_leaves_that_to_the_next_one(tmp_path: Path) -> None:
    async with Pair(tmp_path, log_format=2) as pair:
        await diverge(pair, 1)
        await reconciled(pair, 1)
        pair.b.stand(2)
        await pair.take_over(pair.a, forced=True)
        await pair.a.opened()
        world = World(pair)
        world.a.away = True
        duty = next(duty for duty in failover.duties if duty.name == "note quarantine")
        for _ in range(2):
            await duty.run(DutyContext(pair.a.engine, world.a))  # type: ignore[arg-type]
        (entry,) = world.noted(pair.a)
        assert (entry.tail.node, entry.fate) == ("A", "open")
