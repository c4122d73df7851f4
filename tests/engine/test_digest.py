"""Two controllers compare their states while they run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from middlewared_plugins.network import configuration, vip

from middlewared.kernel.digest import CHECKPOINT_EVENTS
from middlewared.shell.clock import SystemClock
from tests.engine.pair import Controller, Pair, until


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async with Pair(tmp_path) as made:
        await made.in_sync()
        yield made


async def fill(owner: Controller, upto: int) -> None:
    """Write until the log ends at `upto`."""
    while owner.log.head().seq < upto:
        await owner.update(domain=f"d{owner.log.head().seq}.example")


def plant(controller: Controller) -> None:
    """A bit of memory flips: the state holds what the log does not say."""
    good = controller.configuration
    controller.state.states[configuration.NOUN.name] = msgspec.structs.replace(good, nameserver2="10.9.9.9")


async def test_a_pair_that_follows_knows_soon_that_its_states_are_one(pair: Pair) -> None:
    await pair.a.execute(vip.Update(address="10.0.0.9", prefix=24, interface="lan0", vhid=7))
    await until(lambda: pair.a.replica.agreement.equal_at == 2 == pair.b.replica.agreement.equal_at)


async def test_both_compare_at_every_multiple_without_being_asked(pair: Pair) -> None:
    await fill(pair.a, 2 * CHECKPOINT_EVENTS + 3)
    at = 2 * CHECKPOINT_EVENTS
    await until(lambda: pair.a.replica.agreement.equal_at >= at and pair.b.replica.agreement.equal_at >= at)


async def test_a_difference_is_found_within_256_events(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    await until(lambda: pair.b.replica.agreement.equal_at == 1)
    plant(pair.b)
    with caplog.at_level(logging.ERROR):
        await fill(pair.a, CHECKPOINT_EVENTS)
        await until(lambda: "event=state_differs seq=256" in caplog.text)
    await until(lambda: pair.a.replica.agreement.differs is not None)


async def test_builds_of_different_shapes_are_not_compared(pair: Pair) -> None:
    pair.b.replica.agreement.shape = "another"
    plant(pair.b)
    await fill(pair.a, CHECKPOINT_EVENTS + 2)
    await pair.b.state.flush()
    assert (pair.b.replica.agreement.equal_at, pair.b.replica.agreement.differs) == (0, None)


async def test_how_far_the_standby_is_behind_is_told_on_both(pair: Pair) -> None:
    await until(lambda: pair.a.replica.side.behind(now()) == (0, 0.0) == pair.b.replica.side.behind(now()))
    pair.wire.held = True
    write = asyncio.create_task(pair.a.update(domain="lab.example"))
    await until(lambda: pair.a.replica.side.behind(now())[1] > 0.03)
    assert pair.a.replica.side.behind(now())[0] == 1
    pair.wire.release()
    await write
    await until(lambda: pair.a.replica.side.behind(now()) == (0, 0.0))
    pair.wire.cut()
    await until(lambda: pair.b.replica.side.behind(now())[1] > 0.03)


def now() -> float:
    return SystemClock().boottime()
