"""Faults F8 and F9: wall clocks that jump, and monotonic clocks with nothing in common. Nothing rests on either."""

from __future__ import annotations

import pytest

from middlewared.sim.faults import NODES
from middlewared.sim.world import START_S, World

DAY_NS = 86_400 * 10**9
JUMPS_NS = (DAY_NS, -DAY_NS, -DAY_NS, DAY_NS)
"""A day on and back, a day back and on."""


def roles_gained(world: World) -> list[str]:
    assert world.trace.lines is not None
    return [line for line in world.trace.lines if " fenced-own " in line]


@pytest.mark.parametrize("node", NODES)
def test_a_wall_clock_that_jumps_a_day_and_back_changes_no_role_and_no_order(node: str) -> None:
    world = World(2, keep_trace=True, swarm=False)

    def jump(by_ns: int) -> None:
        world.controllers["A" if node == "A" else "B"].clock.wall_skew_ns += by_ns

    for n, by_ns in enumerate(JUMPS_NS):
        world.timeline.at(START_S + 0.5 + n, jump, by_ns)
    outcome = world.run()
    assert outcome.violations == ()
    assert outcome.answered > 0
    assert len(roles_gained(world)) == 1
    records = world.platters["A"].records
    assert [record.seq for record in records] == list(range(1, len(records) + 1))


def test_monotonic_clocks_that_are_minutes_apart_are_never_compared() -> None:
    for seed in range(8):
        world = World(seed, keep_trace=True, swarm=False)
        outcome = world.run()
        boottimes = [world.controllers[node].clock.boottime() for node in NODES]
        assert outcome.violations == ()
        assert len(roles_gained(world)) == 1
        if abs(boottimes[0] - boottimes[1]) > 300:
            return
    raise AssertionError("no world had clocks that are minutes apart")
