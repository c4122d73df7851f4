from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest
from middlewared_plugins.network import configuration, vip

from middlewared.engine.context import Committed
from middlewared.kernel.errors import CallFailed, ConfigBehind, NoRole, NotActive, OutcomeUnknown
from middlewared.kernel.tenure import TermBegan
from middlewared.protocol import replication_values as values
from middlewared.protocol.replication_owner import Phase
from tests.engine.controllers import OLDER, locked, until
from tests.engine.pair import Pair, outcome

VIP = vip.Update(address="10.0.0.9", prefix=24, interface="lan0", vhid=7)


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
