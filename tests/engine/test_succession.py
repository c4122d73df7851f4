"""Two controllers that share pools, each with its succession and a stand-in for its fenced: who does what, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from middlewared.kernel.errors import CallFailed
from middlewared.kernel.pools import Layout, Vdev
from middlewared.protocol import hub
from middlewared.store.transitions import Transitions
from tests.engine.controllers import until
from tests.engine.succession_pair import Side, World, a_serves, ignore, last, steps


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    tasks = [asyncio.create_task(side.succession.run()) for side in (made.a, made.b)]
    for side in (made.a, made.b):
        side.stand_by()
    yield made
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class TestPromotion:
    async def test_an_owner_imports_its_pools_and_serves(self, world: World) -> None:
        await a_serves(world)
        assert world.importers == {"controller-A"}
        assert steps(last(world.a)) == ["fence", "import", "serve"]

    async def test_fenced_knows_of_a_pool_before_it_is_imported(self, world: World) -> None:
        await world.make_pool()
        await world.a.zfs.export_pool("tank")
        seen: list[tuple[str, ...]] = []
        real = world.a.zfs.import_pool

        async def import_pool(guid: str, *, force: bool = False) -> None:
            seen.append(world.a.imported)
            await real(guid, force=force)

        world.a.zfs.import_pool = import_pool  # type: ignore[method-assign]
        world.a.own(2)
        await until(lambda: world.a.standing.serves)
        assert seen == [world.a.imported] and len(world.a.imported) == 1

    async def test_nothing_is_imported_before_the_disks_are_fenced(self, world: World) -> None:
        await world.make_pool()
        await world.a.zfs.export_pool("tank")
        world.a.say(role="OWNER", term=2, fencing=hub.Fencing(fenced=False, disks=3, reachable=3, held=2))
        await until(lambda: bool(world.a.kept.all()))
        await asyncio.sleep(0.05)
        assert world.importers == set()
        world.a.say()
        await until(lambda: world.a.standing.serves)

    async def test_a_pool_that_cannot_be_imported_gives_the_term_up_where_the_other_one_could_do_better(
        self, world: World
    ) -> None:
        await world.make_pool()
        await world.a.zfs.export_pool("tank")
        world.a.zfs.no_import = "one or more devices is currently unavailable"
        world.a.own(2)
        await until(lambda: "resign failed" in world.a.told)
        assert world.a.standing.failed == "import: tank: one or more devices is currently unavailable"
        assert last(world.a).outcome == "undone"

    async def test_who_serves_and_lacks_a_pool_keeps_clients_out_before_it_exports_the_others(
        self, world: World
    ) -> None:
        await world.make_pool()
        await world.a.zfs.create("other", Layout(data=(Vdev(type="STRIPE", devices=("/dev/shelf/2",)),)))
        await world.a.zfs.export_pool("tank")
        world.a.zfs.no_import = "one or more devices is currently unavailable"
        world.a.say(role="OWNER", term=2, serves=True)
        await until(lambda: "resign failed" in world.a.told)
        assert world.a.told == ["block", "resign failed"]
        assert world.importers == set()

    async def test_an_operators_force_serves_without_the_pool(self, world: World) -> None:
        await world.make_pool()
        await world.a.zfs.export_pool("tank")
        world.a.zfs.no_import = "no such pool"
        world.a.own(2, rule="FORCED")
        await until(lambda: world.a.standing.serves)
        assert "no such pool" in last(world.a).steps[1].detail

    async def test_the_end_of_the_term_abandons_it(self, world: World) -> None:
        await world.make_pool()
        world.a.say(role="OWNER", term=2, fencing=None)
        await until(lambda: world.a.succession.promoting)
        world.a.stand_by("B holds a majority of the disks")
        await until(lambda: not world.a.succession.promoting)
        assert (last(world.a).outcome, last(world.a).why) == ("abandoned", "B holds a majority of the disks")
        assert len(world.a.kept.all()) == 1

    async def test_a_daemon_that_comes_back_has_what_zfs_lost_meanwhile_imported_again(
        self, world: World, tmp_path: Path
    ) -> None:
        await a_serves(world)
        world.a.zfs.lose_power()
        again = Side("A", world.disks, tmp_path)
        again.peer, again.zfs.no_import = world.b, ""
        again.configured_pools = world.a.configured_pools
        task = asyncio.create_task(again.succession.run())
        again.say(role="OWNER", term=2, serves=True)
        await until(lambda: world.importers == {"controller-A"})
        task.cancel()

    async def test_a_pool_that_an_operator_exported_stays_so(self, world: World) -> None:
        await a_serves(world)
        await world.a.pools_told.export_pool("tank")
        assert await world.a.pools_told.missing(world.a.configured_pools or ()) == []

    async def test_a_controller_that_was_never_paired_imports_without_force(self, world: World) -> None:
        await world.make_pool()
        await world.a.zfs.export_pool("tank")
        forced: list[bool] = []
        real = world.a.zfs.import_pool

        async def import_pool(guid: str, *, force: bool = False) -> None:
            forced.append(force)
            await real(guid, force=force)

        world.a.zfs.import_pool = import_pool  # type: ignore[method-assign]
        world.a.say(role="SINGLE", serves=True, fencing=None)
        await until(lambda: world.importers == {"controller-A"})
        assert forced == [False]


class TestHandover:
    async def test_it_moves_pools_and_term_and_tells_the_steps_of_both(self, world: World) -> None:
        await a_serves(world)
        told: list[str | None] = []
        done = await world.a.succession.hand_over("asked by root", lambda _: told.append(world.a.succession.leaving))
        assert steps(done) == ["ask", "drain", "block", "export", "release", "taken"]
        assert world.importers == {"controller-B"}
        assert world.b.standing.serves and not world.a.standing.serves
        assert done.steps[-1].detail.startswith("promotion: fence"), done.steps[-1]
        assert world.a.told == ["serve", "block", "resign"]
        assert (done.rule, done.cause) == ("ASKED", "asked by root")
        assert len(told) >= 7 and set(told[:-1]) == {"asked by root"} and world.a.succession.leaving is None
        await until(lambda: world.a.writes.closing is None)

    async def test_a_busy_pool_gives_everything_back(self, world: World) -> None:
        await a_serves(world)
        world.a.zfs.no_export = "pool is busy"
        with pytest.raises(CallFailed, match="The handover was undone: export: tank: pool is busy"):
            await world.a.succession.hand_over("asked", ignore)
        assert world.a.standing.serves and world.a.writes.closing is None
        assert world.importers == {"controller-A"}

    async def test_who_owns_again_because_the_other_one_did_not_take_over_takes_writes(self, world: World) -> None:
        await a_serves(world)
        world.b.own = lambda term, **_: None  # type: ignore[method-assign]
        handing = asyncio.create_task(world.a.succession.hand_over("asked", ignore))
        await until(lambda: steps(last(world.a))[-1] == "taken")
        world.a.own(4)
        with pytest.raises(CallFailed, match="this one did"):
            await handing
        await until(lambda: world.a.standing.serves)
        assert world.a.writes.closing is None

    @pytest.mark.full
    async def test_an_export_that_hangs_ends_the_controller_with_its_reservation(self, world: World) -> None:
        await a_serves(world)
        world.a.zfs.hangs = True
        with pytest.raises(CallFailed, match="ended"):
            await asyncio.wait_for(world.a.succession.hand_over("asked", ignore), 10)
        assert world.a.ended == "export was not done within 4 s"
        assert "resign" not in world.a.told

    @pytest.mark.parametrize(
        ("spoil", "why"),
        [
            (lambda world: world.b.say(role="WAITING"), "it stands WAITING"),
            (lambda world: world.b.stand_by(failed="tank is broken there"), "tank is broken there"),
            (lambda world: world.disks.cut.add("controller-B"), "it does not see tank"),
            (lambda world: setattr(world.b, "deaf", True), "away"),
        ],
    )
    async def test_it_does_not_begin_where_the_other_one_cannot(
        self, world: World, spoil: Callable[[World], object], why: str
    ) -> None:
        await a_serves(world)
        spoil(world)
        with pytest.raises(CallFailed, match=why):
            await world.a.succession.hand_over("asked", ignore)
        assert world.a.told == ["serve"] and world.a.writes.closing is None

    async def test_states_that_differ_are_not_handed_over(self, world: World) -> None:
        await a_serves(world)
        world.b.writes.digest = "different"
        with pytest.raises(CallFailed, match="the two states are not equal"):
            await world.a.succession.hand_over("asked", ignore)
        assert world.a.writes.closing is None

    async def test_fenceds_wish_to_leave_is_carried_out(self, world: World) -> None:
        await a_serves(world)
        world.a.say(leaving="a network is lost here", leaves_by="LINK_LOST")
        await until(lambda: world.b.standing.serves)
        assert (last(world.a).rule, last(world.a).cause) == ("LINK_LOST", "a network is lost here")

    async def test_who_does_not_own_does_not_hand_over(self, world: World) -> None:
        with pytest.raises(CallFailed, match="does not own"):
            await world.a.succession.hand_over("asked", ignore)

    async def test_a_daemon_that_comes_back_in_the_middle_of_a_handover_promotes_itself_again(
        self, world: World, tmp_path: Path
    ) -> None:
        await a_serves(world)
        await world.a.zfs.export_pool("tank")
        world.a.say(serves=False)
        await until(lambda: world.a.standing.serves)
        assert world.importers == {"controller-A"}


class TestHistory:
    async def test_what_was_under_way_when_the_process_ended_is_told_as_interrupted(
        self, world: World, tmp_path: Path
    ) -> None:
        await world.make_pool()
        world.a.say(role="OWNER", term=2, fencing=None)
        await until(lambda: world.a.succession.promoting)
        (found,) = Transitions(tmp_path / "A.jsonl").all()
        assert (found.outcome, steps(found)) == ("interrupted", ["fence"])

    async def test_what_fenced_did_before_is_told_as_the_first_steps(self, world: World) -> None:
        world.a.say(role="OWNER", term=2, serves=False, since=10.0, decided_at=9.9, last_sign_at=9.6, why="B is silent")
        await until(lambda: world.a.standing.serves)
        await until(lambda: last(world.a).outcome == "done")
        found = last(world.a).steps[:2]
        assert [(step.name, round(step.ms)) for step in found] == [("notice", 300), ("claim", 100)]

    async def test_a_term_that_was_gained_without_pools_is_told_once(self, world: World, tmp_path: Path) -> None:
        world.a.say(role="OWNER", term=2, serves=True, since=10.0, decided_at=9.9, last_sign_at=9.6)
        await until(lambda: bool(world.a.kept.all()))
        found = last(world.a)
        assert (found.plan, found.outcome, steps(found)) == ("promotion", "done", ["notice", "claim"])
        again = Side("A", world.disks, tmp_path)
        again.peer = world.b
        task = asyncio.create_task(again.succession.run())
        again.say(role="OWNER", term=3, serves=True, since=10.0, decided_at=9.9, last_sign_at=9.6)
        await asyncio.sleep(0.05)
        task.cancel()
        assert len(again.kept.all()) == 1

    async def test_a_term_that_ends_by_a_rule_is_told_as_lost_with_the_sentence_of_the_rule(self, world: World) -> None:
        world.a.say(role="OWNER", term=2, serves=True, since=10.0, decided_at=9.9)
        await until(lambda: bool(world.a.kept.all()))
        world.a.say(role="WAITING")
        ended = hub.Lost(term=2, at=20.0, rule="DEPOSED", why="B holds a majority of the disks")
        world.a.stand_by("B is not heard, which is no sign of its death", rule="NOT_GONE", term=3, lost=ended)
        lost = last(world.a)
        assert (lost.plan, lost.term, lost.rule, lost.cause) == (
            "loss",
            2,
            "DEPOSED",
            "B holds a majority of the disks",
        )
        assert (lost.outcome, lost.why, lost.steps) == ("done", "", ())
        world.a.stand_by("B owns", rule="PEER_OWNS")
        assert [kept.plan for kept in world.a.kept.all()] == ["promotion", "loss"]

    async def test_a_term_that_goes_on_after_a_restart_of_fenced_was_not_lost(self, world: World) -> None:
        world.a.say(role="OWNER", term=2, serves=True, since=10.0, decided_at=9.9)
        await until(lambda: bool(world.a.kept.all()))
        world.a.succession.lost()
        world.a.say(role="WAITING")
        world.a.own(2)
        assert "loss" not in [kept.plan for kept in world.a.kept.all()]

    async def test_a_fenced_that_was_restarted_meanwhile_gives_the_reason_that_it_has(self, world: World) -> None:
        world.a.say(role="OWNER", term=2, serves=True, since=10.0, decided_at=9.9)
        await until(lambda: bool(world.a.kept.all()))
        world.a.succession.lost()
        world.a.stand_by("B owns", rule="PEER_OWNS", term=3)
        assert (last(world.a).plan, last(world.a).term, last(world.a).cause) == ("loss", 2, "B owns")

    async def test_what_a_plan_tells_of_the_end_of_a_term_is_not_told_again(self, world: World) -> None:
        await a_serves(world)
        await world.a.succession.hand_over("asked by root", ignore)
        assert [kept.plan for kept in world.a.kept.all()] == ["promotion", "handover"]
        world.b.zfs.no_import = "one or more devices is currently unavailable"
        await world.b.zfs.export_pool("tank")
        world.b.say(role="OWNER", term=9, serves=False)
        await until(lambda: "resign failed" in world.b.told)
        assert [(kept.plan, kept.outcome) for kept in world.b.kept.all()] == [
            ("promotion", "done"),
            ("promotion", "undone"),
        ]

    async def test_a_file_that_cannot_be_read_is_an_empty_history(self, tmp_path: Path) -> None:
        (tmp_path / "x.jsonl").write_bytes(b"{not json")
        assert Transitions(tmp_path / "x.jsonl").all() == ()
