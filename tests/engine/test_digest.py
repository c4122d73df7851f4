"""Two controllers compare their states while they run."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Sequence

import msgspec
import pytest
from middlewared_plugins.failover import plugin as failover
from middlewared_plugins.network import configuration, interface, vip
from middlewared_plugins.network import plugin as network

from middlewared.engine.peer import Peer
from middlewared.engine.registry import Registry
from middlewared.kernel.digest import CHECKPOINT_EVENTS
from middlewared.protocol import replication_frames as frames
from middlewared.protocol.peer_calls import FEATURE, Answer, Ask
from middlewared.protocol.repair import Stage
from middlewared.shell.clock import SystemClock
from tests.engine.controllers import Controller, until
from tests.engine.pair import Pair


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


async def test_a_difference_is_found_within_256_events_and_repaired_from_the_log(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    await until(lambda: pair.b.replica.agreement.equal_at == 1)
    plant(pair.b)
    with caplog.at_level(logging.ERROR):
        await fill(pair.a, CHECKPOINT_EVENTS)
        await until(lambda: pair.b.replica.repair.stage is Stage.LOG_TRIED)
    assert pair.b.configuration == pair.a.configuration
    assert "event=state_differs seq=256 repaired_from=log table='network_configuration'" in caplog.text
    assert pair.b.state.differs is not None
    assert "column='nameserver2' here='\"10.9.9.9\"' there='\"\"'" in pair.b.state.differs[1]
    await fill(pair.a, CHECKPOINT_EVENTS + 5)
    await pair.equal()
    await until(lambda: pair.b.replica.repair.stage is Stage.WELL)
    assert pair.b.asked == []
    await until(lambda: pair.a.replica.agreement.differs is None)


def moody(wrong: Callable[[configuration.Updated], bool]) -> Registry:
    """A build whose fold is not the same everywhere: it makes of some events what nobody else does."""

    def evolve(state: configuration.Configuration, event: configuration.Updated) -> configuration.Configuration:
        good = configuration.evolve(state, event)
        return msgspec.structs.replace(good, nameserver3="10.8.8.8") if wrong(event) else good

    noun = dataclasses.replace(configuration.NOUN, evolve=evolve)
    return Registry((dataclasses.replace(network, nouns=(noun, interface.NOUN, vip.NOUN)), failover))


async def test_a_fold_that_is_not_deterministic_is_repaired_from_the_owners_snapshot(pair: Pair) -> None:
    bad = await pair.restart("B", moody(lambda event: event.domain == "d2.example"))
    bad.stand(1)
    pair.wire.connect()
    await fill(pair.a, CHECKPOINT_EVENTS)
    await until(lambda: bad.replica.repair.stage is Stage.SNAPSHOT_TRIED)
    assert bad.configuration.nameserver3 == ""
    assert bad.state.differs is not None
    assert "repaired from the snapshot: table='network_configuration'" in bad.state.differs[1]
    assert bad.asked[0] == "snapshot.take"
    await fill(pair.a, 2 * CHECKPOINT_EVENTS)
    await pair.equal()
    await until(lambda: bad.replica.repair.stage is Stage.WELL)
    again = await pair.restart("B", moody(lambda event: event.domain == "d2.example"))
    assert again.configuration == pair.a.configuration


async def test_a_state_that_differs_again_after_a_snapshot_is_applied_no_further(pair: Pair) -> None:
    bad = await pair.restart("B", moody(lambda event: True))
    bad.stand(1)
    pair.wire.connect()
    await fill(pair.a, CHECKPOINT_EVENTS)
    await until(lambda: bad.replica.repair.stage is Stage.SNAPSHOT_TRIED)
    await fill(pair.a, 2 * CHECKPOINT_EVENTS)
    await until(lambda: bad.state.blocked is not None)
    assert bad.state.blocked is not None
    assert "differs from the owner's again, after its snapshot" in bad.state.blocked
    head = bad.log.head().seq
    applied = bad.state.applied.seq
    assert (await pair.a.update(domain="after.example")).durability == "pair"
    assert bad.log.head().seq == head + 1
    assert bad.state.applied.seq == applied


async def test_a_snapshot_whose_bytes_changed_on_the_way_is_refused_and_asked_for_again(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    bad = await pair.restart("B", moody(lambda event: event.domain == "d2.example"))
    true = bad.peer
    flips = iter([True])

    async def flipping(method: str, params: Sequence[object]) -> object:
        answer = await true(method, params)
        if isinstance(answer, bytes) and next(flips, False):
            return answer[:-1] + bytes([answer[-1] ^ 1])
        return answer

    bad.peer = flipping
    bad.stand(1)
    pair.wire.connect()
    with caplog.at_level(logging.ERROR):
        await fill(pair.a, CHECKPOINT_EVENTS)
        await until(lambda: bad.replica.repair.stage is Stage.SNAPSHOT_TRIED)
    assert "event=snapshot_refused why='its bytes are not those that were sent'" in caplog.text
    assert bad.asked.count("snapshot.take") == 2
    await pair.equal()


async def test_a_snapshot_comes_as_questions_over_the_line_and_goes_on_after_a_break(pair: Pair) -> None:
    bad = await pair.restart("B", moody(lambda event: event.domain == "d2.example"))
    here, there = Peer(SystemClock()), Peer(SystemClock())
    there.answer_by(pair.a.snapshots.answer)
    breaks = iter([True])

    def to_there(frame: Ask | Answer) -> None:
        carry(there, frame)

    def to_here(frame: Ask | Answer) -> None:
        carry(here, frame)

    def connect() -> None:
        here.line_up(to_there, frozenset({FEATURE}))
        there.line_up(to_here, frozenset({FEATURE}))

    async def ask(method: str, params: Sequence[object]) -> object:
        if method == "snapshot.read" and next(breaks, False):
            here.line_down(to_there)
            there.line_down(to_here)
            asyncio.get_running_loop().call_later(0.1, connect)
        return await here.ask(method, *params, timeout_s=2.0)

    bad.peer = ask
    connect()
    bad.stand(1)
    pair.wire.connect()
    await fill(pair.a, CHECKPOINT_EVENTS)
    await until(lambda: bad.replica.repair.stage is Stage.SNAPSHOT_TRIED)
    assert bad.asked[:3] == ["snapshot.take", "snapshot.read", "snapshot.read"]
    assert bad.configuration == pair.a.configuration


def carry(end: Peer, frame: Ask | Answer) -> None:
    carried = frames.decode(frames.encode(frame))
    assert isinstance(carried, Ask | Answer)
    asyncio.get_running_loop().call_soon(end.got, carried)


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
