"""What a command is decided against, when the decision is answered, and what a wrong one harms."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest
from middlewared_plugins.network import configuration, vip
from sqlalchemy import Column, Integer, MetaData, Table

from middlewared.engine.context import Committed
from middlewared.engine.engine import WAITING
from middlewared.engine.registry import Registry
from middlewared.kernel.errors import CallFailed, NoRole, OutcomeUnknown, Refused
from middlewared.kernel.event import MAX_PAYLOAD, Event
from middlewared.plugin import Command, Noun, Plugin
from tests.engine.controllers import until
from tests.engine.pair import Pair, outcome

VIP = vip.Update(address="10.0.0.9", prefix=24, interface="lan0", vhid=7)


async def test_a_command_is_decided_against_what_waits_before_it(pair: Pair) -> None:
    first = asyncio.create_task(pair.a.execute(VIP))
    second = asyncio.create_task(pair.a.execute(vip.Update(vhid=8)))
    third = asyncio.create_task(pair.a.execute(vip.Delete()))
    fourth = asyncio.create_task(pair.a.execute(vip.Delete()))
    done = [await work for work in (first, second, third, fourth)]
    assert [committed.seq for committed in done] == [2, 3, 4, 4]
    assert pair.a.kinds()[1:] == ["network.vip.updated", "network.vip.updated", "network.vip.deleted"]


async def test_a_refusal_says_every_fault_and_harms_nobody_in_its_group(pair: Pair) -> None:
    good = asyncio.create_task(pair.a.update(domain="lab.example"))
    bad = asyncio.create_task(pair.a.update(hostname="a b", domain="."))
    after = asyncio.create_task(pair.a.update(nameserver1="10.0.0.53"))
    refused = await outcome(bad)
    assert isinstance(refused, Refused)
    assert [field for field, _, _ in refused.problems] == ["hostname", "domain"]
    assert ((await good).seq, (await after).seq) == (2, 3)


async def test_a_command_that_changes_nothing_is_answered_and_makes_no_record(pair: Pair) -> None:
    await pair.a.update(domain="lab.example")
    assert await pair.a.update(domain="lab.example") == Committed(seq=2, term=1, durability="pair", events=0)
    assert pair.a.log.head().seq == 2


async def test_a_command_that_changes_nothing_is_not_answered_before_what_it_was_decided_against(pair: Pair) -> None:
    pair.disk.writable = False
    pair.wire.held = True
    first = asyncio.create_task(pair.a.update(domain="lab.example"))
    await until(lambda: pair.a.log.head().seq == 2)
    same = asyncio.create_task(pair.a.update(domain="lab.example"))
    await asyncio.sleep(0)
    assert not same.done()
    pair.disk.writable = True
    assert await first == Committed(2, 1, "single")
    assert await same == Committed(2, 1, "single", events=0)


async def test_a_refusal_is_not_answered_before_what_it_was_decided_against(pair: Pair) -> None:
    pair.disk.writable = False
    pair.wire.held = True
    first = asyncio.create_task(pair.a.execute(VIP, "first"))
    await until(lambda: pair.a.log.head().seq == 2)
    bad = asyncio.create_task(pair.a.execute(configuration.Update(hostname="a b"), "bad"))
    await asyncio.sleep(0)
    assert not bad.done()
    pair.disk.writable = True
    await first
    assert isinstance(await outcome(bad), Refused)


async def test_an_owner_that_was_frozen_refuses_nothing_before_it_heard_that_it_still_owns(pair: Pair) -> None:
    pair.a.role.sure = False
    unsure = await outcome(asyncio.create_task(pair.a.execute(configuration.Update(hostname="a b"), "bad")))
    assert isinstance(unsure, NoRole)
    pair.a.role.sure = True
    refused = await outcome(asyncio.create_task(pair.a.execute(configuration.Update(hostname="a b"), "bad")))
    assert isinstance(refused, Refused)


async def test_a_refusal_that_rests_on_what_was_cut_is_no_answer(pair: Pair) -> None:
    pair.disk.writable = False
    pair.wire.held = True
    first = asyncio.create_task(pair.a.execute(VIP, "first"))
    await until(lambda: pair.a.log.head().seq == 2)
    bad = asyncio.create_task(pair.a.execute(configuration.Update(hostname="a b"), "bad"))
    await asyncio.sleep(0)
    pair.wire.cut()
    pair.disk.writable = True
    await pair.take_over(pair.b)
    await pair.b.opened()
    pair.a.stand(2)
    pair.wire.held = False
    pair.wire.connect()
    assert isinstance(await outcome(first), OutcomeUnknown)
    assert isinstance(await outcome(bad), OutcomeUnknown)


async def test_an_event_that_no_frame_could_carry_is_refused_and_leaves_no_trace(pair: Pair) -> None:
    lines = tuple(f"10.0.0.1 {'x' * 1000}" for _ in range(MAX_PAYLOAD // 1000))
    refused = await outcome(asyncio.create_task(pair.a.update(hosts=lines)))
    assert isinstance(refused, Refused)
    assert refused.problems[0][2] == errno.E2BIG
    assert await pair.a.update(domain="lab.example") == Committed(2, 1, "pair")
    assert pair.a.configuration.hosts == ()


async def test_many_waiting_commands_become_few_groups(pair: Pair) -> None:
    before = len(pair.a.engine.groups)
    works = [asyncio.create_task(pair.a.update(domain=f"d{n}.example")) for n in range(700)]
    done = [await work for work in works]
    assert [committed.seq for committed in done] == list(range(2, 702))
    assert {committed.durability for committed in done} == {"pair"}
    groups = pair.a.engine.groups[before:]
    assert sum(groups) == 700
    assert len(groups) <= 4
    assert max(groups) == 512
    await pair.equal()


async def test_more_waiting_commands_than_there_is_room_for_are_refused_at_once(pair: Pair) -> None:
    works = [asyncio.create_task(pair.a.update(domain="lab.example")) for _ in range(WAITING + 1)]
    refused = await outcome(works[-1])
    assert isinstance(refused, CallFailed)
    assert refused.errno == errno.EBUSY
    assert {(await work).seq for work in works[:-1]} == {2}


async def test_a_caller_that_went_away_before_its_group_was_formed_changes_nothing(pair: Pair) -> None:
    gone = asyncio.create_task(pair.a.update(domain="gone.example"))
    stays = asyncio.create_task(pair.a.update(nameserver1="10.0.0.53"))
    asyncio.get_running_loop().call_soon(gone.cancel)
    assert (await stays).seq == 2
    await asyncio.wait([gone], timeout=5)
    assert gone.cancelled()
    assert pair.a.configuration.domain == "local"


# A decision that breaks


class Count(msgspec.Struct, frozen=True):
    n: int = 0


class Divide(Command, frozen=True, kw_only=True):
    noun: ClassVar[str] = "count"
    by: int


class Divided(Event, frozen=True, kw_only=True):
    kind: ClassVar[str] = "count.divided"
    by: int


def decide(_: Count, command: Divide) -> Sequence[Event]:
    return [Divided(by=60 // command.by)]


BREAKING: Noun[Count] = Noun(
    name="count",
    initial=Count(),
    events=(Divided,),
    decide=decide,
    evolve=lambda state, event: Count(state.n + event.by),
    table=Table("count", MetaData(), Column("n", Integer, primary_key=True)),
    project=lambda state: [{"n": state.n}],
    restore=lambda rows: Count(int(str(rows[0]["n"])) if rows else 0),
)


async def test_a_decision_that_breaks_fails_its_own_call_and_no_other(tmp_path: Path) -> None:
    registry = Registry((Plugin(name="count", nouns=(BREAKING,)),))
    async with Pair(tmp_path, registry=registry) as pair:
        await pair.alone()
        broken = asyncio.create_task(pair.a.execute(Divide(by=0)))
        right = asyncio.create_task(pair.a.execute(Divide(by=2)))
        assert (await right).seq == 2
        with pytest.raises(ZeroDivisionError):
            await broken
        assert pair.a.engine.state(BREAKING) == Count(30)
