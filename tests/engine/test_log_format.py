"""From the first record of a log to the raise of its format: who may read it, and what stands in its records."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from middlewared_plugins.network import configuration

from middlewared.kernel.event import FIRST_FORMAT, LOG_FORMAT, Stamp, seal
from middlewared.kernel.facts import Node
from middlewared.log_format import Raise, Raised
from middlewared.protocol.replication_frames import Identity
from tests.engine.controllers import Controller, until
from tests.engine.pair import Pair

METHOD = "network.configuration.update"


@pytest.fixture
async def first(tmp_path: Path) -> AsyncIterator[Pair]:
    """A owns and B follows, in a log that the first build began."""
    async with Pair(tmp_path) as made:
        await made.in_sync()
        yield made


@pytest.fixture
async def newest(tmp_path: Path) -> AsyncIterator[Pair]:
    """The same in a log that this build began."""
    async with Pair(tmp_path, log_format=LOG_FORMAT) as made:
        await made.in_sync()
        yield made


def as_the_first_build(controller: Controller) -> None:
    """What its HELLO says is what the first build said."""
    mine = controller.replica.identity
    controller.replica.identity = Identity(
        cluster_id=mine.cluster_id, node=mine.node, catalogue="x", log_format_min=1, log_format_max=FIRST_FORMAT
    )


async def write(controller: Controller, domain: str) -> None:
    command = configuration.Update(domain=domain)
    await controller.engine.execute(command, actor="eva", origin="10.0.0.5:1", request_id=domain, method=METHOD)


def methods(controller: Controller) -> list[str]:
    return [record.method for record in controller.records()]


async def test_a_new_log_says_its_format_in_its_first_group(newest: Pair) -> None:
    assert newest.a.engine.groups[0] == 2
    assert newest.a.kinds() == ["term.begin", "log.format.raised"]
    await newest.equal()
    assert newest.a.state.log_format == newest.b.state.log_format == LOG_FORMAT
    assert newest.b.replica.identity.log_format_min == LOG_FORMAT


async def test_a_new_log_stays_in_the_first_format_while_a_peer_is_there_that_reads_no_other(tmp_path: Path) -> None:
    async with Pair(tmp_path, log_format=LOG_FORMAT) as pair:
        as_the_first_build(pair.b)
        pair.b.stand(0)
        pair.wire.connect()
        await until(lambda: pair.a.replica.line.greeted)
        await pair.a.own(pair.disk.claim("A"), forced=True)
        await pair.a.opened()
        await until(lambda: pair.said_in_sync() == ("A", "B"))
        await write(pair.a, "lab.example")
        assert pair.a.kinds() == ["term.begin", "network.configuration.updated"]
        assert methods(pair.b) == ["", ""]


async def test_the_method_stands_in_records_of_the_second_format_only(first: Pair) -> None:
    await write(first.a, "one.example")
    await first.a.execute(Raise(log_format=LOG_FORMAT))
    await write(first.a, "two.example")
    await first.equal()
    assert methods(first.b) == ["", "", "", METHOD]
    assert first.b.state.log_format == LOG_FORMAT
    assert first.a.log.verify() == first.b.log.verify()


async def test_commands_of_one_group_are_written_in_the_format_that_holds_at_their_place(first: Pair) -> None:
    raised = asyncio.create_task(first.a.execute(Raise(log_format=LOG_FORMAT)))
    written = asyncio.create_task(write(first.a, "one.example"))
    await asyncio.gather(raised, written)
    assert methods(first.a)[-2:] == ["", METHOD]


@pytest.mark.parametrize("node", ["A", "B"])
async def test_the_format_outlives_a_restart_of_either_controller(first: Pair, node: Node) -> None:
    await first.a.execute(Raise(log_format=LOG_FORMAT))
    await first.equal()
    again = await first.restart(node)
    assert again.state.log_format == LOG_FORMAT
    assert again.replica.identity.log_format_min == LOG_FORMAT


async def test_a_raise_that_is_not_committed_yet_already_keeps_an_older_peer_away(first: Pair) -> None:
    first.disk.writable = False
    first.wire.cut()
    waiting = asyncio.create_task(first.a.execute(Raise(log_format=LOG_FORMAT)))
    await until(lambda: first.a.log.head().seq == 2)
    assert first.a.state.log_format == FIRST_FORMAT
    as_the_first_build(first.b)
    first.wire.connect()
    await until(lambda: len(first.wire.dropped) > 0)
    assert "log formats" in first.wire.dropped[0]
    waiting.cancel()


async def test_a_raise_that_was_cut_off_is_taken_back(first: Pair) -> None:
    first.disk.writable = False
    first.wire.cut()
    waiting = asyncio.create_task(first.a.execute(Raise(log_format=LOG_FORMAT)))
    await until(lambda: first.a.log.head().seq == 2)
    await first.take_over(first.b)
    first.disk.writable = True
    first.wire.connect()
    await until(lambda: first.said_in_sync() == ("A", "B"))
    await first.equal()
    assert first.a.quarantined == 1
    assert first.a.replica.identity.log_format_min == FIRST_FORMAT
    waiting.cancel()


async def test_a_log_of_a_newer_build_is_kept_and_not_folded(first: Pair) -> None:
    await first.restart("B")
    tip = first.b.log.head()
    stamp = Stamp(term=tip.term, origin="A", actor="middlewared", request_id="", wall_ns=0)
    first.b.log.append([seal(Raised(log_format=LOG_FORMAT + 1), tip, stamp)])
    again = await first.restart("B")
    assert again.replica.identity.log_format_min == LOG_FORMAT + 1
    again.state.commit(2, 0)
    assert (
        again.state.blocked == f"log format {LOG_FORMAT + 1} is not known to this build, which reads up to {LOG_FORMAT}"
    )
    assert msgspec.structs.asdict(again.state.states["log.format"]) == {"log_format": FIRST_FORMAT}
