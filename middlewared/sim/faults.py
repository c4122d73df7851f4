"""What can happen to a pair, each kind for itself.

A fault begins, lasts for a random while, and is undone; what heals by itself (a process that init starts again) has
nothing to undo. Each seed enables some kinds, each with a pace of its own, and leaves the others out: two faults that
rarely meet in a world where everything happens at once meet often in one where only they happen (swarm testing: Groce
et al., ISSTA 2012).
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple, Protocol

import msgspec

from middlewared.kernel.facts import Node, other
from middlewared.protocol import hub
from middlewared.sim.controller import Controller
from middlewared.sim.network import Network
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
    settings: hub.Settings
    forced: bool

    def configure(self, settings: hub.Settings) -> None:
        """The configuration says so from now on."""
        ...


def _nothing() -> None:
    pass


def _node(world: World) -> Node:
    return world.random.choice(NODES)


def _paths(world: World, keys: list[tuple[str, Node]]) -> Undo:
    for channel, node in keys:
        world.network.cut(channel, node)

    def undo() -> None:
        for channel, node in keys:
            world.network.cut(channel, node, False)

    return undo


# --- processes ---


def crash_middlewared(world: World) -> Undo:
    world.controllers[_node(world)].kill_middlewared("killed")
    return _nothing


def crash_fenced(world: World) -> Undo:
    world.controllers[_node(world)].kill_fenced("killed")
    return _nothing


def power(world: World) -> Undo:
    controller = world.controllers[_node(world)]
    controller.power_off()
    return controller.boot


def power_of_both(world: World) -> Undo:
    for node in NODES:
        world.controllers[node].power_off()
    first = _node(world)

    def undo() -> None:
        world.controllers[first].boot()
        world.timeline.after(world.random.random() * 6, world.controllers[other(first)].boot)

    return undo


def freeze(world: World) -> Undo:
    controller = world.controllers[_node(world)]
    if not controller.powered:
        return _nothing
    controller.freeze(True)
    return lambda: controller.freeze(False)


def slow(world: World) -> Undo:
    controller = world.controllers[_node(world)]
    controller.slow_down(world.random.choice((0.005, 0.05, 0.3)))
    return lambda: controller.slow_down(0.0)


# --- the network ---


def line_cut(world: World) -> Undo:
    return _paths(world, [("line", "A"), ("line", "B")])


def one_way(world: World) -> Undo:
    node = _node(world)
    channels = world.random.choice((("line",), ("beat",), ("line", "beat", "advert")))
    return _paths(world, [(channel, node) for channel in channels])


def line_reset(world: World) -> Undo:
    """The connection breaks, and a new one can be made at once."""
    _break_line(world)
    return _nothing


def _break_line(world: World) -> None:
    for end in world.network.ends:
        world.timeline.after(world.random.random() * 0.05, end.hear_end)


def interlink(world: World) -> Undo:
    """The cable is pulled: both see that there is no carrier."""
    undo = _paths(world, [(channel, node) for channel in ("line", "beat") for node in NODES])
    _carry(world, False)

    def plug() -> None:
        undo()
        _carry(world, True)

    return plug


def _carry(world: World, carrier: bool) -> None:
    for controller in world.controllers.values():
        if controller.signs is not None:
            controller.signs.carrier = carrier


def partition(world: World) -> Undo:
    return _paths(world, [(channel, node) for channel in ("line", "beat", "advert") for node in NODES])


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
    count, node = len(world.disks), _node(world)
    picked = world.random.sample(range(count), world.random.randint(1, count))
    return _paths(world, [(f"cable{i}", node) for i in picked])


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
    platter = world.controllers[_node(world)].platter
    platter.stalls, platter.stall_s = world.random.choice((0.1, 1.0)), world.random.choice((0.05, 0.5, 10.0))
    return platter.heal


def commit_fails(world: World) -> Undo:
    world.controllers[_node(world)].platter.broken_in = world.random.randint(1, 10)
    return _nothing


def disk_full(world: World) -> Undo:
    platter = world.controllers[_node(world)].platter
    platter.full = True
    return platter.heal


def state_db_lost(world: World) -> Undo:
    controller = world.controllers[_node(world)]
    controller.kill_middlewared("killed")
    controller.platter.states.clear()
    return _nothing


def wall_clock(world: World) -> Undo:
    clock = world.controllers[_node(world)].clock
    clock.wall_skew_ns += int((world.random.random() - 0.5) * 2 * 86_400e9)
    return _nothing


# --- operators ---


def resign(world: World) -> Undo:
    _resign(world, _node(world))
    return _nothing


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
    return _nothing


def force(world: World) -> Undo:
    return _force(world, [_node(world)])


def force_both(world: World) -> Undo:
    return _force(world, list(NODES))


def _force(world: World, nodes: list[Node]) -> Undo:
    world.forced = True
    for node in nodes:
        middlewared = world.controllers[node].middlewared
        if middlewared is not None:
            middlewared.force()
    return _nothing


def force_in_vain(world: World) -> Undo:
    """An operator forces a controller whose cables lose words: its claim may get too few of the disks."""
    node = _node(world)
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
    return _nothing


class Kind(NamedTuple):
    """usual: in how many seeds of ten it is enabled. lasts_s: at most."""

    strike: Callable[[World], Undo]
    usual: float
    lasts_s: float


KINDS: tuple[Kind, ...] = (
    Kind(crash_middlewared, 4, 0.0),
    Kind(crash_fenced, 2, 0.0),
    Kind(power, 4, 4.0),
    Kind(power_of_both, 2, 4.0),
    Kind(freeze, 3, 5.0),
    Kind(slow, 2, 3.0),
    Kind(line_cut, 3, 4.0),
    Kind(one_way, 3, 4.0),
    Kind(line_reset, 4, 0.0),
    Kind(interlink, 2, 4.0),
    Kind(partition, 3, 5.0),
    Kind(bad_words, 3, 5.0),
    Kind(bad_clients, 3, 5.0),
    Kind(cables, 3, 4.0),
    Kind(bad_cables, 3, 4.0),
    Kind(disks, 2, 4.0),
    Kind(stalls, 3, 4.0),
    Kind(commit_fails, 2, 0.0),
    Kind(disk_full, 1, 2.0),
    Kind(state_db_lost, 1, 0.0),
    Kind(wall_clock, 2, 0.0),
    Kind(resign, 2, 0.0),
    Kind(force, 1, 0.0),
    Kind(force_both, 0.5, 0.0),
    Kind(disabled, 1, 3.0),
    Kind(default_node, 1, 0.0),
)

RARE: tuple[Kind, ...] = (
    Kind(late_records, 1, 4.0),
    Kind(hand_over, 1, 0.0),
    Kind(force_in_vain, 1, 2.0),
)
"""Whether a seed has one of these is drawn from a number of its own: the worlds without them stay what they were."""
RARE_EVERY_S = 1.0


class Swarm:
    """The kinds that this world has, and what of them is under way. rare: draws those of RARE."""

    def __init__(self, world: World, rare: Random) -> None:
        self._world = world
        self._over = False
        self._under_way: list[Undo] = []
        random = world.random
        self._kinds = [(kind, random.choice((0.5, 2.0, 6.0))) for kind in KINDS if random.random() * 10 < kind.usual]
        self._kinds += [(kind, RARE_EVERY_S) for kind in RARE if rare.random() * 10 < kind.usual]
        self.counts: dict[str, int] = {}

    def start(self) -> None:
        for kind, every_s in self._kinds:
            self._wait(kind, every_s)

    def stop(self) -> None:
        """Undo all; nothing happens any more."""
        self._over = True
        under_way, self._under_way = self._under_way, []
        for undo in under_way:
            undo()

    def _wait(self, kind: Kind, every_s: float) -> None:
        self._world.timeline.after(self._world.random.expovariate(1 / every_s), self._strike, kind, every_s)

    def _strike(self, kind: Kind, every_s: float) -> None:
        if self._over:
            return
        name = kind.strike.__name__
        self.counts[name] = self.counts.get(name, 0) + 1
        undo = kind.strike(self._world)
        lasts_s = self._world.random.random() * kind.lasts_s
        if kind.lasts_s:
            self._under_way.append(undo)
            self._world.timeline.after(lasts_s, self._undo, undo)
        self._world.timeline.after(lasts_s, self._wait, kind, every_s)

    def _undo(self, undo: Undo) -> None:
        if undo in self._under_way:
            self._under_way.remove(undo)
            undo()
