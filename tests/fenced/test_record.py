"""The record on the shared disks: who may write it, who reads it, and what becomes of it in the next term."""

from __future__ import annotations

import msgspec

from middlewared.protocol import hub
from tests.fenced.conftest import Controller, World, a_record, holds_for, until, written


def _committed(controller: Controller) -> int | None:
    standing = controller.standing
    return None if standing is None or standing.record is None else standing.record.committed_seq


class TestTheRecord:
    async def test_it_is_none_until_written_and_is_then_read_by_the_standby(self, world: World) -> None:
        await world.boot()
        assert world.a.standing is not None
        assert world.a.standing.record is None
        answer = await written(world.a, a_record(world.a))
        assert answer.ok, answer.why
        await until(lambda: _committed(world.b) == 5, 2, "B reads the record")

    async def test_a_new_owner_carries_it_over_as_it_was(self, world: World) -> None:
        await world.boot()
        assert (await written(world.a, a_record(world.a, in_sync=("A",), seq=9))).ok
        world.a.freeze()
        await until(world.b.owns, 5, "B owns")
        assert world.b.standing is not None
        record = world.b.standing.record
        assert record is not None
        assert (record.owner, record.term, record.in_sync, record.committed_seq) == ("B", 9, ("A",), 9)

    async def test_a_standby_and_a_wrong_term_are_refused(self, world: World) -> None:
        await world.boot()
        assert not (await written(world.b, a_record(world.b))).ok
        old = msgspec.structs.replace(a_record(world.a), term=world.a.term - 1)
        assert not (await written(world.a, old)).ok

    async def test_without_a_majority_it_is_refused_with_the_reason(self, world: World) -> None:
        await world.boot()
        await world.shelf(verb="cut", node="A")
        answer = await written(world.a, a_record(world.a))
        assert not answer.ok
        assert "SHELF-0" in answer.why

    async def test_begin_raises_the_term_without_a_gap_and_keeps_the_record(self, world: World) -> None:
        await world.boot()
        assert (await written(world.a, a_record(world.a))).ok
        seen = len(world.a.seen)
        world.a.middlewared.send(hub.Begin())
        await until(lambda: world.a.term == 9, 3, "the term is raised")
        assert {s.role for s in world.a.seen[seen:]} == {"OWNER"}
        assert _committed(world.a) == 5
        await until(lambda: world.b.term == 9, 2, "B knows of it")
        assert world.b.stands_by()

    async def test_asked_for_a_term_that_the_disks_do_not_grant_it_does_not_answer_every_time(
        self, world: World
    ) -> None:
        await world.boot()
        await world.shelf(verb="cut", node="A")
        seen = len(world.a.seen)
        for _ in range(200):
            world.a.middlewared.send(hub.Begin())
        await holds_for(lambda: len(world.a.seen) - seen < 50, 0.5, "a few words only")
        await world.shelf(verb="heal", node="A")
        await until(lambda: world.a.term > 8, 5, "the term is raised")
