from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest

from middlewared.kernel.errors import CallFailed
from middlewared.protocol import replication_values as values
from tests.engine.controllers import Controller, until
from tests.engine.pair import Pair


async def failure(controller: Controller, seq: int, level: str, timeout_s: float = 0.0) -> CallFailed:
    with pytest.raises(CallFailed) as error:
        await controller.engine.wait_durable(seq, level, timeout_s)
    return error.value


async def test_a_write_answered_at_pair_is_durable_on_both(pair: Pair) -> None:
    done = await pair.a.update(domain="lab.example")
    assert await pair.a.engine.wait_durable(done.seq, "pair", 0) == (1, "pair")
    assert await pair.a.engine.wait_durable(1, "single", 0) == (1, "pair")


async def test_a_write_answered_single_is_durable_on_both_once_the_peer_has_it_and_is_in_sync(pair: Pair) -> None:
    pair.wire.cut()
    done = await pair.a.update(domain="lab.example")
    assert await pair.a.engine.wait_durable(done.seq, "single", 0) == (1, "single")
    waiting = asyncio.create_task(pair.a.engine.wait_durable(done.seq, "pair", 5))
    there = asyncio.create_task(pair.b.engine.wait_durable(done.seq, "pair", 5))
    await asyncio.sleep(0.02)
    assert not waiting.done()
    pair.wire.connect()
    assert await waiting == (1, "pair")
    assert pair.said_in_sync() == ("A", "B")
    assert await there == (1, "pair")


async def test_what_is_waited_for_in_vain_says_where_things_stand(pair: Pair) -> None:
    await pair.b.engine.wait_durable(1, "pair", 5)
    pair.wire.cut()
    await pair.a.update(domain="lab.example")
    error = await failure(pair.a, 2, "pair", 0.02)
    assert (error.errno, error.extra) == (errno.ETIMEDOUT, {"last_seq": 2, "commit_seq": 2, "pair_seq": 1})
    assert error.reason == "Record 2 is not durable on both: controller B does not follow at the moment"
    error = await failure(pair.b, 2, "single")
    assert error.reason == (
        "Record 2 is not known to be durable at level single: this controller is not active; it holds 1 records "
        "and was told of 1 committed, 1 of them on both"
    )


async def test_a_record_that_is_not_there_is_said_at_once(pair: Pair) -> None:
    error = await failure(pair.a, 9, "single", 5)
    assert (error.errno, error.reason) == (errno.ENOENT, "There is no record 9: the log ends at 1")


async def test_where_there_is_no_other_controller_nothing_is_durable_on_both(tmp_path: Path) -> None:
    async with Pair(tmp_path) as pair:
        await pair.a.own(1, alone=True)
        await pair.a.opened()
        assert (await failure(pair.a, 1, "pair", 5)).errno == errno.EOPNOTSUPP
        assert await pair.a.engine.wait_durable(1, "single", 0) == (1, "single")


async def test_a_controller_that_halts_says_so_to_who_waits(pair: Pair) -> None:
    pair.disk.writable = False
    pair.wire.cut()
    work = asyncio.create_task(pair.a.update(domain="lab.example"))
    await until(lambda: pair.a.log.head().seq == 2)
    waiting = asyncio.create_task(pair.a.engine.wait_durable(2, "single", 5))
    await asyncio.sleep(0)
    pair.a.replicator.feed(values.Broken("two logs differ at seq 1"))
    with pytest.raises(CallFailed, match="halted: two logs differ"):
        await waiting
    work.cancel()
