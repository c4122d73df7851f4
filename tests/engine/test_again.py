"""A request that comes again: whatever became of the first copy is the answer, and it is never decided twice."""

from __future__ import annotations

import asyncio
import errno
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from middlewared_plugins.network import configuration, vip

from middlewared.engine.context import Committed
from middlewared.kernel.errors import CallFailed, OutcomeUnknown, Refused
from middlewared.shell.clock import SystemClock
from tests.engine.controllers import locked, until
from tests.engine.pair import Pair, outcome

ONE = configuration.Update(domain="one.example")
TWO = configuration.Update(domain="two.example")
VIP = vip.Update(address="10.0.0.9", prefix=24, interface="lan0", vhid=7)


def same(done: Committed, seq: int, term: int) -> bool:
    """Another owner says of the level what it was told before it was one; of the rest it knows all."""
    return (done.seq, done.term, done.again) == (seq, term, True)


async def test_a_committed_request_is_answered_with_its_first_outcome_and_leaves_no_second_record(pair: Pair) -> None:
    first = await pair.a.execute(ONE, "r")
    await pair.a.execute(TWO)
    assert await pair.a.execute(ONE, "r") == Committed(first.seq, first.term, "pair", again=True)
    assert pair.a.configuration.domain == "two.example"
    assert pair.a.log.head().seq == 3


async def test_the_same_id_of_another_actor_is_another_request(pair: Pair) -> None:
    await pair.a.execute(ONE, "r")
    assert (await pair.a.execute(TWO, "r", actor="adam")).seq == 3


async def test_the_next_owner_answers_what_the_first_one_committed(pair: Pair) -> None:
    await pair.a.execute(ONE, "r")
    pair.wire.cut()
    await pair.take_over(pair.b)
    await pair.b.opened()
    assert same(await pair.b.execute(ONE, "r"), 2, 1)
    assert pair.b.kinds().count("network.configuration.updated") == 1


async def test_a_retry_after_a_restart_finds_the_outcome(pair: Pair) -> None:
    await pair.a.execute(ONE, "r")
    again = await pair.restart("A")
    await pair.take_over(again, forced=True)
    await again.opened()
    assert same(await again.execute(ONE, "r"), 2, 1)


async def test_a_retry_finds_the_outcome_when_state_db_was_deleted(pair: Pair) -> None:
    await pair.a.execute(ONE, "r")

    def delete(directory: Path) -> None:
        for file in directory.glob("state.db*"):
            file.unlink()

    again = await pair.restart("A", crash=delete)
    await pair.take_over(again, forced=True)
    await again.opened()
    assert (await again.execute(ONE, "r")).seq == 2


async def test_a_retry_finds_what_a_state_db_of_an_older_build_does_not_say(pair: Pair) -> None:
    await pair.a.execute(ONE, "r")

    def forget(directory: Path) -> None:
        with closing(sqlite3.connect(directory / "state.db")) as file:
            file.execute("DELETE FROM outcome")
            file.execute("UPDATE outcome_time SET seq = 0, log_ns = 0, wall_ns = 0")
            file.commit()

    again = await pair.restart("A", crash=forget)
    await pair.take_over(again, forced=True)
    await again.opened()
    assert (await again.execute(ONE, "r")).seq == 2
    await again.state.flush()
    once_more = await pair.restart("A")
    await once_more.state.indexed()
    assert once_more.state.requests.find(("r", "eva")) is not None


async def test_a_copy_that_comes_while_the_first_waits_to_be_decided_joins_it(pair: Pair) -> None:
    first = asyncio.create_task(pair.a.execute(ONE, "r"))
    second = asyncio.create_task(pair.a.execute(ONE, "r"))
    assert await first == Committed(2, 1, "pair")
    assert await second == Committed(2, 1, "pair", again=True)
    assert pair.a.log.head().seq == 2


async def test_a_copy_gets_the_outcome_though_the_first_caller_went_away(pair: Pair) -> None:
    first = asyncio.create_task(pair.a.execute(ONE, "r"))
    second = asyncio.create_task(pair.a.execute(ONE, "r"))
    asyncio.get_running_loop().call_soon(first.cancel)
    assert (await second).seq == 2
    assert pair.a.configuration.domain == "one.example"


async def test_a_copy_of_a_command_that_waits_for_its_commit_waits_for_the_same_record(tmp_path: Path) -> None:
    async with Pair(tmp_path, deadline_s=0.2) as pair:
        await pair.in_sync()
        pair.disk.writable = False
        pair.wire.cut()
        for _ in range(2):
            with pytest.raises(OutcomeUnknown):
                await pair.a.execute(ONE, "r")
        pair.disk.writable = True
        assert await pair.a.execute(ONE, "r") == Committed(2, 1, "single", again=True)
        assert pair.a.log.head().seq == 2


