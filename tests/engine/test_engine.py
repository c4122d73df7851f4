from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest
from middlewared_plugins.network import configuration, vip
from sqlalchemy import Column, Integer, MetaData, Table

from middlewared.engine.context import Committed
from middlewared.engine.engine import WAITING
from middlewared.engine.registry import Registry
from middlewared.kernel.errors import CallFailed, ConfigBehind, NoRole, NotActive, OutcomeUnknown, Refused
from middlewared.kernel.event import MAX_PAYLOAD, Event
from middlewared.kernel.tenure import TermBegan
from middlewared.plugin import Command, Noun, Plugin
from middlewared.protocol import replication_values as values
from middlewared.protocol.replication_owner import Phase
from tests.engine.pair import OLDER, Pair, locked, outcome, until

VIP = vip.Update(address="10.0.0.9", prefix=24, interface="lan0", vhid=7)


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """A owns and B follows, in sync."""
    async with Pair(tmp_path) as made:
        await made.in_sync()
        yield made


# Levels


async def test_a_write_answered_at_pair_is_in_both_logs_and_both_states_are_equal(pair: Pair) -> None:
    done = await pair.a.update(domain="lab.example")
    assert done == Committed(seq=2, term=1, durability="pair")
    assert pair.b.log.head() == pair.a.log.head()
    assert pair.a.configuration.domain == "lab.example"
    await pair.equal()
    assert pair.b.configuration.domain == "lab.example"


async def test_when_the_line_drops_a_write_is_single_and_only_after_the_record_says_so(pair: Pair) -> None:
    pair.disk.writable = False
    pair.wire.cut()
    work = asyncio.create_task(pair.a.update(domain="lab.example"))
    await until(lambda: pair.a.log.head().seq == 2)
    assert not work.done()
    assert pair.a.configuration.domain == "local"
    pair.disk.writable = True
    assert await outcome(work) == Committed(seq=2, term=1, durability="single")
    assert pair.said_in_sync() == ("A",)


async def test_a_peer_that_is_silent_is_left_out_of_the_record_before_the_answer(pair: Pair) -> None:
    pair.wire.held = True
    done = await pair.a.update(domain="lab.example")
    assert done.durability == "single"
    assert pair.said_in_sync() == ("A",)


async def test_a_peer_that_comes_back_gets_what_it_missed_and_writes_are_pair_again(pair: Pair) -> None:
    pair.wire.cut()
    await pair.a.update(domain="one.example")
    pair.wire.connect()
    await until(lambda: pair.said_in_sync() == ("A", "B"))
    assert (await pair.a.update(domain="two.example")).durability == "pair"
    await pair.equal()


async def test_a_controller_that_was_never_paired_answers_single(tmp_path: Path) -> None:
    async with Pair(tmp_path) as pair:
        await pair.a.own(1, alone=True)
        await pair.a.opened()
        assert await pair.a.update(domain="lab.example") == Committed(seq=2, term=1, durability="single")
        assert pair.disk.written == []


# The first record of a term


async def test_a_term_begins_with_its_own_record(pair: Pair) -> None:
    (record,) = pair.a.records()
    assert (record.term, record.origin, record.actor, record.request_id) == (1, "A", "middlewared", "")
    assert pair.a.registry.catalogue.open(record) == TermBegan(
        owner="A", reason="the test says so", prev_last_seq=0, in_sync=(), adopted=0
    )


async def test_a_successor_begins_its_term_after_all_that_was_answered(pair: Pair) -> None:
    await pair.a.update(domain="lab.example")
    await pair.b.engine.wait_durable(2, "pair", 5)
    pair.wire.cut()
    await pair.take_over(pair.b)
    await pair.b.opened()
    assert pair.b.kinds() == ["term.begin", "network.configuration.updated", "term.begin"]
    began = pair.b.registry.catalogue.open(pair.b.records()[2])
    assert began == TermBegan(
        owner="B", reason="the test says so", prev_last_seq=2, in_sync=("A", "B"), adopted=0, pair_seq=2
    )
    assert (await pair.b.update(nameserver1="10.0.0.53")).term == 2
    assert (pair.b.configuration.domain, pair.b.configuration.nameserver1) == ("lab.example", "10.0.0.53")


# Who is written down, and what


async def test_a_record_says_who_asked_from_where_and_under_which_request(pair: Pair) -> None:
    await pair.a.execute(configuration.Update(domain="lab.example"), request_id="r-17")
    record = pair.a.records()[1]
    assert (record.seq, record.term, record.origin) == (2, 1, "A")
    assert (record.actor, record.request_id) == ("eva@10.0.0.5:1", "r-17")
    assert record.payload == b'{"domain":"lab.example"}'


async def test_every_change_is_told_once_in_order_on_both_controllers(pair: Pair) -> None:
    await pair.a.update(domain="one.example")
    await pair.a.execute(VIP)
    await pair.equal()
    for controller in (pair.a, pair.b):
        told = [(change.record.seq, change.noun) for change in controller.told]
        assert told == [(1, None), (2, "network.configuration"), (3, "network.vip")]


# Decisions


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


# Where nothing may be written


async def test_a_standby_refuses_a_write_with_the_active_controllers_address(pair: Pair) -> None:
    with pytest.raises(NotActive) as error:
        await pair.b.update(domain="lab.example")
    assert error.value.extra == {"active_urls": ["http://10.0.0.9"], "node": "B"}


