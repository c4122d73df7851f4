from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from middlewared.engine.reconcile import Outcome, Reconciler
from middlewared.kernel.errors import PortFailed
from middlewared.plugin import Effect, View
from tests.engine.controllers import until
from tests.plugins.view import MemoryView


class World:
    """One effect, whose runs the test decides about."""

    def __init__(self) -> None:
        self.runs = 0
        self.at_once = 0
        self.most_at_once = 0
        self.let_go = asyncio.Event()
        self.let_go.set()
        self.raises: list[BaseException] = []
        effect = Effect(name="light", watches=("lamp",), reconcile=self.run, retry_s=0.02)
        self.reconciler = Reconciler([effect], MemoryView(), deadline_s=0.1)

    async def run(self, _: View) -> None:
        self.runs += 1
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            await self.let_go.wait()
            if self.raises:
                raise self.raises.pop(0)
        finally:
            self.at_once -= 1

    def why(self) -> str | None:
        (outcome,) = self.reconciler.outcomes()
        assert outcome.effect == "light"
        return outcome.why

    async def done(self, runs: int) -> None:
        await until(lambda: self.runs == runs and self.at_once == 0 and bool(self.reconciler.outcomes()))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.reconciler.close()


async def test_an_effect_runs_at_the_start_and_after_each_change_of_what_it_watches(world: World) -> None:
    world.reconciler.start()
    await world.done(1)
    assert world.reconciler.outcomes() == [Outcome(effect="light", why=None)]
    world.reconciler.changed(["chair"])
    world.reconciler.changed(["chair", "lamp"])
    await world.done(2)


async def test_a_failure_is_shown_and_tried_again_until_it_is_mended(world: World) -> None:
    world.raises = [PortFailed("light the lamp", "no oil"), PortFailed("light the lamp", "no wick")]
    world.reconciler.start()
    await until(lambda: bool(world.reconciler.outcomes()))
    assert world.why() == "light the lamp: no oil"
    await until(lambda: world.why() == "light the lamp: no wick")
    await until(lambda: world.why() is None)
    assert world.runs == 3


async def test_an_effect_that_is_as_it_should_be_is_not_run_again_without_a_change(world: World) -> None:
    world.reconciler.start()
    await world.done(1)
    await asyncio.sleep(0.06)
    assert world.runs == 1


async def test_a_change_while_it_runs_makes_it_run_once_more_and_never_twice_at_once(world: World) -> None:
    world.let_go.clear()
    world.reconciler.start()
    await until(lambda: world.at_once == 1)
    for _ in range(3):
        world.reconciler.changed(["lamp"])
    world.let_go.set()
    await world.done(2)
    assert world.most_at_once == 1


async def test_an_effect_that_hangs_is_ended_and_the_status_says_so(world: World) -> None:
    world.let_go.clear()
    world.reconciler.start()
    await until(lambda: bool(world.reconciler.outcomes()))
    assert world.why() == "did not finish within 0.1 s"
    world.let_go.set()
    await until(lambda: world.why() is None)


@pytest.mark.parametrize(
    ("error", "why"),
    [(OSError(30, "Read-only file system"), "[Errno 30] Read-only file system"), (KeyError("x"), "KeyError: 'x'")],
)
async def test_whatever_an_effect_raises_is_status_and_does_not_end_its_task(
    world: World, error: Exception, why: str
) -> None:
    world.raises = [error]
    world.reconciler.start()
    await until(lambda: bool(world.reconciler.outcomes()))
    assert world.why() == why
    await until(lambda: world.why() is None)


async def test_after_the_end_nothing_runs(world: World) -> None:
    world.let_go.clear()
    world.reconciler.start()
    await until(lambda: world.at_once == 1)
    await world.reconciler.close()
    assert world.at_once == 0
    world.reconciler.changed(["lamp"])
    await asyncio.sleep(0)
    assert world.runs == 1
