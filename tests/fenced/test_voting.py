"""The disks that vote are changed under a pair: three by three, both sets voting in between."""

from __future__ import annotations

from pathlib import Path

from middlewared.kernel.facts import Voting
from middlewared.shell.kept_voters import Kept, keep, recall
from tests.fenced.conftest import HELD_S, Controller, World, a_record, a_setting, holds_for, until, written

OLD = ("SHELF-0", "SHELF-1", "SHELF-2")
NEW = ("SHELF-2", "SHELF-3", "SHELF-4")
BOTH = Voting(number=1, sets=(OLD, NEW))
ALONE = Voting(number=2, sets=(NEW,))


def configure(voting: Voting, *controllers: Controller) -> None:
    for controller in controllers:
        controller.configure(voting=voting)


def taken_up(controller: Controller) -> int:
    return controller.standing.voting if controller.standing is not None else 0


def peer_s(controller: Controller) -> int | None:
    return controller.standing.peer_voting if controller.standing is not None else None


async def change(world: World) -> None:
    for voting in (BOTH, ALONE):
        configure(voting, world.a, world.b)
        number = voting.number
        await until(lambda: taken_up(world.a) == taken_up(world.b) == number, 3, f"both took up {number}")  # noqa: B023
        await until(lambda: peer_s(world.a) == peer_s(world.b) == number, 3, "each knows it of the other")  # noqa: B023


async def lose(world: World, *disks: int) -> None:
    for disk in disks:
        for node in ("A", "B"):
            await world.shelf(verb="cut", node=node, disk=disk)


class TestAChange:
    async def test_nobody_loses_the_term_and_the_new_disks_have_the_record(self, world: World) -> None:
        await world.boot()
        assert (await written(world.a, a_record(world.a, in_sync=("A",), seq=9))).ok
        await change(world)
        assert world.a.owns()
        assert world.a.term == 8
        assert world.b.stands_by()
        await lose(world, 0, 1)
        await holds_for(lambda: world.a.owns() and world.b.stands_by(), 0.8, "the removed ones are not missed")
        world.a.freeze()
        await until(world.b.owns, 5, "B owns by the new ones")
        assert world.b.standing is not None
        assert {voter.name for voter in world.b.standing.voters} == set(NEW)
        record = world.b.standing.record
        assert record is not None
        assert (record.in_sync, record.committed_seq) == (("A",), 9)
        world.a.thaw()
        await until(world.a.stands_by, 3, "A gives way")

    async def test_while_both_vote_a_majority_of_each_is_needed(self, world: World) -> None:
        await world.boot()
        configure(BOTH, world.a, world.b)
        await until(lambda: taken_up(world.a) == taken_up(world.b) == 1, 3, "both took it up")
        await lose(world, 3, 4)
        world.a.freeze()
        await holds_for(world.b.stands_by, 2 * HELD_S, "B lacks a majority of the new ones")
        world.a.thaw()
        for disk in (3, 4):
            for node in ("A", "B"):
                await world.shelf(verb="heal", node=node, disk=disk)
        await until(lambda: world.a.owns() != world.b.owns(), 5, "one owns")

    async def test_one_that_has_not_taken_it_up_is_seen_and_still_excludes_the_other(self, world: World) -> None:
        await world.boot()
        configure(BOTH, world.a)
        await until(lambda: taken_up(world.a) == 1, 3, "A took it up")
        await holds_for(lambda: peer_s(world.a) == 0, 0.3, "A sees that B did not")
        world.a.freeze()
        await until(world.b.owns, 5, "B owns by the old ones")
        world.a.thaw()
        await until(world.a.stands_by, 3, "A gives way")
        await holds_for(lambda: world.b.owns() and world.a.stands_by(), 0.5, "it stays so")

    async def test_an_owner_that_cannot_hold_the_new_ones_has_not_taken_it_up(self, world: World) -> None:
        await world.boot()
        for disk in (3, 4):
            await world.shelf(verb="cut", node="A", disk=disk)
        configure(BOTH, world.a, world.b)
        await until(lambda: taken_up(world.b) == 1, 3, "B took it up")
        await holds_for(lambda: taken_up(world.a) == 0 and world.a.owns(), 0.8, "A did not, and owns")
        await world.shelf(verb="heal", node="A", disk=3)
        await until(lambda: taken_up(world.a) == 1, 3, "with two of three it did")

    async def test_a_boot_does_not_go_back_behind_it(self, world: World) -> None:
        await world.boot()
        await change(world)
        world.b.kill()
        (world.b.run_dir / "fenced.state").unlink()  # the boot is another
        world.b.settings = a_setting(voting=BOTH)
        world.b.start()
        seen = len(world.b.seen)
        await until(lambda: len(world.b.seen) > seen and world.b.stands_by(), 5, "B stands by")
        await holds_for(lambda: taken_up(world.b) == 2, 0.5, "what its middlewared states is older")
        assert world.b.standing is not None
        assert {voter.name for voter in world.b.standing.voters} == set(NEW)

    async def test_a_disk_that_the_boot_file_does_not_name_is_silent(self, world: World) -> None:
        await world.boot()
        configure(Voting(number=1, sets=(("SHELF-0", "SHELF-1", "SHELF-9"),)), world.a, world.b)
        await until(lambda: taken_up(world.a) == 1, 3, "A took it up")
        assert world.a.owns()
        assert world.a.standing is not None
        assert [v.reachable for v in world.a.standing.voters] == [True, True, False]


def test_what_was_kept_of_another_cluster_or_cannot_be_read_is_none(tmp_path: Path) -> None:
    path = tmp_path / "voters.json"
    assert recall(path) is None
    kept = Kept(cluster_id="c", voting=BOTH)
    keep(path, kept)
    assert recall(path) == kept
    path.write_bytes(b"{")
    assert recall(path) is None
