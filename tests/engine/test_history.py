from __future__ import annotations

import asyncio
import errno

import pytest
from middlewared_plugins.network import configuration, vip

from middlewared.engine import history
from middlewared.engine.history import RECENT
from middlewared.kernel.errors import CallFailed
from middlewared.kernel.event import Record
from tests.engine.controllers import Controller
from tests.engine.pair import Pair

VIP = vip.Update(address="10.0.0.9", prefix=24, interface="lan0", vhid=7)


async def domain_at(controller: Controller, seq: int) -> str:
    return (await controller.state.history.state_at(configuration.NOUN, seq)).domain


async def test_the_state_at_a_seq_is_the_state_after_that_record(pair: Pair) -> None:
    await pair.a.update(domain="two.example")
    await pair.a.execute(VIP)
    await pair.a.update(domain="four.example")
    assert [await domain_at(pair.a, seq) for seq in range(5)] == [
        "local",
        "local",
        "two.example",
        "two.example",
        "four.example",
    ]
    assert (await pair.a.state.history.state_at(vip.NOUN, 2)).vip is None
    assert (await pair.a.state.history.state_at(vip.NOUN, 3)).vip is not None


async def test_a_seq_that_is_not_applied_has_no_state(pair: Pair) -> None:
    for seq in (-1, 2):
        with pytest.raises(CallFailed, match=f"no state at seq {seq}: this controller has applied 1") as error:
            await domain_at(pair.a, seq)
        assert error.value.errno == errno.ENOENT


async def test_what_memory_does_not_reach_is_folded_from_the_log(pair: Pair) -> None:
    for n in range(2, 2 * RECENT):
        await pair.a.update(domain=f"d{n}.example")
    assert await domain_at(pair.a, 5) == "d5.example"
    again = await pair.restart("A")
    for seq in (7, 5, 2 * RECENT - 1, 6):
        assert await domain_at(again, seq) == f"d{seq}.example"


async def test_a_walk_goes_on_from_the_checkpoint_of_an_earlier_one(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "BATCH", 4)
    monkeypatch.setattr(history, "STRIDE", 8)
    for n in range(2, 40):
        await pair.a.update(domain=f"d{n}.example")
    again = await pair.restart("A")
    assert await domain_at(again, 37) == "d37.example"
    read: list[int] = []
    of_kinds = again.log.of_kinds

    def noted(kinds: list[str], seq: int, upto: int, limit: int) -> list[Record]:
        read.append(seq)
        return of_kinds(kinds, seq, upto, limit)

    monkeypatch.setattr(again.log, "of_kinds", noted)
    assert await domain_at(again, 30) == "d30.example"
    assert read[0] >= 22


async def test_a_walk_that_takes_too_long_is_given_up_and_the_next_one_goes_on(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    await pair.a.update(domain="two.example")
    again = await pair.restart("A")
    with pytest.raises(CallFailed) as error:
        await again.state.history.state_at(configuration.NOUN, 1, timeout_s=0)
    assert error.value.errno == errno.ETIMEDOUT
    assert await domain_at(again, 1) == "local"


async def test_checkpoints_are_bounded(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "BATCH", 1)
    monkeypatch.setattr(history, "STRIDE", 1)
    monkeypatch.setattr(history, "CHECKPOINTS", 4)
    for n in range(2, 30):
        await pair.a.update(domain=f"d{n}.example")
    again = await pair.restart("A")
    assert await domain_at(again, 28) == "d28.example"
    kept = again.state.history._checkpoints[configuration.NOUN.name]
    assert len(kept) <= 4
    assert kept[0][0] == 0


async def test_after_a_cut_of_applied_records_the_past_is_that_of_the_new_log(pair: Pair) -> None:
    pair.wire.cut()
    await pair.a.update(domain="mine.example")
    assert await domain_at(pair.a, 2) == "mine.example"
    await pair.take_over(pair.b, forced=True)
    await pair.b.opened()
    await pair.b.update(domain="theirs.example")
    pair.a.stand(pair.b.replica.term)
    pair.wire.connect()
    await pair.equal()
    assert pair.a.quarantined == 1
    await asyncio.sleep(0)
    assert [await domain_at(pair.a, seq) for seq in (1, 2, 3)] == ["local", "local", "theirs.example"]
