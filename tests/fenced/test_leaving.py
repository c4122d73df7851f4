"""An owner with pools: it serves when they are there, and gives its term up only without them."""

from __future__ import annotations

from middlewared.protocol import hub
from tests.fenced.conftest import World, a_setting, holds_for, until

POOLS = hub.Pools(imported=("1234567890",))


async def boot_with_pools(world: World) -> None:
    """A owns and serves, with a pool imported."""
    world.a.settings = a_setting(pools=True)
    world.b.settings = a_setting(pools=True)
    await world.boot()
    world.a.middlewared.send(POOLS)
    world.a.middlewared.send(hub.Serve(term=world.a.term))
    await until(lambda: world.a.vip_up, 5, "A serves")


class TestServing:
    async def test_an_owner_with_pools_configured_serves_only_when_told(self, world: World) -> None:
        world.a.settings = a_setting(pools=True)
        await world.boot()
        assert world.a.owns() and not world.a.vip_up
        world.a.middlewared.send(hub.Serve(term=world.a.term - 1))
        await holds_for(lambda: not world.a.vip_up, 0.2, "the word of an earlier term is not taken")
        world.a.middlewared.send(hub.Serve(term=world.a.term))
        await until(lambda: world.a.vip_up, 5, "A serves")
        world.a.middlewared.send(hub.Block(term=world.a.term, why="a handover"))
        await until(lambda: not world.a.vip_up, 5, "A keeps clients out")
        assert world.a.owns()

    async def test_a_new_term_of_the_same_owner_and_a_restart_of_fenced_leave_it_serving(self, world: World) -> None:
        await boot_with_pools(world)
        before = world.a.term
        world.a.middlewared.send(hub.Begin())
        await until(lambda: world.a.term > before, 5, "A owns a new term")
        assert world.a.vip_up
        before = world.a.term
        world.a.kill()
        world.a.start()
        await until(lambda: world.a.owns() and world.a.term > before, 5, "A owns again")
        assert world.a.vip_up


class TestLeaving:
    async def test_where_its_network_is_lost_it_asks_for_a_handover_and_resigns_when_the_pools_are_gone(
        self, world: World
    ) -> None:
        await boot_with_pools(world)
        world.a.lose_links()
        await until(
            lambda: world.a.standing is not None and world.a.standing.leaving is not None, 5, "A wants to leave"
        )
        assert world.a.standing is not None and world.a.standing.leaves_by == "LINK_LOST"
        world.a.middlewared.send(hub.Resign(why="too early"))
        await holds_for(world.a.owns, 0.2, "A keeps its term while it has a pool")
        world.a.middlewared.send(hub.Pools())
        await until(world.b.owns, 5, "B owns")
        assert not world.b.vip_up, "B has not imported yet"

    async def test_a_failed_promotion_is_said(self, world: World) -> None:
        await world.boot()
        world.a.middlewared.send(hub.Resign(why="tank cannot be imported", failed=True))
        await until(lambda: world.a.stands_by() and world.b.owns(), 5, "B owns")
        assert world.a.standing is not None
        assert world.a.standing.failed == "tank cannot be imported"
