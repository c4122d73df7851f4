from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from middlewared.engine.tenure import SURE_S, Tenure
from middlewared.kernel.facts import PairRecord
from middlewared.protocol import replication_values as values
from middlewared.protocol.replication_owner import Owner, Phase
from middlewared.shell.clock import SystemClock
from tests.engine.controllers import until
from tests.engine.pair import Pair
from tests.engine.standing import standing


class World:
    """Controller A with a log that is not empty, and what it asked of fenced."""

    def __init__(self, pair: Pair, single_term: int | None = None) -> None:
        self.a = pair.a
        self.replica = pair.a.replica
        self.begun = 0
        self.tenure = Tenure(single_term, self.begin, lambda: ("http://10.0.0.9",), SystemClock())
        self.tenure.attach(pair.a.replicator)

    def begin(self) -> None:
        self.begun += 1

    def owns(self, term: int) -> bool:
        return isinstance(self.replica.side, Owner) and self.replica.term == term

    async def settled(self) -> None:
        """Until all that was asked of the log's threads is answered."""
        for _ in range(3):
            await asyncio.sleep(0)
            await self.a.replicator.hash_at(1)


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """A has owned term 1 alone, and started again."""
    async with Pair(tmp_path) as made:
        await made.alone()
        await made.restart("A")
        yield made


def record_of(pair: Pair) -> PairRecord:
    head = pair.a.log.head()
    return PairRecord(term=1, owner="A", in_sync=("A",), committed_seq=head.seq, committed_hash=head.hash)


async def test_a_process_that_starts_as_owner_asks_for_a_new_term_and_writes_in_no_older_one(pair: Pair) -> None:
    world = World(pair)
    world.tenure.heard(standing("OWNER", 3, record_of(pair)))
    world.tenure.heard(standing("OWNER", 3, record_of(pair)))
    await world.settled()
    assert world.begun == 1
    assert not isinstance(world.replica.side, Owner)
    world.tenure.heard(standing("OWNER", 4, record_of(pair)))
    await until(lambda: world.owns(4))
    assert world.begun == 1


async def test_a_standby_that_gains_a_term_owns_it_without_asking_for_another(pair: Pair) -> None:
    world = World(pair)
    world.tenure.heard(standing("STANDBY", 1))
    assert world.tenure.is_standby()
    world.tenure.heard(standing("OWNER", 2, record_of(pair)))
    await until(lambda: world.owns(2))
    assert world.begun == 0


async def test_a_term_that_is_not_above_the_logs_is_never_owned(pair: Pair) -> None:
    world = World(pair)
    world.tenure.heard(standing("STANDBY", 0))
    world.tenure.heard(standing("OWNER", 1, record_of(pair)))
    await world.settled()
    assert not world.owns(1)


async def test_a_log_that_does_not_hold_the_record_on_the_disks_opens_nothing(pair: Pair) -> None:
    world = World(pair)
    ahead = PairRecord(term=1, owner="B", in_sync=("A", "B"), committed_seq=9, committed_hash=b"x" * 32)
    world.tenure.heard(standing("STANDBY", 1))
    world.tenure.heard(standing("OWNER", 2, ahead))
    await until(lambda: world.owns(2))
    assert world.a.phase is Phase.BEHIND


async def test_an_operator_who_forces_opens_it_in_the_next_term_and_only_in_that_one(pair: Pair) -> None:
    world = World(pair)
    ahead = PairRecord(term=1, owner="B", in_sync=("B",), committed_seq=9, committed_hash=b"x" * 32)
    world.tenure.heard(standing("STANDBY", 1))
    world.tenure.force_next()
    assert world.begun == 0
    world.tenure.heard(standing("OWNER", 2, ahead))
    await until(lambda: world.owns(2) and world.a.phase is Phase.OPEN)
    world.tenure.heard(standing("STANDBY", 2))
    world.tenure.heard(standing("OWNER", 3, ahead))
    await until(lambda: world.owns(3))
    assert world.a.phase is Phase.BEHIND


async def test_an_owner_that_is_forced_asks_for_a_new_term(pair: Pair) -> None:
    world = World(pair)
    ahead = PairRecord(term=1, owner="B", in_sync=("B",), committed_seq=9, committed_hash=b"x" * 32)
    world.tenure.heard(standing("STANDBY", 1))
    world.tenure.heard(standing("OWNER", 2, ahead))
    await until(lambda: world.owns(2))
    world.tenure.force_next()
    assert world.begun == 1
    world.tenure.heard(standing("OWNER", 2, ahead))
    assert world.a.phase is Phase.BEHIND
    world.tenure.heard(standing("OWNER", 3, ahead))
    await until(lambda: world.owns(3) and world.a.phase is Phase.OPEN)


