"""What can happen to who is active: the networks of clients, ZFS, carpd, the power of both within a moment.

As faults.py has it: each begins, lasts for a while, and is undone.
"""

from __future__ import annotations

from middlewared.kernel.facts import Node, other
from middlewared.sim.faults import NODES, Undo, World, cut_paths, nothing, set_carrier, some_node

BLINK_S = 0.5
FLAPS_S = (0.3, 1.5)
"""A network stays up, or down, for so long; it counts as lost after `Settings.timeout_s`, which lies between."""


def _lan_of(node: Node) -> list[tuple[str, Node]]:
    """All that goes through the networks of one controller: it advertises to nobody, and hears no adverts."""
    return [("lan", node), ("client", node), ("advert", node), ("advert", other(node))]


def lan_lost(world: World) -> Undo:
    """One controller's networks with virtual IPs have no carrier."""
    return cut_paths(world, _lan_of(some_node(world)))


def lan_lost_at_both(world: World) -> Undo:
    """The switch is off."""
    return cut_paths(world, [path for node in NODES for path in _lan_of(node)])


def flapping_lan(world: World) -> Undo:
    """It comes and goes."""
    paths = _lan_of(some_node(world))
    over = False
    undo: Undo = nothing

    def flap(down: bool) -> None:
        nonlocal undo
        undo()
        undo = cut_paths(world, paths) if down and not over else nothing
        if not over:
            world.timeline.after(world.random.uniform(*FLAPS_S), flap, not down)

    def stop() -> None:
        nonlocal over
        over = True
        undo()

    flap(True)
    return stop


def all_networks(world: World) -> Undo:
    """Interlink and networks are gone at once, with their carriers: each sees what the other's death would show."""
    undo = cut_paths(world, [path for node in NODES for path in [("line", node), ("beat", node), *_lan_of(node)]])
    set_carrier(world, False)

    def plug() -> None:
        undo()
        set_carrier(world, True)

    return plug


def cut_off(world: World) -> Undo:
    """One controller goes on, and reaches nothing any more: no network, no interlink, no shared disk."""
    node = some_node(world)
    cables = [(f"cable{number}", node) for number in range(len(world.disks))]
    interlink = [(channel, end) for channel in ("line", "beat") for end in NODES]
    undo = cut_paths(world, [*interlink, *cables, *_lan_of(node)])
    set_carrier(world, False)

    def plug() -> None:
        undo()
        set_carrier(world, True)

    return plug


def crash_carpd(world: World) -> Undo:
    world.controllers[some_node(world)].kill_carpd()
    return nothing


def pool_ports(world: World) -> Undo:
    """One controller cannot import or export, although it reaches what votes."""
    node = some_node(world)
    world.pool_disks.cut.add(node)
    return lambda: world.pool_disks.cut.discard(node)


def zfs_hangs(world: World) -> Undo:
    """No import and no export comes to an end."""
    zfs = world.controllers[some_node(world)].zfs
    zfs.hangs = True

    def undo() -> None:
        zfs.hangs = False

    return undo


def blink(world: World) -> Undo:
    """The power of both is gone and back within a moment of each other."""
    for node in NODES:
        off_s, on_s = (world.random.random() * BLINK_S for _ in range(2))
        world.timeline.after(off_s, world.controllers[node].power_off)
        world.timeline.after(off_s + on_s, world.controllers[node].boot)
    return nothing
