"""Fault F35: two logs that went apart, by tails of every length. The exact set is in quarantine, and no other."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest
from middlewared_plugins.network import configuration

from middlewared.kernel.errors import CallFailed
from middlewared.kernel.event import Record, Stamp, seal
from middlewared.plugin import Command
from middlewared.protocol import replication_values as values
from middlewared.store import quarantine
from middlewared.store.log import LogStore
from tests.engine.controllers import Controller, until
from tests.engine.pair import Pair

BATCH = 1000
LONG_S = 60.0


async def write(controller: Controller, count: int) -> None:
    """So many events, each of them a change, as fast as groups go."""
    for start in range(0, count, BATCH):
        numbers = range(start, min(start + BATCH, count))
        await asyncio.gather(*(controller.update(domain=f"n{number}.example") for number in numbers))


async def diverge(pair: Pair, count: int) -> list[Record]:
    """A is alone for so many events; B is forced and writes one; then they meet. Returns what only A had."""
    await pair.in_sync()
    await pair.a.update(nameserver1="10.0.0.1")
    common = pair.a.log.head()
    pair.wire.cut()
    await write(pair.a, count)
    lost = pair.a.log.since(common.seq, count + 1)
    await pair.take_over(pair.b, forced=True)
    await pair.b.opened()
    await pair.b.update(domain="forced.example")
    pair.a.stand(2)
    pair.wire.connect()
    return lost


async def reconciled(pair: Pair, count: int) -> None:
    await until(lambda: pair.a.quarantined == count, LONG_S)
    await pair.equal(LONG_S)


async def commands_of(controller: Controller, digest: str) -> list[Command]:
    """What asks for the tail again, read in pages."""
    found: list[Command] = []
    fold = None
    offset: int | None = 0
    while offset is not None:
        page = await controller.aside.page(digest, offset)
        fold = fold or await controller.aside.fold(page.records[0])
        found += [command for record in page.records if (command := fold.take(record)) is not None]
        offset = page.next
    return found


@pytest.mark.parametrize("count", [1, 1000, pytest.param(100_000, marks=pytest.mark.full)])
async def test_the_exact_tail_is_set_aside_and_counted_and_asked_for_again_it_is_all_back(
    tmp_path: Path, count: int
) -> None:
    async with Pair(tmp_path) as pair:
        lost = await diverge(pair, count)
        await reconciled(pair, count)
        assert len(lost) == count
        (tail,) = pair.a.aside.tails()
        (file,) = (pair.a.directory / "quarantine").iterdir()
        assert list(quarantine.read(file)) == lost
        assert (tail.first, tail.last, tail.n, tail.answered) == (3, count + 2, count, count)
        assert tail.digest == hashlib.sha256(file.read_bytes()).hexdigest()
        assert pair.a.log.cuts()[0].digest == tail.digest
        described = await pair.a.aside.described(tail.digest)
        assert described.kinds == {"network.configuration.updated": count}
        assert (described.actors, described.terms) == (("eva@10.0.0.5:1",), (1,))
        assert (pair.a.quarantined, pair.b.quarantined) == (count, 0)
        commands = await commands_of(pair.a, tail.digest)
        assert commands == [configuration.Update(domain=f"n{number}.example") for number in range(count)]


async def test_a_tail_whose_beginning_was_cut_away_too_cannot_be_compared(tmp_path: Path) -> None:
    async with Pair(tmp_path) as pair:
        lost = await diverge(pair, 3)
        await reconciled(pair, 3)
        (tail,) = pair.a.aside.tails()
        with pytest.raises(CallFailed, match="follows a record 4 that is not in this log"):
            await pair.a.aside.fold(lost[2])
        assert [d.now for d in (await pair.a.aside.fold(lost[0])).differences()] == []
        assert tail.n == 3


async def test_about_what_somebody_decided_nobody_is_asked_and_what_is_discarded_is_gone(tmp_path: Path) -> None:
    async with Pair(tmp_path) as pair:
        await diverge(pair, 2)
        await reconciled(pair, 2)
        aside = pair.a.aside
        (tail,) = aside.tails()
        await aside.settle(decided=frozenset({tail.digest}), discarded=frozenset())
        assert (aside.undecided, aside.tails()) == (0, [tail])
        await aside.settle(decided=frozenset({tail.digest}), discarded=frozenset({tail.digest}))
        assert aside.tails() == []
        assert list((pair.a.directory / "quarantine").iterdir()) == []
        with pytest.raises(CallFailed, match="no tail"):
            await aside.page(tail.digest, 0)
        a = await pair.restart("A")
        assert a.aside.tails() == []
        assert a.log.cuts()[0].digest == tail.digest


async def test_a_damaged_file_is_said_to_be_and_harms_nothing_else(tmp_path: Path) -> None:
    async with Pair(tmp_path) as pair:
        await diverge(pair, 2)
        await reconciled(pair, 2)
        (tail,) = pair.a.aside.tails()
        (file,) = (pair.a.directory / "quarantine").iterdir()
        file.write_bytes(file.read_bytes()[:-9])
        with pytest.raises(CallFailed, match="is not a record"):
            await pair.a.aside.described(tail.digest)
        with pytest.raises(CallFailed, match="is not a record"):
            await pair.a.aside.page(tail.digest, 0)
        assert pair.a.quarantined == 2


async def test_the_owner_writes_on_while_the_other_sets_a_long_tail_aside(tmp_path: Path) -> None:
    async with Pair(tmp_path) as pair:
        await diverge(pair, 1000)
        done = await asyncio.gather(*(pair.b.update(domain=f"b{number}.example") for number in range(50)))
        assert all(committed.seq > 0 for committed in done)
        await reconciled(pair, 1000)
        await until(lambda: pair.said_in_sync() == ("A", "B"))
        assert pair.wire.dropped == []


async def test_a_halted_controller_answers_reads_refuses_writes_and_the_other_goes_on_alone(tmp_path: Path) -> None:
    async with Pair(tmp_path) as pair:
        await pair.in_sync()
        await pair.a.update(domain="both.example")
        await pair.equal()
        why = "the two logs hold different records at seq 2; nothing was cut"
        pair.b.replicator.feed(values.Broken(why))
        await until(lambda: pair.said_in_sync() == ("A",))
        assert pair.a.replica.line.refused == why
        assert (await pair.a.update(domain="alone.example")).durability == "single"
        for _ in range(3):
            pair.wire.connect()
            await until(lambda: not pair.wire.up)
        assert pair.said_in_sync() == ("A",)
        assert pair.b.configuration.domain == "both.example"
        with pytest.raises(CallFailed, match="This controller has halted: the two logs"):
            await pair.b.update(domain="b.example")
        assert not (pair.b.directory / "quarantine").exists()


async def test_an_owner_that_halts_opens_nothing_and_says_why_to_the_other(tmp_path: Path) -> None:
    async with Pair(tmp_path) as pair:
        await pair.in_sync()
        await pair.a.update(domain="both.example")
        await pair.equal()
        pair.a.replicator.feed(values.Broken("two logs differ"))
        await until(lambda: pair.b.replica.line.refused == "two logs differ")
        with pytest.raises(CallFailed, match="has halted"):
            await pair.a.update(domain="a.example")
        await pair.take_over(pair.b)
        await pair.b.opened()
        assert (await pair.b.update(domain="on.example")).durability == "single"


def forge(directory: Path, count: int) -> None:
    """As if the last record of this log had been another one, and `count` - 1 more had followed it; all well sealed."""
    with LogStore.open(directory / "log.db") as log:
        last = log.at(log.head().seq)
        assert last is not None
        before = log.at(last.seq - 1)
        assert before is not None
        at = log.cut(before.position, directory / "forged") and before.position
        stamp = Stamp(term=last.term, origin=last.origin, actor="mallory", request_id="", wall_ns=0)
        for number in range(count):
            record = seal(configuration.Updated(domain=f"forged{number}.example"), at or before.position, stamp)
            at = log.append([record])
    for file in directory.glob("state.db*"):
        file.unlink()


@pytest.mark.parametrize("count", [1, 2])
async def test_a_standby_whose_log_contradicts_the_owners_halts_and_the_owner_goes_on(
    tmp_path: Path, count: int
) -> None:
    async with Pair(tmp_path) as pair:
        await pair.in_sync()
        await pair.a.update(domain="both.example")
        await pair.equal()
        await pair.restart("B", crash=lambda directory: forge(directory, count))
        pair.b.stand(1)
        head = pair.b.log.head()
        pair.wire.connect()
        await until(lambda: pair.b.replica.halted is not None)
        assert pair.b.log.head() == head
        assert not (pair.b.directory / "quarantine").exists()
        assert pair.a.replica.halted is None
        assert (await pair.a.update(domain="on.example")).durability == "single"
        await until(lambda: pair.a.replica.line.refused == pair.b.replica.halted)