async def test_a_copy_joins_a_command_whose_callers_all_gave_up(pair: Pair) -> None:
    with locked(pair.a.directory / "log.db"):
        first = asyncio.create_task(pair.a.execute(ONE, "r"))
        await until(lambda: len(pair.a.engine.groups) == 2)
        first.cancel()
        second = asyncio.create_task(pair.a.execute(ONE, "r"))
        await asyncio.sleep(0)
    assert await second == Committed(2, 1, "pair", again=True)


async def test_a_new_owner_waits_for_what_becomes_of_a_record_that_it_found_in_its_log(pair: Pair) -> None:
    """The old owner shipped it and died; the new one has it durable, and nobody ever told it that it is committed."""
    pair.disk.writable = False
    with locked(pair.a.directory / "log.db"):
        first = asyncio.create_task(pair.a.execute(ONE, "r"))
        await until(lambda: pair.b.log.head().seq == 2)
        assert pair.b.state.applied.seq == 1
        pair.wire.cut()
        await pair.take_over(pair.b)
        await until(lambda: pair.b.log.head().seq == 3)
        second = asyncio.create_task(pair.b.execute(ONE, "r"))
        await asyncio.sleep(0.02)
        assert not second.done()
        pair.disk.writable = True
        assert await second == Committed(2, 1, "single", again=True)
    first.cancel()
    assert pair.b.kinds().count("network.configuration.updated") == 1


async def test_a_request_whose_record_went_to_quarantine_runs_at_the_next_owner(pair: Pair) -> None:
    await pair.b.engine.wait_durable(1, "pair", 5)
    pair.disk.writable = False
    pair.wire.cut()
    lost = asyncio.create_task(pair.a.execute(ONE, "r"))
    await until(lambda: pair.a.log.head().seq == 2)
    await pair.take_over(pair.b)
    pair.disk.writable = True
    await pair.b.opened()
    assert await pair.b.execute(ONE, "r") == Committed(3, 2, "single")
    pair.wire.connect()
    assert isinstance(await outcome(lost), OutcomeUnknown)
    await until(lambda: pair.said_in_sync() == ("A", "B"))
    await pair.equal()
    await pair.take_over(pair.a)
    await pair.a.opened()
    assert (await pair.a.execute(ONE, "r")).seq == 3


async def test_a_request_that_was_refused_is_decided_anew(pair: Pair) -> None:
    command = vip.Update(vhid=8)
    assert isinstance(await outcome(asyncio.create_task(pair.a.execute(command, "r"))), Refused)
    await pair.a.execute(VIP)
    assert (await pair.a.execute(command, "r")).seq == 3


async def test_one_id_for_two_things_is_refused_and_says_so(pair: Pair) -> None:
    waiting = asyncio.create_task(pair.a.execute(ONE, "r"))
    for _ in range(2):
        refused = await outcome(asyncio.create_task(pair.a.execute(VIP, "r")))
        assert isinstance(refused, CallFailed)
        assert refused.errno == errno.EEXIST
        assert refused.reason == "Request r was network.configuration's already; network.vip needs an id of its own"
        await waiting


class Jumping(SystemClock):
    """A wall clock that is set ten years on, and back."""

    ahead_ns = 0

    def wall_ns(self) -> int:
        return super().wall_ns() + self.ahead_ns


async def test_a_clock_that_is_set_wrong_for_a_while_makes_no_request_forgotten(pair: Pair) -> None:
    await pair.a.execute(ONE, "r")
    clock = Jumping()
    pair.a.engine._clock = clock
    for clock.ahead_ns in (10 * 365 * 86400 * 10**9, 0):
        await pair.a.update(domain=f"d{clock.ahead_ns % 7}.example")
    assert await pair.a.execute(ONE, "r") == Committed(2, 1, "pair", again=True)


async def test_both_controllers_remember_the_same(pair: Pair) -> None:
    for n in range(20):
        await pair.a.execute(configuration.Update(domain=f"d{n}.example"), f"r{n}")
    await pair.equal()
    a, b = pair.a.state.requests.index, pair.b.state.requests.index
    assert a is not None
    assert b is not None
    assert a.delta(0) == b.delta(0)
    await pair.a.state.flush()
    again = await pair.restart("A")
    await again.state.indexed()
    assert again.state.requests.index is not None
    assert again.state.requests.index.delta(0) == b.delta(0)
