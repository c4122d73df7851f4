"""When the other controller counts as fenced, and when its power is asked for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from middlewared.fenced.disks import Held
from middlewared.fenced.fencing import CLAIM_S, Fencing
from middlewared.kernel.register import Granted, Holding
from middlewared.protocol import bmc, hub
from middlewared.shell.shelf_voter import ShelfVoter
from tests.fenced.conftest import HELD_S, Controller, World, holds_for, until


def held(ours: int, reachable: int = 6, disks: int = 6, unknown: int = 0) -> Held:
    return Held(disks=disks, reachable=reachable, held=ours, unknown=unknown)


def after_a_takeover(*, has_power: bool = True) -> Fencing:
    fencing = Fencing(has_power=has_power)
    fencing.gained(10.0, takeover=True)
    return fencing


class TestTheDisks:
    def test_all_that_are_reached_must_be_held(self) -> None:
        fencing = after_a_takeover()
        assert fencing.result(held(6)).fenced
        assert fencing.result(held(5, reachable=5)).fenced, "one that is gone for all takes no write of the peer's pool"
        assert not fencing.result(held(5)).fenced
        assert not fencing.result(held(5, reachable=5, unknown=1)).fenced, "one that was not asked yet may be reached"

    def test_without_shared_disks_nothing_fences(self) -> None:
        assert not after_a_takeover().result(held(0, reachable=0, disks=0)).fenced


class TestThePower:
    def test_it_is_not_asked_for_where_nine_tenths_are_held(self) -> None:
        fencing = after_a_takeover()
        assert not fencing.ask_power(held(19, reachable=19, disks=20), 10.0 + CLAIM_S)
        assert not fencing.ask_power(held(2), 10.0 + 2 * CLAIM_S), "the question was answered"

    def test_it_is_asked_for_once_where_fewer_are_held_or_one_that_is_reached_is_not(self) -> None:
        for short in (held(17, reachable=17, disks=20), held(19, reachable=20, disks=20)):
            fencing = after_a_takeover()
            assert not fencing.ask_power(short, 10.0 + CLAIM_S / 2), "the claims are under way"
            assert fencing.ask_power(short, 10.0 + CLAIM_S)
            assert not fencing.ask_power(short, 10.0 + CLAIM_S)

    def test_a_disk_that_owes_its_answer_is_waited_for_not_for_ever(self) -> None:
        fencing = after_a_takeover()
        assert not fencing.ask_power(held(4, unknown=2), 10.0 + CLAIM_S)
        assert fencing.ask_power(held(4, unknown=2), 10.0 + 2 * CLAIM_S)

    def test_off_is_fenced_whatever_the_disks_say_and_anything_else_is_not(self) -> None:
        fencing = after_a_takeover()
        fencing.power_was("no answer")
        result = fencing.result(held(4))
        assert not result.fenced
        assert result.power is not None
        assert result.power.why == "no answer"
        fencing.power_was(None)
        assert fencing.result(held(4)).fenced

    def test_it_lasts_for_the_ownership(self) -> None:
        fencing = after_a_takeover()
        fencing.power_was(None)
        fencing.gained(60.0, takeover=True)
        assert not fencing.result(held(4)).fenced

    def test_a_peer_that_stands_by_keeps_its_power(self) -> None:
        fencing = Fencing(has_power=True)
        fencing.gained(10.0, takeover=False)
        assert not fencing.ask_power(held(4), 10.0 + 2 * CLAIM_S)

    def test_without_a_way_to_it_it_is_not_asked_for(self) -> None:
        assert not after_a_takeover(has_power=False).ask_power(held(4), 10.0 + 2 * CLAIM_S)


def fencing_of(controller: Controller) -> hub.Fencing:
    standing = controller.standing
    assert standing is not None
    assert standing.fencing is not None
    return standing.fencing


class TestOnTheShelf:
    """Three disks that vote and two that only hold pools (F30, F31)."""

    async def test_an_owner_holds_every_disk_those_that_do_not_vote_as_well(self, world: World) -> None:
        await world.boot()
        await until(lambda: fencing_of(world.a).fenced, 2, "A holds them all")
        assert fencing_of(world.a) == hub.Fencing(fenced=True, disks=5, reachable=5, held=5)
        assert await owners(world) == ["A"] * 5
        assert world.b.standing is not None
        assert world.b.standing.fencing is None
        world.a.middlewared.send(hub.Resign(why="asked"))
        await until(lambda: world.b.owns() and fencing_of(world.b).fenced, 3, "B owns, and holds them all")
        assert await owners(world) == ["B"] * 5

    async def test_a_frozen_owner_loses_every_disk_before_a_pool_may_be_forced(self, world: World) -> None:
        await world.boot()
        world.a.freeze()
        await until(lambda: world.b.owns() and fencing_of(world.b).fenced, 5, "B owns, and holds them all")
        assert await owners(world) == ["B"] * 5

    async def test_a_disk_that_refuses_keeps_the_import_from_being_forced_and_not_the_term(self, world: World) -> None:
        await world.boot()
        await world.shelf(verb="refuse", disk=4)
        world.a.freeze()
        await until(world.b.owns, 5, "B owns")
        await until(lambda: fencing_of(world.b).held == 4, 2, "the others are held")
        await holds_for(lambda: not fencing_of(world.b).fenced, 0.8, "A may still write that one")
        await world.shelf(verb="obey", disk=4)
        await until(lambda: fencing_of(world.b).fenced, 2, "B holds them all")

    async def test_a_majority_that_refuses_leaves_the_term_where_it_is(self, world: World) -> None:
        await world.boot()
        for disk in (0, 1):
            await world.shelf(verb="refuse", disk=disk)
        world.a.freeze()
        await holds_for(world.b.stands_by, 2 * HELD_S, "B stands by")
        world.a.thaw()
        await until(world.a.owns, 3, "A owns")

    async def test_a_disk_that_is_lost_for_both_changes_nothing(self, world: World) -> None:
        await world.boot()
        for node in ("A", "B"):
            await world.shelf(verb="cut", node=node, disk=1)
        await until(lambda: fencing_of(world.a).reachable == 4, 2, "A misses it")
        assert fencing_of(world.a).fenced
        await holds_for(lambda: world.a.owns() and world.b.stands_by(), 0.5, "A owns")
        world.a.freeze()
        await until(lambda: world.b.owns() and fencing_of(world.b).fenced, 5, "B owns")
        for node in ("A", "B"):
            await world.shelf(verb="heal", node=node, disk=1)
        await until(lambda: fencing_of(world.b) == hub.Fencing(fenced=True, disks=5, reachable=5, held=5), 2, "again")

    async def test_a_disk_that_a_lost_ballot_left_in_a_later_term_is_taken_back(self, world: World) -> None:
        await world.boot()
        for disk in (1, 4):
            cable = ShelfVoter(f"disk{disk}", f"{world.directory}/B/{disk}", deadline_s=1.0, durable_s=1.0)
            held = await cable.read()
            assert isinstance(held, Holding)
            assert isinstance(await cable.claim("B", world.a.term + 3, held), Granted)
            cable.close()
        before = world.a.term
        await until(lambda: world.a.term > before + 3, 3, "A owns in a term above it")
        await until(lambda: fencing_of(world.a).fenced, 2, "A holds them all")
        assert await owners(world) == ["A"] * 5
        assert world.b.stands_by()

    @pytest.mark.parametrize("says", ["off", "nothing"])
    async def test_where_a_disk_is_left_the_power_is_cut_and_only_then_a_pool_may_be_forced(
        self, world: World, says: str
    ) -> None:
        async with a_bmc(world.b.run_dir / "power", says) as asked:
            world.b.config.write_text(
                f'{world.b.config.read_text()}[power]\nbackend = "lab"\npath = "{world.b.run_dir}/power"\n'
            )
            await world.boot()
            await world.shelf(verb="refuse", disk=4)
            world.a.freeze()
            await until(world.b.owns, 5, "B owns")
            await until(lambda: fencing_of(world.b).power is not None, 3, "the power was asked for")
            assert fencing_of(world.b).fenced == (says == "off")
            assert asked == ["power_off"]
            assert fencing_of(world.b).held == 4


async def owners(world: World) -> list[object]:
    state = await world.shelf(verb="state")
    disks = state["disks"]
    assert isinstance(disks, list)
    return [disk["owner"] for disk in disks]


@contextlib.asynccontextmanager
async def a_bmc(path: Path, says: str) -> AsyncIterator[list[str]]:
    """A management controller that confirms, or hangs up without a word; what it was asked."""
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(bmc.decode_ask(await reader.readline()).verb)
        if says == "off":
            writer.write(bmc.encode(bmc.Said(on=False)))
        writer.close()

    server = await asyncio.start_unix_server(serve, path)
    try:
        yield asked
    finally:
        server.close()