async def test_a_term_that_was_lost_while_the_log_was_looked_up_is_not_begun(pair: Pair) -> None:
    world = World(pair)
    world.tenure.heard(standing("STANDBY", 1))
    world.tenure.heard(standing("OWNER", 2, record_of(pair)))
    world.tenure.heard(standing("STANDBY", 3))
    await world.settled()
    assert not isinstance(world.replica.side, Owner)
    assert world.replica.term == 3


async def test_a_term_that_is_followed_at_once_by_a_higher_one_is_not_begun(pair: Pair) -> None:
    world = World(pair)
    world.tenure.heard(standing("STANDBY", 1))
    world.tenure.heard(standing("OWNER", 2, record_of(pair)))
    world.tenure.heard(standing("OWNER", 3, record_of(pair)))
    await until(lambda: world.owns(3) and pair.a.log.head().term == 3)
    assert [record.term for record in pair.a.records()] == [1, 3]


async def test_a_controller_that_was_never_paired_stands_alone_in_its_own_term_only(pair: Pair) -> None:
    world = World(pair, single_term=2)
    world.tenure.heard(standing("SINGLE", 1))
    await world.settled()
    assert not isinstance(world.replica.side, Owner)
    world.tenure.heard(standing("SINGLE", 2))
    await until(lambda: world.owns(2) and world.a.phase is Phase.OPEN)
    assert (await world.a.update(domain="lab.example")).durability == "single"


async def test_one_of_a_pair_never_stands_alone_whatever_fenced_still_says(pair: Pair) -> None:
    world = World(pair, single_term=None)
    world.tenure.heard(standing("SINGLE", 2))
    await world.settled()
    assert not isinstance(world.replica.side, Owner)


async def test_a_fenced_that_is_silent_or_looks_around_ends_nothing_for_a_second_and_then_all(pair: Pair) -> None:
    world = World(pair)
    world.tenure.heard(standing("STANDBY", 1))
    world.tenure.heard(standing("OWNER", 2, record_of(pair)))
    await until(lambda: world.owns(2))
    world.tenure.lost()
    world.tenure.heard(standing("WAITING", 2))
    world.tenure.heard(standing("OWNER", 2, record_of(pair)))
    world.tenure.lost()
    assert world.owns(2)
    lost_at = asyncio.get_running_loop().time()
    await until(lambda: not isinstance(world.replica.side, Owner))
    assert 0.9 < asyncio.get_running_loop().time() - lost_at < 2.0


async def test_who_asks_for_the_reason_gets_the_sentence_of_fenced_s_rule(pair: Pair) -> None:
    world = World(pair)
    assert (world.tenure.why(), world.tenure.role) == ("fenced has not been heard yet", "WAITING")
    world.tenure.heard(standing("STANDBY", 1, why="the peer owns"))
    assert (world.tenure.why(), world.tenure.role) == ("the peer owns", "STANDBY")
    assert world.tenure.active_urls() == ("http://10.0.0.9",)


async def test_an_owner_that_was_outranked_by_a_claim_which_came_to_nothing_asks_for_a_term_above_it(
    pair: Pair,
) -> None:
    world = World(pair)
    world.tenure.heard(standing("STANDBY", 2))
    world.tenure.heard(standing("OWNER", 3, record_of(pair)))
    await until(lambda: world.owns(3))
    pair.a.replicator.feed(values.Standing(4))
    world.tenure.heard(standing("OWNER", 3, record_of(pair)))
    assert world.begun == 1
    world.tenure.heard(standing("OWNER", 5, record_of(pair)))
    await until(lambda: world.owns(5))


async def test_an_owner_is_sure_for_as_long_as_fenced_said_so_lately(pair: Pair) -> None:
    world = World(pair)
    now = SystemClock().boottime()
    world.tenure.heard(standing("OWNER", 3, record_of(pair), said_at=now))
    assert world.tenure.is_sure()
    world.tenure.heard(standing("OWNER", 3, record_of(pair), said_at=now - 2 * SURE_S))
    assert not world.tenure.is_sure()
    world.tenure.heard(standing("STANDBY", 4, said_at=now))
    assert not world.tenure.is_sure()
