from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from middlewared_plugins.network import vip

from middlewared.engine import replicate
from middlewared.engine.context import Committed
from middlewared.kernel.tenure import TermBegan
from middlewared.protocol import replication_frames as frames
from middlewared.protocol import replication_values as values
from middlewared.store import quarantine
from middlewared.store.schema import NO_DELETE, NO_UPDATE
from tests.engine.controllers import until
from tests.engine.pair import Pair


def change(path: Path, *statements: str) -> None:
    """What a fault would do to the file, past the product."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        for statement in statements:
            database.execute(statement)


class Dead:
    """A line on which nothing arrives."""

    def __init__(self) -> None:
        self.sent: list[frames.Frame] = []
        self.dropped: list[str] = []

    def send(self, frame: frames.Frame) -> None:
        self.sent.append(frame)

    def drop(self, why: str) -> None:
        self.dropped.append(why)


# Divergence


async def test_what_only_one_log_holds_lies_in_quarantine_as_it_was_and_the_state_is_folded_without_it(
    pair: Pair,
) -> None:
    await pair.a.update(domain="both.example")
    pair.wire.cut()
    assert await pair.a.update(domain="alone.example") == Committed(3, 1, "single")
    lost = pair.a.records()[2]
    await pair.take_over(pair.b, forced=True)
    await pair.b.update(nameserver1="10.0.0.53")
    pair.a.stand(2)
    pair.wire.connect()
    await pair.equal()
    assert pair.a.quarantined == 1
    (file,) = (pair.a.directory / "quarantine").iterdir()
    assert list(quarantine.read(file)) == [lost]
    assert pair.a.configuration.domain == "both.example"
    assert pair.a.configuration.nameserver1 == "10.0.0.53"


async def test_a_tail_that_was_answered_at_pair_is_never_cut(pair: Pair) -> None:
    await pair.a.update(domain="lab.example")
    head = pair.a.log.head()
    await until(lambda: pair.b.state.pair_seq == 2)
    pair.b.replicator.feed(values.Got(frames.Lead(2)))
    pair.b.replicator.feed(values.Got(frames.Match(2, pair.a.records()[0].position)))
    assert pair.b.replica.halted is not None
    assert "answered at level pair" in pair.b.replica.halted
    assert pair.b.log.head() == head
    assert not (pair.b.directory / "quarantine").exists()


async def test_an_owner_that_comes_back_adopts_what_only_its_peer_still_holds(pair: Pair) -> None:
    await pair.a.update(domain="lab.example")
    await pair.equal()
    head = pair.b.log.head()
    pair.disk.writable = False
    await pair.restart("A", crash=lambda directory: forget(directory, 2))
    pair.disk.writable = True
    pair.b.stand(1)
    pair.wire.connect()
    await pair.take_over(pair.a)
    await pair.a.opened()
    assert pair.a.records()[1].position == head
    began = pair.a.registry.catalogue.open(pair.a.records()[2])
    assert isinstance(began, TermBegan)
    assert (began.prev_last_seq, began.adopted) == (2, 1)
    await pair.equal()
    assert pair.a.configuration.domain == "lab.example"


def forget(directory: Path, seq: int) -> None:
    """As if the records from `seq` on had never reached this disk."""
    change(directory / "log.db", "DROP TRIGGER event_no_delete", f"DELETE FROM event WHERE seq >= {seq}", NO_DELETE)
    for file in directory.glob("state.db*"):
        file.unlink()


# A store that fails


async def test_a_log_that_cannot_be_written_ends_the_process_and_answers_nobody(pair: Pair) -> None:
    trigger = "CREATE TRIGGER full BEFORE INSERT ON event BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
    change(pair.a.directory / "log.db", trigger)
    work = asyncio.create_task(pair.a.update(domain="lab.example"))
    await until(lambda: bool(pair.a.fatal))
    assert pair.a.fatal[0].startswith("the log cannot be written: ")
    assert "the disk is full" in pair.a.fatal[0]
    pair.a.stand(2)
    assert not work.done()
    work.cancel()


@pytest.mark.parametrize("column", ["payload", "hash"])
async def test_a_record_that_is_damaged_never_goes_to_the_peer_and_costs_the_line_only(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, column: str
) -> None:
    monkeypatch.setattr(replicate, "DAMAGED_PAUSE_S", 0.05)
    pair.wire.cut()
    for domain in ("one.example", "two.example"):
        await pair.a.update(domain=domain)
    path = pair.a.directory / "log.db"
    whole = pair.a.records()
    flipped = (
        f"UPDATE event SET {column} = CAST(replace({column}, substr({column}, 5, 1), x'07') AS BLOB) WHERE seq = 2"
    )
    change(path, "DROP TRIGGER event_no_update", flipped, NO_UPDATE)
    pair.wire.connect()
    why = f"{path}: seq 2: its bytes do not give its hash"
    await until(lambda: why in pair.wire.dropped)
    assert str(pair.a.replicator.damage) == why
    assert pair.b.replica.halted is None
    assert pair.b.records() == whole[:1]
    assert (await pair.a.update(domain="three.example")).durability == "single"
    pair.wire.connect()
    await until(lambda: pair.wire.dropped.count(why) == 2)
    assert pair.a.fatal == []
    value = getattr(whole[1], column).hex()
    change(path, "DROP TRIGGER event_no_update", f"UPDATE event SET {column} = x'{value}' WHERE seq = 2", NO_UPDATE)
    pair.wire.connect()
    await pair.equal()
    assert pair.a.replicator.damage is None


async def test_a_tail_that_cannot_be_set_aside_is_not_cut_and_the_process_begins_anew(pair: Pair) -> None:
    pair.wire.cut()
    await pair.a.update(domain="alone.example")
    (pair.a.directory / "quarantine").write_text("in the way")
    await pair.take_over(pair.b, forced=True)
    await pair.b.opened()
    pair.a.stand(2)
    pair.wire.connect()
    await until(lambda: pair.a.fatal != [])
    assert "set records aside" in pair.a.fatal[0]
    assert pair.a.log.head().seq == 2
    assert pair.a.replica.halted is None, "a disk that fails is not a broken invariant"


# The line


async def test_a_new_line_replaces_the_old_one_whose_end_then_says_nothing(pair: Pair) -> None:
    pair.wire.cut()
    await until(lambda: pair.a.replicator.line is None)
    first, second = Dead(), Dead()
    pair.a.replicator.link_up(first)
    pair.a.replicator.link_up(second)
    pair.a.replicator.link_down(first)
    assert pair.a.replicator.line is second
    assert pair.a.replica.line.up
    assert [type(frame) for frame in second.sent] == [frames.Hello]
    pair.a.replicator.link_down(second)
    assert not pair.a.replica.line.up


async def test_a_peer_of_another_cluster_is_told_why_before_the_line_is_closed(pair: Pair) -> None:
    pair.wire.cut()
    await until(lambda: pair.a.replicator.line is None)
    line = Dead()
    pair.a.replicator.link_up(line)
    stranger = frames.Identity(cluster_id="other", node="B", catalogue="x")
    pair.a.replicator.feed(values.Got(frames.Hello(stranger)))
    why = "peer belongs to cluster other, this controller to c"
    assert line.sent[-1] == frames.Refuse(why)
    assert line.dropped == [why]


async def test_records_with_a_gap_end_the_line_and_are_not_stored(pair: Pair) -> None:
    await pair.a.update(domain="lab.example")
    await pair.a.execute(vip.Update(address="10.0.0.9", interface="lan0", vhid=7))
    await pair.equal()
    first, last = pair.a.records()[0], pair.a.records()[2]
    pair.b.replicator.feed(values.Got(frames.Append(1, first.position, (last,), 3, 3)))
    assert pair.wire.dropped == ["a gap: records after seq 1, but this log ends at 3"]
    assert pair.b.log.head().seq == 3


# Reading, and the end


async def test_the_hash_of_a_record_is_looked_up_and_none_where_the_log_ends_before_it(pair: Pair) -> None:
    head = pair.a.log.head()
    assert await pair.a.replicator.hash_at(head.seq) == head.hash
    assert await pair.a.replicator.hash_at(head.seq + 1) is None
