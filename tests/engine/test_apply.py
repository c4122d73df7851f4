from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from middlewared_plugins.network import configuration, vip

from middlewared.kernel.errors import NoRole
from middlewared.kernel.event import START, Stamp, seal
from tests.engine.controllers import OLDER, REGISTRY, until
from tests.engine.pair import Pair

VIP = vip.Update(address="10.0.0.9", prefix=24, interface="lan0", vhid=7)

STAMP = Stamp(term=1, origin="A", actor="eva", request_id="r", wall_ns=0)


def rows(path: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        return database.execute(statement).fetchall()


async def test_nothing_is_visible_before_the_commit_index_covers_it(pair: Pair) -> None:
    pair.disk.writable = False
    pair.wire.held = True
    work = asyncio.create_task(pair.a.update(domain="lab.example"))
    await until(lambda: pair.a.log.head().seq == 2)
    assert pair.a.configuration.domain == "local"
    assert pair.a.state.applied.seq == 1
    assert pair.a.state.ahead()["network.configuration"].domain == "lab.example"
    pair.disk.writable = True
    await work
    assert pair.a.configuration.domain == "lab.example"


async def test_the_file_follows_memory_and_names_the_record_that_it_shows(pair: Pair) -> None:
    await pair.a.update(domain="lab.example")
    await pair.a.state.flush()
    path = pair.a.directory / "state.db"
    assert rows(path, "SELECT seq, pair_seq FROM applied") == [(2, 2)]
    assert rows(path, "SELECT domain FROM network_configuration") == [("lab.example",)]


async def test_a_write_of_the_file_that_failed_is_made_up_for_by_the_next_change_of_another_noun(pair: Pair) -> None:
    path = pair.a.directory / "state.db"
    await pair.a.state.flush()
    rows(path, "CREATE TRIGGER no BEFORE INSERT ON network_configuration BEGIN SELECT RAISE(ABORT, 'no'); END")
    await pair.a.update(domain="lab.example")
    await pair.a.state.flush()
    assert rows(path, "SELECT seq FROM applied") == [(1,)]
    digest = await pair.a.state.digest()
    assert digest[0] == 2
    rows(path, "DROP TRIGGER no")
    await pair.a.execute(VIP)
    await pair.a.state.flush()
    assert rows(path, "SELECT seq FROM applied") == [(3,)]
    assert rows(path, "SELECT domain FROM network_configuration") == [("lab.example",)]
    assert rows(path, "SELECT digest FROM applied") == [((await pair.a.state.digest())[1],)]
    await pair.equal()


async def test_the_state_after_a_restart_is_the_state_before_it(pair: Pair) -> None:
    await pair.a.update(domain="lab.example")
    await pair.a.execute(VIP)
    states, digest, at = pair.a.state.states, await pair.a.state.digest(), pair.a.state.pair_seq
    again = await pair.restart("A")
    assert again.state.states == states
    assert await again.state.digest() == digest
    assert again.state.pair_seq == at == 3


async def test_a_kind_that_this_build_does_not_know_is_stored_and_stops_the_fold_there(pair: Pair) -> None:
    older = await pair.restart("B", OLDER)
    older.stand(1)
    pair.wire.connect()
    await pair.a.update(domain="one.example")
    await pair.a.execute(VIP)
    await pair.a.update(domain="two.example")
    await until(lambda: older.log.head().seq == 4 and older.state.blocked is not None)
    assert older.state.blocked == "seq 3: kind network.vip.updated version 1 is not known here"
    assert older.state.applied.seq == 2
    assert older.configuration.domain == "one.example"


async def test_a_newer_build_folds_what_the_older_one_could_not(pair: Pair) -> None:
    older = await pair.restart("B", OLDER)
    older.stand(1)
    pair.wire.connect()
    await pair.a.execute(VIP)
    await until(lambda: older.state.blocked is not None)
    newer = await pair.restart("B", REGISTRY)
    newer.stand(1)
    pair.wire.connect()
    await until(lambda: newer.state.applied.seq == 2)
    assert newer.engine.state(vip.NOUN).vip is not None
    await pair.equal()


async def test_a_payload_of_another_shape_stops_the_fold_with_the_reason(pair: Pair) -> None:
    state, head = pair.a.state, pair.a.log.head()
    bent = msgspec.structs.replace(seal(vip.Deleted(), head, STAMP), kind="network.vip.updated", payload=b'{"vip":1}')
    state.follow([bent])
    assert state.commit(2, 0) == []
    assert state.blocked == "seq 2: Expected `object`, got `int` - at `$.vip`"
    assert state.applied == head


async def test_records_that_were_cut_before_they_were_applied_are_forgotten(pair: Pair) -> None:
    state, head = pair.a.state, pair.a.log.head()
    first = seal(vip.Deleted(), head, STAMP)
    second = seal(vip.Deleted(), first.position, STAMP)
    state.follow([first, second])
    state.cut_after(first.seq)
    assert [change.record for change in state.commit(second.seq, 0)] == [first]


async def test_pair_seq_never_goes_back_and_never_beyond_what_is_applied(pair: Pair) -> None:
    await pair.a.update(domain="lab.example")
    state = pair.a.state
    assert state.pair_seq == 2
    state.commit(2, 1)
    assert state.pair_seq == 2
    state.commit(2, 9)
    assert state.pair_seq == 2


async def test_a_digest_is_refused_while_the_controller_ends(pair: Pair) -> None:
    again = await pair.restart("A")
    old = again.state
    await pair.restart("A")
    with pytest.raises(NoRole):
        await old.digest()


async def test_projections_that_were_made_from_the_log_alone_say_nothing_of_what_is_committed(tmp_path: Path) -> None:
    async with Pair(tmp_path) as pair:
        await pair.in_sync()
        await pair.a.update(domain="lab.example")
        pair.wire.held = True
        pair.disk.writable = False
        unanswered = asyncio.create_task(pair.a.execute(configuration.Update(domain="tail.example"), "tail"))
        await until(lambda: pair.a.log.head().seq == 3)
        unanswered.cancel()
        for _ in range(2):
            a = await pair.restart("A", crash=lambda directory: (directory / "state.db").unlink(missing_ok=True))
            assert a.state.applied.seq == 3
            assert a.replica.log.committed == START
        await pair.restart("A")
        assert pair.a.replica.log.committed == START, "still, after a start with the file that was made anew"


async def test_what_the_log_says_is_durable_on_both_survives_the_loss_of_state_db(pair: Pair) -> None:
    await pair.a.update(domain="one.example")
    await pair.take_over(pair.a)
    await pair.a.opened()
    await pair.a.update(domain="two.example")
    assert pair.a.state.pair_seq == 4

    def delete(directory: Path) -> None:
        for file in directory.glob("state.db*"):
            file.unlink()

    again = await pair.restart("A", crash=delete)
    assert again.state.pair_seq == 2
    again.stand(2)
    assert again.configuration.domain == "two.example"