async def test_without_a_role_a_write_is_refused_for_the_moment(tmp_path: Path) -> None:
    async with Pair(tmp_path) as pair:
        with pytest.raises(NoRole, match="no role yet"):
            await pair.a.update(domain="lab.example")


async def test_an_owner_that_was_left_behind_writes_nothing_and_says_why(pair: Pair) -> None:
    pair.wire.cut()
    await pair.a.update(domain="lab.example")
    await pair.take_over(pair.b)
    with pytest.raises(ConfigBehind, match="known to controller A alone; the log here ends at seq 1"):
        await pair.b.update(domain="other.example")
    assert pair.b.kinds() == ["term.begin"]


async def test_a_controller_that_has_halted_writes_nothing_and_says_why(pair: Pair) -> None:
    pair.a.replicator.feed(values.Broken("two logs differ at seq 1"))
    with pytest.raises(CallFailed, match="halted: two logs differ at seq 1") as error:
        await pair.a.update(domain="lab.example")
    assert error.value.errno == errno.EIO


async def test_an_owner_whose_log_holds_what_this_build_does_not_know_writes_nothing(pair: Pair) -> None:
    await pair.restart("B", OLDER)
    pair.b.stand(1)
    pair.wire.connect()
    await pair.a.execute(VIP)
    await pair.a.update(domain="lab.example")
    await until(lambda: pair.b.log.head().seq == 3 and pair.b.state.blocked is not None)
    pair.wire.cut()
    await pair.take_over(pair.b)
    await until(lambda: pair.b.phase is Phase.OPEN)
    with pytest.raises(ConfigBehind, match=r"kind network\.vip\.updated version 1 is not known here"):
        await pair.b.update(domain="other.example")
    assert pair.b.log.head().seq == 3
    assert pair.b.configuration.domain == "local"


async def test_an_owner_cannot_decide_against_a_tail_that_it_cannot_read(pair: Pair) -> None:
    await pair.a.execute(VIP)
    for file in (pair.a.directory / "state.db").parent.glob("state.db*"):
        file.unlink()
    await pair.restart("A", OLDER)
    assert pair.a.state.applied.seq == 1
    await pair.take_over(pair.a, forced=True)
    await until(lambda: pair.a.phase is Phase.OPEN)
    with pytest.raises(ConfigBehind, match=r"kind network\.vip\.updated version 1 is not known here"):
        await pair.a.update(domain="lab.example")
    assert pair.a.kinds() == ["term.begin", "network.vip.updated"]


# Deadlines, and terms that end


async def test_a_command_that_cannot_commit_in_time_has_an_unknown_outcome_and_may_still_commit(tmp_path: Path) -> None:
    async with Pair(tmp_path, deadline_s=0.2) as pair:
        await pair.in_sync()
        pair.disk.writable = False
        pair.wire.cut()
        with pytest.raises(OutcomeUnknown) as error:
            await pair.a.execute(configuration.Update(domain="lab.example"), request_id="r-17")
        assert error.value.extra == {"request_id": "r-17"}
        pair.disk.writable = True
        await until(lambda: pair.a.configuration.domain == "lab.example")


async def test_when_the_term_ends_what_was_not_decided_is_refused_and_what_was_waits_for_its_record(pair: Pair) -> None:
    with locked(pair.a.directory / "log.db"):
        decided = asyncio.create_task(pair.a.update(domain="lab.example"))
        await until(lambda: len(pair.a.engine.groups) == 2)
        waiting = asyncio.create_task(pair.a.update(nameserver1="10.0.0.53"))
        await asyncio.sleep(0)
        pair.a.stand(2)
        refused = await outcome(waiting)
    assert isinstance(refused, NoRole)
    assert "no longer owns" in refused.reason
    await until(lambda: pair.a.log.head().seq == 2)
    assert not decided.done()
    await pair.take_over(pair.a)
    assert (await decided).seq == 2
    assert pair.a.configuration.domain == "lab.example"


async def test_a_group_is_formed_while_the_one_before_is_on_its_way_to_the_disk(pair: Pair) -> None:
    with locked(pair.a.directory / "log.db"):
        works = [asyncio.create_task(pair.a.update(domain="d0.example"))]
        await until(lambda: pair.a.engine.groups == [1, 1])
        works += [asyncio.create_task(pair.a.update(domain=f"d{n}.example")) for n in range(1, 20)]
        for _ in range(5):
            await asyncio.sleep(0)
        assert pair.a.engine.groups == [1, 1]
    assert [(await work).seq for work in works] == list(range(2, 22))
    assert pair.a.engine.groups == [1, 1, 19]


async def test_a_new_term_decides_against_what_is_in_the_log_and_not_what_an_old_term_had_ahead(pair: Pair) -> None:
    await pair.a.execute(VIP)
    pair.disk.writable = False
    pair.wire.cut()
    lost = asyncio.create_task(pair.a.execute(vip.Delete()))
    await until(lambda: pair.a.log.head().seq == 3)
    await pair.take_over(pair.b)
    pair.disk.writable = True
    pair.wire.connect()
    assert isinstance(await outcome(lost), OutcomeUnknown)
    await until(lambda: pair.said_in_sync() == ("A", "B"))
    await pair.equal()
    assert pair.a.quarantined == 1
    assert pair.a.engine.state(vip.NOUN).vip is not None
    await pair.take_over(pair.a)
    await pair.a.opened()
    await pair.a.execute(vip.Delete())
    assert pair.a.kinds()[-2:] == ["term.begin", "network.vip.deleted"]
