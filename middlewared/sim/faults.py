"""What can happen to a pair, each kind for itself.

A fault begins, lasts for a random while, and is undone; what heals by itself (a process that init starts again) has
nothing to undo. Which of them a world has, and how often, is in swarm.py.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Protocol

import msgspec

from middlewared.kernel.facts import Node, other
from middlewared.protocol import hub
from middlewared.sim.controller import Controller
from middlewared.sim.network import Network
from middlewared.sim.pools import PoolDisks
from middlewared.sim.timeline import Timeline
from middlewared.sim.voter import Disk

NODES: tuple[Node, Node] = ("A", "B")
Undo = Callable[[], None]


class World(Protocol):
    """What faults do something to."""

    timeline: Timeline
    random: Random
    network: Network
    disks: list[Disk]
    controllers: dict[Node, Controller]
    pool_disks: PoolDisks
    settings: hub.Settings
    forced: bool

    def configure(self, settings: hub.Settings) -> None:
        """The configuration says so from now on."""
        ...


def nothing() -> None:
    pass


def some_node(world: World) -> Node:
    return world.random.choice(NODES)


def cut_paths(world: World, keys: list[tuple[str, Node]]) -> Undo:
    for channel, node in keys:
        world.network.cut(channel, node)

    def undo() -> None:
        for channel, node in keys:
            world.network.cut(channel, node, False)

    return undo


# --- processes ---


def crash_middlewared(world: World) -> Undo:
    world.controllers[some_node(world)].kill_middlewared("killed")
    return nothing


def crash_fenced(world: World) -> Undo:
    world.controllers[some_node(world)].kill_fenced("killed")
    return nothing


def power(world: World) -> Undo:
    controller = world.controllers[some_node(world)]
    controller.power_off()
    return controller.boot


def power_of_both(world: World) -> Undo:
    for node in NODES:
        world.controllers[node].power_off()
    first = some_node(world)

    def undo() -> None:
        world.controllers[first].boot()
        world.timeline.after(world.random.random() * 6, world.controllers[other(first)].boot)

    return undo


def freeze(world: World) -> Undo:
    controller = world.controllers[some_node(world)]
    if not controller.powered:
        return nothing
    controller.freeze(True)
    return lambda: controller.freeze(False)


def slow(world: World) -> Undo:
    controller = world.controllers[some_node(world)]
    controller.slow_down(world.random.choice((0.005, 0.05, 0.3)))
    return lambda: controller.slow_down(0.0)


# --- the network ---


def line_cut(world: World) -> Undo:
    return cut_paths(world, [("line", "A"), ("line", "B")])


def one_way(world: World) -> Undo:
    node = some_node(world)
    channels = world.random.choice((("line",), ("beat",), ("line", "beat", "advert")))
    return cut_paths(world, [(channel, node) for channel in channels])


def line_reset(world: World) -> Undo:
    """The connection breaks, and a new one can be made at once."""
    _break_line(world)
    return nothing


def _break_line(world: World) -> None:
    for end in world.network.ends:
        world.timeline.after(world.random.random() * 0.05, end.hear_end)


def interlink(world: World) -> Undo:
    """The cable is pulled: both see that there is no carrier."""
    undo = cut_paths(world, [(channel, node) for channel in ("line", "beat") for node in NODES])
    set_carrier(world, False)

    def plug() -> None:
        undo()
        set_carrier(world, True)

    return plug


def set_carrier(world: World, carrier: bool) -> None:
    for controller in world.controllers.values():
        if controller.signs is not None:
            controller.signs.carrier = carrier


def partition(world: World) -> Undo:
    return cut_paths(world, [(channel, node) for channel in ("line", "beat", "advert") for node in NODES])


def bad_words(world: World) -> Undo:
    """Words are lost, late, in another order, or come twice."""
    paths = [world.network.path(channel, node) for channel in ("line", "beat", "advert") for node in NODES]
    for path in paths:
        path.loss, path.twice = world.random.random() * 0.4, world.random.random() * 0.3
        path.late, path.late_s = world.random.random() * 0.4, world.random.random() * 0.5

    def undo() -> None:
        for path in paths:
            path.loss = path.twice = path.late = path.late_s = 0.0

    return undo


def bad_clients(world: World) -> Undo:
    """Requests and answers are lost, late, or come twice."""
    paths = [world.network.path("client", node) for node in NODES]
    for path in paths:
        path.loss, path.twice = world.random.random() * 0.3, world.random.random() * 0.2
        path.late, path.late_s = 0.3, world.random.random() * 2

    def undo() -> None:
        for path in paths:
            path.loss = path.twice = path.late = path.late_s = 0.0

    return undo


# --- the shared disks ---


def cables(world: World) -> Undo:
    """Some cables of one controller, or all."""
    count, node = len(world.disks), some_node(world)
    picked = world.random.sample(range(count), world.random.randint(1, count))
    return cut_paths(world, [(f"cable{i}", node) for i in picked])


def bad_cables(world: World) -> Undo:
    """Questions and answers are lost or late: a claim may be granted, and nobody knows."""
    paths = [world.network.path(f"cable{i}", node) for i in range(len(world.disks)) for node in NODES]
    for path in paths:
        path.loss = world.random.random() * 0.3
        path.late, path.late_s = world.random.random() * 0.5, world.random.random() * 0.8

    def undo() -> None:
        for path in paths:
            path.loss = path.late = path.late_s = 0.0

    return undo


def late_records(world: World) -> Undo:
    """Records overtake each other on their way to single disks, or are lost, while the line comes and goes."""
    paths = [world.network.path(f"cable{i}", node) for i in range(len(world.disks)) for node in NODES]
    for path in paths:
        path.loss, path.records_s = world.random.choice((0.0, 0.3)), world.random.random() * 1.5
    for _ in range(world.random.randint(1, 3)):
        world.timeline.after(world.random.random() * 3, _break_line, world)

    def undo() -> None:
        for path in paths:
            path.loss = path.records_s = 0.0

    return undo


def disks(world: World) -> Undo:
    picked = world.random.sample(world.disks, world.random.randint(1, len(world.disks) // 2 + 1))
    for disk in picked:
        disk.dead = True

    def undo() -> None:
        for disk in picked:
            disk.dead = False

    return undo


# --- the controllers' own disks ---


def stalls(world: World) -> Undo:
    platter = world.controllers[some_node(world)].platter
    platter.stalls, platter.stall_s = world.random.choice((0.1, 1.0)), world.random.choice((0.05, 0.5, 10.0))
    return platter.heal


def commit_fails(world: World) -> Undo:
    world.controllers[some_node(world)].platter.broken_in = world.random.randint(1, 10)
    return nothing


def disk_full(world: World) -> Undo:
    platter = world.controllers[some_node(world)].platter
    platter.full = True
    return platter.heal


def state_db_lost(world: World) -> Undo:
    controller = world.controllers[some_node(world)]
    controller.kill_middlewared("killed")
    controller.platter.states.clear()
    return nothing


def wall_clock(world: World) -> Undo:
    clock = world.controllers[some_node(world)].clock
    clock.wall_skew_ns += int((world.random.random() - 0.5) * 2 * 86_400e9)
    return nothing


# --- operators ---


def resign(world: World) -> Undo:
    _resign(world, some_node(world))
    return nothing


def _resign(world: World, node: Node) -> None:
    middlewared = world.controllers[node].middlewared
    if middlewared is not None:
        middlewared.fence.resign()


def hand_over(world: World) -> Undo:
    """The line breaks, and whoever owns gives its term up before the peer looked at the disks again."""
    _break_line(world)
    resigns_in_s = 0.05 + world.random.random() * 0.1
    for node in NODES:
        world.timeline.after(resigns_in_s, _resign, world, node)
    return nothing


def become_passive(world: World) -> Undo:
    """An operator has whoever owns hand over in good order."""
    for node in NODES:
        middlewared = world.controllers[node].middlewared
        if middlewared is not None:
            middlewared.hand_over()
    return nothing


def force(world: World) -> Undo:
    return _force(world, [some_node(world)])


def force_both(world: World) -> Undo:
    return _force(world, list(NODES))


def _force(world: World, nodes: list[Node]) -> Undo:
    world.forced = True
    for node in nodes:
        middlewared = world.controllers[node].middlewared
        if middlewared is not None:
            middlewared.force()
    return nothing


def force_in_vain(world: World) -> Undo:
    """An operator forces a controller whose cables lose words: its claim may get too few of the disks."""
    node = some_node(world)
    paths = [world.network.path(f"cable{i}", node) for i in range(len(world.disks))]
    for path in paths:
        path.loss = 0.4
    _force(world, [node])

    def undo() -> None:
        for path in paths:
            path.loss = 0.0

    return undo


def disabled(world: World) -> Undo:
    world.configure(msgspec.structs.replace(world.settings, disabled=True))
    return lambda: world.configure(msgspec.structs.replace(world.settings, disabled=False))


def default_node(world: World) -> Undo:
    world.configure(msgspec.structs.replace(world.settings, default_node=other(world.settings.default_node)))
    return nothing
